// What comes next of several rising sequences: the engine merges a session's channels with it.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include <sse/detail/base/tournament.hpp>

#include "catch.hpp"

TEST_CASE("tournament: any number of sequences comes out in order, those that end early too") {
  using tournament = sse::detail::tournament<5>;
  std::mt19937 random{7};
  for (std::uint32_t n = 1; n <= tournament::most; ++n) {
    std::vector<std::vector<std::uint64_t>> all(n);
    std::vector<std::uint64_t> expected;
    for (std::uint64_t value = 1; value <= 500; ++value) {
      auto& to = all[random() % n];
      if (to.size() >= random() % 100) continue;
      to.push_back(value);
      expected.push_back(value);
    }
    std::vector<std::size_t> at(n);
    const auto key_of = [&](std::uint32_t k) {
      return at[k] == all[k].size() ? tournament::over : tournament::key(all[k][at[k]], k);
    };
    std::vector<std::uint64_t> first;
    for (std::uint32_t k = 0; k < n; ++k) first.push_back(key_of(k));
    tournament order;
    order.begin(first.data(), n);
    std::vector<std::uint64_t> found;
    while (!order.done()) {
      const std::uint32_t k = order.next();
      REQUIRE(k < n);
      found.push_back(all[k][at[k]++]);
      order.replace(key_of(k));
    }
    CHECK(found == expected);
  }
}
