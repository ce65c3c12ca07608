// epoll_transport alone: in a loop that the test runs itself.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include <sse/epoll_transport.hpp>
#include <sse/hub.hpp>
#include <sse/testing.hpp>

#include "catch.hpp"
#include "http_client.hpp"
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
  e.events = EPOLLHUP;
  CHECK(l.net.on_event(l.hub, e));
  CHECK(l.hub.alive(next));
}
