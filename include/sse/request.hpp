// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// request: what the hub asks about an HTTP request, in whatever version it came; response: a plain
// answer. Also the reading of the fields that a stream needs: Last-Event-ID, Accept, query and form
// fields, bearer tokens.
//
//   sse::request req{.method = m, .headers = fields, .address = peer};
//   std::string path;
//   if (auto e = sse::set_target(req, target, path); e != sse::target_error::none) refuse(e);
//   if (!sse::accepts_event_stream(req)) answer(sse::response::text(406, "a stream only\n"));
//   sse::resume_point from = sse::resume_from(req);
//
// Not for reading HTTP/1 from a socket: http1.hpp does that and fills a request.
//
// Views must live until the call that takes them returns. Free functions without state: any thread.
// Nothing here throws, but a std::string that cannot grow does (std::bad_alloc); the functions
// marked noexcept allocate nothing.
#pragma once
#ifndef SSEHUB_REQUEST_HPP
#define SSEHUB_REQUEST_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <sse/config.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/http/characters.hpp>
#include <sse/event.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// One field of a request's head.
struct header {
  std::string_view name;   ///< compared without case
  std::string_view value;  ///< without spaces around it; never decoded
};

/// One HTTP request. Every member is a view.
struct request {
  std::string_view method = "GET";  ///< as it was sent: case counts
  /// As received; log it through redact_target().
  std::string_view target{};
  /// Decoded once, see set_target(); "*" for the server itself (OPTIONS).
  std::string_view path{};
  /// Raw, without the question mark.
  std::string_view query{};
  /// In their order; an HTTP/2 host may include ":authority".
  std::span<const header> headers{};
  /// Of the peer, counted by the caps per address; empty: not counted.
  std::string_view address{};
  /// Bytes put in front of the stream: the HTTP/1 response head; empty: the host sends it.
  std::string_view preamble{};
  /// Frame the stream as chunks (RFC 9112 7.1). REQUIRES: minor_version >= 1.
  bool chunked = false;
  /// Of HTTP/1; 0: no chunked coding, the end of the connection ends the stream.
  int minor_version = 1;

  /// The first header of that name; nullptr: absent.
  [[nodiscard]] constexpr const header* find(std::string_view name) const noexcept {
    for (const header& h : headers) {
      if (detail::text::equal_fold(h.name, name)) return &h;
    }
    return nullptr;
  }
  /// The first value of that name; empty also when the header is absent, which find() can tell.
  [[nodiscard]] constexpr std::string_view header_value(std::string_view name) const noexcept {
    const header* h = find(name);
    return h != nullptr ? h->value : std::string_view{};
  }
  /// The value of a header that must not come twice; empty: absent, empty, or there twice.
  [[nodiscard]] constexpr std::string_view only_value(std::string_view name) const noexcept {
    std::string_view value;
    int seen = 0;
    for (const header& h : headers) {
      if (!detail::text::equal_fold(h.name, name)) continue;
      value = h.value;
      if (++seen > 1) return {};
    }
    return value;
  }
};

// --- target, query, form

/// Undoes percent escapes once (RFC 3986 2.1), and `+` as a form writes it if asked. False, with
/// `out` empty: a malformed escape, a NUL, or a result that is not UTF-8.
[[nodiscard]] inline bool percent_decode(std::string_view in, std::string& out,
                                         bool plus_as_space = false) {
  std::size_t n = 0;
  out.resize(in.size());
  const bool ok = detail::text::decode(in, plus_as_space, out.data(), n);
  out.resize(n);
  if (ok && out.find('\0') == std::string::npos && detail::text::is_utf8(out)) return true;
  out.clear();
  return false;
}

/// Why a request's target cannot be read, or can name nothing; see set_target().
enum class target_error : std::uint8_t {
  none,
  form,         ///< not as set_target() reads it; or a fragment, a space, a byte that is not ASCII
  escape,       ///< `%` without two hexadecimal digits
  control,      ///< the decoded path has a control character, such as %00 or %0A
  utf8,         ///< the decoded path is not UTF-8, or an overlong form of it
  dot_segment,  ///< the decoded path has a `..` segment
};

/// What to answer: 400 for a target that cannot be read, 404 for one that can name nothing.
[[nodiscard]] constexpr int status_of(target_error e) noexcept {
  return e == target_error::none                                ? 200
         : e == target_error::form || e == target_error::escape ? 400
                                                                : 404;
}

namespace detail {

struct target_parts {
  std::string_view authority{};  ///< host and port, of an absolute form only
  std::string_view path{};       ///< raw
  std::string_view query{};
};

[[nodiscard]] constexpr bool split_target(std::string_view method, std::string_view target,
                                          target_parts& out) noexcept {
  for (const char c : target) {
    if (c <= ' ' || c > '~' || c == '#') return false;
  }
  if (target == "*") {
    out.path = target;
    return method == "OPTIONS";
  }
  std::size_t path = 0;
  if (!target.starts_with('/')) {
    const std::size_t scheme = text::starts_fold(target, "http://")    ? 7
                               : text::starts_fold(target, "https://") ? 8
                                                                       : 0;
    if (scheme == 0) return false;
    path = target.find_first_of("/?", scheme);
    if (path == std::string_view::npos) path = target.size();
    out.authority = target.substr(scheme, path - scheme);
    if (out.authority.empty() || !text::is_authority(out.authority)) return false;
  }
  std::string_view rest = target.substr(path);
  out.path = text::next_part(rest, '?');
  if (out.path.empty()) out.path = "/";
  out.query = rest;
  return true;
}

/// Decodes to `out`, which has room for raw.size().
[[nodiscard]] constexpr target_error decode_path(std::string_view raw, char* out,
                                                 std::size_t& n) noexcept {
  if (!text::decode(raw, false, out, n)) return target_error::escape;
  const std::string_view path{out, n};
  for (const char c : path) {
    if (text::is_control(c)) return target_error::control;
  }
  if (!text::is_utf8(path)) return target_error::utf8;
  return text::has_dot_dot(path) ? target_error::dot_segment : target_error::none;
}

/// Whether the encoded form field name spells `key`.
[[nodiscard]] constexpr bool spells(std::string_view raw, std::string_view key,
                                    bool fold) noexcept {
  std::size_t n = 0;
  for (std::size_t i = 0; i < raw.size(); ++n) {
    const int byte = text::next_byte(raw, i, true);
    if (byte < 0 || n == key.size()) return false;
    const char c = static_cast<char>(byte);
    if (fold ? text::lower(c) != text::lower(key[n]) : c != key[n]) return false;
  }
  return n == key.size();
}

/// `N`, or `N-V` with V not above N: decimal digits, at most max_event_id each.
[[nodiscard]] constexpr bool parse_position(std::string_view s, bool encoded, event_id& after,
                                            event_id& values) noexcept {
  event_id n[2] = {};
  std::size_t at = 0;
  bool digits = false;
  for (std::size_t i = 0; i < s.size();) {
    const int c = encoded ? text::next_byte(s, i, true) : static_cast<unsigned char>(s[i++]);
    if (c == '-' && digits && at == 0) {
      at = 1;
      digits = false;
    } else if (c < 0 || !add_digit(n[at], static_cast<char>(c), max_event_id)) {
      return false;
    } else {
      digits = true;
    }
  }
  if (!digits || n[at] > n[0]) return false;
  after = n[0];
  values = n[at];
  return true;
}

}  // namespace detail

/// Fills target, path and query of `r` from the target as received (origin-form, absolute-form, or
/// `*` with OPTIONS: RFC 9112 3.2; set the method first). The path is decoded once into `decoded`,
/// which must outlive `r`; an encoded slash becomes a slash. On an error `r` keeps the target and
/// has neither path nor query.
[[nodiscard]] inline target_error set_target(request& r, std::string_view target,
                                             std::string& decoded) {
  r.target = target;
  r.path = r.query = {};
  detail::target_parts parts;
  if (!detail::split_target(r.method, target, parts)) return target_error::form;
  std::size_t n = 0;
  decoded.resize(parts.path.size());
  const target_error e = detail::decode_path(parts.path, decoded.data(), n);
  if (e != target_error::none) return e;
  decoded.resize(n);
  r.path = decoded;
  r.query = parts.query;
  return e;
}

/// What looking up a parameter came to.
enum class lookup : std::uint8_t { absent, found, malformed };

/// Looks `key` up in a raw query or form body and decodes its value (WHATWG URL 5.1: `&` separates,
/// `+` is a space). The first field of that name wins. malformed: see percent_decode(); `out` is
/// empty unless found.
[[nodiscard]] inline lookup query_value(std::string_view raw_query, std::string_view key,
                                        std::string& out) {
  out.clear();
  while (!raw_query.empty()) {
    std::string_view value = detail::text::next_part(raw_query, '&');
    const std::string_view name = detail::text::next_part(value, '=');
    if (!detail::spells(name, key, false)) continue;
    return percent_decode(value, out, true) ? lookup::found : lookup::malformed;
  }
  return lookup::absent;
}

/// Calls f(name, value) for each field of a raw query or of an application/x-www-form-urlencoded
/// body, decoded; both views end with the call. If `f` returns bool, false stops. False: stopped
/// there by a malformed field, see percent_decode().
template <class F>
bool for_each_pair(std::string_view raw, F&& f) {
  std::string name;
  std::string decoded;
  while (!raw.empty()) {
    std::string_view value = detail::text::next_part(raw, '&');
    const std::string_view key = detail::text::next_part(value, '=');
    if (key.empty() && value.empty()) continue;
    if (!percent_decode(key, name, true) || !percent_decode(value, decoded, true)) return false;
    if constexpr (std::is_same_v<std::invoke_result_t<F&, std::string_view, std::string_view>,
                                 bool>) {
      if (!f(std::string_view{name}, std::string_view{decoded})) return true;
    } else {
      f(std::string_view{name}, std::string_view{decoded});
    }
  }
  return true;
}

// --- where to resume

/// Where a client wants to go on.
struct resume_point {
  /// What it said of that.
  enum class kind : std::uint8_t {
    absent,     ///< it said nothing
    given,      ///< after `after`; 0: everything retained
    malformed,  ///< the query cannot be read: 400
  };
  kind state = kind::absent;  ///< what the client said
  event_id after = 0;         ///< the last id that it has
  /// Of channels that conflate: values of keys that changed behind this one, which is not above
  /// `after`.
  event_id values = 0;
};

/// The header Last-Event-ID if it is a number from 0 to max_event_id (decimal digits, nothing
/// else), or two of them, `after-values`; otherwise it is ignored, as one that comes twice, and the
/// query field `query_name` decides (empty: no such field). The header wins because a browser
/// repeats its old URL when it reconnects. A query field that is empty, not such a number, or there
/// with two different values is malformed.
[[nodiscard]] constexpr resume_point resume_from(const request& r,
                                                 std::string_view query_name = "last_id") noexcept {
  using kind = resume_point::kind;
  resume_point out;
  if (detail::parse_position(r.only_value("Last-Event-ID"), false, out.after, out.values)) {
    out.state = kind::given;
    return out;
  }
  std::string_view rest = query_name.empty() ? std::string_view{} : r.query;
  while (!rest.empty()) {
    std::string_view value = detail::text::next_part(rest, '&');
    if (!detail::spells(detail::text::next_part(value, '='), query_name, false)) continue;
    resume_point p{kind::given};
    if (!detail::parse_position(value, true, p.after, p.values) ||
        (out.state == kind::given && (p.after != out.after || p.values != out.values))) {
      return {kind::malformed};
    }
    out = p;
  }
  return out;
}

// --- fields

namespace detail {

/// The most exact range that covers text/event-stream decides (RFC 9110 12.5.1).
struct accept_match {
  int exactness = -1;  ///< 0: */*, 1: text/*, 2: text/event-stream
  bool wanted = false;
  bool stated = false;

  constexpr void add(std::string_view list) noexcept {
    while (!list.empty()) {
      std::string_view range = text::next_element(list, ',');
      if (range.empty()) continue;
      stated = true;
      const std::string_view type = text::next_element(range, ';');
      const int now = text::equal_fold(type, "text/event-stream") ? 2
                      : text::equal_fold(type, "text/*")          ? 1
                      : type == "*/*"                             ? 0
                                                                  : -1;
      bool zero = false;
      while (!range.empty()) {
        const std::string_view parameter = text::next_element(range, ';');
        if (!text::starts_fold(parameter, "q=")) continue;
        const std::string_view q = text::trim(parameter.substr(2));
        zero = q.starts_with('0') && q.find_first_not_of("0.") == std::string_view::npos;
      }
      if (now < exactness || now < 0) continue;
      wanted = now > exactness ? !zero : wanted || !zero;
      exactness = now;
    }
  }
  [[nodiscard]] constexpr bool result() const noexcept { return !stated || wanted; }
};

}  // namespace detail

/// Whether a client with this Accept field takes text/event-stream; if not: 406. Absent or empty:
/// yes (RFC 9110 12.5.1).
[[nodiscard]] constexpr bool accepts_event_stream(std::string_view accept, bool present) noexcept {
  detail::accept_match m;
  if (present) m.add(accept);
  return m.result();
}
/// By all Accept fields of a request.
[[nodiscard]] constexpr bool accepts_event_stream(const request& r) noexcept {
  detail::accept_match m;
  for (const header& h : r.headers) {
    if (detail::text::equal_fold(h.name, "Accept")) m.add(h.value);
  }
  return m.result();
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 2.1), any run of visible ASCII characters;
/// empty: none, another scheme, or more than one such header.
[[nodiscard]] constexpr std::string_view bearer_token(const request& r) noexcept {
  std::string_view value = r.only_value("Authorization");
  if (!detail::text::starts_fold(value, "Bearer ")) return {};
  value = detail::text::trim(value.substr(7));
  for (const char c : value) {
    if (c <= ' ' || c > '~') return {};
  }
  return value;
}

/// Compares secrets in a time that tells nothing about their bytes; their lengths are not hidden.
[[nodiscard]] inline bool equal_secret(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = static_cast<unsigned char>(difference | (a[i] ^ b[i]));
  }
  return difference == 0;
}

/// The query fields whose values redact_target() hides.
inline constexpr std::string_view secret_fields[] = {"token", "access_token", "ticket", "key",
                                                     "password"};

/// A target for a log line: values of secret query fields become `***` (names compare decoded and
/// without case), and every byte that is not visible ASCII becomes its percent escape.
[[nodiscard]] inline std::string redact_target(
    std::string_view target, std::span<const std::string_view> names = secret_fields) {
  std::string out;
  out.reserve(target.size());
  constexpr std::string_view digits = "0123456789ABCDEF";
  const auto put = [&out, digits](std::string_view s) {
    for (const char c : s) {
      if (c > ' ' && c <= '~') {
        out += c;
      } else {
        const auto byte = static_cast<unsigned char>(c);
        out.append(1, '%').append(1, digits[byte >> 4U]).append(1, digits[byte & 15U]);
      }
    }
  };
  std::size_t mark = target.find('?');  // then each & before a field
  put(target.substr(0, mark));
  while (mark != std::string_view::npos) {
    const std::size_t next = target.find('&', mark + 1);
    const std::string_view field =
        target.substr(mark + 1, next == std::string_view::npos ? next : next - mark - 1);
    const std::size_t equals = field.find('=');
    bool secret = false;
    for (const std::string_view n : names) {
      secret = secret || detail::spells(field.substr(0, equals), n, true);
    }
    out += target[mark];
    if (secret && equals != std::string_view::npos) {
      put(field.substr(0, equals + 1));
      out += "***";
    } else {
      put(field);
    }
    mark = next;
  }
  return out;
}

// --- answers

/// RFC 9110 15 and RFC 6585; empty for others, which RFC 9112 4 allows.
[[nodiscard]] constexpr std::string_view reason_phrase(int status) noexcept {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return {};
  }
}

namespace detail {

/// A header that may be sent, and is not one of those that the HTTP/1 writer owns.
[[nodiscard]] constexpr bool is_field(std::string_view name, std::string_view value) noexcept {
  return text::is_token(name) && text::is_field_value(value) &&
         !text::equal_fold(name, "Connection") && !text::equal_fold(name, "Content-Length") &&
         !text::equal_fold(name, "Transfer-Encoding");
}

/// Appends one header line; false, with nothing appended: not a valid one.
inline bool add_field(std::string& lines, std::string_view name, std::string_view value) {
  if (!is_field(name, value)) return false;
  lines.append(name).append(": ").append(value).append("\r\n");
  return true;
}

}  // namespace detail

/// Calls f(name, value) for each "Name: value\r\n" line, for hosts that send headers one by one.
/// False: a line that is not one, or one that belongs to the HTTP/1 writer (Connection,
/// Content-Length, Transfer-Encoding); nothing after it is read.
template <class F>
constexpr bool for_each_field(std::string_view lines, F&& f) {
  while (!lines.empty()) {
    const std::size_t end = lines.find("\r\n");
    const std::string_view line = lines.substr(0, end);
    const std::size_t colon = line.find(':');
    if (end == std::string_view::npos || colon == std::string_view::npos) return false;
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = detail::text::trim(line.substr(colon + 1));
    if (!detail::is_field(name, value)) return false;
    f(name, value);
    lines.remove_prefix(end + 2);
  }
  return true;
}

/// A refusal or a plain answer. The host writes it: http1::write_response() does for HTTP/1.
struct response {
  int status = 200;       ///< 200 to 999
  std::string headers{};  ///< "Name: value\r\n" lines; add() checks what it appends
  std::string body{};     ///< any bytes
  bool refused = false;   ///< add() dropped a header

  /// Appends a header. Not a token as the name, a control character such as CR, LF or NUL in the
  /// value, or a header that the HTTP/1 writer owns (see for_each_field): dropped, and `refused` is
  /// set.
  response& add(std::string_view name, std::string_view value) & {
    if (!detail::add_field(headers, name, value)) refused = true;
    return *this;
  }
  /// The same for a temporary.
  response&& add(std::string_view name, std::string_view value) && {
    return std::move(add(name, value));
  }

  /// `application/json`.
  [[nodiscard]] static response json(int status, std::string body) {
    return {status, "Content-Type: application/json\r\n", std::move(body)};
  }
  /// `text/plain; charset=utf-8`.
  [[nodiscard]] static response text(int status, std::string body) {
    return {status, "Content-Type: text/plain; charset=utf-8\r\n", std::move(body)};
  }
};

/// 405 with what the resource allows, such as "GET, HEAD, OPTIONS".
[[nodiscard]] inline response method_not_allowed(std::string_view allow) {
  return response::text(405, "method not allowed\n").add("Allow", allow);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_REQUEST_HPP
