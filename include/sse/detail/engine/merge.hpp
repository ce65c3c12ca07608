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

  /// The window from stamp `first` on, of what comes behind the runs of `b`. False: memory is out.
  /// REQUIRES: all that was put was moved or given back.
  [[nodiscard]] bool begin(batch& b, std::uint64_t first) noexcept {
    SSEHUB_ASSERT(left_ == 0 && first < nothing - width);
    first_ = first;
    batch_ = &b;
    runs_ = b.room_for(width);
    return runs_ != nullptr;
  }
  [[nodiscard]] std::uint64_t first() const noexcept { return first_; }
  /// The first stamp behind it.
  [[nodiscard]] std::uint64_t end() const noexcept { return first_ + width; }
  /// The first entry of `s` from `k` on that is behind it; s.count: none.
  [[nodiscard]] std::uint32_t end_in(const segment& s, std::uint32_t k) const noexcept {
    if (s.stamp(s[s.count - 1]) < end()) return s.count;
    return s.first_that([&](const entry& e) { return s.stamp(e) >= end(); }, k);
  }
  /// Puts entries of one segment where their stamps say. REQUIRES: they are in the window, and no
  /// other has their place.
  class entries {
   public:
    entries(merge_window& w, segment& s, std::uint32_t from) noexcept
        : w_{w}, s_{s}, base_{s.stamp_base - w.first_}, from_{from} {}
    entries(const entries&) = delete;
    entries& operator=(const entries&) = delete;
    ~entries() { w_.bytes_ += bytes_; }
    void operator()(const entry& e, std::uint32_t k) noexcept {
      const std::uint64_t i = base_ + e.stamp;
      SSEHUB_ASSERT(i < width && w_.here_[i] == 0);
      run& r = w_.runs_[i];
      r.data = s_.data(e);
      r.seg = &s_;
      r.size = e.size;
      w_.here_[i] = static_cast<unsigned char>(is_here + (i == behind_));
      r.first = k;
      r.from = from_;
      r.count = 1;
      behind_ = i + 1;
      bytes_ += r.size;
    }
    /// To be said in the end, once: so many were put. Returns `n`.
    std::uint32_t added(std::uint32_t n) noexcept {
      w_.left_ += n;
      return n;
    }

   private:
    merge_window& w_;
    segment& s_;
    const std::uint64_t base_;
    const std::uint32_t from_;
    std::uint64_t bytes_ = 0;
    std::uint64_t behind_ = width;
  };
  [[nodiscard]] std::uint32_t left() const noexcept { return left_; }
  /// Makes them runs of the batch, in their order, until it is full or one has stamp `limit` or
  /// above.
  void move_out(std::uint64_t limit) noexcept {
    batch& b = *batch_;
    const std::uint32_t stop = limit < end() ? static_cast<std::uint32_t>(limit - first_) : width;
    const bool whole = stop == width && b.total() + bytes_ <= b.limit();
    std::uint64_t bytes = whole ? bytes_ : 0;
    run* out = runs_;  // they close up
    std::uint32_t moved = 0;
    for (std::uint32_t i = 0; moved != left_; i += 8) {
      std::uint64_t eight = load(i);
      if (whole && eight == is_here * every_byte && out == runs_ + i) {  // as they are to be
        out += 8;
        moved += 8;
        eight = 0;
      }
      for (; eight != 0; eight &= eight - 1) {
        const std::uint32_t n = i + static_cast<std::uint32_t>(std::countr_zero(eight)) / 8;
        const run& r = runs_[n];
        if (!whole) {
          if (n >= stop || b.total() + bytes >= b.limit()) break;  // with all that is behind it
          bytes += r.size;
        }
        ++moved;
        if (out != runs_ && out[-1].touches(r)) {
          out[-1].add(r);
        } else {
          if (out != &r) ::new (static_cast<void*>(out)) run(r);
          ++out;
        }
      }
      store(i, eight);
      if (eight != 0) break;
    }
    left_ -= moved;
    bytes_ -= bytes;
    b.add_made(out, bytes);
  }
  /// `give(run)` for all that stayed, the newest first. REQUIRES: nothing was added to the batch.
  template <class Give>
  void give_back(Give give) noexcept {
    for (std::uint32_t i = width; left_ != 0; --left_) {
      do --i;
      while (here_[i] == 0);
      here_[i] = 0;
      give(runs_[i]);
    }
    bytes_ = 0;
  }

 private:
  static_assert(width % 8 == 0);
  enum : unsigned char { is_here = 1, is_behind = 2 };  ///< one bit each
  static constexpr std::uint64_t every_byte = 0x0101010101010101;
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
      for (std::uint32_t k = 0; k < 8; ++k) here_[i + k] = eight >> 8 * k & 0xffU;
    }
  }

  std::uint64_t first_ = 0;
  std::uint32_t left_ = 0;
  std::uint64_t bytes_ = 0;         ///< of those that are left
  unsigned char here_[width] = {};  ///< 0: there is none
  batch* batch_ = nullptr;
  run* runs_ = nullptr;  ///< in the batch, behind those that it has
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_MERGE_HPP
