// Where events come from, in the real program: the simulated exchange, an engine, a recording.
#ifdef GATEWAY_PROGRAM
#include <chrono>
#include <string>
#include <vector>

#include "catch.hpp"
#include "common/json.hpp"
#include "program.hpp"

using namespace test;

namespace {

std::string field(const sse_event& e, std::string_view name) {
  examples::json_document doc;
  REQUIRE(doc.parse(e.data) == examples::json_result::object);
  return std::string{doc.string(name).value_or("")};
}

/// The next event about orders.
sse_event next_order_event(client& stream) {
  for (;;) {
    sse_event e = next_event(stream);
    if (e.end || (e.type != "market" && e.type != "account")) return e;
  }
}

std::string trade(int n, const char* price = "100.5") {
  return std::to_string(1723161254000000000 + n) +
         R"( {"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","p":")" + price +
         R"(","T":)" + std::to_string(1723161254000 + n) + "}}\n";
}

}  // namespace

// --- the simulated exchange

TEST_CASE("V-48 V-49 V-07 the simulated exchange: an order lives through, a duplicate is refused") {
  program gateway{{}};
  client stream = gateway.stream("?last_id=0");
  sse_event e = next_event(stream);
  while (e.type != "market") e = next_event(stream);
  CHECK(field(e, "symbol") == "BTCUSDT");

  const std::string deep =
      R"({"side":"BUY","symbol":"BTCUSDT","qty":0.001,"price":1000.0,"client_order_id":"deep"})";
  REQUIRE(gateway.post("/api/order", deep).status == 200);
  e = next_order_event(stream);
  CHECK(field(e, "status") == "ACCEPTED");
  CHECK(next_order_event(stream).type == "order_state");
  REQUIRE(gateway.post("/api/order", deep).status == 200);
  e = next_order_event(stream);
  CHECK(e.type == "order_update");
  CHECK(field(e, "status") == "REJECTED");
  CHECK(field(e, "reason") == "duplicate_client_order_id");
  REQUIRE(gateway.post("/api/cancel", R"({"client_order_id":"deep"})").status == 200);
  e = next_order_event(stream);
  CHECK(field(e, "status") == "CANCELLED");
  CHECK(next_order_event(stream).type == "order_state");

  REQUIRE(
      gateway
          .post(
              "/api/order",
              R"({"side":"BUY","symbol":"BTCUSDT","qty":0.001,"price":60000.0,"client_order_id":"web-1"})")
          .status == 200);
  std::string life;
  for (int i = 0; i < 5; ++i) {
    e = next_order_event(stream);
    CHECK(field(e, "client_order_id") == "web-1");
    life += e.type + " " + field(e, "status") + ", ";
  }
  CHECK(life ==
        "order_update ACCEPTED, order_state ACCEPTED, fill , order_update FILLED, order_state "
        "FILLED, ");
  REQUIRE(
      gateway
          .post(
              "/api/order",
              R"({"side":"BUY","symbol":"BTCUSDT","qty":900,"price":60000.0,"client_order_id":"rich"})")
          .status == 200);
  e = next_order_event(stream);
  CHECK(field(e, "reason") == "insufficient_funds");
}

// --- an engine

TEST_CASE("V-12 V-45 V-46 V-47 X-14 lines of an engine, whole or in parts, and what is no line") {
  engine_pipes engine;
  program gateway{{"--engine", engine.command()}};
  client stream = gateway.stream();
  engine.say("engine v1.2 ready");
  engine.say("");
  engine.say("{broken");
  engine.say("[1,2]");
  engine.say(R"({"no_type":1})");
  engine.write(std::string_view{"\xff\xfe\0garbage\n", 11});
  const std::string special = R"({"type":"odd_one","text":"a\nb\\c \"d\" \r\t é \u2028","n":1e3})";
  engine.say(special);
  sse_event e = next_event(stream);
  CHECK(e.type == "odd_one");
  CHECK(e.data == special);
  const std::uint64_t id = e.id;

  engine.write(R"({"type":"ha)");
  engine.write(R"(lf","x":)");
  engine.write("1}\r\n{\"type\":\"error\",\"ts_ns\":5,\"message\":\"m\"}\n");
  e = next_event(stream);
  CHECK(e.type == "half");
  CHECK(e.data == R"({"type":"half","x":1})");
  CHECK(e.id == id + 1);
  e = next_event(stream);
  CHECK(e.type == "error");
  CHECK(e.data == R"({"type":"error","ts_ns":5,"message":"m"})");
  CHECK(gateway.metric("gateway_refused_lines_total") == 5);
}

TEST_CASE("V-45 a line that should have been an event is counted, and the log says so once") {
  engine_pipes engine;
  program gateway{{"--engine", engine.command()}};
  client stream = gateway.stream();
  engine.say("a banner");
  engine.say("{\"type\":\"fill\",\"symbol\":\"caf\xE9\"}");  // Latin-1
  engine.say("{\"type\":\"market\",\"price\":NaN}");
  engine.say("\xEF\xBB\xBF{\"type\":\"market\",\"price\":1.0}");  // a byte order mark
  engine.say("{\"type\":\"big\",\"x\":\"" + std::string(std::size_t{2} << 20, 'x') + "\"}");
  engine.market(1);
  CHECK(next_event(stream).type == "market");
  CHECK(gateway.metric("gateway_unreadable_lines_total") == 4);
  CHECK(gateway.get("/api/config").body.find("\"unreadable_lines\":4") != std::string::npos);
  CHECK(gateway.logs("could not be read"));
  const std::string log = gateway.log();
  CHECK(log.find("could not be read") == log.rfind("could not be read"));
}

TEST_CASE("V-50 the engine's end is an event, orders are refused, and it is started again") {
  engine_pipes engine;
  program gateway{{"--engine", engine.command()}};
  client stream = gateway.stream();
  engine.market(1);
  CHECK(next_event(stream).type == "market");
  engine.write(R"({"type":"last"})"
               "\n"
               R"({"type":"unfinished)");
  engine.end();

  CHECK(next_event(stream).type == "last");  // what it said before its end comes first
  sse_event e = next_event(stream);
  CHECK(e.type == "error");
  CHECK(field(e, "message") == "engine_exited");
  const answer refused =
      gateway.post("/api/order", R"({"side":"BUY","symbol":"BTCUSDT","qty":1,"price":2})");
  CHECK(refused.status == 500);
  CHECK(refused.body == R"({"error":"execution_unavailable"})");
  CHECK(gateway.post("/api/cancel", R"({"client_order_id":"a"})").status == 500);
  CHECK(gateway.get("/health").status == 200);

  engine.open();
  engine.market(2);
  e = next_event(stream);  // the half line of the run before is forgotten
  CHECK(e.type == "market");
  CHECK(gateway.post("/api/cancel", R"({"client_order_id":"a"})").status == 200);
  CHECK(engine.heard() == "CANCEL a\n");
  CHECK(gateway.logs("exited with code 0, next start in 1 s"));
}

TEST_CASE("V-50 an engine that is killed, one that closes its stdout, one that never reads") {
  directory dir;
  SECTION("killed") {
    const std::string pid = dir.file("pid");
    program gateway{{"--engine", "sh -c 'echo $$ >" + pid +
                                     "; echo \"{\\\"type\\\":\\\"up\\\"}\"; exec sleep 1000'"}};
    client stream = gateway.stream("?last_id=0");
    CHECK(next_event(stream).type == "up");
    ::kill(static_cast<pid_t>(std::stol(content_of(pid))), SIGKILL);
    CHECK(field(next_event(stream), "message") == "engine_exited");
    CHECK(gateway.logs("was ended by signal 9"));
    CHECK(next_event(stream).type == "up");  // again, a second later
  }
  SECTION("closes its stdout") {
    program gateway{
        {"--engine", "sh -c 'echo \"{\\\"type\\\":\\\"up\\\"}\"; exec >&-; exec sleep 1000'"}};
    client stream = gateway.stream("?last_id=0");
    CHECK(next_event(stream).type == "up");
    CHECK(field(next_event(stream), "message") == "engine_exited");
  }
  SECTION("never reads") {
    program gateway{{"--engine", "sleep 1000"}};
    const std::string filler(60, 'x');
    const std::string cancel = R"({"client_order_id":")" + filler + R"("})";
    client c{gateway.port()};
    int sent = 0;
    answer a;
    // 68 bytes each: what fits into the pipe and the queue of 1 MiB, then no more.
    for (; sent < 40'000; ++sent) {
      a = c.post("/api/cancel", cancel);
      if (a.status != 200) break;
    }
    CHECK(a.status == 500);
    CHECK(a.body == R"({"error":"execution_unavailable"})");
    CHECK(sent > 10'000);
    CHECK(gateway.get("/health").status == 200);
  }
}

TEST_CASE("V-45 an engine's endless line is dropped, and the stream goes on") {
  engine_pipes engine;
  program gateway{{"--engine", engine.command()}};
  client stream = gateway.stream();
  const std::string piece(65536, 'x');
  for (int i = 0; i < 40; ++i) engine.write(piece);
  engine.write("\n");
  engine.market(1);
  CHECK(next_event(stream).type == "market");
}

// --- a recording

TEST_CASE("V-32 a recording with unreadable lines gives one market_source_error in 5 s") {
  std::string lines = trade(1);
  for (int i = 0; i < 100; ++i) lines += "nonsense " + std::to_string(i) + "\n";
  lines += trade(2, "101.5");
  directory dir;
  program gateway{{"--replay", dir.file("recording", lines), "--speed", "max"}};
  client stream = gateway.stream("?last_id=0");
  std::vector<sse_event> events;
  for (int i = 0; i < 4; ++i) events.push_back(next_event(stream));
  int errors = 0;
  int markets = 0;
  for (const sse_event& e : events) {
    errors += e.type == "error";
    markets += e.type == "market";
    if (e.type == "error") CHECK(field(e, "message") == "market_source_error");
  }
  CHECK(errors == 1);
  CHECK(markets == 2);  // and the account
  CHECK(gateway.get("/api/market").body ==
        R"({"symbol":"BTCUSDT","price":101.5,"ts_ns":1723161254002000000})");
}

TEST_CASE("V-48 after its end a recording's prices still fill orders") {
  directory dir;
  program gateway{{"--replay", dir.file("recording", trade(1)), "--speed", "max"}};
  client stream = gateway.stream("?last_id=0");
  while (next_event(stream).type != "market") {
  }
  REQUIRE(
      gateway
          .post("/api/order",
                R"({"side":"BUY","symbol":"BTCUSDT","qty":1,"price":100.5,"client_order_id":"a"})")
          .status == 200);
  CHECK(field(next_order_event(stream), "status") == "ACCEPTED");
  CHECK(next_order_event(stream).type == "order_state");
  const sse_event fill = next_order_event(stream);
  CHECK(fill.type == "fill");
  CHECK(fill.data.find("\"price\":100.5") != std::string::npos);
}

TEST_CASE("a recording on stdin plays at its own pace, and --loop begins again") {
  program gateway{{"--replay", "-", "--loop", "--speed", "2"}};
  client stream = gateway.stream();
  const auto start = std::chrono::steady_clock::now();
  gateway.feed(trade(0, "1") + trade(200'000'000, "2") + trade(400'000'000, "3"));
  std::vector<std::string> prices;
  const auto next_price = [&] {
    const sse_event e = next_event(stream);
    return e.data.substr(e.data.rfind(':') + 1);
  };
  for (int i = 0; i < 3; ++i) CHECK(next_price() == std::to_string(i + 1) + ".0}");
  CHECK(std::chrono::steady_clock::now() - start >= std::chrono::milliseconds{200});
  gateway.child().close_stdin();
  for (int i = 0; i < 3; ++i) CHECK(next_price() == std::to_string(i + 1) + ".0}");
}

TEST_CASE("wait-readers holds the replay until they are there, and a file loops") {
  directory dir;
  program gateway{{"--replay", dir.file("recording", trade(1, "1") + trade(2, "2")), "--speed",
                   "max", "--loop", "--wait-readers", "2"}};
  client one = gateway.stream();
  CHECK(gateway.metric("sse_channel_published_total{channel=\"events\"}") == 1);  // the account
  client two = gateway.stream();
  std::uint64_t last = 0;
  for (int i = 0; i < 10; ++i) {
    const sse_event a = next_event(one);
    CHECK(next_event(two).id == a.id);
    CHECK(a.data.ends_with(i % 2 == 0 ? ":1.0}" : ":2.0}"));
    if (last != 0) CHECK(a.id == last + 1);
    last = a.id;
  }
}
#endif
