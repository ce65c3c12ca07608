// ssehub example gateway. SPDX-License-Identifier: MIT
//
// Three small clocks without a clock: when a recorded message is due, whether an error may be told
// again, when an engine is started again. Time comes in as nanoseconds of any one clock; a
// monotonic one for error_limiter and restart_backoff.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

namespace gateway {

inline constexpr std::int64_t ns_per_second = 1'000'000'000;

/// Plays a recording at its own spacing divided by a speed.
class pacer {
 public:
  /// REQUIRES: speed > 0. Infinite: flat out, everything is due at once.
  explicit pacer(double speed) : speed_{speed} {}

  /// When the message recorded at `recorded_ns` is due. The first one is due now; none is due
  /// before the one before it, even if the recording's clock went back.
  [[nodiscard]] std::int64_t due_ns(std::int64_t recorded_ns, std::int64_t now_ns) noexcept {
    if (!first_) {
      first_ = recorded_ns;
      start_ = latest_ = now_ns;
    }
    const double offset =
        (static_cast<double>(recorded_ns) - static_cast<double>(*first_)) / speed_;
    if (offset >= static_cast<double>(std::numeric_limits<std::int64_t>::max() -
                                      std::max<std::int64_t>(start_, 0))) {
      return std::numeric_limits<std::int64_t>::max();  // a wild time in a recording
    }
    if (offset > 0) latest_ = std::max(latest_, start_ + static_cast<std::int64_t>(offset));
    return latest_;
  }

  /// The recording starts again: its next message is due when it comes.
  void rewind() noexcept { first_.reset(); }

 private:
  double speed_;
  std::optional<std::int64_t> first_;
  std::int64_t start_ = 0;
  std::int64_t latest_ = 0;
};

/// At most one in five seconds (V-32).
class error_limiter {
 public:
  explicit error_limiter(std::int64_t every_ns = 5 * ns_per_second) : every_ns_{every_ns} {}

  /// True if an error may be told now.
  [[nodiscard]] bool allow(std::int64_t now_ns) noexcept {
    if (told_ && now_ns - last_ns_ < every_ns_) {
      ++suppressed_;
      return false;
    }
    told_ = true;
    last_ns_ = now_ns;
    return true;
  }

  /// How often allow() said no.
  [[nodiscard]] std::uint64_t suppressed() const noexcept { return suppressed_; }

 private:
  std::int64_t every_ns_;
  std::int64_t last_ns_ = 0;
  bool told_ = false;
  std::uint64_t suppressed_ = 0;
};

/// How long to wait before the engine is started again: 1 s, doubling to 30 s; 1 s again after a
/// run of 10 s.
class restart_backoff {
 public:
  void started(std::int64_t now_ns) noexcept { started_ = now_ns; }

  /// The engine ended, or could not be started (then without started()). Returns the delay in
  /// nanoseconds.
  [[nodiscard]] std::int64_t ended(std::int64_t now_ns) noexcept {
    if (started_ && now_ns - *started_ >= 10 * ns_per_second) next_ = ns_per_second;
    started_.reset();
    const std::int64_t delay = next_;
    next_ = std::min(next_ * 2, 30 * ns_per_second);
    return delay;
  }

 private:
  std::int64_t next_ = ns_per_second;
  std::optional<std::int64_t> started_;
};

}  // namespace gateway
