// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// admission: who may open a stream, what it joins, and how many there may be.
//
//   hub.on_admit([&](const sse::request& r) -> sse::verdict<> {
//     if (!token_is_good(sse::bearer_token(r))) return sse::refuse(401, "who are you?\n");
//     return sse::admit("user-7").join(orders);
//   });
//
// Plain data, no thread safety of its own.
#pragma once
#ifndef SSEHUB_ADMISSION_HPP
#define SSEHUB_ADMISSION_HPP

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <sse/channel.hpp>
#include <sse/config.hpp>
#include <sse/detail/base/containers.hpp>
#include <sse/detail/http/characters.hpp>
#include <sse/request.hpp>
#include <sse/session.hpp>
#include <sse/stats.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// What a full cap does.
enum class when_full : std::uint8_t {
  refuse,        ///< answer `status` with Retry-After. Final for a browser's EventSource.
  evict_oldest,  ///< close the oldest stream it counts, and admit
  /// Answer 200 with a stream that says `retry:` and ends: an EventSource comes back by itself.
  retry_stream,
};

/// A cap on concurrent streams.
struct cap {
  std::uint32_t max = 0;                        ///< 0: off
  when_full then = when_full::refuse;           ///< what a full cap does
  int status = 429;                             ///< of a refusal
  duration retry_after = duration::seconds(5);  ///< off(): the refusal says nothing of it
};

/// How many streams there may be at once.
struct limits {
  cap total{.status = 503};    ///< all there are, on all hubs that share a counter
  cap per_user{};              ///< per key that admit() named; an empty key is not counted
  cap per_address{.max = 64};  ///< per request::address; an empty one is not counted
  /// Bits of an IPv6 address that per_address looks at: who has one has the others that begin so.
  /// 128: each counts alone.
  std::uint8_t ipv6_prefix = 64;
};

/// Counts the streams of several hubs together, so that the caps of each hold over all of them:
/// hub_options::counter. Must be thread-safe where the hubs have threads of their own.
/// sse/shards.hpp has one.
class cap_counter {
 public:
  /// Which cap; total has no key.
  enum class kind : std::uint8_t { total, user, address };
  /// One more of `key` (total: empty), unless there are `max` already; `max` 0: in any case. False
  /// too: memory is out.
  [[nodiscard]] virtual bool take(kind k, std::string_view key, std::uint32_t max) noexcept = 0;
  /// Once for each take that was true, when the stream is over.
  virtual void give_back(kind k, std::string_view key) noexcept = 0;
  /// How many there are now; total has no key.
  [[nodiscard]] virtual std::uint32_t count(kind k, std::string_view key) noexcept = 0;

 protected:
  ~cap_counter() = default;
};

/// The User of a hub that needs none.
struct no_user {};

template <class User = no_user>
class verdict;

/// How a stream reads one channel whose events have keys (publish_options::key), that is one with
/// channel_options::max_keys: the newest value of each key, without `id:`, not each event. Events
/// without a key all come, in order, while they are retained; transient ones too, whatever their
/// key.
struct watch_options {
  /// Only these keys. It begins with the value that each of them has, whatever id the client
  /// brings; then what changed longest ago comes first, each value as it is when it is written. A
  /// publish costs nothing for streams that did not choose its key. Copied. At most
  /// channel_options::max_selected; hub::select() adds some, hub::unselect() takes some away.
  std::span<const std::string_view> keys = {};
  /// Only `keys`, also while there are none.
  bool only_keys = false;
  /// Values of one key in a second, at most: all that changed comes once each so often, the newest
  /// always follows. 0: no limit but channel_options::max_rate, which holds in any case.
  double max_rate = 0;
  /// Bytes of values in a second, at most; 0: no limit but channel_options::max_bytes.
  std::uint32_t max_bytes = 0;

  /// Whether the stream reads some keys only.
  [[nodiscard]] bool selects() const noexcept { return only_keys || !keys.empty(); }
  /// It says nothing: the channel is read as any other.
  [[nodiscard]] bool says_nothing() const noexcept {
    return !selects() && !(max_rate > 0) && max_bytes == 0;
  }
};

namespace detail {

/// What a verdict says of watching channels, in one piece of memory.
class watch_requests {
 public:
  /// The keys of one, packed.
  struct request {
    bool selects = false;
    double max_rate = 0;
    std::uint32_t max_bytes = 0;
    std::uint32_t keys = 0;
    std::string_view packed{};

    template <class F>
    void each_key(F f) const {
      for (std::size_t at = 0; at != packed.size();) {
        std::uint32_t n = 0;
        std::memcpy(&n, packed.data() + at, sizeof n);
        f(packed.substr(at + sizeof n, n));
        at += sizeof n + n;
      }
    }
  };

  /// Channel number `joined` of the verdict's.
  void add(std::uint32_t joined, const watch_options& o) {
    head h{joined, o.selects(), o.max_rate, o.max_bytes, static_cast<std::uint32_t>(o.keys.size()),
           0};
    for (const std::string_view key : o.keys) h.size += sizeof(std::uint32_t) + key.size();
    bytes_.append(reinterpret_cast<const char*>(&h), sizeof h);
    for (const std::string_view key : o.keys) {
      const auto n = static_cast<std::uint32_t>(key.size());
      bytes_.append(reinterpret_cast<const char*>(&n), sizeof n).append(key);
    }
  }
  /// False: that channel is read as any other.
  [[nodiscard]] bool find(std::uint32_t joined, request& out) const noexcept {
    for (std::size_t at = 0; at != bytes_.size();) {
      head h;
      std::memcpy(&h, bytes_.data() + at, sizeof h);
      at += sizeof h;
      if (h.joined == joined) {
        out = {h.selects, h.max_rate, h.max_bytes, h.keys,
               std::string_view{bytes_}.substr(at, to_size(h.size))};
        return true;
      }
      at += to_size(h.size);
    }
    return false;
  }

 private:
  struct head {
    std::uint32_t joined;
    bool selects;
    double max_rate;
    std::uint32_t max_bytes;
    std::uint32_t keys;
    std::uint64_t size;  ///< of the packed keys
  };
  std::string bytes_;
};

/// Channels to join: a few without memory of their own.
class joins {
 public:
  /// Out of memory it is not complete().
  void add(channel c) noexcept {
    if (count_ < few) {
      few_[count_] = c;
    } else if (!complete_ || !more_.push_back(c)) {
      complete_ = false;
      return;
    }
    ++count_;
  }
  [[nodiscard]] bool complete() const noexcept { return complete_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return count_; }
  /// REQUIRES: i < size().
  [[nodiscard]] channel operator[](std::uint32_t i) const noexcept {
    return i < few ? few_[i] : more_[i - few];
  }

 private:
  static constexpr std::uint32_t few = 4;
  channel few_[few] = {};
  vec<channel> more_;
  std::uint32_t count_ = 0;
  bool complete_ = true;
};

/// A header that the head of a stream has by itself.
[[nodiscard]] constexpr bool is_of_stream_head(std::string_view name) noexcept {
  for (const std::string_view own :
       {"Content-Type", "Content-Encoding", "Cache-Control", "X-Accel-Buffering",
        "X-Content-Type-Options", "X-Heartbeat-Interval"}) {
    if (text::equal_fold(name, own)) return true;
  }
  return text::starts_fold(name, "Access-Control-");
}

/// What an admitted request asks of the engine.
struct joining {
  std::string key{};
  std::string headers{};
  bool bad_header = false;
  joins channels{};
  watch_requests watches{};
  bool start_given = false;
  start_at start = start_at::live;
  std::uint64_t backlog = 0;
  bool after_given = false;
  event_id after = no_id;
  time_point until = time_point::never();
  bool position_given = false;
  bool position = true;
};

}  // namespace detail

/// What the admit hook says of a request: a refusal, or a user and the channels to join.
template <class User>
class verdict {
 public:
  /// Refuses with any status, headers and body.
  verdict(response r)  // NOLINT: implicit, so that a hook can return refuse(...)
      : refusal_{std::move(r)} {}

  /// Admits. `key` names the user for the cap per user, for revoke(), and as an audience; empty:
  /// anonymous.
  verdict(User user, std::string key) : admitted_{true}, user_{std::move(user)} {
    joining_.key = std::move(key);
  }

  /// Subscribes to one more channel, to none twice: hub_options::max_joins. Several must share one
  /// sequence.
  verdict& join(channel c) & noexcept {
    joining_.channels.add(c);
    return *this;
  }
  /// The same for a temporary.
  verdict&& join(channel c) && noexcept { return std::move(join(c)); }
  /// The same, and how it is read. A channel without keys, or more keys than it allows, makes the
  /// stream a refusal.
  verdict& join(channel c, const watch_options& o) & {
    if (!o.says_nothing()) joining_.watches.add(joining_.channels.size(), o);
    return join(c);
  }
  /// The same for a temporary.
  verdict&& join(channel c, const watch_options& o) && { return std::move(join(c, o)); }

  /// Where to begin without a Last-Event-ID; default: as the channel says.
  verdict&& start(start_at s) && {
    joining_.start_given = true;
    joining_.start = s;
    return std::move(*this);
  }
  /// Begin with the newest `n` retained events of each channel, if there is no Last-Event-ID.
  verdict&& backlog(std::uint64_t n) && {
    joining_.backlog = n;
    return std::move(*this);
  }
  /// Begin after `id`, whatever the request says: for programs whose clients bring ids that the
  /// program itself has to translate. 0: with everything, also what a backfill hook has to bring.
  verdict&& after(event_id id) && {
    joining_.after_given = true;
    joining_.after = id;
    return std::move(*this);
  }
  /// Whether this stream is told where it begins, whatever hub_options::position says: for readers
  /// whose protocol allows no such block.
  verdict&& position(bool told) && {
    joining_.position_given = true;
    joining_.position = told;
    return std::move(*this);
  }
  /// One more header of the stream's head, such as a request id; servers write it, and hosts that
  /// write heads of their own find it in headers(). What cannot be sent (a name that is no token, a
  /// control character in the value: RFC 9110 5.5), and what the head has by itself (its type,
  /// caching, length, coding, CORS), makes the stream a refusal with 500.
  verdict& header(std::string_view name, std::string_view value) & {
    if (detail::is_of_stream_head(name) || !detail::add_field(joining_.headers, name, value))
      joining_.bad_header = true;
    return *this;
  }
  /// The same for a temporary.
  verdict&& header(std::string_view name, std::string_view value) && {
    return std::move(header(name, value));
  }
  /// "Name: value\r\n" lines, all valid.
  [[nodiscard]] std::string_view headers() const noexcept { return joining_.headers; }
  /// End the stream at `t`, for example when the token expires. Before hub.tick() told the time it
  /// is a refusal with 500.
  verdict&& until(time_point t) && {
    joining_.until = t;
    return std::move(*this);
  }

  [[nodiscard]] bool admitted() const noexcept { return admitted_; }  ///< false: it is a refusal
  /// What is answered unless it admits.
  [[nodiscard]] response& refusal() noexcept { return refusal_; }
  [[nodiscard]] User& user() noexcept { return user_; }  ///< who was admitted
  /// What is joined, for the hub.
  [[nodiscard]] detail::joining& joining() noexcept { return joining_; }

 private:
  bool admitted_ = false;
  response refusal_{};
  User user_{};
  detail::joining joining_{};
};

/// Refuses: 401, 403, 5xx, or 204 to make an EventSource give up (WHATWG HTML 9.2.3).
[[nodiscard]] inline response refuse(int status, std::string body = {}) {
  return response::text(status, std::move(body));
}

/// Admits a user without data of its own.
[[nodiscard]] inline verdict<> admit(std::string key = {}) { return {no_user{}, std::move(key)}; }

/// Admits a user; the hub keeps `user` while the session lives and shows it to its hooks.
template <class User>
requires(!std::is_convertible_v<User, std::string>)
    [[nodiscard]] verdict<std::remove_cvref_t<User>> admit(User&& user, std::string key) {
  return {std::forward<User>(user), std::move(key)};
}

/// A request that the library refuses.
struct refused_request {
  refusal_reason why = refusal_reason::http;  ///< why
  int status = 500;                           ///< of the answer
  duration retry_after = duration::off();     ///< what Retry-After says; off(): nothing
};

/// The form that the library's refusals have unless the program gives them another: JSON,
/// {"error":"too_many_streams"}; the word is the reason's, or the status' reason phrase.
[[nodiscard]] inline response refusal_response(const refused_request& r) {
  std::string body{"{\"error\":\""};
  if (r.why != refusal_reason::http) {
    body.append(to_string(r.why));
  } else {
    for (const char c : reason_phrase(r.status)) body += c == ' ' ? '_' : detail::text::lower(c);
  }
  return response::json(r.status, body.append("\"}"));
}

namespace detail {

/// What stands in a refusal whatever its form.
inline response finish_refusal(response r, const refused_request& q) {
  r.status = q.status;
  if (q.retry_after.is_off()) return r;
  const std::int64_t seconds = q.retry_after.ms() / 1000 + (q.retry_after.ms() % 1000 != 0 ? 1 : 0);
  return std::move(r.add("Retry-After", std::to_string(seconds)));
}

}  // namespace detail

/// What accept() did. An id: the session is open. None: write `refusal`; for HEAD (`head_only`) the
/// preamble alone.
struct accept_result {
  session_id id{};                            ///< of the stream; none: refused
  bool head_only = false;                     ///< HEAD: the preamble, and no stream
  refusal_reason why = refusal_reason::none;  ///< why it was refused
  response refusal{};                         ///< what to write then
  duration retry_after = duration::off();     ///< what a full cap or a drain said in Retry-After

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(id); }
  /// REQUIRES: refused.
  [[nodiscard]] refused_request refused() const noexcept {
    return {why, refusal.status, retry_after};
  }
};

/// What a gap frame said, for the host's log.
struct gap_notice {
  session_id session{};        ///< the reader's
  channel where{};             ///< what it reads
  event_id requested = no_id;  ///< the id asked for, or the last one the slow reader got
  event_id first = no_id;      ///< the first id that can come
  std::uint64_t lost = 0;      ///< how many events, where lost_known
  bool lost_known = false;     ///< false: nobody can know
};

/// Where hub.join() begins on a channel: with the next event, unless one of these is said.
struct join_start {
  start_at start = start_at::live;  ///< from now on, all that is kept, or the newest of each key
  std::uint64_t backlog = 0;        ///< with the newest so many retained events
  event_id after = unsaid_id;       ///< behind this id, as verdict::after; before the others
};

/// Why hub.join() did not.
enum class join_error : std::uint8_t {
  none,
  no_session,   ///< gone, or ending
  another_hub,  ///< the channel is of another hub
  closed,       ///< the channel is closed, or being closed, or none
  sealed,       ///< the channel has had its last event
  joined,       ///< it has joined it already
  /// Its other channels, or those that it left, have ids of another sequence, or it left one that
  /// has its own.
  another_sequence,
  too_many,       ///< hub_options::max_joins
  moved_on,       ///< it got, or was told of, an id that is not below where it was to begin
  full,           ///< channel_options::max_subscribers
  no_keys,        ///< keys are chosen of a channel that has none (channel_options::max_keys)
  too_many_keys,  ///< channel_options::max_selected
  no_memory,
  in_hook,  ///< called inside a hook that may not call the hub (see hub)
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(join_error e) noexcept {
  switch (e) {
    case join_error::none: return "none";
    case join_error::no_session: return "no_session";
    case join_error::another_hub: return "another_hub";
    case join_error::closed: return "closed";
    case join_error::sealed: return "sealed";
    case join_error::joined: return "joined";
    case join_error::another_sequence: return "another_sequence";
    case join_error::too_many: return "too_many";
    case join_error::moved_on: return "moved_on";
    case join_error::full: return "full";
    case join_error::no_keys: return "no_keys";
    case join_error::too_many_keys: return "too_many_keys";
    case join_error::no_memory: return "no_memory";
    case join_error::in_hook: return "in_hook";
  }
  return "unknown";
}

/// Why hub.select() or hub.unselect() did not.
enum class select_error : std::uint8_t {
  none,
  no_session,     ///< gone, or ending
  no_selection,   ///< it did not join the channel with keys of its own (watch_options)
  too_many_keys,  ///< channel_options::max_selected: none of them was added
  no_memory,      ///< some of them may have been added
  in_hook,        ///< called inside a hook that may not call the hub (see hub)
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(select_error e) noexcept {
  switch (e) {
    case select_error::none: return "none";
    case select_error::no_session: return "no_session";
    case select_error::no_selection: return "no_selection";
    case select_error::too_many_keys: return "too_many_keys";
    case select_error::no_memory: return "no_memory";
    case select_error::in_hook: return "in_hook";
  }
  return "unknown";
}

/// Each duration can be off() or infinite(), which are never, unless it says otherwise.
struct hub_options {
  limits caps = {};  ///< streams at once
  /// Counts for `caps` with other hubs, which must have the same caps; nullptr: alone. evict_oldest
  /// closes a stream of this hub; where it has none to close, the cap refuses. Must outlive the
  /// hub.
  cap_counter* counter = nullptr;
  /// Where the shared sequence stands at first: the first event's id is above it. The wall clock in
  /// microseconds keeps ids rising over restarts, and is what a server takes if nothing is said; a
  /// hub of its own takes 0 then. At most max_event_id.
  event_id first_id = unsaid_id;
  /// The shared sequence's ids are all given: id_mode::automatic on it is refused with id_order.
  bool given_ids = false;
  std::uint64_t seed = 0x9e3779b97f4a7c15ULL;  ///< for jitter and hashing; give something random
  duration retry = duration::off();            ///< `retry:` at the start of each stream; off: none
  /// Channels of one stream; 0: no limit. A verdict with more is refused with 500.
  std::uint32_t max_joins = 0;
  /// Ids between these two were given out and are lost: who comes back with one of them is told so,
  /// by a gap frame, and goes on with lost_below.
  event_id lost_above = no_id;
  event_id lost_below = no_id;  ///< see lost_above
  /// A GET whose Accept does not take an event stream is refused with 406. false: it gets one (RFC
  /// 9110 12.5.1 lets a server disregard Accept).
  bool check_accept = true;
  /// Comment at the start of each stream: bytes that open a buffering proxy. Copied.
  std::string_view opening = {};
  /// A reader that brings no id is told where its stream begins, by a block of `id:` alone, which
  /// fires no event: cut before its first event, it comes back with that and misses nothing. Behind
  /// a snapshot too.
  bool position = true;
  /// Counts for each stream and channel what became of its events (hub.session_stats): 32 bytes for
  /// each.
  bool session_stats = false;
  /// Query field beside the header Last-Event-ID; empty: none. Copied.
  std::string_view resume_query = "last_id";
  duration write_deadline = duration::seconds(10);  ///< no write progress: closed
  /// No application event delivered: closed. At most 24 days.
  duration idle = duration::off();
  /// Of a connection: closed, up to a tenth earlier (jitter).
  duration max_age = duration::off();
  /// A clean close sends a random `retry:` between these two, so that reconnects are spread; off():
  /// 0, at once.
  duration retry_min = duration::seconds(1);
  duration retry_max = duration::seconds(5);  ///< see retry_min
  /// Bytes of all logs held only for slow readers; 0: off.
  std::uint64_t max_backlog = std::uint64_t{256} << 20;
  /// Bytes of control and unicast frames waiting per session.
  std::uint32_t control_lane = 256 << 10;
  /// Bytes written to one session before the next gets its turn.
  std::uint32_t flush_share = 256 << 10;
  /// Bytes written in one flush() to sessions that catch up, and to streams that open between two:
  /// then the loop gets its turn, and flush() says that there is more. What is published leaves in
  /// the next flush for those who are up to date, whatever the others still need. 0: no limit.
  std::uint64_t flush_budget = std::uint64_t{4} << 20;
};

/// How a server or a hub ends its streams; see drain().
struct drain_options {
  duration deadline = duration::seconds(5);  ///< then the rest is cut; off(): at once
  /// Last event; empty data and type: none. Its id is not sent. Copied.
  event farewell{};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_ADMISSION_HPP
