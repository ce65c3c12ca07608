// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// event_source: the client side of an event stream over HTTP/1 as a state machine: request,
// response, redirects, reconnection with back-off, resumption, watchdogs, limits. It opens no
// socket, reads no clock and starts no thread: the host does what poll() asks, and hands in bytes
// and time. Not for programs that want it all done: sse/asio_client.hpp is such a host.
//
//   sse::event_source source{"http://localhost:8080/events", {.seed = random_number()}};
//   for (;;) {
//     const sse::client_action a = source.poll(now());
//     if (a.what == sse::client_action::connect) {        // resolve, connect, TLS if a.tls
//       if (!dial(a.host, a.port, a.tls)) source.ended(now(), sse::client_error::connect);
//       else send_all(source.connected(now()));
//     } else if (a.what == sse::client_action::secure) {  // a proxy's tunnel is there
//       if (!start_tls(a.host)) source.ended(now(), sse::client_error::tls);
//       else send_all(source.connected(now()));
//     } else if (a.what == sse::client_action::disconnect) {
//       hang_up();
//     } else if (a.what == sse::client_action::failed) {
//       log(sse::explain(source.failure()), source.failure().delay);
//     } else if (source.state() == sse::client_state::closed) {
//       return;
//     } else if (auto n = receive(buf, source.next_deadline()); n > 0) {
//       (void)source.received(now(), {buf, n}, sink);     // sink.on_event(const sse::event&)
//     } else if (n == 0) {
//       source.ended(now());                              // by the peer; on a time-out just poll
//     }
//   }
//
// What it does follows WHATWG HTML 9.2 and RFC 9112:
//  - 200 with text/event-stream opens; 204 and any other type close for good, and so does any other
//    status but those of client_options::retry_statuses. Whatever else goes wrong is tried again.
//  - 301, 302, 303, 307 and 308 are followed; each reconnection begins at the first URL again. Once
//    a redirect leaves the origin, no custom header goes along, also not back home; the last event
//    ID does, and after 307 and 308 the body with the headers that describe it.
//  - The delay before an attempt is the reconnection time (`retry:` or client_options::retry) and a
//    random time more, so that those whom one restart cut do not come back as one: at most half as
//    long (client_options::jitter), and from the second failed attempt in a row on with a bound
//    that doubles. A connection that delivered an event or lived for client_options::stable_after
//    ends the row. `retry: 0` makes at most ten attempts in two seconds
//    (client_options::min_interval).
//  - The last event ID goes along as Last-Event-ID, in its bytes as received.
//  - Through a proxy (client_options::proxy), https goes in a tunnel (CONNECT, RFC 9110 9.3.6), so
//    that the proxy sees the host alone; http is asked of the proxy by its whole URL (RFC
//    9112 3.2.2), since many open tunnels to port 443 only. Each redirect chooses anew.
//
// Threads: one at a time. Nothing throws but the sink; a failed allocation is the failure
// client_error::no_memory. All that is received is bounded by client_options.
#pragma once
#ifndef SSEHUB_CLIENT_HPP
#define SSEHUB_CLIENT_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include <sse/client_error.hpp>
#include <sse/client_response.hpp>
#include <sse/config.hpp>
#include <sse/detail/base/byte_buffer.hpp>
#include <sse/detail/client/backoff.hpp>
#include <sse/detail/client/proxy.hpp>
#include <sse/detail/client/request_writer.hpp>
#include <sse/detail/client/status_set.hpp>
#include <sse/detail/http/response_reader.hpp>
#include <sse/detail/http/url.hpp>
#include <sse/event.hpp>
#include <sse/gap.hpp>
#include <sse/parse.hpp>
#include <sse/request.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// As EventSource.readyState.
enum class client_state : std::uint8_t {
  connecting,  ///< an attempt runs, or the next one waits
  open,        ///< events come
  closed,      ///< never again
};

/// What the host is to do; see event_source::poll().
struct client_action {
  /// Which of them.
  enum kind : std::uint8_t {
    none,        ///< nothing until an input comes or next_deadline() passes
    connect,     ///< open a connection to host:port; then call connected() or ended()
    secure,      ///< make this connection secure, for `host`; then call connected() or ended()
    disconnect,  ///< drop the connection, or the attempt to get one; call ended() no more for it
    failed,      ///< something to report: event_source::failure()
  };
  kind what = none;  ///< what to do next
  // Of connect and secure. Views are valid until the next call that is not const.
  std::string_view host{};  ///< a name or an address; IPv6 without brackets
  std::uint16_t port = 0;   ///< of that host
  bool tls = false;         ///< make it secure at once, for `host`
  bool tunnel = false;  ///< it leads to a proxy, and will be made secure when `secure` is asked for
};

/// Proxies of HTTP, by the scheme of the URL that is asked for. Each is written
/// "http://user:password@host:port", or without the user; port 80 if there is none; what is no
/// letter or digit in user and password as %XX. Empty: no proxy. Never chosen by itself: a program
/// may want what the environment says, see sse/asio_client.hpp.
struct proxy_options {
  std::string_view http{};   ///< for http:// URLs
  std::string_view https{};  ///< for https:// URLs
  /// Who is reached without, as in NO_PROXY, with commas between: "example.com" (and all below it),
  /// "10.0.0.0/8", "[::1]:8080", "*" for all. An address in the URL is compared as such. Entries of
  /// other forms match nothing.
  std::string_view except{};
};

/// All views are copied by the constructor.
struct client_options {
  std::string_view method = "GET";  ///< REQUIRES: a token, not CONNECT, HEAD or TRACE.
  std::string_view body{};          ///< sent with each attempt. REQUIRES: empty for GET.
  /// Sent with each attempt, but not to another origin. Accept, Cache-Control and User-Agent
  /// replace ours. REQUIRES: names are tokens, values without control characters; none of Host,
  /// Last-Event-ID, Accept-Encoding, Proxy-Authorization and those that frame a message or name a
  /// connection.
  std::span<const header> headers{};
  std::string_view last_event_id{};  ///< where to begin. REQUIRES: no CR, LF, NUL; stream.limits.id
  proxy_options proxy{};             ///< REQUIRES: as it says
  /// Also sends the last event ID in this query field, in place of one of that name in the URL; for
  /// servers that do not read the header. Empty: no.
  std::string_view resume_query{};

  // Of these, off() is 0: no wait, nothing added by failures, stable at once.
  duration retry = duration::seconds(3);  ///< the reconnection time until a server says another
  duration max_retry = duration::seconds(600);   ///< the most that `retry:` and Retry-After may say
  duration max_backoff = duration::seconds(30);  ///< the most that failures make of the delay
  duration min_interval = duration::milliseconds(200);  ///< between the begins of two attempts
  std::uint32_t jitter = 50;  ///< percent of the reconnection time, the most that is added to it
  duration stable_after = duration::seconds(10);  ///< a connection this long open was no failure
  std::uint32_t max_attempts = 0;  ///< that many failed in a row: closed for good; 0: never
  /// Statuses that may be others later: they are tried again, not before Retry-After. A list of
  /// numbers and classes; empty: all others than 200 close for good, as the standard has it for
  /// browsers, where a user can reload the page.
  std::string_view retry_statuses = "408,425,429,5xx";

  std::uint32_t max_redirects = 20;      ///< in one attempt; more: closed for good
  bool allow_insecure_redirect = false;  ///< from https to http

  /// From connect to connected(), with a proxy's answer and the handshake behind it; off: none.
  duration connect_timeout = duration::seconds(30);
  /// From connected() to the end of the head; off: none.
  duration head_timeout = duration::seconds(30);
  /// Reconnects after so long without a byte; off: never. Not said: three times the seconds that
  /// the response header X-Heartbeat-Interval says, or without it 90 s: a dead connection looks
  /// like a silent one, and a stream that is silent for 60 s would be cut by most proxies anyway.
  /// Off is for servers that send no heartbeats, have little to say, and cannot resume.
  std::optional<duration> stall_timeout{};

  std::size_t max_head = std::size_t{64} << 10;  ///< bytes of response head, with interim ones
  std::size_t max_headers = 256;                 ///< lines of it
  parser_options stream{.utf8 = invalid_utf8::replace};  ///< limits of line, event, id and so on
  std::uint64_t seed = 0x9e3779b97f4a7c15ULL;            ///< for jitter; give something random
};

/// What received() calls. Required: on_event, which returns void, or bool: false stops after this
/// event. Optional, detected:
///   void on_open(const client_response&)     the stream opened
///   void on_gap(const gap&)                  a gap frame, instead of on_event
///   void on_comment(std::string_view text)   a comment line
///   void on_retry(std::int64_t ms)           the server set the reconnection time, as it said it
///   void on_position(std::string_view id)    last_event_id() moved without an event
/// All views are valid until the callback returns. Callbacks may call close(), restart() and what
/// is const, nothing else.
template <class S>
concept client_sink = event_sink<S>;

namespace detail {
template <class S>
concept comment_sink = requires(S& sink, std::string_view text) {
  sink.on_comment(text);
};
}  // namespace detail

/// A client of one stream, as a state machine; see the top of this header.
class event_source {
 public:
  /// Connects at the first poll(). A bad URL or option closes it, which poll() reports. The URL:
  /// http or https, without user information (give an Authorization header).
  explicit event_source(std::string_view url, const client_options& o = {}) noexcept;
  event_source(event_source&&) noexcept = default;
  event_source& operator=(event_source&&) noexcept = default;

  // --- the host's loop

  /// What to do now. Call it again until it says none; then after every input, and at
  /// next_deadline(). Each action is given once.
  [[nodiscard]] client_action poll(time_point now) noexcept;
  /// When poll() is needed next, if no input comes before; never() if not.
  [[nodiscard]] time_point next_deadline() const noexcept;

  /// The connection that poll() asked for is there, or secure now: send what this returns. It is
  /// valid until the next call that is not const: copy it if sending may take longer. Empty: the
  /// source no longer wants the connection, poll() says more.
  [[nodiscard]] std::string_view connected(time_point now) noexcept;

  /// Bytes came; returns how many were taken: all, unless the sink stopped it. Feed the rest later:
  /// in.substr(result). While stopped, no stall is looked for; an empty `in` says that reading goes
  /// on.
  template <client_sink Sink>
  [[nodiscard]] std::size_t received(time_point now, std::string_view in, Sink&& sink);

  /// The connection, or the attempt to get one, is over: the peer closed it, or `why` (resolve,
  /// connect, tls, read) with its `cause`, for client_failure. Feed what was received before.
  /// Without effect after disconnect.
  void ended(time_point now, client_error why = client_error::none,
             std::error_code cause = {}) noexcept;

  // --- the user

  /// Closes for good. poll() then says disconnect, if there is a connection, and nothing more.
  void close() noexcept;
  /// Drops the connection and connects again after the reconnection time, or at once if it waits
  /// for that already. Without effect once closed.
  void restart(time_point now) noexcept;

  /// Where it stands.
  [[nodiscard]] client_state state() const noexcept {
    return phase_ == phase::open     ? client_state::open
           : phase_ == phase::closed ? client_state::closed
                                     : client_state::connecting;
  }
  /// The last failure; error none: there was none. Stays until the next one.
  [[nodiscard]] const client_failure& failure() const noexcept { return failure_; }
  /// Where it is connected or connects to, after redirects: "https://host/path?query".
  [[nodiscard]] std::string_view url() const noexcept { return current_.href(); }
  /// "https://host" of it, as MessageEvent.origin; the port only if it is not the scheme's own.
  [[nodiscard]] std::string_view origin() const noexcept { return current_.origin(); }
  /// For a later event_source to go on there. Valid until the next call that is not const.
  [[nodiscard]] std::string_view last_event_id() const noexcept { return parser_.last_event_id(); }
  /// The reconnection time now.
  [[nodiscard]] duration retry() const noexcept { return retry_; }
  /// Bytes of the connection are waited for: after connected(), until it ends or is to be secured.
  [[nodiscard]] bool reads() const noexcept {
    return phase_ == phase::tunnel || phase_ == phase::head || phase_ == phase::open;
  }
  /// Bytes held for the request, a head, and an unfinished event.
  [[nodiscard]] std::size_t buffered() const noexcept {
    return out_.size() + head_.buffered() + parser_.buffered();
  }

 private:
  enum class phase : std::uint8_t {
    waiting,
    dialing,
    tunnel,    // the proxy was asked for one
    securing,  // and it is there
    head,
    open,
    closed,
  };

  /// What the parser calls.
  template <class Sink>
  struct stream_sink {
    event_source& source;
    Sink& sink;

    bool on_event(const event& e) {
      source.delivered_ = true;
      if constexpr (requires(const gap& g) { sink.on_gap(g); }) {
        gap g;
        if (read_gap(e, g)) return go_on([&] { return sink.on_gap(g); });
      }
      return go_on([&] { return sink.on_event(e); });
    }
    bool on_comment(std::string_view text) requires detail::comment_sink<Sink> {
      sink.on_comment(text);
      return is_open();
    }
    bool on_position(std::string_view id) {
      if constexpr (requires { sink.on_position(id); }) sink.on_position(id);
      return is_open();
    }
    bool on_retry(std::int64_t ms) {
      const std::int64_t most = source.options_.max_retry.ms();
      source.retry_ = duration::milliseconds(ms < most ? ms : most);
      if constexpr (requires { sink.on_retry(ms); }) sink.on_retry(ms);
      return is_open();
    }

   private:
    template <class F>
    [[nodiscard]] bool go_on(F&& callback) {
      if constexpr (std::same_as<decltype(callback()), bool>) {
        source.stopped_ = !callback();
      } else {
        callback();
      }
      return !source.stopped_ && is_open();
    }
    /// Callbacks may end it.
    [[nodiscard]] bool is_open() const noexcept { return source.phase_ == phase::open; }
  };

  /// While callbacks run, what they look at stays.
  struct callbacks {
    event_source& source;
    explicit callbacks(event_source& s) noexcept : source{s} { s.calling_ = true; }
    callbacks(const callbacks&) = delete;
    callbacks& operator=(const callbacks&) = delete;
    ~callbacks() {
      source.calling_ = false;
      if (source.phase_ != phase::open) source.forget();
    }
  };

  void begin(time_point now) noexcept;
  void drop() noexcept;
  void forget() noexcept;
  void fail(time_point now, client_error why, bool final = false,
            duration at_least = duration::off()) noexcept;
  [[nodiscard]] bool read_head(time_point now) noexcept;
  void read_tunnel(time_point now, std::string_view in) noexcept;
  [[nodiscard]] bool open(time_point now) noexcept;
  void redirect(time_point now) noexcept;

  client_options options_{};  // without its views
  detail::client_request request_{};
  detail::client_request::changes changes_{};
  detail::url first_{};
  detail::url current_{};
  detail::response_reader head_{};
  detail::body_reader body_{};
  parser parser_{};
  detail::backoff backoff_;
  detail::bytes out_{};  // the request
  client_failure failure_{};
  detail::status_set retried_{};
  detail::proxy_choice proxies_{};
  duration retry_{};
  duration stall_{};  // of this connection
  time_point due_{};  // of the wait, the connection, the head, or the next byte
  time_point opened_{};
  time_point last_byte_{};
  std::uint32_t redirects_ = 0;
  int status_ = 0;  // of the response that came last in this attempt
  phase phase_ = phase::waiting;
  bool link_ = false;        // the host has a connection, or tries to get one
  bool to_connect_ = false;  // actions that poll() has not given yet
  bool to_secure_ = false;
  bool to_disconnect_ = false;
  bool proxied_ = false;  // this connection
  bool to_report_ = false;
  bool stopped_ = false;    // by the sink
  bool delivered_ = false;  // an event, on this connection
  bool calling_ = false;    // callbacks run
};

inline event_source::event_source(std::string_view url, const client_options& o) noexcept
    : options_{o},
      head_{{o.max_head, o.max_headers}},
      parser_{o.stream},
      backoff_{{o.max_backoff, o.min_interval, o.jitter, o.seed}} {
  options_.method = options_.body = options_.last_event_id = options_.resume_query = {};
  options_.retry_statuses = {};
  options_.proxy = {};
  options_.headers = {};
  options_.max_retry = detail::sane(o.max_retry);
  options_.retry = retry_ = detail::sane(o.retry);
  due_ = time_point::milliseconds((std::numeric_limits<std::int64_t>::min)());

  bool memory = true;
  failure_.option = request_.set(o.method, o.body, o.headers, o.resume_query, memory);
  if (failure_.option.empty() && !parser_.set_last_event_id(o.last_event_id)) {
    failure_.option = "last_event_id";
  }
  if (failure_.option.empty() && !retried_.set(o.retry_statuses)) {
    failure_.option = "retry_statuses";
  }
  url_error url_of_proxy = url_error::none;
  if (failure_.option.empty()) {
    url_of_proxy = proxies_.set(o.proxy.http, o.proxy.https, o.proxy.except);
    if (url_of_proxy != url_error::none) failure_.option = "proxy";
  }
  failure_.url = first_.parse(url);
  memory = memory && failure_.url != url_error::no_memory && url_of_proxy != url_error::no_memory &&
           current_.assign(first_);
  failure_.error = !memory                           ? client_error::no_memory
                   : failure_.url != url_error::none ? client_error::bad_url
                   : !failure_.option.empty()        ? client_error::bad_options
                                                     : client_error::none;
  if (failure_.error == client_error::bad_options) failure_.url = url_of_proxy;
  if (failure_.error == client_error::none) return;
  close();
  failure_.final = true;
  to_report_ = true;
}

inline client_action event_source::poll(time_point now) noexcept {
  for (;;) {
    if (to_disconnect_) {
      to_disconnect_ = false;
      return {client_action::disconnect};
    }
    if (to_report_) {
      to_report_ = false;
      return {client_action::failed};
    }
    if (to_connect_) {
      to_connect_ = false;
      link_ = true;
      due_ = detail::deadline(now, options_.connect_timeout);
      const bool tls = current_.tls();
      proxied_ = proxies_.between(current_);
      if (!proxied_) return {client_action::connect, current_.host(), current_.port(), tls};
      const detail::proxy_server& proxy = proxies_.server(tls);
      return {client_action::connect, proxy.host(), proxy.port(), false, tls};
    }
    if (to_secure_) {
      to_secure_ = false;
      return {client_action::secure, current_.host(), current_.port(), true};
    }
    if (phase_ == phase::closed || now < due_) return {};
    switch (phase_) {
      case phase::waiting: begin(now); break;
      case phase::dialing:
      case phase::tunnel:
      case phase::securing: fail(now, client_error::connect_timeout); break;
      case phase::head: fail(now, client_error::head_timeout); break;
      case phase::open: fail(now, client_error::stalled); break;
      case phase::closed: break;
    }
  }
}

inline time_point event_source::next_deadline() const noexcept {
  if (to_connect_ || to_secure_ || to_disconnect_ || to_report_) {
    return time_point::milliseconds((std::numeric_limits<std::int64_t>::min)());
  }
  return phase_ == phase::closed ? time_point::never() : due_;
}

inline std::string_view event_source::connected(time_point now) noexcept {
  if (!link_ || to_secure_ || (phase_ != phase::dialing && phase_ != phase::securing)) return {};
  const detail::proxy_server* const proxy = proxied_ ? &proxies_.server(current_.tls()) : nullptr;
  const bool ask = proxy != nullptr && current_.tls() && phase_ == phase::dialing;
  if (ask ? !request_.write_connect(out_, current_, *proxy)
          : !request_.write(out_, current_, changes_, parser_.last_event_id(),
                            current_.tls() ? nullptr : proxy)) {
    fail(now, client_error::no_memory);
    return {};
  }
  if (ask) {
    head_.reset(true);
    phase_ = phase::tunnel;
    return out_.view();
  }
  phase_ = phase::head;
  due_ = detail::deadline(now, options_.head_timeout);
  return out_.view();
}

template <client_sink Sink>
std::size_t event_source::received(time_point now, std::string_view in, Sink&& sink) {
  if (!reads()) return in.size();
  const callbacks guard{*this};
  std::size_t used = 0;
  if (phase_ == phase::tunnel) {
    read_tunnel(now, in);
    return in.size();
  }
  if (phase_ == phase::head) {
    used = head_.feed(in);
    if (!read_head(now)) return in.size();
    if constexpr (requires { sink.on_open(head_.head()); }) sink.on_open(head_.head());
    head_.reset();
  }
  stopped_ = false;
  last_byte_ = now;
  due_ = phase_ == phase::open ? detail::deadline(now, stall_) : due_;
  stream_sink<std::remove_reference_t<Sink>> events{*this, sink};
  while (phase_ == phase::open) {
    if (body_.state() == detail::body_reader::outcome::malformed) {
      fail(now, client_error::bad_framing);
    } else if (body_.state() == detail::body_reader::outcome::complete) {
      fail(now, client_error::end_of_stream);
    } else if (used == in.size()) {
      return used;
    } else {
      const auto [skipped, data] = body_.next(in.substr(used));
      used += skipped;
      if (data.empty()) continue;
      const parse_result r = parser_.feed(data, events);
      used += r.consumed;
      body_.took(r.consumed);
      if (phase_ != phase::open) break;
      if (!r) {
        fail(now, r.error == parse_error::no_memory ? client_error::no_memory
                                                    : client_error::bad_stream);
      } else if (stopped_) {
        due_ = time_point::never();
        return used;
      }
    }
  }
  return in.size();
}

inline void event_source::ended(time_point now, client_error why, std::error_code cause) noexcept {
  if (!link_) return;
  link_ = false;
  const bool whole = phase_ == phase::open && body_.ends_with_connection();
  switch (why) {
    case client_error::resolve:
    case client_error::connect:
    case client_error::tls:
    case client_error::read: break;
    default:
      why = phase_ == phase::dialing    ? client_error::connect
            : phase_ == phase::tunnel   ? client_error::proxy
            : phase_ == phase::securing ? client_error::tls
            : whole                     ? client_error::end_of_stream
                                        : client_error::cut;
  }
  fail(now, why);
  failure_.cause = cause;
}

inline void event_source::close() noexcept {
  drop();
  to_report_ = false;
  phase_ = phase::closed;
  if (!calling_) forget();
}

inline void event_source::restart(time_point now) noexcept {
  if (phase_ == phase::closed) return;
  if (phase_ == phase::waiting) {
    due_ = now + backoff_.soonest(now);
    return;
  }
  fail(now, client_error::restarted);
}

/// An attempt begins: back to the first URL.
inline void event_source::begin(time_point now) noexcept {
  backoff_.attempt(now);
  phase_ = phase::dialing;
  redirects_ = 0;
  status_ = 0;
  changes_ = {};
  if (!current_.assign(first_)) return fail(now, client_error::no_memory);
  to_connect_ = true;
}

inline void event_source::drop() noexcept {
  to_disconnect_ = to_disconnect_ || link_;
  link_ = to_connect_ = to_secure_ = false;
}

/// Nothing of the connection is left but the last event ID.
inline void event_source::forget() noexcept {
  if (phase_ == phase::head || phase_ == phase::tunnel) return;
  head_.reset();
  parser_.reset();
  out_.release();
}

inline void event_source::fail(time_point now, client_error why, bool final,
                               duration at_least) noexcept {
  const bool was_open = phase_ == phase::open;
  const time_point end = why == client_error::stalled ? last_byte_ : now;
  if (was_open && (delivered_ || !(end - opened_ < options_.stable_after))) {
    backoff_.stable();
  } else if (why != client_error::restarted) {
    backoff_.failed();
  }
  const bool enough = options_.max_attempts != 0 && backoff_.failures() >= options_.max_attempts;
  failure_ = {};
  failure_.error = why;
  failure_.final = final || enough;
  failure_.was_open = was_open;
  failure_.at_proxy = proxied_ && (phase_ == phase::dialing || phase_ == phase::tunnel);
  failure_.status = status_;
  if (why == client_error::bad_stream) failure_.parse = parser_.error();
  failure_.attempts = backoff_.failures();
  drop();
  to_report_ = true;
  if (failure_.final) {
    phase_ = phase::closed;
  } else {
    failure_.delay = backoff_.delay(now, retry_, at_least);
    phase_ = phase::waiting;
    due_ = now + failure_.delay;
  }
  if (!calling_) forget();
}

/// True: the stream is open.
inline bool event_source::read_head(time_point now) noexcept {
  using outcome = detail::response_reader::outcome;
  status_ = head_.status();
  switch (head_.state()) {
    case outcome::need_more: return false;
    case outcome::complete: return open(now);
    case outcome::malformed: fail(now, client_error::bad_head); return false;
    case outcome::too_large: fail(now, client_error::head_too_large); return false;
    case outcome::framing: fail(now, client_error::bad_framing); return false;
    case outcome::no_memory: fail(now, client_error::no_memory); return false;
  }
  return false;
}

/// What a proxy says to CONNECT. The server is not to speak first: what follows the head is none of
/// its bytes.
inline void event_source::read_tunnel(time_point now, std::string_view in) noexcept {
  using outcome = detail::response_reader::outcome;
  const std::size_t used = head_.feed(in);
  status_ = head_.status();
  switch (head_.state()) {
    case outcome::need_more: return;
    case outcome::complete: break;
    case outcome::no_memory: return fail(now, client_error::no_memory);
    default: status_ = 0; return fail(now, client_error::proxy);
  }
  if (status_ >= 300) {
    return fail(now, client_error::proxy, status_ < 500 && !retried_.has(status_),
                detail::retry_after(head_.head(), options_.max_retry));
  }
  status_ = 0;
  if (used != in.size()) return fail(now, client_error::proxy);
  head_.reset();
  phase_ = phase::securing;
  to_secure_ = true;
}

/// WHATWG HTML 9.2.3: what a response means.
inline bool event_source::open(time_point now) noexcept {
  const client_response& r = head_.head();
  switch (r.status()) {
    case 200: break;
    case 204: fail(now, client_error::no_content, true); return false;
    case 301:
    case 302:
    case 303:
    case 307:
    case 308: redirect(now); return false;
    default:
      fail(now, client_error::status, !retried_.has(r.status()),
           detail::retry_after(r, options_.max_retry));
      return false;
  }
  if (!detail::is_event_stream(r)) {
    fail(now, client_error::content_type, true);
    return false;
  }
  if (!detail::is_identity(r)) {
    fail(now, client_error::content_encoding, true);
    return false;
  }
  body_ = {head_.end(), head_.length()};
  phase_ = phase::open;
  opened_ = now;
  delivered_ = false;
  const duration beat =
      detail::whole_seconds(r.header("X-Heartbeat-Interval"), duration::seconds(24 * 3600));
  stall_ = options_.stall_timeout.value_or(beat.is_off() ? duration::seconds(90)
                                                         : duration::milliseconds(3 * beat.ms()));
  return true;
}

/// Fetch 4.4, HTTP-redirect fetch.
inline void event_source::redirect(time_point now) noexcept {
  if (redirects_ == options_.max_redirects) {
    return fail(now, client_error::too_many_redirects, true);
  }
  ++redirects_;
  detail::url next;
  url_error e = url_error::scheme;
  const std::string_view location = detail::only_location(head_.head());
  if (!location.empty()) e = next.resolve(current_, location);
  if (e == url_error::no_memory) return fail(now, client_error::no_memory);
  if (e != url_error::none) {
    fail(now, client_error::bad_redirect, true);
    failure_.url = e;
    return;
  }
  if (current_.tls() && !next.tls() && !options_.allow_insecure_redirect) {
    return fail(now, client_error::insecure_redirect, true);
  }
  const std::string_view method = request_.method(changes_);
  const bool to_get = status_ == 303 ? method != "GET" : status_ < 303 && method == "POST";
  changes_.get = changes_.get || to_get;
  changes_.foreign = changes_.foreign || !same_origin(current_, next);
  current_ = std::move(next);
  drop();
  head_.reset();
  phase_ = phase::dialing;
  to_connect_ = true;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_CLIENT_HPP
