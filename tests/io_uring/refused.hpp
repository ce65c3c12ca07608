// Whether the machine lets nobody use io_uring, as many containers do: its tests are skipped,
// loudly; in CI that is a failure. The kernel itself is asked, so that no fault of the library is
// taken for that.
#pragma once

#include <liburing.h>

#include <cstring>

#include "catch.hpp"
#include "environment.hpp"

namespace test {

inline bool refused() {
  io_uring ring{};
  io_uring_params p{};
  p.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN;
  p.cq_entries = 64;
  const int e = ::io_uring_queue_init_params(4, &ring, &p);
  if (e < 0) {
    if (in_ci()) FAIL("io_uring does not work here: " << std::strerror(-e));
    WARN("SKIPPED: io_uring does not work here: " << std::strerror(-e));
    return true;
  }
  ::io_uring_queue_exit(&ring);
  return false;
}

}  // namespace test
