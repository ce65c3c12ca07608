// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// epoll_server: an HTTP/1.1 server for event streams on Linux, without any dependency: one thread,
// one epoll loop. For programs that have such a loop: sse/epoll_transport.hpp.
//
//   sse::epoll_server<> server;
//   sse::channel ticks = server.open_channel("ticks");
//   server.stream("/events", ticks);
//   if (auto e = server.listen("127.0.0.1", 8080)) return fail(e.message());
//   sse::publisher feed = server.make_publisher(ticks);   // for the thread that has the news
//   server.run();                                         // until interrupt()
//
// What it offers besides is in sse/server.hpp, the same as asio_server. For other systems, and
// where the program is built on Asio: sse/asio.hpp.
//
// TLS: epoll_server<User, tls::epoll_transport>{options, &context}, see sse/openssl.hpp.
//
// Several cores: one server in each thread, with server_options::reuse_port on the same port.
// With server_options::busy_poll it never sleeps, for a core of its own.
//
// Threads: a server belongs to the thread that runs it; other threads publish by publishers and
// answer by responders. Only interrupt() may be called from anywhere. It starts no thread and
// installs no signal handler.
//
// Errors: the constructor throws std::invalid_argument for options that cannot work and
// std::system_error if the system gives no descriptor. See sse/server.hpp for the rest.
//
// Hooks: those outside a flush (handlers, on_refused, on_opened, on_closed, on_presence, on_access,
// on_error, on_channel_closed) may call anything of the server and its hub, also stop(), close()
// and revoke(): what they end is closed once the call that runs them is over. Those inside a flush
// (on_sees, on_gap, backfill, a heartbeat's payload) may call nothing of the hub: it is refused.
// None may destroy the server or the hub.
#pragma once
#ifndef SSEHUB_EPOLL_HPP
#define SSEHUB_EPOLL_HPP

#include <memory>

#include <sse/detail/server/epoll_core.hpp>
#include <sse/epoll_transport.hpp>
#include <sse/server.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// An HTTP/1.1 server with a hub (see the top of this file). `User`: what the program wants to know
/// of a stream, see hub. `Transport`: epoll_transport, or tls::epoll_transport.
template <class User = no_user, class Transport = epoll_transport>
class epoll_server : public basic_server<detail::epoll_core<User, Transport>> {
  using core = detail::epoll_core<User, Transport>;
  using base = basic_server<core>;

 public:
  /// `s`: of a transport with a layer, such as the address of a tls::context, which has to outlive
  /// the server; nullptr: it stays plain.
  explicit epoll_server(const server_options& o = {}, typename Transport::security s = {})
      : base{std::make_shared<core>(o, s)} {}

  /// Serves until stop() or interrupt().
  void run() { core_->run(); }
  /// Serves what there is to do now, or waits for it, at most `most`.
  void poll(duration most = duration::off()) { core_->turn(most); }
  /// Becomes readable when poll() has something to do that is not a matter of time: for loops that
  /// run others. Call poll() also at next_deadline().
  [[nodiscard]] int native_handle() const noexcept { return core_->epoll(); }
  /// When poll() is to be called at the latest.
  [[nodiscard]] time_point next_deadline() const noexcept { return core_->next_deadline(); }

  /// Ends run(), or the next one, which can be called again. From any thread, or a signal handler.
  void interrupt() noexcept { core_->interrupt(); }

  /// Stops listening, ends idle connections, lets answers finish, tells every stream when to come
  /// back, and ends each once it has everything; serves meanwhile, and returns when that is over.
  /// False: the deadline cut some, or stop() was called. Then all is closed as by stop(). Not in a
  /// handler or hook.
  bool drain(const drain_options& o = {}) { return core_->drain(o); }

 private:
  using base::core_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_EPOLL_HPP
