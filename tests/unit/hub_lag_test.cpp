// Readers that are too slow: how far behind each may be, what happens then, and what they are told.
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "slow_readers.hpp"
#include "stage.hpp"

namespace {

using sse::close_reason;
using sse::lag_policy;
using test::check_told;
using test::completion_stage;
using test::frame;
using test::frames;
using test::gap_frame;
using test::slow_readers;
using test::stage;

/// Publishes `n` bytes on the wire. REQUIRES: no ids.
void put_bytes(sse::channel c, std::uint64_t n) {
  REQUIRE(c.publish({.data = std::string(n - frame(0, "", "").size(), 'x')}));
}

}  // namespace

TEST_CASE("X-01 a reader may be max_lag bytes behind: limit - 1, limit, limit + 1", "[lag]") {
  for (const std::uint64_t lag : {999U, 1000U, 1001U}) {
    CAPTURE(lag);
    stage s;
    sse::channel_options o = slow_readers(lag_policy::disconnect, 1000);
    o.ids = sse::id_mode::none;
    sse::channel c = s.open("c", std::move(o));
    const auto k = s.join(c, {.window = 0});
    put_bytes(c, 500);
    s.flush();
    CHECK(s.hub.worst_lag(c) == 500);
    put_bytes(c, lag - 500);
    CHECK(s.hub.worst_lag(c) == lag);
    s.flush();
    CHECK(s.closed(k) == (lag > 1000));
    CHECK(s.hub.stats().closed[static_cast<std::size_t>(close_reason::lag)] == s.closed(k));
    if (s.closed(k)) CHECK(s.peer(k).why == close_reason::lag);
  }
}

TEST_CASE("the defaults: history 1000 events, lag 1 MiB, at limit - 1, limit, limit + 1", "[lag]") {
  stage s;
  sse::channel c = s.open("c");
  for (const int n : {999, 1, 1}) {
    s.put_many(c, n);
    CHECK(c.stats().retained_events == (c.last_id() < 1000 ? c.last_id() : 1000));
  }
  constexpr std::uint64_t limit = 1 << 20;
  for (const std::uint64_t lag : {limit - 1, limit, limit + 1}) {
    CAPTURE(lag);
    sse::channel d = s.open(std::to_string(lag), {.ids = sse::id_mode::none});
    const auto k = s.join(d, {.window = 0});
    put_bytes(d, limit / 2);
    put_bytes(d, lag - limit / 2);
    s.flush();
    CHECK(s.closed(k) == (lag > limit));
  }
}

TEST_CASE("X-01 X-09 what only others may see makes nobody late", "[lag][surface]") {
  stage s;
  sse::channel c = s.open("c", {.keep = 0,
                                .max_lag = 500,
                                .own_sequence = true,
                                .heartbeat = {.mode = sse::heartbeat_options::pace::off}});
  const auto ann = s.join(c, {.key = "ann"});
  for (int i = 0; i < 100; ++i) {
    s.put(c, std::string(50, 'x'), "bob");
    s.flush();
  }
  CHECK_FALSE(s.closed(ann));
  s.put(c, "for all");
  s.flush();
  CHECK(s.take(ann) == frame(101, "e", "for all"));
}

TEST_CASE("max_lag 0 is off", "[lag]") {
  stage s;
  sse::channel c = s.open("c", slow_readers(lag_policy::disconnect, 0, 10));
  const auto k = s.join(c, {.window = 0});
  for (int i = 0; i < 3000; ++i) s.put(c, std::string(1000, 'x'));
  s.flush();
  CHECK_FALSE(s.closed(k));
  s.let(k);
  CHECK(test::consecutive(test::ids_in(s.take(k)), 1, 3000));
}

TEST_CASE("X-01 a reader's own replay is not lag, what comes after it is", "[lag]") {
  stage s;
  sse::channel c = s.open("c", slow_readers(lag_policy::disconnect, 1000, 100'000));
  s.put_many(c, 2000);
  const auto k = s.join(c, {.last_event_id = "0", .window = 100});
  s.put_many(c, 20);
  s.flush();
  CHECK_FALSE(s.closed(k));
  while (s.hub.worst_lag(c) <= 1000) {
    CHECK_FALSE(s.closed(k));
    s.put(c);
    s.flush();
    if (s.closed(k)) break;
  }
  CHECK(s.closed(k));
  CHECK(s.peer(k).why == close_reason::lag);
  const auto fast = s.join(c, {.last_event_id = "0"});
  CHECK(test::consecutive(test::ids_in(s.take(fast)), 1, c.last_id()));
}

TEST_CASE(
    "X-02 policy disconnect: a slow reader is closed, and its reconnect resumes without a loss",
    "[lag]") {
  stage s;
  sse::channel c = s.open("c", slow_readers(lag_policy::disconnect, 1000));
  const auto slow = s.join(c, {.window = 57});
  const auto fast = s.join(c);
  std::string got;
  for (std::uint64_t i = 1; i <= 200; ++i) {
    s.put(c);
    s.flush();
    CHECK(s.take(fast) == frames(i, i));  // others are not delayed
  }
  CHECK(s.closed(slow));
  CHECK(s.peer(slow).why == close_reason::lag);
  got = s.take(slow);
  got.resize(got.rfind("\n\n") + 2);
  const auto last = test::ids_in(got).back();
  const auto again = s.join(c, {.last_event_id = std::to_string(last)});
  CHECK(got + s.take(again) == frames(1, 200));
  CHECK(c.stats().gaps == 0);
  CHECK(c.stats().dropped == 0);
  // Being told where it stood is enough: the first bytes of the half-sent event are not counted as
  // got.
  CHECK(last < 57 / frame(1, "e", "1").size() + 1);
}

TEST_CASE("X-02 policy oldest: what left the log is announced, then the oldest retained event",
          "[lag]") {
  stage s;
  sse::channel c = s.open("c", slow_readers(lag_policy::oldest, 500, 10));
  std::vector<sse::gap_notice> log;
  s.hub.on_gap([&](const sse::gap_notice& g) { log.push_back(g); });
  const auto slow = s.join(c, {.window = frames(1, 2).size()});
  s.put_many(c, 2);
  s.flush();
  CHECK(s.take(slow) == frames(1, 2));
  for (int i = 0; i < 100; ++i) {
    s.put(c);
    s.flush();
  }
  CHECK_FALSE(s.closed(slow));
  s.let(slow);
  CHECK(s.take(slow) == gap_frame(92, 2, 93, 90) + frames(93, 102));
  REQUIRE(log.size() == 1);
  CHECK(log[0].requested == 2);
  CHECK(log[0].first == 93);
  CHECK(log[0].lost == 90);
  CHECK(log[0].lost_known);
  CHECK(c.stats().dropped == 90);
  CHECK(c.stats().gaps == 1);
  s.put(c);
  s.flush();
  CHECK(s.take(slow) == frames(103, 103));
}

TEST_CASE("X-02 policy oldest: what is retained anyway is nobody's loss", "[lag]") {
  stage s;
  sse::channel c = s.open("c", slow_readers(lag_policy::oldest, 500, 1000));
  const auto slow = s.join(c, {.window = 0});
  for (int i = 0; i < 900; ++i) {
    s.put(c);
    s.flush();
  }
  CHECK_FALSE(s.closed(slow));
  s.let(slow);
  CHECK(s.take(slow) == frames(1, 900));
  CHECK(c.stats().gaps == 0);
}

TEST_CASE("X-02 policy tail: everything missed is announced, then live", "[lag]") {
  stage s;
  sse::channel c = s.open("c", slow_readers(lag_policy::tail, 500));
  const auto slow = s.join(c, {.window = frames(1, 2).size()});
  for (int i = 0; i < 100; ++i) {
    s.put(c);
    s.flush();
  }
  CHECK_FALSE(s.closed(slow));
  CHECK(s.take(slow) == frames(1, 2));
  s.let(slow);
  CHECK(s.take(slow) == gap_frame(100, 2, 101, 98));
  s.put(c);
  s.flush();
  CHECK(s.take(slow) == frames(101, 101));
  CHECK(c.stats().dropped == 98);
  // A resume from the id of the gap frame misses nothing.
  CHECK(s.take(s.join(c, {.last_event_id = "100"})) == frames(101, 101));
}

TEST_CASE("X-01 a reader that stops and goes over and over is told of each loss, exactly",
          "[lag]") {
  for (const lag_policy policy : {lag_policy::oldest, lag_policy::tail}) {
    stage s;
    sse::channel c = s.open("c", slow_readers(policy, 700, 15));
    const auto k = s.join(c, {.window = 0});
    for (std::uint64_t i = 0; i < 20'000; ++i) {
      s.put(c);
      if (i % 3 == 0) s.flush();
      if (i % 50 == 0) s.let(k, i * 31 % 1500);
    }
    s.let(k);
    CHECK(check_told(s.take(k), 1, c.last_id()) == c.stats().dropped);
    CHECK(c.stats().gaps > 50);
    CHECK(c.stats().dropped + c.stats().delivered == 20'000);
  }
}

TEST_CASE("a skip on one of several channels: the id never runs back and resumes where it should",
          "[lag]") {
  stage s;
  sse::channel_options o = slow_readers(lag_policy::tail, 300, 1000);
  o.own_sequence = false;
  sse::channel fast = s.open("fast", std::move(o));
  sse::channel rare = s.open("rare", {.heartbeat = {.mode = sse::heartbeat_options::pace::off}});
  const auto k = s.join({.window = 0}, {fast, rare});
  s.put(fast);  // 1
  s.put(rare);  // 2
  for (int i = 0; i < 60; ++i) {
    s.put(fast);  // 3..62
    s.flush();
  }
  s.put(rare);  // 63
  s.let(k);
  const std::string got = s.take(k);
  // `fast` goes on live; `rare` lost nothing, and the id of the gap frame leaves it to come.
  CHECK(got == "id: 1\nevent: gap\ndata: {\"requested\":0,\"first\":64,\"lost\":61}\n\n" +
                   frame(2, "e", "2") + frame(63, "e", "63"));
  s.put(fast);
  s.flush();
  CHECK(s.take(k) == frames(64, 64));
}

TEST_CASE("lost transient events are announced without an id", "[lag]") {
  stage s;
  sse::channel_options o = slow_readers(lag_policy::tail, 300);
  sse::channel c = s.open("c", std::move(o));
  const auto k = s.join(c, {.window = 0});
  s.put(c);
  for (int i = 0; i < 50; ++i) {
    REQUIRE(c.publish({.type = "t", .data = "x"}, {.transient = true}));
    s.flush();
  }
  s.let(k);
  CHECK(s.take(k) ==
        "event: gap\ndata: {\"requested\":null,\"first\":null,\"lost\":50}\n\n" + frames(1, 1));
  REQUIRE(c.publish({.type = "t", .data = "y"}, {.transient = true}));
  s.flush();
  CHECK(s.take(k) == frame(0, "t", "y"));
}

TEST_CASE("a loss among entries that not everybody sees says null", "[lag]") {
  stage s;
  sse::channel c = s.open("c", slow_readers(lag_policy::tail, 300));
  const auto k = s.join(c, {.key = "me", .window = 0});
  for (int i = 0; i < 50; ++i) {
    s.put(c, "x", i % 2 == 0 ? "me" : "you");
    s.flush();
  }
  s.let(k);
  CHECK(s.take(k) == gap_frame(50, 0, 51, -1));
}

TEST_CASE("X-01 a reader that stands at the end of a segment goes on when another one is cut off",
          "[lag]") {
  for (const lag_policy policy : {lag_policy::disconnect, lag_policy::oldest, lag_policy::tail}) {
    for (int late = 1; late < 20; ++late) {
      CAPTURE(static_cast<int>(policy), late);
      stage s;
      sse::channel c = s.open("c", slow_readers(policy, 20'000, 1));
      const std::string data(1000, 'd');
      const auto slow = s.join(c, {.window = 1});
      const auto exact = s.join(c, {.window = 1});
      // Fills the first segments; `exact` reads to the very end of event number `late` and stops.
      std::size_t upto = 0;
      for (int i = 0; i < late; ++i) upto += frame(s.put(c, data), "e", data).size();
      s.flush();
      s.let(exact, upto - 1);
      CHECK(s.take(exact).size() == upto);
      const std::uint64_t last = c.last_id();
      for (int i = 0; i < 19; ++i) {
        s.put(c, data);
        s.flush();
      }
      CHECK_FALSE(s.closed(exact));
      s.let(exact);
      CHECK(test::consecutive(test::ids_in(s.take(exact)), last + 1, c.last_id()));
      s.put(c, data);
      s.flush();
      CHECK(test::consecutive(test::ids_in(s.take(exact)), c.last_id(), c.last_id()));
      if (policy == lag_policy::disconnect) CHECK((s.closed(slow) || late < 2));
    }
  }
}

// --- soft limit ---

namespace {

sse::channel_options soft(std::uint64_t bytes, std::int64_t ms) {
  sse::channel_options o = slow_readers(lag_policy::disconnect, 1 << 20);
  o.soft_lag = bytes;
  o.soft_lag_for = sse::duration::milliseconds(ms);
  return o;
}

}  // namespace

TEST_CASE("soft lag: who has not been written to yet is not late for what came just now", "[lag]") {
  stage s{{.write_deadline = sse::duration::off()}};
  sse::channel_options o = soft(200, 5000);
  o.heartbeat = {.mode = sse::heartbeat_options::pace::idle, .every = sse::duration::seconds(20)};
  sse::channel c = s.open("c", std::move(o));
  const auto k = s.join(c);
  s.flush();
  REQUIRE(c.publish({.data = std::string(500, 'x')}));
  s.at(20'000);  // its heartbeat is due
  CHECK_FALSE(s.closed(k));
  CHECK(test::count(s.take(k), "xxx\n") == 1);
}

TEST_CASE(
    "X-01 soft lag: over it for its time, at limit - 1, limit, limit + 1 in time and in bytes",
    "[lag]") {
  for (const std::int64_t start : {1000, 1001}) {  // even and odd
    CAPTURE(start);
    stage s{{.write_deadline = sse::duration::off()}};
    sse::channel c = s.open("c", soft(200, 5000));
    s.at(start);
    const auto k = s.join(c, {.window = 0});
    const auto under = s.join(c, {.window = 0});
    const std::string data(200 - frame(1, "", "").size(), 'x');
    REQUIRE(c.publish({.data = data}));
    s.flush();
    CHECK(s.hub.worst_lag(c) == 200);
    s.at(start + 1'000'000);
    CHECK_FALSE(s.closed(k));  // not over
    s.let(under, 10);
    REQUIRE(c.publish({.data = ""}));
    s.flush();
    const std::int64_t over = start + 1'000'000;
    s.at(over + 4999);
    CHECK_FALSE(s.closed(k));
    s.at(over + 5000);
    CHECK(s.closed(k));
    CHECK(s.peer(k).why == close_reason::lag);
    CHECK(s.closed(under));
  }
}

TEST_CASE("X-01 soft lag: other timers in between do not reset it, catching up does", "[lag]") {
  stage s{{.write_deadline = sse::duration::off()}};
  sse::channel_options o = soft(200, 5000);
  o.heartbeat = {.mode = sse::heartbeat_options::pace::idle,
                 .every = sse::duration::milliseconds(700)};
  sse::channel c = s.open("c", std::move(o));
  const auto k = s.join(c, {.window = 0});
  s.put_many(c, 20);
  s.flush();
  for (std::int64_t t = 100; t < 5000; t += 100) s.at(t);
  CHECK_FALSE(s.closed(k));
  s.at(5000);
  CHECK(s.closed(k));

  const auto back = s.join(c, {.window = 0});
  s.at(6000);
  s.put_many(c, 20);  // over from here
  s.flush();
  s.at(7000);
  s.let(back);  // and not any more
  CHECK(test::consecutive(test::ids_in(s.take(back)), 21, 40));
  s.at(10'900);
  s.let(back, 0);
  s.put_many(c, 20);
  s.flush();
  s.at(11'000);  // five seconds after the first time
  CHECK_FALSE(s.closed(back));
  s.at(15'899);
  CHECK_FALSE(s.closed(back));
  s.at(15'900);
  CHECK(s.closed(back));
}

// --- writes that are pending ---

TEST_CASE("X-01 X-02 a reader whose bytes are with the kernel skips when they are back",
          "[lag][completion]") {
  for (const lag_policy policy : {lag_policy::oldest, lag_policy::tail}) {
    completion_stage s;
    sse::channel c = s.open("c", slow_readers(policy, 500, 5));
    const auto k = s.join(c);
    s.put_many(c, 3);
    s.flush();  // in flight
    for (int i = 0; i < 20; ++i) {
      s.put(c);
      s.flush();
    }
    CHECK_FALSE(s.closed(k));
    s.hub.written(k.id, s.net.complete(k.peer, 30));
    for (int i = 0; i < 30; ++i) {
      s.flush();
      s.hub.written(k.id, s.net.complete(k.peer));
      s.put(c);
    }
    s.flush();
    s.hub.written(k.id, s.net.complete(k.peer));
    s.flush();
    const std::string got = s.take(k);
    check_told(got, 1, c.last_id());
  }
}

TEST_CASE("X-01 a pending write that never ends costs no more than twice the limit",
          "[lag][completion]") {
  for (const lag_policy policy : {lag_policy::disconnect, lag_policy::oldest, lag_policy::tail}) {
    completion_stage s;
    sse::channel c = s.open("c", slow_readers(policy, 50'000, 5));
    const auto k = s.join(c);
    s.put(c);
    s.flush();
    for (int i = 0; i < 20'000; ++i) {
      s.put(c);
      if (i % 10 == 0) s.flush();
    }
    CHECK(s.closed(k));
    CHECK(s.peer(k).why == close_reason::lag);
    CHECK(s.hub.stats().log_bytes < 2 * 50'000 + 20 * 65536);
    s.hub.written(k.id, s.net.complete(k.peer));
    CHECK(s.take(k) == frames(1, 1));
  }
}
