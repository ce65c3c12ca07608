// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// latest_values: the newest entry of each key of a channel, oldest first: what a reader that
// coalesces, or begins with a snapshot, still has to see. Memory: at most `most` keys with an event
// each; the key that was silent longest goes first.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <sse/detail/memory.hpp>
#include <sse/detail/names.hpp>

namespace sse::inline v0::detail {

struct latest_value {
  blob* bytes = nullptr;  ///< the encoded event
  owned_text audience;
  std::uint64_t position = 0;  ///< its id, or its stamp where there are no ids
  std::uint32_t newer = none;
  std::uint32_t older = none;
};

class latest_values {
 public:
  latest_values(std::uint32_t most, std::uint64_t seed) noexcept : most_{most} {
    keys_.set_seed(seed);
  }
  latest_values(const latest_values&) = delete;
  latest_values& operator=(const latest_values&) = delete;
  ~latest_values() {
    while (oldest_ != none) drop(oldest_);
  }

  /// An entry was published. Without a key, or when memory is out, it is one that no later value
  /// makes up for.
  void put(std::string_view key, std::uint64_t position, std::string_view bytes,
           std::string_view audience) noexcept {
    if (key.empty() || !store(key, position, bytes, audience)) lost_ = position;
  }

  /// The oldest value behind `position`; none.
  [[nodiscard]] std::uint32_t after(std::uint64_t position) const noexcept {
    std::uint32_t found = none;
    for (std::uint32_t i = newest_; i != none && values_[i].position > position;
         i = values_[i].older)
      found = i;
    return found;
  }
  [[nodiscard]] const latest_value& operator[](std::uint32_t i) const noexcept {
    return values_[i];
  }
  /// The newest entry that is in no value and was replaced by none; 0: none.
  [[nodiscard]] std::uint64_t lost() const noexcept { return lost_; }

 private:
  [[nodiscard]] bool store(std::string_view key, std::uint64_t position, std::string_view bytes,
                           std::string_view audience) noexcept {
    const std::uint32_t known = keys_.find(key);
    if (known != none) {
      unlink(known);
    } else if (count_ == most_) {
      if (values_[oldest_].position > lost_) lost_ = values_[oldest_].position;
      drop(oldest_);
    }
    const std::uint32_t i = known != none ? known : keys_.acquire(key);
    if (i == none) return false;
    if (known == none) ++count_;
    if (!values_.reserve_extent(i + 1)) {
      if (known == none) {
        keys_.release(i);
        --count_;
      }
      return false;
    }
    latest_value& v = values_[i];
    link(i);
    v.position = position;
    const auto size = static_cast<std::uint32_t>(bytes.size());
    // else nobody is sending it
    if (v.bytes == nullptr || v.bytes->refs != 1 || v.bytes->size != size) {
      if (v.bytes != nullptr) unref(v.bytes);
      v.bytes = make_blob(size);
    }
    if (v.bytes == nullptr || !v.audience.assign(audience)) {
      drop(i);
      return false;
    }
    std::memcpy(v.bytes->bytes(), bytes.data(), size);
    return true;
  }

  void link(std::uint32_t i) noexcept {
    values_[i].older = newest_;
    values_[i].newer = none;
    (newest_ == none ? oldest_ : values_[newest_].newer) = i;
    newest_ = i;
  }
  void unlink(std::uint32_t i) noexcept {
    const latest_value& v = values_[i];
    (v.older == none ? oldest_ : values_[v.older].newer) = v.newer;
    (v.newer == none ? newest_ : values_[v.newer].older) = v.older;
  }
  void drop(std::uint32_t i) noexcept {
    unlink(i);
    latest_value& v = values_[i];
    if (v.bytes != nullptr) unref(v.bytes);
    v.bytes = nullptr;
    v.audience = owned_text{};
    keys_.release(i);
    --count_;
  }

  /// Values have the numbers of their keys.
  struct slot : latest_value {
    [[nodiscard]] std::uint32_t& free_link() noexcept { return newer; }
  };

  names keys_;
  slots<slot> values_;
  std::uint32_t most_;
  std::uint32_t count_ = 0;
  std::uint32_t newest_ = none;
  std::uint32_t oldest_ = none;
  std::uint64_t lost_ = 0;
};

}  // namespace sse::inline v0::detail
