// What both halves of the guard share: what was asked of operator new, instructions of a part of a
// run, and the events.
#pragma once

#include <cstdint>
#include <string_view>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#endif

namespace counting {

extern std::uint64_t allocations;
extern std::uint64_t allocated;  ///< bytes asked for and not given back
extern std::uint64_t asked;      ///< bytes asked for

[[noreturn]] void fail(const char* what);

/// While one exists, callgrind counts (with --instr-atstart=no). Without valgrind's header nothing
/// is counted, and counts.py says so.
class instructions {
 public:
  instructions() noexcept {
#ifdef CALLGRIND_START_INSTRUMENTATION
    CALLGRIND_START_INSTRUMENTATION;
#endif
  }
  instructions(const instructions&) = delete;
  instructions& operator=(const instructions&) = delete;
  ~instructions() {
#ifdef CALLGRIND_STOP_INSTRUMENTATION
    CALLGRIND_STOP_INSTRUMENTATION;
#endif
  }
};

/// With the id and the other fields a frame of 180 bytes.
inline constexpr std::string_view data =
    R"({"symbol":"BTCUSDT","price":61234.56,"qty":0.0125,"side":"BUY","venue":"sim","seq":1234567,"ts_ns":1795257600123456789,"x":"abcdefgh"})";

/// Shapes of work (shapes.cpp). False: no such scenario.
[[nodiscard]] bool shape_of_work(int argc, char** argv);
/// A journal (journal.cpp). False: no such scenario.
[[nodiscard]] bool history(int argc, char** argv);

}  // namespace counting
