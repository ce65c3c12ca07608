// Three nats-servers, of which one or all get into trouble, and nodes that must not notice, or must
// tell their readers.
#include <sse/jetstream.hpp>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "jetstream/nats_servers.hpp"
#include "jetstream/node.hpp"

using test::events_in;
using test::nats_servers;
using test::node;
using test::node_options;

namespace {

/// What an administrator may do to a stream.
class stream_admin {
 public:
  explicit stream_admin(const nats_servers& s) {
    sse::detail::nats_options o;
    REQUIRE(sse::detail::nats_make(o, natsOptions_Create) == NATS_OK);
    const std::vector<std::string> urls = s.urls();
    std::vector<const char*> each;
    for (const std::string& url : urls) each.push_back(url.c_str());
    REQUIRE(natsOptions_SetServers(o.get(), each.data(), static_cast<int>(each.size())) == NATS_OK);
    REQUIRE(natsOptions_SetMaxReconnect(o.get(), -1) == NATS_OK);
    REQUIRE(sse::detail::nats_make(connection_, natsConnection_Connect, o.get()) == NATS_OK);
    jsOptions* const none = nullptr;
    REQUIRE(sse::detail::nats_make(js_, natsConnection_JetStream, connection_.get(), none) ==
            NATS_OK);
  }
  [[nodiscard]] sse::detail::nats_stream_info info() const {
    sse::detail::nats_stream_info i;
    REQUIRE(test::eventually_on([&] {
      return sse::detail::nats_make(i, js_GetStreamInfo, js_.get(), "sse_events",
                                    static_cast<jsOptions*>(nullptr),
                                    static_cast<jsErrCode*>(nullptr)) == NATS_OK;
    }));
    return i;
  }
  /// The number of the server that leads the stream.
  [[nodiscard]] std::size_t leader() const {
    std::string name;
    REQUIRE(test::eventually_on([&] {
      const auto i = info();
      if (i->Cluster != nullptr && i->Cluster->Leader != nullptr) name = i->Cluster->Leader;
      return !name.empty();
    }));
    return static_cast<std::size_t>(name.back() - '0');
  }
  [[nodiscard]] jsCtx* js() const noexcept { return js_.get(); }

 private:
  sse::detail::nats_connection connection_;
  sse::detail::nats_jetstream js_;
};

/// Nodes that all publish, and a reader on each.
class cluster_stage {
 public:
  explicit cluster_stage(std::size_t nodes, const sse::jetstream_options& o) {
    for (std::size_t i = 0; i < nodes; ++i) {
      nodes_.push_back(std::make_unique<node>(o));
      readers_.push_back(nodes_.back()->host->join());
      got_.emplace_back();
    }
  }
  void turn() {
    for (auto& n : nodes_) n->host->turn();
  }
  template <class F>
  [[nodiscard]] bool until(F f) {
    return test::eventually_on([&] {
      turn();
      return f();
    });
  }
  /// Publishes the next `n` numbers, on all nodes in turn, each once the one before is stored, so
  /// that their order is known. `then` is called after half of them.
  template <class F>
  void publish(std::uint64_t n, F then) {
    const std::uint64_t half = last_ + n / 2;
    for (const std::uint64_t end = last_ + n; last_ != end;) {
      std::atomic<int> stored{0};
      REQUIRE(nodes_[last_ % nodes_.size()]->order.publish(
          0, {.data = std::to_string(++last_)}, {},
          [&](const sse::jetstream_receipt& r) { stored = r.stored ? 1 : -1; }));
      if (last_ == half) then();
      REQUIRE(until([&] { return stored != 0; }));
      REQUIRE(stored == 1);
    }
  }
  void publish(std::uint64_t n) {
    publish(n, [] {});
  }
  /// Everybody has what is stored.
  void settle() {
    for (auto& n : nodes_) {
      REQUIRE(until([&] { return n->order.stats().following && n->order.stats().lag == 0; }));
    }
    const std::string last = "data: " + std::to_string(last_) + "\n\n";
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      REQUIRE(
          until([&] { return (got_[i] += nodes_[i]->host->take(readers_[i])).ends_with(last); }));
    }
  }
  [[nodiscard]] std::vector<std::pair<std::uint64_t, std::string>> take(std::size_t i) {
    return events_in(std::exchange(got_[i], {}));
  }
  node& operator[](std::size_t i) { return *nodes_[i]; }
  [[nodiscard]] std::size_t size() const noexcept { return nodes_.size(); }

 private:
  std::vector<std::unique_ptr<node>> nodes_;
  std::vector<test::caller> readers_;
  std::vector<std::string> got_;
  std::uint64_t last_ = 0;
};

/// The reader of each node got first..last, once, in order, with the same ids; and no gap.
void all_have(cluster_stage& c, std::uint64_t first, std::uint64_t last) {
  c.settle();
  const auto one = c.take(0);
  REQUIRE(one.size() == last - first + 1);
  for (std::size_t i = 0; i < one.size(); ++i) {
    CHECK(one[i].second == std::to_string(first + i));
    CHECK((i == 0 || one[i].first > one[i - 1].first));
  }
  for (std::size_t n = 1; n < c.size(); ++n) CHECK(c.take(n) == one);
  for (std::size_t n = 0; n < c.size(); ++n) CHECK(c[n].order.stats().epochs == 0);
}

}  // namespace

TEST_CASE("a leader that is killed while all publish: each event once, in order, on every node") {
  if (test::no_nats_server()) return;
  nats_servers servers{3};
  cluster_stage c{3, node_options(servers)};
  const stream_admin admin{servers};
  const std::size_t first = admin.leader();
  c.publish(100, [&] { servers[first].kill(); });
  all_have(c, 1, 100);
  servers[first].start();
  const std::size_t second = admin.leader();
  c.publish(100, [&] { servers[second].kill(); });
  all_have(c, 101, 200);
  CHECK(c[0].order.problem().empty());
}

TEST_CASE("a server that stands still is left, and one that goes on again does no harm") {
  if (test::no_nats_server()) return;
  nats_servers servers{3};
  cluster_stage c{3, node_options(servers)};
  const stream_admin admin{servers};
  const std::size_t leader = admin.leader();
  c.publish(100, [&] { servers[leader].pause(); });
  all_have(c, 1, 100);
  servers[leader].go_on();
  c.publish(100);
  all_have(c, 101, 200);
}

TEST_CASE(
    "no majority: events wait and streams stay, and all servers back is not another history") {
  if (test::no_nats_server()) return;
  nats_servers servers{3};
  cluster_stage c{2, node_options(servers)};
  const stream_admin admin{servers};
  const std::int64_t created = admin.info()->Created;
  c.publish(50);
  for (auto& s : servers.all) s->kill();
  std::atomic<int> stored{0};
  for (int i = 51; i <= 60; ++i) {
    REQUIRE(c[1].order.publish(0, {.data = std::to_string(i)}, {},
                               [&](const sse::jetstream_receipt& r) { stored += r.stored; }));
  }
  REQUIRE(c.until([&] { return !c[0].order.ready() && !c[1].order.ready(); }));
  CHECK_FALSE(c[0].order.problem().empty());
  CHECK(stored == 0);
  for (auto& s : servers.all) s->start();
  REQUIRE(c.until([&] { return stored == 10; }));
  REQUIRE(c.until([&] { return c[0].order.stats().sequence == 60; }));
  CHECK(admin.info()->Created == created);
  // The sender keeps their order here: no acknowledgement came before all were sent again.
  const auto late = c[0].host->resume(c[0].order.order().head() - 11);
  c.turn();
  const auto got = events_in(c[0].host->take(late));
  CHECK(got.size() == 11);
  CHECK(got.front().second == "50");
  CHECK(c[0].order.stats().epochs + c[1].order.stats().epochs == 0);
}

TEST_CASE("an older store on all servers: every node agrees on ids above all old ones, and tells") {
  if (test::no_nats_server()) return;
  nats_servers servers{3};
  cluster_stage c{2, node_options(servers)};
  c.publish(30);
  all_have(c, 1, 30);
  for (auto& s : servers.all) s->stop();
  for (auto& s : servers.all)
    std::filesystem::copy(s->store(), s->store().string() + ".copy",
                          std::filesystem::copy_options::recursive);
  for (auto& s : servers.all) s->start();
  c.publish(20);
  all_have(c, 31, 50);
  const sse::event_id old = c[0].order.order().head();
  for (auto& s : servers.all) s->kill();
  for (auto& s : servers.all) {
    std::filesystem::remove_all(s->store());
    std::filesystem::rename(s->store().string() + ".copy", s->store());
  }
  for (auto& s : servers.all) s->start();
  for (std::size_t i = 0; i < c.size(); ++i)
    REQUIRE(c.until([&] { return c[i].order.stats().epochs == 1; }));
  c.publish(20);
  c.settle();
  const auto one = c.take(0);
  REQUIRE(one.size() == 21);
  CHECK(one[0].second == "gap");
  CHECK(one[0].first > old);
  for (std::size_t i = 1; i < one.size(); ++i) CHECK(one[i].second == std::to_string(50 + i));
  CHECK(c.take(1) == one);
  // Whoever comes with an id of what was lost is told, and gets all that is new.
  const auto back = c[1].host->resume(old);
  c.turn();
  const auto there = events_in(c[1].host->take(back));
  REQUIRE(there.size() == 21);
  CHECK(there[0].second == "gap");
  CHECK(there[20] == one[20]);
}

TEST_CASE("what aged out while a node was not there is a gap, also where nothing new comes") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  sse::jetstream_options o = node_options(servers);
  o.keep_age = sse::duration::seconds(1);
  sse::jetstream late;
  REQUIRE_FALSE(late.open(o));  // knows its place, and does not follow yet
  test::shard_host host{late.order()};
  const auto reader = host.join();
  cluster_stage c{1, o};
  c.publish(20);
  const stream_admin admin{servers};
  REQUIRE(test::eventually_on([&] { return admin.info()->State.Msgs == 0; }));
  late.start();
  std::string got;
  REQUIRE(test::eventually_on([&] {
    host.turn();
    return (got += host.take(reader)).find("\n\n") != got.npos;
  }));
  CHECK(got.find("event: gap\n") != got.npos);
  CHECK(got.find("\"lost\":20}") != got.npos);
  CHECK(late.stats().lost == 20);
  CHECK(late.stats().epochs == 0);
  late.stop();
}

TEST_CASE("a stream refuses to be purged, and a message of it to be deleted") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  cluster_stage c{1, node_options(servers)};
  c.publish(10);
  const stream_admin admin{servers};
  jsOptions* const none = nullptr;
  jsErrCode* const no_code = nullptr;
  CHECK(js_PurgeStream(admin.js(), "sse_events", none, no_code) != NATS_OK);
  CHECK(js_DeleteMsg(admin.js(), "sse_events", 5, none, no_code) != NATS_OK);
  CHECK(admin.info()->State.Msgs == 10);
}

TEST_CASE("a thousand clients are one consumer of the stream") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  cluster_stage c{2, node_options(servers)};
  for (std::size_t i = 0; i < 1000; ++i) (void)c[i % 2].host->join();
  c.publish(10);
  all_have(c, 1, 10);
  const stream_admin admin{servers};
  CHECK(admin.info()->State.Consumers == 2);
}

TEST_CASE("a node that stands still during a burst misses nothing that the stream keeps") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  sse::jetstream_options o = node_options(servers);
  o.lane_bytes = 16'384;
  node slow{o};
  REQUIRE(slow.follows());
  const auto live = slow.host->join();
  o.lane_bytes = sse::jetstream_options{}.lane_bytes;
  o.queue_bytes = std::size_t{64} << 20;
  node n{o};
  constexpr std::uint64_t last = 50'000;
  std::atomic<std::uint64_t> stored{0};
  for (std::uint64_t i = 1; i <= last; ++i) {
    REQUIRE(n.order.publish(0, {.data = std::to_string(i)}, {},
                            [&](const sse::jetstream_receipt& r) { stored += r.stored; }));
  }
  REQUIRE(n.until([&] { return stored == last; }));
  CHECK(slow.order.stats().sequence < last);
  REQUIRE(slow.has(last));
  const auto got = events_in(slow.host->take(live));
  REQUIRE(got.size() == last);
  CHECK(got.back().second == std::to_string(last));
  CHECK(got.back().first - got.front().first == last - 1);
}
