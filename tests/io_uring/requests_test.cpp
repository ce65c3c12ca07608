// uring_server: requests with bodies, kept connections; see host_requests.hpp.
#include <sse/io_uring.hpp>

#include "catch.hpp"
#include "host_limits.hpp"
#include "host_requests.hpp"
#include "io_uring/refused.hpp"
#include "loop_server.hpp"

TEST_CASE("io_uring: RFC 9112 7.1: a body in chunks is read, strictly, within its limits") {
  if (test::refused()) return;
  test::chunked_bodies<test::loop_server<sse::uring_server<>>>();
}

TEST_CASE("io_uring: a body in chunks has its deadline, to the millisecond") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::chunked_body_deadline<test::polled<sse::uring_server<>>>();
}
