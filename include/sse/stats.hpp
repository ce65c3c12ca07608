// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// stats: what happened so far, as plain numbers. Copies; take them on the hub's thread, use them
// anywhere. sse/metrics.hpp makes a page for Prometheus of them.
#pragma once
#ifndef SSEHUB_STATS_HPP
#define SSEHUB_STATS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/transport.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Why a request is refused.
enum class refusal_reason : std::uint8_t {
  none,
  verdict,        ///< the program's own, with its own answer
  http,           ///< as HTTP has it: the status says what
  draining,       ///< 503
  bad_params,     ///< a resume position in the query that cannot be read: 400
  too_many,       ///< a cap: its status
  channel_full,   ///< channel_options::max_subscribers: the status of the cap in all
  no_verdict,     ///< none came in time (server_options::verdict_deadline), or before a drain: 503
  behind,         ///< a shard that has not yet what its client got elsewhere: 503
  no_memory,      ///< 503
  too_many_keys,  ///< of one watch_options: 400
  // Mistakes of the program, 500.
  in_hook,             ///< accept() in a hook that may not call it
  bad_header,          ///< verdict::header
  no_channel,          ///< a verdict that joins none
  too_many_channels,   ///< hub_options::max_joins
  joined_twice,        ///< one channel
  another_hub,         ///< a channel of it
  closed,              ///< a channel that is closed
  another_sequence,    ///< channels whose ids are of two sequences
  no_keys,             ///< watch_options::keys of a channel that has none
  until_without_tick,  ///< verdict::until before the hub knew the time
};

/// As the library's own answers say it.
[[nodiscard]] constexpr std::string_view to_string(refusal_reason r) noexcept {
  switch (r) {
    case refusal_reason::none: return "none";
    case refusal_reason::verdict: return "verdict";
    case refusal_reason::http: return "http";
    case refusal_reason::draining: return "draining";
    case refusal_reason::bad_params: return "bad_params";
    case refusal_reason::too_many: return "too_many_streams";
    case refusal_reason::channel_full: return "channel_full";
    case refusal_reason::no_verdict: return "no_verdict";
    case refusal_reason::behind: return "behind";
    case refusal_reason::no_memory: return "no_memory";
    case refusal_reason::too_many_keys: return "too_many_keys";
    case refusal_reason::in_hook: return "in_hook";
    case refusal_reason::bad_header: return "bad_header";
    case refusal_reason::no_channel: return "no_channel";
    case refusal_reason::too_many_channels: return "too_many_channels";
    case refusal_reason::joined_twice: return "joined_twice";
    case refusal_reason::another_hub: return "channel_of_another_hub";
    case refusal_reason::closed: return "channel_closed";
    case refusal_reason::another_sequence: return "channels_of_two_sequences";
    case refusal_reason::no_keys: return "channel_without_keys";
    case refusal_reason::until_without_tick: return "until_without_tick";
  }
  return "unknown";
}
/// For tables of them.
inline constexpr std::size_t refusal_reason_count =
    static_cast<std::size_t>(refusal_reason::until_without_tick) + 1;

/// How long events waited from their publish until the transport had them whole, by hub time, for
/// each reader (channel_options::latency). Not what is replayed.
struct latency_counts {
  /// Of the buckets, in ms: an event is in the first whose bound it does not exceed; the last has
  /// none.
  static constexpr std::uint32_t bounds[] = {0,   1,   2,   5,     10,    20,    50,
                                             100, 200, 500, 1'000, 2'000, 5'000, 10'000};
  /// One more than there are bounds.
  static constexpr std::size_t buckets = sizeof bounds / sizeof bounds[0] + 1;
  std::uint64_t in[buckets] = {};  ///< events
  std::uint64_t total_ms = 0;      ///< of all of them

  /// One more. `ms`: below 0 is 0.
  constexpr void add(std::int64_t ms) noexcept {
    const std::uint64_t waited = ms < 0 ? 0 : static_cast<std::uint64_t>(ms);
    std::size_t i = 0;
    while (i + 1 != buckets && waited > bounds[i]) ++i;
    ++in[i];
    total_ms += waited;
  }
  /// Both together.
  constexpr void add(const latency_counts& o) noexcept {
    for (std::size_t i = 0; i < buckets; ++i) in[i] += o.in[i];
    total_ms += o.total_ms;
  }
  /// All buckets together.
  [[nodiscard]] constexpr std::uint64_t events() const noexcept {
    std::uint64_t n = 0;
    for (const std::uint64_t x : in) n += x;
    return n;
  }
};

/// What a channel counted since it was opened, and what it holds now.
struct channel_stats {
  /// Valid while the channel is open (of a sequencer's: while that lives); empty: a sum over closed
  /// ones.
  std::string_view name{};
  std::string_view group{};       ///< channel_options::metrics_name; valid as name
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
  std::uint64_t last_id = 0;          ///< given out last
  latency_counts latency{};           ///< all 0: channel_options::latency is off

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
    latency.add(o.latency);
  }
};

/// What became of a channel's events for one stream (hub.session_stats). Of what was published
/// since it came, once nothing waits for it, each is in one of the first three; on a channel with
/// audiences `conflated` and `lost` may have some that others would have got.
struct session_counts {
  std::uint64_t delivered = 0;  ///< handed whole to the transport, replayed ones too; no heartbeats
  std::uint64_t conflated = 0;  ///< left out, since newer ones of their keys came
  std::uint64_t lost = 0;       ///< skipped, and announced by a gap frame
  std::uint64_t snapshot = 0;   ///< values handed to it that were there before it came

  /// Both together.
  constexpr void add(const session_counts& o) noexcept {
    delivered += o.delivered;
    conflated += o.conflated;
    lost += o.lost;
    snapshot += o.snapshot;
  }
};

/// What a hub counted since it was made, and what it holds now.
struct hub_stats {
  std::uint64_t sessions = 0;  ///< now
  std::uint64_t accepted = 0;  ///< streams that were opened
  std::uint64_t refused = 0;   ///< by shape, caps, the admit hook, or while draining
  std::uint64_t refused_by[refusal_reason_count] = {};  ///< the same, by refusal_reason
  std::uint64_t writes = 0;                             ///< calls of Transport::write
  std::uint64_t bytes = 0;                              ///< bytes taken by transports
  std::uint64_t heartbeats = 0;                         ///< sent
  std::uint64_t log_bytes = 0;                          ///< now, memory of all logs
  std::uint64_t closed[close_reason_count] = {};        ///< by close_reason
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_STATS_HPP
