// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// A reader comes back to a snapshot channel with an id that left the history: the newest value of
// each key above its id, then what the log has; a gap frame for what neither of the two covers.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

using sse::lag_policy;
using sse::start_at;
using test::frame;
using test::gap_frame;
using test::stage;

namespace {

sse::channel_options snapshots_that_keep(std::uint64_t keep) {
  sse::channel_options o{.keep = keep, .start = start_at::snapshot};
  o.heartbeat.mode = sse::heartbeat_options::pace::off;
  return o;
}

/// Publishes a value of `key`, which is also its data; empty: an event without a key.
void set_value(sse::channel c, std::string_view key, std::string_view audience = {}) {
  REQUIRE(c.publish({.type = "v", .data = key}, {.audience = audience, .key = key}));
}
void set_values(sse::channel c, std::string_view keys) {
  for (const char& key : keys)
    set_value(c, key == '-' ? std::string_view{} : std::string_view{&key, 1});
}
std::string value_frame(std::uint64_t id, std::string_view key) { return frame(id, "v", key); }
std::string come_back(stage& s, sse::channel c, std::string_view last_event_id,
                      std::string_view key = {}) {
  return s.take(s.join(c, {.key = std::string{key}, .last_event_id = std::string{last_event_id}}));
}

}  // namespace

TEST_CASE("snapshot: who comes back gets the quiet keys that left the history, and no gap",
          "[snapshot][surface][fault]") {
  stage s;
  const sse::channel c = s.open("c", snapshots_that_keep(2));
  set_values(c, "abaaa");  // 4 and 5 are retained
  CHECK(come_back(s, c, "1") == value_frame(2, "b") + value_frame(4, "a") + value_frame(5, "a"));
  CHECK(come_back(s, c, "2") == value_frame(4, "a") + value_frame(5, "a"));
  CHECK(come_back(s, c, "3") == value_frame(4, "a") + value_frame(5, "a"));
  CHECK(come_back(s, c, "5").empty());
  CHECK(c.stats().gaps == 0);
  CHECK(c.stats().replays == 4);
}

TEST_CASE("snapshot: who comes back is told of what has no key, if the log does not have it",
          "[snapshot][surface][fault]") {
  stage s;
  const sse::channel c = s.open("c", snapshots_that_keep(3));
  set_values(c, "ab-b-b");  // 4 to 6 are retained
  CHECK(come_back(s, c, "1") ==
        gap_frame(3, 1, 4, -1) + value_frame(4, "b") + frame(5, "v", "") + value_frame(6, "b"));
  CHECK(come_back(s, c, "3") == value_frame(4, "b") + frame(5, "v", "") + value_frame(6, "b"));
  set_values(c, "cd");  // 6 to 8 are
  CHECK(come_back(s, c, "2") ==
        gap_frame(5, 2, 6, -1) + value_frame(6, "b") + value_frame(7, "c") + value_frame(8, "d"));
}

TEST_CASE("snapshot: a gap stands in front of the value that follows it", "[snapshot][surface]") {
  stage s;
  const sse::channel c = s.open("c", snapshots_that_keep(1));
  set_values(c, "a-b-c-d");
  CHECK(come_back(s, c, "1") == gap_frame(2, 1, 3, -1) + value_frame(3, "b") +
                                    gap_frame(4, 3, 5, -1) + value_frame(5, "c") +
                                    gap_frame(6, 5, 7, -1) + value_frame(7, "d"));
}

TEST_CASE("snapshot: who comes back gets its own values, and is not told of those of others",
          "[snapshot][surface]") {
  stage s;
  const sse::channel c = s.open("c", snapshots_that_keep(1));
  set_value(c, "x");
  set_value(c, "k", "ann");
  set_value(c, "k", "bob");
  set_value(c, {}, "bob");
  set_value(c, "y");
  CHECK(come_back(s, c, "1", "ann") == value_frame(2, "k") + value_frame(5, "y"));
  CHECK(come_back(s, c, "1", "bob") ==
        value_frame(3, "k") + gap_frame(4, 3, 5, -1) + value_frame(5, "y"));
  CHECK(come_back(s, c, "1") == value_frame(5, "y"));
}

TEST_CASE("snapshot: keys that had to be forgotten are announced to who comes back",
          "[snapshot][surface]") {
  stage s;
  sse::channel_options o = snapshots_that_keep(1);
  o.max_keys = 2;
  const sse::channel c = s.open("c", std::move(o));
  set_values(c, "xabc");  // b and c are known
  CHECK(come_back(s, c, "1") == gap_frame(2, 1, 3, -1) + value_frame(3, "b") + value_frame(4, "c"));
  CHECK(come_back(s, c, "2") == value_frame(3, "b") + value_frame(4, "c"));
}

TEST_CASE("snapshot: what was before the channel opened is announced, then the values come",
          "[snapshot][surface]") {
  stage s{{.first_id = 100}};
  sse::channel c = s.open("c", snapshots_that_keep(1));
  set_values(c, "ab");
  CHECK(come_back(s, c, "5") ==
        gap_frame(100, 5, 101, -1) + value_frame(101, "a") + value_frame(102, "b"));
  CHECK(come_back(s, c, "100") == value_frame(101, "a") + value_frame(102, "b"));
  s.hub.close_channel(c);
  c = s.open("c", snapshots_that_keep(1));
  set_values(c, "cd");
  CHECK(come_back(s, c, "101") ==
        gap_frame(102, 101, 103, -1) + value_frame(103, "c") + value_frame(104, "d"));
  CHECK(come_back(s, c, "102") == value_frame(103, "c") + value_frame(104, "d"));
  CHECK(come_back(s, c, "0") == value_frame(104, "d"));  // everything retained
}

TEST_CASE("snapshot: who comes back slowly gets what is published meanwhile once",
          "[snapshot][surface][fault]") {
  stage s{{.flush_share = 1}};
  const sse::channel c = s.open("c", snapshots_that_keep(2));
  set_values(c, "abcdxx");
  const test::caller k =
      s.join(c, {.last_event_id = "1", .window = value_frame(2, "b").size() + 3});
  set_values(c, "cyz");  // 7 to 9: 6 and 7 left the history before it came there
  s.flush();
  s.let(k, 1 << 20);
  CHECK(s.take(k) == value_frame(2, "b") + value_frame(4, "d") + value_frame(6, "x") +
                         value_frame(7, "c") + value_frame(8, "y") + value_frame(9, "z"));
  set_values(c, "b");
  s.flush();
  CHECK(s.take(k) == value_frame(10, "b"));
  CHECK(c.stats().gaps == 0);
}

TEST_CASE("snapshot: whom the program says where it stands is told so before what it lost",
          "[snapshot][surface]") {
  stage s{{}, stage::as_given{}};
  const sse::channel c = s.open("c", snapshots_that_keep(1));
  set_values(c, "a-bc");
  auto v = sse::admit();
  v.join(c);
  CHECK(s.take(s.accept({}, std::move(v).after(1))) ==
        "id: 1\n\n" + gap_frame(2, 1, 3, -1) + value_frame(3, "b") + value_frame(4, "c"));
}

TEST_CASE("snapshot: a stream of another start is told of the gap as before",
          "[snapshot][surface]") {
  stage s;
  const sse::channel c = s.open("c", snapshots_that_keep(1));
  set_values(c, "abc");
  auto v = sse::admit();
  v.join(c);
  CHECK(s.take(s.accept({.last_event_id = "1"}, std::move(v).start(start_at::live))) ==
        gap_frame(2, 1, 3, -1) + value_frame(3, "c"));
}

TEST_CASE("snapshot: what a backfill hook does not have is made up for by values",
          "[snapshot][surface]") {
  stage s;
  sse::channel_options o = snapshots_that_keep(1);
  o.backfill = [](const sse::backfill_request& r, sse::backfill_writer& w) {
    if (r.after == 1) CHECK(w.add(2, {.type = "v", .data = "b"}));
    return sse::backfill_state::lost;
  };
  const sse::channel c = s.open("c", std::move(o));
  set_values(c, "abcdd");
  CHECK(come_back(s, c, "1") == value_frame(2, "b") + value_frame(3, "c") + value_frame(5, "d"));
}

TEST_CASE("coalesce: who joined before the first event is not told of what was before the channel",
          "[snapshot][surface][fault]") {
  stage s{{.first_id = 100}};
  sse::channel_options o = snapshots_that_keep(1);
  o.max_lag = 1;
  o.on_lag = lag_policy::coalesce;
  const sse::channel c = s.open("c", std::move(o));
  const test::caller k = s.join(c, {.window = 0});
  set_values(c, "aab");
  s.flush();
  set_values(c, "b");
  s.flush();
  s.let(k);
  CHECK(s.take(k) == value_frame(102, "a") + value_frame(104, "b"));
}
