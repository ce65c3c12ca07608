// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// event_log: a channel's events as encoded bytes in segments, each with the index of its own
// entries, and what is retained for resuming. Used by the hub; a program that wants a stream uses a
// channel.
//
// Invariants:
//   1. Bytes never change or move after append (segment.hpp).
//   2. A pinned segment stays, even after the log let it go (detached).
//   3. Retained entries are the newest ones within `retention`, exactly; the log holds more only
//      while somebody reads it.
//   4. It holds at most about 1.4 times the bytes that it retains, and a segment more: a new
//      segment has an eighth of what is held, between 512 bytes and 64 KiB, or what is
//      expected (expect_like).
//
// Not thread-safe: it belongs to the hub's thread.
#pragma once
#ifndef SSEHUB_DETAIL_LOG_EVENT_LOG_HPP
#define SSEHUB_DETAIL_LOG_EVENT_LOG_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/config.hpp>
#include <sse/detail/log/segment.hpp>
#include <sse/event.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// What a log keeps for those who resume. An entry is kept while all three hold.
struct retention {
  std::uint64_t events = 1000;       ///< newest entries kept; exact
  std::uint64_t bytes = UINT64_MAX;  ///< kept, audiences counted
  duration age = duration::off();    ///< off: any age
};

/// A place in a log: in front of an entry, or behind the last one of its segment.
struct log_place {
  segment* seg = nullptr;
  std::uint32_t k = 0;

  [[nodiscard]] std::uint64_t ordinal() const noexcept { return seg->first + k; }
  [[nodiscard]] std::uint64_t offset() const noexcept {
    return seg->base + (k < seg->count ? (*seg)[k].begin - (*seg)[k].audience : seg->used);
  }
  /// In front of an entry of its segment; at the end of one that has a newer neighbour it moves
  /// there. False: at the end of the log, or of a segment that left it.
  [[nodiscard]] bool find_entry() noexcept {
    while (k == seg->count) {
      if (!seg->attached || seg->next == nullptr) return false;
      seg = seg->next;
      k = 0;
    }
    return true;
  }
  [[nodiscard]] const entry& get() const noexcept { return (*seg)[k]; }
};

class event_log {
 public:
  event_log(segment_pool& pool, const retention& keep) noexcept : pool_{&pool}, keep_{keep} {}
  event_log(const event_log&) = delete;
  event_log& operator=(const event_log&) = delete;
  ~event_log() {
    while (!segments_.empty()) drop_head();
  }

  /// Room for the bytes of an entry, or nullptr when memory is out; nothing changes until commit()
  /// with the same.
  [[nodiscard]] char* prepare(const new_entry& e) noexcept {
    if (segments_.empty() || !tail()->fits(e)) {
      const std::uint64_t eighth = held_bytes() / 8;
      if (!add_segment(eighth > expected_ ? eighth : expected_, segment::need(e))) return nullptr;
    }
    return tail()->place(e);
  }
  /// Makes the prepared bytes an entry.
  void commit(const new_entry& e) noexcept {
    tail()->commit(e);
    retained_bytes_ += e.size + e.audience.size();
    if (!e.audience.empty()) selective_ = true;
    if (e.id != no_id) last_id_ = e.id;
  }
  /// Makes sure that a cursor has a segment to stand in.
  [[nodiscard]] bool ensure_tail() noexcept {
    return !segments_.empty() || add_segment(segment_pool::smallest, 0);
  }

  /// From `p` to the end is what a turn brings: a segment has room for as much, up to 2 KiB.
  void expect_like(const log_place& p) noexcept {
    const std::uint64_t n =
        end_offset() - p.offset() + (end() - p.ordinal()) * sizeof(entry) + sizeof(segment);
    expected_ = static_cast<std::uint32_t>(n < most_expected ? n : most_expected);
  }

  /// Lets entries go that retention no longer covers, and segments that nobody needs. `dropped` is
  /// called with each segment before it goes.
  template <class Dropped>
  void trim(std::int64_t now, Dropped dropped) noexcept {
    if (segments_.empty()) return;
    if (keep_.events == 0) {  // that is known without a look at them
      kept_ = end_place();
      retained_bytes_ = 0;
      forgotten_id_ = last_id_;
    }
    while (kept_.find_entry()) {
      const entry& e = kept_.get();
      const bool fits = retained_events() <= keep_.events && retained_bytes_ <= keep_.bytes &&
                        (keep_.age.is_off() || now - kept_.seg->at(e) < keep_.age.ms());
      if (fits) break;
      retained_bytes_ -= e.size + e.audience;
      if (e.id != 0) forgotten_id_ = kept_.seg->id(e);
      ++kept_.k;
    }
    drop_unread(dropped);
  }
  /// The segments that nobody needs, of what retention let go before.
  template <class Dropped>
  void drop_unread(Dropped dropped) noexcept {
    while (kept_.seg != nullptr && head() != kept_.seg && head()->pins == 0) drop_head(dropped);
  }
  void trim(std::int64_t now) noexcept {
    trim(now, [](segment&) {});
  }
  /// Lets every segment go that ends at or before `offset` and is not retained, also while somebody
  /// still pins it.
  template <class Dropped>
  void detach_before(std::uint64_t offset, Dropped dropped) noexcept {
    // A cursor in an empty segment at `offset` goes on from there.
    while (!segments_.empty() && head() != tail() && head() != kept_.seg &&
           (head()->end() < offset ||
            (head()->end() == offset && (head()->used != 0 || head()->pins == 0)))) {
      drop_head(dropped);
    }
  }
  void detach_before(std::uint64_t offset) noexcept {
    detach_before(offset, [](segment&) {});
  }

  /// When retention by age next lets an entry go; max: never.
  [[nodiscard]] std::int64_t next_expiry() const noexcept {
    if (keep_.age.is_off() || retained_events() == 0) return INT64_MAX;
    log_place p = kept_;
    (void)p.find_entry();
    return p.seg->at(p.get()) + keep_.age.ms();
  }

  // Entries, by ordinal. [first, end) is stored, [retained, end) may be replayed.
  [[nodiscard]] std::uint64_t first() const noexcept {
    return segments_.empty() ? 0 : head()->first;
  }
  [[nodiscard]] std::uint64_t end() const noexcept {
    return segments_.empty() ? 0 : tail()->first + tail()->count;
  }
  [[nodiscard]] std::uint64_t retained() const noexcept {
    return segments_.empty() ? 0 : kept_.ordinal();
  }
  /// The place in front of an entry, or at the end. O(log segments). REQUIRES: there is a segment;
  /// first() <= ordinal <= end().
  [[nodiscard]] log_place at(std::uint64_t ordinal) const noexcept {
    SSEHUB_ASSERT(!segments_.empty() && ordinal >= first() && ordinal <= end());
    segment* const s =
        segments_[segment_that([&](const segment& x) { return x.first + x.count > ordinal; })];
    return {s, static_cast<std::uint32_t>(ordinal - s->first)};
  }
  [[nodiscard]] log_place end_place() const noexcept { return {tail(), tail()->count}; }

  /// The first retained entry with an id above `after`; end() if there is none. O(log n).
  /// REQUIRES: the entries have ids.
  [[nodiscard]] std::uint64_t find(event_id after) const noexcept {
    if (segments_.empty() || after >= last_id_) return end();
    const segment& s = *segments_[segment_that(
        [&](const segment& x) { return x.count != 0 && x.id(x[x.count - 1]) > after; })];
    const std::uint64_t found =
        s.first + s.first_that([&](const entry& e) { return s.id(e) > after; }, 0);
    return found < retained() ? retained() : found;
  }
  /// The n-th newest entry, or the oldest retained one.
  [[nodiscard]] std::uint64_t newest(std::uint64_t n) const noexcept {
    return n < retained_events() ? end() - n : retained();
  }
  /// The id of the entry at `ordinal`. REQUIRES: first() <= ordinal < end().
  [[nodiscard]] event_id id_at(std::uint64_t ordinal) const noexcept {
    const log_place p = at(ordinal);
    return p.seg->id(p.get());
  }
  /// The id in front of `p`; no_id if there never was one.
  [[nodiscard]] event_id id_before(const log_place& p) const noexcept {
    if (p.k > 0) return p.seg->id((*p.seg)[p.k - 1]);
    return p.ordinal() > first() ? id_at(p.ordinal() - 1) : dropped_id_;
  }

  [[nodiscard]] segment* tail() const noexcept { return segments_[segments_.end() - 1]; }
  [[nodiscard]] segment* head() const noexcept { return segments_[segments_.first()]; }
  [[nodiscard]] bool has_segment() const noexcept { return !segments_.empty(); }
  [[nodiscard]] std::uint64_t end_offset() const noexcept {
    return segments_.empty() ? 0 : tail()->end();
  }
  [[nodiscard]] event_id last_id() const noexcept { return last_id_; }
  /// The newest id that retention let go, or that a channel of this name had before; no_id: none.
  [[nodiscard]] event_id forgotten_id() const noexcept { return forgotten_id_; }
  /// Ids up to `id` were given out before this log began.
  void forget_up_to(event_id id) noexcept { last_id_ = forgotten_id_ = dropped_id_ = id; }
  [[nodiscard]] std::uint64_t retained_events() const noexcept { return end() - retained(); }
  [[nodiscard]] std::uint64_t retained_bytes() const noexcept { return retained_bytes_; }
  /// Some entry had an audience: not everybody gets all.
  [[nodiscard]] bool selective() const noexcept { return selective_; }
  [[nodiscard]] const retention& keep() const noexcept { return keep_; }
  /// Bytes held for readers that are behind, not for retention.
  [[nodiscard]] std::uint64_t backlog() const noexcept {
    return segments_.empty() ? 0 : kept_.seg->base - head()->base;
  }

 private:
  static constexpr std::uint32_t most_expected = 2048;

  [[nodiscard]] std::uint64_t held_bytes() const noexcept {
    return segments_.empty() ? 0 : tail()->end() - head()->base;
  }
  [[nodiscard]] bool add_segment(std::uint64_t size, std::uint64_t need) noexcept {
    if (!segments_.reserve_one()) return false;
    segment* const s = pool_->take(size, need);
    if (s == nullptr) return false;
    s->base = end_offset();
    s->first = end();
    const bool none_before = segments_.empty();
    if (!none_before) tail()->next = s;
    segments_.push_reserved(s);
    if (none_before) {
      kept_ = {s, 0};
    } else {
      (void)kept_.find_entry();  // nothing retained: it stands at the very end, in the new one
    }
    return true;
  }
  /// The first segment for which `holds`, given that it holds for all behind it; the last one if
  /// for none.
  template <class Predicate>
  [[nodiscard]] std::uint64_t segment_that(Predicate holds) const noexcept {
    std::uint64_t lo = segments_.first();
    std::uint64_t hi = segments_.end() - 1;
    while (lo < hi) {
      const std::uint64_t mid = lo + (hi - lo) / 2;
      if (holds(*segments_[mid])) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
  template <class Dropped>
  void drop_head(Dropped dropped) noexcept {
    segment* const s = head();
    if (s->count != 0 && (*s)[s->count - 1].id != 0) dropped_id_ = s->id((*s)[s->count - 1]);
    dropped(*s);
    segments_.pop_front();
    s->attached = false;
    s->next = nullptr;
    if (s->pins == 0) pool_->give_back(s);
  }
  void drop_head() noexcept {
    drop_head([](segment&) {});
  }

  segment_pool* pool_;
  retention keep_;
  ring<segment*> segments_;
  log_place kept_;  ///< in front of the oldest retained entry; in the tail's end if there is none
  std::uint64_t retained_bytes_ = 0;
  std::uint32_t expected_ = 0;  ///< bytes of a new segment at least
  bool selective_ = false;
  event_id last_id_ = no_id;
  event_id forgotten_id_ = no_id;
  event_id dropped_id_ = no_id;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_EVENT_LOG_HPP
