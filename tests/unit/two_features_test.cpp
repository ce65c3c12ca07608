// Two features at once: audiences with keys, snapshots, transient events and retention by bytes;
// the memory cap with the ends of segments and with channels that close; backfill with tiny
// windows.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::lag_policy;
using test::count;
using test::frame;
using test::quiet;
using test::stage;

/// As slow as they like, and nothing retained: all that is held is held for readers.
sse::channel_options patient() {
  sse::channel_options o = quiet(1);
  o.max_lag = 0;
  return o;
}

sse::channel_options snapshots() {
  sse::channel_options o = quiet();
  o.start = sse::start_at::snapshot;
  return o;
}

void put(sse::channel c, std::string_view data, const sse::publish_options& o = {}) {
  REQUIRE(c.publish({.type = "e", .data = data}, o));
}

// --- keys, audiences, transient events -----------------------------------------------------------

TEST_CASE("X-09 a transient event with a key is no state, and shows nobody another's value",
          "[keys][audience]") {
  stage s;
  sse::channel c = s.open("c", snapshots());
  put(c, "bob's balance", {.audience = "bob", .key = "balance"});
  put(c, "typing", {.transient = true, .key = "mood"});
  put(c, "typing to bob", {.audience = "bob", .transient = true, .key = "mood"});
  const auto stranger = s.join(c, {.key = "eve"});
  const auto bob = s.join(c, {.key = "bob"});
  CHECK(s.take(stranger).empty());
  CHECK(s.take(bob) == frame(0, "e", "bob's balance"));
}

TEST_CASE("X-09 a public value after a private one of its key is seen by all", "[keys][audience]") {
  stage s;
  sse::channel c = s.open("c", snapshots());
  put(c, "private", {.audience = "bob", .key = "k"});
  put(c, "public", {.key = "k"});
  CHECK(s.take(s.join(c, {.key = "eve"})) == frame(0, "e", "public"));
  // The other way round, also where the texts have the same length.
  put(c, "secret", {.audience = "bob", .key = "k"});
  CHECK(count(s.take(s.join(c, {.key = "eve"})), "secret") == 0);
  CHECK(count(s.take(s.join(c, {.key = "bob"})), "secret") == 1);
  put(c, "hushed", {.audience = "bobby", .key = "k"});
  CHECK(count(s.take(s.join(c, {.key = "bob"})), "hushed") == 0);
  CHECK(count(s.take(s.join(c, {.key = "bobby"})), "hushed") == 1);
}

TEST_CASE("X-02 a value that is half sent is not overwritten by the next of its size", "[keys]") {
  const std::string one(50, '1');
  const std::string two(50, '2');
  const std::size_t whole = frame(0, "e", one).size();
  for (std::size_t cut = 0; cut <= whole; ++cut) {
    CAPTURE(cut);
    stage s;
    sse::channel c = s.open("c", snapshots());
    put(c, one, {.key = "k"});
    const auto k = s.join(c, {.window = cut});
    put(c, two, {.key = "k"});
    s.let(k);
    const std::string got = s.take(k);
    const bool first_too = got.starts_with(frame(0, "e", one)) && got.ends_with(two + "\n\n");
    CHECK((first_too || (cut == 0 && got == frame(0, "e", two))));
  }
}

TEST_CASE("X-02 coalescing with keys and without, cut anywhere, never shows the same id twice",
          "[keys]") {
  for (std::size_t cut = 1; cut < 120; ++cut) {
    CAPTURE(cut);
    stage s;
    sse::channel_options o = quiet();
    o.on_lag = lag_policy::coalesce;
    o.max_lag = 400;
    sse::channel c = s.open("c", std::move(o));
    const auto slow = s.join(c, {.key = "ann", .window = cut});
    for (int i = 0; i < 40; ++i) {
      put(c, "v" + std::to_string(i),
          {.audience = i % 5 == 0   ? "bob"
                       : i % 5 == 1 ? "ann"
                                    : "",
           .key = "k" + std::to_string(i % 5)});
      s.flush();
    }
    s.let(slow);
    put(c, "live");
    s.flush();
    const std::string got = s.take(slow);
    const auto ids = test::ids_in(got);
    for (std::size_t i = 1; i < ids.size(); ++i) CHECK(ids[i] > ids[i - 1]);
    CHECK(count(got, "event: gap") == 0);
    for (const int i : {36, 37, 38, 39}) CHECK(count(got, "data: v" + std::to_string(i)) == 1);
    for (int i = 0; i < 40; i += 5) CHECK(count(got, "data: v" + std::to_string(i) + "\n") == 0);
    CHECK(got.ends_with(frame(41, "e", "live")));
  }
}

TEST_CASE("X-02 a channel with transient events coalesces as one without", "[keys]") {
  stage s;
  sse::channel_options o = quiet();
  o.on_lag = lag_policy::coalesce;
  o.max_lag = 400;
  sse::channel c = s.open("c", std::move(o));
  put(c, "typing", {.transient = true});
  const auto slow = s.join(c, {.window = 0});
  for (int i = 0; i < 40; ++i) {
    put(c, "v" + std::to_string(i), {.key = i % 2 == 0 ? "even" : "odd"});
    s.flush();
  }
  s.let(slow);
  CHECK(s.take(slow) == frame(0, "e", "v38") + frame(0, "e", "v39"));
  CHECK(c.stats().gaps == 0);
}

TEST_CASE("X-02 the key that was silent longest is forgotten, whatever was replaced before",
          "[keys]") {
  stage s;
  sse::channel_options o = snapshots();
  o.max_keys = 3;
  sse::channel c = s.open("c", std::move(o));
  for (const char* key : {"a", "b", "c", "a", "d", "c", "e"}) put(c, key, {.key = key});
  // a (4), b and then a are the oldest when d and e come
  CHECK(s.take(s.join(c)) == frame(0, "e", "e") + frame(0, "e", "d") + frame(0, "e", "c"));
  put(c, "d", {.key = "d"});
  put(c, "f", {.key = "f"});
  CHECK(s.take(s.join(c)) == frame(0, "e", "e") + frame(0, "e", "d") + frame(0, "e", "f"));
}

// --- retention -----------------------------------------------------------------------------------

TEST_CASE("retained bytes: events that had an audience leave nothing counted behind",
          "[retention][audience]") {
  const auto plain = [](stage& s, sse::channel c) {
    for (int i = 0; i < 500; ++i) put(c, std::string(80, 'p'));
    s.flush();
    return c.stats().retained_events;
  };
  const auto ten_kilobytes = [] {
    sse::channel_options o = quiet(1'000'000);
    o.keep_bytes = 10'000;
    return o;
  };
  stage s;
  sse::channel fresh = s.open("fresh", ten_kilobytes());
  const std::uint64_t expected = plain(s, fresh);
  REQUIRE(expected > 50);
  sse::channel c = s.open("c", ten_kilobytes());
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 300; ++i) {
      put(c, std::string(80, 'a'), {.audience = std::string(1000, 'x')});
      REQUIRE(c.stats().retained_bytes <= 10'000);
    }
    s.flush();
    CHECK(c.stats().retained_events > 0);
    // ids are longer by and by: an event more or less
    const std::uint64_t now = plain(s, c);
    CHECK(now <= expected);
    CHECK(now + 5 >= expected);
    CHECK(c.stats().retained_bytes <= 10'000);
  }
}

TEST_CASE("X-09 a replay of mixed audiences, one byte at a time, at every beginning",
          "[retention][audience]") {
  stage s{{.flush_share = 50}};
  sse::channel c = s.open("c", quiet());
  std::vector<std::string> ann;
  for (std::uint64_t id = 1; id <= 150; ++id) {
    const std::string_view audience = id % 3 == 0 ? "ann" : id % 7 == 0 ? "bob" : "";
    const std::string text = std::string(60, 'x') + std::to_string(id);
    put(c, text, {.audience = audience});
    ann.push_back(audience == "bob" ? "" : frame(id, "e", text));
  }
  for (std::uint64_t after = 0; after <= 150; after += 10) {
    std::string expected;
    for (std::uint64_t id = after; id < 150; ++id) expected += ann[id];
    for (const std::size_t step : {1U, 89U}) {
      for (const bool chunked : {false, true}) {
        CAPTURE(after, step, chunked);
        const auto k = s.join(c, {.key = "ann",
                                  .last_event_id = std::to_string(after),
                                  .chunked = chunked,
                                  .max_write = step});
        s.flush();
        std::string got = s.take(k);
        if (chunked) {
          std::string body;
          for (std::size_t at = 0; at < got.size();) {
            const std::size_t line = got.find("\r\n", at);
            const std::size_t size = std::stoul(got.substr(at, line - at), nullptr, 16);
            body += got.substr(line + 2, size);
            at = line + 2 + size;
            REQUIRE((at == got.size() || got.substr(at, 2) == "\r\n"));
            at += at == got.size() ? 0U : 2U;
          }
          got = body;
        }
        CHECK(got == expected);
        s.hub.close(k.id);
      }
    }
  }
}

// --- the memory cap ------------------------------------------------------------------------------

TEST_CASE("X-01 shedding memory: a reader at any place goes on or is closed, and none stands still",
          "[lag][memory]") {
  const std::string text(500, 'x');
  // Segments are 4, 16 and then 64 KiB: caps that cut off one, two or more of them at a time.
  for (std::uint64_t n = 0; n < 450; ++n) {
    const std::uint64_t cap = n < 150 ? 60'000 : n < 300 ? 82'000 : 130'000;
    CAPTURE(n, cap);
    stage s{{.max_backlog = cap}};
    sse::channel c = s.open("c", patient());
    const auto first = s.join(c, {.window = 0});
    std::size_t got_first = 0;
    for (std::uint64_t id = 1; id <= n % 150; ++id) got_first += frame(id, "e", text).size();
    const auto some = s.join(c, {.window = got_first});
    const auto none = s.join(c, {.window = 1});
    for (int i = 0; i < 400; ++i) {
      put(c, text);
      s.flush();
      REQUIRE(c.stats().backlog_bytes <= cap + 65'536);
    }
    CHECK(s.closed(first));
    CHECK(s.peer(first).why == sse::close_reason::hub_full);
    CHECK(s.closed(none));
    if (!s.closed(some)) s.let(some);
    put(c, "the last");
    s.flush();
    const std::string got = s.take(some);
    if (s.closed(some)) {
      CHECK(s.peer(some).why == sse::close_reason::hub_full);
      CHECK(got.size() <= got_first);
    } else {
      CHECK(test::consecutive(test::ids_in(got), 1, 401));
      CHECK(got.ends_with(frame(401, "e", "the last")));
    }
    CHECK(c.stats().backlog_bytes == 0);
  }
}

TEST_CASE("X-01 shedding memory sends away no more than it must", "[lag][memory]") {
  // Readers at every distance: those that are ahead of what was cut off stay.
  stage s{{.max_backlog = 200'000}};
  sse::channel c = s.open("c", patient());
  std::vector<test::caller> all;
  const std::string text(1000, 'x');
  for (std::size_t i = 0; i < 30; ++i) all.push_back(s.join(c, {.window = i * 12'000}));
  for (int i = 0; i < 400; ++i) {
    put(c, text);
    s.flush();
    bool open = false;  // the slower one never outlives the faster one
    for (const auto& k : all) {
      if (open) REQUIRE_FALSE(s.closed(k));
      open = open || !s.closed(k);
    }
  }
  CHECK(s.closed(all.front()));
  CHECK_FALSE(s.closed(all.back()));
  for (const auto& k : all) {
    if (s.closed(k)) continue;
    s.let(k);
    CHECK(test::consecutive(test::ids_in(s.take(k)), 1, 400));
  }
}

TEST_CASE("X-01 what a channel held for slow readers is not counted once it is closed",
          "[lag][memory]") {
  stage s{{.max_backlog = 300'000}};
  for (int round = 0; round < 8; ++round) {
    CAPTURE(round);
    sse::channel a = s.open("a", patient());
    sse::channel b = s.open("b", patient());
    const auto slow = s.join(a, {.window = 0});
    const auto other = s.join(b, {.window = 0});
    for (int i = 0; i < 120; ++i) {
      const bool transient = round % 2 == 1;
      put(a, std::string(1000, 'a'), {.transient = transient});
      put(b, std::string(1000, 'b'));
      s.flush();
    }
    CHECK_FALSE(s.closed(slow));
    CHECK_FALSE(s.closed(other));
    s.hub.close_channel(a);
    CHECK(s.closed(slow));
    put(b, "x");
    s.flush();
    CHECK_FALSE(s.closed(other));
    s.hub.close_channel(b);
  }
}

TEST_CASE("X-01 readers that caught up, and those that left, are not counted", "[lag][memory]") {
  stage s{{.max_backlog = 300'000}};
  sse::channel a = s.open("a", patient());
  sse::channel b = s.open("b", patient());
  for (int round = 0; round < 12; ++round) {
    CAPTURE(round);
    sse::channel c = round % 2 == 0 ? a : b;
    const auto slow = s.join(c, {.window = 0});
    for (int i = 0; i < 200; ++i) {
      put(c, std::string(1000, 'x'));
      s.flush();
    }
    REQUIRE_FALSE(s.closed(slow));
    CHECK(c.stats().backlog_bytes > 100'000);
    if (round % 4 < 2) {
      s.let(slow);
      CHECK(test::ids_in(s.take(slow)).size() == 200);
    }
    s.hub.closed(slow.id);
    s.flush();
    CHECK(c.stats().backlog_bytes == 0);
  }
}

TEST_CASE("X-01 a cap on memory of 0 is off, and one byte sheds all who hold any",
          "[lag][memory]") {
  for (const std::uint64_t cap : {0U, 1U}) {
    stage s{{.max_backlog = cap}};
    sse::channel c = s.open("c", patient());
    const auto slow = s.join(c, {.window = 0});
    const auto fast = s.join(c);
    for (int i = 0; i < 300; ++i) {
      put(c, std::string(1000, 'x'));
      s.flush();
    }
    CHECK(s.closed(slow) == (cap == 1));
    CHECK_FALSE(s.closed(fast));
    CHECK(test::ids_in(s.take(fast)).size() == 300);
  }
}

// --- backfill ------------------------------------------------------------------------------------

TEST_CASE("backfill: through windows of any size, chunked or not, beside unicast",
          "[resume][backfill]") {
  for (const std::size_t window : {1U, 2U, 13U, 40U, 1000U}) {
    for (const bool chunked : {false, true}) {
      CAPTURE(window, chunked);
      stage s{{.control_lane = 100, .flush_share = 60}};
      sse::channel_options o = quiet(5);
      o.backfill = [](const sse::backfill_request& r, sse::backfill_writer& w) {
        for (sse::event_id id = r.after + 1; id < r.before && w.bytes() < r.room; ++id)
          w.add(id, {.type = "e", .data = std::to_string(id)});
        return sse::backfill_state::more;
      };
      sse::channel c = s.open("c", std::move(o));
      s.put_many(c, 60);
      const auto k = s.join(c, {.last_event_id = "3", .chunked = chunked, .window = window});
      std::string got;
      for (int i = 0; i < 5000 && count(got, "\nid: 80\n") == 0; ++i) {
        if (i % 50 == 10 && c.last_id() < 80) s.put(c);
        if (i == 30) (void)s.hub.send(k.id, {.type = "u", .data = "unicast"});
        s.let(k, window);
        got += s.take(k);
      }
      s.put_many(c, static_cast<int>(80 - c.last_id()));
      s.let(k);
      got += s.take(k);
      if (chunked) continue;  // its framing has tests of its own: that it ends is what counts here
      const std::string u = frame(0, "u", "unicast");
      if (const std::size_t at = got.find(u); at != got.npos) got.erase(at, u.size());
      CHECK(got == test::frames(4, 80));
      CHECK(c.stats().gaps == 0);
    }
  }
}

// --- time ----------------------------------------------------------------------------------------

TEST_CASE("X-11 a peer whose buffers are just full and for whom nothing waits is not stalled",
          "[time][deadline]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c, {.window = test::frames(1, 1).size()});
  s.put(c);
  s.flush();
  for (std::int64_t t = 1'000; t < 100'000; t += 1'000) s.at(t);
  CHECK_FALSE(s.closed(k));
  s.let(k, 0);
  s.put(c);
  s.flush();
  s.let(k);
  CHECK(s.take(k) == test::frames(1, 2));
}

}  // namespace
