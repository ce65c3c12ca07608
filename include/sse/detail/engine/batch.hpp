// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// batch: what is to be written to one session next, as runs of bytes that lie somewhere, and how
// they are shown to the transport: as they lie, or copied into one buffer where they are many.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_BATCH_HPP
#define SSEHUB_DETAIL_ENGINE_BATCH_HPP

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include <sse/detail/base/containers.hpp>
#include <sse/detail/log/segment.hpp>
#include <sse/transport.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Bytes that lie together.
struct run {
  enum : std::uint32_t { from_lane = none, from_chunk = none - 1 };
  const char* data;
  std::uint32_t size;
  std::uint32_t first;  ///< its first entry in seg; its bytes may begin inside of it
  segment* seg;         ///< nullptr: not from a log
  std::uint32_t from;   ///< a subscription, from_lane or from_chunk
  std::uint32_t count;  ///< entries; the last one is whole to its end

  /// `r` goes on where this one ends.
  [[nodiscard]] bool touches(const run& r) const noexcept {
    return from == r.from && seg == r.seg && seg != nullptr && data + size == r.data;
  }
  /// REQUIRES: touches(r).
  void add(const run& r) noexcept {
    SSEHUB_ASSERT(r.first == first + count);
    size += r.size;
    count += r.count;
  }
};

class batch {
 public:
  static constexpr std::uint32_t most_buffers = 16;
  /// A write of a transport that takes one buffer: a TLS record (RFC 8446 5.1).
  static constexpr std::uint32_t record = 16'384;

  batch() noexcept = default;
  batch(const batch&) = delete;
  batch& operator=(const batch&) = delete;
  ~batch() { deallocate(copy_); }

  bool all = false;        ///< nothing is left for the session once these are out
  bool paused = false;     ///< it had its share of work: there may be more
  bool logs_only = false;  ///< no lane, no chunks, nothing half sent

  /// `limit`: begin no further run at this total.
  void begin(std::uint64_t limit) noexcept {
    runs_.clear();
    total_ = 0;
    limit_ = limit;
    all = paused = logs_only = cut_ = false;
  }
  [[nodiscard]] bool full() const noexcept { return total_ >= limit_; }
  [[nodiscard]] std::uint64_t limit() const noexcept { return limit_; }
  [[nodiscard]] std::uint64_t total() const noexcept { return total_; }
  [[nodiscard]] bool empty() const noexcept { return runs_.empty(); }
  /// Some of what was gathered is not in it any more.
  [[nodiscard]] bool was_cut() const noexcept { return cut_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return runs_.size(); }
  [[nodiscard]] const run& operator[](std::uint32_t i) const noexcept { return runs_[i]; }

  /// Adds a run, to the one before it where the bytes touch. False: memory is out.
  [[nodiscard]] bool add(const run& r) noexcept {
    if (runs_.empty()) {
      if (runs_.capacity() == 0 && !make_room()) return false;
    } else {
      if (runs_.back().touches(r)) {
        runs_.back().add(r);
        total_ += r.size;
        return true;
      }
      if (!make_room()) return false;
    }
    runs_.push_reserved(r);
    total_ += r.size;
    return true;
  }
  /// Room for `n` more, which are made there; nullptr: memory is out.
  [[nodiscard]] run* room_for(std::uint32_t n) noexcept {
    return runs_.reserve(runs_.size() + n) ? runs_.end() : nullptr;
  }
  /// Those in front of `end` were, of so many bytes.
  void add_made(const run* end, std::uint64_t bytes) noexcept {
    runs_.extend_to(end);
    total_ += bytes;
  }
  /// Puts a run in front of run `at`. False: memory is out.
  [[nodiscard]] bool insert(std::uint32_t at, const run& r) noexcept {
    if (!make_room()) return false;
    runs_.insert_reserved(at, r);
    total_ += r.size;
    return true;
  }
  /// Takes bytes off the end, so that `total` are left.
  void cut(std::uint64_t total) noexcept {
    if (total_ <= total) return;
    cut_ = true;
    all = false;
    while (total_ > total) {
      run& last = runs_.back();
      const std::uint64_t excess = total_ - total;
      if (excess < last.size) {
        last.size -= static_cast<std::uint32_t>(excess);
        total_ = total;
      } else {
        total_ -= last.size;
        runs_.pop_back();
      }
    }
  }

  /// Few runs are shown as they lie; many, or many for a transport with one buffer, are copied into
  /// one. Nothing: memory is out.
  [[nodiscard]] std::span<const buffer> lay_out(std::uint32_t room) noexcept {
    if (runs_.size() != 1) return lay_out_many(room);
    copied_ = false;
    buffers_[0] = {runs_[0].data, runs_[0].size};
    return {buffers_, 1};
  }

 private:
  friend struct flight;

  [[nodiscard]] bool make_room() noexcept {
    const std::uint32_t n = runs_.capacity();
    return runs_.size() < n || runs_.reserve(n < 8 ? 8 : n * 2);
  }
  [[nodiscard]] std::span<const buffer> lay_out_many(std::uint32_t room) noexcept {
    if (room == 1 && runs_.size() > 1) {
      if (runs_[0].size >= record && runs_[0].seg != nullptr) {
        cut(runs_[0].size);
      } else {
        cut(record);
      }
    }
    const std::uint32_t n = runs_.size();
    copied_ = false;
    if (n <= room && (n <= 4 || total_ >= std::uint64_t{n} * 512)) {
      for (std::uint32_t i = 0; i < n; ++i) buffers_[i] = {runs_[i].data, runs_[i].size};
      return {buffers_, n};
    }
    if (total_ > copy_capacity_) {
      deallocate(copy_);
      copy_capacity_ = total_ < 4096 ? 4096 : to_size(total_);
      copy_ = static_cast<char*>(allocate(copy_capacity_));
      if (copy_ == nullptr) {
        copy_capacity_ = 0;
        return {};
      }
    }
    copied_ = true;
    char* out = copy_;
    for (const run& r : runs_) {
      std::memcpy(out, r.data, r.size);
      out += r.size;
    }
    buffers_[0] = {copy_, to_size(total_)};
    return {buffers_, 1};
  }

  vec<run> runs_;
  std::uint64_t total_ = 0;
  std::uint64_t limit_ = 0;
  char* copy_ = nullptr;
  std::size_t copy_capacity_ = 0;
  bool cut_ = false;
  bool copied_ = false;  ///< what is shown is the copy
  buffer buffers_[most_buffers];
};

/// A write that is pending, or a peek: its runs, and the copy if there is one, until it is over.
struct flight {
  vec<run> runs;
  union {
    char* copy = nullptr;  ///< while there are runs
    std::uint32_t link;    ///< of a free one
  };
  [[nodiscard]] std::uint32_t& free_link() noexcept { return link; }

  flight() noexcept = default;
  flight(const flight&) = delete;
  flight& operator=(const flight&) = delete;
  ~flight() {
    if (!runs.empty()) deallocate(copy);
  }

  [[nodiscard]] std::uint64_t total() const noexcept {
    std::uint64_t n = 0;
    for (const run& r : runs) n += r.size;
    return n;
  }
  /// Takes what `b` shows; `taken` of its bytes are under way.
  void begin(batch& b, std::uint64_t taken) noexcept {
    b.cut(taken);
    if (runs.reserve(b.runs_.size())) {
      runs.append_reserved(b.runs_.begin(), b.runs_.size());
    } else {  // its array is larger than that
      runs.swap(b.runs_);
    }
    b.runs_.clear();
    copy = nullptr;
    if (b.copied_ && !runs.empty()) {
      copy = std::exchange(b.copy_, nullptr);
      b.copy_capacity_ = 0;
    }
  }
  /// Shows it again, as many pieces as there is room for; returns how many.
  std::size_t show(std::span<buffer> out) const noexcept {
    if (out.empty()) return 0;
    if (copy != nullptr) {
      out[0] = {copy, to_size(total())};
      return 1;
    }
    std::size_t n = 0;
    for (; n < runs.size() && n < out.size(); ++n) {
      const run& r = runs[static_cast<std::uint32_t>(n)];
      out[n] = {r.data, r.size};
    }
    return n;
  }
  /// `keep`: the room for a few runs stays for the next one.
  void end(bool keep) noexcept {
    deallocate(std::exchange(copy, nullptr));
    if (!keep || runs.capacity() > 8) runs.release();
    runs.clear();
  }
};
static_assert(sizeof(flight) <= 24, "as many as sessions have ever been written to at once");

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_BATCH_HPP
