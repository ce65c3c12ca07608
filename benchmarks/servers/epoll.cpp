// Ours on epoll: sse::epoll_server as a program would use it.
#include <sse/epoll.hpp>

#include "polled.hpp"

int main(int argc, char** argv) {
  bench::polled<sse::epoll_server<>>{bench::read_options(argc, argv)}.run();
}
