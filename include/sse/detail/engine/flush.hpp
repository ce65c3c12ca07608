// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Bytes out: what a session gets next (gather), the one write, and where its cursors stand then
// (advance). Live delivery, replay, and catching up after a stall are the same code: a cursor
// behind the end of a log.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_FLUSH_HPP
#define SSEHUB_DETAIL_ENGINE_FLUSH_HPP

#include <cstdint>
#include <cstring>
#include <utility>

#include <sse/detail/engine/publish.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

// --- who is served -------------------------------------------------------------------------------

/// One pass. First those who are up to date get what was published since, then those who catch up
/// get their share, in turn, within the budget. True: more can be sent at once; call again.
inline bool engine::flush() noexcept {
  if (flushing_ || quiet_) return false;
  wanted_ = false;
  {
    const work w{*this};
    flush_once();
  }
  // What hooks published when the dead were closed counts too.
  bool more = ready_.first != none || live_.first != none;
  for (const stream* st = touched_; st != nullptr && !more; st = st->touched_next) more = st->dirty;
  return more;
}

inline void engine::flush_once() noexcept {
  flushing_ = true;
  host_.flush_begins(host_.self);
  serve_dirty();
  for (const std::uint32_t end = live_.last; end != none && live_.first != none;) {
    const std::uint32_t slot = dequeue(live_);
    (void)pump(slot);
    if (slot == end) break;
  }
  const std::uint32_t last = ready_.last;  // who is queued from here on waits for the next flush
  std::uint64_t sent = 0;
  while (ready_.first != none && sent < options_.flush_budget) {
    const std::uint32_t slot = dequeue(ready_);
    sent += pump(slot);
    if (slot == last) break;
  }
  accept_budget_ = options_.flush_budget;
  settle();
  host_.flush_ends(host_.self);
  flushing_ = false;
}

/// The readers of streams that got entries for all of them. Who catches up already is served in its
/// turn; who reads several streams waits until all of them were looked at, and is served once.
inline void engine::serve_dirty() noexcept {
  serve_transients();
  for (stream* st = touched_; st != nullptr; st = st->touched_next) {
    if (!st->dirty) continue;
    st->dirty = false;
    const bool to_all = std::exchange(st->for_all, false);
    const std::uint32_t* const end = st->readers.end() - (to_all ? 0 : st->selecting);
    for (const std::uint32_t* at = st->readers.begin(); at != end; ++at) {
      const std::uint32_t i = *at;
      const subscription& sub = subs_[i];
      const std::uint32_t slot = sub.session;
      session& s = sessions_[slot];
      if (s.blocked || s.first != i || sub.next != none) {
        if (serving(s)) enqueue(live_, slot);
      } else if (!s.queued) {
        (void)pump(slot);
      }
    }
  }
}

/// Before anything is sent: transient entries are handed out, so that they leave in their order.
inline void engine::serve_transients() noexcept {
  for (stream* st = touched_; st != nullptr; st = st->touched_next) {
    if (st->transients) hand_out_to_readers(*st);
  }
}

/// Each reader of the channel has a subscription to them until it has got them.
inline void engine::hand_out_to_readers(stream& st) noexcept {
  if (st.dirty) {
    for (const std::uint32_t i : st.owner->main_.readers) {
      const std::uint32_t slot = subs_[i].session;
      if (!serving(sessions_[slot])) continue;
      if (subs_[i].with_transients == 0 &&
          !add_transients(i)) {  // it would miss entries, so it is closed and comes back
        mark_dead(slot, close_reason::no_memory);
      } else {
        enqueue(live_, slot);
      }
    }
  }
  st.dirty = false;
  watch_lag(st, st.handed_out.offset());
  hand_out(st);
}

/// Writes to one session until it is blocked, has nothing left or had its share. Returns the bytes,
/// and what was looked at for it as bytes.
inline std::uint64_t engine::pump(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (!serving(s) || s.blocked) return 0;
  if (host_.completes && !flights_.reserve_one()) {
    mark_dead(slot, close_reason::no_memory);
    return 0;
  }
  batch& b = batch_;
  std::uint64_t sent = 0;
  std::uint64_t spent = 0;
  for (;;) {
    if (!gather(slot, s, b)) mark_dead(slot, close_reason::no_memory);
    spent += std::uint64_t{asks_per_turn - asks_left_} * bytes_per_ask;
    if (!serving(s)) break;
    if (b.empty()) {
      if (b.paused) {
        enqueue(ready_, slot);
      } else if (s.state == session_state::finishing && nothing_left(slot, s)) {
        continue;
      }
      break;
    }
    const std::span<const buffer> out = b.lay_out(host_.max_buffers);
    if (out.empty()) {
      mark_dead(slot, close_reason::no_memory);
      break;
    }
    write_result r = host_.write(host_.self, slot, out);
    ++stats_.writes;
    if (r.bytes > b.total()) r.bytes = to_size(b.total());
    if (r.next == flow::pending && host_.completes) {
      begin_flight(s, b, r.bytes);
      block(slot, s, true);
      return spent + sent + r.bytes;
    }
    const bool whole = r.bytes == b.total() && !b.was_cut();
    const bool all = b.all;
    if (whole && b.logs_only) {
      note_write(s, r.bytes);
      advance_heads(s);
    } else {
      advance(slot, &b[0], b.size(), r.bytes, whole && !heads_.empty());
    }
    sent += r.bytes;
    if (s.lane != none && s.state == session_state::live) take_values_back(slot, r.bytes);
    if (all && whole && r.next == flow::ready) break;
    if (r.next == flow::closed || r.next == flow::pending) {
      mark_dead(slot, close_reason::peer);
      break;
    }
    if (r.next == flow::blocked) {
      block(slot, s, !(whole && all));
      if (s.conflates) conflate(slot, false);
      break;
    }
    // A transport that takes nothing and says ready would hold us here: its turn is over.
    if (r.bytes == 0 || sent >= options_.flush_share) {
      if (s.conflates) conflate(slot, false);
      enqueue(ready_, slot);
      break;
    }
  }
  if (s.transients) drop_transients(slot);
  return spent + sent;
}

/// A session that ends has got everything: a farewell, the last chunk, its transport's goodbye.
/// False: it is closed, or blocked.
inline bool engine::nothing_left(std::uint32_t slot, session& s) noexcept {
  if (say_farewell(slot, s)) return true;
  if (s.chunked != none) {
    // It was skipped forward inside a chunk that was announced: a comment makes up for the rest.
    if (const std::uint32_t owed = chunks_.owed(s.chunked); owed != 0) {
      if (lanes_.push_padding(s.lane, owed)) return true;
    } else if (chunks_.end(s.chunked)) {
      return true;
    }
  }
  if (host_.end != nullptr && host_.end(host_.self, slot) == flow::blocked) {
    block(slot, s, true);
  } else {
    mark_dead(slot, s.why);
  }
  return false;
}

/// Before a clean end: when to come back, and the host's last event. False: said already, or
/// nothing to say.
inline bool engine::say_farewell(std::uint32_t slot, session& s) noexcept {
  if (s.said_farewell || s.why == close_reason::finished) return false;
  s.said_farewell = true;
  const std::int64_t low = options_.retry_min.ms();
  const std::int64_t high = options_.retry_max.ms();
  const std::int64_t retry = high <= low ? low
                                         : low + static_cast<std::int64_t>(random_.below(
                                                     static_cast<std::uint64_t>(high - low + 1)));
  const bool ok = lanes_.push_retry(sessions_[slot].lane, retry);
  if (s.why != close_reason::drain || farewell_ == nullptr) return ok;
  return lanes_.push(s.lane, farewell_, lane_kind::control) || ok;
}

/// `waiting`: something is left for it.
inline void engine::block(std::uint32_t slot, session& s, bool waiting) noexcept {
  if (!s.blocked) s.progress = now32();
  s.blocked = true;
  s.waiting = waiting;
  const std::int64_t due = now_ + options_.write_deadline.ms();
  if (!options_.write_deadline.is_off() && timers_.when(slot, now_) > due)
    timers_.arm(slot, due, now_);
}

// --- gather --------------------------------------------------------------------------------------

/// The next bytes of a session: the rest of a half-sent event, the control lane, the logs. False:
/// memory is out.
inline bool engine::gather(std::uint32_t slot, session& s, batch& b) noexcept {
  heads_.clear();
  asks_left_ = asks_per_turn;
  b.begin(options_.flush_share);
  if (s.first != none && s.lane == none &&
      s.chunked == none) {  // nearly always: one log, that is all
    const subscription& sub = subs_[s.first];
    if (sub.next == none && sub.rest == 0 && sub.from() == source::log) {
      segment& seg = *sub.seg;
      const std::uint32_t n = seg.count - sub.k;
      if (n == 0 && seg.next == nullptr) return true;  // nothing new
      heads_.push_reserved({sub.at(), s.first});       // take_slot made room for one
      bool ok = true;
      if (seg.next == nullptr && !seg.mixed) {  // one run
        const std::uint32_t begin = seg[sub.k].begin;
        ok = b.add({seg.bytes() + begin, seg.used - begin, sub.k, &seg, s.first, n});
        heads_[0].at.k = seg.count;
        heads_[0].count = n;
        b.all = seg.attached;
      } else {
        ok = gather_one(slot, heads_[0], b);
      }
      b.logs_only = true;
      b.all = b.all && s.state == session_state::live;
      return ok;
    }
  }
  if (s.chunked == none) return gather_session(slot, s, b);
  if (chunks_.ended(s.chunked)) return chunks_.gather_end(s.chunked, b);
  b.begin(chunks_.limit(s.chunked, options_.flush_share));
  if (!gather_session(slot, s, b)) return false;
  // The response head goes in front, unframed.
  std::uint32_t heads = 0;
  for (std::uint32_t i = s.lane;
       heads < b.size() && b[heads].from == run::from_lane && lanes_[i].kind == lane_kind::head;
       i = lanes_[i].next)
    ++heads;
  return chunks_.frame(s.chunked, b, heads);
}

inline bool engine::gather_session(std::uint32_t slot, session& s, batch& b) noexcept {
  std::uint32_t half_sent = none;
  bool skips = false;
  bool leaves = false;
  bool fills = false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.from() == source::log && sub.rest == 0) continue;
    skips = skips || sub.from() == source::skip;
    leaves = leaves || sub.from() == source::left;
    fills = fills || sub.from() == source::newest || sub.from() == source::backfill ||
            (sub.from() == source::selected && has_more(sub));
    if (sub.rest == 0) continue;
    const entry& e = (*sub.seg)[sub.k];
    if (!b.add({sub.seg->bytes() + e.end() - sub.rest, sub.rest, sub.k, sub.seg, i, 1}))
      return false;
    half_sent = i;
  }
  if (leaves) {
    end_leaving(slot, half_sent);
    push_owed_position(slot);
  }
  // After a half-sent event its gap frame comes next, in front of what other streams have.
  if (half_sent == none && skips) leave_skips(slot);
  const bool room = s.lane == none || lanes_[s.lane].next == none;
  if ((fills || skips) && half_sent == none && room && s.state == session_state::live) fill(slot);
  for (std::uint32_t i = s.lane; i != none && !b.full(); i = lanes_[i].next) {
    const lane_item& item = lanes_[i];
    if (!b.add({item.data(), item.left(), 0, nullptr, run::from_lane, 0})) return false;
  }
  if (half_sent != none && (skips || subs_[half_sent].from() == source::left)) return true;
  return gather_logs(slot, s, half_sent, (fills || skips) && weaves(s), b);
}

/// Usually one stream has something; several are merged in the order of publication.
/// `woven`: those with ids wait for one that catches up (weave.hpp).
inline bool engine::gather_logs(std::uint32_t slot, session& s, std::uint32_t half_sent, bool woven,
                                batch& b) noexcept {
  bool elsewhere = false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    if (subs_[i].from() == source::log && !(woven && waits_in_line(subs_[i]))) {
      if (!add_head(i, half_sent)) return false;
    } else {
      elsewhere = elsewhere || subs_[i].from() != source::selected || has_more(subs_[i]);
    }
  }
  if (half_sent != none && (woven || b.full()))
    heads_.clear();  // of this one only a part may be there, or it is not among them
  if (b.full()) return true;
  bool ok = true;
  if (heads_.size() == 1) {
    ok = gather_one(slot, heads_[0], b);
  } else if (heads_.size() > 1) {
    ok = gather_merged(slot, b);
  }
  b.all = b.all && !elsewhere && s.state == session_state::live;
  return ok;
}

/// Where a subscription goes on from: behind its half-sent event, which is gathered already. False:
/// memory is out.
inline bool engine::add_head(std::uint32_t index, std::uint32_t half_sent) noexcept {
  const subscription& sub = subs_[index];
  const std::uint32_t past = index == half_sent ? 1 : 0;
  return heads_.push_back({{sub.seg, sub.k + past}, index, past});
}

/// All that one stream has, as few runs as its segments allow. `all`: once these are out, there is
/// nothing left. `found_first`: the head stands at an entry that is known to be seen.
inline bool engine::gather_one(std::uint32_t slot, head& h, batch& b, bool found_first) noexcept {
  log_place& at = h.at;
  own_entries own;
  for (;; found_first = false) {
    segment* const s = at.seg;
    if (at.k == s->count) {
      if (s->next == nullptr) {  // the end of the log, unless the segment left it
        b.all = s->attached;
        break;
      }
      at = {s->next, 0};
      continue;
    }
    if (b.full()) break;
    if (!s->mixed) {
      const std::uint32_t begin = (*s)[at.k].begin;
      const std::uint32_t n = s->count - at.k;
      if (!b.add({s->bytes() + begin, s->used - begin, at.k, s, h.index, n})) return false;
      h.count += n;
      at.k = s->count;
      continue;
    }
    const found f =
        found_first ? found::entry : next_visible(slot, stream_of(subs_[h.index]), at, own);
    if (f == found::paused) {
      b.paused = true;
      break;
    }
    if (f == found::nothing || !at.seg->mixed) continue;
    const entry& e = at.get();
    if (!b.add({at.seg->data(e), e.size, at.k, at.seg, h.index, 1})) return false;
    ++h.count;
    ++at.k;
  }
  if (b.empty()) move_cursor(subs_[h.index], at);  // past what is not for it, without a byte
  return true;
}

/// Several streams, in the order in which their entries were published: ids rise along the session.
inline bool engine::gather_merged(std::uint32_t slot, batch& b) noexcept {
  const std::uint32_t n = heads_.size();
  next_.clear();
  if (!next_.reserve(n)) return false;
  std::uint64_t limit = merge_window::nothing;  // what is from here on has to be asked for first
  std::uint32_t busy = 0;
  std::uint32_t last = 0;
  for (std::uint32_t k = 0; k < n; ++k) {
    head& h = heads_[k];
    next_.push_reserved({});
    next_entry& next = next_.back();
    const std::uint64_t before = h.at.ordinal();
    look_ahead(slot, h, next, limit);
    if (b.empty() && h.at.ordinal() != before)
      move_cursor(subs_[h.index], h.at);  // past what is not for it, without a byte
    if (next.stamp == merge_window::nothing) continue;
    ++busy;
    last = k;
  }
  if (busy == 1) return gather_one(slot, heads_[last], b, limit == merge_window::nothing);
  bool ok = true;
  for (;;) {
    std::uint64_t first = merge_window::nothing;
    for (const next_entry& next : next_) first = next.stamp < first ? next.stamp : first;
    if (first >= limit) break;
    ok = window_.begin(b, first);
    if (!ok) break;
    for (std::uint32_t k = 0; k < n; ++k) {
      next_entry& next = next_[k];
      if (next.stamp < window_.end() && next.stamp < limit)
        put_in_window(slot, heads_[k], next, limit);
    }
    window_.move_out(limit);
    if (limit < window_.end() || b.full()) break;
  }
  std::uint32_t k = 0;
  bool rest = window_.left() != 0;
  window_.give_back([&](const run& r) {
    while (heads_[k].index != r.from) k = k + 1 == n ? 0 : k + 1;
    heads_[k].at = {r.seg, r.first};
    --heads_[k].count;
  });
  for (const next_entry& next : next_) rest = rest || next.stamp != merge_window::nothing;
  b.paused = limit != merge_window::nothing;
  b.all = !rest;
  return ok;
}

/// Finds the next entry of a head. `limit`: falls to where that has to wait for another turn.
inline void engine::look_ahead(std::uint32_t slot, head& h, next_entry& next,
                               std::uint64_t& limit) noexcept {
  next.stamp = merge_window::nothing;
  if (!h.at.find_entry()) return;
  if (const entry& e = h.at.get(); e.audience == 0) {
    next.stamp = h.at.seg->stamp(e);
    return;
  }
  const found f = next_visible(slot, stream_of(subs_[h.index]), h.at, next.own);
  if (f == found::nothing) return;
  next.stamp = h.at.seg->stamp(h.at.get());
  if (f == found::paused && next.stamp < limit) limit = next.stamp;
}

/// All that one stream has in the window. REQUIRES: the entry at h.at is in it, and to be seen.
inline void engine::put_in_window(std::uint32_t slot, head& h, next_entry& next,
                                  std::uint64_t& limit) noexcept {
  do {
    segment& s = *h.at.seg;
    const std::uint32_t stop = window_.end_in(s, h.at.k);
    if (s.mixed) {
      put_visible(slot, h, next.own, stop);
    } else {
      merge_window::entries put{window_, s, h.index};
      const entry* e = &s[h.at.k];
      for (std::uint32_t k = h.at.k; k != stop; ++k) put(*e--, k);  // they stand from the back
      h.count += put.added(stop - h.at.k);
      h.at.k = stop;
    }
    look_ahead(slot, h, next, limit);
  } while (next.stamp < window_.end() && next.stamp < limit);
}

/// Of a segment that holds private entries: those in front of `stop` that the session may see.
inline void engine::put_visible(std::uint32_t slot, head& h, own_entries& own,
                                std::uint32_t stop) noexcept {
  segment& s = *h.at.seg;
  merge_window::entries put{window_, s, h.index};
  own_entries mine = own;
  std::uint32_t k = h.at.k;
  std::uint32_t hidden = k;  // how many of those in front of k are not put
  const entry* e = &s[k];
  for (;;) {
    put(*e, k);
    if (++k >= stop) break;
    --e;  // they stand from the back
    if (e->audience == 0) continue;
    if (!mine.known() && !own_entries_of(slot, stream_of(subs_[h.index]), mine)) break;
    const std::uint64_t ordinal = s.first + k;
    const std::uint64_t next = mine.from(ordinal);
    if (next == ordinal) continue;
    if (k + 1 < stop && e[-1].audience == 0) {  // mostly it is one
      ++hidden;
      ++k;
      --e;
      continue;
    }
    hidden -= k;
    k = next_in_segment(s, k, next);
    hidden += k;
    if (k >= stop) break;
    e = &s[k];
  }
  own = mine;
  h.count += put.added(k - hidden);
  h.at.k = k;
}

// --- advance -------------------------------------------------------------------------------------

/// Takes `n` written bytes off the runs. `with_heads`: these are all, and heads_ says where each
/// cursor stands then.
inline void engine::advance(std::uint32_t slot, const run* runs, std::uint32_t count,
                            std::uint64_t n, bool with_heads) noexcept {
  if (n == 0) return;
  session& s = sessions_[slot];
  note_write(s, n);
  if (with_heads && s.lane == none) {  // all of it is from logs
    if (s.chunked != none) {
      const std::uint32_t line = runs[0].from == run::from_chunk ? runs[0].size : 0;
      if (line != 0) chunks_.line_sent(s.chunked, line);
      chunks_.data_sent(s.chunked, static_cast<std::uint32_t>(n - line));
    }
    count = 0;
  }
  for (std::uint32_t k = 0; k < count && n != 0; ++k) {
    const run& r = runs[k];
    const auto took = static_cast<std::uint32_t>(n < r.size ? n : r.size);
    n -= took;
    if (r.from == run::from_chunk) {
      chunks_.line_sent(s.chunked, took);
      continue;
    }
    const bool in_front = r.from == run::from_lane && lanes_[s.lane].kind == lane_kind::head;
    if (s.chunked != none && !in_front) chunks_.data_sent(s.chunked, took);
    if (r.from != run::from_lane) {
      if (!with_heads) advance_cursor(s, r, took);
      continue;
    }
    lane_item& item = lanes_[s.lane];
    item.sent += took;
    if (item.left() == 0) lane_item_sent(s, item);
  }
  if (with_heads) {
    advance_heads(s);
  } else if (s.over) {
    s.over = still_over(s);
  }
}

/// Pops the first frame of a lane, which is out.
inline void engine::lane_item_sent(session& s, const lane_item& item) noexcept {
  if (item.kind == lane_kind::event || item.kind == lane_kind::value) s.last_event = now32();
  if (item.kind == lane_kind::value && item.from != none) {
    const subscription& sub = subs_[item.from];
    const std::uint32_t waited = static_cast<std::uint32_t>(present_) - item.at;
    item.lost ? count_old(sub, item) : count_value(item.from, item.counts, present_ - waited);
    if (gets_values(sub)) value_reader_of(sub).sent += item.counts ? 1U : 0U;
    if (sub.from() == source::selected) value_sent(item.from, item.key);
  }
  lanes_.pop(s.lane);
}

/// A reader was told that a value was too old for it.
inline void engine::count_old(const subscription& sub, const lane_item& item) noexcept {
  channel_state& c = *stream_of(sub).owner;
  ++c.counters_.gaps;
  if (item.counts) count_lost(item.from, 1);
  if (!on_gap) return;
  const std::string_view text{item.bytes->bytes(), item.bytes->size};
  const std::size_t data = text.find("data: ") + 6;
  gap said{.lost = 1, .lost_known = true};
  (void)read_gap({.type = "gap", .data = text.substr(data, text.size() - 2 - data)}, said);
  const quiet q{*this};
  on_gap(
      {id_of(sub.session), handle_of(c), said.requested, said.first, said.lost, said.lost_known});
}

inline void engine::note_write(session& s, std::uint64_t n) noexcept {
  stats_.bytes += n;
  s.last_write = now32();
  s.progress = s.last_write;
}

/// All of it is out.
inline void engine::advance_heads(session& s) noexcept {
  for (const head& h : heads_) {
    subscription& sub = subs_[h.index];
    if (h.count != 0) delivered(s, h.index, sub.at(), h.count, !stream_of(sub).transients);
    move_cursor(sub, h.at);
  }
  if (s.over) s.over = still_over(s);
}

inline void engine::advance_cursor(session& s, const run& r, std::uint32_t n) noexcept {
  subscription& sub = subs_[r.from];
  const auto to = static_cast<std::uint32_t>(r.data - r.seg->bytes()) + n;
  const std::uint32_t last = r.first + r.count - 1;
  const std::uint32_t next = to == (*r.seg)[last].end() ? last + 1 : r.seg->locate(to, r.first);
  const bool inside = next <= last && (*r.seg)[next].begin < to;
  const std::uint32_t rest = inside ? (*r.seg)[next].end() - to : 0;
  if (next != r.first)
    delivered(s, r.from, {r.seg, r.first}, next - r.first, !stream_of(sub).transients);
  if (sub.from() == source::skip) {
    // it leaves the log: only the rest of one event is sent from it, and its place is not moved
    sub.rest = rest;
    return;
  }
  move_cursor(sub, {r.seg, next});
  sub.rest = rest;
}

/// Counts whole entries. `application`: none of them is a heartbeat.
inline void engine::delivered(session& s, std::uint32_t index, const log_place& from,
                              std::uint32_t whole, bool application) noexcept {
  channel_state& c = *stream_of(subs_[index]).owner;
  c.counters_.delivered += whole;
  if (c.latency_ != nullptr || !counts_.empty()) look_at_each(index, from, whole);
  log_place p = from;
  for (std::uint32_t n = 0; n < whole && !application; ++n, ++p.k) {
    if (!p.find_entry()) break;
    application = !p.get().heartbeat();
  }
  if (application) s.last_event = now32();
}

/// What is counted of single events that are out.
inline void engine::look_at_each(std::uint32_t index, log_place p, std::uint32_t whole) noexcept {
  const subscription& sub = subs_[index];
  const channel_state& c = *stream_of(sub).owner;
  for (; whole != 0 && p.find_entry(); --whole, ++p.k) {
    if (p.get().heartbeat()) continue;
    count(index, &session_counts::delivered, 1);
    if (sub.from() == source::log && p.offset() >= sub.live_from)
      note_latency(c, p.seg->at(p.get()));
  }
}

// --- completion and pull -------------------------------------------------------------------------

inline void engine::writable(session_id id) noexcept {
  session* s = find(id);
  if (s == nullptr || !serving(*s) || s->flight != none) return;
  s->blocked = false;
  if (s->conflates) conflate(id.slot, false);
  enqueue(ready_, id.slot);
}

/// A pending write, or a peek, is over: `n` of its bytes left.
inline void engine::written(session_id id, std::size_t n) noexcept {
  session* s = holder(id);
  if (s == nullptr || s->flight == none) return;
  if (s->state == session_state::zombie) {
    bury(id.slot);
    return;
  }
  if (serving(*s)) {
    const flight& f = flights_[s->flight];
    if (n > f.total()) n = to_size(f.total());
    if (n != 0) advance(id.slot, f.runs.begin(), f.runs.size(), n, false);
    if (s->lane != none && s->state == session_state::live) take_values_back(id.slot, n);
    s->blocked = false;
    enqueue(ready_, id.slot);
  }
  end_flight(*s);
  if (serving(*s) && s->conflates) conflate(id.slot, true);
}

/// Shows what a session gets next without taking it; written(id, n) takes. Nothing: it will be
/// written to again.
inline std::size_t engine::peek(session_id id, std::span<buffer> out) noexcept {
  session* s = find(id);
  if (quiet_ || s == nullptr || !serving(*s) || !host_.completes || out.empty()) return 0;
  if (s->flight == none) {
    const work w{*this};
    serve_transients();
    if (!flights_.reserve_one() || !gather(id.slot, *s, batch_)) return 0;
    const auto room = static_cast<std::uint32_t>(
        out.size() < batch::most_buffers ? out.size() : batch::most_buffers);
    if (batch_.empty() || batch_.lay_out(room).empty()) {
      s->blocked = false;
      if (s->state == session_state::finishing || batch_.paused) enqueue(ready_, id.slot);
      return 0;
    }
    begin_flight(*s, batch_, batch_.total());
    block(id.slot, *s, true);
  }
  return flights_[s->flight].show(out);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_FLUSH_HPP
