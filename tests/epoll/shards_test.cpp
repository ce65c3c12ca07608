// The epoll host's shards; see host_shards.hpp.
#include <stdexcept>

#include <sse/epoll.hpp>

#include "catch.hpp"
#include "host_shards.hpp"
#include "loop_server.hpp"

namespace {

using shard = test::loop_server<sse::epoll_server<>>;

}  // namespace

TEST_CASE("a hundred clients over two shards of one port get everything, and resume on either") {
  test::clients_over_two_shards<shard>(GENERATE(false, true));
}

TEST_CASE("a client that is ahead of its shard is not told of a gap") {
  test::a_client_ahead_of_its_shard<shard>();
}

TEST_CASE("a client that is ahead of its order waits for it, to the millisecond") {
  if (test::cannot_hold_the_server()) return;
  test::a_client_ahead_waits<test::polled<sse::epoll_server<>>>();
}

TEST_CASE("a cap per address holds over all shards of a port") {
  test::a_cap_over_all_shards<shard>();
}

TEST_CASE("a server that follows a sequencer takes events as large as that does") {
  test::events_as_large_as_the_sequencer_takes<shard>();
}

TEST_CASE("one drain ends the streams of all shards, and their servers") {
  test::one_drain_of_all_shards<shard>();
}

TEST_CASE("shards that stop count nobody any more") {
  test::shards_that_stop_count_nobody<shard>();
}

TEST_CASE("a server joins a sequencer before its first event, and only where it fits") {
  sse::sequencer q;
  sse::epoll_server<> first{{.shards = &q}};
  REQUIRE(q.publish(0, {.data = "1"}).id == 1);
  CHECK_THROWS_AS((sse::epoll_server<>{{.shards = &q}}), std::invalid_argument);
  // What is published meanwhile goes on to those that are there.
  first.poll();
  CHECK(first.hub().find_channel("events").last_id() == 1);
  first.stop();
  CHECK(q.publish(0, {.data = "2"}).error == sse::publish_error::closed);
}
