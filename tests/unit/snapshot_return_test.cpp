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
/// From the log.
std::string value_frame(std::uint64_t id, std::string_view key) { return frame(id, "v", key); }
/// Of a pass, in the order in which the keys came first.
std::string pass_of(std::string_view keys) {
  std::string s;
  for (const char& key : keys) s += frame(0, "v", {&key, 1});
  return s;
}
/// A gap frame of one that has the values up to `values`.
std::string gap_in_pass(std::uint64_t id, std::uint64_t values, std::uint64_t requested,
                        std::uint64_t first) {
  std::string s = gap_frame(id, requested, first, -1);
  return s.insert(s.find('\n'), "-" + std::to_string(values));
}
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
  CHECK(come_back(s, c, "1") == pass_of("ab"));
  CHECK(come_back(s, c, "2") == pass_of("a"));
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
        gap_in_pass(4, 1, 1, 5) + "id: 5-1\n" + frame(0, "v", "") + pass_of("b"));
  CHECK(come_back(s, c, "3") == value_frame(4, "b") + frame(5, "v", "") + value_frame(6, "b"));
  set_values(c, "cd");  // 6 to 8 are
  CHECK(come_back(s, c, "2") == gap_in_pass(8, 2, 2, 9) + pass_of("bcd"));
}

TEST_CASE("snapshot: a gap stands in front of the values, once for all losses",
          "[snapshot][surface]") {
  stage s;
  const sse::channel c = s.open("c", snapshots_that_keep(1));
  set_values(c, "a-b-c-d");
  CHECK(come_back(s, c, "1") == gap_in_pass(7, 1, 1, 8) + pass_of("bcd"));
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
  CHECK(come_back(s, c, "1", "ann") == pass_of("ky"));
  CHECK(come_back(s, c, "1", "bob") == gap_in_pass(5, 1, 1, 6) + pass_of("ky"));
  CHECK(come_back(s, c, "1") == pass_of("y"));
}

TEST_CASE("snapshot: keys that had to be forgotten are announced to who comes back",
          "[snapshot][surface]") {
  stage s;
  sse::channel_options o = snapshots_that_keep(1);
  o.max_keys = 2;
  const sse::channel c = s.open("c", std::move(o));
  set_values(c, "xabc");  // b and c are known
  CHECK(come_back(s, c, "1") == gap_in_pass(4, 1, 1, 5) + pass_of("bc"));
  CHECK(come_back(s, c, "2") == pass_of("bc"));
}

TEST_CASE("snapshot: what was before the channel opened is announced, then the values come",
          "[snapshot][surface]") {
  stage s{{.first_id = 100}};
  sse::channel c = s.open("c", snapshots_that_keep(1));
  set_values(c, "ab");
  CHECK(come_back(s, c, "5") == gap_in_pass(102, 5, 5, 103) + pass_of("ab"));
  CHECK(come_back(s, c, "100") == pass_of("ab"));
  s.hub.close_channel(c);
  c = s.open("c", snapshots_that_keep(1));
  set_values(c, "cd");
  CHECK(come_back(s, c, "101") == gap_in_pass(104, 101, 101, 105) + pass_of("cd"));
  CHECK(come_back(s, c, "102") == pass_of("cd"));
  CHECK(come_back(s, c, "0") == value_frame(104, "d"));  // everything retained
}

TEST_CASE("snapshot: who comes back slowly gets what is published meanwhile once",
          "[snapshot][surface][fault]") {
  stage s{{.flush_share = 1}};
  const sse::channel c = s.open("c", snapshots_that_keep(2));
  set_values(c, "abcdxx");
  const test::caller k = s.join(c, {.last_event_id = "1", .window = pass_of("b").size() + 3});
  set_values(c, "cyz");  // 7 to 9
  s.flush();
  s.let(k, 1 << 20);
  CHECK(s.take(k) == pass_of("bcdxyz"));
  set_values(c, "b");
  s.flush();
  CHECK(s.take(k) == value_frame(10, "b"));
  CHECK(c.stats().gaps == 0);
}

TEST_CASE("snapshot: whom the program says where it stands is told that by what it lost",
          "[snapshot][surface]") {
  stage s{{}, stage::as_given{}};
  const sse::channel c = s.open("c", snapshots_that_keep(1));
  set_values(c, "a-bc");
  auto v = sse::admit();
  v.join(c);
  CHECK(s.take(s.accept({}, std::move(v).after(1))) ==
        gap_in_pass(4, 1, 1, 5) + pass_of("bc") + "id: 4\n\n");
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
  CHECK(come_back(s, c, "1") == value_frame(2, "b") + pass_of("cd"));
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
  CHECK(s.take(k) == pass_of("ab"));
}
