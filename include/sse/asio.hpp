// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// asio_server: an HTTP/1.1 server for event streams on standalone Asio, with the plain requests and
// pages that go with them. asio_transport: the hub's transport alone, over any Asio stream, for
// programs that have an HTTP server.
//
//   asio::io_context ctx;
//   sse::asio_server<> server{ctx};
//   sse::channel& ticks = *server.open_channel("ticks");
//   server.stream("/events", ticks);
//   if (auto e = server.listen("127.0.0.1", 8080)) return fail(e.message());
//   // then, wherever the program has news:  server.publish(ticks, {.type = "tick", .data = json});
//   ctx.run();
//
// Not a general web server: no files, no request coding, no compression, no HTTP/2 of its own; put
// nginx or haproxy in front where those are wanted. TLS: name the stream, asio_server<no_user,
// asio::ssl::stream<tcp::socket>>, and give the constructor a function that makes one.
//
// Needs <asio/...>, 1.22 or newer, with ASIO_STANDALONE, exceptions and RTTI. In every source file
// some standard header must come before the first of Asio's: 1.22 chooses its allocator by what it
// sees of libstdc++, and files that differ in that must not be linked.
//
// Threads: a server, its hub and all handlers belong to one executor, an io_context that one thread
// runs, or a strand. Other threads publish through make_publisher (made on the server's thread) and
// answer through a responder. The server starts no thread and installs no signal handler.
//
// Work: while it listens, or something is open, ctx.run() does not return. stop() and the end of
// async_drain let it go.
//
// Errors: the constructor throws std::invalid_argument for options that cannot work; everything
// later is an error_code or goes to on_error. A handler that throws answers 500. Handlers and hooks
// may call anything of the server, also stop(), but must not destroy it; otherwise it may be
// destroyed at any time, also while operations are under way. Where memory is out Asio itself may
// throw std::bad_alloc out of ctx.run(): catch it and run again, the server goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include <asio/any_io_executor.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/post.hpp>

#include <sse/detail/asio_core.hpp>
#include <sse/detail/asio_routes.hpp>
#include <sse/detail/asio_transport.hpp>
#include <sse/hub.hpp>
#include <sse/mailbox.hpp>

namespace sse::inline v0 {

/// Headers of a page.
struct page_options {
  std::string_view content_type = "text/html; charset=utf-8";
  std::string_view cache_control = "no-cache";
  std::string_view content_security_policy{};  ///< empty: none
};

/// An HTTP/1.1 server with a hub (see the top of this file). `User`: what the program wants to know
/// of a stream, see hub. `Stream`: tcp::socket, or a layer on one.
///
/// Handlers of plain requests, in any of these forms; the request is valid until it was answered:
///   response (const request&)                        response (const request&, std::string_view
///   body) void (const request&, responder)                 void (const request&, std::string_view
///   body, responder)
/// Handlers of streams:  verdict<User> (const request&)
///
/// HEAD works wherever GET does, OPTIONS everywhere. Paths compare as they were decoded, case
/// counts. A path or prefix that is named again for the same method gets the new handler.
template <class User = no_user, class Stream = ::asio::ip::tcp::socket>
class asio_server {
  using core = detail::asio_core<User, Stream>;
  using endpoint = detail::asio_endpoint<User>;
  using method = detail::asio_method;

 public:
  using executor_type = ::asio::any_io_executor;
  using transport_type = asio_transport<Stream>;
  using hub_type = sse::hub<transport_type, User>;
  /// Makes a stream of an accepted socket. Its handshake, if it has one, is the server's business.
  using stream_maker = function<Stream(::asio::ip::tcp::socket)>;

  explicit asio_server(executor_type ex, const server_options& o = {},
                       stream_maker make = default_maker())
      : core_{std::make_shared<core>(std::move(ex), o, std::move(make))} {
    core_->start();
  }
  explicit asio_server(::asio::io_context& ctx, const server_options& o = {},
                       stream_maker make = default_maker())
      : asio_server{executor_type{ctx.get_executor()}, o, std::move(make)} {}
  asio_server(const asio_server&) = delete;
  asio_server& operator=(const asio_server&) = delete;
  ~asio_server() { core_->abandon(); }

  [[nodiscard]] executor_type get_executor() const noexcept { return core_->executor(); }

  // --- listening -----------------------------------------------------------------------------

  /// Listens on an address ("127.0.0.1", "::1", "0.0.0.0", "::" for both versions) or the addresses
  /// of a name. Port 0: any free one. May be called several times. Errors: as the system says, such
  /// as std::errc::address_in_use.
  [[nodiscard]] std::error_code listen(std::string_view host, std::uint16_t port) {
    return core_->listen(host, port);
  }
  /// The first port that it listens on; 0: none.
  [[nodiscard]] std::uint16_t port() const noexcept { return core_->port(); }

  // --- routes --------------------------------------------------------------------------------

  /// An event stream; `handler` says who may have it and what is on it.
  template <class F>
  void stream(std::string_view path, F&& handler) {
    add_stream(false, path, std::forward<F>(handler), nullptr);
  }
  template <class F>
  void stream(std::string_view path, F&& handler, const http1::stream_head& head) {
    add_stream(false, path, std::forward<F>(handler), &head);
  }
  /// An event stream of one channel, for everybody. Goes with the channel, see close_channel.
  void stream(std::string_view path, channel& c) { add_stream(false, path, c, nullptr); }
  void stream(std::string_view path, channel& c, const http1::stream_head& head) {
    add_stream(false, path, c, &head);
  }
  template <class F>
  void stream_prefix(std::string_view prefix, F&& handler) {
    add_stream(true, prefix, std::forward<F>(handler), nullptr);
  }
  template <class F>
  void stream_prefix(std::string_view prefix, F&& handler, const http1::stream_head& head) {
    add_stream(true, prefix, std::forward<F>(handler), &head);
  }
  /// A stream, or a plain answer, to a POST: `verdict<User> handler(const request&,
  /// std::string_view body)`. What does not admit is the answer, whatever its status.
  template <class F>
  void stream_post(std::string_view path, F&& handler) {
    add_stream_post(path, std::forward<F>(handler), nullptr);
  }
  template <class F>
  void stream_post(std::string_view path, F&& handler, const http1::stream_head& head) {
    add_stream_post(path, std::forward<F>(handler), &head);
  }

  template <class F>
  void get(std::string_view path, F&& handler) {
    add(method::get, false, path, std::forward<F>(handler));
  }
  template <class F>
  void get_prefix(std::string_view prefix, F&& handler) {
    add(method::get, true, prefix, std::forward<F>(handler));
  }
  template <class F>
  void post(std::string_view path, F&& handler) {
    add(method::post, false, path, std::forward<F>(handler));
  }
  template <class F>
  void post_prefix(std::string_view prefix, F&& handler) {
    add(method::post, true, prefix, std::forward<F>(handler));
  }
  template <class F>
  void put(std::string_view path, F&& handler) {
    add(method::put, false, path, std::forward<F>(handler));
  }
  template <class F>
  void del(std::string_view path, F&& handler) {
    add(method::del, false, path, std::forward<F>(handler));
  }

  /// A page from memory. `body` is copied.
  void page(std::string_view path, std::string_view body, const page_options& o = {}) {
    response r{.body = std::string{body}};
    r.add("Content-Type", o.content_type).add("Cache-Control", o.cache_control);
    if (!o.content_security_policy.empty()) {
      r.add("Content-Security-Policy", o.content_security_policy);
    }
    get(path, [r = std::move(r)](const request&) { return r; });
  }

  /// Takes a path away, for all methods; open streams go on. False: there was none.
  bool remove(std::string_view path) noexcept { return core_->routes.remove(false, path); }
  bool remove_prefix(std::string_view prefix) noexcept {
    return core_->routes.remove(true, prefix);
  }

  // --- channels and publishing ---------------------------------------------------------------

  /// The hub. Its on_admit hook belongs to the server; after calls that publish or send, call
  /// flush_soon().
  [[nodiscard]] hub_type& hub() noexcept { return core_->hub(); }

  /// nullptr: the name is taken, or memory is out.
  [[nodiscard]] channel* open_channel(std::string_view name, channel_options o = {}) noexcept {
    return core_->hub().open_channel(name, std::move(o));
  }
  /// Closes a channel with its streams and the paths that stream(path, channel) gave it; its
  /// publishers' mail is dropped, see on_error. Not inside a hook of the hub.
  void close_channel(channel& c) noexcept { core_->close_channel(c); }

  /// Publishes, and sees to it that it is sent: all that is published in one turn of the loop goes
  /// out together.
  [[nodiscard]] publish_result publish(channel& c, const event& e,
                                       const publish_options& o = {}) noexcept {
    core_->touch_clock();
    const publish_result r = core_->hub().publish(c, e, o);
    core_->flush_soon();
    return r;
  }
  void flush_soon() noexcept { core_->flush_soon(); }

  /// One other thread's way to publish to a channel. Closed: memory is out.
  [[nodiscard]] publisher make_publisher(channel& c,
                                         std::size_t lane_bytes = mailbox::default_lane) noexcept {
    try {
      return core_->mail().make_publisher(core_->token_of(c), lane_bytes);
    } catch (...) {
      return {};
    }
  }
  /// The mailbox behind make_publisher; the server drains it.
  [[nodiscard]] mailbox& mail() noexcept { return core_->mail(); }

  // --- hooks ---------------------------------------------------------------------------------

  /// After each answer, and when a stream has begun.
  void on_access(function<void(const access_record&)> f) { core_->on_access = std::move(f); }
  /// What went wrong and was dealt with: a handler threw, accept failed (it goes on in 100 ms).
  void on_error(function<void(std::string_view what, const std::error_code&)> f) {
    core_->on_error = std::move(f);
  }
  /// The form of the server's own refusals (4xx, 500, 503); default: the reason as plain text.
  void error_page(function<response(int status)> f) { core_->error_page = std::move(f); }

  // --- ends ----------------------------------------------------------------------------------

  /// Stops listening, ends idle connections, lets answers finish, tells every stream when to come
  /// back, and ends each once it has everything. `token` gets void(std::error_code): none,
  /// timed_out if the deadline cut some, operation_aborted if stop() did. Then all is closed as by
  /// stop().
  template <class Token>
  auto async_drain(Token&& token, const drain_options& o = {}) {
    return ::asio::async_initiate<Token, void(std::error_code)>(
        [c = core_](auto handler, const drain_options& given) {
          c->begin_drain(given, post_to(std::move(handler), c->executor()));
        },
        token, o);
  }
  /// Closes everything at once. The server cannot be used again; its hub and channels stay.
  void stop() noexcept { core_->stop(); }

  /// TCP connections now: plain ones, streams, and those being closed.
  [[nodiscard]] std::size_t connections() const noexcept { return core_->connections(); }

 private:
  [[nodiscard]] static stream_maker default_maker() {
    if constexpr (std::is_constructible_v<Stream, ::asio::ip::tcp::socket>) {
      return [](::asio::ip::tcp::socket s) { return Stream(std::move(s)); };
    } else {
      return {};
    }
  }

  /// Completes a handler as Asio wants it: later, on its own executor, which has work until then.
  template <class Handler>
  [[nodiscard]] static function<void(std::error_code)> post_to(Handler h, executor_type fallback) {
    auto to = ::asio::get_associated_executor(h, fallback);
    auto work = ::asio::make_work_guard(to);
    return [h = std::move(h), to, work = std::move(work)](std::error_code e) mutable {
      ::asio::post(to, [h = std::move(h), e]() mutable { std::move(h)(e); });
      work.reset();
    };
  }

  template <class F>
  void add(method m, bool prefix, std::string_view path, F&& f) {
    using view = std::string_view;
    using given = std::remove_cvref_t<F>;
    auto e = std::make_shared<endpoint>();
    e->takes_body = m != method::get;
    if constexpr (std::is_invocable_r_v<response, given&, const request&>) {
      e->answer = [g = given(std::forward<F>(f))](const request& r, view) mutable -> response {
        return g(r);
      };
    } else if constexpr (std::is_invocable_r_v<response, given&, const request&, view>) {
      e->answer = std::forward<F>(f);
    } else if constexpr (std::is_invocable_v<given&, const request&, responder>) {
      e->later = [g = given(std::forward<F>(f))](const request& r, view, responder to) mutable {
        g(r, std::move(to));
      };
    } else {
      static_assert(std::is_invocable_v<given&, const request&, view, responder>,
                    "a handler has one of the four forms above asio_server");
      e->later = std::forward<F>(f);
    }
    core_->routes.add(m, prefix, path, std::move(e));
  }

  [[nodiscard]] static std::shared_ptr<endpoint> with_head(const http1::stream_head* head) {
    auto e = std::make_shared<endpoint>();
    if (head != nullptr) e->head = std::make_unique<detail::owned_head>(*head);
    return e;
  }

  template <class F>
  void add_stream(bool prefix, std::string_view path, F&& f, const http1::stream_head* head) {
    using given = std::remove_cvref_t<F>;
    std::shared_ptr<endpoint> e = with_head(head);
    if constexpr (std::is_same_v<given, channel>) {
      e->bound = detail::channel_name{f};
      e->stream = [c = core_.get(), bound = e->bound](const request&,
                                                      std::string_view) -> verdict<User> {
        channel* const open = bound.in(c->hub());
        if (open == nullptr) return c->refusal(404);
        return verdict<User>{User{}, std::string{}}.join(*open);
      };
    } else {
      static_assert(std::is_invocable_r_v<verdict<User>, given&, const request&>,
                    "the handler of a stream is verdict<User>(const request&)");
      e->stream = [g = given(std::forward<F>(f))](
                      const request& r, std::string_view) mutable -> verdict<User> { return g(r); };
    }
    core_->routes.add(method::get, prefix, path, std::move(e));
  }

  template <class F>
  void add_stream_post(std::string_view path, F&& f, const http1::stream_head* head) {
    using given = std::remove_cvref_t<F>;
    static_assert(std::is_invocable_r_v<verdict<User>, given&, const request&, std::string_view>,
                  "the handler is verdict<User>(const request&, std::string_view body)");
    std::shared_ptr<endpoint> e = with_head(head);
    e->stream = std::forward<F>(f);
    e->takes_body = true;
    core_->routes.add(method::post, false, path, std::move(e));
  }

  std::shared_ptr<core> core_;
};

}  // namespace sse::inline v0
