// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// channel: a named stream of events: a log that subscribers read with a cursor each. A hub opens
// and owns it.
//
//   sse::channel ticks = hub.open_channel("ticks", {.keep = 10'000});
//   (void)ticks.publish({.type = "tick", .data = json});
//   hub.flush();
//
// Not thread-safe: it belongs to its hub's thread. Other threads publish through a mailbox
// (sse/mailbox.hpp).
#pragma once
#ifndef SSEHUB_CHANNEL_HPP
#define SSEHUB_CHANNEL_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <sse/config.hpp>
#include <sse/encode.hpp>
#include <sse/event.hpp>
#include <sse/function.hpp>
#include <sse/fwd.hpp>
#include <sse/publish.hpp>
#include <sse/session.hpp>
#include <sse/stats.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Where a channel's ids come from.
enum class id_mode : std::uint8_t {
  automatic,  ///< the next of the sequence
  none,       ///< no ids: nothing can be resumed
  given,      ///< publish_options::id; strictly rising within the sequence
};

/// What happens to a subscriber that is further behind than it may be.
enum class lag_policy : std::uint8_t {
  disconnect,  ///< close; its reconnect resumes from the log
  oldest,      ///< once what it needs left the log: a gap frame, then the oldest retained event
  tail,        ///< a gap frame, then live
  /// From the first write that does not take all: the newest event of each key, pass by pass, in
  /// the order in which the keys came up first, without `id:`, each no older than the write that
  /// brings it; then live. Events without a key all come, in order, while they are retained; a gap
  /// frame only for those that are not, and for keys that max_keys made the channel forget.
  coalesce,
};

/// Where a subscriber without a Last-Event-ID begins.
enum class start_at : std::uint8_t {
  live,  ///< with the next event
  all,   ///< with everything retained
  /// With the newest event of each key. Who comes back with an id that left the history gets those
  /// that changed since, and the events without a key that are retained. What has ids comes beside
  /// it, in their order.
  snapshot,
};

/// A sign of life, so that proxies keep the connection and dead peers are found. Carries no id, is
/// never replayed.
struct heartbeat_options {
  /// When they are sent.
  enum class pace : std::uint8_t {
    off,
    idle,   ///< when nothing was sent to this subscriber for `every`
    fixed,  ///< every `every`, to all subscribers at once
  };
  pace mode = pace::idle;                  ///< when heartbeats are sent
  duration every = duration::seconds(15);  ///< off(): there are none
  bool comment = true;                     ///< a comment line (WHATWG HTML 9.2.7); false: an event
  std::string_view text = "keep-alive";    ///< the comment, or the event's data. Copied.
  std::string_view type = {};              ///< the event's type; empty: unnamed. Copied.
  /// Writes the event's data each time, instead of `text`.
  copyable_function<void(std::string& data)> payload = {};
};

/// What a backfill hook says.
enum class backfill_state : std::uint8_t {
  more,  ///< some events were added; ask again when they are sent
  done,  ///< all events below `before` were added: there the log goes on, or the next request
  wait,  ///< not yet: the host will call hub.writable(session)
  lost,  ///< they are gone: send a gap frame, then the oldest retained event
};

/// What a backfill hook is asked for: the events with after < id < before, oldest first, as many as
/// fit. `before` is where the channel's log goes on, or less: where another channel's hook stopped.
struct backfill_request {
  session_id session{};     ///< who comes back
  event_id after = no_id;   ///< the last id that it has
  event_id before = no_id;  ///< what is below it is asked for
  std::size_t room = 0;     ///< encoded bytes that should not be exceeded by much
};

/// What a backfill hook adds events to (channel_options::backfill).
class backfill_writer {
 public:
  /// Adds one event. False: refused (not above the last id, not below `before`, bad field, or no
  /// memory); the session is then closed, since nothing may be lost in silence.
  bool add(event_id id, const event& e) noexcept;
  /// The same with an event as sse::encode wrote it, id and all, which goes out as it is. One with
  /// an `audience` that the session does not belong to (hub: sees) is passed.
  bool add_encoded(event_id id, std::string_view bytes, std::string_view audience = {}) noexcept;
  /// There is nothing more up to `id`, which is below `before`: looking for it was work. False:
  /// refused, as add.
  bool pass(event_id id) noexcept;
  /// What is behind last() and below `first`, which is at most `before`, is gone: a gap frame says
  /// so in its place. False: refused, as add.
  bool lose(event_id first) noexcept;
  /// Nothing of other channels comes between the events: add_encoded may be given several at once
  /// that lie together, with the id of the last.
  [[nodiscard]] bool takes_runs() const noexcept { return together_; }
  /// The id up to which it is filled.
  [[nodiscard]] event_id last() const noexcept { return last_; }
  /// Encoded, of what was added.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  friend class detail::engine;
  [[nodiscard]] bool stage(event_id id, detail::blob* bytes) noexcept;
  [[nodiscard]] char* room_for(event_id id, std::size_t size) noexcept;
  void shrink() noexcept;
  backfill_writer(detail::engine& e, const backfill_request& r, const encode_limits& limits,
                  bool together) noexcept
      : engine_{&e}, limits_{&limits}, request_{r}, last_{r.after}, together_{together} {}

  detail::engine* engine_;
  const encode_limits* limits_;  // of the channel
  backfill_request request_;
  event_id last_;
  std::size_t bytes_ = 0;
  bool failed_ = false;
  bool together_;                 ///< nothing comes between its events
  detail::blob* open_ = nullptr;  ///< then: where the next ones go, while there is room
  std::size_t open_room_ = 0;     ///< of it, for all its bytes
};

/// One set serves any number of channels: open_channel copies it, with its hooks.
struct channel_options {
  std::uint64_t keep = 1000;              ///< newest events kept for resuming; exact
  std::uint64_t keep_bytes = UINT64_MAX;  ///< encoded bytes kept for resuming
  duration keep_age = duration::off();    ///< age kept for resuming; off: any
  /// Bytes a subscriber may be behind live, beyond its own replay; 0: off.
  std::uint64_t max_lag = 1 << 20;
  std::uint64_t soft_lag = 0;  ///< as max_lag, but only after soft_lag_for; either off: never
  duration soft_lag_for = duration::off();  ///< see soft_lag
  std::uint32_t max_subscribers = 0;        ///< 0: no cap of its own
  /// Counts how long its events wait for each reader (channel_stats::latency): 128 bytes, and a
  /// look at each event that leaves.
  bool latency = false;
  lag_policy on_lag = lag_policy::disconnect;  ///< what becomes of a reader that is too slow
  id_mode ids = id_mode::automatic;            ///< who gives the ids
  /// Ids of its own, consecutive; then a session can join no channel beside it.
  bool own_sequence = false;
  /// With own_sequence: where it stands when it opens, as hub_options::first_id. Unsaid: where the
  /// hub's began, or 0 where ids are given.
  event_id first_id = unsaid_id;
  start_at start = start_at::live;  ///< what a reader without an id gets
  /// Its share of the newest values that a stream takes, to those of the stream's other channels: 1
  /// to 1,000. Events that are not conflated come first anyway.
  std::uint16_t weight = 1;
  /// Newest events kept by key (publish_options::key), for lag_policy::coalesce and
  /// start_at::snapshot, which use 10,000 if this is 0. Then the key that was silent longest is
  /// forgotten, and what a reader misses by that is announced as lost.
  std::uint32_t max_keys = 0;
  std::uint32_t max_selected = 10'000;  ///< keys of one stream that chooses some (watch_options)
  /// What no watching stream may exceed, whatever its watch_options say; 0: nothing.
  std::uint32_t max_bytes = 0;
  double max_rate = 0;  ///< events a second; see max_bytes
  /// A newest value that is older when it could be written is not: it is lost, and a gap frame says
  /// so, unless to one who is new, as old as it was when that came. off(): any age.
  duration max_value_age = duration::off();
  heartbeat_options heartbeat = {};  ///< so that proxies and clients see that it lives
  /// What it is called by metrics_page, together with others that have the same: for a channel per
  /// user or per request, whose names nobody wants there. Empty: its own name. Copied.
  std::string_view metrics_name = {};
  /// How long it stays for those who come late once it is sealed; then it is closed. off(): not at
  /// all.
  duration keep_sealed = duration::infinite();
  encode_limits limits = {};  ///< of an event; larger ones are refused
  /// Gives events that retention let go (WHATWG HTML 9.2.4 resume). Events of the session's other
  /// channels wait for it, since ids rise along a stream.
  copyable_function<backfill_state(const backfill_request&, backfill_writer&)> backfill = {};
};

/// Why hub.open_channel() did not.
enum class open_error : std::uint8_t {
  none,
  taken,     ///< there is one of this name
  too_many,  ///< 2^27 channels
  no_memory,
  in_hook,  ///< called inside a hook that may not call the hub (see hub)
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(open_error e) noexcept {
  switch (e) {
    case open_error::none: return "none";
    case open_error::taken: return "taken";
    case open_error::too_many: return "too_many";
    case open_error::no_memory: return "no_memory";
    case open_error::in_hook: return "in_hook";
  }
  return "unknown";
}

/// A channel of a hub, as a value: a handle that tells whether the channel is still open. Copies
/// are cheap, and name the same channel. One that is closed, or none, is refused everywhere, also
/// once another channel has its place in memory. Only its hub's end ends that: then a handle may be
/// copied, compared and destroyed, and nothing else.
class channel {
 public:
  /// None.
  constexpr channel() noexcept = default;

  /// It is open. False too while it is being closed: it can be read until that call returns.
  [[nodiscard]] explicit operator bool() const noexcept;
  /// The same channel, or both none.
  friend constexpr bool operator==(channel, channel) noexcept = default;
  /// Its hub's channels have different ones, also those that were closed; 0: none.
  [[nodiscard]] constexpr std::uint64_t number() const noexcept { return number_; }

  /// Valid while it is open; empty: it is closed.
  [[nodiscard]] std::string_view name() const noexcept;
  /// As open_channel made them; nullptr: it is closed. Valid while it is open.
  [[nodiscard]] const channel_options* options() const noexcept;

  /// Appends an event to the log: encoded once, O(1) in subscribers, touches none of them. It
  /// leaves with the next hub.flush(), which hub.on_wanted asks for; a server sees to that itself.
  [[nodiscard]] publish_result publish(const event& e,
                                       const publish_options& o = {}) const noexcept;

  /// No event can come any more: its last one was published, see hub::seal, or it is closed.
  [[nodiscard]] bool sealed() const noexcept;
  /// 0 too: it is closed.
  [[nodiscard]] std::size_t subscribers() const noexcept;
  /// The id given out last in this channel's sequence; no_id too: it is closed.
  [[nodiscard]] event_id last_id() const noexcept;
  [[nodiscard]] channel_stats stats() const noexcept;  ///< all 0: it is closed

 private:
  friend class detail::engine;

  constexpr channel(const detail::channel_cell* cell, std::uint64_t number) noexcept
      : cell_{cell}, number_{number} {}
  /// nullptr: it is closed, or none.
  [[nodiscard]] detail::channel_state* state() const noexcept;

  const detail::channel_cell* cell_ = nullptr;
  std::uint64_t number_ = 0;
};

/// A channel that was opened, or why it was not.
struct open_result {
  channel here{};                       ///< none: see error
  open_error error = open_error::none;  ///< why there is none

  operator channel() const noexcept { return here; }  // NOLINT: implicit on purpose
  [[nodiscard]] explicit operator bool() const noexcept { return error == open_error::none; }
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_CHANNEL_HPP
