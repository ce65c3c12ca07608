// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// The one random generator: for jitter and hashing, not for secrets. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_RANDOM_HPP
#define SSEHUB_DETAIL_BASE_RANDOM_HPP

#include <cstdint>

#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// splitmix64. Any seed is good.
class random_numbers {
 public:
  explicit constexpr random_numbers(std::uint64_t seed) noexcept : state_{seed} {}

  [[nodiscard]] constexpr std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  /// At least 0, below `n`; 0 if n is 0.
  [[nodiscard]] constexpr std::uint64_t below(std::uint64_t n) noexcept {
    return n == 0 ? 0 : next() % n;
  }

 private:
  std::uint64_t state_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_RANDOM_HPP
