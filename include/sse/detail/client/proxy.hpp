// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// proxy_choice: which proxy an event_source goes through to which URL. proxy_server: one of them,
// read from its URL as strictly as others (http/url.hpp). Not public.
#pragma once
#ifndef SSEHUB_DETAIL_CLIENT_PROXY_HPP
#define SSEHUB_DETAIL_CLIENT_PROXY_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/client_error.hpp>
#include <sse/config.hpp>
#include <sse/detail/base/byte_buffer.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/http/characters.hpp>
#include <sse/detail/http/ip_address.hpp>
#include <sse/detail/http/url.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// RFC 4648 4.
[[nodiscard]] inline bool append_base64(bytes& out, std::string_view in) noexcept {
  constexpr std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (; !in.empty(); in.remove_prefix(in.size() < 3 ? in.size() : 3)) {
    const auto byte = [&in](std::size_t i) {
      return i < in.size() ? static_cast<unsigned char>(in[i]) : 0U;
    };
    const unsigned bits = byte(0) << 16U | byte(1) << 8U | byte(2);
    const char four[] = {digits[bits >> 18U], digits[bits >> 12U & 63U],
                         in.size() > 1 ? digits[bits >> 6U & 63U] : '=',
                         in.size() > 2 ? digits[bits & 63U] : '='};
    if (!out.append({four, 4})) return false;
  }
  return true;
}

class proxy_server {
 public:
  /// Reads "http://user:password@host:port"; empty: there is none.
  [[nodiscard]] url_error set(std::string_view text) noexcept {
    if (text.empty()) return url_error::none;
    if (!text::starts_fold(text, "http://")) return url_error::scheme;
    std::string_view rest = text.substr(7);
    std::string_view authority = text::next_part(rest, '/');
    if (!rest.empty()) return url_error::host;  // a path: not what a proxy's URL has
    const std::size_t at = authority.find('@');
    if (at != std::string_view::npos) {
      if (const url_error e = set_user(authority.substr(0, at)); e != url_error::none) return e;
      authority.remove_prefix(at + 1);
    }
    if (authority.find_first_of("?#") != std::string_view::npos) return url_error::host;
    bytes plain;
    if (!plain.append("http://") || !plain.append(authority)) return url_error::no_memory;
    return where_.parse(plain.view());
  }

  [[nodiscard]] explicit operator bool() const noexcept { return where_.port() != 0; }
  [[nodiscard]] std::string_view host() const noexcept { return where_.host(); }
  [[nodiscard]] std::uint16_t port() const noexcept { return where_.port(); }
  /// The value of Proxy-Authorization (RFC 7617); empty: none.
  [[nodiscard]] std::string_view authorization() const noexcept { return authorization_.view(); }

 private:
  [[nodiscard]] url_error set_user(std::string_view written) noexcept {
    for (const char c : written) {  // RFC 3986 3.2.1
      const bool plain =
          text::is_alnum(c) || std::string_view{"-._~!$&'()*+,;=:%"}.find(c) != written.npos;
      if (!plain) return url_error::user_info;
    }
    std::string_view password = written;
    const std::string_view user = text::next_part(password, ':');
    bytes both;
    if (!both.reserve(written.size() + 1)) return url_error::no_memory;
    if (!append_decoded(both, user) || both.view().find(':') != std::string_view::npos ||
        !both.append(":") || !append_decoded(both, password) ||
        !text::is_field_value(both.view())) {
      return url_error::user_info;
    }
    const bool memory =
        authorization_.assign("Basic ") && append_base64(authorization_, both.view());
    return memory ? url_error::none : url_error::no_memory;
  }
  /// `out` has room.
  [[nodiscard]] static bool append_decoded(bytes& out, std::string_view escaped) noexcept {
    for (std::size_t i = 0; i < escaped.size();) {
      const int byte = text::next_byte(escaped, i, false);
      const char c = static_cast<char>(byte);
      if (byte < 0 || !out.append({&c, 1})) return false;
    }
    return true;
  }

  url where_{};
  bytes authorization_{};
};

class proxy_choice {
 public:
  /// Takes the URLs of the proxies for http and https, and who is reached without.
  [[nodiscard]] url_error set(std::string_view http, std::string_view https,
                              std::string_view except) noexcept {
    if (const url_error e = servers_[0].set(http); e != url_error::none) return e;
    if (const url_error e = servers_[1].set(https); e != url_error::none) return e;
    return except_.assign(except) ? url_error::none : url_error::no_memory;
  }

  /// Whether a proxy stands between, which is server(to.tls()) then.
  [[nodiscard]] bool between(const url& to) const noexcept {
    return server(to.tls()) && !is_excepted(to.host(), to.port());
  }
  [[nodiscard]] const proxy_server& server(bool tls) const noexcept {
    return servers_[tls ? 1 : 0];
  }

 private:
  [[nodiscard]] bool is_excepted(std::string_view host, std::uint16_t port) const noexcept {
    if (host.ends_with('.')) host.remove_suffix(1);
    const ip_address address = parse_ip(host);
    const std::string_view list = except_.view();
    for (std::size_t i = 0; i < list.size();) {
      const std::size_t end = list.find_first_of(", \t", i);
      const std::size_t size = (end == list.npos ? list.size() : end) - i;
      if (names(list.substr(i, size), host, address, port)) return true;
      i += size + 1;
    }
    return false;
  }

  [[nodiscard]] static bool names(std::string_view entry, std::string_view host,
                                  const ip_address& address, std::uint16_t port) noexcept {
    if (entry == "*") return true;
    if (address && in_network(entry, address)) return true;
    const bool literal = entry.starts_with('[');
    const std::size_t colon = entry.find(':', literal ? entry.find(']') : 0);
    if (colon != entry.npos) {
      std::uint64_t n = 0;
      if (read_decimal(entry.substr(colon + 1), 65535, n) != decimal::number || n != port) {
        return false;
      }
      entry = entry.substr(0, colon);
    }
    if (literal && entry.ends_with(']')) entry = entry.substr(1, entry.size() - 2);
    if (address) return in_network(entry, address);
    if (entry.starts_with("*.")) entry.remove_prefix(1);
    if (entry.starts_with('.')) entry.remove_prefix(1);
    if (entry.empty() || host.size() < entry.size()) return false;
    const std::size_t before = host.size() - entry.size();
    return text::equal_fold(host.substr(before), entry) && (before == 0 || host[before - 1] == '.');
  }

  /// "10.0.0.0/8", "fd00::/8", or one address.
  [[nodiscard]] static bool in_network(std::string_view network, const ip_address& a) noexcept {
    const std::size_t slash = network.find('/');
    const ip_address n = parse_ip(network.substr(0, slash));
    if (n.size != a.size) return false;
    std::uint64_t bits = n.size * 8;
    if (slash != network.npos &&
        read_decimal(network.substr(slash + 1), bits, bits) != decimal::number) {
      return false;
    }
    for (std::size_t i = 0; i < n.size; ++i) {
      const std::uint64_t kept = bits > 8 * i ? bits - 8 * i : 0;
      const unsigned mask = kept < 8 ? 0xff00U >> kept & 0xffU : 0xffU;
      if (((n.bytes[i] ^ a.bytes[i]) & mask) != 0) return false;
    }
    return true;
  }

  proxy_server servers_[2]{};  // for http, for https
  bytes except_{};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_PROXY_HPP
