// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// url: the http and https URLs that a client asks for: reading, normalising, resolving a redirect's
// Location (RFC 3986 5.2), comparing origins. Not a general URL parser.
//
//   sse::detail::url u;
//   if (u.parse("http://[::1]:8080/a/../b?c#d") == sse::url_error::none)
//     connect(u.host(), u.port());                         // ::1, 8080; u.target() is /b?c
//
// Strict in scheme and authority, where a second reading would connect to another host: user
// information, percent escapes, backslashes, what is not ASCII, and addresses in any but their
// plain form are refused there. In path and
// query the bytes that may not stand there raw (space, quotes, beyond ASCII) are escaped, control
// characters are refused.
#pragma once
#ifndef SSEHUB_DETAIL_HTTP_URL_HPP
#define SSEHUB_DETAIL_HTTP_URL_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/client_error.hpp>
#include <sse/config.hpp>
#include <sse/detail/base/byte_buffer.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/base/lines.hpp>
#include <sse/detail/http/characters.hpp>
#include <sse/detail/http/ip_address.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

inline constexpr std::size_t max_url = 8192;
inline constexpr std::size_t max_host = 253;  // RFC 1035 2.3.4, as text

/// Appends a byte as its percent escape (RFC 3986 2.1).
[[nodiscard]] inline bool append_escape(bytes& out, char c) noexcept {
  constexpr std::string_view digits = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(c);
  const char escape[] = {'%', digits[byte >> 4U], digits[byte & 15U]};
  return out.append({escape, 3});
}

/// Appends `text` with every byte escaped that is not unreserved (RFC 3986 2.3): for a query value.
[[nodiscard]] inline bool append_component(bytes& out, std::string_view text) noexcept {
  for (const char& c : text) {
    const bool plain = text::is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
    if (plain ? !out.append({&c, 1}) : !append_escape(out, c)) return false;
  }
  return true;
}

/// Whether a name ends in a number, as only an IPv4 address may (WHATWG URL 3.5): resolvers read
/// "127.1", "0x7f.1" and "2130706433" as addresses too, each in its own way.
[[nodiscard]] constexpr bool ends_in_number(std::string_view host) noexcept {
  if (host.ends_with('.')) host.remove_suffix(1);
  std::string_view last = host.substr(host.rfind('.') + 1);
  const bool hex = text::starts_fold(last, "0x") && last.size() >= 2;
  if (hex) last.remove_prefix(2);
  for (const char c : last) {
    if (hex ? text::hex_digit(c) < 0 : !text::is_digit(c)) return false;
  }
  return hex || !last.empty();
}

class url {
 public:
  /// Reads an absolute URL; a fragment is dropped. On an error nothing changes.
  [[nodiscard]] url_error parse(std::string_view text) noexcept {
    if (const url_error e = validate(text); e != url_error::none) return e;
    url u;
    u.tls_ = text::starts_fold(text, "https://");
    if (!u.tls_ && !text::starts_fold(text, "http://")) return url_error::scheme;
    text.remove_prefix(u.tls_ ? 8 : 7);
    const std::size_t end = find_or_size(text, "/?#");
    if (const url_error e = u.set_authority(text.substr(0, end)); e != url_error::none) return e;
    text.remove_prefix(end);
    text = text.substr(0, text.find('#'));
    const std::size_t path = find_or_size(text, "?");
    return adopt(u, text.substr(0, path), text.substr(path));
  }

  /// Reads a reference as it stands in a document at `base`, which may be *this (RFC 3986 5.2.2).
  [[nodiscard]] url_error resolve(const url& base, std::string_view reference) noexcept {
    if (const url_error e = validate(reference); e != url_error::none) return e;
    if (has_scheme(reference)) return parse(reference);
    if (reference.starts_with("//")) {
      bytes absolute;
      const bool ok = absolute.append(base.tls_ ? "https:" : "http:") && absolute.append(reference);
      return ok ? parse(absolute.view()) : url_error::no_memory;
    }
    reference = reference.substr(0, reference.find('#'));
    const std::string_view target = base.target();
    const std::size_t base_path = find_or_size(target, "?");
    url u;
    u.copy_origin(base);
    if (!u.text_.append(base.origin())) return url_error::no_memory;
    if (reference.empty()) return adopt(u, target.substr(0, base_path), target.substr(base_path));
    const std::size_t path = find_or_size(reference, "?");
    const std::string_view query = reference.substr(path);
    if (path == 0) return adopt(u, target.substr(0, base_path), query);
    if (reference.front() == '/') return adopt(u, reference.substr(0, path), query);
    bytes merged;
    const bool ok = merged.append(target.substr(0, target.rfind('/', base_path) + 1)) &&
                    merged.append(reference.substr(0, path));
    return ok ? adopt(u, merged.view(), query) : url_error::no_memory;
  }

  /// False: no memory, nothing changes.
  [[nodiscard]] bool assign(const url& other) noexcept {
    url u;
    if (!u.text_.append(other.href())) return false;
    u.copy_origin(other);
    *this = static_cast<url&&>(u);
    return true;
  }

  [[nodiscard]] bool tls() const noexcept { return tls_; }
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  /// Lower case; an IPv6 address without brackets.
  [[nodiscard]] std::string_view host() const noexcept { return href().substr(host_, host_size_); }
  /// The value of the Host header: IPv6 in brackets, the port unless it is the scheme's own.
  [[nodiscard]] std::string_view authority() const noexcept {
    const std::size_t scheme = tls_ ? 8 : 7;
    return origin_ < scheme ? std::string_view{} : origin().substr(scheme);
  }
  /// Path and query, as a request sends them.
  [[nodiscard]] std::string_view target() const noexcept { return href().substr(origin_); }
  /// "https://host:port", the port unless it is the scheme's own (RFC 6454 6.2).
  [[nodiscard]] std::string_view origin() const noexcept { return href().substr(0, origin_); }
  [[nodiscard]] std::string_view href() const noexcept { return text_.view(); }

 private:
  [[nodiscard]] static url_error validate(std::string_view text) noexcept {
    if (text.size() > max_url) return url_error::too_long;
    for (const char c : text) {
      if (text::is_control(c)) return url_error::character;
    }
    return url_error::none;
  }
  [[nodiscard]] static std::size_t find_or_size(std::string_view s,
                                                std::string_view any_of) noexcept {
    const std::size_t at = s.find_first_of(any_of);
    return at == std::string_view::npos ? s.size() : at;
  }
  /// RFC 3986 3.1.
  [[nodiscard]] static bool has_scheme(std::string_view s) noexcept {
    for (std::size_t i = 0; i < s.size(); ++i) {
      if (s[i] == ':') return i != 0;
      const bool inner = text::is_digit(s[i]) || s[i] == '+' || s[i] == '-' || s[i] == '.';
      if (!text::is_alnum(s[i]) && !inner) return false;
      if (i == 0 && inner) return false;
    }
    return false;
  }

  void copy_origin(const url& o) noexcept {
    tls_ = o.tls_;
    port_ = o.port_;
    host_ = o.host_;
    host_size_ = o.host_size_;
    origin_ = o.origin_;
  }

  /// Writes "scheme://host:port".
  [[nodiscard]] url_error set_authority(std::string_view authority) noexcept {
    if (authority.find('@') != std::string_view::npos) return url_error::user_info;
    const bool literal = authority.starts_with('[');
    const std::size_t close = literal ? authority.find(']') : 0;
    if (close == std::string_view::npos) return url_error::host;
    const std::size_t colon = authority.find(':', close);
    const std::string_view written = authority.substr(0, colon);  // with brackets
    std::string_view host = written;
    if (literal) {
      if (!host.ends_with(']')) return url_error::host;
      host = host.substr(1, host.size() - 2);
      if (parse_ip(host).size != 16) return url_error::host;
    } else if (host.empty() || host.size() > max_host ||
               (ends_in_number(host) && !parse_ip(host))) {
      return url_error::host;
    }
    port_ = tls_ ? 443 : 80;
    const std::uint16_t own = port_;
    if (colon != std::string_view::npos && colon + 1 < authority.size()) {
      if (!set_port(authority.substr(colon + 1))) return url_error::port;
    }
    if (!text_.append(tls_ ? "https://" : "http://")) return url_error::no_memory;
    host_ = text_.size() + (literal ? 1 : 0);
    host_size_ = host.size();
    for (const char c : written) {
      const char l = text::lower(c);
      const bool name = text::is_alnum(c) || c == '-' || c == '.' || c == '_';
      if (!literal && !name) return url_error::host;
      if (!text_.append({&l, 1})) return url_error::no_memory;
    }
    if (port_ != own) {
      char digits[8] = {':'};
      const char* const end = put_decimal(digits + 1, port_);
      if (!text_.append({digits, static_cast<std::size_t>(end - digits)})) {
        return url_error::no_memory;
      }
    }
    origin_ = text_.size();
    return url_error::none;
  }

  [[nodiscard]] bool set_port(std::string_view digits) noexcept {
    std::uint64_t n = 0;
    if (read_decimal(digits, 65535, n) != decimal::number) return false;
    port_ = static_cast<std::uint16_t>(n);
    return n != 0;
  }

  /// Completes `u`, which has its origin, and becomes it.
  [[nodiscard]] url_error adopt(url& u, std::string_view path, std::string_view query) noexcept {
    if (!u.append_path(path) || !append_escaped(u.text_, query)) return url_error::no_memory;
    if (u.href().size() > max_url) return url_error::too_long;
    *this = static_cast<url&&>(u);
    return url_error::none;
  }

  /// Without dot segments (RFC 3986 5.2.4).
  [[nodiscard]] bool append_path(std::string_view path) noexcept {
    if (path.starts_with('/')) path.remove_prefix(1);
    for (;;) {
      const std::size_t end = path.find('/');
      const std::string_view segment = path.substr(0, end);
      const bool last = end == std::string_view::npos;
      const bool up = segment == "..";
      if (up) {
        const std::size_t slash = target().rfind('/');
        text_.truncate(slash == std::string_view::npos ? origin_ : origin_ + slash);
      }
      const bool dots = up || segment == ".";
      if (dots ? last && !text_.append("/")
               : !text_.append("/") || !append_escaped(text_, segment)) {
        return false;
      }
      if (last) return true;
      path.remove_prefix(end + 1);
    }
  }

  /// Escapes what may not stand in a path or query (RFC 3986 3.3, 3.4).
  [[nodiscard]] static bool append_escaped(bytes& out, std::string_view s) noexcept {
    for (const char& c : s) {
      const bool plain =
          c > ' ' && c <= '~' && std::string_view{"\"<>\\^`{|}"}.find(c) == std::string_view::npos;
      if (plain ? !out.append({&c, 1}) : !append_escape(out, c)) return false;
    }
    return true;
  }

  bytes text_{};
  std::size_t host_ = 0;
  std::size_t host_size_ = 0;
  std::size_t origin_ = 0;  // where it ends
  std::uint16_t port_ = 0;
  bool tls_ = false;
};

/// RFC 6454 5. Hosts compare as text: two spellings of an address are two origins, to be safe.
[[nodiscard]] inline bool same_origin(const url& a, const url& b) noexcept {
  return a.origin() == b.origin();
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_HTTP_URL_HPP
