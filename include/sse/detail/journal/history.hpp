// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// journal_history: the segments that may be read, by any thread. One thread, which writes or
// follows, says which these are and up to which id.
//
// Blocks are read once for all who need them: who comes back with an old id shares them with
// everybody else, and a session's channels share them among each other. But one reader that goes
// through more than the memory holds, while nobody else reads, takes nothing out of it: it reads
// into one block again and again, which stays in the processor's caches.
#pragma once
#ifndef SSEHUB_DETAIL_JOURNAL_HISTORY_HPP
#define SSEHUB_DETAIL_JOURNAL_HISTORY_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <sse/detail/journal/segment.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class journal_history {
 public:
  using segment_ptr = std::shared_ptr<journal_segment>;
  using block_ptr = std::shared_ptr<const journal_block>;

  explicit journal_history(std::size_t block_memory) noexcept : block_memory_{block_memory} {}
  journal_history(const journal_history&) = delete;
  journal_history& operator=(const journal_history&) = delete;

  // --- any thread --------------------------------------------------------------------------------

  /// The newest event that may be read.
  [[nodiscard]] event_id newest() const noexcept { return newest_.load(std::memory_order_acquire); }
  /// What is at or below it was let go.
  [[nodiscard]] event_id gone() const noexcept { return gone_.load(std::memory_order_acquire); }
  /// The oldest id that may be there, where that is above `after`.
  [[nodiscard]] bool gone_behind(event_id after, event_id& first) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const event_id gone = gone_.load(std::memory_order_relaxed);
    if (after >= gone) return false;
    first = segments_.empty() ? gone + 1 : segments_.front()->first;
    return true;
  }

  /// The block that has the first event behind `after`, and the number of that event in it;
  /// nullptr: there is none. `reader`: who asks.
  [[nodiscard]] block_ptr block_behind(event_id after, std::size_t& at,
                                       std::uint64_t reader) const {
    const segment_ptr s = segment_behind(after);
    if (s == nullptr) return nullptr;
    const std::uint32_t count = s->shown.load(std::memory_order_acquire);
    const std::uint32_t i = s->find(after, count);
    const std::uint32_t from = s->block_begin(i);
    at = i - from;
    const std::scoped_lock<std::mutex> lock{blocks_mutex_};  // who needs the same one waits for it
    const bool alone = std::exchange(last_reader_, reader) == reader;
    auto known = std::find_if(blocks_.begin(), blocks_.end(), [&](const block_ptr& b) {
      return b->segment == s->first && b->from == from;
    });
    if (known != blocks_.end() && (*known)->to > i) {
      std::rotate(blocks_.begin(), known, known + 1);
      return blocks_.front();
    }
    const std::uint32_t to = s->block_end(i, count);
    if (known == blocks_.end() && alone &&
        blocks_memory_ + journal_segment::block_bytes > block_memory_)
      return read_alone(*s, from, to);
    auto b = std::make_shared<journal_block>();
    if (known != blocks_.end()) {  // it has grown
      b->copy(**known);
      blocks_memory_ -= (*known)->memory();
      blocks_.erase(known);
    } else {
      b->restart(s->first, from);
    }
    s->load(*b, to);
    blocks_memory_ += b->memory();
    blocks_.insert(blocks_.begin(), b);
    while (blocks_.size() > 1 && blocks_memory_ > block_memory_) {
      blocks_memory_ -= blocks_.back()->memory();
      blocks_.pop_back();
    }
    return b;
  }
  /// f(index_record, piece_reader&) for each piece that has events behind `after` and below
  /// `before`, oldest first, until it answers false; the reader stands on the first of them. A
  /// broken one has no size, and nothing to read. The bytes stand until `left()`, which may answer
  /// false too.
  template <class F, class Left>
  void read_shared(event_id after, event_id before, std::uint64_t reader, F f, Left left) const {
    std::size_t i = 0;
    while (const block_ptr b = block_behind(after, i, reader)) {
      const bool more = each_piece(*b, i, after, before, f);
      if (!left() || !more) return;
    }
  }
  /// f(const journal_event&) for each event, as above, by oneself: one block, used again, and
  /// nothing in front of `after` is read. A broken piece is one event without bytes, its first.
  template <class F>
  void read(event_id after, event_id before, F f) const {
    const auto each = [&](const index_record& r, piece_reader& p) {
      if (r.size == 0) return f({.id = (std::max)(r.first, after + 1)});
      for (; !p.done() && p.id() < before; p.next()) {
        if (!f(p.event())) return false;
      }
      return true;
    };
    journal_block b;
    while (const segment_ptr s = segment_behind(after)) {
      const std::uint32_t count = s->shown.load(std::memory_order_acquire);
      const std::uint32_t i = s->find(after, count);
      b.restart(s->first, i);
      s->load(b, s->block_end(i, count));
      if (!each_piece(b, 0, after, before, each)) return;
    }
  }
  /// The id in front of the newest events that have at most so many bytes, and not below `least`.
  [[nodiscard]] event_id back_by(std::uint64_t bytes, event_id least) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    event_id at = newest_.load(std::memory_order_relaxed);
    for (std::size_t n = segments_.size(); n-- != 0;) {
      const journal_segment& s = *segments_[n];
      for (std::uint32_t i = s.shown.load(std::memory_order_relaxed); i-- != 0;) {
        const index_record r = s.record(i);
        if (r.first <= least) return at;
        const std::uint64_t size = r.size + r.count * beside;
        if (size > bytes) return (std::max)(at - newest_within(s, i, bytes), least);
        bytes -= size;
        at = r.first - 1;
      }
    }
    return at;
  }
  /// Reads all of it again: bad(file name, id) for each piece that is not as it was written.
  template <class F>
  void each_broken(F bad) const {
    for (const segment_ptr& s : all()) {
      std::uint64_t at = 0;
      const std::uint32_t count = s->shown.load(std::memory_order_acquire);
      journal_block b;
      for (b.to = 0; b.to != count;) {
        b.restart(s->first, b.to);
        s->load(b, s->block_end(b.to, count));
        for (std::size_t i = 0; i != b.records.size(); ++i) {
          const index_record& r = b.records[i];
          if (r.size == 0 || r.at != at) bad(journal_segment::name(s->first, ".log"), r.first);
          at = s->record(b.from + static_cast<std::uint32_t>(i)).end();
        }
      }
    }
  }
  [[nodiscard]] std::uint64_t files() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return segments_.size() * 2;
  }

  // --- the thread that writes, or follows --------------------------------------------------------

  [[nodiscard]] const std::vector<segment_ptr>& segments() const noexcept { return segments_; }
  /// Of the files.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::uint64_t events() const noexcept { return events_; }

  void add(segment_ptr s) {
    count(*s);
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (segments_.empty()) {
      gone_.store(s->before, std::memory_order_release);
    } else {
      segments_.back()->behind.store(s->before + 1, std::memory_order_relaxed);
    }
    segments_.push_back(std::move(s));
  }
  /// It has more or fewer events than before.
  void count(journal_segment& s) noexcept {
    bytes_ += s.disk_bytes() - std::exchange(s.counted_bytes, s.disk_bytes());
    const std::uint64_t events = s.events();
    events_ += events - std::exchange(s.counted_events, events);
  }
  /// Nobody gets it any more; who reads it does so to its end.
  void remove(const segment_ptr& s) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const auto at = std::find(segments_.begin(), segments_.end(), s);
    if (at == segments_.end()) return;
    bytes_ -= s->counted_bytes;
    events_ -= s->counted_events;
    if (at == segments_.begin() && segments_.size() > 1)
      gone_.store(segments_[1]->before, std::memory_order_release);
    segments_.erase(at);
  }
  /// Nothing at or below `id` is there.
  void begin_behind(event_id id) noexcept { gone_.store(id, std::memory_order_release); }
  /// Events up to `id` may be read: the segments say so already (journal_segment::shown).
  void show_up_to(event_id id) noexcept { newest_.store(id, std::memory_order_release); }

 private:
  /// REQUIRES: the blocks' lock.
  [[nodiscard]] block_ptr read_alone(const journal_segment& s, std::uint32_t from,
                                     std::uint32_t to) const {
    if (alone_.use_count() != 1) alone_ = std::make_shared<journal_block>();  // it is being read
    alone_->restart(s.first, from);
    s.load(*alone_, to);
    return alone_;
  }
  [[nodiscard]] std::vector<segment_ptr> all() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return segments_;
  }
  /// The segment that has the first event behind `after`; nullptr: none may be read.
  [[nodiscard]] segment_ptr segment_behind(event_id after) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (after >= newest_.load(std::memory_order_relaxed)) return nullptr;
    auto i = std::upper_bound(segments_.begin(), segments_.end(), after,
                              [](event_id id, const auto& s) { return id < s->first; });
    if (i != segments_.begin()) {
      const auto& s = *(i - 1);
      const std::uint32_t count = s->shown.load(std::memory_order_relaxed);
      const event_id behind = s->behind.load(std::memory_order_relaxed);
      const event_id last = count == 0 ? no_id : s->record(count - 1).last();
      if (behind != no_id ? behind > after + 1 : last > after) return s;
    }
    for (; i != segments_.end(); ++i) {
      if ((*i)->shown.load(std::memory_order_relaxed) != 0) return *i;
    }
    return nullptr;
  }
  static constexpr std::uint64_t beside = 64;  ///< an event's bytes in memory
  /// How many of the newest events of a piece that has more bytes have at most so many.
  [[nodiscard]] static std::uint64_t newest_within(const journal_segment& s, std::uint32_t i,
                                                   std::uint64_t bytes) {
    journal_block b;
    b.restart(s.first, i);
    s.load(b, i + 1);
    const index_record& r = b.records.front();
    if (r.size == 0) return 0;
    std::uint64_t size = r.size + r.count * beside;
    piece_reader p = b.piece(0);
    for (; size > bytes; p.next()) size -= p.event_bytes() + beside;
    return r.last() + 1 - p.id();
  }
  /// False: that was all. `after` becomes the last id.
  template <class F>
  [[nodiscard]] static bool each_piece(const journal_block& b, std::size_t i, event_id& after,
                                       event_id before, F& f) {
    const event_id came = after;
    for (; i != b.records.size(); ++i) {
      const index_record& r = b.records[i];
      if (r.last() <= after) continue;
      if (after + 1 >= before) return false;
      piece_reader p;
      if (r.size != 0) {
        if (r.first >= before) return false;
        p = b.piece(i);
        p.skip(after);
      }
      if (!f(r, p)) return false;
      after = r.last();
    }
    if (after != came) return true;
    piece_reader unread;  // the index is so broken that it leads nowhere
    const index_record lost{.first = ++after,
                            .time_ms = 0,
                            .at = 0,
                            .size = 0,
                            .count = 1,
                            .behind = 0,
                            .crc = 0,
                            .channel = 0,
                            .flags = 0};
    return lost.first < before && f(lost, unread);
  }

  std::atomic<event_id> newest_{no_id};
  std::atomic<event_id> gone_{no_id};
  std::uint64_t bytes_ = 0;
  std::uint64_t events_ = 0;
  mutable std::mutex mutex_;  ///< of what follows
  std::vector<segment_ptr> segments_;

  std::size_t block_memory_;
  mutable std::mutex blocks_mutex_;        ///< of what follows
  mutable std::vector<block_ptr> blocks_;  ///< the one that was used last first
  mutable std::size_t blocks_memory_ = 0;
  mutable std::uint64_t last_reader_ = 0;
  mutable std::shared_ptr<journal_block> alone_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_HISTORY_HPP
