// Streams: how clients come, read, and are cut.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "hooks.hpp"

namespace simulation {

template <class Transport>
void world<Transport>::choose_channels(client& k) {
  k.channels.clear();
  if (chance(2)) {
    k.channels.push_back(pick(channel_count));
    return;
  }
  const std::uint64_t wanted = 2 + random_.below(4);
  for (int c = 0; c < first_own; ++c) {
    if (random_.below(first_own) < wanted) k.channels.push_back(c);
  }
  if (k.channels.empty()) k.channels.push_back(0);
  if (chance(2)) std::swap(k.channels.front(), k.channels.back());
}

/// What the caps say of one more stream, and who has to go for it.
template <class Transport>
admission world<Transport>::expect(const client& k, std::vector<client*>& victims) const {
  if (hub_->draining()) return admission::refuse;
  const sse::limits& caps = options_.caps;
  const auto full = [](const sse::cap& c) {
    return c.then == sse::when_full::retry_stream ? admission::retry : admission::refuse;
  };
  std::size_t total = 0;
  for (const live_session& s : sessions_) total += s.counted ? 1U : 0U;
  if (caps.total.then != sse::when_full::evict_oldest && total >= caps.total.max)
    return full(caps.total);
  if (caps.per_address.then != sse::when_full::evict_oldest &&
      caps.per_user.then != sse::when_full::evict_oldest) {
    std::size_t there = 0;
    for (const live_session& s : sessions_) there += s.counted && s.address == k.address ? 1U : 0U;
    if (there >= caps.per_address.max) return full(caps.per_address);
  }
  for (const int c : k.channels) {
    sse::channel where = channels_[at(c)];
    if (where.options()->max_subscribers != 0 &&
        where.subscribers() >= where.options()->max_subscribers)
      return admission::refuse;
  }
  const auto fits = [&](const sse::cap& c, auto counts) {
    std::size_t n = 0;
    client* oldest = nullptr;
    for (const live_session& s : sessions_) {
      if (!s.counted || !counts(s)) continue;
      if (oldest == nullptr) oldest = s.who;
      bool goes = false;
      for (const client* v : victims) goes = goes || v == s.who;
      if (!goes) ++n;
    }
    if (n < c.max) return true;
    if (c.then != sse::when_full::evict_oldest) return false;
    victims.push_back(oldest);
    return true;
  };
  if (k.user >= 0 && !fits(caps.per_user, [&](const live_session& s) { return s.user == k.user; }))
    return full(caps.per_user);
  if (!fits(caps.per_address, [&](const live_session& s) { return s.address == k.address; }))
    return full(caps.per_address);
  if (!fits(caps.total, [](const live_session&) { return true; })) return full(caps.total);
  return admission::open;
}

template <class Transport>
sse::verdict<user_data> world<Transport>::take_verdict() {
  auto v = sse::admit(user_data{accepting_->user}, user_name(accepting_->user));
  for (const int c : accepting_->channels) v.join(channels_[at(c)]);
  if (how_.start_given) (void)std::move(v).start(how_.start);  // they give `v` itself back
  if (how_.newest != 0) (void)std::move(v).backlog(how_.newest);
  if (how_.by_verdict) (void)std::move(v).after(how_.after);
  return v;
}

template <class Transport>
void world<Transport>::connect(client& k) {
  if (k.conn.open) return;
  if (k.channels.empty() || (chance(k.has_position ? 30 : 3))) {
    k.forget();
    choose_channels(k);
  }
  for (const int c : k.channels) {
    if (!channels_[at(c)]) return;
  }
  how_ = {};
  sse::channel first = channels_[at(k.channels[0])];
  bool numbered = false;
  for (const int c : k.channels) numbered = numbered || ids_of(c) != id_mode::none;
  if (!numbered) k.forget();
  const std::uint64_t head = first.last_id();
  if (!k.has_position && numbered && chance(6)) adopt_position(k, head);
  how_.resume = k.has_position;
  how_.after = k.last;
  how_.numbered = numbered;
  if (!k.has_position || !numbered) {
    if (chance(6)) {
      how_.newest = 1 + random_.below(20);
    } else if (chance(k.channels.size() > 1 ? 2 : 4)) {
      how_.start_given = true;
      how_.start = static_cast<sse::start_at>(random_.below(2));
    }
  }
  const std::size_t peer_index = net_->connect();
  sse::testing::peer& p = net_->at(peer_index);
  if (chance(3)) p.window = random_.below(4000);
  if (chance(4)) p.max_write = 1 + random_.below(chance(2) ? 300 : 20);
  const bool apart = k.values < k.last;
  const std::string number =
      std::to_string(k.last) + (apart ? "-" + std::to_string(k.values) : std::string{});
  const std::string query = "last_id=" + number;
  const std::string address = "10.0.0." + std::to_string(k.address);
  const sse::header h[] = {{"Last-Event-ID", number}};
  sse::request r{.address = address, .preamble = "HEAD\n"};
  if (how_.resume) {
    switch (random_.below(3)) {
      case 0: r.query = query; break;
      case 1: how_.by_verdict = k.last != 0 && !apart; [[fallthrough]];
      default: r.headers = h;
    }
  }
  k.conn = {};
  k.conn.peer = peer_index;
  k.conn.chunked = k.conn.frames.padded = r.chunked = chance(3);
  k.conn.head_left = r.preamble.size();
  k.conn.resumed = how_.resume;
  k.conn.resumed_from = k.last;
  k.conn.owed_position = options_.position && numbered && (!how_.resume || how_.by_verdict);
  k.conn.accepting = true;
  log_.add("connect", k.number, static_cast<std::int64_t>(k.last));

  victims_.clear();
  const bool may_have_all = all_sealed(k.channels) && !something_comes(k);
  const bool has_all = may_have_all && surely_nothing_comes(k);
  const admission expected = expect(k, victims_);
  if (expected != admission::open) victims_.clear();  // nobody goes unless all caps are met
  how_.retry_only = expected == admission::retry;
  evicted_now_.clear();
  quiet_ = chance(2);
  accepting_ = &k;
  const sse::accept_result result =
      chance(2) ? hub_->accept({peer_index}, r) : hub_->accept({peer_index}, r, take_verdict());
  accepting_ = nullptr;
  k.conn.accepting = false;
  const bool watched = quiet_;
  quiet_ = false;
  if (result.refusal.status == 204) {
    if (expected != admission::open || !may_have_all)
      fail("204 for client " + std::to_string(k.number) + ", who does not have everything");
    if (watched && !evicted_now_.empty()) fail("somebody was evicted for one that has everything");
    ++told_that_all_is_there;
    k.conn = {};
    k.channels.clear();  // it stays away
    k.forget();
    return;
  }
  if (has_all && expected == admission::open) fail("who has everything was not told so");
  if (static_cast<bool>(result) != (expected != admission::refuse))
    fail("accept: another verdict than that of the caps, " + std::to_string(result.refusal.status));
  if (result && !(result.id == k.conn.session)) fail("accept: a wrong id");
  if (watched && !result && !evicted_now_.empty()) fail("somebody was evicted for nobody");
  if (watched && result && evicted_now_ != victims_)
    fail("not the oldest were evicted, " + std::to_string(evicted_now_.size()) + " instead of " +
         std::to_string(victims_.size()));
  evicted += evicted_now_.size();
  if (result && how_.resume) ++reconnects;
  if (!result) k.conn.open = false;
}

/// It brings an id that it has from somewhere else.
template <class Transport>
void world<Transport>::adopt_position(client& k, std::uint64_t head) {
  k.forget();
  k.has_position = true;
  switch (random_.below(4)) {
    case 0: k.last = 0; break;
    case 1: k.last = head + 1 + random_.below(100); break;
    default: k.last = random_.below(head + 1); break;
  }
  for (const int c : k.channels) {
    const std::uint64_t reopened_at = book_.at(c).reopened_at;
    if (!features_.reopened_goes_on && k.last != 0 && k.last < reopened_at) k.last = reopened_at;
  }
  k.values = k.last;
  k.scan = book_.above(k.channels[0], k.last);
  for (const int c : k.channels) {
    k.values_owed[at(c)] = false;
    k.floor[at(c)] = 0;
  }
}

template <class Transport>
bool world<Transport>::all_sealed(const std::vector<int>& channels) const {
  for (const int c : channels) {
    if (!channels_[at(c)] || !sealed_[at(c)]) return false;
  }
  return !channels.empty();
}

/// Of channels that are sealed: an event that this client asks for and may see, or a loss that it
/// has to be told of.
template <class Transport>
bool world<Transport>::something_comes(const client& k) {
  for (const int c : k.channels) {
    const channel_book& b = book_.at(c);
    const auto end = static_cast<std::uint32_t>(b.rows.size());
    std::uint32_t from = end;
    const sse::start_at start = how_.start_given ? how_.start : channels_[at(c)].options()->start;
    if (how_.resume && shapes[c].ids != id_mode::none) {
      if (k.last > channels_[at(c)].last_id()) return true;
      from = k.last == 0 ? b.retained : book_.row_above(c, k.last);
    } else if (how_.newest != 0) {
      from = end - b.retained > how_.newest ? end - static_cast<std::uint32_t>(how_.newest)
                                            : b.retained;
    } else if (start == sse::start_at::all) {
      from = b.retained;
    } else if (start == sse::start_at::snapshot &&
               b.values <= judge::values_kept(plain_options_[at(c)])) {
      for (const auto& by_audience : b.newest) {
        for (const serial s : by_audience) {
          if (s != 0 && judge_.visible(k, book_[s])) return true;
        }
      }
    }
    for (; from < end; ++from) {
      if (judge_.visible(k, book_.row(c, from))) return true;
    }
  }
  return false;
}

/// It brings the id of the last event, or one behind it.
template <class Transport>
bool world<Transport>::surely_nothing_comes(const client& k) {
  if (!how_.resume || k.last == 0 || k.values < k.last) return false;
  for (const int c : k.channels) {
    const channel_book& b = book_.at(c);
    if (shapes[c].ids == id_mode::none || k.last < b.reopened_at ||
        book_.row_above(c, k.last) != b.rows.size())
      return false;
  }
  return true;
}

/// Inside accept: from here on everything that is published is owed.
template <class Transport>
void world<Transport>::session_begins(std::size_t peer_index, sse::session_id id) noexcept {
  if (accepting_ == nullptr || accepting_->conn.peer != peer_index)
    return wrong("a session that nobody asked for");
  client& k = *accepting_;
  connection& n = k.conn;
  n.open = true;
  n.session = id;
  n.opened_at = n.last_bytes_at = now_;
  n.retry_only = how_.retry_only;
  if (id.slot >= by_slot_.size()) by_slot_.resize(id.slot + 1);
  by_slot_[id.slot] = &k;
  sessions_.push_back({&k, k.user, k.address, !n.retry_only});
  if (n.retry_only) return;
  n.ahead = how_.resume && how_.numbered && k.last > channels_[at(k.channels[0])].last_id();
  if (n.ahead) {
    for (const int c : k.channels) k.floor[at(c)] = book_.last();
    for (const int c : k.channels) k.values_owed[at(c)] = false;
    k.scan = book_.sequence(k.channels[0]).size();
  } else if (how_.resume) {
    const std::size_t past = book_.above(k.channels[0], k.last);
    if (past > k.scan) k.scan = past;
  }
  n.beats_allowed = 20 * (k.channels.size() + 1);
  for (const int c : k.channels) {
    joined& j = add_joined(k, c);
    j.asks_archive = shapes[c].archive;
    if (j.asks_archive) n.ordered = false;
  }
  judge_.begin(k, how_.start_given ? &how_.start : nullptr, how_.newest);
}

template <class Transport>
joined& world<Transport>::add_joined(client& k, int c) {
  const sse::channel_options& o = *channels_[at(c)].options();
  joined j;
  j.channel = c;
  j.joined_at = now_;
  j.on_lag = o.on_lag;
  j.keyed = o.max_keys != 0;
  j.beats = o.heartbeat.mode == sse::heartbeat_options::pace::fixed;
  j.over_transient = j.beats;
  if (o.on_lag == sse::lag_policy::coalesce || o.start == sse::start_at::snapshot)
    k.conn.ordered = false;
  if (k.user >= 0) ++joined_[at(k.user)][at(c)];
  if (ids_of(c) != id_mode::none) {
    k.conn.numbered = true;
    k.conn.sequence = sequence_of(c);
  }
  k.conn.channels.push_back(j);
  return k.conn.channels.back();
}

template <class Transport>
void world<Transport>::session_ends(std::size_t peer_index, sse::close_reason why) noexcept {
  for (std::size_t i = 0; i < sessions_.size(); ++i) {
    client& k = *sessions_[i].who;
    if (k.conn.peer != peer_index || !k.conn.open) continue;
    if (k.user >= 0 && !k.conn.retry_only) {
      for (const joined& j : k.conn.channels) joined_[at(k.user)][at(j.channel)] -= j.left ? 0 : 1;
    }
    if (why == sse::close_reason::evicted && accepting_ == nullptr)
      wrong("evicted without a newcomer");
    // the peer of one that is to be evicted may turn out to be gone
    if (accepting_ != nullptr && &k != accepting_) evicted_now_.push_back(&k);
    if (why == sse::close_reason::no_memory) wrong("memory is out");
    if (why == sse::close_reason::hub_full && held_before_ <= options_.max_backlog)
      wrong("closed for memory that is not held");
    if (why == sse::close_reason::lag) {
      bool late = false;
      for (const joined& j : k.conn.channels)
        late = late || (!j.left && (j.over || j.over_transient));
      if (!late) wrong("closed for a lag that it never had");
    }
    sessions_.erase(sessions_.begin() + static_cast<std::ptrdiff_t>(i));
    return;
  }
  wrong("a session ended that nobody had");
}

template <class Transport>
void world<Transport>::wrong(const char* what) noexcept {
  if (wrong_.empty()) wrong_ = what;
}

/// The client takes `n` bytes off its socket.
template <class Transport>
void world<Transport>::read(client& k, std::size_t n) {
  connection& c = k.conn;
  std::string& got = peer(k).received;
  if (n > got.size()) n = got.size();
  if (n == 0) return;
  std::size_t on_its_way = 0;  // when it left a channel
  for (const joined& j : c.channels) {
    if (j.on_its_way != 0 && (on_its_way == 0 || j.on_its_way < on_its_way))
      on_its_way = j.on_its_way;
  }
  if (on_its_way != 0 && n > on_its_way) {
    read(k, on_its_way);
    return read(k, n - on_its_way);
  }
  c.last_bytes_at = now_;
  std::string taken = n == got.size() ? std::exchange(got, {}) : got.substr(0, n);
  if (!got.empty()) got.erase(0, n);
  std::string_view bytes = taken;
  const std::size_t head = bytes.size() < c.head_left ? bytes.size() : c.head_left;
  if (bytes.substr(0, head) != std::string_view("HEAD\n").substr(5 - c.head_left, head))
    fail("a broken response head");
  c.head_left -= head;
  bytes.remove_prefix(head);
  std::string body;
  if (c.chunked) {
    c.chunks.feed(bytes, body);
    bytes = body;
  }
  c.frames.feed(bytes, [&](const frame& f) { judge_.on_frame(k, f); });
  judge_.took_what_was_on_its_way(k, n);
}

/// The stream is over. Cut anywhere: what was not read yet may be lost.
template <class Transport>
void world<Transport>::end_stream(client& k) {
  sse::testing::peer& p = peer(k);
  const bool whole = p.received.empty() || chance(2);
  read(k, whole ? SIZE_MAX : random_.below(p.received.size()));
  const bool clean = p.why == sse::close_reason::finished || p.why == sse::close_reason::age ||
                     p.why == sse::close_reason::idle;
  if (whole && clean) {
    if (k.conn.frames.inside()) fail("a clean end inside an event");
    if (features_.skipped_ends_cleanly && k.conn.chunked && !k.conn.chunks.ended())
      fail("a clean end without the last chunk");
    if (p.why == sse::close_reason::finished && !k.conn.finish_asked && !k.conn.retry_only) {
      if (!all_sealed(k.channels)) fail("a stream ended that nobody ended");
      judge_.caught_up(k);
      ++ended_by_seal;
    }
  }
  if (k.conn.moves_later) k.forget();
  if (p.in_flight_bytes != 0 || !k.conn.peeked.empty())
    zombies_.push_back({k.conn.peer, k.conn.session, std::move(k.conn.peeked)});
  std::string().swap(p.received);
  k.conn = {};
}

/// Sees who was closed.
template <class Transport>
void world<Transport>::sync() {
  for (client& k : clients_) {
    if (k.conn.open && peer(k).is_closed) end_stream(k);
  }
  if (!wrong_.empty()) fail(wrong_);
}

template <class Transport>
void world<Transport>::take_peeked(const std::vector<sse::buffer>& peeked, std::size_t n,
                                   std::string& to) {
  for (const sse::buffer& b : peeked) {
    const std::size_t part = b.size < n ? b.size : n;
    to.append(b.data, part);
    n -= part;
  }
}

/// Its other channels, or those that it left, have ids of another sequence than channel `c`.
template <class Transport>
bool world<Transport>::in_another_sequence(const client& k, int c) const {
  for (const int other : k.channels) {
    if (sequence_of(other) != sequence_of(c)) return true;
  }
  return k.conn.numbered && ids_of(c) != id_mode::none && k.conn.sequence != sequence_of(c);
}

/// A join was refused: for that reason?
template <class Transport>
void world<Transport>::judge_refusal(client& k, int c, const sse::join_start& from,
                                     sse::join_error e) {
  const connection& n = k.conn;
  bool fits = false;
  switch (e) {
    case sse::join_error::no_session:  // gone, or ending
      fits = !hub_->alive(n.session) || n.finish_asked || all_sealed(k.channels) ||
             hub_->draining() || !options_.max_age.is_off() || !options_.idle.is_off();
      break;
    case sse::join_error::sealed: fits = sealed_[at(c)]; break;
    case sse::join_error::joined: fits = k.find(c) != nullptr; break;
    case sse::join_error::another_sequence:
      fits = in_another_sequence(k, c) || (n.numbered && n.sequence == c);  // it left that one
      break;
    case sse::join_error::moved_on:
      fits = n.numbered && ids_of(c) != id_mode::none &&
             (from.start != sse::start_at::live || from.backlog != 0 ||
              from.after < channels_[at(c)].last_id());
      break;
    case sse::join_error::full: fits = channels_[at(c)].options()->max_subscribers != 0; break;
    default: break;
  }
  if (!fits) wrong("a join was refused for another reason");
}

/// Where a live stream begins on a channel: often with the next event.
template <class Transport>
sse::join_start world<Transport>::any_start(int c) {
  if (chance(2)) return {};
  const channel_book& b = book_.at(c);
  switch (random_.below(3)) {
    case 0: return {.backlog = 1 + random_.below(20)};
    case 1: return {.start = static_cast<sse::start_at>(random_.below(3))};
    default: break;
  }
  if (ids_of(c) == id_mode::none) return {};
  if (b.retained == b.rows.size() || chance(2)) return {.after = channels_[at(c)].last_id()};
  const auto n = static_cast<std::uint32_t>(random_.below(b.rows.size() - b.retained));
  return {.after = book_.row(c, b.retained + n).id};
}

/// A channel that a stream may join, if one is soon found.
template <class Transport>
int world<Transport>::may_join(const client& k) {
  int c = pick(channel_count);
  for (int tries = 0; tries < 8; ++tries, c = pick(channel_count)) {
    if (channels_[at(c)] && !sealed_[at(c)] && !in_another_sequence(k, c) &&
        std::find(k.channels.begin(), k.channels.end(), c) == k.channels.end())
      break;
  }
  return c;
}

/// A live stream joins one more channel.
template <class Transport>
void world<Transport>::join_channel(client& k, int c) {
  if (!k.conn.open || k.conn.retry_only || !channels_[at(c)]) return;
  log_.add("join", k.number, c);
  book_.trim(c, *channels_[at(c)].options(), now_);  // a hook may call inside tick
  const bool refused = k.find(c) != nullptr || !hub_->alive(k.conn.session) || sealed_[at(c)] ||
                       in_another_sequence(k, c);
  const client before = k;
  joined& j = add_joined(k, c);  // hooks may publish inside join
  k.conn.beats_allowed += 20;
  k.channels.push_back(c);
  const sse::join_start from = any_start(c);
  judge_.joins(k, j, from, options_.position);
  if (from.start == sse::start_at::snapshot) k.conn.ordered = false;
  if (from.start != sse::start_at::live || from.backlog != 0 || from.after != sse::unsaid_id)
    ++k.conn.may_run_back;
  const sse::join_error e = hub_->join(k.conn.session, channels_[at(c)], from);
  if (e != sse::join_error::none) {
    k = before;
    if (k.user >= 0) --joined_[at(k.user)][at(c)];
    return judge_refusal(k, c, from, e);
  }
  if (refused) return wrong("a join that should have been refused");
  ++joins;
}

/// A live stream leaves a channel.
template <class Transport>
void world<Transport>::leave_channel(client& k, int c) {
  if (!k.conn.open || k.conn.retry_only || !channels_[at(c)]) return;
  joined* const j = k.find(c);
  const bool leaves_it = j != nullptr && hub_->alive(k.conn.session);
  log_.add("leave", k.number, c);
  if (leaves_it) {
    const sse::testing::peer& p = peer(k);
    std::size_t on_its_way = p.received.size() + p.in_flight_bytes;
    for (const sse::buffer& b : k.conn.peeked) on_its_way += b.size;
    judge_.leaves(k, *j, on_its_way);
    if (all_sealed(k.channels)) k.conn.finish_asked = true;  // it is ending
    std::erase(k.channels, c);
    if (k.user >= 0) --joined_[at(k.user)][at(c)];
    ++leaves;
  }
  if (hub_->leave(k.conn.session, channels_[at(c)]) != leaves_it)
    wrong("leave: it had joined, or it had not");
}

/// The client's socket takes bytes.
template <class Transport>
void world<Transport>::deliver(client& k) {
  if (!k.conn.open) return;
  sse::testing::peer& p = peer(k);
  const sse::session_id id = k.conn.session;
  log_.add("deliver", k.number);
  if constexpr (completes) {
    if (!k.conn.peeked.empty()) {
      std::size_t all = 0;
      for (const sse::buffer& b : k.conn.peeked) all += b.size;
      const std::size_t n = chance(3) ? random_.below(all + 1) : all;
      take_peeked(k.conn.peeked, n, p.received);
      k.conn.peeked.clear();
      judge_.nothing_else_is_on_its_way(k, p.received.size());
      k.conn.waits = false;
      hub_->consume(id, n);
    } else if (p.in_flight_bytes != 0) {
      if (chance(3)) hub_->writable(id);  // means nothing while a write is pending
      if (chance(4)) return;
      const std::size_t n = chance(3) ? random_.below(p.in_flight_bytes + 1) : SIZE_MAX;
      k.conn.waits = false;
      const std::size_t taken = net_->complete(k.conn.peer, n);
      judge_.nothing_else_is_on_its_way(k, p.received.size());
      hub_->written(id, taken);
    } else if (chance(3)) {
      sse::buffer room[8];
      const std::size_t n = hub_->peek(id, {room, 1 + random_.below(8)});
      if (k.conn.open && !p.is_closed) k.conn.peeked.assign(room, room + n);
      return;
    }
  }
  if (p.window == 0) k.conn.writable_at = now_;
  p.window = chance(4)
                 ? SIZE_MAX
                 : (p.window > SIZE_MAX - 5000 ? p.window
                                               : p.window + random_.below(chance(2) ? 5000 : 60));
  if (p.window != 0) {
    k.conn.waits = false;
    hub_->writable(id);
  }
  read(k, random_.below(6000));
}

template <class Transport>
void world<Transport>::complete_zombies() {
  if constexpr (completes) {
    for (zombie& z : zombies_) {
      std::string scratch;
      if (net_->at(z.peer).in_flight_bytes != 0) {
        hub_->written(z.session, net_->complete(z.peer, chance(2) ? SIZE_MAX : 0));
      } else {
        take_peeked(z.peeked, SIZE_MAX, scratch);  // they must live until now
        hub_->consume(z.session, chance(2) ? scratch.size() : 0);
      }
      std::string().swap(net_->at(z.peer).received);
    }
    zombies_.clear();
  }
}

}  // namespace simulation
