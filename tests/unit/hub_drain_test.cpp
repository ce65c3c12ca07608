// The end of the hub, and of a stream that is told to end. The clock is the test's.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <sse/sse.hpp>

#include "beating.hpp"
#include "catch.hpp"
#include "stage.hpp"

namespace {

using pace = sse::heartbeat_options::pace;
using sse::close_reason;
using sse::duration;
using test::beating;
using test::completion_stage;
using test::frame;
using test::frames;
using test::second;
using test::silent;
using test::stage;
using test::take_retry;

}  // namespace

// --- drain ---

TEST_CASE("X-26 drain: what is pending, retry with jitter, the farewell, then the end",
          "[time][drain]") {
  stage s{{.retry_min = duration::milliseconds(100), .retry_max = duration::milliseconds(3000)}};
  sse::channel c = s.open("c", beating(pace::idle, 10'000));
  std::vector<test::caller> all;
  for (int i = 0; i < 100; ++i) all.push_back(s.join(c, {.key = "u"}));
  const auto chunked = s.join(c, {.chunked = true});
  s.put(c);
  CHECK_FALSE(s.hub.draining());
  s.hub.drain({.farewell = {.type = "bye", .data = "back soon", .id = "99"}});
  CHECK(s.hub.draining());
  CHECK_FALSE(s.hub.drained());
  s.flush();
  CHECK(s.hub.drained());
  CHECK(s.hub.sessions() == 0);
  std::set<std::int64_t> retries;
  for (const auto& k : all) {
    std::string got = s.take(k);
    if (!got.starts_with(frames(1, 1))) FAIL(got);
    got.erase(0, frames(1, 1).size());
    retries.insert(take_retry(got));
    if (got != frame(0, "bye", "back soon")) FAIL(got);  // no id: it must not move the resume point
    if (!s.closed(k) || s.peer(k).why != close_reason::drain) FAIL("not closed");
  }
  CHECK(*retries.begin() >= 100);
  CHECK(*retries.rbegin() <= 3000);
  CHECK(retries.size() > 60);
  CHECK(s.take(chunked).ends_with("\n\n\r\n0\r\n\r\n"));
  CHECK(s.hub.stats().closed[static_cast<std::size_t>(close_reason::drain)] == 101);

  const auto late = s.join(c);
  CHECK_FALSE(late);
  CHECK(late.refusal.status == 503);
  CHECK(late.refusal.headers.find("Retry-After: 3\r\n") != std::string::npos);
  s.hub.drain();  // again: nothing
  s.at(100 * second);
  CHECK(s.hub.drained());
}

TEST_CASE("X-26 drain without a farewell says only when to come back", "[time][drain]") {
  stage s;
  sse::channel c = s.open("c", silent());
  const auto k = s.join(c);
  s.hub.drain();
  s.flush();
  std::string got = s.take(k);
  const std::int64_t retry = take_retry(got);
  CHECK(retry >= 1000);
  CHECK(retry <= 5000);
  CHECK(got.empty());
  CHECK(s.closed(k));
}

TEST_CASE("X-26 drain waits for slow readers until its deadline: limit - 1, limit",
          "[time][drain]") {
  for (const bool reads : {true, false}) {
    stage s{{.write_deadline = duration::seconds(100)}};
    sse::channel c = s.open("c", silent());
    const auto k = s.join(c, {.window = frames(1, 2).size() + 5});
    s.put_many(c, 5);
    s.flush();
    s.at(1'000);
    s.hub.drain({.deadline = duration::seconds(5), .farewell = {.data = "bye"}});
    s.flush();
    CHECK(s.hub.next_deadline() == sse::time_point::milliseconds(6'000));
    s.at(5'999);
    CHECK_FALSE(s.closed(k));
    if (reads) s.let(k);
    s.at(6'000);
    CHECK(s.closed(k));
    CHECK(s.hub.drained());
    std::string got = s.take(k);
    if (reads) {
      CHECK(got.starts_with(frames(1, 5)));  // whole events, then the end
      CHECK(got.ends_with("data: bye\n\n"));
    } else {
      CHECK(got == frames(1, 5).substr(0, frames(1, 2).size() + 5));
    }
  }
}

TEST_CASE(
    "X-26 drain at every byte of a stream: never a frame that is half written, unless it was cut "
    "at the deadline",
    "[time][drain]") {
  bool right = true;
  for (std::size_t cut = 0; cut <= frames(1, 3).size() + 3; ++cut) {
    for (const bool chunked : {false, true}) {
      stage s;
      sse::channel c = s.open("c", silent());
      const auto k = s.join(c, {.chunked = chunked, .window = cut});
      s.put_many(c, 3);
      s.flush();
      s.hub.drain({.farewell = {.data = "bye"}});
      for (int i = 0; i < 300; ++i) s.let(k, 1);
      const std::string got = s.take(k);
      right = right && s.closed(k);
      right = right && (chunked ? got.ends_with("data: bye\n\n\r\n0\r\n\r\n")
                                : got.ends_with("data: bye\n\n") && got.starts_with(frames(1, 3)));
    }
  }
  CHECK(right);
}

TEST_CASE("X-26 drain of a peer whose buffers are just full ends at the deadline",
          "[time][drain]") {
  stage s;
  sse::channel c = s.open("c", silent());
  const auto k = s.join(c, {.window = frames(1, 1).size()});
  s.put(c);
  s.flush();
  s.hub.drain();
  s.at(5'000);
  CHECK(s.closed(k));
  CHECK(s.hub.drained());
}

TEST_CASE("X-26 drain with writes that are pending is over when they are",
          "[time][drain][completion]") {
  completion_stage s;
  sse::channel c = s.open("c", silent());
  const auto k = s.join(c);
  const auto never = s.join(c);
  s.put(c);
  s.flush();
  s.hub.drain();
  s.flush();
  s.hub.written(k.id, s.net.complete(k.peer));
  s.flush();
  s.hub.written(k.id, s.net.complete(k.peer));
  s.flush();
  CHECK(s.closed(k));
  CHECK(s.take(k).starts_with(frames(1, 1) + "retry: "));
  s.at(5'000);
  CHECK(s.closed(never));
  CHECK(s.hub.sessions() == 0);
  CHECK_FALSE(s.hub.drained());  // the kernel still reads from its slot
  s.hub.written(never.id, s.net.complete(never.peer, 0));
  CHECK(s.hub.drained());
}

TEST_CASE("X-27 finish ends a stream once all was sent, without a word about coming back",
          "[time]") {
  stage s;
  sse::channel c = s.open("c", silent());
  const auto k = s.join(c, {.window = 5});
  s.put_many(c, 2);
  s.hub.finish(k.id);
  s.hub.finish(k.id);
  s.flush();
  CHECK_FALSE(s.closed(k));
  s.let(k);
  CHECK(s.take(k) == frames(1, 2));
  CHECK(s.closed(k));
  CHECK(s.peer(k).why == close_reason::finished);
}

TEST_CASE("a stream that was told to end and whose peer is gone ends by the write deadline",
          "[time][deadline]") {
  for (const std::size_t window : {std::size_t{5}, frames(1, 1).size()}) {
    CAPTURE(window);
    stage s;
    sse::channel c = s.open("c", silent());
    const auto k = s.join(c, {.window = window});
    s.put(c);
    s.flush();
    s.at(5'000);
    s.hub.finish(k.id);
    s.at(15'000);
    CHECK(s.closed(k));
    CHECK(s.hub.sessions() == 0);
  }
}
