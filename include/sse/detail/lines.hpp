// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Line ends, as the encoder and the parser see them. Not public.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include <sse/config.hpp>

namespace sse::inline v0::detail {

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

/// The first CR or LF in [p, end), or end. Each byte is looked at once.
[[nodiscard]] constexpr const char* find_line_end(const char* p, const char* end) noexcept {
  if (!std::is_constant_evaluated()) {
    while (end - p >= 32) {
      const bool low = has_low_byte(load_word(p)) || has_low_byte(load_word(p + 8)) ||
                       has_low_byte(load_word(p + 16)) || has_low_byte(load_word(p + 24));
      if (!low) {
        p += 32;
        continue;
      }
      for (const char* const stop = p + 32; p != stop; ++p) {
        if (*p == '\n' || *p == '\r') return p;
      }
    }
    while (end - p >= 8 && !has_low_byte(load_word(p))) p += 8;
  }
  for (; p != end; ++p) {
    if (*p == '\n' || *p == '\r') return p;
  }
  return end;
}

/// The byte after the line end at `p`; CRLF is one line end. REQUIRES: p != end, *p is CR or LF.
[[nodiscard]] constexpr const char* skip_line_end(const char* p, const char* end) noexcept {
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
  if (!std::is_constant_evaluated()) {
    while (end - p >= 8 && !has_low_byte(load_word(p))) p += 8;
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

}  // namespace sse::inline v0::detail
