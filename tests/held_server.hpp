// A server in the test's own thread: the test gives it each turn of its loop, and the time.
//
//   test::held_server<epoll_loop> s{{.head_deadline = milliseconds{1000}}};
//   test::client c{s.port()};
//   s.pass(999);                                       // time, and all that is due then
//   CHECK(s->connections() == 1);
#pragma once

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <sse/server.hpp>

#include "catch.hpp"
#include "held_clock.hpp"
#include "http_client.hpp"
#include "socket_calls.hpp"
#include "without_position.hpp"

namespace test {

/// The loop of a server that has its own.
template <class Server>
struct polled {
  explicit polled(const sse::server_options& o) : server{o} {}
  void turn() { server.poll(); }
  Server server;
};

/// `Loop`: made of server_options, has `server` and turn(), which serves what there is to do.
template <class Loop>
class held_server {
 public:
  explicit held_server(const sse::server_options& o = {}) : loop_{without_position(o)} {
    ticks = server().open_channel("ticks", {.max_lag = 0});
    server().stream("/events", ticks);
    server().get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
    server().post("/echo", [](const sse::request&, std::string_view body) {
      return sse::response::text(200, std::string{body});
    });
    server().page("/large", std::string(4'000'000, 'p'));
    if (const auto e = server().listen("127.0.0.1", 0)) throw std::system_error{e};
  }

  held_server(const held_server&) = delete;
  held_server& operator=(const held_server&) = delete;
  ~held_server() { fail_socket_calls(socket_call::accept, 0, 0); }

  [[nodiscard]] auto& server() noexcept { return loop_.server; }
  auto* operator->() noexcept { return &loop_.server; }
  [[nodiscard]] std::uint16_t port() noexcept { return server().port(); }

  void turn() {
    const watched_calls now;
    loop_.turn();
  }
  /// Turns until f(); false: not in time.
  template <class F>
  [[nodiscard]] bool until(F f) {
    const auto end = std::chrono::system_clock::now() + patience;  // the other clock stands still
    for (; !f(); std::this_thread::yield()) {
      if (std::chrono::system_clock::now() > end) return false;
      turn();
    }
    return true;
  }
  /// Time passes, and what is due then is done.
  void pass(std::int64_t ms) {
    clock_.advance(ms);
    for (int i = 0; i < 10; ++i) turn();
  }

  /// Sends, and waits until the server looked at it.
  void send(client& c, std::string_view bytes) {
    const long before = socket_calls_made(socket_call::recv);
    c.send(bytes);
    REQUIRE(until([&] { return socket_calls_made(socket_call::recv) != before; }));
  }
  [[nodiscard]] answer answer_to(client& c) {
    REQUIRE(until([&] { return c.has_input(); }));
    return c.whole_answer();
  }
  [[nodiscard]] answer ask(client& c, std::string_view request) {
    send(c, request);
    return answer_to(c);
  }
  /// Opens a stream; its head was read.
  void open(client& c, std::string_view headers = {}) {
    const std::size_t before = server().hub().sessions();
    c.send(client::make("GET", "/events", headers));
    REQUIRE(until([&] { return server().hub().sessions() == before + 1 && c.has_input(); }));
    REQUIRE(c.head().status == 200);
  }
  /// Reads `n` bytes while the server goes on.
  [[nodiscard]] std::string read(client& c, std::size_t n) {
    std::string got;
    REQUIRE(until([&] {
      got += c.taken();
      return got.size() >= n;
    }));
    return got;
  }
  [[nodiscard]] bool ends(client& c) {
    return until([&] { return c.has_input(); }) && c.rest().empty();
  }
  [[nodiscard]] bool empties() {
    return until([&] { return server().connections() == 0; });
  }

  sse::channel ticks = {};

 private:
  held_clock clock_{};
  Loop loop_;
};

/// Says so where neither time nor socket calls can be held.
[[nodiscard]] inline bool cannot_hold_the_server() {
  if (held_clock::works() && socket_calls_can_fail()) return false;
  WARN("SKIPPED: the thread sanitizer, or another system than Linux: no call can be replaced here");
  return true;
}

}  // namespace test
