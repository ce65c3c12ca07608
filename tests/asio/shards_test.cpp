// The Asio host's shards; see host_shards.hpp.
#include <stdexcept>

#include "asio/client.hpp"
#include "asio/loop.hpp"
#include "catch.hpp"
#include "host_shards.hpp"

TEST_CASE("a hundred clients over two shards of one port get everything, and resume on either") {
  test::clients_over_two_shards<test::server<>>(GENERATE(false, true));
}

TEST_CASE("a client that is ahead of its shard is not told of a gap") {
  test::a_client_ahead_of_its_shard<test::server<>>();
}

TEST_CASE("a client that is ahead of its order waits for it, to the millisecond") {
  if (test::cannot_hold_the_server()) return;
  test::a_client_ahead_waits<test::asio_loop>();
}

TEST_CASE("a cap per address holds over all shards of a port") {
  test::a_cap_over_all_shards<test::server<>>();
}

TEST_CASE("a server that follows a sequencer takes events as large as that does") {
  test::events_as_large_as_the_sequencer_takes<test::server<>>();
}

TEST_CASE("one drain ends the streams of all shards, and their servers") {
  test::one_drain_of_all_shards<test::server<>>();
}

TEST_CASE("a server joins a sequencer before its first event, and only where it fits") {
  sse::sequencer q;
  asio::io_context ctx;
  sse::asio_server<> first{ctx, {.shards = &q}};
  REQUIRE(q.publish(0, {.data = "1"}).id == 1);
  CHECK_THROWS_AS((sse::asio_server<>{ctx, {.shards = &q}}), std::invalid_argument);
  // What is published meanwhile goes on to those that are there.
  ctx.poll();
  CHECK(first.hub().find_channel("events").last_id() == 1);
  first.stop();
  CHECK(q.publish(0, {.data = "2"}).error == sse::publish_error::closed);
}

TEST_CASE("without reuse_port a second server on the port is refused") {
  asio::io_context ctx;
  sse::asio_server<> one{ctx, {.reuse_port = true}};
  REQUIRE_FALSE(one.listen("127.0.0.1", 0));
  sse::asio_server<> two{ctx};
  CHECK(two.listen("127.0.0.1", one.port()) == std::errc::address_in_use);
  sse::asio_server<> three{ctx, {.reuse_port = true}};
  CHECK_FALSE(three.listen("127.0.0.1", one.port()));
}
