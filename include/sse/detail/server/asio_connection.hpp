// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// One HTTP/1 connection of asio_server. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_SERVER_ASIO_CONNECTION_HPP
#define SSEHUB_DETAIL_SERVER_ASIO_CONNECTION_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <sse/asio_transport.hpp>
#include <sse/detail/net/asio.hpp>
#include <sse/detail/server/http_connection.hpp>
#include <sse/request.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `Core`: asio_core.
template <class Core>
class asio_connection final : public http_connection<asio_connection<Core>, Core>,
                              private asio_input<> {
  using base = http_connection<asio_connection, Core>;
  using typename base::phase;
  using transport_type = typename Core::transport_type;
  using stream_type = typename transport_type::stream_type;
  using self = ref<asio_connection>;
  static constexpr bool at_once = transport_type::at_once;

 public:
  asio_connection(Core& core, typename transport_type::connection c, std::string address)
      : base{core, std::move(c), std::move(address)} {
    asio_access::peer_of(peer_).taker = this;
  }

  void begin() {
    if constexpr (shakes_hands<stream_type>) phase_ = phase::handshake;
    set_due();
    if constexpr (shakes_hands<stream_type>) {
      peer_.stream().async_handshake(stream_type::server,
                                     [c = self{this}](const net_error& e) mutable {
                                       c->guarded([&] {
                                         if (e) return c->no_handshake(e);
                                         c->phase_ = phase::head;
                                         c->set_due();
                                         c->read();
                                       });
                                     });
    } else {
      read();
    }
  }

  /// The next request, after a stream; some of it may be there.
  void next() {
    const std::unique_ptr<std::string> held = std::move(asio_access::peer_of(peer_).held);
    if (held == nullptr) return read();
    in_ = std::move(*held);
    net::post(core_->executor(), [c = self{this}] { c->guarded([&] { c->go_on(); }); });
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
  using base::core_, base::go_on, base::guarded, base::out_, base::peer_, base::phase_,
      base::sending_;
  using base::in_, base::serve, base::set_due, base::writing_;

  [[nodiscard]] self hold() noexcept { return self{this}; }

  void no_handshake(const net_error& e) {
    if constexpr (layered<stream_type>) {
      if (e == std::errc::protocol_error) {
        return this->refuse_handshake(peer_.stream().layer());
      }
    }
    drop();
  }
  void send_plain(std::string_view text) {
    net_error ignored;
    (void)socket_of(peer_.stream()).write_some(net::buffer(text), ignored);
  }

  // --- bytes in

  void read() {
    auto& peer = asio_access::peer_of(peer_);
    if (peer.reading) return;
    // Not async_wait: this one looks before it waits, and waits without a call to the kernel. What
    // comes is whose the connection is by then.
    peer_.stream().async_read_some(
        net::buffer(input_),
        [c = self{this}, p = asio_access::share(peer_)](const net_error& e, std::size_t n) {
          asio_access::have_input(*p, e, {c->input_.data(), n});
        });
    peer.reading = true;
  }

  void input(const net_error& e, std::string_view bytes) override {
    const self held{this};
    guarded([&] { e ? drop() : have_read(bytes); });
  }

  void have_read(std::string_view bytes) {
    if constexpr (at_once) {
      if (bytes.size() == input_.size() || bytes.data() != input_.data()) {
        auto& all = core_->scratch();  // there may be much more, such as a body
        std::size_t n = bytes.copy(all.data(), all.size());
        net_error ends_later;
        n += peer_.stream().read_some(net::buffer(all) + n, ends_later);
        if (n == 0 && ends_later && !would_block(ends_later)) return drop();
        return serve({all.data(), n});
      }
    }
    serve(bytes);
  }

  /// A read finds the peer's end, unless very much came before that. It is the transport's, since
  /// the stream that it waits for goes on with it and has no use for this object and its buffers.
  void watch_end() {
    if (!this->waits_for_stream() || in_.size() > transport_type::max_input) return;
    if (!asio_access::watch(asio_access::peer_of(peer_))) drop();
  }

  void write() {
    sending_.clear();
    sending_.swap(out_);
    sent_ = 0;
    write_some();
  }

  void write_some() {
    peer_.stream().async_write_some(net::buffer(sending_) + sent_,
                                    [c = self{this}](const net_error& e, std::size_t n) {
                                      c->writing_ = false;
                                      c->guarded([&] { c->wrote(e, n); });
                                    });
    writing_ = true;
    this->await_write();
  }

  void wrote(const net_error& e, std::size_t n) {
    if (e) return drop();
    sent_ += n;
    if (sent_ != sending_.size()) return write_some();
    this->wrote_all();
  }

  // --- the end

  void abort() noexcept {
    asio_access::peer_of(peer_).abort_now();
    drop();
  }
  /// After what was written, and without a reset that would take it from the peer.
  void hang_up() noexcept {
    if (core_ == nullptr) return;
    core_->transport().disconnect(std::move(peer_));
    leave();
  }

  /// The server does not know it any more; operations under way still hold it.
  void leave() noexcept {
    if (core_ == nullptr) return;
    const auto given_up = this->give_up();
    Core* const core = std::exchange(core_, nullptr);
    if (peer_) asio_access::peer_of(peer_).taker = nullptr;
    peer_ = {};
    core->forget(*this);
  }

  std::size_t sent_ = 0;
  std::array<char, at_once ? 1024 : 4096> input_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_ASIO_CONNECTION_HPP
