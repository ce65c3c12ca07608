// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What is said about an event when it is published, and what became of it: the same for a channel,
// a hub, a server, a publisher of another thread, and a sequencer.
#pragma once
#ifndef SSEHUB_PUBLISH_HPP
#define SSEHUB_PUBLISH_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/event.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// What an event is to its key, for who gets the newest of each (lag_policy::coalesce,
/// start_at::snapshot, watch_options).
enum class key_role : std::uint8_t {
  value,  ///< its newest state: makes older ones superfluous
  /// The key is gone, and this is the event that says so: who has its value gets it, also late; who
  /// is new, or begins with a snapshot, gets neither.
  erase,
  /// No state, such as a trade: all come, in order, as events without a key do, to who gets the
  /// key; in front of each the newest value of the key, unless the stream has it.
  barrier,
};

/// Views are copied before the call that takes them returns.
struct publish_options {
  event_id id = no_id;  ///< for a channel whose ids are given by the publisher: id_mode::given
  /// Empty: everyone; else who may see it, live or replayed (hub: sees). At most 65,535 bytes.
  std::string_view audience = {};
  bool transient = false;  ///< never replayed, no id
  /// What it is about, such as a symbol; see `role`. At most 16,383 bytes.
  std::string_view key = {};
  key_role role = key_role::value;  ///< without a key it says nothing
  /// event::data is a whole event as sse::encode wrote it, with `id` as its id if it has one, and
  /// goes out as it is: for events that are encoded once for several hubs. Checked for size and
  /// blank line only; type and retry must not be set.
  bool encoded = false;
  bool last = false;  ///< the channel is sealed behind it, see hub::seal
  /// The given `id` may be the last one of its sequence once more: for what stands in several
  /// channels under one id. Who reads several of them gets it from each. Not through a mailbox.
  bool repeats_id = false;
};

namespace detail {
/// As records have it; what none of them says is a value.
[[nodiscard]] constexpr key_role key_role_of(unsigned stored) noexcept {
  const bool known = stored <= static_cast<unsigned>(key_role::barrier);
  return known ? static_cast<key_role>(stored) : key_role::value;
}
inline constexpr std::size_t max_audience_bytes = 0xffff;
inline constexpr std::size_t max_key_bytes = 0x3fff;  // a record has a key_role beside it
[[nodiscard]] constexpr bool names_fit(const publish_options& o) noexcept {
  return o.audience.size() <= max_audience_bytes && o.key.size() <= max_key_bytes;
}
}  // namespace detail

/// Why an event was not published.
enum class publish_error : std::uint8_t {
  none,
  bad_type,  ///< CR, LF or NUL in the type, or too long; publish_options::encoded: see there
  /// The event brought an id, or publish_options::id where ids are not given by the publisher.
  bad_id,
  bad_retry,
  /// encode_limits, an audience over 65,535 bytes, or a key over 16,383; a publisher: it never
  /// fits, since it is over half the lane, over mailbox_options::limits or the writer's max.
  too_large,
  /// Given id missing, not above the last one, past 2^53-1, or not given: hub_options::given_ids.
  id_order,
  no_memory,
  no_session,  ///< send: the session is gone, or its last byte was sent
  no_channel,  ///< a lane, a sequencer: it has no channel of this number
  /// No room now. send: hub_options::control_lane bytes are waiting already; a publisher: the hub's
  /// thread is behind by a whole lane; a sequencer: a shard is.
  full,
  in_hook,  ///< called inside a hook that may not call the hub (see hub)
  /// The channel is being closed. A publisher: its mailbox is closed or gone, or memory was out
  /// when it was made. A sequencer: no shards, or draining.
  closed,
  sealed,       ///< the channel has had its last event
  another_hub,  ///< hub.publish: the channel is not this hub's
  not_stored,   ///< a journal cannot write now, and was not told to go on without
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(publish_error e) noexcept {
  switch (e) {
    case publish_error::none: return "none";
    case publish_error::bad_type: return "bad_type";
    case publish_error::bad_id: return "bad_id";
    case publish_error::bad_retry: return "bad_retry";
    case publish_error::too_large: return "too_large";
    case publish_error::id_order: return "id_order";
    case publish_error::no_memory: return "no_memory";
    case publish_error::no_session: return "no_session";
    case publish_error::no_channel: return "no_channel";
    case publish_error::full: return "full";
    case publish_error::in_hook: return "in_hook";
    case publish_error::closed: return "closed";
    case publish_error::sealed: return "sealed";
    case publish_error::another_hub: return "another_hub";
    case publish_error::not_stored: return "not_stored";
  }
  return "unknown";
}

/// What became of an event: accepted, with its id, or why it was refused; then nothing was
/// published.
struct publish_result {
  /// no_id where it has none: a transient one, one for one session, one whose id the hub's thread
  /// gives later (a publisher's).
  event_id id = no_id;
  publish_error error = publish_error::none;  ///< why it was refused

  [[nodiscard]] constexpr explicit operator bool() const noexcept {
    return error == publish_error::none;
  }
  [[nodiscard]] friend constexpr bool operator==(const publish_result&,
                                                 const publish_result&) noexcept = default;
  [[nodiscard]] friend constexpr bool operator==(const publish_result& r,
                                                 publish_error e) noexcept {
    return r.error == e;
  }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_PUBLISH_HPP
