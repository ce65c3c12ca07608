// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// The hub's one timer structure: a heap of (deadline, id) in which every id stands once. Each owner
// keeps its own place, so a deadline is moved in O(log n) and costs eight bytes.
#pragma once

#include <cstdint>

#include <sse/detail/memory.hpp>

namespace sse::inline v0::detail {

/// `Places` has `std::uint32_t& place(std::uint32_t id)`. Deadlines are ms, kept modulo 2^32: a far
/// one is cut to about twelve days ahead, and its owner simply arms it again then.
template <class Places>
class timer_queue {
 public:
  explicit timer_queue(Places& places) noexcept : places_{&places} {}

  /// Makes room for `n` ids, so that arm() cannot fail for them.
  [[nodiscard]] bool reserve(std::uint32_t n) noexcept { return heap_.reserve(n); }

  /// Sets or moves a deadline.
  void arm(std::uint32_t id, std::int64_t when, std::int64_t now) noexcept {
    constexpr std::int64_t farthest = std::int64_t{1} << 30;
    if (when > now + farthest) when = now + farthest;
    if (when < now) when = now;
    const item it{static_cast<std::uint32_t>(when), id};
    std::uint32_t at = places_->place(id);
    if (at == none) {
      at = heap_.size();
      heap_.push_reserved(it);
      up(at, it);
    } else if (sooner(it, heap_[at])) {
      up(at, it);
    } else {
      down(at, it);
    }
  }
  void disarm(std::uint32_t id) noexcept {
    const std::uint32_t at = places_->place(id);
    if (at == none) return;
    places_->place(id) = none;
    const item last = heap_.back();
    heap_.pop_back();
    if (last.id == id) return;
    if (at > 0 && sooner(last, heap_[(at - 1) / 4])) {
      up(at, last);
    } else {
      down(at, last);
    }
  }
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::uint32_t top_id() const noexcept { return heap_[0].id; }
  [[nodiscard]] std::int64_t top_when(std::int64_t now) const noexcept {
    return expand(heap_[0].when, now);
  }
  [[nodiscard]] std::int64_t when(std::uint32_t id, std::int64_t now) const noexcept {
    const std::uint32_t at = places_->place(id);
    return at == none ? INT64_MAX : expand(heap_[at].when, now);
  }

 private:
  struct item {
    std::uint32_t when;
    std::uint32_t id;
  };
  static bool sooner(item a, item b) noexcept {
    return static_cast<std::int32_t>(a.when - b.when) < 0;
  }
  static std::int64_t expand(std::uint32_t when, std::int64_t now) noexcept {
    return now + static_cast<std::int32_t>(when - static_cast<std::uint32_t>(now));
  }
  void put(std::uint32_t at, item it) noexcept {
    heap_[at] = it;
    places_->place(it.id) = at;
  }
  void up(std::uint32_t at, item it) noexcept {
    while (at > 0 && sooner(it, heap_[(at - 1) / 4])) {
      put(at, heap_[(at - 1) / 4]);
      at = (at - 1) / 4;
    }
    put(at, it);
  }
  void down(std::uint32_t at, item it) noexcept {
    for (;;) {
      std::uint32_t best = none;
      for (std::uint32_t c = at * 4 + 1; c < heap_.size() && c <= at * 4 + 4; ++c) {
        if (best == none || sooner(heap_[c], heap_[best])) best = c;
      }
      if (best == none || !sooner(heap_[best], it)) break;
      put(at, heap_[best]);
      at = best;
    }
    put(at, it);
  }

  Places* places_;
  vec<item> heap_;
};

}  // namespace sse::inline v0::detail
