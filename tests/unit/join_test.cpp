// hub.join and hub.leave: the channels of a live stream change.
#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "dechunk.hpp"
#include "random_source.hpp"
#include "stage.hpp"

namespace {

using sse::join_error;
using test::completion_stage;
using test::frame;
using test::frames;
using test::quiet;
using test::stage;

/// Its streams are told where they stand, unless `o` says otherwise.
struct standing_stage : test::stage {
  explicit standing_stage(const sse::hub_options& o = {}) : test::stage{o, as_given{}} {}
};

}  // namespace

TEST_CASE("a live stream joins a channel: what is published from then on, in order",
          "[join][surface]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  const test::caller k = s.join(a);
  s.put(b);  // 1: before it joined
  s.put(a);
  CHECK(s.hub.join(k.id, b) == join_error::none);
  s.put(b);
  s.put(a);
  s.flush();
  CHECK(s.take(k) == frames(2, 4));
  CHECK(b.subscribers() == 1);
  CHECK(s.hub.join(k.id, b) == join_error::joined);
}

TEST_CASE("a live stream leaves a channel: nothing of it is sent any more", "[join][surface]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  const test::caller k = s.join({}, {a, b});
  s.put(a);
  s.put(b);
  s.put(a);
  CHECK(s.hub.leave(k.id, a));
  CHECK_FALSE(s.hub.leave(k.id, a));
  s.put(a);
  s.put(b);
  s.flush();
  CHECK(s.take(k) == frame(2, "e", "2") + frame(5, "e", "5"));
  CHECK(a.subscribers() == 0);

  CHECK(s.hub.leave(k.id, b));
  s.put(b);
  s.flush();
  CHECK(s.take(k).empty());
  CHECK_FALSE(s.closed(k));
  CHECK(s.hub.join(k.id, a) == join_error::none);
  s.put(a);
  s.flush();
  CHECK(s.take(k) == frames(7, 7));
}

TEST_CASE("a half-sent event is finished by who leaves", "[join][surface]") {
  for (const bool transient : {false, true}) {
    for (const bool two : {false, true}) {
      CAPTURE(transient, two);
      stage s;
      sse::channel a = s.open("a", quiet());
      sse::channel b = s.open("b", quiet());
      const test::caller k = two ? s.join({.window = 9}, {a, b}) : s.join({.window = 9}, {a});
      for (int i = 0; i < 3; ++i)
        REQUIRE(a.publish({.type = "e", .data = "a long one"}, {.transient = transient}));
      s.flush();
      CHECK(s.hub.leave(k.id, a));
      if (two) s.put(b, "b");
      s.let(k);
      const sse::event_id id = transient ? 0 : 1;
      CHECK(s.take(k) == frame(id, "e", "a long one") +
                             (two ? frame(transient ? 1 : 4, "e", "b") : std::string{}));
      CHECK(a.subscribers() == 0);
      CHECK(s.hub.join(k.id, a) == join_error::none);
      REQUIRE(a.publish({.type = "e", .data = "x"}, {.transient = transient}));
      s.flush();
      CHECK(s.take(k).ends_with("data: x\n\n"));
    }
  }
}

TEST_CASE("who leaves while a write is pending gets what is under way, and no more",
          "[join][surface]") {
  completion_stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  const test::caller k = s.join({}, {a, b});
  s.put_many(a, 2);
  s.flush();
  CHECK(s.hub.leave(k.id, a));
  s.put(a);
  s.put(b);
  for (int i = 0; i < 5; ++i) {
    s.hub.written(k.id, s.net.complete(k.peer));
    s.flush();
  }
  CHECK(s.take(k) == frames(1, 2) + frames(4, 4));
  CHECK(a.subscribers() == 0);
}

TEST_CASE("join says why it did not", "[join][surface]") {
  sse::hub_options o;
  o.max_joins = 2;
  stage s{o};
  stage other;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  sse::channel c = s.open("c", quiet());
  const test::caller k = s.join(a);
  CHECK(s.hub.join(k.id, other.open("x", quiet())) == join_error::another_hub);
  CHECK_FALSE(s.hub.leave(k.id, other.open("y", quiet())));
  sse::channel_options own = quiet();
  own.own_sequence = true;
  CHECK(s.hub.join(k.id, s.open("own", std::move(own))) == join_error::another_sequence);
  sse::channel_options small = quiet();
  small.max_subscribers = 1;
  sse::channel full = s.open("full", std::move(small));
  (void)s.join(full);
  CHECK(s.hub.join(k.id, full) == join_error::full);
  CHECK(s.hub.join(k.id, b) == join_error::none);
  CHECK(s.hub.join(k.id, c) == join_error::too_many);
  CHECK(s.hub.leave(k.id, b));
  s.hub.seal(c);
  CHECK(s.hub.join(k.id, c) == join_error::sealed);
  join_error in_hook = join_error::none;
  s.hub.on_wanted([&] { in_hook = s.hub.join(k.id, b); });
  s.put(a);
  CHECK(in_hook == join_error::in_hook);
  s.hub.on_wanted({});
  s.hub.close(k.id);
  CHECK(s.hub.join(k.id, b) == join_error::no_session);
  CHECK_FALSE(s.hub.leave(k.id, a));
  for (int i = 0; i <= static_cast<int>(join_error::in_hook); ++i)
    CHECK(to_string(static_cast<join_error>(i)) != "unknown");
}

TEST_CASE("a transport hears of each stream that gets values, also of one that joins them later",
          "[join]") {
  struct hearing : sse::testing::memory_transport {
    std::vector<std::size_t> heard{};
    void carries_values(connection& c) noexcept { heard.push_back(c.index); }
  };
  using heard = std::vector<std::size_t>;
  test::basic_stage<hearing> s;
  CHECK(s.hub.join({}, {}) != join_error::none);  // no stream was ever there
  sse::channel_options o = quiet();
  o.on_lag = sse::lag_policy::coalesce;
  sse::channel values = s.open("values", std::move(o));
  sse::channel events = s.open("events", quiet());
  const test::caller first = s.join(values);
  const test::caller second = s.join(events);
  CHECK(s.net.heard == heard{first.peer});
  CHECK(s.hub.join(second.id, s.open("more", quiet())) == join_error::none);
  CHECK(s.net.heard == heard{first.peer});
  CHECK(s.hub.join(second.id, values) == join_error::none);
  CHECK(s.net.heard == heard{first.peer, second.peer});
  s.hub.close(first.id);
  CHECK(s.hub.join(first.id, values) == join_error::no_session);
  CHECK(s.net.heard == heard{first.peer, second.peer});
}

TEST_CASE("presence follows joins and leaves", "[join][surface]") {
  stage s;
  std::vector<std::string> seen;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  sse::channel c = s.open("c", quiet());
  const test::caller* joins = nullptr;
  s.hub.on_presence([&](sse::channel where, std::string_view key, bool there) {
    seen.push_back(std::string{key} + (there ? " in " : " out of ") + std::string{where.name()});
    if (there && joins != nullptr && where == b)
      CHECK(s.hub.join(joins->id, c) == join_error::none);
  });
  const test::caller k = s.join(a, {.key = "ann"});
  joins = &k;
  CHECK(s.hub.join(k.id, b) == join_error::none);
  CHECK(seen == std::vector<std::string>{"ann in a", "ann in b", "ann in c"});
  joins = nullptr;
  seen.clear();
  CHECK(s.hub.leave(k.id, a));
  CHECK(seen == std::vector<std::string>{"ann out of a"});
  s.hub.close(k.id);
  CHECK(seen == std::vector<std::string>{"ann out of a", "ann out of b", "ann out of c"});
}

TEST_CASE("a stream that is cut while it leaves takes nobody else's presence along",
          "[join][surface]") {
  stage s;
  std::string seen;
  sse::channel c = s.open("c", quiet());
  s.hub.on_presence([&](sse::channel, std::string_view, bool there) { seen += there ? "+" : "-"; });
  const test::caller stays = s.join(c, {.key = "ann"});
  const test::caller leaves = s.join(c, {.key = "ann", .window = 5});
  s.put(c);
  s.flush();
  CHECK(s.hub.leave(leaves.id, c));  // but for the rest of one event
  CHECK(c.subscribers() == 2);
  s.hub.close(leaves.id);
  CHECK(c.subscribers() == 1);
  CHECK(seen == "+");
  s.hub.close(stays.id);
  CHECK(seen == "+-");
}

TEST_CASE("a hook that tells of a user may change what its stream reads", "[join][surface]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  sse::channel c = s.open("c", quiet());
  sse::session_id opened{};
  std::vector<std::string> seen;
  s.hub.on_opened([&](sse::session_id id, const sse::no_user&) { opened = id; });
  s.hub.on_presence([&](sse::channel where, std::string_view, bool there) {
    seen.push_back((there ? "+" : "-") + std::string{where.name()});
    if (!there || where != a) return;
    CHECK(s.hub.leave(opened, a));
    CHECK(s.hub.join(opened, c) == join_error::none);
  });
  const test::caller k = s.join({.key = "ann"}, {a, b});
  CHECK(seen == std::vector<std::string>{"+a", "-a", "+c", "+b"});
  s.put(a);
  s.put(b);
  s.put(c);
  s.flush();
  CHECK(s.take(k) == frames(2, 3));
  CHECK(a.subscribers() == 0);
  s.hub.close(k.id);
  CHECK(seen == std::vector<std::string>{"+a", "-a", "+c", "+b", "-b", "-c"});
}

TEST_CASE("who leaves the only channel that is not sealed is at its end", "[join][surface]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  const test::caller k = s.join({}, {a, b});
  s.put(a);
  s.hub.seal(a);
  CHECK(s.hub.leave(k.id, b));
  s.flush();
  CHECK(s.take(k) == frames(1, 1));
  CHECK(s.closed(k));
}

TEST_CASE("a slow reader is not cut for a channel that it left", "[join][surface]") {
  stage s;
  sse::channel_options o = quiet(1);
  o.max_lag = 200;
  sse::channel a = s.open("a", std::move(o));
  sse::channel b = s.open("b", quiet());
  const test::caller k = s.join({.window = 5}, {a, b});
  s.put(a);
  s.flush();
  CHECK(s.hub.leave(k.id, a));
  for (int i = 0; i < 50; ++i) {
    s.put(a);
    s.flush();
  }
  CHECK_FALSE(s.closed(k));
  s.put(b, "b");
  s.let(k);
  CHECK(s.take(k) == frames(1, 1) + frame(52, "e", "b"));
}

TEST_CASE("who leaves a channel whose snapshot waits for room gets no more of it", "[join]") {
  stage s;
  sse::channel_options state = quiet();
  state.start = sse::start_at::snapshot;
  sse::channel a = s.open("a", std::move(state));
  sse::channel b = s.open("b", quiet());
  for (const char* key : {"1", "2", "3"})
    REQUIRE(a.publish({.type = "e", .data = key}, {.key = key}));
  const test::caller k = s.join({.window = 5}, {a, b});
  s.put(b, "b");
  CHECK(s.hub.leave(k.id, a));
  s.let(k);
  const std::string got = s.take(k);
  CHECK(got.find("data: 2\n") == got.npos);
  CHECK(got.ends_with(frame(4, "e", "b")));
}

TEST_CASE("who leaves a channel gets the rest of an event of what was woven, and no more of it",
          "[join]") {
  for (std::size_t window = 1; window < 120; ++window) {
    CAPTURE(window);
    stage s;
    sse::channel_options state = quiet();
    state.start = sse::start_at::snapshot;
    sse::channel a = s.open("a", std::move(state));
    sse::channel_options all = quiet();
    all.start = sse::start_at::all;
    sse::channel b = s.open("b", std::move(all));
    REQUIRE(a.publish({.type = "e", .data = "a"}, {.key = "1"}));
    for (int i = 0; i < 3; ++i) s.put(b, "b");
    REQUIRE(a.publish({.type = "e", .data = "a"}, {.key = "2"}));
    const test::caller k = s.join({.window = window}, {a, b});
    const std::size_t had = s.peer(k).received.size();
    CHECK(s.hub.leave(k.id, b));
    s.let(k);
    const std::string got = s.take(k);
    const std::size_t end = got.find("\n\n", had < 2 ? 0 : had - 2);
    REQUIRE(end != got.npos);
    CHECK(got.find("data: b\n", end) == got.npos);  // but for what was half sent
    CHECK(got.ends_with("\n\n"));
  }
}

TEST_CASE("who joins a channel with ids as the first such is told where it stands", "[join]") {
  for (const bool told : {true, false}) {
    sse::hub_options o;
    o.position = told;
    standing_stage s{o};
    sse::channel_options bare = quiet();
    bare.ids = sse::id_mode::none;
    sse::channel a = s.open("a", std::move(bare));
    sse::channel b = s.open("b", quiet());
    sse::channel c = s.open("c", quiet());
    s.put(b);
    const test::caller k = s.join(a);
    CHECK(s.hub.join(k.id, b) == join_error::none);
    CHECK(s.hub.join(k.id, c) == join_error::none);
    s.flush();
    CHECK(s.take(k) == (told ? "id: 1\n\n" : ""));
    CHECK(s.hub.leave(k.id, b));
    CHECK(s.hub.join(k.id, b) == join_error::none);  // it stands by the other one
    s.flush();
    CHECK(s.take(k).empty());
  }
}

TEST_CASE("who leaves the snapshot that was to say where the stream stands is told", "[join]") {
  standing_stage s;
  sse::channel_options state = quiet();
  state.start = sse::start_at::snapshot;
  sse::channel a = s.open("a", std::move(state));
  sse::channel_options late = quiet();
  late.start = sse::start_at::snapshot;
  sse::channel b = s.open("b", std::move(late));
  const test::caller k = s.join({.preamble = "HEAD", .window = 2}, {a, b});
  s.put(a);
  CHECK(s.hub.leave(k.id, a));
  CHECK(s.hub.leave(k.id, b));
  s.let(k);
  CHECK(s.take(k) == "HEAD");
  CHECK(s.hub.join(k.id, b) == join_error::none);
  s.flush();
  CHECK(s.take(k) == "id: 1\n\n");
}

/// The ids that a reader gets with events under way, of which `steps` writes of `window` bytes are
/// done when it joins a channel for its snapshot, and leaves it.
template <class Stage>
std::vector<std::uint64_t> ids_of_one_that_leaves(std::size_t window, int steps) {
  Stage s{{}, typename Stage::as_given{}};
  sse::channel a = s.open("a", quiet());
  sse::channel_options state = quiet();
  state.max_keys = 10;
  sse::channel b = s.open("b", std::move(state));
  const test::caller k = s.join(a);
  const auto take = [&](std::size_t n) {
    if constexpr (std::is_same_v<Stage, completion_stage>)
      s.hub.written(k.id, s.net.complete(k.peer, n));
    s.let(k, n);
  };
  take(SIZE_MAX);
  s.peer(k).window = window;
  s.put_many(a, 3);
  s.flush();
  for (int i = 0; i < steps; ++i) take(window);
  CHECK(s.hub.join(k.id, b, {.start = sse::start_at::snapshot}) == join_error::none);
  CHECK(s.hub.leave(k.id, b));
  for (int i = 0; i < 5; ++i) take(SIZE_MAX);
  return test::ids_in(s.take(k));
}

TEST_CASE("who leaves a snapshot with an event under way is not told an id below that one",
          "[join]") {
  const auto rise = [](const std::vector<std::uint64_t>& ids) {
    return std::is_sorted(ids.begin(), ids.end()) && ids.front() == 0 && ids.back() == 3;
  };
  for (std::size_t window = 0; window < 90; ++window) {
    CAPTURE(window);
    CHECK(rise(ids_of_one_that_leaves<stage>(window, 0)));
    CHECK(rise(ids_of_one_that_leaves<completion_stage>(window, 0)));
    CHECK(rise(ids_of_one_that_leaves<completion_stage>(window, 1)));
  }
}

TEST_CASE("who joins while an event is half sent is told of a loss behind its id", "[join]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet(1));
  const test::caller k = s.join(a, {.window = 5});
  s.put(a);
  s.flush();  // 1 is half sent
  s.put(a);
  s.put(b);
  s.put(b);  // 3 is gone
  REQUIRE(s.hub.join(k.id, b, {.after = 1}) == join_error::none);
  s.let(k);
  const std::string got = s.take(k);
  CHECK(test::count(got, "event: gap") == 1);
  CHECK(test::ids_in(got) == std::vector<std::uint64_t>{1, 1, 2, 4});
}

TEST_CASE("who joins while it gets a snapshot is told where it stands, and gets what has no key",
          "[join]") {
  standing_stage s;
  sse::channel_options state = quiet();
  state.start = sse::start_at::snapshot;
  sse::channel a = s.open("a", std::move(state));
  sse::channel b = s.open("b", quiet());
  const test::caller k = s.join({.preamble = "HEAD", .window = 2}, {a});
  s.put(a);  // without a key
  CHECK(s.hub.join(k.id, b) == join_error::none);
  s.let(k);
  CHECK(s.take(k) == "HEADid: 0\n\nid: 0\n\nid: 1-0\n" + frame(0, "e", "1") + "id: 1\n\n");
}

TEST_CASE("who gets events without ids beside a snapshot is told where it stands too", "[join]") {
  standing_stage s;
  sse::channel_options state = quiet();
  state.start = sse::start_at::snapshot;
  sse::channel_options bare = state;
  bare.ids = sse::id_mode::none;
  sse::channel a = s.open("a", std::move(state));
  sse::channel b = s.open("b", std::move(bare));
  CHECK(a.publish({.data = "v"}, {.key = "k"}));
  const test::caller k = s.join({.preamble = "HEAD", .window = 2}, {a, b});
  CHECK(b.publish({.data = "without a key"}));
  s.let(k);
  const std::string got = s.take(k);
  CHECK(test::count(got, "data: without a key\n") == 1);
  CHECK(test::count(got, "id: 1\n\n") == 1);
}

TEST_CASE("who left channels with ids of one sequence joins none of another", "[join]") {
  stage s;
  sse::channel_options own = quiet();
  own.own_sequence = true;
  sse::channel mine = s.open("mine", sse::channel_options{own});
  sse::channel other = s.open("other", sse::channel_options{own});
  sse::channel shared = s.open("shared", quiet());
  sse::channel_options bare = own;
  bare.ids = sse::id_mode::none;
  sse::channel no_ids = s.open("no ids", std::move(bare));
  const test::caller a = s.join(mine);
  CHECK(s.hub.leave(a.id, mine));
  CHECK(s.hub.join(a.id, other) == join_error::another_sequence);
  CHECK(s.hub.join(a.id, shared) == join_error::another_sequence);
  CHECK(s.hub.join(a.id, no_ids) == join_error::none);
  const test::caller b = s.join(shared);
  CHECK(s.hub.leave(b.id, shared));
  CHECK(s.hub.join(b.id, mine) == join_error::another_sequence);
  CHECK(s.hub.join(b.id, shared) == join_error::none);
  const test::caller c = s.join(no_ids);
  CHECK(s.hub.leave(c.id, no_ids));
  CHECK(s.hub.join(c.id, mine) == join_error::none);
}

TEST_CASE("a channel without ids between two sequences makes no way from one to the other",
          "[join]") {
  stage s;
  sse::channel_options own = quiet();
  own.own_sequence = true;
  own.first_id = 1'000'000;
  sse::channel mine = s.open("mine", std::move(own));
  sse::channel_options none = quiet();
  none.ids = sse::id_mode::none;
  sse::channel no_ids = s.open("no ids", std::move(none));
  sse::channel shared = s.open("shared", quiet());
  const test::caller k = s.join(mine);
  CHECK(s.hub.leave(k.id, mine));
  CHECK(s.hub.join(k.id, no_ids) == join_error::none);
  CHECK(s.hub.join(k.id, shared) == join_error::another_sequence);
}

TEST_CASE("who leaves the channel whose heartbeat it had has the next one's in time", "[join]") {
  stage s;
  sse::channel_options seldom;
  seldom.heartbeat.every = sse::duration::seconds(3600);
  sse::channel_options often;
  often.heartbeat.every = sse::duration::seconds(15);
  sse::channel a = s.open("a", std::move(seldom));
  sse::channel b = s.open("b", std::move(often));
  const test::caller k = s.join({}, {a, b});
  s.at(1000);
  CHECK(s.hub.leave(k.id, a));
  s.at(14'999);
  CHECK(s.take(k).empty());
  s.at(15'000);
  CHECK(s.take(k) == ": keep-alive\n\n");
}

TEST_CASE("who leaves late has the next channel's heartbeat at once, not a period later",
          "[join]") {
  stage s;
  sse::channel_options seldom;
  seldom.heartbeat.every = sse::duration::seconds(3600);
  sse::channel_options often;
  often.heartbeat.every = sse::duration::seconds(15);
  sse::channel a = s.open("a", std::move(seldom));
  sse::channel b = s.open("b", std::move(often));
  const test::caller k = s.join({}, {a, b});
  s.at(20'000);
  CHECK(s.hub.leave(k.id, a));
  CHECK(s.hub.next_deadline() == sse::time_point::milliseconds(20'000));
  s.at(20'000);
  CHECK(s.take(k) == ": keep-alive\n\n");
  s.at(34'999);
  CHECK(s.take(k).empty());
}

TEST_CASE("who leaves in on_opened was never present", "[join]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  std::string seen;
  s.hub.on_opened([&](sse::session_id id, const sse::no_user&) { CHECK(s.hub.leave(id, a)); });
  s.hub.on_presence([&](sse::channel where, std::string_view, bool there) {
    seen += (there ? "+" : "-") + std::string{where.name()};
  });
  const test::caller k = s.join({.key = "ann"}, {a, b});
  CHECK(seen == "+b");
  s.hub.close(k.id);
  CHECK(seen == "+b-b");
}

TEST_CASE("a stream outlives a channel that it left with an event half sent", "[join]") {
  for (const bool transient : {false, true}) {
    for (const bool pending : {false, true}) {
      CAPTURE(transient, pending);
      const auto run = [&](auto& s) {
        sse::channel a = s.open("a", quiet());
        sse::channel b = s.open("b", quiet());
        const test::caller k = s.join({.window = 9}, {a, b});
        const test::caller stays = s.join(a);
        for (int i = 0; i < 3; ++i)
          REQUIRE(a.publish({.type = "e", .data = "a long one"}, {.transient = transient}));
        s.flush();
        if constexpr (requires { s.net.complete(k.peer); }) {
          if (!pending) s.hub.written(k.id, s.net.complete(k.peer));
        }
        CHECK(s.hub.leave(k.id, a));
        CHECK(s.hub.close_channel(a));
        CHECK(s.closed(stays));
        CHECK_FALSE(s.closed(k));
        CHECK_FALSE(a);
        CHECK_FALSE(s.hub.find_channel("a"));
        sse::channel again = s.open("a", quiet());
        s.put(again, "not for it");
        s.put(b, "b");
        for (int i = 0; i < 4; ++i) {
          s.peer(k).window = SIZE_MAX;
          if constexpr (requires { s.net.complete(k.peer); })
            s.hub.written(k.id, s.net.complete(k.peer));
          s.hub.writable(k.id);
          s.flush();
        }
        CHECK(s.take(k) ==
              frame(transient ? 0 : 1, "e", "a long one") + frame(transient ? 2 : 5, "e", "b"));
        std::size_t channels = 0;
        s.hub.for_each_channel([&](sse::channel) { ++channels; });
        CHECK(channels == 2);
      };
      if (pending) {
        completion_stage s;
        run(s);
      } else {
        stage s;
        run(s);
      }
    }
  }
}

TEST_CASE("a hub ends with a stream that waits for the rest of a closed channel's event",
          "[join]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  const test::caller k = s.join({.window = 9}, {a});
  s.put(a);
  s.flush();
  CHECK(s.hub.leave(k.id, a));
  CHECK(s.hub.close_channel(a));
  CHECK_FALSE(s.closed(k));
  s.hub.close(k.id);
  std::size_t channels = 0;
  s.hub.for_each_channel([&](sse::channel) { ++channels; });
  CHECK(channels == 0);
  sse::channel b = s.open("b", quiet());
  const test::caller last = s.join({.window = 9}, {b});
  s.put(b);
  s.flush();
  CHECK(s.hub.leave(last.id, b));
  CHECK(s.hub.close_channel(b));
}

TEST_CASE("a join begins where it says, while ids rise", "[join]") {
  stage s;
  sse::channel_options bare = quiet();
  bare.ids = sse::id_mode::none;
  sse::channel control = s.open("control", std::move(bare));
  sse::channel_options keyed = quiet();
  keyed.max_keys = 10;
  sse::channel a = s.open("a", std::move(keyed));
  for (const char* key : {"x", "y", "x", "y"}) REQUIRE(a.publish({.data = "v"}, {.key = key}));
  const auto got = [&](const sse::join_start& from) {
    const test::caller k = s.join(control);
    CHECK(s.hub.join(k.id, a, from) == join_error::none);
    s.flush();
    std::string ids;
    const std::string bytes = s.take(k);
    for (std::size_t at = bytes.find("id: "); at != bytes.npos; at = bytes.find("id: ", at + 1))
      ids += bytes.substr(at + 4, 1);
    s.hub.close(k.id);
    return ids;
  };
  CHECK(got({}).empty());
  CHECK(got({.start = sse::start_at::all}) == "1234");
  CHECK(got({.backlog = 3}) == "234");
  CHECK(got({.start = sse::start_at::snapshot}).empty());  // values have none
  CHECK(got({.after = 1}) == "234");
  CHECK(got({.after = 0}) == "1234");
  CHECK(got({.after = 9}) == "4");  // a gap frame: nobody has got that one
}

TEST_CASE("a join with a start that the stream has passed is refused", "[join]") {
  stage s;
  sse::channel_options state = quiet();
  state.start = sse::start_at::snapshot;
  sse::channel a = s.open("a", std::move(state));
  sse::channel b = s.open("b", quiet());
  REQUIRE(a.publish({.data = "1"}, {.key = "k"}));
  const test::caller k = s.join({.window = 0}, {b});
  for (const sse::join_start& from : {sse::join_start{.start = sse::start_at::all},
                                      sse::join_start{.backlog = 1}, sse::join_start{.after = 0}}) {
    CHECK(s.hub.join(k.id, a, from) == join_error::moved_on);
  }
  CHECK(a.subscribers() == 0);
  CHECK(s.hub.join(k.id, a, {.after = 1}) == join_error::none);
  CHECK(s.hub.leave(k.id, a));
  s.put(b, "b");  // 2, which waits
  REQUIRE(a.publish({.data = "3"}, {.key = "k"}));
  CHECK(s.hub.join(k.id, a, {.after = 2}) == join_error::none);
  s.let(k);
  CHECK(s.take(k) == frame(2, "e", "b") + frame(3, "", "3"));
  CHECK(s.hub.leave(k.id, a));
  CHECK(s.hub.leave(k.id, b));
  CHECK(s.hub.join(k.id, a, {.start = sse::start_at::all}) == join_error::moved_on);
  CHECK(s.hub.join(k.id, a, {.after = 3}) == join_error::none);
}

TEST_CASE("a join that chooses keys, and events without one that the stream has passed, is refused",
          "[join][selection]") {
  stage s;
  sse::channel_options keyed = quiet();
  keyed.max_keys = 10;
  const sse::channel a = s.open("a", std::move(keyed));
  const sse::channel b = s.open("b", quiet());
  s.put(a, "fill 1");
  const test::caller k = s.join({}, {b});
  s.put(b, "b");  // 2
  s.flush();
  const std::string_view keys[] = {"k"};
  CHECK(s.hub.join(k.id, a, {.keys = keys}, {.backlog = 1}) == join_error::moved_on);
  CHECK(s.hub.join(k.id, a, {.keys = keys}) == join_error::none);
}

namespace {

/// One stream whose channels change at random, against what it must get.
template <class Stage>
void wander(std::uint64_t seed) {
  CAPTURE(seed);
  test::random_source random{seed};
  const auto chance = [&](std::uint64_t n) { return random.below(n) == 0; };
  Stage s;
  std::vector<sse::channel> all;
  for (int i = 0; i < 5; ++i) all.push_back(s.open("c" + std::to_string(i), quiet()));
  const bool chunked = chance(3);
  const test::caller k = s.join({.chunked = chunked, .window = 0}, {all[0]});
  std::map<std::size_t, std::set<std::string>> owed;  // by channel, while it is joined
  owed[0];
  std::set<std::string> may;  // was published while it was joined, and left meanwhile
  int n = 0;
  for (int step = 0; step < 400; ++step) {
    const std::size_t i = random.below(all.size());
    switch (random.below(6)) {
      case 0:
        if (owed.contains(i)) {
          REQUIRE(s.hub.leave(k.id, all[i]));
          may.merge(owed[i]);
          owed.erase(i);
        } else {
          REQUIRE(s.hub.join(k.id, all[i]) == join_error::none);
          owed[i];
        }
        break;
      case 1:
        s.peer(k).window = chance(3) ? SIZE_MAX : random.below(60);
        s.hub.writable(k.id);
        break;
      case 2:
        if constexpr (std::is_same_v<Stage, completion_stage>)
          s.hub.written(k.id, s.net.complete(k.peer, random.below(60)));
        break;
      case 3: s.flush(); break;
      default: {
        const std::string data = "<" + std::to_string(++n) + ">";
        REQUIRE(all[i].publish({.data = data}, {.transient = chance(3)}));
        if (owed.contains(i)) owed[i].insert(data);
      }
    }
  }
  for (int turns = 0; turns < 2000; ++turns) {
    s.peer(k).window = SIZE_MAX;
    if constexpr (std::is_same_v<Stage, completion_stage>)
      s.hub.written(k.id, s.net.complete(k.peer));
    s.hub.writable(k.id);
    s.flush();
  }
  REQUIRE_FALSE(s.closed(k));
  bool ended = false;
  const std::string got = chunked ? test::dechunk(s.take(k), ended) : s.take(k);
  CHECK(got.find("gap") == std::string::npos);
  int last = 0;
  for (std::size_t at = got.find('<'); at != got.npos; at = got.find('<', at + 1)) {
    const std::string data = got.substr(at, got.find('>', at) + 1 - at);
    const int number = std::stoi(data.substr(1));
    CHECK(number > last);  // in the order in which they were published
    last = number;
    std::size_t was = may.erase(data);
    for (auto& [where, what] : owed) was += what.erase(data);
    CHECK(was == 1);
  }
  for (const auto& [where, what] : owed) CHECK(what.empty());
}

}  // namespace

TEST_CASE("whatever a stream joins and leaves, it gets what it joined, once and in order",
          "[join][surface][simulation]") {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    wander<stage>(seed);
    wander<completion_stage>(seed);
  }
}
