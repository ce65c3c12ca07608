// The table of names by itself: against a map, with names that crowd one bucket, and when memory is
// out.
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include <sse/detail/base/name_table.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::detail::hash_name;
using sse::detail::name_table;
using sse::detail::none;

struct marked {
  std::uint32_t mark = 0;
};

}  // namespace

TEST_CASE("name table: names, values and references are those of a map", "[name_table]") {
  struct known {
    std::uint32_t number;
    std::uint32_t refs;
  };
  test::random_source random{1};
  name_table<marked, 4> table{99};
  std::map<std::string, known> model;
  for (std::uint32_t step = 0; step < 60'000; ++step) {
    const std::uint64_t among = (step / 2000) % 2 == 0 ? 400 : 30;  // grows, then shrinks
    const std::string name = "n" + std::to_string(random.below(among));
    const auto found = model.find(name);
    REQUIRE(table.find(name) == (found == model.end() ? none : found->second.number));
    REQUIRE(table.find(name, hash_name(name, 99)) == table.find(name));
    if (random.one_in(2)) {
      const std::uint32_t i = table.acquire(name);
      REQUIRE(i != none);
      if (found == model.end()) {
        REQUIRE(table[i].mark == 0);  // made anew
        table[i].mark = step;
        model[name] = {i, 1};
      } else {
        REQUIRE(i == found->second.number);
        ++found->second.refs;
      }
      REQUIRE(table.refs(i) == model[name].refs);
      REQUIRE(table.name_of(i) == name);
      REQUIRE(table.hash_of(i) == table.hash(name));
    } else if (found != model.end()) {
      const bool gone = --found->second.refs == 0;
      REQUIRE(table.release(found->second.number) == gone);
      if (gone) model.erase(found);
    }
    REQUIRE(table.size() == model.size());
  }
}

TEST_CASE("name table: names that share a bucket, and a hash, are told apart", "[name_table]") {
  // Eight buckets at first: many names share one, and each is found when any other left.
  for (std::uint32_t gone = 0; gone < 8; ++gone) {
    name_table<marked> table;
    std::uint32_t numbers[8];
    for (std::uint32_t i = 0; i < 8; ++i)
      numbers[i] = table.acquire(std::string(1, static_cast<char>('a' + i)));
    REQUIRE(table.release(numbers[gone]));
    for (std::uint32_t i = 0; i < 8; ++i) {
      CAPTURE(gone, i);
      CHECK(table.find(std::string(1, static_cast<char>('a' + i))) ==
            (i == gone ? none : numbers[i]));
    }
  }
}

TEST_CASE("name table: any bytes are a name, the empty one too", "[name_table]") {
  name_table<marked> table;
  const std::uint32_t empty = table.acquire("");
  const std::uint32_t zero = table.acquire(std::string_view{"\0", 1});
  const std::uint32_t zeros = table.acquire(std::string_view{"\0\0", 2});
  CHECK(table.find("") == empty);
  CHECK(table.find(std::string_view{"\0", 1}) == zero);
  CHECK(table.find(std::string_view{"\0\0", 2}) == zeros);
  CHECK(zero != zeros);
  CHECK(empty != zero);
}

TEST_CASE("name table: the seed decides the hash, so that nobody can choose a bucket",
          "[name_table]") {
  name_table<marked> table{1};
  CHECK(table.hash("x") == hash_name("x", 1));
  CHECK(hash_name("x", 1) != hash_name("x", 2));
  table.set_seed(2);
  CHECK(table.hash("x") == hash_name("x", 2));
  CHECK(table.acquire("x") != none);
  CHECK(table.hash_of(table.find("x")) == hash_name("x", 2));
}

TEST_CASE("name table: names that differ little spread over the buckets", "[name_table]") {
  std::set<std::uint64_t> buckets;
  for (int i = 0; i < 1000; ++i) buckets.insert(hash_name("user-" + std::to_string(i), 1) % 1024);
  CHECK(buckets.size() > 550);  // 633 of 1024, if they were drawn by lot
  // Wherever in a name they differ, and however long it is.
  for (std::size_t length = 2; length < 28; ++length) {
    for (std::size_t at = 0; at + 1 < length; ++at) {
      CAPTURE(length, at);
      std::set<std::uint64_t> all;
      buckets.clear();
      for (int i = 0; i < 1000; ++i) {
        std::string name(length, 'x');
        name[at] = static_cast<char>('A' + i % 32);
        name[at + 1] = static_cast<char>('A' + i / 32);
        all.insert(hash_name(name, 7));
        buckets.insert(all.size() == static_cast<std::size_t>(i) + 1 ? hash_name(name, 7) % 1024
                                                                     : 0);
      }
      CHECK(all.size() == 1000);
      CHECK(buckets.size() > 450);
    }
  }
  std::set<std::uint64_t> zeros;
  for (std::size_t n = 0; n < 40; ++n) zeros.insert(hash_name(std::string(n, '\0'), 3));
  CHECK(zeros.size() == 40);
}

TEST_CASE("name table: values do not move when it grows", "[name_table]") {
  name_table<marked, 4> table;
  const std::uint32_t first = table.acquire("first");
  const marked* const where = &table[first];
  for (int i = 0; i < 1000; ++i) REQUIRE(table.acquire("n" + std::to_string(i)) != none);
  CHECK(&table[first] == where);
  CHECK(table.find("first") == first);
}

#if TEST_ALLOCATIONS

TEST_CASE("name table: a name for which memory is out is not in it, the others stay",
          "[name_table][allocation]") {
  std::uint64_t n = 0;
  for (bool failed = true; failed; ++n) {
    CAPTURE(n);
    bool ok = true;
    const std::int64_t before = test::live_bytes();
    {
      name_table<marked, 4> table;
      char names[40][24];
      for (int i = 0; i < 40; ++i) {
        names[i][0] = static_cast<char>('A' + i);
        for (int k = 1; k < 24; ++k) names[i][k] = 'n';
      }
      bool in[40];
      {
        const test::failing_allocations fail{n, 1};  // one, then memory is there again
        for (int i = 0; i < 40; ++i) in[i] = table.acquire({names[i], 24}) != none;
        failed = fail.hit();
      }
      std::uint32_t size = 0;
      for (int i = 0; i < 40; ++i) {
        ok = (table.find({names[i], 24}) != none) == in[i] && ok;
        size += in[i] ? 1U : 0U;
      }
      ok = table.size() == size && size >= 39 && ok;
      for (int i = 0; i < 40; ++i) {
        if (!in[i]) ok = table.acquire({names[i], 24}) != none && ok;
      }
      for (int i = 0; i < 40; ++i) ok = table.release(table.find({names[i], 24})) && ok;
      ok = table.size() == 0 && ok;
    }
    const std::int64_t after = test::live_bytes();
    CHECK(ok);
    CHECK(after == before);
  }
  CHECK(n > 40);
}

TEST_CASE("name table: a fuller table still works", "[name_table][allocation]") {
  name_table<marked, 64> table;
  for (int i = 0; i < 8; ++i) REQUIRE(table.acquire(std::to_string(i)) != none);
  std::uint32_t ninth = none;
  {
    const test::failing_allocations fail{0, 1};  // more buckets
    ninth = table.acquire("9");
  }
  CHECK(ninth != none);
  CHECK(table.find("9") == ninth);
}

#endif
