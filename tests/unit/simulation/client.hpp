// A client of the simulation: what it has joined, what it has got, and what it was told.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "book.hpp"
#include "wire.hpp"

namespace simulation {

/// Events without ids, which only the stream itself can promise: rows of one kind of a channel.
struct row_reader {
  std::uint32_t next = 0;  ///< no earlier row may come
  bool gap_told = false;   ///< what is missed until the next one was announced
};

/// A channel that a connection has joined.
struct joined {
  int channel = 0;
  serial begins = 0;          ///< the newest event when it joined
  serial oldest_allowed = 0;  ///< an earlier one may not come
  bool live_only_values = false;
  bool over = false;            ///< may have been too far behind since it was last caught up
  bool over_transient = false;  ///< the same of transient events
  bool beats = false;           ///< heartbeats, which the book does not hold, stand among those
  bool filling = false;         ///< a snapshot, or what a return to one needs
  bool asks_archive = false;
  sse::lag_policy on_lag{};  ///< of the channel, which may be closed when what it sent is read
  bool keyed = false;        ///< the channel knows the newest value of each key
  bool left = false;         ///< the stream left the channel: nothing but what was on its way
  serial left_floor = 0;     ///< as client::floor was then: it may join again meanwhile
  bool left_values_owed = false;
  std::size_t on_its_way = 0;  ///< bytes that were handed out when it left, and are not read yet
  bool half_sent = false;      ///< behind those comes the rest of an event
  std::int64_t joined_at = 0;
  std::uint64_t first_possible = 0;  ///< a gap frame said so
  std::uint64_t read_bytes = 0;      ///< of the channel, up to where the client stands
  std::uint64_t read_transient_bytes = 0;
  row_reader rows;  ///< of a channel without ids
  /// Of values, which come in any order: all rows before are settled.
  std::uint32_t values_next = 0;
  bool values_lost = false;    ///< some of them were announced as lost, on a channel without ids
  bool heard = true;           ///< the client got something that was sent behind its join:
  std::uint64_t heard_by = 0;  ///< an event of it, or an id that says of values no more than this
  row_reader transients;
};

/// What arrived, for the report of a failure.
struct arrival {
  char kind;
  std::uint64_t id;
  std::uint64_t a;
  std::uint64_t b;
};

/// The newest value that came, by channel, key and audience.
using newest_values =
    std::array<std::array<std::array<serial, audience_count + 1>, key_count + 1>, channel_count>;

struct connection {
  bool open = false;  ///< as the client knows
  std::size_t peer = 0;
  sse::session_id session{};
  bool chunked = false;
  bool retry_only = false;
  bool owed_position = false;   ///< it came without an id, and was not told yet where it stands
  bool owed_by_join = false;    ///< or it left all that had one, and joined another
  int may_repeat_position = 0;  ///< it may be told as often once more
  bool numbered = false;        ///< it joined a channel with ids,
  int sequence = 0;             ///< of this sequence, and may have left it
  bool joined_later = false;    ///< a channel beside those of its request
  bool snapshot = false;        ///< all that it gets with ids are snapshots: told behind them
  bool finish_asked = false;
  bool ahead = false;        ///< it asked for an id that nobody has got yet
  bool ordered = true;       ///< all of its events come in the order of publication
  int may_run_back = 0;      ///< but so often: it joined a channel with a history
  bool row_open = false;     ///< gap frames came, none with an id yet
  bool moves_later = false;  ///< features::last_gap_moves_id is off
  std::uint64_t moves_to = 0;
  bool waits = false;  ///< its backfill hook said so
  bool accepting = false;
  std::size_t head_left = 0;
  std::int64_t opened_at = 0;
  std::int64_t last_bytes_at = 0;
  std::int64_t writable_at = 0;  ///< it could take nothing before
  std::uint64_t resumed_from = 0;
  bool resumed = false;
  std::uint64_t beats = 0;
  std::uint64_t beats_allowed = 0;
  serial last_event = 0;
  chunk_decoder chunks;
  frame_reader frames;
  std::vector<joined> channels;
  newest_values got{};
  std::deque<std::uint64_t> whispers;  ///< sent, not arrived
  std::deque<sse::gap_notice> notices;
  std::vector<int> notice_channels;  // beside notices
  std::vector<sse::buffer> peeked;
};

struct client {
  int number = 0;
  int user = -1;
  int address = 0;
  std::vector<int> channels;
  bool has_position = false;  ///< as an EventSource keeps it
  std::uint64_t last = 0;
  std::uint64_t values = 0;  ///< the second number of its position, or the same
  std::size_t scan = 0;      ///< in its sequence: all before is settled for good, but for values
  newest_values got{};       ///< on any connection
  /// By channel: events up to this one are not owed,
  std::array<serial, channel_count> floor{};
  /// but the newest of each key and audience are,
  std::array<bool, channel_count> values_owed{};
  /// if the channel was not opened again since.
  std::array<std::uint32_t, channel_count> opening{};
  /// Ranges (after, before) that gap frames announced.
  std::array<std::vector<std::pair<std::uint64_t, std::uint64_t>>, channel_count> told;
  std::deque<arrival> arrivals;  ///< the last ones, over its connections
  connection conn;

  void note(char kind, std::uint64_t id, std::uint64_t a, std::uint64_t b = 0) {
    if (arrivals.size() == 12) arrivals.pop_front();
    arrivals.push_back({kind, id, a, b});
  }
  [[nodiscard]] joined* find(int channel) {
    for (joined& j : conn.channels) {
      if (j.channel == channel && !j.left) return &j;
    }
    return nullptr;
  }
  /// Its reading of a channel to which what comes now belongs: what it left is under way first.
  [[nodiscard]] joined* receiving(int channel) {
    for (joined& j : conn.channels) {
      if (j.channel == channel && (!j.left || j.on_its_way != 0 || j.half_sent)) return &j;
    }
    return nullptr;
  }
  /// The reading that a gap frame may be about: one that waited when the channel was left comes.
  [[nodiscard]] joined* told_of(int channel) {
    joined* found = receiving(channel);
    for (joined& j : conn.channels) {
      if (found == nullptr && j.channel == channel) found = &j;
    }
    return found;
  }
  /// Its channels now.
  [[nodiscard]] std::size_t joined_now() const {
    std::size_t n = 0;
    for (const joined& j : conn.channels) n += j.left ? 0U : 1U;
    return n;
  }
  void forget() {
    has_position = false;
    last = values = 0;
    got = {};
    for (auto& t : told) t.clear();
  }
};

}  // namespace simulation
