// The log by itself: what stays where it is, what is retained, what is found.
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <sse/detail/log/event_log.hpp>

#include "allocations.hpp"
#include "catch.hpp"

namespace {

using sse::detail::event_log;
using sse::detail::log_place;
using sse::detail::new_entry;
using sse::detail::retention;
using sse::detail::segment;
using sse::detail::segment_pool;

/// Appends an entry without an encoder: the bytes are as given. False: no memory.
bool append(event_log& log, std::string_view bytes, sse::event_id id = 0, std::int64_t at = 0,
            std::string_view audience = {}) {
  new_entry e;
  e.size = static_cast<std::uint32_t>(bytes.size());
  e.id = id;
  e.stamp = id;
  e.at = at;
  e.audience = audience;
  char* const p = log.prepare(e);
  if (p == nullptr) return false;
  std::memcpy(p, bytes.data(), bytes.size());
  log.commit(e);
  log.trim(at);
  return true;
}

/// An entry as a test sees it.
struct seen_entry {
  std::string_view bytes;
  std::string_view audience;
  sse::event_id id;
  std::uint64_t begin;  ///< offsets in the log
  std::uint64_t end;
};
seen_entry at(const event_log& log, std::uint64_t ordinal) {
  const log_place p = log.at(ordinal);
  const sse::detail::entry& e = p.get();
  return {p.seg->text(e), p.seg->audience(e), p.seg->id(e), p.seg->base + e.begin,
          p.seg->base + e.end()};
}

std::string numbered(std::uint64_t n, std::size_t size) {
  std::string s = std::to_string(n) + ":";
  s.resize(size, static_cast<char>('a' + n % 26));
  return s;
}

constexpr retention everything{.events = UINT64_MAX};

}  // namespace

TEST_CASE("log: bytes never change and never move, whatever comes after them", "[log]") {
  segment_pool pool;
  event_log log{pool, everything};
  struct seen {
    const char* at;
    std::string bytes;
  };
  std::vector<seen> all;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    const std::string bytes = numbered(i, 10 + i * 7 % 500 + (i % 500 == 0 ? 100'000 : 0));
    REQUIRE(append(log, bytes, i + 1));
    all.push_back({at(log, i).bytes.data(), bytes});
  }
  bool same = true;
  std::uint64_t offset = 0;
  for (std::uint64_t i = 0; i < all.size(); ++i) {
    same = same && at(log, i).bytes == all[i].bytes && at(log, i).bytes.data() == all[i].at;
    same = same && at(log, i).begin == offset;
    offset = at(log, i).end;
  }
  CHECK(same);
  CHECK(log.end_offset() == offset);
  CHECK(log.last_id() == 3000);
}

TEST_CASE("log: before its first segment it is empty, whatever is asked", "[log]") {
  segment_pool pool;
  event_log log{pool, {.events = 10, .age = sse::duration::seconds(1)}};
  log.trim(5);
  log.detach_before(0);
  CHECK_FALSE(log.has_segment());
  CHECK(log.first() == 0);
  CHECK(log.end() == 0);
  CHECK(log.retained() == 0);
  CHECK(log.find(0) == 0);
  CHECK(log.find(7) == 0);
  CHECK(log.newest(3) == 0);
  CHECK(log.end_offset() == 0);
  CHECK(log.backlog() == 0);
  CHECK(log.next_expiry() == INT64_MAX);
}

TEST_CASE("log: retention by events is exact at the limit and beside it", "[log]") {
  for (const std::uint64_t keep : {0U, 1U, 10U, 200U}) {
    CAPTURE(keep);
    segment_pool pool;
    event_log log{pool, {.events = keep}};
    for (std::uint64_t n = 1; n <= keep + 300; ++n) {
      REQUIRE(append(log, numbered(n, 100), n));
      const std::uint64_t kept = n < keep ? n : keep;
      REQUIRE(log.retained_events() == kept);
      REQUIRE(log.retained_bytes() == kept * 100);
      REQUIRE(log.forgotten_id() == n - kept);
      if (kept != 0) REQUIRE(at(log, log.retained()).id == n - kept + 1);
    }
  }
}

TEST_CASE("log: retention by bytes is exact at the limit and beside it", "[log]") {
  for (const std::uint64_t bytes : {99U, 100U, 101U, 999U, 1000U, 1001U}) {
    CAPTURE(bytes);
    segment_pool pool;
    event_log log{pool, {.events = UINT64_MAX, .bytes = bytes}};
    for (std::uint64_t n = 1; n <= 50; ++n) {
      REQUIRE(append(log, numbered(n, 100), n));
      const std::uint64_t fit = bytes / 100;
      REQUIRE(log.retained_events() == (n < fit ? n : fit));
    }
    // One that is larger than all that may be kept pushes everything out.
    REQUIRE(append(log, numbered(51, 1002), 51));
    REQUIRE(log.retained_events() == 0);
    REQUIRE(log.forgotten_id() == 51);
    REQUIRE(append(log, "x", 52));
    REQUIRE(log.retained_events() == 1);
  }
}

TEST_CASE("log: retention by age is exact at the limit and beside it", "[log]") {
  segment_pool pool;
  event_log log{pool, {.events = UINT64_MAX, .age = sse::duration::milliseconds(1000)}};
  CHECK(log.next_expiry() == INT64_MAX);
  REQUIRE(append(log, "one", 1, 5000));
  REQUIRE(append(log, "two", 2, 5001));
  CHECK(log.next_expiry() == 6000);
  log.trim(5999);
  CHECK(log.retained_events() == 2);
  log.trim(6000);
  CHECK(log.retained_events() == 1);
  CHECK(log.forgotten_id() == 1);
  CHECK(log.next_expiry() == 6001);
  log.trim(6001);
  CHECK(log.retained_events() == 0);
  CHECK(log.next_expiry() == INT64_MAX);
}

TEST_CASE("log: the strictest of the three retentions decides", "[log]") {
  segment_pool pool;
  event_log log{pool, {.events = 5, .bytes = 1000, .age = sse::duration::milliseconds(100)}};
  for (std::uint64_t n = 1; n <= 10; ++n) REQUIRE(append(log, numbered(n, 100), n, 0));
  CHECK(log.retained_events() == 5);
  REQUIRE(append(log, numbered(11, 700), 11, 50));
  CHECK(log.retained_events() == 4);  // 700 + 3 * 100
  log.trim(100);
  CHECK(log.retained_events() == 1);
}

TEST_CASE("log: find gives the first retained entry above an id, for ids with holes", "[log]") {
  segment_pool pool;
  event_log log{pool, {.events = 100}};
  std::vector<sse::event_id> ids;
  for (sse::event_id id = 1, step = 1; ids.size() < 250; id += step, step = step % 7 + 1) {
    REQUIRE(append(log, numbered(id, 60), id));
    ids.push_back(id);
  }
  const std::size_t first = ids.size() - 100;
  bool right = true;
  for (sse::event_id after = 0; after <= ids.back() + 2; ++after) {
    std::size_t expect = first;
    while (expect < ids.size() && ids[expect] <= after) ++expect;
    right = right && log.find(after) == expect;
  }
  CHECK(right);
  CHECK(log.find(UINT64_MAX) == log.end());
  CHECK(log.newest(0) == log.end());
  CHECK(log.newest(1) == log.end() - 1);
  CHECK(log.newest(99) == log.end() - 99);
  CHECK(log.newest(100) == log.retained());
  CHECK(log.newest(101) == log.retained());
}

TEST_CASE("log: locate names the entry at each byte, with audiences between them", "[log]") {
  segment_pool pool;
  event_log log{pool, everything};
  for (std::uint64_t n = 0; n < 100; ++n) {
    REQUIRE(append(log, numbered(n, 20 + n % 90), n + 1, 0, n % 3 == 0 ? "somebody" : ""));
  }
  CHECK(log.selective());
  bool right = true;
  for (const segment* s = log.head(); s != nullptr; s = s->next) {
    std::uint32_t expect = 0;
    for (std::uint32_t pos = 0; pos < s->used; ++pos) {
      while ((*s)[expect].end() <= pos) ++expect;
      right = right && s->locate(pos) == expect;
    }
    right = right && s->locate(s->used) == s->count;
  }
  CHECK(right);
  CHECK(at(log, 0).audience == "somebody");
  CHECK(at(log, 1).audience.empty());
  CHECK(at(log, 0).bytes == numbered(0, 20));
}

TEST_CASE("log: the next public entry is found from each place in each run of private ones",
          "[log]") {
  segment_pool pool;
  event_log log{pool, everything};
  std::uint64_t random = 3;
  std::vector<bool> is_public;
  for (std::uint64_t n = 0; n < 3000; ++n) {
    random = random * 6364136223846793005ULL + 1442695040888963407ULL;
    is_public.push_back((random >> 40) % 4 == 0);
    REQUIRE(append(log, "x", n + 1, 0, is_public.back() ? "" : "u"));
  }
  bool right = true;
  for (const segment* s = log.head(); s != nullptr; s = s->next) {
    for (std::uint32_t k = 0; k <= s->count; ++k) {
      std::uint32_t expect = k;
      while (expect < s->count && !is_public[s->first + expect]) ++expect;
      right = right && s->next_public(k) == expect;
    }
  }
  CHECK(right);
}

TEST_CASE("log: ids, stamps and times that are far apart stand in segments of their own", "[log]") {
  segment_pool pool;
  event_log log{pool, everything};
  const std::uint64_t far = (std::uint64_t{1} << 32) - 1;
  std::vector<sse::event_id> ids = {5, 5 + far - 1, 5 + far, 5 + 2 * far + 3};
  for (const sse::event_id id : ids) REQUIRE(append(log, "x", id));
  for (std::uint64_t n = 0; n < ids.size(); ++n) {
    CHECK(at(log, n).id == ids[n]);
    CHECK(log.find(ids[n] - 1) == n);
    CHECK(log.find(ids[n]) == n + 1);
  }
  REQUIRE(append(log, "x", 5 + 2 * far + 4, static_cast<std::int64_t>(far) + 1));
  CHECK(log.tail()->at(log.at(4).get()) == static_cast<std::int64_t>(far) + 1);
}

TEST_CASE("log: the id in front of a place, also where that entry left", "[log]") {
  segment_pool pool;
  event_log log{pool, {.events = 2}};
  for (std::uint64_t n = 0; n < 2000; ++n) {
    REQUIRE(append(log, numbered(n, 97), n + 1));
    REQUIRE(log.id_before(log.at(log.retained())) == n - (n != 0 ? 1 : 0));
  }
}

TEST_CASE("log: a pinned segment outlives its log's interest and then goes", "[log]") {
  segment_pool pool;
  std::string first;
  segment* pinned = nullptr;
  {
    event_log log{pool, {.events = 1}};
    REQUIRE(append(log, numbered(1, 3000), 1));
    pinned = log.tail();
    ++pinned->pins;
    first = std::string(at(log, 0).bytes);
    for (std::uint64_t n = 2; n < 100; ++n) REQUIRE(append(log, numbered(n, 3000), n));
    CHECK(log.head() == pinned);         // held, and all behind it with it
    CHECK(log.backlog() >= 85 * 3000U);  // whole segments
    log.detach_before(log.end_offset());
    CHECK(log.head() != pinned);
    CHECK(log.backlog() == 0);
    CHECK_FALSE(pinned->attached);
    CHECK(std::string_view(pinned->bytes(), first.size()) == first);
    CHECK(log.id_before(log.at(log.first())) == at(log, log.first()).id - 1);
  }
  CHECK(std::string_view(pinned->bytes(), first.size()) ==
        first);  // the log is gone, the bytes are there
  // The last pin gives it back: the next one of its size is this one.
  const std::uint64_t held = pool.held();
  pool.unpin(pinned);
  segment* const again = pool.take(4096, 3000);
  CHECK(again == pinned);
  CHECK(pool.held() == held);
  pool.give_back(again);
}

TEST_CASE("log: entries behind the first unpinned segment stay while it is read", "[log]") {
  segment_pool pool;
  event_log log{pool, {.events = 1}};
  for (std::uint64_t n = 1; n < 50; ++n) REQUIRE(append(log, numbered(n, 1000), n));
  ++log.tail()->pins;
  segment* reader = log.tail();
  const std::uint64_t ordinal = log.end() - 1;
  for (std::uint64_t n = 50; n < 500; ++n) REQUIRE(append(log, numbered(n, 1000), n));
  CHECK(log.head() == reader);
  CHECK(at(log, ordinal).bytes == numbered(49, 1000));
  --reader->pins;
  log.trim(0);
  CHECK(log.head() != reader);
  CHECK(log.retained_events() == 1);
}

#if TEST_ALLOCATIONS
TEST_CASE("log: a steady stream uses its segments again and allocates nothing",
          "[log][allocation]") {
  segment_pool pool;
  event_log log{pool, {.events = 100}};
  const std::string bytes(180, 'x');
  for (std::uint64_t n = 1; n <= 5000; ++n) REQUIRE(append(log, bytes, n));
  const std::uint64_t before = test::allocations();
  const std::uint64_t held = pool.held();
  bool ok = true;
  for (std::uint64_t n = 5001; n <= 50'000; ++n) ok = ok && append(log, bytes, n);
  CHECK(test::allocations() == before);
  CHECK(ok);
  CHECK(pool.held() == held);
  CHECK(held <= 3 * 65536U);
}
#endif

TEST_CASE(
    "log: a channel that says little holds little, and a large event gets a segment of its size",
    "[log]") {
  segment_pool pool;
  event_log log{pool, everything};
  REQUIRE(append(log, "x", 1));
  CHECK(pool.held() <= 4096);
  REQUIRE(append(log, std::string(1 << 20, 'y'), 2));
  CHECK(pool.held() <= 4096 + (1 << 20));
  REQUIRE(append(log, "z", 3));
  CHECK(at(log, 2).bytes == "z");
}

#if TEST_ALLOCATIONS
TEST_CASE("log: an append that finds no memory changes nothing", "[log][allocation]") {
  for (std::uint64_t k = 0;; ++k) {
    segment_pool pool;
    event_log log{pool, everything};
    bool hit = false;
    std::uint64_t accepted = 0;
    {
      const test::failing_allocations fail{k};
      for (std::uint64_t n = 1; n <= 200; ++n) {
        const std::uint64_t end = log.end();
        const std::uint64_t offset = log.end_offset();
        if (append(log, std::string_view("0123456789abcdefghijklmnopqrstuvwxyz").substr(n % 10),
                   n)) {
          ++accepted;
        } else if (log.end() != end || log.end_offset() != offset) {
          accepted = 10'000;
        }
      }
      hit = fail.hit();
    }
    REQUIRE(log.end() == accepted);
    REQUIRE(append(log, "after", 1000));
    REQUIRE(at(log, log.end() - 1).bytes == "after");
    if (!hit) break;
  }
}
#endif

TEST_CASE("log: a turn like the last one fits into a segment, up to 2 KiB") {
  segment_pool pool;
  event_log log{pool, {.events = 0}};
  REQUIRE(log.ensure_tail());
  std::uint64_t n = 0;
  // How many segments the entries of a turn are in, while their reader holds them.
  const auto turn = [&](std::uint64_t entries) {
    const log_place begin = log.end_place();
    ++begin.seg->pins;
    for (std::uint64_t i = 0; i < entries; ++i) REQUIRE(append(log, numbered(++n, 150)));
    std::uint64_t segments = 1;
    for (const segment* s = begin.seg; s != log.tail(); s = s->next) ++segments;
    log.expect_like(begin);
    pool.unpin(begin.seg);
    log.trim(0);
    return segments;
  };
  CHECK(turn(10) >= 5);
  for (int again = 0; again < 20; ++again) CHECK(turn(10) <= 2);
  (void)turn(1000);
  for (int again = 0; again < 40; ++again) (void)turn(10);
  CHECK(log.tail()->capacity + sizeof(segment) <= 2048);
  for (int again = 0; again < 40; ++again) (void)turn(1);
  CHECK(log.tail()->capacity + sizeof(segment) == segment_pool::smallest);
}
