// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// key_watchers: who wants which keys of a channel. A publish finds those who want its key; each of
// them finds what changed for it, without looking at what did not.
#pragma once
#ifndef SSEHUB_DETAIL_LOG_KEY_WATCHERS_HPP
#define SSEHUB_DETAIL_LOG_KEY_WATCHERS_HPP

#include <cstdint>
#include <string_view>
#include <utility>

#include <sse/detail/base/name_table.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// One reader's wish for one key. While its values changed and were not taken it stands in the
/// reader's queue, where the first change put it: so no key waits longer than all others take.
struct key_watch {
  enum class at : std::uint8_t {
    rest,
    queue,
    write,  ///< its values are in a write that is not over
  };
  /// Position of the first change that was not taken; queue: with all values from there on. 0: all,
  /// and of those that are lost nothing is said, since they came before the wish. 1: all.
  std::uint64_t due = 0;
  std::uint32_t key = none;     ///< in key_watchers
  std::uint32_t reader = none;  ///< none: given up while it was linked, or in a write
  std::uint32_t newer = none;   ///< the key's watches, in no order
  std::uint32_t older = none;
  std::uint32_t queue_next = none;
  at where = at::rest;
  bool changed = false;  ///< write: since it was taken
  bool linked = false;   ///< has a place in the queue, also if it rests meanwhile
  [[nodiscard]] std::uint32_t& free_link() noexcept { return queue_next; }
};

/// What one reader watches: an open table by key, and the queue.
struct watch_list {
  vec<std::uint32_t> places{};  ///< watches by key; their number is a power of two
  std::uint32_t count = 0;
  std::uint32_t first = none;  ///< of the queue
  std::uint32_t last = none;
};

struct watched_key {
  std::uint32_t watches = none;  ///< the first, through key_watch::older
  std::uint32_t values = none;   ///< the first, which their owner chains
  std::uint64_t lost = 0;        ///< position of the barrier that was lost last
  bool fresh = false;            ///< that is to be done
};

class key_watchers {
 public:
  explicit key_watchers(std::uint64_t seed) noexcept : keys_{seed} {}

  [[nodiscard]] const key_watch& operator[](std::uint32_t w) const noexcept { return watches_[w]; }
  /// Watches that exist, also given up ones that are linked, or in a write.
  [[nodiscard]] std::uint32_t count() const noexcept { return watches_.in_use(); }
  /// A key that somebody watches; none: nobody does.
  [[nodiscard]] std::uint32_t find(std::string_view key) const noexcept { return keys_.find(key); }
  [[nodiscard]] std::string_view name_of(std::uint32_t key) const noexcept {
    return keys_.name_of(key);
  }
  [[nodiscard]] watched_key& key(std::uint32_t k) noexcept { return keys_[k]; }
  [[nodiscard]] const watched_key& key(std::uint32_t k) const noexcept { return keys_[k]; }

  /// The reader's watch on a key; none: it has none.
  [[nodiscard]] std::uint32_t find(const watch_list& of, std::uint32_t key) const noexcept {
    return of.count == 0 ? none : of.places[place_of(of, key)];
  }
  /// A watch on `key`; none: memory is out. REQUIRES: `reader` has none on it yet.
  [[nodiscard]] std::uint32_t add(watch_list& of, std::uint32_t reader,
                                  std::string_view key) noexcept {
    if (!make_room(of) || !watches_.reserve_one()) return none;
    const std::uint32_t k = keys_.acquire(key);
    if (k == none) return none;
    const std::uint32_t w = watches_.take();
    const std::uint32_t next = std::exchange(keys_[k].watches, w);
    watches_[w] = {.key = k, .reader = reader, .older = next};
    if (next != none) watches_[next].newer = w;
    of.places[place_of(of, k)] = w;
    ++of.count;
    return w;
  }
  /// Gives up the watch on a key. REQUIRES: there is one.
  void remove(watch_list& of, std::uint32_t key) noexcept {
    const std::uint32_t w = take_out(of, key);
    give_up(w);
    if (!watches_[w].linked && watches_[w].where != key_watch::at::write) watches_.give_back(w);
  }
  /// Gives up all of a reader's watches, which are in no write any more.
  void clear(watch_list& of) noexcept {
    for (const std::uint32_t w : of.places) {
      if (w == none) continue;
      give_up(w);
      if (!watches_[w].linked) watches_.give_back(w);
    }
    while (of.first != none) watches_.give_back(pop(of));
    of.places.release();
    of.count = 0;
  }

  // --- what changed for a reader -----------------------------------------------------------------

  /// It begins with the values that there are.
  void begin(watch_list& of, std::uint32_t w) noexcept { push(of, w, 0); }
  /// What a change did.
  enum class change : std::uint8_t {
    queued,     ///< it waits now
    follows,    ///< it will, behind the write that has an older value
    overtakes,  ///< a value that waited, and will not be sent
  };
  change changed(watch_list& of, std::uint32_t w, std::uint64_t position) noexcept {
    key_watch& x = watches_[w];
    if (x.where == key_watch::at::rest) {
      push(of, w, position);
      return change::queued;
    }
    if (x.where == key_watch::at::queue && x.due != 0) return change::overtakes;
    if (x.where == key_watch::at::queue) {
      x.due = 1;
    } else if (std::exchange(x.changed, true)) {
      return change::overtakes;
    } else {
      x.due = position;
    }
    return change::follows;
  }
  /// A change that came after the wish waits to be taken.
  [[nodiscard]] bool waits(std::uint32_t w) const noexcept {
    const key_watch& x = watches_[w];
    return x.where == key_watch::at::queue ? x.due != 0 : x.changed;
  }
  /// The watch that waits longest, for a write; none: there is none.
  [[nodiscard]] std::uint32_t take(watch_list& of) noexcept {
    while (of.first != none) {
      const std::uint32_t w = pop(of);
      key_watch& x = watches_[w];
      if (x.reader == none) {
        watches_.give_back(w);
      } else if (x.where == key_watch::at::queue) {
        x.where = key_watch::at::write;
        return w;
      }
    }
    return none;
  }
  /// The position from which on the values of a watch are to be taken, as key_watch::due; nothing:
  /// its reader has them.
  static constexpr std::uint64_t nothing = UINT64_MAX;
  [[nodiscard]] std::uint64_t due(std::uint32_t w) const noexcept {
    const key_watch& x = watches_[w];
    return x.where == key_watch::at::queue || x.changed ? x.due : nothing;
  }
  /// Out of its turn, for a write that is not given back.
  void take_now(std::uint32_t w) noexcept {
    key_watch& x = watches_[w];
    if (x.where == key_watch::at::queue) x.where = key_watch::at::rest;
    x.changed = false;
  }
  /// The write took it, or there was nothing.
  void sent(watch_list& of, std::uint32_t w) noexcept {
    key_watch& x = watches_[w];
    if (x.where != key_watch::at::write) return;
    x.where = key_watch::at::rest;
    if (std::exchange(x.changed, false)) push(of, w, x.due);
  }
  /// The write did not begin it: it is the next again, behind `before`, which was given back in
  /// front of it (none: nothing was). True: it changed meanwhile, so that its value is overtaken.
  bool give_back(watch_list& of, std::uint32_t w, std::uint32_t before) noexcept {
    key_watch& x = watches_[w];
    SSEHUB_ASSERT(x.where == key_watch::at::write);
    SSEHUB_ASSERT(!x.linked);
    x.where = key_watch::at::queue;
    x.linked = true;
    std::uint32_t& link = before == none ? of.first : watches_[before].queue_next;
    x.queue_next = std::exchange(link, w);
    if (x.queue_next == none) of.last = w;
    if (!x.changed) return false;
    x.changed = false;
    x.due = 1;
    return true;
  }
  /// A write had its values, or gives them back. False: its reader gave it up meanwhile, and it is
  /// no more.
  [[nodiscard]] bool comes_from_write(std::uint32_t w) noexcept {
    SSEHUB_ASSERT(watches_[w].where == key_watch::at::write);
    if (watches_[w].reader != none) return true;
    watches_.give_back(w);
    return false;
  }

 private:
  [[nodiscard]] static std::uint32_t home_of(const watch_list& of, std::uint32_t key) noexcept {
    return static_cast<std::uint32_t>((key * 0x9e3779b97f4a7c15ULL) >> 32) & (of.places.size() - 1);
  }
  /// Where the key's watch is, or would be.
  [[nodiscard]] std::uint32_t place_of(const watch_list& of, std::uint32_t key) const noexcept {
    std::uint32_t at = home_of(of, key);
    while (of.places[at] != none && watches_[of.places[at]].key != key)
      at = (at + 1) & (of.places.size() - 1);
    return at;
  }
  /// For one more, with a third of the table free.
  [[nodiscard]] bool make_room(watch_list& of) noexcept {
    if (of.count + of.count / 2 + 1 < of.places.size()) return true;
    const std::uint32_t n = of.places.empty() ? 4 : 2 * of.places.size();
    vec<std::uint32_t> old;
    if (!old.reserve(n)) return false;
    while (old.size() < n) old.push_reserved(none);
    old.swap(of.places);
    for (const std::uint32_t w : old) {
      if (w != none) of.places[place_of(of, watches_[w].key)] = w;
    }
    return true;
  }
  /// Out of the table; those behind it close up.
  [[nodiscard]] std::uint32_t take_out(watch_list& of, std::uint32_t key) noexcept {
    const std::uint32_t mask = of.places.size() - 1;
    std::uint32_t hole = place_of(of, key);
    const std::uint32_t w = of.places[hole];
    SSEHUB_ASSERT(w != none);
    for (std::uint32_t at = (hole + 1) & mask; of.places[at] != none; at = (at + 1) & mask) {
      const std::uint32_t home = home_of(of, watches_[of.places[at]].key);
      if (((at - home) & mask) < ((at - hole) & mask)) continue;  // its home is behind the hole
      of.places[hole] = of.places[at];
      hole = at;
    }
    of.places[hole] = none;
    --of.count;
    return w;
  }
  /// One that is out of its reader's table. While it is linked, or in a write, it stays as
  /// nobody's.
  void give_up(std::uint32_t w) noexcept {
    key_watch& x = watches_[w];
    (x.newer == none ? keys_[x.key].watches : watches_[x.newer].older) = x.older;
    if (x.older != none) watches_[x.older].newer = x.newer;
    x.reader = none;
    keys_.release(x.key);
  }
  void push(watch_list& of, std::uint32_t w, std::uint64_t due) noexcept {
    key_watch& x = watches_[w];
    x.where = key_watch::at::queue;
    x.due = due;
    if (x.linked) return;  // where it stood when it was taken out of its turn
    x.linked = true;
    x.queue_next = none;
    (of.last == none ? of.first : watches_[of.last].queue_next) = w;
    of.last = w;
  }
  /// The first of the queue.
  [[nodiscard]] std::uint32_t pop(watch_list& of) noexcept {
    const std::uint32_t w = of.first;
    of.first = watches_[w].queue_next;
    watches_[w].linked = false;
    if (of.first == none) of.last = none;
    return w;
  }

  name_table<watched_key, 16> keys_;
  slot_pool<key_watch> watches_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_KEY_WATCHERS_HPP
