// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Vocabulary that every other header uses: time, and the limits that several headers share.
//
// What the comments call REQUIRES is the caller's duty, and not checked: define SSEHUB_CHECKED=1 in
// the whole program, and a broken one says where on stderr and aborts (what costs more than O(1) to
// see, or a lock, stays unchecked). A program with an assertion of its own defines
// SSEHUB_ASSERT(...) before the first header instead.
#pragma once
#ifndef SSEHUB_CONFIG_HPP
#define SSEHUB_CONFIG_HPP

#include <compare>
#include <concepts>
#include <cstdint>
#include <limits>

#include <sse/version.hpp>

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
