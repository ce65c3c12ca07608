// The stream of entries and its neighbours over real sockets: heads, fan-out, CORS, tokens, chat.
#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "common/json.hpp"
#include "running.hpp"

using namespace test;

namespace {

std::string entry_of(const std::string& message, const std::string& agent = {}) {
  return R"({"level":"info","component":"registry","message":")" + message + "\"" +
         (agent.empty() ? "" : R"(,"agent":")" + agent + "\"") + "}";
}

logs::settings with_token() {
  logs::settings s;
  s.common.token = "secret-token";
  return s;
}

}  // namespace

TEST_CASE("E-01 E-02 E-03 E-04 E-05 the stream opens before any entry, with these headers") {
  running s;
  client stream{s.port()};
  const answer a = stream.open("/api/logs/stream");
  CHECK(a.head.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(a.header("Content-Type") == "text/event-stream");
  CHECK(a.header("Cache-Control") == "no-cache");
  CHECK(a.header("Connection") == "keep-alive");
  CHECK(a.header("Access-Control-Allow-Origin") == "*");
  CHECK(s.post("/api/logs", entry_of("first")).status == 202);
  CHECK(next_event(stream).data.find("\"first\"") != std::string::npos);  // and it is open still
}

TEST_CASE("E-06 E-07 E-13 what is posted is what is read") {
  running s;
  client stream = s.stream("/api/logs/stream");
  CHECK(s.post("/api/logs", entry_of("one\\ntwo")).body == R"({"ok":true})");
  const std::string frame = stream.frame();
  CHECK(frame.starts_with(R"(data: {"time":")"));
  CHECK(frame.ends_with(R"(","level":"info","component":"registry","message":"one\ntwo"})"));
  CHECK(frame.find('\n') == std::string::npos);
}

TEST_CASE("E-10 E-11 a bad entry is 400 and reaches nobody") {
  running s;
  client stream = s.stream("/api/logs/stream");
  for (const char* bad : {"", "{", "[]", R"({"level":"loud","component":"api","message":"x"})",
                          R"({"level":"info","component":"web","message":"x"})",
                          R"({"level":"info","component":"api"})"}) {
    CAPTURE(bad);
    const answer a = s.post("/api/logs", bad);
    CHECK(a.status == 400);
    CHECK(a.body == R"({"error":"bad_params"})");
  }
  CHECK(s.post("/api/logs", entry_of("good")).status == 202);
  CHECK(next_event(stream).data.find("good") != std::string::npos);
}

TEST_CASE("E-17 two readers get all entries in their order") {
  running s;
  client one = s.stream("/api/logs/stream");
  client two = s.stream("/api/logs/stream");
  client sender{s.port()};
  for (int i = 0; i < 100; ++i)
    REQUIRE(sender.post("/api/logs", entry_of("n" + std::to_string(i) + ".")).status == 202);
  for (int i = 0; i < 100; ++i) {
    const std::string a = next_event(one).data;
    CHECK(a.find("\"n" + std::to_string(i) + ".\"") != std::string::npos);
    CHECK(next_event(two).data == a);
  }
}

TEST_CASE("E-14 E-15 the heartbeat of the running server counts agents") {
  logs::settings settings;
  settings.common.heartbeat = sse::duration::milliseconds(50);
  running s{settings};
  for (const char* name : {"a", "b", "a"})
    REQUIRE(s.post("/api/logs", entry_of("x", name)).status == 202);
  client stream = s.stream("/api/logs/stream");
  CHECK(next_event(stream).data.find("heartbeat: 2 agents online") != std::string::npos);
  CHECK(next_event(stream).data.find("heartbeat: 2 agents online") != std::string::npos);
  CHECK(logs::settings{}.common.heartbeat == sse::duration::seconds(5));
}

TEST_CASE("E-19 HTTP/1.0 and an empty Connection header get the same bytes, without chunks") {
  running s;
  client plain = s.stream("/api/logs/stream", "Connection:\r\n");
  client old{s.port()};
  old.send("GET /api/logs/stream HTTP/1.0\r\nHost: localhost\r\n\r\n");
  const answer head = old.head();
  CHECK(head.status == 200);
  CHECK(head.header("Transfer-Encoding").empty());
  CHECK(s.post("/api/logs", entry_of("x")).status == 202);
  const std::string frame = plain.frame();
  CHECK(frame.starts_with("data: {"));
  CHECK(old.frame() == frame);
}

TEST_CASE("E-20 E-21 the status is a JSON object with these fields") {
  running s;
  const answer a = s.get("/api/status");
  CHECK(a.status == 200);
  CHECK(a.header("Content-Type") == "application/json");
  examples::json_document doc;
  REQUIRE(doc.parse(a.body) == examples::json_result::object);
  CHECK(doc.string("version") == SSEHUB_VERSION);
  for (const char* name : {"uptime", "agents", "models", "memory", "total_cost"}) {
    CAPTURE(name);
    CHECK(doc.integer(name));
  }
  REQUIRE(s.post("/api/logs", entry_of("x", "a")).status == 202);
  CHECK(s.status("agents") == 1);
}

TEST_CASE("E-22 with --cors '*' OPTIONS on any path is 200 and allows any origin") {
  running s{{.common = {.cors = "*"}}};
  for (const char* path : {"/api/logs/stream", "/api/status", "/logs/x", "/nowhere", "/"}) {
    CAPTURE(path);
    client c{s.port()};
    const answer a = c.ask(client::make("OPTIONS", path, "Origin: https://a.example\r\n"));
    CHECK(a.status == 200);
    CHECK(a.header("Access-Control-Allow-Origin") == "*");
    CHECK(a.header("Access-Control-Allow-Methods") == "GET, POST, PUT, DELETE, OPTIONS");
    const std::string headers = a.header("Access-Control-Allow-Headers");
    CHECK(headers.starts_with("Content-Type, Authorization"));
    CHECK(headers.find("Last-Event-ID") != std::string::npos);
  }
  CHECK(s.get("/api/status").header("Access-Control-Allow-Origin") == "*");
  CHECK(s.get("/nowhere").header("Access-Control-Allow-Origin") == "*");
}

TEST_CASE("X-25 every page may read what is public, and write nothing") {
  constexpr std::string_view theirs = "Origin: https://evil.example\r\n";
  logs::settings with_token;
  with_token.common.token = "secret";
  running open;
  running guarded{with_token};
  open.files.append("app.log", "one\n");
  guarded.files.append("app.log", "one\n");
  const auto allowed = [&](const running& s, std::string_view path) {
    client c{s.port()};
    return c.open(path, theirs).header("Access-Control-Allow-Origin");
  };
  CHECK(allowed(open, "/api/logs/stream") == "*");
  CHECK(allowed(open, "/logs/app") == "*");
  CHECK(allowed(guarded, "/logs/app?token=secret").empty());
  CHECK(open.get("/api/deployments").header("Access-Control-Allow-Origin").empty());
  CHECK(client{open.port()}.post("/api/logs", entry_of("x", "a"), theirs).status == 403);
  CHECK(client{open.port()}.post("/deployments", "", theirs).status == 403);
  CHECK(
      client{open.port()}.ask("GET /api/status HTTP/1.1\r\nHost: rebound.example\r\n\r\n").status ==
      403);
}

TEST_CASE("E-23 E-24 another method is 405, an unknown path 404, both plain text") {
  running s;
  const answer method = s.post("/api/logs/stream", "{}");
  CHECK(method.status == 405);
  CHECK(method.header("Content-Type").starts_with("text/plain"));
  CHECK_FALSE(method.header("Allow").empty());
  const answer path = s.get("/api/nothing");
  CHECK(path.status == 404);
  CHECK(path.header("Content-Type").starts_with("text/plain"));
}

TEST_CASE("E-25 a request is an api entry, but for those about entries") {
  running s;
  client stream = s.stream("/api/logs/stream");
  client other = s.stream("/api/logs/stream");  // no entry
  CHECK(s.get("/api/status").status == 200);
  CHECK(s.post("/api/logs", entry_of("posted")).status == 202);  // one entry, not two
  CHECK(s.get("/api/nothing?token=hush").status == 404);
  const auto has = [&](client& c, const std::string& text) {
    const std::string data = next_event(c).data;
    CAPTURE(data);
    CHECK(data.find(text) != std::string::npos);
  };
  for (client* c : {&stream, &other}) {
    has(*c, R"("level":"info","component":"api","message":"GET /api/status 200 )");
    has(*c, R"("component":"registry","message":"posted")");
    has(*c, R"("level":"warn","component":"api","message":"GET /api/nothing?token=*** 404 )");
  }
}

TEST_CASE("E-26 X-20 with a token streams and posts ask for it, in a header or the query") {
  running s{with_token()};
  s.files.append("app.log", "x\n");
  for (const char* path :
       {"/api/logs/stream", "/logs/app", "/api/chat/stream?agent_id=a&message=m"}) {
    CAPTURE(path);
    CHECK(s.get(path).status == 401);
    CHECK(s.get(path, "Authorization: Bearer wrong\r\n").status == 401);
  }
  CHECK(s.post("/api/logs", entry_of("x")).status == 401);
  CHECK(s.post("/deployments").status == 401);
  CHECK(s.get("/api/deployments").status == 401);
  CHECK(s.get("/").body.find("/deployments/app") == std::string::npos);
  const std::string bearer = "Authorization: Bearer secret-token\r\n";
  client by_query = s.stream("/api/logs/stream?token=secret-token");
  client by_header = s.stream("/api/logs/stream", bearer);
  client tail = s.stream("/logs/app?backlog=1&token=secret-token");
  CHECK(next_event(tail).data == "x");
  CHECK(s.post("/api/logs", entry_of("y"), bearer).status == 202);
  CHECK(s.get("/?token=secret-token").body.find("/deployments/app") != std::string::npos);
  // The page's and the tail's request are entries; the token is in none.
  for (std::string data; data.find("\"y\"") == std::string::npos;) {
    data = next_event(by_query).data;
    CHECK(data.find("secret-token") == std::string::npos);
    CHECK(next_event(by_header).data == data);
  }
}

TEST_CASE("E-27 X-27 a chat reply: three unnamed events, the end, and no second question") {
  running s;
  REQUIRE(s.post("/api/logs", entry_of("hello", "a")).status == 202);
  client chat = s.stream("/api/chat/stream?agent_id=a&message=m");
  event e;
  for (const char* type : {"thinking", "response", "done"}) {
    e = next_event(chat);
    CHECK(e.type.empty());
    CHECK(e.data.starts_with(R"({"type":")" + std::string{type} + "\""));
    CHECK_FALSE(e.id.empty());
  }
  CHECK(next_event(chat).type == "end");
  // A browser comes back by itself, with that id.
  CHECK(s.get("/api/chat/stream?agent_id=a&message=m", "Last-Event-ID: " + e.id + "\r\n").status ==
        204);
  for (const char* bad :
       {"", "?agent_id=a", "?message=m", "?agent_id=&message=m", "?agent_id=a&message="}) {
    CAPTURE(bad);
    CHECK(s.get("/api/chat/stream" + std::string{bad}).status == 400);
  }
  CHECK(s.get("/api/chat/stream?agent_id=unknown&message=m").status == 404);
  CHECK(s.eventually("streams", 0));
}

TEST_CASE("E-27 each chat gets its own reply alone") {
  running s;
  for (const char* name : {"a", "b"})
    REQUIRE(s.post("/api/logs", entry_of("x", name)).status == 202);
  client one = s.stream("/api/chat/stream?agent_id=a&message=m");
  client two = s.stream("/api/chat/stream?agent_id=b&message=m");
  for (int i = 0; i < 3; ++i) {
    CHECK(next_event(one).data.find(R"("agent_id":"a")") != std::string::npos);
    CHECK(next_event(two).data.find(R"("agent_id":"b")") != std::string::npos);
  }
  CHECK(next_event(one).type == "end");
  CHECK(next_event(two).type == "end");
}

TEST_CASE("the stream of entries may begin with the last ones") {
  running s;
  for (const char* m : {"one", "two", "three"})
    REQUIRE(s.post("/api/logs", entry_of(m)).status == 202);
  client stream = s.stream("/api/logs/stream?backlog=2");
  CHECK(next_event(stream).data.find("\"two\"") != std::string::npos);
  CHECK(next_event(stream).data.find("\"three\"") != std::string::npos);
  CHECK(s.get("/api/logs/stream?backlog=x").status == 400);
}
