// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// stats: what happened so far, as plain numbers. Copies; take them on the hub's thread, use them
// anywhere. sse/metrics.hpp makes a page for Prometheus of them.
#pragma once

#include <cstdint>
#include <string_view>

#include <sse/transport.hpp>

namespace sse::inline v0 {

struct channel_stats {
  std::string_view name{};   ///< valid while the channel is open; empty: a sum over closed ones
  std::string_view group{};  ///< channel_options::metrics_name; valid as name
  std::uint64_t subscribers = 0;  ///< now
  std::uint64_t published = 0;    ///< events accepted, transient ones too, heartbeats not
  /// Events handed whole to transports, heartbeats in the log too.
  std::uint64_t delivered = 0;
  /// Events that slow subscribers were skipped over, each announced by a gap.
  std::uint64_t dropped = 0;
  /// Events that slow subscribers left for the newest of each key.
  std::uint64_t coalesced = 0;
  std::uint64_t gaps = 0;             ///< gap frames
  std::uint64_t replays = 0;          ///< joins that resumed from a Last-Event-ID
  std::uint64_t retained_events = 0;  ///< now
  std::uint64_t retained_bytes = 0;   ///< now
  std::uint64_t backlog_bytes = 0;    ///< now, held only for readers that are behind
  std::uint64_t last_id = 0;

  /// The counters of both together; `last_id` is the higher one.
  constexpr void add(const channel_stats& o) noexcept {
    subscribers += o.subscribers;
    published += o.published;
    delivered += o.delivered;
    dropped += o.dropped;
    coalesced += o.coalesced;
    gaps += o.gaps;
    replays += o.replays;
    retained_events += o.retained_events;
    retained_bytes += o.retained_bytes;
    backlog_bytes += o.backlog_bytes;
    if (o.last_id > last_id) last_id = o.last_id;
  }
};

struct hub_stats {
  std::uint64_t sessions = 0;  ///< now
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;  ///< by shape, caps, the admit hook, or while draining
  std::uint64_t writes = 0;   ///< calls of Transport::write
  std::uint64_t bytes = 0;    ///< bytes taken by transports
  std::uint64_t heartbeats = 0;
  std::uint64_t log_bytes = 0;                    ///< now, memory of all logs
  std::uint64_t closed[close_reason_count] = {};  ///< by close_reason
};

}  // namespace sse::inline v0
