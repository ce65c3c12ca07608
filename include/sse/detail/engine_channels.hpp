// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Channels: opened, found, closed.
#pragma once

#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

#include <sse/detail/engine.hpp>

namespace sse::inline v0::detail {

inline stream* engine::make_stream(channel& c, const retention& keep) noexcept {
  void* p = allocate(sizeof(stream));
  if (p == nullptr) return nullptr;
  return ::new (p) stream(pool_, keep, c);
}

inline channel* engine::open_channel(std::string_view name, channel_options&& o) noexcept {
  if (find_channel(name) != nullptr || channels_.size() >= (1U << 27)) return nullptr;
  o.keep_age = countable(o.keep_age, longest_age);
  o.soft_lag_for = countable(o.soft_lag_for);
  o.heartbeat.every = countable(o.heartbeat.every);
  if (o.limits.event > 0xfff00000U) o.limits.event = 0xfff00000U;  // sizes in the log have 32 bits
  const retention keep{o.keep, o.keep_bytes, o.keep_age};
  if (!channels_.reserve(channels_.size() + 1) || !streams_.reserve(streams_.size() + 1) ||
      !timers_.reserve(sessions_.extent() + channels_.size() + 1)) {
    return nullptr;
  }
  void* p = allocate(sizeof(channel));
  if (p == nullptr) return nullptr;
  auto* c = ::new (p) channel(*this, pool_, keep);
  if (!c->name_.assign(name) || !c->heartbeat_text_.assign(o.heartbeat.text) ||
      !c->heartbeat_type_.assign(o.heartbeat.type)) {
    c->~channel();
    deallocate(p);
    return nullptr;
  }
  c->options_ = std::move(o);
  if (c->options_.max_lag == 0) c->options_.max_lag = UINT64_MAX;
  if (c->options_.soft_lag_for.is_off()) c->options_.soft_lag = 0;
  c->options_.heartbeat.text = c->heartbeat_text_.view();
  c->options_.heartbeat.type = c->heartbeat_type_.view();
  if (c->options_.heartbeat.every.is_off())
    c->options_.heartbeat.mode = heartbeat_options::pace::off;
  if (c->options_.own_sequence) {
    const bool own = c->options_.first_id != no_id || c->options_.ids == id_mode::given;
    c->own_.start = c->own_.last = own ? c->options_.first_id : options_.first_id;
  } else {
    c->sequence_ = &sequence_;
  }
  if (c->options_.max_keys == 0 &&
      (c->options_.on_lag == lag_policy::coalesce || c->options_.start == start_at::snapshot)) {
    c->options_.max_keys = 10'000;
  }
  if (c->options_.max_keys != 0) {
    void* table = allocate(sizeof(latest_values));
    if (table == nullptr) {
      c->~channel();
      deallocate(p);
      return nullptr;
    }
    c->latest_ = ::new (table) latest_values(c->options_.max_keys, options_.seed);
  }
  c->index_ = channels_.size();
  c->main_.index = streams_.size();
  channels_.push_reserved(c);
  streams_.push_reserved(&c->main_);
  if (c->options_.heartbeat.mode == heartbeat_options::pace::fixed) {
    c->next_heartbeat_ = now_ + c->options_.heartbeat.every.ms();
  }
  arm_channel(*c);
  return c;
}

inline channel* engine::find_channel(std::string_view name) const noexcept {
  for (std::uint32_t i = 0; i < channels_.size(); ++i) {
    if (channels_[i]->name() == name) return channels_[i];
  }
  return nullptr;
}

inline void engine::close_channel(channel& c) noexcept {
  for (stream* st : {&c.main_, c.ephemeral_}) {
    if (st == nullptr) continue;
    for (std::uint32_t i : st->readers) mark_dead(subs_[i].session, close_reason::channel);
  }
  reap();
  free_channel(&c);
}

/// REQUIRES: no readers left.
inline void engine::free_channel(channel* c) noexcept {
  timers_.disarm(timer_places::channel_bit | c->index_);
  for (stream* st : {c->ephemeral_, &c->main_}) {
    if (st == nullptr) continue;
    for (stream** at = &touched_; *at != nullptr; at = &(*at)->next_touched) {
      if (*at == st) {
        *at = st->next_touched;
        break;
      }
    }
    backlog_ -= st->backlog;
    streams_.back()->index = st->index;
    streams_[st->index] = streams_.back();
    for (std::uint32_t i : streams_.back()->readers) subs_[i].stream_index = st->index & 0xfffffffU;
    streams_.pop_back();
  }
  if (c->ephemeral_ != nullptr) {
    c->ephemeral_->~stream();
    deallocate(c->ephemeral_);
  }
  if (c->latest_ != nullptr) {
    c->latest_->~latest_values();
    deallocate(c->latest_);
  }
  const std::uint32_t index = c->index_;
  if (index + 1 != channels_.size()) {  // the last channel takes its number
    channel* last = channels_.back();
    const std::int64_t when = timers_.when(timer_places::channel_bit | last->index_, now_);
    timers_.disarm(timer_places::channel_bit | last->index_);
    channels_[index] = last;
    last->index_ = index;
    if (when != INT64_MAX) timers_.arm(timer_places::channel_bit | index, when, now_);
  }
  channels_.pop_back();
  c->~channel();
  deallocate(c);
}

}  // namespace sse::inline v0::detail
