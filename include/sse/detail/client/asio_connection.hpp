// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// asio_link: one connection of an asio_event_source, from the name of the host to the last byte.
// Not public.
//
// Each operation under way holds the link and its owner. close() ends them all, and nothing of the
// owner is called after it.
#pragma once
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

#include <sse/asio_client_options.hpp>
#include <sse/client_error.hpp>
#include <sse/config.hpp>
#include <sse/detail/base/assert.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/client/connect_race.hpp>
#include <sse/detail/net/asio.hpp>
#include <sse/detail/net/asio_stream.hpp>
#include <sse/function.hpp>

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
