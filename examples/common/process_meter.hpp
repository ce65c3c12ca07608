// ssehub examples. SPDX-License-Identifier: MIT
//
// How much memory and processor time this process takes, as the system counts it (POSIX).
//
//   process_meter meter{steady_ms()};
//   meter.sample(steady_ms());   // from time to time
//   show(meter.memory(), meter.cpu());
#pragma once

#include <cstdint>
#include <string>

namespace examples {

/// In bytes: now on Linux, the largest so far elsewhere.
[[nodiscard]] std::uint64_t resident_memory() noexcept;

class process_meter {
 public:
  explicit process_meter(std::int64_t now_ms) { sample(now_ms); }

  /// Measures again; the processor's share is that of the time since the last sample. Samples of
  /// less than half a second apart keep the share: the system counts in hundredths.
  void sample(std::int64_t now_ms);

  [[nodiscard]] std::uint64_t memory_bytes() const noexcept { return memory_; }
  /// Of one processor: 0 to 1, or above with threads.
  [[nodiscard]] double cpu_share() const noexcept { return share_; }
  [[nodiscard]] std::string memory() const;  ///< such as 12MB
  [[nodiscard]] std::string cpu() const;     ///< such as 3%

 private:
  std::uint64_t memory_ = 0;
  double share_ = 0;
  std::int64_t at_ms_ = INT64_MIN;
  std::int64_t used_us_ = 0;
};

}  // namespace examples
