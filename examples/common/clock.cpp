// ssehub examples. SPDX-License-Identifier: MIT
#include "common/clock.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace examples {

std::string iso_time(std::chrono::system_clock::time_point t) {
  using std::chrono::floor;
  const auto since = t.time_since_epoch();
  const auto seconds = floor<std::chrono::seconds>(since);
  return fmt::format("{:%FT%T}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(seconds.count())),
                     floor<std::chrono::milliseconds>(since - seconds).count());
}

std::string clock_text(std::time_t t) {
  std::tm local{};
  ::localtime_r(&t, &local);
  char text[16];
  return {text, std::strftime(text, sizeof text, "%H:%M:%S", &local)};
}

}  // namespace examples
