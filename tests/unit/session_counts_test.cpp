// What became of a channel's events for one stream (hub.session_stats).
#include <cstdint>
#include <string>
#include <string_view>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using test::caller;
using test::stage;

sse::hub_options counting() { return {.session_stats = true}; }

void publish_many(sse::channel c, int n, const sse::publish_options& o = {}) {
  for (int i = 0; i < n; ++i) REQUIRE(c.publish({.data = "x"}, o));
}

}  // namespace

TEST_CASE("session counts: each channel of a stream by itself, replays and transients too",
          "[counts]") {
  stage s{counting()};
  sse::channel a = s.open("a", test::quiet());
  sse::channel b = s.open("b", test::quiet());
  publish_many(a, 3);
  const caller k = s.join({.last_event_id = "1"}, {a, b});
  const caller other = s.join(b);
  s.flush();
  CHECK(s.hub.session_stats(k.id, a).delivered == 2);
  publish_many(b, 4);
  publish_many(a, 5, {.transient = true});
  publish_many(a, 1, {.audience = "somebody else"});
  s.flush();
  publish_many(a, 1);
  s.flush();
  CHECK(s.hub.session_stats(k.id, a).delivered == 8);
  CHECK(s.hub.session_stats(k.id, b).delivered == 4);
  CHECK(s.hub.session_stats(k.id).delivered == 12);
  CHECK(s.hub.session_stats(k.id).lost == 0);
  CHECK(s.hub.session_stats(other.id, a).delivered == 0);
  CHECK(s.hub.session_stats(other.id).delivered == 4);
  CHECK(s.hub.session_stats(sse::session_id{}).delivered == 0);
  CHECK(s.hub.session_stats(k.id, sse::channel{}).delivered == 0);
  s.hub.leave(k.id, a);
  s.flush();
  CHECK(s.hub.session_stats(k.id).delivered == 4);
}

TEST_CASE("session counts: a heartbeat is no event, an event that is half sent is not counted",
          "[counts]") {
  stage s{counting()};
  sse::channel_options o;
  o.heartbeat = {.mode = sse::heartbeat_options::pace::fixed, .every = sse::duration::seconds(1)};
  sse::channel c = s.open("a", o);
  const caller k = s.join(c);
  s.flush();
  s.hub.tick(sse::time_point::milliseconds(3000));
  s.flush();
  CHECK_FALSE(s.take(k).empty());
  CHECK(s.hub.session_stats(k.id).delivered == 0);
  s.peer(k).window = 3;
  publish_many(c, 1);
  s.flush();
  CHECK(s.hub.session_stats(k.id).delivered == 0);
  s.let(k, SIZE_MAX);
  s.flush();
  CHECK(s.hub.session_stats(k.id).delivered == 1);
}

TEST_CASE("session counts: what was skipped is lost, as the gap frame says", "[counts][lag]") {
  stage s{counting()};
  sse::channel_options o = test::quiet(2);
  o.on_lag = sse::lag_policy::tail;
  o.max_lag = 100;
  sse::channel c = s.open("a", o);
  const caller slow = s.join(c);
  const caller quick = s.join(c);
  s.flush();
  s.peer(slow).window = 0;
  for (int i = 0; i < 50; ++i) {
    publish_many(c, 1);
    s.flush();
  }
  s.let(slow, SIZE_MAX);
  publish_many(c, 1);
  s.flush();
  const sse::session_counts of_slow = s.hub.session_stats(slow.id, c);
  CHECK(of_slow.lost > 10);
  CHECK(of_slow.lost == c.stats().dropped);
  CHECK(of_slow.delivered + of_slow.lost == 51);
  CHECK(s.hub.session_stats(quick.id, c).delivered == 51);
}

TEST_CASE("session counts: values that were there before it came are told apart",
          "[counts][keyed]") {
  stage s{counting()};
  sse::channel_options o = test::quiet();
  o.on_lag = sse::lag_policy::coalesce;
  o.start = sse::start_at::snapshot;
  sse::channel c = s.open("board", o);
  for (const char* key : {"a", "b", "c"}) publish_many(c, 1, {.key = key});
  const caller k = s.join(c);
  s.flush();
  publish_many(c, 2, {.key = "a"});
  s.flush();
  const sse::session_counts n = s.hub.session_stats(k.id, c);
  CHECK(n.snapshot == 3);
  CHECK(n.delivered + n.conflated == 2);
}

TEST_CASE("session counts: off unless the hub is told", "[counts]") {
  stage s;
  sse::channel c = s.open("a", test::quiet());
  const caller k = s.join(c);
  publish_many(c, 3);
  s.flush();
  CHECK(c.stats().delivered == 3);
  CHECK(s.hub.session_stats(k.id, c).delivered == 0);
}
