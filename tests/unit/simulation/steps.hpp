// The steps of a run, and what must hold after each and at the end.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include <sse/sse.hpp>

#include "streams.hpp"

namespace simulation {

template <class Transport>
void world<Transport>::step() {
  client& k = any_client();
  switch (random_.below(44)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5: connect(k); break;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
    case 12: deliver(k); break;
    case 13:
    case 14:
    case 15: flush(); break;
    case 16:
      if (chance(2)) settle();
      break;
    case 17: tick(static_cast<std::int64_t>(random_.below(3000))); break;
    case 18:
      if (chance(20)) {
        tick(static_cast<std::int64_t>(random_.below(60'000)));
      } else if (chance(100)) {
        jump();
      }
      break;
    case 19:  // the peer goes
      if (k.conn.open && chance(3)) {
        log_.add("peer gone", k.number);
        hub_->closed(k.conn.session);
      }
      break;
    case 20:  // it goes, and only a write finds out
      if (k.conn.open && chance(3)) peer(k).fails = true;
      break;
    case 21:  // it stalls
      if (k.conn.open) peer(k).window = 0;
      break;
    case 22: send(k); break;
    case 23:
      if (chance(10)) revoke(k.user);
      break;
    case 24:
      if (k.conn.open && chance(10)) {
        finish(k);
      }
      break;
    case 25:
      if (chance(200)) drain();
      break;
    case 26:
      if (chance(150)) restart();
      break;
    case 27: complete_zombies(); break;
    case 28:
      if (chance(12)) close_channel(pick(channel_count));
      break;
    case 29:
      if (chance(3)) reopen_channels();
      break;
    case 30: use_old_handles(); break;
    case 31:
      if (chance(10)) publish_badly();
      break;
    case 32: {  // a burst, at best where somebody who is open does not read
      const bool somewhere = k.channels.empty() || chance(3);
      const int c = somewhere ? pick(channel_count) : k.channels[0];
      if (k.conn.open && chance(2)) peer(k).window = 0;
      for (std::uint64_t n = random_.below(chance(10) ? 400 : 40); n > 0; --n) publish_to(c);
      flush();
      break;
    }
    case 33: join_channel(k, chance(4) ? pick(channel_count) : may_join(k)); break;
    case 34:
      if (!k.channels.empty()) leave_channel(k, k.channels[random_.below(k.channels.size())]);
      break;
    case 35:
      if (chance(20)) seal(pick(channel_count));
      break;
    default: publish(); break;
  }
  sync();
  forget_closed();
  check();
  if (hub_->draining()) drain();  // a hook began it
}

template <class Transport>
bool world<Transport>::flush_hub() {
  held_before_ = hub_->stats().log_bytes;
  return hub_->flush();
}

template <class Transport>
void world<Transport>::flush() {
  log_.add("flush");
  flush_hub();
  sync();
  for (client& k : clients_) {
    if constexpr (completes) {
      if (k.conn.open && k.conn.peeked.empty() && chance(2)) deliver(k);
    }
    if (k.conn.open && !peer(k).received.empty() && chance(2)) read(k, random_.below(4000));
  }
}

/// Everybody gets all that can be sent, and reads it: who can take more has nothing to wait for.
template <class Transport>
void world<Transport>::settle() {
  log_.add("settle");
  serial before = 0;
  std::uint64_t calls = 0;
  int turns = 0;
  do {  // what a hook publishes at the end of a flush goes out with the next one
    before = book_.last();
    calls = hook_calls;
    if (++turns == 100'000) fail("flush has always more to do");
  } while (flush_hub() || book_.last() != before || hook_calls != calls);
  sync();
  for (client& k : clients_) {
    if (!k.conn.open) continue;
    read(k, SIZE_MAX);
    if (!takes_all(k)) continue;
    judge_.caught_up(k);
    if (!k.conn.retry_only && all_sealed(k.channels)) fail("a stream outlived its sealed channels");
    check_deadlines(k);
  }
}

template <class Transport>
bool world<Transport>::takes_all(const client& k) {
  const sse::testing::peer& p = peer(k);
  return !k.conn.waits && p.window != 0 && p.in_flight_bytes == 0 && k.conn.peeked.empty();
}

template <class Transport>
void world<Transport>::check_deadlines(const client& k) {
  const sse::duration age = options_.max_age;
  if (!age.is_off() && now_ - k.conn.opened_at > age.ms()) fail("a stream outlived max_age");
  if (k.conn.retry_only) fail("a retry stream that does not end");
  for (const joined& j : k.conn.channels) {
    if (j.left) continue;
    // One that could take nothing is looked at again within a period of when it could. Mostly what
    // waited for it comes at once; not if it was of a channel that the stream left meanwhile.
    const std::int64_t since = std::max({k.conn.last_bytes_at, k.conn.writable_at, j.joined_at});
    const sse::heartbeat_options& h = channels_[at(j.channel)].options()->heartbeat;
    if (h.mode == sse::heartbeat_options::pace::idle && now_ - since > h.every.ms())
      fail("an idle stream without a heartbeat, of client " + std::to_string(k.number));
  }
}

template <class Transport>
void world<Transport>::jump() {
  const std::int64_t most = features_.long_jumps ? 200 * day : 20 * day;
  tick(static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(most))));
  settle();
}

template <class Transport>
void world<Transport>::revoke(int user) {
  if (user < 0) return;
  log_.add("revoke", user);
  std::size_t expected = 0;
  for (const live_session& s : sessions_) expected += s.user == user && s.counted ? 1U : 0U;
  if (hub_->user_sessions(user_name(user)) != expected) fail("user_sessions");
  quiet_ = true;
  const std::size_t n = hub_->revoke(user_name(user));
  quiet_ = false;
  if (n != expected) fail("revoke ended another number of streams");
  if (hub_->user_sessions(user_name(user)) != 0) fail("a revoked user still counts");
  for (client& k : clients_) {
    if (k.conn.open && k.user == user && !k.conn.retry_only && !peer(k).is_closed)
      fail("a stream of a revoked user");
  }
}

/// Handles of sessions that are no more name nobody.
template <class Transport>
void world<Transport>::use_old_handles() {
  client& k = any_client();
  if (k.conn.open) {
    old_.push_back(k.conn.session);
    if (old_.size() > 20) old_.erase(old_.begin());
    return;
  }
  if (old_.empty()) return;
  const sse::session_id id = old_[random_.below(old_.size())];
  const client* now = owner(id);
  if (now != nullptr && now->conn.open) return;
  for (const zombie& z : zombies_) {
    if (z.session == id) return;
  }
  if (hub_->alive(id) || hub_->user(id) != nullptr || hub_->find(id) != nullptr)
    fail("an old handle names somebody");
  hub_->writable(id);
  hub_->written(id, 5);
  hub_->finish(id);
  hub_->close(id);
  hub_->closed(id);
  if (hub_->send(id, {.data = "x"}) != sse::publish_error::no_session) fail("send to nobody");
}

template <class Transport>
void world<Transport>::finish(client& k) {
  if (!k.conn.open) return;
  log_.add("finish", k.number);
  k.conn.finish_asked = true;
  hub_->finish(k.conn.session);
}

template <class Transport>
void world<Transport>::drain() {
  log_.add("drain");
  hub_->drain({.deadline = sse::duration::seconds(3), .farewell = {.type = "bye"}});
  for (int i = 0; i < 5; ++i) {
    for (client& k : clients_) deliver(k);
    flush();
  }
  tick(3001);
  flush_hub();
  sync();
  complete_zombies();
  for (client& k : clients_) {
    if (k.conn.open) fail("a stream outlived the drain's deadline");
  }
  if (!hub_->drained() || hub_->sessions() != 0) fail("not drained");
  restart();
}

template <class Transport>
void world<Transport>::restart() {
  log_.add("restart");
  for (client& k : clients_) {
    if (k.conn.open && chance(2)) read(k, SIZE_MAX);
  }
  for (int c = 0; c < channel_count; ++c) {
    if (channels_[at(c)]) last_head_[at(c)] = channels_[at(c)].last_id();
    if (last_head_[at(c)] > first_id_) first_id_ = last_head_[at(c)];
  }
  stop_hub();
  start_hub();
}

template <class Transport>
void world<Transport>::stop_hub() {
  quiet_ = true;
  hub_.reset();
  quiet_ = false;
  zombies_.clear();
  old_.clear();
  for (client& k : clients_) k.conn.peeked.clear();
  sync();
  if (!sessions_.empty()) fail("a session outlived its hub");
  zombies_.clear();
  channels_ = {};
  facts_.options = {};
  net_.reset();
}

template <class Transport>
void world<Transport>::check() {
  if (hub_->sessions() > 20) fail("more sessions than the total cap");
  if (++checks_ % 16 != 0) return;
  for (int u = 0; u < user_count; ++u) {
    for (int c = 0; c < channel_count; ++c) {
      if (present_[at(u)][at(c)] != (joined_[at(u)][at(c)] != 0))
        fail("presence of " + user_name(u) + " in " + shapes[c].name + " is wrong");
    }
  }
  std::uint64_t bound = options_.max_backlog + (std::uint64_t{3} << 20);
  for (int c = 0; c < channel_count; ++c) {
    if (!channels_[at(c)]) continue;
    bound += 2 * book_.at(c).kept_bytes + 4 * channels_[at(c)].options()->max_lag % (1U << 20) +
             (64 << 10);
  }
  if (hub_->stats().log_bytes > bound)
    fail("the logs hold " + std::to_string(hub_->stats().log_bytes));
}

/// Every client comes back once and gets all that it may; then all go and nothing stays behind.
template <class Transport>
void world<Transport>::end() {
  for (int c = 0; c < channel_count; ++c) {
    if (!channels_[at(c)]) open_channel(c);
  }
  quiet_ = true;
  for (client& k : clients_) {
    connect(k);
    quiet_ = true;
  }
  for (int round = 0; round < 40; ++round) {
    for (client& k : clients_) {
      if (!k.conn.open) continue;
      peer(k).max_write = SIZE_MAX;
      for (int i = 0; i < 3 && k.conn.open && !peer(k).is_closed; ++i) deliver(k);
      if (k.conn.open && chance(2)) peer(k).window = SIZE_MAX;
    }
    settle();
  }
  for (client& k : clients_) {
    if (k.conn.open) hub_->closed(k.conn.session);
  }
  sync();
  complete_zombies();
  for (int c = 0; c < channel_count; ++c) close_channel(c);
  flush_hub();
  const sse::hub_stats s = hub_->stats();
  std::uint64_t closed = 0;
  for (const std::uint64_t n : s.closed) closed += n;
  if (s.sessions != 0 || closed != s.accepted)
    fail("slots leaked: " + std::to_string(s.sessions) + " open, " + std::to_string(s.accepted) +
         " accepted, " + std::to_string(closed) + " closed");
  const std::uint64_t before = live_heap();
  hub_.reset();
  const std::uint64_t held = before - live_heap();
  if (before != 0 && held > most_held)
    fail("an empty hub holds " + std::to_string(held) + " bytes");
}

}  // namespace simulation
