// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// journal: history that survives the process. Events are written to a directory, get their ids
// there, and are shown to subscribers once they are as safe as the program asked for; after a
// restart every client goes on where it was, whatever the hubs' memory keeps. POSIX; no server, no
// dependency.
//
//   sse::journal j;
//   if (sse::journal_error e = j.open("data", {.channels = {"ticks"}})) return complain(e.text);
//   sse::asio_server<> server{ctx, {.shards = &j.order()}};      // or a sse::shard each
//   j.start();
//   (void)j.publish(0, {.data = json});                           // any thread
//   sse::publisher hot = j.make_publisher(0);                     // a hot thread's own: no lock
//
// What is published becomes one sequence of ids over all channels, j.order(), which hubs follow as
// shards do (sse/shards.hpp): several hubs, each in a thread of its own, may. Another process may
// follow the same directory with j.follow(): an engine writes, a gateway serves, each may be killed
// alone. What a hub's memory let go comes from the files (channel_options::backfill is the
// journal's).
//
// Threads: open, follow, start, stop and destruction belong to one thread; hubs attach between open
// and start. The rest may be called from any thread. The journal has one thread of its own, which
// writes: nobody else waits for a disk, but for a hub that reads old events from it.
//
// Errors: disk full, an error of the device, a directory that is gone: what was accepted waits in
// memory and is written once that works again; meanwhile publish answers `not_stored`, or events go
// out without being stored, as journal_options::live_without says; stats() and problem() tell.
//
// What survives what: docs/guide/durability.md.
#pragma once
#ifndef SSEHUB_JOURNAL_HPP
#define SSEHUB_JOURNAL_HPP

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>

#include <sse/detail/journal/store.hpp>
#include <sse/gap.hpp>
#include <sse/journal_options.hpp>
#include <sse/mailbox.hpp>
#include <sse/shards.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Events in files, in one order; see the top of this header.
class journal {
 public:
  journal() noexcept = default;
  journal(const journal&) = delete;
  journal& operator=(const journal&) = delete;
  ~journal() { stop(); }

  /// To write here, alone. The directory is made if it is not there. `first_id`: where the ids of a
  /// new journal begin, see hub_options::first_id. Once: in_use if that worked before, whatever was
  /// stopped since.
  [[nodiscard]] journal_error open(const std::string& directory, journal_options o = {},
                                   event_id first_id = no_id) {
    return begin(std::make_unique<detail::posix_journal_files>(directory, true, true), directory,
                 std::move(o), true, first_id);
  }
  /// To serve what another process writes, or wrote, here. publish answers `closed`.
  [[nodiscard]] journal_error follow(const std::string& directory, journal_options o = {}) {
    return begin(std::make_unique<detail::posix_journal_files>(directory, false, false), directory,
                 std::move(o), false, no_id);
  }
  /// The same over a file system of the caller's, for tests.
  [[nodiscard]] journal_error open(std::unique_ptr<detail::journal_files> files,
                                   journal_options o = {}, event_id first_id = no_id) {
    return begin(std::move(files), "journal", std::move(o), true, first_id);
  }

  /// It is open.
  [[nodiscard]] explicit operator bool() const noexcept { return store_ != nullptr; }
  /// What the hubs follow (server_options::shards, sse::shard). REQUIRES: it is open.
  [[nodiscard]] sequencer& order() noexcept {
    SSEHUB_ASSERT(order_ != nullptr);
    return *order_;
  }
  /// What it found when it was opened.
  [[nodiscard]] const journal_start& found() const noexcept { return start_; }
  /// As open() took them.
  [[nodiscard]] const journal_options& options() const noexcept { return options_; }

  /// All hubs are attached: the newest events go into their memory, and the journal's thread runs.
  void start() {
    if (store_ == nullptr || thread_.joinable()) return;
    store_->read(order_->head(), max_event_id + 1, [this](const journal_event& e) {
      show(e);
      return true;
    });
    thread_ = std::thread{[this] {
      if (writes_) {
        write_all();
      } else {
        follow_all();
      }
    }};
  }

  /// Writes what was accepted, and ends the run: publish answers `closed` from now on; old events
  /// can still be read. Waits for the disk; if that fails, what was not written is lost, and
  /// problem() says why.
  void stop() {
    if (store_ == nullptr || pipe_[0] < 0) return;
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      stopping_ = true;
    }
    wake();
    if (thread_.joinable()) thread_.join();
    if (writes_ && !started_end_) {  // it was never started
      (void)take_in();
      end_run();
    }
    if (inbox_ != nullptr) inbox_->close();
    for (const int end : pipe_) {
      if (end >= 0) ::close(end);
    }
    pipe_[0] = pipe_[1] = -1;
    durable_changed_.notify_all();
  }

  /// An event for the channel of that number: accepted, with its id; it is written, and shown,
  /// soon. A transient one is not stored. Takes a lock for as long as its bytes are copied;
  /// allocates. Errors besides those of an event that cannot be sent: no_channel, full, not_stored,
  /// closed; sealed for `last`, which it cannot do.
  [[nodiscard]] publish_result publish(std::size_t channel, const event& e,
                                       const publish_options& o = {}) {
    if (!writes_) return {no_id, publish_error::closed};
    publish_result r;
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      r = stopping_ ? publish_result{no_id, publish_error::closed} : place(channel, e, o);
    }
    if (r) wake();
    return r;
  }
  /// For one thread that must not meet a lock (sse/mailbox.hpp): its events get their ids in the
  /// journal's thread. It may outlive the journal.
  [[nodiscard]] publisher make_publisher(std::size_t channel,
                                         std::size_t lane_bytes = mailbox::default_lane) {
    return inbox_ == nullptr ? publisher{} : inbox_->make_publisher(channel, lane_bytes);
  }

  /// All events up to this one are as durable as the options say. They are shown now, or soon.
  [[nodiscard]] event_id durable() const noexcept {
    return durable_.load(std::memory_order_acquire);
  }
  /// Waits until `id` is. False: it took longer.
  [[nodiscard]] bool wait_durable(event_id id, duration most) {
    std::unique_lock<std::mutex> lock{wait_mutex_};
    return durable_changed_.wait_for(lock, std::chrono::milliseconds{most.ms()},
                                     [&] { return durable() >= id; });
  }

  /// f(const journal_event&) for each stored event behind `after` and below `before`, oldest first,
  /// until it answers false. Reads the files; one without bytes is broken.
  template <class F>
  void read(event_id after, event_id before, F f) const {
    if (store_ != nullptr) store_->read(after, before, std::move(f));
  }

  /// Reads all files again: bad(file name, id) for each piece of up to about 32 KiB that is not as
  /// it was written, with the id of its first event.
  template <class F>
  void each_broken(F bad) const {
    if (store_ != nullptr) store_->history().each_broken(std::move(bad));
  }
  /// Opens a journal that open() found to be corrupt: what is whole of the newest file is kept, an
  /// older file that is broken is let go with all that is older, and clients who need what is
  /// broken or gone are told by a gap frame.
  [[nodiscard]] journal_error repair(const std::string& directory) {
    repairs_ = true;
    return open(directory);
  }

  /// What it counted, and where it stands. Any thread.
  [[nodiscard]] journal_stats stats() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    journal_stats s = stats_;
    s.last = writes_ ? head_ : durable();
    s.durable = durable();
    s.waiting_bytes += incoming_bytes_;
    return s;
  }
  /// Why it cannot write, or let go of old files, now; empty: it can.
  [[nodiscard]] std::string problem() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return problem_.empty() ? keep_problem_ : problem_;
  }

 private:
  using clock = std::chrono::steady_clock;
  using batch_ptr = detail::journal_store::batch_ptr;
  /// What is written and shown at once, so that it stays in the processor's caches.
  static constexpr std::size_t batch_bytes = std::size_t{256} << 10;

  [[nodiscard]] static std::int64_t wall_ms() noexcept {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }

  [[nodiscard]] journal_error begin(std::unique_ptr<detail::journal_files> files,
                                    const std::string& where, journal_options o, bool writes,
                                    event_id first_id) {
    if (store_ != nullptr)
      return {journal_errc::in_use, {}, where + ": this journal was opened already"};
    const auto fail = [&](journal_error e) {
      store_.reset();
      files_.reset();
      e.text.insert(0, where + ": ");
      return e;
    };
    options_ = std::move(o);
    writes_ = writes;
    files_ = std::move(files);
    detail::journal_store::settings s;
    s.segment_bytes = (std::min)((std::max)(options_.segment_bytes, std::uint64_t{1} << 16),
                                 std::uint64_t{1} << 30);
    s.most_pending = 2 * std::uint64_t{options_.queue_bytes} + (std::uint64_t{1} << 20);
    s.keep_bytes = options_.keep_bytes;
    s.keep_events = options_.keep_events;
    s.keep_ms = options_.keep_age.is_off() || options_.keep_age == duration::infinite()
                    ? 0
                    : options_.keep_age.ms();
    s.claims = options_.durability >= durability::interval;
    s.survives = options_.durability == durability::none || options_.live_without
                     ? detail::journal_survival::nothing
                 : s.claims ? detail::journal_survival::power_lost
                            : detail::journal_survival::killed;
    s.block_memory = options_.replay_bytes;
    s.repair = repairs_;
    store_ = std::make_unique<detail::journal_store>(*files_, s);
    start_ = {};
    journal_error e =
        writes ? store_->open_to_write(wall_ms(), first_id, start_) : store_->open_to_read(start_);
    if (e) return fail(std::move(e));
    head_ = writes ? start_.next - 1 : start_.recovered;
    durable_.store(store_->newest(), std::memory_order_release);
    stats_.files = store_->history().files();
    stats_.bytes = store_->bytes();
    stats_.oldest_gone = store_->gone();
    stopping_ = started_end_ = failing_ = false;
    if (::pipe(pipe_) != 0)
      return fail({journal_errc::system, {errno, std::generic_category()}, "no descriptors"});
    for (const int end : pipe_) {
      ::fcntl(end, F_SETFD, FD_CLOEXEC);
      ::fcntl(end, F_SETFL, O_NONBLOCK);
    }
    if (writes) {
      inbox_ = std::make_unique<mailbox>(
          mailbox_options{.wake = [](void* j) noexcept { static_cast<journal*>(j)->wake(); },
                          .context = this,
                          .limits = options_.limits});
    }
    sequencer_options order;
    order.channels = options_.channels;
    order.channel = [this](std::string_view name) { return channel_of(name); };
    order.first_id = store_->back_by((std::min)(options_.preload_bytes, options_.lane_bytes / 2));
    order.lost_above = start_.recovered;
    order.lost_below = start_.next;
    order.lane_bytes = options_.lane_bytes;
    order.limits = options_.limits;
    order.given_ids = true;
    order_ = std::make_unique<sequencer>(std::move(order));
    return {};
  }

  [[nodiscard]] channel_options channel_of(std::string_view name) {
    channel_options o = options_.channel ? options_.channel(name) : channel_options{};
    std::size_t number = 0;
    while (options_.channels[number] != name) ++number;
    o.backfill = [this, number](const backfill_request& r, backfill_writer& w) {
      return give(number, r, w);
    };
    return o;
  }

  // --- publishing --------------------------------------------------------------------------------

  /// REQUIRES: the lock.
  [[nodiscard]] publish_result place(std::size_t channel, const event& e,
                                     const publish_options& o) {
    const auto fail = [](publish_error why) { return publish_result{no_id, why}; };
    if (channel >= options_.channels.size()) return fail(publish_error::no_channel);
    if (o.transient) return order_->publish(channel, e, o);
    if (failing_ && !options_.live_without) return fail(publish_error::not_stored);
    const std::size_t beside = o.audience.size() + o.key.size() + 64;
    const std::size_t most = options_.lane_bytes / 2;
    if (beside > most) return fail(publish_error::too_large);
    const event_id id = head_ + 1;
    const detail::numbered_event n =
        detail::give_id(id, id_text_, e, o, options_.limits, most - beside);
    if (n.error != publish_error::none) return fail(n.error);
    const std::size_t size = n.plan.size;
    if (incoming_bytes_ + stats_.waiting_bytes + size > options_.queue_bytes)
      return fail(publish_error::full);
    detail::journal_batch& to = room_in_incoming();
    incoming_bytes_ -= to.size();
    char* const bytes = to.add({id,
                                clock_ms_.load(std::memory_order_relaxed),
                                static_cast<std::uint16_t>(channel),
                                o.audience,
                                o.key,
                                {},
                                o.role},
                               size);
    detail::encode_as(bytes, e, n.id, n.plan);
    incoming_bytes_ += to.size();
    head_ = id;
    return {id, publish_error::none};
  }

  /// REQUIRES: the lock.
  [[nodiscard]] detail::journal_batch& room_in_incoming() {
    if (!incoming_.empty() && incoming_.back()->size() < batch_bytes) return *incoming_.back();
    if (spare_.empty()) spare_.push_back(std::make_unique<detail::journal_batch>());
    incoming_.push_back(std::move(spare_.back()));
    spare_.pop_back();
    return *incoming_.back();
  }

  void wake() noexcept {
    // Who added something under the lock and finds it awake here was seen by it (sleep()).
    if (!sleeping_.load(std::memory_order_seq_cst)) return;
    if (!sleeping_.exchange(false, std::memory_order_seq_cst)) return;
    const char c = 0;
    while (::write(pipe_[1], &c, 1) < 0 && errno == EINTR) {
    }
  }

  // --- the journal's thread ----------------------------------------------------------------------

  void write_all() {
    clock::time_point synced = clock::now();
    for (bool last = false; !last;) {
      clock_ms_.store(wall_ms(), std::memory_order_relaxed);
      last = take_in();
      const bool moved = write_once(synced);
      if (last) break;
      if (!moved) sleep(synced);
    }
    end_run();
  }

  /// What was published since, to the store. True: nothing more will come.
  [[nodiscard]] bool take_in() {
    const std::scoped_lock<std::mutex> lock{mutex_};
    inbox_->drain([this](const mail& m) {
      const publish_error e = place(static_cast<std::size_t>(m.target), m.event, m.options).error;
      return e != publish_error::full && e != publish_error::not_stored;
    });
    for (batch_ptr& b : incoming_) store_->take(std::move(b));
    incoming_.clear();
    incoming_bytes_ = 0;
    stats_.waiting_bytes = store_->pending_bytes();
    return stopping_;
  }

  /// False: nothing can be done now.
  bool write_once(clock::time_point& synced) {
    const clock::time_point now = clock::now();
    if (store_->pending().empty()) {
      if (failing_ && now >= retry_at_) try_without_events(now);
      return false;
    }
    int e = store_->claim_ids();
    if (e == 0 && (options_.durability == durability::none || lives_without())) show_unwritten();
    if (failing_ && now < retry_at_) return false;
    bool moved = false;
    const bool syncs = options_.durability >= durability::interval;
    while (e == 0 && store_->has_unwritten()) {
      e = store_->write();
      if (e == 0 && !syncs) moved = (e = show_written()) == 0;
    }
    if (e == 0 && syncs && may_sync(synced, now)) {
      e = store_->sync();
      synced = now;
      count_sync();
      if (e == 0) moved = (e = show_written()) == 0;
    }
    if (e == 0) {
      if (failing_) works_again();
      return moved;
    }
    fail_for_now(e, now);
    if (lives_without() && store_->claim_ids() == 0) {
      show_unwritten();
      if (store_->pending_bytes() > options_.queue_bytes / 2) {
        store_->give_up([this](batch_ptr b) { out_.push_back(std::move(b)); });
      }
    }
    return false;
  }
  /// What failed was shown, and other processes were not told of it; or it was given up: the next
  /// event tries again.
  void try_without_events(clock::time_point now) {
    if (const int e = store_->tell_head(); e != 0) return fail_for_now(e, now);
    works_again();
    if (store_->newest() != durable()) durable_is(store_->newest());
  }
  /// What comes until then shares the next fdatasync.
  [[nodiscard]] bool may_sync(clock::time_point synced, clock::time_point now) {
    return options_.durability == durability::every_batch || stopping_now() ||
           now - synced >= std::chrono::milliseconds{interval_ms()};
  }
  /// What is as safe as it has to be. An errno: other processes could not be told.
  [[nodiscard]] int show_written() {
    if (failing_) works_again();  // before anybody learns of it, and publishes more
    std::uint64_t events = 0;
    store_->show([&](batch_ptr b) {
      events += b->count();
      show(*b);
      out_.push_back(std::move(b));
    });
    const int e = store_->tell_head();
    if (e == 0) let_go();
    count_written(events);
    if (e == 0) durable_is(store_->newest());
    return e;
  }

  [[nodiscard]] bool lives_without() const noexcept { return failing_ && options_.live_without; }
  /// To the hubs, which read it where it is.
  void show(detail::journal_batch& b) {
    if (b.is_shown) return;
    wait_for_room([&] { return order_->hand_on(b, b.handed_on); });
    b.is_shown = true;
  }
  void show(const journal_event& e) {
    if (e.bytes.empty()) return;  // broken: who asks for it is told
    show(e.channel, e.bytes, detail::options_of(e));
  }
  void show(std::size_t channel, std::string_view bytes, const publish_options& o) {
    wait_for_room([&] { return order_->publish(channel, {.data = bytes}, o).error; });
  }
  /// Waits where a hub is behind by a whole lane.
  template <class Publish>
  void wait_for_room(Publish publish) {
    std::chrono::microseconds pause{50};
    while (publish() == publish_error::full && !stopping_now()) {
      std::this_thread::sleep_for(pause);
      pause = (std::min)(2 * pause, std::chrono::microseconds{1000});
    }
  }
  /// What is behind `from` is lost, and what comes next has `first`: a gap frame on each channel,
  /// under the ids that nobody will get.
  void show_loss(event_id from, event_id first) {
    char data[detail::max_gap];
    const char* const end = detail::put_gap(data, {.requested = from, .first = first});
    const std::size_t channels = options_.channels.size();
    for (std::size_t n = 0; n < channels; ++n) {
      const event_id below = channels - n;  // of `first`
      const bool has_id = first > below && first - below > order_->head();
      const event_id id = has_id ? first - below : no_id;
      const std::string text = has_id ? std::to_string(id) : std::string{};
      std::string frame;
      (void)encode(frame, {.type = "gap", .data = {data, end}, .id = text});
      show(n, frame, {.id = id, .transient = !has_id, .encoded = true});
    }
  }
  /// Before they are stored.
  void show_unwritten() {
    for (const batch_ptr& b : store_->pending()) show(*b);
  }

  void durable_is(event_id id) {
    {
      const std::scoped_lock<std::mutex> lock{wait_mutex_};
      durable_.store(id, std::memory_order_release);
    }
    durable_changed_.notify_all();
    if (options_.on_durable) options_.on_durable(id);
  }
  void count_written(std::uint64_t events) {
    const std::uint64_t files = store_->history().files();
    const std::scoped_lock<std::mutex> lock{mutex_};
    ++stats_.batches;
    stats_.events += events;
    stats_.files = files;
    stats_.bytes = store_->bytes();
    stats_.oldest_gone = store_->gone();
    stats_.waiting_bytes = store_->pending_bytes();
    use_again();
  }
  /// What the hubs have read takes new events. REQUIRES: the lock.
  void use_again() {
    constexpr std::size_t most = 8;
    while (!out_.empty() && order_->is_taken(out_.front()->handed_on)) {
      batch_ptr b = std::move(out_.front());
      out_.pop_front();
      if (spare_.size() == most || b->bytes().room() > 2 * batch_bytes) continue;
      b->clear();
      spare_.push_back(std::move(b));
    }
  }
  void count_sync() {
    const std::scoped_lock<std::mutex> lock{mutex_};
    ++stats_.syncs;
  }
  /// Of what is not to be kept; tried again behind the next batch.
  void let_go() {
    const int e = store_->trim(clock_ms_.load(std::memory_order_relaxed));
    if (e == 0 && !keeps_too_much_) return;
    keeps_too_much_ = e != 0;
    const std::scoped_lock<std::mutex> lock{mutex_};
    keep_problem_.clear();
    if (e == 0) return;
    ++stats_.failures;
    keep_problem_ =
        "old files of the journal cannot be removed: " + std::generic_category().message(e) +
        "; look who may write its directory; it is tried again";
  }
  void fail_for_now(int e, clock::time_point now) {
    retry_at_ = now + std::chrono::milliseconds{200};
    const std::scoped_lock<std::mutex> lock{mutex_};
    failing_ = stats_.failing = true;
    ++stats_.failures;
    problem_ = "the journal cannot be written: " + std::generic_category().message(e) +
               "; it is tried again until that ends";
  }
  void works_again() {
    const std::scoped_lock<std::mutex> lock{mutex_};
    failing_ = stats_.failing = false;
    problem_.clear();
  }
  [[nodiscard]] bool stopping_now() {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return stopping_;
  }
  [[nodiscard]] std::int64_t interval_ms() const noexcept {
    return options_.interval.ms() < 1 ? 1 : options_.interval.ms();
  }

  void sleep(clock::time_point synced) {
    sleeping_.store(true, std::memory_order_seq_cst);
    int ms = 1000;
    if (!store_->pending().empty()) {
      const clock::time_point due =
          failing_ ? retry_at_ : synced + std::chrono::milliseconds{interval_ms()};
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(due - clock::now()).count();
      ms = static_cast<int>(left < 0 ? 0 : left > 1000 ? 1000 : left);
    }
    bool empty = false;
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      empty = incoming_.empty() && !stopping_;
    }
    if (empty && inbox_->prepare_sleep()) wait(ms);
    sleeping_.store(false, std::memory_order_seq_cst);
    inbox_->awake();
  }
  void wait(int ms) noexcept {
    pollfd p{pipe_[0], POLLIN, 0};
    (void)::poll(&p, 1, ms);
    char bytes[64];
    while (::read(pipe_[0], bytes, sizeof bytes) == sizeof bytes) {
    }
  }

  void end_run() {
    started_end_ = true;
    const std::vector<batch_ptr>& pending = store_->pending();
    clock::time_point synced{};
    for (int tries = 0; tries < 10 && !pending.empty(); ++tries) {
      retry_at_ = {};
      if (!write_once(synced)) std::this_thread::sleep_for(std::chrono::milliseconds{20});
    }
    if (pending.empty()) {
      if (failing_) try_without_events(clock::now());
      if (const int e = store_->end_run(wall_ms()); e != 0) fail_for_now(e, clock::now());
    }
  }

  /// Another process writes: what it shows is shown here.
  void follow_all() {
    int ms = 1;
    while (!stopping_now()) {
      if (store_->look_for_news()) {
        ms = 1;
        show_news();
        durable_is(store_->newest());
      } else if (ms < 20) {
        ++ms;
      }
      sleeping_.store(true, std::memory_order_seq_cst);
      if (!stopping_now()) wait(ms);
      sleeping_.store(false, std::memory_order_seq_cst);
    }
  }

  void show_news() {
    event_id from = no_id;
    event_id first = no_id;
    for (bool lost = true; lost && !stopping_now();) {
      lost = store_->loss_behind(order_->head(), from, first) && first <= store_->newest();
      store_->read(order_->head(), lost ? from + 1 : max_event_id + 1,
                   [this](const journal_event& e) {
                     show(e);
                     return true;
                   });
      if (lost) show_loss(from, first);
    }
  }

  // --- old events, in the hubs' threads ----------------------------------------------------------

  [[nodiscard]] backfill_state give(std::size_t number, const backfill_request& r,
                                    backfill_writer& w) const {
    // Events, and pieces of other channels, that one call looks at.
    constexpr std::uint32_t most = 16'384;
    const std::uint64_t reader =
        (std::uint64_t{r.session.slot} << 32U | r.session.generation) * 0x9e3779b97f4a7c15U +
        number;
    backfill_state state = backfill_state::done;
    std::uint32_t looked = 0;
    event_id broken = no_id;  // what is at or below it, and not added, is broken
    const auto lose_broken = [&] { return broken <= w.last() || w.lose(broken + 1); };
    std::string_view run{};  // events that lie together and are not added yet
    event_id run_last = no_id;
    const auto add_run = [&] {
      return run.empty() || w.add_encoded(run_last, std::exchange(run, std::string_view{}));
    };
    const auto has_room = [&] {
      if (w.bytes() + run.size() < r.room && looked < most) return true;
      state = backfill_state::more;
      return false;
    };
    const auto add_together = [&](detail::piece_reader& p, event_id before) {
      while (!p.done() && p.id() < before) {
        if (!has_room()) return false;
        const event_id first = p.id();
        const std::string_view some =
            p.take(before, r.room - w.bytes() - run.size(), most - looked);
        looked += static_cast<std::uint32_t>(p.id() - first);
        const bool goes_on = !run.empty() && run.data() + run.size() == some.data();
        if (!goes_on && !add_run()) return false;
        run = {goes_on ? run.data() : some.data(), run.size() + some.size()};
        run_last = p.id() - 1;
      }
      return true;
    };
    const auto add_each = [&](detail::piece_reader& p, event_id before) {
      for (; !p.done() && p.id() < before; p.next(), ++looked) {
        if (!has_room()) return false;
        const journal_event e = p.event();
        const bool ok =
            e.channel == number ? w.add_encoded(e.id, e.bytes, e.audience) : w.pass(e.id);
        if (!ok) return false;
      }
      return true;
    };
    const auto add = [&](const detail::index_record& piece, detail::piece_reader& p,
                         event_id before) {
      const event_id last = (std::min)(piece.last(), before - 1);
      if (piece.size == 0) {
        broken = last;
        return add_run();
      }
      if (!lose_broken()) return false;
      if (piece.is_alike() && piece.channel == number && w.takes_runs())
        return add_together(p, before);
      if (!add_run() || !has_room()) return false;
      if (!piece.is_alike() || piece.channel == number) return add_each(p, before);
      ++looked;
      return w.pass(last);
    };
    for (event_id from = no_id, first = no_id; state == backfill_state::done;) {
      const bool lost = store_->loss_behind(w.last(), from, first) && from + 1 < r.before;
      const event_id before = lost ? from + 1 : r.before;
      store_->history().read_shared(
          w.last(), before, reader,
          [&](const detail::index_record& piece, detail::piece_reader& p) {
            return add(piece, p, before);
          },
          add_run);
      if (!lose_broken() || !lost || state != backfill_state::done) break;
      if (w.last() < from && !w.pass(from)) break;
      if (!w.lose(first < r.before ? first : r.before)) break;
    }
    return state;
  }

  journal_options options_;
  bool writes_ = false;
  bool repairs_ = false;
  std::unique_ptr<detail::journal_files> files_;
  std::unique_ptr<detail::journal_store> store_;
  std::unique_ptr<sequencer> order_;
  std::unique_ptr<mailbox> inbox_;
  journal_start start_;
  std::thread thread_;
  int pipe_[2] = {-1, -1};
  std::atomic<bool> sleeping_{false};
  std::atomic<std::int64_t> clock_ms_{wall_ms()};
  std::atomic<event_id> durable_{no_id};
  std::mutex wait_mutex_;
  std::condition_variable durable_changed_;

  // The thread's own.
  std::deque<batch_ptr> out_;  ///< shown, and perhaps read by hubs still
  clock::time_point retry_at_{};
  bool started_end_ = false;
  bool keeps_too_much_ = false;

  mutable std::mutex mutex_;  // of what follows
  std::vector<batch_ptr> incoming_;
  std::size_t incoming_bytes_ = 0;
  std::vector<batch_ptr> spare_;
  detail::id_text id_text_;
  event_id head_ = no_id;
  journal_stats stats_;
  std::string problem_;
  std::string keep_problem_;
  std::atomic<bool> failing_{false};
  bool stopping_ = false;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_JOURNAL_HPP
