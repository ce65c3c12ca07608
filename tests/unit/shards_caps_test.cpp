// Caps that hold over several hubs.
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <sse/shards.hpp>

#include "catch.hpp"
#include "shards_stage.hpp"

namespace {

using sse::when_full;
using test::shard_host;
using cap_kind = sse::cap_counter::kind;

sse::shard_options with(const sse::limits& caps) { return {.hub = {.caps = caps}}; }

TEST_CASE("shared caps by themselves: as many as there may be, each name for itself",
          "[shards][caps]") {
  const cap_kind k = GENERATE(cap_kind::total, cap_kind::user, cap_kind::address);
  const std::string_view name = k == cap_kind::total ? "" : "ada";
  sse::shared_caps caps;
  CHECK(caps.take(k, name, 2));
  CHECK(caps.take(k, name, 2));
  CHECK_FALSE(caps.take(k, name, 2));
  CHECK(caps.count(k, name) == 2);
  CHECK(caps.take(k, name, 0));
  CHECK(caps.count(k, name) == 3);
  if (k != cap_kind::total) {
    CHECK(caps.count(k, "bob") == 0);
    CHECK(caps.take(k, "bob", 1));
    CHECK(caps.count(k == cap_kind::user ? cap_kind::address : cap_kind::user, name) == 0);
  }
  for (int i = 0; i < 3; ++i) caps.give_back(k, name);
  CHECK(caps.count(k, name) == 0);
}

TEST_CASE("a cap holds over all shards, and a place comes back", "[shards][caps]") {
  const std::string what = GENERATE("total", "user", "address");
  CAPTURE(what);
  sse::limits caps{.per_address = {.max = 0}};
  (what == "total" ? caps.total : what == "user" ? caps.per_user : caps.per_address).max = 2;
  const int status = what == "total" ? 503 : 429;
  sse::sequencer s;
  shard_host a{s, with(caps)};
  shard_host b{s, with(caps)};
  const test::ask one{.key = what == "user" ? "ada" : "", .address = "192.0.2.1"};
  const auto first = a.join(one);
  const auto second = b.join(one);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(a.join(one).refusal.status == status);
  CHECK(b.join(one).refusal.status == status);
  // Another user, another address: only the total counts them too.
  const auto other = b.join({.key = "bob", .address = "192.0.2.2"});
  CHECK(static_cast<bool>(other) == (what != "total"));

  const cap_kind k = what == "total"  ? cap_kind::total
                     : what == "user" ? cap_kind::user
                                      : cap_kind::address;
  const std::string key = what == "total" ? "" : what == "user" ? "ada" : "192.0.2.1";
  CHECK(s.caps().count(k, key) == 2);
  a.shard->hub().closed(first.id);
  CHECK(s.caps().count(k, key) == 1);
  const auto third = b.join(one);
  REQUIRE(third);
  CHECK(a.join(one).refusal.status == status);
  b.shard.reset();  // with two of them
  CHECK(s.caps().count(k, key) == 0);
  CHECK(a.join(one));
  CHECK(a.join(one));
  CHECK_FALSE(a.join(one));
}

TEST_CASE("a request that fails later leaves no place taken", "[shards][caps]") {
  const sse::limits caps{.total = {.max = 2}, .per_user = {.max = 2}, .per_address = {.max = 1}};
  sse::sequencer s;
  shard_host a{s, with(caps)};
  shard_host b{s, with(caps)};
  const test::ask ada{.key = "ada", .address = "192.0.2.1"};
  test::ask bad = ada;
  bad.query = "last_id=x";
  CHECK(a.join(bad).refusal.status == 400);
  CHECK(s.caps().count(cap_kind::total, {}) == 0);
  CHECK(s.caps().count(cap_kind::user, "ada") == 0);
  REQUIRE(a.join(ada));
  CHECK(b.join(ada).refusal.status == 429);  // by address, after the user's cap had room
  CHECK(s.caps().count(cap_kind::user, "ada") == 1);
  CHECK(s.caps().count(cap_kind::total, {}) == 1);
  CHECK(s.caps().count(cap_kind::address, "192.0.2.1") == 1);
}

TEST_CASE("evict_oldest makes room on its own shard, and refuses where it has nobody",
          "[shards][caps]") {
  const sse::limits caps{.total = {.max = 3, .then = when_full::evict_oldest},
                         .per_user = {.max = 1, .then = when_full::evict_oldest}};
  sse::sequencer s;
  shard_host a{s, with(caps)};
  shard_host b{s, with(caps)};
  const auto old = a.join({.key = "ada"});
  REQUIRE(old);
  CHECK(b.join({.key = "ada"}).refusal.status == 429);
  CHECK_FALSE(a.closed(old));
  const auto fresh = a.join({.key = "ada"});
  CHECK(fresh);
  CHECK(a.closed(old));
  CHECK(s.caps().count(cap_kind::user, "ada") == 1);
  REQUIRE(b.join({.key = "bob"}));
  REQUIRE(b.join({.key = "eve"}));
  REQUIRE(a.join({.key = "kim"}));
  CHECK(a.closed(fresh));  // the oldest of all that it has
  CHECK(s.caps().count(cap_kind::total, {}) == 3);
  CHECK(s.caps().count(cap_kind::user, "ada") == 0);
}

TEST_CASE("a total cap refuses before anybody is asked", "[shards][caps]") {
  sse::sequencer s;
  shard_host a{s, with({.total = {.max = 1}})};
  shard_host b{s, with({.total = {.max = 1}})};
  REQUIRE(a.join());
  int asked = 0;
  b.shard->hub().on_admit([&](const sse::request&) {
    ++asked;
    return sse::admit().join(b.shard->at(0));
  });
  CHECK(b.join().refusal.status == 429);
  CHECK(asked == 0);
}

TEST_CASE("a counter of the program's own counts users where there is no cap for them",
          "[shards][caps]") {
  sse::shared_caps own;
  const bool is_own = GENERATE(false, true);
  sse::sequencer s{{.counter = is_own ? &own : nullptr}};
  sse::cap_counter& counts = is_own ? own : s.caps();
  shard_host a{s};
  shard_host b{s};
  const auto k = a.join({.key = "ada"});
  REQUIRE(k);
  REQUIRE(b.join({.key = "ada"}));
  CHECK(counts.count(cap_kind::user, "ada") == (is_own ? 2 : 0));
  a.shard->hub().closed(k.id);
  CHECK(counts.count(cap_kind::user, "ada") == (is_own ? 1 : 0));
  // A cap that there is holds.
  sse::sequencer capped{{.counter = &own}};
  shard_host c{capped, with({.per_user = {.max = 1}})};
  CHECK(c.join({.key = "bob"}));
  CHECK(c.join({.key = "bob"}).refusal.status == 429);
}

TEST_CASE("places are counted exactly by many threads", "[shards][caps][threads]") {
  sse::shared_caps caps;
  constexpr int threads = 4;
  constexpr int rounds = 20'000;
  constexpr std::uint32_t most = 3;
  std::atomic<int> inside[5] = {};
  std::atomic<int> over{0};
  std::atomic<int> got{0};
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t) {
    all.emplace_back([&, t] {
      for (int i = 0; i < rounds; ++i) {
        const int name = (i + t) % 5;
        const cap_kind k = name == 0  ? cap_kind::total
                           : name < 3 ? cap_kind::user
                                      : cap_kind::address;
        const std::string key = name == 0 ? "" : "key" + std::to_string(name % 2);
        const int slot = name;
        if (!caps.take(k, key, most)) continue;
        ++got;
        if (++inside[slot] > static_cast<int>(most)) ++over;
        --inside[slot];
        caps.give_back(k, key);
      }
      for (int i = 0; i < rounds; ++i) {
        if (caps.take(cap_kind::total, {}, 100)) caps.give_back(cap_kind::total, {});
      }
    });
  }
  for (std::thread& t : all) t.join();
  CHECK(over == 0);
  CHECK(got > 0);
  CHECK(caps.count(cap_kind::total, {}) == 0);
  for (const char* key : {"key0", "key1"}) {
    CHECK(caps.count(cap_kind::user, key) == 0);
    CHECK(caps.count(cap_kind::address, key) == 0);
  }
}

}  // namespace
