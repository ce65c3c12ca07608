// What time does: dead peers, idle ends, age, the timers. The clock is the test's.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "allocations.hpp"
#include "beating.hpp"
#include "catch.hpp"
#include "stage.hpp"

namespace {

using pace = sse::heartbeat_options::pace;
using sse::close_reason;
using sse::duration;
using test::beat;
using test::beating;
using test::completion_stage;
using test::frames;
using test::hour;
using test::second;
using test::silent;
using test::stage;
using test::take_retry;

}  // namespace

// --- dead peers ---

TEST_CASE("X-11 no write progress for 10 s closes: limit - 1, limit", "[time][deadline]") {
  stage s;
  sse::channel c = s.open("c", silent());
  const auto k = s.join(c, {.window = 5});
  s.at(3'000);
  s.put(c);
  s.flush();
  CHECK(s.hub.next_deadline() == sse::time_point::milliseconds(13'000));
  s.at(12'999);
  CHECK_FALSE(s.closed(k));
  s.at(13'000);
  CHECK(s.closed(k));
  CHECK(s.peer(k).why == close_reason::stalled);
  CHECK(s.hub.sessions() == 0);
  CHECK(s.hub.next_deadline() == sse::time_point::never());
}

TEST_CASE("X-11 any progress gives it another 10 s, and catching up ends the matter",
          "[time][deadline]") {
  stage s;
  sse::channel c = s.open("c", silent());
  const auto k = s.join(c, {.window = 5});
  s.put_many(c, 3);
  s.flush();
  s.at(9'000);
  s.let(k, 1);
  s.at(18'999);
  CHECK_FALSE(s.closed(k));
  s.let(k);
  s.at(10 * hour);
  CHECK_FALSE(s.closed(k));
  CHECK(s.take(k) == frames(1, 3));
  s.let(k, 1);
  s.put(c);
  s.flush();
  s.at(10 * hour + 9'999);
  CHECK_FALSE(s.closed(k));
  s.at(10 * hour + 10'000);
  CHECK(s.closed(k));
}

TEST_CASE("X-11 a peer that stops reading while nothing happens is found by the heartbeat",
          "[time][deadline]") {
  // `window`: what its buffers still take: nothing, a part of the heartbeat, just all of it, more.
  for (const std::size_t window : {std::size_t{0}, std::size_t{5}, beat.size(), beat.size() + 3}) {
    CAPTURE(window);
    stage s;
    sse::channel c = s.open("c", beating(pace::idle, 15'000));
    const auto k = s.join(c);
    s.peer(k).window = window;
    std::int64_t t = 0;
    while (!s.closed(k) && t < 10 * 60) s.at(++t * second);
    CHECK(s.closed(k));
    CHECK(s.peer(k).why == close_reason::stalled);
    // Two heartbeats, each with what it filled, and the write deadline.
    CHECK(t <= 2 * 15 + 10);
    CHECK(s.hub.sessions() == 0);
  }
}

TEST_CASE("X-11 a peer whose buffers are just full is found too", "[time][deadline]") {
  stage s;
  sse::channel c = s.open("c", beating(pace::idle, 15'000));
  const auto k = s.join(c, {.window = frames(1, 1).size()});
  s.put(c);
  s.flush();  // all taken, and blocked
  std::int64_t t = 0;
  while (!s.closed(k) && t < 10 * 60) s.at(++t * second);
  CHECK(t <= 2 * 15 + 10);
  CHECK(s.peer(k).why == close_reason::stalled);
}

TEST_CASE("X-11 a write that is never completed closes too", "[time][deadline][completion]") {
  completion_stage s;
  sse::channel c = s.open("c", silent());
  const auto k = s.join(c);
  s.put(c);
  s.flush();
  s.at(9'999);
  CHECK_FALSE(s.closed(k));
  s.at(10'000);
  CHECK(s.closed(k));
  CHECK(s.peer(k).why == close_reason::stalled);
  s.hub.written(k.id, s.net.complete(k.peer, 0));
}

TEST_CASE("X-11 a host that pulls and does not go on", "[time][deadline][pull]") {
  completion_stage s;
  sse::channel c = s.open("c", beating(pace::idle, hour));
  const auto k = s.join(c, {.window = 0});
  const auto busy = s.join(c, {.window = 0});
  sse::buffer out[4];
  CHECK(s.hub.peek(k.id, out) == 0);
  s.at(1800 * second);
  s.put(c);
  CHECK(s.hub.peek(k.id, out) == 1);
  CHECK(s.hub.peek(busy.id, out) == 1);
  // Long silence before it is no stall.
  s.at(1800 * second + 1);
  s.at(1809 * second + 999);
  CHECK_FALSE(s.closed(k));
  s.hub.consume(busy.id, out[0].size);
  s.at(1810 * second);
  CHECK(s.closed(k));
  CHECK(s.peer(k).why == close_reason::stalled);
  s.hub.consume(k.id, 0);
  s.at(hour);
  CHECK_FALSE(s.closed(busy));
}

TEST_CASE("the write deadline can be off", "[time][deadline]") {
  stage s{{.write_deadline = duration::off()}};
  sse::channel c = s.open("c", silent());
  const auto k = s.join(c, {.window = 5});
  s.put(c);
  s.flush();
  s.at(1000 * hour);
  CHECK_FALSE(s.closed(k));
  s.let(k);
  CHECK(s.take(k) == frames(1, 1));
}

// --- idle and age ---

TEST_CASE(
    "N-33 without an application event for 5 minutes it closes: open at 4:59.999, heartbeats do "
    "not count",
    "[time][idle]") {
  for (const pace mode : {pace::off, pace::idle, pace::fixed}) {
    CAPTURE(static_cast<int>(mode));
    stage s{{.idle = duration::seconds(300)}};
    sse::channel c = s.open("c", beating(mode, 10'000));
    const auto k = s.join(c, {.preamble = "HEAD"});
    for (std::int64_t t = 1; t < 300; ++t) s.at(t * second);
    s.at(299'999);
    CHECK_FALSE(s.closed(k));
    CHECK(s.hub.sessions() == 1);
    s.take(k);
    s.at(300'000);
    CHECK(s.closed(k));
    CHECK(s.peer(k).why == close_reason::idle);
    CHECK(s.hub.sessions() == 0);
    std::string last = s.take(k);
    if (mode == pace::fixed && last.starts_with(beat)) last.erase(0, beat.size());
    const std::int64_t retry = take_retry(last);  // a clean close: when to come back
    CHECK(retry >= 1000);
    CHECK(retry <= 5000);
    CHECK((last.empty() || last == beat));
  }
}

TEST_CASE("N-34 an event at 4:00 keeps it open until 9:00, of any kind", "[time][idle]") {
  for (const int kind : {0, 1, 2}) {
    CAPTURE(kind);
    stage s{{.idle = duration::seconds(300)}};
    sse::channel c = s.open("c", beating(pace::idle, 10'000));
    const auto k = s.join(c, {.key = "me"});
    const auto other = s.join(c, {.key = "other"});
    s.at(240'000);
    if (kind == 0) s.put(c, "x", "me");
    if (kind == 1) REQUIRE(c.publish({.data = "x"}, {.audience = "me", .transient = true}));
    if (kind == 2) REQUIRE(s.hub.send(k.id, {.data = "x"}) == sse::publish_error::none);
    s.flush();
    s.at(299'999);
    CHECK_FALSE(s.closed(other));
    s.at(300'000);
    CHECK(s.closed(other));  // what it may not see is no activity of its own
    s.at(539'999);
    CHECK_FALSE(s.closed(k));
    s.at(540'000);
    CHECK(s.closed(k));
    CHECK(s.peer(k).why == close_reason::idle);
  }
}

TEST_CASE("idle is counted from delivery: what waits for a slow reader is no activity",
          "[time][idle]") {
  stage s{{.write_deadline = duration::off(), .idle = duration::seconds(300)}};
  sse::channel c = s.open("c", silent());
  const auto k = s.join(c, {.window = 3});
  s.at(100'000);
  s.put(c);
  s.flush();
  s.at(300'000);
  s.let(k);
  std::string got = s.take(k);
  CHECK(got.starts_with(frames(1, 1)));  // it ends after what is pending
  CHECK(s.closed(k));
}

TEST_CASE(
    "a connection has an age, ends cleanly and up to a tenth early, so that not all come back at "
    "once",
    "[time][age]") {
  stage s{{.max_age = duration::seconds(1000),
           .retry_min = duration::milliseconds(200),
           .retry_max = duration::milliseconds(900)}};
  sse::channel c = s.open("c", silent());
  std::vector<test::caller> all;
  for (int i = 0; i < 200; ++i) all.push_back(s.join(c));
  s.at(900 * second);
  CHECK(s.hub.sessions() == 200);
  std::set<std::int64_t> ends, retries;
  std::int64_t first = 0;
  std::int64_t last = 0;
  for (std::int64_t t = 900; t <= 1000; ++t) {
    const std::size_t before = s.hub.sessions();
    s.at(t * second);
    if (s.hub.sessions() == before) continue;
    ends.insert(t);
    if (first == 0) first = t;
    last = t;
  }
  CHECK(s.hub.sessions() == 0);
  CHECK(first > 900);
  CHECK(last <= 1000);
  CHECK(ends.size() > 50);
  for (const auto& k : all) {
    std::string got = s.take(k);
    const std::int64_t retry = take_retry(got);
    CHECK(got.empty());
    if (retry < 200 || retry > 900) FAIL("retry " << retry);
    retries.insert(retry);
    if (s.peer(k).why != close_reason::age) FAIL("reason");
  }
  CHECK(retries.size() > 100);
}

TEST_CASE("an age of a month is kept although the timer cannot see so far", "[time][age]") {
  stage s{{.max_age = duration::seconds(40 * 24 * 3600)}};
  sse::channel c = s.open("c", silent());
  const auto k = s.join(c);
  for (std::int64_t h = 1; h <= 36 * 24; ++h) s.at(h * hour);
  CHECK_FALSE(s.closed(k));
  for (std::int64_t h = 36 * 24; h <= 40 * 24; ++h) s.at(h * hour);
  CHECK(s.closed(k));
}

TEST_CASE("a stream ends when its verdict says: limit - 1, limit", "[time][age]") {
  stage s{{.max_age = duration::seconds(10'000)}};
  s.at(5 * second);
  sse::channel c = s.open("c", silent());
  const auto k = s.accept({}, sse::admit().join(c).until(sse::time_point::milliseconds(60'000)));
  const auto later =
      s.accept({}, sse::admit().join(c).until(sse::time_point::milliseconds(100'000 * second)));
  const auto over = s.accept({}, sse::admit().join(c).until(sse::time_point::milliseconds(4'000)));
  s.at(5 * second);
  CHECK(s.closed(over));
  s.at(59'999);
  CHECK_FALSE(s.closed(k));
  s.put(c);
  s.at(60'000);
  CHECK(s.closed(k));
  CHECK(s.peer(k).why == close_reason::age);
  std::string got = s.take(k);
  CHECK(got.starts_with(frames(1, 1)));  // what was pending goes out before it ends
  s.at(10'000 * second);
  CHECK(s.closed(later));  // the hub's own age is shorter
}

TEST_CASE("a stream that would have to end before the hub knows the time is refused, not left open",
          "[time][age]") {
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport> hub{net};
  sse::channel c = hub.open_channel("c", silent());
  REQUIRE(c);
  const auto until = sse::time_point::milliseconds(60'000);
  CHECK(hub.accept({net.connect()}, {}, sse::admit().join(c).until(until)).refusal.status == 500);
  CHECK(hub.accept({net.connect()}, {}, sse::admit().join(c)));
  hub.tick(sse::time_point::milliseconds(50'000));
  CHECK(hub.accept({net.connect()}, {}, sse::admit().join(c).until(until)));
  hub.tick(until);
  hub.flush();
  CHECK(hub.sessions() == 1);
}

// --- the time alone ---

TEST_CASE("what is published or begins at a time that was only set is of that time",
          "[time][age][deadline]") {
  stage s{{.max_age = duration::seconds(100)}};
  sse::channel_options o = silent();
  o.keep_age = duration::seconds(10);
  o.keep_sealed = duration::seconds(10);
  sse::channel c = s.open("c", o);
  sse::channel ends = s.open("ends", o);
  sse::channel quiet = s.open("quiet", silent());
  const auto stalled = s.join(quiet, {.window = 5});
  s.put(quiet);
  s.flush();
  s.hub.set_time(sse::time_point::milliseconds(30 * second));  // its write deadline is overdue
  s.put(c);
  CHECK(s.hub.seal(ends));
  const auto k = s.join(quiet);
  s.flush();
  CHECK(s.hub.next_deadline() == sse::time_point::milliseconds(10 * second));
  CHECK_FALSE(s.closed(stalled));
  s.hub.set_time(sse::time_point::milliseconds(29 * second));  // it never goes back
  s.put(c);
  s.at(30 * second);
  CHECK(s.closed(stalled));
  s.at(40 * second - 1);
  CHECK(c.stats().retained_events == 2);
  CHECK(s.hub.find_channel("ends"));
  s.at(40 * second);
  CHECK(c.stats().retained_events == 0);
  CHECK_FALSE(s.hub.find_channel("ends"));
  s.at(120 * second - 1);  // a tenth less than its age
  CHECK_FALSE(s.closed(k));
  s.at(130 * second);
  CHECK(s.closed(k));
}

TEST_CASE("the deadline of a drain counts from the time that was set", "[time][deadline]") {
  stage s;
  sse::channel c = s.open("c", silent());
  const auto first = s.join(c, {.window = 5});
  s.at(9 * second);
  s.put(c);
  s.flush();
  s.hub.set_time(sse::time_point::milliseconds(30 * second));
  s.hub.drain({.deadline = duration::seconds(5)});
  CHECK_FALSE(s.closed(first));
  s.at(30 * second);
  CHECK(s.closed(first));
  CHECK(s.hub.next_deadline() == sse::time_point::milliseconds(35 * second));
}

// --- one timer structure ---

TEST_CASE(
    "X-12 10000 idle sessions: one timer structure, no work and no allocation until something is "
    "due",
    "[time]") {
  stage s;
  sse::channel c = s.open("c", beating(pace::idle, 10'000));
  std::vector<test::caller> all;
  for (std::int64_t i = 0; i < 10'000; ++i) {
    if (i % 10 == 0) s.at(i / 10);
    all.push_back(s.join(c));
  }
  CHECK(s.hub.next_deadline() == sse::time_point::milliseconds(10'000));
#if TEST_ALLOCATIONS
  const std::uint64_t before = test::allocations();
  for (std::int64_t t = 1000; t < 10'000; ++t) s.at(t);
  CHECK(test::allocations() == before);
#endif
  CHECK(s.hub.stats().writes == 0);
  s.at(10'000);
  CHECK(s.hub.stats().writes == 10);  // the ten that came first
  s.at(10'499);
  CHECK(s.hub.stats().writes == 5000);
  s.at(11'000);
  CHECK(s.hub.stats().writes == 10'000);
  CHECK(s.hub.stats().heartbeats == 10'000);
  CHECK(s.hub.next_deadline() == sse::time_point::milliseconds(20'000));
  for (const auto& k : all) s.hub.closed(k.id);
  CHECK(s.hub.next_deadline() == sse::time_point::never());
}

TEST_CASE("a host that wakes at next_deadline only misses nothing and never spins", "[time]") {
  stage s{{.idle = duration::seconds(90), .max_age = duration::seconds(200)}};
  sse::channel idle = s.open("idle", beating(pace::idle, 7'000));
  sse::channel fixed = s.open("fixed", beating(pace::fixed, 11'000));
  const auto k = s.join(idle);
  const auto stalled = s.join(idle, {.window = 3});
  const auto f = s.join(fixed);
  s.put(idle);
  s.flush();
  int wakes = 0;
  std::int64_t now = 0;
  bool advances = true;
  while (s.hub.next_deadline() != sse::time_point::never() && now < 500 * second &&
         ++wakes < 1000) {
    const std::int64_t next = s.hub.next_deadline().ms();
    advances = advances && next > now;
    now = next;
    s.at(now);
  }
  CHECK(advances);
  CHECK(s.closed(k));
  CHECK(s.closed(stalled));
  CHECK(s.closed(f));
  CHECK(s.hub.sessions() == 0);
  CHECK(wakes < 100);
  std::string got = s.take(k);
  CHECK(test::count(got, beat) == 12);  // 7, 14, ... 84; closed at 90
  CHECK(s.hub.stats().closed[static_cast<std::size_t>(close_reason::stalled)] == 1);
  CHECK(s.hub.stats().closed[static_cast<std::size_t>(close_reason::idle)] == 2);
}

TEST_CASE("forever is never, in every option that has a time", "[time][surface]") {
  const duration forever = duration::infinite();
  stage s{{.write_deadline = forever, .idle = forever, .max_age = forever}};
  sse::channel_options o = silent();
  o.keep_age = forever;
  o.soft_lag = 10;
  o.soft_lag_for = forever;
  o.heartbeat = {.every = forever};
  sse::channel c = s.open("c", std::move(o));
  o = silent();
  o.heartbeat = {.mode = pace::fixed, .every = forever};
  sse::channel f = s.open("f", std::move(o));
  s.at(1'000'000);
  const auto k = s.join(c);
  const auto stuck = s.join(c, {.window = 3});
  const auto kf = s.join(f);
  const auto eternal = s.accept({}, sse::admit().join(f).until(sse::time_point::never()));
  s.put(c);
  s.flush();
  for (std::int64_t day = 1; day < 100; ++day) s.at(1'000'000 + day * 24 * hour);
  CHECK(s.hub.sessions() == 4);
  CHECK(s.take(k) == frames(1, 1));
  CHECK(s.take(kf).empty());
  CHECK(c.stats().retained_events == 1);
  CHECK(s.hub.next_deadline() == sse::time_point::never());
  s.hub.drain({.deadline = forever});
  s.at(1'000'000 + 200 * 24 * hour);
  CHECK(s.closed(eternal));
  CHECK_FALSE(s.closed(stuck));
  s.let(stuck);
  CHECK(s.hub.drained());
}

TEST_CASE("off is never, and at once where it says so, in every option that has a time",
          "[time][surface]") {
  const duration off = duration::off();
  sse::hub_options hub{.retry = off, .write_deadline = off, .idle = off, .max_age = off};
  hub.caps.per_user = {.max = 1, .retry_after = off};
  hub.retry_min = hub.retry_max = off;
  stage s{hub};
  sse::channel_options o = silent();
  o.keep_age = off;
  o.soft_lag = 10;
  o.soft_lag_for = off;
  o.heartbeat = {.every = off};
  o.keep_sealed = off;
  sse::channel c = s.open("c", std::move(o));
  const auto k = s.join(c, {.key = "ann"});
  const auto stuck = s.join(c, {.window = 3});
  const sse::response full = s.join(c, {.key = "ann"}).refusal;
  CHECK(full.status == 429);
  CHECK(full.headers.find("Retry-After") == std::string::npos);
  s.put(c);
  s.put(c);
  s.flush();
  for (std::int64_t day = 1; day < 100; ++day) s.at(day * 24 * hour);
  CHECK(s.hub.sessions() == 2);
  CHECK(s.take(k) == frames(1, 2));  // no retry, no heartbeat
  CHECK(c.stats().retained_events == 2);
  CHECK(s.hub.next_deadline() == sse::time_point::never());
  const auto late =
      s.accept({}, sse::admit().join(c).until(sse::time_point::milliseconds(100 * 24 * hour)));
  s.at(101 * 24 * hour);
  CHECK(s.take(late) == "retry: 0\n\n");
  CHECK(s.hub.seal(c));
  s.at(101 * 24 * hour);
  CHECK_FALSE(c);  // at once
  CHECK(s.closed(stuck));
  sse::channel d = s.open("d", silent());
  const auto slow = s.join(d, {.window = 3});
  s.put(d);
  s.flush();
  s.hub.drain({.deadline = off});
  s.at(101 * 24 * hour);
  CHECK(s.closed(slow));
}

TEST_CASE("the defaults: heartbeat 15 s, write deadline 10 s", "[time]") {
  stage s;
  sse::channel c = s.open("c");
  const auto k = s.join(c);
  s.at(14'999);
  CHECK(s.take(k).empty());
  s.peer(k).window = 1;
  s.at(15'000);
  CHECK(s.take(k) == ":");
  s.at(24'999);
  CHECK_FALSE(s.closed(k));
  s.at(25'000);
  CHECK(s.closed(k));
}

TEST_CASE("X-12 the timer queue against a plain list, over the edge of 32 bits", "[time]") {
  struct places {
    std::vector<std::uint32_t> at = std::vector<std::uint32_t>(100, sse::detail::none);
    std::uint32_t& place(std::uint32_t id) { return at[id]; }
  } where;
  sse::detail::timer_heap<places> queue{where};
  REQUIRE(queue.reserve(100));
  std::vector<std::int64_t> plain(100, INT64_MAX);
  std::uint64_t random = 7;
  const auto below = [&](std::uint64_t n) {
    random = random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (random >> 33) % n;
  };
  std::int64_t now = (std::int64_t{1} << 32) - 1'000'000;
  bool right = true;
  for (int i = 0; i < 100'000 && right; ++i) {
    const auto id = static_cast<std::uint32_t>(below(100));
    switch (below(4)) {
      case 0:
      case 1: {
        const std::int64_t when =
            now + static_cast<std::int64_t>(below(below(10) == 0 ? 20'000'000 : 1000));
        queue.arm(id, when, now);
        plain[id] = when;
        break;
      }
      case 2:
        queue.disarm(id);
        plain[id] = INT64_MAX;
        break;
      default: {
        now += static_cast<std::int64_t>(below(200));
        while (!queue.empty() && queue.top_when(now) <= now) {
          const std::uint32_t top = queue.top_id();
          right = right && plain[top] <= now;
          for (const std::int64_t w : plain) right = right && w >= plain[top];
          queue.disarm(top);
          plain[top] = INT64_MAX;
        }
        for (const std::int64_t w : plain) right = right && w > now;
      }
    }
    right = right && queue.when(id, now) == plain[id];
  }
  CHECK(right);
  CHECK(now > std::int64_t{1} << 32);
}
