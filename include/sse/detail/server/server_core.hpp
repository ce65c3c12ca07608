// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What every HTTP/1 server of this library is made of, but for its sockets and its loop: options,
// hub, mailbox, routes, refusals, the access log, the way of a request to its handler. Include the
// header of a host.
#pragma once
#ifndef SSEHUB_DETAIL_SERVER_SERVER_CORE_HPP
#define SSEHUB_DETAIL_SERVER_SERVER_CORE_HPP

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sse/cors.hpp>
#include <sse/detail/base/intrusive_list.hpp>
#include <sse/detail/http/ip_address.hpp>
#include <sse/detail/server/inbox.hpp>
#include <sse/detail/server/routes.hpp>
#include <sse/http1.hpp>
#include <sse/hub.hpp>
#include <sse/mailbox.hpp>
#include <sse/server.hpp>
#include <sse/shards.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Who sent the request: the peer, or, if it is a proxy that we trust, the last one in
/// X-Forwarded-For that is not. Empty: as the peer. What cannot be read ends the search, since
/// anybody could have written what stands left of it.
[[nodiscard]] inline std::string forwarded_for(const request& r, std::string_view peer,
                                               std::span<const std::string> trusted) {
  const auto is_trusted = [&](std::string_view a) {
    return std::find(trusted.begin(), trusted.end(), a) != trusted.end();
  };
  if (!is_trusted(peer)) return {};
  std::string last{peer};
  for (std::size_t i = r.headers.size(); i-- > 0;) {
    if (!text::equal_fold(r.headers[i].name, "X-Forwarded-For")) continue;
    std::string_view list = r.headers[i].value;
    while (!list.empty()) {
      const std::size_t comma = list.rfind(',');
      const std::size_t begin = comma == std::string_view::npos ? 0 : comma + 1;
      std::string hop = client_ip_text(text::trim(list.substr(begin)));
      if (hop.empty()) return last;
      last = std::move(hop);
      if (!is_trusted(last)) return last;
      list = list.substr(0, comma == std::string_view::npos ? 0 : comma);
    }
  }
  return last;
}

template <class T>
void allow_times(waiting_room<T>& w, const server_options& o) noexcept {
  w.allow(due::handshake, o.handshake_deadline);
  w.allow(due::head, o.head_deadline);
  w.allow(due::body, o.body_deadline);
  w.allow(due::verdict, o.verdict_deadline);
  if (o.shards != nullptr) w.allow(due::ahead, o.shards->options().wait_ahead);
  w.allow(due::idle, o.keep_alive);
  w.allow(due::write, o.hub.write_deadline);
}

/// Too many handshakes are under way: those that last longest give way, so that peers that never
/// finish theirs shut nobody out.
template <class T>
void limit_handshakes(waiting_room<T>& w, const server_options& o) noexcept {
  const chain<T>& all = w.waiting_for(due::handshake);
  while (o.max_handshakes != 0 && all.size > o.max_handshakes) all.first->drop();
}

/// There are as many connections as there may be: one for which nobody asked anything for a second,
/// that which waits longest, gives way to one that comes. Kept ones first, then those that have not
/// brought a whole request.
template <class T>
void make_room(waiting_room<T>& w, const server_options& o, time_point now) noexcept {
  const auto waits = [now](const T& t, duration length) {
    return !length.is_off() && t.due_at - length.ms() + 1000 <= now.ms();
  };
  T* const kept = w.waiting_for(due::idle).first;
  if (kept != nullptr && waits(*kept, o.keep_alive)) return kept->drop();
  T* const begun = w.waiting_for(due::head).first;
  if (begun != nullptr && waits(*begun, o.head_deadline)) begun->drop();
}

/// `Transport`: the host's. Its loop, which derives from this, drains the mail and calls the hub.
template <class User, class Transport>
class server_core {
 public:
  using user_type = User;
  using transport_type = Transport;
  using hub_type = sse::hub<Transport, User>;
  using endpoint = http_endpoint<User>;

  /// Throws std::invalid_argument for options that cannot work. `transport`: what it is made of.
  template <class... Args>
  explicit server_core(const server_options& o, Args&&... transport)
      : options_{o},
        cors_{o.cors},
        open_cors_{for_any_origin(o.cors)},
        hosts_{o.hosts},
        head_{o.head},
        transport_{std::forward<Args>(transport)...} {
    if (validate(o.cors) != cors_error::none) {
      throw std::invalid_argument("server_options::cors is not a valid policy");
    }
    options_.cors = {};
    options_.head = {};
    for (const std::string& p : o.trusted_proxies) {
      trusted_.push_back(client_ip_text(p));
      if (trusted_.back().empty()) throw std::invalid_argument("not an address: " + p);
    }
    const auto clock = std::chrono::system_clock::now().time_since_epoch();
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(clock).count();
    hub_options h = o.hub;
    h.first_id = said_or(h.first_id, static_cast<event_id>(us));
    if (h.seed == hub_options{}.seed) {
      h.seed ^= static_cast<std::uint64_t>(us) ^ reinterpret_cast<std::uintptr_t>(this);
      h.seed ^= static_cast<std::uint64_t>(now_us()) << 20U;
    }
    if (o.shards != nullptr) shard_port::prepare(*o.shards, h);
    hub_.emplace(transport_, h);
    hub_->on_channel_closed([this](channel c) {
      forget_channel(c);
      if (on_channel_closed) on_channel_closed(c);
    });
    hub_->refusal_form([this](const refused_request& q) { return form_of(q); });
    hub_->tick(now());
  }
  server_core(const server_core&) = delete;
  server_core& operator=(const server_core&) = delete;

  // --- what the connections ask

  [[nodiscard]] const http1::limits& limits() const noexcept { return options_.limits; }
  [[nodiscard]] std::array<char, 16384>& scratch() noexcept { return scratch_; }
  [[nodiscard]] transport_type& transport() noexcept { return transport_; }
  /// What is said to pages of other origins about the answer to this request.
  [[nodiscard]] const cors_policy& cors_of(const request& r) const noexcept {
    for (const std::string& p : options_.any_origin) {
      if (p.ends_with('/') ? r.path.starts_with(p) : r.path == p) return open_cors_.policy;
    }
    return cors_.policy;
  }
  /// No further request of a connection is served.
  [[nodiscard]] bool ending() const noexcept { return draining_ || stopped_; }

  [[nodiscard]] time_point now() const noexcept {
    return options_.clock != nullptr ? options_.clock()
                                     : time_point{std::chrono::steady_clock::now()};
  }
  [[nodiscard]] static std::int64_t now_us() noexcept {
    const auto t = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::microseconds>(t).count();
  }

  /// A refusal in the form that the host wants.
  [[nodiscard]] response form_of(const refused_request& q) {
    if (error_page) {
      try {
        return error_page(q);
      } catch (const std::exception& e) {
        error(e.what(), {});
      } catch (...) {
        error("exception", {});
      }
    }
    return refusal_response(q);
  }
  /// Of the server itself.
  [[nodiscard]] response refusal(int status, refusal_reason why = refusal_reason::http,
                                 duration retry_after = duration::off()) {
    const refused_request q{why, status, retry_after};
    return finish_refusal(form_of(q), q);
  }

  void error(std::string_view what, const std::error_code& e) noexcept {
    if (!on_error) return;
    try {
      on_error(what, e);
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

  /// Who answers a request. to == nullptr: `answer` does.
  struct routed {
    std::shared_ptr<endpoint> to{};
    response answer{};
    bool with_cors = true;  // the answer is to have them still
  };
  [[nodiscard]] routed route(const request& r) {
    if (!hosts_.views.empty() && !host_allowed(r, hosts_.views)) return {{}, refusal(403)};
    if (r.method == "OPTIONS")
      return {{}, preflight(cors_of(r), r, options_.preflight_status), false};
    const auto* found = routes.find(r.path);
    if (found == nullptr) return {{}, refusal(404)};
    std::shared_ptr<endpoint> e = found->find(r.method);
    if (e == nullptr) {
      response no = refusal(405);
      return {{}, std::move(no.add("Allow", found->allow()))};
    }
    const bool changes = r.method != "GET" && r.method != "HEAD";
    const bool checks = options_.check_origin || cors_.policy.credentials;
    if (changes && checks && !origin_allowed(cors_.policy, r)) return {{}, refusal(403)};
    return {std::move(e)};
  }
  /// The client's address where a trusted proxy names it; empty: the peer's.
  [[nodiscard]] std::string client_of(const request& r, std::string_view peer) const {
    return forwarded_for(r, peer, trusted_);
  }
  /// No TLS session came about: whose fault it is, is not known.
  void handshake_failed(const std::string& why, std::string_view address) {
    const std::error_code e = std::make_error_code(std::errc::protocol_error);
    error(std::string{"TLS handshake with "}.append(address).append(": ").append(why), e);
  }
  /// HTTP came where TLS is spoken: what this one is told.
  [[nodiscard]] std::string not_plain(std::string_view address) {
    const response r = response::text(400, "This port speaks TLS: use https://\n");
    std::string out;
    http1::write_response(out, r, {.keep_alive = false});
    log({.method = {}, .address = address}, 400, out.size(), now_us(), false);
    return out;
  }
  /// Too many connections: what this one is told.
  [[nodiscard]] std::string crowded() {
    response r = refusal(503, refusal_reason::http, duration::seconds(5));
    add_cors(r.headers, cors_.policy, request{});
    std::string out;
    http1::write_response(out, r, {.keep_alive = false});
    return out;
  }

  /// Appends the head of a stream; whether it is framed as chunks. `stays`: the connection outlives
  /// it, if its end can be seen without that of the connection.
  [[nodiscard]] bool write_head(std::string& out, const endpoint& e, const request& r, bool stays) {
    const owned_head& own = e.head != nullptr ? *e.head : head_;
    std::string lines = own.extra;
    add_cors(lines, cors_of(r), r);
    const bool chunked = options_.chunked && r.minor_version > 0;
    http1::stream_head head = own.view(lines);
    head.keep_alive = head.keep_alive || (stays && (chunked || r.method == "HEAD"));
    if (!http1::write_stream_head(out, head, r.minor_version, chunked)) {
      throw std::invalid_argument("stream_head is not valid");
    }
    return chunked;
  }

  /// What is known of a stream's head once there is a verdict.
  void add_to_head(std::string& head, const endpoint& e, verdict<User>& v) {
    if (!v.admitted()) return;
    std::string lines{v.headers()};
    const http1::stream_head& own = (e.head != nullptr ? *e.head : head_).head;
    if (options_.announce_heartbeat && own.heartbeat_seconds == 0) {
      http1::write_heartbeat(lines, heartbeat_of(v));
    }
    head.insert(head.size() - 2, lines);  // in front of the empty line
    if (v.joining().bad_header) error("verdict::header: not one that may be sent", {});
  }
  /// How long a stream can be silent; off(): for ever.
  [[nodiscard]] static duration heartbeat_of(verdict<User>& v) noexcept {
    duration least = duration::off();
    for (std::uint32_t i = 0; i < v.joining().channels.size(); ++i) {
      const channel_options* const o = v.joining().channels[i].options();
      if (o == nullptr || o->heartbeat.mode == heartbeat_options::pace::off) continue;
      if (least.is_off() || o->heartbeat.every < least) least = o->heartbeat.every;
    }
    return least;
  }

  /// `ask`: a verdict, or what gives one: the hub asks, so that shape and caps come first.
  template <class Ask>
  [[nodiscard]] accept_result admit(typename Transport::connection&& c, const request& r,
                                    Ask&& ask) {
    touch_clock();
    refused_request no;
    if (!caught_up(r, no)) {
      if constexpr (std::is_same_v<Ask, verdict<User>>) {
        if (ask.admitted()) hub_->tell_refused(r, ask.user(), no);
      }
      return hub_->turn_away(std::move(c), r, no);
    }
    return hub_->accept(std::move(c), r, std::forward<Ask>(ask));
  }

  /// Its client has an id that has not come here yet: it waits.
  [[nodiscard]] bool is_ahead(const request& r) const noexcept {
    return port_.is_ahead(r, hub_->options());
  }

  /// Where late answers go.
  [[nodiscard]] const std::shared_ptr<inbox>& box() const noexcept { return inbox_; }

  /// The hub's clock without anything becoming due, since then hooks run.
  void touch_clock() noexcept { hub_->set_time(now()); }

  [[nodiscard]] hub_type& hub() noexcept { return *hub_; }
  [[nodiscard]] mailbox& mail() noexcept { return *mail_; }

  /// What publishers of this channel's events call it; never used again for another. REQUIRES: it
  /// is the hub's.
  [[nodiscard]] std::uint64_t token_of(channel c) {
    if (const auto at = target_of_.find(c); at != target_of_.end())
      return targets_[at->second].token;
    if (free_target_ == no_target) {
      targets_.emplace_back();
      free_target_ = static_cast<std::uint32_t>(targets_.size() - 1);
    }
    const std::uint32_t slot = free_target_;
    target_of_.emplace(c, slot);
    mail_target& t = targets_[slot];
    free_target_ = t.next_free;
    t = {.token = ++tokens_ << 32U | slot, .to = c};
    return t.token;
  }

  // What the host sets.
  http_routes<User> routes;
  function<void(const access_record&)> on_access;
  function<void(std::string_view, const std::error_code&)> on_error;
  function<response(const refused_request&)> error_page;
  function<void(channel)> on_channel_closed;

 protected:
  /// The host's half is gone: nothing of it may be called any more.
  void forget_hooks() noexcept {
    hub_->on_refused({});
    hub_->refusal_form({});
    hub_->on_sees({});
    hub_->on_opened({});
    hub_->on_closed({});
    hub_->on_presence({});
    hub_->on_gap({});
    hub_->on_wanted({});
    hub_->on_channel_closed({});
    // Not `= {}`: Clang 14 forgets the destructor of such a temporary in a template.
    on_access = decltype(on_access){};
    on_error = decltype(on_error){};
    error_page = decltype(error_page){};
    on_channel_closed = decltype(on_channel_closed){};
    routes.clear();
  }
  void forget_channel(channel c) noexcept {
    routes.remove(c);
    if (const auto at = target_of_.find(c); at != target_of_.end()) forget_target(at->second);
  }

  /// Of mail: what a sequencer takes, its shards take too.
  [[nodiscard]] encode_limits mail_limits() const noexcept {
    encode_limits l;
    if (options_.shards != nullptr)
      l.event = (std::max)(l.event, options_.shards->options().limits.event);
    return l;
  }
  /// Once mail_ is there. Throws std::invalid_argument.
  void join_shards() {
    if (options_.shards != nullptr && !port_.attach(*options_.shards, *hub_, *mail_)) {
      throw std::invalid_argument("too late to join the sequencer, or it has no place");
    }
  }
  /// All mail into the logs.
  void drain_mail() noexcept {
    ++turn_;
    if (port_) port_.turn_begins();
    take_mail();
    if (port_) port_.wake_waiting(*hub_);
  }
  /// After the mail: requests that wait for what their clients have already.
  template <class Connection>
  void look_at_those_ahead(waiting_room<Connection>& all) noexcept {
    if (port_ && port_.head_moved())
      all.for_each(due::ahead, [](Connection& c) { c.look_ahead(); });
  }
  /// Answers that came late to their connections.
  void take_late_answers() noexcept {
    for (inbox::task& t : inbox_->take()) {
      try {
        t();
      } catch (const std::exception& e) {
        error(e.what(), {});
      } catch (...) {
        error("exception", {});
      }
    }
  }
  /// All shards are to drain, and this one has what came before.
  [[nodiscard]] bool shards_end() const noexcept { return port_ && port_.ending() && !draining_; }
  /// A stream's connection may bring its next request: `back()` makes it one of the host's again.
  /// False: it may not, or its peer is gone.
  template <class F>
  [[nodiscard]] bool take_back(F&& back) noexcept {
    if (ending()) return false;
    try {
      return back();
    } catch (...) {
      return false;
    }
  }
  void report_to_shards() noexcept {
    if (port_) port_.report(hub_->stats());
  }

  server_options options_;
  bool draining_ = false;
  bool stopped_ = false;

 private:
  static constexpr std::uint32_t no_target = UINT32_MAX;
  struct mail_target {
    std::uint64_t token = 0;  // its slot, and above it a number that no other had; 0: it is free
    channel to{};
    std::uint32_t next_free = no_target;
  };

  /// Mail for it is mail for a channel that is closed, from now on.
  void forget_target(std::uint32_t slot) noexcept {
    target_of_.erase(targets_[slot].to);
    targets_[slot] = {.next_free = std::exchange(free_target_, slot)};
  }

  void take_mail() noexcept {
    mail_->drain([this](const sse::mail& m) { return deliver(m); });
  }

  /// False: memory is out; it stays in its lane.
  bool deliver(const sse::mail& m) noexcept {
    if (m.target == shard_port::target && port_) return deliver_shared(m);
    touch_clock_for_mail();
    const channel to = target(m.target);
    if (!to) {
      error("mail for a channel that is closed", {});
      return true;
    }
    const publish_result r = hub_->publish(to, m.event, m.options);
    if (!r) error(to_string(r.error), {});
    return true;
  }

  /// The channel of a token; none: it is closed, or nobody's.
  [[nodiscard]] channel target(std::uint64_t token) const noexcept {
    const auto slot = static_cast<std::uint32_t>(token);
    if (token == 0 || slot >= targets_.size() || targets_[slot].token != token) return {};
    return targets_[slot].to;
  }

  /// Once in a turn that has mail.
  void touch_clock_for_mail() noexcept {
    if (mail_turn_ == turn_) return;
    mail_turn_ = turn_;
    touch_clock();
  }

  /// The sequencer's: what cannot be published now waits.
  bool deliver_shared(const sse::mail& m) noexcept {
    touch_clock_for_mail();
    const publish_error before = port_.error();
    const bool taken = port_.take(m);
    if (port_.error() != publish_error::none && port_.error() != before) {
      error(to_string(port_.error()), {});
    }
    return taken;
  }

  /// Has what the client got elsewhere.
  [[nodiscard]] bool caught_up(const request& r, refused_request& no) {
    return !port_ || port_.catch_up(r, hub_->options(), no, [this] { take_mail(); });
  }

  owned_cors cors_;
  owned_cors open_cors_;  ///< of options_.any_origin
  owned_texts hosts_;
  owned_head head_;
  std::vector<std::string> trusted_;

 protected:
  Transport transport_;
  std::optional<hub_type> hub_;
  std::optional<mailbox> mail_;
  std::shared_ptr<inbox> inbox_;  // made by the host, which can be woken
  shard_port port_;

 private:
  std::vector<mail_target> targets_;  // of publishers, by the lower half of their tokens
  std::unordered_map<channel, std::uint32_t, channel_hash> target_of_;
  std::uint32_t free_target_ = no_target;
  std::uint64_t tokens_ = 0;
  std::uint64_t turn_ = 0;
  std::uint64_t mail_turn_ = 0;  // in which the clock was last looked at for mail
  std::array<char, 16384> scratch_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_SERVER_CORE_HPP
