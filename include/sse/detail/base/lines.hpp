// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Line ends, as the encoder and the parser see them. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_LINES_HPP
#define SSEHUB_DETAIL_BASE_LINES_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include <sse/config.hpp>
#include <sse/detail/base/assert.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// True if one of the eight bytes is below 14: only such a word needs a closer look for CR and LF.
[[nodiscard]] constexpr bool has_low_byte(std::uint64_t word) noexcept {
  constexpr std::uint64_t ones = 0x0101010101010101U;
  return ((word - ones * 14) & ~word & (ones << 7)) != 0;
}

[[nodiscard]] inline std::uint64_t load_word(const char* p) noexcept {
  std::uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

[[nodiscard]] constexpr bool is_line_end(char c) noexcept { return c == '\n' || c == '\r'; }

/// The first CR or LF in [p, end), or end, one byte after the other.
[[nodiscard]] constexpr const char* find_line_end_by_bytes(const char* p,
                                                           const char* end) noexcept {
  while (p != end && !is_line_end(*p)) ++p;
  return p;
}

/// The same, eight bytes at a time: for processors without the vectors below.
[[nodiscard]] inline const char* find_line_end_by_words(const char* p, const char* end) noexcept {
  for (; end - p >= 8; p += 8) {
    while (end - p >= 32 && !has_low_byte(load_word(p)) && !has_low_byte(load_word(p + 8)) &&
           !has_low_byte(load_word(p + 16)) && !has_low_byte(load_word(p + 24))) {
      p += 32;
    }
    if (end - p < 8) break;
    if (!has_low_byte(load_word(p))) continue;
    const char* const found = find_line_end_by_bytes(p, p + 8);
    if (found != p + 8) return found;
  }
  return find_line_end_by_bytes(p, end);
}

#if defined(__SSE2__) && defined(__GNUC__)
// 16 bytes at a time, in the compiler's own terms: <emmintrin.h> is 4,000 lines.
using byte_vector = unsigned char __attribute__((vector_size(16)));

[[nodiscard]] inline byte_vector load_vector(const char* p) noexcept {
  byte_vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

[[nodiscard]] inline byte_vector lesser(byte_vector a, byte_vector b) noexcept {
  return a < b ? a : b;
}

/// The least of each column of Vectors times 16 bytes.
template <int Vectors>
[[nodiscard]] inline byte_vector least(const char* p) noexcept {
  if constexpr (Vectors == 1) {
    return load_vector(p);
  } else {
    return lesser(least<Vectors / 2>(p), least<Vectors / 2>(p + Vectors * 8));
  }
}

/// A bit for each byte of a comparison, the first byte's lowest.
template <class Comparison>
[[nodiscard]] inline unsigned bits_of(Comparison c) noexcept {
  using signed_chars = char __attribute__((vector_size(16)));
  return static_cast<unsigned>(__builtin_ia32_pmovmskb128(reinterpret_cast<signed_chars>(c)));
}

/// True if one of Vectors times 16 bytes is below 14.
template <int Vectors>
[[nodiscard]] inline bool has_low_byte(const char* p) noexcept {
  const byte_vector v = least<Vectors>(p);
  return bits_of(lesser(v, byte_vector{} + 13) == v) != 0;
}

/// Which of Vectors times 16 bytes are CR or LF.
template <int Vectors>
[[nodiscard]] inline unsigned line_end_bits(const char* p) noexcept {
  static_assert(Vectors == 1 || Vectors == 2);
  if constexpr (Vectors == 2) return line_end_bits<1>(p) | line_end_bits<1>(p + 16) << 16;
  const byte_vector v = load_vector(p);
  return bits_of((v == '\n') | (v == '\r'));
}

/// The same: 32 bytes, since many lines are short; then 64 at a time, and 256 in a long line.
[[nodiscard]] inline const char* find_line_end_by_vectors(const char* const p,
                                                          const char* const end) noexcept {
  const auto size = static_cast<std::size_t>(end - p);
  std::size_t i = 0;
  if (size >= 32) {
    if (const auto bits = line_end_bits<2>(p); bits != 0) return p + __builtin_ctz(bits);
    for (i = 32; i + 64 <= size; i += 64) {
      if (i % 256 == 160) {
        while (i + 256 + 64 <= size && !has_low_byte<16>(p + i)) i += 256;
      }
      if (!has_low_byte<4>(p + i)) continue;
      if (const auto bits = line_end_bits<2>(p + i); bits != 0) return p + i + __builtin_ctz(bits);
      if (const auto bits = line_end_bits<2>(p + i + 32); bits != 0) {
        return p + i + 32 + __builtin_ctz(bits);
      }
    }
  }
  if (size < 16) return find_line_end_by_bytes(p, end);
  for (; i + 16 <= size; i += 16) {
    if (const auto bits = line_end_bits<1>(p + i); bits != 0) return p + i + __builtin_ctz(bits);
  }
  // The last 16: those before i were looked at.
  const auto bits = line_end_bits<1>(end - 16);
  return bits == 0 ? end : end - 16 + __builtin_ctz(bits);
}
#endif

/// The first CR or LF in [p, end), or end. Linear; the encoder and the parser both split by it.
[[nodiscard]] constexpr const char* find_line_end(const char* p, const char* end) noexcept {
  if (std::is_constant_evaluated()) return find_line_end_by_bytes(p, end);
#if defined(__SSE2__) && defined(__GNUC__)
  return find_line_end_by_vectors(p, end);
#else
  return find_line_end_by_words(p, end);
#endif
}

/// The byte after the line end at `p`; CRLF is one line end. REQUIRES: p != end, *p is CR or LF.
[[nodiscard]] constexpr const char* skip_line_end(const char* p, const char* end) noexcept {
  SSEHUB_ASSERT(p != end && (*p == '\r' || *p == '\n'));
  const bool cr = *p == '\r';
  ++p;
  return cr && p != end && *p == '\n' ? p + 1 : p;
}

/// What a text becomes when it is written line by line.
struct line_count {
  std::size_t lines = 1;  ///< at least one, also of an empty text
  std::size_t bytes = 0;  ///< without the line ends
};

[[nodiscard]] constexpr line_count count_lines(std::string_view s) noexcept {
  line_count n;
  const char* p = s.data();
  const char* const end = p + s.size();
  for (;;) {
    const char* const stop = find_line_end(p, end);
    n.bytes += static_cast<std::size_t>(stop - p);
    if (stop == end) return n;
    ++n.lines;
    p = skip_line_end(stop, end);
  }
}

/// No CR, LF or NUL.
[[nodiscard]] constexpr bool is_field_text(std::string_view s) noexcept {
  const char* p = s.data();
  const char* const end = p + s.size();
  if (!std::is_constant_evaluated() && s.size() >= 8) {
    while (end - p >= 8 && !has_low_byte(load_word(p))) p += 8;
    if (end - p < 8 && !has_low_byte(load_word(end - 8))) return true;
  }
  for (; p != end; ++p) {
    if (*p == '\0' || *p == '\n' || *p == '\r') return false;
  }
  return true;
}

/// memcpy that takes an empty view; returns the byte after it.
inline char* put(char* out, std::string_view s) noexcept {
  if (!s.empty()) std::memcpy(out, s.data(), s.size());
  return out + s.size();
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_LINES_HPP
