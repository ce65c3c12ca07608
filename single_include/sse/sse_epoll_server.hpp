// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/sse.hpp
//
// The core, whole: no dependencies, no I/O, no threads. See hub.hpp for where to begin.
#ifndef SSEHUB_SSE_HPP
#define SSEHUB_SSE_HPP

// ---- sse/admission.hpp
//
// admission: who may open a stream, what it joins, and how many there may be.
//
//   hub.on_admit([&](const sse::request& r) -> sse::verdict<> {
//     if (!token_is_good(sse::bearer_token(r))) return sse::refuse(401, "who are you?\n");
//     return sse::admit("user-7").join(orders);
//   });
//
// Plain data, no thread safety of its own.
#ifndef SSEHUB_ADMISSION_HPP
#define SSEHUB_ADMISSION_HPP

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

// ---- sse/channel.hpp
//
// channel: a named stream of events: a log that subscribers read with a cursor each. A hub opens
// and owns it.
//
//   sse::channel ticks = hub.open_channel("ticks", {.keep = 10'000});
//   (void)ticks.publish({.type = "tick", .data = json});
//   hub.flush();
//
// Not thread-safe: it belongs to its hub's thread. Other threads publish through a mailbox
// (sse/mailbox.hpp).
#ifndef SSEHUB_CHANNEL_HPP
#define SSEHUB_CHANNEL_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// ---- sse/config.hpp
//
// Vocabulary that every other header uses: time, and the limits that several headers share.
//
// What the comments call REQUIRES is the caller's duty, and not checked: define SSEHUB_CHECKED=1 in
// the whole program, and a broken one says where on stderr and aborts (what costs more than O(1) to
// see, or a lock, stays unchecked). A program with an assertion of its own defines
// SSEHUB_ASSERT(...) before the first header instead.
#ifndef SSEHUB_CONFIG_HPP
#define SSEHUB_CONFIG_HPP

#include <compare>
#include <concepts>
#include <cstdint>
#include <limits>

// ---- sse/version.hpp
#ifndef SSEHUB_VERSION_HPP
#define SSEHUB_VERSION_HPP

// One line instead of a thousand: the include stops the compiler.
#if defined(_MSVC_LANG) ? _MSVC_LANG < 202002L : __cplusplus < 202002L
#error "ssehub needs C++20: -std=c++20, /std:c++20, or CMake's cxx_std_20"
#include <ssehub_needs_cxx20>
#endif

/// The version of the library; CMake, vcpkg and Conan read it from here, its only source.
#define SSEHUB_VERSION_MAJOR 0
#define SSEHUB_VERSION_MINOR 1
#define SSEHUB_VERSION_PATCH 0
#define SSEHUB_VERSION "0.1.0"
/// Every name of the library is in it, so that libraries which brought different versions are one
/// program: each has its own. No program writes it.
#define SSEHUB_INLINE_NAMESPACE v0_1_0

#endif  // SSEHUB_VERSION_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

namespace detail {

/// Matches std::chrono::duration without including <chrono>, which would double the cost of this
/// library.
template <class D>
concept chrono_duration = requires(const D& d) {
  d.count();
  D::period::num;
  D::period::den;
};

template <class T>
concept chrono_time_point = requires(const T& t) {
  { t.time_since_epoch() } -> chrono_duration;
};

// Times that have no place in 64 bits are the ends of the range: never, and before all.
inline constexpr std::int64_t last_ms = (std::numeric_limits<std::int64_t>::max)();
inline constexpr std::int64_t first_ms = (std::numeric_limits<std::int64_t>::min)();

[[nodiscard]] constexpr std::int64_t sum_of_ms(std::int64_t a, std::int64_t b) noexcept {
  return b > 0 && a > last_ms - b ? last_ms : b < 0 && a < first_ms - b ? first_ms : a + b;
}
[[nodiscard]] constexpr std::int64_t difference_of_ms(std::int64_t a, std::int64_t b) noexcept {
  return b < 0 && a > last_ms + b ? last_ms : b > 0 && a < first_ms + b ? first_ms : a - b;
}
/// REQUIRES: by > 0.
[[nodiscard]] constexpr std::int64_t times_ms(std::int64_t a, std::int64_t by) noexcept {
  return a > last_ms / by ? last_ms : a < first_ms / by ? first_ms : a * by;
}

}  // namespace detail

/// A span of time in milliseconds. Converts from every std::chrono duration; the core includes no
/// <chrono>. What is too long for it is infinite().
class duration {
 public:
  constexpr duration() noexcept = default;

  /// Any chrono duration, rounded towards zero and saturated.
  template <detail::chrono_duration D>
  constexpr duration(D d) noexcept  // NOLINT: implicit, so that `.every = 10s` reads well
      : ms_{to_ms(d)} {}

  /// Of so many milliseconds.
  [[nodiscard]] static constexpr duration milliseconds(std::int64_t n) noexcept {
    duration d;
    d.ms_ = n;
    return d;
  }
  /// Of so many seconds.
  [[nodiscard]] static constexpr duration seconds(std::int64_t n) noexcept {
    return milliseconds(detail::times_ms(n, 1000));
  }
  /// Never; also what 0 means in an option that can be off.
  [[nodiscard]] static constexpr duration off() noexcept { return {}; }
  /// Longer than all others: never.
  [[nodiscard]] static constexpr duration infinite() noexcept {
    return milliseconds(detail::last_ms);
  }

  /// In milliseconds.
  [[nodiscard]] constexpr std::int64_t ms() const noexcept { return ms_; }
  [[nodiscard]] constexpr bool is_off() const noexcept { return ms_ <= 0; }  ///< not above zero
  friend constexpr bool operator==(duration, duration) noexcept = default;
  friend constexpr auto operator<=>(duration, duration) noexcept = default;

 private:
  template <class D>
  static constexpr std::int64_t to_ms(D d) noexcept {
    using p = typename D::period;
    if constexpr (std::floating_point<typename D::rep>) {
      const double ms = static_cast<double>(d.count()) * static_cast<double>(p::num) * 1000 /
                        static_cast<double>(p::den);
      if (!(ms < 0x1p63)) return ms != ms ? 0 : detail::last_ms;
      return ms < -0x1p63 ? detail::first_ms : static_cast<std::int64_t>(ms);
    } else if constexpr (p::den >= 1000) {
      return detail::times_ms(static_cast<std::int64_t>(d.count()), p::num) / (p::den / 1000);
    } else {
      return detail::times_ms(static_cast<std::int64_t>(d.count()), p::num * (1000 / p::den));
    }
  }

  std::int64_t ms_ = 0;
};

/// A moment on the host's monotonic clock, in milliseconds since any origin. The core reads no
/// clock: time comes in.
class time_point {
 public:
  constexpr time_point() noexcept = default;

  /// Of any clock, as long as it is the same one everywhere.
  template <detail::chrono_time_point T>
  constexpr time_point(T t) noexcept  // NOLINT: implicit, see duration
      : ms_{duration{t.time_since_epoch()}.ms()} {}

  /// So many after the clock's beginning.
  [[nodiscard]] static constexpr time_point milliseconds(std::int64_t n) noexcept {
    time_point t;
    t.ms_ = n;
    return t;
  }
  /// Later than all others.
  [[nodiscard]] static constexpr time_point never() noexcept {
    return milliseconds(detail::last_ms);
  }

  /// Milliseconds since the clock's beginning.
  [[nodiscard]] constexpr std::int64_t ms() const noexcept { return ms_; }
  friend constexpr bool operator==(time_point, time_point) noexcept = default;
  friend constexpr auto operator<=>(time_point, time_point) noexcept = default;
  friend constexpr time_point operator+(time_point t, duration d) noexcept {
    return milliseconds(detail::sum_of_ms(t.ms_, d.ms()));
  }
  friend constexpr duration operator-(time_point a, time_point b) noexcept {
    return duration::milliseconds(detail::difference_of_ms(a.ms_, b.ms_));
  }

 private:
  std::int64_t ms_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_CONFIG_HPP
// ---- sse/encode.hpp
//
// encode: events, comments and retry blocks to the bytes of a text/event-stream. The only place
// that writes "data:". Not needed to publish through a hub, which calls it; use it for hosts,
// recordings and tests that have no hub.
//
// Threads: no state, so any thread. Nothing throws but the std::string of the four append
// functions, if its own growth fails. The *_to functions allocate nothing.
//
//   std::string out;
//   if (sse::encode(out, {.type = "fill", .data = json, .id = "17"}) != sse::encode_error::none)
//     return false;
//   (void)sse::encode_comment(out, "keep-alive");
//   send(fd, out.data(), out.size(), 0);
//
// What is written (WHATWG HTML 9.2.5): `id: N`, `event: T`, `retry: N`, each only if it is set,
// then one `data: LINE` per line of the data, then a blank line; every line ends with LF, one space
// follows every colon. Data always has at least one line, so an event is fired even if its data is
// empty. A parser gets the data back exactly, but CR and CRLF as LF. Field text that could forge a
// field (CR, LF, NUL) is refused, never repaired.
#ifndef SSEHUB_ENCODE_HPP
#define SSEHUB_ENCODE_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// ---- sse/detail/base/assert.hpp
//
// SSEHUB_ASSERT(condition): what a REQUIRES of the library asks for, checked. Off unless the
// program says SSEHUB_CHECKED=1 (the tests do) or defines SSEHUB_ASSERT itself before the first
// header, for example as its own assertion. A failed check tells where on stderr and aborts.
#ifndef SSEHUB_DETAIL_BASE_ASSERT_HPP
#define SSEHUB_DETAIL_BASE_ASSERT_HPP

#ifndef SSEHUB_ASSERT
#if defined(SSEHUB_CHECKED) && SSEHUB_CHECKED
#include <cstdio>
#include <cstdlib>
#define SSEHUB_ASSERT(...)                                                                  \
  ((__VA_ARGS__) ? static_cast<void>(0)                                                     \
                 : (static_cast<void>(std::fprintf(stderr, "%s:%d: ssehub: required: %s\n", \
                                                   __FILE__, __LINE__, #__VA_ARGS__)),      \
                    std::abort()))
#else
#define SSEHUB_ASSERT(...) static_cast<void>(0)
#endif
#endif

#endif  // SSEHUB_DETAIL_BASE_ASSERT_HPP
// ---- sse/detail/base/decimal.hpp
//
// Decimal numbers, read and written: ids, retry, lengths, ports. Digits only: no sign, no space,
// any number of leading zeros. Not public.
#ifndef SSEHUB_DETAIL_BASE_DECIMAL_HPP
#define SSEHUB_DETAIL_BASE_DECIMAL_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// n = 10 n + the digit. False, and n stays: `c` is no digit, or the number would be above `most`.
[[nodiscard]] constexpr bool add_digit(std::uint64_t& n, char c, std::uint64_t most) noexcept {
  if (c < '0' || c > '9') return false;
  const auto digit = static_cast<std::uint64_t>(c - '0');
  if (digit > most || n > (most - digit) / 10) return false;
  n = n * 10 + digit;
  return true;
}

enum class decimal : std::uint8_t {
  number,
  too_large,  ///< digits, but above what was allowed
  malformed,  ///< empty, or something else than digits
};

/// Reads all of `s`. `n` is the number; `most` if it is too large; unchanged if there is none.
[[nodiscard]] constexpr decimal read_decimal(std::string_view s, std::uint64_t most,
                                             std::uint64_t& n) noexcept {
  std::uint64_t read = 0;
  bool fits = true;
  for (const char c : s) {
    if (c < '0' || c > '9') return decimal::malformed;
    fits = fits && add_digit(read, c, most);
  }
  if (s.empty()) return decimal::malformed;
  n = fits ? read : most;
  return fits ? decimal::number : decimal::too_large;
}

[[nodiscard]] constexpr std::size_t decimal_size(std::uint64_t n) noexcept {
  std::size_t size = 1;
  for (; n >= 10; n /= 10) ++size;
  return size;
}

/// The most that a number has.
inline constexpr std::size_t max_digits = 20;
static_assert(decimal_size(UINT64_MAX) == max_digits);

/// Writes decimal_size(n) bytes; returns the byte after them.
constexpr char* put_decimal(char* out, std::uint64_t n) noexcept {
  char* const end = out + decimal_size(n);
  char* p = end;
  do {
    *--p = static_cast<char>('0' + n % 10);
    n /= 10;
  } while (n != 0);
  return end;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_DECIMAL_HPP
// ---- sse/detail/base/lines.hpp
//
// Line ends, as the encoder and the parser see them. Not public.
#ifndef SSEHUB_DETAIL_BASE_LINES_HPP
#define SSEHUB_DETAIL_BASE_LINES_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// True if one of the eight bytes is below 14: only such a word needs a closer look for CR and LF.
[[nodiscard]] constexpr bool has_low_byte(std::uint64_t word) noexcept {
  constexpr std::uint64_t ones = 0x0101010101010101U;
  return ((word - ones * 14) & ~word & (ones << 7)) != 0;
}

[[nodiscard]] inline std::uint64_t load_word(const char* p) noexcept {
  std::uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

[[nodiscard]] constexpr bool is_line_end(char c) noexcept { return c == '\n' || c == '\r'; }

/// The first CR or LF in [p, end), or end, one byte after the other.
[[nodiscard]] constexpr const char* find_line_end_by_bytes(const char* p,
                                                           const char* end) noexcept {
  while (p != end && !is_line_end(*p)) ++p;
  return p;
}

/// The same, eight bytes at a time: for processors without the vectors below.
[[nodiscard]] inline const char* find_line_end_by_words(const char* p, const char* end) noexcept {
  for (; end - p >= 8; p += 8) {
    while (end - p >= 32 && !has_low_byte(load_word(p)) && !has_low_byte(load_word(p + 8)) &&
           !has_low_byte(load_word(p + 16)) && !has_low_byte(load_word(p + 24))) {
      p += 32;
    }
    if (end - p < 8) break;
    if (!has_low_byte(load_word(p))) continue;
    const char* const found = find_line_end_by_bytes(p, p + 8);
    if (found != p + 8) return found;
  }
  return find_line_end_by_bytes(p, end);
}

#if defined(__SSE2__) && defined(__GNUC__)
// 16 bytes at a time, in the compiler's own terms: <emmintrin.h> is 4,000 lines.
using byte_vector = unsigned char __attribute__((vector_size(16)));

[[nodiscard]] inline byte_vector load_vector(const char* p) noexcept {
  byte_vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

[[nodiscard]] inline byte_vector lesser(byte_vector a, byte_vector b) noexcept {
  return a < b ? a : b;
}

/// The least of each column of Vectors times 16 bytes.
template <int Vectors>
[[nodiscard]] inline byte_vector least(const char* p) noexcept {
  if constexpr (Vectors == 1) {
    return load_vector(p);
  } else {
    return lesser(least<Vectors / 2>(p), least<Vectors / 2>(p + Vectors * 8));
  }
}

/// A bit for each byte of a comparison, the first byte's lowest.
template <class Comparison>
[[nodiscard]] inline unsigned bits_of(Comparison c) noexcept {
  using signed_chars = char __attribute__((vector_size(16)));
  return static_cast<unsigned>(__builtin_ia32_pmovmskb128(reinterpret_cast<signed_chars>(c)));
}

/// True if one of Vectors times 16 bytes is below 14.
template <int Vectors>
[[nodiscard]] inline bool has_low_byte(const char* p) noexcept {
  const byte_vector v = least<Vectors>(p);
  return bits_of(lesser(v, byte_vector{} + 13) == v) != 0;
}

/// Which of Vectors times 16 bytes are CR or LF.
template <int Vectors>
[[nodiscard]] inline unsigned line_end_bits(const char* p) noexcept {
  static_assert(Vectors == 1 || Vectors == 2);
  if constexpr (Vectors == 2) return line_end_bits<1>(p) | line_end_bits<1>(p + 16) << 16;
  const byte_vector v = load_vector(p);
  return bits_of((v == '\n') | (v == '\r'));
}

/// The same: 32 bytes, since many lines are short; then 64 at a time, and 256 in a long line.
[[nodiscard]] inline const char* find_line_end_by_vectors(const char* const p,
                                                          const char* const end) noexcept {
  const auto size = static_cast<std::size_t>(end - p);
  std::size_t i = 0;
  if (size >= 32) {
    if (const auto bits = line_end_bits<2>(p); bits != 0) return p + __builtin_ctz(bits);
    for (i = 32; i + 64 <= size; i += 64) {
      if (i % 256 == 160) {
        while (i + 256 + 64 <= size && !has_low_byte<16>(p + i)) i += 256;
      }
      if (!has_low_byte<4>(p + i)) continue;
      if (const auto bits = line_end_bits<2>(p + i); bits != 0) return p + i + __builtin_ctz(bits);
      if (const auto bits = line_end_bits<2>(p + i + 32); bits != 0) {
        return p + i + 32 + __builtin_ctz(bits);
      }
    }
  }
  if (size < 16) return find_line_end_by_bytes(p, end);
  for (; i + 16 <= size; i += 16) {
    if (const auto bits = line_end_bits<1>(p + i); bits != 0) return p + i + __builtin_ctz(bits);
  }
  // The last 16: those before i were looked at.
  const auto bits = line_end_bits<1>(end - 16);
  return bits == 0 ? end : end - 16 + __builtin_ctz(bits);
}
#endif

/// The first CR or LF in [p, end), or end. Linear; the encoder and the parser both split by it.
[[nodiscard]] constexpr const char* find_line_end(const char* p, const char* end) noexcept {
  if (std::is_constant_evaluated()) return find_line_end_by_bytes(p, end);
#if defined(__SSE2__) && defined(__GNUC__)
  return find_line_end_by_vectors(p, end);
#else
  return find_line_end_by_words(p, end);
#endif
}

/// The byte after the line end at `p`; CRLF is one line end. REQUIRES: p != end, *p is CR or LF.
[[nodiscard]] constexpr const char* skip_line_end(const char* p, const char* end) noexcept {
  SSEHUB_ASSERT(p != end && (*p == '\r' || *p == '\n'));
  const bool cr = *p == '\r';
  ++p;
  return cr && p != end && *p == '\n' ? p + 1 : p;
}

/// What a text becomes when it is written line by line.
struct line_count {
  std::size_t lines = 1;  ///< at least one, also of an empty text
  std::size_t bytes = 0;  ///< without the line ends
};

[[nodiscard]] constexpr line_count count_lines(std::string_view s) noexcept {
  line_count n;
  const char* p = s.data();
  const char* const end = p + s.size();
  for (;;) {
    const char* const stop = find_line_end(p, end);
    n.bytes += static_cast<std::size_t>(stop - p);
    if (stop == end) return n;
    ++n.lines;
    p = skip_line_end(stop, end);
  }
}

/// No CR, LF or NUL.
[[nodiscard]] constexpr bool is_field_text(std::string_view s) noexcept {
  const char* p = s.data();
  const char* const end = p + s.size();
  if (!std::is_constant_evaluated() && s.size() >= 8) {
    while (end - p >= 8 && !has_low_byte(load_word(p))) p += 8;
    if (end - p < 8 && !has_low_byte(load_word(end - 8))) return true;
  }
  for (; p != end; ++p) {
    if (*p == '\0' || *p == '\n' || *p == '\r') return false;
  }
  return true;
}

/// memcpy that takes an empty view; returns the byte after it.
inline char* put(char* out, std::string_view s) noexcept {
  if (!s.empty()) std::memcpy(out, s.data(), s.size());
  return out + s.size();
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_LINES_HPP
// ---- sse/event.hpp
//
// event: one event, as it is sent and as it is received. event_id: the number that orders a stream.
//
//   (void)channel.publish({.type = "fill", .data = json});
//
// All members are views: they must live until the call that takes the event returns; inside a
// parser's callback they are valid until the callback returns. Plain data, no thread safety of its
// own.
#ifndef SSEHUB_EVENT_HPP
#define SSEHUB_EVENT_HPP

#include <cstdint>
#include <string_view>

/// Server-Sent Events: channels, streams, servers, clients.
namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// A stream position. Strictly increasing within a sequence, never reused, below 2^53 so that
/// JavaScript can hold it.
using event_id = std::uint64_t;
inline constexpr event_id no_id = 0;  ///< no event has it
/// Of the options called first_id: not said.
inline constexpr event_id unsaid_id = UINT64_MAX;
inline constexpr event_id max_event_id = (event_id{1} << 53) - 1;  ///< the highest

namespace detail {
[[nodiscard]] constexpr event_id said_or(event_id first_id, event_id otherwise) noexcept {
  return first_id != unsaid_id ? first_id : otherwise;
}
}  // namespace detail

/// `event::retry` when the event carries no `retry:` field.
inline constexpr std::int64_t no_retry = -1;

/// One event (WHATWG HTML 9.2.5 and 9.2.6).
struct event {
  /// `event:`; empty: unnamed, a browser's `onmessage` gets it. REQUIRES: no CR, LF, NUL.
  std::string_view type{};
  /// `data:`; any text; CR, LF and CRLF inside it are line ends and arrive as LF.
  std::string_view data{};
  /// `id:`; empty: none. As received: the last event ID. REQUIRES: no CR, LF, NUL.
  std::string_view id{};
  std::int64_t retry = no_retry;  ///< `retry:` in milliseconds. REQUIRES: >= 0, or no_retry.
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_EVENT_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Why an event is refused.
enum class encode_error : std::uint8_t {
  none,
  bad_type,     ///< CR, LF or NUL in event::type
  bad_id,       ///< CR, LF or NUL in event::id
  bad_retry,    ///< retry below zero (and not no_retry)
  bad_comment,  ///< NUL in a comment
  too_large,    ///< over a limit of encode_limits
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(encode_error e) noexcept {
  switch (e) {
    case encode_error::none: return "none";
    case encode_error::bad_type: return "bad_type";
    case encode_error::bad_id: return "bad_id";
    case encode_error::bad_retry: return "bad_retry";
    case encode_error::bad_comment: return "bad_comment";
    case encode_error::too_large: return "too_large";
  }
  return "unknown";
}

/// The largest sizes that are accepted, in bytes.
struct encode_limits {
  std::size_t event = std::size_t{1} << 20;  ///< the encoded event or comment, whole
  std::size_t id = 64;                       ///< event::id
  std::size_t type = 128;                    ///< event::type
};

/// The verdict on one event and the size it will have: one pass over the data, for callers that
/// check and then write.
struct encode_plan {
  encode_error error = encode_error::none;  ///< why it cannot be sent
  std::size_t size = 0;                     ///< encoded bytes; 0 if refused
  std::size_t lines = 0;                    ///< `data:` lines
};

namespace detail {

/// `id: N`, `event: T` and `retry: N` with their line ends. The id stands beside the event, here
/// and below: a hub gives one to what it publishes, and copies no event for that.
[[nodiscard]] constexpr std::size_t fields_size(const event& e, std::string_view id) noexcept {
  std::size_t size = 0;
  if (!id.empty()) size += 5 + id.size();
  if (!e.type.empty()) size += 8 + e.type.size();
  if (e.retry >= 0) size += 8 + decimal_size(static_cast<std::uint64_t>(e.retry));
  return size;
}

/// Each line with a prefix and its line end.
[[nodiscard]] constexpr std::size_t lines_size(const line_count& n, std::size_t prefix) noexcept {
  return n.lines * (prefix + 1) + n.bytes;
}

/// plan() of an event with another id than its own.
[[nodiscard]] constexpr encode_plan plan_as(const event& e, std::string_view id,
                                            const encode_limits& limits) noexcept {
  if (e.type.size() > limits.type || id.size() > limits.id || e.data.size() > limits.event) {
    return {encode_error::too_large};
  }
  if (!is_field_text(e.type)) return {encode_error::bad_type};
  if (!is_field_text(id)) return {encode_error::bad_id};
  if (e.retry < no_retry) return {encode_error::bad_retry};
  const line_count data = count_lines(e.data);
  const std::size_t size = fields_size(e, id) + lines_size(data, 6) + 1;
  if (size > limits.event) return {encode_error::too_large};
  return {encode_error::none, size, data.lines};
}

}  // namespace detail

/// Exactly the bytes that encode_to writes. Linear in the data.
[[nodiscard]] constexpr std::size_t encoded_size(const event& e) noexcept {
  return detail::fields_size(e, e.id) + detail::lines_size(detail::count_lines(e.data), 6) + 1;
}

/// Checks and measures. Errors as validate(); if there is one, size is 0.
[[nodiscard]] constexpr encode_plan plan(const event& e,
                                         const encode_limits& limits = {}) noexcept {
  return detail::plan_as(e, e.id, limits);
}

/// none, or why encode would refuse: CR, LF or NUL in type or id, retry below -1, or a size over
/// its limit.
[[nodiscard]] constexpr encode_error validate(const event& e,
                                              const encode_limits& limits = {}) noexcept {
  return plan(e, limits).error;
}

namespace detail {

inline char* put_lines(char* out, std::string_view text, std::string_view prefix) noexcept {
  const char* p = text.data();
  const char* const end = p + text.size();
  for (;;) {
    const char* const stop = find_line_end(p, end);
    out = put(out, prefix);
    out = put(out, {p, static_cast<std::size_t>(stop - p)});
    *out++ = '\n';
    if (stop == end) return out;
    p = skip_line_end(stop, end);
  }
}

inline char* put_fields(char* out, const event& e, std::string_view id) noexcept {
  if (!id.empty()) {
    out = put(out, "id: ");
    out = put(out, id);
    *out++ = '\n';
  }
  if (!e.type.empty()) {
    out = put(out, "event: ");
    out = put(out, e.type);
    *out++ = '\n';
  }
  if (e.retry >= 0) {
    out = put(out, "retry: ");
    out = put_decimal(out, static_cast<std::uint64_t>(e.retry));
    *out++ = '\n';
  }
  return out;
}

/// encode_to() of an event with another id than its own. REQUIRES: `p` is plan_as() of the same.
inline char* encode_as(char* out, const event& e, std::string_view id,
                       const encode_plan& p) noexcept {
  SSEHUB_ASSERT(p.error == encode_error::none && p.size != 0);
  out = put_fields(out, e, id);
  if (p.lines != 1) {
    out = put_lines(out, e.data, "data: ");
    *out++ = '\n';
    return out;
  }
  out = put(out, "data: ");
  out = put(out, e.data);
  return put(out, "\n\n");
}

}  // namespace detail

/// Writes the event and returns the byte after it. REQUIRES: validate(e) passed; encoded_size(e)
/// bytes at `out`.
inline char* encode_to(char* out, const event& e) noexcept {
  SSEHUB_ASSERT(validate(e, {SIZE_MAX, SIZE_MAX, SIZE_MAX}) == encode_error::none);
  out = detail::put_fields(out, e, e.id);
  out = detail::put_lines(out, e.data, "data: ");
  *out++ = '\n';
  return out;
}

/// The same with one pass less over the data. REQUIRES: `p` is plan(e) without error; p.size bytes
/// at `out`.
inline char* encode_to(char* out, const event& e, const encode_plan& p) noexcept {
  return detail::encode_as(out, e, e.id, p);
}

/// Appends the event to `out`, or leaves `out` alone and says why. Errors as validate().
[[nodiscard]] inline encode_error encode(std::string& out, const event& e,
                                         const encode_limits& limits = {}) {
  const encode_plan p = plan(e, limits);
  if (p.error != encode_error::none) return p.error;
  const std::size_t before = out.size();
  out.resize(before + p.size);
  encode_to(out.data() + before, e, p);
  return encode_error::none;
}

/// Exactly the bytes that encode_comment_to writes.
[[nodiscard]] constexpr std::size_t encoded_comment_size(std::string_view text) noexcept {
  const detail::line_count n = detail::count_lines(text);
  return n.lines * 3 + n.bytes + 1;
}

/// none, or why encode_comment would refuse: NUL in the text, or larger than limits.event when
/// encoded.
[[nodiscard]] constexpr encode_error check_comment(std::string_view text,
                                                   const encode_limits& limits = {}) noexcept {
  if (text.size() > limits.event || encoded_comment_size(text) > limits.event)
    return encode_error::too_large;
  return text.find('\0') == text.npos ? encode_error::none : encode_error::bad_comment;
}

/// Writes one `: LINE` per line of the text and a blank line (`: keep-alive\n\n`); returns the byte
/// after it. Clients ignore comments. REQUIRES: check_comment(text) passed;
/// encoded_comment_size(text) bytes at `out`.
inline char* encode_comment_to(char* out, std::string_view text) noexcept {
  SSEHUB_ASSERT(text.find('\0') == text.npos);
  out = detail::put_lines(out, text, ": ");
  *out++ = '\n';
  return out;
}

/// Appends the comment to `out`, or leaves `out` alone and says why. Errors as check_comment().
[[nodiscard]] inline encode_error encode_comment(std::string& out, std::string_view text,
                                                 const encode_limits& limits = {}) {
  const encode_error e = check_comment(text, limits);
  if (e != encode_error::none) return e;
  const std::size_t before = out.size();
  out.resize(before + encoded_comment_size(text));
  encode_comment_to(out.data() + before, text);
  return encode_error::none;
}

namespace detail {

/// `N`, or `N-V` where V is below N (resume_point::values).
[[nodiscard]] constexpr std::size_t position_size(event_id id, event_id values) noexcept {
  return decimal_size(id) + (values < id ? 1 + decimal_size(values) : 0);
}
constexpr char* put_position(char* out, event_id id, event_id values) noexcept {
  out = put_decimal(out, id);
  if (values >= id) return out;
  *out++ = '-';
  return put_decimal(out, values);
}

}  // namespace detail

/// Exactly the bytes that encode_position_to writes.
[[nodiscard]] constexpr std::size_t encoded_position_size(event_id id,
                                                          event_id values = max_event_id) noexcept {
  return 6 + detail::position_size(id, values);
}

/// Writes `id: N\n\n`: the client's last event id is N from here on; no event is fired (WHATWG HTML
/// 9.2.6). `id: N-V\n\n` where `values` is below it: see resume_point. Returns the byte after it.
/// REQUIRES: encoded_position_size(id, values) bytes at `out`.
inline char* encode_position_to(char* out, event_id id, event_id values = max_event_id) noexcept {
  out = detail::put(out, "id: ");
  out = detail::put_position(out, id, values);
  return detail::put(out, "\n\n");
}

/// Appends a position block.
inline void encode_position(std::string& out, event_id id, event_id values = max_event_id) {
  const std::size_t before = out.size();
  out.resize(before + encoded_position_size(id, values));
  encode_position_to(out.data() + before, id, values);
}

/// Exactly the bytes that encode_retry_to writes. REQUIRES: ms >= 0.
[[nodiscard]] constexpr std::size_t encoded_retry_size(std::int64_t ms) noexcept {
  SSEHUB_ASSERT(ms >= 0);
  return 9 + detail::decimal_size(static_cast<std::uint64_t>(ms));
}

/// Writes `retry: N\n\n`: the client will wait `ms` milliseconds before it reconnects; no event is
/// fired. Returns the byte after it. REQUIRES: ms >= 0; encoded_retry_size(ms) bytes at `out`.
inline char* encode_retry_to(char* out, std::int64_t ms) noexcept {
  SSEHUB_ASSERT(ms >= 0);
  out = detail::put(out, "retry: ");
  out = detail::put_decimal(out, static_cast<std::uint64_t>(ms));
  return detail::put(out, "\n\n");
}

/// Appends a retry block. Errors: bad_retry if ms is negative; `out` is then left alone.
[[nodiscard]] inline encode_error encode_retry(std::string& out, std::int64_t ms) {
  if (ms < 0) return encode_error::bad_retry;
  const std::size_t before = out.size();
  out.resize(before + encoded_retry_size(ms));
  encode_retry_to(out.data() + before, ms);
  return encode_error::none;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_ENCODE_HPP
// ---- sse/function.hpp
//
// Callables for hooks. The core does not include <functional>, and hooks own things that cannot be
// copied; those that are options can be, so that the options can.
#ifndef SSEHUB_FUNCTION_HPP
#define SSEHUB_FUNCTION_HPP

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

template <class Signature>
class function;
template <class Signature>
class copyable_function;

/// Holds any callable of that signature; small ones without an allocation. Calling an empty one is
/// a defect of the caller: test with operator bool.
template <class R, class... Args>
class function<R(Args...)> {
 public:
  function() noexcept = default;

  /// Takes what can be called so.
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, function> &&
           std::is_invocable_r_v<R, F&, Args...>)
      function(F&& f) {  // NOLINT: implicit, for a lambda where a hook is asked for
    using stored = std::remove_cvref_t<F>;
    if constexpr (fits<stored>) {
      ::new (static_cast<void*>(&storage_)) stored(std::forward<F>(f));
      ops_ = &ops_inline<stored>;
    } else {
      ::new (static_cast<void*>(&storage_)) stored*(new stored(std::forward<F>(f)));
      ops_ = &ops_heap<stored>;
    }
  }
  function(function&& o) noexcept : ops_{std::exchange(o.ops_, nullptr)} {
    if (ops_ != nullptr) ops_->relocate(&storage_, &o.storage_);
  }
  function& operator=(function&& o) noexcept {
    if (this != &o) {
      reset();
      ops_ = std::exchange(o.ops_, nullptr);
      if (ops_ != nullptr) ops_->relocate(&storage_, &o.storage_);
    }
    return *this;
  }
  function(const function&) = delete;
  function& operator=(const function&) = delete;
  ~function() { reset(); }

  [[nodiscard]] explicit operator bool() const noexcept { return ops_ != nullptr; }
  R operator()(Args... args) const {
    return ops_->call(const_cast<void*>(static_cast<const void*>(&storage_)),
                      std::forward<Args>(args)...);
  }

 private:
  friend class copyable_function<R(Args...)>;
  static constexpr std::size_t room = 3 * sizeof(void*);
  template <class F>
  static constexpr bool fits =
      sizeof(F) <= room && alignof(F) <= alignof(void*) && std::is_nothrow_move_constructible_v<F>;

  struct operations {
    R (*call)(void*, Args&&...);
    void (*relocate)(void* to, void* from) noexcept;
    void (*destroy)(void*) noexcept;
    void (*copy)(void* to, const void* from);  // nullptr: it cannot be copied
  };
  template <class F>
  static constexpr auto copy_inline() noexcept -> void (*)(void*, const void*) {
    if constexpr (std::is_copy_constructible_v<F>) {
      return [](void* to, const void* from) { ::new (to) F(*static_cast<const F*>(from)); };
    } else {
      return nullptr;
    }
  }
  template <class F>
  static constexpr auto copy_heap() noexcept -> void (*)(void*, const void*) {
    if constexpr (std::is_copy_constructible_v<F>) {
      return [](void* to, const void* from) {
        ::new (to) F*(new F(**static_cast<const F* const*>(from)));
      };
    } else {
      return nullptr;
    }
  }
  template <class F>
  static constexpr operations ops_inline{
      [](void* p, Args&&... a) -> R { return (*static_cast<F*>(p))(std::forward<Args>(a)...); },
      [](void* to, void* from) noexcept {
        ::new (to) F(std::move(*static_cast<F*>(from)));
        static_cast<F*>(from)->~F();
      },
      [](void* p) noexcept { static_cast<F*>(p)->~F(); }, copy_inline<F>()};
  template <class F>
  static constexpr operations ops_heap{
      [](void* p, Args&&... a) -> R { return (**static_cast<F**>(p))(std::forward<Args>(a)...); },
      [](void* to, void* from) noexcept { ::new (to) F*(*static_cast<F**>(from)); },
      [](void* p) noexcept { delete *static_cast<F**>(p); }, copy_heap<F>()};

  void reset() noexcept {
    if (ops_ != nullptr) ops_->destroy(&storage_);
    ops_ = nullptr;
  }

  alignas(void*) unsigned char storage_[room]{};
  const operations* ops_ = nullptr;
};

/// The same for callables that can be copied; a copy has a callable of its own.
template <class R, class... Args>
class copyable_function<R(Args...)> : public function<R(Args...)> {
  using base = function<R(Args...)>;

 public:
  copyable_function() noexcept = default;

  /// Takes what can be called so, and copied.
  template <class F>
  requires(!std::is_base_of_v<base, std::remove_cvref_t<F>> &&
           std::is_copy_constructible_v<std::remove_cvref_t<F>> &&
           std::is_invocable_r_v<R, F&, Args...>)
      copyable_function(F&& f)  // NOLINT: implicit, see function
      : base{std::forward<F>(f)} {}
  copyable_function(const copyable_function& o) : base{} {
    if (o.ops_ == nullptr) return;
    o.ops_->copy(&this->storage_, &o.storage_);
    this->ops_ = o.ops_;
  }
  copyable_function& operator=(const copyable_function& o) { return *this = copyable_function{o}; }
  copyable_function(copyable_function&&) noexcept = default;
  copyable_function& operator=(copyable_function&&) noexcept = default;
  ~copyable_function() = default;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_FUNCTION_HPP
// ---- sse/fwd.hpp
//
// Forward declarations, for headers that only name these types.
#ifndef SSEHUB_FWD_HPP
#define SSEHUB_FWD_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

struct event;
struct request;
struct response;
struct session_id;
class backfill_writer;
class channel;

namespace detail {
class channel_state;
class engine;
struct blob;
struct channel_cell;
struct timer_places;
}  // namespace detail

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_FWD_HPP
// ---- sse/publish.hpp
//
// What is said about an event when it is published, and what became of it: the same for a channel,
// a hub, a server, a publisher of another thread, and a sequencer.
#ifndef SSEHUB_PUBLISH_HPP
#define SSEHUB_PUBLISH_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// What an event is to its key, for who gets the newest of each (lag_policy::coalesce,
/// start_at::snapshot, watch_options).
enum class key_role : std::uint8_t {
  value,  ///< its newest state: makes older ones superfluous
  /// The key is gone, and this is the event that says so: who has its value gets it, also late; who
  /// is new, or begins with a snapshot, gets neither.
  erase,
  /// No state, such as a trade: all come, in order, as events without a key do, to who gets the
  /// key; in front of each the newest value of the key, unless the stream has it.
  barrier,
};

/// Views are copied before the call that takes them returns.
struct publish_options {
  event_id id = no_id;  ///< for a channel whose ids are given by the publisher: id_mode::given
  /// Empty: everyone; else who may see it, live or replayed (hub: sees). At most 65,535 bytes.
  std::string_view audience = {};
  bool transient = false;  ///< never replayed, no id
  /// What it is about, such as a symbol; see `role`. At most 16,383 bytes.
  std::string_view key = {};
  key_role role = key_role::value;  ///< without a key it says nothing
  /// event::data is a whole event as sse::encode wrote it, with `id` as its id if it has one, and
  /// goes out as it is: for events that are encoded once for several hubs. Checked for size and
  /// blank line only; type and retry must not be set.
  bool encoded = false;
  bool last = false;  ///< the channel is sealed behind it, see hub::seal
  /// The given `id` may be the last one of its sequence once more: for what stands in several
  /// channels under one id. Who reads several of them gets it from each. Not through a mailbox.
  bool repeats_id = false;
};

namespace detail {
/// As records have it; what none of them says is a value.
[[nodiscard]] constexpr key_role key_role_of(unsigned stored) noexcept {
  const bool known = stored <= static_cast<unsigned>(key_role::barrier);
  return known ? static_cast<key_role>(stored) : key_role::value;
}
inline constexpr std::size_t max_audience_bytes = 0xffff;
inline constexpr std::size_t max_key_bytes = 0x3fff;  // a record has a key_role beside it
[[nodiscard]] constexpr bool names_fit(const publish_options& o) noexcept {
  return o.audience.size() <= max_audience_bytes && o.key.size() <= max_key_bytes;
}
}  // namespace detail

/// Why an event was not published.
enum class publish_error : std::uint8_t {
  none,
  bad_type,  ///< CR, LF or NUL in the type, or too long; publish_options::encoded: see there
  /// The event brought an id, or publish_options::id where ids are not given by the publisher.
  bad_id,
  bad_retry,
  /// encode_limits, an audience over 65,535 bytes, or a key over 16,383; a publisher: it never
  /// fits, since it is over half the lane, over mailbox_options::limits or the writer's max.
  too_large,
  /// Given id missing, not above the last one, past 2^53-1, or not given: hub_options::given_ids.
  id_order,
  no_memory,
  no_session,  ///< send: the session is gone, or its last byte was sent
  no_channel,  ///< a lane, a sequencer: it has no channel of this number
  /// No room now. send: hub_options::control_lane bytes are waiting already; a publisher: the hub's
  /// thread is behind by a whole lane; a sequencer: a shard is.
  full,
  in_hook,  ///< called inside a hook that may not call the hub (see hub)
  /// The channel is being closed. A publisher: its mailbox is closed or gone, or memory was out
  /// when it was made. A sequencer: no shards, or draining.
  closed,
  sealed,       ///< the channel has had its last event
  another_hub,  ///< hub.publish: the channel is not this hub's
  not_stored,   ///< a journal cannot write now, and was not told to go on without
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(publish_error e) noexcept {
  switch (e) {
    case publish_error::none: return "none";
    case publish_error::bad_type: return "bad_type";
    case publish_error::bad_id: return "bad_id";
    case publish_error::bad_retry: return "bad_retry";
    case publish_error::too_large: return "too_large";
    case publish_error::id_order: return "id_order";
    case publish_error::no_memory: return "no_memory";
    case publish_error::no_session: return "no_session";
    case publish_error::no_channel: return "no_channel";
    case publish_error::full: return "full";
    case publish_error::in_hook: return "in_hook";
    case publish_error::closed: return "closed";
    case publish_error::sealed: return "sealed";
    case publish_error::another_hub: return "another_hub";
    case publish_error::not_stored: return "not_stored";
  }
  return "unknown";
}

/// What became of an event: accepted, with its id, or why it was refused; then nothing was
/// published.
struct publish_result {
  /// no_id where it has none: a transient one, one for one session, one whose id the hub's thread
  /// gives later (a publisher's).
  event_id id = no_id;
  publish_error error = publish_error::none;  ///< why it was refused

  [[nodiscard]] constexpr explicit operator bool() const noexcept {
    return error == publish_error::none;
  }
  [[nodiscard]] friend constexpr bool operator==(const publish_result&,
                                                 const publish_result&) noexcept = default;
  [[nodiscard]] friend constexpr bool operator==(const publish_result& r,
                                                 publish_error e) noexcept {
    return r.error == e;
  }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_PUBLISH_HPP
// ---- sse/session.hpp
//
// session_id: the handle of one subscriber's connection. Stale handles are harmless: every hub call
// checks them.
#ifndef SSEHUB_SESSION_HPP
#define SSEHUB_SESSION_HPP

#include <cstdint>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Slot and generation. A slot is used again, a generation is not, so an id kept too long names
/// nobody.
struct session_id {
  std::uint32_t slot = 0;        ///< its place in the hub's table
  std::uint32_t generation = 0;  ///< 0: no session

  [[nodiscard]] constexpr explicit operator bool() const noexcept { return generation != 0; }
  friend constexpr bool operator==(session_id, session_id) noexcept = default;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_SESSION_HPP
// ---- sse/stats.hpp
//
// stats: what happened so far, as plain numbers. Copies; take them on the hub's thread, use them
// anywhere. sse/metrics.hpp makes a page for Prometheus of them.
#ifndef SSEHUB_STATS_HPP
#define SSEHUB_STATS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

// ---- sse/transport.hpp
//
// transport: all that a host must give the hub: one write that never blocks, and a close.
//
//   struct my_transport {
//     struct connection { int fd; };
//     sse::write_result write(connection& c, std::span<const sse::buffer> bytes) noexcept;
//     void close(connection& c, sse::close_reason why) noexcept;
//   };
//
// write  takes any prefix of `bytes`, never blocks, throws or calls the hub back. What was not
// taken
//        is not promised to come again: the next call may offer other bytes, fewer, or bytes that
//        lie elsewhere, also after {0, flow::blocked}. A layer that has to go on with the bytes it
//        was given (OpenSSL's SSL_write after SSL_ERROR_WANT_WRITE) keeps what it makes of them and
//        says that it took them; sse::tls::session (sse/openssl.hpp) does.
// close  is called exactly once for each session, also for one that the host itself reported as
//        closed(id); after it the hub destroys the connection object. It never calls the hub back.
//
// Optional members, detected:
//   void opened(connection&, session_id)   right after admission: the moment to remember the id
//   void begin_flush() / end_flush()       around a flush: one io_uring submit, one cork
//   flow end(connection&)                  before a clean end, all else is out: says goodbye (TLS
//                                          close_notify); blocked: again after writable(id)
//   bool keep(connection&)                 in place of close, once the last chunk of a stream in
//                                          chunks is out: takes the connection over for the next
//                                          request, or answers false, and close is called
//   void carries_values(connection&)       of a stream that gets the newest values: what waits in
//   the
//                                          kernel ages, and is to be little
//   static constexpr std::size_t max_buffers   buffers per write; default 16, 1 for a TLS stream
//   static constexpr bool completes = true     write may answer flow::pending; peek, consume
#ifndef SSEHUB_TRANSPORT_HPP
#define SSEHUB_TRANSPORT_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Bytes to be written, as they lie. Valid until write returns, or until written(id, n) after
/// flow::pending.
struct buffer {
  const char* data = nullptr;  ///< the first byte
  std::size_t size = 0;        ///< bytes

  /// The same bytes.
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data, size}; }
};

/// What the transport can do next.
enum class flow : std::uint8_t {
  ready,  ///< `bytes` were taken; ask again at once if more is there
  /// `bytes` were taken, the rest was not, or not all that was taken is out: nothing is written
  /// until the host calls hub.writable(id), nor is the session's clean end.
  blocked,
  pending,  ///< `bytes` were taken but are still being read; the host will call hub.written(id, n)
  closed,   ///< the peer is gone
};

/// How much of what write() was given is taken, and what comes next.
struct write_result {
  std::size_t bytes = 0;    ///< taken
  flow next = flow::ready;  ///< what comes next
};

/// Why a session ended.
enum class close_reason : std::uint8_t {
  peer,       ///< the other side is gone, or a write failed
  lag,        ///< too slow: a reconnect resumes where it stopped (channel_options::max_lag)
  hub_full,   ///< too slow while the hub was over its own memory cap (hub_options::max_backlog)
  stalled,    ///< no write progress within hub_options::write_deadline
  idle,       ///< no application event within hub_options::idle
  age,        ///< the connection reached hub_options::max_age
  evicted,    ///< made room for a newer connection (limits::when_full)
  revoked,    ///< hub.revoke(user)
  finished,   ///< hub.finish(id), or the end of a retry stream
  drain,      ///< hub.drain()
  channel,    ///< its channel was closed
  host,       ///< hub.close(id), or the hub was destroyed
  no_memory,  ///< an allocation failed while serving it
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(close_reason r) noexcept {
  switch (r) {
    case close_reason::peer: return "peer";
    case close_reason::lag: return "lag";
    case close_reason::hub_full: return "hub_full";
    case close_reason::stalled: return "stalled";
    case close_reason::idle: return "idle";
    case close_reason::age: return "age";
    case close_reason::evicted: return "evicted";
    case close_reason::revoked: return "revoked";
    case close_reason::finished: return "finished";
    case close_reason::drain: return "drain";
    case close_reason::channel: return "channel";
    case close_reason::host: return "host";
    case close_reason::no_memory: return "no_memory";
  }
  return "unknown";
}
/// For tables of them.
inline constexpr std::size_t close_reason_count =
    static_cast<std::size_t>(close_reason::no_memory) + 1;
static_assert(to_string(static_cast<close_reason>(close_reason_count - 1)) != "unknown" &&
              to_string(static_cast<close_reason>(close_reason_count)) == "unknown");

/// All that a host must give (see the top of this file).
template <class T>
concept transport = std::movable<typename T::connection> &&
    requires(T& t, typename T::connection& c, std::span<const buffer> bytes, close_reason why) {
  { t.write(c, bytes) }
  noexcept->std::same_as<write_result>;
  { t.close(c, why) }
  noexcept;
};

/// One connection of a host that has several kinds of them (plain and TLS, say).
class any_connection {
 public:
  virtual ~any_connection() = default;
  virtual void opened(session_id) noexcept {}  ///< the hub knows it by that id from now on
  /// As Transport::write.
  [[nodiscard]] virtual write_result write(std::span<const buffer> bytes) noexcept = 0;
  virtual void close(close_reason why) noexcept = 0;  ///< as Transport::close
};

/// A transport whose connections bring their own write and close. Costs a virtual call per write.
struct any_transport {
  static constexpr bool completes = true;  ///< a connection may answer flow::pending

  /// Owns one.
  class connection {
   public:
    /// Takes it, which was made by `new`.
    explicit connection(any_connection* owned) noexcept : owned_{owned} {}
    connection(connection&& o) noexcept : owned_{std::exchange(o.owned_, nullptr)} {}
    connection& operator=(connection&& o) noexcept {
      std::swap(owned_, o.owned_);
      return *this;
    }
    ~connection() { delete owned_; }
    any_connection* operator->() const noexcept { return owned_; }  ///< what it owns

   private:
    any_connection* owned_;
  };

  void opened(connection& c, session_id id) noexcept { c->opened(id); }  ///< passes it on
  /// Passes it on.
  [[nodiscard]] write_result write(connection& c, std::span<const buffer> bytes) noexcept {
    return c->write(bytes);
  }
  void close(connection& c, close_reason why) noexcept { c->close(why); }  ///< passes it on
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_TRANSPORT_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Why a request is refused.
enum class refusal_reason : std::uint8_t {
  none,
  verdict,        ///< the program's own, with its own answer
  http,           ///< as HTTP has it: the status says what
  draining,       ///< 503
  bad_params,     ///< a resume position in the query that cannot be read: 400
  too_many,       ///< a cap: its status
  channel_full,   ///< channel_options::max_subscribers: the status of the cap in all
  no_verdict,     ///< none came in time (server_options::verdict_deadline), or before a drain: 503
  behind,         ///< a shard that has not yet what its client got elsewhere: 503
  no_memory,      ///< 503
  too_many_keys,  ///< of one watch_options: 400
  // Mistakes of the program, 500.
  in_hook,             ///< accept() in a hook that may not call it
  bad_header,          ///< verdict::header
  no_channel,          ///< a verdict that joins none
  too_many_channels,   ///< hub_options::max_joins
  joined_twice,        ///< one channel
  another_hub,         ///< a channel of it
  closed,              ///< a channel that is closed
  another_sequence,    ///< channels whose ids are of two sequences
  no_keys,             ///< watch_options::keys of a channel that has none
  until_without_tick,  ///< verdict::until before the hub knew the time
};

/// As the library's own answers say it.
[[nodiscard]] constexpr std::string_view to_string(refusal_reason r) noexcept {
  switch (r) {
    case refusal_reason::none: return "none";
    case refusal_reason::verdict: return "verdict";
    case refusal_reason::http: return "http";
    case refusal_reason::draining: return "draining";
    case refusal_reason::bad_params: return "bad_params";
    case refusal_reason::too_many: return "too_many_streams";
    case refusal_reason::channel_full: return "channel_full";
    case refusal_reason::no_verdict: return "no_verdict";
    case refusal_reason::behind: return "behind";
    case refusal_reason::no_memory: return "no_memory";
    case refusal_reason::too_many_keys: return "too_many_keys";
    case refusal_reason::in_hook: return "in_hook";
    case refusal_reason::bad_header: return "bad_header";
    case refusal_reason::no_channel: return "no_channel";
    case refusal_reason::too_many_channels: return "too_many_channels";
    case refusal_reason::joined_twice: return "joined_twice";
    case refusal_reason::another_hub: return "channel_of_another_hub";
    case refusal_reason::closed: return "channel_closed";
    case refusal_reason::another_sequence: return "channels_of_two_sequences";
    case refusal_reason::no_keys: return "channel_without_keys";
    case refusal_reason::until_without_tick: return "until_without_tick";
  }
  return "unknown";
}
/// For tables of them.
inline constexpr std::size_t refusal_reason_count =
    static_cast<std::size_t>(refusal_reason::until_without_tick) + 1;

/// How long events waited from their publish until the transport had them whole, by hub time, for
/// each reader (channel_options::latency). Not what is replayed.
struct latency_counts {
  /// Of the buckets, in ms: an event is in the first whose bound it does not exceed; the last has
  /// none.
  static constexpr std::uint32_t bounds[] = {0,   1,   2,   5,     10,    20,    50,
                                             100, 200, 500, 1'000, 2'000, 5'000, 10'000};
  /// One more than there are bounds.
  static constexpr std::size_t buckets = sizeof bounds / sizeof bounds[0] + 1;
  std::uint64_t in[buckets] = {};  ///< events
  std::uint64_t total_ms = 0;      ///< of all of them

  /// One more. `ms`: below 0 is 0.
  constexpr void add(std::int64_t ms) noexcept {
    const std::uint64_t waited = ms < 0 ? 0 : static_cast<std::uint64_t>(ms);
    std::size_t i = 0;
    while (i + 1 != buckets && waited > bounds[i]) ++i;
    ++in[i];
    total_ms += waited;
  }
  /// Both together.
  constexpr void add(const latency_counts& o) noexcept {
    for (std::size_t i = 0; i < buckets; ++i) in[i] += o.in[i];
    total_ms += o.total_ms;
  }
  /// All buckets together.
  [[nodiscard]] constexpr std::uint64_t events() const noexcept {
    std::uint64_t n = 0;
    for (const std::uint64_t x : in) n += x;
    return n;
  }
};

/// What a channel counted since it was opened, and what it holds now.
struct channel_stats {
  /// Valid while the channel is open (of a sequencer's: while that lives); empty: a sum over closed
  /// ones.
  std::string_view name{};
  std::string_view group{};       ///< channel_options::metrics_name; valid as name
  std::uint64_t subscribers = 0;  ///< now
  std::uint64_t published = 0;    ///< events accepted, transient ones too, heartbeats not
  /// Events handed whole to transports, heartbeats in the log too.
  std::uint64_t delivered = 0;
  /// Events that slow subscribers were skipped over, each announced by a gap.
  std::uint64_t dropped = 0;
  /// Events that slow subscribers left for the newest of each key.
  std::uint64_t coalesced = 0;
  std::uint64_t gaps = 0;             ///< gap frames
  std::uint64_t replays = 0;          ///< joins that resumed from a Last-Event-ID
  std::uint64_t retained_events = 0;  ///< now
  std::uint64_t retained_bytes = 0;   ///< now
  std::uint64_t backlog_bytes = 0;    ///< now, held only for readers that are behind
  std::uint64_t last_id = 0;          ///< given out last
  latency_counts latency{};           ///< all 0: channel_options::latency is off

  /// The counters of both together; `last_id` is the higher one.
  constexpr void add(const channel_stats& o) noexcept {
    subscribers += o.subscribers;
    published += o.published;
    delivered += o.delivered;
    dropped += o.dropped;
    coalesced += o.coalesced;
    gaps += o.gaps;
    replays += o.replays;
    retained_events += o.retained_events;
    retained_bytes += o.retained_bytes;
    backlog_bytes += o.backlog_bytes;
    if (o.last_id > last_id) last_id = o.last_id;
    latency.add(o.latency);
  }
};

/// What became of a channel's events for one stream (hub.session_stats). Of what was published
/// since it came, once nothing waits for it, each is in one of the first three; on a channel with
/// audiences `conflated` and `lost` may have some that others would have got.
struct session_counts {
  std::uint64_t delivered = 0;  ///< handed whole to the transport, replayed ones too; no heartbeats
  std::uint64_t conflated = 0;  ///< left out, since newer ones of their keys came
  std::uint64_t lost = 0;       ///< skipped, and announced by a gap frame
  std::uint64_t snapshot = 0;   ///< values handed to it that were there before it came

  /// Both together.
  constexpr void add(const session_counts& o) noexcept {
    delivered += o.delivered;
    conflated += o.conflated;
    lost += o.lost;
    snapshot += o.snapshot;
  }
};

/// What a hub counted since it was made, and what it holds now.
struct hub_stats {
  std::uint64_t sessions = 0;  ///< now
  std::uint64_t accepted = 0;  ///< streams that were opened
  std::uint64_t refused = 0;   ///< by shape, caps, the admit hook, or while draining
  std::uint64_t refused_by[refusal_reason_count] = {};  ///< the same, by refusal_reason
  std::uint64_t writes = 0;                             ///< calls of Transport::write
  std::uint64_t bytes = 0;                              ///< bytes taken by transports
  std::uint64_t heartbeats = 0;                         ///< sent
  std::uint64_t log_bytes = 0;                          ///< now, memory of all logs
  std::uint64_t closed[close_reason_count] = {};        ///< by close_reason
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_STATS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Where a channel's ids come from.
enum class id_mode : std::uint8_t {
  automatic,  ///< the next of the sequence
  none,       ///< no ids: nothing can be resumed
  given,      ///< publish_options::id; strictly rising within the sequence
};

/// What happens to a subscriber that is further behind than it may be.
enum class lag_policy : std::uint8_t {
  disconnect,  ///< close; its reconnect resumes from the log
  oldest,      ///< once what it needs left the log: a gap frame, then the oldest retained event
  tail,        ///< a gap frame, then live
  /// From the first write that does not take all: the newest event of each key, pass by pass, in
  /// the order in which the keys came up first, without `id:`, each no older than the write that
  /// brings it; then live. Events without a key all come, in order, while they are retained; a gap
  /// frame only for those that are not, and for keys that max_keys made the channel forget.
  coalesce,
};

/// Where a subscriber without a Last-Event-ID begins.
enum class start_at : std::uint8_t {
  live,  ///< with the next event
  all,   ///< with everything retained
  /// With the newest event of each key. Who comes back with an id that left the history gets those
  /// that changed since, and the events without a key that are retained. What has ids comes beside
  /// it, in their order.
  snapshot,
};

/// A sign of life, so that proxies keep the connection and dead peers are found. Carries no id, is
/// never replayed.
struct heartbeat_options {
  /// When they are sent.
  enum class pace : std::uint8_t {
    off,
    idle,   ///< when nothing was sent to this subscriber for `every`
    fixed,  ///< every `every`, to all subscribers at once
  };
  pace mode = pace::idle;                  ///< when heartbeats are sent
  duration every = duration::seconds(15);  ///< off(): there are none
  bool comment = true;                     ///< a comment line (WHATWG HTML 9.2.7); false: an event
  std::string_view text = "keep-alive";    ///< the comment, or the event's data. Copied.
  std::string_view type = {};              ///< the event's type; empty: unnamed. Copied.
  /// Writes the event's data each time, instead of `text`.
  copyable_function<void(std::string& data)> payload = {};
};

/// What a backfill hook says.
enum class backfill_state : std::uint8_t {
  more,  ///< some events were added; ask again when they are sent
  done,  ///< all events below `before` were added: there the log goes on, or the next request
  wait,  ///< not yet: the host will call hub.writable(session)
  lost,  ///< they are gone: send a gap frame, then the oldest retained event
};

/// What a backfill hook is asked for: the events with after < id < before, oldest first, as many as
/// fit. `before` is where the channel's log goes on, or less: where another channel's hook stopped.
struct backfill_request {
  session_id session{};     ///< who comes back
  event_id after = no_id;   ///< the last id that it has
  event_id before = no_id;  ///< what is below it is asked for
  std::size_t room = 0;     ///< encoded bytes that should not be exceeded by much
};

/// What a backfill hook adds events to (channel_options::backfill).
class backfill_writer {
 public:
  /// Adds one event. False: refused (not above the last id, not below `before`, bad field, or no
  /// memory); the session is then closed, since nothing may be lost in silence.
  bool add(event_id id, const event& e) noexcept;
  /// The same with an event as sse::encode wrote it, id and all, which goes out as it is. One with
  /// an `audience` that the session does not belong to (hub: sees) is passed.
  bool add_encoded(event_id id, std::string_view bytes, std::string_view audience = {}) noexcept;
  /// There is nothing more up to `id`, which is below `before`: looking for it was work. False:
  /// refused, as add.
  bool pass(event_id id) noexcept;
  /// What is behind last() and below `first`, which is at most `before`, is gone: a gap frame says
  /// so in its place. False: refused, as add.
  bool lose(event_id first) noexcept;
  /// Nothing of other channels comes between the events: add_encoded may be given several at once
  /// that lie together, with the id of the last.
  [[nodiscard]] bool takes_runs() const noexcept { return together_; }
  /// The id up to which it is filled.
  [[nodiscard]] event_id last() const noexcept { return last_; }
  /// Encoded, of what was added.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  friend class detail::engine;
  [[nodiscard]] bool stage(event_id id, detail::blob* bytes) noexcept;
  [[nodiscard]] char* room_for(event_id id, std::size_t size) noexcept;
  void shrink() noexcept;
  backfill_writer(detail::engine& e, const backfill_request& r, const encode_limits& limits,
                  bool together) noexcept
      : engine_{&e}, limits_{&limits}, request_{r}, last_{r.after}, together_{together} {}

  detail::engine* engine_;
  const encode_limits* limits_;  // of the channel
  backfill_request request_;
  event_id last_;
  std::size_t bytes_ = 0;
  bool failed_ = false;
  bool together_;                 ///< nothing comes between its events
  detail::blob* open_ = nullptr;  ///< then: where the next ones go, while there is room
  std::size_t open_room_ = 0;     ///< of it, for all its bytes
};

/// One set serves any number of channels: open_channel copies it, with its hooks.
struct channel_options {
  std::uint64_t keep = 1000;              ///< newest events kept for resuming; exact
  std::uint64_t keep_bytes = UINT64_MAX;  ///< encoded bytes kept for resuming
  duration keep_age = duration::off();    ///< age kept for resuming; off: any
  /// Bytes a subscriber may be behind live, beyond its own replay; 0: off.
  std::uint64_t max_lag = 1 << 20;
  std::uint64_t soft_lag = 0;  ///< as max_lag, but only after soft_lag_for; either off: never
  duration soft_lag_for = duration::off();  ///< see soft_lag
  std::uint32_t max_subscribers = 0;        ///< 0: no cap of its own
  /// Counts how long its events wait for each reader (channel_stats::latency): 128 bytes, and a
  /// look at each event that leaves.
  bool latency = false;
  lag_policy on_lag = lag_policy::disconnect;  ///< what becomes of a reader that is too slow
  id_mode ids = id_mode::automatic;            ///< who gives the ids
  /// Ids of its own, consecutive; then a session can join no channel beside it.
  bool own_sequence = false;
  /// With own_sequence: where it stands when it opens, as hub_options::first_id. Unsaid: where the
  /// hub's began, or 0 where ids are given.
  event_id first_id = unsaid_id;
  start_at start = start_at::live;  ///< what a reader without an id gets
  /// Its share of the newest values that a stream takes, to those of the stream's other channels: 1
  /// to 1,000. Events that are not conflated come first anyway.
  std::uint16_t weight = 1;
  /// Newest events kept by key (publish_options::key), for lag_policy::coalesce and
  /// start_at::snapshot, which use 10,000 if this is 0. Then the key that was silent longest is
  /// forgotten, and what a reader misses by that is announced as lost.
  std::uint32_t max_keys = 0;
  std::uint32_t max_selected = 10'000;  ///< keys of one stream that chooses some (watch_options)
  /// What no watching stream may exceed, whatever its watch_options say; 0: nothing.
  std::uint32_t max_bytes = 0;
  double max_rate = 0;  ///< events a second; see max_bytes
  /// A newest value that is older when it could be written is not: it is lost, and a gap frame says
  /// so, unless to one who is new, as old as it was when that came. off(): any age.
  duration max_value_age = duration::off();
  heartbeat_options heartbeat = {};  ///< so that proxies and clients see that it lives
  /// What it is called by metrics_page, together with others that have the same: for a channel per
  /// user or per request, whose names nobody wants there. Empty: its own name. Copied.
  std::string_view metrics_name = {};
  /// How long it stays for those who come late once it is sealed; then it is closed. off(): not at
  /// all.
  duration keep_sealed = duration::infinite();
  encode_limits limits = {};  ///< of an event; larger ones are refused
  /// Gives events that retention let go (WHATWG HTML 9.2.4 resume). Events of the session's other
  /// channels wait for it, since ids rise along a stream.
  copyable_function<backfill_state(const backfill_request&, backfill_writer&)> backfill = {};
};

/// Why hub.open_channel() did not.
enum class open_error : std::uint8_t {
  none,
  taken,     ///< there is one of this name
  too_many,  ///< 2^27 channels
  no_memory,
  in_hook,  ///< called inside a hook that may not call the hub (see hub)
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(open_error e) noexcept {
  switch (e) {
    case open_error::none: return "none";
    case open_error::taken: return "taken";
    case open_error::too_many: return "too_many";
    case open_error::no_memory: return "no_memory";
    case open_error::in_hook: return "in_hook";
  }
  return "unknown";
}

/// A channel of a hub, as a value: a handle that tells whether the channel is still open. Copies
/// are cheap, and name the same channel. One that is closed, or none, is refused everywhere, also
/// once another channel has its place in memory. Only its hub's end ends that: then a handle may be
/// copied, compared and destroyed, and nothing else.
class channel {
 public:
  /// None.
  constexpr channel() noexcept = default;

  /// It is open. False too while it is being closed: it can be read until that call returns.
  [[nodiscard]] explicit operator bool() const noexcept;
  /// The same channel, or both none.
  friend constexpr bool operator==(channel, channel) noexcept = default;
  /// Its hub's channels have different ones, also those that were closed; 0: none.
  [[nodiscard]] constexpr std::uint64_t number() const noexcept { return number_; }

  /// Valid while it is open; empty: it is closed.
  [[nodiscard]] std::string_view name() const noexcept;
  /// As open_channel made them; nullptr: it is closed. Valid while it is open.
  [[nodiscard]] const channel_options* options() const noexcept;

  /// Appends an event to the log: encoded once, O(1) in subscribers, touches none of them. It
  /// leaves with the next hub.flush(), which hub.on_wanted asks for; a server sees to that itself.
  [[nodiscard]] publish_result publish(const event& e,
                                       const publish_options& o = {}) const noexcept;

  /// No event can come any more: its last one was published, see hub::seal, or it is closed.
  [[nodiscard]] bool sealed() const noexcept;
  /// 0 too: it is closed.
  [[nodiscard]] std::size_t subscribers() const noexcept;
  /// The id given out last in this channel's sequence; no_id too: it is closed.
  [[nodiscard]] event_id last_id() const noexcept;
  [[nodiscard]] channel_stats stats() const noexcept;  ///< all 0: it is closed

 private:
  friend class detail::engine;

  constexpr channel(const detail::channel_cell* cell, std::uint64_t number) noexcept
      : cell_{cell}, number_{number} {}
  /// nullptr: it is closed, or none.
  [[nodiscard]] detail::channel_state* state() const noexcept;

  const detail::channel_cell* cell_ = nullptr;
  std::uint64_t number_ = 0;
};

/// A channel that was opened, or why it was not.
struct open_result {
  channel here{};                       ///< none: see error
  open_error error = open_error::none;  ///< why there is none

  operator channel() const noexcept { return here; }  // NOLINT: implicit on purpose
  [[nodiscard]] explicit operator bool() const noexcept { return error == open_error::none; }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_CHANNEL_HPP
// ---- sse/detail/base/containers.hpp
//
// containers: vec, ring, chunked_array, slot_pool. Growing may fail and says so: nothing here
// throws, so one failed allocation costs one call.
#ifndef SSEHUB_DETAIL_BASE_CONTAINERS_HPP
#define SSEHUB_DETAIL_BASE_CONTAINERS_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

// ---- sse/detail/base/size.hpp
//
// size: counters have 64 bits everywhere, sizes in memory as many as a pointer. Not public.
#ifndef SSEHUB_DETAIL_BASE_SIZE_HPP
#define SSEHUB_DETAIL_BASE_SIZE_HPP

#include <cstddef>
#include <cstdint>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// REQUIRES: so many bytes can be in memory.
[[nodiscard]] constexpr std::size_t to_size(std::uint64_t n) noexcept {
  SSEHUB_ASSERT(n <= SIZE_MAX);
  return n & SIZE_MAX;  // a cast would be one too many with 64 bits
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_SIZE_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

inline constexpr std::uint32_t none = 0xffffffffU;

[[nodiscard]] inline void* allocate(std::size_t bytes) noexcept {
  return ::operator new(bytes, std::nothrow);
}
inline void deallocate(void* p) noexcept { ::operator delete(p); }

/// A growable array of plain data. It keeps little in reserve: some have a place for every session.
template <class T>
class vec {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  vec() noexcept = default;
  vec(vec&& o) noexcept
      : data_{std::exchange(o.data_, nullptr)},
        size_{std::exchange(o.size_, 0)},
        capacity_{std::exchange(o.capacity_, 0)} {}
  vec& operator=(vec&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    std::swap(capacity_, o.capacity_);
    return *this;
  }
  vec(const vec&) = delete;
  vec& operator=(const vec&) = delete;
  ~vec() { deallocate(data_); }

  [[nodiscard]] bool reserve(std::uint32_t n) noexcept {
    if (n <= capacity_) return true;
    std::uint32_t grown = capacity_ + (capacity_ < 64 ? 8 : capacity_ / 8);
    if (grown < n) grown = n;
    auto* p = static_cast<T*>(allocate(std::size_t{grown} * sizeof(T)));
    if (p == nullptr) return false;
    if (size_ != 0) std::memcpy(static_cast<void*>(p), data_, std::size_t{size_} * sizeof(T));
    deallocate(data_);
    data_ = p;
    capacity_ = grown;
    return true;
  }
  [[nodiscard]] bool push_back(const T& v) noexcept {
    if (!reserve(size_ + 1)) return false;
    ::new (static_cast<void*>(data_ + size_)) T(v);
    ++size_;
    return true;
  }
  /// REQUIRES: reserve() made room.
  void push_reserved(const T& v) noexcept {
    SSEHUB_ASSERT(size_ < capacity_);
    ::new (static_cast<void*>(data_ + size_++)) T(v);
  }
  /// REQUIRES: reserve() made room for `n` more.
  void append_reserved(const T* from, std::size_t n) noexcept {
    SSEHUB_ASSERT(n <= capacity_ - size_);
    if (n != 0) std::memcpy(static_cast<void*>(data_ + size_), from, n * sizeof(T));
    size_ += static_cast<std::uint32_t>(n);
  }
  /// In front of element `at`. REQUIRES: reserve() made room; at <= size().
  void insert_reserved(std::uint32_t at, const T& v) noexcept {
    SSEHUB_ASSERT(size_ < capacity_ && at <= size_);
    T* const here = data_ + at;
    std::memmove(static_cast<void*>(here + 1), here, std::size_t{size_ - at} * sizeof(T));
    ::new (static_cast<void*>(here)) T(v);
    ++size_;
  }
  /// Elements were made at end() on, up to `end`. REQUIRES: reserve() made room for them.
  void extend_to(const T* end) noexcept {
    SSEHUB_ASSERT(end >= data_ + size_ && end <= data_ + capacity_);
    size_ = static_cast<std::uint32_t>(end - data_);
  }
  void pop_back() noexcept {
    SSEHUB_ASSERT(size_ != 0);
    --size_;
  }
  void clear() noexcept { size_ = 0; }
  /// Gives the memory back too.
  void release() noexcept {
    deallocate(data_);
    data_ = nullptr;
    size_ = capacity_ = 0;
  }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] T& operator[](std::uint32_t i) noexcept {
    SSEHUB_ASSERT(i < size_);
    return data_[i];
  }
  [[nodiscard]] const T& operator[](std::uint32_t i) const noexcept {
    SSEHUB_ASSERT(i < size_);
    return data_[i];
  }
  [[nodiscard]] T& back() noexcept {
    SSEHUB_ASSERT(size_ != 0);
    return data_[size_ - 1];
  }
  [[nodiscard]] T* begin() noexcept { return data_; }
  [[nodiscard]] T* end() noexcept { return data_ + size_; }
  [[nodiscard]] const T* begin() const noexcept { return data_; }
  [[nodiscard]] const T* end() const noexcept { return data_ + size_; }
  void swap(vec& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    std::swap(capacity_, o.capacity_);
  }

 private:
  T* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;
};

/// A queue of plain data, addressed by ordinals that never repeat: [first(), end()).
template <class T>
class ring {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  ring() noexcept = default;
  ring(const ring&) = delete;
  ring& operator=(const ring&) = delete;
  ~ring() { deallocate(data_); }

  /// Empty, with no memory; ordinals begin at 0 again.
  void release() noexcept {
    deallocate(data_);
    data_ = nullptr;
    capacity_ = first_ = end_ = 0;
  }

  /// Makes room for one more, so that the next push_back cannot fail.
  [[nodiscard]] bool reserve_one() noexcept {
    if (end_ - first_ < capacity_) return true;
    const std::uint64_t grown = capacity_ == 0 ? 2 : capacity_ * 2;
    auto* p = static_cast<T*>(allocate(to_size(grown) * sizeof(T)));
    if (p == nullptr) return false;
    if (capacity_ != 0) {  // full: up to where the old one wrapped around, and what comes behind
      const std::uint64_t wrapped = first_ & (capacity_ - 1);
      const std::uint64_t turn = first_ - wrapped + capacity_;
      std::memcpy(static_cast<void*>(p + (first_ & (grown - 1))), data_ + wrapped,
                  to_size(capacity_ - wrapped) * sizeof(T));
      std::memcpy(static_cast<void*>(p + (turn & (grown - 1))), data_,
                  to_size(wrapped) * sizeof(T));
    }
    deallocate(data_);
    data_ = p;
    capacity_ = grown;
    return true;
  }
  void push_reserved(const T& v) noexcept {
    SSEHUB_ASSERT(end_ - first_ < capacity_);
    ::new (static_cast<void*>(data_ + (end_ & (capacity_ - 1)))) T(v);
    ++end_;
  }
  void pop_front() noexcept {
    SSEHUB_ASSERT(first_ != end_);
    ++first_;
  }
  [[nodiscard]] std::uint64_t first() const noexcept { return first_; }
  [[nodiscard]] std::uint64_t end() const noexcept { return end_; }
  [[nodiscard]] bool empty() const noexcept { return first_ == end_; }
  [[nodiscard]] T& operator[](std::uint64_t ordinal) noexcept {
    SSEHUB_ASSERT(ordinal - first_ < end_ - first_);
    return data_[ordinal & (capacity_ - 1)];
  }
  [[nodiscard]] const T& operator[](std::uint64_t ordinal) const noexcept {
    SSEHUB_ASSERT(ordinal - first_ < end_ - first_);
    return data_[ordinal & (capacity_ - 1)];
  }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
  /// What is in it, for one who walks through. It stands until the ring changes.
  struct window {
    const T* data = nullptr;
    std::uint64_t mask = 0;
    std::uint64_t end = 0;
    [[nodiscard]] const T& operator[](std::uint64_t ordinal) const noexcept {
      SSEHUB_ASSERT(ordinal < end);
      return data[ordinal & mask];
    }
  };
  [[nodiscard]] window view() const noexcept { return {data_, capacity_ - 1, end_}; }

 private:
  T* data_ = nullptr;
  std::uint64_t capacity_ = 0;
  std::uint64_t first_ = 0;
  std::uint64_t end_ = 0;
};

/// Values at addresses that never change, by number; made in chunks, so that growing copies
/// nothing.
template <class T, std::uint32_t Chunk = 128>
class chunked_array {
 public:
  static constexpr std::uint32_t chunk_size = Chunk;

  chunked_array() noexcept = default;
  chunked_array(const chunked_array&) = delete;
  chunked_array& operator=(const chunked_array&) = delete;
  ~chunked_array() {
    for (T* chunk : chunks_) {
      for (std::uint32_t i = 0; i < chunk_size; ++i) chunk[i].~T();
      deallocate(chunk);
    }
  }

  [[nodiscard]] bool add_chunk() noexcept {
    if (!chunks_.reserve(chunks_.size() + 1)) return false;
    auto* chunk = static_cast<T*>(allocate(sizeof(T) * chunk_size));
    if (chunk == nullptr) return false;
    for (std::uint32_t i = 0; i < chunk_size; ++i) ::new (static_cast<void*>(chunk + i)) T();
    chunks_.push_reserved(chunk);
    return true;
  }
  /// Makes `n` values exist.
  [[nodiscard]] bool reserve(std::uint32_t n) noexcept {
    while (extent() < n) {
      if (!add_chunk()) return false;
    }
    return true;
  }
  /// Values that exist.
  [[nodiscard]] std::uint32_t extent() const noexcept { return chunks_.size() * chunk_size; }
  [[nodiscard]] T& operator[](std::uint32_t i) noexcept {
    return chunks_[i / chunk_size][i % chunk_size];
  }
  [[nodiscard]] const T& operator[](std::uint32_t i) const noexcept {
    return chunks_[i / chunk_size][i % chunk_size];
  }

 private:
  vec<T*> chunks_;
};

/// Numbered slots, used again. T has `free_link()`, a number that it does not need while its slot
/// is free.
template <class T, std::uint32_t Chunk = 128>
class slot_pool {
 public:
  /// Makes room for one more, so that the next take() cannot fail.
  [[nodiscard]] bool reserve_one() noexcept { return free_ != none || add_chunk(); }
  [[nodiscard]] std::uint32_t take() noexcept {
    if (!reserve_one()) return none;
    const std::uint32_t i = free_;
    free_ = values_[i].free_link();
    ++in_use_;
    return i;
  }
  void give_back(std::uint32_t i) noexcept {
    SSEHUB_ASSERT(i < extent() && in_use_ != 0);
    values_[i].free_link() = free_;
    free_ = i;
    --in_use_;
  }
  /// Slots that exist, in use or free.
  [[nodiscard]] std::uint32_t extent() const noexcept { return values_.extent(); }
  [[nodiscard]] std::uint32_t in_use() const noexcept { return in_use_; }
  [[nodiscard]] T& operator[](std::uint32_t i) noexcept { return values_[i]; }
  [[nodiscard]] const T& operator[](std::uint32_t i) const noexcept { return values_[i]; }

 private:
  [[nodiscard]] bool add_chunk() noexcept {
    const std::uint32_t base = extent();
    if (!values_.add_chunk()) return false;
    for (std::uint32_t i = base + Chunk; i-- > base;) {
      values_[i].free_link() = free_;
      free_ = i;
    }
    return true;
  }

  chunked_array<T, Chunk> values_;
  std::uint32_t free_ = none;
  std::uint32_t in_use_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_CONTAINERS_HPP
// ---- sse/detail/http/characters.hpp
//
// The character rules of HTTP and URLs that request.hpp, cors.hpp and http1.hpp share. Each rule
// stands here once.
#ifndef SSEHUB_DETAIL_HTTP_CHARACTERS_HPP
#define SSEHUB_DETAIL_HTTP_CHARACTERS_HPP

#include <cstddef>
#include <string_view>

// ---- sse/detail/base/utf8.hpp
//
// UTF-8: find and replace what is not well-formed, as the WHATWG Encoding Standard decodes (4.1
// and 8.1.1). Not public.
#ifndef SSEHUB_DETAIL_BASE_UTF8_HPP
#define SSEHUB_DETAIL_BASE_UTF8_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

// ---- sse/detail/base/byte_buffer.hpp
//
// bytes: a growing byte buffer that says when memory is out instead of throwing. Not public.
#ifndef SSEHUB_DETAIL_BASE_BYTE_BUFFER_HPP
#define SSEHUB_DETAIL_BASE_BYTE_BUFFER_HPP

#include <cstddef>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class bytes {
 public:
  bytes() noexcept = default;
  bytes(bytes&& other) noexcept { swap(other); }
  bytes& operator=(bytes&& other) noexcept {
    bytes moved{std::move(other)};
    swap(moved);
    return *this;
  }
  ~bytes() { ::operator delete(data_); }

  [[nodiscard]] std::string_view view() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  /// What it has room for without an allocation; bytes behind size() may be written to, and stay
  /// until the next call that is not const.
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] char* data() noexcept { return data_; }
  [[nodiscard]] const char* data() const noexcept { return data_; }

  /// Room for exactly `n` bytes in all, if there is less. False if memory is out; nothing changed
  /// then.
  [[nodiscard]] bool reserve(std::size_t n) noexcept {
    if (n <= capacity_) return true;
    auto* const data = static_cast<char*>(::operator new(n, std::nothrow));
    if (data == nullptr) return false;
    if (size_ != 0) std::memcpy(data, data_, size_);
    ::operator delete(data_);
    data_ = data;
    capacity_ = n;
    return true;
  }
  /// False if memory is out; nothing changed then. Amortised constant time per byte.
  [[nodiscard]] bool append(std::string_view more) noexcept {
    if (more.size() > capacity_ - size_ && !grow(more.size())) return false;
    if (!more.empty()) std::memcpy(data_ + size_, more.data(), more.size());
    size_ += more.size();
    return true;
  }
  [[nodiscard]] bool assign(std::string_view text) noexcept {
    size_ = 0;
    return append(text);
  }

  /// Drops the end. REQUIRES: size <= size().
  void truncate(std::size_t size) noexcept {
    SSEHUB_ASSERT(size <= size_);
    size_ = size;
  }
  /// Keeps a small block for the next use and gives a large one back.
  void clear() noexcept {
    size_ = 0;
    if (capacity_ > 64 * 1024) release();
  }
  void release() noexcept {
    ::operator delete(data_);
    data_ = nullptr;
    size_ = capacity_ = 0;
  }
  void swap(bytes& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

 private:
  [[nodiscard]] bool grow(std::size_t more) noexcept {
    if (more > static_cast<std::size_t>(-1) / 2 - size_) return false;
    std::size_t capacity = capacity_ < 64 ? 64 : capacity_ * 2;
    if (capacity < size_ + more) capacity = size_ + more;
    return reserve(capacity);
  }

  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_BYTE_BUFFER_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

struct utf8_step {
  std::size_t size =
      0;  ///< bytes of this code point, or of the ill-formed part that becomes one U+FFFD
  bool valid = true;
};

/// Looks at the code point at the start of `text`. REQUIRES: not empty.
[[nodiscard]] constexpr utf8_step next_utf8(std::string_view text) noexcept {
  SSEHUB_ASSERT(!text.empty());
  const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const std::size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  std::uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  std::uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < size; ++i) {
    if (i == text.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {size, true};
}

/// How many bytes at the start of `text` are well-formed.
[[nodiscard]] constexpr std::size_t valid_utf8_prefix(std::string_view text) noexcept {
  std::size_t i = 0;
  for (;;) {
    if (!std::is_constant_evaluated()) {
      while (text.size() - i >= 8 && (load_word(text.data() + i) & 0x8080808080808080U) == 0)
        i += 8;
    }
    if (i == text.size()) return i;
    const utf8_step step = next_utf8(text.substr(i));
    if (!step.valid) return i;
    i += step.size;
  }
}

/// Appends `text` with every ill-formed part replaced by U+FFFD. False if memory is out.
[[nodiscard]] inline bool append_repaired(bytes& out, std::string_view text) noexcept {
  for (;;) {
    const std::size_t good = valid_utf8_prefix(text);
    if (!out.append(text.substr(0, good))) return false;
    if (good == text.size()) return true;
    text.remove_prefix(good);
    text.remove_prefix(next_utf8(text).size);
    if (!out.append("\xEF\xBF\xBD")) return false;
  }
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_UTF8_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail::text {

using view = std::string_view;

[[nodiscard]] constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

/// ASCII only, as header names, schemes and hosts compare.
[[nodiscard]] constexpr bool equal_fold(view a, view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

[[nodiscard]] constexpr bool starts_fold(view s, view prefix) noexcept {
  return equal_fold(s.substr(0, prefix.size()), prefix);
}

[[nodiscard]] constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

[[nodiscard]] constexpr bool is_alnum(char c) noexcept {
  return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z');
}

/// 0x00 to 0x1F and 0x7F.
[[nodiscard]] constexpr bool is_control(char c) noexcept {
  return static_cast<unsigned char>(c) < 0x20 || c == '\x7f';
}

/// RFC 9110 5.6.2 tchar.
[[nodiscard]] constexpr bool is_token_char(char c) noexcept {
  return is_alnum(c) || view{"!#$%&'*+-.^_`|~"}.find(c) != view::npos;
}

[[nodiscard]] constexpr bool is_token(view s) noexcept {
  for (const char c : s) {
    if (!is_token_char(c)) return false;
  }
  return !s.empty();
}

/// RFC 9110 5.5: visible characters, space, tab and bytes above 0x7F; no CR, LF, NUL or other
/// controls.
[[nodiscard]] constexpr bool is_field_value(view s) noexcept {
  for (const char c : s) {
    if (is_control(c) && c != '\t') return false;
  }
  return true;
}

/// RFC 9110 5.6.3: without spaces and tabs at both ends.
[[nodiscard]] constexpr view trim(view s) noexcept {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

/// The characters of RFC 3986 3.2.2 host and 3.2.3 port; no user information, no separators.
[[nodiscard]] constexpr bool is_authority(view s) noexcept {
  for (const char c : s) {
    if (!is_alnum(c) && view{"-._~%!$&'()*+,;=:[]"}.find(c) == view::npos) return false;
  }
  return true;
}

/// Takes the next element of a list off `rest`, trimmed; separators inside quotes do not count (RFC
/// 9110 5.6.1, 5.6.4).
[[nodiscard]] constexpr view next_element(view& rest, char separator) noexcept {
  bool quoted = false;
  std::size_t i = 0;
  for (; i < rest.size() && (quoted || rest[i] != separator); ++i) {
    if (rest[i] == '"') {
      quoted = !quoted;
    } else if (quoted && rest[i] == '\\' && i + 1 < rest.size()) {
      ++i;
    }
  }
  const view element = trim(rest.substr(0, i));
  rest.remove_prefix(i < rest.size() ? i + 1 : i);
  return element;
}

[[nodiscard]] constexpr bool list_has(view list, view token) noexcept {
  while (!list.empty()) {
    if (equal_fold(next_element(list, ','), token)) return true;
  }
  return false;
}

/// Takes the next part of `rest` up to the separator off it.
[[nodiscard]] constexpr view next_part(view& rest, char separator) noexcept {
  const std::size_t end = rest.find(separator);
  const view part = rest.substr(0, end);
  rest.remove_prefix(end == view::npos ? rest.size() : end + 1);
  return part;
}

[[nodiscard]] constexpr int hex_digit(char c) noexcept {
  if (is_digit(c)) return c - '0';
  const char l = lower(c);
  return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

/// The byte at `i`, with its percent escape undone (RFC 3986 2.1); moves `i` behind it. -1: a
/// malformed escape.
[[nodiscard]] constexpr int next_byte(view s, std::size_t& i, bool plus_as_space) noexcept {
  const char c = s[i++];
  if (c == '+' && plus_as_space) return ' ';
  if (c != '%') return static_cast<unsigned char>(c);
  if (s.size() - i < 2) return -1;
  const int high = hex_digit(s[i]);
  const int low = hex_digit(s[i + 1]);
  if (high < 0 || low < 0) return -1;
  i += 2;
  return high * 16 + low;
}

/// Writes the decoded bytes to `out`, which has room for s.size(); false: a malformed escape.
[[nodiscard]] constexpr bool decode(view s, bool plus_as_space, char* out,
                                    std::size_t& n) noexcept {
  n = 0;
  for (std::size_t i = 0; i < s.size();) {
    const int byte = next_byte(s, i, plus_as_space);
    if (byte < 0) return false;
    out[n++] = static_cast<char>(byte);
  }
  return true;
}

/// No overlong forms, no surrogates, nothing above U+10FFFF.
[[nodiscard]] constexpr bool is_utf8(view s) noexcept { return valid_utf8_prefix(s) == s.size(); }

/// A segment that climbs; a backslash separates too, since some file systems think so.
[[nodiscard]] constexpr bool has_dot_dot(view path) noexcept {
  std::size_t start = 0;
  for (std::size_t i = 0; i <= path.size(); ++i) {
    if (i < path.size() && path[i] != '/' && path[i] != '\\') continue;
    if (path.substr(start, i - start) == "..") return true;
    start = i + 1;
  }
  return false;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail::text

#endif  // SSEHUB_DETAIL_HTTP_CHARACTERS_HPP
// ---- sse/request.hpp
//
// request: what the hub asks about an HTTP request, in whatever version it came; response: a plain
// answer. Also the reading of the fields that a stream needs: Last-Event-ID, Accept, query and form
// fields, bearer tokens.
//
//   sse::request req{.method = m, .headers = fields, .address = peer};
//   std::string path;
//   if (auto e = sse::set_target(req, target, path); e != sse::target_error::none) refuse(e);
//   if (!sse::accepts_event_stream(req)) answer(sse::response::text(406, "a stream only\n"));
//   sse::resume_point from = sse::resume_from(req);
//
// Not for reading HTTP/1 from a socket: http1.hpp does that and fills a request.
//
// Views must live until the call that takes them returns. Free functions without state: any thread.
// Nothing here throws, but a std::string that cannot grow does (std::bad_alloc); the functions
// marked noexcept allocate nothing.
#ifndef SSEHUB_REQUEST_HPP
#define SSEHUB_REQUEST_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// One field of a request's head.
struct header {
  std::string_view name;   ///< compared without case
  std::string_view value;  ///< without spaces around it; never decoded
};

/// One HTTP request. Every member is a view.
struct request {
  std::string_view method = "GET";  ///< as it was sent: case counts
  /// As received; log it through redact_target().
  std::string_view target{};
  /// Decoded once, see set_target(); "*" for the server itself (OPTIONS).
  std::string_view path{};
  /// Raw, without the question mark.
  std::string_view query{};
  /// In their order; an HTTP/2 host may include ":authority".
  std::span<const header> headers{};
  /// Of the peer, counted by the caps per address; empty: not counted.
  std::string_view address{};
  /// Bytes put in front of the stream: the HTTP/1 response head; empty: the host sends it.
  std::string_view preamble{};
  /// Frame the stream as chunks (RFC 9112 7.1). REQUIRES: minor_version >= 1.
  bool chunked = false;
  /// Of HTTP/1; 0: no chunked coding, the end of the connection ends the stream.
  int minor_version = 1;

  /// The first header of that name; nullptr: absent.
  [[nodiscard]] constexpr const header* find(std::string_view name) const noexcept {
    for (const header& h : headers) {
      if (detail::text::equal_fold(h.name, name)) return &h;
    }
    return nullptr;
  }
  /// The first value of that name; empty also when the header is absent, which find() can tell.
  [[nodiscard]] constexpr std::string_view header_value(std::string_view name) const noexcept {
    const header* h = find(name);
    return h != nullptr ? h->value : std::string_view{};
  }
  /// The value of a header that must not come twice; empty: absent, empty, or there twice.
  [[nodiscard]] constexpr std::string_view only_value(std::string_view name) const noexcept {
    std::string_view value;
    int seen = 0;
    for (const header& h : headers) {
      if (!detail::text::equal_fold(h.name, name)) continue;
      value = h.value;
      if (++seen > 1) return {};
    }
    return value;
  }
};

// --- target, query, form

/// Undoes percent escapes once (RFC 3986 2.1), and `+` as a form writes it if asked. False, with
/// `out` empty: a malformed escape, a NUL, or a result that is not UTF-8.
[[nodiscard]] inline bool percent_decode(std::string_view in, std::string& out,
                                         bool plus_as_space = false) {
  std::size_t n = 0;
  out.resize(in.size());
  const bool ok = detail::text::decode(in, plus_as_space, out.data(), n);
  out.resize(n);
  if (ok && out.find('\0') == std::string::npos && detail::text::is_utf8(out)) return true;
  out.clear();
  return false;
}

/// Why a request's target cannot be read, or can name nothing; see set_target().
enum class target_error : std::uint8_t {
  none,
  form,         ///< not as set_target() reads it; or a fragment, a space, a byte that is not ASCII
  escape,       ///< `%` without two hexadecimal digits
  control,      ///< the decoded path has a control character, such as %00 or %0A
  utf8,         ///< the decoded path is not UTF-8, or an overlong form of it
  dot_segment,  ///< the decoded path has a `..` segment
};

/// What to answer: 400 for a target that cannot be read, 404 for one that can name nothing.
[[nodiscard]] constexpr int status_of(target_error e) noexcept {
  return e == target_error::none                                ? 200
         : e == target_error::form || e == target_error::escape ? 400
                                                                : 404;
}

namespace detail {

struct target_parts {
  std::string_view authority{};  ///< host and port, of an absolute form only
  std::string_view path{};       ///< raw
  std::string_view query{};
};

[[nodiscard]] constexpr bool split_target(std::string_view method, std::string_view target,
                                          target_parts& out) noexcept {
  for (const char c : target) {
    if (c <= ' ' || c > '~' || c == '#') return false;
  }
  if (target == "*") {
    out.path = target;
    return method == "OPTIONS";
  }
  std::size_t path = 0;
  if (!target.starts_with('/')) {
    const std::size_t scheme = text::starts_fold(target, "http://")    ? 7
                               : text::starts_fold(target, "https://") ? 8
                                                                       : 0;
    if (scheme == 0) return false;
    path = target.find_first_of("/?", scheme);
    if (path == std::string_view::npos) path = target.size();
    out.authority = target.substr(scheme, path - scheme);
    if (out.authority.empty() || !text::is_authority(out.authority)) return false;
  }
  std::string_view rest = target.substr(path);
  out.path = text::next_part(rest, '?');
  if (out.path.empty()) out.path = "/";
  out.query = rest;
  return true;
}

/// Decodes to `out`, which has room for raw.size().
[[nodiscard]] constexpr target_error decode_path(std::string_view raw, char* out,
                                                 std::size_t& n) noexcept {
  if (!text::decode(raw, false, out, n)) return target_error::escape;
  const std::string_view path{out, n};
  for (const char c : path) {
    if (text::is_control(c)) return target_error::control;
  }
  if (!text::is_utf8(path)) return target_error::utf8;
  return text::has_dot_dot(path) ? target_error::dot_segment : target_error::none;
}

/// Whether the encoded form field name spells `key`.
[[nodiscard]] constexpr bool spells(std::string_view raw, std::string_view key,
                                    bool fold) noexcept {
  std::size_t n = 0;
  for (std::size_t i = 0; i < raw.size(); ++n) {
    const int byte = text::next_byte(raw, i, true);
    if (byte < 0 || n == key.size()) return false;
    const char c = static_cast<char>(byte);
    if (fold ? text::lower(c) != text::lower(key[n]) : c != key[n]) return false;
  }
  return n == key.size();
}

/// `N`, or `N-V` with V not above N: decimal digits, at most max_event_id each.
[[nodiscard]] constexpr bool parse_position(std::string_view s, bool encoded, event_id& after,
                                            event_id& values) noexcept {
  event_id n[2] = {};
  std::size_t at = 0;
  bool digits = false;
  for (std::size_t i = 0; i < s.size();) {
    const int c = encoded ? text::next_byte(s, i, true) : static_cast<unsigned char>(s[i++]);
    if (c == '-' && digits && at == 0) {
      at = 1;
      digits = false;
    } else if (c < 0 || !add_digit(n[at], static_cast<char>(c), max_event_id)) {
      return false;
    } else {
      digits = true;
    }
  }
  if (!digits || n[at] > n[0]) return false;
  after = n[0];
  values = n[at];
  return true;
}

}  // namespace detail

/// Fills target, path and query of `r` from the target as received (origin-form, absolute-form, or
/// `*` with OPTIONS: RFC 9112 3.2; set the method first). The path is decoded once into `decoded`,
/// which must outlive `r`; an encoded slash becomes a slash. On an error `r` keeps the target and
/// has neither path nor query.
[[nodiscard]] inline target_error set_target(request& r, std::string_view target,
                                             std::string& decoded) {
  r.target = target;
  r.path = r.query = {};
  detail::target_parts parts;
  if (!detail::split_target(r.method, target, parts)) return target_error::form;
  std::size_t n = 0;
  decoded.resize(parts.path.size());
  const target_error e = detail::decode_path(parts.path, decoded.data(), n);
  if (e != target_error::none) return e;
  decoded.resize(n);
  r.path = decoded;
  r.query = parts.query;
  return e;
}

/// What looking up a parameter came to.
enum class lookup : std::uint8_t { absent, found, malformed };

/// Looks `key` up in a raw query or form body and decodes its value (WHATWG URL 5.1: `&` separates,
/// `+` is a space). The first field of that name wins. malformed: see percent_decode(); `out` is
/// empty unless found.
[[nodiscard]] inline lookup query_value(std::string_view raw_query, std::string_view key,
                                        std::string& out) {
  out.clear();
  while (!raw_query.empty()) {
    std::string_view value = detail::text::next_part(raw_query, '&');
    const std::string_view name = detail::text::next_part(value, '=');
    if (!detail::spells(name, key, false)) continue;
    return percent_decode(value, out, true) ? lookup::found : lookup::malformed;
  }
  return lookup::absent;
}

/// Calls f(name, value) for each field of a raw query or of an application/x-www-form-urlencoded
/// body, decoded; both views end with the call. If `f` returns bool, false stops. False: stopped
/// there by a malformed field, see percent_decode().
template <class F>
bool for_each_pair(std::string_view raw, F&& f) {
  std::string name;
  std::string decoded;
  while (!raw.empty()) {
    std::string_view value = detail::text::next_part(raw, '&');
    const std::string_view key = detail::text::next_part(value, '=');
    if (key.empty() && value.empty()) continue;
    if (!percent_decode(key, name, true) || !percent_decode(value, decoded, true)) return false;
    if constexpr (std::is_same_v<std::invoke_result_t<F&, std::string_view, std::string_view>,
                                 bool>) {
      if (!f(std::string_view{name}, std::string_view{decoded})) return true;
    } else {
      f(std::string_view{name}, std::string_view{decoded});
    }
  }
  return true;
}

// --- where to resume

/// Where a client wants to go on.
struct resume_point {
  /// What it said of that.
  enum class kind : std::uint8_t {
    absent,     ///< it said nothing
    given,      ///< after `after`; 0: everything retained
    malformed,  ///< the query cannot be read: 400
  };
  kind state = kind::absent;  ///< what the client said
  event_id after = 0;         ///< the last id that it has
  /// Of channels that conflate: values of keys that changed behind this one, which is not above
  /// `after`.
  event_id values = 0;
};

/// The header Last-Event-ID if it is a number from 0 to max_event_id (decimal digits, nothing
/// else), or two of them, `after-values`; otherwise it is ignored, as one that comes twice, and the
/// query field `query_name` decides (empty: no such field). The header wins because a browser
/// repeats its old URL when it reconnects. A query field that is empty, not such a number, or there
/// with two different values is malformed.
[[nodiscard]] constexpr resume_point resume_from(const request& r,
                                                 std::string_view query_name = "last_id") noexcept {
  using kind = resume_point::kind;
  resume_point out;
  if (detail::parse_position(r.only_value("Last-Event-ID"), false, out.after, out.values)) {
    out.state = kind::given;
    return out;
  }
  std::string_view rest = query_name.empty() ? std::string_view{} : r.query;
  while (!rest.empty()) {
    std::string_view value = detail::text::next_part(rest, '&');
    if (!detail::spells(detail::text::next_part(value, '='), query_name, false)) continue;
    resume_point p{kind::given};
    if (!detail::parse_position(value, true, p.after, p.values) ||
        (out.state == kind::given && (p.after != out.after || p.values != out.values))) {
      return {kind::malformed};
    }
    out = p;
  }
  return out;
}

// --- fields

namespace detail {

/// The most exact range that covers text/event-stream decides (RFC 9110 12.5.1).
struct accept_match {
  int exactness = -1;  ///< 0: */*, 1: text/*, 2: text/event-stream
  bool wanted = false;
  bool stated = false;

  constexpr void add(std::string_view list) noexcept {
    while (!list.empty()) {
      std::string_view range = text::next_element(list, ',');
      if (range.empty()) continue;
      stated = true;
      const std::string_view type = text::next_element(range, ';');
      const int now = text::equal_fold(type, "text/event-stream") ? 2
                      : text::equal_fold(type, "text/*")          ? 1
                      : type == "*/*"                             ? 0
                                                                  : -1;
      bool zero = false;
      while (!range.empty()) {
        const std::string_view parameter = text::next_element(range, ';');
        if (!text::starts_fold(parameter, "q=")) continue;
        const std::string_view q = text::trim(parameter.substr(2));
        zero = q.starts_with('0') && q.find_first_not_of("0.") == std::string_view::npos;
      }
      if (now < exactness || now < 0) continue;
      wanted = now > exactness ? !zero : wanted || !zero;
      exactness = now;
    }
  }
  [[nodiscard]] constexpr bool result() const noexcept { return !stated || wanted; }
};

}  // namespace detail

/// Whether a client with this Accept field takes text/event-stream; if not: 406. Absent or empty:
/// yes (RFC 9110 12.5.1).
[[nodiscard]] constexpr bool accepts_event_stream(std::string_view accept, bool present) noexcept {
  detail::accept_match m;
  if (present) m.add(accept);
  return m.result();
}
/// By all Accept fields of a request.
[[nodiscard]] constexpr bool accepts_event_stream(const request& r) noexcept {
  detail::accept_match m;
  for (const header& h : r.headers) {
    if (detail::text::equal_fold(h.name, "Accept")) m.add(h.value);
  }
  return m.result();
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 2.1), any run of visible ASCII characters;
/// empty: none, another scheme, or more than one such header.
[[nodiscard]] constexpr std::string_view bearer_token(const request& r) noexcept {
  std::string_view value = r.only_value("Authorization");
  if (!detail::text::starts_fold(value, "Bearer ")) return {};
  value = detail::text::trim(value.substr(7));
  for (const char c : value) {
    if (c <= ' ' || c > '~') return {};
  }
  return value;
}

/// Compares secrets in a time that tells nothing about their bytes; their lengths are not hidden.
[[nodiscard]] inline bool equal_secret(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = static_cast<unsigned char>(difference | (a[i] ^ b[i]));
  }
  return difference == 0;
}

/// The query fields whose values redact_target() hides.
inline constexpr std::string_view secret_fields[] = {"token", "access_token", "ticket", "key",
                                                     "password"};

/// A target for a log line: values of secret query fields become `***` (names compare decoded and
/// without case), and every byte that is not visible ASCII becomes its percent escape.
[[nodiscard]] inline std::string redact_target(
    std::string_view target, std::span<const std::string_view> names = secret_fields) {
  std::string out;
  out.reserve(target.size());
  constexpr std::string_view digits = "0123456789ABCDEF";
  const auto put = [&out, digits](std::string_view s) {
    for (const char c : s) {
      if (c > ' ' && c <= '~') {
        out += c;
      } else {
        const auto byte = static_cast<unsigned char>(c);
        out.append(1, '%').append(1, digits[byte >> 4U]).append(1, digits[byte & 15U]);
      }
    }
  };
  std::size_t mark = target.find('?');  // then each & before a field
  put(target.substr(0, mark));
  while (mark != std::string_view::npos) {
    const std::size_t next = target.find('&', mark + 1);
    const std::string_view field =
        target.substr(mark + 1, next == std::string_view::npos ? next : next - mark - 1);
    const std::size_t equals = field.find('=');
    bool secret = false;
    for (const std::string_view n : names) {
      secret = secret || detail::spells(field.substr(0, equals), n, true);
    }
    out += target[mark];
    if (secret && equals != std::string_view::npos) {
      put(field.substr(0, equals + 1));
      out += "***";
    } else {
      put(field);
    }
    mark = next;
  }
  return out;
}

// --- answers

/// RFC 9110 15 and RFC 6585; empty for others, which RFC 9112 4 allows.
[[nodiscard]] constexpr std::string_view reason_phrase(int status) noexcept {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return {};
  }
}

namespace detail {

/// A header that may be sent, and is not one of those that the HTTP/1 writer owns.
[[nodiscard]] constexpr bool is_field(std::string_view name, std::string_view value) noexcept {
  return text::is_token(name) && text::is_field_value(value) &&
         !text::equal_fold(name, "Connection") && !text::equal_fold(name, "Content-Length") &&
         !text::equal_fold(name, "Transfer-Encoding");
}

/// Appends one header line; false, with nothing appended: not a valid one.
inline bool add_field(std::string& lines, std::string_view name, std::string_view value) {
  if (!is_field(name, value)) return false;
  lines.append(name).append(": ").append(value).append("\r\n");
  return true;
}

}  // namespace detail

/// Calls f(name, value) for each "Name: value\r\n" line, for hosts that send headers one by one.
/// False: a line that is not one, or one that belongs to the HTTP/1 writer (Connection,
/// Content-Length, Transfer-Encoding); nothing after it is read.
template <class F>
constexpr bool for_each_field(std::string_view lines, F&& f) {
  while (!lines.empty()) {
    const std::size_t end = lines.find("\r\n");
    const std::string_view line = lines.substr(0, end);
    const std::size_t colon = line.find(':');
    if (end == std::string_view::npos || colon == std::string_view::npos) return false;
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = detail::text::trim(line.substr(colon + 1));
    if (!detail::is_field(name, value)) return false;
    f(name, value);
    lines.remove_prefix(end + 2);
  }
  return true;
}

/// A refusal or a plain answer. The host writes it: http1::write_response() does for HTTP/1.
struct response {
  int status = 200;       ///< 200 to 999
  std::string headers{};  ///< "Name: value\r\n" lines; add() checks what it appends
  std::string body{};     ///< any bytes
  bool refused = false;   ///< add() dropped a header

  /// Appends a header. Not a token as the name, a control character such as CR, LF or NUL in the
  /// value, or a header that the HTTP/1 writer owns (see for_each_field): dropped, and `refused` is
  /// set.
  response& add(std::string_view name, std::string_view value) & {
    if (!detail::add_field(headers, name, value)) refused = true;
    return *this;
  }
  /// The same for a temporary.
  response&& add(std::string_view name, std::string_view value) && {
    return std::move(add(name, value));
  }

  /// `application/json`.
  [[nodiscard]] static response json(int status, std::string body) {
    return {status, "Content-Type: application/json\r\n", std::move(body)};
  }
  /// `text/plain; charset=utf-8`.
  [[nodiscard]] static response text(int status, std::string body) {
    return {status, "Content-Type: text/plain; charset=utf-8\r\n", std::move(body)};
  }
};

/// 405 with what the resource allows, such as "GET, HEAD, OPTIONS".
[[nodiscard]] inline response method_not_allowed(std::string_view allow) {
  return response::text(405, "method not allowed\n").add("Allow", allow);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_REQUEST_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// What a full cap does.
enum class when_full : std::uint8_t {
  refuse,        ///< answer `status` with Retry-After. Final for a browser's EventSource.
  evict_oldest,  ///< close the oldest stream it counts, and admit
  /// Answer 200 with a stream that says `retry:` and ends: an EventSource comes back by itself.
  retry_stream,
};

/// A cap on concurrent streams.
struct cap {
  std::uint32_t max = 0;                        ///< 0: off
  when_full then = when_full::refuse;           ///< what a full cap does
  int status = 429;                             ///< of a refusal
  duration retry_after = duration::seconds(5);  ///< off(): the refusal says nothing of it
};

/// How many streams there may be at once.
struct limits {
  cap total{.status = 503};    ///< all there are, on all hubs that share a counter
  cap per_user{};              ///< per key that admit() named; an empty key is not counted
  cap per_address{.max = 64};  ///< per request::address; an empty one is not counted
  /// Bits of an IPv6 address that per_address looks at: who has one has the others that begin so.
  /// 128: each counts alone.
  std::uint8_t ipv6_prefix = 64;
};

/// Counts the streams of several hubs together, so that the caps of each hold over all of them:
/// hub_options::counter. Must be thread-safe where the hubs have threads of their own.
/// sse/shards.hpp has one.
class cap_counter {
 public:
  /// Which cap; total has no key.
  enum class kind : std::uint8_t { total, user, address };
  /// One more of `key` (total: empty), unless there are `max` already; `max` 0: in any case. False
  /// too: memory is out.
  [[nodiscard]] virtual bool take(kind k, std::string_view key, std::uint32_t max) noexcept = 0;
  /// Once for each take that was true, when the stream is over.
  virtual void give_back(kind k, std::string_view key) noexcept = 0;
  /// How many there are now; total has no key.
  [[nodiscard]] virtual std::uint32_t count(kind k, std::string_view key) noexcept = 0;

 protected:
  ~cap_counter() = default;
};

/// The User of a hub that needs none.
struct no_user {};

template <class User = no_user>
class verdict;

/// How a stream reads one channel whose events have keys (publish_options::key), that is one with
/// channel_options::max_keys: the newest value of each key, without `id:`, not each event. Events
/// without a key all come, in order, while they are retained; transient ones too, whatever their
/// key.
struct watch_options {
  /// Only these keys. It begins with the value that each of them has, whatever id the client
  /// brings; then what changed longest ago comes first, each value as it is when it is written. A
  /// publish costs nothing for streams that did not choose its key. Copied. At most
  /// channel_options::max_selected; hub::select() adds some, hub::unselect() takes some away.
  std::span<const std::string_view> keys = {};
  /// Only `keys`, also while there are none.
  bool only_keys = false;
  /// Values of one key in a second, at most: all that changed comes once each so often, the newest
  /// always follows. 0: no limit but channel_options::max_rate, which holds in any case.
  double max_rate = 0;
  /// Bytes of values in a second, at most; 0: no limit but channel_options::max_bytes.
  std::uint32_t max_bytes = 0;

  /// Whether the stream reads some keys only.
  [[nodiscard]] bool selects() const noexcept { return only_keys || !keys.empty(); }
  /// It says nothing: the channel is read as any other.
  [[nodiscard]] bool says_nothing() const noexcept {
    return !selects() && !(max_rate > 0) && max_bytes == 0;
  }
};

namespace detail {

/// What a verdict says of watching channels, in one piece of memory.
class watch_requests {
 public:
  /// The keys of one, packed.
  struct request {
    bool selects = false;
    double max_rate = 0;
    std::uint32_t max_bytes = 0;
    std::uint32_t keys = 0;
    std::string_view packed{};

    template <class F>
    void each_key(F f) const {
      for (std::size_t at = 0; at != packed.size();) {
        std::uint32_t n = 0;
        std::memcpy(&n, packed.data() + at, sizeof n);
        f(packed.substr(at + sizeof n, n));
        at += sizeof n + n;
      }
    }
  };

  /// Channel number `joined` of the verdict's.
  void add(std::uint32_t joined, const watch_options& o) {
    head h{joined, o.selects(), o.max_rate, o.max_bytes, static_cast<std::uint32_t>(o.keys.size()),
           0};
    for (const std::string_view key : o.keys) h.size += sizeof(std::uint32_t) + key.size();
    bytes_.append(reinterpret_cast<const char*>(&h), sizeof h);
    for (const std::string_view key : o.keys) {
      const auto n = static_cast<std::uint32_t>(key.size());
      bytes_.append(reinterpret_cast<const char*>(&n), sizeof n).append(key);
    }
  }
  /// False: that channel is read as any other.
  [[nodiscard]] bool find(std::uint32_t joined, request& out) const noexcept {
    for (std::size_t at = 0; at != bytes_.size();) {
      head h;
      std::memcpy(&h, bytes_.data() + at, sizeof h);
      at += sizeof h;
      if (h.joined == joined) {
        out = {h.selects, h.max_rate, h.max_bytes, h.keys,
               std::string_view{bytes_}.substr(at, to_size(h.size))};
        return true;
      }
      at += to_size(h.size);
    }
    return false;
  }

 private:
  struct head {
    std::uint32_t joined;
    bool selects;
    double max_rate;
    std::uint32_t max_bytes;
    std::uint32_t keys;
    std::uint64_t size;  ///< of the packed keys
  };
  std::string bytes_;
};

/// Channels to join: a few without memory of their own.
class joins {
 public:
  /// Out of memory it is not complete().
  void add(channel c) noexcept {
    if (count_ < few) {
      few_[count_] = c;
    } else if (!complete_ || !more_.push_back(c)) {
      complete_ = false;
      return;
    }
    ++count_;
  }
  [[nodiscard]] bool complete() const noexcept { return complete_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return count_; }
  /// REQUIRES: i < size().
  [[nodiscard]] channel operator[](std::uint32_t i) const noexcept {
    return i < few ? few_[i] : more_[i - few];
  }

 private:
  static constexpr std::uint32_t few = 4;
  channel few_[few] = {};
  vec<channel> more_;
  std::uint32_t count_ = 0;
  bool complete_ = true;
};

/// A header that the head of a stream has by itself.
[[nodiscard]] constexpr bool is_of_stream_head(std::string_view name) noexcept {
  for (const std::string_view own :
       {"Content-Type", "Content-Encoding", "Cache-Control", "X-Accel-Buffering",
        "X-Content-Type-Options", "X-Heartbeat-Interval"}) {
    if (text::equal_fold(name, own)) return true;
  }
  return text::starts_fold(name, "Access-Control-");
}

/// What an admitted request asks of the engine.
struct joining {
  std::string key{};
  std::string headers{};
  bool bad_header = false;
  joins channels{};
  watch_requests watches{};
  bool start_given = false;
  start_at start = start_at::live;
  std::uint64_t backlog = 0;
  bool after_given = false;
  event_id after = no_id;
  time_point until = time_point::never();
  bool position_given = false;
  bool position = true;
};

}  // namespace detail

/// What the admit hook says of a request: a refusal, or a user and the channels to join.
template <class User>
class verdict {
 public:
  /// Refuses with any status, headers and body.
  verdict(response r)  // NOLINT: implicit, so that a hook can return refuse(...)
      : refusal_{std::move(r)} {}

  /// Admits. `key` names the user for the cap per user, for revoke(), and as an audience; empty:
  /// anonymous.
  verdict(User user, std::string key) : admitted_{true}, user_{std::move(user)} {
    joining_.key = std::move(key);
  }

  /// Subscribes to one more channel, to none twice: hub_options::max_joins. Several must share one
  /// sequence.
  verdict& join(channel c) & noexcept {
    joining_.channels.add(c);
    return *this;
  }
  /// The same for a temporary.
  verdict&& join(channel c) && noexcept { return std::move(join(c)); }
  /// The same, and how it is read. A channel without keys, or more keys than it allows, makes the
  /// stream a refusal.
  verdict& join(channel c, const watch_options& o) & {
    if (!o.says_nothing()) joining_.watches.add(joining_.channels.size(), o);
    return join(c);
  }
  /// The same for a temporary.
  verdict&& join(channel c, const watch_options& o) && { return std::move(join(c, o)); }

  /// Where to begin without a Last-Event-ID; default: as the channel says.
  verdict&& start(start_at s) && {
    joining_.start_given = true;
    joining_.start = s;
    return std::move(*this);
  }
  /// Begin with the newest `n` retained events of each channel, if there is no Last-Event-ID.
  verdict&& backlog(std::uint64_t n) && {
    joining_.backlog = n;
    return std::move(*this);
  }
  /// Begin after `id`, whatever the request says: for programs whose clients bring ids that the
  /// program itself has to translate. 0: with everything, also what a backfill hook has to bring.
  verdict&& after(event_id id) && {
    joining_.after_given = true;
    joining_.after = id;
    return std::move(*this);
  }
  /// Whether this stream is told where it begins, whatever hub_options::position says: for readers
  /// whose protocol allows no such block.
  verdict&& position(bool told) && {
    joining_.position_given = true;
    joining_.position = told;
    return std::move(*this);
  }
  /// One more header of the stream's head, such as a request id; servers write it, and hosts that
  /// write heads of their own find it in headers(). What cannot be sent (a name that is no token, a
  /// control character in the value: RFC 9110 5.5), and what the head has by itself (its type,
  /// caching, length, coding, CORS), makes the stream a refusal with 500.
  verdict& header(std::string_view name, std::string_view value) & {
    if (detail::is_of_stream_head(name) || !detail::add_field(joining_.headers, name, value))
      joining_.bad_header = true;
    return *this;
  }
  /// The same for a temporary.
  verdict&& header(std::string_view name, std::string_view value) && {
    return std::move(header(name, value));
  }
  /// "Name: value\r\n" lines, all valid.
  [[nodiscard]] std::string_view headers() const noexcept { return joining_.headers; }
  /// End the stream at `t`, for example when the token expires. Before hub.tick() told the time it
  /// is a refusal with 500.
  verdict&& until(time_point t) && {
    joining_.until = t;
    return std::move(*this);
  }

  [[nodiscard]] bool admitted() const noexcept { return admitted_; }  ///< false: it is a refusal
  /// What is answered unless it admits.
  [[nodiscard]] response& refusal() noexcept { return refusal_; }
  [[nodiscard]] User& user() noexcept { return user_; }  ///< who was admitted
  /// What is joined, for the hub.
  [[nodiscard]] detail::joining& joining() noexcept { return joining_; }

 private:
  bool admitted_ = false;
  response refusal_{};
  User user_{};
  detail::joining joining_{};
};

/// Refuses: 401, 403, 5xx, or 204 to make an EventSource give up (WHATWG HTML 9.2.3).
[[nodiscard]] inline response refuse(int status, std::string body = {}) {
  return response::text(status, std::move(body));
}

/// Admits a user without data of its own.
[[nodiscard]] inline verdict<> admit(std::string key = {}) { return {no_user{}, std::move(key)}; }

/// Admits a user; the hub keeps `user` while the session lives and shows it to its hooks.
template <class User>
requires(!std::is_convertible_v<User, std::string>)
    [[nodiscard]] verdict<std::remove_cvref_t<User>> admit(User&& user, std::string key) {
  return {std::forward<User>(user), std::move(key)};
}

/// A request that the library refuses.
struct refused_request {
  refusal_reason why = refusal_reason::http;  ///< why
  int status = 500;                           ///< of the answer
  duration retry_after = duration::off();     ///< what Retry-After says; off(): nothing
};

/// The form that the library's refusals have unless the program gives them another: JSON,
/// {"error":"too_many_streams"}; the word is the reason's, or the status' reason phrase.
[[nodiscard]] inline response refusal_response(const refused_request& r) {
  std::string body{"{\"error\":\""};
  if (r.why != refusal_reason::http) {
    body.append(to_string(r.why));
  } else {
    for (const char c : reason_phrase(r.status)) body += c == ' ' ? '_' : detail::text::lower(c);
  }
  return response::json(r.status, body.append("\"}"));
}

namespace detail {

/// What stands in a refusal whatever its form.
inline response finish_refusal(response r, const refused_request& q) {
  r.status = q.status;
  if (q.retry_after.is_off()) return r;
  const std::int64_t seconds = q.retry_after.ms() / 1000 + (q.retry_after.ms() % 1000 != 0 ? 1 : 0);
  return std::move(r.add("Retry-After", std::to_string(seconds)));
}

}  // namespace detail

/// What accept() did. An id: the session is open. None: write `refusal`; for HEAD (`head_only`) the
/// preamble alone.
struct accept_result {
  session_id id{};                            ///< of the stream; none: refused
  bool head_only = false;                     ///< HEAD: the preamble, and no stream
  refusal_reason why = refusal_reason::none;  ///< why it was refused
  response refusal{};                         ///< what to write then
  duration retry_after = duration::off();     ///< what a full cap or a drain said in Retry-After

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(id); }
  /// REQUIRES: refused.
  [[nodiscard]] refused_request refused() const noexcept {
    return {why, refusal.status, retry_after};
  }
};

/// What a gap frame said, for the host's log.
struct gap_notice {
  session_id session{};        ///< the reader's
  channel where{};             ///< what it reads
  event_id requested = no_id;  ///< the id asked for, or the last one the slow reader got
  event_id first = no_id;      ///< the first id that can come
  std::uint64_t lost = 0;      ///< how many events, where lost_known
  bool lost_known = false;     ///< false: nobody can know
};

/// Where hub.join() begins on a channel: with the next event, unless one of these is said.
struct join_start {
  start_at start = start_at::live;  ///< from now on, all that is kept, or the newest of each key
  std::uint64_t backlog = 0;        ///< with the newest so many retained events
  event_id after = unsaid_id;       ///< behind this id, as verdict::after; before the others
};

/// Why hub.join() did not.
enum class join_error : std::uint8_t {
  none,
  no_session,   ///< gone, or ending
  another_hub,  ///< the channel is of another hub
  closed,       ///< the channel is closed, or being closed, or none
  sealed,       ///< the channel has had its last event
  joined,       ///< it has joined it already
  /// Its other channels, or those that it left, have ids of another sequence, or it left one that
  /// has its own.
  another_sequence,
  too_many,       ///< hub_options::max_joins
  moved_on,       ///< it got, or was told of, an id that is not below where it was to begin
  full,           ///< channel_options::max_subscribers
  no_keys,        ///< keys are chosen of a channel that has none (channel_options::max_keys)
  too_many_keys,  ///< channel_options::max_selected
  no_memory,
  in_hook,  ///< called inside a hook that may not call the hub (see hub)
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(join_error e) noexcept {
  switch (e) {
    case join_error::none: return "none";
    case join_error::no_session: return "no_session";
    case join_error::another_hub: return "another_hub";
    case join_error::closed: return "closed";
    case join_error::sealed: return "sealed";
    case join_error::joined: return "joined";
    case join_error::another_sequence: return "another_sequence";
    case join_error::too_many: return "too_many";
    case join_error::moved_on: return "moved_on";
    case join_error::full: return "full";
    case join_error::no_keys: return "no_keys";
    case join_error::too_many_keys: return "too_many_keys";
    case join_error::no_memory: return "no_memory";
    case join_error::in_hook: return "in_hook";
  }
  return "unknown";
}

/// Why hub.select() or hub.unselect() did not.
enum class select_error : std::uint8_t {
  none,
  no_session,     ///< gone, or ending
  no_selection,   ///< it did not join the channel with keys of its own (watch_options)
  too_many_keys,  ///< channel_options::max_selected: none of them was added
  no_memory,      ///< some of them may have been added
  in_hook,        ///< called inside a hook that may not call the hub (see hub)
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(select_error e) noexcept {
  switch (e) {
    case select_error::none: return "none";
    case select_error::no_session: return "no_session";
    case select_error::no_selection: return "no_selection";
    case select_error::too_many_keys: return "too_many_keys";
    case select_error::no_memory: return "no_memory";
    case select_error::in_hook: return "in_hook";
  }
  return "unknown";
}

/// Each duration can be off() or infinite(), which are never, unless it says otherwise.
struct hub_options {
  limits caps = {};  ///< streams at once
  /// Counts for `caps` with other hubs, which must have the same caps; nullptr: alone. evict_oldest
  /// closes a stream of this hub; where it has none to close, the cap refuses. Must outlive the
  /// hub.
  cap_counter* counter = nullptr;
  /// Where the shared sequence stands at first: the first event's id is above it. The wall clock in
  /// microseconds keeps ids rising over restarts, and is what a server takes if nothing is said; a
  /// hub of its own takes 0 then. At most max_event_id.
  event_id first_id = unsaid_id;
  /// The shared sequence's ids are all given: id_mode::automatic on it is refused with id_order.
  bool given_ids = false;
  std::uint64_t seed = 0x9e3779b97f4a7c15ULL;  ///< for jitter and hashing; give something random
  duration retry = duration::off();            ///< `retry:` at the start of each stream; off: none
  /// Channels of one stream; 0: no limit. A verdict with more is refused with 500.
  std::uint32_t max_joins = 0;
  /// Ids between these two were given out and are lost: who comes back with one of them is told so,
  /// by a gap frame, and goes on with lost_below.
  event_id lost_above = no_id;
  event_id lost_below = no_id;  ///< see lost_above
  /// A GET whose Accept does not take an event stream is refused with 406. false: it gets one (RFC
  /// 9110 12.5.1 lets a server disregard Accept).
  bool check_accept = true;
  /// Comment at the start of each stream: bytes that open a buffering proxy. Copied.
  std::string_view opening = {};
  /// A reader that brings no id is told where its stream begins, by a block of `id:` alone, which
  /// fires no event: cut before its first event, it comes back with that and misses nothing. Behind
  /// a snapshot too.
  bool position = true;
  /// Counts for each stream and channel what became of its events (hub.session_stats): 32 bytes for
  /// each.
  bool session_stats = false;
  /// Query field beside the header Last-Event-ID; empty: none. Copied.
  std::string_view resume_query = "last_id";
  duration write_deadline = duration::seconds(10);  ///< no write progress: closed
  /// No application event delivered: closed. At most 24 days.
  duration idle = duration::off();
  /// Of a connection: closed, up to a tenth earlier (jitter).
  duration max_age = duration::off();
  /// A clean close sends a random `retry:` between these two, so that reconnects are spread; off():
  /// 0, at once.
  duration retry_min = duration::seconds(1);
  duration retry_max = duration::seconds(5);  ///< see retry_min
  /// Bytes of all logs held only for slow readers; 0: off.
  std::uint64_t max_backlog = std::uint64_t{256} << 20;
  /// Bytes of control and unicast frames waiting per session.
  std::uint32_t control_lane = 256 << 10;
  /// Bytes written to one session before the next gets its turn.
  std::uint32_t flush_share = 256 << 10;
  /// Bytes written in one flush() to sessions that catch up, and to streams that open between two:
  /// then the loop gets its turn, and flush() says that there is more. What is published leaves in
  /// the next flush for those who are up to date, whatever the others still need. 0: no limit.
  std::uint64_t flush_budget = std::uint64_t{4} << 20;
};

/// How a server or a hub ends its streams; see drain().
struct drain_options {
  duration deadline = duration::seconds(5);  ///< then the rest is cut; off(): at once
  /// Last event; empty data and type: none. Its id is not sent. Copied.
  event farewell{};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_ADMISSION_HPP
// ---- sse/hub.hpp
//
// hub: channels, sessions, and who gets what when. It runs inside the host's own loop: bytes go out
// through Transport, readiness and time come in as calls. It opens no socket, reads no clock,
// starts no thread, throws and logs nothing.
//
//   sse::hub<my_transport> hub{transport, {.first_id = wall_clock_us}};
//   sse::channel ticks = hub.open_channel("ticks", {});
//   hub.on_admit([&](const sse::request&) { return sse::admit().join(ticks); });
//   if (auto r = hub.accept(std::move(connection), request); !r) answer(r.refusal);
//   hub.tick(now); hub.flush();                       // once in each turn of the loop
//
// Not for hosts that want a server: sse/asio.hpp is one. Not thread-safe: one thread owns a hub,
// others publish through a mailbox (sse/mailbox.hpp).
#ifndef SSEHUB_HUB_HPP
#define SSEHUB_HUB_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

// ---- sse/detail/engine/admit.hpp
//
// accept: who may, who goes for it, and the first bytes. What a live session joins and leaves.
#ifndef SSEHUB_DETAIL_ENGINE_ADMIT_HPP
#define SSEHUB_DETAIL_ENGINE_ADMIT_HPP

#include <string>
#include <string_view>

// ---- sse/detail/engine/deadlines.hpp
//
// Time: heartbeats and deadlines from one timer heap, clean ends, drain.
#ifndef SSEHUB_DETAIL_ENGINE_DEADLINES_HPP
#define SSEHUB_DETAIL_ENGINE_DEADLINES_HPP

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

// ---- sse/detail/engine/flush.hpp
//
// Bytes out: what a session gets next (gather), the one write, and where its cursors stand then
// (advance). Live delivery, replay, and catching up after a stall are the same code: a cursor
// behind the end of a log.
#ifndef SSEHUB_DETAIL_ENGINE_FLUSH_HPP
#define SSEHUB_DETAIL_ENGINE_FLUSH_HPP

#include <cstdint>
#include <cstring>
#include <utility>

// ---- sse/detail/engine/publish.hpp
//
// Bytes in: an event becomes a log entry, once, whoever reads it; a unicast event becomes a lane
// item.
#ifndef SSEHUB_DETAIL_ENGINE_PUBLISH_HPP
#define SSEHUB_DETAIL_ENGINE_PUBLISH_HPP

#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>

// ---- sse/detail/engine/weave.hpp
//
// weave: the way to live. A reader that has no place in a channel's log gets its events from
// elsewhere: the newest value of each key (passes.hpp), or the channel's backfill hook. It holds
// nothing there meanwhile, so a slow one costs no memory. What has an id, of all the session's
// channels, is taken in the order of the ids, so that these rise and a resume from any of them
// misses nothing. A share of it at a time goes into the session's lane, and values behind it.
#ifndef SSEHUB_DETAIL_ENGINE_WEAVE_HPP
#define SSEHUB_DETAIL_ENGINE_WEAVE_HPP

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

// ---- sse/detail/engine/passes.hpp
//
// passes: the newest state, never old news. A reader of a keyed channel that is new, came back, or
// could not take all that there was goes through the values pass by pass: in the order of their
// slots, which does not change when they do, past those that did not change since the last pass. A
// value is taken when it can be written, no more of them than one write takes, and what the write
// leaves is taken back: so a key is silent for one pass at most, and a value is as new as the
// write.
//
// Values have no `id:`. A pass ends with one alone, of where the channel stood when it began: a
// resume from there misses nothing. Events without a key, and those of the session's other
// channels, do not wait for it (weave.hpp): their ids say in a second number up to where the values
// are there (resume_point::values). After a pass that finds nothing the log serves the reader
// again.
#ifndef SSEHUB_DETAIL_ENGINE_PASSES_HPP
#define SSEHUB_DETAIL_ENGINE_PASSES_HPP

#include <cstdint>

// ---- sse/detail/engine/catch_up.hpp
//
// Catching up: where a reader begins, what it is told of a loss, and how one that is too slow goes
// on.
#ifndef SSEHUB_DETAIL_ENGINE_CATCH_UP_HPP
#define SSEHUB_DETAIL_ENGINE_CATCH_UP_HPP

#include <cstdint>
#include <string_view>

// ---- sse/detail/engine/selection.hpp
//
// Readers that chose their keys of a channel: who chose what, and who is woken by which event. What
// they get of it is in passes.hpp.
#ifndef SSEHUB_DETAIL_ENGINE_SELECTION_HPP
#define SSEHUB_DETAIL_ENGINE_SELECTION_HPP

#include <cstdint>
#include <span>
#include <string_view>

// ---- sse/detail/engine/lag.hpp
//
// Readers that are too slow: how far behind they are, what the channel's policy does with them, and
// what is held for them.
#ifndef SSEHUB_DETAIL_ENGINE_LAG_HPP
#define SSEHUB_DETAIL_ENGINE_LAG_HPP

#include <cstdint>

// ---- sse/detail/engine/visibility.hpp
//
// Which entry a session may see next. Where the audience is the key of a user, which is the rule
// unless the host has one of its own, the stream's index tells; else the host is asked for each
// entry, for so many in a turn.
#ifndef SSEHUB_DETAIL_ENGINE_VISIBILITY_HPP
#define SSEHUB_DETAIL_ENGINE_VISIBILITY_HPP

#include <cstdint>
#include <string_view>

// ---- sse/detail/engine/ends.hpp
//
// Ends: who is closed, and when. A session that is to go is dead at once (sessions.hpp), a channel
// takes its readers along; both are reaped when the outermost call ends.
#ifndef SSEHUB_DETAIL_ENGINE_ENDS_HPP
#define SSEHUB_DETAIL_ENGINE_ENDS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

// ---- sse/detail/engine/channels.hpp
//
// Channels: opened, found, freed, and what is remembered of a closed one.
#ifndef SSEHUB_DETAIL_ENGINE_CHANNELS_HPP
#define SSEHUB_DETAIL_ENGINE_CHANNELS_HPP

#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

// ---- sse/detail/engine/timers.hpp
//
// When a session, and a channel, has to be looked at next. What is done then: deadlines.hpp.
#ifndef SSEHUB_DETAIL_ENGINE_TIMERS_HPP
#define SSEHUB_DETAIL_ENGINE_TIMERS_HPP

#include <cstdint>

// ---- sse/detail/engine/sessions.hpp
//
// Sessions: their slots, cursors and subscriptions, who is served next, who is there.
#ifndef SSEHUB_DETAIL_ENGINE_SESSIONS_HPP
#define SSEHUB_DETAIL_ENGINE_SESSIONS_HPP

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

// ---- sse/detail/engine/engine.hpp
//
// The hub's engine: what is behind hub<Transport, User> and depends on neither. One class, told in
// rooms; each includes, and calls, only what stands above it:
//
//   parts.hpp stream.hpp batch.hpp   what it is made of
//   channel_state.hpp                what is behind a channel
//   caps.hpp lanes.hpp chunks.hpp    parts that know nothing of an engine
//   engine.hpp                       this file: all that it has, and all that it can do
//   sessions.hpp                     slots, cursors, who is served next
//   timers.hpp                       when a session or a channel is looked at next
//   channels.hpp                     channels: opened, found, freed
//   ends.hpp                         closed, and reaped once nobody walks
//   visibility.hpp                   which entry a session may see next
//   lag.hpp                          readers that are too slow, what is held for them
//   selection.hpp                    who chose which keys, and is woken by which event
//   catch_up.hpp                     where a reader begins, or goes on; gap frames
//   passes.hpp                       the newest values, for readers that conflate or chose keys
//   weave.hpp                        its way to live, its channels in the order of their ids
//   publish.hpp                      bytes in
//   flush.hpp                        bytes out: gather, write, advance
//   deadlines.hpp                    time: heartbeats, deadlines, drain
//   admit.hpp                        who may, and the first bytes; live joins
//
// Invariants:
//   1. A cursor pins its segment; each run of a pending write does too, also past its session.
//   2. Ids rise strictly along a session, across its channels: entries leave in order of stamps.
//   3. Control bytes enter between events only: first the rest of a half-sent event, then the lane,
//      then the logs.
//   4. No engine call runs inside write or close of the host, and nothing is freed while anybody
//      walks: what dies is reaped when the outermost call ends.
//   5. Memory: sum over channels of 1.5 * max(keep, max_lag), plus a small constant for each
//      session and channel.
//   6. An accepted event is delivered, or a gap frame says that it is lost, or the stream closes.
#ifndef SSEHUB_DETAIL_ENGINE_ENGINE_HPP
#define SSEHUB_DETAIL_ENGINE_ENGINE_HPP

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string_view>

// ---- sse/detail/base/name_table.hpp
//
// name_table: names of things that are there now, numbered, with a value each: found, added and
// taken out in constant time, however many there are. Users, addresses, channels, audiences, keys.
#ifndef SSEHUB_DETAIL_BASE_NAME_TABLE_HPP
#define SSEHUB_DETAIL_BASE_NAME_TABLE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>

// ---- sse/detail/base/blob.hpp
//
// blob: bytes that several may hold; owned_text: a piece of text. Making one may fail and says so.
#ifndef SSEHUB_DETAIL_BASE_BLOB_HPP
#define SSEHUB_DETAIL_BASE_BLOB_HPP

#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Bytes that several may hold.
struct blob {
  std::uint32_t refs = 0;
  std::uint32_t size = 0;
  [[nodiscard]] char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
};
/// With one reference, or nullptr when memory is out.
[[nodiscard]] inline blob* make_blob(std::uint32_t size) noexcept {
  void* p = allocate(sizeof(blob) + size);
  if (p == nullptr) return nullptr;
  return ::new (p) blob{1, size};
}
inline void unref(blob* b) noexcept {
  if (--b->refs == 0) deallocate(b);
}

/// A piece of text that owns its bytes; assigning may fail.
class owned_text {
 public:
  owned_text() noexcept = default;
  owned_text(owned_text&& o) noexcept : bytes_{std::move(o.bytes_)} {}
  owned_text& operator=(owned_text&& o) noexcept {
    bytes_.swap(o.bytes_);
    return *this;
  }
  [[nodiscard]] bool assign(std::string_view a, std::string_view b = {},
                            std::string_view c = {}) noexcept {
    bytes_.clear();
    if (!bytes_.reserve(static_cast<std::uint32_t>(a.size() + b.size() + c.size()))) return false;
    for (const std::string_view part : {a, b, c}) bytes_.append_reserved(part.data(), part.size());
    return true;
  }
  void clear() noexcept { bytes_.release(); }
  [[nodiscard]] std::string_view view() const noexcept {
    return bytes_.empty() ? std::string_view{} : std::string_view{&bytes_[0], bytes_.size()};
  }

 private:
  vec<char> bytes_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_BLOB_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Eight bytes at a time, each xored in and multiplied, with a seed and a finish: names come from
/// outside, so the seed is the host's secret against crowding a bucket.
[[nodiscard]] inline std::uint64_t hash_name(std::string_view name, std::uint64_t seed) noexcept {
  constexpr std::uint64_t odd = 0x9fb21c651e98df25ULL;
  const auto word = [](const char* p) {
    std::uint64_t w;
    std::memcpy(&w, p, sizeof w);
    return w;
  };
  const auto half = [](const char* p) {
    std::uint32_t w;
    std::memcpy(&w, p, sizeof w);
    return std::uint64_t{w};
  };
  const auto byte = [](char c) { return std::uint64_t{static_cast<unsigned char>(c)}; };
  const char* p = name.data();
  std::size_t n = name.size();
  std::uint64_t h = (seed ^ n) * odd;
  for (; n > 8; n -= 8, p += 8) {
    h = (h ^ word(p)) * odd;
    h ^= h >> 32;
  }
  if (n >= 4) {  // what is left, some of it twice
    h ^= half(p) | half(p + n - 4) << 32;
  } else if (n != 0) {
    h ^= byte(p[0]) | byte(p[n / 2]) << 8 | byte(p[n - 1]) << 16;
  }
  h *= odd;
  h ^= h >> 32;
  h *= 0x9e3779b97f4a7c15ULL;
  return h ^ (h >> 29);
}

/// `Value` is made anew for each name that is added. `Chunk`: names for which memory is taken at a
/// time.
template <class Value, std::uint32_t Chunk = 64>
class name_table {
 public:
  explicit name_table(std::uint64_t seed = 0) noexcept : seed_{seed} {}
  /// Only while it is empty.
  void set_seed(std::uint64_t seed) noexcept { seed_ = seed; }

  [[nodiscard]] Value& operator[](std::uint32_t i) noexcept { return pool_[i].value; }
  [[nodiscard]] const Value& operator[](std::uint32_t i) const noexcept { return pool_[i].value; }
  [[nodiscard]] std::string_view name_of(std::uint32_t i) const noexcept {
    return pool_[i].name.view();
  }
  [[nodiscard]] std::uint64_t hash_of(std::uint32_t i) const noexcept { return pool_[i].hash; }
  [[nodiscard]] std::uint64_t hash(std::string_view name) const noexcept {
    return hash_name(name, seed_);
  }
  [[nodiscard]] std::uint32_t size() const noexcept { return used_; }
  /// All numbers are below it; those that are no names have no refs().
  [[nodiscard]] std::uint32_t extent() const noexcept { return pool_.extent(); }

  [[nodiscard]] std::uint32_t find(std::string_view name) const noexcept {
    return used_ == 0 ? none : find(name, hash(name));
  }
  /// The same for one whose hash is known: that of a table with the same seed.
  [[nodiscard]] std::uint32_t find(std::string_view name, std::uint64_t h) const noexcept {
    return find(name, h, [](const Value&) { return true; });
  }
  /// Of those that were added under that name, the one whose value `is` what is looked for.
  template <class Is>
  [[nodiscard]] std::uint32_t find(std::string_view name, std::uint64_t h, Is is) const noexcept {
    if (used_ == 0) return none;
    for (std::uint32_t i = buckets_[bucket(h)]; i != none; i = pool_[i].chain) {
      if (pool_[i].hash == h && pool_[i].name.view() == name && is(pool_[i].value)) return i;
    }
    return none;
  }

  /// Finds or adds, and takes a reference; none when memory is out.
  [[nodiscard]] std::uint32_t acquire(std::string_view name) noexcept {
    const std::uint64_t h = hash(name);
    const std::uint32_t i = find(name, h);
    if (i == none) return add(name, h);
    ++pool_[i].refs;
    return i;
  }
  /// Adds it, whether or not there is one of that name, with a reference; none when memory is out.
  [[nodiscard]] std::uint32_t add(std::string_view name, std::uint64_t h) noexcept {
    if (!grow() || !pool_.reserve_one()) return none;
    const std::uint32_t i = pool_.take();
    item& n = pool_[i];
    if (!n.name.assign(name)) {
      n.name.clear();
      pool_.give_back(i);
      return none;
    }
    n.hash = h;
    n.refs = 1;
    std::uint32_t& b = buckets_[bucket(h)];
    n.chain = b;
    b = i;
    ++used_;
    return i;
  }
  [[nodiscard]] std::uint32_t refs(std::uint32_t i) const noexcept { return pool_[i].refs; }

  /// True: that was the last reference; the name is gone.
  bool release(std::uint32_t i) noexcept {
    item& n = pool_[i];
    SSEHUB_ASSERT(n.refs != 0);
    if (--n.refs != 0) return false;
    std::uint32_t* at = &buckets_[bucket(n.hash)];
    while (*at != i) at = &pool_[*at].chain;
    *at = n.chain;
    n.name.clear();
    n.value.~Value();
    ::new (static_cast<void*>(&n.value)) Value();
    pool_.give_back(i);
    --used_;
    return true;
  }

 private:
  struct item {
    owned_text name;
    std::uint64_t hash = 0;
    std::uint32_t refs = 0;
    std::uint32_t chain = none;  ///< next in the hash bucket
    Value value{};
    [[nodiscard]] std::uint32_t& free_link() noexcept { return chain; }
  };

  [[nodiscard]] std::uint32_t bucket(std::uint64_t h) const noexcept {
    return static_cast<std::uint32_t>(h) & (buckets_.size() - 1);
  }
  [[nodiscard]] bool grow() noexcept {
    if (!buckets_.empty() && used_ < buckets_.size()) return true;
    const std::uint32_t n = buckets_.empty() ? 8 : buckets_.size() * 2;
    vec<std::uint32_t> bigger;
    if (!bigger.reserve(n)) return !buckets_.empty();  // a fuller table still works
    for (std::uint32_t i = 0; i < n; ++i) bigger.push_reserved(none);
    buckets_.swap(bigger);
    for (std::uint32_t head : bigger) {
      while (head != none) {
        const std::uint32_t next = pool_[head].chain;
        std::uint32_t& b = buckets_[bucket(pool_[head].hash)];
        pool_[head].chain = b;
        b = head;
        head = next;
      }
    }
    return true;
  }

  slot_pool<item, Chunk> pool_;
  vec<std::uint32_t> buckets_;
  std::uint32_t used_ = 0;
  std::uint64_t seed_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_NAME_TABLE_HPP
// ---- sse/detail/base/random.hpp
//
// The one random generator: for jitter and hashing, not for secrets. Not public.
#ifndef SSEHUB_DETAIL_BASE_RANDOM_HPP
#define SSEHUB_DETAIL_BASE_RANDOM_HPP

#include <cstdint>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// splitmix64. Any seed is good.
class random_numbers {
 public:
  explicit constexpr random_numbers(std::uint64_t seed) noexcept : state_{seed} {}

  [[nodiscard]] constexpr std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  /// At least 0, below `n`; 0 if n is 0.
  [[nodiscard]] constexpr std::uint64_t below(std::uint64_t n) noexcept {
    return n == 0 ? 0 : next() % n;
  }

 private:
  std::uint64_t state_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_RANDOM_HPP
// ---- sse/detail/base/timer_heap.hpp
//
// timer_heap: the hub's one timer structure: deadlines of sessions and channels, each at most once,
// eight bytes each.
#ifndef SSEHUB_DETAIL_BASE_TIMER_HEAP_HPP
#define SSEHUB_DETAIL_BASE_TIMER_HEAP_HPP

#include <cstdint>

// ---- sse/detail/base/indexed_heap.hpp
//
// indexed_heap: things by a key, the first on top, each thing in it at most once. Each owner keeps
// its own place, so a key is changed in O(log n).
#ifndef SSEHUB_DETAIL_BASE_INDEXED_HEAP_HPP
#define SSEHUB_DETAIL_BASE_INDEXED_HEAP_HPP

#include <cstdint>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `Order` has `std::uint32_t& place(std::uint32_t id)`, which is `none` at first, and
/// `static bool before(Key, Key)`.
template <class Key, class Order>
class indexed_heap {
 public:
  explicit indexed_heap(Order order) noexcept : order_{order} {}

  /// Makes room for `n` things, so that set() cannot fail for them.
  [[nodiscard]] bool reserve(std::uint32_t n) noexcept { return heap_.reserve(n); }

  /// Puts it in, or changes its key.
  void set(std::uint32_t id, Key key) noexcept {
    const item it{key, id};
    std::uint32_t at = order_.place(id);
    if (at == none) {
      at = heap_.size();
      heap_.push_reserved(it);
      up(at, it);
    } else if (Order::before(it.key, heap_[at].key)) {
      up(at, it);
    } else {
      down(at, it);
    }
  }
  /// Changes all keys in a way that keeps their order.
  template <class Map>
  void map_keys(Map map) noexcept {
    for (item& it : heap_) it.key = map(it.key);
  }
  void remove(std::uint32_t id) noexcept {
    const std::uint32_t at = order_.place(id);
    if (at == none) return;
    order_.place(id) = none;
    const item last = heap_.back();
    heap_.pop_back();
    if (last.id == id) return;
    if (at > 0 && Order::before(last.key, heap_[(at - 1) / 4].key)) {
      up(at, last);
    } else {
      down(at, last);
    }
  }
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::uint32_t top_id() const noexcept { return heap_[0].id; }
  [[nodiscard]] Key top_key() const noexcept { return heap_[0].key; }
  /// REQUIRES: it is in the heap.
  [[nodiscard]] Key key_at(std::uint32_t place) const noexcept { return heap_[place].key; }
  [[nodiscard]] const Order& order() const noexcept { return order_; }

 private:
  struct item {
    Key key;
    std::uint32_t id;
  };
  void put(std::uint32_t at, item it) noexcept {
    heap_[at] = it;
    order_.place(it.id) = at;
  }
  void up(std::uint32_t at, item it) noexcept {
    while (at > 0 && Order::before(it.key, heap_[(at - 1) / 4].key)) {
      put(at, heap_[(at - 1) / 4]);
      at = (at - 1) / 4;
    }
    put(at, it);
  }
  void down(std::uint32_t at, item it) noexcept {
    const std::uint32_t size = heap_.size();
    for (;;) {
      std::uint32_t best = none;
      for (std::uint32_t c = at * 4 + 1; c < size && c <= at * 4 + 4; ++c) {
        if (best == none || Order::before(heap_[c].key, heap_[best].key)) best = c;
      }
      if (best == none || !Order::before(heap_[best].key, it.key)) break;
      put(at, heap_[best]);
      at = best;
    }
    put(at, it);
  }

  Order order_;
  vec<item> heap_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_INDEXED_HEAP_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `Places` has `std::uint32_t& place(std::uint32_t id)`. Deadlines are ms, kept modulo 2^32: a far
/// one is cut to about twelve days ahead, and its owner simply arms it again then.
template <class Places>
class timer_heap {
 public:
  static constexpr std::int64_t farthest = std::int64_t{1} << 30;

  explicit timer_heap(Places& places) noexcept : heap_{order{&places}} {}

  /// Makes room for `n` ids, so that arm() cannot fail for them.
  [[nodiscard]] bool reserve(std::uint32_t n) noexcept { return heap_.reserve(n); }

  /// Sets or moves a deadline.
  void arm(std::uint32_t id, std::int64_t when, std::int64_t now) noexcept {
    if (when > now + farthest) when = now + farthest;
    if (when < now) when = now;
    heap_.set(id, static_cast<std::uint32_t>(when));
  }
  /// The time goes on at `to`: what was due before is due then.
  void jump(std::int64_t from, std::int64_t to) noexcept {
    heap_.map_keys([&](std::uint32_t when) {
      const std::int64_t due = expand(when, from);
      return static_cast<std::uint32_t>(due < to ? to : due);
    });
  }
  void disarm(std::uint32_t id) noexcept { heap_.remove(id); }
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::uint32_t top_id() const noexcept { return heap_.top_id(); }
  [[nodiscard]] std::int64_t top_when(std::int64_t now) const noexcept {
    return expand(heap_.top_key(), now);
  }
  /// INT64_MAX: it has none.
  [[nodiscard]] std::int64_t when(std::uint32_t id, std::int64_t now) const noexcept {
    const std::uint32_t at = heap_.order().place(id);
    return at == none ? INT64_MAX : expand(heap_.key_at(at), now);
  }

 private:
  struct order {
    Places* places;
    [[nodiscard]] std::uint32_t& place(std::uint32_t id) const noexcept {
      return places->place(id);
    }
    [[nodiscard]] static bool before(std::uint32_t a, std::uint32_t b) noexcept {
      return static_cast<std::int32_t>(a - b) < 0;
    }
  };
  static std::int64_t expand(std::uint32_t when, std::int64_t now) noexcept {
    return now + static_cast<std::int32_t>(when - static_cast<std::uint32_t>(now));
  }

  indexed_heap<std::uint32_t, order> heap_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_TIMER_HEAP_HPP
// ---- sse/detail/engine/batch.hpp
//
// batch: what is to be written to one session next, as runs of bytes that lie somewhere, and how
// they are shown to the transport: as they lie, or copied into one buffer where they are many.
#ifndef SSEHUB_DETAIL_ENGINE_BATCH_HPP
#define SSEHUB_DETAIL_ENGINE_BATCH_HPP

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

// ---- sse/detail/log/segment.hpp
//
// segment: a block of a log: the bytes of its entries from the front, the entries themselves from
// the back. segment_pool makes them and keeps a few for use again.
//
// Invariants:
//   1. Bytes never change or move once their entry is committed: the kernel gets them as they lie.
//   2. Nobody frees a segment that is pinned: by a cursor in it, or by a write that is pending.
#ifndef SSEHUB_DETAIL_LOG_SEGMENT_HPP
#define SSEHUB_DETAIL_LOG_SEGMENT_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// What a log has to know of an entry that is to be appended.
struct new_entry {
  std::uint32_t size = 0;     ///< bytes of the event
  event_id id = no_id;        ///< no_id: none
  std::uint64_t stamp = 0;    ///< order of publication over all channels of the hub; rises
  std::int64_t at = 0;        ///< ms, hub time of publication; never falls
  std::string_view audience;  ///< empty: everybody
  std::string_view text{};    ///< once it is there, its bytes behind the `id:` that the hub gave it
  bool heartbeat = false;     ///< not an application event
};

/// One event, told from where its segment begins. A private one has its audience in front of its
/// bytes.
struct entry {
  std::uint32_t begin = 0;  ///< of its first byte, in the segment
  std::uint32_t size = 0;
  std::uint32_t id = 0;        ///< above segment::id_base; 0: none
  std::uint32_t stamp = 0;     ///< above segment::stamp_base
  std::uint32_t at = 0;        ///< above segment::at_base
  std::uint16_t audience = 0;  ///< bytes of its audience; 0: everybody
  std::uint16_t flags = 0;     ///< a bit each, and about the run of private entries it stands in

  static constexpr std::uint16_t is_heartbeat = 0x8000;
  static constexpr std::uint16_t run_start = 0x4000;
  /// The first of a run says how long it is, the others where it begins.
  static constexpr std::uint16_t run_mask = 0x3fff;

  [[nodiscard]] bool heartbeat() const noexcept { return (flags & is_heartbeat) != 0; }
  [[nodiscard]] std::uint32_t end() const noexcept { return begin + size; }
};
static_assert((entry::is_heartbeat | entry::run_start | entry::run_mask) == 0xffff &&
              (entry::is_heartbeat & entry::run_start) == 0);
static_assert(sizeof(entry) == 24, "one for each event that is retained");

struct segment {
  segment* next = nullptr;  ///< the newer neighbour, while attached
  std::uint64_t base = 0;   ///< log offset of its first byte
  std::uint64_t first = 0;  ///< ordinal of its first entry
  event_id id_base = 0;
  std::uint64_t stamp_base = 0;
  std::int64_t at_base = 0;
  std::uint32_t capacity = 0;  ///< bytes for entries and what they tell of
  std::uint32_t used = 0;      ///< bytes of events
  std::uint32_t count = 0;     ///< entries
  std::uint32_t pins = 0;      ///< cursors in it and writes pending on it
  bool attached = true;        ///< still in its log
  bool mixed = false;          ///< holds entries that not everybody may see, or heartbeats

  [[nodiscard]] char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
  [[nodiscard]] const char* bytes() const noexcept {
    return reinterpret_cast<const char*>(this + 1);
  }
  [[nodiscard]] std::uint64_t end() const noexcept { return base + used; }
  [[nodiscard]] const entry& operator[](std::uint32_t k) const noexcept {
    SSEHUB_ASSERT(k < count);
    return back()[-1 - static_cast<std::ptrdiff_t>(k)];
  }
  [[nodiscard]] const char* data(const entry& e) const noexcept { return bytes() + e.begin; }
  [[nodiscard]] std::string_view text(const entry& e) const noexcept { return {data(e), e.size}; }
  [[nodiscard]] event_id id(const entry& e) const noexcept {
    return e.id == 0 ? no_id : id_base + e.id;
  }
  [[nodiscard]] std::uint64_t stamp(const entry& e) const noexcept { return stamp_base + e.stamp; }
  [[nodiscard]] std::int64_t at(const entry& e) const noexcept { return at_base + e.at; }
  [[nodiscard]] std::string_view audience(const entry& e) const noexcept {
    return {data(e) - e.audience, e.audience};
  }

  /// Whether the entry fits: room, and distances that have 32 bits.
  [[nodiscard]] bool fits(const new_entry& e) const noexcept {
    const std::uint64_t room =
        std::uint64_t{capacity} - used - std::uint64_t{count} * sizeof(entry);
    if (room < need(e)) return false;
    return count == 0 ||
           ((e.id == no_id || e.id - id_base <= UINT32_MAX) && e.stamp - stamp_base <= UINT32_MAX &&
            static_cast<std::uint64_t>(e.at - at_base) <= UINT32_MAX);
  }
  [[nodiscard]] static constexpr std::uint64_t need(const new_entry& e) noexcept {
    return std::uint64_t{e.size} + e.audience.size() + sizeof(entry);
  }
  /// Where the bytes of the next entry go. REQUIRES: fits(e).
  [[nodiscard]] char* place(const new_entry& e) noexcept {
    SSEHUB_ASSERT(fits(e));
    return bytes() + used + e.audience.size();
  }
  /// Makes them an entry. REQUIRES: fits(e).
  void commit(const new_entry& e) noexcept {
    SSEHUB_ASSERT(fits(e));
    if (count == 0) {
      id_base = e.id == no_id ? 0 : e.id - 1;
      stamp_base = e.stamp;
      at_base = e.at;
    }
    const std::uint32_t k = count;
    entry made;
    made.begin = used + static_cast<std::uint32_t>(e.audience.size());
    made.size = e.size;
    made.id = e.id == no_id ? 0 : static_cast<std::uint32_t>(e.id - id_base);
    made.stamp = static_cast<std::uint32_t>(e.stamp - stamp_base);
    made.at = static_cast<std::uint32_t>(e.at - at_base);
    made.audience = static_cast<std::uint16_t>(e.audience.size());
    if (e.heartbeat) {
      made.flags = entry::is_heartbeat;
      mixed = true;
    }
    if (!e.audience.empty()) add_private(made, e.audience);
    ::new (static_cast<void*>(back() - 1 - k)) entry(made);
    used = made.end();
    ++count;
  }
  /// The first entry from `k` on that everybody may see; `count`: there is none.
  [[nodiscard]] std::uint32_t next_public(std::uint32_t k) const noexcept {
    if (k >= count || (*this)[k].audience == 0) return k;
    const std::uint32_t start = run_begin(k);
    return start + (*this)[start].flags % (entry::run_mask + 1U);
  }
  /// The first entry from `lo` on that ends behind offset `pos` of the segment; `count`: none.
  [[nodiscard]] std::uint32_t locate(std::uint64_t pos, std::uint32_t lo = 0) const noexcept {
    return first_that([&](const entry& e) { return e.end() > pos; }, lo);
  }
  /// The first entry from `lo` on for which `holds`, given that it holds for all behind it.
  template <class Predicate>
  [[nodiscard]] std::uint32_t first_that(Predicate holds, std::uint32_t lo) const noexcept {
    std::uint32_t hi = count;
    while (lo < hi) {
      const std::uint32_t mid = lo + (hi - lo) / 2;
      if (holds((*this)[mid])) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }

 private:
  [[nodiscard]] entry* back() noexcept { return reinterpret_cast<entry*>(bytes() + capacity); }
  [[nodiscard]] const entry* back() const noexcept {
    return reinterpret_cast<const entry*>(bytes() + capacity);
  }
  /// The next entry is a private one.
  void add_private(entry& made, std::string_view name) noexcept {
    mixed = true;
    std::memcpy(bytes() + used, name.data(), name.size());
    if (count == 0 || (*this)[count - 1].audience == 0) {
      made.flags |= entry::run_start | 1U;
      return;
    }
    const std::uint32_t start = run_begin(count - 1);
    made.flags = static_cast<std::uint16_t>(made.flags | start);
    ++back()[-1 - static_cast<std::ptrdiff_t>(start)].flags;
  }
  [[nodiscard]] std::uint32_t run_begin(std::uint32_t k) const noexcept {
    const std::uint32_t flags = (*this)[k].flags;
    return (flags & entry::run_start) != 0 ? k : flags & entry::run_mask;
  }
};
static_assert(sizeof(segment) % alignof(entry) == 0, "entries stand at the end of its bytes");

/// Segments come in sizes that double, so that those that were used can be used again.
class segment_pool {
 public:
  static constexpr std::uint32_t smallest = 512;    ///< bytes, with the segment's own
  static constexpr std::uint32_t largest = 65'536;  ///< of those that are kept for use again

  segment_pool() noexcept = default;
  segment_pool(const segment_pool&) = delete;
  segment_pool& operator=(const segment_pool&) = delete;
  ~segment_pool() {
    for (segment*& list : spare_) {
      while (segment* s = list) {
        list = s->next;
        free_segment(s);
      }
    }
  }

  /// A segment of about `size` bytes in all, with room for `need` in any case; nullptr: memory is
  /// out, or `need` has more than 32 bits.
  [[nodiscard]] segment* take(std::uint64_t size, std::uint64_t need) noexcept {
    std::uint64_t all = smallest;
    std::uint32_t kind = 0;
    for (; (all < size || all - sizeof(segment) < need) && all < largest; all *= 2) ++kind;
    if (all - sizeof(segment) < need) {
      all = (need + sizeof(segment) + 15) / 16 * 16;
      if (all > 0xfffffff0U) return nullptr;
    } else if (segment* const s = spare_[kind]) {
      spare_[kind] = s->next;
      spare_bytes_ -= all;
      const std::uint32_t capacity = s->capacity;
      *s = segment{};
      s->capacity = capacity;
      return s;
    }
    void* const p = allocate(to_size(all));
    if (p == nullptr) return nullptr;
    auto* const s = ::new (p) segment{};
    s->capacity = static_cast<std::uint32_t>(all - sizeof(segment));
    held_ += all;
    return s;
  }
  void give_back(segment* s) noexcept {
    SSEHUB_ASSERT(s->pins == 0);
    const std::uint64_t all = s->capacity + sizeof(segment);
    std::uint32_t kind = 0;
    for (std::uint64_t n = smallest; n < all; n *= 2) ++kind;
    if (all > largest || all != std::uint64_t{smallest} << kind ||
        spare_bytes_ + all > max_spare_bytes) {
      free_segment(s);
      return;
    }
    spare_bytes_ += all;
    s->next = spare_[kind];
    spare_[kind] = s;
  }
  /// A cursor or a pending write lets go.
  void unpin(segment* s) noexcept {
    SSEHUB_ASSERT(s->pins != 0);
    if (--s->pins == 0 && !s->attached) give_back(s);
  }
  /// Bytes of all segments that exist, spare ones too.
  [[nodiscard]] std::uint64_t held() const noexcept { return held_; }

 private:
  static constexpr std::uint64_t max_spare_bytes = 16 * largest;
  static constexpr std::uint32_t kinds = 8;
  static_assert(largest / sizeof(entry) < entry::run_mask, "a run has 14 bits");
  static_assert(smallest << (kinds - 1) == largest);

  void free_segment(segment* s) noexcept {
    held_ -= s->capacity + sizeof(segment);
    s->~segment();
    deallocate(s);
  }

  segment* spare_[kinds] = {};
  std::uint64_t spare_bytes_ = 0;
  std::uint64_t held_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_SEGMENT_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Bytes that lie together.
struct run {
  enum : std::uint32_t { from_lane = none, from_chunk = none - 1 };
  const char* data;
  std::uint32_t size;
  std::uint32_t first;  ///< its first entry in seg; its bytes may begin inside of it
  segment* seg;         ///< nullptr: not from a log
  std::uint32_t from;   ///< a subscription, from_lane or from_chunk
  std::uint32_t count;  ///< entries; the last one is whole to its end

  /// `r` goes on where this one ends.
  [[nodiscard]] bool touches(const run& r) const noexcept {
    return from == r.from && seg == r.seg && seg != nullptr && data + size == r.data;
  }
  /// REQUIRES: touches(r).
  void add(const run& r) noexcept {
    SSEHUB_ASSERT(r.first == first + count);
    size += r.size;
    count += r.count;
  }
};

class batch {
 public:
  static constexpr std::uint32_t most_buffers = 16;
  /// A write of a transport that takes one buffer: a TLS record (RFC 8446 5.1).
  static constexpr std::uint32_t record = 16'384;

  batch() noexcept = default;
  batch(const batch&) = delete;
  batch& operator=(const batch&) = delete;
  ~batch() { deallocate(copy_); }

  bool all = false;        ///< nothing is left for the session once these are out
  bool paused = false;     ///< it had its share of work: there may be more
  bool logs_only = false;  ///< no lane, no chunks, nothing half sent

  /// `limit`: begin no further run at this total.
  void begin(std::uint64_t limit) noexcept {
    runs_.clear();
    total_ = 0;
    limit_ = limit;
    all = paused = logs_only = cut_ = false;
  }
  [[nodiscard]] bool full() const noexcept { return total_ >= limit_; }
  [[nodiscard]] std::uint64_t limit() const noexcept { return limit_; }
  [[nodiscard]] std::uint64_t total() const noexcept { return total_; }
  [[nodiscard]] bool empty() const noexcept { return runs_.empty(); }
  /// Some of what was gathered is not in it any more.
  [[nodiscard]] bool was_cut() const noexcept { return cut_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return runs_.size(); }
  [[nodiscard]] const run& operator[](std::uint32_t i) const noexcept { return runs_[i]; }

  /// Adds a run, to the one before it where the bytes touch. False: memory is out.
  [[nodiscard]] bool add(const run& r) noexcept {
    if (runs_.empty()) {
      if (runs_.capacity() == 0 && !make_room()) return false;
    } else {
      if (runs_.back().touches(r)) {
        runs_.back().add(r);
        total_ += r.size;
        return true;
      }
      if (!make_room()) return false;
    }
    runs_.push_reserved(r);
    total_ += r.size;
    return true;
  }
  /// Room for `n` more, which are made there; nullptr: memory is out.
  [[nodiscard]] run* room_for(std::uint32_t n) noexcept {
    return runs_.reserve(runs_.size() + n) ? runs_.end() : nullptr;
  }
  /// Those in front of `end` were, of so many bytes.
  void add_made(const run* end, std::uint64_t bytes) noexcept {
    runs_.extend_to(end);
    total_ += bytes;
  }
  /// Puts a run in front of run `at`. False: memory is out.
  [[nodiscard]] bool insert(std::uint32_t at, const run& r) noexcept {
    if (!make_room()) return false;
    runs_.insert_reserved(at, r);
    total_ += r.size;
    return true;
  }
  /// Takes bytes off the end, so that `total` are left.
  void cut(std::uint64_t total) noexcept {
    if (total_ <= total) return;
    cut_ = true;
    all = false;
    while (total_ > total) {
      run& last = runs_.back();
      const std::uint64_t excess = total_ - total;
      if (excess < last.size) {
        last.size -= static_cast<std::uint32_t>(excess);
        total_ = total;
      } else {
        total_ -= last.size;
        runs_.pop_back();
      }
    }
  }

  /// Few runs are shown as they lie; many, or many for a transport with one buffer, are copied into
  /// one. Nothing: memory is out.
  [[nodiscard]] std::span<const buffer> lay_out(std::uint32_t room) noexcept {
    if (runs_.size() != 1) return lay_out_many(room);
    copied_ = false;
    buffers_[0] = {runs_[0].data, runs_[0].size};
    return {buffers_, 1};
  }

 private:
  friend struct flight;

  [[nodiscard]] bool make_room() noexcept {
    const std::uint32_t n = runs_.capacity();
    return runs_.size() < n || runs_.reserve(n < 8 ? 8 : n * 2);
  }
  [[nodiscard]] std::span<const buffer> lay_out_many(std::uint32_t room) noexcept {
    if (room == 1 && runs_.size() > 1) {
      if (runs_[0].size >= record && runs_[0].seg != nullptr) {
        cut(runs_[0].size);
      } else {
        cut(record);
      }
    }
    const std::uint32_t n = runs_.size();
    copied_ = false;
    if (n <= room && (n <= 4 || total_ >= std::uint64_t{n} * 512)) {
      for (std::uint32_t i = 0; i < n; ++i) buffers_[i] = {runs_[i].data, runs_[i].size};
      return {buffers_, n};
    }
    if (total_ > copy_capacity_) {
      deallocate(copy_);
      copy_capacity_ = total_ < 4096 ? 4096 : to_size(total_);
      copy_ = static_cast<char*>(allocate(copy_capacity_));
      if (copy_ == nullptr) {
        copy_capacity_ = 0;
        return {};
      }
    }
    copied_ = true;
    char* out = copy_;
    for (const run& r : runs_) {
      std::memcpy(out, r.data, r.size);
      out += r.size;
    }
    buffers_[0] = {copy_, to_size(total_)};
    return {buffers_, 1};
  }

  vec<run> runs_;
  std::uint64_t total_ = 0;
  std::uint64_t limit_ = 0;
  char* copy_ = nullptr;
  std::size_t copy_capacity_ = 0;
  bool cut_ = false;
  bool copied_ = false;  ///< what is shown is the copy
  buffer buffers_[most_buffers];
};

/// A write that is pending, or a peek: its runs, and the copy if there is one, until it is over.
struct flight {
  vec<run> runs;
  union {
    char* copy = nullptr;  ///< while there are runs
    std::uint32_t link;    ///< of a free one
  };
  [[nodiscard]] std::uint32_t& free_link() noexcept { return link; }

  flight() noexcept = default;
  flight(const flight&) = delete;
  flight& operator=(const flight&) = delete;
  ~flight() {
    if (!runs.empty()) deallocate(copy);
  }

  [[nodiscard]] std::uint64_t total() const noexcept {
    std::uint64_t n = 0;
    for (const run& r : runs) n += r.size;
    return n;
  }
  /// Takes what `b` shows; `taken` of its bytes are under way.
  void begin(batch& b, std::uint64_t taken) noexcept {
    b.cut(taken);
    if (runs.reserve(b.runs_.size())) {
      runs.append_reserved(b.runs_.begin(), b.runs_.size());
    } else {  // its array is larger than that
      runs.swap(b.runs_);
    }
    b.runs_.clear();
    copy = nullptr;
    if (b.copied_ && !runs.empty()) {
      copy = std::exchange(b.copy_, nullptr);
      b.copy_capacity_ = 0;
    }
  }
  /// Shows it again, as many pieces as there is room for; returns how many.
  std::size_t show(std::span<buffer> out) const noexcept {
    if (out.empty()) return 0;
    if (copy != nullptr) {
      out[0] = {copy, to_size(total())};
      return 1;
    }
    std::size_t n = 0;
    for (; n < runs.size() && n < out.size(); ++n) {
      const run& r = runs[static_cast<std::uint32_t>(n)];
      out[n] = {r.data, r.size};
    }
    return n;
  }
  /// `keep`: the room for a few runs stays for the next one.
  void end(bool keep) noexcept {
    deallocate(std::exchange(copy, nullptr));
    if (!keep || runs.capacity() > 8) runs.release();
    runs.clear();
  }
};
static_assert(sizeof(flight) <= 24, "as many as sessions have ever been written to at once");

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_BATCH_HPP
// ---- sse/detail/engine/caps.hpp
//
// caps: how many streams there are in all, of each user and from each address, which of them is the
// oldest, and whether one more fits. It knows sessions by their slots only.
#ifndef SSEHUB_DETAIL_ENGINE_CAPS_HPP
#define SSEHUB_DETAIL_ENGINE_CAPS_HPP

#include <cstdint>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The names under which a stream counts, held from name() on. none: it has no such name.
struct counted_names {
  std::uint32_t user = none;
  std::uint32_t address = none;
};

inline constexpr unsigned cap_kinds = static_cast<unsigned>(cap_counter::kind::address) + 1;

/// Streams that have to go so that one more fits: one for each cap at the most.
struct victims {
  struct one {
    std::uint32_t slot;
    duration retry;
  };
  one list[cap_kinds] = {};
  std::uint32_t count = 0;
};

class caps {
 public:
  caps(const limits& l, cap_counter* counter, std::uint64_t seed) noexcept
      : limits_{l}, counter_{counter}, users_{seed}, addresses_{seed} {}

  [[nodiscard]] const limits& options() const noexcept { return limits_; }

  /// Takes the names. False: memory is out, none is taken.
  [[nodiscard]] bool name(std::string_view key, std::string_view from,
                          counted_names& out) noexcept {
    out = {};
    if (!key.empty() && (out.user = users_.acquire(key)) == none) return false;
    if (!from.empty() && (out.address = addresses_.acquire(from)) == none) {
      drop(out);
      return false;
    }
    return true;
  }
  void drop(counted_names& n) noexcept {
    if (n.user != none) users_.release(n.user);
    if (n.address != none) addresses_.release(n.address);
    n = {};
  }

  /// The cap in all that refuses one more, before anybody is asked; nullptr: none. Only who is
  /// admitted may evict.
  [[nodiscard]] const cap* full() const noexcept {
    const cap& c = limits_.total;
    return c.max != 0 && c.then != when_full::evict_oldest && held_total() >= c.max ? &c : nullptr;
  }
  /// The cap per address, where it refuses one more of `from` whoever that is; nullptr: not so. A
  /// user's own stream may make room where the cap per user evicts.
  [[nodiscard]] const cap* full(std::string_view from) const noexcept {
    const cap& c = limits_.per_address;
    if (c.max == 0 || from.empty() || c.then == when_full::evict_oldest || users_evict())
      return nullptr;
    const std::uint32_t i = addresses_.find(from);
    const std::uint32_t here = i == none ? 0 : addresses_[i].count;
    return held(cap_counter::kind::address, c, from, here) >= c.max ? &c : nullptr;
  }
  /// The first cap that refuses one more under these names; nullptr: it fits once the victims are
  /// gone.
  [[nodiscard]] const cap* refusing(const counted_names& n, victims& v) noexcept {
    using kind = cap_counter::kind;
    if (n.user != none) {
      const cap& c = limits_.per_user;
      const std::uint32_t here = held(kind::user, c, users_.name_of(n.user), users_[n.user].count);
      if (!fits(c, here, leaving(v, n.user, none), oldest_of(users_[n.user]), v)) return &c;
    }
    if (n.address != none) {
      const cap& c = limits_.per_address;
      const std::uint32_t here =
          held(kind::address, c, addresses_.name_of(n.address), addresses_[n.address].count);
      if (!fits(c, here, leaving(v, none, n.address), addresses_[n.address].ages.first, v))
        return &c;
    }
    const cap& c = limits_.total;
    return fits(c, held_total(), leaving(v, none, none), all_.first, v) ? nullptr : &c;
  }
  /// Takes places with the counter that several hubs share, all or none: between the look and this
  /// another hub may have been faster. Where a victim makes room its place is given back right
  /// after. nullptr: taken, else the cap that refuses.
  [[nodiscard]] const cap* take_places(const counted_names& n, const victims& v) noexcept {
    if (counter_ == nullptr) return nullptr;
    using kind = cap_counter::kind;
    std::uint32_t taken = 0;
    const auto take = [&](kind k, const cap& c, std::string_view name, std::uint32_t go) {
      if (c.max == 0) return true;
      if (!counter_->take(k, name, go != 0 ? 0 : c.max)) return false;
      taken |= 1U << static_cast<unsigned>(k);
      return true;
    };
    const cap* full = nullptr;
    if (n.user != none &&
        !take(kind::user, limits_.per_user, users_.name_of(n.user), leaving(v, n.user, none))) {
      full = &limits_.per_user;
    } else if (n.address != none &&
               !take(kind::address, limits_.per_address, addresses_.name_of(n.address),
                     leaving(v, none, n.address))) {
      full = &limits_.per_address;
    } else if (!take(kind::total, limits_.total, {}, leaving(v, none, none))) {
      full = &limits_.total;
    }
    if (full != nullptr) give_back_places(n, taken);
    return full;
  }
  /// Counts a request that waits for its verdict, of its address and in all. Nobody has to go for
  /// it: who is admitted may evict. nullptr: done, else the cap that refuses.
  [[nodiscard]] const cap* begin_wait(const counted_names& n) noexcept {
    victims v;
    const cap* full = refusing(n, v);
    if (full == nullptr) full = take_places(n, v);
    if (full != nullptr) return full;
    ++waiting_;
    if (n.address != none) ++addresses_[n.address].count;
    return nullptr;
  }
  /// Drops the names too.
  void end_wait(counted_names& n) noexcept {
    give_back_places(n);
    --waiting_;
    if (n.address != none) --addresses_[n.address].count;
    drop(n);
  }

  void give_back_places(const counted_names& n,
                        std::uint32_t kinds = (1U << cap_kinds) - 1) noexcept {
    if (counter_ == nullptr) return;
    using kind = cap_counter::kind;
    const auto give = [&](kind k, const cap& c, std::string_view name) {
      if (c.max != 0 && (kinds & (1U << static_cast<unsigned>(k))) != 0)
        counter_->give_back(k, name);
    };
    if (n.user != none) give(kind::user, limits_.per_user, users_.name_of(n.user));
    if (n.address != none) give(kind::address, limits_.per_address, addresses_.name_of(n.address));
    give(kind::total, limits_.total, {});
  }

  /// Makes room for slots below `n`, so that enter() cannot fail.
  [[nodiscard]] bool reserve(std::uint32_t n) noexcept {
    return seats_.reserve(n) && (!total_evicts() || by_age_.reserve(n)) &&
           (!addresses_evict() || by_address_.reserve(n));
  }
  /// Counts a stream, as the newest. Takes the names over.
  void enter(std::uint32_t slot, const counted_names& n) noexcept {
    seat& s = seats_[slot];
    s = seat{};
    SSEHUB_ASSERT(n.user + 1U <= 0x7fffffffU);
    s.user_plus_one = (n.user + 1U) & 0x7fffffffU;
    s.address = n.address;
    s.counted = 1;
    ++total_;
    if (total_evicts()) append(all_, by_age_, slot);
    if (n.address != none) {
      ++addresses_[n.address].count;
      if (addresses_evict()) append(addresses_[n.address].ages, by_address_, slot);
    }
    if (n.user == none) return;
    user& u = users_[n.user];
    ++u.count;
    s.prev = u.last;
    (u.last == none ? u.first : seats_[u.last].next) = slot;
    u.last = slot;
  }
  /// A slot that is not counted.
  void enter_uncounted(std::uint32_t slot) noexcept { seats_[slot] = seat{}; }
  /// Gives its place back; it stays on its user's list until leave(). Once.
  void count_out(std::uint32_t slot) noexcept {
    seat& s = seats_[slot];
    if (s.counted == 0) return;
    s.counted = 0;
    --total_;
    const counted_names n = s.names();
    give_back_places(n);
    if (total_evicts()) unlink(all_, by_age_, slot);
    if (n.address != none) {
      --addresses_[n.address].count;
      if (addresses_evict()) unlink(addresses_[n.address].ages, by_address_, slot);
      addresses_.release(n.address);
      s.address = none;
    }
    if (n.user != none) --users_[n.user].count;
  }
  /// Takes it off its user's list; the name stays until forget().
  void leave(std::uint32_t slot) noexcept {
    const seat& s = seats_[slot];
    const std::uint32_t who = s.names().user;
    if (who == none) return;
    user& u = users_[who];
    (s.prev == none ? u.first : seats_[s.prev].next) = s.next;
    (s.next == none ? u.last : seats_[s.next].prev) = s.prev;
  }
  void forget(std::uint32_t slot) noexcept {
    seat& s = seats_[slot];
    if (const std::uint32_t u = s.names().user; u != none) users_.release(u);
    s = seat{};
  }

  [[nodiscard]] std::uint32_t total() const noexcept { return total_; }
  [[nodiscard]] std::uint32_t find_user(std::string_view key) const noexcept {
    return users_.find(key);
  }
  [[nodiscard]] std::uint32_t count_of_user(std::string_view key) const noexcept {
    const std::uint32_t i = users_.find(key);
    return i == none ? 0 : users_[i].count;
  }
  /// The user of a slot; none.
  [[nodiscard]] std::uint32_t user_of(std::uint32_t slot) const noexcept {
    return seats_[slot].names().user;
  }
  [[nodiscard]] std::string_view key_of(std::uint32_t slot) const noexcept {
    const std::uint32_t u = user_of(slot);
    return u == none ? std::string_view{} : users_.name_of(u);
  }
  [[nodiscard]] std::uint64_t hash_of_user(std::uint32_t u) const noexcept {
    return users_.hash_of(u);
  }
  /// A user's streams, oldest first, also those that are not counted any more.
  [[nodiscard]] std::uint32_t first_of(std::uint32_t u) const noexcept { return users_[u].first; }
  [[nodiscard]] std::uint32_t next_of_user(std::uint32_t slot) const noexcept {
    return seats_[slot].next;
  }

 private:
  struct ends {
    std::uint32_t first = none;
    std::uint32_t last = none;
  };
  struct user {
    std::uint32_t count = 0;  ///< streams that count
    std::uint32_t first = none;
    std::uint32_t last = none;
  };
  struct address {
    std::uint32_t count = 0;
    ends ages;  ///< only where that cap evicts
  };
  /// One for each session: kept small.
  struct seat {
    std::uint32_t user_plus_one : 31 = 0;  ///< 0: none
    std::uint32_t counted : 1 = 0;
    std::uint32_t address = none;
    std::uint32_t next = none;  ///< of the same user
    std::uint32_t prev = none;

    [[nodiscard]] counted_names names() const noexcept {
      return {user_plus_one == 0 ? none : user_plus_one - 1U, address};
    }
  };
  static_assert(sizeof(seat) == 16, "one for each session");
  struct neighbours {
    std::uint32_t next = none;
    std::uint32_t prev = none;
  };
  using ages = chunked_array<neighbours>;

  [[nodiscard]] bool total_evicts() const noexcept {
    return limits_.total.max != 0 && limits_.total.then == when_full::evict_oldest;
  }
  [[nodiscard]] bool users_evict() const noexcept {
    return limits_.per_user.max != 0 && limits_.per_user.then == when_full::evict_oldest;
  }
  [[nodiscard]] bool addresses_evict() const noexcept {
    return limits_.per_address.max != 0 && limits_.per_address.then == when_full::evict_oldest;
  }
  static void append(ends& list, ages& links, std::uint32_t slot) noexcept {
    links[slot] = {none, list.last};
    (list.last == none ? list.first : links[list.last].next) = slot;
    list.last = slot;
  }
  static void unlink(ends& list, ages& links, std::uint32_t slot) noexcept {
    const neighbours& n = links[slot];
    (n.prev == none ? list.first : links[n.prev].next) = n.next;
    (n.next == none ? list.last : links[n.next].prev) = n.prev;
  }
  /// The oldest stream of a user that counts.
  [[nodiscard]] std::uint32_t oldest_of(const user& u) const noexcept {
    std::uint32_t slot = u.first;
    while (slot != none && seats_[slot].counted == 0) slot = seats_[slot].next;
    return slot;
  }
  [[nodiscard]] std::uint32_t held(cap_counter::kind k, const cap& c, std::string_view name,
                                   std::uint32_t here) const noexcept {
    return counter_ != nullptr && c.max != 0 ? counter_->count(k, name) : here;
  }
  [[nodiscard]] std::uint32_t held_total() const noexcept {
    return held(cap_counter::kind::total, limits_.total, {}, total_ + waiting_);
  }
  /// How many of the victims a cap counts.
  [[nodiscard]] std::uint32_t leaving(const victims& v, std::uint32_t u,
                                      std::uint32_t a) const noexcept {
    std::uint32_t n = 0;
    for (std::uint32_t i = 0; i < v.count; ++i) {
      const counted_names x = seats_[v.list[i].slot].names();
      if ((u == none || x.user == u) && (a == none || x.address == a)) ++n;
    }
    return n;
  }
  /// Whether one more fits under a cap once `leaving` are gone; the oldest may be needed for it.
  [[nodiscard]] static bool fits(const cap& c, std::uint32_t count, std::uint32_t leaving,
                                 std::uint32_t oldest, victims& v) noexcept {
    if (c.max == 0 || count - leaving < c.max) return true;
    if (c.then != when_full::evict_oldest || oldest == none) return false;
    for (std::uint32_t i = 0; i < v.count; ++i) {
      if (v.list[i].slot == oldest) return false;  // it goes already, and that is not enough
    }
    v.list[v.count++] = {oldest, c.retry_after};
    return true;
  }

  limits limits_;
  cap_counter* counter_;
  name_table<user> users_;
  name_table<address> addresses_;
  chunked_array<seat> seats_;
  ages by_age_;      ///< only where the cap in all evicts
  ages by_address_;  ///< only where the cap per address evicts
  ends all_;
  std::uint32_t total_ = 0;
  std::uint32_t waiting_ = 0;  ///< for their verdicts
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_CAPS_HPP
// ---- sse/detail/engine/channel_state.hpp
//
// What is behind a channel: its log, its rules, its counters; and how a handle (sse::channel) knows
// that it is still there.
#ifndef SSEHUB_DETAIL_ENGINE_CHANNEL_STATE_HPP
#define SSEHUB_DETAIL_ENGINE_CHANNEL_STATE_HPP

#include <cstdint>
#include <string_view>

// ---- sse/detail/engine/stream.hpp
//
// stream: a log and those who read it. A channel has one for its events and, once needed, one for
// transient ones.
#ifndef SSEHUB_DETAIL_ENGINE_STREAM_HPP
#define SSEHUB_DETAIL_ENGINE_STREAM_HPP

#include <cstdint>

// ---- sse/detail/log/audience_index.hpp
//
// audience_index: which entries of a log are for which audience, so that a reader finds its next
// one without looking at those of others.
#ifndef SSEHUB_DETAIL_LOG_AUDIENCE_INDEX_HPP
#define SSEHUB_DETAIL_LOG_AUDIENCE_INDEX_HPP

#include <cstdint>
#include <string_view>

// ---- sse/detail/log/event_log.hpp
//
// event_log: a channel's events as encoded bytes in segments, each with the index of its own
// entries, and what is retained for resuming. Used by the hub; a program that wants a stream uses a
// channel.
//
// Invariants:
//   1. Bytes never change or move after append (segment.hpp).
//   2. A pinned segment stays, even after the log let it go (detached).
//   3. Retained entries are the newest ones within `retention`, exactly; the log holds more only
//      while somebody reads it.
//   4. It holds at most about 1.4 times the bytes that it retains, and a segment more: a new
//      segment has an eighth of what is held, between 512 bytes and 64 KiB, or what is
//      expected (expect_like).
//
// Not thread-safe: it belongs to the hub's thread.
#ifndef SSEHUB_DETAIL_LOG_EVENT_LOG_HPP
#define SSEHUB_DETAIL_LOG_EVENT_LOG_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// What a log keeps for those who resume. An entry is kept while all three hold.
struct retention {
  std::uint64_t events = 1000;       ///< newest entries kept; exact
  std::uint64_t bytes = UINT64_MAX;  ///< kept, audiences counted
  duration age = duration::off();    ///< off: any age
};

/// A place in a log: in front of an entry, or behind the last one of its segment.
struct log_place {
  segment* seg = nullptr;
  std::uint32_t k = 0;

  [[nodiscard]] std::uint64_t ordinal() const noexcept { return seg->first + k; }
  [[nodiscard]] std::uint64_t offset() const noexcept {
    return seg->base + (k < seg->count ? (*seg)[k].begin - (*seg)[k].audience : seg->used);
  }
  /// In front of an entry of its segment; at the end of one that has a newer neighbour it moves
  /// there. False: at the end of the log, or of a segment that left it.
  [[nodiscard]] bool find_entry() noexcept {
    while (k == seg->count) {
      if (!seg->attached || seg->next == nullptr) return false;
      seg = seg->next;
      k = 0;
    }
    return true;
  }
  [[nodiscard]] const entry& get() const noexcept { return (*seg)[k]; }
};

class event_log {
 public:
  event_log(segment_pool& pool, const retention& keep) noexcept : pool_{&pool}, keep_{keep} {}
  event_log(const event_log&) = delete;
  event_log& operator=(const event_log&) = delete;
  ~event_log() {
    while (!segments_.empty()) drop_head();
  }

  /// Room for the bytes of an entry, or nullptr when memory is out; nothing changes until commit()
  /// with the same.
  [[nodiscard]] char* prepare(const new_entry& e) noexcept {
    if (segments_.empty() || !tail()->fits(e)) {
      const std::uint64_t eighth = held_bytes() / 8;
      if (!add_segment(eighth > expected_ ? eighth : expected_, segment::need(e))) return nullptr;
    }
    return tail()->place(e);
  }
  /// Makes the prepared bytes an entry.
  void commit(const new_entry& e) noexcept {
    tail()->commit(e);
    retained_bytes_ += e.size + e.audience.size();
    if (!e.audience.empty()) selective_ = true;
    if (e.id != no_id) last_id_ = e.id;
  }
  /// Makes sure that a cursor has a segment to stand in.
  [[nodiscard]] bool ensure_tail() noexcept {
    return !segments_.empty() || add_segment(segment_pool::smallest, 0);
  }

  /// From `p` to the end is what a turn brings: a segment has room for as much, up to 2 KiB.
  void expect_like(const log_place& p) noexcept {
    const std::uint64_t n =
        end_offset() - p.offset() + (end() - p.ordinal()) * sizeof(entry) + sizeof(segment);
    expected_ = static_cast<std::uint32_t>(n < most_expected ? n : most_expected);
  }

  /// Lets entries go that retention no longer covers, and segments that nobody needs. `dropped` is
  /// called with each segment before it goes.
  template <class Dropped>
  void trim(std::int64_t now, Dropped dropped) noexcept {
    if (segments_.empty()) return;
    if (keep_.events == 0) {  // that is known without a look at them
      kept_ = end_place();
      retained_bytes_ = 0;
      forgotten_id_ = last_id_;
    }
    while (kept_.find_entry()) {
      const entry& e = kept_.get();
      const bool fits = retained_events() <= keep_.events && retained_bytes_ <= keep_.bytes &&
                        (keep_.age.is_off() || now - kept_.seg->at(e) < keep_.age.ms());
      if (fits) break;
      retained_bytes_ -= e.size + e.audience;
      if (e.id != 0) forgotten_id_ = kept_.seg->id(e);
      ++kept_.k;
    }
    drop_unread(dropped);
  }
  /// The segments that nobody needs, of what retention let go before.
  template <class Dropped>
  void drop_unread(Dropped dropped) noexcept {
    while (kept_.seg != nullptr && head() != kept_.seg && head()->pins == 0) drop_head(dropped);
  }
  void trim(std::int64_t now) noexcept {
    trim(now, [](segment&) {});
  }
  /// Lets every segment go that ends at or before `offset` and is not retained, also while somebody
  /// still pins it.
  template <class Dropped>
  void detach_before(std::uint64_t offset, Dropped dropped) noexcept {
    // A cursor in an empty segment at `offset` goes on from there.
    while (!segments_.empty() && head() != tail() && head() != kept_.seg &&
           (head()->end() < offset ||
            (head()->end() == offset && (head()->used != 0 || head()->pins == 0)))) {
      drop_head(dropped);
    }
  }
  void detach_before(std::uint64_t offset) noexcept {
    detach_before(offset, [](segment&) {});
  }

  /// When retention by age next lets an entry go; max: never.
  [[nodiscard]] std::int64_t next_expiry() const noexcept {
    if (keep_.age.is_off() || retained_events() == 0) return INT64_MAX;
    log_place p = kept_;
    (void)p.find_entry();
    return p.seg->at(p.get()) + keep_.age.ms();
  }

  // Entries, by ordinal. [first, end) is stored, [retained, end) may be replayed.
  [[nodiscard]] std::uint64_t first() const noexcept {
    return segments_.empty() ? 0 : head()->first;
  }
  [[nodiscard]] std::uint64_t end() const noexcept {
    return segments_.empty() ? 0 : tail()->first + tail()->count;
  }
  [[nodiscard]] std::uint64_t retained() const noexcept {
    return segments_.empty() ? 0 : kept_.ordinal();
  }
  /// The place in front of an entry, or at the end. O(log segments). REQUIRES: there is a segment;
  /// first() <= ordinal <= end().
  [[nodiscard]] log_place at(std::uint64_t ordinal) const noexcept {
    SSEHUB_ASSERT(!segments_.empty() && ordinal >= first() && ordinal <= end());
    segment* const s =
        segments_[segment_that([&](const segment& x) { return x.first + x.count > ordinal; })];
    return {s, static_cast<std::uint32_t>(ordinal - s->first)};
  }
  [[nodiscard]] log_place end_place() const noexcept { return {tail(), tail()->count}; }

  /// The first retained entry with an id above `after`; end() if there is none. O(log n).
  /// REQUIRES: the entries have ids.
  [[nodiscard]] std::uint64_t find(event_id after) const noexcept {
    if (segments_.empty() || after >= last_id_) return end();
    const segment& s = *segments_[segment_that(
        [&](const segment& x) { return x.count != 0 && x.id(x[x.count - 1]) > after; })];
    const std::uint64_t found =
        s.first + s.first_that([&](const entry& e) { return s.id(e) > after; }, 0);
    return found < retained() ? retained() : found;
  }
  /// The n-th newest entry, or the oldest retained one.
  [[nodiscard]] std::uint64_t newest(std::uint64_t n) const noexcept {
    return n < retained_events() ? end() - n : retained();
  }
  /// The id of the entry at `ordinal`. REQUIRES: first() <= ordinal < end().
  [[nodiscard]] event_id id_at(std::uint64_t ordinal) const noexcept {
    const log_place p = at(ordinal);
    return p.seg->id(p.get());
  }
  /// The id in front of `p`; no_id if there never was one.
  [[nodiscard]] event_id id_before(const log_place& p) const noexcept {
    if (p.k > 0) return p.seg->id((*p.seg)[p.k - 1]);
    return p.ordinal() > first() ? id_at(p.ordinal() - 1) : dropped_id_;
  }

  [[nodiscard]] segment* tail() const noexcept { return segments_[segments_.end() - 1]; }
  [[nodiscard]] segment* head() const noexcept { return segments_[segments_.first()]; }
  [[nodiscard]] bool has_segment() const noexcept { return !segments_.empty(); }
  [[nodiscard]] std::uint64_t end_offset() const noexcept {
    return segments_.empty() ? 0 : tail()->end();
  }
  [[nodiscard]] event_id last_id() const noexcept { return last_id_; }
  /// The newest id that retention let go, or that a channel of this name had before; no_id: none.
  [[nodiscard]] event_id forgotten_id() const noexcept { return forgotten_id_; }
  /// Ids up to `id` were given out before this log began.
  void forget_up_to(event_id id) noexcept { last_id_ = forgotten_id_ = dropped_id_ = id; }
  [[nodiscard]] std::uint64_t retained_events() const noexcept { return end() - retained(); }
  [[nodiscard]] std::uint64_t retained_bytes() const noexcept { return retained_bytes_; }
  /// Some entry had an audience: not everybody gets all.
  [[nodiscard]] bool selective() const noexcept { return selective_; }
  [[nodiscard]] const retention& keep() const noexcept { return keep_; }
  /// Bytes held for readers that are behind, not for retention.
  [[nodiscard]] std::uint64_t backlog() const noexcept {
    return segments_.empty() ? 0 : kept_.seg->base - head()->base;
  }

 private:
  static constexpr std::uint32_t most_expected = 2048;

  [[nodiscard]] std::uint64_t held_bytes() const noexcept {
    return segments_.empty() ? 0 : tail()->end() - head()->base;
  }
  [[nodiscard]] bool add_segment(std::uint64_t size, std::uint64_t need) noexcept {
    if (!segments_.reserve_one()) return false;
    segment* const s = pool_->take(size, need);
    if (s == nullptr) return false;
    s->base = end_offset();
    s->first = end();
    const bool none_before = segments_.empty();
    if (!none_before) tail()->next = s;
    segments_.push_reserved(s);
    if (none_before) {
      kept_ = {s, 0};
    } else {
      (void)kept_.find_entry();  // nothing retained: it stands at the very end, in the new one
    }
    return true;
  }
  /// The first segment for which `holds`, given that it holds for all behind it; the last one if
  /// for none.
  template <class Predicate>
  [[nodiscard]] std::uint64_t segment_that(Predicate holds) const noexcept {
    std::uint64_t lo = segments_.first();
    std::uint64_t hi = segments_.end() - 1;
    while (lo < hi) {
      const std::uint64_t mid = lo + (hi - lo) / 2;
      if (holds(*segments_[mid])) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
  template <class Dropped>
  void drop_head(Dropped dropped) noexcept {
    segment* const s = head();
    if (s->count != 0 && (*s)[s->count - 1].id != 0) dropped_id_ = s->id((*s)[s->count - 1]);
    dropped(*s);
    segments_.pop_front();
    s->attached = false;
    s->next = nullptr;
    if (s->pins == 0) pool_->give_back(s);
  }
  void drop_head() noexcept {
    drop_head([](segment&) {});
  }

  segment_pool* pool_;
  retention keep_;
  ring<segment*> segments_;
  log_place kept_;  ///< in front of the oldest retained entry; in the tail's end if there is none
  std::uint64_t retained_bytes_ = 0;
  std::uint32_t expected_ = 0;  ///< bytes of a new segment at least
  bool selective_ = false;
  event_id last_id_ = no_id;
  event_id forgotten_id_ = no_id;
  event_id dropped_id_ = no_id;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_EVENT_LOG_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The entries of a log that are for one audience, one after the other. Stands until something is
/// published.
class own_entries {
 public:
  own_entries() noexcept = default;  ///< not known()
  explicit own_entries(const ring<std::uint64_t>& ordinals) noexcept
      : all_{ordinals.view()}, at_{ordinals.first()}, next_{all_[at_]} {}
  /// Of one who has none.
  [[nodiscard]] static own_entries nobody() noexcept {
    own_entries e;
    e.next_ = UINT64_MAX;
    return e;
  }
  [[nodiscard]] bool known() const noexcept { return next_ != unknown; }
  /// The first from `ordinal` on; UINT64_MAX: none. O(1) where at most one was passed since, else
  /// O(log of its entries). REQUIRES: known(); `ordinal` is not below what was asked before.
  [[nodiscard]] std::uint64_t from(std::uint64_t ordinal) noexcept {
    if (next_ >= ordinal) return next_;
    if (++at_ != all_.end && all_[at_] < ordinal) pass(ordinal);
    next_ = at_ != all_.end ? all_[at_] : UINT64_MAX;
    return next_;
  }

 private:
  static constexpr std::uint64_t unknown = UINT64_MAX - 1;

  /// More than one was passed.
  void pass(std::uint64_t ordinal) noexcept {
    const std::uint64_t newest = all_[all_.end - 1];
    if (newest < ordinal) {
      at_ = all_.end;
      return;
    }
    std::uint64_t hi = all_.end - 1;
    // Each of those from `ordinal` on has another ordinal: so many at most.
    if (newest - ordinal < hi - at_) at_ = hi - (newest - ordinal);
    while (at_ < hi) {
      const std::uint64_t mid = at_ + (hi - at_) / 2;
      if (all_[mid] >= ordinal) {
        hi = mid;
      } else {
        at_ = mid + 1;
      }
    }
  }

  ring<std::uint64_t>::window all_{};
  std::uint64_t at_ = 0;
  std::uint64_t next_ = unknown;  ///< the one at `at_`
};

class audience_index {
 public:
  explicit audience_index(std::uint64_t seed) noexcept : names_{seed} {}

  /// The entry `ordinal`, which is about to be appended, is for `audience`. False: memory is out.
  [[nodiscard]] bool add(std::string_view audience, std::uint64_t ordinal) noexcept {
    std::uint32_t i = names_.find(audience);
    if (i == none && (i = names_.acquire(audience)) == none) return false;
    posting& p = names_[i];
    if (!p.entries.reserve_one()) {
      if (p.entries.empty()) names_.release(i);
      return false;
    }
    p.entries.push_reserved(ordinal);
    return true;
  }
  /// A segment leaves the log: the oldest.
  void drop(const segment& s) noexcept {
    if (!s.mixed) return;
    for (std::uint32_t k = 0; k < s.count; ++k) {
      if (s[k].audience == 0) continue;
      const std::uint32_t i = names_.find(s.audience(s[k]));
      if (i == none) continue;
      posting& p = names_[i];
      SSEHUB_ASSERT(p.entries[p.entries.first()] == s.first + k);
      p.entries.pop_front();
      if (p.entries.empty()) names_.release(i);
    }
  }
  /// The entries for `audience`, whose hash by this table's seed is `hash`.
  [[nodiscard]] own_entries of(std::string_view audience, std::uint64_t hash) const noexcept {
    const std::uint32_t i = names_.find(audience, hash);
    return i == none ? own_entries::nobody() : own_entries{names_[i].entries};
  }
  [[nodiscard]] own_entries of(std::string_view audience) const noexcept {
    const std::uint32_t i = audience.empty() ? none : names_.find(audience);
    return i == none ? own_entries::nobody() : own_entries{names_[i].entries};
  }
  [[nodiscard]] std::uint32_t audiences() const noexcept { return names_.size(); }

 private:
  struct posting {
    ring<std::uint64_t> entries;  ///< ordinals, rising
  };
  name_table<posting, 8> names_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_AUDIENCE_INDEX_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Ids in order: `last` was given out last; nothing at or below `start` is of this run.
struct sequence {
  event_id start = no_id;
  event_id last = no_id;
};

struct stream {
  stream(segment_pool& pool, const retention& keep, channel_state& c) noexcept
      : log{pool, keep}, owner{&c} {}
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  ~stream() {
    if (audiences == nullptr) return;
    audiences->~audience_index();
    deallocate(audiences);
  }

  event_log log;
  /// Subscriptions. The last `selecting` of them chose their keys, and are not served for the
  /// others.
  vec<std::uint32_t> readers;
  channel_state* owner;
  /// Made with the first entry that has an audience, unless the hook is asked from the start.
  audience_index* audiences = nullptr;
  stream* touched_next = nullptr;  ///< in the engine's list of streams to look at after the walk
  stream* touched_prev = nullptr;
  /// End offset at which somebody may be over a lag limit.
  std::uint64_t lag_check_at = UINT64_MAX;
  std::uint64_t backlog = 0;   ///< as last counted into the hub's sum
  std::uint64_t sweep_at = 0;  ///< backlog at which readers that see nothing there are moved on
  log_place handed_out{};      ///< transients: what is behind it nobody has yet; pinned
  std::uint32_t index = none;  ///< in engine::streams_
  std::uint32_t by_backlog = none;  ///< place in engine::backlogs_
  /// Ordinal, modulo 2^32: what is in front of it was there in a flush before.
  std::uint32_t settled = 0;
  std::uint32_t selecting = 0;  ///< of `readers`
  bool touched = false;         ///< in that list
  bool dirty = false;           ///< got entries since the last flush that all readers may see,
  bool for_all = false;         ///< also those that chose their keys
  bool transients = false;      ///< transient entries: no ids, nothing retained
  bool ask = false;             ///< has entries that are not in `audiences`: the hook is asked

  /// Lets go what retention does not cover and nobody reads.
  void trim(std::int64_t now) noexcept {
    log.trim(now, [this](segment& s) { dropped(s); });
  }
  /// What was let go before and nobody reads any more.
  void drop_unread() noexcept {
    log.drop_unread([this](segment& s) { dropped(s); });
  }
  void detach_before(std::uint64_t offset) noexcept {
    log.detach_before(offset, [this](segment& s) { dropped(s); });
  }

 private:
  void dropped(segment& s) noexcept {
    if (audiences != nullptr) audiences->drop(s);
  }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_STREAM_HPP
// ---- sse/detail/log/newest_by_key.hpp
//
// newest_by_key: the newest event of each (audience, key) of a channel, each in a slot that it
// keeps while it is there. What a reader that conflates, or begins with a snapshot, still has to
// see is found in the order of the slots, and what did not change is not looked at: above the
// positions stands the highest of each 64, and of each 4,096. Beside them: which retained events
// had no key, and what was lost.
//
// An erased key keeps its slot with the event that says so, for those who have its value.
//
// Memory: at most `most` values with an event each; the key that was erased first goes first, then
// the one that was silent longest. 24
// bytes for each retained event without a key, and `max_audiences` audiences that lost something.
#ifndef SSEHUB_DETAIL_LOG_NEWEST_BY_KEY_HPP
#define SSEHUB_DETAIL_LOG_NEWEST_BY_KEY_HPP

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

// ---- sse/detail/log/key_watchers.hpp
//
// key_watchers: who wants which keys of a channel. A publish finds those who want its key; each of
// them finds what changed for it, without looking at what did not.
#ifndef SSEHUB_DETAIL_LOG_KEY_WATCHERS_HPP
#define SSEHUB_DETAIL_LOG_KEY_WATCHERS_HPP

#include <cstdint>
#include <string_view>
#include <utility>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// One reader's wish for one key. While its values changed and were not taken it stands in the
/// reader's queue, where the first change put it: so no key waits longer than all others take.
struct key_watch {
  enum class at : std::uint8_t {
    rest,
    queue,
    write,  ///< its values are in a write that is not over
  };
  /// Position of the first change that was not taken; queue: with all values from there on. 0: all,
  /// and of those that are lost nothing is said, since they came before the wish. 1: all.
  std::uint64_t due = 0;
  std::uint32_t key = none;     ///< in key_watchers
  std::uint32_t reader = none;  ///< none: given up while it was linked, or in a write
  std::uint32_t newer = none;   ///< the key's watches, in no order
  std::uint32_t older = none;
  std::uint32_t queue_next = none;
  at where = at::rest;
  bool changed = false;  ///< write: since it was taken
  bool linked = false;   ///< has a place in the queue, also if it rests meanwhile
  [[nodiscard]] std::uint32_t& free_link() noexcept { return queue_next; }
};

/// What one reader watches: an open table by key, and the queue.
struct watch_list {
  vec<std::uint32_t> places{};  ///< watches by key; their number is a power of two
  std::uint32_t count = 0;
  std::uint32_t first = none;  ///< of the queue
  std::uint32_t last = none;
};

struct watched_key {
  std::uint32_t watches = none;  ///< the first, through key_watch::older
  std::uint32_t values = none;   ///< the first, which their owner chains
  std::uint64_t lost = 0;        ///< position of the barrier that was lost last
  bool fresh = false;            ///< that is to be done
};

class key_watchers {
 public:
  explicit key_watchers(std::uint64_t seed) noexcept : keys_{seed} {}

  [[nodiscard]] const key_watch& operator[](std::uint32_t w) const noexcept { return watches_[w]; }
  /// Watches that exist, also given up ones that are linked, or in a write.
  [[nodiscard]] std::uint32_t count() const noexcept { return watches_.in_use(); }
  /// A key that somebody watches; none: nobody does.
  [[nodiscard]] std::uint32_t find(std::string_view key) const noexcept { return keys_.find(key); }
  [[nodiscard]] std::string_view name_of(std::uint32_t key) const noexcept {
    return keys_.name_of(key);
  }
  [[nodiscard]] watched_key& key(std::uint32_t k) noexcept { return keys_[k]; }
  [[nodiscard]] const watched_key& key(std::uint32_t k) const noexcept { return keys_[k]; }

  /// The reader's watch on a key; none: it has none.
  [[nodiscard]] std::uint32_t find(const watch_list& of, std::uint32_t key) const noexcept {
    return of.count == 0 ? none : of.places[place_of(of, key)];
  }
  /// A watch on `key`; none: memory is out. REQUIRES: `reader` has none on it yet.
  [[nodiscard]] std::uint32_t add(watch_list& of, std::uint32_t reader,
                                  std::string_view key) noexcept {
    if (!make_room(of) || !watches_.reserve_one()) return none;
    const std::uint32_t k = keys_.acquire(key);
    if (k == none) return none;
    const std::uint32_t w = watches_.take();
    const std::uint32_t next = std::exchange(keys_[k].watches, w);
    watches_[w] = {.key = k, .reader = reader, .older = next};
    if (next != none) watches_[next].newer = w;
    of.places[place_of(of, k)] = w;
    ++of.count;
    return w;
  }
  /// Gives up the watch on a key. REQUIRES: there is one.
  void remove(watch_list& of, std::uint32_t key) noexcept {
    const std::uint32_t w = take_out(of, key);
    give_up(w);
    if (!watches_[w].linked && watches_[w].where != key_watch::at::write) watches_.give_back(w);
  }
  /// Gives up all of a reader's watches, which are in no write any more.
  void clear(watch_list& of) noexcept {
    for (const std::uint32_t w : of.places) {
      if (w == none) continue;
      give_up(w);
      if (!watches_[w].linked) watches_.give_back(w);
    }
    while (of.first != none) watches_.give_back(pop(of));
    of.places.release();
    of.count = 0;
  }

  // --- what changed for a reader -----------------------------------------------------------------

  /// It begins with the values that there are.
  void begin(watch_list& of, std::uint32_t w) noexcept { push(of, w, 0); }
  /// What a change did.
  enum class change : std::uint8_t {
    queued,     ///< it waits now
    follows,    ///< it will, behind the write that has an older value
    overtakes,  ///< a value that waited, and will not be sent
  };
  change changed(watch_list& of, std::uint32_t w, std::uint64_t position) noexcept {
    key_watch& x = watches_[w];
    if (x.where == key_watch::at::rest) {
      push(of, w, position);
      return change::queued;
    }
    if (x.where == key_watch::at::queue && x.due != 0) return change::overtakes;
    if (x.where == key_watch::at::queue) {
      x.due = 1;
    } else if (std::exchange(x.changed, true)) {
      return change::overtakes;
    } else {
      x.due = position;
    }
    return change::follows;
  }
  /// A change that came after the wish waits to be taken.
  [[nodiscard]] bool waits(std::uint32_t w) const noexcept {
    const key_watch& x = watches_[w];
    return x.where == key_watch::at::queue ? x.due != 0 : x.changed;
  }
  /// The watch that waits longest, for a write; none: there is none.
  [[nodiscard]] std::uint32_t take(watch_list& of) noexcept {
    while (of.first != none) {
      const std::uint32_t w = pop(of);
      key_watch& x = watches_[w];
      if (x.reader == none) {
        watches_.give_back(w);
      } else if (x.where == key_watch::at::queue) {
        x.where = key_watch::at::write;
        return w;
      }
    }
    return none;
  }
  /// The position from which on the values of a watch are to be taken, as key_watch::due; nothing:
  /// its reader has them.
  static constexpr std::uint64_t nothing = UINT64_MAX;
  [[nodiscard]] std::uint64_t due(std::uint32_t w) const noexcept {
    const key_watch& x = watches_[w];
    return x.where == key_watch::at::queue || x.changed ? x.due : nothing;
  }
  /// Out of its turn, for a write that is not given back.
  void take_now(std::uint32_t w) noexcept {
    key_watch& x = watches_[w];
    if (x.where == key_watch::at::queue) x.where = key_watch::at::rest;
    x.changed = false;
  }
  /// The write took it, or there was nothing.
  void sent(watch_list& of, std::uint32_t w) noexcept {
    key_watch& x = watches_[w];
    if (x.where != key_watch::at::write) return;
    x.where = key_watch::at::rest;
    if (std::exchange(x.changed, false)) push(of, w, x.due);
  }
  /// The write did not begin it: it is the next again, behind `before`, which was given back in
  /// front of it (none: nothing was). True: it changed meanwhile, so that its value is overtaken.
  bool give_back(watch_list& of, std::uint32_t w, std::uint32_t before) noexcept {
    key_watch& x = watches_[w];
    SSEHUB_ASSERT(x.where == key_watch::at::write);
    SSEHUB_ASSERT(!x.linked);
    x.where = key_watch::at::queue;
    x.linked = true;
    std::uint32_t& link = before == none ? of.first : watches_[before].queue_next;
    x.queue_next = std::exchange(link, w);
    if (x.queue_next == none) of.last = w;
    if (!x.changed) return false;
    x.changed = false;
    x.due = 1;
    return true;
  }
  /// A write had its values, or gives them back. False: its reader gave it up meanwhile, and it is
  /// no more.
  [[nodiscard]] bool comes_from_write(std::uint32_t w) noexcept {
    SSEHUB_ASSERT(watches_[w].where == key_watch::at::write);
    if (watches_[w].reader != none) return true;
    watches_.give_back(w);
    return false;
  }

 private:
  [[nodiscard]] static std::uint32_t home_of(const watch_list& of, std::uint32_t key) noexcept {
    return static_cast<std::uint32_t>((key * 0x9e3779b97f4a7c15ULL) >> 32) & (of.places.size() - 1);
  }
  /// Where the key's watch is, or would be.
  [[nodiscard]] std::uint32_t place_of(const watch_list& of, std::uint32_t key) const noexcept {
    std::uint32_t at = home_of(of, key);
    while (of.places[at] != none && watches_[of.places[at]].key != key)
      at = (at + 1) & (of.places.size() - 1);
    return at;
  }
  /// For one more, with a third of the table free.
  [[nodiscard]] bool make_room(watch_list& of) noexcept {
    if (of.count + of.count / 2 + 1 < of.places.size()) return true;
    const std::uint32_t n = of.places.empty() ? 4 : 2 * of.places.size();
    vec<std::uint32_t> old;
    if (!old.reserve(n)) return false;
    while (old.size() < n) old.push_reserved(none);
    old.swap(of.places);
    for (const std::uint32_t w : old) {
      if (w != none) of.places[place_of(of, watches_[w].key)] = w;
    }
    return true;
  }
  /// Out of the table; those behind it close up.
  [[nodiscard]] std::uint32_t take_out(watch_list& of, std::uint32_t key) noexcept {
    const std::uint32_t mask = of.places.size() - 1;
    std::uint32_t hole = place_of(of, key);
    const std::uint32_t w = of.places[hole];
    SSEHUB_ASSERT(w != none);
    for (std::uint32_t at = (hole + 1) & mask; of.places[at] != none; at = (at + 1) & mask) {
      const std::uint32_t home = home_of(of, watches_[of.places[at]].key);
      if (((at - home) & mask) < ((at - hole) & mask)) continue;  // its home is behind the hole
      of.places[hole] = of.places[at];
      hole = at;
    }
    of.places[hole] = none;
    --of.count;
    return w;
  }
  /// One that is out of its reader's table. While it is linked, or in a write, it stays as
  /// nobody's.
  void give_up(std::uint32_t w) noexcept {
    key_watch& x = watches_[w];
    (x.newer == none ? keys_[x.key].watches : watches_[x.newer].older) = x.older;
    if (x.older != none) watches_[x.older].newer = x.newer;
    x.reader = none;
    keys_.release(x.key);
  }
  void push(watch_list& of, std::uint32_t w, std::uint64_t due) noexcept {
    key_watch& x = watches_[w];
    x.where = key_watch::at::queue;
    x.due = due;
    if (x.linked) return;  // where it stood when it was taken out of its turn
    x.linked = true;
    x.queue_next = none;
    (of.last == none ? of.first : watches_[of.last].queue_next) = w;
    of.last = w;
  }
  /// The first of the queue.
  [[nodiscard]] std::uint32_t pop(watch_list& of) noexcept {
    const std::uint32_t w = of.first;
    of.first = watches_[w].queue_next;
    watches_[w].linked = false;
    if (of.first == none) of.last = none;
    return w;
  }

  name_table<watched_key, 16> keys_;
  slot_pool<key_watch> watches_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_KEY_WATCHERS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

struct newest_value {
  blob* bytes = nullptr;             ///< the encoded event, without its id
  std::uint32_t room = 0;            ///< bytes that the blob has
  std::uint32_t next_of_key = none;  ///< of a key that is watched: the slot of another audience's
  owned_text audience;
  std::int64_t at = 0;  ///< hub time of its publish, in ms
  bool erased = false;  ///< the event says that there is no value any more
};

/// What is said of an event that is the state of its key.
struct keyed_event {
  std::string_view key{};
  std::uint64_t position = 0;  ///< its id, or its stamp where there are no ids
  std::string_view bytes{};    ///< encoded, without its id
  std::string_view audience{};
  bool erase = false;   ///< it says that the key is gone
  std::int64_t at = 0;  ///< hub time of its publish, in ms
};

/// A retained event that is no state: one without a key, or a barrier.
struct keyless_event {
  std::uint64_t position = 0;
  std::uint64_t ordinal = 0;      ///< in the log
  std::uint32_t audience = none;  ///< none: everybody's
  std::uint32_t key = none;       ///< none: no barrier
};

class newest_by_key {
 public:
  /// Audiences that lost something, told apart; more of them are told as everybody's.
  static constexpr std::uint32_t max_audiences = 64;

  newest_by_key(std::uint32_t most, std::uint64_t seed) noexcept
      : most_{most}, keys_{seed}, audiences_{seed}, barriers_{seed}, lost_{seed} {}
  newest_by_key(const newest_by_key&) = delete;
  newest_by_key& operator=(const newest_by_key&) = delete;
  ~newest_by_key() {
    while (keys_.size() != 0) drop(oldest());
    while (!keyless_.empty()) pop_keyless();
    if (watchers_ == nullptr) return;
    watchers_->~key_watchers();
    deallocate(watchers_);
  }

  /// What was published up to `position` is not known here: it counts as lost.
  void begin_behind(std::uint64_t position) noexcept {
    lost_by_all_ = {position, position, position};
  }
  /// The newest event of a key was published.
  void put(const keyed_event& e) noexcept {
    if (!store(e)) lose(e.audience).value = e.position;
  }
  /// One that is no state, the entry `ordinal` of the log. `key`: whose barrier it is, or none's.
  void put_keyless(std::uint64_t position, std::uint64_t ordinal, std::string_view audience,
                   std::string_view key = {}) noexcept {
    last_keyless_ = position;
    keyless_event e{position, ordinal};
    const bool room = keyless_.reserve_one();
    if (room && !audience.empty()) e.audience = audiences_.acquire(audience);
    if (room && !key.empty()) e.key = barriers_.acquire(key);
    if (room && (e.audience == none) == audience.empty() && (e.key == none) == key.empty()) {
      keyless_.push_reserved(e);
      return;
    }
    lose_keyless(position, audience, key);
    let_go_names(e);
  }
  /// Retention let go of what is in front of `ordinal`.
  void let_go_before(std::uint64_t ordinal) noexcept {
    while (!keyless_.empty() && keyless_[keyless_.first()].ordinal < ordinal) {
      const keyless_event& e = keyless_[keyless_.first()];
      lose_keyless(e.position, audience_of(e), key_of(e));
      pop_keyless();
    }
  }

  // --- values ------------------------------------------------------------------------------------

  /// Slots, in use or free.
  [[nodiscard]] std::uint32_t slot_count() const noexcept { return positions_.size(); }
  [[nodiscard]] std::uint32_t size() const noexcept { return keys_.size(); }
  [[nodiscard]] const newest_value& operator[](std::uint32_t slot) const noexcept {
    return keys_[slot];
  }
  [[nodiscard]] std::uint64_t position(std::uint32_t slot) const noexcept {
    return positions_[slot];
  }
  /// The first slot from `slot` on, in front of `end`, whose value came behind position `since`;
  /// `end`: none. REQUIRES: end <= slot_count().
  [[nodiscard]] std::uint32_t changed(std::uint32_t slot, std::uint32_t end,
                                      std::uint64_t since) const noexcept {
    while (slot < end) {
      if (highest_of_4096_[slot / 4096] <= since) {
        slot = (slot / 4096 + 1) * 4096;
      } else if (highest_of_64_[slot / 64] <= since) {
        slot = (slot / 64 + 1) * 64;
      } else {
        const std::uint32_t stop = (slot / 64 + 1) * 64 < end ? (slot / 64 + 1) * 64 : end;
        for (; slot < stop; ++slot) {
          if (positions_[slot] > since) return slot;
        }
      }
    }
    return end;
  }

  /// The slot of a key and an audience; none: there is none.
  [[nodiscard]] std::uint32_t find(std::string_view key, std::string_view audience) const noexcept {
    return keys_.find(key, hash_of(key, audience),
                      [&](const newest_value& v) { return v.audience.view() == audience; });
  }

  // --- events that are no state, by number -------------------------------------------------------

  [[nodiscard]] std::uint64_t keyless_after(std::uint64_t position) const noexcept {
    std::uint64_t lo = keyless_.first();
    std::uint64_t hi = keyless_.end();
    while (lo < hi) {
      const std::uint64_t mid = lo + (hi - lo) / 2;
      if (keyless_[mid].position > position) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
  [[nodiscard]] std::uint64_t keyless_end() const noexcept { return keyless_.end(); }
  /// Position of the one that was published last, also if it is not retained; 0: there was none.
  [[nodiscard]] std::uint64_t last_keyless() const noexcept { return last_keyless_; }
  [[nodiscard]] const keyless_event& keyless(std::uint64_t n) const noexcept { return keyless_[n]; }
  [[nodiscard]] std::string_view audience_of(const keyless_event& e) const noexcept {
    return e.audience == none ? std::string_view{} : audiences_.name_of(e.audience);
  }
  /// Empty: it is no barrier.
  [[nodiscard]] std::string_view key_of(const keyless_event& e) const noexcept {
    return e.key == none ? std::string_view{} : barriers_.name_of(e.key);
  }

  // --- who watches which keys --------------------------------------------------------------------

  /// nullptr: nobody ever did.
  [[nodiscard]] key_watchers* watchers() const noexcept { return watchers_; }
  /// nullptr: memory is out.
  [[nodiscard]] key_watchers* make_watchers(std::uint64_t seed) noexcept {
    if (watchers_ != nullptr) return watchers_;
    void* const p = allocate(sizeof(key_watchers));
    return p == nullptr ? nullptr : watchers_ = ::new (p) key_watchers(seed);
  }
  /// These keys are watched, and were not: their values are chained. O(keys), and O(values) where
  /// some of those are private.
  void chain_values(const vec<std::uint32_t>& keys) noexcept {
    for (const std::uint32_t k : keys) {
      watched_key& key = watchers_->key(k);
      key.values = none;
      key.fresh = private_values_ != 0;
      if (key.fresh) continue;
      const std::string_view name = watchers_->name_of(k);
      if (const std::uint32_t slot = keys_.find(name, keys_.hash(name)); slot != none)
        chain(slot, k);
    }
    if (private_values_ == 0) return;
    for (std::uint32_t slot = 0; slot < slot_count(); ++slot) {
      const std::uint32_t k = positions_[slot] == 0 ? none : watched(slot);
      if (k != none && watchers_->key(k).fresh) chain(slot, k);
    }
    for (const std::uint32_t k : keys) watchers_->key(k).fresh = false;
  }

  // --- losses ------------------------------------------------------------------------------------

  /// Whether somebody for whom `sees(audience)` lost an event without a key behind `from`.
  template <class Sees>
  [[nodiscard]] bool lost_keyless(std::uint64_t from, Sees sees) const noexcept {
    return any_lost(&losses::keyless, from, sees);
  }
  /// The same of barriers; those of a key that is watched: watched_key::lost.
  template <class Sees>
  [[nodiscard]] bool lost_barrier(std::uint64_t from, Sees sees) const noexcept {
    return any_lost(&losses::barrier, from, sees);
  }
  /// The same of values that had to be forgotten.
  template <class Sees>
  [[nodiscard]] bool lost_value(std::uint64_t from, Sees sees) const noexcept {
    return any_lost(&losses::value, from, sees);
  }

 private:
  /// The slots of the values that came behind and in front of one.
  struct in_age {
    std::uint32_t newer = none;
    std::uint32_t older = none;
  };
  /// A list of them.
  struct by_age {
    std::uint32_t newest = none;
    std::uint32_t oldest = none;
  };
  /// Positions of what was lost last.
  struct losses {
    std::uint64_t keyless = 0;
    std::uint64_t value = 0;
    std::uint64_t barrier = 0;
  };

  template <class Sees>
  [[nodiscard]] bool any_lost(std::uint64_t losses::*kind, std::uint64_t from,
                              Sees sees) const noexcept {
    if (lost_by_all_.*kind > from) return true;
    for (std::uint32_t i = 0; i < lost_.extent(); ++i) {
      if (lost_.refs(i) != 0 && lost_[i].*kind > from && sees(lost_.name_of(i))) return true;
    }
    return false;
  }
  /// Where to note what an audience lost; that is a position behind all others.
  [[nodiscard]] losses& lose(std::string_view audience) noexcept {
    if (audience.empty()) return lost_by_all_;
    std::uint32_t i = lost_.find(audience);
    if (i == none && lost_.size() < max_audiences) i = lost_.acquire(audience);
    if (i == none) return lost_by_all_;
    return lost_[i];
  }
  void lose_keyless(std::uint64_t position, std::string_view audience,
                    std::string_view key) noexcept {
    losses& l = lose(audience);
    (key.empty() ? l.keyless : l.barrier) = position;
    const std::uint32_t k = watchers_ == nullptr || key.empty() ? none : watchers_->find(key);
    if (k != none) watchers_->key(k).lost = position;
  }
  void let_go_names(const keyless_event& e) noexcept {
    if (e.audience != none) audiences_.release(e.audience);
    if (e.key != none) barriers_.release(e.key);
  }
  void pop_keyless() noexcept {
    let_go_names(keyless_[keyless_.first()]);
    keyless_.pop_front();
  }
  /// A state belongs to a key and an audience.
  [[nodiscard]] std::uint64_t hash_of(std::string_view key,
                                      std::string_view audience) const noexcept {
    const std::uint64_t hash = keys_.hash(key);
    return audience.empty() ? hash : hash_name(audience, hash);
  }

  [[nodiscard]] bool store(const keyed_event& e) noexcept {
    const std::uint64_t hash = hash_of(e.key, e.audience);
    std::uint32_t slot = keys_.find(
        e.key, hash, [&](const newest_value& v) { return v.audience.view() == e.audience; });
    if (slot != none) {
      unlink(slot);
    } else if ((slot = add(e.key, e.audience, hash)) == none) {
      return false;
    }
    keys_[slot].erased = e.erase;
    keys_[slot].at = e.at;
    link(slot);
    if (!hold(keys_[slot], e.bytes)) {
      drop(slot);
      return false;
    }
    positions_[slot] = e.position;
    highest_of_64_[slot / 64] = e.position;
    highest_of_4096_[slot / 4096] = e.position;
    return true;
  }
  /// A slot for a key that has none; none: memory is out.
  [[nodiscard]] std::uint32_t add(std::string_view key, std::string_view audience,
                                  std::uint64_t hash) noexcept {
    if (keys_.size() == most_) forget_oldest();
    const std::uint32_t slot = keys_.add(key, hash);
    if (slot == none) return none;
    if (!make_room(slot) || !keys_[slot].audience.assign(audience)) {
      keys_.release(slot);
      return none;
    }
    private_values_ += audience.empty() ? 0U : 1U;
    if (const std::uint32_t k = watched(slot); k != none) chain(slot, k);
    return slot;
  }
  /// In place, unless somebody is sending the older one.
  [[nodiscard]] static bool hold(newest_value& v, std::string_view bytes) noexcept {
    const auto size = static_cast<std::uint32_t>(bytes.size());
    if (v.bytes == nullptr || v.bytes->refs != 1 || v.room < size) {
      if (v.bytes != nullptr) unref(v.bytes);
      v.room = size / 32 * 32 + 32;  // the next may be a little longer
      v.bytes = make_blob(v.room);
      if (v.bytes == nullptr) return false;
    }
    v.bytes->size = size;
    std::memcpy(v.bytes->bytes(), bytes.data(), size);
    return true;
  }
  /// For all slots up to this one.
  [[nodiscard]] bool make_room(std::uint32_t slot) noexcept {
    const auto grow = [](auto& v, std::uint32_t n) {
      if (!v.reserve(n)) return false;
      while (v.size() < n) v.push_reserved({});
      return true;
    };
    return grow(highest_of_4096_, slot / 4096 + 1) && grow(highest_of_64_, slot / 64 + 1) &&
           grow(neighbours_, slot + 1) && grow(positions_, slot + 1);
  }

  void forget_oldest() noexcept {
    // drop() takes its audience along
    const std::uint32_t slot = oldest();
    losses& l = lose(keys_[slot].audience.view());
    if (positions_[slot] > l.value) l.value = positions_[slot];
    drop(slot);
  }
  /// The first to go. REQUIRES: there is a value.
  [[nodiscard]] std::uint32_t oldest() const noexcept {
    return erased_.oldest != none ? erased_.oldest : live_.oldest;
  }

  void link(std::uint32_t i) noexcept {
    by_age& of = keys_[i].erased ? erased_ : live_;
    neighbours_[i] = {none, of.newest};
    (of.newest == none ? of.oldest : neighbours_[of.newest].newer) = i;
    of.newest = i;
  }
  void unlink(std::uint32_t i) noexcept {
    by_age& of = keys_[i].erased ? erased_ : live_;
    const in_age n = neighbours_[i];
    (n.older == none ? of.oldest : neighbours_[n.older].newer) = n.newer;
    (n.newer == none ? of.newest : neighbours_[n.newer].older) = n.older;
  }
  void drop(std::uint32_t i) noexcept {
    unlink(i);
    if (const std::uint32_t k = watched(i); k != none) unchain(i, k);
    private_values_ -= keys_[i].audience.view().empty() ? 0U : 1U;
    if (keys_[i].bytes != nullptr) unref(keys_[i].bytes);
    positions_[i] = 0;
    keys_.release(i);
  }

  /// The watched key of a value; none: nobody watches it.
  [[nodiscard]] std::uint32_t watched(std::uint32_t slot) const noexcept {
    return watchers_ == nullptr ? none : watchers_->find(keys_.name_of(slot));
  }
  void chain(std::uint32_t slot, std::uint32_t key) noexcept {
    keys_[slot].next_of_key = watchers_->key(key).values;
    watchers_->key(key).values = slot;
  }
  void unchain(std::uint32_t slot, std::uint32_t key) noexcept {
    std::uint32_t* at = &watchers_->key(key).values;
    while (*at != slot) at = &keys_[*at].next_of_key;
    *at = keys_[slot].next_of_key;
  }

  std::uint32_t most_;
  std::uint32_t private_values_ = 0;
  std::uint64_t last_keyless_ = 0;
  key_watchers* watchers_ = nullptr;
  name_table<newest_value, 16> keys_;
  vec<std::uint64_t> positions_;  ///< by slot; 0: free
  vec<std::uint64_t> highest_of_64_;
  vec<std::uint64_t> highest_of_4096_;
  vec<in_age> neighbours_;  ///< by slot
  by_age live_;
  by_age erased_;
  ring<keyless_event> keyless_;
  struct nothing {};
  name_table<nothing, 8> audiences_;  ///< of these,
  name_table<nothing, 8> barriers_;   ///< and keys
  losses lost_by_all_;
  name_table<losses, 8> lost_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_NEWEST_BY_KEY_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// What handles point at. It stays where it is while the hub lives, and is used again: then it has
/// another number.
struct channel_cell {
  union {
    channel_state* here;
    std::uint32_t link;
  };
  std::uint64_t number;  ///< of the channel; 0: free

  channel_cell() noexcept : here{nullptr}, number{0} {}
  [[nodiscard]] std::uint32_t& free_link() noexcept { return link; }
};

/// See channel_stats.
struct channel_counters {
  std::uint64_t published = 0;
  std::uint64_t delivered = 0;
  std::uint64_t dropped = 0;
  std::uint64_t coalesced = 0;
  std::uint64_t gaps = 0;
  std::uint64_t replays = 0;

  [[nodiscard]] channel_stats stats() const noexcept {
    channel_stats s;
    s.published = published;
    s.delivered = delivered;
    s.dropped = dropped;
    s.coalesced = coalesced;
    s.gaps = gaps;
    s.replays = replays;
    return s;
  }
};

class channel_state {
 public:
  channel_state(const channel_state&) = delete;
  channel_state& operator=(const channel_state&) = delete;

  [[nodiscard]] std::string_view name() const noexcept { return name_.view(); }
  [[nodiscard]] std::size_t subscribers() const noexcept { return main_.readers.size(); }
  /// Somebody reads it, or gets the rest of an event of it.
  [[nodiscard]] bool read() const noexcept {
    return !main_.readers.empty() || (transients_ != nullptr && !transients_->readers.empty());
  }
  [[nodiscard]] channel_stats stats() const noexcept {
    channel_stats s = counters_.stats();
    s.name = name();
    s.group = options_.metrics_name;
    s.subscribers = subscribers();
    s.retained_events = main_.log.retained_events();
    s.retained_bytes = main_.log.retained_bytes();
    s.backlog_bytes =
        main_.log.backlog() + (transients_ != nullptr ? transients_->log.backlog() : 0);
    s.last_id = main_.log.last_id();
    if (latency_ != nullptr) s.latency = *latency_;
    return s;
  }

 private:
  friend class engine;
  friend struct timer_places;
  friend class sse::channel;

  channel_state(engine& e, segment_pool& pool, const retention& keep) noexcept
      : engine_{&e}, main_{pool, keep, *this} {}
  ~channel_state() = default;

  engine* engine_;
  owned_text name_;
  owned_text texts_;  // those of its options, one behind the other
  channel_options options_;
  sequence own_;  // with own_sequence; see engine::sequence_of
  stream main_;
  stream* transients_ = nullptr;     // made when first needed
  newest_by_key* newest_ = nullptr;  // only with max_keys
  latency_counts* latency_ = nullptr;
  channel_counters counters_;
  std::uint32_t index_ = none;  // in engine::channels_
  std::uint32_t cell_ = none;   // in engine::cells_
  std::uint32_t timer_ = none;  // place in the timer queue
  bool joined_ = false;         // by the verdict that is looked at
  bool sealed_ = false;         // there will be no more events
  bool closing_ = false;        // freed when the outermost call ends
  /// ms: its next heartbeat (pace::fixed), or, once it is sealed, its end.
  std::int64_t due_ = INT64_MAX;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_CHANNEL_STATE_HPP
// ---- sse/detail/engine/chunks.hpp
//
// chunks: the chunked transfer coding (RFC 9112 7.1) of the sessions that asked for it: a size line
// in front of what is gathered, what a short write still owes to the chunk that was announced, and
// the last chunk. It moves no bytes and knows no session: the number of a state is the session's.
#ifndef SSEHUB_DETAIL_ENGINE_CHUNKS_HPP
#define SSEHUB_DETAIL_ENGINE_CHUNKS_HPP

#include <cstdint>
#include <cstring>

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
// ---- sse/detail/engine/lanes.hpp
//
// lanes: the control lane of each session: frames for it alone that wait between the events of its
// channels. A lane is the number of its first item; none: empty.
#ifndef SSEHUB_DETAIL_ENGINE_LANES_HPP
#define SSEHUB_DETAIL_ENGINE_LANES_HPP

#include <cstdint>
#include <cstring>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

enum class lane_kind : std::uint8_t {
  control,
  head,   ///< the response head: outside the body, never framed as a chunk
  event,  ///< an application event
  value,  ///< the newest value of a key; one that is not begun may be taken back
  pass,   ///< says that the values in front of it were all; goes with them
};

/// One waiting frame.
struct lane_item {
  blob* bytes = nullptr;
  std::uint64_t waiting = 0;  ///< of the first: bytes of all
  std::uint32_t sent = 0;
  std::uint32_t next = none;
  std::uint32_t last = none;  ///< of the first: the last
  std::uint32_t from = none;  ///< the subscription whose events these are; none: of no channel
  std::uint32_t key = none;   ///< lane_kind::value: its slot among the values
  lane_kind kind = lane_kind::control;
  // lane_kind::value
  bool counts = false;   ///< it came while its reader was there
  bool lost = false;     ///< it was too old: this is a gap frame
  std::uint32_t at = 0;  ///< hub time of its publish, in ms, modulo 2^32
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }

  [[nodiscard]] const char* data() const noexcept { return bytes->bytes() + sent; }
  [[nodiscard]] std::uint32_t left() const noexcept { return bytes->size - sent; }
  /// Nothing is left but the rest of an event that is half sent.
  void cut() noexcept {
    from = none;
    std::uint32_t end = sent;
    if (sent != 0) {  // each ends with a blank line, and has no other
      const std::string_view all{bytes->bytes(), bytes->size};
      end = static_cast<std::uint32_t>(all.find("\n\n", sent < 2 ? 0 : sent - 2) + 2);
    }
    SSEHUB_ASSERT(end >= sent && end <= bytes->size);
    if (end == sent) {
      sent = bytes->size;
    } else if (bytes->refs == 1) {  // several events are a copy of this lane's own
      bytes->size = end;
    }
  }
};

class lanes {
 public:
  /// Takes a reference of its own. False: memory is out.
  [[nodiscard]] bool push(std::uint32_t& lane, blob* b, lane_kind kind,
                          std::uint32_t from = none) noexcept {
    const std::uint32_t i = items_.take();
    if (i == none) return false;
    ++b->refs;
    items_[i] = {.bytes = b, .from = from, .kind = kind};
    append(lane, i);
    return true;
  }
  /// A value, or what says that it is lost. `as`: all but what push() sets.
  [[nodiscard]] bool push_value(std::uint32_t& lane, blob* b, const lane_item& as) noexcept {
    if (!push(lane, b, lane_kind::value, as.from)) return false;
    lane_item& item = items_[items_[lane].last];
    item.key = as.key;
    item.counts = as.counts;
    item.lost = as.lost;
    item.at = as.at;
    return true;
  }
  [[nodiscard]] bool push(std::uint32_t& lane, std::string_view bytes, lane_kind kind) noexcept {
    if (bytes.empty()) return true;
    return push_made(lane, static_cast<std::uint32_t>(bytes.size()), kind,
                     [&](char* out) { std::memcpy(out, bytes.data(), bytes.size()); });
  }
  /// REQUIRES: validate(e) passed.
  [[nodiscard]] bool push(std::uint32_t& lane, const event& e, lane_kind kind) noexcept {
    return push_made(lane, static_cast<std::uint32_t>(encoded_size(e)), kind,
                     [&](char* out) { encode_to(out, e); });
  }
  /// `retry:` in milliseconds.
  [[nodiscard]] bool push_retry(std::uint32_t& lane, std::int64_t ms) noexcept {
    return push_made(lane, static_cast<std::uint32_t>(encoded_retry_size(ms)), lane_kind::control,
                     [&](char* out) { encode_retry_to(out, ms); });
  }
  /// `id:` alone.
  [[nodiscard]] bool push_position(std::uint32_t& lane, event_id id, event_id values,
                                   lane_kind kind = lane_kind::control,
                                   std::uint32_t from = none) noexcept {
    return push_made(
        lane, static_cast<std::uint32_t>(encoded_position_size(id, values)), kind,
        [&](char* out) { encode_position_to(out, id, values); }, from);
  }
  /// `size` bytes that say nothing: a comment, or one or two blank lines (WHATWG HTML 9.2.5).
  /// REQUIRES: size > 0.
  [[nodiscard]] bool push_padding(std::uint32_t& lane, std::uint32_t size) noexcept {
    SSEHUB_ASSERT(size != 0);
    return push_made(lane, size, lane_kind::control, [&](char* out) {
      std::memset(out, ' ', size);
      out[0] = ':';
      out[size - 1] = '\n';
      out[size > 1 ? size - 2 : 0] = '\n';
    });
  }
  /// `size` bytes that `write(char*)` makes.
  template <class Write>
  [[nodiscard]] bool push_made(std::uint32_t& lane, std::uint32_t size, lane_kind kind, Write write,
                               std::uint32_t from = none) noexcept {
    blob* const b = make_blob(size);
    if (b == nullptr) return false;
    write(b->bytes());
    const bool ok = push(lane, b, kind, from);
    unref(b);
    return ok;
  }
  void pop(std::uint32_t& lane) noexcept {
    const std::uint32_t i = lane;
    const lane_item& item = items_[i];
    if (item.next != none) {
      items_[item.next].waiting = item.waiting - item.bytes->size;
      items_[item.next].last = item.last;
    }
    lane = item.next;
    unref(item.bytes);
    items_.give_back(i);
  }
  /// Takes out what is of subscription `from`, but for the rest of an event that is half sent.
  void drop(std::uint32_t& lane, std::uint32_t from) noexcept {
    keep(lane, [from](lane_item& item) {
      if (item.from == from) item.cut();
      return item.left() != 0;
    });
  }
  /// Takes out the values of which nothing is sent, and what says that these were all. `taken` is
  /// called with each.
  template <class Taken>
  void take_back(std::uint32_t& lane, Taken taken) noexcept {
    bool any = false;
    keep(lane, [&](lane_item& item) {
      any = any || (item.kind == lane_kind::value && item.sent == 0);
      if (!any || item.sent != 0 || item.kind < lane_kind::value) return true;
      taken(item);
      return false;
    });
  }
  /// Bytes that wait.
  [[nodiscard]] std::uint64_t waiting(std::uint32_t lane) const noexcept {
    return lane == none ? 0 : items_[lane].waiting - items_[lane].sent;
  }
  [[nodiscard]] lane_item& operator[](std::uint32_t i) noexcept { return items_[i]; }

 private:
  /// Takes out those items for which `stays` is false.
  template <class Stays>
  void keep(std::uint32_t& lane, Stays stays) noexcept {
    std::uint32_t i = lane;
    lane = none;
    while (i != none) {
      lane_item& item = items_[i];
      const std::uint32_t next = item.next;
      if (stays(item)) {
        append(lane, i);
      } else {
        unref(item.bytes);
        items_.give_back(i);
      }
      i = next;
    }
  }
  void append(std::uint32_t& lane, std::uint32_t i) noexcept {
    items_[i].next = none;
    items_[i].waiting = 0;
    (lane == none ? lane : items_[items_[lane].last].next) = i;
    items_[lane].last = i;
    items_[lane].waiting += items_[i].bytes->size;
  }

  slot_pool<lane_item> items_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_LANES_HPP
// ---- sse/detail/engine/merge.hpp
//
// merge_window: entries of several logs in the order in which they were published. Stamps rise
// over the whole hub and no two are the same, so in a window of so many of them each entry has a
// place of its own: it is put there, and then they are taken in the order of the places.
#ifndef SSEHUB_DETAIL_ENGINE_MERGE_HPP
#define SSEHUB_DETAIL_ENGINE_MERGE_HPP

#include <bit>
#include <cstdint>
#include <cstring>
#include <new>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class merge_window {
 public:
  static constexpr std::uint32_t width = 384;           ///< stamps
  static constexpr std::uint64_t nothing = UINT64_MAX;  ///< no entry has this stamp

  merge_window() noexcept = default;
  merge_window(const merge_window&) = delete;
  merge_window& operator=(const merge_window&) = delete;

  /// The window from stamp `first` on, of what comes behind the runs of `b`. False: memory is out.
  /// REQUIRES: all that was put was moved or given back.
  [[nodiscard]] bool begin(batch& b, std::uint64_t first) noexcept {
    SSEHUB_ASSERT(left_ == 0 && first < nothing - width);
    first_ = first;
    batch_ = &b;
    runs_ = b.room_for(width);
    return runs_ != nullptr;
  }
  [[nodiscard]] std::uint64_t first() const noexcept { return first_; }
  /// The first stamp behind it.
  [[nodiscard]] std::uint64_t end() const noexcept { return first_ + width; }
  /// The first entry of `s` from `k` on that is behind it; s.count: none.
  [[nodiscard]] std::uint32_t end_in(const segment& s, std::uint32_t k) const noexcept {
    if (s.stamp(s[s.count - 1]) < end()) return s.count;
    return s.first_that([&](const entry& e) { return s.stamp(e) >= end(); }, k);
  }
  /// Puts entries of one segment where their stamps say. REQUIRES: they are in the window, and no
  /// other has their place.
  class entries {
   public:
    entries(merge_window& w, segment& s, std::uint32_t from) noexcept
        : w_{w}, s_{s}, base_{s.stamp_base - w.first_}, from_{from} {}
    entries(const entries&) = delete;
    entries& operator=(const entries&) = delete;
    ~entries() { w_.bytes_ += bytes_; }
    void operator()(const entry& e, std::uint32_t k) noexcept {
      const std::uint64_t i = base_ + e.stamp;
      SSEHUB_ASSERT(i < width && w_.here_[i] == 0);
      run& r = w_.runs_[i];
      r.data = s_.data(e);
      r.seg = &s_;
      r.size = e.size;
      w_.here_[i] = static_cast<unsigned char>(is_here + (i == behind_));
      r.first = k;
      r.from = from_;
      r.count = 1;
      behind_ = i + 1;
      bytes_ += r.size;
    }
    /// To be said in the end, once: so many were put. Returns `n`.
    std::uint32_t added(std::uint32_t n) noexcept {
      w_.left_ += n;
      return n;
    }

   private:
    merge_window& w_;
    segment& s_;
    const std::uint64_t base_;
    const std::uint32_t from_;
    std::uint64_t bytes_ = 0;
    std::uint64_t behind_ = width;
  };
  [[nodiscard]] std::uint32_t left() const noexcept { return left_; }
  /// Makes them runs of the batch, in their order, until it is full or one has stamp `limit` or
  /// above.
  void move_out(std::uint64_t limit) noexcept {
    batch& b = *batch_;
    const std::uint32_t stop = limit < end() ? static_cast<std::uint32_t>(limit - first_) : width;
    const bool whole = stop == width && b.total() + bytes_ <= b.limit();
    std::uint64_t bytes = whole ? bytes_ : 0;
    run* out = runs_;  // they close up
    std::uint32_t moved = 0;
    for (std::uint32_t i = 0; moved != left_; i += 8) {
      std::uint64_t eight = load(i);
      if (whole && eight == is_here * every_byte && out == runs_ + i) {  // as they are to be
        out += 8;
        moved += 8;
        eight = 0;
      }
      for (; eight != 0; eight &= eight - 1) {
        const std::uint32_t n = i + static_cast<std::uint32_t>(std::countr_zero(eight)) / 8;
        const run& r = runs_[n];
        if (!whole) {
          if (n >= stop || b.total() + bytes >= b.limit()) break;  // with all that is behind it
          bytes += r.size;
        }
        ++moved;
        if (out != runs_ && out[-1].touches(r)) {
          out[-1].add(r);
        } else {
          if (out != &r) ::new (static_cast<void*>(out)) run(r);
          ++out;
        }
      }
      store(i, eight);
      if (eight != 0) break;
    }
    left_ -= moved;
    bytes_ -= bytes;
    b.add_made(out, bytes);
  }
  /// `give(run)` for all that stayed, the newest first. REQUIRES: nothing was added to the batch.
  template <class Give>
  void give_back(Give give) noexcept {
    for (std::uint32_t i = width; left_ != 0; --left_) {
      do --i;
      while (here_[i] == 0);
      here_[i] = 0;
      give(runs_[i]);
    }
    bytes_ = 0;
  }

 private:
  static_assert(width % 8 == 0);
  enum : unsigned char { is_here = 1, is_behind = 2 };  ///< one bit each
  static constexpr std::uint64_t every_byte = 0x0101010101010101;
  /// Eight places, the first in the lowest byte.
  [[nodiscard]] std::uint64_t load(std::uint32_t i) const noexcept {
    std::uint64_t eight = 0;
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(&eight, here_ + i, sizeof eight);
    } else {
      for (std::uint32_t k = 8; k-- != 0;) eight = eight << 8 | here_[i + k];
    }
    return eight;
  }
  void store(std::uint32_t i, std::uint64_t eight) noexcept {
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(here_ + i, &eight, sizeof eight);
    } else {
      for (std::uint32_t k = 0; k < 8; ++k) here_[i + k] = eight >> 8 * k & 0xffU;
    }
  }

  std::uint64_t first_ = 0;
  std::uint32_t left_ = 0;
  std::uint64_t bytes_ = 0;         ///< of those that are left
  unsigned char here_[width] = {};  ///< 0: there is none
  batch* batch_ = nullptr;
  run* runs_ = nullptr;  ///< in the batch, behind those that it has
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_MERGE_HPP
// ---- sse/detail/engine/parts.hpp
//
// What the engine is made of: a session, its subscriptions, and what a reader that fell behind or
// came late is told.
#ifndef SSEHUB_DETAIL_ENGINE_PARTS_HPP
#define SSEHUB_DETAIL_ENGINE_PARTS_HPP

#include <cstdint>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Where a subscription's next bytes come from.
enum class source : std::uint8_t {
  log,       ///< its cursor in the log
  skip,      ///< too far behind: leaves the log once its half-sent event is out (lag.hpp)
  backfill,  ///< the channel's backfill hook (catch_up.hpp)
  newest,    ///< passes over the newest value of each key (passes.hpp)
  selected,  ///< the newest values of the keys that it chose (selection.hpp)
  left,      ///< its session leaves the channel: nothing, but for the rest of one event (ends.hpp)
};

/// A session's reading of one stream. Its cursor is a place in the log, in front of the entry that
/// comes next; of that one `rest` bytes are left, if it is half sent.
struct subscription {
  segment* seg = nullptr;  ///< pinned; nullptr: it has no place in the log
  union {
    std::uint64_t live_from = 0;  ///< source::log: end of its replay, as an offset of the log
    event_id filled_to;           ///< source::backfill: the last id that it got
    std::uint32_t record;  ///< of source::skip, newest, selected: in engine::skips_, passes_,
                           ///< selections_
  };
  std::uint32_t k = 0;  ///< index in seg
  std::uint32_t rest = 0;
  std::uint32_t session = none;
  std::uint32_t next = none;  ///< the session's next subscription
  std::uint32_t place = 0;    ///< in stream::readers
  static constexpr std::uint32_t max_streams = 1U << 28;
  std::uint32_t stream_index : 28 = 0;
  std::uint32_t source_bits : 3 = 0;
  /// Its session has a subscription to the channel's transient entries too.
  std::uint32_t with_transients : 1 = 0;

  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
  [[nodiscard]] source from() const noexcept { return static_cast<source>(source_bits); }
  void read_from(source s) noexcept { source_bits = static_cast<std::uint32_t>(s) & 7U; }
  void read_stream(std::uint32_t i) noexcept {
    SSEHUB_ASSERT(i < max_streams);
    stream_index = i & (max_streams - 1);
  }
  [[nodiscard]] log_place at() const noexcept { return {seg, k}; }
  /// Offset in the log of the next byte. REQUIRES: it has a place there.
  [[nodiscard]] std::uint64_t offset() const noexcept {
    SSEHUB_ASSERT(seg != nullptr);
    if (rest != 0) return seg->base + (*seg)[k].end() - rest;
    return at().offset();
  }
};
static_assert(sizeof(subscription) <= 40, "one for each session and channel");
static_assert(static_cast<unsigned>(source::left) < 8, "source_bits has three");

/// What a reader that is skipped forward missed.
struct skip {
  event_id requested = no_id;
  std::uint64_t ordinal = 0;  ///< of the first entry it did not get
  event_id first = no_id;     ///< its id
  std::uint64_t stamp = 0;    ///< its stamp
  std::uint32_t next = none;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

/// How new the values were that a pass saw in the slots below `end`, down to those of the entry
/// before it.
struct seen_slots {
  std::uint32_t end;
  std::uint64_t head;  ///< the channel's newest position then
};

/// A value that a pass need not give: it went ahead of it, in front of a barrier.
struct ahead_value {
  std::uint64_t position;
  std::uint32_t slot;
};

/// How often a reader of values may get some, and how many.
struct pace {
  std::uint32_t every = 0;             ///< ms from one look at them to the next; 0: at once
  std::uint32_t bytes_per_second = 0;  ///< 0: any
};

/// A reader of values: what it has beside them, and when it may get more of them.
struct value_reader {
  std::uint64_t keyless = 0;    ///< it has all events without a key up to here
  std::uint64_t told = 0;       ///< losses up to here are told, or were before it came
  std::uint64_t entered = 0;    ///< the head when it came here,
  std::uint64_t sent = 0;       ///< and what it got of what came behind that
  std::int64_t next_look = 0;   ///< by its period it gets no values before that,
  std::int64_t paid_until = 0;  ///< nor by its bytes before that
  pace at_most{};
  /// What it took, by weight: who took least of a session's is the next.
  std::uint64_t turn = 0;
  std::uint32_t debt = 0;  ///< of `paid_until`: bytes times 1000 that are less than a millisecond's
  std::uint32_t room = 0;  ///< bytes of values that it takes at a time
  std::uint16_t cost = 1;  ///< of a byte, in `turn`
  bool cut = false;        ///< the last write did not take all
  bool waited = false;     ///< a period of its pace

  [[nodiscard]] std::int64_t due() const noexcept {
    return next_look > paid_until ? next_look : paid_until;
  }
};

/// One that gets the newest value of each key, pass by pass, and the events without a key.
struct passing : value_reader {
  std::uint64_t since = 0;    ///< it has all values up to here, or newer ones of their keys
  std::uint64_t began = 0;    ///< the head when the pass under way began
  std::uint64_t counted = 0;  ///< the log's end when it came here from the log
  vec<seen_slots> before{};   ///< by the pass before this one
  vec<seen_slots> now{};      ///< by this one
  vec<ahead_value> ahead{};   ///< by slot
  std::uint32_t place = 0;    ///< the slot that this pass looks at next
  std::uint32_t at = 0;       ///< in `before`
  bool open = false;          ///< a pass is under way,
  bool ending = false;        ///< and saw all slots
  bool gave = false;          ///< and had values for it
  bool stays = false;         ///< it is never live: it watches (watch_options)
  bool opens = false;         ///< a snapshot of one that is new: it is told where it stands then
  bool fresh = false;         ///< it has no values yet: erased keys are nothing to it
  std::uint32_t next = none;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }

  /// Writes of one pass that are told apart. Of more, two are put together: a value that came in
  /// the second of them may come twice then.
  static constexpr std::uint32_t most_seen = 4096;
  /// Slots up to `end` were seen when the channel stood at `head`.
  void see(std::uint32_t end, std::uint64_t head) noexcept {
    if (!now.empty() && now.back().head == head) {
      now.back().end = end;
      return;
    }
    if (now.size() == most_seen) {  // the older of two says less
      for (std::uint32_t i = 0; i < most_seen / 2; ++i)
        now[i] = {now[2 * i + 1].end, now[2 * i].head};
      while (now.size() > most_seen / 2) now.pop_back();
    }
    // Without memory the same: who saw nothing before begins behind `since`.
    if (!now.push_back({end, head}) && !now.empty()) now.back().end = end;
  }
  /// It has the values of a slot up to this position.
  [[nodiscard]] std::uint64_t has(std::uint32_t slot) const noexcept {
    const std::uint64_t seen = seen_of(slot);
    const std::uint32_t i = ahead_from(slot);
    const bool went = i != ahead.size() && ahead[i].slot == slot;
    return went && ahead[i].position > seen ? ahead[i].position : seen;
  }
  /// It gets a value now. False: memory is out.
  [[nodiscard]] bool get_ahead(std::uint32_t slot, std::uint64_t position) noexcept {
    const std::uint32_t i = ahead_from(slot);
    if (i != ahead.size() && ahead[i].slot == slot) {
      ahead[i].position = position;
      return true;
    }
    if (!ahead.push_back({})) return false;
    for (std::uint32_t k = ahead.size() - 1; k != i; --k) ahead[k] = ahead[k - 1];
    ahead[i] = {position, slot};
    return true;
  }
  /// A pass is over: what it saw itself need not be told apart.
  void forget_ahead() noexcept {
    std::uint32_t kept = 0;
    for (const ahead_value& a : ahead) {
      if (a.position > seen_of(a.slot)) ahead[kept++] = a;
    }
    while (ahead.size() != kept) ahead.pop_back();
  }
  /// Slots from `slot` on were not seen after all.
  void unsee(std::uint32_t slot) noexcept {
    place = slot;
    at = 0;
    ending = false;
    while (!now.empty() && now.back().end > slot) {
      if (now.size() == 1 || now[now.size() - 2].end < slot) {
        now.back().end = slot;
        break;
      }
      now.pop_back();
    }
  }

 private:
  /// Of the passes: the values of a slot up to this position.
  [[nodiscard]] std::uint64_t seen_of(std::uint32_t slot) const noexcept {
    const vec<seen_slots>& by = open && slot < place ? now : before;
    std::uint32_t lo = 0;
    std::uint32_t hi = by.size();
    while (lo != hi) {
      const std::uint32_t mid = lo + (hi - lo) / 2;
      if (by[mid].end > slot) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo == by.size() ? since : by[lo].head;
  }
  /// Place of the first that is not in front of `slot`.
  [[nodiscard]] std::uint32_t ahead_from(std::uint32_t slot) const noexcept {
    std::uint32_t lo = 0;
    std::uint32_t hi = ahead.size();
    while (lo != hi) {
      const std::uint32_t mid = lo + (hi - lo) / 2;
      if (ahead[mid].slot >= slot) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
};

/// One that gets the newest values of the keys that it chose, and the events without a key.
struct selection : value_reader {
  watch_list keys{};
  std::uint32_t put_back = none;  ///< the last watch that a cut write gave back
  std::uint32_t next = none;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

/// What a gap frame says.
struct loss {
  event_id requested = no_id;
  event_id first = no_id;
  std::uint64_t lost = 0;
  bool known = false;  ///< how many were lost
  bool with_ids = true;
};

enum class session_state : std::uint8_t {
  free,
  live,
  finishing,  ///< sends what is pending, then closes
  dead,       ///< counted out; closed and freed after the walk
  zombie,     ///< closed; its slot waits for a pending write
};

struct session {
  std::uint32_t generation = 0;
  session_state state : 3 = session_state::free;
  close_reason why : 4 = close_reason::peer;
  bool queued : 1 = false;  ///< in a list of those to be served (of the slot: outlives the session)
  bool blocked : 1 = false;  ///< the host will call writable() or written()
  bool waiting : 1 = false;  ///< with blocked: something waits, since progress
  bool said_farewell : 1 = false;
  bool retry_only : 1 = false;      ///< a retry stream: the host's hooks do not see it
  bool present : 1 = false;         ///< its user's presence was told
  bool over : 1 = false;            ///< over soft_lag, since over_since
  bool tells_position : 1 = false;  ///< it is told where it stands
  bool owes_position : 1 = false;   ///< it left the snapshot that was to tell it that
  bool has_ids : 1 = false;         ///< it joined a channel with ids, and may have left it
  bool own_ids : 1 = false;         ///< of a sequence that is that channel's own
  bool conflates : 1 = false;  ///< it joined a channel that does (lag_policy::coalesce), or watches
  bool paced : 1 = false;      ///< it gets values of some channel not before value_reader::due
  bool transients : 1 = false;  ///< it may have subscriptions to transient entries
  std::uint32_t first = none;   ///< subscriptions
  std::uint32_t lane = none;
  std::uint32_t chunked = none;  ///< in engine::chunks_; none: not chunked
  std::uint32_t flight = none;   ///< in engine::flights_, a write that is pending
  std::uint32_t timer = none;
  std::uint32_t queue_next = none;  ///< (of the slot, as queued)
  // Times in ms, modulo 2^32.
  std::uint32_t last_event = 0;      ///< application event delivered
  std::uint32_t last_write = 0;      ///< anything delivered
  std::uint32_t progress = 0;        ///< something waits since, or last bytes taken since
  std::uint32_t over_since = 0;      ///< see over
  std::int64_t ends_at = INT64_MAX;  ///< max_age or the verdict's until

  [[nodiscard]] std::uint32_t& free_link() noexcept { return lane; }
  [[nodiscard]] std::uint32_t& dead_next() noexcept { return progress; }
};
static_assert(sizeof(session) <= 56, "one for each stream");
static_assert(static_cast<unsigned>(session_state::zombie) < 8, "session::state has three bits");
static_assert(close_reason_count <= 16, "session::why has four bits");

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_PARTS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The typed half of the hub as the engine sees it.
struct host_calls {
  void* self = nullptr;
  write_result (*write)(void*, std::uint32_t slot, std::span<const buffer>) noexcept = nullptr;
  /// Destroys connection and user. `whole`: the last chunk is out, the connection may go on.
  void (*close)(void*, std::uint32_t slot, close_reason, bool announce,
                bool whole) noexcept = nullptr;
  /// Before a clean end; blocked: it is asked again. nullptr: nothing is to be done.
  flow (*end)(void*, std::uint32_t slot) noexcept = nullptr;
  bool (*sees)(void*, std::uint32_t slot, std::string_view key,
               std::string_view audience) noexcept = nullptr;
  void (*flush_begins)(void*) noexcept = nullptr;
  void (*flush_ends)(void*) noexcept = nullptr;
  std::uint32_t max_buffers = 16;
  bool completes = false;
};

/// An option's time as the engine can count it. Forever is off. What is held against a session's
/// 32-bit times ends at 24 days.
[[nodiscard]] constexpr duration countable(duration d,
                                           duration most = duration::seconds(24 * 24 *
                                                                             3600)) noexcept {
  if (d == duration::infinite()) return duration::off();
  return d < most ? d : most;
}
inline constexpr duration longest_age = duration::milliseconds(std::int64_t{1} << 50);

inline constexpr std::uint32_t max_channels = 1U << 27;
static_assert(2 * max_channels <= subscription::max_streams, "a channel has up to two streams");

class engine;

/// Where each id's place in the timer heap stands: sessions by slot, channels with the top bit set.
struct timer_places {
  static constexpr std::uint32_t channel_bit = 0x80000000U;
  static_assert(max_channels <= channel_bit);
  engine* e;
  [[nodiscard]] std::uint32_t& place(std::uint32_t id) const noexcept;
};

/// Streams that hold bytes for slow readers only, the one that holds most on top.
struct backlog_order {
  engine* e;
  [[nodiscard]] std::uint32_t& place(std::uint32_t id) const noexcept;
  [[nodiscard]] static bool before(std::uint64_t a, std::uint64_t b) noexcept { return a > b; }
};

/// What is remembered of a channel that was closed, so that one of its name goes on where it ended.
struct closed_channel {
  event_id start = no_id;  ///< of its own sequence
  event_id last = no_id;
  bool own = false;  ///< it had a sequence of its own
  std::uint32_t older = none;
  std::uint32_t newer = none;
};

/// An event id as decimal text. Ids mostly follow each other, and counting text is cheap.
class id_text {
 public:
  id_text() noexcept = default;

  /// Empty for no_id. Valid until the next call.
  [[nodiscard]] std::string_view view(event_id id) noexcept {
    if (id == no_id) return {};
    if (id != id_) {
      if (id != id_ + 1 || !count_up()) {
        begin_ = static_cast<std::uint8_t>(sizeof digits_ - decimal_size(id));
        put_decimal(digits_ + begin_, id);
      }
      id_ = id;
    }
    return {digits_ + begin_, sizeof digits_ - begin_};
  }

 private:
  /// False: it has as many digits as there are, or none yet.
  [[nodiscard]] bool count_up() noexcept {
    char* p = digits_ + sizeof digits_ - 1;
    for (; p >= digits_ + begin_ && *p == '9'; --p) *p = '0';
    if (p < digits_ + begin_) return false;
    ++*p;
    return true;
  }

  char digits_[max_digits];
  std::uint8_t begin_ = sizeof digits_;
  event_id id_ = no_id;
};

class engine {
 public:
  engine(const host_calls& host, const hub_options& options) noexcept;
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  ~engine();

  /// Held while hooks may be called or lists are walked: nothing is freed before the outermost one
  /// ends.
  class work {
   public:
    explicit work(engine& e) noexcept : e_{e} { ++e_.depth_; }
    work(const work&) = delete;
    work& operator=(const work&) = delete;
    ~work();

   private:
    engine& e_;
  };
  // Channels.
  [[nodiscard]] open_result open_channel(std::string_view name, channel_options&& o) noexcept;
  /// nullptr: it is closed, none, or another hub's.
  [[nodiscard]] channel_state* find(channel c) const noexcept;
  /// Where a channel's ids come from.
  [[nodiscard]] static sequence& sequence_of(channel_state& c) noexcept {
    return c.options_.own_sequence ? c.own_ : c.engine_->sequence_;
  }
  [[nodiscard]] static const sequence& sequence_of(const channel_state& c) noexcept {
    return c.options_.own_sequence ? c.own_ : c.engine_->sequence_;
  }
  [[nodiscard]] channel find_channel(std::string_view name) const noexcept;
  bool close_channel(channel c) noexcept;
  [[nodiscard]] const vec<channel_state*>& channels() const noexcept { return channels_; }
  [[nodiscard]] std::uint32_t closed_groups() const noexcept { return closed_groups_.size(); }
  [[nodiscard]] channel_stats closed_group(std::uint32_t i) const noexcept;
  [[nodiscard]] channel handle_of(const channel_state& c) const noexcept {
    return {&cells_[c.cell_], cells_[c.cell_].number};
  }

  // Bytes in.
  [[nodiscard]] publish_result publish(channel c, const event& e,
                                       const publish_options& o) noexcept;
  [[nodiscard]] publish_result publish(channel_state& c, const event& e,
                                       const publish_options& o) noexcept;
  [[nodiscard]] publish_error send(session_id id, const event& e) noexcept;
  std::size_t send_user(std::string_view key, const event& e) noexcept;

  // Sessions.
  /// Draining, and a total cap that evicts nobody, before anybody is asked. False: `out` says why.
  [[nodiscard]] bool precheck(accept_result& out);
  /// The same of a cap per address where nobody can make room.
  [[nodiscard]] bool precheck_address(const request& r, accept_result& out);
  /// Takes a slot; the caller places connection and user in it, then calls join() and open(). none:
  /// `out` says why not. REQUIRES: the caller holds `work` until open() returned.
  [[nodiscard]] std::uint32_t admit(const request& r, const joining& j, resume_point& resume,
                                    accept_result& out);
  void join(std::uint32_t slot, const joining& j, const resume_point& resume) noexcept;
  [[nodiscard]] std::uint32_t admit_retry_stream(const request& r, duration retry) noexcept;
  void open(std::uint32_t slot) noexcept;
  [[nodiscard]] join_error join(session_id id, channel c, const join_start& from,
                                const watch_options* watch = nullptr) noexcept;
  [[nodiscard]] bool selects(session_id id, channel c) const noexcept;
  [[nodiscard]] select_error select(session_id id, channel c,
                                    std::span<const std::string_view> keys) noexcept;
  [[nodiscard]] select_error unselect(session_id id, channel c,
                                      std::span<const std::string_view> keys) noexcept;
  /// Counts a request whose verdict comes later, until end_wait(). False: refused.
  [[nodiscard]] bool begin_wait(const request& r, counted_names& n, accept_result& out);
  void end_wait(counted_names& n) noexcept { caps_.end_wait(n); }
  /// Undoes admit(): the typed half could not be made.
  void abandon(std::uint32_t slot) noexcept;
  [[nodiscard]] session_id id_of(std::uint32_t slot) const noexcept {
    return {slot, sessions_[slot].generation};
  }
  /// nullptr: no such session, or it is closed and only its slot waits for a pending write.
  [[nodiscard]] session* find(session_id id) noexcept;
  [[nodiscard]] bool alive(session_id id) noexcept;
  [[nodiscard]] std::uint32_t user_sessions(std::string_view key) const noexcept {
    return caps_.count_of_user(key);
  }
  /// It gets newest values in place of some events, or may.
  [[nodiscard]] bool gets_values(std::uint32_t slot) const noexcept {
    return sessions_[slot].conflates;
  }
  [[nodiscard]] std::uint32_t session_count() const noexcept { return caps_.total(); }
  [[nodiscard]] std::uint32_t open_slots() const noexcept { return sessions_.in_use(); }

  // What the host reports.
  void writable(session_id id) noexcept;
  void written(session_id id, std::size_t n) noexcept;
  void closed(session_id id) noexcept;
  [[nodiscard]] std::size_t peek(session_id id, std::span<buffer> out) noexcept;

  // Ends.
  void close(session_id id, close_reason why) noexcept;
  void close_all() noexcept;
  void close_all_soon() noexcept;
  void finish(session_id id) noexcept;
  bool seal(channel c) noexcept;
  [[nodiscard]] bool leave(session_id id, channel c) noexcept;
  std::size_t revoke(std::string_view key) noexcept;
  void drain(const drain_options& o) noexcept;
  [[nodiscard]] bool draining() const noexcept { return draining_; }

  // Bytes out, and time.
  bool flush() noexcept;
  void tick(time_point host_now) noexcept;
  void set_time(time_point host_now) noexcept;
  [[nodiscard]] time_point next_deadline() const noexcept;
  [[nodiscard]] std::uint64_t worst_lag(channel c) const noexcept;
  [[nodiscard]] session_counts session_stats(session_id id, const channel* c) const noexcept;

  [[nodiscard]] hub_stats stats() const noexcept;
  void count_refusal(refusal_reason why) noexcept {
    ++stats_.refused;
    ++stats_.refused_by[static_cast<std::size_t>(why)];
  }
  void shut_down() noexcept;
  [[nodiscard]] const hub_options& options() const noexcept { return options_; }

  // Hooks of the non-typed kind.
  function<void(const gap_notice&)> on_gap;
  function<void(channel, std::string_view key, bool present)> on_presence;
  function<void()> on_wanted;
  function<void(channel)> on_channel_closed;
  /// The host could not do what on_wanted asked for.
  void wanted_in_vain() noexcept { wanted_ = false; }
  /// The host has a rule of its own for who sees an audience (host_calls::sees); else it is the
  /// user whose key it is.
  void ask_who_sees(bool on) noexcept { ask_who_sees_ = on; }

 private:
  friend struct timer_places;
  friend struct backlog_order;
  friend class sse::backfill_writer;

  /// Hidden entries that one session is looked through in a turn where the host is asked for each.
  static constexpr std::uint32_t asks_per_turn = 1024;
  /// Of the flush's budget, for one of them.
  static constexpr std::uint32_t bytes_per_ask = 64;

  /// Something waits for the next flush.
  void want() noexcept {
    if (wanted_ || !on_wanted) return;
    wanted_ = true;
    const quiet q{*this};
    on_wanted();
  }

  /// A hook runs that may call nothing here.
  class quiet {
   public:
    explicit quiet(engine& e) noexcept : e_{e} { e_.quiet_ = true; }
    quiet(const quiet&) = delete;
    quiet& operator=(const quiet&) = delete;
    ~quiet() { e_.quiet_ = false; }

   private:
    engine& e_;
  };

  /// One subscription's share of what is gathered.
  struct head {
    log_place at;             ///< where its cursor stands once all of it is out
    std::uint32_t index;      ///< subscription
    std::uint32_t count = 0;  ///< entries
  };
  /// What a head has next, while several are merged.
  struct next_entry {
    std::uint64_t stamp = 0;  ///< of the entry at head::at
    own_entries own;
  };

  /// Sessions in line, through session::queue_next.
  struct queue {
    std::uint32_t first = none;
    std::uint32_t last = none;
  };

  // sessions.hpp
  [[nodiscard]] bool serving(const session& s) const noexcept {
    return s.state == session_state::live || s.state == session_state::finishing;
  }
  [[nodiscard]] stream& stream_of(const subscription& sub) const noexcept {
    return *streams_[sub.stream_index].here;
  }
  [[nodiscard]] session* holder(session_id id) noexcept;
  void enqueue(queue& q, std::uint32_t slot) noexcept;
  void begin_waiting(session& s) noexcept;
  [[nodiscard]] std::uint32_t dequeue(queue& q) noexcept;
  void touch(stream& st) noexcept;
  [[nodiscard]] stream& next_touched() noexcept;
  void untouch(stream& st) noexcept;
  [[nodiscard]] bool begin_counts(std::uint32_t index) noexcept;
  void note_latency(const channel_state& c, std::int64_t at) noexcept;
  void count_lost(std::uint32_t index, std::uint64_t n) noexcept;
  void count_conflated(std::uint32_t index, std::uint64_t n) noexcept;
  void count(std::uint32_t index, std::uint64_t session_counts::*what, std::uint64_t n) noexcept;
  void move_cursor(subscription& sub, const log_place& to) noexcept;
  void release_cursor(subscription& sub) noexcept;
  void place_at(subscription& sub, std::uint64_t ordinal) noexcept;
  [[nodiscard]] std::uint32_t& link_behind(std::uint32_t slot, std::uint32_t before) noexcept;
  [[nodiscard]] std::uint32_t add_reader(std::uint32_t slot, stream& st,
                                         std::uint32_t before) noexcept;
  void swap_readers(stream& st, std::uint32_t a, std::uint32_t b) noexcept;
  [[nodiscard]] bool is_live(const subscription& sub) const noexcept;
  void set_selecting(subscription& sub, bool on) noexcept;
  [[nodiscard]] std::uint32_t find_watch(const subscription& sub,
                                         std::string_view key) const noexcept;
  [[nodiscard]] bool lost_keyless(const subscription& sub, const newest_by_key& values) noexcept;
  [[nodiscard]] static bool gets_values(const subscription& sub) noexcept;
  [[nodiscard]] value_reader& value_reader_of(const subscription& sub) noexcept;
  [[nodiscard]] std::int64_t values_due(const subscription& sub) noexcept;
  void give_record_back(subscription& sub) noexcept;
  void detach(std::uint32_t slot, std::uint32_t before) noexcept;
  void detach_all(std::uint32_t slot) noexcept;
  [[nodiscard]] bool add_transients(std::uint32_t index) noexcept;
  [[nodiscard]] bool add_new_transients(std::uint32_t slot) noexcept;
  void drop_transients(std::uint32_t slot) noexcept;
  void hand_out(stream& st) noexcept;
  [[nodiscard]] std::uint32_t take_slot(const request& r) noexcept;
  void mark_dead(std::uint32_t slot, close_reason why) noexcept;
  void bury(std::uint32_t slot) noexcept;
  void begin_flight(session& s, batch& b, std::uint64_t taken) noexcept;
  void end_flight(session& s) noexcept;
  void tell_presence(std::uint32_t slot) noexcept;
  void begin_presence(std::uint32_t slot, const stream& st) noexcept;
  void end_presence(std::uint32_t slot, const stream& st) noexcept;

  // timers.hpp
  [[nodiscard]] channel_state* heart_of(const session& s) const noexcept;
  void arm(std::uint32_t slot) noexcept;
  void arm_channel(channel_state& c) noexcept;

  // channels.hpp
  [[nodiscard]] channel_state* find_state(std::string_view name) const noexcept;
  [[nodiscard]] channel_state& joined(const joining& j, std::uint32_t i) const noexcept;
  [[nodiscard]] bool make_channel(channel_state& c, std::string_view name,
                                  channel_options&& o) noexcept;
  void begin_sequence(channel_state& c) noexcept;
  [[nodiscard]] std::uint32_t list_stream(stream& st) noexcept;
  void unlist_stream(stream& st) noexcept;
  [[nodiscard]] stream* transients_of(channel_state& c) noexcept;
  void delete_channel(channel_state* c) noexcept;
  void free_channel(channel_state* c) noexcept;
  void remember(const channel_state& c) noexcept;
  void count_closed(const channel_state& c) noexcept;
  void raise_floor(const closed_channel& c) noexcept;
  void forget(std::uint32_t i) noexcept;

  // ends.hpp
  void reap() noexcept;
  void close_channel(channel_state& c) noexcept;
  void seal(channel_state& c) noexcept;
  void mark_all_dead() noexcept;
  void begin_finish(std::uint32_t slot, close_reason why) noexcept;
  void finish_if_sealed(std::uint32_t slot) noexcept;
  void end_leaving(std::uint32_t slot, std::uint32_t half_sent) noexcept;

  // visibility.hpp
  enum class found : std::uint8_t { entry, nothing, paused };
  [[nodiscard]] bool sees(std::uint32_t slot, std::string_view audience) noexcept;
  [[nodiscard]] static std::uint32_t next_in_segment(const segment& s, std::uint32_t k,
                                                     std::uint64_t own) noexcept;
  [[nodiscard]] bool own_entries_of(std::uint32_t slot, const stream& st,
                                    own_entries& own) noexcept;
  [[nodiscard]] found next_visible(std::uint32_t slot, const stream& st, log_place& p,
                                   own_entries& own) noexcept;
  [[nodiscard]] found next_visible(std::uint32_t slot, const stream& st, log_place& p) noexcept;
  void pass_hidden(subscription& sub) noexcept;

  // lag.hpp
  [[nodiscard]] std::uint64_t lag_of(const stream& st, const subscription& sub) const noexcept;
  void watch_lag(stream& st, std::uint64_t from, bool over_soft = false) noexcept;
  [[nodiscard]] bool still_over(const session& s) noexcept;
  void enforce_lag(stream& st) noexcept;
  void over_lag(std::uint32_t index) noexcept;
  void leave_log(std::uint32_t index) noexcept;
  void conflate(std::uint32_t slot, bool late_only) noexcept;
  void sweep(stream& st) noexcept;
  void count_backlog(stream& st) noexcept;
  void shed_backlog() noexcept;
  void settle() noexcept;

  // catch_up.hpp
  [[nodiscard]] std::uint32_t pass_transients(std::uint32_t index) noexcept;
  [[nodiscard]] bool subscribe(std::uint32_t slot, const joining& j,
                               const resume_point& resume) noexcept;
  using watch_request = const watch_requests::request*;  ///< nullptr: read as any other channel
  struct beginning {
    /// newest, selected, backfill: behind the id that it brought, if it did
    source from = source::log;
    std::uint64_t ordinal = 0;  ///< log: of its first entry
    bool resumes = false;       ///< from an id that was given out
    bool lost = false;          ///< what it asked for is gone, or not given out yet
  };
  [[nodiscard]] static beginning beginning_of(const channel_state& c, const joining& j,
                                              const resume_point& resume,
                                              watch_request watch) noexcept;
  [[nodiscard]] bool begin_at(std::uint32_t index, const joining& j, const resume_point& resume,
                              watch_request watch, bool& lost) noexcept;
  [[nodiscard]] bool start_watching(std::uint32_t index, const joining& j,
                                    const resume_point& resume,
                                    const watch_requests::request& watch, bool resumes) noexcept;
  [[nodiscard]] static std::uint64_t in_front_of(const event_log& log, std::uint64_t ordinal,
                                                 std::uint64_t head) noexcept;
  [[nodiscard]] std::uint64_t head_of(const channel_state& c) const noexcept;
  [[nodiscard]] bool start_passes(subscription& sub, std::uint64_t since, std::uint64_t keyless,
                                  std::uint64_t told) noexcept;
  void begin_values(value_reader& r, const channel_state& c) const noexcept;
  [[nodiscard]] std::uint32_t most_at_a_time() const noexcept;
  void go_live(subscription& sub, std::uint64_t ordinal) noexcept;
  void leave_skips(std::uint32_t slot) noexcept;
  [[nodiscard]] loss leave_skip(std::uint32_t slot, std::uint32_t index) noexcept;
  [[nodiscard]] static start_at start_of(const channel_state& c, const joining& j) noexcept;
  [[nodiscard]] bool was_lost(event_id id) const noexcept {
    return id > options_.lost_above && id + 1 < options_.lost_below;
  }
  [[nodiscard]] static event_id gone_up_to(const stream& st) noexcept;
  [[nodiscard]] static event_id first_possible(const stream& st) noexcept;
  [[nodiscard]] static std::uint64_t skip_target(const stream& st) noexcept;
  [[nodiscard]] event_id next_id(std::uint32_t slot) noexcept;
  [[nodiscard]] bool tells_position(const joining& j) const noexcept;
  [[nodiscard]] bool push_position(std::uint32_t slot) noexcept;
  void push_owed_position(std::uint32_t slot) noexcept;
  [[nodiscard]] bool waits_in_line(const subscription& sub) const noexcept;
  [[nodiscard]] bool opens(const subscription& sub) const noexcept;
  [[nodiscard]] event_id values_to(std::uint32_t slot, bool ended = false) const noexcept;
  [[nodiscard]] static loss loss_at_opening(const channel_state& c, event_id after) noexcept;
  [[nodiscard]] static newest_by_key& values_of(stream& st) noexcept;
  [[nodiscard]] std::uint64_t next_keyless(const subscription& sub, std::uint64_t n) noexcept;
  void note_losses(std::uint32_t slot, bool of_values = false) noexcept;
  [[nodiscard]] bool tell(std::uint32_t slot) noexcept;
  [[nodiscard]] bool tell_standing(std::uint32_t slot) noexcept;
  [[nodiscard]] bool push_gap(std::uint32_t slot, channel_state& where, const loss& what,
                              bool moves_id) noexcept;

  // selection.hpp
  [[nodiscard]] select_error find_selection(session_id id, channel c,
                                            std::uint32_t& index) noexcept;
  [[nodiscard]] bool watch_key(std::uint32_t index, std::string_view key) noexcept;
  [[nodiscard]] bool watch_keys(std::uint32_t index, const watch_requests::request& w) noexcept;
  void wake_watchers(channel_state& c, std::string_view key, std::uint64_t position,
                     std::string_view audience) noexcept;
  void value_sent(std::uint32_t index, std::uint32_t w) noexcept;
  void wake_watch(channel_state& c, std::uint32_t w, std::uint64_t position) noexcept;
  void chain_fresh_keys(const channel_state& c) noexcept;
  [[nodiscard]] bool keyless_waits(const subscription& sub) const noexcept;
  [[nodiscard]] std::uint32_t selection_of(std::uint32_t slot,
                                           const channel_state& c) const noexcept;
  [[nodiscard]] bool has_more(const subscription& sub) const noexcept;

  // weave.hpp
  /// A channel's share of what a session that catches up gets next.
  struct strand {
    static constexpr std::uint64_t nothing = UINT64_MAX;
    std::uint64_t next = nothing;  ///< id of its next event; where there are none, its stamp
    std::uint32_t index = none;    ///< subscription
    // What it has next, by the subscription's source.
    std::uint64_t keyless =
        nothing;               ///< newest: number of the event without a key; nothing: unknown
    own_entries own{};         ///< log
    std::uint32_t staged = 0;  ///< backfill: what the hook gave, in staged_
    std::uint32_t staged_end = 0;
    event_id covered = no_id;  ///< backfill: it has nothing else up to here
    backfill_state answer = backfill_state::wait;
  };
  struct staged_event {
    event_id id;
    blob* bytes;  ///< nullptr: a loss, up to there
  };
  struct weaving {
    std::uint32_t slot;
    std::uint64_t room;                       ///< bytes
    std::uint64_t bytes = 0;                  ///< taken
    std::uint64_t horizon = strand::nothing;  ///< what is above this id is not known yet
    std::uint64_t done_to = 0;                ///< all events up to this id are taken
    event_id values_to = max_event_id;        ///< what their ids say of values
    std::uint64_t size = 0;                   ///< of the pieces at hand
    bool apart = false;                       ///< an id was told that says where the values are
    bool moved = false;                       ///< something is further than before
    bool ok = true;                           ///< false: memory is out
  };
  // passes.hpp, selection.hpp
  static constexpr std::uint32_t least_at_a_time = 1024;  ///< bytes of values
  static constexpr std::uint64_t barrier = 0;             ///< no position
  [[nodiscard]] bool may_take(const subscription& sub) noexcept;
  void take_newest(weaving& w, std::uint32_t index) noexcept;
  void share_passes(weaving& w) noexcept;
  [[nodiscard]] bool add_value(weaving& w, std::uint32_t index, std::uint32_t value,
                               bool counts) noexcept;
  [[nodiscard]] bool add_before(weaving& w, std::uint32_t index, std::string_view key,
                                std::string_view audience) noexcept;
  [[nodiscard]] bool add_chosen_before(weaving& w, std::uint32_t index,
                                       std::string_view key) noexcept;
  [[nodiscard]] bool is_old(const channel_state& c, const newest_value& v) const noexcept;
  [[nodiscard]] blob* make_loss(const channel_state& c, std::uint32_t value) const noexcept;
  [[nodiscard]] bool push_value(weaving& w, std::uint32_t index, std::uint32_t value,
                                std::uint32_t key, bool counts) noexcept;
  void take_selected(weaving& w, std::uint32_t index) noexcept;
  [[nodiscard]] bool take_key(weaving& w, std::uint32_t index, std::uint32_t x) noexcept;
  void take_back(selection& chosen, const lane_item& item) noexcept;
  [[nodiscard]] std::uint64_t begin_taking(value_reader& r, const weaving& w) const noexcept;
  void note_cut(value_reader& r, std::uint64_t n) noexcept;
  void pay(value_reader& r, std::int64_t bytes) const noexcept;
  void wait_a_period(value_reader& r) noexcept;
  void run_passes(weaving& w) noexcept;
  void end_pass(std::uint32_t index) noexcept;
  void take_values(weaving& w, std::uint32_t index) noexcept;
  [[nodiscard]] bool sees_value(std::uint32_t slot, const newest_value& v) noexcept;
  static void begin_pass(passing& p, std::uint64_t newest) noexcept;
  [[nodiscard]] bool end_of_slots(weaving& w, std::uint32_t index, std::uint64_t newest) noexcept;
  [[nodiscard]] bool tells_pass(std::uint32_t slot, std::uint32_t index) const noexcept;
  [[nodiscard]] bool tell_pass(std::uint32_t slot, std::uint32_t index) noexcept;
  void take_values_back(std::uint32_t slot, std::uint64_t n) noexcept;
  [[nodiscard]] static std::uint32_t next_changed(const newest_by_key& values, passing& p) noexcept;

  void fill(std::uint32_t slot) noexcept;
  [[nodiscard]] bool weaves(const session& s) const noexcept;
  void weave(weaving& w) noexcept;
  void sink(std::uint32_t i) noexcept;
  void look(weaving& w, strand& x) noexcept;
  void take(weaving& w, strand& x, std::uint64_t bound) noexcept;
  void take_loss(weaving& w, channel_state& c, event_id before, event_id id) noexcept;
  void take_keyless(weaving& w, strand& x) noexcept;
  void take_from_log(weaving& w, strand& x, std::uint64_t bound) noexcept;
  [[nodiscard]] bool add_piece(weaving& w, std::string_view text, event_id id) noexcept;
  void push_pieces(weaving& w, lane_kind kind, std::uint32_t from) noexcept;
  void ask_hooks(weaving& w) noexcept;
  void ask_hook(weaving& w, strand& x, std::size_t room) noexcept;
  void advance_hooks(event_id id) noexcept;
  void leave_hooks(weaving& w) noexcept;

  // publish.hpp
  [[nodiscard]] publish_error append(stream& st, const event& e, new_entry& meta,
                                     const publish_options& o,
                                     const encode_limits& limits) noexcept;
  [[nodiscard]] bool index_audience(stream& st, std::string_view audience) noexcept;
  void put_newest(channel_state& c, const new_entry& meta, const publish_options& o) noexcept;
  void put_keyless(channel_state& c, const new_entry& meta, const publish_options& o) noexcept;
  void announce(stream& st, std::string_view audience, bool keyed = false) noexcept;
  void serve_user(stream& st, std::string_view key) noexcept;

  // flush.hpp
  void flush_once() noexcept;
  [[nodiscard]] std::uint64_t pump(std::uint32_t slot) noexcept;
  [[nodiscard]] bool nothing_left(std::uint32_t slot, session& s) noexcept;
  void serve_dirty() noexcept;
  void serve_transients() noexcept;
  void hand_out_to_readers(stream& st) noexcept;
  [[nodiscard]] bool gather(std::uint32_t slot, session& s, batch& b) noexcept;
  [[nodiscard]] bool gather_session(std::uint32_t slot, session& s, batch& b) noexcept;
  [[nodiscard]] bool gather_logs(std::uint32_t slot, session& s, std::uint32_t half_sent,
                                 bool woven, batch& b) noexcept;
  [[nodiscard]] bool gather_one(std::uint32_t slot, head& h, batch& b,
                                bool found_first = false) noexcept;
  [[nodiscard]] bool gather_merged(std::uint32_t slot, batch& b) noexcept;
  [[nodiscard]] bool add_head(std::uint32_t index, std::uint32_t half_sent) noexcept;
  void look_ahead(std::uint32_t slot, head& h, next_entry& next, std::uint64_t& limit) noexcept;
  void put_in_window(std::uint32_t slot, head& h, next_entry& next, std::uint64_t& limit) noexcept;
  void put_visible(std::uint32_t slot, head& h, own_entries& own, std::uint32_t stop) noexcept;
  void advance(std::uint32_t slot, const run* runs, std::uint32_t count, std::uint64_t n,
               bool with_heads) noexcept;
  void count_value(std::uint32_t index, bool came, std::int64_t at) noexcept;
  void count_old(const subscription& sub, const lane_item& item) noexcept;
  void lane_item_sent(session& s, const lane_item& item) noexcept;
  void note_write(session& s, std::uint64_t n) noexcept;
  void advance_heads(session& s) noexcept;
  void advance_cursor(session& s, const run& r, std::uint32_t n) noexcept;
  void delivered(session& s, std::uint32_t index, const log_place& from, std::uint32_t count,
                 bool application) noexcept;
  void look_at_each(std::uint32_t index, log_place p, std::uint32_t whole) noexcept;
  void block(std::uint32_t slot, session& s, bool waiting) noexcept;
  [[nodiscard]] bool say_farewell(std::uint32_t slot, session& s) noexcept;

  // deadlines.hpp
  [[nodiscard]] blob* make_heartbeat(channel_state& c) noexcept;
  void publish_heartbeat(channel_state& c) noexcept;
  void keep_countable(session& s, std::int64_t passed) noexcept;
  void jump_to_target() noexcept;
  [[nodiscard]] std::int64_t next_beat(std::int64_t every) const noexcept;
  void on_session_timer(std::uint32_t slot) noexcept;
  void look_at_soft_lag(std::uint32_t slot) noexcept;
  void beat(std::uint32_t slot, channel_state& heart) noexcept;
  void on_channel_timer(channel_state& c) noexcept;
  [[nodiscard]] std::uint32_t now32() const noexcept { return static_cast<std::uint32_t>(now_); }
  [[nodiscard]] static std::int64_t since(std::uint32_t then, std::uint32_t now) noexcept {
    return static_cast<std::int32_t>(now - then);  // below 0: `then` is to come
  }

  // admit.hpp
  [[nodiscard]] bool nothing_comes(const joining& j, const resume_point& resume) const noexcept;
  [[nodiscard]] bool nothing_comes(const channel_state& c, const joining& j,
                                   const resume_point& resume, watch_request watch) const noexcept;
  [[nodiscard]] refusal_reason bad_join(const joining& j) noexcept;
  [[nodiscard]] join_error bad_join(std::uint32_t slot, channel c,
                                    const watch_options* watch) const noexcept;
  [[nodiscard]] bool moved_on(std::uint32_t slot, const channel_state& c, const joining& j,
                              const resume_point& resume, watch_request watch) noexcept;
  [[nodiscard]] bool begin_at_join(std::uint32_t index, const joining& j,
                                   const resume_point& resume, watch_request watch) noexcept;
  [[nodiscard]] bool stands_nowhere(const session& s, std::uint32_t but) const noexcept;
  [[nodiscard]] refusal_reason bad_channel(const joining& j, std::uint32_t i) const noexcept;
  void evict(const victims& v) noexcept;
  void set_end(session& s, const joining& j) noexcept;
  [[nodiscard]] bool push_opening(std::uint32_t slot, const request& r) noexcept;

  /// A stream's place in streams_.
  struct listed_stream {
    stream* here = nullptr;
    std::uint32_t link = none;
    [[nodiscard]] std::uint32_t& free_link() noexcept { return link; }
  };

  host_calls host_;
  hub_options options_;
  owned_text opening_;
  owned_text resume_query_;
  blob* opening_frame_ = nullptr;
  blob* farewell_ = nullptr;

  // Who is there.
  slot_pool<session> sessions_;
  slot_pool<subscription> subs_;
  caps caps_;
  lanes lanes_;
  chunks chunks_;
  slot_pool<skip, 16> skips_;
  slot_pool<passing, 16> passes_;
  slot_pool<selection, 16> selections_;
  name_table<no_user> presence_;  ///< by user and channel: how many sessions
  std::uint32_t generations_ = 0;
  queue live_;                 ///< sessions to be served in the next flush
  queue ready_;                ///< those that catch up, in turn, within the flush's budget
  std::uint32_t dead_ = none;  ///< sessions to be closed when the outermost call ends, in order
  std::uint32_t dead_last_ = none;

  // What is told.
  segment_pool pool_;
  vec<channel_state*> channels_;
  slot_pool<channel_cell> cells_;
  std::uint64_t channel_numbers_ = 0;  ///< given out
  name_table<channel_state*> names_;
  slot_pool<listed_stream> streams_;
  stream* touched_ = nullptr;
  struct untold {
    channel_state* where;
    loss what;
  };
  vec<untold> untold_;             ///< losses that the session at hand is told next
  vec<session_counts> counts_;     ///< by subscription; empty: hub_options::session_stats is off
  vec<std::uint32_t> fresh_keys_;  ///< that nobody chose before
  vec<channel_state*> closing_;    ///< to be freed when the outermost call ends
  name_table<channel_stats, 8> closed_groups_;  ///< by channel_options::metrics_name
  name_table<closed_channel, 16> closed_;
  std::uint32_t closed_oldest_ = none;
  std::uint32_t closed_newest_ = none;
  event_id closed_floor_ = no_id;  ///< of those that are not remembered any more
  event_id own_closed_floor_ = no_id;
  sequence sequence_;
  std::uint64_t stamp_ = 0;
  id_text last_id_;            ///< of the event that was published last, whatever its sequence
  std::uint64_t backlog_ = 0;  ///< sum of stream::backlog
  indexed_heap<std::uint64_t, backlog_order> backlogs_{backlog_order{this}};

  // What is on its way.
  batch batch_;  ///< of the pump under way
  vec<head> heads_;
  vec<next_entry> next_;  ///< of each head
  merge_window window_;
  vec<strand> strands_;  ///< of the session that catches up: a heap by strand::next
  vec<staged_event> staged_;
  struct piece {
    std::string_view text;
    event_id id;  ///< its `id:` is written anew; no_id: all is in `text`
  };
  vec<piece> pieces_;
  slot_pool<flight, 16> flights_;
  std::uint32_t roomy_flights_ = 0;  ///< free ones that kept room for their runs
  std::uint64_t accept_budget_ = 0;  ///< bytes that streams that open may still get in this turn
  std::uint32_t asks_left_ = 0;      ///< hidden entries that may still be looked at in this gather

  // Time.
  std::int64_t origin_ = INT64_MIN;  ///< the host's clock at the first tick
  std::int64_t now_ = 0;             ///< ms since then; what was due by then has acted
  std::int64_t present_ = 0;         ///< as told last: what is published or begins is of this time
  std::int64_t target_ = 0;          ///< where the tick under way will end
  std::int64_t drain_deadline_ = INT64_MAX;
  timer_places places_{this};
  timer_heap<timer_places> timers_{places_};
  random_numbers random_;

  std::uint32_t depth_ = 0;  ///< of `work`
  bool reaping_ = false;
  bool flushing_ = false;
  bool quiet_ = false;
  bool wanted_ = false;         ///< the host was told since the last flush
  bool close_all_due_ = false;  ///< when the outermost call ends
  bool draining_ = false;
  bool ask_who_sees_ = false;
  hub_stats stats_;
};

inline std::uint32_t& timer_places::place(std::uint32_t id) const noexcept {
  if ((id & channel_bit) != 0) return e->channels_[id & ~channel_bit]->timer_;
  return e->sessions_[id].timer;
}

inline std::uint32_t& backlog_order::place(std::uint32_t id) const noexcept {
  return e->streams_[id].here->by_backlog;
}

inline engine::engine(const host_calls& host, const hub_options& options) noexcept
    : host_{host},
      options_{options},
      caps_{options.caps, options.counter, options.seed},
      presence_{options.seed},
      names_{options.seed},
      closed_{options.seed},
      random_{options.seed} {
  if (host_.max_buffers > batch::most_buffers) host_.max_buffers = batch::most_buffers;
  if (host_.max_buffers < 1) host_.max_buffers = 1;
  // Out of memory at construction only costs the texts: streams open without their comment.
  (void)opening_.assign(options.opening);
  (void)resume_query_.assign(options.resume_query);
  options_.opening = opening_.view();
  if (!options_.opening.empty() && check_comment(options_.opening) == encode_error::none) {
    opening_frame_ = make_blob(static_cast<std::uint32_t>(encoded_comment_size(options_.opening)));
    if (opening_frame_ != nullptr) encode_comment_to(opening_frame_->bytes(), options_.opening);
  }
  options_.resume_query = resume_query_.view();
  options_.write_deadline = countable(options.write_deadline);
  options_.idle = countable(options.idle);
  options_.max_age = countable(options.max_age, longest_age);
  if (options_.flush_share == 0) options_.flush_share = 1;
  if (options_.flush_budget == 0) options_.flush_budget = UINT64_MAX;
  if (options_.control_lane == 0) options_.control_lane = 1;
  accept_budget_ = options_.flush_budget;
  options_.first_id = said_or(options.first_id, no_id);
  sequence_.start = sequence_.last = options_.first_id;
}

inline hub_stats engine::stats() const noexcept {
  hub_stats s = stats_;
  s.sessions = caps_.total();
  s.log_bytes = pool_.held();
  return s;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_ENGINE_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

// --- who is served, what is looked at ------------------------------------------------------------

inline void engine::enqueue(queue& q, std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (s.blocked) begin_waiting(s);
  if (s.queued || s.blocked) return;
  s.queued = true;
  s.queue_next = none;
  (q.last == none ? q.first : sessions_[q.last].queue_next) = slot;
  q.last = slot;
}

/// A blocked stream has something to say: from now on the write deadline counts, if it did not.
inline void engine::begin_waiting(session& s) noexcept {
  if (s.waiting) return;
  s.waiting = true;
  s.progress = now32();
}

/// REQUIRES: it is not empty.
inline std::uint32_t engine::dequeue(queue& q) noexcept {
  SSEHUB_ASSERT(q.first != none && sessions_[q.first].queued);
  const std::uint32_t slot = q.first;
  session& s = sessions_[slot];
  q.first = s.queue_next;
  if (q.first == none) q.last = none;
  s.queued = false;
  return slot;
}

/// Settles a stream after the walk: limits, then what nobody needs goes.
inline void engine::touch(stream& st) noexcept {
  if (st.touched) return;
  st.touched = true;
  st.touched_prev = nullptr;
  st.touched_next = touched_;
  if (touched_ != nullptr) touched_->touched_prev = &st;
  touched_ = &st;
}

/// Takes the first of them out of the list. REQUIRES: there is one.
inline stream& engine::next_touched() noexcept {
  stream& st = *touched_;
  st.touched = false;
  touched_ = st.touched_next;
  if (touched_ != nullptr) touched_->touched_prev = nullptr;
  return st;
}

inline void engine::untouch(stream& st) noexcept {
  if (!st.touched) return;
  st.touched = false;
  (st.touched_prev == nullptr ? touched_ : st.touched_prev->touched_next) = st.touched_next;
  if (st.touched_next != nullptr) st.touched_next->touched_prev = st.touched_prev;
}

// --- cursors -------------------------------------------------------------------------------------

/// In front of another entry, with nothing half sent.
inline void engine::move_cursor(subscription& sub, const log_place& to) noexcept {
  sub.k = to.k;
  sub.rest = 0;
  if (to.seg == sub.seg) return;
  ++to.seg->pins;
  release_cursor(sub);
  sub.seg = to.seg;
}

inline void engine::release_cursor(subscription& sub) noexcept {
  if (sub.seg == nullptr) return;
  if (sub.seg->pins == 1 && sub.seg->attached) touch(stream_of(sub));  // it may go now
  pool_.unpin(sub.seg);
  sub.seg = nullptr;
}

/// REQUIRES: the log has a segment.
inline void engine::place_at(subscription& sub, std::uint64_t ordinal) noexcept {
  move_cursor(sub, stream_of(sub).log.at(ordinal));
}

/// Where a session's chain of subscriptions goes on behind one of them; none: where it begins.
inline std::uint32_t& engine::link_behind(std::uint32_t slot, std::uint32_t before) noexcept {
  return before == none ? sessions_[slot].first : subs_[before].next;
}

/// Subscribes a session to a stream, at its end, behind the subscription `before`; none: memory is
/// out.
inline std::uint32_t engine::add_reader(std::uint32_t slot, stream& st,
                                        std::uint32_t before) noexcept {
  if (!st.log.ensure_tail() || !st.readers.reserve(st.readers.size() + 1)) return none;
  const std::uint32_t i = subs_.take();
  if (i == none) return none;
  if (options_.session_stats && !begin_counts(i)) {
    subs_.give_back(i);
    return none;
  }
  std::uint32_t& link = link_behind(slot, before);
  subscription& sub = subs_[i];
  sub = subscription{};
  sub.session = slot;
  sub.next = link;
  sub.read_stream(st.index);
  sub.place = st.readers.size();
  st.readers.push_reserved(i);
  if (st.selecting != 0) swap_readers(st, sub.place, sub.place - st.selecting);
  link = i;
  move_cursor(sub, st.log.end_place());
  sub.live_from = st.log.end_offset();
  return i;
}

inline void engine::swap_readers(stream& st, std::uint32_t a, std::uint32_t b) noexcept {
  std::swap(st.readers[a], st.readers[b]);
  subs_[st.readers[a]].place = a;
  subs_[st.readers[b]].place = b;
}

/// Among the readers that chose their keys, or out of them.
inline void engine::set_selecting(subscription& sub, bool on) noexcept {
  stream& st = stream_of(sub);
  if (!on) --st.selecting;
  swap_readers(st, sub.place, st.readers.size() - 1 - st.selecting);  // where both kinds meet
  if (on) ++st.selecting;
}

/// The newest position of a channel: an id, or a stamp where there are none.
inline std::uint64_t engine::head_of(const channel_state& c) const noexcept {
  return c.options_.ids != id_mode::none ? sequence_of(c).last : stamp_;
}

/// It reads the values of a channel.
inline bool engine::gets_values(const subscription& sub) noexcept {
  return sub.from() == source::newest || sub.from() == source::selected;
}

/// REQUIRES: gets_values(sub).
inline value_reader& engine::value_reader_of(const subscription& sub) noexcept {
  if (sub.from() == source::selected) return selections_[sub.record];
  return passes_[sub.record];
}

inline void engine::give_record_back(subscription& sub) noexcept {
  if (sub.from() == source::skip) skips_.give_back(sub.record);
  if (sub.from() == source::selected) {
    set_selecting(sub, false);
    selection& chosen = selections_[sub.record];
    stream_of(sub).owner->newest_->watchers()->clear(chosen.keys);
    chosen = {};
    selections_.give_back(sub.record);
  }
  if (sub.from() != source::newest) return;
  passing& p = passes_[sub.record];
  passing fresh;  // with their memory
  fresh.before.swap(p.before);
  fresh.now.swap(p.now);
  p = std::move(fresh);
  for (vec<seen_slots>* const seen : {&p.before, &p.now}) {
    if (seen->capacity() > 64) seen->release();
    seen->clear();
  }
  passes_.give_back(sub.record);
}

/// Ends the subscription behind `before`.
inline void engine::detach(std::uint32_t slot, std::uint32_t before) noexcept {
  std::uint32_t& link = link_behind(slot, before);
  const std::uint32_t index = link;
  subscription& sub = subs_[index];
  stream& st = stream_of(sub);
  link = sub.next;
  give_record_back(sub);
  if (st.selecting != 0) swap_readers(st, sub.place, st.readers.size() - 1 - st.selecting);
  const std::uint32_t moved = st.readers.back();
  st.readers[sub.place] = moved;
  subs_[moved].place = sub.place;
  st.readers.pop_back();
  release_cursor(sub);
  subs_.give_back(index);
}

inline void engine::detach_all(std::uint32_t slot) noexcept {
  while (sessions_[slot].first != none) {
    const subscription& sub = subs_[sessions_[slot].first];
    stream& st = stream_of(sub);
    const bool left = sub.from() == source::left;
    detach(slot, none);
    if (!st.transients && !left) end_presence(slot, st);
  }
}

// --- transient entries ---------------------------------------------------------------------------
// A session has a subscription to them, behind the channel's own, from when it has some to get
// until it is served in a turn that brought none.

/// From what nobody has yet. False: memory is out.
inline bool engine::add_transients(std::uint32_t index) noexcept {
  subscription& main = subs_[index];
  if (main.with_transients != 0 || main.from() == source::left) return true;
  stream& st = *stream_of(main).owner->transients_;
  const std::uint32_t i = add_reader(main.session, st, index);
  if (i == none) return false;
  main.with_transients = 1;
  sessions_[main.session].transients = true;
  move_cursor(subs_[i], st.handed_out);
  subs_[i].live_from = subs_[i].offset();
  return true;
}

/// Ends those that have all, unless more may come as soon; it was served.
inline void engine::drop_transients(std::uint32_t slot) noexcept {
  sessions_[slot].transients = false;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    if (subs_[i].with_transients == 0) continue;
    const subscription& sub = subs_[subs_[i].next];  // the one to them stands behind it
    const stream& st = stream_of(sub);
    SSEHUB_ASSERT(st.transients && &stream_of(subs_[i]) == &st.owner->main_);
    if (!st.touched && sub.from() == source::log && sub.rest == 0 &&
        sub.at().ordinal() == st.log.end() && st.handed_out.ordinal() == st.log.end()) {
      subs_[i].with_transients = 0;
      if (!counts_.empty()) counts_[i].add(counts_[subs_[i].next]);
      detach(slot, i);
    } else {
      sessions_[slot].transients = true;
    }
  }
}

/// Everybody who is to have what is there has a subscription to it now.
inline void engine::hand_out(stream& st) noexcept {
  const log_place end = st.log.end_place();
  if (st.handed_out.seg != end.seg) {
    ++end.seg->pins;
    if (st.handed_out.seg != nullptr) {
      st.log.expect_like(st.handed_out);
      pool_.unpin(st.handed_out.seg);
    }
  }
  st.handed_out = end;
}

// --- what became of its events -------------------------------------------------------------------

/// False: memory is out.
inline bool engine::begin_counts(std::uint32_t index) noexcept {
  if (!counts_.reserve(subs_.extent())) return false;
  while (counts_.size() < subs_.extent()) counts_.push_reserved({});
  counts_[index] = {};
  return true;
}

/// Beside the channel's counters.
inline void engine::count(std::uint32_t index, std::uint64_t session_counts::*what,
                          std::uint64_t n) noexcept {
  if (!counts_.empty()) counts_[index].*what += n;
}

/// Events that a reader did not get, and is told of.
inline void engine::count_lost(std::uint32_t index, std::uint64_t n) noexcept {
  stream_of(subs_[index]).owner->counters_.dropped += n;
  count(index, &session_counts::lost, n);
}

/// Events of a reader that gets newer ones of their keys instead.
inline void engine::count_conflated(std::uint32_t index, std::uint64_t n) noexcept {
  stream_of(subs_[index]).owner->counters_.coalesced += n;
  count(index, &session_counts::conflated, n);
}

/// An event that was published at `at` is out, or goes out now.
inline void engine::note_latency(const channel_state& c, std::int64_t at) noexcept {
  if (c.latency_ != nullptr) c.latency_->add(present_ - at);
}

/// A value is out, or goes out now. `came`: while its reader was there. `at`: of its publish.
inline void engine::count_value(std::uint32_t index, bool came, std::int64_t at) noexcept {
  channel_state& c = *stream_of(subs_[index]).owner;
  ++c.counters_.delivered;
  count(index, came ? &session_counts::delivered : &session_counts::snapshot, 1);
  if (came) note_latency(c, at);
}

inline session_counts engine::session_stats(session_id id, const channel* c) const noexcept {
  session_counts sum;
  const channel_state* const of = c == nullptr ? nullptr : find(*c);
  if (counts_.empty() || id.generation == 0 || id.slot >= sessions_.extent() ||
      sessions_[id.slot].generation != id.generation)
    return sum;
  for (std::uint32_t i = sessions_[id.slot].first; i != none; i = subs_[i].next) {
    if (c == nullptr || stream_of(subs_[i]).owner == of) sum.add(counts_[i]);
  }
  return sum;
}

// --- slots ---------------------------------------------------------------------------------------

inline session* engine::holder(session_id id) noexcept {
  if (id.generation == 0 || id.slot >= sessions_.extent()) return nullptr;
  session& s = sessions_[id.slot];
  return s.generation == id.generation ? &s : nullptr;
}

inline session* engine::find(session_id id) noexcept {
  session* s = holder(id);
  return s != nullptr && s->state != session_state::zombie ? s : nullptr;
}

inline bool engine::alive(session_id id) noexcept {
  const session* s = find(id);
  return s != nullptr && serving(*s);
}

/// A slot with room everywhere that later steps need it, so that those cannot fail. none: memory is
/// out.
inline std::uint32_t engine::take_slot(const request& r) noexcept {
  if (!sessions_.reserve_one() || !heads_.reserve(1)) return none;
  const std::uint32_t n = sessions_.extent();
  if (!timers_.reserve(n + channels_.size() + 1) || !caps_.reserve(n)) return none;
  std::uint32_t chunked = none;
  if (r.chunked && r.minor_version >= 1 && (chunked = chunks_.take()) == none) return none;
  const std::uint32_t slot = sessions_.take();
  session& s = sessions_[slot];
  const bool queued = s.queued;
  const std::uint32_t queue_next = s.queue_next;
  s = session{};
  s.queued = queued;
  s.queue_next = queue_next;
  s.state = session_state::live;
  if (++generations_ == 0) ++generations_;
  s.generation = generations_;
  s.chunked = chunked;
  s.last_event = s.last_write = s.progress = now32();
  caps_.enter_uncounted(slot);
  return slot;
}

inline void engine::mark_dead(std::uint32_t slot, close_reason why) noexcept {
  session& s = sessions_[slot];
  if (!serving(s)) return;
  s.state = session_state::dead;
  s.why = why;
  caps_.count_out(slot);
  s.dead_next() = none;
  (dead_ == none ? dead_ : sessions_[dead_last_].dead_next()) = slot;
  dead_last_ = slot;
}

/// `taken` bytes of what is gathered are under way. REQUIRES: there is room for one more.
inline void engine::begin_flight(session& s, batch& b, std::uint64_t taken) noexcept {
  s.flight = flights_.take();
  flight& f = flights_[s.flight];
  if (f.runs.capacity() != 0) --roomy_flights_;
  f.begin(b, taken);
  for (const run& x : f.runs) {
    if (x.seg != nullptr) ++x.seg->pins;
  }
}

/// A pending write is over, or will never be.
inline void engine::end_flight(session& s) noexcept {
  flight& f = flights_[s.flight];
  for (const run& r : f.runs) {
    if (r.seg != nullptr) pool_.unpin(r.seg);
  }
  f.end(roomy_flights_ < 64);
  if (f.runs.capacity() != 0) ++roomy_flights_;
  flights_.give_back(s.flight);
  s.flight = none;
}

/// Frees the slot. REQUIRES: closed, or never opened; it reads nothing and counts nowhere.
inline void engine::bury(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  SSEHUB_ASSERT(s.first == none && caps_.user_of(slot) == none);
  if (s.flight != none) end_flight(s);
  while (s.lane != none) lanes_.pop(s.lane);
  if (s.chunked != none) chunks_.give_back(s.chunked);
  s.chunked = none;
  s.generation = 0;
  s.state = session_state::free;
  sessions_.give_back(slot);
}

// --- presence ------------------------------------------------------------------------------------

/// The name of a user in a stream.
class presence_name {
 public:
  presence_name(std::uint32_t user, std::uint32_t stream) noexcept {
    std::memcpy(bytes_, &user, sizeof user);
    std::memcpy(bytes_ + sizeof user, &stream, sizeof stream);
  }
  [[nodiscard]] std::string_view view() const noexcept { return {bytes_, sizeof bytes_}; }

 private:
  char bytes_[2 * sizeof(std::uint32_t)];
};

/// Of a session that opens: each channel hears of a user once.
inline void engine::tell_presence(std::uint32_t slot) noexcept {
  const std::uint32_t user = caps_.user_of(slot);
  if (!on_presence || user == none) return;
  sessions_[slot].present = true;
  std::uint32_t last = none;  // what a hook joins now is told by itself
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) last = i;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = i == last ? none : subs_[i].next) {
    const bool left = subs_[i].from() == source::left;  // a hook had it leave
    if (!stream_of(subs_[i]).transients && !left) begin_presence(slot, stream_of(subs_[i]));
  }
}

inline void engine::begin_presence(std::uint32_t slot, const stream& st) noexcept {
  if (!sessions_[slot].present) return;
  const std::uint32_t n = presence_.acquire(presence_name{caps_.user_of(slot), st.index}.view());
  if (n != none && presence_.refs(n) == 1 && on_presence)
    on_presence(handle_of(*st.owner), caps_.key_of(slot), true);
}

inline void engine::end_presence(std::uint32_t slot, const stream& st) noexcept {
  if (!sessions_[slot].present) return;
  const std::uint32_t user = caps_.user_of(slot);
  const std::uint32_t n = presence_.find(presence_name{user, st.index}.view());
  if (n != none && presence_.release(n) && on_presence)
    on_presence(handle_of(*st.owner), caps_.key_of(slot), false);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_SESSIONS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The channel whose idle heartbeat a session follows: the first it joined that has one.
inline channel_state* engine::heart_of(const session& s) const noexcept {
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const stream& st = stream_of(subs_[i]);
    if (!st.transients && st.owner->options_.heartbeat.mode == heartbeat_options::pace::idle)
      return st.owner;
  }
  return nullptr;
}

/// When a reader may get values that wait for it; INT64_MAX: it waits for nothing but its socket.
inline std::int64_t engine::values_due(const subscription& sub) noexcept {
  if (sub.from() != source::newest && sub.from() != source::selected) return INT64_MAX;
  bool waits = false;
  if (sub.from() == source::selected) {
    waits = selections_[sub.record].keys.first != none;
  } else {
    const passing& p = passes_[sub.record];
    waits = p.open || head_of(*stream_of(sub).owner) > p.since;
  }
  const std::int64_t due = value_reader_of(sub).due();
  return waits && due > now_ ? due : INT64_MAX;
}

/// Sets a session's next deadline.
inline void engine::arm(std::uint32_t slot) noexcept {
  const session& s = sessions_[slot];
  if (!serving(s)) return;
  std::int64_t when = INT64_MAX;
  const auto due = [&](std::uint32_t then, duration after, bool acts = false) {
    if (after.is_off()) return;
    // What is overdue but cannot act now (a heartbeat on a blocked stream) looks again one period
    // later.
    const std::int64_t left = after.ms() - since(then, now32());
    const std::int64_t at = now_ + (left > 0 ? left : acts ? 0 : after.ms());
    if (at < when) when = at;
  };
  if (s.blocked || s.state == session_state::finishing) due(s.progress, options_.write_deadline);
  if (s.state == session_state::live) {
    due(s.last_event, options_.idle);
    if (const channel_state* const heart = heart_of(s))
      due(s.last_write, heart->options_.heartbeat.every, !s.blocked || !s.waiting);
    if (s.ends_at < when) when = s.ends_at;
    if (s.paced) {
      for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
        if (const std::int64_t at = values_due(subs_[i]); at < when) when = at;
      }
    }
    if (s.over) {
      for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
        due(s.over_since, stream_of(subs_[i]).owner->options_.soft_lag_for);
      }
    }
  }
  if (when != INT64_MAX) {
    timers_.arm(slot, when, now_);
  } else {
    timers_.disarm(slot);
  }
}

inline void engine::arm_channel(channel_state& c) noexcept {
  const std::int64_t expiry = c.main_.log.next_expiry();
  const std::int64_t when = c.due_ < expiry ? c.due_ : expiry;
  const std::uint32_t id = timer_places::channel_bit | c.index_;
  if (when == INT64_MAX) {
    timers_.disarm(id);
  } else if (when != timers_.when(id, now_)) {
    timers_.arm(id, when, now_);
  }
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_TIMERS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Gives a stream its number; none: memory is out.
inline std::uint32_t engine::list_stream(stream& st) noexcept {
  if (!backlogs_.reserve(streams_.in_use() + 1)) return none;
  const std::uint32_t i = streams_.take();
  if (i >= subscription::max_streams) return none;  // none too
  streams_[i].here = &st;
  st.index = i;
  return i;
}

inline void engine::unlist_stream(stream& st) noexcept {
  if (st.index == none) return;
  untouch(st);
  backlogs_.remove(st.index);
  backlog_ -= st.backlog;
  if (st.handed_out.seg != nullptr) pool_.unpin(st.handed_out.seg);
  streams_[st.index].here = nullptr;
  streams_.give_back(st.index);
}

/// The stream of a channel's transient entries, made when first needed; nullptr: memory is out.
inline stream* engine::transients_of(channel_state& c) noexcept {
  if (c.transients_ != nullptr) return c.transients_;
  void* const p = allocate(sizeof(stream));
  if (p == nullptr) return nullptr;
  auto* const st = ::new (p) stream(pool_, {.events = 0}, c);
  if (list_stream(*st) == none || !st->log.ensure_tail()) {
    unlist_stream(*st);
    st->~stream();
    deallocate(p);
    return nullptr;
  }
  st->transients = true;
  hand_out(*st);
  c.transients_ = st;
  return st;
}

/// What its options say, copied and made countable. False: memory is out.
inline bool engine::make_channel(channel_state& c, std::string_view name,
                                 channel_options&& o) noexcept {
  if (!c.name_.assign(name) || !c.texts_.assign(o.heartbeat.text, o.heartbeat.type, o.metrics_name))
    return false;
  c.options_ = std::move(o);
  channel_options& opts = c.options_;
  if (opts.max_lag == 0) opts.max_lag = UINT64_MAX;
  if (opts.soft_lag_for.is_off()) opts.soft_lag = 0;
  const std::string_view texts = c.texts_.view();
  std::size_t at = 0;
  for (std::string_view* const text :
       {&opts.heartbeat.text, &opts.heartbeat.type, &opts.metrics_name}) {
    *text = texts.substr(at, text->size());
    at += text->size();
  }
  if (opts.heartbeat.every.is_off()) opts.heartbeat.mode = heartbeat_options::pace::off;
  if (opts.max_keys == 0 &&
      (opts.on_lag == lag_policy::coalesce || opts.start == start_at::snapshot)) {
    opts.max_keys = 10'000;
  }
  if (opts.max_keys != 0) {
    void* const table = allocate(sizeof(newest_by_key));
    if (table == nullptr) return false;
    c.newest_ = ::new (table) newest_by_key(opts.max_keys, options_.seed);
  }
  if (opts.latency) {
    void* const counts = allocate(sizeof(latency_counts));
    if (counts == nullptr) return false;
    c.latency_ = ::new (counts) latency_counts;
  }
  return list_stream(c.main_) != none && names_.acquire(name) != none;
}

/// Where its ids begin. A channel that was closed goes on where it ended, and knows that what it
/// had is forgotten: ids are not given twice, and a resume is told.
inline void engine::begin_sequence(channel_state& c) noexcept {
  const channel_options& o = c.options_;
  const std::uint32_t known = closed_.find(c.name());
  event_id before = known != none ? closed_[known].last : no_id;
  if (!o.own_sequence) {
    if (known == none) before = closed_floor_;
  } else {
    const event_id unsaid = o.ids == id_mode::given ? no_id : options_.first_id;
    c.own_.start = said_or(o.first_id, unsaid);
    const bool chosen = o.first_id != unsaid_id || o.ids == id_mode::given;
    if (known != none) {
      if (before > c.own_.start) c.own_.start = closed_[known].start;
    } else if (!chosen && own_closed_floor_ > c.own_.start) {
      c.own_.start = before = own_closed_floor_;
    }
    c.own_.last = before > c.own_.start ? before : c.own_.start;
  }
  if (before != no_id) c.main_.log.forget_up_to(before);
  if (c.newest_ != nullptr && o.ids != id_mode::none) {
    const event_id gone = before > sequence_of(c).start ? before : sequence_of(c).start;
    if (gone != no_id) c.newest_->begin_behind(gone);
  }
  if (known != none) forget(known);
}

inline open_result engine::open_channel(std::string_view name, channel_options&& o) noexcept {
  if (quiet_) return {{}, open_error::in_hook};
  if (find_state(name) != nullptr) return {{}, open_error::taken};
  if (channels_.size() >= max_channels) return {{}, open_error::too_many};
  o.keep_age = countable(o.keep_age, longest_age);
  o.max_value_age = countable(o.max_value_age, longest_age);
  o.soft_lag_for = countable(o.soft_lag_for);
  o.heartbeat.every = countable(o.heartbeat.every);
  if (o.keep_sealed != duration::infinite()) o.keep_sealed = countable(o.keep_sealed, longest_age);
  if (o.limits.event > 0xfff00000U) o.limits.event = 0xfff00000U;  // sizes in the log have 32 bits
  const retention keep{o.keep, o.keep_bytes, o.keep_age};
  if (!channels_.reserve(channels_.size() + 1) || !closing_.reserve(channels_.size() + 1) ||
      !timers_.reserve(sessions_.extent() + channels_.size() + 1) || !cells_.reserve_one()) {
    return {{}, open_error::no_memory};
  }
  void* const p = allocate(sizeof(channel_state));
  if (p == nullptr) return {{}, open_error::no_memory};
  auto* const c = ::new (p) channel_state(*this, pool_, keep);
  if (!make_channel(*c, name, std::move(o))) {
    delete_channel(c);
    return {{}, open_error::no_memory};
  }
  names_[names_.find(name)] = c;
  begin_sequence(*c);
  c->index_ = channels_.size();
  channels_.push_reserved(c);
  c->cell_ = cells_.take();
  cells_[c->cell_].here = c;
  cells_[c->cell_].number = ++channel_numbers_;
  if (c->options_.heartbeat.mode == heartbeat_options::pace::fixed) {
    c->due_ = now_ + c->options_.heartbeat.every.ms();
  }
  arm_channel(*c);
  return {handle_of(*c), open_error::none};
}

inline channel_state* engine::find_state(std::string_view name) const noexcept {
  const std::uint32_t i = names_.find(name);
  return i == none ? nullptr : names_[i];
}

inline channel engine::find_channel(std::string_view name) const noexcept {
  const channel_state* const c = find_state(name);
  return c == nullptr ? channel{} : handle_of(*c);
}

inline channel_state* engine::find(channel c) const noexcept {
  channel_state* const here = c.state();
  return here != nullptr && here->engine_ == this ? here : nullptr;
}

/// A channel that a verdict joins. REQUIRES: bad_join() found nothing.
inline channel_state& engine::joined(const joining& j, std::uint32_t i) const noexcept {
  channel_state* const c = find(j.channels[i]);
  SSEHUB_ASSERT(c != nullptr);
  return *c;
}

/// Destroys one that no list has.
inline void engine::delete_channel(channel_state* c) noexcept {
  if (c->transients_ != nullptr) {
    unlist_stream(*c->transients_);
    c->transients_->~stream();
    deallocate(c->transients_);
  }
  unlist_stream(c->main_);
  if (c->newest_ != nullptr) {
    c->newest_->~newest_by_key();
    deallocate(c->newest_);
  }
  deallocate(c->latency_);
  c->~channel_state();
  deallocate(c);
}

/// REQUIRES: no readers left.
inline void engine::free_channel(channel_state* c) noexcept {
  SSEHUB_ASSERT(c->main_.readers.empty());
  if (!c->closing_) names_.release(names_.find(c->name()));
  timers_.disarm(timer_places::channel_bit | c->index_);
  const std::uint32_t index = c->index_;
  if (index + 1 != channels_.size()) {  // the last channel takes its number
    channel_state* const last = channels_.back();
    const std::int64_t when = timers_.when(timer_places::channel_bit | last->index_, now_);
    timers_.disarm(timer_places::channel_bit | last->index_);
    channels_[index] = last;
    last->index_ = index;
    if (when != INT64_MAX) timers_.arm(timer_places::channel_bit | index, when, now_);
  }
  channels_.pop_back();
  count_closed(*c);
  cells_[c->cell_].number = 0;
  cells_.give_back(c->cell_);
  delete_channel(c);
}

// --- closed channels -----------------------------------------------------------------------------
// The last thousand are remembered by name. Of older ones only the highest id is: one that is
// opened after so many may announce a gap that is none, never the other way round.

inline void engine::remember(const channel_state& c) noexcept {
  constexpr std::uint32_t most = 1024;
  const bool own = c.options_.own_sequence;
  const event_id last = own ? c.own_.last : c.main_.log.last_id();
  if (last == no_id || c.options_.ids == id_mode::none) return;
  const std::uint32_t i = closed_.acquire(c.name());
  if (i == none) {  // memory is out
    raise_floor({.last = last, .own = own});
    return;
  }
  closed_[i] = {c.own_.start, last, own, closed_newest_, none};
  (closed_newest_ == none ? closed_oldest_ : closed_[closed_newest_].newer) = i;
  closed_newest_ = i;
  if (closed_.size() <= most) return;
  raise_floor(closed_[closed_oldest_]);
  forget(closed_oldest_);
}

/// What it counted stays counted: by the names of their metrics, of the first so many, so that this
/// stays small.
inline void engine::count_closed(const channel_state& c) noexcept {
  constexpr std::uint32_t most = 1024;
  const std::string_view name = c.options_.metrics_name;
  std::uint32_t i = closed_groups_.find(name);
  if (i == none && (name.empty() || closed_groups_.size() < most)) i = closed_groups_.acquire(name);
  if (i == none) i = closed_groups_.find({});
  if (i == none) i = closed_groups_.acquire({});
  if (i == none) return;  // memory is out
  closed_groups_[i].add(c.counters_.stats());
  if (c.latency_ != nullptr) closed_groups_[i].latency.add(*c.latency_);
}
inline channel_stats engine::closed_group(std::uint32_t i) const noexcept {
  channel_stats s = closed_groups_[i];
  s.group = closed_groups_.name_of(i);
  return s;
}

inline void engine::raise_floor(const closed_channel& c) noexcept {
  event_id& floor = c.own ? own_closed_floor_ : closed_floor_;
  if (c.last > floor) floor = c.last;
}

inline void engine::forget(std::uint32_t i) noexcept {
  const closed_channel& c = closed_[i];
  (c.older == none ? closed_oldest_ : closed_[c.older].newer) = c.newer;
  (c.newer == none ? closed_newest_ : closed_[c.newer].older) = c.older;
  closed_.release(i);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

inline detail::channel_state* channel::state() const noexcept {
  return cell_ != nullptr && cell_->number == number_ ? cell_->here : nullptr;
}

inline channel::operator bool() const noexcept {
  const detail::channel_state* const c = state();
  return c != nullptr && !c->closing_;
}
inline std::string_view channel::name() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr ? std::string_view{} : c->name();
}
inline const channel_options* channel::options() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr ? nullptr : &c->options_;
}
inline bool channel::sealed() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr || c->closing_ || c->sealed_;
}
inline std::size_t channel::subscribers() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr ? 0 : c->subscribers();
}
inline event_id channel::last_id() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr ? no_id : detail::engine::sequence_of(*c).last;
}
inline channel_stats channel::stats() const noexcept {
  const detail::channel_state* const c = state();
  return c == nullptr ? channel_stats{} : c->stats();
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_DETAIL_ENGINE_CHANNELS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Closes what died, and frees the channels that were closed: the only place where the host's close
/// is called, and the only one that frees.
inline void engine::reap() noexcept {
  if (depth_ != 0 || reaping_) return;
  reaping_ = true;
  while (close_all_due_ || dead_ != none) {
    if (close_all_due_) {
      close_all_due_ = false;
      mark_all_dead();
      continue;
    }
    const std::uint32_t slot = dead_;
    session& s = sessions_[slot];
    dead_ = s.dead_next();
    if (!s.retry_only) ++stats_.closed[static_cast<std::size_t>(s.why)];
    timers_.disarm(slot);
    // It stands on its user's list until now: of several that die together, the last one to leave a
    // channel ends the user's presence there.
    caps_.leave(slot);
    detach_all(slot);
    const bool whole = s.chunked != none && s.why != close_reason::peer && chunks_.whole(s.chunked);
    host_.close(host_.self, slot, s.why, !s.retry_only, whole);
    caps_.forget(slot);
    if (s.flight != none) {
      s.state = session_state::zombie;
    } else {
      bury(slot);
    }
  }
  for (std::uint32_t i = closing_.size(); i-- != 0;) {
    channel_state* const c = closing_[i];
    if (c->read()) continue;
    closing_[i] = closing_.back();
    closing_.pop_back();
    free_channel(c);
  }
  reaping_ = false;
}

// `work` is held while anybody walks: what it closes is reaped at its end.

inline engine::work::~work() {
  if (--e_.depth_ == 0 && (e_.dead_ != none || !e_.closing_.empty() || e_.close_all_due_))
    e_.reap();
}

inline void engine::close(session_id id, close_reason why) noexcept {
  if (quiet_ || find(id) == nullptr) return;
  const work w{*this};
  mark_dead(id.slot, why);
}

inline void engine::closed(session_id id) noexcept { close(id, close_reason::peer); }

inline void engine::close_all() noexcept {
  if (quiet_) return;
  const work w{*this};
  mark_all_dead();
}

inline void engine::mark_all_dead() noexcept {
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot)
    mark_dead(slot, close_reason::host);
}

inline void engine::close_all_soon() noexcept {
  const work w{*this};
  close_all_due_ = true;
}

inline std::size_t engine::revoke(std::string_view key) noexcept {
  const std::uint32_t user = quiet_ ? none : caps_.find_user(key);
  if (user == none) return 0;
  const work w{*this};
  std::size_t n = 0;
  for (std::uint32_t slot = caps_.first_of(user); slot != none; slot = caps_.next_of_user(slot)) {
    if (!serving(sessions_[slot])) continue;
    mark_dead(slot, close_reason::revoked);
    ++n;
  }
  return n;
}

inline bool engine::close_channel(channel c) noexcept {
  channel_state* const here = quiet_ ? nullptr : find(c);
  if (here == nullptr || here->closing_) return false;
  close_channel(*here);
  return true;
}

/// Its streams end now, but for those that left it; it is freed once nobody walks, or has the rest
/// of an event to get. Its name is free at once.
inline void engine::close_channel(channel_state& c) noexcept {
  const work w{*this};
  c.closing_ = true;
  timers_.disarm(timer_places::channel_bit | c.index_);
  for (const std::uint32_t i : c.main_.readers) {
    if (subs_[i].from() != source::left) mark_dead(subs_[i].session, close_reason::channel);
  }
  remember(c);
  names_.release(names_.find(c.name()));
  closing_.push_reserved(&c);
  if (on_channel_closed) on_channel_closed(handle_of(c));
}

/// Ends a session cleanly: what is pending, a farewell, then close.
inline void engine::begin_finish(std::uint32_t slot, close_reason why) noexcept {
  session& s = sessions_[slot];
  if (s.state != session_state::live) return;
  s.state = session_state::finishing;
  s.why = why;
  s.progress = now32();
  enqueue(ready_, slot);
  arm(slot);
  want();
}

inline void engine::finish(session_id id) noexcept {
  if (session* s = quiet_ ? nullptr : find(id); s != nullptr && s->state == session_state::live) {
    begin_finish(id.slot, close_reason::finished);
  }
}

inline bool engine::seal(channel c) noexcept {
  channel_state* const here = quiet_ ? nullptr : find(c);
  if (here == nullptr || here->closing_ || here->sealed_) return false;
  seal(*here);
  return true;
}

/// Its log is complete: its readers get the rest, and a clean end.
inline void engine::seal(channel_state& c) noexcept {
  const work w{*this};
  c.sealed_ = true;
  const duration stays = c.options_.keep_sealed;
  c.due_ = stays == duration::infinite() ? INT64_MAX : present_ + stays.ms();
  arm_channel(c);
  want();  // its host has a timer to set
  for (const std::uint32_t i : c.main_.readers) finish_if_sealed(subs_[i].session);
}

/// It gets what comes as it comes, or has all that it chose.
inline bool engine::is_live(const subscription& sub) const noexcept {
  if (sub.from() != source::selected) return sub.from() == source::log;
  const selection& chosen = selections_[sub.record];
  return chosen.keys.first == none &&
         stream_of(sub).owner->newest_->last_keyless() <= chosen.keyless;
}

/// Once nothing can come any more, but for what the logs hold.
inline void engine::finish_if_sealed(std::uint32_t slot) noexcept {
  bool reads = false;  // or it left them all, and may join others
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.from() == source::left) continue;
    if (!stream_of(sub).owner->sealed_ || !is_live(sub)) return;
    reads = true;
  }
  if (reads) begin_finish(slot, close_reason::finished);
}

/// Ends the subscriptions that are leaving, but for one that is half sent.
inline void engine::end_leaving(std::uint32_t slot, std::uint32_t half_sent) noexcept {
  std::uint32_t before = none;
  for (std::uint32_t i = sessions_[slot].first; i != none;) {
    const std::uint32_t next = subs_[i].next;
    if (subs_[i].from() == source::left && i != half_sent) {
      lanes_.drop(sessions_[slot].lane, i);
      detach(slot, before);
    } else {
      before = i;
    }
    i = next;
  }
  arm(slot);  // its heartbeat may be another channel's now
  finish_if_sealed(slot);
}

/// Closes everything. The hub calls it first, while its own half still stands.
inline void engine::shut_down() noexcept {
  on_gap = {};
  on_presence = {};
  on_wanted = {};
  on_channel_closed = {};
  close_all();
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot) {
    // nobody can report on it any more
    if (sessions_[slot].state == session_state::zombie) bury(slot);
  }
  while (!channels_.empty()) free_channel(channels_.back());
  for (blob** b : {&opening_frame_, &farewell_}) {
    if (*b != nullptr) unref(*b);
    *b = nullptr;
  }
}

inline engine::~engine() { shut_down(); }

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_ENDS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

inline bool engine::sees(std::uint32_t slot, std::string_view audience) noexcept {
  const std::string_view key = caps_.key_of(slot);
  if (!ask_who_sees_) return key == audience;
  const quiet q{*this};
  return host_.sees(host_.self, slot, key, audience);
}

/// From a private entry to the next of its segment that may be seen, whoever's it is; count: none.
/// `own`: ordinal of the reader's next private one.
inline std::uint32_t engine::next_in_segment(const segment& s, std::uint32_t k,
                                             std::uint64_t own) noexcept {
  const std::uint32_t next = s.next_public(k);
  return own < s.first + next ? static_cast<std::uint32_t>(own - s.first) : next;
}

/// False: the host is asked for each entry.
inline bool engine::own_entries_of(std::uint32_t slot, const stream& st,
                                   own_entries& own) noexcept {
  if (ask_who_sees_ || st.ask) return false;
  const std::uint32_t user = caps_.user_of(slot);
  own = user == none ? own_entries::nobody()
                     : st.audiences->of(caps_.key_of(slot), caps_.hash_of_user(user));
  return true;
}

/// Moves `p` to the first entry from there on that the session may see: `entry`; else to the end of
/// the log: `nothing`. `paused`: it was asked often enough for now, go on from `p` in another turn.
/// `own`: its private entries, from one call to the next.
inline engine::found engine::next_visible(std::uint32_t slot, const stream& st, log_place& p,
                                          own_entries& own) noexcept {
  while (p.find_entry()) {
    if (p.get().audience == 0) return found::entry;
    if (!own.known() && !own_entries_of(slot, st, own)) {
      if (asks_left_ == 0) return found::paused;
      --asks_left_;
      if (sees(slot, p.seg->audience(p.get()))) return found::entry;
      ++p.k;
      continue;
    }
    p.k = next_in_segment(*p.seg, p.k, own.from(p.ordinal()));
    if (p.k != p.seg->count) return found::entry;
  }
  return found::nothing;
}

inline engine::found engine::next_visible(std::uint32_t slot, const stream& st,
                                          log_place& p) noexcept {
  own_entries own;
  return next_visible(slot, st, p, own);
}

/// Moves a cursor past what its session may not see, so that it holds nothing for that.
inline void engine::pass_hidden(subscription& sub) noexcept {
  const session& s = sessions_[sub.session];
  if (sub.from() != source::log || sub.rest != 0 || s.flight != none || !serving(s)) return;
  asks_left_ = UINT32_MAX;
  log_place p = sub.at();
  (void)next_visible(sub.session, stream_of(sub), p);
  move_cursor(sub, p);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_VISIBILITY_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Bytes behind live. A reader in its replay is not late for what was there before it came.
inline std::uint64_t engine::lag_of(const stream& st, const subscription& sub) const noexcept {
  if (sub.from() != source::log) return 0;
  const std::uint64_t at = sub.offset();
  return st.log.end_offset() - (at > sub.live_from ? at : sub.live_from);
}

inline std::uint64_t engine::worst_lag(channel c) const noexcept {
  const channel_state* const here = find(c);
  if (here == nullptr) return 0;
  std::uint64_t worst = 0;
  for (const stream* st : {&here->main_, static_cast<const stream*>(here->transients_)}) {
    if (st == nullptr) continue;
    for (const std::uint32_t i : st->readers) {
      if (!serving(sessions_[subs_[i].session])) continue;
      const std::uint64_t lag = lag_of(*st, subs_[i]);
      if (lag > worst) worst = lag;
    }
  }
  return worst;
}

/// Somebody stands at `from`: look when the log has grown by the smaller limit, or by the one that
/// is not passed yet.
inline void engine::watch_lag(stream& st, std::uint64_t from, bool over_soft) noexcept {
  const channel_options& o = st.owner->options_;
  std::uint64_t limit = o.max_lag;
  if (!over_soft && o.soft_lag != 0 && o.soft_lag < limit) limit = o.soft_lag;
  const std::uint64_t at = limit > UINT64_MAX - from ? UINT64_MAX : from + limit;
  if (at < st.lag_check_at) st.lag_check_at = at;
}

/// Whether a session that was over a soft limit still is. Where it caught up, the limit is watched
/// again.
inline bool engine::still_over(const session& s) noexcept {
  bool over = false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    stream& st = stream_of(subs_[i]);
    if (st.owner->options_.soft_lag == 0) continue;
    const std::uint64_t lag = lag_of(st, subs_[i]);
    if (lag > st.owner->options_.soft_lag) {
      over = true;
    } else {
      watch_lag(st, st.log.end_offset() - lag);
    }
  }
  return over;
}

/// Looks at a stream's readers: the log grew enough that one may be over a limit, so O(1) per
/// publish over time.
inline void engine::enforce_lag(stream& st) noexcept {
  const channel_options& o = st.owner->options_;
  st.lag_check_at = UINT64_MAX;
  const std::uint64_t again =
      st.log.end_offset() + o.max_lag / 8 + 1;  // for those that stay over a limit
  // nobody but readers about to skip needs anything in front of it
  std::uint64_t needed = st.log.end_offset();
  for (const std::uint32_t i : st.readers) {
    subscription& sub = subs_[i];
    session& s = sessions_[sub.session];
    if (!serving(s)) continue;
    if (st.log.selective()) pass_hidden(sub);
    const std::uint64_t lag = lag_of(st, sub);
    if (lag > o.max_lag) {
      over_lag(i);
      if (again < st.lag_check_at) st.lag_check_at = again;
    } else {
      const bool over_soft = o.soft_lag != 0 && lag > o.soft_lag;
      if (over_soft && !s.over) {
        s.over = true;
        s.over_since = now32();
        arm(sub.session);
      }
      watch_lag(st, st.log.end_offset() - lag, over_soft);
    }
    // A cursor at the very end of its segment goes on from there: it needs the segment, not only
    // what follows.
    if (serving(s) && sub.from() == source::log && sub.seg->base < needed) needed = sub.seg->base;
  }
  if (st.handed_out.seg != nullptr && st.handed_out.seg->base < needed)
    needed = st.handed_out.seg->base;
  st.detach_before(needed);
}

/// A reader is too far behind: what the channel's policy says.
inline void engine::over_lag(std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  stream& st = stream_of(sub);
  const lag_policy policy = st.owner->options_.on_lag;
  if (st.owner->sealed_ && policy != lag_policy::disconnect) return;  // it grows no more
  if (policy == lag_policy::disconnect) {
    mark_dead(sub.session, close_reason::lag);
    return;
  }
  if (sessions_[sub.session].flight != none) {
    // Its bytes are with the kernel: the skip waits for them, within reason.
    if (lag_of(st, sub) / 2 > st.owner->options_.max_lag) mark_dead(sub.session, close_reason::lag);
    return;
  }
  // What is retained anyway costs nothing: only what left retention is lost.
  if (policy == lag_policy::oldest && sub.at().ordinal() >= st.log.retained()) return;
  leave_log(index);
}

/// A reader gets no more from the log than the rest of a half-sent event. REQUIRES: no write reads
/// it.
inline void engine::leave_log(std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  const stream& st = stream_of(sub);
  log_place next = sub.at();
  const std::uint32_t record = skips_.take();
  if (record == none) {
    mark_dead(sub.session, close_reason::no_memory);
    return;
  }
  if (sub.rest != 0) ++next.k;
  skip& missed = skips_[record];
  missed = {st.log.id_before(next), next.ordinal(), sequence_of(*st.owner).last + 1, stamp_ + 1};
  if (next.find_entry()) {
    missed.first = next.seg->id(next.get());
    missed.stamp = next.seg->stamp(next.get());
  }
  sub.record = record;
  sub.read_from(source::skip);
  enqueue(ready_, sub.session);
}

/// A session could not take all that there was: its channels that conflate give it the newest
/// values instead. `late_only`: if it was there in a flush before. REQUIRES: no write is pending.
inline void engine::conflate(std::uint32_t slot, bool late_only) noexcept {
  if (sessions_[slot].state != session_state::live) return;  // it gets what there is, and its end
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    const stream& st = stream_of(sub);
    if (st.transients || st.owner->options_.on_lag != lag_policy::coalesce ||
        sub.from() != source::log)
      continue;
    const std::uint64_t next = sub.at().ordinal() + (sub.rest != 0 ? 1U : 0U);
    const std::uint64_t end = st.log.end();
    const auto settled_ago = static_cast<std::uint32_t>(end) - st.settled;
    if (next < end - (late_only ? settled_ago : 0)) leave_log(i);
  }
}

/// Readers that see nothing in what is held for them are moved on, so that it can go.
inline void engine::sweep(stream& st) noexcept {
  if (!st.log.selective() || st.log.backlog() <= st.sweep_at) return;
  for (const std::uint32_t i : st.readers) pass_hidden(subs_[i]);
  st.trim(now_);
  const std::uint64_t share = std::uint64_t{st.readers.size()} * 64;
  st.sweep_at = st.log.backlog() + (share > 2048 ? share : 2048);
}

inline void engine::count_backlog(stream& st) noexcept {
  const std::uint64_t held = st.log.backlog();
  if (held == st.backlog) return;
  backlog_ = backlog_ - st.backlog + held;
  st.backlog = held;
  if (held == 0) {
    st.sweep_at = 0;
    backlogs_.remove(st.index);
  } else {
    backlogs_.set(st.index, held);
  }
}

/// Over the hub's memory cap: the worst laggards go first, those in the oldest segment of the
/// stream that holds most.
inline void engine::shed_backlog() noexcept {
  while (options_.max_backlog != 0 && backlog_ > options_.max_backlog && !backlogs_.empty()) {
    stream& worst = *streams_[backlogs_.top_id()].here;
    const std::uint64_t before = worst.backlog;
    if (worst.log.selective()) {  // who only passes what is not for it goes on
      for (const std::uint32_t i : worst.readers) pass_hidden(subs_[i]);
      worst.trim(now_);
      count_backlog(worst);
      if (worst.backlog != before) continue;
    }
    const segment* const oldest = worst.log.head();
    const segment* filled = oldest;
    while (filled->used == 0 && filled->next != nullptr) filled = filled->next;
    const std::uint64_t end = filled->end();
    for (const std::uint32_t i : worst.readers) {
      const subscription& sub = subs_[i];
      if (sub.seg != nullptr && sub.from() != source::left && sub.from() != source::skip &&
          sub.offset() <= end)
        mark_dead(sub.session, close_reason::hub_full);
    }
    worst.detach_before(end);
    count_backlog(worst);
    if (worst.log.head() == oldest) return;
  }
}

/// After the walk: limits, then what nobody needs goes.
inline void engine::settle() noexcept {
  while (touched_ != nullptr) {
    stream& st = next_touched();
    if (st.log.end_offset() > st.lag_check_at) enforce_lag(st);
    st.settled = static_cast<std::uint32_t>(st.log.end());
    st.drop_unread();
    if ((st.log.backlog() | st.backlog) == 0) continue;  // nearly always
    sweep(st);
    count_backlog(st);
  }
  shed_backlog();
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_LAG_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// One more key, unless the reader has it: what value it has is the last that waits. Its values are
/// to be chained then (fresh_keys_). False: memory is out.
inline bool engine::watch_key(std::uint32_t index, std::string_view key) noexcept {
  if (key.empty()) return true;  // events without a key come anyway
  key_watchers& all = *stream_of(subs_[index]).owner->newest_->watchers();
  watch_list& list = selections_[subs_[index].record].keys;
  const std::uint32_t known = all.find(key);
  if (known != none && all.find(list, known) != none) return true;
  if (!fresh_keys_.reserve(fresh_keys_.size() + 1)) return false;
  const std::uint32_t w = all.add(list, index, key);
  if (w == none) return false;
  if (known == none) fresh_keys_.push_reserved(all[w].key);
  all.begin(list, w);
  return true;
}

/// The values of keys that nobody chose before are found by their keys from now on.
inline void engine::chain_fresh_keys(const channel_state& c) noexcept {
  if (!fresh_keys_.empty()) c.newest_->chain_values(fresh_keys_);
  fresh_keys_.clear();
}

/// The keys that a verdict named. False: memory is out.
inline bool engine::watch_keys(std::uint32_t index, const watch_requests::request& w) noexcept {
  bool ok = true;
  w.each_key([&](std::string_view key) { ok = ok && watch_key(index, key); });
  chain_fresh_keys(*stream_of(subs_[index]).owner);
  return ok;
}

/// The watch of a reader that chose its keys on this one; none: it did not choose it.
inline std::uint32_t engine::find_watch(const subscription& sub,
                                        std::string_view key) const noexcept {
  const key_watchers& all = *stream_of(sub).owner->newest_->watchers();
  const std::uint32_t k = all.find(key);
  return k == none ? none : all.find(selections_[sub.record].keys, k);
}

/// The subscription by which a session chose keys of a channel; none: it did not.
inline std::uint32_t engine::selection_of(std::uint32_t slot,
                                          const channel_state& c) const noexcept {
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    if (subs_[i].stream_index == c.main_.index && subs_[i].from() == source::selected) return i;
  }
  return none;
}

/// Events without a key wait for it, or were lost.
inline bool engine::keyless_waits(const subscription& sub) const noexcept {
  return stream_of(sub).owner->newest_->last_keyless() > selections_[sub.record].keyless;
}

/// A reader that chose its keys can get something now.
inline bool engine::has_more(const subscription& sub) const noexcept {
  const selection& chosen = selections_[sub.record];
  return (chosen.keys.first != none && now_ >= chosen.due()) || keyless_waits(sub);
}

/// Who chose the key of an event, and may see it, is served in the next flush. `position`: of its
/// value; barrier: it is one.
inline void engine::wake_watchers(channel_state& c, std::string_view key, std::uint64_t position,
                                  std::string_view audience) noexcept {
  key_watchers& all = *c.newest_->watchers();
  const std::uint32_t k = all.find(key);
  if (k == none) return;
  if (!audience.empty() && !c.main_.ask) {  // by the user's sessions
    const std::uint32_t user = caps_.find_user(audience);
    std::uint32_t slot = user == none ? none : caps_.first_of(user);
    for (; slot != none; slot = caps_.next_of_user(slot)) {
      const std::uint32_t i = selection_of(slot, c);
      const std::uint32_t w = i == none ? none : all.find(selections_[subs_[i].record].keys, k);
      if (w != none) wake_watch(c, w, position);
    }
    return;
  }
  for (std::uint32_t w = all.key(k).watches; w != none; w = all[w].older) {
    if (audience.empty() || sees(subs_[all[w].reader].session, audience))
      wake_watch(c, w, position);
  }
}

inline void engine::wake_watch(channel_state& c, std::uint32_t w, std::uint64_t position) noexcept {
  key_watchers& all = *c.newest_->watchers();
  const subscription& sub = subs_[all[w].reader];
  if (!serving(sessions_[sub.session])) return;
  if (position == barrier) return enqueue(live_, sub.session);
  selection& chosen = selections_[sub.record];
  const bool waited = chosen.keys.first != none;
  const key_watchers::change did = all.changed(chosen.keys, w, position);
  if (did == key_watchers::change::overtakes) count_conflated(all[w].reader, 1);
  if (did != key_watchers::change::queued) return;
  if (now_ >= chosen.due()) {
    enqueue(live_, sub.session);
  } else if (!waited) {
    arm(sub.session);
  }
}

/// A value of watch `w` is out; none: that of another audience is behind it.
inline void engine::value_sent(std::uint32_t index, std::uint32_t w) noexcept {
  const subscription& sub = subs_[index];
  key_watchers& all = *stream_of(sub).owner->newest_->watchers();
  if (w == none || !all.comes_from_write(w)) return;
  all.sent(selections_[sub.record].keys, w);
  if (sessions_[sub.session].paced) arm(sub.session);
}

inline bool engine::selects(session_id id, channel c) const noexcept {
  const channel_state* const here = find(c);
  return here != nullptr && id.slot < sessions_.extent() && id.generation != 0 &&
         sessions_[id.slot].generation == id.generation && selection_of(id.slot, *here) != none;
}

/// The subscription whose keys are to change: `index`, or why not.
inline select_error engine::find_selection(session_id id, channel c,
                                           std::uint32_t& index) noexcept {
  if (quiet_) return select_error::in_hook;
  if (!alive(id)) return select_error::no_session;
  const channel_state* const here = find(c);
  index = here == nullptr ? none : selection_of(id.slot, *here);
  return index == none ? select_error::no_selection : select_error::none;
}

inline select_error engine::select(session_id id, channel c,
                                   std::span<const std::string_view> keys) noexcept {
  std::uint32_t i = none;
  if (const select_error no = find_selection(id, c, i); no != select_error::none) return no;
  const channel_state& here = *stream_of(subs_[i]).owner;
  selection& chosen = selections_[subs_[i].record];
  if (chosen.keys.count + keys.size() > here.options_.max_selected)
    return select_error::too_many_keys;
  bool ok = true;
  for (const std::string_view key : keys) ok = ok && watch_key(i, key);
  chain_fresh_keys(here);
  if (now_ >= chosen.due()) {
    enqueue(live_, id.slot);
  } else {
    arm(id.slot);
  }
  want();
  return ok ? select_error::none : select_error::no_memory;
}

inline select_error engine::unselect(session_id id, channel c,
                                     std::span<const std::string_view> keys) noexcept {
  std::uint32_t i = none;
  if (const select_error no = find_selection(id, c, i); no != select_error::none) return no;
  key_watchers& all = *stream_of(subs_[i]).owner->newest_->watchers();
  watch_list& list = selections_[subs_[i].record].keys;
  for (const std::string_view key : keys) {
    const std::uint32_t k = all.find(key);
    const std::uint32_t w = k == none ? none : all.find(list, k);
    if (w == none) continue;
    if (all.waits(w)) count_conflated(i, 1);
    all.remove(list, k);
  }
  return select_error::none;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_SELECTION_HPP
// ---- sse/gap.hpp
//
// gap: what our hub's `event: gap` frame says, its reader and its writer.
//
//   event: gap
//   data: {"requested":17,"first":20,"lost":2}
//
// lost is null where it is unknown.
#ifndef SSEHUB_GAP_HPP
#define SSEHUB_GAP_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// A part of the stream that will not come.
struct gap {
  event_id requested = no_id;  ///< the id that was asked for, or the last one received
  event_id first = no_id;      ///< the first id that can come
  std::uint64_t lost = 0;      ///< how many events were lost
  bool lost_known = false;     ///< false: nobody knows (another run of the server, a trimmed log)
};

/// Reads a gap frame in exactly the form above, spaces aside. False: `e` is an event like others.
[[nodiscard]] constexpr bool read_gap(const event& e, gap& out) noexcept {
  if (e.type != "gap") return false;
  std::string_view s = e.data;
  const auto skip = [&s](std::string_view what) {
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
    if (!s.starts_with(what)) return false;
    s.remove_prefix(what.size());
    return true;
  };
  const auto number = [&s, &skip](std::uint64_t& n) {
    if (!skip({})) return false;
    const std::string_view digits = s.substr(0, s.find_first_not_of("0123456789"));
    s.remove_prefix(digits.size());
    return detail::read_decimal(digits, max_event_id, n) == detail::decimal::number;
  };
  gap g;
  if (!skip("{") || !skip("\"requested\"") || !skip(":") || !number(g.requested) || !skip(",") ||
      !skip("\"first\"") || !skip(":") || !number(g.first) || !skip(",") || !skip("\"lost\"") ||
      !skip(":")) {
    return false;
  }
  if (!skip("null")) {
    if (!number(g.lost)) return false;
    g.lost_known = true;
  }
  if (!skip("}") || !skip({}) || !s.empty()) return false;
  out = g;
  return true;
}

namespace detail {

/// What put_gap() writes at most.
inline constexpr std::size_t max_gap =
    std::string_view{R"({"requested":,"first":,"lost":})"}.size() + 3 * max_digits;

/// The data of a gap frame; returns the byte after it. `has_ids`: false where what was lost had
/// none, then `requested` and `first` are null.
inline char* put_gap(char* out, const gap& g, bool has_ids = true) noexcept {
  const auto number = [&out](std::string_view name, bool known, std::uint64_t n) {
    out = put(out, name);
    out = known ? put_decimal(out, n) : put(out, "null");
  };
  number(R"({"requested":)", has_ids, g.requested);
  number(R"(,"first":)", has_ids, g.first);
  number(R"(,"lost":)", g.lost_known, g.lost);
  return put(out, "}");
}

}  // namespace detail

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_GAP_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

// --- where it begins -----------------------------------------------------------------------------

/// The oldest id that can still come: the oldest retained, or the next to be published.
inline event_id engine::first_possible(const stream& st) noexcept {
  return st.log.retained() < st.log.end() ? st.log.id_at(st.log.retained())
                                          : sequence_of(*st.owner).last + 1;
}

/// What has an id above it is in the log: retention let go no more than that, and nothing at or
/// below it is of this run.
inline event_id engine::gone_up_to(const stream& st) noexcept {
  const event_id start = sequence_of(*st.owner).start;
  return st.log.forgotten_id() > start ? st.log.forgotten_id() : start;
}

/// Where a reader begins that brings no id, and whether one that comes back is brought up to date
/// by the newest values.
inline start_at engine::start_of(const channel_state& c, const joining& j) noexcept {
  const start_at start = j.start_given ? j.start : c.options_.start;
  return start == start_at::snapshot && c.newest_ == nullptr ? start_at::live : start;
}

/// From here on the log serves this subscription.
inline void engine::go_live(subscription& sub, std::uint64_t ordinal) noexcept {
  stream& st = stream_of(sub);
  sub.read_from(source::log);
  place_at(sub, ordinal);
  sub.live_from = st.log.end_offset();
  watch_lag(st, sub.live_from);
}

/// Of the values: what one write may take at most.
inline std::uint32_t engine::most_at_a_time() const noexcept {
  return host_.max_buffers == 1 && batch::record < options_.flush_share ? batch::record
                                                                        : options_.flush_share;
}

/// How it takes its first values.
inline void engine::begin_values(value_reader& r, const channel_state& c) const noexcept {
  const std::uint32_t weight = c.options_.weight;
  r.entered = head_of(c);
  r.room = most_at_a_time();
  r.cost = static_cast<std::uint16_t>(60'000 / (weight == 0 ? 1 : weight < 1000 ? weight : 1000));
}

/// Passes over the newest values come next: those that came behind `since`, and the events without
/// a key behind `keyless`. Losses up to `told` go unsaid. False: memory is out.
inline bool engine::start_passes(subscription& sub, std::uint64_t since, std::uint64_t keyless,
                                 std::uint64_t told) noexcept {
  const std::uint32_t record = passes_.take();
  if (record == none) return false;
  const stream& st = stream_of(sub);
  passing& p = passes_[record];
  p.since = since;
  p.keyless = keyless;
  p.told = told;
  p.counted = st.log.end();
  begin_values(p, *st.owner);
  release_cursor(sub);
  sub.read_from(source::newest);
  sub.record = record;
  return true;
}

/// The position that everything from entry `ordinal` on is behind; `newest`: there is nothing.
inline std::uint64_t engine::in_front_of(const event_log& log, std::uint64_t ordinal,
                                         std::uint64_t newest) noexcept {
  if (ordinal == log.end()) return newest;
  const log_place at = log.at(ordinal);
  const event_id id = at.seg->id(at.get());
  return (id != no_id ? id : at.seg->stamp(at.get())) - 1;
}

/// What a watch asks for, within what the channel allows.
[[nodiscard]] inline pace pace_of(const channel_options& most,
                                  const watch_requests::request& w) noexcept {
  const auto both = [](auto of_all, auto of_one) {
    if (!(of_all > 0)) return of_one;
    return of_one > 0 && of_one < of_all ? of_one : of_all;
  };
  const double rate = both(most.max_rate, w.max_rate);
  pace p{.bytes_per_second = both(most.max_bytes, w.max_bytes)};
  if (!(rate > 0)) return p;
  const double every = 1000 / rate;
  p.every = every > 1e9 ? 1'000'000'000U : every < 1 ? 1U : static_cast<std::uint32_t>(every);
  return p;
}

/// It gets values, and no other events with a key. Who is new begins with what its start says of
/// events without one. False: memory is out.
inline bool engine::start_watching(std::uint32_t index, const joining& j,
                                   const resume_point& resume, const watch_requests::request& watch,
                                   bool resumes) noexcept {
  subscription& sub = subs_[index];
  stream& st = stream_of(sub);
  const channel_state& c = *st.owner;
  const start_at start = start_of(c, j);
  const std::uint64_t newest = head_of(c);
  std::uint64_t keyless = newest;
  if (resumes) {
    keyless = resume.after;
  } else if (j.backlog != 0) {
    keyless = in_front_of(st.log, st.log.newest(j.backlog), newest);
  } else if (start == start_at::all) {
    keyless = in_front_of(st.log, st.log.retained(), newest);
  }
  sessions_[sub.session].conflates = true;
  const pace at_most = pace_of(c.options_, watch);
  if (at_most.every != 0 || at_most.bytes_per_second != 0) sessions_[sub.session].paced = true;
  if (!watch.selects) {
    const std::uint64_t since = resumes ? resume.values : start == start_at::live ? newest : 0;
    if (!start_passes(sub, since, keyless, resumes ? 0 : newest)) return false;
    passing& p = passes_[sub.record];
    p.at_most = at_most;
    p.stays = at_most.every != 0 || at_most.bytes_per_second != 0;
    p.fresh = !resumes && since == 0;
    p.opens = p.fresh && c.options_.ids != id_mode::none && tells_position(j);
    return true;
  }
  if (c.newest_->make_watchers(options_.seed) == nullptr) return false;
  const std::uint32_t record = selections_.take();
  if (record == none) return false;
  release_cursor(sub);
  sub.read_from(source::selected);
  sub.record = record;
  set_selecting(sub, true);
  selection& chosen = selections_[record];
  chosen.keyless = keyless;
  begin_values(chosen, c);
  chosen.at_most = at_most;
  return watch_keys(index, watch);
}

inline bool engine::tells_position(const joining& j) const noexcept {
  return j.position_given ? j.position : options_.position;
}

/// Where a reader of a channel begins.
inline engine::beginning engine::beginning_of(const channel_state& c, const joining& j,
                                              const resume_point& resume,
                                              watch_request watch) noexcept {
  const event_log& log = c.main_.log;
  if (watch != nullptr) {
    beginning b{.from = watch->selects ? source::selected : source::newest};
    const bool brings =
        resume.state == resume_point::kind::given && c.options_.ids != id_mode::none;
    b.lost = brings && (resume.after > sequence_of(c).last || c.engine_->was_lost(resume.after));
    b.resumes = brings && !b.lost;
    return b;
  }
  const start_at start = start_of(c, j);
  if (resume.state != resume_point::kind::given || c.options_.ids == id_mode::none) {
    if (j.backlog != 0) return {.ordinal = log.newest(j.backlog)};
    if (start == start_at::snapshot) return {.from = source::newest};
    return {.ordinal = start == start_at::all ? log.retained() : log.end()};
  }
  const event_id after = resume.after;
  if (after > sequence_of(c).last) return {.ordinal = log.end(), .lost = true};  // ahead
  beginning b{.ordinal = log.find(after), .resumes = true};
  b.lost = c.engine_->was_lost(after);
  if (b.lost) return b;
  // It was in the middle of a pass, or what it missed is old news, and the values are known since.
  const bool missed = b.ordinal < log.end() || after < gone_up_to(c.main_);
  const bool known = after >= sequence_of(c).start || !c.options_.backfill;
  const bool conflates = c.options_.on_lag == lag_policy::coalesce && after != 0 && missed && known;
  if (c.newest_ != nullptr && (resume.values < after || conflates)) {
    b.from = source::newest;
    return b;
  }
  // Gone from the log: what retention let go, and all that was before this run.
  if ((after == 0 && !j.after_given) || after >= gone_up_to(c.main_)) return b;
  if (c.options_.backfill) {
    b.from = source::backfill;
  } else if (after != 0 && start == start_at::snapshot) {
    b.from = source::newest;
  } else {
    b.lost = after != 0;
  }
  return b;
}

/// Begins one subscription. `lost`: what it asked for is gone. False: memory is out.
inline bool engine::begin_at(std::uint32_t index, const joining& j, const resume_point& resume,
                             watch_request watch, bool& lost) noexcept {
  subscription& sub = subs_[index];
  channel_state& c = *stream_of(sub).owner;
  if (c.options_.ids != id_mode::none) {
    sessions_[sub.session].has_ids = true;
    sessions_[sub.session].own_ids = c.options_.own_sequence;
  }
  if (c.options_.on_lag == lag_policy::coalesce) sessions_[sub.session].conflates = true;
  const beginning b = beginning_of(c, j, resume, watch);
  lost = b.lost;
  if (b.resumes) ++c.counters_.replays;
  if (watch != nullptr) {
    return start_watching(index, j, resume, *watch, b.resumes);
  } else if (b.from == source::backfill) {
    release_cursor(sub);
    sub.read_from(source::backfill);
    sub.filled_to = resume.after;
  } else if (b.from == source::log) {
    go_live(sub, b.ordinal);
  } else if (b.resumes) {
    return start_passes(sub, resume.values, resume.after, 0);
  } else {  // only what was there before it came may go unsaid
    const std::uint64_t newest = head_of(c);
    if (!start_passes(sub, 0, newest, newest)) return false;
    passes_[sub.record].fresh = true;
    passes_[sub.record].opens = c.options_.ids != id_mode::none && tells_position(j);
  }
  return true;
}

/// Of a subscription that is new: what is on its way to the others was published before it came.
/// The session's last subscription for this channel; none: memory is out.
inline std::uint32_t engine::pass_transients(std::uint32_t index) noexcept {
  stream* const st = stream_of(subs_[index]).owner->transients_;
  if (st == nullptr || st->handed_out.ordinal() == st->log.end()) return index;
  const std::uint32_t i = add_reader(subs_[index].session, *st, index);
  if (i == none) return none;
  subs_[index].with_transients = 1;
  sessions_[subs_[index].session].transients = true;
  return i;
}

/// False: memory is out, and the session cannot stay.
inline bool engine::subscribe(std::uint32_t slot, const joining& j,
                              const resume_point& resume) noexcept {
  const event_id after = resume.after;
  bool told = false;  // that it is ahead: once
  std::uint32_t last = none;
  for (std::uint32_t n = 0; n < j.channels.size(); ++n) {
    channel_state& c = joined(j, n);
    c.main_.trim(now_);
    const std::uint32_t i = add_reader(slot, c.main_, last);
    if (i == none) return false;
    last = i;
    bool lost = false;
    watch_requests::request watch;
    const bool watches = j.watches.find(n, watch);
    if (!begin_at(i, j, resume, watches ? &watch : nullptr, lost)) return false;
    if (lost && !told) {
      if (!untold_.push_back({&c, loss_at_opening(c, after)})) return false;
      told = after > sequence_of(c).last;
    }
    if ((last = pass_transients(i)) == none) return false;
  }
  const bool gaps = !untold_.empty();
  if (gaps && !tell(slot)) return false;
  const bool has_id = resume.state == resume_point::kind::given && !j.after_given;
  return has_id || gaps || !tells_position(j) || push_position(slot);
}

/// What one lost that comes back with an id that cannot be continued.
inline loss engine::loss_at_opening(const channel_state& c, event_id after) noexcept {
  const sequence& seq = sequence_of(c);
  const bool ahead = after > seq.last;
  event_id first = ahead ? seq.last + 1 : first_possible(c.main_);
  if (c.engine_->was_lost(after)) first = c.engine_->options_.lost_below;
  // Consecutive ids of this run can be counted.
  const bool known = !ahead && c.options_.own_sequence && c.options_.ids == id_mode::automatic &&
                     after >= seq.start && !c.main_.log.selective();
  return {after, first, known ? first - after - 1 : 0, known};
}

/// Where a reader stands that has no id, behind what it lost: it misses nothing if it is cut before
/// its first event. Whoever gets nothing but snapshots is told behind them. False: memory is out.
inline bool engine::push_position(std::uint32_t slot) noexcept {
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.from() == source::left || opens(sub) || !waits_in_line(sub)) continue;
    return tell_standing(slot);
  }
  return true;
}

/// Its ids are in line with those of the session's other channels.
inline bool engine::waits_in_line(const subscription& sub) const noexcept {
  const stream& st = stream_of(sub);
  return !st.transients && st.owner->options_.ids != id_mode::none;
}

/// Its other snapshots are whole, and waited for one that it left to say where it stands.
/// REQUIRES: no write is pending, whose ids the client may have got, or not.
inline void engine::push_owed_position(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (!s.owes_position) return;
  s.owes_position = false;
  if (!push_position(slot)) mark_dead(slot, close_reason::no_memory);
}

/// It gets a snapshot, as one who is new.
inline bool engine::opens(const subscription& sub) const noexcept {
  return sub.from() == source::newest && passes_[sub.record].opens;
}

/// The session has all values up to here, over all its channels. `ended`: those of passes that are
/// in its lane to their end count.
inline event_id engine::values_to(std::uint32_t slot, bool ended) const noexcept {
  event_id to = max_event_id;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    if (subs_[i].from() != source::newest || !waits_in_line(subs_[i])) continue;
    const passing& p = passes_[subs_[i].record];
    const event_id has = ended && p.ending ? p.began : p.since;
    if (has < to) to = has;
  }
  return to;
}

// --- gap frames ----------------------------------------------------------------------------------

/// Where a reader that is too slow goes on.
inline std::uint64_t engine::skip_target(const stream& st) noexcept {
  return st.owner->options_.on_lag == lag_policy::oldest ? st.log.retained() : st.log.end();
}

/// The first id that a session can still get, or be told of, over all its channels.
inline event_id engine::next_id(std::uint32_t slot) noexcept {
  event_id next = max_event_id;
  const std::uint32_t asks_before = asks_left_;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    stream& st = stream_of(sub);
    if (st.transients || st.owner->options_.ids == id_mode::none) continue;
    event_id id = sequence_of(*st.owner).last + 1;
    switch (sub.from()) {
      case source::newest:
      case source::selected: {
        const newest_by_key& values = values_of(st);
        const std::uint64_t n =
            next_keyless(sub, values.keyless_after(value_reader_of(sub).keyless));
        if (n != values.keyless_end()) id = values.keyless(n).position;
        break;
      }
      case source::skip: id = skips_[sub.record].first; break;
      case source::backfill: id = sub.filled_to + 1; break;
      case source::left: continue;
      case source::log: {
        log_place p = sub.at();
        if (sub.rest != 0) ++p.k;    // that one it gets first, whatever comes
        asks_left_ = asks_per_turn;  // then the id is one that it passed
        if (next_visible(slot, st, p) != found::nothing) id = p.seg->id(p.get());
        break;
      }
    }
    if (id < next) next = id;
  }
  asks_left_ = asks_before;
  return next;
}

/// Tells a session of a loss on one channel: `event: gap`, `data:
/// {"requested":R,"first":F,"lost":N}`. F is the first id that can come from that channel; `id:` is
/// one below the first that can come from any (the same, where there is one channel), so that ids
/// never run back and a resume from it misses nothing. Only the last of several frames has it
/// (moves_id): who is cut between two of them comes back with the id from before. Without ids
/// (lost transient events) R and F are null and the client's last id stays as it is.
inline bool engine::push_gap(std::uint32_t slot, channel_state& where, const loss& what,
                             bool moves_id) noexcept {
  char data[max_gap];
  const char* const end =
      put_gap(data, {what.requested, what.first, what.lost, what.known}, what.with_ids);
  event e{.type = "gap", .data = {data, static_cast<std::size_t>(end - data)}};
  char id[2 * max_digits + 1];
  if (what.with_ids && moves_id) {
    e.id = {id,
            static_cast<std::size_t>(put_position(id, next_id(slot) - 1, values_to(slot)) - id)};
  }
  if (!lanes_.push(sessions_[slot].lane, e, lane_kind::control)) return false;
  ++where.counters_.gaps;
  if (on_gap) {
    const quiet q{*this};
    on_gap({id_of(slot), handle_of(where), what.with_ids ? what.requested : no_id,
            what.with_ids ? what.first : no_id, what.lost, what.known});
  }
  return true;
}

/// The newest values of a channel, and no events without a key but those that are retained.
inline newest_by_key& engine::values_of(stream& st) noexcept {
  newest_by_key& values = *st.owner->newest_;
  values.let_go_before(st.log.retained());
  return values;
}

/// From event `n` that is no state to the first that the session gets.
inline std::uint64_t engine::next_keyless(const subscription& sub, std::uint64_t n) noexcept {
  const newest_by_key& values = *stream_of(sub).owner->newest_;
  for (; n != values.keyless_end(); ++n) {
    const keyless_event& e = values.keyless(n);
    if (e.key != none && sub.from() == source::selected &&
        find_watch(sub, values.key_of(e)) == none)
      continue;
    const std::string_view audience = values.audience_of(e);
    if (audience.empty() || sees(sub.session, audience)) break;
  }
  return n;
}

/// Whether a reader lost events that are no state, behind the last that it has.
inline bool engine::lost_keyless(const subscription& sub, const newest_by_key& values) noexcept {
  const auto visible = [&](std::string_view audience) { return sees(sub.session, audience); };
  const std::uint64_t had = value_reader_of(sub).keyless;
  if (values.lost_keyless(had, visible)) return true;
  if (!values.lost_barrier(had, visible)) return false;
  if (sub.from() == source::newest) return true;
  const key_watchers& all = *values.watchers();
  for (const std::uint32_t w : selections_[sub.record].keys.places) {
    if (w != none && all.key(all[w].key).lost > had) return true;
  }
  return false;
}

/// Notes, for all channels of which a session gets the newest values: events without a key that it
/// did not get before retention let go of them; `of_values`: keys that had to be forgotten, too.
inline void engine::note_losses(std::uint32_t slot, bool of_values) noexcept {
  const auto visible = [&](std::string_view audience) { return sees(slot, audience); };
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (!gets_values(sub)) continue;
    stream& st = stream_of(sub);
    const newest_by_key& values = values_of(st);
    channel_state& c = *st.owner;
    value_reader& p = value_reader_of(sub);
    const bool ids = c.options_.ids != id_mode::none;
    const std::uint64_t newest = head_of(c);
    const bool all_keys = sub.from() == source::newest;  // else each key tells of its own
    std::uint64_t had = all_keys ? passes_[sub.record].since : 0;
    if (p.told > had) had = p.told;
    bool ok = true;
    if (lost_keyless(sub, values)) {
      const std::uint64_t n = next_keyless(sub, values.keyless_after(p.keyless));
      const std::uint64_t first =
          n == values.keyless_end() ? newest + 1 : values.keyless(n).position;
      ok = untold_.push_back({&c, {p.keyless, first, 0, false, ids}});
      if (had >= p.keyless) had = p.told = first - 1;  // that frame says it all
      p.keyless = first - 1;
    }
    if (of_values && all_keys && p.keyless >= newest && values.lost_value(had, visible)) {
      ok = untold_.push_back({&c, {had, newest + 1, 0, false, ids}}) && ok;
      p.told = newest;
    }
    if (!ok) mark_dead(slot, close_reason::no_memory);
  }
}

/// Tells a session what was noted, and all else that it lost, so that no loss is passed by an id
/// before it is told: only the last frame has one. False: memory is out.
inline bool engine::tell(std::uint32_t slot) noexcept {
  note_losses(slot);
  std::uint32_t last = none;
  for (std::uint32_t n = 0; n < untold_.size(); ++n) {
    if (untold_[n].what.with_ids) last = n;
  }
  bool ok = true;
  for (std::uint32_t n = 0; n < untold_.size(); ++n)
    ok = ok && push_gap(slot, *untold_[n].where, untold_[n].what, n == last);
  untold_.clear();
  return ok;
}

/// What a session lost, and where it stands: by the id of a gap frame, or else alone. False: memory
/// is out.
inline bool engine::tell_standing(std::uint32_t slot) noexcept {
  note_losses(slot);
  bool has_id = false;
  for (const untold& u : untold_) has_id = has_id || u.what.with_ids;
  return tell(slot) &&
         (has_id || lanes_.push_position(sessions_[slot].lane, next_id(slot) - 1, values_to(slot)));
}

// --- slow readers --------------------------------------------------------------------------------

/// The half-sent event is out: the readers that are too slow jump, and are told what they missed.
inline void engine::leave_skips(std::uint32_t slot) noexcept {
  bool ok = true;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    subscription& sub = subs_[i];
    if (sub.from() != source::skip) continue;
    channel_state& c = *stream_of(sub).owner;
    const loss l = leave_skip(slot, i);
    ok = (l.lost == 0 || untold_.push_back({&c, l})) && ok;
  }
  if (!untold_.empty()) ok = tell(slot) && ok;
  if (!ok) mark_dead(slot, close_reason::no_memory);
  finish_if_sealed(slot);
}

/// What it missed; nothing: it lost nothing, or gets the newest values instead.
inline loss engine::leave_skip(std::uint32_t slot, std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  stream& st = stream_of(sub);
  channel_state& c = *st.owner;
  const skip missed = skips_[sub.record];
  skips_.give_back(sub.record);
  const std::uint64_t to = skip_target(st);
  const std::uint64_t lost = to > missed.ordinal ? to - missed.ordinal : 0;
  const bool with_ids = !st.transients && c.options_.ids != id_mode::none;
  if (lost != 0 && c.options_.on_lag == lag_policy::coalesce && !st.transients) {
    const std::uint64_t has = (with_ids ? missed.first : missed.stamp) - 1;
    if (!start_passes(sub, has, has, 0)) {
      go_live(sub, to);
      mark_dead(slot, close_reason::no_memory);
    } else {
      passes_[sub.record].entered = has;
      passes_[sub.record].counted = missed.ordinal;
    }
    return {};
  }
  go_live(sub, lost == 0 ? missed.ordinal : to);
  count_lost(index, lost);
  return {missed.requested, to < st.log.end() ? st.log.id_at(to) : sequence_of(c).last + 1, lost,
          !st.log.selective(), with_ids};
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_CATCH_UP_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

// --- how much, and when --------------------------------------------------------------------------

/// Up to where a reader may take values into a write: less than it was cut at, at first.
inline std::uint64_t engine::begin_taking(value_reader& r, const weaving& w) const noexcept {
  const std::uint32_t most = most_at_a_time();
  if (!r.cut) r.room = r.room < most / 2 ? 2 * r.room : most;  // the last write took all
  r.cut = false;
  std::uint64_t room = r.room;
  const std::uint32_t quarter = r.at_most.bytes_per_second / 4;  // then it waits as long
  if (quarter != 0 && quarter < room) room = quarter;
  return w.bytes + room < w.room ? w.bytes + room : w.room;
}

/// A write took `n` bytes, and left values: the next takes no more.
inline void engine::note_cut(value_reader& r, std::uint64_t n) noexcept {
  r.cut = true;
  r.next_look = now_;  // it waits for its socket
  const std::uint32_t most = most_at_a_time();
  r.room = n < least_at_a_time ? least_at_a_time : n < most ? static_cast<std::uint32_t>(n) : most;
}

/// It took values of so many bytes, or gave them back (below 0).
inline void engine::pay(value_reader& r, std::int64_t bytes) const noexcept {
  const std::uint64_t spent = static_cast<std::uint64_t>(bytes < 0 ? -bytes : bytes) * r.cost;
  r.turn = bytes >= 0 ? r.turn + spent : r.turn > spent ? r.turn - spent : 0;
  if (r.at_most.bytes_per_second == 0) return;
  const std::int64_t debt = r.debt + bytes * 1000;
  const std::int64_t each = r.at_most.bytes_per_second;
  const std::int64_t ms = (debt - (debt < 0 ? each - 1 : 0)) / each;  // rounded down
  r.debt = static_cast<std::uint32_t>(debt - ms * each);
  r.paid_until = (r.paid_until > now_ ? r.paid_until : now_) + ms;
}

/// It has all that there is: what comes next waits, at first for any part of its period, so that
/// not all readers take theirs at once.
inline void engine::wait_a_period(value_reader& r) noexcept {
  if (r.at_most.every == 0) return;
  const std::int64_t wait =
      r.waited ? r.at_most.every : 1 + static_cast<std::int64_t>(random_.below(r.at_most.every));
  r.waited = true;
  r.next_look = now_ + wait;
}

/// Of an age at which nobody gets it.
inline bool engine::is_old(const channel_state& c, const newest_value& v) const noexcept {
  const duration most = c.options_.max_value_age;
  return !most.is_off() && !v.erased && present_ - v.at > most.ms();
}

/// A value, or that it is lost for its age. `counts`: it came while its reader was there. False:
/// memory is out.
inline bool engine::push_value(weaving& w, std::uint32_t index, std::uint32_t value,
                               std::uint32_t key, bool counts) noexcept {
  const channel_state& c = *stream_of(subs_[index]).owner;
  const newest_value& v = (*c.newest_)[value];
  lane_item item{.from = index, .key = key, .counts = counts, .lost = is_old(c, v)};
  item.at = static_cast<std::uint32_t>(v.at);
  blob* const bytes = item.lost ? make_loss(c, value) : v.bytes;
  if (bytes == nullptr) return false;
  w.bytes += bytes->size;
  const bool ok = lanes_.push_value(sessions_[w.slot].lane, bytes, item);
  if (item.lost) unref(bytes);
  return ok;
}

/// A gap frame that says that this value is lost: without an id, since values have none.
inline blob* engine::make_loss(const channel_state& c, std::uint32_t value) const noexcept {
  const std::uint64_t position = c.newest_->position(value);
  char data[max_gap];
  const char* const end =
      put_gap(data, {position - 1, position + 1, 1, true}, c.options_.ids != id_mode::none);
  const event e{.type = "gap", .data = {data, static_cast<std::size_t>(end - data)}};
  blob* const b = make_blob(static_cast<std::uint32_t>(encoded_size(e)));
  if (b != nullptr) encode_to(b->bytes(), e);
  return b;
}

// --- of chosen keys ------------------------------------------------------------------------------

/// What changed longest ago comes first, up to what one write takes. REQUIRES: it is due.
inline void engine::take_selected(weaving& w, std::uint32_t index) noexcept {
  const subscription& sub = subs_[index];
  selection& chosen = selections_[sub.record];
  if (chosen.keys.first == none) return;
  key_watchers& all = *stream_of(sub).owner->newest_->watchers();
  const std::uint64_t before = w.bytes;
  const std::uint64_t stop = begin_taking(chosen, w);
  while (w.ok && w.bytes < stop) {
    const std::uint32_t x = all.take(chosen.keys);
    if (x == none) break;
    w.ok = take_key(w, index, x);
  }
  pay(chosen, static_cast<std::int64_t>(w.bytes - before));
  if (chosen.keys.first == none) wait_a_period(chosen);
}

/// All values of a key that came since they were taken last. False: memory is out.
inline bool engine::take_key(weaving& w, std::uint32_t index, std::uint32_t x) noexcept {
  stream& st = stream_of(subs_[index]);
  const newest_by_key& values = *st.owner->newest_;
  const key_watch of = (*values.watchers())[x];
  bool ok = true;
  std::uint32_t last = none;  // what becomes of it is what becomes of the watch
  for (std::uint32_t v = values.watchers()->key(of.key).values; v != none && ok;
       v = values[v].next_of_key) {
    if (values.position(v) < of.due || !sees_value(w.slot, values[v])) continue;
    if (of.due == 0 && is_old(*st.owner, values[v])) continue;
    if (last != none) ok = push_value(w, index, last, none, of.due != 0);
    last = v;
  }
  if (last != none) return ok && push_value(w, index, last, x, of.due != 0);
  values.watchers()->sent(selections_[subs_[index].record].keys, x);
  if (of.due == 0) return ok;
  // max_keys made the channel forget it
  const auto visible = [&](std::string_view audience) { return sees(w.slot, audience); };
  if (!values.lost_value(of.due - 1, visible)) return ok;
  count_lost(index, 1);
  const bool ids = st.owner->options_.ids != id_mode::none;
  return ok && untold_.push_back({st.owner, {of.due - 1, head_of(*st.owner) + 1, 0, false, ids}}) &&
         tell(w.slot);
}

/// A write did not begin a value, of a watch that may be given up.
inline void engine::take_back(selection& chosen, const lane_item& item) noexcept {
  const std::uint32_t index = item.from;
  const std::uint32_t x = item.key;
  if (x == none) return;  // another audience's behind it says it
  key_watchers& all = *stream_of(subs_[index]).owner->newest_->watchers();
  if (!all.comes_from_write(x)) {
    if (item.counts) count_conflated(index, 1);
    return;
  }
  if (all.give_back(chosen.keys, x, chosen.put_back)) count_conflated(index, 1);
  chosen.put_back = x;
}

// --- of all keys ---------------------------------------------------------------------------------

/// A pass whose values were all sent is over.
inline void engine::end_pass(std::uint32_t index) noexcept {
  passing& p = passes_[subs_[index].record];
  if (!p.ending) return;
  p.since = p.began;
  p.before = std::move(p.now);
  p.now.clear();
  p.open = p.ending = p.opens = p.gave = p.fresh = false;
  p.forget_ahead();
  wait_a_period(p);
}

/// What changed since the last pass, from where this one is, up to what one write takes. Nothing at
/// all: live. REQUIRES: it is due.
inline void engine::take_values(weaving& w, std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  const newest_by_key& values = *stream_of(sub).owner->newest_;
  passing& p = passes_[sub.record];
  const std::uint64_t newest = head_of(*stream_of(sub).owner);
  begin_pass(p, newest);
  const std::uint64_t before = w.bytes;
  const std::uint64_t stop = begin_taking(p, w);
  while (w.bytes < stop && now_ >= p.due()) {
    const std::uint32_t slot = next_changed(values, p);
    p.see(p.place, newest);
    if (slot == none) {
      const bool goes_on = end_of_slots(w, index, newest);
      if (sub.from() != source::newest) return;  // it went live
      if (!goes_on) break;
      begin_pass(p, newest);
      continue;
    }
    const newest_value& v = values[slot];
    const bool came = values.position(slot) > p.entered;
    const bool has = !p.ahead.empty() && p.has(slot) >= values.position(slot);
    const bool nothing =
        has || (p.fresh && (v.erased || (!came && is_old(*stream_of(sub).owner, v))));
    if (!nothing && sees_value(w.slot, v)) {
      w.ok = push_value(w, index, slot, slot, came);
      if (!w.ok) return;
      p.gave = true;
    }
    p.see(++p.place, newest);
  }
  pay(p, static_cast<std::int64_t>(w.bytes - before));
}

inline bool engine::sees_value(std::uint32_t slot, const newest_value& v) noexcept {
  return v.audience.view().empty() || sees(slot, v.audience.view());
}

inline void engine::begin_pass(passing& p, std::uint64_t newest) noexcept {
  if (p.open) return;
  p.open = true;
  p.began = newest;
  p.place = p.at = 0;
}

/// A pass saw all. Where it found nothing, and nothing else waits, the log goes on. True: all of it
/// was sent before, and the next may begin.
inline bool engine::end_of_slots(weaving& w, std::uint32_t index, std::uint64_t newest) noexcept {
  subscription& sub = subs_[index];
  passing& p = passes_[sub.record];
  p.gave = p.gave || w.apart;  // then the end is told, too
  if (p.gave || p.opens || p.keyless < newest) {
    if (p.keyless < newest) p.began = p.since;  // losses are told behind those, and hold it back
    p.ending = true;
    const bool waits = w.bytes != 0 || tells_pass(w.slot, index);
    if (waits) {
      w.ok = tell_pass(w.slot, index);
    } else {
      end_pass(index);
    }
    return !waits && p.keyless >= newest;
  }
  if (p.stays) {  // what comes next is the next pass
    p.ending = true;
    end_pass(index);
    return false;
  }
  stream& st = stream_of(sub);
  const std::uint64_t came = st.log.end() - p.counted;
  count_conflated(index, came > p.sent ? came - p.sent : 0);
  give_record_back(sub);
  go_live(sub, st.log.end());
  w.moved = true;
  return false;
}

/// Whether the end of a pass is told. One that opens with several snapshots is told behind the last
/// of them.
inline bool engine::tells_pass(std::uint32_t slot, std::uint32_t index) const noexcept {
  const passing& p = passes_[subs_[index].record];
  if (!waits_in_line(subs_[index]) || !(p.opens || (p.gave && sessions_[slot].tells_position)))
    return false;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    if (opens(subs_[i]) && !passes_[subs_[i].record].ending) return false;
  }
  return true;
}

/// The values of a pass are in the lane: `id:` alone behind them. False: memory is out.
inline bool engine::tell_pass(std::uint32_t slot, std::uint32_t index) noexcept {
  if (!tells_pass(slot, index)) return true;
  return lanes_.push_position(sessions_[slot].lane, next_id(slot) - 1, values_to(slot, true),
                              lane_kind::pass, index);
}

/// A write took `n` bytes and left the rest: values that it did not begin are looked at again when
/// there is room for them.
inline void engine::take_values_back(std::uint32_t slot, std::uint64_t n) noexcept {
  lanes_.take_back(sessions_[slot].lane, [&](const lane_item& item) {
    const subscription& sub = subs_[item.from];
    if (!gets_values(sub)) return;  // it leaves
    value_reader& r = value_reader_of(sub);
    const bool first = !r.cut;
    if (item.kind == lane_kind::value) {
      if (first) note_cut(r, n);
      pay(r, -std::int64_t{item.bytes->size});
    }
    if (sub.from() == source::selected) {
      selection& chosen = selections_[sub.record];
      if (first) chosen.put_back = none;
      take_back(chosen, item);
    } else if (item.kind == lane_kind::pass) {
      passes_[sub.record].ending = false;
    } else if (first) {
      passes_[sub.record].unsee(item.key);
    }
  });
}

/// From where a pass is to the next slot whose value it did not see yet; none: it saw all.
inline std::uint32_t engine::next_changed(const newest_by_key& values, passing& p) noexcept {
  const std::uint32_t all = values.slot_count();
  while (p.place < all) {
    while (p.at < p.before.size() && p.before[p.at].end <= p.place) ++p.at;
    const bool seen = p.at < p.before.size();
    const std::uint32_t end = seen && p.before[p.at].end < all ? p.before[p.at].end : all;
    p.place = values.changed(p.place, end, seen ? p.before[p.at].head : p.since);
    if (p.place != end) return p.place;
  }
  return none;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_PASSES_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// REQUIRES: its lane is empty or holds one frame, and nothing of a log is half sent.
inline void engine::fill(std::uint32_t slot) noexcept {
  bool fills = false;
  bool passes = false;
  strands_.clear();
  weaving w{.slot = slot, .room = options_.flush_share};
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.from() == source::newest) {
      passes = true;
      end_pass(i);
    }
    if (sub.from() == source::selected) {
      passes = passes || has_more(sub);
      if (!keyless_waits(sub)) continue;
    }
    if (sub.from() == source::left || sub.from() == source::skip || !waits_in_line(sub)) continue;
    fills = fills || sub.from() != source::log;
    if (!strands_.push_back({.index = i})) return mark_dead(slot, close_reason::no_memory);
  }
  if (passes) w.ok = tell(slot);  // what no id may pass untold
  w.values_to = values_to(slot);
  if (fills && w.ok) weave(w);
  for (std::uint32_t i = sessions_[slot].first; passes && i != none && w.ok; i = subs_[i].next) {
    const source from = subs_[i].from();
    const bool values =
        from == source::newest || (from == source::selected && keyless_waits(subs_[i]));
    if (!values || waits_in_line(subs_[i])) continue;
    strands_.clear();  // without ids it has no place among the others
    w.ok = strands_.push_back({.index = i});
    if (w.ok) weave(w);
  }
  if (passes && w.ok) run_passes(w);
  if (!w.ok) return mark_dead(slot, close_reason::no_memory);
  if (w.bytes == 0 && w.moved && weaves(sessions_[slot])) enqueue(ready_, slot);
  if (sessions_[slot].paced) arm(slot);
  finish_if_sealed(slot);
}

/// It catches up on a channel whose ids the others wait for.
inline bool engine::weaves(const session& s) const noexcept {
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const source from = subs_[i].from();
    const bool waits = from == source::newest || from == source::backfill ||
                       (from == source::selected && keyless_waits(subs_[i]));
    if (waits && waits_in_line(subs_[i])) return true;
  }
  return false;
}

/// It gets values, and its pace allows some now.
inline bool engine::may_take(const subscription& sub) noexcept {
  return gets_values(sub) && now_ >= value_reader_of(sub).due();
}

/// Values for a session, while there is room.
inline void engine::run_passes(weaving& w) noexcept {
  note_losses(w.slot, true);
  w.ok = tell(w.slot);
  std::uint32_t first = none;
  bool several = false;
  for (std::uint32_t i = sessions_[w.slot].first; i != none; i = subs_[i].next) {
    if (!may_take(subs_[i])) continue;
    several = first != none;
    first = i;
  }
  if (several) return share_passes(w);
  if (first == none || !w.ok) return;
  value_reader_of(subs_[first]).turn = 0;  // nobody is there to share with
  take_newest(w, first);
}

inline void engine::take_newest(weaving& w, std::uint32_t index) noexcept {
  if (subs_[index].from() == source::newest) {
    take_values(w, index);
  } else {
    take_selected(w, index);
  }
}

/// The channel that had least of its share comes first.
inline void engine::share_passes(weaving& w) noexcept {
  strands_.clear();
  for (std::uint32_t i = sessions_[w.slot].first; i != none && w.ok; i = subs_[i].next) {
    if (!may_take(subs_[i])) continue;
    w.ok = strands_.push_back({.next = value_reader_of(subs_[i]).turn, .index = i});
  }
  for (std::uint32_t i = strands_.size() / 2; i-- != 0;) sink(i);
  std::uint64_t passed = strand::nothing;  // the turn of the first that took something
  while (w.ok && w.bytes < w.room && strands_[0].next != strand::nothing) {
    const strand x = strands_[0];
    const std::uint64_t before = w.bytes;
    take_newest(w, x.index);
    if (passed == strand::nothing && w.bytes != before) passed = x.next;
    strands_[0].next = strand::nothing;
    sink(0);
  }
  if (passed == 0 || passed == strand::nothing) return;
  // Who had nothing to take saves no more of its share than the others did.
  for (std::uint32_t i = sessions_[w.slot].first; i != none; i = subs_[i].next) {
    if (!gets_values(subs_[i])) continue;
    std::uint64_t& turn = value_reader_of(subs_[i]).turn;
    turn = turn > passed ? turn - passed : 0;
  }
}

/// Takes from the strands in the order of their ids, up to a share, or to where a hook has to be
/// asked again.
inline void engine::weave(weaving& w) noexcept {
  w.horizon = strand::nothing;
  w.done_to = 0;
  ask_hooks(w);
  for (strand& x : strands_) {
    if (w.ok) look(w, x);
  }
  for (std::uint32_t i = strands_.size() / 2; i-- != 0;) sink(i);
  while (w.ok && w.bytes < w.room) {
    strand& x = strands_[0];
    if (x.next > w.horizon || x.next == strand::nothing) {
      w.done_to = w.horizon;
      break;
    }
    std::uint64_t bound = w.horizon;
    for (std::uint32_t i = 1; i < 3 && i < strands_.size(); ++i) {
      if (strands_[i].next < bound) bound = strands_[i].next;
    }
    take(w, x, bound);
    if (w.ok) look(w, x);
    sink(0);
  }
  if (w.ok) leave_hooks(w);
  for (const staged_event& e : staged_) {
    if (e.bytes != nullptr) unref(e.bytes);
  }
  staged_.clear();
}

/// Puts strand `i` of the heap where it belongs; what is below it stands right.
inline void engine::sink(std::uint32_t i) noexcept {
  const strand x = strands_[i];
  for (const std::uint32_t n = strands_.size();;) {
    std::uint32_t child = 2 * i + 1;
    if (child >= n) break;
    if (child + 1 < n && strands_[child + 1].next < strands_[child].next) ++child;
    if (strands_[child].next >= x.next) break;
    strands_[i] = strands_[child];
    i = child;
  }
  strands_[i] = x;
}

// --- what a strand has next ----------------------------------------------------------------------

inline void engine::look(weaving& w, strand& x) noexcept {
  subscription& sub = subs_[x.index];
  if (gets_values(sub)) {
    const newest_by_key& values = *stream_of(sub).owner->newest_;
    value_reader& p = value_reader_of(sub);
    if (x.keyless == strand::nothing) x.keyless = values.keyless_after(p.keyless);
    x.keyless = next_keyless(sub, x.keyless);
    if (x.keyless == values.keyless_end()) {
      p.keyless = head_of(*stream_of(sub).owner);
      x.next = strand::nothing;
    } else {
      x.next = values.keyless(x.keyless).position;
    }
  } else if (sub.from() == source::log) {
    const stream& st = stream_of(sub);
    log_place p = sub.at();
    const found f = next_visible(w.slot, st, p, x.own);
    move_cursor(sub, p);
    x.next = f == found::nothing ? strand::nothing : p.seg->id(p.get());
    if (f == found::paused) {
      if (x.next <= w.horizon) w.horizon = x.next - 1;
      enqueue(ready_, w.slot);
    }
  } else if (sub.from() == source::backfill) {
    x.next = x.staged == x.staged_end ? strand::nothing : staged_[x.staged].id;
  }
}

// --- what is taken -------------------------------------------------------------------------------

/// The next event of a strand; of a log all up to id `bound`.
inline void engine::take(weaving& w, strand& x, std::uint64_t bound) noexcept {
  subscription& sub = subs_[x.index];
  w.moved = true;
  if (sub.from() == source::log) return take_from_log(w, x, bound);
  if (gets_values(sub)) return take_keyless(w, x);
  blob* const bytes = staged_[x.staged++].bytes;
  const event_id before = std::exchange(sub.filled_to, x.next);
  w.done_to = x.next;
  if (bytes == nullptr) return take_loss(w, *stream_of(sub).owner, before, x.next);
  if (w.values_to >= x.next) {
    w.bytes += bytes->size;
    w.ok = lanes_.push(sessions_[w.slot].lane, bytes, lane_kind::event, x.index);
    return;
  }
  pieces_.clear();
  w.ok = add_piece(w, {bytes->bytes(), bytes->size}, x.next);
  if (w.ok) push_pieces(w, lane_kind::event, x.index);
}

/// A hook lost what is behind `before`, up to `id`.
inline void engine::take_loss(weaving& w, channel_state& c, event_id before, event_id id) noexcept {
  advance_hooks(id);
  w.ok = untold_.push_back({&c, {before, id + 1, 0, false}}) && tell(w.slot);
}

/// A value that stands in front of a barrier.
inline bool engine::add_value(weaving& w, std::uint32_t index, std::uint32_t value,
                              bool counts) noexcept {
  const newest_value& v = (*stream_of(subs_[index]).owner->newest_)[value];
  value_reader& r = value_reader_of(subs_[index]);
  count_value(index, counts, v.at);
  r.sent += counts ? 1U : 0U;
  pay(r, v.bytes->size);
  return add_piece(w, {v.bytes->bytes(), v.bytes->size}, no_id);
}

/// A barrier comes: what a reader by passes does not have of its key.
inline bool engine::add_before(weaving& w, std::uint32_t index, std::string_view key,
                               std::string_view audience) noexcept {
  const newest_by_key& values = *stream_of(subs_[index]).owner->newest_;
  passing& p = passes_[subs_[index].record];
  const std::uint32_t held[] = {values.find(key, {}),
                                audience.empty() ? none : values.find(key, audience)};
  for (const std::uint32_t slot : held) {
    if (slot == none || values.position(slot) <= p.has(slot)) continue;
    const newest_value& v = values[slot];
    if ((v.erased && p.fresh) || is_old(*stream_of(subs_[index]).owner, v)) continue;
    if (!p.get_ahead(slot, values.position(slot)) ||
        !add_value(w, index, slot, values.position(slot) > p.entered))
      return false;
  }
  return true;
}

/// The same for one that chose its keys.
inline bool engine::add_chosen_before(weaving& w, std::uint32_t index,
                                      std::string_view key) noexcept {
  const channel_state& c = *stream_of(subs_[index]).owner;
  const newest_by_key& values = *c.newest_;
  key_watchers& all = *c.newest_->watchers();
  const std::uint32_t x = find_watch(subs_[index], key);
  const std::uint64_t due = all.due(x);
  const std::uint32_t first = all.key(all[x].key).values;
  const auto next = [&](std::uint32_t v) {
    while (v != none && (values.position(v) < due || !sees_value(w.slot, values[v])))
      v = values[v].next_of_key;
    return v;
  };
  for (std::uint32_t v = next(first); v != none; v = next(values[v].next_of_key)) {
    if (is_old(c, values[v])) return true;  // that is told in its turn
  }
  all.take_now(x);
  bool ok = true;
  for (std::uint32_t v = next(first); v != none && ok; v = next(values[v].next_of_key))
    ok = add_value(w, index, v, due != 0);
  return ok;
}

/// An event that is no state, for one that gets values.
inline void engine::take_keyless(weaving& w, strand& x) noexcept {
  const subscription& sub = subs_[x.index];
  stream& st = stream_of(sub);
  value_reader& p = value_reader_of(sub);
  const keyless_event& e = st.owner->newest_->keyless(x.keyless++);
  const log_place at = st.log.at(e.ordinal);
  const event_id id = at.seg->id(at.get());
  if (id != no_id) w.done_to = id;
  p.keyless = e.position;
  p.sent += e.position > p.entered ? 1U : 0U;
  ++st.owner->counters_.delivered;
  count(x.index, &session_counts::delivered, 1);
  if (e.position > p.entered) note_latency(*st.owner, at.seg->at(at.get()));
  pieces_.clear();
  if (e.key != none) {
    const std::string_view key = st.owner->newest_->key_of(e);
    w.ok = sub.from() == source::selected
               ? add_chosen_before(w, x.index, key)
               : add_before(w, x.index, key, st.owner->newest_->audience_of(e));
  }
  w.ok = w.ok && add_piece(w, at.seg->text(at.get()), id);
  if (w.ok) push_pieces(w, lane_kind::event, x.index);
}

/// Bytes of an event that goes into the lane with what was added before. Where values are behind
/// it, its id says so.
inline bool engine::add_piece(weaving& w, std::string_view text, event_id id) noexcept {
  piece made{text, no_id};
  if (id != no_id && w.values_to < id) {
    made = {text.substr(text.find('\n') + 1), id};
    w.apart = true;
    w.size += 5 + position_size(id, w.values_to);
  } else if (!pieces_.empty() &&
             pieces_.back().text.data() + pieces_.back().text.size() == text.data()) {
    piece& last = pieces_.back();
    last.text = {last.text.data(), last.text.size() + text.size()};
    w.size += text.size();
    return true;
  }
  w.size += made.text.size();
  return pieces_.push_back(made);
}

inline void engine::push_pieces(weaving& w, lane_kind kind, std::uint32_t from) noexcept {
  w.bytes += w.size;
  w.ok = lanes_.push_made(
      sessions_[w.slot].lane, static_cast<std::uint32_t>(w.size), kind,
      [&](char* out) {
        for (const piece& x : pieces_) {
          if (x.id != no_id) {
            out = put(out, "id: ");
            out = put_position(out, x.id, w.values_to);
            *out++ = '\n';
          }
          out = put(out, x.text);
        }
      },
      from);
  w.size = 0;
}

inline void engine::take_from_log(weaving& w, strand& x, std::uint64_t bound) noexcept {
  subscription& sub = subs_[x.index];
  stream& st = stream_of(sub);
  log_place p = sub.at();
  pieces_.clear();
  lane_kind kind = lane_kind::control;
  event_id id = x.next;
  do {
    const entry& e = p.get();
    if (!add_piece(w, p.seg->text(e), p.seg->id(e))) {
      w.ok = false;
      return;
    }
    if (!e.heartbeat()) kind = lane_kind::event;
    if (id != no_id) w.done_to = id;
    ++st.owner->counters_.delivered;
    if (!e.heartbeat()) {
      count(x.index, &session_counts::delivered, 1);
      if (p.offset() >= sub.live_from) note_latency(*st.owner, p.seg->at(e));
    }
    ++p.k;
    if (w.bytes + w.size >= w.room || next_visible(w.slot, st, p, x.own) != found::entry) break;
    id = p.seg->id(p.get());
  } while (id <= bound);
  push_pieces(w, kind, x.index);
  move_cursor(sub, p);
}

// --- backfill hooks ------------------------------------------------------------------------------

/// Asks each hook for its next events, no further than those that were asked before it got.
inline void engine::ask_hooks(weaving& w) noexcept {
  std::uint32_t hooks = 0;
  for (const strand& x : strands_) hooks += subs_[x.index].from() == source::backfill ? 1U : 0U;
  if (hooks == 0) return;
  const std::size_t share =
      options_.flush_share < options_.control_lane ? options_.flush_share : options_.control_lane;
  for (strand& x : strands_) {
    if (subs_[x.index].from() != source::backfill) continue;
    ask_hook(w, x, share / hooks + 1);
    if (!w.ok) return;
    if (x.covered < w.horizon) w.horizon = x.covered;
  }
}

inline void engine::ask_hook(weaving& w, strand& x, std::size_t room) noexcept {
  const subscription& sub = subs_[x.index];
  stream& st = stream_of(sub);
  channel_state& c = *st.owner;
  st.trim(now_);
  const event_id first = first_possible(st);
  const event_id before = w.horizon < first ? w.horizon + 1 : first;
  x.staged = x.staged_end = staged_.size();
  x.covered = before - 1;
  x.answer = before == first ? backfill_state::done : backfill_state::wait;
  if (before <= sub.filled_to + 1) return;  // there is nothing between
  const backfill_request request{id_of(w.slot), sub.filled_to, before, room};
  const bool together = strands_.size() == 1 && w.values_to == max_event_id;
  backfill_writer writer{*this, request, c.options_.limits, together};
  backfill_state answer;
  {
    const quiet q{*this};
    answer = c.options_.backfill(request, writer);
  }
  writer.shrink();
  x.staged_end = staged_.size();
  w.ok = !writer.failed_;
  if (answer == backfill_state::done) return;
  if (answer == backfill_state::more && before == first && writer.last_ >= gone_up_to(st)) return;
  x.covered = writer.last_;
  x.answer = answer;
  // Nothing now: ask again in the next flush.
  if (answer == backfill_state::more && writer.bytes_ == 0) enqueue(ready_, w.slot);
}

/// All events up to `id` are out.
inline void engine::advance_hooks(event_id id) noexcept {
  for (const strand& x : strands_) {
    subscription& sub = subs_[x.index];
    if (sub.from() != source::backfill) continue;
    const event_id to = id < x.covered ? id : x.covered;
    if (to > sub.filled_to) sub.filled_to = to;
  }
}

/// Those that gave all they were asked for have their place in the log now, or what they do not
/// have is told.
inline void engine::leave_hooks(weaving& w) noexcept {
  advance_hooks(w.done_to);
  for (const strand& x : strands_) {
    subscription& sub = subs_[x.index];
    if (sub.from() != source::backfill || sub.filled_to < x.covered) continue;
    stream& st = stream_of(sub);
    channel_state& c = *st.owner;
    if (x.answer == backfill_state::done) {
      go_live(sub, st.log.find(sub.filled_to));
    } else if (x.answer != backfill_state::lost) {
      continue;
    } else if (c.newest_ != nullptr && c.options_.start == start_at::snapshot) {
      const event_id has = sub.filled_to;
      w.ok = w.ok && start_passes(sub, has, has, 0);
    } else {
      const event_id requested = sub.filled_to;
      go_live(sub, st.log.retained());
      w.ok = w.ok && untold_.push_back({&c, {requested, first_possible(st), 0, false}}) &&
             tell(w.slot);
    }
    w.moved = true;
  }
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

inline bool backfill_writer::stage(event_id id, detail::blob* bytes) noexcept {
  if (id <= last_ || id >= request_.before || !engine_->staged_.push_back({id, bytes})) {
    if (bytes != nullptr) detail::unref(bytes);
    failed_ = true;
    return false;
  }
  open_ = nullptr;
  last_ = id;
  return true;
}

/// Where an event's bytes go; nullptr: it is refused.
inline char* backfill_writer::room_for(event_id id, std::size_t size) noexcept {
  constexpr std::size_t most = std::size_t{64} << 10;
  if (open_ != nullptr && size <= open_room_ - open_->size && id > last_ && id < request_.before) {
    char* const to = open_->bytes() + open_->size;
    open_->size += static_cast<std::uint32_t>(size);
    engine_->staged_.back().id = last_ = id;
    bytes_ += size;
    return to;
  }
  const std::size_t left = request_.room > bytes_ ? request_.room - bytes_ : 0;
  const std::size_t more = together_ ? (left < most ? left : most) : 0;
  const std::size_t room = size < more ? more : size;
  detail::blob* const made = size == 0 || size > UINT32_MAX
                                 ? nullptr
                                 : detail::make_blob(static_cast<std::uint32_t>(room));
  if (made == nullptr) {
    failed_ = true;
    return nullptr;
  }
  made->size = static_cast<std::uint32_t>(size);
  bytes_ += size;
  if (!stage(id, made)) return nullptr;
  open_ = together_ ? made : nullptr;
  open_room_ = room;
  return made->bytes();
}

/// What waits for a slow reader has no more room than it needs.
inline void backfill_writer::shrink() noexcept {
  if (open_ == nullptr || open_room_ / 2 < open_->size) return;
  detail::blob* const exact = detail::make_blob(open_->size);
  if (exact == nullptr) return;
  std::memcpy(exact->bytes(), open_->bytes(), open_->size);
  detail::unref(std::exchange(open_, exact));
  engine_->staged_.back().bytes = exact;
}

inline bool backfill_writer::add(event_id id, const event& e) noexcept {
  detail::id_text text;
  event out = e;
  out.id = text.view(id);
  const encode_plan p = plan(out, *limits_);
  char* const to = p.error == encode_error::none ? room_for(id, p.size) : nullptr;
  failed_ = failed_ || to == nullptr;
  if (to != nullptr) encode_to(to, out, p);
  return to != nullptr;
}

inline bool backfill_writer::add_encoded(event_id id, std::string_view text,
                                         std::string_view audience) noexcept {
  if (!audience.empty() && !engine_->sees(request_.session.slot, audience)) return pass(id);
  char* const to = room_for(id, text.size());
  if (to != nullptr) std::memcpy(to, text.data(), text.size());
  return to != nullptr;
}

inline bool backfill_writer::pass(event_id id) noexcept {
  if (id < last_ || id >= request_.before) {
    failed_ = true;
    return false;
  }
  last_ = id;
  return true;
}

inline bool backfill_writer::lose(event_id first) noexcept { return stage(first - 1, nullptr); }

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_DETAIL_ENGINE_WEAVE_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

[[nodiscard]] constexpr publish_error to_publish_error(encode_error e) noexcept {
  switch (e) {
    case encode_error::none: return publish_error::none;
    case encode_error::bad_type: return publish_error::bad_type;
    case encode_error::bad_id: return publish_error::bad_id;
    case encode_error::bad_retry: return publish_error::bad_retry;
    default: return publish_error::too_large;
  }
}

/// Makes an entry known to the stream's index before it is appended. False: memory is out.
inline bool engine::index_audience(stream& st, std::string_view audience) noexcept {
  if (st.ask) return true;
  if (ask_who_sees_) {  // the host's rule: from now on it is asked for all of them
    st.ask = true;
    return true;
  }
  if (st.audiences == nullptr) {
    void* const p = allocate(sizeof(audience_index));
    if (p == nullptr) return false;
    st.audiences = ::new (p) audience_index(options_.seed);
  }
  return st.audiences->add(audience, st.log.end());
}

/// `meta` comes with id and flags, the rest is told here.
inline publish_error engine::append(stream& st, const event& e, new_entry& meta,
                                    const publish_options& o,
                                    const encode_limits& limits) noexcept {
  std::string_view id;
  encode_plan p{encode_error::none, e.data.size(), 0};
  if (!o.encoded) {
    id = last_id_.view(meta.id);
    p = plan_as(e, id, limits);
  } else if (p.size > limits.event) {
    p.error = encode_error::too_large;
  }
  if (p.error != encode_error::none) return to_publish_error(p.error);
  meta.size = static_cast<std::uint32_t>(p.size);
  meta.audience = o.audience;
  meta.stamp = stamp_ + 1;
  meta.at = present_;
  char* const at = st.log.prepare(meta);
  if (at == nullptr || (!o.audience.empty() && !index_audience(st, o.audience)))
    return publish_error::no_memory;
  if (o.encoded) {
    put(at, e.data);
  } else {
    encode_as(at, e, id, p);
  }
  const std::size_t id_line = id.empty() ? 0 : id.size() + 5;
  meta.text = {at + id_line, p.size - id_line};
  ++stamp_;
  st.log.commit(meta);
  st.trim(now_);
  announce(st, o.audience, !o.key.empty() && st.selecting != 0);
  return publish_error::none;
}

/// Sees to it that the next flush serves those who may see what was appended last. `keyed`: those
/// who chose their keys are told by wake_watchers().
inline void engine::announce(stream& st, std::string_view audience, bool keyed) noexcept {
  if (st.owner->main_.readers.empty()) return;
  touch(st);
  if (audience.empty() || st.ask) {
    st.dirty = true;
    st.for_all = st.for_all || !keyed;
  } else {
    serve_user(st, audience);
  }
  want();
}

/// An entry for one user: its sessions that read the stream are served in the next flush, the
/// others are not looked at.
inline void engine::serve_user(stream& st, std::string_view key) noexcept {
  const std::uint32_t user = caps_.find_user(key);
  if (user == none) return;
  const work w{*this};
  const std::uint32_t index = st.owner->main_.index;
  for (std::uint32_t slot = caps_.first_of(user); slot != none; slot = caps_.next_of_user(slot)) {
    if (!serving(sessions_[slot])) continue;
    for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
      if (subs_[i].stream_index != index) continue;
      if (st.transients && !add_transients(i)) mark_dead(slot, close_reason::no_memory);
      enqueue(live_, slot);
      break;
    }
  }
}

inline publish_result engine::publish(channel c, const event& e,
                                      const publish_options& o) noexcept {
  channel_state* const here = c.state();
  if (here == nullptr) return {no_id, publish_error::closed};
  if (here->engine_ != this) return {no_id, publish_error::another_hub};
  return publish(*here, e, o);
}

inline publish_result engine::publish(channel_state& c, const event& e,
                                      const publish_options& o) noexcept {
  if (quiet_) return {no_id, publish_error::in_hook};
  if (c.closing_) return {no_id, publish_error::closed};
  if (c.sealed_) return {no_id, publish_error::sealed};
  const bool given = c.options_.ids == id_mode::given && !o.transient;
  if (!e.id.empty() || (o.id != no_id && !given)) return {no_id, publish_error::bad_id};
  if (o.encoded && (!e.type.empty() || e.retry != no_retry || !e.data.ends_with("\n\n"))) {
    return {no_id, publish_error::bad_type};
  }
  if (!names_fit(o)) return {no_id, publish_error::too_large};
  sequence& seq = sequence_of(c);
  stream* st = &c.main_;
  new_entry meta;
  if (o.transient) {
    if ((st = transients_of(c)) == nullptr) return {no_id, publish_error::no_memory};
  } else if (given) {
    meta.id = o.id;
    const event_id least = o.repeats_id ? seq.last : seq.last + 1;
    if (o.id < least || o.id == no_id || o.id > max_event_id)
      return {no_id, publish_error::id_order};
  } else if (c.options_.ids == id_mode::automatic) {
    meta.id = seq.last + 1;
    const bool taken = options_.given_ids && &seq == &sequence_;  // by whoever gives them
    if (meta.id > max_event_id || taken) return {no_id, publish_error::id_order};
  }
  if (const publish_error bad = append(*st, e, meta, o, c.options_.limits);
      bad != publish_error::none) {
    return {no_id, bad};
  }
  if (meta.id != no_id) seq.last = meta.id;
  ++c.counters_.published;
  if (c.newest_ != nullptr && !o.transient) {
    const bool state = !o.key.empty() && o.role != key_role::barrier;
    state ? put_newest(c, meta, o) : put_keyless(c, meta, o);
  }
  if (o.transient && c.main_.readers.empty()) hand_out(*st);  // nobody is to have it
  if (!c.options_.keep_age.is_off()) {
    arm_channel(c);
    want();  // its host has a timer to set
  }
  if (o.last) seal(c);
  return {meta.id, publish_error::none};
}

/// What was appended last is no state of a key.
inline void engine::put_keyless(channel_state& c, const new_entry& meta,
                                const publish_options& o) noexcept {
  const std::uint64_t position = meta.id != no_id ? meta.id : meta.stamp;
  values_of(c.main_).put_keyless(position, c.main_.log.end() - 1, o.audience, o.key);
  if (!o.key.empty() && c.main_.selecting != 0) wake_watchers(c, o.key, barrier, o.audience);
}

/// It is the newest state of its key.
inline void engine::put_newest(channel_state& c, const new_entry& meta,
                               const publish_options& o) noexcept {
  const std::uint64_t position = meta.id != no_id ? meta.id : meta.stamp;
  std::string_view text = meta.text;
  if (o.encoded && meta.id != no_id && text.starts_with("id: "))
    text.remove_prefix(text.find('\n') + 1);
  c.newest_->put({o.key, position, text, o.audience, o.role == key_role::erase, meta.at});
  if (c.main_.selecting != 0) wake_watchers(c, o.key, position, o.audience);
}

inline publish_error engine::send(session_id id, const event& e) noexcept {
  if (quiet_) return publish_error::in_hook;
  session* s = find(id);
  if (s == nullptr || !serving(*s)) return publish_error::no_session;
  if (s->chunked != none && chunks_.ended(s->chunked))
    return publish_error::no_session;               // too late
  if (!e.id.empty()) return publish_error::bad_id;  // it would move the client's resume point
  const encode_plan p = plan(e);
  if (p.error != encode_error::none) return to_publish_error(p.error);
  // One event always fits, so that a small lane does not make a large event unsendable.
  if (s->lane != none && lanes_.waiting(s->lane) + p.size > options_.control_lane)
    return publish_error::full;
  if (!lanes_.push(s->lane, e, lane_kind::event)) return publish_error::no_memory;
  enqueue(live_, id.slot);
  want();
  return publish_error::none;
}

inline std::size_t engine::send_user(std::string_view key, const event& e) noexcept {
  const std::uint32_t user = caps_.find_user(key);
  if (user == none) return 0;
  std::size_t n = 0;
  for (std::uint32_t slot = caps_.first_of(user); slot != none; slot = caps_.next_of_user(slot)) {
    if (send(id_of(slot), e) == publish_error::none) ++n;
  }
  return n;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

inline publish_result channel::publish(const event& e, const publish_options& o) const noexcept {
  detail::channel_state* const here = state();
  if (here == nullptr) return {no_id, publish_error::closed};
  return here->engine_->publish(*here, e, o);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_DETAIL_ENGINE_PUBLISH_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

// --- who is served -------------------------------------------------------------------------------

/// One pass. First those who are up to date get what was published since, then those who catch up
/// get their share, in turn, within the budget. True: more can be sent at once; call again.
inline bool engine::flush() noexcept {
  if (flushing_ || quiet_) return false;
  wanted_ = false;
  {
    const work w{*this};
    flush_once();
  }
  // What hooks published when the dead were closed counts too.
  bool more = ready_.first != none || live_.first != none;
  for (const stream* st = touched_; st != nullptr && !more; st = st->touched_next) more = st->dirty;
  return more;
}

inline void engine::flush_once() noexcept {
  flushing_ = true;
  host_.flush_begins(host_.self);
  serve_dirty();
  for (const std::uint32_t end = live_.last; end != none && live_.first != none;) {
    const std::uint32_t slot = dequeue(live_);
    (void)pump(slot);
    if (slot == end) break;
  }
  const std::uint32_t last = ready_.last;  // who is queued from here on waits for the next flush
  std::uint64_t sent = 0;
  while (ready_.first != none && sent < options_.flush_budget) {
    const std::uint32_t slot = dequeue(ready_);
    sent += pump(slot);
    if (slot == last) break;
  }
  accept_budget_ = options_.flush_budget;
  settle();
  host_.flush_ends(host_.self);
  flushing_ = false;
}

/// The readers of streams that got entries for all of them. Who catches up already is served in its
/// turn; who reads several streams waits until all of them were looked at, and is served once.
inline void engine::serve_dirty() noexcept {
  serve_transients();
  for (stream* st = touched_; st != nullptr; st = st->touched_next) {
    if (!st->dirty) continue;
    st->dirty = false;
    const bool to_all = std::exchange(st->for_all, false);
    const std::uint32_t* const end = st->readers.end() - (to_all ? 0 : st->selecting);
    for (const std::uint32_t* at = st->readers.begin(); at != end; ++at) {
      const std::uint32_t i = *at;
      const subscription& sub = subs_[i];
      const std::uint32_t slot = sub.session;
      session& s = sessions_[slot];
      if (s.blocked || s.first != i || sub.next != none) {
        if (serving(s)) enqueue(live_, slot);
      } else if (!s.queued) {
        (void)pump(slot);
      }
    }
  }
}

/// Before anything is sent: transient entries are handed out, so that they leave in their order.
inline void engine::serve_transients() noexcept {
  for (stream* st = touched_; st != nullptr; st = st->touched_next) {
    if (st->transients) hand_out_to_readers(*st);
  }
}

/// Each reader of the channel has a subscription to them until it has got them.
inline void engine::hand_out_to_readers(stream& st) noexcept {
  if (st.dirty) {
    for (const std::uint32_t i : st.owner->main_.readers) {
      const std::uint32_t slot = subs_[i].session;
      if (!serving(sessions_[slot])) continue;
      if (subs_[i].with_transients == 0 &&
          !add_transients(i)) {  // it would miss entries, so it is closed and comes back
        mark_dead(slot, close_reason::no_memory);
      } else {
        enqueue(live_, slot);
      }
    }
  }
  st.dirty = false;
  watch_lag(st, st.handed_out.offset());
  hand_out(st);
}

/// Writes to one session until it is blocked, has nothing left or had its share. Returns the bytes,
/// and what was looked at for it as bytes.
inline std::uint64_t engine::pump(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (!serving(s) || s.blocked) return 0;
  if (host_.completes && !flights_.reserve_one()) {
    mark_dead(slot, close_reason::no_memory);
    return 0;
  }
  batch& b = batch_;
  std::uint64_t sent = 0;
  std::uint64_t spent = 0;
  for (;;) {
    if (!gather(slot, s, b)) mark_dead(slot, close_reason::no_memory);
    spent += std::uint64_t{asks_per_turn - asks_left_} * bytes_per_ask;
    if (!serving(s)) break;
    if (b.empty()) {
      if (b.paused) {
        enqueue(ready_, slot);
      } else if (s.state == session_state::finishing && nothing_left(slot, s)) {
        continue;
      }
      break;
    }
    const std::span<const buffer> out = b.lay_out(host_.max_buffers);
    if (out.empty()) {
      mark_dead(slot, close_reason::no_memory);
      break;
    }
    write_result r = host_.write(host_.self, slot, out);
    ++stats_.writes;
    if (r.bytes > b.total()) r.bytes = to_size(b.total());
    if (r.next == flow::pending && host_.completes) {
      begin_flight(s, b, r.bytes);
      block(slot, s, true);
      return spent + sent + r.bytes;
    }
    const bool whole = r.bytes == b.total() && !b.was_cut();
    const bool all = b.all;
    if (whole && b.logs_only) {
      note_write(s, r.bytes);
      advance_heads(s);
    } else {
      advance(slot, &b[0], b.size(), r.bytes, whole && !heads_.empty());
    }
    sent += r.bytes;
    if (s.lane != none && s.state == session_state::live) take_values_back(slot, r.bytes);
    if (all && whole && r.next == flow::ready) break;
    if (r.next == flow::closed || r.next == flow::pending) {
      mark_dead(slot, close_reason::peer);
      break;
    }
    if (r.next == flow::blocked) {
      block(slot, s, !(whole && all));
      if (s.conflates) conflate(slot, false);
      break;
    }
    // A transport that takes nothing and says ready would hold us here: its turn is over.
    if (r.bytes == 0 || sent >= options_.flush_share) {
      if (s.conflates) conflate(slot, false);
      enqueue(ready_, slot);
      break;
    }
  }
  if (s.transients) drop_transients(slot);
  return spent + sent;
}

/// A session that ends has got everything: a farewell, the last chunk, its transport's goodbye.
/// False: it is closed, or blocked.
inline bool engine::nothing_left(std::uint32_t slot, session& s) noexcept {
  if (say_farewell(slot, s)) return true;
  if (s.chunked != none) {
    // It was skipped forward inside a chunk that was announced: a comment makes up for the rest.
    if (const std::uint32_t owed = chunks_.owed(s.chunked); owed != 0) {
      if (lanes_.push_padding(s.lane, owed)) return true;
    } else if (chunks_.end(s.chunked)) {
      return true;
    }
  }
  if (host_.end != nullptr && host_.end(host_.self, slot) == flow::blocked) {
    block(slot, s, true);
  } else {
    mark_dead(slot, s.why);
  }
  return false;
}

/// Before a clean end: when to come back, and the host's last event. False: said already, or
/// nothing to say.
inline bool engine::say_farewell(std::uint32_t slot, session& s) noexcept {
  if (s.said_farewell || s.why == close_reason::finished) return false;
  s.said_farewell = true;
  const std::int64_t low = options_.retry_min.ms();
  const std::int64_t high = options_.retry_max.ms();
  const std::int64_t retry = high <= low ? low
                                         : low + static_cast<std::int64_t>(random_.below(
                                                     static_cast<std::uint64_t>(high - low + 1)));
  const bool ok = lanes_.push_retry(sessions_[slot].lane, retry);
  if (s.why != close_reason::drain || farewell_ == nullptr) return ok;
  return lanes_.push(s.lane, farewell_, lane_kind::control) || ok;
}

/// `waiting`: something is left for it.
inline void engine::block(std::uint32_t slot, session& s, bool waiting) noexcept {
  if (!s.blocked) s.progress = now32();
  s.blocked = true;
  s.waiting = waiting;
  const std::int64_t due = now_ + options_.write_deadline.ms();
  if (!options_.write_deadline.is_off() && timers_.when(slot, now_) > due)
    timers_.arm(slot, due, now_);
}

// --- gather --------------------------------------------------------------------------------------

/// The next bytes of a session: the rest of a half-sent event, the control lane, the logs. False:
/// memory is out.
inline bool engine::gather(std::uint32_t slot, session& s, batch& b) noexcept {
  heads_.clear();
  asks_left_ = asks_per_turn;
  b.begin(options_.flush_share);
  if (s.first != none && s.lane == none &&
      s.chunked == none) {  // nearly always: one log, that is all
    const subscription& sub = subs_[s.first];
    if (sub.next == none && sub.rest == 0 && sub.from() == source::log) {
      segment& seg = *sub.seg;
      const std::uint32_t n = seg.count - sub.k;
      if (n == 0 && seg.next == nullptr) return true;  // nothing new
      heads_.push_reserved({sub.at(), s.first});       // take_slot made room for one
      bool ok = true;
      if (seg.next == nullptr && !seg.mixed) {  // one run
        const std::uint32_t begin = seg[sub.k].begin;
        ok = b.add({seg.bytes() + begin, seg.used - begin, sub.k, &seg, s.first, n});
        heads_[0].at.k = seg.count;
        heads_[0].count = n;
        b.all = seg.attached;
      } else {
        ok = gather_one(slot, heads_[0], b);
      }
      b.logs_only = true;
      b.all = b.all && s.state == session_state::live;
      return ok;
    }
  }
  if (s.chunked == none) return gather_session(slot, s, b);
  if (chunks_.ended(s.chunked)) return chunks_.gather_end(s.chunked, b);
  b.begin(chunks_.limit(s.chunked, options_.flush_share));
  if (!gather_session(slot, s, b)) return false;
  // The response head goes in front, unframed.
  std::uint32_t heads = 0;
  for (std::uint32_t i = s.lane;
       heads < b.size() && b[heads].from == run::from_lane && lanes_[i].kind == lane_kind::head;
       i = lanes_[i].next)
    ++heads;
  return chunks_.frame(s.chunked, b, heads);
}

inline bool engine::gather_session(std::uint32_t slot, session& s, batch& b) noexcept {
  std::uint32_t half_sent = none;
  bool skips = false;
  bool leaves = false;
  bool fills = false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.from() == source::log && sub.rest == 0) continue;
    skips = skips || sub.from() == source::skip;
    leaves = leaves || sub.from() == source::left;
    fills = fills || sub.from() == source::newest || sub.from() == source::backfill ||
            (sub.from() == source::selected && has_more(sub));
    if (sub.rest == 0) continue;
    const entry& e = (*sub.seg)[sub.k];
    if (!b.add({sub.seg->bytes() + e.end() - sub.rest, sub.rest, sub.k, sub.seg, i, 1}))
      return false;
    half_sent = i;
  }
  if (leaves) {
    end_leaving(slot, half_sent);
    push_owed_position(slot);
  }
  // After a half-sent event its gap frame comes next, in front of what other streams have.
  if (half_sent == none && skips) leave_skips(slot);
  const bool room = s.lane == none || lanes_[s.lane].next == none;
  if ((fills || skips) && half_sent == none && room && s.state == session_state::live) fill(slot);
  for (std::uint32_t i = s.lane; i != none && !b.full(); i = lanes_[i].next) {
    const lane_item& item = lanes_[i];
    if (!b.add({item.data(), item.left(), 0, nullptr, run::from_lane, 0})) return false;
  }
  if (half_sent != none && (skips || subs_[half_sent].from() == source::left)) return true;
  return gather_logs(slot, s, half_sent, (fills || skips) && weaves(s), b);
}

/// Usually one stream has something; several are merged in the order of publication.
/// `woven`: those with ids wait for one that catches up (weave.hpp).
inline bool engine::gather_logs(std::uint32_t slot, session& s, std::uint32_t half_sent, bool woven,
                                batch& b) noexcept {
  bool elsewhere = false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    if (subs_[i].from() == source::log && !(woven && waits_in_line(subs_[i]))) {
      if (!add_head(i, half_sent)) return false;
    } else {
      elsewhere = elsewhere || subs_[i].from() != source::selected || has_more(subs_[i]);
    }
  }
  if (half_sent != none && (woven || b.full()))
    heads_.clear();  // of this one only a part may be there, or it is not among them
  if (b.full()) return true;
  bool ok = true;
  if (heads_.size() == 1) {
    ok = gather_one(slot, heads_[0], b);
  } else if (heads_.size() > 1) {
    ok = gather_merged(slot, b);
  }
  b.all = b.all && !elsewhere && s.state == session_state::live;
  return ok;
}

/// Where a subscription goes on from: behind its half-sent event, which is gathered already. False:
/// memory is out.
inline bool engine::add_head(std::uint32_t index, std::uint32_t half_sent) noexcept {
  const subscription& sub = subs_[index];
  const std::uint32_t past = index == half_sent ? 1 : 0;
  return heads_.push_back({{sub.seg, sub.k + past}, index, past});
}

/// All that one stream has, as few runs as its segments allow. `all`: once these are out, there is
/// nothing left. `found_first`: the head stands at an entry that is known to be seen.
inline bool engine::gather_one(std::uint32_t slot, head& h, batch& b, bool found_first) noexcept {
  log_place& at = h.at;
  own_entries own;
  for (;; found_first = false) {
    segment* const s = at.seg;
    if (at.k == s->count) {
      if (s->next == nullptr) {  // the end of the log, unless the segment left it
        b.all = s->attached;
        break;
      }
      at = {s->next, 0};
      continue;
    }
    if (b.full()) break;
    if (!s->mixed) {
      const std::uint32_t begin = (*s)[at.k].begin;
      const std::uint32_t n = s->count - at.k;
      if (!b.add({s->bytes() + begin, s->used - begin, at.k, s, h.index, n})) return false;
      h.count += n;
      at.k = s->count;
      continue;
    }
    const found f =
        found_first ? found::entry : next_visible(slot, stream_of(subs_[h.index]), at, own);
    if (f == found::paused) {
      b.paused = true;
      break;
    }
    if (f == found::nothing || !at.seg->mixed) continue;
    const entry& e = at.get();
    if (!b.add({at.seg->data(e), e.size, at.k, at.seg, h.index, 1})) return false;
    ++h.count;
    ++at.k;
  }
  if (b.empty()) move_cursor(subs_[h.index], at);  // past what is not for it, without a byte
  return true;
}

/// Several streams, in the order in which their entries were published: ids rise along the session.
inline bool engine::gather_merged(std::uint32_t slot, batch& b) noexcept {
  const std::uint32_t n = heads_.size();
  next_.clear();
  if (!next_.reserve(n)) return false;
  std::uint64_t limit = merge_window::nothing;  // what is from here on has to be asked for first
  std::uint32_t busy = 0;
  std::uint32_t last = 0;
  for (std::uint32_t k = 0; k < n; ++k) {
    head& h = heads_[k];
    next_.push_reserved({});
    next_entry& next = next_.back();
    const std::uint64_t before = h.at.ordinal();
    look_ahead(slot, h, next, limit);
    if (b.empty() && h.at.ordinal() != before)
      move_cursor(subs_[h.index], h.at);  // past what is not for it, without a byte
    if (next.stamp == merge_window::nothing) continue;
    ++busy;
    last = k;
  }
  if (busy == 1) return gather_one(slot, heads_[last], b, limit == merge_window::nothing);
  bool ok = true;
  for (;;) {
    std::uint64_t first = merge_window::nothing;
    for (const next_entry& next : next_) first = next.stamp < first ? next.stamp : first;
    if (first >= limit) break;
    ok = window_.begin(b, first);
    if (!ok) break;
    for (std::uint32_t k = 0; k < n; ++k) {
      next_entry& next = next_[k];
      if (next.stamp < window_.end() && next.stamp < limit)
        put_in_window(slot, heads_[k], next, limit);
    }
    window_.move_out(limit);
    if (limit < window_.end() || b.full()) break;
  }
  std::uint32_t k = 0;
  bool rest = window_.left() != 0;
  window_.give_back([&](const run& r) {
    while (heads_[k].index != r.from) k = k + 1 == n ? 0 : k + 1;
    heads_[k].at = {r.seg, r.first};
    --heads_[k].count;
  });
  for (const next_entry& next : next_) rest = rest || next.stamp != merge_window::nothing;
  b.paused = limit != merge_window::nothing;
  b.all = !rest;
  return ok;
}

/// Finds the next entry of a head. `limit`: falls to where that has to wait for another turn.
inline void engine::look_ahead(std::uint32_t slot, head& h, next_entry& next,
                               std::uint64_t& limit) noexcept {
  next.stamp = merge_window::nothing;
  if (!h.at.find_entry()) return;
  if (const entry& e = h.at.get(); e.audience == 0) {
    next.stamp = h.at.seg->stamp(e);
    return;
  }
  const found f = next_visible(slot, stream_of(subs_[h.index]), h.at, next.own);
  if (f == found::nothing) return;
  next.stamp = h.at.seg->stamp(h.at.get());
  if (f == found::paused && next.stamp < limit) limit = next.stamp;
}

/// All that one stream has in the window. REQUIRES: the entry at h.at is in it, and to be seen.
inline void engine::put_in_window(std::uint32_t slot, head& h, next_entry& next,
                                  std::uint64_t& limit) noexcept {
  do {
    segment& s = *h.at.seg;
    const std::uint32_t stop = window_.end_in(s, h.at.k);
    if (s.mixed) {
      put_visible(slot, h, next.own, stop);
    } else {
      merge_window::entries put{window_, s, h.index};
      const entry* e = &s[h.at.k];
      for (std::uint32_t k = h.at.k; k != stop; ++k) put(*e--, k);  // they stand from the back
      h.count += put.added(stop - h.at.k);
      h.at.k = stop;
    }
    look_ahead(slot, h, next, limit);
  } while (next.stamp < window_.end() && next.stamp < limit);
}

/// Of a segment that holds private entries: those in front of `stop` that the session may see.
inline void engine::put_visible(std::uint32_t slot, head& h, own_entries& own,
                                std::uint32_t stop) noexcept {
  segment& s = *h.at.seg;
  merge_window::entries put{window_, s, h.index};
  own_entries mine = own;
  std::uint32_t k = h.at.k;
  std::uint32_t hidden = k;  // how many of those in front of k are not put
  const entry* e = &s[k];
  for (;;) {
    put(*e, k);
    if (++k >= stop) break;
    --e;  // they stand from the back
    if (e->audience == 0) continue;
    if (!mine.known() && !own_entries_of(slot, stream_of(subs_[h.index]), mine)) break;
    const std::uint64_t ordinal = s.first + k;
    const std::uint64_t next = mine.from(ordinal);
    if (next == ordinal) continue;
    if (k + 1 < stop && e[-1].audience == 0) {  // mostly it is one
      ++hidden;
      ++k;
      --e;
      continue;
    }
    hidden -= k;
    k = next_in_segment(s, k, next);
    hidden += k;
    if (k >= stop) break;
    e = &s[k];
  }
  own = mine;
  h.count += put.added(k - hidden);
  h.at.k = k;
}

// --- advance -------------------------------------------------------------------------------------

/// Takes `n` written bytes off the runs. `with_heads`: these are all, and heads_ says where each
/// cursor stands then.
inline void engine::advance(std::uint32_t slot, const run* runs, std::uint32_t count,
                            std::uint64_t n, bool with_heads) noexcept {
  if (n == 0) return;
  session& s = sessions_[slot];
  note_write(s, n);
  if (with_heads && s.lane == none) {  // all of it is from logs
    if (s.chunked != none) {
      const std::uint32_t line = runs[0].from == run::from_chunk ? runs[0].size : 0;
      if (line != 0) chunks_.line_sent(s.chunked, line);
      chunks_.data_sent(s.chunked, static_cast<std::uint32_t>(n - line));
    }
    count = 0;
  }
  for (std::uint32_t k = 0; k < count && n != 0; ++k) {
    const run& r = runs[k];
    const auto took = static_cast<std::uint32_t>(n < r.size ? n : r.size);
    n -= took;
    if (r.from == run::from_chunk) {
      chunks_.line_sent(s.chunked, took);
      continue;
    }
    const bool in_front = r.from == run::from_lane && lanes_[s.lane].kind == lane_kind::head;
    if (s.chunked != none && !in_front) chunks_.data_sent(s.chunked, took);
    if (r.from != run::from_lane) {
      if (!with_heads) advance_cursor(s, r, took);
      continue;
    }
    lane_item& item = lanes_[s.lane];
    item.sent += took;
    if (item.left() == 0) lane_item_sent(s, item);
  }
  if (with_heads) {
    advance_heads(s);
  } else if (s.over) {
    s.over = still_over(s);
  }
}

/// Pops the first frame of a lane, which is out.
inline void engine::lane_item_sent(session& s, const lane_item& item) noexcept {
  if (item.kind == lane_kind::event || item.kind == lane_kind::value) s.last_event = now32();
  if (item.kind == lane_kind::value && item.from != none) {
    const subscription& sub = subs_[item.from];
    const std::uint32_t waited = static_cast<std::uint32_t>(present_) - item.at;
    item.lost ? count_old(sub, item) : count_value(item.from, item.counts, present_ - waited);
    if (gets_values(sub)) value_reader_of(sub).sent += item.counts ? 1U : 0U;
    if (sub.from() == source::selected) value_sent(item.from, item.key);
  }
  lanes_.pop(s.lane);
}

/// A reader was told that a value was too old for it.
inline void engine::count_old(const subscription& sub, const lane_item& item) noexcept {
  channel_state& c = *stream_of(sub).owner;
  ++c.counters_.gaps;
  if (item.counts) count_lost(item.from, 1);
  if (!on_gap) return;
  const std::string_view text{item.bytes->bytes(), item.bytes->size};
  const std::size_t data = text.find("data: ") + 6;
  gap said{.lost = 1, .lost_known = true};
  (void)read_gap({.type = "gap", .data = text.substr(data, text.size() - 2 - data)}, said);
  const quiet q{*this};
  on_gap(
      {id_of(sub.session), handle_of(c), said.requested, said.first, said.lost, said.lost_known});
}

inline void engine::note_write(session& s, std::uint64_t n) noexcept {
  stats_.bytes += n;
  s.last_write = now32();
  s.progress = s.last_write;
}

/// All of it is out.
inline void engine::advance_heads(session& s) noexcept {
  for (const head& h : heads_) {
    subscription& sub = subs_[h.index];
    if (h.count != 0) delivered(s, h.index, sub.at(), h.count, !stream_of(sub).transients);
    move_cursor(sub, h.at);
  }
  if (s.over) s.over = still_over(s);
}

inline void engine::advance_cursor(session& s, const run& r, std::uint32_t n) noexcept {
  subscription& sub = subs_[r.from];
  const auto to = static_cast<std::uint32_t>(r.data - r.seg->bytes()) + n;
  const std::uint32_t last = r.first + r.count - 1;
  const std::uint32_t next = to == (*r.seg)[last].end() ? last + 1 : r.seg->locate(to, r.first);
  const bool inside = next <= last && (*r.seg)[next].begin < to;
  const std::uint32_t rest = inside ? (*r.seg)[next].end() - to : 0;
  if (next != r.first)
    delivered(s, r.from, {r.seg, r.first}, next - r.first, !stream_of(sub).transients);
  if (sub.from() == source::skip) {
    // it leaves the log: only the rest of one event is sent from it, and its place is not moved
    sub.rest = rest;
    return;
  }
  move_cursor(sub, {r.seg, next});
  sub.rest = rest;
}

/// Counts whole entries. `application`: none of them is a heartbeat.
inline void engine::delivered(session& s, std::uint32_t index, const log_place& from,
                              std::uint32_t whole, bool application) noexcept {
  channel_state& c = *stream_of(subs_[index]).owner;
  c.counters_.delivered += whole;
  if (c.latency_ != nullptr || !counts_.empty()) look_at_each(index, from, whole);
  log_place p = from;
  for (std::uint32_t n = 0; n < whole && !application; ++n, ++p.k) {
    if (!p.find_entry()) break;
    application = !p.get().heartbeat();
  }
  if (application) s.last_event = now32();
}

/// What is counted of single events that are out.
inline void engine::look_at_each(std::uint32_t index, log_place p, std::uint32_t whole) noexcept {
  const subscription& sub = subs_[index];
  const channel_state& c = *stream_of(sub).owner;
  for (; whole != 0 && p.find_entry(); --whole, ++p.k) {
    if (p.get().heartbeat()) continue;
    count(index, &session_counts::delivered, 1);
    if (sub.from() == source::log && p.offset() >= sub.live_from)
      note_latency(c, p.seg->at(p.get()));
  }
}

// --- completion and pull -------------------------------------------------------------------------

inline void engine::writable(session_id id) noexcept {
  session* s = find(id);
  if (s == nullptr || !serving(*s) || s->flight != none) return;
  s->blocked = false;
  if (s->conflates) conflate(id.slot, false);
  enqueue(ready_, id.slot);
}

/// A pending write, or a peek, is over: `n` of its bytes left.
inline void engine::written(session_id id, std::size_t n) noexcept {
  session* s = holder(id);
  if (s == nullptr || s->flight == none) return;
  if (s->state == session_state::zombie) {
    bury(id.slot);
    return;
  }
  if (serving(*s)) {
    const flight& f = flights_[s->flight];
    if (n > f.total()) n = to_size(f.total());
    if (n != 0) advance(id.slot, f.runs.begin(), f.runs.size(), n, false);
    if (s->lane != none && s->state == session_state::live) take_values_back(id.slot, n);
    s->blocked = false;
    enqueue(ready_, id.slot);
  }
  end_flight(*s);
  if (serving(*s) && s->conflates) conflate(id.slot, true);
}

/// Shows what a session gets next without taking it; written(id, n) takes. Nothing: it will be
/// written to again.
inline std::size_t engine::peek(session_id id, std::span<buffer> out) noexcept {
  session* s = find(id);
  if (quiet_ || s == nullptr || !serving(*s) || !host_.completes || out.empty()) return 0;
  if (s->flight == none) {
    const work w{*this};
    serve_transients();
    if (!flights_.reserve_one() || !gather(id.slot, *s, batch_)) return 0;
    const auto room = static_cast<std::uint32_t>(
        out.size() < batch::most_buffers ? out.size() : batch::most_buffers);
    if (batch_.empty() || batch_.lay_out(room).empty()) {
      s->blocked = false;
      if (s->state == session_state::finishing || batch_.paused) enqueue(ready_, id.slot);
      return 0;
    }
    begin_flight(*s, batch_, batch_.total());
    block(id.slot, *s, true);
  }
  return flights_[s->flight].show(out);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_FLUSH_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

// --- heartbeats ----------------------------------------------------------------------------------

/// A heartbeat's bytes, or nullptr: out of memory, or text that no frame may hold.
inline blob* engine::make_heartbeat(channel_state& c) noexcept {
  const heartbeat_options& h = c.options_.heartbeat;
  std::string made;
  std::string_view text = h.text;
  if (h.payload) {
    const quiet q{*this};
    h.payload(made);
    text = made;
  }
  if (h.comment) {
    if (check_comment(text) != encode_error::none) return nullptr;
    blob* const b = make_blob(static_cast<std::uint32_t>(encoded_comment_size(text)));
    if (b != nullptr) encode_comment_to(b->bytes(), text);
    return b;
  }
  const event e{.type = h.type, .data = text};
  if (validate(e) != encode_error::none) return nullptr;
  blob* const b = make_blob(static_cast<std::uint32_t>(encoded_size(e)));
  if (b != nullptr) encode_to(b->bytes(), e);
  return b;
}

/// A fixed-pace heartbeat goes to all readers as one transient entry.
inline void engine::publish_heartbeat(channel_state& c) noexcept {
  if (c.main_.readers.empty()) return;
  stream* const st = transients_of(c);
  blob* const b = st == nullptr ? nullptr : make_heartbeat(c);
  if (b == nullptr) return;
  const new_entry meta{
      .size = b->size, .stamp = stamp_ + 1, .at = present_, .audience = {}, .heartbeat = true};
  if (char* const at = st->log.prepare(meta); at != nullptr) {
    std::memcpy(at, b->bytes(), b->size);
    ++stamp_;
    st->log.commit(meta);
    st->trim(now_);
    announce(*st, {});
    stats_.heartbeats += c.main_.readers.size();
  }
  unref(b);
}

// --- the clock -----------------------------------------------------------------------------------

/// Deadlines that are due act in their order. Call flush() afterwards.
inline void engine::tick(time_point host_now) noexcept {
  if (quiet_) return;
  const work w{*this};
  if (origin_ == INT64_MIN) origin_ = host_now.ms();
  target_ = host_now.ms() - origin_;
  if (target_ > present_) present_ = target_;
  if (target_ - now_ > timers_.farthest) jump_to_target();
  while (!timers_.empty() && timers_.top_when(now_) <= target_) {
    const std::uint32_t id = timers_.top_id();
    const std::int64_t due = timers_.top_when(now_);
    if (due > now_) now_ = due;
    if ((id & timer_places::channel_bit) != 0) {
      on_channel_timer(*channels_[id & ~timer_places::channel_bit]);
    } else {
      on_session_timer(id);
    }
  }
  if (target_ > now_) now_ = target_;
  if (draining_ && now_ >= drain_deadline_) {
    for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot)
      mark_dead(slot, close_reason::drain);
    drain_deadline_ = INT64_MAX;
  }
}

/// The time, without what is due: that waits for tick().
inline void engine::set_time(time_point host_now) noexcept {
  if (quiet_) return;
  const time_point due = next_deadline();
  tick(due <= host_now ? time_point::milliseconds(due.ms() - 1) : host_now);
  if (host_now.ms() - origin_ > present_) present_ = host_now.ms() - origin_;
}

/// A session's times are told apart for 24 days; what is older stays as old as that. A session that
/// has a deadline comes here every twelve days at least.
inline void engine::keep_countable(session& s, std::int64_t passed) noexcept {
  constexpr std::int64_t most = countable(duration::seconds(INT32_MAX)).ms();
  const auto to = static_cast<std::uint32_t>(now_ + passed);
  for (std::uint32_t* then : {&s.last_event, &s.last_write, &s.progress, &s.over_since}) {
    const std::int64_t elapsed = since(*then, now32()) + passed;
    if (elapsed > most) *then = to - static_cast<std::uint32_t>(most);
  }
}

/// More time passed than the timers tell apart (a clock that was set, a machine that slept for
/// weeks): what is overdue stays so, and is due once.
inline void engine::jump_to_target() noexcept {
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot) {
    if (serving(sessions_[slot])) keep_countable(sessions_[slot], target_ - now_);
  }
  timers_.jump(now_, target_);
  now_ = target_;
}

inline time_point engine::next_deadline() const noexcept {
  std::int64_t when = drain_deadline_;
  if (!timers_.empty() && timers_.top_when(now_) < when) when = timers_.top_when(now_);
  return when == INT64_MAX || origin_ == INT64_MIN ? time_point::never()
                                                   : time_point::milliseconds(when + origin_);
}

/// One period on; after a long pause of the host the beats that were missed are not all made up
/// for.
inline std::int64_t engine::next_beat(std::int64_t every) const noexcept {
  return (target_ - now_) / every > 16 ? target_ + every : now_ + every;
}

inline void engine::on_session_timer(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  timers_.disarm(slot);
  if (!serving(s)) return;
  keep_countable(s, 0);
  const auto elapsed = [&](std::uint32_t then) {
    return duration::milliseconds(since(then, now32()));
  };
  if (s.blocked && s.waiting && !options_.write_deadline.is_off() &&
      elapsed(s.progress) >= options_.write_deadline) {
    mark_dead(slot, close_reason::stalled);
    return;
  }
  if (s.state == session_state::live) {
    if (s.paced) enqueue(live_, slot);
    if (s.over) look_at_soft_lag(slot);
    if (!serving(s)) return;
    channel_state* const heart = heart_of(s);
    if (now_ >= s.ends_at) {
      begin_finish(slot, close_reason::age);
    } else if (!options_.idle.is_off() && elapsed(s.last_event) >= options_.idle) {
      begin_finish(slot, close_reason::idle);
    } else if (heart != nullptr && elapsed(s.last_write) >= heart->options_.heartbeat.every &&
               (!s.blocked || !s.waiting)) {
      beat(slot, *heart);
    }
  }
  arm(slot);
}

/// Readers that are over a soft limit for too long.
inline void engine::look_at_soft_lag(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  s.over = false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const channel_options& o = stream_of(subs_[i]).owner->options_;
    if (o.soft_lag == 0 || lag_of(stream_of(subs_[i]), subs_[i]) <= o.soft_lag) continue;
    if (duration::milliseconds(since(s.over_since, now32())) >= o.soft_lag_for) {
      over_lag(i);
    } else {
      s.over = true;
    }
  }
}

/// A heartbeat for one session.
inline void engine::beat(std::uint32_t slot, channel_state& heart) noexcept {
  session& s = sessions_[slot];
  // On a blocked stream with nothing to say it is what the write deadline can be held against.
  if (blob* const b = make_heartbeat(heart); b != nullptr) {
    if (lanes_.waiting(s.lane) < options_.control_lane &&
        lanes_.push(s.lane, b, lane_kind::control))
      ++stats_.heartbeats;
    unref(b);
  }
  const std::int64_t every = heart.options_.heartbeat.every.ms();
  s.last_write = static_cast<std::uint32_t>(next_beat(every) - every);
  enqueue(live_, slot);
}

inline void engine::on_channel_timer(channel_state& c) noexcept {
  timers_.disarm(timer_places::channel_bit | c.index_);
  if (now_ >= c.due_ && c.sealed_) {
    if (now_ >= target_) return close_channel(c);
    c.due_ = target_;  // its hook may publish: that is of now, not of a time that has passed
  } else if (now_ >= c.due_) {
    c.due_ = next_beat(c.options_.heartbeat.every.ms());
    publish_heartbeat(c);
  }
  c.main_.trim(now_);
  touch(c.main_);
  arm_channel(c);
}

/// Takes no more; tells every stream when to come back; ends each once it has all; cuts the rest at
/// the deadline.
inline void engine::drain(const drain_options& o) noexcept {
  if (quiet_ || draining_) return;
  const work w{*this};
  draining_ = true;
  if (o.deadline != duration::infinite())
    drain_deadline_ = present_ + countable(o.deadline, longest_age).ms();
  event last = o.farewell;
  last.id = {};  // it would move the client's resume point
  if ((!last.type.empty() || !last.data.empty()) && validate(last) == encode_error::none) {
    farewell_ = make_blob(static_cast<std::uint32_t>(encoded_size(last)));
    if (farewell_ != nullptr) encode_to(farewell_->bytes(), last);
  }
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot)
    begin_finish(slot, close_reason::drain);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_DEADLINES_HPP
// ---- sse/detail/http/ip_address.hpp
//
// address: IP addresses in text, read as strictly as inet_pton does and written in the one way that
// inet_ntop writes them, so that two spellings of an address compare, and count, as one. Not
// public.
//
//   const ip_address a = parse_ip("2001:DB8:0::1");     // a.size == 16
//   ip_text(a)                                          // "2001:db8::1"
//
// Refused: parts that are left out ("127.1"), hexadecimal, octal and leading zeros in IPv4, zones
// ("%eth0"), brackets, ports, spaces. What a system's resolver would make of those is its own.
#ifndef SSEHUB_DETAIL_HTTP_IP_ADDRESS_HPP
#define SSEHUB_DETAIL_HTTP_IP_ADDRESS_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// In network order.
struct ip_address {
  std::array<std::uint8_t, 16> bytes{};
  std::size_t size = 0;  ///< 4: IPv4, 16: IPv6, 0: none

  [[nodiscard]] constexpr explicit operator bool() const noexcept { return size != 0; }
};

/// Takes a number of 0 to 255 off `s`, in decimal and without leading zeros; -1: there is none.
[[nodiscard]] constexpr int take_octet(std::string_view& s) noexcept {
  int n = -1;
  while (!s.empty() && text::is_digit(s.front())) {
    if (n == 0) return -1;
    n = (n < 0 ? 0 : n * 10) + (s.front() - '0');
    if (n > 255) return -1;
    s.remove_prefix(1);
  }
  return n;
}

/// The four numbers of an IPv4 address to `out`, which has room for them.
[[nodiscard]] constexpr bool read_ipv4(std::string_view s, std::uint8_t* out) noexcept {
  for (int i = 0; i < 4; ++i) {
    if (i != 0) {
      if (!s.starts_with('.')) return false;
      s.remove_prefix(1);
    }
    const int n = take_octet(s);
    if (n < 0) return false;
    out[i] = static_cast<std::uint8_t>(n);
  }
  return s.empty();
}

/// One to four hexadecimal digits; -1: something else.
[[nodiscard]] constexpr int read_group(std::string_view s) noexcept {
  if (s.empty() || s.size() > 4) return -1;
  int n = 0;
  for (const char c : s) {
    const int digit = text::hex_digit(c);
    if (digit < 0) return -1;
    n = n * 16 + digit;
  }
  return n;
}

/// RFC 4291 2.2: eight groups, the last two perhaps as an IPv4 address; "::" stands once for at
/// least one of them. Returns no address if it is none.
[[nodiscard]] constexpr ip_address read_ipv6(std::string_view s) noexcept {
  constexpr std::size_t no_gap = 17;
  ip_address out;
  std::size_t n = 0;         // bytes read
  std::size_t gap = no_gap;  // how many stand before the "::"
  if (s.starts_with("::")) {
    gap = 0;
    s.remove_prefix(2);
  }
  while (!s.empty()) {
    const std::size_t end = s.find(':');
    const std::string_view group = s.substr(0, end);
    if (end == std::string_view::npos && n <= 12 && read_ipv4(group, &out.bytes[n])) {
      n += 4;
      break;
    }
    const int value = read_group(group);
    if (value < 0 || n == 16) return {};
    out.bytes[n++] = static_cast<std::uint8_t>(value >> 8);
    out.bytes[n++] = static_cast<std::uint8_t>(value & 0xff);
    if (end == std::string_view::npos) break;
    s.remove_prefix(end + 1);
    if (s.empty()) return {};  // a single colon at the end
    if (s.front() != ':') continue;
    if (gap != no_gap) return {};
    gap = n;
    s.remove_prefix(1);
  }
  if ((gap == no_gap) != (n == 16)) return {};
  for (std::size_t from = n, to = 16; gap != no_gap && from > gap;) {
    out.bytes[--to] = out.bytes[--from];
    out.bytes[from] = 0;
  }
  out.size = 16;
  return out;
}

/// An address of either version; none: `s` is not exactly one.
[[nodiscard]] constexpr ip_address parse_ip(std::string_view s) noexcept {
  if (s.find(':') != std::string_view::npos) return read_ipv6(s);
  ip_address out;
  if (read_ipv4(s, out.bytes.data())) out.size = 4;
  return out;
}

/// An address as proxies name it, with or without a port: "1.2.3.4:80", "::1", "[::1]", "[::1]:80".
[[nodiscard]] constexpr ip_address parse_ip_port(std::string_view s) noexcept {
  const bool literal = s.starts_with('[');
  const std::size_t close = literal ? s.find(']') : 0;
  if (close == std::string_view::npos) return {};
  std::size_t colon = s.find(':', close);
  if (!literal && colon != s.rfind(':')) colon = std::string_view::npos;  // IPv6, and no port
  const std::string_view host = s.substr(0, colon);
  if (colon != std::string_view::npos) {
    const std::string_view port = s.substr(colon + 1);
    std::uint32_t n = 0;
    for (const char c : port) {
      n = text::is_digit(c) ? n * 10 + static_cast<std::uint32_t>(c - '0') : 65536;
      if (n > 65535) return {};
    }
    if (port.empty()) return {};
  }
  if (!literal) return parse_ip(host);
  return host.ends_with(']') ? read_ipv6(host.substr(1, host.size() - 2)) : ip_address{};
}

/// An IPv4 address that is written as an IPv6 one ("::ffff:1.2.3.4", RFC 4291 2.5.5.2) is the IPv4
/// address: peers of a socket for both versions look like that.
[[nodiscard]] constexpr ip_address plain_ip(const ip_address& a) noexcept {
  if (a.size != 16 || a.bytes[10] != 0xff || a.bytes[11] != 0xff) return a;
  ip_address out;
  for (std::size_t i = 0; i < 10; ++i) {
    if (a.bytes[i] != 0) return a;
  }
  for (std::size_t i = 0; i < 4; ++i) out.bytes[i] = a.bytes[12 + i];
  out.size = 4;
  return out;
}

inline void append_ipv4(std::string& out, const std::uint8_t* bytes) {
  for (int i = 0; i < 4; ++i) {
    if (i != 0) out += '.';
    out += std::to_string(bytes[i]);
  }
}

/// RFC 5952 4: lower case, no leading zeros, "::" for the first of the longest runs of at least two
/// zero groups. Empty: no address.
[[nodiscard]] inline std::string ip_text(const ip_address& a) {
  std::string out;
  if (a.size == 4) append_ipv4(out, a.bytes.data());
  if (a.size != 16) return out;
  const auto group = [&](std::size_t i) { return a.bytes[2 * i] << 8 | a.bytes[2 * i + 1]; };
  std::size_t gap = 8;
  std::size_t longest = 1;
  for (std::size_t i = 0; i < 8; ++i) {
    std::size_t n = 0;
    while (i + n < 8 && group(i + n) == 0) ++n;
    if (n > longest) {
      gap = i;
      longest = n;
    }
  }
  // As inet_ntop: the forms that hold an IPv4 address show it.
  const bool v4 = gap == 0 && (longest == 6 || (longest == 5 && group(5) == 0xffff));
  for (std::size_t i = 0; i < 8;) {
    if (i == gap) {
      out += "::";
      i += longest;
    } else if (v4 && i == 6) {
      append_ipv4(out, &a.bytes[12]);
      break;
    } else {
      constexpr std::string_view digits = "0123456789abcdef";
      bool begun = false;
      for (int shift = 12; shift >= 0; shift -= 4) {
        const auto digit = static_cast<std::size_t>(group(i) >> shift & 0xf);
        begun = begun || digit != 0 || shift == 0;
        if (begun) out += digits[digit];
      }
      if (++i != 8 && i != gap) out += ':';
    }
  }
  return out;
}

/// Under what name a cap per address counts: of an IPv6 address the first `bits` ("2001:db8::/64"),
/// since whoever has one has all that share them; anything else as it is. `room` holds the name.
[[nodiscard]] inline std::string_view counted_address(std::string_view s, std::uint32_t bits,
                                                      std::string& room) {
  if (bits >= 128 || s.find(':') == std::string_view::npos) return s;
  ip_address a = read_ipv6(s);
  if (!a) return s;
  for (std::uint32_t i = 0; i < 16; ++i) {
    const std::uint32_t kept = bits > 8 * i ? bits - 8 * i : 0;
    if (kept < 8) a.bytes[i] = static_cast<std::uint8_t>(a.bytes[i] & (0xff00U >> kept));
  }
  room = ip_text(a).append("/").append(std::to_string(bits));
  return room;
}

/// The one way to write an address as a proxy names it, whatever its spelling and without its port;
/// empty: `s` is none. A connection's own address, as inet_ntop writes it, is written so already.
[[nodiscard]] inline std::string client_ip_text(std::string_view s) {
  return ip_text(plain_ip(parse_ip_port(s)));
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_HTTP_IP_ADDRESS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Says why not. The hub gives it its form.
inline void say_no(accept_result& out, refusal_reason why, int status,
                   duration retry_after = duration::off()) noexcept {
  out.why = why;
  out.refusal.status = status;
  out.retry_after = retry_after;
}

inline void say_full(const cap& c, accept_result& out) noexcept {
  say_no(out, refusal_reason::too_many, c.then == when_full::retry_stream ? 200 : c.status,
         c.retry_after);
}

inline bool engine::precheck(accept_result& out) {
  if (quiet_) {
    say_no(out, refusal_reason::in_hook, 500);
  } else if (draining_) {
    say_no(out, refusal_reason::draining, 503, options_.retry_max);
  } else if (const cap* const full = caps_.full()) {
    say_full(*full, out);
  } else {
    return true;
  }
  return false;
}

inline bool engine::precheck_address(const request& r, accept_result& out) {
  std::string prefix;
  const cap* const full =
      caps_.full(counted_address(r.address, caps_.options().ipv6_prefix, prefix));
  if (full != nullptr) say_full(*full, out);
  return full == nullptr;
}

/// Closes streams to make room, with a last word about when to come back.
inline void engine::evict(const victims& v) noexcept {
  if (v.count != 0) serve_transients();
  for (std::uint32_t i = 0; i < v.count; ++i) {
    const std::uint32_t slot = v.list[i].slot;
    if (!v.list[i].retry.is_off() &&
        lanes_.push_retry(sessions_[slot].lane, v.list[i].retry.ms())) {
      (void)pump(slot);
    }
    mark_dead(slot, close_reason::evicted);
  }
}

/// What is wrong with what the admit hook said; none: nothing.
inline refusal_reason engine::bad_join(const joining& j) noexcept {
  if (!j.channels.complete()) return refusal_reason::no_memory;
  const std::uint32_t n = j.channels.size();
  if (j.bad_header) return refusal_reason::bad_header;
  if (n == 0) return refusal_reason::no_channel;
  if (options_.max_joins != 0 && n > options_.max_joins) return refusal_reason::too_many_channels;
  if (j.until != time_point::never() && origin_ == INT64_MIN)
    return refusal_reason::until_without_tick;
  refusal_reason bad = refusal_reason::none;
  std::uint32_t marked = 0;
  while (marked < n && (bad = bad_channel(j, marked)) == refusal_reason::none) {
    joined(j, marked++).joined_ = true;
  }
  while (marked != 0) joined(j, --marked).joined_ = false;
  return bad;
}

/// Of channel `i`. Those in front of it are marked.
inline refusal_reason engine::bad_channel(const joining& j, std::uint32_t i) const noexcept {
  const channel_state* const here = j.channels[i].state();
  if (here == nullptr || here->closing_) return refusal_reason::closed;
  const channel_state& c = *here;
  if (c.engine_ != this) return refusal_reason::another_hub;
  if (&sequence_of(c) != &sequence_of(joined(j, 0))) return refusal_reason::another_sequence;
  if (c.joined_) return refusal_reason::joined_twice;
  if (watch_requests::request watch; j.watches.find(i, watch)) {
    if (c.newest_ == nullptr) return refusal_reason::no_keys;
    if (watch.keys > c.options_.max_selected) return refusal_reason::too_many_keys;
  }
  const std::uint32_t most = c.options_.max_subscribers;
  return most != 0 && c.subscribers() >= most ? refusal_reason::channel_full : refusal_reason::none;
}

/// Why a live session cannot join.
inline join_error engine::bad_join(std::uint32_t slot, channel to,
                                   const watch_options* watch) const noexcept {
  const channel_state* const here = to.state();
  if (here == nullptr || here->closing_) return join_error::closed;
  const channel_state& c = *here;
  if (c.engine_ != this) return join_error::another_hub;
  if (c.sealed_) return join_error::sealed;
  if (watch != nullptr && c.newest_ == nullptr) return join_error::no_keys;
  if (watch != nullptr && watch->keys.size() > c.options_.max_selected)
    return join_error::too_many_keys;
  std::uint32_t joined = 0;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    const stream& st = stream_of(sub);
    if (st.transients || sub.from() == source::left) continue;
    ++joined;
    if (st.owner == &c) return join_error::joined;
    if (&sequence_of(*st.owner) != &sequence_of(c)) return join_error::another_sequence;
  }
  // What its client brings when it is cut is an id of those that it left.
  const session& s = sessions_[slot];
  if (s.has_ids && c.options_.ids != id_mode::none && (s.own_ids || c.options_.own_sequence))
    return join_error::another_sequence;
  if (options_.max_joins != 0 && joined >= options_.max_joins) return join_error::too_many;
  const std::uint32_t most = c.options_.max_subscribers;
  return most != 0 && c.subscribers() >= most ? join_error::full : join_error::none;
}

/// It was not told where it stands by what it reads beside subscription `but`.
inline bool engine::stands_nowhere(const session& s, std::uint32_t but) const noexcept {
  if (!s.tells_position) return false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (i != but && sub.from() != source::left && waits_in_line(sub) && !opens(sub)) return false;
  }
  return true;
}

/// Whether a channel would begin with an id that the session has passed.
inline bool engine::moved_on(std::uint32_t slot, const channel_state& c, const joining& j,
                             const resume_point& resume, watch_request watch) noexcept {
  const session& s = sessions_[slot];
  if (!s.has_ids || c.options_.ids == id_mode::none) return false;
  event_id stands = sequence_of(c).last;  // of one that left them all, or has a write under way
  if (const event_id next = next_id(slot); s.flight == none && next <= stands) stands = next - 1;
  const beginning b = beginning_of(c, j, resume, watch);
  if (b.from == source::backfill) return resume.after < stands;
  if (b.from == source::newest || b.from == source::selected) {  // values have no ids
    const newest_by_key& values = *c.newest_;
    std::uint64_t n = b.resumes ? values.keyless_after(resume.after) : values.keyless_end();
    if (watch != nullptr && !b.resumes && j.backlog != 0)
      n = values.keyless_after(in_front_of(c.main_.log, c.main_.log.newest(j.backlog), head_of(c)));
    return n != values.keyless_end() && values.keyless(n).position <= stands;
  }
  return b.ordinal < c.main_.log.end() && c.main_.log.id_at(b.ordinal) <= stands;
}

/// A new subscription of a live session. False: memory is out.
inline bool engine::begin_at_join(std::uint32_t index, const joining& j, const resume_point& resume,
                                  watch_request watch) noexcept {
  const std::uint32_t slot = subs_[index].session;
  channel_state& c = *stream_of(subs_[index]).owner;
  bool lost = false;
  if (!begin_at(index, j, resume, watch, lost)) return false;
  if (lost) return untold_.push_back({&c, loss_at_opening(c, resume.after)}) && tell(slot);
  const subscription& sub = subs_[index];
  // What snapshots lost that it still gets is told first: no id may pass that.
  return !waits_in_line(sub) || opens(sub) || !stands_nowhere(sessions_[slot], index) ||
         tell_standing(slot);
}

inline join_error engine::join(session_id id, channel to, const join_start& from,
                               const watch_options* watch) noexcept {
  if (quiet_) return join_error::in_hook;
  const session* const s = find(id);
  if (s == nullptr || s->state != session_state::live) return join_error::no_session;
  if (const join_error bad = bad_join(id.slot, to, watch); bad != join_error::none) return bad;
  channel_state& c = *to.state();
  const work w{*this};
  joining j;
  j.start_given = true;
  j.start = from.start;
  j.backlog = from.backlog;
  j.position_given = true;
  j.position = s->tells_position;
  resume_point resume;
  if (from.after != unsaid_id) {
    j.after_given = true;
    resume = {resume_point::kind::given, from.after, from.after};
  }
  watch_requests::request asked;
  if (watch != nullptr) asked = {watch->selects(), watch->max_rate, watch->max_bytes};
  const watch_request how = watch != nullptr ? &asked : nullptr;
  c.main_.trim(now_);
  if (moved_on(id.slot, c, j, resume, how)) return join_error::moved_on;
  std::uint32_t last = s->first;
  while (last != none && subs_[last].next != none) last = subs_[last].next;
  const std::uint32_t i = add_reader(id.slot, c.main_, last);
  if (i == none) return join_error::no_memory;
  bool ok = begin_at_join(i, j, resume, how);
  for (std::size_t k = 0; watch != nullptr && ok && k < watch->keys.size(); ++k)
    ok = watch_key(i, watch->keys[k]);
  chain_fresh_keys(c);
  if (!ok || pass_transients(i) == none) {
    detach(id.slot, last);
    return join_error::no_memory;
  }
  enqueue(ready_, id.slot);
  arm(id.slot);
  begin_presence(id.slot, c.main_);
  want();  // its host has a timer to set
  return join_error::none;
}

/// Nothing else of the channel is sent to it, but the rest of a half-sent event. False: it did not
/// join it.
inline bool engine::leave(session_id id, channel c) noexcept {
  session* const s = quiet_ ? nullptr : find(id);
  channel_state* const from = find(c);
  if (s == nullptr || !serving(*s) || from == nullptr) return false;
  const work w{*this};
  std::uint32_t half_sent = none;
  bool was_there = false;
  bool opened = false;
  bool still_opens = false;
  for (std::uint32_t i = s->first; i != none; i = subs_[i].next) {
    subscription& sub = subs_[i];
    if (sub.rest != 0) half_sent = i;
    if (stream_of(sub).owner != from || sub.from() == source::left) {
      still_opens = still_opens || opens(sub);
      continue;
    }
    opened = opened || opens(sub);
    give_record_back(sub);
    sub.read_from(source::left);
    sub.with_transients = 0;
    was_there = true;
  }
  if (!was_there) return false;
  s->owes_position = s->owes_position || (opened && !still_opens);
  if (s->flight == none && depth_ == 1) {
    end_leaving(id.slot, half_sent);
    push_owed_position(id.slot);
  } else {  // a write reads it, or somebody walks through what the session reads
    enqueue(live_, id.slot);
  }
  end_presence(id.slot, from->main_);
  return true;
}

/// When the stream ends by itself: its age, less some so that not all end together, or the
/// verdict's time.
inline void engine::set_end(session& s, const joining& j) noexcept {
  if (!options_.max_age.is_off()) {
    const auto spread = static_cast<std::uint64_t>(options_.max_age.ms() / 10);
    s.ends_at = present_ + options_.max_age.ms() - static_cast<std::int64_t>(random_.below(spread));
  }
  if (j.until != time_point::never() && j.until.ms() - origin_ < s.ends_at) {
    s.ends_at = j.until.ms() - origin_;
  }
}

/// The response head, `retry:`, the opening comment. False: memory is out.
inline bool engine::push_opening(std::uint32_t slot, const request& r) noexcept {
  std::uint32_t& lane = sessions_[slot].lane;
  return lanes_.push(lane, r.preamble, lane_kind::head) &&
         (options_.retry.is_off() || lanes_.push_retry(lane, options_.retry.ms())) &&
         (opening_frame_ == nullptr || lanes_.push(lane, opening_frame_, lane_kind::control));
}

/// All of its channels are sealed, and it has all that it may see: an EventSource that is told 204
/// stays away (WHATWG HTML 9.2.3).
inline bool engine::nothing_comes(const joining& j, const resume_point& resume) const noexcept {
  for (std::uint32_t i = 0; i < j.channels.size(); ++i) {
    const channel_state& c = joined(j, i);
    watch_requests::request watch;
    const bool watches = j.watches.find(i, watch);
    if (!c.sealed_ || !nothing_comes(c, j, resume, watches ? &watch : nullptr)) return false;
  }
  return true;
}

/// Of one channel. Where the host's rule says who sees what, that is not asked here: its stream
/// opens, and ends.
inline bool engine::nothing_comes(const channel_state& c, const joining& j,
                                  const resume_point& resume, watch_request watch) const noexcept {
  const beginning b = beginning_of(c, j, resume, watch);
  if (b.from == source::newest && !b.resumes) return c.newest_->size() == 0;
  if (b.from != source::log || b.lost) return false;
  const event_log& log = c.main_.log;
  if (b.ordinal == log.end()) return true;
  if (ask_who_sees_ || c.main_.ask || c.main_.audiences == nullptr) return false;
  own_entries own = c.main_.audiences->of(j.key);
  for (log_place p = log.at(b.ordinal); p.find_entry();) {
    if (p.get().audience == 0) return false;
    p.k = next_in_segment(*p.seg, p.k, own.from(p.ordinal()));
    if (p.k != p.seg->count) return false;
  }
  return true;
}

inline std::uint32_t engine::admit(const request& r, const joining& j, resume_point& resume,
                                   accept_result& out) {
  const auto fail = [&](refusal_reason why, int status, duration retry_after = duration::off()) {
    say_no(out, why, status, retry_after);
    return none;
  };
  SSEHUB_ASSERT(depth_ != 0);
  if (const refusal_reason bad = bad_join(j); bad == refusal_reason::channel_full) {
    return fail(bad, caps_.options().total.status, caps_.options().total.retry_after);
  } else if (bad != refusal_reason::none) {
    return fail(bad, bad == refusal_reason::no_memory       ? 503
                     : bad == refusal_reason::too_many_keys ? 400
                                                            : 500);
  }
  struct held_names {  // until a session has them
    caps& in;
    counted_names names{};
    ~held_names() { in.drop(names); }
  } held{caps_};
  std::string prefix;
  const std::string_view from = counted_address(r.address, caps_.options().ipv6_prefix, prefix);
  if (!caps_.name(j.key, from, held.names))
    return fail(refusal_reason::no_memory, 503, options_.retry_max);
  victims v;  // nobody goes unless all caps are met
  if (const cap* const full = caps_.refusing(held.names, v)) {
    say_full(*full, out);
    return none;
  }
  resume = resume_from(r, options_.resume_query);
  if (resume.state == resume_point::kind::malformed) return fail(refusal_reason::bad_params, 400);
  if (j.after_given) resume = {resume_point::kind::given, j.after, j.after};
  if (nothing_comes(j, resume)) {
    out.refusal.status = 204;
    return none;
  }
  if (const cap* const full = caps_.take_places(held.names, v)) {
    say_full(*full, out);
    return none;
  }
  evict(v);
  const std::uint32_t slot = take_slot(r);
  if (slot == none) {
    caps_.give_back_places(held.names);
    return fail(refusal_reason::no_memory, 503, options_.retry_max);
  }
  caps_.enter(slot, held.names);
  held.names = {};
  set_end(sessions_[slot], j);
  if (!push_opening(slot, r)) {
    abandon(slot);
    return fail(refusal_reason::no_memory, 503, options_.retry_max);
  }
  out.id = id_of(slot);
  return slot;
}

inline bool engine::begin_wait(const request& r, counted_names& n, accept_result& out) {
  std::string prefix;
  const std::string_view from = counted_address(r.address, caps_.options().ipv6_prefix, prefix);
  if (!caps_.name({}, from, n)) {
    say_no(out, refusal_reason::no_memory, 503, options_.retry_max);
    return false;
  }
  const cap* const full = caps_.begin_wait(n);
  if (full == nullptr) return true;
  say_full(*full, out);
  caps_.drop(n);
  return false;
}

inline void engine::abandon(std::uint32_t slot) noexcept {
  caps_.count_out(slot);
  caps_.leave(slot);
  caps_.forget(slot);
  bury(slot);
}

/// A stream that says when to come back, and ends. Not counted: the write deadline bounds it.
inline std::uint32_t engine::admit_retry_stream(const request& r, duration retry) noexcept {
  SSEHUB_ASSERT(depth_ != 0);
  const std::uint32_t slot = take_slot(r);
  if (slot == none) return none;
  session& s = sessions_[slot];
  if (!lanes_.push(s.lane, r.preamble, lane_kind::head) || !lanes_.push_retry(s.lane, retry.ms())) {
    bury(slot);
    return none;
  }
  s.state = session_state::finishing;
  s.why = close_reason::finished;
  s.retry_only = true;
  return slot;
}

/// Subscribes. REQUIRES: connection and user are in place. Out of memory: the session is dead.
inline void engine::join(std::uint32_t slot, const joining& j,
                         const resume_point& resume) noexcept {
  SSEHUB_ASSERT(depth_ != 0 && sessions_[slot].first == none);
  sessions_[slot].tells_position = tells_position(j);
  ++stats_.accepted;
  if (subscribe(slot, j, resume)) {
    finish_if_sealed(slot);
  } else {
    mark_dead(slot, close_reason::no_memory);
  }
}

/// What hooks published since it joined leaves in its place among the others. False: memory is out.
inline bool engine::add_new_transients(std::uint32_t slot) noexcept {
  bool ok = true;
  for (std::uint32_t i = sessions_[slot].first; i != none && ok; i = subs_[i].next) {
    const stream& st = stream_of(subs_[i]);
    const stream* const of_channel = st.transients ? nullptr : st.owner->transients_;
    if (of_channel != nullptr && of_channel->handed_out.ordinal() != of_channel->log.end())
      ok = add_transients(i);
  }
  return ok;
}

/// The first bytes go out at once, while this turn has some left for that.
inline void engine::open(std::uint32_t slot) noexcept {
  SSEHUB_ASSERT(depth_ != 0);
  if (!serving(sessions_[slot])) return;
  arm(slot);
  tell_presence(slot);
  if (serving(sessions_[slot]) && !add_new_transients(slot))
    return mark_dead(slot, close_reason::no_memory);
  if (accept_budget_ == 0) {
    enqueue(ready_, slot);
    want();
    return;
  }
  const std::uint64_t sent = pump(slot);
  accept_budget_ -= sent < accept_budget_ ? sent : accept_budget_;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_ADMIT_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// `Transport`: see sse/transport.hpp; the hub keeps a reference. `User`: what the host wants to
/// know of a session.
///
/// Hooks run on the hub's thread. What each may call:
///
///   on_admit, on_refused, on_opened, on_closed, on_presence, on_channel_closed
///                   everything but the hub's destructor: streams that they close end when the
///                   call that ran them returns, channels are freed then
///   on_sees, on_gap, on_wanted, channel_options::backfill, heartbeat_options::payload
///                   only what reads: anything else is refused (publish_error::in_hook, false,
///                   0) or does nothing
///
/// Only on_admit may throw: accept() then took nothing.
template <transport Transport, std::movable User = no_user>
class hub {
 public:
  using connection = typename Transport::connection;  ///< the transport's
  static_assert(std::is_nothrow_move_constructible_v<connection> &&
                    std::is_nothrow_move_constructible_v<User>,
                "a session takes connection and User over after its slot is counted: moving them "
                "must not throw");

  /// The transport must outlive the hub.
  explicit hub(Transport& t, const hub_options& o = {}) : transport_{&t}, engine_{calls(), o} {}
  hub(const hub&) = delete;
  hub& operator=(const hub&) = delete;
  ~hub() {
    engine_.shut_down();
    for (cell* cells : cells_) detail::deallocate(cells);
  }

  // --- channels ----------------------------------------------------------------------------------

  /// Opens a channel; it lives until close_channel or the hub's end. None: the result's `error`
  /// says why.
  [[nodiscard]] open_result open_channel(std::string_view name, channel_options o = {}) noexcept {
    return engine_.open_channel(name, std::move(o));
  }
  /// None: there is no such channel.
  [[nodiscard]] channel find_channel(std::string_view name) const noexcept {
    return engine_.find_channel(name);
  }
  /// Closes every stream on it, then the channel. Streams that left it stay. Inside a hook: once
  /// that has returned. One that is opened under its name goes on with the ids where it ended, and
  /// says that what it had is gone. False: it is closed already or another hub's, or this is called
  /// in a hook that may not.
  bool close_channel(channel c) noexcept { return engine_.close_channel(c); }
  /// It is an open channel of this hub.
  [[nodiscard]] bool owns(channel c) const noexcept { return c && engine_.find(c) != nullptr; }
  /// No more events: its log is complete, and publishing is refused (publish_error::sealed). Its
  /// streams end cleanly once they have got everything, those that join other channels too once all
  /// of them are sealed; who comes later gets what it asks for, and the end. Who has everything is
  /// answered 204, after which an EventSource stays away (WHATWG HTML 9.2.3). Closed after
  /// channel_options::keep_sealed. publish_options::last does the same behind an event. False: it
  /// is sealed already, or as close_channel.
  bool seal(channel c) noexcept { return engine_.seal(c); }
  /// Calls `f(channel)` for each that is open.
  template <class F>
  void for_each_channel(F&& f) {
    for (std::uint32_t i = 0; i < engine_.channels().size(); ++i)
      f(engine_.handle_of(*engine_.channels()[i]));
  }

  // --- publishing --------------------------------------------------------------------------------

  /// Into a channel's log; see channel::publish.
  [[nodiscard]] publish_result publish(channel c, const event& e,
                                       const publish_options& o = {}) noexcept {
    return engine_.publish(c, e, o);
  }
  /// To every channel, also to those that only one user reads: mind what it says. Returns how many
  /// took it.
  std::size_t publish_all(const event& e, const publish_options& o = {}) noexcept {
    std::size_t n = 0;
    for (std::uint32_t i = 0; i < engine_.channels().size(); ++i)
      n += engine_.publish(*engine_.channels()[i], e, o) ? 1U : 0U;
    return n;
  }
  /// To one session, between its other events; no id, never replayed.
  [[nodiscard]] publish_result send(session_id id, const event& e) noexcept {
    return {no_id, engine_.send(id, e)};
  }
  /// To all sessions of a user now connected; returns how many took it. To be replayed as well:
  /// publish with an audience.
  std::size_t send_user(std::string_view key, const event& e) noexcept {
    return engine_.send_user(key, e);
  }

  // --- admission ---------------------------------------------------------------------------------

  /// Decides on each accept(connection, request). Without it every request is refused with 403.
  void on_admit(function<verdict<User>(const request&)> f) { admit_ = std::move(f); }
  /// Whether a session may see entries of an audience. Without it: if the audience is the user's
  /// key. Asked once for each such entry that a session comes to, and again for one that a write
  /// did not take.
  void on_sees(function<bool(const User&, std::string_view key, std::string_view audience)> f) {
    sees_ = std::move(f);
    engine_.ask_who_sees(static_cast<bool>(sees_));
  }
  /// A stream that was admitted is refused after all, such as for a cap (status 200: it gets a
  /// retry stream) or a drain; refusal_reason::none with 204: it has everything. What was begun for
  /// it can be called off.
  void on_refused(function<void(const request&, const User&, const refused_request&)> f) {
    refused_ = std::move(f);
  }
  /// For hosts that refuse a stream by themselves after its verdict: tells on_refused.
  void tell_refused(const request& r, const User& u, const refused_request& q) {
    if (refused_) refused_(r, u, q);
  }
  /// The form of the hub's own refusals; default: refusal_response(). Status and Retry-After are
  /// the refusal's, whatever it says. Must not throw.
  void refusal_form(function<response(const refused_request&)> f) { form_ = std::move(f); }
  /// A stream is open, and may be sent to.
  void on_opened(function<void(session_id, const User&)> f) { opened_ = std::move(f); }
  /// After a session's end; its slots in the caps are free already.
  void on_closed(function<void(session_id, const User&, close_reason)> f) {
    closed_ = std::move(f);
  }
  /// A user's first session joined a channel (true), or its last one left.
  void on_presence(function<void(channel, std::string_view key, bool present)> f) {
    engine_.on_presence = std::move(f);
  }
  /// A channel is closed, by close_channel or because channel_options::keep_sealed is over: it
  /// can be read until the call that closed it returns.
  void on_channel_closed(function<void(channel)> f) { engine_.on_channel_closed = std::move(f); }
  /// A gap frame was sent: a line for the host's log.
  void on_gap(function<void(const gap_notice&)> f) { engine_.on_gap = std::move(f); }
  /// Something waits to be sent, however it came, or next_deadline() may be nearer: see to it that
  /// flush() runs soon. Called once until the next flush(). For hosts whose loop does not flush in
  /// each turn; servers have it.
  void on_wanted(function<void()> f) { engine_.on_wanted = std::move(f); }
  /// It could not be seen to, such as for memory: what wants a flush next asks again. In that hook
  /// too.
  void wanted_in_vain() noexcept { engine_.wanted_in_vain(); }

  /// Opens a stream for a request, or says why not. Order: shape (405, 406), draining (503), total
  /// cap, cap per address, the admit hook, cap per user, resume point (400, 204). A cap per address
  /// comes behind the hook where it evicts, or the cap per user does: who is admitted may make room
  /// there. The connection is taken only if a session opens.
  [[nodiscard]] accept_result accept(connection&& c, const request& r) {
    if (!reads(r)) {
      accept_result out = refused(no({}, refusal_reason::http, 405));
      out.refusal.add("Allow", "GET, HEAD");
      return out;
    }
    return accept(std::move(c), r, [&] {
      return admit_ ? admit_(r) : verdict<User>{refuse(403, "no admit hook\n")};
    });
  }

  /// The same for hosts that ask somebody else: `verdict<User> ask()` is called, once, if what
  /// needs no user allows a stream. Any method; a POST's Accept is disregarded (RFC 9110 12.5.1),
  /// and one that does not name event streams is asked before the caps, since its answer may be a
  /// plain one.
  template <class Ask>
  requires std::is_invocable_r_v<verdict<User>, Ask&> [[nodiscard]] accept_result accept(
      connection&& c, const request& r, Ask&& ask) {
    accept_result out;
    if (!may_ask(out, r)) return retry_or_refuse(std::move(c), r, std::move(out));
    return take(std::move(c), r, ask(), std::move(out));
  }

  /// The same for hosts that have asked, perhaps asynchronously: on_refused tells of all that is
  /// refused although `v` admits it.
  [[nodiscard]] accept_result accept(connection&& c, const request& r, verdict<User> v) {
    accept_result out;
    if (may_ask(out, r)) return take(std::move(c), r, std::move(v), std::move(out));
    if (v.admitted()) tell_refused(r, v.user(), out.refused());
    return retry_or_refuse(std::move(c), r, std::move(out));
  }

  /// Refuses in the library's form, for hosts that know before the hub does why there can be no
  /// stream. Status 200: a stream that says `retry:` and ends.
  [[nodiscard]] accept_result turn_away(connection&& c, const request& r,
                                        const refused_request& why) {
    accept_result out;
    detail::say_no(out, why.why, why.status, why.retry_after);
    return retry_or_refuse(std::move(c), r, std::move(out));
  }

  /// A request whose verdict comes later.
  class place {
   public:
    [[nodiscard]] explicit operator bool() const noexcept { return waits_; }

   private:
    friend class hub;
    detail::counted_names names_{};
    bool waits_ = false;
    bool counted_ = false;
  };
  /// Looks at a request as accept() does before it asks. Where a stream may be, it is to wait:
  /// `p` counts under the caps for all and for its address until release(p), which has to come
  /// right before accept() with the verdict, or without one. Else the result is accept()'s.
  [[nodiscard]] accept_result wait(connection&& c, const request& r, place& p) {
    accept_result out;
    if (!may_ask(out, r)) return retry_or_refuse(std::move(c), r, std::move(out));
    p.counted_ = engine_.begin_wait(r, p.names_, out);
    p.waits_ = p.counted_ || (!reads(r) && !accepts_event_stream(r));  // its answer may be plain
    if (p.waits_) return {};
    return retry_or_refuse(std::move(c), r, std::move(out));
  }
  /// Its place is free again; see wait().
  void release(place& p) noexcept {
    if (p.counted_) engine_.end_wait(p.names_);
    p = {};
  }

  /// A live session joins one more channel: it gets what is published from now on, or from where
  /// `from` says, in order with its other channels. Ids rise along a stream: where that is not
  /// behind all ids that the session has got, or was told of, it is refused (join_error::moved_on).
  /// So one that reads, or read, channels with ids takes a channel with ids from now on, and one
  /// without from anywhere. Where it reads nothing else with ids it is told where it stands
  /// (hub_options::position). A cut stream comes back with a request of its own: let that say the
  /// same channels.
  [[nodiscard]] join_error join(session_id id, channel c, const join_start& from = {}) noexcept {
    return join(id, c, watch_options{}, from);
  }
  /// The same for a channel with keys, and how it is read. `from` is about events without a key.
  [[nodiscard]] join_error join(session_id id, channel c, const watch_options& watch,
                                const join_start& from = {}) noexcept {
    const join_error e = engine_.join(id, c, from, watch.says_nothing() ? nullptr : &watch);
    if (e == join_error::none) tell_of_values(id.slot);
    return e;
  }
  /// A session that chose its keys of a channel gets more of them: each begins with the value that
  /// it has, behind what waits already. Those that it has are left alone. O(keys); O(values of the
  /// channel) where some of those have an audience and nobody chose the key before.
  [[nodiscard]] select_error select(session_id id, channel c,
                                    std::span<const std::string_view> keys) noexcept {
    return engine_.select(id, c, keys);
  }
  /// It gets no more values of these keys; one that is being written may still come. Keys that it
  /// does not have are left out.
  [[nodiscard]] select_error unselect(session_id id, channel c,
                                      std::span<const std::string_view> keys) noexcept {
    return engine_.unselect(id, c, keys);
  }
  /// It gets no event of that channel any more, also of what was published and is not sent yet; a
  /// half-sent one is finished, also if the channel is closed. A gap frame that waits is sent,
  /// since its id speaks for all channels. It may leave all of them. False: it had not joined it,
  /// or is gone.
  bool leave(session_id id, channel c) noexcept { return engine_.leave(id, c); }

  /// It joined the channel with keys of its own.
  [[nodiscard]] bool selects(session_id id, channel c) const noexcept {
    return engine_.selects(id, c);
  }

  // --- the loop ----------------------------------------------------------------------------------

  /// Time comes in: heartbeats and deadlines. Call flush() after it.
  void tick(time_point now) noexcept { engine_.tick(now); }
  /// Time alone: what is published, opened or accepted from here on is of `now`, and nothing
  /// becomes due before tick() says so. For a loop that learns what its streams are ready for after
  /// it read requests: after a long pause no reader is cut that could be written to.
  void set_time(time_point now) noexcept { engine_.set_time(now); }
  /// When tick() is next needed; time_point::never() if not.
  [[nodiscard]] time_point next_deadline() const noexcept { return engine_.next_deadline(); }
  /// Sends to every session that is behind and ready. True: some had their share only, call it
  /// again soon.
  bool flush() noexcept { return engine_.flush(); }
  /// The transport can take bytes again (after flow::blocked). flush() sends them.
  void writable(session_id id) noexcept { engine_.writable(id); }
  /// A write that was flow::pending is over; `n` of its bytes left. Must come also after the
  /// session ended.
  void written(session_id id, std::size_t n) noexcept { engine_.written(id, n); }
  /// The peer is gone. Transport::close is called.
  void closed(session_id id) noexcept { engine_.closed(id); }

  /// Pull hosts (HTTP/2): what this session gets next; the views live until consume. 0 and nothing
  /// pending: the hub calls Transport::write again when there is more, which may answer {0,
  /// flow::blocked}. Always 0 where Transport::completes is not.
  [[nodiscard]] std::size_t peek(session_id id, std::span<buffer> out) noexcept {
    return engine_.peek(id, out);
  }
  /// So many bytes of what peek() showed were taken.
  void consume(session_id id, std::size_t n) noexcept { engine_.written(id, n); }

  // --- ends --------------------------------------------------------------------------------------

  /// At once.
  void close(session_id id) noexcept { engine_.close(id, close_reason::host); }
  /// All streams at once; channels stay, and new streams may come.
  void close_all() noexcept { engine_.close_all(); }
  /// The same, in any hook too: once the call that ran it returns. For hosts that are stopped.
  void close_all_soon() noexcept { engine_.close_all_soon(); }
  /// Once all that is pending was sent.
  void finish(session_id id) noexcept { engine_.finish(id); }
  /// Closes all streams of a user before another byte is sent to it; returns how many.
  std::size_t revoke(std::string_view key) noexcept { return engine_.revoke(key); }
  /// Takes no more, tells every stream when to come back, ends each once it has everything, cuts at
  /// the deadline.
  void drain(const drain_options& o = {}) noexcept { engine_.drain(o); }
  /// drain() was called.
  [[nodiscard]] bool draining() const noexcept { return engine_.draining(); }
  /// And no stream is left.
  [[nodiscard]] bool drained() const noexcept {
    return engine_.draining() && engine_.open_slots() == 0;
  }

  // --- what is there -----------------------------------------------------------------------------

  /// Open streams.
  [[nodiscard]] std::size_t sessions() const noexcept { return engine_.session_count(); }
  /// Open streams of a user.
  [[nodiscard]] std::size_t user_sessions(std::string_view key) noexcept {
    return engine_.user_sessions(key);
  }
  /// Whether that stream is open.
  [[nodiscard]] bool alive(session_id id) noexcept { return engine_.alive(id); }
  /// The session's user, or nullptr.
  [[nodiscard]] User* user(session_id id) noexcept {
    return engine_.find(id) != nullptr ? &at(id.slot).user() : nullptr;
  }
  /// Its connection; nullptr: it is not open.
  [[nodiscard]] connection* find(session_id id) noexcept {
    return engine_.find(id) != nullptr ? &at(id.slot).conn() : nullptr;
  }
  /// Bytes that the slowest subscriber is behind live. O(subscribers).
  [[nodiscard]] std::uint64_t worst_lag(channel c) const noexcept { return engine_.worst_lag(c); }
  /// What became of the events of a channel that the session reads; all 0: it does not, or
  /// hub_options::session_stats is off. O(its channels).
  [[nodiscard]] session_counts session_stats(session_id id, channel c) const noexcept {
    return engine_.session_stats(id, &c);
  }
  /// The same of all channels that it reads.
  [[nodiscard]] session_counts session_stats(session_id id) const noexcept {
    return engine_.session_stats(id, nullptr);
  }
  /// What it counted, and what it holds.
  [[nodiscard]] hub_stats stats() const noexcept { return engine_.stats(); }
  /// As it took them.
  [[nodiscard]] const hub_options& options() const noexcept { return engine_.options(); }
  /// f(const channel_stats&) for each channel, and then for those that were closed: their sums by
  /// channel_options::metrics_name, which have no name. O(channels).
  template <class F>
  void each_channel_stats(F f) const {
    for (const detail::channel_state* c : engine_.channels()) f(c->stats());
    for (std::uint32_t i = 0; i < engine_.closed_groups(); ++i) f(engine_.closed_group(i));
  }

 private:
  /// A session's typed half, in the slot of its number.
  struct cell {
    alignas(connection) unsigned char conn_bytes[sizeof(connection)];
    [[no_unique_address]] alignas(User) unsigned char user_bytes[sizeof(User)];
    connection& conn() noexcept { return *std::launder(reinterpret_cast<connection*>(conn_bytes)); }
    User& user() noexcept { return *std::launder(reinterpret_cast<User*>(user_bytes)); }
  };
  static constexpr std::uint32_t chunk = 64;

  cell& at(std::uint32_t slot) noexcept { return cells_[slot / chunk][slot % chunk]; }

  bool make_cell(std::uint32_t slot) noexcept {
    while (cells_.size() <= slot / chunk) {
      if (!cells_.reserve(cells_.size() + 1)) return false;
      void* p = detail::allocate(sizeof(cell) * chunk);
      if (p == nullptr) return false;
      cells_.push_reserved(static_cast<cell*>(p));
    }
    return true;
  }

  [[nodiscard]] static accept_result no(accept_result out, refusal_reason why, int status) {
    detail::say_no(out, why, status);
    return out;
  }
  /// Gives a refusal its form, and counts it.
  accept_result refused(accept_result out) {
    if (out.why != refusal_reason::verdict) {
      const refused_request q = out.refused();
      out.refusal = detail::finish_refusal(form_ ? form_(q) : refusal_response(q), q);
    }
    engine_.count_refusal(out.why);
    return out;
  }

  bool may_ask(accept_result& out, const request& r) {
    const bool wanted = accepts_event_stream(r);
    if (!wanted && reads(r) && options().check_accept) {
      out = no(std::move(out), refusal_reason::http, 406);
      return false;
    }
    return (!wanted && !reads(r)) || (engine_.precheck(out) && engine_.precheck_address(r, out));
  }
  [[nodiscard]] static bool reads(const request& r) noexcept {
    return r.method == "GET" || r.method == "HEAD";
  }

  /// The transport knows of a stream that gets values.
  void tell_of_values(std::uint32_t slot) noexcept {
    if constexpr (requires(Transport & t, connection & k) { t.carries_values(k); }) {
      if (engine_.gets_values(slot)) transport_->carries_values(at(slot).conn());
    }
    (void)slot;
  }

  accept_result take(connection&& c, const request& r, verdict<User> v, accept_result out) {
    if (!v.admitted()) {
      out.why = refusal_reason::verdict;
      out.refusal = std::move(v.refusal());
      return reads(r) ? refused(std::move(out)) : std::move(out);  // a POST's may be its answer
    }
    if (r.method == "HEAD") {
      out.head_only = true;
      return out;
    }
    const detail::engine::work w{engine_};
    resume_point resume;
    const std::uint32_t slot =
        engine_.precheck(out) ? engine_.admit(r, v.joining(), resume, out) : detail::none;
    if (slot == detail::none) {
      tell_refused(r, v.user(), out.refused());
      return retry_or_refuse(std::move(c), r, std::move(out));
    }
    if (!settle_in(slot, std::move(c), std::move(v.user()))) {
      engine_.abandon(slot);
      out = no({}, refusal_reason::no_memory, 503);
      tell_refused(r, v.user(), out.refused());
      return refused(std::move(out));
    }
    engine_.join(slot, v.joining(), resume);
    tell_of_values(slot);
    if (opened_) opened_(out.id, at(slot).user());
    engine_.open(slot);
    return out;
  }

  /// A refusal, or the retry stream that a cap asked for (status 200).
  accept_result retry_or_refuse(connection&& c, const request& r, accept_result out) {
    if (out.refusal.status == 200 && r.method == "HEAD") {
      out.refusal = {};
      out.head_only = true;
      engine_.count_refusal(out.why);
      return out;
    }
    if (out.refusal.status == 200) {
      const detail::engine::work w{engine_};
      const std::uint32_t slot = engine_.admit_retry_stream(r, out.retry_after);
      if (slot != detail::none && settle_in(slot, std::move(c), User{})) {
        out.id = engine_.id_of(slot);
        out.refusal = {};
        engine_.count_refusal(out.why);
        engine_.open(slot);
        return out;
      }
      if (slot != detail::none) engine_.abandon(slot);
      out.refusal.status = 503;
    }
    return out.refusal.status == 204 ? std::move(out) : refused(std::move(out));
  }

  bool settle_in(std::uint32_t slot, connection&& c, User&& u) {
    if (!make_cell(slot)) return false;
    cell& x = at(slot);
    ::new (static_cast<void*>(x.conn_bytes)) connection(std::move(c));
    ::new (static_cast<void*>(x.user_bytes)) User(std::move(u));
    if constexpr (requires(Transport & t, connection & k, session_id id) { t.opened(k, id); }) {
      transport_->opened(x.conn(), engine_.id_of(slot));
    }
    return true;
  }

  /// The connection of a stream whose last chunk is out goes on with its host.
  [[nodiscard]] bool keeps(connection& c) noexcept {
    if constexpr (requires(Transport & t) { t.keep(c); }) return transport_->keep(c);
    (void)c;
    return false;
  }

  detail::host_calls calls() noexcept {
    detail::host_calls h;
    h.self = this;
    h.write = [](void* self, std::uint32_t slot, std::span<const buffer> bytes) noexcept {
      hub& me = *static_cast<hub*>(self);
      return me.transport_->write(me.at(slot).conn(), bytes);
    };
    h.close = [](void* self, std::uint32_t slot, close_reason why, bool announce,
                 bool whole) noexcept {
      hub& me = *static_cast<hub*>(self);
      cell& x = me.at(slot);
      if (!whole || !me.keeps(x.conn())) me.transport_->close(x.conn(), why);
      if (announce && me.closed_) me.closed_(me.engine_.id_of(slot), x.user(), why);
      x.conn().~connection();
      x.user().~User();
    };
    if constexpr (requires(Transport & t, connection & k) { t.end(k); }) {
      h.end = [](void* self, std::uint32_t slot) noexcept {
        hub& me = *static_cast<hub*>(self);
        return me.transport_->end(me.at(slot).conn());
      };
    }
    h.sees = [](void* self, std::uint32_t slot, std::string_view key,
                std::string_view audience) noexcept {
      hub& me = *static_cast<hub*>(self);
      if (me.sees_) return me.sees_(me.at(slot).user(), key, audience);
      return key == audience;
    };
    h.flush_begins = [](void* self) noexcept {
      if constexpr (requires(Transport & t) { t.begin_flush(); })
        static_cast<hub*>(self)->transport_->begin_flush();
      (void)self;
    };
    h.flush_ends = [](void* self) noexcept {
      if constexpr (requires(Transport & t) { t.end_flush(); })
        static_cast<hub*>(self)->transport_->end_flush();
      (void)self;
    };
    if constexpr (requires { Transport::max_buffers; })
      h.max_buffers = static_cast<std::uint32_t>(Transport::max_buffers);
    if constexpr (requires { Transport::completes; }) h.completes = Transport::completes;
    return h;
  }

  Transport* transport_;
  detail::vec<cell*> cells_;
  function<verdict<User>(const request&)> admit_;
  function<bool(const User&, std::string_view, std::string_view)> sees_;
  function<void(const request&, const User&, const refused_request&)> refused_;
  function<response(const refused_request&)> form_;
  function<void(session_id, const User&)> opened_;
  function<void(session_id, const User&, close_reason)> closed_;
  detail::engine engine_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_HUB_HPP
// ---- sse/parse.hpp
//
// parser: the bytes of a text/event-stream to events. The only place that reads "data:".
// Sans-I/O: it takes bytes in pieces of any size and calls a sink. It does not connect, reconnect
// or know HTTP; that is what sse/client.hpp is for.
//
// Threads: one at a time. Movable, not copyable. Memory is bounded by parse_limits: at most one
// line, one event with its type, and one id are held, and only if a piece of input ends inside an
// event. A block
// of more than 64 KiB that an event needed stays for the next one, until an event comes that does
// not need it. Linear in the input, whatever the pieces: no byte is searched twice; a byte of data
// is copied once if its line came in pieces, and once if its event has several lines.
//
//   struct my_sink { void on_event(const sse::event& e) { use(e.type, e.data, e.id); } } sink;
//   sse::parser parser;
//   for (std::size_t n; (n = read(fd, buf, sizeof buf)) > 0;)
//     if (auto r = parser.feed({buf, n}, sink); !r) return fail(sse::to_string(r.error));
//   parser.finish();
//
// The rules are those of WHATWG HTML 9.2.6, in any chunking: one BOM at the start is skipped; CR,
// LF and CRLF end a line; `field:value` and `field: value` are the same; a line without a colon is
// a field with an empty value; names are case-sensitive and unknown ones are ignored; an id with
// NUL is ignored; retry takes digits only; an event without a data line fires nothing but still
// moves the last event ID; an unfinished event at the end is dropped. Three points that the text
// leaves open: an empty `retry:` is ignored; a retry above 2^63-1 counts as 2^63-1; the last event
// ID lives on from stream to stream (as in browsers) until an empty `id` clears it.
#ifndef SSEHUB_PARSE_HPP
#define SSEHUB_PARSE_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Why a parser stopped for good: the stream went over a limit, or memory is out.
enum class parse_error : std::uint8_t {
  none,
  line_too_long,    ///< parse_limits::line
  event_too_large,  ///< parse_limits::event
  too_many_lines,   ///< parse_limits::data_lines
  id_too_long,      ///< parse_limits::id
  type_too_long,    ///< parse_limits::type
  no_memory,        ///< an allocation failed
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(parse_error e) noexcept {
  switch (e) {
    case parse_error::none: return "none";
    case parse_error::line_too_long: return "line_too_long";
    case parse_error::event_too_large: return "event_too_large";
    case parse_error::too_many_lines: return "too_many_lines";
    case parse_error::id_too_long: return "id_too_long";
    case parse_error::type_too_long: return "type_too_long";
    case parse_error::no_memory: return "no_memory";
  }
  return "unknown";
}

/// The largest sizes that are accepted; one more is an error. Bytes, unless said otherwise. What
/// `event` allows, the others allow too: data in one line or of line ends only, and a type as long.
struct parse_limits {
  std::size_t line = (std::size_t{16} << 20) + 64;       ///< a line of any kind, without its end
  std::size_t event = std::size_t{16} << 20;             ///< event::data as delivered
  std::size_t data_lines = (std::size_t{16} << 20) + 1;  ///< `data` lines of one event
  std::size_t id = 4096;                                 ///< event::id, which goes into a header
  std::size_t type = std::size_t{16} << 20;              ///< event::type
};

/// What happens to bytes that are not UTF-8.
enum class invalid_utf8 : std::uint8_t {
  pass,     ///< they arrive as they are
  replace,  ///< each ill-formed part of a value arrives as U+FFFD (WHATWG Encoding, UTF-8 decode)
};

/// What a parser bears.
struct parser_options {
  parse_limits limits{};                   ///< what is beyond is an error
  invalid_utf8 utf8 = invalid_utf8::pass;  ///< what becomes of bytes that are no UTF-8
};

/// What feed did.
struct parse_result {
  parse_error error = parse_error::none;  ///< why it stopped for good
  /// Bytes taken; fewer than given only after an error, or because the sink asked to stop.
  std::size_t consumed = 0;

  [[nodiscard]] constexpr explicit operator bool() const noexcept {
    return error == parse_error::none;
  }
};

/// What feed calls. Required: on_event. Optional, detected are the others. Each returns void, or
/// bool: false stops behind what it was called for.
///   void on_comment(std::string_view text)   a comment line, without its colon and one space
///   void on_retry(std::int64_t ms)           a valid `retry` field, at once, even if its event is
///                                            never finished
///   void on_position(std::string_view id)    the last event ID, moved by a block that fires no
///   event
/// All views are valid until the callback returns. Callbacks may read the parser, never feed or
/// reset it. A sink that throws leaves the parser fit only for reset() and destruction.
template <class S>
concept event_sink = requires(S& sink, const event& e) {
  requires std::same_as<decltype(sink.on_event(e)), void> ||
      std::same_as<decltype(sink.on_event(e)), bool>;
};

/// Bytes of an event stream to events; see the top of this header.
class parser {
 public:
  parser() noexcept = default;
  /// Limits, and what becomes of bytes that are no UTF-8.
  explicit parser(const parser_options& options) noexcept : options_{options} {}

  /// Takes the next piece of the stream, of any size. event::id is the last event ID, event::retry
  /// the event's own retry. Views point into `in` where the value lies in it in one piece, else
  /// into the parser. If the sink stops it, feed the rest later: in.substr(result.consumed). After
  /// an error nothing is taken any more, and every call returns it, until reset().
  template <event_sink Sink>
  [[nodiscard]] parse_result feed(std::string_view in, Sink&& sink);

  /// The stream ended: what is unfinished is dropped, the last event ID stays, the next feed starts
  /// a new stream. Returns true if an event or a line was cut off. An error stays until reset().
  bool finish() noexcept;

  /// Ready for a new stream: drops what is unfinished and the error. The last event ID stays;
  /// set_last_event_id({}) forgets it.
  void reset() noexcept;

  /// Why it takes no more; none: it does.
  [[nodiscard]] parse_error error() const noexcept { return error_; }

  /// The id of the last finished event that had one, for the Last-Event-ID header. Valid until the
  /// next call that is not const.
  [[nodiscard]] std::string_view last_event_id() const noexcept { return last_id_.view(); }

  /// Where a resumed stream starts. False, and nothing changes, if `id` holds CR, LF or NUL, is
  /// longer than parse_limits::id, or memory is out. Call it between streams.
  [[nodiscard]] bool set_last_event_id(std::string_view id) noexcept;

  /// Bytes held for an unfinished event.
  [[nodiscard]] std::size_t buffered() const noexcept {
    return line_.size() + own_data().size() + type_.size() + next_id_.size();
  }

 private:
  enum class step : std::uint8_t { next, event, comment, retry, position, failed };

  step fail(parse_error e) noexcept;
  void drop_event() noexcept;
  void drop_data() noexcept;
  void drop_stream() noexcept;
  [[nodiscard]] const char* skip_bom(const char* p, const char* end) noexcept;
  [[nodiscard]] bool hold(std::string_view part) noexcept;
  [[nodiscard]] bool keep() noexcept;
  [[nodiscard]] bool let_go() noexcept;
  void empty(detail::bytes& block) noexcept;
  [[nodiscard]] std::string_view own_data() const noexcept {
    return {data_.view().data() + data_from_, data_.size() - data_from_};
  }
  [[nodiscard]] static std::string_view value_after(std::string_view line,
                                                    std::size_t name) noexcept;
  template <std::size_t Size>
  [[nodiscard]] static bool has_name(std::string_view line, const char (&name)[Size]) noexcept;
  [[nodiscard]] step take_field(std::string_view line) noexcept;
  [[nodiscard]] step take_data(std::string_view value) noexcept;
  [[nodiscard]] step join_data(std::string_view value) noexcept;
  [[nodiscard]] step take_type(std::string_view value) noexcept;
  [[nodiscard]] step take_id(std::string_view value) noexcept;
  [[nodiscard]] step take_retry(std::string_view value) noexcept;
  [[nodiscard]] step end_event() noexcept;
  [[nodiscard]] bool needs_repair(std::string_view value) const noexcept {
    return options_.utf8 == invalid_utf8::replace &&
           detail::valid_utf8_prefix(value) != value.size();
  }

  parser_options options_{};
  detail::bytes line_{};     // the start of a line whose end has not come
  detail::bytes data_{};     // joined data lines, unless the one line there is lies in the input;
                             // they begin at data_from_
  detail::bytes type_{};     // the type, unless it lies in the input
  detail::bytes next_id_{};  // the id that this event will set
  detail::bytes last_id_{};
  detail::bytes comment_{};       // a repaired comment
  std::string_view data_view_{};  // the only data line, in the input; used if !own_data_
  std::string_view type_view_{};  // the type, in the input; used if !own_type_
  std::size_t data_from_ = 0;     // not 0: the first data line was held, its name stands before it
  std::size_t data_lines_ = 0;
  std::int64_t retry_ = no_retry;
  parse_error error_ = parse_error::none;
  std::uint8_t bom_ = 0;  // bytes of the BOM seen at the start; 3: past it
  bool own_data_ = false;
  bool own_type_ = false;
  bool large_block_ = false;  // line_ or data_ may have kept one, though empty
  bool has_next_id_ = false;
  bool after_cr_ = false;  // an LF that comes next belongs to the CR before it
};

template <event_sink Sink>
parse_result parser::feed(std::string_view in, Sink&& sink) {
  if (error_ != parse_error::none) return {error_, 0};
  const char* const begin = in.data();
  const char* const end = begin + in.size();
  const auto result = [&](const char* at) {
    return parse_result{error_, static_cast<std::size_t>(at - begin)};
  };
  const auto goes_on = [](auto callback) {
    if constexpr (std::same_as<decltype(callback()), bool>) return callback();
    return callback(), true;
  };
  const char* p = begin;
  if (bom_ != 3) {
    p = skip_bom(p, end);
    if (error_ != parse_error::none) return result(p);
  }
  if (after_cr_ && p != end && *p == '\n') ++p;
  bool held = !line_.empty();
  bool go_on = true;
  while (p != end && go_on) {
    std::string_view line;
    step taken = step::comment;
    if (!held && detail::is_line_end(*p)) {
      p = detail::skip_line_end(p, end);
      taken = end_event();
    } else {
      const char* const stop = detail::find_line_end(p, end);
      line = {p, static_cast<std::size_t>(stop - p)};
      if (held || stop == end) [[unlikely]] {
        if (!hold(line)) return result(p);
        p = stop;
        if (stop == end) break;
        line = line_.view();
      } else if (line.size() > options_.limits.line) {
        fail(parse_error::line_too_long);
        return result(p);
      }
      p = detail::skip_line_end(stop, end);
      if (has_name(line, "data")) {
        taken = take_data(value_after(line, 4));
      } else if (line[0] != ':') {
        taken = take_field(line);
      }
    }
    switch (taken) {
      case step::next: break;
      case step::event: {
        event e;
        e.type = own_type_ ? type_.view() : type_view_;
        e.data = own_data_ ? own_data() : data_view_;
        e.id = last_id_.view();
        e.retry = retry_;
        go_on = goes_on([&] { return sink.on_event(e); });
        drop_event();
        break;
      }
      case step::comment:
        if constexpr (requires { sink.on_comment(line); }) {
          std::string_view text = value_after(line, 0);
          if (needs_repair(text)) {
            if (!detail::append_repaired(comment_, text)) {
              fail(parse_error::no_memory);
              return result(p);
            }
            text = comment_.view();
          }
          go_on = goes_on([&] { return sink.on_comment(text); });
          comment_.clear();
        }
        break;
      case step::retry:
        if constexpr (requires { sink.on_retry(retry_); }) {
          go_on = goes_on([&] { return sink.on_retry(retry_); });
        }
        break;
      case step::position:
        if constexpr (requires { sink.on_position(last_id_.view()); }) {
          go_on = goes_on([&] { return sink.on_position(last_id_.view()); });
        }
        break;
      case step::failed: return result(p);
    }
    if (held) [[unlikely]] {
      held = false;
      if (!let_go()) return result(p);
    }
  }
  if (begin != end) after_cr_ = p == end && p[-1] == '\r';
  (void)keep();
  return result(p);
}

inline bool parser::finish() noexcept {
  const bool cut = data_lines_ != 0 || !line_.empty();
  drop_stream();
  return cut;
}

inline void parser::reset() noexcept {
  drop_stream();
  error_ = parse_error::none;
}

inline bool parser::set_last_event_id(std::string_view id) noexcept {
  if (id.size() > options_.limits.id || !detail::is_field_text(id)) return false;
  detail::bytes copy;
  if (!copy.append(id)) return false;
  last_id_.swap(copy);
  return true;
}

inline parser::step parser::fail(parse_error e) noexcept {
  drop_stream();
  line_.release();
  data_.release();
  error_ = e;
  return step::failed;
}

inline void parser::drop_event() noexcept {
  if (own_data_ || large_block_) drop_data();
  if (own_type_) type_.clear();
  type_view_ = {};
  data_lines_ = 0;
  retry_ = no_retry;
  own_data_ = own_type_ = false;
}

inline void parser::drop_data() noexcept {
  large_block_ = false;
  empty(data_);
  if (data_from_ != 0) {
    line_.swap(data_);
    data_from_ = 0;
  } else {
    line_.clear();
  }
}

// A large block stays for the next event, until there is one that has no need of it.
inline void parser::empty(detail::bytes& block) noexcept {
  if (block.size() > 64 * 1024) {
    block.truncate(0);
    large_block_ = true;
  } else {
    block.clear();
  }
}

inline void parser::drop_stream() noexcept {
  line_.clear();
  data_.clear();
  drop_event();
  next_id_.clear();
  comment_.clear();
  has_next_id_ = after_cr_ = false;
  bom_ = 0;
}

inline const char* parser::skip_bom(const char* p, const char* end) noexcept {
  constexpr std::string_view mark = "\xEF\xBB\xBF";
  if (bom_ == 3) return p;
  while (p != end && bom_ < 3 && *p == mark[bom_]) {
    ++p;
    ++bom_;
  }
  if (p != end && bom_ < 3) {  // it was none: what looked like it starts the first line
    const std::string_view part = mark.substr(0, bom_);
    bom_ = 3;
    (void)hold(part);
  }
  return p;
}

// Keeps the start of a line until its end comes.
inline bool parser::hold(std::string_view part) noexcept {
  const bool fits = part.size() <= options_.limits.line - line_.size();
  if (fits && line_.append(part)) return true;
  fail(fits ? parse_error::no_memory : parse_error::line_too_long);
  return false;
}

// The line that was held is done with. It was the first of this input, so that no view points
// elsewhere. As data it is not copied again, however long: the two blocks change places.
inline bool parser::let_go() noexcept {
  if (!data_view_.empty() && data_lines_ != 0 && !own_data_) {
    data_from_ = static_cast<std::size_t>(data_view_.data() - line_.view().data());
    data_.swap(line_);
    own_data_ = true;
    return true;
  }
  const bool kept = keep();
  empty(line_);
  return kept;
}

// Copies what still lies in the input, which is about to go away.
inline bool parser::keep() noexcept {
  if (error_ != parse_error::none) return false;
  const bool keep_data = data_lines_ != 0 && !own_data_;
  const bool keep_type = !type_view_.empty() && !own_type_;
  if ((keep_data && !data_.assign(data_view_)) || (keep_type && !type_.assign(type_view_))) {
    fail(parse_error::no_memory);
    return false;
  }
  own_data_ = own_data_ || keep_data;
  own_type_ = own_type_ || keep_type;
  return true;
}

inline parser::step parser::take_field(std::string_view line) noexcept {
  if (has_name(line, "event")) return take_type(value_after(line, 5));
  if (has_name(line, "id")) return take_id(value_after(line, 2));
  if (has_name(line, "retry")) return take_retry(value_after(line, 5));
  return step::next;
}

template <std::size_t Size>
bool parser::has_name(std::string_view line, const char (&name)[Size]) noexcept {
  constexpr std::size_t size = Size - 1;
  return line.size() >= size && std::memcmp(line.data(), name, size) == 0 &&
         (line.size() == size || line[size] == ':');
}

// What follows a name of this size, its colon and one space.
inline std::string_view parser::value_after(std::string_view line, std::size_t name) noexcept {
  if (line.size() == name) return {};
  line.remove_prefix(name + 1);
  if (!line.empty() && line.front() == ' ') line.remove_prefix(1);
  return line;
}

inline parser::step parser::take_data(std::string_view value) noexcept {
  if (data_lines_ != 0 || needs_repair(value)) return join_data(value);
  if (options_.limits.data_lines == 0) return fail(parse_error::too_many_lines);
  if (value.size() > options_.limits.event) return fail(parse_error::event_too_large);
  data_lines_ = 1;
  data_view_ = value;
  return step::next;
}

// A data line that is not the first, or cannot stay as it lies in the input.
inline parser::step parser::join_data(std::string_view value) noexcept {
  if (data_lines_ == options_.limits.data_lines) return fail(parse_error::too_many_lines);
  const std::size_t limit = options_.limits.event;
  if (data_lines_ != 0) {
    if (!own_data_ && !keep()) return step::failed;
    if (own_data().size() >= limit) return fail(parse_error::event_too_large);
    if (!data_.append("\n")) return fail(parse_error::no_memory);
  }
  ++data_lines_;
  own_data_ = true;
  if (value.size() > limit - own_data().size()) return fail(parse_error::event_too_large);
  const bool done =
      needs_repair(value) ? detail::append_repaired(data_, value) : data_.append(value);
  if (!done) return fail(parse_error::no_memory);
  return own_data().size() > limit ? fail(parse_error::event_too_large) : step::next;
}

inline parser::step parser::take_type(std::string_view value) noexcept {
  if (value.size() > options_.limits.type) return fail(parse_error::type_too_long);
  type_.clear();
  type_view_ = value;
  own_type_ = needs_repair(value);
  if (!own_type_) return step::next;
  if (!detail::append_repaired(type_, value)) return fail(parse_error::no_memory);
  return type_.size() > options_.limits.type ? fail(parse_error::type_too_long) : step::next;
}

inline parser::step parser::take_id(std::string_view value) noexcept {
  if (value.find('\0') != value.npos) return step::next;
  if (value.size() > options_.limits.id) return fail(parse_error::id_too_long);
  next_id_.clear();
  has_next_id_ = true;
  const bool done =
      needs_repair(value) ? detail::append_repaired(next_id_, value) : next_id_.append(value);
  if (!done) return fail(parse_error::no_memory);
  return next_id_.size() > options_.limits.id ? fail(parse_error::id_too_long) : step::next;
}

inline parser::step parser::take_retry(std::string_view value) noexcept {
  constexpr auto most = static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)());
  std::uint64_t ms = 0;
  if (detail::read_decimal(value, most, ms) == detail::decimal::malformed) return step::next;
  retry_ = static_cast<std::int64_t>(ms);
  return step::retry;
}

// The blank line: the id counts even if no event is fired.
inline parser::step parser::end_event() noexcept {
  const bool moved = has_next_id_;
  if (moved) {
    last_id_.swap(next_id_);
    next_id_.clear();
    has_next_id_ = false;
  }
  if (data_lines_ != 0) return step::event;
  drop_event();
  return moved ? step::position : step::next;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_PARSE_HPP

#endif  // SSEHUB_SSE_HPP
// ---- sse/epoll.hpp
//
// epoll_server: an HTTP/1.1 server for event streams on Linux, without any dependency: one thread,
// one epoll loop. For programs that have such a loop: sse/epoll_transport.hpp.
//
//   sse::epoll_server<> server;
//   sse::channel ticks = server.open_channel("ticks");
//   server.stream("/events", ticks);
//   if (auto e = server.listen("127.0.0.1", 8080)) return fail(e.message());
//   sse::publisher feed = server.make_publisher(ticks);   // for the thread that has the news
//   server.run();                                         // until interrupt()
//
// What it offers besides is in sse/server.hpp, the same as asio_server. For other systems, and
// where the program is built on Asio: sse/asio.hpp.
//
// TLS: epoll_server<User, tls::epoll_transport>{options, &context}, see sse/openssl.hpp.
//
// Several cores: one server in each thread, with server_options::reuse_port on the same port.
// With server_options::busy_poll it never sleeps, for a core of its own.
//
// Threads: a server belongs to the thread that runs it; other threads publish by publishers and
// answer by responders. Only interrupt() may be called from anywhere. It starts no thread and
// installs no signal handler.
//
// Errors: the constructor throws std::invalid_argument for options that cannot work and
// std::system_error if the system gives no descriptor. See sse/server.hpp for the rest.
//
// Hooks: those outside a flush (handlers, on_refused, on_opened, on_closed, on_presence, on_access,
// on_error, on_channel_closed) may call anything of the server and its hub, also stop(), close()
// and revoke(): what they end is closed once the call that runs them is over. Those inside a flush
// (on_sees, on_gap, backfill, a heartbeat's payload) may call nothing of the hub: it is refused.
// None may destroy the server or the hub.
#ifndef SSEHUB_EPOLL_HPP
#define SSEHUB_EPOLL_HPP

#include <memory>

// ---- sse/detail/server/epoll_core.hpp
//
// What stands behind epoll_server: the loop, its listeners, and connections until they are streams.
// Not public.
//
// One turn of the loop: wait, serve what is ready, mail in, time in, overdue connections out,
// hub.flush(). Nothing becomes overdue by a moment before all that was ready by then was looked at,
// so that a process that was stopped, or slept with its machine, ends nobody for that. The data of
// an epoll event is a stream (epoll_transport), a connection's address, or one of the small numbers
// below.
#ifndef SSEHUB_DETAIL_SERVER_EPOLL_CORE_HPP
#define SSEHUB_DETAIL_SERVER_EPOLL_CORE_HPP

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

// ---- sse/detail/base/intrusive_list.hpp
//
// Lists through their elements, and lists of elements that wait for a deadline. Not public.
#ifndef SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP
#define SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP

#include <array>
#include <cstddef>
#include <cstdint>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

template <class T>
struct chain;

/// What lets an object stand in one chain.
template <class T>
struct link {
  T* next = nullptr;
  T* prev = nullptr;
  chain<T>* in = nullptr;
};

/// A list through the `hook` of its elements, which it does not own.
template <class T>
struct chain {
  T* first = nullptr;
  T* last = nullptr;
  std::size_t size = 0;

  void push_back(T& t) noexcept {
    unlink(t);
    t.hook = {nullptr, last, this};
    (last != nullptr ? last->hook.next : first) = &t;
    last = &t;
    ++size;
  }
  static void unlink(T& t) noexcept {
    chain* const c = t.hook.in;
    if (c == nullptr) return;
    (t.hook.prev != nullptr ? t.hook.prev->hook.next : c->first) = t.hook.next;
    (t.hook.next != nullptr ? t.hook.next->hook.prev : c->last) = t.hook.prev;
    --c->size;
    t.hook = {};
  }
};

/// What a connection is given time for.
enum class due : std::uint8_t { never, handshake, head, body, verdict, ahead, idle, write, linger };
inline constexpr std::size_t due_count = static_cast<std::size_t>(due::linger) + 1;

/// Connections by what they are given time for. Each kind has one length for the whole server, so
/// that deadlines stand in line by themselves. `T` has `hook` and `due_at`, in milliseconds.
template <class T>
class waiting_room {
 public:
  void allow(due what, duration length) noexcept { line_of(what).length = length; }

  /// Gives `t` a deadline instead of the one it has.
  void await(T& t, due what, time_point now) noexcept {
    line& l = line_of(what);
    l.list.push_back(t);
    t.due_at = l.length.is_off() ? INT64_MAX : (now + l.length).ms();
  }
  [[nodiscard]] std::size_t size() const noexcept {
    std::size_t n = 0;
    for (const line& l : lines_) n += l.list.size;
    return n;
  }
  /// Those that wait for `what`, longest first.
  [[nodiscard]] const chain<T>& waiting_for(due what) noexcept { return line_of(what).list; }
  /// In milliseconds; INT64_MAX: none.
  [[nodiscard]] std::int64_t next() const noexcept {
    std::int64_t first = INT64_MAX;
    for (const line& l : lines_) {
      if (l.list.first != nullptr && l.list.first->due_at < first) first = l.list.first->due_at;
    }
    return first;
  }
  /// Calls f(element, what for) for those whose time is up; f takes each out or gives it more time.
  template <class F>
  void expire(time_point now, F f) noexcept {
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      const chain<T>& list = lines_[i].list;
      while (list.first != nullptr && list.first->due_at <= now.ms()) {
        f(*list.first, static_cast<due>(i));
      }
    }
  }
  /// Calls f(element) for those that are there now; f may take it out, and destroy it.
  template <class F>
  void for_each(F f) noexcept {
    for (line& l : lines_) each_of(l.list, f);
  }
  /// The same for those that wait for `what`.
  template <class F>
  void for_each(due what, F f) noexcept {
    each_of(line_of(what).list, f);
  }

 private:
  struct line {
    chain<T> list;
    duration length;
  };
  template <class F>
  static void each_of(chain<T>& list, F& f) noexcept {
    chain<T> all;
    while (list.first != nullptr) all.push_back(*list.first);
    while (all.first != nullptr) {
      T& t = *all.first;
      list.push_back(t);
      f(t);
    }
  }
  [[nodiscard]] line& line_of(due what) noexcept { return lines_[static_cast<std::size_t>(what)]; }

  std::array<line, due_count> lines_{};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP
// ---- sse/detail/net/epoll_listen.hpp
//
// Addresses and listening sockets of the epoll host. Not public.
#ifndef SSEHUB_DETAIL_NET_EPOLL_LISTEN_HPP
#define SSEHUB_DETAIL_NET_EPOLL_LISTEN_HPP

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

// ---- sse/detail/net/epoll_socket.hpp
//
// Sockets of Linux as transports in an epoll loop need them. Not public.
#ifndef SSEHUB_DETAIL_NET_EPOLL_SOCKET_HPP
#define SSEHUB_DETAIL_NET_EPOLL_SOCKET_HPP

#if !defined(__linux__)
#error "sse/epoll.hpp and sse/io_uring.hpp need Linux; sse/asio.hpp runs everywhere"
#endif

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Owns a descriptor.
class unique_fd {
 public:
  unique_fd() noexcept = default;
  explicit unique_fd(int fd) noexcept : fd_{fd} {}
  unique_fd(unique_fd&& o) noexcept : fd_{std::exchange(o.fd_, -1)} {}
  unique_fd& operator=(unique_fd&& o) noexcept {
    if (this != &o) reset(std::exchange(o.fd_, -1));
    return *this;
  }
  ~unique_fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// What a connection has between itself and its socket: nothing. sse::tls::session is another.
struct no_layer {
  static constexpr bool secure = false;
  struct security {};
  explicit operator bool() const noexcept { return false; }
};

/// Asks epoll for `events` of `fd` with `data`. `watched`: whether it is watched already; where
/// that is wrong it costs one call more.
[[nodiscard]] inline bool watch(int epoll, int fd, std::uint32_t events, std::uint64_t data,
                                bool watched) noexcept {
  epoll_event e{};
  e.events = events;
  e.data.u64 = data;
  const int first = watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (::epoll_ctl(epoll, first, fd, &e) == 0) return true;
  if (errno != (watched ? ENOENT : EEXIST)) return false;
  return ::epoll_ctl(epoll, watched ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &e) == 0;
}

/// Nothing of a connection that was closed after this goes out: its peer gets a reset.
inline void end_by_reset(int fd) noexcept {
  const linger now{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_NET_EPOLL_SOCKET_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

[[nodiscard]] inline std::error_code last_error() noexcept {
  return {errno, std::system_category()};
}

inline bool set_option(int fd, int level, int name, int value) noexcept {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/// The one way to write an address: an IPv4 peer of a socket for both versions is an IPv4 peer.
[[nodiscard]] inline std::string address_text(const in6_addr& a) {
  char text[INET6_ADDRSTRLEN] = {};
  const bool v4 = IN6_IS_ADDR_V4MAPPED(&a);
  ::inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? &a.s6_addr[12] : &a.s6_addr[0], text, sizeof text);
  return text;
}
[[nodiscard]] inline std::string address_text(const sockaddr_storage& from) {
  char text[INET_ADDRSTRLEN] = {};
  if (from.ss_family == AF_INET6) {
    return address_text(reinterpret_cast<const sockaddr_in6&>(from).sin6_addr);
  }
  ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(from).sin_addr, text, sizeof text);
  return text;
}

/// Empty: it has none any more.
[[nodiscard]] inline std::string peer_address(int fd) {
  sockaddr_storage from{};
  socklen_t size = sizeof from;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&from), &size) != 0) return {};
  return address_text(from);
}

[[nodiscard]] inline std::uint16_t port_of(int fd) noexcept {
  sockaddr_storage at{};
  socklen_t size = sizeof at;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) != 0) return 0;
  return ntohs(at.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(at).sin6_port
                                        : reinterpret_cast<const sockaddr_in&>(at).sin_port);
}

struct listen_options {
  bool reuse_port = false;
  bool nodelay = false;           ///< what is accepted inherits it, and the next
  std::uint32_t send_buffer = 0;  ///< bytes; 0: the system's
  std::uint32_t unsent = 0;       ///< the same
};

[[nodiscard]] inline std::error_code listen_on(const addrinfo& at, listen_options o,
                                               unique_fd& out) noexcept {
  out.reset(::socket(at.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int fd = out.get();
  const bool listens = fd >= 0 && set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
                       (!o.reuse_port || set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) &&
                       (at.ai_family != AF_INET6 || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0)) &&
                       (!o.nodelay || set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1)) &&
                       (o.send_buffer == 0 ||
                        set_option(fd, SOL_SOCKET, SO_SNDBUF, static_cast<int>(o.send_buffer))) &&
                       (o.unsent == 0 || set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
                                                    static_cast<int>(o.unsent))) &&
                       ::bind(fd, at.ai_addr, at.ai_addrlen) == 0 && ::listen(fd, SOMAXCONN) == 0;
  return listens ? std::error_code{} : last_error();
}

/// Sockets that listen on each of these addresses, on one port. What is of a family that the
/// machine lacks, or no address of its own, is left out unless nothing else is there.
[[nodiscard]] inline std::error_code listen_on(addrinfo* all, const listen_options& o,
                                               std::vector<unique_fd>& out) {
  const std::size_t before = out.size();
  std::error_code failed;
  for (addrinfo* at = all; at != nullptr; at = at->ai_next) {
    in_port_t& port = at->ai_family == AF_INET6
                          ? reinterpret_cast<sockaddr_in6*>(at->ai_addr)->sin6_port
                          : reinterpret_cast<sockaddr_in*>(at->ai_addr)->sin_port;
    if (out.size() != before && port == 0) {  // the port that the first one got
      port = htons(port_of(out[before].get()));
    }
    unique_fd fd;
    const std::error_code e = listen_on(*at, o, fd);
    if (!e) {
      out.push_back(std::move(fd));
    } else if (e != std::errc::address_not_available &&
               e != std::errc::address_family_not_supported) {
      out.resize(before);
      return e;
    } else {
      failed = e;
    }
  }
  return out.size() == before ? failed : std::error_code{};
}

/// The same on an address, or on all addresses of a name.
[[nodiscard]] inline std::error_code listen_on(std::string_view host, std::uint16_t port,
                                               const listen_options& o,
                                               std::vector<unique_fd>& out) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo how{};
  how.ai_socktype = SOCK_STREAM;
  how.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(std::string{host}.c_str(), std::to_string(port).c_str(), &how, &found) != 0) {
    return std::make_error_code(std::errc::address_not_available);
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned{found, &::freeaddrinfo};
  return listen_on(found, o, out);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_NET_EPOLL_LISTEN_HPP
// ---- sse/detail/server/http_connection.hpp
//
// One HTTP/1 connection of a server, from accept until it is a stream or closed: head, body,
// handler, answer, the next request. It moves no bytes: its host gives it what came and writes what
// it has. Not public.
//
// Requests of one connection are served one after the other. Nothing is read while an answer is
// being made or written, so a client that sends and never reads holds one request and one answer.
#ifndef SSEHUB_DETAIL_SERVER_HTTP_CONNECTION_HPP
#define SSEHUB_DETAIL_SERVER_HTTP_CONNECTION_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

// ---- sse/detail/server/inbox.hpp
//
// What other threads ask a server's thread to do: answers that come late. Not public.
#ifndef SSEHUB_DETAIL_SERVER_INBOX_HPP
#define SSEHUB_DETAIL_SERVER_INBOX_HPP

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

// ---- sse/responder.hpp
//
// responder: the answer to a request of a server (sse/server.hpp), which may come later and from
// another thread. stream_responder: the same for a verdict.
//
//   server.stream("/events", [&](const sse::request& r, sse::stream_responder<> to) {
//     directory.look_up(token_of(r), [to = std::move(to), &ticks](bool known) mutable {
//       known ? to(sse::admit().join(ticks)) : to(sse::refuse(401));
//     });
//   });
#ifndef SSEHUB_RESPONDER_HPP
#define SSEHUB_RESPONDER_HPP

#include <atomic>
#include <memory>
#include <utility>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

namespace detail {

/// What a responder and its server share.
struct late_answer {
  std::atomic<bool> called_off{false};
  function<void()> on_called_off{};  // the server's thread's
};

}  // namespace detail

/// Answers one request, now or later, once. Dropped without an answer, it answers 500. An answer
/// for a client that is gone, or for a server that is, makes no difference.
///
/// May be moved to any thread and used there, also when its server is gone.
template <class Answer>
class basic_responder {
 public:
  basic_responder() noexcept = default;
  /// For servers: `send` gets the answer, or nullptr if there was none, on the thread that
  /// answered.
  explicit basic_responder(function<void(Answer*)> send,
                           std::shared_ptr<detail::late_answer> shared = {}) noexcept
      : send_{std::move(send)}, shared_{std::move(shared)} {}
  basic_responder(basic_responder&&) noexcept = default;
  basic_responder& operator=(basic_responder&& o) noexcept {
    if (this != &o) {
      drop();
      send_ = std::move(o.send_);
      shared_ = std::move(o.shared_);
    }
    return *this;
  }
  ~basic_responder() { drop(); }

  void operator()(Answer a) {
    if (!send_) return;
    const function<void(Answer*)> send = std::move(send_);
    send(&a);
  }
  /// It was not used yet.
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(send_); }

  /// Nobody waits for the answer any more: the client left, the time for it is over
  /// (server_options::verdict_deadline), the server drains or is stopped. From any thread.
  [[nodiscard]] bool called_off() const noexcept {
    return shared_ != nullptr && shared_->called_off.load(std::memory_order_acquire);
  }
  /// `f` runs when that happens, on the server's thread: what was begun for the answer can be
  /// ended. It may call anything of the server and its hub. To be set in the handler, on that
  /// thread.
  void on_called_off(function<void()> f) noexcept {
    if (shared_ != nullptr) shared_->on_called_off = std::move(f);
  }

 private:
  void drop() noexcept {
    if (!send_) return;
    const function<void(Answer*)> send = std::move(send_);
    try {
      send(nullptr);
    } catch (...) {  // memory is out: the connection's own end will come
    }
  }

  function<void(Answer*)> send_;
  std::shared_ptr<detail::late_answer> shared_;
};

/// Of a plain request.
using responder = basic_responder<response>;
/// Of a stream.
template <class User = no_user>
using stream_responder = basic_responder<verdict<User>>;

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_RESPONDER_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Outlives its server where somebody still holds a responder: then nothing happens any more.
class inbox {
 public:
  using task = function<void()>;

  /// `wake`: makes the loop call take() soon; from any thread.
  inbox(void (*wake)(void*) noexcept, void* context) noexcept : wake_{wake}, context_{context} {}

  /// From any thread. Throws std::bad_alloc.
  void post(task t) {
    const std::lock_guard<std::mutex> lock{mutex_};
    if (wake_ == nullptr) return;
    tasks_.push_back(std::move(t));
    any_.store(true, std::memory_order_relaxed);
    if (tasks_.size() == 1) wake_(context_);
  }
  /// What there is to do, on the server's thread. A wake-up follows each post, or was under way.
  [[nodiscard]] std::vector<task> take() noexcept {
    std::vector<task> out;
    if (!any_.load(std::memory_order_relaxed)) return out;
    const std::lock_guard<std::mutex> lock{mutex_};
    any_.store(false, std::memory_order_relaxed);
    out.swap(tasks_);
    return out;
  }
  void close() noexcept {
    std::vector<task> dropped;  // outside of the lock: what they hold may post
    const std::lock_guard<std::mutex> lock{mutex_};
    wake_ = nullptr;
    dropped.swap(tasks_);
  }

 private:
  std::mutex mutex_;
  std::vector<task> tasks_;
  std::atomic<bool> any_{false};
  void (*wake_)(void*) noexcept;
  void* context_;
};

/// A request that is answered later: what its responder and its connection know of each other.
template <class Connection>
struct late_request : late_answer {
  late_request(Connection& c, std::shared_ptr<inbox> i) noexcept : to{&c}, box{std::move(i)} {}

  /// Brings an answer, or that there is none, to the connection, if that still waits for it.
  template <class Answer>
  static function<void(Answer*)> sender(std::shared_ptr<late_request> me) {
    return [me = std::move(me)](Answer* a) {
      std::optional<Answer> answer;
      if (a != nullptr) answer.emplace(std::move(*a));
      me->box->post([me, answer = std::move(answer)]() mutable {
        if (me->to != nullptr) me->to->answered(std::move(answer));
      });
    };
  }

  Connection* to;  ///< the server's thread's; nullptr: it waits no more
  const std::shared_ptr<inbox> box;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_INBOX_HPP
// ---- sse/detail/server/server_core.hpp
//
// What every HTTP/1 server of this library is made of, but for its sockets and its loop: options,
// hub, mailbox, routes, refusals, the access log, the way of a request to its handler. Include the
// header of a host.
#ifndef SSEHUB_DETAIL_SERVER_SERVER_CORE_HPP
#define SSEHUB_DETAIL_SERVER_SERVER_CORE_HPP

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

// ---- sse/cors.hpp
//
// cors_policy: which web pages of other origins may read the answers (WHATWG Fetch 3.2).
// host_allowed: which host names this server answers to, against DNS rebinding. Both speak about
// browsers only; neither replaces a token.
//
//   static constexpr std::string_view origins[] = {"https://app.example"};
//   sse::cors_policy cors{.origins = origins, .credentials = true};
//   if (!sse::host_allowed(req, hosts)) return answer(sse::response::text(403, "unknown host\n"));
//   if (req.method == "OPTIONS") return answer(sse::preflight(cors, req));
//   sse::add_cors(refusal.headers, cors, req);  // or a string for http1::stream_head::extra
//
// Not needed when page and stream share an origin: the default policy sends nothing, and that is
// the safe choice.
//
// Free functions without state: any thread. Strings that grow may throw std::bad_alloc, nothing
// else is thrown.
#ifndef SSEHUB_CORS_HPP
#define SSEHUB_CORS_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Which pages may read the answers, as browsers ask it (WHATWG Fetch 3.2).
struct cors_policy {
  /// As a browser writes them, "https://app.example:8443"; "*" alone: any; empty: no CORS at all.
  std::span<const std::string_view> origins{};
  /// Cookies and HTTP authentication may come along. REQUIRES: neither "*" nor "null" in origins.
  bool credentials = false;
  std::string_view methods = "GET, POST, OPTIONS";  ///< that a page may use
  /// Request headers that a page may set. A client on fetch() needs Last-Event-ID to resume and
  /// Authorization to send a token.
  std::string_view headers = "Content-Type";
  /// Response headers that a page may read beyond the usual ones; empty: none.
  std::string_view expose{};
  /// Seconds a browser may remember a preflight; 0: not at all. REQUIRES: >= 0.
  int max_age = 600;
  /// Methods and headers on plain answers too, where a contract asks for it.
  bool on_every_answer = false;
};

/// Why a policy cannot be meant; see validate().
enum class cors_error : std::uint8_t {
  none,
  any_with_credentials,   ///< "*" with credentials would hand every page the user's session
  null_with_credentials,  ///< "null" is the origin of every sandboxed frame
  any_among_others,       ///< "*" stands alone
  bad_text,               ///< a control character in a field, an empty origin, a negative age
};

/// Ask once at the start. A policy with an error acts as none: no header is ever sent for it.
[[nodiscard]] constexpr cors_error validate(const cors_policy& p) noexcept {
  namespace text = detail::text;
  for (const std::string_view o : p.origins) {
    if (o == "*" && p.credentials) return cors_error::any_with_credentials;
    if (o == "null" && p.credentials) return cors_error::null_with_credentials;
    if (o == "*" && p.origins.size() > 1) return cors_error::any_among_others;
    if (o.empty() || !text::is_field_value(o)) return cors_error::bad_text;
  }
  if (!text::is_field_value(p.methods) || !text::is_field_value(p.headers) ||
      !text::is_field_value(p.expose) || p.max_age < 0) {
    return cors_error::bad_text;
  }
  return cors_error::none;
}

namespace detail {

/// What Access-Control-Allow-Origin says to this request; empty: nothing. REQUIRES: a valid policy.
[[nodiscard]] constexpr std::string_view allowed_origin(const cors_policy& p,
                                                        const request& r) noexcept {
  const std::string_view origin = r.only_value("Origin");
  for (const std::string_view o : p.origins) {
    if (o == "*" || o == origin) return o;
  }
  return {};
}

inline bool add_cors(std::string& lines, const cors_policy& p, const request& r, bool methods) {
  if (validate(p) != cors_error::none) return false;
  const std::string_view origin = allowed_origin(p, r);
  // A list makes the answer depend on the origin, also where it is not the listed one: caches must
  // know.
  if (!p.origins.empty() && p.origins.front() != "*") add_field(lines, "Vary", "Origin");
  if (origin.empty()) return false;
  add_field(lines, "Access-Control-Allow-Origin", origin);
  if (p.credentials) add_field(lines, "Access-Control-Allow-Credentials", "true");
  if (!p.expose.empty()) add_field(lines, "Access-Control-Expose-Headers", p.expose);
  if (methods) {
    add_field(lines, "Access-Control-Allow-Methods", p.methods);
    if (!p.headers.empty()) add_field(lines, "Access-Control-Allow-Headers", p.headers);
  }
  return true;
}

}  // namespace detail

/// Appends the header lines that an answer or a stream head needs.
inline void add_cors(std::string& header_lines, const cors_policy& p, const request& r) {
  detail::add_cors(header_lines, p, r, p.on_every_answer);
}

/// The answer to OPTIONS, for a browser's preflight and for anybody else who asks. An origin that
/// is not allowed gets it without CORS headers, which is a refusal to the browser.
[[nodiscard]] inline response preflight(const cors_policy& p, const request& r, int status = 204) {
  response out{.status = status};
  out.add("Allow", p.methods);
  if (detail::add_cors(out.headers, p, r, true))
    out.add("Access-Control-Max-Age", std::to_string(p.max_age));
  return out;
}

// --- who was asked

/// Host and port that the request was sent to: the absolute target's, else ":authority" (HTTP/2),
/// else Host (RFC 9112 3.2.2). Empty: unknown, or the header came twice.
[[nodiscard]] constexpr std::string_view host_of(const request& r) noexcept {
  detail::target_parts parts;
  if (detail::split_target(r.method, r.target, parts) && !parts.authority.empty())
    return parts.authority;
  return r.only_value(r.find(":authority") != nullptr ? ":authority" : "Host");
}

/// The host names of a server that only its own machine should reach.
inline constexpr std::string_view loopback_hosts[] = {"localhost", "127.0.0.1", "[::1]"};

/// Whether the request was sent to one of these names, whatever the port; if not: 403 or 421. Names
/// compare without case; an IPv6 address stands in brackets; "*" allows all. A page of a hostile
/// site whose name suddenly resolves to this machine still sends the site's own name, and fails
/// here.
[[nodiscard]] constexpr bool host_allowed(
    const request& r, std::span<const std::string_view> hosts = loopback_hosts) noexcept {
  std::string_view host = host_of(r);
  const std::size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) {
    for (const char c : host.substr(colon + 1)) {
      if (!detail::text::is_digit(c)) return false;
    }
    host = host.substr(0, colon);
  }
  for (const std::string_view h : hosts) {
    if (h == "*" || (!host.empty() && detail::text::equal_fold(h, host))) return true;
  }
  return false;
}

/// Whether a request that changes something, or comes with cookies, may be served: no Origin (not a
/// page of another origin), an http or https Origin whose host and port are the request's own, or
/// one that the policy allows; if not: 403.
[[nodiscard]] constexpr bool origin_allowed(const cors_policy& p, const request& r) noexcept {
  if (r.find("Origin") == nullptr) return true;
  const std::string_view origin = r.only_value("Origin");
  if (validate(p) == cors_error::none && !detail::allowed_origin(p, r).empty()) return true;
  const std::size_t scheme = detail::text::starts_fold(origin, "http://")    ? 7
                             : detail::text::starts_fold(origin, "https://") ? 8
                                                                             : 0;
  const std::string_view host = host_of(r);
  return scheme != 0 && !host.empty() && detail::text::equal_fold(origin.substr(scheme), host);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_CORS_HPP
// ---- sse/detail/server/routes.hpp
//
// Which handler answers which path, and what the options of a server look like once they own their
// text. Include the header of a host.
#ifndef SSEHUB_DETAIL_SERVER_ROUTES_HPP
#define SSEHUB_DETAIL_SERVER_ROUTES_HPP

#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

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

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

namespace detail {

struct channel_hash {
  [[nodiscard]] std::size_t operator()(channel c) const noexcept {
    return std::hash<std::uint64_t>{}(c.number());
  }
};

struct owned_head {
  explicit owned_head(const http1::stream_head& h)
      : head{h}, type{h.content_type}, cache{h.cache_control}, extra{h.extra} {}

  [[nodiscard]] http1::stream_head view(std::string_view lines) const noexcept {
    http1::stream_head h = head;
    h.content_type = type;
    h.cache_control = cache;
    h.extra = lines;
    return h;
  }

  http1::stream_head head;
  std::string type;
  std::string cache;
  std::string extra;
};

struct owned_texts {
  owned_texts() = default;
  template <class Range>
  explicit owned_texts(const Range& r)
      : texts(r.begin(), r.end()), views(texts.begin(), texts.end()) {}
  owned_texts(const owned_texts&) = delete;
  owned_texts& operator=(const owned_texts&) = delete;

  std::vector<std::string> texts;
  std::vector<std::string_view> views;
};

struct owned_cors {
  explicit owned_cors(const cors_policy& p)
      : origins{p.origins}, methods{p.methods}, headers{p.headers}, expose{p.expose}, policy{p} {
    policy.origins = origins.views;
    policy.methods = methods;
    policy.headers = headers;
    policy.expose = expose;
  }
  owned_cors(const owned_cors&) = delete;
  owned_cors& operator=(const owned_cors&) = delete;

  owned_texts origins;
  std::string methods;
  std::string headers;
  std::string expose;
  cors_policy policy;
};

/// The policy, but for pages of any origin.
[[nodiscard]] inline cors_policy for_any_origin(cors_policy p) noexcept {
  static constexpr std::string_view any[] = {"*"};
  p.origins = any;
  p.credentials = false;
  return p;
}

/// What answers one method of one path: exactly one of the four functions is there.
template <class User>
struct http_endpoint {
  function<response(const request&, std::string_view body)> answer{};
  function<void(const request&, std::string_view body, responder)> later{};
  function<verdict<User>(const request&, std::string_view body)> stream{};
  function<void(const request&, std::string_view body, stream_responder<User>)> later_stream{};
  std::unique_ptr<owned_head> head{};  ///< of the stream; nullptr: the server's
  channel bound{};                     ///< what stream(path, channel) named
  bool takes_body = false;
};

enum class http_method : std::uint8_t { get, post, put, del, other };

[[nodiscard]] constexpr http_method method_of(std::string_view m) noexcept {
  if (m == "GET" || m == "HEAD") return http_method::get;
  if (m == "POST") return http_method::post;
  if (m == "PUT") return http_method::put;
  return m == "DELETE" ? http_method::del : http_method::other;
}

template <class User>
struct http_route {
  using endpoint = http_endpoint<User>;
  std::array<std::shared_ptr<endpoint>, 4> by_method{};

  [[nodiscard]] std::shared_ptr<endpoint> find(std::string_view method) const noexcept {
    const http_method m = method_of(method);
    return m == http_method::other ? nullptr : by_method[static_cast<std::size_t>(m)];
  }
  [[nodiscard]] std::string allow() const {
    static constexpr std::string_view names[] = {"GET, HEAD, ", "POST, ", "PUT, ", "DELETE, "};
    std::string out;
    for (std::size_t i = 0; i < by_method.size(); ++i) {
      if (by_method[i] != nullptr) out.append(names[i]);
    }
    return out.append("OPTIONS");
  }
};

/// The exact path decides, else the longest prefix.
template <class User>
class http_routes {
 public:
  using route = http_route<User>;
  using endpoint = http_endpoint<User>;

  void add(http_method m, bool prefix, std::string_view path, std::shared_ptr<endpoint> e) {
    if (e->bound) bound_.emplace(e->bound, place{prefix, std::string{path}});
    route& r = prefix ? prefixes_[std::string{path}] : exact_[std::string{path}];
    std::swap(r.by_method[static_cast<std::size_t>(m)], e);
    if (e != nullptr) unbind(*e, prefix, path);
  }
  bool remove(bool prefix, std::string_view path) noexcept {
    return prefix ? remove_from(prefixes_, true, path) : remove_from(exact_, false, path);
  }
  /// Takes out what stream(path, channel) bound to this channel.
  void remove(channel c) noexcept {
    for (auto at = bound_.find(c); at != bound_.end(); at = bound_.find(c)) {
      const place p = std::move(at->second);
      bound_.erase(at);
      if (p.prefix) {
        unbind_from(prefixes_, c, p.path);
      } else {
        unbind_from(exact_, c, p.path);
      }
    }
  }
  [[nodiscard]] const route* find(std::string_view path) const noexcept {
    if (const auto at = exact_.find(path); at != exact_.end()) return &at->second;
    for (;;) {
      auto at = prefixes_.upper_bound(path);
      if (at == prefixes_.begin()) return nullptr;
      const std::string_view below = (--at)->first;
      if (path.starts_with(below)) return &at->second;
      // Every prefix of the path lies below that one, so it is one of what the two have in common.
      std::size_t common = 0;
      while (path[common] == below[common]) ++common;
      path = path.substr(0, common);
    }
  }
  void clear() noexcept {
    exact_.clear();
    prefixes_.clear();
    bound_.clear();
  }

 private:
  struct place {
    bool prefix = false;
    std::string path{};
  };
  struct text_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view s) const noexcept {
      return std::hash<std::string_view>{}(s);
    }
  };

  template <class Routes>
  bool remove_from(Routes& routes, bool prefix, std::string_view path) noexcept {
    const auto at = routes.find(path);
    if (at == routes.end()) return false;
    for (const std::shared_ptr<endpoint>& e : at->second.by_method) {
      if (e != nullptr) unbind(*e, prefix, path);
    }
    routes.erase(at);
    return true;
  }
  /// The endpoint leaves this path.
  void unbind(const endpoint& e, bool prefix, std::string_view path) noexcept {
    const auto [first, last] = bound_.equal_range(e.bound);
    for (auto at = first; at != last; ++at) {
      if (at->second.prefix == prefix && at->second.path == path) {
        bound_.erase(at);
        return;
      }
    }
  }
  /// The channel leaves this path.
  template <class Routes>
  static void unbind_from(Routes& routes, channel c, std::string_view path) noexcept {
    const auto at = routes.find(path);
    if (at == routes.end()) return;
    bool left = false;
    for (std::shared_ptr<endpoint>& e : at->second.by_method) {
      if (e != nullptr && e->bound == c) e = nullptr;
      left = left || e != nullptr;
    }
    if (!left) routes.erase(at);
  }

  std::unordered_map<std::string, route, text_hash, std::equal_to<>> exact_;
  std::map<std::string, route, std::less<>> prefixes_;
  std::unordered_multimap<channel, place, channel_hash> bound_;  // what stream(path, channel) named
};

}  // namespace detail

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_DETAIL_SERVER_ROUTES_HPP
// ---- sse/mailbox.hpp
//
// mailbox: the only door for other threads. A publisher copies an event into its own lane: no lock,
// no allocation (mailbox_options::room_at_once); the hub's thread drains the lanes and publishes.
// Not needed, and slower, where the hub's own thread publishes.
//
//   sse::mailbox mail{{.wake = &wake_loop, .context = &loop}};
//   sse::publisher quotes = mail.make_publisher(token_of_channel);  // any thread; then its own
//   if (!quotes.try_publish(json)) ++refused;
//   mail.drain([&](const sse::mail& m) {  // the hub's thread
//     (void)hub.publish(channel_of(m.target), m.event, m.options);
//   });
//   if (mail.prepare_sleep()) wait_for_events(), mail.awake();
//
// Threads: drain, prepare_sleep, awake, close, counts and destruction of a mailbox belong to one
// thread, the hub's. make_publisher and publisher::counts may be called from any thread. The rest
// of a publisher belongs to one thread at a time. It may be destroyed before or after the mailbox;
// what it published before is still drained. After close() or the mailbox's end its calls answer
// `closed`. make_publisher must not run while the mailbox is being destroyed.
//
// Order: first in, first out per publisher; publishers are served in turn. Full: nothing is dropped
// in silence, the call answers `full`, and every publisher counts exactly what was accepted and
// what was refused.
//
// Cost: a drain and a prepare_sleep look only at lanes that had mail lately, however many there
// are. How the two sides find each other, and why no wake-up is lost: detail/mail/lane.hpp.
//
// Invariant: `wake` is never called after close() returned.
#ifndef SSEHUB_MAILBOX_HPP
#define SSEHUB_MAILBOX_HPP

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

// ---- sse/detail/mail/lane.hpp
//
// A lane of a mailbox: a queue of records with one writer, the publisher, and one reader, the
// mailbox, and what makes the reader look into it. Include sse/mailbox.hpp.
//
// Invariants:
// 1. Only the writer writes `tail`, only the reader `head`. A ring's free part, from `tail` to
//    `head`, is the writer's to scribble on.
// 2. A record never wraps: what is left at the end of the ring is skipped by a mark. A record takes
//    at most half of the lane, so that one that is not too large fits once the lane is drained.
// 3. A lane is listed or at rest. Listed: it is in mail_hub::ready or in the reader's circle, or
//    its writer is just putting it there; the reader looks into it. At rest: nobody does.
//    - Committing stores `tail`, then reads `listed`; going to rest stores `listed`, then reads
//      `tail`. All four are sequentially consistent, so one of the two sides sees the other: either
//      the writer lists the lane, or the reader finds the mail and keeps the lane.
//    - Whoever turns `listed` from false to true, by an exchange, is alone with that: the writer
//      pushes the lane onto `ready`, the reader keeps it in its circle. So a lane is never in both.
//    - The same for `gone`, after which nothing is committed.
// 4. Listing for mail pushes onto `ready`, then reads `sleeping`; going to sleep stores `sleeping`,
//    then reads `ready`, and lets all lanes of the circle go to rest. Sequentially consistent
//    again: a lane that the reader did not see there, or found at rest by its writer after that,
//    calls wake. A writer that finds its lane listed need not look at `sleeping`: it pushed the
//    lane itself earlier, and looked then, or the reader kept it because of mail, and does not
//    sleep.
// 5. With wake_mode::never the writer has no barrier between `tail` and `listed`: its store may
//    become visible after the reader has looked and let the lane go to rest. The reader therefore
//    looks at one lane of all in each drain, listed or not: what was missed is found at the latest
//    after as many drains as there are lanes.
// 6. A lane that may climb has a small ring, home, and takes a large one, high, when more waits
//    than home holds; a mark in home says where. `claim` says whose high is: odd while the writer
//    has records in it that are not committed, even while it has not, 0 once the reader took it.
//    The reader takes it by an exchange that fails if the writer claimed it since the reader found
//    the lane empty, so both begin at home again, at the same position, and high is the reader's
//    to free.
// 7. A lane is freed by the last of its two sides.
#ifndef SSEHUB_DETAIL_MAIL_LANE_HPP
#define SSEHUB_DETAIL_MAIL_LANE_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

// ---- sse/mail.hpp
//
// mail: what comes out of a mailbox (sse/mailbox.hpp), how much of it there was, and how a mailbox
// is set up.
#ifndef SSEHUB_MAIL_HPP
#define SSEHUB_MAIL_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Of a lane that serves several channels: the highest number that one can have.
inline constexpr std::uint16_t max_mail_channel = 0x1fff;

/// What the hub's thread gets: what the publisher gave, for `hub.publish(channel, m.event,
/// m.options)`. Views are valid during the call.
struct mail {
  std::uint64_t target = 0;   ///< as given to make_publisher
  std::uint16_t channel = 0;  ///< as given to try_publish
  sse::event event{};         ///< as given to try_publish
  publish_options options{};  ///< as given to try_publish
};

/// When a publisher calls mailbox_options::wake.
enum class wake_mode : std::uint8_t {
  when_idle,  ///< when mail meets a prepare_sleep: at most once for each
  never,      ///< the loop polls, busily or at a pace; publishing is cheaper by a memory barrier
};

/// How large the lanes are, and how the hub's thread is woken.
struct mailbox_options {
  /// Ends the hub thread's sleep: called on a publisher's thread. It must be sticky: if it comes
  /// just before the loop really waits, that wait ends at once (eventfd, asio::post). It must not
  /// destroy the mailbox. Default: none.
  void (*wake)(void* context) noexcept = nullptr;
  void* context = nullptr;                ///< for wake; must live until close() has returned
  wake_mode mode = wake_mode::when_idle;  ///< when `wake` is called
  encode_limits limits{};  ///< what the hub would refuse is refused here; `id` is not used
  /// Bytes that lanes have from the start, all together: their publishers never allocate. A lane
  /// beyond that has 4 KiB, takes the rest of its room when more waits, by an allocation in the
  /// publisher's call (memory out: `full`), and gives it back once it was drained.
  std::size_t room_at_once = std::size_t{4} << 20;
};

/// Exact counts of one publisher, or the sum over all publishers of a mailbox. One count per call.
struct mail_counts {
  std::uint64_t accepted = 0;   ///< calls that put an event into a lane
  std::uint64_t full = 0;       ///< refused: no room
  std::uint64_t too_large = 0;  ///< refused: beyond the limits, or no lane could take it
  std::uint64_t invalid = 0;    ///< the rest of publish_error: not an event of this lane
  std::uint64_t closed = 0;     ///< without those of a publisher that never had a lane

  /// All that were not accepted.
  [[nodiscard]] constexpr std::uint64_t refused() const noexcept {
    return full + too_large + invalid + closed;
  }
  friend constexpr bool operator==(const mail_counts&, const mail_counts&) noexcept = default;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_MAIL_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

inline constexpr std::size_t cache_line = 64;
struct mail_lane;

/// What publishers and the hub's thread share; freed by the last of them.
struct mail_hub {
  explicit mail_hub(const mailbox_options& o) noexcept : options{o} {}

  const mailbox_options options;
  std::atomic<std::uint32_t> refs{1};
  std::atomic<bool> closed{false};
  std::atomic<std::size_t> room_at_once{0};  // of the lanes that have theirs from the start
  alignas(cache_line) std::atomic<mail_lane*> arrivals{nullptr};  // made, not yet met by the reader
  std::atomic<mail_lane*> ready{nullptr};  // listed, not yet in the reader's circle; newest first
  alignas(cache_line) std::atomic<std::uint32_t> sleeping{0};
  std::atomic<std::uint32_t> wakers{0};  // publishers that may be inside options.wake

  static void release(mail_hub* h) noexcept {
    if (h->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete h;
  }

  /// Called after a lane was listed while the loop slept. Of all who did, one wakes it.
  void wake() noexcept {
    wakers.fetch_add(1, std::memory_order_seq_cst);
    if (!closed.load(std::memory_order_seq_cst) &&
        sleeping.exchange(0, std::memory_order_seq_cst) != 0 && options.wake != nullptr) {
      options.wake(options.context);
    }
    wakers.fetch_sub(1, std::memory_order_seq_cst);
    if (closed.load(std::memory_order_seq_cst)) wakers.notify_all();
  }

  /// No wake() calls the host any more once this returns.
  void close() noexcept {
    closed.store(true, std::memory_order_seq_cst);
    for (std::uint32_t n; (n = wakers.load(std::memory_order_seq_cst)) != 0;) {
      wakers.wait(n, std::memory_order_seq_cst);
    }
  }
};

/// Which of a lane's counts, or of mail_counts, tells of this outcome.
template <class Counts>
[[nodiscard]] constexpr auto& count_of(Counts& c, publish_error e) noexcept {
  switch (e) {
    case publish_error::none: return c.accepted;
    case publish_error::full: return c.full;
    case publish_error::too_large: return c.too_large;
    case publish_error::closed: return c.closed;
    default: return c.invalid;
  }
}

/// In front of every record; all records are a multiple of 8 bytes long.
struct mail_header {
  /// Of the whole record. An odd one is a mark: that many bytes less one are skipped; 1: the lane
  /// goes on in its high ring.
  std::uint32_t size = 0;
  std::uint32_t data = 0;  ///< bytes of it, and retry_flag
  event_id id = no_id;
  std::uint16_t type = 0;
  std::uint16_t audience = 0;
  std::uint16_t key = 0;    // bytes of it, and above them its role
  std::uint16_t flags = 0;  // transient, encoded, last, and the channel above them

  static constexpr std::uint16_t transient_flag = 1;
  static constexpr std::uint16_t encoded_flag = 2;
  static constexpr std::uint16_t last_flag = 4;
  static constexpr unsigned role_shift = 14;
  static_assert(max_key_bytes == (1U << role_shift) - 1);
  static constexpr unsigned channel_shift = 3;
  static_assert(max_mail_channel == 0xffffU >> channel_shift);
  static constexpr std::uint32_t climb_mark = 1;
  /// The event's retry stands behind the header. A record has at most half a GiB.
  static constexpr std::uint32_t retry_flag = 0x8000'0000;
};
static_assert(sizeof(mail_header) == 24);

/// One side's view of the ring that it is in. Positions only rise.
struct mail_ring {
  char* memory = nullptr;
  std::size_t mask = 0;
  std::size_t base = 0;   // the position of the first byte
  std::size_t spare = 0;  // bytes that records leave free, for the mark where the lane climbs

  [[nodiscard]] char* at(std::size_t position) const noexcept {
    return memory + ((position - base) & mask);
  }
  [[nodiscard]] std::size_t size() const noexcept { return mask + 1; }
  [[nodiscard]] std::size_t to_end(std::size_t position) const noexcept {
    return size() - ((position - base) & mask);
  }
};

struct mail_lane {
  /// What a lane has that does not have all its room from the start.
  static constexpr std::size_t home_size = 4096;

  mail_lane(mail_hub* h, char* memory, std::size_t home, std::size_t bytes,
            std::uint64_t to) noexcept
      : hub{h},
        home_ring{memory, home - 1, 0, home == bytes ? 0 : climb_step},
        capacity{bytes},
        target{to},
        out{home_ring},
        in{home_ring} {}
  mail_lane(const mail_lane&) = delete;
  mail_lane& operator=(const mail_lane&) = delete;
  ~mail_lane() {
    if (claim.load(std::memory_order_relaxed) != 0) free_ring(out.memory);
    free_ring(home_ring.memory);
  }

  /// `home`: the size of its first ring; both sizes powers of two, home at most half of `bytes` or
  /// all of them.
  static mail_lane* make(mail_hub* hub, std::size_t home, std::size_t bytes,
                         std::uint64_t target) noexcept {
    char* const memory = make_ring(home);
    if (memory == nullptr) return nullptr;
    auto* const lane = new (std::nothrow) mail_lane{hub, memory, home, bytes, target};
    if (lane == nullptr) free_ring(memory);
    return lane;
  }
  static void release(mail_lane* l) noexcept {
    if (l->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete l;
  }

  // --- the writer's side

  /// Memory for a record of `bytes`, a multiple of 8 of at most half the lane; nullptr if it is
  /// full.
  [[nodiscard]] char* reserve(std::size_t bytes) noexcept {
    if (out.memory != home_ring.memory) hold();
    char* place = find_room(bytes);
    while (place == nullptr && out.spare != 0 && climb()) place = find_room(bytes);
    return place;
  }

  /// The record at what reserve gave is complete.
  void append(const mail_header& h) noexcept {
    if (skipped != 0) {
      const auto mark = static_cast<std::uint32_t>(skipped | 1);
      std::memcpy(out.at(written), &mark, sizeof mark);
    }
    ::new (static_cast<void*>(out.at(written + skipped))) mail_header(h);
    written += skipped + h.size;
    if (batches == 0) commit();
    own_next();
  }

  /// Shows the reader what was appended; lists the lane, and wakes the reader if it sleeps.
  void commit() noexcept {
    const bool never = hub->options.mode == wake_mode::never;
    const bool fresh = tail.load(std::memory_order_relaxed) != written;
    if (fresh && never) tail.store(written, std::memory_order_release);
    if (fresh && !never) tail.store(written, std::memory_order_seq_cst);
    if (held) {
      held = false;
      claim.store(++claims, std::memory_order_release);
    }
    if (!fresh) return;
    if (never) {
      if (!listed.load(std::memory_order_relaxed)) list();
    } else if (!listed.load(std::memory_order_seq_cst) && list() &&
               hub->sleeping.load(std::memory_order_seq_cst) != 0) {
      hub->wake();
    }
  }

  /// Nothing comes any more; the reader is to free its side.
  void leave() noexcept {
    commit();
    gone.store(true, std::memory_order_seq_cst);
    list();  // that can wait until the reader wakes up for mail
  }

  // One writer: no read-modify-write needed.
  static void count(std::atomic<std::uint64_t>& n) noexcept {
    n.store(n.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  publish_result done(publish_error e) noexcept {
    if (held && batches == 0) commit();  // it was refused: nothing keeps the high ring
    count(count_of(*this, e));
    return {no_id, e};
  }
  [[nodiscard]] mail_counts counts() const noexcept {
    constexpr auto relaxed = std::memory_order_relaxed;
    return {accepted.load(relaxed), full.load(relaxed), too_large.load(relaxed),
            invalid.load(relaxed), closed.load(relaxed)};
  }

  // --- the reader's side

  /// Gives up to `most` records below `limit` to f; returns how many it took. One that it did not
  /// take stays, and `stopped` is set.
  template <class F>
  std::size_t take(F& f, std::size_t most, bool& stopped) noexcept {
    std::size_t taken = 0;
    std::size_t at = read;
    while (taken != most && at != limit) {
      const char* p = in.at(at);
      std::uint32_t size;
      std::memcpy(&size, p, sizeof size);
      if (size == mail_header::climb_mark) {
        at += climb_step;
        in = {high, capacity - 1, at, 0};
        continue;
      }
      if ((size & 1) != 0) {
        at += size - 1;
        continue;
      }
      mail_header h;
      std::memcpy(&h, p, sizeof h);
      p += sizeof h;
      std::int64_t retry = no_retry;
      if ((h.data & mail_header::retry_flag) != 0) {
        std::memcpy(&retry, p, sizeof retry);
        p += sizeof retry;
      }
      const char* const audience = p + h.type;
      const std::string_view key{audience + h.audience, h.key & max_key_bytes};
      const mail m{
          .target = target,
          .channel = static_cast<std::uint16_t>(h.flags >> mail_header::channel_shift),
          .event = {.type = {p, h.type},
                    .data = {key.data() + key.size(), h.data & ~mail_header::retry_flag},
                    .retry = retry},
          .options = {.id = h.id,
                      .audience = {audience, h.audience},
                      .transient = (h.flags & mail_header::transient_flag) != 0,
                      .key = key,
                      .role = key_role_of(static_cast<unsigned>(h.key) >> mail_header::role_shift),
                      .encoded = (h.flags & mail_header::encoded_flag) != 0,
                      .last = (h.flags & mail_header::last_flag) != 0},
      };
      if constexpr (std::is_same_v<std::invoke_result_t<F&, const mail&>, bool>) {
        stopped = !f(m);
        if (stopped) break;
      } else {
        f(m);
      }
      at += h.size;
      ++taken;
    }
    if (at != read) {
      read = at;
      head.store(at, std::memory_order_release);
    }
    return taken;
  }

  [[nodiscard]] bool has_mail() const noexcept {
    return tail.load(std::memory_order_seq_cst) != read;
  }

  /// True: it is not the reader's to look into any more, until it is in mail_hub::ready. False: it
  /// has mail, or its publisher is gone. REQUIRES: it is in the circle.
  [[nodiscard]] bool rest() noexcept {
    SSEHUB_ASSERT(listed.load(std::memory_order_relaxed));
    if (has_mail()) return false;
    give_back();
    listed.store(false, std::memory_order_seq_cst);
    if (!has_mail() && !gone.load(std::memory_order_seq_cst)) return true;
    return !take_up();
  }

  /// It is at rest and was not listed meanwhile: it belongs into the circle now.
  [[nodiscard]] bool take_up() noexcept {
    return !listed.exchange(true, std::memory_order_seq_cst);
  }

 private:
  static constexpr std::size_t climb_step = 8;

  static char* make_ring(std::size_t bytes) noexcept {
    return static_cast<char*>(::operator new (bytes, std::align_val_t{cache_line}, std::nothrow));
  }
  static void free_ring(char* memory) noexcept {
    ::operator delete (memory, std::align_val_t{cache_line});
  }

  /// False: it was listed.
  bool list() noexcept {
    if (listed.exchange(true, std::memory_order_seq_cst)) return false;
    ready_next = hub->ready.load(std::memory_order_relaxed);
    while (!hub->ready.compare_exchange_weak(ready_next, this, std::memory_order_seq_cst)) {
    }
    return true;
  }

  [[nodiscard]] char* find_room(std::size_t bytes) noexcept {
    const std::size_t to_end = out.to_end(written);
    skipped = to_end < bytes ? to_end : 0;
    const std::size_t need = skipped + bytes + out.spare;
    if (out.size() - (written - seen_head) < need) {
      seen_head = head.load(std::memory_order_acquire);
      if (out.size() - (written - seen_head) < need) return nullptr;
    }
    return out.at(written + skipped);
  }

  /// Goes on in a high ring. False: memory is out.
  [[nodiscard]] bool climb() noexcept {
    char* const memory = make_ring(capacity);
    if (memory == nullptr) return false;
    high = memory;
    constexpr std::uint32_t mark = mail_header::climb_mark;
    std::memcpy(out.at(written), &mark, sizeof mark);
    written += climb_step;
    out = {memory, capacity - 1, written, 0};
    claims = 1;
    claim.store(claims, std::memory_order_relaxed);
    held = true;
    return true;
  }

  /// Keeps the high ring until the next commit; if the reader took it, back to home.
  void hold() noexcept {
    if (held) return;
    std::uint64_t seen = claims;
    held = claim.compare_exchange_strong(seen, claims + 1, std::memory_order_acq_rel);
    if (held) {
      ++claims;
    } else {
      out = home_ring;
      out.base = seen_head = written;
    }
  }

  /// Takes the cache lines of the next record back from the reader, while the publisher does other
  /// work.
  void own_next() noexcept {
    constexpr std::size_t lines = 4;
    if (out.memory != home_ring.memory) return;  // not held any more
    if (out.size() - (written - seen_head) < lines * cache_line) return;
    for (std::size_t i = 0; i != lines; ++i) *out.at(written + i * cache_line) = 0;
  }

  /// The reader's: frees the high ring if nothing lies in it.
  void give_back() noexcept {
    if (in.memory == home_ring.memory) return;
    std::uint64_t seen = claim.load(std::memory_order_acquire);
    if ((seen & 1) != 0 || tail.load(std::memory_order_acquire) != read ||
        !claim.compare_exchange_strong(seen, 0, std::memory_order_acq_rel)) {
      return;
    }
    free_ring(in.memory);
    in = home_ring;
    in.base = read;
  }

 public:
  // Constant, or rarely written.
  mail_hub* const hub;
  const mail_ring home_ring;
  const std::size_t capacity;
  const std::uint64_t target;
  char* high = nullptr;  // the writer's, and after a climb_mark the reader's to read
  std::atomic<std::uint32_t> refs{2};
  std::atomic<bool> gone{false};  // the publisher was destroyed; nothing more will come

  // The writer's, but rarely written.
  mail_ring out;
  std::atomic<std::uint64_t> full{0}, too_large{0}, invalid{0}, closed{0};
  std::atomic<std::uint64_t> claim{0};
  std::uint64_t claims = 0;         // what the writer last stored there
  mail_lane* ready_next = nullptr;  // in mail_hub::ready

  // What the writer writes each time, and `listed`, which is written by both when a lane wakes up
  // or goes to rest: one line, since each that the reader's processor took back costs a publish.
  alignas(cache_line) std::atomic<std::size_t> tail{0};
  std::atomic<bool> listed{false};
  bool held = false;  // the high ring
  std::uint32_t batches = 0;
  std::size_t written = 0;    // ahead of tail inside a batch
  std::size_t seen_head = 0;  // head, when it was last looked at
  std::size_t skipped = 0;    // by the last reserve
  std::atomic<std::uint64_t> accepted{0};

  // The reader's.
  alignas(cache_line) std::atomic<std::size_t> head{0};
  std::size_t read = 0;   // head
  std::size_t limit = 0;  // tail, when this drain began
  mail_ring in;
  bool last = false;           // nothing comes after limit
  std::uint32_t idle = 0;      // drains in a row that found nothing
  mail_lane* next = nullptr;   // in the circle of those that are looked into
  mail_lane* newer = nullptr;  // in the circle of all; before that, in mail_hub::arrivals
  mail_lane* older = nullptr;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_MAIL_LANE_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

namespace detail {
template <class W>
inline constexpr bool nothrow_writer = std::is_nothrow_invocable_v<W&, char*, std::size_t>;
}  // namespace detail

/// What try_emplace calls: writes at most `room` bytes at `out` and returns how many it wrote, or,
/// if that is more than `room`, how many it would have needed.
template <class W>
concept mail_writer = requires(W& write, char* out, std::size_t room) {
  { write(out, room) } -> std::convertible_to<std::size_t>;
};

/// Commits all that its publisher accepts while it lives at once, when it ends: one barrier and at
/// most one wake-up for all. Until then the hub sees none of it, and the lane has to hold all of
/// it. Must not outlive the publisher.
class [[nodiscard]] publish_batch {
 public:
  publish_batch(publish_batch&& other) noexcept : lane_{std::exchange(other.lane_, nullptr)} {}
  publish_batch& operator=(publish_batch&&) = delete;
  ~publish_batch() {
    if (lane_ != nullptr && --lane_->batches == 0) lane_->commit();
  }

  /// Shows the hub what there is so far, for instance after `full`.
  void commit() noexcept {
    if (lane_ != nullptr) lane_->commit();
  }

 private:
  friend class publisher;
  explicit publish_batch(detail::mail_lane* lane) noexcept : lane_{lane} {
    if (lane_ != nullptr) ++lane_->batches;
  }
  detail::mail_lane* lane_;
};

/// One thread's way into a mailbox. Made by mailbox::make_publisher; movable; a default-made one is
/// closed.
class publisher {
 public:
  publisher() noexcept = default;
  publisher(publisher&& other) noexcept : lane_{std::exchange(other.lane_, nullptr)} {}
  publisher& operator=(publisher&& other) noexcept {
    publisher moved{std::move(other)};
    std::swap(lane_, moved.lane_);
    return *this;
  }
  ~publisher() {
    if (lane_ == nullptr) return;
    detail::mail_hub* const hub = lane_->hub;
    lane_->leave();
    detail::mail_lane::release(lane_);
    detail::mail_hub::release(hub);
  }

  /// False: every call answers `closed`.
  [[nodiscard]] explicit operator bool() const noexcept {
    return lane_ != nullptr && !lane_->hub->closed.load(std::memory_order_relaxed);
  }

  /// An unnamed event for everyone. Never blocks or locks; allocates only as
  /// mailbox_options::room_at_once says. Accepted: in the lane; it will be drained.
  [[nodiscard]] publish_result try_publish(std::string_view data) noexcept {
    return try_publish(event{.data = data});
  }

  /// The same with everything an event can have. `channel`: for a lane that serves several, at most
  /// max_mail_channel.
  [[nodiscard]] publish_result try_publish(const event& e, const publish_options& o = {},
                                           std::uint16_t channel = 0) noexcept {
    if (lane_ == nullptr) return {no_id, publish_error::closed};
    return lane_->done(put({e, o, channel}));
  }

  /// What try_publish of the same would answer now; counts nothing. `none` stays true, but for
  /// `closed`, until something else is published here: what must go into several lanes or into none
  /// asks all first.
  [[nodiscard]] publish_error room_for(const event& e, const publish_options& o = {},
                                       std::uint16_t channel = 0) const noexcept {
    if (lane_ == nullptr) return publish_error::closed;
    return may_put({e, o, channel});
  }

  /// Formats the data in place, if the lane has room for `max` bytes: `write(char* out, std::size_t
  /// max)` writes at most `max` bytes and returns how many, or more than `max` if that was not
  /// enough: the answer is then too_large. If it throws, that goes through. Nothing is published in
  /// either case. `write` must not use this publisher.
  template <mail_writer W>
  [[nodiscard]] publish_result try_emplace(std::size_t max,
                                           W&& write) noexcept(detail::nothrow_writer<W>) {
    return try_emplace(event{}, {}, max, write);
  }

  /// The same with all of `e` but its data, and options.
  template <mail_writer W>
  [[nodiscard]] publish_result try_emplace(const event& e, const publish_options& o,
                                           std::size_t max,
                                           W&& write) noexcept(detail::nothrow_writer<W>) {
    if (lane_ == nullptr) return {no_id, publish_error::closed};
    return lane_->done(emplace({e, o, 0}, max, write));
  }

  /// Until the result ends, what is published is not shown to the hub.
  [[nodiscard]] publish_batch batch() noexcept { return publish_batch{lane_}; }

  /// Exact in the publisher's own thread, a moment old in any other.
  [[nodiscard]] mail_counts counts() const noexcept {
    return lane_ == nullptr ? mail_counts{} : lane_->counts();
  }

  /// The largest type, audience, key and data together that the lane takes, in bytes; a retry
  /// takes 8 of them.
  [[nodiscard]] std::size_t max_bytes() const noexcept {
    return lane_ == nullptr ? 0 : lane_->capacity / 2 - sizeof(detail::mail_header);
  }

 private:
  friend class mailbox;
  friend class sequencer;
  explicit publisher(detail::mail_lane* lane) noexcept : lane_{lane} {}

  [[nodiscard]] static constexpr std::size_t record_size(std::size_t bytes) noexcept {
    return (sizeof(detail::mail_header) + bytes + 7) & ~std::size_t{7};
  }

  /// What is put into the lane, as one.
  struct letter {
    const event& e;
    const publish_options& o;
    std::uint16_t channel;
  };

  [[nodiscard]] publish_error validate(const letter& l) const noexcept {
    const detail::mail_hub& hub = *lane_->hub;
    if (hub.closed.load(std::memory_order_relaxed)) return publish_error::closed;
    const std::size_t type = l.e.type.size();
    if (type > hub.options.limits.type || type > 0xffff || !detail::names_fit(l.o))
      return publish_error::too_large;
    if (!detail::is_field_text(l.e.type) || (l.o.encoded && type != 0))
      return publish_error::bad_type;
    if (!l.e.id.empty()) return publish_error::bad_id;
    if (l.e.retry < no_retry || (l.o.encoded && l.e.retry != no_retry))
      return publish_error::bad_retry;
    if (l.o.id > max_event_id) return publish_error::id_order;
    return l.channel <= max_mail_channel ? publish_error::none : publish_error::no_channel;
  }

  /// The encoded event is within the limits, with the longest id. Data is read only if its line
  /// ends could matter.
  [[nodiscard]] bool encodable(const letter& l, std::string_view data) const noexcept {
    constexpr std::size_t id_line = 4 + 16 + 1;
    constexpr std::size_t retry_line = 7 + 19 + 1;
    const std::size_t limit = lane_->hub->options.limits.event;
    if (l.o.encoded) return data.size() <= limit;
    const std::size_t fields = id_line + (l.e.type.empty() ? 0 : l.e.type.size() + 8) +
                               (l.e.retry == no_retry ? 0 : retry_line) + 1;
    if (fields > limit || data.size() > limit - fields) return false;
    if ((data.size() + 1) * 7 <= limit - fields) return true;
    const detail::line_count n = detail::count_lines(data);
    return n.lines * 7 + n.bytes <= limit - fields;
  }

  [[nodiscard]] static constexpr std::size_t field_bytes(const letter& l) noexcept {
    return l.e.type.size() + l.o.audience.size() + l.o.key.size() +
           (l.e.retry == no_retry ? 0 : sizeof l.e.retry);
  }

  [[nodiscard]] bool in_lane(const letter& l, std::size_t data) const noexcept {
    return data <= max_bytes() && field_bytes(l) <= max_bytes() - data;
  }

  /// Room for all fields; those in front of the data are written.
  [[nodiscard]] publish_error reserve(const letter& l, std::size_t data, char*& out) noexcept {
    if (!in_lane(l, data)) return publish_error::too_large;
    out = lane_->reserve(record_size(field_bytes(l) + data));
    if (out == nullptr) return publish_error::full;
    out += sizeof(detail::mail_header);
    if (l.e.retry != no_retry) {
      std::memcpy(out, &l.e.retry, sizeof l.e.retry);
      out += sizeof l.e.retry;
    }
    out = detail::put(out, l.e.type);
    out = detail::put(out, l.o.audience);
    out = detail::put(out, l.o.key);
    return publish_error::none;
  }

  void append(const letter& l, std::size_t data) noexcept {
    detail::mail_header h;
    h.size = static_cast<std::uint32_t>(record_size(field_bytes(l) + data));
    h.data = static_cast<std::uint32_t>(data) |
             (l.e.retry == no_retry ? 0 : detail::mail_header::retry_flag);
    h.id = l.o.id;
    h.type = static_cast<std::uint16_t>(l.e.type.size());
    h.audience = static_cast<std::uint16_t>(l.o.audience.size());
    h.key = static_cast<std::uint16_t>(l.o.key.size() | static_cast<unsigned>(l.o.role)
                                                            << detail::mail_header::role_shift);
    const unsigned flags = (l.o.transient ? detail::mail_header::transient_flag : 0U) |
                           (l.o.encoded ? detail::mail_header::encoded_flag : 0U) |
                           (l.o.last ? detail::mail_header::last_flag : 0U) |
                           static_cast<unsigned>(l.channel) << detail::mail_header::channel_shift;
    h.flags = static_cast<std::uint16_t>(flags);
    lane_->append(h);
  }

  [[nodiscard]] publish_error may_put(const letter& l) const noexcept {
    if (const publish_error bad = validate(l); bad != publish_error::none) return bad;
    if (!encodable(l, l.e.data) || !in_lane(l, l.e.data.size())) return publish_error::too_large;
    const bool room = lane_->reserve(record_size(field_bytes(l) + l.e.data.size())) != nullptr;
    return room ? publish_error::none : publish_error::full;
  }

  [[nodiscard]] publish_error put(const letter& l) noexcept {
    if (const publish_error bad = validate(l); bad != publish_error::none) return bad;
    return encodable(l, l.e.data) ? put_valid(l) : publish_error::too_large;
  }
  /// REQUIRES: it is valid and encodable, as may_put() says too.
  [[nodiscard]] publish_error put_valid(const letter& l) noexcept {
    char* out = nullptr;
    const publish_error bad = reserve(l, l.e.data.size(), out);
    if (bad != publish_error::none) return bad;
    detail::put(out, l.e.data);
    append(l, l.e.data.size());
    return publish_error::none;
  }

  template <class W>
  [[nodiscard]] publish_error emplace(const letter& l, std::size_t max,
                                      W& write) noexcept(detail::nothrow_writer<W>) {
    publish_error bad = validate(l);
    if (bad != publish_error::none) return bad;
    char* out = nullptr;
    if ((bad = reserve(l, max, out)) != publish_error::none) return bad;
    const auto size = static_cast<std::size_t>(write(out, max));
    if (size > max || !encodable(l, {out, size})) return publish_error::too_large;
    append(l, size);
    return publish_error::none;
  }

  detail::mail_lane* lane_ = nullptr;
};

/// All lanes, drained by the hub's thread.
class mailbox {
 public:
  static constexpr std::size_t default_lane = std::size_t{256} << 10;  ///< bytes
  /// For drain(): all that is there.
  static constexpr std::size_t unlimited = static_cast<std::size_t>(-1);

  /// If memory is out, its publishers answer closed.
  explicit mailbox(const mailbox_options& options = {}) noexcept
      : hub_{new (std::nothrow) detail::mail_hub{options}} {}
  mailbox(const mailbox&) = delete;
  mailbox& operator=(const mailbox&) = delete;

  /// What was not drained is lost: close(), drain() and then destroy.
  ~mailbox() {
    if (hub_ == nullptr) return;
    hub_->close();
    meet();
    while (all_ != nullptr) forget(all_);
    detail::mail_hub::release(hub_);
  }

  /// False: memory was out; all publishers will be closed.
  [[nodiscard]] explicit operator bool() const noexcept { return hub_ != nullptr; }

  /// A publisher for `target`, any value the host knows a channel by. `lane_bytes` is the room for
  /// mail that waits, rounded up to a power of two, 1 KiB to 1 GiB; one event takes at most half of
  /// it. Memory out: a closed publisher.
  [[nodiscard]] publisher make_publisher(std::uint64_t target,
                                         std::size_t lane_bytes = default_lane) noexcept {
    if (hub_ == nullptr) return {};
    std::size_t bytes = 1024;
    while (bytes < lane_bytes && bytes < (std::size_t{1} << 30)) bytes *= 2;
    const std::size_t home = room_from_start(bytes);
    detail::mail_lane* const lane = detail::mail_lane::make(hub_, home, bytes, target);
    if (lane == nullptr) {
      give_room_back(home);
      return {};
    }
    hub_->refs.fetch_add(1, std::memory_order_relaxed);
    lane->newer = hub_->arrivals.load(std::memory_order_relaxed);
    while (!hub_->arrivals.compare_exchange_weak(lane->newer, lane, std::memory_order_seq_cst)) {
    }
    return publisher{lane};
  }

  /// Calls f(const mail&) for what lies in the lanes now, at most `max_records` times, and returns
  /// how many records it took: all, unless f answers bool; false leaves that record where it is and
  /// ends the drain. What comes while it runs waits for the next drain. Frees the lanes of
  /// publishers that are gone. Means awake() too. f must not throw, and must not call this mailbox
  /// but for make_publisher; it may publish and destroy publishers.
  template <std::invocable<const mail&> F>
  std::size_t drain(F&& f, std::size_t max_records = unlimited) noexcept {
    constexpr std::size_t turn = 16;  // records of one lane in a row: fewer cache misses
    if (hub_ == nullptr) return 0;
    awake();
    take_up_listed();
    if (hub_->options.mode == wake_mode::never) look_at_one();
    mark_limits();
    std::size_t drained = 0;
    bool stopped = false;
    for (std::size_t empty = 0; empty < busy_ && drained != max_records && !stopped;) {
      detail::mail_lane& l = *cursor_->next;
      const std::size_t left = max_records - drained;
      drained += l.take(f, left < turn ? left : turn, stopped);
      const bool done = l.read == l.limit;
      empty = done ? empty + 1 : 0;
      if (done && l.last) {
        drop_next();
        empty = 0;
      } else {
        cursor_ = &l;
      }
    }
    drained_ += drained;
    return drained;
  }

  /// The loop is about to sleep. True: nothing lies in the lanes, and from now on the first mail
  /// calls wake; with wake_mode::never, which has to poll, mail of this moment may be overlooked.
  /// False: there is mail, drain again.
  [[nodiscard]] bool prepare_sleep() noexcept {
    if (hub_ == nullptr) return true;
    hub_->sleeping.store(1, std::memory_order_seq_cst);
    take_up_listed();
    while (cursor_ != nullptr) {
      detail::mail_lane& l = *cursor_->next;
      if (l.rest()) {
        unlink_next();
      } else if (l.has_mail()) {
        awake();
        return false;
      } else {
        drop_next();
      }
    }
    return true;
  }

  /// The loop runs again: no wake calls are needed.
  void awake() noexcept {
    if (hub_ != nullptr && hub_->sleeping.load(std::memory_order_relaxed) != 0) {
      hub_->sleeping.store(0, std::memory_order_relaxed);
    }
  }

  /// Publishers answer `closed` from now on, and wake is not called any more; waits for a wake call
  /// that is under way. What lies in the lanes can still be drained; a call that overlaps with this
  /// one may add its event or refuse it.
  void close() noexcept {
    if (hub_ != nullptr) hub_->close();
  }

  /// The sum over all publishers there have been; a moment old for those that are publishing.
  /// O(publishers).
  [[nodiscard]] mail_counts counts() noexcept {
    mail_counts sum = retired_;
    if (hub_ == nullptr) return sum;
    meet();
    detail::mail_lane* l = all_;
    if (l != nullptr) {
      do {
        add(sum, l->counts());
        l = l->newer;
      } while (l != all_);
    }
    return sum;
  }

  /// Records drained so far.
  [[nodiscard]] std::uint64_t drained() const noexcept { return drained_; }

 private:
  /// Drains in a row that find a lane empty until it goes to rest: a lane that is in use all the
  /// time is not listed anew for each event.
  static constexpr std::uint32_t patience = 64;

  static void add(mail_counts& sum, const mail_counts& n) noexcept {
    sum.accepted += n.accepted;
    sum.full += n.full;
    sum.too_large += n.too_large;
    sum.invalid += n.invalid;
    sum.closed += n.closed;
  }

  /// The size of a lane's first ring.
  [[nodiscard]] std::size_t room_from_start(std::size_t bytes) noexcept {
    if (bytes <= detail::mail_lane::home_size) return bytes;
    std::size_t n = hub_->room_at_once.load(std::memory_order_relaxed);
    do {
      if (n + bytes > hub_->options.room_at_once) return detail::mail_lane::home_size;
    } while (!hub_->room_at_once.compare_exchange_weak(n, n + bytes, std::memory_order_relaxed));
    return bytes;
  }
  void give_room_back(std::size_t home) noexcept {
    if (home <= detail::mail_lane::home_size) return;
    hub_->room_at_once.fetch_sub(home, std::memory_order_relaxed);
  }

  /// Takes lanes that are new into the circle of all.
  void meet() noexcept {
    if (hub_->arrivals.load(std::memory_order_seq_cst) == nullptr) return;
    detail::mail_lane* l = hub_->arrivals.exchange(nullptr, std::memory_order_seq_cst);
    while (l != nullptr) {
      detail::mail_lane* const next = l->newer;
      if (all_ == nullptr) {
        all_ = l->newer = l->older = l;
      } else {
        l->newer = all_;
        l->older = all_->older;
        l->older->newer = all_->older = l;
      }
      l = next;
    }
  }

  /// Takes lanes that were listed into the circle of those that are looked into, behind all others.
  void take_up_listed() noexcept {
    detail::mail_lane* l = nullptr;
    if (hub_->ready.load(std::memory_order_seq_cst) != nullptr) {
      l = hub_->ready.exchange(nullptr, std::memory_order_seq_cst);
    }
    meet();                               // after it: what is listed was made before
    detail::mail_lane* oldest = nullptr;  // newest first: turn them round
    while (l != nullptr) {
      l->next = oldest;
      oldest = std::exchange(l, l->ready_next);
    }
    while (oldest != nullptr) link(*std::exchange(oldest, oldest->next));
  }

  void link(detail::mail_lane& l) noexcept {
    l.idle = 0;
    if (cursor_ == nullptr) {
      l.next = &l;
    } else {
      l.next = std::exchange(cursor_->next, &l);
    }
    cursor_ = &l;
    ++busy_;
  }
  /// The lane after the cursor leaves the circle of those that are looked into.
  detail::mail_lane& unlink_next() noexcept {
    detail::mail_lane& l = *cursor_->next;
    cursor_->next = l.next;
    if (&l == cursor_) cursor_ = nullptr;
    --busy_;
    return l;
  }
  /// The same, and there is no more of it.
  void drop_next() noexcept { forget(&unlink_next()); }
  void forget(detail::mail_lane* l) noexcept {
    if (all_ == l) all_ = l->newer == l ? nullptr : l->newer;
    l->older->newer = l->newer;
    l->newer->older = l->older;
    add(retired_, l->counts());
    give_room_back(l->home_ring.size());
    detail::mail_lane::release(l);
  }

  /// What a drain is to take. Lanes that were empty for long go to rest.
  void mark_limits() noexcept {
    for (std::size_t i = busy_; i != 0; --i) {
      detail::mail_lane& l = *cursor_->next;
      l.last = l.gone.load(std::memory_order_acquire);  // before tail: after it nothing comes
      l.limit = l.tail.load(std::memory_order_acquire);
      const bool empty = l.limit == l.read && !l.last;
      l.idle = empty ? l.idle + 1 : 0;
      if (l.idle > patience && l.rest()) {
        unlink_next();
      } else {
        cursor_ = &l;
      }
    }
  }

  /// One lane of all in each drain: invariant 5 of detail/mail/lane.hpp.
  void look_at_one() noexcept {
    if (all_ == nullptr) return;
    all_ = all_->newer;
    if (!all_->listed.load(std::memory_order_relaxed) && all_->has_mail() && all_->take_up()) {
      link(*all_);
    }
  }

  detail::mail_hub* hub_;
  detail::mail_lane* all_ = nullptr;     // any lane of the circle of all
  detail::mail_lane* cursor_ = nullptr;  // the busy lane that was served last; its next is next
  std::size_t busy_ = 0;                 // lanes that are looked into
  mail_counts retired_{};
  std::uint64_t drained_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_MAILBOX_HPP
// ---- sse/server.hpp
//
// server: what all HTTP/1.1 servers of this library offer, whatever loop they run in: options,
// routes, pages, channels, hooks. Not to be used by itself: asio_server (sse/asio.hpp),
// epoll_server (sse/epoll.hpp) and uring_server (sse/io_uring.hpp) are such servers.
//
//   sse::channel ticks = server.open_channel("ticks");
//   server.stream("/events", ticks);
//   server.page("/", html);
//   if (auto e = server.listen("127.0.0.1", 8080)) return fail(e.message());
//   (void)server.publish(ticks, {.data = json});          // wherever the program has news
//
// Threads: everything belongs to the thread of the server's loop, but for publishers, which
// make_publisher makes on it for any other one.
//
// Errors: a server's constructor throws std::invalid_argument for options that cannot work;
// everything later is an error_code or goes to on_error. A handler that throws answers 500.
//
// Hooks: those outside a flush (handlers, on_refused, on_opened, on_closed, on_presence, on_access,
// on_error, on_channel_closed) may call anything of the server and its hub, also stop(), close()
// and revoke(): what they end is closed once the call that runs them is over. Those inside a flush
// (on_sees, on_gap, backfill, a heartbeat's payload) may call nothing of the hub: it is refused.
// None may destroy the server or the hub.
#ifndef SSEHUB_SERVER_HPP
#define SSEHUB_SERVER_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

class sequencer;

/// Each duration can be off(), each cap 0, unless it says otherwise. Views are copied.
struct server_options {
  /// Without a first_id: the wall clock in microseconds. Its write_deadline is that of answers too.
  hub_options hub{};
  /// Of requests: head, headers, target, body (by length or in chunks).
  http1::limits limits{};
  duration handshake_deadline = duration::seconds(10);  ///< for a TLS handshake, from accept on
  /// TLS handshakes under way; one more ends the one that lasts longest.
  std::uint32_t max_handshakes = 1000;
  /// For a whole request head, from its first byte on; for a new connection from accept on.
  duration head_deadline = duration::seconds(10);
  duration body_deadline = duration::seconds(10);  ///< for a whole body
  /// For a verdict that comes later (stream_responder); then 503.
  duration verdict_deadline = duration::seconds(10);
  duration keep_alive = duration::seconds(15);  ///< between two requests of a connection
  /// TCP connections, streams and all; above, one that was kept or has not brought its request for
  /// a second gives way, and if there is none: 503 at once. Never below what the caps of the hub
  /// allow, or those say nothing any more.
  std::uint32_t max_connections = 0;
  /// Host names that are served, see host_allowed(); others get 403. Empty: any.
  std::vector<std::string> hosts{};
  /// For streams, answers and errors alike; the default sends nothing. REQUIRES: validate() ok.
  cors_policy cors{};
  /// Paths that pages of any origin may read, whatever `cors` says (never with credentials); one
  /// that ends in '/' stands for all below it. Who may change something is up to `cors` alone.
  std::vector<std::string> any_origin{};
  int preflight_status = 204;  ///< of the answer to OPTIONS
  /// Refuse POST, PUT and DELETE of pages of other origins with 403, see origin_allowed(). Always
  /// on with cors.credentials.
  bool check_origin = false;
  /// Addresses of proxies whose X-Forwarded-For is believed: request::address is then the last
  /// element that is not one of these.
  std::vector<std::string> trusted_proxies{};
  http1::stream_head head{};  ///< of streams; its `extra` goes out as it is
  /// Streams to HTTP/1.1 come in chunks, so that the connection of one that ended serves the next
  /// request. false: the end of a stream is that of its connection.
  bool chunked = false;
  /// Streams say in X-Heartbeat-Interval the shortest heartbeat of their channels, so that a client
  /// knows when one is dead. false: for contracts that fix every header.
  bool announce_heartbeat = true;
  bool nodelay = true;  ///< TCP_NODELAY
  /// SO_REUSEPORT: several servers listen on one port, the kernel spreads the connections over
  /// them.
  bool reuse_port = false;
  /// SO_SNDBUF, bytes in the kernel per connection; 0: the system's.
  std::uint32_t send_buffer = 0;
  /// TCP_NOTSENT_LOWAT where the system has it: a connection takes no more while so many bytes are
  /// in the kernel and not sent; 0: the system's, but 16,384 for streams that get newest values
  /// (lag_policy::coalesce, watch_options), since what waits there ages. That is enough to keep a
  /// fast line busy.
  std::uint32_t unsent = 0;
  bool busy_poll = false;  ///< never sleep: a core for itself, for the last microseconds
  /// This server is a shard of it (sse/shards.hpp): opens its channels, which stay open as long as
  /// the server and are published to through the sequencer alone, and drains with it. The
  /// constructor throws std::invalid_argument if it is too late to join. Must outlive the server.
  sequencer* shards = nullptr;
  /// Where all its deadlines look at the time, in place of the system's steady clock. It never goes
  /// back. For tests; while it stands still, nothing becomes due, see basic_server::clock_moved.
  time_point (*clock)() noexcept = nullptr;
};

/// One line of an access log. Views are valid during the call.
struct access_record {
  std::string_view method{};      ///< empty: the request could not be read
  std::string_view target{};      ///< through redact_target()
  std::string_view address{};     ///< of the client
  int status = 0;                 ///< of the answer
  std::uint64_t bytes = 0;        ///< head and body; 0 for a stream, which has only begun
  std::int64_t microseconds = 0;  ///< from the first byte of the request to its answer
  bool stream = false;            ///< an event stream was opened
};

/// Headers of a page.
struct page_options {
  std::string_view content_type = "text/html; charset=utf-8";  ///< of the page
  std::string_view cache_control = "no-cache";                 ///< how long it may be kept
  std::string_view content_security_policy{};                  ///< empty: none
};

/// A server's half that does not depend on its loop. `Core`: the host's.
///
/// Handlers of plain requests have one of these forms; request and body are valid during the call:
///   response (const request&)
///   response (const request&, std::string_view body)
///   void (const request&, responder)
///   void (const request&, std::string_view body, responder)
/// Handlers of streams:
///   verdict<User> (const request&)
///   void (const request&, stream_responder<User>)
/// Those that take a responder answer when they know (sse/responder.hpp). What waits for a verdict
/// counts under the hub's caps for all and for its address, for verdict_deadline at most.
///
/// HEAD works wherever GET does, OPTIONS everywhere. Paths compare as they were decoded, case
/// counts. A path or prefix that is named again for the same method gets the new handler.
template <class Core>
class basic_server {
  using user_type = typename Core::user_type;
  using endpoint = detail::http_endpoint<user_type>;
  using method = detail::http_method;

 public:
  using transport_type = typename Core::transport_type;  ///< how it writes
  using hub_type = sse::hub<transport_type, user_type>;  ///< of its streams

  basic_server(const basic_server&) = delete;
  basic_server& operator=(const basic_server&) = delete;

  // --- listening -----------------------------------------------------------------------------

  /// Listens on an address ("127.0.0.1", "::1", "0.0.0.0", "::" for both versions) or the addresses
  /// of a name. Port 0: any free one. May be called several times. Errors: as the system says, such
  /// as std::errc::address_in_use.
  [[nodiscard]] std::error_code listen(std::string_view host, std::uint16_t port) {
    return core_->listen(host, port);
  }
  /// The first port that it listens on; 0: none.
  [[nodiscard]] std::uint16_t port() const noexcept { return core_->port(); }

  // --- routes --------------------------------------------------------------------------------

  /// An event stream; `handler` says who may have it and what is on it.
  template <class F>
  void stream(std::string_view path, F&& handler) {
    add_stream(false, path, std::forward<F>(handler), nullptr);
  }
  /// The same with headers of its own.
  template <class F>
  void stream(std::string_view path, F&& handler, const http1::stream_head& head) {
    add_stream(false, path, std::forward<F>(handler), &head);
  }
  /// An event stream of one channel, for everybody. Goes with the channel, see close_channel.
  void stream(std::string_view path, channel c) { add_stream(false, path, c, nullptr); }
  /// The same with headers of its own.
  void stream(std::string_view path, channel c, const http1::stream_head& head) {
    add_stream(false, path, c, &head);
  }
  /// For all paths that begin so; a path itself goes before.
  template <class F>
  void stream_prefix(std::string_view prefix, F&& handler) {
    add_stream(true, prefix, std::forward<F>(handler), nullptr);
  }
  /// The same with headers of its own.
  template <class F>
  void stream_prefix(std::string_view prefix, F&& handler, const http1::stream_head& head) {
    add_stream(true, prefix, std::forward<F>(handler), &head);
  }
  /// A stream, or a plain answer, to a POST: `verdict<User> handler(const request&,
  /// std::string_view body)`, or `void handler(const request&, std::string_view body,
  /// stream_responder<User>)`. What does not admit is the answer, whatever its status.
  template <class F>
  void stream_post(std::string_view path, F&& handler) {
    add_stream_post(path, std::forward<F>(handler), nullptr);
  }
  /// The same with headers of its own.
  template <class F>
  void stream_post(std::string_view path, F&& handler, const http1::stream_head& head) {
    add_stream_post(path, std::forward<F>(handler), &head);
  }

  /// A plain answer to GET and HEAD.
  template <class F>
  void get(std::string_view path, F&& handler) {
    add(method::get, false, path, std::forward<F>(handler));
  }
  /// The same for all paths that begin so.
  template <class F>
  void get_prefix(std::string_view prefix, F&& handler) {
    add(method::get, true, prefix, std::forward<F>(handler));
  }
  /// A plain answer to POST, with the request's body.
  template <class F>
  void post(std::string_view path, F&& handler) {
    add(method::post, false, path, std::forward<F>(handler));
  }
  /// The same for all paths that begin so.
  template <class F>
  void post_prefix(std::string_view prefix, F&& handler) {
    add(method::post, true, prefix, std::forward<F>(handler));
  }
  /// A plain answer to PUT, with the request's body.
  template <class F>
  void put(std::string_view path, F&& handler) {
    add(method::put, false, path, std::forward<F>(handler));
  }
  /// A plain answer to DELETE.
  template <class F>
  void del(std::string_view path, F&& handler) {
    add(method::del, false, path, std::forward<F>(handler));
  }

  /// A page from memory. `body` is copied.
  void page(std::string_view path, std::string_view body, const page_options& o = {}) {
    response r{.body = std::string{body}};
    r.add("Content-Type", o.content_type).add("Cache-Control", o.cache_control);
    if (!o.content_security_policy.empty()) {
      r.add("Content-Security-Policy", o.content_security_policy);
    }
    get(path, [r = std::move(r)](const request&) { return r; });
  }

  /// Takes a path away, for all methods; open streams go on. False: there was none.
  bool remove(std::string_view path) noexcept { return core_->routes.remove(false, path); }
  /// The same for a prefix.
  bool remove_prefix(std::string_view prefix) noexcept {
    return core_->routes.remove(true, prefix);
  }

  // --- channels and publishing ---------------------------------------------------------------

  /// The hub. Its on_wanted and on_channel_closed hooks belong to the server; its on_admit is not
  /// asked.
  [[nodiscard]] hub_type& hub() noexcept { return core_->hub(); }

  /// None: the result's `error` says why.
  [[nodiscard]] open_result open_channel(std::string_view name, channel_options o = {}) noexcept {
    return core_->hub().open_channel(name, std::move(o));
  }
  /// Closes a channel with its streams and the paths that stream(path, channel) gave it; its
  /// publishers' mail is dropped, see on_error. False: see hub::close_channel.
  bool close_channel(channel c) noexcept { return core_->close_channel(c); }

  /// Publishes; as channel::publish, but at the time that it is now. All that is published in one
  /// turn of the loop goes out together.
  [[nodiscard]] publish_result publish(channel c, const event& e,
                                       const publish_options& o = {}) noexcept {
    core_->touch_clock();
    return core_->hub().publish(c, e, o);
  }

  /// One other thread's way to publish to a channel. Closed: memory is out, or the channel is
  /// closed or another hub's.
  [[nodiscard]] publisher make_publisher(channel c,
                                         std::size_t lane_bytes = mailbox::default_lane) noexcept {
    if (!core_->hub().owns(c)) return {};
    try {
      return core_->mail().make_publisher(core_->token_of(c), lane_bytes);
    } catch (...) {
      return {};
    }
  }
  /// The mailbox behind make_publisher; the server drains it.
  [[nodiscard]] mailbox& mail() noexcept { return core_->mail(); }

  // --- hooks ---------------------------------------------------------------------------------

  /// After each answer, and when a stream has begun.
  void on_access(function<void(const access_record&)> f) { core_->on_access = std::move(f); }
  /// A channel is closed, see hub::on_channel_closed, which belongs to the server.
  void on_channel_closed(function<void(channel)> f) { core_->on_channel_closed = std::move(f); }
  /// What went wrong and was dealt with: a handler threw, accept failed (it goes on in 100 ms).
  void on_error(function<void(std::string_view what, const std::error_code&)> f) {
    core_->on_error = std::move(f);
  }
  /// The form of all refusals but the program's own, of the server (404, 408, ...) and of its hub;
  /// default: refusal_response(). Status and Retry-After are the refusal's, whatever it says.
  void error_page(function<response(const refused_request&)> f) {
    core_->error_page = std::move(f);
  }

  /// server_options::clock went on: looks soon at what is due.
  void clock_moved() noexcept { core_->flush_soon(); }

  /// Closes everything at once. The server cannot be used again; its hub and channels stay.
  void stop() noexcept { core_->stop(); }

  /// TCP connections now: plain ones, streams, and those being closed.
  [[nodiscard]] std::size_t connections() const noexcept { return core_->connections(); }

 protected:
  /// Shared with what the host has under way.
  explicit basic_server(std::shared_ptr<Core> core) noexcept : core_{std::move(core)} {}
  ~basic_server() { core_->abandon(); }

  std::shared_ptr<Core> core_;  ///< what does the work

 private:
  template <class F>
  void add(method m, bool prefix, std::string_view path, F&& f) {
    using view = std::string_view;
    using given = std::remove_cvref_t<F>;
    auto e = std::make_shared<endpoint>();
    e->takes_body = m != method::get;
    if constexpr (std::is_invocable_r_v<response, given&, const request&>) {
      e->answer = [g = given(std::forward<F>(f))](const request& r, view) mutable -> response {
        return g(r);
      };
    } else if constexpr (std::is_invocable_r_v<response, given&, const request&, view>) {
      e->answer = std::forward<F>(f);
    } else if constexpr (std::is_invocable_v<given&, const request&, responder>) {
      e->later = [g = given(std::forward<F>(f))](const request& r, view, responder to) mutable {
        g(r, std::move(to));
      };
    } else {
      static_assert(std::is_invocable_v<given&, const request&, view, responder>,
                    "a handler has one of the four forms above basic_server");
      e->later = std::forward<F>(f);
    }
    core_->routes.add(m, prefix, path, std::move(e));
  }

  [[nodiscard]] static std::shared_ptr<endpoint> with_head(const http1::stream_head* head) {
    auto e = std::make_shared<endpoint>();
    if (head != nullptr) e->head = std::make_unique<detail::owned_head>(*head);
    return e;
  }

  template <class F>
  void add_stream(bool prefix, std::string_view path, F&& f, const http1::stream_head* head) {
    using given = std::remove_cvref_t<F>;
    std::shared_ptr<endpoint> e = with_head(head);
    if constexpr (std::is_convertible_v<given&, channel>) {
      e->bound = f;
      e->stream = [c = core_.get(), bound = e->bound](const request&,
                                                      std::string_view) -> verdict<user_type> {
        if (!c->hub().owns(bound)) return c->refusal(404);
        return verdict<user_type>{user_type{}, std::string{}}.join(bound);
      };
    } else if constexpr (std::is_invocable_v<given&, const request&, stream_responder<user_type>>) {
      e->later_stream = [g = given(std::forward<F>(f))](const request& r, std::string_view,
                                                        stream_responder<user_type> to) mutable {
        g(r, std::move(to));
      };
    } else {
      static_assert(std::is_invocable_r_v<verdict<user_type>, given&, const request&>,
                    "the handler of a stream is verdict<User>(const request&), or "
                    "void(const request&, stream_responder<User>)");
      e->stream = [g = given(std::forward<F>(f))](const request& r,
                                                  std::string_view) mutable -> verdict<user_type> {
        return g(r);
      };
    }
    core_->routes.add(method::get, prefix, path, std::move(e));
  }

  template <class F>
  void add_stream_post(std::string_view path, F&& f, const http1::stream_head* head) {
    using given = std::remove_cvref_t<F>;
    std::shared_ptr<endpoint> e = with_head(head);
    if constexpr (std::is_invocable_v<given&, const request&, std::string_view,
                                      stream_responder<user_type>>) {
      e->later_stream = std::forward<F>(f);
    } else {
      static_assert(
          std::is_invocable_r_v<verdict<user_type>, given&, const request&, std::string_view>,
          "the handler is verdict<User>(const request&, std::string_view body), or "
          "void(const request&, std::string_view body, stream_responder<User>)");
      e->stream = std::forward<F>(f);
    }
    e->takes_body = true;
    core_->routes.add(method::post, false, path, std::move(e));
  }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_SERVER_HPP
// ---- sse/shards.hpp
//
// shards: one stream on several cores. A sequencer gives each event its id and encodes it, once;
// every shard, a hub in a thread of its own, appends those bytes to its own log. So all shards hold
// the same events under the same ids, and a client resumes on whichever it lands. Not needed where
// one core is enough: one hub feeds tens of thousands of readers.
//
//   sse::sequencer ticks{{.channels = {"ticks"}, .first_id = wall_clock_us}};
//   sse::shard<my_transport> s{ticks, transport, {.wake = &wake_loop, .context = &loop}};  // each
//   (void)ticks.publish(0, {.data = json});              // any thread
//   for (;;) s.turn(now), s.prepare_sleep() ? wait() : poll();      // each shard's own thread
//
// The host's part is the loop and the sockets, usually one listener per thread with SO_REUSEPORT.
// With Asio: server_options::shards.
//
// Threads: everything of a sequencer may be called from any thread; it takes a lock for about as
// long as the bytes are copied to each shard. A hot thread that must not meet a lock publishes
// through a mailbox of the program's, which some other thread hands on, see sequencer::forward. A
// shard belongs to the thread that runs it. It may be made and destroyed in any thread, but never
// while that one uses it. The sequencer must outlive its shards.
//
// Full: a shard that is behind by `lane_bytes` refuses for all: publish answers `full` and the
// event goes nowhere. To wait instead would stop the engine for one slow core; to leave that shard
// out would make its readers miss an event that others have. So a shard whose thread hangs stops
// publishing, until it goes on or is destroyed: watch counts().full.
//
// Memory: the logs are not shared. What a channel retains is kept once per shard, and each shard's
// lane takes lane_bytes.
//
// Invariants:
// 1. An id is in all lanes or in none: room is looked for in all, under the lock, before the first
//    byte goes into one. Each lane holds its ids in rising order.
// 2. head() is at or above every id that any client ever saw. An id at or below it that a shard has
//    not got yet is therefore in its lane, or on its way there under the lock: a request to resume
//    from it waits for the lock, takes the lane's mail, and finds it. It is never answered as ahead
//    of the stream.
// 3. A shard that has no memory for an event leaves it in its lane and tries again: it falls behind
//    and the lane fills, but nothing is left out.
// 4. The caps of all shards count in one place; a place is given back where a hub gives its own
// back.
#ifndef SSEHUB_SHARDS_HPP
#define SSEHUB_SHARDS_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// ---- sse/detail/mail/ordered_events.hpp
//
// ordered_events: many events that got their ids elsewhere, for all shards of a sequencer at once:
// each takes them from where they lie, so that nobody copies them for it.
#ifndef SSEHUB_DETAIL_MAIL_ORDERED_EVENTS_HPP
#define SSEHUB_DETAIL_MAIL_ORDERED_EVENTS_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class ordered_events {
 public:
  struct place {
    std::size_t event = 0;
    std::size_t byte = 0;
    std::size_t piece = 0;
    std::size_t left = 0;  ///< events of that piece
  };
  /// What all of them come to.
  struct sum {
    std::size_t events = 0;
    std::size_t bytes = 0;
    event_id last = no_id;
  };
  [[nodiscard]] virtual sum all() const noexcept = 0;
  /// The event at `at`, which becomes the place of the one behind it. False: there is none.
  [[nodiscard]] virtual bool next(place& at, mail& out) const noexcept = 0;

 protected:
  ordered_events() = default;
  ~ordered_events() = default;
};

/// How a shard gets them: by its lane.
struct ordered_note {
  const ordered_events* events;
  std::uint64_t number;  ///< of those that the sequencer handed on, this is the nth
  std::uint64_t bytes;
};

/// What one shard was given of them, and took.
struct ordered_account {
  std::uint64_t given = 0;        ///< the last number
  std::uint64_t given_bytes = 0;  ///< of all
  std::atomic<std::uint64_t> taken{0};
  std::atomic<std::uint64_t> taken_bytes{0};

  [[nodiscard]] bool has_taken(std::uint64_t number) const noexcept {
    return number > given || taken.load(std::memory_order_acquire) >= number;
  }
  [[nodiscard]] bool has_room(std::size_t bytes, std::size_t most) const noexcept {
    const std::uint64_t wait = given_bytes - taken_bytes.load(std::memory_order_relaxed);
    return wait == 0 || wait + bytes <= most;
  }
  void give(const ordered_note& n) noexcept {
    given = n.number;
    given_bytes += n.bytes;
  }
  void take(const ordered_note& n) noexcept {
    taken_bytes.store(taken_bytes.load(std::memory_order_relaxed) + n.bytes,
                      std::memory_order_relaxed);
    taken.store(n.number, std::memory_order_release);
  }
  /// The shard ends: it takes nothing any more.
  void end() noexcept { taken.store(UINT64_MAX, std::memory_order_release); }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_MAIL_ORDERED_EVENTS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Counts for the caps of all hubs that name it in hub_options::counter. Thread-safe; one lock per
/// stripe of names.
class shared_caps final : public cap_counter {
 public:
  /// `seed`: see hub_options::seed.
  explicit shared_caps(std::uint64_t seed = hub_options{}.seed) noexcept {
    for (stripe& s : stripes_) s.names.set_seed(seed);
  }

  [[nodiscard]] bool take(kind k, std::string_view key, std::uint32_t max) noexcept override {
    if (k == kind::total) {
      std::uint32_t n = total_.load(std::memory_order_relaxed);
      do {
        if (max != 0 && n >= max) return false;
      } while (!total_.compare_exchange_weak(n, n + 1, std::memory_order_relaxed));
      return true;
    }
    stripe& s = of(k, key);
    const std::scoped_lock<std::mutex> lock{s.mutex};
    const std::uint32_t i = s.names.acquire(key);
    if (i == detail::none) return false;
    if (max == 0 || s.names.refs(i) <= max) return true;
    s.names.release(i);
    return false;
  }

  void give_back(kind k, std::string_view key) noexcept override {
    if (k == kind::total) {
      total_.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
    stripe& s = of(k, key);
    const std::scoped_lock<std::mutex> lock{s.mutex};
    const std::uint32_t i = s.names.find(key);
    if (i != detail::none) s.names.release(i);
  }

  /// How many of that key there are on all shards.
  [[nodiscard]] std::uint32_t count(kind k, std::string_view key) noexcept override {
    if (k == kind::total) return total_.load(std::memory_order_relaxed);
    stripe& s = of(k, key);
    const std::scoped_lock<std::mutex> lock{s.mutex};
    const std::uint32_t i = s.names.find(key);
    return i == detail::none ? 0 : s.names.refs(i);
  }

 private:
  struct alignas(detail::cache_line) stripe {
    std::mutex mutex;
    detail::name_table<no_user> names;  ///< a reference for each stream
  };
  static constexpr std::size_t stripes = 16;  // of each kind

  [[nodiscard]] stripe& of(kind k, std::string_view key) noexcept {
    std::uint32_t h = 0;
    for (const char c : key) h = h * 31 + static_cast<unsigned char>(c);
    return stripes_[(k == kind::user ? 0 : stripes) + (h ^ (h >> 16U)) % stripes];
  }

  std::atomic<std::uint32_t> total_{0};
  stripe stripes_[2 * stripes];
};

/// Options of one of a sequencer's channels, for one shard; `ids` and `own_sequence` are not used.
using shard_channel_options = function<channel_options(std::string_view name)>;

/// What all shards of a sequencer share.
struct sequencer_options {
  /// Names of the channels, numbered from 0: all shards have these. At most 16,383.
  std::vector<std::string> channels{"events"};
  /// Asked while a shard attaches, once per channel and shard; none: the defaults. What it says
  /// must not differ between shards where clients can notice (history, limits of lag).
  shard_channel_options channel{};
  event_id first_id = no_id;    ///< as hub_options::first_id
  event_id lost_above = no_id;  ///< as hub_options::lost_above
  event_id lost_below = no_id;  ///< as hub_options::lost_below
  /// Room for events that wait for a shard, each; an event takes at most half of it. 1 KiB to 1
  /// GiB.
  std::size_t lane_bytes = std::size_t{1} << 20;
  /// Instead of those of the channels.
  encode_limits limits{};
  /// Somebody else gives the ids (a journal): publish_options::id, rising, and events are
  /// `encoded`.
  bool given_ids = false;
  /// For orders that several processes follow, each at its own pace: a client may bring an id that
  /// this one has not got yet. It is not told of a gap: servers let its request wait so long for
  /// it, and then refuse it as `behind`. off(): nobody can be ahead.
  duration wait_ahead = duration::off();
  /// What such a request gets in the end: 503 with Retry-After, final for a browser's EventSource;
  /// true: a stream that says `retry:` and ends.
  bool retry_ahead = false;
  std::uint64_t seed = hub_options{}.seed;  ///< see hub_options::seed
  /// Counts the streams of all shards instead of caps(), if it is there: all, and those of users,
  /// also where hubs have no cap for them. Outlives the shards.
  cap_counter* counter = nullptr;
};

class shard_port;

namespace detail {

/// An event that gets its id where events are put in order, in memory or on disk.
struct numbered_event {
  publish_error error = publish_error::none;
  std::string_view id{};  ///< as text, in `text`
  encode_plan plan{};
};
/// Whether an event may have id `id`, and how long it is then: `most` bytes at most.
[[nodiscard]] inline numbered_event give_id(event_id id, id_text& text, const event& e,
                                            const publish_options& o, const encode_limits& limits,
                                            std::size_t most) noexcept {
  if (o.last) return {publish_error::sealed};  // its channels stay open
  if (!e.id.empty() || o.id != no_id) return {publish_error::bad_id};
  if (o.encoded) return {publish_error::bad_type};
  if (!names_fit(o)) return {publish_error::too_large};
  if (id > max_event_id) return {publish_error::id_order};
  numbered_event n{publish_error::none, text.view(id), {}};
  n.plan = plan_as(e, n.id, limits);
  n.error = n.plan.size > most ? publish_error::too_large : publish_error::none;
  if (n.plan.error != encode_error::none) n.error = to_publish_error(n.plan.error);
  return n;
}

}  // namespace detail

/// Gives ids and hands events to all shards.
class sequencer {
 public:
  /// Throws std::bad_alloc only.
  explicit sequencer(sequencer_options o = {})
      : options_{std::move(o)}, caps_{options_.seed}, head_{options_.first_id} {
    std::size_t lane = 1024;
    while (lane < options_.lane_bytes && lane < (std::size_t{1} << 30)) lane *= 2;
    options_.lane_bytes = lane;
    scratch_size_ = lane / 2;
    scratch_.reset(new char[scratch_size_]);
  }
  sequencer(const sequencer&) = delete;
  sequencer& operator=(const sequencer&) = delete;

  /// An event for the channel of that number, on all shards. Never waits for a shard, allocates
  /// nothing. Refused: no shard got it. Errors besides those of an event that cannot be sent:
  /// no_channel, full, closed; bad_id, bad_type for `encoded`, sealed for `last`, which it cannot
  /// do.
  [[nodiscard]] publish_result publish(std::size_t channel, const event& e,
                                       const publish_options& o = {}) noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const publish_result r = place(channel, e, o);
    ++detail::count_of(counts_, r.error);
    return r;
  }

  /// Hands on what hot threads put into `inbox`, whose publishers were made with a channel's number
  /// as the target. For the inbox's thread: one of the program's, or a shard's. False: a shard is
  /// full; what is left stays in the inbox, so call again soon. What cannot be published is
  /// counted.
  bool forward(mailbox& inbox) noexcept {
    bool all = true;
    inbox.drain([&](const mail& m) {
      const std::scoped_lock<std::mutex> lock{mutex_};
      const publish_error e = place(static_cast<std::size_t>(m.target), m.event, m.options).error;
      all = e != publish_error::full;
      if (all) ++detail::count_of(counts_, e);
      return all;
    });
    return all;
  }

  /// All of these to all shards, or to none. They stay where they are until is_taken(number): each
  /// shard reads them there. Errors: id_order, full, closed; then `number` is 0. REQUIRES:
  /// given_ids.
  [[nodiscard]] publish_error hand_on(const detail::ordered_events& events,
                                      std::uint64_t& number) noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const detail::ordered_events::sum all = events.all();
    number = 0;
    const publish_error no = may_hand_on(all);
    detail::count_of(counts_, no) += all.events;
    if (no != publish_error::none) return no;
    number = ++handed_on_;
    const detail::ordered_note note{&events, number, all.bytes};
    char bytes[sizeof note];
    std::memcpy(bytes, &note, sizeof note);
    const event data{.data = {bytes, sizeof bytes}};
    // Before any lane: as in hand_out.
    head_.store(all.last, std::memory_order_release);
    for (std::size_t i = 0; i != lanes_.size(); ++i) {
      publisher& lane = lanes_[i];
      if (!lane) continue;
      accounts_[i]->give(note);
      (void)lane.lane_->done(
          lane.put_valid({data, {.transient = true, .encoded = true}, no_channel}));
    }
    begun_ = true;
    return publish_error::none;
  }
  /// Nobody reads any more what hand_on() gave that number.
  [[nodiscard]] bool is_taken(std::uint64_t number) const noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    for (const auto& a : accounts_) {
      if (!a->has_taken(number)) return false;
    }
    return true;
  }

  /// What is behind head() and below `first` is gone: all readers are told, on all channels, by a
  /// gap frame with the id `first` - 1, which stands among the events. `lost`: how many there were,
  /// if known. Errors: id_order, full, closed. REQUIRES: given_ids.
  [[nodiscard]] publish_result lose(event_id first, std::uint64_t lost = 0,
                                    bool known = false) noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const event_id head = head_.load(std::memory_order_relaxed);
    if (!options_.given_ids || first <= head + 1 || first - 1 > max_event_id)
      return {no_id, publish_error::id_order};
    if (draining_.load(std::memory_order_relaxed)) return {no_id, publish_error::closed};
    char text[detail::max_gap + detail::max_digits + sizeof "id: \nevent: gap\ndata: \n\n"];
    char* p = detail::put_decimal(detail::put(text, "id: "), first - 1);
    p = detail::put(p, "\nevent: gap\ndata: ");
    p = detail::put(detail::put_gap(p, {head, first, lost, known}), "\n\n");
    const event bytes{.data = {text, static_cast<std::size_t>(p - text)}};
    return hand_out(no_channel, bytes, {.id = first - 1, .encoded = true});
  }

  /// What backfill hooks had to wait for (backfill_state::wait) may be there now: they are asked
  /// again, each in its hub's thread.
  void backfill_ready() noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    backfills_.fetch_add(1, std::memory_order_release);
    nudge();
  }

  /// Closes all streams of a user, on all shards, each in its hub's thread: hub::revoke.
  void revoke(std::string_view key) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    for (std::size_t i = 0; i != lanes_.size(); ++i) {
      if (lanes_[i]) revoked_[i].emplace_back(key);  // else that shard ended
    }
    revokes_.fetch_add(1, std::memory_order_release);
    nudge();
  }

  /// All shards publish what was accepted, then drain as hub::drain does; publish answers `closed`
  /// from now on. Returns at once; each shard's host sees drained() of its hub.
  void drain(const drain_options& o = {}) noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (draining_.load(std::memory_order_relaxed)) return;
    drain_ = o;
    const bool copied =
        farewell_type_.assign(o.farewell.type) && farewell_data_.assign(o.farewell.data);
    drain_.farewell = {};  // memory is out: without one
    if (copied) drain_.farewell = {.type = farewell_type_.view(), .data = farewell_data_.view()};
    draining_.store(true, std::memory_order_release);
    nudge();
  }
  /// drain() was called. Any thread.
  [[nodiscard]] bool draining() const noexcept { return draining_.load(std::memory_order_acquire); }

  /// The newest id given out; nobody saw one above it.
  [[nodiscard]] event_id head() const noexcept { return head_.load(std::memory_order_acquire); }
  /// What became of the calls of publish, and of the mail that forward took.
  [[nodiscard]] mail_counts counts() const noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return counts_;
  }
  /// What counts streams of all shards.
  [[nodiscard]] shared_caps& caps() noexcept { return caps_; }
  /// As it was constructed with.
  [[nodiscard]] const sequencer_options& options() const noexcept { return options_; }

  /// The sum over all shards, those that ended too, as each last reported it: in each turn of its
  /// loop in which something happened. log_bytes is the memory of all.
  [[nodiscard]] hub_stats stats() const {
    const std::scoped_lock<std::mutex> lock{stats_mutex_};
    hub_stats sum;
    for (const report& r : reports_) add(sum, r.hub);
    return sum;
  }
  /// The same by channel; names and groups are valid as long as this. `published`,
  /// `retained_events`, `retained_bytes` and `last_id` are those of the shard that is ahead, since
  /// all have the same events. Where there are more than 64 channels a turn reports those that got
  /// events and 64 others, and the turn after a call of this one all of them.
  [[nodiscard]] std::vector<channel_stats> all_channel_stats() const {
    asked_.fetch_add(1, std::memory_order_relaxed);
    const std::scoped_lock<std::mutex> lock{stats_mutex_};
    std::vector<channel_stats> sums(options_.channels.size());
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i].name = options_.channels[i];
      if (!groups_.empty()) sums[i].group = groups_[i];
      for (const report& r : reports_) add(sums[i], r.channels[i]);
    }
    return sums;
  }

 private:
  friend class shard_port;
  static constexpr std::uint16_t no_channel = max_mail_channel;

  struct report {
    hub_stats hub;
    std::vector<channel_stats> channels;
  };

  /// Wakes who sleeps. Where there is no room for it nobody sleeps. REQUIRES: the lock.
  void nudge() noexcept {
    for (publisher& lane : lanes_) {
      (void)lane.try_publish({}, {.transient = true, .encoded = true}, no_channel);
    }
  }

  /// REQUIRES: the lock.
  [[nodiscard]] publish_error may_hand_on(const detail::ordered_events::sum& all) const noexcept {
    if (draining_.load(std::memory_order_relaxed)) return publish_error::closed;
    if (!options_.given_ids || all.last <= head_.load(std::memory_order_relaxed))
      return publish_error::id_order;
    bool anybody = false;
    for (std::size_t i = 0; i != lanes_.size(); ++i) {
      if (!lanes_[i]) continue;  // that shard ended
      const std::size_t note = publisher::record_size(sizeof(detail::ordered_note));
      if (!accounts_[i]->has_room(all.bytes, options_.lane_bytes) ||
          lanes_[i].lane_->reserve(note) == nullptr)
        return publish_error::full;
      anybody = true;
    }
    return anybody ? publish_error::none : publish_error::closed;
  }
  /// REQUIRES: the lock.
  publish_result place(std::size_t channel, const event& e, const publish_options& o) noexcept {
    const auto fail = [](publish_error why) { return publish_result{no_id, why}; };
    if (draining_.load(std::memory_order_relaxed)) return fail(publish_error::closed);
    if (channel >= options_.channels.size()) return fail(publish_error::no_channel);
    if (options_.given_ids && o.encoded && !o.last) {
      if (o.id <= head_.load(std::memory_order_relaxed)) return fail(publish_error::id_order);
      return hand_out(channel, e, o);
    }
    if (options_.given_ids && !o.transient) return fail(publish_error::id_order);
    const event_id id = o.transient ? no_id : head_.load(std::memory_order_relaxed) + 1;
    const detail::numbered_event n =
        detail::give_id(id, last_id_, e, o, options_.limits, scratch_size_);
    if (n.error != publish_error::none) return fail(n.error);
    detail::encode_as(scratch_.get(), e, n.id, n.plan);
    const event bytes{.data = {scratch_.get(), n.plan.size}};
    publish_options with = o;
    with.id = id;
    with.encoded = true;
    return hand_out(channel, bytes, with);
  }

  /// To all shards, or to none. REQUIRES: the lock; it is encoded.
  publish_result hand_out(std::size_t channel, const event& bytes,
                          const publish_options& with) noexcept {
    const auto fail = [](publish_error why) { return publish_result{no_id, why}; };
    const event_id id = with.id;
    const publisher::letter letter{bytes, with, static_cast<std::uint16_t>(channel)};
    bool anybody = false;
    for (const publisher& lane : lanes_) {
      const publish_error no = lane.may_put(letter);
      if (no == publish_error::closed) continue;  // that shard ended
      if (no != publish_error::none) return fail(no);
      anybody = true;
    }
    if (!anybody) return fail(publish_error::closed);
    // Before any lane: a client that is shown this id finds it at or below head() everywhere.
    if (id != no_id) head_.store(id, std::memory_order_release);
    for (publisher& lane : lanes_) {
      (void)lane.lane_->done(lane ? lane.put_valid(letter) : publish_error::closed);
    }
    begun_ = true;
    return {id, publish_error::none};
  }

  static void add(hub_stats& sum, const hub_stats& n) noexcept {
    sum.sessions += n.sessions;
    sum.accepted += n.accepted;
    sum.refused += n.refused;
    sum.writes += n.writes;
    sum.bytes += n.bytes;
    sum.heartbeats += n.heartbeats;
    sum.log_bytes += n.log_bytes;
    for (std::size_t i = 0; i < close_reason_count; ++i) sum.closed[i] += n.closed[i];
    for (std::size_t i = 0; i < refusal_reason_count; ++i) sum.refused_by[i] += n.refused_by[i];
  }
  static void add(channel_stats& sum, const channel_stats& n) noexcept {
    const auto most = [](std::uint64_t& a, std::uint64_t b) { a = a < b ? b : a; };
    sum.subscribers += n.subscribers;
    most(sum.published, n.published);
    sum.delivered += n.delivered;
    sum.dropped += n.dropped;
    sum.coalesced += n.coalesced;
    sum.gaps += n.gaps;
    sum.replays += n.replays;
    most(sum.retained_events, n.retained_events);
    most(sum.retained_bytes, n.retained_bytes);
    sum.backlog_bytes += n.backlog_bytes;
    most(sum.last_id, n.last_id);
    sum.latency.add(n.latency);
  }

  sequencer_options options_;
  shared_caps caps_;
  std::atomic<event_id> head_;
  std::atomic<bool> draining_{false};
  std::atomic<std::uint64_t> backfills_{0};  // calls of backfill_ready
  std::atomic<std::uint64_t> revokes_{0};    // calls of revoke

  mutable std::mutex mutex_;  // of all below
  std::vector<publisher> lanes_;
  std::vector<std::vector<std::string>> revoked_;  // by lane: users that its shard has to close
  std::vector<std::shared_ptr<detail::ordered_account>> accounts_;  // by lane
  std::uint64_t handed_on_ = 0;                                     // see hand_on
  std::unique_ptr<char[]> scratch_;  // the event that is being encoded
  std::size_t scratch_size_ = 0;
  bool begun_ = false;  // something was published
  detail::id_text last_id_;
  mail_counts counts_{};
  drain_options drain_{};
  detail::owned_text farewell_type_;
  detail::owned_text farewell_data_;

  mutable std::atomic<std::uint64_t> asked_{0};  // calls of all_channel_stats
  mutable std::mutex stats_mutex_;
  std::vector<report> reports_;      // by shard
  std::vector<std::string> groups_;  // metrics_name by channel, from the first shard on; they stay
};

/// A hub's end of a sequencer, for hosts that have a hub and a mailbox already; others use shard.
/// Belongs to the hub's thread.
class shard_port {
 public:
  /// The target of its mail: hosts hand mail with it to take().
  static constexpr std::uint64_t target = UINT64_MAX;

  shard_port() noexcept = default;
  shard_port(const shard_port&) = delete;
  shard_port& operator=(const shard_port&) = delete;
  ~shard_port() {
    if (account_ != nullptr) account_->end();
  }

  /// What a hub needs to be a shard: where its ids begin, that they are given, and whose caps it
  /// shares. Channels of its own need own_sequence, or no ids.
  static void prepare(sequencer& s, hub_options& o) noexcept {
    o.first_id = s.options_.first_id;
    o.lost_above = s.options_.lost_above;
    o.lost_below = s.options_.lost_below;
    o.given_ids = true;
    o.counter = s.options_.counter != nullptr ? s.options_.counter : &s.caps_;
    if (s.options_.counter == nullptr) return;
    for (cap* c : {&o.caps.total, &o.caps.per_user}) {
      if (c->max == 0) c->max = UINT32_MAX;  // it counts them in any case
    }
  }

  /// Opens the channels in `h`, and a lane in `mail`. REQUIRES: `h` was made with prepare()d
  /// options and outlives this; nothing else publishes to these channels, or closes them. False: it
  /// is too late, something was published already; or a name is taken, there are too many
  /// channels, or memory is out.
  template <class Hub>
  [[nodiscard]] bool attach(sequencer& s, Hub& h, mailbox& mail) {
    const std::scoped_lock<std::mutex> lock{s.mutex_};
    const std::vector<std::string>& names = s.options_.channels;
    std::vector<std::string> groups;
    if (s.begun_ || s.draining() || names.size() > max_mail_channel) return false;
    for (const std::string& name : names) {
      channel_options o = s.options_.channel ? s.options_.channel(name) : channel_options{};
      o.ids = id_mode::given;
      o.own_sequence = false;
      o.limits.event = SIZE_MAX;  // the sequencer has checked
      if (o.backfill) {
        o.backfill = [this, ask = std::move(o.backfill)](const backfill_request& r,
                                                         backfill_writer& w) mutable {
          const backfill_state answer = ask(r, w);
          if (answer == backfill_state::wait) waiting_.push_back(r.session);
          return answer;
        };
      }
      const channel c = h.open_channel(name, std::move(o));
      if (!c) return false;
      channels_.push_back(c);
      groups.emplace_back(c.options()->metrics_name);
    }
    publisher lane = mail.make_publisher(target, s.options_.lane_bytes);
    if (!lane) return false;
    account_ = std::make_shared<detail::ordered_account>();
    s.accounts_.push_back(account_);
    s.lanes_.push_back(std::move(lane));
    s.revoked_.emplace_back();
    const std::scoped_lock<std::mutex> stats_lock{s.stats_mutex_};
    index_ = s.reports_.size();
    s.reports_.emplace_back().channels.resize(names.size());
    if (s.groups_.empty()) s.groups_ = std::move(groups);
    changed_.reserve(names.size());
    is_changed_.resize(names.size());
    sequencer_ = &s;
    return true;
  }
  [[nodiscard]] explicit operator bool() const noexcept { return sequencer_ != nullptr; }

  /// The channel of a number; none: there is no such number, or attach() was not true.
  [[nodiscard]] channel at(std::size_t number) const noexcept {
    return number < channels_.size() ? channels_[number] : channel{};
  }

  /// For mailbox::drain: publishes one record. False: memory is out; it stays in the lane, and the
  /// loop must try again.
  [[nodiscard]] bool take(const mail& m) noexcept {
    if (m.channel < channels_.size()) return take(m.channel, m.event, m.options);
    if (m.options.transient && !m.event.data.empty()) return take_ordered(m.event.data);
    if (m.options.transient) {  // a nudge; nothing comes after that of sequencer::drain
      ending_ = ending_ || sequencer_->draining();
      return true;
    }
    publish_options all = m.options;  // sequencer::lose
    all.repeats_id = true;
    for (; lost_told_ < channels_.size(); ++lost_told_) {
      if (!take(static_cast<std::uint16_t>(lost_told_), m.event, all)) return false;
    }
    lost_told_ = 0;
    return true;
  }
  /// What became of the last record. Other than none and no_memory: the program broke what attach()
  /// requires, and this shard lacks the event.
  [[nodiscard]] publish_error error() const noexcept { return error_; }

  /// After the mailbox was drained: hub.revoke(user) for what sequencer::revoke said, and
  /// hub.writable(session) for those whose backfill hook had to wait, if what it waits for may be
  /// there.
  template <class Hub>
  void wake_waiting(Hub& h) noexcept {
    revoke_all(h);
    if (waiting_.empty()) return;
    const std::uint64_t now = sequencer_->backfills_.load(std::memory_order_acquire);
    if (now == backfills_) return;
    backfills_ = now;
    std::vector<session_id> all;
    all.swap(waiting_);
    for (const session_id s : all) h.writable(s);
  }

  /// The client has an id that was given out elsewhere and has not come here yet
  /// (sequencer_options::wait_ahead).
  [[nodiscard]] bool is_ahead(const request& r, const hub_options& o) const noexcept {
    if (sequencer_ == nullptr || sequencer_->options_.wait_ahead.is_off()) return false;
    const resume_point resume = resume_from(r, o.resume_query);
    return resume.state == resume_point::kind::given && resume.after > sequencer_->head();
  }

  /// Since it was asked last: who was ahead then may be so no longer.
  [[nodiscard]] bool head_moved() noexcept {
    if (sequencer_ == nullptr) return false;
    const event_id now = sequencer_->head();
    return std::exchange(looked_at_, now) != now;
  }

  /// Before an accept: makes sure that a client that got an id from another shard is not taken for
  /// one from the future here. `drain()` is the host's own drain of its mailbox. May wait for a
  /// publish that is under way in another thread. False: memory is out here and there, or the
  /// client is ahead of the sequencer: hub.turn_away(c, r, no). `o`: of this shard's hub.
  template <class Drain>
  [[nodiscard]] bool catch_up(const request& r, const hub_options& o, refused_request& no,
                              Drain&& drain) {
    const resume_point resume = resume_from(r, o.resume_query);
    if (resume.state != resume_point::kind::given || reached(resume.after)) return true;
    const bool ahead = resume.after > sequencer_->head();
    // Nobody has it: told by a gap.
    if (ahead && sequencer_->options_.wait_ahead.is_off()) return true;
    if (!ahead) {
      drain();
      if (reached(resume.after)) return true;
      { const std::scoped_lock<std::mutex> under_way{sequencer_->mutex_}; }
      drain();
      if (reached(resume.after)) return true;
    }
    const bool comes_back = ahead && sequencer_->options_.retry_ahead;
    no = {refusal_reason::behind, comes_back ? 200 : 503, o.retry_max};
    return false;
  }

  /// Before the mailbox is drained in a turn of the loop.
  void turn_begins() noexcept {
    ending_ = ending_ || (sequencer_ != nullptr && sequencer_->draining());
  }
  /// After it: the hub is to drain, and has all that was accepted.
  [[nodiscard]] bool ending() const noexcept {
    return ending_ && error_ != publish_error::no_memory;
  }
  /// How. REQUIRES: ending().
  [[nodiscard]] const drain_options& how_to_drain() const noexcept {
    SSEHUB_ASSERT(ending());
    return sequencer_->drain_;
  }

  /// Hands the counters in, if anything happened since the last time. Once per turn.
  void report(const hub_stats& now) noexcept {
    if (sequencer_ == nullptr) return;
    const std::uint64_t asked = sequencer_->asked_.load(std::memory_order_relaxed);
    if (changed_.empty() && asked == answered_ && same(now, reported_)) return;
    const bool all = asked != answered_;
    answered_ = asked;
    reported_ = now;
    report(now, all ? channels_.size() : some);
  }
  /// The same, at the hub's end: what counts what is there now becomes 0.
  void report_end(hub_stats last) noexcept {
    if (sequencer_ == nullptr) return;
    last.sessions = last.log_bytes = 0;
    report(last, channels_.size());
    const std::scoped_lock<std::mutex> lock{sequencer_->stats_mutex_};
    for (channel_stats& c : sequencer_->reports_[index_].channels) {
      c.subscribers = c.retained_events = c.retained_bytes = c.backlog_bytes = 0;
    }
  }

 private:
  static constexpr std::size_t some = 64;

  template <class Hub>
  void revoke_all(Hub& h) noexcept {
    if (sequencer_ == nullptr) return;
    const std::uint64_t now = sequencer_->revokes_.load(std::memory_order_acquire);
    if (now == revokes_) return;
    std::vector<std::string> users;
    {
      const std::scoped_lock<std::mutex> lock{sequencer_->mutex_};
      users.swap(sequencer_->revoked_[index_]);
      revokes_ = sequencer_->revokes_.load(std::memory_order_relaxed);
    }
    for (const std::string& u : users) (void)h.revoke(u);
  }

  [[nodiscard]] bool take(std::uint16_t number, const event& e, const publish_options& o) noexcept {
    const publish_result r = channels_[number].publish(e, o);
    error_ = r.error;
    if (!is_changed_[number]) changed_.push_back(number);
    is_changed_[number] = true;
    return r.error != publish_error::no_memory;
  }

  /// sequencer::hand_on
  [[nodiscard]] bool take_ordered(std::string_view bytes) noexcept {
    detail::ordered_note note;
    SSEHUB_ASSERT(bytes.size() == sizeof note);
    std::memcpy(&note, bytes.data(), sizeof note);
    publish_error first = publish_error::none;
    mail m;
    for (detail::ordered_events::place next = ordered_at_; note.events->next(next, m);) {
      if (!take(m.channel, m.event, m.options)) return false;
      ordered_at_ = next;
      if (first == publish_error::none) first = error_;
    }
    error_ = first;
    ordered_at_ = {};
    account_->take(note);
    return true;
  }

  [[nodiscard]] static bool same(const hub_stats& a, const hub_stats& b) noexcept {
    static_assert(std::has_unique_object_representations_v<hub_stats>);
    return std::memcmp(&a, &b, sizeof a) == 0;
  }
  /// The channels that changed, and `most` others in turn.
  void report(const hub_stats& now, std::size_t most) noexcept {
    const std::scoped_lock<std::mutex> lock{sequencer_->stats_mutex_};
    sequencer::report& r = sequencer_->reports_[index_];
    r.hub = now;
    for (const std::uint16_t i : changed_) {
      r.channels[i] = channels_[i].stats();
      is_changed_[i] = false;
    }
    changed_.clear();
    for (std::size_t i = (std::min)(most, channels_.size()); i != 0; --i) {
      if (next_ == channels_.size()) next_ = 0;
      r.channels[next_] = channels_[next_].stats();
      ++next_;
    }
  }
  [[nodiscard]] bool reached(event_id id) const noexcept {
    return sequencer_ == nullptr || channels_.empty() || id <= channels_.front().last_id();
  }

  sequencer* sequencer_ = nullptr;
  std::vector<channel> channels_;
  std::size_t index_ = 0;
  // What was reported and what is to be.
  hub_stats reported_{};
  std::uint64_t answered_ = 0;          // sequencer::asked_
  std::vector<std::uint16_t> changed_;  // numbers of channels that got mail
  std::vector<bool> is_changed_;
  std::size_t next_ = 0;  // of the others
  bool ending_ = false;
  publish_error error_ = publish_error::none;
  std::shared_ptr<detail::ordered_account> account_;
  detail::ordered_events::place ordered_at_;  // in what is being taken
  std::size_t lost_told_ = 0;                 // channels that have the gap that is being taken
  event_id looked_at_ = no_id;                // head_moved
  std::vector<session_id> waiting_;           // for what their backfill hooks have not got yet
  std::uint64_t backfills_ = 0;               // sequencer::backfills_
  std::uint64_t revokes_ = 0;                 // sequencer::revokes_
};

/// Of one shard: its hub, and how its thread is woken.
struct shard_options {
  hub_options hub{};                               ///< first_id and counter are the sequencer's
  void (*wake)(void* context) noexcept = nullptr;  ///< see mailbox_options
  void* context = nullptr;                         ///< for wake
  wake_mode mode = wake_mode::when_idle;           ///< when `wake` is called
};

/// A hub with its mailbox and its port, for a loop of the host's own.
template <transport Transport, std::movable User = no_user>
class shard {
 public:
  using hub_type = sse::hub<Transport, User>;        ///< of its streams
  using connection = typename hub_type::connection;  ///< the transport's

  /// False as a bool: see shard_port::attach.
  shard(sequencer& s, Transport& t, const shard_options& o = {})
      : mail_{mailbox_options{
            .wake = o.wake, .context = o.context, .mode = o.mode, .limits = s.options().limits}},
        hub_{t, prepared(s, o.hub)} {
    attached_ = port_.attach(s, hub_, mail_);
  }
  /// Its readers are closed. What it counted stays in the sequencer's sums.
  ~shard() {
    mail_.close();
    if (attached_) port_.report_end(hub_.stats());
  }
  [[nodiscard]] explicit operator bool() const noexcept { return attached_; }

  [[nodiscard]] hub_type& hub() noexcept { return hub_; }  ///< its own
  /// Its channel of that number; none: there is no such.
  [[nodiscard]] channel at(std::size_t number) const noexcept { return port_.at(number); }

  /// As hub::accept, on whichever shard the client got its last event. A turn is due after it.
  [[nodiscard]] accept_result accept(connection&& c, const request& r) {
    refused_request no;
    return catch_up(r, no) ? hub_.accept(std::move(c), r) : hub_.turn_away(std::move(c), r, no);
  }
  /// The same with a verdict that is there already.
  [[nodiscard]] accept_result accept(connection&& c, const request& r, verdict<User> v) {
    refused_request no;
    if (catch_up(r, no)) return hub_.accept(std::move(c), r, std::move(v));
    if (v.admitted()) hub_.tell_refused(r, v.user(), no);
    return hub_.turn_away(std::move(c), r, no);
  }

  /// One turn of the loop: time in, mail in, bytes out. True: call it again soon.
  bool turn(time_point now) noexcept {
    port_.turn_begins();
    hub_.tick(now);
    drain();
    port_.wake_waiting(hub_);
    if (port_.ending()) hub_.drain(port_.how_to_drain());
    const bool more = hub_.flush();
    port_.report(hub_.stats());
    turn_due_ = more;
    return more;
  }
  /// See mailbox. The loop may sleep until hub().next_deadline(). False: another turn is due.
  [[nodiscard]] bool prepare_sleep() noexcept { return !turn_due_ && mail_.prepare_sleep(); }
  void awake() noexcept { mail_.awake(); }  ///< the loop has slept

 private:
  static hub_options prepared(sequencer& s, hub_options o) noexcept {
    shard_port::prepare(s, o);
    return o;
  }
  void drain() noexcept {
    mail_.drain([this](const sse::mail& m) { return port_.take(m); });
  }
  bool catch_up(const request& r, refused_request& no) {
    turn_due_ = true;
    return port_.catch_up(r, hub_.options(), no, [this] { drain(); });
  }

  mailbox mail_;
  hub_type hub_;
  shard_port port_;
  bool attached_ = false;
  bool turn_due_ = false;  // something was published or a stream was opened since the last one
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_SHARDS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Who sent the request: the peer, or, if it is a proxy that we trust, the last one in
/// X-Forwarded-For that is not. Empty: as the peer. What cannot be read ends the search, since
/// anybody could have written what stands left of it.
[[nodiscard]] inline std::string forwarded_for(const request& r, std::string_view peer,
                                               std::span<const std::string> trusted) {
  const auto is_trusted = [&](std::string_view a) {
    return std::find(trusted.begin(), trusted.end(), a) != trusted.end();
  };
  if (!is_trusted(peer)) return {};
  std::string last{peer};
  for (std::size_t i = r.headers.size(); i-- > 0;) {
    if (!text::equal_fold(r.headers[i].name, "X-Forwarded-For")) continue;
    std::string_view list = r.headers[i].value;
    while (!list.empty()) {
      const std::size_t comma = list.rfind(',');
      const std::size_t begin = comma == std::string_view::npos ? 0 : comma + 1;
      std::string hop = client_ip_text(text::trim(list.substr(begin)));
      if (hop.empty()) return last;
      last = std::move(hop);
      if (!is_trusted(last)) return last;
      list = list.substr(0, comma == std::string_view::npos ? 0 : comma);
    }
  }
  return last;
}

template <class T>
void allow_times(waiting_room<T>& w, const server_options& o) noexcept {
  w.allow(due::handshake, o.handshake_deadline);
  w.allow(due::head, o.head_deadline);
  w.allow(due::body, o.body_deadline);
  w.allow(due::verdict, o.verdict_deadline);
  if (o.shards != nullptr) w.allow(due::ahead, o.shards->options().wait_ahead);
  w.allow(due::idle, o.keep_alive);
  w.allow(due::write, o.hub.write_deadline);
}

/// Too many handshakes are under way: those that last longest give way, so that peers that never
/// finish theirs shut nobody out.
template <class T>
void limit_handshakes(waiting_room<T>& w, const server_options& o) noexcept {
  const chain<T>& all = w.waiting_for(due::handshake);
  while (o.max_handshakes != 0 && all.size > o.max_handshakes) all.first->drop();
}

/// There are as many connections as there may be: one for which nobody asked anything for a second,
/// that which waits longest, gives way to one that comes. Kept ones first, then those that have not
/// brought a whole request.
template <class T>
void make_room(waiting_room<T>& w, const server_options& o, time_point now) noexcept {
  const auto waits = [now](const T& t, duration length) {
    return !length.is_off() && t.due_at - length.ms() + 1000 <= now.ms();
  };
  T* const kept = w.waiting_for(due::idle).first;
  if (kept != nullptr && waits(*kept, o.keep_alive)) return kept->drop();
  T* const begun = w.waiting_for(due::head).first;
  if (begun != nullptr && waits(*begun, o.head_deadline)) begun->drop();
}

/// `Transport`: the host's. Its loop, which derives from this, drains the mail and calls the hub.
template <class User, class Transport>
class server_core {
 public:
  using user_type = User;
  using transport_type = Transport;
  using hub_type = sse::hub<Transport, User>;
  using endpoint = http_endpoint<User>;

  /// Throws std::invalid_argument for options that cannot work. `transport`: what it is made of.
  template <class... Args>
  explicit server_core(const server_options& o, Args&&... transport)
      : options_{o},
        cors_{o.cors},
        open_cors_{for_any_origin(o.cors)},
        hosts_{o.hosts},
        head_{o.head},
        transport_{std::forward<Args>(transport)...} {
    if (validate(o.cors) != cors_error::none) {
      throw std::invalid_argument("server_options::cors is not a valid policy");
    }
    options_.cors = {};
    options_.head = {};
    for (const std::string& p : o.trusted_proxies) {
      trusted_.push_back(client_ip_text(p));
      if (trusted_.back().empty()) throw std::invalid_argument("not an address: " + p);
    }
    const auto clock = std::chrono::system_clock::now().time_since_epoch();
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(clock).count();
    hub_options h = o.hub;
    h.first_id = said_or(h.first_id, static_cast<event_id>(us));
    if (h.seed == hub_options{}.seed) {
      h.seed ^= static_cast<std::uint64_t>(us) ^ reinterpret_cast<std::uintptr_t>(this);
      h.seed ^= static_cast<std::uint64_t>(now_us()) << 20U;
    }
    if (o.shards != nullptr) shard_port::prepare(*o.shards, h);
    hub_.emplace(transport_, h);
    hub_->on_channel_closed([this](channel c) {
      forget_channel(c);
      if (on_channel_closed) on_channel_closed(c);
    });
    hub_->refusal_form([this](const refused_request& q) { return form_of(q); });
    hub_->tick(now());
  }
  server_core(const server_core&) = delete;
  server_core& operator=(const server_core&) = delete;

  // --- what the connections ask

  [[nodiscard]] const http1::limits& limits() const noexcept { return options_.limits; }
  [[nodiscard]] std::array<char, 16384>& scratch() noexcept { return scratch_; }
  [[nodiscard]] transport_type& transport() noexcept { return transport_; }
  /// What is said to pages of other origins about the answer to this request.
  [[nodiscard]] const cors_policy& cors_of(const request& r) const noexcept {
    for (const std::string& p : options_.any_origin) {
      if (p.ends_with('/') ? r.path.starts_with(p) : r.path == p) return open_cors_.policy;
    }
    return cors_.policy;
  }
  /// No further request of a connection is served.
  [[nodiscard]] bool ending() const noexcept { return draining_ || stopped_; }

  [[nodiscard]] time_point now() const noexcept {
    return options_.clock != nullptr ? options_.clock()
                                     : time_point{std::chrono::steady_clock::now()};
  }
  [[nodiscard]] static std::int64_t now_us() noexcept {
    const auto t = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::microseconds>(t).count();
  }

  /// A refusal in the form that the host wants.
  [[nodiscard]] response form_of(const refused_request& q) {
    if (error_page) {
      try {
        return error_page(q);
      } catch (const std::exception& e) {
        error(e.what(), {});
      } catch (...) {
        error("exception", {});
      }
    }
    return refusal_response(q);
  }
  /// Of the server itself.
  [[nodiscard]] response refusal(int status, refusal_reason why = refusal_reason::http,
                                 duration retry_after = duration::off()) {
    const refused_request q{why, status, retry_after};
    return finish_refusal(form_of(q), q);
  }

  void error(std::string_view what, const std::error_code& e) noexcept {
    if (!on_error) return;
    try {
      on_error(what, e);
    } catch (...) {
    }
  }

  void log(const request& r, int status, std::uint64_t bytes, std::int64_t began,
           bool stream) noexcept {
    if (!on_access) return;
    try {
      const std::string shown = redact_target(r.target);
      on_access({r.method, shown, r.address, status, bytes, now_us() - began, stream});
    } catch (...) {
    }
  }

  /// Who answers a request. to == nullptr: `answer` does.
  struct routed {
    std::shared_ptr<endpoint> to{};
    response answer{};
    bool with_cors = true;  // the answer is to have them still
  };
  [[nodiscard]] routed route(const request& r) {
    if (!hosts_.views.empty() && !host_allowed(r, hosts_.views)) return {{}, refusal(403)};
    if (r.method == "OPTIONS")
      return {{}, preflight(cors_of(r), r, options_.preflight_status), false};
    const auto* found = routes.find(r.path);
    if (found == nullptr) return {{}, refusal(404)};
    std::shared_ptr<endpoint> e = found->find(r.method);
    if (e == nullptr) {
      response no = refusal(405);
      return {{}, std::move(no.add("Allow", found->allow()))};
    }
    const bool changes = r.method != "GET" && r.method != "HEAD";
    const bool checks = options_.check_origin || cors_.policy.credentials;
    if (changes && checks && !origin_allowed(cors_.policy, r)) return {{}, refusal(403)};
    return {std::move(e)};
  }
  /// The client's address where a trusted proxy names it; empty: the peer's.
  [[nodiscard]] std::string client_of(const request& r, std::string_view peer) const {
    return forwarded_for(r, peer, trusted_);
  }
  /// No TLS session came about: whose fault it is, is not known.
  void handshake_failed(const std::string& why, std::string_view address) {
    const std::error_code e = std::make_error_code(std::errc::protocol_error);
    error(std::string{"TLS handshake with "}.append(address).append(": ").append(why), e);
  }
  /// HTTP came where TLS is spoken: what this one is told.
  [[nodiscard]] std::string not_plain(std::string_view address) {
    const response r = response::text(400, "This port speaks TLS: use https://\n");
    std::string out;
    http1::write_response(out, r, {.keep_alive = false});
    log({.method = {}, .address = address}, 400, out.size(), now_us(), false);
    return out;
  }
  /// Too many connections: what this one is told.
  [[nodiscard]] std::string crowded() {
    response r = refusal(503, refusal_reason::http, duration::seconds(5));
    add_cors(r.headers, cors_.policy, request{});
    std::string out;
    http1::write_response(out, r, {.keep_alive = false});
    return out;
  }

  /// Appends the head of a stream; whether it is framed as chunks. `stays`: the connection outlives
  /// it, if its end can be seen without that of the connection.
  [[nodiscard]] bool write_head(std::string& out, const endpoint& e, const request& r, bool stays) {
    const owned_head& own = e.head != nullptr ? *e.head : head_;
    std::string lines = own.extra;
    add_cors(lines, cors_of(r), r);
    const bool chunked = options_.chunked && r.minor_version > 0;
    http1::stream_head head = own.view(lines);
    head.keep_alive = head.keep_alive || (stays && (chunked || r.method == "HEAD"));
    if (!http1::write_stream_head(out, head, r.minor_version, chunked)) {
      throw std::invalid_argument("stream_head is not valid");
    }
    return chunked;
  }

  /// What is known of a stream's head once there is a verdict.
  void add_to_head(std::string& head, const endpoint& e, verdict<User>& v) {
    if (!v.admitted()) return;
    std::string lines{v.headers()};
    const http1::stream_head& own = (e.head != nullptr ? *e.head : head_).head;
    if (options_.announce_heartbeat && own.heartbeat_seconds == 0) {
      http1::write_heartbeat(lines, heartbeat_of(v));
    }
    head.insert(head.size() - 2, lines);  // in front of the empty line
    if (v.joining().bad_header) error("verdict::header: not one that may be sent", {});
  }
  /// How long a stream can be silent; off(): for ever.
  [[nodiscard]] static duration heartbeat_of(verdict<User>& v) noexcept {
    duration least = duration::off();
    for (std::uint32_t i = 0; i < v.joining().channels.size(); ++i) {
      const channel_options* const o = v.joining().channels[i].options();
      if (o == nullptr || o->heartbeat.mode == heartbeat_options::pace::off) continue;
      if (least.is_off() || o->heartbeat.every < least) least = o->heartbeat.every;
    }
    return least;
  }

  /// `ask`: a verdict, or what gives one: the hub asks, so that shape and caps come first.
  template <class Ask>
  [[nodiscard]] accept_result admit(typename Transport::connection&& c, const request& r,
                                    Ask&& ask) {
    touch_clock();
    refused_request no;
    if (!caught_up(r, no)) {
      if constexpr (std::is_same_v<Ask, verdict<User>>) {
        if (ask.admitted()) hub_->tell_refused(r, ask.user(), no);
      }
      return hub_->turn_away(std::move(c), r, no);
    }
    return hub_->accept(std::move(c), r, std::forward<Ask>(ask));
  }

  /// Its client has an id that has not come here yet: it waits.
  [[nodiscard]] bool is_ahead(const request& r) const noexcept {
    return port_.is_ahead(r, hub_->options());
  }

  /// Where late answers go.
  [[nodiscard]] const std::shared_ptr<inbox>& box() const noexcept { return inbox_; }

  /// The hub's clock without anything becoming due, since then hooks run.
  void touch_clock() noexcept { hub_->set_time(now()); }

  [[nodiscard]] hub_type& hub() noexcept { return *hub_; }
  [[nodiscard]] mailbox& mail() noexcept { return *mail_; }

  /// What publishers of this channel's events call it; never used again for another. REQUIRES: it
  /// is the hub's.
  [[nodiscard]] std::uint64_t token_of(channel c) {
    if (const auto at = target_of_.find(c); at != target_of_.end())
      return targets_[at->second].token;
    if (free_target_ == no_target) {
      targets_.emplace_back();
      free_target_ = static_cast<std::uint32_t>(targets_.size() - 1);
    }
    const std::uint32_t slot = free_target_;
    target_of_.emplace(c, slot);
    mail_target& t = targets_[slot];
    free_target_ = t.next_free;
    t = {.token = ++tokens_ << 32U | slot, .to = c};
    return t.token;
  }

  // What the host sets.
  http_routes<User> routes;
  function<void(const access_record&)> on_access;
  function<void(std::string_view, const std::error_code&)> on_error;
  function<response(const refused_request&)> error_page;
  function<void(channel)> on_channel_closed;

 protected:
  /// The host's half is gone: nothing of it may be called any more.
  void forget_hooks() noexcept {
    hub_->on_refused({});
    hub_->refusal_form({});
    hub_->on_sees({});
    hub_->on_opened({});
    hub_->on_closed({});
    hub_->on_presence({});
    hub_->on_gap({});
    hub_->on_wanted({});
    hub_->on_channel_closed({});
    // Not `= {}`: Clang 14 forgets the destructor of such a temporary in a template.
    on_access = decltype(on_access){};
    on_error = decltype(on_error){};
    error_page = decltype(error_page){};
    on_channel_closed = decltype(on_channel_closed){};
    routes.clear();
  }
  void forget_channel(channel c) noexcept {
    routes.remove(c);
    if (const auto at = target_of_.find(c); at != target_of_.end()) forget_target(at->second);
  }

  /// Of mail: what a sequencer takes, its shards take too.
  [[nodiscard]] encode_limits mail_limits() const noexcept {
    encode_limits l;
    if (options_.shards != nullptr)
      l.event = (std::max)(l.event, options_.shards->options().limits.event);
    return l;
  }
  /// Once mail_ is there. Throws std::invalid_argument.
  void join_shards() {
    if (options_.shards != nullptr && !port_.attach(*options_.shards, *hub_, *mail_)) {
      throw std::invalid_argument("too late to join the sequencer, or it has no place");
    }
  }
  /// All mail into the logs.
  void drain_mail() noexcept {
    ++turn_;
    if (port_) port_.turn_begins();
    take_mail();
    if (port_) port_.wake_waiting(*hub_);
  }
  /// After the mail: requests that wait for what their clients have already.
  template <class Connection>
  void look_at_those_ahead(waiting_room<Connection>& all) noexcept {
    if (port_ && port_.head_moved())
      all.for_each(due::ahead, [](Connection& c) { c.look_ahead(); });
  }
  /// Answers that came late to their connections.
  void take_late_answers() noexcept {
    for (inbox::task& t : inbox_->take()) {
      try {
        t();
      } catch (const std::exception& e) {
        error(e.what(), {});
      } catch (...) {
        error("exception", {});
      }
    }
  }
  /// All shards are to drain, and this one has what came before.
  [[nodiscard]] bool shards_end() const noexcept { return port_ && port_.ending() && !draining_; }
  /// A stream's connection may bring its next request: `back()` makes it one of the host's again.
  /// False: it may not, or its peer is gone.
  template <class F>
  [[nodiscard]] bool take_back(F&& back) noexcept {
    if (ending()) return false;
    try {
      return back();
    } catch (...) {
      return false;
    }
  }
  void report_to_shards() noexcept {
    if (port_) port_.report(hub_->stats());
  }

  server_options options_;
  bool draining_ = false;
  bool stopped_ = false;

 private:
  static constexpr std::uint32_t no_target = UINT32_MAX;
  struct mail_target {
    std::uint64_t token = 0;  // its slot, and above it a number that no other had; 0: it is free
    channel to{};
    std::uint32_t next_free = no_target;
  };

  /// Mail for it is mail for a channel that is closed, from now on.
  void forget_target(std::uint32_t slot) noexcept {
    target_of_.erase(targets_[slot].to);
    targets_[slot] = {.next_free = std::exchange(free_target_, slot)};
  }

  void take_mail() noexcept {
    mail_->drain([this](const sse::mail& m) { return deliver(m); });
  }

  /// False: memory is out; it stays in its lane.
  bool deliver(const sse::mail& m) noexcept {
    if (m.target == shard_port::target && port_) return deliver_shared(m);
    touch_clock_for_mail();
    const channel to = target(m.target);
    if (!to) {
      error("mail for a channel that is closed", {});
      return true;
    }
    const publish_result r = hub_->publish(to, m.event, m.options);
    if (!r) error(to_string(r.error), {});
    return true;
  }

  /// The channel of a token; none: it is closed, or nobody's.
  [[nodiscard]] channel target(std::uint64_t token) const noexcept {
    const auto slot = static_cast<std::uint32_t>(token);
    if (token == 0 || slot >= targets_.size() || targets_[slot].token != token) return {};
    return targets_[slot].to;
  }

  /// Once in a turn that has mail.
  void touch_clock_for_mail() noexcept {
    if (mail_turn_ == turn_) return;
    mail_turn_ = turn_;
    touch_clock();
  }

  /// The sequencer's: what cannot be published now waits.
  bool deliver_shared(const sse::mail& m) noexcept {
    touch_clock_for_mail();
    const publish_error before = port_.error();
    const bool taken = port_.take(m);
    if (port_.error() != publish_error::none && port_.error() != before) {
      error(to_string(port_.error()), {});
    }
    return taken;
  }

  /// Has what the client got elsewhere.
  [[nodiscard]] bool caught_up(const request& r, refused_request& no) {
    return !port_ || port_.catch_up(r, hub_->options(), no, [this] { take_mail(); });
  }

  owned_cors cors_;
  owned_cors open_cors_;  ///< of options_.any_origin
  owned_texts hosts_;
  owned_head head_;
  std::vector<std::string> trusted_;

 protected:
  Transport transport_;
  std::optional<hub_type> hub_;
  std::optional<mailbox> mail_;
  std::shared_ptr<inbox> inbox_;  // made by the host, which can be woken
  shard_port port_;

 private:
  std::vector<mail_target> targets_;  // of publishers, by the lower half of their tokens
  std::unordered_map<channel, std::uint32_t, channel_hash> target_of_;
  std::uint32_t free_target_ = no_target;
  std::uint64_t tokens_ = 0;
  std::uint64_t turn_ = 0;
  std::uint64_t mail_turn_ = 0;  // in which the clock was last looked at for mail
  std::array<char, 16384> scratch_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_SERVER_CORE_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `Core`: a server_core with await(Self&, due). `Self` is the host's connection, which derives
/// from this and has
///
///   hold()            what keeps it alive while it lives
///   read()            more input is wanted: serve() takes it
///   next()            the same, after a stream
///   write()           sends out_; writing_: it goes on, wrote_all() ends it; else wrote()
///   drop(), abort()   it ends at once, or by a reset
///   hang_up()         it ends after what was written
///   leave()           it is over, or the hub has it
///   watch_end()       an answer is awaited: looks for the end of the connection, if it can
///   send_plain(text)  past the TLS that did not come about, as much as goes at once
///
/// leave() holds what give_up() gives until all else is done.
template <class Self, class Core>
class http_connection {
 protected:
  using connection_type = typename Core::transport_type::connection;
  using user_type = typename Core::user_type;
  using endpoint = typename Core::endpoint;
  static constexpr std::size_t enough_output = 64U << 10U;

 public:
  http_connection(Core& core, connection_type c, std::string address)
      : peer_{std::move(c)}, core_{&core}, reader_{core.limits()}, address_{std::move(address)} {}
  http_connection(const http_connection&) = delete;
  http_connection& operator=(const http_connection&) = delete;

  /// The stream that it carried is over: its next request may come.
  void resume() noexcept {
    serial_ = 1;
    guarded([&] {
      set_due();
      self().next();
    });
  }

  /// Its time is up.
  void expired(due what) noexcept {
    guarded([&] {
      if (what == due::write) {
        self().abort();
      } else if (what == due::idle) {
        self().hang_up();
      } else if (what == due::verdict) {
        give_no_verdict();
      } else if (what == due::ahead) {
        stop_waiting_ahead();
      } else if (what == due::body || (what == due::head && !idle_)) {
        refuse(408);
        go_on();
      } else {
        self().drop();
      }
    });
  }
  /// The server takes no more: ends what waits for a request, or to become a stream.
  void drain() noexcept {
    if (awaits_verdict()) return give_no_verdict();
    if (ahead_ == ahead::waits) return guarded([&] { stop_waiting_ahead(); });
    if (phase_ == phase::handshake) return self().drop();
    if (phase_ == phase::head && idle_ && !writing_ && out_.empty()) self().hang_up();
  }

  /// The hub got events: perhaps what the client has already.
  void look_ahead() noexcept {
    if (!core_->is_ahead(make_request())) guarded([&] { stop_waiting_ahead(); });
  }

  /// The answer that was to come later, or that there is none.
  void answered(std::optional<response> r) noexcept {
    guarded([&] {
      [[maybe_unused]] const auto held = self().hold();
      end_late();
      const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
      answer(r ? std::move(*r) : core_->refusal(500), e->takes_body);
      go_on();
    });
  }
  void answered(std::optional<verdict<user_type>> v) noexcept {
    guarded([&] {
      [[maybe_unused]] const auto held = self().hold();
      end_late();
      const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
      handle(*e, [&] {
        if (!v) return answer(core_->refusal(500), e->takes_body);
        open_stream(*e, std::move(*v));
      });
      go_on();
    });
  }

  link<Self> hook;
  std::int64_t due_at = 0;

 protected:
  ~http_connection() = default;

  enum class phase : std::uint8_t {
    handshake,
    head,
    body,
    answering,  // a handler runs, or somebody holds a responder
    opening,    // a stream, once all answers before it are out
    closing,    // once all that was answered is out
  };

  /// Whether a request for a stream waits for the hub to have what its client has.
  enum class ahead : std::uint8_t { no, waits, waited };

  /// What is thrown in here ends this connection alone.
  template <class F>
  void guarded(F&& f) noexcept {
    if (core_ == nullptr) return;
    try {
      f();
    } catch (const std::exception& e) {
      failed(e.what());
    } catch (...) {
      failed("exception");
    }
  }
  void failed(const char* what) noexcept {
    if (core_ == nullptr) return;
    core_->error(what, {});
    self().drop();
  }

  /// No TLS session came about. A peer that speaks HTTP is told so.
  template <class Layer>
  void refuse_handshake(const Layer& layer) {
    const bool plain = layer.met_plain_http();
    core_->handshake_failed(layer.reason(), address_);
    if (core_ != nullptr && plain) {  // else the program stopped its server
      const std::string out = core_->not_plain(address_);
      if (core_ != nullptr) self().send_plain(out);
    }
    self().hang_up();
  }

  // --- bytes in

  void serve(std::string_view bytes) {
    [[maybe_unused]] const auto held = self().hold();
    if (in_.empty()) {
      take(bytes);
    } else {
      in_.append(bytes);  // read ahead: go_on() takes it when it may
    }
    go_on();
  }

  /// Takes bytes as far as it may; the rest waits in in_.
  void take(std::string_view bytes) {
    serving_ = true;
    while (core_ != nullptr && !bytes.empty() && out_.size() < enough_output) {
      if (phase_ == phase::head) {
        read_head(bytes);
      } else if (phase_ == phase::body) {
        read_body(bytes);
      } else {
        break;
      }
    }
    serving_ = false;
    if (core_ == nullptr) return;
    in_.assign(phase_ == phase::closing ? std::string_view{} : bytes);
  }

  void read_head(std::string_view& bytes) {
    if (idle_) {
      idle_ = false;
      began_ = Core::now_us();
      set_due();
    }
    const http1::feed_result r = reader_.feed(bytes);
    bytes.remove_prefix(r.consumed);
    more_behind_ = !bytes.empty();
    if (r.state == http1::outcome::error) {
      refuse(reader_.status());
    } else if (r.state == http1::outcome::complete) {
      route();
    }
  }

  void read_body(std::string_view& bytes) {
    const http1::feed_result r = framing_.feed(bytes, body_);
    bytes.remove_prefix(r.consumed);
    more_behind_ = !bytes.empty();
    if (r.state == http1::outcome::error) {
      refuse(framing_.status());
    } else if (r.state == http1::outcome::complete) {
      call();
    }
  }

  // --- requests

  [[nodiscard]] request make_request() {
    request r = reader_.head();
    r.address = address_;
    return r;
  }

  void route() {
    forwarded_ = core_->client_of(reader_.head(), address_);
    if (!forwarded_.empty()) address_.swap(forwarded_);
    typename Core::routed found = core_->route(make_request());
    if (found.to == nullptr) return answer(std::move(found.answer), false, found.with_cors);

    endpoint_ = std::move(found.to);
    if (endpoint_->takes_body && reader_.has_body()) {
      phase_ = phase::body;
      framing_ = http1::body_reader{reader_, core_->limits()};
      set_due();
      const auto promised = to_size(reader_.content_length());
      body_.reserve(promised < enough_output ? promised : enough_output);
      if (reader_.expects_continue()) out_.append(http1::continue_head);
      return;
    }
    call();
  }

  /// Runs the handler.
  void call() {
    const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
    phase_ = phase::answering;
    set_due();
    if ((e->stream || e->later_stream) && (writing_ || !out_.empty())) {
      endpoint_ = e;
      phase_ = phase::opening;
      return;
    }
    if ((e->stream || e->later_stream) && ahead_ == ahead::no && core_->is_ahead(make_request())) {
      endpoint_ = e;
      ahead_ = ahead::waits;
      return set_due();
    }
    ahead_ = ahead::no;
    handle(*e, [&] {
      if (e->answer) {
        response r = e->answer(make_request(), body_);
        if (core_ != nullptr) answer(std::move(r), e->takes_body);
      } else if (e->stream) {
        const request r = make_request();
        open_stream(*e, [&] { return e->stream(r, body_); });
      } else if (e->later) {
        endpoint_ = e;
        e->later(make_request(), body_, make_responder<response>());
      } else if (may_wait(*e)) {
        endpoint_ = e;
        set_due();
        e->later_stream(make_request(), body_, make_responder<verdict<user_type>>());
      }
    });
  }

  /// What is thrown answers the request, if nothing has yet.
  template <class F>
  void handle(endpoint& e, F&& f) {
    const std::uint32_t serial = serial_;
    try {
      f();
    } catch (const std::exception& x) {
      handler_failed(x.what(), serial, e.takes_body);
    } catch (...) {
      handler_failed("exception", serial, e.takes_body);
    }
  }

  void handler_failed(const char* what, std::uint32_t serial, bool body_read) {
    if (core_ == nullptr) return;
    core_->error(what, {});
    if (!peer_) return self().leave();  // the hub has it: one of its hooks threw
    if (serial == serial_) answer(core_->refusal(500), body_read);
  }

  /// It goes on as far as it can: the hub has what its client has, or there was no more time.
  void stop_waiting_ahead() {
    [[maybe_unused]] const auto held = self().hold();
    ahead_ = ahead::waited;
    call();
    if (core_ != nullptr) go_on();
  }

  // --- answers that come later

  template <class Answer>
  [[nodiscard]] basic_responder<Answer> make_responder() {
    using late = late_request<http_connection>;
    late_ = std::make_shared<late>(*this, core_->box());
    return basic_responder<Answer>{late::template sender<Answer>(late_), late_};
  }
  /// Nobody waits for it any more.
  std::shared_ptr<late_answer> let_go() noexcept {
    core_->hub().release(place_);
    if (late_ != nullptr) late_->to = nullptr;
    return std::exchange(late_, nullptr);
  }
  /// The request has its answer.
  void end_late() noexcept {
    if (const std::shared_ptr<late_answer> l = let_go(); l != nullptr) l->on_called_off = {};
  }
  /// Tells who still holds a responder, when it goes.
  struct called_off {
    explicit called_off(std::shared_ptr<late_answer> l) noexcept : late{std::move(l)} {}
    called_off(called_off&&) noexcept = default;
    called_off& operator=(called_off&&) = delete;
    ~called_off() {
      if (late == nullptr) return;
      late->called_off.store(true, std::memory_order_release);
      const function<void()> tell = std::move(late->on_called_off);
      try {
        if (tell) tell();
      } catch (...) {  // there is nobody to tell any more
      }
    }
    std::shared_ptr<late_answer> late;
  };
  [[nodiscard]] called_off give_up() noexcept { return called_off{let_go()}; }
  [[nodiscard]] bool awaits_verdict() const noexcept { return static_cast<bool>(place_); }
  [[nodiscard]] bool waits_for_stream() const noexcept {
    return awaits_verdict() || ahead_ == ahead::waits;
  }

  /// The time for it is over, or the server drains.
  void give_no_verdict() noexcept {
    guarded([&] {
      [[maybe_unused]] const auto held = self().hold();
      const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
      { const called_off now = give_up(); }
      if (core_ == nullptr) return;
      offer(*e, [&](connection_type&& c, const request& r, const std::string&) {
        const duration later = core_->hub().options().retry_max;
        return core_->hub().turn_away(std::move(c), r, {refusal_reason::no_verdict, 503, later});
      });
      go_on();
    });
  }

  // --- streams

  /// `ask`: gives the verdict.
  template <class Ask>
  requires std::is_invocable_v<Ask&>
  void open_stream(endpoint& e, Ask&& ask) {
    offer(e, [&](connection_type&& c, request& r, std::string& head) {
      return core_->accept(std::move(c), r, [&] {
        verdict<user_type> v = ask();
        if (core_ == nullptr) return v;  // the program stopped its server
        core_->add_to_head(head, e, v);
        r.preamble = head;
        return v;
      });
    });
  }
  void open_stream(endpoint& e, verdict<user_type> v) {
    offer(e, [&](connection_type&& c, request& r, std::string& head) {
      core_->add_to_head(head, e, v);
      r.preamble = head;
      return core_->accept(std::move(c), r, std::move(v));
    });
  }
  /// False: it was answered already.
  [[nodiscard]] bool may_wait(endpoint& e) {
    offer(e, [&](connection_type&& c, request& r, std::string&) {
      return core_->wait(std::move(c), r, place_);
    });
    return awaits_verdict();
  }

  template <class Hub>
  void offer(endpoint& e, Hub&& to) {
    request r = make_request();
    std::string head;
    const bool head_only = r.method == "HEAD";
    // What came behind the request already would be lost in the stream.
    const bool stays = reader_.answer(e.takes_body).keep_alive && !core_->ending() &&
                       (head_only || (!more_behind_ && in_.empty()));
    r.chunked = core_->write_head(head, e, r, stays);
    r.preamble = head;
    peer_.reuse(stays && r.chunked);
    accept_result out;
    {
      // A handler may stop the server, which ends this connection: the hub gets its own handle.
      handing_over given{*this, std::move(peer_)};
      out = to(std::move(given.connection), r, head);
    }
    if (core_ == nullptr || awaits_verdict()) return;
    if (!peer_) {  // it is the hub's now
      core_->log(r, 200, 0, began_, true);
      self().leave();
    } else if (out.head_only) {
      out_.append(head);
      answered_with(200, head.size(), stays);
    } else {
      answer(std::move(out.refusal), e.takes_body);
    }
  }
  struct handing_over {
    ~handing_over() {
      if (connection && me.core_ != nullptr) me.peer_ = std::move(connection);
    }
    http_connection& me;
    connection_type connection;
  };

  // --- bytes out

  void refuse(int status) { answer(core_->refusal(status), false); }

  void answer(response r, bool body_read, bool with_cors = true) {
    // A request that could not be read has a method at most.
    const bool readable = reader_.state() == http1::outcome::complete;
    const request q = readable ? make_request() : request{};
    if (with_cors) add_cors(r.headers, core_->cors_of(q), q);
    http1::response_options o = reader_.answer(body_read);
    o.keep_alive = o.keep_alive && readable && !core_->ending();
    const std::size_t before = out_.size();
    if (!http1::write_response(out_, r, o)) {
      core_->error("an answer with a bad status or header became 500", {});
      r.status = 500;
    }
    answered_with(r.status, out_.size() - before, o.keep_alive);
  }

  /// What was written answers the request; on to the next.
  void answered_with(int status, std::size_t bytes, bool keep_alive) {
    ++serial_;
    end_late();
    const bool readable = reader_.state() == http1::outcome::complete;
    request q = readable ? make_request() : request{.method = {}, .address = address_};
    core_->log(q, status, bytes, began_, false);
    if (core_ == nullptr) return;
    if (!forwarded_.empty()) address_.swap(forwarded_);
    forwarded_.clear();
    endpoint_ = nullptr;
    body_.clear();
    if (body_.capacity() > enough_output) body_.shrink_to_fit();
    if (!keep_alive || core_->ending()) {
      phase_ = phase::closing;
    } else {
      reader_.reset();
      phase_ = phase::head;
      idle_ = true;
    }
    set_due();
  }

  /// Writes what there is, or reads, or ends: whatever the phase asks for.
  void go_on() {
    while (core_ != nullptr && !writing_) {
      if (!out_.empty()) {
        self().write();
        if (writing_ && phase_ == phase::body && in_.empty()) self().read();
      } else if (phase_ == phase::closing) {
        return self().hang_up();
      } else if (phase_ == phase::opening) {
        call();
      } else if (phase_ == phase::head || phase_ == phase::body) {
        if (!in_.empty()) {
          std::string bytes;
          bytes.swap(in_);
          take(bytes);
        } else if (phase_ == phase::head && idle_ && core_->ending()) {
          return self().hang_up();
        } else {
          return self().read();
        }
      } else {
        return self().watch_end();
      }
    }
  }
  /// Some of out_ left, or is about to: what it has time for the rest.
  void await_write() {
    if (phase_ != phase::body) core_->await(self(), due_ = due::write);
  }
  /// All of it left.
  void wrote() {
    if (sending_.capacity() > enough_output) std::string{}.swap(sending_);
    set_due();
  }
  /// The same, where write() is over since.
  void wrote_all() {
    wrote();
    go_on();
  }

  /// The deadline that the state asks for; one that runs already goes on.
  void set_due() {
    due d = due::never;
    if (phase_ == phase::body) {
      d = due::body;
    } else if (awaits_verdict()) {
      d = due::verdict;
    } else if (ahead_ == ahead::waits) {
      d = due::ahead;
    } else if (writing_) {
      d = due::write;
    } else if (phase_ == phase::handshake) {
      d = due::handshake;
    } else if (phase_ == phase::head) {
      d = idle_ && serial_ != 0 ? due::idle : due::head;
    }
    if (d != due_) core_->await(self(), due_ = d);
  }

  [[nodiscard]] Self& self() noexcept { return static_cast<Self&>(*this); }

  connection_type peer_;
  Core* core_;  // nullptr: over
  http1::head_reader reader_;
  http1::body_reader framing_{};  // of the body
  std::string in_;                // received, not yet looked at
  std::string body_;
  std::string out_;        // to be written next
  std::string sending_;    // being written
  std::string address_;    // of the client
  std::string forwarded_;  // the peer's own, while address_ is the one that a proxy named
  std::shared_ptr<endpoint> endpoint_;
  std::shared_ptr<late_request<http_connection>> late_;  // somebody holds its responder
  typename Core::hub_type::place place_{};               // it waits for its verdict
  std::int64_t began_ = 0;                               // the request, in microseconds
  std::uint32_t serial_ = 0;                             // of the request
  phase phase_ = phase::head;
  ahead ahead_ = ahead::no;
  due due_ = due::never;
  bool idle_ : 1 = true;  // nothing of a request is there
  bool writing_ : 1 = false;
  bool serving_ : 1 = false;
  bool more_behind_ : 1 = false;  // bytes came with the end of the request that it had no use for
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_HTTP_CONNECTION_HPP
// ---- sse/epoll_transport.hpp
//
// epoll_transport: the transport of a hub over sockets in an epoll loop. For programs that have
// such a loop; a server with one of its own is sse/epoll.hpp. With TLS: tls::epoll_transport of
// sse/openssl.hpp.
#ifndef SSEHUB_EPOLL_TRANSPORT_HPP
#define SSEHUB_EPOLL_TRANSPORT_HPP

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

// ---- sse/detail/net/unsent.hpp
//
// What the kernel holds of a connection that carries values: they age there.
#ifndef SSEHUB_DETAIL_NET_UNSENT_HPP
#define SSEHUB_DETAIL_NET_UNSENT_HPP

#if __has_include(<netinet/tcp.h>)
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#endif

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The connection takes no more while 16 KiB wait to be sent, unless somebody said already how
/// much: TCP_NOTSENT_LOWAT, where there is such a thing.
template <class Descriptor>
void hold_little(Descriptor fd) noexcept {
#if defined(TCP_NOTSENT_LOWAT)
  int said = 0;
  socklen_t size = sizeof said;
  const int enough = 16384;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &said, &size) == 0 && said <= 0)
    (void)::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &enough, sizeof enough);
#endif
  (void)fd;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_NET_UNSENT_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// A transport for hub<> over stream sockets, for programs with an epoll loop of their own;
/// epoll_server brings one.
///
///   sse::epoll_transport net{epoll};
///   sse::hub<sse::epoll_transport> hub{net};
///   const auto look = [&](int ms) {
///     epoll_event ready[64];
///     const int n = ::epoll_wait(epoll, ready, 64, ms);
///     for (int i = 0; i < n; ++i) {
///       if (!net.on_event(hub, ready[i])) mine(ready[i]);
///     }
///   };
///   (void)hub.accept(net.adopt(fd), request);  // fd is the hub's now
///   // Each turn of the loop:
///   look(wait);
///   const sse::time_point now = std::chrono::steady_clock::now();
///   if (hub.next_deadline() <= now) look(0);   // nothing is overdue before it was looked at
///   hub.tick(now);
///   hub.flush();
///
/// A write is tried at once and never blocks. A stream is registered once, for edges: after a write
/// that was short the kernel says when there is room, and no other call to epoll is needed. Its
/// data is session_id, so that a stream costs nothing but its descriptor.
///
/// A peer that ends its side is gone. What a peer sends is thrown away, or waits for the end of the
/// stream where its connection is for reuse(); one that sends more than `max_input` bytes is
/// closed.
///
/// `Layer`: what lies between it and the socket; tls::session, or nothing. Then a connection shakes
/// hands (connection::layer) before it is given to the hub.
///
/// Not thread-safe: it belongs to the thread of its hub. Destroy the hub first.
template <class Layer = detail::no_layer>
class basic_epoll_transport {
 public:
  /// What adopt() makes a layer of; see there.
  using security = typename Layer::security;
  static constexpr bool secure = Layer::secure;  ///< whether connections may be encrypted
  static constexpr std::size_t max_buffers = secure ? 1 : 16;  ///< see transport
  /// Bytes that a peer may send on an open stream.
  static constexpr std::uint32_t max_input = 64U << 10U;

  /// Owns a connected socket.
  class connection {
   public:
    connection() noexcept = default;
    /// Owns the descriptor from now on.
    explicit connection(int fd, Layer l = {}) noexcept : layer_{std::move(l)}, fd_{fd} {}
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }  ///< its descriptor; -1: none
    /// false: there is none, the connection is plain.
    [[nodiscard]] Layer& layer() noexcept { return layer_; }
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
    /// Whether it serves another request after its stream, see on_kept().
    void reuse(bool on) noexcept { reuse_ = on; }

    /// Asks a loop for `events` of it with `data`, instead of what it was asked for before.
    [[nodiscard]] bool watch(int epoll, std::uint32_t events, std::uint64_t data) noexcept {
      const bool ok = detail::watch(epoll, fd(), events, data, watched_);
      watched_ = watched_ || ok;
      return ok;
    }
    /// Ends that. To close it does so too, unless a child process has the descriptor as well.
    void unwatch(int epoll) noexcept {
      if (watched_) ::epoll_ctl(epoll, EPOLL_CTL_DEL, fd(), nullptr);
      watched_ = false;
    }

    // --- as the socket's own calls, through the layer

    /// As recv. EINTR: nothing for us yet, there may be more.
    [[nodiscard]] ssize_t receive(char* into, std::size_t size) noexcept {
      if constexpr (secure) {
        if (layer_) {
          const auto r = layer_.read({into, size});
          using step = decltype(r.next);
          if (r.next == step::done && r.bytes != 0) return static_cast<ssize_t>(r.bytes);
          errno = r.next == step::done ? EINTR : r.next == step::want_read ? EAGAIN : ECONNRESET;
          return r.next == step::closed ? 0 : -1;
        }
      }
      return ::recv(fd(), into, size, MSG_DONTWAIT);
    }
    /// As send. What was taken may be held for a while.
    [[nodiscard]] ssize_t send(const char* bytes, std::size_t size) noexcept {
      if constexpr (secure) {
        if (layer_) return send_through(bytes, size);
      }
      return ::send(fd(), bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    /// Some of what send took waits for room: send(nullptr, 0) goes on with it.
    [[nodiscard]] bool holds() const noexcept {
      if constexpr (secure) return layer_ && layer_.held() != 0;
      return false;
    }
    /// Says that nothing more comes. False: that waits for room, call it again then.
    [[nodiscard]] bool end_output() noexcept {
      if (!say_goodbye()) return false;
      ::shutdown(fd(), SHUT_WR);
      return true;
    }

   private:
    friend class basic_epoll_transport;
    [[nodiscard]] bool say_goodbye() noexcept {
      if constexpr (secure)
        return !layer_ || layer_.shutdown() != decltype(layer_.shutdown())::want_write;
      return true;
    }
    [[nodiscard]] ssize_t send_through(const char* bytes, std::size_t size) noexcept {
      std::size_t all = 0;
      for (;;) {
        const auto r = layer_.write({bytes + all, size - all});
        using step = decltype(r.next);
        all += r.bytes;
        if (r.next == step::done && all != size) continue;
        if (all != 0 || r.next == step::done) return static_cast<ssize_t>(all);
        errno = r.next == step::want_write ? EAGAIN : EPIPE;
        return -1;
      }
    }

    [[no_unique_address]] Layer layer_{};
    detail::unique_fd fd_;
    std::uint32_t discarded_ : 29 = 0;
    std::uint32_t reuse_ : 1 = false;
    std::uint32_t watched_ : 1 = false;

   protected:
    std::uint32_t writing_ : 1 = false;  ///< for transports that derive from this one
  };
  static_assert(sizeof(connection) <= (secure ? 16 : 8),
                "of each stream, also of those that nothing is sent to");
  static_assert(2 * max_input < 1U << 29U, "connection::discarded_ counts to beyond max_input");

  /// `epoll`: of the host's loop; stays the host's. `s`: of a layer, such as the tls::context of
  /// all its connections; nullptr: they are plain.
  explicit basic_epoll_transport(int epoll, security s = {}) noexcept
      : epoll_{epoll}, security_{s} {}
  basic_epoll_transport(const basic_epoll_transport&) = delete;
  basic_epoll_transport& operator=(const basic_epoll_transport&) = delete;

  /// A connection to be, with the layer that it is to have. Owns `fd`, also if it throws what the
  /// layer's constructor does.
  [[nodiscard]] connection adopt(int fd) const {
    connection c{fd};
    if constexpr (secure) {
      if (security_ != nullptr) c.layer_ = Layer{*security_, fd};
    }
    return c;
  }

  /// Whether adopt() gives a layer that encrypts.
  [[nodiscard]] bool adopts_secure() const noexcept {
    if constexpr (secure) return security_ != nullptr;
    return false;
  }

  /// What the loop was woken for. False: not a stream. In the data of streams the top bit is set,
  /// which is neither so in pointers nor in descriptors.
  template <class Hub>
  bool on_event(Hub& hub, const epoll_event& e) noexcept {
    const session_id id = session_of(e.data.u64);
    if (!id) return false;
    connection* const c = hub.find(id);
    if (c == nullptr) return true;  // it ended in this turn
    if ((e.events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0 ||
        ((e.events & EPOLLIN) != 0 && !take_input(*c))) {
      hub.closed(id);
    } else if ((e.events & EPOLLOUT) != 0) {
      if (sends_held(*c)) hub.writable(id);
    }
    return true;
  }

  /// Where a connection goes whose stream in chunks ended whole, if it asked for reuse(): `f` takes
  /// it over, without calling the hub, or answers false, and it is closed. Must not throw.
  void on_kept(function<bool(connection&)> f) noexcept { kept_ = std::move(f); }

  // --- what the hub calls

  /// See transport.
  void opened(connection& c, session_id id) noexcept {
    constexpr std::uint32_t edges = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    if (!c.watch(epoll_, edges, data_of(id))) c.fd_.reset();  // write says so
  }

  /// See transport.
  [[nodiscard]] write_result write(connection& c, std::span<const buffer> bytes) noexcept {
    if constexpr (secure) {
      if (c.layer_) {
        const auto r = c.layer_.write(bytes[0].view());
        using step = decltype(r.next);
        return {r.bytes, r.next == step::done         ? flow::ready
                         : r.next == step::want_write ? flow::blocked
                                                      : flow::closed};
      }
    }
    constexpr int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    std::size_t total = bytes[0].size;
    ssize_t n = 0;
    if (bytes.size() == 1) {
      n = ::send(c.fd(), bytes[0].data, total, flags);
    } else {
      std::array<iovec, max_buffers> pieces;
      msghdr message{};
      total = gather(bytes, pieces, message);
      n = ::sendmsg(c.fd(), &message, flags);
    }
    if (n < 0)
      return {0, errno == EAGAIN ? flow::blocked : errno == EINTR ? flow::ready : flow::closed};
    const auto took = static_cast<std::size_t>(n);
    return {took, took == total ? flow::ready : flow::blocked};
  }

  /// See transport: a TLS goodbye is sent behind the stream's last byte.
  [[nodiscard]] flow end(connection& c) noexcept {
    if (c.reuse_ && kept_) return flow::ready;
    return c.say_goodbye() ? flow::ready : flow::blocked;
  }

  /// See transport.
  void carries_values(connection& c) noexcept { detail::hold_little(c.fd()); }

  /// See transport: the connection serves its next request.
  [[nodiscard]] bool keep(connection& c) noexcept { return c.reuse_ && kept_ && kept_(c); }

  /// See transport.
  void close(connection& c, close_reason why) noexcept {
    if (why == close_reason::stalled) {
      detail::end_by_reset(c.fd());
    } else if (why != close_reason::peer) {
      (void)c.say_goodbye();
      (void)discard(c);  // unread input would make the end a reset, which takes our last bytes away
    }
    // A child process may have the descriptor too: then closing it ends nothing.
    if (why != close_reason::peer) ::shutdown(c.fd(), SHUT_RDWR);
  }

 protected:
  /// What epoll is given for a stream, told apart from the loop's own.
  [[nodiscard]] static constexpr std::uint64_t data_of(session_id id) noexcept {
    return std::uint64_t{1} << 63U | std::uint64_t{id.generation} << 31U | id.slot;
  }
  /// The stream that epoll names; none: it is the loop's own.
  [[nodiscard]] static constexpr session_id session_of(std::uint64_t data) noexcept {
    if (data >> 63U == 0) return {};
    return {static_cast<std::uint32_t>(data & 0x7fffffffU),
            static_cast<std::uint32_t>(data >> 31U)};
  }

  /// Prepares a message of up to max_buffers pieces; returns its bytes.
  static std::size_t gather(std::span<const buffer> bytes, std::span<iovec> pieces,
                            msghdr& message) noexcept {
    std::size_t total = 0;
    std::size_t n = 0;
    for (; n < bytes.size() && n < pieces.size(); ++n) {
      pieces[n] = {const_cast<char*>(bytes[n].data), bytes[n].size};
      total += bytes[n].size;
    }
    message.msg_iov = pieces.data();
    message.msg_iovlen = n;
    return total;
  }

  /// What a peer sent while it has a stream: the next request waits for the end of that. False: the
  /// peer is gone, or sends more than it may.
  [[nodiscard]] static bool take_input(connection& c) noexcept {
    if (!c.reuse_) return discard(c);
    int waiting = 0;
    return ::ioctl(c.fd(), FIONREAD, &waiting) == 0 &&
           static_cast<std::uint32_t>(waiting) <= max_input;
  }
  /// Takes unread input away. False: the peer is gone, or sends more than it may.
  [[nodiscard]] static bool discard(connection& c) noexcept {
    char sink[4096];
    while (c.discarded_ <= max_input) {
      const ssize_t n = c.receive(sink, sizeof sink);
      auto took = static_cast<std::uint32_t>(n > 0 ? n : 0);
      if constexpr (secure) {
        if (n < 0 && errno == EINTR) took = Layer::empty_record;
      }
      c.discarded_ = (c.discarded_ + took) & 0x1fffffffU;
      if (secure && took != 0) continue;
      if (n <= 0) return n < 0 && (errno == EAGAIN || errno == EINTR);
    }
    return false;
  }
  /// There is room again. False: not for all that waits for it, or somebody else sends it.
  [[nodiscard]] static bool sends_held(connection& c) noexcept {
    if constexpr (secure) {
      if (c.layer_)
        return !c.writing_ && c.layer_.flush() != decltype(c.layer_.flush())::want_write;
    }
    return true;
  }

 private:
  function<bool(connection&)> kept_;
  int epoll_;
  [[no_unique_address]] security security_;
};

using epoll_transport = basic_epoll_transport<>;  ///< of plain sockets

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_EPOLL_TRANSPORT_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// A connection that is not, or not yet, a stream. It lives until the end of the turn in which it
/// was over. Watched for levels, and only for what it waits for.
template <class Core>
class epoll_connection : public http_connection<epoll_connection<Core>, Core> {
  using base = http_connection<epoll_connection, Core>;
  using typename base::phase;
  static constexpr std::size_t max_linger_input = 8U << 20U;
  static constexpr std::uint32_t input = EPOLLIN | EPOLLRDHUP;
  static constexpr bool secure = Core::transport_type::secure;

 public:
  using base::base;

  void begin() noexcept {
    guarded([&] {
      if constexpr (secure) {
        if (peer_.layer()) phase_ = phase::handshake;
      }
      set_due();
      receive();  // a request may have come with it: then nothing waits for it
    });
  }

  void on_event(std::uint32_t events) noexcept {
    guarded([&] {
      if (lingering_) return linger(events);
      if (phase_ == phase::handshake) return receive();
      if (phase_ == phase::answering && !writing_) {
        if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) drop();
        return;
      }
      const bool sends = writing_;
      if (sends && (events & ~input) != 0) {
        write_some();
        if (core_ != nullptr && !writing_) this->wrote_all();
      }
      if (core_ != nullptr && (!sends || (events & watched_ & input) != 0)) receive();
    });
  }

  /// The next request, after a stream; it may be there already.
  void next() noexcept { read(); }

  /// What it waits for may be there already. Asked as epoll asks: room for a few bytes that nobody
  /// took since is no progress of the peer's.
  void look() noexcept {
    pollfd ready{peer_.fd(), POLLIN | POLLOUT, 0};
    if (::poll(&ready, 1, 0) <= 0) return;
    on_event(((ready.revents & POLLOUT) != 0 ? EPOLLOUT : 0U) |
             ((ready.revents & ~POLLOUT) != 0 ? EPOLLIN : 0U));
  }

  /// At once.
  void drop() noexcept {
    if (core_ == nullptr) return;
    const bool ended = lingering_ && (watched_ & EPOLLOUT) == 0;  // our side
    if (!ended) ::shutdown(peer_.fd(), SHUT_RDWR);
    peer_.unwatch(core_->epoll());
    peer_ = {};
    leave();
  }
  [[nodiscard]] bool lingering() const noexcept { return lingering_; }

 private:
  friend base;
  using base::core_, base::due_, base::guarded, base::out_, base::peer_, base::phase_,
      base::sending_;
  using base::serve, base::set_due, base::writing_;

  [[nodiscard]] int hold() const noexcept { return 0; }

  void read() noexcept { want(writing_ ? input | EPOLLOUT : input); }

  /// Nothing is read: only the end of the connection is of interest, and while a verdict is awaited
  /// that of the peer's side too.
  void watch_end() noexcept { want(this->waits_for_stream() ? EPOLLRDHUP : 0U); }

  void receive() {
    if constexpr (secure) {
      if (phase_ == phase::handshake && !shake_hands()) return;
    }
    auto& bytes = core_->scratch();
    const ssize_t n = peer_.receive(bytes.data(), bytes.size());
    if (n > 0) return serve({bytes.data(), static_cast<std::size_t>(n)});
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return read();
    drop();
  }

  /// True: it is over, and the requests may come.
  [[nodiscard]] bool shake_hands() {
    auto& layer = peer_.layer();
    const auto s = layer.handshake();
    using step = std::remove_const_t<decltype(s)>;
    if (s == step::done) {
      phase_ = phase::head;
      set_due();
      return true;
    }
    if (s == step::want_read) {
      const bool holds = layer.flush() == step::want_write;
      want(holds ? input | EPOLLOUT : input);
    } else if (s == step::failed) {
      this->refuse_handshake(layer);
    } else {
      drop();
    }
    return false;
  }
  void send_plain(std::string_view text) noexcept {
    (void)!::send(peer_.fd(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void write() {
    sending_.clear();
    sending_.swap(out_);
    sent_ = 0;
    write_some();
    if (core_ != nullptr && !writing_) this->wrote();
  }

  void write_some() {
    const ssize_t n = peer_.send(sending_.data() + sent_, sending_.size() - sent_);
    if (n < 0 && errno != EAGAIN) return drop();
    sent_ += n > 0 ? static_cast<std::size_t>(n) : 0;
    writing_ = sent_ != sending_.size() || peer_.holds();
    if (!writing_) return;
    want(phase_ == phase::body ? input | EPOLLOUT : EPOLLOUT);
    if (core_ != nullptr && (n > 0 || due_ != due::write)) this->await_write();
  }

  void want(std::uint32_t events) noexcept {
    if (events == std::exchange(watched_, events)) return;
    if (peer_.watch(core_->epoll(), events, reinterpret_cast<std::uintptr_t>(this))) return;
    core_->error("epoll_ctl", last_error());
    drop();
  }

  /// After what was written, and without a reset that would take it from the peer: it closes first.
  void hang_up() noexcept {
    if (core_ == nullptr || lingering_) return;
    lingering_ = true;
    sent_ = 0;
    core_->await(*this, due::linger);
    end_output();
  }
  void end_output() noexcept { want(peer_.end_output() ? input : input | EPOLLOUT); }
  void linger(std::uint32_t events) noexcept {
    if ((events & EPOLLOUT) != 0) end_output();
    if (core_ != nullptr && (events & ~EPOLLOUT) != 0) discard();
  }
  void discard() noexcept {
    auto& sink = core_->scratch();
    const ssize_t n = ::recv(peer_.fd(), sink.data(), sink.size(), 0);
    if (n < 0 && errno == EAGAIN) return;
    sent_ += n > 0 ? static_cast<std::size_t>(n) : 0;
    if (n <= 0 || sent_ > max_linger_input) drop();
  }
  void abort() noexcept {
    end_by_reset(peer_.fd());
    drop();
  }
  void leave() noexcept {
    if (core_ == nullptr) return;
    const auto given_up = this->give_up();
    std::exchange(core_, nullptr)->forget(*this);
  }

  std::size_t sent_ = 0;
  std::uint32_t watched_ = 0;
  bool lingering_ = false;
};

/// So that the descriptor is there before the transport is made.
struct epoll_loop {
  unique_fd epoll_fd{::epoll_create1(EPOLL_CLOEXEC)};
  unique_fd wake_fd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
};

/// `Transport`: epoll_transport, or one that derives from it and has
///   reap(hub)    after a flush: reports to the hub, true if there was anything
///   settle(hub)  after all streams were closed: waits until the hub's bytes are not read any more
template <class User, class Transport>
class epoll_core : private epoll_loop, public server_core<User, Transport> {
  using base = server_core<User, Transport>;
  static constexpr std::uint64_t woken = 1;  // by a publisher, or interrupt()
  static constexpr std::uint64_t listening = 2;
  static constexpr std::uint64_t numbers = 2;  // where connections begin

 public:
  using connection = epoll_connection<epoll_core>;
  using base::error, base::now;
  using typename base::endpoint;

  epoll_core(const server_options& o, typename Transport::security s)
      : base{o, epoll_loop::epoll_fd.get(), s} {
    if (!epoll_fd || !watch(epoll(), wake_fd.get(), EPOLLIN | EPOLLET, woken, false)) {
      throw std::system_error{last_error(), "epoll"};
    }
    transport_.on_kept([this](auto& c) {
      return this->take_back([&] {
        std::string from = peer_address(c.fd());
        if (from.empty()) return false;
        enter(static_cast<typename Transport::connection&>(c), std::move(from)).resume();
        return true;
      });
    });
    hub_->on_wanted([this] { more_ = more_ || !flushes_; });
    allow_times(waiting_, o);
    waiting_.allow(due::linger, duration::seconds(2));
    mail_.emplace(mailbox_options{.wake = &wake_loop,
                                  .context = &wake_fd,
                                  .mode = o.busy_poll ? wake_mode::never : wake_mode::when_idle,
                                  .limits = this->mail_limits()});
    inbox_ = std::make_shared<inbox>(&wake_loop, &wake_fd);
    this->join_shards();
  }
  ~epoll_core() { abandon(); }

  // --- what connections and the server ask

  [[nodiscard]] int epoll() const noexcept { return epoll_fd.get(); }
  template <class Ask>
  [[nodiscard]] accept_result accept(typename Transport::connection&& c, const request& r,
                                     Ask&& ask) {
    return this->admit(std::move(c), r, std::forward<Ask>(ask));
  }
  template <class Place>
  [[nodiscard]] accept_result wait(typename Transport::connection&& c, const request& r,
                                   Place& place) {
    return hub_->wait(std::move(c), r, place);
  }
  void await(connection& c, due what) noexcept { waiting_.await(c, what, now()); }
  void forget(connection& c) noexcept { over_.push_back(c); }
  void flush_soon() noexcept { more_ = true; }
  bool close_channel(channel c) noexcept {
    flush_soon();
    return hub_->close_channel(c);
  }
  [[nodiscard]] std::size_t connections() const noexcept {
    return hub_->sessions() + waiting_.size();
  }
  [[nodiscard]] std::error_code listen(std::string_view host, std::uint16_t port) {
    if (this->ending()) return std::make_error_code(std::errc::operation_canceled);
    const std::size_t before = listeners_.size();
    const listen_options o{.reuse_port = options_.reuse_port,
                           .nodelay = options_.nodelay,
                           .send_buffer = options_.send_buffer,
                           .unsent = options_.unsent};
    std::error_code e = listen_on(host, port, o, listeners_);
    for (std::size_t i = before; !e && i < listeners_.size(); ++i) {
      if (!watch(epoll(), listeners_[i].get(), EPOLLIN, listening, false)) e = last_error();
    }
    if (e) listeners_.resize(before);
    return e;
  }
  [[nodiscard]] std::uint16_t port() const noexcept {
    return listeners_.empty() ? std::uint16_t{0} : port_of(listeners_.front().get());
  }

  // --- the loop

  [[nodiscard]] time_point next_deadline() const noexcept {
    std::int64_t next = hub_->next_deadline().ms();
    for (const std::int64_t t : {waiting_.next(), accept_again_}) next = t < next ? t : next;
    return time_point::milliseconds(more_ ? INT64_MIN : next);
  }
  /// Until the server is stopped, or interrupted, or its sequencer drained all shards.
  void run() {
    while (!stopped_ && !interrupted_.exchange(false, std::memory_order_acquire)) {
      turn(duration::infinite());
      if (this->shards_end()) (void)drain(port_.how_to_drain());
    }
  }
  /// From any thread, and from a signal handler.
  void interrupt() noexcept {
    interrupted_.store(true, std::memory_order_release);
    wake_loop(&wake_fd);
  }

  /// One turn that waits at most so long for something to do.
  void turn(duration most) {
    if (stopped_) return;
    in_turn_ = flushes_ = true;
    event_list events;
    const std::size_t n = wait_for(events, ms_to_wait(most));
    std::size_t others = 0;
    for (std::size_t i = 0; i < n && !stopped_; ++i) {
      const epoll_event& e = events[i];
      if (!transport_.on_event(*hub_, e) && e.data.u64 != woken) events[others++] = e;
    }
    if (!stopped_) tell_time();
    for (std::size_t i = 0; i < others && !stopped_; ++i) {
      const epoll_event& e = events[i];
      if (e.data.u64 > numbers) {
        reinterpret_cast<connection*>(e.data.u64)->on_event(e.events);
      } else {
        accept_all();
      }
    }
    if (!stopped_) send_all();
    in_turn_ = false;
    if (stopped_) end_streams();
    bury();
  }

  /// True: everybody has what there was. False: the deadline cut some, or the server was stopped.
  bool drain(const drain_options& o) {
    if (this->ending()) return false;
    draining_ = true;
    close_listeners();
    tell_time();
    const std::int64_t cut_at = (now() + o.deadline).ms();
    drain_options patient = o;
    patient.deadline = duration::infinite();  // what is left then is cut below
    hub_->drain(patient);
    waiting_.for_each([](connection& c) { c.drain(); });
    const auto over = [&] {
      std::size_t answers = 0;  // that are not written yet
      waiting_.for_each([&](connection& c) { answers += c.lingering() ? 0U : 1U; });
      return answers == 0 && hub_->drained();
    };
    flush_soon();
    bool clean = over();
    for (std::int64_t rest = 1; !clean && !stopped_ && rest > 0; rest = cut_at - now().ms()) {
      turn(duration::milliseconds(rest));
      clean = over();
    }
    clean = clean && !stopped_;
    stop();
    return clean;
  }

  void stop() noexcept {
    if (stopped_) return;
    stopped_ = true;
    close_listeners();
    mail_->close();
    waiting_.for_each([](connection& c) { c.drop(); });
    if (!in_turn_) end_streams();  // else at its end: this may be one of the hub's hooks
  }

  void abandon() noexcept {
    if (!hub_) return;
    stop();
    this->forget_hooks();
    inbox_->close();
    if constexpr (requires { transport_.settle(*hub_); }) transport_.settle(*hub_);
    hub_.reset();
    bury();
  }

 private:
  void close_listeners() noexcept {
    // A child process may listen too, and then closing ends nothing.
    for (const unique_fd& l : listeners_) ::shutdown(l.get(), SHUT_RDWR);
    listeners_.clear();
  }
  void end_streams() noexcept {
    hub_->close_all_soon();
    if (port_) port_.report_end(hub_->stats());
  }

  using base::draining_, base::hub_, base::inbox_, base::mail_, base::options_, base::port_,
      base::stopped_;
  using base::transport_;

  static void wake_loop(void* fd) noexcept {
    const std::uint64_t one = 1;
    // Watched for edges and never read: it fails only where it would count beyond 2^64 - 2.
    (void)!::write(static_cast<unique_fd*>(fd)->get(), &one, sizeof one);
  }

  /// For epoll_wait, in milliseconds.
  [[nodiscard]] int ms_to_wait(duration most) noexcept {
    if (std::exchange(more_, false) || options_.busy_poll || !mail_->prepare_sleep()) return 0;
    const std::int64_t next = next_deadline().ms();
    if (next == INT64_MAX && most == duration::infinite()) return -1;
    const std::int64_t ms = next - now().ms() < most.ms() ? next - now().ms() : most.ms();
    return ms <= 0 ? 0 : ms < INT32_MAX ? static_cast<int>(ms) : INT32_MAX;
  }

  using event_list = std::array<epoll_event, 512>;

  /// How many came. `ms`: as epoll_wait.
  [[nodiscard]] std::size_t wait_for(event_list& events, int ms) noexcept {
    int n = 0;
    do {
      n = ::epoll_wait(epoll(), events.data(), static_cast<int>(events.size()), ms);
    } while (n < 0 && errno == EINTR && ms == 0);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }

  /// Tells the hub the time, and before that, where something is due, what streams are ready for.
  void tell_time() noexcept {
    const time_point t = now();
    if (hub_->next_deadline() <= t) look();
    if (!stopped_) hub_->tick(t);
  }
  /// Connections and listeners are watched for levels: what is ready of them comes again.
  void look() noexcept {
    event_list events;
    std::size_t n = events.size();
    for (std::size_t left = connections() / n + 1; n == events.size() && left > 0; --left) {
      n = wait_for(events, 0);
      for (std::size_t i = 0; i < n && !stopped_; ++i) {
        if (!transport_.on_event(*hub_, events[i])) more_ = true;
      }
    }
    reap();
  }
  void reap() noexcept {
    if constexpr (requires { transport_.reap(*hub_); }) more_ = transport_.reap(*hub_) || more_;
  }

  void send_all() {
    this->drain_mail();
    this->look_at_those_ahead(waiting_);
    this->take_late_answers();
    if (stopped_) return;
    tell_time();
    const time_point t = now();
    waiting_.expire(t, [&](connection& c, due what) {
      c.look();
      if (c.hook.in == &over_ || c.due_at > t.ms()) return;
      c.expired(what);
      if (c.hook.in != &over_ && c.due_at <= t.ms()) c.drop();
    });
    if (stopped_) return;
    if (accept_again_ <= t.ms()) {
      accept_again_ = INT64_MAX;
      for (const unique_fd& l : listeners_) (void)watch(epoll(), l.get(), EPOLLIN, listening, true);
    }
    flushes_ = false;
    more_ = hub_->flush() || more_;
    this->report_to_shards();
    reap();
  }

  void accept_all() {
    for (std::size_t i = 0; i < listeners_.size() && !this->ending(); ++i) {
      for (int most = 64; most > 0 && !this->ending() && accept_one(listeners_[i].get());) --most;
    }
  }
  bool accept_one(int listener) noexcept {
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    unique_fd fd{::accept4(listener, reinterpret_cast<sockaddr*>(&from), &size,
                           SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!fd) {
      if (errno == EAGAIN) return false;
      error("accept", last_error());
      if (errno == ECONNABORTED || errno == EINTR) return true;
      // Descriptors or memory may be out: that does not pass by trying at once.
      accept_again_ = now().ms() + 100;
      for (const unique_fd& l : listeners_) (void)watch(epoll(), l.get(), 0, listening, true);
      return false;
    }
    try {
      welcome(std::move(fd), address_text(from));
    } catch (const std::exception& x) {
      error(x.what(), {});
    }
    return true;
  }

  void welcome(unique_fd fd, std::string from) {
    const std::uint32_t most = options_.max_connections;
    if (most != 0 && connections() >= most) make_room(waiting_, options_, now());
    if (most != 0 && connections() >= most) {
      std::string out;
      if (!transport_.adopts_secure()) out = this->crowded();  // else there is no way to tell
      (void)!::send(fd.get(), out.data(), out.size(), MSG_NOSIGNAL);
      ::shutdown(fd.get(), SHUT_WR);
      (void)!::recv(fd.get(), this->scratch().data(), this->scratch().size(), 0);
      return this->log({.method = {}, .address = from}, 503, out.size(), base::now_us(), false);
    }
    auto made = transport_.adopt(fd.release());
    enter(made, std::move(from)).begin();
    limit_handshakes(waiting_, options_);
  }
  /// It is one of the server's, until forget(). Throws: `c` was not taken.
  connection& enter(typename Transport::connection& c, std::string from) {
    auto* const entered = new connection{*this, std::move(c), std::move(from)};
    waiting_.await(*entered, due::never, {});
    return *entered;
  }

  void bury() noexcept {
    while (over_.first != nullptr) {
      const std::unique_ptr<connection> c{over_.first};
      chain<connection>::unlink(*c);
    }
  }

  std::vector<unique_fd> listeners_;
  waiting_room<connection> waiting_;
  chain<connection> over_;
  std::int64_t accept_again_ = INT64_MAX;
  std::atomic<bool> interrupted_{false};
  bool more_ = true;
  bool in_turn_ = false;
  bool flushes_ = false;  ///< in this turn, later
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_EPOLL_CORE_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// An HTTP/1.1 server with a hub (see the top of this file). `User`: what the program wants to know
/// of a stream, see hub. `Transport`: epoll_transport, or tls::epoll_transport.
template <class User = no_user, class Transport = epoll_transport>
class epoll_server : public basic_server<detail::epoll_core<User, Transport>> {
  using core = detail::epoll_core<User, Transport>;
  using base = basic_server<core>;

 public:
  /// `s`: of a transport with a layer, such as the address of a tls::context, which has to outlive
  /// the server; nullptr: it stays plain.
  explicit epoll_server(const server_options& o = {}, typename Transport::security s = {})
      : base{std::make_shared<core>(o, s)} {}

  /// Serves until stop() or interrupt().
  void run() { core_->run(); }
  /// Serves what there is to do now, or waits for it, at most `most`.
  void poll(duration most = duration::off()) { core_->turn(most); }
  /// Becomes readable when poll() has something to do that is not a matter of time: for loops that
  /// run others. Call poll() also at next_deadline().
  [[nodiscard]] int native_handle() const noexcept { return core_->epoll(); }
  /// When poll() is to be called at the latest.
  [[nodiscard]] time_point next_deadline() const noexcept { return core_->next_deadline(); }

  /// Ends run(), or the next one, which can be called again. From any thread, or a signal handler.
  void interrupt() noexcept { core_->interrupt(); }

  /// Stops listening, ends idle connections, lets answers finish, tells every stream when to come
  /// back, and ends each once it has everything; serves meanwhile, and returns when that is over.
  /// False: the deadline cut some, or stop() was called. Then all is closed as by stop(). Not in a
  /// handler or hook.
  bool drain(const drain_options& o = {}) { return core_->drain(o); }

 private:
  using base::core_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_EPOLL_HPP
// ---- sse/metrics.hpp
//
// metrics_page: the counters of hubs, mailboxes and of the program itself as a page for Prometheus
// (text exposition format 0.0.4).
//
//   sse::metrics_page page;
//   page.add(server.hub());
//   page.add(server.mail().counts());
//   page.sample("orders_open", "gauge", "Orders that wait.", orders.size());
//   return sse::response::text(200, page.text());
//
// Several hubs on one page are told apart by labels: page.add(hub, {{"hub", "chat"}}).
#ifndef SSEHUB_METRICS_HPP
#define SSEHUB_METRICS_HPP

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// What tells a sample from others of its name: a name [a-zA-Z_][a-zA-Z0-9_]*, and any value. Not
/// `channel`, `le` or `reason` with add().
struct metric_label {
  std::string_view name{};   ///< such as "service"
  std::string_view value{};  ///< any bytes; what is no UTF-8 is replaced
};

/// Not thread-safe; counters are read where add() is called, which belongs to the hub's thread.
/// Throws what std::string throws.
class metrics_page {
 public:
  using labels = std::initializer_list<metric_label>;  ///< of one line

  /// `most_channels`: names of channels (channel_options::metrics_name, else their own) that add()
  /// tells apart, the first ones; the others stand together as `(others)`, so that a page stays
  /// short.
  explicit metrics_page(std::size_t most_channels = 1000) : most_channels_{most_channels} {}

  /// All of a hub: its own counters, sums over its channels, also of those that were closed, and
  /// the channels by name. O(channels).
  template <class Hub>
  requires requires(const Hub& h) {
    h.each_channel_stats([](const channel_stats&) {});
  }
  void add(const Hub& h, labels l = {}) {
    by_name channels;
    h.each_channel_stats([&](const channel_stats& c) { sum(channels, c); });
    write(h.stats(), channels, l);
  }
  /// The same of numbers that were taken elsewhere, such as those of a sequencer.
  void add(const hub_stats& h, std::span<const channel_stats> each, labels l = {}) {
    by_name channels;
    for (const channel_stats& c : each) sum(channels, c);
    write(h, channels, l);
  }
  /// What publishers gave to a mailbox, and what it refused.
  void add(const mail_counts& m, labels l = {}) {
    sample("sse_mail_accepted_total", "counter", "Events taken from publishers.", m.accepted, l);
    family& f =
        get("sse_mail_refused_total", "counter", "Events refused to publishers, by reason.");
    append(f, l, {"reason", "full"}, m.full);
    append(f, l, {"reason", "too_large"}, m.too_large);
    append(f, l, {"reason", "invalid"}, m.invalid);
    append(f, l, {"reason", "closed"}, m.closed);
  }
  /// A number of the program's own. `type`: counter or gauge; it and the help are those of the
  /// first sample of that name.
  void sample(std::string_view name, std::string_view type, std::string_view help,
              std::uint64_t value, labels l = {}) {
    append(get(name, type, help), l, {}, value);
  }

  /// Each name once, with its help and type, and all its samples behind it.
  [[nodiscard]] std::string text() const {
    std::string out;
    for (const family& f : families_) {
      out.append("# HELP ").append(f.name).append(" ").append(f.help).append("\n# TYPE ");
      out.append(f.name).append(" ").append(f.type).append("\n").append(f.samples);
    }
    return out;
  }

 private:
  struct family {
    std::string name{};
    std::string type{};
    std::string help{};
    std::string samples{};
  };
  struct by_name {
    channel_stats all{};
    std::uint64_t open = 0;
    std::vector<channel_stats> told{};
    std::unordered_map<std::string_view, std::size_t> places{};
    channel_stats others{.name = "(others)"};
    bool more = false;
  };

  void sum(by_name& to, const channel_stats& c) const {
    to.all.add(c);
    if (!c.name.empty()) ++to.open;
    const std::string_view name = c.group.empty() ? c.name : c.group;
    if (name.empty()) return;  // closed, and of no group: only in the sums
    if (const auto at = to.places.find(name); at != to.places.end()) {
      to.told[at->second].add(c);
    } else if (to.told.size() < most_channels_) {
      to.places.emplace(name, to.told.size());
      to.told.push_back(c);
      to.told.back().name = name;
    } else {
      to.others.add(c);
      to.more = true;
    }
  }

  void write(const hub_stats& h, by_name& channels, labels l) {
    const channel_stats& all = channels.all;
    sample("sse_sessions", "gauge", "Open streams.", h.sessions, l);
    sample("sse_channels", "gauge", "Open channels.", channels.open, l);
    sample("sse_accepted_total", "counter", "Streams opened.", h.accepted, l);
    family& refused = get("sse_refused_total", "counter", "Streams refused, by reason.");
    for (std::size_t i = 1; i < refusal_reason_count; ++i)
      append(refused, l, {"reason", to_string(static_cast<refusal_reason>(i))}, h.refused_by[i]);
    sample("sse_writes_total", "counter", "Transport writes.", h.writes, l);
    sample("sse_bytes_total", "counter", "Bytes taken by transports.", h.bytes, l);
    sample("sse_heartbeats_total", "counter", "Heartbeats sent.", h.heartbeats, l);
    sample("sse_log_bytes", "gauge", "Memory held by all logs.", h.log_bytes, l);
    family& closed = get("sse_closed_total", "counter", "Streams closed, by reason.");
    for (std::size_t i = 0; i < close_reason_count; ++i)
      append(closed, l, {"reason", to_string(static_cast<close_reason>(i))}, h.closed[i]);
    sample("sse_published_total", "counter", "Events published, on all channels.", all.published,
           l);
    sample("sse_delivered_total", "counter", "Events delivered.", all.delivered, l);
    sample("sse_dropped_total", "counter", "Events skipped for slow readers.", all.dropped, l);
    sample("sse_coalesced_total", "counter",
           "Events left for the newest of each key by slow readers.", all.coalesced, l);
    sample("sse_gaps_total", "counter", "Gap frames sent.", all.gaps, l);
    sample("sse_replays_total", "counter", "Joins that resumed.", all.replays, l);
    if (channels.more) channels.told.push_back(channels.others);
    const auto each = [&](std::string_view name, std::string_view type, std::string_view help,
                          std::uint64_t channel_stats::*field) {
      if (channels.told.empty()) return;
      family& f = get(name, type, help);
      for (const channel_stats& c : channels.told) append(f, l, {"channel", c.name}, c.*field);
    };
    each("sse_channel_subscribers", "gauge", "Subscribers.", &channel_stats::subscribers);
    each("sse_channel_published_total", "counter", "Events published.", &channel_stats::published);
    each("sse_channel_delivered_total", "counter", "Events delivered.", &channel_stats::delivered);
    each("sse_channel_dropped_total", "counter", "Events skipped for slow readers.",
         &channel_stats::dropped);
    each("sse_channel_coalesced_total", "counter",
         "Events left for the newest of each key by slow readers.", &channel_stats::coalesced);
    for (const channel_stats& c : channels.told) write_latency(c, l);
    each("sse_channel_gaps_total", "counter", "Gap frames sent.", &channel_stats::gaps);
    each("sse_channel_replays_total", "counter", "Joins that resumed.", &channel_stats::replays);
    each("sse_channel_retained_events", "gauge", "Events kept for resuming.",
         &channel_stats::retained_events);
    each("sse_channel_retained_bytes", "gauge", "Bytes kept for resuming.",
         &channel_stats::retained_bytes);
    each("sse_channel_backlog_bytes", "gauge", "Bytes held for slow readers.",
         &channel_stats::backlog_bytes);
  }

  void write_latency(const channel_stats& c, labels l) {
    const std::uint64_t all = c.latency.events();
    if (all == 0) return;
    family& f = get("sse_channel_publish_to_write_milliseconds", "histogram",
                    "From an event's publish until the transport had it, for each reader.");
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < latency_counts::buckets; ++i) {
      sum += c.latency.in[i];
      const bool last = i + 1 == latency_counts::buckets;
      const std::string bound = last ? "+Inf" : std::to_string(latency_counts::bounds[i]);
      append(f, l, {"channel", c.name}, sum, "_bucket", {"le", bound});
    }
    append(f, l, {"channel", c.name}, c.latency.total_ms, "_sum");
    append(f, l, {"channel", c.name}, all, "_count");
  }

  family& get(std::string_view name, std::string_view type, std::string_view help) {
    if (const auto at = by_name_.find(name); at != by_name_.end()) return *at->second;
    family& f = families_.emplace_back();
    f.name = name;
    f.type = type;
    f.help = help;
    by_name_.emplace(f.name, &f);
    return f;
  }

  /// `last`, `behind`: labels besides those of the source; none if they have no name. `part`:
  /// behind the family's name.
  static void append(family& f, labels l, metric_label last, std::uint64_t value,
                     std::string_view part = {}, metric_label behind = {}) {
    std::string& out = f.samples;
    out.append(f.name).append(part);
    char between = '{';
    const auto add = [&](const metric_label& m) {
      out.push_back(between);
      out.append(m.name).append("=\"");
      append_value(out, m.value);
      out.push_back('"');
      between = ',';
    };
    for (const metric_label& m : l) add(m);
    if (!last.name.empty()) add(last);
    if (!behind.name.empty()) add(behind);
    if (between == ',') out.push_back('}');
    char digits[detail::max_digits];
    out.append(" ").append(digits, detail::put_decimal(digits, value)).append("\n");
  }
  /// The format is UTF-8: one byte that is not fails the whole page. It stands as U+FFFD and its
  /// hex digits, so that names stay apart.
  static void append_value(std::string& out, std::string_view value) {
    constexpr std::string_view digits = "0123456789abcdef";
    while (!value.empty()) {
      const detail::utf8_step step = detail::next_utf8(value);
      for (const char c : value.substr(0, step.size)) {
        if (!step.valid) {
          const auto byte = static_cast<unsigned char>(c);
          out.append("\xEF\xBF\xBD").append({digits[byte / 16], digits[byte % 16]});
        } else if (c == '\n') {
          out.append("\\n");
        } else {
          if (c == '\\' || c == '"') out.push_back('\\');
          out.push_back(c);
        }
      }
      value.remove_prefix(step.size);
    }
  }

  std::size_t most_channels_;
  std::deque<family> families_{};  // in the order of their first sample; they stay where they are
  std::unordered_map<std::string_view, family*> by_name_{};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_METRICS_HPP
