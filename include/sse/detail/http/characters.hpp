// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// The character rules of HTTP and URLs that request.hpp, cors.hpp and http1.hpp share. Each rule
// stands here once.
#pragma once
#ifndef SSEHUB_DETAIL_HTTP_CHARACTERS_HPP
#define SSEHUB_DETAIL_HTTP_CHARACTERS_HPP

#include <cstddef>
#include <string_view>

#include <sse/config.hpp>
#include <sse/detail/base/utf8.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail::text {

using view = std::string_view;

[[nodiscard]] constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

/// ASCII only, as header names, schemes and hosts compare.
[[nodiscard]] constexpr bool equal_fold(view a, view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

[[nodiscard]] constexpr bool starts_fold(view s, view prefix) noexcept {
  return equal_fold(s.substr(0, prefix.size()), prefix);
}

[[nodiscard]] constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

[[nodiscard]] constexpr bool is_alnum(char c) noexcept {
  return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z');
}

/// 0x00 to 0x1F and 0x7F.
[[nodiscard]] constexpr bool is_control(char c) noexcept {
  return static_cast<unsigned char>(c) < 0x20 || c == '\x7f';
}

/// RFC 9110 5.6.2 tchar.
[[nodiscard]] constexpr bool is_token_char(char c) noexcept {
  return is_alnum(c) || view{"!#$%&'*+-.^_`|~"}.find(c) != view::npos;
}

[[nodiscard]] constexpr bool is_token(view s) noexcept {
  for (const char c : s) {
    if (!is_token_char(c)) return false;
  }
  return !s.empty();
}

/// RFC 9110 5.5: visible characters, space, tab and bytes above 0x7F; no CR, LF, NUL or other
/// controls.
[[nodiscard]] constexpr bool is_field_value(view s) noexcept {
  for (const char c : s) {
    if (is_control(c) && c != '\t') return false;
  }
  return true;
}

/// RFC 9110 5.6.3: without spaces and tabs at both ends.
[[nodiscard]] constexpr view trim(view s) noexcept {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

/// The characters of RFC 3986 3.2.2 host and 3.2.3 port; no user information, no separators.
[[nodiscard]] constexpr bool is_authority(view s) noexcept {
  for (const char c : s) {
    if (!is_alnum(c) && view{"-._~%!$&'()*+,;=:[]"}.find(c) == view::npos) return false;
  }
  return true;
}

/// Takes the next element of a list off `rest`, trimmed; separators inside quotes do not count (RFC
/// 9110 5.6.1, 5.6.4).
[[nodiscard]] constexpr view next_element(view& rest, char separator) noexcept {
  bool quoted = false;
  std::size_t i = 0;
  for (; i < rest.size() && (quoted || rest[i] != separator); ++i) {
    if (rest[i] == '"') {
      quoted = !quoted;
    } else if (quoted && rest[i] == '\\' && i + 1 < rest.size()) {
      ++i;
    }
  }
  const view element = trim(rest.substr(0, i));
  rest.remove_prefix(i < rest.size() ? i + 1 : i);
  return element;
}

[[nodiscard]] constexpr bool list_has(view list, view token) noexcept {
  while (!list.empty()) {
    if (equal_fold(next_element(list, ','), token)) return true;
  }
  return false;
}

/// Takes the next part of `rest` up to the separator off it.
[[nodiscard]] constexpr view next_part(view& rest, char separator) noexcept {
  const std::size_t end = rest.find(separator);
  const view part = rest.substr(0, end);
  rest.remove_prefix(end == view::npos ? rest.size() : end + 1);
  return part;
}

[[nodiscard]] constexpr int hex_digit(char c) noexcept {
  if (is_digit(c)) return c - '0';
  const char l = lower(c);
  return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

/// The byte at `i`, with its percent escape undone (RFC 3986 2.1); moves `i` behind it. -1: a
/// malformed escape.
[[nodiscard]] constexpr int next_byte(view s, std::size_t& i, bool plus_as_space) noexcept {
  const char c = s[i++];
  if (c == '+' && plus_as_space) return ' ';
  if (c != '%') return static_cast<unsigned char>(c);
  if (s.size() - i < 2) return -1;
  const int high = hex_digit(s[i]);
  const int low = hex_digit(s[i + 1]);
  if (high < 0 || low < 0) return -1;
  i += 2;
  return high * 16 + low;
}

/// Writes the decoded bytes to `out`, which has room for s.size(); false: a malformed escape.
[[nodiscard]] constexpr bool decode(view s, bool plus_as_space, char* out,
                                    std::size_t& n) noexcept {
  n = 0;
  for (std::size_t i = 0; i < s.size();) {
    const int byte = next_byte(s, i, plus_as_space);
    if (byte < 0) return false;
    out[n++] = static_cast<char>(byte);
  }
  return true;
}

/// No overlong forms, no surrogates, nothing above U+10FFFF.
[[nodiscard]] constexpr bool is_utf8(view s) noexcept { return valid_utf8_prefix(s) == s.size(); }

/// A segment that climbs; a backslash separates too, since some file systems think so.
[[nodiscard]] constexpr bool has_dot_dot(view path) noexcept {
  std::size_t start = 0;
  for (std::size_t i = 0; i <= path.size(); ++i) {
    if (i < path.size() && path[i] != '/' && path[i] != '\\') continue;
    if (path.substr(start, i - start) == "..") return true;
    start = i + 1;
  }
  return false;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail::text

#endif  // SSEHUB_DETAIL_HTTP_CHARACTERS_HPP
