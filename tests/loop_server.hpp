// An epoll_server, or one like it, on 127.0.0.1, any port unless one is given, in a thread of its
// own.
//
//   test::loop_server<sse::epoll_server<>> s{{.chunked = true}};
//   sse::channel c = s.open("ticks");
//   s.on_loop([&] { s->stream("/events", c); });
//   test::client get{s.port()};
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <sse/server.hpp>

#include "http_client.hpp"
#include "remote_call.hpp"
#include "server_calls.hpp"
#include "without_position.hpp"

namespace test {

template <class Server>
class loop_server : public server_calls<loop_server<Server>> {
 public:
  explicit loop_server(sse::server_options o = {}, std::uint16_t port = 0)
      : server_{std::in_place, without_position(o)} {
    if (const auto e = server_->listen("127.0.0.1", port)) throw std::system_error{e};
    port_ = server_->port();
    thread_ = std::thread{[this] { serve(); }};
  }
  ~loop_server() {
    on_loop([&] { ending_ = true; });
    thread_.join();
  }

  /// Runs f() in the server's thread, outside its handlers, and returns what it returns.
  template <class F>
  decltype(auto) on_loop(F f) {
    remote_call call{f};
    post(call);
    return call.result();
  }
  /// In the server's thread only.
  Server* operator->() noexcept { return &*server_; }
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

 private:
  void post(remote_call_base& call) {
    const std::lock_guard lock{mutex_};  // also round interrupt: the call may end the server
    calls_.push_back(&call);
    server_->interrupt();
  }

  void serve() {
    while (!ending_) {
      server_->run();
      std::vector<remote_call_base*> todo;
      {
        const std::lock_guard lock{mutex_};
        todo.swap(calls_);
      }
      for (remote_call_base* call : todo) call->run();
      if (todo.empty()) std::this_thread::yield();  // a server that was stopped does not wait
    }
    server_.reset();
  }

  std::optional<Server> server_;
  std::uint16_t port_ = 0;
  bool ending_ = false;
  std::mutex mutex_;
  std::vector<remote_call_base*> calls_;
  std::thread thread_;
};

/// Publishes `n` events of growing size; what a stream gets of them.
template <class Calls>
std::string publish_sizes(Calls& s, sse::channel c, int n, int step) {
  std::string expected;
  for (int i = 0; i < n; ++i) {
    const std::string data(static_cast<std::size_t>(i * step), static_cast<char>('a' + i % 26));
    const sse::event_id id = s.publish(c, data);
    expected += "id: " + std::to_string(id) + "\ndata: " + data + "\n\n";
  }
  return expected;
}

}  // namespace test
