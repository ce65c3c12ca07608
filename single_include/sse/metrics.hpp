// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/metrics.hpp
//
// metrics_page: the counters of hubs, mailboxes and of the program itself as a page for Prometheus
// (text exposition format 0.0.4).
//
//   sse::metrics_page page;
//   page.add(server.hub());
//   page.add(server.mail().counts());
//   page.sample("orders_open", "gauge", "Orders that wait.", orders.size());
//   return sse::response::text(200, page.text());
//
// Several hubs on one page are told apart by labels: page.add(hub, {{"hub", "chat"}}).
#ifndef SSEHUB_METRICS_HPP
#define SSEHUB_METRICS_HPP

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sse.hpp"
#include "mail.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// What tells a sample from others of its name: a name [a-zA-Z_][a-zA-Z0-9_]*, and any value. Not
/// `channel`, `le` or `reason` with add().
struct metric_label {
  std::string_view name{};   ///< such as "service"
  std::string_view value{};  ///< any bytes; what is no UTF-8 is replaced
};

/// Not thread-safe; counters are read where add() is called, which belongs to the hub's thread.
/// Throws what std::string throws.
class metrics_page {
 public:
  using labels = std::initializer_list<metric_label>;  ///< of one line

  /// `most_channels`: names of channels (channel_options::metrics_name, else their own) that add()
  /// tells apart, the first ones; the others stand together as `(others)`, so that a page stays
  /// short.
  explicit metrics_page(std::size_t most_channels = 1000) : most_channels_{most_channels} {}

  /// All of a hub: its own counters, sums over its channels, also of those that were closed, and
  /// the channels by name. O(channels).
  template <class Hub>
  requires requires(const Hub& h) {
    h.each_channel_stats([](const channel_stats&) {});
  }
  void add(const Hub& h, labels l = {}) {
    by_name channels;
    h.each_channel_stats([&](const channel_stats& c) { sum(channels, c); });
    write(h.stats(), channels, l);
  }
  /// The same of numbers that were taken elsewhere, such as those of a sequencer.
  void add(const hub_stats& h, std::span<const channel_stats> each, labels l = {}) {
    by_name channels;
    for (const channel_stats& c : each) sum(channels, c);
    write(h, channels, l);
  }
  /// What publishers gave to a mailbox, and what it refused.
  void add(const mail_counts& m, labels l = {}) {
    sample("sse_mail_accepted_total", "counter", "Events taken from publishers.", m.accepted, l);
    family& f =
        get("sse_mail_refused_total", "counter", "Events refused to publishers, by reason.");
    append(f, l, {"reason", "full"}, m.full);
    append(f, l, {"reason", "too_large"}, m.too_large);
    append(f, l, {"reason", "invalid"}, m.invalid);
    append(f, l, {"reason", "closed"}, m.closed);
  }
  /// A number of the program's own. `type`: counter or gauge; it and the help are those of the
  /// first sample of that name.
  void sample(std::string_view name, std::string_view type, std::string_view help,
              std::uint64_t value, labels l = {}) {
    append(get(name, type, help), l, {}, value);
  }

  /// Each name once, with its help and type, and all its samples behind it.
  [[nodiscard]] std::string text() const {
    std::string out;
    for (const family& f : families_) {
      out.append("# HELP ").append(f.name).append(" ").append(f.help).append("\n# TYPE ");
      out.append(f.name).append(" ").append(f.type).append("\n").append(f.samples);
    }
    return out;
  }

 private:
  struct family {
    std::string name{};
    std::string type{};
    std::string help{};
    std::string samples{};
  };
  struct by_name {
    channel_stats all{};
    std::uint64_t open = 0;
    std::vector<channel_stats> told{};
    std::unordered_map<std::string_view, std::size_t> places{};
    channel_stats others{.name = "(others)"};
    bool more = false;
  };

  void sum(by_name& to, const channel_stats& c) const {
    to.all.add(c);
    if (!c.name.empty()) ++to.open;
    const std::string_view name = c.group.empty() ? c.name : c.group;
    if (name.empty()) return;  // closed, and of no group: only in the sums
    if (const auto at = to.places.find(name); at != to.places.end()) {
      to.told[at->second].add(c);
    } else if (to.told.size() < most_channels_) {
      to.places.emplace(name, to.told.size());
      to.told.push_back(c);
      to.told.back().name = name;
    } else {
      to.others.add(c);
      to.more = true;
    }
  }

  void write(const hub_stats& h, by_name& channels, labels l) {
    const channel_stats& all = channels.all;
    sample("sse_sessions", "gauge", "Open streams.", h.sessions, l);
    sample("sse_channels", "gauge", "Open channels.", channels.open, l);
    sample("sse_accepted_total", "counter", "Streams opened.", h.accepted, l);
    family& refused = get("sse_refused_total", "counter", "Streams refused, by reason.");
    for (std::size_t i = 1; i < refusal_reason_count; ++i)
      append(refused, l, {"reason", to_string(static_cast<refusal_reason>(i))}, h.refused_by[i]);
    sample("sse_writes_total", "counter", "Transport writes.", h.writes, l);
    sample("sse_bytes_total", "counter", "Bytes taken by transports.", h.bytes, l);
    sample("sse_heartbeats_total", "counter", "Heartbeats sent.", h.heartbeats, l);
    sample("sse_log_bytes", "gauge", "Memory held by all logs.", h.log_bytes, l);
    family& closed = get("sse_closed_total", "counter", "Streams closed, by reason.");
    for (std::size_t i = 0; i < close_reason_count; ++i)
      append(closed, l, {"reason", to_string(static_cast<close_reason>(i))}, h.closed[i]);
    sample("sse_published_total", "counter", "Events published, on all channels.", all.published,
           l);
    sample("sse_delivered_total", "counter", "Events delivered.", all.delivered, l);
    sample("sse_dropped_total", "counter", "Events skipped for slow readers.", all.dropped, l);
    sample("sse_coalesced_total", "counter",
           "Events left for the newest of each key by slow readers.", all.coalesced, l);
    sample("sse_gaps_total", "counter", "Gap frames sent.", all.gaps, l);
    sample("sse_replays_total", "counter", "Joins that resumed.", all.replays, l);
    if (channels.more) channels.told.push_back(channels.others);
    const auto each = [&](std::string_view name, std::string_view type, std::string_view help,
                          std::uint64_t channel_stats::*field) {
      if (channels.told.empty()) return;
      family& f = get(name, type, help);
      for (const channel_stats& c : channels.told) append(f, l, {"channel", c.name}, c.*field);
    };
    each("sse_channel_subscribers", "gauge", "Subscribers.", &channel_stats::subscribers);
    each("sse_channel_published_total", "counter", "Events published.", &channel_stats::published);
    each("sse_channel_delivered_total", "counter", "Events delivered.", &channel_stats::delivered);
    each("sse_channel_dropped_total", "counter", "Events skipped for slow readers.",
         &channel_stats::dropped);
    each("sse_channel_coalesced_total", "counter",
         "Events left for the newest of each key by slow readers.", &channel_stats::coalesced);
    for (const channel_stats& c : channels.told) write_latency(c, l);
    each("sse_channel_gaps_total", "counter", "Gap frames sent.", &channel_stats::gaps);
    each("sse_channel_replays_total", "counter", "Joins that resumed.", &channel_stats::replays);
    each("sse_channel_retained_events", "gauge", "Events kept for resuming.",
         &channel_stats::retained_events);
    each("sse_channel_retained_bytes", "gauge", "Bytes kept for resuming.",
         &channel_stats::retained_bytes);
    each("sse_channel_backlog_bytes", "gauge", "Bytes held for slow readers.",
         &channel_stats::backlog_bytes);
  }

  void write_latency(const channel_stats& c, labels l) {
    const std::uint64_t all = c.latency.events();
    if (all == 0) return;
    family& f = get("sse_channel_publish_to_write_milliseconds", "histogram",
                    "From an event's publish until the transport had it, for each reader.");
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < latency_counts::buckets; ++i) {
      sum += c.latency.in[i];
      const bool last = i + 1 == latency_counts::buckets;
      const std::string bound = last ? "+Inf" : std::to_string(latency_counts::bounds[i]);
      append(f, l, {"channel", c.name}, sum, "_bucket", {"le", bound});
    }
    append(f, l, {"channel", c.name}, c.latency.total_ms, "_sum");
    append(f, l, {"channel", c.name}, all, "_count");
  }

  family& get(std::string_view name, std::string_view type, std::string_view help) {
    if (const auto at = by_name_.find(name); at != by_name_.end()) return *at->second;
    family& f = families_.emplace_back();
    f.name = name;
    f.type = type;
    f.help = help;
    by_name_.emplace(f.name, &f);
    return f;
  }

  /// `last`, `behind`: labels besides those of the source; none if they have no name. `part`:
  /// behind the family's name.
  static void append(family& f, labels l, metric_label last, std::uint64_t value,
                     std::string_view part = {}, metric_label behind = {}) {
    std::string& out = f.samples;
    out.append(f.name).append(part);
    char between = '{';
    const auto add = [&](const metric_label& m) {
      out.push_back(between);
      out.append(m.name).append("=\"");
      append_value(out, m.value);
      out.push_back('"');
      between = ',';
    };
    for (const metric_label& m : l) add(m);
    if (!last.name.empty()) add(last);
    if (!behind.name.empty()) add(behind);
    if (between == ',') out.push_back('}');
    char digits[detail::max_digits];
    out.append(" ").append(digits, detail::put_decimal(digits, value)).append("\n");
  }
  /// The format is UTF-8: one byte that is not fails the whole page. It stands as U+FFFD and its
  /// hex digits, so that names stay apart.
  static void append_value(std::string& out, std::string_view value) {
    constexpr std::string_view digits = "0123456789abcdef";
    while (!value.empty()) {
      const detail::utf8_step step = detail::next_utf8(value);
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

  std::size_t most_channels_;
  std::deque<family> families_{};  // in the order of their first sample; they stay where they are
  std::unordered_map<std::string_view, family*> by_name_{};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_METRICS_HPP
