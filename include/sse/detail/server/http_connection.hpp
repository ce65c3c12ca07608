// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// One HTTP/1 connection of a server, from accept until it is a stream or closed: head, body,
// handler, answer, the next request. It moves no bytes: its host gives it what came and writes what
// it has. Not public.
//
// Requests of one connection are served one after the other. Nothing is read while an answer is
// being made or written, so a client that sends and never reads holds one request and one answer.
#pragma once
#ifndef SSEHUB_DETAIL_SERVER_HTTP_CONNECTION_HPP
#define SSEHUB_DETAIL_SERVER_HTTP_CONNECTION_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <sse/detail/base/intrusive_list.hpp>
#include <sse/detail/base/size.hpp>
#include <sse/detail/server/inbox.hpp>
#include <sse/detail/server/server_core.hpp>
#include <sse/http1.hpp>
#include <sse/responder.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// `Core`: a server_core with await(Self&, due). `Self` is the host's connection, which derives
/// from this and has
///
///   hold()            what keeps it alive while it lives
///   read()            more input is wanted: serve() takes it
///   next()            the same, after a stream
///   write()           sends out_; writing_: it goes on, wrote_all() ends it; else wrote()
///   drop(), abort()   it ends at once, or by a reset
///   hang_up()         it ends after what was written
///   leave()           it is over, or the hub has it
///   watch_end()       an answer is awaited: looks for the end of the connection, if it can
///   send_plain(text)  past the TLS that did not come about, as much as goes at once
///
/// leave() holds what give_up() gives until all else is done.
template <class Self, class Core>
class http_connection {
 protected:
  using connection_type = typename Core::transport_type::connection;
  using user_type = typename Core::user_type;
  using endpoint = typename Core::endpoint;
  static constexpr std::size_t enough_output = 64U << 10U;

 public:
  http_connection(Core& core, connection_type c, std::string address)
      : peer_{std::move(c)}, core_{&core}, reader_{core.limits()}, address_{std::move(address)} {}
  http_connection(const http_connection&) = delete;
  http_connection& operator=(const http_connection&) = delete;

  /// The stream that it carried is over: its next request may come.
  void resume() noexcept {
    serial_ = 1;
    guarded([&] {
      set_due();
      self().next();
    });
  }

  /// Its time is up.
  void expired(due what) noexcept {
    guarded([&] {
      if (what == due::write) {
        self().abort();
      } else if (what == due::idle) {
        self().hang_up();
      } else if (what == due::verdict) {
        give_no_verdict();
      } else if (what == due::ahead) {
        stop_waiting_ahead();
      } else if (what == due::body || (what == due::head && !idle_)) {
        refuse(408);
        go_on();
      } else {
        self().drop();
      }
    });
  }
  /// The server takes no more: ends what waits for a request, or to become a stream.
  void drain() noexcept {
    if (awaits_verdict()) return give_no_verdict();
    if (ahead_ == ahead::waits) return guarded([&] { stop_waiting_ahead(); });
    if (phase_ == phase::handshake) return self().drop();
    if (phase_ == phase::head && idle_ && !writing_ && out_.empty()) self().hang_up();
  }

  /// The hub got events: perhaps what the client has already.
  void look_ahead() noexcept {
    if (!core_->is_ahead(make_request())) guarded([&] { stop_waiting_ahead(); });
  }

  /// The answer that was to come later, or that there is none.
  void answered(std::optional<response> r) noexcept {
    guarded([&] {
      [[maybe_unused]] const auto held = self().hold();
      end_late();
      const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
      answer(r ? std::move(*r) : core_->refusal(500), e->takes_body);
      go_on();
    });
  }
  void answered(std::optional<verdict<user_type>> v) noexcept {
    guarded([&] {
      [[maybe_unused]] const auto held = self().hold();
      end_late();
      const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
      handle(*e, [&] {
        if (!v) return answer(core_->refusal(500), e->takes_body);
        open_stream(*e, std::move(*v));
      });
      go_on();
    });
  }

  link<Self> hook;
  std::int64_t due_at = 0;

 protected:
  ~http_connection() = default;

  enum class phase : std::uint8_t {
    handshake,
    head,
    body,
    answering,  // a handler runs, or somebody holds a responder
    opening,    // a stream, once all answers before it are out
    closing,    // once all that was answered is out
  };

  /// Whether a request for a stream waits for the hub to have what its client has.
  enum class ahead : std::uint8_t { no, waits, waited };

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
    self().drop();
  }

  /// No TLS session came about. A peer that speaks HTTP is told so.
  template <class Layer>
  void refuse_handshake(const Layer& layer) {
    const bool plain = layer.met_plain_http();
    core_->handshake_failed(layer.reason(), address_);
    if (core_ != nullptr && plain) {  // else the program stopped its server
      const std::string out = core_->not_plain(address_);
      if (core_ != nullptr) self().send_plain(out);
    }
    self().hang_up();
  }

  // --- bytes in

  void serve(std::string_view bytes) {
    [[maybe_unused]] const auto held = self().hold();
    if (in_.empty()) {
      take(bytes);
    } else {
      in_.append(bytes);  // read ahead: go_on() takes it when it may
    }
    go_on();
  }

  /// Takes bytes as far as it may; the rest waits in in_.
  void take(std::string_view bytes) {
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
  }

  void read_head(std::string_view& bytes) {
    if (idle_) {
      idle_ = false;
      began_ = Core::now_us();
      set_due();
    }
    const http1::feed_result r = reader_.feed(bytes);
    bytes.remove_prefix(r.consumed);
    more_behind_ = !bytes.empty();
    if (r.state == http1::outcome::error) {
      refuse(reader_.status());
    } else if (r.state == http1::outcome::complete) {
      route();
    }
  }

  void read_body(std::string_view& bytes) {
    const http1::feed_result r = framing_.feed(bytes, body_);
    bytes.remove_prefix(r.consumed);
    more_behind_ = !bytes.empty();
    if (r.state == http1::outcome::error) {
      refuse(framing_.status());
    } else if (r.state == http1::outcome::complete) {
      call();
    }
  }

  // --- requests

  [[nodiscard]] request make_request() {
    request r = reader_.head();
    r.address = address_;
    return r;
  }

  void route() {
    forwarded_ = core_->client_of(reader_.head(), address_);
    if (!forwarded_.empty()) address_.swap(forwarded_);
    typename Core::routed found = core_->route(make_request());
    if (found.to == nullptr) return answer(std::move(found.answer), false, found.with_cors);

    endpoint_ = std::move(found.to);
    if (endpoint_->takes_body && reader_.has_body()) {
      phase_ = phase::body;
      framing_ = http1::body_reader{reader_, core_->limits()};
      set_due();
      const auto promised = to_size(reader_.content_length());
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
    if ((e->stream || e->later_stream) && (writing_ || !out_.empty())) {
      endpoint_ = e;
      phase_ = phase::opening;
      return;
    }
    if ((e->stream || e->later_stream) && ahead_ == ahead::no && core_->is_ahead(make_request())) {
      endpoint_ = e;
      ahead_ = ahead::waits;
      return set_due();
    }
    ahead_ = ahead::no;
    handle(*e, [&] {
      if (e->answer) {
        response r = e->answer(make_request(), body_);
        if (core_ != nullptr) answer(std::move(r), e->takes_body);
      } else if (e->stream) {
        const request r = make_request();
        open_stream(*e, [&] { return e->stream(r, body_); });
      } else if (e->later) {
        endpoint_ = e;
        e->later(make_request(), body_, make_responder<response>());
      } else if (may_wait(*e)) {
        endpoint_ = e;
        set_due();
        e->later_stream(make_request(), body_, make_responder<verdict<user_type>>());
      }
    });
  }

  /// What is thrown answers the request, if nothing has yet.
  template <class F>
  void handle(endpoint& e, F&& f) {
    const std::uint32_t serial = serial_;
    try {
      f();
    } catch (const std::exception& x) {
      handler_failed(x.what(), serial, e.takes_body);
    } catch (...) {
      handler_failed("exception", serial, e.takes_body);
    }
  }

  void handler_failed(const char* what, std::uint32_t serial, bool body_read) {
    if (core_ == nullptr) return;
    core_->error(what, {});
    if (!peer_) return self().leave();  // the hub has it: one of its hooks threw
    if (serial == serial_) answer(core_->refusal(500), body_read);
  }

  /// It goes on as far as it can: the hub has what its client has, or there was no more time.
  void stop_waiting_ahead() {
    [[maybe_unused]] const auto held = self().hold();
    ahead_ = ahead::waited;
    call();
    if (core_ != nullptr) go_on();
  }

  // --- answers that come later

  template <class Answer>
  [[nodiscard]] basic_responder<Answer> make_responder() {
    using late = late_request<http_connection>;
    late_ = std::make_shared<late>(*this, core_->box());
    return basic_responder<Answer>{late::template sender<Answer>(late_), late_};
  }
  /// Nobody waits for it any more.
  std::shared_ptr<late_answer> let_go() noexcept {
    core_->hub().release(place_);
    if (late_ != nullptr) late_->to = nullptr;
    return std::exchange(late_, nullptr);
  }
  /// The request has its answer.
  void end_late() noexcept {
    if (const std::shared_ptr<late_answer> l = let_go(); l != nullptr) l->on_called_off = {};
  }
  /// Tells who still holds a responder, when it goes.
  struct called_off {
    explicit called_off(std::shared_ptr<late_answer> l) noexcept : late{std::move(l)} {}
    called_off(called_off&&) noexcept = default;
    called_off& operator=(called_off&&) = delete;
    ~called_off() {
      if (late == nullptr) return;
      late->called_off.store(true, std::memory_order_release);
      const function<void()> tell = std::move(late->on_called_off);
      try {
        if (tell) tell();
      } catch (...) {  // there is nobody to tell any more
      }
    }
    std::shared_ptr<late_answer> late;
  };
  [[nodiscard]] called_off give_up() noexcept { return called_off{let_go()}; }
  [[nodiscard]] bool awaits_verdict() const noexcept { return static_cast<bool>(place_); }
  [[nodiscard]] bool waits_for_stream() const noexcept {
    return awaits_verdict() || ahead_ == ahead::waits;
  }

  /// The time for it is over, or the server drains.
  void give_no_verdict() noexcept {
    guarded([&] {
      [[maybe_unused]] const auto held = self().hold();
      const std::shared_ptr<endpoint> e = std::exchange(endpoint_, nullptr);
      { const called_off now = give_up(); }
      if (core_ == nullptr) return;
      offer(*e, [&](connection_type&& c, const request& r, const std::string&) {
        const duration later = core_->hub().options().retry_max;
        return core_->hub().turn_away(std::move(c), r, {refusal_reason::no_verdict, 503, later});
      });
      go_on();
    });
  }

  // --- streams

  /// `ask`: gives the verdict.
  template <class Ask>
  requires std::is_invocable_v<Ask&>
  void open_stream(endpoint& e, Ask&& ask) {
    offer(e, [&](connection_type&& c, request& r, std::string& head) {
      return core_->accept(std::move(c), r, [&] {
        verdict<user_type> v = ask();
        if (core_ == nullptr) return v;  // the program stopped its server
        core_->add_to_head(head, e, v);
        r.preamble = head;
        return v;
      });
    });
  }
  void open_stream(endpoint& e, verdict<user_type> v) {
    offer(e, [&](connection_type&& c, request& r, std::string& head) {
      core_->add_to_head(head, e, v);
      r.preamble = head;
      return core_->accept(std::move(c), r, std::move(v));
    });
  }
  /// False: it was answered already.
  [[nodiscard]] bool may_wait(endpoint& e) {
    offer(e, [&](connection_type&& c, request& r, std::string&) {
      return core_->wait(std::move(c), r, place_);
    });
    return awaits_verdict();
  }

  template <class Hub>
  void offer(endpoint& e, Hub&& to) {
    request r = make_request();
    std::string head;
    const bool head_only = r.method == "HEAD";
    // What came behind the request already would be lost in the stream.
    const bool stays = reader_.answer(e.takes_body).keep_alive && !core_->ending() &&
                       (head_only || (!more_behind_ && in_.empty()));
    r.chunked = core_->write_head(head, e, r, stays);
    r.preamble = head;
    peer_.reuse(stays && r.chunked);
    accept_result out;
    {
      // A handler may stop the server, which ends this connection: the hub gets its own handle.
      handing_over given{*this, std::move(peer_)};
      out = to(std::move(given.connection), r, head);
    }
    if (core_ == nullptr || awaits_verdict()) return;
    if (!peer_) {  // it is the hub's now
      core_->log(r, 200, 0, began_, true);
      self().leave();
    } else if (out.head_only) {
      out_.append(head);
      answered_with(200, head.size(), stays);
    } else {
      answer(std::move(out.refusal), e.takes_body);
    }
  }
  struct handing_over {
    ~handing_over() {
      if (connection && me.core_ != nullptr) me.peer_ = std::move(connection);
    }
    http_connection& me;
    connection_type connection;
  };

  // --- bytes out

  void refuse(int status) { answer(core_->refusal(status), false); }

  void answer(response r, bool body_read, bool with_cors = true) {
    // A request that could not be read has a method at most.
    const bool readable = reader_.state() == http1::outcome::complete;
    const request q = readable ? make_request() : request{};
    if (with_cors) add_cors(r.headers, core_->cors_of(q), q);
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
    end_late();
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
    while (core_ != nullptr && !writing_) {
      if (!out_.empty()) {
        self().write();
        if (writing_ && phase_ == phase::body && in_.empty()) self().read();
      } else if (phase_ == phase::closing) {
        return self().hang_up();
      } else if (phase_ == phase::opening) {
        call();
      } else if (phase_ == phase::head || phase_ == phase::body) {
        if (!in_.empty()) {
          std::string bytes;
          bytes.swap(in_);
          take(bytes);
        } else if (phase_ == phase::head && idle_ && core_->ending()) {
          return self().hang_up();
        } else {
          return self().read();
        }
      } else {
        return self().watch_end();
      }
    }
  }
  /// Some of out_ left, or is about to: what it has time for the rest.
  void await_write() {
    if (phase_ != phase::body) core_->await(self(), due_ = due::write);
  }
  /// All of it left.
  void wrote() {
    if (sending_.capacity() > enough_output) std::string{}.swap(sending_);
    set_due();
  }
  /// The same, where write() is over since.
  void wrote_all() {
    wrote();
    go_on();
  }

  /// The deadline that the state asks for; one that runs already goes on.
  void set_due() {
    due d = due::never;
    if (phase_ == phase::body) {
      d = due::body;
    } else if (awaits_verdict()) {
      d = due::verdict;
    } else if (ahead_ == ahead::waits) {
      d = due::ahead;
    } else if (writing_) {
      d = due::write;
    } else if (phase_ == phase::handshake) {
      d = due::handshake;
    } else if (phase_ == phase::head) {
      d = idle_ && serial_ != 0 ? due::idle : due::head;
    }
    if (d != due_) core_->await(self(), due_ = d);
  }

  [[nodiscard]] Self& self() noexcept { return static_cast<Self&>(*this); }

  connection_type peer_;
  Core* core_;  // nullptr: over
  http1::head_reader reader_;
  http1::body_reader framing_{};  // of the body
  std::string in_;                // received, not yet looked at
  std::string body_;
  std::string out_;        // to be written next
  std::string sending_;    // being written
  std::string address_;    // of the client
  std::string forwarded_;  // the peer's own, while address_ is the one that a proxy named
  std::shared_ptr<endpoint> endpoint_;
  std::shared_ptr<late_request<http_connection>> late_;  // somebody holds its responder
  typename Core::hub_type::place place_{};               // it waits for its verdict
  std::int64_t began_ = 0;                               // the request, in microseconds
  std::uint32_t serial_ = 0;                             // of the request
  phase phase_ = phase::head;
  ahead ahead_ = ahead::no;
  due due_ = due::never;
  bool idle_ : 1 = true;  // nothing of a request is there
  bool writing_ : 1 = false;
  bool serving_ : 1 = false;
  bool more_behind_ : 1 = false;  // bytes came with the end of the request that it had no use for
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_HTTP_CONNECTION_HPP
