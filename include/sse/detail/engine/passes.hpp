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

/// Values for a session, while there is room.
inline void engine::run_passes(weaving& w) noexcept {
  note_losses(w.slot, true);
  w.ok = tell(w.slot);
  for (std::uint32_t i = sessions_[w.slot].first; i != none && w.ok; i = subs_[i].next) {
    if (subs_[i].from() == source::newest) take_values(w, i);
  }
}

/// A pass whose values were all sent is over.
inline void engine::end_pass(std::uint32_t index) noexcept {
  passing& p = passes_[subs_[index].record];
  if (!p.ending) return;
  p.since = p.began;
  p.before = std::move(p.now);
  p.now.clear();
  p.open = p.ending = p.opens = p.gave = false;
}

/// What changed since the last pass, from where this one is, up to what one write takes. Nothing at
/// all: live.
inline void engine::take_values(weaving& w, std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  const newest_by_key& values = *stream_of(sub).owner->newest_;
  passing& p = passes_[sub.record];
  const std::uint64_t newest = head_of(*stream_of(sub).owner);
  const std::uint32_t most = most_at_a_time();
  begin_pass(p, newest);
  if (!p.cut) p.room = p.room < most / 2 ? 2 * p.room : most;  // the last write took all
  p.cut = false;
  const std::uint64_t stop = w.bytes + p.room < w.room ? w.bytes + p.room : w.room;
  while (w.bytes < stop) {
    const std::uint32_t slot = next_changed(values, p);
    p.see(p.place, newest);
    if (slot == none) {
      if (!end_of_slots(w, index, newest)) return;
      begin_pass(p, newest);
      continue;
    }
    if (sees_value(w.slot, values[slot])) {
      const bool counts = values.position(slot) > p.entered;
      w.ok = lanes_.push_value(sessions_[w.slot].lane, values[slot].bytes, index, slot, counts);
      if (!w.ok) return;
      w.bytes += values[slot].bytes->size;
      p.gave = true;
    }
    p.see(++p.place, newest);
  }
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
  stream& st = stream_of(sub);
  const std::uint64_t came = st.log.end() - p.counted;
  st.owner->counters_.coalesced += came > p.sent ? came - p.sent : 0;
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
    if (subs_[item.from].from() != source::newest) return;  // it leaves
    passing& p = passes_[subs_[item.from].record];
    if (item.kind == lane_kind::pass) {
      p.ending = false;
    } else if (!p.cut) {  // the first of them
      p.unsee(item.key);
      p.cut = true;
      const std::uint32_t most = most_at_a_time();
      p.room = n < least_at_a_time ? least_at_a_time
               : n < most          ? static_cast<std::uint32_t>(n)
                                   : most;
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
