// ssehub example logs. SPDX-License-Identifier: MIT
//
// line_cutter: a file's bytes in, its lines out, each with the offset behind it. The LF, or CRLF,
// at a line's end is not part of it; everything else is, also a CR in its middle. A partial line
// waits for its end.
//
// A line without an end for long is cut: at each offset that is a multiple of the limit, if no LF
// is in that many bytes in front of it, or up to three bytes before, between two characters. So one
// look back of that size tells whether a cut is there, whatever the line. Its pieces have up to
// twice the limit; all but the first say that they go on. NULs at the beginning of a line or piece
// are left out: holes of a file are made of them.
//
//   line_cutter lines{file, offset};
//   lines.feed(chunk, [&](const cut_line& line) { ...; return true; });
//
// A line's text lives until the callback returns. The callback must not call into the cutter.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "log_id.hpp"

namespace logs {

inline constexpr std::size_t longest_line = std::size_t{1} << 20;

struct cut_line {
  std::string_view text{};
  std::uint64_t end = 0;    ///< the offset behind it
  std::uint64_t check = 0;  ///< content_check::value() there
  bool goes_on = false;     ///< it is not the beginning of a line
};

/// How many bytes in front of `at` belong to the character of UTF-8 that goes on there.
[[nodiscard]] inline std::size_t split_character(std::string_view bytes, std::size_t at) noexcept {
  for (std::size_t n = 0; n < 4 && n < at; ++n) {
    if ((static_cast<unsigned char>(bytes[at - n]) & 0xc0U) != 0x80) return n;
  }
  return 0;  // it is no UTF-8
}

class line_cutter {
 public:
  /// At the beginning of a file.
  explicit line_cutter(std::size_t longest = longest_line) : longest_{longest} {}
  /// At an offset where a line or a piece begins, `check` of what is in front.
  line_cutter(std::uint64_t at, const content_check& check, bool goes_on, std::size_t longest)
      : longest_{longest}, begin_{at}, check_{check}, goes_on_{goes_on} {}

  /// Calls on_line(cut_line) for each line that `bytes` completes. If it returns false, nothing
  /// more is read: go on with another cutter, from the offset that it was given.
  template <class OnLine>
  void feed(std::string_view bytes, OnLine&& on_line) {
    while (!partial_.empty() && !bytes.empty()) {
      // The rest of the line that waits, without copying what follows it.
      const std::size_t lf = bytes.find('\n');
      const auto to_cut = static_cast<std::size_t>(next_cut() + 1 - end());
      const std::size_t n =
          std::min({bytes.size(), to_cut, lf == std::string_view::npos ? lf : lf + 1});
      partial_ += bytes.substr(0, n);
      bytes.remove_prefix(n);
      std::string_view rest = partial_;
      if (!cut(rest, on_line)) return;
      partial_.erase(0, partial_.size() - rest.size());
    }
    if (cut(bytes, on_line)) partial_ += bytes;
  }

  /// The last line of a file that gets no more: what no LF ended, if there is something.
  template <class OnLine>
  void finish(OnLine&& on_line) {
    const std::string last = std::move(partial_);
    partial_.clear();
    if (!last.empty()) (void)take(last, on_line);
  }

  /// Where the line begins that is not complete.
  [[nodiscard]] std::uint64_t begin() const noexcept { return begin_; }
  [[nodiscard]] std::uint64_t check() const noexcept { return check_.value(); }
  [[nodiscard]] std::uint64_t end() const noexcept { return begin_ + partial_.size(); }
  [[nodiscard]] bool has_partial() const noexcept { return !partial_.empty(); }

 private:
  /// The first offset at which the line is cut if it has no end in front of it.
  [[nodiscard]] std::uint64_t next_cut() const noexcept {
    return (begin_ + longest_ + longest_ - 1) / longest_ * longest_;
  }

  /// Takes the whole lines off `bytes`; false: on_line wants no more.
  template <class OnLine>
  bool cut(std::string_view& bytes, OnLine& on_line) {
    while (!bytes.empty()) {
      if (bytes.front() == '\0') {
        const std::size_t n = std::min(bytes.find_first_not_of('\0'), bytes.size());
        skip(bytes.substr(0, n));
        bytes.remove_prefix(n);
        continue;
      }
      const std::size_t most = static_cast<std::size_t>(next_cut() - begin_);
      const std::size_t lf = bytes.substr(0, most + 1).find('\n');
      if (lf == std::string_view::npos && bytes.size() <= most) return true;
      const std::size_t size =
          lf == std::string_view::npos ? most - split_character(bytes, most) : lf + 1;
      const std::string_view taken = bytes.substr(0, size);
      bytes.remove_prefix(size);
      if (!take(taken, on_line)) return false;
    }
    return true;
  }

  void skip(std::string_view bytes) {
    begin_ += bytes.size();
    check_.feed(bytes);
  }

  template <class OnLine>
  bool take(std::string_view bytes, OnLine& on_line) {
    skip(bytes);
    const bool ended = bytes.ends_with('\n');
    if (ended) bytes.remove_suffix(1);
    if (ended && bytes.ends_with('\r')) bytes.remove_suffix(1);
    return on_line(cut_line{bytes, begin_, check_.value(), std::exchange(goes_on_, !ended)});
  }

  std::size_t longest_;
  std::uint64_t begin_ = 0;
  content_check check_{};
  bool goes_on_ = false;
  std::string partial_;
};

}  // namespace logs
