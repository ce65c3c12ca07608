// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// asio_event_source: a client of an event stream on Asio. It resolves, connects, follows
// redirects, reconnects and resumes by itself, as sse::event_source decides (sse/client.hpp); many
// live on one io_context.
//
//   asio::io_context ctx;
//   sse::asio_event_source<> prices{ctx, "http://localhost:8080/events"};
//   prices.on_event([](const sse::event& e) { use(e.type, e.data, e.id); });
//   prices.on_error([](const sse::client_failure& f) { log(sse::explain(f), f.delay); });
//   prices.start();
//   ctx.run();
//
// Or event by event, with any completion token; reading pauses while nobody asks and the queue is
// full:
//
//   sse::received_event e = co_await prices.async_next(asio::use_awaitable);
//
// Through a proxy, here those of HTTP_PROXY, HTTPS_PROXY and NO_PROXY:
//
//   const sse::proxy_environment found = sse::proxy_from_environment();
//   sse::asio_client_options o;
//   o.client.proxy = found.options();
//
// Not for other bodies than event streams, nor for browsers' cookies or HTTP/2. Needs
// Asio as sse/asio.hpp does, standalone or that of Boost. TLS: name the stream, and
// give the constructor a function that makes one for a connected socket and checks the host:
//
//   using tls = asio::ssl::stream<asio::ip::tcp::socket>;
//   sse::asio_event_source<tls> secure{ctx, "https://example.org/events", {},
//       [&](asio::ip::tcp::socket s, const std::string& host) {
//         tls t{std::move(s), ssl_context};  // set to verify_peer
//         SSL_set_tlsext_host_name(t.native_handle(), host.c_str());
//         SSL_set1_host(t.native_handle(), host.c_str());   // what it must be made out to; for an
//         return t;                     // address: X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param())
//       }};
//
// Such a source reads http URLs too; one on plain sockets fails at https with client_error::tls. A
// certificate that is not accepted is the failure's cause, in certificate_category(): expired,
// issued by a stranger, for another host.
//
// Threads: a source and its hooks belong to one executor, an io_context that one thread runs, or a
// strand. It starts no thread (Asio's resolver has one for names; addresses need none).
//
// Hooks are called by the executor, never inside a call of the user. They may do anything with the
// source, also destroy it; it may be destroyed at any time, before its io_context. What a hook
// throws closes the source and leaves io_context::run().
//
// Of several addresses of a host, families alternate and the first that connects is taken, as RFC
// 8305 has it (asio_client_options::attempt_delay); on_dial() connects in the program's own way.
//
// Work: ctx.run() does not return while the source is connected, connects, or waits to; it may
// while the queue is full.
#pragma once
#ifndef SSEHUB_ASIO_CLIENT_HPP
#define SSEHUB_ASIO_CLIENT_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include <sse/asio_client_options.hpp>
#include <sse/client.hpp>
#include <sse/detail/client/asio_core.hpp>
#include <sse/detail/net/asio.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// A client (see the top of this file). `Stream`: tcp::socket, or a layer on one.
template <class Stream = detail::net::ip::tcp::socket>
class asio_event_source {
  using core = detail::asio_client_core<Stream>;

 public:
  using executor_type = detail::net::any_io_executor;  ///< of its sockets and timers
  /// Makes a stream of a connected socket. Its handshake, if it has one, is the source's business.
  using stream_maker = function<Stream(detail::net::ip::tcp::socket, const std::string& host)>;

  /// A bad URL or option is a failure like others: on_error, or the result of async_next.
  asio_event_source(executor_type ex, std::string_view url, const asio_client_options& o = {},
                    stream_maker make = default_maker())
      : core_{std::make_shared<core>(std::move(ex), url, o, std::move(make))} {}
  /// The same on a context, which must outlive what the source has under way.
  asio_event_source(detail::net::io_context& ctx, std::string_view url,
                    const asio_client_options& o = {}, stream_maker make = default_maker())
      : asio_event_source{executor_type{ctx.get_executor()}, url, o, std::move(make)} {}
  /// Only destruction and assignment are left to a source that was moved from.
  asio_event_source(asio_event_source&&) noexcept = default;
  asio_event_source& operator=(asio_event_source&& o) noexcept {
    asio_event_source moved{std::move(o)};
    core_.swap(moved.core_);
    return *this;
  }
  ~asio_event_source() {
    if (core_) core_->close();
  }

  /// As it was constructed with.
  [[nodiscard]] executor_type get_executor() const noexcept { return core_->executor(); }

  // --- hooks: set them before start(). They are told at once, also while events wait for
  // async_next. Views are valid until the hook returns.

  /// Each event, in place of async_next.
  void on_event(function<void(const event&)> f) { core_->hooks.event = std::move(f); }
  /// Beside on_event: events were lost. Without this hook, on_event gets the frame.
  void on_gap(function<void(const gap&)> f) { core_->hooks.gap = std::move(f); }
  /// Comments, such as heartbeats, without the colon.
  void on_comment(function<void(std::string_view)> f) { core_->hooks.comment = std::move(f); }
  /// last_event_id() moved without an event: where the server begins, a snapshot that is whole. Who
  /// keeps the position keeps this one too.
  void on_position(function<void(std::string_view id)> f) { core_->hooks.position = std::move(f); }
  /// The stream opened, with this response.
  void on_open(function<void(const client_response&)> f) { core_->hooks.open = std::move(f); }
  /// The state changed; not by close().
  void on_state(function<void(client_state)> f) { core_->hooks.state = std::move(f); }
  /// An attempt failed, or a connection was lost; client_failure::final tells whether for good.
  void on_error(function<void(const client_failure&)> f) { core_->hooks.error = std::move(f); }
  /// Connects in place of the source, for sockets with options of their own, addresses that the
  /// program knows, or a way that it has prepared; TLS and a proxy's tunnel come on top.
  void on_dial(dialer f) { core_->hooks.dial = std::move(f); }

  /// Begins; async_next does so by itself.
  void start() { core_->start(); }

  // --- event by event

  /// The next event; `token` gets void(error_code, received_event). The error is a
  /// client_error once the source closed by itself and every event was given, operation_aborted
  /// after close() or the cancellation of this call, which takes no event away. Several calls get
  /// theirs in order. Comments and positions go to their hooks when they are read, which is before
  /// the events that wait.
  template <class Token>
  auto async_next(Token&& token) {
    return detail::net::async_initiate<Token, void(detail::net_error, received_event)>(
        [c = core_](auto handler) {
          const std::uint64_t ticket = c->ticket();
          if (auto slot = detail::net::get_associated_cancellation_slot(handler);
              slot.is_connected()) {
            slot.assign([weak = std::weak_ptr<core>{c}, ticket](detail::net::cancellation_type) {
              if (const auto owner = weak.lock()) owner->cancel_next(ticket);
            });
          }
          c->next(ticket, post_to(std::move(handler), c->executor()));
        },
        token);
  }

  // --- ends

  /// Closes for good: no hook is called any more, events that wait are dropped, and each async_next
  /// gets operation_aborted.
  void close() noexcept { core_->close(); }
  /// Drops the connection and connects again, see event_source::restart.
  void restart() { core_->restart(); }

  // --- what is

  /// Connecting, open, waiting, closed.
  [[nodiscard]] client_state state() const noexcept { return core_->source().state(); }
  /// Why the last attempt or connection ended.
  [[nodiscard]] const client_failure& failure() const noexcept { return core_->source().failure(); }
  /// After redirects. Valid until the next hook.
  [[nodiscard]] std::string_view url() const noexcept { return core_->source().url(); }
  /// Of that URL. Valid until the next hook.
  [[nodiscard]] std::string_view origin() const noexcept { return core_->source().origin(); }
  /// Of what was received, which may be ahead of what async_next gave. Valid until the next hook.
  [[nodiscard]] std::string_view last_event_id() const noexcept {
    return core_->source().last_event_id();
  }
  /// The reconnection time now.
  [[nodiscard]] duration retry() const noexcept { return core_->source().retry(); }

 private:
  [[nodiscard]] static stream_maker default_maker() {
    if constexpr (std::is_constructible_v<Stream, detail::net::ip::tcp::socket>) {
      return
          [](detail::net::ip::tcp::socket s, const std::string&) { return Stream(std::move(s)); };
    } else {
      return {};
    }
  }

  /// Completes a handler as Asio wants it: later, on its own executor, which has work until then.
  template <class Handler>
  [[nodiscard]] static typename core::waiter post_to(Handler h, executor_type fallback) {
    auto to = detail::net::get_associated_executor(h, fallback);
    auto work = detail::net::make_work_guard(to);
    return [h = std::move(h), to, work = std::move(work)](detail::net_error e,
                                                          received_event r) mutable {
      if (auto slot = detail::net::get_associated_cancellation_slot(h); slot.is_connected()) {
        slot.clear();
      }
      detail::net::post(
          to, [h = std::move(h), e, r = std::move(r)]() mutable { std::move(h)(e, std::move(r)); });
      work.reset();
    };
  }

  std::shared_ptr<core> core_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_ASIO_CLIENT_HPP
