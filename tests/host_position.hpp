// A stream opens with its position, whatever the host.
#pragma once

#include <string>

#include "catch.hpp"
#include "http_client.hpp"

namespace test {

/// `Server`: test::server<> or a test::loop_server.
template <class Server>
void stream_opens_with_its_position() {
  Server s;
  sse::channel ticks = s.open("ticks");
  s.on_loop([&] {
    s->stream("/events",
              [&](const sse::request&) { return sse::admit().join(ticks).position(true); });
  });
  const std::string first = std::to_string(s.on_loop([&] { return ticks.last_id(); }));
  {
    client c{s.port()};
    REQUIRE(c.open("/events").status == 200);
    CHECK(c.until("\n\n") == "id: " + first + "\n\n");
  }
  s.on_loop([&] { (void)s->publish(ticks, {.data = "while it was away"}); });
  client back{s.port()};
  REQUIRE(back.open("/events", "Last-Event-ID: " + first + "\r\n").status == 200);
  CHECK(back.data() == "while it was away");
  CHECK(back.position.empty());
}

}  // namespace test
