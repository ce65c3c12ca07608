// Which records of TLS go through the ring of io_uring's transport, and which by calls of their
// own: what each costs, and that nothing is out of order where they meet.
#ifdef SSEHUB_TEST_IO_URING
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include <sse/io_uring_transport.hpp>

#include "catch.hpp"
#include "io_uring/refused.hpp"
#include "openssl/certificate.hpp"
#include "openssl/wire.hpp"
#include "socket_calls.hpp"
#include "without_position.hpp"

namespace {

using records_transport = sse::tls::uring_transport;

/// A hub with TLS in a loop of the test's own.
struct records_loop {
  sse::detail::unique_fd epoll{::epoll_create1(0)};
  records_transport net{epoll.get(), &test::tls_of_tests().context};
  std::optional<sse::hub<records_transport>> hub{std::in_place, net, test::without_position()};
  sse::channel c = hub->open_channel("c", {.max_lag = 0});
  std::deque<test::tls_wire> far{};
  std::string expected{};
  int events = 0;

  records_loop() = default;
  records_loop(const records_loop&) = delete;
  records_loop& operator=(const records_loop&) = delete;
  ~records_loop() {
    hub->close_all();
    net.settle(*hub);
  }
  sse::session_id join() {
    test::tls_wire& w = far.emplace_back();
    ::fcntl(w.ends[0], F_SETFL, 0);  // as the hosts' are: a write waits in the kernel
    auto connection = net.adopt(w.ends[0]);
    REQUIRE(w.shake_hands(connection.layer()) == sse::tls::step::done);
    return hub->accept(std::move(connection), {}, sse::admit().join(c)).id;
  }
  void publish(std::size_t size) {
    const std::string data(size, static_cast<char>('a' + events % 26));
    REQUIRE(c.publish({.data = data}));
    expected += "id: " + std::to_string(++events) + "\ndata: " + data + "\n\n";
  }
  void turn() {
    const test::watched_calls now;
    std::array<epoll_event, 64> some;
    const int n = ::epoll_wait(epoll.get(), some.data(), 64, 0);
    for (int i = 0; i < n; ++i) CHECK(net.on_event(*hub, some[static_cast<std::size_t>(i)]));
    hub->flush();
    while (net.reap(*hub)) hub->flush();
  }
  /// Until the socket of the one reader takes no more.
  void fill(std::size_t size) {
    std::uint64_t before = 0;
    do {
      before = hub->stats().bytes;
      publish(size);
      turn();
    } while (hub->stats().bytes != before);
  }
  /// What the one reader gets until nothing more comes.
  std::string drain() {
    std::string got;
    for (std::string more = far[0].read(); !more.empty(); more = far[0].read()) {
      got += more;
      turn();
    }
    return got;
  }
};

}  // namespace

TEST_CASE("TLS on io_uring: small records of a flush are one call, a large one is one of its own",
          "[cost]") {
  if (test::refused()) return;
  records_loop l;
  constexpr int n = 20;
  for (int i = 0; i < n; ++i) REQUIRE(l.join());
  l.turn();
  const auto flush_of = [&](std::size_t size, int ring_calls, long sends) {
    CAPTURE(size);
    const std::uint64_t calls = l.net.calls();
    const long sent = test::socket_calls_made(test::socket_call::send);
    l.publish(size);
    l.turn();
    CHECK(l.net.calls() - calls == static_cast<std::uint64_t>(ring_calls));
    if (test::socket_calls_can_fail()) {
      CHECK(test::socket_calls_made(test::socket_call::send) - sent == sends);
    }
    CHECK(l.net.in_flight() == 0);
  };
  for (int round = 0; round < 3; ++round) {
    flush_of(100, 1, 0);
    flush_of(sse::tls::uring_transport::max_joined, 0, n);
    flush_of(16'000, 0, n);
  }
  for (test::tls_wire& w : l.far) CHECK(w.read() == l.expected);
}

TEST_CASE("TLS on io_uring: what a full socket took a part of comes whole and in order") {
  if (test::refused()) return;
  const std::size_t first = GENERATE(std::size_t{100}, std::size_t{12'000});
  const std::size_t then = GENERATE(std::size_t{100}, std::size_t{12'000});
  CAPTURE(first, then);
  records_loop l;
  REQUIRE(l.join());
  l.fill(first);
  // A small record waits in the kernel, a large one for the loop to say that there is room.
  CHECK(l.net.in_flight() == (first == 100 ? 1U : 0U));
  for (int i = 0; i < 3; ++i) l.publish(then);
  l.turn();
  CHECK(l.drain() == l.expected);
  const std::size_t so_far = l.expected.size();
  l.publish(then);
  l.publish(first);
  l.turn();
  CHECK(l.drain() == l.expected.substr(so_far));
  CHECK(l.net.in_flight() == 0);
}

TEST_CASE("TLS on io_uring: a key update while a record is half sent breaks nothing") {
  if (test::refused()) return;
  const std::size_t size = GENERATE(std::size_t{100}, std::size_t{12'000});
  CAPTURE(size);
  records_loop l;
  REQUIRE(l.join());
  l.fill(size);
  SSL* const far = l.far[0].far.get();
  REQUIRE(SSL_key_update(far, SSL_KEY_UPDATE_REQUESTED) == 1);
  REQUIRE(SSL_do_handshake(far) == 1);
  l.turn();
  CHECK(l.drain() == l.expected);
  const std::size_t so_far = l.expected.size();
  l.publish(size);
  l.turn();
  CHECK(l.drain() == l.expected.substr(so_far));
}

TEST_CASE("TLS on io_uring: a session that takes nothing any more ends its stream") {
  if (test::refused()) return;
  records_loop l;
  const sse::session_id id = l.join();
  l.turn();
  CHECK(l.hub->find(id)->layer().shutdown() == sse::tls::step::done);
  l.publish(100);
  l.turn();
  CHECK(l.hub->sessions() == 0);
}
#endif
