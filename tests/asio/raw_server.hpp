// What the client's tests talk to: a server that does as each test says, byte by byte, and a loop
// for sources. POSIX.
//
//   test::raw_server s{[](test::peer& p) {
//     p.request();
//     p.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n");
//   }};                                            // one connection after the other, then closed
//   test::loop l;
//   sse::asio_event_source<> source{l.ctx, s.url("/events")};
//   l.until([&] { return got == 1; });             // throws if it takes longer than `patience`
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <asio/io_context.hpp>

namespace test {

inline constexpr std::string_view stream_head =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// The server's side of one connection.
class peer {
 public:
  peer(int fd, int n) : number{n}, fd_{fd} {}
  peer(const peer&) = delete;
  peer& operator=(const peer&) = delete;
  ~peer() { close(); }

  /// Head and body; empty: the client left.
  std::string request() {
    std::string got;
    std::size_t need = 0;
    while (need == 0 || got.size() < need) {
      char buffer[4096];
      const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
      if (n <= 0) return {};
      got.append(buffer, static_cast<std::size_t>(n));
      const std::size_t end = got.find("\r\n\r\n");
      if (need == 0 && end != std::string::npos) {
        need = end + 4;
        const std::string_view key = "\r\nContent-Length: ";
        if (const std::size_t at = got.find(key); at < end) {
          std::size_t length = 0;
          std::from_chars(got.data() + at + key.size(), got.data() + end, length);
          need += length;
        }
      }
    }
    return got;
  }
  /// Receives n bytes. False: the client left.
  bool skip(std::size_t n) {
    char byte = 0;
    while (n != 0 && ::recv(fd_, &byte, 1, 0) == 1) --n;
    return n == 0;
  }
  /// False: the client left.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  bool send_bytewise(std::string_view bytes) {
    for (const char& c : bytes) {
      if (!send({&c, 1})) return false;
    }
    return true;
  }
  /// Returns when the client hangs up.
  void wait_for_end() {
    char buffer[4096];
    while (::recv(fd_, buffer, sizeof buffer, 0) > 0) {
    }
  }
  void reset() {
    const linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  const int number;  ///< of the connection, from 0

 private:
  int fd_;
};

class raw_server {
 public:
  using script = std::function<void(peer&)>;

  explicit raw_server(script s, bool v6 = false) : script_{std::move(s)}, v6_{v6} {
    listen_ = ::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a4{};
    a4.sin_family = AF_INET;
    a4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_in6 a6{};
    a6.sin6_family = AF_INET6;
    a6.sin6_addr = in6addr_loopback;
    auto* const address = v6 ? reinterpret_cast<sockaddr*>(&a6) : reinterpret_cast<sockaddr*>(&a4);
    socklen_t size = v6 ? sizeof a6 : sizeof a4;
    if (::bind(listen_, address, size) != 0 || ::listen(listen_, 1024) != 0) {
      ::close(listen_);
      throw std::runtime_error("listen: " + std::string{std::strerror(errno)});
    }
    ::getsockname(listen_, address, &size);
    port_ = ntohs(v6 ? a6.sin6_port : a4.sin_port);
    thread_ = std::thread{[this] { run(); }};
  }
  raw_server(const raw_server&) = delete;
  raw_server& operator=(const raw_server&) = delete;
  /// The clients must have hung up.
  ~raw_server() {
    ::shutdown(listen_, SHUT_RDWR);
    thread_.join();
    ::close(listen_);
  }

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::string url(std::string_view target = "/") const {
    std::string u = v6_ ? "http://[::1]:" : "http://127.0.0.1:";
    return u.append(std::to_string(port_)).append(target);
  }
  [[nodiscard]] int connections() const { return connections_; }

 private:
  void run() {
    for (;;) {
      const int fd = ::accept4(listen_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      peer p{fd, connections_++};
      script_(p);
    }
  }

  script script_;
  bool v6_;
  int listen_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<int> connections_{0};
  std::thread thread_;
};

struct loop {
  static constexpr std::chrono::seconds limit{20};

  /// Runs handlers until done() is true.
  template <class F>
  void until(F done) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!done()) {
      ctx.restart();
      ctx.run_one_until(end);
      if (std::chrono::steady_clock::now() > end) throw std::runtime_error("it took too long");
    }
  }
  /// Runs until there is no work.
  void to_the_end() {
    ctx.restart();
    ctx.run_for(limit);
    if (!ctx.stopped()) throw std::runtime_error("it took too long");
  }

  asio::io_context ctx{1};
};

}  // namespace test
