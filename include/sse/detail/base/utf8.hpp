// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// UTF-8: find and replace what is not well-formed, as the WHATWG Encoding Standard decodes (4.1
// and 8.1.1). Not public.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_UTF8_HPP
#define SSEHUB_DETAIL_BASE_UTF8_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/detail/base/assert.hpp>
#include <sse/detail/base/byte_buffer.hpp>
#include <sse/detail/base/lines.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

struct utf8_step {
  std::size_t size =
      0;  ///< bytes of this code point, or of the ill-formed part that becomes one U+FFFD
  bool valid = true;
};

/// Looks at the code point at the start of `text`. REQUIRES: not empty.
[[nodiscard]] constexpr utf8_step next_utf8(std::string_view text) noexcept {
  SSEHUB_ASSERT(!text.empty());
  const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const std::size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  std::uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  std::uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < size; ++i) {
    if (i == text.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {size, true};
}

/// How many bytes at the start of `text` are well-formed.
[[nodiscard]] constexpr std::size_t valid_utf8_prefix(std::string_view text) noexcept {
  std::size_t i = 0;
  for (;;) {
    if (!std::is_constant_evaluated()) {
      while (text.size() - i >= 8 && (load_word(text.data() + i) & 0x8080808080808080U) == 0)
        i += 8;
    }
    if (i == text.size()) return i;
    const utf8_step step = next_utf8(text.substr(i));
    if (!step.valid) return i;
    i += step.size;
  }
}

/// Appends `text` with every ill-formed part replaced by U+FFFD. False if memory is out.
[[nodiscard]] inline bool append_repaired(bytes& out, std::string_view text) noexcept {
  for (;;) {
    const std::size_t good = valid_utf8_prefix(text);
    if (!out.append(text.substr(0, good))) return false;
    if (good == text.size()) return true;
    text.remove_prefix(good);
    text.remove_prefix(next_utf8(text).size);
    if (!out.append("\xEF\xBF\xBD")) return false;
  }
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_UTF8_HPP
