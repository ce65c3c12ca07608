// One socket call of a server fails, then the next one, and so on: what must hold for any host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <sse/hub.hpp>

#include "catch.hpp"
#include "http_client.hpp"
#include "socket_calls.hpp"

namespace test {

/// Says so where no call can be made to fail.
[[nodiscard]] inline bool cannot_fail_socket_calls() {
  if (socket_calls_can_fail()) return false;
  WARN("SKIPPED: the thread sanitizer, or another system than Linux: no socket call can fail here");
  return true;
}

[[nodiscard]] inline std::size_t open_descriptors() {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"})
    ++n;
  return n;
}

/// A reader that comes back with its last id whenever its stream ends or does not begin.
class stubborn_reader {
 public:
  explicit stubborn_reader(std::uint16_t port) : port_{port} { connect(); }

  /// Reads until it has `n` events; their data. Cut off all the time it gives up.
  std::vector<std::string> read(std::size_t n) {
    for (int lives = 4; got_.size() < n && lives != 0;) {
      const std::string frame = stream_->until("\n\n");
      if (frame.ends_with("\n\n")) {
        take(frame);
      } else {
        connect();
        --lives;
      }
    }
    return got_;
  }

 private:
  void connect() {
    for (int lives = 4; lives != 0; --lives) {
      stream_.emplace(port_);
      const std::string id = "Last-Event-ID: " + last_ + "\r\n";
      if (!stream_->try_send(client::make("GET", "/events", id))) continue;
      if (stream_->head().status == 200) return;
    }
    throw std::runtime_error("refused four times");
  }
  void take(const std::string& frame) {
    const std::string id = client::field(frame, "id: ");
    if (id.empty()) return;  // a comment
    last_ = id;
    got_.push_back(client::field(frame, "data: "));
  }

  std::uint16_t port_;
  std::optional<client> stream_;
  std::string last_ = "0";
  std::vector<std::string> got_;
};

/// `Server`: test::server<> or a test::loop_server. Nobody misses an event, nothing crashes or
/// leaks, and who comes later is served as ever.
template <class Server>
void every_socket_call_fails_once(int error) {
  if (cannot_fail_socket_calls()) return;
  const std::vector<std::string> all{"one", "two", "three"};
  bool hit = true;
  int n = 0;
  for (; hit; ++n) {
    CAPTURE(n, error);
    REQUIRE(n < 500);
    const std::size_t before = open_descriptors();
    {
      Server s;
      sse::channel ticks = s.open("ticks");
      s.on_loop([&] { s->stream("/events", ticks); });
      s.publish(ticks, all[0]);
      stubborn_reader there{s.port()};
      REQUIRE(there.read(1).size() == 1);
      s.on_loop([&] { fail_socket_call(n, error); });
      stubborn_reader comes{s.port()};
      s.publish(ticks, all[1]);
      CHECK(there.read(2).size() == 2);
      s.publish(ticks, all[2]);
      CHECK(there.read(3) == all);
      CHECK(comes.read(3) == all);
      hit = s.on_loop([] { return end_failing(); });
      stubborn_reader later{s.port()};
      CHECK(later.read(3) == all);
    }
    CHECK(open_descriptors() == before);
  }
  CHECK(n > 5);  // an accept, a read of a head, and more did fail
}

/// A server that cannot be made or cannot listen says so, and keeps nothing.
template <class Make>
void every_socket_call_of_a_start_fails_once(Make make, int error) {
  if (cannot_fail_socket_calls()) return;
  bool hit = true;
  int said = 0;
  for (int n = 0; hit; ++n) {
    CAPTURE(n, error);
    REQUIRE(n < 500);
    const std::size_t before = open_descriptors();
    fail_socket_call(n, error);
    try {
      if (make()) ++said;
    } catch (const std::runtime_error&) {  // std::system_error, and that of Boost
      ++said;
    }
    hit = end_failing();
    CHECK(open_descriptors() == before);
  }
  CHECK(said > 0);
}

}  // namespace test
