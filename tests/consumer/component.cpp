// One component of the library, USES_<name>, as somebody else's program uses it: that it compiles
// and links is enough.
#if defined(USES_asio) || defined(USES_boost_asio)
#include <sse/asio.hpp>
#elif defined(USES_epoll)
#include <sse/epoll.hpp>
#elif defined(USES_fmt)
#include <sse/fmt.hpp>
#elif defined(USES_io_uring)
#include <sse/io_uring.hpp>
#elif defined(USES_jetstream)
#include <sse/jetstream.hpp>
#elif defined(USES_journal)
#include <sse/journal.hpp>
#elif defined(USES_openssl)
#include <sse/openssl.hpp>
#elif defined(USES_core)
#include <sse/sse.hpp>
#else
#error "this component has no program in tests/consumer/component.cpp"
#endif

int main() {
#if defined(USES_asio)
  asio::io_context ctx;
  sse::asio_server<> server{ctx};
#elif defined(USES_boost_asio)
  boost::asio::io_context ctx;
  sse::asio_server<> server{ctx};
#elif defined(USES_epoll)
  sse::epoll_server<> server;
#elif defined(USES_fmt)
  sse::mailbox box;
  sse::publisher p = box.make_publisher(1, 1024);
  return sse::try_format<64>(p, "{}", 1) ? 0 : 1;
#elif defined(USES_io_uring)
  sse::uring_server<> server;
#elif defined(USES_jetstream)
  sse::jetstream cluster;
#elif defined(USES_journal)
  sse::journal history;
#elif defined(USES_openssl)
  const sse::tls::context tls{{}};
#else
  const sse::hub_options options;
#endif
  return 0;
}
