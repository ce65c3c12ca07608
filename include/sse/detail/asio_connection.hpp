// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// One HTTP/1 connection of asio_server, from accept until it is a stream or closed: head, body,
// handler, answer, the next request. Not public.
//
// Requests of one connection are served one after the other. Nothing is read while an answer is
// being made or written, so a client that sends and never reads holds one request and one answer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/dispatch.hpp>

#include <sse/detail/asio_routes.hpp>
#include <sse/detail/asio_transport.hpp>
#include <sse/http1.hpp>

namespace sse::inline v0::detail {

/// What ends when: each has one length for the whole server, so that deadlines stand in line by
/// themselves.
enum class asio_due : std::uint8_t { never, head, body, idle, write };

/// `Core`: asio_core.
template <class Core>
class asio_connection {
  using transport_type = typename Core::transport_type;
  using stream_type = typename transport_type::stream_type;
  using user_type = typename Core::user_type;
  using endpoint = asio_endpoint<user_type>;
  using self = ref<asio_connection>;
  static constexpr bool plain = transport_type::plain;
  static constexpr std::size_t enough_output = 64U << 10U;

 public:
  asio_connection(Core& core, typename transport_type::connection c, net::ip::address from)
      : peer_{std::move(c)},
        core_{&core},
        reader_{core.limits()},
        from_{std::move(from)},
        address_{from_.to_string()} {}
  asio_connection(const asio_connection&) = delete;
  asio_connection& operator=(const asio_connection&) = delete;
  ~asio_connection() = default;

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

  /// Its time is up.
  void expired(asio_due what) noexcept {
    guarded([&] {
      if (what == asio_due::write) asio_access::peer_of(peer_).abort_now();
      if (what == asio_due::idle) {
        hang_up();
      } else if (what == asio_due::body || (what == asio_due::head && !idle_)) {
        refuse(408);
        go_on();
      } else {
        drop();
      }
    });
  }
  /// The server takes no more: ends what waits for a request.
  void end_if_idle() noexcept {
    if (phase_ == phase::head && idle_ && !writing_ && out_.empty()) hang_up();
  }
  /// At once.
  void drop() noexcept {
    if (core_ == nullptr) return;
    if (peer_) asio_access::peer_of(peer_).close_now();
    leave();
  }

  link<asio_connection> hook;
  std::int64_t due_at = 0;
  std::uint32_t refs = 0;

 private:
  enum class phase : std::uint8_t {
    handshake,
    head,
    body,
    answering,  // somebody holds a responder
    opening,    // a stream, once all answers before it are out
    closing,    // once all that was answered is out
  };

  /// What is thrown in here ends this connection alone.
  template <class F>
  void guarded(F&& f) noexcept {
    if (core_ == nullptr) return;
    try {
      f();
    } catch (const std::exception& e) {
      failed(e.what());
    } catch (...) {
      failed("exception");
    }
  }
  void failed(const char* what) noexcept {
    if (core_ == nullptr) return;
    core_->error(what, {});
    drop();
  }

  // --- bytes in

  void read() {
    if (reading_) return;
    if constexpr (plain) {
      peer_.stream().async_wait(net::socket_base::wait_read,
                                [c = self{this}](const std::error_code& e) {
                                  c->reading_ = false;
                                  c->guarded([&] { c->can_read(e); });
                                });
    } else {
      if (buffer_ == nullptr) buffer_ = std::make_unique<std::array<char, 4096>>();
      peer_.stream().async_read_some(
          net::buffer(*buffer_), [c = self{this}](const std::error_code& e, std::size_t n) {
            c->reading_ = false;
            if (c->core_ == nullptr) return;
            asio_access::peer_of(c->peer_).reading = false;
            c->guarded([&] { e ? c->drop() : c->serve({c->buffer_->data(), n}); });
          });
      asio_access::peer_of(peer_).reading = true;
    }
    reading_ = true;
  }

  void can_read(std::error_code e) {
    if constexpr (plain) {
      const std::size_t n = e ? 0 : peer_.stream().read_some(net::buffer(core_->scratch()), e);
      if (would_block(e)) return read();
      if (e) return drop();
      serve({core_->scratch().data(), n});
    } else {
      (void)e;
    }
  }

  /// Takes bytes as far as it may; the rest waits in in_.
  void serve(std::string_view bytes) {
    const self held{this};
    serving_ = true;
    while (core_ != nullptr && !bytes.empty() && out_.size() < enough_output) {
      if (phase_ == phase::head) {
        read_head(bytes);
      } else if (phase_ == phase::body) {
        read_body(bytes);
      } else {
        break;
      }
    }
    serving_ = false;
    if (core_ == nullptr) return;
    in_.assign(phase_ == phase::closing ? std::string_view{} : bytes);
    go_on();
  }

  void read_head(std::string_view& bytes) {
    if (idle_) {
      idle_ = false;
      began_ = Core::now_us();
      set_due();
    }
    const http1::feed_result r = reader_.feed(bytes);
    bytes.remove_prefix(r.consumed);
    if (r.state == http1::outcome::error) {
      refuse(reader_.status());
    } else if (r.state == http1::outcome::complete) {
      route();
    }
  }

  void read_body(std::string_view& bytes) {
    const std::size_t missing = static_cast<std::size_t>(reader_.content_length()) - body_.size();
    const std::size_t n = bytes.size() < missing ? bytes.size() : missing;
    body_.append(bytes.substr(0, n));
    bytes.remove_prefix(n);
    if (n == missing) call();
  }

  // --- requests

  [[nodiscard]] request make_request() {
    request r = reader_.head();
    r.address = address_;
    return r;
  }

  void route() {
    forwarded_ = forwarded_for(reader_.head(), from_, core_->trusted());
    if (!forwarded_.empty()) address_.swap(forwarded_);
    const request r = make_request();
    if (!core_->hosts().empty() && !host_allowed(r, core_->hosts())) return refuse(403);
    if (r.method == "OPTIONS") {
      return answer(preflight(core_->cors(), r, core_->preflight_status()), false, false);
    }
    const auto* found = core_->find_route(r.path);
    if (found == nullptr) return refuse(404);
    std::shared_ptr<endpoint> e = found->find(r.method);
    if (e == nullptr) return refuse(405, "Allow", found->allow());
    const bool changes = r.method != "GET" && r.method != "HEAD";
    if (changes && core_->checks_origin() && !origin_allowed(core_->cors(), r)) return refuse(403);

    endpoint_ = std::move(e);
    if (endpoint_->takes_body && reader_.content_length() != 0) {
      phase_ = phase::body;
      set_due();
      const auto promised = static_cast<std::size_t>(reader_.content_length());
      body_.reserve(promised < enough_output ? promised : enough_output);
      if (reader_.expects_continue()) out_.append(http1::continue_head);
      return;
    }
    call();
  }

  /// Runs the handler.
  void call() {
    const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
    phase_ = phase::answering;
    set_due();
    if (e->stream && (writing_ || !out_.empty())) {
      endpoint_ = e;
      phase_ = phase::opening;
      return;
    }
    const std::uint32_t serial = serial_;
    try {
      if (e->answer) {
        response r = e->answer(make_request(), body_);
        if (core_ != nullptr) answer(std::move(r), e->takes_body);
      } else if (e->later) {
        takes_body_ = e->takes_body;
        e->later(make_request(), body_, make_responder());
      } else {
        open_stream(*e);
      }
    } catch (const std::exception& x) {
      handler_failed(x.what(), serial, e->takes_body);
    } catch (...) {
      handler_failed("exception", serial, e->takes_body);
    }
  }

  void handler_failed(const char* what, std::uint32_t serial, bool body_read) {
    if (core_ == nullptr) return;
    core_->error(what, {});
    if (!peer_) return leave();  // the hub has it: one of its hooks threw
    if (serial == serial_) answer(core_->refusal(500), body_read);
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
  void answered(std::uint32_t serial, bool given, response r) {
    if (serial != serial_ || phase_ != phase::answering) return;
    answer(given ? std::move(r) : core_->refusal(500), takes_body_);
    if (!serving_) go_on();
  }

  void open_stream(endpoint& e) {
    request r = make_request();
    if (!e.takes_body) {
      return open_stream(e, r, [&](auto&& c) { return core_->accept(std::move(c), r, e); });
    }
    verdict<user_type> v = e.stream(r, body_);
    if (core_ == nullptr) return;
    if (!v.admitted()) return answer(std::move(v.refusal()), true);
    open_stream(e, r, [&](auto&& c) { return core_->accept(std::move(c), r, std::move(v)); });
  }

  template <class Accept>
  void open_stream(endpoint& e, request& r, Accept accept) {
    std::string head;
    r.chunked = core_->write_head(head, e, r);
    r.preamble = head;
    accept_result out;
    {
      // A handler may stop the server, which ends this connection: the hub gets its own handle.
      handing_over given{*this, std::move(peer_)};
      out = accept(std::move(given.connection));
    }
    if (core_ == nullptr) return;
    if (!peer_) {  // it is the hub's now
      core_->log(r, 200, 0, began_, true);
      leave();
    } else if (out.head_only) {
      out_.append(head);
      answered_with(200, head.size(), reader_.answer().keep_alive);
    } else {
      answer(std::move(out.refusal), e.takes_body);
    }
  }
  struct handing_over {
    ~handing_over() {
      if (connection && me.core_ != nullptr) me.peer_ = std::move(connection);
    }
    asio_connection& me;
    typename transport_type::connection connection;
  };

  // --- bytes out

  void refuse(int status, std::string_view name = {}, std::string_view value = {}) {
    response r = core_->refusal(status);
    if (!name.empty()) r.add(name, value);
    answer(std::move(r), false);
  }

  void answer(response r, bool body_read, bool with_cors = true) {
    // A request that could not be read has a method at most.
    const bool readable = reader_.state() == http1::outcome::complete;
    const request q = readable ? make_request() : request{};
    if (with_cors) add_cors(r.headers, core_->cors(), q);
    http1::response_options o = reader_.answer(body_read);
    o.keep_alive = o.keep_alive && readable && !core_->ending();
    const std::size_t before = out_.size();
    if (!http1::write_response(out_, r, o)) {
      core_->error("an answer with a bad status or header became 500", {});
      r.status = 500;
    }
    answered_with(r.status, out_.size() - before, o.keep_alive);
  }

  /// What was written answers the request; on to the next.
  void answered_with(int status, std::size_t bytes, bool keep_alive) {
    ++serial_;
    const bool readable = reader_.state() == http1::outcome::complete;
    request q = readable ? make_request() : request{.method = {}, .address = address_};
    core_->log(q, status, bytes, began_, false);
    if (core_ == nullptr) return;
    if (!forwarded_.empty()) address_.swap(forwarded_);
    forwarded_.clear();
    endpoint_ = nullptr;
    body_.clear();
    if (body_.capacity() > enough_output) body_.shrink_to_fit();
    if (!keep_alive || core_->ending()) {
      phase_ = phase::closing;
    } else {
      reader_.reset();
      phase_ = phase::head;
      idle_ = true;
    }
    set_due();
  }

  /// Writes what there is, or reads, or ends: whatever the phase asks for.
  void go_on() {
    if (core_ == nullptr || writing_) return;
    if (!out_.empty()) {
      write();
      if (phase_ == phase::body && in_.empty()) read();
    } else if (phase_ == phase::closing) {
      hang_up();
    } else if (phase_ == phase::opening) {
      call();
      if (core_ != nullptr) go_on();
    } else if (phase_ == phase::head || phase_ == phase::body) {
      if (in_.empty() && idle_ && phase_ == phase::head && core_->ending()) return hang_up();
      if (in_.empty()) return read();
      std::string bytes;
      bytes.swap(in_);
      serve(bytes);
    }
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
    if (phase_ != phase::body) core_->await(*this, due_ = asio_due::write);  // from now on
  }

  void wrote(const std::error_code& e, std::size_t n) {
    if (e) return drop();
    sent_ += n;
    if (sent_ != sending_.size()) return write_some();
    if (sending_.capacity() > enough_output) std::string{}.swap(sending_);
    set_due();
    go_on();
  }

  /// The deadline that the state asks for; one that runs already goes on.
  void set_due() {
    asio_due d = asio_due::never;
    if (phase_ == phase::body) {
      d = asio_due::body;
    } else if (writing_) {
      d = asio_due::write;
    } else if (phase_ == phase::head || phase_ == phase::handshake) {
      d = idle_ && serial_ != 0 ? asio_due::idle : asio_due::head;
    }
    if (d != due_) core_->await(*this, due_ = d);
  }

  // --- the end

  /// After what was written, and without a reset that would take it from the peer.
  void hang_up() noexcept {
    if (core_ == nullptr) return;
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

  typename transport_type::connection peer_;
  Core* core_;  // nullptr: over
  http1::head_reader reader_;
  std::unique_ptr<std::array<char, 4096>> buffer_;  // of streams that are no plain sockets
  std::string in_;                                  // received, not yet looked at
  std::string body_;
  std::string out_;      // to be written next
  std::string sending_;  // being written
  net::ip::address from_;
  std::string address_;    // of the client
  std::string forwarded_;  // the peer's own, while address_ is the one that a proxy named
  std::shared_ptr<endpoint> endpoint_;
  std::int64_t began_ = 0;    // the request, in microseconds
  std::uint32_t serial_ = 0;  // of the request
  std::size_t sent_ = 0;
  phase phase_ = phase::head;
  asio_due due_ = asio_due::never;
  bool idle_ : 1 = true;  // nothing of a request is there
  bool reading_ : 1 = false;
  bool writing_ : 1 = false;
  bool serving_ : 1 = false;
  bool takes_body_ : 1 = false;
};

}  // namespace sse::inline v0::detail
