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
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/detail/jetstream/messages.hpp>
#include <sse/detail/jetstream/outbox.hpp>
#include <sse/detail/jetstream/presence.hpp>
#include <sse/detail/jetstream/replay.hpp>
#include <sse/detail/jetstream/revocation.hpp>
#include <sse/detail/jetstream/stream.hpp>
#include <sse/jetstream_options.hpp>
#include <sse/request.hpp>
#include <sse/shards.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Events of all nodes in one order; see the top of this header.
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
    link_ = std::make_unique<detail::jetstream_link>(options_);
    jetstream_error e = link_->open();
    if (!e) {
      using namespace detail;
      messages_ = std::make_unique<order_messages>(options_, link_->subjects(), place_);
      replay_ = std::make_unique<order_replay>(options_, *link_, *messages_, place_);
      outbox_ = std::make_unique<order_outbox>(options_, *link_, *messages_, place_,
                                               options_.node + '.' + random_name());
      e = begin();
    }
    if (!e) e = open_users();
    if (e) {
      link_->hang_up();
      revocations_.reset();
      presence_.reset();
      outbox_.reset();
      changes_.reset();
      link_.reset();
    }
    return e;
  }
  /// It is open.
  [[nodiscard]] explicit operator bool() const noexcept { return link_ != nullptr; }
  /// What the hubs follow (server_options::shards, sse::shard). REQUIRES: it is open.
  [[nodiscard]] sequencer& order() noexcept {
    SSEHUB_ASSERT(order_ != nullptr);
    return *order_;
  }
  /// As open() took them.
  [[nodiscard]] const jetstream_options& options() const noexcept { return options_; }

  /// All hubs are attached: the newest events go into their memory, and the stream is followed.
  void start() {
    if (link_ == nullptr || !threads_.empty() || stopping_) return;
    for (const preloaded& p : preloaded_) show(p.channel, p.sequence, p.bytes, p.options());
    preloaded_ = {};
    threads_.emplace_back([this] { follow_all(); });
    threads_.emplace_back([this] { outbox_->send_all(); });
    threads_.emplace_back([this] { outbox_->take_receipts(); });
    threads_.emplace_back([this] { replay_->run([this] { order_->backfill_ready(); }); });
    if (revocations_ != nullptr) {
      threads_.emplace_back([this] { revocations_->hear(); });
      threads_.emplace_back([this] { revocations_->keep(); });
    }
    if (presence_ != nullptr) {
      threads_.emplace_back([this] { presence_->hear(); });
      threads_.emplace_back([this] { presence_->tell_others(); });
    }
  }

  /// publish answers `closed` from now on. Waits until what was accepted is stored, at most
  /// jetstream_options::stop_wait; receipts say what became of the rest. Old events cannot be read
  /// any more.
  void stop() {
    if (link_ == nullptr || stopped_) return;
    stopped_ = true;
    outbox_->stop(!threads_.empty());
    stopping_ = true;
    replay_->stop();
    if (revocations_ != nullptr) revocations_->stop();
    if (presence_ != nullptr) presence_->stop();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
    link_->hang_up();
    inbound_.reset();
    changes_.reset();
    if (revocations_ != nullptr) revocations_->close();
    if (presence_ != nullptr) presence_->close();
    outbox_->fail_all("the order was stopped");
    link_->close();
    stats_.following = false;
  }

  /// An event for the channel of that number, on its way to the stream. `done`: called once, in a
  /// thread of the order's; it must not wait. Takes a lock for as long as the event is copied.
  /// Errors besides those of an event that cannot be sent: no_channel, full, closed; sealed for
  /// `last` and bad_type for `transient`, which it cannot do.
  [[nodiscard]] publish_result publish(std::size_t channel, const event& e,
                                       const publish_options& o = {},
                                       function<void(const jetstream_receipt&)> done = {}) {
    if (link_ == nullptr) return {no_id, publish_error::closed};
    return outbox_->publish(channel, e, o, std::move(done));
  }

  /// Ends all streams of the user on all nodes, within a second where they reach the servers, and
  /// what admits() says there: for jetstream_options::revoke_for. Sent until it is stored, whatever
  /// becomes of this node's connection. False: there are no revocations here, or the name is empty
  /// or longer than 500 bytes.
  bool revoke(std::string_view user) {
    return revocations_ != nullptr && revocations_->revoke(user);
  }
  /// Whether a user whose token was issued then (ms since 1970; 0: any revocation counts) may have
  /// a private stream. A look into memory; ask it last, where the stream is admitted. REQUIRES: it
  /// is open, with revoke_for.
  [[nodiscard]] jetstream_admission admits(std::string_view user,
                                           std::uint64_t issued_ms = 0) const {
    SSEHUB_ASSERT(revocations_ != nullptr);
    return revocations_->ask(user, issued_ms);
  }
  /// The same as the answer to a request: 401, 503 with Retry-After, or nullopt: admitted.
  [[nodiscard]] std::optional<response> refusal(std::string_view user,
                                                std::uint64_t issued_ms = 0) const {
    switch (admits(user, issued_ms)) {
      case jetstream_admission::revoked: return response::text(401, "revoked\n");
      case jetstream_admission::unknown:
        return response::text(503, "this node is cut off\n").add("Retry-After", "2");
      case jetstream_admission::admitted: break;
    }
    return std::nullopt;
  }
  /// Streams of the user on all nodes, as they last said. 0 without jetstream_options::presence.
  [[nodiscard]] std::uint32_t streams_of(std::string_view user) const {
    return presence_ == nullptr ? 0 : presence_->streams_of(user);
  }
  /// Streams on all nodes, whoever has them, as they last said. 0 without presence.
  [[nodiscard]] std::uint32_t streams() const { return streams_of({}); }
  /// Users that have streams, on any node.
  [[nodiscard]] std::vector<std::string> present() const {
    return presence_ == nullptr ? std::vector<std::string>{} : presence_->present();
  }

  /// It follows the stream and is not more than jetstream_options::ready_lag events behind.
  [[nodiscard]] bool ready() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return stats_.following && stats_.lag <= options_.ready_lag;
  }
  /// What it counted, and where it stands. Any thread.
  [[nodiscard]] jetstream_stats stats() const {
    std::unique_lock<std::mutex> lock{mutex_};
    jetstream_stats s = stats_;
    lock.unlock();
    if (link_ == nullptr) return s;
    messages_->tell(s);
    replay_->tell(s);
    outbox_->tell(s);
    if (revocations_ != nullptr) revocations_->tell(s);
    s.sequence = place_.sequence();
    if (order_ != nullptr) s.last = order_->head();
    return s;
  }
  /// Why it cannot follow or store now; empty: it can.
  [[nodiscard]] std::string problem() const {
    std::unique_lock<std::mutex> lock{mutex_};
    if (!problem_.empty() || link_ == nullptr) return problem_;
    lock.unlock();
    return outbox_->problem();
  }

 private:
  using clock = std::chrono::steady_clock;

  struct preloaded {
    std::uint16_t channel;
    std::uint64_t sequence;
    std::string bytes, audience, key;
    key_role role;
    [[nodiscard]] publish_options options() const noexcept {
      return {.audience = audience, .key = key, .role = role};
    }
  };
  [[nodiscard]] static std::string random_name() {
    std::random_device source;
    std::uint64_t n = (std::uint64_t{source()} << 32U) ^ source();
    std::string s;
    for (int i = 0; i < 10; ++i, n /= 32) s += "abcdefghijklmnopqrstuvwxyz234567"[n % 32];
    return s;
  }
  // --- start -------------------------------------------------------------------------------------

  [[nodiscard]] jetstream_error begin() {
    sequencer_options q;
    q.channels = options_.channels;
    q.channel = [this](std::string_view name) { return channel_of(name); };
    q.lane_bytes = options_.lane_bytes;
    q.limits = options_.limits;
    q.given_ids = true;
    if (options_.presence) {
      presence_ = std::make_unique<detail::order_presence>(options_, *link_);
      q.counter = presence_.get();
    }
    q.wait_ahead = options_.wait_ahead;
    q.retry_ahead = options_.retry_ahead;
    stream_sight seen;
    int refusals = 0;
    if (jetstream_error e = link_->patiently([&](jsErrCode&) { return agree(seen, refusals); }))
      return e;
    place_.enter({epoch_.base, epoch_.from, seen.last, 0});
    place_.gone.store(seen.first == 0 ? seen.last : seen.first - 1, std::memory_order_release);
    q.first_id = epoch_.base + preload(seen);
    order_ = std::make_unique<sequencer>(std::move(q));
    changes_ = link_->subscribe(link_->record_subject());
    if (!outbox_->open() || changes_ == nullptr)
      return {jetstream_errc::denied, "may not subscribe to its inbox and to " +
                                          link_->record_subject() +
                                          ": look at the user's permissions"};
    return {};
  }
  [[nodiscard]] jetstream_error open_users() {
    if (presence_ != nullptr && !presence_->open())
      return {jetstream_errc::denied,
              "may not subscribe to " + presence_->subject() + ": look at the user's permissions"};
    if (options_.revoke_for.is_off()) return {};
    revocations_ = std::make_unique<detail::order_revocations>(
        options_, *link_, [this](std::string_view user) { order_->revoke(user); });
    return revocations_->open();
  }
  using stream_sight = detail::stream_sight;

  /// What the stream and the record of its epoch say, once they agree.
  [[nodiscard]] jetstream_error agree(stream_sight& seen, int& refusals) {
    for (;; ++refusals) {
      std::string why;
      std::optional<detail::stream_epoch> record;
      const auto s = link_->look(why);
      if (!s || !link_->record(record, why)) return {jetstream_errc::unreachable, why};
      seen = *s;
      const detail::epoch_decision d = detail::decide_epoch(record, seen, {});
      if (d.what == detail::epoch_decision::kind::follow) {
        epoch_ = d.epoch;
        return {};
      }
      if (!link_->write_record(d.epoch) && refusals == 10)
        return {jetstream_errc::refused,
                "the record of the stream's epoch cannot be written: look "
                "at the user's permissions for its key-value bucket"};
    }
  }

  /// The newest events as far as they fit; the sequence in front of them.
  [[nodiscard]] std::uint64_t preload(const stream_sight& seen) {
    std::uint64_t place = seen.last;
    std::size_t room = (std::min)(options_.preload_bytes, options_.lane_bytes / 2);
    std::uint64_t first = seen.last < 1000 ? 1 : seen.last - 999;
    if (first <= epoch_.from) first = epoch_.from + 1;
    if (first > seen.last || room == 0) return place;
    std::vector<preloaded> read;
    std::uint64_t came = 0;
    const bool ok = link_->read(first, seen.last, [&](natsMsg* m, const detail::delivery& d) {
      came = d.sequence;
      if (came == seen.last) place_.come(came, d.time_ns);
      std::string bytes;
      const std::uint16_t c = messages_->encode(m, d.sequence, bytes);
      if (c == detail::order_block::no_channel) return;
      const publish_options o = detail::order_messages::options_of(m);
      read.push_back(
          {c, d.sequence, std::move(bytes), std::string{o.audience}, std::string{o.key}, o.role});
    });
    if (!ok || came != seen.last) return place;  // a server sent it that has not got all itself
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
    const std::uint16_t number = messages_->number_of(name);
    o.backfill = [this, number](const backfill_request& r, backfill_writer& w) {
      return replay_->give(number, r, w);
    };
    return o;
  }

  /// To the hubs. Waits where one of them is behind by a whole lane.
  void show(std::uint16_t channel, std::uint64_t sequence, std::string_view bytes,
            publish_options o) {
    o.id = epoch_.base + sequence;
    o.encoded = true;
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
    if (!link_->connected()) {
      why = "no server is connected; look whether they run, and at the network";
      return fail();
    }
    inbox_ = link_->new_inbox();
    inbound_ = link_->subscribe(inbox_);
    if (inbound_ == nullptr) return fail();
    const detail::order_place::position my = place_.now();
    const std::uint64_t mine = my.sequence;
    consumer_ = link_->follow(mine + 1, inbox_, why);
    if (consumer_.empty()) return fail();
    // Only now: the consumer is one of the stream that is looked at, or dies with it.
    const auto seen = link_->look(why);
    std::optional<detail::stream_epoch> record;
    if (!seen || !link_->record(record, why)) return fail();
    detail::stream_place place{true, epoch_, mine, order_->head(), !regressed_};
    if (mine > seen->last) {
      place.same = false;
      // A leader that was just elected may not know its last events yet.
      const clock::time_point now = clock::now();
      if (!behind_since_) behind_since_ = now;
      if (now - *behind_since_ < std::chrono::seconds{2}) return fail();
    }
    behind_since_.reset();
    if (place.same && mine != 0 && my.time_ns != 0 && mine >= seen->first &&
        seen->created_ns == epoch_.created_ns) {
      const auto at = link_->stored_at(mine);
      if (!at) return fail();
      if (*at != 0 && *at != my.time_ns) place.same = false;  // another event has its number
    }
    const detail::epoch_decision d = detail::decide_epoch(record, *seen, place);
    if (d.what == detail::epoch_decision::kind::write) {
      (void)link_->write_record(d.epoch);
      return fail();
    }
    place_.gone.store(seen->first == 0 ? seen->last : seen->first - 1, std::memory_order_release);
    if (d.epoch.base != epoch_.base) {
      enter(d);
      return fail();  // the consumer began elsewhere
    }
    epoch_ = d.epoch;
    in_consumer_ = 0;
    // The limits removed all: what tells of it does not come. But some may be on their way here.
    if (seen->first > seen->last && seen->first > mine + 1) {
      lost_to_limits(seen->first);
    }
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      ++stats_.follows;
      stats_.lag = seen->last - place_.sequence();
    }
    set_following(true, {});
    return true;
  }
  /// Says so first: cnats may hold its lock for seconds while it looks for a server.
  void detach() {
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      stats_.following = false;
      if (problem_.empty() && !stopping_)
        problem_ = "what followed the stream ended; it is begun again";
    }
    if (!consumer_.empty()) link_->unfollow(consumer_);
    consumer_.clear();
    link_->retire(std::move(inbound_));
  }

  /// The stream's history is another one from here on: ids begin above all that were given out.
  void enter(const detail::epoch_decision& d) {
    epoch_ = d.epoch;
    place_.enter({epoch_.base, epoch_.from, d.sequence, 0});
    regressed_ = false;
    tell_loss(d.sequence + 1, 0, false);
    const std::scoped_lock<std::mutex> lock{mutex_};
    ++stats_.epochs;
  }

  void lost_to_limits(std::uint64_t next) {
    const std::uint64_t mine = place_.sequence();
    const std::uint64_t lost = next - mine - 1;
    if (place_.gone.load(std::memory_order_relaxed) < next - 1)
      place_.gone.store(next - 1, std::memory_order_release);
    // Which channels they were of, nobody knows where there are several.
    tell_loss(next, lost, options_.channels.size() == 1);
    if (options_.channels.size() != 1) {
      const std::scoped_lock<std::mutex> lock{mutex_};
      stats_.lost += lost;
    }
    place_.come(next - 1, 0);
  }

  /// Until something is not as it should be.
  void follow() {
    clock::time_point heard = clock::now();  // anything
    clock::time_point looked = heard;        // at the stream, or an event came
    clock::time_point checked = heard;
    clock::time_point compared = heard;
    std::string bytes;
    while (!stopping_) {
      detail::nats_message m;
      const natsStatus s =
          detail::nats_make(m, natsSubscription_NextMsg, inbound_.get(), std::int64_t{100});
      const clock::time_point now = clock::now();
      if (s == NATS_OK) {
        const std::uint64_t before = place_.sequence();
        if (!take(m.get(), bytes)) return;
        heard = now;
        if (place_.sequence() != before) looked = now;
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
      if (now - compared > std::chrono::seconds{5}) {
        compared = now;
        if (is_another()) return;  // attach() will see it too
      }
    }
  }

  /// The stream's leader has another event under the number of the last that came: servers were
  /// seen to disagree for good after a leader was lost, without a word.
  [[nodiscard]] bool is_another() const {
    const detail::order_place::position my = place_.now();
    if (my.time_ns == 0) return false;
    const auto at = link_->stored_at(my.sequence);
    return at && *at != 0 && *at != my.time_ns;
  }

  /// Nothing came for some time: that is because nothing was published.
  [[nodiscard]] bool is_as_before() {
    std::string why;
    const auto seen = link_->look(why);
    if (!seen) return false;
    const std::uint64_t mine = place_.sequence();
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
    const detail::order_place::position my = place_.now();
    const std::uint64_t mine = my.sequence;
    if (d.in_consumer != ++in_consumer_) return false;  // some got lost on the way: ask again
    if (d.sequence < mine) return true;                 // from a server that had not got all itself
    if (d.sequence == mine) {
      regressed_ = my.time_ns != 0 && d.time_ns != my.time_ns;
      return !regressed_;
    }
    if (d.sequence != mine + 1) lost_to_limits(d.sequence);
    bytes.clear();
    const std::uint16_t channel = messages_->encode(m, d.sequence, bytes);
    const bool shown = channel != detail::order_block::no_channel;
    if (shown) show(channel, d.sequence, bytes, detail::order_messages::options_of(m));
    place_.come(d.sequence, d.time_ns);
    if (d.pending == 0) place_.caught_up();
    outbox_->take_own(detail::header_of(m, detail::order_messages::number), d.sequence);
    const std::scoped_lock<std::mutex> lock{mutex_};
    stats_.events += shown ? 1U : 0U;
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
    } else {
      place_.caught_up();
    }
    return true;
  }

  void set_following(bool follows, std::string problem) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    stats_.following = follows;
    problem_ = std::move(problem);
  }

  jetstream_options options_;
  detail::order_place place_;
  std::unique_ptr<detail::jetstream_link> link_;
  std::unique_ptr<detail::order_messages> messages_;
  std::unique_ptr<detail::order_replay> replay_;
  std::unique_ptr<detail::order_outbox> outbox_;
  std::unique_ptr<detail::order_presence> presence_;
  std::unique_ptr<sequencer> order_;
  std::unique_ptr<detail::order_revocations> revocations_;
  std::vector<preloaded> preloaded_;
  std::vector<std::thread> threads_;
  bool stopped_ = false;
  std::atomic<bool> stopping_{false};

  // Of the thread that follows.
  detail::stream_epoch epoch_;
  std::uint64_t in_consumer_ = 0;
  bool regressed_ = false;
  std::optional<clock::time_point> behind_since_;  // the stream's end was before what came
  std::string inbox_;
  std::string consumer_;
  detail::nats_subscription inbound_;
  detail::nats_subscription changes_;

  mutable std::mutex mutex_;  // of what follows
  jetstream_stats stats_;
  std::string problem_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_JETSTREAM_HPP
