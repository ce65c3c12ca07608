// ssehub example logs. SPDX-License-Identifier: MIT
#include "text_encoding.hpp"

#include "sse/request.hpp"

namespace logs {
namespace {

unsigned byte_at(std::string_view s, std::size_t i) noexcept {
  return i < s.size() ? static_cast<unsigned char>(s[i]) : 0;
}

/// How long the character is that begins `s`; 0: none does.
std::size_t character(std::string_view s) noexcept {
  for (const std::size_t n : {1U, 2U, 3U, 4U}) {
    if (n <= s.size() && sse::detail::text::is_utf8(s.substr(0, n))) return n;
  }
  return 0;
}

std::string_view from_latin1(std::string_view text, std::string& room) {
  room.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    const unsigned c = byte_at(text, i);
    if (c < 0x80) {
      room += text[i];
    } else {
      room += static_cast<char>(0xc0U | (c >> 6));
      room += static_cast<char>(0x80U | (c & 0x3fU));
    }
  }
  return room;
}

}  // namespace

std::string_view as_utf8(encoding e, std::string_view text, std::string& room) {
  if (e == encoding::latin1) return from_latin1(text, room);
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  if (sse::detail::text::is_utf8(text)) return text;
  room.clear();
  while (!text.empty()) {
    const std::size_t n = character(text);
    if (n == 0)
      room += "\xef\xbf\xbd";
    else
      room += text.substr(0, n);
    text.remove_prefix(n == 0 ? 1 : n);
  }
  return room;
}

}  // namespace logs
