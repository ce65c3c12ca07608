// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What is behind a channel: its log, its rules, its counters; and how a handle (sse::channel) knows
// that it is still there.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_CHANNEL_STATE_HPP
#define SSEHUB_DETAIL_ENGINE_CHANNEL_STATE_HPP

#include <cstdint>
#include <string_view>

#include <sse/channel.hpp>
#include <sse/detail/base/blob.hpp>
#include <sse/detail/engine/stream.hpp>
#include <sse/detail/log/newest_by_key.hpp>
#include <sse/event.hpp>
#include <sse/stats.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// What handles point at. It stays where it is while the hub lives, and is used again: then it has
/// another number.
struct channel_cell {
  union {
    channel_state* here;
    std::uint32_t link;
  };
  std::uint64_t number;  ///< of the channel; 0: free

  channel_cell() noexcept : here{nullptr}, number{0} {}
  [[nodiscard]] std::uint32_t& free_link() noexcept { return link; }
};

/// See channel_stats.
struct channel_counters {
  std::uint64_t published = 0;
  std::uint64_t delivered = 0;
  std::uint64_t dropped = 0;
  std::uint64_t coalesced = 0;
  std::uint64_t gaps = 0;
  std::uint64_t replays = 0;

  [[nodiscard]] channel_stats stats() const noexcept {
    channel_stats s;
    s.published = published;
    s.delivered = delivered;
    s.dropped = dropped;
    s.coalesced = coalesced;
    s.gaps = gaps;
    s.replays = replays;
    return s;
  }
};

class channel_state {
 public:
  channel_state(const channel_state&) = delete;
  channel_state& operator=(const channel_state&) = delete;

  [[nodiscard]] std::string_view name() const noexcept { return name_.view(); }
  [[nodiscard]] std::size_t subscribers() const noexcept { return main_.readers.size(); }
  /// Somebody reads it, or gets the rest of an event of it.
  [[nodiscard]] bool read() const noexcept {
    return !main_.readers.empty() || (transients_ != nullptr && !transients_->readers.empty());
  }
  [[nodiscard]] channel_stats stats() const noexcept {
    channel_stats s = counters_.stats();
    s.name = name();
    s.group = options_.metrics_name;
    s.subscribers = subscribers();
    s.retained_events = main_.log.retained_events();
    s.retained_bytes = main_.log.retained_bytes();
    s.backlog_bytes =
        main_.log.backlog() + (transients_ != nullptr ? transients_->log.backlog() : 0);
    s.last_id = main_.log.last_id();
    if (latency_ != nullptr) s.latency = *latency_;
    return s;
  }

 private:
  friend class engine;
  friend struct timer_places;
  friend class sse::channel;

  channel_state(engine& e, segment_pool& pool, const retention& keep) noexcept
      : engine_{&e}, main_{pool, keep, *this} {}
  ~channel_state() = default;

  engine* engine_;
  owned_text name_;
  owned_text texts_;  // those of its options, one behind the other
  channel_options options_;
  sequence own_;  // with own_sequence; see engine::sequence_of
  stream main_;
  stream* transients_ = nullptr;     // made when first needed
  newest_by_key* newest_ = nullptr;  // only with max_keys
  latency_counts* latency_ = nullptr;
  channel_counters counters_;
  std::uint32_t index_ = none;  // in engine::channels_
  std::uint32_t cell_ = none;   // in engine::cells_
  std::uint32_t timer_ = none;  // place in the timer queue
  bool joined_ = false;         // by the verdict that is looked at
  bool sealed_ = false;         // there will be no more events
  bool closing_ = false;        // freed when the outermost call ends
  /// ms: its next heartbeat (pace::fixed), or, once it is sealed, its end.
  std::int64_t due_ = INT64_MAX;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_CHANNEL_STATE_HPP
