// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Bytes out: what a session gets next (gather), the one write, and where its cursors stand then
// (advance). Live delivery, replay, and catching up after a stall are the same code: a cursor
// behind the end of a log.
#pragma once

#include <charconv>
#include <cstring>

#include <sse/detail/engine_publish.hpp>

namespace sse::inline v0 {

/// What a backfill hook adds events to (channel_options::backfill).
class backfill_writer {
 public:
  /// Adds one event. False: refused (not above the last id, not below `before`, bad field, or no
  /// memory); the session is then closed unless the hook's later events make up for it, since
  /// nothing may be lost in silence.
  bool add(event_id id, const event& e) noexcept;
  [[nodiscard]] event_id last() const noexcept { return last_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  friend class detail::engine;
  backfill_writer(detail::engine& e, const backfill_request& r,
                  const encode_limits& limits) noexcept
      : engine_{&e}, limits_{&limits}, request_{r}, last_{r.after} {}

  detail::engine* engine_;
  const encode_limits* limits_;  // of the channel
  backfill_request request_;
  event_id last_;
  std::size_t bytes_ = 0;
  bool failed_ = false;
};

}  // namespace sse::inline v0

namespace sse::inline v0::detail {

/// One pass: every session that is behind and can take bytes gets its share. True: more can be sent
/// at once; call again.
inline bool engine::flush() noexcept {
  if (walking_) return false;
  walking_ = true;
  host_.flush_begins(host_.self);
  for (stream* st = touched_; st != nullptr; st = st->next_touched) {
    if (!st->dirty) continue;
    st->dirty = false;
    for (std::uint32_t i : st->readers) pump(subs_[i].session);
  }
  const std::uint32_t last = ready_last_;  // who is queued from here on waits for the next flush
  for (std::uint32_t slot = last == none ? none : ready_; slot != none;) {
    session& s = sessions_[slot];
    ready_ = s.queue_next;
    if (ready_ == none) ready_last_ = none;
    s.queued = false;
    pump(slot);
    slot = slot == last ? none : ready_;
  }
  settle();
  host_.flush_ends(host_.self);
  walking_ = false;
  reap();
  return ready_ != none;
}

/// Writes to one session until it is blocked, has nothing left or had its share.
inline void engine::pump(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (!serving(s) || s.blocked) return;
  batch* b = &scratch_;
  if (host_.completes) {  // the bytes of a pending write must lie still
    const std::uint32_t i = batches_.take();
    if (i == none) {
      mark_dead(slot, close_reason::no_memory);
      return;
    }
    s.pending = i;
    b = &batches_[i];
  }
  std::uint64_t share = options_.flush_share;
  for (;;) {
    gather(slot, s, *b);
    if (!serving(s)) break;
    if (b->count == 0) {
      if (s.state == session_state::finishing) {
        if (say_farewell(slot, s)) continue;
        if (s.chunked && !s.ended && !s.chunk_open && s.chunk_head == 0) {
          s.ended = true;  // now the last chunk
          continue;
        }
        mark_dead(slot, s.why);
      }
      break;
    }
    write_result r = host_.write(host_.self, slot, {b->bytes, b->count});
    ++stats_.writes;
    if (r.bytes > b->total) r.bytes = b->total;
    if (r.next == flow::pending && host_.completes) {
      b->total = r.bytes;
      pin_pending(*b);
      block(slot, s, true);
      return;
    }
    advance(s, *b, r.bytes);
    if (b->all && r.bytes == b->total && r.next == flow::ready) break;
    if (r.next == flow::closed || r.next == flow::pending) {
      mark_dead(slot, close_reason::peer);
      break;
    }
    if (r.next == flow::blocked) {
      block(slot, s, r.bytes != 0);
      break;
    }
    // A transport that takes nothing and says ready would hold us here: its turn is over.
    if (r.bytes == 0 || r.bytes >= share) {
      queue(slot);
      break;
    }
    share -= r.bytes;
  }
  if (host_.completes) {
    batches_.give_back(s.pending);
    s.pending = none;
  }
}

/// The next bytes of a session: the rest of a half-sent event, the control lane, the logs.
inline void engine::gather(std::uint32_t slot, session& s, batch& b) noexcept {
  b.count = 0;
  b.total = 0;
  b.all = false;
  b.room = host_.max_buffers;
  b.limit = options_.flush_share;
  if (s.first != none && s.lane == none && !s.chunked) {  // nearly always: one log, nothing else
    const subscription& sub = subs_[s.first];
    if (sub.next == none && sub.rest == 0 && !sub.skipping && !sub.backfilling) {
      b.all = gather_one(slot, s.first, sub.off, b) && s.state == session_state::live;
      return;
    }
  }
  if (s.ended) {
    end_chunks(s, b);
    return;
  }
  if (s.chunked) {
    // the response head goes alone, unframed
    if (s.lane != none && lane_items_[s.lane].kind == lane_kind::head) {
      const lane_item& item = lane_items_[s.lane];
      b.add(nullptr, batch::from_lane, item.sent, item.bytes->bytes() + item.sent,
            item.bytes->size - item.sent);
      return;
    }
    // One buffer is kept for the chunk's size line; a transport with a single buffer gets the line
    // by itself.
    if (b.room > 1) --b.room;
    if (s.chunk_open && s.chunk_left < b.limit) b.limit = s.chunk_left;
  }

  std::uint32_t half_sent = none;
  std::uint32_t half_end = 0;
  for (std::uint32_t i = s.first; i != none && half_sent == none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.rest == 0) continue;
    b.add(sub.seg, i, sub.off, sub.seg->bytes() + sub.off, sub.rest);
    half_sent = i;
    half_end = sub.off + sub.rest;
  }
  for (std::uint32_t i = s.first; i != none && half_sent == none; i = subs_[i].next) {
    subscription& sub = subs_[i];
    if (sub.skipping) leave_for_skip(slot, sub);
    if (serving(s) && sub.backfilling && s.lane == none && s.state == session_state::live)
      fill(slot, sub);
    if (!serving(s)) return;
  }
  for (std::uint32_t i = s.lane; i != none && !b.full(); i = lane_items_[i].next) {
    const lane_item& item = lane_items_[i];
    b.add(nullptr, batch::from_lane, item.sent, item.bytes->bytes() + item.sent,
          item.bytes->size - item.sent);
  }

  // The logs. Usually one stream has something; several are merged in the order of publication.
  std::uint32_t only = none;
  std::uint32_t behind = 0;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    // after a half-sent event its gap frame comes next, in front of what other streams have
    if (sub.skipping) {
      behind = 0;
      break;
    }
    if (sub.backfilling) continue;
    const std::uint64_t at = i == half_sent ? sub.seg->base + half_end : position(sub);
    if (at >= stream_of(sub).log.end_offset()) continue;
    only = i;
    ++behind;
  }
  if (behind == 1) {
    (void)gather_one(slot, only, only == half_sent ? half_end : subs_[only].off, b);
  } else if (behind > 1 && half_sent == none) {
    gather_merged(slot, s, b);  // after a half-sent event the next gather merges
  }
  if (s.chunked && b.count != 0) frame_chunk(s, b);
}

/// All that one stream has, as few pieces as its segments allow. True: once these are out, the
/// cursor is at its end.
inline bool engine::gather_one(std::uint32_t slot, std::uint32_t index, std::uint32_t off,
                               batch& b) noexcept {
  subscription& sub = subs_[index];
  const event_log& log = stream_of(sub).log;
  segment* seg = sub.seg;
  bool passed_over = false;
  while (!b.full()) {
    if (off == seg->used) {
      if (seg->next == nullptr || !seg->attached) return seg->attached && !passed_over;
      seg = seg->next;
      off = 0;
      if (b.count == 0) move_cursor(sub, seg, 0);
      continue;
    }
    if (!seg->mixed) {
      b.add(seg, index, off, seg->bytes() + off, seg->used - off);
      off = seg->used;
      continue;
    }
    // Not everybody gets everything here: entry by entry.
    for (std::uint64_t n = log.locate(seg->base + off);
         n != log.end() && log[n].seg == seg && !b.full(); ++n) {
      const entry& e = log[n];
      off = e.offset() + e.size;
      if (sees(slot, e)) {
        gather_entry(index, e, b);
      } else if (b.count == 0) {
        move_cursor(sub, seg, off);  // past it, without a byte
      } else {
        passed_over = true;  // the next gather moves past it
      }
    }
  }
  return false;
}

/// One entry, joined to the piece before it where the bytes touch.
inline void engine::gather_entry(std::uint32_t index, const entry& e, batch& b) noexcept {
  if (b.count != 0) {
    batch::piece& p = b.pieces[b.count - 1];
    if (p.seg == e.seg && p.from == index && p.off + p.size == e.offset()) {
      p.size += e.size;
      b.bytes[b.count - 1].size += e.size;
      b.total += e.size;
      return;
    }
  }
  b.add(e.seg, index, e.offset(), e.bytes().data(), e.size);
}

/// Several streams, in the order in which their entries were published: ids rise along the session.
inline void engine::gather_merged(std::uint32_t slot, const session& s, batch& b) noexcept {
  struct head {
    std::uint32_t index;
    std::uint64_t ordinal;
  };
  head heads[2 * max_joins];
  std::uint32_t n = 0;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    if (subs_[i].backfilling) continue;
    heads[n++] = {i, stream_of(subs_[i]).log.locate(position(subs_[i]))};
  }
  while (!b.full()) {
    head* first = nullptr;
    std::uint64_t stamp = UINT64_MAX;
    for (std::uint32_t k = 0; k < n; ++k) {
      const event_log& log = stream_of(subs_[heads[k].index]).log;
      if (heads[k].ordinal < log.end() && log[heads[k].ordinal].stamp < stamp) {
        stamp = log[heads[k].ordinal].stamp;
        first = &heads[k];
      }
    }
    if (first == nullptr) return;
    subscription& sub = subs_[first->index];
    const entry& e = stream_of(sub).log[first->ordinal++];
    if (sees(slot, e)) {
      gather_entry(first->index, e, b);
    } else {
      bool gathered = false;
      for (std::uint32_t k = 0; k < b.count; ++k)
        gathered = gathered || b.pieces[k].from == first->index;
      if (!gathered) move_cursor(sub, e.seg, e.offset() + e.size);
    }
  }
}

/// Makes the gathered bytes a chunk (RFC 9112 7.1), or what is still owed to the chunk that was
/// announced.
inline void engine::frame_chunk(session& s, batch& b) noexcept {
  if (!s.chunk_open && s.chunk_head == 0) s.chunk_left = static_cast<std::uint32_t>(b.total);
  while (b.total > s.chunk_left) {  // never more than was announced
    const std::uint64_t excess = b.total - s.chunk_left;
    batch::piece& last = b.pieces[b.count - 1];
    const auto cut = static_cast<std::uint32_t>(excess < last.size ? excess : last.size);
    last.size -= cut;
    b.bytes[b.count - 1].size -= cut;
    b.total -= cut;
    if (last.size == 0) --b.count;
  }
  if (s.chunk_open) return;
  char* p = b.frame;
  if (s.chunk_begun) {
    *p++ = '\r';
    *p++ = '\n';
  }
  p = std::to_chars(p, p + 8, s.chunk_left, 16).ptr;
  *p++ = '\r';
  *p++ = '\n';
  if (b.count == host_.max_buffers) {  // a transport with one buffer gets the size line by itself
    --b.count;
    b.total -= b.pieces[b.count].size;
  }
  for (std::uint32_t k = b.count; k > 0; --k) {
    b.bytes[k] = b.bytes[k - 1];
    b.pieces[k] = b.pieces[k - 1];
  }
  const auto left = static_cast<std::uint32_t>(p - b.frame) - s.chunk_head;
  b.bytes[0] = {b.frame + s.chunk_head, left};
  b.pieces[0] = {nullptr, batch::from_frame, s.chunk_head, left};
  ++b.count;
  b.total += left;
}

/// The last chunk of a clean end.
inline void engine::end_chunks(session& s, batch& b) noexcept {
  const std::string_view text = s.chunk_begun ? "\r\n0\r\n\r\n" : "0\r\n\r\n";
  if (s.chunk_head == text.size()) return;
  std::memcpy(b.frame, text.data(), text.size());
  b.add(nullptr, batch::from_frame, s.chunk_head, b.frame + s.chunk_head,
        static_cast<std::uint32_t>(text.size()) - s.chunk_head);
}

/// Takes `n` written bytes off the batch's pieces.
inline void engine::advance(session& s, const batch& b, std::uint64_t n) noexcept {
  if (n == 0) return;
  stats_.bytes += n;
  s.last_write = now32();
  s.progress = s.last_write;
  for (std::uint32_t k = 0; k < b.count && n != 0; ++k) {
    const batch::piece& p = b.pieces[k];
    const auto took = static_cast<std::uint32_t>(n < p.size ? n : p.size);
    n -= took;
    if (p.from == batch::from_frame) {
      s.chunk_head = (s.chunk_head + took) & 0xfU;
      if (took == p.size && !s.ended) {
        s.chunk_head = 0;
        s.chunk_open = s.chunk_begun = true;
      }
      continue;
    }
    if (s.chunk_open) {
      s.chunk_left -= took;
      s.chunk_open = s.chunk_left != 0;
    }
    if (p.from == batch::from_lane) {
      lane_item& item = lane_items_[s.lane];
      item.sent += took;
      if (item.sent == item.bytes->size) {
        if (item.kind == lane_kind::event) s.last_event = now32();
        pop_lane(s);
      }
    } else {
      advance_cursor(s, p, took);
    }
  }
}

inline void engine::advance_cursor(session& s, const batch::piece& p, std::uint32_t n) noexcept {
  subscription& sub = subs_[p.from];
  stream& st = stream_of(sub);
  channel& c = *st.owner;
  const event_log& log = st.log;
  const std::uint32_t to = p.off + n;
  // its segment may have left the log: only the rest of one event is sent from it
  if (sub.skipping) {
    sub.off = to;
    sub.rest -= n;
    if (sub.rest == 0) ++c.counters_.delivered;
    return;
  }
  const std::uint64_t before = log.locate(p.seg->base + p.off);
  const std::uint64_t end = p.seg->base + to;
  const std::uint64_t after = log.locate(end);
  move_cursor(sub, p.seg, to);
  // Inside an entry (and behind its first byte): the rest of it goes before anything else.
  const bool inside = after != log.end() && log[after].begin < end;
  sub.rest = inside ? static_cast<std::uint32_t>(log[after].end() - end) : 0;
  std::uint64_t whole = 0;
  bool application = !st.ephemeral;
  if (!p.seg->mixed && !st.ephemeral) {
    whole = after - before;
  } else {
    for (std::uint64_t i = before; i < after; ++i) {
      if (log[i].begin >= p.seg->base + p.off + p.size) break;
      ++whole;
      application = application || !log[i].heartbeat;
    }
  }
  c.counters_.delivered += whole;
  if (application && whole != 0) s.last_event = now32();
  if (s.over) s.over = still_over(s);
}

inline void engine::block(std::uint32_t slot, session& s, bool progressed) noexcept {
  if (!s.blocked || progressed) s.progress = now32();
  s.blocked = true;
  const std::int64_t due = now_ + options_.write_deadline.ms();
  if (!options_.write_deadline.is_off() && timers_.when(slot, now_) > due)
    timers_.arm(slot, due, now_);
}

/// Before a clean end: when to come back, and the host's last event. False: said already, or
/// nothing to say.
inline bool engine::say_farewell(std::uint32_t slot, session& s) noexcept {
  if (s.said_farewell || s.why == close_reason::finished) return false;
  s.said_farewell = true;
  char line[32];
  const std::int64_t retry = jittered_retry();
  const bool ok =
      push_lane_bytes(slot, {line, static_cast<std::size_t>(encode_retry_to(line, retry) - line)});
  if (s.why != close_reason::drain || farewell_ == nullptr) return ok;
  return push_lane(slot, farewell_) || ok;
}

// --- slow readers and backfill -------------------------------------------------------------------

/// The half-sent event is out: now the reader jumps, and is told what it missed.
inline void engine::leave_for_skip(std::uint32_t slot, subscription& sub) noexcept {
  stream& st = stream_of(sub);
  const auto record = static_cast<std::uint32_t>(sub.live_from);
  const skip missed = skips_[record];
  skips_.give_back(record);
  sub.skipping = 0;
  event_log& log = st.log;
  channel& c = *st.owner;
  const std::uint64_t to = skip_target(st);
  const std::uint64_t lost = to - missed.ordinal;
  if (lost != 0 && c.options_.on_lag == lag_policy::coalesce && !st.ephemeral &&
      alone(sessions_[slot])) {
    c.counters_.coalesced += lost;
    release_cursor(sub);
    sub.backfilling = sub.coalescing = 1;
    sub.live_from = c.options_.ids != id_mode::none ? missed.requested : missed.stamp - 1;
    return;
  }
  go_live(sub, to);
  if (lost == 0) return;
  c.counters_.dropped += lost;
  const event_id first = to < log.end() ? log[to].id : c.sequence_->last + 1;
  const bool with_ids = !st.ephemeral && c.options_.ids != id_mode::none;
  if (!push_gap(slot, c, {missed.requested, first, lost, !log.selective()}, with_ids)) {
    mark_dead(slot, close_reason::no_memory);
  }
}

/// From here on the log serves this subscription.
inline void engine::go_live(subscription& sub, std::uint64_t ordinal) noexcept {
  stream& st = stream_of(sub);
  place_at(sub, ordinal);
  sub.live_from = st.log.end_offset();
  watch_lag(st, sub.live_from);
}

/// Whether a session reads one channel only.
inline bool engine::alone(const session& s) const noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next)
    n += stream_of(subs_[i]).ephemeral ? 0U : 1U;
  return n == 1;
}

/// A reader that has no place in the log gets its next events from elsewhere. It holds nothing
/// there meanwhile, so a slow one costs no memory.
inline void engine::fill(std::uint32_t slot, subscription& sub) noexcept {
  if (sub.coalescing) {
    coalesce(slot, sub);
  } else {
    ask_backfill(slot, sub);
  }
}

/// The newest events of keys that changed since, oldest first, until there are no more: then live.
/// What had no key, or whose key was forgotten, is announced as lost where it would have come.
inline void engine::coalesce(std::uint32_t slot, subscription& sub) noexcept {
  stream& st = stream_of(sub);
  channel& c = *st.owner;
  const latest_values& values = *c.latest_;
  const bool with_ids = c.options_.ids != id_mode::none;
  const auto tell_loss = [&](std::uint64_t first) {
    return sub.snapshot != 0 || push_gap(slot, c, {sub.live_from, first, 0, false}, with_ids);
  };
  bool ok = true;
  std::uint64_t lost = values.lost() > sub.live_from ? values.lost() : 0;
  std::uint32_t i = values.after(sub.live_from);
  for (std::uint64_t bytes = 0; ok && i != none && bytes < options_.flush_share;
       i = values[i].newer) {
    const latest_value& v = values[i];
    if (lost != 0 && lost < v.position) {
      ok = tell_loss(v.position);
      lost = 0;
    }
    sub.live_from = v.position;
    if (!v.audience.view().empty() &&
        !host_.sees(host_.self, slot, key_of(slot), v.audience.view()))
      continue;
    ok = ok && push_lane(slot, v.bytes, lane_kind::event);
    bytes += v.bytes->size;
  }
  if (ok && i == none) {
    if (lost != 0) ok = tell_loss(c.sequence_->last + 1);
    sub.backfilling = sub.coalescing = sub.snapshot = 0;
    go_live(sub, st.log.end());
  }
  if (!ok) mark_dead(slot, close_reason::no_memory);
}

/// Asks the channel's hook for events that the log let go, until the log takes over.
inline void engine::ask_backfill(std::uint32_t slot, subscription& sub) noexcept {
  stream& st = stream_of(sub);
  channel& c = *st.owner;
  st.log.trim(now_);
  const event_id floor =
      st.log.forgotten_id() > c.sequence_->start ? st.log.forgotten_id() : c.sequence_->start;
  const event_id first = first_possible(st);
  const event_id after = sub.live_from;
  const std::size_t room =
      options_.flush_share < options_.control_lane ? options_.flush_share : options_.control_lane;
  const backfill_request request{id_of(slot), after, first, room};
  backfill_writer writer{*this, request, c.options_.limits};
  const backfill_state state = c.options_.backfill(request, writer);
  sub.live_from = writer.last_;
  if (writer.failed_) {
    mark_dead(slot, close_reason::no_memory);
  } else if (state == backfill_state::done ||
             (state == backfill_state::more && writer.last_ >= floor)) {
    sub.backfilling = 0;
    go_live(sub, st.log.find(writer.last_));
  } else if (state == backfill_state::lost) {
    sub.backfilling = 0;
    const std::uint64_t to = st.log.retained();
    go_live(sub, to);
    if (!push_gap(slot, c, {writer.last_, first, 0, false}, true))
      mark_dead(slot, close_reason::no_memory);
  } else if (state == backfill_state::more && writer.bytes_ == 0) {
    queue(slot);  // nothing now: ask again in the next flush
  }
}

// --- completion and pull -------------------------------------------------------------------------

inline void engine::pin_pending(const batch& b) noexcept {
  for (std::uint32_t k = 0; k < b.count; ++k) {
    if (b.pieces[k].seg != nullptr) ++b.pieces[k].seg->pins;
  }
}

inline void engine::unpin_pending(const batch& b) noexcept {
  for (std::uint32_t k = 0; k < b.count; ++k) {
    if (b.pieces[k].seg != nullptr) pool_.unpin(b.pieces[k].seg);
  }
}

inline void engine::writable(session_id id) noexcept {
  session* s = find(id);
  if (s == nullptr || !serving(*s) || s->pending != none) return;
  s->blocked = false;
  queue(id.slot);
}

/// A pending write, or a peek, is over: `n` of its bytes left.
inline void engine::written(session_id id, std::size_t n) noexcept {
  session* s = holder(id);
  if (s == nullptr || s->pending == none) return;
  if (s->state == session_state::zombie) {
    bury(id.slot);
    return;
  }
  const std::uint32_t i = s->pending;
  batch& b = batches_[i];
  s->pending = none;
  if (serving(*s)) {
    advance(*s, b, n < b.total ? n : b.total);
    s->blocked = false;
    queue(id.slot);
  }
  unpin_pending(b);
  batches_.give_back(i);
}

/// Shows what a session gets next without taking it; written(id, n) takes. Nothing: it will be
/// written to again.
inline std::size_t engine::peek(session_id id, std::span<buffer> out) noexcept {
  session* s = find(id);
  if (s == nullptr || !serving(*s)) return 0;
  if (s->pending == none) {
    if (!host_.completes) return 0;
    const std::uint32_t i = batches_.take();
    if (i == none) return 0;
    gather(id.slot, *s, batches_[i]);
    if (batches_[i].count == 0 || !serving(*s)) {
      batches_.give_back(i);
      s->blocked = false;
      if (s->state == session_state::finishing) queue(id.slot);
      reap();
      return 0;
    }
    s->pending = i;
    pin_pending(batches_[i]);
    block(id.slot, *s, false);
  }
  const batch& b = batches_[s->pending];
  std::size_t n = 0;
  for (; n < b.count && n < out.size(); ++n) out[n] = b.bytes[n];
  return n;
}

}  // namespace sse::inline v0::detail

namespace sse::inline v0 {

inline bool backfill_writer::add(event_id id, const event& e) noexcept {
  const detail::id_text text{id};
  event out = e;
  out.id = text.view();
  const encode_plan p = plan(out, *limits_);
  if (id <= last_ || id >= request_.before || p.error != encode_error::none) {
    failed_ = true;
    return false;
  }
  if (!engine_->push_lane_event(request_.session.slot, out)) {
    failed_ = true;
    return false;
  }
  last_ = id;
  bytes_ += p.size;
  return true;
}

}  // namespace sse::inline v0
