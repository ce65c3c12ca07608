// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// The hub's engine: what is behind hub<Transport, User> and depends on neither. One class, told in
// rooms; each includes, and calls, only what stands above it:
//
//   parts.hpp stream.hpp batch.hpp   what it is made of
//   channel_state.hpp                what is behind a channel
//   caps.hpp lanes.hpp chunks.hpp    parts that know nothing of an engine
//   engine.hpp                       this file: all that it has, and all that it can do
//   sessions.hpp                     slots, cursors, who is served next
//   timers.hpp                       when a session or a channel is looked at next
//   channels.hpp                     channels: opened, found, freed
//   ends.hpp                         closed, and reaped once nobody walks
//   visibility.hpp                   which entry a session may see next
//   lag.hpp                          readers that are too slow, what is held for them
//   selection.hpp                    who chose which keys, and is woken by which event
//   catch_up.hpp                     where a reader begins, or goes on; gap frames
//   passes.hpp                       the newest values, for readers that conflate or chose keys
//   weave.hpp                        its way to live, its channels in the order of their ids
//   publish.hpp                      bytes in
//   flush.hpp                        bytes out: gather, write, advance
//   deadlines.hpp                    time: heartbeats, deadlines, drain
//   admit.hpp                        who may, and the first bytes; live joins
//
// Invariants:
//   1. A cursor pins its segment; each run of a pending write does too, also past its session.
//   2. Ids rise strictly along a session, across its channels: entries leave in order of stamps.
//   3. Control bytes enter between events only: first the rest of a half-sent event, then the lane,
//      then the logs.
//   4. No engine call runs inside write or close of the host, and nothing is freed while anybody
//      walks: what dies is reaped when the outermost call ends.
//   5. Memory: sum over channels of 1.5 * max(keep, max_lag), plus a small constant for each
//      session and channel.
//   6. An accepted event is delivered, or a gap frame says that it is lost, or the stream closes.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_ENGINE_HPP
#define SSEHUB_DETAIL_ENGINE_ENGINE_HPP

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string_view>

#include <sse/admission.hpp>
#include <sse/channel.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/base/name_table.hpp>
#include <sse/detail/base/random.hpp>
#include <sse/detail/base/timer_heap.hpp>
#include <sse/detail/engine/batch.hpp>
#include <sse/detail/engine/caps.hpp>
#include <sse/detail/engine/channel_state.hpp>
#include <sse/detail/engine/chunks.hpp>
#include <sse/detail/engine/lanes.hpp>
#include <sse/detail/engine/merge.hpp>
#include <sse/detail/engine/parts.hpp>
#include <sse/encode.hpp>
#include <sse/event.hpp>
#include <sse/request.hpp>
#include <sse/session.hpp>
#include <sse/stats.hpp>
#include <sse/transport.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The typed half of the hub as the engine sees it.
struct host_calls {
  void* self = nullptr;
  write_result (*write)(void*, std::uint32_t slot, std::span<const buffer>) noexcept = nullptr;
  /// Destroys connection and user. `whole`: the last chunk is out, the connection may go on.
  void (*close)(void*, std::uint32_t slot, close_reason, bool announce,
                bool whole) noexcept = nullptr;
  /// Before a clean end; blocked: it is asked again. nullptr: nothing is to be done.
  flow (*end)(void*, std::uint32_t slot) noexcept = nullptr;
  bool (*sees)(void*, std::uint32_t slot, std::string_view key,
               std::string_view audience) noexcept = nullptr;
  void (*flush_begins)(void*) noexcept = nullptr;
  void (*flush_ends)(void*) noexcept = nullptr;
  std::uint32_t max_buffers = 16;
  bool completes = false;
};

/// An option's time as the engine can count it. Forever is off. What is held against a session's
/// 32-bit times ends at 24 days.
[[nodiscard]] constexpr duration countable(duration d,
                                           duration most = duration::seconds(24 * 24 *
                                                                             3600)) noexcept {
  if (d == duration::infinite()) return duration::off();
  return d < most ? d : most;
}
inline constexpr duration longest_age = duration::milliseconds(std::int64_t{1} << 50);

inline constexpr std::uint32_t max_channels = 1U << 27;
static_assert(2 * max_channels <= subscription::max_streams, "a channel has up to two streams");

class engine;

/// Where each id's place in the timer heap stands: sessions by slot, channels with the top bit set.
struct timer_places {
  static constexpr std::uint32_t channel_bit = 0x80000000U;
  static_assert(max_channels <= channel_bit);
  engine* e;
  [[nodiscard]] std::uint32_t& place(std::uint32_t id) const noexcept;
};

/// Streams that hold bytes for slow readers only, the one that holds most on top.
struct backlog_order {
  engine* e;
  [[nodiscard]] std::uint32_t& place(std::uint32_t id) const noexcept;
  [[nodiscard]] static bool before(std::uint64_t a, std::uint64_t b) noexcept { return a > b; }
};

/// What is remembered of a channel that was closed, so that one of its name goes on where it ended.
struct closed_channel {
  event_id start = no_id;  ///< of its own sequence
  event_id last = no_id;
  bool own = false;  ///< it had a sequence of its own
  std::uint32_t older = none;
  std::uint32_t newer = none;
};

/// An event id as decimal text. Ids mostly follow each other, and counting text is cheap.
class id_text {
 public:
  id_text() noexcept = default;

  /// Empty for no_id. Valid until the next call.
  [[nodiscard]] std::string_view view(event_id id) noexcept {
    if (id == no_id) return {};
    if (id != id_) {
      if (id != id_ + 1 || !count_up()) {
        begin_ = static_cast<std::uint8_t>(sizeof digits_ - decimal_size(id));
        put_decimal(digits_ + begin_, id);
      }
      id_ = id;
    }
    return {digits_ + begin_, sizeof digits_ - begin_};
  }

 private:
  /// False: it has as many digits as there are, or none yet.
  [[nodiscard]] bool count_up() noexcept {
    char* p = digits_ + sizeof digits_ - 1;
    for (; p >= digits_ + begin_ && *p == '9'; --p) *p = '0';
    if (p < digits_ + begin_) return false;
    ++*p;
    return true;
  }

  char digits_[max_digits];
  std::uint8_t begin_ = sizeof digits_;
  event_id id_ = no_id;
};

class engine {
 public:
  engine(const host_calls& host, const hub_options& options) noexcept;
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  ~engine();

  /// Held while hooks may be called or lists are walked: nothing is freed before the outermost one
  /// ends.
  class work {
   public:
    explicit work(engine& e) noexcept : e_{e} { ++e_.depth_; }
    work(const work&) = delete;
    work& operator=(const work&) = delete;
    ~work();

   private:
    engine& e_;
  };
  // Channels.
  [[nodiscard]] open_result open_channel(std::string_view name, channel_options&& o) noexcept;
  /// nullptr: it is closed, none, or another hub's.
  [[nodiscard]] channel_state* find(channel c) const noexcept;
  /// Where a channel's ids come from.
  [[nodiscard]] static sequence& sequence_of(channel_state& c) noexcept {
    return c.options_.own_sequence ? c.own_ : c.engine_->sequence_;
  }
  [[nodiscard]] static const sequence& sequence_of(const channel_state& c) noexcept {
    return c.options_.own_sequence ? c.own_ : c.engine_->sequence_;
  }
  [[nodiscard]] channel find_channel(std::string_view name) const noexcept;
  bool close_channel(channel c) noexcept;
  [[nodiscard]] const vec<channel_state*>& channels() const noexcept { return channels_; }
  [[nodiscard]] std::uint32_t closed_groups() const noexcept { return closed_groups_.size(); }
  [[nodiscard]] channel_stats closed_group(std::uint32_t i) const noexcept;
  [[nodiscard]] channel handle_of(const channel_state& c) const noexcept {
    return {&cells_[c.cell_], cells_[c.cell_].number};
  }

  // Bytes in.
  [[nodiscard]] publish_result publish(channel c, const event& e,
                                       const publish_options& o) noexcept;
  [[nodiscard]] publish_result publish(channel_state& c, const event& e,
                                       const publish_options& o) noexcept;
  [[nodiscard]] publish_error send(session_id id, const event& e) noexcept;
  std::size_t send_user(std::string_view key, const event& e) noexcept;

  // Sessions.
  /// Draining, and a total cap that evicts nobody, before anybody is asked. False: `out` says why.
  [[nodiscard]] bool precheck(accept_result& out);
  /// The same of a cap per address where nobody can make room.
  [[nodiscard]] bool precheck_address(const request& r, accept_result& out);
  /// Takes a slot; the caller places connection and user in it, then calls join() and open(). none:
  /// `out` says why not. REQUIRES: the caller holds `work` until open() returned.
  [[nodiscard]] std::uint32_t admit(const request& r, const joining& j, resume_point& resume,
                                    accept_result& out);
  void join(std::uint32_t slot, const joining& j, const resume_point& resume) noexcept;
  [[nodiscard]] std::uint32_t admit_retry_stream(const request& r, duration retry) noexcept;
  void open(std::uint32_t slot) noexcept;
  [[nodiscard]] join_error join(session_id id, channel c, const join_start& from,
                                const watch_options* watch = nullptr) noexcept;
  [[nodiscard]] bool selects(session_id id, channel c) const noexcept;
  [[nodiscard]] select_error select(session_id id, channel c,
                                    std::span<const std::string_view> keys) noexcept;
  [[nodiscard]] select_error unselect(session_id id, channel c,
                                      std::span<const std::string_view> keys) noexcept;
  /// Counts a request whose verdict comes later, until end_wait(). False: refused.
  [[nodiscard]] bool begin_wait(const request& r, counted_names& n, accept_result& out);
  void end_wait(counted_names& n) noexcept { caps_.end_wait(n); }
  /// Undoes admit(): the typed half could not be made.
  void abandon(std::uint32_t slot) noexcept;
  [[nodiscard]] session_id id_of(std::uint32_t slot) const noexcept {
    return {slot, sessions_[slot].generation};
  }
  /// nullptr: no such session, or it is closed and only its slot waits for a pending write.
  [[nodiscard]] session* find(session_id id) noexcept;
  [[nodiscard]] bool alive(session_id id) noexcept;
  [[nodiscard]] std::uint32_t user_sessions(std::string_view key) const noexcept {
    return caps_.count_of_user(key);
  }
  /// It gets newest values in place of some events, or may.
  [[nodiscard]] bool gets_values(std::uint32_t slot) const noexcept {
    return sessions_[slot].conflates;
  }
  [[nodiscard]] std::uint32_t session_count() const noexcept { return caps_.total(); }
  [[nodiscard]] std::uint32_t open_slots() const noexcept { return sessions_.in_use(); }

  // What the host reports.
  void writable(session_id id) noexcept;
  void written(session_id id, std::size_t n) noexcept;
  void closed(session_id id) noexcept;
  [[nodiscard]] std::size_t peek(session_id id, std::span<buffer> out) noexcept;

  // Ends.
  void close(session_id id, close_reason why) noexcept;
  void close_all() noexcept;
  void close_all_soon() noexcept;
  void finish(session_id id) noexcept;
  bool seal(channel c) noexcept;
  [[nodiscard]] bool leave(session_id id, channel c) noexcept;
  std::size_t revoke(std::string_view key) noexcept;
  void drain(const drain_options& o) noexcept;
  [[nodiscard]] bool draining() const noexcept { return draining_; }

  // Bytes out, and time.
  bool flush() noexcept;
  void tick(time_point host_now) noexcept;
  void set_time(time_point host_now) noexcept;
  [[nodiscard]] time_point next_deadline() const noexcept;
  [[nodiscard]] std::uint64_t worst_lag(channel c) const noexcept;
  [[nodiscard]] session_counts session_stats(session_id id, const channel* c) const noexcept;

  [[nodiscard]] hub_stats stats() const noexcept;
  void count_refusal(refusal_reason why) noexcept {
    ++stats_.refused;
    ++stats_.refused_by[static_cast<std::size_t>(why)];
  }
  void shut_down() noexcept;
  [[nodiscard]] const hub_options& options() const noexcept { return options_; }

  // Hooks of the non-typed kind.
  function<void(const gap_notice&)> on_gap;
  function<void(channel, std::string_view key, bool present)> on_presence;
  function<void()> on_wanted;
  function<void(channel)> on_channel_closed;
  /// The host could not do what on_wanted asked for.
  void wanted_in_vain() noexcept { wanted_ = false; }
  /// The host has a rule of its own for who sees an audience (host_calls::sees); else it is the
  /// user whose key it is.
  void ask_who_sees(bool on) noexcept { ask_who_sees_ = on; }

 private:
  friend struct timer_places;
  friend struct backlog_order;
  friend class sse::backfill_writer;

  /// Hidden entries that one session is looked through in a turn where the host is asked for each.
  static constexpr std::uint32_t asks_per_turn = 1024;
  /// Of the flush's budget, for one of them.
  static constexpr std::uint32_t bytes_per_ask = 64;

  /// Something waits for the next flush.
  void want() noexcept {
    if (wanted_ || !on_wanted) return;
    wanted_ = true;
    const quiet q{*this};
    on_wanted();
  }

  /// A hook runs that may call nothing here.
  class quiet {
   public:
    explicit quiet(engine& e) noexcept : e_{e} { e_.quiet_ = true; }
    quiet(const quiet&) = delete;
    quiet& operator=(const quiet&) = delete;
    ~quiet() { e_.quiet_ = false; }

   private:
    engine& e_;
  };

  /// One subscription's share of what is gathered.
  struct head {
    log_place at;             ///< where its cursor stands once all of it is out
    std::uint32_t index;      ///< subscription
    std::uint32_t count = 0;  ///< entries
  };
  /// What a head has next, while several are merged.
  struct next_entry {
    std::uint64_t stamp = 0;  ///< of the entry at head::at
    own_entries own;
  };

  /// Sessions in line, through session::queue_next.
  struct queue {
    std::uint32_t first = none;
    std::uint32_t last = none;
  };

  // sessions.hpp
  [[nodiscard]] bool serving(const session& s) const noexcept {
    return s.state == session_state::live || s.state == session_state::finishing;
  }
  [[nodiscard]] stream& stream_of(const subscription& sub) const noexcept {
    return *streams_[sub.stream_index].here;
  }
  [[nodiscard]] session* holder(session_id id) noexcept;
  void enqueue(queue& q, std::uint32_t slot) noexcept;
  void begin_waiting(session& s) noexcept;
  [[nodiscard]] std::uint32_t dequeue(queue& q) noexcept;
  void touch(stream& st) noexcept;
  [[nodiscard]] stream& next_touched() noexcept;
  void untouch(stream& st) noexcept;
  [[nodiscard]] bool begin_counts(std::uint32_t index) noexcept;
  void note_latency(const channel_state& c, std::int64_t at) noexcept;
  void count_lost(std::uint32_t index, std::uint64_t n) noexcept;
  void count_conflated(std::uint32_t index, std::uint64_t n) noexcept;
  void count(std::uint32_t index, std::uint64_t session_counts::*what, std::uint64_t n) noexcept;
  void move_cursor(subscription& sub, const log_place& to) noexcept;
  void release_cursor(subscription& sub) noexcept;
  void place_at(subscription& sub, std::uint64_t ordinal) noexcept;
  [[nodiscard]] std::uint32_t& link_behind(std::uint32_t slot, std::uint32_t before) noexcept;
  [[nodiscard]] std::uint32_t add_reader(std::uint32_t slot, stream& st,
                                         std::uint32_t before) noexcept;
  void swap_readers(stream& st, std::uint32_t a, std::uint32_t b) noexcept;
  [[nodiscard]] bool is_live(const subscription& sub) const noexcept;
  void set_selecting(subscription& sub, bool on) noexcept;
  [[nodiscard]] std::uint32_t find_watch(const subscription& sub,
                                         std::string_view key) const noexcept;
  [[nodiscard]] bool lost_keyless(const subscription& sub, const newest_by_key& values) noexcept;
  [[nodiscard]] static bool gets_values(const subscription& sub) noexcept;
  [[nodiscard]] value_reader& value_reader_of(const subscription& sub) noexcept;
  [[nodiscard]] std::int64_t values_due(const subscription& sub) noexcept;
  void give_record_back(subscription& sub) noexcept;
  void detach(std::uint32_t slot, std::uint32_t before) noexcept;
  void detach_all(std::uint32_t slot) noexcept;
  [[nodiscard]] bool add_transients(std::uint32_t index) noexcept;
  [[nodiscard]] bool add_new_transients(std::uint32_t slot) noexcept;
  void drop_transients(std::uint32_t slot) noexcept;
  void hand_out(stream& st) noexcept;
  [[nodiscard]] std::uint32_t take_slot(const request& r) noexcept;
  void mark_dead(std::uint32_t slot, close_reason why) noexcept;
  void bury(std::uint32_t slot) noexcept;
  void begin_flight(session& s, batch& b, std::uint64_t taken) noexcept;
  void end_flight(session& s) noexcept;
  void tell_presence(std::uint32_t slot) noexcept;
  void begin_presence(std::uint32_t slot, const stream& st) noexcept;
  void end_presence(std::uint32_t slot, const stream& st) noexcept;

  // timers.hpp
  [[nodiscard]] channel_state* heart_of(const session& s) const noexcept;
  void arm(std::uint32_t slot) noexcept;
  void arm_channel(channel_state& c) noexcept;

  // channels.hpp
  [[nodiscard]] channel_state* find_state(std::string_view name) const noexcept;
  [[nodiscard]] channel_state& joined(const joining& j, std::uint32_t i) const noexcept;
  [[nodiscard]] bool make_channel(channel_state& c, std::string_view name,
                                  channel_options&& o) noexcept;
  void begin_sequence(channel_state& c) noexcept;
  [[nodiscard]] std::uint32_t list_stream(stream& st) noexcept;
  void unlist_stream(stream& st) noexcept;
  [[nodiscard]] stream* transients_of(channel_state& c) noexcept;
  void delete_channel(channel_state* c) noexcept;
  void free_channel(channel_state* c) noexcept;
  void remember(const channel_state& c) noexcept;
  void count_closed(const channel_state& c) noexcept;
  void raise_floor(const closed_channel& c) noexcept;
  void forget(std::uint32_t i) noexcept;

  // ends.hpp
  void reap() noexcept;
  void close_channel(channel_state& c) noexcept;
  void seal(channel_state& c) noexcept;
  void mark_all_dead() noexcept;
  void begin_finish(std::uint32_t slot, close_reason why) noexcept;
  void finish_if_sealed(std::uint32_t slot) noexcept;
  void end_leaving(std::uint32_t slot, std::uint32_t half_sent) noexcept;

  // visibility.hpp
  enum class found : std::uint8_t { entry, nothing, paused };
  [[nodiscard]] bool sees(std::uint32_t slot, std::string_view audience) noexcept;
  [[nodiscard]] static std::uint32_t next_in_segment(const segment& s, std::uint32_t k,
                                                     std::uint64_t own) noexcept;
  [[nodiscard]] bool own_entries_of(std::uint32_t slot, const stream& st,
                                    own_entries& own) noexcept;
  [[nodiscard]] found next_visible(std::uint32_t slot, const stream& st, log_place& p,
                                   own_entries& own) noexcept;
  [[nodiscard]] found next_visible(std::uint32_t slot, const stream& st, log_place& p) noexcept;
  void pass_hidden(subscription& sub) noexcept;

  // lag.hpp
  [[nodiscard]] std::uint64_t lag_of(const stream& st, const subscription& sub) const noexcept;
  void watch_lag(stream& st, std::uint64_t from, bool over_soft = false) noexcept;
  [[nodiscard]] bool still_over(const session& s) noexcept;
  void enforce_lag(stream& st) noexcept;
  void over_lag(std::uint32_t index) noexcept;
  void leave_log(std::uint32_t index) noexcept;
  void conflate(std::uint32_t slot, bool late_only) noexcept;
  void sweep(stream& st) noexcept;
  void count_backlog(stream& st) noexcept;
  void shed_backlog() noexcept;
  void settle() noexcept;

  // catch_up.hpp
  [[nodiscard]] std::uint32_t pass_transients(std::uint32_t index) noexcept;
  [[nodiscard]] bool subscribe(std::uint32_t slot, const joining& j,
                               const resume_point& resume) noexcept;
  using watch_request = const watch_requests::request*;  ///< nullptr: read as any other channel
  struct beginning {
    /// newest, selected, backfill: behind the id that it brought, if it did
    source from = source::log;
    std::uint64_t ordinal = 0;  ///< log: of its first entry
    bool resumes = false;       ///< from an id that was given out
    bool lost = false;          ///< what it asked for is gone, or not given out yet
  };
  [[nodiscard]] static beginning beginning_of(const channel_state& c, const joining& j,
                                              const resume_point& resume,
                                              watch_request watch) noexcept;
  [[nodiscard]] bool begin_at(std::uint32_t index, const joining& j, const resume_point& resume,
                              watch_request watch, bool& lost) noexcept;
  [[nodiscard]] bool start_watching(std::uint32_t index, const joining& j,
                                    const resume_point& resume,
                                    const watch_requests::request& watch, bool resumes) noexcept;
  [[nodiscard]] static std::uint64_t in_front_of(const event_log& log, std::uint64_t ordinal,
                                                 std::uint64_t head) noexcept;
  [[nodiscard]] std::uint64_t head_of(const channel_state& c) const noexcept;
  [[nodiscard]] bool start_passes(subscription& sub, std::uint64_t since, std::uint64_t keyless,
                                  std::uint64_t told) noexcept;
  void begin_values(value_reader& r, const channel_state& c) const noexcept;
  [[nodiscard]] std::uint32_t most_at_a_time() const noexcept;
  void go_live(subscription& sub, std::uint64_t ordinal) noexcept;
  void leave_skips(std::uint32_t slot) noexcept;
  [[nodiscard]] loss leave_skip(std::uint32_t slot, std::uint32_t index) noexcept;
  [[nodiscard]] static start_at start_of(const channel_state& c, const joining& j) noexcept;
  [[nodiscard]] bool was_lost(event_id id) const noexcept {
    return id > options_.lost_above && id + 1 < options_.lost_below;
  }
  [[nodiscard]] static event_id gone_up_to(const stream& st) noexcept;
  [[nodiscard]] static event_id first_possible(const stream& st) noexcept;
  [[nodiscard]] static std::uint64_t skip_target(const stream& st) noexcept;
  [[nodiscard]] event_id next_id(std::uint32_t slot) noexcept;
  [[nodiscard]] bool tells_position(const joining& j) const noexcept;
  [[nodiscard]] bool push_position(std::uint32_t slot) noexcept;
  void push_owed_position(std::uint32_t slot) noexcept;
  [[nodiscard]] bool waits_in_line(const subscription& sub) const noexcept;
  [[nodiscard]] bool opens(const subscription& sub) const noexcept;
  [[nodiscard]] event_id values_to(std::uint32_t slot, bool ended = false) const noexcept;
  [[nodiscard]] static loss loss_at_opening(const channel_state& c, event_id after) noexcept;
  [[nodiscard]] static newest_by_key& values_of(stream& st) noexcept;
  [[nodiscard]] std::uint64_t next_keyless(const subscription& sub, std::uint64_t n) noexcept;
  void note_losses(std::uint32_t slot, bool of_values = false) noexcept;
  [[nodiscard]] bool tell(std::uint32_t slot) noexcept;
  [[nodiscard]] bool tell_standing(std::uint32_t slot) noexcept;
  [[nodiscard]] bool push_gap(std::uint32_t slot, channel_state& where, const loss& what,
                              bool moves_id) noexcept;

  // selection.hpp
  [[nodiscard]] select_error find_selection(session_id id, channel c,
                                            std::uint32_t& index) noexcept;
  [[nodiscard]] bool watch_key(std::uint32_t index, std::string_view key) noexcept;
  [[nodiscard]] bool watch_keys(std::uint32_t index, const watch_requests::request& w) noexcept;
  void wake_watchers(channel_state& c, std::string_view key, std::uint64_t position,
                     std::string_view audience) noexcept;
  void value_sent(std::uint32_t index, std::uint32_t w) noexcept;
  void wake_watch(channel_state& c, std::uint32_t w, std::uint64_t position) noexcept;
  void chain_fresh_keys(const channel_state& c) noexcept;
  [[nodiscard]] bool keyless_waits(const subscription& sub) const noexcept;
  [[nodiscard]] std::uint32_t selection_of(std::uint32_t slot,
                                           const channel_state& c) const noexcept;
  [[nodiscard]] bool has_more(const subscription& sub) const noexcept;

  // weave.hpp
  /// A channel's share of what a session that catches up gets next.
  struct strand {
    static constexpr std::uint64_t nothing = UINT64_MAX;
    std::uint64_t next = nothing;  ///< id of its next event; where there are none, its stamp
    std::uint32_t index = none;    ///< subscription
    // What it has next, by the subscription's source.
    std::uint64_t keyless =
        nothing;               ///< newest: number of the event without a key; nothing: unknown
    own_entries own{};         ///< log
    std::uint32_t staged = 0;  ///< backfill: what the hook gave, in staged_
    std::uint32_t staged_end = 0;
    event_id covered = no_id;  ///< backfill: it has nothing else up to here
    backfill_state answer = backfill_state::wait;
  };
  struct staged_event {
    event_id id;
    blob* bytes;  ///< nullptr: a loss, up to there
  };
  struct weaving {
    std::uint32_t slot;
    std::uint64_t room;                       ///< bytes
    std::uint64_t bytes = 0;                  ///< taken
    std::uint64_t horizon = strand::nothing;  ///< what is above this id is not known yet
    std::uint64_t done_to = 0;                ///< all events up to this id are taken
    event_id values_to = max_event_id;        ///< what their ids say of values
    std::uint64_t size = 0;                   ///< of the pieces at hand
    bool apart = false;                       ///< an id was told that says where the values are
    bool moved = false;                       ///< something is further than before
    bool ok = true;                           ///< false: memory is out
  };
  // passes.hpp, selection.hpp
  static constexpr std::uint32_t least_at_a_time = 1024;  ///< bytes of values
  static constexpr std::uint64_t barrier = 0;             ///< no position
  [[nodiscard]] bool may_take(const subscription& sub) noexcept;
  void take_newest(weaving& w, std::uint32_t index) noexcept;
  void share_passes(weaving& w) noexcept;
  [[nodiscard]] bool add_value(weaving& w, std::uint32_t index, std::uint32_t value,
                               bool counts) noexcept;
  [[nodiscard]] bool add_before(weaving& w, std::uint32_t index, std::string_view key,
                                std::string_view audience) noexcept;
  [[nodiscard]] bool add_chosen_before(weaving& w, std::uint32_t index,
                                       std::string_view key) noexcept;
  [[nodiscard]] bool is_old(const channel_state& c, const newest_value& v) const noexcept;
  [[nodiscard]] blob* make_loss(const channel_state& c, std::uint32_t value) const noexcept;
  [[nodiscard]] bool push_value(weaving& w, std::uint32_t index, std::uint32_t value,
                                std::uint32_t key, bool counts) noexcept;
  void take_selected(weaving& w, std::uint32_t index) noexcept;
  [[nodiscard]] bool take_key(weaving& w, std::uint32_t index, std::uint32_t x) noexcept;
  void take_back(selection& chosen, const lane_item& item) noexcept;
  [[nodiscard]] std::uint64_t begin_taking(value_reader& r, const weaving& w) const noexcept;
  void note_cut(value_reader& r, std::uint64_t n) noexcept;
  void pay(value_reader& r, std::int64_t bytes) const noexcept;
  void wait_a_period(value_reader& r) noexcept;
  void run_passes(weaving& w) noexcept;
  void end_pass(std::uint32_t index) noexcept;
  void take_values(weaving& w, std::uint32_t index) noexcept;
  [[nodiscard]] bool sees_value(std::uint32_t slot, const newest_value& v) noexcept;
  static void begin_pass(passing& p, std::uint64_t newest) noexcept;
  [[nodiscard]] bool end_of_slots(weaving& w, std::uint32_t index, std::uint64_t newest) noexcept;
  [[nodiscard]] bool tells_pass(std::uint32_t slot, std::uint32_t index) const noexcept;
  [[nodiscard]] bool tell_pass(std::uint32_t slot, std::uint32_t index) noexcept;
  void take_values_back(std::uint32_t slot, std::uint64_t n) noexcept;
  [[nodiscard]] static std::uint32_t next_changed(const newest_by_key& values, passing& p) noexcept;

  void fill(std::uint32_t slot) noexcept;
  [[nodiscard]] bool weaves(const session& s) const noexcept;
  void weave(weaving& w) noexcept;
  void sink(std::uint32_t i) noexcept;
  void look(weaving& w, strand& x) noexcept;
  void take(weaving& w, strand& x, std::uint64_t bound) noexcept;
  void take_loss(weaving& w, channel_state& c, event_id before, event_id id) noexcept;
  void take_keyless(weaving& w, strand& x) noexcept;
  void take_from_log(weaving& w, strand& x, std::uint64_t bound) noexcept;
  [[nodiscard]] bool add_piece(weaving& w, std::string_view text, event_id id) noexcept;
  void push_pieces(weaving& w, lane_kind kind, std::uint32_t from) noexcept;
  void ask_hooks(weaving& w) noexcept;
  void ask_hook(weaving& w, strand& x, std::size_t room) noexcept;
  void advance_hooks(event_id id) noexcept;
  void leave_hooks(weaving& w) noexcept;

  // publish.hpp
  [[nodiscard]] publish_error append(stream& st, const event& e, new_entry& meta,
                                     const publish_options& o,
                                     const encode_limits& limits) noexcept;
  [[nodiscard]] bool index_audience(stream& st, std::string_view audience) noexcept;
  void put_newest(channel_state& c, const new_entry& meta, const publish_options& o) noexcept;
  void put_keyless(channel_state& c, const new_entry& meta, const publish_options& o) noexcept;
  void announce(stream& st, std::string_view audience, bool keyed = false) noexcept;
  void serve_user(stream& st, std::string_view key) noexcept;

  // flush.hpp
  void flush_once() noexcept;
  [[nodiscard]] std::uint64_t pump(std::uint32_t slot) noexcept;
  [[nodiscard]] bool nothing_left(std::uint32_t slot, session& s) noexcept;
  void serve_dirty() noexcept;
  void serve_transients() noexcept;
  void hand_out_to_readers(stream& st) noexcept;
  [[nodiscard]] bool gather(std::uint32_t slot, session& s, batch& b) noexcept;
  [[nodiscard]] bool gather_session(std::uint32_t slot, session& s, batch& b) noexcept;
  [[nodiscard]] bool gather_logs(std::uint32_t slot, session& s, std::uint32_t half_sent,
                                 bool woven, batch& b) noexcept;
  [[nodiscard]] bool gather_one(std::uint32_t slot, head& h, batch& b,
                                bool found_first = false) noexcept;
  [[nodiscard]] bool gather_merged(std::uint32_t slot, batch& b) noexcept;
  [[nodiscard]] bool add_head(std::uint32_t index, std::uint32_t half_sent) noexcept;
  void look_ahead(std::uint32_t slot, head& h, next_entry& next, std::uint64_t& limit) noexcept;
  void put_in_window(std::uint32_t slot, head& h, next_entry& next, std::uint64_t& limit) noexcept;
  void put_visible(std::uint32_t slot, head& h, own_entries& own, std::uint32_t stop) noexcept;
  void advance(std::uint32_t slot, const run* runs, std::uint32_t count, std::uint64_t n,
               bool with_heads) noexcept;
  void count_value(std::uint32_t index, bool came, std::int64_t at) noexcept;
  void count_old(const subscription& sub, const lane_item& item) noexcept;
  void lane_item_sent(session& s, const lane_item& item) noexcept;
  void note_write(session& s, std::uint64_t n) noexcept;
  void advance_heads(session& s) noexcept;
  void advance_cursor(session& s, const run& r, std::uint32_t n) noexcept;
  void delivered(session& s, std::uint32_t index, const log_place& from, std::uint32_t count,
                 bool application) noexcept;
  void look_at_each(std::uint32_t index, log_place p, std::uint32_t whole) noexcept;
  void block(std::uint32_t slot, session& s, bool waiting) noexcept;
  [[nodiscard]] bool say_farewell(std::uint32_t slot, session& s) noexcept;

  // deadlines.hpp
  [[nodiscard]] blob* make_heartbeat(channel_state& c) noexcept;
  void publish_heartbeat(channel_state& c) noexcept;
  void keep_countable(session& s, std::int64_t passed) noexcept;
  void jump_to_target() noexcept;
  [[nodiscard]] std::int64_t next_beat(std::int64_t every) const noexcept;
  void on_session_timer(std::uint32_t slot) noexcept;
  void look_at_soft_lag(std::uint32_t slot) noexcept;
  void beat(std::uint32_t slot, channel_state& heart) noexcept;
  void on_channel_timer(channel_state& c) noexcept;
  [[nodiscard]] std::uint32_t now32() const noexcept { return static_cast<std::uint32_t>(now_); }
  [[nodiscard]] static std::int64_t since(std::uint32_t then, std::uint32_t now) noexcept {
    return static_cast<std::int32_t>(now - then);  // below 0: `then` is to come
  }

  // admit.hpp
  [[nodiscard]] bool nothing_comes(const joining& j, const resume_point& resume) const noexcept;
  [[nodiscard]] bool nothing_comes(const channel_state& c, const joining& j,
                                   const resume_point& resume, watch_request watch) const noexcept;
  [[nodiscard]] refusal_reason bad_join(const joining& j) noexcept;
  [[nodiscard]] join_error bad_join(std::uint32_t slot, channel c,
                                    const watch_options* watch) const noexcept;
  [[nodiscard]] bool moved_on(std::uint32_t slot, const channel_state& c, const joining& j,
                              const resume_point& resume, watch_request watch) noexcept;
  [[nodiscard]] bool begin_at_join(std::uint32_t index, const joining& j,
                                   const resume_point& resume, watch_request watch) noexcept;
  [[nodiscard]] bool stands_nowhere(const session& s, std::uint32_t but) const noexcept;
  [[nodiscard]] refusal_reason bad_channel(const joining& j, std::uint32_t i) const noexcept;
  void evict(const victims& v) noexcept;
  void set_end(session& s, const joining& j) noexcept;
  [[nodiscard]] bool push_opening(std::uint32_t slot, const request& r) noexcept;

  /// A stream's place in streams_.
  struct listed_stream {
    stream* here = nullptr;
    std::uint32_t link = none;
    [[nodiscard]] std::uint32_t& free_link() noexcept { return link; }
  };

  host_calls host_;
  hub_options options_;
  owned_text opening_;
  owned_text resume_query_;
  blob* opening_frame_ = nullptr;
  blob* farewell_ = nullptr;

  // Who is there.
  slot_pool<session> sessions_;
  slot_pool<subscription> subs_;
  caps caps_;
  lanes lanes_;
  chunks chunks_;
  slot_pool<skip, 16> skips_;
  slot_pool<passing, 16> passes_;
  slot_pool<selection, 16> selections_;
  name_table<no_user> presence_;  ///< by user and channel: how many sessions
  std::uint32_t generations_ = 0;
  queue live_;                 ///< sessions to be served in the next flush
  queue ready_;                ///< those that catch up, in turn, within the flush's budget
  std::uint32_t dead_ = none;  ///< sessions to be closed when the outermost call ends, in order
  std::uint32_t dead_last_ = none;

  // What is told.
  segment_pool pool_;
  vec<channel_state*> channels_;
  slot_pool<channel_cell> cells_;
  std::uint64_t channel_numbers_ = 0;  ///< given out
  name_table<channel_state*> names_;
  slot_pool<listed_stream> streams_;
  stream* touched_ = nullptr;
  struct untold {
    channel_state* where;
    loss what;
  };
  vec<untold> untold_;             ///< losses that the session at hand is told next
  vec<session_counts> counts_;     ///< by subscription; empty: hub_options::session_stats is off
  vec<std::uint32_t> fresh_keys_;  ///< that nobody chose before
  vec<channel_state*> closing_;    ///< to be freed when the outermost call ends
  name_table<channel_stats, 8> closed_groups_;  ///< by channel_options::metrics_name
  name_table<closed_channel, 16> closed_;
  std::uint32_t closed_oldest_ = none;
  std::uint32_t closed_newest_ = none;
  event_id closed_floor_ = no_id;  ///< of those that are not remembered any more
  event_id own_closed_floor_ = no_id;
  sequence sequence_;
  std::uint64_t stamp_ = 0;
  id_text last_id_;            ///< of the event that was published last, whatever its sequence
  std::uint64_t backlog_ = 0;  ///< sum of stream::backlog
  indexed_heap<std::uint64_t, backlog_order> backlogs_{backlog_order{this}};

  // What is on its way.
  batch batch_;  ///< of the pump under way
  vec<head> heads_;
  vec<next_entry> next_;  ///< of each head
  merge_window window_;
  vec<strand> strands_;  ///< of the session that catches up: a heap by strand::next
  vec<staged_event> staged_;
  struct piece {
    std::string_view text;
    event_id id;  ///< its `id:` is written anew; no_id: all is in `text`
  };
  vec<piece> pieces_;
  slot_pool<flight, 16> flights_;
  std::uint32_t roomy_flights_ = 0;  ///< free ones that kept room for their runs
  std::uint64_t accept_budget_ = 0;  ///< bytes that streams that open may still get in this turn
  std::uint32_t asks_left_ = 0;      ///< hidden entries that may still be looked at in this gather

  // Time.
  std::int64_t origin_ = INT64_MIN;  ///< the host's clock at the first tick
  std::int64_t now_ = 0;             ///< ms since then; what was due by then has acted
  std::int64_t present_ = 0;         ///< as told last: what is published or begins is of this time
  std::int64_t target_ = 0;          ///< where the tick under way will end
  std::int64_t drain_deadline_ = INT64_MAX;
  timer_places places_{this};
  timer_heap<timer_places> timers_{places_};
  random_numbers random_;

  std::uint32_t depth_ = 0;  ///< of `work`
  bool reaping_ = false;
  bool flushing_ = false;
  bool quiet_ = false;
  bool wanted_ = false;         ///< the host was told since the last flush
  bool close_all_due_ = false;  ///< when the outermost call ends
  bool draining_ = false;
  bool ask_who_sees_ = false;
  hub_stats stats_;
};

inline std::uint32_t& timer_places::place(std::uint32_t id) const noexcept {
  if ((id & channel_bit) != 0) return e->channels_[id & ~channel_bit]->timer_;
  return e->sessions_[id].timer;
}

inline std::uint32_t& backlog_order::place(std::uint32_t id) const noexcept {
  return e->streams_[id].here->by_backlog;
}

inline engine::engine(const host_calls& host, const hub_options& options) noexcept
    : host_{host},
      options_{options},
      caps_{options.caps, options.counter, options.seed},
      presence_{options.seed},
      names_{options.seed},
      closed_{options.seed},
      random_{options.seed} {
  if (host_.max_buffers > batch::most_buffers) host_.max_buffers = batch::most_buffers;
  if (host_.max_buffers < 1) host_.max_buffers = 1;
  // Out of memory at construction only costs the texts: streams open without their comment.
  (void)opening_.assign(options.opening);
  (void)resume_query_.assign(options.resume_query);
  options_.opening = opening_.view();
  if (!options_.opening.empty() && check_comment(options_.opening) == encode_error::none) {
    opening_frame_ = make_blob(static_cast<std::uint32_t>(encoded_comment_size(options_.opening)));
    if (opening_frame_ != nullptr) encode_comment_to(opening_frame_->bytes(), options_.opening);
  }
  options_.resume_query = resume_query_.view();
  options_.write_deadline = countable(options.write_deadline);
  options_.idle = countable(options.idle);
  options_.max_age = countable(options.max_age, longest_age);
  if (options_.flush_share == 0) options_.flush_share = 1;
  if (options_.flush_budget == 0) options_.flush_budget = UINT64_MAX;
  if (options_.control_lane == 0) options_.control_lane = 1;
  accept_budget_ = options_.flush_budget;
  options_.first_id = said_or(options.first_id, no_id);
  sequence_.start = sequence_.last = options_.first_id;
}

inline hub_stats engine::stats() const noexcept {
  hub_stats s = stats_;
  s.sessions = caps_.total();
  s.log_bytes = pool_.held();
  return s;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_ENGINE_HPP
