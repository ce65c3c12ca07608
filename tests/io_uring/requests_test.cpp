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

TEST_CASE(
    "io_uring: RFC 9112 9.3: a connection serves streams in chunks and plain requests in turn",
    "[surface]") {
  if (test::refused()) return;
  test::kept_streams<test::loop_server<sse::uring_server<>>>(test::plain_client);
}

TEST_CASE("io_uring: a connection is idle after its stream as after any answer") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::kept_stream_deadline<test::polled<sse::uring_server<>>>();
}

TEST_CASE("io_uring: what waits behind a stream is 64 KiB at most") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::input_behind_a_stream<test::polled<sse::uring_server<>>>();
}

TEST_CASE("io_uring: a verdict, or an answer, comes when it is known, from any thread",
          "[surface]") {
  if (test::refused()) return;
  test::later_verdicts<test::loop_server<sse::uring_server<>>>();
}

TEST_CASE("io_uring: a verdict has its deadline, and is called off when nobody waits for it") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::verdict_deadline<test::polled<sse::uring_server<>>>();
}

TEST_CASE("io_uring: a refused stream is counted under its reason on the metrics page") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::refusals_on_the_page<test::polled<sse::uring_server<>>>();
}

TEST_CASE("io_uring: a drain waits for no verdict") {
  if (test::refused()) return;
  using server = test::loop_server<sse::uring_server<>>;
  test::verdicts_in_a_drain<server>([](server& s) { CHECK(s->drain()); });
}

TEST_CASE("io_uring: RFC 9110 5.5: headers of a stream are the verdict's, and never break its head",
          "[surface]") {
  if (test::refused()) return;
  test::stream_headers<test::loop_server<sse::uring_server<>>>();
}

TEST_CASE("io_uring: a program is told why a stream that it admitted is refused after all",
          "[surface]") {
  if (test::refused()) return;
  test::refused_after_all<test::loop_server<sse::uring_server<>>>();
}

TEST_CASE("io_uring: who leaves is noticed, however many requests it sent before") {
  if (test::refused()) return;
  test::leaving_with_more_behind<test::loop_server<sse::uring_server<>>>(test::plain_client);
}

TEST_CASE("io_uring: another hub's channel is refused, and a hub's own decider is not asked",
          "[surface]") {
  if (test::refused()) return;
  test::strangers<test::loop_server<sse::uring_server<>>>();
}
