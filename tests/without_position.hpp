// Most tests compare whole streams: without the block that opens one (hub_options::position), which
// unit/position_test.cpp and "a stream opens with its position" of each host are about.
#pragma once

#include <sse/admission.hpp>

namespace test {

/// Of a hub, or of a server.
template <class Options = sse::hub_options>
[[nodiscard]] Options without_position(Options o = {}) {
  if constexpr (requires { o.hub; }) {
    o.hub.position = false;
  } else {
    o.position = false;
  }
  return o;
}

}  // namespace test
