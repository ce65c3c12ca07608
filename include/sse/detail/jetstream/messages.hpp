// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Events as messages of the stream: their headers, the channels that subjects name, and the bytes
// that subscribers get.
#pragma once
#ifndef SSEHUB_DETAIL_JETSTREAM_MESSAGES_HPP
#define SSEHUB_DETAIL_JETSTREAM_MESSAGES_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <sse/detail/jetstream/blocks.hpp>
#include <sse/detail/jetstream/nats.hpp>
#include <sse/encode.hpp>
#include <sse/jetstream_options.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Where the thread that follows is: it writes, all read.
class order_place {
 public:
  struct position {
    event_id base = no_id;       ///< ids are this plus the sequence
    std::uint64_t from = 0;      ///< the epoch began behind this sequence
    std::uint64_t sequence = 0;  ///< of the last event that came
    std::uint64_t time_ns = 0;   ///< when that was stored; 0: not known
  };
  [[nodiscard]] position now() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return position_;
  }
  [[nodiscard]] event_id base() const { return now().base; }
  [[nodiscard]] std::uint64_t sequence() const { return now().sequence; }
  void enter(const position& p) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    position_ = p;
  }
  void come(std::uint64_t sequence, std::uint64_t time_ns) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    position_.sequence = sequence;
    position_.time_ns = time_ns;
  }

  /// All that the stream has came, just now.
  void caught_up() noexcept {
    caught_up_.store(clock::now().time_since_epoch().count(), std::memory_order_release);
  }
  [[nodiscard]] std::chrono::steady_clock::time_point caught_up_at() const noexcept {
    return clock::time_point{clock::duration{caught_up_.load(std::memory_order_acquire)}};
  }

  std::atomic<std::uint64_t> gone{0};  ///< the stream has nothing at or below it

 private:
  using clock = std::chrono::steady_clock;

  std::atomic<clock::rep> caught_up_{0};
  mutable std::mutex mutex_;  // of what follows
  position position_;
};

class order_messages {
 public:
  static constexpr std::size_t max_headers = 60'000;  // servers store 64 KiB of them
  static constexpr const char* type = "Sse-Event";
  static constexpr const char* key = "Sse-Key";
  static constexpr const char* audience = "Sse-Audience";
  static constexpr const char* role = "Sse-Role";       ///< publish_options::role
  static constexpr const char* number = "Nats-Msg-Id";  ///< by which it is stored once

  /// `subjects`: what is in front of a channel's name.
  order_messages(const jetstream_options& o, std::string subjects, const order_place& place)
      : options_{&o}, subjects_{std::move(subjects)}, place_{&place} {
    for (std::size_t i = 0; i < o.channels.size(); ++i)
      numbers_.emplace(o.channels[i], static_cast<std::uint16_t>(i));
  }

  /// REQUIRES: the order has that channel.
  [[nodiscard]] std::uint16_t number_of(std::string_view channel) const {
    return numbers_.find(std::string{channel})->second;
  }
  [[nodiscard]] std::string subject_of(std::size_t channel) const {
    return subjects_ + options_->channels[channel];
  }
  [[nodiscard]] static bool is_header(std::string_view s) noexcept {
    return s.find_first_of(std::string_view{"\r\n\0", 3}) == s.npos &&
           (s.empty() || (s.front() != ' ' && s.back() != ' '));
  }
  /// That an event may have, so that it fits into a lane.
  [[nodiscard]] std::size_t most_bytes(const publish_options& o) const noexcept {
    const std::size_t most = (std::max)(options_->lane_bytes, std::size_t{1024}) / 2;
    const std::size_t beside = o.audience.size() + o.key.size() + 64;
    return beside < most ? most - beside : 0;
  }
  /// What a message says of its event. Valid while it is there.
  [[nodiscard]] static publish_options options_of(natsMsg* m) noexcept {
    return {.audience = header_of(m, audience),
            .key = header_of(m, key),
            .role = role_of(header_of(m, role))};
  }
  /// Empty: no header.
  [[nodiscard]] static std::string_view name_of(key_role r) noexcept {
    return r == key_role::erase ? "erase" : r == key_role::barrier ? "barrier" : "";
  }
  [[nodiscard]] static key_role role_of(std::string_view name) noexcept {
    return name == "erase"     ? key_role::erase
           : name == "barrier" ? key_role::barrier
                               : key_role::value;
  }
  /// Puts an event's bytes, as they go to subscribers, behind `out`, and gives its channel;
  /// no_channel: it is no event of a channel here.
  [[nodiscard]] std::uint16_t encode(natsMsg* m, std::uint64_t sequence, std::string& out) {
    const std::string_view subject = text_of(natsMsg_GetSubject(m));
    if (!subject.starts_with(subjects_)) return order_block::no_channel;
    const auto to = numbers_.find(std::string{subject.substr(subjects_.size())});
    if (to == numbers_.end()) {
      passed_.fetch_add(1, std::memory_order_relaxed);
      return order_block::no_channel;
    }
    const event e{.type = header_of(m, type), .data = data_of(m)};
    const publish_options o = options_of(m);
    id_text text;
    const event_id id = place_->base() + sequence;
    const numbered_event n = give_id(id, text, e, o, options_->limits, most_bytes(o));
    if (n.error != publish_error::none) {
      invalid_.fetch_add(1, std::memory_order_relaxed);
      return order_block::no_channel;
    }
    const std::size_t at = out.size();
    out.resize(at + n.plan.size);
    encode_as(out.data() + at, e, n.id, n.plan);
    return to->second;
  }
  void tell(jetstream_stats& s) const noexcept {
    s.passed = passed_.load(std::memory_order_relaxed);
    s.invalid = invalid_.load(std::memory_order_relaxed);
  }

 private:
  const jetstream_options* options_;
  std::string subjects_;
  const order_place* place_;
  std::unordered_map<std::string, std::uint16_t> numbers_;  // of channels
  std::atomic<std::uint64_t> passed_{0};
  std::atomic<std::uint64_t> invalid_{0};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_MESSAGES_HPP
