// Channels of tests that are about time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <sse/sse.hpp>

#include "stage.hpp"

namespace test {

using pace = sse::heartbeat_options::pace;

inline constexpr std::int64_t second = 1000;

inline constexpr std::int64_t hour = 3600 * second;

inline const std::string beat = ": keep-alive\n\n";

inline sse::channel_options beating(pace mode, std::int64_t ms) {
  return {.own_sequence = true,
          .heartbeat = {.mode = mode, .every = sse::duration::milliseconds(ms)}};
}

inline sse::channel_options silent() { return beating(pace::off, 0); }

/// Takes a `retry:` block off the front; -1 if there is none.
inline std::int64_t take_retry(std::string& s) {
  if (!s.starts_with("retry: ")) return -1;
  const std::size_t end = s.find("\n\n");
  const std::int64_t ms = std::stoll(s.substr(7, end - 7));
  s.erase(0, end + 2);
  return ms;
}

}  // namespace test
