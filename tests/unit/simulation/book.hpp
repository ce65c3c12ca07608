// What was published: the simulation's own memory of it, and what a hub must still have of it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <sse/channel.hpp>

#include "wire.hpp"

namespace simulation {

constexpr int channel_count = 14;
constexpr int first_own = 9;  ///< channels from here on have sequences of their own
constexpr int user_count = 7;
constexpr int key_count = 12;
constexpr int audience_count = user_count + 3;  // each user, and groups for hubs with on_sees

/// Names, and what never changes when a channel is opened again under its name.
struct channel_shape {
  const char* name;
  bool own;
  sse::id_mode ids;
  bool archive;  ///< has a backfill hook
};
using sse::id_mode;
constexpr channel_shape shapes[channel_count] = {
    {"plain", false, id_mode::automatic, false},     {"quotes", false, id_mode::automatic, false},
    {"fills", false, id_mode::automatic, false},     {"news", false, id_mode::automatic, false},
    {"chat", false, id_mode::automatic, false},      {"given", false, id_mode::given, false},
    {"archive", false, id_mode::automatic, true},    {"bare", false, id_mode::none, false},
    {"bare-state", false, id_mode::none, false},     {"own", true, id_mode::automatic, false},
    {"own-state", true, id_mode::automatic, false},  {"own-given", true, id_mode::given, false},
    {"own-archive", true, id_mode::automatic, true}, {"own-bare", true, id_mode::none, false},
};

/// Channels with the same have one order of ids.
inline int sequence_of(int c) { return shapes[c].own ? c : -1; }

using serial = std::uint32_t;  ///< of an event, in the order of publication; 0: none

/// One accepted event.
struct published {
  std::uint64_t id = 0;
  std::int64_t at = 0;
  std::uint64_t bytes_before = 0;  ///< upper bound of the log's bytes in front of it
  std::uint32_t pad = 0;
  std::uint32_t wire = 0;  ///< its encoded size
  std::uint32_t row = 0;   ///< its place among its channel's events of its kind
  serial superseded = 0;   ///< by the next value of its key and audience
  std::int8_t channel = 0;
  std::int8_t key = 0;       ///< 0: none
  std::int8_t audience = 0;  ///< 0: everyone
  bool transient = false;
};

inline std::string user_name(int user) { return user < 0 ? "" : "user-" + std::to_string(user); }

inline std::string audience_name(int audience) {
  if (audience == 0) return {};
  if (audience <= user_count) return user_name(audience - 1);
  return "group-" + std::to_string(audience - user_count - 1);
}

/// Whether a user may see an audience: on_sees by groups, or the default, by name.
inline bool may_see(int user, int audience, bool groups) {
  if (audience == 0) return true;
  if (user < 0) return false;
  if (audience <= user_count) return audience == user + 1;
  return groups && user % 3 == audience - user_count - 1;
}

/// A channel's events and what must be retained of them. Rows count from its first opening.
struct channel_book {
  std::vector<serial> rows;        ///< with or without ids
  std::vector<serial> transients;  ///< rows of their own
  std::array<std::array<serial, audience_count + 1>, key_count + 1> newest{};
  std::uint32_t values = 0;      ///< keys and audiences in `newest`, of this opening
  std::uint32_t begins = 0;      ///< first row of this opening
  std::uint32_t retained = 0;    ///< first row that must be retained
  std::uint64_t kept_bytes = 0;  ///< of the retained ones, audiences counted
  std::uint64_t bytes = 0;       ///< upper bound of what all its events take
  std::uint64_t transient_bytes = 0;
  std::uint64_t reopened_at = 0;  ///< head of its sequence when it was opened
  bool has_audiences = false;     ///< this opening
};

class book {
 public:
  book() { events_.resize(1); }

  [[nodiscard]] const published& operator[](serial s) const { return events_[s]; }
  [[nodiscard]] serial last() const { return static_cast<serial>(events_.size() - 1); }
  [[nodiscard]] channel_book& at(int c) { return channels_[static_cast<std::size_t>(c)]; }
  /// The events with ids of a channel's sequence, in their order.
  [[nodiscard]] const std::vector<serial>& sequence(int c) const {
    return shapes[c].own ? own_[static_cast<std::size_t>(c)] : shared_;
  }
  /// A row's event.
  [[nodiscard]] const published& row(int c, std::uint32_t i) { return events_[at(c).rows[i]]; }

  /// The data of the next event.
  [[nodiscard]] std::string data_of_next(std::uint32_t pad) const {
    return data_of(last() + 1, pad);
  }
  [[nodiscard]] std::string data_of(serial s) const { return data_of(s, events_[s].pad); }
  /// The event that `data` is of; each byte of it is looked at.
  [[nodiscard]] serial find(std::string_view data) const {
    std::string_view rest = data;
    const std::uint64_t s = take_number(rest);
    if (s == 0 || s > last()) fail("an event that was never published");
    const std::uint32_t pad = events_[s].pad;
    if (rest.size() != pad + 1 || rest.front() != ';' ||
        std::memcmp(rest.data() + 1, padding(static_cast<serial>(s)), pad) != 0)
      fail("wrong bytes of event " + std::to_string(s));
    return static_cast<serial>(s);
  }

  serial add(published e, const sse::channel_options& o) {
    channel_book& b = at(e.channel);
    const auto s = static_cast<serial>(events_.size());
    const std::size_t number = std::to_string(s).size();
    e.wire = static_cast<std::uint32_t>((e.id == 0 ? 0 : 5 + std::to_string(e.id).size()) + 9 + 8 +
                                        number + 1 + e.pad);
    const std::uint64_t room = e.wire + audience_name(e.audience).size();
    if (e.transient) {
      e.row = static_cast<std::uint32_t>(b.transients.size());
      b.transients.push_back(s);
      e.bytes_before = b.transient_bytes;
      b.transient_bytes += room;
    } else {
      e.row = static_cast<std::uint32_t>(b.rows.size());
      b.rows.push_back(s);
      e.bytes_before = b.bytes;
      b.bytes += room;
      b.kept_bytes += room;
      b.has_audiences = b.has_audiences || e.audience != 0;
      if (e.key != 0) {
        serial& newest =
            b.newest[static_cast<std::size_t>(e.key)][static_cast<std::size_t>(e.audience)];
        if (newest != 0) {
          events_[newest].superseded = s;
        } else {
          ++b.values;
        }
        newest = s;
      }
    }
    if (e.id != 0) {
      std::vector<serial>& q =
          shapes[e.channel].own ? own_[static_cast<std::size_t>(e.channel)] : shared_;
      if (!q.empty() && events_[q.back()].id >= e.id) fail("an id that does not rise");
      q.push_back(s);
    }
    events_.push_back(e);
    trim(e.channel, o, e.at);
    return s;
  }

  /// What retention need not keep any longer is forgotten, as channel_options say.
  void trim(int c, const sse::channel_options& o, std::int64_t now) {
    channel_book& b = at(c);
    while (b.retained < b.rows.size()) {
      const published& e = row(c, b.retained);
      if (b.rows.size() - b.retained <= o.keep && b.kept_bytes <= o.keep_bytes &&
          (o.keep_age.is_off() || now - e.at < o.keep_age.ms()))
        break;
      b.kept_bytes -= e.wire + audience_name(e.audience).size();
      ++b.retained;
    }
  }

  /// A channel opens (again), or its hub is another one: nothing of before is in it.
  void begin(int c, std::uint64_t head) {
    channel_book& b = at(c);
    b.begins = b.retained = static_cast<std::uint32_t>(b.rows.size());
    b.newest = {};
    b.values = 0;
    b.kept_bytes = 0;
    b.reopened_at = head;
    b.has_audiences = false;
  }

  /// An event whose retention is certain.
  [[nodiscard]] bool retained(const published& e) { return e.row >= at(e.channel).retained; }

  /// First event of a sequence published as number `s` or later, as an index into sequence(c).
  [[nodiscard]] std::size_t from(int c, serial s) const {
    const std::vector<serial>& q = sequence(c);
    return static_cast<std::size_t>(std::lower_bound(q.begin(), q.end(), s) - q.begin());
  }
  /// First row of a channel, whose rows have ids, with an id above `id`.
  [[nodiscard]] std::uint32_t row_above(int c, std::uint64_t id) {
    const std::vector<serial>& r = at(c).rows;
    return static_cast<std::uint32_t>(
        std::partition_point(r.begin(), r.end(), [&](serial s) { return events_[s].id <= id; }) -
        r.begin());
  }
  /// First event of a sequence with an id above `id`, as an index into sequence(c).
  [[nodiscard]] std::size_t above(int c, std::uint64_t id) const {
    const std::vector<serial>& q = sequence(c);
    return static_cast<std::size_t>(
        std::partition_point(q.begin(), q.end(), [&](serial s) { return events_[s].id <= id; }) -
        q.begin());
  }

 private:
  static constexpr std::size_t longest = 9000;
  static const char* padding(serial s) {
    static const std::string all = [] {
      std::string t;
      for (char c = 'a'; c <= 'z'; ++c) t.append(longest, c);
      return t;
    }();
    return all.data() + (s % 26) * longest;
  }
  static std::string data_of(serial s, std::uint32_t pad) {
    std::string d = std::to_string(s) + ";";
    d.append(padding(s), pad);
    return d;
  }

  std::vector<published> events_;
  std::vector<serial> shared_;
  std::array<std::vector<serial>, channel_count> own_;
  std::array<channel_book, channel_count> channels_;
};

}  // namespace simulation
