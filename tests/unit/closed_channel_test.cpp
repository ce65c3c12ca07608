// A channel that is closed at a bad moment, or opened again with other options.
#include <cstdint>
#include <string>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

using test::frame;
using test::gap_frame;
using test::stage;

TEST_CASE("channel: closed twice before its streams have ended, it is closed once and nobody joins",
          "[channel]") {
  stage s;
  sse::channel a = s.open("a");
  sse::channel b = s.open("b");
  s.put(b);
  const auto of_a = s.join(a);
  const auto of_b = s.join(b);
  std::string log;
  s.hub.on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason why) {
    log += std::string(to_string(why)) + " ";
    if (log != "host ") return;
    s.hub.close_channel(b);
    s.hub.close_channel(b);
    log += "closing ";
    log += s.join(b).refusal.body + " ";
  });
  s.hub.close(of_a.id);
  CHECK(log == R"(host closing {"error":"channel_closed"} channel )");
  CHECK(s.peer(of_b).why == sse::close_reason::channel);
  CHECK(s.hub.find_channel("a") == a);
  CHECK(!s.hub.find_channel("b"));
  CHECK(s.open("b").last_id() == 1);  // and it is remembered once
}

TEST_CASE("channel: a hook that may call nothing cannot close one", "[channel]") {
  stage s;
  sse::channel c = s.open("c", {.keep = 1});
  int asked = 0;
  s.hub.on_gap([&](const sse::gap_notice&) {
    ++asked;
    s.hub.close_channel(c);
  });
  s.put_many(c, 3);
  const auto k = s.join(c, {.last_event_id = "1"});
  CHECK(asked == 1);
  CHECK(s.hub.find_channel("c") == c);
  CHECK_FALSE(s.closed(k));
  CHECK((s.take(k) == gap_frame(2, 1, 3, -1) + frame(3, "e", "3")));
}

TEST_CASE("channel: opened again with a lower first id, it counts no id that it never gave as lost",
          "[channel]") {
  stage s;
  s.put_many(s.open("c", {.own_sequence = true, .first_id = 100}), 10);
  s.hub.close_channel(s.hub.find_channel("c"));
  sse::channel c = s.open("c", {.own_sequence = true, .first_id = 5});
  CHECK(s.put(c) == 111);
  const auto before = s.join(c, {.last_event_id = "50"});
  const auto within = s.join(c, {.last_event_id = "105"});
  CHECK((s.take(before) == gap_frame(110, 50, 111, -1) + frame(111, "e", "111")));
  CHECK((s.take(within) == gap_frame(110, 105, 111, 5) + frame(111, "e", "111")));
}

TEST_CASE("channel: the last 1024 closed are remembered, one that was opened again counts anew",
          "[channel]") {
  stage s;
  const auto close_after = [&](const std::string& name, sse::event_id first) {
    sse::channel c = s.open(name, {.own_sequence = true, .first_id = first});
    s.put(c);
    s.hub.close_channel(c);
  };
  const auto floor = [&](std::string_view name) {  // the highest id of those that are forgotten
    return s.put(s.open(name, {.own_sequence = true})) - 1;
  };
  close_after("middle", 400);
  close_after("again", 100);
  close_after("again", 101);
  close_after("middle", 401);
  close_after("after", 600);
  for (std::uint64_t i = 0; i < 1021; ++i) close_after("other " + std::to_string(i), 700 + i);
  CHECK(floor("new 1") == 0);
  close_after("one more", 9000);
  CHECK(floor("new 2") == 102);
  close_after("two more", 9001);
  CHECK(floor("new 3") == 402);
  close_after("three more", 9002);
  CHECK(floor("new 4") == 601);
  close_after("four more", 9003);
  CHECK(floor("new 5") == 701);
}

TEST_CASE("channel: one that was closed before the last 1024 still tells that its events are gone",
          "[channel]") {
  stage s;
  sse::channel c = s.open("c", test::quiet());
  s.put_many(c, 3);
  s.hub.close_channel(c);
  for (int i = 0; i < 1024; ++i) {
    sse::channel other = s.open("other " + std::to_string(i), test::quiet());
    s.put(other);
    s.hub.close_channel(other);
  }
  sse::channel again = s.open("c", test::quiet());
  const sse::event_id next = s.put(again);
  const auto lost = s.join(again, {.last_event_id = "1"});
  const auto has_all = s.join(again, {.last_event_id = "3"});
  CHECK(s.take(lost) == gap_frame(next - 1, 1, next, -1) + test::frames(next, next));
  CHECK(s.take(has_all) == test::frames(next, next));
}
