// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What the Asio host's parts share: one TCP connection with its reference count. Not public.
#pragma once
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

#include <sse/detail/base/intrusive_list.hpp>
#include <sse/detail/net/asio.hpp>
#include <sse/session.hpp>

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
