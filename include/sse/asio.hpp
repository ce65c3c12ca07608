// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// asio_server: an HTTP/1.1 server for event streams on Asio, with the plain requests and
// pages that go with them; what it shares with other hosts is in sse/server.hpp. asio_transport:
// the hub's transport alone, for programs that have an HTTP server: sse/asio_transport.hpp.
//
//   asio::io_context ctx;
//   sse::asio_server<> server{ctx};
//   sse::channel ticks = server.open_channel("ticks");
//   server.stream("/events", ticks);
//   if (auto e = server.listen("127.0.0.1", 8080)) return fail(e.message());
//   // then, wherever the program has news:  server.publish(ticks, {.type = "tick", .data = json});
//   ctx.run();
//
// Not a general web server: no files, no request coding, no compression, no HTTP/2 of its own; put
// nginx or haproxy in front where those are wanted. TLS: sse/asio_openssl.hpp; or name a
// stream, such as asio_server<no_user, asio::ssl::stream<tcp::socket>>, and give the constructor a
// function that makes one.
//
// Needs <asio/...>, 1.22 or newer, with ASIO_STANDALONE, exceptions and RTTI; or with
// SSEHUB_BOOST_ASIO that of Boost, 1.79 or newer (target ssehub::boost_asio): then read
// boost::asio for asio, and completion handlers get a boost::system::error_code. In every source
// file some standard header must come before the first of Asio's: 1.22 chooses its allocator by
// what it sees of libstdc++, and files that differ in that must not be linked.
//
// Threads: a server, its hub and all handlers belong to one executor, an io_context that one thread
// runs, or a strand. Other threads publish through make_publisher (made on the server's thread) and
// answer through a responder. The server starts no thread and installs no signal handler.
//
// Work: while it listens, or something is open, ctx.run() does not return. stop() and the end of
// async_drain let it go.
//
// Errors: the constructor throws std::invalid_argument for options that cannot work; everything
// later is an error_code or goes to on_error. A handler that throws answers 500. Where memory is
// out Asio itself may throw std::bad_alloc out of ctx.run(): catch it and run again, the server
// goes on.
//
// Hooks: those outside a flush (handlers, on_refused, on_opened, on_closed, on_presence, on_access,
// on_error, on_channel_closed) may call anything of the server and its hub, also stop(), close()
// and revoke(): what they end is closed once the call that runs them is over. Those inside a flush
// (on_sees, on_gap, backfill, a heartbeat's payload) may call nothing of the hub: it is refused.
// None may destroy the server or the hub. Outside of them it may be destroyed at any time, also
// while operations are under way.
#pragma once
#ifndef SSEHUB_ASIO_HPP
#define SSEHUB_ASIO_HPP

#include <cstdint>
#include <memory>
#include <system_error>
#include <type_traits>
#include <utility>

#include <sse/asio_transport.hpp>
#include <sse/detail/net/asio.hpp>
#include <sse/detail/server/asio_core.hpp>
#include <sse/server.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// An HTTP/1.1 server with a hub (see the top of this file); routes, channels and hooks are
/// basic_server's. `User`: what the program wants to know of a stream, see hub. `Stream`:
/// tcp::socket, or a layer on one.
template <class User = no_user, class Stream = detail::net::ip::tcp::socket>
class asio_server : public basic_server<detail::asio_core<User, Stream>> {
  using core = detail::asio_core<User, Stream>;
  using base = basic_server<core>;

 public:
  using executor_type = detail::net::any_io_executor;  ///< of its sockets and timers
  /// Makes a stream of an accepted socket. Its handshake, if it has one, is the server's business.
  using stream_maker = function<Stream(detail::net::ip::tcp::socket)>;

  /// `make` makes a stream of each accepted socket, such as one that speaks TLS.
  explicit asio_server(executor_type ex, const server_options& o = {},
                       stream_maker make = default_maker())
      : base{std::make_shared<core>(std::move(ex), o, std::move(make))} {
    core_->start();
  }
  /// The same on a context, which must outlive what the server has under way.
  explicit asio_server(detail::net::io_context& ctx, const server_options& o = {},
                       stream_maker make = default_maker())
      : asio_server{executor_type{ctx.get_executor()}, o, std::move(make)} {}
  /// As it was constructed with.
  [[nodiscard]] executor_type get_executor() const noexcept { return core_->executor(); }

  // --- ends ----------------------------------------------------------------------------------

  /// Stops listening, ends idle connections, lets answers finish, tells every stream when to come
  /// back, and ends each once it has everything. `token` gets void(error_code), Asio's: none,
  /// timed_out if the deadline cut some, operation_aborted if stop() did. Then all is closed as by
  /// stop().
  template <class Token>
  auto async_drain(Token&& token, const drain_options& o = {}) {
    return detail::net::async_initiate<Token, void(detail::net_error)>(
        [c = core_](auto handler, const drain_options& given) {
          c->begin_drain(given, post_to(std::move(handler), c->executor()));
        },
        token, o);
  }

 private:
  [[nodiscard]] static stream_maker default_maker() {
    if constexpr (std::is_constructible_v<Stream, detail::net::ip::tcp::socket>) {
      return [](detail::net::ip::tcp::socket s) { return Stream(std::move(s)); };
    } else {
      return {};
    }
  }

  /// Completes a handler as Asio wants it: later, on its own executor, which has work until then.
  template <class Handler>
  [[nodiscard]] static function<void(detail::net_error)> post_to(Handler h,
                                                                 executor_type fallback) {
    auto to = detail::net::get_associated_executor(h, fallback);
    auto work = detail::net::make_work_guard(to);
    return [h = std::move(h), to, work = std::move(work)](detail::net_error e) mutable {
      detail::net::post(to, [h = std::move(h), e]() mutable { std::move(h)(e); });
    };
  }

  using base::core_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_ASIO_HPP
