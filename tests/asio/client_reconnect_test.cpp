// Our client and our server, with something between them that cuts connections.
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <asio/write.hpp>
#include <sse/asio_client.hpp>

#include "asio/client.hpp"
#include "asio/cutter.hpp"
#include "asio/raw_server.hpp"
#include "catch.hpp"

TEST_CASE("client and server: 1,000 cuts at random bytes, every id once and in order") {
  constexpr int wanted = 1000;
  const bool chunked = GENERATE(false, true);
  const bool pull = GENERATE(false, true);
  sse::server_options so{.chunked = chunked};
  so.hub.caps.per_address.max = 10000;
  so.hub.caps.total.max = 10000;
  test::server<> server{so};
  sse::channel_options co;
  co.keep = 100000;
  sse::channel ticks = server.open("ticks", std::move(co));
  server.on_loop([&] { server->stream("/events", ticks); });
  std::vector<sse::event_id> published;
  const auto publish = [&] {
    const std::string data = "event " + std::to_string(published.size());
    server.on_loop([&] {
      const sse::publish_result r = server->publish(ticks, {.data = data});
      published.push_back(r ? r.id : 0);
    });
  };
  for (int i = 0; i < 20; ++i) publish();

  test::loop l;
  test::cutter between{l.ctx, server.port(), 900, chunked ? 1U : 2U};
  sse::asio_client_options o;
  o.client.last_event_id = "0";
  o.client.retry = o.client.max_retry = o.client.min_interval = sse::duration::off();
  o.client.max_backoff = sse::duration::milliseconds(1);
  o.queue = 3;
  o.read_buffer = 100;
  sse::asio_event_source<> source{
      l.ctx, "http://127.0.0.1:" + std::to_string(between.port()) + "/events", o};

  std::size_t got = 0;
  std::string wrong;
  int gaps = 0;
  const auto take = [&](std::string_view id, std::string_view data) {
    if (wrong.empty() && (got >= published.size() || id != std::to_string(published[got]) ||
                          data != "event " + std::to_string(got))) {
      wrong = std::string{id} + " " + std::string{data} + " at " + std::to_string(got);
    }
    ++got;
    if (between.cuts() < wanted) publish();
  };
  std::function<void()> next = [&] {
    source.async_next([&](asio::error_code e, const sse::received_event& r) {
      if (e) return;
      gaps += r.missed.has_value();
      take(r.last_event_id, r.data);
      next();
    });
  };
  if (pull) {
    next();
  } else {
    source.on_event([&](const sse::event& e) { take(e.id, e.data); });
    source.on_gap([&](const sse::gap&) { ++gaps; });
    source.start();
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while ((between.cuts() < wanted || got < published.size()) && wrong.empty() &&
         std::chrono::steady_clock::now() < end) {
    l.ctx.run_one_until(end);
  }
  CHECK(wrong.empty());
  CHECK(gaps == 0);
  CHECK(got == published.size());
  CHECK(between.cuts() >= wanted);
  INFO(got << " events, " << between.cuts() << " cuts");
  source.close();
  between.stop();
}

TEST_CASE("client and server: a gap, a drain") {
  sse::channel_options co;
  co.keep = 3;
  co.own_sequence = true;
  test::server<> server;
  sse::channel ticks = server.open("ticks", std::move(co));
  server.on_loop([&] { server->stream("/events", ticks); });
  std::vector<sse::event_id> ids;
  for (int i = 0; i < 10; ++i) {
    server.on_loop([&] { ids.push_back(server->publish(ticks, {.data = "x"}).id); });
  }
  test::loop l;
  sse::asio_client_options o;
  const std::string from = std::to_string(ids[1]);
  o.client.last_event_id = from;
  sse::asio_event_source<> source{
      l.ctx, "http://127.0.0.1:" + std::to_string(server.port()) + "/events", o};
  std::vector<sse::received_event> got;
  std::function<void()> next = [&] {
    source.async_next([&](asio::error_code e, sse::received_event r) {
      if (e) return;
      got.push_back(std::move(r));
      next();
    });
  };
  next();
  l.until([&] { return got.size() == 4; });
  REQUIRE(got[0].missed);
  CHECK(got[0].missed->requested == ids[1]);
  CHECK(got[0].missed->first == ids[7]);
  CHECK(got[0].missed->lost_known);
  CHECK(got[0].missed->lost == 5);
  CHECK(got[3].last_event_id == std::to_string(ids[9]));
  sse::client_failure failed;
  source.on_error([&](const sse::client_failure& f) { failed = f; });
  server.on_loop([&] { server->async_drain([](asio::error_code) {}); });
  l.until([&] { return failed.error != sse::client_error::none; });
  CHECK(failed.error == sse::client_error::end_of_stream);
  CHECK_FALSE(failed.final);
}

TEST_CASE("client and server: with the defaults of both, silence of three heartbeats is an end") {
  test::server<> server;
  sse::channel ticks = server.open("ticks", {});
  server.on_loop([&] { server->stream("/events", ticks); });
  asio::io_context ctx;
  asio::ip::tcp::socket socket{ctx};
  socket.connect({asio::ip::address_v4::loopback(), server.port()});
  // The state machine in a time of its own, with the bytes of the real server.
  const sse::time_point now = sse::time_point::milliseconds(1000);
  sse::event_source source{"http://127.0.0.1:" + std::to_string(server.port()) + "/events"};
  REQUIRE(source.poll(now).what == sse::client_action::connect);
  asio::write(socket, asio::buffer(source.connected(now)));
  struct {
    void on_event(const sse::event&) {}
  } sink;
  while (source.state() != sse::client_state::open) {
    char bytes[4096];
    const std::size_t n = socket.read_some(asio::buffer(bytes));
    REQUIRE(source.received(now, {bytes, n}, sink) == n);
    REQUIRE(source.failure().error == sse::client_error::none);
  }
  const sse::duration heartbeat = sse::heartbeat_options{}.every;
  CHECK(source.next_deadline() == now + sse::duration::milliseconds(3 * heartbeat.ms()));
  (void)source.poll(source.next_deadline());
  CHECK(source.failure().error == sse::client_error::stalled);
}
