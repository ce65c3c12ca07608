// What is gathered for one write by itself: runs are joined, cut and laid out, and the bytes that a
// transport is shown are those that were gathered, as they lie or copied.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <sse/detail/engine/batch.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::buffer;
using sse::detail::batch;
using sse::detail::flight;
using sse::detail::new_entry;
using sse::detail::none;
using sse::detail::run;
using sse::detail::segment;
using sse::detail::segment_pool;

run lane_run(std::string_view s) {
  return {s.data(), static_cast<std::uint32_t>(s.size()), 0, nullptr, run::from_lane, 0};
}

std::string text_of(std::span<const buffer> shown) {
  std::string s;
  for (const buffer& b : shown) s += b.view();
  return s;
}
std::string text_of(const batch& b) {
  std::string s;
  for (std::uint32_t i = 0; i < b.size(); ++i) s.append(b[i].data, b[i].size);
  return s;
}

/// A segment with entries of `size` bytes each.
struct filled_segment {
  segment_pool pool;
  segment* seg;

  filled_segment(std::uint32_t entries, std::uint32_t size)
      : seg{pool.take(512, entries * (size + sizeof(sse::detail::entry)))} {
    REQUIRE(seg != nullptr);
    for (std::uint32_t i = 0; i < entries; ++i) {
      new_entry e;
      e.size = size;
      REQUIRE(seg->fits(e));
      std::memset(seg->place(e), static_cast<int>('a' + i % 26), size);
      seg->commit(e);
    }
  }
  ~filled_segment() { pool.give_back(seg); }
  filled_segment(const filled_segment&) = delete;
  filled_segment& operator=(const filled_segment&) = delete;

  [[nodiscard]] run entries(std::uint32_t first, std::uint32_t count, std::uint32_t from) const {
    const std::uint32_t begin = (*seg)[first].begin;
    return {seg->bytes() + begin, (*seg)[first + count - 1].end() - begin, first, seg, from, count};
  }
};

const std::string bytes(40'000, 'x');

}  // namespace

TEST_CASE("batch: entries of one reader that touch become one run, others do not", "[batch]") {
  const filled_segment s{10, 20};
  const filled_segment other{10, 20};
  batch b;
  b.begin(UINT64_MAX);
  REQUIRE(b.add(s.entries(0, 2, 7)));
  REQUIRE(b.add(s.entries(2, 3, 7)));
  CHECK(b.size() == 1);
  CHECK(b[0].first == 0);
  CHECK(b[0].count == 5);
  CHECK(b[0].size == 100);
  REQUIRE(b.add(s.entries(6, 1, 7)));  // one is left out
  CHECK(b.size() == 2);
  REQUIRE(b.add(s.entries(7, 1, 8)));  // another reader
  CHECK(b.size() == 3);
  REQUIRE(b.add(other.entries(8, 1, 8)));  // another segment
  CHECK(b.size() == 4);
  CHECK(b.total() == 160);
}

TEST_CASE("batch: bytes of lanes that happen to touch stay apart, each frame is counted",
          "[batch]") {
  batch b;
  b.begin(UINT64_MAX);
  REQUIRE(b.add(lane_run({bytes.data(), 10})));
  REQUIRE(b.add(lane_run({bytes.data() + 10, 10})));
  CHECK(b.size() == 2);
}

TEST_CASE("batch: it is full at its limit, not before", "[batch]") {
  batch b;
  b.begin(10);
  CHECK_FALSE(b.full());
  REQUIRE(b.add(lane_run("123456789")));
  CHECK_FALSE(b.full());
  REQUIRE(b.add(lane_run("0")));
  CHECK(b.full());
  REQUIRE(b.add(lane_run("a run that was begun is whole")));
  CHECK(b.total() == 39);
  b.begin(0);
  CHECK(b.full());
  CHECK(b.empty());
  CHECK(b.total() == 0);
}

TEST_CASE("batch: begin forgets all that was said of the one before", "[batch]") {
  batch b;
  b.begin(UINT64_MAX);
  REQUIRE(b.add(lane_run("abc")));
  b.cut(1);
  b.all = b.paused = b.logs_only = true;
  b.begin(UINT64_MAX);
  CHECK_FALSE(b.was_cut());
  CHECK_FALSE(b.all);
  CHECK_FALSE(b.paused);
  CHECK_FALSE(b.logs_only);
}

TEST_CASE("batch: a cut leaves exactly so many bytes, at every place", "[batch]") {
  const std::string whole = "aabbbcddddd";
  for (std::uint64_t total = 0; total <= whole.size() + 1; ++total) {
    CAPTURE(total);
    batch b;
    b.begin(UINT64_MAX);
    for (const std::string_view part : {"aa", "bbb", "c", "ddddd"}) REQUIRE(b.add(lane_run(part)));
    b.all = true;
    b.cut(total);
    const bool less = total < whole.size();
    CHECK(text_of(b) == whole.substr(0, static_cast<std::size_t>(total)));
    CHECK(b.total() == (less ? total : whole.size()));
    CHECK(b.was_cut() == less);
    CHECK(b.all == !less);
    CHECK(b.empty() == (total == 0));
  }
}

TEST_CASE("batch: a run is inserted at each place, the others stay in order", "[batch]") {
  for (std::uint32_t at = 0; at <= 9; ++at) {
    CAPTURE(at);
    batch b;
    b.begin(UINT64_MAX);
    for (std::uint32_t i = 0; i < 9; ++i) REQUIRE(b.add(lane_run({bytes.data(), 1})));
    REQUIRE(b.insert(at, lane_run("!")));
    std::string expected(9, 'x');
    expected.insert(at, "!");
    CHECK(text_of(b) == expected);
    CHECK(b.total() == 10);
  }
}

TEST_CASE("batch: few runs are shown as they lie, many small ones as one copy", "[batch]") {
  struct row {
    std::uint32_t runs;
    std::size_t size;
    std::uint32_t room;
    std::size_t shown;
  };
  for (const row& r :
       {row{1, 1, 1, 1}, row{1, 1, 16, 1}, row{4, 1, 16, 4}, row{5, 1, 16, 1}, row{5, 511, 16, 1},
        row{5, 512, 16, 5}, row{16, 512, 16, 16}, row{17, 512, 16, 1}, row{2, 600, 1, 1},
        row{3, 600, 2, 1}, row{2, 600, 2, 2}}) {
    CAPTURE(r.runs, r.size, r.room);
    batch b;
    b.begin(UINT64_MAX);
    for (std::uint32_t i = 0; i < r.runs; ++i) REQUIRE(b.add(lane_run({bytes.data() + i, r.size})));
    const std::span<const buffer> shown = b.lay_out(r.room);
    CHECK(shown.size() == r.shown);
    const bool in_place = shown[0].data >= bytes.data() && shown[0].data < bytes.data() + 40'000;
    CHECK(in_place == (r.runs == r.shown));
    CHECK(text_of(shown) == text_of(b));
    CHECK_FALSE(b.was_cut());
  }
}

TEST_CASE("batch: a transport with one buffer gets a full record, a large run alone in place",
          "[batch]") {
  const filled_segment s{1, batch::record};
  const filled_segment less{1, batch::record - 1};
  const run small = lane_run({bytes.data(), 100});
  batch b;
  SECTION("a run of a record's size from a log is not copied") {
    b.begin(UINT64_MAX);
    REQUIRE(b.add(s.entries(0, 1, 0)));
    REQUIRE(b.add(small));
    const std::span<const buffer> shown = b.lay_out(1);
    REQUIRE(shown.size() == 1);
    CHECK(shown[0].data == s.seg->bytes());
    CHECK(shown[0].size == batch::record);
    CHECK(b.was_cut());
  }
  SECTION("one byte less is copied, with what comes after it, into a record") {
    b.begin(UINT64_MAX);
    REQUIRE(b.add(less.entries(0, 1, 0)));
    REQUIRE(b.add(small));
    const std::span<const buffer> shown = b.lay_out(1);
    REQUIRE(shown.size() == 1);
    CHECK(shown[0].size == batch::record);
    CHECK(shown[0].data[batch::record - 1] == 'x');
  }
  SECTION("a large run behind a small one is copied in part") {
    b.begin(UINT64_MAX);
    REQUIRE(b.add(small));
    REQUIRE(b.add(s.entries(0, 1, 0)));
    const std::span<const buffer> shown = b.lay_out(1);
    REQUIRE(shown.size() == 1);
    CHECK(shown[0].size == batch::record);
    CHECK(text_of(shown) == std::string(100, 'x') + std::string(batch::record - 100, 'a'));
  }
  SECTION("one run alone is shown whole, whatever its size") {
    b.begin(UINT64_MAX);
    REQUIRE(b.add(lane_run(bytes)));
    const std::span<const buffer> shown = b.lay_out(1);
    REQUIRE(shown.size() == 1);
    CHECK(shown[0].size == bytes.size());
    CHECK_FALSE(b.was_cut());
  }
}

TEST_CASE("batch: nothing is shown of nothing", "[batch]") {
  batch b;
  b.begin(UINT64_MAX);
  CHECK(b.lay_out(16).empty());
  CHECK(b.lay_out(1).size() <= 1);  // an empty buffer at the most
  CHECK(text_of(b.lay_out(1)).empty());
}

TEST_CASE("batch: any runs, cuts and layouts show the bytes that were gathered", "[batch]") {
  test::random_source random{3};
  const filled_segment s{200, 30};
  batch b;
  for (int round = 0; round < 3000; ++round) {
    std::string model;
    b.begin(UINT64_MAX);
    const std::uint64_t n = 1 + random.below(30);
    for (std::uint64_t i = 0; i < n; ++i) {
      run r = random.one_in(2) ? lane_run({bytes.data(), 1 + random.below(1200)})
                               : s.entries(static_cast<std::uint32_t>(random.below(190)),
                                           static_cast<std::uint32_t>(1 + random.below(10)),
                                           static_cast<std::uint32_t>(random.below(2)));
      // Entries of one reader come in order only.
      if (r.seg != nullptr && !b.empty() && b[b.size() - 1].seg == r.seg &&
          b[b.size() - 1].data + b[b.size() - 1].size == r.data && random.one_in(2)) {
        r.from = 9;
      }
      REQUIRE(b.add(r));
      model.append(r.data, r.size);
    }
    if (random.one_in(3)) {
      const std::uint64_t total = random.below(model.size() + 2);
      b.cut(total);
      if (total < model.size()) model.resize(static_cast<std::size_t>(total));
    }
    REQUIRE(b.total() == model.size());
    REQUIRE(text_of(b) == model);
    const std::uint32_t room =
        random.one_in(2) ? 1 : static_cast<std::uint32_t>(2 + random.below(15));
    const std::span<const buffer> shown = b.lay_out(room);
    REQUIRE(shown.size() <= room);
    const std::string out = text_of(shown);
    REQUIRE(model.starts_with(out));
    REQUIRE(b.total() == out.size());
    REQUIRE((out.size() == model.size() || b.was_cut()));
    if (room != 1) REQUIRE(out.size() == model.size());
  }
}

TEST_CASE("batch: a flight shows what was taken again, as it was shown", "[batch][flight]") {
  for (const bool copied : {false, true}) {
    for (std::uint64_t taken = 1; taken <= 60; ++taken) {
      CAPTURE(copied, taken);
      batch b;
      flight f;
      b.begin(UINT64_MAX);
      std::string model;
      for (int i = 0; i < 6; ++i) {
        REQUIRE(b.add(lane_run({bytes.data() + i, 10})));
        model.append(10, 'x');
      }
      if (copied) {
        CHECK(b.lay_out(16).size() == 1);
      } else {
        b.cut(30);
        CHECK(b.lay_out(16).size() == 3);
        if (taken > 30) continue;
      }
      f.begin(b, taken);
      CHECK(b.empty());
      buffer shown[16];
      const std::size_t n = f.show(shown);
      CHECK(n == (copied ? 1 : (taken + 9) / 10));
      CHECK(text_of({shown, n}) == model.substr(0, static_cast<std::size_t>(taken)));
      CHECK(f.show({}) == 0);
      if (!copied && taken > 10) {
        CHECK(f.show({shown, 1}) == 1);
        CHECK(shown[0].size == 10);
      }
      f.end(true);
      CHECK(f.runs.empty());
    }
  }
}

#if TEST_ALLOCATIONS

TEST_CASE("batch: an allocation that fails changes nothing, and all is given back",
          "[batch][allocation]") {
  std::uint64_t n = 0;
  for (bool failed = true; failed; ++n) {
    CAPTURE(n);
    std::uint32_t added = 0;
    bool kept = false;
    bool shown = false;
    bool again = true;
    const std::int64_t before = test::live_bytes();
    {
      batch b;
      b.begin(UINT64_MAX);
      {
        const test::failing_allocations fail{n};
        while (added < 40 && b.add(lane_run({bytes.data(), 10}))) ++added;
        if (added == 40) shown = !b.lay_out(16).empty();
        failed = fail.hit();
      }
      kept = b.size() == added && b.total() == added * 10;
      for (std::uint32_t i = added; i < 40; ++i)
        again = b.add(lane_run({bytes.data(), 10})) && again;
      again = again && b.total() == 400 && b.lay_out(16).size() == 1;
    }
    const std::int64_t after = test::live_bytes();
    CHECK(kept);
    CHECK(shown == !failed);
    CHECK(again);
    CHECK(after == before);
  }
  CHECK(n > 4);  // runs, more runs, the copy
}

TEST_CASE("batch: a copy that goes with a flight is freed with it", "[batch][flight][allocation]") {
  bool ok = true;
  const std::int64_t before = test::live_bytes();
  {
    flight f;
    batch b;
    for (int round = 0; round < 4; ++round) {
      b.begin(UINT64_MAX);
      for (int i = 0; i < 6; ++i) ok = b.add(lane_run({bytes.data(), 10})) && ok;
      ok = !b.lay_out(16).empty() && ok;
      f.begin(b, 60);
      if (round != 3) f.end(true);  // the last one is freed by the destructor
    }
  }
  const std::int64_t after = test::live_bytes();
  CHECK(ok);
  CHECK(after == before);
}

TEST_CASE("batch: small writes keep their memory, so that a steady stream allocates nothing",
          "[batch][allocation]") {
  batch b;
  const auto turn = [&] {
    bool ok = true;
    b.begin(UINT64_MAX);
    for (int i = 0; i < 30; ++i) ok = b.add(lane_run({bytes.data(), 100})) && ok;
    return ok && b.lay_out(16).size() == 1;
  };
  REQUIRE(turn());
  const std::uint64_t before = test::allocations();
  bool ok = true;
  for (int i = 0; i < 100; ++i) ok = turn() && ok;
  CHECK(test::allocations() == before);
  CHECK(ok);
}

#endif
