// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/epoll.hpp
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
#ifndef SSEHUB_EPOLL_HPP
#define SSEHUB_EPOLL_HPP

#include <memory>

// ---- sse/detail/server/epoll_core.hpp
//
// What stands behind epoll_server: the loop, its listeners, and connections until they are streams.
// Not public.
//
// One turn of the loop: wait, serve what is ready, mail in, time in, overdue connections out,
// hub.flush(). Nothing becomes overdue by a moment before all that was ready by then was looked at,
// so that a process that was stopped, or slept with its machine, ends nobody for that. The data of
// an epoll event is a stream (epoll_transport), a connection's address, or one of the small numbers
// below.
#ifndef SSEHUB_DETAIL_SERVER_EPOLL_CORE_HPP
#define SSEHUB_DETAIL_SERVER_EPOLL_CORE_HPP

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

// ---- sse/detail/base/intrusive_list.hpp
//
// Lists through their elements, and lists of elements that wait for a deadline. Not public.
#ifndef SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP
#define SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP

#include <array>
#include <cstddef>
#include <cstdint>

#include "sse.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

template <class T>
struct chain;

/// What lets an object stand in one chain.
template <class T>
struct link {
  T* next = nullptr;
  T* prev = nullptr;
  chain<T>* in = nullptr;
};

/// A list through the `hook` of its elements, which it does not own.
template <class T>
struct chain {
  T* first = nullptr;
  T* last = nullptr;
  std::size_t size = 0;

  void push_back(T& t) noexcept {
    unlink(t);
    t.hook = {nullptr, last, this};
    (last != nullptr ? last->hook.next : first) = &t;
    last = &t;
    ++size;
  }
  static void unlink(T& t) noexcept {
    chain* const c = t.hook.in;
    if (c == nullptr) return;
    (t.hook.prev != nullptr ? t.hook.prev->hook.next : c->first) = t.hook.next;
    (t.hook.next != nullptr ? t.hook.next->hook.prev : c->last) = t.hook.prev;
    --c->size;
    t.hook = {};
  }
};

/// What a connection is given time for.
enum class due : std::uint8_t { never, handshake, head, body, verdict, ahead, idle, write, linger };
inline constexpr std::size_t due_count = static_cast<std::size_t>(due::linger) + 1;

/// Connections by what they are given time for. Each kind has one length for the whole server, so
/// that deadlines stand in line by themselves. `T` has `hook` and `due_at`, in milliseconds.
template <class T>
class waiting_room {
 public:
  void allow(due what, duration length) noexcept { line_of(what).length = length; }

  /// Gives `t` a deadline instead of the one it has.
  void await(T& t, due what, time_point now) noexcept {
    line& l = line_of(what);
    l.list.push_back(t);
    t.due_at = l.length.is_off() ? INT64_MAX : (now + l.length).ms();
  }
  [[nodiscard]] std::size_t size() const noexcept {
    std::size_t n = 0;
    for (const line& l : lines_) n += l.list.size;
    return n;
  }
  /// Those that wait for `what`, longest first.
  [[nodiscard]] const chain<T>& waiting_for(due what) noexcept { return line_of(what).list; }
  /// In milliseconds; INT64_MAX: none.
  [[nodiscard]] std::int64_t next() const noexcept {
    std::int64_t first = INT64_MAX;
    for (const line& l : lines_) {
      if (l.list.first != nullptr && l.list.first->due_at < first) first = l.list.first->due_at;
    }
    return first;
  }
  /// Calls f(element, what for) for those whose time is up; f takes each out or gives it more time.
  template <class F>
  void expire(time_point now, F f) noexcept {
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      const chain<T>& list = lines_[i].list;
      while (list.first != nullptr && list.first->due_at <= now.ms()) {
        f(*list.first, static_cast<due>(i));
      }
    }
  }
  /// Calls f(element) for those that are there now; f may take it out, and destroy it.
  template <class F>
  void for_each(F f) noexcept {
    for (line& l : lines_) each_of(l.list, f);
  }
  /// The same for those that wait for `what`.
  template <class F>
  void for_each(due what, F f) noexcept {
    each_of(line_of(what).list, f);
  }

 private:
  struct line {
    chain<T> list;
    duration length;
  };
  template <class F>
  static void each_of(chain<T>& list, F& f) noexcept {
    chain<T> all;
    while (list.first != nullptr) all.push_back(*list.first);
    while (all.first != nullptr) {
      T& t = *all.first;
      list.push_back(t);
      f(t);
    }
  }
  [[nodiscard]] line& line_of(due what) noexcept { return lines_[static_cast<std::size_t>(what)]; }

  std::array<line, due_count> lines_{};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP
// ---- sse/detail/net/epoll_listen.hpp
//
// Addresses and listening sockets of the epoll host. Not public.
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

#include "epoll_transport.hpp"

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

/// A connection that is not, or not yet, a stream. It lives until the end of the turn in which it
/// was over. Watched for levels, and only for what it waits for.
template <class Core>
class epoll_connection : public http_connection<epoll_connection<Core>, Core> {
  using base = http_connection<epoll_connection, Core>;
  using typename base::phase;
  static constexpr std::size_t max_linger_input = 8U << 20U;
  static constexpr std::uint32_t input = EPOLLIN | EPOLLRDHUP;
  static constexpr bool secure = Core::transport_type::secure;

 public:
  using base::base;

  void begin() noexcept {
    guarded([&] {
      if constexpr (secure) {
        if (peer_.layer()) phase_ = phase::handshake;
      }
      set_due();
      receive();  // a request may have come with it: then nothing waits for it
    });
  }

  void on_event(std::uint32_t events) noexcept {
    guarded([&] {
      if (lingering_) return linger(events);
      if (phase_ == phase::handshake) return receive();
      if (phase_ == phase::answering && !writing_) {
        if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) drop();
        return;
      }
      const bool sends = writing_;
      if (sends && (events & ~input) != 0) {
        write_some();
        if (core_ != nullptr && !writing_) this->wrote_all();
      }
      if (core_ != nullptr && (!sends || (events & watched_ & input) != 0)) receive();
    });
  }

  /// The next request, after a stream; it may be there already.
  void next() noexcept { read(); }

  /// What it waits for may be there already. Asked as epoll asks: room for a few bytes that nobody
  /// took since is no progress of the peer's.
  void look() noexcept {
    pollfd ready{peer_.fd(), POLLIN | POLLOUT, 0};
    if (::poll(&ready, 1, 0) <= 0) return;
    on_event(((ready.revents & POLLOUT) != 0 ? EPOLLOUT : 0U) |
             ((ready.revents & ~POLLOUT) != 0 ? EPOLLIN : 0U));
  }

  /// At once.
  void drop() noexcept {
    if (core_ == nullptr) return;
    const bool ended = lingering_ && (watched_ & EPOLLOUT) == 0;  // our side
    if (!ended) ::shutdown(peer_.fd(), SHUT_RDWR);
    peer_.unwatch(core_->epoll());
    peer_ = {};
    leave();
  }
  [[nodiscard]] bool lingering() const noexcept { return lingering_; }

 private:
  friend base;
  using base::core_, base::due_, base::guarded, base::out_, base::peer_, base::phase_,
      base::sending_;
  using base::serve, base::set_due, base::writing_;

  [[nodiscard]] int hold() const noexcept { return 0; }

  void read() noexcept { want(writing_ ? input | EPOLLOUT : input); }

  /// Nothing is read: only the end of the connection is of interest, and while a verdict is awaited
  /// that of the peer's side too.
  void watch_end() noexcept { want(this->waits_for_stream() ? EPOLLRDHUP : 0U); }

  void receive() {
    if constexpr (secure) {
      if (phase_ == phase::handshake && !shake_hands()) return;
    }
    auto& bytes = core_->scratch();
    const ssize_t n = peer_.receive(bytes.data(), bytes.size());
    if (n > 0) return serve({bytes.data(), static_cast<std::size_t>(n)});
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return read();
    drop();
  }

  /// True: it is over, and the requests may come.
  [[nodiscard]] bool shake_hands() {
    auto& layer = peer_.layer();
    const auto s = layer.handshake();
    using step = std::remove_const_t<decltype(s)>;
    if (s == step::done) {
      phase_ = phase::head;
      set_due();
      return true;
    }
    if (s == step::want_read) {
      const bool holds = layer.flush() == step::want_write;
      want(holds ? input | EPOLLOUT : input);
    } else if (s == step::failed) {
      this->refuse_handshake(layer);
    } else {
      drop();
    }
    return false;
  }
  void send_plain(std::string_view text) noexcept {
    (void)!::send(peer_.fd(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void write() {
    sending_.clear();
    sending_.swap(out_);
    sent_ = 0;
    write_some();
    if (core_ != nullptr && !writing_) this->wrote();
  }

  void write_some() {
    const ssize_t n = peer_.send(sending_.data() + sent_, sending_.size() - sent_);
    if (n < 0 && errno != EAGAIN) return drop();
    sent_ += n > 0 ? static_cast<std::size_t>(n) : 0;
    writing_ = sent_ != sending_.size() || peer_.holds();
    if (!writing_) return;
    want(phase_ == phase::body ? input | EPOLLOUT : EPOLLOUT);
    if (core_ != nullptr && (n > 0 || due_ != due::write)) this->await_write();
  }

  void want(std::uint32_t events) noexcept {
    if (events == std::exchange(watched_, events)) return;
    if (peer_.watch(core_->epoll(), events, reinterpret_cast<std::uintptr_t>(this))) return;
    core_->error("epoll_ctl", last_error());
    drop();
  }

  /// After what was written, and without a reset that would take it from the peer: it closes first.
  void hang_up() noexcept {
    if (core_ == nullptr || lingering_) return;
    lingering_ = true;
    sent_ = 0;
    core_->await(*this, due::linger);
    end_output();
  }
  void end_output() noexcept { want(peer_.end_output() ? input : input | EPOLLOUT); }
  void linger(std::uint32_t events) noexcept {
    if ((events & EPOLLOUT) != 0) end_output();
    if (core_ != nullptr && (events & ~EPOLLOUT) != 0) discard();
  }
  void discard() noexcept {
    auto& sink = core_->scratch();
    const ssize_t n = ::recv(peer_.fd(), sink.data(), sink.size(), 0);
    if (n < 0 && errno == EAGAIN) return;
    sent_ += n > 0 ? static_cast<std::size_t>(n) : 0;
    if (n <= 0 || sent_ > max_linger_input) drop();
  }
  void abort() noexcept {
    end_by_reset(peer_.fd());
    drop();
  }
  void leave() noexcept {
    if (core_ == nullptr) return;
    const auto given_up = this->give_up();
    std::exchange(core_, nullptr)->forget(*this);
  }

  std::size_t sent_ = 0;
  std::uint32_t watched_ = 0;
  bool lingering_ = false;
};

/// So that the descriptor is there before the transport is made.
struct epoll_loop {
  unique_fd epoll_fd{::epoll_create1(EPOLL_CLOEXEC)};
  unique_fd wake_fd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
};

/// `Transport`: epoll_transport, or one that derives from it and has
///   reap(hub)    after a flush: reports to the hub, true if there was anything
///   settle(hub)  after all streams were closed: waits until the hub's bytes are not read any more
template <class User, class Transport>
class epoll_core : private epoll_loop, public server_core<User, Transport> {
  using base = server_core<User, Transport>;
  static constexpr std::uint64_t woken = 1;  // by a publisher, or interrupt()
  static constexpr std::uint64_t listening = 2;
  static constexpr std::uint64_t numbers = 2;  // where connections begin

 public:
  using connection = epoll_connection<epoll_core>;
  using base::error, base::now;
  using typename base::endpoint;

  epoll_core(const server_options& o, typename Transport::security s)
      : base{o, epoll_loop::epoll_fd.get(), s} {
    if (!epoll_fd || !watch(epoll(), wake_fd.get(), EPOLLIN | EPOLLET, woken, false)) {
      throw std::system_error{last_error(), "epoll"};
    }
    transport_.on_kept([this](auto& c) {
      return this->take_back([&] {
        std::string from = peer_address(c.fd());
        if (from.empty()) return false;
        enter(static_cast<typename Transport::connection&>(c), std::move(from)).resume();
        return true;
      });
    });
    hub_->on_wanted([this] { more_ = more_ || !flushes_; });
    allow_times(waiting_, o);
    waiting_.allow(due::linger, duration::seconds(2));
    mail_.emplace(mailbox_options{.wake = &wake_loop,
                                  .context = &wake_fd,
                                  .mode = o.busy_poll ? wake_mode::never : wake_mode::when_idle,
                                  .limits = this->mail_limits()});
    inbox_ = std::make_shared<inbox>(&wake_loop, &wake_fd);
    this->join_shards();
  }
  ~epoll_core() { abandon(); }

  // --- what connections and the server ask

  [[nodiscard]] int epoll() const noexcept { return epoll_fd.get(); }
  template <class Ask>
  [[nodiscard]] accept_result accept(typename Transport::connection&& c, const request& r,
                                     Ask&& ask) {
    return this->admit(std::move(c), r, std::forward<Ask>(ask));
  }
  template <class Place>
  [[nodiscard]] accept_result wait(typename Transport::connection&& c, const request& r,
                                   Place& place) {
    return hub_->wait(std::move(c), r, place);
  }
  void await(connection& c, due what) noexcept { waiting_.await(c, what, now()); }
  void forget(connection& c) noexcept { over_.push_back(c); }
  void flush_soon() noexcept { more_ = true; }
  bool close_channel(channel c) noexcept {
    flush_soon();
    return hub_->close_channel(c);
  }
  [[nodiscard]] std::size_t connections() const noexcept {
    return hub_->sessions() + waiting_.size();
  }
  [[nodiscard]] std::error_code listen(std::string_view host, std::uint16_t port) {
    if (this->ending()) return std::make_error_code(std::errc::operation_canceled);
    const std::size_t before = listeners_.size();
    const listen_options o{.reuse_port = options_.reuse_port,
                           .nodelay = options_.nodelay,
                           .send_buffer = options_.send_buffer,
                           .unsent = options_.unsent};
    std::error_code e = listen_on(host, port, o, listeners_);
    for (std::size_t i = before; !e && i < listeners_.size(); ++i) {
      if (!watch(epoll(), listeners_[i].get(), EPOLLIN, listening, false)) e = last_error();
    }
    if (e) listeners_.resize(before);
    return e;
  }
  [[nodiscard]] std::uint16_t port() const noexcept {
    return listeners_.empty() ? std::uint16_t{0} : port_of(listeners_.front().get());
  }

  // --- the loop

  [[nodiscard]] time_point next_deadline() const noexcept {
    std::int64_t next = hub_->next_deadline().ms();
    for (const std::int64_t t : {waiting_.next(), accept_again_}) next = t < next ? t : next;
    return time_point::milliseconds(more_ ? INT64_MIN : next);
  }
  /// Until the server is stopped, or interrupted, or its sequencer drained all shards.
  void run() {
    while (!stopped_ && !interrupted_.exchange(false, std::memory_order_acquire)) {
      turn(duration::infinite());
      if (this->shards_end()) (void)drain(port_.how_to_drain());
    }
  }
  /// From any thread, and from a signal handler.
  void interrupt() noexcept {
    interrupted_.store(true, std::memory_order_release);
    wake_loop(&wake_fd);
  }

  /// One turn that waits at most so long for something to do.
  void turn(duration most) {
    if (stopped_) return;
    in_turn_ = flushes_ = true;
    event_list events;
    const std::size_t n = wait_for(events, ms_to_wait(most));
    std::size_t others = 0;
    for (std::size_t i = 0; i < n && !stopped_; ++i) {
      const epoll_event& e = events[i];
      if (!transport_.on_event(*hub_, e) && e.data.u64 != woken) events[others++] = e;
    }
    if (!stopped_) tell_time();
    for (std::size_t i = 0; i < others && !stopped_; ++i) {
      const epoll_event& e = events[i];
      if (e.data.u64 > numbers) {
        reinterpret_cast<connection*>(e.data.u64)->on_event(e.events);
      } else {
        accept_all();
      }
    }
    if (!stopped_) send_all();
    in_turn_ = false;
    if (stopped_) end_streams();
    bury();
  }

  /// True: everybody has what there was. False: the deadline cut some, or the server was stopped.
  bool drain(const drain_options& o) {
    if (this->ending()) return false;
    draining_ = true;
    close_listeners();
    tell_time();
    const std::int64_t cut_at = (now() + o.deadline).ms();
    drain_options patient = o;
    patient.deadline = duration::infinite();  // what is left then is cut below
    hub_->drain(patient);
    waiting_.for_each([](connection& c) { c.drain(); });
    const auto over = [&] {
      std::size_t answers = 0;  // that are not written yet
      waiting_.for_each([&](connection& c) { answers += c.lingering() ? 0U : 1U; });
      return answers == 0 && hub_->drained();
    };
    flush_soon();
    bool clean = over();
    for (std::int64_t rest = 1; !clean && !stopped_ && rest > 0; rest = cut_at - now().ms()) {
      turn(duration::milliseconds(rest));
      clean = over();
    }
    clean = clean && !stopped_;
    stop();
    return clean;
  }

  void stop() noexcept {
    if (stopped_) return;
    stopped_ = true;
    close_listeners();
    mail_->close();
    waiting_.for_each([](connection& c) { c.drop(); });
    if (!in_turn_) end_streams();  // else at its end: this may be one of the hub's hooks
  }

  void abandon() noexcept {
    if (!hub_) return;
    stop();
    this->forget_hooks();
    inbox_->close();
    if constexpr (requires { transport_.settle(*hub_); }) transport_.settle(*hub_);
    hub_.reset();
    bury();
  }

 private:
  void close_listeners() noexcept {
    // A child process may listen too, and then closing ends nothing.
    for (const unique_fd& l : listeners_) ::shutdown(l.get(), SHUT_RDWR);
    listeners_.clear();
  }
  void end_streams() noexcept {
    hub_->close_all_soon();
    if (port_) port_.report_end(hub_->stats());
  }

  using base::draining_, base::hub_, base::inbox_, base::mail_, base::options_, base::port_,
      base::stopped_;
  using base::transport_;

  static void wake_loop(void* fd) noexcept {
    const std::uint64_t one = 1;
    // Watched for edges and never read: it fails only where it would count beyond 2^64 - 2.
    (void)!::write(static_cast<unique_fd*>(fd)->get(), &one, sizeof one);
  }

  /// For epoll_wait, in milliseconds.
  [[nodiscard]] int ms_to_wait(duration most) noexcept {
    if (std::exchange(more_, false) || options_.busy_poll || !mail_->prepare_sleep()) return 0;
    const std::int64_t next = next_deadline().ms();
    if (next == INT64_MAX && most == duration::infinite()) return -1;
    const std::int64_t ms = next - now().ms() < most.ms() ? next - now().ms() : most.ms();
    return ms <= 0 ? 0 : ms < INT32_MAX ? static_cast<int>(ms) : INT32_MAX;
  }

  using event_list = std::array<epoll_event, 512>;

  /// How many came. `ms`: as epoll_wait.
  [[nodiscard]] std::size_t wait_for(event_list& events, int ms) noexcept {
    int n = 0;
    do {
      n = ::epoll_wait(epoll(), events.data(), static_cast<int>(events.size()), ms);
    } while (n < 0 && errno == EINTR && ms == 0);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }

  /// Tells the hub the time, and before that, where something is due, what streams are ready for.
  void tell_time() noexcept {
    const time_point t = now();
    if (hub_->next_deadline() <= t) look();
    if (!stopped_) hub_->tick(t);
  }
  /// Connections and listeners are watched for levels: what is ready of them comes again.
  void look() noexcept {
    event_list events;
    std::size_t n = events.size();
    for (std::size_t left = connections() / n + 1; n == events.size() && left > 0; --left) {
      n = wait_for(events, 0);
      for (std::size_t i = 0; i < n && !stopped_; ++i) {
        if (!transport_.on_event(*hub_, events[i])) more_ = true;
      }
    }
    reap();
  }
  void reap() noexcept {
    if constexpr (requires { transport_.reap(*hub_); }) more_ = transport_.reap(*hub_) || more_;
  }

  void send_all() {
    this->drain_mail();
    this->look_at_those_ahead(waiting_);
    this->take_late_answers();
    if (stopped_) return;
    tell_time();
    const time_point t = now();
    waiting_.expire(t, [&](connection& c, due what) {
      c.look();
      if (c.hook.in == &over_ || c.due_at > t.ms()) return;
      c.expired(what);
      if (c.hook.in != &over_ && c.due_at <= t.ms()) c.drop();
    });
    if (stopped_) return;
    if (accept_again_ <= t.ms()) {
      accept_again_ = INT64_MAX;
      for (const unique_fd& l : listeners_) (void)watch(epoll(), l.get(), EPOLLIN, listening, true);
    }
    flushes_ = false;
    more_ = hub_->flush() || more_;
    this->report_to_shards();
    reap();
  }

  void accept_all() {
    for (std::size_t i = 0; i < listeners_.size() && !this->ending(); ++i) {
      for (int most = 64; most > 0 && !this->ending() && accept_one(listeners_[i].get());) --most;
    }
  }
  bool accept_one(int listener) noexcept {
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    unique_fd fd{::accept4(listener, reinterpret_cast<sockaddr*>(&from), &size,
                           SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!fd) {
      if (errno == EAGAIN) return false;
      error("accept", last_error());
      if (errno == ECONNABORTED || errno == EINTR) return true;
      // Descriptors or memory may be out: that does not pass by trying at once.
      accept_again_ = now().ms() + 100;
      for (const unique_fd& l : listeners_) (void)watch(epoll(), l.get(), 0, listening, true);
      return false;
    }
    try {
      welcome(std::move(fd), address_text(from));
    } catch (const std::exception& x) {
      error(x.what(), {});
    }
    return true;
  }

  void welcome(unique_fd fd, std::string from) {
    const std::uint32_t most = options_.max_connections;
    if (most != 0 && connections() >= most) make_room(waiting_, options_, now());
    if (most != 0 && connections() >= most) {
      std::string out;
      if (!transport_.adopts_secure()) out = this->crowded();  // else there is no way to tell
      (void)!::send(fd.get(), out.data(), out.size(), MSG_NOSIGNAL);
      ::shutdown(fd.get(), SHUT_WR);
      (void)!::recv(fd.get(), this->scratch().data(), this->scratch().size(), 0);
      return this->log({.method = {}, .address = from}, 503, out.size(), base::now_us(), false);
    }
    auto made = transport_.adopt(fd.release());
    enter(made, std::move(from)).begin();
    limit_handshakes(waiting_, options_);
  }
  /// It is one of the server's, until forget(). Throws: `c` was not taken.
  connection& enter(typename Transport::connection& c, std::string from) {
    auto* const entered = new connection{*this, std::move(c), std::move(from)};
    waiting_.await(*entered, due::never, {});
    return *entered;
  }

  void bury() noexcept {
    while (over_.first != nullptr) {
      const std::unique_ptr<connection> c{over_.first};
      chain<connection>::unlink(*c);
    }
  }

  std::vector<unique_fd> listeners_;
  waiting_room<connection> waiting_;
  chain<connection> over_;
  std::int64_t accept_again_ = INT64_MAX;
  std::atomic<bool> interrupted_{false};
  bool more_ = true;
  bool in_turn_ = false;
  bool flushes_ = false;  ///< in this turn, later
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_EPOLL_CORE_HPP

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
