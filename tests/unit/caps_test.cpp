// The caps on streams by themselves: at each limit, with evictions, with a counter that is shared,
// and without memory, against plain lists.
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/detail/engine/caps.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::cap_counter;
using sse::detail::caps;
using sse::detail::counted_names;
using sse::detail::none;
using sse::detail::victims;

enum class cap_kind { no_cap, user, address, total };

cap_kind kind_of(const caps& c, const sse::cap* which) {
  if (which == &c.options().per_user) return cap_kind::user;
  if (which == &c.options().per_address) return cap_kind::address;
  return which == &c.options().total ? cap_kind::total : cap_kind::no_cap;
}

/// What an engine does with the caps for a stream that opens or ends.
struct gate {
  caps c;
  std::uint32_t next_slot = 0;
  std::vector<std::uint32_t> evicted{};

  explicit gate(const sse::limits& l, cap_counter* counter = nullptr) : c{l, counter, 7} {}

  /// The cap that refuses it.
  cap_kind open(std::string_view key, std::string_view address, std::uint32_t slot) {
    evicted.clear();
    if (const sse::cap* full = c.full(); full != nullptr) return kind_of(c, full);
    counted_names names;
    REQUIRE(c.reserve(slot + 1));
    REQUIRE(c.name(key, address, names));
    victims v;
    const sse::cap* full = c.refusing(names, v);
    if (full == nullptr) full = c.take_places(names, v);
    if (full != nullptr) {
      c.drop(names);
      return kind_of(c, full);
    }
    for (std::uint32_t i = 0; i < v.count; ++i) {
      evicted.push_back(v.list[i].slot);
      close(v.list[i].slot);
    }
    c.enter(slot, names);
    return cap_kind::no_cap;
  }
  cap_kind open(std::string_view key, std::string_view address) {
    return open(key, address, next_slot++);
  }
  void close(std::uint32_t slot) {
    c.count_out(slot);
    c.leave(slot);
    c.forget(slot);
  }
};

/// A counter that several caps share, as plain as can be.
class plain_counter final : public cap_counter {
 public:
  bool take(kind k, std::string_view key, std::uint32_t max) noexcept override {
    std::uint32_t& n = counts_[{k, std::string{key}}];
    if ((max != 0 && n >= max) || refuse == k) return false;
    ++n;
    return true;
  }
  void give_back(kind k, std::string_view key) noexcept override {
    --counts_[{k, std::string{key}}];
  }
  std::uint32_t count(kind k, std::string_view key) noexcept override {
    const auto found = counts_.find({k, std::string{key}});
    return found == counts_.end() ? 0 : found->second;
  }
  [[nodiscard]] bool all_given_back() const {
    return std::all_of(counts_.begin(), counts_.end(), [](const auto& c) { return c.second == 0; });
  }
  /// Refuses this kind: another hub was faster.
  kind refuse = static_cast<kind>(9);

 private:
  std::map<std::pair<kind, std::string>, std::uint32_t> counts_;
};

using sse::when_full;

}  // namespace

TEST_CASE("caps: each cap passes its limit and refuses one more", "[caps]") {
  for (const std::uint32_t max : {1U, 2U, 3U, 17U}) {
    CAPTURE(max);
    SECTION("in all " + std::to_string(max)) {
      gate g{{.total = {.max = max}, .per_address = {}}};
      for (std::uint32_t i = 0; i < max; ++i) CHECK(g.open("", "") == cap_kind::no_cap);
      CHECK(g.open("", "") == cap_kind::total);
      CHECK(g.c.total() == max);
      g.close(0);
      CHECK(g.open("", "") == cap_kind::no_cap);
      CHECK(g.open("", "") == cap_kind::total);
    }
    SECTION("per user " + std::to_string(max)) {
      gate g{{.per_user = {.max = max}, .per_address = {}}};
      for (std::uint32_t i = 0; i < max; ++i) CHECK(g.open("u", "") == cap_kind::no_cap);
      CHECK(g.open("u", "") == cap_kind::user);
      CHECK(g.open("v", "") == cap_kind::no_cap);
      CHECK(g.open("", "") == cap_kind::no_cap);  // nobody in particular
      CHECK(g.c.count_of_user("u") == max);
      g.close(0);
      CHECK(g.c.count_of_user("u") == max - 1);
      CHECK(g.open("u", "") == cap_kind::no_cap);
    }
    SECTION("per address " + std::to_string(max)) {
      gate g{{.per_address = {.max = max}}};
      for (std::uint32_t i = 0; i < max; ++i) CHECK(g.open("", "1.2.3.4") == cap_kind::no_cap);
      CHECK(g.open("", "1.2.3.4") == cap_kind::address);
      CHECK(g.open("", "1.2.3.5") == cap_kind::no_cap);
      CHECK(g.open("", "") == cap_kind::no_cap);  // not known
      g.close(0);
      CHECK(g.open("", "1.2.3.4") == cap_kind::no_cap);
    }
  }
}

TEST_CASE("caps: a cap of 0 is off", "[caps]") {
  gate g{{.total = {}, .per_user = {}, .per_address = {}}};
  for (int i = 0; i < 300; ++i) REQUIRE(g.open("u", "a") == cap_kind::no_cap);
  CHECK(g.c.count_of_user("u") == 300);
}

TEST_CASE("caps: the oldest that a cap counts makes room", "[caps]") {
  const sse::cap evicts{.max = 2, .then = when_full::evict_oldest};
  SECTION("in all") {
    gate g{{.total = evicts, .per_address = {}}};
    CHECK(g.open("a", "") == cap_kind::no_cap);
    CHECK(g.open("b", "") == cap_kind::no_cap);
    CHECK(g.open("c", "") == cap_kind::no_cap);
    CHECK(g.evicted == std::vector<std::uint32_t>{0});
    g.close(1);
    CHECK(g.open("d", "") == cap_kind::no_cap);
    CHECK(g.evicted.empty());
    CHECK(g.open("e", "") == cap_kind::no_cap);
    CHECK(g.evicted == std::vector<std::uint32_t>{2});
  }
  SECTION("per user, only that user's") {
    gate g{{.per_user = evicts, .per_address = {}}};
    for (const char* key : {"a", "u", "u", "u"}) CHECK(g.open(key, "") == cap_kind::no_cap);
    CHECK(g.evicted == std::vector<std::uint32_t>{1});
  }
  SECTION("per address, only that address's") {
    gate g{{.per_address = evicts}};
    for (const char* a : {"1", "2", "2", "2"}) CHECK(g.open("", a) == cap_kind::no_cap);
    CHECK(g.evicted == std::vector<std::uint32_t>{1});
  }
  SECTION("one victim serves several caps") {
    gate g{{.total = evicts, .per_user = evicts, .per_address = evicts}};
    for (int i = 0; i < 3; ++i) CHECK(g.open("u", "1") == cap_kind::no_cap);
    CHECK(g.evicted == std::vector<std::uint32_t>{0});
    CHECK(g.c.total() == 2);
  }
  SECTION("three caps take three victims at the most") {
    const sse::cap one{.max = 1, .then = when_full::evict_oldest};
    gate g{{.total = {.max = 3, .then = when_full::evict_oldest},
            .per_user = one,
            .per_address = one}};
    CHECK(g.open("x", "x") == cap_kind::no_cap);
    CHECK(g.open("u", "y") == cap_kind::no_cap);
    CHECK(g.open("z", "1") == cap_kind::no_cap);
    CHECK(g.open("u", "1") == cap_kind::no_cap);
    CHECK(g.evicted == std::vector<std::uint32_t>{1, 2});
    CHECK(g.c.total() == 2);
  }
}

TEST_CASE("caps: a stream that was evicted already makes room once only", "[caps]") {
  // The user's oldest goes for the user's cap; the total counts it too and needs one more.
  gate g{{.total = {.max = 1},
          .per_user = {.max = 1, .then = when_full::evict_oldest},
          .per_address = {}}};
  CHECK(g.open("u", "") == cap_kind::no_cap);
  CHECK(g.c.full() != nullptr);  // before anybody is asked
  CHECK(g.open("u", "") == cap_kind::total);
}

TEST_CASE("caps: what refuses before anybody is asked is only a cap in all that evicts nobody",
          "[caps]") {
  for (const when_full then :
       {when_full::refuse, when_full::retry_stream, when_full::evict_oldest}) {
    gate g{{.total = {.max = 1, .then = then}, .per_address = {}}};
    CHECK(g.c.full() == nullptr);
    CHECK(g.open("", "") == cap_kind::no_cap);
    CHECK((g.c.full() == nullptr) == (then == when_full::evict_oldest));
  }
}

TEST_CASE("caps: a user's streams are listed oldest first, until each has left", "[caps]") {
  gate g{{.per_address = {}}};
  for (std::uint32_t i = 0; i < 6; ++i)
    REQUIRE(g.open(i % 2 == 0 ? "u" : "v", "") == cap_kind::no_cap);
  const auto listed = [&](std::string_view key) {
    std::vector<std::uint32_t> slots;
    const std::uint32_t u = g.c.find_user(key);
    if (u == none) return slots;
    for (std::uint32_t s = g.c.first_of(u); s != none; s = g.c.next_of_user(s)) slots.push_back(s);
    return slots;
  };
  CHECK(listed("u") == std::vector<std::uint32_t>{0, 2, 4});
  CHECK(g.c.key_of(2) == "u");
  CHECK(g.c.hash_of_user(g.c.user_of(2)) == sse::detail::hash_name("u", 7));
  g.c.count_out(2);
  g.c.count_out(2);  // once is enough
  CHECK(g.c.count_of_user("u") == 2);
  CHECK(listed("u") == std::vector<std::uint32_t>{0, 2, 4});
  CHECK(g.c.key_of(2) == "u");
  g.c.leave(2);
  CHECK(listed("u") == std::vector<std::uint32_t>{0, 4});
  CHECK(g.c.key_of(2) == "u");
  g.c.forget(2);
  CHECK(g.c.key_of(2).empty());
  g.close(4);
  g.close(0);
  CHECK(g.c.find_user("u") == none);
  CHECK(listed("v") == std::vector<std::uint32_t>{1, 3, 5});
}

TEST_CASE("caps: a slot that is not counted changes no count", "[caps]") {
  gate g{{.total = {.max = 1}, .per_address = {}}};
  REQUIRE(g.c.reserve(2));
  g.c.enter_uncounted(1);
  CHECK(g.c.total() == 0);
  CHECK(g.c.user_of(1) == none);
  g.close(1);
  CHECK(g.c.total() == 0);
  CHECK(g.open("u", "", 0) == cap_kind::no_cap);
}

TEST_CASE("caps: places of a shared counter are taken all or none, and given back once", "[caps]") {
  using kind = cap_counter::kind;
  const sse::limits l{.total = {.max = 4}, .per_user = {.max = 3}, .per_address = {.max = 2}};
  plain_counter counter;
  {
    gate a{l, &counter};
    gate b{l, &counter};
    CHECK(a.open("u", "1") == cap_kind::no_cap);
    CHECK(b.open("u", "1") == cap_kind::no_cap);
    CHECK(a.open("u", "1") == cap_kind::address);
    CHECK(b.open("u", "2") == cap_kind::no_cap);
    CHECK(a.open("u", "3") == cap_kind::user);
    CHECK(a.open("w", "3") == cap_kind::no_cap);
    CHECK(b.open("x", "4") == cap_kind::total);
    CHECK(counter.count(kind::total, {}) == 4);
    a.close(0);
    CHECK(counter.count(kind::total, {}) == 3);
    CHECK(counter.count(kind::user, "u") == 2);
    CHECK(counter.count(kind::address, "1") == 1);
    for (const kind k : {kind::user, kind::address, kind::total}) {  // the other hub was faster
      counter.refuse = k;
      CHECK(a.open("y", "5") != cap_kind::no_cap);
      CHECK(counter.count(kind::user, "y") == 0);
      CHECK(counter.count(kind::address, "5") == 0);
      CHECK(counter.count(kind::total, {}) == 3);
      counter.refuse = static_cast<kind>(9);
    }
    b.close(0);
    b.close(1);
    a.close(3);
  }
  CHECK(counter.all_given_back());
}

TEST_CASE("caps: where a victim makes room, the shared counter goes over for a moment only",
          "[caps]") {
  plain_counter counter;
  gate g{{.total = {.max = 1, .then = when_full::evict_oldest}, .per_address = {}}, &counter};
  for (int i = 0; i < 5; ++i) {
    CHECK(g.open("", "") == cap_kind::no_cap);
    CHECK(g.evicted.size() == (i == 0 ? 0 : 1));
    CHECK(counter.count(cap_counter::kind::total, {}) == 1);
  }
  g.close(4);
  CHECK(counter.all_given_back());
  // Full by the streams of another hub: none of its own to close.
  REQUIRE(counter.take(cap_counter::kind::total, {}, 1));
  CHECK(g.open("", "") == cap_kind::total);
}

TEST_CASE("caps: any opens and closes are counted as in plain lists", "[caps]") {
  struct open_stream {
    std::uint32_t slot;
    std::string key;
    std::string address;
  };
  test::random_source random{5};
  for (int round = 0; round < 60; ++round) {
    const auto some_cap = [&] {
      return sse::cap{.max = static_cast<std::uint32_t>(random.below(5)),
                      .then = random.one_in(2) ? when_full::evict_oldest : when_full::refuse};
    };
    sse::limits l{.total = some_cap(), .per_user = some_cap(), .per_address = some_cap()};
    if (l.total.max != 0) l.total.max *= 3;
    gate g{l};
    std::vector<open_stream> open;  // oldest first
    std::vector<std::uint32_t> free_slots;
    std::uint32_t slots = 0;
    for (int step = 0; step < 400; ++step) {
      CAPTURE(round, step);
      if (!open.empty() && random.one_in(4)) {
        const std::size_t i = static_cast<std::size_t>(random.below(open.size()));
        g.close(open[i].slot);
        free_slots.push_back(open[i].slot);
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
        continue;
      }
      const std::string key = random.one_in(5) ? "" : "u" + std::to_string(random.below(5));
      const std::string from = random.one_in(5) ? "" : "a" + std::to_string(random.below(5));
      // The model: each cap in turn; who goes for one makes room for the next.
      std::vector<open_stream> left = open;
      std::vector<std::uint32_t> gone;
      cap_kind refused = cap_kind::no_cap;
      const auto fits = [&](const sse::cap& c, auto counts) {
        if (c.max == 0) return true;
        const auto n = static_cast<std::uint32_t>(std::count_if(left.begin(), left.end(), counts));
        if (n < c.max) return true;
        const auto oldest = std::find_if(open.begin(), open.end(), counts);
        if (c.then != when_full::evict_oldest) return false;
        if (std::find(gone.begin(), gone.end(), oldest->slot) != gone.end()) return false;
        gone.push_back(oldest->slot);
        left.erase(std::find_if(left.begin(), left.end(),
                                [&](const open_stream& s) { return s.slot == oldest->slot; }));
        return true;
      };
      const auto in_all = [](const open_stream&) { return true; };
      const auto user = [&](const open_stream& s) { return s.key == key; };
      const auto address = [&](const open_stream& s) { return s.address == from; };
      if (l.total.max != 0 && l.total.then == when_full::refuse && open.size() >= l.total.max) {
        refused = cap_kind::total;
      } else if (!key.empty() && !fits(l.per_user, user)) {
        refused = cap_kind::user;
      } else if (!from.empty() && !fits(l.per_address, address)) {
        refused = cap_kind::address;
      } else if (!fits(l.total, in_all)) {
        refused = cap_kind::total;
      }
      std::uint32_t slot = slots;
      if (!free_slots.empty()) {
        slot = free_slots.back();
      }
      REQUIRE(g.open(key, from, slot) == refused);
      if (refused != cap_kind::no_cap) continue;
      REQUIRE(g.evicted == gone);
      free_slots.empty() ? void(++slots) : free_slots.pop_back();
      open = left;
      for (const std::uint32_t s : gone) free_slots.push_back(s);
      open.push_back({slot, key, from});
      REQUIRE(g.c.total() == open.size());
      REQUIRE(g.c.key_of(slot) == key);
      if (!key.empty()) {
        REQUIRE(g.c.count_of_user(key) ==
                static_cast<std::uint32_t>(std::count_if(open.begin(), open.end(), user)));
      }
    }
    for (const open_stream& s : open) g.close(s.slot);
    REQUIRE(g.c.total() == 0);
    for (int i = 0; i < 5; ++i) REQUIRE(g.c.find_user("u" + std::to_string(i)) == none);
  }
}

#if TEST_ALLOCATIONS

TEST_CASE("caps: without memory for a name none is taken", "[caps][allocation]") {
  std::uint64_t n = 0;
  for (bool failed = true; failed; ++n) {
    CAPTURE(n);
    bool named = false;
    bool left_out = false;
    bool dropped = false;
    const std::int64_t before = test::live_bytes();
    {
      caps c{{}, nullptr, 1};
      counted_names names;
      {
        const test::failing_allocations fail{n};
        named = c.name("a user of some length", "an address of some length", names);
        failed = fail.hit();
      }
      left_out = names.user == none && names.address == none &&
                 c.find_user("a user of some length") == none;
      c.drop(names);
      dropped = c.find_user("a user of some length") == none;
    }
    const std::int64_t after = test::live_bytes();
    CHECK(named == !failed);
    CHECK(left_out == failed);
    CHECK(dropped);
    CHECK(after == before);
  }
  CHECK(n > 6);
}

TEST_CASE("caps: room that could not be made can be made later", "[caps][allocation]") {
  const sse::cap evicts{.max = 9, .then = when_full::evict_oldest};
  std::uint64_t n = 0;
  for (bool failed = true; failed; ++n) {
    gate g{{.total = evicts, .per_address = evicts}};
    bool made = false;
    {
      const test::failing_allocations fail{n};
      made = g.c.reserve(300);
      failed = fail.hit();
    }
    CHECK(made == !failed);
    CHECK(g.open("u", "1", 299) == cap_kind::no_cap);
  }
  CHECK(n >= 9);
}

TEST_CASE("caps: a reserved slot is entered and left without an allocation", "[caps][allocation]") {
  const sse::cap evicts{.max = 9, .then = when_full::evict_oldest};
  caps c{{.total = evicts, .per_address = evicts}, nullptr, 1};
  REQUIRE(c.reserve(1));
  counted_names names;
  REQUIRE(c.name("u", "1", names));
  const std::uint64_t before = test::allocations();
  c.enter(0, names);
  c.count_out(0);
  c.leave(0);
  c.forget(0);
  CHECK(test::allocations() == before);
}

#endif
