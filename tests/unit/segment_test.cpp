// Segments and their pool by themselves, where log_test.cpp does not reach: sizes, room to the
// byte, and what is kept for use again.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <sse/detail/log/segment.hpp>

#include "allocations.hpp"
#include "catch.hpp"

namespace {

using sse::detail::entry;
using sse::detail::new_entry;
using sse::detail::segment;
using sse::detail::segment_pool;

new_entry sized(std::uint32_t size) {
  new_entry e;
  e.size = size;
  return e;
}

}  // namespace

TEST_CASE("segment: an entry fits to the byte, with its audience", "[segment]") {
  for (const std::uint32_t audience : {0U, 1U, 40U}) {
    CAPTURE(audience);
    segment_pool pool;
    segment* const s = pool.take(512, 0);
    REQUIRE(s != nullptr);
    const std::string who(audience, 'a');
    const auto room = static_cast<std::uint32_t>(512 - sizeof(segment) - sizeof(entry) - audience);
    for (const std::uint32_t size : {room - 1, room, room + 1}) {
      new_entry e = sized(size);
      e.audience = who;
      CHECK(s->fits(e) == (size <= room));
    }
    // Two that fill it together; no byte is left for a third.
    const auto half = static_cast<std::uint32_t>((room - sizeof(entry) - audience) / 2);
    new_entry first = sized(half);
    first.audience = who;
    std::memset(s->place(first), '1', half);
    s->commit(first);
    new_entry second = sized(room - static_cast<std::uint32_t>(sizeof(entry)) - audience - half);
    second.audience = who;
    REQUIRE(s->fits(second));
    std::memset(s->place(second), '2', second.size);
    s->commit(second);
    CHECK_FALSE(s->fits(sized(0)));
    CHECK(s->text((*s)[0]) == std::string(half, '1'));
    CHECK(s->text((*s)[1]) == std::string(second.size, '2'));
    CHECK(s->audience((*s)[0]) == who);
    CHECK(s->audience((*s)[1]) == who);
    pool.give_back(s);
  }
}

TEST_CASE("segment: ids, stamps and times fit up to 32 bits above the first, not further",
          "[segment]") {
  segment_pool pool;
  segment* const s = pool.take(512, 0);
  REQUIRE(s != nullptr);
  new_entry e = sized(1);
  e.id = 1000;
  e.stamp = 50;
  e.at = -7;
  *s->place(e) = 'x';
  s->commit(e);
  const auto fits = [&](std::uint64_t id, std::uint64_t stamp, std::int64_t at) {
    new_entry n = sized(1);
    n.id = id;
    n.stamp = stamp;
    n.at = at;
    return s->fits(n);
  };
  const std::uint64_t most = UINT32_MAX;
  CHECK(fits(1001, 51, -7));
  CHECK(fits(999 + most, 51, -7));
  CHECK_FALSE(fits(1000 + most, 51, -7));
  CHECK(fits(0, 50 + most, -7));
  CHECK_FALSE(fits(0, 51 + most, -7));
  CHECK(fits(0, 51, -7 + static_cast<std::int64_t>(most)));
  CHECK_FALSE(fits(0, 51, -6 + static_cast<std::int64_t>(most)));
  new_entry last = sized(1);
  last.id = 999 + most;
  last.stamp = 50 + most;
  last.at = -7 + static_cast<std::int64_t>(most);
  *s->place(last) = 'y';
  s->commit(last);
  CHECK(s->id((*s)[1]) == last.id);
  CHECK(s->stamp((*s)[1]) == last.stamp);
  CHECK(s->at((*s)[1]) == last.at);
  pool.give_back(s);
}

TEST_CASE("segment: one whose first entry has no id takes any id of 32 bits", "[segment]") {
  segment_pool pool;
  segment* const s = pool.take(512, 0);
  REQUIRE(s != nullptr);
  const new_entry without = sized(1);
  *s->place(without) = 'x';
  s->commit(without);
  CHECK(s->id((*s)[0]) == sse::no_id);
  new_entry with = sized(1);
  with.id = UINT32_MAX;
  CHECK(s->fits(with));
  ++with.id;
  CHECK_FALSE(s->fits(with));
  pool.give_back(s);
}

TEST_CASE("segment pool: a segment has the size that was asked for, and room for what it must hold",
          "[segment]") {
  segment_pool pool;
  struct row {
    std::uint64_t size;
    std::uint64_t need;
    std::uint64_t all;
  };
  constexpr std::uint64_t own = sizeof(segment);
  for (const row& r : {row{0, 0, 512}, row{512, 0, 512}, row{513, 0, 1024}, row{65'535, 0, 65'536},
                       row{1'000'000, 0, 65'536}, row{0, 512 - own, 512}, row{0, 513 - own, 1024},
                       row{0, 65'536 - own, 65'536}, row{0, 65'537 - own, 65'552},
                       row{0, 1'000'000, (1'000'000 + own + 15) / 16 * 16}}) {
    CAPTURE(r.size, r.need);
    const std::uint64_t before = pool.held();
    segment* const s = pool.take(r.size, r.need);
    REQUIRE(s != nullptr);
    CHECK(s->capacity + own == r.all);
    CHECK(s->capacity >= r.need);
    CHECK(pool.held() <= before + r.all);
    pool.give_back(s);
  }
  CHECK(pool.take(0, 0xffffffffU) == nullptr);
  CHECK(pool.take(0, UINT32_MAX - own) == nullptr);
}

TEST_CASE("segment pool: what is given back is used again, up to a megabyte", "[segment]") {
  segment_pool pool;
  std::vector<segment*> all;
  for (int i = 0; i < 20; ++i) {
    all.push_back(pool.take(65'536, 0));
    REQUIRE(all.back() != nullptr);
  }
  CHECK(pool.held() == 20 * 65'536);
  for (segment* s : all) pool.give_back(s);
  CHECK(pool.held() == 16 * 65'536);
  segment* const large = pool.take(0, 65'537);
  REQUIRE(large != nullptr);
  pool.give_back(large);  // of no common size: it is not kept
  CHECK(pool.held() == 16 * 65'536);
  segment* const again = pool.take(65'536, 0);
  CHECK(pool.held() == 16 * 65'536);
  CHECK(again->count == 0);
  CHECK(again->used == 0);
  CHECK(again->attached);
  pool.give_back(again);
}

TEST_CASE("segment pool: the last who lets a detached segment go gives it back", "[segment]") {
  segment_pool pool;
  segment* const large = pool.take(0, 100'000);
  REQUIRE(large != nullptr);
  large->pins = 2;
  large->attached = false;
  pool.unpin(large);
  CHECK(pool.held() > 100'000);
  pool.unpin(large);
  CHECK(pool.held() == 0);
  segment* const attached = pool.take(0, 100'000);
  REQUIRE(attached != nullptr);
  attached->pins = 1;
  pool.unpin(attached);  // its log has it
  CHECK(pool.held() > 100'000);
  pool.give_back(attached);
}

#if TEST_ALLOCATIONS

TEST_CASE("segment pool: without memory a spare segment still serves, and none is leaked",
          "[segment][allocation]") {
  const std::int64_t before = test::live_bytes();
  bool ok = true;
  {
    segment_pool pool;
    segment* const first = pool.take(512, 0);
    pool.give_back(first);
    const test::failing_allocations fail{0};
    ok = pool.take(1024, 0) == nullptr && pool.held() == 512;
    segment* const second = pool.take(512, 0);
    ok = ok && second == first && pool.take(512, 0) == nullptr;
    pool.give_back(second);
  }
  const std::int64_t after = test::live_bytes();
  CHECK(ok);
  CHECK(after == before);
}

#endif
