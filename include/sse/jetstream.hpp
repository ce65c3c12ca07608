// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// jetstream: many nodes, one order. Events are stored by a NATS JetStream cluster, get their ids
// there, and come to every process that follows the stream, in the same order with the same ids.
// So a client resumes on any of them, behind any balancer. Needs cnats (3.4 or later) and servers
// of 2.9 or later.
//
//   sse::jetstream j;
//   sse::jetstream_options where{.servers = {"nats://127.0.0.1:1"}, .channels = {"ticks"}};
//   if (const sse::jetstream_error e = j.open(where)) return complain(e.text);
//   sse::asio_server<> server{ctx, {.shards = &j.order()}};      // or a sse::shard each
//   j.start();
//   (void)j.publish(0, {.data = json});                           // any thread
//
// An event is shown, here as everywhere, when it comes back from the stream: publish() only says
// that it is on its way, its receipt that a majority of the servers has it. Whoever speaks NATS may
// publish: the payload is the event's data, the headers Sse-Event, Sse-Key and Sse-Audience are its
// type, key and audience.
//
// Threads: open, start, stop and destruction belong to one thread; hubs attach between open and
// start. The rest may be called from any thread. Four threads of its own do all that waits, none of
// it is done in a hub's thread; cnats has threads besides.
//
// Errors: servers that are gone, a stream that is full: what was accepted waits in memory and is
// sent again with the same message id, so that it is stored once; streams of clients stay open.
// problem() and stats() tell, ready() is for a health check.
//
// What is promised, and how to run it: docs/guide/cluster.md.
#pragma once
#ifndef SSEHUB_JETSTREAM_HPP
#define SSEHUB_JETSTREAM_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sse/detail/base/size.hpp>
#include <sse/detail/jetstream/blocks.hpp>
#include <sse/detail/jetstream/stream.hpp>
#include <sse/jetstream_options.hpp>
#include <sse/shards.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

class jetstream {
 public:
  jetstream() noexcept = default;
  jetstream(const jetstream&) = delete;
  jetstream& operator=(const jetstream&) = delete;
  ~jetstream() { stop(); }

  /// Connects, makes the stream or looks at its settings, and finds out where it stands. Not yet
  /// opened only. What the newest events are is read here.
  [[nodiscard]] jetstream_error open(jetstream_options o) {
    if (link_ != nullptr) return {jetstream_errc::options, "this order is open already"};
    options_ = std::move(o);
    if (options_.node.empty()) options_.node = random_name();
    boot_ = random_name();
    for (std::size_t i = 0; i < options_.channels.size(); ++i)
      numbers_.emplace(options_.channels[i], static_cast<std::uint16_t>(i));
    blocks_ = std::make_unique<detail::order_blocks>(options_.replay_bytes);
    link_ = std::make_unique<detail::jetstream_link>(options_);
    jetstream_error e = link_->open();
    if (!e) e = begin();
    if (e) link_.reset();
    return e;
  }
  /// It is open.
  [[nodiscard]] explicit operator bool() const noexcept { return link_ != nullptr; }
  /// What the hubs follow (server_options::shards, sse::shard). REQUIRES: it is open.
  [[nodiscard]] sequencer& order() noexcept {
    SSEHUB_ASSERT(order_ != nullptr);
    return *order_;
  }
  [[nodiscard]] const jetstream_options& options() const noexcept { return options_; }

  /// All hubs are attached: the newest events go into their memory, and the stream is followed.
  void start() {
    if (link_ == nullptr || !threads_.empty() || stopping_) return;
    for (const preloaded& p : preloaded_) show(p.channel, p.sequence, p.bytes, p.audience, p.key);
    preloaded_ = {};
    threads_.emplace_back([this] { follow_all(); });
    threads_.emplace_back([this] { send_all(); });
    threads_.emplace_back([this] { take_receipts(); });
    threads_.emplace_back([this] { read_all(); });
  }

  /// publish answers `closed` from now on. Waits until what was accepted is stored, at most
  /// jetstream_options::stop_wait; receipts say what became of the rest. Old events cannot be read
  /// any more.
  void stop() {
    if (link_ == nullptr || stopped_) return;
    stopped_ = true;
    {
      std::unique_lock<std::mutex> lock{mutex_};
      closed_ = true;
      if (!threads_.empty())
        all_stored_.wait_for(lock, std::chrono::milliseconds{options_.stop_wait.ms()},
                             [this] { return outgoing_.empty(); });
      stopping_ = true;
    }
    to_send_.notify_all();
    to_read_.notify_all();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
    inbound_.reset();
    receipts_.reset();
    changes_.reset();
    fail_all("the order was stopped");
    link_->close();
    stats_.following = stats_.connected = false;
  }

  /// An event for the channel of that number, on its way to the stream. `done`: called once, in a
  /// thread of the order's; it must not wait. Takes a lock for as long as the event is copied.
  /// Errors besides those of an event that cannot be sent: no_channel, full, closed; sealed for
  /// `last` and bad_type for `transient`, which it cannot do.
  [[nodiscard]] publish_result publish(std::size_t channel, const event& e,
                                       const publish_options& o = {},
                                       function<void(const jetstream_receipt&)> done = {}) {
    const auto fail = [](publish_error why) { return publish_result{no_id, why}; };
    if (link_ == nullptr) return fail(publish_error::closed);
    if (channel >= options_.channels.size()) return fail(publish_error::no_channel);
    if (o.transient || e.retry != no_retry) return fail(publish_error::bad_type);
    detail::id_text text;
    const detail::numbered_event n =
        detail::give_id(max_event_id, text, e, o, options_.limits, most_bytes(o));
    if (n.error != publish_error::none) return fail(n.error);
    if (!is_header(o.audience) || !is_header(o.key)) return fail(publish_error::bad_type);
    const std::size_t headers = e.type.size() + o.audience.size() + o.key.size() + 512;
    const std::size_t size = e.data.size() + headers;
    if (size > max_payload_ || headers > max_headers) return fail(publish_error::too_large);
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (closed_) return fail(publish_error::closed);
    if (stats_.waiting_bytes + size > options_.queue_bytes) return fail(publish_error::full);
    letter l{.number = next_, .size = size, .done = std::move(done)};
    if (!make(l, channel, e, o)) return fail(publish_error::no_memory);
    ++next_;
    ++stats_.published;
    stats_.waiting_bytes += size;
    const clock::time_point now = clock::now();
    l.accepted_at = now;
    outgoing_.push_back(std::move(l));
    if (sender_sleeps_) to_send_.notify_one();
    return {};
  }

  /// It follows the stream and is not more than jetstream_options::ready_lag events behind.
  [[nodiscard]] bool ready() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return stats_.following && stats_.lag <= options_.ready_lag;
  }
  [[nodiscard]] jetstream_stats stats() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    jetstream_stats s = stats_;
    s.waiting = outgoing_.size() - acknowledged_;
    s.sequence = sequence_.load(std::memory_order_relaxed);
    if (order_ != nullptr) s.last = order_->head();
    return s;
  }
  /// Why it cannot follow or store now; empty: it can.
  [[nodiscard]] std::string problem() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return follow_problem_.empty() ? store_problem_ : follow_problem_;
  }

 private:
  using clock = std::chrono::steady_clock;

  struct preloaded {
    std::uint16_t channel;
    std::uint64_t sequence;
    std::string bytes, audience, key;
  };
  /// An event that waits for its acknowledgement.
  struct letter {
    std::uint64_t number = 0;
    std::size_t size = 0;
    detail::nats_message message{};
    clock::time_point accepted_at{};
    clock::time_point sent_at{};
    bool over = false;
    function<void(const jetstream_receipt&)> done{};
  };

  [[nodiscard]] static std::string random_name() {
    std::random_device source;
    std::uint64_t n = (std::uint64_t{source()} << 32U) ^ source();
    std::string s;
    for (int i = 0; i < 10; ++i, n /= 32) s += "abcdefghijklmnopqrstuvwxyz234567"[n % 32];
    return s;
  }
  [[nodiscard]] static bool is_header(std::string_view s) noexcept {
    return s.find_first_of(std::string_view{"\r\n\0", 3}) == s.npos &&
           (s.empty() || (s.front() != ' ' && s.back() != ' '));
  }
  [[nodiscard]] std::size_t most_bytes(const publish_options& o) const noexcept {
    const std::size_t most = (std::max)(options_.lane_bytes, std::size_t{1024}) / 2;
    const std::size_t beside = o.audience.size() + o.key.size() + 64;
    return beside < most ? most - beside : 0;
  }

  // --- start -------------------------------------------------------------------------------------

  [[nodiscard]] jetstream_error begin() {
    sequencer_options q;
    q.channels = options_.channels;
    q.channel = [this](std::string_view name) { return channel_of(name); };
    q.lane_bytes = options_.lane_bytes;
    q.limits = options_.limits;
    q.given_ids = true;
    q.wait_ahead = options_.wait_ahead;
    q.retry_ahead = options_.retry_ahead;
    std::string why;
    stream_sight seen;
    const clock::time_point end =
        clock::now() + std::chrono::milliseconds{options_.connect_wait.ms()};
    for (int refusals = 0;;) {
      const auto s = link_->look(why);
      std::optional<detail::stream_epoch> record;
      if (!s || !link_->record(record, why)) {  // what was just made elects its leader first
        if (clock::now() >= end) return {jetstream_errc::unreachable, why};
        std::this_thread::sleep_for(std::chrono::milliseconds{100});
        continue;
      }
      seen = *s;
      const detail::epoch_decision d = detail::decide_epoch(record, seen, {});
      if (d.what == detail::epoch_decision::kind::follow) {
        epoch_ = d.epoch;
        break;
      }
      if (!link_->write_record(d.epoch) && ++refusals > 10)
        return {jetstream_errc::refused,
                "the record of the stream's epoch cannot be written: look "
                "at the user's permissions for its key-value bucket"};
    }
    base_.store(epoch_.base, std::memory_order_release);
    from_.store(epoch_.from, std::memory_order_release);
    gone_.store(seen.first == 0 ? seen.last : seen.first - 1, std::memory_order_release);
    last_time_ = 0;
    q.first_id = epoch_.base + preload(seen);
    order_ = std::make_unique<sequencer>(std::move(q));
    max_payload_ = detail::to_size(
        static_cast<std::uint64_t>(natsConnection_GetMaxPayload(link_->connection())));
    receipt_inbox_ = link_->new_inbox();
    receipts_ = link_->subscribe(receipt_inbox_ + ".*");
    changes_ = link_->subscribe(link_->record_subject());
    if (receipts_ == nullptr || changes_ == nullptr)
      return {jetstream_errc::denied, "may not subscribe to its inbox and to " +
                                          link_->record_subject() +
                                          ": look at the user's permissions"};
    return {};
  }
  using stream_sight = detail::stream_sight;

  /// The newest events as far as they fit; the sequence in front of them.
  [[nodiscard]] std::uint64_t preload(const stream_sight& seen) {
    std::uint64_t place = seen.last;
    sequence_.store(place, std::memory_order_relaxed);
    std::size_t room = (std::min)(options_.preload_bytes, options_.lane_bytes / 2);
    std::uint64_t first = seen.last < 1000 ? 1 : seen.last - 999;
    if (first <= epoch_.from) first = epoch_.from + 1;
    if (first > seen.last || room == 0) return place;
    std::vector<preloaded> read;
    const bool ok = link_->read(first, seen.last, [&](natsMsg* m, const detail::delivery& d) {
      if (d.sequence == seen.last) last_time_ = d.time_ns;
      std::string bytes;
      const std::uint16_t c = encode(m, d.sequence, bytes);
      if (c == detail::order_block::no_channel) return;
      read.push_back({c, d.sequence, std::move(bytes), std::string{detail::header_of(m, audience)},
                      std::string{detail::header_of(m, key)}});
    });
    if (!ok) return place;
    std::size_t n = read.size();
    while (n != 0) {
      const preloaded& p = read[n - 1];
      const std::size_t size = p.bytes.size() + p.audience.size() + p.key.size() + 64;
      if (size > room) break;
      room -= size;
      --n;
      place = p.sequence - 1;
    }
    preloaded_.assign(std::make_move_iterator(read.begin() + static_cast<std::ptrdiff_t>(n)),
                      std::make_move_iterator(read.end()));
    return place;
  }

  [[nodiscard]] channel_options channel_of(std::string_view name) {
    channel_options o = options_.channel ? options_.channel(name) : channel_options{};
    const std::uint16_t number = numbers_.find(std::string{name})->second;
    o.backfill = [this, number](const backfill_request& r, backfill_writer& w) {
      return give(number, r, w);
    };
    return o;
  }

  // --- messages and events -----------------------------------------------------------------------

  static constexpr std::size_t max_headers = 60'000;  // servers store 64 KiB of them
  static constexpr const char* type = "Sse-Event";
  static constexpr const char* key = "Sse-Key";
  static constexpr const char* audience = "Sse-Audience";

  /// As it goes to subscribers, and its channel; none: it is no event of a channel here.
  [[nodiscard]] std::uint16_t encode(natsMsg* m, std::uint64_t sequence, std::string& out) {
    constexpr std::uint16_t none = detail::order_block::no_channel;
    const std::string_view subject = detail::text_of(natsMsg_GetSubject(m));
    const std::string& prefix = link_->subjects();
    if (!subject.starts_with(prefix)) return none;
    const auto to = numbers_.find(std::string{subject.substr(prefix.size())});
    if (to == numbers_.end()) {
      passed_.fetch_add(1, std::memory_order_relaxed);
      return none;
    }
    const event e{.type = detail::header_of(m, type), .data = detail::data_of(m)};
    publish_options o;
    o.audience = detail::header_of(m, audience);
    o.key = detail::header_of(m, key);
    detail::id_text text;
    const detail::numbered_event n =
        detail::give_id(base_.load(std::memory_order_relaxed) + sequence, text, e, o,
                        options_.limits, most_bytes(o));
    if (n.error != publish_error::none || o.audience.size() > 0xffff || o.key.size() > 0xffff) {
      invalid_.fetch_add(1, std::memory_order_relaxed);
      return none;
    }
    const std::size_t at = out.size();
    out.resize(at + n.plan.size);
    detail::encode_as(out.data() + at, e, n.id, n.plan);
    return to->second;
  }

  /// To the hubs. Waits where one of them is behind by a whole lane.
  void show(std::uint16_t channel, std::uint64_t sequence, std::string_view bytes,
            std::string_view to, std::string_view of) {
    const publish_options o{
        .id = epoch_.base + sequence, .audience = to, .key = of, .encoded = true};
    while (order_->publish(channel, {.data = bytes}, o) == publish_error::full && !stopping_)
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  /// The next to come is `next`: what is between is gone.
  void tell_loss(std::uint64_t next, std::uint64_t lost, bool known) {
    while (order_->lose(epoch_.base + next, lost, known) == publish_error::full && !stopping_)
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    const std::scoped_lock<std::mutex> lock{mutex_};
    ++stats_.gaps;
    if (known) stats_.lost += lost;
  }

  // --- the thread that follows -------------------------------------------------------------------

  void follow_all() {
    std::int64_t pause = 50;
    while (!stopping_) {
      if (attach()) {
        pause = 50;
        follow();
      }
      detach();
      if (stopping_) break;
      std::this_thread::sleep_for(std::chrono::milliseconds{pause});
      pause = (std::min)(pause * 2, std::int64_t{1000});
    }
  }

  /// Begins to follow behind the last that came. False: not now, or the epoch changed; try again.
  [[nodiscard]] bool attach() {
    std::string why;
    const auto fail = [&] {
      set_following(false, why.empty() ? "the stream cannot be followed; it is tried again" : why);
      return false;
    };
    while (natsSubscription* const c = changes_.get()) {  // the record is read below
      detail::nats_message m;
      if (detail::nats_make(m, natsSubscription_NextMsg, c, std::int64_t{1}) != NATS_OK) break;
    }
    inbox_ = link_->new_inbox();
    inbound_ = link_->subscribe(inbox_);
    if (inbound_ == nullptr) return fail();
    const std::uint64_t mine = sequence_.load(std::memory_order_relaxed);
    consumer_ = link_->follow(mine + 1, inbox_, why);
    if (consumer_.empty()) return fail();
    // Only now: the consumer is one of the stream that is looked at, or dies with it.
    const auto seen = link_->look(why);
    std::optional<detail::stream_epoch> record;
    if (!seen || !link_->record(record, why)) return fail();
    detail::stream_place place{true, epoch_, mine, order_->head(), !regressed_};
    if (mine > seen->last) place.same = false;
    if (place.same && mine != 0 && last_time_ != 0 && mine >= seen->first &&
        seen->created_ns == epoch_.created_ns) {
      const auto at = link_->stored_at(mine);
      if (!at) return fail();
      if (*at != 0 && *at != last_time_) place.same = false;  // another event has its number
    }
    const detail::epoch_decision d = detail::decide_epoch(record, *seen, place);
    if (d.what == detail::epoch_decision::kind::write) {
      (void)link_->write_record(d.epoch);
      return fail();
    }
    gone_.store(seen->first == 0 ? seen->last : seen->first - 1, std::memory_order_release);
    if (d.epoch.base != epoch_.base) {
      enter(d);
      return fail();  // the consumer began elsewhere
    }
    epoch_ = d.epoch;
    in_consumer_ = 0;
    told_ = 0;
    // The limits removed all: what tells of it does not come. But some may be on their way here.
    if (seen->first > seen->last && seen->first > mine + 1) {
      lost_to_limits(seen->first);
      told_ = seen->first - 1;
    }
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      ++stats_.follows;
      stats_.lag = seen->last - sequence_.load(std::memory_order_relaxed);
    }
    set_following(true, {});
    return true;
  }
  void detach() {
    if (!consumer_.empty()) link_->unfollow(consumer_);
    consumer_.clear();
    inbound_.reset();
    const std::scoped_lock<std::mutex> lock{mutex_};
    stats_.following = false;
  }

  /// The stream's history is another one from here on: ids begin above all that were given out.
  void enter(const detail::epoch_decision& d) {
    epoch_ = d.epoch;
    {
      const std::scoped_lock<std::mutex> lock{place_mutex_};
      base_.store(epoch_.base, std::memory_order_release);
      from_.store(epoch_.from, std::memory_order_release);
      sequence_.store(d.sequence, std::memory_order_release);
    }
    last_time_ = 0;
    regressed_ = false;
    tell_loss(d.sequence + 1, 0, false);
    const std::scoped_lock<std::mutex> lock{mutex_};
    ++stats_.epochs;
  }

  void lost_to_limits(std::uint64_t next) {
    const std::uint64_t mine = sequence_.load(std::memory_order_relaxed);
    const std::uint64_t lost = next - mine - 1;
    if (gone_.load(std::memory_order_relaxed) < next - 1)
      gone_.store(next - 1, std::memory_order_release);
    // Which channels they were of, nobody knows where there are several.
    tell_loss(next, lost, options_.channels.size() == 1);
    if (options_.channels.size() != 1) {
      const std::scoped_lock<std::mutex> lock{mutex_};
      stats_.lost += lost;
    }
    sequence_.store(next - 1, std::memory_order_release);
    last_time_ = 0;
  }

  /// Until something is not as it should be.
  void follow() {
    clock::time_point heard = clock::now();  // anything
    clock::time_point looked = heard;        // at the stream, or an event came
    clock::time_point checked = heard;
    std::string bytes;
    while (!stopping_) {
      detail::nats_message m;
      const natsStatus s =
          detail::nats_make(m, natsSubscription_NextMsg, inbound_.get(), std::int64_t{100});
      const clock::time_point now = clock::now();
      if (s == NATS_OK) {
        const std::uint64_t before = in_consumer_;
        if (!take(m.get(), bytes)) return;
        heard = now;
        if (in_consumer_ != before) looked = now;
      } else if (s != NATS_TIMEOUT) {
        return;
      }
      if (now - checked < std::chrono::milliseconds{100}) continue;
      checked = now;
      if (now - heard > std::chrono::milliseconds{3500}) {  // heartbeats come each second
        set_following(false, "the stream's leader is silent; another is looked for");
        return;
      }
      int changes = 0;
      int size = 0;
      if (natsSubscription_GetPending(changes_.get(), &changes, &size) == NATS_OK && changes != 0)
        return;  // the epoch changed
      if (now - looked > std::chrono::seconds{5}) {
        looked = now;
        if (!is_as_before()) return;
      }
    }
  }

  /// Nothing came for some time: that is because nothing was published.
  [[nodiscard]] bool is_as_before() {
    std::string why;
    const auto seen = link_->look(why);
    if (!seen) return false;
    const std::uint64_t mine = sequence_.load(std::memory_order_relaxed);
    const std::scoped_lock<std::mutex> lock{mutex_};
    stats_.lag = seen->last > mine ? seen->last - mine : 0;
    int waiting = 0;
    int size = 0;
    (void)natsSubscription_GetPending(inbound_.get(), &waiting, &size);
    return seen->created_ns == epoch_.created_ns && seen->last >= mine &&
           (seen->last == mine || waiting != 0);
  }

  /// One message of the consumer. False: begin again.
  [[nodiscard]] bool take(natsMsg* m, std::string& bytes) {
    const detail::delivery d = detail::delivery_of(m);
    if (d.sequence == 0) return take_status(m);
    const std::uint64_t mine = sequence_.load(std::memory_order_relaxed);
    if (d.in_consumer != ++in_consumer_) return false;  // some got lost on the way: ask again
    if (d.sequence <= mine) {
      if (d.sequence <= told_) return true;  // it came after all
      regressed_ = true;
      return false;
    }
    if (d.sequence != mine + 1) lost_to_limits(d.sequence);
    bytes.clear();
    const std::uint16_t channel = encode(m, d.sequence, bytes);
    const bool shown = channel != detail::order_block::no_channel;
    if (shown)
      show(channel, d.sequence, bytes, detail::header_of(m, audience), detail::header_of(m, key));
    last_time_ = d.time_ns;
    sequence_.store(d.sequence, std::memory_order_release);
    const std::scoped_lock<std::mutex> lock{mutex_};
    stats_.events += shown ? 1U : 0U;
    stats_.passed = passed_.load(std::memory_order_relaxed);
    stats_.invalid = invalid_.load(std::memory_order_relaxed);
    stats_.lag = d.pending;
    return true;
  }
  /// A heartbeat, a question of the flow control, or the consumer's end.
  [[nodiscard]] bool take_status(natsMsg* m) {
    if (detail::header_of(m, "Status") != "100") return false;
    const char* const reply = natsMsg_GetReply(m);
    const std::string_view stalled = detail::header_of(m, "Nats-Consumer-Stalled");
    if (reply != nullptr && *reply != '\0') {
      (void)natsConnection_PublishString(link_->connection(), reply, "");
    } else if (!stalled.empty()) {
      (void)natsConnection_PublishString(link_->connection(), std::string{stalled}.c_str(), "");
    } else if (const std::uint64_t sent =
                   detail::number_in(detail::header_of(m, "Nats-Last-Consumer"), "");
               sent != in_consumer_) {
      return false;  // it sent more than came
    }
    return true;
  }

  void set_following(bool follows, std::string problem) {
    const bool connected = link_->connected();
    const std::scoped_lock<std::mutex> lock{mutex_};
    stats_.following = follows;
    stats_.connected = connected;
    follow_problem_ = std::move(problem);
  }

  // --- publishing --------------------------------------------------------------------------------

  /// REQUIRES: the lock.
  [[nodiscard]] bool make(letter& l, std::size_t channel, const event& e,
                          const publish_options& o) {
    const std::string subject = link_->subjects() + options_.channels[channel];
    const std::string reply = receipt_inbox_ + '.' + std::to_string(l.number);
    const std::string id = options_.node + '.' + boot_ + '.' + std::to_string(l.number);
    natsStatus s = detail::nats_make(l.message, natsMsg_Create, subject.c_str(), reply.c_str(),
                                     e.data.data(), static_cast<int>(e.data.size()));
    const auto add = [&](const char* name, std::string_view value) {
      if (s == NATS_OK && !value.empty())
        s = natsMsgHeader_Set(l.message.get(), name, std::string{value}.c_str());
    };
    add("Nats-Msg-Id", id);
    add("Nats-Expected-Stream", link_->stream());
    add(type, e.type);
    add(key, o.key);
    add(audience, o.audience);
    return s == NATS_OK;
  }

  void send_all() {
    std::unique_lock<std::mutex> lock{mutex_};
    std::uint64_t next = 0;  // the number of the first that was never sent
    clock::time_point looked{};
    while (!stopping_) {
      bury();
      const clock::time_point now = clock::now();
      if (now - looked >= std::chrono::milliseconds{100}) {
        looked = now;
        lock.unlock();
        const bool connected = link_->connected();
        lock.lock();
        stats_.connected = connected;
        if (connected) send_again(lock, now, next);
        give_up(lock, now);
      }
      const std::uint64_t first = outgoing_.empty() ? next_ : outgoing_.front().number;
      if (next < first) next = first;
      if (stats_.connected && next != next_ && next - first < options_.max_in_flight) {
        letter& l = outgoing_[detail::to_size(next++ - first)];
        if (!l.over) send(lock, l, now);
        continue;
      }
      sender_sleeps_ = true;
      to_send_.wait_for(lock, std::chrono::milliseconds{100});
      sender_sleeps_ = false;
    }
  }
  /// Without the lock: letters stay where they are until they are over, and this thread alone takes
  /// them away.
  void send(std::unique_lock<std::mutex>& lock, letter& l, clock::time_point now) {
    l.sent_at = now;
    lock.unlock();
    const natsStatus s = natsConnection_PublishMsg(link_->connection(), l.message.get());
    lock.lock();
    if (s != NATS_OK) l.sent_at = now - std::chrono::milliseconds{options_.ack_wait.ms()};
  }
  void send_again(std::unique_lock<std::mutex>& lock, clock::time_point now, std::uint64_t next) {
    const auto wait = std::chrono::milliseconds{options_.ack_wait.ms()};
    for (std::size_t i = 0; i < outgoing_.size() && outgoing_[i].number < next; ++i) {
      letter& l = outgoing_[i];
      if (l.over || now - l.sent_at < wait) continue;
      ++stats_.resent;
      send(lock, l, now);
    }
  }
  void give_up(std::unique_lock<std::mutex>& lock, clock::time_point now) {
    const auto most = std::chrono::milliseconds{options_.give_up.ms()};
    for (std::size_t i = 0; i < outgoing_.size(); ++i) {
      if (now - outgoing_[i].accepted_at < most) break;
      if (!outgoing_[i].over)
        finish(lock, i, {false, no_id, "no acknowledgement in time: it may be stored or not"});
    }
  }
  /// REQUIRES: the lock. Called without it: the program's.
  void finish(std::unique_lock<std::mutex>& lock, std::size_t i, const jetstream_receipt& r) {
    letter& l = outgoing_[i];
    l.over = true;
    ++acknowledged_;
    ++(r.stored ? stats_.stored : stats_.failed);
    stats_.waiting_bytes -= l.size;
    if (!l.done) return;
    const function<void(const jetstream_receipt&)> done = std::move(l.done);
    lock.unlock();
    done(r);
    lock.lock();
  }
  /// REQUIRES: the lock, and the sending thread.
  void bury() {
    while (!outgoing_.empty() && outgoing_.front().over) {
      outgoing_.pop_front();
      --acknowledged_;
    }
    if (outgoing_.empty()) all_stored_.notify_all();
  }
  void fail_all(std::string_view why) {
    std::unique_lock<std::mutex> lock{mutex_};
    for (std::size_t i = 0; i < outgoing_.size(); ++i) {
      if (!outgoing_[i].over) finish(lock, i, {false, no_id, why});
    }
    bury();
  }

  void take_receipts() {
    while (!stopping_) {
      detail::nats_message m;
      if (detail::nats_make(m, natsSubscription_NextMsg, receipts_.get(), std::int64_t{100}) !=
          NATS_OK)
        continue;
      const std::string_view subject = detail::text_of(natsMsg_GetSubject(m.get()));
      std::uint64_t number = 0;
      if (detail::read_decimal(subject.substr(subject.rfind('.') + 1), UINT64_MAX, number) !=
          detail::decimal::number)
        continue;
      take_receipt(number, detail::data_of(m.get()), detail::header_of(m.get(), "Status"));
    }
  }
  void take_receipt(std::uint64_t number, std::string_view answer, std::string_view status) {
    std::unique_lock<std::mutex> lock{mutex_};
    if (outgoing_.empty() || number < outgoing_.front().number) return;
    const std::uint64_t i = number - outgoing_.front().number;
    if (i >= outgoing_.size() || outgoing_[detail::to_size(i)].over) return;
    const bool bad = answer.find("\"error\"") != answer.npos;
    const std::uint64_t sequence = detail::number_in(answer, "\"seq\"");
    if (!bad && sequence != 0) {
      store_problem_.clear();
      finish(lock, detail::to_size(i),
             {true, base_.load(std::memory_order_acquire) + sequence, {}});
    } else if (bad && !is_passing(detail::number_in(answer, "\"err_code\""))) {
      const std::string why = "the stream did not store an event: " +
                              std::string{detail::text_in(answer, "\"description\"")} +
                              "; look at its limits, and the servers' disks";
      store_problem_ = why;
      finish(lock, detail::to_size(i), {false, no_id, why});
    } else if (bad || status == "503") {  // no leader just now: it is sent again
      store_problem_ = "no server stores events now; they wait and are sent again";
      return;
    }
    if (sender_sleeps_ && i == 0) to_send_.notify_one();
  }
  /// An error that goes away by itself.
  [[nodiscard]] static bool is_passing(std::uint64_t code) noexcept {
    return code == JSClusterNotAvailErr || code == JSClusterNotLeaderErr ||
           code == JSClusterIncompleteErr || code == JSStreamNotFoundErr;
  }

  // --- old events, in the hubs' threads ----------------------------------------------------------

  [[nodiscard]] backfill_state give(std::uint16_t number, const backfill_request& r,
                                    backfill_writer& w) {
    constexpr std::uint32_t most = 16'384;  // records that one call looks at
    std::unique_lock<std::mutex> place{place_mutex_};
    const event_id base = base_.load(std::memory_order_relaxed);
    const event_id begins = base + from_.load(std::memory_order_relaxed);
    const event_id head = base + sequence_.load(std::memory_order_relaxed);
    place.unlock();
    const auto lose = [&](event_id first) { return w.lose(first < r.before ? first : r.before); };
    std::uint32_t looked = 0;
    while (w.last() + 1 < r.before) {
      const event_id gone = base + gone_.load(std::memory_order_acquire);
      const event_id least = begins < gone ? gone : begins;
      if (w.last() < least) {  // of an epoch before, or the limits removed it
        const bool ok =
            w.last() == no_id ? w.pass((std::min)(least, r.before - 1)) : lose(least + 1);
        if (!ok) return backfill_state::done;
        continue;
      }
      if (w.last() >= head) break;  // the log has what is behind that
      const std::uint64_t sequence = w.last() + 1 - base;
      bool news = false;
      const auto block = blocks_->find(sequence, base, news);
      if (block == nullptr) {
        if (news) {
          const std::scoped_lock<std::mutex> lock{read_mutex_};
          to_read_.notify_one();
        }
        return backfill_state::wait;
      }
      for (std::size_t i = block->find(sequence); i != block->records.size(); ++i) {
        const detail::order_block::record& x = block->records[i];
        const event_id id = base + x.sequence;
        if (id >= r.before) return backfill_state::done;
        if (w.bytes() >= r.room || ++looked > most) return backfill_state::more;
        if (id > w.last() + 1 && !w.lose(id)) return backfill_state::done;
        const bool ok = x.channel == number ? w.add_encoded(id, block->text(x), block->audience(x))
                                            : w.pass(id);
        if (!ok) return backfill_state::done;
      }
      const event_id to = (std::min)(base + block->to, r.before - 1);
      if (w.last() < to && !w.lose(to + 1)) return backfill_state::done;
    }
    return backfill_state::done;
  }

  /// The thread that reads blocks.
  void read_all() {
    while (!stopping_) {
      std::uint64_t first = 0;
      std::uint64_t last = 0;
      {
        std::unique_lock<std::mutex> lock{read_mutex_};
        if (!blocks_->next_run(first, last)) {
          to_read_.wait_for(lock, std::chrono::milliseconds{100});
          continue;
        }
      }
      if (read_run(first, last)) {
        order_->backfill_ready();
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds{100});
      }
    }
  }
  [[nodiscard]] bool read_run(std::uint64_t first, std::uint64_t last) {
    const event_id base = base_.load(std::memory_order_acquire);
    const std::uint64_t head = sequence_.load(std::memory_order_acquire);
    std::vector<std::shared_ptr<detail::order_block>> run;
    for (std::uint64_t n = first; n <= last; ++n) {
      auto b = std::make_shared<detail::order_block>();
      b->number = n;
      b->base = base;
      b->to = (std::min)(b->last(), head);
      run.push_back(std::move(b));
    }
    std::uint64_t events = 0;
    if (run.front()->first() <= run.back()->to &&
        !link_->read(run.front()->first(), run.back()->to,
                     [&](natsMsg* m, const detail::delivery& d) {
                       ++events;
                       const std::uint64_t n = detail::order_block::of(d.sequence);
                       if (n >= first && n <= last)
                         append(*run[detail::to_size(n - first)], m, d.sequence);
                     }))
      return false;
    if (base != base_.load(std::memory_order_acquire)) return false;
    std::string why;
    if (run.front()->records.empty() || run.front()->records[0].sequence != run.front()->first()) {
      if (const auto seen = link_->look(why); seen && seen->first != 0)
        gone_.store(seen->first - 1, std::memory_order_release);
    }
    for (auto& b : run) blocks_->put(std::move(b));
    const std::scoped_lock<std::mutex> lock{mutex_};
    ++stats_.reads;
    stats_.read_events += events;
    return true;
  }
  void append(detail::order_block& b, natsMsg* m, std::uint64_t sequence) {
    detail::order_block::record r;
    r.sequence = sequence;
    r.begin = b.bytes.size();
    const std::string_view to = detail::header_of(m, audience);
    b.bytes.append(to);
    r.audience = static_cast<std::uint32_t>(to.size());
    r.channel = encode(m, sequence, b.bytes);
    r.length = static_cast<std::uint32_t>(b.bytes.size() - r.begin - to.size());
    b.records.push_back(r);
  }

  jetstream_options options_;
  std::string boot_;
  std::unordered_map<std::string, std::uint16_t> numbers_;  // of channels
  std::unique_ptr<detail::jetstream_link> link_;
  std::unique_ptr<sequencer> order_;
  std::unique_ptr<detail::order_blocks> blocks_;
  std::vector<preloaded> preloaded_;
  std::vector<std::thread> threads_;
  std::size_t max_payload_ = 0;
  bool stopped_ = false;
  std::atomic<bool> stopping_{false};

  // Of the epoch and the place in it: written by the thread that follows.
  std::atomic<event_id> base_{no_id};
  std::atomic<std::uint64_t> from_{0};
  std::atomic<std::uint64_t> sequence_{0};
  std::mutex place_mutex_;              // of changes of the epoch
  std::atomic<std::uint64_t> gone_{0};  // the stream has nothing at or below it
  std::atomic<std::uint64_t> passed_{0};
  std::atomic<std::uint64_t> invalid_{0};

  // That thread's own.
  detail::stream_epoch epoch_;
  std::uint64_t last_time_ = 0;  // of the last message, in ns; 0: not known
  std::uint64_t in_consumer_ = 0;
  std::uint64_t told_ = 0;  // to be lost, though it may be on its way here
  bool regressed_ = false;
  std::string inbox_;
  std::string consumer_;
  detail::nats_subscription inbound_;
  detail::nats_subscription changes_;

  std::string receipt_inbox_;
  detail::nats_subscription receipts_;

  std::mutex read_mutex_;
  std::condition_variable to_read_;

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable to_send_;
  std::condition_variable all_stored_;
  std::deque<letter> outgoing_;
  std::uint64_t next_ = 0;        // the number of the next letter
  std::size_t acknowledged_ = 0;  // letters that are over
  bool sender_sleeps_ = false;
  bool closed_ = false;
  jetstream_stats stats_;
  std::string follow_problem_;
  std::string store_problem_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_JETSTREAM_HPP
