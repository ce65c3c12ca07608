// Does something in front of a thread's file calls. The test program compiles file_calls.cpp, whose
// functions stand in front of the C library's.
//
//   test::before_file_calls([&](long n) { if (n == 7) rotate(); });   // n: how many were made
//   since f.log.poll(now, {}); const long made = test::end_file_calls();
#pragma once

#include <functional>

namespace test {

/// From now on `f` is called in front of each of this thread's calls of open, opendir, pread, stat,
/// lstat and fstat; the calls that it makes itself do not count.
void before_file_calls(std::function<void(long)> f);
/// How many there were; none calls anything any more.
long end_file_calls();
/// False where these functions belong to a sanitizer: then nothing is called.
[[nodiscard]] bool file_calls_are_seen() noexcept;

}  // namespace test
