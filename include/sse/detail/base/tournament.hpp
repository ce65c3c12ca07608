// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// tournament: which of several rising sequences comes next, again and again. Each match keeps its
// loser, so that only the winner's way up is played anew: log2 comparisons and no branch to guess.
#pragma once

#include <cstdint>

#include <sse/detail/base/assert.hpp>

namespace sse::inline v0::detail {

/// Of up to 2^Bits sequences. A key has the sequence's number in its lowest bits.
template <unsigned Bits>
class tournament {
 public:
  static constexpr std::uint32_t most = 1U << Bits;
  static constexpr std::uint64_t over = UINT64_MAX;  ///< the key of a sequence that has ended

  [[nodiscard]] static constexpr std::uint64_t key(std::uint64_t value, std::uint32_t n) noexcept {
    return value << Bits | n;
  }
  /// The first key of each sequence, in the order of their numbers. REQUIRES: 0 < n <= most.
  void begin(const std::uint64_t* first, std::uint32_t n) noexcept {
    SSEHUB_ASSERT(n != 0 && n <= most);
    for (size_ = 1; size_ < n; size_ *= 2) {
    }
    std::uint64_t winners[2 * most];
    for (std::uint32_t i = 0; i < size_; ++i) winners[size_ + i] = i < n ? first[i] : over;
    for (std::uint32_t i = size_ - 1; i != 0; --i) {
      const std::uint64_t a = winners[2 * i];
      const std::uint64_t b = winners[2 * i + 1];
      winners[i] = a < b ? a : b;
      losers_[i] = a < b ? b : a;
    }
    winner_ = winners[1];
  }
  [[nodiscard]] bool done() const noexcept { return winner_ == over; }
  /// The number of the sequence whose key is the smallest. REQUIRES: !done().
  [[nodiscard]] std::uint32_t next() const noexcept {
    return static_cast<std::uint32_t>(winner_ & (most - 1));
  }
  /// What next() has now. REQUIRES: not below what it had.
  void replace(std::uint64_t it) noexcept {
    for (std::uint64_t i = (size_ + next()) / 2; i != 0; i /= 2) {
      const std::uint64_t other = losers_[i];
      losers_[i] = it < other ? other : it;
      it = it < other ? it : other;
    }
    winner_ = it;
  }

 private:
  std::uint64_t winner_ = over;
  std::uint32_t size_ = 1;
  std::uint64_t losers_[most];
};

}  // namespace sse::inline v0::detail
