// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Time: heartbeats and deadlines from one timer heap, clean ends, drain.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_DEADLINES_HPP
#define SSEHUB_DETAIL_ENGINE_DEADLINES_HPP

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <sse/detail/engine/flush.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

// --- heartbeats ----------------------------------------------------------------------------------

/// A heartbeat's bytes, or nullptr: out of memory, or text that no frame may hold.
inline blob* engine::make_heartbeat(channel_state& c) noexcept {
  const heartbeat_options& h = c.options_.heartbeat;
  std::string made;
  std::string_view text = h.text;
  if (h.payload) {
    const quiet q{*this};
    h.payload(made);
    text = made;
  }
  if (h.comment) {
    if (check_comment(text) != encode_error::none) return nullptr;
    blob* const b = make_blob(static_cast<std::uint32_t>(encoded_comment_size(text)));
    if (b != nullptr) encode_comment_to(b->bytes(), text);
    return b;
  }
  const event e{.type = h.type, .data = text};
  if (validate(e) != encode_error::none) return nullptr;
  blob* const b = make_blob(static_cast<std::uint32_t>(encoded_size(e)));
  if (b != nullptr) encode_to(b->bytes(), e);
  return b;
}

/// A fixed-pace heartbeat goes to all readers as one transient entry.
inline void engine::publish_heartbeat(channel_state& c) noexcept {
  if (c.main_.readers.empty()) return;
  stream* const st = transients_of(c);
  blob* const b = st == nullptr ? nullptr : make_heartbeat(c);
  if (b == nullptr) return;
  const new_entry meta{
      .size = b->size, .stamp = stamp_ + 1, .at = present_, .audience = {}, .heartbeat = true};
  if (char* const at = st->log.prepare(meta); at != nullptr) {
    std::memcpy(at, b->bytes(), b->size);
    ++stamp_;
    st->log.commit(meta);
    st->trim(now_);
    announce(*st, {});
    stats_.heartbeats += c.main_.readers.size();
  }
  unref(b);
}

// --- the clock -----------------------------------------------------------------------------------

/// Deadlines that are due act in their order. Call flush() afterwards.
inline void engine::tick(time_point host_now) noexcept {
  if (quiet_) return;
  const work w{*this};
  if (origin_ == INT64_MIN) origin_ = host_now.ms();
  target_ = host_now.ms() - origin_;
  if (target_ > present_) present_ = target_;
  if (target_ - now_ > timers_.farthest) jump_to_target();
  while (!timers_.empty() && timers_.top_when(now_) <= target_) {
    const std::uint32_t id = timers_.top_id();
    const std::int64_t due = timers_.top_when(now_);
    if (due > now_) now_ = due;
    if ((id & timer_places::channel_bit) != 0) {
      on_channel_timer(*channels_[id & ~timer_places::channel_bit]);
    } else {
      on_session_timer(id);
    }
  }
  if (target_ > now_) now_ = target_;
  if (draining_ && now_ >= drain_deadline_) {
    for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot)
      mark_dead(slot, close_reason::drain);
    drain_deadline_ = INT64_MAX;
  }
}

/// The time, without what is due: that waits for tick().
inline void engine::set_time(time_point host_now) noexcept {
  if (quiet_) return;
  const time_point due = next_deadline();
  tick(due <= host_now ? time_point::milliseconds(due.ms() - 1) : host_now);
  if (host_now.ms() - origin_ > present_) present_ = host_now.ms() - origin_;
}

/// A session's times are told apart for 24 days; what is older stays as old as that. A session that
/// has a deadline comes here every twelve days at least.
inline void engine::keep_countable(session& s, std::int64_t passed) noexcept {
  constexpr std::int64_t most = countable(duration::seconds(INT32_MAX)).ms();
  const auto to = static_cast<std::uint32_t>(now_ + passed);
  for (std::uint32_t* then : {&s.last_event, &s.last_write, &s.progress, &s.over_since}) {
    const std::int64_t elapsed = since(*then, now32()) + passed;
    if (elapsed > most) *then = to - static_cast<std::uint32_t>(most);
  }
}

/// More time passed than the timers tell apart (a clock that was set, a machine that slept for
/// weeks): what is overdue stays so, and is due once.
inline void engine::jump_to_target() noexcept {
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot) {
    if (serving(sessions_[slot])) keep_countable(sessions_[slot], target_ - now_);
  }
  timers_.jump(now_, target_);
  now_ = target_;
}

inline time_point engine::next_deadline() const noexcept {
  std::int64_t when = drain_deadline_;
  if (!timers_.empty() && timers_.top_when(now_) < when) when = timers_.top_when(now_);
  return when == INT64_MAX || origin_ == INT64_MIN ? time_point::never()
                                                   : time_point::milliseconds(when + origin_);
}

/// One period on; after a long pause of the host the beats that were missed are not all made up
/// for.
inline std::int64_t engine::next_beat(std::int64_t every) const noexcept {
  return (target_ - now_) / every > 16 ? target_ + every : now_ + every;
}

inline void engine::on_session_timer(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  timers_.disarm(slot);
  if (!serving(s)) return;
  keep_countable(s, 0);
  const auto elapsed = [&](std::uint32_t then) {
    return duration::milliseconds(since(then, now32()));
  };
  if (s.blocked && s.waiting && !options_.write_deadline.is_off() &&
      elapsed(s.progress) >= options_.write_deadline) {
    mark_dead(slot, close_reason::stalled);
    return;
  }
  if (s.state == session_state::live) {
    if (s.paced) enqueue(live_, slot);
    if (s.over) look_at_soft_lag(slot);
    if (!serving(s)) return;
    channel_state* const heart = heart_of(s);
    if (now_ >= s.ends_at) {
      begin_finish(slot, close_reason::age);
    } else if (!options_.idle.is_off() && elapsed(s.last_event) >= options_.idle) {
      begin_finish(slot, close_reason::idle);
    } else if (heart != nullptr && elapsed(s.last_write) >= heart->options_.heartbeat.every &&
               (!s.blocked || !s.waiting)) {
      beat(slot, *heart);
    }
  }
  arm(slot);
}

/// Readers that are over a soft limit for too long.
inline void engine::look_at_soft_lag(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  s.over = false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const channel_options& o = stream_of(subs_[i]).owner->options_;
    if (o.soft_lag == 0 || lag_of(stream_of(subs_[i]), subs_[i]) <= o.soft_lag) continue;
    if (duration::milliseconds(since(s.over_since, now32())) >= o.soft_lag_for) {
      over_lag(i);
    } else {
      s.over = true;
    }
  }
}

/// A heartbeat for one session.
inline void engine::beat(std::uint32_t slot, channel_state& heart) noexcept {
  session& s = sessions_[slot];
  // On a blocked stream with nothing to say it is what the write deadline can be held against.
  if (blob* const b = make_heartbeat(heart); b != nullptr) {
    if (lanes_.waiting(s.lane) < options_.control_lane &&
        lanes_.push(s.lane, b, lane_kind::control))
      ++stats_.heartbeats;
    unref(b);
  }
  const std::int64_t every = heart.options_.heartbeat.every.ms();
  s.last_write = static_cast<std::uint32_t>(next_beat(every) - every);
  enqueue(live_, slot);
}

inline void engine::on_channel_timer(channel_state& c) noexcept {
  timers_.disarm(timer_places::channel_bit | c.index_);
  if (now_ >= c.due_ && c.sealed_) {
    if (now_ >= target_) return close_channel(c);
    c.due_ = target_;  // its hook may publish: that is of now, not of a time that has passed
  } else if (now_ >= c.due_) {
    c.due_ = next_beat(c.options_.heartbeat.every.ms());
    publish_heartbeat(c);
  }
  c.main_.trim(now_);
  touch(c.main_);
  arm_channel(c);
}

/// Takes no more; tells every stream when to come back; ends each once it has all; cuts the rest at
/// the deadline.
inline void engine::drain(const drain_options& o) noexcept {
  if (quiet_ || draining_) return;
  const work w{*this};
  draining_ = true;
  if (o.deadline != duration::infinite())
    drain_deadline_ = present_ + countable(o.deadline, longest_age).ms();
  event last = o.farewell;
  last.id = {};  // it would move the client's resume point
  if ((!last.type.empty() || !last.data.empty()) && validate(last) == encode_error::none) {
    farewell_ = make_blob(static_cast<std::uint32_t>(encoded_size(last)));
    if (farewell_ != nullptr) encode_to(farewell_->bytes(), last);
  }
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot)
    begin_finish(slot, close_reason::drain);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_DEADLINES_HPP
