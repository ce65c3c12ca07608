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
  for (std::uint32_t w = all.dequeue(list); w != none; w = all.dequeue(list)) out.push_back(w);
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
      if (random.one_in(2)) CHECK(all.queue(readers[r], w, 1));
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
      for (const std::uint32_t w : taken(all, readers[i])) REQUIRE(all.is_of(w, i));
    }
  }
}

TEST_CASE("key_watchers: what changed first is taken first, once, and goes back to its place",
          "[selection]") {
  key_watchers all{7};
  watch_list list;
  std::vector<std::uint32_t> w;
  for (const char* key : {"a", "b", "c", "d"}) w.push_back(all.add(list, 0, key));
  CHECK(all.queue(list, w[2], 5));
  CHECK(all.queue(list, w[0], 6));
  CHECK_FALSE(all.queue(list, w[2], 7));
  CHECK(all[w[2]].due == 5);
  CHECK(all.queue(list, w[1], 8));
  CHECK(all.dequeue(list) == w[2]);
  CHECK(all.dequeue(list) == w[0]);
  CHECK(all.queue(list, w[3], 9));
  CHECK(all.queue_again(list, w[2], none));
  CHECK(all.queue_again(list, w[0], w[2]));
  CHECK(taken(all, list) == std::vector<std::uint32_t>{w[2], w[0], w[1], w[3]});

  SECTION("one that changed while it was away stays where that put it, from any position on") {
    CHECK(all.queue(list, w[1], 10));
    CHECK(all.queue(list, w[0], 11));
    CHECK_FALSE(all.queue_again(list, w[0], none));
    CHECK(all[w[0]].due == 1);
    CHECK(taken(all, list) == std::vector<std::uint32_t>{w[1], w[0]});
  }
  SECTION("into an empty queue") {
    CHECK(all.queue_again(list, w[1], none));
    CHECK(all.queue(list, w[0], 12));
    CHECK(taken(all, list) == std::vector<std::uint32_t>{w[1], w[0]});
  }
  SECTION("one that is given up while it waits does not come") {
    CHECK(all.queue(list, w[0], 12));
    CHECK(all.queue(list, w[1], 13));
    all.remove(list, all.find("a"));
    CHECK_FALSE(all.is_of(w[0], 0));
    CHECK(taken(all, list) == std::vector<std::uint32_t>{w[1]});
  }
}
