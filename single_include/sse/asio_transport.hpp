// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/asio_transport.hpp
//
// asio_transport: the transport of a hub over any Asio stream. For programs that have an HTTP
// server on Asio; one that brings its own is sse/asio.hpp, which also says what of Asio is needed.
#ifndef SSEHUB_ASIO_TRANSPORT_HPP
#define SSEHUB_ASIO_TRANSPORT_HPP

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "sse.hpp"
// ---- sse/detail/net/asio.hpp
//
// The one place that includes Asio: the standalone one, or Boost's where SSEHUB_BOOST_ASIO is
// defined. Not public.
//
// Everything that has a type of Asio's in it is a template over one, or names one in its
// parameters: so files that use the one and files that use the other may be one program.
#ifndef SSEHUB_DETAIL_NET_ASIO_HPP
#define SSEHUB_DETAIL_NET_ASIO_HPP

#if defined(SSEHUB_BOOST_ASIO)

#if !__has_include(<boost/asio/version.hpp>)
#error "Boost.Asio is not found: its include folder is missing (Debian: libboost1.81-dev)"
#endif
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/basic_socket.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/version.hpp>
#include <boost/asio/write.hpp>
#include <boost/system/error_code.hpp>

#if BOOST_ASIO_VERSION < 102200
#error "ssehub needs Boost 1.79 or newer for SSEHUB_BOOST_ASIO"
#endif

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {
namespace net = ::boost::asio;
using net_error = ::boost::system::error_code;  // converts from and to std::error_code
}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#else

#if !__has_include(<asio/version.hpp>)
#error "Asio is not found (Debian: libasio-dev); for that of Boost define SSEHUB_BOOST_ASIO"
#endif
#include <system_error>

#include <asio/any_io_executor.hpp>
#include <asio/associated_cancellation_slot.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/basic_socket.hpp>
#include <asio/basic_stream_socket.hpp>
#include <asio/buffer.hpp>
#include <asio/compose.hpp>
#include <asio/error.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/address.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ip/v6_only.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <asio/version.hpp>
#include <asio/write.hpp>

#if ASIO_VERSION < 102200
#error "ssehub needs Asio 1.22 or newer"
#endif

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {
namespace net = ::asio;
using net_error = std::error_code;
}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif

#endif  // SSEHUB_DETAIL_NET_ASIO_HPP
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
// ---- sse/detail/net/unsent.hpp
//
// What the kernel holds of a connection that carries values: they age there.
#ifndef SSEHUB_DETAIL_NET_UNSENT_HPP
#define SSEHUB_DETAIL_NET_UNSENT_HPP

#if __has_include(<netinet/tcp.h>)
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#endif

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The connection takes no more while 16 KiB wait to be sent, unless somebody said already how
/// much: TCP_NOTSENT_LOWAT, where there is such a thing.
template <class Descriptor>
void hold_little(Descriptor fd) noexcept {
#if defined(TCP_NOTSENT_LOWAT)
  int said = 0;
  socklen_t size = sizeof said;
  const int enough = 16384;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &said, &size) == 0 && said <= 0)
    (void)::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &enough, sizeof enough);
#endif
  (void)fd;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_NET_UNSENT_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// A transport for hub<> over any Asio stream, for programs that have an HTTP server of their own;
/// asio_server brings one.
///
///   sse::asio_transport<> transport;
///   sse::hub<sse::asio_transport<>> hub{transport};
///   transport.attach(hub, [&] { post(ctx, [&] { hub.flush(); }); });  // one flush for many calls
///   (void)hub.accept(transport.adopt(std::move(socket)), request);
///
/// Plain sockets: a write is tried at once, without blocking; only after a short one the transport
/// waits until the socket can take more; tls::asio_stream (sse/asio_openssl.hpp) likewise. Other
/// streams: one async_write_some at a time, from the log's own bytes (transport::completes).
///
/// While a stream is open one read is outstanding, which finds its peer's end. What a peer sends is
/// thrown away, or waits for the end of the stream where its connection is for reuse(); one that
/// sends more than `max_input` bytes is closed.
///
/// Not thread-safe: hub, transport and all streams belong to one executor. Destroy the hub first.
/// With streams that are no plain sockets, destroy neither before in_flight() is 0.
template <class Stream = detail::net::ip::tcp::socket>
class asio_transport {
  friend struct detail::asio_access;
  using peer = detail::asio_peer<Stream>;
  using peer_ref = detail::ref<peer>;

 public:
  using stream_type = Stream;  ///< of its connections
  /// write() answers what the socket took; else the hub hears of it later.
  static constexpr bool at_once = detail::writes_at_once<Stream>;
  static constexpr bool completes = !at_once;  ///< see transport
  /// See transport.
  static constexpr std::size_t max_buffers = detail::plain_socket<Stream> ? 16 : 1;
  /// Bytes that a peer may send on an open stream.
  static constexpr std::uint32_t max_input = 64U << 10U;
  /// Bytes and time that a peer may still send while a connection is being closed: an end with
  /// unread input would be a reset, which takes the last bytes from the peer.
  static constexpr std::uint32_t max_linger_input = 8U << 20U;
  static constexpr std::int64_t linger_ms = 2000;  ///< see max_linger_input

  /// What the hub keeps of a stream: a handle to state on the heap.
  class connection {
   public:
    connection() noexcept = default;
    /// The stream. REQUIRES: not moved from.
    [[nodiscard]] Stream& stream() const noexcept {
      SSEHUB_ASSERT(peer_);
      return peer_->stream;
    }
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(peer_); }
    /// Whether it serves another request after its stream, see on_kept(). REQUIRES: not moved from.
    void reuse(bool on) const noexcept { peer_->reuse = on; }

   private:
    friend class asio_transport;
    friend struct detail::asio_access;
    explicit connection(peer_ref p) noexcept : peer_{std::move(p)} {}
    peer_ref peer_;
  };

  asio_transport() = default;
  asio_transport(const asio_transport&) = delete;
  asio_transport& operator=(const asio_transport&) = delete;
  ~asio_transport() {
    cut_all();
    for (detail::chain<peer>* list : {&streams_, &zombies_}) {
      while (list->first != nullptr) {
        const peer_ref p{list->first};
        p->end_now();
        p->closed = true;
        forget(*p);
      }
    }
  }

  /// Tells the transport whom to report to. `flush_soon` is called after each report, and as
  /// hub.on_wanted: it must see to it that hub.flush() runs, but not call it itself.
  template <class Hub>
  void attach(Hub& hub, function<void()> flush_soon) {
    hub_ = &hub;
    flush_soon_ = std::move(flush_soon);
    hub.on_wanted([this] { flush(); });
    writable_ = [](void* h, session_id id) noexcept { static_cast<Hub*>(h)->writable(id); };
    written_ = [](void* h, session_id id, std::size_t n) noexcept {
      static_cast<Hub*>(h)->written(id, n);
    };
    closed_ = [](void* h, session_id id) noexcept { static_cast<Hub*>(h)->closed(id); };
  }

  /// A connection to give to hub.accept. The stream is connected, and nothing else uses it.
  [[nodiscard]] connection adopt(Stream s) {
    return adopt_made([&]() -> Stream { return std::move(s); });
  }
  /// The same for a stream that cannot be moved: `make` returns it.
  template <class Make>
  [[nodiscard]] connection adopt_made(Make&& make) {
    peer_ref p{new peer{std::forward<Make>(make)}};
    if constexpr (at_once) {
      detail::net_error ignored;
      detail::socket_of(p->stream).non_blocking(true, ignored);
    }
    return connection{std::move(p)};
  }

  /// Writes under way that the hub waits for; always 0 with plain sockets.
  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
  /// Every such write holds what this points to, so that log and hub can be made to outlive it.
  void keep_alive(std::weak_ptr<void> owner) noexcept { keep_ = std::move(owner); }

  /// Where a connection goes whose stream in chunks ended whole, if it asked for reuse(): `f` takes
  /// it over, without calling the hub, or answers false, and it is closed. Must not throw. For
  /// asio_server: a read may be outstanding, whose bytes only it can have.
  void on_kept(function<bool(connection&)> f) noexcept { kept_ = std::move(f); }

  // --- the end of a connection

  /// Whether a closed connection stays until its peer closed too, or for linger_ms: for hosts that
  /// call expire(). Without it, or with an input that never ends, the end may be a reset.
  /// `clock`: the host's, which is told to expire(); nullptr: std::chrono::steady_clock.
  void use_linger(bool on, time_point (*clock)() noexcept = nullptr) noexcept {
    lingers_ = on;
    clock_ = clock;
  }
  /// Connections that are being closed.
  [[nodiscard]] std::size_t lingering() const noexcept { return lingering_.size; }
  /// When expire() is next needed; time_point::never() if not.
  [[nodiscard]] time_point next_deadline() const noexcept {
    return lingering_.first == nullptr ? time_point::never()
                                       : time_point::milliseconds(lingering_.first->linger_until);
  }
  /// Cuts connections whose time to be closed in is over, see next_deadline().
  void expire(time_point now) noexcept {
    while (lingering_.first != nullptr && lingering_.first->linger_until <= now.ms()) {
      cut(*lingering_.first);
    }
  }
  /// Ends all lingering now.
  void cut_all() noexcept {
    while (lingering_.first != nullptr) cut(*lingering_.first);
  }
  /// Ends a connection that no hub took, after all that was written to it.
  void disconnect(connection c) noexcept { close(c, close_reason::finished); }

  /// Calls f(session_id) for the streams that are open now; f may close them.
  template <class F>
  void for_each_session(F f) noexcept {
    for (std::size_t n = streams_.size; n > 0 && streams_.first != nullptr; --n) {
      peer& p = *streams_.first;
      streams_.push_back(p);  // behind those that are still to come, since it may stay
      f(p.session);
    }
  }

  // --- what the hub calls

  /// See transport.
  void opened(connection& c, session_id id) noexcept {
    peer& p = *c.peer_;
    p.owner = this;
    p.session = id;
    p.taker = nullptr;
    p.discarded = 0;
    streams_.push_back(p);
    p.broken = !watch(p);
  }

  /// See transport.
  [[nodiscard]] write_result write(connection& c, std::span<const buffer> bytes) noexcept {
    peer& p = *c.peer_;
    if (p.broken) return {0, flow::closed};
    if (p.writing) return {0, flow::blocked};
    try {
      if constexpr (at_once) {
        return write_now(p, bytes);
      } else {
        return begin_write(p, bytes);
      }
    } catch (...) {
      return {0, flow::closed};
    }
  }

  /// See transport: a TLS goodbye is sent behind the stream's last byte.
  [[nodiscard]] flow end(connection& c) noexcept {
    if constexpr (detail::layered<Stream>) {
      peer& p = *c.peer_;
      if ((p.reuse && kept_) || p.broken) return flow::ready;
      detail::net_error e;
      p.stream.say_goodbye(e);
      if (detail::would_block(e) && await_room(p)) return flow::blocked;
    }
    return flow::ready;
  }

  /// See transport.
  void carries_values(connection& c) noexcept {
    if constexpr (at_once) detail::hold_little(detail::socket_of(c.peer_->stream).native_handle());
  }

  /// See transport: the connection serves its next request.
  [[nodiscard]] bool keep(connection& c) noexcept {
    peer& p = *c.peer_;
    if (!p.reuse || p.writing || p.broken || !kept_) return false;
    forget(p);
    return kept_(c);
  }

  /// See transport.
  void close(connection& c, close_reason why) noexcept {
    peer& p = *c.peer_;
    p.taker = nullptr;
    p.reuse = false;
    if (why == close_reason::stalled) {
      p.abort_now();
    } else if (why == close_reason::peer) {
      p.close_now();
    } else if (!(p.writing && !at_once) && hang_up(p)) {
      return;
    } else {
      p.end_now();
    }
    p.closed = true;
    retire(p);
  }

 private:
  [[nodiscard]] write_result write_now(peer& p, std::span<const buffer> bytes) {
    detail::net_error error;
    std::size_t took = 0;
    std::size_t total = 0;
    if (bytes.size() == 1) {  // nearly always; for one buffer Asio calls send, not sendmsg
      total = bytes[0].size;
      took = p.stream.write_some(detail::net::const_buffer{bytes[0].data, total}, error);
    } else if constexpr (detail::plain_socket<Stream>) {
      std::array<detail::net::const_buffer, max_buffers> pieces;
      std::size_t n = 0;
      for (const buffer& b : bytes) {
        if (n == pieces.size()) break;
        pieces[n++] = {b.data, b.size};
        total += b.size;
      }
      took = p.stream.write_some(std::span{pieces.data(), n}, error);
    }
    if (error && !detail::would_block(error)) {
      return {0, error == detail::net::error::interrupted ? flow::ready : flow::closed};
    }
    if (!error && took == total) return {took, flow::ready};
    return {took, await_room(p) ? flow::blocked : flow::closed};
  }

  [[nodiscard]] bool await_room(peer& p) noexcept {
    p.writing = true;
    try {
      p.stream.async_wait(detail::net::socket_base::wait_write,
                          [r = peer_ref{&p}](const detail::net_error& e) mutable {
                            r->writing = false;
                            if (r->owner != nullptr && !r->closed) r->owner->can_write(*r, e);
                          });
      return true;
    } catch (...) {
      p.writing = false;
      return false;
    }
  }

  void can_write(peer& p, detail::net_error e) noexcept {
    if constexpr (detail::layered<Stream>) {
      if (!e) p.stream.flush(e);
      if (detail::would_block(e) && await_room(p)) return;
    }
    if (p.lingering) return (void)end_output(p);
    e ? closed_(hub_, p.session) : writable_(hub_, p.session);
    flush();
  }

  [[nodiscard]] write_result begin_write(peer& p, std::span<const buffer> bytes) {
    std::shared_ptr<void> keep = keep_.lock();
    p.stream.async_write_some(
        detail::net::const_buffer{bytes[0].data, bytes[0].size},
        [r = peer_ref{&p}, keep = std::move(keep)](const detail::net_error& e, std::size_t n) {
          r->writing = false;
          if (r->owner != nullptr) r->owner->wrote(*r, e, n);
        });
    p.writing = true;
    ++in_flight_;
    return {bytes[0].size, flow::pending};
  }

  void wrote(peer& p, const detail::net_error& e, std::size_t n) noexcept {
    --in_flight_;
    const session_id id = p.session;
    const bool failed = static_cast<bool>(e) && !p.closed;
    if (p.closed) retire(p);
    if (hub_ != nullptr) {
      written_(hub_, id, n);
      if (failed) closed_(hub_, id);
    }
    flush();
  }

  /// Waits for the next input, which is the peer's end or nothing that we want.
  [[nodiscard]] static bool watch(peer& p) noexcept {
    if (p.reading) return true;
    try {
      if constexpr (detail::layered<Stream>) {
        p.stream.async_wait(detail::net::socket_base::wait_read,
                            [r = peer_ref{&p}](const detail::net_error& e) {
                              r->reading = false;
                              have_input(*r, e, {});
                            });
      } else {
        p.stream.async_read_some(detail::net::buffer(p.sink),
                                 [r = peer_ref{&p}](const detail::net_error& e, std::size_t n) {
                                   r->reading = false;
                                   have_input(*r, e, {r->sink.data(), n});
                                 });
      }
      p.reading = true;
      return true;
    } catch (...) {
      return false;
    }
  }

  static void have_input(peer& p, const detail::net_error& e, std::string_view bytes) {
    if (p.taker != nullptr) return p.taker->input(e, bytes);
    if (p.owner != nullptr && !p.closed) p.owner->take_input(p, e, bytes);
  }

  void take_input(peer& p, detail::net_error e, std::string_view bytes) noexcept {
    try {
      put_away(p, bytes);
      if constexpr (at_once) {
        std::array<char, 4096> more;
        const std::uint32_t most = p.discarded + max_input;
        while (!e && p.discarded <= most) read_more(p, detail::net::buffer(more), e);
        if (detail::would_block(e)) e = {};
      }
    } catch (...) {
      e = std::make_error_code(std::errc::not_enough_memory);
    }
    took_input(p, e);
  }

  static void put_away(peer& p, std::string_view bytes) {
    p.discarded += static_cast<std::uint32_t>(bytes.size());
    if (!p.reuse || bytes.empty()) return;
    if (p.held == nullptr) p.held = std::make_unique<std::string>();
    p.held->append(bytes);
  }

  static void read_more(peer& p, detail::net::mutable_buffer into, detail::net_error& e) {
    const auto* const begin = static_cast<const char*>(into.data());
    if constexpr (detail::layered<Stream>) {
      if (!p.lingering) {
        const std::size_t n = p.stream.read_some(into, e);
        if (n == 0 && !e) p.discarded += Stream::empty_record;
        return put_away(p, {begin, n});
      }
    }
    put_away(p, {begin, detail::socket_of(p.stream).read_some(into, e)});
  }

  void took_input(peer& p, const detail::net_error& e) noexcept {
    const std::uint32_t most = p.lingering ? max_linger_input : max_input;
    if (!e && p.discarded <= most && watch(p)) return;
    if (p.lingering) {
      cut(p);
    } else if (hub_ != nullptr) {
      closed_(hub_, p.session);
      flush();
    }
  }

  /// Says goodbye and leaves it to the peer to close. False: that cannot be done.
  [[nodiscard]] bool hang_up(peer& p) noexcept {
    detail::net_error error;
    bool waits = false;  // for room
    if constexpr (detail::layered<Stream>) {
      p.stream.say_goodbye(error);
      waits = detail::would_block(error) && (p.writing || await_room(p));
    }
    error = waits ? detail::net_error{} : end_output(p);
    if (error || !lingers_) {
      p.discard_input();
      return false;
    }
    p.owner = this;
    p.lingering = true;
    p.discarded = 0;
    const time_point now =
        clock_ != nullptr ? clock_() : time_point{std::chrono::steady_clock::now()};
    p.linger_until = now.ms() + linger_ms;
    if (!say_goodbye(p)) return false;
    ++p.refs;  // the list's, until cut()
    lingering_.push_back(p);
    if (lingering_.size == 1) flush();  // the host's timer has one more to look at
    return true;
  }

  static detail::net_error end_output(peer& p) noexcept {
    detail::net_error e;
    if constexpr (!detail::says_goodbye<Stream>) {
      p.stream.lowest_layer().shutdown(detail::net::socket_base::shutdown_send, e);
    }
    return e;
  }

  [[nodiscard]] bool say_goodbye(peer& p) noexcept {
    if constexpr (detail::says_goodbye<Stream>) {
      try {
        p.stream.async_shutdown([r = peer_ref{&p}](const detail::net_error&) {
          if (r->owner != nullptr && !r->closed) r->owner->cut(*r);
        });
        return true;
      } catch (...) {
        return false;
      }
    } else {
      return watch(p);
    }
  }

  void cut(peer& p) noexcept {
    const peer_ref held{&p};
    --p.refs;  // the list's
    p.discard_input();
    detail::says_goodbye<Stream> || p.writing ? p.end_now() : p.close_now();
    p.closed = true;
    forget(p);
    flush();
  }

  void retire(peer& p) noexcept {
    if (p.writing && !at_once) {
      zombies_.push_back(p);  // the hub waits for its write
    } else {
      forget(p);
    }
  }
  static void forget(peer& p) noexcept {
    detail::chain<peer>::unlink(p);
    p.owner = nullptr;
  }
  void flush() noexcept {
    if (flush_soon_) flush_soon_();
  }

  void* hub_ = nullptr;
  void (*writable_)(void*, session_id) noexcept = nullptr;
  void (*written_)(void*, session_id, std::size_t) noexcept = nullptr;
  void (*closed_)(void*, session_id) noexcept = nullptr;
  function<void()> flush_soon_;
  function<bool(connection&)> kept_;
  std::weak_ptr<void> keep_;
  detail::chain<peer> streams_;
  detail::chain<peer> lingering_;
  detail::chain<peer> zombies_;
  std::size_t in_flight_ = 0;
  time_point (*clock_)() noexcept = nullptr;
  bool lingers_ = false;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_ASIO_TRANSPORT_HPP
