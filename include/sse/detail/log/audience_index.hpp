// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// audience_index: which entries of a log are for which audience, so that a reader finds its next
// one without looking at those of others.
#pragma once

#include <cstdint>
#include <string_view>

#include <sse/detail/base/name_table.hpp>
#include <sse/detail/log/event_log.hpp>

namespace sse::inline v0::detail {

class audience_index {
 public:
  explicit audience_index(std::uint64_t seed) noexcept : names_{seed} {}

  /// The entry `ordinal`, which is about to be appended, is for `audience`. False: memory is out.
  [[nodiscard]] bool add(std::string_view audience, std::uint64_t ordinal) noexcept {
    std::uint32_t i = names_.find(audience);
    if (i == none && (i = names_.acquire(audience)) == none) return false;
    posting& p = names_[i];
    if (!p.entries.reserve_one()) {
      if (p.entries.empty()) names_.release(i);
      return false;
    }
    p.entries.push_reserved(ordinal);
    return true;
  }
  /// A segment leaves the log: the oldest.
  void drop(const segment& s) noexcept {
    if (!s.mixed) return;
    for (std::uint32_t k = 0; k < s.count; ++k) {
      if (s[k].audience == 0) continue;
      const std::uint32_t i = names_.find(s.audience(s[k]));
      if (i == none) continue;
      posting& p = names_[i];
      SSEHUB_ASSERT(p.entries[p.entries.first()] == s.first + k);
      p.entries.pop_front();
      if (p.entries.empty()) names_.release(i);
    }
  }
  /// The first entry from `ordinal` on that is for `audience`, whose hash by this table's seed is
  /// `hash`; UINT64_MAX: none. O(log of its entries), O(1) where all of them are behind.
  [[nodiscard]] std::uint64_t next(std::string_view audience, std::uint64_t hash,
                                   std::uint64_t ordinal) const noexcept {
    const std::uint32_t i = names_.find(audience, hash);
    if (i == none) return UINT64_MAX;
    const ring<std::uint64_t>& entries = names_[i].entries;
    std::uint64_t hi = entries.end();
    if (entries[hi - 1] < ordinal) return UINT64_MAX;
    std::uint64_t lo = entries.first();
    while (lo < hi) {
      const std::uint64_t mid = lo + (hi - lo) / 2;
      if (entries[mid] >= ordinal) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return entries[lo];
  }
  [[nodiscard]] std::uint32_t audiences() const noexcept { return names_.size(); }

 private:
  struct posting {
    ring<std::uint64_t> entries;  ///< ordinals, rising
  };
  name_table<posting, 8> names_;
};

}  // namespace sse::inline v0::detail
