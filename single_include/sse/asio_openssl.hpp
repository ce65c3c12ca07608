// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/asio_openssl.hpp
//
// tls::asio_stream: TLS for asio_server and asio_transport by sse/openssl.hpp. Unlike
// asio::ssl::stream it writes at once, and an idle one has no buffers.
//
//   sse::tls::context tls{{.certificate = "chain.pem", .key = "key.pem"}};
//   if (auto e = tls.load()) return fail(e.message);
//   sse::asio_server<sse::no_user, sse::tls::asio_stream> server{
//       ctx, options, sse::tls::asio_streams(&tls)};       // nullptr: plain
//
// Not on Windows, where asio::ssl::stream does.
#ifndef SSEHUB_ASIO_OPENSSL_HPP
#define SSEHUB_ASIO_OPENSSL_HPP

#include <cstddef>
#include <system_error>
#include <utility>

// ---- sse/detail/net/asio.hpp
//
// The one place that includes Asio: the standalone one, or Boost's where SSEHUB_BOOST_ASIO is
// defined. Not public.
//
// Everything that has a type of Asio's in it is a template over one, or names one in its
// parameters: so files that use the one and files that use the other may be one program.
#ifndef SSEHUB_DETAIL_NET_ASIO_HPP
#define SSEHUB_DETAIL_NET_ASIO_HPP

#include "sse.hpp"

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
#include "openssl.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE::tls {

/// A server's side of a TLS connection on a TCP socket, or a plain one: which, is said when it is
/// made. It is non-blocking. Not thread-safe; operations complete on the socket's executor.
/// REQUIRES: neither moved nor destroyed while one is under way.
///
/// Errors: eof where the peer ended, protocol_error where layer().reason() says why, and those of
/// the socket.
template <class Socket>
class basic_asio_stream {
 public:
  using next_layer_type = Socket;  ///< what it encrypts
  /// What is dialled, cancelled and closed.
  using lowest_layer_type = typename Socket::lowest_layer_type;
  using executor_type = typename Socket::executor_type;  ///< the socket's
  /// As ssl::stream_base's, of which a server needs one.
  enum handshake_type { server };
  /// Told apart by the transport: what is written is tried at once.
  static constexpr bool writes_at_once = true;
  static constexpr std::size_t empty_record = session::empty_record;  ///< see session

  /// `context` outlives the handshake; nullptr: plain.
  explicit basic_asio_stream(next_layer_type socket, const context* c = nullptr) noexcept
      : socket_{std::move(socket)}, context_{c} {}

  [[nodiscard]] executor_type get_executor() { return socket_.get_executor(); }  ///< the socket's
  /// The socket, or what stands for it.
  [[nodiscard]] next_layer_type& next_layer() noexcept { return socket_; }
  /// The socket itself.
  [[nodiscard]] lowest_layer_type& lowest_layer() noexcept { return socket_.lowest_layer(); }
  /// Whether it encrypts, or will, once its hands were shaken.
  [[nodiscard]] bool secure() const noexcept { return context_ != nullptr; }
  /// REQUIRES: secure(), and async_handshake was called.
  [[nodiscard]] session& layer() noexcept { return layer_; }

  // --- at once; would_block: nothing, or not all, can be done now

  /// What is taken need not be out: then would_block comes with it, and flush() goes on.
  std::size_t write_some(detail::net::const_buffer bytes, detail::net_error& e) noexcept {
    if (!layer_) return socket_.write_some(bytes, e);
    e = {};
    const auto* const data = static_cast<const char*>(bytes.data());
    std::size_t all = 0;
    for (;;) {
      const session::result r = layer_.write({data + all, bytes.size() - all});
      all += r.bytes;
      e = error_of(r.next);
      if (e || all == bytes.size()) return all;
    }
  }
  /// 0 without an error: nothing for us yet, ask again.
  std::size_t read_some(detail::net::mutable_buffer into, detail::net_error& e) noexcept {
    if (!layer_) return socket_.read_some(into, e);
    const session::result r = layer_.read({static_cast<char*>(into.data()), into.size()});
    e = error_of(r.next);
    return r.bytes;
  }
  /// Sends what a record had no room for.
  void flush(detail::net_error& e) noexcept {
    e = layer_ ? error_of(layer_.flush()) : detail::net_error{};
  }
  /// would_block: it waits for room, flush() goes on.
  void say_goodbye(detail::net_error& e) noexcept {
    e = layer_ ? error_of(layer_.shutdown()) : detail::net_error{};
  }

  // --- operations

  /// Until the socket can be read or written, as the socket's own.
  template <class Token>
  auto async_wait(detail::net::socket_base::wait_type what, Token&& token) {
    return socket_.async_wait(what, std::forward<Token>(token));
  }
  /// void(error_code). Throws what session's constructor does.
  template <class Token>
  auto async_handshake(handshake_type, Token&& token) {
    if (secure()) layer_ = session{*context_, socket_.native_handle()};
    return detail::net::async_compose<Token, void(detail::net_error)>(
        trying(detail::net::socket_base::wait_read,
               [this](detail::net_error& e, auto& waits_for) -> std::size_t {
                 e = secure() ? error_of(layer_.handshake()) : detail::net_error{};
                 const bool full = e && layer_.flush() == step::want_write;
                 waits_for = full ? detail::net::socket_base::wait_write
                                  : detail::net::socket_base::wait_read;
                 return 0;
               }),
        token, socket_);
  }
  /// void(error_code, std::size_t), as a socket's: of several buffers it writes one. Complete when
  /// what was taken is out.
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    const auto bytes = first_of<detail::net::const_buffer>(buffers);
    return detail::net::async_compose<Token, void(detail::net_error, std::size_t)>(
        trying(detail::net::socket_base::wait_write,
               [this, bytes, taken = std::size_t{0}](detail::net_error& e, auto&) mutable {
                 if (taken != 0) {
                   flush(e);
                 } else {
                   taken = write_some(bytes, e);
                 }
                 return taken;
               }),
        token, socket_);
  }
  /// As Asio's streams: at least a byte of the peer's, or an error. Of several buffers it fills
  /// one.
  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    const auto into = first_of<detail::net::mutable_buffer>(buffers);
    return detail::net::async_compose<Token, void(detail::net_error, std::size_t)>(
        trying(detail::net::socket_base::wait_read,
               [this, into](detail::net_error& e, auto&) {
                 const std::size_t n = read_some(into, e);
                 if (!e && n == 0)
                   e = detail::net::error::would_block;  // more comes, or lies there
                 return n;
               }),
        token, socket_);
  }
  /// Ends what is under way with operation_aborted.
  void cancel(detail::net_error& e) { socket_.cancel(e); }

 private:
  /// The first that is not empty.
  template <class Buffer, class Buffers>
  [[nodiscard]] static Buffer first_of(const Buffers& buffers) {
    const auto end = detail::net::buffer_sequence_end(buffers);
    for (auto i = detail::net::buffer_sequence_begin(buffers); i != end; ++i) {
      if (const Buffer b{*i}; b.size() != 0) return b;
    }
    return {};
  }
  /// Tries until it would not block any more.
  template <class Try>
  struct operation {
    operation(basic_asio_stream* s, detail::net::socket_base::wait_type w, Try t)
        : stream{s}, waits_for{w}, attempt{std::move(t)} {}

    template <class Self>
    void operator()(Self& self, detail::net_error waited = {}) {
      if (!over) {
        result = waited;
        if (!waited) n = attempt(result, waits_for);
        if (result == detail::net::error::would_block) {
          waits = true;
          return stream->socket_.async_wait(waits_for, std::move(self));
        }
        over = true;
        // Nothing completes inside of the call that began it.
        if (!waits) return detail::net::post(stream->get_executor(), std::move(self));
      }
      if constexpr (requires { self.complete(result, n); }) {
        self.complete(result, n);
      } else {
        self.complete(result);
      }
    }

    basic_asio_stream* stream;
    detail::net::socket_base::wait_type waits_for;
    Try attempt;
    detail::net_error result{};
    std::size_t n = 0;
    bool waits = false;
    bool over = false;
  };

  template <class Try>
  [[nodiscard]] operation<Try> trying(detail::net::socket_base::wait_type w, Try t) {
    return {this, w, std::move(t)};
  }

  [[nodiscard]] static detail::net_error error_of(step s) noexcept {
    switch (s) {
      case step::done: return {};
      case step::want_read:
      case step::want_write: return detail::net::error::would_block;
      case step::closed: return detail::net::error::eof;
      case step::failed: break;
    }
    return std::make_error_code(std::errc::protocol_error);
  }

  next_layer_type socket_;
  const context* context_;
  session layer_{};
};

/// basic_asio_stream on the TCP socket of the Asio in use.
using asio_stream = basic_asio_stream<detail::net::ip::tcp::socket>;

/// What asio_server's constructor makes streams with. `c` outlives the server; nullptr: plain.
template <class Socket = detail::net::ip::tcp::socket>
[[nodiscard]] auto asio_streams(const context* c) {
  return [c](Socket s) { return basic_asio_stream<Socket>{std::move(s), c}; };
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::tls

#endif  // SSEHUB_ASIO_OPENSSL_HPP
