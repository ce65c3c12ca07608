// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// segment: a block of a log: the bytes of its entries from the front, the entries themselves from
// the back. segment_pool makes them and keeps a few for use again.
//
// Invariants:
//   1. Bytes never change or move once their entry is committed: the kernel gets them as they lie.
//   2. Nobody frees a segment that is pinned: by a cursor in it, or by a write that is pending.
#pragma once
#ifndef SSEHUB_DETAIL_LOG_SEGMENT_HPP
#define SSEHUB_DETAIL_LOG_SEGMENT_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>

#include <sse/detail/base/containers.hpp>
#include <sse/event.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// What a log has to know of an entry that is to be appended.
struct new_entry {
  std::uint32_t size = 0;     ///< bytes of the event
  event_id id = no_id;        ///< no_id: none
  std::uint64_t stamp = 0;    ///< order of publication over all channels of the hub; rises
  std::int64_t at = 0;        ///< ms, hub time of publication; never falls
  std::string_view audience;  ///< empty: everybody
  std::string_view text{};    ///< once it is there, its bytes behind the `id:` that the hub gave it
  bool heartbeat = false;     ///< not an application event
};

/// One event, told from where its segment begins. A private one has its audience in front of its
/// bytes.
struct entry {
  std::uint32_t begin = 0;  ///< of its first byte, in the segment
  std::uint32_t size = 0;
  std::uint32_t id = 0;        ///< above segment::id_base; 0: none
  std::uint32_t stamp = 0;     ///< above segment::stamp_base
  std::uint32_t at = 0;        ///< above segment::at_base
  std::uint16_t audience = 0;  ///< bytes of its audience; 0: everybody
  std::uint16_t flags = 0;     ///< a bit each, and about the run of private entries it stands in

  static constexpr std::uint16_t is_heartbeat = 0x8000;
  static constexpr std::uint16_t run_start = 0x4000;
  /// The first of a run says how long it is, the others where it begins.
  static constexpr std::uint16_t run_mask = 0x3fff;

  [[nodiscard]] bool heartbeat() const noexcept { return (flags & is_heartbeat) != 0; }
  [[nodiscard]] std::uint32_t end() const noexcept { return begin + size; }
};
static_assert((entry::is_heartbeat | entry::run_start | entry::run_mask) == 0xffff &&
              (entry::is_heartbeat & entry::run_start) == 0);
static_assert(sizeof(entry) == 24, "one for each event that is retained");

struct segment {
  segment* next = nullptr;  ///< the newer neighbour, while attached
  std::uint64_t base = 0;   ///< log offset of its first byte
  std::uint64_t first = 0;  ///< ordinal of its first entry
  event_id id_base = 0;
  std::uint64_t stamp_base = 0;
  std::int64_t at_base = 0;
  std::uint32_t capacity = 0;  ///< bytes for entries and what they tell of
  std::uint32_t used = 0;      ///< bytes of events
  std::uint32_t count = 0;     ///< entries
  std::uint32_t pins = 0;      ///< cursors in it and writes pending on it
  bool attached = true;        ///< still in its log
  bool mixed = false;          ///< holds entries that not everybody may see, or heartbeats

  [[nodiscard]] char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
  [[nodiscard]] const char* bytes() const noexcept {
    return reinterpret_cast<const char*>(this + 1);
  }
  [[nodiscard]] std::uint64_t end() const noexcept { return base + used; }
  [[nodiscard]] const entry& operator[](std::uint32_t k) const noexcept {
    SSEHUB_ASSERT(k < count);
    return back()[-1 - static_cast<std::ptrdiff_t>(k)];
  }
  [[nodiscard]] const char* data(const entry& e) const noexcept { return bytes() + e.begin; }
  [[nodiscard]] std::string_view text(const entry& e) const noexcept { return {data(e), e.size}; }
  [[nodiscard]] event_id id(const entry& e) const noexcept {
    return e.id == 0 ? no_id : id_base + e.id;
  }
  [[nodiscard]] std::uint64_t stamp(const entry& e) const noexcept { return stamp_base + e.stamp; }
  [[nodiscard]] std::int64_t at(const entry& e) const noexcept { return at_base + e.at; }
  [[nodiscard]] std::string_view audience(const entry& e) const noexcept {
    return {data(e) - e.audience, e.audience};
  }

  /// Whether the entry fits: room, and distances that have 32 bits.
  [[nodiscard]] bool fits(const new_entry& e) const noexcept {
    const std::uint64_t room =
        std::uint64_t{capacity} - used - std::uint64_t{count} * sizeof(entry);
    if (room < need(e)) return false;
    return count == 0 ||
           ((e.id == no_id || e.id - id_base <= UINT32_MAX) && e.stamp - stamp_base <= UINT32_MAX &&
            static_cast<std::uint64_t>(e.at - at_base) <= UINT32_MAX);
  }
  [[nodiscard]] static constexpr std::uint64_t need(const new_entry& e) noexcept {
    return std::uint64_t{e.size} + e.audience.size() + sizeof(entry);
  }
  /// Where the bytes of the next entry go. REQUIRES: fits(e).
  [[nodiscard]] char* place(const new_entry& e) noexcept {
    SSEHUB_ASSERT(fits(e));
    return bytes() + used + e.audience.size();
  }
  /// Makes them an entry. REQUIRES: fits(e).
  void commit(const new_entry& e) noexcept {
    SSEHUB_ASSERT(fits(e));
    if (count == 0) {
      id_base = e.id == no_id ? 0 : e.id - 1;
      stamp_base = e.stamp;
      at_base = e.at;
    }
    const std::uint32_t k = count;
    entry made;
    made.begin = used + static_cast<std::uint32_t>(e.audience.size());
    made.size = e.size;
    made.id = e.id == no_id ? 0 : static_cast<std::uint32_t>(e.id - id_base);
    made.stamp = static_cast<std::uint32_t>(e.stamp - stamp_base);
    made.at = static_cast<std::uint32_t>(e.at - at_base);
    made.audience = static_cast<std::uint16_t>(e.audience.size());
    if (e.heartbeat) {
      made.flags = entry::is_heartbeat;
      mixed = true;
    }
    if (!e.audience.empty()) add_private(made, e.audience);
    ::new (static_cast<void*>(back() - 1 - k)) entry(made);
    used = made.end();
    ++count;
  }
  /// The first entry from `k` on that everybody may see; `count`: there is none.
  [[nodiscard]] std::uint32_t next_public(std::uint32_t k) const noexcept {
    if (k >= count || (*this)[k].audience == 0) return k;
    const std::uint32_t start = run_begin(k);
    return start + (*this)[start].flags % (entry::run_mask + 1U);
  }
  /// The first entry from `lo` on that ends behind offset `pos` of the segment; `count`: none.
  [[nodiscard]] std::uint32_t locate(std::uint64_t pos, std::uint32_t lo = 0) const noexcept {
    return first_that([&](const entry& e) { return e.end() > pos; }, lo);
  }
  /// The first entry from `lo` on for which `holds`, given that it holds for all behind it.
  template <class Predicate>
  [[nodiscard]] std::uint32_t first_that(Predicate holds, std::uint32_t lo) const noexcept {
    std::uint32_t hi = count;
    while (lo < hi) {
      const std::uint32_t mid = lo + (hi - lo) / 2;
      if (holds((*this)[mid])) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }

 private:
  [[nodiscard]] entry* back() noexcept { return reinterpret_cast<entry*>(bytes() + capacity); }
  [[nodiscard]] const entry* back() const noexcept {
    return reinterpret_cast<const entry*>(bytes() + capacity);
  }
  /// The next entry is a private one.
  void add_private(entry& made, std::string_view name) noexcept {
    mixed = true;
    std::memcpy(bytes() + used, name.data(), name.size());
    if (count == 0 || (*this)[count - 1].audience == 0) {
      made.flags |= entry::run_start | 1U;
      return;
    }
    const std::uint32_t start = run_begin(count - 1);
    made.flags = static_cast<std::uint16_t>(made.flags | start);
    ++back()[-1 - static_cast<std::ptrdiff_t>(start)].flags;
  }
  [[nodiscard]] std::uint32_t run_begin(std::uint32_t k) const noexcept {
    const std::uint32_t flags = (*this)[k].flags;
    return (flags & entry::run_start) != 0 ? k : flags & entry::run_mask;
  }
};
static_assert(sizeof(segment) % alignof(entry) == 0, "entries stand at the end of its bytes");

/// Segments come in sizes that double, so that those that were used can be used again.
class segment_pool {
 public:
  static constexpr std::uint32_t smallest = 512;    ///< bytes, with the segment's own
  static constexpr std::uint32_t largest = 65'536;  ///< of those that are kept for use again

  segment_pool() noexcept = default;
  segment_pool(const segment_pool&) = delete;
  segment_pool& operator=(const segment_pool&) = delete;
  ~segment_pool() {
    for (segment*& list : spare_) {
      while (segment* s = list) {
        list = s->next;
        free_segment(s);
      }
    }
  }

  /// A segment of about `size` bytes in all, with room for `need` in any case; nullptr: memory is
  /// out, or `need` has more than 32 bits.
  [[nodiscard]] segment* take(std::uint64_t size, std::uint64_t need) noexcept {
    std::uint64_t all = smallest;
    std::uint32_t kind = 0;
    for (; (all < size || all - sizeof(segment) < need) && all < largest; all *= 2) ++kind;
    if (all - sizeof(segment) < need) {
      all = (need + sizeof(segment) + 15) / 16 * 16;
      if (all > 0xfffffff0U) return nullptr;
    } else if (segment* const s = spare_[kind]) {
      spare_[kind] = s->next;
      spare_bytes_ -= all;
      const std::uint32_t capacity = s->capacity;
      *s = segment{};
      s->capacity = capacity;
      return s;
    }
    void* const p = allocate(to_size(all));
    if (p == nullptr) return nullptr;
    auto* const s = ::new (p) segment{};
    s->capacity = static_cast<std::uint32_t>(all - sizeof(segment));
    held_ += all;
    return s;
  }
  void give_back(segment* s) noexcept {
    SSEHUB_ASSERT(s->pins == 0);
    const std::uint64_t all = s->capacity + sizeof(segment);
    std::uint32_t kind = 0;
    for (std::uint64_t n = smallest; n < all; n *= 2) ++kind;
    if (all > largest || all != std::uint64_t{smallest} << kind ||
        spare_bytes_ + all > max_spare_bytes) {
      free_segment(s);
      return;
    }
    spare_bytes_ += all;
    s->next = spare_[kind];
    spare_[kind] = s;
  }
  /// A cursor or a pending write lets go.
  void unpin(segment* s) noexcept {
    SSEHUB_ASSERT(s->pins != 0);
    if (--s->pins == 0 && !s->attached) give_back(s);
  }
  /// Bytes of all segments that exist, spare ones too.
  [[nodiscard]] std::uint64_t held() const noexcept { return held_; }

 private:
  static constexpr std::uint64_t max_spare_bytes = 16 * largest;
  static constexpr std::uint32_t kinds = 8;
  static_assert(largest / sizeof(entry) < entry::run_mask, "a run has 14 bits");
  static_assert(smallest << (kinds - 1) == largest);

  void free_segment(segment* s) noexcept {
    held_ -= s->capacity + sizeof(segment);
    s->~segment();
    deallocate(s);
  }

  segment* spare_[kinds] = {};
  std::uint64_t spare_bytes_ = 0;
  std::uint64_t held_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_SEGMENT_HPP
