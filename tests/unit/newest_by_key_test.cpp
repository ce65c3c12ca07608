// The newest value of each key by itself: against plain lists of what was put and what was lost,
// and when memory is out: then it may say too much, but nothing is lost in silence.
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
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

/// What was put, as plain lists, oldest first.
struct model {
  struct value {
    std::string key;
    std::string audience;
    std::string bytes;
    std::uint64_t position;
  };
  struct loss {
    std::uint64_t position;
    std::string audience;
  };
  std::size_t most;
  std::vector<value> values{};
  std::vector<loss> losses{};

  void put(const value& v) {
    if (v.key.empty()) {
      losses.push_back({v.position, v.audience});
      return;
    }
    const auto same = [&](const value& x) { return x.key == v.key && x.audience == v.audience; };
    if (std::erase_if(values, same) == 0 && values.size() == most) {
      losses.push_back({values.front().position, values.front().audience});
      values.erase(values.begin());
    }
    values.push_back(v);
  }
  /// Whether a reader of `audience` at `position` lost something in front of value `i`.
  [[nodiscard]] bool lost_before(std::size_t i, std::uint64_t position,
                                 std::string_view audience) const {
    const std::uint64_t from = i == 0 ? 0 : values[i - 1].position;
    const std::uint64_t to = i == values.size() ? UINT64_MAX : values[i].position;
    for (const loss& l : losses) {
      if (l.position > from && l.position < to && l.position > position &&
          (l.audience.empty() || l.audience == audience))
        return true;
    }
    return false;
  }
};

bool lost_before(const newest_by_key& n, std::uint32_t i, std::uint64_t position,
                 std::string_view audience) {
  return n.lost_before(i, position, UINT64_MAX, [&](std::string_view a) { return a == audience; });
}

std::string some_audience(test::random_source& random, std::uint64_t many) {
  const std::uint64_t n = random.below(many + 1);
  return n == 0 ? "" : "user" + std::to_string(n);
}

}  // namespace

TEST_CASE("newest by key: values and losses are those of plain lists", "[newest]") {
  for (const std::uint32_t most : {1U, 2U, 5U, 40U}) {
    for (const std::uint64_t audiences : {0U, 2U, 7U}) {  // with everybody's at most max_losses
      CAPTURE(most, audiences);
      test::random_source random{most * 10 + audiences};
      newest_by_key table{most, 9};
      model plain{most};
      for (std::uint64_t position = 1; position < 1500; ++position) {
        const std::string key = random.one_in(5) ? "" : "k" + std::to_string(random.below(8));
        const model::value v{key, some_audience(random, audiences),
                             std::string(static_cast<std::size_t>(1 + random.below(3)), 'b') +
                                 std::to_string(position),
                             position};
        table.put(v.key, v.position, v.bytes, v.audience);
        plain.put(v);
        const std::uint64_t from = random.below(position + 1);
        const std::string who = some_audience(random, audiences);
        std::size_t k = 0;
        while (k < plain.values.size() && plain.values[k].position <= from) ++k;
        for (std::uint32_t i = table.after(from);; ++k, i = table[i].newer) {
          REQUIRE((i == none) == (k == plain.values.size()));
          REQUIRE(lost_before(table, i, from, who) == plain.lost_before(k, from, who));
          if (i == none) break;
          REQUIRE(table[i].position == plain.values[k].position);
          REQUIRE(table[i].audience.view() == plain.values[k].audience);
          REQUIRE(bytes_of(table[i]) == plain.values[k].bytes);
        }
      }
    }
  }
}

TEST_CASE("newest by key: the key that was silent longest is forgotten at the limit, not before",
          "[newest]") {
  newest_by_key table{3, 1};
  table.put("a", 1, "A", "");
  table.put("b", 2, "B", "");
  table.put("c", 3, "C", "");
  CHECK_FALSE(lost_before(table, table.after(0), 0, "x"));
  table.put("a", 4, "A2", "");  // speaks again: b is the one now
  table.put("d", 5, "D", "");
  const std::uint32_t first = table.after(0);
  CHECK(bytes_of(table[first]) == "C");
  CHECK(lost_before(table, first, 0, "x"));
  CHECK(lost_before(table, first, 1, "x"));
  CHECK_FALSE(lost_before(table, first, 2, "x"));
}

TEST_CASE("newest by key: a key means one state for each audience", "[newest]") {
  newest_by_key table{10, 1};
  table.put("k", 1, "all", "");
  table.put("k", 2, "ann", "ann");
  table.put("kx", 3, "a", "a");
  table.put("k", 4, "ax", "xa");
  table.put("k", 5, "ann2", "ann");
  std::string found;
  for (std::uint32_t i = table.after(0); i != none; i = table[i].newer) {
    found += std::string{bytes_of(table[i])} + " ";
  }
  CHECK(found == "all a ax ann2 ");
  // Bytes of audience and key that look alike when one follows the other.
  newest_by_key other{10, 1};
  other.put("bc", 1, "1", "a");
  other.put("c", 2, "2", "ab");
  CHECK(other[other.after(0)].position == 1);
}

TEST_CASE("newest by key: a value that is being sent is not overwritten", "[newest]") {
  newest_by_key table{10, 1};
  table.put("k", 1, "old", "");
  sse::detail::blob* const sent = table[table.after(0)].bytes;
  ++sent->refs;
  table.put("k", 2, "new", "");
  CHECK(std::string_view{sent->bytes(), sent->size} == "old");
  CHECK(bytes_of(table[table.after(0)]) == "new");
  sse::detail::unref(sent);
}

TEST_CASE("newest by key: more audiences that lost something than are told apart lost it all",
          "[newest]") {
  constexpr std::uint32_t most = newest_by_key::max_losses;
  for (std::uint32_t many = most - 1; many <= most + 1; ++many) {
    newest_by_key table{10, 1};
    for (std::uint32_t i = 1; i <= many; ++i) table.put("", i, "x", "user" + std::to_string(i));
    CAPTURE(many);
    CHECK(lost_before(table, none, 0, "user1"));
    CHECK(lost_before(table, none, 0, "somebody else") == (many > most));
    CHECK_FALSE(lost_before(table, none, many, "user1"));
  }
}

TEST_CASE("newest by key: however many audiences lose, nobody's loss is silent", "[newest]") {
  test::random_source random{77};
  newest_by_key table{6, 9};
  model plain{6};
  for (std::uint64_t position = 1; position < 4000; ++position) {
    const model::value v{random.one_in(2) ? "" : "k" + std::to_string(random.below(9)),
                         some_audience(random, 40), "b", position};
    table.put(v.key, v.position, v.bytes, v.audience);
    plain.put(v);
    const std::uint64_t from = position < 50 ? 0 : position - random.below(50);
    const std::string who = some_audience(random, 40);
    std::size_t k = 0;
    while (k < plain.values.size() && plain.values[k].position <= from) ++k;
    for (std::uint32_t i = table.after(from);; ++k, i = table[i].newer) {
      if (plain.lost_before(k, from, who)) REQUIRE(lost_before(table, i, from, who));
      if (i == none) break;
    }
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
          for (const put_event& p : puts)
            table.put(p.key, p.position, {reinterpret_cast<const char*>(&p), sizeof p}, p.audience);
          failed = fail.hit();
        }
        for (const put_event& p : puts) {
          const std::string_view who = p.audience;
          bool told = false;
          for (std::uint32_t i = table.after(p.position - 1);; i = table[i].newer) {
            told = told || lost_before(table, i, p.position - 1, who);
            if (i == none) break;
            const newest_value& v = table[i];
            whole = whole && v.bytes->size == sizeof p;
            put_event held;
            std::memcpy(&held, v.bytes->bytes(), sizeof held);
            whole = whole && held.position == v.position && v.audience.view() == held.audience;
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

TEST_CASE("newest by key: a loss that cannot be held is told with the one that stands there",
          "[newest][allocation]") {
  newest_by_key table{10, 1};
  std::uint64_t position = 0;
  const auto lose = [&](std::uint32_t many) {
    for (std::uint32_t i = 0; i < many; ++i) table.put("", ++position, "", std::to_string(i));
  };
  lose(8);
  table.put("k", ++position, "value", "");
  lose(7);
  table.put("l", ++position, "value", "");
  lose(1);  // the sixteenth: that much is taken at a time
  {
    const test::failing_allocations fail{0};
    table.put("", ++position, "", "ann");
    CHECK(fail.hit());
  }
  CHECK(lost_before(table, none, position - 1, "ann"));
  CHECK(lost_before(table, none, position - 1, "bob"));
  CHECK_FALSE(lost_before(table, none, position, "ann"));
}

TEST_CASE("newest by key: of losses that cannot be held the first and the last are told",
          "[newest][allocation]") {
  newest_by_key table{10, 1};
  const auto lose = [&](std::uint64_t position) {
    const test::failing_allocations fail{0};
    table.put("", position, "", "");
    CHECK(fail.hit());
  };
  table.put("a", 1, "value", "");
  lose(2);
  table.put("b", 3, "value", "");
  lose(4);
  table.put("c", 5, "value", "");
  const std::uint32_t a = table.after(0);
  CHECK_FALSE(lost_before(table, a, 0, "ann"));
  CHECK(lost_before(table, table[a].newer, 1, "ann"));
  CHECK(lost_before(table, table.after(3), 3, "ann"));
  CHECK_FALSE(lost_before(table, table.after(4), 4, "ann"));
}

TEST_CASE("newest by key: values that change in place allocate nothing", "[newest][allocation]") {
  newest_by_key table{4, 1};
  for (std::uint64_t i = 1; i <= 4; ++i)
    table.put(std::string(1, static_cast<char>('a' + i)), i, "123456", "");
  const std::uint64_t before = test::allocations();
  for (std::uint64_t i = 5; i < 1000; ++i) {
    const char key[] = {static_cast<char>('a' + 1 + i % 4)};
    table.put({key, 1}, i, "654321", "");
  }
  // One name is made for each look-up.
  CHECK(test::allocations() - before <= 995);
}

#endif
