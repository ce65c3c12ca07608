// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// merge_window: entries of several logs in the order in which they were published. Stamps rise
// over the whole hub and no two are the same, so in a window of so many of them each entry has a
// place of its own: it is put there, and then they are taken in the order of the places.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_MERGE_HPP
#define SSEHUB_DETAIL_ENGINE_MERGE_HPP

#include <bit>
#include <cstdint>
#include <cstring>
#include <new>

#include <sse/detail/engine/batch.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class merge_window {
 public:
  static constexpr std::uint32_t width = 384;           ///< stamps
  static constexpr std::uint64_t nothing = UINT64_MAX;  ///< no entry has this stamp

  merge_window() noexcept = default;
  merge_window(const merge_window&) = delete;
  merge_window& operator=(const merge_window&) = delete;
  ~merge_window() { deallocate(runs_); }

  /// Its memory comes with the first use. False: memory is out.
  [[nodiscard]] bool reserve() noexcept {
    if (runs_ == nullptr) runs_ = static_cast<run*>(allocate(width * sizeof(run)));
    return runs_ != nullptr;
  }
  /// The window from stamp `first` on. REQUIRES: all that was put was moved or given back.
  void begin(std::uint64_t first) noexcept {
    SSEHUB_ASSERT(left_ == 0 && first < nothing - width);
    first_ = first;
  }
  [[nodiscard]] std::uint64_t first() const noexcept { return first_; }
  /// The first stamp behind it.
  [[nodiscard]] std::uint64_t end() const noexcept { return first_ + width; }
  /// One entry, `i` stamps behind the first. REQUIRES: i < width, and no other has this place.
  void put(std::uint64_t i, const run& r) noexcept {
    SSEHUB_ASSERT(i < width && here_[i] == 0);
    ::new (static_cast<void*>(runs_ + i)) run(r);
    here_[i] = 1;
  }
  /// `n` were put.
  void count(std::uint32_t n) noexcept { left_ += n; }
  [[nodiscard]] std::uint32_t left() const noexcept { return left_; }
  /// Moves them to the end of `b` in their order, until it is full or one has stamp `limit` or
  /// above. REQUIRES: b.reserve(left()).
  void move_to(batch& b, std::uint64_t limit) noexcept {
    const std::uint32_t stop = limit < end() ? static_cast<std::uint32_t>(limit - first_) : width;
    batch::many add{b};
    std::uint32_t moved = 0;
    for (std::uint32_t i = 0; moved != left_; i += 8) {
      std::uint64_t eight = load(i);
      for (; eight != 0; eight &= eight - 1) {
        const std::uint32_t n = i + static_cast<std::uint32_t>(std::countr_zero(eight)) / 8;
        if (n >= stop || add.full()) break;  // this one stays, and what is behind it
        add(runs_[n]);
        ++moved;
      }
      store(i, eight);
      if (eight != 0) break;
    }
    left_ -= moved;
  }
  /// `give(run)` for all that were not moved, the newest first.
  template <class Give>
  void give_back(Give give) noexcept {
    for (std::uint32_t i = width; left_ != 0; --left_) {
      do --i;
      while (here_[i] == 0);
      here_[i] = 0;
      give(runs_[i]);
    }
  }

 private:
  static_assert(width % 8 == 0);
  /// Eight places, the first in the lowest byte.
  [[nodiscard]] std::uint64_t load(std::uint32_t i) const noexcept {
    std::uint64_t eight = 0;
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(&eight, here_ + i, sizeof eight);
    } else {
      for (std::uint32_t k = 8; k-- != 0;) eight = eight << 8 | here_[i + k];
    }
    return eight;
  }
  void store(std::uint32_t i, std::uint64_t eight) noexcept {
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(here_ + i, &eight, sizeof eight);
    } else {
      for (std::uint32_t k = 0; k < 8; ++k) here_[i + k] = eight >> 8 * k & 1U;
    }
  }

  std::uint64_t first_ = 0;
  std::uint32_t left_ = 0;
  unsigned char here_[width] = {};  ///< 1: there is an entry
  run* runs_ = nullptr;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_MERGE_HPP
