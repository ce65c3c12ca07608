// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// accept: who may, who goes for it, and the first bytes. What a live session joins and leaves.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_ADMIT_HPP
#define SSEHUB_DETAIL_ENGINE_ADMIT_HPP

#include <string>
#include <string_view>

#include <sse/detail/engine/deadlines.hpp>
#include <sse/detail/http/ip_address.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Says why not. The hub gives it its form.
inline void say_no(accept_result& out, refusal_reason why, int status,
                   duration retry_after = duration::off()) noexcept {
  out.why = why;
  out.refusal.status = status;
  out.retry_after = retry_after;
}

inline void say_full(const cap& c, accept_result& out) noexcept {
  say_no(out, refusal_reason::too_many, c.then == when_full::retry_stream ? 200 : c.status,
         c.retry_after);
}

inline bool engine::precheck(accept_result& out) {
  if (quiet_) {
    say_no(out, refusal_reason::in_hook, 500);
  } else if (draining_) {
    say_no(out, refusal_reason::draining, 503, options_.retry_max);
  } else if (const cap* const full = caps_.full()) {
    say_full(*full, out);
  } else {
    return true;
  }
  return false;
}

inline bool engine::precheck_address(const request& r, accept_result& out) {
  std::string prefix;
  const cap* const full =
      caps_.full(counted_address(r.address, caps_.options().ipv6_prefix, prefix));
  if (full != nullptr) say_full(*full, out);
  return full == nullptr;
}

/// Closes streams to make room, with a last word about when to come back.
inline void engine::evict(const victims& v) noexcept {
  if (v.count != 0) serve_transients();
  for (std::uint32_t i = 0; i < v.count; ++i) {
    const std::uint32_t slot = v.list[i].slot;
    if (!v.list[i].retry.is_off() &&
        lanes_.push_retry(sessions_[slot].lane, v.list[i].retry.ms())) {
      (void)pump(slot);
    }
    mark_dead(slot, close_reason::evicted);
  }
}

/// What is wrong with what the admit hook said; none: nothing.
inline refusal_reason engine::bad_join(const joining& j) noexcept {
  if (!j.channels.complete()) return refusal_reason::no_memory;
  const std::uint32_t n = j.channels.size();
  if (j.bad_header) return refusal_reason::bad_header;
  if (n == 0) return refusal_reason::no_channel;
  if (options_.max_joins != 0 && n > options_.max_joins) return refusal_reason::too_many_channels;
  if (j.until != time_point::never() && origin_ == INT64_MIN)
    return refusal_reason::until_without_tick;
  refusal_reason bad = refusal_reason::none;
  std::uint32_t marked = 0;
  while (marked < n && (bad = bad_channel(j, marked)) == refusal_reason::none) {
    joined(j, marked++).joined_ = true;
  }
  while (marked != 0) joined(j, --marked).joined_ = false;
  return bad;
}

/// Of channel `i`. Those in front of it are marked.
inline refusal_reason engine::bad_channel(const joining& j, std::uint32_t i) const noexcept {
  const channel_state* const here = j.channels[i].state();
  if (here == nullptr || here->closing_) return refusal_reason::closed;
  const channel_state& c = *here;
  if (c.engine_ != this) return refusal_reason::another_hub;
  if (&sequence_of(c) != &sequence_of(joined(j, 0))) return refusal_reason::another_sequence;
  if (c.joined_) return refusal_reason::joined_twice;
  if (watch_requests::request watch; j.watches.find(i, watch)) {
    if (c.newest_ == nullptr) return refusal_reason::no_keys;
    if (watch.keys > c.options_.max_selected) return refusal_reason::too_many_keys;
  }
  const std::uint32_t most = c.options_.max_subscribers;
  return most != 0 && c.subscribers() >= most ? refusal_reason::channel_full : refusal_reason::none;
}

/// Why a live session cannot join.
inline join_error engine::bad_join(std::uint32_t slot, channel to,
                                   const watch_options* watch) const noexcept {
  const channel_state* const here = to.state();
  if (here == nullptr || here->closing_) return join_error::closed;
  const channel_state& c = *here;
  if (c.engine_ != this) return join_error::another_hub;
  if (c.sealed_) return join_error::sealed;
  if (watch != nullptr && c.newest_ == nullptr) return join_error::no_keys;
  if (watch != nullptr && watch->keys.size() > c.options_.max_selected)
    return join_error::too_many_keys;
  std::uint32_t joined = 0;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    const stream& st = stream_of(sub);
    if (st.transients || sub.from() == source::left) continue;
    ++joined;
    if (st.owner == &c) return join_error::joined;
    if (&sequence_of(*st.owner) != &sequence_of(c)) return join_error::another_sequence;
  }
  // What its client brings when it is cut is an id of those that it left.
  const session& s = sessions_[slot];
  if (s.has_ids && c.options_.ids != id_mode::none && (s.own_ids || c.options_.own_sequence))
    return join_error::another_sequence;
  if (options_.max_joins != 0 && joined >= options_.max_joins) return join_error::too_many;
  const std::uint32_t most = c.options_.max_subscribers;
  return most != 0 && c.subscribers() >= most ? join_error::full : join_error::none;
}

/// It was not told where it stands by what it reads beside subscription `but`.
inline bool engine::stands_nowhere(const session& s, std::uint32_t but) const noexcept {
  if (!s.tells_position) return false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (i != but && sub.from() != source::left && waits_in_line(sub) && !opens(sub)) return false;
  }
  return true;
}

/// Whether a channel would begin with an id that the session has passed.
inline bool engine::moved_on(std::uint32_t slot, const channel_state& c, const joining& j,
                             const resume_point& resume, watch_request watch) noexcept {
  const session& s = sessions_[slot];
  if (!s.has_ids || c.options_.ids == id_mode::none) return false;
  event_id stands = sequence_of(c).last;  // of one that left them all, or has a write under way
  if (const event_id next = next_id(slot); s.flight == none && next <= stands) stands = next - 1;
  const beginning b = beginning_of(c, j, resume, watch);
  if (b.from == source::backfill) return resume.after < stands;
  if (b.from == source::newest || b.from == source::selected) {  // values have no ids
    const newest_by_key& values = *c.newest_;
    std::uint64_t n = b.resumes ? values.keyless_after(resume.after) : values.keyless_end();
    if (watch != nullptr && !b.resumes && j.backlog != 0)
      n = values.keyless_after(in_front_of(c.main_.log, c.main_.log.newest(j.backlog), head_of(c)));
    return n != values.keyless_end() && values.keyless(n).position <= stands;
  }
  return b.ordinal < c.main_.log.end() && c.main_.log.id_at(b.ordinal) <= stands;
}

/// A new subscription of a live session. False: memory is out.
inline bool engine::begin_at_join(std::uint32_t index, const joining& j, const resume_point& resume,
                                  watch_request watch) noexcept {
  const std::uint32_t slot = subs_[index].session;
  channel_state& c = *stream_of(subs_[index]).owner;
  bool lost = false;
  if (!begin_at(index, j, resume, watch, lost)) return false;
  if (lost) return untold_.push_back({&c, loss_at_opening(c, resume.after)}) && tell(slot);
  const subscription& sub = subs_[index];
  // What snapshots lost that it still gets is told first: no id may pass that.
  return !waits_in_line(sub) || opens(sub) || !stands_nowhere(sessions_[slot], index) ||
         tell_standing(slot);
}

inline join_error engine::join(session_id id, channel to, const join_start& from,
                               const watch_options* watch) noexcept {
  if (quiet_) return join_error::in_hook;
  const session* const s = find(id);
  if (s == nullptr || s->state != session_state::live) return join_error::no_session;
  if (const join_error bad = bad_join(id.slot, to, watch); bad != join_error::none) return bad;
  channel_state& c = *to.state();
  const work w{*this};
  joining j;
  j.start_given = true;
  j.start = from.start;
  j.backlog = from.backlog;
  j.position_given = true;
  j.position = s->tells_position;
  resume_point resume;
  if (from.after != unsaid_id) {
    j.after_given = true;
    resume = {resume_point::kind::given, from.after, from.after};
  }
  watch_requests::request asked;
  if (watch != nullptr) asked = {watch->selects(), watch->max_rate, watch->max_bytes};
  const watch_request how = watch != nullptr ? &asked : nullptr;
  c.main_.trim(now_);
  if (moved_on(id.slot, c, j, resume, how)) return join_error::moved_on;
  std::uint32_t last = s->first;
  while (last != none && subs_[last].next != none) last = subs_[last].next;
  const std::uint32_t i = add_reader(id.slot, c.main_, last);
  if (i == none) return join_error::no_memory;
  bool ok = begin_at_join(i, j, resume, how);
  for (std::size_t k = 0; watch != nullptr && ok && k < watch->keys.size(); ++k)
    ok = watch_key(i, watch->keys[k]);
  chain_fresh_keys(c);
  if (!ok || pass_transients(i) == none) {
    detach(id.slot, last);
    return join_error::no_memory;
  }
  enqueue(ready_, id.slot);
  arm(id.slot);
  begin_presence(id.slot, c.main_);
  want();  // its host has a timer to set
  return join_error::none;
}

/// Nothing else of the channel is sent to it, but the rest of a half-sent event. False: it did not
/// join it.
inline bool engine::leave(session_id id, channel c) noexcept {
  session* const s = quiet_ ? nullptr : find(id);
  channel_state* const from = find(c);
  if (s == nullptr || !serving(*s) || from == nullptr) return false;
  const work w{*this};
  std::uint32_t half_sent = none;
  bool was_there = false;
  bool opened = false;
  bool still_opens = false;
  for (std::uint32_t i = s->first; i != none; i = subs_[i].next) {
    subscription& sub = subs_[i];
    if (sub.rest != 0) half_sent = i;
    if (stream_of(sub).owner != from || sub.from() == source::left) {
      still_opens = still_opens || opens(sub);
      continue;
    }
    opened = opened || opens(sub);
    give_record_back(sub);
    sub.read_from(source::left);
    sub.with_transients = 0;
    was_there = true;
  }
  if (!was_there) return false;
  s->owes_position = s->owes_position || (opened && !still_opens);
  if (s->flight == none && depth_ == 1) {
    end_leaving(id.slot, half_sent);
    push_owed_position(id.slot);
  } else {  // a write reads it, or somebody walks through what the session reads
    enqueue(live_, id.slot);
  }
  end_presence(id.slot, from->main_);
  return true;
}

/// When the stream ends by itself: its age, less some so that not all end together, or the
/// verdict's time.
inline void engine::set_end(session& s, const joining& j) noexcept {
  if (!options_.max_age.is_off()) {
    const auto spread = static_cast<std::uint64_t>(options_.max_age.ms() / 10);
    s.ends_at = present_ + options_.max_age.ms() - static_cast<std::int64_t>(random_.below(spread));
  }
  if (j.until != time_point::never() && j.until.ms() - origin_ < s.ends_at) {
    s.ends_at = j.until.ms() - origin_;
  }
}

/// The response head, `retry:`, the opening comment. False: memory is out.
inline bool engine::push_opening(std::uint32_t slot, const request& r) noexcept {
  std::uint32_t& lane = sessions_[slot].lane;
  return lanes_.push(lane, r.preamble, lane_kind::head) &&
         (options_.retry.is_off() || lanes_.push_retry(lane, options_.retry.ms())) &&
         (opening_frame_ == nullptr || lanes_.push(lane, opening_frame_, lane_kind::control));
}

/// All of its channels are sealed, and it has all that it may see: an EventSource that is told 204
/// stays away (WHATWG HTML 9.2.3).
inline bool engine::nothing_comes(const joining& j, const resume_point& resume) const noexcept {
  for (std::uint32_t i = 0; i < j.channels.size(); ++i) {
    const channel_state& c = joined(j, i);
    watch_requests::request watch;
    const bool watches = j.watches.find(i, watch);
    if (!c.sealed_ || !nothing_comes(c, j, resume, watches ? &watch : nullptr)) return false;
  }
  return true;
}

/// Of one channel. Where the host's rule says who sees what, that is not asked here: its stream
/// opens, and ends.
inline bool engine::nothing_comes(const channel_state& c, const joining& j,
                                  const resume_point& resume, watch_request watch) const noexcept {
  const beginning b = beginning_of(c, j, resume, watch);
  if (b.from == source::newest && !b.resumes) return c.newest_->size() == 0;
  if (b.from != source::log || b.lost) return false;
  const event_log& log = c.main_.log;
  if (b.ordinal == log.end()) return true;
  if (ask_who_sees_ || c.main_.ask || c.main_.audiences == nullptr) return false;
  own_entries own = c.main_.audiences->of(j.key);
  for (log_place p = log.at(b.ordinal); p.find_entry();) {
    if (p.get().audience == 0) return false;
    p.k = next_in_segment(*p.seg, p.k, own.from(p.ordinal()));
    if (p.k != p.seg->count) return false;
  }
  return true;
}

inline std::uint32_t engine::admit(const request& r, const joining& j, resume_point& resume,
                                   accept_result& out) {
  const auto fail = [&](refusal_reason why, int status, duration retry_after = duration::off()) {
    say_no(out, why, status, retry_after);
    return none;
  };
  SSEHUB_ASSERT(depth_ != 0);
  if (const refusal_reason bad = bad_join(j); bad == refusal_reason::channel_full) {
    return fail(bad, caps_.options().total.status, caps_.options().total.retry_after);
  } else if (bad != refusal_reason::none) {
    return fail(bad, bad == refusal_reason::no_memory       ? 503
                     : bad == refusal_reason::too_many_keys ? 400
                                                            : 500);
  }
  struct held_names {  // until a session has them
    caps& in;
    counted_names names{};
    ~held_names() { in.drop(names); }
  } held{caps_};
  std::string prefix;
  const std::string_view from = counted_address(r.address, caps_.options().ipv6_prefix, prefix);
  if (!caps_.name(j.key, from, held.names))
    return fail(refusal_reason::no_memory, 503, options_.retry_max);
  victims v;  // nobody goes unless all caps are met
  if (const cap* const full = caps_.refusing(held.names, v)) {
    say_full(*full, out);
    return none;
  }
  resume = resume_from(r, options_.resume_query);
  if (resume.state == resume_point::kind::malformed) return fail(refusal_reason::bad_params, 400);
  if (j.after_given) resume = {resume_point::kind::given, j.after, j.after};
  if (nothing_comes(j, resume)) {
    out.refusal.status = 204;
    return none;
  }
  if (const cap* const full = caps_.take_places(held.names, v)) {
    say_full(*full, out);
    return none;
  }
  evict(v);
  const std::uint32_t slot = take_slot(r);
  if (slot == none) {
    caps_.give_back_places(held.names);
    return fail(refusal_reason::no_memory, 503, options_.retry_max);
  }
  caps_.enter(slot, held.names);
  held.names = {};
  set_end(sessions_[slot], j);
  if (!push_opening(slot, r)) {
    abandon(slot);
    return fail(refusal_reason::no_memory, 503, options_.retry_max);
  }
  out.id = id_of(slot);
  return slot;
}

inline bool engine::begin_wait(const request& r, counted_names& n, accept_result& out) {
  std::string prefix;
  const std::string_view from = counted_address(r.address, caps_.options().ipv6_prefix, prefix);
  if (!caps_.name({}, from, n)) {
    say_no(out, refusal_reason::no_memory, 503, options_.retry_max);
    return false;
  }
  const cap* const full = caps_.begin_wait(n);
  if (full == nullptr) return true;
  say_full(*full, out);
  caps_.drop(n);
  return false;
}

inline void engine::abandon(std::uint32_t slot) noexcept {
  caps_.count_out(slot);
  caps_.leave(slot);
  caps_.forget(slot);
  bury(slot);
}

/// A stream that says when to come back, and ends. Not counted: the write deadline bounds it.
inline std::uint32_t engine::admit_retry_stream(const request& r, duration retry) noexcept {
  SSEHUB_ASSERT(depth_ != 0);
  const std::uint32_t slot = take_slot(r);
  if (slot == none) return none;
  session& s = sessions_[slot];
  if (!lanes_.push(s.lane, r.preamble, lane_kind::head) || !lanes_.push_retry(s.lane, retry.ms())) {
    bury(slot);
    return none;
  }
  s.state = session_state::finishing;
  s.why = close_reason::finished;
  s.retry_only = true;
  return slot;
}

/// Subscribes. REQUIRES: connection and user are in place. Out of memory: the session is dead.
inline void engine::join(std::uint32_t slot, const joining& j,
                         const resume_point& resume) noexcept {
  SSEHUB_ASSERT(depth_ != 0 && sessions_[slot].first == none);
  sessions_[slot].tells_position = tells_position(j);
  ++stats_.accepted;
  if (subscribe(slot, j, resume)) {
    finish_if_sealed(slot);
  } else {
    mark_dead(slot, close_reason::no_memory);
  }
}

/// What hooks published since it joined leaves in its place among the others. False: memory is out.
inline bool engine::add_new_transients(std::uint32_t slot) noexcept {
  bool ok = true;
  for (std::uint32_t i = sessions_[slot].first; i != none && ok; i = subs_[i].next) {
    const stream& st = stream_of(subs_[i]);
    const stream* const of_channel = st.transients ? nullptr : st.owner->transients_;
    if (of_channel != nullptr && of_channel->handed_out.ordinal() != of_channel->log.end())
      ok = add_transients(i);
  }
  return ok;
}

/// The first bytes go out at once, while this turn has some left for that.
inline void engine::open(std::uint32_t slot) noexcept {
  SSEHUB_ASSERT(depth_ != 0);
  if (!serving(sessions_[slot])) return;
  arm(slot);
  tell_presence(slot);
  if (serving(sessions_[slot]) && !add_new_transients(slot))
    return mark_dead(slot, close_reason::no_memory);
  if (accept_budget_ == 0) {
    enqueue(ready_, slot);
    want();
    return;
  }
  const std::uint64_t sent = pump(slot);
  accept_budget_ -= sent < accept_budget_ ? sent : accept_budget_;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_ADMIT_HPP
