// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Old events of a stream, encoded, in aligned blocks of sequences: each is read once for all who
// need it, by the order's reader thread. Hubs ask and come back.
#pragma once
#ifndef SSEHUB_DETAIL_JETSTREAM_BLOCKS_HPP
#define SSEHUB_DETAIL_JETSTREAM_BLOCKS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/event.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Sequences number * size + 1 to (number + 1) * size; those that the stream has, up to `to`.
struct order_block {
  static constexpr std::uint64_t size = 1024;
  static constexpr std::uint16_t no_channel = UINT16_MAX;  ///< not an event, or of no channel here

  struct record {
    std::uint64_t sequence = 0;
    std::size_t begin = 0;  ///< of its audience, and behind that its bytes
    std::uint32_t audience = 0;
    std::uint32_t length = 0;  ///< of its bytes
    std::uint16_t channel = no_channel;
  };
  std::uint64_t number = 0;
  event_id base = no_id;  ///< ids are this plus the sequence
  std::uint64_t to = 0;
  std::vector<record> records{};
  std::string bytes{};

  [[nodiscard]] static constexpr std::uint64_t of(std::uint64_t sequence) noexcept {
    return (sequence - 1) / size;
  }
  [[nodiscard]] std::uint64_t first() const noexcept { return number * size + 1; }
  [[nodiscard]] std::uint64_t last() const noexcept { return (number + 1) * size; }
  [[nodiscard]] std::size_t memory() const noexcept {
    return bytes.capacity() + records.capacity() * sizeof(record) + sizeof *this;
  }
  /// The first record at or behind `sequence`.
  [[nodiscard]] std::size_t find(std::uint64_t sequence) const noexcept {
    const auto at =
        std::lower_bound(records.begin(), records.end(), sequence,
                         [](const record& r, std::uint64_t s) { return r.sequence < s; });
    return static_cast<std::size_t>(at - records.begin());
  }
  [[nodiscard]] std::string_view audience(const record& r) const noexcept {
    return std::string_view{bytes}.substr(r.begin, r.audience);
  }
  [[nodiscard]] std::string_view text(const record& r) const noexcept {
    return std::string_view{bytes}.substr(r.begin + r.audience, r.length);
  }
};

/// What was read, used last first, and what is to be read. Thread-safe.
class order_blocks {
 public:
  using block_ptr = std::shared_ptr<const order_block>;
  /// Blocks that are read at once.
  static constexpr std::size_t max_run = 8;

  explicit order_blocks(std::size_t memory) noexcept : most_{memory} {}

  /// The block that has `sequence`. nullptr: it is to be read; `news` is true if nobody knew that.
  [[nodiscard]] block_ptr find(std::uint64_t sequence, event_id base, bool& news) {
    const std::uint64_t number = order_block::of(sequence);
    const std::scoped_lock<std::mutex> lock{mutex_};
    const auto known = at(number);
    if (known != blocks_.end() && (*known)->to >= sequence && (*known)->base == base) {
      std::rotate(blocks_.begin(), known, known + 1);
      return blocks_.front();
    }
    news = std::find(wanted_.begin(), wanted_.end(), number) == wanted_.end();
    if (news) wanted_.push_back(number);
    return nullptr;
  }
  /// The first and the last of some blocks in a row that are wanted. False: none is.
  [[nodiscard]] bool next_run(std::uint64_t& first, std::uint64_t& last) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (wanted_.empty()) return false;
    std::sort(wanted_.begin(), wanted_.end());
    first = last = wanted_.front();
    for (std::size_t i = 1; i < wanted_.size() && i < max_run && wanted_[i] == last + 1; ++i)
      ++last;
    return true;
  }
  void put(block_ptr b) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    wanted_.erase(std::remove(wanted_.begin(), wanted_.end(), b->number), wanted_.end());
    if (const auto known = at(b->number); known != blocks_.end()) {
      memory_ -= (*known)->memory();
      blocks_.erase(known);
    }
    memory_ += b->memory();
    blocks_.insert(blocks_.begin(), std::move(b));
    while (blocks_.size() > 1 && memory_ > most_) {
      memory_ -= blocks_.back()->memory();
      blocks_.pop_back();
    }
  }

 private:
  [[nodiscard]] std::vector<block_ptr>::iterator at(std::uint64_t number) noexcept {
    return std::find_if(blocks_.begin(), blocks_.end(),
                        [number](const block_ptr& b) { return b->number == number; });
  }

  std::mutex mutex_;  // of what follows
  std::size_t most_;
  std::size_t memory_ = 0;
  std::vector<block_ptr> blocks_;
  std::vector<std::uint64_t> wanted_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_BLOCKS_HPP
