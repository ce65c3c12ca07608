// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// encode: events, comments and retry blocks to the bytes of a text/event-stream. The only place
// that writes "data:". Not needed to publish through a hub, which calls it; use it for hosts,
// recordings and tests that have no hub.
//
// Threads: no state, so any thread. Nothing throws but the std::string of the four append
// functions, if its own growth fails. The *_to functions allocate nothing.
//
//   std::string out;
//   if (sse::encode(out, {.type = "fill", .data = json, .id = "17"}) != sse::encode_error::none)
//     return false;
//   (void)sse::encode_comment(out, "keep-alive");
//   send(fd, out.data(), out.size(), 0);
//
// What is written (WHATWG HTML 9.2.5): `id: N`, `event: T`, `retry: N`, each only if it is set,
// then one `data: LINE` per line of the data, then a blank line; every line ends with LF, one space
// follows every colon. Data always has at least one line, so an event is fired even if its data is
// empty. A parser gets the data back exactly, but CR and CRLF as LF. Field text that could forge a
// field (CR, LF, NUL) is refused, never repaired.
#pragma once
#ifndef SSEHUB_ENCODE_HPP
#define SSEHUB_ENCODE_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <sse/detail/base/assert.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/base/lines.hpp>
#include <sse/event.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Why an event is refused.
enum class encode_error : std::uint8_t {
  none,
  bad_type,     ///< CR, LF or NUL in event::type
  bad_id,       ///< CR, LF or NUL in event::id
  bad_retry,    ///< retry below zero (and not no_retry)
  bad_comment,  ///< NUL in a comment
  too_large,    ///< over a limit of encode_limits
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(encode_error e) noexcept {
  switch (e) {
    case encode_error::none: return "none";
    case encode_error::bad_type: return "bad_type";
    case encode_error::bad_id: return "bad_id";
    case encode_error::bad_retry: return "bad_retry";
    case encode_error::bad_comment: return "bad_comment";
    case encode_error::too_large: return "too_large";
  }
  return "unknown";
}

/// The largest sizes that are accepted, in bytes.
struct encode_limits {
  std::size_t event = std::size_t{1} << 20;  ///< the encoded event or comment, whole
  std::size_t id = 64;                       ///< event::id
  std::size_t type = 128;                    ///< event::type
};

/// The verdict on one event and the size it will have: one pass over the data, for callers that
/// check and then write.
struct encode_plan {
  encode_error error = encode_error::none;  ///< why it cannot be sent
  std::size_t size = 0;                     ///< encoded bytes; 0 if refused
  std::size_t lines = 0;                    ///< `data:` lines
};

namespace detail {

/// `id: N`, `event: T` and `retry: N` with their line ends. The id stands beside the event, here
/// and below: a hub gives one to what it publishes, and copies no event for that.
[[nodiscard]] constexpr std::size_t fields_size(const event& e, std::string_view id) noexcept {
  std::size_t size = 0;
  if (!id.empty()) size += 5 + id.size();
  if (!e.type.empty()) size += 8 + e.type.size();
  if (e.retry >= 0) size += 8 + decimal_size(static_cast<std::uint64_t>(e.retry));
  return size;
}

/// Each line with a prefix and its line end.
[[nodiscard]] constexpr std::size_t lines_size(const line_count& n, std::size_t prefix) noexcept {
  return n.lines * (prefix + 1) + n.bytes;
}

/// plan() of an event with another id than its own.
[[nodiscard]] constexpr encode_plan plan_as(const event& e, std::string_view id,
                                            const encode_limits& limits) noexcept {
  if (e.type.size() > limits.type || id.size() > limits.id || e.data.size() > limits.event) {
    return {encode_error::too_large};
  }
  if (!is_field_text(e.type)) return {encode_error::bad_type};
  if (!is_field_text(id)) return {encode_error::bad_id};
  if (e.retry < no_retry) return {encode_error::bad_retry};
  const line_count data = count_lines(e.data);
  const std::size_t size = fields_size(e, id) + lines_size(data, 6) + 1;
  if (size > limits.event) return {encode_error::too_large};
  return {encode_error::none, size, data.lines};
}

}  // namespace detail

/// Exactly the bytes that encode_to writes. Linear in the data.
[[nodiscard]] constexpr std::size_t encoded_size(const event& e) noexcept {
  return detail::fields_size(e, e.id) + detail::lines_size(detail::count_lines(e.data), 6) + 1;
}

/// Checks and measures. Errors as validate(); if there is one, size is 0.
[[nodiscard]] constexpr encode_plan plan(const event& e,
                                         const encode_limits& limits = {}) noexcept {
  return detail::plan_as(e, e.id, limits);
}

/// none, or why encode would refuse: CR, LF or NUL in type or id, retry below -1, or a size over
/// its limit.
[[nodiscard]] constexpr encode_error validate(const event& e,
                                              const encode_limits& limits = {}) noexcept {
  return plan(e, limits).error;
}

namespace detail {

inline char* put_lines(char* out, std::string_view text, std::string_view prefix) noexcept {
  const char* p = text.data();
  const char* const end = p + text.size();
  for (;;) {
    const char* const stop = find_line_end(p, end);
    out = put(out, prefix);
    out = put(out, {p, static_cast<std::size_t>(stop - p)});
    *out++ = '\n';
    if (stop == end) return out;
    p = skip_line_end(stop, end);
  }
}

inline char* put_fields(char* out, const event& e, std::string_view id) noexcept {
  if (!id.empty()) {
    out = put(out, "id: ");
    out = put(out, id);
    *out++ = '\n';
  }
  if (!e.type.empty()) {
    out = put(out, "event: ");
    out = put(out, e.type);
    *out++ = '\n';
  }
  if (e.retry >= 0) {
    out = put(out, "retry: ");
    out = put_decimal(out, static_cast<std::uint64_t>(e.retry));
    *out++ = '\n';
  }
  return out;
}

/// encode_to() of an event with another id than its own. REQUIRES: `p` is plan_as() of the same.
inline char* encode_as(char* out, const event& e, std::string_view id,
                       const encode_plan& p) noexcept {
  SSEHUB_ASSERT(p.error == encode_error::none && p.size != 0);
  out = put_fields(out, e, id);
  if (p.lines != 1) {
    out = put_lines(out, e.data, "data: ");
    *out++ = '\n';
    return out;
  }
  out = put(out, "data: ");
  out = put(out, e.data);
  return put(out, "\n\n");
}

}  // namespace detail

/// Writes the event and returns the byte after it. REQUIRES: validate(e) passed; encoded_size(e)
/// bytes at `out`.
inline char* encode_to(char* out, const event& e) noexcept {
  SSEHUB_ASSERT(validate(e, {SIZE_MAX, SIZE_MAX, SIZE_MAX}) == encode_error::none);
  out = detail::put_fields(out, e, e.id);
  out = detail::put_lines(out, e.data, "data: ");
  *out++ = '\n';
  return out;
}

/// The same with one pass less over the data. REQUIRES: `p` is plan(e) without error; p.size bytes
/// at `out`.
inline char* encode_to(char* out, const event& e, const encode_plan& p) noexcept {
  return detail::encode_as(out, e, e.id, p);
}

/// Appends the event to `out`, or leaves `out` alone and says why. Errors as validate().
[[nodiscard]] inline encode_error encode(std::string& out, const event& e,
                                         const encode_limits& limits = {}) {
  const encode_plan p = plan(e, limits);
  if (p.error != encode_error::none) return p.error;
  const std::size_t before = out.size();
  out.resize(before + p.size);
  encode_to(out.data() + before, e, p);
  return encode_error::none;
}

/// Exactly the bytes that encode_comment_to writes.
[[nodiscard]] constexpr std::size_t encoded_comment_size(std::string_view text) noexcept {
  const detail::line_count n = detail::count_lines(text);
  return n.lines * 3 + n.bytes + 1;
}

/// none, or why encode_comment would refuse: NUL in the text, or larger than limits.event when
/// encoded.
[[nodiscard]] constexpr encode_error check_comment(std::string_view text,
                                                   const encode_limits& limits = {}) noexcept {
  if (text.size() > limits.event || encoded_comment_size(text) > limits.event)
    return encode_error::too_large;
  return text.find('\0') == text.npos ? encode_error::none : encode_error::bad_comment;
}

/// Writes one `: LINE` per line of the text and a blank line (`: keep-alive\n\n`); returns the byte
/// after it. Clients ignore comments. REQUIRES: check_comment(text) passed;
/// encoded_comment_size(text) bytes at `out`.
inline char* encode_comment_to(char* out, std::string_view text) noexcept {
  SSEHUB_ASSERT(text.find('\0') == text.npos);
  out = detail::put_lines(out, text, ": ");
  *out++ = '\n';
  return out;
}

/// Appends the comment to `out`, or leaves `out` alone and says why. Errors as check_comment().
[[nodiscard]] inline encode_error encode_comment(std::string& out, std::string_view text,
                                                 const encode_limits& limits = {}) {
  const encode_error e = check_comment(text, limits);
  if (e != encode_error::none) return e;
  const std::size_t before = out.size();
  out.resize(before + encoded_comment_size(text));
  encode_comment_to(out.data() + before, text);
  return encode_error::none;
}

namespace detail {

/// `N`, or `N-V` where V is below N (resume_point::values).
[[nodiscard]] constexpr std::size_t position_size(event_id id, event_id values) noexcept {
  return decimal_size(id) + (values < id ? 1 + decimal_size(values) : 0);
}
constexpr char* put_position(char* out, event_id id, event_id values) noexcept {
  out = put_decimal(out, id);
  if (values >= id) return out;
  *out++ = '-';
  return put_decimal(out, values);
}

}  // namespace detail

/// Exactly the bytes that encode_position_to writes.
[[nodiscard]] constexpr std::size_t encoded_position_size(event_id id,
                                                          event_id values = max_event_id) noexcept {
  return 6 + detail::position_size(id, values);
}

/// Writes `id: N\n\n`: the client's last event id is N from here on; no event is fired (WHATWG HTML
/// 9.2.6). `id: N-V\n\n` where `values` is below it: see resume_point. Returns the byte after it.
/// REQUIRES: encoded_position_size(id, values) bytes at `out`.
inline char* encode_position_to(char* out, event_id id, event_id values = max_event_id) noexcept {
  out = detail::put(out, "id: ");
  out = detail::put_position(out, id, values);
  return detail::put(out, "\n\n");
}

/// Appends a position block.
inline void encode_position(std::string& out, event_id id, event_id values = max_event_id) {
  const std::size_t before = out.size();
  out.resize(before + encoded_position_size(id, values));
  encode_position_to(out.data() + before, id, values);
}

/// Exactly the bytes that encode_retry_to writes. REQUIRES: ms >= 0.
[[nodiscard]] constexpr std::size_t encoded_retry_size(std::int64_t ms) noexcept {
  SSEHUB_ASSERT(ms >= 0);
  return 9 + detail::decimal_size(static_cast<std::uint64_t>(ms));
}

/// Writes `retry: N\n\n`: the client will wait `ms` milliseconds before it reconnects; no event is
/// fired. Returns the byte after it. REQUIRES: ms >= 0; encoded_retry_size(ms) bytes at `out`.
inline char* encode_retry_to(char* out, std::int64_t ms) noexcept {
  SSEHUB_ASSERT(ms >= 0);
  out = detail::put(out, "retry: ");
  out = detail::put_decimal(out, static_cast<std::uint64_t>(ms));
  return detail::put(out, "\n\n");
}

/// Appends a retry block. Errors: bad_retry if ms is negative; `out` is then left alone.
[[nodiscard]] inline encode_error encode_retry(std::string& out, std::int64_t ms) {
  if (ms < 0) return encode_error::bad_retry;
  const std::size_t before = out.size();
  out.resize(before + encoded_retry_size(ms));
  encode_retry_to(out.data() + before, ms);
  return encode_error::none;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_ENCODE_HPP
