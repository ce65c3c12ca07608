// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// blob: bytes that several may hold; owned_text: a piece of text. Making one may fail and says so.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_BLOB_HPP
#define SSEHUB_DETAIL_BASE_BLOB_HPP

#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

#include <sse/detail/base/containers.hpp>
#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Bytes that several may hold.
struct blob {
  std::uint32_t refs = 0;
  std::uint32_t size = 0;
  [[nodiscard]] char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
};
/// With one reference, or nullptr when memory is out.
[[nodiscard]] inline blob* make_blob(std::uint32_t size) noexcept {
  void* p = allocate(sizeof(blob) + size);
  if (p == nullptr) return nullptr;
  return ::new (p) blob{1, size};
}
inline void unref(blob* b) noexcept {
  if (--b->refs == 0) deallocate(b);
}

/// A piece of text that owns its bytes; assigning may fail.
class owned_text {
 public:
  owned_text() noexcept = default;
  owned_text(owned_text&& o) noexcept : bytes_{std::move(o.bytes_)} {}
  owned_text& operator=(owned_text&& o) noexcept {
    bytes_.swap(o.bytes_);
    return *this;
  }
  [[nodiscard]] bool assign(std::string_view a, std::string_view b = {},
                            std::string_view c = {}) noexcept {
    bytes_.clear();
    if (!bytes_.reserve(static_cast<std::uint32_t>(a.size() + b.size() + c.size()))) return false;
    for (const std::string_view part : {a, b, c}) bytes_.append_reserved(part.data(), part.size());
    return true;
  }
  void clear() noexcept { bytes_.release(); }
  [[nodiscard]] std::string_view view() const noexcept {
    return bytes_.empty() ? std::string_view{} : std::string_view{&bytes_[0], bytes_.size()};
  }

 private:
  vec<char> bytes_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_BLOB_HPP
