// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// event_log: a channel's events as encoded bytes in segments, an index over them, and what is
// retained for resuming. Used by the hub; a program that wants a stream uses a channel.
//
// Invariants:
//   1. Bytes in a segment never change or move after append: the kernel gets them as they lie.
//   2. A cursor, or a write still pending, pins its segment: nobody frees a pinned segment, even
//      after the log let it go (detached).
//   3. Retained entries are the newest ones within `retention`, exactly; the log holds more only
//      while somebody reads it.
//
// Not thread-safe: it belongs to the hub's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/config.hpp>
#include <sse/detail/memory.hpp>
#include <sse/event.hpp>

namespace sse::inline v0::detail {

/// A block of log bytes. Stream offset of its byte i: base + i.
struct segment {
  segment* next = nullptr;  ///< the newer neighbour, while attached
  std::uint64_t base = 0;
  std::uint32_t used = 0;
  std::uint32_t capacity = 0;
  std::uint32_t pins = 0;  ///< cursors in it and writes pending on it
  bool attached = true;    ///< still in its log
  bool mixed = false;      ///< holds entries that not every cursor may send: look at each one

  [[nodiscard]] char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
  [[nodiscard]] std::uint64_t end() const noexcept { return base + used; }
};

/// Makes segments and keeps a few for use again, so that a steady stream allocates nothing.
class segment_pool {
 public:
  static constexpr std::uint32_t smallest = 4096 - sizeof(segment);
  static constexpr std::uint32_t largest = 65536 - sizeof(segment);

  segment_pool() noexcept = default;
  segment_pool(const segment_pool&) = delete;
  segment_pool& operator=(const segment_pool&) = delete;
  ~segment_pool() {
    while (segment* s = spare_) {
      spare_ = s->next;
      free_segment(s);
    }
  }

  /// A segment with at least `room` bytes, or nullptr when memory is out.
  [[nodiscard]] segment* take(std::uint32_t room) noexcept {
    segment* s = nullptr;
    if (room <= largest && room > largest / 2 && spare_ != nullptr) {
      s = spare_;
      spare_ = s->next;
      --spares_;
      const std::uint32_t capacity = s->capacity;
      *s = segment{};
      s->capacity = capacity;
    } else {
      void* p = allocate(sizeof(segment) + room);
      if (p == nullptr) return nullptr;
      s = ::new (p) segment{};
      s->capacity = room;
      held_ += room;
    }
    return s;
  }
  void give_back(segment* s) noexcept {
    if (s->capacity == largest && spares_ < max_spares) {
      s->next = spare_;
      spare_ = s;
      ++spares_;
    } else {
      free_segment(s);
    }
  }
  /// A cursor or a pending write lets go.
  void unpin(segment* s) noexcept {
    if (--s->pins == 0 && !s->attached) give_back(s);
  }
  /// Bytes of all segments that exist, spare ones too.
  [[nodiscard]] std::uint64_t held() const noexcept { return held_; }

 private:
  static constexpr std::uint32_t max_spares = 16;

  void free_segment(segment* s) noexcept {
    held_ -= s->capacity;
    s->~segment();
    deallocate(s);
  }

  segment* spare_ = nullptr;
  std::uint32_t spares_ = 0;
  std::uint64_t held_ = 0;
};

/// One event in the log. Its audience, if it has one, lies in the `audience` bytes in front of
/// `begin`.
struct entry {
  event_id id = no_id;      ///< no_id: none
  std::uint64_t begin = 0;  ///< stream offset of its first byte
  std::uint64_t stamp = 0;  ///< order of publication over all channels of the hub
  std::int64_t at = 0;      ///< ms, hub time of publication
  segment* seg = nullptr;
  std::uint32_t size = 0;
  std::uint16_t audience = 0;  ///< bytes of its audience
  bool heartbeat = false;      ///< not an application event

  [[nodiscard]] std::uint64_t end() const noexcept { return begin + size; }
  [[nodiscard]] std::uint32_t offset() const noexcept {
    return static_cast<std::uint32_t>(begin - seg->base);
  }
  [[nodiscard]] std::string_view bytes() const noexcept { return {seg->bytes() + offset(), size}; }
  [[nodiscard]] std::string_view audience_view() const noexcept {
    return {seg->bytes() + offset() - audience, audience};
  }
};

/// What a log keeps for those who resume. An entry is kept while all three hold.
struct retention {
  std::uint64_t events = 1000;       ///< newest entries kept; exact
  std::uint64_t bytes = UINT64_MAX;  ///< encoded bytes kept
  duration age = duration::off();    ///< off: any age
};

class event_log {
 public:
  event_log(segment_pool& pool, const retention& keep) noexcept : pool_{&pool}, keep_{keep} {}
  event_log(const event_log&) = delete;
  event_log& operator=(const event_log&) = delete;
  ~event_log() {
    while (head_ != nullptr) drop_head();
  }

  /// Room for one entry of `size` bytes behind `audience` bytes, or nullptr when memory is out;
  /// nothing changes until commit().
  [[nodiscard]] char* prepare(std::uint32_t size, std::uint32_t audience) noexcept {
    const std::uint64_t room = std::uint64_t{size} + audience;
    if (room > 0xffff0000U || !index_.reserve_one()) return nullptr;
    if (tail_ == nullptr || tail_->capacity - tail_->used < room) {
      std::uint32_t capacity = tail_ == nullptr ? segment_pool::smallest : segment_pool::largest;
      if (tail_ != nullptr && tail_->capacity < segment_pool::largest / 4)
        capacity = tail_->capacity * 4;
      if (capacity < room) capacity = static_cast<std::uint32_t>(room);
      segment* s = pool_->take(capacity);
      if (s == nullptr) return nullptr;
      s->base = end_;
      if (tail_ == nullptr) {
        head_ = s;
      } else {
        tail_->next = s;
      }
      tail_ = s;
    }
    return tail_->bytes() + tail_->used;
  }

  /// Makes sure that a cursor has a segment to stand in.
  [[nodiscard]] bool ensure_tail() noexcept {
    if (tail_ != nullptr) return true;
    segment* s = pool_->take(segment_pool::smallest);
    if (s == nullptr) return false;
    s->base = end_;
    head_ = tail_ = s;
    return true;
  }

  /// Makes the prepared bytes an entry. `e` brings all but its place.
  void commit(entry e) noexcept {
    e.seg = tail_;
    e.begin = tail_->base + tail_->used + e.audience;
    tail_->used += e.audience + e.size;
    if (e.audience != 0) tail_->mixed = selective_ = true;
    end_ = tail_->end();
    index_.push_reserved(e);
    retained_bytes_ += e.size;
    if (e.id != no_id) last_id_ = e.id;
  }

  /// Lets entries go that retention no longer covers, and segments that nobody needs.
  void trim(std::int64_t now) noexcept {
    while (retained_ != index_.end()) {
      const entry& e = index_[retained_];
      const bool fits = retained_events() <= keep_.events && retained_bytes_ <= keep_.bytes &&
                        (keep_.age.is_off() || now - e.at < keep_.age.ms());
      if (fits) break;
      retained_bytes_ -= e.size;
      if (e.id != no_id) forgotten_id_ = e.id;
      ++retained_;
    }
    while (head_ != tail_ && head_->pins == 0 && unretained(*head_)) drop_head();
  }

  /// Lets every segment go that ends at or before `offset` and is not retained, also while somebody
  /// still pins it.
  void detach_before(std::uint64_t offset) noexcept {
    while (head_ != tail_ && head_->end() <= offset && unretained(*head_)) drop_head();
  }

  /// When retention by age next lets an entry go; max: never.
  [[nodiscard]] std::int64_t next_expiry() const noexcept {
    if (keep_.age.is_off() || retained_ >= index_.end()) return INT64_MAX;
    return index_[retained_].at + keep_.age.ms();
  }

  // Entries, by ordinal. [first, end) is stored, [retained, end) may be replayed.
  [[nodiscard]] std::uint64_t first() const noexcept { return index_.first(); }
  [[nodiscard]] std::uint64_t end() const noexcept { return index_.end(); }
  [[nodiscard]] std::uint64_t retained() const noexcept { return retained_; }
  [[nodiscard]] const entry& operator[](std::uint64_t ordinal) const noexcept {
    return index_[ordinal];
  }

  /// The first retained entry with an id above `after`; end() if there is none. O(log n).
  /// REQUIRES: the entries have ids.
  [[nodiscard]] std::uint64_t find(event_id after) const noexcept {
    if (after >= last_id_) return index_.end();
    return first_that([&](const entry& e) { return e.id > after; }, retained_);
  }

  /// The n-th newest entry, or the oldest retained one.
  [[nodiscard]] std::uint64_t newest(std::uint64_t n) const noexcept {
    return n < retained_events() ? index_.end() - n : retained_;
  }

  /// The first entry that ends behind stream offset `pos`: the one a cursor at `pos` is in, or will
  /// send next. O(log n), O(1) for the position asked for last, since most cursors stand at the
  /// same few places.
  [[nodiscard]] std::uint64_t locate(std::uint64_t pos) const noexcept {
    if (pos >= end_) return index_.end();
    if (memo_pos_ == pos && memo_ordinal_ >= index_.first()) return memo_ordinal_;
    memo_ordinal_ = first_that([&](const entry& e) { return e.end() > pos; }, index_.first());
    memo_pos_ = pos;
    return memo_ordinal_;
  }

  /// The id in front of `ordinal`; no_id if there never was one.
  [[nodiscard]] event_id id_before(std::uint64_t ordinal) const noexcept {
    return ordinal > index_.first() ? index_[ordinal - 1].id : dropped_id_;
  }

  [[nodiscard]] segment* tail() const noexcept { return tail_; }
  [[nodiscard]] segment* head() const noexcept { return head_; }
  [[nodiscard]] std::uint64_t end_offset() const noexcept { return end_; }
  [[nodiscard]] event_id last_id() const noexcept { return last_id_; }
  /// The newest id that retention let go; no_id: none.
  [[nodiscard]] event_id forgotten_id() const noexcept { return forgotten_id_; }
  [[nodiscard]] std::uint64_t retained_events() const noexcept { return index_.end() - retained_; }
  [[nodiscard]] std::uint64_t retained_bytes() const noexcept { return retained_bytes_; }
  /// Some entry had an audience: not everybody gets all.
  [[nodiscard]] bool selective() const noexcept { return selective_; }
  [[nodiscard]] const retention& keep() const noexcept { return keep_; }
  /// Bytes held for readers that are behind, not for retention.
  [[nodiscard]] std::uint64_t backlog() const noexcept {
    if (head_ == nullptr) return 0;
    const std::uint64_t from = retained_ < index_.end() ? index_[retained_].seg->base : tail_->base;
    return from > head_->base ? from - head_->base : 0;
  }

 private:
  /// The first entry from `lo` on for which `holds` is true, given that it stays true from there
  /// on.
  template <class Predicate>
  [[nodiscard]] std::uint64_t first_that(Predicate holds, std::uint64_t lo) const noexcept {
    std::uint64_t hi = index_.end();
    while (lo < hi) {
      const std::uint64_t mid = lo + (hi - lo) / 2;
      if (holds(index_[mid])) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
  [[nodiscard]] bool unretained(const segment& s) const noexcept {
    return retained_ == index_.end() || index_[retained_].begin >= s.end();
  }
  void drop_head() noexcept {
    segment* s = head_;
    while (!index_.empty() && index_[index_.first()].seg == s) {
      dropped_id_ = index_[index_.first()].id;
      index_.pop_front();
    }
    head_ = s->next;
    if (head_ == nullptr) tail_ = nullptr;
    s->attached = false;
    if (s->pins == 0) pool_->give_back(s);
  }

  segment_pool* pool_;
  retention keep_;
  segment* head_ = nullptr;
  segment* tail_ = nullptr;
  ring<entry> index_;
  std::uint64_t end_ = 0;
  std::uint64_t retained_ = 0;
  std::uint64_t retained_bytes_ = 0;
  bool selective_ = false;
  event_id last_id_ = no_id;
  event_id forgotten_id_ = no_id;
  event_id dropped_id_ = no_id;
  mutable std::uint64_t memo_pos_ = UINT64_MAX;
  mutable std::uint64_t memo_ordinal_ = 0;
};

}  // namespace sse::inline v0::detail
