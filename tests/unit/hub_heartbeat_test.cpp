// Heartbeats. The clock is the test's.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "beating.hpp"
#include "catch.hpp"
#include "stage.hpp"

namespace {

using pace = sse::heartbeat_options::pace;
using sse::duration;
using test::beat;
using test::beating;
using test::frame;
using test::frames;
using test::hour;
using test::second;
using test::silent;
using test::stage;

std::string times(std::size_t n, std::string_view what) {
  std::string s;
  while (n-- > 0) s += what;
  return s;
}

}  // namespace

// --- heartbeats ---

TEST_CASE("V-17 an idle client gets nothing for 9.999 s and exactly a keep-alive comment at 10 s",
          "[time][heartbeat]") {
  stage s;
  sse::channel c = s.open("c", beating(pace::idle, 10'000));
  const auto k = s.join(c);
  s.at(9'999);
  CHECK(s.peer(k).writes == 0);
  s.at(10'000);
  CHECK(s.take(k) == ": keep-alive\n\n");
  CHECK(s.peer(k).writes == 1);
  CHECK(s.hub.stats().heartbeats == 1);
}

TEST_CASE("V-18 an idle client gets three keep-alives in 30 s, however the clock is told",
          "[time][heartbeat]") {
  for (const std::int64_t step : {1, 1000, 2500, 10'000, 30'000}) {
    CAPTURE(step);
    stage s;
    sse::channel c = s.open("c", beating(pace::idle, 10'000));
    const auto k = s.join(c);
    for (std::int64_t t = step; t <= 30'000; t += step) s.at(t);
    s.at(30'000);
    CHECK(s.take(k) == times(3, beat));
  }
}

TEST_CASE("V-19 a keep-alive comes only after a silence: event at 9 s, next at 19 s",
          "[time][heartbeat]") {
  stage s;
  sse::channel c = s.open("c", beating(pace::idle, 10'000));
  const auto k = s.join(c);
  s.at(9'000);
  s.put(c);
  s.flush();
  CHECK(s.take(k) == frames(1, 1));
  s.at(10'000);
  s.at(18'999);
  CHECK(s.take(k).empty());
  s.at(19'000);
  CHECK(s.take(k) == beat);
  s.at(29'000);
  CHECK(s.take(k) == beat);
}

TEST_CASE("V-20 X-28 a heartbeat of any form has no id, uses none up and is never replayed",
          "[time][heartbeat]") {
  for (const pace mode : {pace::idle, pace::fixed}) {
    for (const int form : {0, 1, 2, 3}) {
      CAPTURE(static_cast<int>(mode), form);
      stage s;
      sse::channel_options o = beating(mode, 1000);
      o.heartbeat.comment = form == 0;
      o.heartbeat.text = "alive";
      if (form >= 2) o.heartbeat.type = "heartbeat";
      if (form == 3)
        o.heartbeat.payload = [n = 0](std::string& data) mutable {
          data = "beat " + std::to_string(++n);
        };
      sse::channel c = s.open("c", std::move(o));
      const auto k = s.join(c);
      s.put(c);
      s.flush();
      s.take(k);
      s.at(1000);
      const std::string expect = form == 0   ? ": alive\n\n"
                                 : form == 1 ? "data: alive\n\n"
                                 : form == 2 ? "event: heartbeat\ndata: alive\n\n"
                                             : "event: heartbeat\ndata: beat 1\n\n";
      CHECK(s.take(k) == expect);
      s.put(c);
      s.flush();
      CHECK(s.take(k) == frames(2, 2));
      CHECK(c.last_id() == 2);
      CHECK(c.stats().published == 2);
      CHECK(s.take(s.join(c, {.last_event_id = "0"})) == frames(1, 2));
    }
  }
}

TEST_CASE("N-26 a fixed heartbeat event every 30 s, to all at once, whatever else is sent",
          "[time][heartbeat]") {
  stage s;
  sse::channel_options o = beating(pace::fixed, 30'000);
  int made = 0;
  o.heartbeat.comment = false;
  o.heartbeat.type = "heartbeat";
  o.heartbeat.payload = [&made](std::string& data) { data = std::to_string(++made); };
  sse::channel c = s.open("c", std::move(o));
  std::vector<test::caller> all;
  for (int i = 0; i < 50; ++i) all.push_back(s.join(c));
  std::string expect;
  for (std::int64_t t = 1; t <= 90; ++t) {
    s.at(t * second);
    if (t % 30 == 0) expect += frame(0, "heartbeat", std::to_string(t / 30));
    if (t % 7 == 0) {
      const std::uint64_t id = s.put(c);
      expect += frames(id, id);
      s.flush();
    }
  }
  CHECK(made == 3);  // once each, not once for each client
  CHECK(test::count(expect, "event: heartbeat") == 3);
  std::size_t same = 0;
  for (const auto& k : all) same += s.take(k) == expect;
  CHECK(same == all.size());
  CHECK(s.hub.stats().heartbeats == 150);
}

TEST_CASE("heartbeats: text that no frame may hold sends nothing, line ends in it are split",
          "[time][heartbeat]") {
  const auto first = [](sse::heartbeat_options h) {
    stage s;
    sse::channel_options o = silent();
    h.mode = pace::idle;
    h.every = duration::seconds(1);
    o.heartbeat = std::move(h);
    const auto k = s.join(s.open("c", std::move(o)));
    s.at(1000);
    return s.take(k);
  };
  CHECK(first({.text = "a\nid: 5\revent: x"}) == ": a\n: id: 5\n: event: x\n\n");
  CHECK(first({.text = std::string_view("a\0b", 3)}).empty());
  CHECK(first({.text = ""}) == ": \n\n");
  CHECK(first({.comment = false, .text = "a\nid: 5"}) == "data: a\ndata: id: 5\n\n");
  CHECK(first({.comment = false, .text = "x", .type = "a\nid: 5"}).empty());
}

TEST_CASE("heartbeats: a session on several channels follows the first that has one",
          "[time][heartbeat]") {
  stage s;
  sse::channel none = s.open("none", {.heartbeat = {.mode = pace::off}});
  sse::channel slow =
      s.open("slow", {.heartbeat = {.every = duration::seconds(20), .text = "slow"}});
  sse::channel fast =
      s.open("fast", {.heartbeat = {.every = duration::seconds(5), .text = "fast"}});
  const auto k = s.join({}, {none, slow, fast});
  const auto silent = s.join(none);
  s.at(19'999);
  CHECK(s.take(k).empty());
  s.at(20'000);
  CHECK(s.take(k) == ": slow\n\n");
  s.at(hour);
  CHECK(s.peer(silent).writes == 0);
}

TEST_CASE("heartbeats: a blocked client gets none on top of what waits", "[time][heartbeat]") {
  stage s{{.write_deadline = duration::off()}};
  sse::channel idle = s.open("idle", beating(pace::idle, 1000));
  const auto k = s.join(idle, {.window = 5});
  s.put(idle);
  s.flush();
  for (std::int64_t t = 1; t < 500; ++t) s.at(t * second);
  s.let(k);
  CHECK(s.take(k) == frames(1, 1));
  s.at(500 * second);
  CHECK(s.take(k) == beat);
}

TEST_CASE(
    "heartbeats: after a long pause of the host those that were missed are not all made up for",
    "[time][heartbeat]") {
  for (const pace mode : {pace::idle, pace::fixed}) {
    CAPTURE(static_cast<int>(mode));
    stage s;
    sse::channel c = s.open("c", beating(mode, 10'000));
    const auto k = s.join(c);
    s.at(10 * hour);  // a suspended machine
    CHECK(s.take(k).size() <= 20 * beat.size());
    s.at(10 * hour + 9'000);
    s.take(k);
    s.at(10 * hour + 20'000);
    const std::string got = s.take(k);
    CHECK((got == beat || got == beat + beat));
    s.at(10 * hour + 60'000);
    CHECK(s.take(k) == times(4, beat));
  }
}

TEST_CASE("heartbeats go on past 49.7 days, where milliseconds leave 32 bits",
          "[time][heartbeat]") {
  stage s{{.write_deadline = duration::off()}};
  sse::channel c = s.open("c", beating(pace::idle, hour));
  sse::channel f = s.open("f", beating(pace::fixed, hour));
  s.at(5'000'000'000'000);  // the host's clock starts anywhere
  const auto k = s.join(c);
  const auto kf = s.join(f);
  bool right = true;
  for (std::int64_t i = 1; i <= 24 * 120; ++i) {
    s.at(5'000'000'000'000 + i * hour - 1);
    right = right && s.take(k).empty();
    s.at(5'000'000'000'000 + i * hour);
    right = right && s.take(k) == beat;
  }
  CHECK(right);
  CHECK(s.take(kf).size() >= 24 * 119 * beat.size());
}

TEST_CASE("a clock that runs back does nothing", "[time]") {
  stage s;
  sse::channel c = s.open("c", beating(pace::idle, 10'000));
  const auto k = s.join(c);
  s.at(9'000);
  s.at(1'000);
  s.at(-50'000);
  s.at(9'999);
  CHECK(s.take(k).empty());
  s.at(10'000);
  CHECK(s.take(k) == beat);
}
