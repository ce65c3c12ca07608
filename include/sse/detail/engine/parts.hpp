// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What the engine is made of: a session, its subscriptions, and what a reader that fell behind or
// came late is told.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_PARTS_HPP
#define SSEHUB_DETAIL_ENGINE_PARTS_HPP

#include <cstdint>

#include <sse/detail/base/containers.hpp>
#include <sse/detail/log/event_log.hpp>
#include <sse/detail/log/key_watchers.hpp>
#include <sse/event.hpp>
#include <sse/transport.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Where a subscription's next bytes come from.
enum class source : std::uint8_t {
  log,       ///< its cursor in the log
  skip,      ///< too far behind: leaves the log once its half-sent event is out (lag.hpp)
  backfill,  ///< the channel's backfill hook (catch_up.hpp)
  newest,    ///< passes over the newest value of each key (passes.hpp)
  selected,  ///< the newest values of the keys that it chose (selection.hpp)
  left,      ///< its session leaves the channel: nothing, but for the rest of one event (ends.hpp)
};

/// A session's reading of one stream. Its cursor is a place in the log, in front of the entry that
/// comes next; of that one `rest` bytes are left, if it is half sent.
struct subscription {
  segment* seg = nullptr;  ///< pinned; nullptr: it has no place in the log
  union {
    std::uint64_t live_from = 0;  ///< source::log: end of its replay, as an offset of the log
    event_id filled_to;           ///< source::backfill: the last id that it got
    std::uint32_t record;  ///< of source::skip, newest, selected: in engine::skips_, passes_,
                           ///< selections_
  };
  std::uint32_t k = 0;  ///< index in seg
  std::uint32_t rest = 0;
  std::uint32_t session = none;
  std::uint32_t next = none;  ///< the session's next subscription
  std::uint32_t place = 0;    ///< in stream::readers
  static constexpr std::uint32_t max_streams = 1U << 28;
  std::uint32_t stream_index : 28 = 0;
  std::uint32_t source_bits : 3 = 0;
  /// Its session has a subscription to the channel's transient entries too.
  std::uint32_t with_transients : 1 = 0;

  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
  [[nodiscard]] source from() const noexcept { return static_cast<source>(source_bits); }
  void read_from(source s) noexcept { source_bits = static_cast<std::uint32_t>(s) & 7U; }
  void read_stream(std::uint32_t i) noexcept {
    SSEHUB_ASSERT(i < max_streams);
    stream_index = i & (max_streams - 1);
  }
  [[nodiscard]] log_place at() const noexcept { return {seg, k}; }
  /// Offset in the log of the next byte. REQUIRES: it has a place there.
  [[nodiscard]] std::uint64_t offset() const noexcept {
    SSEHUB_ASSERT(seg != nullptr);
    if (rest != 0) return seg->base + (*seg)[k].end() - rest;
    return at().offset();
  }
};
static_assert(sizeof(subscription) <= 40, "one for each session and channel");
static_assert(static_cast<unsigned>(source::left) < 8, "source_bits has three");

/// What a reader that is skipped forward missed.
struct skip {
  event_id requested = no_id;
  std::uint64_t ordinal = 0;  ///< of the first entry it did not get
  event_id first = no_id;     ///< its id
  std::uint64_t stamp = 0;    ///< its stamp
  std::uint32_t next = none;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

/// How new the values were that a pass saw in the slots below `end`, down to those of the entry
/// before it.
struct seen_slots {
  std::uint32_t end;
  std::uint64_t head;  ///< the channel's newest position then
};

/// A value that a pass need not give: it went ahead of it, in front of a barrier.
struct ahead_value {
  std::uint64_t position;
  std::uint32_t slot;
};

/// How often a reader of values may get some, and how many.
struct pace {
  std::uint32_t every = 0;             ///< ms from one look at them to the next; 0: at once
  std::uint32_t bytes_per_second = 0;  ///< 0: any
};

/// A reader of values: what it has beside them, and when it may get more of them.
struct value_reader {
  std::uint64_t keyless = 0;    ///< it has all events without a key up to here
  std::uint64_t told = 0;       ///< losses up to here are told, or were before it came
  std::uint64_t entered = 0;    ///< the head when it came here,
  std::uint64_t sent = 0;       ///< and what it got of what came behind that
  std::int64_t next_look = 0;   ///< by its period it gets no values before that,
  std::int64_t paid_until = 0;  ///< nor by its bytes before that
  pace at_most{};
  /// What it took, by weight: who took least of a session's is the next.
  std::uint64_t turn = 0;
  std::uint32_t debt = 0;  ///< of `paid_until`: bytes times 1000 that are less than a millisecond's
  std::uint32_t room = 0;  ///< bytes of values that it takes at a time
  std::uint16_t cost = 1;  ///< of a byte, in `turn`
  bool cut = false;        ///< the last write did not take all
  bool waited = false;     ///< a period of its pace

  [[nodiscard]] std::int64_t due() const noexcept {
    return next_look > paid_until ? next_look : paid_until;
  }
};

/// One that gets the newest value of each key, pass by pass, and the events without a key.
struct passing : value_reader {
  std::uint64_t since = 0;    ///< it has all values up to here, or newer ones of their keys
  std::uint64_t began = 0;    ///< the head when the pass under way began
  std::uint64_t counted = 0;  ///< the log's end when it came here from the log
  vec<seen_slots> before{};   ///< by the pass before this one
  vec<seen_slots> now{};      ///< by this one
  vec<ahead_value> ahead{};   ///< by slot
  std::uint32_t place = 0;    ///< the slot that this pass looks at next
  std::uint32_t at = 0;       ///< in `before`
  bool open = false;          ///< a pass is under way,
  bool ending = false;        ///< and saw all slots
  bool gave = false;          ///< and had values for it
  bool stays = false;         ///< it is never live: it watches (watch_options)
  bool opens = false;         ///< a snapshot of one that is new: it is told where it stands then
  bool fresh = false;         ///< it has no values yet: erased keys are nothing to it
  std::uint32_t next = none;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }

  /// Writes of one pass that are told apart. Of more, two are put together: a value that came in
  /// the second of them may come twice then.
  static constexpr std::uint32_t most_seen = 4096;
  /// Slots up to `end` were seen when the channel stood at `head`.
  void see(std::uint32_t end, std::uint64_t head) noexcept {
    if (!now.empty() && now.back().head == head) {
      now.back().end = end;
      return;
    }
    if (now.size() == most_seen) {  // the older of two says less
      for (std::uint32_t i = 0; i < most_seen / 2; ++i)
        now[i] = {now[2 * i + 1].end, now[2 * i].head};
      while (now.size() > most_seen / 2) now.pop_back();
    }
    // Without memory the same: who saw nothing before begins behind `since`.
    if (!now.push_back({end, head}) && !now.empty()) now.back().end = end;
  }
  /// It has the values of a slot up to this position.
  [[nodiscard]] std::uint64_t has(std::uint32_t slot) const noexcept {
    const std::uint64_t seen = seen_of(slot);
    const std::uint32_t i = ahead_from(slot);
    const bool went = i != ahead.size() && ahead[i].slot == slot;
    return went && ahead[i].position > seen ? ahead[i].position : seen;
  }
  /// It gets a value now. False: memory is out.
  [[nodiscard]] bool get_ahead(std::uint32_t slot, std::uint64_t position) noexcept {
    const std::uint32_t i = ahead_from(slot);
    if (i != ahead.size() && ahead[i].slot == slot) {
      ahead[i].position = position;
      return true;
    }
    if (!ahead.push_back({})) return false;
    for (std::uint32_t k = ahead.size() - 1; k != i; --k) ahead[k] = ahead[k - 1];
    ahead[i] = {position, slot};
    return true;
  }
  /// A pass is over: what it saw itself need not be told apart.
  void forget_ahead() noexcept {
    std::uint32_t kept = 0;
    for (const ahead_value& a : ahead) {
      if (a.position > seen_of(a.slot)) ahead[kept++] = a;
    }
    while (ahead.size() != kept) ahead.pop_back();
  }
  /// Slots from `slot` on were not seen after all.
  void unsee(std::uint32_t slot) noexcept {
    place = slot;
    at = 0;
    ending = false;
    while (!now.empty() && now.back().end > slot) {
      if (now.size() == 1 || now[now.size() - 2].end < slot) {
        now.back().end = slot;
        break;
      }
      now.pop_back();
    }
  }

 private:
  /// Of the passes: the values of a slot up to this position.
  [[nodiscard]] std::uint64_t seen_of(std::uint32_t slot) const noexcept {
    const vec<seen_slots>& by = open && slot < place ? now : before;
    std::uint32_t lo = 0;
    std::uint32_t hi = by.size();
    while (lo != hi) {
      const std::uint32_t mid = lo + (hi - lo) / 2;
      if (by[mid].end > slot) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo == by.size() ? since : by[lo].head;
  }
  /// Place of the first that is not in front of `slot`.
  [[nodiscard]] std::uint32_t ahead_from(std::uint32_t slot) const noexcept {
    std::uint32_t lo = 0;
    std::uint32_t hi = ahead.size();
    while (lo != hi) {
      const std::uint32_t mid = lo + (hi - lo) / 2;
      if (ahead[mid].slot >= slot) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
};

/// One that gets the newest values of the keys that it chose, and the events without a key.
struct selection : value_reader {
  watch_list keys{};
  std::uint32_t put_back = none;  ///< the last watch that a cut write gave back
  std::uint32_t next = none;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

/// What a gap frame says.
struct loss {
  event_id requested = no_id;
  event_id first = no_id;
  std::uint64_t lost = 0;
  bool known = false;  ///< how many were lost
  bool with_ids = true;
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
  bool queued : 1 = false;  ///< in a list of those to be served (of the slot: outlives the session)
  bool blocked : 1 = false;  ///< the host will call writable() or written()
  bool waiting : 1 = false;  ///< with blocked: something waits, since progress
  bool said_farewell : 1 = false;
  bool retry_only : 1 = false;      ///< a retry stream: the host's hooks do not see it
  bool present : 1 = false;         ///< its user's presence was told
  bool over : 1 = false;            ///< over soft_lag, since over_since
  bool tells_position : 1 = false;  ///< it is told where it stands
  bool owes_position : 1 = false;   ///< it left the snapshot that was to tell it that
  bool has_ids : 1 = false;         ///< it joined a channel with ids, and may have left it
  bool own_ids : 1 = false;         ///< of a sequence that is that channel's own
  bool conflates : 1 = false;  ///< it joined a channel that does (lag_policy::coalesce), or watches
  bool paced : 1 = false;      ///< it gets values of some channel not before value_reader::due
  bool transients : 1 = false;  ///< it may have subscriptions to transient entries
  std::uint32_t first = none;   ///< subscriptions
  std::uint32_t lane = none;
  std::uint32_t chunked = none;  ///< in engine::chunks_; none: not chunked
  std::uint32_t flight = none;   ///< in engine::flights_, a write that is pending
  std::uint32_t timer = none;
  std::uint32_t queue_next = none;  ///< (of the slot, as queued)
  // Times in ms, modulo 2^32.
  std::uint32_t last_event = 0;      ///< application event delivered
  std::uint32_t last_write = 0;      ///< anything delivered
  std::uint32_t progress = 0;        ///< something waits since, or last bytes taken since
  std::uint32_t over_since = 0;      ///< see over
  std::int64_t ends_at = INT64_MAX;  ///< max_age or the verdict's until

  [[nodiscard]] std::uint32_t& free_link() noexcept { return lane; }
  [[nodiscard]] std::uint32_t& dead_next() noexcept { return progress; }
};
static_assert(sizeof(session) <= 56, "one for each stream");
static_assert(static_cast<unsigned>(session_state::zombie) < 8, "session::state has three bits");
static_assert(close_reason_count <= 16, "session::why has four bits");

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_PARTS_HPP
