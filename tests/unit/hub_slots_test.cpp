// Slots never leak, wherever a stream is cut.
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "caps_stage.hpp"
#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::duration;
using sse::when_full;
using test::completion_stage;
using test::quiet;
using test::stage;
using test::with_caps;

}  // namespace

// --- slots never leak ---

namespace {

/// 10,000 connects and aborts at one stage of a stream's life, five at a time.
template <class Stage, class Before, class Abort>
void connect_and_abort(Before before, Abort abort) {
  sse::hub_options o;
  o.caps = {.total = {.max = 10}, .per_user = {.max = 5}, .per_address = {.max = 5}};
  o.opening = "hi";
  Stage s{o};
  sse::channel_options fast = quiet();
  fast.heartbeat = {.every = duration::seconds(1)};
  fast.max_subscribers = 5;
  sse::channel c = s.open("c", std::move(fast));
  sse::channel d = s.open("d", quiet());
  s.put_many(c, 20);
  const auto open_one = [&](std::size_t window) {
    return s.join({.key = "ann",
                   .last_event_id = "10",
                   .address = "10.0.0.1",
                   .preamble = "HEAD\r\n\r\n",
                   .window = window},
                  {c, d});
  };
  std::uint32_t highest = 0;
  std::size_t refused = 0;
  std::int64_t now = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<test::caller> some;
    for (std::size_t i = 0; i < 5; ++i) {
      some.push_back(open_one(before(static_cast<std::size_t>(round))));
      if (!some.back()) ++refused;
      if (some.back().id.slot > highest) highest = some.back().id.slot;
    }
    if (open_one(0)) ++refused;  // the cap holds
    for (auto& k : some) abort(s, c, k, now);
    s.flush();
  }
  CHECK(refused == 0);
  CHECK(s.hub.sessions() == 0);
  CHECK(s.hub.user_sessions("ann") == 0);
  CHECK(c.subscribers() == 0);
  CHECK(d.subscribers() == 0);
  CHECK(highest < 64);  // slots are used again
  const sse::hub_stats stats = s.hub.stats();
  CHECK(stats.accepted == 10'000);
  std::uint64_t closed = 0;
  for (const std::uint64_t n : stats.closed) closed += n;
  CHECK(closed == stats.accepted);
  CHECK(stats.log_bytes < 20 * 65536);
  CHECK(c.stats().backlog_bytes == 0);
  CHECK(s.hub.next_deadline() == sse::time_point::never());
  s.hub.drain();
  CHECK(s.hub.drained());  // no slot waits for anything
}

}  // namespace

TEST_CASE("X-10 10000 connects and aborts before the head is out", "[admission][slots]") {
  connect_and_abort<stage>(
      [](std::size_t i) { return i % 8; },
      [](stage& s, sse::channel, const test::caller& k, std::int64_t&) { s.hub.closed(k.id); });
}

TEST_CASE("X-10 10000 connects and aborts during the replay, found by the host or by a write",
          "[admission][slots]") {
  connect_and_abort<stage>([](std::size_t i) { return 14 + i % 200; },
                           [](stage& s, sse::channel, const test::caller& k, std::int64_t&) {
                             if (k.id.slot % 2 == 0) return s.hub.closed(k.id);
                             s.peer(k).fails = true;
                             s.peer(k).window = SIZE_MAX;
                             s.hub.writable(k.id);
                             s.flush();
                             if (!s.closed(k)) s.hub.closed(k.id);
                           });
}

TEST_CASE("X-10 10000 connects and aborts in the middle of an event", "[admission][slots]") {
  connect_and_abort<stage>([](std::size_t) { return SIZE_MAX; },
                           [](stage& s, sse::channel c, const test::caller& k, std::int64_t&) {
                             s.peer(k).window = 9;
                             s.put(c);
                             s.flush();
                             s.peer(k).fails = true;
                             s.hub.writable(k.id);
                             s.flush();
                           });
}

TEST_CASE("X-10 10000 connects and aborts during a heartbeat", "[admission][slots]") {
  connect_and_abort<stage>([](std::size_t) { return SIZE_MAX; },
                           [](stage& s, sse::channel, const test::caller& k, std::int64_t& now) {
                             s.peer(k).window = 5;
                             now += 1000;
                             s.at(now);
                             if (k.id.slot % 2 == 0) {
                               s.hub.closed(k.id);
                             } else {
                               now += 10'000;
                               s.at(now);  // the write deadline
                             }
                             s.hub.closed(k.id);
                           });
}

TEST_CASE("X-10 10000 connects and aborts while a write is pending",
          "[admission][slots][completion]") {
  connect_and_abort<completion_stage>(
      [](std::size_t) { return SIZE_MAX; },
      [](completion_stage& s, sse::channel, const test::caller& k, std::int64_t&) {
        s.hub.closed(k.id);
        s.hub.written(k.id, s.net.complete(k.peer, k.id.slot % 30));
      });
}

TEST_CASE("X-10 10000 retry streams and refusals leave nothing", "[admission][slots]") {
  stage s{
      with_caps({.total = {.max = 1, .then = when_full::retry_stream}, .per_user = {.max = 1}})};
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c);
  for (int i = 0; i < 10'000; ++i) {
    const std::string key = std::to_string(i);
    const auto r = s.join(c, {.key = key, .query = i % 2 == 0 ? "" : "last_id=x", .address = key});
    if (r && r.id.slot > 1) FAIL("slot " << r.id.slot);
  }
  CHECK(s.hub.sessions() == 1);
  s.hub.closed(k.id);
  s.hub.drain();
  CHECK(s.hub.drained());
  const sse::hub_stats stats = s.hub.stats();
  CHECK(stats.accepted == 1);
  CHECK(stats.refused == 10'000);
  std::uint64_t closed = 0;
  for (const std::uint64_t n : stats.closed) closed += n;
  CHECK(closed == 1);  // of the streams that were accepted
}
