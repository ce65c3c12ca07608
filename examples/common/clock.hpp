// ssehub examples. SPDX-License-Identifier: MIT
//
// Times as JSON payloads carry them.
#pragma once

#include <chrono>
#include <string>

namespace examples {

/// As JavaScript's toISOString() writes it: 2024-01-31T12:00:00.250Z.
[[nodiscard]] std::string iso_time(
    std::chrono::system_clock::time_point t = std::chrono::system_clock::now());

}  // namespace examples
