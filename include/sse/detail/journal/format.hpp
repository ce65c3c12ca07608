// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What lies on the disk: the records of a journal's files.
#pragma once
#ifndef SSEHUB_DETAIL_JOURNAL_FORMAT_HPP
#define SSEHUB_DETAIL_JOURNAL_FORMAT_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <sse/detail/journal/crc32c.hpp>
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
  std::uint16_t flags;     ///< 0

  [[nodiscard]] std::uint32_t begin() const noexcept { return offset - audience - key; }
  [[nodiscard]] std::uint64_t end() const noexcept { return std::uint64_t{offset} + size; }
  [[nodiscard]] std::uint32_t checksum(const char* bytes) const noexcept {
    index_record r = *this;
    r.crc = r.offset = 0;
    return crc32c(bytes, std::size_t{audience} + key + size, crc32c(&r, sizeof r));
  }
};
static_assert(sizeof(index_record) == 40, "as it lies on disk");

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

/// Events that are to be written: their bytes and records.
struct journal_batch {
  std::vector<char> bytes;
  std::vector<index_record> records;  ///< without place and checksum

  void add(const journal_event& e) {
    records.push_back({e.id, e.time_ms, 0, static_cast<std::uint32_t>(e.bytes.size()), 0, 0,
                       e.channel, static_cast<std::uint16_t>(e.audience.size()),
                       static_cast<std::uint16_t>(e.key.size()), 0});
    for (const std::string_view part : {e.audience, e.key, e.bytes})
      bytes.insert(bytes.end(), part.begin(), part.end());
  }
  void clear() noexcept {
    bytes.clear();
    records.clear();
  }
  [[nodiscard]] bool empty() const noexcept { return records.empty(); }
  [[nodiscard]] std::size_t size() const noexcept {
    return bytes.size() + records.size() * sizeof(index_record);
  }
};

[[nodiscard]] inline journal_event view(const index_record& r, const char* begin) noexcept {
  const char* const key = begin + r.audience;
  const char* const bytes = key + r.key;
  return {r.id, r.time_ms, r.channel, {begin, r.audience}, {key, r.key}, {bytes, r.size}};
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_FORMAT_HPP
