// ssehub example gateway. SPDX-License-Identifier: MIT
//
// line_splitter: bytes in, complete lines out, without their LF or CRLF. A partial line waits for
// its end; a line longer than the limit is dropped whole, and counted. Lines inside one chunk are
// handed on without a copy.
//
//   line_splitter lines;
//   lines.feed(chunk, [&](std::string_view line) { ... });
//
// A line lives until the callback returns. The callback must not call into the splitter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gateway {

class line_splitter {
 public:
  explicit line_splitter(std::size_t max_line = std::size_t{1} << 20) : max_{max_line} {}

  /// Calls on_line(line) for each line that `bytes` completes. Returns how many lines it gave up:
  /// an over-long line is reported once, as soon as it passes the limit.
  template <class OnLine>
  std::size_t feed(std::string_view bytes, OnLine&& on_line) {
    const std::uint64_t before = dropped_;
    while (!bytes.empty()) {
      const std::size_t lf = bytes.find('\n');
      const std::string_view piece = bytes.substr(0, lf);
      if (!skipping_ && partial_.size() + piece.size() > max_ + 1)
        give_up();  // + 1: the CR of a CRLF
      if (lf == std::string_view::npos) {
        if (!skipping_) partial_ += piece;
        break;
      }
      if (skipping_) {
        skipping_ = false;
      } else if (partial_.empty()) {
        emit(piece, on_line);
      } else {
        partial_ += piece;
        emit(partial_, on_line);
        partial_.clear();
      }
      bytes.remove_prefix(lf + 1);
    }
    return static_cast<std::size_t>(dropped_ - before);
  }

  /// For files: the last line, which no LF ended, if there is one. For a pipe an unfinished line is
  /// no line: reset().
  template <class OnLine>
  void finish(OnLine&& on_line) {
    if (!skipping_ && !partial_.empty()) emit(partial_, on_line);
    reset();
  }

  /// Forgets a partial line: what follows is from another process.
  void reset() noexcept {
    partial_.clear();
    skipping_ = false;
  }

  /// Over-long lines so far.
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_; }
  [[nodiscard]] std::size_t pending() const noexcept { return partial_.size(); }

 private:
  template <class OnLine>
  void emit(std::string_view line, OnLine& on_line) {
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.size() > max_) {
      ++dropped_;
    } else {
      on_line(line);
    }
  }

  void give_up() noexcept {
    ++dropped_;
    skipping_ = true;
    partial_ = std::string{};  // give the memory back
  }

  std::size_t max_;
  std::string partial_;
  bool skipping_ = false;
  std::uint64_t dropped_ = 0;
};

}  // namespace gateway
