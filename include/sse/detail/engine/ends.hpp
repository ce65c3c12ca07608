// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Ends: who is closed, and when. A session that is to go is dead at once (sessions.hpp), a channel
// takes its readers along; both are reaped when the outermost call ends.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_ENDS_HPP
#define SSEHUB_DETAIL_ENGINE_ENDS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/detail/engine/channels.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Closes what died, and frees the channels that were closed: the only place where the host's close
/// is called, and the only one that frees.
inline void engine::reap() noexcept {
  if (depth_ != 0 || reaping_) return;
  reaping_ = true;
  while (close_all_due_ || dead_ != none) {
    if (close_all_due_) {
      close_all_due_ = false;
      mark_all_dead();
      continue;
    }
    const std::uint32_t slot = dead_;
    session& s = sessions_[slot];
    dead_ = s.dead_next();
    if (!s.retry_only) ++stats_.closed[static_cast<std::size_t>(s.why)];
    timers_.disarm(slot);
    // It stands on its user's list until now: of several that die together, the last one to leave a
    // channel ends the user's presence there.
    caps_.leave(slot);
    detach_all(slot);
    const bool whole = s.chunked != none && s.why != close_reason::peer && chunks_.whole(s.chunked);
    host_.close(host_.self, slot, s.why, !s.retry_only, whole);
    caps_.forget(slot);
    if (s.flight != none) {
      s.state = session_state::zombie;
    } else {
      bury(slot);
    }
  }
  for (std::uint32_t i = closing_.size(); i-- != 0;) {
    channel_state* const c = closing_[i];
    if (c->read()) continue;
    closing_[i] = closing_.back();
    closing_.pop_back();
    free_channel(c);
  }
  reaping_ = false;
}

// `work` is held while anybody walks: what it closes is reaped at its end.

inline engine::work::~work() {
  if (--e_.depth_ == 0 && (e_.dead_ != none || !e_.closing_.empty() || e_.close_all_due_))
    e_.reap();
}

inline void engine::close(session_id id, close_reason why) noexcept {
  if (quiet_ || find(id) == nullptr) return;
  const work w{*this};
  mark_dead(id.slot, why);
}

inline void engine::closed(session_id id) noexcept { close(id, close_reason::peer); }

inline void engine::close_all() noexcept {
  if (quiet_) return;
  const work w{*this};
  mark_all_dead();
}

inline void engine::mark_all_dead() noexcept {
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot)
    mark_dead(slot, close_reason::host);
}

inline void engine::close_all_soon() noexcept {
  const work w{*this};
  close_all_due_ = true;
}

inline std::size_t engine::revoke(std::string_view key) noexcept {
  const std::uint32_t user = quiet_ ? none : caps_.find_user(key);
  if (user == none) return 0;
  const work w{*this};
  std::size_t n = 0;
  for (std::uint32_t slot = caps_.first_of(user); slot != none; slot = caps_.next_of_user(slot)) {
    if (!serving(sessions_[slot])) continue;
    mark_dead(slot, close_reason::revoked);
    ++n;
  }
  return n;
}

inline bool engine::close_channel(channel c) noexcept {
  channel_state* const here = quiet_ ? nullptr : find(c);
  if (here == nullptr || here->closing_) return false;
  close_channel(*here);
  return true;
}

/// Its streams end now, but for those that left it; it is freed once nobody walks, or has the rest
/// of an event to get. Its name is free at once.
inline void engine::close_channel(channel_state& c) noexcept {
  const work w{*this};
  c.closing_ = true;
  timers_.disarm(timer_places::channel_bit | c.index_);
  for (const std::uint32_t i : c.main_.readers) {
    if (subs_[i].from() != source::left) mark_dead(subs_[i].session, close_reason::channel);
  }
  remember(c);
  names_.release(names_.find(c.name()));
  closing_.push_reserved(&c);
  if (on_channel_closed) on_channel_closed(handle_of(c));
}

/// Ends a session cleanly: what is pending, a farewell, then close.
inline void engine::begin_finish(std::uint32_t slot, close_reason why) noexcept {
  session& s = sessions_[slot];
  if (s.state != session_state::live) return;
  s.state = session_state::finishing;
  s.why = why;
  s.progress = now32();
  enqueue(ready_, slot);
  arm(slot);
  want();
}

inline void engine::finish(session_id id) noexcept {
  if (session* s = quiet_ ? nullptr : find(id); s != nullptr && s->state == session_state::live) {
    begin_finish(id.slot, close_reason::finished);
  }
}

inline bool engine::seal(channel c) noexcept {
  channel_state* const here = quiet_ ? nullptr : find(c);
  if (here == nullptr || here->closing_ || here->sealed_) return false;
  seal(*here);
  return true;
}

/// Its log is complete: its readers get the rest, and a clean end.
inline void engine::seal(channel_state& c) noexcept {
  const work w{*this};
  c.sealed_ = true;
  const duration stays = c.options_.keep_sealed;
  c.due_ = stays == duration::infinite() ? INT64_MAX : present_ + stays.ms();
  arm_channel(c);
  want();  // its host has a timer to set
  for (const std::uint32_t i : c.main_.readers) finish_if_sealed(subs_[i].session);
}

/// It gets what comes as it comes, or has all that it chose.
inline bool engine::is_live(const subscription& sub) const noexcept {
  if (sub.from() != source::selected) return sub.from() == source::log;
  const selection& chosen = selections_[sub.record];
  return chosen.keys.first == none &&
         stream_of(sub).owner->newest_->last_keyless() <= chosen.keyless;
}

/// Once nothing can come any more, but for what the logs hold.
inline void engine::finish_if_sealed(std::uint32_t slot) noexcept {
  bool reads = false;  // or it left them all, and may join others
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.from() == source::left) continue;
    if (!stream_of(sub).owner->sealed_ || !is_live(sub)) return;
    reads = true;
  }
  if (reads) begin_finish(slot, close_reason::finished);
}

/// Ends the subscriptions that are leaving, but for one that is half sent.
inline void engine::end_leaving(std::uint32_t slot, std::uint32_t half_sent) noexcept {
  std::uint32_t before = none;
  for (std::uint32_t i = sessions_[slot].first; i != none;) {
    const std::uint32_t next = subs_[i].next;
    if (subs_[i].from() == source::left && i != half_sent) {
      lanes_.drop(sessions_[slot].lane, i);
      detach(slot, before);
    } else {
      before = i;
    }
    i = next;
  }
  arm(slot);  // its heartbeat may be another channel's now
  finish_if_sealed(slot);
}

/// Closes everything. The hub calls it first, while its own half still stands.
inline void engine::shut_down() noexcept {
  on_gap = {};
  on_presence = {};
  on_wanted = {};
  on_channel_closed = {};
  close_all();
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot) {
    // nobody can report on it any more
    if (sessions_[slot].state == session_state::zombie) bury(slot);
  }
  while (!channels_.empty()) free_channel(channels_.back());
  for (blob** b : {&opening_frame_, &farewell_}) {
    if (*b != nullptr) unref(*b);
    *b = nullptr;
  }
}

inline engine::~engine() { shut_down(); }

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_ENDS_HPP
