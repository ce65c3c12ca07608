// Hubs with caps, and what they counted.
#pragma once

#include <cstddef>
#include <cstdint>

#include <sse/sse.hpp>

#include "stage.hpp"

namespace test {

inline sse::hub_options with_caps(sse::limits caps) {
  sse::hub_options o;
  o.caps = caps;
  return o;
}

inline std::uint64_t closed_for(const stage& s, sse::close_reason why) {
  return s.hub.stats().closed[static_cast<std::size_t>(why)];
}

}  // namespace test
