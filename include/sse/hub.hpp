// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// hub: channels, sessions, and who gets what when. It runs inside the host's own loop: bytes go out
// through Transport, readiness and time come in as calls. It opens no socket, reads no clock,
// starts no thread, throws and logs nothing.
//
//   sse::hub<my_transport> hub{transport, {.first_id = wall_clock_us}};
//   sse::channel ticks = hub.open_channel("ticks", {});
//   hub.on_admit([&](const sse::request&) { return sse::admit().join(ticks); });
//   if (auto r = hub.accept(std::move(connection), request); !r) answer(r.refusal);
//   hub.tick(now); hub.flush();                       // once in each turn of the loop
//
// Not for hosts that want a server: sse/asio.hpp is one. Not thread-safe: one thread owns a hub,
// others publish through a mailbox (sse/mailbox.hpp).
#pragma once
#ifndef SSEHUB_HUB_HPP
#define SSEHUB_HUB_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include <sse/admission.hpp>
#include <sse/channel.hpp>
#include <sse/detail/engine/admit.hpp>
#include <sse/function.hpp>
#include <sse/request.hpp>
#include <sse/session.hpp>
#include <sse/stats.hpp>
#include <sse/transport.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// `Transport`: see sse/transport.hpp; the hub keeps a reference. `User`: what the host wants to
/// know of a session.
///
/// Hooks run on the hub's thread. What each may call:
///
///   on_admit, on_refused, on_opened, on_closed, on_presence, on_channel_closed
///                   everything but the hub's destructor: streams that they close end when the
///                   call that ran them returns, channels are freed then
///   on_sees, on_gap, on_wanted, channel_options::backfill, heartbeat_options::payload
///                   only what reads: anything else is refused (publish_error::in_hook, false,
///                   0) or does nothing
///
/// Only on_admit may throw: accept() then took nothing.
template <transport Transport, std::movable User = no_user>
class hub {
 public:
  using connection = typename Transport::connection;  ///< the transport's
  static_assert(std::is_nothrow_move_constructible_v<connection> &&
                    std::is_nothrow_move_constructible_v<User>,
                "a session takes connection and User over after its slot is counted: moving them "
                "must not throw");

  /// The transport must outlive the hub.
  explicit hub(Transport& t, const hub_options& o = {}) : transport_{&t}, engine_{calls(), o} {}
  hub(const hub&) = delete;
  hub& operator=(const hub&) = delete;
  ~hub() {
    engine_.shut_down();
    for (cell* cells : cells_) detail::deallocate(cells);
  }

  // --- channels ----------------------------------------------------------------------------------

  /// Opens a channel; it lives until close_channel or the hub's end. None: the result's `error`
  /// says why.
  [[nodiscard]] open_result open_channel(std::string_view name, channel_options o = {}) noexcept {
    return engine_.open_channel(name, std::move(o));
  }
  /// None: there is no such channel.
  [[nodiscard]] channel find_channel(std::string_view name) const noexcept {
    return engine_.find_channel(name);
  }
  /// Closes every stream on it, then the channel. Streams that left it stay. Inside a hook: once
  /// that has returned. One that is opened under its name goes on with the ids where it ended, and
  /// says that what it had is gone. False: it is closed already or another hub's, or this is called
  /// in a hook that may not.
  bool close_channel(channel c) noexcept { return engine_.close_channel(c); }
  /// It is an open channel of this hub.
  [[nodiscard]] bool owns(channel c) const noexcept { return c && engine_.find(c) != nullptr; }
  /// No more events: its log is complete, and publishing is refused (publish_error::sealed). Its
  /// streams end cleanly once they have got everything, those that join other channels too once all
  /// of them are sealed; who comes later gets what it asks for, and the end. Who has everything is
  /// answered 204, after which an EventSource stays away (WHATWG HTML 9.2.3). Closed after
  /// channel_options::keep_sealed. publish_options::last does the same behind an event. False: it
  /// is sealed already, or as close_channel.
  bool seal(channel c) noexcept { return engine_.seal(c); }
  /// Calls `f(channel)` for each that is open.
  template <class F>
  void for_each_channel(F&& f) {
    for (std::uint32_t i = 0; i < engine_.channels().size(); ++i)
      f(engine_.handle_of(*engine_.channels()[i]));
  }

  // --- publishing --------------------------------------------------------------------------------

  /// Into a channel's log; see channel::publish.
  [[nodiscard]] publish_result publish(channel c, const event& e,
                                       const publish_options& o = {}) noexcept {
    return engine_.publish(c, e, o);
  }
  /// To every channel, also to those that only one user reads: mind what it says. Returns how many
  /// took it.
  std::size_t publish_all(const event& e, const publish_options& o = {}) noexcept {
    std::size_t n = 0;
    for (std::uint32_t i = 0; i < engine_.channels().size(); ++i)
      n += engine_.publish(*engine_.channels()[i], e, o) ? 1U : 0U;
    return n;
  }
  /// To one session, between its other events; no id, never replayed.
  [[nodiscard]] publish_result send(session_id id, const event& e) noexcept {
    return {no_id, engine_.send(id, e)};
  }
  /// To all sessions of a user now connected; returns how many took it. To be replayed as well:
  /// publish with an audience.
  std::size_t send_user(std::string_view key, const event& e) noexcept {
    return engine_.send_user(key, e);
  }

  // --- admission ---------------------------------------------------------------------------------

  /// Decides on each accept(connection, request). Without it every request is refused with 403.
  void on_admit(function<verdict<User>(const request&)> f) { admit_ = std::move(f); }
  /// Whether a session may see entries of an audience. Without it: if the audience is the user's
  /// key. Asked once for each such entry that a session comes to, and again for one that a write
  /// did not take.
  void on_sees(function<bool(const User&, std::string_view key, std::string_view audience)> f) {
    sees_ = std::move(f);
    engine_.ask_who_sees(static_cast<bool>(sees_));
  }
  /// A stream that was admitted is refused after all, such as for a cap (status 200: it gets a
  /// retry stream) or a drain; refusal_reason::none with 204: it has everything. What was begun for
  /// it can be called off.
  void on_refused(function<void(const request&, const User&, const refused_request&)> f) {
    refused_ = std::move(f);
  }
  /// For hosts that refuse a stream by themselves after its verdict: tells on_refused.
  void tell_refused(const request& r, const User& u, const refused_request& q) {
    if (refused_) refused_(r, u, q);
  }
  /// The form of the hub's own refusals; default: refusal_response(). Status and Retry-After are
  /// the refusal's, whatever it says. Must not throw.
  void refusal_form(function<response(const refused_request&)> f) { form_ = std::move(f); }
  /// A stream is open, and may be sent to.
  void on_opened(function<void(session_id, const User&)> f) { opened_ = std::move(f); }
  /// After a session's end; its slots in the caps are free already.
  void on_closed(function<void(session_id, const User&, close_reason)> f) {
    closed_ = std::move(f);
  }
  /// A user's first session joined a channel (true), or its last one left.
  void on_presence(function<void(channel, std::string_view key, bool present)> f) {
    engine_.on_presence = std::move(f);
  }
  /// A channel is closed, by close_channel or because channel_options::keep_sealed is over: it
  /// can be read until the call that closed it returns.
  void on_channel_closed(function<void(channel)> f) { engine_.on_channel_closed = std::move(f); }
  /// A gap frame was sent: a line for the host's log.
  void on_gap(function<void(const gap_notice&)> f) { engine_.on_gap = std::move(f); }
  /// Something waits to be sent, however it came, or next_deadline() may be nearer: see to it that
  /// flush() runs soon. Called once until the next flush(). For hosts whose loop does not flush in
  /// each turn; servers have it.
  void on_wanted(function<void()> f) { engine_.on_wanted = std::move(f); }
  /// It could not be seen to, such as for memory: what wants a flush next asks again. In that hook
  /// too.
  void wanted_in_vain() noexcept { engine_.wanted_in_vain(); }

  /// Opens a stream for a request, or says why not. Order: shape (405, 406), draining (503), total
  /// cap, cap per address, the admit hook, cap per user, resume point (400, 204). A cap per address
  /// comes behind the hook where it evicts, or the cap per user does: who is admitted may make room
  /// there. The connection is taken only if a session opens.
  [[nodiscard]] accept_result accept(connection&& c, const request& r) {
    if (!reads(r)) {
      accept_result out = refused(no({}, refusal_reason::http, 405));
      out.refusal.add("Allow", "GET, HEAD");
      return out;
    }
    return accept(std::move(c), r, [&] {
      return admit_ ? admit_(r) : verdict<User>{refuse(403, "no admit hook\n")};
    });
  }

  /// The same for hosts that ask somebody else: `verdict<User> ask()` is called, once, if what
  /// needs no user allows a stream. Any method; a POST's Accept is disregarded (RFC 9110 12.5.1),
  /// and one that does not name event streams is asked before the caps, since its answer may be a
  /// plain one.
  template <class Ask>
  requires std::is_invocable_r_v<verdict<User>, Ask&> [[nodiscard]] accept_result accept(
      connection&& c, const request& r, Ask&& ask) {
    accept_result out;
    if (!may_ask(out, r)) return retry_or_refuse(std::move(c), r, std::move(out));
    return take(std::move(c), r, ask(), std::move(out));
  }

  /// The same for hosts that have asked, perhaps asynchronously: on_refused tells of all that is
  /// refused although `v` admits it.
  [[nodiscard]] accept_result accept(connection&& c, const request& r, verdict<User> v) {
    accept_result out;
    if (may_ask(out, r)) return take(std::move(c), r, std::move(v), std::move(out));
    if (v.admitted()) tell_refused(r, v.user(), out.refused());
    return retry_or_refuse(std::move(c), r, std::move(out));
  }

  /// Refuses in the library's form, for hosts that know before the hub does why there can be no
  /// stream. Status 200: a stream that says `retry:` and ends.
  [[nodiscard]] accept_result turn_away(connection&& c, const request& r,
                                        const refused_request& why) {
    accept_result out;
    detail::say_no(out, why.why, why.status, why.retry_after);
    return retry_or_refuse(std::move(c), r, std::move(out));
  }

  /// A request whose verdict comes later.
  class place {
   public:
    [[nodiscard]] explicit operator bool() const noexcept { return waits_; }

   private:
    friend class hub;
    detail::counted_names names_{};
    bool waits_ = false;
    bool counted_ = false;
  };
  /// Looks at a request as accept() does before it asks. Where a stream may be, it is to wait:
  /// `p` counts under the caps for all and for its address until release(p), which has to come
  /// right before accept() with the verdict, or without one. Else the result is accept()'s.
  [[nodiscard]] accept_result wait(connection&& c, const request& r, place& p) {
    accept_result out;
    if (!may_ask(out, r)) return retry_or_refuse(std::move(c), r, std::move(out));
    p.counted_ = engine_.begin_wait(r, p.names_, out);
    p.waits_ = p.counted_ || (!reads(r) && !accepts_event_stream(r));  // its answer may be plain
    if (p.waits_) return {};
    return retry_or_refuse(std::move(c), r, std::move(out));
  }
  /// Its place is free again; see wait().
  void release(place& p) noexcept {
    if (p.counted_) engine_.end_wait(p.names_);
    p = {};
  }

  /// A live session joins one more channel: it gets what is published from now on, or from where
  /// `from` says, in order with its other channels. Ids rise along a stream: where that is not
  /// behind all ids that the session has got, or was told of, it is refused (join_error::moved_on).
  /// So one that reads, or read, channels with ids takes a channel with ids from now on, and one
  /// without from anywhere. Where it reads nothing else with ids it is told where it stands
  /// (hub_options::position). A cut stream comes back with a request of its own: let that say the
  /// same channels.
  [[nodiscard]] join_error join(session_id id, channel c, const join_start& from = {}) noexcept {
    return join(id, c, watch_options{}, from);
  }
  /// The same for a channel with keys, and how it is read. `from` is about events without a key.
  [[nodiscard]] join_error join(session_id id, channel c, const watch_options& watch,
                                const join_start& from = {}) noexcept {
    const join_error e = engine_.join(id, c, from, watch.says_nothing() ? nullptr : &watch);
    if (e == join_error::none) tell_of_values(id.slot);
    return e;
  }
  /// A session that chose its keys of a channel gets more of them: each begins with the value that
  /// it has, behind what waits already. Those that it has are left alone. O(keys); O(values of the
  /// channel) where some of those have an audience and nobody chose the key before.
  [[nodiscard]] select_error select(session_id id, channel c,
                                    std::span<const std::string_view> keys) noexcept {
    return engine_.select(id, c, keys);
  }
  /// It gets no more values of these keys; one that is being written may still come. Keys that it
  /// does not have are left out.
  [[nodiscard]] select_error unselect(session_id id, channel c,
                                      std::span<const std::string_view> keys) noexcept {
    return engine_.unselect(id, c, keys);
  }
  /// It gets no event of that channel any more, also of what was published and is not sent yet; a
  /// half-sent one is finished, also if the channel is closed. A gap frame that waits is sent,
  /// since its id speaks for all channels. It may leave all of them. False: it had not joined it,
  /// or is gone.
  bool leave(session_id id, channel c) noexcept { return engine_.leave(id, c); }

  /// It joined the channel with keys of its own.
  [[nodiscard]] bool selects(session_id id, channel c) const noexcept {
    return engine_.selects(id, c);
  }

  // --- the loop ----------------------------------------------------------------------------------

  /// Time comes in: heartbeats and deadlines. Call flush() after it.
  void tick(time_point now) noexcept { engine_.tick(now); }
  /// Time alone: what is published, opened or accepted from here on is of `now`, and nothing
  /// becomes due before tick() says so. For a loop that learns what its streams are ready for after
  /// it read requests: after a long pause no reader is cut that could be written to.
  void set_time(time_point now) noexcept { engine_.set_time(now); }
  /// When tick() is next needed; time_point::never() if not.
  [[nodiscard]] time_point next_deadline() const noexcept { return engine_.next_deadline(); }
  /// Sends to every session that is behind and ready. True: some had their share only, call it
  /// again soon.
  bool flush() noexcept { return engine_.flush(); }
  /// The transport can take bytes again (after flow::blocked). flush() sends them.
  void writable(session_id id) noexcept { engine_.writable(id); }
  /// A write that was flow::pending is over; `n` of its bytes left. Must come also after the
  /// session ended.
  void written(session_id id, std::size_t n) noexcept { engine_.written(id, n); }
  /// The peer is gone. Transport::close is called.
  void closed(session_id id) noexcept { engine_.closed(id); }

  /// Pull hosts (HTTP/2): what this session gets next; the views live until consume. 0 and nothing
  /// pending: the hub calls Transport::write again when there is more, which may answer {0,
  /// flow::blocked}. Always 0 where Transport::completes is not.
  [[nodiscard]] std::size_t peek(session_id id, std::span<buffer> out) noexcept {
    return engine_.peek(id, out);
  }
  /// So many bytes of what peek() showed were taken.
  void consume(session_id id, std::size_t n) noexcept { engine_.written(id, n); }

  // --- ends --------------------------------------------------------------------------------------

  /// At once.
  void close(session_id id) noexcept { engine_.close(id, close_reason::host); }
  /// All streams at once; channels stay, and new streams may come.
  void close_all() noexcept { engine_.close_all(); }
  /// The same, in any hook too: once the call that ran it returns. For hosts that are stopped.
  void close_all_soon() noexcept { engine_.close_all_soon(); }
  /// Once all that is pending was sent.
  void finish(session_id id) noexcept { engine_.finish(id); }
  /// Closes all streams of a user before another byte is sent to it; returns how many.
  std::size_t revoke(std::string_view key) noexcept { return engine_.revoke(key); }
  /// Takes no more, tells every stream when to come back, ends each once it has everything, cuts at
  /// the deadline.
  void drain(const drain_options& o = {}) noexcept { engine_.drain(o); }
  /// drain() was called.
  [[nodiscard]] bool draining() const noexcept { return engine_.draining(); }
  /// And no stream is left.
  [[nodiscard]] bool drained() const noexcept {
    return engine_.draining() && engine_.open_slots() == 0;
  }

  // --- what is there -----------------------------------------------------------------------------

  /// Open streams.
  [[nodiscard]] std::size_t sessions() const noexcept { return engine_.session_count(); }
  /// Open streams of a user.
  [[nodiscard]] std::size_t user_sessions(std::string_view key) noexcept {
    return engine_.user_sessions(key);
  }
  /// Whether that stream is open.
  [[nodiscard]] bool alive(session_id id) noexcept { return engine_.alive(id); }
  /// The session's user, or nullptr.
  [[nodiscard]] User* user(session_id id) noexcept {
    return engine_.find(id) != nullptr ? &at(id.slot).user() : nullptr;
  }
  /// Its connection; nullptr: it is not open.
  [[nodiscard]] connection* find(session_id id) noexcept {
    return engine_.find(id) != nullptr ? &at(id.slot).conn() : nullptr;
  }
  /// Bytes that the slowest subscriber is behind live. O(subscribers).
  [[nodiscard]] std::uint64_t worst_lag(channel c) const noexcept { return engine_.worst_lag(c); }
  /// What became of the events of a channel that the session reads; all 0: it does not, or
  /// hub_options::session_stats is off. O(its channels).
  [[nodiscard]] session_counts session_stats(session_id id, channel c) const noexcept {
    return engine_.session_stats(id, &c);
  }
  /// The same of all channels that it reads.
  [[nodiscard]] session_counts session_stats(session_id id) const noexcept {
    return engine_.session_stats(id, nullptr);
  }
  /// What it counted, and what it holds.
  [[nodiscard]] hub_stats stats() const noexcept { return engine_.stats(); }
  /// As it took them.
  [[nodiscard]] const hub_options& options() const noexcept { return engine_.options(); }
  /// f(const channel_stats&) for each channel, and then for those that were closed: their sums by
  /// channel_options::metrics_name, which have no name. O(channels).
  template <class F>
  void each_channel_stats(F f) const {
    for (const detail::channel_state* c : engine_.channels()) f(c->stats());
    for (std::uint32_t i = 0; i < engine_.closed_groups(); ++i) f(engine_.closed_group(i));
  }

 private:
  /// A session's typed half, in the slot of its number.
  struct cell {
    alignas(connection) unsigned char conn_bytes[sizeof(connection)];
    [[no_unique_address]] alignas(User) unsigned char user_bytes[sizeof(User)];
    connection& conn() noexcept { return *std::launder(reinterpret_cast<connection*>(conn_bytes)); }
    User& user() noexcept { return *std::launder(reinterpret_cast<User*>(user_bytes)); }
  };
  static constexpr std::uint32_t chunk = 64;

  cell& at(std::uint32_t slot) noexcept { return cells_[slot / chunk][slot % chunk]; }

  bool make_cell(std::uint32_t slot) noexcept {
    while (cells_.size() <= slot / chunk) {
      if (!cells_.reserve(cells_.size() + 1)) return false;
      void* p = detail::allocate(sizeof(cell) * chunk);
      if (p == nullptr) return false;
      cells_.push_reserved(static_cast<cell*>(p));
    }
    return true;
  }

  [[nodiscard]] static accept_result no(accept_result out, refusal_reason why, int status) {
    detail::say_no(out, why, status);
    return out;
  }
  /// Gives a refusal its form, and counts it.
  accept_result refused(accept_result out) {
    if (out.why != refusal_reason::verdict) {
      const refused_request q = out.refused();
      out.refusal = detail::finish_refusal(form_ ? form_(q) : refusal_response(q), q);
    }
    engine_.count_refusal(out.why);
    return out;
  }

  bool may_ask(accept_result& out, const request& r) {
    const bool wanted = accepts_event_stream(r);
    if (!wanted && reads(r) && options().check_accept) {
      out = no(std::move(out), refusal_reason::http, 406);
      return false;
    }
    return (!wanted && !reads(r)) || (engine_.precheck(out) && engine_.precheck_address(r, out));
  }
  [[nodiscard]] static bool reads(const request& r) noexcept {
    return r.method == "GET" || r.method == "HEAD";
  }

  /// The transport knows of a stream that gets values.
  void tell_of_values(std::uint32_t slot) noexcept {
    if constexpr (requires(Transport & t, connection & k) { t.carries_values(k); }) {
      if (engine_.gets_values(slot)) transport_->carries_values(at(slot).conn());
    }
    (void)slot;
  }

  accept_result take(connection&& c, const request& r, verdict<User> v, accept_result out) {
    if (!v.admitted()) {
      out.why = refusal_reason::verdict;
      out.refusal = std::move(v.refusal());
      return reads(r) ? refused(std::move(out)) : std::move(out);  // a POST's may be its answer
    }
    if (r.method == "HEAD") {
      out.head_only = true;
      return out;
    }
    const detail::engine::work w{engine_};
    resume_point resume;
    const std::uint32_t slot =
        engine_.precheck(out) ? engine_.admit(r, v.joining(), resume, out) : detail::none;
    if (slot == detail::none) {
      tell_refused(r, v.user(), out.refused());
      return retry_or_refuse(std::move(c), r, std::move(out));
    }
    if (!settle_in(slot, std::move(c), std::move(v.user()))) {
      engine_.abandon(slot);
      out = no({}, refusal_reason::no_memory, 503);
      tell_refused(r, v.user(), out.refused());
      return refused(std::move(out));
    }
    engine_.join(slot, v.joining(), resume);
    tell_of_values(slot);
    if (opened_) opened_(out.id, at(slot).user());
    engine_.open(slot);
    return out;
  }

  /// A refusal, or the retry stream that a cap asked for (status 200).
  accept_result retry_or_refuse(connection&& c, const request& r, accept_result out) {
    if (out.refusal.status == 200 && r.method == "HEAD") {
      out.refusal = {};
      out.head_only = true;
      engine_.count_refusal(out.why);
      return out;
    }
    if (out.refusal.status == 200) {
      const detail::engine::work w{engine_};
      const std::uint32_t slot = engine_.admit_retry_stream(r, out.retry_after);
      if (slot != detail::none && settle_in(slot, std::move(c), User{})) {
        out.id = engine_.id_of(slot);
        out.refusal = {};
        engine_.count_refusal(out.why);
        engine_.open(slot);
        return out;
      }
      if (slot != detail::none) engine_.abandon(slot);
      out.refusal.status = 503;
    }
    return out.refusal.status == 204 ? std::move(out) : refused(std::move(out));
  }

  bool settle_in(std::uint32_t slot, connection&& c, User&& u) {
    if (!make_cell(slot)) return false;
    cell& x = at(slot);
    ::new (static_cast<void*>(x.conn_bytes)) connection(std::move(c));
    ::new (static_cast<void*>(x.user_bytes)) User(std::move(u));
    if constexpr (requires(Transport & t, connection & k, session_id id) { t.opened(k, id); }) {
      transport_->opened(x.conn(), engine_.id_of(slot));
    }
    return true;
  }

  /// The connection of a stream whose last chunk is out goes on with its host.
  [[nodiscard]] bool keeps(connection& c) noexcept {
    if constexpr (requires(Transport & t) { t.keep(c); }) return transport_->keep(c);
    (void)c;
    return false;
  }

  detail::host_calls calls() noexcept {
    detail::host_calls h;
    h.self = this;
    h.write = [](void* self, std::uint32_t slot, std::span<const buffer> bytes) noexcept {
      hub& me = *static_cast<hub*>(self);
      return me.transport_->write(me.at(slot).conn(), bytes);
    };
    h.close = [](void* self, std::uint32_t slot, close_reason why, bool announce,
                 bool whole) noexcept {
      hub& me = *static_cast<hub*>(self);
      cell& x = me.at(slot);
      if (!whole || !me.keeps(x.conn())) me.transport_->close(x.conn(), why);
      if (announce && me.closed_) me.closed_(me.engine_.id_of(slot), x.user(), why);
      x.conn().~connection();
      x.user().~User();
    };
    if constexpr (requires(Transport & t, connection & k) { t.end(k); }) {
      h.end = [](void* self, std::uint32_t slot) noexcept {
        hub& me = *static_cast<hub*>(self);
        return me.transport_->end(me.at(slot).conn());
      };
    }
    h.sees = [](void* self, std::uint32_t slot, std::string_view key,
                std::string_view audience) noexcept {
      hub& me = *static_cast<hub*>(self);
      if (me.sees_) return me.sees_(me.at(slot).user(), key, audience);
      return key == audience;
    };
    h.flush_begins = [](void* self) noexcept {
      if constexpr (requires(Transport & t) { t.begin_flush(); })
        static_cast<hub*>(self)->transport_->begin_flush();
      (void)self;
    };
    h.flush_ends = [](void* self) noexcept {
      if constexpr (requires(Transport & t) { t.end_flush(); })
        static_cast<hub*>(self)->transport_->end_flush();
      (void)self;
    };
    if constexpr (requires { Transport::max_buffers; })
      h.max_buffers = static_cast<std::uint32_t>(Transport::max_buffers);
    if constexpr (requires { Transport::completes; }) h.completes = Transport::completes;
    return h;
  }

  Transport* transport_;
  detail::vec<cell*> cells_;
  function<verdict<User>(const request&)> admit_;
  function<bool(const User&, std::string_view, std::string_view)> sees_;
  function<void(const request&, const User&, const refused_request&)> refused_;
  function<response(const refused_request&)> form_;
  function<void(session_id, const User&)> opened_;
  function<void(session_id, const User&, close_reason)> closed_;
  detail::engine engine_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_HUB_HPP
