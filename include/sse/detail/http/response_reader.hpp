// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// The head of an HTTP/1 response as a client reads it; body_reader.hpp reads what follows it.
// Incremental, in linear time and bounded memory however the bytes are cut; nothing throws.
//
// Strict where two readers could see two messages, tolerant where RFC 9112 asks a client to be:
//  - lines may end with LF alone (2.2), folded lines are joined with a space (5.2), the reason
//    phrase and its space may be missing (4), a Content-Length may repeat itself (6.3);
//  - refused: a CR without LF, control characters, names that are not tokens (such as with a space
//    before the colon), Content-Length with Transfer-Encoding, codings other than chunked,
//    Transfer-Encoding in HTTP/1.0, 101, versions other than HTTP/1.x.
#pragma once
#ifndef SSEHUB_DETAIL_HTTP_RESPONSE_READER_HPP
#define SSEHUB_DETAIL_HTTP_RESPONSE_READER_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include <sse/client_response.hpp>
#include <sse/config.hpp>
#include <sse/detail/base/assert.hpp>
#include <sse/detail/base/byte_buffer.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/http/body_reader.hpp>
#include <sse/detail/http/characters.hpp>
#include <sse/detail/http/date.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Each is the most that passes.
struct response_limits {
  std::size_t head = std::size_t{64} << 10;  // bytes, with line ends and interim heads
  std::size_t headers = 256;                 // lines
  /// Of the answer to CONNECT: what frames a body counts for nothing where a tunnel begins (RFC
  /// 9110 9.3.6).
  bool tunnel = false;
};

class response_reader {
 public:
  enum class outcome : std::uint8_t {
    need_more,
    complete,
    malformed,
    too_large,  // over a limit
    framing,    // its length cannot be known for sure
    no_memory,
  };

  explicit response_reader(const response_limits& l = {}) noexcept : limits_{l} {}

  /// Takes bytes up to the end of the head; returns how many. After that or an error: none.
  std::size_t feed(std::string_view in) noexcept {
    std::size_t used = 0;
    while (used < in.size() && state_ == outcome::need_more) take(in[used++]);
    return used;
  }

  [[nodiscard]] outcome state() const noexcept { return state_; }
  [[nodiscard]] std::size_t buffered() const noexcept { return head_.lines_.size(); }
  /// REQUIRES: complete.
  [[nodiscard]] const client_response& head() const noexcept {
    SSEHUB_ASSERT(state_ == outcome::complete);
    return head_;
  }
  /// The status once its line is read; 0 before.
  [[nodiscard]] int status() const noexcept { return head_.status_; }
  [[nodiscard]] body_end end() const noexcept { return end_; }
  [[nodiscard]] std::uint64_t length() const noexcept { return length_; }

  /// Ready for the next response, which answers CONNECT if `tunnel`; gives the memory back.
  void reset(bool tunnel = false) noexcept {
    limits_.tunnel = tunnel;
    *this = response_reader{limits_};
  }

 private:
  enum class step : std::uint8_t {
    line,     // inside a line
    cr,       // after a CR
    between,  // after a line end: the next line begins, the last one goes on, or the head ends
    last_cr,  // the CR of the empty line
  };

  void fail(outcome why) noexcept {
    state_ = why;
    head_.lines_.release();
  }

  void take(char c) noexcept {
    if (++size_ > limits_.head) return fail(outcome::too_large);
    switch (step_) {
      case step::cr:
        if (c != '\n') return fail(outcome::malformed);
        step_ = step::between;
        return;
      case step::last_cr: return c == '\n' ? end_head() : fail(outcome::malformed);
      case step::between:
        if (c == '\r' || c == '\n') {
          if (!end_line()) return;
          if (c == '\n') return end_head();
          step_ = step::last_cr;
          return;
        }
        step_ = step::line;
        if (c == ' ' || c == '\t') {  // obs-fold
          if (line_ == 0) return fail(outcome::malformed);
          return append(' ');
        }
        if (!end_line()) return;
        append('\n');
        if (state_ != outcome::need_more) return;
        line_ = head_.lines_.size();
        break;
      case step::line: break;
    }
    if (c == '\r') {
      step_ = step::cr;
    } else if (c == '\n') {
      step_ = step::between;
    } else if (text::is_control(c) && c != '\t') {
      fail(outcome::malformed);
    } else {
      append(c);
    }
  }

  void append(char c) noexcept {
    constexpr std::string_view start = "HTTP/1.";  // something else is found out at once
    const std::size_t at = head_.lines_.size();
    if (at < start.size() && c != start[at]) return fail(outcome::malformed);
    if (!head_.lines_.append({&c, 1})) fail(outcome::no_memory);
  }

  /// The line from line_ on is whole.
  [[nodiscard]] bool end_line() noexcept {
    std::string_view line = head_.lines_.view().substr(line_);
    if (line_ == 0) {
      if (read_status(line)) return true;
      fail(outcome::malformed);
      return false;
    }
    const std::string_view name = line.substr(0, line.find(':'));
    if (name.size() == line.size() || !text::is_token(name)) {
      fail(outcome::malformed);
      return false;
    }
    if (++headers_ > limits_.headers) {
      fail(outcome::too_large);
      return false;
    }
    return true;
  }

  /// "HTTP/1.1 200 OK".
  [[nodiscard]] bool read_status(std::string_view line) noexcept {
    if (line.size() < 12 || !text::is_digit(line[7]) || line[8] != ' ') return false;
    if (line.size() > 12 && line[12] != ' ') return false;
    std::uint64_t status = 0;
    if (read_decimal(line.substr(9, 3), 999, status) != decimal::number) return false;
    head_.status_ = static_cast<int>(status);
    head_.minor_version_ = line[7] == '0' ? 0 : 1;
    return status >= 100 && status != 101;  // RFC 9110 15: above 599 as if it were 5xx
  }

  void end_head() noexcept {
    if (head_.status_ >= 200) return finish();
    head_.lines_.clear();  // an interim response (RFC 9110 15.2): another head follows
    head_.status_ = 0;
    line_ = 0;
    step_ = step::line;
  }

  void finish() noexcept {
    if (limits_.tunnel && head_.status_ < 300) {
      state_ = outcome::complete;
      return;
    }
    bool coded = false;
    bool sized = false;
    bool good = true;
    head_.for_each_header([&](std::string_view name, std::string_view value) {
      if (text::equal_fold(name, "Transfer-Encoding")) {
        good = good && !coded && text::equal_fold(value, "chunked");
        coded = true;
      } else if (text::equal_fold(name, "Content-Length")) {
        good = good && read_lengths(value, sized);
        sized = true;
      }
      return true;
    });
    if (!good || (coded && (sized || head_.minor_version_ == 0))) return fail(outcome::framing);
    end_ = coded ? body_end::chunked : sized ? body_end::length : body_end::close;
    state_ = outcome::complete;
  }

  /// "5" or "5, 5" (RFC 9110 8.6).
  [[nodiscard]] bool read_lengths(std::string_view list, bool sized) noexcept {
    constexpr std::uint64_t most = (std::numeric_limits<std::uint64_t>::max)();
    do {
      const std::string_view digits = text::trim(text::next_part(list, ','));
      std::uint64_t n = 0;
      if (read_decimal(digits, most, n) != decimal::number || (sized && n != length_)) return false;
      length_ = n;
      sized = true;
    } while (!list.empty());
    return true;
  }

  response_limits limits_{};
  client_response head_{};
  std::size_t size_ = 0;  // bytes so far
  std::size_t line_ = 0;  // where the last line begins; 0: the status line
  std::size_t headers_ = 0;
  std::uint64_t length_ = 0;
  outcome state_ = outcome::need_more;
  step step_ = step::line;
  body_end end_ = body_end::close;
};

// --- what a client asks of a head

/// A number of seconds, or off: absent, or in another form such as a date.
[[nodiscard]] constexpr duration whole_seconds(std::string_view digits, duration most) noexcept {
  std::uint64_t n = 0;
  const auto limit = static_cast<std::uint64_t>(most.ms() / 1000);
  if (read_decimal(digits, limit, n) == decimal::malformed) return duration::off();
  return duration::seconds(static_cast<std::int64_t>(n));
}

/// What Retry-After asks for (RFC 9110 10.2.3), at most `most`: seconds, or a date, which counts
/// from the response's own, so that no clock need be right. Off: absent, or neither.
[[nodiscard]] inline duration retry_after(const client_response& r, duration most) noexcept {
  const std::string_view value = r.header("Retry-After");
  const duration seconds = whole_seconds(value, most);
  const std::int64_t until = read_http_date(value);
  const std::int64_t date = until < 0 ? -1 : read_http_date(r.header("Date"));
  if (date < 0 || until <= date) return seconds;
  const duration wait = duration::seconds(until - date);
  return most < wait ? most : wait;
}

/// Every Content-Type says text/event-stream, with any parameters.
[[nodiscard]] inline bool is_event_stream(const client_response& r) noexcept {
  int types = 0;
  int streams = 0;
  r.for_each_header([&](std::string_view name, std::string_view value) {
    if (!text::equal_fold(name, "Content-Type")) return true;
    ++types;
    streams += text::equal_fold(text::trim(text::next_part(value, ';')), "text/event-stream");
    return true;
  });
  return types != 0 && streams == types;
}

[[nodiscard]] inline bool is_identity(const client_response& r) noexcept {
  bool plain = true;
  r.for_each_header([&](std::string_view name, std::string_view value) {
    plain = !text::equal_fold(name, "Content-Encoding") || value.empty() ||
            text::equal_fold(value, "identity");
    return plain;
  });
  return plain;
}

/// Empty: none, or several that differ.
[[nodiscard]] inline std::string_view only_location(const client_response& r) noexcept {
  std::string_view location;
  r.for_each_header([&](std::string_view name, std::string_view value) {
    if (!text::equal_fold(name, "Location")) return true;
    const bool same = location.empty() || location == value;
    location = same ? value : std::string_view{};
    return same;
  });
  return location;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_HTTP_RESPONSE_READER_HPP
