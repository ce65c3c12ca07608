// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/asio.hpp
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
#ifndef SSEHUB_ASIO_HPP
#define SSEHUB_ASIO_HPP

#include <cstdint>
#include <memory>
#include <system_error>
#include <type_traits>
#include <utility>

#include "asio_transport.hpp"
// ---- sse/detail/server/asio_core.hpp
//
// What stands behind asio_server: the hub, the listeners, the connections, and the loop that serves
// them. Every operation under way holds the core, so that a server may be destroyed at any time.
// Not public.
//
// One turn of the loop: mail in, time in, overdue connections out, hub.flush(). A turn is posted
// when there is something to send, at most once; the one timer stands at the next deadline of all.
// Where the turn comes after a pause and something is overdue, what is ready goes first: a process
// that was stopped, or slept with its machine, ends nobody for that.
#ifndef SSEHUB_DETAIL_SERVER_ASIO_CORE_HPP
#define SSEHUB_DETAIL_SERVER_ASIO_CORE_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// ---- sse/detail/server/asio_connection.hpp
//
// One HTTP/1 connection of asio_server. Not public.
#ifndef SSEHUB_DETAIL_SERVER_ASIO_CONNECTION_HPP
#define SSEHUB_DETAIL_SERVER_ASIO_CONNECTION_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

// ---- sse/detail/server/http_connection.hpp
//
// One HTTP/1 connection of a server, from accept until it is a stream or closed: head, body,
// handler, answer, the next request. It moves no bytes: its host gives it what came and writes what
// it has. Not public.
//
// Requests of one connection are served one after the other. Nothing is read while an answer is
// being made or written, so a client that sends and never reads holds one request and one answer.
#ifndef SSEHUB_DETAIL_SERVER_HTTP_CONNECTION_HPP
#define SSEHUB_DETAIL_SERVER_HTTP_CONNECTION_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "sse.hpp"
// ---- sse/detail/server/inbox.hpp
//
// What other threads ask a server's thread to do: answers that come late. Not public.
#ifndef SSEHUB_DETAIL_SERVER_INBOX_HPP
#define SSEHUB_DETAIL_SERVER_INBOX_HPP

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "responder.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Outlives its server where somebody still holds a responder: then nothing happens any more.
class inbox {
 public:
  using task = function<void()>;

  /// `wake`: makes the loop call take() soon; from any thread.
  inbox(void (*wake)(void*) noexcept, void* context) noexcept : wake_{wake}, context_{context} {}

  /// From any thread. Throws std::bad_alloc.
  void post(task t) {
    const std::lock_guard<std::mutex> lock{mutex_};
    if (wake_ == nullptr) return;
    tasks_.push_back(std::move(t));
    any_.store(true, std::memory_order_relaxed);
    if (tasks_.size() == 1) wake_(context_);
  }
  /// What there is to do, on the server's thread. A wake-up follows each post, or was under way.
  [[nodiscard]] std::vector<task> take() noexcept {
    std::vector<task> out;
    if (!any_.load(std::memory_order_relaxed)) return out;
    const std::lock_guard<std::mutex> lock{mutex_};
    any_.store(false, std::memory_order_relaxed);
    out.swap(tasks_);
    return out;
  }
  void close() noexcept {
    std::vector<task> dropped;  // outside of the lock: what they hold may post
    const std::lock_guard<std::mutex> lock{mutex_};
    wake_ = nullptr;
    dropped.swap(tasks_);
  }

 private:
  std::mutex mutex_;
  std::vector<task> tasks_;
  std::atomic<bool> any_{false};
  void (*wake_)(void*) noexcept;
  void* context_;
};

/// A request that is answered later: what its responder and its connection know of each other.
template <class Connection>
struct late_request : late_answer {
  late_request(Connection& c, std::shared_ptr<inbox> i) noexcept : to{&c}, box{std::move(i)} {}

  /// Brings an answer, or that there is none, to the connection, if that still waits for it.
  template <class Answer>
  static function<void(Answer*)> sender(std::shared_ptr<late_request> me) {
    return [me = std::move(me)](Answer* a) {
      std::optional<Answer> answer;
      if (a != nullptr) answer.emplace(std::move(*a));
      me->box->post([me, answer = std::move(answer)]() mutable {
        if (me->to != nullptr) me->to->answered(std::move(answer));
      });
    };
  }

  Connection* to;  ///< the server's thread's; nullptr: it waits no more
  const std::shared_ptr<inbox> box;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_INBOX_HPP
// ---- sse/detail/server/server_core.hpp
//
// What every HTTP/1 server of this library is made of, but for its sockets and its loop: options,
// hub, mailbox, routes, refusals, the access log, the way of a request to its handler. Include the
// header of a host.
#ifndef SSEHUB_DETAIL_SERVER_SERVER_CORE_HPP
#define SSEHUB_DETAIL_SERVER_SERVER_CORE_HPP

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cors.hpp"
#include "server.hpp"
#include "http1.hpp"
#include "mailbox.hpp"
#include "shards.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Who sent the request: the peer, or, if it is a proxy that we trust, the last one in
/// X-Forwarded-For that is not. Empty: as the peer. What cannot be read ends the search, since
/// anybody could have written what stands left of it.
[[nodiscard]] inline std::string forwarded_for(const request& r, std::string_view peer,
                                               std::span<const std::string> trusted) {
  const auto is_trusted = [&](std::string_view a) {
    return std::find(trusted.begin(), trusted.end(), a) != trusted.end();
  };
  if (!is_trusted(peer)) return {};
  std::string last{peer};
  for (std::size_t i = r.headers.size(); i-- > 0;) {
    if (!text::equal_fold(r.headers[i].name, "X-Forwarded-For")) continue;
    std::string_view list = r.headers[i].value;
    while (!list.empty()) {
      const std::size_t comma = list.rfind(',');
      const std::size_t begin = comma == std::string_view::npos ? 0 : comma + 1;
      std::string hop = client_ip_text(text::trim(list.substr(begin)));
      if (hop.empty()) return last;
      last = std::move(hop);
      if (!is_trusted(last)) return last;
      list = list.substr(0, comma == std::string_view::npos ? 0 : comma);
    }
  }
  return last;
}

template <class T>
void allow_times(waiting_room<T>& w, const server_options& o) noexcept {
  w.allow(due::handshake, o.handshake_deadline);
  w.allow(due::head, o.head_deadline);
  w.allow(due::body, o.body_deadline);
  w.allow(due::verdict, o.verdict_deadline);
  if (o.shards != nullptr) w.allow(due::ahead, o.shards->options().wait_ahead);
  w.allow(due::idle, o.keep_alive);
  w.allow(due::write, o.hub.write_deadline);
}

/// Too many handshakes are under way: those that last longest give way, so that peers that never
/// finish theirs shut nobody out.
template <class T>
void limit_handshakes(waiting_room<T>& w, const server_options& o) noexcept {
  const chain<T>& all = w.waiting_for(due::handshake);
  while (o.max_handshakes != 0 && all.size > o.max_handshakes) all.first->drop();
}

/// There are as many connections as there may be: one for which nobody asked anything for a second,
/// that which waits longest, gives way to one that comes. Kept ones first, then those that have not
/// brought a whole request.
template <class T>
void make_room(waiting_room<T>& w, const server_options& o, time_point now) noexcept {
  const auto waits = [now](const T& t, duration length) {
    return !length.is_off() && t.due_at - length.ms() + 1000 <= now.ms();
  };
  T* const kept = w.waiting_for(due::idle).first;
  if (kept != nullptr && waits(*kept, o.keep_alive)) return kept->drop();
  T* const begun = w.waiting_for(due::head).first;
  if (begun != nullptr && waits(*begun, o.head_deadline)) begun->drop();
}

/// `Transport`: the host's. Its loop, which derives from this, drains the mail and calls the hub.
template <class User, class Transport>
class server_core {
 public:
  using user_type = User;
  using transport_type = Transport;
  using hub_type = sse::hub<Transport, User>;
  using endpoint = http_endpoint<User>;

  /// Throws std::invalid_argument for options that cannot work. `transport`: what it is made of.
  template <class... Args>
  explicit server_core(const server_options& o, Args&&... transport)
      : options_{o},
        cors_{o.cors},
        open_cors_{for_any_origin(o.cors)},
        hosts_{o.hosts},
        head_{o.head},
        transport_{std::forward<Args>(transport)...} {
    if (validate(o.cors) != cors_error::none) {
      throw std::invalid_argument("server_options::cors is not a valid policy");
    }
    options_.cors = {};
    options_.head = {};
    for (const std::string& p : o.trusted_proxies) {
      trusted_.push_back(client_ip_text(p));
      if (trusted_.back().empty()) throw std::invalid_argument("not an address: " + p);
    }
    const auto clock = std::chrono::system_clock::now().time_since_epoch();
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(clock).count();
    hub_options h = o.hub;
    h.first_id = said_or(h.first_id, static_cast<event_id>(us));
    if (h.seed == hub_options{}.seed) {
      h.seed ^= static_cast<std::uint64_t>(us) ^ reinterpret_cast<std::uintptr_t>(this);
      h.seed ^= static_cast<std::uint64_t>(now_us()) << 20U;
    }
    if (o.shards != nullptr) shard_port::prepare(*o.shards, h);
    hub_.emplace(transport_, h);
    hub_->on_channel_closed([this](channel c) {
      forget_channel(c);
      if (on_channel_closed) on_channel_closed(c);
    });
    hub_->refusal_form([this](const refused_request& q) { return form_of(q); });
    hub_->tick(now());
  }
  server_core(const server_core&) = delete;
  server_core& operator=(const server_core&) = delete;

  // --- what the connections ask

  [[nodiscard]] const http1::limits& limits() const noexcept { return options_.limits; }
  [[nodiscard]] std::array<char, 16384>& scratch() noexcept { return scratch_; }
  [[nodiscard]] transport_type& transport() noexcept { return transport_; }
  /// What is said to pages of other origins about the answer to this request.
  [[nodiscard]] const cors_policy& cors_of(const request& r) const noexcept {
    for (const std::string& p : options_.any_origin) {
      if (p.ends_with('/') ? r.path.starts_with(p) : r.path == p) return open_cors_.policy;
    }
    return cors_.policy;
  }
  /// No further request of a connection is served.
  [[nodiscard]] bool ending() const noexcept { return draining_ || stopped_; }

  [[nodiscard]] time_point now() const noexcept {
    return options_.clock != nullptr ? options_.clock()
                                     : time_point{std::chrono::steady_clock::now()};
  }
  [[nodiscard]] static std::int64_t now_us() noexcept {
    const auto t = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::microseconds>(t).count();
  }

  /// A refusal in the form that the host wants.
  [[nodiscard]] response form_of(const refused_request& q) {
    if (error_page) {
      try {
        return error_page(q);
      } catch (const std::exception& e) {
        error(e.what(), {});
      } catch (...) {
        error("exception", {});
      }
    }
    return refusal_response(q);
  }
  /// Of the server itself.
  [[nodiscard]] response refusal(int status, refusal_reason why = refusal_reason::http,
                                 duration retry_after = duration::off()) {
    const refused_request q{why, status, retry_after};
    return finish_refusal(form_of(q), q);
  }

  void error(std::string_view what, const std::error_code& e) noexcept {
    if (!on_error) return;
    try {
      on_error(what, e);
    } catch (...) {
    }
  }

  void log(const request& r, int status, std::uint64_t bytes, std::int64_t began,
           bool stream) noexcept {
    if (!on_access) return;
    try {
      const std::string shown = redact_target(r.target);
      on_access({r.method, shown, r.address, status, bytes, now_us() - began, stream});
    } catch (...) {
    }
  }

  /// Who answers a request. to == nullptr: `answer` does.
  struct routed {
    std::shared_ptr<endpoint> to{};
    response answer{};
    bool with_cors = true;  // the answer is to have them still
  };
  [[nodiscard]] routed route(const request& r) {
    if (!hosts_.views.empty() && !host_allowed(r, hosts_.views)) return {{}, refusal(403)};
    if (r.method == "OPTIONS")
      return {{}, preflight(cors_of(r), r, options_.preflight_status), false};
    const auto* found = routes.find(r.path);
    if (found == nullptr) return {{}, refusal(404)};
    std::shared_ptr<endpoint> e = found->find(r.method);
    if (e == nullptr) {
      response no = refusal(405);
      return {{}, std::move(no.add("Allow", found->allow()))};
    }
    const bool changes = r.method != "GET" && r.method != "HEAD";
    const bool checks = options_.check_origin || cors_.policy.credentials;
    if (changes && checks && !origin_allowed(cors_.policy, r)) return {{}, refusal(403)};
    return {std::move(e)};
  }
  /// The client's address where a trusted proxy names it; empty: the peer's.
  [[nodiscard]] std::string client_of(const request& r, std::string_view peer) const {
    return forwarded_for(r, peer, trusted_);
  }
  /// No TLS session came about: whose fault it is, is not known.
  void handshake_failed(const std::string& why, std::string_view address) {
    const std::error_code e = std::make_error_code(std::errc::protocol_error);
    error(std::string{"TLS handshake with "}.append(address).append(": ").append(why), e);
  }
  /// HTTP came where TLS is spoken: what this one is told.
  [[nodiscard]] std::string not_plain(std::string_view address) {
    const response r = response::text(400, "This port speaks TLS: use https://\n");
    std::string out;
    http1::write_response(out, r, {.keep_alive = false});
    log({.method = {}, .address = address}, 400, out.size(), now_us(), false);
    return out;
  }
  /// Too many connections: what this one is told.
  [[nodiscard]] std::string crowded() {
    response r = refusal(503, refusal_reason::http, duration::seconds(5));
    add_cors(r.headers, cors_.policy, request{});
    std::string out;
    http1::write_response(out, r, {.keep_alive = false});
    return out;
  }

  /// Appends the head of a stream; whether it is framed as chunks. `stays`: the connection outlives
  /// it, if its end can be seen without that of the connection.
  [[nodiscard]] bool write_head(std::string& out, const endpoint& e, const request& r, bool stays) {
    const owned_head& own = e.head != nullptr ? *e.head : head_;
    std::string lines = own.extra;
    add_cors(lines, cors_of(r), r);
    const bool chunked = options_.chunked && r.minor_version > 0;
    http1::stream_head head = own.view(lines);
    head.keep_alive = head.keep_alive || (stays && (chunked || r.method == "HEAD"));
    if (!http1::write_stream_head(out, head, r.minor_version, chunked)) {
      throw std::invalid_argument("stream_head is not valid");
    }
    return chunked;
  }

  /// What is known of a stream's head once there is a verdict.
  void add_to_head(std::string& head, const endpoint& e, verdict<User>& v) {
    if (!v.admitted()) return;
    std::string lines{v.headers()};
    const http1::stream_head& own = (e.head != nullptr ? *e.head : head_).head;
    if (options_.announce_heartbeat && own.heartbeat_seconds == 0) {
      http1::write_heartbeat(lines, heartbeat_of(v));
    }
    head.insert(head.size() - 2, lines);  // in front of the empty line
    if (v.joining().bad_header) error("verdict::header: not one that may be sent", {});
  }
  /// How long a stream can be silent; off(): for ever.
  [[nodiscard]] static duration heartbeat_of(verdict<User>& v) noexcept {
    duration least = duration::off();
    for (std::uint32_t i = 0; i < v.joining().channels.size(); ++i) {
      const channel_options* const o = v.joining().channels[i].options();
      if (o == nullptr || o->heartbeat.mode == heartbeat_options::pace::off) continue;
      if (least.is_off() || o->heartbeat.every < least) least = o->heartbeat.every;
    }
    return least;
  }

  /// `ask`: a verdict, or what gives one: the hub asks, so that shape and caps come first.
  template <class Ask>
  [[nodiscard]] accept_result admit(typename Transport::connection&& c, const request& r,
                                    Ask&& ask) {
    touch_clock();
    refused_request no;
    if (!caught_up(r, no)) {
      if constexpr (std::is_same_v<Ask, verdict<User>>) {
        if (ask.admitted()) hub_->tell_refused(r, ask.user(), no);
      }
      return hub_->turn_away(std::move(c), r, no);
    }
    return hub_->accept(std::move(c), r, std::forward<Ask>(ask));
  }

  /// Its client has an id that has not come here yet: it waits.
  [[nodiscard]] bool is_ahead(const request& r) const noexcept {
    return port_.is_ahead(r, hub_->options());
  }

  /// Where late answers go.
  [[nodiscard]] const std::shared_ptr<inbox>& box() const noexcept { return inbox_; }

  /// The hub's clock without anything becoming due, since then hooks run.
  void touch_clock() noexcept { hub_->set_time(now()); }

  [[nodiscard]] hub_type& hub() noexcept { return *hub_; }
  [[nodiscard]] mailbox& mail() noexcept { return *mail_; }

  /// What publishers of this channel's events call it; never used again for another. REQUIRES: it
  /// is the hub's.
  [[nodiscard]] std::uint64_t token_of(channel c) {
    if (const auto at = target_of_.find(c); at != target_of_.end())
      return targets_[at->second].token;
    if (free_target_ == no_target) {
      targets_.emplace_back();
      free_target_ = static_cast<std::uint32_t>(targets_.size() - 1);
    }
    const std::uint32_t slot = free_target_;
    target_of_.emplace(c, slot);
    mail_target& t = targets_[slot];
    free_target_ = t.next_free;
    t = {.token = ++tokens_ << 32U | slot, .to = c};
    return t.token;
  }

  // What the host sets.
  http_routes<User> routes;
  function<void(const access_record&)> on_access;
  function<void(std::string_view, const std::error_code&)> on_error;
  function<response(const refused_request&)> error_page;
  function<void(channel)> on_channel_closed;

 protected:
  /// The host's half is gone: nothing of it may be called any more.
  void forget_hooks() noexcept {
    hub_->on_refused({});
    hub_->refusal_form({});
    hub_->on_sees({});
    hub_->on_opened({});
    hub_->on_closed({});
    hub_->on_presence({});
    hub_->on_gap({});
    hub_->on_wanted({});
    hub_->on_channel_closed({});
    // Not `= {}`: Clang 14 forgets the destructor of such a temporary in a template.
    on_access = decltype(on_access){};
    on_error = decltype(on_error){};
    error_page = decltype(error_page){};
    on_channel_closed = decltype(on_channel_closed){};
    routes.clear();
  }
  void forget_channel(channel c) noexcept {
    routes.remove(c);
    if (const auto at = target_of_.find(c); at != target_of_.end()) forget_target(at->second);
  }

  /// Of mail: what a sequencer takes, its shards take too.
  [[nodiscard]] encode_limits mail_limits() const noexcept {
    encode_limits l;
    if (options_.shards != nullptr)
      l.event = (std::max)(l.event, options_.shards->options().limits.event);
    return l;
  }
  /// Once mail_ is there. Throws std::invalid_argument.
  void join_shards() {
    if (options_.shards != nullptr && !port_.attach(*options_.shards, *hub_, *mail_)) {
      throw std::invalid_argument("too late to join the sequencer, or it has no place");
    }
  }
  /// All mail into the logs.
  void drain_mail() noexcept {
    ++turn_;
    if (port_) port_.turn_begins();
    take_mail();
    if (port_) port_.wake_waiting(*hub_);
  }
  /// After the mail: requests that wait for what their clients have already.
  template <class Connection>
  void look_at_those_ahead(waiting_room<Connection>& all) noexcept {
    if (port_ && port_.head_moved())
      all.for_each(due::ahead, [](Connection& c) { c.look_ahead(); });
  }
  /// Answers that came late to their connections.
  void take_late_answers() noexcept {
    for (inbox::task& t : inbox_->take()) {
      try {
        t();
      } catch (const std::exception& e) {
        error(e.what(), {});
      } catch (...) {
        error("exception", {});
      }
    }
  }
  /// All shards are to drain, and this one has what came before.
  [[nodiscard]] bool shards_end() const noexcept { return port_ && port_.ending() && !draining_; }
  /// A stream's connection may bring its next request: `back()` makes it one of the host's again.
  /// False: it may not, or its peer is gone.
  template <class F>
  [[nodiscard]] bool take_back(F&& back) noexcept {
    if (ending()) return false;
    try {
      return back();
    } catch (...) {
      return false;
    }
  }
  void report_to_shards() noexcept {
    if (port_) port_.report(hub_->stats());
  }

  server_options options_;
  bool draining_ = false;
  bool stopped_ = false;

 private:
  static constexpr std::uint32_t no_target = UINT32_MAX;
  struct mail_target {
    std::uint64_t token = 0;  // its slot, and above it a number that no other had; 0: it is free
    channel to{};
    std::uint32_t next_free = no_target;
  };

  /// Mail for it is mail for a channel that is closed, from now on.
  void forget_target(std::uint32_t slot) noexcept {
    target_of_.erase(targets_[slot].to);
    targets_[slot] = {.next_free = std::exchange(free_target_, slot)};
  }

  void take_mail() noexcept {
    mail_->drain([this](const sse::mail& m) { return deliver(m); });
  }

  /// False: memory is out; it stays in its lane.
  bool deliver(const sse::mail& m) noexcept {
    if (m.target == shard_port::target && port_) return deliver_shared(m);
    touch_clock_for_mail();
    const channel to = target(m.target);
    if (!to) {
      error("mail for a channel that is closed", {});
      return true;
    }
    const publish_result r = hub_->publish(to, m.event, m.options);
    if (!r) error(to_string(r.error), {});
    return true;
  }

  /// The channel of a token; none: it is closed, or nobody's.
  [[nodiscard]] channel target(std::uint64_t token) const noexcept {
    const auto slot = static_cast<std::uint32_t>(token);
    if (token == 0 || slot >= targets_.size() || targets_[slot].token != token) return {};
    return targets_[slot].to;
  }

  /// Once in a turn that has mail.
  void touch_clock_for_mail() noexcept {
    if (mail_turn_ == turn_) return;
    mail_turn_ = turn_;
    touch_clock();
  }

  /// The sequencer's: what cannot be published now waits.
  bool deliver_shared(const sse::mail& m) noexcept {
    touch_clock_for_mail();
    const publish_error before = port_.error();
    const bool taken = port_.take(m);
    if (port_.error() != publish_error::none && port_.error() != before) {
      error(to_string(port_.error()), {});
    }
    return taken;
  }

  /// Has what the client got elsewhere.
  [[nodiscard]] bool caught_up(const request& r, refused_request& no) {
    return !port_ || port_.catch_up(r, hub_->options(), no, [this] { take_mail(); });
  }

  owned_cors cors_;
  owned_cors open_cors_;  ///< of options_.any_origin
  owned_texts hosts_;
  owned_head head_;
  std::vector<std::string> trusted_;

 protected:
  Transport transport_;
  std::optional<hub_type> hub_;
  std::optional<mailbox> mail_;
  std::shared_ptr<inbox> inbox_;  // made by the host, which can be woken
  shard_port port_;

 private:
  std::vector<mail_target> targets_;  // of publishers, by the lower half of their tokens
  std::unordered_map<channel, std::uint32_t, channel_hash> target_of_;
  std::uint32_t free_target_ = no_target;
  std::uint64_t tokens_ = 0;
  std::uint64_t turn_ = 0;
  std::uint64_t mail_turn_ = 0;  // in which the clock was last looked at for mail
  std::array<char, 16384> scratch_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_SERVER_CORE_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `Core`: a server_core with await(Self&, due). `Self` is the host's connection, which derives
/// from this and has
///
///   hold()            what keeps it alive while it lives
///   read()            more input is wanted: serve() takes it
///   next()            the same, after a stream
///   write()           sends out_; writing_: it goes on, wrote_all() ends it; else wrote()
///   drop(), abort()   it ends at once, or by a reset
///   hang_up()         it ends after what was written
///   leave()           it is over, or the hub has it
///   watch_end()       an answer is awaited: looks for the end of the connection, if it can
///   send_plain(text)  past the TLS that did not come about, as much as goes at once
///
/// leave() holds what give_up() gives until all else is done.
template <class Self, class Core>
class http_connection {
 protected:
  using connection_type = typename Core::transport_type::connection;
  using user_type = typename Core::user_type;
  using endpoint = typename Core::endpoint;
  static constexpr std::size_t enough_output = 64U << 10U;

 public:
  http_connection(Core& core, connection_type c, std::string address)
      : peer_{std::move(c)}, core_{&core}, reader_{core.limits()}, address_{std::move(address)} {}
  http_connection(const http_connection&) = delete;
  http_connection& operator=(const http_connection&) = delete;

  /// The stream that it carried is over: its next request may come.
  void resume() noexcept {
    serial_ = 1;
    guarded([&] {
      set_due();
      self().next();
    });
  }

  /// Its time is up.
  void expired(due what) noexcept {
    guarded([&] {
      if (what == due::write) {
        self().abort();
      } else if (what == due::idle) {
        self().hang_up();
      } else if (what == due::verdict) {
        give_no_verdict();
      } else if (what == due::ahead) {
        stop_waiting_ahead();
      } else if (what == due::body || (what == due::head && !idle_)) {
        refuse(408);
        go_on();
      } else {
        self().drop();
      }
    });
  }
  /// The server takes no more: ends what waits for a request, or to become a stream.
  void drain() noexcept {
    if (awaits_verdict()) return give_no_verdict();
    if (ahead_ == ahead::waits) return guarded([&] { stop_waiting_ahead(); });
    if (phase_ == phase::handshake) return self().drop();
    if (phase_ == phase::head && idle_ && !writing_ && out_.empty()) self().hang_up();
  }

  /// The hub got events: perhaps what the client has already.
  void look_ahead() noexcept {
    if (!core_->is_ahead(make_request())) guarded([&] { stop_waiting_ahead(); });
  }

  /// The answer that was to come later, or that there is none.
  void answered(std::optional<response> r) noexcept {
    guarded([&] {
      [[maybe_unused]] const auto held = self().hold();
      end_late();
      const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
      answer(r ? std::move(*r) : core_->refusal(500), e->takes_body);
      go_on();
    });
  }
  void answered(std::optional<verdict<user_type>> v) noexcept {
    guarded([&] {
      [[maybe_unused]] const auto held = self().hold();
      end_late();
      const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
      handle(*e, [&] {
        if (!v) return answer(core_->refusal(500), e->takes_body);
        open_stream(*e, std::move(*v));
      });
      go_on();
    });
  }

  link<Self> hook;
  std::int64_t due_at = 0;

 protected:
  ~http_connection() = default;

  enum class phase : std::uint8_t {
    handshake,
    head,
    body,
    answering,  // a handler runs, or somebody holds a responder
    opening,    // a stream, once all answers before it are out
    closing,    // once all that was answered is out
  };

  /// Whether a request for a stream waits for the hub to have what its client has.
  enum class ahead : std::uint8_t { no, waits, waited };

  /// What is thrown in here ends this connection alone.
  template <class F>
  void guarded(F&& f) noexcept {
    if (core_ == nullptr) return;
    try {
      f();
    } catch (const std::exception& e) {
      failed(e.what());
    } catch (...) {
      failed("exception");
    }
  }
  void failed(const char* what) noexcept {
    if (core_ == nullptr) return;
    core_->error(what, {});
    self().drop();
  }

  /// No TLS session came about. A peer that speaks HTTP is told so.
  template <class Layer>
  void refuse_handshake(const Layer& layer) {
    const bool plain = layer.met_plain_http();
    core_->handshake_failed(layer.reason(), address_);
    if (core_ != nullptr && plain) {  // else the program stopped its server
      const std::string out = core_->not_plain(address_);
      if (core_ != nullptr) self().send_plain(out);
    }
    self().hang_up();
  }

  // --- bytes in

  void serve(std::string_view bytes) {
    [[maybe_unused]] const auto held = self().hold();
    if (in_.empty()) {
      take(bytes);
    } else {
      in_.append(bytes);  // read ahead: go_on() takes it when it may
    }
    go_on();
  }

  /// Takes bytes as far as it may; the rest waits in in_.
  void take(std::string_view bytes) {
    serving_ = true;
    while (core_ != nullptr && !bytes.empty() && out_.size() < enough_output) {
      if (phase_ == phase::head) {
        read_head(bytes);
      } else if (phase_ == phase::body) {
        read_body(bytes);
      } else {
        break;
      }
    }
    serving_ = false;
    if (core_ == nullptr) return;
    in_.assign(phase_ == phase::closing ? std::string_view{} : bytes);
  }

  void read_head(std::string_view& bytes) {
    if (idle_) {
      idle_ = false;
      began_ = Core::now_us();
      set_due();
    }
    const http1::feed_result r = reader_.feed(bytes);
    bytes.remove_prefix(r.consumed);
    more_behind_ = !bytes.empty();
    if (r.state == http1::outcome::error) {
      refuse(reader_.status());
    } else if (r.state == http1::outcome::complete) {
      route();
    }
  }

  void read_body(std::string_view& bytes) {
    const http1::feed_result r = framing_.feed(bytes, body_);
    bytes.remove_prefix(r.consumed);
    more_behind_ = !bytes.empty();
    if (r.state == http1::outcome::error) {
      refuse(framing_.status());
    } else if (r.state == http1::outcome::complete) {
      call();
    }
  }

  // --- requests

  [[nodiscard]] request make_request() {
    request r = reader_.head();
    r.address = address_;
    return r;
  }

  void route() {
    forwarded_ = core_->client_of(reader_.head(), address_);
    if (!forwarded_.empty()) address_.swap(forwarded_);
    typename Core::routed found = core_->route(make_request());
    if (found.to == nullptr) return answer(std::move(found.answer), false, found.with_cors);

    endpoint_ = std::move(found.to);
    if (endpoint_->takes_body && reader_.has_body()) {
      phase_ = phase::body;
      framing_ = http1::body_reader{reader_, core_->limits()};
      set_due();
      const auto promised = to_size(reader_.content_length());
      body_.reserve(promised < enough_output ? promised : enough_output);
      if (reader_.expects_continue()) out_.append(http1::continue_head);
      return;
    }
    call();
  }

  /// Runs the handler.
  void call() {
    const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
    phase_ = phase::answering;
    set_due();
    if ((e->stream || e->later_stream) && (writing_ || !out_.empty())) {
      endpoint_ = e;
      phase_ = phase::opening;
      return;
    }
    if ((e->stream || e->later_stream) && ahead_ == ahead::no && core_->is_ahead(make_request())) {
      endpoint_ = e;
      ahead_ = ahead::waits;
      return set_due();
    }
    ahead_ = ahead::no;
    handle(*e, [&] {
      if (e->answer) {
        response r = e->answer(make_request(), body_);
        if (core_ != nullptr) answer(std::move(r), e->takes_body);
      } else if (e->stream) {
        const request r = make_request();
        open_stream(*e, [&] { return e->stream(r, body_); });
      } else if (e->later) {
        endpoint_ = e;
        e->later(make_request(), body_, make_responder<response>());
      } else if (may_wait(*e)) {
        endpoint_ = e;
        set_due();
        e->later_stream(make_request(), body_, make_responder<verdict<user_type>>());
      }
    });
  }

  /// What is thrown answers the request, if nothing has yet.
  template <class F>
  void handle(endpoint& e, F&& f) {
    const std::uint32_t serial = serial_;
    try {
      f();
    } catch (const std::exception& x) {
      handler_failed(x.what(), serial, e.takes_body);
    } catch (...) {
      handler_failed("exception", serial, e.takes_body);
    }
  }

  void handler_failed(const char* what, std::uint32_t serial, bool body_read) {
    if (core_ == nullptr) return;
    core_->error(what, {});
    if (!peer_) return self().leave();  // the hub has it: one of its hooks threw
    if (serial == serial_) answer(core_->refusal(500), body_read);
  }

  /// It goes on as far as it can: the hub has what its client has, or there was no more time.
  void stop_waiting_ahead() {
    [[maybe_unused]] const auto held = self().hold();
    ahead_ = ahead::waited;
    call();
    if (core_ != nullptr) go_on();
  }

  // --- answers that come later

  template <class Answer>
  [[nodiscard]] basic_responder<Answer> make_responder() {
    using late = late_request<http_connection>;
    late_ = std::make_shared<late>(*this, core_->box());
    return basic_responder<Answer>{late::template sender<Answer>(late_), late_};
  }
  /// Nobody waits for it any more.
  std::shared_ptr<late_answer> let_go() noexcept {
    core_->hub().release(place_);
    if (late_ != nullptr) late_->to = nullptr;
    return std::exchange(late_, nullptr);
  }
  /// The request has its answer.
  void end_late() noexcept {
    if (const std::shared_ptr<late_answer> l = let_go(); l != nullptr) l->on_called_off = {};
  }
  /// Tells who still holds a responder, when it goes.
  struct called_off {
    explicit called_off(std::shared_ptr<late_answer> l) noexcept : late{std::move(l)} {}
    called_off(called_off&&) noexcept = default;
    called_off& operator=(called_off&&) = delete;
    ~called_off() {
      if (late == nullptr) return;
      late->called_off.store(true, std::memory_order_release);
      const function<void()> tell = std::move(late->on_called_off);
      try {
        if (tell) tell();
      } catch (...) {  // there is nobody to tell any more
      }
    }
    std::shared_ptr<late_answer> late;
  };
  [[nodiscard]] called_off give_up() noexcept { return called_off{let_go()}; }
  [[nodiscard]] bool awaits_verdict() const noexcept { return static_cast<bool>(place_); }
  [[nodiscard]] bool waits_for_stream() const noexcept {
    return awaits_verdict() || ahead_ == ahead::waits;
  }

  /// The time for it is over, or the server drains.
  void give_no_verdict() noexcept {
    guarded([&] {
      [[maybe_unused]] const auto held = self().hold();
      const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
      { const called_off now = give_up(); }
      if (core_ == nullptr) return;
      offer(*e, [&](connection_type&& c, const request& r, const std::string&) {
        const duration later = core_->hub().options().retry_max;
        return core_->hub().turn_away(std::move(c), r, {refusal_reason::no_verdict, 503, later});
      });
      go_on();
    });
  }

  // --- streams

  /// `ask`: gives the verdict.
  template <class Ask>
  requires std::is_invocable_v<Ask&>
  void open_stream(endpoint& e, Ask&& ask) {
    offer(e, [&](connection_type&& c, request& r, std::string& head) {
      return core_->accept(std::move(c), r, [&] {
        verdict<user_type> v = ask();
        if (core_ == nullptr) return v;  // the program stopped its server
        core_->add_to_head(head, e, v);
        r.preamble = head;
        return v;
      });
    });
  }
  void open_stream(endpoint& e, verdict<user_type> v) {
    offer(e, [&](connection_type&& c, request& r, std::string& head) {
      core_->add_to_head(head, e, v);
      r.preamble = head;
      return core_->accept(std::move(c), r, std::move(v));
    });
  }
  /// False: it was answered already.
  [[nodiscard]] bool may_wait(endpoint& e) {
    offer(e, [&](connection_type&& c, request& r, std::string&) {
      return core_->wait(std::move(c), r, place_);
    });
    return awaits_verdict();
  }

  template <class Hub>
  void offer(endpoint& e, Hub&& to) {
    request r = make_request();
    std::string head;
    const bool head_only = r.method == "HEAD";
    // What came behind the request already would be lost in the stream.
    const bool stays = reader_.answer(e.takes_body).keep_alive && !core_->ending() &&
                       (head_only || (!more_behind_ && in_.empty()));
    r.chunked = core_->write_head(head, e, r, stays);
    r.preamble = head;
    peer_.reuse(stays && r.chunked);
    accept_result out;
    {
      // A handler may stop the server, which ends this connection: the hub gets its own handle.
      handing_over given{*this, std::move(peer_)};
      out = to(std::move(given.connection), r, head);
    }
    if (core_ == nullptr || awaits_verdict()) return;
    if (!peer_) {  // it is the hub's now
      core_->log(r, 200, 0, began_, true);
      self().leave();
    } else if (out.head_only) {
      out_.append(head);
      answered_with(200, head.size(), stays);
    } else {
      answer(std::move(out.refusal), e.takes_body);
    }
  }
  struct handing_over {
    ~handing_over() {
      if (connection && me.core_ != nullptr) me.peer_ = std::move(connection);
    }
    http_connection& me;
    connection_type connection;
  };

  // --- bytes out

  void refuse(int status) { answer(core_->refusal(status), false); }

  void answer(response r, bool body_read, bool with_cors = true) {
    // A request that could not be read has a method at most.
    const bool readable = reader_.state() == http1::outcome::complete;
    const request q = readable ? make_request() : request{};
    if (with_cors) add_cors(r.headers, core_->cors_of(q), q);
    http1::response_options o = reader_.answer(body_read);
    o.keep_alive = o.keep_alive && readable && !core_->ending();
    const std::size_t before = out_.size();
    if (!http1::write_response(out_, r, o)) {
      core_->error("an answer with a bad status or header became 500", {});
      r.status = 500;
    }
    answered_with(r.status, out_.size() - before, o.keep_alive);
  }

  /// What was written answers the request; on to the next.
  void answered_with(int status, std::size_t bytes, bool keep_alive) {
    ++serial_;
    end_late();
    const bool readable = reader_.state() == http1::outcome::complete;
    request q = readable ? make_request() : request{.method = {}, .address = address_};
    core_->log(q, status, bytes, began_, false);
    if (core_ == nullptr) return;
    if (!forwarded_.empty()) address_.swap(forwarded_);
    forwarded_.clear();
    endpoint_ = nullptr;
    body_.clear();
    if (body_.capacity() > enough_output) body_.shrink_to_fit();
    if (!keep_alive || core_->ending()) {
      phase_ = phase::closing;
    } else {
      reader_.reset();
      phase_ = phase::head;
      idle_ = true;
    }
    set_due();
  }

  /// Writes what there is, or reads, or ends: whatever the phase asks for.
  void go_on() {
    while (core_ != nullptr && !writing_) {
      if (!out_.empty()) {
        self().write();
        if (writing_ && phase_ == phase::body && in_.empty()) self().read();
      } else if (phase_ == phase::closing) {
        return self().hang_up();
      } else if (phase_ == phase::opening) {
        call();
      } else if (phase_ == phase::head || phase_ == phase::body) {
        if (!in_.empty()) {
          std::string bytes;
          bytes.swap(in_);
          take(bytes);
        } else if (phase_ == phase::head && idle_ && core_->ending()) {
          return self().hang_up();
        } else {
          return self().read();
        }
      } else {
        return self().watch_end();
      }
    }
  }
  /// Some of out_ left, or is about to: what it has time for the rest.
  void await_write() {
    if (phase_ != phase::body) core_->await(self(), due_ = due::write);
  }
  /// All of it left.
  void wrote() {
    if (sending_.capacity() > enough_output) std::string{}.swap(sending_);
    set_due();
  }
  /// The same, where write() is over since.
  void wrote_all() {
    wrote();
    go_on();
  }

  /// The deadline that the state asks for; one that runs already goes on.
  void set_due() {
    due d = due::never;
    if (phase_ == phase::body) {
      d = due::body;
    } else if (awaits_verdict()) {
      d = due::verdict;
    } else if (ahead_ == ahead::waits) {
      d = due::ahead;
    } else if (writing_) {
      d = due::write;
    } else if (phase_ == phase::handshake) {
      d = due::handshake;
    } else if (phase_ == phase::head) {
      d = idle_ && serial_ != 0 ? due::idle : due::head;
    }
    if (d != due_) core_->await(self(), due_ = d);
  }

  [[nodiscard]] Self& self() noexcept { return static_cast<Self&>(*this); }

  connection_type peer_;
  Core* core_;  // nullptr: over
  http1::head_reader reader_;
  http1::body_reader framing_{};  // of the body
  std::string in_;                // received, not yet looked at
  std::string body_;
  std::string out_;        // to be written next
  std::string sending_;    // being written
  std::string address_;    // of the client
  std::string forwarded_;  // the peer's own, while address_ is the one that a proxy named
  std::shared_ptr<endpoint> endpoint_;
  std::shared_ptr<late_request<http_connection>> late_;  // somebody holds its responder
  typename Core::hub_type::place place_{};               // it waits for its verdict
  std::int64_t began_ = 0;                               // the request, in microseconds
  std::uint32_t serial_ = 0;                             // of the request
  phase phase_ = phase::head;
  ahead ahead_ = ahead::no;
  due due_ = due::never;
  bool idle_ : 1 = true;  // nothing of a request is there
  bool writing_ : 1 = false;
  bool serving_ : 1 = false;
  bool more_behind_ : 1 = false;  // bytes came with the end of the request that it had no use for
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_HTTP_CONNECTION_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `Core`: asio_core.
template <class Core>
class asio_connection final : public http_connection<asio_connection<Core>, Core>,
                              private asio_input<> {
  using base = http_connection<asio_connection, Core>;
  using typename base::phase;
  using transport_type = typename Core::transport_type;
  using stream_type = typename transport_type::stream_type;
  using self = ref<asio_connection>;
  static constexpr bool at_once = transport_type::at_once;

 public:
  asio_connection(Core& core, typename transport_type::connection c, std::string address)
      : base{core, std::move(c), std::move(address)} {
    asio_access::peer_of(peer_).taker = this;
  }

  void begin() {
    if constexpr (shakes_hands<stream_type>) phase_ = phase::handshake;
    set_due();
    if constexpr (shakes_hands<stream_type>) {
      peer_.stream().async_handshake(stream_type::server,
                                     [c = self{this}](const net_error& e) mutable {
                                       c->guarded([&] {
                                         if (e) return c->no_handshake(e);
                                         c->phase_ = phase::head;
                                         c->set_due();
                                         c->read();
                                       });
                                     });
    } else {
      read();
    }
  }

  /// The next request, after a stream; some of it may be there.
  void next() {
    const std::unique_ptr<std::string> held = std::move(asio_access::peer_of(peer_).held);
    if (held == nullptr) return read();
    in_ = std::move(*held);
    net::post(core_->executor(), [c = self{this}] { c->guarded([&] { c->go_on(); }); });
  }

  /// At once.
  void drop() noexcept {
    if (core_ == nullptr) return;
    if (peer_) asio_access::peer_of(peer_).end_now();
    leave();
  }

  std::uint32_t refs = 0;

 private:
  friend base;
  using base::core_, base::go_on, base::guarded, base::out_, base::peer_, base::phase_,
      base::sending_;
  using base::in_, base::serve, base::set_due, base::writing_;

  [[nodiscard]] self hold() noexcept { return self{this}; }

  void no_handshake(const net_error& e) {
    if constexpr (layered<stream_type>) {
      if (e == std::errc::protocol_error) {
        return this->refuse_handshake(peer_.stream().layer());
      }
    }
    drop();
  }
  void send_plain(std::string_view text) {
    net_error ignored;
    (void)socket_of(peer_.stream()).write_some(net::buffer(text), ignored);
  }

  // --- bytes in

  void read() {
    auto& peer = asio_access::peer_of(peer_);
    if (peer.reading) return;
    // Not async_wait: this one looks before it waits, and waits without a call to the kernel. What
    // comes is whose the connection is by then.
    peer_.stream().async_read_some(
        net::buffer(input_),
        [c = self{this}, p = asio_access::share(peer_)](const net_error& e, std::size_t n) {
          asio_access::have_input(*p, e, {c->input_.data(), n});
        });
    peer.reading = true;
  }

  void input(const net_error& e, std::string_view bytes) override {
    const self held{this};
    guarded([&] { e ? drop() : have_read(bytes); });
  }

  void have_read(std::string_view bytes) {
    if constexpr (at_once) {
      if (bytes.size() == input_.size() || bytes.data() != input_.data()) {
        auto& all = core_->scratch();  // there may be much more, such as a body
        std::size_t n = bytes.copy(all.data(), all.size());
        net_error ends_later;
        n += peer_.stream().read_some(net::buffer(all) + n, ends_later);
        if (n == 0 && ends_later && !would_block(ends_later)) return drop();
        return serve({all.data(), n});
      }
    }
    serve(bytes);
  }

  /// A read finds the peer's end, unless very much came before that. It is the transport's, since
  /// the stream that it waits for goes on with it and has no use for this object and its buffers.
  void watch_end() {
    if (!this->waits_for_stream() || in_.size() > transport_type::max_input) return;
    if (!asio_access::watch(asio_access::peer_of(peer_))) drop();
  }

  void write() {
    sending_.clear();
    sending_.swap(out_);
    sent_ = 0;
    write_some();
  }

  void write_some() {
    peer_.stream().async_write_some(net::buffer(sending_) + sent_,
                                    [c = self{this}](const net_error& e, std::size_t n) {
                                      c->writing_ = false;
                                      c->guarded([&] { c->wrote(e, n); });
                                    });
    writing_ = true;
    this->await_write();
  }

  void wrote(const net_error& e, std::size_t n) {
    if (e) return drop();
    sent_ += n;
    if (sent_ != sending_.size()) return write_some();
    this->wrote_all();
  }

  // --- the end

  void abort() noexcept {
    asio_access::peer_of(peer_).abort_now();
    drop();
  }
  /// After what was written, and without a reset that would take it from the peer.
  void hang_up() noexcept {
    if (core_ == nullptr) return;
    core_->transport().disconnect(std::move(peer_));
    leave();
  }

  /// The server does not know it any more; operations under way still hold it.
  void leave() noexcept {
    if (core_ == nullptr) return;
    const auto given_up = this->give_up();
    Core* const core = std::exchange(core_, nullptr);
    if (peer_) asio_access::peer_of(peer_).taker = nullptr;
    peer_ = {};
    core->forget(*this);
  }

  std::size_t sent_ = 0;
  std::array<char, at_once ? 1024 : 4096> input_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_ASIO_CONNECTION_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

template <class User, class Stream>
class asio_core : public server_core<User, asio_transport<Stream>>,
                  public std::enable_shared_from_this<asio_core<User, Stream>> {
  using base = server_core<User, asio_transport<Stream>>;

 public:
  /// Far below every deadline that makes sense.
  static constexpr duration long_pause = duration::milliseconds(100);
  using connection = asio_connection<asio_core>;
  using base::error, base::now, base::routes, base::scratch;
  using typename base::endpoint;
  using typename base::transport_type;

  asio_core(net::any_io_executor ex, const server_options& o,
            function<Stream(net::ip::tcp::socket)> make)
      : base{o}, executor_{std::move(ex)}, make_{std::move(make)}, timer_{executor_} {
    allow_times(waiting_, o);
    if (!make_) throw std::invalid_argument("nothing makes a stream of a socket");
    transport_.use_linger(true, o.clock);
    transport_.attach(*hub_, [this] {
      if (!flushes_) flush_soon();
    });
    transport_.on_kept([this](auto& c) {
      return this->take_back([&] {
        net_error gone;
        const auto from = c.stream().lowest_layer().remote_endpoint(gone).address();
        if (!gone) enter(c, from)->resume();
        return !gone;
      });
    });
  }
  ~asio_core() { abandon(); }

  /// The part of construction that needs a shared_ptr.
  void start() {
    transport_.keep_alive(this->weak_from_this());
    wake_.executor = executor_;
    wake_.core = this->weak_from_this();
    mail_.emplace(
        mailbox_options{.wake = &wake_loop,
                        .context = &wake_,
                        .mode = options_.busy_poll ? wake_mode::never : wake_mode::when_idle,
                        .limits = this->mail_limits()});
    inbox_ = std::make_shared<inbox>(&wake_loop, &wake_);
    this->join_shards();
    if (!mail_->prepare_sleep() || options_.busy_poll) flush_soon();
  }

  [[nodiscard]] const net::any_io_executor& executor() const noexcept { return executor_; }
  template <class Ask>
  [[nodiscard]] accept_result accept(typename transport_type::connection&& c, const request& r,
                                     Ask&& ask) {
    const calling_hub in{*this};
    return looked_at(this->admit(std::move(c), r, std::forward<Ask>(ask)));
  }
  template <class Place>
  [[nodiscard]] accept_result wait(typename transport_type::connection&& c, const request& r,
                                   Place& place) {
    const calling_hub in{*this};
    return looked_at(hub_->wait(std::move(c), r, place));
  }

  /// Gives a connection a deadline instead of the one it has.
  void await(connection& c, due what) {
    waiting_.await(c, what, now());
    if (c.due_at < timer_at_) arm_timer();
  }
  void forget(connection& c) noexcept {
    chain<connection>::unlink(c);
    const ref<connection> last{&c};
    --c.refs;  // the core's own
    if (draining_) flush_soon();
  }

  // --- the loop

  /// Sends what was published: once, however often it is asked.
  void flush_soon() noexcept {
    if (scheduled_ || stopped_) return;
    try {
      net::post(executor_, [core = this->shared_from_this()] {
        core->scheduled_ = false;
        core->turn();
      });
      scheduled_ = true;
    } catch (...) {  // memory is out: what comes next tries again, at the latest the next deadline
      hub_->wanted_in_vain();
    }
  }

  bool close_channel(channel c) noexcept {
    flush_soon();
    return hub_->close_channel(c);
  }
  [[nodiscard]] std::size_t connections() const noexcept {
    return transport_.lingering() + hub_->sessions() + waiting_.size();
  }

  // --- listening

  [[nodiscard]] std::error_code listen(std::string_view host, std::uint16_t port) {
    if (this->ending()) return std::make_error_code(std::errc::operation_canceled);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    const std::size_t before = listeners_.size();
    const std::error_code e = open_listeners(host, port);
    if (e) {
      listeners_.resize(before);
    } else {
      for (std::size_t i = before; i < listeners_.size(); ++i) accept(*listeners_[i]);
    }
    return e;
  }

  [[nodiscard]] std::uint16_t port() const noexcept {
    net_error ignored;
    if (listeners_.empty()) return 0;
    return listeners_.front()->acceptor.local_endpoint(ignored).port();
  }

  // --- the end

  void begin_drain(const drain_options& o, function<void(net_error)> done) {
    drained_.push_back(std::move(done));
    if (stopped_) return finish_drain(net::error::operation_aborted);
    if (!draining_) {
      draining_ = true;
      close_listeners();
      this->touch_clock();
      hub_->drain(o);
      cut_at_ = (now() + o.deadline).ms();
      waiting_.for_each([](connection& c) {
        const ref<connection> held{&c};
        c.drain();
      });
    }
    flush_soon();
  }

  /// Ends everything now.
  void stop() noexcept {
    if (stopped_) return;
    stopped_ = true;
    close_listeners();
    timer_.cancel();
    if (mail_) mail_->close();
    transport_.use_linger(false);
    waiting_.for_each([](connection& c) { c.drop(); });
    if (calls_ == 0) end_streams();
    finish_drain(net::error::operation_aborted);
  }

  /// The host's half is gone: nothing of it may be called any more. The hub goes now, or once the
  /// last write that reads its bytes is over.
  void abandon() noexcept {
    if (!hub_) return;
    stop();
    this->forget_hooks();
    if (inbox_) inbox_->close();
    make_ = {};
    if (transport_.in_flight() == 0) hub_.reset();
  }

 private:
  using base::draining_, base::hub_, base::inbox_, base::mail_, base::options_, base::port_,
      base::stopped_;
  using base::transport_;

  /// A hook that stops the server meanwhile ends the streams when this is over.
  struct calling_hub {
    explicit calling_hub(asio_core& c) noexcept : core{c} { ++core.calls_; }
    calling_hub(const calling_hub&) = delete;
    calling_hub& operator=(const calling_hub&) = delete;
    ~calling_hub() {
      if (--core.calls_ == 0 && core.stopped_) core.end_streams();
    }
    asio_core& core;
  };
  /// A long replay goes on after its first share; a shard may have caught up for this one.
  [[nodiscard]] accept_result looked_at(accept_result out) noexcept {
    if (out.id || port_) flush_soon();
    arm_timer();
    return out;
  }
  void end_streams() noexcept {
    hub_->close_all_soon();
    transport_.cut_all();
    if (port_) port_.report_end(hub_->stats());
  }

  struct listener {
    explicit listener(const net::any_io_executor& ex) : acceptor{ex} {}
    net::ip::tcp::acceptor acceptor;
    net::ip::tcp::endpoint from;  ///< where one cannot wait
    bool paused = false;
  };
  struct wake_context {
    net::any_io_executor executor;
    std::weak_ptr<asio_core> core;
  };

  /// On a publisher's thread.
  static void wake_loop(void* context) noexcept {
    auto& w = *static_cast<wake_context*>(context);
    try {
      net::post(w.executor, [weak = w.core] {
        if (const auto core = weak.lock()) core->turn();
      });
    } catch (...) {  // memory is out: the mail lies until the next turn
    }
  }

  void turn() {
    if (stopped_) return;
    const calling_hub in{*this};
    flushes_ = true;
    this->drain_mail();
    this->look_at_those_ahead(waiting_);
    this->take_late_answers();
    if (stopped_) return;
    if (this->shards_end()) begin_drain(port_.how_to_drain(), [](net_error) {});
    if (looks_ != 0) return;
    const time_point t = now();
    if (t - told_ > long_pause && next_deadline() <= t.ms() && look_first(t)) return;
    go_on(t);
  }

  /// Calls go_on(t) once all that is ready at `t` was served. One pass of the executor through what
  /// it has to do brings what some more connections are ready for; Asio's own takes 128 at a time.
  /// False: memory is out.
  [[nodiscard]] bool look_first(time_point t) noexcept {
    looks_ = 3 + connections() / 100;
    return look(t);
  }
  [[nodiscard]] bool look(time_point t) noexcept {
    try {
      net::post(executor_, [core = this->shared_from_this(), t] {
        if (--core->looks_ != 0 && core->look(t)) return;
        core->looks_ = 0;
        if (!core->stopped_) core->go_on(t);
      });
      return true;
    } catch (...) {
      looks_ = 0;
      return false;
    }
  }

  void go_on(time_point t) {
    const calling_hub in{*this};
    told_ = t;
    cut_ = cut_ || (t.ms() >= cut_at_ && hub_->sessions() != 0);
    hub_->tick(t);
    expire(t);
    if (stopped_) return;
    this->touch_clock();
    flushes_ = false;
    const bool more = hub_->flush();
    this->report_to_shards();
    if (draining_) check_drained(t);
    if (stopped_) return;
    arm_timer();
    if (more || options_.busy_poll || !mail_->prepare_sleep()) flush_soon();
  }

  void expire(time_point t) noexcept {
    waiting_.expire(t, [&](connection& late, due what) {
      const ref<connection> c{&late};
      c->expired(what);
      if (c->hook.in != nullptr && c->due_at <= t.ms()) c->drop();
    });
    transport_.expire(t);
    if (accept_again_ > t.ms()) return;
    accept_again_ = INT64_MAX;
    for (const auto& l : listeners_) {
      if (std::exchange(l->paused, false)) accept(*l);
    }
  }

  /// Of everything, in milliseconds; INT64_MAX: none.
  [[nodiscard]] std::int64_t next_deadline() const noexcept {
    std::int64_t next = hub_->next_deadline().ms();
    const auto also = [&](std::int64_t t) { next = t < next ? t : next; };
    also(waiting_.next());
    also(transport_.next_deadline().ms());
    also(accept_again_);
    if (draining_) also(cut_at_);
    return next;
  }

  void arm_timer() noexcept {
    const std::int64_t next = next_deadline();
    if (next >= timer_at_ || next == INT64_MAX || stopped_) return;
    try {
      const std::int64_t left = next - now().ms();
      timer_.expires_after(std::chrono::milliseconds{left > 0 ? left : 0});
      timer_.async_wait([core = this->shared_from_this()](const net_error& e) {
        if (e) return;
        core->timer_at_ = INT64_MAX;
        core->turn();
      });
      timer_at_ = next;
    } catch (...) {
      timer_at_ = INT64_MAX;  // memory is out: the next turn tries again
    }
  }

  /// On an address, or on all of a name's. What the machine has not is left out unless nothing else
  /// is there.
  [[nodiscard]] std::error_code open_listeners(std::string_view host, std::uint16_t port) {
    net_error e;
    const net::ip::address address = net::ip::make_address(std::string{host}, e);
    if (!e) return open_listener({address, port}, false);

    net::ip::tcp::resolver resolver{executor_};
    const auto found =
        resolver.resolve(host, std::to_string(port), net::ip::tcp::resolver::passive, e);
    if (e) return portable(e);
    const std::size_t before = listeners_.size();
    std::error_code absent;
    for (const auto& entry : found) {  // such as both versions of localhost, on one port
      net::ip::tcp::endpoint at = entry.endpoint();
      const bool first = listeners_.size() == before;
      if (port == 0 && !first) at.port(listeners_[before]->acceptor.local_endpoint().port());
      const std::error_code failed = open_listener(at, true);
      if (!failed) continue;
      if (failed != std::errc::address_not_available &&
          failed != std::errc::address_family_not_supported)
        return failed;
      absent = failed;
    }
    return listeners_.size() == before ? absent : std::error_code{};
  }

  [[nodiscard]] std::error_code open_listener(const net::ip::tcp::endpoint& at, bool one_version) {
    auto l = std::make_unique<listener>(executor_);
    net_error e;
    net::ip::tcp::acceptor& a = l->acceptor;
    (void)a.open(at.protocol(), e);
    if (!e) close_on_exec(a);
#if !defined(_WIN32)  // there it would let two servers share a port
    if (!e) (void)a.set_option(net::ip::tcp::acceptor::reuse_address{true}, e);
#endif
#if defined(SO_REUSEPORT)
    const int on = 1;
    if (!e && options_.reuse_port &&
        ::setsockopt(a.native_handle(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) {
      e.assign(errno, net::error::get_system_category());
    }
#endif
    if (!e && at.protocol() == net::ip::tcp::v6()) {
      (void)a.set_option(net::ip::v6_only{one_version}, e);
    }
    if (!e && inherits_options) e = set_options(a);
    if (!e) (void)a.bind(at, e);
    if (!e) (void)a.listen(net::socket_base::max_listen_connections, e);
    if (!e) (void)a.non_blocking(true, e);
    if (e) return portable(e);
    listeners_.push_back(std::move(l));
    return {};
  }

  /// Those that accepted sockets have, set before any is there.
#if defined(__linux__)
  static constexpr bool inherits_options = true;
#else
  static constexpr bool inherits_options = false;
#endif
  template <class Socket>
  [[nodiscard]] net_error set_options(Socket& s) const noexcept {
    net_error e;
    if (options_.nodelay) (void)s.set_option(net::ip::tcp::no_delay{true}, e);
    if (!e && options_.send_buffer != 0) {
      const net::socket_base::send_buffer_size size{static_cast<int>(options_.send_buffer)};
      (void)s.set_option(size, e);
    }
#if defined(TCP_NOTSENT_LOWAT)
    const auto unsent = static_cast<int>(options_.unsent);
    if (!e && unsent != 0 &&
        ::setsockopt(s.native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent) !=
            0) {
      e.assign(errno, net::error::get_system_category());
    }
#endif
    return e;
  }

  /// Asio drops an operation without a word if memory is out just then: so its handler notices its
  /// own end.
  struct on_waiting {
    on_waiting(std::shared_ptr<asio_core> c, listener& l) noexcept : core{std::move(c)}, at{&l} {}
    on_waiting(on_waiting&&) noexcept = default;
    on_waiting& operator=(on_waiting&&) = delete;
    ~on_waiting() {
      if (core != nullptr && !core->ending()) core->accept_later(*at);
    }
    void operator()(const net_error&) {
      const std::shared_ptr<asio_core> c = std::move(core);
      c->accept_all(*at);
    }
    void operator()(const net_error& e, net::ip::tcp::socket s) {
      const std::shared_ptr<asio_core> c = std::move(core);
      if (!c->ending()) c->accept_first(*at, e, std::move(s));
    }
    std::shared_ptr<asio_core> core;
    listener* at;
  };

  void accept(listener& l) noexcept {
    if (this->ending()) return;
    try {
      on_waiting then{this->shared_from_this(), l};
#if defined(_WIN32)  // a wait would be a read there, which a listening socket cannot
      l.acceptor.async_accept(l.from, std::move(then));
#else
      l.acceptor.async_wait(net::socket_base::wait_read, std::move(then));
#endif
    } catch (...) {
      accept_later(l);
    }
  }

  void accept_all(listener& l) noexcept {
    for (int most = 64; most > 0 && !this->ending(); --most) {
      net_error e;
      bool accepted = true;
      tell_thrown([&] {
        net::ip::tcp::endpoint from;
        net::ip::tcp::socket s = accept_one(l.acceptor, from, e);
        if (!would_block(e)) accepted = take_accepted(e, std::move(s), from.address());
      });
      if (would_block(e)) break;
      if (!accepted) return accept_later(l);
    }
    accept(l);
  }

  void accept_first(listener& l, const net_error& e, net::ip::tcp::socket s) noexcept {
    bool accepted = true;
    tell_thrown([&] { accepted = take_accepted(e, std::move(s), l.from.address()); });
    accepted ? accept_all(l) : accept_later(l);
  }

  /// False: it does not help to try again at once, since descriptors or memory may be out.
  [[nodiscard]] bool take_accepted(const net_error& e, net::ip::tcp::socket s,
                                   const net::ip::address& from) {
    if (!e) {
      welcome(std::move(s), from);
      return true;
    }
    error("accept", portable(e));
    return e == net::error::connection_aborted || e == net::error::interrupted;
  }

  template <class F>
  void tell_thrown(F f) noexcept {
    try {
      f();
    } catch (const std::exception& x) {
      error(x.what(), {});
    } catch (...) {
      error("exception", {});
    }
  }

  void accept_later(listener& l) noexcept {
    l.paused = true;
    accept_again_ = now().ms() + 100;
    arm_timer();
  }

  void welcome(net::ip::tcp::socket s, const net::ip::address& from) {
    if (!inherits_options) (void)set_options(s);
    const std::uint32_t most = options_.max_connections;
    if (most != 0 && connections() >= most) make_room(waiting_, options_, now());
    if (most != 0 && connections() >= most) {
      return turn_away(std::move(s), from);
    }
    auto made = transport_.adopt_made([&]() -> Stream { return make_(std::move(s)); });
    const ref<connection> c = enter(made, from);
    try {
      c->begin();
    } catch (...) {
      c->drop();
      throw;
    }
    limit_handshakes(waiting_, options_);
  }

  /// It is one of the server's, until forget(). Throws: `c` was not taken.
  ref<connection> enter(typename transport_type::connection& c, const net::ip::address& from) {
    std::string address = plain_address(from).to_string();
    ref<connection> entered{new connection{*this, std::move(c), std::move(address)}};
    ++entered->refs;  // the core's own
    waiting_.await(*entered, due::never, {});
    return entered;
  }

  /// Too many connections. Nothing waits for this one, so that they cost nothing.
  void turn_away(net::ip::tcp::socket s, const net::ip::address& from) {
    std::string out;
    if constexpr (plain_socket<Stream>) {
      out = say_crowded(s);
    } else if constexpr (layered<Stream>) {
      Stream made = make_(std::move(s));
      if (!made.secure()) out = say_crowded(socket_of(made));
    }
    const std::string address = plain_address(from).to_string();
    this->log({.method = {}, .address = address}, 503, out.size(), base::now_us(), false);
  }

  [[nodiscard]] std::string say_crowded(net::ip::tcp::socket& s) {
    net_error ignored;
    std::string out = this->crowded();
    s.non_blocking(true, ignored);
    (void)s.write_some(net::buffer(out), ignored);
    (void)s.shutdown(net::socket_base::shutdown_send, ignored);
    (void)s.read_some(net::buffer(scratch()), ignored);
    return out;
  }

  void close_listeners() noexcept {
    net_error ignored;
    for (const auto& l : listeners_) {
#if defined(__linux__)  // a child process may listen too, and then closing ends nothing
      ::shutdown(l->acceptor.native_handle(), SHUT_RDWR);
#endif
      (void)l->acceptor.close(ignored);
    }
  }

  void check_drained(time_point t) noexcept {
    std::size_t left = waiting_.size();
    // A stream that says goodbye by itself needs a moment for that.
    if (!transport_type::at_once) left += transport_.lingering();
    const bool over = left == 0 && hub_->drained();
    if (over && !cut_) return finish_drain({});
    if (over || t.ms() >= cut_at_) finish_drain(net::error::timed_out);
  }

  void finish_drain(net_error e) noexcept {
    std::vector<function<void(net_error)>> waiting_for;
    waiting_for.swap(drained_);
    stop();
    for (const auto& done : waiting_for) {
      try {
        done(e);
      } catch (...) {
      }
    }
  }

  net::any_io_executor executor_;
  function<Stream(net::ip::tcp::socket)> make_;
  wake_context wake_;
  net::steady_timer timer_;
  std::int64_t timer_at_ = INT64_MAX;
  std::vector<std::unique_ptr<listener>> listeners_;
  std::int64_t accept_again_ = INT64_MAX;
  waiting_room<connection> waiting_;
  std::vector<function<void(net_error)>> drained_;
  std::int64_t cut_at_ = INT64_MAX;
  time_point told_ = this->now();
  std::uint32_t calls_ = 0;  // of the hub, under way
  std::size_t looks_ = 0;    // that are still to be taken before time is told
  bool scheduled_ = false;
  bool flushes_ = false;  ///< in the turn under way, later
  bool cut_ = false;      // streams were open when the time for draining was over
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_ASIO_CORE_HPP

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
