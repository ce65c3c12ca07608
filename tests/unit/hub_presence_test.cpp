// How they leave: revocation, presence, the hooks that tell of it.
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <sse/sse.hpp>

#include "caps_stage.hpp"
#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::close_reason;
using test::closed_for;
using test::frame;
using test::frames;
using test::quiet;
using test::stage;

}  // namespace

// --- revoke ---

TEST_CASE("revoke takes effect before the next byte, for all streams of that user and nobody else",
          "[admission]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto a1 = s.join(c, {.key = "ann"});
  const auto a2 = s.join(c, {.key = "ann", .window = 7});
  const auto bob = s.join(c, {.key = "bob"});
  s.put(c);
  s.flush();
  s.take(a1);
  s.take(a2);
  s.put(c);  // published, not yet sent
  REQUIRE(s.hub.send(a1.id, {.data = "private"}) == sse::publish_error::none);
  CHECK(s.hub.revoke("ann") == 2);
  CHECK(s.hub.revoke("ann") == 0);
  CHECK(s.hub.revoke("nobody") == 0);
  s.flush();
  s.hub.writable(a2.id);
  s.flush();
  CHECK(s.take(a1).empty());
  CHECK(s.take(a2).empty());
  CHECK(s.closed(a1));
  CHECK(s.peer(a2).why == close_reason::revoked);
  CHECK(s.take(bob) == frames(1, 2));
  CHECK(closed_for(s, close_reason::revoked) == 2);
  CHECK(s.hub.user_sessions("ann") == 0);
  CHECK(s.join(c, {.key = "ann"}));  // whether ann may come back is the hook's affair
}

// --- presence and hooks ---

TEST_CASE("presence: a user's first stream on a channel and the last one, whatever is between",
          "[admission][presence]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  std::string log;
  s.hub.on_presence([&](sse::channel c, std::string_view key, bool present) {
    log.append(key).append(present ? "+" : "-").append(c.name()).append(" ");
  });
  const auto told = [&] { return std::exchange(log, {}); };
  const auto k1 = s.join(a, {.key = "ann"});
  CHECK(told() == "ann+a ");
  const auto k2 = s.join({.key = "ann"}, {a, b});
  CHECK(told() == "ann+b ");
  const auto k3 = s.join(a, {.key = "bob"});
  CHECK(told() == "bob+a ");
  const auto anonymous = s.join(a);
  CHECK(told().empty());
  REQUIRE(a.publish({.data = "t"},
                    {.transient = true}));  // a second stream inside the channel: nobody's business
  s.flush();
  CHECK(told().empty());
  s.hub.closed(k1.id);
  CHECK(told().empty());
  s.hub.closed(k2.id);
  const std::string both = told();
  CHECK((both == "ann-a ann-b " || both == "ann-b ann-a "));
  s.hub.closed(anonymous.id);
  CHECK(told().empty());
  CHECK(s.hub.revoke("bob") == 1);
  CHECK(told() == "bob-a ");
  const auto again = s.join(a, {.key = "bob"});
  CHECK(told() == "bob+a ");
  s.hub.close_channel(a);
  CHECK(told() == "bob-a ");
  CHECK(s.closed(again));
  CHECK(s.closed(k3));
}

TEST_CASE("presence: two streams of one user that end in the same walk are one leaving",
          "[admission][presence]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  int balance = 0;
  int calls = 0;
  s.hub.on_presence([&](sse::channel, std::string_view, bool present) {
    balance += present ? 1 : -1;
    ++calls;
  });
  const auto a = s.join(c, {.key = "ann"});
  const auto b = s.join(c, {.key = "ann"});
  s.peer(a).fails = true;
  s.peer(b).fails = true;
  s.put(c);
  s.flush();
  CHECK(s.hub.sessions() == 0);
  CHECK(balance == 0);
  CHECK(calls == 2);
}

TEST_CASE("N-19 presence hooks may publish: the others hear of it", "[admission][presence]") {
  stage s;
  sse::channel room = s.open("room", quiet());
  s.hub.on_presence([&](sse::channel c, std::string_view key, bool present) {
    const std::string data(key);
    (void)c.publish({.type = present ? "user-joined" : "user-left", .data = data},
                    {.transient = true});
  });
  const auto ann = s.join(room, {.key = "ann"});
  s.flush();
  s.take(ann);
  const auto bob = s.join(room, {.key = "bob"});
  s.flush();
  CHECK(s.take(ann) == frame(0, "user-joined", "bob"));
  s.hub.closed(bob.id);
  s.flush();
  CHECK(s.take(ann) == frame(0, "user-left", "bob"));
  s.peer(ann).fails = true;
  REQUIRE(room.publish({.data = "x"}));
  s.flush();
  s.flush();
  CHECK(s.hub.sessions() == 0);
}

TEST_CASE("hooks: opened may send at once, closed finds the slots free", "[admission]") {
  struct user {
    std::string name;
  };
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport, user> hub{
      net, test::without_position({.caps = {.per_user = {.max = 1}}})};
  sse::channel c = hub.open_channel("c", quiet());
  REQUIRE(c);
  std::string log;
  hub.on_opened([&](sse::session_id id, const user& u) {
    log += "+" + u.name;
    CHECK(hub.send(id, {.type = "hello", .data = u.name}) == sse::publish_error::none);
    CHECK(c.publish({.data = "joined"}));
  });
  hub.on_closed([&](sse::session_id id, const user& u, close_reason why) {
    log += "-" + u.name + ":" + std::string(to_string(why));
    CHECK_FALSE(hub.alive(id));
    CHECK(hub.user_sessions("key") == 0);
    CHECK(hub.sessions() == 0);
    CHECK(c.subscribers() == 0);
    CHECK(hub.send(id, {.data = "too late"}) == sse::publish_error::no_session);
    CHECK(c.publish({.data = "left"}));
  });
  const std::size_t peer = net.connect();
  const auto r = hub.accept({peer}, {.preamble = "HEAD"}, sse::admit(user{"ann"}, "key").join(c));
  REQUIRE(r);
  CHECK(net.at(peer).received == "HEAD" + frame(0, "hello", "ann") + frame(1, "", "joined"));
  REQUIRE(hub.user(r.id) != nullptr);
  CHECK(hub.user(r.id)->name == "ann");
  CHECK(hub.find(r.id)->index == peer);
  hub.close(r.id);
  CHECK(log == "+ann-ann:host");
  CHECK(hub.user(r.id) == nullptr);
}

TEST_CASE("hooks: the hub's end tells of each session", "[admission]") {
  sse::testing::memory_transport net;
  int ended = 0;
  {
    sse::hub<sse::testing::memory_transport> hub{net};
    hub.on_closed([&](sse::session_id, const sse::no_user&, close_reason why) {
      ended += why == close_reason::host;
    });
    sse::channel c = hub.open_channel("c", quiet());
    REQUIRE(c);
    for (int i = 0; i < 10; ++i) REQUIRE(hub.accept({net.connect()}, {}, sse::admit("u").join(c)));
  }
  CHECK(ended == 10);
}

TEST_CASE("hooks own what they capture, however large, and can be replaced", "[admission]") {
  struct watched {
    int* alive;
    char weight[100] = {};
    explicit watched(int* n) : alive{n} { ++*alive; }
    watched(watched&& o) noexcept : alive{o.alive} { ++*alive; }
    watched(const watched&) = delete;
    ~watched() { --*alive; }
  };
  int alive = 0;
  {
    stage s;
    sse::channel c = s.open("c", quiet());
    s.hub.on_admit([&c, w = watched{&alive}](const sse::request&) -> sse::verdict<> {
      return *w.alive > 0 ? sse::admit().join(c) : sse::verdict<>{sse::refuse(500)};
    });
    CHECK(alive == 1);
    CHECK(s.request({}));
    s.hub.on_admit([&c, small = static_cast<char>(1)](const sse::request&) -> sse::verdict<> {
      return small == 1 ? sse::admit().join(c) : sse::verdict<>{sse::refuse(500)};
    });
    CHECK(alive == 0);
    CHECK(s.request({}));
    s.hub.on_admit({});
    CHECK(s.request({}).refusal.status == 403);
    s.hub.on_gap([w = watched{&alive}](const sse::gap_notice&) {});
  }
  CHECK(alive == 0);
  sse::function<int(int)> f;
  CHECK_FALSE(f);
  f = [](int x) { return x + 1; };
  sse::function<int(int)> g{std::move(f)};
  CHECK_FALSE(f);
  CHECK(g(4) == 5);
  auto& self = g;
  g = std::move(self);
  CHECK(g(5) == 6);
}
