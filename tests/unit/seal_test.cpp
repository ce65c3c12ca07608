// hub.seal: streams that end. The log is complete, everybody gets the rest and a clean end.
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::close_reason;
using sse::publish_error;
using sse::start_at;
using test::completion_stage;
using test::frames;
using test::gap_frame;
using test::quiet;
using test::stage;

/// For a job, a build, an answer: who comes late gets it from its beginning.
sse::channel_options job(std::uint64_t keep = 1000) {
  sse::channel_options o = quiet(keep);
  o.start = start_at::all;
  return o;
}

test::ask behind(sse::event_id id) { return {.last_event_id = std::to_string(id)}; }

std::string last_chunk() { return "0\r\n\r\n"; }

}  // namespace

TEST_CASE("a sealed channel: its readers get the rest and a clean end", "[seal][surface]") {
  stage s;
  std::vector<close_reason> ends;
  s.hub.on_closed([&](sse::session_id, const sse::no_user&, close_reason r) { ends.push_back(r); });
  sse::channel c = s.open("job", job());
  const test::caller live = s.join(c);
  s.put_many(c, 2);
  s.flush();
  CHECK(s.take(live) == frames(1, 2));
  s.put(c);
  CHECK_FALSE(c.sealed());
  s.hub.seal(c);
  CHECK(c.sealed());
  CHECK(c.publish({.data = "late"}).error == publish_error::sealed);
  CHECK(c.publish({.data = "late"}, {.transient = true}).error == publish_error::sealed);
  CHECK_FALSE(s.closed(live));
  s.flush();
  CHECK(s.take(live) == frames(3, 3));  // and no `retry:`
  CHECK(s.closed(live));
  CHECK(ends == std::vector{close_reason::finished});
  s.hub.seal(c);  // once more is nothing
  CHECK(s.hub.stats().sessions == 0);
}

TEST_CASE("a transport's goodbye comes before a clean end, and may wait for room", "[seal]") {
  struct polite : sse::testing::memory_transport {
    int asked = 0;
    sse::flow answer = sse::flow::ready;
    sse::flow end(connection& c) noexcept {
      ++asked;
      CHECK_FALSE(at(c.index).is_closed);
      return answer;
    }
  };
  test::basic_stage<polite> s{{.write_deadline = sse::duration::seconds(5)}};
  sse::channel c = s.open("job", job());
  const test::caller live = s.join(c);
  const test::caller slow = s.join(c, {.window = 0});
  const test::caller gone = s.join(c);
  s.put(c);
  s.flush();
  s.hub.close(gone.id);
  CHECK(s.net.asked == 0);  // that was no clean end
  s.hub.seal(c);
  SECTION("said at once") {
    s.flush();
    CHECK(s.net.asked == 1);
    CHECK(s.closed(live));
    CHECK_FALSE(s.closed(slow));
    s.let(slow);
    CHECK(s.net.asked == 2);
    CHECK(s.take(slow) == frames(1, 1));
    CHECK(s.closed(slow));
  }
  SECTION("said when there is room") {
    s.net.answer = sse::flow::blocked;
    s.flush();
    s.at(4000);
    CHECK(s.net.asked == 1);
    CHECK_FALSE(s.closed(live));
    s.net.answer = sse::flow::ready;
    s.let(live);
    CHECK(s.net.asked == 2);
    CHECK(s.closed(live));
    CHECK(s.peer(live).why == close_reason::finished);
  }
  SECTION("never: the write deadline ends it") {
    s.net.answer = sse::flow::blocked;
    s.flush();
    s.at(4999);
    CHECK_FALSE(s.closed(live));
    s.at(5000);
    CHECK(s.closed(live));
    CHECK(s.peer(live).why == close_reason::stalled);
  }
}

TEST_CASE("a sealed channel: who comes late gets it all, or the rest, and the end",
          "[seal][surface]") {
  stage s;
  sse::channel c = s.open("job", job());
  s.put_many(c, 5);
  s.hub.seal(c);
  for (const sse::event_id id : std::initializer_list<sse::event_id>{0, 1, 4}) {
    CAPTURE(id);
    const test::caller late = s.join(c, behind(id));
    REQUIRE(late);
    s.flush();
    CHECK(s.take(late) == frames(id + 1, 5));
    CHECK(s.closed(late));
  }
  const test::caller fresh = s.join(c);
  REQUIRE(fresh);
  s.flush();
  CHECK(s.take(fresh) == frames(1, 5));
  CHECK(s.closed(fresh));
}

TEST_CASE("a sealed channel: who has everything is told 204, and stays away", "[seal][surface]") {
  stage s;
  sse::channel c = s.open("job", job());
  s.put_many(c, 5);
  s.hub.seal(c);
  const test::caller back = s.join(c, behind(5));
  CHECK_FALSE(back);
  CHECK(back.refusal.status == 204);
  CHECK(back.refusal.body.empty());
  CHECK(s.hub.stats().refused == 0);

  SECTION("one that is ahead is told so first") {
    const test::caller ahead = s.join(c, behind(9));
    REQUIRE(ahead);
    s.flush();
    CHECK(s.take(ahead) == gap_frame(5, 9, 6, -1));
    CHECK(s.closed(ahead));
  }
  SECTION("one that would begin with what is to come") {
    sse::channel live = s.open("live", quiet());
    s.put(live);
    s.hub.seal(live);
    CHECK(s.join(live).refusal.status == 204);
    CHECK(s.accept({}, sse::admit().join(live).backlog(1)));
    CHECK(s.accept({}, sse::admit().join(live).start(start_at::all)));
  }
  SECTION("an empty one") {
    sse::channel empty = s.open("empty", job());
    s.hub.seal(empty);
    CHECK(s.join(empty).refusal.status == 204);
  }
}

TEST_CASE("a sealed channel: what was let go is a gap, and the end", "[seal][surface]") {
  stage s;
  sse::channel_options o = job(2);
  o.own_sequence = true;
  o.first_id = 0;
  sse::channel c = s.open("job", std::move(o));
  s.put_many(c, 5);
  s.hub.seal(c);
  const test::caller late = s.join(c, behind(1));
  REQUIRE(late);
  s.flush();
  CHECK(s.take(late) == gap_frame(3, 1, 4, 2) + frames(4, 5));
  CHECK(s.closed(late));
}

TEST_CASE("a sealed channel: a slow reader gets the rest before its end", "[seal][surface]") {
  stage s;
  sse::channel c = s.open("job", job());
  const test::caller slow = s.join(c, {.window = 30});
  s.put_many(c, 8);
  s.flush();
  s.hub.seal(c);
  s.flush();
  CHECK_FALSE(s.closed(slow));
  s.let(slow, 40);
  CHECK_FALSE(s.closed(slow));
  s.let(slow);
  CHECK(s.take(slow) == frames(1, 8));
  CHECK(s.closed(slow));
}

TEST_CASE("a sealed channel: a reader that coalesces gets the newest values before its end",
          "[seal]") {
  for (const sse::lag_policy policy : {sse::lag_policy::coalesce, sse::lag_policy::tail}) {
    CAPTURE(static_cast<int>(policy));
    stage s;
    sse::channel_options o = quiet(1);
    o.max_lag = 100;
    o.on_lag = policy;
    sse::channel c = s.open("c", std::move(o));
    const test::caller k = s.join({.window = 5}, {c});
    for (int i = 0; i < 20; ++i)
      REQUIRE(c.publish({.type = "e", .data = "v"}, {.key = i % 2 == 0 ? "a" : "b"}));
    s.flush();
    CHECK(s.hub.seal(c));
    s.let(k);
    CHECK(s.take(k) ==
          test::frame(1, "e", "v") + (policy == sse::lag_policy::coalesce
                                          ? test::frame(0, "e", "v") + test::frame(0, "e", "v")
                                          : gap_frame(20, 1, 21, 19)));
    CHECK(s.closed(k));
  }
}

TEST_CASE("a sealed channel: a chunked stream ends with its last chunk", "[seal][surface]") {
  stage s;
  sse::channel c = s.open("job", job());
  const test::caller k = s.join(c, {.chunked = true});
  s.put_many(c, 3);
  s.hub.seal(c);
  s.flush();
  CHECK(s.take(k).ends_with("\r\n" + last_chunk()));
  CHECK(s.closed(k));
}

TEST_CASE("a sealed channel: a write that is pending is waited for", "[seal][surface]") {
  completion_stage s;
  sse::channel c = s.open("job", job());
  const test::caller k = s.join(c);
  s.put_many(c, 3);
  s.flush();
  s.put(c);
  s.hub.seal(c);
  s.flush();
  CHECK_FALSE(s.closed(k));
  for (int turns = 0; turns < 10 && !s.closed(k); ++turns) {
    s.hub.written(k.id, s.net.complete(k.peer));
    s.flush();
  }
  CHECK(s.take(k) == frames(1, 4));
  CHECK(s.closed(k));
}

TEST_CASE("a stream on several channels ends once all of them are sealed", "[seal][surface]") {
  stage s;
  sse::channel a = s.open("a", job());
  sse::channel b = s.open("b", job());
  const test::caller k = s.join({}, {a, b});
  s.put(a);
  s.hub.seal(a);
  s.flush();
  CHECK_FALSE(s.closed(k));
  s.put(b);
  s.flush();
  CHECK(s.take(k) == frames(1, 2));
  const test::caller late = s.join({}, {a, b});
  s.hub.seal(b);
  s.flush();
  CHECK(s.take(k).empty());
  CHECK(s.closed(k));
  CHECK(s.take(late) == frames(1, 2));
  CHECK(s.closed(late));
  CHECK(s.join(behind(2), {a, b}).refusal.status == 204);
  CHECK(s.join(behind(1), {a, b}));
}

TEST_CASE("the last event seals its channel", "[seal][surface]") {
  stage s;
  sse::channel c = s.open("job", job());
  const test::caller k = s.join(c);
  REQUIRE(c.publish({.type = "e", .data = "1"}, {.last = true}));
  CHECK(c.sealed());
  s.flush();
  CHECK(s.take(k) == frames(1, 1));
  CHECK(s.closed(k));

  sse::channel refused = s.open("refused", job());
  CHECK_FALSE(refused.publish({.type = "a\nb", .data = "1"}, {.last = true}));
  CHECK_FALSE(refused.sealed());
}

TEST_CASE("what others may see does not keep a reader of a sealed channel", "[seal][surface]") {
  stage s;
  sse::channel c = s.open("job", job());
  s.put(c);
  s.put(c, "2", "me");
  s.put(c, "3", "somebody else");
  s.hub.seal(c);
  const test::caller mine = s.join(c, {.key = "me", .last_event_id = "1"});
  REQUIRE(mine);
  s.flush();
  CHECK(s.take(mine) == frames(2, 2));
  CHECK(s.closed(mine));
  CHECK(s.join(c, {.key = "me", .last_event_id = "2"}).refusal.status == 204);
  CHECK(s.join(c, {.key = "another", .last_event_id = "1"}).refusal.status == 204);
  CHECK(s.join(c, behind(1)).refusal.status == 204);
  CHECK(s.join(c, {.key = "somebody else", .last_event_id = "2"}));
}

TEST_CASE("a sealed channel: a snapshot under way is finished first", "[seal][surface]") {
  stage s;
  sse::channel_options o = quiet();
  o.start = start_at::snapshot;
  sse::channel c = s.open("state", std::move(o));
  for (int i = 1; i <= 50; ++i) {
    REQUIRE(c.publish({.type = "e", .data = std::to_string(i)}, {.key = std::to_string(i)}));
  }
  const test::caller slow = s.join(c, {.window = 100});
  s.flush();
  s.hub.seal(c);
  s.flush();
  CHECK_FALSE(s.closed(slow));
  s.let(slow);
  std::string values;
  for (int i = 1; i <= 50; ++i) values += test::frame(0, "e", std::to_string(i));
  CHECK(s.take(slow) == values);
  CHECK(s.closed(slow));
  const test::caller late = s.join(c);
  REQUIRE(late);
  s.flush();
  CHECK(s.take(late) == values);
  CHECK(s.closed(late));
}

TEST_CASE("a sealed channel: a backfill under way is finished first", "[seal][surface]") {
  stage s;
  sse::channel_options o = job(2);
  bool there = false;
  o.backfill = [&](const sse::backfill_request& r, sse::backfill_writer& w) {
    if (!there) return sse::backfill_state::wait;
    for (sse::event_id id = r.after + 1; id < r.before; ++id) {
      if (!w.add(id, {.type = "e", .data = std::to_string(id)})) break;
    }
    return sse::backfill_state::done;
  };
  sse::channel c = s.open("job", std::move(o));
  s.put_many(c, 9);
  const test::caller late = s.join(c, behind(1));
  REQUIRE(late);
  s.flush();
  s.hub.seal(c);
  s.flush();
  CHECK_FALSE(s.closed(late));
  there = true;
  s.hub.writable(late.id);
  s.flush();
  CHECK(s.take(late) == frames(2, 9));
  CHECK(s.closed(late));
}

TEST_CASE("a sealed channel is closed once its time is over, and its program is told",
          "[seal][surface]") {
  stage s;
  std::vector<std::string> closed;
  s.hub.on_channel_closed([&](sse::channel c) { closed.emplace_back(c.name()); });
  sse::channel_options o = job();
  o.keep_sealed = sse::duration::seconds(60);
  o.heartbeat = {.mode = sse::heartbeat_options::pace::fixed, .every = sse::duration::seconds(1)};
  sse::channel c = s.open("job", std::move(o));
  s.put(c);
  s.at(500);
  s.hub.seal(c);
  s.at(60'499);
  CHECK(closed.empty());
  CHECK(s.join(c));
  s.flush();
  s.at(60'500);
  CHECK(closed == std::vector<std::string>{"job"});
  CHECK(!s.hub.find_channel("job"));
  sse::channel again = s.open("job", job());
  CHECK_FALSE(again.sealed());
  s.hub.close_channel(again);
  CHECK(closed.size() == 2);
}

TEST_CASE("what is published when a sealed channel's time is over is as old as its program thinks",
          "[seal]") {
  stage s;
  sse::channel_options kept = job();
  kept.keep_age = sse::duration::seconds(10);
  sse::channel news = s.open("news", std::move(kept));
  s.hub.on_channel_closed([&](sse::channel) { s.put(news); });
  sse::channel_options o = job();
  o.keep_sealed = sse::duration::seconds(60);
  s.hub.seal(s.open("job", std::move(o)));
  s.at(100'000);  // the host was stopped meanwhile
  CHECK(news.stats().retained_events == 1);
  s.at(109'999);
  CHECK(news.stats().retained_events == 1);
  s.at(110'000);
  CHECK(news.stats().retained_events == 0);
}

TEST_CASE("a reader that knows where it began is told 204 after a stream without an event",
          "[seal][surface]") {
  sse::hub_options o;
  o.first_id = 7;
  stage s{o, stage::as_given{}};
  sse::channel c = s.open("job", job());
  const test::caller k = s.join(c);
  s.hub.seal(c);
  s.flush();
  CHECK(s.take(k) == "id: 7\n\n");
  CHECK(s.closed(k));
  CHECK(s.join(c, behind(7)).refusal.status == 204);
}

TEST_CASE("a channel of another hub is refused, or left alone", "[channels]") {
  stage s;
  stage other;
  sse::channel foreign = other.open("c", quiet());
  const test::caller k = other.join(foreign);
  CHECK(s.hub.publish(foreign, {.data = "x"}).error == publish_error::another_hub);
  s.hub.seal(foreign);
  CHECK_FALSE(foreign.sealed());
  s.hub.close_channel(foreign);
  s.flush();
  REQUIRE(other.hub.find_channel("c") == foreign);
  other.put(foreign);
  other.flush();
  CHECK(other.take(k) == frames(1, 1));
}

TEST_CASE("open_channel says why it did not", "[channels]") {
  stage s;
  const sse::open_result c = s.hub.open_channel("c", quiet());
  REQUIRE(c);
  CHECK(c.error == sse::open_error::none);
  CHECK(c.here.name() == "c");
  const sse::open_result again = s.hub.open_channel("c", quiet());
  CHECK_FALSE(again);
  CHECK(!again);
  CHECK(again.error == sse::open_error::taken);
  CHECK(to_string(again.error) == "taken");
  sse::open_error in_hook = sse::open_error::none;
  s.hub.on_wanted([&] { in_hook = s.hub.open_channel("d", quiet()).error; });
  (void)s.join(c);
  s.put(c);
  CHECK(in_hook == sse::open_error::in_hook);
}

TEST_CASE("ten thousand streams that ended hold little", "[seal][surface]") {
  stage s;
  constexpr int n = 10'000;
  for (int i = 0; i < n; ++i) {
    sse::channel c = s.open("job" + std::to_string(i), job(10));
    const test::caller k = s.join(c);
    s.put(c);
    REQUIRE(c.publish({.data = "[DONE]"}, {.last = true}));
    s.flush();
    CHECK(s.closed(k));
  }
  CHECK(s.hub.stats().sessions == 0);
  CHECK(s.hub.stats().log_bytes < n * 1024U);
}
