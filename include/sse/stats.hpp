// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// stats: what happened so far, as plain numbers; append_prometheus writes them as text exposition
// format 0.0.4.
//
//   std::string page;
//   sse::append_prometheus(page, hub.stats(), hub.channel_stats());
//
// Copies; take them on the hub's thread, use them anywhere.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <sse/detail/base/decimal.hpp>
#include <sse/detail/base/utf8.hpp>
#include <sse/transport.hpp>

namespace sse::inline v0 {

struct channel_stats {
  std::string_view name{};        ///< valid while the channel is open
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

namespace detail {
inline void append_number(std::string& out, std::uint64_t n) {
  char digits[max_digits];
  out.append(digits, put_decimal(digits, n));
}
inline void append_family(std::string& out, std::string_view name, std::string_view type,
                          std::string_view help) {
  out.append("# HELP ")
      .append(name)
      .append(" ")
      .append(help)
      .append("\n# TYPE ")
      .append(name)
      .append(" ");
  out.append(type).append("\n");
}
/// The format is UTF-8: one byte that is not fails the whole page. It stands as U+FFFD and its hex
/// digits, so that names stay apart.
inline void append_label(std::string& out, std::string_view value) {
  constexpr std::string_view digits = "0123456789abcdef";
  while (!value.empty()) {
    const utf8_step step = next_utf8(value);
    for (const char c : value.substr(0, step.size)) {
      if (!step.valid) {
        const auto byte = static_cast<unsigned char>(c);
        out.append("\xEF\xBF\xBD").append({digits[byte / 16], digits[byte % 16]});
      } else if (c == '\n') {
        out.append("\\n");
      } else {
        if (c == '\\' || c == '"') out.push_back('\\');
        out.push_back(c);
      }
    }
    value.remove_prefix(step.size);
  }
}
}  // namespace detail

/// Appends every counter as Prometheus text. Throws only if std::string does.
inline void append_prometheus(std::string& out, const hub_stats& h,
                              std::span<const channel_stats> channels) {
  const auto single = [&](std::string_view name, std::string_view type, std::string_view help,
                          std::uint64_t v) {
    detail::append_family(out, name, type, help);
    out.append(name).append(" ");
    detail::append_number(out, v);
    out.push_back('\n');
  };
  single("sse_sessions", "gauge", "Open streams.", h.sessions);
  single("sse_accepted_total", "counter", "Streams opened.", h.accepted);
  single("sse_refused_total", "counter", "Streams refused.", h.refused);
  single("sse_writes_total", "counter", "Transport writes.", h.writes);
  single("sse_bytes_total", "counter", "Bytes taken by transports.", h.bytes);
  single("sse_heartbeats_total", "counter", "Heartbeats sent.", h.heartbeats);
  single("sse_log_bytes", "gauge", "Memory held by all logs.", h.log_bytes);
  detail::append_family(out, "sse_closed_total", "counter", "Streams closed, by reason.");
  for (std::size_t i = 0; i < close_reason_count; ++i) {
    out.append("sse_closed_total{reason=\"")
        .append(to_string(static_cast<close_reason>(i)))
        .append("\"} ");
    detail::append_number(out, h.closed[i]);
    out.push_back('\n');
  }
  const auto family = [&](std::string_view name, std::string_view type, std::string_view help,
                          std::uint64_t channel_stats::*field) {
    detail::append_family(out, name, type, help);
    for (const channel_stats& c : channels) {
      out.append(name).append("{channel=\"");
      detail::append_label(out, c.name);
      out.append("\"} ");
      detail::append_number(out, c.*field);
      out.push_back('\n');
    }
  };
  family("sse_channel_subscribers", "gauge", "Subscribers.", &channel_stats::subscribers);
  family("sse_channel_published_total", "counter", "Events published.", &channel_stats::published);
  family("sse_channel_delivered_total", "counter", "Events delivered.", &channel_stats::delivered);
  family("sse_channel_dropped_total", "counter", "Events skipped for slow readers.",
         &channel_stats::dropped);
  family("sse_channel_coalesced_total", "counter",
         "Events left for the newest of each key by slow readers.", &channel_stats::coalesced);
  family("sse_channel_gaps_total", "counter", "Gap frames sent.", &channel_stats::gaps);
  family("sse_channel_replays_total", "counter", "Joins that resumed.", &channel_stats::replays);
  family("sse_channel_retained_events", "gauge", "Events kept for resuming.",
         &channel_stats::retained_events);
  family("sse_channel_retained_bytes", "gauge", "Bytes kept for resuming.",
         &channel_stats::retained_bytes);
  family("sse_channel_backlog_bytes", "gauge", "Bytes held for slow readers.",
         &channel_stats::backlog_bytes);
}

}  // namespace sse::inline v0
