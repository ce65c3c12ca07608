// A counter that everybody who opens the page sees. Also: curl -N http://127.0.0.1:8080/events
#include <chrono>
#include <functional>
#include <iostream>
#include <string>

#include <sse/asio.hpp>

static constexpr auto page = R"(<!doctype html><h1 id="n"></h1><script>
  new EventSource('/events').onmessage = (e) => { n.textContent = e.data }</script>)";

int main(int argc, char**) {
  if (argc > 1) {  // --help, too: there is nothing to say to it
    std::cout << "hello: serves a counter on http://127.0.0.1:8080/ until it is killed\n";
    return 0;
  }
  asio::io_context ctx;
  sse::asio_server<> server{ctx};
  sse::channel ticks = server.open_channel("ticks");
  server.stream("/events", ticks);
  server.page("/", page);
  if (auto error = server.listen("127.0.0.1", 8080)) {
    std::cerr << "port 8080: " << error.message() << '\n';
    return 1;
  }
  asio::steady_timer timer{ctx};
  std::function<void(int)> tick = [&](int n) {
    (void)server.publish(ticks, {.data = std::to_string(n)});
    timer.expires_after(std::chrono::seconds{1});
    timer.async_wait([&tick, n](std::error_code) { tick(n + 1); });
  };
  tick(1);
  ctx.run();
}
