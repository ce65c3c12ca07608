// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// One HTTP/1 connection of asio_server. Not public.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/dispatch.hpp>

#include <sse/asio_transport.hpp>
#include <sse/detail/server/http_connection.hpp>
#include <sse/request.hpp>

namespace sse::inline v0::detail {

/// `Core`: asio_core.
template <class Core>
class asio_connection : public http_connection<asio_connection<Core>, Core> {
  using base = http_connection<asio_connection, Core>;
  using typename base::phase;
  using transport_type = typename Core::transport_type;
  using stream_type = typename transport_type::stream_type;
  using self = ref<asio_connection>;
  static constexpr bool plain = transport_type::plain;

 public:
  using base::base;

  void begin() {
    set_due();
    if constexpr (shakes_hands<stream_type>) {
      phase_ = phase::handshake;
      peer_.stream().async_handshake(stream_type::server,
                                     [c = self{this}](const std::error_code& e) mutable {
                                       c->guarded([&] {
                                         if (e) return c->drop();
                                         c->phase_ = phase::head;
                                         c->read();
                                       });
                                     });
    } else {
      read();
    }
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
  using base::core_, base::guarded, base::out_, base::peer_, base::phase_, base::sending_;
  using base::serial_, base::serve, base::set_due, base::writing_;

  [[nodiscard]] self hold() noexcept { return self{this}; }

  // --- bytes in

  void read() {
    if (reading_) return;
    // Not async_wait: this one looks before it waits, and waits without a call to the kernel.
    peer_.stream().async_read_some(net::buffer(input_),
                                   [c = self{this}](const std::error_code& e, std::size_t n) {
                                     c->reading_ = false;
                                     if (c->core_ == nullptr) return;
                                     if (!plain) asio_access::peer_of(c->peer_).reading = false;
                                     c->guarded([&] { e ? c->drop() : c->have_read(n); });
                                   });
    reading_ = true;
    if (!plain) asio_access::peer_of(peer_).reading = true;
  }

  void have_read(std::size_t n) {
    if constexpr (plain) {
      if (n == input_.size()) {  // there may be much more, such as a body
        auto& all = core_->scratch();
        std::copy(input_.begin(), input_.end(), all.begin());
        std::error_code ends_later;
        n += peer_.stream().read_some(net::buffer(all) + n, ends_later);
        return serve({all.data(), n});
      }
    }
    serve({input_.data(), n});
  }

  void write() {
    sending_.clear();
    sending_.swap(out_);
    sent_ = 0;
    write_some();
  }

  void write_some() {
    peer_.stream().async_write_some(net::buffer(sending_) + sent_,
                                    [c = self{this}](const std::error_code& e, std::size_t n) {
                                      c->writing_ = false;
                                      c->guarded([&] { c->wrote(e, n); });
                                    });
    writing_ = true;
    this->await_write();
  }

  void wrote(const std::error_code& e, std::size_t n) {
    if (e) return drop();
    sent_ += n;
    if (sent_ != sending_.size()) return write_some();
    this->wrote_all();
  }

  [[nodiscard]] responder make_responder() {
    return responder{[c = self{this}, serial = serial_,
                      ex = core_->executor()](response* r) mutable {
      const bool given = r != nullptr;
      net::dispatch(
          ex, [c = std::move(c), serial, given, r = given ? std::move(*r) : response{}]() mutable {
            c->guarded([&] { c->answered(serial, given, std::move(r)); });
          });
    }};
  }
  // --- the end

  void abort() noexcept {
    asio_access::peer_of(peer_).abort_now();
    drop();
  }
  /// After what was written, and without a reset that would take it from the peer.
  void hang_up() noexcept {
    if (core_ == nullptr) return;
    if constexpr (plain) {  // what comes now is the transport's to read
      std::error_code ignored;
      if (reading_) peer_.stream().cancel(ignored);
    }
    core_->transport().disconnect(std::move(peer_));
    leave();
  }

  /// The server does not know it any more; operations under way still hold it.
  void leave() noexcept {
    if (core_ == nullptr) return;
    Core* const core = std::exchange(core_, nullptr);
    peer_ = {};
    core->forget(*this);
  }

  std::size_t sent_ = 0;
  std::array<char, plain ? 1024 : 4096> input_;
  bool reading_ = false;
};

}  // namespace sse::inline v0::detail
