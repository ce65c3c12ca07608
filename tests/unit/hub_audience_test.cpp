// What is for one alone: audiences and unicast.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::publish_error;
using test::frame;
using test::frames;
using test::quiet;
using test::stage;

}  // namespace

// --- for one alone ---

TEST_CASE(
    "N-41 a user's event goes to all tabs of that user and writes nothing to anybody else: X-09",
    "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto a1 = s.join(c, {.key = "a"});
  const auto a2 = s.join(c, {.key = "a"});
  const auto b1 = s.join(c, {.key = "b"});
  const auto b2 = s.join(c, {.key = "b"});
  const auto nobody = s.join(c);
  s.put(c, "for b", "b");
  s.flush();
  CHECK(s.take(b1) == frame(1, "e", "for b"));
  CHECK(s.take(b2) == frame(1, "e", "for b"));
  CHECK(s.hub.send_user("b", {.type = "u", .data = "also for b"}) == 2);
  CHECK(s.hub.send_user("nobody", {.data = "x"}) == 0);
  REQUIRE(c.publish({.data = "t"}, {.audience = "b", .transient = true}));
  s.flush();
  CHECK(s.take(b1) == frame(0, "u", "also for b") + frame(0, "", "t"));
  CHECK(s.take(b2) == frame(0, "u", "also for b") + frame(0, "", "t"));
  for (const auto& k : {a1, a2, nobody}) {
    CHECK(s.peer(k).writes == 0);  // no bytes, not even a call
    CHECK(s.take(k).empty());
  }
  s.put(c, "all");
  s.flush();
  CHECK(s.take(a1) == frame(2, "e", "all"));
  CHECK(s.take(b1) == frame(2, "e", "all"));
  CHECK(s.take(nobody) == frame(2, "e", "all"));
}

TEST_CASE("X-09 a hook of the host decides who sees an audience, live and after a stall",
          "[flow]") {
  struct member {
    std::string rooms;
  };
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport, member> hub{net, test::without_position()};
  hub.on_sees([](const member& m, std::string_view, std::string_view audience) {
    return m.rooms.find(audience) != m.rooms.npos;
  });
  sse::channel c = hub.open_channel("chat", quiet());
  REQUIRE(c);
  const auto open = [&](std::string rooms, std::size_t window) {
    const std::size_t i = net.connect();
    net.at(i).window = window;
    REQUIRE(hub.accept({i}, {}, sse::admit(member{std::move(rooms)}, "").join(c)));
    return i;
  };
  const auto general = open("general", SIZE_MAX);
  const auto both = open("general secret", 11);
  const auto none = open("", 0);
  std::string all, some;
  for (int i = 0; i < 200; ++i) {
    const std::string data = std::to_string(i);
    const bool secret = i % 3 == 0;
    const auto r =
        c.publish({.type = "m", .data = data}, {.audience = secret ? "secret" : "general"});
    REQUIRE(r);
    all += frame(r.id, "m", data);
    if (!secret) some += frame(r.id, "m", data);
    if (i % 7 == 0) {
      net.at(both).window = 25;
      hub.writable(net.at(both).session);
      hub.flush();
    }
  }
  net.at(both).window = SIZE_MAX;
  hub.writable(net.at(both).session);
  hub.flush();
  CHECK(net.at(general).received == some);
  CHECK(net.at(both).received == all);
  CHECK(net.at(none).writes == 0);
  CHECK(hub.user(net.at(general).session)->rooms == "general");
}

TEST_CASE("who decides what others see is asked once for each session and entry",
          "[flow][surface]") {
  stage s;
  std::map<std::string, int> asked;
  s.hub.on_sees([&](const sse::no_user&, std::string_view key, std::string_view audience) {
    ++asked[std::string{key} + " of " + std::string{audience}];
    return audience.starts_with(key);
  });
  sse::channel c = s.open("c", quiet());
  sse::channel d = s.open("d", quiet());
  (void)s.join(c, {.key = "one"});
  const auto on_both = s.join({.key = "both"}, {c, d});
  const auto blocked = s.join({.key = "blocked", .window = 10}, {c, d});
  std::uint64_t n = 0;
  const auto put = [&](sse::channel where, const char* who) {
    s.put(where, "", who + std::to_string(++n));
  };
  for (const char* who : {"one", "both", "blocked", "nobody"}) {
    for (const bool together : {true, false}) {
      put(c, who);
      if (!together) s.flush();
      put(c, who);
      s.flush();
      put(d, who);
      if (!together) s.flush();
      put(c, who);
      put(d, who);
      s.flush();
    }
  }
  s.let(blocked);
  CHECK(asked.size() == 24 + 2 * 40);
  for (const auto& [what, times] : asked) {
    CAPTURE(what);
    const bool not_taken = what == "blocked of blocked22";  // gathered, and behind what was cut
    CHECK(times == (not_taken ? 2 : 1));
  }
  CHECK(test::count(s.take(on_both), "data: ") == 10);
  CHECK(test::count(s.take(blocked), "data: ") == 10);
}

TEST_CASE("X-09 an audience holds over every cut of a write", "[flow]") {
  const std::string all =
      frames(1, 1) + frame(3, "e", "mine") + frames(4, 5) + frame(8, "e", "mine");
  bool right = true;
  for (std::size_t cut = 0; cut <= all.size(); ++cut) {
    stage s;
    sse::channel c = s.open("c", quiet());
    const auto k = s.join(c, {.key = "me", .window = cut});
    s.put(c);
    s.put(c, "theirs", "you");
    s.put(c, "mine", "me");
    s.flush();
    s.put(c);
    s.put(c);
    s.put(c, "theirs", "you");
    s.put(c, "theirs", "you");
    s.put(c, "mine", "me");
    s.put(c, "theirs", "you");
    s.flush();
    for (int i = 0; i < 10; ++i) s.let(k, 3);
    s.let(k);
    right = right && s.take(k) == all && c.stats().delivered == 5;
    right = right && s.hub.worst_lag(c) == 0;
  }
  CHECK(right);
}

TEST_CASE("an audience may have 65535 bytes and not one more", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const std::string longest(65'535, 'u');
  const auto k = s.join(c, {.key = longest});
  CHECK(c.publish({.data = "1"}, {.audience = std::string_view(longest).substr(1)}));
  CHECK(c.publish({.data = "2"}, {.audience = longest}));
  CHECK(c.publish({.data = "3"}, {.audience = longest + "u"}).error == publish_error::too_large);
  s.flush();
  CHECK(s.take(k) == frame(2, "", "2"));
}

TEST_CASE("unicast: what is refused, and that it never carries an id", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c);
  CHECK(s.hub.send(k.id, {.type = "a\nb", .data = "x"}) == publish_error::bad_type);
  CHECK(s.hub.send(k.id, {.data = "x", .id = "7"}) == publish_error::bad_id);
  CHECK(s.hub.send(k.id, {.data = "x", .retry = -2}) == publish_error::bad_retry);
  const std::string data((1 << 20) - 8, 'x');  // "data: " and two line ends beside it
  CHECK(s.hub.send(k.id, {.data = data + "x"}) == publish_error::too_large);
  CHECK(s.hub.send(k.id, {.data = data}) ==
        publish_error::none);  // larger than the lane: one always fits
  s.flush();
  CHECK((s.take(k) == frame(0, "", data)));
  CHECK(s.hub.send(k.id, {.type = "t", .data = "x", .retry = 5}) == publish_error::none);
  s.flush();
  CHECK(s.take(k) == "event: t\nretry: 5\ndata: x\n\n");
}

TEST_CASE(
    "X-01 X-02 the control lane is bounded: limit - 1, limit, limit + 1, and says so when it is "
    "full",
    "[flow]") {
  const std::string one = frame(0, "", "1234567890");
  for (const std::size_t limit : {5 * one.size() - 1, 5 * one.size(), 5 * one.size() + 1}) {
    CAPTURE(limit);
    stage s{{.control_lane = static_cast<std::uint32_t>(limit)}};
    sse::channel c = s.open("c", quiet());
    const auto k = s.join(c, {.window = 0});
    const std::size_t fit = limit / one.size();
    for (std::size_t i = 0; i < fit; ++i)
      REQUIRE(s.hub.send(k.id, {.data = "1234567890"}) == publish_error::none);
    CHECK(s.hub.send(k.id, {.data = "1234567890"}) == publish_error::full);
    CHECK(s.hub.send(k.id, {.data = std::string(10'000, 'x')}) == publish_error::full);
    s.let(k, one.size());  // one leaves, one fits
    CHECK(s.hub.send(k.id, {.data = "1234567890"}) == publish_error::none);
    CHECK(s.hub.send(k.id, {.data = "1234567890"}) == publish_error::full);
    s.put(c);
    s.let(k);
    std::string expect;
    for (std::size_t i = 0; i < fit + 1; ++i) expect += one;
    CHECK(s.take(k) == expect + frames(1, 1));
  }
}

TEST_CASE("X-01 a full control lane of the smallest events costs each of them the same", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c, {.window = 0});
  std::size_t sent = 0;
  while (s.hub.send(k.id, {.data = ""}) == publish_error::none)
    ++sent;  // a walk over the lane would take half a minute here
  CHECK(sent == (256U << 10) / frame(0, "", "").size());
  s.put(c);
  s.let(k, 20 * frame(0, "", "").size() + 3);
  for (int i = 0; i < 20; ++i) CHECK(s.hub.send(k.id, {.data = ""}) == publish_error::none);
  CHECK(s.hub.send(k.id, {.data = ""}) == publish_error::full);
  s.let(k);
  const std::string got = s.take(k);
  CHECK(test::count(got, "data: \n\n") == sent + 20);
  CHECK(got.ends_with(frames(1, 1)));
}
