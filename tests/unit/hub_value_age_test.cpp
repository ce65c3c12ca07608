// Newest values that are too old to be sent: channel_options::max_value_age.
#include <string>
#include <string_view>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using namespace std::string_view_literals;

struct aging {
  explicit aging(sse::id_mode ids = sse::id_mode::automatic) : s{{.session_stats = true}} {
    sse::channel_options o = test::quiet(1000);
    o.on_lag = sse::lag_policy::coalesce;
    o.start = sse::start_at::snapshot;
    o.max_keys = 100;
    o.max_value_age = sse::duration::milliseconds(500);
    o.ids = ids;
    board = s.open("board", std::move(o));
    at(1000);
  }
  void at(std::int64_t ms) { s.hub.tick(sse::time_point::milliseconds(ms)); }
  void tick(std::string_view key, int value) const {
    const std::string data = std::string(key) + "=" + std::to_string(value);
    REQUIRE(board.publish({.data = data}, {.key = key}));
  }
  std::string next(const test::caller& k) {
    s.flush();
    return s.take(k);
  }
  [[nodiscard]] sse::session_counts counts(const test::caller& k) const {
    return s.hub.session_stats(k.id, board);
  }
  test::caller watch(std::vector<std::string_view> keys, test::ask a = {}) {
    return s.accept(a, sse::admit().join(board, {.keys = keys, .only_keys = true}));
  }

  test::stage s;
  sse::channel board{};
};

/// The frame that says that the value with this id is lost.
std::string lost(sse::event_id id) {
  return "event: gap\ndata: {\"requested\":" + std::to_string(id - 1) +
         ",\"first\":" + std::to_string(id + 1) + ",\"lost\":1}\n\n";
}

}  // namespace

TEST_CASE("value age: who is new gets no value that is too old, and no word of it",
          "[keyed][age]") {
  aging a;
  a.tick("a", 1);
  a.at(1400);
  a.tick("b", 1);
  a.at(1501);
  const test::caller all = a.s.join(a.board);
  const test::caller some = a.watch({"a", "b", "c"});
  const std::string got = a.next(all);
  CHECK(test::count(got, "b=1") == 1);
  CHECK(test::count(got, "a=1") == 0);
  CHECK(test::count(got, "gap") == 0);
  CHECK(a.s.take(some) == "data: b=1\n\n");
  a.tick("a", 2);  // it has a new one
  CHECK(test::count(a.next(all), "a=2") == 1);
  CHECK(a.s.take(some) == "data: a=2\n\n");
  CHECK(a.board.stats().dropped == 0);
}

TEST_CASE("value age: a slow reader is told of each value that it did not get in time",
          "[keyed][age]") {
  aging a;
  std::vector<sse::gap_notice> told;
  a.s.hub.on_gap([&](const sse::gap_notice& g) { told.push_back(g); });
  const test::caller all = a.s.join(a.board, {.window = 0});
  const test::caller some = a.watch({"a", "b"}, {.window = 0});
  (void)a.next(all);
  a.s.let(all, SIZE_MAX);
  a.s.let(some, SIZE_MAX);
  (void)a.s.take(all);
  (void)a.s.take(some);
  for (const test::caller& k : {all, some}) a.s.peer(k).window = 0;
  a.tick("a", 1);
  a.tick("a", 2);
  a.s.flush();
  a.at(1300);
  a.tick("b", 1);
  a.s.flush();
  a.at(1501);
  for (const test::caller& k : {all, some}) {
    told.clear();
    a.s.let(k, SIZE_MAX);
    const std::string got = a.s.take(k);
    CHECK(test::count(got, lost(2)) == 1);
    CHECK(test::count(got, "b=1") == 1);
    CHECK(test::count(got, "a=") == 0);
    REQUIRE(told.size() == 1);
    CHECK(told[0].session == k.id);
    CHECK(told[0].requested == 1);
    CHECK(told[0].first == 3);
    CHECK(told[0].lost == 1);
    CHECK(told[0].lost_known);
    CHECK(a.next(k).empty());
    CHECK(a.counts(k).delivered == 1);
    CHECK(a.counts(k).conflated == 1);
    CHECK(a.counts(k).lost == 1);
  }
  CHECK(a.board.stats().dropped == 2);
  CHECK(a.board.stats().gaps == 2);
}

TEST_CASE("value age: who comes back is told of the values that it missed and that are too old",
          "[keyed][age]") {
  aging a;
  a.tick("a", 1);
  const test::caller first = a.s.join(a.board);
  (void)a.next(first);
  a.s.hub.close(first.id);
  a.s.flush();
  a.tick("a", 2);
  a.tick("b", 3);
  a.at(1501);
  a.tick("c", 4);
  const test::caller again = a.s.join(a.board, {.last_event_id = "1"});
  const std::string got = a.next(again);
  CHECK(test::count(got, lost(2)) == 1);
  CHECK(test::count(got, lost(3)) == 1);
  CHECK(test::count(got, "c=4") == 1);
  CHECK(a.counts(again).lost == 0);  // before it came
}

TEST_CASE("value age: without ids the frame says how many, and that a key is gone is never too old",
          "[keyed][age]") {
  aging a{sse::id_mode::none};
  std::vector<sse::gap_notice> told;
  a.s.hub.on_gap([&](const sse::gap_notice& g) { told.push_back(g); });
  const test::caller k = a.watch({"a", "b"});
  (void)a.next(k);
  a.s.peer(k).window = 0;
  a.tick("a", 1);
  REQUIRE(a.board.publish({.data = "b is gone"}, {.key = "b", .role = sse::key_role::erase}));
  a.s.flush();
  a.at(1501);
  a.s.let(k, SIZE_MAX);
  CHECK(a.s.take(k) ==
        "event: gap\ndata: {\"requested\":null,\"first\":null,\"lost\":1}\n\ndata: b is gone\n\n");
  REQUIRE(told.size() == 1);
  CHECK(told[0].requested == sse::no_id);
  CHECK(told[0].lost == 1);
}
