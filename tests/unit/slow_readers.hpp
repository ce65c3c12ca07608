// Channels of tests that are about slow readers, and what these are told.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace test {

inline sse::channel_options slow_readers(sse::lag_policy policy, std::uint64_t max_lag,
                                         std::uint64_t keep = 1000) {
  return {.keep = keep,
          .max_lag = max_lag,
          .on_lag = policy,
          .own_sequence = true,
          .heartbeat = {.mode = sse::heartbeat_options::pace::off}};
}

/// Every id from `first` on came, but those that a gap frame announced. Returns how many it
/// announced.
inline std::uint64_t check_told(std::string_view stream, std::uint64_t first, std::uint64_t last) {
  std::uint64_t lost = 0;
  std::uint64_t next = first;
  bool right = true;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = stream.find("\n\n", at);
    REQUIRE(end != stream.npos);  // whole events only
    const std::string_view one = stream.substr(at, end - at);
    at = end + 2;
    REQUIRE(one.starts_with("id: "));
    const std::uint64_t id = test::ids_in(std::string(one) + "\n").at(0);
    const std::size_t gap = one.find("event: gap\ndata: ");
    if (gap == one.npos) {
      right = right && id == next;
    } else {
      const std::string expect = "{\"requested\":" + std::to_string(next - 1) +
                                 ",\"first\":" + std::to_string(id + 1) +
                                 ",\"lost\":" + std::to_string(id + 1 - next) + "}";
      right = right && one.substr(gap + 17) == expect;
      lost += id + 1 - next;
    }
    next = id + 1;
  }
  CHECK(right);
  CHECK(next == last + 1);
  return lost;
}

}  // namespace test
