// ssehub examples. SPDX-License-Identifier: MIT
#include "common/process_meter.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace examples {
namespace {

std::int64_t us(const timeval& t) noexcept {
  return std::int64_t{t.tv_sec} * 1'000'000 + t.tv_usec;
}

/// Pages in memory, the second number of /proc/self/statm; 0: there is no such file.
std::uint64_t resident_pages() noexcept {
  std::FILE* const file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  unsigned long long total = 0;
  unsigned long long resident = 0;
  const int read = std::fscanf(file, "%llu %llu", &total, &resident);
  std::fclose(file);
  return read == 2 ? resident : 0;
}

rusage usage() noexcept {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  return use;
}

}  // namespace

std::uint64_t resident_memory() noexcept {
  if (const std::uint64_t pages = resident_pages(); pages != 0)
    return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return static_cast<std::uint64_t>(usage().ru_maxrss) * 1024;
}

void process_meter::sample(std::int64_t now_ms) {
  memory_ = resident_memory();
  const rusage use = usage();
  const std::int64_t used = us(use.ru_utime) + us(use.ru_stime);
  if (at_ms_ != INT64_MIN && now_ms - at_ms_ < 500) return;
  if (at_ms_ != INT64_MIN)
    share_ = static_cast<double>(used - used_us_) / static_cast<double>((now_ms - at_ms_) * 1000);
  at_ms_ = now_ms;
  used_us_ = used;
}

std::string process_meter::memory() const {
  return std::to_string((memory_ + (1 << 19)) >> 20U) + "MB";
}

std::string process_meter::cpu() const { return std::to_string(std::lround(share_ * 100)) + "%"; }

}  // namespace examples
