// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// name_table: names of things that are there now, numbered, with a value each: found, added and
// taken out in constant time, however many there are. Users, addresses, channels, audiences, keys.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_NAME_TABLE_HPP
#define SSEHUB_DETAIL_BASE_NAME_TABLE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>

#include <sse/detail/base/blob.hpp>
#include <sse/detail/base/containers.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Eight bytes at a time, each xored in and multiplied, with a seed and a finish: names come from
/// outside, so the seed is the host's secret against crowding a bucket.
[[nodiscard]] inline std::uint64_t hash_name(std::string_view name, std::uint64_t seed) noexcept {
  constexpr std::uint64_t odd = 0x9fb21c651e98df25ULL;
  const auto word = [](const char* p) {
    std::uint64_t w;
    std::memcpy(&w, p, sizeof w);
    return w;
  };
  const auto half = [](const char* p) {
    std::uint32_t w;
    std::memcpy(&w, p, sizeof w);
    return std::uint64_t{w};
  };
  const auto byte = [](char c) { return std::uint64_t{static_cast<unsigned char>(c)}; };
  const char* p = name.data();
  std::size_t n = name.size();
  std::uint64_t h = (seed ^ n) * odd;
  for (; n > 8; n -= 8, p += 8) {
    h = (h ^ word(p)) * odd;
    h ^= h >> 32;
  }
  if (n >= 4) {  // what is left, some of it twice
    h ^= half(p) | half(p + n - 4) << 32;
  } else if (n != 0) {
    h ^= byte(p[0]) | byte(p[n / 2]) << 8 | byte(p[n - 1]) << 16;
  }
  h *= odd;
  h ^= h >> 32;
  h *= 0x9e3779b97f4a7c15ULL;
  return h ^ (h >> 29);
}

/// `Value` is made anew for each name that is added. `Chunk`: names for which memory is taken at a
/// time.
template <class Value, std::uint32_t Chunk = 64>
class name_table {
 public:
  explicit name_table(std::uint64_t seed = 0) noexcept : seed_{seed} {}
  /// Only while it is empty.
  void set_seed(std::uint64_t seed) noexcept { seed_ = seed; }

  [[nodiscard]] Value& operator[](std::uint32_t i) noexcept { return pool_[i].value; }
  [[nodiscard]] const Value& operator[](std::uint32_t i) const noexcept { return pool_[i].value; }
  [[nodiscard]] std::string_view name_of(std::uint32_t i) const noexcept {
    return pool_[i].name.view();
  }
  [[nodiscard]] std::uint64_t hash_of(std::uint32_t i) const noexcept { return pool_[i].hash; }
  [[nodiscard]] std::uint64_t hash(std::string_view name) const noexcept {
    return hash_name(name, seed_);
  }
  [[nodiscard]] std::uint32_t size() const noexcept { return used_; }
  /// All numbers are below it; those that are no names have no refs().
  [[nodiscard]] std::uint32_t extent() const noexcept { return pool_.extent(); }

  [[nodiscard]] std::uint32_t find(std::string_view name) const noexcept {
    return used_ == 0 ? none : find(name, hash(name));
  }
  /// The same for one whose hash is known: that of a table with the same seed.
  [[nodiscard]] std::uint32_t find(std::string_view name, std::uint64_t h) const noexcept {
    return find(name, h, [](const Value&) { return true; });
  }
  /// Of those that were added under that name, the one whose value `is` what is looked for.
  template <class Is>
  [[nodiscard]] std::uint32_t find(std::string_view name, std::uint64_t h, Is is) const noexcept {
    if (used_ == 0) return none;
    for (std::uint32_t i = buckets_[bucket(h)]; i != none; i = pool_[i].chain) {
      if (pool_[i].hash == h && pool_[i].name.view() == name && is(pool_[i].value)) return i;
    }
    return none;
  }

  /// Finds or adds, and takes a reference; none when memory is out.
  [[nodiscard]] std::uint32_t acquire(std::string_view name) noexcept {
    const std::uint64_t h = hash(name);
    const std::uint32_t i = find(name, h);
    if (i == none) return add(name, h);
    ++pool_[i].refs;
    return i;
  }
  /// Adds it, whether or not there is one of that name, with a reference; none when memory is out.
  [[nodiscard]] std::uint32_t add(std::string_view name, std::uint64_t h) noexcept {
    if (!grow() || !pool_.reserve_one()) return none;
    const std::uint32_t i = pool_.take();
    item& n = pool_[i];
    if (!n.name.assign(name)) {
      n.name.clear();
      pool_.give_back(i);
      return none;
    }
    n.hash = h;
    n.refs = 1;
    std::uint32_t& b = buckets_[bucket(h)];
    n.chain = b;
    b = i;
    ++used_;
    return i;
  }
  [[nodiscard]] std::uint32_t refs(std::uint32_t i) const noexcept { return pool_[i].refs; }

  /// True: that was the last reference; the name is gone.
  bool release(std::uint32_t i) noexcept {
    item& n = pool_[i];
    SSEHUB_ASSERT(n.refs != 0);
    if (--n.refs != 0) return false;
    std::uint32_t* at = &buckets_[bucket(n.hash)];
    while (*at != i) at = &pool_[*at].chain;
    *at = n.chain;
    n.name.clear();
    n.value.~Value();
    ::new (static_cast<void*>(&n.value)) Value();
    pool_.give_back(i);
    --used_;
    return true;
  }

 private:
  struct item {
    owned_text name;
    std::uint64_t hash = 0;
    std::uint32_t refs = 0;
    std::uint32_t chain = none;  ///< next in the hash bucket
    Value value{};
    [[nodiscard]] std::uint32_t& free_link() noexcept { return chain; }
  };

  [[nodiscard]] std::uint32_t bucket(std::uint64_t h) const noexcept {
    return static_cast<std::uint32_t>(h) & (buckets_.size() - 1);
  }
  [[nodiscard]] bool grow() noexcept {
    if (!buckets_.empty() && used_ < buckets_.size()) return true;
    const std::uint32_t n = buckets_.empty() ? 8 : buckets_.size() * 2;
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

  slot_pool<item, Chunk> pool_;
  vec<std::uint32_t> buckets_;
  std::uint32_t used_ = 0;
  std::uint64_t seed_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_NAME_TABLE_HPP
