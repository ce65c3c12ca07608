// The HTTP interface beside the stream, of the real program.
#ifdef GATEWAY_PROGRAM
#include <string>
#include <vector>

#include "catch.hpp"
#include "common/json.hpp"
#include "program.hpp"

using namespace test;

namespace {

/// A gateway with an engine that has said nothing yet.
struct with_engine {
  explicit with_engine(std::vector<std::string> flags = {}) {
    flags.insert(flags.end(), {"--engine", engine.command()});
    gateway.emplace(flags);
  }
  /// Says lines, and waits until the last one is through.
  void say(const std::vector<std::string>& lines) {
    client stream = gateway->stream();
    for (const std::string& line : lines) engine.say(line);
    engine.say(R"({"type":"mark"})");
    while (next_event(stream).type != "mark") {
    }
  }
  engine_pipes engine;
  std::optional<program> gateway;
};

const std::string sample_order =
    R"({"side":"BUY","symbol":"BTCUSDT","qty":0.001,"price":50000.0,"client_order_id":"web-1"})";

}  // namespace

TEST_CASE("V-33 GET /health") {
  with_engine s;
  const answer a = s.gateway->get("/health");
  CHECK(a.status == 200);
  CHECK(a.body == R"({"ok":true})");
  CHECK(a.header("Content-Type") == "application/json");
}

TEST_CASE("V-34 V-35 an order, as JSON or as a form, becomes one line on the engine's stdin") {
  with_engine s;
  answer a = s.gateway->post("/api/order", sample_order);
  CHECK(a.status == 200);
  CHECK(a.body == R"({"ok":true,"client_order_id":"web-1"})");
  CHECK(s.engine.heard() == "ORDER BUY BTCUSDT 0.001 50000.0 web-1\n");

  a = s.gateway->post("/api/order",
                      "side=SELL&symbol=BTCUSDT&qty=0.5&price=61000.25&client_order_id=web%2D2",
                      "Content-Type: application/x-www-form-urlencoded\r\n");
  CHECK(a.status == 200);
  CHECK(a.body == R"({"ok":true,"client_order_id":"web-2"})");
  CHECK(s.engine.heard() == "ORDER SELL BTCUSDT 0.5 61000.25 web-2\n");
}

TEST_CASE("V-36 an order without an id gets one") {
  with_engine s;
  const std::string body =
      s.gateway->post("/api/order", R"({"side":"BUY","symbol":"BTCUSDT","qty":1,"price":2})").body;
  examples::json_document doc;
  REQUIRE(doc.parse(body) == examples::json_result::object);
  const std::string id{doc.string("client_order_id").value_or("")};
  CHECK(id.starts_with("web-"));
  CHECK(id.size() > 4);
  CHECK(id.find_first_not_of("0123456789", 4) == std::string::npos);
  CHECK(s.engine.heard() == "ORDER BUY BTCUSDT 1.0 2.0 " + id + "\n");
}

TEST_CASE("V-37 X-19 bad orders are refused, and the engine hears nothing of them") {
  with_engine s;
  const auto order = [](const std::string& side, const std::string& symbol, const std::string& qty,
                        const std::string& price, const std::string& id) {
    return R"({"side":")" + side + R"(","symbol":")" + symbol + R"(","qty":)" + qty +
           R"(,"price":)" + price + R"(,"client_order_id":")" + id + R"("})";
  };
  const std::vector<std::string> bad = {
      order("BUY", "BTCUSDT", "0", "1", "a"),
      order("BUY", "BTCUSDT", "1", "0", "a"),
      order("BUY", "BTCUSDT", "-1", "1", "a"),
      order("HOLD", "BTCUSDT", "1", "1", "a"),
      order("BUY", "", "1", "1", "a"),
      order("BUY", "BTC USDT", "1", "1", "a"),
      order("BUY", "BTCUSDT", "1", "1", "a b"),
      order("BUY", "BTCUSDT", "1", "1", R"(a\nCANCEL web-1)"),
      order("BUY", "BTCUSDT", "1", "1", R"(a\rb)"),
      order("BUY", "BTCUSDT", "1", "1", R"(a\u0000b)"),
      order("BUY", R"(BTC\nUSDT)", "1", "1", "a"),
      "{}",
      "[]",
  };
  for (const std::string& body : bad) {
    CAPTURE(body);
    const answer a = s.gateway->post("/api/order", body);
    CHECK(a.status == 400);
    CHECK(a.body == R"({"error":"bad_params"})");
  }
  const answer form = s.gateway->post(
      "/api/order", "side=BUY&symbol=BTCUSDT&qty=1&price=1&client_order_id=a%0AORDER",
      "Content-Type: application/x-www-form-urlencoded\r\n");
  CHECK(form.status == 400);
  for (const char* body : {"{", "{\"side\":", "not json", ""}) {
    CAPTURE(body);
    const answer a = s.gateway->post("/api/order", body);
    CHECK(a.status == 400);
    CHECK(a.body == R"({"error":"bad_json"})");
  }
  (void)s.gateway->post("/api/order", sample_order);
  CHECK(s.engine.heard() == "ORDER BUY BTCUSDT 0.001 50000.0 web-1\n");  // the first that it hears
}

TEST_CASE("V-38 cancel") {
  with_engine s;
  const answer a = s.gateway->post("/api/cancel", R"({"client_order_id":"web-1"})");
  CHECK(a.status == 200);
  CHECK(a.body == R"({"ok":true,"client_order_id":"web-1"})");
  CHECK(s.engine.heard() == "CANCEL web-1\n");
  for (const char* body :
       {"{}", R"({"client_order_id":""})", R"({"client_order_id":"a\nORDER"})"}) {
    CAPTURE(body);
    const answer bad = s.gateway->post("/api/cancel", body);
    CHECK(bad.status == 400);
    CHECK(bad.body == R"({"error":"bad_params"})");
  }
  CHECK(s.engine.silent());
}

TEST_CASE("V-39 GET /api/market is the last market event") {
  with_engine s;
  CHECK(s.gateway->get("/api/market").body == R"({"symbol":null,"price":null,"ts_ns":null})");
  s.say({R"({"type":"market","symbol":"BTCUSDT","ts_ns":1704067200000000000,"price":50000.0})",
         R"({"type":"market","symbol":"ETHUSDT","ts_ns":1704067200000000001,"price":2600.5})"});
  CHECK(s.gateway->get("/api/market").body ==
        R"({"symbol":"ETHUSDT","price":2600.5,"ts_ns":1704067200000000001})");
  CHECK(s.gateway->get("/api/market?symbol=BTCUSDT").body ==
        R"({"symbol":"BTCUSDT","price":50000.0,"ts_ns":1704067200000000000})");
  CHECK(s.gateway->get("/api/market?symbol=X").status == 404);
}

TEST_CASE("V-40 GET /api/orders lists the last 200 order events as they came") {
  with_engine s;
  CHECK(s.gateway->get("/api/orders").body == R"({"items":[]})");
  std::vector<std::string> lines;
  std::string wanted = R"({"items":[)";
  for (int i = 0; i < 250; ++i) {
    lines.push_back(R"({"type":"fill","ts_ns":1,"client_order_id":"w)" + std::to_string(i) +
                    R"(","symbol":"X","qty":1.0,"price":2.0})");
    if (i >= 50) wanted += (i > 50 ? "," : "") + lines.back();
  }
  s.say(lines);
  CHECK(s.gateway->get("/api/orders").body == wanted + "]}");
}

TEST_CASE("V-41 V-42 V-43 order states and the account follow from the engine's events") {
  with_engine s;
  const std::string order =
      R"({"side":"BUY","symbol":"BTCUSDT","qty":2,"price":50000.0,"client_order_id":"web-1"})";
  REQUIRE(s.gateway->post("/api/order", order).status == 200);
  const std::string path = "/api/order_state?client_order_id=web-1";
  CHECK(s.gateway->get(path).status == 404);
  CHECK(s.gateway->get(path).body == R"({"error":"not_found"})");
  CHECK(s.gateway->get("/api/order_state").status == 400);
  CHECK(s.gateway->get("/api/order_state").body == R"({"error":"bad_params"})");

  const auto status = [&] {
    examples::json_document doc;
    REQUIRE(doc.parse(s.gateway->get(path).body) == examples::json_result::object);
    return std::string{doc.string("status").value_or("")};
  };
  const std::string fill =
      R"({"type":"fill","ts_ns":2,"client_order_id":"web-1","symbol":"BTCUSDT","qty":1.0,"price":50000.0})";
  // The engine leaves the quantity out: it is known from the request.
  s.say({R"({"type":"order_update","ts_ns":1,"client_order_id":"web-1","status":"ACCEPTED"})"});
  CHECK(status() == "ACCEPTED");
  s.say({fill});
  CHECK(status() == "PARTIALLY_FILLED");
  s.say({fill});
  CHECK(status() == "FILLED");
  s.say({R"({"type":"order_update","ts_ns":3,"client_order_id":"w2","status":"CANCELLED"})",
         R"({"type":"fill","ts_ns":4,"client_order_id":"w2","symbol":"X","qty":1.0,"price":1.0})"});
  CHECK(s.gateway->get("/api/order_state?client_order_id=w2").body.find("CANCELLED") !=
        std::string::npos);

  examples::json_document all;
  REQUIRE(all.parse(s.gateway->get("/api/orders_state").body) == examples::json_result::object);
  CHECK(all.array_size("items") == 2);

  s.say(
      {R"({"type":"account","ts_ns":1704067200000000000,"balances":[{"asset":"USDT","free":9500.0,"locked":500.0}]})"});
  CHECK(
      s.gateway->get("/api/account").body ==
      R"({"ts_ns":1704067200000000000,"balances":[{"asset":"USDT","free":9500.0,"locked":500.0}]})");
}

TEST_CASE("V-44 with --cors '*' every answer allows any origin, OPTIONS is 204") {
  with_engine s{{"--cors", "*"}};
  const auto check = [](const answer& a) {
    CAPTURE(a.head);
    CHECK(a.header("Access-Control-Allow-Origin") == "*");
    CHECK(a.header("Access-Control-Allow-Methods") == "GET,POST,OPTIONS");
    CHECK(a.header("Access-Control-Allow-Headers").starts_with("Content-Type"));
    CHECK(a.header("Access-Control-Allow-Credentials").empty());
  };
  for (const char* path : {"/", "/health", "/metrics", "/api/market", "/api/orders",
                           "/api/orders_state", "/api/order_state", "/api/account", "/api/config",
                           "/nope", "/api/order", "/api/stream?last_id=x"}) {
    CAPTURE(path);
    check(s.gateway->get(path));
    client c{s.gateway->port()};
    const answer options =
        c.ask("OPTIONS " + std::string{path} + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(options.status == 204);
    check(options);
  }
  check(s.gateway->post("/api/order", "{"));
  CHECK(s.gateway->post("/api/order", sample_order, "Origin: https://a.example\r\n").status == 200);
  client stream{s.gateway->port()};
  check(stream.open("/api/stream"));
  client garbage{s.gateway->port()};
  check(garbage.ask("BAD\r\n\r\n"));
}

TEST_CASE(
    "X-25 every page may read the stream and what is public, not the account, and order nothing") {
  with_engine s;
  constexpr std::string_view theirs = "Origin: https://evil.example\r\n";
  const auto allowed = [&](const char* path) {
    return s.gateway->get(path, theirs).header("Access-Control-Allow-Origin");
  };
  for (const char* path : {"/api/market", "/api/config", "/health", "/metrics"}) {
    CAPTURE(path);
    CHECK(allowed(path) == "*");
  }
  for (const char* path : {"/", "/api/account", "/api/orders", "/api/orders_state",
                           "/api/order_state?client_order_id=a", "/nope"}) {
    CAPTURE(path);
    CHECK(allowed(path).empty());
  }
  client stream{s.gateway->port()};
  CHECK(stream.open("/api/stream", theirs).header("Access-Control-Allow-Origin") == "*");
  // A form needs no preflight, so the server itself has to refuse it.
  const std::string form = "Content-Type: application/x-www-form-urlencoded\r\n";
  const std::string order = "side=BUY&symbol=BTCUSDT&qty=1&price=1&client_order_id=evil";
  CHECK(s.gateway->post("/api/order", order, form + std::string{theirs}).status == 403);
  CHECK(s.gateway->post("/api/cancel", "client_order_id=a", form + "Origin: null\r\n").status ==
        403);
  CHECK(s.engine.silent());
  CHECK(s.gateway->post("/api/order", order, form + "Origin: http://localhost\r\n").status == 200);
}

TEST_CASE("X-25 on loopback only its own names are served, and those of --host-name") {
  with_engine s;
  const auto status = [](const program& p, const std::string& host) {
    return client{p.port()}.ask("GET /api/account HTTP/1.1\r\nHost: " + host + "\r\n\r\n").status;
  };
  for (const char* ours : {"localhost", "127.0.0.1:8080", "[::1]:1"}) {
    CAPTURE(ours);
    CHECK(status(*s.gateway, ours) == 200);
  }
  CHECK(status(*s.gateway, "rebound.example") == 403);
  CHECK(client{s.gateway->port()}
            .ask("GET /api/stream HTTP/1.1\r\nHost: rebound.example\r\n\r\n")
            .status == 403);
  program named{{"--host-name", "desk.example"}};
  CHECK(status(named, "desk.example:80") == 200);
  CHECK(status(named, "localhost") == 200);
  CHECK(status(named, "rebound.example") == 403);
}

TEST_CASE("V-44 X-24 --cors names one origin, or none") {
  {
    with_engine s{{"--cors", "https://app.example"}};
    const answer a = s.gateway->get("/health", "Origin: https://app.example\r\n");
    CHECK(a.header("Access-Control-Allow-Origin") == "https://app.example");
    CHECK(a.header("Vary") == "Origin");
    CHECK(s.gateway->get("/health", "Origin: https://evil.example\r\n")
              .header("Access-Control-Allow-Origin")
              .empty());
  }
  with_engine s{{"--cors", "none"}};
  CHECK(s.gateway->get("/health", "Origin: https://app.example\r\n")
            .header("Access-Control-Allow-Origin")
            .empty());
}

TEST_CASE("unknown paths and wrong methods are JSON errors") {
  with_engine s;
  const answer missing = s.gateway->get("/nope");
  CHECK(missing.status == 404);
  CHECK(missing.body == R"({"error":"not_found"})");
  CHECK(missing.header("Content-Type") == "application/json");
  const answer wrong = s.gateway->get("/api/order");
  CHECK(wrong.status == 405);
  CHECK(wrong.header("Allow") == "POST, OPTIONS");
  CHECK(wrong.body == R"({"error":"method_not_allowed"})");
}

TEST_CASE("the page, the metrics and the configuration") {
  with_engine s{{"--keep", "77"}};
  const answer page = s.gateway->get("/");
  CHECK(page.status == 200);
  CHECK(page.header("Content-Type") == "text/html; charset=utf-8");
  CHECK(page.header("Content-Security-Policy") ==
        "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; "
        "connect-src 'self'; img-src data:");
  CHECK(page.body.find("EventSource") != std::string::npos);
  const answer metrics = s.gateway->get("/metrics");
  CHECK(metrics.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8");
  CHECK(metrics.body.find("sse_channel_published_total{channel=\"events\"} ") != std::string::npos);
  const std::string config = s.gateway->get("/api/config").body;
  CHECK(config.find(R"("source":"engine")") != std::string::npos);
  CHECK(config.find(R"("keep":77,)") != std::string::npos);
}
#endif
