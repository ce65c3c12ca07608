// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// asio_client_core: what an asio_event_source and its operations under way share. Not public.
//
// Invariants:
//  1. Hooks run in handlers of the executor only, never inside a call of the user.
//  2. Exactly one of these while there is a connection: it is being dialled, a read is under way,
//     or the queue is full.
//  3. There are waiters only while the queue is empty.
//  4. After close(), no hook is called and nothing keeps the io_context at work.
#pragma once
#ifndef SSEHUB_DETAIL_CLIENT_ASIO_CORE_HPP
#define SSEHUB_DETAIL_CLIENT_ASIO_CORE_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <sse/asio_client_options.hpp>
#include <sse/client.hpp>
#include <sse/detail/base/assert.hpp>
#include <sse/detail/client/asio_connection.hpp>
#include <sse/detail/net/asio.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

struct asio_client_hooks {
  function<void(const client_response&)> open{};
  function<void(const event&)> event{};
  function<void(const gap&)> gap{};
  function<void(std::string_view)> comment{};
  function<void(std::string_view)> position{};
  function<void(client_state)> state{};
  function<void(const client_failure&)> error{};
  dialer dial{};
};

template <class Stream>
class asio_client_core final : public std::enable_shared_from_this<asio_client_core<Stream>> {
  using link = asio_link<>;
  using socket = typename link::socket;
  using plain_link = asio_link_of<asio_client_core, socket>;
  using stream_link = asio_link_of<asio_client_core, Stream>;

 public:
  using maker = typename stream_link::maker;
  using waiter = function<void(net_error, received_event)>;

  asio_client_core(net::any_io_executor ex, std::string_view url, const asio_client_options& o,
                   maker make)
      : executor_{std::move(ex)},
        timer_{executor_},
        source_{url, seeded(o.client)},
        make_{std::move(make)},
        queue_limit_{o.queue},
        queue_bytes_limit_{o.queue_bytes},
        read_buffer_{o.read_buffer},
        connect_{o.attempt_delay, o.client.connect_timeout} {
    SSEHUB_ASSERT(o.queue != 0 && o.read_buffer != 0);
  }

  asio_client_hooks hooks{};

  [[nodiscard]] const net::any_io_executor& executor() const noexcept { return executor_; }
  [[nodiscard]] const event_source& source() const noexcept { return source_; }

  // --- the user

  void start() {
    started_ = true;
    wake();
  }

  void next(std::uint64_t ticket, waiter w) {
    if (!queue_.empty()) {
      received_event e = std::move(queue_.front());
      queue_.pop_front();
      queue_bytes_ -= size_of(e);
      w({}, std::move(e));
    } else if (end_) {
      w(end_, {});
    } else {
      waiters_.push_back({ticket, std::move(w)});
    }
    start();
  }
  [[nodiscard]] std::uint64_t ticket() noexcept { return ++tickets_; }

  void cancel_next(std::uint64_t ticket) {
    for (auto w = waiters_.begin(); w != waiters_.end(); ++w) {
      if (w->ticket != ticket) continue;
      const waiter cancelled = std::move(w->complete);
      waiters_.erase(w);
      return cancelled(aborted(), {});
    }
  }

  void restart() {
    source_.restart(steady_now());
    if (started_) wake();
  }

  void close() noexcept {
    source_.close();
    closed_ = true;
    unlink();
    timer_.cancel();
    queue_.clear();
    queue_bytes_ = 0;
    end(aborted());
  }

  // --- the link

  /// What a hook throws leaves io_context::run(); the source is closed then.
  template <class F>
  void guarded(F f) {
    try {
      f();
    } catch (...) {
      close();
      throw;
    }
  }

  void linked() {
    const std::string_view request = source_.connected(steady_now());
    if (!request.empty()) {
      link_->send(std::string{request});
      link_->read();
    }
    pump();
  }

  void received() {
    feed();
    pump();
  }

  void lost(client_error why, const std::error_code& cause) {
    link_ = nullptr;
    source_.ended(steady_now(), why, cause);
    pump();
  }

  /// Sets the timer to what comes next.
  void arm() {
    if (closed_) return;
    time_point due = source_.next_deadline();
    if (link_ && link_->due() < due) due = link_->due();
    if (due == time_point::never()) {
      if (armed_ != time_point::never()) timer_.cancel();
      armed_ = time_point::never();
      return;
    }
    // A day at most, so that no sum overflows; earlier than needed is only a look more.
    const time_point most = steady_now() + duration::seconds(24 * 3600);
    if (most < due) due = most;
    if (!(due < armed_)) return;
    armed_ = due;
    timer_.expires_at(std::chrono::steady_clock::time_point{std::chrono::milliseconds{due.ms()}});
    timer_.async_wait([me = this->shared_from_this()](const net_error& e) {
      if (e == net::error::operation_aborted || me->closed_) return;
      me->armed_ = time_point::never();
      me->guarded([&] { me->pump(); });
    });
  }

 private:
  struct waiting {
    std::uint64_t ticket;
    waiter complete;
  };

  /// What the state machine calls.
  struct sink {
    asio_client_core& core;

    void on_open(const client_response& r) {
      core.tell_state();
      if (core.hooks.open && !core.closed_) core.hooks.open(r);
    }
    [[nodiscard]] bool on_event(const event& e) { return core.take(e); }
    void on_comment(std::string_view text) {
      if (core.hooks.comment && !core.closed_) core.hooks.comment(text);
    }
    void on_position(std::string_view id) {
      if (core.hooks.position && !core.closed_) core.hooks.position(id);
    }
  };

  [[nodiscard]] static client_options seeded(client_options o) {
    if (o.seed != client_options{}.seed) return o;
    std::random_device random;
    o.seed = (std::uint64_t{random()} << 32U) ^ random();
    return o;
  }
  [[nodiscard]] static net_error aborted() noexcept {
    return net::error::make_error_code(net::error::operation_aborted);
  }
  [[nodiscard]] static std::size_t size_of(const received_event& e) noexcept {
    return e.type.size() + e.data.size() + e.last_event_id.size();
  }
  [[nodiscard]] bool full() const noexcept {
    return queue_.size() >= queue_limit_ || queue_bytes_ >= queue_bytes_limit_;
  }

  /// Goes on in a handler of its own.
  void wake() {
    if (awake_ || closed_) return;
    net::post(executor_, [me = this->shared_from_this()] {
      me->awake_ = false;
      if (me->closed_) return;
      me->guarded([&] {
        if (me->paused_ && !me->full()) me->feed();
        me->pump();
      });
    });
    awake_ = true;
  }

  /// Hands in what was read, and reads on unless the queue is full.
  void feed() {
    const std::shared_ptr<link> held = link_;
    paused_ = false;
    held->took(source_.received(steady_now(), held->unread(), sink{*this}));
    if (held != link_) return;
    paused_ = (source_.state() == client_state::open && full()) || !held->unread().empty();
    if (!paused_ && source_.reads()) held->read();
  }

  [[nodiscard]] bool take(const event& e) {
    gap g;
    const bool is_gap = read_gap(e, g);
    if (hooks.event) {
      if (is_gap && hooks.gap) {
        hooks.gap(g);
      } else {
        hooks.event(e);
      }
      return true;
    }
    received_event own{std::string{e.type}, std::string{e.data}, std::string{e.id}, {}};
    if (is_gap) own.missed = g;
    if (!waiters_.empty()) {
      const waiter w = std::move(waiters_.front().complete);
      waiters_.pop_front();
      w({}, std::move(own));
      return true;
    }
    queue_bytes_ += size_of(own);
    queue_.push_back(std::move(own));
    return !full();
  }

  /// Does what the state machine asks for.
  void pump() {
    while (started_ && !closed_) {
      const time_point now = steady_now();
      if (link_) link_->look(now);
      const client_action a = source_.poll(now);
      switch (a.what) {
        case client_action::connect: dial(a); break;
        case client_action::secure: secure(a); break;
        case client_action::disconnect: unlink(); break;
        case client_action::failed: report(); break;
        case client_action::none: tell_state(); return arm();
      }
    }
  }

  void dial(const client_action& a) {
    link_ = make_link(a.tls || a.tunnel);
    if (link_ == nullptr) {
      return source_.ended(steady_now(), client_error::tls,
                           std::make_error_code(std::errc::protocol_not_supported));
    }
    const std::shared_ptr<link> held = link_;
    held->dial({a.host, a.port}, !a.tunnel, hooks.dial, connect_);
  }

  void secure(const client_action& a) {
    const std::shared_ptr<link> held = link_;
    held->secure(std::string{a.host});
  }

  [[nodiscard]] std::shared_ptr<link> make_link(bool tls) {
    if constexpr (plain_socket<Stream>) {
      if (tls) return nullptr;
    } else if constexpr (shakes_hands<Stream>) {
      if (!tls) {
        return std::make_shared<plain_link>(this->shared_from_this(), read_buffer_, plain_make_);
      }
    }
    return std::make_shared<stream_link>(this->shared_from_this(), read_buffer_, make_);
  }

  void unlink() noexcept {
    if (link_) link_->close();
    link_ = nullptr;
    paused_ = false;
  }

  void report() {
    const client_failure f = source_.failure();
    if (f.final) end(make_error_code(f.error));
    if (hooks.error) hooks.error(f);
  }

  void tell_state() {
    if (closed_ || told_ == source_.state()) return;
    told_ = source_.state();
    if (hooks.state) hooks.state(told_);
  }

  /// No event will come any more.
  void end(net_error why) noexcept {
    if (!end_) end_ = why;
    while (!waiters_.empty()) {
      const waiter w = std::move(waiters_.front().complete);
      waiters_.pop_front();
      try {
        w(end_, {});
      } catch (...) {  // no memory to say so
      }
    }
  }

  net::any_io_executor executor_;
  net::steady_timer timer_;
  event_source source_;
  maker make_;
  typename plain_link::maker plain_make_{[](socket s, const std::string&) { return s; }};
  std::shared_ptr<link> link_;
  std::deque<received_event> queue_;
  std::deque<waiting> waiters_;
  std::size_t queue_limit_;
  std::size_t queue_bytes_limit_;
  std::size_t queue_bytes_ = 0;
  std::size_t read_buffer_;
  connect_options connect_;
  net_error end_;
  time_point armed_ = time_point::never();
  std::uint64_t tickets_ = 0;
  client_state told_ = client_state::connecting;
  bool started_ = false;
  bool closed_ = false;  // by the user, or by a hook that threw
  bool awake_ = false;   // wake() is under way
  bool paused_ = false;  // the queue is full, nothing is read
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_ASIO_CORE_HPP
