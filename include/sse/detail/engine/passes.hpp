// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// passes: the newest state, never old news. A reader of a keyed channel that is new, came back, or
// could not take all that there was goes through the values pass by pass: in the order of their
// slots, which does not change when they do, past those that did not change since the last pass. A
// value is taken when it can be written, no more of them than one write takes, and what the write
// leaves is taken back: so a key is silent for one pass at most, and a value is as new as the
// write.
//
// Values have no `id:`. A pass ends with one alone, of where the channel stood when it began: a
// resume from there misses nothing. Events without a key, and those of the session's other
// channels, do not wait for it (weave.hpp): their ids say in a second number up to where the values
// are there (resume_point::values). After a pass that finds nothing the log serves the reader
// again.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_PASSES_HPP
#define SSEHUB_DETAIL_ENGINE_PASSES_HPP

#include <cstdint>

#include <sse/detail/engine/catch_up.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

// --- how much, and when --------------------------------------------------------------------------

/// Up to where a reader may take values into a write: less than it was cut at, at first.
inline std::uint64_t engine::begin_taking(value_reader& r, const weaving& w) const noexcept {
  const std::uint32_t most = most_at_a_time();
  if (!r.cut) r.room = r.room < most / 2 ? 2 * r.room : most;  // the last write took all
  r.cut = false;
  std::uint64_t room = r.room;
  const std::uint32_t quarter = r.at_most.bytes_per_second / 4;  // then it waits as long
  if (quarter != 0 && quarter < room) room = quarter;
  return w.bytes + room < w.room ? w.bytes + room : w.room;
}

/// A write took `n` bytes, and left values: the next takes no more.
inline void engine::note_cut(value_reader& r, std::uint64_t n) noexcept {
  r.cut = true;
  r.next_look = now_;  // it waits for its socket
  const std::uint32_t most = most_at_a_time();
  r.room = n < least_at_a_time ? least_at_a_time : n < most ? static_cast<std::uint32_t>(n) : most;
}

/// It took values of so many bytes, or gave them back (below 0).
inline void engine::pay(value_reader& r, std::int64_t bytes) const noexcept {
  const std::uint64_t spent = static_cast<std::uint64_t>(bytes < 0 ? -bytes : bytes) * r.cost;
  r.turn = bytes >= 0 ? r.turn + spent : r.turn > spent ? r.turn - spent : 0;
  if (r.at_most.bytes_per_second == 0) return;
  const std::int64_t debt = r.debt + bytes * 1000;
  const std::int64_t each = r.at_most.bytes_per_second;
  const std::int64_t ms = (debt - (debt < 0 ? each - 1 : 0)) / each;  // rounded down
  r.debt = static_cast<std::uint32_t>(debt - ms * each);
  r.paid_until = (r.paid_until > now_ ? r.paid_until : now_) + ms;
}

/// It has all that there is: what comes next waits, at first for any part of its period, so that
/// not all readers take theirs at once.
inline void engine::wait_a_period(value_reader& r) noexcept {
  if (r.at_most.every == 0) return;
  const std::int64_t wait =
      r.waited ? r.at_most.every : 1 + static_cast<std::int64_t>(random_.below(r.at_most.every));
  r.waited = true;
  r.next_look = now_ + wait;
}

/// Of an age at which nobody gets it.
inline bool engine::is_old(const channel_state& c, const newest_value& v) const noexcept {
  const duration most = c.options_.max_value_age;
  return !most.is_off() && !v.erased && present_ - v.at > most.ms();
}

/// A value, or that it is lost for its age. `counts`: it came while its reader was there. False:
/// memory is out.
inline bool engine::push_value(weaving& w, std::uint32_t index, std::uint32_t value,
                               std::uint32_t key, bool counts) noexcept {
  const channel_state& c = *stream_of(subs_[index]).owner;
  const newest_value& v = (*c.newest_)[value];
  lane_item item{.from = index, .key = key, .counts = counts, .lost = is_old(c, v)};
  item.at = static_cast<std::uint32_t>(v.at);
  blob* const bytes = item.lost ? make_loss(c, value) : v.bytes;
  if (bytes == nullptr) return false;
  w.bytes += bytes->size;
  const bool ok = lanes_.push_value(sessions_[w.slot].lane, bytes, item);
  if (item.lost) unref(bytes);
  return ok;
}

/// A gap frame that says that this value is lost: without an id, since values have none.
inline blob* engine::make_loss(const channel_state& c, std::uint32_t value) const noexcept {
  const std::uint64_t position = c.newest_->position(value);
  char data[max_gap];
  const char* const end =
      put_gap(data, {position - 1, position + 1, 1, true}, c.options_.ids != id_mode::none);
  const event e{.type = "gap", .data = {data, static_cast<std::size_t>(end - data)}};
  blob* const b = make_blob(static_cast<std::uint32_t>(encoded_size(e)));
  if (b != nullptr) encode_to(b->bytes(), e);
  return b;
}

// --- of chosen keys ------------------------------------------------------------------------------

/// What changed longest ago comes first, up to what one write takes. REQUIRES: it is due.
inline void engine::take_selected(weaving& w, std::uint32_t index) noexcept {
  const subscription& sub = subs_[index];
  selection& chosen = selections_[sub.record];
  if (chosen.keys.first == none) return;
  key_watchers& all = *stream_of(sub).owner->newest_->watchers();
  const std::uint64_t before = w.bytes;
  const std::uint64_t stop = begin_taking(chosen, w);
  while (w.ok && w.bytes < stop) {
    const std::uint32_t x = all.take(chosen.keys);
    if (x == none) break;
    w.ok = take_key(w, index, x);
  }
  pay(chosen, static_cast<std::int64_t>(w.bytes - before));
  if (chosen.keys.first == none) wait_a_period(chosen);
}

/// All values of a key that came since they were taken last. False: memory is out.
inline bool engine::take_key(weaving& w, std::uint32_t index, std::uint32_t x) noexcept {
  stream& st = stream_of(subs_[index]);
  const newest_by_key& values = *st.owner->newest_;
  const key_watch of = (*values.watchers())[x];
  bool ok = true;
  std::uint32_t last = none;  // what becomes of it is what becomes of the watch
  for (std::uint32_t v = values.watchers()->key(of.key).values; v != none && ok;
       v = values[v].next_of_key) {
    if (values.position(v) < of.due || !sees_value(w.slot, values[v])) continue;
    if (of.due == 0 && is_old(*st.owner, values[v])) continue;
    if (last != none) ok = push_value(w, index, last, none, of.due != 0);
    last = v;
  }
  if (last != none) return ok && push_value(w, index, last, x, of.due != 0);
  values.watchers()->sent(selections_[subs_[index].record].keys, x);
  if (of.due == 0) return ok;
  // max_keys made the channel forget it
  const auto visible = [&](std::string_view audience) { return sees(w.slot, audience); };
  if (!values.lost_value(of.due - 1, visible)) return ok;
  count_lost(index, 1);
  const bool ids = st.owner->options_.ids != id_mode::none;
  return ok && untold_.push_back({st.owner, {of.due - 1, head_of(*st.owner) + 1, 0, false, ids}}) &&
         tell(w.slot);
}

/// A write did not begin a value, of a watch that may be given up.
inline void engine::take_back(selection& chosen, const lane_item& item) noexcept {
  const std::uint32_t index = item.from;
  const std::uint32_t x = item.key;
  if (x == none) return;  // another audience's behind it says it
  key_watchers& all = *stream_of(subs_[index]).owner->newest_->watchers();
  if (!all.comes_from_write(x)) {
    if (item.counts) count_conflated(index, 1);
    return;
  }
  if (all.give_back(chosen.keys, x, chosen.put_back)) count_conflated(index, 1);
  chosen.put_back = x;
}

// --- of all keys ---------------------------------------------------------------------------------

/// A pass whose values were all sent is over.
inline void engine::end_pass(std::uint32_t index) noexcept {
  passing& p = passes_[subs_[index].record];
  if (!p.ending) return;
  p.since = p.began;
  p.before = std::move(p.now);
  p.now.clear();
  p.open = p.ending = p.opens = p.gave = p.fresh = false;
  p.forget_ahead();
  wait_a_period(p);
}

/// What changed since the last pass, from where this one is, up to what one write takes. Nothing at
/// all: live. REQUIRES: it is due.
inline void engine::take_values(weaving& w, std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  const newest_by_key& values = *stream_of(sub).owner->newest_;
  passing& p = passes_[sub.record];
  const std::uint64_t newest = head_of(*stream_of(sub).owner);
  begin_pass(p, newest);
  const std::uint64_t before = w.bytes;
  const std::uint64_t stop = begin_taking(p, w);
  while (w.bytes < stop && now_ >= p.due()) {
    const std::uint32_t slot = next_changed(values, p);
    p.see(p.place, newest);
    if (slot == none) {
      const bool goes_on = end_of_slots(w, index, newest);
      if (sub.from() != source::newest) return;  // it went live
      if (!goes_on) break;
      begin_pass(p, newest);
      continue;
    }
    const newest_value& v = values[slot];
    const bool came = values.position(slot) > p.entered;
    const bool has = !p.ahead.empty() && p.has(slot) >= values.position(slot);
    const bool nothing =
        has || (p.fresh && (v.erased || (!came && is_old(*stream_of(sub).owner, v))));
    if (!nothing && sees_value(w.slot, v)) {
      w.ok = push_value(w, index, slot, slot, came);
      if (!w.ok) return;
      p.gave = true;
    }
    p.see(++p.place, newest);
  }
  pay(p, static_cast<std::int64_t>(w.bytes - before));
}

inline bool engine::sees_value(std::uint32_t slot, const newest_value& v) noexcept {
  return v.audience.view().empty() || sees(slot, v.audience.view());
}

inline void engine::begin_pass(passing& p, std::uint64_t newest) noexcept {
  if (p.open) return;
  p.open = true;
  p.began = newest;
  p.place = p.at = 0;
}

/// A pass saw all. Where it found nothing, and nothing else waits, the log goes on. True: all of it
/// was sent before, and the next may begin.
inline bool engine::end_of_slots(weaving& w, std::uint32_t index, std::uint64_t newest) noexcept {
  subscription& sub = subs_[index];
  passing& p = passes_[sub.record];
  p.gave = p.gave || w.apart;  // then the end is told, too
  if (p.gave || p.opens || p.keyless < newest) {
    if (p.keyless < newest) p.began = p.since;  // losses are told behind those, and hold it back
    p.ending = true;
    const bool waits = w.bytes != 0 || tells_pass(w.slot, index);
    if (waits) {
      w.ok = tell_pass(w.slot, index);
    } else {
      end_pass(index);
    }
    return !waits && p.keyless >= newest;
  }
  if (p.stays) {  // what comes next is the next pass
    p.ending = true;
    end_pass(index);
    return false;
  }
  stream& st = stream_of(sub);
  const std::uint64_t came = st.log.end() - p.counted;
  count_conflated(index, came > p.sent ? came - p.sent : 0);
  give_record_back(sub);
  go_live(sub, st.log.end());
  w.moved = true;
  return false;
}

/// Whether the end of a pass is told. One that opens with several snapshots is told behind the last
/// of them.
inline bool engine::tells_pass(std::uint32_t slot, std::uint32_t index) const noexcept {
  const passing& p = passes_[subs_[index].record];
  if (!waits_in_line(subs_[index]) || !(p.opens || (p.gave && sessions_[slot].tells_position)))
    return false;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    if (opens(subs_[i]) && !passes_[subs_[i].record].ending) return false;
  }
  return true;
}

/// The values of a pass are in the lane: `id:` alone behind them. False: memory is out.
inline bool engine::tell_pass(std::uint32_t slot, std::uint32_t index) noexcept {
  if (!tells_pass(slot, index)) return true;
  return lanes_.push_position(sessions_[slot].lane, next_id(slot) - 1, values_to(slot, true),
                              lane_kind::pass, index);
}

/// A write took `n` bytes and left the rest: values that it did not begin are looked at again when
/// there is room for them.
inline void engine::take_values_back(std::uint32_t slot, std::uint64_t n) noexcept {
  lanes_.take_back(sessions_[slot].lane, [&](const lane_item& item) {
    const subscription& sub = subs_[item.from];
    if (!gets_values(sub)) return;  // it leaves
    value_reader& r = value_reader_of(sub);
    const bool first = !r.cut;
    if (item.kind == lane_kind::value) {
      if (first) note_cut(r, n);
      pay(r, -std::int64_t{item.bytes->size});
    }
    if (sub.from() == source::selected) {
      selection& chosen = selections_[sub.record];
      if (first) chosen.put_back = none;
      take_back(chosen, item);
    } else if (item.kind == lane_kind::pass) {
      passes_[sub.record].ending = false;
    } else if (first) {
      passes_[sub.record].unsee(item.key);
    }
  });
}

/// From where a pass is to the next slot whose value it did not see yet; none: it saw all.
inline std::uint32_t engine::next_changed(const newest_by_key& values, passing& p) noexcept {
  const std::uint32_t all = values.slot_count();
  while (p.place < all) {
    while (p.at < p.before.size() && p.before[p.at].end <= p.place) ++p.at;
    const bool seen = p.at < p.before.size();
    const std::uint32_t end = seen && p.before[p.at].end < all ? p.before[p.at].end : all;
    p.place = values.changed(p.place, end, seen ? p.before[p.at].head : p.since);
    if (p.place != end) return p.place;
  }
  return none;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_PASSES_HPP
