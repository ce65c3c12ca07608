// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// chunks: the chunked transfer coding (RFC 9112 7.1) of the sessions that asked for it: a size line
// in front of what is gathered, what a short write still owes to the chunk that was announced, and
// the last chunk. It moves no bytes and knows no session: the number of a state is the session's.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_CHUNKS_HPP
#define SSEHUB_DETAIL_ENGINE_CHUNKS_HPP

#include <cstdint>
#include <cstring>

#include <sse/detail/base/containers.hpp>
#include <sse/detail/engine/batch.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Where the chunks of one session stand.
struct chunk_state {
  std::uint32_t left = 0;  ///< bytes owed to the chunk that was announced
  std::uint8_t size = 0;   ///< of `line`
  std::uint8_t sent = 0;   ///< bytes of it that are out already
  bool begun = false;      ///< a chunk was sent before: its line end is due
  bool open = false;       ///< the size line is out, `left` bytes are owed
  bool ended = false;      ///< the last chunk is due, or out
  char line[15];           ///< size line, or the last chunk
  static_assert(sizeof line >= 2 + 8 + 2 && sizeof line >= 2 + 1 + 4);
  std::uint32_t link = none;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return link; }
};

class chunks {
 public:
  /// none: memory is out.
  [[nodiscard]] std::uint32_t take() noexcept {
    const std::uint32_t i = states_.take();
    if (i != none) states_[i] = chunk_state{};
    return i;
  }
  void give_back(std::uint32_t i) noexcept { states_.give_back(i); }

  /// A chunk was announced, at least in part, and is not out: its size cannot change any more.
  [[nodiscard]] std::uint32_t owed(std::uint32_t i) const noexcept {
    return announced(states_[i]) ? states_[i].left : 0;
  }
  /// The most that may be gathered: what is owed, if anything is.
  [[nodiscard]] std::uint64_t limit(std::uint32_t i, std::uint64_t most) const noexcept {
    const chunk_state& c = states_[i];
    return announced(c) && c.left < most ? c.left : most;
  }
  /// Makes the runs from `from` on a chunk, or what is still owed to the one that was announced.
  /// False: memory is out.
  [[nodiscard]] bool frame(std::uint32_t i, batch& b, std::uint32_t from) noexcept {
    chunk_state& c = states_[i];
    if (from == b.size()) return true;
    std::uint64_t before = 0;
    for (std::uint32_t k = 0; k < from; ++k) before += b[k].size;
    if (announced(c)) {
      b.cut(before + c.left);  // never more than was announced
      if (c.open) return true;
    } else {
      c.left = static_cast<std::uint32_t>(b.total() - before);
      char* p = c.line;
      if (c.begun) p = line_end(p);
      p = line_end(put_hex(p, c.left));
      c.size = static_cast<std::uint8_t>(p - c.line);
    }
    return b.insert(from, rest_of_line(c));
  }
  /// The last chunk is due once nothing else is. False: it was said before.
  [[nodiscard]] bool end(std::uint32_t i) noexcept {
    chunk_state& c = states_[i];
    if (c.ended) return false;
    SSEHUB_ASSERT(!announced(c));
    c.ended = true;
    char* p = c.line;
    if (c.begun) p = line_end(p);
    *p++ = '0';
    c.size = static_cast<std::uint8_t>(line_end(line_end(p)) - c.line);
    return true;
  }
  [[nodiscard]] bool ended(std::uint32_t i) const noexcept { return states_[i].ended; }
  /// The last chunk is out, to its last byte: the body is over, and its connection is not.
  [[nodiscard]] bool whole(std::uint32_t i) const noexcept {
    return states_[i].ended && states_[i].sent == states_[i].size;
  }
  /// What is left of the last chunk. False: memory is out.
  [[nodiscard]] bool gather_end(std::uint32_t i, batch& b) noexcept {
    const chunk_state& c = states_[i];
    return c.sent == c.size || b.add(rest_of_line(c));
  }
  /// `n` bytes of a size line, or of the last chunk, left.
  void line_sent(std::uint32_t i, std::uint32_t n) noexcept {
    chunk_state& c = states_[i];
    c.sent = static_cast<std::uint8_t>(c.sent + n);
    if (c.sent == c.size && !c.ended) {
      c.sent = c.size = 0;
      c.open = c.begun = true;
    }
  }
  /// `n` bytes of a chunk left.
  void data_sent(std::uint32_t i, std::uint32_t n) noexcept {
    chunk_state& c = states_[i];
    SSEHUB_ASSERT(c.open && n <= c.left);
    c.left -= n;
    c.open = c.left != 0;
  }

 private:
  /// (A size line that was shown and not taken at all is made anew.)
  [[nodiscard]] static bool announced(const chunk_state& c) noexcept {
    return c.open || (c.sent != 0 && !c.ended);
  }
  [[nodiscard]] static run rest_of_line(const chunk_state& c) noexcept {
    return {c.line + c.sent,
            static_cast<std::uint32_t>(c.size - c.sent),
            0,
            nullptr,
            run::from_chunk,
            0};
  }
  static char* put_hex(char* p, std::uint32_t n) noexcept {
    std::uint32_t shift = 28;
    while (shift != 0 && n >> shift == 0) shift -= 4;  // no leading zeros
    for (;; shift -= 4) {
      *p++ = "0123456789abcdef"[n >> shift & 15U];
      if (shift == 0) return p;
    }
  }
  static char* line_end(char* p) noexcept {
    p[0] = '\r';
    p[1] = '\n';
    return p + 2;
  }

  slot_pool<chunk_state> states_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_CHUNKS_HPP
