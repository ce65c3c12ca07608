// ssehub examples. SPDX-License-Identifier: MIT
#include "common/clock.hpp"

#include <ctime>

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

}  // namespace examples
