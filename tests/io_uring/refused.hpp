// Whether the machine lets nobody use io_uring, as many containers do: its tests are skipped,
// loudly.
#pragma once

#include <system_error>

#include <sse/io_uring.hpp>

#include "catch.hpp"

namespace test {

inline bool refused() {
  try {
    const sse::uring_server<> s;
    return false;
  } catch (const std::system_error& e) {
    WARN("SKIPPED: io_uring does not work here: " << e.what());
    return true;
  }
}

}  // namespace test
