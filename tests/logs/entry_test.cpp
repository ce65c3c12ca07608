// Entries without a socket: their form, what may be published, agents, the heartbeat on a clock of
// its own.
#include <cstdint>
#include <ctime>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "../stage.hpp"
#include "catch.hpp"
#include "common/clock.hpp"
#include "common/json.hpp"
#include "logs/entry.hpp"

using namespace logs;
using examples::clock_text;
using test::count;
using test::stage;

namespace {

constexpr std::int64_t second = 1000;
sse::time_point at(std::int64_t seconds) { return sse::time_point::milliseconds(seconds * second); }

/// A stream of entries on a clock that the test moves, as the server makes it.
struct entries {
  explicit entries(sse::duration every = sse::duration::seconds(5)) {
    sse::channel_options o;
    o.heartbeat.every = every;
    channel = s.open("entries", entry_channel(std::move(o), [this] {
                       return heartbeat_json(clock_text(static_cast<std::time_t>(now)),
                                             who.online(at(now)));
                     }));
  }
  void go_to(std::int64_t seconds) {
    now = seconds;
    s.at(seconds * second);
  }
  void say(std::string_view text) {
    REQUIRE(channel.publish({.data = to_json("10:30:05", "info", "api", text)}));
    s.flush();
  }

  stage s{};
  agents who;
  std::int64_t now = 0;
  sse::channel channel = {};
};

std::size_t beats(const std::string& bytes) { return count(bytes, "heartbeat: "); }

}  // namespace

TEST_CASE("E-06 E-07 an entry's bytes are one data line of JSON and nothing else") {
  entries e;
  const auto reader = e.s.join(e.channel);
  e.say("HTTP request completed");
  CHECK(e.s.take(reader) ==
        "data: {\"time\":\"10:30:05\",\"level\":\"info\",\"component\":\"api\",\"message\":\"HTTP "
        "request completed\"}\n\n");
}

TEST_CASE("E-08 E-09 an entry has four strings, the first of which is the time of day") {
  const std::regex time{R"(([01]\d|2[0-3]):[0-5]\d:[0-5]\d)"};
  for (std::time_t t = 0; t < 86400 * 2; t += 3607) CHECK(std::regex_match(clock_text(t), time));
  const std::string json = to_json(clock_text(0), "info", "api", "m");
  examples::json_document doc;
  REQUIRE(doc.parse(json) == examples::json_result::object);
  for (const char* name : {"time", "level", "component", "message"}) CHECK(doc.string(name));
  CHECK(count(json, "\":\"") == 4);  // and there are no others
}

TEST_CASE("E-10 E-11 the listed levels and components pass, others are refused") {
  const auto with = [](const std::string& level, const std::string& component) {
    return read_entry(R"({"level":")" + level + R"(","component":")" + component +
                      R"(","message":"m"})");
  };
  for (const char* level : {"debug", "info", "warn", "error"}) CHECK(with(level, "api"));
  for (const char* level : {"", "INFO", "fatal", "warning", "info "})
    CHECK_FALSE(with(level, "api"));
  for (const char* component : {"api", "orchestrator", "model-router", "registry", "evolution",
                                "mqtt", "telegram", "system"}) {
    CAPTURE(component);
    CHECK(with("info", component));
  }
  for (const char* component : {"", "API", "kafka", "model_router"})
    CHECK_FALSE(with("info", component));
  CHECK_FALSE(read_entry("{"));
  CHECK_FALSE(read_entry("[]"));
  CHECK_FALSE(read_entry(R"({"level":"info","component":"api"})"));
  CHECK_FALSE(read_entry(R"({"level":"info","component":"api","message":1})"));
  CHECK_FALSE(read_entry(R"({"level":"info","component":"api","message":"m","agent":7})"));
  const auto sent = read_entry(R"({"level":"info","component":"api","message":"m","agent":"a"})");
  CHECK(sent->agent == "a");
}

TEST_CASE("E-12 E-13 a message of any text is one line, and reads back as it was") {
  entries e;
  const auto reader = e.s.join(e.channel);
  const std::string text = "a\nb\r\nc\"d\\e\tf\xe2\x80\xa8g\x01h";
  e.say(text);
  const std::string bytes = e.s.take(reader);
  CHECK(count(bytes, "\n") == 2);
  CHECK(count(bytes, "\r") == 0);
  CHECK(bytes.starts_with("data: {"));
  examples::json_document doc;
  REQUIRE(doc.parse(bytes.substr(6, bytes.size() - 8)) == examples::json_result::object);
  CHECK(doc.string("message") == text);
}

TEST_CASE("E-14 a heartbeat entry every five seconds") {
  entries e;
  const auto reader = e.s.join(e.channel);
  e.go_to(4);
  CHECK(beats(e.s.take(reader)) == 0);
  e.go_to(5);
  CHECK(beats(e.s.take(reader)) == 1);
  e.go_to(20);
  CHECK(beats(e.s.take(reader)) == 3);
}

TEST_CASE("E-15 X-28 a heartbeat says how many agents are online, and has no id") {
  entries e;
  const auto reader = e.s.join(e.channel);
  const auto beat = [&](std::int64_t seconds) {
    e.go_to(seconds);
    return e.s.take(reader);
  };
  const auto expected = [](std::int64_t seconds, int agents) {
    return "data: {\"time\":\"" + clock_text(static_cast<std::time_t>(seconds)) +
           "\",\"level\":\"info\",\"component\":\"system\",\"message\":\"heartbeat: " +
           std::to_string(agents) + " agents online\"}\n\n";
  };
  CHECK(beat(5) == expected(5, 0));
  for (const char* name : {"a", "b", "c", "a"}) e.who.heard(at(6), {.agent = name});
  e.who.heard(at(6), {});  // nobody
  CHECK(beat(10) == expected(10, 3));
  e.who.heard(at(30), {.agent = "b"});
  CHECK(e.who.online(at(65)) == 3);
  CHECK(e.who.online(at(66)) == 1);  // a minute after they were last heard of
  CHECK(e.who.find(at(66), "b") != nullptr);
  CHECK(e.who.find(at(66), "a") == nullptr);
}

TEST_CASE("E-16 heartbeats come at their pace also while entries flow") {
  entries e;
  const auto reader = e.s.join(e.channel);
  std::vector<std::size_t> seen;
  for (std::int64_t t = 1; t <= 10; ++t) {
    e.go_to(t);
    e.say("entry");
    seen.push_back(beats(e.s.take(reader)));
  }
  CHECK(seen == std::vector<std::size_t>{0, 0, 0, 0, 1, 0, 0, 0, 0, 1});
}

TEST_CASE("E-18 a stream with nothing but heartbeats is open after a day") {
  entries e;
  const auto reader = e.s.join(e.channel);
  std::size_t n = 0;
  for (std::int64_t t = 5; t <= 86400; t += 5) {
    e.go_to(t);
    n += beats(e.s.take(reader));
  }
  CHECK(n == 86400 / 5);
  CHECK_FALSE(e.s.closed(reader));
  CHECK(e.s.hub.sessions() == 1);
}

TEST_CASE("the heartbeat entry can be off, and agents are bounded") {
  entries e{sse::duration::off()};
  (void)e;
  agents who;
  for (std::size_t i = 0; i < agents::most + 10; ++i)
    who.heard(at(0), {.agent = "agent " + std::to_string(i)});
  CHECK(who.online(at(0)) == agents::most);
}
