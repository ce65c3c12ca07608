// What the examples of the documents run in, see scripts/extract-examples: a port that is free, and
// a check() beside the program, which ends it.
#pragma once

#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#include "http_client.hpp"

namespace guide {

/// Of the program that runs.
inline std::uint16_t port = 0;

inline void require(bool ok, std::string_view what) {
  if (!ok) throw std::runtime_error{std::string{what}};
}
inline void equal(std::string_view is, std::string_view expected) {
  if (is == expected) return;
  throw std::runtime_error{"not `" + std::string{expected} + "` but `" + std::string{is} + "`"};
}

template <class Server>
std::error_code listen(Server& server) {
  const std::error_code e = server.listen("127.0.0.1", 0);
  port = server.port();
  return e;
}

inline std::string url(std::string_view with_8080) {
  std::string out{with_8080};
  return out.replace(out.find(":8080") + 1, 4, std::to_string(port));
}

/// A stream, opened: its head was read and is right.
inline test::client open(std::string_view target, std::string_view headers = {}) {
  test::client c{port};
  const test::answer a = c.open(target, headers);
  if (a.status != 200) throw std::runtime_error{std::string{target} + ": " + a.head};
  return c;
}

/// Another thread for the loop of a server that a program is a client of.
template <class Loop>
class background {
 public:
  explicit background(Loop& loop) : loop_{loop} {}
  background(const background&) = delete;
  background& operator=(const background&) = delete;
  ~background() {
    loop_.stop();
    thread_.join();
  }

 private:
  Loop& loop_;
  std::thread thread_{[this] { loop_.run(); }};
};

/// Runs a loop until check() is over.
template <class Loop>
void run(Loop& loop, void (*check)()) {
  std::exception_ptr wrong;
  std::thread checking{[&] {
    try {
      check();
    } catch (...) {
      wrong = std::current_exception();
    }
    if constexpr (requires { loop.interrupt(); }) {
      loop.interrupt();
    } else {
      loop.stop();
    }
  }};
  loop.run();
  checking.join();
  if (wrong) std::rethrow_exception(wrong);
}

}  // namespace guide
