// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// weave: the way to live. A reader that has no place in a channel's log gets its events from
// elsewhere: the newest value of each key (passes.hpp), or the channel's backfill hook. It holds
// nothing there meanwhile, so a slow one costs no memory. What has an id, of all the session's
// channels, is taken in the order of the ids, so that these rise and a resume from any of them
// misses nothing. A share of it at a time goes into the session's lane, and values behind it.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_WEAVE_HPP
#define SSEHUB_DETAIL_ENGINE_WEAVE_HPP

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <sse/detail/engine/passes.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// REQUIRES: its lane is empty or holds one frame, and nothing of a log is half sent.
inline void engine::fill(std::uint32_t slot) noexcept {
  bool fills = false;
  bool passes = false;
  strands_.clear();
  weaving w{.slot = slot, .room = options_.flush_share};
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.from() == source::newest) {
      passes = true;
      end_pass(i);
    }
    if (sub.from() == source::selected) {
      passes = passes || has_more(sub);
      if (!keyless_waits(sub)) continue;
    }
    if (sub.from() == source::left || sub.from() == source::skip || !waits_in_line(sub)) continue;
    fills = fills || sub.from() != source::log;
    if (!strands_.push_back({.index = i})) return mark_dead(slot, close_reason::no_memory);
  }
  if (passes) w.ok = tell(slot);  // what no id may pass untold
  w.values_to = values_to(slot);
  if (fills && w.ok) weave(w);
  for (std::uint32_t i = sessions_[slot].first; passes && i != none && w.ok; i = subs_[i].next) {
    const source from = subs_[i].from();
    const bool values =
        from == source::newest || (from == source::selected && keyless_waits(subs_[i]));
    if (!values || waits_in_line(subs_[i])) continue;
    strands_.clear();  // without ids it has no place among the others
    w.ok = strands_.push_back({.index = i});
    if (w.ok) weave(w);
  }
  if (passes && w.ok) run_passes(w);
  if (!w.ok) return mark_dead(slot, close_reason::no_memory);
  if (w.bytes == 0 && w.moved && weaves(sessions_[slot])) enqueue(ready_, slot);
  if (sessions_[slot].paced) arm(slot);
  finish_if_sealed(slot);
}

/// It catches up on a channel whose ids the others wait for.
inline bool engine::weaves(const session& s) const noexcept {
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const source from = subs_[i].from();
    const bool waits = from == source::newest || from == source::backfill ||
                       (from == source::selected && keyless_waits(subs_[i]));
    if (waits && waits_in_line(subs_[i])) return true;
  }
  return false;
}

/// It gets values, and its pace allows some now.
inline bool engine::may_take(const subscription& sub) noexcept {
  return gets_values(sub) && now_ >= value_reader_of(sub).due();
}

/// Values for a session, while there is room.
inline void engine::run_passes(weaving& w) noexcept {
  note_losses(w.slot, true);
  w.ok = tell(w.slot);
  std::uint32_t first = none;
  bool several = false;
  for (std::uint32_t i = sessions_[w.slot].first; i != none; i = subs_[i].next) {
    if (!may_take(subs_[i])) continue;
    several = first != none;
    first = i;
  }
  if (several) return share_passes(w);
  if (first == none || !w.ok) return;
  value_reader_of(subs_[first]).turn = 0;  // nobody is there to share with
  take_newest(w, first);
}

inline void engine::take_newest(weaving& w, std::uint32_t index) noexcept {
  if (subs_[index].from() == source::newest) {
    take_values(w, index);
  } else {
    take_selected(w, index);
  }
}

/// The channel that had least of its share comes first.
inline void engine::share_passes(weaving& w) noexcept {
  strands_.clear();
  for (std::uint32_t i = sessions_[w.slot].first; i != none && w.ok; i = subs_[i].next) {
    if (!may_take(subs_[i])) continue;
    w.ok = strands_.push_back({.next = value_reader_of(subs_[i]).turn, .index = i});
  }
  for (std::uint32_t i = strands_.size() / 2; i-- != 0;) sink(i);
  std::uint64_t passed = strand::nothing;  // the turn of the first that took something
  while (w.ok && w.bytes < w.room && strands_[0].next != strand::nothing) {
    const strand x = strands_[0];
    const std::uint64_t before = w.bytes;
    take_newest(w, x.index);
    if (passed == strand::nothing && w.bytes != before) passed = x.next;
    strands_[0].next = strand::nothing;
    sink(0);
  }
  if (passed == 0 || passed == strand::nothing) return;
  // Who had nothing to take saves no more of its share than the others did.
  for (std::uint32_t i = sessions_[w.slot].first; i != none; i = subs_[i].next) {
    if (!gets_values(subs_[i])) continue;
    std::uint64_t& turn = value_reader_of(subs_[i]).turn;
    turn = turn > passed ? turn - passed : 0;
  }
}

/// Takes from the strands in the order of their ids, up to a share, or to where a hook has to be
/// asked again.
inline void engine::weave(weaving& w) noexcept {
  w.horizon = strand::nothing;
  w.done_to = 0;
  ask_hooks(w);
  for (strand& x : strands_) {
    if (w.ok) look(w, x);
  }
  for (std::uint32_t i = strands_.size() / 2; i-- != 0;) sink(i);
  while (w.ok && w.bytes < w.room) {
    strand& x = strands_[0];
    if (x.next > w.horizon || x.next == strand::nothing) {
      w.done_to = w.horizon;
      break;
    }
    std::uint64_t bound = w.horizon;
    for (std::uint32_t i = 1; i < 3 && i < strands_.size(); ++i) {
      if (strands_[i].next < bound) bound = strands_[i].next;
    }
    take(w, x, bound);
    if (w.ok) look(w, x);
    sink(0);
  }
  if (w.ok) leave_hooks(w);
  for (const staged_event& e : staged_) {
    if (e.bytes != nullptr) unref(e.bytes);
  }
  staged_.clear();
}

/// Puts strand `i` of the heap where it belongs; what is below it stands right.
inline void engine::sink(std::uint32_t i) noexcept {
  const strand x = strands_[i];
  for (const std::uint32_t n = strands_.size();;) {
    std::uint32_t child = 2 * i + 1;
    if (child >= n) break;
    if (child + 1 < n && strands_[child + 1].next < strands_[child].next) ++child;
    if (strands_[child].next >= x.next) break;
    strands_[i] = strands_[child];
    i = child;
  }
  strands_[i] = x;
}

// --- what a strand has next ----------------------------------------------------------------------

inline void engine::look(weaving& w, strand& x) noexcept {
  subscription& sub = subs_[x.index];
  if (gets_values(sub)) {
    const newest_by_key& values = *stream_of(sub).owner->newest_;
    value_reader& p = value_reader_of(sub);
    if (x.keyless == strand::nothing) x.keyless = values.keyless_after(p.keyless);
    x.keyless = next_keyless(sub, x.keyless);
    if (x.keyless == values.keyless_end()) {
      p.keyless = head_of(*stream_of(sub).owner);
      x.next = strand::nothing;
    } else {
      x.next = values.keyless(x.keyless).position;
    }
  } else if (sub.from() == source::log) {
    const stream& st = stream_of(sub);
    log_place p = sub.at();
    const found f = next_visible(w.slot, st, p, x.own);
    move_cursor(sub, p);
    x.next = f == found::nothing ? strand::nothing : p.seg->id(p.get());
    if (f == found::paused) {
      if (x.next <= w.horizon) w.horizon = x.next - 1;
      enqueue(ready_, w.slot);
    }
  } else if (sub.from() == source::backfill) {
    x.next = x.staged == x.staged_end ? strand::nothing : staged_[x.staged].id;
  }
}

// --- what is taken -------------------------------------------------------------------------------

/// The next event of a strand; of a log all up to id `bound`.
inline void engine::take(weaving& w, strand& x, std::uint64_t bound) noexcept {
  subscription& sub = subs_[x.index];
  w.moved = true;
  if (sub.from() == source::log) return take_from_log(w, x, bound);
  if (gets_values(sub)) return take_keyless(w, x);
  blob* const bytes = staged_[x.staged++].bytes;
  const event_id before = std::exchange(sub.filled_to, x.next);
  w.done_to = x.next;
  if (bytes == nullptr) return take_loss(w, *stream_of(sub).owner, before, x.next);
  if (w.values_to >= x.next) {
    w.bytes += bytes->size;
    w.ok = lanes_.push(sessions_[w.slot].lane, bytes, lane_kind::event, x.index);
    return;
  }
  pieces_.clear();
  w.ok = add_piece(w, {bytes->bytes(), bytes->size}, x.next);
  if (w.ok) push_pieces(w, lane_kind::event, x.index);
}

/// A hook lost what is behind `before`, up to `id`.
inline void engine::take_loss(weaving& w, channel_state& c, event_id before, event_id id) noexcept {
  advance_hooks(id);
  w.ok = untold_.push_back({&c, {before, id + 1, 0, false}}) && tell(w.slot);
}

/// A value that stands in front of a barrier.
inline bool engine::add_value(weaving& w, std::uint32_t index, std::uint32_t value,
                              bool counts) noexcept {
  const newest_value& v = (*stream_of(subs_[index]).owner->newest_)[value];
  value_reader& r = value_reader_of(subs_[index]);
  count_value(index, counts, v.at);
  r.sent += counts ? 1U : 0U;
  pay(r, v.bytes->size);
  return add_piece(w, {v.bytes->bytes(), v.bytes->size}, no_id);
}

/// A barrier comes: what a reader by passes does not have of its key.
inline bool engine::add_before(weaving& w, std::uint32_t index, std::string_view key,
                               std::string_view audience) noexcept {
  const newest_by_key& values = *stream_of(subs_[index]).owner->newest_;
  passing& p = passes_[subs_[index].record];
  const std::uint32_t held[] = {values.find(key, {}),
                                audience.empty() ? none : values.find(key, audience)};
  for (const std::uint32_t slot : held) {
    if (slot == none || values.position(slot) <= p.has(slot)) continue;
    const newest_value& v = values[slot];
    if ((v.erased && p.fresh) || is_old(*stream_of(subs_[index]).owner, v)) continue;
    if (!p.get_ahead(slot, values.position(slot)) ||
        !add_value(w, index, slot, values.position(slot) > p.entered))
      return false;
  }
  return true;
}

/// The same for one that chose its keys.
inline bool engine::add_chosen_before(weaving& w, std::uint32_t index,
                                      std::string_view key) noexcept {
  const channel_state& c = *stream_of(subs_[index]).owner;
  const newest_by_key& values = *c.newest_;
  key_watchers& all = *c.newest_->watchers();
  const std::uint32_t x = find_watch(subs_[index], key);
  const std::uint64_t due = all.due(x);
  const std::uint32_t first = all.key(all[x].key).values;
  const auto next = [&](std::uint32_t v) {
    while (v != none && (values.position(v) < due || !sees_value(w.slot, values[v])))
      v = values[v].next_of_key;
    return v;
  };
  for (std::uint32_t v = next(first); v != none; v = next(values[v].next_of_key)) {
    if (is_old(c, values[v])) return true;  // that is told in its turn
  }
  all.take_now(x);
  bool ok = true;
  for (std::uint32_t v = next(first); v != none && ok; v = next(values[v].next_of_key))
    ok = add_value(w, index, v, due != 0);
  return ok;
}

/// An event that is no state, for one that gets values.
inline void engine::take_keyless(weaving& w, strand& x) noexcept {
  const subscription& sub = subs_[x.index];
  stream& st = stream_of(sub);
  value_reader& p = value_reader_of(sub);
  const keyless_event& e = st.owner->newest_->keyless(x.keyless++);
  const log_place at = st.log.at(e.ordinal);
  const event_id id = at.seg->id(at.get());
  if (id != no_id) w.done_to = id;
  p.keyless = e.position;
  p.sent += e.position > p.entered ? 1U : 0U;
  ++st.owner->counters_.delivered;
  count(x.index, &session_counts::delivered, 1);
  if (e.position > p.entered) note_latency(*st.owner, at.seg->at(at.get()));
  pieces_.clear();
  if (e.key != none) {
    const std::string_view key = st.owner->newest_->key_of(e);
    w.ok = sub.from() == source::selected
               ? add_chosen_before(w, x.index, key)
               : add_before(w, x.index, key, st.owner->newest_->audience_of(e));
  }
  w.ok = w.ok && add_piece(w, at.seg->text(at.get()), id);
  if (w.ok) push_pieces(w, lane_kind::event, x.index);
}

/// Bytes of an event that goes into the lane with what was added before. Where values are behind
/// it, its id says so.
inline bool engine::add_piece(weaving& w, std::string_view text, event_id id) noexcept {
  piece made{text, no_id};
  if (id != no_id && w.values_to < id) {
    made = {text.substr(text.find('\n') + 1), id};
    w.apart = true;
    w.size += 5 + position_size(id, w.values_to);
  } else if (!pieces_.empty() &&
             pieces_.back().text.data() + pieces_.back().text.size() == text.data()) {
    piece& last = pieces_.back();
    last.text = {last.text.data(), last.text.size() + text.size()};
    w.size += text.size();
    return true;
  }
  w.size += made.text.size();
  return pieces_.push_back(made);
}

inline void engine::push_pieces(weaving& w, lane_kind kind, std::uint32_t from) noexcept {
  w.bytes += w.size;
  w.ok = lanes_.push_made(
      sessions_[w.slot].lane, static_cast<std::uint32_t>(w.size), kind,
      [&](char* out) {
        for (const piece& x : pieces_) {
          if (x.id != no_id) {
            out = put(out, "id: ");
            out = put_position(out, x.id, w.values_to);
            *out++ = '\n';
          }
          out = put(out, x.text);
        }
      },
      from);
  w.size = 0;
}

inline void engine::take_from_log(weaving& w, strand& x, std::uint64_t bound) noexcept {
  subscription& sub = subs_[x.index];
  stream& st = stream_of(sub);
  log_place p = sub.at();
  pieces_.clear();
  lane_kind kind = lane_kind::control;
  event_id id = x.next;
  do {
    const entry& e = p.get();
    if (!add_piece(w, p.seg->text(e), p.seg->id(e))) {
      w.ok = false;
      return;
    }
    if (!e.heartbeat()) kind = lane_kind::event;
    if (id != no_id) w.done_to = id;
    ++st.owner->counters_.delivered;
    if (!e.heartbeat()) {
      count(x.index, &session_counts::delivered, 1);
      if (p.offset() >= sub.live_from) note_latency(*st.owner, p.seg->at(e));
    }
    ++p.k;
    if (w.bytes + w.size >= w.room || next_visible(w.slot, st, p, x.own) != found::entry) break;
    id = p.seg->id(p.get());
  } while (id <= bound);
  push_pieces(w, kind, x.index);
  move_cursor(sub, p);
}

// --- backfill hooks ------------------------------------------------------------------------------

/// Asks each hook for its next events, no further than those that were asked before it got.
inline void engine::ask_hooks(weaving& w) noexcept {
  std::uint32_t hooks = 0;
  for (const strand& x : strands_) hooks += subs_[x.index].from() == source::backfill ? 1U : 0U;
  if (hooks == 0) return;
  const std::size_t share =
      options_.flush_share < options_.control_lane ? options_.flush_share : options_.control_lane;
  for (strand& x : strands_) {
    if (subs_[x.index].from() != source::backfill) continue;
    ask_hook(w, x, share / hooks + 1);
    if (!w.ok) return;
    if (x.covered < w.horizon) w.horizon = x.covered;
  }
}

inline void engine::ask_hook(weaving& w, strand& x, std::size_t room) noexcept {
  const subscription& sub = subs_[x.index];
  stream& st = stream_of(sub);
  channel_state& c = *st.owner;
  st.trim(now_);
  const event_id first = first_possible(st);
  const event_id before = w.horizon < first ? w.horizon + 1 : first;
  x.staged = x.staged_end = staged_.size();
  x.covered = before - 1;
  x.answer = before == first ? backfill_state::done : backfill_state::wait;
  if (before <= sub.filled_to + 1) return;  // there is nothing between
  const backfill_request request{id_of(w.slot), sub.filled_to, before, room};
  const bool together = strands_.size() == 1 && w.values_to == max_event_id;
  backfill_writer writer{*this, request, c.options_.limits, together};
  backfill_state answer;
  {
    const quiet q{*this};
    answer = c.options_.backfill(request, writer);
  }
  writer.shrink();
  x.staged_end = staged_.size();
  w.ok = !writer.failed_;
  if (answer == backfill_state::done) return;
  if (answer == backfill_state::more && before == first && writer.last_ >= gone_up_to(st)) return;
  x.covered = writer.last_;
  x.answer = answer;
  // Nothing now: ask again in the next flush.
  if (answer == backfill_state::more && writer.bytes_ == 0) enqueue(ready_, w.slot);
}

/// All events up to `id` are out.
inline void engine::advance_hooks(event_id id) noexcept {
  for (const strand& x : strands_) {
    subscription& sub = subs_[x.index];
    if (sub.from() != source::backfill) continue;
    const event_id to = id < x.covered ? id : x.covered;
    if (to > sub.filled_to) sub.filled_to = to;
  }
}

/// Those that gave all they were asked for have their place in the log now, or what they do not
/// have is told.
inline void engine::leave_hooks(weaving& w) noexcept {
  advance_hooks(w.done_to);
  for (const strand& x : strands_) {
    subscription& sub = subs_[x.index];
    if (sub.from() != source::backfill || sub.filled_to < x.covered) continue;
    stream& st = stream_of(sub);
    channel_state& c = *st.owner;
    if (x.answer == backfill_state::done) {
      go_live(sub, st.log.find(sub.filled_to));
    } else if (x.answer != backfill_state::lost) {
      continue;
    } else if (c.newest_ != nullptr && c.options_.start == start_at::snapshot) {
      const event_id has = sub.filled_to;
      w.ok = w.ok && start_passes(sub, has, has, 0);
    } else {
      const event_id requested = sub.filled_to;
      go_live(sub, st.log.retained());
      w.ok = w.ok && untold_.push_back({&c, {requested, first_possible(st), 0, false}}) &&
             tell(w.slot);
    }
    w.moved = true;
  }
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

inline bool backfill_writer::stage(event_id id, detail::blob* bytes) noexcept {
  if (id <= last_ || id >= request_.before || !engine_->staged_.push_back({id, bytes})) {
    if (bytes != nullptr) detail::unref(bytes);
    failed_ = true;
    return false;
  }
  open_ = nullptr;
  last_ = id;
  return true;
}

/// Where an event's bytes go; nullptr: it is refused.
inline char* backfill_writer::room_for(event_id id, std::size_t size) noexcept {
  constexpr std::size_t most = std::size_t{64} << 10;
  if (open_ != nullptr && size <= open_room_ - open_->size && id > last_ && id < request_.before) {
    char* const to = open_->bytes() + open_->size;
    open_->size += static_cast<std::uint32_t>(size);
    engine_->staged_.back().id = last_ = id;
    bytes_ += size;
    return to;
  }
  const std::size_t left = request_.room > bytes_ ? request_.room - bytes_ : 0;
  const std::size_t more = together_ ? (left < most ? left : most) : 0;
  const std::size_t room = size < more ? more : size;
  detail::blob* const made = size == 0 || size > UINT32_MAX
                                 ? nullptr
                                 : detail::make_blob(static_cast<std::uint32_t>(room));
  if (made == nullptr) {
    failed_ = true;
    return nullptr;
  }
  made->size = static_cast<std::uint32_t>(size);
  bytes_ += size;
  if (!stage(id, made)) return nullptr;
  open_ = together_ ? made : nullptr;
  open_room_ = room;
  return made->bytes();
}

/// What waits for a slow reader has no more room than it needs.
inline void backfill_writer::shrink() noexcept {
  if (open_ == nullptr || open_room_ / 2 < open_->size) return;
  detail::blob* const exact = detail::make_blob(open_->size);
  if (exact == nullptr) return;
  std::memcpy(exact->bytes(), open_->bytes(), open_->size);
  detail::unref(std::exchange(open_, exact));
  engine_->staged_.back().bytes = exact;
}

inline bool backfill_writer::add(event_id id, const event& e) noexcept {
  detail::id_text text;
  event out = e;
  out.id = text.view(id);
  const encode_plan p = plan(out, *limits_);
  char* const to = p.error == encode_error::none ? room_for(id, p.size) : nullptr;
  failed_ = failed_ || to == nullptr;
  if (to != nullptr) encode_to(to, out, p);
  return to != nullptr;
}

inline bool backfill_writer::add_encoded(event_id id, std::string_view text,
                                         std::string_view audience) noexcept {
  if (!audience.empty() && !engine_->sees(request_.session.slot, audience)) return pass(id);
  char* const to = room_for(id, text.size());
  if (to != nullptr) std::memcpy(to, text.data(), text.size());
  return to != nullptr;
}

inline bool backfill_writer::pass(event_id id) noexcept {
  if (id < last_ || id >= request_.before) {
    failed_ = true;
    return false;
  }
  last_ = id;
  return true;
}

inline bool backfill_writer::lose(event_id first) noexcept { return stage(first - 1, nullptr); }

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_DETAIL_ENGINE_WEAVE_HPP
