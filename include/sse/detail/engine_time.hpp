// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Time and limits: heartbeats and deadlines from one timer queue, what happens to readers that are
// too slow, drain.
#pragma once

#include <sse/detail/engine.hpp>

namespace sse::inline v0::detail {

/// splitmix64.
inline std::uint64_t engine::random() noexcept {
  random_ += 0x9e3779b97f4a7c15ULL;
  std::uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

inline std::int64_t engine::jittered_retry() noexcept {
  const std::int64_t low = options_.retry_min.ms();
  const std::int64_t high = options_.retry_max.ms();
  return high <= low ? low
                     : low + static_cast<std::int64_t>(random() %
                                                       static_cast<std::uint64_t>(high - low + 1));
}

/// Deadlines that are due act in their order. Call flush() afterwards.
inline void engine::tick(time_point host_now) noexcept {
  if (origin_ == INT64_MIN) origin_ = host_now.ms();
  target_ = host_now.ms() - origin_;
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
  reap();
}

inline time_point engine::next_deadline() const noexcept {
  std::int64_t when = drain_deadline_;
  if (!timers_.empty() && timers_.top_when(now_) < when) when = timers_.top_when(now_);
  return when == INT64_MAX || origin_ == INT64_MIN ? time_point::never()
                                                   : time_point::milliseconds(when + origin_);
}

/// The channel whose idle heartbeat a session follows: the first it joined that has one.
inline const channel* engine::heart_of(const session& s) const noexcept {
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const stream& st = stream_of(subs_[i]);
    if (!st.ephemeral && st.owner->options_.heartbeat.mode == heartbeat_options::pace::idle)
      return st.owner;
  }
  return nullptr;
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
  const auto elapsed = [&](std::uint32_t then) {
    return duration::milliseconds(since(then, now32()));
  };

  if (s.blocked && !options_.write_deadline.is_off() &&
      elapsed(s.progress) >= options_.write_deadline &&
      (s.state == session_state::finishing || has_pending(s))) {
    mark_dead(slot, close_reason::stalled);
    return;
  }
  if (s.state == session_state::live) {
    if (s.over) {
      s.over = false;
      for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
        const channel_options& o = stream_of(subs_[i]).owner->options_;
        if (o.soft_lag == 0 || lag_of(stream_of(subs_[i]), subs_[i]) <= o.soft_lag) continue;
        if (elapsed(s.over_since) >= o.soft_lag_for) {
          over_lag(i);
        } else {
          s.over = true;
        }
      }
      if (!serving(s)) return;
    }
    if (now_ >= s.ends_at) {
      begin_finish(slot, close_reason::age);
    } else if (!options_.idle.is_off() && elapsed(s.last_event) >= options_.idle) {
      begin_finish(slot, close_reason::idle);
    } else if (const channel* heart = heart_of(s);
               heart != nullptr && elapsed(s.last_write) >= heart->options_.heartbeat.every &&
               (!s.blocked || !has_pending(s))) {
      // On a blocked stream with nothing to say it is what the write deadline can be held against.
      if (s.blocked) s.progress = now32();
      if (blob* b = make_heartbeat(*channels_[heart->index_]); b != nullptr) {
        if (lane_bytes(s) < options_.control_lane && push_lane(slot, b)) ++stats_.heartbeats;
        unref(b);
      }
      s.last_write = static_cast<std::uint32_t>(next_beat(heart->options_.heartbeat.every.ms()) -
                                                heart->options_.heartbeat.every.ms());
      queue(slot);
    }
  }
  arm(slot);
}

/// Sets a session's next deadline.
inline void engine::arm(std::uint32_t slot) noexcept {
  const session& s = sessions_[slot];
  if (!serving(s)) return;
  std::int64_t when = INT64_MAX;
  const auto due = [&](std::uint32_t then, duration after) {
    if (after.is_off()) return;
    // What is overdue but cannot act now (a heartbeat on a blocked stream) looks again one period
    // later.
    const std::int64_t left = after.ms() - since(then, now32());
    const std::int64_t at = now_ + (left > 0 ? left : after.ms());
    if (at < when) when = at;
  };
  if (s.blocked || s.state == session_state::finishing) due(s.progress, options_.write_deadline);
  if (s.state == session_state::live) {
    due(s.last_event, options_.idle);
    if (const channel* heart = heart_of(s)) due(s.last_write, heart->options_.heartbeat.every);
    if (s.ends_at < when) when = s.ends_at;
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

inline void engine::arm_channel(channel& c) noexcept {
  const std::int64_t expiry = c.main_.log.next_expiry();
  const std::int64_t when = c.next_heartbeat_ < expiry ? c.next_heartbeat_ : expiry;
  const std::uint32_t id = timer_places::channel_bit | c.index_;
  if (when == INT64_MAX) {
    timers_.disarm(id);
  } else if (when != timers_.when(id, now_)) {
    timers_.arm(id, when, now_);
  }
}

inline void engine::on_channel_timer(channel& c) noexcept {
  timers_.disarm(timer_places::channel_bit | c.index_);
  if (now_ >= c.next_heartbeat_) {
    c.next_heartbeat_ = next_beat(c.options_.heartbeat.every.ms());
    publish_heartbeat(c);
  }
  c.main_.log.trim(now_);
  touch(c.main_);
  arm_channel(c);
}

/// Ends a session cleanly: what is pending, a farewell, then close.
inline void engine::begin_finish(std::uint32_t slot, close_reason why) noexcept {
  session& s = sessions_[slot];
  if (s.state != session_state::live) return;
  s.state = session_state::finishing;
  s.why = why;
  s.progress = now32();
  queue(slot);
  arm(slot);
}

/// Takes no more; tells every stream when to come back; ends each once it has all; cuts the rest at
/// the deadline.
inline void engine::drain(const drain_options& o) noexcept {
  if (draining_) return;
  draining_ = true;
  if (o.deadline != duration::forever())
    drain_deadline_ = now_ + countable(o.deadline, longest_age).ms();
  event last = o.farewell;
  last.id = {};  // it would move the client's resume point
  if ((!last.type.empty() || !last.data.empty()) && check(last) == encode_error::none) {
    farewell_ = make_blob(static_cast<std::uint32_t>(encoded_size(last)));
    if (farewell_ != nullptr) encode_to(farewell_->bytes(), last);
  }
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot)
    begin_finish(slot, close_reason::drain);
}

// --- slow readers --------------------------------------------------------------------------------

/// Bytes behind live. A reader in its replay is not late for what was there before it came.
inline std::uint64_t engine::lag_of(const stream& st, const subscription& sub) const noexcept {
  if (sub.skipping || sub.backfilling) return 0;
  const std::uint64_t at = position(sub) > sub.live_from ? position(sub) : sub.live_from;
  return st.log.end_offset() - at;
}

inline std::uint64_t engine::worst_lag(const channel& c) const noexcept {
  std::uint64_t worst = 0;
  for (const stream* st : {&c.main_, static_cast<const stream*>(c.ephemeral_)}) {
    if (st == nullptr) continue;
    for (std::uint32_t k = 0; k < st->readers.size(); ++k) {
      const subscription& sub = subs_[st->readers[k]];
      if (!serving(sessions_[sub.session])) continue;
      const std::uint64_t lag = lag_of(*st, sub);
      if (lag > worst) worst = lag;
    }
  }
  return worst;
}

/// Somebody stands at `from`: look when the log has grown by the smaller limit, or by the one that
/// is not passed yet.
inline void engine::watch_lag(stream& st, std::uint64_t from, bool over_soft) noexcept {
  const channel_options& o = st.owner->options_;
  std::uint64_t limit = o.max_lag;
  if (!over_soft && o.soft_lag != 0 && o.soft_lag < limit) limit = o.soft_lag;
  const std::uint64_t at = limit > UINT64_MAX - from ? UINT64_MAX : from + limit;
  if (at < st.lag_check_at) st.lag_check_at = at;
}

/// Whether a session that was over a soft limit still is. Where it caught up, the limit is watched
/// again.
inline bool engine::still_over(const session& s) noexcept {
  bool over = false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    stream& st = stream_of(subs_[i]);
    const std::uint64_t lag = lag_of(st, subs_[i]);
    if (st.owner->options_.soft_lag == 0) continue;
    if (lag > st.owner->options_.soft_lag) {
      over = true;
    } else {
      watch_lag(st, st.log.end_offset() - lag);
    }
  }
  return over;
}

/// Looks at a stream's readers once the log grew enough that one may be over a limit: O(1) per
/// publish over time.
inline void engine::enforce_lag(stream& st) noexcept {
  if (st.log.end_offset() <= st.lag_check_at) return;
  const channel_options& o = st.owner->options_;
  st.lag_check_at = UINT64_MAX;
  const std::uint64_t again =
      st.log.end_offset() + o.max_lag / 8 + 1;  // for those that stay over a limit
  // nobody but readers about to skip needs anything in front of it
  std::uint64_t needed = st.log.end_offset();
  for (std::uint32_t i : st.readers) {
    subscription& sub = subs_[i];
    session& s = sessions_[sub.session];
    if (!serving(s)) continue;
    const std::uint64_t lag = lag_of(st, sub);
    if (lag > o.max_lag) {
      over_lag(i);
      if (again < st.lag_check_at) st.lag_check_at = again;
    } else {
      const bool over_soft = o.soft_lag != 0 && lag > o.soft_lag;
      if (over_soft && !s.over) {
        s.over = true;
        s.over_since = now32();
        arm(sub.session);
      }
      watch_lag(st, st.log.end_offset() - lag, over_soft);
    }
    // A cursor at the very end of its segment goes on from there: it needs the segment, not only
    // what follows.
    if (serving(s) && !sub.skipping && !sub.backfilling && sub.seg->base < needed)
      needed = sub.seg->base;
  }
  st.log.detach_before(needed);
}

/// A reader is too far behind: what the channel's policy says.
inline void engine::over_lag(std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  stream& st = stream_of(sub);
  const lag_policy policy = st.owner->options_.on_lag;
  if (policy == lag_policy::disconnect) {
    mark_dead(sub.session, close_reason::lag);
    return;
  }
  if (sessions_[sub.session].pending != none) {
    // Its bytes are with the kernel: the skip waits for them, within reason.
    if (lag_of(st, sub) / 2 > st.owner->options_.max_lag) mark_dead(sub.session, close_reason::lag);
    return;
  }
  const std::uint64_t at = st.log.locate(position(sub));
  // What is retained anyway costs nothing: only what left retention is lost.
  if (policy == lag_policy::oldest && at >= st.log.retained()) return;
  const std::uint32_t record = skips_.take();
  if (record == none) {
    mark_dead(sub.session, close_reason::no_memory);
    return;
  }
  const std::uint64_t next = sub.rest != 0 ? at + 1 : at;
  const std::uint64_t stamp = next < st.log.end() ? st.log[next].stamp : stamp_ + 1;
  skips_[record] = {st.log.id_before(next), next, stamp};
  sub.live_from = record;
  sub.skipping = 1;
  queue(sub.session);
}

/// Over the hub's memory cap: the worst laggards go first, those in the oldest segment of the
/// stream that holds most.
inline void engine::shed_backlog() noexcept {
  while (options_.max_backlog != 0 && backlog_ > options_.max_backlog) {
    stream* worst = nullptr;
    for (stream* st : streams_) {
      if (worst == nullptr || st->backlog > worst->backlog) worst = st;
    }
    if (worst == nullptr || worst->backlog == 0) return;
    const std::uint64_t end = worst->log.head()->end();
    for (std::uint32_t i : worst->readers) {
      if (subs_[i].seg != nullptr && !subs_[i].skipping && position(subs_[i]) <= end) {
        mark_dead(subs_[i].session, close_reason::hub_full);
      }
    }
    worst->log.detach_before(end);
    const std::uint64_t now = worst->log.backlog();
    backlog_ = backlog_ - worst->backlog + now;
    if (now == worst->backlog) return;
    worst->backlog = now;
  }
}

/// After the walk: limits, then what nobody needs goes.
inline void engine::settle() noexcept {
  stream* list = touched_;
  touched_ = nullptr;
  while (list != nullptr) {
    stream& st = *list;
    list = st.next_touched;
    st.touched = false;
    if (st.dirty) touch(st);
    enforce_lag(st);
    st.log.trim(now_);
    const std::uint64_t held = st.log.backlog();
    backlog_ = backlog_ - st.backlog + held;
    st.backlog = held;
  }
  shed_backlog();
}

}  // namespace sse::inline v0::detail
