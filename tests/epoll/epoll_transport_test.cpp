// epoll_transport alone: in a loop that the test runs itself.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <sse/detail/net/epoll_listen.hpp>
#include <sse/epoll_transport.hpp>
#include <sse/hub.hpp>
#include <sse/testing.hpp>

#include "catch.hpp"
#include "http_client.hpp"
#include "socket_calls.hpp"
#include "without_position.hpp"

namespace {

using sse::epoll_transport;

/// Both ends of a connection; the far one is non-blocking.
struct wire {
  wire() {
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) throw std::runtime_error("socketpair");
    far.emplace(ends[1]);
  }
  [[nodiscard]] std::string read() {
    std::string got;
    std::array<char, 65536> bytes;
    for (;;) {
      const ssize_t n = ::recv(far->get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      ended = n == 0;
      if (n <= 0) return got;
      got.append(bytes.data(), static_cast<std::size_t>(n));
    }
  }
  int ends[2] = {-1, -1};
  std::optional<sse::detail::unique_fd> far{};
  bool ended = false;
};

/// A hub in a loop of its own.
struct bare_loop {
  sse::detail::unique_fd epoll{::epoll_create1(0)};
  epoll_transport net{epoll.get()};
  sse::hub<epoll_transport> hub{net, test::without_position()};
  sse::channel c = hub.open_channel("c", {.max_lag = 0});
  int foreign = 0;

  sse::session_id join(const wire& w) {
    return hub.accept(epoll_transport::connection{w.ends[0]}, {}, sse::admit().join(c)).id;
  }
  void turn(int wait_ms = 0) {
    std::array<epoll_event, 16> events;
    const int n = ::epoll_wait(epoll.get(), events.data(), 16, wait_ms);
    for (int i = 0; i < n; ++i) {
      foreign += net.on_event(hub, events[static_cast<std::size_t>(i)]) ? 0 : 1;
    }
    hub.flush();
  }
};

}  // namespace

TEST_CASE("check_transport finds nothing wrong") {
  bare_loop l;
  wire w;
  epoll_transport::connection c{w.ends[0]};
  const auto report = sse::testing::check_transport(l.net, c, [&] { return w.read(); });
  INFO(report.problem);
  CHECK(report);
}

TEST_CASE("a hub in a loop of somebody else: order, a reader that waits, and others beside it") {
  bare_loop l;
  wire slow;
  wire quick;
  REQUIRE(l.join(slow));
  REQUIRE(l.join(quick));
  std::string expected;
  std::string got;
  std::uint64_t writes = 0;
  for (int i = 1; i <= 300; ++i) {
    const std::string data(5000, static_cast<char>('a' + i % 26));
    REQUIRE(l.c.publish({.data = data}));
    expected += "id: " + std::to_string(i) + "\ndata: " + data + "\n\n";
    l.turn();
    got += quick.read();
    if (i == 200) writes = l.hub.stats().writes;
  }
  CHECK((got == expected));
  CHECK(l.hub.worst_lag(l.c) > 0);
  CHECK(l.hub.stats().writes == writes + 100);  // the one that waits is left alone
  got.clear();
  for (int i = 0; i < 1000 && got.size() < expected.size(); ++i) {
    got += slow.read();
    l.turn(100);
  }
  CHECK((got == expected));
  CHECK(l.foreign == 0);
}

TEST_CASE("a descriptor of the loop's own is told apart") {
  bare_loop l;
  wire own;
  epoll_event e{};
  e.events = EPOLLIN;
  e.data.ptr = &own;
  REQUIRE(::epoll_ctl(l.epoll.get(), EPOLL_CTL_ADD, own.ends[0], &e) == 0);
  REQUIRE(::send(own.far->get(), "x", 1, 0) == 1);
  l.turn(1000);
  CHECK(l.foreign == 1);
  ::close(own.ends[0]);
}

TEST_CASE("the peer's end is noticed without a write, and its chatter has limits") {
  bare_loop l;
  wire half;
  wire whole;
  wire talks;
  wire shouts;
  for (const wire* w : {&half, &whole, &talks, &shouts}) REQUIRE(l.join(*w));
  ::shutdown(half.far->get(), SHUT_WR);
  whole.far.reset();
  REQUIRE(::send(talks.far->get(), "hello", 5, 0) == 5);
  const std::string much(epoll_transport::max_input + 1, 'x');
  std::size_t sent = 0;
  while (sent < much.size()) {
    const ssize_t n = ::send(shouts.far->get(), much.data() + sent, much.size() - sent,
                             MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EPIPE) break;
    if (n > 0) sent += static_cast<std::size_t>(n);
    l.turn();
  }
  l.turn();
  CHECK(l.hub.sessions() == 1);
  REQUIRE(l.c.publish({.data = "x"}));
  l.turn();
  CHECK(talks.read() == "id: 1\ndata: x\n\n");
}

TEST_CASE("closing: after all that was written, or at once for one that takes nothing") {
  bare_loop l;
  wire w;
  const sse::session_id id = l.join(w);
  REQUIRE(l.c.publish({.data = "x"}));
  l.turn();
  REQUIRE(::send(w.far->get(), "unread", 6, 0) == 6);
  l.hub.close(id);
  CHECK(w.read() == "id: 1\ndata: x\n\n");
  CHECK(w.ended);
  l.turn();
  CHECK_FALSE(l.hub.alive(id));
}

TEST_CASE("an event of a stream that ended in the same turn hurts nobody") {
  bare_loop l;
  wire a;
  const sse::session_id old = l.join(a);
  epoll_event e{};
  e.events = EPOLLIN | EPOLLRDHUP;
  REQUIRE(::send(a.far->get(), "x", 1, 0) == 1);
  REQUIRE(::epoll_wait(l.epoll.get(), &e, 1, 1000) == 1);
  l.hub.close(old);
  wire b;
  const sse::session_id next = l.join(b);
  REQUIRE(next.slot == old.slot);
  for (const std::uint32_t events : {EPOLLHUP, EPOLLIN, EPOLLOUT}) {
    e.events = events;
    CHECK(l.net.on_event(l.hub, e));
    CHECK(l.hub.alive(next));
  }
}

TEST_CASE("room alone wakes a stream that waits for it, a peer's bytes do not") {
  bare_loop l;
  wire slow;
  const sse::session_id id = l.join(slow);
  while (l.hub.worst_lag(l.c) == 0) {
    REQUIRE(l.c.publish({.data = std::string(50'000, 'x')}));
    l.turn();
  }
  const std::uint64_t writes = l.hub.stats().writes;
  REQUIRE(::send(slow.far->get(), "x", 1, 0) == 1);
  std::array<epoll_event, 4> events;
  REQUIRE(::epoll_wait(l.epoll.get(), events.data(), 4, 1000) == 1);
  events[0].events = EPOLLIN;
  CHECK(l.net.on_event(l.hub, events[0]));
  l.hub.flush();
  CHECK(l.hub.stats().writes == writes);
  events[0].events = EPOLLOUT;
  CHECK(l.net.on_event(l.hub, events[0]));
  l.hub.flush();
  CHECK(l.hub.stats().writes == writes + 1);
  CHECK(l.hub.alive(id));
}

TEST_CASE("a descriptor that the loop watches already becomes a stream, and may be let go") {
  bare_loop l;
  wire w;
  epoll_event e{};
  e.events = EPOLLIN;
  e.data.fd = w.ends[0];
  REQUIRE(::epoll_ctl(l.epoll.get(), EPOLL_CTL_ADD, w.ends[0], &e) == 0);
  REQUIRE(l.join(w));
  REQUIRE(l.c.publish({.data = "x"}));
  l.turn();
  CHECK(w.read() == "id: 1\ndata: x\n\n");
  w.far.reset();
  l.turn(1000);
  CHECK(l.foreign == 0);
  CHECK(l.hub.sessions() == 0);

  wire v;
  epoll_transport::connection c{v.ends[0]};
  const auto asks = [&](std::uint32_t events) {
    const long before = test::socket_calls();
    CHECK(c.watch(l.epoll.get(), events, 77));
    return test::socket_calls() - before;
  };
  const auto told = [&] {
    epoll_event got{};
    return ::epoll_wait(l.epoll.get(), &got, 1, 0) == 1 ? got.data.u64 : 0;
  };
  const bool counted = test::socket_calls_can_fail();
  CHECK((asks(EPOLLIN) == 1 || !counted));
  CHECK(told() == 0);
  CHECK((asks(EPOLLOUT) == 1 || !counted));
  CHECK(told() == 77);
  c.unwatch(l.epoll.get());
  CHECK(told() == 0);
  CHECK(::epoll_ctl(l.epoll.get(), EPOLL_CTL_DEL, c.fd(), nullptr) == -1);
  c.unwatch(l.epoll.get());
  CHECK((asks(EPOLLOUT) == 1 || !counted));
  CHECK(told() == 77);
  // Somebody else ended that.
  REQUIRE(::epoll_ctl(l.epoll.get(), EPOLL_CTL_DEL, c.fd(), nullptr) == 0);
  CHECK((asks(EPOLLOUT) == 2 || !counted));
  CHECK(told() == 77);
  // What cannot be watched is none.
  const long before = test::socket_calls();
  CHECK_FALSE(c.watch(-1, EPOLLIN, 77));
  CHECK((test::socket_calls() - before == 1 || !counted));
  epoll_transport::connection none;
  CHECK_FALSE(none);
  CHECK_FALSE(none.watch(l.epoll.get(), EPOLLIN, 77));
}

TEST_CASE("an owned descriptor is closed once, whichever number it has") {
  using sse::detail::unique_fd;
  unique_fd zero{0};
  CHECK(zero);
  CHECK(zero.release() == 0);
  CHECK_FALSE(zero);
  CHECK_FALSE(unique_fd{});
  const auto is_open = [](int fd) { return ::fcntl(fd, F_GETFD) != -1; };
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  {
    unique_fd a{ends[0]};
    unique_fd b{std::move(a)};
    CHECK_FALSE(a);
    unique_fd& same = b;
    b = std::move(same);
    CHECK(b.get() == ends[0]);
    CHECK(is_open(ends[0]));
    a = unique_fd{ends[1]};
    a = std::move(b);
    CHECK_FALSE(is_open(ends[1]));
    CHECK(is_open(ends[0]));
  }
  CHECK_FALSE(is_open(ends[0]));
}

TEST_CASE("a descriptor without a peer has no address, and none without a name no port") {
  const sse::detail::unique_fd alone{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  REQUIRE(alone);
  CHECK(sse::detail::peer_address(alone.get()).empty());
  CHECK(sse::detail::peer_address(-1).empty());
  CHECK(sse::detail::port_of(alone.get()) == 0);
  CHECK(sse::detail::port_of(-1) == 0);
}
