// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once

// ---- sse/mailbox.hpp
//
// mailbox: the only door for other threads. A publisher copies an event into its own lane: no lock,
// no allocation; the hub's thread drains the lanes and publishes. Not needed, and slower, where the
// hub's own thread publishes.
//
//   sse::mailbox mail{{.wake = &wake_loop, .context = &loop}};
//   sse::publisher quotes = mail.make_publisher(token_of_channel);  // any thread; then its own
//   if (quotes.try_publish(json) != sse::publish_status::ok) ++refused;
//   mail.drain([&](const sse::mail& m) { publish(m); });  // the hub's thread
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
// Invariants:
// 1. A lane has one writer and one reader; only the writer writes `tail`, only the reader `head`.
//    The ring's free part, from `tail` to `head`, is the writer's to scribble on.
// 2. A record never wraps: what is left at the end of the ring is skipped by a mark. A record takes
//    at most half the ring, so that one that is not too large fits once the ring is drained.
// 3. Publishing stores `tail`, then reads `sleeping`; going to sleep stores `sleeping`, then reads
//    every `tail`. All four are sequentially consistent: one of the two sides sees the other, and
//    no wake-up is lost.
// 4. A lane is freed by the last of its two sides. `wake` is never called after close() returned.

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

#include <sse/sse.hpp>

namespace sse::inline v0 {

/// What became of a call to a publisher.
enum class publish_status : std::uint8_t {
  ok,         ///< in the lane; it will be drained
  full,       ///< no room now: the hub's thread is behind
  too_large,  ///< never fits: over half the lane, mailbox_options::limits or the writer's max
  invalid,    ///< CR, LF or NUL in the type, or an id above max_event_id
  closed,     ///< the mailbox is closed or gone, or memory was out when this publisher was made
};

[[nodiscard]] constexpr std::string_view to_string(publish_status s) noexcept {
  switch (s) {
    case publish_status::ok: return "ok";
    case publish_status::full: return "full";
    case publish_status::too_large: return "too_large";
    case publish_status::invalid: return "invalid";
    case publish_status::closed: return "closed";
  }
  return "unknown";
}

/// What a publisher sends. Views are copied before the call returns.
struct message {
  std::string_view type{};      ///< as event::type. REQUIRES: no CR, LF, NUL
  std::string_view data{};      ///< as event::data
  std::string_view audience{};  ///< who may see it; at most 65,535 bytes; empty: everyone
  event_id id = no_id;          ///< for a channel whose ids are given by the publisher
  bool transient = false;       ///< never replayed, without an id
  std::string_view key{};  ///< what it is the state of (publish_options::key); at most 65,535 bytes
  std::uint16_t channel = 0;  ///< for a lane that serves several; at most max_mail_channel
  bool encoded = false;       ///< as publish_options::encoded
};
inline constexpr std::uint16_t max_mail_channel = 0x3fff;

/// What the hub's thread gets. Views are valid during the call.
struct mail {
  std::uint64_t target = 0;  ///< as given to make_publisher
  std::string_view type{};
  std::string_view data{};
  std::string_view audience{};
  event_id id = no_id;
  bool transient = false;
  std::string_view key{};
  std::uint16_t channel = 0;
  bool encoded = false;
};

/// When a publisher calls mailbox_options::wake.
enum class wake_mode : std::uint8_t {
  when_idle,  ///< when mail meets a prepare_sleep: at most once for each
  never,      ///< the loop polls, busily or at a pace; publishing is cheaper by a memory barrier
};

struct mailbox_options {
  /// Ends the hub thread's sleep: called on a publisher's thread. It must be sticky: if it comes
  /// just before the loop really waits, that wait ends at once (eventfd, asio::post). It must not
  /// destroy the mailbox. Default: none.
  void (*wake)(void* context) noexcept = nullptr;
  void* context = nullptr;  ///< for wake; must live until close() has returned
  wake_mode mode = wake_mode::when_idle;
  encode_limits limits{};  ///< what the hub would refuse is refused here; `id` is not used
};

/// Exact counts of one publisher, or the sum over all publishers of a mailbox. One count per call.
struct mail_counts {
  std::uint64_t accepted = 0;
  std::uint64_t full = 0;
  std::uint64_t too_large = 0;
  std::uint64_t invalid = 0;
  std::uint64_t closed = 0;  ///< without those of a publisher that never had a lane

  [[nodiscard]] constexpr std::uint64_t refused() const noexcept {
    return full + too_large + invalid + closed;
  }
  friend constexpr bool operator==(const mail_counts&, const mail_counts&) noexcept = default;
};

class mailbox;
class publisher;

namespace detail {

inline constexpr std::size_t cache_line = 64;
struct mail_lane;

/// What publishers and the hub's thread share; freed by the last of them.
struct mail_hub {
  explicit mail_hub(const mailbox_options& o) noexcept : options{o} {}

  const mailbox_options options;
  std::atomic<std::uint32_t> refs{1};
  std::atomic<bool> closed{false};
  alignas(cache_line) std::atomic<mail_lane*> arrivals{nullptr};  // not yet seen by the reader
  alignas(cache_line) std::atomic<std::uint32_t> sleeping{0};
  std::atomic<std::uint32_t> wakers{0};  // publishers that may be inside options.wake

  static void release(mail_hub* h) noexcept {
    if (h->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete h;
  }

  /// Called after a commit that saw the loop asleep. Of all who did, one wakes it.
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

/// In front of every record; all records are a multiple of 8 bytes long.
struct mail_header {
  std::uint32_t size = 0;  // of the whole record; an odd one marks the rest of the ring as skipped
  std::uint32_t data = 0;
  event_id id = no_id;
  std::uint16_t type = 0;
  std::uint16_t audience = 0;
  std::uint16_t key = 0;
  std::uint16_t flags = 0;  // transient, encoded, and the channel above them

  static constexpr std::uint16_t transient_flag = 1;
  static constexpr std::uint16_t encoded_flag = 2;
};
static_assert(sizeof(mail_header) == 24);

/// A ring of records with one writer, the publisher, and one reader, the mailbox.
struct mail_lane {
  mail_lane(mail_hub* h, char* memory, std::size_t bytes, std::uint64_t to) noexcept
      : hub{h}, ring{memory}, mask{bytes - 1}, target{to} {}
  mail_lane(const mail_lane&) = delete;
  mail_lane& operator=(const mail_lane&) = delete;
  ~mail_lane() { ::operator delete (ring, std::align_val_t{cache_line}); }

  static mail_lane* make(mail_hub* hub, std::size_t bytes, std::uint64_t target) noexcept {
    auto* const ring =
        static_cast<char*>(::operator new (bytes, std::align_val_t{cache_line}, std::nothrow));
    if (ring == nullptr) return nullptr;
    auto* const lane = new (std::nothrow) mail_lane{hub, ring, bytes, target};
    if (lane == nullptr) ::operator delete (ring, std::align_val_t{cache_line});
    return lane;
  }
  static void release(mail_lane* l) noexcept {
    if (l->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete l;
  }

  [[nodiscard]] std::size_t capacity() const noexcept { return mask + 1; }

  /// Memory for a record of `bytes`, a multiple of 8 of at most half the ring; nullptr if it is
  /// full.
  [[nodiscard]] char* reserve(std::size_t bytes) noexcept {
    const std::size_t to_end = capacity() - (written & mask);
    skipped = to_end < bytes ? to_end : 0;
    const std::size_t need = skipped + bytes;
    if (capacity() - (written - seen_head) < need) {
      seen_head = head.load(std::memory_order_acquire);
      if (capacity() - (written - seen_head) < need) return nullptr;
    }
    return ring + ((written + skipped) & mask);
  }

  /// The record at what reserve gave is complete.
  void append(const mail_header& h) noexcept {
    if (skipped != 0) {
      const auto mark = static_cast<std::uint32_t>(skipped | 1);
      std::memcpy(ring + (written & mask), &mark, sizeof mark);
    }
    std::memcpy(ring + ((written + skipped) & mask), &h, sizeof h);
    written += skipped + h.size;
    if (batches == 0) commit();
    own_next();
  }

  /// Takes the cache lines of the next record back from the reader, while the publisher does other
  /// work.
  void own_next() noexcept {
    constexpr std::size_t lines = 4;
    if (capacity() - (written - seen_head) < lines * cache_line) return;
    for (std::size_t i = 0; i != lines; ++i) ring[(written + i * cache_line) & mask] = 0;
  }

  /// Shows the reader what was appended, and wakes it if it sleeps.
  void commit() noexcept {
    if (tail.load(std::memory_order_relaxed) == written) return;
    if (hub->options.mode == wake_mode::never) {
      tail.store(written, std::memory_order_release);
      return;
    }
    tail.store(written, std::memory_order_seq_cst);
    if (hub->sleeping.load(std::memory_order_seq_cst) != 0) hub->wake();
  }

  // One writer: no read-modify-write needed.
  static void count(std::atomic<std::uint64_t>& n) noexcept {
    n.store(n.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  publish_status done(publish_status s) noexcept {
    switch (s) {
      case publish_status::ok: count(accepted); break;
      case publish_status::full: count(full); break;
      case publish_status::too_large: count(too_large); break;
      case publish_status::invalid: count(invalid); break;
      case publish_status::closed: count(closed); break;
    }
    return s;
  }
  [[nodiscard]] mail_counts counts() const noexcept {
    constexpr auto relaxed = std::memory_order_relaxed;
    return {accepted.load(relaxed), full.load(relaxed), too_large.load(relaxed),
            invalid.load(relaxed), closed.load(relaxed)};
  }

  /// Gives up to `most` records below `limit` to f; returns how many it took. One that it did not
  /// take stays, and `stopped` is set.
  template <class F>
  std::size_t take(F& f, std::size_t most, bool& stopped) noexcept {
    std::size_t taken = 0;
    std::size_t at = read;
    while (taken != most && at != limit) {
      const char* p = ring + (at & mask);
      std::uint32_t size;
      std::memcpy(&size, p, sizeof size);
      if ((size & 1) != 0) {
        at += size - 1;
        continue;
      }
      mail_header h;
      std::memcpy(&h, p, sizeof h);
      p += sizeof h;
      mail m;
      m.target = target;
      m.type = {p, h.type};
      m.audience = {p + h.type, h.audience};
      m.key = {p + h.type + h.audience, h.key};
      m.data = {p + h.type + h.audience + h.key, h.data};
      m.id = h.id;
      m.transient = (h.flags & mail_header::transient_flag) != 0;
      m.encoded = (h.flags & mail_header::encoded_flag) != 0;
      m.channel = static_cast<std::uint16_t>(h.flags >> 2);
      if constexpr (std::is_same_v<std::invoke_result_t<F&, const mail&>, bool>) {
        stopped = !f(static_cast<const mail&>(m));
        if (stopped) break;
      } else {
        f(static_cast<const mail&>(m));
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

  // Constant, or rarely written.
  mail_hub* const hub;
  char* const ring;
  const std::size_t mask;
  const std::uint64_t target;
  std::atomic<std::uint32_t> refs{2};
  std::atomic<bool> gone{false};  // the publisher was destroyed; nothing more will come

  // The writer's.
  alignas(cache_line) std::atomic<std::size_t> tail{0};
  std::size_t written = 0;    // ahead of tail inside a batch
  std::size_t seen_head = 0;  // head, when it was last looked at
  std::size_t skipped = 0;    // by the last reserve
  std::uint32_t batches = 0;
  std::atomic<std::uint64_t> accepted{0}, full{0}, too_large{0}, invalid{0}, closed{0};

  // The reader's.
  alignas(cache_line) std::atomic<std::size_t> head{0};
  std::size_t read = 0;       // head
  std::size_t limit = 0;      // tail, when this drain began
  bool last = false;          // nothing comes after limit
  mail_lane* next = nullptr;  // a circle of the lanes; before that, the list of arrivals
};

}  // namespace detail

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
    lane_->commit();
    lane_->gone.store(true, std::memory_order_release);
    detail::mail_lane::release(lane_);
    detail::mail_hub::release(hub);
  }

  /// False: every call answers `closed`.
  [[nodiscard]] explicit operator bool() const noexcept {
    return lane_ != nullptr && !lane_->hub->closed.load(std::memory_order_relaxed);
  }

  /// An unnamed event for everyone. Never blocks, allocates or locks. Errors: publish_status.
  [[nodiscard]] publish_status try_publish(std::string_view data) noexcept {
    return try_publish(message{.data = data});
  }

  /// The same with everything an event can have.
  [[nodiscard]] publish_status try_publish(const message& m) noexcept {
    if (lane_ == nullptr) return publish_status::closed;
    return lane_->done(put(m));
  }

  /// What try_publish(m) would answer now; counts nothing. `ok` stays true, but for `closed`, until
  /// something else is published here: what must go into several lanes or into none asks all first.
  [[nodiscard]] publish_status room_for(const message& m) const noexcept {
    if (lane_ == nullptr) return publish_status::closed;
    if (const publish_status s = check(m); s != publish_status::ok) return s;
    if (!encodable(m, m.data) || !in_lane(m, m.data.size())) return publish_status::too_large;
    const bool room = lane_->reserve(record_size(field_bytes(m) + m.data.size())) != nullptr;
    return room ? publish_status::ok : publish_status::full;
  }

  /// Formats the data in place, if the lane has room for `max` bytes: `write(char* out, std::size_t
  /// max)` writes at most `max` bytes and returns how many, or more than `max` if that was not
  /// enough: the answer is then too_large. If it throws, that goes through. Nothing is published in
  /// either case. `write` must not use this publisher.
  template <mail_writer W>
  [[nodiscard]] publish_status try_emplace(std::size_t max,
                                           W&& write) noexcept(detail::nothrow_writer<W>) {
    return try_emplace(message{}, max, write);
  }

  /// The same with all of `m` but its data.
  template <mail_writer W>
  [[nodiscard]] publish_status try_emplace(const message& m, std::size_t max,
                                           W&& write) noexcept(detail::nothrow_writer<W>) {
    if (lane_ == nullptr) return publish_status::closed;
    return lane_->done(emplace(m, max, write));
  }

  /// Until the result ends, what is published is not shown to the hub.
  [[nodiscard]] publish_batch batch() noexcept { return publish_batch{lane_}; }

  /// Exact in the publisher's own thread, a moment old in any other.
  [[nodiscard]] mail_counts counts() const noexcept {
    return lane_ == nullptr ? mail_counts{} : lane_->counts();
  }

  /// The largest type, audience, key and data together that the lane takes, in bytes.
  [[nodiscard]] std::size_t max_bytes() const noexcept {
    return lane_ == nullptr ? 0 : lane_->capacity() / 2 - sizeof(detail::mail_header);
  }

 private:
  friend class mailbox;
  explicit publisher(detail::mail_lane* lane) noexcept : lane_{lane} {}

  [[nodiscard]] static constexpr std::size_t record_size(std::size_t bytes) noexcept {
    return (sizeof(detail::mail_header) + bytes + 7) & ~std::size_t{7};
  }

  [[nodiscard]] publish_status check(const message& m) const noexcept {
    const detail::mail_hub& hub = *lane_->hub;
    if (hub.closed.load(std::memory_order_relaxed)) return publish_status::closed;
    if (m.type.size() > hub.options.limits.type || m.type.size() > 0xffff ||
        m.audience.size() > 0xffff || m.key.size() > 0xffff) {
      return publish_status::too_large;
    }
    const bool valid = detail::is_field_text(m.type) && m.id <= max_event_id &&
                       m.channel <= max_mail_channel && !(m.encoded && !m.type.empty());
    return valid ? publish_status::ok : publish_status::invalid;
  }

  /// The encoded event is within the limits, with the longest id. Data is read only if its line
  /// ends could matter.
  [[nodiscard]] bool encodable(const message& m, std::string_view data) const noexcept {
    constexpr std::size_t id_line = 4 + 16 + 1;
    const std::size_t limit = lane_->hub->options.limits.event;
    if (m.encoded) return data.size() <= limit;
    const std::size_t fields = id_line + (m.type.empty() ? 0 : m.type.size() + 8) + 1;
    if (fields > limit || data.size() > limit - fields) return false;
    if ((data.size() + 1) * 7 <= limit - fields) return true;
    const detail::line_count n = detail::count_lines(data);
    return n.lines * 7 + n.bytes <= limit - fields;
  }

  [[nodiscard]] static constexpr std::size_t field_bytes(const message& m) noexcept {
    return m.type.size() + m.audience.size() + m.key.size();
  }

  [[nodiscard]] bool in_lane(const message& m, std::size_t data) const noexcept {
    return data <= max_bytes() && field_bytes(m) <= max_bytes() - data;
  }

  /// Room for all fields; those in front of the data are written.
  [[nodiscard]] publish_status reserve(const message& m, std::size_t data, char*& out) noexcept {
    if (!in_lane(m, data)) return publish_status::too_large;
    out = lane_->reserve(record_size(field_bytes(m) + data));
    if (out == nullptr) return publish_status::full;
    out = detail::put(out + sizeof(detail::mail_header), m.type);
    out = detail::put(out, m.audience);
    out = detail::put(out, m.key);
    return publish_status::ok;
  }

  void append(const message& m, std::size_t data) noexcept {
    detail::mail_header h;
    h.size = static_cast<std::uint32_t>(record_size(field_bytes(m) + data));
    h.data = static_cast<std::uint32_t>(data);
    h.id = m.id;
    h.type = static_cast<std::uint16_t>(m.type.size());
    h.audience = static_cast<std::uint16_t>(m.audience.size());
    h.key = static_cast<std::uint16_t>(m.key.size());
    const unsigned flags = (m.transient ? detail::mail_header::transient_flag : 0U) |
                           (m.encoded ? detail::mail_header::encoded_flag : 0U) |
                           static_cast<unsigned>(m.channel) << 2U;
    h.flags = static_cast<std::uint16_t>(flags);
    lane_->append(h);
  }

  [[nodiscard]] publish_status put(const message& m) noexcept {
    publish_status s = check(m);
    if (s != publish_status::ok) return s;
    if (!encodable(m, m.data)) return publish_status::too_large;
    char* out = nullptr;
    if ((s = reserve(m, m.data.size(), out)) != publish_status::ok) return s;
    detail::put(out, m.data);
    append(m, m.data.size());
    return publish_status::ok;
  }

  template <class W>
  [[nodiscard]] publish_status emplace(const message& m, std::size_t max,
                                       W& write) noexcept(detail::nothrow_writer<W>) {
    publish_status s = check(m);
    if (s != publish_status::ok) return s;
    char* out = nullptr;
    if ((s = reserve(m, max, out)) != publish_status::ok) return s;
    const auto size = static_cast<std::size_t>(write(out, max));
    if (size > max || !encodable(m, {out, size})) return publish_status::too_large;
    append(m, size);
    return publish_status::ok;
  }

  detail::mail_lane* lane_ = nullptr;
};

/// All lanes, drained by the hub's thread.
class mailbox {
 public:
  static constexpr std::size_t default_lane = std::size_t{256} << 10;
  static constexpr std::size_t unlimited = static_cast<std::size_t>(-1);

  explicit mailbox(const mailbox_options& options = {}) noexcept
      : hub_{new (std::nothrow) detail::mail_hub{options}} {}
  mailbox(const mailbox&) = delete;
  mailbox& operator=(const mailbox&) = delete;

  /// What was not drained is lost: close(), drain() and then destroy.
  ~mailbox() {
    if (hub_ == nullptr) return;
    hub_->close();
    meet();
    while (cursor_ != nullptr) drop_next();
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
    detail::mail_lane* const lane = detail::mail_lane::make(hub_, bytes, target);
    if (lane == nullptr) return {};
    hub_->refs.fetch_add(1, std::memory_order_relaxed);
    lane->next = hub_->arrivals.load(std::memory_order_relaxed);
    while (!hub_->arrivals.compare_exchange_weak(lane->next, lane, std::memory_order_seq_cst)) {
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
    meet();
    for (std::size_t i = 0; i != lanes_; ++i) {
      detail::mail_lane& l = *cursor_->next;
      l.last = l.gone.load(std::memory_order_acquire);  // before tail: after it nothing comes
      l.limit = l.tail.load(std::memory_order_acquire);
      cursor_ = &l;
    }
    std::size_t drained = 0;
    bool stopped = false;
    for (std::size_t empty = 0; empty < lanes_ && drained != max_records && !stopped;) {
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
  /// calls wake. False: there is mail, drain again.
  [[nodiscard]] bool prepare_sleep() noexcept {
    if (hub_ == nullptr) return true;
    hub_->sleeping.store(1, std::memory_order_seq_cst);
    meet();
    for (std::size_t i = 0; i != lanes_; ++i) {
      detail::mail_lane& l = *cursor_->next;
      if (l.tail.load(std::memory_order_seq_cst) != l.read) {
        awake();
        return false;
      }
      cursor_ = &l;
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
  [[nodiscard]] mail_counts counts() noexcept {
    mail_counts sum = retired_;
    if (hub_ == nullptr) return sum;
    meet();
    detail::mail_lane* l = cursor_;
    for (std::size_t i = 0; i != lanes_; ++i, l = l->next) add(sum, l->counts());
    return sum;
  }

  /// Records drained so far.
  [[nodiscard]] std::uint64_t drained() const noexcept { return drained_; }

 private:
  static void add(mail_counts& sum, const mail_counts& n) noexcept {
    sum.accepted += n.accepted;
    sum.full += n.full;
    sum.too_large += n.too_large;
    sum.invalid += n.invalid;
    sum.closed += n.closed;
  }

  /// Takes lanes that are new into the circle, behind all others.
  void meet() noexcept {
    if (hub_->arrivals.load(std::memory_order_seq_cst) == nullptr) return;
    detail::mail_lane* l = hub_->arrivals.exchange(nullptr, std::memory_order_seq_cst);
    detail::mail_lane* oldest = nullptr;  // arrivals are newest first: turn them round
    while (l != nullptr) {
      detail::mail_lane* const older = l->next;
      l->next = oldest;
      oldest = l;
      l = older;
    }
    while (oldest != nullptr) {
      detail::mail_lane* const newer = oldest->next;
      if (cursor_ == nullptr) {
        oldest->next = oldest;
      } else {
        oldest->next = cursor_->next;
        cursor_->next = oldest;
      }
      cursor_ = oldest;
      ++lanes_;
      oldest = newer;
    }
  }

  /// The lane after the cursor leaves the circle.
  void drop_next() noexcept {
    detail::mail_lane* const l = cursor_->next;
    if (l == cursor_) {
      cursor_ = nullptr;
    } else {
      cursor_->next = l->next;
    }
    --lanes_;
    add(retired_, l->counts());
    detail::mail_lane::release(l);
  }

  detail::mail_hub* hub_;
  detail::mail_lane* cursor_ = nullptr;  // the lane that was served last; the one after it is next
  std::size_t lanes_ = 0;
  mail_counts retired_{};
  std::uint64_t drained_ = 0;
};

}  // namespace sse::inline v0
