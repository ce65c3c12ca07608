// Shards behind a sequencer, step by step in one thread.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/metrics.hpp>
#include <sse/shards.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "shards_stage.hpp"

namespace {

using sse::publish_error;
using sse::publish_result;
using test::frame;
using test::frames;
using test::put;
using test::shard_host;

TEST_CASE("all shards have the same bytes under the same ids", "[shards]") {
  sse::sequencer s{{.first_id = 100}};
  shard_host a{s};
  shard_host b{s};
  REQUIRE(*a.shard);
  REQUIRE(*b.shard);
  const auto on_a = a.join();
  const auto on_b = b.join();
  CHECK(s.head() == 100);
  const std::string text = "two\nlines";
  CHECK(s.publish(0, {.type = "t", .data = text, .retry = 5}).id == 101);
  CHECK(put(s, 102).id == 102);
  CHECK(s.head() == 102);
  a.turn();
  b.turn();
  const std::string expected =
      "id: 101\nevent: t\nretry: 5\ndata: two\ndata: lines\n\n" + frame(102, "e", "102");
  CHECK(a.take(on_a) == expected);
  CHECK(b.take(on_b) == expected);
  CHECK((s.counts() == sse::mail_counts{.accepted = 2}));
}

TEST_CASE("a client resumes on another shard, also on one that is behind", "[shards]") {
  sse::sequencer s;
  shard_host a{s};
  shard_host b{s};
  auto k = a.join();
  for (std::uint64_t i = 1; i <= 10; ++i) REQUIRE(put(s, i));
  a.turn();
  CHECK(a.take(k) == frames(1, 10));
  // b has not run since: it has nothing yet.
  CHECK(b.shard->at(0).last_id() == 0);
  k = b.resume(10);
  REQUIRE(k);
  CHECK(b.take(k).empty());  // no gap
  REQUIRE(put(s, 11));
  b.turn();
  CHECK(b.take(k) == frames(11, 11));
  k = a.resume(4);
  CHECK(a.take(k) == frames(5, 10));
  a.turn();
  CHECK(a.take(k) == frames(11, 11));
  CHECK(s.all_channel_stats()[0].gaps == 0);
}

TEST_CASE("an id that nobody was given is answered with a gap", "[shards]") {
  sse::sequencer s;
  shard_host a{s};
  for (std::uint64_t i = 1; i <= 3; ++i) REQUIRE(put(s, i));
  const auto k = a.resume(4);
  REQUIRE(k);
  a.turn();
  CHECK(a.take(k) == test::gap_frame(0, 4, 1, -1) + frames(1, 3));
  const auto l = a.resume(4);
  CHECK(a.take(l) == test::gap_frame(3, 4, 4, -1));
}

TEST_CASE("a publish that is under way in some lanes only is waited for", "[shards]") {
  // The first lane's wake holds the publisher up between the two lanes.
  struct gate {
    std::atomic<bool> reached{false};
    std::atomic<bool> open{false};
    static void wait(void* self) noexcept {
      auto& g = *static_cast<gate*>(self);
      g.reached = true;
      g.reached.notify_all();
      g.open.wait(false);
    }
  } g;
  sse::sequencer s;
  shard_host a{s, {.wake = &gate::wait, .context = &g}};
  sse::mailbox mail;
  sse::hub_options o;
  sse::shard_port::prepare(s, o);
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport> hub{net, o};
  sse::shard_port port;
  REQUIRE(port.attach(s, hub, mail));
  const auto k = a.join();
  CHECK_FALSE(a.shard->prepare_sleep());  // a turn is due
  a.turn();
  REQUIRE(a.shard->prepare_sleep());
  sse::event_id given = 0;
  std::thread engine{[&] { given = put(s, 1).id; }};
  g.reached.wait(false);
  a.turn();
  CHECK(a.take(k) == frames(1, 1));  // a client has it,
  int drains = 0;
  sse::refused_request no;
  test::with_request({.last_event_id = "1"}, [&](const sse::request& r) {
    CHECK(port.catch_up(r, hub.options(), no, [&] {
      const std::size_t n = mail.drain([&](const sse::mail& m) { return port.take(m); });
      CHECK(n == (drains == 0 ? 0U : 1U));  // the other shard does not, and nothing in its lane
      ++drains;
      g.open = true;
      g.open.notify_all();
    }));
    CHECK(drains == 2);
    CHECK(port.at(0).last_id() == 1);
    CHECK(port.catch_up(r, hub.options(), no, [&] { ++drains; }));
  });
  // Neither those that ask for nothing nor those that ask for too much cost a drain.
  for (const char* query : {"", "last_id=0", "last_id=x", "last_id=9"}) {
    test::with_request({.query = query}, [&](const sse::request& r) {
      CHECK(port.catch_up(r, hub.options(), no, [&] { ++drains; }));
    });
  }
  CHECK(drains == 2);
  engine.join();
  CHECK(given == 1);
}

TEST_CASE("a shard that is full refuses for all", "[shards]") {
  sse::sequencer s{{.lane_bytes = 1024}};
  shard_host a{s};
  shard_host b{s};
  const auto on_a = a.join();
  const auto on_b = b.join();
  std::uint64_t n = 0;
  while (put(s, n + 1)) {
    ++n;
    a.turn();
  }
  CHECK(n > 5);
  CHECK(put(s, n + 1) == publish_error::full);
  CHECK(s.head() == n);
  a.turn();
  b.turn();
  CHECK(a.take(on_a) == frames(1, n));
  CHECK(b.take(on_b) == frames(1, n));
  CHECK(put(s, n + 1).id == n + 1);
  CHECK((s.counts() == sse::mail_counts{.accepted = n + 1, .full = 2}));
  // A shard that ended is not waited for.
  b.shard.reset();
  for (std::uint64_t i = n + 2; i < 100; ++i) {
    REQUIRE(put(s, i).id == i);
    a.turn();
  }
  CHECK(a.take(on_a) == frames(n + 1, 99));
  CHECK(b.closed(on_b));
  a.shard.reset();
  CHECK(put(s, 100) == publish_error::closed);
}

TEST_CASE("what cannot be published is refused and uses no id", "[shards]") {
  sse::sequencer s{{.lane_bytes = 4096, .limits = {.event = 3000}}};
  CHECK(put(s, 1) == publish_error::closed);  // no shard yet
  shard_host a{s};
  CHECK(s.publish(1, {.data = "x"}) == publish_error::no_channel);
  CHECK(s.publish(0, {.type = "\n", .data = "x"}) == publish_error::bad_type);
  CHECK(s.publish(0, {.data = "x", .id = "7"}) == publish_error::bad_id);
  CHECK(s.publish(0, {.data = "x"}, {.id = 7}) == publish_error::bad_id);
  CHECK(s.publish(0, {.data = "data: x\n\n"}, {.encoded = true}) == publish_error::bad_type);
  const std::string fits(1500, 'x');
  const std::string over(2100, 'x');  // half of the lane
  const std::string huge(3000, 'x');
  const std::string long_audience(70'000, 'x');
  CHECK(s.publish(0, {.data = fits}).id == 1);
  CHECK(s.publish(0, {.data = over}) == publish_error::too_large);
  CHECK(s.publish(0, {.data = huge}) == publish_error::too_large);
  CHECK(s.publish(0, {.data = "x"}, {.audience = long_audience}).error == publish_error::too_large);
  CHECK(s.head() == 1);
  CHECK((s.counts() == sse::mail_counts{.accepted = 1, .too_large = 3, .invalid = 5, .closed = 1}));
  sse::sequencer last{{.first_id = sse::max_event_id}};
  CHECK(put(last, 1) == publish_error::id_order);
  shard_host b{last};
  CHECK(put(last, 1) == publish_error::id_order);
}

TEST_CASE("a shard joins before the first event or not at all", "[shards]") {
  sse::sequencer s{{.channels = {"a", "b"}}};
  shard_host a{s};
  REQUIRE(put(s, 1));
  shard_host late{s};
  CHECK_FALSE(*late.shard);
  late.turn();
  CHECK(late.resume(1).refusal.status == 500);  // it has no channels
  const auto k = a.resume(0);
  a.turn();
  CHECK(a.take(k) == frames(1, 1));
  sse::sequencer twice{{.channels = {"a", "a"}}};
  CHECK_FALSE(*shard_host{twice}.shard);
  CHECK(put(twice, 1) == publish_error::closed);
}

TEST_CASE("channels share one sequence, options, audiences, keys and transient events hold",
          "[shards]") {
  std::vector<std::string> asked;
  sse::sequencer s{{.channels = {"a", "b"}, .channel = [&](std::string_view name) {
                      asked.emplace_back(name);
                      return sse::channel_options{.keep = name == "a" ? 2U : 10U,
                                                  .ids = sse::id_mode::none,
                                                  .own_sequence = true};
                    }}};
  shard_host a{s};
  shard_host b{s};
  CHECK((asked == std::vector<std::string>{"a", "b", "a", "b"}));
  CHECK(a.shard->at(0).options()->keep == 2);
  CHECK(b.shard->at(1).name() == "b");
  const auto ada = a.join({.key = "ada"});
  const auto bob = b.join({.key = "bob"});
  REQUIRE(put(s, 1, 0).id == 1);
  REQUIRE(put(s, 2, 1).id == 2);
  REQUIRE(s.publish(0, {.data = "for ada"}, {.audience = "ada"}).id == 3);
  REQUIRE(s.publish(1, {.data = "now"}, {.transient = true}).id == sse::no_id);
  REQUIRE(put(s, 4, 0).id == 4);
  a.turn();
  b.turn();
  CHECK(a.take(ada) == frames(1, 2) + frame(3, "", "for ada") + frame(0, "", "now") + frames(4, 4));
  CHECK(b.take(bob) == frames(1, 2) + frame(0, "", "now") + frames(4, 4));
  // A replay keeps both promises, on the other shard.
  const auto again = b.join({.key = "ada", .last_event_id = "2"});
  CHECK(b.take(again) == frame(3, "", "for ada") + frames(4, 4));
}

TEST_CASE("a shard's own channels cannot take the sequencer's ids", "[shards]") {
  sse::sequencer s{{.first_id = 10}};
  shard_host a{s};
  const sse::channel shared = a.shard->hub().open_channel("shared");
  const sse::channel own = a.shard->hub().open_channel("own", {.own_sequence = true});
  const sse::channel none = a.shard->hub().open_channel("none", {.ids = sse::id_mode::none});
  REQUIRE((shared && own && none));
  CHECK(shared.publish({.data = "x"}).error == sse::publish_error::id_order);
  CHECK(own.publish({.data = "x"}).id == 11);
  CHECK(none.publish({.data = "x"}));
  CHECK(shared.publish({.data = "x"}, {.transient = true}));
  REQUIRE(put(s, 11).id == 11);
  a.turn();
  CHECK(a.shard->at(0).last_id() == 11);
}

TEST_CASE("an event's key arrives: a snapshot is the same on every shard", "[shards]") {
  sse::sequencer s{{.channel = [](std::string_view) {
    return sse::channel_options{.start = sse::start_at::snapshot};
  }}};
  shard_host a{s};
  shard_host b{s};
  REQUIRE(s.publish(0, {.data = "1"}, {.key = "btc"}));
  REQUIRE(s.publish(0, {.data = "2"}, {.key = "eth"}));
  REQUIRE(s.publish(0, {.data = "3"}, {.key = "btc"}));
  a.turn();
  b.turn();
  const std::string expected = frame(0, "", "3") + frame(0, "", "2");  // by key, without ids
  const auto on_a = a.join();
  const auto on_b = b.join();
  CHECK(a.take(on_a) == expected);
  CHECK(b.take(on_b) == expected);
}

TEST_CASE("hot threads publish through a mailbox that is forwarded", "[shards]") {
  sse::sequencer s{{.channels = {"a", "b"}, .lane_bytes = 1024}};
  shard_host a{s};
  const auto k = a.join();
  sse::mailbox inbox;
  sse::publisher p = inbox.make_publisher(1);
  for (std::uint64_t i = 1; i <= 100; ++i) {
    REQUIRE(p.try_publish({.type = "e", .data = std::to_string(i)}) == publish_error::none);
  }
  std::string got;
  int rounds = 0;
  while (!s.forward(inbox)) {
    ++rounds;
    a.turn();
    got += a.take(k);
  }
  CHECK(rounds > 1);
  a.turn();
  CHECK(got + a.take(k) == frames(1, 100));
  CHECK(a.shard->at(1).stats().published == 100);
  REQUIRE(p.try_publish({.data = "x"}, {.id = 5}) == publish_error::none);
  sse::publisher stranger = inbox.make_publisher(2);
  REQUIRE(stranger.try_publish("x") == publish_error::none);
  CHECK(s.forward(inbox));
  CHECK((s.counts() == sse::mail_counts{.accepted = 100, .invalid = 2}));
}

TEST_CASE("one drain ends all shards, after all that was accepted", "[shards]") {
  sse::sequencer s{{.lane_bytes = 1024}};
  int woken = 0;
  const auto wake = [](void* n) noexcept { ++*static_cast<int*>(n); };
  shard_host a{s, {.wake = wake, .context = &woken}};
  shard_host b{s, {.wake = wake, .context = &woken}};
  const auto on_a = a.join();
  const auto on_b = b.join({.window = 10});
  a.turn();
  b.turn();
  std::uint64_t n = 0;
  const bool fill = GENERATE(false, true);  // no room for a word about the drain
  CAPTURE(fill);
  while (fill && put(s, n + 1)) ++n;
  while (fill && s.publish(0, {}, {.transient = true})) {
  }  // the word needs less than an event with an id
  const bool sleeps = a.shard->prepare_sleep() && b.shard->prepare_sleep();
  CHECK(sleeps == !fill);
  CHECK_FALSE(s.draining());
  {
    const std::string bye = "bye";
    s.drain({.deadline = sse::duration::milliseconds(500), .farewell = {.type = bye, .data = bye}});
  }
  CHECK(s.draining());
  CHECK(woken == (fill ? 0 : 2));
  CHECK(put(s, n + 1) == publish_error::closed);
  s.drain();
  a.turn();
  b.turn();
  const std::string got = a.take(on_a);
  CHECK(got.starts_with(frames(1, n)));
  CHECK(got.ends_with(frame(0, "bye", "bye")));
  CHECK(test::count(got, "retry: ") == 1);
  CHECK(a.shard->hub().drained());
  CHECK_FALSE(b.shard->hub().drained());
  CHECK_FALSE(b.join());
  b.turn(500);
  CHECK(b.closed(on_b));
  CHECK(b.shard->hub().drained());
}

TEST_CASE("a loop that meets the word about a drain in its mail ends in the same turn",
          "[shards]") {
  sse::sequencer s;
  sse::mailbox mail;
  sse::hub_options o;
  sse::shard_port::prepare(s, o);
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport> hub{net, o};
  sse::shard_port port;
  port.turn_begins();  // no shard yet: nothing to do, and nobody to ask
  CHECK_FALSE(port.ending());
  CHECK_FALSE(port.head_moved());
  REQUIRE(port.attach(s, hub, mail));
  const auto drain = [&] { return mail.drain([&](const sse::mail& m) { return port.take(m); }); };
  s.backfill_ready();
  port.turn_begins();
  CHECK(drain() == 1);
  CHECK(port.error() == publish_error::none);
  CHECK(port.at(0).stats().published == 0);
  CHECK_FALSE(port.ending());
  port.turn_begins();
  REQUIRE(put(s, 1));
  s.drain();  // another thread's
  CHECK_FALSE(port.ending());
  CHECK(drain() == 2);
  CHECK(port.at(0).last_id() == 1);
  CHECK(port.ending());
}

TEST_CASE("a port says once when its sequencer's head has moved", "[shards]") {
  sse::sequencer s{{.first_id = 7}};
  shard_host a{s};
  sse::mailbox mail;
  sse::hub_options o;
  sse::shard_port::prepare(s, o);
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport> hub{net, o};
  sse::shard_port port;
  REQUIRE(port.attach(s, hub, mail));
  (void)port.head_moved();
  CHECK_FALSE(port.head_moved());
  for (std::uint64_t i = 1; i <= 3; ++i) {
    REQUIRE(put(s, i));
    CHECK(port.head_moved());
    CHECK_FALSE(port.head_moved());
  }
  REQUIRE(s.publish(0, {.data = "x"}, {.transient = true}));
  CHECK_FALSE(port.head_moved());
}

TEST_CASE("a user's streams end on all shards, each in its own turn", "[shards]") {
  sse::sequencer s;
  int woken = 0;
  const auto wake = [](void* n) noexcept { ++*static_cast<int*>(n); };
  shard_host a{s, {.wake = wake, .context = &woken}};
  shard_host b{s, {.wake = wake, .context = &woken}};
  shard_host gone{s};
  const auto ada = a.join({.key = "ada"});
  const auto bob = a.join({.key = "bob"});
  const auto other_ada = b.join({.key = "ada"});
  const auto eve = b.join({.key = "eve"});
  for (shard_host* h : {&a, &b}) {
    h->turn();
    CHECK(h->shard->prepare_sleep());
  }
  gone.shard.reset();
  s.revoke("ada");
  s.revoke("eve");
  s.revoke("nobody");
  CHECK(woken == 2);
  CHECK_FALSE(a.closed(ada));
  a.turn();
  CHECK(a.closed(ada));
  CHECK(a.net->at(ada.peer).why == sse::close_reason::revoked);
  CHECK_FALSE(a.closed(bob));
  CHECK_FALSE(b.closed(other_ada));
  b.turn();
  CHECK(b.closed(other_ada));
  CHECK(b.closed(eve));
  // It was about those that were there; and once.
  const auto back = a.join({.key = "ada"});
  a.turn();
  REQUIRE(put(s, 1));
  a.turn();
  CHECK(a.take(back) == frames(1, 1));
  CHECK_FALSE(a.closed(back));
}

TEST_CASE("counters are summed over the shards", "[shards]") {
  sse::sequencer s{{.channels = {"a", "b"}}};
  shard_host a{s};
  auto b = std::make_unique<shard_host>(s);
  const auto k = a.join();
  (void)b->join();
  (void)b->join();
  for (shard_host* h : {&a, b.get()}) CHECK(h->join({.query = "last_id=x"}).refusal.status == 400);
  for (std::uint64_t i = 1; i <= 5; ++i) REQUIRE(put(s, i));
  a.turn();
  b->turn();
  sse::hub_stats all = s.stats();
  CHECK(all.sessions == 3);
  CHECK(all.accepted == 3);
  CHECK(all.refused == 2);
  CHECK(all.refused_by[static_cast<std::size_t>(sse::refusal_reason::bad_params)] == 2);
  const sse::hub_stats of_a = a.shard->hub().stats();
  const sse::hub_stats of_b = b->shard->hub().stats();
  CHECK(all.log_bytes == of_a.log_bytes + of_b.log_bytes);
  CHECK(of_a.writes * of_b.writes * of_a.bytes * of_b.bytes != 0);
  CHECK(all.writes == of_a.writes + of_b.writes);
  CHECK(all.bytes == of_a.bytes + of_b.bytes);
  std::vector<sse::channel_stats> channels = s.all_channel_stats();
  REQUIRE(channels.size() == 2);
  CHECK(channels[0].name == "a");
  CHECK(channels[1].name == "b");
  CHECK(channels[0].subscribers == 3);
  CHECK(channels[0].published == 5);
  CHECK(channels[0].delivered == 15);
  CHECK(channels[0].retained_events == 5);
  CHECK(channels[0].last_id == 5);
  CHECK(channels[1].published == 0);
  b.reset();
  a.net->at(k.peer).fails = true;
  REQUIRE(put(s, 6));
  a.turn();
  all = s.stats();
  CHECK(all.sessions == 0);
  CHECK(all.accepted == 3);
  CHECK(all.closed[static_cast<std::size_t>(sse::close_reason::peer)] == 1);
  channels = s.all_channel_stats();
  CHECK(channels[0].subscribers == 0);
  CHECK(channels[0].published == 6);
  sse::metrics_page page;
  page.add(s.stats(), channels);
  CHECK(test::count(page.text(), "sse_channel_published_total{channel=\"a\"} 6\n") == 1);
}

TEST_CASE("a channel's counters are those of its shards: sums, or of the one that is ahead",
          "[shards]") {
  sse::sequencer s{{.channels = {"newest", "oldest"}, .channel = [](std::string_view name) {
                      sse::channel_options o = test::quiet(2);
                      o.max_lag = 2000;
                      o.on_lag =
                          name == "oldest" ? sse::lag_policy::oldest : sse::lag_policy::coalesce;
                      return o;
                    }}};
  shard_host a{s};
  shard_host b{s};
  const auto publish = [&](int n) {
    for (int i = 0; i < n; ++i) {
      for (const std::size_t channel : {0U, 1U}) {
        REQUIRE(s.publish(channel, {.data = std::string(500, 'x')}, {.key = "k"}));
      }
      a.turn();
      b.turn();
    }
  };
  publish(2);
  (void)a.resume(1);
  (void)b.resume(1);
  (void)b.join();
  const auto late = a.join({.window = 0});
  const auto later = b.join({.window = 0});
  publish(20);
  for (const auto& [h, k] : {std::pair{&a, &late}, std::pair{&b, &later}}) {
    h->net->at(k->peer).window = SIZE_MAX;
    h->shard->hub().writable(k->id);
  }
  publish(1);
  (void)a.join({.window = 0});
  (void)b.join({.window = 0});
  publish(3);
  REQUIRE(s.publish(0, {.data = "last"}));
  b.turn();  // a has not seen it yet
  const std::vector<sse::channel_stats> all = s.all_channel_stats();
  const sse::channel_stats of_a[] = {a.shard->at(0).stats(), a.shard->at(1).stats()};
  const sse::channel_stats of_b[] = {b.shard->at(0).stats(), b.shard->at(1).stats()};
  using counter = std::uint64_t sse::channel_stats::*;
  for (const counter n :
       {&sse::channel_stats::subscribers, &sse::channel_stats::delivered,
        &sse::channel_stats::dropped, &sse::channel_stats::coalesced, &sse::channel_stats::gaps,
        &sse::channel_stats::replays, &sse::channel_stats::backlog_bytes}) {
    std::uint64_t sum = 0;
    for (const std::size_t i : {0U, 1U}) {
      CHECK(all[i].*n == of_a[i].*n + of_b[i].*n);
      sum += all[i].*n;
    }
    CHECK(sum != 0);
  }
  CHECK(of_a[0].published == 26);
  CHECK(all[0].published == 27);
  CHECK(all[0].last_id == 53);
  CHECK(all[0].retained_events == 2);
  CHECK(all[0].retained_bytes == std::max(of_a[0].retained_bytes, of_b[0].retained_bytes));
}

TEST_CASE("what the sequencer takes is not too large for a shard", "[shards]") {
  sse::sequencer s{{.lane_bytes = 16U << 20, .limits = {.event = 4U << 20}}};
  shard_host a{s};
  const auto k = a.join();
  const std::string data(3U << 20, 'x');
  REQUIRE(s.publish(0, {.data = data}));
  a.turn();
  CHECK((a.take(k) == test::frame(1, "", data)));
  CHECK(s.publish(0, {.data = std::string(4U << 20, 'x')}).error == sse::publish_error::too_large);
}

TEST_CASE("a sequencer's channels of one metrics_name stand together on a page, also at its end",
          "[shards][surface]") {
  sse::sequencer s{{.channels = {"ann", "bob", "news"}, .channel = [](std::string_view name) {
                      sse::channel_options o;
                      if (name != "news") o.metrics_name = "users";
                      return o;
                    }}};
  const auto page = [&] {
    sse::metrics_page p;
    p.add(s.stats(), s.all_channel_stats());
    return p.text();
  };
  auto a = std::make_unique<shard_host>(s);
  shard_host b{s};
  for (std::uint64_t i = 1; i <= 4; ++i) REQUIRE(put(s, i, i % 2));
  REQUIRE(put(s, 5, 2));
  a->turn();
  b.turn();
  for (const char* when : {"both", "one has ended"}) {
    CAPTURE(when);
    const std::string text = page();
    CHECK(test::count(text, "sse_channel_published_total{channel=\"users\"} 4\n") == 1);
    CHECK(test::count(text, "sse_channel_published_total{channel=\"news\"} 1\n") == 1);
    CHECK(test::count(text, "\"ann\"") + test::count(text, "\"bob\"") == 0);
    CHECK(test::count(text, "sse_channels 3\n") == 1);
    a.reset();
  }
}

TEST_CASE("with many channels a turn reports those that got events, and all once it was asked",
          "[shards]") {
  constexpr std::size_t n = 200;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < n; ++i) names.push_back("c" + std::to_string(i));
  sse::sequencer s{{.channels = names}};
  shard_host a{s};
  a.turn();
  REQUIRE(put(s, 1, 150));
  REQUIRE(put(s, 2, 199));
  a.turn();
  std::vector<sse::channel_stats> c = s.all_channel_stats();
  CHECK(c[150].published == 1);
  CHECK(c[199].published == 1);
  CHECK(c[199].last_id == 2);
  // A stream joins some of them, without an event; this turn knows that it was asked above.
  a.joins.clear();
  for (std::size_t i = 0; i < n; i += 40) a.joins.push_back(a.shard->at(i));
  const auto k = a.join();
  REQUIRE(k);
  a.turn();
  c = s.all_channel_stats();
  for (std::size_t i = 0; i < n; ++i) CHECK(c[i].subscribers == (i % 40 == 0 ? 1U : 0U));
  // Not asked again, all have had their turn after some in which something happened.
  a.turn();
  a.shard->hub().closed(k.id);
  for (std::size_t i = 0; i <= n / 64; ++i) {
    REQUIRE(put(s, i, 7));
    a.turn();
  }
  c = s.all_channel_stats();
  for (std::size_t i = 0; i < n; ++i) CHECK(c[i].subscribers == 0);
  CHECK(c[7].published == n / 64 + 1);
}

TEST_CASE("who asked for the counters of channels gets those that only a channel has", "[shards]") {
  sse::sequencer s{{.channels = {"a", "b"}}};
  shard_host a{s};
  const auto k = a.join();
  a.turn();
  CHECK(s.all_channel_stats()[1].subscribers == 1);
  a.turn();
  REQUIRE(a.shard->hub().leave(k.id, a.shard->at(1)));  // the hub as a whole counts nothing then
  (void)s.all_channel_stats();
  a.turn();
  CHECK(s.all_channel_stats()[0].subscribers == 1);
  CHECK(s.all_channel_stats()[1].subscribers == 0);
}

#if TEST_ALLOCATIONS
TEST_CASE("what a shard that ended would have to do is not kept for it", "[shards][allocation]") {
  sse::sequencer s;
  shard_host a{s};
  a.shard.reset();
  const std::string who(100, 'x');
  const std::uint64_t before = test::allocations();
  for (int i = 0; i < 10; ++i) s.revoke(who);
  CHECK(test::allocations() == before);
}

TEST_CASE("a shard without memory falls behind, and loses nothing", "[shards]") {
  sse::sequencer s{{.lane_bytes = std::size_t{1} << 18}};
  shard_host a{s};
  shard_host b{s};
  const auto k = a.join();
  const std::string data(9000, 'x');
  for (int i = 0; i < 12; ++i) REQUIRE(s.publish(0, {.data = data}));
  b.turn();
  {
    test::failing_allocations none{0};
    a.shard->turn({});
    CHECK(none.hit());
  }
  CHECK(a.shard->at(0).last_id() < 12);
  CHECK_FALSE(a.shard->prepare_sleep());
  std::string got = a.take(k);
  a.turn();
  got += a.take(k);
  CHECK(test::consecutive(test::ids_in(got), 1, 12));
}

TEST_CASE("a client of a shard without memory is sent away, not told of a gap", "[shards]") {
  const std::string data(9000, 'x');
  int behind = 0;
  int served = 0;
  const bool decided = GENERATE(false, true);  // the verdict was there before
  bool hit = true;
  for (std::uint64_t n = 0; hit; ++n) {
    CAPTURE(n);
    sse::sequencer s{{.lane_bytes = std::size_t{1} << 18}};
    shard_host a{s};
    shard_host b{s};
    const auto first = a.join();
    for (int i = 0; i < 12; ++i) REQUIRE(s.publish(0, {.data = data}));
    a.turn();
    CHECK(test::consecutive(test::ids_in(a.take(first)), 1, 12));
    int told = 0;
    b.shard->hub().on_refused(
        [&](const sse::request&, const sse::no_user&, const sse::refused_request& q) {
          told += q.why == sse::refusal_reason::behind ? 1 : 0;
        });
    test::caller k;
    {
      test::failing_allocations some{n, 2};
      try {
        k = decided ? b.resume(12, sse::admit().join(b.shard->at(0))) : b.resume(12);
      } catch (const std::bad_alloc&) {
      }
      hit = some.hit();
    }
    served += static_cast<bool>(k);
    if (k.refusal.body.find("behind") != std::string::npos) {
      ++behind;
      CHECK(k.refusal.status == 503);
      CHECK(k.refusal.headers.find("Retry-After: 5") != std::string::npos);
      CHECK(told == (decided ? 1 : 0));
    }
    b.turn();
    REQUIRE(put(s, 13));
    b.turn();
    if (k) CHECK((b.closed(k) || b.take(k) == frames(13, 13)));
    CHECK(s.all_channel_stats()[0].gaps == 0);
  }
  CHECK(behind > 0);
  CHECK(served > 0);
}

TEST_CASE("publishing through a sequencer allocates nothing", "[shards]") {
  sse::sequencer s;
  shard_host a{s};
  shard_host b{s};
  const std::uint64_t before = test::allocations();
  for (std::uint64_t i = 0; i < 1000; ++i) {
    REQUIRE(s.publish(0, {.type = "t", .data = "0123456789"}, {.audience = "ada", .key = "k"}));
  }
  CHECK(test::allocations() == before);
}
#endif

}  // namespace

namespace {

std::string encoded_shared(std::uint64_t id) {
  const std::string n = std::to_string(id);
  return "id: " + n + "\ndata: " + n + "\n\n";
}
sse::publish_result put_given(sse::sequencer& s, std::uint64_t id, std::size_t channel = 0) {
  const std::string bytes = encoded_shared(id);
  return s.publish(channel, {.data = bytes}, {.id = id, .encoded = true});
}

}  // namespace

TEST_CASE("what an order lost stands as a gap among the events of all its channels") {
  sse::sequencer s{{.channels = {"a", "b"}, .given_ids = true}};
  shard_host one{s};
  shard_host two{s};
  const auto k = one.join();
  REQUIRE(put_given(s, 5).id == 5);
  CHECK(s.lose(6).error == sse::publish_error::id_order);  // nothing is between
  REQUIRE(s.lose(10, 4, true).id == 9);
  CHECK(s.head() == 9);
  REQUIRE(put_given(s, 10, 1).id == 10);
  one.turn();
  two.turn();
  const std::string gap = test::gap_frame(9, 5, 10, 4);
  CHECK(one.take(k) == encoded_shared(5) + gap + gap + encoded_shared(10));  // it reads both
  // Who comes back is told too: from the event before, and from one that another process had.
  for (const std::uint64_t after : {5U, 7U}) {
    const auto back = two.resume(after);
    two.turn();
    CHECK(two.take(back) == gap + gap + encoded_shared(10));
  }
  // A loss whose size nobody knows.
  REQUIRE(s.lose(20).id == 19);
  one.turn();
  CHECK(one.take(k).find("\"requested\":10,\"first\":20,\"lost\":null}") != std::string::npos);
  sse::sequencer own{{}};
  shard_host plain{own};
  CHECK(own.lose(9).error == sse::publish_error::id_order);  // it gives its ids itself
}

TEST_CASE("an order may lose one event, and all that there can be, but not what was given out") {
  sse::sequencer s{{.given_ids = true}};
  shard_host one{s};
  REQUIRE(put_given(s, 5).id == 5);
  for (const std::uint64_t first : {0U, 5U, 6U}) {
    CHECK(s.lose(first).error == sse::publish_error::id_order);
  }
  CHECK(s.lose(7, 1, true).id == 6);
  CHECK(s.lose(sse::max_event_id + 2).error == sse::publish_error::id_order);
  CHECK(s.head() == 6);
  CHECK(s.lose(sse::max_event_id + 1).id == sse::max_event_id);
  s.drain();
  CHECK(s.lose(sse::max_event_id + 1).error == sse::publish_error::id_order);
  sse::sequencer ends{{.given_ids = true}};
  shard_host two{ends};
  ends.drain();
  CHECK(ends.lose(7).error == sse::publish_error::closed);
}

TEST_CASE("where ids are given, what is not encoded may only be transient") {
  sse::sequencer s{{.given_ids = true}};
  shard_host one{s};
  const auto k = one.join();
  CHECK(s.publish(0, {.data = "x"}).error == sse::publish_error::id_order);
  CHECK(s.publish(0, {.data = "x"}, {.id = 3}).error == sse::publish_error::id_order);
  const std::string bytes = encoded_shared(3);
  CHECK_FALSE(s.publish(0, {.data = bytes}, {.id = 3, .encoded = true, .last = true}));
  CHECK(s.head() == 0);
  const sse::publish_result now = s.publish(0, {.data = "now"}, {.transient = true});
  CHECK(now);
  CHECK(now.id == sse::no_id);
  REQUIRE(put_given(s, 3).id == 3);
  CHECK(put_given(s, 3).error == sse::publish_error::id_order);
  one.turn();
  CHECK(one.take(k) == frame(0, "", "now") + encoded_shared(3));
}

#if TEST_ALLOCATIONS
TEST_CASE("a shard whose memory is out tells each channel of a loss once", "[shards]") {
  std::uint64_t n = 0;
  for (bool hit = true; hit; ++n) {
    CAPTURE(n);
    REQUIRE(n < 100);
    sse::sequencer s{{.channels = {"a", "b", "c"}, .given_ids = true}};
    shard_host one{s};
    REQUIRE(put_given(s, 5).id == 5);
    one.turn();
    REQUIRE(s.lose(10, 4, true).id == 9);
    {
      const test::failing_allocations none{n};
      one.shard->turn({});
      hit = none.hit();
    }
    one.turn();
    const auto k = one.resume(5);
    one.turn();
    const std::string gap = test::gap_frame(9, 5, 10, 4);
    CHECK(one.take(k) == gap + gap + gap);
  }
  CHECK(n > 1);
}
#endif

TEST_CASE("a backfill that waits is asked again in its hub's thread once the order has more") {
  bool there = false;
  int asked = 0;
  sse::sequencer s{{.channel =
                        [&](std::string_view) {
                          sse::channel_options o;
                          o.backfill = [&](const sse::backfill_request&, sse::backfill_writer& w) {
                            ++asked;
                            if (!there) return sse::backfill_state::wait;
                            REQUIRE(w.add_encoded(3, encoded_shared(3)));
                            return sse::backfill_state::done;
                          };
                          return o;
                        },
                    .first_id = 10,
                    .given_ids = true}};
  shard_host one{s};
  const auto k = one.resume(2);
  one.turn();
  REQUIRE(put_given(s, 11).id == 11);
  one.turn();
  CHECK(one.take(k).empty());
  const int before = asked;
  one.turn();
  CHECK(asked == before);  // nobody is asked in vain
  there = true;
  REQUIRE(one.shard->prepare_sleep());
  s.backfill_ready();
  CHECK_FALSE(one.shard->prepare_sleep());  // it woke the loop
  one.turn();
  CHECK(one.take(k) == encoded_shared(3) + encoded_shared(11));
}

TEST_CASE("a client that is ahead of its order is refused, and never told of a gap") {
  const bool retries = GENERATE(false, true);
  sse::sequencer s{
      {.given_ids = true, .wait_ahead = sse::duration::seconds(2), .retry_ahead = retries}};
  shard_host one{s};
  REQUIRE(put_given(s, 5).id == 5);
  const auto early = one.resume(6);
  if (retries) {
    one.turn();
    CHECK(one.take(early).starts_with("retry: "));
    CHECK(one.closed(early));
  } else {
    CHECK(early.refusal.status == 503);
    CHECK(early.refusal.body == R"({"error":"behind"})");
  }
  CHECK(one.shard->hub().stats().refused == 1);
  REQUIRE(put_given(s, 6).id == 6);
  REQUIRE(put_given(s, 7).id == 7);
  const auto k = one.resume(6);
  one.turn();
  CHECK(one.take(k) == encoded_shared(7));
}

namespace {

/// Events with these ids on channel 0.
struct given_events final : sse::detail::ordered_events {
  std::vector<std::uint64_t> ids;
  std::size_t bytes;
  std::vector<std::string> frames{};

  given_events(std::vector<std::uint64_t> all_ids, std::size_t size)
      : ids{std::move(all_ids)}, bytes{size} {
    for (const std::uint64_t id : ids) frames.push_back(encoded_shared(id));
  }
  sum all() const noexcept override { return {ids.size(), bytes, ids.back()}; }
  bool next(place& at, sse::mail& out) const noexcept override {
    if (at.event == ids.size()) return false;
    out.event.data = frames[at.event];
    out.options = {.id = ids[at.event], .encoded = true};
    ++at.event;
    return true;
  }
};

}  // namespace

TEST_CASE("shards read what is handed on where it lies, each at its own pace", "[shards]") {
  sse::sequencer s{{.lane_bytes = 1024, .given_ids = true}};
  const given_events first{{1, 2, 5}, 600};
  const given_events second{{6, 7}, 500};
  std::uint64_t one_number = 0;
  std::uint64_t two_number = 0;
  CHECK(s.hand_on(first, one_number) == sse::publish_error::closed);  // nobody is there
  shard_host one{s};
  auto two = std::make_unique<shard_host>(s);
  const auto k = one.join();
  REQUIRE(s.hand_on(first, one_number) == sse::publish_error::none);
  CHECK(s.head() == 5);
  CHECK(s.hand_on(first, two_number) == sse::publish_error::id_order);
  CHECK(two_number == 0);
  CHECK(s.is_taken(two_number));
  one.turn();
  CHECK(one.take(k) == encoded_shared(1) + encoded_shared(2) + encoded_shared(5));
  // The other one is behind by more than there may be: nobody gets more.
  CHECK_FALSE(s.is_taken(one_number));
  CHECK(s.hand_on(second, two_number) == sse::publish_error::full);
  one.turn();
  CHECK(one.take(k).empty());
  CHECK(s.head() == 5);
  two->turn();
  CHECK(s.is_taken(one_number));
  REQUIRE(s.hand_on(second, two_number) == sse::publish_error::none);
  one.turn();
  CHECK_FALSE(s.is_taken(two_number));
  two.reset();  // it reads no more
  CHECK(s.is_taken(two_number));
  CHECK(one.take(k) == encoded_shared(6) + encoded_shared(7));
  REQUIRE(put_given(s, 8).id == 8);  // between them others keep their order
  one.turn();
  CHECK(one.take(k) == encoded_shared(8));
  const sse::mail_counts n = s.counts();
  CHECK(n.accepted == 6);
  CHECK(n.full == 2);
  CHECK(n.closed == 3);
  const given_events third{{9}, 600};
  REQUIRE(s.hand_on(third, one_number) == sse::publish_error::none);
  one.turn();
  CHECK(one.take(k) == encoded_shared(9));
  CHECK(s.is_taken(one_number));
  s.drain();
  const given_events fourth{{10}, 100};
  CHECK(s.hand_on(fourth, two_number) == sse::publish_error::closed);
}

#if TEST_ALLOCATIONS
TEST_CASE("a shard whose memory is out goes on in the middle of what was handed on", "[shards]") {
  sse::sequencer s{{.lane_bytes = 1 << 20, .given_ids = true}};
  shard_host one{s};
  std::vector<std::uint64_t> ids;
  for (std::uint64_t id = 1; id <= 3000; ++id) ids.push_back(id);
  const given_events all{std::move(ids), 1 << 19};
  std::uint64_t number = 0;
  REQUIRE(s.hand_on(all, number) == sse::publish_error::none);
  {
    const test::failing_allocations none{6};
    one.shard->turn({});
    CHECK(none.hit());
  }
  CHECK_FALSE(s.is_taken(number));
  CHECK_FALSE(one.at_rest(3000));
  const std::uint64_t had = one.shard->at(0).last_id();
  CHECK(had != 0);
  const auto k = one.resume(had);
  one.turn();
  CHECK(s.is_taken(number));
  std::string rest;
  for (std::uint64_t id = had + 1; id <= 3000; ++id) rest += encoded_shared(id);
  CHECK(one.take(k) == rest);
}
#endif
