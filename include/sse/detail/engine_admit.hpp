// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// accept: how many there may be, where a subscriber begins, and the one gap frame if something it
// asked for is gone.
#pragma once

#include <charconv>
#include <string>

#include <sse/detail/engine.hpp>

namespace sse::inline v0::detail {

inline response refusal(int status, std::string_view error, duration retry_after) {
  std::string body = "{\"error\":\"";
  body.append(error).append("\"}");
  response r = response::json(status, std::move(body));
  if (!retry_after.is_off()) {
    const std::int64_t seconds = (retry_after.ms() + 999) / 1000;
    r.add("Retry-After", std::to_string(seconds));
  }
  return r;
}

/// The oldest stream that `user` or `address` counts (both none: of all).
inline std::uint32_t engine::oldest(std::uint32_t user, std::uint32_t address) noexcept {
  std::uint32_t found = none;
  const auto look_at = [&](std::uint32_t slot) {
    const session& s = sessions_[slot];
    if (!s.counted || (address != none && s.address != address)) return;
    if (found == none || static_cast<std::int32_t>(s.generation - sessions_[found].generation) < 0)
      found = slot;
  };
  if (user != none) {
    for (std::uint32_t slot = users_[user].first; slot != none && found == none;
         slot = sessions_[slot].user_next)
      look_at(slot);
  } else {
    for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot) look_at(slot);
  }
  return found;
}

/// Closes a stream to make room, with a last word about when to come back.
inline void engine::evict(std::uint32_t slot, duration retry) noexcept {
  char line[32];
  if (!retry.is_off() &&
      push_lane_bytes(slot,
                      {line, static_cast<std::size_t>(encode_retry_to(line, retry.ms()) - line)})) {
    pump(slot);
  }
  mark_dead(slot, close_reason::evicted);
  reap();
}

/// How many of the victims a cap counts.
inline std::uint32_t engine::leaving(const victims& v, std::uint32_t user,
                                     std::uint32_t address) const noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t i = 0; i < v.count; ++i) {
    const session& s = sessions_[v.slots[i]];
    if ((user == none || s.user == user) && (address == none || s.address == address)) ++n;
  }
  return n;
}

inline void engine::say_full(const cap& c, accept_result& out) {
  out.refusal = refusal(c.then == when_full::retry_stream ? 200 : c.status, "too_many_streams",
                        c.retry_after);
  out.retry_after = c.retry_after;
}

/// Whether one more fits under a cap that counts `count` now, once the victims are gone; one more
/// of them may be needed for it. If not, `out` says why.
inline bool engine::fits(const cap& c, std::uint32_t count, std::uint32_t user,
                         std::uint32_t address, victims& v, accept_result& out) {
  if (c.max == 0 || count - leaving(v, user, address) < c.max) return true;
  if (c.then == when_full::evict_oldest) {
    if (const std::uint32_t slot = oldest(user, address); slot != none) {
      v.slots[v.count] = slot;
      v.retry[v.count++] = c.retry_after;
      return true;
    }
  }
  say_full(c, out);
  return false;
}

/// Places with the counter that several hubs share, all or none: between the look and this another
/// hub may have been faster. Where a victim makes room its place is given back right after.
inline bool engine::take_places(std::uint32_t user, std::uint32_t address, const victims& v,
                                accept_result& out) {
  cap_counter* const counter = options_.counter;
  if (counter == nullptr) return true;
  std::uint32_t taken = 0;
  const auto take = [&](cap_counter::kind k, const cap& c, std::string_view key, std::uint32_t u,
                        std::uint32_t a) {
    if (c.max == 0) return true;
    if (!counter->take(k, key, leaving(v, u, a) != 0 ? 0 : c.max)) {
      give_back(user, address, taken);
      say_full(c, out);
      return false;
    }
    taken |= 1U << static_cast<unsigned>(k);
    return true;
  };
  const limits& caps = options_.caps;
  using kind = cap_counter::kind;
  return (user == none || take(kind::user, caps.per_user, users_[user].key.view(), user, none)) &&
         (address == none ||
          take(kind::address, caps.per_address, addresses_[address].key.view(), none, address)) &&
         take(kind::total, caps.total, {}, none, none);
}

inline void engine::give_back(std::uint32_t user, std::uint32_t address,
                              std::uint32_t kinds) noexcept {
  cap_counter* const counter = options_.counter;
  if (counter == nullptr) return;
  const limits& caps = options_.caps;
  using kind = cap_counter::kind;
  const auto has = [&](kind k, const cap& c) {
    return c.max != 0 && (kinds & (1U << static_cast<unsigned>(k))) != 0;
  };
  if (user != none && has(kind::user, caps.per_user))
    counter->give_back(kind::user, users_[user].key.view());
  if (address != none && has(kind::address, caps.per_address)) {
    counter->give_back(kind::address, addresses_[address].key.view());
  }
  if (has(kind::total, caps.total)) counter->give_back(kind::total, {});
}

inline bool engine::precheck(accept_result& out) {
  if (draining_) {
    out.refusal = refusal(503, "draining", options_.retry_max);
    out.retry_after = options_.retry_max;
    return false;
  }
  // Only who is admitted may evict.
  const cap& total = options_.caps.total;
  victims nobody;
  return total.then == when_full::evict_oldest ||
         fits(total, held(cap_counter::kind::total, {}, total, counted_), none, none, nobody, out);
}

inline std::uint32_t engine::admit(const request& r, const joining& j, resume_point& resume,
                                   accept_result& out) {
  const auto fail = [&](int status, std::string_view error,
                        duration retry_after = duration::off()) {
    out.refusal = refusal(status, error, retry_after);
    return none;
  };
  if (j.count == 0 || j.count > max_joins) return fail(500, "bad_join");
  if (j.until != time_point::never() && origin_ == INT64_MIN)
    return fail(500, "until_without_tick");
  for (std::uint32_t i = 0; i < j.count; ++i) {
    const channel& c = *j.channels[i];
    if (c.engine_ != this) return fail(500, "channel_of_another_hub");
    if (c.sequence_ != j.channels[0]->sequence_) return fail(500, "channels_of_two_sequences");
    for (std::uint32_t k = 0; k < i; ++k) {
      if (j.channels[k] == &c) return fail(500, "joined_twice");
    }
    if (c.options_.max_subscribers != 0 && c.subscribers() >= c.options_.max_subscribers) {
      return fail(options_.caps.total.status, "channel_full", options_.caps.total.retry_after);
    }
  }
  struct holder {  // of names, until a session has them
    names& in;
    std::uint32_t i = none;
    ~holder() {
      if (i != none) in.release(i);
    }
  };
  holder user_name{users_};
  holder address_name{addresses_};
  if (!j.key.empty()) user_name.i = users_.acquire(j.key);
  if (!r.address.empty()) address_name.i = addresses_.acquire(r.address);
  const std::uint32_t user = user_name.i;
  const std::uint32_t address = address_name.i;
  if ((user == none && !j.key.empty()) || (address == none && !r.address.empty())) {
    return fail(503, "no_memory", options_.retry_max);
  }
  const limits& caps = options_.caps;
  victims v;  // nobody goes unless all caps are met
  using kind = cap_counter::kind;
  const auto count = [&](kind k, names& in, std::uint32_t i, const cap& c) {
    return held(k, in[i].key.view(), c, in[i].count);
  };
  if ((user != none &&
       !fits(caps.per_user, count(kind::user, users_, user, caps.per_user), user, none, v, out)) ||
      (address != none &&
       !fits(caps.per_address, count(kind::address, addresses_, address, caps.per_address), none,
             address, v, out)) ||
      !fits(caps.total, held(kind::total, {}, caps.total, counted_), none, none, v, out)) {
    return none;
  }
  resume = resume_from(r, options_.resume_query);
  if (resume.state == resume_point::kind::malformed) return fail(400, "bad_params");
  if (j.after_given) resume = {resume_point::kind::given, j.after};
  if (!take_places(user, address, v, out)) return none;
  for (std::uint32_t i = 0; i < v.count; ++i) evict(v.slots[i], v.retry[i]);
  const std::uint32_t slot = take_slot(r);
  if (slot == none) {
    give_back(user, address);
    return fail(503, "no_memory", options_.retry_max);
  }

  session& s = sessions_[slot];
  user_name.i = address_name.i = none;
  s.counted = true;
  ++counted_;
  s.user = user;
  s.address = address;
  if (address != none) ++addresses_[address].count;
  if (user != none) {
    name& u = users_[user];
    ++u.count;
    s.user_prev = u.last;
    (u.last == none ? u.first : sessions_[u.last].user_next) = slot;
    u.last = slot;
  }
  if (!options_.max_age.is_off()) {
    const auto spread = static_cast<std::uint64_t>(options_.max_age.ms() / 10);
    s.ends_at = now_ + options_.max_age.ms() -
                static_cast<std::int64_t>(spread == 0 ? 0 : random() % spread);
  }
  if (j.until != time_point::never() && j.until.ms() - origin_ < s.ends_at) {
    s.ends_at = j.until.ms() - origin_;
  }

  bool ok = push_lane_bytes(slot, r.preamble, lane_kind::head);
  if (ok && !options_.retry.is_off()) {
    char line[32];
    ok = push_lane_bytes(
        slot, {line, static_cast<std::size_t>(encode_retry_to(line, options_.retry.ms()) - line)});
  }
  if (ok && opening_frame_ != nullptr) ok = push_lane(slot, opening_frame_);
  if (!ok) {
    abandon(slot);
    return fail(503, "no_memory", options_.retry_max);
  }
  out.id = id_of(slot);
  return slot;
}

inline void engine::abandon(std::uint32_t slot) noexcept {
  count_out(slot);
  leave_user(slot);
  if (sessions_[slot].user != none) users_.release(sessions_[slot].user);
  bury(slot);
}

/// A stream that says when to come back, and ends. Not counted: the write deadline bounds it.
inline std::uint32_t engine::admit_retry_stream(const request& r, duration retry) noexcept {
  const std::uint32_t slot = take_slot(r);
  if (slot == none) return none;
  char line[32];
  const std::string_view text{line,
                              static_cast<std::size_t>(encode_retry_to(line, retry.ms()) - line)};
  if (!push_lane_bytes(slot, r.preamble, lane_kind::head) || !push_lane_bytes(slot, text)) {
    bury(slot);
    return none;
  }
  sessions_[slot].state = session_state::finishing;
  sessions_[slot].why = close_reason::finished;
  sessions_[slot].retry_only = true;
  return slot;
}

/// Subscribes. REQUIRES: connection and user are in place. Out of memory: the session is dead.
inline void engine::join(std::uint32_t slot, const joining& j,
                         const resume_point& resume) noexcept {
  ++stats_.accepted;
  if (!subscribe(slot, j, resume)) mark_dead(slot, close_reason::no_memory);
}

/// The first bytes go out at once.
inline void engine::open(std::uint32_t slot) noexcept {
  arm(slot);
  session& s = sessions_[slot];
  if (on_presence && s.user != none) {
    for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
      stream& st = stream_of(subs_[i]);
      if (!st.ephemeral && joined(s.user, st) == 1)
        on_presence(*st.owner, users_[s.user].key.view(), true);
    }
  }
  pump(slot);
  reap();
}

/// The oldest id that can still come: the oldest retained, or the next to be published.
inline event_id engine::first_possible(const stream& st) noexcept {
  const event_log& log = st.log;
  return log.retained() < log.end() ? log[log.retained()].id : st.owner->sequence_->last + 1;
}

/// Where a reader that is too slow goes on.
inline std::uint64_t engine::skip_target(const stream& st) noexcept {
  return st.owner->options_.on_lag == lag_policy::oldest ? st.log.retained() : st.log.end();
}

/// The first id that a session can still get, over all its channels.
inline event_id engine::next_id(std::uint32_t slot) noexcept {
  event_id next = max_event_id;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const stream& st = stream_of(subs_[i]);
    if (st.ephemeral || st.owner->options_.ids == id_mode::none) continue;
    event_id id = st.owner->sequence_->last + 1;
    std::uint64_t at = st.log.end();
    if (subs_[i].coalescing) {
      const std::uint32_t value = st.owner->latest_->after(subs_[i].live_from);
      if (value != none) id = (*st.owner->latest_)[value].position;
    } else if (subs_[i].skipping) {
      at = skip_target(st);
    } else if (!subs_[i].backfilling) {
      at = st.log.locate(position(subs_[i]));
    }
    while (at < st.log.end() && !sees(slot, st.log[at])) ++at;
    if (at < st.log.end()) id = st.log[at].id;
    if (id < next) next = id;
  }
  return next;
}

inline bool engine::subscribe(std::uint32_t slot, const joining& j,
                              const resume_point& resume) noexcept {
  const event_id after = resume.after;
  const sequence& seq = *j.channels[0]->sequence_;
  const bool ahead = after > seq.last;
  std::uint32_t gaps = 0;  // bit i: channel i lost something
  for (std::uint32_t i = 0; i < j.count; ++i) {
    channel& c = *j.channels[i];
    event_log& log = c.main_.log;
    log.trim(now_);
    if (!add_reader(slot, c.main_)) return false;
    subscription& sub = subs_[c.main_.readers.back()];
    std::uint64_t at = log.end();
    if (resume.state != resume_point::kind::given || c.options_.ids == id_mode::none) {
      const start_at start = j.start_given ? j.start : c.options_.start;
      if (j.backlog != 0) {
        at = log.newest(j.backlog);
      } else if (start == start_at::all) {
        at = log.retained();
      } else if (start == start_at::snapshot && c.latest_ != nullptr && j.count == 1) {
        release_cursor(sub);
        sub.backfilling = sub.coalescing = sub.snapshot = 1;
        sub.live_from = 0;
      }
    } else if (ahead) {
      if (gaps == 0) gaps = 1U << i;  // live, and told once
    } else {
      ++c.counters_.replays;
      at = log.find(after);
      // Gone from the log: what retention let go, and all that was before this run.
      if ((after != 0 || j.after_given) && (after < log.forgotten_id() || after < seq.start)) {
        if (c.options_.backfill && j.count == 1) {
          release_cursor(sub);
          sub.backfilling = 1;
          sub.live_from = after;
        } else if (after != 0) {
          gaps |= 1U << i;
        }
      }
    }
    if (!sub.backfilling) place_at(sub, at);
    if (c.ephemeral_ != nullptr && !add_reader(slot, *c.ephemeral_)) return false;
  }
  for (std::uint32_t i = 0; i < j.count; ++i) {
    if ((gaps & (1U << i)) == 0) continue;
    const channel& c = *j.channels[i];
    const event_id first = ahead ? seq.last + 1 : first_possible(c.main_);
    // Consecutive ids of this run can be counted.
    const bool known = !ahead && c.options_.own_sequence && c.options_.ids == id_mode::automatic &&
                       after >= seq.start && !c.main_.log.selective();
    if (!push_gap(slot, c, {after, first, known ? first - after - 1 : 0, known}, true))
      return false;
  }
  return true;
}

/// Tells a session of a loss on one channel: `event: gap`, `data:
/// {"requested":R,"first":F,"lost":N}`. F is the first id that can come from that channel; `id:` is
/// one below the first that can come from any (the same, where there is one channel), so that ids
/// never run back and a resume from it misses nothing. Without ids (lost transient events) R and F
/// are null and the client's last id stays as it is.
inline bool engine::push_gap(std::uint32_t slot, const channel& where, const loss& what,
                             bool with_ids) noexcept {
  char data[128];
  char* p = data;
  const auto put = [&](std::string_view s) {
    std::memcpy(p, s.data(), s.size());
    p += s.size();
  };
  const auto number = [&](bool known, std::uint64_t n) {
    if (known) {
      p = std::to_chars(p, p + 20, n).ptr;
    } else {
      put("null");
    }
  };
  put("{\"requested\":");
  number(with_ids, what.requested);
  put(",\"first\":");
  number(with_ids, what.first);
  put(",\"lost\":");
  number(what.known, what.lost);
  put("}");
  const event_id before = with_ids ? next_id(slot) - 1 : no_id;
  char id[20];
  const std::string_view id_view{
      id, static_cast<std::size_t>(std::to_chars(id, id + sizeof id, before).ptr - id)};
  const event e{.type = "gap",
                .data = {data, static_cast<std::size_t>(p - data)},
                .id = with_ids ? id_view : std::string_view{}};
  if (!push_lane_event(slot, e, lane_kind::control)) return false;
  ++channels_[where.index_]->counters_.gaps;
  if (on_gap) {
    on_gap({id_of(slot), &where, with_ids ? what.requested : no_id, with_ids ? what.first : no_id,
            what.lost, what.known});
  }
  return true;
}

}  // namespace sse::inline v0::detail
