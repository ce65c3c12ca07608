// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Sessions: their control lanes, cursors and slots, and how they end.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include <sse/detail/engine.hpp>

namespace sse::inline v0::detail {

// --- control lane --------------------------------------------------------------------------------

/// Takes a reference of its own.
inline bool engine::push_lane(std::uint32_t slot, blob* b, lane_kind kind) noexcept {
  const std::uint32_t i = lane_items_.take();
  if (i == none) return false;
  ++b->refs;
  lane_items_[i] = {b, 0, 0, none, none, kind};
  std::uint32_t& first = sessions_[slot].lane;
  (first == none ? first : lane_items_[lane_items_[first].last].next) = i;
  lane_items_[first].last = i;
  lane_items_[first].waiting += b->size;
  return true;
}

inline bool engine::push_lane_bytes(std::uint32_t slot, std::string_view bytes,
                                    lane_kind kind) noexcept {
  if (bytes.empty()) return true;
  blob* b = make_blob(static_cast<std::uint32_t>(bytes.size()));
  if (b == nullptr) return false;
  std::memcpy(b->bytes(), bytes.data(), bytes.size());
  const bool ok = push_lane(slot, b, kind);
  unref(b);
  return ok;
}

/// REQUIRES: check(e) passed.
inline bool engine::push_lane_event(std::uint32_t slot, const event& e, lane_kind kind) noexcept {
  blob* b = make_blob(static_cast<std::uint32_t>(encoded_size(e)));
  if (b == nullptr) return false;
  encode_to(b->bytes(), e);
  const bool ok = push_lane(slot, b, kind);
  unref(b);
  return ok;
}

inline void engine::pop_lane(session& s) noexcept {
  const std::uint32_t i = s.lane;
  const lane_item& item = lane_items_[i];
  if (item.next != none) {
    lane_items_[item.next].waiting = item.waiting - item.bytes->size;
    lane_items_[item.next].last = item.last;
  }
  s.lane = item.next;
  unref(item.bytes);
  lane_items_.give_back(i);
}

inline std::uint64_t engine::lane_bytes(const session& s) const noexcept {
  // only the first is half sent
  return s.lane == none ? 0 : lane_items_[s.lane].waiting - lane_items_[s.lane].sent;
}

// --- cursors -------------------------------------------------------------------------------------

inline void engine::move_cursor(subscription& sub, segment* seg, std::uint32_t off) noexcept {
  sub.off = off;
  if (seg == sub.seg) return;
  ++seg->pins;
  release_cursor(sub);
  sub.seg = seg;
}

inline void engine::release_cursor(subscription& sub) noexcept {
  if (sub.seg == nullptr) return;
  if (sub.seg->pins == 1 && sub.seg->attached) touch(stream_of(sub));  // it may go now
  pool_.unpin(sub.seg);
  sub.seg = nullptr;
}

/// Puts a cursor in front of an entry. REQUIRES: the log has a tail.
inline void engine::place_at(subscription& sub, std::uint64_t ordinal) noexcept {
  const event_log& log = stream_of(sub).log;
  if (ordinal == log.end()) {
    move_cursor(sub, log.tail(), log.tail()->used);
  } else {
    move_cursor(sub, log[ordinal].seg, log[ordinal].offset());
  }
  sub.rest = 0;
}

inline bool engine::has_pending(const session& s) const noexcept {
  if (s.lane != none || s.pending != none) return true;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.backfilling || sub.skipping || position(sub) < stream_of(sub).log.end_offset())
      return true;
  }
  return false;
}

// --- slots ---------------------------------------------------------------------------------------

inline session* engine::holder(session_id id) noexcept {
  if (id.generation == 0 || id.slot >= sessions_.extent()) return nullptr;
  session& s = sessions_[id.slot];
  return s.generation == id.generation ? &s : nullptr;
}

inline session* engine::find(session_id id) noexcept {
  session* s = holder(id);
  return s != nullptr && s->state != session_state::zombie ? s : nullptr;
}

/// A slot with room everywhere that later steps need it, so that those cannot fail. none: memory is
/// out.
inline std::uint32_t engine::take_slot(const request& r) noexcept {
  if (!sessions_.reserve_one()) return none;
  const std::uint32_t n = sessions_.extent();
  if (!timers_.reserve(n + channels_.size() + 1)) return none;
  if (host_.completes && !batches_.reserve_extent(n)) return none;
  const std::uint32_t slot = sessions_.take();
  session& s = sessions_[slot];
  const session old = s;
  s = session{};
  s.queued = old.queued;
  s.queue_next = old.queue_next;
  s.state = session_state::live;
  if (++generations_ == 0) ++generations_;
  s.generation = generations_;
  s.chunked = r.chunked && r.minor_version >= 1;
  s.last_event = s.last_write = s.progress = now32();
  return slot;
}

/// Gives the session's place in the caps back. Once.
inline void engine::count_out(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (!s.counted) return;
  s.counted = false;
  --counted_;
  give_back(s.user, s.address);
  if (s.address != none) {
    --addresses_[s.address].count;
    addresses_.release(s.address);
    s.address = none;
  }
  if (s.user != none) --users_[s.user].count;
}

/// Takes the session off its user's list, where it stands until it is reaped: of several that die
/// together, the last one to leave a channel ends the user's presence there.
inline void engine::leave_user(std::uint32_t slot) noexcept {
  const session& s = sessions_[slot];
  if (s.user == none) return;
  name& u = users_[s.user];
  (s.user_prev == none ? u.first : sessions_[s.user_prev].user_next) = s.user_next;
  (s.user_next == none ? u.last : sessions_[s.user_next].user_prev) = s.user_prev;
}

inline void engine::mark_dead(std::uint32_t slot, close_reason why) noexcept {
  session& s = sessions_[slot];
  if (!serving(s)) return;
  s.state = session_state::dead;
  s.why = why;
  count_out(slot);
  s.dead_next() = dead_;
  dead_ = slot;
}

/// How many of a user's sessions read a stream.
inline std::uint32_t engine::joined(std::uint32_t user, const stream& st) noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t slot = users_[user].first; slot != none; slot = sessions_[slot].user_next) {
    for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
      if (streams_[subs_[i].stream_index] == &st) ++n;
    }
  }
  return n;
}

inline void engine::detach_subscriptions(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  while (s.first != none) {
    const std::uint32_t i = s.first;
    subscription& sub = subs_[i];
    s.first = sub.next;
    stream& st = stream_of(sub);
    const std::uint32_t moved = st.readers.back();
    st.readers[sub.place] = moved;
    subs_[moved].place = sub.place;
    st.readers.pop_back();
    if (sub.skipping) skips_.give_back(static_cast<std::uint32_t>(sub.live_from));
    release_cursor(sub);
    channel& c = *st.owner;
    sub = subscription{};
    subs_.give_back(i);
    if (on_presence && !st.ephemeral && s.user != none && joined(s.user, st) == 0) {
      on_presence(c, users_[s.user].key.view(), false);
    }
  }
}

/// Closes what died, after the walk: the only place where Transport::close is called.
inline void engine::reap() noexcept {
  if (walking_) return;
  while (dead_ != none) {
    const std::uint32_t slot = dead_;
    session& s = sessions_[slot];
    dead_ = s.dead_next();
    if (!s.retry_only) ++stats_.closed[static_cast<std::size_t>(s.why)];
    timers_.disarm(slot);
    leave_user(slot);
    detach_subscriptions(slot);
    host_.close(host_.self, slot, s.why, !s.retry_only);
    if (s.user != none) {
      users_.release(s.user);
      s.user = none;
    }
    if (s.pending != none) {
      s.state = session_state::zombie;
    } else {
      bury(slot);
    }
  }
}

/// Frees the slot. REQUIRES: closed.
inline void engine::bury(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (s.pending != none) {
    unpin_pending(batches_[s.pending]);
    batches_.give_back(s.pending);
    s.pending = none;
  }
  while (s.lane != none) pop_lane(s);
  s.generation = 0;
  s.state = session_state::free;
  sessions_.give_back(slot);
}

inline void engine::close(session_id id, close_reason why) noexcept {
  if (find(id) == nullptr) return;
  mark_dead(id.slot, why);
  reap();
}

inline void engine::finish(session_id id) noexcept {
  if (session* s = find(id); s != nullptr && s->state == session_state::live) {
    begin_finish(id.slot, close_reason::finished);
  }
}

inline std::size_t engine::revoke(std::string_view key) noexcept {
  const std::uint32_t user = users_.find(key);
  if (user == none) return 0;
  std::size_t n = 0;
  for (std::uint32_t slot = users_[user].first; slot != none; slot = sessions_[slot].user_next) {
    if (!serving(sessions_[slot])) continue;
    mark_dead(slot, close_reason::revoked);
    ++n;
  }
  reap();
  return n;
}

inline hub_stats engine::stats() const noexcept {
  hub_stats s = stats_;
  s.sessions = counted_;
  s.log_bytes = pool_.held();
  return s;
}

}  // namespace sse::inline v0::detail
