// key_watchers: who wants which keys, and in which order what changed is taken.
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <sse/detail/log/key_watchers.hpp>

#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::detail::key_watchers;
using sse::detail::none;
using sse::detail::watch_list;

std::vector<std::uint32_t> taken(key_watchers& all, watch_list& list) {
  std::vector<std::uint32_t> out;
  for (std::uint32_t w = all.take(list); w != none; w = all.take(list)) {
    out.push_back(w);
    all.sent(list, w);
  }
  return out;
}

}  // namespace

TEST_CASE("key_watchers: a table of wishes, against a model", "[selection]") {
  key_watchers all{7};
  test::random_source random{3};
  std::vector<watch_list> readers(5);
  std::map<std::string, std::set<std::uint32_t>> model;
  for (int step = 0; step < 60'000; ++step) {
    const auto r = static_cast<std::uint32_t>(random.below(readers.size()));
    const std::string key = std::to_string(random.below(200));
    const std::uint32_t k = all.find(key);
    const bool has = model[key].count(r) != 0;
    REQUIRE((k != none && all.find(readers[r], k) != none) == has);
    if (random.one_in(500)) {
      all.clear(readers[r]);
      for (auto& [name, who] : model) who.erase(r);
    } else if (!has) {
      const std::uint32_t w = all.add(readers[r], r, key);
      REQUIRE(w != none);
      model[key].insert(r);
      if (random.one_in(2)) all.begin(readers[r], w);
    } else if (random.one_in(3)) {
      all.remove(readers[r], k);
      model[key].erase(r);
    }
    if (step % 1000 != 0) continue;
    for (const auto& [name, who] : model) {
      const std::uint32_t number = all.find(name);
      REQUIRE((number != none) == !who.empty());
      std::set<std::uint32_t> found;
      for (std::uint32_t w = number == none ? none : all.key(number).watches; w != none;
           w = all[w].older) {
        REQUIRE(all[w].key == number);
        found.insert(all[w].reader);
      }
      REQUIRE(found == who);
    }
    for (std::uint32_t i = 0; i < readers.size(); ++i) {
      for (const std::uint32_t w : taken(all, readers[i])) REQUIRE(all[w].reader == i);
    }
  }
}

TEST_CASE("key_watchers: what is given up gives its memory back, queued or not", "[selection]") {
  key_watchers all{7};
  watch_list list;
  for (int round = 0; round < 3; ++round) {
    for (const char* key : {"a", "b", "c", "d"}) {
      const std::uint32_t w = all.add(list, 0, key);
      if (*key != 'd') all.begin(list, w);
    }
    CHECK(all.count() == 4);
    all.remove(list, all.find("a"));
    all.remove(list, all.find("d"));
    CHECK(all.count() == 3);  // the first waits still
    if (round == 0) CHECK(taken(all, list).size() == 2);
    if (round == 1) all.clear(list);
    if (round == 2) {
      CHECK(all.take(list) != none);
      all.clear(list);
    }
    all.clear(list);
    CHECK(all.count() == 0);
    CHECK(all.find("b") == none);
  }
}

TEST_CASE("key_watchers: what changed first is taken first, once, and goes back to its place",
          "[selection]") {
  using change = key_watchers::change;
  key_watchers all{7};
  watch_list list;
  std::vector<std::uint32_t> w;
  for (const char* key : {"a", "b", "c", "d"}) w.push_back(all.add(list, 0, key));
  CHECK(all.changed(list, w[2], 5) == change::queued);
  CHECK(all.changed(list, w[0], 6) == change::queued);
  CHECK(all.changed(list, w[2], 7) == change::overtakes);
  CHECK(all[w[2]].due == 5);
  CHECK(all.changed(list, w[1], 8) == change::queued);
  CHECK(all.take(list) == w[2]);
  CHECK(all.take(list) == w[0]);
  CHECK(all.changed(list, w[3], 9) == change::queued);

  SECTION("what was not written is the next again, in its order") {
    CHECK_FALSE(all.give_back(list, w[2], none));
    CHECK_FALSE(all.give_back(list, w[0], w[2]));
    CHECK(all[w[2]].due == 5);
    CHECK(taken(all, list) == std::vector<std::uint32_t>{w[2], w[0], w[1], w[3]});
  }
  SECTION("also what changed meanwhile: then from any position on") {
    CHECK(all.changed(list, w[0], 10) == change::follows);
    CHECK(all.changed(list, w[0], 11) == change::overtakes);
    all.sent(list, w[2]);
    CHECK(all.give_back(list, w[0], none));
    CHECK(all[w[0]].due == 1);
    CHECK(taken(all, list) == std::vector<std::uint32_t>{w[0], w[1], w[3]});
  }
  SECTION("what was written, and changed meanwhile, waits behind the others") {
    CHECK(all.changed(list, w[2], 10) == change::follows);
    all.sent(list, w[2]);
    all.sent(list, w[0]);
    all.sent(list, w[0]);  // nothing more
    CHECK(all[w[2]].due == 10);
    CHECK(taken(all, list) == std::vector<std::uint32_t>{w[1], w[3], w[2]});
  }
  SECTION("into an empty queue") {
    CHECK(taken(all, list) == std::vector<std::uint32_t>{w[1], w[3]});
    CHECK_FALSE(all.give_back(list, w[0], none));
    CHECK(all.changed(list, w[1], 12) == change::queued);
    CHECK(taken(all, list) == std::vector<std::uint32_t>{w[0], w[1]});
  }
  SECTION(
      "a new one begins with what there is, and a change makes it one that may lose something") {
    const std::uint32_t e = all.add(list, 0, "e");
    all.begin(list, e);
    CHECK(all[e].due == 0);
    CHECK(all.changed(list, e, 12) == change::follows);
    CHECK(all[e].due == 1);
    CHECK(all.changed(list, e, 13) == change::overtakes);
  }
  SECTION("one that is given up while it waits, or is written, does not come") {
    all.remove(list, all.find("b"));
    all.remove(list, all.find("a"));
    const std::uint32_t again = all.add(list, 0, "a");
    CHECK(again != w[0]);  // a write still has its value
    CHECK_FALSE(all.comes_from_write(w[0]));
    CHECK(all.comes_from_write(w[2]));
    CHECK(all.add(list, 0, "f") == w[0]);
    CHECK(taken(all, list) == std::vector<std::uint32_t>{w[3]});
    CHECK(all.count() == 4);
    all.clear(list);
    CHECK(all.count() == 0);
  }
  SECTION("one that is taken out of its turn keeps its place for the next change") {
    CHECK(all.due(w[2]) == key_watchers::nothing);  // the write has it
    CHECK(all.changed(list, w[2], 10) == change::follows);
    CHECK(all.due(w[2]) == 10);
    all.take_now(w[2]);
    CHECK(all.due(w[2]) == key_watchers::nothing);
    CHECK(all.due(w[1]) != key_watchers::nothing);
    all.take_now(w[1]);
    CHECK(all.due(w[1]) == key_watchers::nothing);
    CHECK_FALSE(all.waits(w[1]));
    CHECK(all.changed(list, w[1], 11) == change::queued);
    CHECK(all.due(w[1]) == 11);
    CHECK(taken(all, list) == std::vector<std::uint32_t>{w[1], w[3]});
    all.sent(list, w[1]);
    all.sent(list, w[3]);
    CHECK(all.changed(list, w[1], 12) == change::queued);
    all.take_now(w[1]);
    CHECK(taken(all, list).empty());
    CHECK(all.changed(list, w[1], 13) == change::queued);
    all.take_now(w[1]);
    all.remove(list, all.find("b"));  // while it has a place
    CHECK(taken(all, list).empty());
    CHECK(all.count() == 3);
  }
}
