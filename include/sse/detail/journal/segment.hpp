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

/// Consecutive events of a segment.
struct journal_block {
  event_id segment = no_id;  ///< its first id
  std::uint32_t from = 0;    ///< its records
  std::uint32_t to = 0;
  std::uint64_t begin = 0;  ///< of its bytes, in the .log
  std::unique_ptr<char[]> bytes{};
  std::size_t size = 0;  ///< of them
  std::size_t room = 0;
  std::vector<index_record> records{};

  [[nodiscard]] journal_event event(std::size_t i) const noexcept {
    const index_record& r = records[i];
    return view(r, r.size == 0 ? bytes.get() : bytes.get() + (r.begin() - begin));
  }
  [[nodiscard]] std::size_t memory() const noexcept {
    return room + records.capacity() * sizeof(index_record);
  }
  /// Of these records, and none of them yet. It keeps its memory.
  void restart(event_id of_segment, std::uint32_t at) noexcept {
    segment = of_segment;
    from = to = at;
    size = 0;
    records.clear();
  }
  /// What `other` has.
  void copy(const journal_block& other) {
    restart(other.segment, other.from);
    to = other.to;
    begin = other.begin;
    records = other.records;
    if (other.size != 0) std::memcpy(more(other.size), other.bytes.get(), other.size);
    size = other.size;
  }
  /// Room for `n` more bytes, which are not there yet. Not zeroed, since they are read into.
  [[nodiscard]] char* more(std::size_t n) {
    if (n > room - size) {
      room = size + n;
      std::unique_ptr<char[]> larger{new char[room]};
      if (size != 0) std::memcpy(larger.get(), bytes.get(), size);
      bytes = std::move(larger);
    }
    return bytes.get() + size;
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
  /// The first of `count` records behind id `after`.
  [[nodiscard]] std::uint32_t find(event_id after, std::uint32_t count) const noexcept {
    return first_of(count, [after](const index_record& r) { return r.id > after; });
  }
  /// Where the block that has record `i` of `count` begins.
  [[nodiscard]] std::uint32_t block_begin(std::uint32_t i) const noexcept {
    const std::uint32_t at = record(i).begin() / block_bytes * block_bytes;
    return first_of(i, [at](const index_record& r) { return r.begin() >= at; });
  }
  /// And where it ends, as far as there are records.
  [[nodiscard]] std::uint32_t block_end(std::uint32_t i, std::uint32_t count) const noexcept {
    const std::uint64_t at = (std::uint64_t{record(i).begin() / block_bytes} + 1) * block_bytes;
    const std::uint32_t end =
        first_of(count, [at](const index_record& r) { return r.begin() >= at; });
    return end > i ? end : i + 1;
  }
  /// Reads on, up to record `to`. What cannot be read, or is not what was written, has no bytes
  /// there, and an id between those beside it.
  void load(journal_block& b, std::uint32_t to) const {
    event_id last = b.to == 0 ? before : record(b.to - 1).id;
    if (b.records.empty()) {
      b.begin = record(b.to).begin();
    } else {
      last = b.records.back().id;
    }
    const std::uint64_t at = b.begin + b.size;
    std::uint64_t end = at;
    for (std::uint32_t i = b.to; i != to; ++i) {
      const index_record r = record(i);
      if (r.begin() >= end && r.end() > end && r.end() <= room_) end = r.end();
    }
    std::size_t got = 0;
    if (end != at && files_->read(log, at, b.more(to_size(end - at)), to_size(end - at), got) == 0)
      b.size += got;
    b.records.reserve(b.records.size() + (to - b.to));
    for (; b.to != to; ++b.to) {
      index_record r = record(b.to);
      if (r.id <= last || !is_whole(r, b)) {
        const event_id next = b.to + 1 == to ? max_event_id + 1 : record(b.to + 1).id;
        if (r.id <= last || r.id >= next) r.id = last + 1;
        r.size = r.audience = r.key = 0;
      }
      last = r.id;
      b.records.push_back(r);
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
  std::atomic<std::uint32_t> shown{0};  ///< of those, the ones that may be read

 private:
  template <class Is>
  [[nodiscard]] std::uint32_t first_of(std::uint32_t count, Is is) const noexcept {
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
  [[nodiscard]] static bool is_whole(const index_record& r, const journal_block& b) noexcept {
    return r.size != 0 && r.offset >= std::uint32_t{r.audience} + r.key && r.begin() >= b.begin &&
           r.end() <= b.begin + b.size &&
           r.crc == r.checksum(b.bytes.get() + (r.begin() - b.begin));
  }

  journal_files* files_;
  const char* records_ = nullptr;
  std::uint64_t room_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_SEGMENT_HPP
