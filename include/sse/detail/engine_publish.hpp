// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Bytes in: an event becomes a log entry, once, whoever reads it; a unicast event becomes a lane
// item.
#pragma once

#include <charconv>
#include <string>

#include <sse/detail/engine.hpp>

namespace sse::inline v0::detail {

[[nodiscard]] constexpr publish_error to_publish_error(encode_error e) noexcept {
  switch (e) {
    case encode_error::none: return publish_error::none;
    case encode_error::bad_type: return publish_error::bad_type;
    case encode_error::bad_id: return publish_error::bad_id;
    case encode_error::bad_retry: return publish_error::bad_retry;
    default: return publish_error::too_large;
  }
}

/// An event id as decimal text.
class id_text {
 public:
  explicit id_text(event_id id) noexcept {
    if (id != no_id)
      size_ = static_cast<std::size_t>(std::to_chars(digits_, digits_ + sizeof digits_, id).ptr -
                                       digits_);
  }
  [[nodiscard]] std::string_view view() const noexcept { return {digits_, size_}; }

 private:
  char digits_[20];
  std::size_t size_ = 0;
};

inline publish_error engine::append(stream& st, const event& e, entry meta,
                                    const publish_options& o,
                                    const encode_limits& limits) noexcept {
  const std::string_view audience = o.audience;
  const id_text id{meta.id};
  event out = e;
  out.id = id.view();
  encode_plan p{encode_error::none, e.data.size(), 0};
  if (!o.encoded) {
    p = plan(out, limits);
  } else if (p.size > limits.event) {
    p.error = encode_error::too_large;
  }
  if (p.error != encode_error::none) return to_publish_error(p.error);
  char* at = st.log.prepare(static_cast<std::uint32_t>(p.size),
                            static_cast<std::uint32_t>(audience.size()));
  if (at == nullptr) return publish_error::no_memory;
  if (!audience.empty()) std::memcpy(at, audience.data(), audience.size());
  if (o.encoded) {
    put(at + audience.size(), e.data);
  } else {
    encode_to(at + audience.size(), out, p);
  }
  meta.stamp = ++stamp_;
  meta.at = now_;
  meta.size = static_cast<std::uint32_t>(p.size);
  meta.audience = static_cast<std::uint16_t>(audience.size());
  st.log.commit(meta);
  st.log.trim(now_);
  if (!st.readers.empty()) {
    st.dirty = true;
    touch(st);
  }
  return publish_error::none;
}

inline publish_result engine::publish(channel& c, const event& e,
                                      const publish_options& o) noexcept {
  const bool given = c.options_.ids == id_mode::given && !o.transient;
  if (!e.id.empty() || (o.id != no_id && !given)) return {no_id, publish_error::bad_id};
  if (o.encoded && (!e.type.empty() || e.retry != no_retry || !e.data.ends_with("\n\n"))) {
    return {no_id, publish_error::bad_type};
  }
  if (o.audience.size() > 0xffff) return {no_id, publish_error::too_large};
  sequence& seq = *c.sequence_;
  stream* st = &c.main_;
  entry meta;
  if (o.transient) {
    if ((st = ephemeral(c)) == nullptr) return {no_id, publish_error::no_memory};
  } else if (given) {
    meta.id = o.id;
    if (o.id <= seq.last || o.id > max_event_id) return {no_id, publish_error::id_order};
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
  if (c.latest_ != nullptr && !o.transient) {
    c.latest_->put(o.key, meta.id != no_id ? meta.id : stamp_,
                   c.main_.log[c.main_.log.end() - 1].bytes(), o.audience);
  }
  if (!c.options_.keep_age.is_off()) arm_channel(c);
  return {meta.id, publish_error::none};
}

/// The stream of a channel's transient entries, made when first needed; its readers are then those
/// of the channel.
inline stream* engine::ephemeral(channel& c) noexcept {
  if (c.ephemeral_ != nullptr) return c.ephemeral_;
  if (!streams_.reserve(streams_.size() + 1)) return nullptr;
  stream* st = make_stream(c, {.events = 0});
  if (st == nullptr) return nullptr;
  st->ephemeral = true;
  st->index = streams_.size();
  streams_.push_reserved(st);
  for (std::uint32_t i : c.main_.readers) {
    if (!add_reader(subs_[i].session, *st)) {
      // Out of memory: this session would miss entries, so it is closed and comes back.
      mark_dead(subs_[i].session, close_reason::no_memory);
    }
  }
  c.ephemeral_ = st;
  reap();
  return st;
}

/// Subscribes a session to a stream, at its end.
inline bool engine::add_reader(std::uint32_t slot, stream& st) noexcept {
  if (!st.log.ensure_tail() || !st.readers.reserve(st.readers.size() + 1)) return false;
  const std::uint32_t i = subs_.take();
  if (i == none) return false;
  subscription& sub = subs_[i];
  sub = subscription{};
  sub.session = slot;
  sub.stream_index = st.index & 0xfffffffU;
  sub.place = st.readers.size();
  st.readers.push_reserved(i);
  std::uint32_t* at = &sessions_[slot].first;
  while (*at != none) at = &subs_[*at].next;
  *at = i;
  place_at(sub, st.log.end());
  sub.live_from = st.log.end_offset();
  watch_lag(st, sub.live_from);
  return true;
}

inline publish_error engine::send(session_id id, const event& e) noexcept {
  session* s = find(id);
  if (s == nullptr || !serving(*s)) return publish_error::no_session;
  if (!e.id.empty()) return publish_error::bad_id;  // it would move the client's resume point
  const encode_plan p = plan(e);
  if (p.error != encode_error::none) return to_publish_error(p.error);
  // One event always fits, so that a small lane does not make a large event unsendable.
  if (s->lane != none && lane_bytes(*s) + p.size > options_.control_lane)
    return publish_error::lane_full;
  if (!push_lane_event(id.slot, e)) return publish_error::no_memory;
  queue(id.slot);
  return publish_error::none;
}

inline std::size_t engine::send_user(std::string_view key, const event& e) noexcept {
  const std::uint32_t user = users_.find(key);
  if (user == none) return 0;
  std::size_t n = 0;
  for (std::uint32_t slot = users_[user].first; slot != none; slot = sessions_[slot].user_next) {
    if (send(id_of(slot), e) == publish_error::none) ++n;
  }
  return n;
}

// --- heartbeats ----------------------------------------------------------------------------------

/// A heartbeat's bytes, or nullptr: out of memory, or text that no frame may hold.
inline blob* engine::make_heartbeat(channel& c) noexcept {
  const heartbeat_options& h = c.options_.heartbeat;
  std::string made;
  std::string_view text = h.text;
  if (h.payload) {
    h.payload(made);
    text = made;
  }
  if (h.comment) {
    if (check_comment(text) != encode_error::none) return nullptr;
    blob* b = make_blob(static_cast<std::uint32_t>(encoded_comment_size(text)));
    if (b != nullptr) encode_comment_to(b->bytes(), text);
    return b;
  }
  const event e{.type = h.type, .data = text};
  if (check(e) != encode_error::none) return nullptr;
  blob* b = make_blob(static_cast<std::uint32_t>(encoded_size(e)));
  if (b != nullptr) encode_to(b->bytes(), e);
  return b;
}

/// A fixed-pace heartbeat goes to all readers as one transient entry.
inline void engine::publish_heartbeat(channel& c) noexcept {
  if (c.main_.readers.empty()) return;
  stream* st = ephemeral(c);
  blob* b = make_heartbeat(c);
  if (st != nullptr && b != nullptr) {
    if (char* at = st->log.prepare(b->size, 0); at != nullptr) {
      std::memcpy(at, b->bytes(), b->size);
      entry meta;
      meta.stamp = ++stamp_;
      meta.at = now_;
      meta.size = b->size;
      meta.heartbeat = true;
      st->log.commit(meta);
      st->log.trim(now_);
      st->dirty = true;
      touch(*st);
      stats_.heartbeats += c.main_.readers.size();
    }
  }
  if (b != nullptr) unref(b);
}

}  // namespace sse::inline v0::detail

namespace sse::inline v0 {

inline publish_result channel::publish(const event& e, const publish_options& o) noexcept {
  return engine_->publish(*this, e, o);
}

}  // namespace sse::inline v0
