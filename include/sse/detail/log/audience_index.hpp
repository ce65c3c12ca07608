// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// audience_index: which entries of a log are for which audience, so that a reader finds its next
// one without looking at those of others.
#pragma once
#ifndef SSEHUB_DETAIL_LOG_AUDIENCE_INDEX_HPP
#define SSEHUB_DETAIL_LOG_AUDIENCE_INDEX_HPP

#include <cstdint>
#include <string_view>

#include <sse/detail/base/name_table.hpp>
#include <sse/detail/log/event_log.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The entries of a log that are for one audience, one after the other. Stands until something is
/// published.
class own_entries {
 public:
  own_entries() noexcept = default;  ///< not known()
  explicit own_entries(const ring<std::uint64_t>& ordinals) noexcept
      : all_{ordinals.view()}, at_{ordinals.first()}, next_{all_[at_]} {}
  /// Of one who has none.
  [[nodiscard]] static own_entries nobody() noexcept {
    own_entries e;
    e.next_ = UINT64_MAX;
    return e;
  }
  [[nodiscard]] bool known() const noexcept { return next_ != unknown; }
  /// The first from `ordinal` on; UINT64_MAX: none. O(1) where at most one was passed since, else
  /// O(log of its entries). REQUIRES: known(); `ordinal` is not below what was asked before.
  [[nodiscard]] std::uint64_t from(std::uint64_t ordinal) noexcept {
    if (next_ >= ordinal) return next_;
    if (++at_ != all_.end && all_[at_] < ordinal) pass(ordinal);
    next_ = at_ != all_.end ? all_[at_] : UINT64_MAX;
    return next_;
  }

 private:
  static constexpr std::uint64_t unknown = UINT64_MAX - 1;

  /// More than one was passed.
  void pass(std::uint64_t ordinal) noexcept {
    const std::uint64_t newest = all_[all_.end - 1];
    if (newest < ordinal) {
      at_ = all_.end;
      return;
    }
    std::uint64_t hi = all_.end - 1;
    // Each of those from `ordinal` on has another ordinal: so many at most.
    if (newest - ordinal < hi - at_) at_ = hi - (newest - ordinal);
    while (at_ < hi) {
      const std::uint64_t mid = at_ + (hi - at_) / 2;
      if (all_[mid] >= ordinal) {
        hi = mid;
      } else {
        at_ = mid + 1;
      }
    }
  }

  ring<std::uint64_t>::window all_{};
  std::uint64_t at_ = 0;
  std::uint64_t next_ = unknown;  ///< the one at `at_`
};

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
  /// The entries for `audience`, whose hash by this table's seed is `hash`.
  [[nodiscard]] own_entries of(std::string_view audience, std::uint64_t hash) const noexcept {
    const std::uint32_t i = names_.find(audience, hash);
    return i == none ? own_entries::nobody() : own_entries{names_[i].entries};
  }
  [[nodiscard]] own_entries of(std::string_view audience) const noexcept {
    const std::uint32_t i = audience.empty() ? none : names_.find(audience);
    return i == none ? own_entries::nobody() : own_entries{names_[i].entries};
  }
  [[nodiscard]] std::uint32_t audiences() const noexcept { return names_.size(); }

 private:
  struct posting {
    ring<std::uint64_t> entries;  ///< ordinals, rising
  };
  name_table<posting, 8> names_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_AUDIENCE_INDEX_HPP
