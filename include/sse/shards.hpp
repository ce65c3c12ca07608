// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// shards: one stream on several cores. A sequencer gives each event its id and encodes it, once;
// every shard, a hub in a thread of its own, appends those bytes to its own log. So all shards hold
// the same events under the same ids, and a client resumes on whichever it lands. Not needed where
// one core is enough: one hub feeds tens of thousands of readers.
//
//   sse::sequencer ticks{{.channels = {"ticks"}, .first_id = wall_clock_us}};
//   sse::shard<my_transport> s{ticks, transport, {.wake = &wake_loop, .context = &loop}};  // each
//   (void)ticks.publish(0, {.data = json});              // any thread
//   for (;;) s.turn(now), s.prepare_sleep() ? wait() : poll();      // each shard's own thread
//
// The host's part is the loop and the sockets, usually one listener per thread with SO_REUSEPORT.
// With Asio: server_options::shards.
//
// Threads: everything of a sequencer may be called from any thread; it takes a lock for about as
// long as the bytes are copied to each shard. A hot thread that must not meet a lock publishes
// through a mailbox of the program's, which some other thread hands on, see sequencer::forward. A
// shard belongs to the thread that runs it. It may be made and destroyed in any thread, but never
// while that one uses it. The sequencer must outlive its shards.
//
// Full: a shard that is behind by `lane_bytes` refuses for all: publish answers `full` and the
// event goes nowhere. To wait instead would stop the engine for one slow core; to leave that shard
// out would make its readers miss an event that others have. So a shard whose thread hangs stops
// publishing, until it goes on or is destroyed: watch counts().full.
//
// Memory: the logs are not shared. What a channel retains is kept once per shard, and each shard's
// lane takes lane_bytes.
//
// Invariants:
// 1. An id is in all lanes or in none: room is looked for in all, under the lock, before the first
//    byte goes into one. Each lane holds its ids in rising order.
// 2. head() is at or above every id that any client ever saw. An id at or below it that a shard has
//    not got yet is therefore in its lane, or on its way there under the lock: a request to resume
//    from it waits for the lock, takes the lane's mail, and finds it. It is never answered as ahead
//    of the stream.
// 3. A shard that has no memory for an event leaves it in its lane and tries again: it falls behind
//    and the lane fills, but nothing is left out.
// 4. The caps of all shards count in one place; a place is given back where a hub gives its own
// back.
#pragma once
#ifndef SSEHUB_SHARDS_HPP
#define SSEHUB_SHARDS_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <sse/detail/base/assert.hpp>
#include <sse/detail/mail/ordered_events.hpp>
#include <sse/gap.hpp>
#include <sse/hub.hpp>
#include <sse/mailbox.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Counts for the caps of all hubs that name it in hub_options::counter. Thread-safe; one lock per
/// stripe of names.
class shared_caps final : public cap_counter {
 public:
  /// `seed`: see hub_options::seed.
  explicit shared_caps(std::uint64_t seed = hub_options{}.seed) noexcept {
    for (stripe& s : stripes_) s.names.set_seed(seed);
  }

  [[nodiscard]] bool take(kind k, std::string_view key, std::uint32_t max) noexcept override {
    if (k == kind::total) {
      std::uint32_t n = total_.load(std::memory_order_relaxed);
      do {
        if (max != 0 && n >= max) return false;
      } while (!total_.compare_exchange_weak(n, n + 1, std::memory_order_relaxed));
      return true;
    }
    stripe& s = of(k, key);
    const std::scoped_lock<std::mutex> lock{s.mutex};
    const std::uint32_t i = s.names.acquire(key);
    if (i == detail::none) return false;
    if (max == 0 || s.names.refs(i) <= max) return true;
    s.names.release(i);
    return false;
  }

  void give_back(kind k, std::string_view key) noexcept override {
    if (k == kind::total) {
      total_.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
    stripe& s = of(k, key);
    const std::scoped_lock<std::mutex> lock{s.mutex};
    const std::uint32_t i = s.names.find(key);
    if (i != detail::none) s.names.release(i);
  }

  /// How many of that key there are on all shards.
  [[nodiscard]] std::uint32_t count(kind k, std::string_view key) noexcept override {
    if (k == kind::total) return total_.load(std::memory_order_relaxed);
    stripe& s = of(k, key);
    const std::scoped_lock<std::mutex> lock{s.mutex};
    const std::uint32_t i = s.names.find(key);
    return i == detail::none ? 0 : s.names.refs(i);
  }

 private:
  struct alignas(detail::cache_line) stripe {
    std::mutex mutex;
    detail::name_table<no_user> names;  ///< a reference for each stream
  };
  static constexpr std::size_t stripes = 16;  // of each kind

  [[nodiscard]] stripe& of(kind k, std::string_view key) noexcept {
    std::uint32_t h = 0;
    for (const char c : key) h = h * 31 + static_cast<unsigned char>(c);
    return stripes_[(k == kind::user ? 0 : stripes) + (h ^ (h >> 16U)) % stripes];
  }

  std::atomic<std::uint32_t> total_{0};
  stripe stripes_[2 * stripes];
};

/// Options of one of a sequencer's channels, for one shard; `ids` and `own_sequence` are not used.
using shard_channel_options = function<channel_options(std::string_view name)>;

/// What all shards of a sequencer share.
struct sequencer_options {
  /// Names of the channels, numbered from 0: all shards have these. At most 16,383.
  std::vector<std::string> channels{"events"};
  /// Asked while a shard attaches, once per channel and shard; none: the defaults. What it says
  /// must not differ between shards where clients can notice (history, limits of lag).
  shard_channel_options channel{};
  event_id first_id = no_id;    ///< as hub_options::first_id
  event_id lost_above = no_id;  ///< as hub_options::lost_above
  event_id lost_below = no_id;  ///< as hub_options::lost_below
  /// Room for events that wait for a shard, each; an event takes at most half of it. 1 KiB to 1
  /// GiB.
  std::size_t lane_bytes = std::size_t{1} << 20;
  /// Instead of those of the channels.
  encode_limits limits{};
  /// Somebody else gives the ids (a journal): publish_options::id, rising, and events are
  /// `encoded`.
  bool given_ids = false;
  /// For orders that several processes follow, each at its own pace: a client may bring an id that
  /// this one has not got yet. It is not told of a gap: servers let its request wait so long for
  /// it, and then refuse it as `behind`. off(): nobody can be ahead.
  duration wait_ahead = duration::off();
  /// What such a request gets in the end: 503 with Retry-After, final for a browser's EventSource;
  /// true: a stream that says `retry:` and ends.
  bool retry_ahead = false;
  std::uint64_t seed = hub_options{}.seed;  ///< see hub_options::seed
  /// Counts the streams of all shards instead of caps(), if it is there: all, and those of users,
  /// also where hubs have no cap for them. Outlives the shards.
  cap_counter* counter = nullptr;
};

class shard_port;

namespace detail {

/// An event that gets its id where events are put in order, in memory or on disk.
struct numbered_event {
  publish_error error = publish_error::none;
  std::string_view id{};  ///< as text, in `text`
  encode_plan plan{};
};
/// Whether an event may have id `id`, and how long it is then: `most` bytes at most.
[[nodiscard]] inline numbered_event give_id(event_id id, id_text& text, const event& e,
                                            const publish_options& o, const encode_limits& limits,
                                            std::size_t most) noexcept {
  if (o.last) return {publish_error::sealed};  // its channels stay open
  if (!e.id.empty() || o.id != no_id) return {publish_error::bad_id};
  if (o.encoded) return {publish_error::bad_type};
  if (!names_fit(o)) return {publish_error::too_large};
  if (id > max_event_id) return {publish_error::id_order};
  numbered_event n{publish_error::none, text.view(id), {}};
  n.plan = plan_as(e, n.id, limits);
  n.error = n.plan.size > most ? publish_error::too_large : publish_error::none;
  if (n.plan.error != encode_error::none) n.error = to_publish_error(n.plan.error);
  return n;
}

}  // namespace detail

/// Gives ids and hands events to all shards.
class sequencer {
 public:
  /// Throws std::bad_alloc only.
  explicit sequencer(sequencer_options o = {})
      : options_{std::move(o)}, caps_{options_.seed}, head_{options_.first_id} {
    std::size_t lane = 1024;
    while (lane < options_.lane_bytes && lane < (std::size_t{1} << 30)) lane *= 2;
    options_.lane_bytes = lane;
    scratch_size_ = lane / 2;
    scratch_.reset(new char[scratch_size_]);
  }
  sequencer(const sequencer&) = delete;
  sequencer& operator=(const sequencer&) = delete;

  /// An event for the channel of that number, on all shards. Never waits for a shard, allocates
  /// nothing. Refused: no shard got it. Errors besides those of an event that cannot be sent:
  /// no_channel, full, closed; bad_id, bad_type for `encoded`, sealed for `last`, which it cannot
  /// do.
  [[nodiscard]] publish_result publish(std::size_t channel, const event& e,
                                       const publish_options& o = {}) noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const publish_result r = place(channel, e, o);
    ++detail::count_of(counts_, r.error);
    return r;
  }

  /// Hands on what hot threads put into `inbox`, whose publishers were made with a channel's number
  /// as the target. For the inbox's thread: one of the program's, or a shard's. False: a shard is
  /// full; what is left stays in the inbox, so call again soon. What cannot be published is
  /// counted.
  bool forward(mailbox& inbox) noexcept {
    bool all = true;
    inbox.drain([&](const mail& m) {
      const std::scoped_lock<std::mutex> lock{mutex_};
      const publish_error e = place(static_cast<std::size_t>(m.target), m.event, m.options).error;
      all = e != publish_error::full;
      if (all) ++detail::count_of(counts_, e);
      return all;
    });
    return all;
  }

  /// All of these to all shards, or to none. They stay where they are until is_taken(number): each
  /// shard reads them there. Errors: id_order, full, closed; then `number` is 0. REQUIRES:
  /// given_ids.
  [[nodiscard]] publish_error hand_on(const detail::ordered_events& events,
                                      std::uint64_t& number) noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const detail::ordered_events::sum all = events.all();
    number = 0;
    const publish_error no = may_hand_on(all);
    detail::count_of(counts_, no) += all.events;
    if (no != publish_error::none) return no;
    number = ++handed_on_;
    const detail::ordered_note note{&events, number, all.bytes};
    char bytes[sizeof note];
    std::memcpy(bytes, &note, sizeof note);
    const event data{.data = {bytes, sizeof bytes}};
    // Before any lane: as in hand_out.
    head_.store(all.last, std::memory_order_release);
    for (std::size_t i = 0; i != lanes_.size(); ++i) {
      publisher& lane = lanes_[i];
      if (!lane) continue;
      accounts_[i]->give(note);
      (void)lane.lane_->done(
          lane.put_valid({data, {.transient = true, .encoded = true}, no_channel}));
    }
    begun_ = true;
    return publish_error::none;
  }
  /// Nobody reads any more what hand_on() gave that number.
  [[nodiscard]] bool is_taken(std::uint64_t number) const noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    for (const auto& a : accounts_) {
      if (!a->has_taken(number)) return false;
    }
    return true;
  }

  /// What is behind head() and below `first` is gone: all readers are told, on all channels, by a
  /// gap frame with the id `first` - 1, which stands among the events. `lost`: how many there were,
  /// if known. Errors: id_order, full, closed. REQUIRES: given_ids.
  [[nodiscard]] publish_result lose(event_id first, std::uint64_t lost = 0,
                                    bool known = false) noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const event_id head = head_.load(std::memory_order_relaxed);
    if (!options_.given_ids || first <= head + 1 || first - 1 > max_event_id)
      return {no_id, publish_error::id_order};
    if (draining_.load(std::memory_order_relaxed)) return {no_id, publish_error::closed};
    char text[detail::max_gap + detail::max_digits + sizeof "id: \nevent: gap\ndata: \n\n"];
    char* p = detail::put_decimal(detail::put(text, "id: "), first - 1);
    p = detail::put(p, "\nevent: gap\ndata: ");
    p = detail::put(detail::put_gap(p, {head, first, lost, known}), "\n\n");
    const event bytes{.data = {text, static_cast<std::size_t>(p - text)}};
    return hand_out(no_channel, bytes, {.id = first - 1, .encoded = true});
  }

  /// What backfill hooks had to wait for (backfill_state::wait) may be there now: they are asked
  /// again, each in its hub's thread.
  void backfill_ready() noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    backfills_.fetch_add(1, std::memory_order_release);
    nudge();
  }

  /// Closes all streams of a user, on all shards, each in its hub's thread: hub::revoke.
  void revoke(std::string_view key) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    for (std::size_t i = 0; i != lanes_.size(); ++i) {
      if (lanes_[i]) revoked_[i].emplace_back(key);  // else that shard ended
    }
    revokes_.fetch_add(1, std::memory_order_release);
    nudge();
  }

  /// All shards publish what was accepted, then drain as hub::drain does; publish answers `closed`
  /// from now on. Returns at once; each shard's host sees drained() of its hub.
  void drain(const drain_options& o = {}) noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (draining_.load(std::memory_order_relaxed)) return;
    drain_ = o;
    const bool copied =
        farewell_type_.assign(o.farewell.type) && farewell_data_.assign(o.farewell.data);
    drain_.farewell = {};  // memory is out: without one
    if (copied) drain_.farewell = {.type = farewell_type_.view(), .data = farewell_data_.view()};
    draining_.store(true, std::memory_order_release);
    nudge();
  }
  /// drain() was called. Any thread.
  [[nodiscard]] bool draining() const noexcept { return draining_.load(std::memory_order_acquire); }

  /// The newest id given out; nobody saw one above it.
  [[nodiscard]] event_id head() const noexcept { return head_.load(std::memory_order_acquire); }
  /// What became of the calls of publish, and of the mail that forward took.
  [[nodiscard]] mail_counts counts() const noexcept {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return counts_;
  }
  /// What counts streams of all shards.
  [[nodiscard]] shared_caps& caps() noexcept { return caps_; }
  /// As it was constructed with.
  [[nodiscard]] const sequencer_options& options() const noexcept { return options_; }

  /// The sum over all shards, those that ended too, as each last reported it: in each turn of its
  /// loop in which something happened. log_bytes is the memory of all.
  [[nodiscard]] hub_stats stats() const {
    const std::scoped_lock<std::mutex> lock{stats_mutex_};
    hub_stats sum;
    for (const report& r : reports_) add(sum, r.hub);
    return sum;
  }
  /// The same by channel; names and groups are valid as long as this. `published`,
  /// `retained_events`, `retained_bytes` and `last_id` are those of the shard that is ahead, since
  /// all have the same events. Where there are more than 64 channels a turn reports those that got
  /// events and 64 others, and the turn after a call of this one all of them.
  [[nodiscard]] std::vector<channel_stats> all_channel_stats() const {
    asked_.fetch_add(1, std::memory_order_relaxed);
    const std::scoped_lock<std::mutex> lock{stats_mutex_};
    std::vector<channel_stats> sums(options_.channels.size());
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i].name = options_.channels[i];
      if (!groups_.empty()) sums[i].group = groups_[i];
      for (const report& r : reports_) add(sums[i], r.channels[i]);
    }
    return sums;
  }

 private:
  friend class shard_port;
  static constexpr std::uint16_t no_channel = max_mail_channel;

  struct report {
    hub_stats hub;
    std::vector<channel_stats> channels;
  };

  /// Wakes who sleeps. Where there is no room for it nobody sleeps. REQUIRES: the lock.
  void nudge() noexcept {
    for (publisher& lane : lanes_) {
      (void)lane.try_publish({}, {.transient = true, .encoded = true}, no_channel);
    }
  }

  /// REQUIRES: the lock.
  [[nodiscard]] publish_error may_hand_on(const detail::ordered_events::sum& all) const noexcept {
    if (draining_.load(std::memory_order_relaxed)) return publish_error::closed;
    if (!options_.given_ids || all.last <= head_.load(std::memory_order_relaxed))
      return publish_error::id_order;
    bool anybody = false;
    for (std::size_t i = 0; i != lanes_.size(); ++i) {
      if (!lanes_[i]) continue;  // that shard ended
      const std::size_t note = publisher::record_size(sizeof(detail::ordered_note));
      if (!accounts_[i]->has_room(all.bytes, options_.lane_bytes) ||
          lanes_[i].lane_->reserve(note) == nullptr)
        return publish_error::full;
      anybody = true;
    }
    return anybody ? publish_error::none : publish_error::closed;
  }
  /// REQUIRES: the lock.
  publish_result place(std::size_t channel, const event& e, const publish_options& o) noexcept {
    const auto fail = [](publish_error why) { return publish_result{no_id, why}; };
    if (draining_.load(std::memory_order_relaxed)) return fail(publish_error::closed);
    if (channel >= options_.channels.size()) return fail(publish_error::no_channel);
    if (options_.given_ids && o.encoded && !o.last) {
      if (o.id <= head_.load(std::memory_order_relaxed)) return fail(publish_error::id_order);
      return hand_out(channel, e, o);
    }
    if (options_.given_ids && !o.transient) return fail(publish_error::id_order);
    const event_id id = o.transient ? no_id : head_.load(std::memory_order_relaxed) + 1;
    const detail::numbered_event n =
        detail::give_id(id, last_id_, e, o, options_.limits, scratch_size_);
    if (n.error != publish_error::none) return fail(n.error);
    detail::encode_as(scratch_.get(), e, n.id, n.plan);
    const event bytes{.data = {scratch_.get(), n.plan.size}};
    publish_options with = o;
    with.id = id;
    with.encoded = true;
    return hand_out(channel, bytes, with);
  }

  /// To all shards, or to none. REQUIRES: the lock; it is encoded.
  publish_result hand_out(std::size_t channel, const event& bytes,
                          const publish_options& with) noexcept {
    const auto fail = [](publish_error why) { return publish_result{no_id, why}; };
    const event_id id = with.id;
    const publisher::letter letter{bytes, with, static_cast<std::uint16_t>(channel)};
    bool anybody = false;
    for (const publisher& lane : lanes_) {
      const publish_error no = lane.may_put(letter);
      if (no == publish_error::closed) continue;  // that shard ended
      if (no != publish_error::none) return fail(no);
      anybody = true;
    }
    if (!anybody) return fail(publish_error::closed);
    // Before any lane: a client that is shown this id finds it at or below head() everywhere.
    if (id != no_id) head_.store(id, std::memory_order_release);
    for (publisher& lane : lanes_) {
      (void)lane.lane_->done(lane ? lane.put_valid(letter) : publish_error::closed);
    }
    begun_ = true;
    return {id, publish_error::none};
  }

  static void add(hub_stats& sum, const hub_stats& n) noexcept {
    sum.sessions += n.sessions;
    sum.accepted += n.accepted;
    sum.refused += n.refused;
    sum.writes += n.writes;
    sum.bytes += n.bytes;
    sum.heartbeats += n.heartbeats;
    sum.log_bytes += n.log_bytes;
    for (std::size_t i = 0; i < close_reason_count; ++i) sum.closed[i] += n.closed[i];
    for (std::size_t i = 0; i < refusal_reason_count; ++i) sum.refused_by[i] += n.refused_by[i];
  }
  static void add(channel_stats& sum, const channel_stats& n) noexcept {
    const auto most = [](std::uint64_t& a, std::uint64_t b) { a = a < b ? b : a; };
    sum.subscribers += n.subscribers;
    most(sum.published, n.published);
    sum.delivered += n.delivered;
    sum.dropped += n.dropped;
    sum.coalesced += n.coalesced;
    sum.gaps += n.gaps;
    sum.replays += n.replays;
    most(sum.retained_events, n.retained_events);
    most(sum.retained_bytes, n.retained_bytes);
    sum.backlog_bytes += n.backlog_bytes;
    most(sum.last_id, n.last_id);
    sum.latency.add(n.latency);
  }

  sequencer_options options_;
  shared_caps caps_;
  std::atomic<event_id> head_;
  std::atomic<bool> draining_{false};
  std::atomic<std::uint64_t> backfills_{0};  // calls of backfill_ready
  std::atomic<std::uint64_t> revokes_{0};    // calls of revoke

  mutable std::mutex mutex_;  // of all below
  std::vector<publisher> lanes_;
  std::vector<std::vector<std::string>> revoked_;  // by lane: users that its shard has to close
  std::vector<std::shared_ptr<detail::ordered_account>> accounts_;  // by lane
  std::uint64_t handed_on_ = 0;                                     // see hand_on
  std::unique_ptr<char[]> scratch_;  // the event that is being encoded
  std::size_t scratch_size_ = 0;
  bool begun_ = false;  // something was published
  detail::id_text last_id_;
  mail_counts counts_{};
  drain_options drain_{};
  detail::owned_text farewell_type_;
  detail::owned_text farewell_data_;

  mutable std::atomic<std::uint64_t> asked_{0};  // calls of all_channel_stats
  mutable std::mutex stats_mutex_;
  std::vector<report> reports_;      // by shard
  std::vector<std::string> groups_;  // metrics_name by channel, from the first shard on; they stay
};

/// A hub's end of a sequencer, for hosts that have a hub and a mailbox already; others use shard.
/// Belongs to the hub's thread.
class shard_port {
 public:
  /// The target of its mail: hosts hand mail with it to take().
  static constexpr std::uint64_t target = UINT64_MAX;

  shard_port() noexcept = default;
  shard_port(const shard_port&) = delete;
  shard_port& operator=(const shard_port&) = delete;
  ~shard_port() {
    if (account_ != nullptr) account_->end();
  }

  /// What a hub needs to be a shard: where its ids begin, that they are given, and whose caps it
  /// shares. Channels of its own need own_sequence, or no ids.
  static void prepare(sequencer& s, hub_options& o) noexcept {
    o.first_id = s.options_.first_id;
    o.lost_above = s.options_.lost_above;
    o.lost_below = s.options_.lost_below;
    o.given_ids = true;
    o.counter = s.options_.counter != nullptr ? s.options_.counter : &s.caps_;
    if (s.options_.counter == nullptr) return;
    for (cap* c : {&o.caps.total, &o.caps.per_user}) {
      if (c->max == 0) c->max = UINT32_MAX;  // it counts them in any case
    }
  }

  /// Opens the channels in `h`, and a lane in `mail`. REQUIRES: `h` was made with prepare()d
  /// options and outlives this; nothing else publishes to these channels, or closes them. False: it
  /// is too late, something was published already; or a name is taken, there are too many
  /// channels, or memory is out.
  template <class Hub>
  [[nodiscard]] bool attach(sequencer& s, Hub& h, mailbox& mail) {
    const std::scoped_lock<std::mutex> lock{s.mutex_};
    const std::vector<std::string>& names = s.options_.channels;
    std::vector<std::string> groups;
    if (s.begun_ || s.draining() || names.size() > max_mail_channel) return false;
    for (const std::string& name : names) {
      channel_options o = s.options_.channel ? s.options_.channel(name) : channel_options{};
      o.ids = id_mode::given;
      o.own_sequence = false;
      o.limits.event = SIZE_MAX;  // the sequencer has checked
      if (o.backfill) {
        o.backfill = [this, ask = std::move(o.backfill)](const backfill_request& r,
                                                         backfill_writer& w) mutable {
          const backfill_state answer = ask(r, w);
          if (answer == backfill_state::wait) waiting_.push_back(r.session);
          return answer;
        };
      }
      const channel c = h.open_channel(name, std::move(o));
      if (!c) return false;
      channels_.push_back(c);
      groups.emplace_back(c.options()->metrics_name);
    }
    publisher lane = mail.make_publisher(target, s.options_.lane_bytes);
    if (!lane) return false;
    account_ = std::make_shared<detail::ordered_account>();
    s.accounts_.push_back(account_);
    s.lanes_.push_back(std::move(lane));
    s.revoked_.emplace_back();
    const std::scoped_lock<std::mutex> stats_lock{s.stats_mutex_};
    index_ = s.reports_.size();
    s.reports_.emplace_back().channels.resize(names.size());
    if (s.groups_.empty()) s.groups_ = std::move(groups);
    changed_.reserve(names.size());
    is_changed_.resize(names.size());
    sequencer_ = &s;
    return true;
  }
  [[nodiscard]] explicit operator bool() const noexcept { return sequencer_ != nullptr; }

  /// The channel of a number; none: there is no such number, or attach() was not true.
  [[nodiscard]] channel at(std::size_t number) const noexcept {
    return number < channels_.size() ? channels_[number] : channel{};
  }

  /// For mailbox::drain: publishes one record. False: memory is out; it stays in the lane, and the
  /// loop must try again.
  [[nodiscard]] bool take(const mail& m) noexcept {
    if (m.channel < channels_.size()) return take(m.channel, m.event, m.options);
    if (m.options.transient && !m.event.data.empty()) return take_ordered(m.event.data);
    if (m.options.transient) {  // a nudge; nothing comes after that of sequencer::drain
      ending_ = ending_ || sequencer_->draining();
      return true;
    }
    publish_options all = m.options;  // sequencer::lose
    all.repeats_id = true;
    for (; lost_told_ < channels_.size(); ++lost_told_) {
      if (!take(static_cast<std::uint16_t>(lost_told_), m.event, all)) return false;
    }
    lost_told_ = 0;
    return true;
  }
  /// What became of the last record. Other than none and no_memory: the program broke what attach()
  /// requires, and this shard lacks the event.
  [[nodiscard]] publish_error error() const noexcept { return error_; }

  /// After the mailbox was drained: hub.revoke(user) for what sequencer::revoke said, and
  /// hub.writable(session) for those whose backfill hook had to wait, if what it waits for may be
  /// there.
  template <class Hub>
  void wake_waiting(Hub& h) noexcept {
    revoke_all(h);
    if (waiting_.empty()) return;
    const std::uint64_t now = sequencer_->backfills_.load(std::memory_order_acquire);
    if (now == backfills_) return;
    backfills_ = now;
    std::vector<session_id> all;
    all.swap(waiting_);
    for (const session_id s : all) h.writable(s);
  }

  /// The client has an id that was given out elsewhere and has not come here yet
  /// (sequencer_options::wait_ahead).
  [[nodiscard]] bool is_ahead(const request& r, const hub_options& o) const noexcept {
    if (sequencer_ == nullptr || sequencer_->options_.wait_ahead.is_off()) return false;
    const resume_point resume = resume_from(r, o.resume_query);
    return resume.state == resume_point::kind::given && resume.after > sequencer_->head();
  }

  /// Since it was asked last: who was ahead then may be so no longer.
  [[nodiscard]] bool head_moved() noexcept {
    if (sequencer_ == nullptr) return false;
    const event_id now = sequencer_->head();
    return std::exchange(looked_at_, now) != now;
  }

  /// Before an accept: makes sure that a client that got an id from another shard is not taken for
  /// one from the future here. `drain()` is the host's own drain of its mailbox. May wait for a
  /// publish that is under way in another thread. False: memory is out here and there, or the
  /// client is ahead of the sequencer: hub.turn_away(c, r, no). `o`: of this shard's hub.
  template <class Drain>
  [[nodiscard]] bool catch_up(const request& r, const hub_options& o, refused_request& no,
                              Drain&& drain) {
    const resume_point resume = resume_from(r, o.resume_query);
    if (resume.state != resume_point::kind::given || reached(resume.after)) return true;
    const bool ahead = resume.after > sequencer_->head();
    // Nobody has it: told by a gap.
    if (ahead && sequencer_->options_.wait_ahead.is_off()) return true;
    if (!ahead) {
      drain();
      if (reached(resume.after)) return true;
      { const std::scoped_lock<std::mutex> under_way{sequencer_->mutex_}; }
      drain();
      if (reached(resume.after)) return true;
    }
    const bool comes_back = ahead && sequencer_->options_.retry_ahead;
    no = {refusal_reason::behind, comes_back ? 200 : 503, o.retry_max};
    return false;
  }

  /// Before the mailbox is drained in a turn of the loop.
  void turn_begins() noexcept {
    ending_ = ending_ || (sequencer_ != nullptr && sequencer_->draining());
  }
  /// After it: the hub is to drain, and has all that was accepted.
  [[nodiscard]] bool ending() const noexcept {
    return ending_ && error_ != publish_error::no_memory;
  }
  /// How. REQUIRES: ending().
  [[nodiscard]] const drain_options& how_to_drain() const noexcept {
    SSEHUB_ASSERT(ending());
    return sequencer_->drain_;
  }

  /// Hands the counters in, if anything happened since the last time. Once per turn.
  void report(const hub_stats& now) noexcept {
    if (sequencer_ == nullptr) return;
    const std::uint64_t asked = sequencer_->asked_.load(std::memory_order_relaxed);
    if (changed_.empty() && asked == answered_ && same(now, reported_)) return;
    const bool all = asked != answered_;
    answered_ = asked;
    reported_ = now;
    report(now, all ? channels_.size() : some);
  }
  /// The same, at the hub's end: what counts what is there now becomes 0.
  void report_end(hub_stats last) noexcept {
    if (sequencer_ == nullptr) return;
    last.sessions = last.log_bytes = 0;
    report(last, channels_.size());
    const std::scoped_lock<std::mutex> lock{sequencer_->stats_mutex_};
    for (channel_stats& c : sequencer_->reports_[index_].channels) {
      c.subscribers = c.retained_events = c.retained_bytes = c.backlog_bytes = 0;
    }
  }

 private:
  static constexpr std::size_t some = 64;

  template <class Hub>
  void revoke_all(Hub& h) noexcept {
    if (sequencer_ == nullptr) return;
    const std::uint64_t now = sequencer_->revokes_.load(std::memory_order_acquire);
    if (now == revokes_) return;
    std::vector<std::string> users;
    {
      const std::scoped_lock<std::mutex> lock{sequencer_->mutex_};
      users.swap(sequencer_->revoked_[index_]);
      revokes_ = sequencer_->revokes_.load(std::memory_order_relaxed);
    }
    for (const std::string& u : users) (void)h.revoke(u);
  }

  [[nodiscard]] bool take(std::uint16_t number, const event& e, const publish_options& o) noexcept {
    const publish_result r = channels_[number].publish(e, o);
    error_ = r.error;
    if (!is_changed_[number]) changed_.push_back(number);
    is_changed_[number] = true;
    return r.error != publish_error::no_memory;
  }

  /// sequencer::hand_on
  [[nodiscard]] bool take_ordered(std::string_view bytes) noexcept {
    detail::ordered_note note;
    SSEHUB_ASSERT(bytes.size() == sizeof note);
    std::memcpy(&note, bytes.data(), sizeof note);
    publish_error first = publish_error::none;
    mail m;
    for (detail::ordered_events::place next = ordered_at_; note.events->next(next, m);) {
      if (!take(m.channel, m.event, m.options)) return false;
      ordered_at_ = next;
      if (first == publish_error::none) first = error_;
    }
    error_ = first;
    ordered_at_ = {};
    account_->take(note);
    return true;
  }

  [[nodiscard]] static bool same(const hub_stats& a, const hub_stats& b) noexcept {
    static_assert(std::has_unique_object_representations_v<hub_stats>);
    return std::memcmp(&a, &b, sizeof a) == 0;
  }
  /// The channels that changed, and `most` others in turn.
  void report(const hub_stats& now, std::size_t most) noexcept {
    const std::scoped_lock<std::mutex> lock{sequencer_->stats_mutex_};
    sequencer::report& r = sequencer_->reports_[index_];
    r.hub = now;
    for (const std::uint16_t i : changed_) {
      r.channels[i] = channels_[i].stats();
      is_changed_[i] = false;
    }
    changed_.clear();
    for (std::size_t i = (std::min)(most, channels_.size()); i != 0; --i) {
      if (next_ == channels_.size()) next_ = 0;
      r.channels[next_] = channels_[next_].stats();
      ++next_;
    }
  }
  [[nodiscard]] bool reached(event_id id) const noexcept {
    return sequencer_ == nullptr || channels_.empty() || id <= channels_.front().last_id();
  }

  sequencer* sequencer_ = nullptr;
  std::vector<channel> channels_;
  std::size_t index_ = 0;
  // What was reported and what is to be.
  hub_stats reported_{};
  std::uint64_t answered_ = 0;          // sequencer::asked_
  std::vector<std::uint16_t> changed_;  // numbers of channels that got mail
  std::vector<bool> is_changed_;
  std::size_t next_ = 0;  // of the others
  bool ending_ = false;
  publish_error error_ = publish_error::none;
  std::shared_ptr<detail::ordered_account> account_;
  detail::ordered_events::place ordered_at_;  // in what is being taken
  std::size_t lost_told_ = 0;                 // channels that have the gap that is being taken
  event_id looked_at_ = no_id;                // head_moved
  std::vector<session_id> waiting_;           // for what their backfill hooks have not got yet
  std::uint64_t backfills_ = 0;               // sequencer::backfills_
  std::uint64_t revokes_ = 0;                 // sequencer::revokes_
};

/// Of one shard: its hub, and how its thread is woken.
struct shard_options {
  hub_options hub{};                               ///< first_id and counter are the sequencer's
  void (*wake)(void* context) noexcept = nullptr;  ///< see mailbox_options
  void* context = nullptr;                         ///< for wake
  wake_mode mode = wake_mode::when_idle;           ///< when `wake` is called
};

/// A hub with its mailbox and its port, for a loop of the host's own.
template <transport Transport, std::movable User = no_user>
class shard {
 public:
  using hub_type = sse::hub<Transport, User>;        ///< of its streams
  using connection = typename hub_type::connection;  ///< the transport's

  /// False as a bool: see shard_port::attach.
  shard(sequencer& s, Transport& t, const shard_options& o = {})
      : mail_{mailbox_options{
            .wake = o.wake, .context = o.context, .mode = o.mode, .limits = s.options().limits}},
        hub_{t, prepared(s, o.hub)} {
    attached_ = port_.attach(s, hub_, mail_);
  }
  /// Its readers are closed. What it counted stays in the sequencer's sums.
  ~shard() {
    mail_.close();
    if (attached_) port_.report_end(hub_.stats());
  }
  [[nodiscard]] explicit operator bool() const noexcept { return attached_; }

  [[nodiscard]] hub_type& hub() noexcept { return hub_; }  ///< its own
  /// Its channel of that number; none: there is no such.
  [[nodiscard]] channel at(std::size_t number) const noexcept { return port_.at(number); }

  /// As hub::accept, on whichever shard the client got its last event. A turn is due after it.
  [[nodiscard]] accept_result accept(connection&& c, const request& r) {
    refused_request no;
    return catch_up(r, no) ? hub_.accept(std::move(c), r) : hub_.turn_away(std::move(c), r, no);
  }
  /// The same with a verdict that is there already.
  [[nodiscard]] accept_result accept(connection&& c, const request& r, verdict<User> v) {
    refused_request no;
    if (catch_up(r, no)) return hub_.accept(std::move(c), r, std::move(v));
    if (v.admitted()) hub_.tell_refused(r, v.user(), no);
    return hub_.turn_away(std::move(c), r, no);
  }

  /// One turn of the loop: time in, mail in, bytes out. True: call it again soon.
  bool turn(time_point now) noexcept {
    port_.turn_begins();
    hub_.tick(now);
    drain();
    port_.wake_waiting(hub_);
    if (port_.ending()) hub_.drain(port_.how_to_drain());
    const bool more = hub_.flush();
    port_.report(hub_.stats());
    turn_due_ = more;
    return more;
  }
  /// See mailbox. The loop may sleep until hub().next_deadline(). False: another turn is due.
  [[nodiscard]] bool prepare_sleep() noexcept { return !turn_due_ && mail_.prepare_sleep(); }
  void awake() noexcept { mail_.awake(); }  ///< the loop has slept

 private:
  static hub_options prepared(sequencer& s, hub_options o) noexcept {
    shard_port::prepare(s, o);
    return o;
  }
  void drain() noexcept {
    mail_.drain([this](const sse::mail& m) { return port_.take(m); });
  }
  bool catch_up(const request& r, refused_request& no) {
    turn_due_ = true;
    return port_.catch_up(r, hub_.options(), no, [this] { drain(); });
  }

  mailbox mail_;
  hub_type hub_;
  shard_port port_;
  bool attached_ = false;
  bool turn_due_ = false;  // something was published or a stream was opened since the last one
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_SHARDS_HPP
