// The heap that knows each thing's place, and the timers on it: against a plain list.
#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include <sse/detail/base/indexed_heap.hpp>
#include <sse/detail/base/timer_heap.hpp>

#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::detail::indexed_heap;
using sse::detail::none;
using sse::detail::timer_heap;

constexpr std::uint32_t things = 100;

struct places {
  std::vector<std::uint32_t>* at;
  [[nodiscard]] std::uint32_t& place(std::uint32_t id) const noexcept { return (*at)[id]; }
  [[nodiscard]] static bool before(std::uint64_t a, std::uint64_t b) noexcept { return a < b; }
};

struct timer_places {
  std::vector<std::uint32_t> at = std::vector<std::uint32_t>(things, none);
  [[nodiscard]] std::uint32_t& place(std::uint32_t id) noexcept { return at[id]; }
};

}  // namespace

TEST_CASE("indexed heap: the first is on top, whatever is set, changed and removed",
          "[indexed_heap]") {
  for (const std::uint64_t keys : {3U, 1000U}) {  // many equal ones, and few
    test::random_source random{keys};
    std::vector<std::uint32_t> at(things, none);
    indexed_heap<std::uint64_t, places> heap{places{&at}};
    REQUIRE(heap.reserve(things));
    std::map<std::uint32_t, std::uint64_t> model;
    for (int step = 0; step < 30'000; ++step) {
      const auto id = static_cast<std::uint32_t>(random.below(things));
      if (random.one_in(3)) {
        heap.remove(id);
        model.erase(id);
      } else {
        const std::uint64_t key = random.below(keys);
        heap.set(id, key);
        model[id] = key;
      }
      if (random.one_in(500)) {
        heap.map_keys([](std::uint64_t k) { return k / 2; });
        for (auto& [i, key] : model) key /= 2;
      }
      REQUIRE(heap.empty() == model.empty());
      if (!model.empty()) {
        std::uint64_t least = UINT64_MAX;
        for (const auto& [i, key] : model) least = std::min(least, key);
        REQUIRE(heap.top_key() == least);
        REQUIRE(model.at(heap.top_id()) == least);
      }
      REQUIRE((at[id] != none) == (model.count(id) != 0));
      if (at[id] != none) REQUIRE(heap.key_at(at[id]) == model[id]);
    }
    std::uint64_t last = 0;
    while (!heap.empty()) {
      REQUIRE(heap.top_key() >= last);
      last = heap.top_key();
      model.erase(heap.top_id());
      heap.remove(heap.top_id());
    }
    CHECK(model.empty());
    CHECK(std::count(at.begin(), at.end(), none) == things);
  }
}

TEST_CASE("timers: they are due in the order of their times, at any place of the 32-bit clock",
          "[timer_heap]") {
  const std::int64_t starts[] = {0, (std::int64_t{1} << 31) - 500, (std::int64_t{1} << 32) - 500,
                                 -3'000'000'000, std::int64_t{1} << 50};
  for (const std::int64_t start : starts) {
    CAPTURE(start);
    test::random_source random{8};
    timer_places where;
    timer_heap<timer_places> timers{where};
    REQUIRE(timers.reserve(things));
    std::map<std::uint32_t, std::int64_t> model;
    std::int64_t now = start;
    for (int step = 0; step < 10'000; ++step) {
      const auto id = static_cast<std::uint32_t>(random.below(things));
      switch (random.below(4)) {
        case 0:
          timers.disarm(id);
          model.erase(id);
          break;
        case 1:
          while (!timers.empty() && timers.top_when(now) <= now) {
            model.erase(timers.top_id());
            timers.disarm(timers.top_id());
          }
          now += static_cast<std::int64_t>(random.below(20));
          break;
        default: {
          const std::int64_t when = now + static_cast<std::int64_t>(random.below(300)) - 20;
          timers.arm(id, when, now);
          model[id] = when < now ? now : when;
        }
      }
      REQUIRE(timers.empty() == model.empty());
      REQUIRE(timers.when(id, now) == (model.count(id) != 0 ? model[id] : INT64_MAX));
      if (model.empty()) continue;
      std::int64_t least = INT64_MAX;
      for (const auto& [i, when] : model) least = std::min(least, when);
      REQUIRE(timers.top_when(now) == least);
    }
  }
}

TEST_CASE("timers: a far deadline is cut to the farthest one, and no further", "[timer_heap]") {
  timer_places where;
  timer_heap<timer_places> timers{where};
  REQUIRE(timers.reserve(3));
  constexpr std::int64_t now = 77;
  constexpr std::int64_t farthest = timer_heap<timer_places>::farthest;
  timers.arm(0, now + farthest - 1, now);
  CHECK(timers.when(0, now) == now + farthest - 1);
  timers.arm(0, now + farthest, now);
  CHECK(timers.when(0, now) == now + farthest);
  timers.arm(0, now + farthest + 1, now);
  CHECK(timers.when(0, now) == now + farthest);
  timers.arm(0, INT64_MAX, now);
  CHECK(timers.when(0, now) == now + farthest);
  timers.arm(1, now - 1, now);
  CHECK(timers.when(1, now) == now);
  CHECK(timers.when(2, now) == INT64_MAX);
}

TEST_CASE("timers: after a jump what was overdue is due, the rest keeps its time", "[timer_heap]") {
  timer_places where;
  timer_heap<timer_places> timers{where};
  REQUIRE(timers.reserve(4));
  constexpr std::int64_t now = 1000;
  constexpr std::int64_t to = now + (std::int64_t{1} << 33);
  timers.arm(0, now + 10, now);
  timers.arm(1, now + 20, now);
  timers.jump(now, to);
  CHECK(timers.when(0, to) == to);
  CHECK(timers.when(1, to) == to);
  timers.arm(2, to + 50, to);
  timers.jump(to, to + 30);
  CHECK(timers.when(0, to + 30) == to + 30);
  CHECK(timers.when(2, to + 30) == to + 50);
}
