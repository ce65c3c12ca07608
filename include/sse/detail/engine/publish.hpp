// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Bytes in: an event becomes a log entry, once, whoever reads it; a unicast event becomes a lane
// item.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_PUBLISH_HPP
#define SSEHUB_DETAIL_ENGINE_PUBLISH_HPP

#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>

#include <sse/detail/engine/weave.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

[[nodiscard]] constexpr publish_error to_publish_error(encode_error e) noexcept {
  switch (e) {
    case encode_error::none: return publish_error::none;
    case encode_error::bad_type: return publish_error::bad_type;
    case encode_error::bad_id: return publish_error::bad_id;
    case encode_error::bad_retry: return publish_error::bad_retry;
    default: return publish_error::too_large;
  }
}

/// Makes an entry known to the stream's index before it is appended. False: memory is out.
inline bool engine::index_audience(stream& st, std::string_view audience) noexcept {
  if (st.ask) return true;
  if (ask_who_sees_) {  // the host's rule: from now on it is asked for all of them
    st.ask = true;
    return true;
  }
  if (st.audiences == nullptr) {
    void* const p = allocate(sizeof(audience_index));
    if (p == nullptr) return false;
    st.audiences = ::new (p) audience_index(options_.seed);
  }
  return st.audiences->add(audience, st.log.end());
}

/// `meta` comes with id and flags, the rest is told here.
inline publish_error engine::append(stream& st, const event& e, new_entry& meta,
                                    const publish_options& o,
                                    const encode_limits& limits) noexcept {
  std::string_view id;
  encode_plan p{encode_error::none, e.data.size(), 0};
  if (!o.encoded) {
    id = last_id_.view(meta.id);
    p = plan_as(e, id, limits);
  } else if (p.size > limits.event) {
    p.error = encode_error::too_large;
  }
  if (p.error != encode_error::none) return to_publish_error(p.error);
  meta.size = static_cast<std::uint32_t>(p.size);
  meta.audience = o.audience;
  meta.stamp = stamp_ + 1;
  meta.at = present_;
  char* const at = st.log.prepare(meta);
  if (at == nullptr || (!o.audience.empty() && !index_audience(st, o.audience)))
    return publish_error::no_memory;
  if (o.encoded) {
    put(at, e.data);
  } else {
    encode_as(at, e, id, p);
  }
  const std::size_t id_line = id.empty() ? 0 : id.size() + 5;
  meta.text = {at + id_line, p.size - id_line};
  ++stamp_;
  st.log.commit(meta);
  st.trim(now_);
  announce(st, o.audience, !o.key.empty() && st.selecting != 0);
  return publish_error::none;
}

/// Sees to it that the next flush serves those who may see what was appended last. `keyed`: those
/// who chose their keys are told by wake_watchers().
inline void engine::announce(stream& st, std::string_view audience, bool keyed) noexcept {
  if (st.owner->main_.readers.empty()) return;
  touch(st);
  if (audience.empty() || st.ask) {
    st.dirty = true;
    st.for_all = st.for_all || !keyed;
  } else {
    serve_user(st, audience);
  }
  want();
}

/// An entry for one user: its sessions that read the stream are served in the next flush, the
/// others are not looked at.
inline void engine::serve_user(stream& st, std::string_view key) noexcept {
  const std::uint32_t user = caps_.find_user(key);
  if (user == none) return;
  const work w{*this};
  const std::uint32_t index = st.owner->main_.index;
  for (std::uint32_t slot = caps_.first_of(user); slot != none; slot = caps_.next_of_user(slot)) {
    if (!serving(sessions_[slot])) continue;
    for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
      if (subs_[i].stream_index != index) continue;
      if (st.transients && !add_transients(i)) mark_dead(slot, close_reason::no_memory);
      enqueue(live_, slot);
      break;
    }
  }
}

inline publish_result engine::publish(channel c, const event& e,
                                      const publish_options& o) noexcept {
  channel_state* const here = c.state();
  if (here == nullptr) return {no_id, publish_error::closed};
  if (here->engine_ != this) return {no_id, publish_error::another_hub};
  return publish(*here, e, o);
}

inline publish_result engine::publish(channel_state& c, const event& e,
                                      const publish_options& o) noexcept {
  if (quiet_) return {no_id, publish_error::in_hook};
  if (c.closing_) return {no_id, publish_error::closed};
  if (c.sealed_) return {no_id, publish_error::sealed};
  const bool given = c.options_.ids == id_mode::given && !o.transient;
  if (!e.id.empty() || (o.id != no_id && !given)) return {no_id, publish_error::bad_id};
  if (o.encoded && (!e.type.empty() || e.retry != no_retry || !e.data.ends_with("\n\n"))) {
    return {no_id, publish_error::bad_type};
  }
  if (!names_fit(o)) return {no_id, publish_error::too_large};
  sequence& seq = sequence_of(c);
  stream* st = &c.main_;
  new_entry meta;
  if (o.transient) {
    if ((st = transients_of(c)) == nullptr) return {no_id, publish_error::no_memory};
  } else if (given) {
    meta.id = o.id;
    const event_id least = o.repeats_id ? seq.last : seq.last + 1;
    if (o.id < least || o.id == no_id || o.id > max_event_id)
      return {no_id, publish_error::id_order};
  } else if (c.options_.ids == id_mode::automatic) {
    meta.id = seq.last + 1;
    const bool taken = options_.given_ids && &seq == &sequence_;  // by whoever gives them
    if (meta.id > max_event_id || taken) return {no_id, publish_error::id_order};
  }
  if (const publish_error bad = append(*st, e, meta, o, c.options_.limits);
      bad != publish_error::none) {
    return {no_id, bad};
  }
  if (meta.id != no_id) seq.last = meta.id;
  ++c.counters_.published;
  if (c.newest_ != nullptr && !o.transient) {
    const bool state = !o.key.empty() && o.role != key_role::barrier;
    state ? put_newest(c, meta, o) : put_keyless(c, meta, o);
  }
  if (o.transient && c.main_.readers.empty()) hand_out(*st);  // nobody is to have it
  if (!c.options_.keep_age.is_off()) {
    arm_channel(c);
    want();  // its host has a timer to set
  }
  if (o.last) seal(c);
  return {meta.id, publish_error::none};
}

/// What was appended last is no state of a key.
inline void engine::put_keyless(channel_state& c, const new_entry& meta,
                                const publish_options& o) noexcept {
  const std::uint64_t position = meta.id != no_id ? meta.id : meta.stamp;
  values_of(c.main_).put_keyless(position, c.main_.log.end() - 1, o.audience, o.key);
  if (!o.key.empty() && c.main_.selecting != 0) wake_watchers(c, o.key, barrier, o.audience);
}

/// It is the newest state of its key.
inline void engine::put_newest(channel_state& c, const new_entry& meta,
                               const publish_options& o) noexcept {
  const std::uint64_t position = meta.id != no_id ? meta.id : meta.stamp;
  std::string_view text = meta.text;
  if (o.encoded && meta.id != no_id && text.starts_with("id: "))
    text.remove_prefix(text.find('\n') + 1);
  c.newest_->put({o.key, position, text, o.audience, o.role == key_role::erase, meta.at});
  if (c.main_.selecting != 0) wake_watchers(c, o.key, position, o.audience);
}

inline publish_error engine::send(session_id id, const event& e) noexcept {
  if (quiet_) return publish_error::in_hook;
  session* s = find(id);
  if (s == nullptr || !serving(*s)) return publish_error::no_session;
  if (s->chunked != none && chunks_.ended(s->chunked))
    return publish_error::no_session;               // too late
  if (!e.id.empty()) return publish_error::bad_id;  // it would move the client's resume point
  const encode_plan p = plan(e);
  if (p.error != encode_error::none) return to_publish_error(p.error);
  // One event always fits, so that a small lane does not make a large event unsendable.
  if (s->lane != none && lanes_.waiting(s->lane) + p.size > options_.control_lane)
    return publish_error::full;
  if (!lanes_.push(s->lane, e, lane_kind::event)) return publish_error::no_memory;
  enqueue(live_, id.slot);
  want();
  return publish_error::none;
}

inline std::size_t engine::send_user(std::string_view key, const event& e) noexcept {
  const std::uint32_t user = caps_.find_user(key);
  if (user == none) return 0;
  std::size_t n = 0;
  for (std::uint32_t slot = caps_.first_of(user); slot != none; slot = caps_.next_of_user(slot)) {
    if (send(id_of(slot), e) == publish_error::none) ++n;
  }
  return n;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

inline publish_result channel::publish(const event& e, const publish_options& o) const noexcept {
  detail::channel_state* const here = state();
  if (here == nullptr) return {no_id, publish_error::closed};
  return here->engine_->publish(*here, e, o);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_DETAIL_ENGINE_PUBLISH_HPP
