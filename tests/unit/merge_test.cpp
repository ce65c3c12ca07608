// Entries of several logs in the order of publication: the window in which each has its place.
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <sse/detail/engine/merge.hpp>

#include "catch.hpp"

using sse::detail::batch;
using sse::detail::merge_window;
using sse::detail::new_entry;
using sse::detail::run;
using sse::detail::segment;
using sse::detail::segment_pool;

namespace {

/// A segment whose entries have these stamps and sizes.
class stamped {
 public:
  using stamps = std::vector<std::pair<std::uint64_t, std::uint32_t>>;
  stamped(segment_pool& pool, const stamps& all) : pool_{pool} {
    std::uint64_t need = 0;
    new_entry e;
    for (const auto& [stamp, size] : all) {
      e.size = size;
      need += segment::need(e);
    }
    seg_ = pool.take(0, need);
    REQUIRE(seg_ != nullptr);
    for (const auto& [stamp, size] : all) {
      e.size = size;
      e.stamp = stamp;
      std::memset(seg_->place(e), 'x', size);
      seg_->commit(e);
    }
  }
  stamped(const stamped&) = delete;
  stamped& operator=(const stamped&) = delete;
  ~stamped() { pool_.give_back(seg_); }

  [[nodiscard]] segment& get() const { return *seg_; }
  /// All of them, as what the reader `from` has.
  void put(merge_window& w, std::uint32_t from) const {
    merge_window::entries put{w, *seg_, from};
    for (std::uint32_t k = 0; k < seg_->count; ++k) put((*seg_)[k], k);
    CHECK(put.added(seg_->count) == seg_->count);
  }

 private:
  segment_pool& pool_;
  segment* seg_ = nullptr;
};

}  // namespace

TEST_CASE("merge window: what was put in any order leaves in the order of the stamps") {
  std::mt19937 random{7};
  merge_window w;
  segment_pool pool;
  batch b;
  for (int round = 0; round < 400; ++round) {
    const std::uint64_t first = 1 + random() % 100'000;
    b.begin(UINT64_MAX);
    REQUIRE(w.begin(b, first));
    REQUIRE(w.end() == first + merge_window::width);
    // Full windows too, and those in which each stream comes again and again at once.
    const std::uint32_t holes = round % 3 == 0 ? 1 : 1 + static_cast<std::uint32_t>(random() % 6);
    const std::uint32_t streams = 1 + static_cast<std::uint32_t>(random() % 16);
    std::vector<stamped::stamps> of(streams);
    std::vector<run> expected;
    std::uint64_t total = 0;
    for (std::uint32_t i = 0; i < merge_window::width; ++i) {
      if (random() % holes != 0) continue;
      const std::uint32_t from =
          round % 2 == 0 ? i % streams : static_cast<std::uint32_t>(random() % streams);
      const std::uint32_t size = 1 + static_cast<std::uint32_t>(random() % 50);
      of[from].emplace_back(first + i, size);
      total += size;
      if (!expected.empty() && expected.back().from == from) {
        expected.back().size += size;
        ++expected.back().count;
      } else {
        expected.push_back({nullptr, size, 0, nullptr, from, 1});
      }
    }
    std::vector<std::unique_ptr<stamped>> all;
    for (std::uint32_t n = streams; n-- != 0;) {
      all.push_back(std::make_unique<stamped>(pool, of[n]));
      if (!of[n].empty()) all.back()->put(w, n);
    }
    w.move_out(merge_window::nothing);
    CHECK(w.left() == 0);
    CHECK(b.total() == total);
    REQUIRE(b.size() == expected.size());
    std::vector<std::uint32_t> next(streams, 0);
    bool right = true;
    for (std::uint32_t k = 0; k < b.size(); ++k) {
      const run& r = b[k];
      right = right && r.from == expected[k].from && r.size == expected[k].size &&
              r.count == expected[k].count && r.first == next[r.from] &&
              r.data == r.seg->data((*r.seg)[r.first]);
      next[r.from] += r.count;
    }
    CHECK(right);
  }
}

TEST_CASE(
    "merge window: what comes at a limit or behind a full batch is given back, the newest first") {
  merge_window w;
  segment_pool pool;
  const std::vector<std::uint64_t> stamps{100, 101, 107, 108, 200, 483};
  std::vector<std::unique_ptr<stamped>> all;
  for (const std::uint64_t stamp : stamps)
    all.push_back(std::make_unique<stamped>(pool, stamped::stamps{{stamp, 10}}));
  struct row {
    std::uint64_t limit;
    std::uint64_t room;
    std::uint32_t moved;
  };
  for (const row& r :
       {row{merge_window::nothing, UINT64_MAX, 6}, row{484, UINT64_MAX, 6}, row{483, UINT64_MAX, 5},
        row{201, UINT64_MAX, 5}, row{200, UINT64_MAX, 4}, row{108, UINT64_MAX, 3},
        row{101, UINT64_MAX, 1}, row{100, UINT64_MAX, 0}, row{484, 1, 1}, row{484, 10, 1},
        row{484, 11, 2}, row{484, 20, 2}, row{484, 31, 4}, row{484, 50, 5}, row{484, 51, 6},
        row{484, 59, 6}, row{484, 60, 6}}) {
    CAPTURE(r.limit, r.room);
    batch b;
    b.begin(r.room);
    REQUIRE(w.begin(b, 100));
    for (std::size_t n = 0; n < stamps.size(); ++n)
      all[n]->put(w, static_cast<std::uint32_t>(stamps[n]));
    w.move_out(r.limit);
    REQUIRE(b.size() == r.moved);
    CHECK(b.total() == 10 * r.moved);
    for (std::uint32_t k = 0; k < b.size(); ++k) CHECK(b[k].from == stamps[k]);
    CHECK(w.left() == stamps.size() - r.moved);
    std::size_t k = stamps.size();
    w.give_back([&](const run& x) { CHECK(x.from == stamps[--k]); });
    CHECK(k == r.moved);
    CHECK(w.left() == 0);
  }
}

TEST_CASE("merge window: entries of one log that touch become one run") {
  segment_pool pool;
  const stamped one{pool, {{1, 10}, {2, 10}, {3, 10}, {4, 10}, {6, 10}}};
  const stamped two{pool, {{7, 10}}};
  merge_window w;
  batch b;
  b.begin(UINT64_MAX);
  REQUIRE(w.begin(b, 1));
  {
    merge_window::entries put{w, one.get(), 1};
    for (const std::uint32_t k : {0U, 1U, 2U, 4U}) put(one.get()[k], k);  // 3 was hidden
    CHECK(put.added(4) == 4);
  }
  two.put(w, 2);
  w.move_out(merge_window::nothing);
  REQUIRE(b.size() == 3);
  CHECK(b[0].count == 3);
  CHECK(b[0].size == 30);
  CHECK(b[1].first == 4);
  CHECK(b[2].from == 2);
  CHECK(b.total() == 50);
}

TEST_CASE("merge window: where a segment goes on behind it") {
  segment_pool pool;
  const stamped some{pool, {{100, 1}, {300, 1}, {483, 1}, {484, 1}, {900, 1}}};
  merge_window w;
  batch b;
  REQUIRE(w.begin(b, 100));
  CHECK(w.end_in(some.get(), 0) == 3);
  CHECK(w.end_in(some.get(), 2) == 3);
  REQUIRE(w.begin(b, 101));
  CHECK(w.end_in(some.get(), 1) == 4);
  REQUIRE(w.begin(b, 700));
  CHECK(w.end_in(some.get(), 4) == 5);
}

TEST_CASE("merge window: what is behind others in a batch stands behind them") {
  segment_pool pool;
  const stamped one{pool, {{1, 10}, {401, 10}}};
  const stamped two{pool, {{2, 10}, {400, 10}}};
  batch b;
  b.begin(UINT64_MAX);
  merge_window w;
  const auto move = [&](std::uint64_t first, std::uint32_t k_of_one, std::uint32_t k_of_two) {
    REQUIRE(w.begin(b, first));
    const auto put = [&](const stamped& of, std::uint32_t from, std::uint32_t k) {
      merge_window::entries one_entry{w, of.get(), from};
      one_entry(of.get()[k], k);
      CHECK(one_entry.added(1) == 1);
    };
    put(one, 1, k_of_one);
    put(two, 2, k_of_two);
    w.move_out(merge_window::nothing);
    CHECK(w.left() == 0);
  };
  move(1, 0, 0);
  move(400, 1, 1);
  REQUIRE(b.size() == 4);
  const std::uint32_t order[] = {1, 2, 2, 1};
  for (std::uint32_t k = 0; k < 4; ++k) CHECK(b[k].from == order[k]);
  CHECK(b.total() == 40);
}
