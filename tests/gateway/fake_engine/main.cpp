// An engine for tests: fake_engine RECEIVED SCRIPT. Appends each line that it is sent to the file
// RECEIVED and plays the file SCRIPT, one step per line:
//
//   say TEXT    prints the line TEXT
//   part TEXT   prints TEXT without a line end
//   bytes HEX   prints bytes, such as 0d0aff
//   wait        waits for the next line on stdin
//   sleep N     waits N milliseconds
//   exit N      ends at once with that code
//
// After the script it goes on receiving until its stdin ends, then exits with 0. An unknown step
// exits with 64.
#include <chrono>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>

namespace {

bool receive(std::ofstream& received) {
  std::string line;
  if (!std::getline(std::cin, line)) return false;
  received << line << std::endl;
  return true;
}

void print_bytes(const std::string& hex) {
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    std::cout << static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: fake_engine RECEIVED SCRIPT\n";
    return 64;
  }
  std::ofstream received{argv[1], std::ios::app};
  std::ifstream script{argv[2]};
  std::string step;
  while (std::getline(script, step)) {
    const std::size_t space = step.find(' ');
    const std::string verb = step.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : step.substr(space + 1);
    if (verb == "say") {
      std::cout << rest << '\n';
    } else if (verb == "part") {
      std::cout << rest;
    } else if (verb == "bytes") {
      print_bytes(rest);
    } else if (verb == "wait") {
      std::cout << std::flush;
      if (!receive(received)) return 0;
    } else if (verb == "sleep") {
      std::cout << std::flush;
      std::this_thread::sleep_for(std::chrono::milliseconds{std::stoi(rest)});
    } else if (verb == "exit") {
      return std::stoi(rest);
    } else if (!verb.empty()) {
      return 64;
    }
  }
  std::cout << std::flush;
  while (receive(received)) {
  }
}
