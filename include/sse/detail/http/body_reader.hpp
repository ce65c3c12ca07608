// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// The body of an HTTP/1 message, response or request: its framing is taken off, by length or by
// chunks (RFC 9112 6.3, 7.1). Incremental, in linear time and without memory however the bytes are
// cut; nothing throws.
//
// Chunk lines end with CRLF, have at most 16 digits and max_chunk_line bytes; trailers have at most
// max_trailer bytes; both are dropped.
#pragma once
#ifndef SSEHUB_DETAIL_HTTP_BODY_READER_HPP
#define SSEHUB_DETAIL_HTTP_BODY_READER_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include <sse/config.hpp>
#include <sse/detail/base/size.hpp>
#include <sse/detail/http/characters.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// What ends the body (RFC 9112 6.3).
enum class body_end : std::uint8_t { close, length, chunked };

/// What a server lets the chunks of a request have; the stream that a client reads may go on for
/// ever. Each is the most that passes.
struct chunk_limits {
  std::uint64_t content = (std::numeric_limits<std::uint64_t>::max)();  // bytes
  /// Bytes of extensions and trailers, all together.
  std::uint64_t extras = (std::numeric_limits<std::uint64_t>::max)();
  /// What RFC 9112 does not have is refused: blanks at the end of a size line, trailers that are no
  /// fields.
  bool strict = false;
};

/// Finds the content between the framing.
///
///   while (in not used up and state() is more) {
///     const auto [skipped, data] = reader.next(in);       // drop `skipped` bytes, then use data
///     reader.took(n);                                     // of data, which may be less than all
///   }
class body_reader {
 public:
  static constexpr std::size_t max_chunk_line = 4096;  // bytes of size and extensions
  static constexpr std::size_t max_trailer = 8192;     // bytes

  enum class outcome : std::uint8_t {
    more,
    complete,
    malformed,
    too_large,    // chunk_limits::content
    many_extras,  // chunk_limits::extras
  };
  struct piece {
    std::size_t skipped = 0;  // framing at the start of the input
    std::string_view data{};  // content behind it; empty: all of the input is used, or it is over
  };

  body_reader() noexcept = default;
  body_reader(body_end end, std::uint64_t length, const chunk_limits& l = {}) noexcept
      : limits_{l},
        left_{end == body_end::length ? length : 0},
        state_{end == body_end::length && length == 0 ? outcome::complete : outcome::more},
        step_{end == body_end::close    ? step::to_close
              : end == body_end::length ? step::counted
                                        : step::size} {}

  [[nodiscard]] piece next(std::string_view in) noexcept {
    piece out;
    while (out.skipped < in.size() && state_ == outcome::more) {
      if (step_ == step::to_close || step_ == step::counted || step_ == step::data) {
        out.data = in.substr(out.skipped);
        if (step_ != step::to_close && out.data.size() > left_) {
          out.data = out.data.substr(0, to_size(left_));
        }
        return out;
      }
      take(in[out.skipped++]);
    }
    return out;
  }

  /// `n` bytes of the data that next() gave are used.
  void took(std::size_t n) noexcept {
    if (step_ == step::to_close) return;
    left_ -= n;
    if (left_ != 0) return;
    if (step_ == step::counted) {
      state_ = outcome::complete;
    } else if (step_ == step::data) {
      step_ = step::data_cr;
    }
  }

  [[nodiscard]] outcome state() const noexcept { return state_; }
  /// Whether the body may end where the connection does.
  [[nodiscard]] bool ends_with_connection() const noexcept {
    return step_ == step::to_close || state_ == outcome::complete;
  }

 private:
  enum class step : std::uint8_t {
    to_close,
    counted,
    size,       // chunk-size
    space,      // blanks after it
    extension,  // to the end of the line
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer,       // at the start of a line
    trailer_name,  // in front of its colon
    trailer_in,    // behind it
    trailer_lf,
    last_lf,
  };

  void fail(outcome why = outcome::malformed) noexcept { state_ = why; }
  /// One more byte of an extension or a trailer.
  [[nodiscard]] bool may_take_extra() noexcept {
    if (limits_.extras == 0) fail(outcome::many_extras);
    return limits_.extras != 0 && limits_.extras-- != 0;
  }

  void expect(char c, char wanted, step then) noexcept {
    if (c != wanted) return fail();
    step_ = then;
  }

  void take(char c) noexcept {
    switch (step_) {
      case step::size: return take_size(c);
      case step::space:
      case step::extension: return take_extension(c);
      case step::size_lf:
        if (left_ > limits_.content) return fail(outcome::too_large);
        limits_.content -= left_;
        line_ = 0;
        return expect(c, '\n', left_ != 0 ? step::data : step::trailer);
      case step::data_cr: return expect(c, '\r', step::data_lf);
      case step::data_lf:
        expect(c, '\n', step::size);
        line_ = digits_ = 0;
        return;
      case step::trailer:
      case step::trailer_name:
      case step::trailer_in: return take_trailer(c);
      case step::trailer_lf: return expect(c, '\n', step::trailer);
      case step::last_lf:
        if (c != '\n') return fail();
        state_ = outcome::complete;
        return;
      case step::to_close:
      case step::counted:
      case step::data: return;
    }
  }

  void take_size(char c) noexcept {
    const int digit = text::hex_digit(c);
    if (digit < 0) {
      if (digits_ == 0) return fail();
      step_ = step::space;
      return take_extension(c);
    }
    if (++digits_ > 16) return fail();  // so that left_ holds it
    left_ = left_ * 16 + static_cast<std::uint64_t>(digit);
  }

  void take_extension(char c) noexcept {
    if (++line_ > max_chunk_line) return fail();
    if (c == '\r') {
      const bool padded = step_ == step::space && line_ > 1;
      return padded && limits_.strict ? fail() : void(step_ = step::size_lf);
    }
    if (!may_take_extra()) return;
    if (c == ';') {
      step_ = step::extension;
    } else if (step_ == step::space ? c != ' ' && c != '\t' : text::is_control(c) && c != '\t') {
      fail();
    }
  }

  void take_trailer(char c) noexcept {
    if (++line_ > max_trailer) return fail();
    if (c == '\r') {
      if (step_ == step::trailer_name) return fail();
      step_ = step_ == step::trailer ? step::last_lf : step::trailer_lf;
      return;
    }
    if (!may_take_extra()) return;
    const bool in_name = limits_.strict && step_ != step::trailer_in;
    if (!in_name || (c == ':' && step_ == step::trailer_name)) {
      step_ = step::trailer_in;
      if (text::is_control(c) && c != '\t') fail();
    } else {
      step_ = step::trailer_name;
      if (!text::is_token_char(c)) fail();
    }
  }

  chunk_limits limits_{};
  std::uint64_t left_ = 0;  // bytes of this chunk or of the body
  std::size_t line_ = 0;    // bytes of extensions, or of all trailers
  std::uint8_t digits_ = 0;
  outcome state_ = outcome::more;
  step step_ = step::to_close;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_HTTP_BODY_READER_HPP
