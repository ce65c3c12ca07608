// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/http1.hpp
//
// http1: a strict HTTP/1.1 request reader (head and body), and the writers of answers and stream
// heads, for hosts that have no HTTP of their own.
//
//   sse::http1::head_reader reader;                    // one per connection
//   auto [state, used] = reader.feed(bytes);           // what is left: body or the next request
//   if (state == sse::http1::outcome::error) refuse(reader.status());
//   if (state == sse::http1::outcome::complete) serve(reader.head());
//   reader.reset();                                    // release() instead once a stream begins
//
// Where reader.has_body(), a body_reader takes what follows the head:
//
//   sse::http1::body_reader body{reader, limits};
//   auto [state, used] = body.feed(bytes, text);       // what is left: the next request
//
// Not for hosts with an HTTP server (they fill sse::request themselves), and not a general server:
// no content coding, no upgrades; trailers are read and dropped. The caller keeps the clock: give
// the whole head one deadline (10 s is a good one), from the first byte on, and the body another,
// or slow clients hold their connections for ever.
//
// Strict: what two servers could read in two ways is refused, since request smuggling lives on that
// (RFC 9112 11.2). After an error the connection must be closed.
//
// A reader belongs to one thread at a time. The head's throws nothing and allocates on the first
// byte; the body's and the writers append to a std::string, which may throw std::bad_alloc.
#ifndef SSEHUB_HTTP1_HPP
#define SSEHUB_HTTP1_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "sse.hpp"
#include "cors.hpp"
// ---- sse/detail/http/body_reader.hpp
//
// The body of an HTTP/1 message, response or request: its framing is taken off, by length or by
// chunks (RFC 9112 6.3, 7.1). Incremental, in linear time and without memory however the bytes are
// cut; nothing throws.
//
// Chunk lines end with CRLF, have at most 16 digits and max_chunk_line bytes; trailers have at most
// max_trailer bytes; both are dropped.
#ifndef SSEHUB_DETAIL_HTTP_BODY_READER_HPP
#define SSEHUB_DETAIL_HTTP_BODY_READER_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

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

/// HTTP/1.1 for hosts with a loop of their own: heads and bodies are read, answers are written.
namespace sse::inline SSEHUB_INLINE_NAMESPACE::http1 {

/// Each is the largest value that still passes.
struct limits {
  std::size_t head = 16384;   ///< bytes with all line ends; above: 431, in its first line 414
  std::size_t headers = 100;  ///< above: 431
  std::size_t target = 8192;  ///< bytes as received; above: 414
  std::uint64_t body = 1024 * 1024;  ///< bytes, promised by Content-Length or in chunks; above: 413
  /// Bytes of chunk extensions and trailers of one body, all together, at most 8192; above: 431.
  std::size_t body_extras = 4096;
};
inline constexpr std::size_t max_method = 32;  ///< bytes; above: 501

/// How far a reader is; error: its status() says which.
enum class outcome : std::uint8_t { need_more, complete, error };

/// What a reader made of a piece of input.
struct feed_result {
  outcome state = outcome::need_more;  ///< how far the reader is
  std::size_t consumed = 0;            ///< bytes taken from the input
};

/// How an answer is written.
struct response_options {
  bool head_only = false;  ///< the request was HEAD: same headers, no body
  bool keep_alive = true;  ///< what Connection says; the host closes if false
};

/// Reads one request head at a time, incrementally, in linear time however the bytes are cut.
///
/// Refused with 400: bare LF or CR, a folded line, space before the colon, an empty or odd header
/// name or method, a control character, anything but one space between the parts of the request
/// line, no Host or two in HTTP/1.1, Content-Length twice (even if equal) or with
/// Transfer-Encoding, a target that cannot be read. 404: a target that can name nothing (see
/// target_error). 501: transfer codings other than chunked alone, a method longer than max_method.
/// 413, 414, 431: limits. 417: an expectation other than 100-continue. 503: no memory. 505: a
/// version other than HTTP/1.x.
///
/// One empty line before the request line is skipped (RFC 9112 2.2). A Transfer-Encoding that does
/// not end in chunked is 400 (RFC 9112 6.3), and so is any in HTTP/1.0 (6.1).
class head_reader {
 public:
  /// Refuses what is beyond these limits.
  explicit head_reader(const limits& l = {}) noexcept : limits_{l} {}
  head_reader(head_reader&& o) noexcept { *this = std::move(o); }
  /// Views into a moved reader stay valid; the one moved from is as new.
  head_reader& operator=(head_reader&& o) noexcept {
    limits_ = o.limits_;
    bytes_ = std::move(o.bytes_);
    parsed_ = std::move(o.parsed_);
    now_ = std::exchange(o.now_, {});
    return *this;
  }

  /// Takes bytes up to the end of the head. After complete or error it takes nothing.
  feed_result feed(std::string_view in) noexcept {
    std::size_t used = 0;
    while (now_.state == outcome::need_more && used < in.size()) {
      const char* from = in.data() + used;
      const void* lf = std::memchr(from, '\n', in.size() - used);
      const std::size_t n = lf != nullptr
                                ? static_cast<std::size_t>(static_cast<const char*>(lf) - from) + 1
                                : in.size() - used;
      used += append({from, n}, in.size() - used);
      if (lf != nullptr && now_.state == outcome::need_more) end_line();
    }
    return {now_.state, used};
  }

  [[nodiscard]] outcome state() const noexcept { return now_.state; }  ///< how far it is
  /// What to answer after an error; 0 before one.
  [[nodiscard]] int status() const noexcept { return now_.status; }
  /// The request; its views are valid until reset() or release(). REQUIRES: complete.
  [[nodiscard]] const request& head() const noexcept {
    SSEHUB_ASSERT(now_.state == outcome::complete);
    return now_.head;
  }
  /// Bytes of body that the head promises, at most limits::body; 0 too where it is chunked().
  [[nodiscard]] std::uint64_t content_length() const noexcept { return now_.content_length; }
  /// The body comes in chunks, whose end tells its length (RFC 9112 7.1).
  [[nodiscard]] bool chunked() const noexcept { return now_.chunked; }
  /// A body follows the head; in chunks it may be an empty one.
  [[nodiscard]] bool has_body() const noexcept { return now_.chunked || now_.content_length != 0; }
  /// The client waits for continue_head before it sends the body.
  [[nodiscard]] bool expects_continue() const noexcept { return now_.expects_continue; }
  /// The client wants the connection to go on (RFC 9112 9.3); never after an error.
  [[nodiscard]] bool keep_alive() const noexcept { return now_.keep_alive; }
  /// How to answer. An unread body would be taken for the next request, so without `body_read` it
  /// ends the connection.
  [[nodiscard]] response_options answer(bool body_read = false) const noexcept {
    return {now_.head.method == "HEAD", now_.keep_alive && (body_read || !has_body())};
  }
  /// Bytes of memory held.
  [[nodiscard]] std::size_t memory() const noexcept {
    return bytes_.capacity() + parsed_.capacity();
  }

  /// Ready for the next request of the connection, with the same memory. REQUIRES: no error, the
  /// body read.
  void reset() noexcept {
    SSEHUB_ASSERT(now_.state != outcome::error);
    now_ = {};
    bytes_.truncate(0);
  }
  /// Ready as a new reader; gives the memory back. For the moment a stream begins, after head() was
  /// used.
  void release() noexcept {
    now_ = {};
    bytes_.release();
    parsed_.release();
  }

 private:
  struct progress {
    outcome state = outcome::need_more;
    bool skipped = false;       // the empty line before the request line
    bool request_line = false;  // was read
    bool expects_continue = false;
    bool keep_alive = false;
    bool chunked = false;
    int status = 0;
    std::size_t line = 0;  // where its last line begins
    std::size_t method = 0;
    std::size_t target = 0;
    std::size_t headers = 0;
    std::uint64_t content_length = 0;
    request head{};
  };

  void fail(int status) noexcept {
    now_.state = outcome::error;
    now_.status = status;
    now_.keep_alive = false;
  }

  [[nodiscard]] std::string_view text(std::size_t from, std::size_t n) const noexcept {
    return {bytes_.data() + from, n};
  }

  /// The most bytes that the head may have by the end of this line.
  [[nodiscard]] std::size_t most() const noexcept {
    constexpr std::size_t rest = max_method + 12;  // two spaces, "HTTP/1.1", CRLF
    if (now_.request_line || limits_.target >= limits_.head ||
        limits_.head - limits_.target <= rest) {
      return limits_.head;
    }
    return limits_.target + rest;
  }

  /// `there`: bytes from `in` on that came with it, perhaps all of the head.
  [[nodiscard]] std::size_t append(std::string_view in, std::size_t there) noexcept {
    if (bytes_.size() == 0 && !sse::detail::text::is_token_char(in[0]) && in[0] != '\r') {
      fail(400);  // such as a TLS handshake: no need to wait for a line end
      return 0;
    }
    const std::size_t room = most() - bytes_.size();
    const std::size_t n = in.size() < room ? in.size() : room;
    if (bytes_.size() + n > bytes_.capacity()) {
      const std::size_t first = there < 256 ? 256 : there < 1024 ? there : 1024;
      std::size_t capacity = bytes_.capacity() == 0 ? first : bytes_.capacity() * 2;
      if (capacity > limits_.head) capacity = limits_.head;
      if (capacity < bytes_.size() + n) capacity = bytes_.size() + n;
      if (!bytes_.reserve(capacity)) {
        fail(503);
        return 0;
      }
    }
    (void)bytes_.append(in.substr(0, n));  // there is room
    if (n < in.size()) {
      const bool too_long_a_method =
          bytes_.size() > max_method && text(0, max_method + 1).find(' ') == std::string_view::npos;
      fail(now_.request_line ? 431 : too_long_a_method ? 501 : 414);
    }
    return n;
  }

  void end_line() noexcept {
    namespace t = sse::detail::text;
    std::string_view line = text(now_.line, bytes_.size() - now_.line);
    if (!line.ends_with("\r\n")) return fail(400);
    line.remove_suffix(2);
    if (!now_.request_line) {
      if (!line.empty()) return end_request_line(line);
      if (now_.skipped) return fail(400);
      now_.skipped = true;
      bytes_.truncate(0);
      return;
    }
    if (line.empty()) return finish();
    if (++now_.headers > limits_.headers) return fail(431);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !t::is_token(line.substr(0, colon)) ||
        !t::is_field_value(line.substr(colon + 1))) {
      return fail(400);
    }
    now_.line = bytes_.size();
  }

  void end_request_line(std::string_view line) noexcept {
    namespace t = sse::detail::text;
    const std::string_view method = t::next_part(line, ' ');
    const std::string_view target = t::next_part(line, ' ');
    if (!t::is_token(method)) return fail(400);
    if (method.size() > max_method) return fail(501);
    if (target.size() > limits_.target) return fail(414);
    if (target.empty() || line.size() != 8 || !line.starts_with("HTTP/") || !t::is_digit(line[5]) ||
        line[6] != '.' || !t::is_digit(line[7])) {
      return fail(400);
    }
    if (line[5] != '1') return fail(505);
    now_.head.minor_version = line[7] == '0' ? 0 : 1;  // RFC 9110 2.5: 1.2 is served as 1.1
    now_.method = method.size();
    now_.target = target.size();
    now_.request_line = true;
    now_.line = bytes_.size();
  }

  /// The head is whole: views, path, and the rules that span several headers.
  void finish() noexcept {
    namespace t = sse::detail::text;
    request& r = now_.head;
    r.method = text(0, now_.method);
    r.target = text(now_.method + 1, now_.target);
    sse::detail::target_parts parts;
    if (!sse::detail::split_target(r.method, r.target, parts)) return fail(400);

    const std::size_t table = now_.headers * sizeof(header);
    if (!parsed_.reserve(table + parts.path.size())) return fail(503);
    std::size_t n = 0;
    const target_error e = sse::detail::decode_path(parts.path, parsed_.data() + table, n);
    if (e != target_error::none) return fail(status_of(e));
    r.path = {parsed_.data() + table, n};
    r.query = parts.query;

    std::string_view rest = text(0, bytes_.size() - 2);
    rest.remove_prefix(now_.method + now_.target + 12);  // see most()
    auto* const first = reinterpret_cast<header*>(parsed_.data());
    for (std::size_t i = 0; i < now_.headers; ++i) {
      std::string_view line = t::next_part(rest, '\n');
      line.remove_suffix(1);
      const std::string_view name = t::next_part(line, ':');
      ::new (static_cast<void*>(first + i)) header{name, t::trim(line)};
    }
    r.headers = {first, now_.headers};
    if (const int status = check_headers(); status != 0) return fail(status);
    now_.state = outcome::complete;
  }

  [[nodiscard]] int check_headers() noexcept {
    namespace t = sse::detail::text;
    int hosts = 0;
    int lengths = 0;
    std::string_view coding;
    bool coded = false;
    bool close = false;
    bool keep = now_.head.minor_version > 0;
    for (const header& h : now_.head.headers) {
      if (t::equal_fold(h.name, "Host")) {
        if (++hosts > 1 || !t::is_authority(h.value)) return 400;
      } else if (t::equal_fold(h.name, "Content-Length")) {
        if (++lengths > 1 || !read_length(h.value)) return 400;
      } else if (t::equal_fold(h.name, "Transfer-Encoding")) {
        if (std::exchange(coded, true)) return 400;
        coding = h.value;
      } else if (t::equal_fold(h.name, "Connection")) {
        close = close || t::list_has(h.value, "close");
        keep = keep || t::list_has(h.value, "keep-alive");
      } else if (t::equal_fold(h.name, "Expect") && now_.head.minor_version > 0) {
        if (!t::equal_fold(h.value, "100-continue")) return 417;
        now_.expects_continue = true;
      }
    }
    if (hosts == 0 && now_.head.minor_version > 0) return 400;
    if (coded) {
      const std::size_t comma = coding.rfind(',');
      const std::size_t last = comma == std::string_view::npos ? 0 : comma + 1;
      if (lengths != 0 || now_.head.minor_version == 0) return 400;  // RFC 9112 6.1: faulty framing
      if (!t::equal_fold(t::trim(coding.substr(last)), "chunked")) return 400;
      if (last != 0) return 501;
      now_.chunked = true;
    }
    if (now_.content_length > limits_.body) return 413;
    now_.expects_continue = now_.expects_continue && has_body();
    now_.keep_alive = keep && !close;
    return 0;
  }

  /// Digits only; a number too large for any limit stays the largest.
  [[nodiscard]] bool read_length(std::string_view s) noexcept {
    constexpr std::uint64_t most = (std::numeric_limits<std::uint64_t>::max)();
    return sse::detail::read_decimal(s, most, now_.content_length) !=
           sse::detail::decimal::malformed;
  }

  limits limits_{};
  sse::detail::bytes bytes_{};   // the head as received
  sse::detail::bytes parsed_{};  // the header table, then the decoded path
  progress now_{};
};

/// Reads the body that follows a head, incrementally, however the bytes are cut.
///
/// Refused with 400: chunks that are not as RFC 9112 7.1 has them, to the byte: bare LF or CR, a
/// size without digits or with more than 16, blanks at the end of its line, trailers that are no
/// fields. 413, 431: limits. After an error the connection must be closed.
class body_reader {
 public:
  body_reader() noexcept = default;
  /// REQUIRES: the head is complete.
  explicit body_reader(const head_reader& head, const limits& l = {}) noexcept
      : framing_{head.chunked() ? sse::detail::body_end::chunked : sse::detail::body_end::length,
                 head.content_length(),
                 {.content = l.body, .extras = l.body_extras, .strict = true}} {}

  /// Takes bytes up to the end of the body, and appends its content. After complete or error it
  /// takes nothing.
  feed_result feed(std::string_view in, std::string& content) {
    std::size_t used = 0;
    while (used < in.size() && state() == outcome::need_more) {
      const auto [skipped, data] = framing_.next(in.substr(used));
      content.append(data);
      used += skipped + data.size();
      if (!data.empty()) framing_.took(data.size());
    }
    return {state(), used};
  }

  /// How far it is.
  [[nodiscard]] outcome state() const noexcept {
    using stand = sse::detail::body_reader::outcome;
    const stand s = framing_.state();
    return s == stand::more       ? outcome::need_more
           : s == stand::complete ? outcome::complete
                                  : outcome::error;
  }
  /// What to answer after an error; 0 before one.
  [[nodiscard]] int status() const noexcept {
    switch (framing_.state()) {
      case sse::detail::body_reader::outcome::malformed: return 400;
      case sse::detail::body_reader::outcome::too_large: return 413;
      case sse::detail::body_reader::outcome::many_extras: return 431;
      default: return 0;
    }
  }

 private:
  sse::detail::body_reader framing_{};
};

// --- writing

/// What a client that sent `Expect: 100-continue` waits for.
inline constexpr std::string_view continue_head = "HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a whole answer with Content-Length, Connection and X-Content-Type-Options: nosniff. 204
/// and 304 have neither length nor body. The status line says HTTP/1.1 to every client (RFC
/// 9110 2.5). False: the status is not 200 to 999 or the header lines are not valid; then an empty
/// 500 is written instead.
inline bool write_response(std::string& out, const response& r, response_options o = {}) {
  const bool valid =
      r.status >= 200 && r.status <= 999 && for_each_field(r.headers, [](auto, auto) {});
  const int status = valid ? r.status : 500;
  const bool empty = status == 204 || status == 304;
  const std::string_view body = valid && !empty ? std::string_view{r.body} : std::string_view{};
  out.append("HTTP/1.1 ")
      .append(std::to_string(status))
      .append(" ")
      .append(reason_phrase(status))
      .append("\r\n");
  if (valid) out.append(r.headers);
  if (!empty) out.append("Content-Length: ").append(std::to_string(body.size())).append("\r\n");
  out.append(o.keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n");
  out.append("X-Content-Type-Options: nosniff\r\n\r\n");
  if (!o.head_only) out.append(body);
  return valid;
}

/// The head of an event stream.
struct stream_head {
  std::string_view content_type =
      "text/event-stream";  ///< a contract may want "text/event-stream; charset=utf-8"
  std::string_view cache_control = "no-cache";  ///< or "no-store"
  /// What Connection says to HTTP/1.1: "keep-alive" instead of "close". True only where the
  /// connection outlives the stream, or where a contract fixes it: a client that believes it sends
  /// its next request into an end (RFC 9112 9.6). A server says it by itself where it is true.
  bool keep_alive = false;
  bool nosniff = true;      ///< X-Content-Type-Options: nosniff
  bool proxy_hints = true;  ///< X-Accel-Buffering: no, or nginx holds events back
  bool no_transform =
      false;  ///< adds no-transform to Cache-Control, or some proxies compress and hold events back
  /// X-Heartbeat-Interval, in seconds: a client that knows it takes a stream for dead that is
  /// silent for three times as long (sse/client.hpp does). 0: not said; servers say then what they
  /// know, see server_options::announce_heartbeat.
  std::uint32_t heartbeat_seconds = 0;
  std::string_view extra{};  ///< more "Name: value\r\n" lines, such as those of add_cors()
};

/// Appends X-Heartbeat-Interval, see stream_head::heartbeat_seconds, in whole seconds, rounded up;
/// nothing where it is off().
inline void write_heartbeat(std::string& out, duration every) {
  if (every.is_off()) return;
  const std::int64_t seconds = every.ms() / 1000 + (every.ms() % 1000 != 0 ? 1 : 0);
  out.append("X-Heartbeat-Interval: ").append(std::to_string(seconds)).append("\r\n");
}

/// Appends `200 OK` and the headers of a stream; use it as request::preamble, or alone to answer
/// HEAD. Chunked only for HTTP/1.1; otherwise the end of the connection ends the stream (RFC
/// 9112 6.3). False: a field has a control character or `extra` is not valid; nothing
/// is written.
[[nodiscard]] inline bool write_stream_head(std::string& out, const stream_head& h,
                                            int minor_version, bool chunked) {
  if (!for_each_field(h.extra, [](auto, auto) {})) return false;
  const std::size_t before = out.size();
  out.append("HTTP/1.1 200 OK\r\n");
  std::string cache{h.cache_control};
  if (h.no_transform) cache.append(cache.empty() ? "no-transform" : ", no-transform");
  if (!sse::detail::add_field(out, "Content-Type", h.content_type) ||
      (!cache.empty() && !sse::detail::add_field(out, "Cache-Control", cache))) {
    out.resize(before);
    return false;
  }
  out.append(h.keep_alive && minor_version > 0 ? "Connection: keep-alive\r\n"
                                               : "Connection: close\r\n");
  if (chunked && minor_version > 0) out.append("Transfer-Encoding: chunked\r\n");
  if (h.proxy_hints) out.append("X-Accel-Buffering: no\r\n");
  if (h.nosniff) out.append("X-Content-Type-Options: nosniff\r\n");
  write_heartbeat(out, duration::seconds(h.heartbeat_seconds));
  out.append(h.extra).append("\r\n");
  return true;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::http1

#endif  // SSEHUB_HTTP1_HPP
