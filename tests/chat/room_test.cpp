// The chat itself: one connection of a user in a room, with several kinds of data.
#include <string>

#include "catch.hpp"
#include "chat/presence.hpp"
#include "common/json.hpp"
#include "stand.hpp"

using namespace test;

TEST_CASE("A-29 one connection carries messages, presence, typing, hints and broadcasts") {
  stand s;
  client ann = s.stream("/chat?room=general&user=ann&presence=1");
  CHECK(data_of(ann) ==
        R"({"type":"presence","rooms":[{"room":"general","users":["ann"]}],"complete":true})");
  CHECK(timeless(data_of(ann)) ==
        R"({"type":"presence","changes":[{"room":"general","user":"ann","present":true}]})");
  s.form("/chat/send", "user=bob&room=general&message=hi");
  CHECK(data_of(ann).find(R"({"type":"chat_message","user":"bob")") == 0);
  CHECK(timeless(data_of(ann)) == R"({"type":"activity","room":"general"})");
  CHECK(s.form("/chat/typing", "user=bob&room=general").body == "Typing sent");
  CHECK(timeless(data_of(ann)) == R"({"type":"typing","user":"bob","room":"general"})");
  s.form("/send-alert", "type=disk&message=full");
  CHECK(data_of(ann).find(R"({"type":"alert")") == 0);
}

TEST_CASE("users come and go by room, with their first connection and their last") {
  stand s;
  client ann = s.stream("/chat?room=general&user=ann&presence=1");
  (void)ann.frame();
  (void)ann.frame();
  client bob = s.stream("/chat?room=other&user=bob&presence=1");
  client bob_again = s.stream("/chat?room=other&user=bob&presence=1");
  CHECK(timeless(data_of(ann)) ==
        R"({"type":"presence","changes":[{"room":"other","user":"bob","present":true}]})");
  CHECK(data_of(bob_again) == R"({"type":"presence","rooms":[{"room":"general","users":["ann"]},)"
                              R"({"room":"other","users":["bob"]}],"complete":true})");
  bob.close();
  client stranger = s.stream("/chat?room=general&user=eve");  // a plain reader
  bob_again.close();
  CHECK(timeless(data_of(ann)) ==
        R"({"type":"presence","changes":[{"room":"other","user":"bob","present":false}]})");
  s.post("/send", to_all(R"({"end":1})"));
  CHECK(data_of(ann) == R"({"end":1})");
  CHECK(data_of(stranger) == R"({"end":1})");
}

TEST_CASE("typing is seen in its room only, hints everywhere, and neither is replayed") {
  stand s;
  client ann = s.stream("/chat?room=general&user=ann&presence=1");
  client bob = s.stream("/chat?room=other&user=bob&presence=1");
  (void)ann.until("\"user\":\"bob\",\"present\":true");
  (void)ann.frame();
  (void)bob.until("\"user\":\"bob\",\"present\":true");
  (void)bob.frame();
  s.form("/chat/typing", "user=ann&room=general");
  s.form("/chat/send", "user=ann&room=general&message=m");
  CHECK(data_of(ann).find("typing") != std::string::npos);
  CHECK(timeless(data_of(bob)) == R"({"type":"activity","room":"general"})");
  client later = s.stream("/chat?room=general&last_id=0");
  CHECK(data_of(later).find("chat_message") != std::string::npos);
  s.post("/send", to_all(R"({"end":1})"));
  CHECK(data_of(later) == R"({"end":1})");
}

TEST_CASE("unregistering /chat with users in it is safe, and they are gone afterwards") {
  stand s;
  client ann = s.stream("/chat?room=general&user=ann&presence=1");
  client bob = s.stream("/chat?room=general&user=bob&presence=1");
  CHECK(s.del("/streams?path=/chat").status == 200);
  (void)ann.rest();
  (void)bob.rest();
  CHECK(s.post("/streams", R"({"path":"/chat"})").status == 201);
  client eve = s.stream("/chat?room=x&user=eve&presence=1");
  CHECK(data_of(eve) ==
        R"({"type":"presence","rooms":[{"room":"x","users":["eve"]}],"complete":true})");
}

TEST_CASE("a list of users that is too long says so") {
  chat::presence p;
  for (int i = 0; i < 20'000; ++i) CHECK(p.enter("room", "user" + std::to_string(i)));
  CHECK_FALSE(p.enter("room", "user1"));
  CHECK(p.users("room") == 20'000);
  const std::string json = p.everybody();
  CHECK(json.size() < 2 * chat::presence::max_snapshot);
  examples::json_document doc;
  CHECK(doc.parse(json) == examples::json_result::object);
  CHECK(json.ends_with(R"("complete":false})"));
  CHECK_FALSE(p.leave("room", "user1"));
  CHECK(p.leave("room", "user1"));
  CHECK_FALSE(p.leave("room", "user1"));
  CHECK_FALSE(p.leave("nowhere", "user1"));
  CHECK(p.users("room") == 19'999);
}

TEST_CASE("the page and what it needs") {
  stand s;
  const answer page = s.get("/");
  CHECK(page.status == 200);
  CHECK(page.header("Content-Security-Policy").find("default-src 'none'") == 0);
  CHECK(page.body.find("/live.js") != std::string::npos);
  CHECK(s.get("/live.js").status == 200);
  CHECK(s.get("/style.css").status == 200);
  CHECK(s.get("/health").body == R"({"ok":true})");
  CHECK(s.get("/metrics").body.find("sessions") != std::string::npos);
  CHECK(page.header("Access-Control-Allow-Origin").empty());
}

TEST_CASE("a crowd that joins at once is one event, and who comes and goes in it is none") {
  chat::presence p;
  CHECK(p.changes("t").empty());
  CHECK(p.enter("a", "ann"));
  CHECK(p.enter("a", "bob"));
  CHECK(p.leave("a", "bob"));
  CHECK(p.enter("b", "eve"));
  CHECK(p.changes("t") ==
        R"({"type":"presence","changes":[{"room":"a","user":"ann","present":true},)"
        R"({"room":"b","user":"eve","present":true}],"timestamp":"t"})");
  CHECK(p.changes("t").empty());
  CHECK(p.leave("a", "ann"));
  CHECK(
      p.changes("t") ==
      R"({"type":"presence","changes":[{"room":"a","user":"ann","present":false}],"timestamp":"t"})");
}

TEST_CASE("X-25 pages of other sites send nothing, be it by the GET of a picture") {
  stand s;
  client events = s.stream("/events");
  constexpr std::string_view theirs = "Origin: https://evil.example\r\n";
  CHECK(s.post("/send", to_all("{}"), theirs).status == 403);
  CHECK(s.post("/trigger", "", "Origin: null\r\n").status == 403);
  CHECK(s.get("/broadcast-data?sensor=x", "Sec-Fetch-Site: cross-site\r\n").status == 403);
  CHECK(s.get("/broadcast-data?sensor=x", theirs).status == 403);
  CHECK(client{s.port()}.ask("GET /events HTTP/1.1\r\nHost: rebound.example\r\n\r\n").status ==
        403);
  CHECK(s.get("/broadcast-data?sensor=x", "Sec-Fetch-Site: same-origin\r\n").status == 200);
  CHECK(data_of(events).find("\"x\"") != std::string::npos);
}
