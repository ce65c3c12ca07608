// An Asio server on a thread of its own, and the client for it.
//
//   test::server<> s;                              // options: test::server<> s{{.chunked = true}};
//   sse::channel c = s.open("ticks");
//   s.on_loop([&] { s->stream("/events", c); });
//   test::client get{s.port()};
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <sse/asio.hpp>

#include "http_client.hpp"
#include "remote_call.hpp"
#include "server_calls.hpp"
#include "without_position.hpp"

namespace test {

/// An asio_server on 127.0.0.1, any port unless one is given, in a thread of its own.
template <class User = sse::no_user, class Stream = asio::ip::tcp::socket>
class server : public server_calls<server<User, Stream>> {
 public:
  using server_type = sse::asio_server<User, Stream>;

  /// `make`: what makes a Stream of a socket, if that takes more than the socket.
  template <class... Make>
  explicit server(sse::server_options o = {}, std::uint16_t port = 0, Make... make)
      : server_{std::in_place, ctx_, without_position(std::move(o)), std::move(make)...} {
    start(port);
  }
  ~server() {
    on_loop([&] { server_.reset(); });
    work_.reset();
    thread_.join();
  }

  /// Runs f() in the server's thread and returns what it returns.
  template <class F>
  decltype(auto) on_loop(F f) {
    remote_call call{f};
    post(call);
    return call.result();
  }
  /// In the server's thread only.
  server_type* operator->() noexcept { return &*server_; }
  asio::io_context& context() noexcept { return ctx_; }
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

 private:
  void post(remote_call_base& call) {
    asio::post(ctx_, [&call] { call.run(); });
  }
  void start(std::uint16_t port) {
    if (const auto e = server_->listen("127.0.0.1", port)) throw std::system_error{e};
    port_ = server_->port();
    thread_ = std::thread{[this] { ctx_.run(); }};
  }

  asio::io_context ctx_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{ctx_.get_executor()};
  std::optional<server_type> server_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace test
