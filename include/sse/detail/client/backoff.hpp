// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// backoff: how long a client waits before its next attempt. Not public.
//
// Never less than the reconnection time (WHATWG HTML 9.2.3), and a random time more: after a good
// connection, or the first failure of a row, at most the share of it that `jitter` says, so that
// those whom one restart cut do not come back as one; after the n-th failure at most the
// reconnection time times 2^(n-2), up to `cap` in all. No two attempts begin within `min_interval`,
// and the random time counts that as the least reconnection time: `retry: 0` cannot make a hot
// loop.
#pragma once
#ifndef SSEHUB_DETAIL_CLIENT_BACKOFF_HPP
#define SSEHUB_DETAIL_CLIENT_BACKOFF_HPP

#include <cstdint>

#include <sse/config.hpp>
#include <sse/detail/base/random.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `t` + `d`; `d` off: never.
[[nodiscard]] constexpr time_point deadline(time_point t, duration d) noexcept {
  return d.is_off() ? time_point::never() : t + d;
}

/// Off or below zero: 0; so long that sums could overflow: some 30 years.
[[nodiscard]] constexpr duration sane(duration d) noexcept {
  constexpr std::int64_t most = 1'000'000'000'000;
  return duration::milliseconds(d.is_off() ? 0 : d.ms() < most ? d.ms() : most);
}

class backoff {
 public:
  struct options {
    duration cap;           // of the delay that failures make; the reconnection time may be longer
    duration min_interval;  // between the begins of two attempts
    std::uint32_t jitter;   // percent of the reconnection time
    std::uint64_t seed;
  };
  constexpr explicit backoff(const options& o) noexcept
      : cap_{sane(o.cap)},
        min_interval_{sane(o.min_interval)},
        jitter_{o.jitter < 1000 ? o.jitter : 1000},
        random_{o.seed} {}

  constexpr void attempt(time_point now) noexcept {
    began_ = now;
    any_ = true;
  }
  constexpr void stable() noexcept { failures_ = 0; }
  constexpr void failed() noexcept {
    if (failures_ != UINT32_MAX) ++failures_;
  }
  /// In a row.
  [[nodiscard]] constexpr std::uint32_t failures() const noexcept { return failures_; }

  /// From `now` to the next attempt. `retry`: the reconnection time; `at_least`: a server's wish.
  [[nodiscard]] constexpr duration delay(time_point now, duration retry,
                                         duration at_least) noexcept {
    std::int64_t ms = sane(retry).ms();
    const std::int64_t base = longer(ms, min_interval_.ms());
    std::int64_t more = base / 100 * jitter_ + base % 100 * jitter_ / 100;
    if (failures_ > 1 && ms < cap_.ms()) {
      std::int64_t bound = longer(base, 1);
      for (std::uint32_t n = 2; n < failures_ && bound < cap_.ms(); ++n) bound *= 2;
      more = longer(more, shorter(bound, cap_.ms() - ms));
    }
    ms = longer(longer(ms, soonest(now).ms()), sane(at_least).ms());
    ms += static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(more) + 1));
    return duration::milliseconds(ms);
  }

  /// From `now` to the first moment at which an attempt may begin.
  [[nodiscard]] constexpr duration soonest(time_point now) const noexcept {
    const std::int64_t passed = any_ ? longer(0, (now - began_).ms()) : min_interval_.ms();
    return duration::milliseconds(longer(0, min_interval_.ms() - passed));
  }

 private:
  [[nodiscard]] static constexpr std::int64_t longer(std::int64_t a, std::int64_t b) noexcept {
    return a < b ? b : a;
  }
  [[nodiscard]] static constexpr std::int64_t shorter(std::int64_t a, std::int64_t b) noexcept {
    return a < b ? a : b;
  }

  duration cap_;
  duration min_interval_;
  std::int64_t jitter_;
  random_numbers random_;
  time_point began_{};
  std::uint32_t failures_ = 0;
  bool any_ = false;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_BACKOFF_HPP
