// Ours on io_uring with TLS: sse::uring_server as a program would use it.
#include <sse/io_uring.hpp>

#include "polled.hpp"
#include "tls.hpp"

int main(int argc, char** argv) {
  const bench::options o = bench::read_options(argc, argv);
  bench::polled<sse::uring_server<sse::no_user, sse::tls::uring_transport>>{o, bench::tls_of(o)}
      .run();
}
