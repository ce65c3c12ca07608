// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// cors_policy: which web pages of other origins may read the answers (WHATWG Fetch 3.2).
// host_allowed: which host names this server answers to, against DNS rebinding. Both speak about
// browsers only; neither replaces a token.
//
//   static constexpr std::string_view origins[] = {"https://app.example"};
//   sse::cors_policy cors{.origins = origins, .credentials = true};
//   if (!sse::host_allowed(req, hosts)) return answer(sse::response::text(403, "unknown host\n"));
//   if (req.method == "OPTIONS") return answer(sse::preflight(cors, req));
//   sse::add_cors(refusal.headers, cors, req);  // or a string for http1::stream_head::extra
//
// Not needed when page and stream share an origin: the default policy sends nothing, and that is
// the safe choice.
//
// Free functions without state: any thread. Strings that grow may throw std::bad_alloc, nothing
// else is thrown.
#pragma once
#ifndef SSEHUB_CORS_HPP
#define SSEHUB_CORS_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <sse/config.hpp>
#include <sse/detail/http/characters.hpp>
#include <sse/request.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Which pages may read the answers, as browsers ask it (WHATWG Fetch 3.2).
struct cors_policy {
  /// As a browser writes them, "https://app.example:8443"; "*" alone: any; empty: no CORS at all.
  std::span<const std::string_view> origins{};
  /// Cookies and HTTP authentication may come along. REQUIRES: neither "*" nor "null" in origins.
  bool credentials = false;
  std::string_view methods = "GET, POST, OPTIONS";  ///< that a page may use
  /// Request headers that a page may set. A client on fetch() needs Last-Event-ID to resume and
  /// Authorization to send a token.
  std::string_view headers = "Content-Type";
  /// Response headers that a page may read beyond the usual ones; empty: none.
  std::string_view expose{};
  /// Seconds a browser may remember a preflight; 0: not at all. REQUIRES: >= 0.
  int max_age = 600;
  /// Methods and headers on plain answers too, where a contract asks for it.
  bool on_every_answer = false;
};

/// Why a policy cannot be meant; see validate().
enum class cors_error : std::uint8_t {
  none,
  any_with_credentials,   ///< "*" with credentials would hand every page the user's session
  null_with_credentials,  ///< "null" is the origin of every sandboxed frame
  any_among_others,       ///< "*" stands alone
  bad_text,               ///< a control character in a field, an empty origin, a negative age
};

/// Ask once at the start. A policy with an error acts as none: no header is ever sent for it.
[[nodiscard]] constexpr cors_error validate(const cors_policy& p) noexcept {
  namespace text = detail::text;
  for (const std::string_view o : p.origins) {
    if (o == "*" && p.credentials) return cors_error::any_with_credentials;
    if (o == "null" && p.credentials) return cors_error::null_with_credentials;
    if (o == "*" && p.origins.size() > 1) return cors_error::any_among_others;
    if (o.empty() || !text::is_field_value(o)) return cors_error::bad_text;
  }
  if (!text::is_field_value(p.methods) || !text::is_field_value(p.headers) ||
      !text::is_field_value(p.expose) || p.max_age < 0) {
    return cors_error::bad_text;
  }
  return cors_error::none;
}

namespace detail {

/// What Access-Control-Allow-Origin says to this request; empty: nothing. REQUIRES: a valid policy.
[[nodiscard]] constexpr std::string_view allowed_origin(const cors_policy& p,
                                                        const request& r) noexcept {
  const std::string_view origin = r.only_value("Origin");
  for (const std::string_view o : p.origins) {
    if (o == "*" || o == origin) return o;
  }
  return {};
}

inline bool add_cors(std::string& lines, const cors_policy& p, const request& r, bool methods) {
  if (validate(p) != cors_error::none) return false;
  const std::string_view origin = allowed_origin(p, r);
  // A list makes the answer depend on the origin, also where it is not the listed one: caches must
  // know.
  if (!p.origins.empty() && p.origins.front() != "*") add_field(lines, "Vary", "Origin");
  if (origin.empty()) return false;
  add_field(lines, "Access-Control-Allow-Origin", origin);
  if (p.credentials) add_field(lines, "Access-Control-Allow-Credentials", "true");
  if (!p.expose.empty()) add_field(lines, "Access-Control-Expose-Headers", p.expose);
  if (methods) {
    add_field(lines, "Access-Control-Allow-Methods", p.methods);
    if (!p.headers.empty()) add_field(lines, "Access-Control-Allow-Headers", p.headers);
  }
  return true;
}

}  // namespace detail

/// Appends the header lines that an answer or a stream head needs.
inline void add_cors(std::string& header_lines, const cors_policy& p, const request& r) {
  detail::add_cors(header_lines, p, r, p.on_every_answer);
}

/// The answer to OPTIONS, for a browser's preflight and for anybody else who asks. An origin that
/// is not allowed gets it without CORS headers, which is a refusal to the browser.
[[nodiscard]] inline response preflight(const cors_policy& p, const request& r, int status = 204) {
  response out{.status = status};
  out.add("Allow", p.methods);
  if (detail::add_cors(out.headers, p, r, true))
    out.add("Access-Control-Max-Age", std::to_string(p.max_age));
  return out;
}

// --- who was asked

/// Host and port that the request was sent to: the absolute target's, else ":authority" (HTTP/2),
/// else Host (RFC 9112 3.2.2). Empty: unknown, or the header came twice.
[[nodiscard]] constexpr std::string_view host_of(const request& r) noexcept {
  detail::target_parts parts;
  if (detail::split_target(r.method, r.target, parts) && !parts.authority.empty())
    return parts.authority;
  return r.only_value(r.find(":authority") != nullptr ? ":authority" : "Host");
}

/// The host names of a server that only its own machine should reach.
inline constexpr std::string_view loopback_hosts[] = {"localhost", "127.0.0.1", "[::1]"};

/// Whether the request was sent to one of these names, whatever the port; if not: 403 or 421. Names
/// compare without case; an IPv6 address stands in brackets; "*" allows all. A page of a hostile
/// site whose name suddenly resolves to this machine still sends the site's own name, and fails
/// here.
[[nodiscard]] constexpr bool host_allowed(
    const request& r, std::span<const std::string_view> hosts = loopback_hosts) noexcept {
  std::string_view host = host_of(r);
  const std::size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) {
    for (const char c : host.substr(colon + 1)) {
      if (!detail::text::is_digit(c)) return false;
    }
    host = host.substr(0, colon);
  }
  for (const std::string_view h : hosts) {
    if (h == "*" || (!host.empty() && detail::text::equal_fold(h, host))) return true;
  }
  return false;
}

/// Whether a request that changes something, or comes with cookies, may be served: no Origin (not a
/// page of another origin), an http or https Origin whose host and port are the request's own, or
/// one that the policy allows; if not: 403.
[[nodiscard]] constexpr bool origin_allowed(const cors_policy& p, const request& r) noexcept {
  if (r.find("Origin") == nullptr) return true;
  const std::string_view origin = r.only_value("Origin");
  if (validate(p) == cors_error::none && !detail::allowed_origin(p, r).empty()) return true;
  const std::size_t scheme = detail::text::starts_fold(origin, "http://")    ? 7
                             : detail::text::starts_fold(origin, "https://") ? 8
                                                                             : 0;
  const std::string_view host = host_of(r);
  return scheme != 0 && !host.empty() && detail::text::equal_fold(origin.substr(scheme), host);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_CORS_HPP
