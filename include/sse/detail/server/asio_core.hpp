// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What stands behind asio_server: the hub, the listeners, the connections, and the loop that serves
// them. Every operation under way holds the core, so that a server may be destroyed at any time.
// Not public.
//
// One turn of the loop: mail in, time in, overdue connections out, hub.flush(). A turn is posted
// when there is something to send, at most once; the one timer stands at the next deadline of all.
// Where the turn comes after a pause and something is overdue, what is ready goes first: a process
// that was stopped, or slept with its machine, ends nobody for that.
#pragma once
#ifndef SSEHUB_DETAIL_SERVER_ASIO_CORE_HPP
#define SSEHUB_DETAIL_SERVER_ASIO_CORE_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/asio_transport.hpp>
#include <sse/detail/net/asio.hpp>
#include <sse/detail/server/asio_connection.hpp>
#include <sse/detail/server/server_core.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

template <class User, class Stream>
class asio_core : public server_core<User, asio_transport<Stream>>,
                  public std::enable_shared_from_this<asio_core<User, Stream>> {
  using base = server_core<User, asio_transport<Stream>>;

 public:
  /// Far below every deadline that makes sense.
  static constexpr duration long_pause = duration::milliseconds(100);
  using connection = asio_connection<asio_core>;
  using base::error, base::now, base::routes, base::scratch;
  using typename base::endpoint;
  using typename base::transport_type;

  asio_core(net::any_io_executor ex, const server_options& o,
            function<Stream(net::ip::tcp::socket)> make)
      : base{o}, executor_{std::move(ex)}, make_{std::move(make)}, timer_{executor_} {
    allow_times(waiting_, o);
    if (!make_) throw std::invalid_argument("nothing makes a stream of a socket");
    transport_.use_linger(true, o.clock);
    transport_.attach(*hub_, [this] {
      if (!flushes_) flush_soon();
    });
    transport_.on_kept([this](auto& c) {
      return this->take_back([&] {
        net_error gone;
        const auto from = c.stream().lowest_layer().remote_endpoint(gone).address();
        if (!gone) enter(c, from)->resume();
        return !gone;
      });
    });
  }
  ~asio_core() { abandon(); }

  /// The part of construction that needs a shared_ptr.
  void start() {
    transport_.keep_alive(this->weak_from_this());
    wake_.executor = executor_;
    wake_.core = this->weak_from_this();
    mail_.emplace(
        mailbox_options{.wake = &wake_loop,
                        .context = &wake_,
                        .mode = options_.busy_poll ? wake_mode::never : wake_mode::when_idle,
                        .limits = this->mail_limits()});
    inbox_ = std::make_shared<inbox>(&wake_loop, &wake_);
    this->join_shards();
    if (!mail_->prepare_sleep() || options_.busy_poll) flush_soon();
  }

  [[nodiscard]] const net::any_io_executor& executor() const noexcept { return executor_; }
  template <class Ask>
  [[nodiscard]] accept_result accept(typename transport_type::connection&& c, const request& r,
                                     Ask&& ask) {
    const calling_hub in{*this};
    return looked_at(this->admit(std::move(c), r, std::forward<Ask>(ask)));
  }
  template <class Place>
  [[nodiscard]] accept_result wait(typename transport_type::connection&& c, const request& r,
                                   Place& place) {
    const calling_hub in{*this};
    return looked_at(hub_->wait(std::move(c), r, place));
  }

  /// Gives a connection a deadline instead of the one it has.
  void await(connection& c, due what) {
    waiting_.await(c, what, now());
    if (c.due_at < timer_at_) arm_timer();
  }
  void forget(connection& c) noexcept {
    chain<connection>::unlink(c);
    const ref<connection> last{&c};
    --c.refs;  // the core's own
    if (draining_) flush_soon();
  }

  // --- the loop

  /// Sends what was published: once, however often it is asked.
  void flush_soon() noexcept {
    if (scheduled_ || stopped_) return;
    try {
      net::post(executor_, [core = this->shared_from_this()] {
        core->scheduled_ = false;
        core->turn();
      });
      scheduled_ = true;
    } catch (...) {  // memory is out: what comes next tries again, at the latest the next deadline
      hub_->wanted_in_vain();
    }
  }

  bool close_channel(channel c) noexcept {
    flush_soon();
    return hub_->close_channel(c);
  }
  [[nodiscard]] std::size_t connections() const noexcept {
    return transport_.lingering() + hub_->sessions() + waiting_.size();
  }

  // --- listening

  [[nodiscard]] std::error_code listen(std::string_view host, std::uint16_t port) {
    if (this->ending()) return std::make_error_code(std::errc::operation_canceled);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    const std::size_t before = listeners_.size();
    const std::error_code e = open_listeners(host, port);
    if (e) {
      listeners_.resize(before);
    } else {
      for (std::size_t i = before; i < listeners_.size(); ++i) accept(*listeners_[i]);
    }
    return e;
  }

  [[nodiscard]] std::uint16_t port() const noexcept {
    net_error ignored;
    if (listeners_.empty()) return 0;
    return listeners_.front()->acceptor.local_endpoint(ignored).port();
  }

  // --- the end

  void begin_drain(const drain_options& o, function<void(net_error)> done) {
    drained_.push_back(std::move(done));
    if (stopped_) return finish_drain(net::error::operation_aborted);
    if (!draining_) {
      draining_ = true;
      close_listeners();
      this->touch_clock();
      hub_->drain(o);
      cut_at_ = (now() + o.deadline).ms();
      waiting_.for_each([](connection& c) {
        const ref<connection> held{&c};
        c.drain();
      });
    }
    flush_soon();
  }

  /// Ends everything now.
  void stop() noexcept {
    if (stopped_) return;
    stopped_ = true;
    close_listeners();
    timer_.cancel();
    if (mail_) mail_->close();
    transport_.use_linger(false);
    waiting_.for_each([](connection& c) { c.drop(); });
    if (calls_ == 0) end_streams();
    finish_drain(net::error::operation_aborted);
  }

  /// The host's half is gone: nothing of it may be called any more. The hub goes now, or once the
  /// last write that reads its bytes is over.
  void abandon() noexcept {
    if (!hub_) return;
    stop();
    this->forget_hooks();
    if (inbox_) inbox_->close();
    make_ = {};
    if (transport_.in_flight() == 0) hub_.reset();
  }

 private:
  using base::draining_, base::hub_, base::inbox_, base::mail_, base::options_, base::port_,
      base::stopped_;
  using base::transport_;

  /// A hook that stops the server meanwhile ends the streams when this is over.
  struct calling_hub {
    explicit calling_hub(asio_core& c) noexcept : core{c} { ++core.calls_; }
    calling_hub(const calling_hub&) = delete;
    calling_hub& operator=(const calling_hub&) = delete;
    ~calling_hub() {
      if (--core.calls_ == 0 && core.stopped_) core.end_streams();
    }
    asio_core& core;
  };
  /// A long replay goes on after its first share; a shard may have caught up for this one.
  [[nodiscard]] accept_result looked_at(accept_result out) noexcept {
    if (out.id || port_) flush_soon();
    arm_timer();
    return out;
  }
  void end_streams() noexcept {
    hub_->close_all_soon();
    transport_.cut_all();
    if (port_) port_.report_end(hub_->stats());
  }

  struct listener {
    explicit listener(const net::any_io_executor& ex) : acceptor{ex} {}
    net::ip::tcp::acceptor acceptor;
    net::ip::tcp::endpoint from;  ///< where one cannot wait
    bool paused = false;
  };
  struct wake_context {
    net::any_io_executor executor;
    std::weak_ptr<asio_core> core;
  };

  /// On a publisher's thread.
  static void wake_loop(void* context) noexcept {
    auto& w = *static_cast<wake_context*>(context);
    try {
      net::post(w.executor, [weak = w.core] {
        if (const auto core = weak.lock()) core->turn();
      });
    } catch (...) {  // memory is out: the mail lies until the next turn
    }
  }

  void turn() {
    if (stopped_) return;
    const calling_hub in{*this};
    flushes_ = true;
    this->drain_mail();
    this->look_at_those_ahead(waiting_);
    this->take_late_answers();
    if (stopped_) return;
    if (this->shards_end()) begin_drain(port_.how_to_drain(), [](net_error) {});
    if (looks_ != 0) return;
    const time_point t = now();
    if (t - told_ > long_pause && next_deadline() <= t.ms() && look_first(t)) return;
    go_on(t);
  }

  /// Calls go_on(t) once all that is ready at `t` was served. One pass of the executor through what
  /// it has to do brings what some more connections are ready for; Asio's own takes 128 at a time.
  /// False: memory is out.
  [[nodiscard]] bool look_first(time_point t) noexcept {
    looks_ = 3 + connections() / 100;
    return look(t);
  }
  [[nodiscard]] bool look(time_point t) noexcept {
    try {
      net::post(executor_, [core = this->shared_from_this(), t] {
        if (--core->looks_ != 0 && core->look(t)) return;
        core->looks_ = 0;
        if (!core->stopped_) core->go_on(t);
      });
      return true;
    } catch (...) {
      looks_ = 0;
      return false;
    }
  }

  void go_on(time_point t) {
    const calling_hub in{*this};
    told_ = t;
    cut_ = cut_ || (t.ms() >= cut_at_ && hub_->sessions() != 0);
    hub_->tick(t);
    expire(t);
    if (stopped_) return;
    this->touch_clock();
    flushes_ = false;
    const bool more = hub_->flush();
    this->report_to_shards();
    if (draining_) check_drained(t);
    if (stopped_) return;
    arm_timer();
    if (more || options_.busy_poll || !mail_->prepare_sleep()) flush_soon();
  }

  void expire(time_point t) noexcept {
    waiting_.expire(t, [&](connection& late, due what) {
      const ref<connection> c{&late};
      c->expired(what);
      if (c->hook.in != nullptr && c->due_at <= t.ms()) c->drop();
    });
    transport_.expire(t);
    if (accept_again_ > t.ms()) return;
    accept_again_ = INT64_MAX;
    for (const auto& l : listeners_) {
      if (std::exchange(l->paused, false)) accept(*l);
    }
  }

  /// Of everything, in milliseconds; INT64_MAX: none.
  [[nodiscard]] std::int64_t next_deadline() const noexcept {
    std::int64_t next = hub_->next_deadline().ms();
    const auto also = [&](std::int64_t t) { next = t < next ? t : next; };
    also(waiting_.next());
    also(transport_.next_deadline().ms());
    also(accept_again_);
    if (draining_) also(cut_at_);
    return next;
  }

  void arm_timer() noexcept {
    const std::int64_t next = next_deadline();
    if (next >= timer_at_ || next == INT64_MAX || stopped_) return;
    try {
      const std::int64_t left = next - now().ms();
      timer_.expires_after(std::chrono::milliseconds{left > 0 ? left : 0});
      timer_.async_wait([core = this->shared_from_this()](const net_error& e) {
        if (e) return;
        core->timer_at_ = INT64_MAX;
        core->turn();
      });
      timer_at_ = next;
    } catch (...) {
      timer_at_ = INT64_MAX;  // memory is out: the next turn tries again
    }
  }

  /// On an address, or on all of a name's. What the machine has not is left out unless nothing else
  /// is there.
  [[nodiscard]] std::error_code open_listeners(std::string_view host, std::uint16_t port) {
    net_error e;
    const net::ip::address address = net::ip::make_address(std::string{host}, e);
    if (!e) return open_listener({address, port}, false);

    net::ip::tcp::resolver resolver{executor_};
    const auto found =
        resolver.resolve(host, std::to_string(port), net::ip::tcp::resolver::passive, e);
    if (e) return portable(e);
    const std::size_t before = listeners_.size();
    std::error_code absent;
    for (const auto& entry : found) {  // such as both versions of localhost, on one port
      net::ip::tcp::endpoint at = entry.endpoint();
      const bool first = listeners_.size() == before;
      if (port == 0 && !first) at.port(listeners_[before]->acceptor.local_endpoint().port());
      const std::error_code failed = open_listener(at, true);
      if (!failed) continue;
      if (failed != std::errc::address_not_available &&
          failed != std::errc::address_family_not_supported)
        return failed;
      absent = failed;
    }
    return listeners_.size() == before ? absent : std::error_code{};
  }

  [[nodiscard]] std::error_code open_listener(const net::ip::tcp::endpoint& at, bool one_version) {
    auto l = std::make_unique<listener>(executor_);
    net_error e;
    net::ip::tcp::acceptor& a = l->acceptor;
    (void)a.open(at.protocol(), e);
    if (!e) close_on_exec(a);
#if !defined(_WIN32)  // there it would let two servers share a port
    if (!e) (void)a.set_option(net::ip::tcp::acceptor::reuse_address{true}, e);
#endif
#if defined(SO_REUSEPORT)
    const int on = 1;
    if (!e && options_.reuse_port &&
        ::setsockopt(a.native_handle(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) {
      e.assign(errno, net::error::get_system_category());
    }
#endif
    if (!e && at.protocol() == net::ip::tcp::v6()) {
      (void)a.set_option(net::ip::v6_only{one_version}, e);
    }
    if (!e && inherits_options) e = set_options(a);
    if (!e) (void)a.bind(at, e);
    if (!e) (void)a.listen(net::socket_base::max_listen_connections, e);
    if (!e) (void)a.non_blocking(true, e);
    if (e) return portable(e);
    listeners_.push_back(std::move(l));
    return {};
  }

  /// Those that accepted sockets have, set before any is there.
#if defined(__linux__)
  static constexpr bool inherits_options = true;
#else
  static constexpr bool inherits_options = false;
#endif
  template <class Socket>
  [[nodiscard]] net_error set_options(Socket& s) const noexcept {
    net_error e;
    if (options_.nodelay) (void)s.set_option(net::ip::tcp::no_delay{true}, e);
    if (!e && options_.send_buffer != 0) {
      const net::socket_base::send_buffer_size size{static_cast<int>(options_.send_buffer)};
      (void)s.set_option(size, e);
    }
#if defined(TCP_NOTSENT_LOWAT)
    const auto unsent = static_cast<int>(options_.unsent);
    if (!e && unsent != 0 &&
        ::setsockopt(s.native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent) !=
            0) {
      e.assign(errno, net::error::get_system_category());
    }
#endif
    return e;
  }

  /// Asio drops an operation without a word if memory is out just then: so its handler notices its
  /// own end.
  struct on_waiting {
    on_waiting(std::shared_ptr<asio_core> c, listener& l) noexcept : core{std::move(c)}, at{&l} {}
    on_waiting(on_waiting&&) noexcept = default;
    on_waiting& operator=(on_waiting&&) = delete;
    ~on_waiting() {
      if (core != nullptr && !core->ending()) core->accept_later(*at);
    }
    void operator()(const net_error&) {
      const std::shared_ptr<asio_core> c = std::move(core);
      c->accept_all(*at);
    }
    void operator()(const net_error& e, net::ip::tcp::socket s) {
      const std::shared_ptr<asio_core> c = std::move(core);
      if (!c->ending()) c->accept_first(*at, e, std::move(s));
    }
    std::shared_ptr<asio_core> core;
    listener* at;
  };

  void accept(listener& l) noexcept {
    if (this->ending()) return;
    try {
      on_waiting then{this->shared_from_this(), l};
#if defined(_WIN32)  // a wait would be a read there, which a listening socket cannot
      l.acceptor.async_accept(l.from, std::move(then));
#else
      l.acceptor.async_wait(net::socket_base::wait_read, std::move(then));
#endif
    } catch (...) {
      accept_later(l);
    }
  }

  void accept_all(listener& l) noexcept {
    for (int most = 64; most > 0 && !this->ending(); --most) {
      net_error e;
      bool accepted = true;
      tell_thrown([&] {
        net::ip::tcp::endpoint from;
        net::ip::tcp::socket s = accept_one(l.acceptor, from, e);
        if (!would_block(e)) accepted = take_accepted(e, std::move(s), from.address());
      });
      if (would_block(e)) break;
      if (!accepted) return accept_later(l);
    }
    accept(l);
  }

  void accept_first(listener& l, const net_error& e, net::ip::tcp::socket s) noexcept {
    bool accepted = true;
    tell_thrown([&] { accepted = take_accepted(e, std::move(s), l.from.address()); });
    accepted ? accept_all(l) : accept_later(l);
  }

  /// False: it does not help to try again at once, since descriptors or memory may be out.
  [[nodiscard]] bool take_accepted(const net_error& e, net::ip::tcp::socket s,
                                   const net::ip::address& from) {
    if (!e) {
      welcome(std::move(s), from);
      return true;
    }
    error("accept", portable(e));
    return e == net::error::connection_aborted || e == net::error::interrupted;
  }

  template <class F>
  void tell_thrown(F f) noexcept {
    try {
      f();
    } catch (const std::exception& x) {
      error(x.what(), {});
    } catch (...) {
      error("exception", {});
    }
  }

  void accept_later(listener& l) noexcept {
    l.paused = true;
    accept_again_ = now().ms() + 100;
    arm_timer();
  }

  void welcome(net::ip::tcp::socket s, const net::ip::address& from) {
    if (!inherits_options) (void)set_options(s);
    const std::uint32_t most = options_.max_connections;
    if (most != 0 && connections() >= most) make_room(waiting_, options_, now());
    if (most != 0 && connections() >= most) {
      return turn_away(std::move(s), from);
    }
    auto made = transport_.adopt_made([&]() -> Stream { return make_(std::move(s)); });
    const ref<connection> c = enter(made, from);
    try {
      c->begin();
    } catch (...) {
      c->drop();
      throw;
    }
    limit_handshakes(waiting_, options_);
  }

  /// It is one of the server's, until forget(). Throws: `c` was not taken.
  ref<connection> enter(typename transport_type::connection& c, const net::ip::address& from) {
    std::string address = plain_address(from).to_string();
    ref<connection> entered{new connection{*this, std::move(c), std::move(address)}};
    ++entered->refs;  // the core's own
    waiting_.await(*entered, due::never, {});
    return entered;
  }

  /// Too many connections. Nothing waits for this one, so that they cost nothing.
  void turn_away(net::ip::tcp::socket s, const net::ip::address& from) {
    std::string out;
    if constexpr (plain_socket<Stream>) {
      out = say_crowded(s);
    } else if constexpr (layered<Stream>) {
      Stream made = make_(std::move(s));
      if (!made.secure()) out = say_crowded(socket_of(made));
    }
    const std::string address = plain_address(from).to_string();
    this->log({.method = {}, .address = address}, 503, out.size(), base::now_us(), false);
  }

  [[nodiscard]] std::string say_crowded(net::ip::tcp::socket& s) {
    net_error ignored;
    std::string out = this->crowded();
    s.non_blocking(true, ignored);
    (void)s.write_some(net::buffer(out), ignored);
    (void)s.shutdown(net::socket_base::shutdown_send, ignored);
    (void)s.read_some(net::buffer(scratch()), ignored);
    return out;
  }

  void close_listeners() noexcept {
    net_error ignored;
    for (const auto& l : listeners_) {
#if defined(__linux__)  // a child process may listen too, and then closing ends nothing
      ::shutdown(l->acceptor.native_handle(), SHUT_RDWR);
#endif
      (void)l->acceptor.close(ignored);
    }
  }

  void check_drained(time_point t) noexcept {
    std::size_t left = waiting_.size();
    // A stream that says goodbye by itself needs a moment for that.
    if (!transport_type::at_once) left += transport_.lingering();
    const bool over = left == 0 && hub_->drained();
    if (over && !cut_) return finish_drain({});
    if (over || t.ms() >= cut_at_) finish_drain(net::error::timed_out);
  }

  void finish_drain(net_error e) noexcept {
    std::vector<function<void(net_error)>> waiting_for;
    waiting_for.swap(drained_);
    stop();
    for (const auto& done : waiting_for) {
      try {
        done(e);
      } catch (...) {
      }
    }
  }

  net::any_io_executor executor_;
  function<Stream(net::ip::tcp::socket)> make_;
  wake_context wake_;
  net::steady_timer timer_;
  std::int64_t timer_at_ = INT64_MAX;
  std::vector<std::unique_ptr<listener>> listeners_;
  std::int64_t accept_again_ = INT64_MAX;
  waiting_room<connection> waiting_;
  std::vector<function<void(net_error)>> drained_;
  std::int64_t cut_at_ = INT64_MAX;
  time_point told_ = this->now();
  std::uint32_t calls_ = 0;  // of the hub, under way
  std::size_t looks_ = 0;    // that are still to be taken before time is told
  bool scheduled_ = false;
  bool flushes_ = false;  ///< in the turn under way, later
  bool cut_ = false;      // streams were open when the time for draining was over
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_ASIO_CORE_HPP
