// sharded: one stream on several cores. Each thread has a server of its own on the same port, and
// the system deals the connections out; an engine publishes to all of them through one sequencer.
// A client that comes back gets what it missed, on whichever thread it lands.
// Try: sharded --threads 4 --rate 1000, and  curl -N http://127.0.0.1:8080/events
#include <chrono>
#include <csignal>
#include <cstdint>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <asio/signal_set.hpp>
#include <sse/asio.hpp>
#include <sse/metrics.hpp>

#include "common/endpoint.hpp"
#include "common/tls_asio.hpp"

namespace {

using socket_type = asio::ip::tcp::socket;

constexpr auto page = R"(<!doctype html><meta name="viewport" content="width=device-width">
<title>sharded</title><h1 id="n"></h1><script>
  new EventSource('/events').onmessage = (e) => { n.textContent = e.data }</script>)";

std::uint64_t wall_clock_us() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

/// One core's share: a loop and a server.
struct core {
  core(sse::sequencer& ticks, const examples::tls_of_server& tls)
      : server{ctx, options(ticks), examples::streams_on<socket_type>(tls)} {
    server.page("/", page);
    server.stream("/events", server.hub().find_channel("ticks"));
    server.get("/metrics", [&ticks](const sse::request&) {
      sse::metrics_page page;
      page.add(ticks.stats(), ticks.all_channel_stats());
      return sse::response::text(200, page.text());
    });
  }
  static sse::server_options options(sse::sequencer& ticks) {
    sse::server_options o;
    o.hub.caps.per_address.max = 0;
    o.reuse_port = true;
    o.shards = &ticks;
    return o;
  }

  asio::io_context ctx{1};
  sse::asio_server<sse::no_user, examples::stream_on<socket_type>> server;
};

}  // namespace

int main(int argc, char** argv) {
  std::string host = "127.0.0.1";
  std::uint32_t threads = std::thread::hardware_concurrency();
  std::uint32_t rate = 10;
  std::uint64_t keep = 1000;
  examples::flag_set flags{"sharded", "One event stream, served by several cores.", SSEHUB_VERSION};
  flags.text("--host", "ADDRESS", "address to listen on (127.0.0.1)", host);
  examples::endpoint at{flags};
  flags.number("--threads", "N", "servers, a thread each (one per core)", threads);
  flags.number("--rate", "N", "events per second (10)", rate);
  flags.number("--keep", "N", "events kept for those who come back (1000)", keep);
  if (const auto end = at.parse(argc, argv)) return end->print();
  if (threads == 0 || rate == 0) return flags.wrong("--threads and --rate are at least 1").print();

  sse::sequencer_options o;
  o.channels = {"ticks"};
  o.channel = [keep](std::string_view) { return sse::channel_options{.keep = keep}; };
  o.first_id = wall_clock_us();  // so that ids never run back over a restart
  o.seed = std::random_device{}();
  sse::sequencer ticks{std::move(o)};

  std::uint16_t port = at.port();
  std::vector<std::unique_ptr<core>> cores;
  for (std::uint32_t i = 0; i < threads; ++i) {
    cores.push_back(std::make_unique<core>(ticks, at.tls()));
    if (const auto e = cores[i]->server.listen(host, port))
      return flags.failed(e.message()).print();
    if (i == 0) port = cores[0]->server.port();
  }
  std::cout << "listening on " << at.url(port, host) << std::endl;

  asio::signal_set signals{cores[0]->ctx, SIGINT, SIGTERM};
  signals.async_wait([&](std::error_code, int) { ticks.drain(); });

  std::thread engine{[&] {
    auto next = std::chrono::steady_clock::now();
    for (std::uint64_t n = 1; !ticks.draining();) {
      if (ticks.publish(0, {.data = std::to_string(n)}).error != sse::publish_error::full) ++n;
      std::this_thread::sleep_until(next += std::chrono::nanoseconds{1'000'000'000 / rate});
    }
  }};
  std::vector<std::thread> running;
  for (auto& c : cores) running.emplace_back([&c] { c->ctx.run(); });
  for (std::thread& t : running) t.join();
  engine.join();
}
