// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Users and addresses that have connections now, numbered, with a count each: what the caps per
// user and per address ask.
#pragma once

#include <cstdint>
#include <string_view>

#include <sse/detail/memory.hpp>

namespace sse::inline v0::detail {

/// One user or address.
struct name {
  owned_text key;
  std::uint64_t hash = 0;
  std::uint32_t refs = 0;      ///< sessions that hold it
  std::uint32_t count = 0;     ///< sessions that count against a cap
  std::uint32_t first = none;  ///< its sessions, oldest first (users only)
  std::uint32_t last = none;
  std::uint32_t chain = none;  ///< next in the hash bucket
  [[nodiscard]] std::uint32_t& free_link() noexcept { return chain; }
};

class names {
 public:
  [[nodiscard]] name& operator[](std::uint32_t i) noexcept { return pool_[i]; }

  [[nodiscard]] std::uint32_t find(std::string_view key) noexcept {
    if (buckets_.empty()) return none;
    const std::uint64_t h = hash(key);
    for (std::uint32_t i = buckets_[bucket(h)]; i != none; i = pool_[i].chain) {
      if (pool_[i].hash == h && pool_[i].key.view() == key) return i;
    }
    return none;
  }

  /// Finds or adds, and takes a reference; none when memory is out.
  [[nodiscard]] std::uint32_t acquire(std::string_view key) noexcept {
    std::uint32_t i = find(key);
    if (i == none) {
      if (!grow() || !pool_.reserve_one()) return none;
      i = pool_.take();
      name& n = pool_[i];
      if (!n.key.assign(key)) {
        pool_.give_back(i);
        return none;
      }
      n.hash = hash(key);
      n.refs = n.count = 0;
      n.first = n.last = none;
      std::uint32_t& b = buckets_[bucket(n.hash)];
      n.chain = b;
      b = i;
      ++used_;
    }
    ++pool_[i].refs;
    return i;
  }

  void release(std::uint32_t i) noexcept {
    if (--pool_[i].refs != 0) return;
    std::uint32_t* at = &buckets_[bucket(pool_[i].hash)];
    while (*at != i) at = &pool_[*at].chain;
    *at = pool_[i].chain;
    pool_[i].key = owned_text{};
    pool_.give_back(i);
    --used_;
  }

  void set_seed(std::uint64_t seed) noexcept { seed_ = seed; }

 private:
  /// FNV-1a with a seed and a finish: keys come from outside, so the seed is the host's secret
  /// against crowding a bucket.
  [[nodiscard]] std::uint64_t hash(std::string_view key) const noexcept {
    std::uint64_t h = 0xcbf29ce484222325ULL ^ seed_;
    for (char c : key) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15ULL;
    return h ^ (h >> 29);
  }
  [[nodiscard]] std::uint32_t bucket(std::uint64_t h) const noexcept {
    return static_cast<std::uint32_t>(h) & (buckets_.size() - 1);
  }
  [[nodiscard]] bool grow() noexcept {
    if (!buckets_.empty() && used_ < buckets_.size()) return true;
    const std::uint32_t n = buckets_.empty() ? 64 : buckets_.size() * 2;
    vec<std::uint32_t> bigger;
    if (!bigger.reserve(n)) return !buckets_.empty();  // a fuller table still works
    for (std::uint32_t i = 0; i < n; ++i) bigger.push_reserved(none);
    buckets_.swap(bigger);
    for (std::uint32_t head : bigger) {
      while (head != none) {
        const std::uint32_t next = pool_[head].chain;
        std::uint32_t& b = buckets_[bucket(pool_[head].hash)];
        pool_[head].chain = b;
        b = head;
        head = next;
      }
    }
    return true;
  }

  slots<name> pool_;
  vec<std::uint32_t> buckets_;
  std::uint32_t used_ = 0;
  std::uint64_t seed_ = 0;
};

}  // namespace sse::inline v0::detail
