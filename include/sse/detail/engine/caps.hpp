// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// caps: how many streams there are in all, of each user and from each address, which of them is the
// oldest, and whether one more fits. It knows sessions by their slots only.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_CAPS_HPP
#define SSEHUB_DETAIL_ENGINE_CAPS_HPP

#include <cstdint>
#include <string_view>

#include <sse/admission.hpp>
#include <sse/detail/base/name_table.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// The names under which a stream counts, held from name() on. none: it has no such name.
struct counted_names {
  std::uint32_t user = none;
  std::uint32_t address = none;
};

inline constexpr unsigned cap_kinds = static_cast<unsigned>(cap_counter::kind::address) + 1;

/// Streams that have to go so that one more fits: one for each cap at the most.
struct victims {
  struct one {
    std::uint32_t slot;
    duration retry;
  };
  one list[cap_kinds] = {};
  std::uint32_t count = 0;
};

class caps {
 public:
  caps(const limits& l, cap_counter* counter, std::uint64_t seed) noexcept
      : limits_{l}, counter_{counter}, users_{seed}, addresses_{seed} {}

  [[nodiscard]] const limits& options() const noexcept { return limits_; }

  /// Takes the names. False: memory is out, none is taken.
  [[nodiscard]] bool name(std::string_view key, std::string_view from,
                          counted_names& out) noexcept {
    out = {};
    if (!key.empty() && (out.user = users_.acquire(key)) == none) return false;
    if (!from.empty() && (out.address = addresses_.acquire(from)) == none) {
      drop(out);
      return false;
    }
    return true;
  }
  void drop(counted_names& n) noexcept {
    if (n.user != none) users_.release(n.user);
    if (n.address != none) addresses_.release(n.address);
    n = {};
  }

  /// The cap in all that refuses one more, before anybody is asked; nullptr: none. Only who is
  /// admitted may evict.
  [[nodiscard]] const cap* full() const noexcept {
    const cap& c = limits_.total;
    return c.max != 0 && c.then != when_full::evict_oldest && held_total() >= c.max ? &c : nullptr;
  }
  /// The cap per address, where it refuses one more of `from` whoever that is; nullptr: not so. A
  /// user's own stream may make room where the cap per user evicts.
  [[nodiscard]] const cap* full(std::string_view from) const noexcept {
    const cap& c = limits_.per_address;
    if (c.max == 0 || from.empty() || c.then == when_full::evict_oldest || users_evict())
      return nullptr;
    const std::uint32_t i = addresses_.find(from);
    const std::uint32_t here = i == none ? 0 : addresses_[i].count;
    return held(cap_counter::kind::address, c, from, here) >= c.max ? &c : nullptr;
  }
  /// The first cap that refuses one more under these names; nullptr: it fits once the victims are
  /// gone.
  [[nodiscard]] const cap* refusing(const counted_names& n, victims& v) noexcept {
    using kind = cap_counter::kind;
    if (n.user != none) {
      const cap& c = limits_.per_user;
      const std::uint32_t here = held(kind::user, c, users_.name_of(n.user), users_[n.user].count);
      if (!fits(c, here, leaving(v, n.user, none), oldest_of(users_[n.user]), v)) return &c;
    }
    if (n.address != none) {
      const cap& c = limits_.per_address;
      const std::uint32_t here =
          held(kind::address, c, addresses_.name_of(n.address), addresses_[n.address].count);
      if (!fits(c, here, leaving(v, none, n.address), addresses_[n.address].ages.first, v))
        return &c;
    }
    const cap& c = limits_.total;
    return fits(c, held_total(), leaving(v, none, none), all_.first, v) ? nullptr : &c;
  }
  /// Takes places with the counter that several hubs share, all or none: between the look and this
  /// another hub may have been faster. Where a victim makes room its place is given back right
  /// after. nullptr: taken, else the cap that refuses.
  [[nodiscard]] const cap* take_places(const counted_names& n, const victims& v) noexcept {
    if (counter_ == nullptr) return nullptr;
    using kind = cap_counter::kind;
    std::uint32_t taken = 0;
    const auto take = [&](kind k, const cap& c, std::string_view name, std::uint32_t go) {
      if (c.max == 0) return true;
      if (!counter_->take(k, name, go != 0 ? 0 : c.max)) return false;
      taken |= 1U << static_cast<unsigned>(k);
      return true;
    };
    const cap* full = nullptr;
    if (n.user != none &&
        !take(kind::user, limits_.per_user, users_.name_of(n.user), leaving(v, n.user, none))) {
      full = &limits_.per_user;
    } else if (n.address != none &&
               !take(kind::address, limits_.per_address, addresses_.name_of(n.address),
                     leaving(v, none, n.address))) {
      full = &limits_.per_address;
    } else if (!take(kind::total, limits_.total, {}, leaving(v, none, none))) {
      full = &limits_.total;
    }
    if (full != nullptr) give_back_places(n, taken);
    return full;
  }
  /// Counts a request that waits for its verdict, of its address and in all. Nobody has to go for
  /// it: who is admitted may evict. nullptr: done, else the cap that refuses.
  [[nodiscard]] const cap* begin_wait(const counted_names& n) noexcept {
    victims v;
    const cap* full = refusing(n, v);
    if (full == nullptr) full = take_places(n, v);
    if (full != nullptr) return full;
    ++waiting_;
    if (n.address != none) ++addresses_[n.address].count;
    return nullptr;
  }
  /// Drops the names too.
  void end_wait(counted_names& n) noexcept {
    give_back_places(n);
    --waiting_;
    if (n.address != none) --addresses_[n.address].count;
    drop(n);
  }

  void give_back_places(const counted_names& n,
                        std::uint32_t kinds = (1U << cap_kinds) - 1) noexcept {
    if (counter_ == nullptr) return;
    using kind = cap_counter::kind;
    const auto give = [&](kind k, const cap& c, std::string_view name) {
      if (c.max != 0 && (kinds & (1U << static_cast<unsigned>(k))) != 0)
        counter_->give_back(k, name);
    };
    if (n.user != none) give(kind::user, limits_.per_user, users_.name_of(n.user));
    if (n.address != none) give(kind::address, limits_.per_address, addresses_.name_of(n.address));
    give(kind::total, limits_.total, {});
  }

  /// Makes room for slots below `n`, so that enter() cannot fail.
  [[nodiscard]] bool reserve(std::uint32_t n) noexcept {
    return seats_.reserve(n) && (!total_evicts() || by_age_.reserve(n)) &&
           (!addresses_evict() || by_address_.reserve(n));
  }
  /// Counts a stream, as the newest. Takes the names over.
  void enter(std::uint32_t slot, const counted_names& n) noexcept {
    seat& s = seats_[slot];
    s = seat{};
    SSEHUB_ASSERT(n.user + 1U <= 0x7fffffffU);
    s.user_plus_one = (n.user + 1U) & 0x7fffffffU;
    s.address = n.address;
    s.counted = 1;
    ++total_;
    if (total_evicts()) append(all_, by_age_, slot);
    if (n.address != none) {
      ++addresses_[n.address].count;
      if (addresses_evict()) append(addresses_[n.address].ages, by_address_, slot);
    }
    if (n.user == none) return;
    user& u = users_[n.user];
    ++u.count;
    s.prev = u.last;
    (u.last == none ? u.first : seats_[u.last].next) = slot;
    u.last = slot;
  }
  /// A slot that is not counted.
  void enter_uncounted(std::uint32_t slot) noexcept { seats_[slot] = seat{}; }
  /// Gives its place back; it stays on its user's list until leave(). Once.
  void count_out(std::uint32_t slot) noexcept {
    seat& s = seats_[slot];
    if (s.counted == 0) return;
    s.counted = 0;
    --total_;
    const counted_names n = s.names();
    give_back_places(n);
    if (total_evicts()) unlink(all_, by_age_, slot);
    if (n.address != none) {
      --addresses_[n.address].count;
      if (addresses_evict()) unlink(addresses_[n.address].ages, by_address_, slot);
      addresses_.release(n.address);
      s.address = none;
    }
    if (n.user != none) --users_[n.user].count;
  }
  /// Takes it off its user's list; the name stays until forget().
  void leave(std::uint32_t slot) noexcept {
    const seat& s = seats_[slot];
    const std::uint32_t who = s.names().user;
    if (who == none) return;
    user& u = users_[who];
    (s.prev == none ? u.first : seats_[s.prev].next) = s.next;
    (s.next == none ? u.last : seats_[s.next].prev) = s.prev;
  }
  void forget(std::uint32_t slot) noexcept {
    seat& s = seats_[slot];
    if (const std::uint32_t u = s.names().user; u != none) users_.release(u);
    s = seat{};
  }

  [[nodiscard]] std::uint32_t total() const noexcept { return total_; }
  [[nodiscard]] std::uint32_t find_user(std::string_view key) const noexcept {
    return users_.find(key);
  }
  [[nodiscard]] std::uint32_t count_of_user(std::string_view key) const noexcept {
    const std::uint32_t i = users_.find(key);
    return i == none ? 0 : users_[i].count;
  }
  /// The user of a slot; none.
  [[nodiscard]] std::uint32_t user_of(std::uint32_t slot) const noexcept {
    return seats_[slot].names().user;
  }
  [[nodiscard]] std::string_view key_of(std::uint32_t slot) const noexcept {
    const std::uint32_t u = user_of(slot);
    return u == none ? std::string_view{} : users_.name_of(u);
  }
  [[nodiscard]] std::uint64_t hash_of_user(std::uint32_t u) const noexcept {
    return users_.hash_of(u);
  }
  /// A user's streams, oldest first, also those that are not counted any more.
  [[nodiscard]] std::uint32_t first_of(std::uint32_t u) const noexcept { return users_[u].first; }
  [[nodiscard]] std::uint32_t next_of_user(std::uint32_t slot) const noexcept {
    return seats_[slot].next;
  }

 private:
  struct ends {
    std::uint32_t first = none;
    std::uint32_t last = none;
  };
  struct user {
    std::uint32_t count = 0;  ///< streams that count
    std::uint32_t first = none;
    std::uint32_t last = none;
  };
  struct address {
    std::uint32_t count = 0;
    ends ages;  ///< only where that cap evicts
  };
  /// One for each session: kept small.
  struct seat {
    std::uint32_t user_plus_one : 31 = 0;  ///< 0: none
    std::uint32_t counted : 1 = 0;
    std::uint32_t address = none;
    std::uint32_t next = none;  ///< of the same user
    std::uint32_t prev = none;

    [[nodiscard]] counted_names names() const noexcept {
      return {user_plus_one == 0 ? none : user_plus_one - 1U, address};
    }
  };
  static_assert(sizeof(seat) == 16, "one for each session");
  struct neighbours {
    std::uint32_t next = none;
    std::uint32_t prev = none;
  };
  using ages = chunked_array<neighbours>;

  [[nodiscard]] bool total_evicts() const noexcept {
    return limits_.total.max != 0 && limits_.total.then == when_full::evict_oldest;
  }
  [[nodiscard]] bool users_evict() const noexcept {
    return limits_.per_user.max != 0 && limits_.per_user.then == when_full::evict_oldest;
  }
  [[nodiscard]] bool addresses_evict() const noexcept {
    return limits_.per_address.max != 0 && limits_.per_address.then == when_full::evict_oldest;
  }
  static void append(ends& list, ages& links, std::uint32_t slot) noexcept {
    links[slot] = {none, list.last};
    (list.last == none ? list.first : links[list.last].next) = slot;
    list.last = slot;
  }
  static void unlink(ends& list, ages& links, std::uint32_t slot) noexcept {
    const neighbours& n = links[slot];
    (n.prev == none ? list.first : links[n.prev].next) = n.next;
    (n.next == none ? list.last : links[n.next].prev) = n.prev;
  }
  /// The oldest stream of a user that counts.
  [[nodiscard]] std::uint32_t oldest_of(const user& u) const noexcept {
    std::uint32_t slot = u.first;
    while (slot != none && seats_[slot].counted == 0) slot = seats_[slot].next;
    return slot;
  }
  [[nodiscard]] std::uint32_t held(cap_counter::kind k, const cap& c, std::string_view name,
                                   std::uint32_t here) const noexcept {
    return counter_ != nullptr && c.max != 0 ? counter_->count(k, name) : here;
  }
  [[nodiscard]] std::uint32_t held_total() const noexcept {
    return held(cap_counter::kind::total, limits_.total, {}, total_ + waiting_);
  }
  /// How many of the victims a cap counts.
  [[nodiscard]] std::uint32_t leaving(const victims& v, std::uint32_t u,
                                      std::uint32_t a) const noexcept {
    std::uint32_t n = 0;
    for (std::uint32_t i = 0; i < v.count; ++i) {
      const counted_names x = seats_[v.list[i].slot].names();
      if ((u == none || x.user == u) && (a == none || x.address == a)) ++n;
    }
    return n;
  }
  /// Whether one more fits under a cap once `leaving` are gone; the oldest may be needed for it.
  [[nodiscard]] static bool fits(const cap& c, std::uint32_t count, std::uint32_t leaving,
                                 std::uint32_t oldest, victims& v) noexcept {
    if (c.max == 0 || count - leaving < c.max) return true;
    if (c.then != when_full::evict_oldest || oldest == none) return false;
    for (std::uint32_t i = 0; i < v.count; ++i) {
      if (v.list[i].slot == oldest) return false;  // it goes already, and that is not enough
    }
    v.list[v.count++] = {oldest, c.retry_after};
    return true;
  }

  limits limits_;
  cap_counter* counter_;
  name_table<user> users_;
  name_table<address> addresses_;
  chunked_array<seat> seats_;
  ages by_age_;      ///< only where the cap in all evicts
  ages by_address_;  ///< only where the cap per address evicts
  ends all_;
  std::uint32_t total_ = 0;
  std::uint32_t waiting_ = 0;  ///< for their verdicts
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_CAPS_HPP
