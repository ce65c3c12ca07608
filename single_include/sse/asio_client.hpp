// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/asio_client.hpp
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
#ifndef SSEHUB_ASIO_CLIENT_HPP
#define SSEHUB_ASIO_CLIENT_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include "asio_client_options.hpp"
#include "client.hpp"
// ---- sse/detail/client/asio_core.hpp
//
// asio_client_core: what an asio_event_source and its operations under way share. Not public.
//
// Invariants:
//  1. Hooks run in handlers of the executor only, never inside a call of the user.
//  2. Exactly one of these while there is a connection: it is being dialled, a read is under way,
//     or the queue is full.
//  3. There are waiters only while the queue is empty.
//  4. After close(), no hook is called and nothing keeps the io_context at work.
#ifndef SSEHUB_DETAIL_CLIENT_ASIO_CORE_HPP
#define SSEHUB_DETAIL_CLIENT_ASIO_CORE_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "sse.hpp"
// ---- sse/detail/client/asio_connection.hpp
//
// asio_link: one connection of an asio_event_source, from the name of the host to the last byte.
// Not public.
//
// Each operation under way holds the link and its owner. close() ends them all, and nothing of the
// owner is called after it.
#ifndef SSEHUB_DETAIL_CLIENT_ASIO_CONNECTION_HPP
#define SSEHUB_DETAIL_CLIENT_ASIO_CONNECTION_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "client_error.hpp"
// ---- sse/detail/client/connect_race.hpp
//
// connect_race: which of a host's addresses is tried when (RFC 8305, "happy eyeballs"): the
// families alternate, each attempt begins a short time after the one before, or at once when that
// failed, and the first connection wins. Knows no socket and no clock. Not public.
#ifndef SSEHUB_DETAIL_CLIENT_CONNECT_RACE_HPP
#define SSEHUB_DETAIL_CLIENT_CONNECT_RACE_HPP

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Brings the family of the first address and the other one in turn, each in its own order, which
/// is the resolver's (RFC 8305 4).
template <class Address, class IsV6>
void alternate_families(std::vector<Address>& addresses, IsV6 is_v6) {
  std::vector<Address> families[2];
  const bool first = !addresses.empty() && is_v6(addresses.front());
  for (Address& a : addresses) families[is_v6(a) == first ? 0 : 1].push_back(std::move(a));
  addresses.clear();
  for (std::size_t i = 0; i < families[0].size() || i < families[1].size(); ++i) {
    for (auto& family : families) {
      if (i < family.size()) addresses.push_back(std::move(family[i]));
    }
  }
}

class connect_race {
 public:
  static constexpr std::int64_t least_delay_ms = 10;  // RFC 8305 8

  connect_race() noexcept = default;  // nothing to try yet
  /// `delay`: after the begin of one attempt, the next one begins; off: only when it failed. It is
  /// shortened where all could not begin in half of `patience`, which may be off.
  connect_race(std::size_t addresses, duration delay, duration patience) noexcept
      : count_{addresses}, delay_{delay}, due_{time_point::milliseconds(first_ms)} {
    if (delay.is_off() || patience.is_off()) return;
    const std::int64_t share = patience.ms() / 2 / static_cast<std::int64_t>(addresses + 1);
    if (share < delay.ms()) {
      delay_ = duration::milliseconds(share < least_delay_ms ? least_delay_ms : share);
    }
  }

  /// Whether an attempt is to begin now; at(): which.
  [[nodiscard]] bool begin(time_point now) noexcept {
    if (now < due_ || begun_ == count_) return false;
    ++begun_;
    due_ = begun_ == count_ ? time_point::never() : deadline(now, delay_);
    return true;
  }
  /// The address of the attempt that began last.
  [[nodiscard]] std::size_t at() const noexcept { return begun_ - 1; }

  /// An attempt failed: the next one begins at once.
  void failed(time_point now) noexcept {
    ++failed_;
    if (begun_ != count_) due_ = now;
  }
  [[nodiscard]] bool lost() const noexcept { return failed_ == count_; }
  /// When begin() is needed.
  [[nodiscard]] time_point due() const noexcept { return due_; }
  /// One of them won, or nobody waits any more.
  void stop() noexcept {
    begun_ = count_;
    due_ = time_point::never();
  }

 private:
  std::size_t count_ = 0;
  std::size_t begun_ = 0;
  std::size_t failed_ = 0;
  duration delay_{};
  time_point due_ = time_point::never();
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_CONNECT_RACE_HPP
// ---- sse/detail/net/asio_stream.hpp
//
// What the Asio host's parts share: one TCP connection with its reference count. Not public.
#ifndef SSEHUB_DETAIL_NET_ASIO_STREAM_HPP
#define SSEHUB_DETAIL_NET_ASIO_STREAM_HPP

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#if !defined(_WIN32)
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#endif

// ---- sse/detail/base/intrusive_list.hpp
//
// Lists through their elements, and lists of elements that wait for a deadline. Not public.
#ifndef SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP
#define SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP

#include <array>
#include <cstddef>
#include <cstdint>

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

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

template <class Stream>
class asio_transport;

namespace detail {

/// Keeps a counted object alive. Not atomic: one executor owns both. Only moved, so that no thread
/// of an executor with several ever touches a count outside the strand; share() makes another.
template <class T>
class ref {
 public:
  ref() noexcept = default;
  explicit ref(T* p) noexcept : p_{p} {
    if (p_ != nullptr) ++p_->refs;
  }
  ref(ref&& o) noexcept : p_{std::exchange(o.p_, nullptr)} {}
  ref& operator=(ref&& o) noexcept {
    ref moved{std::move(o)};
    std::swap(p_, moved.p_);
    return *this;
  }
  ~ref() {
    if (p_ != nullptr && --p_->refs == 0) destroy(p_);
  }

  [[nodiscard]] ref share() const noexcept { return ref{p_}; }
  [[nodiscard]] T* get() const noexcept { return p_; }
  [[nodiscard]] T* operator->() const noexcept { return p_; }
  [[nodiscard]] T& operator*() const noexcept { return *p_; }
  [[nodiscard]] explicit operator bool() const noexcept { return p_ != nullptr; }

 private:
  /// Out of line: g++ 12 takes the next reference's count for a use after this one's delete.
#if defined(__GNUC__)
  [[gnu::noinline]]
#endif
  static void
  destroy(T* p) noexcept {
    delete p;
  }

  T* p_ = nullptr;
};

template <class S>
struct is_plain_socket : std::false_type {};
template <class Protocol, class Executor>
struct is_plain_socket<net::basic_stream_socket<Protocol, Executor>> : std::true_type {};

/// The kernel's socket itself: written to at once, waited for only when it is full. Others, such as
/// asio::ssl::stream, are written to by one operation at a time.
template <class S>
inline constexpr bool plain_socket = is_plain_socket<S>::value;

/// A layer on such a socket that is written to at once too (tls::asio_stream).
template <class S>
concept layered = !plain_socket<S> && requires {
  requires S::writes_at_once;
};
template <class S>
inline constexpr bool writes_at_once = plain_socket<S> || layered<S>;

/// What lies below all layers that are written to at once.
template <class S>
[[nodiscard]] auto& socket_of(S& s) noexcept {
  if constexpr (layered<S>) {
    return s.next_layer();
  } else {
    return s;
  }
}

struct ignore_error {
  void operator()(const net_error&) const noexcept {}
};

/// A stream that says goodbye by itself (TLS close_notify).
template <class S>
concept says_goodbye = !plain_socket<S> && requires(S & s) {
  s.async_shutdown(ignore_error{});
};

/// A stream that must be set up first (TLS).
template <class S>
concept shakes_hands = requires(S& s) {
  s.async_handshake(S::server, ignore_error{});
};

/// Programs that start others must not give them our connections: they would never close.
template <class Socket>
void close_on_exec(Socket& s) noexcept {
#if defined(FD_CLOEXEC)
  ::fcntl(s.native_handle(), F_SETFD, FD_CLOEXEC);  // NOLINT: the only interface there is
#endif
  (void)s;
}

/// The next connection, and whose it is. Errors: would_block if there is none.
[[nodiscard]] inline net::ip::tcp::socket accept_one(net::ip::tcp::acceptor& from,
                                                     net::ip::tcp::endpoint& peer, net_error& e) {
  net::ip::tcp::socket s{from.get_executor()};
#if defined(__linux__)  // one call instead of two
  auto size = static_cast<socklen_t>(peer.capacity());
  const int fd = ::accept4(from.native_handle(), peer.data(), &size, SOCK_CLOEXEC);
  if (fd < 0) {
    e.assign(errno, net::error::get_system_category());
    return s;
  }
  peer.resize(size);
  s.assign(peer.protocol(), fd, e);
  if (e) ::close(fd);
#else
  from.accept(s, peer, e);
  if (!e) close_on_exec(s);
#endif
  return s;
}

/// In the standard's category: Asio's own does not compare equal to std::errc.
[[nodiscard]] inline std::error_code portable(const net_error& e) {
  if (e.category() != net::error::get_system_category()) return e;
  return {e.value(), std::system_category()};
}

[[nodiscard]] inline bool would_block(const net_error& e) noexcept {
  return e == net::error::would_block || e == net::error::try_again;
}

/// Who gets what comes on a connection that is no stream.
template <class Error = net_error>
struct asio_input {
  virtual void input(const Error& e, std::string_view bytes) = 0;

 protected:
  ~asio_input() = default;
};

/// One connection, from accept to close: never moved, since operations that are under way point at
/// it. Each of those holds a reference.
template <class Stream>
struct asio_peer {
  static constexpr std::size_t sink_size = writes_at_once<Stream> ? 8 : 128;

  template <class Make>
  explicit asio_peer(Make&& make) : stream(make()) {}
  asio_peer(const asio_peer&) = delete;
  asio_peer& operator=(const asio_peer&) = delete;
  ~asio_peer() { chain<asio_peer>::unlink(*this); }

  /// For one that ended already.
  void close_now() noexcept {
    net_error ignored;
    stream.lowest_layer().close(ignored);
  }
  /// Ends it: a child process may have the socket too, and then closing it ends nothing.
  void end_now() noexcept {
    net_error ignored;
    stream.lowest_layer().shutdown(net::socket_base::shutdown_both, ignored);
    close_now();
  }
  /// Closes without sending what the kernel still holds, for a peer that takes nothing any more.
  void abort_now() noexcept {
    net_error ignored;
    stream.lowest_layer().set_option(net::socket_base::linger{true, 0}, ignored);
    end_now();
  }
  /// Takes unread input away: the kernel would answer it with a reset, and the peer lose the last
  /// bytes that we sent.
  void discard_input() noexcept {
    if constexpr (writes_at_once<Stream>) {
      std::array<char, 4096> bytes;
      net_error error;
      for (int i = 0; i < 16 && !error; ++i) socket_of(stream).read_some(net::buffer(bytes), error);
    }
  }

  Stream stream;
  // Beside the stream's own end, since a write looks at both.
  bool reading : 1 = false;    ///< an operation waits for input
  bool writing : 1 = false;    ///< an operation writes, or waits until it can
  bool lingering : 1 = false;  ///< our side is shut down, the other side's end is waited for
  bool closed : 1 = false;
  bool reuse : 1 = false;   ///< it serves another request after its stream
  bool broken : 1 = false;  ///< memory was out when its first operation was to begin
  asio_transport<Stream>* owner = nullptr;  ///< nullptr: the transport needs nothing of it any more
  asio_input<>* taker = nullptr;  ///< of its input, in place of the owner, whoever began to read
  link<asio_peer> hook;
  std::unique_ptr<std::string> held;  ///< input that waits for the end of its stream, see reuse
  std::int64_t linger_until = 0;
  session_id session{};
  std::uint32_t refs = 0;
  std::uint32_t discarded = 0;       ///< bytes of input on this stream, or while it lingers
  std::array<char, sink_size> sink;  ///< for input that nobody wants
};

/// An IPv4 peer of a socket that serves both versions is an IPv4 peer.
[[nodiscard]] inline net::ip::address plain_address(const net::ip::address& a) {
  if (a.is_v6() && a.to_v6().is_v4_mapped()) {
    return net::ip::make_address_v4(net::ip::v4_mapped, a.to_v6());
  }
  return a;
}

/// For the server's own connections, before they become streams.
struct asio_access {
  template <class Connection>
  [[nodiscard]] static auto& peer_of(const Connection& c) noexcept {
    return *c.peer_;
  }
  template <class Connection>
  [[nodiscard]] static auto share(const Connection& c) noexcept {
    return c.peer_.share();
  }
  /// False: no memory.
  template <class Stream>
  [[nodiscard]] static bool watch(asio_peer<Stream>& p) noexcept {
    return asio_transport<Stream>::watch(p);
  }
  /// A read is over.
  template <class Stream>
  static void have_input(asio_peer<Stream>& p, const net_error& e, std::string_view bytes) {
    p.reading = false;
    asio_transport<Stream>::have_input(p, e, bytes);
  }
};

}  // namespace detail

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_DETAIL_NET_ASIO_STREAM_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

[[nodiscard]] inline time_point steady_now() noexcept { return std::chrono::steady_clock::now(); }

/// Why a handshake failed. OpenSSL's error says no more than that the certificate was not accepted;
/// the reason is found at the stream, through its native handle, so that nothing here needs
/// OpenSSL.
template <class Stream>
[[nodiscard]] std::error_code handshake_cause(Stream& s, const net_error& e) {
  if constexpr (requires { SSL_get_verify_result(s.native_handle()); }) {
    constexpr int certificate_verify_failed = 134;  // SSL_R_..., the low bits of the value
    if (std::string_view{e.category().name()} == "asio.ssl" &&
        (e.value() & 0xfff) == certificate_verify_failed) {
      const auto reason = static_cast<int>(SSL_get_verify_result(s.native_handle()));
      if (reason != 0) return {reason, certificate_category()};
    }
  }
  return portable(e);
}

/// A link to its owner, whatever its stream.
template <class Socket = net::ip::tcp::socket>
class asio_link {
 public:
  using socket = Socket;

  asio_link() = default;
  asio_link(const asio_link&) = delete;
  asio_link& operator=(const asio_link&) = delete;
  virtual ~asio_link() = default;

  /// Resolves and connects; then secure() if `direct`, else the owner's linked(). What fails is the
  /// owner's lost().
  virtual void dial(const dial_request& to, bool direct, dialer& own, const connect_options& o) = 0;
  /// Makes of the connection what the owner's streams are, for this host, with a handshake if they
  /// have one; then the owner's linked() or lost() is called.
  virtual void secure(std::string host) = 0;
  /// When look() is needed.
  [[nodiscard]] virtual time_point due() const noexcept = 0;
  virtual void look(time_point now) = 0;
  /// Sends the request. What goes wrong with it, the reading side sees.
  virtual void send(std::string request) = 0;
  /// Reads more; then the owner's received() or lost() is called. REQUIRES: unread() is empty.
  virtual void read() = 0;
  virtual void close() noexcept = 0;

  /// What was received and not taken yet.
  [[nodiscard]] std::string_view unread() const noexcept {
    return {buffer_.get() + from_, to_ - from_};
  }
  void took(std::size_t n) noexcept { from_ += n; }

 protected:
  std::unique_ptr<char[]> buffer_;
  std::size_t from_ = 0;
  std::size_t to_ = 0;
};

template <class Owner, class Stream>
class asio_link_of final : public asio_link<>,
                           public std::enable_shared_from_this<asio_link_of<Owner, Stream>> {
  using tcp = net::ip::tcp;

 public:
  using maker = function<Stream(socket, const std::string& host)>;

  /// `make` belongs to the owner.
  asio_link_of(std::shared_ptr<Owner> owner, std::size_t buffer, const maker& make)
      : owner_{std::move(owner)}, make_{make}, resolver_{owner_->executor()}, size_{buffer} {
    buffer_ = std::make_unique<char[]>(size_);
  }

  void dial(const dial_request& to, bool direct, dialer& own, const connect_options& o) override {
    host_ = to.host;
    port_ = to.port;
    direct_ = direct;
    options_ = o;
    if (own) return ask(own);
    net_error not_an_address;
    const auto address = net::ip::make_address(host_, not_an_address);
    if (!not_an_address) {
      addresses_.push_back({address, port_});
      return race();
    }
    char digits[max_digits + 1];
    *put_decimal(digits, port_) = '\0';
    resolver_.async_resolve(
        host_, digits, tcp::resolver::numeric_service,
        [me = self()](const net_error& e, const tcp::resolver::results_type& found) {
          me->guarded([&] { me->resolved(e, found); });
        });
  }

  void secure(std::string host) override {
    stream_.emplace(make_(std::move(*socket_), host));
    socket_.reset();
    if constexpr (shakes_hands<Stream>) {
      stream_->async_handshake(Stream::client, [me = self()](const net_error& e) {
        me->guarded([&] { me->shaken(e); });
      });
    } else {
      owner_->linked();
    }
  }

  [[nodiscard]] time_point due() const noexcept override { return race_.due(); }
  void look(time_point now) override {
    if (!(now < race_.due())) begin_attempts();
  }

  void send(std::string request) override {
    auto held = std::make_unique<std::string>(std::move(request));
    const auto bytes = net::buffer(*held);
    with_stream([&](auto& stream) {
      net::async_write(stream, bytes,
                       [me = self(), h = std::move(held)](const net_error&, std::size_t) {});
    });
  }

  void read() override {
    SSEHUB_ASSERT(unread().empty());
    from_ = to_ = 0;
    with_stream([&](auto& stream) {
      stream.async_read_some(net::buffer(buffer_.get(), size_),
                             [me = self()](const net_error& e, std::size_t n) {
                               me->guarded([&] { me->have_read(e, n); });
                             });
    });
  }

  void close() noexcept override {
    closed_ = true;
    resolver_.cancel();
    end_race();
    net_error ignored;
    if (socket_) socket_->close(ignored);
    if (stream_) stream_->lowest_layer().close(ignored);
  }

 private:
  [[nodiscard]] std::shared_ptr<asio_link_of> self() { return this->shared_from_this(); }

  template <class F>
  void guarded(F f) {
    if (!closed_) owner_->guarded(std::move(f));
  }
  template <class F>
  void with_stream(F f) {
    if (stream_) return f(*stream_);
    f(*socket_);
  }

  void lost(client_error why, const std::error_code& cause) {
    close();
    owner_->lost(why, cause);
  }

  /// The program connects; it may answer at once, or after this link is gone.
  void ask(dialer& own) {
    own({host_, port_}, [me = self()](std::error_code e, socket s) {
      net::post(me->owner_->executor(), [me, e, s = std::move(s)]() mutable {
        me->guarded([&] {
          if (me->socket_ || me->stream_) return;  // it answered before
          if (e || !s.is_open()) return me->lost(client_error::connect, e);
          me->connected(std::move(s));
        });
      });
    });
  }

  void resolved(const net_error& e, const tcp::resolver::results_type& found) {
    for (const auto& entry : found) addresses_.push_back(entry.endpoint());
    if (e || addresses_.empty()) return lost(client_error::resolve, portable(e));
    alternate_families(addresses_, [](const tcp::endpoint& a) { return a.address().is_v6(); });
    race();
  }

  // --- several addresses

  void race() {
    race_ = {addresses_.size(), options_.attempt_delay, options_.connect_timeout};
    begin_attempts();
  }

  void begin_attempts() {
    while (race_.begin(steady_now())) begin_attempt(race_.at());
    if (race_.lost()) return lost(client_error::connect, cause_);
    owner_->arm();
  }

  void begin_attempt(std::size_t n) {
    socket& s = attempts_.emplace_back(owner_->executor());
    const tcp::endpoint to = addresses_[n];
    net_error e;
    s.open(to.protocol(), e);
    if (e) return failed(e);
    close_on_exec(s);
    s.async_connect(to, [me = self(), &s](const net_error& failure) {
      me->guarded([&] { me->attempted(s, failure); });
    });
  }

  void failed(const net_error& e) {
    cause_ = portable(e);
    race_.failed(steady_now());
  }

  void attempted(socket& s, const net_error& e) {
    if (socket_ || stream_) return;  // another one was first
    if (e) {
      net_error ignored;
      s.close(ignored);
      failed(e);
      return begin_attempts();
    }
    socket won{std::move(s)};
    end_race();
    connected(std::move(won));
  }

  void end_race() noexcept {
    race_.stop();
    net_error ignored;
    for (socket& s : attempts_) s.close(ignored);  // their handlers still name them
  }

  // --- one connection

  void connected(socket s) {
    socket_.emplace(std::move(s));
    net_error ignored;
    socket_->set_option(tcp::no_delay{true}, ignored);
    direct_ ? secure(host_) : owner_->linked();
  }

  void shaken(const net_error& e) {
    if (e) return lost(client_error::tls, handshake_cause(*stream_, e));
    owner_->linked();
  }

  void have_read(const net_error& e, std::size_t n) {
    to_ = n;
    if (!e) return owner_->received();
    // With TLS, an end without its goodbye is no eof: somebody else may have cut it.
    if (e == net::error::eof) return lost(client_error::none, {});
    lost(client_error::read, portable(e));
  }

  std::shared_ptr<Owner> owner_;
  const maker& make_;
  tcp::resolver resolver_;
  std::vector<tcp::endpoint> addresses_;
  connect_race race_{};
  std::deque<socket> attempts_;   // never moved: handlers point at them
  std::error_code cause_;         // of the attempt that failed last
  std::optional<socket> socket_;  // connected, and not yet a stream
  std::optional<Stream> stream_;
  std::string host_;
  connect_options options_{};
  std::size_t size_;
  std::uint16_t port_ = 0;
  bool direct_ = true;
  bool closed_ = false;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_ASIO_CONNECTION_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

struct asio_client_hooks {
  function<void(const client_response&)> open{};
  function<void(const event&)> event{};
  function<void(const gap&)> gap{};
  function<void(std::string_view)> comment{};
  function<void(std::string_view)> position{};
  function<void(client_state)> state{};
  function<void(const client_failure&)> error{};
  dialer dial{};
};

template <class Stream>
class asio_client_core final : public std::enable_shared_from_this<asio_client_core<Stream>> {
  using link = asio_link<>;
  using socket = typename link::socket;
  using plain_link = asio_link_of<asio_client_core, socket>;
  using stream_link = asio_link_of<asio_client_core, Stream>;

 public:
  using maker = typename stream_link::maker;
  using waiter = function<void(net_error, received_event)>;

  asio_client_core(net::any_io_executor ex, std::string_view url, const asio_client_options& o,
                   maker make)
      : executor_{std::move(ex)},
        timer_{executor_},
        source_{url, seeded(o.client)},
        make_{std::move(make)},
        queue_limit_{o.queue},
        queue_bytes_limit_{o.queue_bytes},
        read_buffer_{o.read_buffer},
        connect_{o.attempt_delay, o.client.connect_timeout} {
    SSEHUB_ASSERT(o.queue != 0 && o.read_buffer != 0);
  }

  asio_client_hooks hooks{};

  [[nodiscard]] const net::any_io_executor& executor() const noexcept { return executor_; }
  [[nodiscard]] const event_source& source() const noexcept { return source_; }

  // --- the user

  void start() {
    started_ = true;
    wake();
  }

  void next(std::uint64_t ticket, waiter w) {
    if (!queue_.empty()) {
      received_event e = std::move(queue_.front());
      queue_.pop_front();
      queue_bytes_ -= size_of(e);
      w({}, std::move(e));
    } else if (end_) {
      w(end_, {});
    } else {
      waiters_.push_back({ticket, std::move(w)});
    }
    start();
  }
  [[nodiscard]] std::uint64_t ticket() noexcept { return ++tickets_; }

  void cancel_next(std::uint64_t ticket) {
    for (auto w = waiters_.begin(); w != waiters_.end(); ++w) {
      if (w->ticket != ticket) continue;
      const waiter cancelled = std::move(w->complete);
      waiters_.erase(w);
      return cancelled(aborted(), {});
    }
  }

  void restart() {
    source_.restart(steady_now());
    if (started_) wake();
  }

  void close() noexcept {
    source_.close();
    closed_ = true;
    unlink();
    timer_.cancel();
    queue_.clear();
    queue_bytes_ = 0;
    end(aborted());
  }

  // --- the link

  /// What a hook throws leaves io_context::run(); the source is closed then.
  template <class F>
  void guarded(F f) {
    try {
      f();
    } catch (...) {
      close();
      throw;
    }
  }

  void linked() {
    const std::string_view request = source_.connected(steady_now());
    if (!request.empty()) {
      link_->send(std::string{request});
      link_->read();
    }
    pump();
  }

  void received() {
    feed();
    pump();
  }

  void lost(client_error why, const std::error_code& cause) {
    link_ = nullptr;
    source_.ended(steady_now(), why, cause);
    pump();
  }

  /// Sets the timer to what comes next.
  void arm() {
    if (closed_) return;
    time_point due = source_.next_deadline();
    if (link_ && link_->due() < due) due = link_->due();
    if (due == time_point::never()) {
      if (armed_ != time_point::never()) timer_.cancel();
      armed_ = time_point::never();
      return;
    }
    // A day at most, so that no sum overflows; earlier than needed is only a look more.
    const time_point most = steady_now() + duration::seconds(24 * 3600);
    if (most < due) due = most;
    if (!(due < armed_)) return;
    armed_ = due;
    timer_.expires_at(std::chrono::steady_clock::time_point{std::chrono::milliseconds{due.ms()}});
    timer_.async_wait([me = this->shared_from_this()](const net_error& e) {
      if (e == net::error::operation_aborted || me->closed_) return;
      me->armed_ = time_point::never();
      me->guarded([&] { me->pump(); });
    });
  }

 private:
  struct waiting {
    std::uint64_t ticket;
    waiter complete;
  };

  /// What the state machine calls.
  struct sink {
    asio_client_core& core;

    void on_open(const client_response& r) {
      core.tell_state();
      if (core.hooks.open && !core.closed_) core.hooks.open(r);
    }
    [[nodiscard]] bool on_event(const event& e) { return core.take(e); }
    void on_comment(std::string_view text) {
      if (core.hooks.comment && !core.closed_) core.hooks.comment(text);
    }
    void on_position(std::string_view id) {
      if (core.hooks.position && !core.closed_) core.hooks.position(id);
    }
  };

  [[nodiscard]] static client_options seeded(client_options o) {
    if (o.seed != client_options{}.seed) return o;
    std::random_device random;
    o.seed = (std::uint64_t{random()} << 32U) ^ random();
    return o;
  }
  [[nodiscard]] static net_error aborted() noexcept {
    return net::error::make_error_code(net::error::operation_aborted);
  }
  [[nodiscard]] static std::size_t size_of(const received_event& e) noexcept {
    return e.type.size() + e.data.size() + e.last_event_id.size();
  }
  [[nodiscard]] bool full() const noexcept {
    return queue_.size() >= queue_limit_ || queue_bytes_ >= queue_bytes_limit_;
  }

  /// Goes on in a handler of its own.
  void wake() {
    if (awake_ || closed_) return;
    net::post(executor_, [me = this->shared_from_this()] {
      me->awake_ = false;
      if (me->closed_) return;
      me->guarded([&] {
        if (me->paused_ && !me->full()) me->feed();
        me->pump();
      });
    });
    awake_ = true;
  }

  /// Hands in what was read, and reads on unless the queue is full.
  void feed() {
    const std::shared_ptr<link> held = link_;
    paused_ = false;
    held->took(source_.received(steady_now(), held->unread(), sink{*this}));
    if (held != link_) return;
    paused_ = (source_.state() == client_state::open && full()) || !held->unread().empty();
    if (!paused_ && source_.reads()) held->read();
  }

  [[nodiscard]] bool take(const event& e) {
    gap g;
    const bool is_gap = read_gap(e, g);
    if (hooks.event) {
      if (is_gap && hooks.gap) {
        hooks.gap(g);
      } else {
        hooks.event(e);
      }
      return true;
    }
    received_event own{std::string{e.type}, std::string{e.data}, std::string{e.id}, {}};
    if (is_gap) own.missed = g;
    if (!waiters_.empty()) {
      const waiter w = std::move(waiters_.front().complete);
      waiters_.pop_front();
      w({}, std::move(own));
      return true;
    }
    queue_bytes_ += size_of(own);
    queue_.push_back(std::move(own));
    return !full();
  }

  /// Does what the state machine asks for.
  void pump() {
    while (started_ && !closed_) {
      const time_point now = steady_now();
      if (link_) link_->look(now);
      const client_action a = source_.poll(now);
      switch (a.what) {
        case client_action::connect: dial(a); break;
        case client_action::secure: secure(a); break;
        case client_action::disconnect: unlink(); break;
        case client_action::failed: report(); break;
        case client_action::none: tell_state(); return arm();
      }
    }
  }

  void dial(const client_action& a) {
    link_ = make_link(a.tls || a.tunnel);
    if (link_ == nullptr) {
      return source_.ended(steady_now(), client_error::tls,
                           std::make_error_code(std::errc::protocol_not_supported));
    }
    const std::shared_ptr<link> held = link_;
    held->dial({a.host, a.port}, !a.tunnel, hooks.dial, connect_);
  }

  void secure(const client_action& a) {
    const std::shared_ptr<link> held = link_;
    held->secure(std::string{a.host});
  }

  [[nodiscard]] std::shared_ptr<link> make_link(bool tls) {
    if constexpr (plain_socket<Stream>) {
      if (tls) return nullptr;
    } else if constexpr (shakes_hands<Stream>) {
      if (!tls) {
        return std::make_shared<plain_link>(this->shared_from_this(), read_buffer_, plain_make_);
      }
    }
    return std::make_shared<stream_link>(this->shared_from_this(), read_buffer_, make_);
  }

  void unlink() noexcept {
    if (link_) link_->close();
    link_ = nullptr;
    paused_ = false;
  }

  void report() {
    const client_failure f = source_.failure();
    if (f.final) end(make_error_code(f.error));
    if (hooks.error) hooks.error(f);
  }

  void tell_state() {
    if (closed_ || told_ == source_.state()) return;
    told_ = source_.state();
    if (hooks.state) hooks.state(told_);
  }

  /// No event will come any more.
  void end(net_error why) noexcept {
    if (!end_) end_ = why;
    while (!waiters_.empty()) {
      const waiter w = std::move(waiters_.front().complete);
      waiters_.pop_front();
      try {
        w(end_, {});
      } catch (...) {  // no memory to say so
      }
    }
  }

  net::any_io_executor executor_;
  net::steady_timer timer_;
  event_source source_;
  maker make_;
  typename plain_link::maker plain_make_{[](socket s, const std::string&) { return s; }};
  std::shared_ptr<link> link_;
  std::deque<received_event> queue_;
  std::deque<waiting> waiters_;
  std::size_t queue_limit_;
  std::size_t queue_bytes_limit_;
  std::size_t queue_bytes_ = 0;
  std::size_t read_buffer_;
  connect_options connect_;
  net_error end_;
  time_point armed_ = time_point::never();
  std::uint64_t tickets_ = 0;
  client_state told_ = client_state::connecting;
  bool started_ = false;
  bool closed_ = false;  // by the user, or by a hook that threw
  bool awake_ = false;   // wake() is under way
  bool paused_ = false;  // the queue is full, nothing is read
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_ASIO_CORE_HPP

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
