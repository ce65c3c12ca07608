// asio_server: limits, deadlines, rare timings; see host_limits.hpp and host_timings.hpp.
#include <cerrno>

#include <sse/asio.hpp>

#include "asio/loop.hpp"
#include "catch.hpp"
#include "host_limits.hpp"
#include "host_listening.hpp"
#include "host_timings.hpp"

namespace {

using test::asio_loop;

}  // namespace

TEST_CASE("a head has its deadline, to the millisecond") {
  if (test::cannot_hold_the_server()) return;
  test::head_deadline<asio_loop>();
}

TEST_CASE("a deadline of forever never comes") {
  if (test::cannot_hold_the_server()) return;
  test::forever_is_never<asio_loop>();
}

TEST_CASE("a name is listened on with all of its addresses, on one port, or not at all") {
  test::listening_on_a_name<asio_loop>();
}

TEST_CASE("an idle connection has its deadline, to the millisecond") {
  if (test::cannot_hold_the_server()) return;
  test::keep_alive_deadline<asio_loop>();
}

TEST_CASE("a body has its deadline, to the millisecond") {
  if (test::cannot_hold_the_server()) return;
  test::body_deadline<asio_loop>();
}

TEST_CASE("who takes nothing of an answer is reset at the write deadline, not before") {
  if (test::cannot_hold_the_server()) return;
  test::stalled_deadline<asio_loop>(false);
}

TEST_CASE("who takes nothing of a stream is reset at the write deadline, not before") {
  if (test::cannot_hold_the_server()) return;
  test::stalled_deadline<asio_loop>(true);
}

TEST_CASE("a connection that ended waits two seconds for its peer's end") {
  if (test::cannot_hold_the_server()) return;
  test::linger_deadline<asio_loop>();
}

TEST_CASE("a connection that ended takes 8 MiB more, and not a byte above") {
  if (test::cannot_hold_the_server()) return;
  test::linger_input<asio_loop>();
}

TEST_CASE("a stream takes 64 KiB from its peer, and not a byte above") {
  if (test::cannot_hold_the_server()) return;
  test::stream_input<asio_loop>();
}

TEST_CASE("answers wait up to 64 KiB, then no more requests are served") {
  if (test::cannot_hold_the_server()) return;
  test::output_waiting<asio_loop>();
}

TEST_CASE("who takes no answers has no more requests served") {
  if (test::cannot_hold_the_server()) return;
  test::input_while_answers_wait<asio_loop>();
}

TEST_CASE("a crowd of connections that ask for nothing shuts nobody out") {
  if (test::cannot_hold_the_server()) return;
  test::crowd_makes_room<asio_loop>();
}

TEST_CASE("connections: at the cap, below and above, whatever they are") {
  if (test::cannot_hold_the_server()) return;
  test::connections_cap<asio_loop>();
}

TEST_CASE("streams of an address: at the cap, below and above, in every spelling") {
  if (test::cannot_hold_the_server()) return;
  test::address_cap<asio_loop>();
}

TEST_CASE("streams of an IPv6 network: as large as the option says", "[surface]") {
  if (test::cannot_hold_the_server()) return;
  test::address_prefix<asio_loop>();
}

TEST_CASE("a dead stream is found where nothing was said about it") {
  if (test::cannot_hold_the_server()) return;
  test::dead_streams_by_default<asio_loop>();
}

TEST_CASE("descriptors are out: accept is tried once in 100 ms") {
  if (test::cannot_hold_the_server()) return;
  for (const int error : {EMFILE, ENFILE, ENOBUFS}) {
    test::accept_without_descriptors<asio_loop>(error);
  }
}

TEST_CASE("a connection that left before it was accepted holds nobody up") {
  if (test::cannot_hold_the_server()) return;
  test::accept_of_one_that_left<asio_loop>();
}

TEST_CASE("a first write that finds no room loses nothing") {
  if (test::cannot_hold_the_server()) return;
  test::first_write_without_room<asio_loop>();
}

TEST_CASE("a byte and room in one edge: the rest of the stream comes") {
  if (test::cannot_hold_the_server()) return;
  test::input_and_room_at_once<asio_loop>();
}

TEST_CASE("a value does not age in the kernel, whatever server_options::unsent says") {
  if (test::cannot_hold_the_server()) return;
  for (const std::uint32_t unsent : {0U, 16384U})
    test::values_do_not_age_in_the_kernel<asio_loop>(unsent);
}

TEST_CASE("a body and room in one edge: answer and request go on") {
  if (test::cannot_hold_the_server()) return;
  test::body_and_room_at_once<asio_loop>();
}

TEST_CASE("a stream that ends with unread input loses nothing") {
  if (test::cannot_hold_the_server()) return;
  for (const bool by_stop : {false, true}) test::end_with_unread_input<asio_loop>(by_stop);
}

TEST_CASE("a stream that ended takes 8 MiB more, whatever it took before") {
  if (test::cannot_hold_the_server()) return;
  test::held_server<asio_loop> s;
  test::client c{s.port()};
  s.open(c);
  s.send(c, std::string(4096, 'x'));
  s->hub().close_all();
  CHECK(s.ends(c));
  takes_8_mib_more(s, c);
}
