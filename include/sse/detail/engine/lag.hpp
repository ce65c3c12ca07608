// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Readers that are too slow: how far behind they are, what the channel's policy does with them, and
// what is held for them.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_LAG_HPP
#define SSEHUB_DETAIL_ENGINE_LAG_HPP

#include <cstdint>

#include <sse/detail/engine/visibility.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Bytes behind live. A reader in its replay is not late for what was there before it came.
inline std::uint64_t engine::lag_of(const stream& st, const subscription& sub) const noexcept {
  if (sub.from() != source::log) return 0;
  const std::uint64_t at = sub.offset();
  return st.log.end_offset() - (at > sub.live_from ? at : sub.live_from);
}

inline std::uint64_t engine::worst_lag(channel c) const noexcept {
  const channel_state* const here = find(c);
  if (here == nullptr) return 0;
  std::uint64_t worst = 0;
  for (const stream* st : {&here->main_, static_cast<const stream*>(here->transients_)}) {
    if (st == nullptr) continue;
    for (const std::uint32_t i : st->readers) {
      if (!serving(sessions_[subs_[i].session])) continue;
      const std::uint64_t lag = lag_of(*st, subs_[i]);
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
    if (st.owner->options_.soft_lag == 0) continue;
    const std::uint64_t lag = lag_of(st, subs_[i]);
    if (lag > st.owner->options_.soft_lag) {
      over = true;
    } else {
      watch_lag(st, st.log.end_offset() - lag);
    }
  }
  return over;
}

/// Looks at a stream's readers: the log grew enough that one may be over a limit, so O(1) per
/// publish over time.
inline void engine::enforce_lag(stream& st) noexcept {
  const channel_options& o = st.owner->options_;
  st.lag_check_at = UINT64_MAX;
  const std::uint64_t again =
      st.log.end_offset() + o.max_lag / 8 + 1;  // for those that stay over a limit
  // nobody but readers about to skip needs anything in front of it
  std::uint64_t needed = st.log.end_offset();
  for (const std::uint32_t i : st.readers) {
    subscription& sub = subs_[i];
    session& s = sessions_[sub.session];
    if (!serving(s)) continue;
    if (st.log.selective()) pass_hidden(sub);
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
    if (serving(s) && sub.from() == source::log && sub.seg->base < needed) needed = sub.seg->base;
  }
  if (st.handed_out.seg != nullptr && st.handed_out.seg->base < needed)
    needed = st.handed_out.seg->base;
  st.detach_before(needed);
}

/// A reader is too far behind: what the channel's policy says.
inline void engine::over_lag(std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  stream& st = stream_of(sub);
  const lag_policy policy = st.owner->options_.on_lag;
  if (st.owner->sealed_ && policy != lag_policy::disconnect) return;  // it grows no more
  if (policy == lag_policy::disconnect) {
    mark_dead(sub.session, close_reason::lag);
    return;
  }
  if (sessions_[sub.session].flight != none) {
    // Its bytes are with the kernel: the skip waits for them, within reason.
    if (lag_of(st, sub) / 2 > st.owner->options_.max_lag) mark_dead(sub.session, close_reason::lag);
    return;
  }
  // What is retained anyway costs nothing: only what left retention is lost.
  if (policy == lag_policy::oldest && sub.at().ordinal() >= st.log.retained()) return;
  leave_log(index);
}

/// A reader gets no more from the log than the rest of a half-sent event. REQUIRES: no write reads
/// it.
inline void engine::leave_log(std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  const stream& st = stream_of(sub);
  log_place next = sub.at();
  const std::uint32_t record = skips_.take();
  if (record == none) {
    mark_dead(sub.session, close_reason::no_memory);
    return;
  }
  if (sub.rest != 0) ++next.k;
  skip& missed = skips_[record];
  missed = {st.log.id_before(next), next.ordinal(), sequence_of(*st.owner).last + 1, stamp_ + 1};
  if (next.find_entry()) {
    missed.first = next.seg->id(next.get());
    missed.stamp = next.seg->stamp(next.get());
  }
  sub.record = record;
  sub.read_from(source::skip);
  enqueue(ready_, sub.session);
}

/// A session could not take all that there was: its channels that conflate give it the newest
/// values instead. `late_only`: if it was there in a flush before. REQUIRES: no write is pending.
inline void engine::conflate(std::uint32_t slot, bool late_only) noexcept {
  if (sessions_[slot].state != session_state::live) return;  // it gets what there is, and its end
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    const stream& st = stream_of(sub);
    if (st.transients || st.owner->options_.on_lag != lag_policy::coalesce ||
        sub.from() != source::log)
      continue;
    const std::uint64_t next = sub.at().ordinal() + (sub.rest != 0 ? 1U : 0U);
    const std::uint64_t end = st.log.end();
    const auto settled_ago = static_cast<std::uint32_t>(end) - st.settled;
    if (next < end - (late_only ? settled_ago : 0)) leave_log(i);
  }
}

/// Readers that see nothing in what is held for them are moved on, so that it can go.
inline void engine::sweep(stream& st) noexcept {
  if (!st.log.selective() || st.log.backlog() <= st.sweep_at) return;
  for (const std::uint32_t i : st.readers) pass_hidden(subs_[i]);
  st.trim(now_);
  const std::uint64_t share = std::uint64_t{st.readers.size()} * 64;
  st.sweep_at = st.log.backlog() + (share > 2048 ? share : 2048);
}

inline void engine::count_backlog(stream& st) noexcept {
  const std::uint64_t held = st.log.backlog();
  if (held == st.backlog) return;
  backlog_ = backlog_ - st.backlog + held;
  st.backlog = held;
  if (held == 0) {
    st.sweep_at = 0;
    backlogs_.remove(st.index);
  } else {
    backlogs_.set(st.index, held);
  }
}

/// Over the hub's memory cap: the worst laggards go first, those in the oldest segment of the
/// stream that holds most.
inline void engine::shed_backlog() noexcept {
  while (options_.max_backlog != 0 && backlog_ > options_.max_backlog && !backlogs_.empty()) {
    stream& worst = *streams_[backlogs_.top_id()].here;
    const std::uint64_t before = worst.backlog;
    if (worst.log.selective()) {  // who only passes what is not for it goes on
      for (const std::uint32_t i : worst.readers) pass_hidden(subs_[i]);
      worst.trim(now_);
      count_backlog(worst);
      if (worst.backlog != before) continue;
    }
    const segment* const oldest = worst.log.head();
    const segment* filled = oldest;
    while (filled->used == 0 && filled->next != nullptr) filled = filled->next;
    const std::uint64_t end = filled->end();
    for (const std::uint32_t i : worst.readers) {
      const subscription& sub = subs_[i];
      if (sub.seg != nullptr && sub.from() != source::left && sub.from() != source::skip &&
          sub.offset() <= end)
        mark_dead(sub.session, close_reason::hub_full);
    }
    worst.detach_before(end);
    count_backlog(worst);
    if (worst.log.head() == oldest) return;
  }
}

/// After the walk: limits, then what nobody needs goes.
inline void engine::settle() noexcept {
  while (touched_ != nullptr) {
    stream& st = next_touched();
    if (st.log.end_offset() > st.lag_check_at) enforce_lag(st);
    st.settled = static_cast<std::uint32_t>(st.log.end());
    st.drop_unread();
    if ((st.log.backlog() | st.backlog) == 0) continue;  // nearly always
    sweep(st);
    count_backlog(st);
  }
  shed_backlog();
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_LAG_HPP
