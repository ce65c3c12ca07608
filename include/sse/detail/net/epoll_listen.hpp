// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Addresses and listening sockets of the epoll host. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_NET_EPOLL_LISTEN_HPP
#define SSEHUB_DETAIL_NET_EPOLL_LISTEN_HPP

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <sse/detail/net/epoll_socket.hpp>
#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

[[nodiscard]] inline std::error_code last_error() noexcept {
  return {errno, std::system_category()};
}

inline bool set_option(int fd, int level, int name, int value) noexcept {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
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

/// Empty: it has none any more.
[[nodiscard]] inline std::string peer_address(int fd) {
  sockaddr_storage from{};
  socklen_t size = sizeof from;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&from), &size) != 0) return {};
  return address_text(from);
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
  bool nodelay = false;           ///< what is accepted inherits it, and the next
  std::uint32_t send_buffer = 0;  ///< bytes; 0: the system's
  std::uint32_t unsent = 0;       ///< the same
};

[[nodiscard]] inline std::error_code listen_on(const addrinfo& at, listen_options o,
                                               unique_fd& out) noexcept {
  out.reset(::socket(at.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int fd = out.get();
  const bool listens = fd >= 0 && set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
                       (!o.reuse_port || set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) &&
                       (at.ai_family != AF_INET6 || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0)) &&
                       (!o.nodelay || set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1)) &&
                       (o.send_buffer == 0 ||
                        set_option(fd, SOL_SOCKET, SO_SNDBUF, static_cast<int>(o.send_buffer))) &&
                       (o.unsent == 0 || set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
                                                    static_cast<int>(o.unsent))) &&
                       ::bind(fd, at.ai_addr, at.ai_addrlen) == 0 && ::listen(fd, SOMAXCONN) == 0;
  return listens ? std::error_code{} : last_error();
}

/// Sockets that listen on each of these addresses, on one port. What is of a family that the
/// machine lacks, or no address of its own, is left out unless nothing else is there.
[[nodiscard]] inline std::error_code listen_on(addrinfo* all, const listen_options& o,
                                               std::vector<unique_fd>& out) {
  const std::size_t before = out.size();
  std::error_code failed;
  for (addrinfo* at = all; at != nullptr; at = at->ai_next) {
    in_port_t& port = at->ai_family == AF_INET6
                          ? reinterpret_cast<sockaddr_in6*>(at->ai_addr)->sin6_port
                          : reinterpret_cast<sockaddr_in*>(at->ai_addr)->sin_port;
    if (out.size() != before && port == 0) {  // the port that the first one got
      port = htons(port_of(out[before].get()));
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

/// The same on an address, or on all addresses of a name.
[[nodiscard]] inline std::error_code listen_on(std::string_view host, std::uint16_t port,
                                               const listen_options& o,
                                               std::vector<unique_fd>& out) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo how{};
  how.ai_socktype = SOCK_STREAM;
  how.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(std::string{host}.c_str(), std::to_string(port).c_str(), &how, &found) != 0) {
    return std::make_error_code(std::errc::address_not_available);
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned{found, &::freeaddrinfo};
  return listen_on(found, o, out);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_NET_EPOLL_LISTEN_HPP
