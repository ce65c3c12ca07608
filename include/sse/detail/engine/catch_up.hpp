// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Catching up: where a reader begins, what it is told of a loss, and how one that is too slow goes
// on.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_CATCH_UP_HPP
#define SSEHUB_DETAIL_ENGINE_CATCH_UP_HPP

#include <cstdint>
#include <string_view>

#include <sse/detail/engine/selection.hpp>
#include <sse/gap.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

// --- where it begins -----------------------------------------------------------------------------

/// The oldest id that can still come: the oldest retained, or the next to be published.
inline event_id engine::first_possible(const stream& st) noexcept {
  return st.log.retained() < st.log.end() ? st.log.id_at(st.log.retained())
                                          : sequence_of(*st.owner).last + 1;
}

/// What has an id above it is in the log: retention let go no more than that, and nothing at or
/// below it is of this run.
inline event_id engine::gone_up_to(const stream& st) noexcept {
  const event_id start = sequence_of(*st.owner).start;
  return st.log.forgotten_id() > start ? st.log.forgotten_id() : start;
}

/// Where a reader begins that brings no id, and whether one that comes back is brought up to date
/// by the newest values.
inline start_at engine::start_of(const channel_state& c, const joining& j) noexcept {
  const start_at start = j.start_given ? j.start : c.options_.start;
  return start == start_at::snapshot && c.newest_ == nullptr ? start_at::live : start;
}

/// From here on the log serves this subscription.
inline void engine::go_live(subscription& sub, std::uint64_t ordinal) noexcept {
  stream& st = stream_of(sub);
  sub.read_from(source::log);
  place_at(sub, ordinal);
  sub.live_from = st.log.end_offset();
  watch_lag(st, sub.live_from);
}

/// Of the values: what one write may take at most.
inline std::uint32_t engine::most_at_a_time() const noexcept {
  return host_.max_buffers == 1 && batch::record < options_.flush_share ? batch::record
                                                                        : options_.flush_share;
}

/// How it takes its first values.
inline void engine::begin_values(value_reader& r, const channel_state& c) const noexcept {
  const std::uint32_t weight = c.options_.weight;
  r.entered = head_of(c);
  r.room = most_at_a_time();
  r.cost = static_cast<std::uint16_t>(60'000 / (weight == 0 ? 1 : weight < 1000 ? weight : 1000));
}

/// Passes over the newest values come next: those that came behind `since`, and the events without
/// a key behind `keyless`. Losses up to `told` go unsaid. False: memory is out.
inline bool engine::start_passes(subscription& sub, std::uint64_t since, std::uint64_t keyless,
                                 std::uint64_t told) noexcept {
  const std::uint32_t record = passes_.take();
  if (record == none) return false;
  const stream& st = stream_of(sub);
  passing& p = passes_[record];
  p.since = since;
  p.keyless = keyless;
  p.told = told;
  p.counted = st.log.end();
  begin_values(p, *st.owner);
  release_cursor(sub);
  sub.read_from(source::newest);
  sub.record = record;
  return true;
}

/// The position that everything from entry `ordinal` on is behind; `newest`: there is nothing.
inline std::uint64_t engine::in_front_of(const event_log& log, std::uint64_t ordinal,
                                         std::uint64_t newest) noexcept {
  if (ordinal == log.end()) return newest;
  const log_place at = log.at(ordinal);
  const event_id id = at.seg->id(at.get());
  return (id != no_id ? id : at.seg->stamp(at.get())) - 1;
}

/// What a watch asks for, within what the channel allows.
[[nodiscard]] inline pace pace_of(const channel_options& most,
                                  const watch_requests::request& w) noexcept {
  const auto both = [](auto of_all, auto of_one) {
    if (!(of_all > 0)) return of_one;
    return of_one > 0 && of_one < of_all ? of_one : of_all;
  };
  const double rate = both(most.max_rate, w.max_rate);
  pace p{.bytes_per_second = both(most.max_bytes, w.max_bytes)};
  if (!(rate > 0)) return p;
  const double every = 1000 / rate;
  p.every = every > 1e9 ? 1'000'000'000U : every < 1 ? 1U : static_cast<std::uint32_t>(every);
  return p;
}

/// It gets values, and no other events with a key. Who is new begins with what its start says of
/// events without one. False: memory is out.
inline bool engine::start_watching(std::uint32_t index, const joining& j,
                                   const resume_point& resume, const watch_requests::request& watch,
                                   bool resumes) noexcept {
  subscription& sub = subs_[index];
  stream& st = stream_of(sub);
  const channel_state& c = *st.owner;
  const start_at start = start_of(c, j);
  const std::uint64_t newest = head_of(c);
  std::uint64_t keyless = newest;
  if (resumes) {
    keyless = resume.after;
  } else if (j.backlog != 0) {
    keyless = in_front_of(st.log, st.log.newest(j.backlog), newest);
  } else if (start == start_at::all) {
    keyless = in_front_of(st.log, st.log.retained(), newest);
  }
  sessions_[sub.session].conflates = true;
  const pace at_most = pace_of(c.options_, watch);
  if (at_most.every != 0 || at_most.bytes_per_second != 0) sessions_[sub.session].paced = true;
  if (!watch.selects) {
    const std::uint64_t since = resumes ? resume.values : start == start_at::live ? newest : 0;
    if (!start_passes(sub, since, keyless, resumes ? 0 : newest)) return false;
    passing& p = passes_[sub.record];
    p.at_most = at_most;
    p.stays = at_most.every != 0 || at_most.bytes_per_second != 0;
    p.fresh = !resumes && since == 0;
    p.opens = p.fresh && c.options_.ids != id_mode::none && tells_position(j);
    return true;
  }
  if (c.newest_->make_watchers(options_.seed) == nullptr) return false;
  const std::uint32_t record = selections_.take();
  if (record == none) return false;
  release_cursor(sub);
  sub.read_from(source::selected);
  sub.record = record;
  set_selecting(sub, true);
  selection& chosen = selections_[record];
  chosen.keyless = keyless;
  begin_values(chosen, c);
  chosen.at_most = at_most;
  return watch_keys(index, watch);
}

inline bool engine::tells_position(const joining& j) const noexcept {
  return j.position_given ? j.position : options_.position;
}

/// Where a reader of a channel begins.
inline engine::beginning engine::beginning_of(const channel_state& c, const joining& j,
                                              const resume_point& resume,
                                              watch_request watch) noexcept {
  const event_log& log = c.main_.log;
  if (watch != nullptr) {
    beginning b{.from = watch->selects ? source::selected : source::newest};
    const bool brings =
        resume.state == resume_point::kind::given && c.options_.ids != id_mode::none;
    b.lost = brings && (resume.after > sequence_of(c).last || c.engine_->was_lost(resume.after));
    b.resumes = brings && !b.lost;
    return b;
  }
  const start_at start = start_of(c, j);
  if (resume.state != resume_point::kind::given || c.options_.ids == id_mode::none) {
    if (j.backlog != 0) return {.ordinal = log.newest(j.backlog)};
    if (start == start_at::snapshot) return {.from = source::newest};
    return {.ordinal = start == start_at::all ? log.retained() : log.end()};
  }
  const event_id after = resume.after;
  if (after > sequence_of(c).last) return {.ordinal = log.end(), .lost = true};  // ahead
  beginning b{.ordinal = log.find(after), .resumes = true};
  b.lost = c.engine_->was_lost(after);
  if (b.lost) return b;
  // It was in the middle of a pass, or what it missed is old news, and the values are known since.
  const bool missed = b.ordinal < log.end() || after < gone_up_to(c.main_);
  const bool known = after >= sequence_of(c).start || !c.options_.backfill;
  const bool conflates = c.options_.on_lag == lag_policy::coalesce && after != 0 && missed && known;
  if (c.newest_ != nullptr && (resume.values < after || conflates)) {
    b.from = source::newest;
    return b;
  }
  // Gone from the log: what retention let go, and all that was before this run.
  if ((after == 0 && !j.after_given) || after >= gone_up_to(c.main_)) return b;
  if (c.options_.backfill) {
    b.from = source::backfill;
  } else if (after != 0 && start == start_at::snapshot) {
    b.from = source::newest;
  } else {
    b.lost = after != 0;
  }
  return b;
}

/// Begins one subscription. `lost`: what it asked for is gone. False: memory is out.
inline bool engine::begin_at(std::uint32_t index, const joining& j, const resume_point& resume,
                             watch_request watch, bool& lost) noexcept {
  subscription& sub = subs_[index];
  channel_state& c = *stream_of(sub).owner;
  if (c.options_.ids != id_mode::none) {
    sessions_[sub.session].has_ids = true;
    sessions_[sub.session].own_ids = c.options_.own_sequence;
  }
  if (c.options_.on_lag == lag_policy::coalesce) sessions_[sub.session].conflates = true;
  const beginning b = beginning_of(c, j, resume, watch);
  lost = b.lost;
  if (b.resumes) ++c.counters_.replays;
  if (watch != nullptr) {
    return start_watching(index, j, resume, *watch, b.resumes);
  } else if (b.from == source::backfill) {
    release_cursor(sub);
    sub.read_from(source::backfill);
    sub.filled_to = resume.after;
  } else if (b.from == source::log) {
    go_live(sub, b.ordinal);
  } else if (b.resumes) {
    return start_passes(sub, resume.values, resume.after, 0);
  } else {  // only what was there before it came may go unsaid
    const std::uint64_t newest = head_of(c);
    if (!start_passes(sub, 0, newest, newest)) return false;
    passes_[sub.record].fresh = true;
    passes_[sub.record].opens = c.options_.ids != id_mode::none && tells_position(j);
  }
  return true;
}

/// Of a subscription that is new: what is on its way to the others was published before it came.
/// The session's last subscription for this channel; none: memory is out.
inline std::uint32_t engine::pass_transients(std::uint32_t index) noexcept {
  stream* const st = stream_of(subs_[index]).owner->transients_;
  if (st == nullptr || st->handed_out.ordinal() == st->log.end()) return index;
  const std::uint32_t i = add_reader(subs_[index].session, *st, index);
  if (i == none) return none;
  subs_[index].with_transients = 1;
  sessions_[subs_[index].session].transients = true;
  return i;
}

/// False: memory is out, and the session cannot stay.
inline bool engine::subscribe(std::uint32_t slot, const joining& j,
                              const resume_point& resume) noexcept {
  const event_id after = resume.after;
  bool told = false;  // that it is ahead: once
  std::uint32_t last = none;
  for (std::uint32_t n = 0; n < j.channels.size(); ++n) {
    channel_state& c = joined(j, n);
    c.main_.trim(now_);
    const std::uint32_t i = add_reader(slot, c.main_, last);
    if (i == none) return false;
    last = i;
    bool lost = false;
    watch_requests::request watch;
    const bool watches = j.watches.find(n, watch);
    if (!begin_at(i, j, resume, watches ? &watch : nullptr, lost)) return false;
    if (lost && !told) {
      if (!untold_.push_back({&c, loss_at_opening(c, after)})) return false;
      told = after > sequence_of(c).last;
    }
    if ((last = pass_transients(i)) == none) return false;
  }
  const bool gaps = !untold_.empty();
  if (gaps && !tell(slot)) return false;
  const bool has_id = resume.state == resume_point::kind::given && !j.after_given;
  return has_id || gaps || !tells_position(j) || push_position(slot);
}

/// What one lost that comes back with an id that cannot be continued.
inline loss engine::loss_at_opening(const channel_state& c, event_id after) noexcept {
  const sequence& seq = sequence_of(c);
  const bool ahead = after > seq.last;
  event_id first = ahead ? seq.last + 1 : first_possible(c.main_);
  if (c.engine_->was_lost(after)) first = c.engine_->options_.lost_below;
  // Consecutive ids of this run can be counted.
  const bool known = !ahead && c.options_.own_sequence && c.options_.ids == id_mode::automatic &&
                     after >= seq.start && !c.main_.log.selective();
  return {after, first, known ? first - after - 1 : 0, known};
}

/// Where a reader stands that has no id, behind what it lost: it misses nothing if it is cut before
/// its first event. Whoever gets nothing but snapshots is told behind them. False: memory is out.
inline bool engine::push_position(std::uint32_t slot) noexcept {
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.from() == source::left || opens(sub) || !waits_in_line(sub)) continue;
    return tell_standing(slot);
  }
  return true;
}

/// Its ids are in line with those of the session's other channels.
inline bool engine::waits_in_line(const subscription& sub) const noexcept {
  const stream& st = stream_of(sub);
  return !st.transients && st.owner->options_.ids != id_mode::none;
}

/// Its other snapshots are whole, and waited for one that it left to say where it stands.
/// REQUIRES: no write is pending, whose ids the client may have got, or not.
inline void engine::push_owed_position(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (!s.owes_position) return;
  s.owes_position = false;
  if (!push_position(slot)) mark_dead(slot, close_reason::no_memory);
}

/// It gets a snapshot, as one who is new.
inline bool engine::opens(const subscription& sub) const noexcept {
  return sub.from() == source::newest && passes_[sub.record].opens;
}

/// The session has all values up to here, over all its channels. `ended`: those of passes that are
/// in its lane to their end count.
inline event_id engine::values_to(std::uint32_t slot, bool ended) const noexcept {
  event_id to = max_event_id;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    if (subs_[i].from() != source::newest || !waits_in_line(subs_[i])) continue;
    const passing& p = passes_[subs_[i].record];
    const event_id has = ended && p.ending ? p.began : p.since;
    if (has < to) to = has;
  }
  return to;
}

// --- gap frames ----------------------------------------------------------------------------------

/// Where a reader that is too slow goes on.
inline std::uint64_t engine::skip_target(const stream& st) noexcept {
  return st.owner->options_.on_lag == lag_policy::oldest ? st.log.retained() : st.log.end();
}

/// The first id that a session can still get, or be told of, over all its channels.
inline event_id engine::next_id(std::uint32_t slot) noexcept {
  event_id next = max_event_id;
  const std::uint32_t asks_before = asks_left_;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    stream& st = stream_of(sub);
    if (st.transients || st.owner->options_.ids == id_mode::none) continue;
    event_id id = sequence_of(*st.owner).last + 1;
    switch (sub.from()) {
      case source::newest:
      case source::selected: {
        const newest_by_key& values = values_of(st);
        const std::uint64_t n =
            next_keyless(sub, values.keyless_after(value_reader_of(sub).keyless));
        if (n != values.keyless_end()) id = values.keyless(n).position;
        break;
      }
      case source::skip: id = skips_[sub.record].first; break;
      case source::backfill: id = sub.filled_to + 1; break;
      case source::left: continue;
      case source::log: {
        log_place p = sub.at();
        if (sub.rest != 0) ++p.k;    // that one it gets first, whatever comes
        asks_left_ = asks_per_turn;  // then the id is one that it passed
        if (next_visible(slot, st, p) != found::nothing) id = p.seg->id(p.get());
        break;
      }
    }
    if (id < next) next = id;
  }
  asks_left_ = asks_before;
  return next;
}

/// Tells a session of a loss on one channel: `event: gap`, `data:
/// {"requested":R,"first":F,"lost":N}`. F is the first id that can come from that channel; `id:` is
/// one below the first that can come from any (the same, where there is one channel), so that ids
/// never run back and a resume from it misses nothing. Only the last of several frames has it
/// (moves_id): who is cut between two of them comes back with the id from before. Without ids
/// (lost transient events) R and F are null and the client's last id stays as it is.
inline bool engine::push_gap(std::uint32_t slot, channel_state& where, const loss& what,
                             bool moves_id) noexcept {
  char data[max_gap];
  const char* const end =
      put_gap(data, {what.requested, what.first, what.lost, what.known}, what.with_ids);
  event e{.type = "gap", .data = {data, static_cast<std::size_t>(end - data)}};
  char id[2 * max_digits + 1];
  if (what.with_ids && moves_id) {
    e.id = {id,
            static_cast<std::size_t>(put_position(id, next_id(slot) - 1, values_to(slot)) - id)};
  }
  if (!lanes_.push(sessions_[slot].lane, e, lane_kind::control)) return false;
  ++where.counters_.gaps;
  if (on_gap) {
    const quiet q{*this};
    on_gap({id_of(slot), handle_of(where), what.with_ids ? what.requested : no_id,
            what.with_ids ? what.first : no_id, what.lost, what.known});
  }
  return true;
}

/// The newest values of a channel, and no events without a key but those that are retained.
inline newest_by_key& engine::values_of(stream& st) noexcept {
  newest_by_key& values = *st.owner->newest_;
  values.let_go_before(st.log.retained());
  return values;
}

/// From event `n` that is no state to the first that the session gets.
inline std::uint64_t engine::next_keyless(const subscription& sub, std::uint64_t n) noexcept {
  const newest_by_key& values = *stream_of(sub).owner->newest_;
  for (; n != values.keyless_end(); ++n) {
    const keyless_event& e = values.keyless(n);
    if (e.key != none && sub.from() == source::selected &&
        find_watch(sub, values.key_of(e)) == none)
      continue;
    const std::string_view audience = values.audience_of(e);
    if (audience.empty() || sees(sub.session, audience)) break;
  }
  return n;
}

/// Whether a reader lost events that are no state, behind the last that it has.
inline bool engine::lost_keyless(const subscription& sub, const newest_by_key& values) noexcept {
  const auto visible = [&](std::string_view audience) { return sees(sub.session, audience); };
  const std::uint64_t had = value_reader_of(sub).keyless;
  if (values.lost_keyless(had, visible)) return true;
  if (!values.lost_barrier(had, visible)) return false;
  if (sub.from() == source::newest) return true;
  const key_watchers& all = *values.watchers();
  for (const std::uint32_t w : selections_[sub.record].keys.places) {
    if (w != none && all.key(all[w].key).lost > had) return true;
  }
  return false;
}

/// Notes, for all channels of which a session gets the newest values: events without a key that it
/// did not get before retention let go of them; `of_values`: keys that had to be forgotten, too.
inline void engine::note_losses(std::uint32_t slot, bool of_values) noexcept {
  const auto visible = [&](std::string_view audience) { return sees(slot, audience); };
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (!gets_values(sub)) continue;
    stream& st = stream_of(sub);
    const newest_by_key& values = values_of(st);
    channel_state& c = *st.owner;
    value_reader& p = value_reader_of(sub);
    const bool ids = c.options_.ids != id_mode::none;
    const std::uint64_t newest = head_of(c);
    const bool all_keys = sub.from() == source::newest;  // else each key tells of its own
    std::uint64_t had = all_keys ? passes_[sub.record].since : 0;
    if (p.told > had) had = p.told;
    bool ok = true;
    if (lost_keyless(sub, values)) {
      const std::uint64_t n = next_keyless(sub, values.keyless_after(p.keyless));
      const std::uint64_t first =
          n == values.keyless_end() ? newest + 1 : values.keyless(n).position;
      ok = untold_.push_back({&c, {p.keyless, first, 0, false, ids}});
      if (had >= p.keyless) had = p.told = first - 1;  // that frame says it all
      p.keyless = first - 1;
    }
    if (of_values && all_keys && p.keyless >= newest && values.lost_value(had, visible)) {
      ok = untold_.push_back({&c, {had, newest + 1, 0, false, ids}}) && ok;
      p.told = newest;
    }
    if (!ok) mark_dead(slot, close_reason::no_memory);
  }
}

/// Tells a session what was noted, and all else that it lost, so that no loss is passed by an id
/// before it is told: only the last frame has one. False: memory is out.
inline bool engine::tell(std::uint32_t slot) noexcept {
  note_losses(slot);
  std::uint32_t last = none;
  for (std::uint32_t n = 0; n < untold_.size(); ++n) {
    if (untold_[n].what.with_ids) last = n;
  }
  bool ok = true;
  for (std::uint32_t n = 0; n < untold_.size(); ++n)
    ok = ok && push_gap(slot, *untold_[n].where, untold_[n].what, n == last);
  untold_.clear();
  return ok;
}

/// What a session lost, and where it stands: by the id of a gap frame, or else alone. False: memory
/// is out.
inline bool engine::tell_standing(std::uint32_t slot) noexcept {
  note_losses(slot);
  bool has_id = false;
  for (const untold& u : untold_) has_id = has_id || u.what.with_ids;
  return tell(slot) &&
         (has_id || lanes_.push_position(sessions_[slot].lane, next_id(slot) - 1, values_to(slot)));
}

// --- slow readers --------------------------------------------------------------------------------

/// The half-sent event is out: the readers that are too slow jump, and are told what they missed.
inline void engine::leave_skips(std::uint32_t slot) noexcept {
  bool ok = true;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    subscription& sub = subs_[i];
    if (sub.from() != source::skip) continue;
    channel_state& c = *stream_of(sub).owner;
    const loss l = leave_skip(slot, i);
    ok = (l.lost == 0 || untold_.push_back({&c, l})) && ok;
  }
  if (!untold_.empty()) ok = tell(slot) && ok;
  if (!ok) mark_dead(slot, close_reason::no_memory);
  finish_if_sealed(slot);
}

/// What it missed; nothing: it lost nothing, or gets the newest values instead.
inline loss engine::leave_skip(std::uint32_t slot, std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  stream& st = stream_of(sub);
  channel_state& c = *st.owner;
  const skip missed = skips_[sub.record];
  skips_.give_back(sub.record);
  const std::uint64_t to = skip_target(st);
  const std::uint64_t lost = to > missed.ordinal ? to - missed.ordinal : 0;
  const bool with_ids = !st.transients && c.options_.ids != id_mode::none;
  if (lost != 0 && c.options_.on_lag == lag_policy::coalesce && !st.transients) {
    const std::uint64_t has = (with_ids ? missed.first : missed.stamp) - 1;
    if (!start_passes(sub, has, has, 0)) {
      go_live(sub, to);
      mark_dead(slot, close_reason::no_memory);
    } else {
      passes_[sub.record].entered = has;
      passes_[sub.record].counted = missed.ordinal;
    }
    return {};
  }
  go_live(sub, lost == 0 ? missed.ordinal : to);
  count_lost(index, lost);
  return {missed.requested, to < st.log.end() ? st.log.id_at(to) : sequence_of(c).last + 1, lost,
          !st.log.selective(), with_ids};
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_CATCH_UP_HPP
