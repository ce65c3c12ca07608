// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// The hub's engine: what is behind hub<Transport, User> and depends on neither. Its parts:
//
//   engine.hpp           what it is made of: sessions, subscriptions, control lanes
//   engine_channels.hpp  channels: opened, found, closed
//   engine_sessions.hpp  sessions: control lanes, cursors, slots in and out
//   engine_publish.hpp   publish, unicast, heartbeats: bytes in
//   engine_admit.hpp     accept: caps, where to begin, gap frames
//   engine_flush.hpp     gather, write, advance: bytes out
//   engine_time.hpp      deadlines, lag, drain
//
// Invariants:
//   1. A cursor pins its segment; each piece of a pending write does too, also past its session.
//   2. Ids rise strictly along a session, across its channels: entries leave in order of stamps.
//   3. Control bytes enter between events only: first `rest` of a half-sent event, then the lane,
//      then the logs.
//   4. No engine call runs inside write or close of the host: the dead are reaped after the walk.
//   5. Memory: sum over channels of max(keep, max_lag), plus a small constant for each session.
//   6. An accepted event is delivered, or a gap frame says that it is lost, or the stream closes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <string_view>

#include <sse/admission.hpp>
#include <sse/channel.hpp>
#include <sse/detail/memory.hpp>
#include <sse/detail/names.hpp>
#include <sse/detail/timer_queue.hpp>
#include <sse/encode.hpp>
#include <sse/event.hpp>
#include <sse/log.hpp>
#include <sse/request.hpp>
#include <sse/session.hpp>
#include <sse/stats.hpp>
#include <sse/transport.hpp>

namespace sse::inline v0::detail {

/// The typed half of the hub as the engine sees it.
struct host_calls {
  void* self = nullptr;
  write_result (*write)(void*, std::uint32_t slot, std::span<const buffer>) noexcept = nullptr;
  /// Destroys connection and user.
  void (*close)(void*, std::uint32_t slot, close_reason, bool announce) noexcept = nullptr;
  bool (*sees)(void*, std::uint32_t slot, std::string_view key,
               std::string_view audience) noexcept = nullptr;
  void (*flush_begins)(void*) noexcept = nullptr;
  void (*flush_ends)(void*) noexcept = nullptr;
  std::uint32_t max_buffers = 16;
  bool completes = false;
};

enum class lane_kind : std::uint8_t {
  control,
  head,   ///< the response head: outside the body, never framed as a chunk
  event,  ///< an application event
};

/// One waiting control frame of a session.
struct lane_item {
  blob* bytes = nullptr;
  std::uint64_t waiting = 0;  ///< of the first: bytes of all
  std::uint32_t sent = 0;
  std::uint32_t next = none;
  std::uint32_t last = none;  ///< of the first: the last
  lane_kind kind = lane_kind::control;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

/// A subscription: a session's cursor in one stream.
struct subscription {
  segment* seg = nullptr;  ///< pinned; nullptr: backfilling
  /// End of its replay; with `backfilling`: where it is; with `skipping`: the skip.
  std::uint64_t live_from = 0;
  std::uint32_t off = 0;   ///< next byte in seg
  std::uint32_t rest = 0;  ///< bytes left of the event that is half sent
  std::uint32_t session = none;
  std::uint32_t next = none;  ///< the session's next subscription
  std::uint32_t place = 0;    ///< in stream::readers
  std::uint32_t stream_index : 28 = 0;
  /// Too far behind: leaves for live_from's skip once `rest` is sent.
  std::uint32_t skipping : 1 = 0;
  /// Filled by the backfill hook, live_from: the last id it got; or with `coalescing`.
  std::uint32_t backfilling : 1 = 0;
  /// Filled from the channel's newest values, live_from: the last one's position.
  std::uint32_t coalescing : 1 = 0;
  /// Coalescing for the first time: what has no key is not missed.
  std::uint32_t snapshot : 1 = 0;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

/// What a reader that is skipped forward missed.
struct skip {
  event_id requested = no_id;
  std::uint64_t ordinal = 0;  ///< of the first entry it did not get
  std::uint64_t stamp = 0;    ///< its stamp
  std::uint32_t next = none;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

/// What a gap frame says.
struct loss {
  event_id requested = no_id;
  event_id first = no_id;
  std::uint64_t lost = 0;
  bool known = false;
};

enum class session_state : std::uint8_t {
  free,
  live,
  finishing,  ///< sends what is pending, then closes
  dead,       ///< counted out; closed and freed after the walk
  zombie,     ///< closed; its slot waits for a pending write
};

struct session {
  std::uint32_t generation = 0;
  session_state state : 3 = session_state::free;
  close_reason why : 4 = close_reason::peer;
  std::uint8_t chunk_head : 4 = 0;  ///< bytes of the chunk's size line that are out already
  bool queued : 1 = false;          ///< in ready_ (of the slot: outlives the session)
  bool blocked : 1 = false;         ///< the host will call writable() or written()
  bool chunked : 1 = false;
  bool chunk_begun : 1 = false;  ///< a chunk was sent before: its line end is due
  bool chunk_open : 1 = false;   ///< its size line is out, chunk_left bytes are owed
  bool ended : 1 = false;        ///< the last chunk is due
  bool said_farewell : 1 = false;
  bool counted : 1 = false;      ///< in the caps
  bool retry_only : 1 = false;   ///< a retry stream: the host's hooks do not see it
  bool over : 1 = false;         ///< over soft_lag, since over_since
  std::uint32_t chunk_left = 0;  ///< bytes owed to the chunk that was announced
  std::uint32_t first = none;    ///< subscriptions
  std::uint32_t lane = none;     ///< lane items
  std::uint32_t pending = none;  ///< batches_, a write in flight
  std::uint32_t user = none;
  std::uint32_t user_next = none;
  std::uint32_t user_prev = none;
  std::uint32_t address = none;
  std::uint32_t timer = none;
  std::uint32_t queue_next = none;  ///< in ready_ (of the slot, as queued)
  // Times in ms, modulo 2^32.
  std::uint32_t last_event = 0;      ///< application event delivered
  std::uint32_t last_write = 0;      ///< anything delivered
  std::uint32_t progress = 0;        ///< blocked since, or last bytes taken since
  std::uint32_t over_since = 0;      ///< see over
  std::int64_t ends_at = INT64_MAX;  ///< max_age or the verdict's until

  [[nodiscard]] std::uint32_t& free_link() noexcept { return lane; }
  [[nodiscard]] std::uint32_t& dead_next() noexcept { return progress; }
};

/// An option's time as the engine can count it. Forever is off. What is held against a session's
/// 32-bit times ends at 24 days.
[[nodiscard]] constexpr duration countable(duration d,
                                           duration most = duration::seconds(24 * 24 *
                                                                             3600)) noexcept {
  if (d == duration::forever()) return duration::off();
  return d < most ? d : most;
}
inline constexpr duration longest_age = duration::milliseconds(std::int64_t{1} << 50);

inline constexpr std::uint32_t max_pieces = 16;

/// What is to be written to one session next, and where it came from.
struct batch {
  enum : std::uint32_t { from_lane = none, from_frame = none - 1 };
  struct piece {
    segment* seg;        ///< pinned while pending
    std::uint32_t from;  ///< subscription, from_lane or from_frame
    std::uint32_t off;
    std::uint32_t size;
  };
  buffer bytes[max_pieces];
  piece pieces[max_pieces];
  std::uint32_t count = 0;
  std::uint32_t room = 0;   ///< pieces that may be there
  std::uint64_t limit = 0;  ///< begin no further piece at this total
  std::uint64_t total = 0;  ///< bytes of all pieces
  bool all = false;         ///< nothing is left for the session once these are out
  char frame[24];           ///< chunk size line, or the last chunk

  [[nodiscard]] std::uint32_t& free_link() noexcept { return count; }
  [[nodiscard]] bool full() const noexcept { return count >= room || total >= limit; }
  void add(segment* seg, std::uint32_t from, std::uint32_t off, const char* data,
           std::uint32_t size) noexcept {
    bytes[count] = {data, size};
    pieces[count] = {seg, from, off, size};
    ++count;
    total += size;
  }
};

/// Where each id's place in the timer queue stands: sessions by slot, channels with the top bit
/// set.
struct timer_places {
  static constexpr std::uint32_t channel_bit = 0x80000000U;
  engine* e;
  [[nodiscard]] std::uint32_t& place(std::uint32_t id) const noexcept;
};

class engine {
 public:
  engine(const host_calls& host, const hub_options& options) noexcept;
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  ~engine();

  // Channels.
  [[nodiscard]] channel* open_channel(std::string_view name, channel_options&& o) noexcept;
  [[nodiscard]] channel* find_channel(std::string_view name) const noexcept;
  void close_channel(channel& c) noexcept;
  [[nodiscard]] const vec<channel*>& channels() const noexcept { return channels_; }

  // Bytes in.
  [[nodiscard]] publish_result publish(channel& c, const event& e,
                                       const publish_options& o) noexcept;
  [[nodiscard]] publish_error send(session_id id, const event& e) noexcept;
  std::size_t send_user(std::string_view key, const event& e) noexcept;

  // Sessions.
  /// Draining, and a total cap that evicts nobody, before anybody is asked. False: `out` says why.
  [[nodiscard]] bool precheck(accept_result& out);
  /// Takes a slot; the caller places connection and user in it, then calls join() and open(). none:
  /// `out` says why not.
  [[nodiscard]] std::uint32_t admit(const request& r, const joining& j, resume_point& resume,
                                    accept_result& out);
  void join(std::uint32_t slot, const joining& j, const resume_point& resume) noexcept;
  [[nodiscard]] std::uint32_t admit_retry_stream(const request& r, duration retry) noexcept;
  void open(std::uint32_t slot) noexcept;
  [[nodiscard]] session_id id_of(std::uint32_t slot) const noexcept {
    return {slot, sessions_[slot].generation};
  }
  /// nullptr: no such session, or it is closed and only its slot waits for a pending write.
  [[nodiscard]] session* find(session_id id) noexcept;
  [[nodiscard]] bool alive(session_id id) noexcept {
    const session* s = find(id);
    return s != nullptr && serving(*s);
  }
  [[nodiscard]] std::string_view key_of(std::uint32_t slot) noexcept {
    const std::uint32_t user = sessions_[slot].user;
    return user == none ? std::string_view{} : users_[user].key.view();
  }
  [[nodiscard]] std::uint32_t user_sessions(std::string_view key) noexcept {
    const std::uint32_t i = users_.find(key);
    return i == none ? 0 : users_[i].count;
  }
  [[nodiscard]] std::uint32_t session_count() const noexcept { return counted_; }
  [[nodiscard]] std::uint32_t open_slots() const noexcept { return sessions_.in_use(); }

  // What the host reports.
  void writable(session_id id) noexcept;
  void written(session_id id, std::size_t n) noexcept;
  void closed(session_id id) noexcept { close(id, close_reason::peer); }
  [[nodiscard]] std::size_t peek(session_id id, std::span<buffer> out) noexcept;

  // Ends.
  void close(session_id id, close_reason why) noexcept;
  void close_all() noexcept;
  void finish(session_id id) noexcept;
  std::size_t revoke(std::string_view key) noexcept;
  void drain(const drain_options& o) noexcept;
  [[nodiscard]] bool draining() const noexcept { return draining_; }

  // Bytes out, and time.
  bool flush() noexcept;
  void tick(time_point host_now) noexcept;
  [[nodiscard]] time_point next_deadline() const noexcept;
  [[nodiscard]] std::uint64_t worst_lag(const channel& c) const noexcept;

  [[nodiscard]] hub_stats stats() const noexcept;
  void count_refusal() noexcept { ++stats_.refused; }
  /// Undoes admit(): the typed half could not be made.
  void abandon(std::uint32_t slot) noexcept;
  void shut_down() noexcept;
  [[nodiscard]] const hub_options& options() const noexcept { return options_; }

  // Hooks of the non-typed kind.
  function<void(const gap_notice&)> on_gap;
  function<void(channel&, std::string_view key, bool present)> on_presence;

 private:
  friend struct timer_places;
  friend class sse::backfill_writer;

  // engine_channels.hpp
  [[nodiscard]] stream* make_stream(channel& c, const retention& keep) noexcept;
  void free_channel(channel* c) noexcept;

  // engine_sessions.hpp
  [[nodiscard]] bool push_lane(std::uint32_t slot, blob* b,
                               lane_kind kind = lane_kind::control) noexcept;
  [[nodiscard]] bool push_lane_bytes(std::uint32_t slot, std::string_view bytes,
                                     lane_kind kind = lane_kind::control) noexcept;
  [[nodiscard]] bool push_lane_event(std::uint32_t slot, const event& e,
                                     lane_kind kind = lane_kind::event) noexcept;
  void pop_lane(session& s) noexcept;
  [[nodiscard]] std::uint64_t lane_bytes(const session& s) const noexcept;
  void queue(std::uint32_t slot) noexcept {
    session& s = sessions_[slot];
    if (s.queued || s.blocked) return;
    s.queued = true;
    s.queue_next = none;
    (ready_last_ == none ? ready_ : sessions_[ready_last_].queue_next) = slot;
    ready_last_ = slot;
  }
  void touch(stream& st) noexcept {
    if (st.touched) return;
    st.touched = true;
    st.next_touched = touched_;
    touched_ = &st;
  }
  [[nodiscard]] bool serving(const session& s) const noexcept {
    return s.state == session_state::live || s.state == session_state::finishing;
  }
  [[nodiscard]] stream& stream_of(const subscription& sub) noexcept {
    return *streams_[sub.stream_index];
  }
  [[nodiscard]] const stream& stream_of(const subscription& sub) const noexcept {
    return *streams_[sub.stream_index];
  }
  [[nodiscard]] static std::uint64_t position(const subscription& sub) noexcept {
    return sub.seg->base + sub.off;
  }
  void move_cursor(subscription& sub, segment* seg, std::uint32_t off) noexcept;
  void release_cursor(subscription& sub) noexcept;
  void place_at(subscription& sub, std::uint64_t ordinal) noexcept;
  [[nodiscard]] bool has_pending(const session& s) const noexcept;
  [[nodiscard]] session* holder(session_id id) noexcept;
  [[nodiscard]] std::uint32_t take_slot(const request& r) noexcept;
  void count_out(std::uint32_t slot) noexcept;
  void leave_user(std::uint32_t slot) noexcept;
  void mark_dead(std::uint32_t slot, close_reason why) noexcept;
  void reap() noexcept;
  void bury(std::uint32_t slot) noexcept;
  void detach_subscriptions(std::uint32_t slot) noexcept;
  [[nodiscard]] std::uint32_t joined(std::uint32_t user, const stream& st) noexcept;

  // engine_publish.hpp
  [[nodiscard]] publish_error append(stream& st, const event& e, entry meta,
                                     const publish_options& o,
                                     const encode_limits& limits) noexcept;
  [[nodiscard]] stream* ephemeral(channel& c) noexcept;
  [[nodiscard]] bool add_reader(std::uint32_t slot, stream& st) noexcept;
  [[nodiscard]] blob* make_heartbeat(channel& c) noexcept;
  void publish_heartbeat(channel& c) noexcept;

  // engine_admit.hpp
  struct victims {
    std::uint32_t slots[3] = {};
    duration retry[3] = {};
    std::uint32_t count = 0;
  };
  [[nodiscard]] std::uint32_t oldest(std::uint32_t user, std::uint32_t address) noexcept;
  void evict(std::uint32_t slot, duration retry) noexcept;
  [[nodiscard]] std::uint32_t held(cap_counter::kind k, std::string_view key, const cap& c,
                                   std::uint32_t here) noexcept {
    return options_.counter != nullptr && c.max != 0 ? options_.counter->count(k, key) : here;
  }
  [[nodiscard]] std::uint32_t leaving(const victims& v, std::uint32_t user,
                                      std::uint32_t address) const noexcept;
  static void say_full(const cap& c, accept_result& out);
  [[nodiscard]] bool take_places(std::uint32_t user, std::uint32_t address, const victims& v,
                                 accept_result& out);
  void give_back(std::uint32_t user, std::uint32_t address, std::uint32_t kinds = 7) noexcept;
  [[nodiscard]] bool fits(const cap& c, std::uint32_t count, std::uint32_t user,
                          std::uint32_t address, victims& v, accept_result& out);
  [[nodiscard]] bool subscribe(std::uint32_t slot, const joining& j,
                               const resume_point& resume) noexcept;
  [[nodiscard]] bool push_gap(std::uint32_t slot, const channel& where, const loss& what,
                              bool with_ids) noexcept;
  [[nodiscard]] static event_id first_possible(const stream& st) noexcept;
  [[nodiscard]] static std::uint64_t skip_target(const stream& st) noexcept;
  [[nodiscard]] event_id next_id(std::uint32_t slot) noexcept;

  // engine_flush.hpp
  void pump(std::uint32_t slot) noexcept;
  void gather(std::uint32_t slot, session& s, batch& b) noexcept;
  [[nodiscard]] bool gather_one(std::uint32_t slot, std::uint32_t index, std::uint32_t off,
                                batch& b) noexcept;
  void gather_merged(std::uint32_t slot, const session& s, batch& b) noexcept;
  void gather_entry(std::uint32_t index, const entry& e, batch& b) noexcept;
  void frame_chunk(session& s, batch& b) noexcept;
  void end_chunks(session& s, batch& b) noexcept;
  void advance(session& s, const batch& b, std::uint64_t n) noexcept;
  void advance_cursor(session& s, const batch::piece& p, std::uint32_t n) noexcept;
  void leave_for_skip(std::uint32_t slot, subscription& sub) noexcept;
  void fill(std::uint32_t slot, subscription& sub) noexcept;
  void ask_backfill(std::uint32_t slot, subscription& sub) noexcept;
  void coalesce(std::uint32_t slot, subscription& sub) noexcept;
  [[nodiscard]] bool alone(const session& s) const noexcept;
  void go_live(subscription& sub, std::uint64_t ordinal) noexcept;
  void block(std::uint32_t slot, session& s, bool progressed) noexcept;
  [[nodiscard]] bool say_farewell(std::uint32_t slot, session& s) noexcept;
  void pin_pending(const batch& b) noexcept;
  void unpin_pending(const batch& b) noexcept;
  [[nodiscard]] bool sees(std::uint32_t slot, const entry& e) noexcept {
    return e.audience == 0 || host_.sees(host_.self, slot, key_of(slot), e.audience_view());
  }

  // engine_time.hpp
  [[nodiscard]] std::int64_t next_beat(std::int64_t every) const noexcept;
  void on_session_timer(std::uint32_t slot) noexcept;
  void on_channel_timer(channel& c) noexcept;
  void arm(std::uint32_t slot) noexcept;
  void arm_channel(channel& c) noexcept;
  [[nodiscard]] const channel* heart_of(const session& s) const noexcept;
  void begin_finish(std::uint32_t slot, close_reason why) noexcept;
  [[nodiscard]] std::uint64_t lag_of(const stream& st, const subscription& sub) const noexcept;
  void watch_lag(stream& st, std::uint64_t from, bool over_soft = false) noexcept;
  [[nodiscard]] bool still_over(const session& s) noexcept;
  void enforce_lag(stream& st) noexcept;
  void over_lag(std::uint32_t index) noexcept;
  void shed_backlog() noexcept;
  void settle() noexcept;
  [[nodiscard]] std::uint64_t random() noexcept;
  [[nodiscard]] std::int64_t jittered_retry() noexcept;
  [[nodiscard]] std::uint32_t now32() const noexcept { return static_cast<std::uint32_t>(now_); }
  [[nodiscard]] static std::int64_t since(std::uint32_t then, std::uint32_t now) noexcept {
    return static_cast<std::int32_t>(now - then);  // below 0: `then` is to come
  }

  host_calls host_;
  hub_options options_;
  owned_text opening_;
  owned_text resume_query_;
  blob* opening_frame_ = nullptr;
  blob* farewell_ = nullptr;

  segment_pool pool_;
  sequence sequence_;
  std::uint64_t stamp_ = 0;
  std::int64_t origin_ = INT64_MIN;  // the host's clock at the first tick
  std::int64_t now_ = 0;             // ms since then
  std::int64_t target_ = 0;          // where the tick under way will end
  std::uint64_t random_ = 0;

  vec<channel*> channels_;
  vec<stream*> streams_;
  stream* touched_ = nullptr;
  std::uint64_t backlog_ = 0;  // sum of stream::backlog

  slots<session> sessions_;
  slots<subscription> subs_;
  slots<lane_item> lane_items_;
  slots<batch> batches_;  // of writes that are pending, and of peeks
  batch scratch_;         // of the pump under way
  slots<skip> skips_;
  names users_;
  names addresses_;
  std::uint32_t ready_ = none;  // sessions that may have bytes and can take them, in turn
  std::uint32_t ready_last_ = none;
  std::uint32_t dead_ = none;  // sessions to be closed after the walk
  timer_places places_{this};
  timer_queue<timer_places> timers_{places_};

  std::uint32_t counted_ = 0;
  std::uint32_t generations_ = 0;
  bool walking_ = false;
  bool draining_ = false;
  std::int64_t drain_deadline_ = INT64_MAX;
  hub_stats stats_;
};

inline std::uint32_t& timer_places::place(std::uint32_t id) const noexcept {
  if ((id & channel_bit) != 0) return e->channels_[id & ~channel_bit]->timer_;
  return e->sessions_[id].timer;
}

inline engine::engine(const host_calls& host, const hub_options& options) noexcept
    : host_{host}, options_{options}, random_{options.seed | 1} {
  if (host_.max_buffers > max_pieces) host_.max_buffers = max_pieces;
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
  if (options_.control_lane == 0) options_.control_lane = 1;
  sequence_.start = sequence_.last = options.first_id;
  users_.set_seed(options.seed);
  addresses_.set_seed(options.seed);
}

inline engine::~engine() { shut_down(); }

inline void engine::close_all() noexcept {
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot) {
    if (serving(sessions_[slot])) mark_dead(slot, close_reason::host);
  }
  reap();
}

/// Closes everything. The hub calls it first, while its own half still stands.
inline void engine::shut_down() noexcept {
  on_gap = {};
  on_presence = {};
  close_all();
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot) {
    // nobody can report on it any more
    if (sessions_[slot].state == session_state::zombie) bury(slot);
  }
  while (!channels_.empty()) free_channel(channels_.back());
  for (blob** b : {&opening_frame_, &farewell_}) {
    if (*b != nullptr) unref(*b);
    *b = nullptr;
  }
}

}  // namespace sse::inline v0::detail
