// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// epoll_transport: the transport of a hub over sockets in an epoll loop. For programs that have
// such a loop; a server with one of its own is sse/epoll.hpp. With TLS: tls::epoll_transport of
// sse/openssl.hpp.
#pragma once
#ifndef SSEHUB_EPOLL_TRANSPORT_HPP
#define SSEHUB_EPOLL_TRANSPORT_HPP

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <sse/detail/net/epoll_socket.hpp>
#include <sse/detail/net/unsent.hpp>
#include <sse/function.hpp>
#include <sse/session.hpp>
#include <sse/transport.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// A transport for hub<> over stream sockets, for programs with an epoll loop of their own;
/// epoll_server brings one.
///
///   sse::epoll_transport net{epoll};
///   sse::hub<sse::epoll_transport> hub{net};
///   const auto look = [&](int ms) {
///     epoll_event ready[64];
///     const int n = ::epoll_wait(epoll, ready, 64, ms);
///     for (int i = 0; i < n; ++i) {
///       if (!net.on_event(hub, ready[i])) mine(ready[i]);
///     }
///   };
///   (void)hub.accept(net.adopt(fd), request);  // fd is the hub's now
///   // Each turn of the loop:
///   look(wait);
///   const sse::time_point now = std::chrono::steady_clock::now();
///   if (hub.next_deadline() <= now) look(0);   // nothing is overdue before it was looked at
///   hub.tick(now);
///   hub.flush();
///
/// A write is tried at once and never blocks. A stream is registered once, for edges: after a write
/// that was short the kernel says when there is room, and no other call to epoll is needed. Its
/// data is session_id, so that a stream costs nothing but its descriptor.
///
/// A peer that ends its side is gone. What a peer sends is thrown away, or waits for the end of the
/// stream where its connection is for reuse(); one that sends more than `max_input` bytes is
/// closed.
///
/// `Layer`: what lies between it and the socket; tls::session, or nothing. Then a connection shakes
/// hands (connection::layer) before it is given to the hub.
///
/// Not thread-safe: it belongs to the thread of its hub. Destroy the hub first.
template <class Layer = detail::no_layer>
class basic_epoll_transport {
 public:
  /// What adopt() makes a layer of; see there.
  using security = typename Layer::security;
  static constexpr bool secure = Layer::secure;  ///< whether connections may be encrypted
  static constexpr std::size_t max_buffers = secure ? 1 : 16;  ///< see transport
  /// Bytes that a peer may send on an open stream.
  static constexpr std::uint32_t max_input = 64U << 10U;

  /// Owns a connected socket.
  class connection {
   public:
    connection() noexcept = default;
    /// Owns the descriptor from now on.
    explicit connection(int fd, Layer l = {}) noexcept : layer_{std::move(l)}, fd_{fd} {}
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }  ///< its descriptor; -1: none
    /// false: there is none, the connection is plain.
    [[nodiscard]] Layer& layer() noexcept { return layer_; }
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
    /// Whether it serves another request after its stream, see on_kept().
    void reuse(bool on) noexcept { reuse_ = on; }

    /// Asks a loop for `events` of it with `data`, instead of what it was asked for before.
    [[nodiscard]] bool watch(int epoll, std::uint32_t events, std::uint64_t data) noexcept {
      const bool ok = detail::watch(epoll, fd(), events, data, watched_);
      watched_ = watched_ || ok;
      return ok;
    }
    /// Ends that. To close it does so too, unless a child process has the descriptor as well.
    void unwatch(int epoll) noexcept {
      if (watched_) ::epoll_ctl(epoll, EPOLL_CTL_DEL, fd(), nullptr);
      watched_ = false;
    }

    // --- as the socket's own calls, through the layer

    /// As recv. EINTR: nothing for us yet, there may be more.
    [[nodiscard]] ssize_t receive(char* into, std::size_t size) noexcept {
      if constexpr (secure) {
        if (layer_) {
          const auto r = layer_.read({into, size});
          using step = decltype(r.next);
          if (r.next == step::done && r.bytes != 0) return static_cast<ssize_t>(r.bytes);
          errno = r.next == step::done ? EINTR : r.next == step::want_read ? EAGAIN : ECONNRESET;
          return r.next == step::closed ? 0 : -1;
        }
      }
      return ::recv(fd(), into, size, MSG_DONTWAIT);
    }
    /// As send. What was taken may be held for a while.
    [[nodiscard]] ssize_t send(const char* bytes, std::size_t size) noexcept {
      if constexpr (secure) {
        if (layer_) return send_through(bytes, size);
      }
      return ::send(fd(), bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    /// Some of what send took waits for room: send(nullptr, 0) goes on with it.
    [[nodiscard]] bool holds() const noexcept {
      if constexpr (secure) return layer_ && layer_.held() != 0;
      return false;
    }
    /// Says that nothing more comes. False: that waits for room, call it again then.
    [[nodiscard]] bool end_output() noexcept {
      if (!say_goodbye()) return false;
      ::shutdown(fd(), SHUT_WR);
      return true;
    }

   private:
    friend class basic_epoll_transport;
    [[nodiscard]] bool say_goodbye() noexcept {
      if constexpr (secure)
        return !layer_ || layer_.shutdown() != decltype(layer_.shutdown())::want_write;
      return true;
    }
    [[nodiscard]] ssize_t send_through(const char* bytes, std::size_t size) noexcept {
      std::size_t all = 0;
      for (;;) {
        const auto r = layer_.write({bytes + all, size - all});
        using step = decltype(r.next);
        all += r.bytes;
        if (r.next == step::done && all != size) continue;
        if (all != 0 || r.next == step::done) return static_cast<ssize_t>(all);
        errno = r.next == step::want_write ? EAGAIN : EPIPE;
        return -1;
      }
    }

    [[no_unique_address]] Layer layer_{};
    detail::unique_fd fd_;
    std::uint32_t discarded_ : 29 = 0;
    std::uint32_t reuse_ : 1 = false;
    std::uint32_t watched_ : 1 = false;

   protected:
    std::uint32_t writing_ : 1 = false;  ///< for transports that derive from this one
  };
  static_assert(sizeof(connection) <= (secure ? 16 : 8),
                "of each stream, also of those that nothing is sent to");
  static_assert(2 * max_input < 1U << 29U, "connection::discarded_ counts to beyond max_input");

  /// `epoll`: of the host's loop; stays the host's. `s`: of a layer, such as the tls::context of
  /// all its connections; nullptr: they are plain.
  explicit basic_epoll_transport(int epoll, security s = {}) noexcept
      : epoll_{epoll}, security_{s} {}
  basic_epoll_transport(const basic_epoll_transport&) = delete;
  basic_epoll_transport& operator=(const basic_epoll_transport&) = delete;

  /// A connection to be, with the layer that it is to have. Owns `fd`, also if it throws what the
  /// layer's constructor does.
  [[nodiscard]] connection adopt(int fd) const {
    connection c{fd};
    if constexpr (secure) {
      if (security_ != nullptr) c.layer_ = Layer{*security_, fd};
    }
    return c;
  }

  /// Whether adopt() gives a layer that encrypts.
  [[nodiscard]] bool adopts_secure() const noexcept {
    if constexpr (secure) return security_ != nullptr;
    return false;
  }

  /// What the loop was woken for. False: not a stream. In the data of streams the top bit is set,
  /// which is neither so in pointers nor in descriptors.
  template <class Hub>
  bool on_event(Hub& hub, const epoll_event& e) noexcept {
    const session_id id = session_of(e.data.u64);
    if (!id) return false;
    connection* const c = hub.find(id);
    if (c == nullptr) return true;  // it ended in this turn
    if ((e.events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0 ||
        ((e.events & EPOLLIN) != 0 && !take_input(*c))) {
      hub.closed(id);
    } else if ((e.events & EPOLLOUT) != 0) {
      if (sends_held(*c)) hub.writable(id);
    }
    return true;
  }

  /// Where a connection goes whose stream in chunks ended whole, if it asked for reuse(): `f` takes
  /// it over, without calling the hub, or answers false, and it is closed. Must not throw.
  void on_kept(function<bool(connection&)> f) noexcept { kept_ = std::move(f); }

  // --- what the hub calls

  /// See transport.
  void opened(connection& c, session_id id) noexcept {
    constexpr std::uint32_t edges = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    if (!c.watch(epoll_, edges, data_of(id))) c.fd_.reset();  // write says so
  }

  /// See transport.
  [[nodiscard]] write_result write(connection& c, std::span<const buffer> bytes) noexcept {
    if constexpr (secure) {
      if (c.layer_) {
        const auto r = c.layer_.write(bytes[0].view());
        using step = decltype(r.next);
        return {r.bytes, r.next == step::done         ? flow::ready
                         : r.next == step::want_write ? flow::blocked
                                                      : flow::closed};
      }
    }
    constexpr int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    std::size_t total = bytes[0].size;
    ssize_t n = 0;
    if (bytes.size() == 1) {
      n = ::send(c.fd(), bytes[0].data, total, flags);
    } else {
      std::array<iovec, max_buffers> pieces;
      msghdr message{};
      total = gather(bytes, pieces, message);
      n = ::sendmsg(c.fd(), &message, flags);
    }
    if (n < 0)
      return {0, errno == EAGAIN ? flow::blocked : errno == EINTR ? flow::ready : flow::closed};
    const auto took = static_cast<std::size_t>(n);
    return {took, took == total ? flow::ready : flow::blocked};
  }

  /// See transport: a TLS goodbye is sent behind the stream's last byte.
  [[nodiscard]] flow end(connection& c) noexcept {
    if (c.reuse_ && kept_) return flow::ready;
    return c.say_goodbye() ? flow::ready : flow::blocked;
  }

  /// See transport.
  void carries_values(connection& c) noexcept { detail::hold_little(c.fd()); }

  /// See transport: the connection serves its next request.
  [[nodiscard]] bool keep(connection& c) noexcept { return c.reuse_ && kept_ && kept_(c); }

  /// See transport.
  void close(connection& c, close_reason why) noexcept {
    if (why == close_reason::stalled) {
      detail::end_by_reset(c.fd());
    } else if (why != close_reason::peer) {
      (void)c.say_goodbye();
      (void)discard(c);  // unread input would make the end a reset, which takes our last bytes away
    }
    // A child process may have the descriptor too: then closing it ends nothing.
    if (why != close_reason::peer) ::shutdown(c.fd(), SHUT_RDWR);
  }

 protected:
  /// What epoll is given for a stream, told apart from the loop's own.
  [[nodiscard]] static constexpr std::uint64_t data_of(session_id id) noexcept {
    return std::uint64_t{1} << 63U | std::uint64_t{id.generation} << 31U | id.slot;
  }
  /// The stream that epoll names; none: it is the loop's own.
  [[nodiscard]] static constexpr session_id session_of(std::uint64_t data) noexcept {
    if (data >> 63U == 0) return {};
    return {static_cast<std::uint32_t>(data & 0x7fffffffU),
            static_cast<std::uint32_t>(data >> 31U)};
  }

  /// Prepares a message of up to max_buffers pieces; returns its bytes.
  static std::size_t gather(std::span<const buffer> bytes, std::span<iovec> pieces,
                            msghdr& message) noexcept {
    std::size_t total = 0;
    std::size_t n = 0;
    for (; n < bytes.size() && n < pieces.size(); ++n) {
      pieces[n] = {const_cast<char*>(bytes[n].data), bytes[n].size};
      total += bytes[n].size;
    }
    message.msg_iov = pieces.data();
    message.msg_iovlen = n;
    return total;
  }

  /// What a peer sent while it has a stream: the next request waits for the end of that. False: the
  /// peer is gone, or sends more than it may.
  [[nodiscard]] static bool take_input(connection& c) noexcept {
    if (!c.reuse_) return discard(c);
    int waiting = 0;
    return ::ioctl(c.fd(), FIONREAD, &waiting) == 0 &&
           static_cast<std::uint32_t>(waiting) <= max_input;
  }
  /// Takes unread input away. False: the peer is gone, or sends more than it may.
  [[nodiscard]] static bool discard(connection& c) noexcept {
    char sink[4096];
    while (c.discarded_ <= max_input) {
      const ssize_t n = c.receive(sink, sizeof sink);
      auto took = static_cast<std::uint32_t>(n > 0 ? n : 0);
      if constexpr (secure) {
        if (n < 0 && errno == EINTR) took = Layer::empty_record;
      }
      c.discarded_ = (c.discarded_ + took) & 0x1fffffffU;
      if (secure && took != 0) continue;
      if (n <= 0) return n < 0 && (errno == EAGAIN || errno == EINTR);
    }
    return false;
  }
  /// There is room again. False: not for all that waits for it, or somebody else sends it.
  [[nodiscard]] static bool sends_held(connection& c) noexcept {
    if constexpr (secure) {
      if (c.layer_)
        return !c.writing_ && c.layer_.flush() != decltype(c.layer_.flush())::want_write;
    }
    return true;
  }

 private:
  function<bool(connection&)> kept_;
  int epoll_;
  [[no_unique_address]] security security_;
};

using epoll_transport = basic_epoll_transport<>;  ///< of plain sockets

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_EPOLL_TRANSPORT_HPP
