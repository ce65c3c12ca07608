// How long events wait from their publish until the transport has them (channel_options::latency).
#include <cstdint>
#include <string>

#include <sse/metrics.hpp>
#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using test::caller;
using test::stage;

sse::channel_options timed() {
  sse::channel_options o = test::quiet();
  o.latency = true;
  return o;
}
void at(stage& s, std::int64_t ms) { s.hub.tick(sse::time_point::milliseconds(ms)); }
void put_one(sse::channel c, const sse::publish_options& o = {}) {
  REQUIRE(c.publish({.data = "x"}, o));
}
sse::latency_counts of(sse::channel c) { return c.stats().latency; }

}  // namespace

TEST_CASE("latency: buckets by their bounds", "[latency]") {
  sse::latency_counts n;
  for (const std::int64_t ms : {-5, 0, 1, 2, 3, 10'000, 10'001}) n.add(ms);
  CHECK(n.in[0] == 2);
  CHECK(n.in[1] == 1);
  CHECK(n.in[2] == 1);
  CHECK(n.in[3] == 1);
  CHECK(n.in[13] == 1);
  CHECK(n.in[14] == 1);
  CHECK(n.events() == 7);
  CHECK(n.total_ms == 20'007);
  sse::latency_counts both = n;
  both.add(n);
  CHECK(both.events() == 14);
  CHECK(both.total_ms == 40'014);
}

TEST_CASE("latency: of each reader, from the publish to the write that has the whole event",
          "[latency]") {
  stage s;
  sse::channel c = s.open("a", timed());
  sse::channel other = s.open("b", test::quiet());
  at(s, 1000);
  const caller quick = s.join(c);
  const caller slow = s.join({}, {c, other});
  s.flush();
  s.peer(slow).window = 5;
  put_one(c);
  put_one(other);
  at(s, 1003);
  s.flush();
  CHECK(of(c).events() == 1);
  CHECK(of(c).total_ms == 3);
  at(s, 1250);
  s.let(slow, SIZE_MAX);
  s.flush();
  CHECK(of(c).events() == 2);
  CHECK(of(c).total_ms == 253);
  CHECK(of(c).in[3] == 1);
  CHECK(of(c).in[9] == 1);
  put_one(c, {.transient = true});
  s.flush();
  CHECK(of(c).events() == 4);
  CHECK(of(c).in[0] == 2);
  CHECK(of(other).events() == 0);  // off
}

TEST_CASE("latency: a replay and a snapshot are not late", "[latency][resume]") {
  stage s;
  sse::channel_options o = timed();
  o.on_lag = sse::lag_policy::coalesce;
  o.start = sse::start_at::snapshot;
  sse::channel c = s.open("a", o);
  sse::channel plain = s.open("b", timed());
  at(s, 1000);
  put_one(c, {.key = "k"});
  put_one(plain);
  put_one(plain);
  at(s, 90'000);
  const caller back = s.join(plain, {.last_event_id = "2"});
  const caller fresh = s.join(c);
  s.flush();
  CHECK(of(c).events() == 0);
  CHECK(of(plain).events() == 0);
  put_one(c, {.key = "k"});
  put_one(c);
  put_one(plain);
  at(s, 90'007);
  s.flush();
  CHECK(of(c).events() == 2);
  CHECK(of(c).total_ms == 14);
  CHECK(of(plain).total_ms == 7);
  CHECK_FALSE(s.take(back).empty());
  CHECK_FALSE(s.take(fresh).empty());
}

TEST_CASE("latency: a conflated value is as old as its own publish", "[latency][keyed]") {
  stage s;
  sse::channel_options o = timed();
  o.on_lag = sse::lag_policy::coalesce;
  sse::channel c = s.open("a", o);
  const caller k = s.join(c);
  at(s, 1000);
  s.flush();
  s.peer(k).window = 0;
  put_one(c, {.key = "k"});
  s.flush();
  at(s, 2000);
  put_one(c, {.key = "k"});
  put_one(c);
  s.flush();
  at(s, 2004);
  s.let(k, SIZE_MAX);
  s.flush();
  CHECK(of(c).events() == 2);
  CHECK(of(c).total_ms == 8);
}

TEST_CASE("latency: what a channel counted stays counted when it is closed", "[latency]") {
  stage s;
  sse::channel_options o = timed();
  o.metrics_name = "jobs";
  sse::channel c = s.open("job 1", o);
  const caller k = s.join(c);
  put_one(c);
  s.flush();
  REQUIRE(of(c).events() == 1);
  REQUIRE(s.hub.close_channel(c));
  sse::latency_counts all;
  s.hub.each_channel_stats([&](const sse::channel_stats& n) { all.add(n.latency); });
  CHECK(all.events() == 1);
  CHECK_FALSE(s.take(k).empty());
}

TEST_CASE("latency: the metrics page has a histogram of it, where there is one", "[latency]") {
  stage s;
  sse::channel c = s.open("a", timed());
  sse::channel off = s.open("off", test::quiet());
  const caller k = s.join({}, {c, off});
  at(s, 1000);
  put_one(c);
  put_one(off);
  at(s, 1004);
  s.flush();
  put_one(c);
  s.flush();
  sse::metrics_page page;
  page.add(s.hub);
  const std::string text = page.text();
  const std::string name = "sse_channel_publish_to_write_milliseconds";
  std::string samples;
  for (const std::int64_t bound : sse::latency_counts::bounds) {
    samples += name + "_bucket{channel=\"a\",le=\"" + std::to_string(bound) +
               (bound < 4 ? "\"} 1\n" : "\"} 2\n");
  }
  samples += name + "_bucket{channel=\"a\",le=\"+Inf\"} 2\n" + name + "_sum{channel=\"a\"} 4\n" +
             name + "_count{channel=\"a\"} 2\n";
  CHECK(text.find("# TYPE " + name + " histogram\n" + samples) != std::string::npos);
  CHECK(text.find(name + "_count{channel=\"off\"}") == std::string::npos);
  CHECK_FALSE(s.take(k).empty());
}
