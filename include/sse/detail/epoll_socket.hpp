// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Sockets of Linux as the epoll host needs them: owned descriptors, addresses, listening. Not
// public.
#pragma once

#if !defined(__linux__)
#error "sse/epoll.hpp and sse/io_uring.hpp need Linux; sse/asio.hpp runs everywhere"
#endif

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace sse::inline v0::detail {

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

[[nodiscard]] inline std::error_code last_error() noexcept {
  return {errno, std::system_category()};
}

/// Asks epoll for `events` of `fd` with `data`: also where it is not watched yet.
[[nodiscard]] inline bool watch(int epoll, int fd, std::uint32_t events,
                                std::uint64_t data) noexcept {
  epoll_event e{};
  e.events = events;
  e.data.u64 = data;
  if (::epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &e) == 0) return true;
  return errno == ENOENT && ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

inline bool set_option(int fd, int level, int name, int value) noexcept {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/// Nothing of a connection that was closed after this goes out: its peer gets a reset.
inline void end_by_reset(int fd) noexcept {
  const linger now{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/// The one way to write an address: an IPv4 peer of a socket for both versions is an IPv4 peer.
[[nodiscard]] inline std::string address_text(const in6_addr& a) {
  char text[INET6_ADDRSTRLEN] = {};
  const bool v4 = IN6_IS_ADDR_V4MAPPED(&a);
  ::inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? &a.s6_addr[12] : &a.s6_addr[0], text, sizeof text);
  return text;
}
[[nodiscard]] inline std::string address_text(const sockaddr_storage& from) {
  char text[INET_ADDRSTRLEN] = {};
  if (from.ss_family == AF_INET6) {
    return address_text(reinterpret_cast<const sockaddr_in6&>(from).sin6_addr);
  }
  ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(from).sin_addr, text, sizeof text);
  return text;
}

[[nodiscard]] inline std::uint16_t port_of(int fd) noexcept {
  sockaddr_storage at{};
  socklen_t size = sizeof at;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) != 0) return 0;
  return ntohs(at.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(at).sin6_port
                                        : reinterpret_cast<const sockaddr_in&>(at).sin_port);
}

struct listen_options {
  bool reuse_port = false;
  bool one_version = false;  ///< an IPv6 socket takes no IPv4
};

[[nodiscard]] inline std::error_code listen_on(const addrinfo& at, listen_options o,
                                               unique_fd& out) noexcept {
  out.reset(::socket(at.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int fd = out.get();
  const bool listens =
      fd >= 0 && set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
      (!o.reuse_port || set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) &&
      (at.ai_family != AF_INET6 || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, o.one_version)) &&
      ::bind(fd, at.ai_addr, at.ai_addrlen) == 0 && ::listen(fd, SOMAXCONN) == 0;
  return listens ? std::error_code{} : last_error();
}

/// Sockets that listen on an address, or on all addresses of a name, on one port.
[[nodiscard]] inline std::error_code listen_on(std::string_view host, std::uint16_t port,
                                               listen_options o, std::vector<unique_fd>& out) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo how{};
  how.ai_socktype = SOCK_STREAM;
  how.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(std::string{host}.c_str(), std::to_string(port).c_str(), &how, &found) != 0) {
    return std::make_error_code(std::errc::address_not_available);
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned{found, &::freeaddrinfo};
  o.one_version = found->ai_next != nullptr;
  const std::size_t before = out.size();
  std::error_code failed;
  for (addrinfo* at = found; at != nullptr; at = at->ai_next) {
    if (out.size() != before && port == 0) {  // the port that the first one got
      const in_port_t same = htons(port_of(out[before].get()));
      (at->ai_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(at->ai_addr)->sin6_port
                                 : reinterpret_cast<sockaddr_in*>(at->ai_addr)->sin_port) = same;
    }
    unique_fd fd;
    const std::error_code e = listen_on(*at, o, fd);
    if (!e) {
      out.push_back(std::move(fd));
    } else if (e != std::errc::address_not_available &&
               e != std::errc::address_family_not_supported) {
      out.resize(before);
      return e;
    } else {
      failed = e;
    }
  }
  return out.size() == before ? failed : std::error_code{};
}

}  // namespace sse::inline v0::detail
