// Order over channels, and which of them a stream is on.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using test::frame;
using test::frames;
using test::quiet;
using test::stage;

}  // namespace

// --- several channels ---

TEST_CASE(
    "events of several channels leave in the order of publication, with transient ones in their "
    "place",
    "[flow]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  sse::channel other = s.open("other", quiet());
  const auto k = s.join({.window = 55}, {b, a});
  std::string expect;
  std::uint64_t n = 0;
  for (int i = 0; i < 300; ++i) {
    sse::channel c = i * 7 % 5 < 2 ? a : b;
    if (i % 4 == 3) {
      const std::string data = "t" + std::to_string(i);
      REQUIRE(c.publish({.data = data}, {.transient = true}));
      expect += frame(0, "", data);
    } else {
      expect += frame(s.put(c), "e", std::to_string(++n));
    }
    if (i % 6 == 0) {
      s.put(other);
      ++n;
    }
    if (i % 10 == 0) s.let(k, static_cast<std::size_t>(i));
  }
  s.let(k);
  CHECK(s.take(k) == expect);
}

TEST_CASE("what a hook publishes for a stream that opens leaves in the order of publication",
          "[flow]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  const auto tell = [&](std::string_view what) {
    REQUIRE(b.publish({.data = what}, {.transient = true}));
    s.put(a);
  };
  s.hub.on_opened([&](sse::session_id, const sse::no_user&) { tell("opened"); });
  s.hub.on_presence([&](sse::channel c, std::string_view, bool) {
    if (c == b) tell("present");
  });
  const auto before = s.join(b);
  (void)s.take(before);
  const auto k = s.join({.key = "ann"}, {a, b});
  const std::string expect =
      frame(0, "", "opened") + frames(2, 2) + frame(0, "", "present") + frames(3, 3);
  CHECK(s.take(k) == expect);
  s.flush();
  tell("all");
  s.flush();
  CHECK(s.take(k) == frame(0, "", "all") + frames(4, 4));
  CHECK(s.take(before) == frame(0, "", "opened") + frame(0, "", "present") + frame(0, "", "all"));
}

TEST_CASE("N-40 a channel's events stay on it", "[flow]") {
  stage s;
  sse::channel chat = s.open("chat", quiet());
  sse::channel notes = s.open("notes", quiet());
  sse::channel status = s.open("status", quiet());
  const auto a = s.join(chat);
  const auto b = s.join(notes);
  const auto both = s.join({}, {notes, status});
  s.put(chat, "chat");
  s.put(status, "status");
  s.flush();
  CHECK(s.take(a) == frame(1, "e", "chat"));
  CHECK(s.peer(b).writes == 0);
  CHECK(s.take(both) == frame(2, "e", "status"));
  CHECK(s.hub.publish_all({.type = "all", .data = "x"}) == 3);
  s.flush();
  CHECK(s.take(a) == frame(3, "all", "x"));
  CHECK(s.take(b) == frame(4, "all", "x"));
  CHECK(s.take(both) == frame(4, "all", "x") + frame(5, "all", "x"));
}

TEST_CASE("channels: names, closing one, and those that stay", "[flow]") {
  stage s;
  sse::channel_options o = quiet();
  o.heartbeat = {.mode = sse::heartbeat_options::pace::fixed,
                 .every = sse::duration::seconds(10),
                 .text = "beat"};
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  sse::channel c = s.open("c", std::move(o));
  CHECK(!s.hub.open_channel("b"));
  CHECK(s.hub.find_channel("b") == b);
  CHECK(!s.hub.find_channel("d"));
  const auto ka = s.join(a);
  const auto kc = s.join(c);
  const auto kab = s.join({}, {a, b});
  REQUIRE(b.publish({.data = "t"}, {.transient = true}));
  s.put(a);
  s.hub.close_channel(a);
  CHECK(s.closed(ka));
  CHECK(s.closed(kab));
  CHECK(s.peer(kab).why == sse::close_reason::channel);
  CHECK_FALSE(s.closed(kc));
  CHECK(!s.hub.find_channel("a"));
  s.at(10'000);
  CHECK(s.take(kc) == ": beat\n\n");
  s.put(c);
  s.put(b);
  s.flush();
  CHECK(s.take(kc) == frames(2, 2));
  CHECK(b.subscribers() == 0);
  CHECK(c.subscribers() == 1);
  std::string names;
  s.hub.for_each_channel([&](sse::channel x) { names += x.name(); });
  CHECK(names.size() == 2);
  s.hub.close_channel(b);
  s.at(20'000);
  CHECK(s.take(kc) == ": beat\n\n");
  s.hub.close_channel(c);
  CHECK(s.hub.sessions() == 0);
  CHECK(s.hub.next_deadline() == sse::time_point::never());
  CHECK(s.open("a").subscribers() == 0);
}
