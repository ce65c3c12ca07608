// Streams that are registered at run time, and what is sent to them.
#include <chrono>
#include <string>
#include <vector>

#include <sse/testing.hpp>

#include "catch.hpp"
#include "stand.hpp"
#include "without_position.hpp"

using namespace test;

namespace {

std::string registration(const std::string& path) { return R"({"path":")" + path + "\"}"; }

std::size_t frames_in(const std::string& bytes) {
  std::size_t n = 0;
  for (std::size_t at = bytes.find("data: "); at != std::string::npos;
       at = bytes.find("data: ", at + 1))
    ++n;
  return n;
}

}  // namespace

TEST_CASE("A-01 A-07 a path opens once it is registered") {
  stand s;
  CHECK(s.get("/new").status == 404);
  CHECK(s.post("/streams", registration("/new")).status == 201);
  client stream{s.port()};
  const answer a = stream.open("/new");
  CHECK(a.status == 200);
  CHECK(a.header("Content-Type") == "text/event-stream");
  CHECK(a.header("Cache-Control") == "no-cache");
  s.post("/send", to_all("{}"));
  CHECK(data_of(stream) == "{}");
  CHECK(s.form("/streams", "path=%2Fform").status == 201);
  CHECK(s.stream("/form").try_send(""));
  for (const char* path :
       {"/events", "/notifications", "/chat", "/dashboard", "/data-feed", "/status"}) {
    CAPTURE(path);
    CHECK(s.connections(path) == 0);
  }
}

TEST_CASE("A-02 a path without a leading slash is refused") {
  stand s;
  const std::string before = s.get("/streams").body;
  for (const char* path : {"events2", " /x", "http://x/", "/a?b", "/a#b", "/a/../b", "/..",
                           R"(/a\n)", R"(/a\u0000)"}) {
    CAPTURE(path);
    const answer a = s.post("/streams", registration(path));
    CHECK(a.status == 400);
    CHECK(a.body == R"({"error":"bad_path"})");
  }
  CHECK(s.get("/streams").body == before);
  CHECK(s.get("/events2").status == 404);
}

TEST_CASE("A-03 200 characters are accepted, 201 are not") {
  stand s;
  const std::string longest = "/" + std::string(199, 'a');
  CHECK(s.post("/streams", registration(longest)).status == 201);
  CHECK(s.stream(longest).try_send(""));
  CHECK(s.post("/streams", registration(longest + "a")).status == 400);
  CHECK(s.get(longest + "a").status == 404);
  std::string accents = "/";
  for (int i = 0; i < 199; ++i) accents += "\xC3\xA9";
  CHECK(s.post("/streams", registration(accents)).status == 201);
}

TEST_CASE("A-04 A-05 paths are case-sensitive and nest") {
  stand s;
  CHECK(s.get("/Events").status == 404);
  for (const char* path : {"/chat/room1", "/status/server1", "/status/server2"})
    CHECK(s.post("/streams", registration(path)).status == 201);
  client one = s.stream("/status/server1");
  client two = s.stream("/status/server2");
  client parent = s.stream("/status");
  CHECK(s.post("/send", R"({"data":{"to":1},"path":"/status/server1"})").status == 200);
  s.post("/send", to_all(R"({"to":"all"})"));
  CHECK(data_of(one) == R"({"to":1})");
  CHECK(data_of(one) == R"({"to":"all"})");
  CHECK(data_of(two) == R"({"to":"all"})");
  CHECK(data_of(parent) == R"({"to":"all"})");
}

TEST_CASE("A-06 registering a path again disturbs nobody") {
  stand s;
  client stream = s.stream("/events");
  CHECK(s.post("/streams", registration("/events")).status == 200);
  s.post("/send", to_all(R"({"n":1})"));
  CHECK(data_of(stream) == R"({"n":1})");
  CHECK(s.connections("/events") == 1);
}

TEST_CASE("A-08 an object becomes one unnamed frame of compact JSON, each token as it was sent") {
  stand s;
  client stream = s.stream("/events");
  s.post("/send",
         "{ \"data\" : {\n \"type\": \"a b\",\t\"message\" :\"\\u00e9 \\\" : , {\",\n"
         "\"timestamp\":\"2024-01-01T00:00:00.000Z\", \"n\": [1.50, 1e3, "
         "12345678901234567890 ], \"o\": { } } }");
  const std::string frame = stream.frame() + "\n\n";
  const std::size_t data = frame.find("data: ");
  REQUIRE(data != std::string::npos);
  CHECK(frame.substr(data) ==
        "data: {\"type\":\"a b\",\"message\":\"\\u00e9 \\\" : , {\","
        "\"timestamp\":\"2024-01-01T00:00:00.000Z\",\"n\":[1.50,1e3,12345678901234567890],"
        "\"o\":{}}\n\n");
  const std::string id = frame.substr(0, data);
  CHECK(id.starts_with("id: "));
  CHECK(id.find_first_not_of("0123456789", 4) == id.size() - 1);  // and nothing else
}

TEST_CASE("A-09 A-10 a broadcast reaches every client of every stream once") {
  stand s;
  std::vector<client> all;
  for (const char* path : {"/notifications", "/chat", "/status"}) {
    for (int i = 0; i < 3; ++i) all.push_back(s.stream(path));
  }
  const answer a = s.post("/send", to_all(R"({"n":1})"));
  CHECK(a.body == R"({"ok":true,"streams":6})");
  s.post("/send", to_all(R"({"n":2})"));
  for (client& c : all) {
    CHECK(data_of(c) == R"({"n":1})");
    CHECK(data_of(c) == R"({"n":2})");
  }
}

TEST_CASE("A-11 a thousand messages arrive in order at each client") {
  stand s;
  client one = s.stream("/events");
  client two = s.stream("/chat");
  client sender{s.port()};
  for (int i = 0; i < 1000; ++i)
    REQUIRE(sender.post("/send", to_all("{\"n\":" + std::to_string(i) + "}")).status == 200);
  for (int i = 0; i < 1000; ++i) {
    const std::string want = "{\"n\":" + std::to_string(i) + "}";
    REQUIRE(data_of(one) == want);
    REQUIRE(data_of(two) == want);
  }
}

TEST_CASE("A-13 sending without clients or streams does not fail") {
  stand s;
  CHECK(s.post("/send", to_all("{}")).status == 200);
  CHECK(s.post("/trigger", "").status == 200);
  for (const char* path :
       {"/events", "/notifications", "/chat", "/dashboard", "/data-feed", "/status"})
    CHECK(s.del("/streams?path=" + std::string{path}).status == 200);
  CHECK(s.get("/streams").body == R"({"items":[]})");
  CHECK(s.post("/send", to_all("{}")).body == R"({"ok":true,"streams":0})");
  CHECK(s.post("/trigger", "").body == "Event sent");
  CHECK(s.form("/chat/send", "user=a&room=r&message=m").status == 200);
  CHECK(s.form("/chat/typing", "user=a&room=r").status == 200);
}

TEST_CASE("A-14 a message of 1 MiB arrives intact, also at a client that is slow") {
  stand s;
  client stream = s.stream("/events");
  client slow{s.port(), 4096};
  REQUIRE(slow.open("/events").status == 200);
  std::string text(std::size_t{1} << 20, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 26);
  const std::string data = R"({"message":")" + text + "\"}";
  CHECK(s.post("/send", to_all(data)).status == 200);
  CHECK(s.post("/send", to_all(R"({"after":1})")).status == 200);
  for (client* c : {&stream, &slow}) {
    CHECK((data_of(*c) == data));
    CHECK(data_of(*c) == R"({"after":1})");
  }
}

TEST_CASE("A-15 A-17 the count falls to 0 when clients leave, and the path stays") {
  stand s;
  {
    client one = s.stream("/events");
    client two = s.stream("/events");
    CHECK(s.connections("/events") == 2);
    two.reset();
    CHECK(s.eventually([&] { return s.connections("/events") == 1; }));
  }
  CHECK(s.eventually([&] { return s.connections("/events") == 0; }));
  client again = s.stream("/events");
  s.post("/send", to_all("{}"));
  CHECK(data_of(again) == "{}");
}

TEST_CASE("A-16 a peer that vanished is removed once a heartbeat finds no reader") {
  // The program's own options, and a clock that the test moves.
  const chat::settings settings;
  const examples::server_setup setup{settings.common};
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport> hub{net, test::without_position(setup.options.hub)};
  const sse::channel c = hub.open_channel("/events", chat::channel_options_of(settings));
  REQUIRE(c);
  const auto at = [&](std::int64_t ms) {
    hub.tick(sse::time_point::milliseconds(ms));
    while (hub.flush()) {
    }
  };
  at(0);
  const std::size_t there = net.connect();
  const std::size_t vanished = net.connect();
  net.at(vanished).window = 0;  // takes nothing any more
  for (const std::size_t peer : {there, vanished})
    REQUIRE(hub.accept({peer}, sse::request{}, sse::admit().join(c)));
  at(14'999);
  CHECK(c.subscribers() == 2);
  at(15'000);  // the heartbeat does not get through
  at(24'999);
  CHECK(c.subscribers() == 2);
  at(25'000);
  CHECK(c.subscribers() == 1);
  CHECK(net.at(vanished).is_closed);
  CHECK(net.at(vanished).why == sse::close_reason::stalled);
  CHECK_FALSE(net.at(there).is_closed);
  CHECK(net.at(there).received == ": keep-alive\n\n");
}

TEST_CASE("A-18 unregistering ends the connections, and the path is unknown") {
  stand s;
  client stream = s.stream("/chat");
  client other = s.stream("/events");
  CHECK(s.del("/streams?path=%2Fchat").status == 200);
  CHECK(stream.frame().empty());
  CHECK(s.get("/chat").status == 404);
  CHECK(s.post("/send", R"({"data":{},"path":"/chat"})").status == 404);
  CHECK(s.del("/streams?path=/chat").status == 404);
  CHECK(s.del("/streams").status == 400);
  CHECK(s.form("/chat/send", "user=a&room=r&message=m").status == 200);  // still there
  CHECK(timeless(data_of(other)).find("chat_message") != std::string::npos);
  CHECK(s.post("/streams", registration("/chat")).status == 201);
  CHECK(s.stream("/chat").try_send(""));
}

TEST_CASE("A-18 the program's own paths can be neither registered nor unregistered") {
  stand s;
  for (const char* path :
       {"/", "/streams", "/send", "/metrics", "/health", "/trigger", "/style.css", "/chat/send",
        "/chat/typing", "/broadcast-data", "/graphql/sse", "/graphql/subscription/x"}) {
    CAPTURE(path);
    CHECK(s.post("/streams", registration(path)).status == 409);
    CHECK(s.del("/streams?path=" + std::string{path}).status == 404);
  }
  CHECK(s.get("/health").body == R"({"ok":true})");
}

TEST_CASE("A-27 A-28 curl's form works, and every reconnect is accepted and resumes") {
  stand s;
  const std::string accept = "Accept: text/event-stream\r\n";
  std::string last;
  for (int i = 0; i < 6; ++i) {
    CAPTURE(i);
    if (i > 0) s.post("/send", to_all("{\"missed\":" + std::to_string(i) + "}"));
    client stream =
        s.stream("/events", last.empty() ? accept : accept + "Last-Event-ID: " + last + "\r\n");
    if (i > 0) CHECK(data_of(stream) == "{\"missed\":" + std::to_string(i) + "}");
    s.post("/send", to_all("{\"live\":" + std::to_string(i) + "}"));
    const std::string frame = stream.frame();
    CHECK(client::field(frame, "data: ") == "{\"live\":" + std::to_string(i) + "}");
    last = client::field(frame, "id: ");
  }
}

TEST_CASE("A-36 X-09 a filter picks connections by their query, the others get no byte") {
  stand s;
  client general = s.stream("/chat?room=general");
  client other = s.stream("/chat?room=other");
  client none = s.stream("/chat");
  client elsewhere = s.stream("/events?room=general");
  CHECK(s.post("/send", R"({"data":{"n":1},"path":"/chat","filter":{"room":"general"}})").status ==
        200);
  CHECK(s.post("/send", R"({"data":{"n":2},"filter":{"room":"general"}})").status == 200);
  CHECK(s.post("/send", R"({"data":{"n":3},"filter":{}})").status == 200);
  for (client* c : {&general, &other, &none}) {
    CHECK(c->until("\n\n").starts_with("id: "));  // where it begins
  }
  const std::string last = general.until("\"n\":3}\n\n");
  CHECK(frames_in(last) == 3);
  // Byte for byte: from there on there is nothing but the third event.
  for (client* c : {&other, &none}) {
    const std::string bytes = c->until("\n\n");
    CHECK(bytes == last.substr(last.rfind("id: ")));
  }
  CHECK(data_of(elsewhere) == R"({"n":2})");
  CHECK(data_of(elsewhere) == R"({"n":3})");
}

TEST_CASE("A-36 X-09 a replay honours the filter as live delivery does") {
  stand s;
  s.post("/send", R"({"data":{"n":1},"filter":{"room":"general"}})");
  s.post("/send", R"({"data":{"n":2},"filter":{"room":"other"}})");
  s.post("/send", R"({"data":{"n":3}})");
  client general = s.stream("/chat?room=general&last_id=0");
  client other = s.stream("/chat?room=other", "Last-Event-ID: 0\r\n");
  client none = s.stream("/chat?last_id=0");
  CHECK(data_of(general) == R"({"n":1})");
  CHECK(data_of(general) == R"({"n":3})");
  CHECK(data_of(other) == R"({"n":2})");
  CHECK(data_of(other) == R"({"n":3})");
  CHECK(data_of(none) == R"({"n":3})");
}

TEST_CASE("A-37 all keys must match, as text, letter for letter") {
  stand s;
  const auto reaches = [&](const std::string& query, const std::string& filter) {
    client c = s.stream("/chat" + query);
    REQUIRE(s.post("/send", R"({"data":{"it":1},"filter":)" + filter + "}").status == 200);
    s.post("/send", to_all(R"({"end":1})"));
    return data_of(c) == R"({"it":1})";
  };
  CHECK(reaches("?room=general&user=ann", R"({"room":"general","user":"ann"})"));
  CHECK_FALSE(reaches("?room=general&user=bob", R"({"room":"general","user":"ann"})"));
  CHECK_FALSE(reaches("?room=general", R"({"room":"general","user":"ann"})"));
  CHECK_FALSE(reaches("?room=General", R"({"room":"general"})"));
  CHECK_FALSE(reaches("?Room=general", R"({"room":"general"})"));
  CHECK_FALSE(reaches("?room=gener", R"({"room":"general"})"));
  CHECK(reaches("?level=3", R"({"level":3})"));
  CHECK_FALSE(reaches("?level=3.0", R"({"level":3})"));
  CHECK(reaches("?on=true", R"({"on":true})"));
  CHECK(reaches("?room=", R"({"room":""})"));
  CHECK_FALSE(reaches("", R"({"room":""})"));
  CHECK(reaches("?room=caf%C3%A9+1", R"({"room":"caf\u00e9 1"})"));
  CHECK(reaches("?room=a&room=b", R"({"room":"a"})"));
  CHECK_FALSE(reaches("?room=a&room=b", R"({"room":"b"})"));
}

TEST_CASE("A-37 what is no filter is refused, and nothing is delivered") {
  stand s;
  client c = s.stream("/chat?room=general");
  for (const char* filter : {"[]", "7", "\"room\"", R"({"room":null})", R"({"room":{}})",
                             R"({"room":["general"]})", R"({"room":"a\u0000"})"}) {
    CAPTURE(filter);
    const answer a = s.post("/send", R"({"data":{},"filter":)" + std::string{filter} + "}");
    CHECK(a.status == 400);
    CHECK(a.body == R"({"error":"bad_params"})");
  }
  s.post("/send", to_all(R"({"end":1})"));
  CHECK(data_of(c) == R"({"end":1})");
}

TEST_CASE("a body that is wrong or too large is refused, nothing is delivered, no place is lost") {
  stand s;
  client c = s.stream("/events");
  for (const char* body : {R"({"data":)", "x", "", "data=1"})
    CHECK(s.post("/send", body).body == R"({"error":"bad_json"})");
  for (const char* body : {"{}", R"({"data":null})", R"({"data":"text"})", R"({"data":[1]})", "[]",
                           R"({"data":{},"path":7})"}) {
    CAPTURE(body);
    const answer a = s.post("/send", body);
    CHECK(a.status == 400);
    CHECK(a.body == R"({"error":"bad_params"})");
  }
  CHECK(s.post("/send", R"({"data":{},"path":"/nope"})").status == 404);
  const std::string big = to_all("{\"x\":\"" + std::string(chat::max_body, 'x') + "\"}");
  client sender{s.port()};
  sender.send(
      client::make("POST", "/send", "Content-Length: " + std::to_string(big.size()) + "\r\n"));
  CHECK(sender.head().status == 413);
  for (const char* body : {"{}", R"({"path":7})", "path="})
    CHECK(s.form("/streams", body).status == 400);
  CHECK(s.get("/events?room=%ZZ").status == 400);
  CHECK(s.get("/events?last_id=x").status == 400);
  CHECK(s.connections("/events") == 1);
  const answer wrong = s.post("/events", "");
  CHECK(wrong.status == 405);
  CHECK(wrong.header("Allow") == "GET, HEAD, OPTIONS");
  CHECK(s.get("/send").header("Allow") == "POST, OPTIONS");
  CHECK(s.del("/trigger").status == 405);
  CHECK(s.get("/nope").body == R"({"error":"not_found"})");
  CHECK(s.post("/nope", "{}").status == 404);
  s.post("/send", to_all(R"({"end":1})"));
  CHECK(data_of(c) == R"({"end":1})");
}

TEST_CASE("streams are capped, so that nobody fills the memory with them") {
  stand s;
  client c{s.port()};
  for (std::size_t i = 6; i < chat::streams::max_streams; ++i)
    REQUIRE(c.post("/streams", registration("/s" + std::to_string(i))).status == 201);
  const answer a = c.post("/streams", registration("/one-more"));
  CHECK(a.status == 409);
  CHECK(a.body == R"({"error":"too_many_streams"})");
  CHECK(s.del("/streams?path=/s6").status == 200);
  CHECK(c.post("/streams", registration("/one-more")).status == 201);
}

TEST_CASE("filters and queries have limits that are looked at before any work is done") {
  stand s;
  std::string filter;
  std::string query;
  for (int i = 0; i < 33; ++i) {
    filter += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":1";
    query += (i == 0 ? "?k" : "&k") + std::to_string(i) + "=1";
  }
  CHECK(s.post("/send", R"({"data":{},"filter":{)" + filter + "}}").status == 400);
  CHECK(client{s.port()}.open("/events" + query).status == 400);
  CHECK(chat::parameters::read(query.substr(1, query.rfind('&') - 1)));
  std::string huge;
  for (int i = 0; i < 100'000; ++i) huge += "\"k" + std::to_string(i) + "\":1,";
  const auto began = std::chrono::steady_clock::now();
  CHECK(s.post("/send", R"({"data":{},"filter":{)" + huge + "\"z\":1}}").status == 400);
  CHECK(std::chrono::steady_clock::now() - began < test::patience);  // it was 44 s for less
}
