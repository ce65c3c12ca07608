// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Channels: opened, found, freed, and what is remembered of a closed one.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_CHANNELS_HPP
#define SSEHUB_DETAIL_ENGINE_CHANNELS_HPP

#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

#include <sse/detail/engine/timers.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Gives a stream its number; none: memory is out.
inline std::uint32_t engine::list_stream(stream& st) noexcept {
  if (!backlogs_.reserve(streams_.in_use() + 1)) return none;
  const std::uint32_t i = streams_.take();
  if (i >= subscription::max_streams) return none;  // none too
  streams_[i].here = &st;
  st.index = i;
  return i;
}

inline void engine::unlist_stream(stream& st) noexcept {
  if (st.index == none) return;
  untouch(st);
  backlogs_.remove(st.index);
  backlog_ -= st.backlog;
  if (st.handed_out.seg != nullptr) pool_.unpin(st.handed_out.seg);
  streams_[st.index].here = nullptr;
  streams_.give_back(st.index);
}

/// The stream of a channel's transient entries, made when first needed; nullptr: memory is out.
inline stream* engine::transients_of(channel_state& c) noexcept {
  if (c.transients_ != nullptr) return c.transients_;
  void* const p = allocate(sizeof(stream));
  if (p == nullptr) return nullptr;
  auto* const st = ::new (p) stream(pool_, {.events = 0}, c);
  if (list_stream(*st) == none || !st->log.ensure_tail()) {
    unlist_stream(*st);
    st->~stream();
    deallocate(p);
    return nullptr;
  }
  st->transients = true;
  hand_out(*st);
  c.transients_ = st;
  return st;
}

/// What its options say, copied and made countable. False: memory is out.
inline bool engine::make_channel(channel_state& c, std::string_view name,
                                 channel_options&& o) noexcept {
  if (!c.name_.assign(name) || !c.texts_.assign(o.heartbeat.text, o.heartbeat.type, o.metrics_name))
    return false;
  c.options_ = std::move(o);
  channel_options& opts = c.options_;
  if (opts.max_lag == 0) opts.max_lag = UINT64_MAX;
  if (opts.soft_lag_for.is_off()) opts.soft_lag = 0;
  const std::string_view texts = c.texts_.view();
  std::size_t at = 0;
  for (std::string_view* const text :
       {&opts.heartbeat.text, &opts.heartbeat.type, &opts.metrics_name}) {
    *text = texts.substr(at, text->size());
    at += text->size();
  }
  if (opts.heartbeat.every.is_off()) opts.heartbeat.mode = heartbeat_options::pace::off;
  if (opts.max_keys == 0 &&
      (opts.on_lag == lag_policy::coalesce || opts.start == start_at::snapshot)) {
    opts.max_keys = 10'000;
  }
  if (opts.max_keys != 0) {
    void* const table = allocate(sizeof(newest_by_key));
    if (table == nullptr) return false;
    c.newest_ = ::new (table) newest_by_key(opts.max_keys, options_.seed);
  }
  if (opts.latency) {
    void* const counts = allocate(sizeof(latency_counts));
    if (counts == nullptr) return false;
    c.latency_ = ::new (counts) latency_counts;
  }
  return list_stream(c.main_) != none && names_.acquire(name) != none;
}

/// Where its ids begin. A channel that was closed goes on where it ended, and knows that what it
/// had is forgotten: ids are not given twice, and a resume is told.
inline void engine::begin_sequence(channel_state& c) noexcept {
  const channel_options& o = c.options_;
  const std::uint32_t known = closed_.find(c.name());
  event_id before = known != none ? closed_[known].last : no_id;
  if (!o.own_sequence) {
    if (known == none) before = closed_floor_;
  } else {
    const event_id unsaid = o.ids == id_mode::given ? no_id : options_.first_id;
    c.own_.start = said_or(o.first_id, unsaid);
    const bool chosen = o.first_id != unsaid_id || o.ids == id_mode::given;
    if (known != none) {
      if (before > c.own_.start) c.own_.start = closed_[known].start;
    } else if (!chosen && own_closed_floor_ > c.own_.start) {
      c.own_.start = before = own_closed_floor_;
    }
    c.own_.last = before > c.own_.start ? before : c.own_.start;
  }
  if (before != no_id) c.main_.log.forget_up_to(before);
  if (c.newest_ != nullptr && o.ids != id_mode::none) {
    const event_id gone = before > sequence_of(c).start ? before : sequence_of(c).start;
    if (gone != no_id) c.newest_->begin_behind(gone);
  }
  if (known != none) forget(known);
}

inline open_result engine::open_channel(std::string_view name, channel_options&& o) noexcept {
  if (quiet_) return {{}, open_error::in_hook};
  if (find_state(name) != nullptr) return {{}, open_error::taken};
  if (channels_.size() >= max_channels) return {{}, open_error::too_many};
  o.keep_age = countable(o.keep_age, longest_age);
  o.max_value_age = countable(o.max_value_age, longest_age);
  o.soft_lag_for = countable(o.soft_lag_for);
  o.heartbeat.every = countable(o.heartbeat.every);
  if (o.keep_sealed != duration::infinite()) o.keep_sealed = countable(o.keep_sealed, longest_age);
  if (o.limits.event > 0xfff00000U) o.limits.event = 0xfff00000U;  // sizes in the log have 32 bits
  const retention keep{o.keep, o.keep_bytes, o.keep_age};
  if (!channels_.reserve(channels_.size() + 1) || !closing_.reserve(channels_.size() + 1) ||
      !timers_.reserve(sessions_.extent() + channels_.size() + 1) || !cells_.reserve_one()) {
    return {{}, open_error::no_memory};
  }
  void* const p = allocate(sizeof(channel_state));
  if (p == nullptr) return {{}, open_error::no_memory};
  auto* const c = ::new (p) channel_state(*this, pool_, keep);
  if (!make_channel(*c, name, std::move(o))) {
    delete_channel(c);
    return {{}, open_error::no_memory};
  }
  names_[names_.find(name)] = c;
  begin_sequence(*c);
  c->index_ = channels_.size();
  channels_.push_reserved(c);
  c->cell_ = cells_.take();
  cells_[c->cell_].here = c;
  cells_[c->cell_].number = ++channel_numbers_;
  if (c->options_.heartbeat.mode == heartbeat_options::pace::fixed) {
    c->due_ = now_ + c->options_.heartbeat.every.ms();
  }
  arm_channel(*c);
  return {handle_of(*c), open_error::none};
}

inline channel_state* engine::find_state(std::string_view name) const noexcept {
  const std::uint32_t i = names_.find(name);
  return i == none ? nullptr : names_[i];
}

inline channel engine::find_channel(std::string_view name) const noexcept {
  const channel_state* const c = find_state(name);
  return c == nullptr ? channel{} : handle_of(*c);
}

inline channel_state* engine::find(channel c) const noexcept {
  channel_state* const here = c.state();
  return here != nullptr && here->engine_ == this ? here : nullptr;
}

/// A channel that a verdict joins. REQUIRES: bad_join() found nothing.
inline channel_state& engine::joined(const joining& j, std::uint32_t i) const noexcept {
  channel_state* const c = find(j.channels[i]);
  SSEHUB_ASSERT(c != nullptr);
  return *c;
}

/// Destroys one that no list has.
inline void engine::delete_channel(channel_state* c) noexcept {
  if (c->transients_ != nullptr) {
    unlist_stream(*c->transients_);
    c->transients_->~stream();
    deallocate(c->transients_);
  }
  unlist_stream(c->main_);
  if (c->newest_ != nullptr) {
    c->newest_->~newest_by_key();
    deallocate(c->newest_);
  }
  deallocate(c->latency_);
  c->~channel_state();
  deallocate(c);
}

/// REQUIRES: no readers left.
inline void engine::free_channel(channel_state* c) noexcept {
  SSEHUB_ASSERT(c->main_.readers.empty());
  if (!c->closing_) names_.release(names_.find(c->name()));
  timers_.disarm(timer_places::channel_bit | c->index_);
  const std::uint32_t index = c->index_;
  if (index + 1 != channels_.size()) {  // the last channel takes its number
    channel_state* const last = channels_.back();
    const std::int64_t when = timers_.when(timer_places::channel_bit | last->index_, now_);
    timers_.disarm(timer_places::channel_bit | last->index_);
    channels_[index] = last;
    last->index_ = index;
    if (when != INT64_MAX) timers_.arm(timer_places::channel_bit | index, when, now_);
  }
  channels_.pop_back();
  count_closed(*c);
  cells_[c->cell_].number = 0;
  cells_.give_back(c->cell_);
  delete_channel(c);
}

// --- closed channels -----------------------------------------------------------------------------
// The last thousand are remembered by name. Of older ones only the highest id is: one that is
// opened after so many may announce a gap that is none, never the other way round.

inline void engine::remember(const channel_state& c) noexcept {
  constexpr std::uint32_t most = 1024;
  const bool own = c.options_.own_sequence;
  const event_id last = own ? c.own_.last : c.main_.log.last_id();
  if (last == no_id || c.options_.ids == id_mode::none) return;
  const std::uint32_t i = closed_.acquire(c.name());
  if (i == none) {  // memory is out
    raise_floor({.last = last, .own = own});
    return;
  }
  closed_[i] = {c.own_.start, last, own, closed_newest_, none};
  (closed_newest_ == none ? closed_oldest_ : closed_[closed_newest_].newer) = i;
  closed_newest_ = i;
  if (closed_.size() <= most) return;
  raise_floor(closed_[closed_oldest_]);
  forget(closed_oldest_);
}

/// What it counted stays counted: by the names of their metrics, of the first so many, so that this
/// stays small.
inline void engine::count_closed(const channel_state& c) noexcept {
  constexpr std::uint32_t most = 1024;
  const std::string_view name = c.options_.metrics_name;
  std::uint32_t i = closed_groups_.find(name);
  if (i == none && (name.empty() || closed_groups_.size() < most)) i = closed_groups_.acquire(name);
  if (i == none) i = closed_groups_.find({});
  if (i == none) i = closed_groups_.acquire({});
  if (i == none) return;  // memory is out
  closed_groups_[i].add(c.counters_.stats());
  if (c.latency_ != nullptr) closed_groups_[i].latency.add(*c.latency_);
}
inline channel_stats engine::closed_group(std::uint32_t i) const noexcept {
  channel_stats s = closed_groups_[i];
  s.group = closed_groups_.name_of(i);
  return s;
}

inline void engine::raise_floor(const closed_channel& c) noexcept {
  event_id& floor = c.own ? own_closed_floor_ : closed_floor_;
  if (c.last > floor) floor = c.last;
}

inline void engine::forget(std::uint32_t i) noexcept {
  const closed_channel& c = closed_[i];
  (c.older == none ? closed_oldest_ : closed_[c.older].newer) = c.newer;
  (c.newer == none ? closed_newest_ : closed_[c.newer].older) = c.older;
  closed_.release(i);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

inline detail::channel_state* channel::state() const noexcept {
  return cell_ != nullptr && cell_->number == number_ ? cell_->here : nullptr;
}

inline channel::operator bool() const noexcept {
  const detail::channel_state* const c = state();
  return c != nullptr && !c->closing_;
}
inline std::string_view channel::name() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr ? std::string_view{} : c->name();
}
inline const channel_options* channel::options() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr ? nullptr : &c->options_;
}
inline bool channel::sealed() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr || c->closing_ || c->sealed_;
}
inline std::size_t channel::subscribers() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr ? 0 : c->subscribers();
}
inline event_id channel::last_id() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr ? no_id : detail::engine::sequence_of(*c).last;
}
inline channel_stats channel::stats() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr ? channel_stats{} : c->stats();
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_DETAIL_ENGINE_CHANNELS_HPP
