// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Catching up: where a reader begins, what it is told of a loss, and the three ways to live: its
// cursor in the log (nothing to do here), the backfill hook, the newest value of each key.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include <sse/detail/engine/lag.hpp>

namespace sse::inline v0::detail {

// --- where it begins -----------------------------------------------------------------------------

/// The oldest id that can still come: the oldest retained, or the next to be published.
inline event_id engine::first_possible(const stream& st) noexcept {
  return st.log.retained() < st.log.end() ? st.log.id_at(st.log.retained())
                                          : st.owner->sequence_->last + 1;
}

/// What has an id above it is in the log: retention let go no more than that, and nothing at or
/// below it is of this run.
inline event_id engine::gone_up_to(const stream& st) noexcept {
  const event_id start = st.owner->sequence_->start;
  return st.log.forgotten_id() > start ? st.log.forgotten_id() : start;
}

/// Where a reader begins that brings no id, and whether one that comes back is brought up to date
/// by the newest values.
inline start_at engine::start_of(const channel_state& c, const joining& j) noexcept {
  const start_at start = j.start_given ? j.start : c.options_.start;
  return start == start_at::snapshot && c.newest_ == nullptr ? start_at::live : start;
}

/// Whether a session reads one channel only.
inline bool engine::alone(const session& s) const noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next)
    n += stream_of(subs_[i]).transients ? 0U : 1U;
  return n == 1;
}

/// From here on the log serves this subscription.
inline void engine::go_live(subscription& sub, std::uint64_t ordinal) noexcept {
  stream& st = stream_of(sub);
  sub.read_from(source::log);
  place_at(sub, ordinal);
  sub.live_from = st.log.end_offset();
  watch_lag(st, sub.live_from);
}

/// The newest values behind w.position come next. False: memory is out.
inline bool engine::start_walk(subscription& sub, const walk& w) noexcept {
  const std::uint32_t record = walks_.take();
  if (record == none) return false;
  walks_[record] = w;
  release_cursor(sub);
  sub.read_from(source::newest);
  sub.record = record;
  return true;
}

inline bool engine::tells_position(const joining& j) const noexcept {
  return j.position_given ? j.position : options_.position;
}

/// Where a reader of a channel begins.
inline engine::beginning engine::beginning_of(const channel_state& c, const joining& j,
                                              const resume_point& resume) noexcept {
  const event_log& log = c.main_.log;
  const bool alone = j.channels.size() == 1;
  const start_at start = start_of(c, j);
  if (resume.state != resume_point::kind::given || c.options_.ids == id_mode::none) {
    if (j.backlog != 0) return {.ordinal = log.newest(j.backlog)};
    if (start == start_at::snapshot && alone) return {.from = source::newest};
    return {.ordinal = start == start_at::all ? log.retained() : log.end()};
  }
  const event_id after = resume.after;
  if (after > c.sequence_->last) return {.ordinal = log.end(), .lost = true};  // ahead
  beginning b{.ordinal = log.find(after), .resumes = true};
  // Gone from the log: what retention let go, and all that was before this run.
  if ((after == 0 && !j.after_given) || after >= gone_up_to(c.main_)) return b;
  if (c.options_.backfill && alone) {
    b.from = source::backfill;
  } else if (after != 0 && start == start_at::snapshot && alone) {
    b.from = source::newest;
  } else {
    b.lost = after != 0;
  }
  return b;
}

/// Begins one subscription. `lost`: what it asked for is gone. False: memory is out.
inline bool engine::begin_at(std::uint32_t index, const joining& j, const resume_point& resume,
                             bool& lost) noexcept {
  subscription& sub = subs_[index];
  channel_state& c = *stream_of(sub).owner;
  const beginning b = beginning_of(c, j, resume);
  lost = b.lost;
  if (b.resumes) ++c.counters_.replays;
  if (b.from == source::backfill) {
    release_cursor(sub);
    sub.read_from(source::backfill);
    sub.filled_to = resume.after;
  } else if (b.from == source::log) {
    go_live(sub, b.ordinal);
  } else if (b.resumes) {
    return start_walk(sub, {.position = resume.after, .to_log = true});
  } else {  // only what was there before it came may go unsaid
    return start_walk(sub,
                      {.unsaid_to = c.options_.ids != id_mode::none ? c.sequence_->last : stamp_,
                       .opens = tells_position(j)});
  }
  return true;
}

/// Of a subscription that is new: what is on its way to the others was published before it came.
/// The session's last subscription for this channel; none: memory is out.
inline std::uint32_t engine::pass_transients(std::uint32_t index) noexcept {
  stream* const st = stream_of(subs_[index]).owner->transients_;
  if (st == nullptr || st->handed_out.ordinal() == st->log.end()) return index;
  const std::uint32_t i = add_reader(subs_[index].session, *st, index);
  if (i != none) subs_[index].with_transients = 1;
  return i;
}

/// False: memory is out, and the session cannot stay.
inline bool engine::subscribe(std::uint32_t slot, const joining& j,
                              const resume_point& resume) noexcept {
  const event_id after = resume.after;
  losers_.clear();
  std::uint32_t last = none;
  for (std::uint32_t n = 0; n < j.channels.size(); ++n) {
    channel_state& c = joined(j, n);
    c.main_.trim(now_);
    const std::uint32_t i = add_reader(slot, c.main_, last);
    if (i == none) return false;
    last = i;
    bool lost = false;
    if (!begin_at(i, j, resume, lost)) return false;
    const bool told = !losers_.empty() && after > c.sequence_->last;  // ahead is told once
    if (lost && !told && !losers_.push_back(&c)) return false;
    if ((last = pass_transients(i)) == none) return false;
  }
  const std::uint32_t gaps = losers_.size();
  for (std::uint32_t n = 0; n < gaps; ++n) {
    channel_state& c = *losers_[n];
    const sequence& seq = *c.sequence_;
    const bool ahead = after > seq.last;
    const event_id first = ahead ? seq.last + 1 : first_possible(c.main_);
    // Consecutive ids of this run can be counted.
    const bool known = !ahead && c.options_.own_sequence && c.options_.ids == id_mode::automatic &&
                       after >= seq.start && !c.main_.log.selective();
    if (!push_gap(slot, c, {after, first, known ? first - after - 1 : 0, known}, n + 1 == gaps))
      return false;
  }
  const bool has_id = resume.state == resume_point::kind::given && !j.after_given;
  return has_id || gaps != 0 || !tells_position(j) || push_position(slot);
}

/// Where a reader stands that has no id: it misses nothing if it is cut before its first event.
/// Whoever gets a snapshot is told behind that. False: memory is out.
inline bool engine::push_position(std::uint32_t slot) noexcept {
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const stream& st = stream_of(subs_[i]);
    if (st.transients || st.owner->options_.ids == id_mode::none) continue;
    event_id stands = next_id(slot) - 1;
    if (subs_[i].from() == source::newest) {
      const walk& w = walks_[subs_[i].record];
      if (w.opens) return true;
      stands = w.position;  // losses behind it are told in the walk
    }
    return lanes_.push_position(sessions_[slot].lane, stands);
  }
  return true;
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
    const stream& st = stream_of(sub);
    if (st.transients || st.owner->options_.ids == id_mode::none) continue;
    event_id id = st.owner->sequence_->last + 1;
    switch (sub.from()) {
      case source::newest: {
        const std::uint32_t value = st.owner->newest_->after(walks_[sub.record].position);
        if (value != none) id = (*st.owner->newest_)[value].position;
        if (walks_[sub.record].to_log && first_possible(st) < id) id = first_possible(st);
        break;
      }
      case source::skip: id = skips_[sub.record].first; break;
      case source::backfill: id = sub.filled_to + 1; break;
      case source::left: continue;
      case source::log: {
        log_place p = sub.at();
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
  char data[128];
  static_assert(sizeof data >= sizeof R"({"requested":,"first":,"lost":})" + 3 * max_digits);
  char* p = data;
  const auto put = [&](std::string_view s) {
    std::memcpy(p, s.data(), s.size());
    p += s.size();
  };
  const auto number = [&](bool known, std::uint64_t n) {
    if (known) {
      p = put_decimal(p, n);
    } else {
      put("null");
    }
  };
  put("{\"requested\":");
  number(what.with_ids, what.requested);
  put(",\"first\":");
  number(what.with_ids, what.first);
  put(",\"lost\":");
  number(what.known, what.lost);
  put("}");
  event e{.type = "gap", .data = {data, static_cast<std::size_t>(p - data)}};
  char id[max_digits];
  if (what.with_ids && moves_id) {
    e.id = {id, static_cast<std::size_t>(put_decimal(id, next_id(slot) - 1) - id)};
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

// --- slow readers --------------------------------------------------------------------------------

/// The half-sent event is out: the readers that are too slow jump, and are told what they missed.
inline void engine::leave_skips(std::uint32_t slot) noexcept {
  channel_state* before =
      nullptr;  // a gap that is not told yet: the next one decides if it moves the id
  loss untold;
  bool ok = true;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    subscription& sub = subs_[i];
    if (sub.from() != source::skip) continue;
    channel_state& c = *stream_of(sub).owner;
    const loss l = leave_skip(slot, sub);
    if (l.lost == 0) continue;
    if (!l.with_ids) {
      ok = ok && push_gap(slot, c, l, false);
      continue;
    }
    if (before != nullptr) ok = ok && push_gap(slot, *before, untold, false);
    before = &c;
    untold = l;
  }
  if (before != nullptr) ok = ok && push_gap(slot, *before, untold, true);
  if (!ok) mark_dead(slot, close_reason::no_memory);
}

/// What it missed; nothing: it lost nothing, or gets the newest values instead.
inline loss engine::leave_skip(std::uint32_t slot, subscription& sub) noexcept {
  stream& st = stream_of(sub);
  channel_state& c = *st.owner;
  const skip missed = skips_[sub.record];
  skips_.give_back(sub.record);
  const std::uint64_t to = skip_target(st);
  const std::uint64_t lost = to > missed.ordinal ? to - missed.ordinal : 0;
  const bool with_ids = !st.transients && c.options_.ids != id_mode::none;
  if (lost != 0 && c.options_.on_lag == lag_policy::coalesce && !st.transients &&
      alone(sessions_[slot])) {
    c.counters_.coalesced += lost;
    const walk rest{.position = with_ids ? missed.requested : missed.stamp - 1,
                    .unsaid_to = with_ids ? missed.first - 1 : 0};
    if (!start_walk(sub, rest)) {
      go_live(sub, to);
      mark_dead(slot, close_reason::no_memory);
    }
    return {};
  }
  go_live(sub, lost == 0 ? missed.ordinal : to);
  c.counters_.dropped += lost;
  return {missed.requested, to < st.log.end() ? st.log.id_at(to) : c.sequence_->last + 1, lost,
          !st.log.selective(), with_ids};
}

// --- what the log does not have ------------------------------------------------------------------

/// A reader that has no place in the log gets its next events from elsewhere. It holds nothing
/// there meanwhile, so a slow one costs no memory.
inline void engine::fill(std::uint32_t slot, subscription& sub) noexcept {
  if (sub.from() == source::newest) {
    fill_from_newest(slot, sub);
  } else {
    fill_from_hook(slot, sub);
  }
  if (sub.from() == source::log) finish_if_sealed(slot);
}

/// The newest events of keys that changed since, oldest first, until there are no more: then live.
/// For one that came back, until the log has the rest. What had no key, or whose key was forgotten,
/// is announced as lost where it would have come.
inline void engine::fill_from_newest(std::uint32_t slot, subscription& sub) noexcept {
  stream& st = stream_of(sub);
  channel_state& c = *st.owner;
  const newest_by_key& values = *c.newest_;
  walk& w = walks_[sub.record];
  const auto visible = [&](std::string_view audience) {
    return audience.empty() || sees(slot, audience);
  };
  if (w.to_log) st.trim(now_);
  const std::uint64_t gone = w.to_log ? gone_up_to(st) : UINT64_MAX;
  bool ok = true;
  std::uint64_t bytes = 0;
  for (std::uint32_t i = values.after(w.position); ok && bytes < options_.flush_share;
       i = values[i].newer) {
    const std::uint64_t told = w.position > w.unsaid_to ? w.position : w.unsaid_to;
    const bool last = i == none || values[i].position > gone;
    if (values.lost_before(i, told, last ? gone : UINT64_MAX, visible)) {
      event_id first = i == none ? c.sequence_->last + 1 : values[i].position;
      if (last && w.to_log) first = first_possible(st);
      ok = push_gap(slot, c, {w.position, first, 0, false, c.options_.ids != id_mode::none}, true);
    }
    if (last) {
      const bool opens = w.opens;
      const std::uint64_t to = w.to_log ? st.log.find(w.position) : st.log.end();
      walks_.give_back(sub.record);
      go_live(sub, to);
      if (opens) ok = ok && push_position(slot);
      break;
    }
    w.position = values[i].position;
    if (!visible(values[i].audience.view())) continue;
    ok = ok && lanes_.push(sessions_[slot].lane, values[i].bytes, lane_kind::event);
    bytes += values[i].bytes->size;
  }
  if (!ok) mark_dead(slot, close_reason::no_memory);
}

/// Asks the channel's hook for events that the log let go, until the log takes over.
inline void engine::fill_from_hook(std::uint32_t slot, subscription& sub) noexcept {
  stream& st = stream_of(sub);
  channel_state& c = *st.owner;
  st.trim(now_);
  const event_id floor = gone_up_to(st);
  const event_id first = first_possible(st);
  const std::size_t room =
      options_.flush_share < options_.control_lane ? options_.flush_share : options_.control_lane;
  const backfill_request request{id_of(slot), sub.filled_to, first, room};
  backfill_writer writer{*this, request, c.options_.limits};
  backfill_state state;
  {
    const quiet q{*this};
    state = c.options_.backfill(request, writer);
  }
  sub.filled_to = writer.last_;
  if (writer.failed_) {
    mark_dead(slot, close_reason::no_memory);
  } else if (state == backfill_state::done ||
             (state == backfill_state::more && writer.last_ >= floor)) {
    go_live(sub, st.log.find(writer.last_));
  } else if (state == backfill_state::lost) {
    if (c.newest_ != nullptr && c.options_.start == start_at::snapshot) {
      if (start_walk(sub, {.position = writer.last_, .to_log = true})) {
        fill_from_newest(slot, sub);
      } else {
        mark_dead(slot, close_reason::no_memory);
      }
    } else {
      go_live(sub, st.log.retained());
      if (!push_gap(slot, c, {writer.last_, first, 0, false}, true))
        mark_dead(slot, close_reason::no_memory);
    }
  } else if (state == backfill_state::more && writer.bytes_ == 0) {
    enqueue(ready_, slot);  // nothing now: ask again in the next flush
  }
}

}  // namespace sse::inline v0::detail

namespace sse::inline v0 {

inline bool backfill_writer::add(event_id id, const event& e) noexcept {
  detail::id_text text;
  event out = e;
  out.id = text.view(id);
  const encode_plan p = plan(out, *limits_);
  if (id <= last_ || id >= request_.before || p.error != encode_error::none ||
      !engine_->lanes_.push(engine_->sessions_[request_.session.slot].lane, out,
                            detail::lane_kind::event)) {
    failed_ = true;
    return false;
  }
  last_ = id;
  bytes_ += p.size;
  return true;
}

}  // namespace sse::inline v0
