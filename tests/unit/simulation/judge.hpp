// The judge of what clients get: the promises of docs/architecture.md ("Ids and resume",
// "Slow readers") and of the options' docstrings, held against the book of what was published.
//
//   Every event that a client may see arrives once and in order, or a gap frame announces it, or
//   the stream ends in front of it, so that the reconnect asks for it.
//   Of values (events with a key) a reader that coalesces, or that fills a snapshot, may miss those
//   that a newer one of the same key and audience replaced.
//   What was announced to come no more does not come; ids never run back; every byte is explained.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <sse/sse.hpp>

#include "book.hpp"
#include "client.hpp"
#include "features.hpp"
#include "wire.hpp"

namespace simulation {

/// What the judge knows of the hub.
struct hub_facts {
  bool groups = false;  ///< on_sees by groups
  std::array<const sse::channel_options*, channel_count> options{};
};

struct tally {
  std::uint64_t events = 0;
  std::uint64_t transients = 0;
  std::uint64_t whispers = 0;
  std::uint64_t gaps = 0;
  std::uint64_t values = 0;      ///< of passes
  std::uint64_t superseded = 0;  ///< values that a newer one made superfluous
  std::uint64_t caught_up = 0;
};

class judge {
 public:
  judge(const features& f, book& b, const hub_facts& facts)
      : features_{&f}, book_{&b}, hub_{&facts} {}

  tally seen;

  [[nodiscard]] bool visible(const client& k, const published& e) const {
    return may_see(k.user, e.audience, hub_->groups);
  }
  /// It gets nothing with ids but snapshots, and is told where it stands behind those.
  [[nodiscard]] bool gets_snapshot(const client& k) const {
    bool any = false;
    for (const joined& j : k.conn.channels) {
      if (j.left || shapes[j.channel].ids == id_mode::none) continue;
      any = true;
      if (!j.live_only_values) return false;
    }
    return any;
  }
  [[nodiscard]] const sse::channel_options* options(int c) const {
    return hub_->options[static_cast<std::size_t>(c)];
  }
  [[nodiscard]] static std::uint64_t values_kept(const sse::channel_options& o) {
    return o.max_keys == 0 ? 10'000 : o.max_keys;
  }
  /// Bytes behind live at which a channel's reader may be too late.
  [[nodiscard]] std::uint64_t limit(int c) const {
    const sse::channel_options& o = *options(c);
    std::uint64_t n = o.max_lag == 0 ? UINT64_MAX : o.max_lag;
    if (o.soft_lag != 0 && !o.soft_lag_for.is_off() && o.soft_lag < n) n = o.soft_lag;
    return n;
  }

  /// A stream begins: without a position as `start` says, or with the `newest` so many; with one
  /// behind it, or, if it is 0, with everything.
  void begin(client& k, const sse::start_at* given, std::uint64_t newest) {
    const bool resumed = k.conn.resumed;
    const bool keeps = resumed && k.last != 0;
    const serial last = book_->last();
    serial earliest = last + 1;
    for (joined& j : k.conn.channels) {
      const auto c = static_cast<std::size_t>(j.channel);
      channel_book& b = book_->at(j.channel);
      const bool bare = shapes[c].ids == id_mode::none;
      const sse::start_at start = given != nullptr ? *given : options(j.channel)->start;
      j.begins = last;
      j.read_bytes = b.bytes;
      j.read_transient_bytes = b.transient_bytes;
      j.transients.next = static_cast<std::uint32_t>(b.transients.size());
      j.rows.next = b.begins;
      j.values_next = bare ? static_cast<std::uint32_t>(b.rows.size()) : b.begins;
      if (keeps && !bare) {
        j.values_next = k.conn.ahead ? static_cast<std::uint32_t>(b.rows.size())
                                     : book_->row_above(j.channel, k.values);
        j.filling = (start == sse::start_at::snapshot && gone(k.last, j.channel)) ||
                    (!k.conn.ahead && j.keyed && (k.values < k.last || conflates(j)));
        if (j.filling) k.conn.ordered = false;
        continue;
      }
      if (resumed && bare) {  // it may begin anew, since it cannot be resumed
        j.filling = start == sse::start_at::snapshot;
        owes(k, j, static_cast<std::uint32_t>(b.rows.size()), b.begins, earliest);
      } else {
        owes_from(k, j, resumed && newest == 0 ? sse::start_at::all : start, newest, earliest);
      }
    }
    for (const joined& j : k.conn.channels) {
      if (j.live_only_values && !gets_snapshot(k)) k.conn.may_repeat_position = 1;
    }
    if (!keeps) k.scan = book_->from(k.channels[0], earliest);
    k.conn.snapshot = gets_snapshot(k);
  }

  /// A live stream joins one more channel. Where it has no other with ids, or gets their snapshots,
  /// it is told where it stands.
  void joins(client& k, joined& j, const sse::join_start& from, bool tells_position) {
    const channel_book& b = book_->at(j.channel);
    const serial last = book_->last();
    const bool has_ids = shapes[j.channel].ids != id_mode::none;
    serial earliest = last + 1;
    k.conn.got[static_cast<std::size_t>(j.channel)] = {};  // it may have been there before
    j.begins = last;
    j.read_bytes = b.bytes;
    j.read_transient_bytes = b.transient_bytes;
    j.transients.next = static_cast<std::uint32_t>(b.transients.size());
    j.rows.next = b.begins;
    j.values_next = has_ids ? b.begins : static_cast<std::uint32_t>(b.rows.size());
    j.heard = false;
    if (from.after != sse::unsaid_id) j.heard_by = from.after;
    if (from.after != sse::unsaid_id && has_ids) {
      const std::uint32_t behind = book_->row_above(j.channel, from.after);
      owes(k, j, behind, behind, earliest);
    } else {
      const bool values = options(j.channel)->max_keys != 0;
      owes_from(k, j,
                from.start == sse::start_at::snapshot && !values ? sse::start_at::live : from.start,
                from.backlog, earliest);
    }
    bool others = false;
    for (const joined& o : k.conn.channels)
      others = others || (!o.left && &o != &j && shapes[o.channel].ids != id_mode::none);
    // Where it had others before, nothing of before can come.
    if (has_ids && !others) k.scan = book_->from(j.channel, earliest);
    k.conn.joined_later = true;
    if (!tells_position || !has_ids) return;
    if (others) {
      k.conn.may_repeat_position += j.live_only_values ? 2 : 1;
    } else {
      k.conn.may_repeat_position += k.conn.owed_position ? 1 : 0;
      k.conn.owed_position = k.conn.owed_by_join = true;
      k.conn.snapshot = j.live_only_values;
    }
  }

  /// It leaves one. `on_its_way`: bytes that were handed out and not read.
  void leaves(client& k, joined& j, std::size_t on_its_way) {
    j.left = true;
    j.left_floor = k.floor[static_cast<std::size_t>(j.channel)];
    j.left_values_owed = k.values_owed[static_cast<std::size_t>(j.channel)];
    j.on_its_way = on_its_way;
    j.half_sent = on_its_way == 0 && k.conn.frames.inside();
    bool numbered = false;
    for (const joined& o : k.conn.channels)
      numbered = numbered || (!o.left && shapes[o.channel].ids != id_mode::none);
    if (k.conn.owed_position && !numbered) {
      k.conn.owed_position = false;
      ++k.conn.may_repeat_position;
    }
  }

  /// The client read all that was on its way when it left, but for an event's rest.
  void took_what_was_on_its_way(client& k, std::size_t n) {
    for (joined& j : k.conn.channels) {
      if (j.on_its_way == 0) continue;
      j.on_its_way -= n;
      j.half_sent = j.on_its_way == 0 && k.conn.frames.inside();
    }
  }

  /// Of what was handed out the client's socket took some, which it has still to read.
  void nothing_else_is_on_its_way(client& k, std::size_t unread) {
    for (joined& j : k.conn.channels) {
      if (j.on_its_way <= unread) continue;
      j.on_its_way = unread;
      j.half_sent = unread == 0 && k.conn.frames.inside();
    }
  }

  /// A channel got an event: readers may be too far behind now.
  void note_lag(client& k, int channel) {
    joined* j = k.find(channel);
    if (j == nullptr) return;
    const channel_book& b = book_->at(channel);
    const std::uint64_t most = limit(channel);
    if (b.bytes - j->read_bytes > most) j->over = true;
    if (b.transient_bytes - j->read_transient_bytes > most) j->over_transient = true;
  }

  /// The hub says that it sends a gap frame: is there a reason for one?
  [[nodiscard]] const char* judge_notice(client& k, int channel, const sse::gap_notice& n) {
    joined* j = k.find(channel);
    if (j == nullptr) return "a gap on a channel that was not joined";
    if (n.first == 0)
      return j->over || j->over_transient || j->filling || conflates(*j) ? nullptr
                                                                         : "a gap without a reason";
    if (j->asks_archive) return nullptr;
    channel_book& b = book_->at(channel);
    const sse::channel_options& o = *options(channel);
    if (k.conn.accepting && k.conn.resumed && !j->filling) {
      if (n.requested != k.conn.resumed_from) return "a gap that answers another id";
      if (k.conn.ahead || gone(k.conn.resumed_from, channel)) return nullptr;
    }
    if (!j->over && !j->filling && !conflates(*j)) return "a gap without a reason";
    if (passes(*j) && n.requested < b.reopened_at) return nullptr;
    if ((o.on_lag == sse::lag_policy::coalesce || j->filling) && b.values <= values_kept(o)) {
      for (std::uint32_t i = book_->row_above(channel, n.requested); i < b.rows.size(); ++i) {
        const published& e = book_->row(channel, i);
        if (e.id >= n.first) break;
        if (e.key == 0) return nullptr;
      }
      if (k.conn.resumed && j->filling && lost_around(channel, n)) return nullptr;
      return "a gap although every event had a key, or is to come";
    }
    return nullptr;
  }

  void on_frame(client& k, const frame& f) {
    judge_frame(k, f);
    for (joined& j : k.conn.channels) j.half_sent = false;
  }

 private:
  /// What a channel owes to one that brings no id: so many of the newest, or as `start` says.
  void owes_from(client& k, joined& j, sse::start_at start, std::uint64_t newest,
                 serial& earliest) {
    const channel_book& b = book_->at(j.channel);
    const auto rows = static_cast<std::uint32_t>(b.rows.size());
    std::uint32_t from = rows;     // owed
    std::uint32_t allowed = rows;  // older ones must not come
    const bool values = newest == 0 && start == sse::start_at::snapshot;
    if (newest != 0) {
      allowed = rows - b.begins < newest ? b.begins : rows - static_cast<std::uint32_t>(newest);
      from = allowed > b.retained ? allowed : b.retained;
    } else if (start == sse::start_at::all) {
      allowed = b.begins;
      from = b.retained;
    } else if (values) {
      allowed = b.begins;
      for (const auto& by_audience : b.newest) {
        for (const serial s : by_audience) {
          if (s != 0 && s < earliest) earliest = s;
        }
      }
    }
    owes(k, j, from, allowed, earliest);
    k.values_owed[static_cast<std::size_t>(j.channel)] = j.filling = j.live_only_values = values;
  }

  /// The rows from `from` on; those in front of `allowed` must not come.
  void owes(client& k, joined& j, std::uint32_t from, std::uint32_t allowed, serial& earliest) {
    const auto c = static_cast<std::size_t>(j.channel);
    const channel_book& b = book_->at(j.channel);
    const serial last = book_->last();
    k.values_owed[c] = false;
    k.opening[c] = b.begins;
    k.floor[c] = from < b.rows.size() ? b.rows[from] - 1 : last;
    j.oldest_allowed = allowed < b.rows.size() ? b.rows[allowed] : last + 1;
    if (k.floor[c] + 1 < earliest) earliest = k.floor[c] + 1;
  }

  void judge_frame(client& k, const frame& f) {
    connection& n = k.conn;
    if (f.retry) return;
    if (n.retry_only) fail("a retry stream that says more");
    if (f.comment || f.type == "beat") {
      if (f.has_id) fail("a heartbeat with an id");
      if (++n.beats > n.beats_allowed) fail("a flood of heartbeats");
      return;
    }
    if (f.has_id && f.values < f.id) {
      for (joined& j : n.channels) j.heard = j.heard || f.values <= j.heard_by;
    }
    if (f.type == "gap") return on_gap(k, f);
    finish_row(k);
    if (f.position) return on_position(k, f);
    if (n.owed_position && !n.snapshot && !n.joined_later)
      fail("it was not told first where it stands");
    if (f.type == "whisper") {
      std::string_view rest = f.data;
      const std::uint64_t number = take_number(rest);
      if (f.has_id || n.whispers.empty() || n.whispers.front() != number)
        fail("a unicast event out of its turn: " + std::string(f.data));
      n.whispers.pop_front();
      ++seen.whispers;
    } else if (f.type == "bye") {
      if (f.has_id) fail("a farewell with an id");
    } else if (f.type == "e" || f.type == "t") {
      on_event(k, f);
    } else {
      fail("an event of nobody: " + std::string(f.type));
    }
  }

 public:
  /// Nothing is on its way to this client: all that was published is settled.
  void caught_up(client& k) {
    for (joined& j : k.conn.channels) j.heard = true;
    finish_row(k);
    connection& n = k.conn;
    const auto who = [&] { return " (client " + std::to_string(k.number) + ")"; };
    if (n.ahead) fail("nothing was said of an id that nobody has got" + who());
    if (n.row_open) fail("the last of a row of gap frames has no id" + who());
    if (!n.notices.empty()) fail("a gap was noticed and never sent" + who());
    if (!n.whispers.empty()) fail("a unicast event was lost" + who());
    if (n.frames.inside()) fail("an event was never sent to its end" + who());
    if (n.retry_only) return;
    if (n.owed_position) fail("it was never told where it stands" + who());
    if (const int c = numbered_channel(n); c >= 0) {
      settle_to(k, book_->sequence(c).size(), 0);
      settle_values_to(k, UINT64_MAX, 0);
    }
    std::erase_if(n.channels, [](const joined& j) { return j.left; });
    for (joined& j : n.channels) {
      const channel_book& b = book_->at(j.channel);
      if (shapes[j.channel].ids == id_mode::none) pass_values(k, j);
      if (shapes[j.channel].ids == id_mode::none)
        pass_rows(k, j, j.rows, b.rows, static_cast<std::uint32_t>(b.rows.size()), true);
      pass_rows(k, j, j.transients, b.transients, static_cast<std::uint32_t>(b.transients.size()),
                false);
      j.over = j.filling = false;
      j.over_transient = j.beats;
      j.read_bytes = b.bytes;
      j.read_transient_bytes = b.transient_bytes;
      j.rows.gap_told = j.transients.gap_told = false;
    }
    ++seen.caught_up;
  }

 private:
  /// Events without a key stand in front of what a gap frame tells of and behind it: between two
  /// values the hub knows the first and the newest of them only.
  [[nodiscard]] bool lost_around(int channel, const sse::gap_notice& n) const {
    const channel_book& b = book_->at(channel);
    bool before = false;
    bool behind = false;
    for (std::uint32_t i = b.begins; i < b.rows.size(); ++i) {
      const published& e = book_->row(channel, i);
      if (e.key != 0) continue;
      before = before || e.id <= n.requested;
      behind = behind || e.id >= n.first;
    }
    return before && behind;
  }
  /// An id that left a channel's history.
  [[nodiscard]] bool gone(std::uint64_t id, int channel) const {
    const channel_book& b = book_->at(channel);
    return id < b.reopened_at || (b.retained > 0 && book_->row(channel, b.retained - 1).id > id);
  }

  std::string describe(const client& k, const published& e) const {
    return "event " + std::to_string(&e - &(*book_)[0]) + " id " + std::to_string(e.id) + " of " +
           shapes[e.channel].name + " key " + std::to_string(e.key) + " audience '" +
           audience_name(e.audience) + "' for client " + std::to_string(k.number) + " '" +
           user_name(k.user) + "' in slot " + std::to_string(k.conn.session.slot) + " at " +
           std::to_string(k.last) + state(k, e.channel) + arrivals(k);
  }
  std::string state(const client& k, int c) const {
    std::string out = "; floor " + std::to_string(k.floor[static_cast<std::size_t>(c)]);
    for (const joined& j : k.conn.channels) {
      if (j.channel != c) continue;
      out += ", joined after " + std::to_string(j.begins);
      if (k.conn.resumed) out += ", resumed from " + std::to_string(k.conn.resumed_from);
      if (j.filling) out += ", filling";
      if (j.over) out += ", over its lag";
    }
    if (const sse::channel_options* o = options(c)) {
      out += ", policy " + std::to_string(static_cast<int>(o->on_lag)) + ", start " +
             std::to_string(static_cast<int>(o->start)) + ", keep " + std::to_string(o->keep) +
             ", keys " + std::to_string(o->max_keys);
    }
    return out;
  }
  static std::string arrivals(const client& k) {
    std::string out = "; its last frames:";
    for (const arrival& a : k.arrivals) {
      out += std::string(" ") + a.kind + " " + std::to_string(a.id) + " (" + std::to_string(a.a) +
             " " + std::to_string(a.b) + ")";
    }
    return out;
  }

  /// Whether a client may go without this event, though nothing announced it.
  [[nodiscard]] bool excused(client& k, const joined& j, const published& e, serial s) {
    const auto c = static_cast<std::size_t>(e.channel);
    const sse::channel_options* o = options(e.channel);
    const channel_book& b = book_->at(e.channel);
    if (s <= (j.left ? j.left_floor : k.floor[c])) {
      return !(j.left ? j.left_values_owed : k.values_owed[c]) || e.key == 0 || e.superseded != 0 ||
             k.opening[c] != b.begins || e.row < b.begins || o == nullptr ||
             b.values > values_kept(*o);
    }
    const bool coalesces = j.on_lag == sse::lag_policy::coalesce;
    if (e.superseded != 0 && (coalesces || j.filling)) {
      ++seen.superseded;
      return true;
    }
    if (!features_->snapshot_tells_losses && j.filling) return true;
    const bool unkept = e.key == 0 || o == nullptr || b.values > values_kept(*o);
    return !features_->each_loss_told && coalesces && unkept;
  }

  [[nodiscard]] static bool announced(const client& k, const published& e) {
    for (const auto& range : k.told[static_cast<std::size_t>(e.channel)]) {
      if (range.first < e.id && e.id < range.second) return true;
    }
    return false;
  }

  /// One of its channels with ids, also of those that it left: they have one sequence. -1: none.
  [[nodiscard]] static int numbered_channel(const connection& n) {
    for (const joined& j : n.channels) {
      if (shapes[j.channel].ids != id_mode::none) return j.channel;
    }
    return -1;
  }

  [[nodiscard]] static bool conflates(const joined& j) {
    return j.on_lag == sse::lag_policy::coalesce;
  }
  /// It may get the newest values instead of a log.
  [[nodiscard]] static bool passes(const joined& j) {
    return j.keyed && (conflates(j) || j.filling);
  }
  [[nodiscard]] static bool passes(const connection& n) {
    for (const joined& j : n.channels) {
      if (passes(j)) return true;
    }
    return false;
  }
  [[nodiscard]] static serial& got(newest_values& all, const published& e) {
    return all[static_cast<std::size_t>(e.channel)][static_cast<std::size_t>(e.key)]
              [static_cast<std::size_t>(e.audience)];
  }
  /// A value came: along a connection each key's rise.
  void note_value(client& k, const published& e, serial s) {
    serial& here = got(k.conn.got, e);
    if (s <= here) fail("an older value than it had, or the same: " + describe(k, e));
    here = s;
    serial& ever = got(k.got, e);
    if (s > ever) ever = s;
  }

  /// All values up to this id came, or newer ones of their keys. What it joined while it read
  /// something older is settled later.
  void settle_values_to(client& k, std::uint64_t id, serial here) {
    for (joined& j : k.conn.channels) {
      if (j.left || !j.heard || !passes(j) || shapes[j.channel].ids == id_mode::none) continue;
      for (const std::uint32_t end = book_->row_above(j.channel, id); j.values_next < end;
           ++j.values_next) {
        const serial s = book_->at(j.channel).rows[j.values_next];
        const published& e = (*book_)[s];
        if (e.key == 0 || s == here || !visible(k, e)) continue;
        const serial newest = got(k.got, e);
        if (newest >= s) {
          seen.superseded += newest > s ? 1U : 0U;
        } else if (!announced(k, e) && !excused(k, j, e, s)) {
          fail("a value was lost in silence, up to " + std::to_string(id) + ": " + describe(k, e));
        }
      }
    }
  }

  /// All values of a channel without ids came, or newer ones.
  void pass_values(client& k, joined& j) {
    const channel_book& b = book_->at(j.channel);
    for (; passes(j) && j.values_next < b.rows.size(); ++j.values_next) {
      const serial s = b.rows[j.values_next];
      const published& e = (*book_)[s];
      if (e.key == 0 || !visible(k, e) || j.values_lost || got(k.conn.got, e) >= s) continue;
      if (!excused(k, j, e, s)) fail("a value was lost in silence: " + describe(k, e));
    }
    j.values_next = static_cast<std::uint32_t>(b.rows.size());
    j.values_lost = false;
  }

  /// All in front of index `end` of its sequence must be settled, but `here`, which comes now.
  void settle_to(client& k, std::size_t end, serial here) {
    const std::vector<serial>& q = book_->sequence(numbered_channel(k.conn));
    for (; k.scan < end; ++k.scan) {
      const serial s = q[k.scan];
      const published& e = (*book_)[s];
      joined* j = k.find(e.channel);
      if (s == here || j == nullptr || !visible(k, e)) continue;
      if (e.key != 0 && passes(*j)) continue;  // settle_values_to
      auto& told = k.told[static_cast<std::size_t>(e.channel)];
      while (!told.empty() && !j->keyed && told.front().second <= e.id) told.erase(told.begin());
      if (!announced(k, e) && !excused(k, *j, e, s))
        fail("lost in silence, before index " + std::to_string(end) + ": " + describe(k, e));
    }
  }

  /// The client's position moves.
  void move_to(client& k, std::uint64_t id, std::uint64_t values, serial here) {
    if (k.has_position && (id < k.last || (here != 0 && id == k.last)))
      fail("ids run back: " + std::to_string(k.last) + " -> " + std::to_string(id) +
           " for client " + std::to_string(k.number) + arrivals(k));
    settle_to(k, book_->above(numbered_channel(k.conn), id), here);
    settle_values_to(k, values, here);
    k.has_position = true;
    k.last = id;
    k.values = values;
  }

  void finish_row(client& k) {
    if (!k.conn.moves_later) return;
    k.conn.moves_later = false;
    move_to(k, k.conn.moves_to, k.conn.moves_to, 0);
  }

  void pass_rows(client& k, joined& j, row_reader& r, const std::vector<serial>& all,
                 std::uint32_t end, bool values) {
    for (; r.next < end; ++r.next) {
      const published& e = (*book_)[all[r.next]];
      if (!visible(k, e) || r.gap_told) continue;
      if (values && e.key != 0 && passes(j)) continue;  // pass_values
      if (values && excused(k, j, e, all[r.next])) continue;
      fail("lost in silence: " + describe(k, e));
    }
  }

  void on_event(client& k, const frame& f) {
    const serial s = book_->find(f.data);
    const published& e = (*book_)[s];
    connection& n = k.conn;
    joined* const j = k.receiving(e.channel);
    k.note(e.transient ? 't' : 'e', e.id, s, static_cast<std::uint64_t>(e.channel));
    if (j == nullptr)
      fail("an event of a channel that was not joined, or was left: " + describe(k, e));
    if (!visible(k, e)) fail("an event for other eyes: " + describe(k, e));
    if (!e.transient) j->heard = true;
    const bool value = !e.transient && e.key != 0 && passes(*j);
    if ((f.has_id != (e.id != 0) && !value) || (f.has_id && f.id != e.id))
      fail("a wrong id: " + describe(k, e));
    if (e.transient != (f.type == "t")) fail("a wrong type: " + describe(k, e));
    if (n.ordered && s <= n.last_event && n.may_run_back-- == 0)
      fail("not in the order of publication: " + describe(k, e));
    n.last_event = s;
    if (e.transient) {
      if (e.row < j->transients.next)
        fail("a transient event twice or too late: " + describe(k, e));
      pass_rows(k, *j, j->transients, book_->at(e.channel).transients, e.row, false);
      j->transients = {e.row + 1, false};
      j->read_transient_bytes = max(j->read_transient_bytes, e.bytes_before + e.wire);
      ++seen.transients;
      return;
    }
    if (n.owed_position && !n.snapshot && f.has_id && !j->left)
      fail("it was not told first where it stands: " + describe(k, e));
    if (s < j->oldest_allowed) fail("it is from before the beginning: " + describe(k, e));
    if (j->live_only_values && s <= j->begins &&
        (e.key == 0 || (e.superseded != 0 && e.superseded <= j->begins)))
      fail("old news in a snapshot: " + describe(k, e));
    if (!e.transient && e.key != 0 && j->keyed) note_value(k, e, s);
    if (value && !f.has_id) {
      ++seen.values;
    } else if (e.id == 0) {
      if (e.row < j->rows.next) fail("an event twice or too late: " + describe(k, e));
      pass_rows(k, *j, j->rows, book_->at(e.channel).rows, e.row, true);
      j->rows = {e.row + 1, false};
    } else {
      if (e.id < j->first_possible)
        fail("it was said that it would come no more: " + describe(k, e));
      move_to(k, e.id, f.values, s);
    }
    j->read_bytes = max(j->read_bytes, e.bytes_before + e.wire);
    ++seen.events;
  }

  void on_position(client& k, const frame& f) {
    k.note('p', f.id, 0);
    if (!k.conn.owed_position && !passes(k.conn) && k.conn.may_repeat_position-- == 0)
      fail("an id that it did not need for client " + std::to_string(k.number) + arrivals(k));
    k.conn.owed_position = false;
    move_to(k, f.id, f.values, 0);
  }

  void on_gap(client& k, const frame& f) {
    connection& n = k.conn;
    const gap_data g{f.data};
    if (n.notices.empty()) fail("a gap frame that on_gap was not told of");
    const sse::gap_notice notice = n.notices.front();
    const int channel = n.notice_channels.front();
    k.note('g', f.id, g.requested, g.first);
    n.notices.pop_front();
    n.notice_channels.erase(n.notice_channels.begin());
    if (notice.requested != g.requested || notice.first != g.first ||
        notice.lost_known != g.lost_known || (g.lost_known && notice.lost != g.lost))
      fail("on_gap was told something else than the gap frame says");
    ++seen.gaps;
    joined* const j = k.told_of(channel);
    if (j == nullptr) fail("a gap frame of a channel that was not joined");
    if (!g.with_ids) {
      if (f.has_id) fail("a gap frame without ids that moves the id");
      j->rows.gap_told = j->transients.gap_told = j->values_lost = true;
      return;
    }
    if (g.lost_known) count_lost(k, channel, g);
    k.told[static_cast<std::size_t>(channel)].emplace_back(g.requested, g.first);
    j->first_possible = g.first;
    n.row_open = !f.has_id;
    if (!f.has_id) return;
    const bool of_before = n.owed_by_join && j->left;
    if (n.owed_position && !of_before && (!n.snapshot || n.joined_later)) {
      n.owed_position = false;
      if (n.joined_later) ++n.may_repeat_position;  // it may be about what was left
    }
    if (n.ahead) {  // nobody has such an id: back to where the sequence stands
      n.ahead = false;
      if (f.id + 1 != g.first) fail("a gap frame with a strange id");
      k.last = f.id;
      k.values = f.values;
    } else if (features_->last_gap_moves_id) {
      move_to(k, f.id, f.values, 0);
    } else {
      n.moves_later = true;
      n.moves_to = f.id;
    }
  }

  /// `lost` counts at least what is owed to the client, at most everything.
  void count_lost(client& k, int channel, const gap_data& g) {
    std::uint64_t all = 0;
    std::uint64_t owed = 0;
    const auto c = static_cast<std::size_t>(channel);
    const channel_book& b = book_->at(channel);
    for (std::uint32_t i = book_->row_above(channel, g.requested); i < b.rows.size(); ++i) {
      const published& e = book_->row(channel, i);
      if (e.id >= g.first) break;
      ++all;
      const bool before = b.rows[i] <= k.floor[c] || (k.has_position && e.id <= k.last);
      if (visible(k, e) && !before && !announced(k, e)) ++owed;
    }
    if (g.lost < owed || g.lost > all)
      fail("a gap frame that counts " + std::to_string(g.lost) + " lost events, but it is " +
           std::to_string(owed) + " to " + std::to_string(all) + " of " + shapes[channel].name +
           " for client " + std::to_string(k.number) + arrivals(k) + state(k, channel));
  }

  static std::uint64_t max(std::uint64_t a, std::uint64_t b) { return a > b ? a : b; }

  const features* features_;
  book* book_;
  const hub_facts* hub_;
};

}  // namespace simulation
