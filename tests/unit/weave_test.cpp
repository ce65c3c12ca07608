// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Sessions on several channels, of which some catch up by a snapshot, by the newest values, or by a
// backfill hook: all that they get comes in the order of the ids, once.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::backfill_state;
using sse::start_at;
using test::ask;
using test::frame;
using test::gap_frame;
using test::quiet;
using test::stage;

/// Everything that was published, as an archive has it.
struct archive {
  std::map<std::uint64_t, std::string> data{};
  std::size_t at_once = 1000;
  std::uint64_t oldest = 0;
  bool waits = false;
  int asked = 0;

  backfill_state give(const sse::backfill_request& r, sse::backfill_writer& out) {
    ++asked;
    if (waits) return backfill_state::wait;
    if (r.after < oldest) return backfill_state::lost;
    std::size_t n = 0;
    for (auto i = data.upper_bound(r.after); i != data.end() && i->first < r.before; ++i) {
      if (n++ == at_once) return backfill_state::more;
      if (!out.add(i->first, {.type = "e", .data = i->second})) return backfill_state::lost;
    }
    return backfill_state::done;
  }
};

sse::channel_options archived(archive& from, std::uint64_t keep) {
  sse::channel_options o = quiet(keep);
  o.backfill = [&from](const sse::backfill_request& r, sse::backfill_writer& out) {
    return from.give(r, out);
  };
  return o;
}
void archive_event(stage& s, sse::channel c, archive& into) {
  const sse::event_id id = s.put(c);
  into.data[id] = std::to_string(id);
}

sse::channel_options snapshots_beside(std::uint64_t keep) {
  sse::channel_options o = quiet(keep);
  o.start = start_at::snapshot;
  return o;
}
void put_value(sse::channel c, std::string_view key, std::string_view data) {
  REQUIRE(c.publish({.type = "v", .data = data}, {.key = key}));
}

std::string numbers(std::initializer_list<std::uint64_t> ids) {
  std::string s;
  for (const std::uint64_t id : ids) s += frame(id, "e", std::to_string(id));
  return s;
}
std::string value(std::uint64_t id, std::string_view data) { return frame(id, "v", data); }
/// Events of one that has the values up to `values` and gets newer ones beside them.
std::string numbers_apart(std::initializer_list<std::uint64_t> ids, std::uint64_t values) {
  std::string s;
  for (const std::uint64_t id : ids)
    s += "id: " + std::to_string(id) + "-" + std::to_string(values) + "\n" +
         frame(0, "e", std::to_string(id));
  return s;
}

}  // namespace

TEST_CASE("several channels: a snapshot of one of them, then all live", "[weave][surface]") {
  stage s;
  sse::channel quotes = s.open("quotes", snapshots_beside(1));
  sse::channel orders = s.open("orders", quiet());
  put_value(quotes, "a", "1");
  s.put(orders);
  put_value(quotes, "b", "3");
  put_value(quotes, "a", "4");
  const auto k = s.join({}, {orders, quotes});
  CHECK(s.take(k) == value(0, "4") + value(0, "3"));
  s.put(orders);
  put_value(quotes, "b", "6");
  s.flush();
  CHECK(s.take(k) == numbers({5}) + value(6, "6"));
}

TEST_CASE("several channels: who comes back to a snapshot gets it behind the events of the others",
          "[weave][surface]") {
  stage s;
  sse::channel quotes = s.open("quotes", snapshots_beside(1));
  sse::channel orders = s.open("orders", quiet());
  s.put(orders);  // 1
  put_value(quotes, "a", "2");
  s.put(orders);  // 3
  put_value(quotes, "b", "4");
  s.put(orders);  // 5
  put_value(quotes, "a", "6");
  s.put(orders);                // 7
  put_value(quotes, "c", "8");  // retained
  s.put(orders);                // 9
  for (const std::size_t window : {std::size_t{1}, std::size_t{40}, SIZE_MAX}) {
    CAPTURE(window);
    auto k = s.join({.last_event_id = "1", .window = 0}, {quotes, orders});
    for (int i = 0; i < 300; ++i) s.let(k, window);
    CHECK(s.take(k) ==
          numbers_apart({3, 5, 7, 9}, 1) + value(0, "6") + value(0, "4") + value(0, "8"));
  }
  CHECK(quotes.stats().gaps == 0);
}

TEST_CASE("several channels: a loss among the values is told before another channel's id passes it",
          "[weave][fault]") {
  stage s;
  sse::channel quotes = s.open("quotes", snapshots_beside(1));
  sse::channel orders = s.open("orders", quiet());
  s.put(orders);                  // 1
  put_value(quotes, {}, "lost");  // 2
  s.put(orders);                  // 3
  put_value(quotes, "a", "4");
  put_value(quotes, "b", "5");
  const auto k = s.join({.last_event_id = "1"}, {orders, quotes});
  std::string told = gap_frame(2, 1, 6, -1);  // no id passes it untold
  told.insert(told.find('\n'), "-1");
  CHECK(s.take(k) == told + numbers_apart({3}, 1) + value(0, "4") + value(0, "5"));
}

TEST_CASE("several channels: each slow reader's quotes are conflated, its orders are complete",
          "[weave][surface]") {
  stage s;
  sse::channel_options o = quiet(1);
  o.on_lag = sse::lag_policy::coalesce;
  o.max_lag = 200;
  sse::channel quotes = s.open("quotes", std::move(o));
  sse::channel orders = s.open("orders", quiet());
  const auto k = s.join({.window = 0}, {quotes, orders});
  std::vector<std::uint64_t> order_ids;
  std::map<std::string, std::uint64_t> newest;
  for (int i = 0; i < 200; ++i) {
    const std::string key(1, static_cast<char>('a' + i % 3));
    put_value(quotes, key, key + std::to_string(i));
    newest[key] = static_cast<std::uint64_t>(i);
    if (i % 5 == 0) order_ids.push_back(s.put(orders));
    if (i % 20 == 0) s.flush();
  }
  s.flush();
  for (int i = 0; i < 2000; ++i) s.let(k, 7);
  const std::string all = s.take(k);
  CHECK(all.find("event: gap") == all.npos);
  std::uint64_t before = 0;
  const std::vector<std::uint64_t> ids = test::ids_in(all);
  for (const std::uint64_t id : ids) {
    CHECK(id > before);
    before = id;
  }
  for (const std::uint64_t id : order_ids)
    CHECK(test::count(all, frame(0, "e", std::to_string(id))) == 1);
  for (const auto& [key, i] : newest)
    CHECK(test::count(all, frame(0, "v", key + std::to_string(i))) == 1);
  CHECK(ids.size() == order_ids.size());
  CHECK(test::count(all, "event: v") < 100);
  CHECK(quotes.stats().coalesced > 0);
}

TEST_CASE("several channels: what left the history comes from each channel's hook, in order",
          "[weave][backfill][surface]") {
  for (const std::size_t piece : {1U, 3U, 1000U}) {
    for (const std::size_t window : {std::size_t{11}, std::size_t{200}, SIZE_MAX}) {
      for (const std::string_view from : {"0", "3", "17", "44", "57", "60"}) {
        CAPTURE(piece, window, from);
        archive old_a{.at_once = piece};
        archive old_b{.at_once = 2 * piece};
        stage s;
        sse::channel a = s.open("a", archived(old_a, 3));
        sse::channel b = s.open("b", archived(old_b, 5));
        sse::channel c = s.open("c", quiet());
        std::map<std::uint64_t, sse::channel> where;
        for (int i = 0; i < 60; ++i) {
          if (i % 4 == 1) {
            archive_event(s, b, old_b);
          } else if (i % 7 == 3) {
            s.put(c);
          } else {
            archive_event(s, a, old_a);
          }
        }
        const std::uint64_t first = std::stoull(std::string(from));
        auto v = sse::admit().join(a).join(b).join(c);
        const auto k = s.accept({.window = 0}, std::move(v).after(first));
        for (int i = 0; i < 400; ++i) {
          if (i % 50 == 0) archive_event(s, a, old_a);
          s.let(k, window);
        }
        CHECK(test::consecutive(test::ids_in(s.take(k)), first + 1, a.last_id()));
        CHECK(a.stats().gaps + b.stats().gaps + c.stats().gaps == 0);
        if (window == SIZE_MAX && piece == 1000) CHECK(old_a.asked + old_b.asked <= 8);
      }
    }
  }
}

TEST_CASE(
    "one channel: what a hook gives goes out together, in runs if it has some, and ends whole",
    "[weave][backfill]") {
  constexpr std::uint64_t events = 2000;
  const bool by_run = GENERATE(false, true);
  const bool beside = GENERATE(false, true);
  const std::size_t window = GENERATE(std::size_t{7}, std::size_t{5000}, SIZE_MAX);
  CAPTURE(by_run, beside, window);
  sse::channel_options o = quiet(1);
  o.backfill = [&](const sse::backfill_request& r, sse::backfill_writer& out) {
    CHECK(out.takes_runs() != beside);
    for (std::uint64_t id = r.after + 1; id < r.before;) {
      if (out.bytes() >= r.room) return backfill_state::more;
      std::string run;
      const std::uint64_t end = by_run && out.takes_runs() ? id + 100 : id + 1;
      for (; id != end && id < r.before; ++id) run += frame(id, "e", std::to_string(id));
      if (!out.add_encoded(id - 1, run)) return backfill_state::lost;
    }
    return backfill_state::done;
  };
  stage s;
  sse::channel a = s.open("a", std::move(o));
  sse::channel b = s.open("b", quiet());
  for (std::uint64_t i = 0; i < events; ++i) s.put(a);
  const std::uint64_t writes = s.hub.stats().writes;
  const ask back{.last_event_id = "1", .window = 0};
  const auto k = beside ? s.join(back, {a, b}) : s.join(back, {a});
  const int most = window == 7 ? 200 : 1000;
  for (int i = 0; i < most; ++i) s.let(k, window);
  std::string got = s.take(k);
  if (window == 7) {  // in the middle of an event: no other comes
    REQUIRE(s.hub.leave(k.id, a));
    for (int i = 0; i < 100; ++i) s.let(k, window);
    got += s.take(k);
    CHECK(got.ends_with("\n\n"));
    const std::vector<std::uint64_t> ids = test::ids_in(got);
    CHECK(test::consecutive(ids, 2, ids.back()));
    CHECK(ids.size() < 100);
  } else {
    CHECK(test::consecutive(test::ids_in(got), 2, events));
    if (window == SIZE_MAX) CHECK(s.hub.stats().writes - writes <= 3);
  }
}

TEST_CASE("several channels: what a hook does not have any more is told in its place",
          "[weave][backfill]") {
  archive old{.oldest = 4};
  stage s;
  sse::channel a = s.open("a", archived(old, 2));
  sse::channel b = s.open("b", quiet());
  for (int i = 0; i < 5; ++i) {
    archive_event(s, a, old);  // 1 3 5 7 9
    s.put(b);
  }
  const auto k = s.join({.last_event_id = "1"}, {a, b});
  CHECK(s.take(k) == gap_frame(1, 1, 7, -1) + numbers({2, 4, 6, 7, 8, 9, 10}));
  const auto l = s.join({.last_event_id = "4"}, {b, a});
  CHECK(s.take(l) == numbers({5, 6, 7, 8, 9, 10}));
}

TEST_CASE("several channels: a hook that waits holds back what has ids, and nothing else",
          "[weave][backfill]") {
  archive old{.waits = true};
  stage s;
  sse::channel a = s.open("a", archived(old, 1));
  sse::channel b = s.open("b", quiet());
  sse::channel_options o = quiet();
  o.ids = sse::id_mode::none;
  sse::channel bare = s.open("bare", std::move(o));
  for (int i = 0; i < 4; ++i) archive_event(s, a, old);
  const auto k = s.join({.last_event_id = "1"}, {a, b, bare});
  s.put(b);
  REQUIRE(bare.publish({.type = "e", .data = "now"}));
  REQUIRE(b.publish({.type = "e", .data = "typing"}, {.transient = true}));
  s.flush();
  CHECK(s.take(k) == frame(0, "e", "now") + frame(0, "e", "typing"));
  const int asked = old.asked;
  s.flush();
  CHECK(old.asked == asked);  // nobody spins
  old.waits = false;
  s.hub.writable(k.id);
  s.flush();
  CHECK(s.take(k) == numbers({2, 3, 4, 5}));
}

TEST_CASE("several channels: a snapshot without ids comes beside the others", "[weave]") {
  stage s;
  sse::channel_options o = snapshots_beside(1);
  o.ids = sse::id_mode::none;
  sse::channel bare = s.open("bare", std::move(o));
  sse::channel b = s.open("b", quiet());
  put_value(bare, "x", "old");
  put_value(bare, "y", "1");
  put_value(bare, "x", "2");
  s.put(b);
  const auto k = s.join({}, {b, bare});
  CHECK(s.take(k) == value(0, "2") + value(0, "1"));
  put_value(bare, "x", "3");
  s.put(b);
  s.flush();
  CHECK(s.take(k) == value(0, "3") + numbers({2}));
}

TEST_CASE("several channels: a stream with a snapshot tells where it stands, before and behind",
          "[weave][position]") {
  test::stage s{sse::hub_options{}, stage::as_given{}};
  sse::channel quotes = s.open("quotes", snapshots_beside(1));
  sse::channel orders = s.open("orders", quiet());
  s.put(orders);  // 1
  put_value(quotes, "a", "2");
  s.put(orders);  // 3
  put_value(quotes, "b", "4");
  s.put(orders);  // 5
  const auto k = s.join({}, {quotes, orders});
  CHECK(s.take(k) == "id: 5-0\n\n" + value(0, "2") + value(0, "4") + "id: 5\n\n");
}

TEST_CASE("a live stream joins a channel while it catches up on another", "[weave][join]") {
  stage s;
  sse::channel quotes = s.open("quotes", snapshots_beside(1));
  sse::channel b = s.open("b", quiet());
  put_value(quotes, "a", "1");
  put_value(quotes, "b", "2");
  const auto k = s.join(quotes, {.preamble = "HEAD", .window = 0});
  CHECK(s.hub.join(k.id, b) == sse::join_error::none);
  s.put(b);
  put_value(quotes, "a", "4");
  s.flush();
  s.let(k);
  CHECK(s.take(k) == "HEAD" + numbers_apart({3}, 0) + value(0, "4") + value(0, "2"));
}

TEST_CASE("several channels: what many of them hold for one that comes back leaves in few writes",
          "[weave][cost]") {
  stage s;
  std::vector<sse::channel> all;
  archive none_of_it;
  auto v = sse::admit();
  for (int i = 0; i < 16; ++i) {
    all.push_back(s.open("c" + std::to_string(i), quiet()));
    v.join(all.back());
  }
  sse::channel old = s.open("old", archived(none_of_it, 0));
  v.join(old);
  archive_event(s, old, none_of_it);
  for (int i = 0; i < 3200; ++i) s.put(all[static_cast<std::size_t>(i) % 16]);
  archive_event(s, old, none_of_it);
  const std::uint64_t before = s.hub.stats().writes;
  const auto k = s.accept({}, std::move(v).after(1));
  const std::string bytes = s.take(k);
  CHECK(test::consecutive(test::ids_in(bytes), 2, 3202));
  CHECK(s.hub.stats().writes - before <= 2 + bytes.size() / 32'768);
}

TEST_CASE("several channels: finishing in the middle of a snapshot passes nothing", "[weave]") {
  stage s;
  sse::channel quotes = s.open("quotes", snapshots_beside(1));
  sse::channel orders = s.open("orders", quiet());
  put_value(quotes, "a", "1");
  put_value(quotes, "b", "2");
  s.put(orders);
  const auto k = s.join({.last_event_id = "x", .preamble = "HEAD", .window = 0}, {quotes, orders});
  s.put(orders);
  s.hub.finish(k.id);
  s.flush();
  s.let(k);
  CHECK(s.take(k) == "HEAD");
  CHECK(s.closed(k));
}
