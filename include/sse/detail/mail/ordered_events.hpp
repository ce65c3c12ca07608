// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// ordered_events: many events that got their ids elsewhere, for all shards of a sequencer at once:
// each takes them from where they lie, so that nobody copies them for it.
#pragma once
#ifndef SSEHUB_DETAIL_MAIL_ORDERED_EVENTS_HPP
#define SSEHUB_DETAIL_MAIL_ORDERED_EVENTS_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <sse/mail.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class ordered_events {
 public:
  struct place {
    std::size_t event = 0;
    std::size_t byte = 0;
    std::size_t piece = 0;
    std::size_t left = 0;  ///< events of that piece
  };
  /// What all of them come to.
  struct sum {
    std::size_t events = 0;
    std::size_t bytes = 0;
    event_id last = no_id;
  };
  [[nodiscard]] virtual sum all() const noexcept = 0;
  /// The event at `at`, which becomes the place of the one behind it. False: there is none.
  [[nodiscard]] virtual bool next(place& at, mail& out) const noexcept = 0;

 protected:
  ordered_events() = default;
  ~ordered_events() = default;
};

/// How a shard gets them: by its lane.
struct ordered_note {
  const ordered_events* events;
  std::uint64_t number;  ///< of those that the sequencer handed on, this is the nth
  std::uint64_t bytes;
};

/// What one shard was given of them, and took.
struct ordered_account {
  std::uint64_t given = 0;        ///< the last number
  std::uint64_t given_bytes = 0;  ///< of all
  std::atomic<std::uint64_t> taken{0};
  std::atomic<std::uint64_t> taken_bytes{0};

  [[nodiscard]] bool has_taken(std::uint64_t number) const noexcept {
    return number > given || taken.load(std::memory_order_acquire) >= number;
  }
  [[nodiscard]] bool has_room(std::size_t bytes, std::size_t most) const noexcept {
    const std::uint64_t wait = given_bytes - taken_bytes.load(std::memory_order_relaxed);
    return wait == 0 || wait + bytes <= most;
  }
  void give(const ordered_note& n) noexcept {
    given = n.number;
    given_bytes += n.bytes;
  }
  void take(const ordered_note& n) noexcept {
    taken_bytes.store(taken_bytes.load(std::memory_order_relaxed) + n.bytes,
                      std::memory_order_relaxed);
    taken.store(n.number, std::memory_order_release);
  }
  /// The shard ends: it takes nothing any more.
  void end() noexcept { taken.store(UINT64_MAX, std::memory_order_release); }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_MAIL_ORDERED_EVENTS_HPP
