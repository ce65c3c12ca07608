// What a run tells when it fails, and how much memory it has.
#pragma once

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace simulation {

/// The live heap of this process in bytes; 0: not known.
inline std::uint64_t live_heap() {
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33) && !defined(SSEHUB_TEST_ASAN)
  const auto m = mallinfo2();
  return m.uordblks + m.hblkhd;
#else
  return 0;
#endif
}

/// What was done last, for the report of a failure.
class step_log {
 public:
  void add(const char* what, std::int64_t a = 0, std::int64_t b = 0) {
    steps_[count_++ % steps_.size()] = {what, a, b};
  }
  [[nodiscard]] std::string text() const {
    std::string out;
    const std::size_t n = count_ < steps_.size() ? count_ : steps_.size();
    for (std::size_t i = count_ - n; i < count_; ++i) {
      const step& s = steps_[i % steps_.size()];
      out += "\n  " + std::to_string(i) + " " + s.what + " " + std::to_string(s.a) + " " +
             std::to_string(s.b);
    }
    return out;
  }

 private:
  struct step {
    const char* what;
    std::int64_t a;
    std::int64_t b;
  };
  std::array<step, 60> steps_{};
  std::size_t count_ = 0;
};

}  // namespace simulation
