// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Sessions: their slots, cursors and subscriptions, who is served next, who is there.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_SESSIONS_HPP
#define SSEHUB_DETAIL_ENGINE_SESSIONS_HPP

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <sse/detail/engine/engine.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

// --- who is served, what is looked at ------------------------------------------------------------

inline void engine::enqueue(queue& q, std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (s.blocked) begin_waiting(s);
  if (s.queued || s.blocked) return;
  s.queued = true;
  s.queue_next = none;
  (q.last == none ? q.first : sessions_[q.last].queue_next) = slot;
  q.last = slot;
}

/// A blocked stream has something to say: from now on the write deadline counts, if it did not.
inline void engine::begin_waiting(session& s) noexcept {
  if (s.waiting) return;
  s.waiting = true;
  s.progress = now32();
}

/// REQUIRES: it is not empty.
inline std::uint32_t engine::dequeue(queue& q) noexcept {
  SSEHUB_ASSERT(q.first != none && sessions_[q.first].queued);
  const std::uint32_t slot = q.first;
  session& s = sessions_[slot];
  q.first = s.queue_next;
  if (q.first == none) q.last = none;
  s.queued = false;
  return slot;
}

/// Settles a stream after the walk: limits, then what nobody needs goes.
inline void engine::touch(stream& st) noexcept {
  if (st.touched) return;
  st.touched = true;
  st.touched_prev = nullptr;
  st.touched_next = touched_;
  if (touched_ != nullptr) touched_->touched_prev = &st;
  touched_ = &st;
}

/// Takes the first of them out of the list. REQUIRES: there is one.
inline stream& engine::next_touched() noexcept {
  stream& st = *touched_;
  st.touched = false;
  touched_ = st.touched_next;
  if (touched_ != nullptr) touched_->touched_prev = nullptr;
  return st;
}

inline void engine::untouch(stream& st) noexcept {
  if (!st.touched) return;
  st.touched = false;
  (st.touched_prev == nullptr ? touched_ : st.touched_prev->touched_next) = st.touched_next;
  if (st.touched_next != nullptr) st.touched_next->touched_prev = st.touched_prev;
}

// --- cursors -------------------------------------------------------------------------------------

/// In front of another entry, with nothing half sent.
inline void engine::move_cursor(subscription& sub, const log_place& to) noexcept {
  sub.k = to.k;
  sub.rest = 0;
  if (to.seg == sub.seg) return;
  ++to.seg->pins;
  release_cursor(sub);
  sub.seg = to.seg;
}

inline void engine::release_cursor(subscription& sub) noexcept {
  if (sub.seg == nullptr) return;
  if (sub.seg->pins == 1 && sub.seg->attached) touch(stream_of(sub));  // it may go now
  pool_.unpin(sub.seg);
  sub.seg = nullptr;
}

/// REQUIRES: the log has a segment.
inline void engine::place_at(subscription& sub, std::uint64_t ordinal) noexcept {
  move_cursor(sub, stream_of(sub).log.at(ordinal));
}

/// Where a session's chain of subscriptions goes on behind one of them; none: where it begins.
inline std::uint32_t& engine::link_behind(std::uint32_t slot, std::uint32_t before) noexcept {
  return before == none ? sessions_[slot].first : subs_[before].next;
}

/// Subscribes a session to a stream, at its end, behind the subscription `before`; none: memory is
/// out.
inline std::uint32_t engine::add_reader(std::uint32_t slot, stream& st,
                                        std::uint32_t before) noexcept {
  if (!st.log.ensure_tail() || !st.readers.reserve(st.readers.size() + 1)) return none;
  const std::uint32_t i = subs_.take();
  if (i == none) return none;
  if (options_.session_stats && !begin_counts(i)) {
    subs_.give_back(i);
    return none;
  }
  std::uint32_t& link = link_behind(slot, before);
  subscription& sub = subs_[i];
  sub = subscription{};
  sub.session = slot;
  sub.next = link;
  sub.read_stream(st.index);
  sub.place = st.readers.size();
  st.readers.push_reserved(i);
  if (st.selecting != 0) swap_readers(st, sub.place, sub.place - st.selecting);
  link = i;
  move_cursor(sub, st.log.end_place());
  sub.live_from = st.log.end_offset();
  return i;
}

inline void engine::swap_readers(stream& st, std::uint32_t a, std::uint32_t b) noexcept {
  std::swap(st.readers[a], st.readers[b]);
  subs_[st.readers[a]].place = a;
  subs_[st.readers[b]].place = b;
}

/// Among the readers that chose their keys, or out of them.
inline void engine::set_selecting(subscription& sub, bool on) noexcept {
  stream& st = stream_of(sub);
  if (!on) --st.selecting;
  swap_readers(st, sub.place, st.readers.size() - 1 - st.selecting);  // where both kinds meet
  if (on) ++st.selecting;
}

/// The newest position of a channel: an id, or a stamp where there are none.
inline std::uint64_t engine::head_of(const channel_state& c) const noexcept {
  return c.options_.ids != id_mode::none ? sequence_of(c).last : stamp_;
}

/// It reads the values of a channel.
inline bool engine::gets_values(const subscription& sub) noexcept {
  return sub.from() == source::newest || sub.from() == source::selected;
}

/// REQUIRES: gets_values(sub).
inline value_reader& engine::value_reader_of(const subscription& sub) noexcept {
  if (sub.from() == source::selected) return selections_[sub.record];
  return passes_[sub.record];
}

inline void engine::give_record_back(subscription& sub) noexcept {
  if (sub.from() == source::skip) skips_.give_back(sub.record);
  if (sub.from() == source::selected) {
    set_selecting(sub, false);
    selection& chosen = selections_[sub.record];
    stream_of(sub).owner->newest_->watchers()->clear(chosen.keys);
    chosen = {};
    selections_.give_back(sub.record);
  }
  if (sub.from() != source::newest) return;
  passing& p = passes_[sub.record];
  passing fresh;  // with their memory
  fresh.before.swap(p.before);
  fresh.now.swap(p.now);
  p = std::move(fresh);
  for (vec<seen_slots>* const seen : {&p.before, &p.now}) {
    if (seen->capacity() > 64) seen->release();
    seen->clear();
  }
  passes_.give_back(sub.record);
}

/// Ends the subscription behind `before`.
inline void engine::detach(std::uint32_t slot, std::uint32_t before) noexcept {
  std::uint32_t& link = link_behind(slot, before);
  const std::uint32_t index = link;
  subscription& sub = subs_[index];
  stream& st = stream_of(sub);
  link = sub.next;
  give_record_back(sub);
  if (st.selecting != 0) swap_readers(st, sub.place, st.readers.size() - 1 - st.selecting);
  const std::uint32_t moved = st.readers.back();
  st.readers[sub.place] = moved;
  subs_[moved].place = sub.place;
  st.readers.pop_back();
  release_cursor(sub);
  subs_.give_back(index);
}

inline void engine::detach_all(std::uint32_t slot) noexcept {
  while (sessions_[slot].first != none) {
    const subscription& sub = subs_[sessions_[slot].first];
    stream& st = stream_of(sub);
    const bool left = sub.from() == source::left;
    detach(slot, none);
    if (!st.transients && !left) end_presence(slot, st);
  }
}

// --- transient entries ---------------------------------------------------------------------------
// A session has a subscription to them, behind the channel's own, from when it has some to get
// until it is served in a turn that brought none.

/// From what nobody has yet. False: memory is out.
inline bool engine::add_transients(std::uint32_t index) noexcept {
  subscription& main = subs_[index];
  if (main.with_transients != 0 || main.from() == source::left) return true;
  stream& st = *stream_of(main).owner->transients_;
  const std::uint32_t i = add_reader(main.session, st, index);
  if (i == none) return false;
  main.with_transients = 1;
  sessions_[main.session].transients = true;
  move_cursor(subs_[i], st.handed_out);
  subs_[i].live_from = subs_[i].offset();
  return true;
}

/// Ends those that have all, unless more may come as soon; it was served.
inline void engine::drop_transients(std::uint32_t slot) noexcept {
  sessions_[slot].transients = false;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    if (subs_[i].with_transients == 0) continue;
    const subscription& sub = subs_[subs_[i].next];  // the one to them stands behind it
    const stream& st = stream_of(sub);
    SSEHUB_ASSERT(st.transients && &stream_of(subs_[i]) == &st.owner->main_);
    if (!st.touched && sub.from() == source::log && sub.rest == 0 &&
        sub.at().ordinal() == st.log.end() && st.handed_out.ordinal() == st.log.end()) {
      subs_[i].with_transients = 0;
      if (!counts_.empty()) counts_[i].add(counts_[subs_[i].next]);
      detach(slot, i);
    } else {
      sessions_[slot].transients = true;
    }
  }
}

/// Everybody who is to have what is there has a subscription to it now.
inline void engine::hand_out(stream& st) noexcept {
  const log_place end = st.log.end_place();
  if (st.handed_out.seg != end.seg) {
    ++end.seg->pins;
    if (st.handed_out.seg != nullptr) {
      st.log.expect_like(st.handed_out);
      pool_.unpin(st.handed_out.seg);
    }
  }
  st.handed_out = end;
}

// --- what became of its events -------------------------------------------------------------------

/// False: memory is out.
inline bool engine::begin_counts(std::uint32_t index) noexcept {
  if (!counts_.reserve(subs_.extent())) return false;
  while (counts_.size() < subs_.extent()) counts_.push_reserved({});
  counts_[index] = {};
  return true;
}

/// Beside the channel's counters.
inline void engine::count(std::uint32_t index, std::uint64_t session_counts::*what,
                          std::uint64_t n) noexcept {
  if (!counts_.empty()) counts_[index].*what += n;
}

/// Events that a reader did not get, and is told of.
inline void engine::count_lost(std::uint32_t index, std::uint64_t n) noexcept {
  stream_of(subs_[index]).owner->counters_.dropped += n;
  count(index, &session_counts::lost, n);
}

/// Events of a reader that gets newer ones of their keys instead.
inline void engine::count_conflated(std::uint32_t index, std::uint64_t n) noexcept {
  stream_of(subs_[index]).owner->counters_.coalesced += n;
  count(index, &session_counts::conflated, n);
}

/// An event that was published at `at` is out, or goes out now.
inline void engine::note_latency(const channel_state& c, std::int64_t at) noexcept {
  if (c.latency_ != nullptr) c.latency_->add(present_ - at);
}

/// A value is out, or goes out now. `came`: while its reader was there. `at`: of its publish.
inline void engine::count_value(std::uint32_t index, bool came, std::int64_t at) noexcept {
  channel_state& c = *stream_of(subs_[index]).owner;
  ++c.counters_.delivered;
  count(index, came ? &session_counts::delivered : &session_counts::snapshot, 1);
  if (came) note_latency(c, at);
}

inline session_counts engine::session_stats(session_id id, const channel* c) const noexcept {
  session_counts sum;
  const channel_state* const of = c == nullptr ? nullptr : find(*c);
  if (counts_.empty() || id.generation == 0 || id.slot >= sessions_.extent() ||
      sessions_[id.slot].generation != id.generation)
    return sum;
  for (std::uint32_t i = sessions_[id.slot].first; i != none; i = subs_[i].next) {
    if (c == nullptr || stream_of(subs_[i]).owner == of) sum.add(counts_[i]);
  }
  return sum;
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

inline bool engine::alive(session_id id) noexcept {
  const session* s = find(id);
  return s != nullptr && serving(*s);
}

/// A slot with room everywhere that later steps need it, so that those cannot fail. none: memory is
/// out.
inline std::uint32_t engine::take_slot(const request& r) noexcept {
  if (!sessions_.reserve_one() || !heads_.reserve(1)) return none;
  const std::uint32_t n = sessions_.extent();
  if (!timers_.reserve(n + channels_.size() + 1) || !caps_.reserve(n)) return none;
  std::uint32_t chunked = none;
  if (r.chunked && r.minor_version >= 1 && (chunked = chunks_.take()) == none) return none;
  const std::uint32_t slot = sessions_.take();
  session& s = sessions_[slot];
  const bool queued = s.queued;
  const std::uint32_t queue_next = s.queue_next;
  s = session{};
  s.queued = queued;
  s.queue_next = queue_next;
  s.state = session_state::live;
  if (++generations_ == 0) ++generations_;
  s.generation = generations_;
  s.chunked = chunked;
  s.last_event = s.last_write = s.progress = now32();
  caps_.enter_uncounted(slot);
  return slot;
}

inline void engine::mark_dead(std::uint32_t slot, close_reason why) noexcept {
  session& s = sessions_[slot];
  if (!serving(s)) return;
  s.state = session_state::dead;
  s.why = why;
  caps_.count_out(slot);
  s.dead_next() = none;
  (dead_ == none ? dead_ : sessions_[dead_last_].dead_next()) = slot;
  dead_last_ = slot;
}

/// `taken` bytes of what is gathered are under way. REQUIRES: there is room for one more.
inline void engine::begin_flight(session& s, batch& b, std::uint64_t taken) noexcept {
  s.flight = flights_.take();
  flight& f = flights_[s.flight];
  if (f.runs.capacity() != 0) --roomy_flights_;
  f.begin(b, taken);
  for (const run& x : f.runs) {
    if (x.seg != nullptr) ++x.seg->pins;
  }
}

/// A pending write is over, or will never be.
inline void engine::end_flight(session& s) noexcept {
  flight& f = flights_[s.flight];
  for (const run& r : f.runs) {
    if (r.seg != nullptr) pool_.unpin(r.seg);
  }
  f.end(roomy_flights_ < 64);
  if (f.runs.capacity() != 0) ++roomy_flights_;
  flights_.give_back(s.flight);
  s.flight = none;
}

/// Frees the slot. REQUIRES: closed, or never opened; it reads nothing and counts nowhere.
inline void engine::bury(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  SSEHUB_ASSERT(s.first == none && caps_.user_of(slot) == none);
  if (s.flight != none) end_flight(s);
  while (s.lane != none) lanes_.pop(s.lane);
  if (s.chunked != none) chunks_.give_back(s.chunked);
  s.chunked = none;
  s.generation = 0;
  s.state = session_state::free;
  sessions_.give_back(slot);
}

// --- presence ------------------------------------------------------------------------------------

/// The name of a user in a stream.
class presence_name {
 public:
  presence_name(std::uint32_t user, std::uint32_t stream) noexcept {
    std::memcpy(bytes_, &user, sizeof user);
    std::memcpy(bytes_ + sizeof user, &stream, sizeof stream);
  }
  [[nodiscard]] std::string_view view() const noexcept { return {bytes_, sizeof bytes_}; }

 private:
  char bytes_[2 * sizeof(std::uint32_t)];
};

/// Of a session that opens: each channel hears of a user once.
inline void engine::tell_presence(std::uint32_t slot) noexcept {
  const std::uint32_t user = caps_.user_of(slot);
  if (!on_presence || user == none) return;
  sessions_[slot].present = true;
  std::uint32_t last = none;  // what a hook joins now is told by itself
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) last = i;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = i == last ? none : subs_[i].next) {
    const bool left = subs_[i].from() == source::left;  // a hook had it leave
    if (!stream_of(subs_[i]).transients && !left) begin_presence(slot, stream_of(subs_[i]));
  }
}

inline void engine::begin_presence(std::uint32_t slot, const stream& st) noexcept {
  if (!sessions_[slot].present) return;
  const std::uint32_t n = presence_.acquire(presence_name{caps_.user_of(slot), st.index}.view());
  if (n != none && presence_.refs(n) == 1 && on_presence)
    on_presence(handle_of(*st.owner), caps_.key_of(slot), true);
}

inline void engine::end_presence(std::uint32_t slot, const stream& st) noexcept {
  if (!sessions_[slot].present) return;
  const std::uint32_t user = caps_.user_of(slot);
  const std::uint32_t n = presence_.find(presence_name{user, st.index}.view());
  if (n != none && presence_.release(n) && on_presence)
    on_presence(handle_of(*st.owner), caps_.key_of(slot), false);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_SESSIONS_HPP
