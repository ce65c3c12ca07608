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
  raw_bytes bytes{};
  std::vector<index_record> records{};

  [[nodiscard]] journal_event event(std::size_t i) const noexcept {
    const index_record& r = records[i];
    return view(r, r.size == 0 ? bytes.data() : bytes.data() + (r.begin() - begin));
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
    index_record* const r = take_records(b, to);
    const std::size_t n = to - std::exchange(b.to, to);
    read_bytes(b, r, n);
    leave_out_broken(b, r, n);
    for (std::size_t i = 0; i != n; ++i) {
      if (r[i].id <= last || r[i].size == 0) {
        const event_id next = i + 1 == n ? max_event_id + 1 : r[i + 1].id;
        if (r[i].id <= last || r[i].id >= next) r[i].id = last + 1;
        r[i].size = r[i].audience = r[i].key = 0;
      }
      last = r[i].id;
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
      if (r[i].begin() >= end && r[i].end() > end && r[i].end() <= room_) end = r[i].end();
    }
    const std::size_t size = to_size(end - at);
    std::size_t got = 0;
    if (size != 0 && files_->read(log, at, b.bytes.more(size), size, got) == 0) b.bytes.grow(got);
  }
  /// Those that are not what was written get no size.
  static void leave_out_broken(const journal_block& b, index_record* r, std::size_t n) {
    const std::uint64_t end = b.begin + b.bytes.size();
    for (std::size_t i = 0; i != n; ++i) {
      const bool there = r[i].size != 0 && r[i].offset >= std::uint32_t{r[i].audience} + r[i].key &&
                         r[i].begin() >= b.begin && r[i].end() <= end;
      if (!there) r[i].size = r[i].audience = r[i].key = 0;
    }
    const auto bytes_of = [&](std::size_t i) {
      return r[i].size == 0 ? b.bytes.data() : b.bytes.data() + (r[i].begin() - b.begin);
    };
    checksums(r, n, bytes_of, [r](std::size_t i, std::uint32_t crc) {
      if (r[i].crc != crc) r[i].size = 0;
    });
  }

  journal_files* files_;
  const char* records_ = nullptr;
  std::uint64_t room_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_SEGMENT_HPP
