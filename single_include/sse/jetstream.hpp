// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/jetstream.hpp
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

// ---- sse/detail/jetstream/messages.hpp
//
// Events as messages of the stream: their headers, the channels that subjects name, and the bytes
// that subscribers get.
#ifndef SSEHUB_DETAIL_JETSTREAM_MESSAGES_HPP
#define SSEHUB_DETAIL_JETSTREAM_MESSAGES_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

// ---- sse/detail/jetstream/blocks.hpp
//
// Old events of a stream, encoded, in aligned blocks of sequences: each is read once for all who
// need it, by the order's reader thread. Hubs ask and come back.
#ifndef SSEHUB_DETAIL_JETSTREAM_BLOCKS_HPP
#define SSEHUB_DETAIL_JETSTREAM_BLOCKS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sse.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Sequences number * size + 1 to (number + 1) * size; those that the stream has, up to `to`.
struct order_block {
  static constexpr std::uint64_t size = 1024;
  static constexpr std::uint16_t no_channel = UINT16_MAX;  ///< not an event, or of no channel here

  struct record {
    std::uint64_t sequence = 0;
    std::size_t begin = 0;  ///< of its audience, and behind that its bytes
    std::uint32_t audience = 0;
    std::uint32_t length = 0;  ///< of its bytes
    std::uint16_t channel = no_channel;
  };
  std::uint64_t number = 0;
  event_id base = no_id;  ///< ids are this plus the sequence
  std::uint64_t to = 0;
  std::vector<record> records{};
  std::string bytes{};

  [[nodiscard]] static constexpr std::uint64_t of(std::uint64_t sequence) noexcept {
    return (sequence - 1) / size;
  }
  [[nodiscard]] std::uint64_t first() const noexcept { return number * size + 1; }
  [[nodiscard]] std::uint64_t last() const noexcept { return (number + 1) * size; }
  [[nodiscard]] std::size_t memory() const noexcept {
    return bytes.capacity() + records.capacity() * sizeof(record) + sizeof *this;
  }
  /// The first record at or behind `sequence`.
  [[nodiscard]] std::size_t find(std::uint64_t sequence) const noexcept {
    const auto at =
        std::lower_bound(records.begin(), records.end(), sequence,
                         [](const record& r, std::uint64_t s) { return r.sequence < s; });
    return static_cast<std::size_t>(at - records.begin());
  }
  [[nodiscard]] std::string_view audience(const record& r) const noexcept {
    return std::string_view{bytes}.substr(r.begin, r.audience);
  }
  [[nodiscard]] std::string_view text(const record& r) const noexcept {
    return std::string_view{bytes}.substr(r.begin + r.audience, r.length);
  }
};

/// What was read, used last first, and what is to be read. Thread-safe.
class order_blocks {
 public:
  using block_ptr = std::shared_ptr<const order_block>;
  /// Blocks that are read at once.
  static constexpr std::size_t max_run = 8;

  explicit order_blocks(std::size_t memory) noexcept : most_{memory} {}

  /// The block that has `sequence`. nullptr: it is to be read; `news` is true if nobody knew that.
  [[nodiscard]] block_ptr find(std::uint64_t sequence, event_id base, bool& news) {
    const std::uint64_t number = order_block::of(sequence);
    const std::scoped_lock<std::mutex> lock{mutex_};
    const auto known = at(number);
    if (known != blocks_.end() && (*known)->to >= sequence && (*known)->base == base) {
      std::rotate(blocks_.begin(), known, known + 1);
      return blocks_.front();
    }
    news = std::find(wanted_.begin(), wanted_.end(), number) == wanted_.end();
    if (news) wanted_.push_back(number);
    return nullptr;
  }
  /// The first and the last of some blocks in a row that are wanted. False: none is.
  [[nodiscard]] bool next_run(std::uint64_t& first, std::uint64_t& last) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (wanted_.empty()) return false;
    std::sort(wanted_.begin(), wanted_.end());
    first = last = wanted_.front();
    for (std::size_t i = 1; i < wanted_.size() && i < max_run && wanted_[i] == last + 1; ++i)
      ++last;
    return true;
  }
  void put(block_ptr b) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    wanted_.erase(std::remove(wanted_.begin(), wanted_.end(), b->number), wanted_.end());
    if (const auto known = at(b->number); known != blocks_.end()) {
      memory_ -= (*known)->memory();
      blocks_.erase(known);
    }
    memory_ += b->memory();
    blocks_.insert(blocks_.begin(), std::move(b));
    while (blocks_.size() > 1 && memory_ > most_) {
      memory_ -= blocks_.back()->memory();
      blocks_.pop_back();
    }
  }

 private:
  [[nodiscard]] std::vector<block_ptr>::iterator at(std::uint64_t number) noexcept {
    return std::find_if(blocks_.begin(), blocks_.end(),
                        [number](const block_ptr& b) { return b->number == number; });
  }

  std::mutex mutex_;  // of what follows
  std::size_t most_;
  std::size_t memory_ = 0;
  std::vector<block_ptr> blocks_;
  std::vector<std::uint64_t> wanted_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_BLOCKS_HPP
// ---- sse/detail/jetstream/nats.hpp
//
// cnats with owners for what it makes, and what its subjects and answers say.
#ifndef SSEHUB_DETAIL_JETSTREAM_NATS_HPP
#define SSEHUB_DETAIL_JETSTREAM_NATS_HPP

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <nats/nats.h>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

template <auto Free>
struct nats_free {
  template <class T>
  void operator()(T* p) const noexcept {
    Free(p);
  }
};
using nats_options = std::unique_ptr<natsOptions, nats_free<natsOptions_Destroy>>;
using nats_connection = std::unique_ptr<natsConnection, nats_free<natsConnection_Destroy>>;
using nats_jetstream = std::unique_ptr<jsCtx, nats_free<jsCtx_Destroy>>;
using nats_stream_info = std::unique_ptr<jsStreamInfo, nats_free<jsStreamInfo_Destroy>>;
using nats_consumer_info = std::unique_ptr<jsConsumerInfo, nats_free<jsConsumerInfo_Destroy>>;
using nats_subscription = std::unique_ptr<natsSubscription, nats_free<natsSubscription_Destroy>>;
using nats_message = std::unique_ptr<natsMsg, nats_free<natsMsg_Destroy>>;
using nats_inbox = std::unique_ptr<natsInbox, nats_free<natsInbox_Destroy>>;
using nats_bucket = std::unique_ptr<kvStore, nats_free<kvStore_Destroy>>;
using nats_entry = std::unique_ptr<kvEntry, nats_free<kvEntry_Destroy>>;

/// make(cnats function, arguments): its first argument is where the result goes.
template <class Owner, class F, class... Args>
[[nodiscard]] natsStatus nats_make(Owner& out, F f, Args... args) {
  typename Owner::pointer p = nullptr;
  const natsStatus s = f(&p, args...);
  out.reset(p);
  return s;
}

[[nodiscard]] inline std::string_view data_of(const natsMsg* m) noexcept {
  const char* const p = natsMsg_GetData(m);
  return p == nullptr ? std::string_view{}
                      : std::string_view{p, static_cast<std::size_t>(natsMsg_GetDataLength(m))};
}
/// Empty: it has none.
[[nodiscard]] inline std::string_view header_of(natsMsg* m, const char* name) noexcept {
  const char* value = nullptr;
  return natsMsgHeader_Get(m, name, &value) == NATS_OK && value != nullptr ? value
                                                                           : std::string_view{};
}
[[nodiscard]] inline std::string_view text_of(const char* s) noexcept {
  return s == nullptr ? std::string_view{} : std::string_view{s};
}

/// What a consumer's message says in its reply subject: `$JS.ACK.<stream>.<consumer>.<deliveries>.
/// <stream sequence>.<consumer sequence>.<time>.<pending>`, from newer servers with the domain and
/// the account in front of the stream.
struct delivery {
  std::uint64_t sequence = 0;  ///< 0: it is not such a message
  std::uint64_t in_consumer = 0;
  std::uint64_t time_ns = 0;
  std::uint64_t pending = 0;  ///< messages behind it
};
[[nodiscard]] inline delivery delivery_of(const natsMsg* m) noexcept {
  std::string_view reply = text_of(natsMsg_GetReply(m));
  if (!reply.starts_with("$JS.ACK.")) return {};
  constexpr std::size_t most = 12;
  std::string_view tokens[most];
  std::size_t n = 0;
  for (; n < most && !reply.empty(); ++n) {
    const std::size_t dot = reply.find('.');
    tokens[n] = reply.substr(0, dot);
    reply.remove_prefix(dot == reply.npos ? reply.size() : dot + 1);
  }
  if (n < 9) return {};
  const std::string_view* const t = tokens + (n < 11 ? 5 : 7);
  delivery d;
  std::uint64_t* const to[] = {&d.sequence, &d.in_consumer, &d.time_ns, &d.pending};
  for (int i = 0; i < 4; ++i) {
    if (read_decimal(t[i], UINT64_MAX, *to[i]) != decimal::number) return {};
  }
  return d;
}

/// The number behind `"name":` in an answer of the server; 0: none.
[[nodiscard]] inline std::uint64_t number_in(std::string_view json,
                                             std::string_view name) noexcept {
  const std::size_t at = json.find(name);
  if (at == json.npos) return 0;
  std::size_t i = at + name.size();
  while (i < json.size() && (json[i] == ' ' || json[i] == ':' || json[i] == '"')) ++i;
  std::size_t end = i;
  while (end < json.size() && json[end] >= '0' && json[end] <= '9') ++end;
  std::uint64_t n = 0;
  return read_decimal(json.substr(i, end - i), UINT64_MAX, n) == decimal::number ? n : 0;
}
/// The text behind `"name":"`; empty: none.
[[nodiscard]] inline std::string_view text_in(std::string_view json,
                                              std::string_view name) noexcept {
  const std::size_t at = json.find(name);
  if (at == json.npos) return {};
  const std::size_t begin = json.find('"', at + name.size() + 1);
  if (begin == json.npos) return {};
  const std::size_t end = json.find('"', begin + 1);
  return json.substr(begin + 1, end == json.npos ? end : end - begin - 1);
}

/// take(message) for what comes, until it is told to stop.
template <class Take>
void hear(natsSubscription* from, const std::atomic<bool>& stopping, Take take) {
  while (!stopping) {
    nats_message m;
    if (nats_make(m, natsSubscription_NextMsg, from, std::int64_t{100}) == NATS_OK) take(m.get());
  }
}

/// Any text as a token of a subject; read_token() is the way back, nullopt: it is none.
[[nodiscard]] inline std::string as_token(std::string_view text) {
  std::string out;
  out.reserve(text.size() * 2);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += "0123456789abcdef"[byte >> 4U];
    out += "0123456789abcdef"[byte & 15U];
  }
  return out;
}
[[nodiscard]] inline std::optional<std::string> read_token(std::string_view hex) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  if (hex.size() % 2 != 0) return std::nullopt;
  for (std::size_t i = 0; i != hex.size(); i += 2) {
    const std::size_t high = digits.find(hex[i]);
    const std::size_t low = digits.find(hex[i + 1]);
    if (high == digits.npos || low == digits.npos) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
  }
  return out;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_NATS_HPP
#include "jetstream_options.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Where the thread that follows is: it writes, all read.
class order_place {
 public:
  struct position {
    event_id base = no_id;       ///< ids are this plus the sequence
    std::uint64_t from = 0;      ///< the epoch began behind this sequence
    std::uint64_t sequence = 0;  ///< of the last event that came
    std::uint64_t time_ns = 0;   ///< when that was stored; 0: not known
  };
  [[nodiscard]] position now() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return position_;
  }
  [[nodiscard]] event_id base() const { return now().base; }
  [[nodiscard]] std::uint64_t sequence() const { return now().sequence; }
  void enter(const position& p) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    position_ = p;
  }
  void come(std::uint64_t sequence, std::uint64_t time_ns) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    position_.sequence = sequence;
    position_.time_ns = time_ns;
  }

  /// All that the stream has came, just now.
  void caught_up() noexcept {
    caught_up_.store(clock::now().time_since_epoch().count(), std::memory_order_release);
  }
  [[nodiscard]] std::chrono::steady_clock::time_point caught_up_at() const noexcept {
    return clock::time_point{clock::duration{caught_up_.load(std::memory_order_acquire)}};
  }

  std::atomic<std::uint64_t> gone{0};  ///< the stream has nothing at or below it

 private:
  using clock = std::chrono::steady_clock;

  std::atomic<clock::rep> caught_up_{0};
  mutable std::mutex mutex_;  // of what follows
  position position_;
};

class order_messages {
 public:
  static constexpr std::size_t max_headers = 60'000;  // servers store 64 KiB of them
  static constexpr const char* type = "Sse-Event";
  static constexpr const char* key = "Sse-Key";
  static constexpr const char* audience = "Sse-Audience";
  static constexpr const char* role = "Sse-Role";       ///< publish_options::role
  static constexpr const char* number = "Nats-Msg-Id";  ///< by which it is stored once

  /// `subjects`: what is in front of a channel's name.
  order_messages(const jetstream_options& o, std::string subjects, const order_place& place)
      : options_{&o}, subjects_{std::move(subjects)}, place_{&place} {
    for (std::size_t i = 0; i < o.channels.size(); ++i)
      numbers_.emplace(o.channels[i], static_cast<std::uint16_t>(i));
  }

  /// REQUIRES: the order has that channel.
  [[nodiscard]] std::uint16_t number_of(std::string_view channel) const {
    return numbers_.find(std::string{channel})->second;
  }
  [[nodiscard]] std::string subject_of(std::size_t channel) const {
    return subjects_ + options_->channels[channel];
  }
  [[nodiscard]] static bool is_header(std::string_view s) noexcept {
    return s.find_first_of(std::string_view{"\r\n\0", 3}) == s.npos &&
           (s.empty() || (s.front() != ' ' && s.back() != ' '));
  }
  /// That an event may have, so that it fits into a lane.
  [[nodiscard]] std::size_t most_bytes(const publish_options& o) const noexcept {
    const std::size_t most = (std::max)(options_->lane_bytes, std::size_t{1024}) / 2;
    const std::size_t beside = o.audience.size() + o.key.size() + 64;
    return beside < most ? most - beside : 0;
  }
  /// What a message says of its event. Valid while it is there.
  [[nodiscard]] static publish_options options_of(natsMsg* m) noexcept {
    return {.audience = header_of(m, audience),
            .key = header_of(m, key),
            .role = role_of(header_of(m, role))};
  }
  /// Empty: no header.
  [[nodiscard]] static std::string_view name_of(key_role r) noexcept {
    return r == key_role::erase ? "erase" : r == key_role::barrier ? "barrier" : "";
  }
  [[nodiscard]] static key_role role_of(std::string_view name) noexcept {
    return name == "erase"     ? key_role::erase
           : name == "barrier" ? key_role::barrier
                               : key_role::value;
  }
  /// Puts an event's bytes, as they go to subscribers, behind `out`, and gives its channel;
  /// no_channel: it is no event of a channel here.
  [[nodiscard]] std::uint16_t encode(natsMsg* m, std::uint64_t sequence, std::string& out) {
    const std::string_view subject = text_of(natsMsg_GetSubject(m));
    if (!subject.starts_with(subjects_)) return order_block::no_channel;
    const auto to = numbers_.find(std::string{subject.substr(subjects_.size())});
    if (to == numbers_.end()) {
      passed_.fetch_add(1, std::memory_order_relaxed);
      return order_block::no_channel;
    }
    const event e{.type = header_of(m, type), .data = data_of(m)};
    const publish_options o = options_of(m);
    id_text text;
    const event_id id = place_->base() + sequence;
    const numbered_event n = give_id(id, text, e, o, options_->limits, most_bytes(o));
    if (n.error != publish_error::none) {
      invalid_.fetch_add(1, std::memory_order_relaxed);
      return order_block::no_channel;
    }
    const std::size_t at = out.size();
    out.resize(at + n.plan.size);
    encode_as(out.data() + at, e, n.id, n.plan);
    return to->second;
  }
  void tell(jetstream_stats& s) const noexcept {
    s.passed = passed_.load(std::memory_order_relaxed);
    s.invalid = invalid_.load(std::memory_order_relaxed);
  }

 private:
  const jetstream_options* options_;
  std::string subjects_;
  const order_place* place_;
  std::unordered_map<std::string, std::uint16_t> numbers_;  // of channels
  std::atomic<std::uint64_t> passed_{0};
  std::atomic<std::uint64_t> invalid_{0};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_MESSAGES_HPP
// ---- sse/detail/jetstream/outbox.hpp
//
// Events on their way to the stream: accepted, sent, sent again until an acknowledgement came, and
// given up in the end. Stored once each, by their message ids.
#ifndef SSEHUB_DETAIL_JETSTREAM_OUTBOX_HPP
#define SSEHUB_DETAIL_JETSTREAM_OUTBOX_HPP

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

// ---- sse/detail/jetstream/stream.hpp
//
// A connection to the cluster and what an order asks of it: the stream and its settings, the record
// of its epoch, a consumer, a run of old messages. Each call waits for an answer, so that none
// belongs into a hub's thread.
#ifndef SSEHUB_DETAIL_JETSTREAM_STREAM_HPP
#define SSEHUB_DETAIL_JETSTREAM_STREAM_HPP

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

// ---- sse/detail/jetstream/epoch.hpp
//
// Which id an event of the stream has: base + sequence. All processes agree on the base by a record
// beside the stream, which is changed by compare-and-set. A stream that was made anew, or that lost
// its tail, gets a base above all ids that anybody gave out, so that an id never means two events.
#ifndef SSEHUB_DETAIL_JETSTREAM_EPOCH_HPP
#define SSEHUB_DETAIL_JETSTREAM_EPOCH_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

struct stream_epoch {
  std::int64_t created_ns = 0;  ///< the stream's creation, since 1970
  event_id base = no_id;        ///< ids are this plus the sequence
  std::uint64_t from = 0;       ///< the epoch began behind this sequence
  std::uint64_t revision = 0;   ///< of the record; 0: it is not there
};

/// As the record has it.
[[nodiscard]] inline std::string epoch_text(const stream_epoch& e) {
  return std::to_string(e.created_ns) + ' ' + std::to_string(e.base) + ' ' + std::to_string(e.from);
}
[[nodiscard]] inline std::optional<stream_epoch> read_epoch(std::string_view text,
                                                            std::uint64_t revision) {
  std::uint64_t n[3] = {};
  for (int i = 0; i < 3; ++i) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    const std::uint64_t most = i == 0 ? INT64_MAX : max_event_id;
    if (read_decimal(word, most, n[i]) != decimal::number || (space == text.npos) != (i == 2))
      return std::nullopt;
    text.remove_prefix(i == 2 ? text.size() : space + 1);
  }
  return stream_epoch{static_cast<std::int64_t>(n[0]), n[1], n[2], revision};
}

/// What the stream says of itself.
struct stream_sight {
  std::int64_t created_ns = 0;
  std::uint64_t first = 0;  ///< the oldest that is there
  std::uint64_t last = 0;
};

/// Where this process stands.
struct stream_place {
  bool known = false;  ///< it followed the stream before
  stream_epoch epoch{};
  std::uint64_t sequence = 0;  ///< the last that came
  event_id head = no_id;       ///< the highest id given out
  bool same = true;            ///< the stream still has what came
};

struct epoch_decision {
  enum class kind : std::uint8_t {
    follow,  ///< go on behind `sequence`, in `epoch`
    write,   ///< `epoch` is to be the record, unless somebody else changed it: then look again
  } what;
  stream_epoch epoch;
  std::uint64_t sequence;
};

/// Ids that others may have given out and that this process does not know of: nobody is so far
/// behind. As microseconds 18 minutes.
inline constexpr std::uint64_t epoch_margin = std::uint64_t{1} << 30;

[[nodiscard]] inline epoch_decision decide_epoch(const std::optional<stream_epoch>& record,
                                                 const stream_sight& seen,
                                                 const stream_place& mine) noexcept {
  using kind = epoch_decision::kind;
  const auto larger = [](event_id a, event_id b) { return a < b ? b : a; };
  const bool same = mine.known && mine.same && mine.epoch.created_ns == seen.created_ns;
  const std::uint64_t revision = record ? record->revision : 0;
  const event_id head = mine.known ? mine.head + epoch_margin : no_id;
  const auto created_us = static_cast<event_id>(seen.created_ns / 1000);
  const auto write = [&](event_id base, std::uint64_t from, std::uint64_t go_on) {
    return epoch_decision{kind::write, {seen.created_ns, base, from, revision}, go_on};
  };
  if (same && (!record || record->created_ns != seen.created_ns || record->base < mine.epoch.base))
    return write(mine.epoch.base, mine.epoch.from, mine.sequence);  // the record was lost
  if (!record) return write(larger(created_us, head), 0, 0);
  if (record->created_ns != seen.created_ns)  // the stream was made anew: all in it is new
    return write(larger(larger(created_us, record->base + epoch_margin), head), 0, 0);
  if (!mine.known) return {kind::follow, *record, 0};
  if (record->base == mine.epoch.base && same) return {kind::follow, *record, mine.sequence};
  const std::uint64_t go_on = same ? mine.sequence : record->from;
  const bool raised = record->base != mine.epoch.base && record->base + go_on > mine.head &&
                      record->from <= seen.last;
  if (raised) return {kind::follow, *record, go_on};  // somebody saw it before
  return write(larger(larger(record->base + epoch_margin, head), created_us), seen.last, seen.last);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_EPOCH_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class jetstream_link {
 public:
  static constexpr std::int64_t second_ns = 1'000'000'000;
  static constexpr std::int64_t duplicate_window_ns = 300 * second_ns;

  explicit jetstream_link(const jetstream_options& o)
      : options_{&o},
        stream_{o.stream.empty() ? o.prefix + '_' + o.hub : o.stream},
        subjects_{o.prefix + '.' + o.hub + '.'} {}

  [[nodiscard]] const std::string& stream() const noexcept { return stream_; }
  /// What is in front of a channel's name.
  [[nodiscard]] const std::string& subjects() const noexcept { return subjects_; }
  [[nodiscard]] natsConnection* connection() const noexcept { return connection_.get(); }
  [[nodiscard]] bool connected() const noexcept {
    return natsConnection_Status(connection_.get()) == NATS_CONN_STATUS_CONNECTED;
  }
  [[nodiscard]] std::string new_inbox() const {
    nats_inbox inbox;
    return nats_make(inbox, natsInbox_Create) == NATS_OK ? std::string{inbox.get()} : std::string{};
  }
  /// Without limits: what waits is bounded by the server's flow control.
  [[nodiscard]] nats_subscription subscribe(const std::string& subject) const {
    nats_subscription s;
    if (nats_make(s, natsConnection_SubscribeSync, connection_.get(), subject.c_str()) != NATS_OK ||
        natsSubscription_SetPendingLimits(s.get(), -1, -1) != NATS_OK)
      return {};
    return s;
  }

  /// Instead of destroying it, while there is a connection: cnats's thread that reads may have
  /// found it for a message already, without holding it. Once the server answered what was asked
  /// after that, it has not.
  void retire(nats_subscription s) const {
    if (s == nullptr) return;
    (void)natsSubscription_Unsubscribe(s.get());
    const std::scoped_lock<std::mutex> lock{retired_mutex_};
    retired_.push_back(std::move(s));
    if (retired_.size() >= 8 &&
        natsConnection_FlushTimeout(connection_.get(), answer_wait()) == NATS_OK)
      retired_.clear();
  }

  // --- start -------------------------------------------------------------------------------------

  [[nodiscard]] jetstream_error open() {
    if (const char* bad = bad_options()) return {jetstream_errc::options, bad};
    if (jetstream_error e = connect()) return e;
    jsOptions o;
    jsOptions_Init(&o);
    o.Wait = answer_wait();
    if (nats_make(js_, natsConnection_JetStream, connection_.get(), &o) != NATS_OK)
      return {jetstream_errc::refused, where() + "no JetStream context: " + last_error()};
    if (jetstream_error e = patiently([this](jsErrCode& c) { return open_stream(c); })) return e;
    return patiently([this](jsErrCode&) { return open_bucket(); });
  }
  /// Nothing comes any more: subscriptions may be destroyed.
  void hang_up() noexcept {
    if (connection_ != nullptr) natsConnection_Close(connection_.get());
    retired_.clear();
  }
  void close() noexcept {
    hang_up();
    bucket_.reset();
    js_.reset();
    connection_.reset();
  }

  // --- the stream --------------------------------------------------------------------------------

  /// nullopt: it does not answer, or is not there, `why` says it.
  [[nodiscard]] std::optional<stream_sight> look(std::string& why) const {
    return look(stream_, why);
  }
  [[nodiscard]] std::optional<stream_sight> look(const std::string& stream,
                                                 std::string& why) const {
    nats_stream_info info;
    jsErrCode code{};
    const natsStatus s = nats_make(info, js_GetStreamInfo, js_.get(), stream.c_str(),
                                   static_cast<jsOptions*>(nullptr), &code);
    if (s != NATS_OK) {
      why = sentence(s, code).text;
      return std::nullopt;
    }
    return sight(*info);
  }
  /// When message `sequence` was stored; 0: it is not there. nullopt: no answer.
  [[nodiscard]] std::optional<std::uint64_t> stored_at(std::uint64_t sequence) const {
    nats_message m;
    jsErrCode code{};
    const natsStatus s = nats_make(m, js_GetMsg, js_.get(), stream_.c_str(), sequence,
                                   static_cast<jsOptions*>(nullptr), &code);
    if (s == NATS_OK) return static_cast<std::uint64_t>(natsMsg_GetTime(m.get()));
    if (code == JSNoMessageFoundErr || code == JSSequenceNotFoundErr || s == NATS_NOT_FOUND)
      return 0;
    return std::nullopt;
  }

  /// A consumer of its own that sends all from `sequence` on to `inbox`; empty: `why` not.
  [[nodiscard]] std::string follow(std::uint64_t sequence, const std::string& inbox,
                                   std::string& why) const {
    jsConsumerConfig c;
    jsConsumerConfig_Init(&c);
    c.DeliverSubject = inbox.c_str();
    c.DeliverPolicy = js_DeliverByStartSequence;
    c.OptStartSeq = sequence;
    c.AckPolicy = js_AckNone;
    c.MaxDeliver = 1;
    c.FlowControl = true;
    c.Heartbeat = second_ns;
    c.InactiveThreshold = 10 * second_ns;
    c.MemoryStorage = true;
    c.Replicas = 1;
    nats_consumer_info info;
    jsErrCode code{};
    const natsStatus s = nats_make(info, js_AddConsumer, js_.get(), stream_.c_str(), &c,
                                   static_cast<jsOptions*>(nullptr), &code);
    if (s == NATS_OK) return info->Name;
    why = sentence(s, code).text;
    return {};
  }
  void unfollow(const std::string& consumer) const { unfollow(stream_, consumer); }
  void unfollow(const std::string& stream, const std::string& consumer) const {
    if (connected())
      (void)natsConnection_PublishString(
          connection_.get(), ("$JS.API.CONSUMER.DELETE." + stream + '.' + consumer).c_str(), "");
  }

  /// f(natsMsg*, const delivery&) for each message from `first` to `last` that is there. False: it
  /// broke off.
  template <class F>
  [[nodiscard]] bool read(std::uint64_t first, std::uint64_t last, F f) const {
    return read(stream_, first, last, std::move(f));
  }
  template <class F>
  [[nodiscard]] bool read(const std::string& stream, std::uint64_t first, std::uint64_t last,
                          F f) const {
    jsConsumerConfig c;
    jsConsumerConfig_Init(&c);
    c.DeliverPolicy = js_DeliverByStartSequence;
    c.OptStartSeq = first;
    c.AckPolicy = js_AckNone;
    c.InactiveThreshold = 10 * second_ns;
    c.MemoryStorage = true;
    c.Replicas = 1;
    nats_consumer_info info;
    if (nats_make(info, js_AddConsumer, js_.get(), stream.c_str(), &c,
                  static_cast<jsOptions*>(nullptr), static_cast<jsErrCode*>(nullptr)) != NATS_OK)
      return false;
    const std::string inbox = new_inbox();
    nats_subscription in = subscribe(inbox);
    const bool ok =
        in != nullptr && read_from(stream + '.' + info->Name, inbox, in.get(), first, last, f);
    unfollow(stream, info->Name);
    retire(std::move(in));
    return ok;
  }

  // --- the record of the epoch -------------------------------------------------------------------

  /// False: no answer, `why` says it. nullopt: there is no record.
  [[nodiscard]] bool record(std::optional<stream_epoch>& out, std::string& why) {
    out.reset();
    if (bucket_ == nullptr) {
      if (const jetstream_error e = open_bucket()) {
        why = e.text;
        return false;
      }
    }
    nats_entry e;
    const natsStatus s = nats_make(e, kvStore_Get, bucket_.get(), "epoch");
    if (s == NATS_OK) {
      out = read_epoch(text_of(kvEntry_ValueString(e.get())), kvEntry_Revision(e.get()));
      if (out) return true;
      why = where() + "the record in bucket " + bucket_name() +
            " cannot be read: delete its key `epoch` while no process follows the stream";
      return false;
    }
    if (s == NATS_NOT_FOUND) return true;
    bucket_.reset();  // it may be gone
    why = sentence(s, jsErrCode{}).text;
    return false;
  }
  /// False: somebody else was first, or there was no answer.
  [[nodiscard]] bool write_record(const stream_epoch& e) {
    if (bucket_ == nullptr) return false;
    std::uint64_t revision = 0;
    const std::string text = epoch_text(e);
    return e.revision == 0
               ? kvStore_CreateString(&revision, bucket_.get(), "epoch", text.c_str()) == NATS_OK
               : kvStore_UpdateString(&revision, bucket_.get(), "epoch", text.c_str(),
                                      e.revision) == NATS_OK;
  }
  /// A message comes here when the record changes.
  [[nodiscard]] std::string record_subject() const { return "$KV." + bucket_name() + ".epoch"; }

  /// The key-value bucket of that name, which is made if it is not there. `ttl_ns`: of its keys; 0:
  /// they stay.
  [[nodiscard]] jetstream_error open_bucket(nats_bucket& out, const std::string& name,
                                            std::int64_t ttl_ns) const {
    natsStatus s = nats_make(out, js_KeyValue, js_.get(), name.c_str());
    if (s == NATS_OK) return {};
    kvConfig c;
    kvConfig_Init(&c);
    c.Bucket = name.c_str();
    c.History = 1;
    c.TTL = ttl_ns;
    c.StorageType = js_FileStorage;
    c.Replicas = static_cast<int>(options_->replicas);
    s = nats_make(out, js_CreateKeyValue, js_.get(), &c);
    if (s == NATS_OK) return {};
    if (nats_make(out, js_KeyValue, js_.get(), name.c_str()) == NATS_OK) return {};
    return sentence(s, jsErrCode{});
  }
  /// How long a bucket keeps its keys, in ns; 0: for ever. nullopt: no answer.
  [[nodiscard]] std::optional<std::int64_t> bucket_ttl(const std::string& name) const {
    nats_stream_info info;
    const std::string stream = "KV_" + name;
    if (nats_make(info, js_GetStreamInfo, js_.get(), stream.c_str(),
                  static_cast<jsOptions*>(nullptr), static_cast<jsErrCode*>(nullptr)) != NATS_OK)
      return std::nullopt;
    return info->Config->MaxAge;
  }

  /// Servers that were just started elect their leaders first.
  template <class F>
  [[nodiscard]] jetstream_error patiently(F f) const {
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::milliseconds{options_->connect_wait.ms()};
    for (;; std::this_thread::sleep_for(std::chrono::milliseconds{100})) {
      jsErrCode code{};
      jetstream_error e = f(code);
      const bool passes = e.what == jetstream_errc::unreachable || code == JSClusterNotAvailErr ||
                          code == JSClusterNotLeaderErr || code == JSClusterNoPeersErr ||
                          code == JSClusterIncompleteErr;
      if (!e || !passes || std::chrono::steady_clock::now() >= end) return e;
    }
  }

  /// A sentence or two of a call that failed.
  [[nodiscard]] jetstream_error sentence(natsStatus s, jsErrCode code) const {
    using e = jetstream_errc;
    const std::string at = where() + "stream " + stream_ + ": ";
    const std::string said = std::string{natsStatus_GetText(s)} + last_error();
    switch (static_cast<int>(code)) {
      case JSNotEnabledErr:
      case JSNotEnabledForAccountErr:
        return {e::no_jetstream, at +
                                     "JetStream is off there: start the server with -js, and let "
                                     "this account use it (" +
                                     said + ")"};
      case JSInsufficientResourcesErr:
      case JSAccountResourcesExceededErr:
      case JSStorageResourcesExceededErr:
      case JSMaximumStreamsLimitErr:
      case JSClusterNoPeersErr:
      case JSStreamReplicasNotSupportedErr:
        return {e::full, at +
                             "no room for it, or fewer servers than replicas: give JetStream more "
                             "storage, or ask for fewer replicas or bytes (" +
                             said + ")"};
      default: break;
    }
    if (s == NATS_NO_RESPONDERS || s == NATS_NO_SERVER_SUPPORT)
      return {e::no_jetstream,
              at + "nobody answers for JetStream: start the servers with -js (" + said + ")"};
    if (s == NATS_TIMEOUT || s == NATS_NO_SERVER || s == NATS_CONNECTION_CLOSED ||
        s == NATS_CONNECTION_DISCONNECTED || s == NATS_IO_ERROR)
      return {e::unreachable, at +
                                  "no answer in time: look whether a majority of the servers runs "
                                  "and its network works (" +
                                  said + ")"};
    if (s == NATS_CONNECTION_AUTH_FAILED || s == NATS_NOT_PERMITTED)
      return {e::denied, at + "not allowed: look at the user's permissions (" + said + ")"};
    return {e::refused, at + said};
  }

 private:
  /// For one server, in ms: one that stands still must not keep us from the others.
  [[nodiscard]] std::int64_t answer_wait() const noexcept {
    return (std::min)(options_->connect_wait.ms(), std::int64_t{2000});
  }
  [[nodiscard]] std::string where() const {
    std::string s = "NATS at ";
    for (std::size_t i = 0; i < options_->servers.size(); ++i) {
      const std::string& url = options_->servers[i];
      const std::size_t scheme = url.find("://");
      const std::size_t user = url.rfind('@');  // a password is nobody's business
      s.append(i == 0 ? "" : ",");
      s.append(user == url.npos
                   ? url
                   : url.substr(0, scheme == url.npos ? 0 : scheme + 3) + url.substr(user + 1));
    }
    return s + ": ";
  }
  [[nodiscard]] std::string bucket_name() const { return stream_ + "_epoch"; }
  [[nodiscard]] static std::string last_error() {
    const char* const text = nats_GetLastError(nullptr);
    return text == nullptr || *text == '\0' ? std::string{} : ": " + std::string{text};
  }

  [[nodiscard]] static bool is_token(std::string_view s, bool dots) noexcept {
    bool empty = true;  // the token that is being read
    for (const char c : s) {
      if (c == '.' ? !dots || empty : c <= ' ' || c == '*' || c == '>' || c == 0x7f) return false;
      empty = c == '.';
    }
    return !empty;
  }
  [[nodiscard]] const char* bad_options() const noexcept {
    const jetstream_options& o = *options_;
    if (o.servers.empty()) return "jetstream_options::servers: name at least one";
    if (!is_token(o.prefix, false)) return "jetstream_options::prefix is no token of a subject";
    if (!is_token(o.hub, false)) return "jetstream_options::hub is no token of a subject";
    if (!is_token(stream_, false)) return "jetstream_options::stream is no name of a stream";
    if (o.replicas < 1 || o.replicas > 5) return "jetstream_options::replicas: 1 to 5";
    if (o.channels.empty()) return "jetstream_options::channels: name at least one";
    for (const std::string& c : o.channels) {
      if (!is_token(c, true)) return "jetstream_options::channels: a name is no subject";
    }
    return nullptr;
  }

  [[nodiscard]] jetstream_error connect() {
    nats_options o;
    if (nats_make(o, natsOptions_Create) != NATS_OK)
      return {jetstream_errc::refused, "cnats cannot begin: " + last_error()};
    std::vector<const char*> urls;
    for (const std::string& s : options_->servers) urls.push_back(s.c_str());
    const auto file = [](const std::string& s) { return s.empty() ? nullptr : s.c_str(); };
    natsOptions* const p = o.get();
    natsStatus s = natsOptions_SetServers(p, urls.data(), static_cast<int>(urls.size()));
    const auto also = [&s](natsStatus next) {
      if (s == NATS_OK) s = next;
    };
    also(natsOptions_SetName(p, ("ssehub " + options_->node).c_str()));
    also(natsOptions_SetTimeout(p, answer_wait()));
    also(natsOptions_SetMaxReconnect(p, -1));
    also(natsOptions_SetReconnectWait(p, 200));
    also(natsOptions_SetReconnectJitter(p, 100, 100));
    also(natsOptions_SetPingInterval(p, 1000));  // a server that stands still is left
    also(natsOptions_SetMaxPingsOut(p, 2));
    also(natsOptions_SetWriteDeadline(p, 2000));
    also(natsOptions_SetFailRequestsOnDisconnect(p, true));
    also(natsOptions_SetSendAsap(p, false));
    if (!options_->credentials.empty())
      also(natsOptions_SetUserCredentialsFromFiles(p, options_->credentials.c_str(), nullptr));
    if (!options_->tls_ca.empty() || !options_->tls_cert.empty()) {
      also(natsOptions_SetSecure(p, true));
      if (!options_->tls_ca.empty())
        also(natsOptions_LoadCATrustedCertificates(p, file(options_->tls_ca)));
      if (!options_->tls_cert.empty())
        also(natsOptions_LoadCertificatesChain(p, file(options_->tls_cert),
                                               file(options_->tls_key)));
    }
    if (s != NATS_OK)
      return {jetstream_errc::options, where() + "options are refused: " + natsStatus_GetText(s) +
                                           last_error() + "; look at URLs and files"};
    s = nats_make(connection_, natsConnection_Connect, p);
    if (s == NATS_OK) return {};
    const std::string said = std::string{natsStatus_GetText(s)} + last_error();
    if (s == NATS_CONNECTION_AUTH_FAILED || said.find("uthorization") != said.npos)
      return {jetstream_errc::denied,
              where() + "credentials are refused (" + said +
                  "): look at user, password or the credentials file, and whether they expired"};
    return {jetstream_errc::unreachable,
            where() + "cannot connect (" + said +
                "): look whether a server runs there, and at firewall and TLS"};
  }

  [[nodiscard]] static stream_sight sight(const jsStreamInfo& i) noexcept {
    return {i.Created, i.State.FirstSeq, i.State.LastSeq};
  }

  [[nodiscard]] jetstream_error open_stream(jsErrCode& code) const {
    nats_stream_info info;
    natsStatus s = nats_make(info, js_GetStreamInfo, js_.get(), stream_.c_str(),
                             static_cast<jsOptions*>(nullptr), &code);
    if (s == NATS_NOT_FOUND || code == JSStreamNotFoundErr) {
      code = {};
      s = make_stream(info, code);
      if (code == JSStreamNameExistErr)  // another process made it a moment ago
        s = nats_make(info, js_GetStreamInfo, js_.get(), stream_.c_str(),
                      static_cast<jsOptions*>(nullptr), &code);
    }
    return s == NATS_OK ? check_settings(*info->Config) : sentence(s, code);
  }
  [[nodiscard]] natsStatus make_stream(nats_stream_info& info, jsErrCode& code) const {
    jsStreamConfig c;
    jsStreamConfig_Init(&c);
    const std::string all = subjects_ + '>';
    const char* subjects[] = {all.c_str()};
    const auto limit = [](std::uint64_t n) { return n == 0 ? -1 : static_cast<std::int64_t>(n); };
    const duration age = options_->keep_age;
    c.Name = stream_.c_str();
    c.Subjects = subjects;
    c.SubjectsLen = 1;
    c.Storage = js_FileStorage;
    c.Replicas = options_->replicas;
    c.Discard = js_DiscardOld;
    c.MaxMsgs = limit(options_->keep_events);
    c.MaxBytes = limit(options_->keep_bytes);
    c.MaxAge = age.is_off() || age == duration::infinite() ? 0 : age.ms() * 1'000'000;
    c.Duplicates = c.MaxAge != 0 && c.MaxAge < duplicate_window_ns ? c.MaxAge : duplicate_window_ns;
    c.DenyDelete = true;
    c.DenyPurge = true;
    c.AllowDirect = true;
    return nats_make(info, js_AddStream, js_.get(), &c, static_cast<jsOptions*>(nullptr), &code);
  }
  /// That what is promised holds with them.
  [[nodiscard]] jetstream_error check_settings(const jsStreamConfig& c) const {
    const auto bad = [&](const char* setting, const std::string& is, const std::string& must) {
      return jetstream_error{jetstream_errc::settings,
                             where() + "stream " + stream_ + " has " + setting + ' ' + is +
                                 " and must have " + must +
                                 ": change it with the nats tool, or name another stream "
                                 "(jetstream_options::stream)"};
    };
    const std::string all = subjects_ + '>';
    if (c.SubjectsLen != 1 || c.Subjects[0] != all)
      return bad("subjects", c.SubjectsLen == 0 ? "none" : c.Subjects[0], all + " alone");
    if (c.Storage != js_FileStorage) return bad("storage", "memory", "file");
    if (c.Retention != js_LimitsPolicy) return bad("retention", "by interest or work", "limits");
    if (c.Replicas != static_cast<std::int64_t>(options_->replicas))
      return bad("replicas", std::to_string(c.Replicas), std::to_string(options_->replicas));
    if (c.Discard != js_DiscardOld) return bad("discard", "new", "old");
    if (c.MaxMsgsPerSubject > 0)
      return bad("max_msgs_per_subject", std::to_string(c.MaxMsgsPerSubject), "no such limit");
    const std::int64_t window =
        c.MaxAge != 0 && c.MaxAge < duplicate_window_ns ? c.MaxAge : duplicate_window_ns;
    if (c.Duplicates < window)
      return bad("duplicate_window", std::to_string(c.Duplicates / second_ns) + " s",
                 "at least " + std::to_string(window / second_ns) + " s");
    if (c.NoAck) return bad("no_ack", "true", "false");
    if (c.Sealed) return bad("sealed", "true", "false");
    if (c.Mirror != nullptr || c.SourcesLen != 0) return bad("mirror or sources", "set", "none");
    if (!c.DenyDelete) return bad("deny_delete", "false", "true");
    if (!c.DenyPurge) return bad("deny_purge", "false", "true");
    if (!c.AllowDirect)
      return {jetstream_errc::too_old,
              where() + "stream " + stream_ +
                  " has allow_direct false: a server older than 2.9 "
                  "does not know it and has to be replaced; else set it with the nats tool"};
    return {};
  }

  [[nodiscard]] jetstream_error open_bucket() { return open_bucket(bucket_, bucket_name(), 0); }

  template <class F>
  [[nodiscard]] bool read_from(const std::string& consumer, const std::string& inbox,
                               natsSubscription* in, std::uint64_t first, std::uint64_t last,
                               F& f) const {
    const std::string next = "$JS.API.CONSUMER.MSG.NEXT." + consumer;
    while (first <= last) {
      const std::string ask =
          "{\"batch\":" + std::to_string(last - first + 1) + ",\"no_wait\":true}";
      if (natsConnection_PublishRequestString(connection_.get(), next.c_str(), inbox.c_str(),
                                              ask.c_str()) != NATS_OK)
        return false;
      for (bool some = false;; some = true) {
        nats_message m;
        if (nats_make(m, natsSubscription_NextMsg, in, answer_wait()) != NATS_OK) return false;
        const delivery d = delivery_of(m.get());
        if (d.sequence == 0) {  // there is nothing more now
          const std::string_view status = header_of(m.get(), "Status");
          return status == "404" || (status == "408" && some);
        }
        if (d.sequence > last) return true;
        f(m.get(), d);
        first = d.sequence + 1;
        if (d.sequence == last || d.pending == 0) return true;
      }
    }
    return true;
  }

  const jetstream_options* options_;
  std::string stream_;
  std::string subjects_;
  nats_connection connection_;
  nats_jetstream js_;
  nats_bucket bucket_;  // the thread that opens, then the follower's
  mutable std::mutex retired_mutex_;
  mutable std::vector<nats_subscription> retired_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_STREAM_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class order_outbox {
 public:
  /// `name`: of this run of the process, in message ids.
  order_outbox(const jetstream_options& o, const jetstream_link& link,
               const order_messages& messages, const order_place& place, std::string name)
      : options_{&o}, link_{&link}, messages_{&messages}, place_{&place}, name_{std::move(name)} {}

  /// False: it may not subscribe to its inbox.
  [[nodiscard]] bool open() {
    max_payload_ =
        to_size(static_cast<std::uint64_t>(natsConnection_GetMaxPayload(link_->connection())));
    inbox_ = link_->new_inbox();
    receipts_ = link_->subscribe(inbox_ + ".*");
    return receipts_ != nullptr;
  }
  /// See jetstream::publish().
  [[nodiscard]] publish_result publish(std::size_t channel, const event& e,
                                       const publish_options& o,
                                       function<void(const jetstream_receipt&)> done) {
    const auto fail = [](publish_error why) { return publish_result{no_id, why}; };
    if (channel >= options_->channels.size()) return fail(publish_error::no_channel);
    if (o.transient || e.retry != no_retry) return fail(publish_error::bad_type);
    id_text text;
    const numbered_event n =
        give_id(max_event_id, text, e, o, options_->limits, messages_->most_bytes(o));
    if (n.error != publish_error::none) return fail(n.error);
    if (!order_messages::is_header(o.audience) || !order_messages::is_header(o.key))
      return fail(publish_error::bad_type);
    const std::size_t headers = e.type.size() + o.audience.size() + o.key.size() + 512;
    const std::size_t size = e.data.size() + headers;
    if (size > max_payload_ || headers > order_messages::max_headers)
      return fail(publish_error::too_large);
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (closed_) return fail(publish_error::closed);
    if (waiting_bytes_ + size > options_->queue_bytes) return fail(publish_error::full);
    letter l{.number = next_, .size = size, .done = std::move(done)};
    if (!make(l, channel, e, o)) return fail(publish_error::no_memory);
    ++next_;
    ++published_;
    waiting_bytes_ += size;
    const clock::time_point now = clock::now();
    l.accepted_at = now;
    letters_.push_back(std::move(l));
    if (sender_sleeps_) to_send_.notify_one();
    return {};
  }
  /// Sends, in a thread of its own, until it is stopped.
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
        connected_ = connected;
        if (connected) send_again(lock, now, next);
        give_up(lock, now);
      }
      const std::uint64_t first = letters_.empty() ? next_ : letters_.front().number;
      if (next < first) next = first;
      if (connected_ && next != next_ && next - first < options_->max_in_flight) {
        letter& l = letters_[to_size(next++ - first)];
        if (!l.over) send(lock, l, now);
        continue;
      }
      sender_sleeps_ = true;
      to_send_.wait_for(lock, std::chrono::milliseconds{100});
      sender_sleeps_ = false;
    }
  }
  /// Takes acknowledgements, in a thread of its own, until it is stopped.
  void take_receipts() {
    hear(receipts_.get(), stopping_, [this](natsMsg* m) {
      const std::string_view subject = text_of(natsMsg_GetSubject(m));
      std::uint64_t number = 0;
      if (read_decimal(subject.substr(subject.rfind('.') + 1), UINT64_MAX, number) ==
          decimal::number)
        take_receipt(number, data_of(m), header_of(m, "Status"));
    });
  }
  /// It came from the stream: if it was sent from here it is stored, whether or not the
  /// acknowledgement comes.
  void take_own(std::string_view message_id, std::uint64_t sequence) {
    std::uint64_t number = 0;
    if (message_id.size() <= name_.size() || !message_id.starts_with(name_) ||
        message_id[name_.size()] != '.' ||
        read_decimal(message_id.substr(name_.size() + 1), UINT64_MAX, number) != decimal::number)
      return;
    std::unique_lock<std::mutex> lock{mutex_};
    letter* const l = find(number);
    if (l != nullptr) stored(lock, *l, sequence);
  }
  /// publish() answers `closed` from now on. Waits for what was accepted if `wait`, at most
  /// jetstream_options::stop_wait; then both threads end.
  void stop(bool wait) {
    {
      std::unique_lock<std::mutex> lock{mutex_};
      closed_ = true;
      if (wait)
        all_stored_.wait_for(lock, std::chrono::milliseconds{options_->stop_wait.ms()},
                             [this] { return letters_.empty(); });
      stopping_ = true;
    }
    to_send_.notify_all();
  }
  /// What is left was not stored. REQUIRES: the threads ended.
  void fail_all(std::string_view why) {
    std::unique_lock<std::mutex> lock{mutex_};
    for (std::size_t i = 0; i < letters_.size(); ++i) {
      if (!letters_[i].over) finish(lock, letters_[i], {false, no_id, why});
    }
    bury();
    connected_ = false;
    receipts_.reset();
  }
  void tell(jetstream_stats& s) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    s.published = published_;
    s.stored = stored_;
    s.resent = resent_;
    s.failed = failed_;
    s.waiting = letters_.size() - acknowledged_;
    s.waiting_bytes = waiting_bytes_;
    s.connected = connected_;
  }
  /// Why it cannot store now; empty: it can.
  [[nodiscard]] std::string problem() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return problem_;
  }

 private:
  using clock = std::chrono::steady_clock;

  /// An event that waits for its acknowledgement.
  struct letter {
    std::uint64_t number = 0;
    std::size_t size = 0;
    nats_message message{};
    clock::time_point accepted_at{};
    clock::time_point sent_at{};  // or long ago: send it again
    clock::time_point left_at{};
    bool over = false;
    function<void(const jetstream_receipt&)> done{};
  };
  /// REQUIRES: the lock.
  [[nodiscard]] bool make(letter& l, std::size_t channel, const event& e,
                          const publish_options& o) {
    const std::string subject = messages_->subject_of(channel);
    const std::string reply = inbox_ + '.' + std::to_string(l.number);
    const std::string id = name_ + '.' + std::to_string(l.number);
    natsStatus s = nats_make(l.message, natsMsg_Create, subject.c_str(), reply.c_str(),
                             e.data.data(), static_cast<int>(e.data.size()));
    const auto add = [&](const char* name, std::string_view value) {
      if (s == NATS_OK && !value.empty())
        s = natsMsgHeader_Set(l.message.get(), name, std::string{value}.c_str());
    };
    add(order_messages::number, id);
    add("Nats-Expected-Stream", link_->stream());
    add(order_messages::type, e.type);
    add(order_messages::key, o.key);
    add(order_messages::audience, o.audience);
    add(order_messages::role, order_messages::name_of(o.role));
    return s == NATS_OK;
  }
  /// Without the lock: letters stay where they are until they are over, and this thread alone takes
  /// them away.
  void send(std::unique_lock<std::mutex>& lock, letter& l, clock::time_point now) {
    l.sent_at = l.left_at = now;
    lock.unlock();
    const natsStatus s = natsConnection_PublishMsg(link_->connection(), l.message.get());
    lock.lock();
    if (s != NATS_OK) l.sent_at = now - std::chrono::milliseconds{options_->ack_wait.ms()};
  }
  void send_again(std::unique_lock<std::mutex>& lock, clock::time_point now, std::uint64_t next) {
    const auto wait = std::chrono::milliseconds{options_->ack_wait.ms()};
    const clock::time_point caught_up = place_->caught_up_at();
    for (std::size_t i = 0; i < letters_.size() && letters_[i].number < next; ++i) {
      letter& l = letters_[i];
      if (l.over || now - l.sent_at < wait) continue;
      // Not before the stream shows that it is not there: nats-server 2.9 was seen to lose count
      // of what it stored twice and did not, when a leader is lost next.
      if (caught_up < l.left_at + wait / 2) continue;
      ++resent_;
      send(lock, l, now);
    }
  }
  void give_up(std::unique_lock<std::mutex>& lock, clock::time_point now) {
    const auto most = std::chrono::milliseconds{options_->give_up.ms()};
    for (std::size_t i = 0; i < letters_.size(); ++i) {
      if (now - letters_[i].accepted_at < most) break;
      if (!letters_[i].over)
        finish(lock, letters_[i],
               {false, no_id, "no acknowledgement in time: it may be stored or not"});
    }
  }
  /// REQUIRES: the lock. Called without it: the program's.
  void finish(std::unique_lock<std::mutex>& lock, letter& l, const jetstream_receipt& r) {
    l.over = true;
    ++acknowledged_;
    ++(r.stored ? stored_ : failed_);
    waiting_bytes_ -= l.size;
    if (!l.done) return;
    const function<void(const jetstream_receipt&)> done = std::move(l.done);
    lock.unlock();
    done(r);
    lock.lock();
  }
  /// REQUIRES: the lock, and the sending thread.
  void bury() {
    while (!letters_.empty() && letters_.front().over) {
      letters_.pop_front();
      --acknowledged_;
    }
    if (letters_.empty()) all_stored_.notify_all();
  }
  /// That waits for an acknowledgement. REQUIRES: the lock.
  [[nodiscard]] letter* find(std::uint64_t number) noexcept {
    if (letters_.empty() || number < letters_.front().number) return nullptr;
    const std::uint64_t i = number - letters_.front().number;
    if (i >= letters_.size() || letters_[to_size(i)].over) return nullptr;
    return &letters_[to_size(i)];
  }
  /// REQUIRES: the lock.
  void stored(std::unique_lock<std::mutex>& lock, letter& l, std::uint64_t sequence) {
    problem_.clear();
    const bool first = &l == &letters_.front();
    finish(lock, l, {true, place_->base() + sequence, {}});
    if (sender_sleeps_ && first) to_send_.notify_one();
  }
  void take_receipt(std::uint64_t number, std::string_view answer, std::string_view status) {
    std::unique_lock<std::mutex> lock{mutex_};
    letter* const l = find(number);
    if (l == nullptr) return;
    const bool bad = answer.find("\"error\"") != answer.npos;
    const std::uint64_t sequence = number_in(answer, "\"seq\"");
    if (!bad && sequence != 0) {
      stored(lock, *l, sequence);
    } else if (bad && !is_passing(number_in(answer, "\"err_code\""))) {
      const std::string why =
          "the stream did not store an event: " + std::string{text_in(answer, "\"description\"")} +
          "; look at its limits, and the servers' disks";
      problem_ = why;
      finish(lock, *l, {false, no_id, why});
    } else if (bad || status == "503") {  // no leader just now: it is sent again
      problem_ = "no server stores events now; they wait and are sent again";
      return;
    }
  }
  /// An error that goes away by itself.
  [[nodiscard]] static bool is_passing(std::uint64_t code) noexcept {
    return code == JSClusterNotAvailErr || code == JSClusterNotLeaderErr ||
           code == JSClusterIncompleteErr || code == JSStreamNotFoundErr;
  }

  const jetstream_options* options_;
  const jetstream_link* link_;
  const order_messages* messages_;
  const order_place* place_;
  std::string name_;
  std::size_t max_payload_ = 0;
  std::string inbox_;
  nats_subscription receipts_;
  std::atomic<bool> stopping_{false};

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable to_send_;
  std::condition_variable all_stored_;
  std::deque<letter> letters_;
  std::uint64_t next_ = 0;        // the number of the next letter
  std::size_t acknowledged_ = 0;  // letters that are over
  bool sender_sleeps_ = false;
  bool connected_ = false;
  bool closed_ = false;
  std::uint64_t published_ = 0;
  std::uint64_t stored_ = 0;
  std::uint64_t resent_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t waiting_bytes_ = 0;
  std::string problem_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_OUTBOX_HPP
// ---- sse/detail/jetstream/presence.hpp
//
// How many streams each user has on all nodes together: each node tells the others once a second
// what changed there, and every 10 s all of it; what was not told for 25 s is forgotten, since its
// node is gone. Nothing is stored: a node that begins asks. Plain messages of text: the node's
// name, a line feed, and for each user the count, a space, the name as_token(), a line feed. The
// user without a name is everybody, also those that nobody knows.
#ifndef SSEHUB_DETAIL_JETSTREAM_PRESENCE_HPP
#define SSEHUB_DETAIL_JETSTREAM_PRESENCE_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "shards.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Counts for the caps of this node's hubs; the cap per user holds over all nodes, as of a second
/// ago.
class order_presence final : public cap_counter {
 public:
  using clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds all_told_each{10};
  static constexpr std::chrono::seconds forgotten_after{25};

  order_presence(const jetstream_options& o, const jetstream_link& link)
      : options_{&o}, link_{&link}, subject_{o.prefix + "_nodes." + o.hub} {}

  [[nodiscard]] bool take(kind k, std::string_view key, std::uint32_t max) noexcept override {
    if (k != kind::user && !rest_.take(k, key, max)) return false;
    if (k == kind::address) return true;
    try {
      const std::scoped_lock<std::mutex> lock{mutex_};
      person& p = people_[std::string{key}];
      if (k == kind::user && max != 0 && p.all() >= max) return false;
      ++p.here;
      change(key, p, p.all() == 1);
      return true;
    } catch (...) {  // memory is out
      if (k != kind::user) rest_.give_back(k, key);
      return false;
    }
  }
  void give_back(kind k, std::string_view key) noexcept override {
    if (k != kind::user) rest_.give_back(k, key);
    if (k == kind::address) return;
    try {
      const std::scoped_lock<std::mutex> lock{mutex_};
      const auto at = people_.find(std::string{key});
      if (at == people_.end() || at->second.here == 0) return;
      --at->second.here;
      change(key, at->second, at->second.all() == 0);
    } catch (...) {  // memory is out: told when all is
    }
  }
  [[nodiscard]] std::uint32_t count(kind k, std::string_view key) noexcept override {
    return k == kind::user ? streams_of(key) : rest_.count(k, key);
  }
  /// Of the user without a name: all streams.
  [[nodiscard]] std::uint32_t streams_of(std::string_view user) const noexcept {
    try {
      const std::scoped_lock<std::mutex> lock{mutex_};
      const auto at = people_.find(std::string{user});
      return at == people_.end() ? 0 : at->second.all();
    } catch (...) {  // memory is out
      return 0;
    }
  }
  [[nodiscard]] std::vector<std::string> present() const {
    std::vector<std::string> all;
    const std::scoped_lock<std::mutex> lock{mutex_};
    for (const auto& [user, p] : people_) {
      if (!user.empty() && p.all() != 0) all.push_back(user);
    }
    return all;
  }

  /// False: it may not subscribe.
  [[nodiscard]] bool open() {
    heard_ = link_->subscribe(subject_);
    return heard_ != nullptr;
  }
  [[nodiscard]] const std::string& subject() const noexcept { return subject_; }
  /// Takes what others tell, in a thread of its own, until it is stopped.
  void hear() {
    detail::hear(heard_.get(), stopping_, [this](natsMsg* m) { take(data_of(m)); });
  }
  /// Tells, in a thread of its own.
  void tell_others() {
    say(options_->node + "\nhello\n");
    clock::time_point all_told{};
    while (!stopping_) {
      const clock::time_point now = clock::now();
      const bool all = asked_.exchange(false) || now - all_told >= all_told_each;
      if (all) all_told = now;
      tell(all);
      forget_silent(now);
      tell_program();
      std::unique_lock<std::mutex> lock{mutex_};
      woken_.wait_for(lock, std::chrono::seconds{1}, [this] { return stopping_.load(); });
    }
    say(options_->node + "\nbye\n");
  }
  void stop() noexcept {
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      stopping_ = true;
    }
    woken_.notify_all();
  }
  /// REQUIRES: the threads ended, and nothing comes any more.
  void close() noexcept { heard_.reset(); }

 private:
  struct seat {
    std::string node;
    std::uint32_t count = 0;
    clock::time_point heard{};
  };
  struct person {
    std::uint32_t here = 0;
    bool changed = false;  // and in changed_
    bool known = false;    // the program was told that it is there
    std::vector<seat> there{};

    [[nodiscard]] std::uint32_t all() const noexcept {
      std::uint32_t n = here;
      for (const seat& s : there) n += s.count;
      return n;
    }
  };

  /// REQUIRES: the lock.
  void change(std::string_view user, person& p, bool came_or_went) {
    if (came_or_went) news_.emplace_back(user);
    if (!p.changed) changed_.emplace_back(user);
    p.changed = true;
  }
  void say(const std::string& text) const {
    (void)natsConnection_Publish(link_->connection(), subject_.c_str(), text.data(),
                                 static_cast<int>(text.size()));
  }
  void tell(bool all) {
    constexpr std::size_t most = 60'000;  // of a message
    std::vector<std::string> texts{options_->node + '\n'};
    const auto add = [&](const std::string& user, std::uint32_t n) {
      if (texts.back().size() > most) texts.push_back(options_->node + '\n');
      texts.back() += std::to_string(n) + ' ' + as_token(user) + '\n';
    };
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      for (const std::string& user : changed_) {
        const auto at = people_.find(user);
        if (at == people_.end()) continue;
        at->second.changed = false;
        if (!all || at->second.here == 0) add(user, at->second.here);
      }
      changed_.clear();
      if (all) {
        for (const auto& [user, p] : people_) {
          if (p.here != 0) add(user, p.here);
        }
      }
    }
    for (const std::string& t : texts) {
      if (t.size() > options_->node.size() + 1) say(t);
    }
  }
  void take(std::string_view text) {
    const std::size_t eol = text.find('\n');
    const std::string_view node = text.substr(0, eol);
    if (eol == text.npos || node == options_->node) return;
    text.remove_prefix(eol + 1);
    if (text == "hello\n") asked_ = true;
    const std::scoped_lock<std::mutex> lock{mutex_};
    const clock::time_point now = clock::now();
    if (text == "hello\n" || text == "bye\n") {
      forget([&](const seat& s) { return s.node == node; });
      return;
    }
    for (std::size_t end = 0; (end = text.find('\n')) != text.npos; text.remove_prefix(end + 1)) {
      const std::string_view line = text.substr(0, end);
      const std::size_t space = line.find(' ');
      std::uint64_t n = 0;
      if (space == line.npos ||
          read_decimal(line.substr(0, space), UINT32_MAX, n) != decimal::number)
        continue;
      if (const auto user = read_token(line.substr(space + 1)))
        seat_of(*user, node, static_cast<std::uint32_t>(n), now);
    }
  }
  /// REQUIRES: the lock.
  void seat_of(const std::string& user, std::string_view node, std::uint32_t n,
               clock::time_point now) {
    person& p = people_[user];
    const auto at =
        std::find_if(p.there.begin(), p.there.end(), [&](const seat& s) { return s.node == node; });
    if (at != p.there.end()) {
      *at = {std::string{node}, n, now};
    } else {
      p.there.push_back({std::string{node}, n, now});
    }
    if ((p.all() != 0) != p.known) news_.push_back(user);
  }
  /// REQUIRES: the lock.
  template <class F>
  void forget(F is_gone) {
    for (auto& [user, p] : people_) {
      if (std::erase_if(p.there, is_gone) != 0 && p.all() == 0) news_.push_back(user);
    }
    std::erase_if(people_, [](const auto& entry) {
      const person& p = entry.second;
      return p.all() == 0 && !p.changed && !p.known;
    });
  }
  void forget_silent(clock::time_point now) {
    if (now - forgot_ < std::chrono::seconds{4}) return;
    forgot_ = now;
    const std::scoped_lock<std::mutex> lock{mutex_};
    forget([&](const seat& s) { return s.count == 0 || now - s.heard > forgotten_after; });
  }
  void tell_program() {
    std::vector<std::pair<std::string, bool>> news;
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      for (std::string& user : news_) {
        const auto at = people_.find(user);
        if (at == people_.end()) continue;
        const bool here = at->second.all() != 0;
        if (at->second.known == here) continue;
        at->second.known = here;
        news.emplace_back(std::move(user), here);
      }
      news_.clear();
    }
    if (!options_->on_presence) return;
    for (const auto& [user, here] : news) {
      if (!user.empty()) options_->on_presence(user, here);
    }
  }

  const jetstream_options* options_;
  const jetstream_link* link_;
  std::string subject_;
  nats_subscription heard_;
  shared_caps rest_;  // all streams, and addresses: of this node
  std::atomic<bool> stopping_{false};
  std::atomic<bool> asked_{false};
  clock::time_point forgot_{};  // of the thread that tells

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable woken_;
  std::unordered_map<std::string, person> people_;
  std::vector<std::string> changed_;  // on this node, to be told
  std::vector<std::string> news_;     // who came or went, to be told to the program
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_PRESENCE_HPP
// ---- sse/detail/jetstream/replay.hpp
//
// Old events for the hubs' backfill hooks: a hook takes what was read, one thread reads what they
// miss.
#ifndef SSEHUB_DETAIL_JETSTREAM_REPLAY_HPP
#define SSEHUB_DETAIL_JETSTREAM_REPLAY_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class order_replay {
 public:
  order_replay(const jetstream_options& o, const jetstream_link& link, order_messages& messages,
               order_place& place)
      : blocks_{o.replay_bytes}, link_{&link}, messages_{&messages}, place_{&place} {}

  /// A backfill hook of the channel of that number, in a hub's thread.
  [[nodiscard]] backfill_state give(std::uint16_t number, const backfill_request& r,
                                    backfill_writer& w) {
    constexpr std::uint32_t most = 16'384;  // records that one call looks at
    const order_place::position p = place_->now();
    const event_id begins = p.base + p.from;
    const event_id head = p.base + p.sequence;
    const auto lose = [&](event_id first) { return w.lose(first < r.before ? first : r.before); };
    std::uint32_t looked = 0;
    while (w.last() + 1 < r.before) {
      const event_id gone = p.base + place_->gone.load(std::memory_order_acquire);
      const event_id least = begins < gone ? gone : begins;
      if (w.last() < least) {  // of an epoch before, or the limits removed it
        const bool ok =
            w.last() == no_id ? w.pass((std::min)(least, r.before - 1)) : lose(least + 1);
        if (!ok) return backfill_state::done;
        continue;
      }
      if (w.last() >= head) break;  // the log has what is behind that
      const std::uint64_t sequence = w.last() + 1 - p.base;
      bool news = false;
      const auto block = blocks_.find(sequence, p.base, news);
      if (block == nullptr) {
        if (news) {
          const std::scoped_lock<std::mutex> lock{mutex_};
          to_read_.notify_one();
        }
        return backfill_state::wait;
      }
      for (std::size_t i = block->find(sequence); i != block->records.size(); ++i) {
        const order_block::record& x = block->records[i];
        const event_id id = p.base + x.sequence;
        if (id >= r.before) return backfill_state::done;
        if (w.bytes() >= r.room || ++looked > most) return backfill_state::more;
        if (id > w.last() + 1 && !w.lose(id)) return backfill_state::done;
        const bool ok = x.channel == number ? w.add_encoded(id, block->text(x), block->audience(x))
                                            : w.pass(id);
        if (!ok) return backfill_state::done;
      }
      const event_id to = (std::min)(p.base + block->to, r.before - 1);
      if (w.last() < to && !w.lose(to + 1)) return backfill_state::done;
    }
    return backfill_state::done;
  }
  /// Reads until it is stopped, and says so whenever something came.
  template <class F>
  void run(F news) {
    while (!stopping_) {
      std::uint64_t first = 0;
      std::uint64_t last = 0;
      {
        std::unique_lock<std::mutex> lock{mutex_};
        if (!blocks_.next_run(first, last)) {
          to_read_.wait_for(lock, std::chrono::milliseconds{100});
          continue;
        }
      }
      if (read(first, last)) {
        news();
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds{100});
      }
    }
  }
  void stop() noexcept {
    stopping_ = true;
    to_read_.notify_all();
  }
  void tell(jetstream_stats& s) const noexcept {
    s.reads = reads_.load(std::memory_order_relaxed);
    s.read_events = read_events_.load(std::memory_order_relaxed);
  }

 private:
  [[nodiscard]] bool read(std::uint64_t first, std::uint64_t last) {
    const order_place::position now = place_->now();
    std::vector<std::shared_ptr<order_block>> run;
    for (std::uint64_t n = first; n <= last; ++n) {
      auto b = std::make_shared<order_block>();
      b->number = n;
      b->base = now.base;
      b->to = (std::min)(b->last(), now.sequence);
      run.push_back(std::move(b));
    }
    const std::uint64_t begin = run.front()->first();
    const std::uint64_t end = run.back()->to;
    std::uint64_t came_first = 0;
    std::uint64_t came_last = 0;
    std::uint64_t events = 0;
    if (begin <= end && !link_->read(begin, end, [&](natsMsg* m, const delivery& d) {
          if (events++ == 0) came_first = d.sequence;
          came_last = d.sequence;
          const std::uint64_t n = order_block::of(d.sequence);
          if (n >= first && n <= last) append(*run[to_size(n - first)], m, d.sequence);
        }))
      return false;
    if (!is_as_followed(now)) return false;
    if (begin <= end && (came_first != begin || came_last != end)) {
      std::string why;
      const auto seen = link_->look(why);
      if (!seen || seen->first == 0) return false;
      place_->gone.store(seen->first - 1, std::memory_order_release);
      // Else a server sent it that has not got all itself.
      const std::uint64_t least = (std::max)(begin, seen->first);
      if (least <= end && (came_first > least || came_last != end)) return false;
    }
    for (auto& b : run) blocks_.put(std::move(b));
    reads_.fetch_add(1, std::memory_order_relaxed);
    read_events_.fetch_add(events, std::memory_order_relaxed);
    return true;
  }
  /// What was read is of the history that is followed: a store that was put back has other events
  /// under the same sequences, and the reader may come there before the thread that follows. The
  /// last event that came is still the one with its number: so is what is in front of it.
  [[nodiscard]] bool is_as_followed(const order_place::position& before) const {
    const std::optional<std::uint64_t> at = link_->stored_at(before.sequence);
    if (!at || before.base != place_->base()) return false;
    if (*at != 0) return before.time_ns == 0 || *at == before.time_ns;
    std::string why;  // the limits removed it, or it was never there
    const auto seen = link_->look(why);
    return seen && seen->last >= before.sequence && seen->first > before.sequence;
  }
  void append(order_block& b, natsMsg* m, std::uint64_t sequence) {
    order_block::record r;
    r.sequence = sequence;
    r.begin = b.bytes.size();
    const std::string_view to = header_of(m, order_messages::audience);
    b.bytes.append(to);
    r.audience = static_cast<std::uint32_t>(to.size());
    r.channel = messages_->encode(m, sequence, b.bytes);
    r.length = static_cast<std::uint32_t>(b.bytes.size() - r.begin - to.size());
    b.records.push_back(r);
  }

  order_blocks blocks_;
  const jetstream_link* link_;
  order_messages* messages_;
  order_place* place_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> reads_{0};
  std::atomic<std::uint64_t> read_events_{0};
  std::mutex mutex_;
  std::condition_variable to_read_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_REPLAY_HPP
// ---- sse/detail/jetstream/revocation.hpp
//
// Users whose tokens hold no more, on all nodes: keys of a bucket that live as long as a token may,
// and a copy of them here that admission reads without waiting. What is written to the bucket comes
// to every node as a plain message at once, also where no server can store it just now; once a
// second each node looks whether it has all that is stored.
#ifndef SSEHUB_DETAIL_JETSTREAM_REVOCATION_HPP
#define SSEHUB_DETAIL_JETSTREAM_REVOCATION_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class order_revocations {
 public:
  static constexpr std::size_t max_user = 500;  ///< bytes of a name
  /// As long without a look at the bucket: this node is cut off.
  static constexpr std::chrono::milliseconds heartbeat{3500};

  /// `end`: closes a user's streams on this node.
  order_revocations(const jetstream_options& o, const jetstream_link& link,
                    function<void(std::string_view user)> end)
      : options_{&o},
        link_{&link},
        bucket_{link.stream() + "_revoked"},
        subjects_{"$KV." + bucket_ + '.'},
        end_{std::move(end)} {}

  [[nodiscard]] jetstream_error open() {
    const std::int64_t ttl = options_->revoke_for.ms() * 1'000'000;
    nats_bucket made;
    if (jetstream_error e =
            link_->patiently([&](jsErrCode&) { return link_->open_bucket(made, bucket_, ttl); }))
      return e;
    const auto has = link_->bucket_ttl(bucket_);
    if (has && *has != 0 && *has < ttl)
      return {jetstream_errc::settings,
              "bucket " + bucket_ +
                  " keeps its keys for a shorter time than revoke_for says: "
                  "change it with the nats tool"};
    heard_ = link_->subscribe(subjects_ + '>');
    if (heard_ == nullptr)
      return {jetstream_errc::denied,
              "may not subscribe to " + subjects_ + ">: look at the user's permissions"};
    return link_->patiently([this](jsErrCode&) {
      look();
      return is_fresh() ? jetstream_error{}
                        : jetstream_error{jetstream_errc::unreachable,
                                          "bucket " + bucket_ + " cannot be read"};
    });
  }
  /// See jetstream::revoke().
  [[nodiscard]] bool revoke(std::string_view user) {
    if (user.empty() || user.size() > max_user) return false;
    const std::uint64_t now = now_ms();
    apply(std::string{user}, now);
    const std::scoped_lock<std::mutex> lock{mutex_};
    unstored_[std::string{user}] = {now, {}};
    to_send_.notify_one();
    return true;
  }
  /// See jetstream::admits().
  [[nodiscard]] jetstream_admission ask(std::string_view user, std::uint64_t issued_ms) const {
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      const auto at = revoked_.find(std::string{user});
      if (at != revoked_.end() && holds(at->second, now_ms()) &&
          (issued_ms == 0 || issued_ms <= at->second))
        return jetstream_admission::revoked;
    }
    return is_fresh() ? jetstream_admission::admitted : jetstream_admission::unknown;
  }
  /// Takes plain messages, in a thread of its own, until it is stopped.
  void hear() {
    detail::hear(heard_.get(), stopping_, [this](natsMsg* m) { take(m); });
  }
  /// Sends what is not stored yet, and looks at the bucket, in a thread of its own.
  void keep() {
    while (!stopping_) {
      send();
      if (clock::now() - looked_ >= std::chrono::seconds{1}) {
        looked_ = clock::now();
        look();
        forget_old();
      }
      std::unique_lock<std::mutex> lock{mutex_};
      to_send_.wait_for(lock, std::chrono::milliseconds{250});
    }
  }
  void stop() noexcept {
    stopping_ = true;
    to_send_.notify_all();
  }
  /// REQUIRES: the threads ended, and nothing comes any more.
  void close() noexcept { heard_.reset(); }
  void tell(jetstream_stats& s) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    s.revoked = revoked_.size();
  }

 private:
  using clock = std::chrono::steady_clock;

  struct pending {
    std::uint64_t at_ms = 0;
    clock::time_point sent{};
  };
  [[nodiscard]] static std::uint64_t now_ms() {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                          std::chrono::system_clock::now().time_since_epoch())
                                          .count());
  }
  [[nodiscard]] bool holds(std::uint64_t at_ms, std::uint64_t now) const noexcept {
    return now < at_ms + static_cast<std::uint64_t>(options_->revoke_for.ms());
  }
  [[nodiscard]] bool is_fresh() const noexcept {
    const clock::duration at{fresh_.load(std::memory_order_relaxed)};
    return at.count() != 0 && clock::now().time_since_epoch() - at < heartbeat;
  }
  void apply(std::string user, std::uint64_t at_ms) {
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      std::uint64_t& known = revoked_[user];
      if (known >= at_ms) return;
      known = at_ms;
    }
    end_(user);
  }
  /// A put of the bucket, or a deletion: somebody took a revocation back.
  void take(natsMsg* m) {
    const std::string_view subject = text_of(natsMsg_GetSubject(m));
    if (!subject.starts_with(subjects_)) return;
    const auto user = read_token(subject.substr(subjects_.size()));
    if (!user) return;
    std::uint64_t at = 0;
    if (!header_of(m, "KV-Operation").empty()) {
      const std::scoped_lock<std::mutex> lock{mutex_};
      revoked_.erase(*user);
      unstored_.erase(*user);
    } else if (read_decimal(data_of(m), UINT64_MAX / 2, at) == decimal::number) {
      apply(*user, at);
    }
  }
  void send() {
    std::vector<std::pair<std::string, std::uint64_t>> due;
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      const clock::time_point now = clock::now();
      for (auto& [user, p] : unstored_) {
        if (p.sent != clock::time_point{} && now - p.sent < std::chrono::seconds{2}) continue;
        p.sent = now;
        due.emplace_back(user, p.at_ms);
      }
    }
    for (const auto& [user, at] : due)
      (void)natsConnection_PublishString(link_->connection(), (subjects_ + as_token(user)).c_str(),
                                         std::to_string(at).c_str());
  }
  /// All that the bucket has is here then, as of when it was asked.
  void look() {
    const clock::time_point asked = clock::now();
    const std::string stream = "KV_" + bucket_;
    std::string why;
    const auto seen = link_->look(stream, why);
    if (!seen) return;
    if (seen->created_ns != created_ns_ || seen->last < read_) read_ = 0;  // it was made anew
    created_ns_ = seen->created_ns;
    if (seen->last > read_ && seen->first <= seen->last) {
      std::uint64_t came = 0;
      const bool ok = link_->read(stream, (std::max)(read_ + 1, seen->first), seen->last,
                                  [&](natsMsg* m, const delivery& d) {
                                    came = d.sequence;
                                    take(m);
                                    stored(m);
                                  });
      if (!ok || came != seen->last) return;
    }
    read_ = seen->last;
    fresh_.store(asked.time_since_epoch().count(), std::memory_order_relaxed);
  }
  void stored(natsMsg* m) {
    const auto user = read_token(text_of(natsMsg_GetSubject(m)).substr(subjects_.size()));
    if (!user) return;
    std::uint64_t at = 0;
    const bool put = read_decimal(data_of(m), UINT64_MAX / 2, at) == decimal::number;
    const std::scoped_lock<std::mutex> lock{mutex_};
    const auto p = unstored_.find(*user);
    if (put && p != unstored_.end() && at >= p->second.at_ms) unstored_.erase(p);
  }
  void forget_old() {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const std::uint64_t now = now_ms();
    std::erase_if(revoked_, [&](const auto& r) { return !holds(r.second, now); });
    std::erase_if(unstored_, [&](const auto& p) { return !holds(p.second.at_ms, now); });
  }

  const jetstream_options* options_;
  const jetstream_link* link_;
  std::string bucket_;
  std::string subjects_;  // what is in front of a user's token
  function<void(std::string_view user)> end_;
  nats_subscription heard_;
  std::atomic<bool> stopping_{false};
  std::atomic<clock::rep> fresh_{0};  // when the bucket was asked last, and all of it is here

  // Of the thread that keeps.
  clock::time_point looked_{};
  std::int64_t created_ns_ = 0;
  std::uint64_t read_ = 0;  // the last sequence of the bucket that is here

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable to_send_;
  std::unordered_map<std::string, std::uint64_t> revoked_;  // when, in ms since 1970
  std::unordered_map<std::string, pending> unstored_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_REVOCATION_HPP

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
