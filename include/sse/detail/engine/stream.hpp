// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// stream: a log and those who read it. A channel has one for its events and, once needed, one for
// transient ones.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_STREAM_HPP
#define SSEHUB_DETAIL_ENGINE_STREAM_HPP

#include <cstdint>

#include <sse/detail/base/containers.hpp>
#include <sse/detail/log/audience_index.hpp>
#include <sse/detail/log/event_log.hpp>
#include <sse/fwd.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Ids in order: `last` was given out last; nothing at or below `start` is of this run.
struct sequence {
  event_id start = no_id;
  event_id last = no_id;
};

struct stream {
  stream(segment_pool& pool, const retention& keep, channel_state& c) noexcept
      : log{pool, keep}, owner{&c} {}
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  ~stream() {
    if (audiences == nullptr) return;
    audiences->~audience_index();
    deallocate(audiences);
  }

  event_log log;
  /// Subscriptions. The last `selecting` of them chose their keys, and are not served for the
  /// others.
  vec<std::uint32_t> readers;
  channel_state* owner;
  /// Made with the first entry that has an audience, unless the hook is asked from the start.
  audience_index* audiences = nullptr;
  stream* touched_next = nullptr;  ///< in the engine's list of streams to look at after the walk
  stream* touched_prev = nullptr;
  /// End offset at which somebody may be over a lag limit.
  std::uint64_t lag_check_at = UINT64_MAX;
  std::uint64_t backlog = 0;   ///< as last counted into the hub's sum
  std::uint64_t sweep_at = 0;  ///< backlog at which readers that see nothing there are moved on
  log_place handed_out{};      ///< transients: what is behind it nobody has yet; pinned
  std::uint32_t index = none;  ///< in engine::streams_
  std::uint32_t by_backlog = none;  ///< place in engine::backlogs_
  /// Ordinal, modulo 2^32: what is in front of it was there in a flush before.
  std::uint32_t settled = 0;
  std::uint32_t selecting = 0;  ///< of `readers`
  bool touched = false;         ///< in that list
  bool dirty = false;           ///< got entries since the last flush that all readers may see,
  bool for_all = false;         ///< also those that chose their keys
  bool transients = false;      ///< transient entries: no ids, nothing retained
  bool ask = false;             ///< has entries that are not in `audiences`: the hook is asked

  /// Lets go what retention does not cover and nobody reads.
  void trim(std::int64_t now) noexcept {
    log.trim(now, [this](segment& s) { dropped(s); });
  }
  /// What was let go before and nobody reads any more.
  void drop_unread() noexcept {
    log.drop_unread([this](segment& s) { dropped(s); });
  }
  void detach_before(std::uint64_t offset) noexcept {
    log.detach_before(offset, [this](segment& s) { dropped(s); });
  }

 private:
  void dropped(segment& s) noexcept {
    if (audiences != nullptr) audiences->drop(s);
  }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_STREAM_HPP
