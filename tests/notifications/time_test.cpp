// What happens in time and inside the hub: heartbeats, idle, expiry, caps, audiences, presence.
#include <string>
#include <vector>

#include "catch.hpp"
#include "stage.hpp"

using namespace test;

namespace {

constexpr std::int64_t second = 1000;
constexpr std::int64_t minute = 60 * second;

/// Signed (by Python) with "a secret of at least thirty-two bytes": sub ada, which ends 60 s after
/// stage::start_ms, and sub bob, an hour after it.
const std::string signed_60s =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjE3MDAwMDAwNjB9.3p3dgU9g5m"
    "l_L8GOOLf13021KFJn3b-72a8Jv6sTVOY";
const std::string signed_hour =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJib2IiLCJleHAiOjE3MDAwMDM2MDB9.1yTEFK8d32"
    "9kwTGPmOz2vLLHYpxhOppYnegBII4NzD0";

}  // namespace

TEST_CASE("N-26 the system stream has a heartbeat event every 30 s") {
  stage s;
  const auto c = s.open(stream_kind::system, "");
  s.advance(29 * second + 999);
  CHECK(count(s.seen(c), "event: heartbeat\n") == 0);
  s.advance(1, 1);
  CHECK(count(s.seen(c), "event: heartbeat\n") == 1);
  s.advance(60 * second);
  CHECK(count(s.seen(c), "event: heartbeat\n") == 3);
  CHECK(
      s.seen(c).find("event: heartbeat\ndata: {\"timestamp\":\"2023-11-14T22:13:50.000Z\"}\n\n") !=
      std::string::npos);
  CHECK(s.seen(c).find(": keep-alive") == std::string::npos);
}

TEST_CASE("N-26 X-28 the other streams have a comment every 30 s, which has no id") {
  stage s;
  for (const stream_kind kind :
       {stream_kind::notifications, stream_kind::realtime, stream_kind::chat}) {
    const auto c = s.open(kind, ada);
    s.advance(29 * second + 999);
    CHECK(s.seen(c).empty());
    s.advance(1, 1);
    CHECK(s.take(c) == ": keep-alive\n\n");
    s.advance(60 * second);
    CHECK(s.take(c) == ": keep-alive\n\n: keep-alive\n\n");
  }
}

TEST_CASE("N-23 the status comes at once and every 5 s, and is never replayed") {
  stage s;
  const auto c = s.open(stream_kind::system, "");
  CHECK(s.seen(c).starts_with("event: status\ndata: {\"status\":\"healthy\",\"uptime\":0,"));
  (void)s.take(c);
  s.advance(4999);
  CHECK(s.seen(c).empty());
  s.advance(1, 1);
  CHECK(s.take(c).starts_with("event: status\ndata: {\"status\":\"healthy\",\"uptime\":5,"));
  s.advance(20 * second);
  CHECK(count(s.take(c), "event: status\n") == 4);
  const auto late = s.open(stream_kind::system, "", "&last_id=0");
  CHECK(count(s.seen(late), "event: status\n") == 1);
}

TEST_CASE("N-33 a stream without an application event for 5 min ends, heartbeats or not") {
  stage s;
  for (const stream_kind kind :
       {stream_kind::notifications, stream_kind::realtime, stream_kind::chat}) {
    const auto c = s.open(kind, ada);
    s.advance(4 * minute + 59 * second);
    CHECK_FALSE(s.closed(c));
    s.advance(second);
    CHECK(s.closed(c));
    CHECK(s.peer(c).why == sse::close_reason::idle);
    const std::string got = s.seen(c);
    CHECK(count(got, ": keep-alive\n\n") == 9);
    CHECK(got.substr(0, got.rfind("retry: ")).ends_with("keep-alive\n\n"));
    CHECK(got.ends_with("\n\n"));
  }
}

TEST_CASE("fault: a notification in the pause after an idle end arrives, though none came before") {
  stage s{with_rooms(), true};
  const auto c = s.open(stream_kind::notifications, bob);
  s.advance(5 * minute);
  REQUIRE(s.closed(c));
  const std::string got = s.seen(c);
  REQUIRE(got.starts_with("id: "));
  const std::uint64_t id = std::stoull(got.substr(4));
  CHECK(s.notify(ada, "for bob", "bob") == 200);
  const auto back = s.open(stream_kind::notifications, bob, "", id);
  CHECK(count(s.seen(back), "event: notification\n") == 1);
}

TEST_CASE("N-33 the status keeps the system stream open, and idle can be off or shorter") {
  stage s;
  const auto system = s.open(stream_kind::system, "");
  s.advance(10 * minute);
  CHECK_FALSE(s.closed(system));
  notifications::settings o;
  o.idle = sse::duration::off();
  stage off{o};
  const auto c = off.open(stream_kind::chat, ada);
  off.advance(24 * 60 * minute, minute);
  CHECK_FALSE(off.closed(c));
  o.idle = sse::duration::seconds(10);
  stage brief{o};
  const auto b = brief.open(stream_kind::chat, ada);
  brief.advance(10 * second);
  CHECK(brief.closed(b));
}

TEST_CASE("N-34 an event puts the idle end off, one that it may not see does not") {
  stage s;
  const auto c = s.open(stream_kind::notifications, ada);
  const auto other = s.open(stream_kind::notifications, bob);
  s.advance(4 * minute);
  CHECK(s.notify(bob, "t", "ada") == 200);
  s.advance(minute);
  CHECK(s.closed(other));
  s.advance(3 * minute + 59 * second);
  CHECK_FALSE(s.closed(c));
  s.advance(second);
  CHECK(s.closed(c));
}

TEST_CASE("N-39 after a server's close every reconnect of a backing-off client is served at once") {
  stage s;
  const auto first = s.open(stream_kind::notifications, ada);
  s.advance(5 * minute);
  REQUIRE(s.closed(first));
  for (const std::int64_t wait : {1, 2, 4, 8, 16, 30, 30}) {
    s.advance(wait * second);
    const auto again = s.open(stream_kind::notifications, ada);
    CHECK(again.status == 200);
    s.hub().closed(again.id);
  }
  CHECK(s.hub().sessions() == 0);
}

TEST_CASE("X-21 N-19 a stream ends when its token does, before another byte") {
  if (!notifications::has_jwt()) return;
  notifications::settings o = with_rooms();
  o.token_secret = "a secret of at least thirty-two bytes";
  stage s{o};
  const auto brief = s.open(stream_kind::chat, signed_60s, "&room=general");
  const auto other = s.open(stream_kind::chat, signed_hour);
  const auto combined = s.open(stream_kind::all, signed_60s);
  REQUIRE(brief.status == 200);
  REQUIRE(other.status == 200);
  CHECK(s.open(stream_kind::chat, ada).status == 401);  // a demo token
  CHECK(s.say(signed_hour, "general", "before") == 200);
  CHECK(s.take(brief).find("before") != std::string::npos);
  s.advance(59 * second + 999);
  CHECK_FALSE(s.closed(brief));
  (void)s.take(brief);
  (void)s.take(other);
  SECTION("by the clock") {
    s.advance(1, 1);
    CHECK(s.closed(brief));
    CHECK(s.closed(combined));
    CHECK(count(s.take(other), "event: user-left\n") == 1);
    CHECK(s.say(signed_hour, "general", "after") == 200);
  }
  SECTION("an event comes before the clock is looked at") {
    s.skip(1);
    CHECK(s.say(signed_hour, "general", "after") == 200);
    CHECK(s.notify(signed_hour, "after") == 200);
    CHECK(s.take(combined).find("after") == std::string::npos);
  }
  CHECK(s.seen(brief).empty());
  CHECK(s.take(other).find("after") != std::string::npos);
  CHECK_FALSE(s.closed(other));
  CHECK(s.open(stream_kind::chat, signed_60s).status == 401);
  CHECK(s.say(signed_60s, "general", "late") == 401);
}

TEST_CASE("N-16 X-09 a stream of one room gets that room, and no byte of another") {
  stage s;
  const auto c = s.open(stream_kind::chat, ada, "&room=general");
  CHECK(s.say(bob, "other", "x") == 200);
  CHECK(s.say(ada, "secret", "x") == 200);
  CHECK(s.seen(c).empty());
  CHECK(s.say(bob, "general", "x") == 200);
  CHECK(count(s.take(c), "\n\n") == 1);
}

TEST_CASE(
    "N-17 N-18 a stream without a room gets every room that its user may enter, replays too") {
  stage s;
  const auto a = s.open(stream_kind::chat, ada);
  const auto b = s.open(stream_kind::chat, bob);
  CHECK(s.say(ada, "secret", "hidden") == 200);
  CHECK(s.say(ada, "general", "open") == 200);
  CHECK(s.say(ada, "other", "open") == 200);
  CHECK(count(s.seen(a), "event: message\n") == 3);
  CHECK(count(s.seen(b), "event: message\n") == 2);
  CHECK(s.seen(b).find("hidden") == std::string::npos);
  const auto replay = s.open(stream_kind::chat, bob, "&last_id=0");
  CHECK(s.seen(replay) == s.seen(b));
  CHECK(s.seen(s.open(stream_kind::chat, ada, "&last_id=0")) == s.seen(a));
}

TEST_CASE("N-18 a private room is closed to others, for reading and for writing") {
  stage s;
  CHECK(s.open(stream_kind::chat, bob, "&room=secret").status == 403);
  CHECK(s.open(stream_kind::all, bob, "&enter=secret").status == 403);
  CHECK(s.open(stream_kind::chat, demo, "&room=secret").status == 403);  // an admin neither
  CHECK(s.open(stream_kind::chat, ada, "&room=secret").status == 200);
  CHECK(s.say(bob, "secret", "x") == 403);
  CHECK(s.post(&notifications::desk::typing, bob, R"({"roomId":"secret"})") == 403);
  CHECK(s.hub().sessions() == 1);
  CHECK(s.hub().find_channel("chat").stats().published == 1);  // ada's user-joined
}

TEST_CASE("N-19 the first stream in a room tells the others, and the last one that leaves") {
  stage s;
  const auto b = s.open(stream_kind::chat, bob, "&room=general");
  const auto everywhere = s.open(stream_kind::chat, demo);
  const auto elsewhere = s.open(stream_kind::chat, demo, "&room=other");
  (void)s.take(everywhere);
  CHECK(s.seen(b).empty());  // a joiner does not see its own join
  const auto one = s.open(stream_kind::chat, ada, "&room=general");
  const std::string joined =
      "event: user-joined\ndata: {\"roomId\":\"general\",\"userId\":\"ada\",\"username\":\"Ada\","
      "\"timestamp\":\"2023-11-14T22:13:20.000Z\"}\n\n";
  CHECK(s.take(b) == joined);
  CHECK(s.take(everywhere) == joined);
  const auto two = s.open(stream_kind::chat, ada, "&room=general");
  const auto whole = s.open(stream_kind::chat, ada);  // enters no room
  CHECK(s.seen(b).empty());
  s.hub().closed(one.id);
  s.hub().flush();
  CHECK(s.seen(b).empty());
  s.hub().closed(two.id);
  s.hub().flush();
  CHECK(
      s.take(b).starts_with("event: user-left\ndata: {\"roomId\":\"general\",\"userId\":\"ada\""));
  s.hub().closed(whole.id);
  s.hub().flush();
  CHECK(s.seen(b).empty());
  CHECK(s.seen(one).empty());
  CHECK(s.seen(two).empty());
  CHECK(s.seen(elsewhere).empty());
}

TEST_CASE("N-19 who enters a private room is told to its members only, and never replayed") {
  stage s;
  const auto b = s.open(stream_kind::chat, bob);
  const auto a = s.open(stream_kind::chat, ada, "&room=secret");
  CHECK(s.seen(b).empty());
  CHECK(s.seen(s.open(stream_kind::chat, ada, "&last_id=0")).empty());
  s.hub().closed(a.id);
  s.hub().flush();
  CHECK(s.seen(b).empty());
}

TEST_CASE(
    "N-41 a notification for one user goes to all of that user's streams and to nobody else") {
  stage s;
  const auto a1 = s.open(stream_kind::notifications, ada);
  const auto a2 = s.open(stream_kind::notifications, ada);
  const auto b1 = s.open(stream_kind::notifications, bob);
  const auto b2 = s.open(stream_kind::notifications, bob);
  CHECK(s.notify(ada, "for bob", "bob") == 200);
  CHECK(s.seen(a1).empty());
  CHECK(s.seen(a2).empty());
  const std::string got = s.take(b1);
  CHECK(count(got, "event: notification\n") == 1);
  CHECK(got.find("\"userId\":\"bob\"}") != std::string::npos);
  CHECK(s.take(b2) == got);
  // What is replayed keeps to it.
  CHECK(s.seen(s.open(stream_kind::notifications, ada, "&last_id=0")).empty());
  CHECK(s.seen(s.open(stream_kind::notifications, bob, "&last_id=0")) == got);
  // Without a target it is everybody's, and the sender is in it.
  CHECK(s.notify(ada, "for all") == 200);
  CHECK(s.take(a1).find("\"userId\":\"ada\"}") != std::string::npos);
  CHECK(count(s.take(b1), "for all") == 1);
}

TEST_CASE("N-41 the target may stand in the query, and must be one user") {
  stage s;
  const auto a = s.open(stream_kind::notifications, ada);
  const auto b = s.open(stream_kind::notifications, bob);
  const auto send = [&](const std::string& query, const std::string& body) {
    const std::string value = "Bearer " + ada;
    const sse::header header{"Authorization", value};
    sse::request r{.method = "POST", .query = query};
    r.headers = {&header, 1};
    const int status = s.desk().send_notification(r, body).status;
    s.hub().flush();
    return status;
  };
  CHECK(send("targetUserId=bob", R"({"title":"t","message":"m"})") == 200);
  CHECK(send("targetUserId=bob", R"({"title":"t","message":"m","userId":"bob"})") == 200);
  CHECK(send("targetUserId=bob", R"({"title":"t","message":"m","userId":"ada"})") == 400);
  CHECK(send("targetUserId=", R"({"title":"t","message":"m"})") == 400);
  CHECK(send("targetUserId=%zz", R"({"title":"t","message":"m"})") == 400);
  CHECK(send("", R"({"title":"t","message":"m","userId":""})") == 400);
  CHECK(send("", R"({"title":"t","message":"m","userId":7})") == 400);
  CHECK(send("", R"({"title":"t","message":"m","userId":"a\u0000b"})") == 400);
  CHECK(count(s.seen(b), "event: notification\n") == 2);
  CHECK(s.seen(a).empty());
  CHECK(send("", R"({"title":"t","message":"m","userId":null})") == 200);
  CHECK(count(s.seen(a), "event: notification\n") == 1);
}

TEST_CASE("N-40 each stream has its own events only, live and replayed") {
  stage s;
  const auto all = [&](const std::string& query) {
    return std::vector<stage::opened>{
        s.open(stream_kind::notifications, ada, query), s.open(stream_kind::realtime, ada, query),
        s.open(stream_kind::chat, ada, query), s.open(stream_kind::system, "", query)};
  };
  const auto live = all("");
  using d = notifications::desk;
  CHECK(s.notify(ada, "t") == 200);
  CHECK(s.post(&d::send_update, ada, R"({"entityType":"e","entityId":"1","action":"updated"})") ==
        200);
  CHECK(s.say(ada, "general", "m") == 200);
  CHECK(s.post(&d::typing, ada, R"({"roomId":"general"})") == 200);
  CHECK(s.post(&d::maintenance, demo, R"({"message":"m"})") == 200);
  const auto names = [&](const stage::opened& c) {
    std::string out;
    const std::string got = s.take(c);
    for (std::size_t at = 0; (at = got.find("event: ", at)) != std::string::npos; ++at)
      out += got.substr(at + 7, got.find('\n', at) - at - 7) + " ";
    return out;
  };
  CHECK(names(live[0]) == "notification ");
  CHECK(names(live[1]) == "update ");
  CHECK(names(live[2]) == "message typing ");
  CHECK(names(live[3]) == "status maintenance ");
  for (std::size_t i = 0; i < 3; ++i) s.hub().closed(live[i].id);
  const auto replay = all("&last_id=0");
  CHECK(names(replay[0]) == "notification ");
  CHECK(names(replay[1]) == "update ");
  CHECK(names(replay[2]) == "message ");
  CHECK(names(replay[3]) == "status maintenance ");
}

TEST_CASE(
    "N-28 N-29 N-30 N-37 five streams of a user, of whatever kind, and the sixth is refused") {
  stage s;
  CHECK(s.open(stream_kind::notifications, ada).status == 200);
  CHECK(s.open(stream_kind::notifications, ada).status == 200);
  CHECK(s.open(stream_kind::realtime, ada).status == 200);
  CHECK(s.open(stream_kind::realtime, ada).status == 200);
  CHECK(s.open(stream_kind::chat, ada).status == 200);
  for (const stream_kind kind :
       {stream_kind::notifications, stream_kind::realtime, stream_kind::chat, stream_kind::all}) {
    const auto sixth = s.open(kind, ada);
    CHECK(sixth.status == 429);
    CHECK(sixth.body == R"({"error":"too_many_streams"})");
    CHECK(sixth.headers.find("Retry-After: ") != std::string::npos);
  }
  CHECK(s.open(stream_kind::chat, bob).status == 200);
  CHECK(s.open(stream_kind::system, "").status == 200);
  CHECK(s.hub().sessions() == 7);
}

TEST_CASE("N-19 N-28 a refused stream has entered no room") {
  stage s;
  const auto b = s.open(stream_kind::chat, bob, "&room=general");
  for (int i = 0; i < 5; ++i) CHECK(s.open(stream_kind::notifications, ada).status == 200);
  CHECK(s.open(stream_kind::chat, ada, "&room=general").status == 429);
  CHECK(s.seen(b).empty());
}

TEST_CASE("N-31 N-19 a failed write and a server's close give the slot back and leave the room") {
  stage s;
  const auto b = s.open(stream_kind::chat, bob, "&room=general");
  std::vector<stage::opened> mine;
  for (int i = 0; i < 5; ++i) mine.push_back(s.open(stream_kind::chat, ada, "&room=general"));
  CHECK(s.open(stream_kind::chat, ada).status == 429);
  SECTION("a write fails") {
    s.peer(mine[0]).fails = true;
    CHECK(s.say(bob, "general", "x") == 200);
  }
  SECTION("the server closes") { s.hub().close(mine[0].id); }
  SECTION("the peer closes") { s.hub().closed(mine[0].id); }
  SECTION("idle") {
    s.advance(4 * minute);
    s.peer(mine[0]).fails = false;
    for (std::size_t i = 1; i < 5; ++i) s.hub().closed(mine[i].id);
    s.advance(minute);
    CHECK(s.closed(mine[0]));
  }
  CHECK(s.open(stream_kind::chat, ada).status == 200);
}

TEST_CASE("a stream that resumes gets what it may see of what it missed, once") {
  stage s;
  CHECK(s.notify(ada, "one") == 200);
  const std::uint64_t first = s.hub().find_channel("notifications").last_id();
  CHECK(s.notify(ada, "two", "bob") == 200);
  CHECK(s.notify(ada, "three") == 200);
  const auto c = s.open(stream_kind::notifications, ada, "", first);
  CHECK(s.seen(c).find("two") == std::string::npos);
  CHECK(count(s.seen(c), "event: notification\n") == 1);
  CHECK(s.open(stream_kind::notifications, ada, "&last_id=x").status == 400);
}

TEST_CASE("the combined stream has all four, rising, and enters a room if asked") {
  stage s;
  const auto b = s.open(stream_kind::chat, bob, "&room=general");
  const auto c = s.open(stream_kind::all, ada, "&enter=general");
  CHECK(s.seen(c).starts_with("event: status\n"));
  CHECK(s.take(b).starts_with("event: user-joined\n"));
  using d = notifications::desk;
  CHECK(s.say(bob, "other", "m") == 200);
  CHECK(s.notify(bob, "t") == 200);
  CHECK(s.post(&d::send_update, bob, R"({"entityType":"e","entityId":"1","action":"deleted"})") ==
        200);
  CHECK(s.post(&d::maintenance, demo, R"({"message":"m"})") == 200);
  const std::string got = s.take(c);
  const std::size_t at[] = {got.find("event: message\n"), got.find("event: notification\n"),
                            got.find("event: delete\n"), got.find("event: maintenance\n")};
  CHECK(at[0] < at[1]);
  CHECK(at[1] < at[2]);
  CHECK(at[2] < at[3]);
  CHECK(at[3] != std::string::npos);
  CHECK(s.open(stream_kind::all, ada, "&enter=").status == 400);
  CHECK(s.open(stream_kind::all, "").status == 401);
}

TEST_CASE("names of events follow type and action") {
  using notifications::notification_name;
  using notifications::update_name;
  CHECK(notification_name("info") == "notification");
  CHECK(notification_name("system") == "system-notification");
  CHECK(notification_name("error") == "error-notification");
  CHECK(notification_name("warning") == "error-notification");
  CHECK(notification_name("System") == "notification");
  CHECK(update_name("created") == "create");
  CHECK(update_name("updated") == "update");
  CHECK(update_name("deleted") == "delete");
  CHECK(update_name("archived") == "status-change");
  CHECK(notifications::iso_time(1'700'000'000'007) == "2023-11-14T22:13:20.007Z");
}

TEST_CASE("private rooms are read from ROOM:USER,USER") {
  notifications::private_rooms rooms;
  CHECK(notifications::add_private_room("a:x,y", rooms));
  CHECK(notifications::add_private_room("a:z", rooms));
  CHECK(notifications::add_private_room("b c:x", rooms));
  CHECK(rooms.size() == 2);
  CHECK(rooms["a"].size() == 3);
  for (const char* bad : {"", "a", "a:", ":x", "d:,x", "d:x,,y", "d\n:x"}) {
    CAPTURE(bad);
    CHECK_FALSE(notifications::add_private_room(bad, rooms));
  }
}
