// The steady clock of the test's own thread, standing still: for hosts that read it themselves. The
// test program compiles held_clock.cpp, whose clock_gettime stands in front of the C library's.
//
//   test::held_clock clock;
//   clock.advance(999);
//   server.poll();                                     // nothing is due that has 1000 ms
#pragma once

#include <cstdint>

namespace test {

class held_clock {
 public:
  /// From a whole millisecond on. REQUIRES: no other one in this thread.
  held_clock() noexcept;
  held_clock(const held_clock&) = delete;
  held_clock& operator=(const held_clock&) = delete;
  ~held_clock();

  void advance(std::int64_t ms) noexcept;

  /// Whether this build can do it.
  [[nodiscard]] static bool works() noexcept;
};

}  // namespace test
