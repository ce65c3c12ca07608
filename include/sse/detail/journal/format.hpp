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

#include <sse/detail/base/assert.hpp>
#include <sse/detail/base/lines.hpp>
#include <sse/detail/base/size.hpp>
#include <sse/detail/journal/crc32c.hpp>
#include <sse/detail/mail/ordered_events.hpp>
#include <sse/journal_options.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// A piece: consecutive events that were written together. In the .log stand their bytes as they go
/// to the wire, each event's behind its audience and key; then a table of their sizes.
struct index_record {
  std::uint64_t first;   ///< the first one's id; the others' follow one by one
  std::int64_t time_ms;  ///< of the first
  std::uint32_t at;      ///< in the .log
  std::uint32_t size;    ///< without the table
  std::uint32_t count;   ///< events
  std::uint32_t behind;  ///< first - behind was durable, with all below it, when this was written
  std::uint32_t crc;     ///< of all but itself and the place, and of what stands in the .log
  std::uint16_t channel;
  std::uint16_t flags;

  /// All are of that channel, and have no audience and no key: the table has their sizes only.
  static constexpr std::uint16_t alike = 1;

  [[nodiscard]] bool is_alike() const noexcept { return (flags & alike) != 0; }
  [[nodiscard]] event_id last() const noexcept { return first + count - 1; }
  [[nodiscard]] std::uint64_t table_bytes() const noexcept;
  /// Of all that stands in the .log.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return size + table_bytes(); }
  [[nodiscard]] std::uint64_t end() const noexcept { return at + bytes(); }
  /// The bytes are taken as three parts whose checksums are made at once.
  [[nodiscard]] std::uint32_t checksum(const char* there) const noexcept {
    index_record r = *this;
    r.crc = r.at = 0;
    const std::size_t n = to_size(bytes());
    const std::size_t third = n / 24 * 8;
    std::uint32_t parts[3] = {0, 0, 0};
    crc32c_three({there, there + third, there + 2 * third}, {third, third, n - 2 * third}, parts);
    return crc32c(parts, sizeof parts, crc32c(&r, sizeof r));
  }
};
static_assert(sizeof(index_record) == 40, "as it lies on disk");

/// Of a table, where the events of a piece are not alike.
struct event_record {
  std::uint32_t size;
  std::uint16_t channel;
  std::uint16_t audience;  ///< bytes
  std::uint16_t key;       ///< bytes
  std::uint16_t flags;     ///< publish_options::role
  [[nodiscard]] key_role role() const noexcept { return key_role_of(flags & 3U); }
  [[nodiscard]] std::size_t bytes() const noexcept { return std::size_t{audience} + key + size; }
};
static_assert(sizeof(event_record) == 12, "as it lies on disk");

inline std::uint64_t index_record::table_bytes() const noexcept {
  if (!is_alike()) return std::uint64_t{count} * sizeof(event_record);
  return count == 1 ? 0 : std::uint64_t{count} * sizeof(std::uint32_t);
}

struct index_header {
  char magic[8] = {'s', 's', 'e', 'h', 'u', 'b', 'j', '\n'};
  std::uint32_t version = 2;
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
static_assert(sizeof(index_header) == sizeof(index_record), "as it lies on disk");

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

/// For the hubs that are shown it.
[[nodiscard]] inline publish_options options_of(const journal_event& e) noexcept {
  return {.id = e.id, .audience = e.audience, .key = e.key, .role = e.role, .encoded = true};
}

/// The events of a piece, one by one.
class piece_reader {
 public:
  piece_reader() noexcept = default;
  /// `there`: what stands in the .log. REQUIRES: it is whole.
  piece_reader(const index_record& r, const char* there) noexcept : piece_{&r}, bytes_{there} {}

  [[nodiscard]] bool done() const noexcept { return n_ == piece_->count; }
  [[nodiscard]] event_id id() const noexcept { return piece_->first + n_; }
  [[nodiscard]] journal_event event() const noexcept {
    const event_record r = record();
    const char* const key = bytes_ + at_ + r.audience;
    const char* const text = key + r.key;
    return {id(),         piece_->time_ms, r.channel, {bytes_ + at_, r.audience},
            {key, r.key}, {text, r.size},  r.role()};
  }
  [[nodiscard]] std::size_t event_bytes() const noexcept { return record().bytes(); }
  void next() noexcept {
    at_ += event_bytes();
    ++n_;
  }
  /// On to the first event behind `after`.
  void skip(event_id after) noexcept {
    while (!done() && id() <= after) next();
  }
  /// Of a piece whose events are alike: the next ones below `before`, as many as begin within
  /// `room` bytes, and not more than `most`.
  [[nodiscard]] std::string_view take(event_id before, std::size_t room,
                                      std::size_t most) noexcept {
    SSEHUB_ASSERT(piece_->is_alike());
    const std::size_t from = at_;
    for (; most != 0 && !done() && id() < before && at_ - from < room; --most) next();
    return {bytes_ + from, at_ - from};
  }

 private:
  [[nodiscard]] event_record record() const noexcept {
    event_record r{piece_->size, piece_->channel, 0, 0, 0};
    const char* const table = bytes_ + piece_->size;
    if (!piece_->is_alike()) {
      std::memcpy(&r, table + n_ * sizeof r, sizeof r);
    } else if (piece_->count != 1) {
      std::memcpy(&r.size, table + n_ * sizeof r.size, sizeof r.size);
    }
    return r;
  }

  const index_record* piece_ = nullptr;
  const char* bytes_ = nullptr;
  std::size_t n_ = 0;
  std::size_t at_ = 0;
};

/// Events that are to be written, or shown, as they will lie in the .log.
class journal_batch final : public ordered_events {
 public:
  static constexpr std::size_t piece_bytes = std::size_t{32} << 10;

  bool is_shown = false;
  std::uint64_t handed_on = 0;  ///< see sequencer::hand_on

  void add(const journal_event& e) {
    char* const to = add(e, e.bytes.size());
    if (!e.bytes.empty()) std::memcpy(to, e.bytes.data(), e.bytes.size());
  }
  /// An event of `size` bytes, which the caller puts where this says.
  [[nodiscard]] char* add(const journal_event& e, std::size_t size) {
    const bool simple = e.audience.empty() && e.key.empty();
    if (!takes(e)) begin_piece(e);
    index_record& piece = pieces_.back();
    const event_record r{
        static_cast<std::uint32_t>(size), e.channel, static_cast<std::uint16_t>(e.audience.size()),
        static_cast<std::uint16_t>(e.key.size()), static_cast<std::uint16_t>(e.role)};
    events_.push_back(r);
    char* const to = put(put(bytes_.more(r.bytes()), e.audience), e.key);
    bytes_.grow(r.bytes());
    piece.size += static_cast<std::uint32_t>(r.bytes());
    ++piece.count;
    if (!simple || e.channel != piece.channel) piece.flags = 0;
    return to;
  }
  /// Nothing comes any more: the last piece gets its table.
  void finish() {
    if (!std::exchange(open_, false)) return;
    const index_record& piece = pieces_.back();
    const event_record* const r = events_.data() + (events_.size() - piece.count);
    const std::size_t size = to_size(piece.table_bytes());
    if (!piece.is_alike()) {
      bytes_.add(reinterpret_cast<const char*>(r), size);
    } else if (size != 0) {
      char* to = bytes_.more(size);
      for (std::uint32_t i = 0; i != piece.count; ++i, to += sizeof r->size)
        std::memcpy(to, &r[i].size, sizeof r->size);
      bytes_.grow(size);
    }
  }
  void clear() noexcept {
    bytes_.clear();
    events_.clear();
    pieces_.clear();
    open_ = is_shown = false;
    handed_on = 0;
  }
  [[nodiscard]] bool empty() const noexcept { return events_.empty(); }
  [[nodiscard]] std::size_t count() const noexcept { return events_.size(); }
  /// At least what it takes on disk.
  [[nodiscard]] std::size_t size() const noexcept {
    return bytes_.size() + events_.size() * sizeof(event_record) +
           pieces_.size() * sizeof(index_record);
  }
  [[nodiscard]] event_id first() const noexcept { return pieces_.front().first; }
  [[nodiscard]] event_id last() const noexcept { return pieces_.back().last(); }
  /// As they go into the .log. REQUIRES, as what follows: finish().
  [[nodiscard]] const raw_bytes& bytes() const noexcept { return bytes_; }
  /// Their places are those in bytes(), and nothing says what is durable.
  [[nodiscard]] const std::vector<index_record>& pieces() const noexcept { return pieces_; }

  [[nodiscard]] sum all() const noexcept override { return {events_.size(), size(), last()}; }
  [[nodiscard]] bool next(place& at, mail& out) const noexcept override {
    if (at.event == events_.size()) return false;
    if (at.left == 0) {  // of this piece
      const index_record& piece = pieces_[at.piece++];
      at.left = piece.count;
      at.byte = piece.at;
    }
    const index_record& piece = pieces_[at.piece - 1];
    const event_record& r = events_[at.event];
    const char* const audience = bytes_.data() + at.byte;
    const char* const key = audience + r.audience;
    out.channel = r.channel;
    out.event.data = {key + r.key, r.size};
    out.options = {.id = piece.first + (piece.count - at.left),
                   .audience = {audience, r.audience},
                   .key = {key, r.key},
                   .role = r.role(),
                   .encoded = true};
    ++at.event;
    --at.left;
    at.byte += r.bytes();
    return true;
  }

 private:
  [[nodiscard]] bool takes(const journal_event& e) const noexcept {
    return open_ && pieces_.back().size < piece_bytes && e.id == pieces_.back().last() + 1;
  }
  void begin_piece(const journal_event& e) {
    finish();
    pieces_.push_back({e.id, e.time_ms, static_cast<std::uint32_t>(bytes_.size()), 0, 0, 0, 0,
                       e.channel, index_record::alike});
    open_ = true;
  }

  raw_bytes bytes_{};
  std::vector<event_record> events_{};
  std::vector<index_record> pieces_{};
  bool open_ = false;  ///< the last piece may get more
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_FORMAT_HPP
