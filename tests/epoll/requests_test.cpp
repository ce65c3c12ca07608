// epoll_server: requests with bodies, kept connections; see host_requests.hpp.
#include <sse/epoll.hpp>

#include "catch.hpp"
#include "host_limits.hpp"
#include "host_requests.hpp"
#include "loop_server.hpp"

TEST_CASE("RFC 9112 7.1: a body in chunks is read, strictly, within its limits") {
  test::chunked_bodies<test::loop_server<sse::epoll_server<>>>();
}

TEST_CASE("a body in chunks has its deadline, to the millisecond") {
  if (test::cannot_hold_the_server()) return;
  test::chunked_body_deadline<test::polled<sse::epoll_server<>>>();
}
