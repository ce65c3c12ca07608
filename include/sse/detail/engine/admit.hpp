// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// accept: who may, who goes for it, and the first bytes.
#pragma once

#include <string>
#include <string_view>

#include <sse/detail/engine/deadlines.hpp>
#include <sse/detail/http/ip_address.hpp>

namespace sse::inline v0::detail {

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
  if (c.sequence_ != joined(j, 0).sequence_) return refusal_reason::another_sequence;
  if (c.joined_) return refusal_reason::joined_twice;
  const std::uint32_t most = c.options_.max_subscribers;
  return most != 0 && c.subscribers() >= most ? refusal_reason::channel_full : refusal_reason::none;
}

/// Why a live session cannot join.
inline join_error engine::bad_join(std::uint32_t slot, channel to) const noexcept {
  const channel_state* const here = to.state();
  if (here == nullptr || here->closing_) return join_error::closed;
  const channel_state& c = *here;
  if (c.engine_ != this) return join_error::another_hub;
  if (c.sealed_) return join_error::sealed;
  std::uint32_t joined = 0;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    const stream& st = stream_of(sub);
    if (st.transients || sub.from() == source::left) continue;
    ++joined;
    if (st.owner == &c) return join_error::joined;
    if (st.owner->sequence_ != c.sequence_) return join_error::another_sequence;
  }
  if (options_.max_joins != 0 && joined >= options_.max_joins) return join_error::too_many;
  const std::uint32_t most = c.options_.max_subscribers;
  return most != 0 && c.subscribers() >= most ? join_error::full : join_error::none;
}

inline join_error engine::join(session_id id, channel to) noexcept {
  if (quiet_) return join_error::in_hook;
  const session* const s = find(id);
  if (s == nullptr || s->state != session_state::live) return join_error::no_session;
  if (const join_error bad = bad_join(id.slot, to); bad != join_error::none) return bad;
  channel_state& c = *to.state();
  const work w{*this};
  std::uint32_t last = s->first;
  while (last != none && subs_[last].next != none) last = subs_[last].next;
  c.main_.trim(now_);
  const std::uint32_t i = add_reader(id.slot, c.main_, last);
  if (i == none) return join_error::no_memory;
  if (pass_transients(i) == none) {
    detach(id.slot, last);
    return join_error::no_memory;
  }
  go_live(subs_[i], c.main_.log.end());
  arm(id.slot);
  begin_presence(id.slot, c.main_);
  want();  // its host has a timer to set
  return join_error::none;
}

/// When the stream ends by itself: its age, less some so that not all end together, or the
/// verdict's time.
inline void engine::set_end(session& s, const joining& j) noexcept {
  if (!options_.max_age.is_off()) {
    const auto spread = static_cast<std::uint64_t>(options_.max_age.ms() / 10);
    s.ends_at = now_ + options_.max_age.ms() - static_cast<std::int64_t>(random_.below(spread));
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
    if (!c.sealed_ || !nothing_comes(c, j, resume)) return false;
  }
  return true;
}

/// Of one channel. Where the host's rule says who sees what, that is not asked here: its stream
/// opens, and ends.
inline bool engine::nothing_comes(const channel_state& c, const joining& j,
                                  const resume_point& resume) const noexcept {
  const beginning b = beginning_of(c, j, resume);
  if (b.from == source::newest && !b.resumes) return c.newest_->after(0) == none;
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
    return fail(bad, bad == refusal_reason::no_memory ? 503 : 500);
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
  if (j.after_given) resume = {resume_point::kind::given, j.after};
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
  ++stats_.accepted;
  if (subscribe(slot, j, resume)) {
    finish_if_sealed(slot);
  } else {
    mark_dead(slot, close_reason::no_memory);
  }
}

/// The first bytes go out at once, while this turn has some left for that.
inline void engine::open(std::uint32_t slot) noexcept {
  SSEHUB_ASSERT(depth_ != 0);
  if (!serving(sessions_[slot])) return;
  arm(slot);
  tell_presence(slot);
  if (accept_budget_ == 0) {
    enqueue(ready_, slot);
    want();
    return;
  }
  const std::uint64_t sent = pump(slot);
  accept_budget_ -= sent < accept_budget_ ? sent : accept_budget_;
}

}  // namespace sse::inline v0::detail
