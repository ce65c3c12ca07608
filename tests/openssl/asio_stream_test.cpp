// tls::basic_asio_stream alone, over a pair of local sockets.
#ifdef SSEHUB_TEST_ASIO
#include <string>
#include <string_view>

#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <sse/asio_openssl.hpp>

#include "catch.hpp"
#include "openssl/certificate.hpp"
#include "openssl/wire.hpp"

TEST_CASE("TLS: a stream takes as many records at once as its socket has room for") {
  using socket = asio::local::stream_protocol::socket;
  asio::io_context context{1};
  test::tls_wire w;
  sse::tls::basic_asio_stream<socket> near{
      socket{context, asio::local::stream_protocol{}, w.ends[0]}, &test::tls_of_tests().context};
  bool shaken = false;
  near.async_handshake(near.server, [&](const asio::error_code& e) { shaken = !e; });
  for (int i = 0; i < 10 && (!shaken || SSL_is_init_finished(w.far.get()) == 0); ++i) {
    (void)SSL_do_handshake(w.far.get());
    context.restart();
    context.poll();
  }
  REQUIRE(shaken);
  const std::string data(40'000, 'd');
  asio::error_code e;
  CHECK(near.write_some(asio::buffer(data), e) == data.size());
  CHECK_FALSE(e);
  CHECK((w.read() == data));
  const std::string much(4'000'000, 'm');
  const std::size_t took = near.write_some(asio::buffer(much), e);
  CHECK(took < much.size());
  CHECK(e == asio::error::would_block);
}
#endif
