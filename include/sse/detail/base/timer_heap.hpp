// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// timer_heap: the hub's one timer structure: deadlines of sessions and channels, each at most once,
// eight bytes each.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_TIMER_HEAP_HPP
#define SSEHUB_DETAIL_BASE_TIMER_HEAP_HPP

#include <cstdint>

#include <sse/detail/base/indexed_heap.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `Places` has `std::uint32_t& place(std::uint32_t id)`. Deadlines are ms, kept modulo 2^32: a far
/// one is cut to about twelve days ahead, and its owner simply arms it again then.
template <class Places>
class timer_heap {
 public:
  static constexpr std::int64_t farthest = std::int64_t{1} << 30;

  explicit timer_heap(Places& places) noexcept : heap_{order{&places}} {}

  /// Makes room for `n` ids, so that arm() cannot fail for them.
  [[nodiscard]] bool reserve(std::uint32_t n) noexcept { return heap_.reserve(n); }

  /// Sets or moves a deadline.
  void arm(std::uint32_t id, std::int64_t when, std::int64_t now) noexcept {
    if (when > now + farthest) when = now + farthest;
    if (when < now) when = now;
    heap_.set(id, static_cast<std::uint32_t>(when));
  }
  /// The time goes on at `to`: what was due before is due then.
  void jump(std::int64_t from, std::int64_t to) noexcept {
    heap_.map_keys([&](std::uint32_t when) {
      const std::int64_t due = expand(when, from);
      return static_cast<std::uint32_t>(due < to ? to : due);
    });
  }
  void disarm(std::uint32_t id) noexcept { heap_.remove(id); }
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::uint32_t top_id() const noexcept { return heap_.top_id(); }
  [[nodiscard]] std::int64_t top_when(std::int64_t now) const noexcept {
    return expand(heap_.top_key(), now);
  }
  /// INT64_MAX: it has none.
  [[nodiscard]] std::int64_t when(std::uint32_t id, std::int64_t now) const noexcept {
    const std::uint32_t at = heap_.order().place(id);
    return at == none ? INT64_MAX : expand(heap_.key_at(at), now);
  }

 private:
  struct order {
    Places* places;
    [[nodiscard]] std::uint32_t& place(std::uint32_t id) const noexcept {
      return places->place(id);
    }
    [[nodiscard]] static bool before(std::uint32_t a, std::uint32_t b) noexcept {
      return static_cast<std::int32_t>(a - b) < 0;
    }
  };
  static std::int64_t expand(std::uint32_t when, std::int64_t now) noexcept {
    return now + static_cast<std::int32_t>(when - static_cast<std::uint32_t>(now));
  }

  indexed_heap<std::uint32_t, order> heap_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_TIMER_HEAP_HPP
