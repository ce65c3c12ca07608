// Users over several nodes: revocations, presence, and the cap per user.
#include <sse/jetstream.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "jetstream/nats_servers.hpp"
#include "jetstream/node.hpp"

using test::nats_servers;
using test::node;
using test::node_options;
using admission = sse::jetstream_admission;

namespace {

sse::jetstream_options with_revocations(const nats_servers& s) {
  sse::jetstream_options o = node_options(s);
  o.revoke_for = sse::duration::seconds(3600);
  return o;
}
sse::jetstream_options with_presence(const nats_servers& s, std::string name) {
  sse::jetstream_options o = node_options(s);
  o.presence = true;
  o.node = std::move(name);
  return o;
}
/// Turns both loops until f().
template <class F>
[[nodiscard]] bool until(node& a, node& b, F f) {
  return test::eventually_on([&] {
    a.host->turn();
    b.host->turn();
    return f();
  });
}

}  // namespace

TEST_CASE("a revoked user is gone on all nodes, stays out, and a newer token is good again") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  node a{with_revocations(servers)};
  node b{with_revocations(servers)};
  const auto ann = b.host->join({.key = "ann"});
  const auto bob = b.host->join({.key = "bob"});
  REQUIRE(b.until([&] { return b.host->shard->hub().sessions() == 2; }));
  CHECK(a.order.admits("ann") == admission::admitted);
  CHECK_FALSE(a.order.revoke(""));
  CHECK_FALSE(a.order.revoke(std::string(501, 'x')));
  REQUIRE(a.order.revoke("ann"));
  CHECK(a.order.admits("ann") == admission::revoked);
  REQUIRE(b.until([&] { return b.host->shard->hub().sessions() == 1; }));
  CHECK(b.order.admits("ann") == admission::revoked);
  CHECK(b.order.admits("ann", 1) == admission::revoked);
  CHECK(b.order.admits("ann", UINT64_MAX / 4) == admission::admitted);
  CHECK(b.order.admits("bob") == admission::admitted);
  CHECK(b.order.refusal("ann")->status == 401);
  CHECK_FALSE(b.order.refusal("bob"));
  CHECK(b.order.stats().revoked == 1);
  // Her new stream is not ended by what is known already.
  const auto again = b.host->join({.key = "ann"});
  REQUIRE(b.order.revoke("carl"));
  REQUIRE(a.until([&] { return a.order.admits("carl") == admission::revoked; }));
  b.host->turn();
  CHECK(b.host->shard->hub().sessions() == 2);
  // Whoever starts later knows it, once it is stored.
  REQUIRE(test::eventually_on([&] {
    node late{with_revocations(servers)};
    return late.order.admits("ann") == admission::revoked &&
           late.order.admits("carl") == admission::revoked;
  }));
}

TEST_CASE("a node that is cut off admits nobody, and learns what was revoked meanwhile") {
  if (test::no_nats_server()) return;
  nats_servers servers{3};
  sse::jetstream_options one = with_revocations(servers);
  sse::jetstream_options other = one;
  node a{one};
  node b{other};
  REQUIRE(a.order.admits("ann") == admission::admitted);
  for (auto& s : servers.all) s->kill();
  REQUIRE(a.until([&] { return a.order.admits("ann") == admission::unknown; }));
  CHECK(a.order.refusal("ann")->status == 503);
  REQUIRE(b.order.revoke("ann"));  // nobody takes it now
  CHECK(b.order.admits("ann") == admission::revoked);
  for (auto& s : servers.all) s->start();
  REQUIRE(until(a, b, [&] { return a.order.admits("bob") == admission::admitted; }));
  REQUIRE(until(a, b, [&] { return a.order.admits("ann") == admission::revoked; }));
}

TEST_CASE("a bucket of revocations that forgets too early is refused") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  node a{with_revocations(servers)};
  sse::jetstream_options o = with_revocations(servers);
  o.revoke_for = sse::duration::seconds(7200);
  sse::jetstream j;
  const sse::jetstream_error e = j.open(o);
  INFO(e.text);
  CHECK(e.what == sse::jetstream_errc::settings);
  CHECK(e.text.find("revoke_for") != std::string::npos);
}

TEST_CASE("who is present on any node, and the cap per user over all") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  std::mutex mutex;
  std::vector<std::pair<std::string, bool>> told;
  const auto was_told = [&](const std::string& user, bool here) {
    const std::scoped_lock<std::mutex> lock{mutex};
    return std::find(told.begin(), told.end(), std::pair{user, here}) != told.end();
  };
  sse::jetstream_options with = with_presence(servers, "a");
  with.on_presence = [&](std::string_view user, bool here) {
    const std::scoped_lock<std::mutex> lock{mutex};
    told.emplace_back(user, here);
  };
  node a{with};
  {
    node b{with_presence(servers, "b")};
    const auto one = b.host->join({.key = "ann"});
    const auto two = b.host->join({.key = "ann"});
    REQUIRE(until(a, b, [&] { return a.order.streams_of("ann") == 2; }));
    REQUIRE(until(a, b, [&] { return was_told("ann", true); }));
    const auto here = a.host->join({.key = "ann"});
    CHECK(a.order.streams_of("ann") == 3);
    REQUIRE(until(a, b, [&] { return b.order.streams_of("ann") == 3; }));
    CHECK(a.order.present() == std::vector<std::string>{"ann"});
    // All streams, also those of nobody.
    const auto nobody = b.host->join();
    REQUIRE(until(a, b, [&] { return a.order.streams() == 4 && b.order.streams() == 4; }));
    CHECK(a.order.streams_of("ann") == 3);
    // One that begins asks the others.
    node c{with_presence(servers, "c")};
    REQUIRE(until(a, b, [&] { return c.order.streams_of("ann") == 3; }));
    REQUIRE(until(a, b, [&] { return c.order.streams() == 4; }));
    // What a hub asks before it admits one more.
    sse::cap_counter& counter = *a.order.order().options().counter;
    CHECK_FALSE(counter.take(sse::cap_counter::kind::user, "ann", 3));
    REQUIRE(counter.take(sse::cap_counter::kind::user, "ann", 4));
    counter.give_back(sse::cap_counter::kind::user, "ann");
    a.host->shard->hub().close_all();
    REQUIRE(until(a, b, [&] { return b.order.streams_of("ann") == 2; }));
    CHECK_FALSE(was_told("ann", false));
    // b says goodbye when it ends.
  }
  REQUIRE(a.until([&] { return a.order.streams_of("ann") == 0 && a.order.streams() == 0; }));
  REQUIRE(a.until([&] { return was_told("ann", false); }));
  CHECK_FALSE(was_told("", true));
  CHECK(a.order.present().empty());
}

TEST_CASE("what a node that died said is forgotten") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  node a{with_presence(servers, "a")};
  // A node that tells and is heard no more.
  sse::detail::nats_connection c;
  REQUIRE(sse::detail::nats_make(c, natsConnection_ConnectTo, servers.urls()[0].c_str()) ==
          NATS_OK);
  const std::string said = "dead\n2 " + sse::detail::as_token("ann") + "\nnonsense\n1 xyz\n";
  REQUIRE(a.until([&] {  // said again until it is heard: what nobody listens to yet is gone
    const bool ok =
        natsConnection_PublishString(c.get(), "sse_nodes.events", said.c_str()) == NATS_OK &&
        natsConnection_Flush(c.get()) == NATS_OK;
    return ok && a.order.streams_of("ann") == 2;
  }));
  const auto told = std::chrono::steady_clock::now();
  REQUIRE(a.until([&] { return a.order.streams_of("ann") == 0; }));
  CHECK(std::chrono::steady_clock::now() - told >= std::chrono::seconds{20});
  CHECK(a.order.present().empty());
}
