// ssehub examples. SPDX-License-Identifier: MIT
#include "common/clock.hpp"

#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace examples {

std::string iso_time(std::chrono::system_clock::time_point t) {
  const auto ms =
      std::chrono::floor<std::chrono::milliseconds>(t).time_since_epoch().count();
  return fmt::format("{:%FT%T}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(ms / 1000)), ms % 1000);
}

}  // namespace examples
