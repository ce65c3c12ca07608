// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// newest_by_key: the newest event of each (audience, key) of a channel, each in a slot that it
// keeps while it is there. What a reader that conflates, or begins with a snapshot, still has to
// see is found in the order of the slots, and what did not change is not looked at: above the
// positions stands the highest of each 64, and of each 4,096. Beside them: which retained events
// had no key, and what was lost.
//
// An erased key keeps its slot with the event that says so, for those who have its value.
//
// Memory: at most `most` values with an event each; the key that was erased first goes first, then
// the one that was silent longest. 24
// bytes for each retained event without a key, and `max_audiences` audiences that lost something.
#pragma once
#ifndef SSEHUB_DETAIL_LOG_NEWEST_BY_KEY_HPP
#define SSEHUB_DETAIL_LOG_NEWEST_BY_KEY_HPP

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <sse/detail/base/blob.hpp>
#include <sse/detail/base/name_table.hpp>
#include <sse/detail/log/key_watchers.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

struct newest_value {
  blob* bytes = nullptr;             ///< the encoded event, without its id
  std::uint32_t room = 0;            ///< bytes that the blob has
  std::uint32_t next_of_key = none;  ///< of a key that is watched: the slot of another audience's
  owned_text audience;
  std::int64_t at = 0;  ///< hub time of its publish, in ms
  bool erased = false;  ///< the event says that there is no value any more
};

/// What is said of an event that is the state of its key.
struct keyed_event {
  std::string_view key{};
  std::uint64_t position = 0;  ///< its id, or its stamp where there are no ids
  std::string_view bytes{};    ///< encoded, without its id
  std::string_view audience{};
  bool erase = false;   ///< it says that the key is gone
  std::int64_t at = 0;  ///< hub time of its publish, in ms
};

/// A retained event that is no state: one without a key, or a barrier.
struct keyless_event {
  std::uint64_t position = 0;
  std::uint64_t ordinal = 0;      ///< in the log
  std::uint32_t audience = none;  ///< none: everybody's
  std::uint32_t key = none;       ///< none: no barrier
};

class newest_by_key {
 public:
  /// Audiences that lost something, told apart; more of them are told as everybody's.
  static constexpr std::uint32_t max_audiences = 64;

  newest_by_key(std::uint32_t most, std::uint64_t seed) noexcept
      : most_{most}, keys_{seed}, audiences_{seed}, barriers_{seed}, lost_{seed} {}
  newest_by_key(const newest_by_key&) = delete;
  newest_by_key& operator=(const newest_by_key&) = delete;
  ~newest_by_key() {
    while (keys_.size() != 0) drop(oldest());
    while (!keyless_.empty()) pop_keyless();
    if (watchers_ == nullptr) return;
    watchers_->~key_watchers();
    deallocate(watchers_);
  }

  /// What was published up to `position` is not known here: it counts as lost.
  void begin_behind(std::uint64_t position) noexcept {
    lost_by_all_ = {position, position, position};
  }
  /// The newest event of a key was published.
  void put(const keyed_event& e) noexcept {
    if (!store(e)) lose(e.audience).value = e.position;
  }
  /// One that is no state, the entry `ordinal` of the log. `key`: whose barrier it is, or none's.
  void put_keyless(std::uint64_t position, std::uint64_t ordinal, std::string_view audience,
                   std::string_view key = {}) noexcept {
    last_keyless_ = position;
    keyless_event e{position, ordinal};
    const bool room = keyless_.reserve_one();
    if (room && !audience.empty()) e.audience = audiences_.acquire(audience);
    if (room && !key.empty()) e.key = barriers_.acquire(key);
    if (room && (e.audience == none) == audience.empty() && (e.key == none) == key.empty()) {
      keyless_.push_reserved(e);
      return;
    }
    lose_keyless(position, audience, key);
    let_go_names(e);
  }
  /// Retention let go of what is in front of `ordinal`.
  void let_go_before(std::uint64_t ordinal) noexcept {
    while (!keyless_.empty() && keyless_[keyless_.first()].ordinal < ordinal) {
      const keyless_event& e = keyless_[keyless_.first()];
      lose_keyless(e.position, audience_of(e), key_of(e));
      pop_keyless();
    }
  }

  // --- values ------------------------------------------------------------------------------------

  /// Slots, in use or free.
  [[nodiscard]] std::uint32_t slot_count() const noexcept { return positions_.size(); }
  [[nodiscard]] std::uint32_t size() const noexcept { return keys_.size(); }
  [[nodiscard]] const newest_value& operator[](std::uint32_t slot) const noexcept {
    return keys_[slot];
  }
  [[nodiscard]] std::uint64_t position(std::uint32_t slot) const noexcept {
    return positions_[slot];
  }
  /// The first slot from `slot` on, in front of `end`, whose value came behind position `since`;
  /// `end`: none. REQUIRES: end <= slot_count().
  [[nodiscard]] std::uint32_t changed(std::uint32_t slot, std::uint32_t end,
                                      std::uint64_t since) const noexcept {
    while (slot < end) {
      if (highest_of_4096_[slot / 4096] <= since) {
        slot = (slot / 4096 + 1) * 4096;
      } else if (highest_of_64_[slot / 64] <= since) {
        slot = (slot / 64 + 1) * 64;
      } else {
        const std::uint32_t stop = (slot / 64 + 1) * 64 < end ? (slot / 64 + 1) * 64 : end;
        for (; slot < stop; ++slot) {
          if (positions_[slot] > since) return slot;
        }
      }
    }
    return end;
  }

  /// The slot of a key and an audience; none: there is none.
  [[nodiscard]] std::uint32_t find(std::string_view key, std::string_view audience) const noexcept {
    return keys_.find(key, hash_of(key, audience),
                      [&](const newest_value& v) { return v.audience.view() == audience; });
  }

  // --- events that are no state, by number -------------------------------------------------------

  [[nodiscard]] std::uint64_t keyless_after(std::uint64_t position) const noexcept {
    std::uint64_t lo = keyless_.first();
    std::uint64_t hi = keyless_.end();
    while (lo < hi) {
      const std::uint64_t mid = lo + (hi - lo) / 2;
      if (keyless_[mid].position > position) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
  [[nodiscard]] std::uint64_t keyless_end() const noexcept { return keyless_.end(); }
  /// Position of the one that was published last, also if it is not retained; 0: there was none.
  [[nodiscard]] std::uint64_t last_keyless() const noexcept { return last_keyless_; }
  [[nodiscard]] const keyless_event& keyless(std::uint64_t n) const noexcept { return keyless_[n]; }
  [[nodiscard]] std::string_view audience_of(const keyless_event& e) const noexcept {
    return e.audience == none ? std::string_view{} : audiences_.name_of(e.audience);
  }
  /// Empty: it is no barrier.
  [[nodiscard]] std::string_view key_of(const keyless_event& e) const noexcept {
    return e.key == none ? std::string_view{} : barriers_.name_of(e.key);
  }

  // --- who watches which keys --------------------------------------------------------------------

  /// nullptr: nobody ever did.
  [[nodiscard]] key_watchers* watchers() const noexcept { return watchers_; }
  /// nullptr: memory is out.
  [[nodiscard]] key_watchers* make_watchers(std::uint64_t seed) noexcept {
    if (watchers_ != nullptr) return watchers_;
    void* const p = allocate(sizeof(key_watchers));
    return p == nullptr ? nullptr : watchers_ = ::new (p) key_watchers(seed);
  }
  /// These keys are watched, and were not: their values are chained. O(keys), and O(values) where
  /// some of those are private.
  void chain_values(const vec<std::uint32_t>& keys) noexcept {
    for (const std::uint32_t k : keys) {
      watched_key& key = watchers_->key(k);
      key.values = none;
      key.fresh = private_values_ != 0;
      if (key.fresh) continue;
      const std::string_view name = watchers_->name_of(k);
      if (const std::uint32_t slot = keys_.find(name, keys_.hash(name)); slot != none)
        chain(slot, k);
    }
    if (private_values_ == 0) return;
    for (std::uint32_t slot = 0; slot < slot_count(); ++slot) {
      const std::uint32_t k = positions_[slot] == 0 ? none : watched(slot);
      if (k != none && watchers_->key(k).fresh) chain(slot, k);
    }
    for (const std::uint32_t k : keys) watchers_->key(k).fresh = false;
  }

  // --- losses ------------------------------------------------------------------------------------

  /// Whether somebody for whom `sees(audience)` lost an event without a key behind `from`.
  template <class Sees>
  [[nodiscard]] bool lost_keyless(std::uint64_t from, Sees sees) const noexcept {
    return any_lost(&losses::keyless, from, sees);
  }
  /// The same of barriers; those of a key that is watched: watched_key::lost.
  template <class Sees>
  [[nodiscard]] bool lost_barrier(std::uint64_t from, Sees sees) const noexcept {
    return any_lost(&losses::barrier, from, sees);
  }
  /// The same of values that had to be forgotten.
  template <class Sees>
  [[nodiscard]] bool lost_value(std::uint64_t from, Sees sees) const noexcept {
    return any_lost(&losses::value, from, sees);
  }

 private:
  /// The slots of the values that came behind and in front of one.
  struct in_age {
    std::uint32_t newer = none;
    std::uint32_t older = none;
  };
  /// A list of them.
  struct by_age {
    std::uint32_t newest = none;
    std::uint32_t oldest = none;
  };
  /// Positions of what was lost last.
  struct losses {
    std::uint64_t keyless = 0;
    std::uint64_t value = 0;
    std::uint64_t barrier = 0;
  };

  template <class Sees>
  [[nodiscard]] bool any_lost(std::uint64_t losses::*kind, std::uint64_t from,
                              Sees sees) const noexcept {
    if (lost_by_all_.*kind > from) return true;
    for (std::uint32_t i = 0; i < lost_.extent(); ++i) {
      if (lost_.refs(i) != 0 && lost_[i].*kind > from && sees(lost_.name_of(i))) return true;
    }
    return false;
  }
  /// Where to note what an audience lost; that is a position behind all others.
  [[nodiscard]] losses& lose(std::string_view audience) noexcept {
    if (audience.empty()) return lost_by_all_;
    std::uint32_t i = lost_.find(audience);
    if (i == none && lost_.size() < max_audiences) i = lost_.acquire(audience);
    if (i == none) return lost_by_all_;
    return lost_[i];
  }
  void lose_keyless(std::uint64_t position, std::string_view audience,
                    std::string_view key) noexcept {
    losses& l = lose(audience);
    (key.empty() ? l.keyless : l.barrier) = position;
    const std::uint32_t k = watchers_ == nullptr || key.empty() ? none : watchers_->find(key);
    if (k != none) watchers_->key(k).lost = position;
  }
  void let_go_names(const keyless_event& e) noexcept {
    if (e.audience != none) audiences_.release(e.audience);
    if (e.key != none) barriers_.release(e.key);
  }
  void pop_keyless() noexcept {
    let_go_names(keyless_[keyless_.first()]);
    keyless_.pop_front();
  }
  /// A state belongs to a key and an audience.
  [[nodiscard]] std::uint64_t hash_of(std::string_view key,
                                      std::string_view audience) const noexcept {
    const std::uint64_t hash = keys_.hash(key);
    return audience.empty() ? hash : hash_name(audience, hash);
  }

  [[nodiscard]] bool store(const keyed_event& e) noexcept {
    const std::uint64_t hash = hash_of(e.key, e.audience);
    std::uint32_t slot = keys_.find(
        e.key, hash, [&](const newest_value& v) { return v.audience.view() == e.audience; });
    if (slot != none) {
      unlink(slot);
    } else if ((slot = add(e.key, e.audience, hash)) == none) {
      return false;
    }
    keys_[slot].erased = e.erase;
    keys_[slot].at = e.at;
    link(slot);
    if (!hold(keys_[slot], e.bytes)) {
      drop(slot);
      return false;
    }
    positions_[slot] = e.position;
    highest_of_64_[slot / 64] = e.position;
    highest_of_4096_[slot / 4096] = e.position;
    return true;
  }
  /// A slot for a key that has none; none: memory is out.
  [[nodiscard]] std::uint32_t add(std::string_view key, std::string_view audience,
                                  std::uint64_t hash) noexcept {
    if (keys_.size() == most_) forget_oldest();
    const std::uint32_t slot = keys_.add(key, hash);
    if (slot == none) return none;
    if (!make_room(slot) || !keys_[slot].audience.assign(audience)) {
      keys_.release(slot);
      return none;
    }
    private_values_ += audience.empty() ? 0U : 1U;
    if (const std::uint32_t k = watched(slot); k != none) chain(slot, k);
    return slot;
  }
  /// In place, unless somebody is sending the older one.
  [[nodiscard]] static bool hold(newest_value& v, std::string_view bytes) noexcept {
    const auto size = static_cast<std::uint32_t>(bytes.size());
    if (v.bytes == nullptr || v.bytes->refs != 1 || v.room < size) {
      if (v.bytes != nullptr) unref(v.bytes);
      v.room = size / 32 * 32 + 32;  // the next may be a little longer
      v.bytes = make_blob(v.room);
      if (v.bytes == nullptr) return false;
    }
    v.bytes->size = size;
    std::memcpy(v.bytes->bytes(), bytes.data(), size);
    return true;
  }
  /// For all slots up to this one.
  [[nodiscard]] bool make_room(std::uint32_t slot) noexcept {
    const auto grow = [](auto& v, std::uint32_t n) {
      if (!v.reserve(n)) return false;
      while (v.size() < n) v.push_reserved({});
      return true;
    };
    return grow(highest_of_4096_, slot / 4096 + 1) && grow(highest_of_64_, slot / 64 + 1) &&
           grow(neighbours_, slot + 1) && grow(positions_, slot + 1);
  }

  void forget_oldest() noexcept {
    // drop() takes its audience along
    const std::uint32_t slot = oldest();
    losses& l = lose(keys_[slot].audience.view());
    if (positions_[slot] > l.value) l.value = positions_[slot];
    drop(slot);
  }
  /// The first to go. REQUIRES: there is a value.
  [[nodiscard]] std::uint32_t oldest() const noexcept {
    return erased_.oldest != none ? erased_.oldest : live_.oldest;
  }

  void link(std::uint32_t i) noexcept {
    by_age& of = keys_[i].erased ? erased_ : live_;
    neighbours_[i] = {none, of.newest};
    (of.newest == none ? of.oldest : neighbours_[of.newest].newer) = i;
    of.newest = i;
  }
  void unlink(std::uint32_t i) noexcept {
    by_age& of = keys_[i].erased ? erased_ : live_;
    const in_age n = neighbours_[i];
    (n.older == none ? of.oldest : neighbours_[n.older].newer) = n.newer;
    (n.newer == none ? of.newest : neighbours_[n.newer].older) = n.older;
  }
  void drop(std::uint32_t i) noexcept {
    unlink(i);
    if (const std::uint32_t k = watched(i); k != none) unchain(i, k);
    private_values_ -= keys_[i].audience.view().empty() ? 0U : 1U;
    if (keys_[i].bytes != nullptr) unref(keys_[i].bytes);
    positions_[i] = 0;
    keys_.release(i);
  }

  /// The watched key of a value; none: nobody watches it.
  [[nodiscard]] std::uint32_t watched(std::uint32_t slot) const noexcept {
    return watchers_ == nullptr ? none : watchers_->find(keys_.name_of(slot));
  }
  void chain(std::uint32_t slot, std::uint32_t key) noexcept {
    keys_[slot].next_of_key = watchers_->key(key).values;
    watchers_->key(key).values = slot;
  }
  void unchain(std::uint32_t slot, std::uint32_t key) noexcept {
    std::uint32_t* at = &watchers_->key(key).values;
    while (*at != slot) at = &keys_[*at].next_of_key;
    *at = keys_[slot].next_of_key;
  }

  std::uint32_t most_;
  std::uint32_t private_values_ = 0;
  std::uint64_t last_keyless_ = 0;
  key_watchers* watchers_ = nullptr;
  name_table<newest_value, 16> keys_;
  vec<std::uint64_t> positions_;  ///< by slot; 0: free
  vec<std::uint64_t> highest_of_64_;
  vec<std::uint64_t> highest_of_4096_;
  vec<in_age> neighbours_;  ///< by slot
  by_age live_;
  by_age erased_;
  ring<keyless_event> keyless_;
  struct nothing {};
  name_table<nothing, 8> audiences_;  ///< of these,
  name_table<nothing, 8> barriers_;   ///< and keys
  losses lost_by_all_;
  name_table<losses, 8> lost_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_NEWEST_BY_KEY_HPP
