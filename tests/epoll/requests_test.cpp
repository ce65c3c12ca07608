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

TEST_CASE("RFC 9112 9.3: a connection serves streams in chunks and plain requests in turn",
          "[surface]") {
  test::kept_streams<test::loop_server<sse::epoll_server<>>>(test::plain_client);
}

TEST_CASE("a connection is idle after its stream as after any answer") {
  if (test::cannot_hold_the_server()) return;
  test::kept_stream_deadline<test::polled<sse::epoll_server<>>>();
}

TEST_CASE("what waits behind a stream is 64 KiB at most") {
  if (test::cannot_hold_the_server()) return;
  test::input_behind_a_stream<test::polled<sse::epoll_server<>>>();
}

TEST_CASE("a verdict, or an answer, comes when it is known, from any thread", "[surface]") {
  test::later_verdicts<test::loop_server<sse::epoll_server<>>>();
}

TEST_CASE("a verdict has its deadline, and is called off when nobody waits for it") {
  if (test::cannot_hold_the_server()) return;
  test::verdict_deadline<test::polled<sse::epoll_server<>>>();
}

TEST_CASE("a refused stream is counted under its reason on the metrics page") {
  if (test::cannot_hold_the_server()) return;
  test::refusals_on_the_page<test::polled<sse::epoll_server<>>>();
}

TEST_CASE("a drain waits for no verdict") {
  using drained_server = test::loop_server<sse::epoll_server<>>;
  test::verdicts_in_a_drain<drained_server>([](drained_server& s) { CHECK(s->drain()); });
}

TEST_CASE("RFC 9110 5.5: headers of a stream are the verdict's, and never break its head",
          "[surface]") {
  test::stream_headers<test::loop_server<sse::epoll_server<>>>();
}

TEST_CASE("a program is told why a stream that it admitted is refused after all", "[surface]") {
  test::refused_after_all<test::loop_server<sse::epoll_server<>>>();
}

TEST_CASE("who leaves is noticed, however many requests it sent before") {
  test::leaving_with_more_behind<test::loop_server<sse::epoll_server<>>>(test::plain_client);
}

TEST_CASE("another hub's channel is refused, and a hub's own decider is not asked", "[surface]") {
  test::strangers<test::loop_server<sse::epoll_server<>>>();
}
