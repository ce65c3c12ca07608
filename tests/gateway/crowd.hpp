// Many readers of one stream in one thread (epoll, Linux).
//
//   crowd readers{gateway.port(), 1000, "/api/stream?last_id=0"};
//   readers.run([&](const crowd& c) { return c.slowest() >= size; });
//
// All of them are compared with one copy of what was sent: the first to get a byte brings it.
#pragma once

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "program.hpp"

namespace test {

class crowd {
 public:
  /// Connects `n` readers, one after the other, and sends their requests.
  crowd(std::uint16_t port, std::size_t n, const std::string& target) : readers_(n) {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const std::string request = client::make("GET", target);
    for (std::size_t i = 0; i < n; ++i) {
      const int fd = readers_[i].fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fd < 0 || ::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0 ||
          ::send(fd, request.data(), request.size(), MSG_NOSIGNAL) <= 0) {
        throw std::runtime_error("connect: " + std::string{std::strerror(errno)});
      }
      epoll_event e{};
      e.events = EPOLLIN;
      e.data.u64 = i;
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &e);
    }
  }
  ~crowd() {
    for (const reader& r : readers_) ::close(r.fd);
    ::close(epoll_);
  }
  crowd(const crowd&) = delete;
  crowd& operator=(const crowd&) = delete;

  /// Reads until done() is true. False: nothing came for as long as patience goes.
  template <class Done>
  [[nodiscard]] bool run(Done done) {
    std::array<epoll_event, 256> events;
    while (!done()) {
      const int n =
          ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), patience_ms);
      if (n <= 0) return false;
      for (int i = 0; i < n; ++i) read(readers_[events[static_cast<std::size_t>(i)].data.u64]);
    }
    return true;
  }

  /// The body as sent: everything that any reader got.
  [[nodiscard]] const std::string& body() const noexcept { return body_; }
  /// Readers whose body is a copy of body(), as far as they have come.
  [[nodiscard]] bool all_equal() const noexcept {
    return std::all_of(readers_.begin(), readers_.end(), [](const reader& r) { return r.equal; });
  }
  [[nodiscard]] std::size_t ended() const noexcept { return ended_; }
  /// Readers that have read the head of their answer, 200.
  [[nodiscard]] std::size_t opened() const noexcept { return opened_; }
  /// Readers that have `size` bytes of body or more.
  [[nodiscard]] std::size_t having(std::size_t size) const noexcept {
    return static_cast<std::size_t>(std::count_if(readers_.begin(), readers_.end(),
                                                  [&](const reader& r) { return r.at >= size; }));
  }

 private:
  struct reader {
    int fd = -1;
    std::string head{};
    bool open = false;
    bool equal = true;
    std::size_t at = 0;  ///< bytes of body
  };

  void read(reader& r) {
    const ssize_t n = ::recv(r.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      ++ended_;
      ::epoll_ctl(epoll_, EPOLL_CTL_DEL, r.fd, nullptr);
      return;
    }
    std::string_view bytes{buffer_.data(), static_cast<std::size_t>(n)};
    if (!r.open) {
      r.head += bytes;
      const std::size_t end = r.head.find("\r\n\r\n");
      if (end == std::string::npos) return;
      r.open = true;
      opened_ += r.head.starts_with("HTTP/1.1 200 ");
      take(r, std::string_view{r.head}.substr(end + 4));
      r.head = {};
    } else {
      take(r, bytes);
    }
  }
  void take(reader& r, std::string_view bytes) {
    const std::size_t known = std::min(bytes.size(), body_.size() - r.at);
    r.equal = r.equal && std::memcmp(body_.data() + r.at, bytes.data(), known) == 0;
    body_ += bytes.substr(known);
    r.at += bytes.size();
  }

  std::vector<reader> readers_;
  std::string body_;
  std::size_t opened_ = 0;
  std::size_t ended_ = 0;
  int epoll_ = -1;
  std::vector<char> buffer_ = std::vector<char>(1 << 18);
};

}  // namespace test
