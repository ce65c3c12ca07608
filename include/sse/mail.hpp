// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// mail: what comes out of a mailbox (sse/mailbox.hpp), how much of it there was, and how a mailbox
// is set up.
#pragma once
#ifndef SSEHUB_MAIL_HPP
#define SSEHUB_MAIL_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/encode.hpp>
#include <sse/event.hpp>
#include <sse/publish.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Of a lane that serves several channels: the highest number that one can have.
inline constexpr std::uint16_t max_mail_channel = 0x1fff;

/// What the hub's thread gets: what the publisher gave, for `hub.publish(channel, m.event,
/// m.options)`. Views are valid during the call.
struct mail {
  std::uint64_t target = 0;   ///< as given to make_publisher
  std::uint16_t channel = 0;  ///< as given to try_publish
  sse::event event{};         ///< as given to try_publish
  publish_options options{};  ///< as given to try_publish
};

/// When a publisher calls mailbox_options::wake.
enum class wake_mode : std::uint8_t {
  when_idle,  ///< when mail meets a prepare_sleep: at most once for each
  never,      ///< the loop polls, busily or at a pace; publishing is cheaper by a memory barrier
};

/// How large the lanes are, and how the hub's thread is woken.
struct mailbox_options {
  /// Ends the hub thread's sleep: called on a publisher's thread. It must be sticky: if it comes
  /// just before the loop really waits, that wait ends at once (eventfd, asio::post). It must not
  /// destroy the mailbox. Default: none.
  void (*wake)(void* context) noexcept = nullptr;
  void* context = nullptr;                ///< for wake; must live until close() has returned
  wake_mode mode = wake_mode::when_idle;  ///< when `wake` is called
  encode_limits limits{};  ///< what the hub would refuse is refused here; `id` is not used
  /// Bytes that lanes have from the start, all together: their publishers never allocate. A lane
  /// beyond that has 4 KiB, takes the rest of its room when more waits, by an allocation in the
  /// publisher's call (memory out: `full`), and gives it back once it was drained.
  std::size_t room_at_once = std::size_t{4} << 20;
};

/// Exact counts of one publisher, or the sum over all publishers of a mailbox. One count per call.
struct mail_counts {
  std::uint64_t accepted = 0;   ///< calls that put an event into a lane
  std::uint64_t full = 0;       ///< refused: no room
  std::uint64_t too_large = 0;  ///< refused: beyond the limits, or no lane could take it
  std::uint64_t invalid = 0;    ///< the rest of publish_error: not an event of this lane
  std::uint64_t closed = 0;     ///< without those of a publisher that never had a lane

  /// All that were not accepted.
  [[nodiscard]] constexpr std::uint64_t refused() const noexcept {
    return full + too_large + invalid + closed;
  }
  friend constexpr bool operator==(const mail_counts&, const mail_counts&) noexcept = default;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_MAIL_HPP
