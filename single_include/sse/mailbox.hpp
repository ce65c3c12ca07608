// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/mailbox.hpp
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

#include "sse.hpp"
// ---- sse/detail/mail/lane.hpp
//
// A lane of a mailbox: a queue of records with one writer, the publisher, and one reader, the
// mailbox, and what makes the reader look into it. Include sse/mailbox.hpp.
//
// Invariants:
// 1. Only the writer writes `tail`, only the reader `head`. A ring's free part, from `tail` to
//    `head`, is the writer's to scribble on.
// 2. A record never wraps: what is left at the end of the ring is skipped by a mark. A record takes
//    at most half of the lane, so that one that is not too large fits once the lane is drained.
// 3. A lane is listed or at rest. Listed: it is in mail_hub::ready or in the reader's circle, or
//    its writer is just putting it there; the reader looks into it. At rest: nobody does.
//    - Committing stores `tail`, then reads `listed`; going to rest stores `listed`, then reads
//      `tail`. All four are sequentially consistent, so one of the two sides sees the other: either
//      the writer lists the lane, or the reader finds the mail and keeps the lane.
//    - Whoever turns `listed` from false to true, by an exchange, is alone with that: the writer
//      pushes the lane onto `ready`, the reader keeps it in its circle. So a lane is never in both.
//    - The same for `gone`, after which nothing is committed.
// 4. Listing for mail pushes onto `ready`, then reads `sleeping`; going to sleep stores `sleeping`,
//    then reads `ready`, and lets all lanes of the circle go to rest. Sequentially consistent
//    again: a lane that the reader did not see there, or found at rest by its writer after that,
//    calls wake. A writer that finds its lane listed need not look at `sleeping`: it pushed the
//    lane itself earlier, and looked then, or the reader kept it because of mail, and does not
//    sleep.
// 5. With wake_mode::never the writer has no barrier between `tail` and `listed`: its store may
//    become visible after the reader has looked and let the lane go to rest. The reader therefore
//    looks at one lane of all in each drain, listed or not: what was missed is found at the latest
//    after as many drains as there are lanes.
// 6. A lane that may climb has a small ring, home, and takes a large one, high, when more waits
//    than home holds; a mark in home says where. `claim` says whose high is: odd while the writer
//    has records in it that are not committed, even while it has not, 0 once the reader took it.
//    The reader takes it by an exchange that fails if the writer claimed it since the reader found
//    the lane empty, so both begin at home again, at the same position, and high is the reader's
//    to free.
// 7. A lane is freed by the last of its two sides.
#ifndef SSEHUB_DETAIL_MAIL_LANE_HPP
#define SSEHUB_DETAIL_MAIL_LANE_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

#include "mail.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

inline constexpr std::size_t cache_line = 64;
struct mail_lane;

/// What publishers and the hub's thread share; freed by the last of them.
struct mail_hub {
  explicit mail_hub(const mailbox_options& o) noexcept : options{o} {}

  const mailbox_options options;
  std::atomic<std::uint32_t> refs{1};
  std::atomic<bool> closed{false};
  std::atomic<std::size_t> room_at_once{0};  // of the lanes that have theirs from the start
  alignas(cache_line) std::atomic<mail_lane*> arrivals{nullptr};  // made, not yet met by the reader
  std::atomic<mail_lane*> ready{nullptr};  // listed, not yet in the reader's circle; newest first
  alignas(cache_line) std::atomic<std::uint32_t> sleeping{0};
  std::atomic<std::uint32_t> wakers{0};  // publishers that may be inside options.wake

  static void release(mail_hub* h) noexcept {
    if (h->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete h;
  }

  /// Called after a lane was listed while the loop slept. Of all who did, one wakes it.
  void wake() noexcept {
    wakers.fetch_add(1, std::memory_order_seq_cst);
    if (!closed.load(std::memory_order_seq_cst) &&
        sleeping.exchange(0, std::memory_order_seq_cst) != 0 && options.wake != nullptr) {
      options.wake(options.context);
    }
    wakers.fetch_sub(1, std::memory_order_seq_cst);
    if (closed.load(std::memory_order_seq_cst)) wakers.notify_all();
  }

  /// No wake() calls the host any more once this returns.
  void close() noexcept {
    closed.store(true, std::memory_order_seq_cst);
    for (std::uint32_t n; (n = wakers.load(std::memory_order_seq_cst)) != 0;) {
      wakers.wait(n, std::memory_order_seq_cst);
    }
  }
};

/// Which of a lane's counts, or of mail_counts, tells of this outcome.
template <class Counts>
[[nodiscard]] constexpr auto& count_of(Counts& c, publish_error e) noexcept {
  switch (e) {
    case publish_error::none: return c.accepted;
    case publish_error::full: return c.full;
    case publish_error::too_large: return c.too_large;
    case publish_error::closed: return c.closed;
    default: return c.invalid;
  }
}

/// In front of every record; all records are a multiple of 8 bytes long.
struct mail_header {
  /// Of the whole record. An odd one is a mark: that many bytes less one are skipped; 1: the lane
  /// goes on in its high ring.
  std::uint32_t size = 0;
  std::uint32_t data = 0;  ///< bytes of it, and retry_flag
  event_id id = no_id;
  std::uint16_t type = 0;
  std::uint16_t audience = 0;
  std::uint16_t key = 0;    // bytes of it, and above them its role
  std::uint16_t flags = 0;  // transient, encoded, last, and the channel above them

  static constexpr std::uint16_t transient_flag = 1;
  static constexpr std::uint16_t encoded_flag = 2;
  static constexpr std::uint16_t last_flag = 4;
  static constexpr unsigned role_shift = 14;
  static_assert(max_key_bytes == (1U << role_shift) - 1);
  static constexpr unsigned channel_shift = 3;
  static_assert(max_mail_channel == 0xffffU >> channel_shift);
  static constexpr std::uint32_t climb_mark = 1;
  /// The event's retry stands behind the header. A record has at most half a GiB.
  static constexpr std::uint32_t retry_flag = 0x8000'0000;
};
static_assert(sizeof(mail_header) == 24);

/// One side's view of the ring that it is in. Positions only rise.
struct mail_ring {
  char* memory = nullptr;
  std::size_t mask = 0;
  std::size_t base = 0;   // the position of the first byte
  std::size_t spare = 0;  // bytes that records leave free, for the mark where the lane climbs

  [[nodiscard]] char* at(std::size_t position) const noexcept {
    return memory + ((position - base) & mask);
  }
  [[nodiscard]] std::size_t size() const noexcept { return mask + 1; }
  [[nodiscard]] std::size_t to_end(std::size_t position) const noexcept {
    return size() - ((position - base) & mask);
  }
};

struct mail_lane {
  /// What a lane has that does not have all its room from the start.
  static constexpr std::size_t home_size = 4096;

  mail_lane(mail_hub* h, char* memory, std::size_t home, std::size_t bytes,
            std::uint64_t to) noexcept
      : hub{h},
        home_ring{memory, home - 1, 0, home == bytes ? 0 : climb_step},
        capacity{bytes},
        target{to},
        out{home_ring},
        in{home_ring} {}
  mail_lane(const mail_lane&) = delete;
  mail_lane& operator=(const mail_lane&) = delete;
  ~mail_lane() {
    if (claim.load(std::memory_order_relaxed) != 0) free_ring(out.memory);
    free_ring(home_ring.memory);
  }

  /// `home`: the size of its first ring; both sizes powers of two, home at most half of `bytes` or
  /// all of them.
  static mail_lane* make(mail_hub* hub, std::size_t home, std::size_t bytes,
                         std::uint64_t target) noexcept {
    char* const memory = make_ring(home);
    if (memory == nullptr) return nullptr;
    auto* const lane = new (std::nothrow) mail_lane{hub, memory, home, bytes, target};
    if (lane == nullptr) free_ring(memory);
    return lane;
  }
  static void release(mail_lane* l) noexcept {
    if (l->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete l;
  }

  // --- the writer's side

  /// Memory for a record of `bytes`, a multiple of 8 of at most half the lane; nullptr if it is
  /// full.
  [[nodiscard]] char* reserve(std::size_t bytes) noexcept {
    if (out.memory != home_ring.memory) hold();
    char* place = find_room(bytes);
    while (place == nullptr && out.spare != 0 && climb()) place = find_room(bytes);
    return place;
  }

  /// The record at what reserve gave is complete.
  void append(const mail_header& h) noexcept {
    if (skipped != 0) {
      const auto mark = static_cast<std::uint32_t>(skipped | 1);
      std::memcpy(out.at(written), &mark, sizeof mark);
    }
    ::new (static_cast<void*>(out.at(written + skipped))) mail_header(h);
    written += skipped + h.size;
    if (batches == 0) commit();
    own_next();
  }

  /// Shows the reader what was appended; lists the lane, and wakes the reader if it sleeps.
  void commit() noexcept {
    const bool never = hub->options.mode == wake_mode::never;
    const bool fresh = tail.load(std::memory_order_relaxed) != written;
    if (fresh && never) tail.store(written, std::memory_order_release);
    if (fresh && !never) tail.store(written, std::memory_order_seq_cst);
    if (held) {
      held = false;
      claim.store(++claims, std::memory_order_release);
    }
    if (!fresh) return;
    if (never) {
      if (!listed.load(std::memory_order_relaxed)) list();
    } else if (!listed.load(std::memory_order_seq_cst) && list() &&
               hub->sleeping.load(std::memory_order_seq_cst) != 0) {
      hub->wake();
    }
  }

  /// Nothing comes any more; the reader is to free its side.
  void leave() noexcept {
    commit();
    gone.store(true, std::memory_order_seq_cst);
    list();  // that can wait until the reader wakes up for mail
  }

  // One writer: no read-modify-write needed.
  static void count(std::atomic<std::uint64_t>& n) noexcept {
    n.store(n.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  publish_result done(publish_error e) noexcept {
    if (held && batches == 0) commit();  // it was refused: nothing keeps the high ring
    count(count_of(*this, e));
    return {no_id, e};
  }
  [[nodiscard]] mail_counts counts() const noexcept {
    constexpr auto relaxed = std::memory_order_relaxed;
    return {accepted.load(relaxed), full.load(relaxed), too_large.load(relaxed),
            invalid.load(relaxed), closed.load(relaxed)};
  }

  // --- the reader's side

  /// Gives up to `most` records below `limit` to f; returns how many it took. One that it did not
  /// take stays, and `stopped` is set.
  template <class F>
  std::size_t take(F& f, std::size_t most, bool& stopped) noexcept {
    std::size_t taken = 0;
    std::size_t at = read;
    while (taken != most && at != limit) {
      const char* p = in.at(at);
      std::uint32_t size;
      std::memcpy(&size, p, sizeof size);
      if (size == mail_header::climb_mark) {
        at += climb_step;
        in = {high, capacity - 1, at, 0};
        continue;
      }
      if ((size & 1) != 0) {
        at += size - 1;
        continue;
      }
      mail_header h;
      std::memcpy(&h, p, sizeof h);
      p += sizeof h;
      std::int64_t retry = no_retry;
      if ((h.data & mail_header::retry_flag) != 0) {
        std::memcpy(&retry, p, sizeof retry);
        p += sizeof retry;
      }
      const char* const audience = p + h.type;
      const std::string_view key{audience + h.audience, h.key & max_key_bytes};
      const mail m{
          .target = target,
          .channel = static_cast<std::uint16_t>(h.flags >> mail_header::channel_shift),
          .event = {.type = {p, h.type},
                    .data = {key.data() + key.size(), h.data & ~mail_header::retry_flag},
                    .retry = retry},
          .options = {.id = h.id,
                      .audience = {audience, h.audience},
                      .transient = (h.flags & mail_header::transient_flag) != 0,
                      .key = key,
                      .role = key_role_of(static_cast<unsigned>(h.key) >> mail_header::role_shift),
                      .encoded = (h.flags & mail_header::encoded_flag) != 0,
                      .last = (h.flags & mail_header::last_flag) != 0},
      };
      if constexpr (std::is_same_v<std::invoke_result_t<F&, const mail&>, bool>) {
        stopped = !f(m);
        if (stopped) break;
      } else {
        f(m);
      }
      at += h.size;
      ++taken;
    }
    if (at != read) {
      read = at;
      head.store(at, std::memory_order_release);
    }
    return taken;
  }

  [[nodiscard]] bool has_mail() const noexcept {
    return tail.load(std::memory_order_seq_cst) != read;
  }

  /// True: it is not the reader's to look into any more, until it is in mail_hub::ready. False: it
  /// has mail, or its publisher is gone. REQUIRES: it is in the circle.
  [[nodiscard]] bool rest() noexcept {
    SSEHUB_ASSERT(listed.load(std::memory_order_relaxed));
    if (has_mail()) return false;
    give_back();
    listed.store(false, std::memory_order_seq_cst);
    if (!has_mail() && !gone.load(std::memory_order_seq_cst)) return true;
    return !take_up();
  }

  /// It is at rest and was not listed meanwhile: it belongs into the circle now.
  [[nodiscard]] bool take_up() noexcept {
    return !listed.exchange(true, std::memory_order_seq_cst);
  }

 private:
  static constexpr std::size_t climb_step = 8;

  static char* make_ring(std::size_t bytes) noexcept {
    return static_cast<char*>(::operator new (bytes, std::align_val_t{cache_line}, std::nothrow));
  }
  static void free_ring(char* memory) noexcept {
    ::operator delete (memory, std::align_val_t{cache_line});
  }

  /// False: it was listed.
  bool list() noexcept {
    if (listed.exchange(true, std::memory_order_seq_cst)) return false;
    ready_next = hub->ready.load(std::memory_order_relaxed);
    while (!hub->ready.compare_exchange_weak(ready_next, this, std::memory_order_seq_cst)) {
    }
    return true;
  }

  [[nodiscard]] char* find_room(std::size_t bytes) noexcept {
    const std::size_t to_end = out.to_end(written);
    skipped = to_end < bytes ? to_end : 0;
    const std::size_t need = skipped + bytes + out.spare;
    if (out.size() - (written - seen_head) < need) {
      seen_head = head.load(std::memory_order_acquire);
      if (out.size() - (written - seen_head) < need) return nullptr;
    }
    return out.at(written + skipped);
  }

  /// Goes on in a high ring. False: memory is out.
  [[nodiscard]] bool climb() noexcept {
    char* const memory = make_ring(capacity);
    if (memory == nullptr) return false;
    high = memory;
    constexpr std::uint32_t mark = mail_header::climb_mark;
    std::memcpy(out.at(written), &mark, sizeof mark);
    written += climb_step;
    out = {memory, capacity - 1, written, 0};
    claims = 1;
    claim.store(claims, std::memory_order_relaxed);
    held = true;
    return true;
  }

  /// Keeps the high ring until the next commit; if the reader took it, back to home.
  void hold() noexcept {
    if (held) return;
    std::uint64_t seen = claims;
    held = claim.compare_exchange_strong(seen, claims + 1, std::memory_order_acq_rel);
    if (held) {
      ++claims;
    } else {
      out = home_ring;
      out.base = seen_head = written;
    }
  }

  /// Takes the cache lines of the next record back from the reader, while the publisher does other
  /// work.
  void own_next() noexcept {
    constexpr std::size_t lines = 4;
    if (out.memory != home_ring.memory) return;  // not held any more
    if (out.size() - (written - seen_head) < lines * cache_line) return;
    for (std::size_t i = 0; i != lines; ++i) *out.at(written + i * cache_line) = 0;
  }

  /// The reader's: frees the high ring if nothing lies in it.
  void give_back() noexcept {
    if (in.memory == home_ring.memory) return;
    std::uint64_t seen = claim.load(std::memory_order_acquire);
    if ((seen & 1) != 0 || tail.load(std::memory_order_acquire) != read ||
        !claim.compare_exchange_strong(seen, 0, std::memory_order_acq_rel)) {
      return;
    }
    free_ring(in.memory);
    in = home_ring;
    in.base = read;
  }

 public:
  // Constant, or rarely written.
  mail_hub* const hub;
  const mail_ring home_ring;
  const std::size_t capacity;
  const std::uint64_t target;
  char* high = nullptr;  // the writer's, and after a climb_mark the reader's to read
  std::atomic<std::uint32_t> refs{2};
  std::atomic<bool> gone{false};  // the publisher was destroyed; nothing more will come

  // The writer's, but rarely written.
  mail_ring out;
  std::atomic<std::uint64_t> full{0}, too_large{0}, invalid{0}, closed{0};
  std::atomic<std::uint64_t> claim{0};
  std::uint64_t claims = 0;         // what the writer last stored there
  mail_lane* ready_next = nullptr;  // in mail_hub::ready

  // What the writer writes each time, and `listed`, which is written by both when a lane wakes up
  // or goes to rest: one line, since each that the reader's processor took back costs a publish.
  alignas(cache_line) std::atomic<std::size_t> tail{0};
  std::atomic<bool> listed{false};
  bool held = false;  // the high ring
  std::uint32_t batches = 0;
  std::size_t written = 0;    // ahead of tail inside a batch
  std::size_t seen_head = 0;  // head, when it was last looked at
  std::size_t skipped = 0;    // by the last reserve
  std::atomic<std::uint64_t> accepted{0};

  // The reader's.
  alignas(cache_line) std::atomic<std::size_t> head{0};
  std::size_t read = 0;   // head
  std::size_t limit = 0;  // tail, when this drain began
  mail_ring in;
  bool last = false;           // nothing comes after limit
  std::uint32_t idle = 0;      // drains in a row that found nothing
  mail_lane* next = nullptr;   // in the circle of those that are looked into
  mail_lane* newer = nullptr;  // in the circle of all; before that, in mail_hub::arrivals
  mail_lane* older = nullptr;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_MAIL_LANE_HPP

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
