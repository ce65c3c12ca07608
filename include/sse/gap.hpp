// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// gap: what our hub's `event: gap` frame says, its reader and its writer.
//
//   event: gap
//   data: {"requested":17,"first":20,"lost":2}
//
// lost is null where it is unknown.
#pragma once
#ifndef SSEHUB_GAP_HPP
#define SSEHUB_GAP_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/detail/base/decimal.hpp>
#include <sse/detail/base/lines.hpp>
#include <sse/event.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// A part of the stream that will not come.
struct gap {
  event_id requested = no_id;  ///< the id that was asked for, or the last one received
  event_id first = no_id;      ///< the first id that can come
  std::uint64_t lost = 0;      ///< how many events were lost
  bool lost_known = false;     ///< false: nobody knows (another run of the server, a trimmed log)
};

/// Reads a gap frame in exactly the form above, spaces aside. False: `e` is an event like others.
[[nodiscard]] constexpr bool read_gap(const event& e, gap& out) noexcept {
  if (e.type != "gap") return false;
  std::string_view s = e.data;
  const auto skip = [&s](std::string_view what) {
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
    if (!s.starts_with(what)) return false;
    s.remove_prefix(what.size());
    return true;
  };
  const auto number = [&s, &skip](std::uint64_t& n) {
    if (!skip({})) return false;
    const std::string_view digits = s.substr(0, s.find_first_not_of("0123456789"));
    s.remove_prefix(digits.size());
    return detail::read_decimal(digits, max_event_id, n) == detail::decimal::number;
  };
  gap g;
  if (!skip("{") || !skip("\"requested\"") || !skip(":") || !number(g.requested) || !skip(",") ||
      !skip("\"first\"") || !skip(":") || !number(g.first) || !skip(",") || !skip("\"lost\"") ||
      !skip(":")) {
    return false;
  }
  if (!skip("null")) {
    if (!number(g.lost)) return false;
    g.lost_known = true;
  }
  if (!skip("}") || !skip({}) || !s.empty()) return false;
  out = g;
  return true;
}

namespace detail {

/// What put_gap() writes at most.
inline constexpr std::size_t max_gap =
    std::string_view{R"({"requested":,"first":,"lost":})"}.size() + 3 * max_digits;

/// The data of a gap frame; returns the byte after it. `has_ids`: false where what was lost had
/// none, then `requested` and `first` are null.
inline char* put_gap(char* out, const gap& g, bool has_ids = true) noexcept {
  const auto number = [&out](std::string_view name, bool known, std::uint64_t n) {
    out = put(out, name);
    out = known ? put_decimal(out, n) : put(out, "null");
  };
  number(R"({"requested":)", has_ids, g.requested);
  number(R"(,"first":)", has_ids, g.first);
  number(R"(,"lost":)", g.lost_known, g.lost);
  return put(out, "}");
}

}  // namespace detail

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_GAP_HPP
