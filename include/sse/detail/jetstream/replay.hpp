// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Old events for the hubs' backfill hooks: a hook takes what was read, one thread reads what they
// miss.
#pragma once
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

#include <sse/detail/base/size.hpp>
#include <sse/detail/jetstream/blocks.hpp>
#include <sse/detail/jetstream/messages.hpp>
#include <sse/detail/jetstream/stream.hpp>

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
