// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What stands behind epoll_server: the loop, its listeners, and connections until they are streams.
// Not public.
//
// One turn of the loop: wait, serve what is ready, mail in, time in, overdue connections out,
// hub.flush(). Nothing becomes overdue by a moment before all that was ready by then was looked at,
// so that a process that was stopped, or slept with its machine, ends nobody for that. The data of
// an epoll event is a stream (epoll_transport), a connection's address, or one of the small numbers
// below.
#pragma once
#ifndef SSEHUB_DETAIL_SERVER_EPOLL_CORE_HPP
#define SSEHUB_DETAIL_SERVER_EPOLL_CORE_HPP

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <sse/detail/base/intrusive_list.hpp>
#include <sse/detail/net/epoll_listen.hpp>
#include <sse/detail/net/epoll_socket.hpp>
#include <sse/detail/server/http_connection.hpp>
#include <sse/detail/server/server_core.hpp>
#include <sse/epoll_transport.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// A connection that is not, or not yet, a stream. It lives until the end of the turn in which it
/// was over. Watched for levels, and only for what it waits for.
template <class Core>
class epoll_connection : public http_connection<epoll_connection<Core>, Core> {
  using base = http_connection<epoll_connection, Core>;
  using typename base::phase;
  static constexpr std::size_t max_linger_input = 8U << 20U;
  static constexpr std::uint32_t input = EPOLLIN | EPOLLRDHUP;
  static constexpr bool secure = Core::transport_type::secure;

 public:
  using base::base;

  void begin() noexcept {
    guarded([&] {
      if constexpr (secure) {
        if (peer_.layer()) phase_ = phase::handshake;
      }
      set_due();
      receive();  // a request may have come with it: then nothing waits for it
    });
  }

  void on_event(std::uint32_t events) noexcept {
    guarded([&] {
      if (lingering_) return linger(events);
      if (phase_ == phase::handshake) return receive();
      if (phase_ == phase::answering && !writing_) {
        if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) drop();
        return;
      }
      const bool sends = writing_;
      if (sends && (events & ~input) != 0) {
        write_some();
        if (core_ != nullptr && !writing_) this->wrote_all();
      }
      if (core_ != nullptr && (!sends || (events & watched_ & input) != 0)) receive();
    });
  }

  /// The next request, after a stream; it may be there already.
  void next() noexcept { read(); }

  /// What it waits for may be there already. Asked as epoll asks: room for a few bytes that nobody
  /// took since is no progress of the peer's.
  void look() noexcept {
    pollfd ready{peer_.fd(), POLLIN | POLLOUT, 0};
    if (::poll(&ready, 1, 0) <= 0) return;
    on_event(((ready.revents & POLLOUT) != 0 ? EPOLLOUT : 0U) |
             ((ready.revents & ~POLLOUT) != 0 ? EPOLLIN : 0U));
  }

  /// At once.
  void drop() noexcept {
    if (core_ == nullptr) return;
    const bool ended = lingering_ && (watched_ & EPOLLOUT) == 0;  // our side
    if (!ended) ::shutdown(peer_.fd(), SHUT_RDWR);
    peer_.unwatch(core_->epoll());
    peer_ = {};
    leave();
  }
  [[nodiscard]] bool lingering() const noexcept { return lingering_; }

 private:
  friend base;
  using base::core_, base::due_, base::guarded, base::out_, base::peer_, base::phase_,
      base::sending_;
  using base::serve, base::set_due, base::writing_;

  [[nodiscard]] int hold() const noexcept { return 0; }

  void read() noexcept { want(writing_ ? input | EPOLLOUT : input); }

  /// Nothing is read: only the end of the connection is of interest, and while a verdict is awaited
  /// that of the peer's side too.
  void watch_end() noexcept { want(this->waits_for_stream() ? EPOLLRDHUP : 0U); }

  void receive() {
    if constexpr (secure) {
      if (phase_ == phase::handshake && !shake_hands()) return;
    }
    auto& bytes = core_->scratch();
    const ssize_t n = peer_.receive(bytes.data(), bytes.size());
    if (n > 0) return serve({bytes.data(), static_cast<std::size_t>(n)});
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return read();
    drop();
  }

  /// True: it is over, and the requests may come.
  [[nodiscard]] bool shake_hands() {
    auto& layer = peer_.layer();
    const auto s = layer.handshake();
    using step = std::remove_const_t<decltype(s)>;
    if (s == step::done) {
      phase_ = phase::head;
      set_due();
      return true;
    }
    if (s == step::want_read) {
      const bool holds = layer.flush() == step::want_write;
      want(holds ? input | EPOLLOUT : input);
    } else if (s == step::failed) {
      this->refuse_handshake(layer);
    } else {
      drop();
    }
    return false;
  }
  void send_plain(std::string_view text) noexcept {
    (void)!::send(peer_.fd(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void write() {
    sending_.clear();
    sending_.swap(out_);
    sent_ = 0;
    write_some();
    if (core_ != nullptr && !writing_) this->wrote();
  }

  void write_some() {
    const ssize_t n = peer_.send(sending_.data() + sent_, sending_.size() - sent_);
    if (n < 0 && errno != EAGAIN) return drop();
    sent_ += n > 0 ? static_cast<std::size_t>(n) : 0;
    writing_ = sent_ != sending_.size() || peer_.holds();
    if (!writing_) return;
    want(phase_ == phase::body ? input | EPOLLOUT : EPOLLOUT);
    if (core_ != nullptr && (n > 0 || due_ != due::write)) this->await_write();
  }

  void want(std::uint32_t events) noexcept {
    if (events == std::exchange(watched_, events)) return;
    if (peer_.watch(core_->epoll(), events, reinterpret_cast<std::uintptr_t>(this))) return;
    core_->error("epoll_ctl", last_error());
    drop();
  }

  /// After what was written, and without a reset that would take it from the peer: it closes first.
  void hang_up() noexcept {
    if (core_ == nullptr || lingering_) return;
    lingering_ = true;
    sent_ = 0;
    core_->await(*this, due::linger);
    end_output();
  }
  void end_output() noexcept { want(peer_.end_output() ? input : input | EPOLLOUT); }
  void linger(std::uint32_t events) noexcept {
    if ((events & EPOLLOUT) != 0) end_output();
    if (core_ != nullptr && (events & ~EPOLLOUT) != 0) discard();
  }
  void discard() noexcept {
    auto& sink = core_->scratch();
    const ssize_t n = ::recv(peer_.fd(), sink.data(), sink.size(), 0);
    if (n < 0 && errno == EAGAIN) return;
    sent_ += n > 0 ? static_cast<std::size_t>(n) : 0;
    if (n <= 0 || sent_ > max_linger_input) drop();
  }
  void abort() noexcept {
    end_by_reset(peer_.fd());
    drop();
  }
  void leave() noexcept {
    if (core_ == nullptr) return;
    const auto given_up = this->give_up();
    std::exchange(core_, nullptr)->forget(*this);
  }

  std::size_t sent_ = 0;
  std::uint32_t watched_ = 0;
  bool lingering_ = false;
};

/// So that the descriptor is there before the transport is made.
struct epoll_loop {
  unique_fd epoll_fd{::epoll_create1(EPOLL_CLOEXEC)};
  unique_fd wake_fd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
};

/// `Transport`: epoll_transport, or one that derives from it and has
///   reap(hub)    after a flush: reports to the hub, true if there was anything
///   settle(hub)  after all streams were closed: waits until the hub's bytes are not read any more
template <class User, class Transport>
class epoll_core : private epoll_loop, public server_core<User, Transport> {
  using base = server_core<User, Transport>;
  static constexpr std::uint64_t woken = 1;  // by a publisher, or interrupt()
  static constexpr std::uint64_t listening = 2;
  static constexpr std::uint64_t numbers = 2;  // where connections begin

 public:
  using connection = epoll_connection<epoll_core>;
  using base::error, base::now;
  using typename base::endpoint;

  epoll_core(const server_options& o, typename Transport::security s)
      : base{o, epoll_loop::epoll_fd.get(), s} {
    if (!epoll_fd || !watch(epoll(), wake_fd.get(), EPOLLIN | EPOLLET, woken, false)) {
      throw std::system_error{last_error(), "epoll"};
    }
    transport_.on_kept([this](auto& c) {
      return this->take_back([&] {
        std::string from = peer_address(c.fd());
        if (from.empty()) return false;
        enter(static_cast<typename Transport::connection&>(c), std::move(from)).resume();
        return true;
      });
    });
    hub_->on_wanted([this] { more_ = more_ || !flushes_; });
    allow_times(waiting_, o);
    waiting_.allow(due::linger, duration::seconds(2));
    mail_.emplace(mailbox_options{.wake = &wake_loop,
                                  .context = &wake_fd,
                                  .mode = o.busy_poll ? wake_mode::never : wake_mode::when_idle,
                                  .limits = this->mail_limits()});
    inbox_ = std::make_shared<inbox>(&wake_loop, &wake_fd);
    this->join_shards();
  }
  ~epoll_core() { abandon(); }

  // --- what connections and the server ask

  [[nodiscard]] int epoll() const noexcept { return epoll_fd.get(); }
  template <class Ask>
  [[nodiscard]] accept_result accept(typename Transport::connection&& c, const request& r,
                                     Ask&& ask) {
    return this->admit(std::move(c), r, std::forward<Ask>(ask));
  }
  template <class Place>
  [[nodiscard]] accept_result wait(typename Transport::connection&& c, const request& r,
                                   Place& place) {
    return hub_->wait(std::move(c), r, place);
  }
  void await(connection& c, due what) noexcept { waiting_.await(c, what, now()); }
  void forget(connection& c) noexcept { over_.push_back(c); }
  void flush_soon() noexcept { more_ = true; }
  bool close_channel(channel c) noexcept {
    flush_soon();
    return hub_->close_channel(c);
  }
  [[nodiscard]] std::size_t connections() const noexcept {
    return hub_->sessions() + waiting_.size();
  }
  [[nodiscard]] std::error_code listen(std::string_view host, std::uint16_t port) {
    if (this->ending()) return std::make_error_code(std::errc::operation_canceled);
    const std::size_t before = listeners_.size();
    const listen_options o{.reuse_port = options_.reuse_port,
                           .nodelay = options_.nodelay,
                           .send_buffer = options_.send_buffer,
                           .unsent = options_.unsent};
    std::error_code e = listen_on(host, port, o, listeners_);
    for (std::size_t i = before; !e && i < listeners_.size(); ++i) {
      if (!watch(epoll(), listeners_[i].get(), EPOLLIN, listening, false)) e = last_error();
    }
    if (e) listeners_.resize(before);
    return e;
  }
  [[nodiscard]] std::uint16_t port() const noexcept {
    return listeners_.empty() ? std::uint16_t{0} : port_of(listeners_.front().get());
  }

  // --- the loop

  [[nodiscard]] time_point next_deadline() const noexcept {
    std::int64_t next = hub_->next_deadline().ms();
    for (const std::int64_t t : {waiting_.next(), accept_again_}) next = t < next ? t : next;
    return time_point::milliseconds(more_ ? INT64_MIN : next);
  }
  /// Until the server is stopped, or interrupted, or its sequencer drained all shards.
  void run() {
    while (!stopped_ && !interrupted_.exchange(false, std::memory_order_acquire)) {
      turn(duration::infinite());
      if (this->shards_end()) (void)drain(port_.how_to_drain());
    }
  }
  /// From any thread, and from a signal handler.
  void interrupt() noexcept {
    interrupted_.store(true, std::memory_order_release);
    wake_loop(&wake_fd);
  }

  /// One turn that waits at most so long for something to do.
  void turn(duration most) {
    if (stopped_) return;
    in_turn_ = flushes_ = true;
    event_list events;
    const std::size_t n = wait_for(events, ms_to_wait(most));
    std::size_t others = 0;
    for (std::size_t i = 0; i < n && !stopped_; ++i) {
      const epoll_event& e = events[i];
      if (!transport_.on_event(*hub_, e) && e.data.u64 != woken) events[others++] = e;
    }
    if (!stopped_) tell_time();
    for (std::size_t i = 0; i < others && !stopped_; ++i) {
      const epoll_event& e = events[i];
      if (e.data.u64 > numbers) {
        reinterpret_cast<connection*>(e.data.u64)->on_event(e.events);
      } else {
        accept_all();
      }
    }
    if (!stopped_) send_all();
    in_turn_ = false;
    if (stopped_) end_streams();
    bury();
  }

  /// True: everybody has what there was. False: the deadline cut some, or the server was stopped.
  bool drain(const drain_options& o) {
    if (this->ending()) return false;
    draining_ = true;
    close_listeners();
    tell_time();
    const std::int64_t cut_at = (now() + o.deadline).ms();
    drain_options patient = o;
    patient.deadline = duration::infinite();  // what is left then is cut below
    hub_->drain(patient);
    waiting_.for_each([](connection& c) { c.drain(); });
    const auto over = [&] {
      std::size_t answers = 0;  // that are not written yet
      waiting_.for_each([&](connection& c) { answers += c.lingering() ? 0U : 1U; });
      return answers == 0 && hub_->drained();
    };
    flush_soon();
    bool clean = over();
    for (std::int64_t rest = 1; !clean && !stopped_ && rest > 0; rest = cut_at - now().ms()) {
      turn(duration::milliseconds(rest));
      clean = over();
    }
    clean = clean && !stopped_;
    stop();
    return clean;
  }

  void stop() noexcept {
    if (stopped_) return;
    stopped_ = true;
    close_listeners();
    mail_->close();
    waiting_.for_each([](connection& c) { c.drop(); });
    if (!in_turn_) end_streams();  // else at its end: this may be one of the hub's hooks
  }

  void abandon() noexcept {
    if (!hub_) return;
    stop();
    this->forget_hooks();
    inbox_->close();
    if constexpr (requires { transport_.settle(*hub_); }) transport_.settle(*hub_);
    hub_.reset();
    bury();
  }

 private:
  void close_listeners() noexcept {
    // A child process may listen too, and then closing ends nothing.
    for (const unique_fd& l : listeners_) ::shutdown(l.get(), SHUT_RDWR);
    listeners_.clear();
  }
  void end_streams() noexcept {
    hub_->close_all_soon();
    if (port_) port_.report_end(hub_->stats());
  }

  using base::draining_, base::hub_, base::inbox_, base::mail_, base::options_, base::port_,
      base::stopped_;
  using base::transport_;

  static void wake_loop(void* fd) noexcept {
    const std::uint64_t one = 1;
    // Watched for edges and never read: it fails only where it would count beyond 2^64 - 2.
    (void)!::write(static_cast<unique_fd*>(fd)->get(), &one, sizeof one);
  }

  /// For epoll_wait, in milliseconds.
  [[nodiscard]] int ms_to_wait(duration most) noexcept {
    if (std::exchange(more_, false) || options_.busy_poll || !mail_->prepare_sleep()) return 0;
    const std::int64_t next = next_deadline().ms();
    if (next == INT64_MAX && most == duration::infinite()) return -1;
    const std::int64_t ms = next - now().ms() < most.ms() ? next - now().ms() : most.ms();
    return ms <= 0 ? 0 : ms < INT32_MAX ? static_cast<int>(ms) : INT32_MAX;
  }

  using event_list = std::array<epoll_event, 512>;

  /// How many came. `ms`: as epoll_wait.
  [[nodiscard]] std::size_t wait_for(event_list& events, int ms) noexcept {
    int n = 0;
    do {
      n = ::epoll_wait(epoll(), events.data(), static_cast<int>(events.size()), ms);
    } while (n < 0 && errno == EINTR && ms == 0);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }

  /// Tells the hub the time, and before that, where something is due, what streams are ready for.
  void tell_time() noexcept {
    const time_point t = now();
    if (hub_->next_deadline() <= t) look();
    if (!stopped_) hub_->tick(t);
  }
  /// Connections and listeners are watched for levels: what is ready of them comes again.
  void look() noexcept {
    event_list events;
    std::size_t n = events.size();
    for (std::size_t left = connections() / n + 1; n == events.size() && left > 0; --left) {
      n = wait_for(events, 0);
      for (std::size_t i = 0; i < n && !stopped_; ++i) {
        if (!transport_.on_event(*hub_, events[i])) more_ = true;
      }
    }
    reap();
  }
  void reap() noexcept {
    if constexpr (requires { transport_.reap(*hub_); }) more_ = transport_.reap(*hub_) || more_;
  }

  void send_all() {
    this->drain_mail();
    this->look_at_those_ahead(waiting_);
    this->take_late_answers();
    if (stopped_) return;
    tell_time();
    const time_point t = now();
    waiting_.expire(t, [&](connection& c, due what) {
      c.look();
      if (c.hook.in == &over_ || c.due_at > t.ms()) return;
      c.expired(what);
      if (c.hook.in != &over_ && c.due_at <= t.ms()) c.drop();
    });
    if (stopped_) return;
    if (accept_again_ <= t.ms()) {
      accept_again_ = INT64_MAX;
      for (const unique_fd& l : listeners_) (void)watch(epoll(), l.get(), EPOLLIN, listening, true);
    }
    flushes_ = false;
    more_ = hub_->flush() || more_;
    this->report_to_shards();
    reap();
  }

  void accept_all() {
    for (std::size_t i = 0; i < listeners_.size() && !this->ending(); ++i) {
      for (int most = 64; most > 0 && !this->ending() && accept_one(listeners_[i].get());) --most;
    }
  }
  bool accept_one(int listener) noexcept {
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    unique_fd fd{::accept4(listener, reinterpret_cast<sockaddr*>(&from), &size,
                           SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!fd) {
      if (errno == EAGAIN) return false;
      error("accept", last_error());
      if (errno == ECONNABORTED || errno == EINTR) return true;
      // Descriptors or memory may be out: that does not pass by trying at once.
      accept_again_ = now().ms() + 100;
      for (const unique_fd& l : listeners_) (void)watch(epoll(), l.get(), 0, listening, true);
      return false;
    }
    try {
      welcome(std::move(fd), address_text(from));
    } catch (const std::exception& x) {
      error(x.what(), {});
    }
    return true;
  }

  void welcome(unique_fd fd, std::string from) {
    const std::uint32_t most = options_.max_connections;
    if (most != 0 && connections() >= most) make_room(waiting_, options_, now());
    if (most != 0 && connections() >= most) {
      std::string out;
      if (!transport_.adopts_secure()) out = this->crowded();  // else there is no way to tell
      (void)!::send(fd.get(), out.data(), out.size(), MSG_NOSIGNAL);
      ::shutdown(fd.get(), SHUT_WR);
      (void)!::recv(fd.get(), this->scratch().data(), this->scratch().size(), 0);
      return this->log({.method = {}, .address = from}, 503, out.size(), base::now_us(), false);
    }
    auto made = transport_.adopt(fd.release());
    enter(made, std::move(from)).begin();
    limit_handshakes(waiting_, options_);
  }
  /// It is one of the server's, until forget(). Throws: `c` was not taken.
  connection& enter(typename Transport::connection& c, std::string from) {
    auto* const entered = new connection{*this, std::move(c), std::move(from)};
    waiting_.await(*entered, due::never, {});
    return *entered;
  }

  void bury() noexcept {
    while (over_.first != nullptr) {
      const std::unique_ptr<connection> c{over_.first};
      chain<connection>::unlink(*c);
    }
  }

  std::vector<unique_fd> listeners_;
  waiting_room<connection> waiting_;
  chain<connection> over_;
  std::int64_t accept_again_ = INT64_MAX;
  std::atomic<bool> interrupted_{false};
  bool more_ = true;
  bool in_turn_ = false;
  bool flushes_ = false;  ///< in this turn, later
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_EPOLL_CORE_HPP
