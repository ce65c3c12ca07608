// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// When a session, and a channel, has to be looked at next. What is done then: deadlines.hpp.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_TIMERS_HPP
#define SSEHUB_DETAIL_ENGINE_TIMERS_HPP

#include <cstdint>

#include <sse/detail/engine/sessions.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The channel whose idle heartbeat a session follows: the first it joined that has one.
inline channel_state* engine::heart_of(const session& s) const noexcept {
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const stream& st = stream_of(subs_[i]);
    if (!st.transients && st.owner->options_.heartbeat.mode == heartbeat_options::pace::idle)
      return st.owner;
  }
  return nullptr;
}

/// When a reader may get values that wait for it; INT64_MAX: it waits for nothing but its socket.
inline std::int64_t engine::values_due(const subscription& sub) noexcept {
  if (sub.from() != source::newest && sub.from() != source::selected) return INT64_MAX;
  bool waits = false;
  if (sub.from() == source::selected) {
    waits = selections_[sub.record].keys.first != none;
  } else {
    const passing& p = passes_[sub.record];
    waits = p.open || head_of(*stream_of(sub).owner) > p.since;
  }
  const std::int64_t due = value_reader_of(sub).due();
  return waits && due > now_ ? due : INT64_MAX;
}

/// Sets a session's next deadline.
inline void engine::arm(std::uint32_t slot) noexcept {
  const session& s = sessions_[slot];
  if (!serving(s)) return;
  std::int64_t when = INT64_MAX;
  const auto due = [&](std::uint32_t then, duration after, bool acts = false) {
    if (after.is_off()) return;
    // What is overdue but cannot act now (a heartbeat on a blocked stream) looks again one period
    // later.
    const std::int64_t left = after.ms() - since(then, now32());
    const std::int64_t at = now_ + (left > 0 ? left : acts ? 0 : after.ms());
    if (at < when) when = at;
  };
  if (s.blocked || s.state == session_state::finishing) due(s.progress, options_.write_deadline);
  if (s.state == session_state::live) {
    due(s.last_event, options_.idle);
    if (const channel_state* const heart = heart_of(s))
      due(s.last_write, heart->options_.heartbeat.every, !s.blocked || !s.waiting);
    if (s.ends_at < when) when = s.ends_at;
    if (s.paced) {
      for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
        if (const std::int64_t at = values_due(subs_[i]); at < when) when = at;
      }
    }
    if (s.over) {
      for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
        due(s.over_since, stream_of(subs_[i]).owner->options_.soft_lag_for);
      }
    }
  }
  if (when != INT64_MAX) {
    timers_.arm(slot, when, now_);
  } else {
    timers_.disarm(slot);
  }
}

inline void engine::arm_channel(channel_state& c) noexcept {
  const std::int64_t expiry = c.main_.log.next_expiry();
  const std::int64_t when = c.due_ < expiry ? c.due_ : expiry;
  const std::uint32_t id = timer_places::channel_bit | c.index_;
  if (when == INT64_MAX) {
    timers_.disarm(id);
  } else if (when != timers_.when(id, now_)) {
    timers_.arm(id, when, now_);
  }
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_TIMERS_HPP
