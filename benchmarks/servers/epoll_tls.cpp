// Ours on epoll with TLS: sse::epoll_server as a program would use it.
#include <sse/epoll.hpp>

#include "polled.hpp"
#include "tls.hpp"

int main(int argc, char** argv) {
  const bench::options o = bench::read_options(argc, argv);
  bench::polled<sse::epoll_server<sse::no_user, sse::tls::epoll_transport>>{o, bench::tls_of(o)}
      .run();
}
