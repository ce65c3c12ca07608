// What is used again: a session's slot while it still stands in the ready list, a channel's number
// after another was closed, a slot whose write is pending.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using test::completion_stage;
using test::frame;
using test::frames;
using test::quiet;
using test::stage;

// --- slots ---------------------------------------------------------------------------------------

TEST_CASE("X-10 a slot that is used again keeps nobody from its turn", "[slots][reuse]") {
  // Five sessions wait for their turn; one, two or three of them end and others take their slots.
  for (std::uint32_t mask = 1; mask < 32; ++mask) {
    for (const bool speaks : {false, true}) {
      CAPTURE(mask, speaks);
      stage s;
      sse::channel c = s.open("c", quiet());
      std::vector<test::caller> old;
      for (int i = 0; i < 5; ++i) old.push_back(s.join(c, {.window = 0}));
      s.put(c);
      s.flush();
      for (const auto& k : old) {
        s.peer(k).window = SIZE_MAX;
        s.hub.writable(k.id);  // queued; no flush yet
      }
      std::vector<test::caller> fresh;
      for (std::size_t i = 0; i < 5; ++i) {
        if ((mask >> i & 1U) == 0) continue;
        s.hub.closed(old[i].id);
        fresh.push_back(s.join(c, {.preamble = speaks ? "HEAD" : ""}));
        CHECK(fresh.back().id.slot == old[i].id.slot);
        CHECK(fresh.back().id != old[i].id);
        if (speaks) {
          REQUIRE(s.hub.send(fresh.back().id, {.data = "early"}) == sse::publish_error::none);
        }
      }
      s.flush();
      for (std::size_t i = 0; i < 5; ++i)
        CHECK(s.take(old[i]) == ((mask >> i & 1U) != 0 ? "" : frames(1, 1)));
      for (const auto& k : fresh) {
        CHECK(s.take(k) == (speaks ? "HEAD" + frame(0, "", "early") : ""));
        REQUIRE(s.hub.send(k.id, {.data = "unicast"}) == sse::publish_error::none);
      }
      s.flush();
      for (const auto& k : fresh) CHECK(s.take(k) == frame(0, "", "unicast"));
      s.put(c);
      s.flush();
      for (std::size_t i = 0; i < 5; ++i)
        CHECK(s.take(old[i]) == ((mask >> i & 1U) != 0 ? "" : frames(2, 2)));
      for (const auto& k : fresh) CHECK(s.take(k) == frames(2, 2));
    }
  }
}

TEST_CASE("a slot used again begins as a new one: nothing of the session before is left",
          "[slots][reuse]") {
  stage s{{.write_deadline = sse::duration::seconds(10), .idle = sse::duration::seconds(60)}};
  sse::channel c = s.open("c", quiet());
  sse::channel_options o = quiet();
  o.soft_lag = 100;
  o.soft_lag_for = sse::duration::seconds(5);
  sse::channel soft = s.open("soft", std::move(o));
  // One that is chunked, blocked, in the middle of an event, over its soft limit and has an age.
  const std::size_t peer = s.net.connect();
  s.net.at(peer).window = 30;
  sse::verdict<> v = sse::admit("ann").join(c);
  v.join(soft);
  const test::ask a{.address = "10.0.0.1", .chunked = true};
  const auto old = test::with_request(a, [&](const sse::request& r) {
    return s.hub.accept({peer}, r, std::move(v).until(sse::time_point::milliseconds(20'000))).id;
  });
  REQUIRE(old);
  for (int i = 0; i < 10; ++i) s.put(soft, std::string(100, 'x'));
  s.flush();
  s.at(4'000);
  s.hub.closed(old);
  const auto k = s.join(c);
  REQUIRE(k.id.slot == old.slot);
  s.put(c);
  s.flush();
  CHECK(s.take(k) == frames(11, 11));
  CHECK(s.hub.user_sessions("ann") == 0);
  for (std::int64_t t = 5'000; t < 64'000; t += 1'000) {
    s.at(t);
    REQUIRE_FALSE(s.closed(k));
  }
  CHECK(s.take(k).empty());
  CHECK(s.net.at(peer).received.size() == 30);
  CHECK_FALSE(s.hub.alive(old));
}

TEST_CASE("a handle of a slot that is used again does nothing to who has it now",
          "[slots][reuse]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto old = s.join(c, {.key = "ann"});
  s.hub.closed(old.id);
  const auto k = s.join(c, {.key = "bob", .window = 0});
  REQUIRE(k.id.slot == old.id.slot);
  s.put(c);
  s.flush();
  const std::size_t writes = s.peer(k).writes;
  s.hub.writable(old.id);
  s.hub.written(old.id, 5);
  s.flush();
  CHECK(s.peer(k).writes == writes);
  s.hub.finish(old.id);
  s.hub.close(old.id);
  s.hub.closed(old.id);
  CHECK(s.hub.send(old.id, {.data = "x"}) == sse::publish_error::no_session);
  CHECK(s.hub.revoke("ann") == 0);
  s.let(k);
  CHECK(s.take(k) == frames(1, 1));
  CHECK_FALSE(s.closed(k));
}

// --- channels ------------------------------------------------------------------------------------

TEST_CASE("channels closed and opened in any order: each reader gets its own channel's events",
          "[channels][reuse]") {
  // Four channels, some with transient events; one is closed, another opened, everything is
  // published to, twice over.
  for (std::size_t victim = 0; victim < 4; ++victim) {
    for (std::size_t second = 0; second < 4; ++second) {
      for (const bool transient : {false, true}) {
        CAPTURE(victim, second, transient);
        stage s;
        std::vector<sse::channel> open;
        std::vector<test::caller> readers;
        int made = 0;
        const auto add = [&](std::size_t at) {
          sse::channel_options o;
          o.keep_age = sse::duration::seconds(10 + made);
          o.heartbeat.mode = sse::heartbeat_options::pace::off;
          open[at] = s.open("c" + std::to_string(made++), std::move(o));
          readers[at] = s.join(open[at], {.key = "user"});
        };
        const auto everything = [&] {
          for (int k = 0; k < 2; ++k) {
            for (sse::channel c : open) {
              REQUIRE(c.publish({.data = c.name()}));
              if (transient) REQUIRE(c.publish({.data = "typing"}, {.transient = true}));
            }
            s.flush();
          }
          for (std::size_t i = 0; i < open.size(); ++i) {
            const std::string got = s.take(readers[i]);
            CHECK(test::count(got, "data: " + std::string(open[i].name()) + "\n") == 2);
            CHECK(test::count(got, "data: typing\n") == (transient ? 2U : 0U));
            CHECK(test::count(got, "data: ") == (transient ? 4U : 2U));
            CHECK(open[i].subscribers() == 1);
            CHECK(s.hub.find_channel(open[i].name()) == open[i]);
          }
        };
        open.resize(4);
        readers.resize(4);
        for (std::size_t i = 0; i < 4; ++i) add(i);
        everything();
        for (const std::size_t gone : {victim, second}) {
          const test::caller was = readers[gone];
          const std::string name{open[gone].name()};
          s.hub.close_channel(open[gone]);
          CHECK(s.closed(was));
          CHECK(!s.hub.find_channel(name));
          add(gone);
          everything();
        }
        CHECK(s.hub.user_sessions("user") == 4);
        s.at(60'000);  // every channel's age ran out, in its own time
        for (sse::channel c : open) CHECK(c.stats().retained_events == 0);
        everything();
      }
    }
  }
}

TEST_CASE("fixed heartbeats stay with their channel when another one is closed",
          "[channels][reuse]") {
  for (int gone = 0; gone < 3; ++gone) {
    CAPTURE(gone);
    stage s;
    std::vector<sse::channel> open;
    std::vector<test::caller> readers;
    for (int i = 0; i < 3; ++i) {
      sse::channel_options o;
      const std::string text = "beat " + std::to_string(i);
      o.heartbeat = {.mode = sse::heartbeat_options::pace::fixed,
                     .every = sse::duration::seconds(10 + i),
                     .text = text};
      open.push_back(s.open(text, std::move(o)));
      readers.push_back(s.join(open.back()));
    }
    s.at(5'000);
    s.hub.close_channel(open[static_cast<std::size_t>(gone)]);
    for (std::int64_t t = 5'100; t <= 65'000; t += 100) s.at(t);
    for (int i = 0; i < 3; ++i) {
      const std::size_t beats = i == gone ? 0U : static_cast<std::size_t>(65 / (10 + i));
      const std::string got = s.take(readers[static_cast<std::size_t>(i)]);
      CHECK(test::count(got, ": beat " + std::to_string(i) + "\n") == beats);
      CHECK(test::count(got, "beat") == beats);
    }
  }
}

// --- pending writes ------------------------------------------------------------------------------

TEST_CASE("completion: no second write begins while one is pending, whatever is called",
          "[flow][completion]") {
  completion_stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c, {.key = "ann"});
  std::string got;
  for (std::uint64_t round = 1; round <= 5; ++round) {
    s.put(c, std::to_string(round));
    s.flush();
    const std::size_t writes = s.peer(k).writes;
    REQUIRE(s.peer(k).in_flight_bytes != 0);
    s.hub.writable(k.id);
    s.flush();
    REQUIRE(s.hub.send(k.id, {.data = "unicast"}) == sse::publish_error::none);
    s.flush();
    s.hub.writable(k.id);
    s.flush();
    s.at(static_cast<std::int64_t>(round) * 1'000);
    CHECK(s.peer(k).writes == writes);
    s.hub.written(k.id, s.net.complete(k.peer));
    s.flush();
    CHECK(s.peer(k).writes == writes + 1);
    s.hub.written(k.id, s.net.complete(k.peer));
    s.flush();
    CHECK(s.peer(k).writes == writes + 1);
    got += frame(round, "e", std::to_string(round)) + frame(0, "", "unicast");
  }
  CHECK(s.take(k) == got);
}

TEST_CASE("completion: a slot whose write is pending is used again only after it",
          "[flow][completion][reuse]") {
  completion_stage s;
  sse::channel c = s.open("c", quiet(1));
  for (int round = 0; round < 300; ++round) {
    const auto k = s.join(c, {.key = "ann"});
    const std::string text(static_cast<std::size_t>(300 + round),
                           static_cast<char>('a' + round % 26));
    s.put(c, text);
    s.flush();
    s.hub.closed(k.id);
    const auto other = s.join(c, {.key = "ann"});
    REQUIRE(other.id.slot != k.id.slot);
    for (int i = 0; i < 40; ++i) s.put(c, std::string(2000, 'z'));
    REQUIRE(s.hub.user_sessions("ann") == 1);
    s.hub.written(k.id, s.net.complete(k.peer));
    CHECK(s.take(k) == frame(c.last_id() - 40, "e", text));
    s.hub.closed(other.id);
    s.flush();
    s.hub.written(other.id, s.net.complete(other.peer));
    REQUIRE(s.hub.sessions() == 0);
  }
}

}  // namespace
