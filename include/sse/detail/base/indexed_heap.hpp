// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// indexed_heap: things by a key, the first on top, each thing in it at most once. Each owner keeps
// its own place, so a key is changed in O(log n).
#pragma once
#ifndef SSEHUB_DETAIL_BASE_INDEXED_HEAP_HPP
#define SSEHUB_DETAIL_BASE_INDEXED_HEAP_HPP

#include <cstdint>

#include <sse/detail/base/containers.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `Order` has `std::uint32_t& place(std::uint32_t id)`, which is `none` at first, and
/// `static bool before(Key, Key)`.
template <class Key, class Order>
class indexed_heap {
 public:
  explicit indexed_heap(Order order) noexcept : order_{order} {}

  /// Makes room for `n` things, so that set() cannot fail for them.
  [[nodiscard]] bool reserve(std::uint32_t n) noexcept { return heap_.reserve(n); }

  /// Puts it in, or changes its key.
  void set(std::uint32_t id, Key key) noexcept {
    const item it{key, id};
    std::uint32_t at = order_.place(id);
    if (at == none) {
      at = heap_.size();
      heap_.push_reserved(it);
      up(at, it);
    } else if (Order::before(it.key, heap_[at].key)) {
      up(at, it);
    } else {
      down(at, it);
    }
  }
  /// Changes all keys in a way that keeps their order.
  template <class Map>
  void map_keys(Map map) noexcept {
    for (item& it : heap_) it.key = map(it.key);
  }
  void remove(std::uint32_t id) noexcept {
    const std::uint32_t at = order_.place(id);
    if (at == none) return;
    order_.place(id) = none;
    const item last = heap_.back();
    heap_.pop_back();
    if (last.id == id) return;
    if (at > 0 && Order::before(last.key, heap_[(at - 1) / 4].key)) {
      up(at, last);
    } else {
      down(at, last);
    }
  }
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::uint32_t top_id() const noexcept { return heap_[0].id; }
  [[nodiscard]] Key top_key() const noexcept { return heap_[0].key; }
  /// REQUIRES: it is in the heap.
  [[nodiscard]] Key key_at(std::uint32_t place) const noexcept { return heap_[place].key; }
  [[nodiscard]] const Order& order() const noexcept { return order_; }

 private:
  struct item {
    Key key;
    std::uint32_t id;
  };
  void put(std::uint32_t at, item it) noexcept {
    heap_[at] = it;
    order_.place(it.id) = at;
  }
  void up(std::uint32_t at, item it) noexcept {
    while (at > 0 && Order::before(it.key, heap_[(at - 1) / 4].key)) {
      put(at, heap_[(at - 1) / 4]);
      at = (at - 1) / 4;
    }
    put(at, it);
  }
  void down(std::uint32_t at, item it) noexcept {
    const std::uint32_t size = heap_.size();
    for (;;) {
      std::uint32_t best = none;
      for (std::uint32_t c = at * 4 + 1; c < size && c <= at * 4 + 4; ++c) {
        if (best == none || Order::before(heap_[c].key, heap_[best].key)) best = c;
      }
      if (best == none || !Order::before(heap_[best].key, it.key)) break;
      put(at, heap_[best]);
      at = best;
    }
    put(at, it);
  }

  Order order_;
  vec<item> heap_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_INDEXED_HEAP_HPP
