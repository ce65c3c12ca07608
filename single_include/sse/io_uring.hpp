// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/io_uring.hpp
//
// uring_server: epoll_server whose streams are written by io_uring: all that a flush sends goes to
// the kernel in one call. Its transport alone: sse/io_uring_transport.hpp. Linux 5.19 or newer,
// liburing.
//
//   sse::uring_server<> server;                          // then as sse/epoll.hpp
//   sse::channel ticks = server.open_channel("ticks");
//   server.stream("/events", ticks);
//   if (auto e = server.listen("127.0.0.1", 8080)) return fail(e.message());
//   server.run();
//
// Worth it where many readers get each event: the calls are what it saves. With few readers, or
// where io_uring is switched off (containers, kernel.io_uring_disabled): sse/epoll.hpp.
//
// Threads and errors: as sse/epoll.hpp; the constructor throws std::system_error where the kernel
// refuses a ring. The kernel may interrupt (EINTR) calls of the thread that made a server while
// that ends: best make it in the thread that runs it.
#ifndef SSEHUB_IO_URING_HPP
#define SSEHUB_IO_URING_HPP

#include "epoll.hpp"
#include "io_uring_transport.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// See the top of this file. `User`: what the program wants to know of a stream, see hub.
/// `Transport`: uring_transport, or tls::uring_transport of sse/openssl.hpp.
template <class User = no_user, class Transport = uring_transport>
class uring_server : public epoll_server<User, Transport> {
 public:
  using epoll_server<User, Transport>::epoll_server;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_IO_URING_HPP
