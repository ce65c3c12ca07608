// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once

// ---- sse/client_error.hpp
//
// client_error, client_failure: what can go wrong for an event_source, as code and as a sentence.
// Part of sse/client.hpp.

#include <cstdint>
#include <string_view>

#include <sse/sse.hpp>
#ifndef SSEHUB_SINGLE_DETAIL_HTTP_URL_HPP
#define SSEHUB_SINGLE_DETAIL_HTTP_URL_HPP
// ---- sse/detail/http/url.hpp
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

#include <cstddef>
#include <cstdint>
#include <string_view>

#ifndef SSEHUB_SINGLE_DETAIL_HTTP_IP_ADDRESS_HPP
#define SSEHUB_SINGLE_DETAIL_HTTP_IP_ADDRESS_HPP
// ---- sse/detail/http/ip_address.hpp
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

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sse::inline v0::detail {

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

/// The one way to write the address `s`, whatever its spelling; empty: `s` is no address.
[[nodiscard]] inline std::string same_ip_text(std::string_view s) {
  return ip_text(plain_ip(parse_ip(s)));
}

}  // namespace sse::inline v0::detail
#endif  // SSEHUB_SINGLE_DETAIL_HTTP_IP_ADDRESS_HPP

namespace sse::inline v0 {

/// What is wrong with a URL.
enum class url_error : std::uint8_t {
  none,
  scheme,     ///< not http:// or https://
  user_info,  ///< name or password before the host
  host,       ///< none, not ASCII letters, digits, `-`, `.`, `_`, or a number that is no IP address
  port,       ///< not 1 to 65535
  character,  ///< a control character
  too_long,   ///< 8192 bytes
  no_memory,
};

[[nodiscard]] constexpr std::string_view to_string(url_error e) noexcept {
  switch (e) {
    case url_error::none: return "none";
    case url_error::scheme: return "scheme";
    case url_error::user_info: return "user_info";
    case url_error::host: return "host";
    case url_error::port: return "port";
    case url_error::character: return "character";
    case url_error::too_long: return "too_long";
    case url_error::no_memory: return "no_memory";
  }
  return "unknown";
}

namespace detail {

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
    if (const url_error e = check(text); e != url_error::none) return e;
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
    if (const url_error e = check(reference); e != url_error::none) return e;
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
  [[nodiscard]] static url_error check(std::string_view text) noexcept {
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

}  // namespace detail
}  // namespace sse::inline v0
#endif  // SSEHUB_SINGLE_DETAIL_HTTP_URL_HPP

namespace sse::inline v0 {

/// What went wrong.
enum class client_error : std::uint8_t {
  none,
  // told by the host in ended(), or guessed from its silence
  resolve,          ///< the host name has no address
  connect,          ///< no connection
  connect_timeout,  ///< client_options::connect_timeout
  tls,              ///< no secure connection: handshake, certificate
  read,             ///< the connection broke
  end_of_stream,    ///< the response ended as it should
  cut,              ///< the connection ended inside the response
  restarted,        ///< restart() was called
  // the response
  head_timeout,  ///< client_options::head_timeout
  stalled,       ///< no byte for client_options::stall_timeout
  bad_head,      ///< not an HTTP/1 response head
  head_too_large,
  bad_framing,         ///< lengths that contradict each other, or a malformed chunk
  bad_stream,          ///< over a limit of client_options::stream, see client_failure::parse
  status,              ///< not 200, and no redirect
  no_content,          ///< 204: the server wants no reconnection
  content_type,        ///< not text/event-stream
  content_encoding,    ///< compressed, though `identity` was asked for
  bad_redirect,        ///< no Location, or not an http or https URL
  insecure_redirect,   ///< from https to http
  too_many_redirects,  ///< client_options::max_redirects
  // ours
  no_memory,
  bad_url,      ///< see client_failure::url
  bad_options,  ///< see client_failure::option
};

[[nodiscard]] constexpr std::string_view to_string(client_error e) noexcept {
  switch (e) {
    case client_error::none: return "none";
    case client_error::resolve: return "resolve";
    case client_error::connect: return "connect";
    case client_error::connect_timeout: return "connect_timeout";
    case client_error::tls: return "tls";
    case client_error::read: return "read";
    case client_error::end_of_stream: return "end_of_stream";
    case client_error::cut: return "cut";
    case client_error::restarted: return "restarted";
    case client_error::head_timeout: return "head_timeout";
    case client_error::stalled: return "stalled";
    case client_error::bad_head: return "bad_head";
    case client_error::head_too_large: return "head_too_large";
    case client_error::bad_framing: return "bad_framing";
    case client_error::bad_stream: return "bad_stream";
    case client_error::status: return "status";
    case client_error::no_content: return "no_content";
    case client_error::content_type: return "content_type";
    case client_error::content_encoding: return "content_encoding";
    case client_error::bad_redirect: return "bad_redirect";
    case client_error::insecure_redirect: return "insecure_redirect";
    case client_error::too_many_redirects: return "too_many_redirects";
    case client_error::no_memory: return "no_memory";
    case client_error::bad_url: return "bad_url";
    case client_error::bad_options: return "bad_options";
  }
  return "unknown";
}

/// A failed attempt, or the end of a connection that had been open.
struct client_failure {
  client_error error = client_error::none;
  bool final = false;                     ///< the source is closed; otherwise it goes on by itself
  bool was_open = false;                  ///< events could come before it
  int status = 0;                         ///< of the response; 0: none came
  parse_error parse = parse_error::none;  ///< with bad_stream
  url_error url = url_error::none;        ///< with bad_url, bad_redirect
  std::string_view option{};              ///< with bad_options: the name of the first bad one
  std::uint32_t attempts = 0;             ///< failed in a row, with this one; 0: it had been stable
  duration delay{};                       ///< until the next attempt, unless final
};

namespace detail {

[[nodiscard]] constexpr std::string_view describe_url(url_error e) noexcept {
  switch (e) {
    case url_error::none: break;
    case url_error::scheme: return "the URL does not begin with http:// or https://";
    case url_error::user_info: return "the URL has user information; give an Authorization header";
    case url_error::host: return "the URL has no valid host";
    case url_error::port: return "the URL has no valid port";
    case url_error::character: return "the URL has a control character";
    case url_error::too_long: return "the URL is too long";
    case url_error::no_memory: return "out of memory";
  }
  return "the URL is not valid";
}

[[nodiscard]] constexpr std::string_view describe_stream(parse_error e) noexcept {
  switch (e) {
    case parse_error::none: break;
    case parse_error::line_too_long: return "the stream has a line that is too long";
    case parse_error::event_too_large: return "the stream has an event that is too large";
    case parse_error::too_many_lines: return "the stream has an event of too many lines";
    case parse_error::id_too_long: return "the stream has an id that is too long";
    case parse_error::type_too_long: return "the stream has an event type that is too long";
    case parse_error::no_memory: return "out of memory";
  }
  return "the stream is not valid";
}

}  // namespace detail

/// One sentence without a full stop, for people.
[[nodiscard]] constexpr std::string_view describe(const client_failure& f) noexcept {
  switch (f.error) {
    case client_error::none: return "no failure";
    case client_error::resolve: return "the host name could not be resolved";
    case client_error::connect: return "the connection could not be made";
    case client_error::connect_timeout: return "the connection was not made in time";
    case client_error::tls: return "no secure connection could be made";
    case client_error::read: return "the connection broke";
    case client_error::end_of_stream: return "the server ended the stream";
    case client_error::cut: return "the connection ended inside the response";
    case client_error::restarted: return "a restart was asked for";
    case client_error::head_timeout: return "the server did not answer in time";
    case client_error::stalled: return "the server fell silent";
    case client_error::bad_head: return "the server did not answer in HTTP/1";
    case client_error::head_too_large: return "the response head is too large";
    case client_error::bad_framing: return "the response has a malformed length or chunk";
    case client_error::bad_stream: break;
    case client_error::status: return "the server refused: its status is not 200";
    case client_error::no_content: return "the server wants no reconnection: 204";
    case client_error::content_type: return "the response is not text/event-stream";
    case client_error::content_encoding:
      return "the response is compressed, which was not asked for";
    case client_error::bad_redirect: return "a redirect does not say where to, in http or https";
    case client_error::insecure_redirect: return "a redirect leads from https to http";
    case client_error::too_many_redirects: return "too many redirects";
    case client_error::no_memory: return "out of memory";
    case client_error::bad_url: return detail::describe_url(f.url);
    case client_error::bad_options: return "an option is not valid";
  }
  return detail::describe_stream(f.parse);
}

}  // namespace sse::inline v0
