// ssehub example logs. SPDX-License-Identifier: MIT
//
// What an id says: which of a log's files, the offset behind the line in it, and a check of what
// stands in front of that offset. By the check an id finds its file again whatever it is called
// now, and does not fit a file that was written anew; nothing has to be remembered for that.
//
//   content_check c;
//   c.feed(bytes);                                     // all of the file up to the offset
//   const sse::event_id id = id_of({0, offset, fold(mark, c)});
//
// The 53 bits: 8 of the file, counted from the oldest one that there was when following began; one
// that says which form the rest has; 32 of the offset and 12 of the check, or, from 4 GiB on, 40 of
// the offset and 4 of the check. So ids rise along a log. 0 is the beginning of all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/event.hpp>

namespace logs {

inline constexpr std::uint32_t largest_number = 255;
inline constexpr std::uint64_t largest_offset = (std::uint64_t{1} << 40) - 1;

/// Of the bytes in front of an offset, of which it covers between 4 KiB and 8 KiB, or all there
/// are. Pure arithmetic.
class content_check {
 public:
  static constexpr std::uint64_t block = 4096;

  /// Of what stands in front of `at`: feed what is behind seed_offset(at) up to there.
  explicit content_check(std::uint64_t at = 0) noexcept : at_{seed_offset(at)} {}
  [[nodiscard]] static constexpr std::uint64_t seed_offset(std::uint64_t at) noexcept {
    const std::uint64_t in = at == 0 ? 0 : (at - 1) / block;
    return in == 0 ? 0 : (in - 1) * block;
  }

  void feed(std::string_view bytes) noexcept {
    for (const char c : bytes) {
      if (at_ % block == 0) {  // what the last block began goes on in this one
        older_ = at_ == 0 ? basis : newer_;
        newer_ = basis;
      }
      older_ = (older_ ^ static_cast<unsigned char>(c)) * prime;
      newer_ = (newer_ ^ static_cast<unsigned char>(c)) * prime;
      ++at_;
    }
  }
  [[nodiscard]] std::uint64_t value() const noexcept { return at_ == 0 ? 0 : older_; }

 private:
  static constexpr std::uint64_t basis = 0xcbf29ce484222325;  // FNV-1a, 64 bits
  static constexpr std::uint64_t prime = 0x100000001b3;

  std::uint64_t at_;
  std::uint64_t older_ = basis;  ///< from the block before this one on
  std::uint64_t newer_ = basis;
};

struct position {
  std::uint32_t number = 0;  ///< of the file
  std::uint64_t offset = 0;
  std::uint32_t check = 0;
  friend bool operator==(const position&, const position&) = default;
};

inline constexpr std::uint64_t first_large = std::uint64_t{1} << 32;

/// The check of a position: of the file's first line, by its mark, and of what is in front.
[[nodiscard]] constexpr std::uint32_t fold(std::uint64_t offset, std::uint64_t mark,
                                           std::uint64_t value) noexcept {
  std::uint64_t h = (mark ^ (value * 0x9e3779b97f4a7c15)) * 0xff51afd7ed558ccd;
  h ^= h >> 32;
  return static_cast<std::uint32_t>(h & (offset < first_large ? 0xfffU : 0xfU));
}

[[nodiscard]] constexpr sse::event_id id_of(const position& p) noexcept {
  constexpr std::uint64_t large = std::uint64_t{1} << 44;
  const std::uint64_t rest =
      p.offset < first_large ? (p.offset << 12) | p.check : large | (p.offset << 4) | p.check;
  return (sse::event_id{p.number} << 45) | rest;
}

[[nodiscard]] constexpr position position_of(sse::event_id id) noexcept {
  position p{.number = static_cast<std::uint32_t>(id >> 45)};
  const bool large = ((id >> 44) & 1U) != 0;
  p.offset = large ? (id >> 4) & largest_offset : (id >> 12) & (first_large - 1);
  p.check = static_cast<std::uint32_t>(id & (large ? 0xfU : 0xfffU));
  return p;
}

}  // namespace logs
