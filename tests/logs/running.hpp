// The log server on a thread of its own, over a directory that the test writes.
//
//   running s;                                // or running s{{.common = {.token = "x"}}};
//   s.files.append("app.log", "one\n");
//   client stream = s.stream("/logs/app?backlog=10");
//   CHECK(next_event(stream) == event{"4", "", "one"});
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "../asio/client.hpp"
#include "log_directory.hpp"
#include "logs/server.hpp"

namespace test {

struct event {
  std::string id{};
  std::string type{};
  std::string data{};
  friend bool operator==(const event&, const event&) = default;
};
inline std::ostream& operator<<(std::ostream& out, const event& e) {
  return out << "{" << e.id << ", " << e.type << ", " << e.data << "}";
}

/// The next event of a stream; comments and retry are skipped, lines of data are joined by LF. At
/// the end of the stream its type is "end".
[[nodiscard]] inline event next_event(client& stream) {
  for (;;) {
    std::string frame = stream.frame();
    if (frame.empty()) return {.type = "end"};
    if (frame.starts_with(':') || frame.starts_with("retry:")) continue;
    event e;
    bool data = false;
    frame += '\n';
    for (std::size_t at = 0; at < frame.size();) {
      const std::size_t end = frame.find('\n', at);
      const std::string line = frame.substr(at, end - at);
      at = end + 1;
      if (line.starts_with("id: ")) e.id = line.substr(4);
      if (line.starts_with("event: ")) e.type = line.substr(7);
      if (!line.starts_with("data: ")) continue;
      if (std::exchange(data, true)) e.data += '\n';
      e.data += line.substr(6);
    }
    return e;
  }
}

/// The data of the next n events.
[[nodiscard]] inline std::vector<std::string> next_data(client& stream, std::size_t n) {
  std::vector<std::string> out;
  while (out.size() < n) out.push_back(next_event(stream).data);
  return out;
}

/// A server that can be ended, as by SIGKILL, and started again over the same files.
class running {
 public:
  explicit running(logs::settings s = {}) : settings_{std::move(s)} {
    settings_.data = files.path();
    start();
  }
  ~running() { stop(); }
  running(const running&) = delete;
  running& operator=(const running&) = delete;

  void start() {
    now_ = std::make_unique<life>(settings_);
    if (const std::string wrong = now_->server->start(); !wrong.empty())
      throw std::runtime_error(wrong);
    if (const auto e = now_->server->http().listen("127.0.0.1", 0)) throw std::system_error{e};
    port_ = now_->server->http().port();
    now_->thread = std::thread{[l = now_.get()] { l->io.run(); }};
  }
  /// At once: no drain, nothing is said.
  void stop() {
    if (!now_) return;
    now_->io.stop();
    now_->thread.join();
    now_.reset();
  }

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] answer get(std::string_view target, std::string_view headers = {}) const {
    return client{port_}.get(target, headers);
  }
  [[nodiscard]] answer post(std::string_view target, std::string_view body = {},
                            std::string_view headers = {}) const {
    return client{port_}.post(target, body, headers);
  }
  /// An open stream, its head read.
  [[nodiscard]] client stream(std::string_view target, std::string_view headers = {}) const {
    client c{port_};
    const answer a = c.open(target, headers);
    if (a.status != 200) throw std::runtime_error("no stream: " + a.head);
    return c;
  }
  /// A number of /api/status.
  [[nodiscard]] int status(const std::string& name) const {
    const std::string body = get("/api/status").body;
    const std::size_t at = body.find("\"" + name + "\":");
    return at == std::string::npos ? -1 : std::atoi(body.c_str() + at + name.size() + 3);
  }
  [[nodiscard]] bool eventually(const std::string& name, int value) const {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < end) {
      if (status(name) == value) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    return false;
  }

  log_directory files;

 private:
  struct life {
    explicit life(const logs::settings& s) { server.emplace(io, s); }
    asio::io_context io{1};
    std::optional<logs::server> server;
    std::thread thread;
  };

  logs::settings settings_;
  std::unique_ptr<life> now_;
  std::uint16_t port_ = 0;
};

}  // namespace test
