// The random generator of detail/base: the numbers of splitmix64, and a range of them.
#include <cstdint>
#include <set>

#include <sse/detail/base/random.hpp>

#include "catch.hpp"

using sse::detail::random_numbers;

TEST_CASE("random: splitmix64, as its reference has it", "[random]") {
  random_numbers random{1234567};
  for (const std::uint64_t number :
       {6457827717110365317U, 3203168211198807973U, 9817491932198370423U, 4593380528125082431U}) {
    CHECK(random.next() == number);
  }
}

TEST_CASE("random: below a number there are all that are, and no other", "[random]") {
  random_numbers random{1};
  CHECK(random.below(0) == 0);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 200; ++i) seen.insert(random.below(6));
  CHECK(seen == std::set<std::uint64_t>{0, 1, 2, 3, 4, 5});
}
