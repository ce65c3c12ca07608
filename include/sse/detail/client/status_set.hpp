// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// status_set: HTTP statuses, written "408,429,5xx". Not public.
#pragma once
#ifndef SSEHUB_DETAIL_CLIENT_STATUS_SET_HPP
#define SSEHUB_DETAIL_CLIENT_STATUS_SET_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/config.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/http/characters.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class status_set {
 public:
  /// A list with commas of numbers from 200 to 999 and classes ("5xx"); empty: none. False: it is
  /// none, nothing changes.
  [[nodiscard]] constexpr bool set(std::string_view list) noexcept {
    status_set s;
    while (!list.empty()) {
      const std::string_view part = text::trim(text::next_part(list, ','));
      const bool whole_class = part.size() == 3 && text::equal_fold(part.substr(1), "xx");
      std::uint64_t n = 0;
      if (part.size() != 3 ||
          read_decimal(part.substr(0, whole_class ? 1 : 3), 999, n) != decimal::number) {
        return false;
      }
      const std::uint64_t first = whole_class ? n * 100 : n;
      if (first < 200) return false;
      for (std::uint64_t i = first; i < first + (whole_class ? 100 : 1); ++i) {
        s.bits_[i / 64] |= std::uint64_t{1} << i % 64;
      }
    }
    *this = s;
    return true;
  }
  /// REQUIRES: 0 to 999.
  [[nodiscard]] constexpr bool has(int status) const noexcept {
    const auto i = static_cast<std::size_t>(status);
    return (bits_[i / 64] >> i % 64 & 1U) != 0;
  }

 private:
  std::uint64_t bits_[16] = {};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_STATUS_SET_HPP
