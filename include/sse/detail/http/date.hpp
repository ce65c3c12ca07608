// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// The date of HTTP as it is sent today (RFC 9110 5.6.7, IMF-fixdate). Not public.
#pragma once
#ifndef SSEHUB_DETAIL_HTTP_DATE_HPP
#define SSEHUB_DETAIL_HTTP_DATE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/config.hpp>
#include <sse/detail/base/decimal.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Seconds since 1970 of "Sun, 06 Nov 1994 08:49:37 GMT"; -1: something else, or before 1970. The
/// name of the day is not looked at.
[[nodiscard]] constexpr std::int64_t read_http_date(std::string_view s) noexcept {
  constexpr std::string_view shape = "ddd, 00 mmm 0000 00:00:00 GMT";
  constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  if (s.size() != shape.size()) return -1;
  for (std::size_t i = 0; i < s.size(); ++i) {
    const char c = shape[i];
    const bool free = c == '0' || c == 'd' || c == 'm';
    if (!free && s[i] != c) return -1;
  }
  const auto number = [&s](std::size_t at, std::size_t size, std::uint64_t most) {
    std::uint64_t n = 0;
    const bool good = read_decimal(s.substr(at, size), most, n) == decimal::number;
    return good ? static_cast<std::int64_t>(n) : std::int64_t{-1};
  };
  const std::size_t at = months.find(s.substr(8, 3));
  const std::int64_t day = number(5, 2, 31);
  const std::int64_t year = number(12, 4, 9999);
  const std::int64_t hour = number(17, 2, 23);
  const std::int64_t minute = number(20, 2, 59);
  const std::int64_t second = number(23, 2, 60);
  if (at == std::string_view::npos || at % 3 != 0 || day < 1 || year < 1970 || hour < 0 ||
      minute < 0 || second < 0) {
    return -1;
  }
  // Days since 1970: a year that begins in March has its leap day at its end.
  const auto month = static_cast<std::int64_t>(at / 3);  // 0: January
  const std::int64_t y = month < 2 ? year - 1 : year;
  const std::int64_t days =
      365 * y + y / 4 - y / 100 + y / 400 + (153 * ((month + 10) % 12) + 2) / 5 + day - 1 - 719'468;
  return ((days * 24 + hour) * 60 + minute) * 60 + second;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_HTTP_DATE_HPP
