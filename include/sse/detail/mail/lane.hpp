// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
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
#pragma once
#ifndef SSEHUB_DETAIL_MAIL_LANE_HPP
#define SSEHUB_DETAIL_MAIL_LANE_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

#include <sse/detail/base/assert.hpp>
#include <sse/mail.hpp>

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
