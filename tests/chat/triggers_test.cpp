// Requests that send events to all streams.
#include <string>

#include "catch.hpp"
#include "common/json.hpp"
#include "stand.hpp"

using namespace test;

TEST_CASE("A-12 POST /trigger reaches every connected client") {
  stand s;
  client events = s.stream("/events");
  client dashboard = s.stream("/dashboard");
  const answer a = s.post("/trigger", "", "");
  CHECK(a.status == 200);
  CHECK(a.body == "Event sent");
  for (client* c : {&events, &dashboard})
    CHECK(timeless(data_of(*c)) == R"({"type":"event","message":"Something happened!"})");
}

TEST_CASE("A-19 A-20 POST /send-alert, as a form and as JSON") {
  stand s;
  client stream = s.stream("/notifications");
  answer a = s.form("/send-alert", "type=a&message=b");
  CHECK(a.status == 200);
  CHECK(a.body == "Alert sent");
  CHECK(timeless(data_of(stream)) ==
        R"({"type":"alert","alertType":"a","message":"b","priority":"normal"})");
  CHECK(s.form("/send-alert", "type=a+1&message=%22%0A&priority=high").status == 200);
  CHECK(timeless(data_of(stream)) ==
        R"({"type":"alert","alertType":"a 1","message":"\"\n","priority":"high"})");
  CHECK(s.post("/send-alert", R"({"type":"a","message":"b","priority":"low"})").status == 200);
  CHECK(timeless(data_of(stream)) ==
        R"({"type":"alert","alertType":"a","message":"b","priority":"low"})");
}

TEST_CASE("A-21 POST /update-metrics") {
  stand s;
  client stream = s.stream("/dashboard");
  CHECK(s.post("/update-metrics", "", "").body == "Metrics updated");
  const std::string data = data_of(stream);
  examples::json_document doc;
  REQUIRE(doc.parse(data) == examples::json_result::object);
  CHECK(doc.string("type") == "metrics");
  for (const char* percent : {"cpu", "memory"}) {
    REQUIRE(doc.number(percent));
    CHECK(*doc.number(percent) >= 0);
    CHECK(*doc.number(percent) <= 100);
  }
  CHECK(doc.integer("requests"));
  CHECK(timeless(data).find("timestamp") == std::string::npos);
}

TEST_CASE("A-22 POST /chat/send") {
  stand s;
  client all = s.stream("/chat");
  client general = s.stream("/chat?room=general");
  client other = s.stream("/chat?room=other");
  client events = s.stream("/events");
  CHECK(s.form("/chat/send", "user=ann&room=general&message=hi+there").body == "Message sent");
  CHECK(s.post("/chat/send", R"({"user":"bob","room":"other","message":"<b>"})").status == 200);
  const std::string hi =
      R"({"type":"chat_message","user":"ann","room":"general","message":"hi there"})";
  const std::string bob = R"({"type":"chat_message","user":"bob","room":"other","message":"<b>"})";
  for (client* c : {&all, &events}) {
    CHECK(timeless(data_of(*c)) == hi);
    CHECK(timeless(data_of(*c)) == bob);
  }
  CHECK(timeless(data_of(general)) == hi);
  CHECK(timeless(data_of(other)) == bob);  // who named a room gets only that
}

TEST_CASE("A-23 GET /broadcast-data") {
  stand s;
  client stream = s.stream("/data-feed");
  CHECK(s.get("/broadcast-data?sensor=s1").body == "Data broadcasted");
  examples::json_document doc;
  const std::string data = data_of(stream);
  REQUIRE(doc.parse(data) == examples::json_result::object);
  CHECK(doc.string("type") == "data_update");
  CHECK(doc.string("sensor_id") == "s1");
  CHECK(doc.string("unit") == "celsius");
  CHECK(doc.string("location") == "server_room");
  CHECK(doc.number("value"));
  CHECK(s.get("/broadcast-data?sensor=s2&value=21.5").status == 200);
  CHECK(timeless(data_of(stream)) ==
        R"({"type":"data_update","sensor_id":"s2","value":21.5,"unit":"celsius",)"
        R"("location":"server_room"})");
  // HEAD asks what GET would answer, and sends nothing.
  client head{s.port()};
  head.send(client::make("HEAD", "/broadcast-data?sensor=s3"));
  CHECK(head.head().status == 200);
  CHECK(s.get("/broadcast-data?sensor=s4&value=1").status == 200);
  CHECK(data_of(stream).find("\"s4\"") != std::string::npos);
}

TEST_CASE("A-24 POST /webhook/github") {
  stand s;
  client stream = s.stream("/events");
  const answer a =
      s.post("/webhook/github", R"({"action":"opened","repository":{"name":"r"},"more":[1]})");
  CHECK(a.status == 200);
  CHECK(a.body == "Webhook processed");
  CHECK(timeless(data_of(stream)) ==
        R"({"type":"external_update","source":"github","event":"opened","repository":"r"})");
}

TEST_CASE("A-25 one action can send two events, in their order") {
  stand s;
  client stream = s.stream("/status");
  CHECK(s.form("/user-action", "action=critical_operation&user=ann").body == "Action processed");
  CHECK(s.form("/user-action", "action=other").status == 200);
  CHECK(s.post("/user-action", R"({"action":"third","user":"bob"})").status == 200);
  CHECK(timeless(data_of(stream)) ==
        R"({"type":"user_action","action":"critical_operation","user":"ann"})");
  CHECK(timeless(data_of(stream)) ==
        R"({"type":"system_status","status":"busy","operation":"critical_operation"})");
  CHECK(timeless(data_of(stream)) == R"({"type":"user_action","action":"other"})");
  CHECK(timeless(data_of(stream)) == R"({"type":"user_action","action":"third","user":"bob"})");
}

TEST_CASE("A-26 a handler that throws: an error event, and 500") {
  stand s;
  client stream = s.stream("/events");
  const answer a = s.post("/trigger?fail=1", "", "");
  CHECK(a.status == 500);
  CHECK(a.body == "Error occurred");
  CHECK(timeless(data_of(stream)) == R"({"type":"error","message":"Something went wrong"})");
  CHECK(s.post("/trigger", "", "").status == 200);
  CHECK(timeless(data_of(stream)) == R"({"type":"event","message":"Something happened!"})");
}

TEST_CASE("triggers refuse what is missing or cannot be read, and send nothing") {
  stand s;
  client stream = s.stream("/events");
  const std::string params = R"({"error":"bad_params"})";
  const std::string json = R"({"error":"bad_json"})";
  for (const char* body : {"type=a", "message=b", "type=&message=b", "type=a&message=%zz", ""})
    CHECK(s.form("/send-alert", body).body == params);
  for (const char* body : {R"({"type":"a"})", R"({"type":1,"message":"b"})", "[]"})
    CHECK(s.post("/send-alert", body).body == params);
  CHECK(s.post("/send-alert", R"({"type":)").body == json);
  CHECK(s.form("/chat/send", "user=a&room=r").body == params);
  CHECK(s.form("/chat/send", "user=a&room=r%00&message=m").body == params);
  CHECK(s.post("/chat/send", R"({"user":"a","room":"\u0000","message":"m"})").body == params);
  CHECK(s.form("/chat/typing", "user=a").body == params);
  CHECK(s.get("/broadcast-data").body == params);
  CHECK(s.get("/broadcast-data?sensor=s&value=nan").body == params);
  CHECK(s.post("/webhook/github", "{}").body == params);
  CHECK(s.post("/webhook/github", R"({"action":"a","repository":"r"})").body == params);
  CHECK(s.post("/webhook/github", R"({"action":"a","repository":{}})").body == params);
  CHECK(s.post("/webhook/github", "nope").body == json);
  CHECK(s.form("/user-action", "user=a").body == params);
  CHECK(s.form("/user-action", "user=a").status == 400);
  s.post("/send", to_all(R"({"end":1})"));
  CHECK(data_of(stream) == R"({"end":1})");
}
