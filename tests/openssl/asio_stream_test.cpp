// tls::basic_asio_stream alone, over a pair of local sockets.
#ifdef SSEHUB_TEST_ASIO
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>
#include <sse/asio_openssl.hpp>

#include "catch.hpp"
#include "openssl/certificate.hpp"
#include "openssl/wire.hpp"

namespace {

using local_socket = asio::local::stream_protocol::socket;

void shake_hands(asio::io_context& context, sse::tls::basic_asio_stream<local_socket>& near,
                 test::tls_wire& w) {
  bool shaken = false;
  near.async_handshake(near.server, [&](const asio::error_code& e) { shaken = !e; });
  for (int i = 0; i < 10 && (!shaken || SSL_is_init_finished(w.far.get()) == 0); ++i) {
    (void)SSL_do_handshake(w.far.get());
    context.restart();
    context.poll();
  }
  REQUIRE(shaken);
}

sse::tls::basic_asio_stream<local_socket> stream_of(asio::io_context& context, test::tls_wire& w) {
  return sse::tls::basic_asio_stream<local_socket>{
      local_socket{context, asio::local::stream_protocol{}, w.ends[0]},
      &test::tls_of_tests().context};
}

}  // namespace

TEST_CASE("TLS: a stream takes as many records at once as its socket has room for") {
  asio::io_context context{1};
  test::tls_wire w;
  auto near = stream_of(context, w);
  shake_hands(context, near, w);
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

TEST_CASE("TLS: what composed operations of Asio write and read is any sequence of buffers") {
  asio::io_context context{1};
  test::tls_wire w;
  auto near = stream_of(context, w);
  shake_hands(context, near, w);
  std::size_t moved = 0;
  const auto count = [&moved](const asio::error_code& e, std::size_t n) { moved = e ? 0 : n; };

  const std::array<asio::const_buffer, 3> out{asio::buffer("", 0), asio::buffer("ab", 2),
                                              asio::buffer("cde", 3)};
  asio::async_write(near, out, count);
  context.restart();
  context.poll();
  CHECK(moved == 5);
  CHECK(w.read() == "abcde");

  std::array<char, 2> head{};
  std::array<char, 3> rest{};
  const std::array<asio::mutable_buffer, 2> in{asio::buffer(head), asio::buffer(rest)};
  asio::async_read(near, in, count);
  REQUIRE(SSL_write(w.far.get(), "vwxyz", 5) == 5);
  context.restart();
  context.poll();
  CHECK(moved == 5);
  CHECK(std::string(head.data(), 2) + std::string(rest.data(), 3) == "vwxyz");
}

TEST_CASE("TLS: a composed write of more than there is room for is complete, each byte once") {
  asio::io_context context{1};
  test::tls_wire w;
  auto near = stream_of(context, w);
  shake_hands(context, near, w);
  std::string much;
  while (much.size() < 4'000'000) much += std::to_string(much.size()) + ' ';
  std::size_t moved = 0;
  bool failed = false;
  asio::async_write(near, asio::buffer(much), [&](const asio::error_code& e, std::size_t n) {
    failed = static_cast<bool>(e);
    moved = n;
  });
  std::string got;
  for (std::size_t before = 1; before != got.size() || moved == 0;) {
    before = got.size();
    context.restart();
    context.poll();
    got += w.read();
    if (moved == 0) REQUIRE(before != got.size());
  }
  CHECK_FALSE(failed);
  CHECK(moved == much.size());
  CHECK((got == much));
}
#endif
