// A server and a client of it in one program, for systems on which not every test runs: see
// tests/check-platforms.
#include <cstdio>
#include <string>

#include <sse/asio.hpp>
#include <sse/asio_client.hpp>
#include <sse/metrics.hpp>

int main() {
  asio::io_context io;
  sse::asio_server<> server{io};
  sse::channel c = server.open_channel("c", {.start = sse::start_at::all});
  server.stream("/events", c);
  if (const auto e = server.listen("127.0.0.1", 0)) return std::puts(e.message().c_str()), 1;
  (void)server.publish(c, {.type = "t", .data = "one\ntwo"});

  sse::asio_event_source<> source{io,
                                  "http://127.0.0.1:" + std::to_string(server.port()) + "/events"};
  std::string got;
  source.on_event([&](const sse::event& e) {
    got.append(e.type).append(":").append(e.data).append(";");
    if (e.data == "last") {
      source.close();
      server.stop();
    } else {
      (void)server.publish(c, {.data = "last"});
    }
  });
  source.on_error([&](const sse::client_failure& f) {
    got += sse::explain(f);
    source.close();
    server.stop();
  });
  source.start();
  io.run();
  std::puts(got.c_str());
  return got == "t:one\ntwo;:last;" ? 0 : 1;
}
