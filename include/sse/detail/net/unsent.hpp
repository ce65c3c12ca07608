// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What the kernel holds of a connection that carries values: they age there.
#pragma once
#ifndef SSEHUB_DETAIL_NET_UNSENT_HPP
#define SSEHUB_DETAIL_NET_UNSENT_HPP

#if __has_include(<netinet/tcp.h>)
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#endif

#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The connection takes no more while 16 KiB wait to be sent, unless somebody said already how
/// much: TCP_NOTSENT_LOWAT, where there is such a thing.
template <class Descriptor>
void hold_little(Descriptor fd) noexcept {
#if defined(TCP_NOTSENT_LOWAT)
  int said = 0;
  socklen_t size = sizeof said;
  const int enough = 16384;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &said, &size) == 0 && said <= 0)
    (void)::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &enough, sizeof enough);
#endif
  (void)fd;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_NET_UNSENT_HPP
