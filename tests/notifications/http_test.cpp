// The program over real sockets: what the contract says of requests, answers and frames.
#include <chrono>
#include <cstdio>
#include <optional>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "common/process_meter.hpp"
#include "stage.hpp"

using namespace test;

namespace {

const std::string sample =
    R"({"title":"Test Notification","message":"Hello World!","type":"info"})";
const std::vector<std::string> with_token = {"/notifications/stream", "/realtime/stream",
                                             "/chat/stream", "/stream"};

std::string member(const answer& a, std::string_view name) {
  examples::json_document doc;
  if (doc.parse(a.body) != examples::json_result::object) return "not an object";
  return std::string{doc.string(name).value_or("absent")};
}

bool matches(const std::string& text, const std::string& pattern) {
  return std::regex_match(text, std::regex{pattern});
}
const std::string time_form = R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)";

/// Waits until `n` streams of the kind are subscribed to its channel.
bool settles(live& s, const std::string& channel, std::size_t n) {
  for (int i = 0; i < 20'000; ++i) {
    if (s.on_loop([&] { return s.server().http().hub().find_channel(channel).subscribers(); }) == n)
      return true;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return false;
}

}  // namespace

TEST_CASE("N-01 N-39 a stream opens at once, before there is any event") {
  live s;
  for (const std::string& path : with_token) {
    CAPTURE(path);
    client c{s.port()};
    const answer a = c.open(path + "?token=" + demo);
    CHECK(a.status == 200);
    CHECK(a.header("Content-Type") == "text/event-stream");
    CHECK(a.header("Cache-Control") == "no-cache");
    CHECK(a.header("X-Accel-Buffering") == "no");
    CHECK(a.header("Access-Control-Allow-Origin").empty());
  }
}

TEST_CASE("N-02 N-35 without a token there is no stream, and nothing is counted") {
  live s;
  for (const std::string& path : with_token) {
    CAPTURE(path);
    const answer a = s.refused(path);
    CHECK(a.status == 401);
    CHECK(a.body == R"({"error":"unauthorized"})");
    CHECK(a.header("Content-Type") == "application/json");
    CHECK(a.header("WWW-Authenticate") == "Bearer");
    CHECK(a.header("X-Accel-Buffering").empty());
  }
  CHECK(s.connections() == 0);
}

TEST_CASE("N-03 bad tokens are refused, on streams and posts") {
  live s;
  for (const char* bad : {"x", "dTpu", "Om46ZQ%3D%3D", "u:n:e", "dTpuOmU", "%00", "%zz", ""}) {
    CAPTURE(bad);
    for (const std::string& path : with_token) CHECK(s.status(path + "?token=" + bad) == 401);
    CHECK(s.post(std::string{"/notifications/send?token="} + bad, "", sample).status == 401);
  }
  CHECK(s.status("/chat/stream?token=dTpuOmU%3D") == 200);
}

TEST_CASE("N-04 a bearer token is good for streams and posts") {
  live s;
  for (const std::string& path : with_token) CHECK(s.status(path, demo) == 200);
  CHECK(s.post("/notifications/send", demo, sample).status == 200);
  CHECK(s.post("/notifications/send?token=" + demo, "", sample).status == 200);
}

TEST_CASE("N-05 who a token says one is") {
  live s;
  CHECK(
      s.get("/session", demo).body ==
      R"({"userId":"test123","username":"testuser","email":"test@example.com","roles":["user","admin"]})");
  CHECK(s.get("/session").status == 401);
}

TEST_CASE("N-07 a token in the URL works percent-encoded") {
  live s;
  CHECK(s.status("/chat/stream?token=" + escaped(demo)) == 200);
  const std::string odd = "Pz8/Oj4+PjplQHg6dXNlcg==";  // ???:>>>:e@x:user
  const std::string plus = "fn5+OmE+Yj46ZQ==";         // ~~~:a>b>:e
  for (const std::string& token : {odd, plus}) {
    CAPTURE(token);
    CHECK(s.status("/chat/stream?token=" + escaped(token)) == 200);
    CHECK(s.status("/chat/stream", token) == 200);
  }
  CHECK(s.status("/chat/stream?token=" + plus) == 401);  // a bare plus is a space
}

TEST_CASE("N-08 N-09 a notification that is sent comes as an event with the id that was answered") {
  live s;
  client c = s.stream("/notifications/stream?token=" + demo);
  const answer a = s.post("/notifications/send", demo, sample);
  CHECK(a.status == 200);
  CHECK(a.header("Content-Type") == "application/json");
  const std::string id = member(a, "id");
  CHECK(a.body == R"({"success":true,"id":")" + id + R"("})");
  const sse_event e = next_event(c);
  CHECK(e.type == "notification");
  CHECK(e.id == id);
  const std::string time = e.text("timestamp");
  CHECK(matches(time, time_form));
  CHECK(e.data == R"({"id":")" + id +
                      R"(","title":"Test Notification","message":"Hello World!","type":"info",)"
                      R"("timestamp":")" +
                      time + R"(","userId":"test123"})");
}

TEST_CASE("N-10 N-14 N-21 posts without a token are refused, and nothing is delivered") {
  live s;
  client n = s.stream("/stream", demo);
  (void)next_event(n);  // its status
  const std::vector<std::pair<std::string, std::string>> posts = {
      {"/notifications/send", sample},
      {"/notifications/broadcast", sample},
      {"/realtime/update", R"({"entityType":"e","entityId":"1","action":"updated"})"},
      {"/chat/send", R"({"roomId":"general","message":"m"})"},
      {"/chat/typing", R"({"roomId":"general"})"},
      {"/system/maintenance", R"({"message":"m"})"}};
  for (const auto& [path, body] : posts) {
    CAPTURE(path);
    const answer a = s.post(path, "", body);
    CHECK(a.status == 401);
    CHECK(a.body == R"({"error":"unauthorized"})");
  }
  CHECK(s.post("/notifications/send", demo, sample).status == 200);
  sse_event e = next_event(n);
  while (e.type == "status") e = next_event(n);
  CHECK(e.type == "notification");
}

TEST_CASE("N-11 a notification's type chooses its event") {
  live s;
  client c = s.stream("/notifications/stream", demo);
  const std::vector<std::pair<std::string, std::string>> all = {{"system", "system-notification"},
                                                                {"error", "error-notification"},
                                                                {"warning", "error-notification"},
                                                                {"success", "notification"}};
  for (const auto& [type, name] : all) {
    CAPTURE(type);
    CHECK(
        s.post("/notifications/send", demo, R"({"title":"t","message":"m","type":")" + type + "\"}")
            .status == 200);
    const sse_event e = next_event(c);
    CHECK(e.type == name);
    CHECK(e.text("type") == type);
  }
  CHECK(s.post("/notifications/broadcast", demo, R"({"title":"t","message":"m","userId":"ada"})")
            .status == 200);
  const sse_event e = next_event(c);  // a broadcast has no target
  CHECK(e.text("userId") == "test123");
  CHECK(e.text("type") == "info");
}

TEST_CASE("N-12 an update arrives with its data as it was sent") {
  live s;
  client c = s.stream("/realtime/stream", demo);
  const answer a = s.post("/realtime/update", demo,
                          "{\n  \"entityType\": \"user\",\n  \"entityId\": \"user123\",\n  "
                          "\"action\": \"updated\",\n  \"data\": {\"status\": \"online\"}\n}");
  CHECK(a.status == 200);
  CHECK(a.body == R"({"success":true,"id":")" + member(a, "id") + R"("})");
  const sse_event e = next_event(c);
  CHECK(e.type == "update");
  const std::string time = e.text("timestamp");
  CHECK(matches(time, time_form));
  CHECK(e.data == R"({"entityType":"user","entityId":"user123","action":"updated",)"
                  R"("data":{"status":"online"},"timestamp":")" +
                      time + "\"}");
}

TEST_CASE("N-13 an update's action chooses its event, and its data may be anything") {
  live s;
  client c = s.stream("/realtime/stream", demo);
  const std::vector<std::vector<std::string>> all = {
      {"created", "create", "12345678901234567890"},
      {"deleted", "delete", "null"},
      {"status-changed", "status-change", R"([1.10,"\n"])"},
      {"updated", "update", R"("x")"}};
  for (const auto& x : all) {
    CHECK(s.post("/realtime/update", demo,
                 R"({"entityType":"e","entityId":"1","action":")" + x[0] + R"(","data":)" + x[2] +
                     "}")
              .status == 200);
    const sse_event e = next_event(c);
    CHECK(e.type == x[1]);
    CHECK(e.text("action") == x[0]);
    CHECK(e.data.find("\"data\":" + x[2] + ",") != std::string::npos);
  }
  CHECK(s.post("/realtime/update", demo, R"({"entityType":"e","entityId":"1","action":"x"})")
            .status == 200);
  CHECK(next_event(c).data.find(R"("data":null)") != std::string::npos);
}

TEST_CASE("X-25 pages of other sites send nothing, and none reads under a name of its own") {
  live s;
  client c = s.stream("/chat/stream?room=general", demo);
  const auto send = [&](const std::string& message, const std::string& from) {
    return client{s.port()}
        .post("/chat/send", R"({"roomId":"general","message":")" + message + "\"}",
              live::bearer(bob) + "Content-Type: application/json\r\n" + from)
        .status;
  };
  CHECK(send("theirs", "Origin: https://evil.example\r\n") == 403);
  CHECK(send("theirs", "Origin: null\r\n") == 403);
  CHECK(
      client{s.port()}.ask("GET /system/status HTTP/1.1\r\nHost: rebound.example\r\n\r\n").status ==
      403);
  CHECK(send("ours", "Origin: http://localhost\r\n") == 200);
  CHECK(next_event(c).text("message") == "ours");
}

TEST_CASE("N-15 N-22 a message has its sender from the token and its time from the server") {
  live s;
  client c = s.stream("/chat/stream?room=general", demo);
  CHECK(s.post("/chat/send", demo, R"({"roomId":"general","message":"Hello everyone!"})").status ==
        200);
  sse_event e = next_event(c);
  CHECK(e.type == "message");
  CHECK(matches(e.text("timestamp"), time_form));
  CHECK(e.data == R"({"id":")" + e.id +
                      R"(","roomId":"general","userId":"test123","username":"testuser",)"
                      R"("message":"Hello everyone!","timestamp":")" +
                      e.text("timestamp") + "\"}");
  const answer a = s.post("/chat/send", forger,
                          R"({"roomId":"general","message":"m","userId":"test123","username":)"
                          R"("testuser","id":"1","timestamp":"2000-01-01T00:00:00.000Z"})");
  CHECK(a.status == 200);
  e = next_event(c);
  CHECK(e.text("userId") == "mal");
  CHECK(e.text("username") == "Mal");
  CHECK(e.text("id") == member(a, "id"));
  CHECK(e.text("id") != "1");
  CHECK_FALSE(e.text("timestamp").starts_with("2000"));
}

TEST_CASE("N-15 X-07 a message may say anything, and stays one frame") {
  live s;
  client c = s.stream("/chat/stream", demo);
  const std::string text =
      R"(<img src=x onerror=alert(1)>\r\n\ndata: {}\n\nevent: message\n\u2028\"\\)";
  CHECK(s.post("/chat/send", demo, R"({"roomId":"general","message":")" + text + "\"}").status ==
        200);
  const std::string frame = c.frame();
  CHECK(count(frame, "\n") == 2);
  examples::json_document sent;
  const std::string body = R"({"m":")" + text + "\"}";
  REQUIRE(sent.parse(body) == examples::json_result::object);
  examples::json_document got;
  const std::string data = client::field(frame, "data: ");
  REQUIRE(got.parse(data) == examples::json_result::object);
  CHECK(got.string("message") == sent.string("m"));
}

TEST_CASE("N-19 N-31 who closes a stream leaves its room, by an end and by a reset") {
  live s;
  client b = s.stream("/chat/stream?room=general", bob);
  for (const bool reset : {false, true}) {
    CAPTURE(reset);
    client a = s.stream("/chat/stream?room=general", ada);
    CHECK(next_event(b).type == "user-joined");
    if (reset) {
      a.reset();
    } else {
      a.close();
    }
    const sse_event left = next_event(b);
    CHECK(left.type == "user-left");
    CHECK(left.text("roomId") == "general");
    CHECK(left.text("userId") == "ada");
    CHECK(left.text("username") == "Ada");
  }
}

TEST_CASE("N-20 typing can be told, is seen in its room, and is not kept") {
  live s;
  client c = s.stream("/chat/stream?room=general", bob);
  client other = s.stream("/chat/stream?room=other", bob);
  const answer a = s.post("/chat/typing", ada, R"({"roomId":"general"})");
  CHECK(a.status == 200);
  CHECK(a.body == R"({"success":true})");
  const sse_event e = next_event(c);
  CHECK(e.type == "typing");
  CHECK(e.id.empty());
  CHECK(e.text("roomId") == "general");
  CHECK(e.text("username") == "Ada");
  CHECK(s.post("/chat/send", ada, R"({"roomId":"other","message":"m"})").status == 200);
  CHECK(next_event(other).type == "message");
  client replay = s.stream("/chat/stream?last_id=0", bob);
  CHECK(next_event(replay).type == "message");
}

TEST_CASE("N-18 N-36 who may not enter a room gets 403, and is not counted") {
  live s;
  const answer a = s.refused("/chat/stream?room=secret", bob);
  CHECK(a.status == 403);
  CHECK(a.body == R"({"error":"forbidden"})");
  CHECK(a.header("Content-Type") == "application/json");
  CHECK(s.post("/chat/send", bob, R"({"roomId":"secret","message":"m"})").status == 403);
  CHECK(s.connections() == 0);
  client member = s.stream("/chat/stream?room=secret", ada);
  CHECK(s.post("/chat/send", ada, R"({"roomId":"secret","message":"m"})").status == 200);
  CHECK(next_event(member).type == "message");
}

TEST_CASE("N-36 N-27 maintenance and the list of connections are for admins") {
  live s;
  client c = s.stream("/system/status/stream");
  CHECK(next_event(c).type == "status");
  const std::string body = R"({"message":"Back in five minutes"})";
  CHECK(s.post("/system/maintenance", ada, body).status == 403);
  CHECK(s.get("/system/connections", ada).status == 403);
  CHECK(s.get("/system/connections").status == 401);
  CHECK(s.post("/system/maintenance", demo, body).status == 200);
  sse_event e = next_event(c);
  while (e.type == "status") e = next_event(c);
  CHECK(e.type == "maintenance");
  CHECK(e.text("message") == "Back in five minutes");
  CHECK(e.text("userId") == "test123");
  client room = s.stream("/chat/stream?room=general", ada);
  const std::string list = s.get("/system/connections", demo).body;
  CHECK(list.starts_with(R"({"total":2,"items":[)"));
  CHECK(count(list, R"("stream":"system")") == 1);
  CHECK(count(list, R"("userId":"ada","username":"Ada","roomId":"general")") == 1);
}

TEST_CASE(
    "N-23 N-24 the status, as a stream and as an answer, needs no token and is of this process") {
  live s;
  client c = s.stream("/system/status/stream");
  const sse_event e = next_event(c);
  CHECK(e.type == "status");
  const answer a = s.get("/system/status");
  CHECK(a.status == 200);
  for (const std::string& json : {e.data, a.body}) {
    CAPTURE(json);
    examples::json_document doc;
    REQUIRE(doc.parse(json) == examples::json_result::object);
    CHECK(doc.string("status") == "healthy");
    CHECK(doc.integer("uptime").value_or(-1) >= 0);
    CHECK(doc.integer("connections") == 1);
    CHECK(matches(std::string{doc.string("memory").value_or("")}, R"([1-9]\d*MB)"));
    CHECK(matches(std::string{doc.string("cpu").value_or("")}, R"(\d+%)"));
    CHECK(matches(std::string{doc.string("timestamp").value_or("")}, time_form));
  }
}

TEST_CASE("N-24 memory and processor time are measured") {
  examples::process_meter meter{0};
  const std::uint64_t before = meter.memory_bytes();
  CHECK(before > 1 << 20);
  std::vector<char> taken(64 << 20, 1);
  const std::clock_t start = std::clock();
  volatile std::uint64_t n = 0;
  while (std::clock() - start < CLOCKS_PER_SEC / 5) n = n + 1;
  meter.sample(400);  // too soon for the processor
  CHECK(meter.cpu() == "0%");
  CHECK(meter.memory_bytes() > before + (32 << 20));
  CHECK(taken[1000] == 1);
  meter.sample(1000);  // by this clock a second
  CHECK(meter.cpu_share() > 0.15);
  CHECK(meter.cpu_share() < 3);
}

TEST_CASE("N-25 connections are counted") {
  live s;
  std::optional<client> one{s.stream("/system/status/stream")};
  client two = s.stream("/chat/stream", ada);
  client three = s.stream("/stream", bob);
  CHECK(s.connections() == 3);
  one.reset();
  CHECK(s.connections_become(2));
}

TEST_CASE(
    "N-28 N-29 N-30 N-31 N-37 the sixth stream of a user gets 429 until one of the five ends") {
  live s;
  std::vector<client> mine;
  for (const char* path : {"/notifications/stream", "/notifications/stream", "/realtime/stream",
                           "/realtime/stream", "/chat/stream"}) {
    mine.push_back(s.stream(path, ada));
  }
  for (const std::string& path : with_token) {
    const answer a = s.refused(path, ada);
    CHECK(a.status == 429);
    CHECK(a.body == R"({"error":"too_many_streams"})");
    CHECK(matches(a.header("Retry-After"), "[1-9][0-9]*"));
    CHECK(a.header("Content-Type") == "application/json");
  }
  CHECK(s.status("/chat/stream", bob) == 200);
  CHECK(s.connections_become(5));
  for (const bool reset : {false, true}) {
    CAPTURE(reset);
    if (reset) {
      mine.back().reset();
    } else {
      mine.back().close();
    }
    mine.pop_back();
    CHECK(s.connections_become(4));
    mine.push_back(s.stream("/realtime/stream", ada));
    CHECK(s.status("/chat/stream", ada) == 429);
  }
}

TEST_CASE("N-32 N-37 of 1001 streams one is refused, and has its turn when another ends") {
  if (!allow_descriptors(2500)) {
    WARN("not enough file descriptors");
    return;
  }
  notifications::settings o;
  o.common.per_address = 0;
  live s{o};
  std::vector<client> all;
  for (int i = 0; i < 1000; ++i) all.push_back(s.stream("/system/status/stream"));
  CHECK(s.connections() == 1000);
  const answer a = s.refused("/system/status/stream");
  CHECK(a.status == 429);
  CHECK(matches(a.header("Retry-After"), "[1-9][0-9]*"));
  CHECK(s.status("/chat/stream", ada) == 429);
  all.pop_back();
  CHECK(s.connections_become(999));
  CHECK(s.status("/chat/stream", ada) == 200);
}

TEST_CASE("N-38 a failure while a stream is asked for is a 500, never a broken 200") {
  live s;
  s.clock_fails = true;
  for (const std::string& path : with_token) {
    CAPTURE(path);
    const answer a = s.refused(path, ada);
    CHECK(a.status == 500);
    CHECK(a.body == R"({"error":"internal_server_error"})");
    CHECK(a.header("X-Accel-Buffering").empty());
  }
  CHECK(s.post("/notifications/send", ada, sample).status == 500);
  s.clock_fails = false;
  CHECK(s.connections() == 0);
  CHECK(s.status("/chat/stream", ada) == 200);
}

TEST_CASE("N-42 bad posts are refused, and nothing is sent") {
  live s;
  client c = s.stream("/stream", demo);
  CHECK(next_event(c).type == "status");
  const std::vector<std::pair<std::string, std::vector<std::string>>> bad = {
      {"/notifications/send",
       {R"({"message":"m"})", R"({"title":"t"})", R"({"title":"","message":"m"})",
        R"({"title":"t","message":""})", R"({"title":1,"message":"m"})",
        R"({"title":"t","message":["m"]})", R"({"title":"t","message":"m","type":1})",
        R"({"title":"t","message":"m","type":""})"}},
      {"/notifications/broadcast", {R"({"message":"m"})"}},
      {"/realtime/update",
       {R"({"entityId":"1","action":"updated"})", R"({"entityType":"e","action":"updated"})",
        R"({"entityType":"e","entityId":"1"})", R"({"entityType":"e","entityId":1,"action":"a"})"}},
      {"/chat/send",
       {R"({"message":"m"})", R"({"roomId":"general"})", R"({"roomId":"","message":"m"})",
        R"({"roomId":"a\nb","message":"m"})", R"({"roomId":"general","message":7})",
        R"({"roomId":")" + std::string(129, 'r') + R"(","message":"m"})"}},
      {"/chat/typing", {"{}", R"({"roomId":7})"}},
      {"/system/maintenance", {"{}", R"({"message":""})"}}};
  for (const auto& [path, bodies] : bad) {
    CAPTURE(path);
    for (const char* broken : {"", "{", "{\"title\":", "title=t&message=m", "{}{}", "\xff"}) {
      CAPTURE(broken);
      const answer a = s.post(path, demo, broken);
      CHECK(a.status == 400);
      CHECK(a.body == R"({"error":"bad_json"})");
    }
    CHECK(s.post(path, demo, "[]").body == R"({"error":"bad_params"})");
    for (const std::string& body : bodies) {
      CAPTURE(body);
      const answer a = s.post(path, demo, body);
      CHECK(a.status == 400);
      CHECK(a.body == R"({"error":"bad_params"})");
    }
    const std::string large = R"({"title":"t","message":")" + std::string(70'000, 'x') + "\"}";
    CHECK(s.post(path, demo, large).status == 413);
  }
  CHECK(s.post("/chat/send", demo, R"({"roomId":"general","message":"m"})").status == 200);
  sse_event e = next_event(c);
  while (e.type == "status") e = next_event(c);
  CHECK(e.type == "message");
}

TEST_CASE("N-42 bad rooms in a query are refused") {
  live s;
  for (const char* query : {"room=", "room=%00", "room=%0A", "room=%zz", "room=%ff"}) {
    CAPTURE(query);
    CHECK(s.status(std::string{"/chat/stream?"} + query, ada) == 400);
  }
  CHECK(s.status("/chat/stream?room=" + std::string(129, 'r'), ada) == 400);
  CHECK(s.connections() == 0);
}

TEST_CASE("wrong methods and paths") {
  live s;
  for (const char* path : {"/notifications/send", "/chat/send", "/system/maintenance"})
    CHECK(s.get(path, demo).status == 405);
  for (const char* path : {"/notifications/stream", "/chat/stream", "/system/status", "/session"})
    CHECK(s.post(path, demo, "{}").status == 405);
  CHECK(s.get("/notifications", demo).status == 404);
  CHECK(s.get("/Chat/stream", demo).status == 404);
  client c{s.port()};
  c.send("HEAD /chat/stream?token=" + demo +
         " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  CHECK(c.head().status == 200);
  CHECK(c.rest().empty());
  CHECK(s.connections() == 0);
}

TEST_CASE("GET /chat/rooms lists the rooms of a user, and who is there") {
  live s;
  client a = s.stream("/chat/stream?room=secret", ada);
  client b = s.stream("/stream?enter=lobby", bob);
  CHECK(s.get("/chat/rooms", ada).body ==
        R"({"items":[{"roomId":"general","private":false,"users":[]},)"
        R"({"roomId":"lobby","private":false,"users":[{"userId":"bob","username":"Bob"}]},)"
        R"({"roomId":"secret","private":true,"users":[{"userId":"ada","username":"Ada"}]}]})");
  CHECK(s.get("/chat/rooms", bob).body.find("secret") == std::string::npos);
  CHECK(s.get("/chat/rooms").status == 401);
}

TEST_CASE("X-21 no token stands in the access log") {
  live s;
  { client c = s.stream("/notifications/stream?token=" + escaped(demo)); }
  CHECK(s.status("/chat/stream?room=general&%74oken=" + demo + "&x=1") == 200);
  CHECK(s.status("/chat/stream?TOKEN=" + demo) == 401);
  CHECK(s.status("/chat/stream?token=" + demo.substr(0, 20)) == 401);
  CHECK(s.post("/notifications/send?token=" + demo, "", sample).status == 200);
  CHECK(s.post("/notifications/send", demo, sample).status == 200);
  const std::string log = s.log();
  CHECK(log.find("/notifications/stream?token=*** 200\n") != std::string::npos);
  CHECK(log.find(demo.substr(0, 12)) == std::string::npos);
}

TEST_CASE("X-21 signed tokens: what the demo takes is refused, and a stream ends on time") {
  if (!notifications::has_jwt()) return;
  notifications::settings o = with_rooms();
  o.token_secret = "a secret of at least thirty-two bytes";
  live s{o};
  CHECK(s.status("/chat/stream?token=" + demo) == 401);
  CHECK(s.post("/notifications/send", demo, sample).status == 401);
  CHECK(s.get("/system/connections", forger).status == 401);
  // Ends in 2023: the server is told that it is then.
  const std::string token =
      "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjE3MDAwMDAwNjB9.3p3dgU9g5m"
      "l_L8GOOLf13021KFJn3b-72a8Jv6sTVOY";
  CHECK(s.status("/chat/stream?token=" + token) == 401);
  using namespace std::chrono;
  const auto wall =
      duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch());
  s.wall_offset_ms = 1'700'000'059'500 - wall.count();
  client c = s.stream("/chat/stream?token=" + token);
  CHECK(s.get("/session", token).body.find(R"("expires":"2023-11-14T22:14:20.000Z")") !=
        std::string::npos);
  const auto start = steady_clock::now();
  CHECK(c.rest().find("event:") == std::string::npos);
  CHECK(steady_clock::now() - start < seconds{3});
  CHECK(s.status("/chat/stream?token=" + token) == 401);
  CHECK(s.connections() == 0);
}

TEST_CASE("N-41 a hundred tabs of one user get the same event, and another user's get none") {
  notifications::settings o;
  o.common.per_user = 0;
  o.common.per_address = 0;
  live s{o};
  std::vector<client> all;
  for (int i = 0; i < 100; ++i) all.push_back(s.stream("/notifications/stream", bob));
  client other = s.stream("/notifications/stream", ada);
  REQUIRE(settles(s, "notifications", 101));
  const std::string id = member(
      s.post("/notifications/send", ada, R"({"title":"t","message":"m","userId":"bob"})"), "id");
  const std::string next = member(s.post("/notifications/broadcast", ada, sample), "id");
  for (client& c : all) {
    CHECK(next_event(c).id == id);
    CHECK(next_event(c).id == next);
  }
  CHECK(next_event(other).id == next);
}

#ifdef NOTIFICATIONS_PROGRAM
namespace {

/// What the program says, on both outputs, and its exit code.
std::pair<int, std::string> run(const std::string& flags) {
  std::FILE* const p = ::popen((NOTIFICATIONS_PROGRAM " " + flags + " 2>&1").c_str(), "r");
  if (p == nullptr) throw std::runtime_error("popen");
  std::string out;
  for (int c = std::fgetc(p); c != EOF; c = std::fgetc(p)) out += static_cast<char>(c);
  const int status = ::pclose(p);
  return {status >> 8, out};
}

}  // namespace

TEST_CASE("flags that cannot be are refused with one line") {
  for (const char* bad : {"--nope", "x", "--private", "--private general", "--private a:",
                          "--token-secret=", "--idle x", "--per-user -1", "--token x"}) {
    CAPTURE(bad);
    const auto [code, out] = run(bad);
    CHECK(code == 2);
    CHECK(count(out, "\n") == 1);
    CHECK(out.starts_with("notifications: "));
  }
  if (!notifications::has_jwt()) CHECK(run("--token-secret x").first == 2);
  const auto [code, help] = run("--help");
  CHECK(code == 0);
  for (const char* flag : {"--token-secret KEY", "--private ROOM:USER,USER", "--idle SECONDS",
                           "port, 0 picks one (3000)", "0: any (5)", "0: any (1000)", "(30)"}) {
    CAPTURE(flag);
    CHECK(help.find(flag) != std::string::npos);
  }
}
#endif
