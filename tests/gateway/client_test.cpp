// The gateway and our client, with a proxy between them that cuts connections.
#ifdef GATEWAY_PROGRAM
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <sse/asio_client.hpp>

#include "asio/cutter.hpp"
#include "catch.hpp"
#include "program.hpp"

TEST_CASE("client and gateway: 1,000 cuts at random bytes, every id once and in order") {
  constexpr int wanted = 1000;
  test::engine_pipes engine;
  test::program gateway{{"--engine", engine.command(), "--keep", "100000"}};
  int published = 0;
  const auto publish = [&] { engine.market(++published); };
  for (int i = 0; i < 20; ++i) publish();

  asio::io_context io;
  test::cutter between{io, gateway.port(), 1500, 7};
  sse::asio_client_options o;
  o.client.last_event_id = "0";
  o.client.retry = o.client.max_retry = o.client.min_interval = sse::duration::off();
  o.client.max_backoff = sse::duration::milliseconds(1);
  sse::asio_event_source<> source{
      io, "http://127.0.0.1:" + std::to_string(between.port()) + "/api/stream", o};
  std::vector<std::uint64_t> ids;
  int markets = 0;
  int gaps = 0;
  std::string wrong;
  std::function<void()> next = [&] {
    source.async_next([&](const std::error_code& e, const sse::received_event& r) {
      if (e) return;
      gaps += r.missed ? 1 : 0;
      ids.push_back(std::stoull(r.last_event_id));
      if (ids.size() > 1 && ids.back() != ids[ids.size() - 2] + 1) wrong = r.last_event_id;
      if (r.type == "market") {
        ++markets;
        if (r.data.find("\"price\":" + std::to_string(markets) + ".0") == std::string::npos)
          wrong = r.data;
        if (between.cuts() < wanted) publish();
      }
      next();
    });
  };
  next();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{120};
  while ((between.cuts() < wanted || markets < published) && wrong.empty() &&
         std::chrono::steady_clock::now() < end) {
    io.run_one_until(end);
  }
  INFO(ids.size() << " events over " << between.cuts() << " cuts");
  CHECK(wrong.empty());
  CHECK(gaps == 0);
  CHECK(markets == published);
  CHECK(between.cuts() >= wanted);
  source.close();
  between.stop();
  while (io.run_one() != 0) {
  }
}
#endif
