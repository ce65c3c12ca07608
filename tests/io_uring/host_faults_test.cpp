// The faults of tests/host_faults.hpp.
#include <system_error>

#include <sse/io_uring.hpp>

#include "catch.hpp"
#include "host_faults.hpp"
#include "io_uring/refused.hpp"
#include "loop_server.hpp"

namespace {

using server = test::loop_server<sse::uring_server<>>;

/// See tests/host_faults.hpp.
struct stand {
  explicit stand(const sse::server_options& o) : server_{test::without_position(o)} {}
  sse::uring_server<>* operator->() noexcept { return &server_; }
  void step() { server_.poll(); }

 private:
  sse::uring_server<> server_;
};

}  // namespace

TEST_CASE("a pause of the process cuts no reader that could be written to") {
  if (test::refused()) return;
  test::a_pause_cuts_no_reader_that_could_be_written_to<stand>();
}

TEST_CASE("a pause inside a turn cuts no reader that could be written to") {
  if (test::refused()) return;
  test::a_pause_inside_a_turn_cuts_no_reader_that_could_be_written_to<stand>();
}

TEST_CASE("a reader that takes nothing is cut at the write deadline, by whatever clock") {
  if (test::refused()) return;
  test::a_pause_cuts_a_reader_that_takes_nothing<stand>();
}

TEST_CASE("a pause of the process refuses no request that is there") {
  if (test::refused()) return;
  test::a_pause_refuses_no_request_that_is_there<stand>();
}

TEST_CASE("a child process that has the descriptors keeps no connection open") {
  if (test::refused()) return;
  test::a_child_process_keeps_no_connection_open<server>();
}

TEST_CASE("every hook may stop the server") {
  if (test::refused()) return;
  test::every_hook_may_stop_the_server<server>();
}

TEST_CASE("an idle connection that was ended is over when its peer closes") {
  if (test::refused()) return;
  test::an_idle_connection_that_was_ended_is_over_when_its_peer_closes<stand>();
}

TEST_CASE("io_uring: a pause of the process makes nothing older that is published after it") {
  if (test::refused()) return;
  test::a_pause_makes_nothing_older<stand>();
}

TEST_CASE("io_uring: a pause of the process makes no stream older that begins after it") {
  if (test::refused()) return;
  test::a_pause_makes_no_stream_older<stand>();
}

TEST_CASE("io_uring: a pause inside a turn ends no connection that is ready by then") {
  if (test::refused()) return;
  test::a_pause_inside_a_turn_ends_no_connection_that_is_ready<stand>();
}
