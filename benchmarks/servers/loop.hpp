// The bare epoll loop under the raw floor and under the core on bare sockets: accept, read a
// request head, tell who can take bytes and who is gone. Edge-triggered. One thread.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

#include "common.hpp"

namespace bench {

inline constexpr std::string_view stream_head =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nConnection: "
    "keep-alive\r\n\r\n";

inline int listen_on(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(fd, 4096) != 0)
    fail("listen");
  socklen_t size = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  say_port(ntohs(address.sin_port));
  return fd;
}

/// `Handler`: opened(fd, head), writable(fd), gone(fd), woken().
template <class Handler>
class loop {
 public:
  loop(Handler& h, int port)
      : handler_{&h},
        listener_{listen_on(port)},
        epoll_{epoll_create1(0)},
        event_{eventfd(0, EFD_NONBLOCK)} {
    watch(listener_, EPOLLIN);
    watch(event_, EPOLLIN);
    ready_.resize(1024);
  }
  loop(const loop&) = delete;
  loop& operator=(const loop&) = delete;

  /// Any thread.
  void wake() const noexcept {
    const std::uint64_t one = 1;
    if (write(event_, &one, sizeof one) < 0) return;  // full: it is awake
  }

  /// Waits until `until` (ns, CLOCK_MONOTONIC; 0: not at all, below 0: until something happens) and
  /// handles what is there.
  void turn(std::int64_t until) {
    timespec wait{};
    if (until > 0) {
      const std::int64_t left = until - now_ns();
      if (left > 0) wait = {left / 1'000'000'000, left % 1'000'000'000};
    }
    const int n = epoll_pwait2(epoll_, ready_.data(), static_cast<int>(ready_.size()),
                               until < 0 ? nullptr : &wait, nullptr);
    for (int i = 0; i < n; ++i) {
      const epoll_event& e = ready_[static_cast<std::size_t>(i)];
      const int fd = e.data.fd;
      if (fd == listener_) {
        accept_all();
      } else if (fd == event_) {
        std::uint64_t count = 0;
        if (read(event_, &count, sizeof count) > 0) handler_->woken();
      } else {
        if ((e.events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0 && !take_input(fd))
          continue;
        if ((e.events & EPOLLOUT) != 0 && streams(fd)) handler_->writable(fd);
      }
    }
  }

 private:
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

  void watch(int fd, std::uint32_t events) const {
    epoll_event e{};
    e.events = events;
    e.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &e);
  }
  [[nodiscard]] bool streams(int fd) const noexcept {
    return static_cast<std::size_t>(fd) < open_.size() && open_[static_cast<std::size_t>(fd)];
  }

  void accept_all() {
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK);
      if (fd < 0) return;
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      if (open_.size() <= static_cast<std::size_t>(fd)) {
        open_.resize(static_cast<std::size_t>(fd) + 1);
        heads_.resize(open_.size());
      }
      open_[static_cast<std::size_t>(fd)] = false;
      watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
  }

  /// False: the peer is gone.
  bool take_input(int fd) {
    const auto i = static_cast<std::size_t>(fd);
    char bytes[2048];
    for (;;) {
      const ssize_t n = recv(fd, bytes, sizeof bytes, 0);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
      if (n <= 0) {
        if (open_[i]) handler_->gone(fd);
        open_[i] = false;
        heads_[i] = {};
        close(fd);
        return false;
      }
      if (open_[i]) continue;
      heads_[i].append(bytes, static_cast<std::size_t>(n));
      if (!heads_[i].ends_with("\r\n\r\n")) continue;
      const std::string head = std::move(heads_[i]);
      heads_[i] = {};
      open_[i] = true;
      handler_->opened(fd, head);
    }
  }

  Handler* handler_;
  int listener_;
  int epoll_;
  int event_;
  std::vector<bool> open_;
  std::vector<std::string> heads_;
  std::vector<epoll_event> ready_;
};

/// The id behind Last-Event-ID, or 0.
inline std::uint64_t last_event_id(std::string_view head) {
  constexpr std::string_view name = "Last-Event-ID: ";
  const std::size_t at = head.find(name);
  return at == std::string_view::npos ? 0
                                      : std::strtoull(head.data() + at + name.size(), nullptr, 10);
}

}  // namespace bench
