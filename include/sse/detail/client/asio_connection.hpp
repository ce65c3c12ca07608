// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// asio_link: one connection of an asio_event_source, from the name of the host to the last byte.
// Not public.
//
// Each operation under way holds the link and its owner. close() ends them all, and nothing of the
// owner is called after it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <asio/any_io_executor.hpp>
#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/ip/address.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/write.hpp>

#include <sse/client_error.hpp>
#include <sse/config.hpp>
#include <sse/detail/base/assert.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/client/backoff.hpp>
#include <sse/detail/net/asio_stream.hpp>
#include <sse/function.hpp>

namespace sse::inline v0::detail {

[[nodiscard]] inline time_point steady_now() noexcept { return std::chrono::steady_clock::now(); }

/// A link to its owner, whatever its stream.
class asio_link {
 public:
  using socket = net::ip::tcp::socket;

  asio_link() = default;
  asio_link(const asio_link&) = delete;
  asio_link& operator=(const asio_link&) = delete;
  virtual ~asio_link() = default;

  /// Resolves, connects, and makes the connection secure if the stream can; then the owner's
  /// linked() or lost(why) is called. `each`: the longest that one of several addresses may take.
  virtual void dial(std::string host, std::uint16_t port, duration each) = 0;
  /// When look() is needed.
  [[nodiscard]] virtual time_point due() const noexcept = 0;
  virtual void look(time_point now) noexcept = 0;
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
class asio_link_of final : public asio_link,
                           public std::enable_shared_from_this<asio_link_of<Owner, Stream>> {
  using tcp = net::ip::tcp;

 public:
  using maker = function<Stream(socket, const std::string& host)>;

  /// `make` belongs to the owner.
  asio_link_of(std::shared_ptr<Owner> owner, std::size_t buffer, const maker& make)
      : owner_{std::move(owner)},
        make_{make},
        resolver_{owner_->executor()},
        socket_{owner_->executor()},
        size_{buffer} {
    buffer_ = std::make_unique<char[]>(size_);
  }

  void dial(std::string host, std::uint16_t port, duration each) override {
    host_ = std::move(host);
    each_ = each;
    std::error_code not_an_address;
    const auto address = net::ip::make_address(host_, not_an_address);
    if (!not_an_address) {
      addresses_.push_back({address, port});
      return connect_next();
    }
    char digits[max_digits + 1];
    *put_decimal(digits, port) = '\0';
    resolver_.async_resolve(
        host_, digits, tcp::resolver::numeric_service,
        [me = self()](const std::error_code& e, const tcp::resolver::results_type& found) {
          me->guarded([&] { me->resolved(e, found); });
        });
  }

  [[nodiscard]] time_point due() const noexcept override { return due_; }
  void look(time_point now) noexcept override {
    if (now < due_) return;
    due_ = time_point::never();
    std::error_code ignored;
    socket_.close(ignored);  // on to the next address
  }

  void send(std::string request) override {
    request_ = std::move(request);
    net::async_write(
        *stream_, net::buffer(request_),
        [me = self()](const std::error_code&, std::size_t) { std::string{}.swap(me->request_); });
  }

  void read() override {
    SSEHUB_ASSERT(unread().empty());
    from_ = to_ = 0;
    stream_->async_read_some(net::buffer(buffer_.get(), size_),
                             [me = self()](const std::error_code& e, std::size_t n) {
                               me->guarded([&] { me->have_read(e, n); });
                             });
  }

  void close() noexcept override {
    closed_ = true;
    due_ = time_point::never();
    std::error_code ignored;
    resolver_.cancel();
    socket_.close(ignored);
    if (stream_) stream_->lowest_layer().close(ignored);
  }

 private:
  [[nodiscard]] std::shared_ptr<asio_link_of> self() { return this->shared_from_this(); }

  template <class F>
  void guarded(F f) {
    if (!closed_) owner_->guarded(std::move(f));
  }

  void lost(client_error why) {
    close();
    owner_->lost(why);
  }

  void resolved(const std::error_code& e, const tcp::resolver::results_type& found) {
    for (const auto& entry : found) addresses_.push_back(entry.endpoint());
    if (e || addresses_.empty()) return lost(client_error::resolve);
    connect_next();
  }

  void connect_next() {
    due_ = time_point::never();
    if (next_ == addresses_.size()) return lost(client_error::connect);
    const tcp::endpoint to = addresses_[next_++];
    std::error_code e;
    socket_ = socket{owner_->executor()};
    socket_.open(to.protocol(), e);
    if (e) return connect_next();
    close_on_exec(socket_);
    if (next_ != addresses_.size()) due_ = deadline(steady_now(), each_);
    owner_->arm();
    socket_.async_connect(to, [me = self()](const std::error_code& failed) {
      me->guarded([&] { me->connected(failed); });
    });
  }

  void connected(const std::error_code& e) {
    if (e || !socket_.is_open()) return connect_next();
    due_ = time_point::never();
    std::error_code ignored;
    socket_.set_option(tcp::no_delay{true}, ignored);
    stream_.emplace(make_(std::move(socket_), host_));
    if constexpr (shakes_hands<Stream>) {
      stream_->async_handshake(Stream::client, [me = self()](const std::error_code& failed) {
        me->guarded([&] { failed ? me->lost(client_error::tls) : me->owner_->linked(); });
      });
    } else {
      owner_->linked();
    }
  }

  void have_read(const std::error_code& e, std::size_t n) {
    to_ = n;
    if (!e) return owner_->received();
    // With TLS, an end without its goodbye is no eof: somebody else may have cut it.
    lost(e == net::error::eof ? client_error::none : client_error::read);
  }

  std::shared_ptr<Owner> owner_;
  const maker& make_;
  tcp::resolver resolver_;
  socket socket_;  // until it is connected
  std::optional<Stream> stream_;
  std::vector<tcp::endpoint> addresses_;
  std::size_t next_ = 0;
  std::string host_;
  std::string request_;
  std::size_t size_;
  duration each_{};
  time_point due_ = time_point::never();
  bool closed_ = false;
};

}  // namespace sse::inline v0::detail
