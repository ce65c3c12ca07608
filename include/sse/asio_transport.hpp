// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// asio_transport: the transport of a hub over any Asio stream. For programs that have an HTTP
// server on Asio; one that brings its own is sse/asio.hpp, which also says what of Asio is needed.
#pragma once
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

#include <sse/detail/base/assert.hpp>
#include <sse/detail/net/asio.hpp>
#include <sse/detail/net/asio_stream.hpp>
#include <sse/detail/net/unsent.hpp>
#include <sse/function.hpp>
#include <sse/transport.hpp>

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
