// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Sockets of Linux as transports in an epoll loop need them. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_NET_EPOLL_SOCKET_HPP
#define SSEHUB_DETAIL_NET_EPOLL_SOCKET_HPP

#if !defined(__linux__)
#error "sse/epoll.hpp and sse/io_uring.hpp need Linux; sse/asio.hpp runs everywhere"
#endif

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Owns a descriptor.
class unique_fd {
 public:
  unique_fd() noexcept = default;
  explicit unique_fd(int fd) noexcept : fd_{fd} {}
  unique_fd(unique_fd&& o) noexcept : fd_{std::exchange(o.fd_, -1)} {}
  unique_fd& operator=(unique_fd&& o) noexcept {
    if (this != &o) reset(std::exchange(o.fd_, -1));
    return *this;
  }
  ~unique_fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// What a connection has between itself and its socket: nothing. sse::tls::session is another.
struct no_layer {
  static constexpr bool secure = false;
  struct security {};
  explicit operator bool() const noexcept { return false; }
};

/// Asks epoll for `events` of `fd` with `data`. `watched`: whether it is watched already; where
/// that is wrong it costs one call more.
[[nodiscard]] inline bool watch(int epoll, int fd, std::uint32_t events, std::uint64_t data,
                                bool watched) noexcept {
  epoll_event e{};
  e.events = events;
  e.data.u64 = data;
  const int first = watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (::epoll_ctl(epoll, first, fd, &e) == 0) return true;
  if (errno != (watched ? ENOENT : EEXIST)) return false;
  return ::epoll_ctl(epoll, watched ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &e) == 0;
}

/// Nothing of a connection that was closed after this goes out: its peer gets a reset.
inline void end_by_reset(int fd) noexcept {
  const linger now{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_NET_EPOLL_SOCKET_HPP
