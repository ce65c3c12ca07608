// The newest value of each key: for readers that are too slow, and as a snapshot.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "slow_readers.hpp"
#include "stage.hpp"

namespace {

using sse::lag_policy;
using test::check_told;
using test::frame;
using test::frames;
using test::gap_frame;
using test::slow_readers;
using test::stage;

}  // namespace

namespace {

/// Publishes a value of a key; the event's data is `key=value`.
void put_value(sse::channel c, const std::string& key, int value, std::string_view audience = {}) {
  REQUIRE(
      c.publish({.data = key + "=" + std::to_string(value)}, {.audience = audience, .key = key}));
}

/// Ids and data of a stream, `1:a=1 2:b=1`; a gap frame as `gap(requested,first)`.
std::string told(std::string_view stream) {
  std::string out;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = stream.find("\n\n", at);
    REQUIRE(end != stream.npos);
    const std::string one{stream.substr(at, end - at)};
    at = end + 2;
    if (!out.empty()) out += ' ';
    const auto field = [&](const std::string& name) {
      const std::size_t from = one.find(name);
      return from == one.npos
                 ? std::string{}
                 : one.substr(from + name.size(), one.find('\n', from) - from - name.size());
    };
    out += field("id: ") + ":" + field("event: ") + field("data: ");
  }
  return out;
}

}  // namespace

TEST_CASE("X-02 policy coalesce: a slow reader gets the newest event of each key, then live",
          "[lag]") {
  stage s;
  sse::channel c = s.open("c", slow_readers(lag_policy::coalesce, 500));
  const auto slow = s.join(c, {.window = frame(1, "", "a=0").size()});
  const auto fast = s.join(c);
  for (int i = 0; i < 100; ++i) {
    for (const char* key : {"a", "b", "c"}) {
      if (key != std::string_view{"b"} || i < 50) put_value(c, key, i);
    }
    s.flush();
  }
  CHECK(test::consecutive(test::ids_in(s.take(fast)), 1, 250));
  CHECK(s.take(slow) == frame(1, "", "a=0"));
  s.let(slow);
  CHECK(told(s.take(slow)) == ":a=99 :b=49 :c=99");
  put_value(c, "a", 100);
  s.flush();
  CHECK(told(s.take(slow)) == "251:a=100");
  CHECK(c.stats().coalesced == 246);
  CHECK(c.stats().dropped == 0);
  CHECK(c.stats().gaps == 0);
  CHECK_FALSE(s.closed(slow));
}

TEST_CASE(
    "X-02 policy coalesce: what had no key comes while it is retained, else it is announced, as "
    "are "
    "forgotten keys",
    "[lag]") {
  stage s;
  sse::channel_options o = slow_readers(lag_policy::coalesce, 100);
  o.max_keys = 2;
  o.keep = 31;
  sse::channel c = s.open("c", std::move(o));
  const auto slow = s.join(c, {.window = frame(1, "", "a=0").size()});
  put_value(c, "a", 0);
  s.flush();
  CHECK(s.take(slow) == frame(1, "", "a=0"));
  const auto fill = [&] {
    for (int i = 0; i < 30; ++i) put_value(c, "a", i);
    s.flush();
  };
  SECTION("no key") {
    put_value(c, "b", 7);                     // 2
    REQUIRE(c.publish({.data = "without"}));  // 3
    fill();                                   // 4 to 33
    s.let(slow);
    CHECK(told(s.take(slow)) == "3-1:without :a=29 :b=7");
  }
  SECTION("no key, out of retention") {
    put_value(c, "b", 7);                     // 2
    REQUIRE(c.publish({.data = "without"}));  // 3
    fill();                                   // 4 to 33
    put_value(c, "b", 8);                     // 34
    s.let(slow);
    CHECK(told(s.take(slow)) == R"(34-1:gap{"requested":1,"first":35,"lost":null} :a=29 :b=8)");
  }
  SECTION("no key, last") {
    fill();                                   // 2 to 31
    REQUIRE(c.publish({.data = "without"}));  // 32
    s.let(slow);
    CHECK(told(s.take(slow)) == "32-1:without :a=29");
  }
  SECTION("forgotten key") {
    put_value(c, "b", 7);  // 2
    put_value(c, "c", 8);  // 3, and a is forgotten
    fill();                // 4, b is forgotten; to 33
    s.let(slow);
    CHECK(told(s.take(slow)) == R"(33-1:gap{"requested":1,"first":34,"lost":null} :c=8 :a=29)");
  }
  put_value(c, "b", 9);
  s.flush();
  CHECK(told(s.take(slow)) == std::to_string(c.last_id()) + ":b=9");
}

TEST_CASE("X-02 policy coalesce: by its share, with what changed meanwhile, no value twice",
          "[lag]") {
  stage s{{.flush_share = 100}};
  sse::channel c = s.open("c", slow_readers(lag_policy::coalesce, 2000, 100'000));
  const auto slow = s.join(c, {.window = 0});
  for (int round = 0; round < 10; ++round) {
    for (int key = 0; key < 100; ++key) put_value(c, "k" + std::to_string(key), round);
    s.flush();
  }
  std::string got;
  for (int step = 0; step < 2000; ++step) {
    if (step % 3 == 0) put_value(c, "k" + std::to_string(step % 100), 100 + step);
    s.let(slow, 37);
    s.flush();
    got += s.take(slow);
  }
  s.let(slow);
  got += s.take(slow);
  CHECK(c.stats().gaps == 0);
  for (std::size_t at = got.find("data: "); at != got.npos; at = got.find("data: ", at + 1))
    REQUIRE(test::count(got, got.substr(at, got.find('\n', at) + 1 - at)) == 1);
  // The last value of every key came.
  for (int key = 0; key < 100; ++key) {
    const std::string name = "data: k" + std::to_string(key) + "=";
    int last = 9;
    for (int step = 0; step < 2000; step += 3) {
      if (step % 100 == key) last = 100 + step;
    }
    const std::size_t at = got.rfind(name);
    REQUIRE(at != got.npos);
    CHECK(std::stoi(got.substr(at + name.size())) == last);
  }
}

TEST_CASE("X-02 X-09 policy coalesce: values of others are not sent", "[lag]") {
  stage s;
  sse::channel c = s.open("c", slow_readers(lag_policy::coalesce, 100));
  const auto slow = s.join(c, {.key = "ann", .window = 0});
  for (int i = 0; i < 20; ++i) {
    put_value(c, "mine", i, "ann");
    put_value(c, "theirs", i, "bob");
  }
  s.flush();
  s.let(slow);
  CHECK(told(s.take(slow)) == ":mine=19");
}

TEST_CASE("X-02 policy coalesce without ids, and beside another channel", "[lag]") {
  stage s;
  SECTION("without ids") {
    sse::channel_options o = slow_readers(lag_policy::coalesce, 100);
    o.ids = sse::id_mode::none;
    sse::channel c = s.open("c", std::move(o));
    const auto slow = s.join(c, {.window = 0});
    for (int i = 0; i < 20; ++i) put_value(c, i % 2 != 0 ? "a" : "b", i);
    s.flush();
    s.let(slow);
    CHECK(told(s.take(slow)) == ":b=18 :a=19");
  }
  SECTION("beside another channel") {
    sse::channel_options o = slow_readers(lag_policy::coalesce, 100);
    o.own_sequence = false;
    sse::channel c = s.open("c", std::move(o));
    sse::channel d = s.open("d");
    const auto slow = s.join({.window = 0}, {c, d});
    for (int i = 0; i < 20; ++i) put_value(c, "a", i);
    s.flush();
    s.let(slow);
    CHECK(told(s.take(slow)) == ":a=19");
    CHECK(c.stats().gaps == 0);
  }
}

TEST_CASE("a snapshot is the newest event of each key, then live", "[lag]") {
  stage s;
  sse::channel_options o = slow_readers(lag_policy::disconnect, 1 << 20);
  o.start = sse::start_at::snapshot;
  sse::channel c = s.open("c", std::move(o));
  const auto early = s.join(c);
  for (int i = 0; i < 10; ++i) put_value(c, i % 2 != 0 ? "a" : "b", i);
  REQUIRE(c.publish({.data = "without"}));
  CHECK(s.take(early).empty());
  s.flush();
  const auto late = s.join(c);
  CHECK(told(s.take(late)) == ":b=8 :a=9");
  put_value(c, "a", 10);
  s.flush();
  CHECK(told(s.take(late)) == "12:a=10");
  CHECK(c.stats().gaps == 0);
  // A reader that comes back resumes as ever.
  CHECK(told(s.take(s.join(c, {.last_event_id = "10"}))) == "11:without 12:a=10");
}

TEST_CASE(
    "X-02 a skip waits for the half-sent event, at every byte of it, and comes before anything "
    "else",
    "[lag]") {
  for (const lag_policy policy : {lag_policy::oldest, lag_policy::tail}) {
    bool right = true;
    std::string failed;
    for (std::size_t cut = 0; cut <= frames(1, 3).size(); ++cut) {
      stage s;
      sse::channel c = s.open("c", slow_readers(policy, 200, 5));
      const auto k = s.join(c, {.window = cut});
      for (int i = 0; i < 40; ++i) {
        s.put(c);
        s.flush();
      }
      for (int i = 0; i < 5; ++i) s.let(k, 3);
      s.let(k);
      s.put(c);
      s.flush();
      // The events begun are there whole; the rest is announced.
      std::uint64_t begun = 0;
      while (frames(1, begun).size() < cut) ++begun;
      const std::uint64_t first = policy == lag_policy::oldest ? 36 : 41;
      const std::string expect =
          frames(1, begun) +
          gap_frame(first - 1, begun, first, static_cast<std::int64_t>(first - begun - 1)) +
          frames(first, 41);
      const std::string got = s.take(k);
      if (got != expect && failed.empty()) failed = "cut " + std::to_string(cut) + ": " + got;
      right = right && got == expect;
    }
    CHECK(failed == "");
    CHECK(right);
  }
}

TEST_CASE(
    "X-01 100000 events past a stalled client: memory bounded, nothing lost in silence, others not "
    "delayed",
    "[lag]") {
  struct setup {
    lag_policy policy;
    std::uint64_t max_lag;
  };
  for (const setup& how : {setup{lag_policy::disconnect, 100'000},
                           setup{lag_policy::oldest, 100'000}, setup{lag_policy::tail, 100'000}}) {
    CAPTURE(static_cast<int>(how.policy));
    stage s;
    sse::channel c = s.open("c", slow_readers(how.policy, how.max_lag, 500));
    const auto stalled = s.join(c, {.window = 1000});
    const auto fast = s.join(c);
    std::uint64_t most = 0;
    std::uint64_t next = 1;
    bool right = true;
    for (int i = 0; i < 10'000; ++i) {
      s.put_many(c, 10);
      s.flush();
      const std::string got = s.take(fast);
      right = right && got == frames(next, next + 9);
      next += 10;
      if (s.hub.stats().log_bytes > most) most = s.hub.stats().log_bytes;
    }
    CHECK(right);
    CHECK(c.last_id() == 100'000);
    // max(keep, lag), and whole segments: the one of the reader, the tail, and what the pool keeps
    // for use again.
    CHECK(most < how.max_lag + 500 * 40 + 3 * 65536);
    std::string got = s.take(stalled);
    if (how.policy == lag_policy::disconnect) {
      CHECK(s.closed(stalled));
      got.resize(got.rfind("\n\n") + 2);
      CHECK(got == frames(1, test::ids_in(got).back()));
      // Its reconnect is told what retention let go meanwhile.
      const auto again = s.join(c, {.last_event_id = std::to_string(test::ids_in(got).back())});
      CHECK(check_told(s.take(again), test::ids_in(got).back() + 1, 100'000) ==
            99'500 - test::ids_in(got).back());
    } else {
      CHECK_FALSE(s.closed(stalled));
      s.let(stalled);
      got += s.take(stalled);
      CHECK(check_told(got, 1, 100'000) == c.stats().dropped);
      CHECK(c.stats().gaps >= 1);
    }
  }
}
