// Which entries of a log are for whom, by itself: against a list, while old entries leave.
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include <sse/detail/log/audience_index.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::detail::audience_index;
using sse::detail::event_log;
using sse::detail::hash_name;
using sse::detail::new_entry;
using sse::detail::segment;
using sse::detail::segment_pool;

constexpr std::uint64_t seed = 5;

}  // namespace

TEST_CASE("audience index: each audience's next entry is found, as old ones leave",
          "[audience_index][surface]") {
  for (const std::uint64_t audiences : {1U, 3U, 50U}) {
    CAPTURE(audiences);
    test::random_source random{audiences};
    segment_pool pool;
    event_log log{pool, {.events = 60}};
    audience_index index{seed};
    std::deque<std::pair<std::uint64_t, std::string>> model;  // private entries: ordinal, audience
    for (int step = 0; step < 20'000; ++step) {
      const std::string audience =
          random.one_in(3) ? "" : "user" + std::to_string(random.below(audiences));
      new_entry e;
      e.size = static_cast<std::uint32_t>(1 + random.below(30));
      e.stamp = static_cast<std::uint64_t>(step);
      e.audience = audience;
      if (!audience.empty()) {
        REQUIRE(index.add(audience, log.end()));
        model.emplace_back(log.end(), audience);
      }
      char* const p = log.prepare(e);
      REQUIRE(p != nullptr);
      std::memset(p, 'x', e.size);
      log.commit(e);
      log.trim(0, [&](segment& s) { index.drop(s); });
      while (!model.empty() && model.front().first < log.first()) model.pop_front();

      const std::string who = "user" + std::to_string(random.below(audiences + 1));
      const std::uint64_t from = log.first() + random.below(log.end() - log.first() + 2);
      std::uint64_t expected = UINT64_MAX;
      for (const auto& [ordinal, of] : model) {
        if (ordinal >= from && of == who) {
          expected = ordinal;
          break;
        }
      }
      REQUIRE(index.of(who, hash_name(who, seed)).from(from) == expected);
      // One walk, by steps of any length, finds each as a search of its own does.
      auto walk = index.of(who, hash_name(who, seed));
      REQUIRE(walk.known());
      for (std::uint64_t at = log.first(); at <= log.end(); at += 1 + random.below(4)) {
        REQUIRE(walk.from(at) == index.of(who, hash_name(who, seed)).from(at));
      }
    }
  }
}

TEST_CASE("audience index: entries that were not looked for yet, and those of nobody",
          "[audience_index]") {
  using sse::detail::own_entries;
  CHECK_FALSE(own_entries{}.known());
  own_entries nobody = own_entries::nobody();
  CHECK(nobody.known());
  CHECK(nobody.from(0) == UINT64_MAX);
  CHECK(nobody.from(1) == UINT64_MAX);
  audience_index index{1};
  REQUIRE(index.add("me", 0));
  own_entries first = index.of("me", sse::detail::hash_name("me", 1));
  CHECK(first.known());
  CHECK(first.from(0) == 0);
  CHECK(first.from(1) == UINT64_MAX);
  CHECK(index.of("you", sse::detail::hash_name("you", 1)).from(0) == UINT64_MAX);
}

TEST_CASE("audience index: an audience of which nothing is left is forgotten", "[audience_index]") {
  segment_pool pool;
  event_log log{pool, {.events = 10}};
  audience_index index{seed};
  std::uint32_t most = 0;
  for (std::uint32_t i = 0; i < 5000; ++i) {
    const std::string audience = "user" + std::to_string(i);  // ever new
    new_entry e;
    e.size = 10;
    e.audience = audience;
    e.stamp = i;
    REQUIRE(index.add(audience, log.end()));
    char* const p = log.prepare(e);
    REQUIRE(p != nullptr);
    std::memset(p, 'x', e.size);
    log.commit(e);
    log.trim(0, [&](segment& s) { index.drop(s); });
    if (index.audiences() > most) most = index.audiences();
  }
  CHECK(most < 60);
  CHECK(index.audiences() >= 10);
}

#if TEST_ALLOCATIONS

TEST_CASE("audience index: an entry for which memory is out is not in it",
          "[audience_index][allocation]") {
  std::uint64_t n = 0;
  for (bool failed = true; failed; ++n) {
    CAPTURE(n);
    bool ok = true;
    const std::int64_t before = test::live_bytes();
    {
      audience_index index{seed};
      std::uint64_t added = 0;
      std::uint32_t audiences = 0;
      constexpr std::string_view who[] = {"somebody with a long name", "somebody else"};
      bool in[2][40] = {};
      {
        const test::failing_allocations fail{n, 1};
        for (std::uint64_t i = 0; i < 40; ++i) {
          in[i % 2][i] = index.add(who[i % 2], i);
          added += in[i % 2][i] ? 1U : 0U;
        }
        failed = fail.hit();
        audiences = index.audiences();
      }
      ok = audiences == 2 && added >= 39;
      for (int w = 0; w < 2; ++w) {
        for (std::uint64_t i = 0; i < 40; ++i) {
          if (i % 2 != static_cast<std::uint64_t>(w)) continue;
          const bool found = index.of(who[w], hash_name(who[w], seed)).from(i) == i;
          ok = found == in[w][i] && ok;
        }
      }
    }
    const std::int64_t after = test::live_bytes();
    CHECK(ok);
    CHECK(after == before);
  }
  CHECK(n > 8);
}

TEST_CASE("audience index: without memory for its first entry an audience is not known",
          "[audience_index][allocation]") {
  for (std::uint64_t n = 0; n < 5; ++n) {
    audience_index index{seed};
    bool added = true;
    bool hit = false;
    {
      const test::failing_allocations fail{n};
      added = index.add("somebody", 0);
      hit = fail.hit();
    }
    CHECK(added == !hit);
    CHECK(index.audiences() == (hit ? 0U : 1U));
  }
}

#endif
