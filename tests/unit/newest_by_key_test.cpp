// The newest value of each key by itself: against plain lists of what was put and what was lost,
// and when memory is out: then it may say too much, but nothing is lost in silence.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/detail/log/newest_by_key.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::detail::newest_by_key;
using sse::detail::newest_value;
using sse::detail::none;

std::string_view bytes_of(const newest_value& v) { return {v.bytes->bytes(), v.bytes->size}; }

/// Slots that changed behind `since`, in their order.
std::vector<std::uint32_t> changed_slots(const newest_by_key& n, std::uint64_t since) {
  std::vector<std::uint32_t> found;
  for (std::uint32_t i = n.changed(0, n.slot_count(), since); i != n.slot_count();
       i = n.changed(i + 1, n.slot_count(), since))
    found.push_back(i);
  return found;
}
std::string values_behind(const newest_by_key& n, std::uint64_t since) {
  std::string all;
  for (const std::uint32_t i : changed_slots(n, since)) all += std::string{bytes_of(n[i])} + " ";
  return all;
}

bool lost_value(const newest_by_key& n, std::uint64_t from, std::string_view audience) {
  return n.lost_value(from, [&](std::string_view a) { return a == audience; });
}
bool lost_keyless(const newest_by_key& n, std::uint64_t from, std::string_view audience) {
  return n.lost_keyless(from, [&](std::string_view a) { return a == audience; });
}

/// What was put, as plain lists, oldest first.
struct model {
  struct value {
    std::string key;
    std::string audience;
    std::string bytes;
    std::uint64_t position;
    bool erased = false;
  };
  struct loss {
    std::uint64_t position;
    std::string audience;
  };
  std::size_t most;
  std::size_t keep;
  std::vector<value> values{};
  std::vector<value> keyless{};
  std::vector<loss> values_lost{};
  std::vector<loss> keyless_lost{};

  void put(const value& v) {
    if (v.key.empty()) {
      keyless.push_back(v);
      return;
    }
    const auto same = [&](const value& x) { return x.key == v.key && x.audience == v.audience; };
    if (std::erase_if(values, same) == 0 && values.size() == most) {
      const auto erased = [](const value& x) { return x.erased; };
      auto first = std::find_if(values.begin(), values.end(), erased);
      if (first == values.end()) first = values.begin();
      values_lost.push_back({first->position, first->audience});
      values.erase(first);
    }
    values.push_back(v);
  }
  void let_go_before(std::uint64_t position) {
    while (!keyless.empty() && keyless.front().position < position) {
      keyless_lost.push_back({keyless.front().position, keyless.front().audience});
      keyless.erase(keyless.begin());
    }
  }
  [[nodiscard]] static bool lost(const std::vector<loss>& all, std::uint64_t from,
                                 std::string_view audience) {
    for (const loss& l : all) {
      if (l.position > from && (l.audience.empty() || l.audience == audience)) return true;
    }
    return false;
  }
};

std::string some_audience(test::random_source& random, std::uint64_t many) {
  const std::uint64_t n = random.below(many + 1);
  return n == 0 ? "" : "user" + std::to_string(n);
}

}  // namespace

TEST_CASE("newest by key: values and losses are those of plain lists", "[newest]") {
  for (const std::uint32_t most : {1U, 2U, 5U, 40U, 300U}) {
    for (const std::uint64_t audiences : {0U, 2U, 7U}) {
      CAPTURE(most, audiences);
      test::random_source random{most * 10 + audiences};
      newest_by_key table{most, 9};
      model plain{most, 20};
      for (std::uint64_t position = 1; position < 1500; ++position) {
        const std::string key =
            random.one_in(5) ? "" : "k" + std::to_string(random.below(most == 300 ? 400 : 8));
        const model::value v{key, some_audience(random, audiences),
                             std::string(static_cast<std::size_t>(1 + random.below(90)), 'b') +
                                 std::to_string(position),
                             position, !key.empty() && random.one_in(4)};
        if (key.empty()) {
          table.put_keyless(position, position, v.audience);
        } else {
          table.put({v.key, v.position, v.bytes, v.audience, v.erased});
        }
        plain.put(v);
        if (random.one_in(3) && position > plain.keep) {
          table.let_go_before(position - plain.keep);
          plain.let_go_before(position - plain.keep);
        }
        const std::uint64_t from = random.below(position + 1);
        const std::string who = some_audience(random, audiences);
        REQUIRE(lost_value(table, from, who) == model::lost(plain.values_lost, from, who));
        REQUIRE(lost_keyless(table, from, who) == model::lost(plain.keyless_lost, from, who));
        std::map<std::uint64_t, const model::value*> expected;
        for (const model::value& x : plain.values) {
          if (x.position > from) expected[x.position] = &x;
        }
        const std::vector<std::uint32_t> slots = changed_slots(table, from);
        REQUIRE(slots.size() == expected.size());
        for (const std::uint32_t i : slots) {
          const auto x = expected.find(table.position(i));
          REQUIRE(x != expected.end());
          REQUIRE(table[i].audience.view() == x->second->audience);
          REQUIRE(bytes_of(table[i]) == x->second->bytes);
          REQUIRE(table[i].erased == x->second->erased);
        }
        std::size_t k = 0;
        while (k < plain.keyless.size() && plain.keyless[k].position <= from) ++k;
        for (std::uint64_t n = table.keyless_after(from);; ++n, ++k) {
          REQUIRE((n == table.keyless_end()) == (k == plain.keyless.size()));
          if (n == table.keyless_end()) break;
          REQUIRE(table.keyless(n).position == plain.keyless[k].position);
          REQUIRE(table.audience_of(table.keyless(n)) == plain.keyless[k].audience);
        }
      }
    }
  }
}

TEST_CASE("newest by key: a value keeps its slot, and what did not change is not found",
          "[newest]") {
  newest_by_key table{20'000, 1};
  std::uint64_t position = 0;
  for (int i = 0; i < 10'000; ++i) table.put({"k" + std::to_string(i), ++position, "v", ""});
  CHECK(changed_slots(table, 0).size() == 10'000);
  CHECK(changed_slots(table, position).empty());
  for (const int i : {9'999, 0, 4'096, 63, 64, 65}) {
    table.put({"k" + std::to_string(i), ++position, std::to_string(i), ""});
  }
  CHECK(values_behind(table, 10'000) == "0 63 64 65 4096 9999 ");
  CHECK(values_behind(table, 10'003) == "63 64 65 ");
  for (const int i : {4'096, 8'191, 8'192}) {  // alone among as many
    table.put({"k" + std::to_string(i), ++position, std::to_string(i), ""});
    CHECK(values_behind(table, position - 1) == std::to_string(i) + " ");
  }
}

TEST_CASE("newest by key: nothing is left of it, also of values that were being sent", "[newest]") {
  if (!TEST_ALLOCATIONS) return;
  const std::int64_t before = test::live_bytes();
  {
    newest_by_key table{4, 1};
    REQUIRE(table.make_watchers(1) != nullptr);
    for (std::uint64_t i = 1; i < 40; ++i) {
      const std::string key = "k" + std::to_string(i % 6);
      table.put({key, i, std::string(static_cast<std::size_t>(10 * i), 'v'),
                 i % 5 == 0 ? "ann" : "", i % 7 == 0});
    }
    sse::detail::blob* const sent = table[0].bytes;
    ++sent->refs;
    table.put({"k3", 40, "x", ""});
    for (std::uint64_t i = 41; i < 46; ++i) table.put({"k" + std::to_string(i), i, "x", ""});
    sse::detail::unref(sent);
  }
  CHECK(test::live_bytes() == before);
}

TEST_CASE("newest by key: the key that was silent longest is forgotten at the limit, not before",
          "[newest]") {
  newest_by_key table{3, 1};
  table.put({"a", 1, "A", ""});
  table.put({"b", 2, "B", ""});
  table.put({"c", 3, "C", ""});
  CHECK_FALSE(lost_value(table, 0, "x"));
  table.put({"a", 4, "A2", ""});  // speaks again: b is the one now
  table.put({"d", 5, "D", ""});
  CHECK(values_behind(table, 0) == "A2 D C ");
  CHECK(lost_value(table, 0, "x"));
  CHECK(lost_value(table, 1, "x"));
  CHECK_FALSE(lost_value(table, 2, "x"));
}

TEST_CASE("newest by key: a key means one state for each audience", "[newest]") {
  newest_by_key table{10, 1};
  table.put({"k", 1, "all", ""});
  table.put({"k", 2, "ann", "ann"});
  table.put({"kx", 3, "a", "a"});
  table.put({"k", 4, "ax", "xa"});
  table.put({"k", 5, "ann2", "ann"});
  CHECK(values_behind(table, 0) == "all ann2 a ax ");
  // Bytes of audience and key that look alike when one follows the other.
  newest_by_key other{10, 1};
  other.put({"bc", 1, "1", "a"});
  other.put({"c", 2, "2", "ab"});
  CHECK(values_behind(other, 0) == "1 2 ");
}

TEST_CASE("newest by key: a value that is being sent is not overwritten", "[newest]") {
  newest_by_key table{10, 1};
  table.put({"k", 1, "old", ""});
  sse::detail::blob* const sent = table[0].bytes;
  ++sent->refs;
  table.put({"k", 2, "new", ""});
  CHECK(std::string_view{sent->bytes(), sent->size} == "old");
  CHECK(bytes_of(table[0]) == "new");
  sse::detail::unref(sent);
}

TEST_CASE("newest by key: more audiences that lost something than are told apart lost it all",
          "[newest]") {
  constexpr std::uint32_t most = newest_by_key::max_audiences;
  for (std::uint32_t many = most - 1; many <= most + 1; ++many) {
    newest_by_key table{10, 1};
    for (std::uint32_t i = 1; i <= many; ++i) table.put_keyless(i, i, "user" + std::to_string(i));
    CHECK_FALSE(lost_keyless(table, 0, "user1"));
    table.let_go_before(many + 1);
    CAPTURE(many);
    CHECK(lost_keyless(table, 0, "user1"));
    CHECK(lost_keyless(table, 0, "somebody else") == (many > most));
    CHECK_FALSE(lost_keyless(table, many, "user1"));
  }
}

#if TEST_ALLOCATIONS

TEST_CASE("newest by key: without memory it may say too much, but nothing is lost in silence",
          "[newest][allocation]") {
  struct put_event {
    char key[8];
    char audience[40];
    std::uint64_t position;
  };
  test::random_source random{31};
  std::vector<put_event> puts(60);
  for (std::size_t i = 0; i < puts.size(); ++i) {
    put_event& p = puts[i];
    const std::string key = random.one_in(5) ? "" : "k" + std::to_string(random.below(9));
    const std::string who =
        random.one_in(2) ? "" : "an audience with a long name " + std::to_string(random.below(3));
    p = {};
    key.copy(p.key, sizeof p.key - 1);
    who.copy(p.audience, sizeof p.audience - 1);
    p.position = i + 1;
  }
  for (const std::uint64_t how_many : {std::uint64_t{1}, std::uint64_t{3}, UINT64_MAX}) {
    std::uint64_t n = 0;
    for (bool failed = true; failed; ++n) {
      CAPTURE(how_many, n);
      bool silent = false;
      bool whole = true;
      const std::int64_t before = test::live_bytes();
      {
        newest_by_key table{5, 3};
        {
          const test::failing_allocations fail{n, how_many};
          for (const put_event& p : puts) {
            if (p.key[0] == '\0') {
              table.put_keyless(p.position, p.position, p.audience);
            } else {
              table.put(
                  {p.key, p.position, {reinterpret_cast<const char*>(&p), sizeof p}, p.audience});
            }
          }
          failed = fail.hit();
        }
        for (const put_event& p : puts) {
          const std::string_view who = p.audience;
          bool told = lost_value(table, p.position - 1, who);
          if (p.key[0] == '\0') {
            const std::uint64_t k = table.keyless_after(p.position - 1);
            told = lost_keyless(table, p.position - 1, who) ||
                   (k != table.keyless_end() && table.keyless(k).position == p.position);
          }
          for (const std::uint32_t i : changed_slots(table, p.position - 1)) {
            const newest_value& v = table[i];
            whole = whole && v.bytes->size == sizeof p;
            put_event held;
            std::memcpy(&held, v.bytes->bytes(), sizeof held);
            whole =
                whole && held.position == table.position(i) && v.audience.view() == held.audience;
            told = told || (std::string_view{held.key} == p.key && held.audience == who);
          }
          silent = silent || !told;
        }
      }
      const std::int64_t after = test::live_bytes();
      CHECK_FALSE(silent);
      CHECK(whole);
      CHECK(after == before);
    }
    CHECK(n > 15);
  }
}

TEST_CASE("newest by key: values that change allocate nothing, a little longer ones neither",
          "[newest][allocation]") {
  newest_by_key table{4, 1};
  for (std::uint64_t i = 1; i <= 4; ++i)
    table.put({std::string(1, static_cast<char>('a' + i)), i, "123456", ""});
  table.put({"f", 5, "123456", "ann"});
  table.put({"f", 6, "123456", "ann"});
  const std::uint64_t before = test::allocations();
  for (std::uint64_t i = 7; i < 1000; ++i) {
    const char key[] = {static_cast<char>('a' + 2 + i % 3)};
    table.put({std::string_view{key, 1}, i, i % 2 == 0 ? "654321" : "65432123456789", ""});
  }
  CHECK(test::allocations() == before);
}

#endif
