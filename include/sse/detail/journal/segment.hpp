// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// journal_segment: a piece of history in two files. Its bytes are read in blocks, which are looked
// through as they are read: what is not as it was written has no bytes.
#pragma once
#ifndef SSEHUB_DETAIL_JOURNAL_SEGMENT_HPP
#define SSEHUB_DETAIL_JOURNAL_SEGMENT_HPP

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <sse/detail/base/size.hpp>
#include <sse/detail/journal/files.hpp>
#include <sse/detail/journal/format.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Consecutive pieces of a segment.
struct journal_block {
  event_id segment = no_id;  ///< its first id
  std::uint32_t from = 0;    ///< its records
  std::uint32_t to = 0;
  std::uint64_t begin = 0;  ///< of its bytes, in the .log
  raw_bytes bytes{};
  std::vector<index_record> records{};  ///< one without size is broken
  int error = 0;                        ///< an errno: some of them could not be read

  [[nodiscard]] piece_reader piece(std::size_t i) const noexcept {
    return {records[i], bytes.data() + (records[i].at - begin)};
  }
  [[nodiscard]] std::size_t memory() const noexcept {
    return bytes.room() + records.capacity() * sizeof(index_record);
  }
  /// Of these records, and none of them yet. It keeps its memory.
  void restart(event_id of_segment, std::uint32_t at) noexcept {
    segment = of_segment;
    from = to = at;
    bytes.clear();
    records.clear();
    error = 0;
  }
  /// What `other` has.
  void copy(const journal_block& other) {
    restart(other.segment, other.from);
    to = other.to;
    begin = other.begin;
    records = other.records;
    bytes.add(other.bytes.data(), other.bytes.size());
  }
};

/// Two files. Readers hold it while they read, so that it can be removed meanwhile.
class journal_segment {
 public:
  static constexpr std::uint32_t block_bytes = 1U << 16U;

  journal_segment(journal_files& f, event_id first_id) noexcept : first{first_id}, files_{&f} {}
  journal_segment(const journal_segment&) = delete;
  journal_segment& operator=(const journal_segment&) = delete;
  ~journal_segment() {
    if (records_ != nullptr) files_->unmap(records_, room_);
    if (log >= 0) files_->close(log);
    if (index >= 0) files_->close(index);
  }

  [[nodiscard]] static std::string name(event_id first, std::string_view kind) {
    std::string digits = std::to_string(first);
    digits.insert(0, digits.size() < 16 ? 16 - digits.size() : 0, '0');
    return digits.append(kind);
  }
  /// The first ids of those that are there, in order.
  [[nodiscard]] static int list(journal_files& files, std::vector<event_id>& firsts) {
    std::vector<std::string> names;
    if (const int e = files.list(names); e != 0) return e;
    firsts.clear();
    for (const std::string& name : names) {
      if (name.size() < 20 || name.substr(name.size() - 4) != ".log") continue;
      event_id first = 0;
      bool digits = true;
      for (const char c : name.substr(0, name.size() - 4)) {
        digits = digits && c >= '0' && c <= '9';
        first = first * 10 + static_cast<event_id>(c - '0');
      }
      if (digits && first <= max_event_id) firsts.push_back(first);
    }
    std::sort(firsts.begin(), firsts.end());
    return 0;
  }
  /// Its files go. An errno: call it again.
  [[nodiscard]] static int remove(journal_files& files, event_id first) {
    int e = files.remove(name(first, ".idx"));
    if (e == 0 || e == ENOENT) e = files.remove(name(first, ".log"));
    return e == ENOENT ? 0 : e;
  }

  /// Both files, which have up to `room` bytes each.
  [[nodiscard]] int open(bool create, std::uint64_t room) {
    if (const int e = files_->open(name(first, ".log"), create, log); e != 0) return e;
    if (const int e = files_->open(name(first, ".idx"), create, index); e != 0) return e;
    room_ = room;
    records_ = files_->map(index, room);
    return records_ == nullptr ? errno : 0;
  }

  [[nodiscard]] index_record record(std::uint32_t i) const noexcept {
    index_record r;
    std::memcpy(&r, records_ + sizeof(index_header) + std::size_t{i} * sizeof r, sizeof r);
    return r;
  }
  [[nodiscard]] index_header header() const noexcept {
    index_header h;
    std::memcpy(&h, records_, sizeof h);
    return h;
  }
  /// The first of `count` records that has events behind `after`.
  [[nodiscard]] std::uint32_t find(event_id after, std::uint32_t count) const noexcept {
    std::uint32_t i = find_first(
        count, [after](const index_record& r) { return r.last() > after || r.first > after; });
    // Ids follow one by one: if some are left out here, a broken record led astray.
    while (i != 0 && i != count && record(i).first > after + 1) --i;
    return i;
  }
  /// Ids of a segment follow one by one.
  [[nodiscard]] std::uint64_t events() const noexcept {
    return written == 0 ? 0 : record(written - 1).last() - first + 1;
  }
  /// Where the block that has record `i` of `count` begins.
  [[nodiscard]] std::uint32_t block_begin(std::uint32_t i) const noexcept {
    const std::uint32_t at = record(i).at / block_bytes * block_bytes;
    return find_first(i, [at](const index_record& r) { return r.at >= at; });
  }
  /// And where it ends, as far as there are records.
  [[nodiscard]] std::uint32_t block_end(std::uint32_t i, std::uint32_t count) const noexcept {
    const std::uint64_t at = (std::uint64_t{record(i).at / block_bytes} + 1) * block_bytes;
    const std::uint32_t end = find_first(count, [at](const index_record& r) { return r.at >= at; });
    return end > i ? end : i + 1;
  }
  /// Reads on, up to record `to`. What cannot be read, or is not what was written, has no size
  /// there, and the ids between those beside it.
  void load(journal_block& b, std::uint32_t to) const {
    const bool begins = b.records.empty();
    if (begins) b.begin = record(b.to).at;
    event_id last = !begins     ? b.records.back().last()
                    : b.to == 0 ? first - 1
                                : record(b.to - 1).last();
    index_record* const r = take_records(b, to);
    const std::size_t n = to - std::exchange(b.to, to);
    read_bytes(b, r, n);
    find_broken(b, r, n);
    if (begins) last = in_front(r, n, last);
    for (std::size_t i = 0; i != n; ++i) {
      if (r[i].first <= last) r[i].size = 0;
      if (r[i].size == 0) be_between(r[i], last, i + 1 == n ? next_first(to) : first_of(r[i + 1]));
      last = r[i].last();
    }
  }
  [[nodiscard]] std::uint64_t disk_bytes() const noexcept {
    return log_end + sizeof(index_header) + std::uint64_t{written} * sizeof(index_record);
  }

  const event_id first;
  event_id before = no_id;
  int log = -1;
  int index = -1;
  std::uint64_t log_end = 0;  ///< bytes that have records
  std::uint32_t written = 0;  ///< records
  std::uint32_t synced = 0;   ///< of those, durable ones
  std::uint64_t synced_end = 0;
  std::uint64_t counted_bytes = 0;  ///< by journal_history
  std::uint64_t counted_events = 0;
  std::atomic<event_id> behind{no_id};  ///< the id behind its last, once there is a newer segment
  std::atomic<std::uint32_t> shown{0};  ///< of those, the ones that may be read

 private:
  template <class Is>
  [[nodiscard]] std::uint32_t find_first(std::uint32_t count, Is is) const noexcept {
    std::uint32_t lo = 0;
    while (lo < count) {
      const std::uint32_t mid = lo + (count - lo) / 2;
      if (is(record(mid))) {
        count = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
  /// The records from `b.to` to `to`, as they are on disk, behind those that the block has.
  [[nodiscard]] index_record* take_records(journal_block& b, std::uint32_t to) const {
    const std::size_t had = b.records.size();
    const std::size_t n = to - b.to;
    b.records.resize(had + n);
    if (n != 0) {
      std::memcpy(b.records.data() + had,
                  records_ + sizeof(index_header) + std::size_t{b.to} * sizeof(index_record),
                  n * sizeof(index_record));
    }
    return b.records.data() + had;
  }
  /// The bytes of these records, as many as can be read.
  void read_bytes(journal_block& b, const index_record* r, std::size_t n) const {
    const std::uint64_t at = b.begin + b.bytes.size();
    std::uint64_t end = at;
    for (std::size_t i = 0; i != n; ++i) {
      if (r[i].at >= end && r[i].end() > end && r[i].end() <= room_) end = r[i].end();
    }
    const std::size_t size = to_size(end - at);
    if (size == 0) return;
    std::size_t got = 0;
    const int e = files_->read(log, at, b.bytes.more(size), size, got);
    if (e == 0) {
      b.bytes.grow(got);
    } else {
      b.error = e;
    }
  }
  /// Those that are not what was written get no size.
  static void find_broken(const journal_block& b, index_record* r, std::size_t n) {
    const std::uint64_t end = b.begin + b.bytes.size();
    for (std::size_t i = 0; i != n; ++i) {
      const bool whole = r[i].count != 0 && r[i].at >= b.begin && r[i].end() <= end &&
                         r[i].crc == r[i].checksum(b.bytes.data() + (r[i].at - b.begin));
      if (!whole) r[i].size = 0;
    }
  }
  /// The id in front of these: `last`, as the record there says, which nobody checked, if the first
  /// whole one agrees.
  [[nodiscard]] static event_id in_front(const index_record* r, std::size_t n,
                                         event_id last) noexcept {
    std::size_t k = 0;
    while (k != n && r[k].size == 0) ++k;
    if (k == n || last + k < r[k].first) return last;
    return r[k].first > k ? r[k].first - 1 - k : 0;
  }
  [[nodiscard]] static event_id first_of(const index_record& r) noexcept {
    return r.size == 0 ? no_id : r.first;
  }
  [[nodiscard]] event_id next_first(std::uint32_t i) const noexcept {
    return i < shown.load(std::memory_order_acquire) ? record(i).first
                                                     : behind.load(std::memory_order_relaxed);
  }
  /// A broken one has the ids behind `last` and in front of `next`, where that is known; perhaps
  /// none.
  static void be_between(index_record& r, event_id last, event_id next) noexcept {
    event_id to = r.last();
    if (next > last && next <= max_event_id) {
      to = next - 1;
    } else if (to <= last || to > max_event_id) {
      to = last + 1;
    }
    r.first = last + 1;
    r.count = static_cast<std::uint32_t>((std::min<event_id>)(to - last, UINT32_MAX));
  }

  journal_files* files_;
  const char* records_ = nullptr;
  std::uint64_t room_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_SEGMENT_HPP
