// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// bytes: a growing byte buffer that says when memory is out instead of throwing. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_BYTE_BUFFER_HPP
#define SSEHUB_DETAIL_BASE_BYTE_BUFFER_HPP

#include <cstddef>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include <sse/config.hpp>
#include <sse/detail/base/assert.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class bytes {
 public:
  bytes() noexcept = default;
  bytes(bytes&& other) noexcept { swap(other); }
  bytes& operator=(bytes&& other) noexcept {
    bytes moved{std::move(other)};
    swap(moved);
    return *this;
  }
  ~bytes() { ::operator delete(data_); }

  [[nodiscard]] std::string_view view() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  /// What it has room for without an allocation; bytes behind size() may be written to, and stay
  /// until the next call that is not const.
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] char* data() noexcept { return data_; }
  [[nodiscard]] const char* data() const noexcept { return data_; }

  /// Room for exactly `n` bytes in all, if there is less. False if memory is out; nothing changed
  /// then.
  [[nodiscard]] bool reserve(std::size_t n) noexcept {
    if (n <= capacity_) return true;
    auto* const data = static_cast<char*>(::operator new(n, std::nothrow));
    if (data == nullptr) return false;
    if (size_ != 0) std::memcpy(data, data_, size_);
    ::operator delete(data_);
    data_ = data;
    capacity_ = n;
    return true;
  }
  /// False if memory is out; nothing changed then. Amortised constant time per byte.
  [[nodiscard]] bool append(std::string_view more) noexcept {
    if (more.size() > capacity_ - size_ && !grow(more.size())) return false;
    if (!more.empty()) std::memcpy(data_ + size_, more.data(), more.size());
    size_ += more.size();
    return true;
  }
  [[nodiscard]] bool assign(std::string_view text) noexcept {
    size_ = 0;
    return append(text);
  }

  /// Drops the end. REQUIRES: size <= size().
  void truncate(std::size_t size) noexcept {
    SSEHUB_ASSERT(size <= size_);
    size_ = size;
  }
  /// Keeps a small block for the next use and gives a large one back.
  void clear() noexcept {
    size_ = 0;
    if (capacity_ > 64 * 1024) release();
  }
  void release() noexcept {
    ::operator delete(data_);
    data_ = nullptr;
    size_ = capacity_ = 0;
  }
  void swap(bytes& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

 private:
  [[nodiscard]] bool grow(std::size_t more) noexcept {
    if (more > static_cast<std::size_t>(-1) / 2 - size_) return false;
    std::size_t capacity = capacity_ < 64 ? 64 : capacity_ * 2;
    if (capacity < size_ + more) capacity = size_ + more;
    return reserve(capacity);
  }

  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_BYTE_BUFFER_HPP
