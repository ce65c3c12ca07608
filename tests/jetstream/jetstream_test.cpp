// An order over one real nats-server.
#include <sse/jetstream.hpp>

#include <atomic>
#include <string>
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

using events = std::vector<std::pair<std::uint64_t, std::string>>;

/// Publishes numbers first..last and waits until all are stored.
void store(node& n, std::uint64_t first, std::uint64_t last) {
  std::atomic<std::uint64_t> stored{0};
  for (std::uint64_t i = first; i <= last;) {
    const auto r = n.order.publish(0, {.data = std::to_string(i)}, {},
                                   [&](const sse::jetstream_receipt& receipt) {
                                     if (receipt.stored) ++stored;
                                   });
    if (r) {
      ++i;
    } else {
      REQUIRE(r.error == sse::publish_error::full);
      n.host->turn();
    }
  }
  REQUIRE(n.until([&] { return stored == last - first + 1; }));
}

/// What a client got: numbers first..last with ids in a row.
void is_numbers(const events& e, std::uint64_t first, std::uint64_t last) {
  REQUIRE(e.size() == last - first + 1);
  for (std::size_t i = 0; i < e.size(); ++i) {
    CHECK(e[i].second == std::to_string(first + i));
    CHECK(e[i].first == e[0].first + i);
  }
}

}  // namespace

TEST_CASE(
    "two nodes of one stream have the same events with the same ids, and a client goes over") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  node a{node_options(servers)};
  node b{node_options(servers)};
  const auto on_a = a.host->join();
  const auto on_b = b.host->join();
  std::atomic<sse::event_id> told{0};
  REQUIRE(a.order.publish(0, {.data = "1"}, {},
                          [&](const sse::jetstream_receipt& r) { told = r.stored ? r.id : 1; }));
  REQUIRE(a.until([&] { return told != 0; }));
  store(b, 2, 5);
  REQUIRE(a.has(5));
  REQUIRE(b.has(5));
  const events got = events_in(a.host->take(on_a));
  is_numbers(got, 1, 5);
  CHECK(got[0].first == told);
  CHECK(events_in(b.host->take(on_b)) == got);
  const auto back = b.host->resume(got[2].first);
  b.host->turn();
  is_numbers(events_in(b.host->take(back)), 4, 5);
  // One that starts later has the newest in its memory, and goes on.
  node c{node_options(servers)};
  const auto late = c.host->resume(got[0].first);
  REQUIRE(c.has(5));
  is_numbers(events_in(c.host->take(late)), 2, 5);
  CHECK(c.order.stats().reads == 0);
  CHECK(c.until([&] { return c.order.ready(); }));
}

// --- start -------------------------------------------------------------------------------------

TEST_CASE("at a start each trouble has an answer of its own that says what to do") {
  if (test::no_nats_server()) return;
  using errc = sse::jetstream_errc;
  const auto fails = [](sse::jetstream_options o, errc what, std::string_view word) {
    o.connect_wait = sse::duration::seconds(2);
    sse::jetstream j;
    const sse::jetstream_error e = j.open(std::move(o));
    INFO(e.text);
    CHECK(e.what == what);
    CHECK(e.text.find(word) != std::string::npos);
    CHECK(e.text.find("geheim") == std::string::npos);  // no secret is told
    CHECK_FALSE(j);
    CHECK(j.publish(0, {.data = "x"}).error == sse::publish_error::closed);
  };
  SECTION("nobody is there") {
    fails({.servers = {"nats://user:geheim@127.0.0.1:1"}}, errc::unreachable, "127.0.0.1:1");
  }
  SECTION("wrong credentials") {
    const nats_servers s{1, "authorization { user: me, password: geheim }\n"};
    sse::jetstream_options o = node_options(s);
    fails(o, errc::denied, "credentials");
    o.servers[0].insert(7, "me:geheim1@");
    fails(o, errc::denied, "credentials");
    o.servers[0].replace(7, 11, "me:geheim@");
    sse::jetstream j;
    CHECK_FALSE(j.open(o));
  }
  SECTION("a user who may not") {
    const nats_servers s{1,
                         "authorization { users: [ { user: me, password: geheim, permissions: { "
                         "publish: [\"sse.>\"], subscribe: [\">\"] } } ] }\n"};
    sse::jetstream_options o = node_options(s);
    o.servers[0].insert(7, "me:geheim@");
    fails(o, errc::unreachable, "no answer");  // the server answers nothing to what is not allowed
  }
  SECTION("no JetStream") {
    const nats_servers s{1, "# jetstream is off\n"};
    fails(node_options(s), errc::no_jetstream, "-js");
  }
  SECTION("more replicas than servers") {
    const nats_servers s;
    sse::jetstream_options o = node_options(s);
    o.replicas = 3;
    fails(o, errc::full, "replicas");
  }
  SECTION("no room") {
    const nats_servers s{1, "jetstream { store_dir: \"/tmp/sse-nats-small-" +
                                std::to_string(::getpid()) + "\", max_file_store: 1000000 }\n"};
    fails(node_options(s), errc::full, "storage");
  }
  SECTION("options") {
    fails({.prefix = "a.b"}, errc::options, "prefix");
    fails({.channels = {"a..b"}}, errc::options, "channels");
    fails({.channels = {}}, errc::options, "channels");
    fails({.servers = {}}, errc::options, "servers");
  }
}

namespace {

/// The stream of node_options as somebody else made it.
void make_foreign(const nats_servers& s, void (*change)(jsStreamConfig&)) {
  sse::detail::nats_connection c;
  REQUIRE(sse::detail::nats_make(c, natsConnection_ConnectTo, s.urls()[0].c_str()) == NATS_OK);
  sse::detail::nats_jetstream js;
  jsOptions* const none = nullptr;
  REQUIRE(sse::detail::nats_make(js, natsConnection_JetStream, c.get(), none) == NATS_OK);
  jsStreamConfig config;
  jsStreamConfig_Init(&config);
  const char* subjects[] = {"sse.events.>"};
  config.Name = "sse_events";
  config.Subjects = subjects;
  config.SubjectsLen = 1;
  config.Storage = js_FileStorage;
  config.Replicas = 1;
  config.Discard = js_DiscardOld;
  config.Duplicates = 300'000'000'000;
  config.DenyDelete = config.DenyPurge = config.AllowDirect = true;
  change(config);
  sse::detail::nats_stream_info info;
  jsErrCode code{};
  const natsStatus made =
      sse::detail::nats_make(info, js_AddStream, js.get(), &config, none, &code);
  CAPTURE(code);
  REQUIRE(made == NATS_OK);
}

}  // namespace

TEST_CASE("a stream with other settings is refused, by the name of the setting") {
  if (test::no_nats_server()) return;
  struct foreign {
    const char* setting;
    void (*change)(jsStreamConfig&);
  };
  const foreign each[] = {
      {"storage memory", [](jsStreamConfig& c) { c.Storage = js_MemoryStorage; }},
      {"retention", [](jsStreamConfig& c) { c.Retention = js_InterestPolicy; }},
      {"discard new", [](jsStreamConfig& c) { c.Discard = js_DiscardNew; }},
      {"max_msgs_per_subject 1", [](jsStreamConfig& c) { c.MaxMsgsPerSubject = 1; }},
      {"duplicate_window 60 s", [](jsStreamConfig& c) { c.Duplicates = 60'000'000'000; }},
      {"no_ack true", [](jsStreamConfig& c) { c.NoAck = true; }},
      {"deny_delete false", [](jsStreamConfig& c) { c.DenyDelete = false; }},
      {"deny_purge false", [](jsStreamConfig& c) { c.DenyPurge = false; }},
      {"allow_direct false", [](jsStreamConfig& c) { c.AllowDirect = false; }},
      {"subjects", [](jsStreamConfig& c) {
         static const char* others[] = {"sse.events.a"};
         c.Subjects = others;
       }}};
  for (const foreign& f : each) {
    const nats_servers s;
    make_foreign(s, f.change);
    sse::jetstream j;
    const sse::jetstream_error e = j.open(node_options(s));
    INFO(e.text);
    CHECK(e.what == (std::string_view{f.setting} == "allow_direct false"
                         ? sse::jetstream_errc::too_old
                         : sse::jetstream_errc::settings));
    CHECK(e.text.find(f.setting) != std::string::npos);
  }
  const nats_servers s;
  make_foreign(s, [](jsStreamConfig&) {});
  sse::jetstream_options o = node_options(s);
  o.channels = {"a"};
  sse::jetstream j;
  CHECK_FALSE(j.open(o));
}

// --- publishing --------------------------------------------------------------------------------

TEST_CASE("type, key and audience go through the stream, and any NATS client may publish") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  sse::jetstream_options o = node_options(servers);
  o.channels = {"a", "b.c"};
  node n{o};
  const auto me = n.host->join({.key = "me"});
  const auto you = n.host->join({.key = "you"});
  REQUIRE(n.order.publish(1, {.type = "tick", .data = "1\n2"}, {.audience = "me", .key = "k"}));
  REQUIRE(n.has(1));
  sse::detail::nats_connection raw;
  REQUIRE(sse::detail::nats_make(raw, natsConnection_ConnectTo, servers.urls()[0].c_str()) ==
          NATS_OK);
  REQUIRE(natsConnection_PublishString(raw.get(), "sse.events.a", "plain") == NATS_OK);
  REQUIRE(natsConnection_PublishString(raw.get(), "sse.events.elsewhere", "passed") == NATS_OK);
  sse::detail::nats_message bad;
  REQUIRE(sse::detail::nats_make(bad, natsMsg_Create, "sse.events.a",
                                 static_cast<const char*>(nullptr), "x", 1) == NATS_OK);
  REQUIRE(natsMsgHeader_Set(bad.get(), "Sse-Event", std::string(200, 'x').c_str()) == NATS_OK);
  REQUIRE(natsConnection_PublishMsg(raw.get(), bad.get()) == NATS_OK);
  REQUIRE(natsConnection_Flush(raw.get()) == NATS_OK);
  REQUIRE(n.until([&] { return n.order.stats().sequence == 4; }));
  n.host->turn();
  const std::string got = n.host->take(me);
  CHECK(got.find("event: tick\ndata: 1\ndata: 2\n\n") != std::string::npos);
  CHECK(got.find("data: plain\n\n") != std::string::npos);
  CHECK(events_in(n.host->take(you)).size() == 1);
  const sse::jetstream_stats s = n.order.stats();
  CHECK(s.passed == 1);
  CHECK(s.invalid == 1);
  CHECK(s.events == 2);
  CHECK(s.lost == 0);
}

TEST_CASE("a key that is gone is gone on every node, also one that starts later") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  sse::jetstream_options o = node_options(servers);
  o.channel = [](std::string_view) {
    sse::channel_options c = test::quiet();
    c.on_lag = sse::lag_policy::coalesce;
    c.start = sse::start_at::snapshot;
    return c;
  };
  node first{o};
  REQUIRE(first.order.publish(0, {.data = "a"}, {.key = "a"}));
  REQUIRE(first.order.publish(0, {.data = "b"}, {.key = "b"}));
  REQUIRE(first.order.publish(0, {.data = "gone"}, {.key = "a", .role = sse::key_role::erase}));
  REQUIRE(first.order.publish(0, {.data = "trade"}, {.key = "b", .role = sse::key_role::barrier}));
  REQUIRE(first.has(4));
  node later{o};
  REQUIRE(later.has(4));
  for (node* n : {&first, &later}) {
    n->host->turn();
    const auto fresh = n->host->join({});
    n->host->turn();
    const std::string got = n->host->take(fresh);
    CHECK(got.find("data: b\n") != std::string::npos);
    CHECK(got.find("data: a\n") == std::string::npos);
    CHECK(got.find("data: gone\n") == std::string::npos);
    CHECK(got.find("data: trade\n") == std::string::npos);  // it is no value
  }
}

TEST_CASE("what cannot be an event is refused before it is sent") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  sse::jetstream_options o = node_options(servers);
  o.queue_bytes = 4096;
  node n{o};
  using error = sse::publish_error;
  CHECK(n.order.publish(1, {.data = "x"}).error == error::no_channel);
  CHECK(n.order.publish(0, {.type = "a\nb", .data = "x"}).error == error::bad_type);
  CHECK(n.order.publish(0, {.data = "x"}, {.key = "a\r\nb"}).error == error::bad_type);
  // Every node would pass it by, though it is stored.
  sse::jetstream_options roomy = node_options(servers);
  roomy.hub = "roomy";
  node other{roomy};
  const std::string key(0x4000, 'k');
  CHECK(other.order.publish(0, {.data = "x"}, {.key = key}).error == error::too_large);
  CHECK(n.order.publish(0, {.data = "x"}, {.transient = true}).error == error::bad_type);
  CHECK(n.order.publish(0, {.data = "x"}, {.last = true}).error == error::sealed);
  CHECK(n.order.publish(0, {.data = std::string(2 << 20, 'x')}).error == error::too_large);
  CHECK(n.order.publish(0, {.data = "x"}, {.audience = std::string(65'000, 'x')}).error ==
        error::too_large);
  CHECK(n.order.publish(0, {.data = std::string(5000, 'x')}).error == error::full);
  n.order.stop();
  CHECK(n.order.publish(0, {.data = "x"}).error == error::closed);
  CHECK(n.order.stats().published == 0);
}

TEST_CASE("while the server stands still events wait, are sent again, and are stored once") {
  if (test::no_nats_server()) return;
  nats_servers servers;
  sse::jetstream_options o = node_options(servers);
  o.ack_wait = sse::duration::milliseconds(300);
  node n{o};
  const auto k = n.host->join();
  store(n, 1, 10);
  std::atomic<int> stored{0};
  servers[0].pause();
  for (int i = 11; i <= 20; ++i) {
    REQUIRE(n.order.publish(0, {.data = std::to_string(i)}, {},
                            [&](const sse::jetstream_receipt& r) { stored += r.stored ? 1 : 0; }));
  }
  // On a slow machine the connection is given up before that.
  REQUIRE(n.until([&] { return n.order.stats().resent >= 10 || !n.order.stats().connected; }));
  CHECK(stored == 0);
  CHECK(n.until([&] { return !n.order.ready() && !n.order.problem().empty(); }));
  servers[0].go_on();
  REQUIRE(n.until([&] { return stored == 10; }));
  REQUIRE(n.has(20));
  is_numbers(events_in(n.host->take(k)), 1, 20);
  CHECK(n.order.stats().sequence == 20);
  CHECK(n.until([&] { return n.order.ready() && n.order.problem().empty(); }));
}

TEST_CASE("a stream that is full says so to the publisher, and to problem()") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  make_foreign(servers, [](jsStreamConfig& c) { c.MaxMsgSize = 1000; });
  node n{node_options(servers)};
  std::atomic<int> failed{0};
  std::string why;
  REQUIRE(n.order.publish(0, {.data = std::string(2000, 'x')}, {},
                          [&](const sse::jetstream_receipt& r) {
                            why = r.why;
                            failed += r.stored ? 0 : 1;
                          }));
  REQUIRE(n.until([&] { return failed == 1; }));
  CHECK(why.find("message size exceeds maximum allowed") != std::string::npos);
  CHECK(n.order.problem() == why);
  store(n, 1, 1);
  CHECK(n.order.problem().empty());
  CHECK(n.order.stats().failed == 1);
}

// --- following ---------------------------------------------------------------------------------

TEST_CASE("a herd of old ids costs few reads, and everybody gets all of it in order") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  sse::jetstream_options o = node_options(servers);
  o.channel = [](std::string_view) { return sse::channel_options{.keep = 100}; };
  node n{o};
  const auto first = n.host->join();
  store(n, 1, 5000);
  REQUIRE(n.has(5000));
  const events all = events_in(n.host->take(first));
  is_numbers(all, 1, 5000);
  std::vector<test::caller> herd;
  for (std::size_t i = 0; i < 1000; ++i) herd.push_back(n.host->resume(all[i * 4].first));
  std::size_t done = 0;
  std::vector<std::string> got(herd.size());
  REQUIRE(n.until([&] {
    done = 0;
    for (std::size_t i = 0; i < herd.size(); ++i) {
      got[i] += n.host->take(herd[i]);
      if (got[i].ends_with("data: 5000\n\n")) ++done;
    }
    return done == herd.size();
  }));
  for (std::size_t i = 0; i < herd.size(); i += 37) is_numbers(events_in(got[i]), i * 4 + 2, 5000);
  const sse::jetstream_stats s = n.order.stats();
  CAPTURE(s.reads, s.read_events);
  CHECK(s.reads <= 10);
  CHECK(s.read_events <= 20'000);
  CHECK(s.gaps == 0);
}

TEST_CASE("what the stream's limits removed is a gap to who comes back") {
  if (test::no_nats_server()) return;
  nats_servers servers;
  sse::jetstream_options o = node_options(servers);
  o.keep_events = 50;
  o.preload_bytes =
      GENERATE(std::size_t{0}, std::size_t{256} << 10);  // from the stream, from memory
  node n{o};
  const auto live = n.host->join();
  store(n, 1, 10);
  REQUIRE(n.has(10));
  const events before = events_in(n.host->take(live));
  n.order.stop();  // it is away while the others go on
  node other{o};
  store(other, 11, 200);
  node back{o};
  const auto k = back.host->resume(before[4].first);
  REQUIRE(back.has(200));
  std::string got;
  REQUIRE(back.until([&] { return (got += back.host->take(k)).ends_with("data: 200\n\n"); }));
  CHECK((back.order.stats().reads == 0) == (o.preload_bytes != 0));
  const events after = events_in(got);
  REQUIRE(after.size() == 51);
  CHECK(after[0].second == "gap");
  CHECK(after[0].first == before[0].first + 149);
  is_numbers(events{after.begin() + 1, after.end()}, 151, 200);
}

TEST_CASE(
    "a node that is too slow for the stream's limits tells its live readers how many they lost") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  sse::jetstream_options o = node_options(servers);
  o.keep_events = 50;
  o.lane_bytes = 16'384;
  node slow{o};
  REQUIRE(slow.follows());
  const auto live = slow.host->join();
  o.lane_bytes = sse::jetstream_options{}.lane_bytes;
  node n{o};
  // Its loop stands still: the lane is full, and so is what flow control allows on the way.
  const std::uint64_t last = 40'000;
  store(n, 1, last);
  CHECK(slow.order.stats().sequence < last - 50);
  REQUIRE(slow.has(last));
  const std::string bytes = slow.host->take(live);
  const events got = events_in(bytes);
  const sse::event_id base = slow.order.order().head() - last;
  std::uint64_t next = 1;
  for (const auto& [id, data] : got) {
    const std::uint64_t number = id - base;
    CHECK(number >= next);
    CHECK((data == "gap" || (number == next && data == std::to_string(number))));
    next = number + 1;
  }
  CHECK(next == last + 1);
  const sse::jetstream_stats s = slow.order.stats();
  CHECK(s.lost != 0);
  CHECK(s.events + s.lost == last);
  std::uint64_t told = 0;
  constexpr std::string_view word = "\"lost\":";
  for (std::size_t at = 0; (at = bytes.find(word, at)) != bytes.npos;)
    told += std::stoull(bytes.substr(at += word.size(), 20));
  CHECK(told == s.lost);
  CHECK(s.epochs == 0);
}

TEST_CASE("a stream that was deleted and made anew begins above all old ids, and all are told") {
  if (test::no_nats_server()) return;
  const nats_servers servers;
  node a{node_options(servers)};
  node b{node_options(servers)};
  const auto on_a = a.host->join();
  store(a, 1, 100);
  REQUIRE(a.has(100));
  REQUIRE(b.has(100));
  const events before = events_in(a.host->take(on_a));
  is_numbers(before, 1, 100);
  {
    sse::detail::nats_connection c;
    REQUIRE(sse::detail::nats_make(c, natsConnection_ConnectTo, servers.urls()[0].c_str()) ==
            NATS_OK);
    sse::detail::nats_jetstream js;
    jsOptions* const none = nullptr;
    REQUIRE(sse::detail::nats_make(js, natsConnection_JetStream, c.get(), none) == NATS_OK);
    REQUIRE(js_DeleteStream(js.get(), "sse_events", none, nullptr) == NATS_OK);
  }
  make_foreign(servers, [](jsStreamConfig&) {});
  store(b, 101, 150);
  const auto all_told = [](node& n) {
    return n.until([&] { return n.order.stats().epochs == 1 && n.order.stats().sequence == 50; });
  };
  REQUIRE(all_told(a));
  REQUIRE(all_told(b));
  a.host->turn();
  events after = events_in(a.host->take(on_a));
  REQUIRE(after.size() == 51);
  CHECK(after[0].second == "gap");
  CHECK(after[0].first > before.back().first);
  after.erase(after.begin());
  is_numbers(after, 101, 150);
  // Who comes to the other node with an old id is told too, and gets the new ones under the same
  // ids.
  const auto back = b.host->resume(before.back().first);
  b.host->turn();
  events there = events_in(b.host->take(back));
  REQUIRE(there.size() == 51);
  CHECK(there[0].second == "gap");
  there.erase(there.begin());
  CHECK(there == after);
}

TEST_CASE("a store that is put back from an older copy is seen, though the server says nothing") {
  if (test::no_nats_server()) return;
  nats_servers servers;
  node a{node_options(servers)};
  const auto on_a = a.host->join();
  store(a, 1, 100);
  REQUIRE(a.has(100));
  servers[0].stop();
  const auto copy = servers.directory() / "copy";
  std::filesystem::copy(servers[0].store(), copy, std::filesystem::copy_options::recursive);
  servers[0].start();
  REQUIRE(a.follows());
  store(a, 101, 150);
  REQUIRE(a.has(150));
  const events before = events_in(a.host->take(on_a));
  is_numbers(before, 1, 150);
  servers[0].kill();
  std::filesystem::remove_all(servers[0].store());
  std::filesystem::rename(copy, servers[0].store());
  servers[0].start();
  const bool as_many = GENERATE(false, true);  // as many new ones as were lost come before it looks
  std::uint64_t last = 100;
  if (as_many) {
    sse::detail::nats_connection c;
    REQUIRE(sse::detail::nats_make(c, natsConnection_ConnectTo, servers.urls()[0].c_str()) ==
            NATS_OK);
    for (; last != 160; ++last)
      REQUIRE(natsConnection_PublishString(c.get(), "sse.events.events", "other") == NATS_OK);
    REQUIRE(natsConnection_Flush(c.get()) == NATS_OK);
  }
  REQUIRE(a.until([&] { return a.order.stats().epochs == 1; }));
  store(a, 1000, 1000);
  REQUIRE(a.until([&] { return a.order.stats().sequence >= 101; }));
  std::string got;
  REQUIRE(a.until([&] { return (got += a.host->take(on_a)).ends_with("data: 1000\n\n"); }));
  const events after = events_in(got);
  CHECK(after[0].second == "gap");
  CHECK(after[0].first > before.back().first);
  for (std::size_t i = 1; i < after.size(); ++i) CHECK(after[i].first > after[i - 1].first);
  // A node that begins now has the same ids.
  node b{node_options(servers)};
  const auto on_b = b.host->resume(after.back().first - 1);
  b.host->turn();
  CHECK(events_in(b.host->take(on_b)) == events{after.back()});
}

TEST_CASE("old events are not read from a store that was put back, before that is known either") {
  if (test::no_nats_server()) return;
  nats_servers servers;
  sse::jetstream_options o = node_options(servers);
  o.channel = [](std::string_view) { return sse::channel_options{.keep = 10}; };
  node a{o};
  const auto on_a = a.host->join();
  store(a, 1, 100);
  servers[0].stop();
  const auto copy = servers.directory() / "copy";
  std::filesystem::copy(servers[0].store(), copy, std::filesystem::copy_options::recursive);
  servers[0].start();
  REQUIRE(a.follows());
  store(a, 101, 200);
  REQUIRE(a.has(200));
  const events before = events_in(a.host->take(on_a));
  is_numbers(before, 1, 200);
  servers[0].kill();
  std::filesystem::remove_all(servers[0].store());
  std::filesystem::rename(copy, servers[0].store());
  servers[0].start();
  sse::detail::nats_connection c;
  REQUIRE(sse::detail::nats_make(c, natsConnection_ConnectTo, servers.urls()[0].c_str()) ==
          NATS_OK);
  for (int i = 0; i != 150; ++i)
    REQUIRE(natsConnection_PublishString(c.get(), "sse.events.events", "other") == NATS_OK);
  REQUIRE(natsConnection_Flush(c.get()) == NATS_OK);
  // The node sees it once the heartbeats of its consumer stay away; this client comes before that.
  const auto back = a.host->resume(before[99].first);
  REQUIRE(a.until([&] { return a.order.stats().epochs == 1; }));
  store(a, 1000, 1000);
  std::string got;
  REQUIRE(a.until([&] { return (got += a.host->take(back)).ends_with("data: 1000\n\n"); }));
  for (const auto& [id, data] : events_in(got)) {
    if (id <= before.back().first)
      CHECK((data == "gap" || data == before[id - before[0].first].second));
  }
}
