// What the hub calls: the hooks look at what they are told, and do things of their own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <sse/sse.hpp>

#include "publishing.hpp"

namespace simulation {

template <class Transport>
client* world<Transport>::owner(sse::session_id id) {
  if (id.slot >= by_slot_.size() || by_slot_[id.slot] == nullptr) return nullptr;
  client* k = by_slot_[id.slot];
  return k->conn.session == id ? k : nullptr;
}

template <class Transport>
void world<Transport>::on_gap(const sse::gap_notice& g) {
  ask_in_flush();
  client* k = owner(g.session);
  int channel = -1;
  for (int c = 0; c < channel_count; ++c) {
    if (channels_[at(c)] && channels_[at(c)] == g.where) channel = c;
  }
  if (k == nullptr || channel < 0) return wrong("a gap of nobody");
  if (const char* bad = judge_.judge_notice(*k, channel, g)) wrong(bad);
  k->conn.notices.push_back(g);
  k->conn.notice_channels.push_back(channel);
}

template <class Transport>
void world<Transport>::on_opened(sse::session_id id) {
  if (accepting_ == nullptr || !(accepting_->conn.session == id))
    wrong("on_opened of another session");
  act(features_.hooks_end_streams, accepting_);
}

template <class Transport>
void world<Transport>::on_presence(sse::channel c, std::string_view key, bool present) {
  for (int u = 0; u < user_count; ++u) {
    if (key != user_name(u)) continue;
    for (int i = 0; i < channel_count; ++i) {
      if (shapes[i].name != c.name()) continue;
      if (present_[at(u)][at(i)] == present) wrong("presence told twice");
      present_[at(u)][at(i)] = present;
    }
  }
  // Where hooks may not end streams, the first transient event ends those that wait for it: then
  // the next one's absence is told before this one's.
  if (features_.hooks_end_streams || present) act(features_.hooks_end_streams);
}

/// A hook that does something. `ends`: also what ends streams.
template <class Transport>
void world<Transport>::act(bool ends, client* self) {
  if (quiet_ || hook_depth_ > 2 || !chance(7)) return;
  ++hook_depth_;
  ++hook_calls;
  client& k = self != nullptr && chance(2) ? *self : any_client();
  switch (random_.below(ends ? 14 : 7)) {
    case 0:
    case 1:
    case 2: publish(); break;
    case 3: publish_to(k.channels.empty() ? 0 : k.channels[0]); break;
    case 4: send(k); break;
    case 5: join_channel(k, pick(channel_count)); break;
    case 6: leave_channel(k, k.channels.empty() ? 0 : k.channels[0]); break;
    case 7:
    case 8:
      if (k.conn.open) hub_->close(k.conn.session);
      break;
    case 9: hub_->revoke(user_name(pick(user_count))); break;
    case 10: finish(k); break;
    case 11:
      if (chance(4)) seal(pick(channel_count));
      break;
    case 12:
      if (chance(20)) hub_->close_all();
      break;
    case 13:
      if (chance(150)) hub_->drain({.deadline = sse::duration::seconds(3)});
      break;
  }
  --hook_depth_;
}

/// A hook inside a flush asks the hub for something: that must be refused.
template <class Transport>
void world<Transport>::ask_in_flush() {
  if (!features_.flush_hooks_refused || quiet_ || !chance(200)) return;
  ++hook_calls;
  const int c = pick(channel_count);
  switch (random_.below(6)) {
    case 4:
      if (hub_->seal(channels_[at(c)])) wrong("a hook inside a flush could seal");
      break;
    case 5: {
      client& k = any_client();
      if (k.conn.open && hub_->join(k.conn.session, channels_[at(c)]) == sse::join_error::none)
        wrong("a hook inside a flush could join");
      if (k.conn.open && hub_->leave(k.conn.session, channels_[at(c)]))
        wrong("a hook inside a flush could leave");
      break;
    }
    case 0:
      if (channels_[at(c)] && channels_[at(c)].publish({.type = "e", .data = "from a hook"}))
        wrong("a hook inside a flush could publish");
      break;
    case 1:
      if (hub_->revoke(user_name(pick(user_count))) != 0)
        wrong("a hook inside a flush could revoke");
      break;
    case 2: {
      client& k = any_client();
      if (k.conn.open && hub_->send(k.conn.session, {.data = "x"}) == sse::publish_error::none)
        wrong("a hook inside a flush could send");
      break;
    }
    default: {
      client& k = any_client();
      const bool alive = k.conn.open && hub_->alive(k.conn.session);
      if (k.conn.open) hub_->close(k.conn.session);
      if (alive && !hub_->alive(k.conn.session)) wrong("a hook inside a flush could close");
    }
  }
}

/// An archive of all that was ever published there.
template <class Transport>
sse::backfill_state world<Transport>::on_backfill(int c, const sse::backfill_request& r,
                                                  sse::backfill_writer& w) {
  ask_in_flush();
  client* k = owner(r.session);
  if (k == nullptr || r.after >= r.before || r.room == 0) {
    wrong("a strange backfill request");
    return sse::backfill_state::lost;
  }
  ++backfills;
  log_.add("backfill", k->number, static_cast<std::int64_t>(r.after));
  if (chance(5)) {
    k->conn.waits = true;
    return sse::backfill_state::wait;
  }
  if (chance(40)) return sse::backfill_state::lost;
  if (chance(8)) return sse::backfill_state::more;
  const channel_book& b = book_.at(c);
  std::uint32_t i = book_.row_above(c, r.after);
  for (; i < b.rows.size(); ++i) {
    const published& e = book_.row(c, i);
    if (e.id >= r.before) break;
    if (!judge_.visible(*k, e)) continue;
    if (w.bytes() >= r.room || (w.bytes() != 0 && chance(10))) return sse::backfill_state::more;
    const std::string data = book_.data_of(b.rows[i]);
    if (!w.add(e.id, {.type = "e", .data = data})) {
      wrong("a backfill event was refused");
      return sse::backfill_state::lost;
    }
  }
  return sse::backfill_state::done;
}

}  // namespace simulation
