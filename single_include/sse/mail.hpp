// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once

// ---- sse/mail.hpp
//
// mail: what goes through a mailbox (sse/mailbox.hpp): what publishers give, what the hub's thread
// gets, what became of it, and how a mailbox is set up.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/sse.hpp>

namespace sse::inline v0 {

/// What became of a call to a publisher.
enum class publish_status : std::uint8_t {
  ok,         ///< in the lane; it will be drained
  full,       ///< no room now: the hub's thread is behind
  too_large,  ///< never fits: over half the lane, mailbox_options::limits or the writer's max
  invalid,    ///< CR, LF or NUL in the type, or an id above max_event_id
  closed,     ///< the mailbox is closed or gone, or memory was out when this publisher was made
};

[[nodiscard]] constexpr std::string_view to_string(publish_status s) noexcept {
  switch (s) {
    case publish_status::ok: return "ok";
    case publish_status::full: return "full";
    case publish_status::too_large: return "too_large";
    case publish_status::invalid: return "invalid";
    case publish_status::closed: return "closed";
  }
  return "unknown";
}

/// What a publisher sends. Views are copied before the call returns.
struct message {
  std::string_view type{};      ///< as event::type. REQUIRES: no CR, LF, NUL
  std::string_view data{};      ///< as event::data
  std::string_view audience{};  ///< who may see it; at most 65,535 bytes; empty: everyone
  event_id id = no_id;          ///< for a channel whose ids are given by the publisher
  bool transient = false;       ///< never replayed, without an id
  std::string_view key{};  ///< what it is the state of (publish_options::key); at most 65,535 bytes
  std::uint16_t channel = 0;  ///< for a lane that serves several; at most max_mail_channel
  bool encoded = false;       ///< as publish_options::encoded
  bool last = false;          ///< as publish_options::last
};
inline constexpr std::uint16_t max_mail_channel = 0x1fff;

/// What the hub's thread gets. Views are valid during the call.
struct mail {
  std::uint64_t target = 0;  ///< as given to make_publisher
  std::string_view type{};
  std::string_view data{};
  std::string_view audience{};
  event_id id = no_id;
  bool transient = false;
  std::string_view key{};
  std::uint16_t channel = 0;
  bool encoded = false;
  bool last = false;
};

/// When a publisher calls mailbox_options::wake.
enum class wake_mode : std::uint8_t {
  when_idle,  ///< when mail meets a prepare_sleep: at most once for each
  never,      ///< the loop polls, busily or at a pace; publishing is cheaper by a memory barrier
};

struct mailbox_options {
  /// Ends the hub thread's sleep: called on a publisher's thread. It must be sticky: if it comes
  /// just before the loop really waits, that wait ends at once (eventfd, asio::post). It must not
  /// destroy the mailbox. Default: none.
  void (*wake)(void* context) noexcept = nullptr;
  void* context = nullptr;  ///< for wake; must live until close() has returned
  wake_mode mode = wake_mode::when_idle;
  encode_limits limits{};  ///< what the hub would refuse is refused here; `id` is not used
  /// Bytes that lanes have from the start, all together: their publishers never allocate. A lane
  /// beyond that has 4 KiB, takes the rest of its room when more waits, by an allocation in the
  /// publisher's call (memory out: `full`), and gives it back once it was drained.
  std::size_t room_at_once = std::size_t{4} << 20;
};

/// Exact counts of one publisher, or the sum over all publishers of a mailbox. One count per call.
struct mail_counts {
  std::uint64_t accepted = 0;
  std::uint64_t full = 0;
  std::uint64_t too_large = 0;
  std::uint64_t invalid = 0;
  std::uint64_t closed = 0;  ///< without those of a publisher that never had a lane

  [[nodiscard]] constexpr std::uint64_t refused() const noexcept {
    return full + too_large + invalid + closed;
  }
  friend constexpr bool operator==(const mail_counts&, const mail_counts&) noexcept = default;
};

}  // namespace sse::inline v0
