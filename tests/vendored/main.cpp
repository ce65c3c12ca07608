// Two libraries in one program; see library.cpp.
#include <iostream>
#include <string>

namespace one {
std::string run();
}
namespace other {
std::string run();
}

int main() { std::cout << one::run() << other::run() << one::run(); }
