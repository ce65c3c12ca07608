// A counter that everybody who opens the page sees. Also: curl -N http://127.0.0.1:8080/events
#include <chrono>
#include <functional>
#include <iostream>
#include <string>

#include <sse/asio.hpp>

#include "common/endpoint.hpp"
#include "common/tls_asio.hpp"

static constexpr auto page = R"(<!doctype html><h1 id="n"></h1><script>
  new EventSource('/events').onmessage = (e) => { n.textContent = e.data }</script>)";

using socket_type = asio::ip::tcp::socket;

int main(int argc, char** argv) {
  examples::flag_set flags{"hello", "A counter that everybody who opens the page sees.",
                           SSEHUB_VERSION};
  examples::endpoint at{flags};
  if (const auto end = at.parse(argc, argv)) return end->print();
  asio::io_context ctx;
  sse::asio_server<sse::no_user, examples::stream_on<socket_type>> server{
      ctx, {}, examples::streams_on<socket_type>(at.tls())};
  sse::channel ticks = server.open_channel("ticks");
  server.stream("/events", ticks);
  server.page("/", page);
  if (auto error = server.listen("127.0.0.1", at.port())) return at.taken(error.message()).print();
  std::cout << "listening on " << at.url(server.port()) << std::endl;
  asio::steady_timer timer{ctx};
  std::function<void(int)> tick = [&](int n) {
    (void)server.publish(ticks, {.data = std::to_string(n)});
    timer.expires_after(std::chrono::seconds{1});
    timer.async_wait([&tick, n](std::error_code) { tick(n + 1); });
  };
  tick(1);
  ctx.run();
}
