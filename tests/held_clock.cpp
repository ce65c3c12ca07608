#include "held_clock.hpp"

#if defined(__linux__)
#define TEST_HELD_CLOCK 1
#endif
#if defined(SSEHUB_TEST_TSAN)
#undef TEST_HELD_CLOCK
#endif

#ifdef TEST_HELD_CLOCK
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif

namespace {

thread_local std::int64_t held_at = -1;  // in milliseconds; below 0: it runs

}  // namespace

#ifdef TEST_HELD_CLOCK
extern "C" int clock_gettime(clockid_t clock, timespec* t) noexcept {
  if (held_at < 0 || clock != CLOCK_MONOTONIC) {
    return static_cast<int>(::syscall(SYS_clock_gettime, clock, t));
  }
  t->tv_sec = static_cast<time_t>(held_at / 1000);
  t->tv_nsec = static_cast<long>(held_at % 1000) * 1'000'000;
  return 0;
}
#endif

namespace test {

held_clock::held_clock() noexcept {
#ifdef TEST_HELD_CLOCK
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  held_at = std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
#endif
}
held_clock::~held_clock() { held_at = -1; }
void held_clock::advance(std::int64_t ms) noexcept { held_at += ms; }

bool held_clock::works() noexcept {
#ifdef TEST_HELD_CLOCK
  return true;
#else
  return false;
#endif
}

}  // namespace test
