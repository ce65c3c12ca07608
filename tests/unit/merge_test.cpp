// Entries of several logs in the order of publication: the window in which each has its place.
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include <sse/detail/engine/merge.hpp>

#include "catch.hpp"

using sse::detail::batch;
using sse::detail::merge_window;
using sse::detail::run;

namespace {

constexpr char bytes[1024] = {};

/// A run that touches no other.
run some(std::uint32_t from, std::uint32_t size) { return {bytes, size, 0, nullptr, from, 1}; }

}  // namespace

TEST_CASE("merge window: what was put in any order leaves in the order of the stamps") {
  std::mt19937 random{7};
  merge_window w;
  REQUIRE(w.reserve());
  for (int round = 0; round < 200; ++round) {
    const std::uint64_t first = 1 + random() % 100'000;
    std::map<std::uint64_t, std::uint32_t> expected;
    w.begin(first);
    REQUIRE(w.end() == first + merge_window::width);
    const std::uint32_t n = 1 + static_cast<std::uint32_t>(random() % merge_window::width);
    while (expected.size() < n) {
      const std::uint64_t i = random() % merge_window::width;
      const auto from = static_cast<std::uint32_t>(random() % 16);
      if (!expected.emplace(first + i, from).second) continue;
      w.put(i, some(from, 1 + static_cast<std::uint32_t>(i)));
      w.count(1);
    }
    batch b;
    b.begin(UINT64_MAX);
    REQUIRE(b.reserve(w.left()));
    w.move_to(b, merge_window::nothing);
    CHECK(w.left() == 0);
    REQUIRE(b.size() == expected.size());
    std::uint32_t k = 0;
    std::uint64_t total = 0;
    for (const auto& [stamp, from] : expected) {
      REQUIRE(b[k].from == from);
      REQUIRE(b[k].size == 1 + stamp - first);
      total += b[k++].size;
    }
    CHECK(b.total() == total);
  }
}

TEST_CASE(
    "merge window: what comes at a limit or behind a full batch is given back, the newest first") {
  merge_window w;
  REQUIRE(w.reserve());
  const auto put = [&](std::uint64_t stamp) {
    w.put(stamp - 100, some(static_cast<std::uint32_t>(stamp), 10));
    w.count(1);
  };
  const std::vector<std::uint64_t> stamps{100, 101, 107, 108, 200, 483};
  struct row {
    std::uint64_t limit;
    std::uint64_t room;
    std::uint32_t moved;
  };
  for (const row& r :
       {row{merge_window::nothing, UINT64_MAX, 6}, row{484, UINT64_MAX, 6}, row{483, UINT64_MAX, 5},
        row{201, UINT64_MAX, 5}, row{200, UINT64_MAX, 4}, row{108, UINT64_MAX, 3},
        row{101, UINT64_MAX, 1}, row{100, UINT64_MAX, 0}, row{484, 1, 1}, row{484, 10, 1},
        row{484, 11, 2}, row{484, 20, 2}, row{484, 31, 4}}) {
    CAPTURE(r.limit, r.room);
    w.begin(100);
    for (const std::uint64_t stamp : stamps) put(stamp);
    batch b;
    b.begin(r.room);
    REQUIRE(b.reserve(w.left()));
    w.move_to(b, r.limit);
    CHECK(b.size() == r.moved);
    CHECK(w.left() == stamps.size() - r.moved);
    std::size_t k = stamps.size();
    w.give_back([&](const run& x) { CHECK(x.from == stamps[--k]); });
    CHECK(k == r.moved);
    CHECK(w.left() == 0);
  }
}

TEST_CASE("merge window: entries of one log that touch become one run") {
  // Only runs of a segment can touch.
  sse::detail::segment_pool pool;
  sse::detail::segment* const s = pool.take(512, 0);
  REQUIRE(s != nullptr);
  merge_window w;
  REQUIRE(w.reserve());
  w.begin(1);
  w.put(0, {s->bytes(), 10, 0, s, 1, 1});
  w.put(1, {s->bytes() + 10, 10, 1, s, 1, 1});
  w.put(2, {s->bytes() + 20, 10, 2, s, 1, 1});
  w.put(5, {s->bytes() + 40, 10, 4, s, 1, 1});  // one between was hidden
  w.put(6, some(2, 10));
  w.count(5);
  batch b;
  b.begin(UINT64_MAX);
  REQUIRE(b.reserve(w.left()));
  w.move_to(b, merge_window::nothing);
  REQUIRE(b.size() == 3);
  CHECK(b[0].count == 3);
  CHECK(b[0].size == 30);
  CHECK(b[1].first == 4);
  CHECK(b[2].from == 2);
  CHECK(b.total() == 50);
  pool.give_back(s);
}
