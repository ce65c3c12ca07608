// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Decimal numbers, read and written: ids, retry, lengths, ports. Digits only: no sign, no space,
// any number of leading zeros. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_DECIMAL_HPP
#define SSEHUB_DETAIL_BASE_DECIMAL_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/config.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// n = 10 n + the digit. False, and n stays: `c` is no digit, or the number would be above `most`.
[[nodiscard]] constexpr bool add_digit(std::uint64_t& n, char c, std::uint64_t most) noexcept {
  if (c < '0' || c > '9') return false;
  const auto digit = static_cast<std::uint64_t>(c - '0');
  if (digit > most || n > (most - digit) / 10) return false;
  n = n * 10 + digit;
  return true;
}

enum class decimal : std::uint8_t {
  number,
  too_large,  ///< digits, but above what was allowed
  malformed,  ///< empty, or something else than digits
};

/// Reads all of `s`. `n` is the number; `most` if it is too large; unchanged if there is none.
[[nodiscard]] constexpr decimal read_decimal(std::string_view s, std::uint64_t most,
                                             std::uint64_t& n) noexcept {
  std::uint64_t read = 0;
  bool fits = true;
  for (const char c : s) {
    if (c < '0' || c > '9') return decimal::malformed;
    fits = fits && add_digit(read, c, most);
  }
  if (s.empty()) return decimal::malformed;
  n = fits ? read : most;
  return fits ? decimal::number : decimal::too_large;
}

[[nodiscard]] constexpr std::size_t decimal_size(std::uint64_t n) noexcept {
  std::size_t size = 1;
  for (; n >= 10; n /= 10) ++size;
  return size;
}

/// The most that a number has.
inline constexpr std::size_t max_digits = 20;
static_assert(decimal_size(UINT64_MAX) == max_digits);

/// Writes decimal_size(n) bytes; returns the byte after them.
constexpr char* put_decimal(char* out, std::uint64_t n) noexcept {
  char* const end = out + decimal_size(n);
  char* p = end;
  do {
    *--p = static_cast<char>('0' + n % 10);
    n /= 10;
  } while (n != 0);
  return end;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_DECIMAL_HPP
