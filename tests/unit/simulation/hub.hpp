// The hub of the simulation and its channels: opened, closed, their time, what they retain.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <sse/sse.hpp>

#include "world.hpp"

namespace simulation {

template <class Transport>
void world<Transport>::start_hub() {
  first_id_ += chance(3) ? 0 : random_.below(1000);
  net_ = std::make_unique<Transport>(static_cast<observer&>(*this));
  facts_.groups = chance(2);
  all_given_ = chance(6);
  sse::hub_options o{};
  o.caps.total = {.max = 20, .then = any_full(), .status = 503};
  o.caps.per_user = {.max = 2 + static_cast<std::uint32_t>(random_.below(3)), .then = any_full()};
  o.caps.per_address = {.max = 3 + static_cast<std::uint32_t>(random_.below(6)),
                        .then = any_full()};
  if (chance(8)) {  // tight: one newcomer may cost two
    o.caps.per_user = {.max = 1, .then = sse::when_full::evict_oldest};
    o.caps.per_address = {.max = 2, .then = sse::when_full::evict_oldest};
  }
  o.first_id = first_id_;
  o.given_ids = all_given_;
  o.seed = random_.next();
  if (chance(2)) o.retry = sse::duration::seconds(2);
  if (chance(2)) o.opening = "open";
  o.position = !chance(4);
  o.write_deadline = chance(4) ? sse::duration::off() : sse::duration::seconds(20);
  if (chance(2)) o.idle = sse::duration::seconds(300);
  if (chance(2)) o.max_age = sse::duration::seconds(600);
  constexpr std::uint64_t backlogs[] = {50'000, 200'000, 1 << 20};
  o.max_backlog = backlogs[random_.below(3)];
  constexpr std::uint32_t shares[] = {1, 200, 3000, 256 << 10};
  o.flush_share = shares[random_.below(4)];
  o.control_lane = chance(3) ? 2000 : 256 << 10;
  options_ = o;
  hub_ = std::make_unique<hub_type>(*net_, o);
  hub_->on_gap([this](const sse::gap_notice& g) { on_gap(g); });
  hub_->on_opened([this](sse::session_id id, const user_data&) { on_opened(id); });
  hub_->on_closed([this](sse::session_id id, const user_data& u, sse::close_reason) {
    if (u.number < -1) wrong("a hook got another session's user");
    if (hub_ != nullptr && hub_->alive(id)) wrong("on_closed of a session that is alive");
    if (accepting_ == nullptr) return act(true);
    if (!features_.evicted_ends_others) return act(false);
    if (!quiet_ && !victims_.empty() && chance(2)) {  // the next one that has to go
      const connection& next = victims_.back()->conn;
      if (next.open) hub_->close(next.session);
    }
    act(true);
  });
  hub_->on_presence(
      [this](sse::channel c, std::string_view key, bool present) { on_presence(c, key, present); });
  if (facts_.groups) {
    hub_->on_sees([this](const user_data& u, std::string_view key, std::string_view audience) {
      ask_in_flush();
      if (key != user_name(u.number)) wrong("on_sees got another user's key");
      for (int a = 1; a < audience_count + 1; ++a) {
        if (audience == audience_name(a)) return may_see(u.number, a, true);
      }
      wrong("on_sees of an audience that nobody published to");
      return false;
    });
  }
  hub_->on_channel_closed([this](sse::channel c) { on_channel_closed(c); });
  hub_->on_admit([this](const sse::request&) { return take_verdict(); });
  present_ = {};
  joined_ = {};
  by_slot_.clear();
  hub_->tick(sse::time_point::milliseconds(now_));
  for (int c = 0; c < channel_count; ++c) open_channel(c, true);
}

template <class Transport>
sse::when_full world<Transport>::any_full() {
  return static_cast<sse::when_full>(chance(2) ? 1 : random_.below(3));
}

template <class Transport>
sse::id_mode world<Transport>::ids_of(int c) const {
  return all_given_ && !shapes[c].own && shapes[c].ids == id_mode::automatic ? id_mode::given
                                                                             : shapes[c].ids;
}

template <class Transport>
void world<Transport>::open_channel(int c, bool first_time) {
  sse::channel_options o;
  const bool state = c == 1 || c == 8 || c == 10 || chance(4);
  o.keep = chance(10) ? 0 : 3 + random_.below(60);
  if (chance(4)) o.keep_bytes = 500 + random_.below(8000);
  if (chance(3)) {
    o.keep_age = chance(4)
                     ? sse::duration::milliseconds(30 * day)
                     : sse::duration::seconds(static_cast<std::int64_t>(5 + random_.below(60)));
  }
  o.max_lag = chance(4) ? 0 : state ? 300 + random_.below(3000) : 1000 + random_.below(12'000);
  if (chance(4)) {
    o.soft_lag = 800;
    o.soft_lag_for = sse::duration::seconds(static_cast<std::int64_t>(random_.below(9)));
  }
  o.on_lag = static_cast<sse::lag_policy>(state ? 3 : random_.below(3));
  o.ids = ids_of(c);
  o.own_sequence = shapes[c].own;
  if (first_time && ids_of(c) == id_mode::given && shapes[c].own) o.first_id = first_id_;
  o.start = static_cast<sse::start_at>(state && chance(2) ? 2 : random_.below(2));
  if (chance(3)) o.max_keys = 2 + static_cast<std::uint32_t>(random_.below(20));
  o.max_subscribers = chance(6) ? 5 : 0;
  if (chance(2)) {
    o.keep_sealed = sse::duration::seconds(static_cast<std::int64_t>(1 + random_.below(40)));
  }
  o.heartbeat.mode = static_cast<sse::heartbeat_options::pace>(random_.below(3));
  o.heartbeat.every = sse::duration::seconds(7);
  o.heartbeat.comment = chance(2);
  o.heartbeat.type = "beat";
  if (chance(3)) {
    o.heartbeat.payload = [this](std::string& data) {
      ask_in_flush();
      data = "p";
    };
  }
  if (shapes[c].archive) {
    o.backfill = [this, c](const sse::backfill_request& r, sse::backfill_writer& w) {
      return on_backfill(c, r, w);
    };
  }
  const std::uint64_t before = last_head_[at(c)];
  sse::channel p = hub_->open_channel(shapes[c].name, std::move(o));
  if (!p) fail("open_channel");
  if (hub_->find_channel(shapes[c].name) != p) fail("find_channel");
  if (hub_->open_channel(shapes[c].name)) fail("a name was taken twice");
  channels_[at(c)] = p;
  sealed_[at(c)] = false;
  plain_options_[at(c)] = plain_copy(*p.options());
  facts_.options[at(c)] = &plain_options_[at(c)];
  if (features_.reopened_goes_on && p.last_id() < before)
    fail(std::string("its ids begin again: ") + shapes[c].name);
  book_.begin(c, p.last_id());
}

/// All but the hooks: what a judge may ask for after the channel is gone.
template <class Transport>
sse::channel_options world<Transport>::plain_copy(const sse::channel_options& o) {
  sse::channel_options p;
  p.keep = o.keep;
  p.keep_bytes = o.keep_bytes;
  p.keep_age = o.keep_age;
  p.max_lag = o.max_lag;
  p.soft_lag = o.soft_lag;
  p.soft_lag_for = o.soft_lag_for;
  p.on_lag = o.on_lag;
  p.ids = o.ids;
  p.own_sequence = o.own_sequence;
  p.start = o.start;
  p.max_keys = o.max_keys;
  p.keep_sealed = o.keep_sealed;
  return p;
}

template <class Transport>
void world<Transport>::close_channel(int c) {
  if (!channels_[at(c)]) return;
  if (!features_.reopened_goes_on && shapes[c].own) return;
  log_.add("close channel", c);
  if (!hub_->close_channel(channels_[at(c)])) fail("close_channel");
  if (channels_[at(c)]) fail("on_channel_closed was not called");
  forget_closed();
  if (features_.reopened_goes_on) return;
  for (client& k : clients_) {
    for (const int joined_to : k.channels) {
      if (joined_to == c) k.forget();
    }
  }
}

/// Closed by close_channel, or because it was sealed for long enough.
template <class Transport>
void world<Transport>::on_channel_closed(sse::channel closed) {
  for (int c = 0; c < channel_count; ++c) {
    if (channels_[at(c)] == sse::channel{} || channels_[at(c)].number() != closed.number())
      continue;
    if (closed.name() != shapes[c].name) wrong("a channel that is being closed cannot be read");
    if (closed) wrong("a channel that is being closed says that it is open");
    last_head_[at(c)] = closed.last_id();
    channels_[at(c)] = {};  // hooks must not publish to it
    just_closed_.push_back(c);
    return act(features_.hooks_end_streams);
  }
  wrong("on_channel_closed of a channel that nobody had");
}

/// Nobody reads a channel any more that was closed.
template <class Transport>
void world<Transport>::forget_closed() {
  if (just_closed_.empty()) return;
  for (const int c : just_closed_) {
    for (client& k : clients_) {
      if (k.conn.open && k.find(c) != nullptr && !peer(k).is_closed)
        fail("a stream on a closed channel");
    }
  }
  sync();  // readers still ask for what its options were
  for (const int c : just_closed_) facts_.options[at(c)] = nullptr;
  just_closed_.clear();
}

/// No more events there: readers get the rest and an end, and it is closed after a time.
template <class Transport>
void world<Transport>::seal(int c) {
  if (!channels_[at(c)]) return;
  log_.add("seal", c);
  const bool before = std::exchange(sealed_[at(c)], true);
  if (!before) sealed_at_[at(c)] = now_;
  if (hub_->seal(channels_[at(c)]) == before) wrong("seal: a channel has two ends, or none");
  if (!channels_[at(c)].sealed()) wrong("a channel that is not sealed after all");
}

/// Those that were sealed for so long are gone, and no others.
template <class Transport>
void world<Transport>::check_sealed() {
  for (int c = 0; c < channel_count; ++c) {
    const sse::channel here = channels_[at(c)];
    if (here && here.sealed() != sealed_[at(c)]) fail("sealed, or not");
    if (!here || !sealed_[at(c)]) continue;
    const sse::duration stays = here.options()->keep_sealed;
    if (stays != sse::duration::infinite() && now_ - sealed_at_[at(c)] >= stays.ms())
      fail("a sealed channel outlived its time");
  }
  for (const int c : just_closed_) {
    const sse::duration stays = plain_options_[at(c)].keep_sealed;
    if (!sealed_[at(c)] || stays == sse::duration::infinite() ||
        now_ - sealed_at_[at(c)] < stays.ms())
      fail("a channel was closed that nobody closed");
    ++expired;
  }
}

template <class Transport>
void world<Transport>::reopen_channels() {
  for (int c = 0; c < channel_count; ++c) {
    if (channels_[at(c)] || !chance(2)) continue;
    log_.add("open channel", c);
    open_channel(c);
    ++reopened;
  }
}

template <class Transport>
void world<Transport>::tick(std::int64_t ms) {
  now_ += ms;
  log_.add("tick", ms);
  for (client& k : clients_) k.conn.beats_allowed += 20 * (k.conn.channels.size() + 1);
  hub_->tick(sse::time_point::milliseconds(now_));
  check_sealed();
  forget_closed();
  for (int c = 0; c < channel_count; ++c) {
    if (channels_[at(c)]) book_.trim(c, *channels_[at(c)].options(), now_);
  }
  flush_hub();
  if (chance(4)) check_retention();
}

/// What is retained is exact.
template <class Transport>
void world<Transport>::check_retention() {
  for (int c = 0; c < channel_count; ++c) {
    if (!channels_[at(c)]) continue;
    const sse::channel_options& o = *channels_[at(c)].options();
    const sse::channel_stats s = channels_[at(c)].stats();
    channel_book& b = book_.at(c);
    const std::uint64_t owed = b.rows.size() - b.retained;
    const bool by_audience = o.keep_bytes != UINT64_MAX && b.has_audiences;
    if (s.retained_events < owed || (s.retained_events > owed && !by_audience))
      fail(std::string(shapes[c].name) + " retains " + std::to_string(s.retained_events) +
           " events instead of " + std::to_string(owed));
    if (!features_.keep_bytes_counts_audiences) continue;
    std::uint64_t bytes = 0;
    for (std::uint64_t i = b.rows.size() - s.retained_events; i < b.rows.size(); ++i) {
      const published& e = book_.row(c, static_cast<std::uint32_t>(i));
      bytes += e.wire + audience_name(e.audience).size();
    }
    if (bytes > o.keep_bytes) fail(std::string(shapes[c].name) + " retains too many bytes");
  }
}

}  // namespace simulation
