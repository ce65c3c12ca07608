// ssehub examples. SPDX-License-Identifier: MIT
//
// Times as payloads and people read them.
#pragma once

#include <chrono>
#include <ctime>
#include <string>

namespace examples {

/// As JavaScript's toISOString() writes it: 2024-01-31T12:00:00.250Z.
[[nodiscard]] std::string iso_time(
    std::chrono::system_clock::time_point t = std::chrono::system_clock::now());
/// HH:MM:SS, local.
[[nodiscard]] std::string clock_text(std::time_t t);

}  // namespace examples
