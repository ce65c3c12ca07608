// The client's end of the wire, strict: chunks, and the blocks of an event stream as this library
// writes them. Everything else is a complaint, since bytes that nobody explains are a fault.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace simulation {

/// What the hub promised and did not keep.
struct violation {
  std::string text;
};

[[noreturn]] inline void fail(std::string text) { throw violation{std::move(text)}; }

/// A decimal number at the front of `text`, which moves past it; none: a violation.
inline std::uint64_t take_number(std::string_view& text) {
  std::uint64_t n = 0;
  std::size_t i = 0;
  while (i < text.size() && text[i] >= '0' && text[i] <= '9') {
    n = n * 10 + static_cast<std::uint64_t>(text[i] - '0');
    ++i;
  }
  if (i == 0) fail("a number was expected: " + std::string(text.substr(0, 40)));
  text.remove_prefix(i);
  return n;
}

/// Undoes the chunked transfer coding.
class chunk_decoder {
 public:
  void feed(std::string_view in, std::string& out) {
    while (!in.empty()) {
      if (state_ == state::data) {
        const std::size_t n = in.size() < left_ ? in.size() : left_;
        out.append(in.substr(0, n));
        in.remove_prefix(n);
        left_ -= n;
        if (left_ == 0) state_ = state::data_cr;
        continue;
      }
      one(in.front());
      in.remove_prefix(1);
    }
  }
  /// The last chunk came.
  [[nodiscard]] bool ended() const { return state_ == state::end; }

 private:
  enum class state { size, size_lf, data, data_cr, data_lf, last_cr, last_lf, end };

  void one(char c) {
    const auto expect = [&](char wanted, state next) {
      if (c != wanted) fail("broken chunk");
      state_ = next;
    };
    switch (state_) {
      case state::size:
        if (c == '\r') {
          if (digits_ == 0) fail("a chunk without a size");
          state_ = state::size_lf;
        } else {
          const int digit = c >= '0' && c <= '9'   ? c - '0'
                            : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                   : -1;
          if (digit < 0 || ++digits_ > 8) fail("broken chunk size");
          left_ = left_ * 16 + static_cast<std::size_t>(digit);
        }
        break;
      case state::size_lf:
        expect('\n', left_ == 0 ? state::last_cr : state::data);
        digits_ = 0;
        break;
      case state::data: break;
      case state::data_cr: expect('\r', state::data_lf); break;
      case state::data_lf: expect('\n', state::size); break;
      case state::last_cr: expect('\r', state::last_lf); break;
      case state::last_lf: expect('\n', state::end); break;
      case state::end: fail("bytes after the last chunk");
    }
  }

  state state_ = state::size;
  std::size_t left_ = 0;
  int digits_ = 0;
};

/// One block of the stream. Views live until the callback returns.
struct frame {
  bool has_id = false;
  std::uint64_t id = 0;
  std::uint64_t values = 0;  ///< the second number of its id, or the same
  std::string_view type{};
  std::string_view data{};
  bool comment = false;
  bool retry = false;
  bool position = false;  ///< an id and nothing else
};

/// Cuts a stream into frames.
class frame_reader {
 public:
  /// Blank lines may stand between frames: they make up for the rest of a chunk that was announced.
  bool padded = false;

  template <class F>
  void feed(std::string_view bytes, F&& f) {
    held_.append(bytes);
    std::size_t from = 0;
    for (;;) {
      while (padded && from < held_.size() && held_[from] == '\n') ++from;
      const std::size_t end = held_.find("\n\n", scanned_ > from ? scanned_ : from);
      if (end == std::string::npos) break;
      f(read(std::string_view(held_).substr(from, end + 1 - from)));
      from = end + 2;
    }
    held_.erase(0, from);
    scanned_ = held_.empty() ? 0 : held_.size() - 1;
  }
  /// Inside a frame: some of its bytes came, not all.
  [[nodiscard]] bool inside() const { return !held_.empty(); }

 private:
  static bool take(std::string_view& block, std::string_view prefix, std::string_view& line) {
    if (!block.starts_with(prefix)) return false;
    const std::size_t end = block.find('\n');
    line = block.substr(prefix.size(), end - prefix.size());
    block.remove_prefix(end + 1);
    return true;
  }
  static frame read(std::string_view block) {
    frame f;
    std::string_view line;
    const std::string_view whole = block;
    if (take(block, ":", line)) {
      f.comment = true;
      f.data = line.substr(line.starts_with(' ') ? 1 : 0);
    } else if (take(block, "retry: ", line)) {
      f.retry = true;
      (void)take_number(line);
      if (!line.empty()) fail("broken retry");
    } else {
      if (take(block, "id: ", line)) {
        f.has_id = true;
        f.values = f.id = take_number(line);
        if (line.starts_with('-')) {
          line.remove_prefix(1);
          f.values = take_number(line);
          if (f.values >= f.id) fail("an id whose second number says nothing");
        }
        if (!line.empty()) fail("broken id: " + std::string(line));
        f.position = block.empty();
        if (f.position) return f;
      }
      (void)take(block, "event: ", f.type);
      if (!take(block, "data: ", f.data)) fail("no data: " + std::string(whole.substr(0, 80)));
    }
    if (!block.empty()) fail("a broken frame: " + std::string(whole.substr(0, 80)));
    return f;
  }

  std::string held_;
  std::size_t scanned_ = 0;
};

/// The data of a gap frame.
struct gap_data {
  bool with_ids = false;
  std::uint64_t requested = 0;
  std::uint64_t first = 0;
  bool lost_known = false;
  std::uint64_t lost = 0;

  explicit gap_data(std::string_view text) {
    const std::string_view whole = text;
    const auto expect = [&](std::string_view s) {
      if (!text.starts_with(s)) fail("broken gap frame: " + std::string(whole));
      text.remove_prefix(s.size());
    };
    expect("{\"requested\":");
    with_ids = !text.starts_with("null");
    if (with_ids) {
      requested = take_number(text);
      expect(",\"first\":");
      first = take_number(text);
    } else {
      expect("null,\"first\":null");
    }
    expect(",\"lost\":");
    lost_known = !text.starts_with("null");
    if (lost_known) {
      lost = take_number(text);
    } else {
      expect("null");
    }
    expect("}");
    if (!text.empty()) fail("broken gap frame: " + std::string(whole));
  }
};

}  // namespace simulation
