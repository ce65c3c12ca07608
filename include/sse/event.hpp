// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// event: one event, as it is sent and as it is received. event_id: the number that orders a stream.
//
//   (void)channel.publish({.type = "fill", .data = json});
//
// All members are views: they must live until the call that takes the event returns; inside a
// parser's callback they are valid until the callback returns. Plain data, no thread safety of its
// own.
#pragma once
#ifndef SSEHUB_EVENT_HPP
#define SSEHUB_EVENT_HPP

#include <cstdint>
#include <string_view>

#include <sse/config.hpp>

/// Server-Sent Events: channels, streams, servers, clients.
namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// A stream position. Strictly increasing within a sequence, never reused, below 2^53 so that
/// JavaScript can hold it.
using event_id = std::uint64_t;
inline constexpr event_id no_id = 0;  ///< no event has it
/// Of the options called first_id: not said.
inline constexpr event_id unsaid_id = UINT64_MAX;
inline constexpr event_id max_event_id = (event_id{1} << 53) - 1;  ///< the highest

namespace detail {
[[nodiscard]] constexpr event_id said_or(event_id first_id, event_id otherwise) noexcept {
  return first_id != unsaid_id ? first_id : otherwise;
}
}  // namespace detail

/// `event::retry` when the event carries no `retry:` field.
inline constexpr std::int64_t no_retry = -1;

/// One event (WHATWG HTML 9.2.5 and 9.2.6).
struct event {
  /// `event:`; empty: unnamed, a browser's `onmessage` gets it. REQUIRES: no CR, LF, NUL.
  std::string_view type{};
  /// `data:`; any text; CR, LF and CRLF inside it are line ends and arrive as LF.
  std::string_view data{};
  /// `id:`; empty: none. As received: the last event ID. REQUIRES: no CR, LF, NUL.
  std::string_view id{};
  std::int64_t retry = no_retry;  ///< `retry:` in milliseconds. REQUIRES: >= 0, or no_retry.
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_EVENT_HPP
