// System calls of a stream from accept to close.
#include <cstddef>
#include <system_error>

#include <sse/io_uring.hpp>

#include "accept_cost.hpp"
#include "catch.hpp"
#include "io_uring/refused.hpp"
#include "loop_server.hpp"

namespace {

using server = test::loop_server<sse::uring_server<>>;

}  // namespace

TEST_CASE(
    "a stream that is accepted, served and closed costs four, and what io_uring does system "
    "calls") {
  if (test::refused()) return;
  if (!test::socket_calls_can_fail()) return;
  constexpr std::size_t streams = 200;
  if (!test::allow_descriptors(2 * streams + 100)) return;
  // Calls of io_uring itself are not seen here: one for the heads of all that one turn accepts.
  const test::accept_cost cost = test::count_accepts<server>(streams);
  INFO(cost.each << " calls and " << cost.waits << " waits for each stream");
  CHECK(cost.each < 4.2);  // the rest is shared: the listener's
  CHECK(cost.waits < 0.2);
  CHECK(cost.each > 3);
}

TEST_CASE("what is accepted has the options that the server was asked for") {
  if (test::refused()) return;
  test::accepted_sockets_have_their_options<server>(
      [](auto& s, sse::session_id id) { return s.hub().find(id)->fd(); });
}
