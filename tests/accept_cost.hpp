// What it costs a server to accept a connection, serve a stream on it, and see it closed, counted
// in calls of the system: the same for any host.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstddef>
#include <deque>
#include <future>

#include "catch.hpp"
#include "http_client.hpp"
#include "socket_calls.hpp"

namespace test {

struct accept_cost {
  double each = 0;   ///< calls for a stream, without the loop's waits
  double waits = 0;  ///< calls of epoll_wait for a stream
};

/// `Server`: test::server<> or a test::loop_server. `streams` clients are there before it looks, as
/// in a busy server, and end all together.
template <class Server>
accept_cost count_accepts(std::size_t streams) {
  Server s{{.hub = {.caps = {.per_address = {.max = 0}}}}};
  sse::channel ticks = s.open("ticks");
  std::promise<void> all_gone;
  std::size_t gone = 0;
  s.on_loop([&] {
    s->stream("/events", ticks);
    s->hub().on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason) {
      if (++gone == streams) all_gone.set_value();
    });
  });
  std::deque<client> all;
  long calls = 0;
  long waits = 0;
  const auto count = [&](int sign) {
    calls += sign * socket_calls();
    waits += sign * wait_calls();
  };
  s.on_loop([&] {  // its own clients: not what is counted
    for (std::size_t i = 0; i < streams; ++i) {
      all.emplace_back(s.port()).send(client::make("GET", "/events"));
    }
    count(-1);
  });
  for (client& c : all) CHECK(c.head().status == 200);
  s.on_loop([&] {
    count(1);
    all.clear();
    count(-1);
  });
  all_gone.get_future().wait();
  s.on_loop([&] { count(1); });
  const auto n = static_cast<double>(streams);
  return {static_cast<double>(calls - waits) / n, static_cast<double>(waits) / n};
}

/// What is accepted has the options that the server was asked for. `fd_of(server, id)`: a stream's.
template <class Server, class Fd>
void accepted_sockets_have_their_options(Fd fd_of) {
  const bool nodelay = GENERATE(false, true);
  Server s{{.nodelay = nodelay, .send_buffer = 40'000}};
  sse::channel ticks = s.open("ticks");
  sse::session_id id;
  s.on_loop([&] {
    s->stream("/events", ticks);
    s->hub().on_opened([&](sse::session_id of, const sse::no_user&) { id = of; });
  });
  client c{s.port()};
  REQUIRE(c.open("/events").status == 200);
  const auto option = [&](int level, int name) {
    return s.on_loop([&] {
      int value = -1;
      socklen_t size = sizeof value;
      ::getsockopt(fd_of(*s.operator->(), id), level, name, &value, &size);
      return value;
    });
  };
  CHECK((option(IPPROTO_TCP, TCP_NODELAY) != 0) == nodelay);
  CHECK(option(SOL_SOCKET, SO_SNDBUF) == 80'000);  // the kernel doubles it
}

}  // namespace test
