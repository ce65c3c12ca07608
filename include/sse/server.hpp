// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// server: what all HTTP/1.1 servers of this library offer, whatever loop they run in: options,
// routes, pages, channels, hooks. Not to be used by itself: asio_server (sse/asio.hpp),
// epoll_server (sse/epoll.hpp) and uring_server (sse/io_uring.hpp) are such servers.
//
//   sse::channel ticks = server.open_channel("ticks");
//   server.stream("/events", ticks);
//   server.page("/", html);
//   if (auto e = server.listen("127.0.0.1", 8080)) return fail(e.message());
//   (void)server.publish(ticks, {.data = json});          // wherever the program has news
//
// Threads: everything belongs to the thread of the server's loop, but for publishers, which
// make_publisher makes on it for any other one.
//
// Errors: a server's constructor throws std::invalid_argument for options that cannot work;
// everything later is an error_code or goes to on_error. A handler that throws answers 500.
//
// Hooks: those outside a flush (handlers, on_refused, on_opened, on_closed, on_presence, on_access,
// on_error, on_channel_closed) may call anything of the server and its hub, also stop(), close()
// and revoke(): what they end is closed once the call that runs them is over. Those inside a flush
// (on_sees, on_gap, backfill, a heartbeat's payload) may call nothing of the hub: it is refused.
// None may destroy the server or the hub.
#pragma once
#ifndef SSEHUB_SERVER_HPP
#define SSEHUB_SERVER_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <sse/cors.hpp>
#include <sse/detail/server/routes.hpp>
#include <sse/http1.hpp>
#include <sse/hub.hpp>
#include <sse/mailbox.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

class sequencer;

/// Each duration can be off(), each cap 0, unless it says otherwise. Views are copied.
struct server_options {
  /// Without a first_id: the wall clock in microseconds. Its write_deadline is that of answers too.
  hub_options hub{};
  /// Of requests: head, headers, target, body (by length or in chunks).
  http1::limits limits{};
  duration handshake_deadline = duration::seconds(10);  ///< for a TLS handshake, from accept on
  /// TLS handshakes under way; one more ends the one that lasts longest.
  std::uint32_t max_handshakes = 1000;
  /// For a whole request head, from its first byte on; for a new connection from accept on.
  duration head_deadline = duration::seconds(10);
  duration body_deadline = duration::seconds(10);  ///< for a whole body
  /// For a verdict that comes later (stream_responder); then 503.
  duration verdict_deadline = duration::seconds(10);
  duration keep_alive = duration::seconds(15);  ///< between two requests of a connection
  /// TCP connections, streams and all; above, one that was kept or has not brought its request for
  /// a second gives way, and if there is none: 503 at once. Never below what the caps of the hub
  /// allow, or those say nothing any more.
  std::uint32_t max_connections = 0;
  /// Host names that are served, see host_allowed(); others get 403. Empty: any.
  std::vector<std::string> hosts{};
  /// For streams, answers and errors alike; the default sends nothing. REQUIRES: validate() ok.
  cors_policy cors{};
  /// Paths that pages of any origin may read, whatever `cors` says (never with credentials); one
  /// that ends in '/' stands for all below it. Who may change something is up to `cors` alone.
  std::vector<std::string> any_origin{};
  int preflight_status = 204;  ///< of the answer to OPTIONS
  /// Refuse POST, PUT and DELETE of pages of other origins with 403, see origin_allowed(). Always
  /// on with cors.credentials.
  bool check_origin = false;
  /// Addresses of proxies whose X-Forwarded-For is believed: request::address is then the last
  /// element that is not one of these.
  std::vector<std::string> trusted_proxies{};
  http1::stream_head head{};  ///< of streams; its `extra` goes out as it is
  /// Streams to HTTP/1.1 come in chunks, so that the connection of one that ended serves the next
  /// request. false: the end of a stream is that of its connection.
  bool chunked = false;
  /// Streams say in X-Heartbeat-Interval the shortest heartbeat of their channels, so that a client
  /// knows when one is dead. false: for contracts that fix every header.
  bool announce_heartbeat = true;
  bool nodelay = true;  ///< TCP_NODELAY
  /// SO_REUSEPORT: several servers listen on one port, the kernel spreads the connections over
  /// them.
  bool reuse_port = false;
  /// SO_SNDBUF, bytes in the kernel per connection; 0: the system's.
  std::uint32_t send_buffer = 0;
  /// TCP_NOTSENT_LOWAT where the system has it: a connection takes no more while so many bytes are
  /// in the kernel and not sent; 0: the system's, but 16,384 for streams that get newest values
  /// (lag_policy::coalesce, watch_options), since what waits there ages. That is enough to keep a
  /// fast line busy.
  std::uint32_t unsent = 0;
  bool busy_poll = false;  ///< never sleep: a core for itself, for the last microseconds
  /// This server is a shard of it (sse/shards.hpp): opens its channels, which stay open as long as
  /// the server and are published to through the sequencer alone, and drains with it. The
  /// constructor throws std::invalid_argument if it is too late to join. Must outlive the server.
  sequencer* shards = nullptr;
  /// Where all its deadlines look at the time, in place of the system's steady clock. It never goes
  /// back. For tests; while it stands still, nothing becomes due, see basic_server::clock_moved.
  time_point (*clock)() noexcept = nullptr;
};

/// One line of an access log. Views are valid during the call.
struct access_record {
  std::string_view method{};      ///< empty: the request could not be read
  std::string_view target{};      ///< through redact_target()
  std::string_view address{};     ///< of the client
  int status = 0;                 ///< of the answer
  std::uint64_t bytes = 0;        ///< head and body; 0 for a stream, which has only begun
  std::int64_t microseconds = 0;  ///< from the first byte of the request to its answer
  bool stream = false;            ///< an event stream was opened
};

/// Headers of a page.
struct page_options {
  std::string_view content_type = "text/html; charset=utf-8";  ///< of the page
  std::string_view cache_control = "no-cache";                 ///< how long it may be kept
  std::string_view content_security_policy{};                  ///< empty: none
};

/// A server's half that does not depend on its loop. `Core`: the host's.
///
/// Handlers of plain requests have one of these forms; request and body are valid during the call:
///   response (const request&)
///   response (const request&, std::string_view body)
///   void (const request&, responder)
///   void (const request&, std::string_view body, responder)
/// Handlers of streams:
///   verdict<User> (const request&)
///   void (const request&, stream_responder<User>)
/// Those that take a responder answer when they know (sse/responder.hpp). What waits for a verdict
/// counts under the hub's caps for all and for its address, for verdict_deadline at most.
///
/// HEAD works wherever GET does, OPTIONS everywhere. Paths compare as they were decoded, case
/// counts. A path or prefix that is named again for the same method gets the new handler.
template <class Core>
class basic_server {
  using user_type = typename Core::user_type;
  using endpoint = detail::http_endpoint<user_type>;
  using method = detail::http_method;

 public:
  using transport_type = typename Core::transport_type;  ///< how it writes
  using hub_type = sse::hub<transport_type, user_type>;  ///< of its streams

  basic_server(const basic_server&) = delete;
  basic_server& operator=(const basic_server&) = delete;

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
  /// The same with headers of its own.
  template <class F>
  void stream(std::string_view path, F&& handler, const http1::stream_head& head) {
    add_stream(false, path, std::forward<F>(handler), &head);
  }
  /// An event stream of one channel, for everybody. Goes with the channel, see close_channel.
  void stream(std::string_view path, channel c) { add_stream(false, path, c, nullptr); }
  /// The same with headers of its own.
  void stream(std::string_view path, channel c, const http1::stream_head& head) {
    add_stream(false, path, c, &head);
  }
  /// For all paths that begin so; a path itself goes before.
  template <class F>
  void stream_prefix(std::string_view prefix, F&& handler) {
    add_stream(true, prefix, std::forward<F>(handler), nullptr);
  }
  /// The same with headers of its own.
  template <class F>
  void stream_prefix(std::string_view prefix, F&& handler, const http1::stream_head& head) {
    add_stream(true, prefix, std::forward<F>(handler), &head);
  }
  /// A stream, or a plain answer, to a POST: `verdict<User> handler(const request&,
  /// std::string_view body)`, or `void handler(const request&, std::string_view body,
  /// stream_responder<User>)`. What does not admit is the answer, whatever its status.
  template <class F>
  void stream_post(std::string_view path, F&& handler) {
    add_stream_post(path, std::forward<F>(handler), nullptr);
  }
  /// The same with headers of its own.
  template <class F>
  void stream_post(std::string_view path, F&& handler, const http1::stream_head& head) {
    add_stream_post(path, std::forward<F>(handler), &head);
  }

  /// A plain answer to GET and HEAD.
  template <class F>
  void get(std::string_view path, F&& handler) {
    add(method::get, false, path, std::forward<F>(handler));
  }
  /// The same for all paths that begin so.
  template <class F>
  void get_prefix(std::string_view prefix, F&& handler) {
    add(method::get, true, prefix, std::forward<F>(handler));
  }
  /// A plain answer to POST, with the request's body.
  template <class F>
  void post(std::string_view path, F&& handler) {
    add(method::post, false, path, std::forward<F>(handler));
  }
  /// The same for all paths that begin so.
  template <class F>
  void post_prefix(std::string_view prefix, F&& handler) {
    add(method::post, true, prefix, std::forward<F>(handler));
  }
  /// A plain answer to PUT, with the request's body.
  template <class F>
  void put(std::string_view path, F&& handler) {
    add(method::put, false, path, std::forward<F>(handler));
  }
  /// A plain answer to DELETE.
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
  /// The same for a prefix.
  bool remove_prefix(std::string_view prefix) noexcept {
    return core_->routes.remove(true, prefix);
  }

  // --- channels and publishing ---------------------------------------------------------------

  /// The hub. Its on_wanted and on_channel_closed hooks belong to the server; its on_admit is not
  /// asked.
  [[nodiscard]] hub_type& hub() noexcept { return core_->hub(); }

  /// None: the result's `error` says why.
  [[nodiscard]] open_result open_channel(std::string_view name, channel_options o = {}) noexcept {
    return core_->hub().open_channel(name, std::move(o));
  }
  /// Closes a channel with its streams and the paths that stream(path, channel) gave it; its
  /// publishers' mail is dropped, see on_error. False: see hub::close_channel.
  bool close_channel(channel c) noexcept { return core_->close_channel(c); }

  /// Publishes; as channel::publish, but at the time that it is now. All that is published in one
  /// turn of the loop goes out together.
  [[nodiscard]] publish_result publish(channel c, const event& e,
                                       const publish_options& o = {}) noexcept {
    core_->touch_clock();
    return core_->hub().publish(c, e, o);
  }

  /// One other thread's way to publish to a channel. Closed: memory is out, or the channel is
  /// closed or another hub's.
  [[nodiscard]] publisher make_publisher(channel c,
                                         std::size_t lane_bytes = mailbox::default_lane) noexcept {
    if (!core_->hub().owns(c)) return {};
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
  /// A channel is closed, see hub::on_channel_closed, which belongs to the server.
  void on_channel_closed(function<void(channel)> f) { core_->on_channel_closed = std::move(f); }
  /// What went wrong and was dealt with: a handler threw, accept failed (it goes on in 100 ms).
  void on_error(function<void(std::string_view what, const std::error_code&)> f) {
    core_->on_error = std::move(f);
  }
  /// The form of all refusals but the program's own, of the server (404, 408, ...) and of its hub;
  /// default: refusal_response(). Status and Retry-After are the refusal's, whatever it says.
  void error_page(function<response(const refused_request&)> f) {
    core_->error_page = std::move(f);
  }

  /// server_options::clock went on: looks soon at what is due.
  void clock_moved() noexcept { core_->flush_soon(); }

  /// Closes everything at once. The server cannot be used again; its hub and channels stay.
  void stop() noexcept { core_->stop(); }

  /// TCP connections now: plain ones, streams, and those being closed.
  [[nodiscard]] std::size_t connections() const noexcept { return core_->connections(); }

 protected:
  /// Shared with what the host has under way.
  explicit basic_server(std::shared_ptr<Core> core) noexcept : core_{std::move(core)} {}
  ~basic_server() { core_->abandon(); }

  std::shared_ptr<Core> core_;  ///< what does the work

 private:
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
                    "a handler has one of the four forms above basic_server");
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
    if constexpr (std::is_convertible_v<given&, channel>) {
      e->bound = f;
      e->stream = [c = core_.get(), bound = e->bound](const request&,
                                                      std::string_view) -> verdict<user_type> {
        if (!c->hub().owns(bound)) return c->refusal(404);
        return verdict<user_type>{user_type{}, std::string{}}.join(bound);
      };
    } else if constexpr (std::is_invocable_v<given&, const request&, stream_responder<user_type>>) {
      e->later_stream = [g = given(std::forward<F>(f))](const request& r, std::string_view,
                                                        stream_responder<user_type> to) mutable {
        g(r, std::move(to));
      };
    } else {
      static_assert(std::is_invocable_r_v<verdict<user_type>, given&, const request&>,
                    "the handler of a stream is verdict<User>(const request&), or "
                    "void(const request&, stream_responder<User>)");
      e->stream = [g = given(std::forward<F>(f))](const request& r,
                                                  std::string_view) mutable -> verdict<user_type> {
        return g(r);
      };
    }
    core_->routes.add(method::get, prefix, path, std::move(e));
  }

  template <class F>
  void add_stream_post(std::string_view path, F&& f, const http1::stream_head* head) {
    using given = std::remove_cvref_t<F>;
    std::shared_ptr<endpoint> e = with_head(head);
    if constexpr (std::is_invocable_v<given&, const request&, std::string_view,
                                      stream_responder<user_type>>) {
      e->later_stream = std::forward<F>(f);
    } else {
      static_assert(
          std::is_invocable_r_v<verdict<user_type>, given&, const request&, std::string_view>,
          "the handler is verdict<User>(const request&, std::string_view body), or "
          "void(const request&, std::string_view body, stream_responder<User>)");
      e->stream = std::forward<F>(f);
    }
    e->takes_body = true;
    core_->routes.add(method::post, false, path, std::move(e));
  }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_SERVER_HPP
