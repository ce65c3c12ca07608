// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/client.hpp
//
// event_source: the client side of an event stream over HTTP/1 as a state machine: request,
// response, redirects, reconnection with back-off, resumption, watchdogs, limits. It opens no
// socket, reads no clock and starts no thread: the host does what poll() asks, and hands in bytes
// and time. Not for programs that want it all done: sse/asio_client.hpp is such a host.
//
//   sse::event_source source{"http://localhost:8080/events", {.seed = random_number()}};
//   for (;;) {
//     const sse::client_action a = source.poll(now());
//     if (a.what == sse::client_action::connect) {        // resolve, connect, TLS if a.tls
//       if (!dial(a.host, a.port, a.tls)) source.ended(now(), sse::client_error::connect);
//       else send_all(source.connected(now()));
//     } else if (a.what == sse::client_action::secure) {  // a proxy's tunnel is there
//       if (!start_tls(a.host)) source.ended(now(), sse::client_error::tls);
//       else send_all(source.connected(now()));
//     } else if (a.what == sse::client_action::disconnect) {
//       hang_up();
//     } else if (a.what == sse::client_action::failed) {
//       log(sse::explain(source.failure()), source.failure().delay);
//     } else if (source.state() == sse::client_state::closed) {
//       return;
//     } else if (auto n = receive(buf, source.next_deadline()); n > 0) {
//       (void)source.received(now(), {buf, n}, sink);     // sink.on_event(const sse::event&)
//     } else if (n == 0) {
//       source.ended(now());                              // by the peer; on a time-out just poll
//     }
//   }
//
// What it does follows WHATWG HTML 9.2 and RFC 9112:
//  - 200 with text/event-stream opens; 204 and any other type close for good, and so does any other
//    status but those of client_options::retry_statuses. Whatever else goes wrong is tried again.
//  - 301, 302, 303, 307 and 308 are followed; each reconnection begins at the first URL again. Once
//    a redirect leaves the origin, no custom header goes along, also not back home; the last event
//    ID does, and after 307 and 308 the body with the headers that describe it.
//  - The delay before an attempt is the reconnection time (`retry:` or client_options::retry) and a
//    random time more, so that those whom one restart cut do not come back as one: at most half as
//    long (client_options::jitter), and from the second failed attempt in a row on with a bound
//    that doubles. A connection that delivered an event or lived for client_options::stable_after
//    ends the row. `retry: 0` makes at most ten attempts in two seconds
//    (client_options::min_interval).
//  - The last event ID goes along as Last-Event-ID, in its bytes as received.
//  - Through a proxy (client_options::proxy), https goes in a tunnel (CONNECT, RFC 9110 9.3.6), so
//    that the proxy sees the host alone; http is asked of the proxy by its whole URL (RFC
//    9112 3.2.2), since many open tunnels to port 443 only. Each redirect chooses anew.
//
// Threads: one at a time. Nothing throws but the sink; a failed allocation is the failure
// client_error::no_memory. All that is received is bounded by client_options.
#ifndef SSEHUB_CLIENT_HPP
#define SSEHUB_CLIENT_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include "client_error.hpp"
#include "client_response.hpp"
#include "sse.hpp"
// ---- sse/detail/client/backoff.hpp
//
// backoff: how long a client waits before its next attempt. Not public.
//
// Never less than the reconnection time (WHATWG HTML 9.2.3), and a random time more: after a good
// connection, or the first failure of a row, at most the share of it that `jitter` says, so that
// those whom one restart cut do not come back as one; after the n-th failure at most the
// reconnection time times 2^(n-2), up to `cap` in all. No two attempts begin within `min_interval`,
// and the random time counts that as the least reconnection time: `retry: 0` cannot make a hot
// loop.
#ifndef SSEHUB_DETAIL_CLIENT_BACKOFF_HPP
#define SSEHUB_DETAIL_CLIENT_BACKOFF_HPP

#include <cstdint>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `t` + `d`; `d` off: never.
[[nodiscard]] constexpr time_point deadline(time_point t, duration d) noexcept {
  return d.is_off() ? time_point::never() : t + d;
}

/// Off or below zero: 0; so long that sums could overflow: some 30 years.
[[nodiscard]] constexpr duration sane(duration d) noexcept {
  constexpr std::int64_t most = 1'000'000'000'000;
  return duration::milliseconds(d.is_off() ? 0 : d.ms() < most ? d.ms() : most);
}

class backoff {
 public:
  struct options {
    duration cap;           // of the delay that failures make; the reconnection time may be longer
    duration min_interval;  // between the begins of two attempts
    std::uint32_t jitter;   // percent of the reconnection time
    std::uint64_t seed;
  };
  constexpr explicit backoff(const options& o) noexcept
      : cap_{sane(o.cap)},
        min_interval_{sane(o.min_interval)},
        jitter_{o.jitter < 1000 ? o.jitter : 1000},
        random_{o.seed} {}

  constexpr void attempt(time_point now) noexcept {
    began_ = now;
    any_ = true;
  }
  constexpr void stable() noexcept { failures_ = 0; }
  constexpr void failed() noexcept {
    if (failures_ != UINT32_MAX) ++failures_;
  }
  /// In a row.
  [[nodiscard]] constexpr std::uint32_t failures() const noexcept { return failures_; }

  /// From `now` to the next attempt. `retry`: the reconnection time; `at_least`: a server's wish.
  [[nodiscard]] constexpr duration delay(time_point now, duration retry,
                                         duration at_least) noexcept {
    std::int64_t ms = sane(retry).ms();
    const std::int64_t base = longer(ms, min_interval_.ms());
    std::int64_t more = base / 100 * jitter_ + base % 100 * jitter_ / 100;
    if (failures_ > 1 && ms < cap_.ms()) {
      std::int64_t bound = longer(base, 1);
      for (std::uint32_t n = 2; n < failures_ && bound < cap_.ms(); ++n) bound *= 2;
      more = longer(more, shorter(bound, cap_.ms() - ms));
    }
    ms = longer(longer(ms, soonest(now).ms()), sane(at_least).ms());
    ms += static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(more) + 1));
    return duration::milliseconds(ms);
  }

  /// From `now` to the first moment at which an attempt may begin.
  [[nodiscard]] constexpr duration soonest(time_point now) const noexcept {
    const std::int64_t passed = any_ ? longer(0, (now - began_).ms()) : min_interval_.ms();
    return duration::milliseconds(longer(0, min_interval_.ms() - passed));
  }

 private:
  [[nodiscard]] static constexpr std::int64_t longer(std::int64_t a, std::int64_t b) noexcept {
    return a < b ? b : a;
  }
  [[nodiscard]] static constexpr std::int64_t shorter(std::int64_t a, std::int64_t b) noexcept {
    return a < b ? a : b;
  }

  duration cap_;
  duration min_interval_;
  std::int64_t jitter_;
  random_numbers random_;
  time_point began_{};
  std::uint32_t failures_ = 0;
  bool any_ = false;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_BACKOFF_HPP
// ---- sse/detail/client/proxy.hpp
//
// proxy_choice: which proxy an event_source goes through to which URL. proxy_server: one of them,
// read from its URL as strictly as others (http/url.hpp). Not public.
#ifndef SSEHUB_DETAIL_CLIENT_PROXY_HPP
#define SSEHUB_DETAIL_CLIENT_PROXY_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

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
#ifndef SSEHUB_DETAIL_HTTP_URL_HPP
#define SSEHUB_DETAIL_HTTP_URL_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

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
// ---- sse/detail/client/request_writer.hpp
//
// client_request: what an event_source sends, checked once and written for each connection. Not
// public.
#ifndef SSEHUB_DETAIL_CLIENT_REQUEST_WRITER_HPP
#define SSEHUB_DETAIL_CLIENT_REQUEST_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class client_request {
 public:
  /// What redirects made of it.
  struct changes {
    bool get = false;      // the method became GET: no body, no header that describes one
    bool foreign = false;  // it left its origin: no header of the user but those of the body
  };

  /// Takes the options that make a request. Returns the name of the first bad one; empty: all good.
  /// `memory` becomes false if there is none.
  [[nodiscard]] std::string_view set(std::string_view method, std::string_view body,
                                     std::span<const header> headers, std::string_view resume_query,
                                     bool& memory) noexcept {
    using text::equal_fold;
    if (!text::is_token(method) || equal_fold(method, "CONNECT") || equal_fold(method, "HEAD") ||
        equal_fold(method, "TRACE")) {
      return "method";
    }
    if (!body.empty() && method == "GET") return "body";
    memory = method_.assign(method) && body_.assign(body) && resume_query_.assign(resume_query);
    for (const header& h : headers) {
      const std::string_view value = text::trim(h.value);
      if (!text::is_token(h.name) || !text::is_field_value(value) || is_ours(h.name)) {
        return "headers";
      }
      memory = memory && headers_.append(h.name) && headers_.append(": ") &&
               headers_.append(value) && headers_.append("\r\n");
    }
    return {};
  }

  [[nodiscard]] std::string_view method(const changes& c) const noexcept {
    return c.get ? std::string_view{"GET"} : method_.view();
  }

  /// Writes head and body. `proxy`: the request goes to this one, which forwards it; it then names
  /// the whole URL (RFC 9112 3.2.2). False: no memory.
  [[nodiscard]] bool write(bytes& out, const url& to, const changes& c,
                           std::string_view last_event_id,
                           const proxy_server* proxy) const noexcept {
    out.clear();
    const bool good =
        out.append(method(c)) && out.append(" ") && (proxy == nullptr || out.append(to.origin())) &&
        append_target(out, to.target(), last_event_id) && out.append(" HTTP/1.1\r\n") &&
        add(out, "Host", to.authority()) && add_default(out, c, "Accept", "text/event-stream") &&
        add_default(out, c, "Cache-Control", "no-cache") &&
        add_default(out, c, "User-Agent", "ssehub/" SSEHUB_VERSION) &&
        add(out, "Accept-Encoding", "identity") &&
        (last_event_id.empty() || add(out, "Last-Event-ID", last_event_id)) &&
        (proxy == nullptr || add_authorization(out, *proxy)) && add(out, "Connection", "close");
    return good && append_headers(out, c) && append_body(out, c);
  }

  /// Writes what asks `proxy` for a tunnel (RFC 9110 9.3.6). False: no memory.
  [[nodiscard]] static bool write_connect(bytes& out, const url& to,
                                          const proxy_server& proxy) noexcept {
    out.clear();
    // The authority with its port, also where that is the scheme's own, which it leaves out.
    const bool own_port = to.port() == (to.tls() ? 443 : 80);
    const auto add_host = [&] {
      return out.append(to.authority()) && (!own_port || out.append(to.tls() ? ":443" : ":80"));
    };
    return out.append("CONNECT ") && add_host() && out.append(" HTTP/1.1\r\nHost: ") &&
           add_host() && out.append("\r\n") && add(out, "User-Agent", "ssehub/" SSEHUB_VERSION) &&
           add_authorization(out, proxy) && out.append("\r\n");
  }

 private:
  /// Headers that frame the message, name the connection, or are an option of their own.
  [[nodiscard]] static bool is_ours(std::string_view name) noexcept {
    constexpr std::string_view ours[] = {
        "Accept-Encoding", "Connection",          "Content-Length",   "Expect", "Host",
        "Keep-Alive",      "Last-Event-ID",       "Proxy-Connection", "TE",     "Trailer",
        "Upgrade",         "Proxy-Authorization", "Transfer-Encoding"};
    for (const std::string_view o : ours) {
      if (text::equal_fold(name, o)) return true;
    }
    return false;
  }

  [[nodiscard]] static bool is_sent(std::string_view name, const changes& c) noexcept {
    const bool of_body = text::starts_fold(name, "Content-");
    return of_body ? !c.get : !c.foreign;
  }

  [[nodiscard]] static bool add(bytes& out, std::string_view name,
                                std::string_view value) noexcept {
    return out.append(name) && out.append(": ") && out.append(value) && out.append("\r\n");
  }

  [[nodiscard]] static bool add_authorization(bytes& out, const proxy_server& proxy) noexcept {
    return proxy.authorization().empty() || add(out, "Proxy-Authorization", proxy.authorization());
  }

  [[nodiscard]] bool add_default(bytes& out, const changes& c, std::string_view name,
                                 std::string_view value) const noexcept {
    bool given = false;
    for_each_field(headers_.view(), [&](std::string_view n, std::string_view) {
      given = given || (text::equal_fold(n, name) && is_sent(n, c));
    });
    return given || add(out, name, value);
  }

  [[nodiscard]] bool append_headers(bytes& out, const changes& c) const noexcept {
    bool good = true;
    for_each_field(headers_.view(), [&](std::string_view name, std::string_view value) {
      if (is_sent(name, c)) good = good && add(out, name, value);
    });
    return good;
  }

  [[nodiscard]] bool append_body(bytes& out, const changes& c) const noexcept {
    const std::string_view body = c.get ? std::string_view{} : body_.view();
    // RFC 9110 8.6: a method that may have content says so when it has none.
    if (body.empty() && (c.get || method_.view() == "GET")) return out.append("\r\n");
    char digits[max_digits];
    const char* const end = put_decimal(digits, body.size());
    return add(out, "Content-Length", {digits, static_cast<std::size_t>(end - digits)}) &&
           out.append("\r\n") && out.append(body);
  }

  /// The query field of that name says where to resume, in place of what the URL says.
  [[nodiscard]] bool append_target(bytes& out, std::string_view target,
                                   std::string_view last_event_id) const noexcept {
    const std::string_view name = resume_query_.view();
    if (name.empty() || last_event_id.empty()) return out.append(target);
    std::string_view query = target;
    bool good = out.append(text::next_part(query, '?'));
    char separator = '?';
    while (!query.empty()) {
      const std::string_view field = text::next_part(query, '&');
      if (spells(field.substr(0, field.find('=')), name, false)) continue;
      good = good && out.append({&separator, 1}) && out.append(field);
      separator = '&';
    }
    return good && out.append({&separator, 1}) && append_component(out, name) && out.append("=") &&
           append_component(out, last_event_id);
  }

  bytes method_{};
  bytes body_{};
  bytes headers_{};  // "Name: value\r\n" each
  bytes resume_query_{};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_REQUEST_WRITER_HPP
// ---- sse/detail/client/status_set.hpp
//
// status_set: HTTP statuses, written "408,429,5xx". Not public.
#ifndef SSEHUB_DETAIL_CLIENT_STATUS_SET_HPP
#define SSEHUB_DETAIL_CLIENT_STATUS_SET_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class status_set {
 public:
  /// A list with commas of numbers from 200 to 999 and classes ("5xx"); empty: none. False: it is
  /// none, nothing changes.
  [[nodiscard]] constexpr bool set(std::string_view list) noexcept {
    status_set s;
    while (!list.empty()) {
      const std::string_view part = text::trim(text::next_part(list, ','));
      const bool whole_class = part.size() == 3 && text::equal_fold(part.substr(1), "xx");
      std::uint64_t n = 0;
      if (part.size() != 3 ||
          read_decimal(part.substr(0, whole_class ? 1 : 3), 999, n) != decimal::number) {
        return false;
      }
      const std::uint64_t first = whole_class ? n * 100 : n;
      if (first < 200) return false;
      for (std::uint64_t i = first; i < first + (whole_class ? 100 : 1); ++i) {
        s.bits_[i / 64] |= std::uint64_t{1} << i % 64;
      }
    }
    *this = s;
    return true;
  }
  /// REQUIRES: 0 to 999.
  [[nodiscard]] constexpr bool has(int status) const noexcept {
    const auto i = static_cast<std::size_t>(status);
    return (bits_[i / 64] >> i % 64 & 1U) != 0;
  }

 private:
  std::uint64_t bits_[16] = {};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_STATUS_SET_HPP
// ---- sse/detail/http/response_reader.hpp
//
// The head of an HTTP/1 response as a client reads it; body_reader.hpp reads what follows it.
// Incremental, in linear time and bounded memory however the bytes are cut; nothing throws.
//
// Strict where two readers could see two messages, tolerant where RFC 9112 asks a client to be:
//  - lines may end with LF alone (2.2), folded lines are joined with a space (5.2), the reason
//    phrase and its space may be missing (4), a Content-Length may repeat itself (6.3);
//  - refused: a CR without LF, control characters, names that are not tokens (such as with a space
//    before the colon), Content-Length with Transfer-Encoding, codings other than chunked,
//    Transfer-Encoding in HTTP/1.0, 101, versions other than HTTP/1.x.
#ifndef SSEHUB_DETAIL_HTTP_RESPONSE_READER_HPP
#define SSEHUB_DETAIL_HTTP_RESPONSE_READER_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

// ---- sse/detail/http/body_reader.hpp
//
// The body of an HTTP/1 message, response or request: its framing is taken off, by length or by
// chunks (RFC 9112 6.3, 7.1). Incremental, in linear time and without memory however the bytes are
// cut; nothing throws.
//
// Chunk lines end with CRLF, have at most 16 digits and max_chunk_line bytes; trailers have at most
// max_trailer bytes; both are dropped.
#ifndef SSEHUB_DETAIL_HTTP_BODY_READER_HPP
#define SSEHUB_DETAIL_HTTP_BODY_READER_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// What ends the body (RFC 9112 6.3).
enum class body_end : std::uint8_t { close, length, chunked };

/// What a server lets the chunks of a request have; the stream that a client reads may go on for
/// ever. Each is the most that passes.
struct chunk_limits {
  std::uint64_t content = (std::numeric_limits<std::uint64_t>::max)();  // bytes
  /// Bytes of extensions and trailers, all together.
  std::uint64_t extras = (std::numeric_limits<std::uint64_t>::max)();
  /// What RFC 9112 does not have is refused: blanks at the end of a size line, trailers that are no
  /// fields.
  bool strict = false;
};

/// Finds the content between the framing.
///
///   while (in not used up and state() is more) {
///     const auto [skipped, data] = reader.next(in);       // drop `skipped` bytes, then use data
///     reader.took(n);                                     // of data, which may be less than all
///   }
class body_reader {
 public:
  static constexpr std::size_t max_chunk_line = 4096;  // bytes of size and extensions
  static constexpr std::size_t max_trailer = 8192;     // bytes

  enum class outcome : std::uint8_t {
    more,
    complete,
    malformed,
    too_large,    // chunk_limits::content
    many_extras,  // chunk_limits::extras
  };
  struct piece {
    std::size_t skipped = 0;  // framing at the start of the input
    std::string_view data{};  // content behind it; empty: all of the input is used, or it is over
  };

  body_reader() noexcept = default;
  body_reader(body_end end, std::uint64_t length, const chunk_limits& l = {}) noexcept
      : limits_{l},
        left_{end == body_end::length ? length : 0},
        state_{end == body_end::length && length == 0 ? outcome::complete : outcome::more},
        step_{end == body_end::close    ? step::to_close
              : end == body_end::length ? step::counted
                                        : step::size} {}

  [[nodiscard]] piece next(std::string_view in) noexcept {
    piece out;
    while (out.skipped < in.size() && state_ == outcome::more) {
      if (step_ == step::to_close || step_ == step::counted || step_ == step::data) {
        out.data = in.substr(out.skipped);
        if (step_ != step::to_close && out.data.size() > left_) {
          out.data = out.data.substr(0, to_size(left_));
        }
        return out;
      }
      take(in[out.skipped++]);
    }
    return out;
  }

  /// `n` bytes of the data that next() gave are used.
  void took(std::size_t n) noexcept {
    if (step_ == step::to_close) return;
    left_ -= n;
    if (left_ != 0) return;
    if (step_ == step::counted) {
      state_ = outcome::complete;
    } else if (step_ == step::data) {
      step_ = step::data_cr;
    }
  }

  [[nodiscard]] outcome state() const noexcept { return state_; }
  /// Whether the body may end where the connection does.
  [[nodiscard]] bool ends_with_connection() const noexcept {
    return step_ == step::to_close || state_ == outcome::complete;
  }

 private:
  enum class step : std::uint8_t {
    to_close,
    counted,
    size,       // chunk-size
    space,      // blanks after it
    extension,  // to the end of the line
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer,       // at the start of a line
    trailer_name,  // in front of its colon
    trailer_in,    // behind it
    trailer_lf,
    last_lf,
  };

  void fail(outcome why = outcome::malformed) noexcept { state_ = why; }
  /// One more byte of an extension or a trailer.
  [[nodiscard]] bool may_take_extra() noexcept {
    if (limits_.extras == 0) fail(outcome::many_extras);
    return limits_.extras != 0 && limits_.extras-- != 0;
  }

  void expect(char c, char wanted, step then) noexcept {
    if (c != wanted) return fail();
    step_ = then;
  }

  void take(char c) noexcept {
    switch (step_) {
      case step::size: return take_size(c);
      case step::space:
      case step::extension: return take_extension(c);
      case step::size_lf:
        if (left_ > limits_.content) return fail(outcome::too_large);
        limits_.content -= left_;
        line_ = 0;
        return expect(c, '\n', left_ != 0 ? step::data : step::trailer);
      case step::data_cr: return expect(c, '\r', step::data_lf);
      case step::data_lf:
        expect(c, '\n', step::size);
        line_ = digits_ = 0;
        return;
      case step::trailer:
      case step::trailer_name:
      case step::trailer_in: return take_trailer(c);
      case step::trailer_lf: return expect(c, '\n', step::trailer);
      case step::last_lf:
        if (c != '\n') return fail();
        state_ = outcome::complete;
        return;
      case step::to_close:
      case step::counted:
      case step::data: return;
    }
  }

  void take_size(char c) noexcept {
    const int digit = text::hex_digit(c);
    if (digit < 0) {
      if (digits_ == 0) return fail();
      step_ = step::space;
      return take_extension(c);
    }
    if (++digits_ > 16) return fail();  // so that left_ holds it
    left_ = left_ * 16 + static_cast<std::uint64_t>(digit);
  }

  void take_extension(char c) noexcept {
    if (++line_ > max_chunk_line) return fail();
    if (c == '\r') {
      const bool padded = step_ == step::space && line_ > 1;
      return padded && limits_.strict ? fail() : void(step_ = step::size_lf);
    }
    if (!may_take_extra()) return;
    if (c == ';') {
      step_ = step::extension;
    } else if (step_ == step::space ? c != ' ' && c != '\t' : text::is_control(c) && c != '\t') {
      fail();
    }
  }

  void take_trailer(char c) noexcept {
    if (++line_ > max_trailer) return fail();
    if (c == '\r') {
      if (step_ == step::trailer_name) return fail();
      step_ = step_ == step::trailer ? step::last_lf : step::trailer_lf;
      return;
    }
    if (!may_take_extra()) return;
    const bool in_name = limits_.strict && step_ != step::trailer_in;
    if (!in_name || (c == ':' && step_ == step::trailer_name)) {
      step_ = step::trailer_in;
      if (text::is_control(c) && c != '\t') fail();
    } else {
      step_ = step::trailer_name;
      if (!text::is_token_char(c)) fail();
    }
  }

  chunk_limits limits_{};
  std::uint64_t left_ = 0;  // bytes of this chunk or of the body
  std::size_t line_ = 0;    // bytes of extensions, or of all trailers
  std::uint8_t digits_ = 0;
  outcome state_ = outcome::more;
  step step_ = step::to_close;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_HTTP_BODY_READER_HPP
// ---- sse/detail/http/date.hpp
//
// The date of HTTP as it is sent today (RFC 9110 5.6.7, IMF-fixdate). Not public.
#ifndef SSEHUB_DETAIL_HTTP_DATE_HPP
#define SSEHUB_DETAIL_HTTP_DATE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Seconds since 1970 of "Sun, 06 Nov 1994 08:49:37 GMT"; -1: something else, or before 1970. The
/// name of the day is not looked at.
[[nodiscard]] constexpr std::int64_t read_http_date(std::string_view s) noexcept {
  constexpr std::string_view shape = "ddd, 00 mmm 0000 00:00:00 GMT";
  constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  if (s.size() != shape.size()) return -1;
  for (std::size_t i = 0; i < s.size(); ++i) {
    const char c = shape[i];
    const bool free = c == '0' || c == 'd' || c == 'm';
    if (!free && s[i] != c) return -1;
  }
  const auto number = [&s](std::size_t at, std::size_t size, std::uint64_t most) {
    std::uint64_t n = 0;
    const bool good = read_decimal(s.substr(at, size), most, n) == decimal::number;
    return good ? static_cast<std::int64_t>(n) : std::int64_t{-1};
  };
  const std::size_t at = months.find(s.substr(8, 3));
  const std::int64_t day = number(5, 2, 31);
  const std::int64_t year = number(12, 4, 9999);
  const std::int64_t hour = number(17, 2, 23);
  const std::int64_t minute = number(20, 2, 59);
  const std::int64_t second = number(23, 2, 60);
  if (at == std::string_view::npos || at % 3 != 0 || day < 1 || year < 1970 || hour < 0 ||
      minute < 0 || second < 0) {
    return -1;
  }
  // Days since 1970: a year that begins in March has its leap day at its end.
  const auto month = static_cast<std::int64_t>(at / 3);  // 0: January
  const std::int64_t y = month < 2 ? year - 1 : year;
  const std::int64_t days =
      365 * y + y / 4 - y / 100 + y / 400 + (153 * ((month + 10) % 12) + 2) / 5 + day - 1 - 719'468;
  return ((days * 24 + hour) * 60 + minute) * 60 + second;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_HTTP_DATE_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Each is the most that passes.
struct response_limits {
  std::size_t head = std::size_t{64} << 10;  // bytes, with line ends and interim heads
  std::size_t headers = 256;                 // lines
  /// Of the answer to CONNECT: what frames a body counts for nothing where a tunnel begins (RFC
  /// 9110 9.3.6).
  bool tunnel = false;
};

class response_reader {
 public:
  enum class outcome : std::uint8_t {
    need_more,
    complete,
    malformed,
    too_large,  // over a limit
    framing,    // its length cannot be known for sure
    no_memory,
  };

  explicit response_reader(const response_limits& l = {}) noexcept : limits_{l} {}

  /// Takes bytes up to the end of the head; returns how many. After that or an error: none.
  std::size_t feed(std::string_view in) noexcept {
    std::size_t used = 0;
    while (used < in.size() && state_ == outcome::need_more) take(in[used++]);
    return used;
  }

  [[nodiscard]] outcome state() const noexcept { return state_; }
  [[nodiscard]] std::size_t buffered() const noexcept { return head_.lines_.size(); }
  /// REQUIRES: complete.
  [[nodiscard]] const client_response& head() const noexcept {
    SSEHUB_ASSERT(state_ == outcome::complete);
    return head_;
  }
  /// The status once its line is read; 0 before.
  [[nodiscard]] int status() const noexcept { return head_.status_; }
  [[nodiscard]] body_end end() const noexcept { return end_; }
  [[nodiscard]] std::uint64_t length() const noexcept { return length_; }

  /// Ready for the next response, which answers CONNECT if `tunnel`; gives the memory back.
  void reset(bool tunnel = false) noexcept {
    limits_.tunnel = tunnel;
    *this = response_reader{limits_};
  }

 private:
  enum class step : std::uint8_t {
    line,     // inside a line
    cr,       // after a CR
    between,  // after a line end: the next line begins, the last one goes on, or the head ends
    last_cr,  // the CR of the empty line
  };

  void fail(outcome why) noexcept {
    state_ = why;
    head_.lines_.release();
  }

  void take(char c) noexcept {
    if (++size_ > limits_.head) return fail(outcome::too_large);
    switch (step_) {
      case step::cr:
        if (c != '\n') return fail(outcome::malformed);
        step_ = step::between;
        return;
      case step::last_cr: return c == '\n' ? end_head() : fail(outcome::malformed);
      case step::between:
        if (c == '\r' || c == '\n') {
          if (!end_line()) return;
          if (c == '\n') return end_head();
          step_ = step::last_cr;
          return;
        }
        step_ = step::line;
        if (c == ' ' || c == '\t') {  // obs-fold
          if (line_ == 0) return fail(outcome::malformed);
          return append(' ');
        }
        if (!end_line()) return;
        append('\n');
        if (state_ != outcome::need_more) return;
        line_ = head_.lines_.size();
        break;
      case step::line: break;
    }
    if (c == '\r') {
      step_ = step::cr;
    } else if (c == '\n') {
      step_ = step::between;
    } else if (text::is_control(c) && c != '\t') {
      fail(outcome::malformed);
    } else {
      append(c);
    }
  }

  void append(char c) noexcept {
    constexpr std::string_view start = "HTTP/1.";  // something else is found out at once
    const std::size_t at = head_.lines_.size();
    if (at < start.size() && c != start[at]) return fail(outcome::malformed);
    if (!head_.lines_.append({&c, 1})) fail(outcome::no_memory);
  }

  /// The line from line_ on is whole.
  [[nodiscard]] bool end_line() noexcept {
    std::string_view line = head_.lines_.view().substr(line_);
    if (line_ == 0) {
      if (read_status(line)) return true;
      fail(outcome::malformed);
      return false;
    }
    const std::string_view name = line.substr(0, line.find(':'));
    if (name.size() == line.size() || !text::is_token(name)) {
      fail(outcome::malformed);
      return false;
    }
    if (++headers_ > limits_.headers) {
      fail(outcome::too_large);
      return false;
    }
    return true;
  }

  /// "HTTP/1.1 200 OK".
  [[nodiscard]] bool read_status(std::string_view line) noexcept {
    if (line.size() < 12 || !text::is_digit(line[7]) || line[8] != ' ') return false;
    if (line.size() > 12 && line[12] != ' ') return false;
    std::uint64_t status = 0;
    if (read_decimal(line.substr(9, 3), 999, status) != decimal::number) return false;
    head_.status_ = static_cast<int>(status);
    head_.minor_version_ = line[7] == '0' ? 0 : 1;
    return status >= 100 && status != 101;  // RFC 9110 15: above 599 as if it were 5xx
  }

  void end_head() noexcept {
    if (head_.status_ >= 200) return finish();
    head_.lines_.clear();  // an interim response (RFC 9110 15.2): another head follows
    head_.status_ = 0;
    line_ = 0;
    step_ = step::line;
  }

  void finish() noexcept {
    if (limits_.tunnel && head_.status_ < 300) {
      state_ = outcome::complete;
      return;
    }
    bool coded = false;
    bool sized = false;
    bool good = true;
    head_.for_each_header([&](std::string_view name, std::string_view value) {
      if (text::equal_fold(name, "Transfer-Encoding")) {
        good = good && !coded && text::equal_fold(value, "chunked");
        coded = true;
      } else if (text::equal_fold(name, "Content-Length")) {
        good = good && read_lengths(value, sized);
        sized = true;
      }
      return true;
    });
    if (!good || (coded && (sized || head_.minor_version_ == 0))) return fail(outcome::framing);
    end_ = coded ? body_end::chunked : sized ? body_end::length : body_end::close;
    state_ = outcome::complete;
  }

  /// "5" or "5, 5" (RFC 9110 8.6).
  [[nodiscard]] bool read_lengths(std::string_view list, bool sized) noexcept {
    constexpr std::uint64_t most = (std::numeric_limits<std::uint64_t>::max)();
    do {
      const std::string_view digits = text::trim(text::next_part(list, ','));
      std::uint64_t n = 0;
      if (read_decimal(digits, most, n) != decimal::number || (sized && n != length_)) return false;
      length_ = n;
      sized = true;
    } while (!list.empty());
    return true;
  }

  response_limits limits_{};
  client_response head_{};
  std::size_t size_ = 0;  // bytes so far
  std::size_t line_ = 0;  // where the last line begins; 0: the status line
  std::size_t headers_ = 0;
  std::uint64_t length_ = 0;
  outcome state_ = outcome::need_more;
  step step_ = step::line;
  body_end end_ = body_end::close;
};

// --- what a client asks of a head

/// A number of seconds, or off: absent, or in another form such as a date.
[[nodiscard]] constexpr duration whole_seconds(std::string_view digits, duration most) noexcept {
  std::uint64_t n = 0;
  const auto limit = static_cast<std::uint64_t>(most.ms() / 1000);
  if (read_decimal(digits, limit, n) == decimal::malformed) return duration::off();
  return duration::seconds(static_cast<std::int64_t>(n));
}

/// What Retry-After asks for (RFC 9110 10.2.3), at most `most`: seconds, or a date, which counts
/// from the response's own, so that no clock need be right. Off: absent, or neither.
[[nodiscard]] inline duration retry_after(const client_response& r, duration most) noexcept {
  const std::string_view value = r.header("Retry-After");
  const duration seconds = whole_seconds(value, most);
  const std::int64_t until = read_http_date(value);
  const std::int64_t date = until < 0 ? -1 : read_http_date(r.header("Date"));
  if (date < 0 || until <= date) return seconds;
  const duration wait = duration::seconds(until - date);
  return most < wait ? most : wait;
}

/// Every Content-Type says text/event-stream, with any parameters.
[[nodiscard]] inline bool is_event_stream(const client_response& r) noexcept {
  int types = 0;
  int streams = 0;
  r.for_each_header([&](std::string_view name, std::string_view value) {
    if (!text::equal_fold(name, "Content-Type")) return true;
    ++types;
    streams += text::equal_fold(text::trim(text::next_part(value, ';')), "text/event-stream");
    return true;
  });
  return types != 0 && streams == types;
}

[[nodiscard]] inline bool is_identity(const client_response& r) noexcept {
  bool plain = true;
  r.for_each_header([&](std::string_view name, std::string_view value) {
    plain = !text::equal_fold(name, "Content-Encoding") || value.empty() ||
            text::equal_fold(value, "identity");
    return plain;
  });
  return plain;
}

/// Empty: none, or several that differ.
[[nodiscard]] inline std::string_view only_location(const client_response& r) noexcept {
  std::string_view location;
  r.for_each_header([&](std::string_view name, std::string_view value) {
    if (!text::equal_fold(name, "Location")) return true;
    const bool same = location.empty() || location == value;
    location = same ? value : std::string_view{};
    return same;
  });
  return location;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_HTTP_RESPONSE_READER_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// As EventSource.readyState.
enum class client_state : std::uint8_t {
  connecting,  ///< an attempt runs, or the next one waits
  open,        ///< events come
  closed,      ///< never again
};

/// What the host is to do; see event_source::poll().
struct client_action {
  /// Which of them.
  enum kind : std::uint8_t {
    none,        ///< nothing until an input comes or next_deadline() passes
    connect,     ///< open a connection to host:port; then call connected() or ended()
    secure,      ///< make this connection secure, for `host`; then call connected() or ended()
    disconnect,  ///< drop the connection, or the attempt to get one; call ended() no more for it
    failed,      ///< something to report: event_source::failure()
  };
  kind what = none;  ///< what to do next
  // Of connect and secure. Views are valid until the next call that is not const.
  std::string_view host{};  ///< a name or an address; IPv6 without brackets
  std::uint16_t port = 0;   ///< of that host
  bool tls = false;         ///< make it secure at once, for `host`
  bool tunnel = false;  ///< it leads to a proxy, and will be made secure when `secure` is asked for
};

/// Proxies of HTTP, by the scheme of the URL that is asked for. Each is written
/// "http://user:password@host:port", or without the user; port 80 if there is none; what is no
/// letter or digit in user and password as %XX. Empty: no proxy. Never chosen by itself: a program
/// may want what the environment says, see sse/asio_client.hpp.
struct proxy_options {
  std::string_view http{};   ///< for http:// URLs
  std::string_view https{};  ///< for https:// URLs
  /// Who is reached without, as in NO_PROXY, with commas between: "example.com" (and all below it),
  /// "10.0.0.0/8", "[::1]:8080", "*" for all. An address in the URL is compared as such. Entries of
  /// other forms match nothing.
  std::string_view except{};
};

/// All views are copied by the constructor.
struct client_options {
  std::string_view method = "GET";  ///< REQUIRES: a token, not CONNECT, HEAD or TRACE.
  std::string_view body{};          ///< sent with each attempt. REQUIRES: empty for GET.
  /// Sent with each attempt, but not to another origin. Accept, Cache-Control and User-Agent
  /// replace ours. REQUIRES: names are tokens, values without control characters; none of Host,
  /// Last-Event-ID, Accept-Encoding, Proxy-Authorization and those that frame a message or name a
  /// connection.
  std::span<const header> headers{};
  std::string_view last_event_id{};  ///< where to begin. REQUIRES: no CR, LF, NUL; stream.limits.id
  proxy_options proxy{};             ///< REQUIRES: as it says
  /// Also sends the last event ID in this query field, in place of one of that name in the URL; for
  /// servers that do not read the header. Empty: no.
  std::string_view resume_query{};

  // Of these, off() is 0: no wait, nothing added by failures, stable at once.
  duration retry = duration::seconds(3);  ///< the reconnection time until a server says another
  duration max_retry = duration::seconds(600);   ///< the most that `retry:` and Retry-After may say
  duration max_backoff = duration::seconds(30);  ///< the most that failures make of the delay
  duration min_interval = duration::milliseconds(200);  ///< between the begins of two attempts
  std::uint32_t jitter = 50;  ///< percent of the reconnection time, the most that is added to it
  duration stable_after = duration::seconds(10);  ///< a connection this long open was no failure
  std::uint32_t max_attempts = 0;  ///< that many failed in a row: closed for good; 0: never
  /// Statuses that may be others later: they are tried again, not before Retry-After. A list of
  /// numbers and classes; empty: all others than 200 close for good, as the standard has it for
  /// browsers, where a user can reload the page.
  std::string_view retry_statuses = "408,425,429,5xx";

  std::uint32_t max_redirects = 20;      ///< in one attempt; more: closed for good
  bool allow_insecure_redirect = false;  ///< from https to http

  /// From connect to connected(), with a proxy's answer and the handshake behind it; off: none.
  duration connect_timeout = duration::seconds(30);
  /// From connected() to the end of the head; off: none.
  duration head_timeout = duration::seconds(30);
  /// Reconnects after so long without a byte; off: never. Not said: three times the seconds that
  /// the response header X-Heartbeat-Interval says, or without it 90 s: a dead connection looks
  /// like a silent one, and a stream that is silent for 60 s would be cut by most proxies anyway.
  /// Off is for servers that send no heartbeats, have little to say, and cannot resume.
  std::optional<duration> stall_timeout{};

  std::size_t max_head = std::size_t{64} << 10;  ///< bytes of response head, with interim ones
  std::size_t max_headers = 256;                 ///< lines of it
  parser_options stream{.utf8 = invalid_utf8::replace};  ///< limits of line, event, id and so on
  std::uint64_t seed = 0x9e3779b97f4a7c15ULL;            ///< for jitter; give something random
};

/// What received() calls. Required: on_event, which returns void, or bool: false stops after this
/// event. Optional, detected:
///   void on_open(const client_response&)     the stream opened
///   void on_gap(const gap&)                  a gap frame, instead of on_event
///   void on_comment(std::string_view text)   a comment line
///   void on_retry(std::int64_t ms)           the server set the reconnection time, as it said it
///   void on_position(std::string_view id)    last_event_id() moved without an event
/// All views are valid until the callback returns. Callbacks may call close(), restart() and what
/// is const, nothing else.
template <class S>
concept client_sink = event_sink<S>;

namespace detail {
template <class S>
concept comment_sink = requires(S& sink, std::string_view text) {
  sink.on_comment(text);
};
}  // namespace detail

/// A client of one stream, as a state machine; see the top of this header.
class event_source {
 public:
  /// Connects at the first poll(). A bad URL or option closes it, which poll() reports. The URL:
  /// http or https, without user information (give an Authorization header).
  explicit event_source(std::string_view url, const client_options& o = {}) noexcept;
  event_source(event_source&&) noexcept = default;
  event_source& operator=(event_source&&) noexcept = default;

  // --- the host's loop

  /// What to do now. Call it again until it says none; then after every input, and at
  /// next_deadline(). Each action is given once.
  [[nodiscard]] client_action poll(time_point now) noexcept;
  /// When poll() is needed next, if no input comes before; never() if not.
  [[nodiscard]] time_point next_deadline() const noexcept;

  /// The connection that poll() asked for is there, or secure now: send what this returns. It is
  /// valid until the next call that is not const: copy it if sending may take longer. Empty: the
  /// source no longer wants the connection, poll() says more.
  [[nodiscard]] std::string_view connected(time_point now) noexcept;

  /// Bytes came; returns how many were taken: all, unless the sink stopped it. Feed the rest later:
  /// in.substr(result). While stopped, no stall is looked for; an empty `in` says that reading goes
  /// on.
  template <client_sink Sink>
  [[nodiscard]] std::size_t received(time_point now, std::string_view in, Sink&& sink);

  /// The connection, or the attempt to get one, is over: the peer closed it, or `why` (resolve,
  /// connect, tls, read) with its `cause`, for client_failure. Feed what was received before.
  /// Without effect after disconnect.
  void ended(time_point now, client_error why = client_error::none,
             std::error_code cause = {}) noexcept;

  // --- the user

  /// Closes for good. poll() then says disconnect, if there is a connection, and nothing more.
  void close() noexcept;
  /// Drops the connection and connects again after the reconnection time, or at once if it waits
  /// for that already. Without effect once closed.
  void restart(time_point now) noexcept;

  /// Where it stands.
  [[nodiscard]] client_state state() const noexcept {
    return phase_ == phase::open     ? client_state::open
           : phase_ == phase::closed ? client_state::closed
                                     : client_state::connecting;
  }
  /// The last failure; error none: there was none. Stays until the next one.
  [[nodiscard]] const client_failure& failure() const noexcept { return failure_; }
  /// Where it is connected or connects to, after redirects: "https://host/path?query".
  [[nodiscard]] std::string_view url() const noexcept { return current_.href(); }
  /// "https://host" of it, as MessageEvent.origin; the port only if it is not the scheme's own.
  [[nodiscard]] std::string_view origin() const noexcept { return current_.origin(); }
  /// For a later event_source to go on there. Valid until the next call that is not const.
  [[nodiscard]] std::string_view last_event_id() const noexcept { return parser_.last_event_id(); }
  /// The reconnection time now.
  [[nodiscard]] duration retry() const noexcept { return retry_; }
  /// Bytes of the connection are waited for: after connected(), until it ends or is to be secured.
  [[nodiscard]] bool reads() const noexcept {
    return phase_ == phase::tunnel || phase_ == phase::head || phase_ == phase::open;
  }
  /// Bytes held for the request, a head, and an unfinished event.
  [[nodiscard]] std::size_t buffered() const noexcept {
    return out_.size() + head_.buffered() + parser_.buffered();
  }

 private:
  enum class phase : std::uint8_t {
    waiting,
    dialing,
    tunnel,    // the proxy was asked for one
    securing,  // and it is there
    head,
    open,
    closed,
  };

  /// What the parser calls.
  template <class Sink>
  struct stream_sink {
    event_source& source;
    Sink& sink;

    bool on_event(const event& e) {
      source.delivered_ = true;
      if constexpr (requires(const gap& g) { sink.on_gap(g); }) {
        gap g;
        if (read_gap(e, g)) return go_on([&] { return sink.on_gap(g); });
      }
      return go_on([&] { return sink.on_event(e); });
    }
    bool on_comment(std::string_view text) requires detail::comment_sink<Sink> {
      sink.on_comment(text);
      return is_open();
    }
    bool on_position(std::string_view id) {
      if constexpr (requires { sink.on_position(id); }) sink.on_position(id);
      return is_open();
    }
    bool on_retry(std::int64_t ms) {
      const std::int64_t most = source.options_.max_retry.ms();
      source.retry_ = duration::milliseconds(ms < most ? ms : most);
      if constexpr (requires { sink.on_retry(ms); }) sink.on_retry(ms);
      return is_open();
    }

   private:
    template <class F>
    [[nodiscard]] bool go_on(F&& callback) {
      if constexpr (std::same_as<decltype(callback()), bool>) {
        source.stopped_ = !callback();
      } else {
        callback();
      }
      return !source.stopped_ && is_open();
    }
    /// Callbacks may end it.
    [[nodiscard]] bool is_open() const noexcept { return source.phase_ == phase::open; }
  };

  /// While callbacks run, what they look at stays.
  struct callbacks {
    event_source& source;
    explicit callbacks(event_source& s) noexcept : source{s} { s.calling_ = true; }
    callbacks(const callbacks&) = delete;
    callbacks& operator=(const callbacks&) = delete;
    ~callbacks() {
      source.calling_ = false;
      if (source.phase_ != phase::open) source.forget();
    }
  };

  void begin(time_point now) noexcept;
  void drop() noexcept;
  void forget() noexcept;
  void fail(time_point now, client_error why, bool final = false,
            duration at_least = duration::off()) noexcept;
  [[nodiscard]] bool read_head(time_point now) noexcept;
  void read_tunnel(time_point now, std::string_view in) noexcept;
  [[nodiscard]] bool open(time_point now) noexcept;
  void redirect(time_point now) noexcept;

  client_options options_{};  // without its views
  detail::client_request request_{};
  detail::client_request::changes changes_{};
  detail::url first_{};
  detail::url current_{};
  detail::response_reader head_{};
  detail::body_reader body_{};
  parser parser_{};
  detail::backoff backoff_;
  detail::bytes out_{};  // the request
  client_failure failure_{};
  detail::status_set retried_{};
  detail::proxy_choice proxies_{};
  duration retry_{};
  duration stall_{};  // of this connection
  time_point due_{};  // of the wait, the connection, the head, or the next byte
  time_point opened_{};
  time_point last_byte_{};
  std::uint32_t redirects_ = 0;
  int status_ = 0;  // of the response that came last in this attempt
  phase phase_ = phase::waiting;
  bool link_ = false;        // the host has a connection, or tries to get one
  bool to_connect_ = false;  // actions that poll() has not given yet
  bool to_secure_ = false;
  bool to_disconnect_ = false;
  bool proxied_ = false;  // this connection
  bool to_report_ = false;
  bool stopped_ = false;    // by the sink
  bool delivered_ = false;  // an event, on this connection
  bool calling_ = false;    // callbacks run
};

inline event_source::event_source(std::string_view url, const client_options& o) noexcept
    : options_{o},
      head_{{o.max_head, o.max_headers}},
      parser_{o.stream},
      backoff_{{o.max_backoff, o.min_interval, o.jitter, o.seed}} {
  options_.method = options_.body = options_.last_event_id = options_.resume_query = {};
  options_.retry_statuses = {};
  options_.proxy = {};
  options_.headers = {};
  options_.max_retry = detail::sane(o.max_retry);
  options_.retry = retry_ = detail::sane(o.retry);
  due_ = time_point::milliseconds((std::numeric_limits<std::int64_t>::min)());

  bool memory = true;
  failure_.option = request_.set(o.method, o.body, o.headers, o.resume_query, memory);
  if (failure_.option.empty() && !parser_.set_last_event_id(o.last_event_id)) {
    failure_.option = "last_event_id";
  }
  if (failure_.option.empty() && !retried_.set(o.retry_statuses)) {
    failure_.option = "retry_statuses";
  }
  url_error url_of_proxy = url_error::none;
  if (failure_.option.empty()) {
    url_of_proxy = proxies_.set(o.proxy.http, o.proxy.https, o.proxy.except);
    if (url_of_proxy != url_error::none) failure_.option = "proxy";
  }
  failure_.url = first_.parse(url);
  memory = memory && failure_.url != url_error::no_memory && url_of_proxy != url_error::no_memory &&
           current_.assign(first_);
  failure_.error = !memory                           ? client_error::no_memory
                   : failure_.url != url_error::none ? client_error::bad_url
                   : !failure_.option.empty()        ? client_error::bad_options
                                                     : client_error::none;
  if (failure_.error == client_error::bad_options) failure_.url = url_of_proxy;
  if (failure_.error == client_error::none) return;
  close();
  failure_.final = true;
  to_report_ = true;
}

inline client_action event_source::poll(time_point now) noexcept {
  for (;;) {
    if (to_disconnect_) {
      to_disconnect_ = false;
      return {client_action::disconnect};
    }
    if (to_report_) {
      to_report_ = false;
      return {client_action::failed};
    }
    if (to_connect_) {
      to_connect_ = false;
      link_ = true;
      due_ = detail::deadline(now, options_.connect_timeout);
      const bool tls = current_.tls();
      proxied_ = proxies_.between(current_);
      if (!proxied_) return {client_action::connect, current_.host(), current_.port(), tls};
      const detail::proxy_server& proxy = proxies_.server(tls);
      return {client_action::connect, proxy.host(), proxy.port(), false, tls};
    }
    if (to_secure_) {
      to_secure_ = false;
      return {client_action::secure, current_.host(), current_.port(), true};
    }
    if (phase_ == phase::closed || now < due_) return {};
    switch (phase_) {
      case phase::waiting: begin(now); break;
      case phase::dialing:
      case phase::tunnel:
      case phase::securing: fail(now, client_error::connect_timeout); break;
      case phase::head: fail(now, client_error::head_timeout); break;
      case phase::open: fail(now, client_error::stalled); break;
      case phase::closed: break;
    }
  }
}

inline time_point event_source::next_deadline() const noexcept {
  if (to_connect_ || to_secure_ || to_disconnect_ || to_report_) {
    return time_point::milliseconds((std::numeric_limits<std::int64_t>::min)());
  }
  return phase_ == phase::closed ? time_point::never() : due_;
}

inline std::string_view event_source::connected(time_point now) noexcept {
  if (!link_ || to_secure_ || (phase_ != phase::dialing && phase_ != phase::securing)) return {};
  const detail::proxy_server* const proxy = proxied_ ? &proxies_.server(current_.tls()) : nullptr;
  const bool ask = proxy != nullptr && current_.tls() && phase_ == phase::dialing;
  if (ask ? !request_.write_connect(out_, current_, *proxy)
          : !request_.write(out_, current_, changes_, parser_.last_event_id(),
                            current_.tls() ? nullptr : proxy)) {
    fail(now, client_error::no_memory);
    return {};
  }
  if (ask) {
    head_.reset(true);
    phase_ = phase::tunnel;
    return out_.view();
  }
  phase_ = phase::head;
  due_ = detail::deadline(now, options_.head_timeout);
  return out_.view();
}

template <client_sink Sink>
std::size_t event_source::received(time_point now, std::string_view in, Sink&& sink) {
  if (!reads()) return in.size();
  const callbacks guard{*this};
  std::size_t used = 0;
  if (phase_ == phase::tunnel) {
    read_tunnel(now, in);
    return in.size();
  }
  if (phase_ == phase::head) {
    used = head_.feed(in);
    if (!read_head(now)) return in.size();
    if constexpr (requires { sink.on_open(head_.head()); }) sink.on_open(head_.head());
    head_.reset();
  }
  stopped_ = false;
  last_byte_ = now;
  due_ = phase_ == phase::open ? detail::deadline(now, stall_) : due_;
  stream_sink<std::remove_reference_t<Sink>> events{*this, sink};
  while (phase_ == phase::open) {
    if (body_.state() == detail::body_reader::outcome::malformed) {
      fail(now, client_error::bad_framing);
    } else if (body_.state() == detail::body_reader::outcome::complete) {
      fail(now, client_error::end_of_stream);
    } else if (used == in.size()) {
      return used;
    } else {
      const auto [skipped, data] = body_.next(in.substr(used));
      used += skipped;
      if (data.empty()) continue;
      const parse_result r = parser_.feed(data, events);
      used += r.consumed;
      body_.took(r.consumed);
      if (phase_ != phase::open) break;
      if (!r) {
        fail(now, r.error == parse_error::no_memory ? client_error::no_memory
                                                    : client_error::bad_stream);
      } else if (stopped_) {
        due_ = time_point::never();
        return used;
      }
    }
  }
  return in.size();
}

inline void event_source::ended(time_point now, client_error why, std::error_code cause) noexcept {
  if (!link_) return;
  link_ = false;
  const bool whole = phase_ == phase::open && body_.ends_with_connection();
  switch (why) {
    case client_error::resolve:
    case client_error::connect:
    case client_error::tls:
    case client_error::read: break;
    default:
      why = phase_ == phase::dialing    ? client_error::connect
            : phase_ == phase::tunnel   ? client_error::proxy
            : phase_ == phase::securing ? client_error::tls
            : whole                     ? client_error::end_of_stream
                                        : client_error::cut;
  }
  fail(now, why);
  failure_.cause = cause;
}

inline void event_source::close() noexcept {
  drop();
  to_report_ = false;
  phase_ = phase::closed;
  if (!calling_) forget();
}

inline void event_source::restart(time_point now) noexcept {
  if (phase_ == phase::closed) return;
  if (phase_ == phase::waiting) {
    due_ = now + backoff_.soonest(now);
    return;
  }
  fail(now, client_error::restarted);
}

/// An attempt begins: back to the first URL.
inline void event_source::begin(time_point now) noexcept {
  backoff_.attempt(now);
  phase_ = phase::dialing;
  redirects_ = 0;
  status_ = 0;
  changes_ = {};
  if (!current_.assign(first_)) return fail(now, client_error::no_memory);
  to_connect_ = true;
}

inline void event_source::drop() noexcept {
  to_disconnect_ = to_disconnect_ || link_;
  link_ = to_connect_ = to_secure_ = false;
}

/// Nothing of the connection is left but the last event ID.
inline void event_source::forget() noexcept {
  if (phase_ == phase::head || phase_ == phase::tunnel) return;
  head_.reset();
  parser_.reset();
  out_.release();
}

inline void event_source::fail(time_point now, client_error why, bool final,
                               duration at_least) noexcept {
  const bool was_open = phase_ == phase::open;
  const time_point end = why == client_error::stalled ? last_byte_ : now;
  if (was_open && (delivered_ || !(end - opened_ < options_.stable_after))) {
    backoff_.stable();
  } else if (why != client_error::restarted) {
    backoff_.failed();
  }
  const bool enough = options_.max_attempts != 0 && backoff_.failures() >= options_.max_attempts;
  failure_ = {};
  failure_.error = why;
  failure_.final = final || enough;
  failure_.was_open = was_open;
  failure_.at_proxy = proxied_ && (phase_ == phase::dialing || phase_ == phase::tunnel);
  failure_.status = status_;
  if (why == client_error::bad_stream) failure_.parse = parser_.error();
  failure_.attempts = backoff_.failures();
  drop();
  to_report_ = true;
  if (failure_.final) {
    phase_ = phase::closed;
  } else {
    failure_.delay = backoff_.delay(now, retry_, at_least);
    phase_ = phase::waiting;
    due_ = now + failure_.delay;
  }
  if (!calling_) forget();
}

/// True: the stream is open.
inline bool event_source::read_head(time_point now) noexcept {
  using outcome = detail::response_reader::outcome;
  status_ = head_.status();
  switch (head_.state()) {
    case outcome::need_more: return false;
    case outcome::complete: return open(now);
    case outcome::malformed: fail(now, client_error::bad_head); return false;
    case outcome::too_large: fail(now, client_error::head_too_large); return false;
    case outcome::framing: fail(now, client_error::bad_framing); return false;
    case outcome::no_memory: fail(now, client_error::no_memory); return false;
  }
  return false;
}

/// What a proxy says to CONNECT. The server is not to speak first: what follows the head is none of
/// its bytes.
inline void event_source::read_tunnel(time_point now, std::string_view in) noexcept {
  using outcome = detail::response_reader::outcome;
  const std::size_t used = head_.feed(in);
  status_ = head_.status();
  switch (head_.state()) {
    case outcome::need_more: return;
    case outcome::complete: break;
    case outcome::no_memory: return fail(now, client_error::no_memory);
    default: status_ = 0; return fail(now, client_error::proxy);
  }
  if (status_ >= 300) {
    return fail(now, client_error::proxy, status_ < 500 && !retried_.has(status_),
                detail::retry_after(head_.head(), options_.max_retry));
  }
  status_ = 0;
  if (used != in.size()) return fail(now, client_error::proxy);
  head_.reset();
  phase_ = phase::securing;
  to_secure_ = true;
}

/// WHATWG HTML 9.2.3: what a response means.
inline bool event_source::open(time_point now) noexcept {
  const client_response& r = head_.head();
  switch (r.status()) {
    case 200: break;
    case 204: fail(now, client_error::no_content, true); return false;
    case 301:
    case 302:
    case 303:
    case 307:
    case 308: redirect(now); return false;
    default:
      fail(now, client_error::status, !retried_.has(r.status()),
           detail::retry_after(r, options_.max_retry));
      return false;
  }
  if (!detail::is_event_stream(r)) {
    fail(now, client_error::content_type, true);
    return false;
  }
  if (!detail::is_identity(r)) {
    fail(now, client_error::content_encoding, true);
    return false;
  }
  body_ = {head_.end(), head_.length()};
  phase_ = phase::open;
  opened_ = now;
  delivered_ = false;
  const duration beat =
      detail::whole_seconds(r.header("X-Heartbeat-Interval"), duration::seconds(24 * 3600));
  stall_ = options_.stall_timeout.value_or(beat.is_off() ? duration::seconds(90)
                                                         : duration::milliseconds(3 * beat.ms()));
  return true;
}

/// Fetch 4.4, HTTP-redirect fetch.
inline void event_source::redirect(time_point now) noexcept {
  if (redirects_ == options_.max_redirects) {
    return fail(now, client_error::too_many_redirects, true);
  }
  ++redirects_;
  detail::url next;
  url_error e = url_error::scheme;
  const std::string_view location = detail::only_location(head_.head());
  if (!location.empty()) e = next.resolve(current_, location);
  if (e == url_error::no_memory) return fail(now, client_error::no_memory);
  if (e != url_error::none) {
    fail(now, client_error::bad_redirect, true);
    failure_.url = e;
    return;
  }
  if (current_.tls() && !next.tls() && !options_.allow_insecure_redirect) {
    return fail(now, client_error::insecure_redirect, true);
  }
  const std::string_view method = request_.method(changes_);
  const bool to_get = status_ == 303 ? method != "GET" : status_ < 303 && method == "POST";
  changes_.get = changes_.get || to_get;
  changes_.foreign = changes_.foreign || !same_origin(current_, next);
  current_ = std::move(next);
  drop();
  head_.reset();
  phase_ = phase::dialing;
  to_connect_ = true;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_CLIENT_HPP
