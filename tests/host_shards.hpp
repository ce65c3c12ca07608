// Several servers on one port, as shards of one sequencer: what must hold for any host. `Server`:
// test::server<> or a test::loop_server; `Loop`: see held_server.hpp.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sse/server.hpp>
#include <sse/shards.hpp>

#include "catch.hpp"
#include "held_server.hpp"
#include "http_client.hpp"

namespace test {

/// Servers on one port, a thread each.
template <class Server>
struct shard_cluster {
  explicit shard_cluster(std::size_t n, sse::server_options o = {}, sse::sequencer_options q = {})
      : ticks{std::move(q)} {
    o.reuse_port = true;
    o.shards = &ticks;
    for (std::size_t i = 0; i < n; ++i) {
      shards.push_back(std::make_unique<Server>(o, i == 0 ? 0 : shards[0]->port()));
      Server& s = *shards.back();
      s.on_loop([&] { s->stream("/events", s->hub().find_channel("events")); });
    }
  }
  [[nodiscard]] std::uint16_t port() const { return shards[0]->port(); }
  [[nodiscard]] std::vector<std::size_t> sessions() {
    std::vector<std::size_t> n;
    for (auto& s : shards) n.push_back(s->sessions());
    return n;
  }

  sse::sequencer ticks;
  std::vector<std::unique_ptr<Server>> shards;
};

/// Events first..last and no others.
inline bool gets(client& c, std::uint64_t first, std::uint64_t last) {
  for (; first <= last; ++first) {
    std::string f = c.frame();
    while (f.starts_with(":")) f = c.frame();  // a heartbeat, if all this takes that long
    if (id_of(f) != first || client::field(f, "data: ") != std::to_string(first)) return false;
  }
  return true;
}

inline void publish_numbers(sse::sequencer& s, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n;) {
    const sse::publish_result r = s.publish(0, {.data = std::to_string(s.head() + 1)});
    if (r) ++i;
    if (r.error == sse::publish_error::full) {
      std::this_thread::yield();
    } else if (!r) {
      throw std::runtime_error(std::string{to_string(r.error)});
    }
  }
}

template <class Server>
void clients_over_two_shards(bool busy) {
  shard_cluster<Server> c{
      2, {.hub = {.caps = {.per_address = {.max = 0}}}, .busy_poll = busy}, {.lane_bytes = 16384}};
  std::vector<client> all;
  for (int i = 0; i < 100; ++i) {
    all.emplace_back(c.port());
    REQUIRE(all.back().open("/events", last_id(0)).status == 200);
  }
  for (const std::size_t n : c.sessions()) {
    CAPTURE(n);
    CHECK(n > 0);
    CHECK(n < 100);
  }
  publish_numbers(c.ticks, 200);
  for (client& k : all) CHECK(gets(k, 1, 200));

  // Each goes and comes back in the middle of it, to whichever shard the system picks.
  std::thread engine{[&] { publish_numbers(c.ticks, 600); }};
  for (client& k : all) {
    CHECK(gets(k, 201, 210));
    k = client{c.port()};
    REQUIRE(k.open("/events", last_id(210)).status == 200);
  }
  for (client& k : all) CHECK(gets(k, 211, 800));
  engine.join();
  REQUIRE(c.shards[0]->eventually([&] {
    const sse::hub_stats s = c.ticks.stats();
    return s.sessions == 100 && s.accepted == 200;
  }));
  CHECK(c.ticks.all_channel_stats()[0].gaps == 0);
}

template <class Server>
void a_client_ahead_of_its_shard() {
  // Each client goes on to another shard with an id that was published a moment ago.
  shard_cluster<Server> c{3, {.hub = {.caps = {.per_address = {.max = 0}}}}};
  client k{c.port()};
  REQUIRE(k.open("/events").status == 200);
  for (std::uint64_t i = 1; i <= 300; ++i) {
    publish_numbers(c.ticks, 1);
    REQUIRE(gets(k, i, i));
    k = client{c.port()};
    REQUIRE(k.open("/events", last_id(i)).status == 200);
  }
  CHECK(c.ticks.all_channel_stats()[0].gaps == 0);
  client bogus{c.port()};
  REQUIRE(bogus.open("/events", last_id(301)).status == 200);
  CHECK(client::field(bogus.frame(), "event: ") == "gap");
}

template <class Server>
void a_cap_over_all_shards() {
  shard_cluster<Server> c{2, {.hub = {.caps = {.per_address = {.max = 20}}}}};
  std::vector<client> all;
  for (int i = 0; i < 20; ++i) {
    all.emplace_back(c.port());
    REQUIRE(all.back().open("/events").status == 200);
  }
  for (int i = 0; i < 20; ++i) CHECK(client{c.port()}.get("/events").status == 429);
  all.clear();
  REQUIRE(c.shards[0]->eventually(
      [&] { return c.ticks.caps().count(sse::cap_counter::kind::address, "127.0.0.1") == 0; }));
  CHECK(client{c.port()}.open("/events").status == 200);
}

/// What a sequencer takes gets to the clients of each server, also above what mail of others may
/// have.
template <class Server>
void events_as_large_as_the_sequencer_takes() {
  constexpr std::size_t size = std::size_t{3} << 20;
  sse::sequencer_options q;
  q.lane_bytes = 4 * size;
  q.limits.event = size + 100;
  q.channel = [](std::string_view) {
    sse::channel_options o;
    o.max_lag = 2 * size;
    return o;
  };
  shard_cluster<Server> c{1, {}, std::move(q)};
  client k{c.port()};
  REQUIRE(k.open("/events").status == 200);
  REQUIRE(c.ticks.publish(0, {.data = std::string(size, 'x')}));
  CHECK(k.data() == std::string(size, 'x'));
  CHECK(c.ticks.publish(0, {.data = std::string(size + 100, 'x')}).error ==
        sse::publish_error::too_large);
}

template <class Server>
void one_drain_of_all_shards() {
  shard_cluster<Server> c{3, {.hub = {.caps = {.per_address = {.max = 0}}}}};
  std::vector<client> all;
  for (int i = 0; i < 30; ++i) {
    all.emplace_back(c.port());
    REQUIRE(all.back().open("/events").status == 200);
  }
  std::thread engine{[&] { publish_numbers(c.ticks, 100); }};
  engine.join();
  c.ticks.drain({.farewell = {.type = "bye"}});
  CHECK(c.ticks.publish(0, {.data = "late"}).error == sse::publish_error::closed);
  for (client& k : all) {
    CHECK(gets(k, 1, 100));
    const std::string rest = k.rest();
    CHECK(rest.find("retry: ") != std::string::npos);
    CHECK(rest.ends_with("event: bye\ndata: \n\n"));
  }
  for (auto& s : c.shards) {
    REQUIRE(s->eventually([&] { return (*s)->connections() == 0; }));
  }
  CHECK(c.ticks.stats().sessions == 0);
  CHECK(c.ticks.all_channel_stats()[0].subscribers == 0);
}

/// Without a drain, and with streams that nobody closed.
template <class Server>
void shards_that_stop_count_nobody() {
  shard_cluster<Server> c{2};
  std::vector<client> all;
  for (int i = 0; i < 4; ++i) {
    all.emplace_back(c.port());
    REQUIRE(all.back().open("/events").status == 200);
  }
  const auto sums_up_to = [&](std::size_t n) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (c.ticks.stats().sessions != n && std::chrono::steady_clock::now() < end) {
      std::this_thread::yield();
    }
    return c.ticks.stats().sessions == n;
  };
  CHECK(sums_up_to(4));
  for (auto& s : c.shards) s->on_loop([&] { (*s)->stop(); });
  CHECK(sums_up_to(0));
  CHECK(c.ticks.all_channel_stats()[0].subscribers == 0);
}

/// Its hub gets event `id`, encoded elsewhere.
inline void bring(sse::sequencer& q, std::uint64_t id) {
  const std::string bytes = "id: " + std::to_string(id) + "\ndata: x\n\n";
  REQUIRE(q.publish(0, {.data = bytes}, {.id = id, .encoded = true}));
}

template <class Loop>
void a_client_ahead_waits() {
  const bool retries = GENERATE(false, true);
  using std::chrono::milliseconds;
  sse::sequencer q{{.given_ids = true, .wait_ahead = milliseconds{2000}, .retry_ahead = retries}};
  held_server<Loop> s{{.verdict_deadline = milliseconds{9000}, .shards = &q}};
  const sse::channel events = s->hub().find_channel("events");
  const bool later = GENERATE(false, true);  // the handler asks somebody else
  std::optional<sse::stream_responder<>> asked;
  if (later) {
    s->stream("/shared", [&](const sse::request&, sse::stream_responder<> to) {
      asked.emplace(std::move(to));
    });
  } else {
    s->stream("/shared", events);
  }
  const auto ask = [&](client& c, std::uint64_t id) {
    s.send(c, client::make("GET", "/shared", last_id(id)));
  };
  const auto admit = [&] {
    REQUIRE(asked.has_value() == later);
    if (later) (*std::exchange(asked, {}))(sse::admit().join(events));
  };
  bring(q, 5);
  client early{s.port()};
  client far{s.port()};
  client gone{s.port()};
  ask(early, 6);
  ask(far, 7);
  ask(gone, 7);
  s.pass(1999);
  CHECK_FALSE(asked);
  CHECK_FALSE(early.has_input());
  CHECK_FALSE(far.has_input());
  gone = client{s.port()};
  bring(q, 6);  // one of them is there
  REQUIRE(s.until([&] { return later ? asked.has_value() : early.has_input(); }));
  admit();
  REQUIRE(s.until([&] { return early.has_input(); }));
  CHECK(early.head().status == 200);
  s.pass(0);
  CHECK_FALSE(far.has_input());
  s.pass(1);  // the other has waited as long as it may
  if (later) {
    REQUIRE(s.until([&] { return asked.has_value(); }));
    admit();
  }
  REQUIRE(s.until([&] { return far.has_input(); }));
  if (retries) {
    CHECK(far.head().status == 200);
    CHECK(s.read(far, 7).starts_with("retry: "));
  } else {
    const answer no = far.whole_answer();
    CHECK(no.status == 503);
    CHECK(no.head.find("Retry-After: ") != std::string::npos);
    CHECK(no.body == R"({"error":"behind"})");
  }
  CHECK(s->hub().stats().refused_by[static_cast<std::size_t>(sse::refusal_reason::behind)] == 1);
  bring(q, 7);
  CHECK(s.read(early, 1).starts_with("id: 7\n"));
  client on_time{s.port()};
  ask(on_time, 7);
  if (later) {
    REQUIRE(s.until([&] { return asked.has_value(); }));
    admit();
  }
  REQUIRE(s.until([&] { return on_time.has_input(); }));
  CHECK(on_time.head().status == 200);
}

}  // namespace test
