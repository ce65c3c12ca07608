// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What stands behind asio_server: the hub, the listeners, the connections, and the loop that serves
// them. Every operation under way holds the core, so that a server may be destroyed at any time.
// Not public.
//
// One turn of the loop: mail in, time in, overdue connections out, hub.flush(). A turn is posted
// when there is something to send, at most once; the one timer stands at the next deadline of all.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <asio/any_io_executor.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ip/v6_only.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>

#include <sse/cors.hpp>
#include <sse/detail/asio_connection.hpp>
#include <sse/detail/asio_routes.hpp>
#include <sse/detail/asio_transport.hpp>
#include <sse/http1.hpp>
#include <sse/hub.hpp>
#include <sse/mailbox.hpp>
#include <sse/shards.hpp>

namespace sse::inline v0 {

/// Each duration can be off(), each cap 0, unless it says otherwise. Views are copied.
struct server_options {
  /// Without a first_id: the wall clock in microseconds. Its write_deadline is that of answers too.
  hub_options hub{};
  /// Of requests: head, headers, target, body.
  http1::limits limits{};
  /// For a whole request head, from its first byte on; for a new connection from accept on.
  duration head_deadline = duration::seconds(10);
  duration body_deadline = duration::seconds(10);  ///< for a whole body
  duration keep_alive = duration::seconds(15);     ///< between two requests of a connection
  /// TCP connections, streams and all; above: 503 at once. Never below what the caps of the hub
  /// allow, or those say nothing any more.
  std::uint32_t max_connections = 0;
  /// Host names that are served, see host_allowed(); others get 403. Empty: any.
  std::vector<std::string> hosts{};
  /// For streams, answers and errors alike; the default sends nothing. REQUIRES: validate() ok.
  cors_policy cors{};
  int preflight_status = 204;  ///< of the answer to OPTIONS
  /// Refuse POST, PUT and DELETE of pages of other origins with 403, see origin_allowed(). Always
  /// on with cors.credentials.
  bool check_origin = false;
  /// Addresses of proxies whose X-Forwarded-For is believed: request::address is then the last
  /// element that is not one of these.
  std::vector<std::string> trusted_proxies{};
  http1::stream_head head{};  ///< of streams; its `extra` goes out as it is
  bool chunked = false;       ///< frame streams as chunks for HTTP/1.1; false: close-delimited
  bool nodelay = true;        ///< TCP_NODELAY
  std::uint32_t send_buffer =
      0;                   ///< SO_SNDBUF, bytes in the kernel per connection; 0: the system's
  bool busy_poll = false;  ///< never sleep: a core for itself, for the last microseconds
  /// SO_REUSEPORT: several servers listen on one port, and the system deals connections out.
  bool reuse_port = false;
  /// This server is a shard of it (sse/shards.hpp): opens its channels, which stay open as long as
  /// the server and are published to through the sequencer alone, and drains with it. The
  /// constructor throws std::invalid_argument if it is too late to join. Must outlive the server.
  sequencer* shards = nullptr;
};

/// One line of an access log. Views are valid during the call.
struct access_record {
  std::string_view method{};   ///< empty: the request could not be read
  std::string_view target{};   ///< through redact_target()
  std::string_view address{};  ///< of the client
  int status = 0;
  std::uint64_t bytes = 0;        ///< head and body; 0 for a stream, which has only begun
  std::int64_t microseconds = 0;  ///< from the first byte of the request to its answer
  bool stream = false;
};

namespace detail {

template <class User, class Stream>
class asio_core : public std::enable_shared_from_this<asio_core<User, Stream>> {
 public:
  using user_type = User;
  using transport_type = asio_transport<Stream>;
  using hub_type = sse::hub<transport_type, User>;
  using connection = asio_connection<asio_core>;
  using endpoint = asio_endpoint<User>;

  asio_core(net::any_io_executor ex, const server_options& o,
            function<Stream(net::ip::tcp::socket)> make)
      : executor_{std::move(ex)},
        options_{o},
        cors_{o.cors},
        hosts_{o.hosts},
        head_{o.head},
        make_{std::move(make)},
        timer_{executor_} {
    if (validate(o.cors) != cors_error::none) {
      throw std::invalid_argument("server_options::cors is not a valid policy");
    }
    if (!make_) throw std::invalid_argument("nothing makes a stream of a socket");
    options_.cors = {};
    options_.head = {};
    for (const std::string& p : o.trusted_proxies) {
      net::ip::address a;
      if (!read_address(p, a)) throw std::invalid_argument("not an address: " + p);
      trusted_.push_back(a);
    }
    const auto clock = std::chrono::system_clock::now().time_since_epoch();
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(clock).count();
    hub_options h = o.hub;
    if (h.first_id == no_id) h.first_id = static_cast<event_id>(us);
    if (h.seed == hub_options{}.seed) {
      h.seed ^= static_cast<std::uint64_t>(us) ^ reinterpret_cast<std::uintptr_t>(this);
      h.seed ^= static_cast<std::uint64_t>(now_us()) << 20U;
    }
    const std::array<duration, 5> lengths{duration::off(), o.head_deadline, o.body_deadline,
                                          o.keep_alive, o.hub.write_deadline};
    for (std::size_t i = 0; i < lengths.size(); ++i) waiting_[i].length = lengths[i];

    if (o.shards != nullptr) shard_port::prepare(*o.shards, h);

    transport_.use_linger(true);
    hub_.emplace(transport_, h);
    transport_.attach(*hub_, [this] { flush_soon(); });
    hub_->on_admit([this](const request& r) { return asked_->stream(r, {}); });
    hub_->tick(now());
  }
  asio_core(const asio_core&) = delete;
  asio_core& operator=(const asio_core&) = delete;
  ~asio_core() { abandon(); }

  /// The part of construction that needs a shared_ptr.
  void start() {
    transport_.keep_alive(this->weak_from_this());
    wake_.executor = executor_;
    wake_.core = this->weak_from_this();
    mail_.emplace(
        mailbox_options{.wake = &wake_loop,
                        .context = &wake_,
                        .mode = options_.busy_poll ? wake_mode::never : wake_mode::when_idle});
    if (options_.shards != nullptr && !port_.attach(*options_.shards, *hub_, *mail_)) {
      throw std::invalid_argument("too late to join the sequencer, or it has no place");
    }
    if (!mail_->prepare_sleep() || options_.busy_poll) flush_soon();
  }

  // --- what the connections ask

  [[nodiscard]] const http1::limits& limits() const noexcept { return options_.limits; }
  [[nodiscard]] const net::any_io_executor& executor() const noexcept { return executor_; }
  [[nodiscard]] std::array<char, 16384>& scratch() noexcept { return scratch_; }
  [[nodiscard]] transport_type& transport() noexcept { return transport_; }
  [[nodiscard]] const cors_policy& cors() const noexcept { return cors_.policy; }
  [[nodiscard]] int preflight_status() const noexcept { return options_.preflight_status; }
  [[nodiscard]] bool checks_origin() const noexcept {
    return options_.check_origin || cors_.policy.credentials;
  }
  [[nodiscard]] std::span<const std::string_view> hosts() const noexcept { return hosts_.views; }
  [[nodiscard]] std::span<const net::ip::address> trusted() const noexcept { return trusted_; }
  [[nodiscard]] const asio_route<User>* find_route(std::string_view path) const noexcept {
    return routes.find(path);
  }
  /// No further request of a connection is served.
  [[nodiscard]] bool ending() const noexcept { return draining_ || stopped_; }

  [[nodiscard]] static time_point now() noexcept { return std::chrono::steady_clock::now(); }
  [[nodiscard]] static std::int64_t now_us() noexcept {
    const auto t = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::microseconds>(t).count();
  }

  /// A refusal of the server itself, in the form that the host wants.
  [[nodiscard]] response refusal(int status) {
    if (error_page) {
      try {
        response r = error_page(status);
        r.status = status;
        return r;
      } catch (const std::exception& e) {
        error(e.what(), {});
      }
    }
    std::string text{reason_phrase(status)};
    return response::text(status, text.append("\n"));
  }

  void error(std::string_view what, const std::error_code& e) noexcept {
    if (!on_error) return;
    try {
      on_error(what, portable(e));
    } catch (...) {
    }
  }

  void log(const request& r, int status, std::uint64_t bytes, std::int64_t began,
           bool stream) noexcept {
    if (!on_access) return;
    try {
      const std::string shown = redact_target(r.target);
      on_access({r.method, shown, r.address, status, bytes, now_us() - began, stream});
    } catch (...) {
    }
  }

  /// Appends the head of a stream; whether it is framed as chunks.
  [[nodiscard]] bool write_head(std::string& out, const endpoint& e, const request& r) {
    const owned_head& head = e.head != nullptr ? *e.head : head_;
    std::string lines = head.extra;
    add_cors(lines, cors(), r);
    const bool chunked = options_.chunked && r.minor_version > 0;
    if (!http1::write_stream_head(out, head.view(lines), r.minor_version, chunked)) {
      throw std::invalid_argument("stream_head is not valid");
    }
    return chunked;
  }

  /// Asks the handler through the hub, so that shape and the total cap come first.
  [[nodiscard]] accept_result accept(typename transport_type::connection&& c, const request& r,
                                     endpoint& e) {
    hub_->tick(now());
    if (!caught_up(r)) return behind();
    asked_ = &e;
    return accepted_stream(hub_->accept(std::move(c), r));
  }
  [[nodiscard]] accept_result accept(typename transport_type::connection&& c, const request& r,
                                     verdict<User> v) {
    hub_->tick(now());
    if (!caught_up(r)) return behind();
    return accepted_stream(hub_->accept(std::move(c), r, std::move(v)));
  }

  /// Gives a connection a deadline instead of the one it has.
  void await(connection& c, asio_due what) {
    waiting& w = waiting_[static_cast<std::size_t>(what)];
    w.list.push_back(c);
    if (w.length.is_off()) {
      c.due_at = INT64_MAX;
      return;
    }
    c.due_at = (now() + w.length).ms();
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
    } catch (...) {  // memory is out: the next deadline tries again
    }
  }

  /// The hub's clock as exact as it can be without anything becoming due, since then hooks run.
  void touch_clock() noexcept {
    const time_point t = now();
    const time_point due = hub_->next_deadline();
    hub_->tick(due <= t ? time_point::milliseconds(due.ms() - 1) : t);
  }

  [[nodiscard]] hub_type& hub() noexcept { return *hub_; }
  [[nodiscard]] mailbox& mail() noexcept { return *mail_; }
  [[nodiscard]] std::size_t connections() const noexcept {
    std::size_t n = transport_.lingering() + hub_->sessions();
    for (const waiting& w : waiting_) n += w.list.size;
    return n;
  }

  /// What publishers of this channel's events call it; never used again for another.
  [[nodiscard]] std::uint64_t token_of(channel& c) {
    for (const mail_target& t : targets_) {
      if (t.name.pointer == &c && t.name.name == c.name()) return t.token;
    }
    targets_.push_back({++tokens_, channel_name{c}, 0, nullptr});
    return tokens_;
  }

  void close_channel(channel& c) noexcept {
    routes.remove(c);
    std::erase_if(targets_, [&](const mail_target& t) { return t.name.pointer == &c; });
    hub_->close_channel(c);
    flush_soon();
  }

  // --- listening

  [[nodiscard]] std::error_code listen(std::string_view host, std::uint16_t port) {
    if (ending()) return std::make_error_code(std::errc::operation_canceled);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    std::error_code e;
    const net::ip::address address = net::ip::make_address(std::string{host}, e);
    if (!e) return listen(net::ip::tcp::endpoint{address, port}, false);

    net::ip::tcp::resolver resolver{executor_};
    const auto found =
        resolver.resolve(host, std::to_string(port), net::ip::tcp::resolver::passive, e);
    if (e) return e;
    bool listens = false;
    for (const auto& entry : found) {  // such as both versions of localhost, on one port
      net::ip::tcp::endpoint at = entry.endpoint();
      if (port == 0 && listens) at.port(listeners_.back()->acceptor.local_endpoint().port());
      const std::error_code failed = listen(at, true);
      listens = listens || !failed;
      const bool absent = failed == std::errc::address_not_available ||
                          failed == std::errc::address_family_not_supported;
      if (failed && !absent) return failed;
      if (failed) e = failed;
    }
    return listens ? std::error_code{} : e;
  }

  [[nodiscard]] std::uint16_t port() const noexcept {
    std::error_code ignored;
    if (listeners_.empty()) return 0;
    return listeners_.front()->acceptor.local_endpoint(ignored).port();
  }

  // --- the end

  void begin_drain(const drain_options& o, function<void(std::error_code)> done) {
    drained_.push_back(std::move(done));
    if (stopped_) return finish_drain(net::error::operation_aborted);
    if (!draining_) {
      draining_ = true;
      close_listeners();
      const time_point t = now();
      hub_->tick(t);
      hub_->drain(o);
      cut_at_ = (t + o.deadline).ms();
      for (waiting& w : waiting_) {
        for_each(w.list, [](connection& c) { c.end_if_idle(); });
      }
    }
    flush_soon();
  }

  /// Ends everything now.
  void stop() noexcept {
    if (stopped_) return;
    stopped_ = true;
    close_listeners();
    std::error_code ignored;
    timer_.cancel(ignored);
    if (mail_) mail_->close();
    transport_.use_linger(false);
    for (waiting& w : waiting_) {
      for_each(w.list, [](connection& c) { c.drop(); });
    }
    transport_.for_each_session([this](session_id id) { hub_->close(id); });
    transport_.cut_all();
    if (port_) port_.report_end(hub_->stats());
    finish_drain(net::error::operation_aborted);
  }

  /// The host's half is gone: nothing of it may be called any more. The hub goes now, or once the
  /// last write that reads its bytes is over.
  void abandon() noexcept {
    if (!hub_) return;
    stop();
    hub_->on_admit({});
    hub_->on_sees({});
    hub_->on_opened({});
    hub_->on_closed({});
    hub_->on_presence({});
    hub_->on_gap({});
    // Not `= {}`: Clang 14 forgets the destructor of such a temporary in a template.
    on_access = decltype(on_access){};
    on_error = decltype(on_error){};
    error_page = decltype(error_page){};
    make_ = {};
    routes.clear();
    if (transport_.in_flight() == 0) hub_.reset();
  }

  // What the host sets.
  asio_routes<User> routes;
  function<void(const access_record&)> on_access;
  function<void(std::string_view, const std::error_code&)> on_error;
  function<response(int)> error_page;

 private:
  struct listener {
    explicit listener(const net::any_io_executor& ex) : acceptor{ex} {}
    net::ip::tcp::acceptor acceptor;
    net::ip::tcp::endpoint from;
    bool paused = false;
  };
  struct waiting {
    chain<connection> list;
    duration length;
  };
  struct mail_target {
    std::uint64_t token = 0;
    channel_name name{};
    std::uint64_t checked = 0;  // the turn in which it was last looked for
    channel* found = nullptr;
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
    ++turn_;
    if (port_) port_.turn_begins();
    mail_->drain([this](const sse::mail& m) { return deliver(m); });
    if (port_ && port_.ending() && !draining_)
      begin_drain(port_.how_to_drain(), [](std::error_code) {});
    const time_point t = now();
    cut_ = cut_ || (t.ms() >= cut_at_ && hub_->sessions() != 0);
    hub_->tick(t);
    expire(t);
    const bool more = hub_->flush();
    if (port_) port_.report(hub_->stats());
    if (draining_) check_drained(t);
    if (stopped_) return;
    arm_timer();
    if (more || options_.busy_poll || !mail_->prepare_sleep()) flush_soon();
  }

  /// False: memory is out; it stays in its lane.
  bool deliver(const sse::mail& m) noexcept {
    if (m.target == shard_port::target && port_) return deliver_shared(m);
    const auto t =
        std::lower_bound(targets_.begin(), targets_.end(), m.target,
                         [](const mail_target& a, std::uint64_t token) { return a.token < token; });
    const bool known = t != targets_.end() && t->token == m.target;
    if (known && t->checked != turn_) {
      t->checked = turn_;
      t->found = t->name.in(*hub_);
      touch_clock();
    }
    if (!known || t->found == nullptr) {
      error("mail for a channel that is closed", {});
      return true;
    }
    const publish_result r = hub_->publish(*t->found, {.type = m.type, .data = m.data},
                                           {.id = m.id,
                                            .audience = m.audience,
                                            .transient = m.transient,
                                            .key = m.key,
                                            .encoded = m.encoded});
    if (!r) error(to_string(r.error), {});
    return true;
  }

  /// The sequencer's: what cannot be published now waits.
  bool deliver_shared(const sse::mail& m) noexcept {
    if (shared_turn_ != turn_) {
      shared_turn_ = turn_;
      touch_clock();
    }
    const publish_error before = port_.error();
    const bool taken = port_.take(m);
    if (port_.error() != publish_error::none && port_.error() != before) {
      error(to_string(port_.error()), {});
    }
    return taken;
  }

  /// Has what the client got elsewhere.
  [[nodiscard]] bool caught_up(const request& r) {
    if (!port_) return true;
    return port_.catch_up(r, hub_->options().resume_query, [this] {
      mail_->drain([this](const sse::mail& m) { return deliver(m); });
      flush_soon();
    });
  }
  [[nodiscard]] accept_result behind() {
    accept_result r;
    r.retry_after = hub_->options().retry_max;
    r.refusal = detail::refusal(503, "behind", r.retry_after);
    return r;
  }

  void expire(time_point t) noexcept {
    for (std::size_t i = 0; i < waiting_.size(); ++i) {
      chain<connection>& list = waiting_[i].list;
      while (list.first != nullptr && list.first->due_at <= t.ms()) {
        const ref<connection> c{list.first};
        c->expired(static_cast<asio_due>(i));
        if (list.first == c.get()) c->drop();
      }
    }
    transport_.expire(t);
    if (accept_again_ > t.ms()) return;
    accept_again_ = INT64_MAX;
    for (const auto& l : listeners_) {
      if (std::exchange(l->paused, false)) accept(*l);
    }
  }

  void arm_timer() noexcept {
    std::int64_t next = hub_->next_deadline().ms();
    const auto also = [&](std::int64_t t) { next = t < next ? t : next; };
    for (const waiting& w : waiting_) {
      if (w.list.first != nullptr) also(w.list.first->due_at);
    }
    also(transport_.next_deadline().ms());
    also(accept_again_);
    if (draining_) also(cut_at_);
    if (next >= timer_at_ || next == INT64_MAX || stopped_) return;
    try {
      timer_.expires_at(std::chrono::steady_clock::time_point{std::chrono::milliseconds{next}});
      timer_.async_wait([core = this->shared_from_this()](const std::error_code& e) {
        if (e) return;
        core->timer_at_ = INT64_MAX;
        core->turn();
      });
      timer_at_ = next;
    } catch (...) {
      timer_at_ = INT64_MAX;  // memory is out: the next turn tries again
    }
  }

  accept_result accepted_stream(accept_result r) noexcept {
    if (stopped_ && r.id) hub_->close(r.id);  // its handler stopped the server
    if (r.id) flush_soon();                   // a long replay goes on after its first share
    arm_timer();
    return r;
  }

  [[nodiscard]] std::error_code listen(const net::ip::tcp::endpoint& at, bool one_version) {
    auto l = std::make_unique<listener>(executor_);
    std::error_code e;
    net::ip::tcp::acceptor& a = l->acceptor;
    (void)a.open(at.protocol(), e);
    if (!e) close_on_exec(a);
#if !defined(_WIN32)  // there it would let two servers share a port
    if (!e) (void)a.set_option(net::ip::tcp::acceptor::reuse_address{true}, e);
#endif
    if (!e && options_.reuse_port) share_port(a, e);
    if (!e && at.protocol() == net::ip::tcp::v6()) {
      (void)a.set_option(net::ip::v6_only{one_version}, e);
    }
    if (!e) (void)a.bind(at, e);
    if (!e) (void)a.listen(net::socket_base::max_listen_connections, e);
    if (e) return portable(e);
    listeners_.push_back(std::move(l));
    accept(*listeners_.back());
    return e;
  }

  static void share_port([[maybe_unused]] net::ip::tcp::acceptor& a, std::error_code& e) noexcept {
#if defined(SO_REUSEPORT)
    struct {
      int on = 1;
      int level(const net::ip::tcp&) const noexcept { return SOL_SOCKET; }
      int name(const net::ip::tcp&) const noexcept { return SO_REUSEPORT; }
      const void* data(const net::ip::tcp&) const noexcept { return &on; }
      std::size_t size(const net::ip::tcp&) const noexcept { return sizeof on; }
    } const option;
    (void)a.set_option(option, e);
#else
    e = std::make_error_code(std::errc::operation_not_supported);
#endif
  }

  /// Asio drops an accept operation without a word if memory is out just then: so its handler
  /// notices its own end.
  struct on_accepted {
    on_accepted(std::shared_ptr<asio_core> c, listener& l) noexcept
        : core{std::move(c)}, from{&l} {}
    on_accepted(on_accepted&&) noexcept = default;
    on_accepted& operator=(on_accepted&&) = delete;
    ~on_accepted() {
      if (core != nullptr && !core->ending()) core->accept_later(*from);
    }
    void operator()(const std::error_code& e, net::ip::tcp::socket s) {
      const std::shared_ptr<asio_core> c = std::move(core);
      c->accepted(*from, e, std::move(s));
    }
    std::shared_ptr<asio_core> core;
    listener* from;
  };

  void accept(listener& l) noexcept {
    if (ending()) return;
    try {
      l.acceptor.async_accept(l.from, on_accepted{this->shared_from_this(), l});
    } catch (...) {
      accept_later(l);
    }
  }

  void accepted(listener& l, const std::error_code& e, net::ip::tcp::socket s) noexcept {
    if (ending()) return;
    if (e) {
      error("accept", e);
      // Descriptors or memory may be out: that does not pass by trying at once.
      if (e != net::error::connection_aborted) return accept_later(l);
    } else {
      try {
        welcome(std::move(s), l.from.address());
      } catch (const std::exception& x) {
        error(x.what(), {});
      } catch (...) {
        error("exception", {});
      }
    }
    accept(l);
  }

  void accept_later(listener& l) noexcept {
    l.paused = true;
    accept_again_ = now().ms() + 100;
    arm_timer();
  }

  void welcome(net::ip::tcp::socket s, const net::ip::address& from) {
    close_on_exec(s);
    std::error_code ignored;
    if (options_.nodelay) (void)s.set_option(net::ip::tcp::no_delay{true}, ignored);
    if (options_.send_buffer != 0) {
      const net::socket_base::send_buffer_size size{static_cast<int>(options_.send_buffer)};
      (void)s.set_option(size, ignored);
    }
    if (options_.max_connections != 0 && connections() >= options_.max_connections) {
      return turn_away(std::move(s), from);
    }
    const ref<connection> c{new connection{
        *this, transport_.adopt_made([&]() -> Stream { return make_(std::move(s)); }),
        plain_address(from)}};
    ++c->refs;  // the core's own, until forget()
    waiting_[0].list.push_back(*c);
    try {
      c->begin();
    } catch (...) {
      c->drop();
      throw;
    }
  }

  /// Too many connections. Nothing waits for this one, so that they cost nothing.
  void turn_away(net::ip::tcp::socket s, const net::ip::address& from) {
    std::error_code ignored;
    std::string out;
    if constexpr (transport_type::plain) {
      response r = refusal(503);
      r.add("Retry-After", "5");
      add_cors(r.headers, cors(), request{});
      http1::write_response(out, r, {.keep_alive = false});
      s.non_blocking(true, ignored);
      (void)s.write_some(net::buffer(out), ignored);
      (void)s.shutdown(net::socket_base::shutdown_send, ignored);
      (void)s.read_some(net::buffer(scratch_), ignored);
    }
    const std::string address = plain_address(from).to_string();
    log({.method = {}, .address = address}, 503, out.size(), now_us(), false);
  }

  /// The elements of a list when it was called that are still in one.
  template <class F>
  static void for_each(chain<connection>& list, F f) noexcept {
    chain<connection> all;
    while (list.first != nullptr) all.push_back(*list.first);
    while (all.first != nullptr) {
      const ref<connection> c{all.first};
      list.push_back(*c);
      f(*c);
    }
  }

  void close_listeners() noexcept {
    std::error_code ignored;
    for (const auto& l : listeners_) (void)l->acceptor.close(ignored);
  }

  void check_drained(time_point t) noexcept {
    std::size_t left = 0;
    for (const waiting& w : waiting_) left += w.list.size;
    // A stream that says goodbye by itself needs a moment for that.
    if (!transport_type::plain) left += transport_.lingering();
    const bool over = left == 0 && hub_->drained();
    if (over && !cut_) return finish_drain({});
    if (over || t.ms() >= cut_at_) finish_drain(net::error::timed_out);
  }

  void finish_drain(std::error_code e) noexcept {
    std::vector<function<void(std::error_code)>> waiting_for;
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
  server_options options_;
  owned_cors cors_;
  owned_texts hosts_;
  owned_head head_;
  std::vector<net::ip::address> trusted_;
  function<Stream(net::ip::tcp::socket)> make_;
  transport_type transport_;
  std::optional<hub_type> hub_;
  std::optional<mailbox> mail_;
  shard_port port_;
  wake_context wake_;
  net::steady_timer timer_;
  std::int64_t timer_at_ = INT64_MAX;
  std::vector<std::unique_ptr<listener>> listeners_;
  std::int64_t accept_again_ = INT64_MAX;
  std::array<waiting, 5> waiting_{};  // by asio_due
  std::vector<mail_target> targets_;  // of publishers, tokens rising
  std::uint64_t tokens_ = 0;
  endpoint* asked_ = nullptr;  // whose handler the hub's admit hook is
  std::vector<function<void(std::error_code)>> drained_;
  std::int64_t cut_at_ = INT64_MAX;
  std::uint64_t turn_ = 0;
  std::uint64_t shared_turn_ = 0;  // in which the clock was last looked at for the sequencer's mail
  bool scheduled_ = false;
  bool draining_ = false;
  bool cut_ = false;  // streams were open when the time for draining was over
  bool stopped_ = false;
  std::array<char, 16384> scratch_;
};

}  // namespace detail

}  // namespace sse::inline v0
