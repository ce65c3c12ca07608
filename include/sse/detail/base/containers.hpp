// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// containers: vec, ring, chunked_array, slot_pool. Growing may fail and says so: nothing here
// throws, so one failed allocation costs one call.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_CONTAINERS_HPP
#define SSEHUB_DETAIL_BASE_CONTAINERS_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include <sse/detail/base/assert.hpp>
#include <sse/detail/base/size.hpp>
#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

inline constexpr std::uint32_t none = 0xffffffffU;

[[nodiscard]] inline void* allocate(std::size_t bytes) noexcept {
  return ::operator new(bytes, std::nothrow);
}
inline void deallocate(void* p) noexcept { ::operator delete(p); }

/// A growable array of plain data. It keeps little in reserve: some have a place for every session.
template <class T>
class vec {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  vec() noexcept = default;
  vec(vec&& o) noexcept
      : data_{std::exchange(o.data_, nullptr)},
        size_{std::exchange(o.size_, 0)},
        capacity_{std::exchange(o.capacity_, 0)} {}
  vec& operator=(vec&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    std::swap(capacity_, o.capacity_);
    return *this;
  }
  vec(const vec&) = delete;
  vec& operator=(const vec&) = delete;
  ~vec() { deallocate(data_); }

  [[nodiscard]] bool reserve(std::uint32_t n) noexcept {
    if (n <= capacity_) return true;
    std::uint32_t grown = capacity_ + (capacity_ < 64 ? 8 : capacity_ / 8);
    if (grown < n) grown = n;
    auto* p = static_cast<T*>(allocate(std::size_t{grown} * sizeof(T)));
    if (p == nullptr) return false;
    if (size_ != 0) std::memcpy(static_cast<void*>(p), data_, std::size_t{size_} * sizeof(T));
    deallocate(data_);
    data_ = p;
    capacity_ = grown;
    return true;
  }
  [[nodiscard]] bool push_back(const T& v) noexcept {
    if (!reserve(size_ + 1)) return false;
    ::new (static_cast<void*>(data_ + size_)) T(v);
    ++size_;
    return true;
  }
  /// REQUIRES: reserve() made room.
  void push_reserved(const T& v) noexcept {
    SSEHUB_ASSERT(size_ < capacity_);
    ::new (static_cast<void*>(data_ + size_++)) T(v);
  }
  /// REQUIRES: reserve() made room for `n` more.
  void append_reserved(const T* from, std::size_t n) noexcept {
    SSEHUB_ASSERT(n <= capacity_ - size_);
    if (n != 0) std::memcpy(static_cast<void*>(data_ + size_), from, n * sizeof(T));
    size_ += static_cast<std::uint32_t>(n);
  }
  /// In front of element `at`. REQUIRES: reserve() made room; at <= size().
  void insert_reserved(std::uint32_t at, const T& v) noexcept {
    SSEHUB_ASSERT(size_ < capacity_ && at <= size_);
    T* const here = data_ + at;
    std::memmove(static_cast<void*>(here + 1), here, std::size_t{size_ - at} * sizeof(T));
    ::new (static_cast<void*>(here)) T(v);
    ++size_;
  }
  /// Elements were made at end() on, up to `end`. REQUIRES: reserve() made room for them.
  void extend_to(const T* end) noexcept {
    SSEHUB_ASSERT(end >= data_ + size_ && end <= data_ + capacity_);
    size_ = static_cast<std::uint32_t>(end - data_);
  }
  void pop_back() noexcept {
    SSEHUB_ASSERT(size_ != 0);
    --size_;
  }
  void clear() noexcept { size_ = 0; }
  /// Gives the memory back too.
  void release() noexcept {
    deallocate(data_);
    data_ = nullptr;
    size_ = capacity_ = 0;
  }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] T& operator[](std::uint32_t i) noexcept {
    SSEHUB_ASSERT(i < size_);
    return data_[i];
  }
  [[nodiscard]] const T& operator[](std::uint32_t i) const noexcept {
    SSEHUB_ASSERT(i < size_);
    return data_[i];
  }
  [[nodiscard]] T& back() noexcept {
    SSEHUB_ASSERT(size_ != 0);
    return data_[size_ - 1];
  }
  [[nodiscard]] T* begin() noexcept { return data_; }
  [[nodiscard]] T* end() noexcept { return data_ + size_; }
  [[nodiscard]] const T* begin() const noexcept { return data_; }
  [[nodiscard]] const T* end() const noexcept { return data_ + size_; }
  void swap(vec& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    std::swap(capacity_, o.capacity_);
  }

 private:
  T* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;
};

/// A queue of plain data, addressed by ordinals that never repeat: [first(), end()).
template <class T>
class ring {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  ring() noexcept = default;
  ring(const ring&) = delete;
  ring& operator=(const ring&) = delete;
  ~ring() { deallocate(data_); }

  /// Empty, with no memory; ordinals begin at 0 again.
  void release() noexcept {
    deallocate(data_);
    data_ = nullptr;
    capacity_ = first_ = end_ = 0;
  }

  /// Makes room for one more, so that the next push_back cannot fail.
  [[nodiscard]] bool reserve_one() noexcept {
    if (end_ - first_ < capacity_) return true;
    const std::uint64_t grown = capacity_ == 0 ? 2 : capacity_ * 2;
    auto* p = static_cast<T*>(allocate(to_size(grown) * sizeof(T)));
    if (p == nullptr) return false;
    if (capacity_ != 0) {  // full: up to where the old one wrapped around, and what comes behind
      const std::uint64_t wrapped = first_ & (capacity_ - 1);
      const std::uint64_t turn = first_ - wrapped + capacity_;
      std::memcpy(static_cast<void*>(p + (first_ & (grown - 1))), data_ + wrapped,
                  to_size(capacity_ - wrapped) * sizeof(T));
      std::memcpy(static_cast<void*>(p + (turn & (grown - 1))), data_,
                  to_size(wrapped) * sizeof(T));
    }
    deallocate(data_);
    data_ = p;
    capacity_ = grown;
    return true;
  }
  void push_reserved(const T& v) noexcept {
    SSEHUB_ASSERT(end_ - first_ < capacity_);
    ::new (static_cast<void*>(data_ + (end_ & (capacity_ - 1)))) T(v);
    ++end_;
  }
  void pop_front() noexcept {
    SSEHUB_ASSERT(first_ != end_);
    ++first_;
  }
  [[nodiscard]] std::uint64_t first() const noexcept { return first_; }
  [[nodiscard]] std::uint64_t end() const noexcept { return end_; }
  [[nodiscard]] bool empty() const noexcept { return first_ == end_; }
  [[nodiscard]] T& operator[](std::uint64_t ordinal) noexcept {
    SSEHUB_ASSERT(ordinal - first_ < end_ - first_);
    return data_[ordinal & (capacity_ - 1)];
  }
  [[nodiscard]] const T& operator[](std::uint64_t ordinal) const noexcept {
    SSEHUB_ASSERT(ordinal - first_ < end_ - first_);
    return data_[ordinal & (capacity_ - 1)];
  }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
  /// What is in it, for one who walks through. It stands until the ring changes.
  struct window {
    const T* data = nullptr;
    std::uint64_t mask = 0;
    std::uint64_t end = 0;
    [[nodiscard]] const T& operator[](std::uint64_t ordinal) const noexcept {
      SSEHUB_ASSERT(ordinal < end);
      return data[ordinal & mask];
    }
  };
  [[nodiscard]] window view() const noexcept { return {data_, capacity_ - 1, end_}; }

 private:
  T* data_ = nullptr;
  std::uint64_t capacity_ = 0;
  std::uint64_t first_ = 0;
  std::uint64_t end_ = 0;
};

/// Values at addresses that never change, by number; made in chunks, so that growing copies
/// nothing.
template <class T, std::uint32_t Chunk = 128>
class chunked_array {
 public:
  static constexpr std::uint32_t chunk_size = Chunk;

  chunked_array() noexcept = default;
  chunked_array(const chunked_array&) = delete;
  chunked_array& operator=(const chunked_array&) = delete;
  ~chunked_array() {
    for (T* chunk : chunks_) {
      for (std::uint32_t i = 0; i < chunk_size; ++i) chunk[i].~T();
      deallocate(chunk);
    }
  }

  [[nodiscard]] bool add_chunk() noexcept {
    if (!chunks_.reserve(chunks_.size() + 1)) return false;
    auto* chunk = static_cast<T*>(allocate(sizeof(T) * chunk_size));
    if (chunk == nullptr) return false;
    for (std::uint32_t i = 0; i < chunk_size; ++i) ::new (static_cast<void*>(chunk + i)) T();
    chunks_.push_reserved(chunk);
    return true;
  }
  /// Makes `n` values exist.
  [[nodiscard]] bool reserve(std::uint32_t n) noexcept {
    while (extent() < n) {
      if (!add_chunk()) return false;
    }
    return true;
  }
  /// Values that exist.
  [[nodiscard]] std::uint32_t extent() const noexcept { return chunks_.size() * chunk_size; }
  [[nodiscard]] T& operator[](std::uint32_t i) noexcept {
    return chunks_[i / chunk_size][i % chunk_size];
  }
  [[nodiscard]] const T& operator[](std::uint32_t i) const noexcept {
    return chunks_[i / chunk_size][i % chunk_size];
  }

 private:
  vec<T*> chunks_;
};

/// Numbered slots, used again. T has `free_link()`, a number that it does not need while its slot
/// is free.
template <class T, std::uint32_t Chunk = 128>
class slot_pool {
 public:
  /// Makes room for one more, so that the next take() cannot fail.
  [[nodiscard]] bool reserve_one() noexcept { return free_ != none || add_chunk(); }
  [[nodiscard]] std::uint32_t take() noexcept {
    if (!reserve_one()) return none;
    const std::uint32_t i = free_;
    free_ = values_[i].free_link();
    ++in_use_;
    return i;
  }
  void give_back(std::uint32_t i) noexcept {
    SSEHUB_ASSERT(i < extent() && in_use_ != 0);
    values_[i].free_link() = free_;
    free_ = i;
    --in_use_;
  }
  /// Slots that exist, in use or free.
  [[nodiscard]] std::uint32_t extent() const noexcept { return values_.extent(); }
  [[nodiscard]] std::uint32_t in_use() const noexcept { return in_use_; }
  [[nodiscard]] T& operator[](std::uint32_t i) noexcept { return values_[i]; }
  [[nodiscard]] const T& operator[](std::uint32_t i) const noexcept { return values_[i]; }

 private:
  [[nodiscard]] bool add_chunk() noexcept {
    const std::uint32_t base = extent();
    if (!values_.add_chunk()) return false;
    for (std::uint32_t i = base + Chunk; i-- > base;) {
      values_[i].free_link() = free_;
      free_ = i;
    }
    return true;
  }

  chunked_array<T, Chunk> values_;
  std::uint32_t free_ = none;
  std::uint32_t in_use_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_CONTAINERS_HPP
