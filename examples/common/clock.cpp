// ssehub examples. SPDX-License-Identifier: MIT
#include "common/clock.hpp"

#include <ctime>

#include <fmt/format.h>

namespace examples {

std::string iso_time(std::chrono::system_clock::time_point t) {
  using namespace std::chrono;
  const auto ms = floor<milliseconds>(t).time_since_epoch();
  const auto seconds = floor<std::chrono::seconds>(ms);
  const auto count = static_cast<std::time_t>(seconds.count());
  std::tm u{};
  ::gmtime_r(&count, &u);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", u.tm_year + 1900, u.tm_mon + 1,
                     u.tm_mday, u.tm_hour, u.tm_min, u.tm_sec, (ms - seconds).count());
}

}  // namespace examples
