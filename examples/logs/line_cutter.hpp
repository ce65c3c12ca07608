// ssehub example logs. SPDX-License-Identifier: MIT
//
// line_cutter: a file's bytes in, its lines out, each with the offset behind it. The LF, or CRLF,
// at a line's end is not part of it; everything else is, also a CR in its middle. A partial line
// waits for its end. A line longer than the limit comes in pieces, cut between two characters of
// UTF-8; where they are cut depends on the line alone, not on how its bytes came in.
//
//   line_cutter lines{offset_of_the_first_byte};
//   lines.feed(chunk, [&](std::string_view line, std::uint64_t end) { ... });
//
// A line lives until the callback returns. The callback must not call into the cutter.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace logs {

inline constexpr std::size_t longest_line = std::size_t{1} << 20;

class line_cutter {
 public:
  explicit line_cutter(std::uint64_t at = 0, std::size_t longest = longest_line)
      : longest_{longest}, begin_{at} {}

  /// Calls on_line(line, offset behind it) for each line that `bytes` completes. If it returns
  /// false, nothing more is read: go on with another cutter, from the offset that it was given.
  template <class OnLine>
  void feed(std::string_view bytes, OnLine&& on_line) {
    if (!partial_.empty()) {
      // The rest of the line that waits, without copying what follows it.
      const std::size_t lf = bytes.find('\n');
      const std::size_t n = lf == std::string_view::npos ? bytes.size() : lf + 1;
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
    if (last.empty()) return;
    begin_ += last.size();
    on_line(std::string_view{last}, begin_);
  }

  /// Begins anew at an offset.
  void reset(std::uint64_t at) {
    partial_ = std::string{};
    begin_ = at;
  }

  [[nodiscard]] std::uint64_t line_begin() const noexcept { return begin_; }
  [[nodiscard]] std::uint64_t end() const noexcept { return begin_ + partial_.size(); }
  [[nodiscard]] std::string_view partial() const noexcept { return partial_; }

 private:
  /// Takes the whole lines off `bytes`; false: on_line wants no more.
  template <class OnLine>
  bool cut(std::string_view& bytes, OnLine& on_line) {
    while (!bytes.empty()) {
      const std::size_t lf = bytes.substr(0, longest_ + 2).find('\n');
      std::size_t size = lf;
      std::size_t taken = lf + 1;
      if (lf == std::string_view::npos) {
        if (bytes.size() < longest_ + 2) return true;
        size = taken = piece(bytes);
      } else if (size != 0 && bytes[size - 1] == '\r') {
        --size;
      }
      if (size > longest_) size = taken = piece(bytes);  // one byte too long, and no CRLF
      begin_ += taken;
      const std::string_view line = bytes.substr(0, size);
      bytes.remove_prefix(taken);
      if (!on_line(line, begin_)) return false;
    }
    return true;
  }

  [[nodiscard]] std::size_t piece(std::string_view bytes) const noexcept {
    std::size_t n = longest_;
    for (int i = 0; i < 3 && n > 1 && (static_cast<unsigned char>(bytes[n]) & 0xc0U) == 0x80; ++i)
      --n;
    return n;
  }

  std::size_t longest_;
  std::uint64_t begin_;
  std::string partial_;
};

}  // namespace logs
