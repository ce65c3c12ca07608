// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// address: IP addresses in text, read as strictly as inet_pton does and written in the one way that
// inet_ntop writes them, so that two spellings of an address compare, and count, as one. Not
// public.
//
//   const ip_address a = parse_ip("2001:DB8:0::1");     // a.size == 16
//   ip_text(a)                                          // "2001:db8::1"
//
// Refused: parts that are left out ("127.1"), hexadecimal, octal and leading zeros in IPv4, zones
// ("%eth0"), brackets, ports, spaces. What a system's resolver would make of those is its own.
#pragma once
#ifndef SSEHUB_DETAIL_HTTP_IP_ADDRESS_HPP
#define SSEHUB_DETAIL_HTTP_IP_ADDRESS_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <sse/config.hpp>
#include <sse/detail/http/characters.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// In network order.
struct ip_address {
  std::array<std::uint8_t, 16> bytes{};
  std::size_t size = 0;  ///< 4: IPv4, 16: IPv6, 0: none

  [[nodiscard]] constexpr explicit operator bool() const noexcept { return size != 0; }
};

/// Takes a number of 0 to 255 off `s`, in decimal and without leading zeros; -1: there is none.
[[nodiscard]] constexpr int take_octet(std::string_view& s) noexcept {
  int n = -1;
  while (!s.empty() && text::is_digit(s.front())) {
    if (n == 0) return -1;
    n = (n < 0 ? 0 : n * 10) + (s.front() - '0');
    if (n > 255) return -1;
    s.remove_prefix(1);
  }
  return n;
}

/// The four numbers of an IPv4 address to `out`, which has room for them.
[[nodiscard]] constexpr bool read_ipv4(std::string_view s, std::uint8_t* out) noexcept {
  for (int i = 0; i < 4; ++i) {
    if (i != 0) {
      if (!s.starts_with('.')) return false;
      s.remove_prefix(1);
    }
    const int n = take_octet(s);
    if (n < 0) return false;
    out[i] = static_cast<std::uint8_t>(n);
  }
  return s.empty();
}

/// One to four hexadecimal digits; -1: something else.
[[nodiscard]] constexpr int read_group(std::string_view s) noexcept {
  if (s.empty() || s.size() > 4) return -1;
  int n = 0;
  for (const char c : s) {
    const int digit = text::hex_digit(c);
    if (digit < 0) return -1;
    n = n * 16 + digit;
  }
  return n;
}

/// RFC 4291 2.2: eight groups, the last two perhaps as an IPv4 address; "::" stands once for at
/// least one of them. Returns no address if it is none.
[[nodiscard]] constexpr ip_address read_ipv6(std::string_view s) noexcept {
  constexpr std::size_t no_gap = 17;
  ip_address out;
  std::size_t n = 0;         // bytes read
  std::size_t gap = no_gap;  // how many stand before the "::"
  if (s.starts_with("::")) {
    gap = 0;
    s.remove_prefix(2);
  }
  while (!s.empty()) {
    const std::size_t end = s.find(':');
    const std::string_view group = s.substr(0, end);
    if (end == std::string_view::npos && n <= 12 && read_ipv4(group, &out.bytes[n])) {
      n += 4;
      break;
    }
    const int value = read_group(group);
    if (value < 0 || n == 16) return {};
    out.bytes[n++] = static_cast<std::uint8_t>(value >> 8);
    out.bytes[n++] = static_cast<std::uint8_t>(value & 0xff);
    if (end == std::string_view::npos) break;
    s.remove_prefix(end + 1);
    if (s.empty()) return {};  // a single colon at the end
    if (s.front() != ':') continue;
    if (gap != no_gap) return {};
    gap = n;
    s.remove_prefix(1);
  }
  if ((gap == no_gap) != (n == 16)) return {};
  for (std::size_t from = n, to = 16; gap != no_gap && from > gap;) {
    out.bytes[--to] = out.bytes[--from];
    out.bytes[from] = 0;
  }
  out.size = 16;
  return out;
}

/// An address of either version; none: `s` is not exactly one.
[[nodiscard]] constexpr ip_address parse_ip(std::string_view s) noexcept {
  if (s.find(':') != std::string_view::npos) return read_ipv6(s);
  ip_address out;
  if (read_ipv4(s, out.bytes.data())) out.size = 4;
  return out;
}

/// An address as proxies name it, with or without a port: "1.2.3.4:80", "::1", "[::1]", "[::1]:80".
[[nodiscard]] constexpr ip_address parse_ip_port(std::string_view s) noexcept {
  const bool literal = s.starts_with('[');
  const std::size_t close = literal ? s.find(']') : 0;
  if (close == std::string_view::npos) return {};
  std::size_t colon = s.find(':', close);
  if (!literal && colon != s.rfind(':')) colon = std::string_view::npos;  // IPv6, and no port
  const std::string_view host = s.substr(0, colon);
  if (colon != std::string_view::npos) {
    const std::string_view port = s.substr(colon + 1);
    std::uint32_t n = 0;
    for (const char c : port) {
      n = text::is_digit(c) ? n * 10 + static_cast<std::uint32_t>(c - '0') : 65536;
      if (n > 65535) return {};
    }
    if (port.empty()) return {};
  }
  if (!literal) return parse_ip(host);
  return host.ends_with(']') ? read_ipv6(host.substr(1, host.size() - 2)) : ip_address{};
}

/// An IPv4 address that is written as an IPv6 one ("::ffff:1.2.3.4", RFC 4291 2.5.5.2) is the IPv4
/// address: peers of a socket for both versions look like that.
[[nodiscard]] constexpr ip_address plain_ip(const ip_address& a) noexcept {
  if (a.size != 16 || a.bytes[10] != 0xff || a.bytes[11] != 0xff) return a;
  ip_address out;
  for (std::size_t i = 0; i < 10; ++i) {
    if (a.bytes[i] != 0) return a;
  }
  for (std::size_t i = 0; i < 4; ++i) out.bytes[i] = a.bytes[12 + i];
  out.size = 4;
  return out;
}

inline void append_ipv4(std::string& out, const std::uint8_t* bytes) {
  for (int i = 0; i < 4; ++i) {
    if (i != 0) out += '.';
    out += std::to_string(bytes[i]);
  }
}

/// RFC 5952 4: lower case, no leading zeros, "::" for the first of the longest runs of at least two
/// zero groups. Empty: no address.
[[nodiscard]] inline std::string ip_text(const ip_address& a) {
  std::string out;
  if (a.size == 4) append_ipv4(out, a.bytes.data());
  if (a.size != 16) return out;
  const auto group = [&](std::size_t i) { return a.bytes[2 * i] << 8 | a.bytes[2 * i + 1]; };
  std::size_t gap = 8;
  std::size_t longest = 1;
  for (std::size_t i = 0; i < 8; ++i) {
    std::size_t n = 0;
    while (i + n < 8 && group(i + n) == 0) ++n;
    if (n > longest) {
      gap = i;
      longest = n;
    }
  }
  // As inet_ntop: the forms that hold an IPv4 address show it.
  const bool v4 = gap == 0 && (longest == 6 || (longest == 5 && group(5) == 0xffff));
  for (std::size_t i = 0; i < 8;) {
    if (i == gap) {
      out += "::";
      i += longest;
    } else if (v4 && i == 6) {
      append_ipv4(out, &a.bytes[12]);
      break;
    } else {
      constexpr std::string_view digits = "0123456789abcdef";
      bool begun = false;
      for (int shift = 12; shift >= 0; shift -= 4) {
        const auto digit = static_cast<std::size_t>(group(i) >> shift & 0xf);
        begun = begun || digit != 0 || shift == 0;
        if (begun) out += digits[digit];
      }
      if (++i != 8 && i != gap) out += ':';
    }
  }
  return out;
}

/// Under what name a cap per address counts: of an IPv6 address the first `bits` ("2001:db8::/64"),
/// since whoever has one has all that share them; anything else as it is. `room` holds the name.
[[nodiscard]] inline std::string_view counted_address(std::string_view s, std::uint32_t bits,
                                                      std::string& room) {
  if (bits >= 128 || s.find(':') == std::string_view::npos) return s;
  ip_address a = read_ipv6(s);
  if (!a) return s;
  for (std::uint32_t i = 0; i < 16; ++i) {
    const std::uint32_t kept = bits > 8 * i ? bits - 8 * i : 0;
    if (kept < 8) a.bytes[i] = static_cast<std::uint8_t>(a.bytes[i] & (0xff00U >> kept));
  }
  room = ip_text(a).append("/").append(std::to_string(bits));
  return room;
}

/// The one way to write an address as a proxy names it, whatever its spelling and without its port;
/// empty: `s` is none. A connection's own address, as inet_ntop writes it, is written so already.
[[nodiscard]] inline std::string client_ip_text(std::string_view s) {
  return ip_text(plain_ip(parse_ip_port(s)));
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_HTTP_IP_ADDRESS_HPP
