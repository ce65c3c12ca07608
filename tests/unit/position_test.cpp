// Where a stream begins, told to a reader that brings no id: it misses nothing, wherever it is cut.
#include <cstdint>
#include <string>
#include <string_view>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using test::frame;
using test::frames;
using test::gap_frame;

struct told_stage : test::stage {
  explicit told_stage(const sse::hub_options& o = {}) : test::stage{o, as_given{}} {}
};

std::string position(std::uint64_t id) { return "id: " + std::to_string(id) + "\n\n"; }

sse::channel_options numbered(sse::event_id first = 100) {
  return {.own_sequence = true,
          .first_id = first,
          .heartbeat = {.mode = sse::heartbeat_options::pace::off}};
}

/// As a browser does: the last id that came whole.
std::string last_id(std::string_view stream) {
  const auto ids = test::ids_in(stream.substr(0, stream.rfind("\n\n") + 1));
  return ids.empty() ? std::string{} : std::to_string(ids.back());
}

}  // namespace

TEST_CASE("fault: what is published while a reader is away that has had no event is not lost",
          "[resume][position]") {
  told_stage s{{.idle = sse::duration::seconds(300)}};
  sse::channel c = s.open("c", numbered());
  s.put_many(c, 3);
  const auto k = s.join(c);
  s.at(300'000);  // the server ends it: it is idle
  REQUIRE(s.closed(k));
  const std::string id = last_id(s.take(k));
  CHECK(id == "103");
  s.put(c);
  const auto back = s.join(c, {.last_event_id = id});
  CHECK(s.take(back) == frames(104, 104));
}

TEST_CASE("position: how far it is asked for does not depend on who was served before",
          "[resume][position]") {
  told_stage s;
  s.hub.on_sees([](const sse::no_user&, std::string_view, std::string_view audience) {
    return audience == "all";
  });
  sse::channel_options o = numbered();
  o.keep = 10'000;
  o.start = sse::start_at::all;
  sse::channel c = s.open("c", std::move(o));
  for (int i = 0; i < 1000; ++i) s.put(c, "x", "nobody");
  for (int i = 0; i < 2; ++i) {  // the first one's look leaves 24 questions of its turn
    CHECK(s.take(s.join(c)) == position(1100));
    s.hub.flush();
  }
}

TEST_CASE("position: a live stream opens with it, behind what else opens a stream",
          "[resume][position]") {
  told_stage s{{.retry = sse::duration::seconds(2), .opening = "hello"}};
  sse::channel c = s.open("c", numbered());
  const auto first = s.join(c, {.preamble = "HEAD\n"});
  CHECK(s.take(first) == "HEAD\nretry: 2000\n\n: hello\n\n" + position(100));
  s.put_many(c, 2);
  s.flush();
  CHECK(s.take(first) == frames(101, 102));
  CHECK(s.take(s.join(c)) == "retry: 2000\n\n: hello\n\n" + position(102));
}

TEST_CASE("position: only for a reader that has no id, on a channel that has ids",
          "[resume][position]") {
  told_stage s;
  sse::channel c = s.open("c", numbered());
  s.put_many(c, 3);
  CHECK(s.take(s.join(c, {.last_event_id = "102"})) == frames(103, 103));
  CHECK(s.take(s.join(c, {.query = "last_id=102"})) == frames(103, 103));
  CHECK(s.take(s.join(c, {.last_event_id = "nonsense"})) == position(103));

  sse::channel bare = s.open("bare", {.ids = sse::id_mode::none});
  CHECK(s.take(s.join(bare)).empty());

  told_stage off{{.position = false}};
  CHECK(off.take(off.join(off.open("c", numbered()))).empty());
}

TEST_CASE("position: a verdict's own is told", "[resume][position]") {
  told_stage s;
  sse::channel c = s.open("c", numbered());
  s.put_many(c, 3);
  CHECK(s.take(s.accept({}, sse::admit().join(c).after(101))) == position(101) + frames(102, 103));
}

TEST_CASE("position: a verdict says whether it is told", "[resume][position]") {
  told_stage s;
  told_stage off{{.position = false}};
  sse::channel c = s.open("c", numbered());
  sse::channel_options o = numbered();
  o.start = sse::start_at::snapshot;
  sse::channel state = s.open("state", std::move(o));
  sse::channel there = off.open("c", numbered());
  CHECK(s.take(s.accept({}, sse::admit().join(c).position(false))).empty());
  CHECK(s.take(s.accept({}, sse::admit().join(state).position(false))).empty());
  CHECK(s.take(s.accept({}, sse::admit().join(state).position(true))) == position(100));
  CHECK(off.take(off.accept({}, sse::admit().join(there).position(true))) == position(100));
}

TEST_CASE("position: a gap frame tells it", "[resume][position]") {
  told_stage s;
  sse::channel_options o = numbered();
  o.keep = 1;
  sse::channel c = s.open("c", std::move(o));
  s.put_many(c, 5);
  CHECK(s.take(s.join(c, {.last_event_id = "101"})) ==
        gap_frame(104, 101, 105, 3) + frames(105, 105));
  CHECK(s.take(s.join(c, {.last_event_id = "900"})) == gap_frame(105, 900, 106, -1));
}

TEST_CASE("position: in front of what is replayed to a reader without an id",
          "[resume][position]") {
  told_stage s;
  sse::channel_options o = numbered();
  o.start = sse::start_at::all;
  o.keep = 4;
  sse::channel c = s.open("c", std::move(o));
  CHECK(s.take(s.join(c)) == position(100));
  s.put_many(c, 6);
  CHECK(s.take(s.join(c)) == position(102) + frames(103, 106));
  CHECK(s.take(s.accept({}, sse::admit().join(c).backlog(2))) == position(104) + frames(105, 106));
  const auto cut = s.join(c, {.window = position(102).size()});
  const std::string id = last_id(s.take(cut));
  CHECK(s.take(s.join(c, {.last_event_id = id})) == frames(103, 106));
}

TEST_CASE("position: what is for others moves it, but leaves no byte later: X-09",
          "[resume][position]") {
  told_stage s;
  sse::channel c = s.open("c", numbered());
  s.put(c);
  s.put(c, "secret", "bob");
  const auto ann = s.join(c, {.key = "ann"});
  CHECK(s.take(ann) == position(102));
  s.put(c, "secret", "bob");
  s.flush();
  CHECK(s.take(ann).empty());
}

TEST_CASE("position: behind a snapshot, also one of nothing", "[resume][position]") {
  told_stage s;
  sse::channel_options o = numbered();
  o.start = sse::start_at::snapshot;
  sse::channel c = s.open("c", std::move(o));
  CHECK(s.take(s.join(c)) == position(100));
  for (const std::string_view key : {"a", "b", "a"})
    REQUIRE(c.publish({.data = key}, {.key = key}));
  REQUIRE(c.publish({.data = "no state"}));
  const std::string values = frame(0, "", "a") + frame(0, "", "b");
  const auto k = s.join(c);
  CHECK(s.take(k) == values + position(104));
  s.put(c);
  s.flush();
  CHECK(s.take(k) == frames(105, 105));
  // Cut inside, it has no id, and begins anew.
  const auto cut = s.join(c, {.window = values.size() - 3});
  CHECK(last_id(s.take(cut)).empty());
  CHECK(s.take(s.join(c)) == values + position(105));
}

TEST_CASE("position: one for a stream of several channels", "[resume][position]") {
  told_stage s{{.first_id = 50}};
  sse::channel a = s.open("a");
  sse::channel b = s.open("b");
  sse::channel bare = s.open("bare", {.ids = sse::id_mode::none});
  REQUIRE(a.publish({.data = "1"}));
  REQUIRE(b.publish({.data = "2"}));
  CHECK(s.take(s.join({}, {bare, a, b})) == position(52));
}

TEST_CASE("position: ids that are given begin at 0", "[resume][position]") {
  told_stage s;
  sse::channel c = s.open("c", {.ids = sse::id_mode::given,
                                .own_sequence = true,
                                .heartbeat = {.mode = sse::heartbeat_options::pace::off}});
  const auto k = s.join(c);
  const std::string id = last_id(s.take(k));
  CHECK(id == "0");
  REQUIRE(c.publish({.data = "x"}, {.id = 7}));
  CHECK(s.take(s.join(c, {.last_event_id = id})) == frame(7, "", "x"));
}

TEST_CASE("position: it is in a chunk, not in front of the body, and a retry stream has none",
          "[resume][position]") {
  told_stage s{{.caps = {.total = {.max = 1, .then = sse::when_full::retry_stream}}}};
  sse::channel c = s.open("c", numbered());
  const auto k = s.join(c, {.preamble = "HEAD\r\n\r\n", .chunked = true});
  CHECK(s.take(k) == "HEAD\r\n\r\n9\r\n" + position(100));
  const std::string turned_away = s.take(s.join(c));
  CHECK(turned_away.starts_with("retry: "));
  CHECK(test::count(turned_away, "id:") == 0);
}
