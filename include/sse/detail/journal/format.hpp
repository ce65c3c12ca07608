// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What lies on the disk: the records of a journal's files.
#pragma once
#ifndef SSEHUB_DETAIL_JOURNAL_FORMAT_HPP
#define SSEHUB_DETAIL_JOURNAL_FORMAT_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/detail/base/lines.hpp>
#include <sse/detail/journal/crc32c.hpp>
#include <sse/detail/mail/ordered_events.hpp>
#include <sse/journal_options.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

struct index_record {
  std::uint64_t id;
  std::int64_t time_ms;
  std::uint32_t offset;  ///< in the .log, of the event's bytes; its audience and key stand in front
  std::uint32_t size;
  std::uint32_t behind;  ///< id - behind was durable, with all below it, when this was written
  std::uint32_t crc;     ///< of all but itself and the offset, and of the bytes
  std::uint16_t channel;
  std::uint16_t audience;  ///< bytes
  std::uint16_t key;       ///< bytes
  std::uint16_t flags;
  static constexpr std::uint16_t erase_flag = 1;  ///< publish_options::erase

  [[nodiscard]] std::uint32_t begin() const noexcept { return offset - audience - key; }
  [[nodiscard]] std::uint64_t end() const noexcept { return std::uint64_t{offset} + size; }
  /// Of all its bytes in the .log.
  [[nodiscard]] std::size_t bytes() const noexcept { return std::size_t{audience} + key + size; }
  /// What the checksum is of, beside those.
  [[nodiscard]] index_record checked() const noexcept {
    index_record r = *this;
    r.crc = r.offset = 0;
    return r;
  }
  [[nodiscard]] std::uint32_t checksum(const char* bytes_there) const noexcept {
    const index_record r = checked();
    return crc32c(bytes_there, bytes(), crc32c(&r, sizeof r));
  }
};
static_assert(sizeof(index_record) == 40, "as it lies on disk");

/// tell(i, its checksum) for each of `n` records; their bytes are at bytes_of(i). Three at a time.
template <class BytesOf, class Tell>
void checksums(const index_record* records, std::size_t n, BytesOf bytes_of, Tell tell) {
  std::size_t i = 0;
  for (; n - i >= 3; i += 3) {
    const index_record* const r = records + i;
    const index_record head[3] = {r[0].checked(), r[1].checked(), r[2].checked()};
    const char* const heads[3] = {reinterpret_cast<const char*>(&head[0]),
                                  reinterpret_cast<const char*>(&head[1]),
                                  reinterpret_cast<const char*>(&head[2])};
    std::uint32_t crc[3] = {0, 0, 0};
    crc32c_three(heads, {sizeof head[0], sizeof head[1], sizeof head[2]}, crc);
    crc32c_three({bytes_of(i), bytes_of(i + 1), bytes_of(i + 2)},
                 {r[0].bytes(), r[1].bytes(), r[2].bytes()}, crc);
    for (std::size_t k = 0; k != 3; ++k) tell(i + k, crc[k]);
  }
  for (; i != n; ++i) tell(i, records[i].checksum(bytes_of(i)));
}

struct index_header {
  char magic[8] = {'s', 's', 'e', 'h', 'u', 'b', 'j', '\n'};
  std::uint32_t version = 1;
  std::uint32_t order = 0x01020304;
  std::uint64_t first = 0;
  std::uint64_t before = 0;  ///< the id in front of `first`
  std::uint32_t unused = 0;
  std::uint32_t crc = 0;
  [[nodiscard]] std::uint32_t checksum() const noexcept {
    index_header h = *this;
    h.crc = 0;
    return crc32c(&h, sizeof h);
  }
};
static_assert(sizeof(index_header) == sizeof(index_record));

struct run_record {
  enum : std::uint32_t { begun = 1, reserved = 2, ended = 3, hole = 4, begun_behind_loss = 5 };
  std::uint32_t kind;
  std::uint32_t crc;
  std::uint64_t first;  ///< begun, hole: the first id; reserved, ended: up to this one
  /// begun: the newest that was found; hole: that was stored; reserved: the machine's start.
  std::uint64_t recovered;
  std::int64_t what;  ///< begun, ended: the time; reserved: a journal_survival
  [[nodiscard]] std::uint32_t checksum() const noexcept {
    run_record r = *this;
    r.crc = 0;
    return crc32c(&r, sizeof r);
  }
};
static_assert(sizeof(run_record) == 32);

/// What takes nothing from the events that a run has shown.
enum class journal_survival : std::int64_t { nothing, killed, power_lost };

/// Many bytes. Not zeroed, since they are written or read into.
class raw_bytes {
 public:
  [[nodiscard]] char* data() noexcept { return bytes_.get(); }
  [[nodiscard]] const char* data() const noexcept { return bytes_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t room() const noexcept { return room_; }
  /// Room for `n` more, which grow() adds.
  [[nodiscard]] char* more(std::size_t n) {
    if (n > room_ - size_) {
      const std::size_t room = size_ + (std::max)(n, size_ / 2);
      std::unique_ptr<char[]> larger{new char[room]};
      if (size_ != 0) std::memcpy(larger.get(), bytes_.get(), size_);
      bytes_ = std::move(larger);
      room_ = room;
    }
    return bytes_.get() + size_;
  }
  void grow(std::size_t n) noexcept { size_ += n; }
  void add(const char* from, std::size_t n) {
    if (n == 0) return;
    std::memcpy(more(n), from, n);
    grow(n);
  }
  void clear() noexcept { size_ = 0; }

 private:
  std::unique_ptr<char[]> bytes_;
  std::size_t size_ = 0;
  std::size_t room_ = 0;
};

[[nodiscard]] inline journal_event view(const index_record& r, const char* begin) noexcept {
  const char* const key = begin + r.audience;
  const char* const bytes = key + r.key;
  const bool erase = (r.flags & index_record::erase_flag) != 0;
  return {r.id, r.time_ms, r.channel, {begin, r.audience}, {key, r.key}, {bytes, r.size}, erase};
}

/// For the hubs that are shown it.
[[nodiscard]] inline publish_options options_of(const journal_event& e) noexcept {
  return {.id = e.id, .audience = e.audience, .key = e.key, .erase = e.erase, .encoded = true};
}

/// Events that are to be written, or shown: their bytes and records.
struct journal_batch final : ordered_events {
  raw_bytes bytes{};
  std::vector<index_record> records{};  ///< without place and checksum
  bool is_shown = false;
  std::uint64_t handed_on = 0;  ///< see sequencer::hand_on

  void add(const journal_event& e) {
    char* const to = add(e, e.bytes.size());
    if (!e.bytes.empty()) std::memcpy(to, e.bytes.data(), e.bytes.size());
  }
  /// An event of `size` bytes, which the caller puts where this says.
  [[nodiscard]] char* add(const journal_event& e, std::size_t size) {
    const index_record r{e.id,
                         e.time_ms,
                         0,
                         static_cast<std::uint32_t>(size),
                         0,
                         0,
                         e.channel,
                         static_cast<std::uint16_t>(e.audience.size()),
                         static_cast<std::uint16_t>(e.key.size()),
                         e.erase ? index_record::erase_flag : std::uint16_t{0}};
    char* const to = put(put(bytes.more(r.bytes()), e.audience), e.key);
    records.push_back(r);
    bytes.grow(r.bytes());
    return to;
  }
  void clear() noexcept {
    bytes.clear();
    records.clear();
    is_shown = false;
    handed_on = 0;
  }
  [[nodiscard]] bool empty() const noexcept { return records.empty(); }
  [[nodiscard]] std::size_t size() const noexcept {
    return bytes.size() + records.size() * sizeof(index_record);
  }
  [[nodiscard]] event_id last() const noexcept { return records.back().id; }

  [[nodiscard]] sum all() const noexcept override { return {records.size(), size(), last()}; }
  [[nodiscard]] bool next(place& at, mail& out) const noexcept override {
    if (at.event == records.size()) return false;
    const index_record& r = records[at.event];
    const journal_event e = view(r, bytes.data() + at.byte);
    out.channel = e.channel;
    out.event.data = e.bytes;
    out.options = options_of(e);
    ++at.event;
    at.byte += r.bytes();
    return true;
  }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_FORMAT_HPP
