// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// newest_by_key: the newest entry of each (audience, key) of a channel, oldest first: what a reader
// that coalesces, or begins with a snapshot, still has to see. Between the values stands what was
// lost there: entries without a key, and values that had to be forgotten.
//
// Memory: at most `most` values with an event each, and for each at most `max_losses` audiences
// that lost something in front of it; the key that was silent longest goes first.
#pragma once
#ifndef SSEHUB_DETAIL_LOG_NEWEST_BY_KEY_HPP
#define SSEHUB_DETAIL_LOG_NEWEST_BY_KEY_HPP

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <sse/detail/base/blob.hpp>
#include <sse/detail/base/name_table.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Something was lost at `first` and at `position`, and maybe in between: whose it was.
struct lost_entry {
  std::uint64_t first = 0;
  std::uint64_t position = 0;
  owned_text audience;  ///< empty: everybody's
  std::uint32_t next = none;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

struct newest_value {
  blob* bytes = nullptr;  ///< the encoded event
  owned_text audience;
  std::uint64_t position = 0;   ///< its id, or its stamp where there are no ids
  std::uint32_t losses = none;  ///< what was lost between the older value and this one
  std::uint32_t newer = none;
  std::uint32_t older = none;
};

class newest_by_key {
 public:
  /// Audiences told apart between two values; more of them are told as everybody's.
  static constexpr std::uint32_t max_losses = 8;

  newest_by_key(std::uint32_t most, std::uint64_t seed) noexcept : most_{most}, keys_{seed} {}
  newest_by_key(const newest_by_key&) = delete;
  newest_by_key& operator=(const newest_by_key&) = delete;
  ~newest_by_key() {
    while (oldest_ != none) drop(oldest_);
  }

  /// What was published up to `position` is not known here: it counts as lost.
  void begin_behind(std::uint64_t position) noexcept { unknown_to_ = position; }
  /// An entry was published. Without a key, or when memory is out, it is one that no later value
  /// makes up for.
  void put(std::string_view key, std::uint64_t position, std::string_view bytes,
           std::string_view audience) noexcept {
    if (key.empty() || !store(key, position, bytes, audience))
      lose(tail_, position, position, audience);
  }

  /// The oldest value behind `position`; none. O(values behind it).
  [[nodiscard]] std::uint32_t after(std::uint64_t position) const noexcept {
    std::uint32_t found = none;
    for (std::uint32_t i = newest_; i != none && keys_[i].position > position; i = keys_[i].older)
      found = i;
    return found;
  }
  [[nodiscard]] const newest_value& operator[](std::uint32_t i) const noexcept { return keys_[i]; }
  /// Whether somebody for whom `sees(audience)` lost something behind `from`, up to `to`, in front
  /// of value `i`, or of the end (none). Of several losses there only the first and the newest are
  /// known: where these lie on both sides of the range, it is true too.
  template <class Sees>
  [[nodiscard]] bool lost_before(std::uint32_t i, std::uint64_t from, std::uint64_t to,
                                 Sees sees) const noexcept {
    if (unknown_to_ > from) return true;
    if (unsaid_to_ > from && unsaid_from_ <= to && (i == none || unsaid_from_ < keys_[i].position))
      return true;
    for (std::uint32_t n = i == none ? tail_ : keys_[i].losses; n != none; n = losses_[n].next) {
      const lost_entry& l = losses_[n];
      if (l.position > from && l.first <= to &&
          (l.audience.view().empty() || sees(l.audience.view())))
        return true;
    }
    return false;
  }

 private:
  [[nodiscard]] bool store(std::string_view key, std::uint64_t position, std::string_view bytes,
                           std::string_view audience) noexcept {
    // A state belongs to a key and an audience: the name tells both apart, whatever bytes they
    // have.
    owned_text name;
    if (!name_state(name, key, audience)) return false;
    std::uint32_t i = keys_.find(name.view());
    const bool known = i != none;
    if (known) {
      unlink(i);
    } else {
      if (keys_.size() == most_) forget_oldest();
      if ((i = keys_.acquire(name.view())) == none) return false;
    }
    newest_value& v = keys_[i];
    link(i);
    v.losses = std::exchange(tail_, none);
    v.position = position;
    const auto size = static_cast<std::uint32_t>(bytes.size());
    // else nobody is sending it
    if (v.bytes == nullptr || v.bytes->refs != 1 || v.bytes->size != size) {
      if (v.bytes != nullptr) unref(v.bytes);
      v.bytes = make_blob(size);
    }
    if (v.bytes == nullptr || (!known && !v.audience.assign(audience))) {
      drop(i);
      return false;
    }
    std::memcpy(v.bytes->bytes(), bytes.data(), size);
    return true;
  }
  [[nodiscard]] static bool name_state(owned_text& name, std::string_view key,
                                       std::string_view audience) noexcept {
    const auto size = static_cast<std::uint16_t>(audience.size());
    char length[sizeof size];
    std::memcpy(length, &size, sizeof size);
    return name.assign({length, sizeof length}, audience, key);
  }

  void forget_oldest() noexcept {
    const newest_value& v = keys_[oldest_];
    // what was lost before it is now lost before the next one, and so is it itself
    const std::uint64_t position = v.position;
    owned_text audience = std::move(keys_[oldest_].audience);
    const std::uint32_t next = v.newer;
    drop(oldest_);
    lose(next == none ? tail_ : keys_[next].losses, position, position, audience.view());
  }

  void link(std::uint32_t i) noexcept {
    keys_[i].older = newest_;
    keys_[i].newer = none;
    (newest_ == none ? oldest_ : keys_[newest_].newer) = i;
    newest_ = i;
  }
  /// Takes it out of its place; what was lost in front of it stands in front of the next then.
  void unlink(std::uint32_t i) noexcept {
    newest_value& v = keys_[i];
    (v.older == none ? oldest_ : keys_[v.older].newer) = v.newer;
    (v.newer == none ? newest_ : keys_[v.newer].older) = v.older;
    std::uint32_t& into = v.newer == none ? tail_ : keys_[v.newer].losses;
    for (std::uint32_t n = std::exchange(v.losses, none); n != none;) {
      const std::uint32_t next = losses_[n].next;
      add(into, n);
      n = next;
    }
  }
  void drop(std::uint32_t i) noexcept {
    unlink(i);
    newest_value& v = keys_[i];
    if (v.bytes != nullptr) unref(v.bytes);
    v.bytes = nullptr;
    keys_.release(i);
  }

  void lose(std::uint32_t& list, std::uint64_t first, std::uint64_t position,
            std::string_view audience) noexcept {
    std::uint32_t n = losses_.take();
    if (n != none && !losses_[n].audience.assign(audience)) losses_[n].audience.clear();
    if (n == none) {  // memory is out: what stands there already covers it, if anything does
      n = list;
      if (n == none) {
        if (unsaid_to_ == 0) unsaid_from_ = first;
        unsaid_to_ = position;
        return;
      }
      losses_[n].audience.clear();
      widen(losses_[n], first, position);
      return;
    }
    losses_[n].first = first;
    losses_[n].position = position;
    add(list, n);
  }
  static void widen(lost_entry& l, std::uint64_t first, std::uint64_t position) noexcept {
    if (first < l.first) l.first = first;
    if (position > l.position) l.position = position;
  }
  /// Puts a loss into a list, joined to the one of the same audience if there is one.
  void add(std::uint32_t& list, std::uint32_t n) noexcept {
    lost_entry& l = losses_[n];
    std::uint32_t size = 0;
    for (std::uint32_t i = list; i != none; i = losses_[i].next, ++size) {
      lost_entry& other = losses_[i];
      if (other.audience.view() != l.audience.view()) continue;
      widen(other, l.first, l.position);
      give_back(n);
      return;
    }
    if (size >= max_losses) {  // too many to tell apart: one of all of them
      while (list != none) {
        const std::uint32_t next = losses_[list].next;
        widen(l, losses_[list].first, losses_[list].position);
        give_back(list);
        list = next;
      }
      l.audience.clear();
    }
    l.next = list;
    list = n;
  }
  void give_back(std::uint32_t n) noexcept {
    losses_[n].audience.clear();
    losses_.give_back(n);
  }

  std::uint32_t most_;
  name_table<newest_value, 16> keys_;
  slot_pool<lost_entry, 16> losses_;
  std::uint32_t newest_ = none;
  std::uint32_t oldest_ = none;
  std::uint32_t tail_ = none;      ///< what was lost behind the newest value
  std::uint64_t unknown_to_ = 0;   ///< before that it was not there
  std::uint64_t unsaid_from_ = 0;  ///< losses for which there was no memory: everybody's
  std::uint64_t unsaid_to_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_LOG_NEWEST_BY_KEY_HPP
