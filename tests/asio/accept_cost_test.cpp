// System calls of a stream from accept to close.
#include <cstddef>

#include <sse/asio.hpp>

#include "accept_cost.hpp"
#include "catch.hpp"
#include "client.hpp"

namespace {

using server = test::server<>;

// A socket that is not to block costs Asio two calls (F_GETFL, F_SETFL) from 1.30.2 on, before
// it one (FIONBIO).
#if ASIO_VERSION >= 103002 || BOOST_ASIO_VERSION >= 103002
constexpr double most_calls = 10.2;  // what is above 10 is shared: the listener's
#else
constexpr double most_calls = 9.2;
#endif

}  // namespace

TEST_CASE("a stream that is accepted, served and closed costs nine system calls, or ten") {
  if (!test::socket_calls_can_fail()) return;
  constexpr std::size_t streams = 200;
  if (!test::allow_descriptors(2 * streams + 100)) return;
  const test::accept_cost cost = test::count_accepts<server>(streams);
  INFO(cost.each << " calls and " << cost.waits << " waits for each stream");
  CHECK(cost.each < most_calls);
  CHECK(cost.waits < 0.2);
  CHECK(cost.each > 3);
}

TEST_CASE("what is accepted has the options that the server was asked for") {
  test::accepted_sockets_have_their_options<server>(
      [](auto& s, sse::session_id id) { return s.hub().find(id)->stream().native_handle(); });
}
