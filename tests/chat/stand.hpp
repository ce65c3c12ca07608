// The chat on 127.0.0.1, any port, in a thread of its own, and what a test asks of it.
//
//   stand s;
//   test::client events = s.stream("/events");
//   s.post("/send", R"({"data":{"n":1}})");
//   CHECK(data_of(events) == R"({"n":1})");
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "../asio/client.hpp"
#include "chat/server.hpp"

namespace test {

/// Heartbeats would only stand between the frames: off, unless a test is about them.
[[nodiscard]] inline chat::settings quiet() {
  chat::settings s;
  s.common.heartbeat = sse::duration::off();
  return s;
}

class stand {
 public:
  explicit stand(const chat::settings& s = quiet()) : server_{std::in_place, io_, s} {
    server_->http().on_access({});  // no log
    if (const auto e = server_->http().listen("127.0.0.1", 0)) throw std::system_error{e};
    port_ = server_->http().port();
    thread_ = std::thread{[this] { io_.run(); }};
  }
  stand(const stand&) = delete;
  stand& operator=(const stand&) = delete;
  ~stand() {
    io_.stop();
    thread_.join();
  }

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] answer get(std::string_view target, std::string_view headers = {}) const {
    return client{port_}.get(target, headers);
  }
  answer post(std::string_view target, std::string_view body,
              std::string_view headers = "Content-Type: application/json\r\n") const {
    return client{port_}.post(target, body, headers);
  }
  answer form(std::string_view target, std::string_view body) const {
    return post(target, body, "Content-Type: application/x-www-form-urlencoded\r\n");
  }
  answer del(std::string_view target) const {
    return client{port_}.ask(client::make("DELETE", target));
  }
  /// An open stream, its head read.
  [[nodiscard]] client stream(std::string_view target, std::string_view headers = {}) const {
    client c{port_};
    const answer a = c.open(target, headers);
    if (a.status != 200) throw std::runtime_error("no stream: " + a.head);
    return c;
  }
  /// Of a registered stream, as GET /streams says; -1: it is not listed.
  [[nodiscard]] int connections(std::string_view path) const {
    const std::string list = get("/streams").body;
    const std::string key = "{\"path\":\"" + std::string{path} + "\",\"connections\":";
    const std::size_t at = list.find(key);
    return at == std::string::npos ? -1 : std::atoi(list.c_str() + at + key.size());
  }
  [[nodiscard]] bool eventually(const std::function<bool()>& holds) const {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!holds()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }

 private:
  asio::io_context io_{1};
  std::optional<chat::server> server_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

/// The data of the next event; fails if the frame is more than an id and one line of data.
[[nodiscard]] inline std::string data_of(client& stream) {
  const std::string frame = stream.frame();
  std::string_view rest = frame;
  if (rest.starts_with("id: ")) rest.remove_prefix(rest.find('\n') + 1);
  if (!rest.starts_with("data: ") || rest.find('\n') != std::string_view::npos)
    return "not an unnamed event of one line: " + frame;
  return std::string{rest.substr(6)};
}

/// A JSON payload without its timestamp, which must look like one.
[[nodiscard]] inline std::string timeless(std::string json) {
  constexpr std::string_view key = ",\"timestamp\":\"";
  const std::size_t at = json.find(key);
  const std::size_t end = at + key.size() + 25;  // 2024-01-31T12:00:00.250Z"
  if (at == std::string::npos || json.size() < end || json[end - 2] != 'Z' ||
      json[end - 1] != '"') {
    return "no timestamp: " + json;
  }
  return json.erase(at, end - at);
}

/// POST /send to all.
[[nodiscard]] inline std::string to_all(std::string_view data) {
  return R"({"data":)" + std::string{data} + "}";
}

}  // namespace test
