// Random numbers that are the same everywhere for the same seed.
#pragma once

#include <cstdint>

#include <sse/detail/base/random.hpp>

namespace test {

class random_source : public sse::detail::random_numbers {
 public:
  using random_numbers::random_numbers;
  bool one_in(std::uint64_t n) { return below(n) == 0; }
};

}  // namespace test
