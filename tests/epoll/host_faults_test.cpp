// The faults of tests/host_faults.hpp.
#include <sse/epoll.hpp>

#include "catch.hpp"
#include "host_faults.hpp"
#include "loop_server.hpp"

namespace {

using server = test::loop_server<sse::epoll_server<>>;

/// See tests/host_faults.hpp.
struct stand {
  explicit stand(const sse::server_options& o) : server_{test::without_position(o)} {}
  sse::epoll_server<>* operator->() noexcept { return &server_; }
  void step() { server_.poll(); }

 private:
  sse::epoll_server<> server_;
};

}  // namespace

TEST_CASE("a pause of the process cuts no reader that could be written to") {
  test::a_pause_cuts_no_reader_that_could_be_written_to<stand>();
}

TEST_CASE("a pause inside a turn cuts no reader that could be written to") {
  test::a_pause_inside_a_turn_cuts_no_reader_that_could_be_written_to<stand>();
}

TEST_CASE("a reader that takes nothing is cut at the write deadline, by whatever clock") {
  test::a_pause_cuts_a_reader_that_takes_nothing<stand>();
}

TEST_CASE("a pause of the process refuses no request that is there") {
  test::a_pause_refuses_no_request_that_is_there<stand>();
}

TEST_CASE("a child process that has the descriptors keeps no connection open") {
  test::a_child_process_keeps_no_connection_open<server>();
}

TEST_CASE("every hook may stop the server") { test::every_hook_may_stop_the_server<server>(); }

TEST_CASE("an idle connection that was ended is over when its peer closes") {
  test::an_idle_connection_that_was_ended_is_over_when_its_peer_closes<stand>();
}

TEST_CASE("a pause of the process makes nothing older that is published after it") {
  test::a_pause_makes_nothing_older<stand>();
}

TEST_CASE("a pause of the process makes no stream older that begins after it") {
  test::a_pause_makes_no_stream_older<stand>();
}

TEST_CASE("a pause inside a turn ends no connection that is ready by then") {
  test::a_pause_inside_a_turn_ends_no_connection_that_is_ready<stand>();
}
