// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// mailbox: the only door for other threads. A publisher copies an event into its own lane: no lock,
// no allocation (mailbox_options::room_at_once); the hub's thread drains the lanes and publishes.
// Not needed, and slower, where the hub's own thread publishes.
//
//   sse::mailbox mail{{.wake = &wake_loop, .context = &loop}};
//   sse::publisher quotes = mail.make_publisher(token_of_channel);  // any thread; then its own
//   if (!quotes.try_publish(json)) ++refused;
//   mail.drain([&](const sse::mail& m) {  // the hub's thread
//     (void)hub.publish(channel_of(m.target), m.event, m.options);
//   });
//   if (mail.prepare_sleep()) wait_for_events(), mail.awake();
//
// Threads: drain, prepare_sleep, awake, close, counts and destruction of a mailbox belong to one
// thread, the hub's. make_publisher and publisher::counts may be called from any thread. The rest
// of a publisher belongs to one thread at a time. It may be destroyed before or after the mailbox;
// what it published before is still drained. After close() or the mailbox's end its calls answer
// `closed`. make_publisher must not run while the mailbox is being destroyed.
//
// Order: first in, first out per publisher; publishers are served in turn. Full: nothing is dropped
// in silence, the call answers `full`, and every publisher counts exactly what was accepted and
// what was refused.
//
// Cost: a drain and a prepare_sleep look only at lanes that had mail lately, however many there
// are. How the two sides find each other, and why no wake-up is lost: detail/mail/lane.hpp.
//
// Invariant: `wake` is never called after close() returned.
#pragma once
#ifndef SSEHUB_MAILBOX_HPP
#define SSEHUB_MAILBOX_HPP

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

#include <sse/detail/base/lines.hpp>
#include <sse/detail/mail/lane.hpp>
#include <sse/mail.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

namespace detail {
template <class W>
inline constexpr bool nothrow_writer = std::is_nothrow_invocable_v<W&, char*, std::size_t>;
}  // namespace detail

/// What try_emplace calls: writes at most `room` bytes at `out` and returns how many it wrote, or,
/// if that is more than `room`, how many it would have needed.
template <class W>
concept mail_writer = requires(W& write, char* out, std::size_t room) {
  { write(out, room) } -> std::convertible_to<std::size_t>;
};

/// Commits all that its publisher accepts while it lives at once, when it ends: one barrier and at
/// most one wake-up for all. Until then the hub sees none of it, and the lane has to hold all of
/// it. Must not outlive the publisher.
class [[nodiscard]] publish_batch {
 public:
  publish_batch(publish_batch&& other) noexcept : lane_{std::exchange(other.lane_, nullptr)} {}
  publish_batch& operator=(publish_batch&&) = delete;
  ~publish_batch() {
    if (lane_ != nullptr && --lane_->batches == 0) lane_->commit();
  }

  /// Shows the hub what there is so far, for instance after `full`.
  void commit() noexcept {
    if (lane_ != nullptr) lane_->commit();
  }

 private:
  friend class publisher;
  explicit publish_batch(detail::mail_lane* lane) noexcept : lane_{lane} {
    if (lane_ != nullptr) ++lane_->batches;
  }
  detail::mail_lane* lane_;
};

/// One thread's way into a mailbox. Made by mailbox::make_publisher; movable; a default-made one is
/// closed.
class publisher {
 public:
  publisher() noexcept = default;
  publisher(publisher&& other) noexcept : lane_{std::exchange(other.lane_, nullptr)} {}
  publisher& operator=(publisher&& other) noexcept {
    publisher moved{std::move(other)};
    std::swap(lane_, moved.lane_);
    return *this;
  }
  ~publisher() {
    if (lane_ == nullptr) return;
    detail::mail_hub* const hub = lane_->hub;
    lane_->leave();
    detail::mail_lane::release(lane_);
    detail::mail_hub::release(hub);
  }

  /// False: every call answers `closed`.
  [[nodiscard]] explicit operator bool() const noexcept {
    return lane_ != nullptr && !lane_->hub->closed.load(std::memory_order_relaxed);
  }

  /// An unnamed event for everyone. Never blocks or locks; allocates only as
  /// mailbox_options::room_at_once says. Accepted: in the lane; it will be drained.
  [[nodiscard]] publish_result try_publish(std::string_view data) noexcept {
    return try_publish(event{.data = data});
  }

  /// The same with everything an event can have. `channel`: for a lane that serves several, at most
  /// max_mail_channel.
  [[nodiscard]] publish_result try_publish(const event& e, const publish_options& o = {},
                                           std::uint16_t channel = 0) noexcept {
    if (lane_ == nullptr) return {no_id, publish_error::closed};
    return lane_->done(put({e, o, channel}));
  }

  /// What try_publish of the same would answer now; counts nothing. `none` stays true, but for
  /// `closed`, until something else is published here: what must go into several lanes or into none
  /// asks all first.
  [[nodiscard]] publish_error room_for(const event& e, const publish_options& o = {},
                                       std::uint16_t channel = 0) const noexcept {
    if (lane_ == nullptr) return publish_error::closed;
    return may_put({e, o, channel});
  }

  /// Formats the data in place, if the lane has room for `max` bytes: `write(char* out, std::size_t
  /// max)` writes at most `max` bytes and returns how many, or more than `max` if that was not
  /// enough: the answer is then too_large. If it throws, that goes through. Nothing is published in
  /// either case. `write` must not use this publisher.
  template <mail_writer W>
  [[nodiscard]] publish_result try_emplace(std::size_t max,
                                           W&& write) noexcept(detail::nothrow_writer<W>) {
    return try_emplace(event{}, {}, max, write);
  }

  /// The same with all of `e` but its data, and options.
  template <mail_writer W>
  [[nodiscard]] publish_result try_emplace(const event& e, const publish_options& o,
                                           std::size_t max,
                                           W&& write) noexcept(detail::nothrow_writer<W>) {
    if (lane_ == nullptr) return {no_id, publish_error::closed};
    return lane_->done(emplace({e, o, 0}, max, write));
  }

  /// Until the result ends, what is published is not shown to the hub.
  [[nodiscard]] publish_batch batch() noexcept { return publish_batch{lane_}; }

  /// Exact in the publisher's own thread, a moment old in any other.
  [[nodiscard]] mail_counts counts() const noexcept {
    return lane_ == nullptr ? mail_counts{} : lane_->counts();
  }

  /// The largest type, audience, key and data together that the lane takes, in bytes; a retry
  /// takes 8 of them.
  [[nodiscard]] std::size_t max_bytes() const noexcept {
    return lane_ == nullptr ? 0 : lane_->capacity / 2 - sizeof(detail::mail_header);
  }

 private:
  friend class mailbox;
  friend class sequencer;
  explicit publisher(detail::mail_lane* lane) noexcept : lane_{lane} {}

  [[nodiscard]] static constexpr std::size_t record_size(std::size_t bytes) noexcept {
    return (sizeof(detail::mail_header) + bytes + 7) & ~std::size_t{7};
  }

  /// What is put into the lane, as one.
  struct letter {
    const event& e;
    const publish_options& o;
    std::uint16_t channel;
  };

  [[nodiscard]] publish_error validate(const letter& l) const noexcept {
    const detail::mail_hub& hub = *lane_->hub;
    if (hub.closed.load(std::memory_order_relaxed)) return publish_error::closed;
    const std::size_t type = l.e.type.size();
    if (type > hub.options.limits.type || type > 0xffff || !detail::names_fit(l.o))
      return publish_error::too_large;
    if (!detail::is_field_text(l.e.type) || (l.o.encoded && type != 0))
      return publish_error::bad_type;
    if (!l.e.id.empty()) return publish_error::bad_id;
    if (l.e.retry < no_retry || (l.o.encoded && l.e.retry != no_retry))
      return publish_error::bad_retry;
    if (l.o.id > max_event_id) return publish_error::id_order;
    return l.channel <= max_mail_channel ? publish_error::none : publish_error::no_channel;
  }

  /// The encoded event is within the limits, with the longest id. Data is read only if its line
  /// ends could matter.
  [[nodiscard]] bool encodable(const letter& l, std::string_view data) const noexcept {
    constexpr std::size_t id_line = 4 + 16 + 1;
    constexpr std::size_t retry_line = 7 + 19 + 1;
    const std::size_t limit = lane_->hub->options.limits.event;
    if (l.o.encoded) return data.size() <= limit;
    const std::size_t fields = id_line + (l.e.type.empty() ? 0 : l.e.type.size() + 8) +
                               (l.e.retry == no_retry ? 0 : retry_line) + 1;
    if (fields > limit || data.size() > limit - fields) return false;
    if ((data.size() + 1) * 7 <= limit - fields) return true;
    const detail::line_count n = detail::count_lines(data);
    return n.lines * 7 + n.bytes <= limit - fields;
  }

  [[nodiscard]] static constexpr std::size_t field_bytes(const letter& l) noexcept {
    return l.e.type.size() + l.o.audience.size() + l.o.key.size() +
           (l.e.retry == no_retry ? 0 : sizeof l.e.retry);
  }

  [[nodiscard]] bool in_lane(const letter& l, std::size_t data) const noexcept {
    return data <= max_bytes() && field_bytes(l) <= max_bytes() - data;
  }

  /// Room for all fields; those in front of the data are written.
  [[nodiscard]] publish_error reserve(const letter& l, std::size_t data, char*& out) noexcept {
    if (!in_lane(l, data)) return publish_error::too_large;
    out = lane_->reserve(record_size(field_bytes(l) + data));
    if (out == nullptr) return publish_error::full;
    out += sizeof(detail::mail_header);
    if (l.e.retry != no_retry) {
      std::memcpy(out, &l.e.retry, sizeof l.e.retry);
      out += sizeof l.e.retry;
    }
    out = detail::put(out, l.e.type);
    out = detail::put(out, l.o.audience);
    out = detail::put(out, l.o.key);
    return publish_error::none;
  }

  void append(const letter& l, std::size_t data) noexcept {
    detail::mail_header h;
    h.size = static_cast<std::uint32_t>(record_size(field_bytes(l) + data));
    h.data = static_cast<std::uint32_t>(data) |
             (l.e.retry == no_retry ? 0 : detail::mail_header::retry_flag);
    h.id = l.o.id;
    h.type = static_cast<std::uint16_t>(l.e.type.size());
    h.audience = static_cast<std::uint16_t>(l.o.audience.size());
    h.key = static_cast<std::uint16_t>(l.o.key.size() | static_cast<unsigned>(l.o.role)
                                                            << detail::mail_header::role_shift);
    const unsigned flags = (l.o.transient ? detail::mail_header::transient_flag : 0U) |
                           (l.o.encoded ? detail::mail_header::encoded_flag : 0U) |
                           (l.o.last ? detail::mail_header::last_flag : 0U) |
                           static_cast<unsigned>(l.channel) << detail::mail_header::channel_shift;
    h.flags = static_cast<std::uint16_t>(flags);
    lane_->append(h);
  }

  [[nodiscard]] publish_error may_put(const letter& l) const noexcept {
    if (const publish_error bad = validate(l); bad != publish_error::none) return bad;
    if (!encodable(l, l.e.data) || !in_lane(l, l.e.data.size())) return publish_error::too_large;
    const bool room = lane_->reserve(record_size(field_bytes(l) + l.e.data.size())) != nullptr;
    return room ? publish_error::none : publish_error::full;
  }

  [[nodiscard]] publish_error put(const letter& l) noexcept {
    if (const publish_error bad = validate(l); bad != publish_error::none) return bad;
    return encodable(l, l.e.data) ? put_valid(l) : publish_error::too_large;
  }
  /// REQUIRES: it is valid and encodable, as may_put() says too.
  [[nodiscard]] publish_error put_valid(const letter& l) noexcept {
    char* out = nullptr;
    const publish_error bad = reserve(l, l.e.data.size(), out);
    if (bad != publish_error::none) return bad;
    detail::put(out, l.e.data);
    append(l, l.e.data.size());
    return publish_error::none;
  }

  template <class W>
  [[nodiscard]] publish_error emplace(const letter& l, std::size_t max,
                                      W& write) noexcept(detail::nothrow_writer<W>) {
    publish_error bad = validate(l);
    if (bad != publish_error::none) return bad;
    char* out = nullptr;
    if ((bad = reserve(l, max, out)) != publish_error::none) return bad;
    const auto size = static_cast<std::size_t>(write(out, max));
    if (size > max || !encodable(l, {out, size})) return publish_error::too_large;
    append(l, size);
    return publish_error::none;
  }

  detail::mail_lane* lane_ = nullptr;
};

/// All lanes, drained by the hub's thread.
class mailbox {
 public:
  static constexpr std::size_t default_lane = std::size_t{256} << 10;  ///< bytes
  /// For drain(): all that is there.
  static constexpr std::size_t unlimited = static_cast<std::size_t>(-1);

  /// If memory is out, its publishers answer closed.
  explicit mailbox(const mailbox_options& options = {}) noexcept
      : hub_{new (std::nothrow) detail::mail_hub{options}} {}
  mailbox(const mailbox&) = delete;
  mailbox& operator=(const mailbox&) = delete;

  /// What was not drained is lost: close(), drain() and then destroy.
  ~mailbox() {
    if (hub_ == nullptr) return;
    hub_->close();
    meet();
    while (all_ != nullptr) forget(all_);
    detail::mail_hub::release(hub_);
  }

  /// False: memory was out; all publishers will be closed.
  [[nodiscard]] explicit operator bool() const noexcept { return hub_ != nullptr; }

  /// A publisher for `target`, any value the host knows a channel by. `lane_bytes` is the room for
  /// mail that waits, rounded up to a power of two, 1 KiB to 1 GiB; one event takes at most half of
  /// it. Memory out: a closed publisher.
  [[nodiscard]] publisher make_publisher(std::uint64_t target,
                                         std::size_t lane_bytes = default_lane) noexcept {
    if (hub_ == nullptr) return {};
    std::size_t bytes = 1024;
    while (bytes < lane_bytes && bytes < (std::size_t{1} << 30)) bytes *= 2;
    const std::size_t home = room_from_start(bytes);
    detail::mail_lane* const lane = detail::mail_lane::make(hub_, home, bytes, target);
    if (lane == nullptr) {
      give_room_back(home);
      return {};
    }
    hub_->refs.fetch_add(1, std::memory_order_relaxed);
    lane->newer = hub_->arrivals.load(std::memory_order_relaxed);
    while (!hub_->arrivals.compare_exchange_weak(lane->newer, lane, std::memory_order_seq_cst)) {
    }
    return publisher{lane};
  }

  /// Calls f(const mail&) for what lies in the lanes now, at most `max_records` times, and returns
  /// how many records it took: all, unless f answers bool; false leaves that record where it is and
  /// ends the drain. What comes while it runs waits for the next drain. Frees the lanes of
  /// publishers that are gone. Means awake() too. f must not throw, and must not call this mailbox
  /// but for make_publisher; it may publish and destroy publishers.
  template <std::invocable<const mail&> F>
  std::size_t drain(F&& f, std::size_t max_records = unlimited) noexcept {
    constexpr std::size_t turn = 16;  // records of one lane in a row: fewer cache misses
    if (hub_ == nullptr) return 0;
    awake();
    take_up_listed();
    if (hub_->options.mode == wake_mode::never) look_at_one();
    mark_limits();
    std::size_t drained = 0;
    bool stopped = false;
    for (std::size_t empty = 0; empty < busy_ && drained != max_records && !stopped;) {
      detail::mail_lane& l = *cursor_->next;
      const std::size_t left = max_records - drained;
      drained += l.take(f, left < turn ? left : turn, stopped);
      const bool done = l.read == l.limit;
      empty = done ? empty + 1 : 0;
      if (done && l.last) {
        drop_next();
        empty = 0;
      } else {
        cursor_ = &l;
      }
    }
    drained_ += drained;
    return drained;
  }

  /// The loop is about to sleep. True: nothing lies in the lanes, and from now on the first mail
  /// calls wake; with wake_mode::never, which has to poll, mail of this moment may be overlooked.
  /// False: there is mail, drain again.
  [[nodiscard]] bool prepare_sleep() noexcept {
    if (hub_ == nullptr) return true;
    hub_->sleeping.store(1, std::memory_order_seq_cst);
    take_up_listed();
    while (cursor_ != nullptr) {
      detail::mail_lane& l = *cursor_->next;
      if (l.rest()) {
        unlink_next();
      } else if (l.has_mail()) {
        awake();
        return false;
      } else {
        drop_next();
      }
    }
    return true;
  }

  /// The loop runs again: no wake calls are needed.
  void awake() noexcept {
    if (hub_ != nullptr && hub_->sleeping.load(std::memory_order_relaxed) != 0) {
      hub_->sleeping.store(0, std::memory_order_relaxed);
    }
  }

  /// Publishers answer `closed` from now on, and wake is not called any more; waits for a wake call
  /// that is under way. What lies in the lanes can still be drained; a call that overlaps with this
  /// one may add its event or refuse it.
  void close() noexcept {
    if (hub_ != nullptr) hub_->close();
  }

  /// The sum over all publishers there have been; a moment old for those that are publishing.
  /// O(publishers).
  [[nodiscard]] mail_counts counts() noexcept {
    mail_counts sum = retired_;
    if (hub_ == nullptr) return sum;
    meet();
    detail::mail_lane* l = all_;
    if (l != nullptr) {
      do {
        add(sum, l->counts());
        l = l->newer;
      } while (l != all_);
    }
    return sum;
  }

  /// Records drained so far.
  [[nodiscard]] std::uint64_t drained() const noexcept { return drained_; }

 private:
  /// Drains in a row that find a lane empty until it goes to rest: a lane that is in use all the
  /// time is not listed anew for each event.
  static constexpr std::uint32_t patience = 64;

  static void add(mail_counts& sum, const mail_counts& n) noexcept {
    sum.accepted += n.accepted;
    sum.full += n.full;
    sum.too_large += n.too_large;
    sum.invalid += n.invalid;
    sum.closed += n.closed;
  }

  /// The size of a lane's first ring.
  [[nodiscard]] std::size_t room_from_start(std::size_t bytes) noexcept {
    if (bytes <= detail::mail_lane::home_size) return bytes;
    std::size_t n = hub_->room_at_once.load(std::memory_order_relaxed);
    do {
      if (n + bytes > hub_->options.room_at_once) return detail::mail_lane::home_size;
    } while (!hub_->room_at_once.compare_exchange_weak(n, n + bytes, std::memory_order_relaxed));
    return bytes;
  }
  void give_room_back(std::size_t home) noexcept {
    if (home <= detail::mail_lane::home_size) return;
    hub_->room_at_once.fetch_sub(home, std::memory_order_relaxed);
  }

  /// Takes lanes that are new into the circle of all.
  void meet() noexcept {
    if (hub_->arrivals.load(std::memory_order_seq_cst) == nullptr) return;
    detail::mail_lane* l = hub_->arrivals.exchange(nullptr, std::memory_order_seq_cst);
    while (l != nullptr) {
      detail::mail_lane* const next = l->newer;
      if (all_ == nullptr) {
        all_ = l->newer = l->older = l;
      } else {
        l->newer = all_;
        l->older = all_->older;
        l->older->newer = all_->older = l;
      }
      l = next;
    }
  }

  /// Takes lanes that were listed into the circle of those that are looked into, behind all others.
  void take_up_listed() noexcept {
    detail::mail_lane* l = nullptr;
    if (hub_->ready.load(std::memory_order_seq_cst) != nullptr) {
      l = hub_->ready.exchange(nullptr, std::memory_order_seq_cst);
    }
    meet();                               // after it: what is listed was made before
    detail::mail_lane* oldest = nullptr;  // newest first: turn them round
    while (l != nullptr) {
      l->next = oldest;
      oldest = std::exchange(l, l->ready_next);
    }
    while (oldest != nullptr) link(*std::exchange(oldest, oldest->next));
  }

  void link(detail::mail_lane& l) noexcept {
    l.idle = 0;
    if (cursor_ == nullptr) {
      l.next = &l;
    } else {
      l.next = std::exchange(cursor_->next, &l);
    }
    cursor_ = &l;
    ++busy_;
  }
  /// The lane after the cursor leaves the circle of those that are looked into.
  detail::mail_lane& unlink_next() noexcept {
    detail::mail_lane& l = *cursor_->next;
    cursor_->next = l.next;
    if (&l == cursor_) cursor_ = nullptr;
    --busy_;
    return l;
  }
  /// The same, and there is no more of it.
  void drop_next() noexcept { forget(&unlink_next()); }
  void forget(detail::mail_lane* l) noexcept {
    if (all_ == l) all_ = l->newer == l ? nullptr : l->newer;
    l->older->newer = l->newer;
    l->newer->older = l->older;
    add(retired_, l->counts());
    give_room_back(l->home_ring.size());
    detail::mail_lane::release(l);
  }

  /// What a drain is to take. Lanes that were empty for long go to rest.
  void mark_limits() noexcept {
    for (std::size_t i = busy_; i != 0; --i) {
      detail::mail_lane& l = *cursor_->next;
      l.last = l.gone.load(std::memory_order_acquire);  // before tail: after it nothing comes
      l.limit = l.tail.load(std::memory_order_acquire);
      const bool empty = l.limit == l.read && !l.last;
      l.idle = empty ? l.idle + 1 : 0;
      if (l.idle > patience && l.rest()) {
        unlink_next();
      } else {
        cursor_ = &l;
      }
    }
  }

  /// One lane of all in each drain: invariant 5 of detail/mail/lane.hpp.
  void look_at_one() noexcept {
    if (all_ == nullptr) return;
    all_ = all_->newer;
    if (!all_->listed.load(std::memory_order_relaxed) && all_->has_mail() && all_->take_up()) {
      link(*all_);
    }
  }

  detail::mail_hub* hub_;
  detail::mail_lane* all_ = nullptr;     // any lane of the circle of all
  detail::mail_lane* cursor_ = nullptr;  // the busy lane that was served last; its next is next
  std::size_t busy_ = 0;                 // lanes that are looked into
  mail_counts retired_{};
  std::uint64_t drained_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_MAILBOX_HPP
