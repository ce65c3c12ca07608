// Ours on io_uring: sse::uring_server as a program would use it.
#include <sse/io_uring.hpp>

#include "polled.hpp"

int main(int argc, char** argv) {
  bench::polled<sse::uring_server<>>{bench::read_options(argc, argv)}.run();
}
