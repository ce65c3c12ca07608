// A source, its clock, and what it asked of its host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/client.hpp>

#include "catch.hpp"

namespace test {

using list = std::vector<std::string>;

inline constexpr std::string_view stream_head =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

inline constexpr std::string_view chunked_head =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

inline std::string chunk(std::string_view data) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string size;
  for (std::size_t n = data.size(); n != 0; n /= 16) size.insert(size.begin(), digits[n % 16]);
  return size + "\r\n" + std::string{data} + "\r\n";
}

inline std::string redirect(int status, std::string_view location) {
  return "HTTP/1.1 " + std::to_string(status) + " x\r\nLocation: " + std::string{location} +
         "\r\n\r\n";
}

/// Writes down what comes.
struct recorder {
  std::vector<std::string> log;

  void on_open(const sse::client_response& r) {
    log.push_back("open " + std::to_string(r.status()));
  }
  void on_event(const sse::event& e) {
    log.push_back(std::string{e.id} + "|" + std::string{e.type} + "|" + std::string{e.data});
  }
  void on_comment(std::string_view t) { log.push_back(":" + std::string{t}); }
  void on_retry(std::int64_t ms) { log.push_back("retry " + std::to_string(ms)); }
  void on_gap(const sse::gap& g) {
    log.push_back("gap " + std::to_string(g.requested) + " " + std::to_string(g.first) + " " +
                  (g.lost_known ? std::to_string(g.lost) : "?"));
  }
};

/// A source, its clock, and what it asked of its host. Failures are logged as "error delay", or
/// "error final".
struct rig {
  /// Delays are exact unless a test is about what is added to them.
  explicit rig(sse::client_options o = {}, std::string_view url = "http://h/s",
               std::uint32_t jitter = 0)
      : source{url, (o.jitter = jitter, o)} {
    poll();
  }

  std::int64_t ms = 0;
  sse::event_source source;
  recorder seen{};
  std::vector<std::string> log{};  // since the last look
  std::uint64_t attempts = 0;      // connect actions

  [[nodiscard]] sse::time_point now() const { return sse::time_point::milliseconds(ms); }

  void poll() {
    for (;;) {
      const sse::client_action a = source.poll(now());
      switch (a.what) {
        case sse::client_action::none: return;
        case sse::client_action::connect:
          ++attempts;
          log.push_back("connect " + std::string{a.host} + ":" + std::to_string(a.port) +
                        (a.tls ? " tls" : ""));
          break;
        case sse::client_action::secure: log.push_back("secure"); break;
        case sse::client_action::disconnect: log.push_back("disconnect"); break;
        case sse::client_action::failed: {
          const sse::client_failure& f = source.failure();
          CHECK_FALSE(sse::describe(f).empty());
          CHECK(f.final == (source.state() == sse::client_state::closed));
          log.push_back(std::string{sse::to_string(f.error)} + " " +
                        (f.final ? "final" : std::to_string(f.delay.ms())));
        }
      }
    }
  }

  /// What was asked since the last look.
  std::vector<std::string> asked() { return std::exchange(log, {}); }

  /// The connection is there; returns the request.
  std::string connected() {
    std::string request{source.connected(now())};
    poll();
    return request;
  }
  void receive(std::string_view in) {
    CHECK(source.received(now(), in, seen) == in.size());
    poll();
  }
  /// Connected, and this came.
  std::string answer(std::string_view in) {
    std::string request = connected();
    receive(in);
    return request;
  }
  void ended(sse::client_error why = sse::client_error::none) {
    source.ended(now(), why);
    poll();
  }
  void advance(std::int64_t by) {
    ms += by;
    poll();
  }
  /// To the next deadline; how long that took. REQUIRES: there is one.
  std::int64_t wait() {
    const sse::time_point due = source.next_deadline();
    REQUIRE(due < sse::time_point::never());
    const std::int64_t before = ms;
    ms = due.ms() > ms ? due.ms() : ms;
    poll();
    return ms - before;
  }
  [[nodiscard]] bool forever() const { return source.next_deadline() == sse::time_point::never(); }
  [[nodiscard]] sse::client_error error() const { return source.failure().error; }
  std::vector<std::string> events() { return std::exchange(seen.log, {}); }
};

/// The value of a header in a request; "-": absent.
inline std::string header_of(std::string_view request, std::string_view name) {
  request = request.substr(0, request.find("\r\n\r\n"));
  std::size_t at = request.find("\r\n" + std::string{name} + ": ");
  if (at == std::string_view::npos) return "-";
  at += 4 + name.size();
  const std::string_view rest = request.substr(at);
  return std::string{rest.substr(0, rest.find("\r\n"))};
}

inline std::string first_line(std::string_view request) {
  return std::string{request.substr(0, request.find("\r\n"))};
}

}  // namespace test
