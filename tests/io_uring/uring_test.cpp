// uring_transport and uring_server. Where the kernel refuses io_uring, each test says so and
// passes; with CI=true it fails.
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <sse/io_uring.hpp>

#include "catch.hpp"
#include "environment.hpp"
#include "failing_socket_calls.hpp"
#include "host_position.hpp"
#include "host_publishing.hpp"
#include "io_uring/refused.hpp"
#include "loop_server.hpp"

using std::chrono::milliseconds;
using test::client;
using server = test::loop_server<sse::uring_server<>>;

namespace {

sse::channel ticks_of(server& s) {
  sse::channel c = s.open("ticks", {.max_lag = 0});
  s.on_loop([&] { s->stream("/events", c); });
  return c;
}

/// A hub in a loop of the test's own.
struct bare_loop {
  sse::detail::unique_fd epoll{::epoll_create1(0)};
  sse::uring_transport net{epoll.get()};
  std::optional<sse::hub<sse::uring_transport>> hub{std::in_place, net, test::without_position()};
  sse::channel c = hub->open_channel("c", {.max_lag = 0});
  std::deque<sse::detail::unique_fd> far{};

  ~bare_loop() { end(); }
  void end() {
    if (!hub) return;
    hub->close_all();
    net.settle(*hub);
    hub.reset();
  }
  sse::session_id join() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) throw std::runtime_error("socketpair");
    far.emplace_back(ends[1]);
    return hub->accept(sse::uring_transport::connection{ends[0]}, {}, sse::admit().join(c)).id;
  }
  void turn(int wait_ms = 0) {
    std::array<epoll_event, 64> events;
    const int n = ::epoll_wait(epoll.get(), events.data(), 64, wait_ms);
    for (int i = 0; i < n; ++i) CHECK(net.on_event(*hub, events[static_cast<std::size_t>(i)]));
    hub->flush();
    while (net.reap(*hub)) hub->flush();
  }
  std::string read(std::size_t i) {
    std::string got(1 << 20, '\0');
    const ssize_t n = ::recv(far[i].get(), got.data(), got.size(), MSG_DONTWAIT);
    got.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return got;
  }
};

std::string frame(int i, const std::string& data) {
  return "id: " + std::to_string(i) + "\ndata: " + data + "\n\n";
}

/// No ring, and nothing else with a descriptor, can be made.
class no_descriptors {
 public:
  no_descriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit none{0, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  no_descriptors(const no_descriptors&) = delete;
  no_descriptors& operator=(const no_descriptors&) = delete;
  ~no_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace

#if !defined(SSEHUB_TEST_ASAN)  // UBSan itself needs descriptors to look at memory
TEST_CASE("io_uring: where it is refused, tests are skipped") {
  const test::variable elsewhere{"CI", nullptr};
  const no_descriptors now;
  CHECK(test::refused());
}

TEST_CASE("io_uring: where it is refused, tests fail in CI", "[!shouldfail]") {
  const test::variable ci{"CI", "true"};
  const no_descriptors now;
  CHECK(test::refused());
}
#endif

TEST_CASE("one flush is one call to the kernel, however many readers there are") {
  if (test::refused()) return;
  bare_loop l;
  constexpr std::size_t n = 300;
  if (!test::allow_descriptors(2 * n + 100)) return;
  for (std::size_t i = 0; i < n; ++i) REQUIRE(l.join());
  l.turn();
  for (int i = 1; i <= 10; ++i) {
    REQUIRE(l.c.publish({.data = "x"}));
    const std::uint64_t before = l.net.calls();
    l.turn();
    CHECK(l.net.calls() == before + 1);
  }
  std::string expected;
  for (int i = 1; i <= 10; ++i) expected += frame(i, "x");
  for (std::size_t i = 0; i < n; ++i) CHECK(l.read(i) == expected);
  CHECK(l.net.in_flight() == 0);
}

TEST_CASE("more readers than the ring has places") {
  if (test::refused()) return;
  constexpr std::size_t n = sse::uring_transport::writes_per_call + 500;
  if (!test::allow_descriptors(2 * n + 100)) return;
  bare_loop l;
  for (std::size_t i = 0; i < n; ++i) REQUIRE(l.join());
  REQUIRE(l.c.publish({.data = "x"}));
  l.turn();
  std::size_t got = 0;
  for (std::size_t i = 0; i < n; ++i) got += l.read(i) == frame(1, "x") ? 1U : 0U;
  CHECK(got == n);
}

TEST_CASE("a write without room waits in the kernel, the others go on, and all arrives in order") {
  if (test::refused()) return;
  bare_loop l;
  REQUIRE(l.join());
  REQUIRE(l.join());
  std::string expected;
  std::string quick;
  for (int i = 1; i <= 300; ++i) {
    const std::string data(5000, static_cast<char>('a' + i % 26));
    REQUIRE(l.c.publish({.data = data}));
    expected += frame(i, data);
    l.turn();
    quick += l.read(1);
  }
  CHECK((quick == expected));
  CHECK(l.net.in_flight() == 1);
  std::string slow;
  for (int i = 0; i < 1000 && slow.size() < expected.size(); ++i) {
    slow += l.read(0);
    l.turn(100);
  }
  CHECK((slow == expected));
}

TEST_CASE("streams end while their write waits: closed, left by their peer, with the hub") {
  if (test::refused()) return;
  bare_loop l;
  std::vector<sse::session_id> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(l.join());
  for (int i = 0; i < 100; ++i) {
    REQUIRE(l.c.publish({.data = std::string(9000, 'x')}));
    l.turn();
  }
  REQUIRE(l.net.in_flight() == 4);
  l.hub->close(ids[0]);
  l.far.pop_back();
  ::shutdown(l.far[1].get(), SHUT_WR);  // it still takes nothing, but says that it left
  for (int i = 0; i < 100 && l.net.in_flight() != 1; ++i) l.turn(100);
  CHECK(l.net.in_flight() == 1);
  CHECK(l.hub->sessions() == 1);
  l.end();
  CHECK(l.net.in_flight() == 0);
}

TEST_CASE("a write that fails ends its stream, whatever epoll tells of it") {
  if (test::refused()) return;
  bare_loop l;
  const sse::session_id gone = l.join();
  const sse::session_id stays = l.join();
  l.far.pop_front();
  REQUIRE(l.c.publish({.data = "x"}));
  l.hub->flush();
  for (int i = 0; i < 1000 && l.hub->sessions() != 1; ++i) (void)l.net.reap(*l.hub);
  CHECK_FALSE(l.hub->alive(gone));
  CHECK(l.hub->alive(stays));
  CHECK(l.net.in_flight() == 0);
  CHECK(l.read(0) == frame(1, "x"));
}

TEST_CASE("a server over io_uring: an event leaves at once, whichever way it was published",
          "[surface]") {
  if (test::refused()) return;
  test::every_way_to_publish_is_prompt<server>();
}

TEST_CASE("a server over io_uring: a sealed stream ends, whoever seals it") {
  if (test::refused()) return;
  test::a_sealed_stream_ends<server>(GENERATE(false, true));
}

TEST_CASE("a server over io_uring: a stream opens with its position") {
  if (test::refused()) return;
  test::stream_opens_with_its_position<server>();
}

TEST_CASE("a server over io_uring: live, slow readers, chunks, drain") {
  if (test::refused()) return;
  const bool chunked = GENERATE(false, true);
  server s{{.chunked = chunked, .send_buffer = 65536}};
  sse::channel ticks = ticks_of(s);
  client slow{s.port()};  // a small window would be TCP's own wait
  REQUIRE(slow.open("/events").status == 200);
  client quick{s.port()};
  REQUIRE(quick.open("/events").status == 200);
  const std::string expected = test::publish_sizes(s, ticks, 200, 50);
  bool clean = false;
  std::thread ends{
      [&] { clean = s.on_loop([&] { return s->drain({.deadline = test::patience}); }); }};
  for (client* c : {&slow, &quick}) {
    std::string got = c->rest();
    bool whole = true;
    if (chunked) got = test::dechunk(got, whole);
    CHECK(whole);
    CHECK((got.substr(0, got.rfind("retry: ")) == expected));
  }
  ends.join();
  CHECK(clean);
}

TEST_CASE("a server over io_uring: a peer that takes nothing, and a drain that cuts one") {
  if (test::refused()) return;
  const bool cut = GENERATE(false, true);
  server s{{.hub = {.write_deadline = cut ? sse::duration{test::patience} : milliseconds{200}},
            .send_buffer = 8192}};
  sse::channel ticks = ticks_of(s);
  client deaf{s.port(), 4096};
  REQUIRE(deaf.open("/events").status == 200);
  for (int i = 0; i < 20; ++i) s.publish(ticks, std::string(9000, 'x'));
  if (cut) {
    CHECK_FALSE(s.on_loop([&] { return s->drain({.deadline = milliseconds{100}}); }));
  } else {
    CHECK(s.eventually([&] { return s->connections() == 0; }));
    (void)deaf.rest();
    CHECK(deaf.was_reset);
  }
}

TEST_CASE("a server over io_uring: clients that leave, and an end with all under way") {
  if (test::refused()) return;
  std::vector<client> all;
  int ended = 0;
  {
    server s{{.hub = {.caps = {.per_address = {.max = 0}}}, .send_buffer = 8192}};
    sse::channel ticks = ticks_of(s);
    s.on_loop([&] {
      s->hub().on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason) { ++ended; });
    });
    for (int i = 0; i < 100; ++i) {
      client c{s.port(), 4096};
      REQUIRE(c.open("/events").status == 200);
      if (i % 10 == 0) s.publish(ticks, std::string(9000, 'x'));
      if (i % 5 == 0) {
        all.push_back(std::move(c));
      } else if (i % 2 == 0) {
        c.reset();
      }
    }
    CHECK(s.eventually([&] { return s->hub().sessions() == 20; }));
  }
  CHECK(ended == 100);
  for (client& c : all) (void)c.rest();
}

TEST_CASE("a server over io_uring: each socket call fails once, and nobody misses an event") {
  if (test::refused()) return;
  for (const int error : {ENOMEM, EINTR, ECONNRESET})
    test::every_socket_call_fails_once<server>(error);
}
