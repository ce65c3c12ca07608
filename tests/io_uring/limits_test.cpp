// uring_server: limits, deadlines, rare timings; see host_limits.hpp and host_timings.hpp.
#include <cerrno>
#include <system_error>

#include <sse/io_uring.hpp>

#include "catch.hpp"
#include "host_limits.hpp"
#include "host_timings.hpp"
#include "io_uring/refused.hpp"

namespace {

using loop = test::polled<sse::uring_server<>>;

}  // namespace

TEST_CASE("io_uring: a head has its deadline, to the millisecond") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::head_deadline<loop>();
}

TEST_CASE("io_uring: a deadline of forever never comes") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::forever_is_never<loop>();
}

TEST_CASE("io_uring: an idle connection has its deadline, to the millisecond") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::keep_alive_deadline<loop>();
}

TEST_CASE("io_uring: a body has its deadline, to the millisecond") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::body_deadline<loop>();
}

TEST_CASE("io_uring: who takes nothing of an answer is reset at the write deadline, not before") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::stalled_deadline<loop>(false);
}

TEST_CASE("io_uring: who takes nothing of a stream is reset at the write deadline, not before") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::stalled_deadline<loop>(true);
}

TEST_CASE("io_uring: a connection that ended waits two seconds for its peer's end") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::linger_deadline<loop>();
}

TEST_CASE("io_uring: a connection that ended takes 8 MiB more, and not a byte above") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::linger_input<loop>();
}

TEST_CASE("io_uring: a stream takes 64 KiB from its peer, and not a byte above") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::stream_input<loop>();
}

TEST_CASE("io_uring: answers wait up to 64 KiB, then no more requests are served") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::output_waiting<loop>();
}

TEST_CASE("io_uring: who takes no answers has no more requests served") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::input_while_answers_wait<loop>();
}

TEST_CASE("io_uring: a crowd of connections that ask for nothing shuts nobody out") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::crowd_makes_room<loop>();
}

TEST_CASE("io_uring: connections: at the cap, below and above, whatever they are") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::connections_cap<loop>();
}

TEST_CASE("io_uring: streams of an address: at the cap, below and above, in every spelling") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::address_cap<loop>();
}

TEST_CASE("io_uring: streams of an IPv6 network: as large as the option says", "[surface]") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::address_prefix<loop>();
}

TEST_CASE("io_uring: a dead stream is found where nothing was said about it") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::dead_streams_by_default<loop>();
}

TEST_CASE("io_uring: descriptors are out: accept is tried once in 100 ms") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  for (const int error : {EMFILE, ENFILE, ENOBUFS}) {
    test::accept_without_descriptors<loop>(error);
  }
}

TEST_CASE("io_uring: a connection that left before it was accepted holds nobody up") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::accept_of_one_that_left<loop>();
}

TEST_CASE("io_uring: a first write that finds no room loses nothing") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::first_write_without_room<loop>();
}

TEST_CASE("io_uring: a byte and room in one edge: the rest of the stream comes") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::input_and_room_at_once<loop>();
}

TEST_CASE("io_uring: a value does not age in the kernel, whatever server_options::unsent says") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  for (const std::uint32_t unsent : {0U, 16384U})
    test::values_do_not_age_in_the_kernel<loop>(unsent);
}

TEST_CASE("io_uring: a body and room in one edge: answer and request go on") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::body_and_room_at_once<loop>();
}

TEST_CASE("io_uring: a stream that ends with unread input loses nothing") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  for (const bool by_stop : {false, true}) test::end_with_unread_input<loop>(by_stop);
}

TEST_CASE("io_uring: of connections that come at once 64 are accepted in a turn") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::accepts_of_a_turn<loop>();
}

TEST_CASE("io_uring: the loop sleeps until something is due, and not while there is work") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::how_long_it_waits<loop>();
  test::busy_loop_never_waits<loop>();
}

TEST_CASE("io_uring: a read that finds nothing ends nobody, one that fails its connection alone") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::reads_that_fail<loop>();
}

TEST_CASE("io_uring: a write that fails ends its connection, at once and alone") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::writes_that_fail<loop>();
}

TEST_CASE("io_uring: nothing is read of a connection while its answer waits for room") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::no_read_while_an_answer_waits<loop>();
}

TEST_CASE("io_uring: a drain waits for nobody who has his answer and stays") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  test::drain_beside_one_that_stays<loop>();
}
