// Engine output lines to events and to the /api answers.
#include "gateway/order_store.hpp"

#include <string>
#include <vector>

#include "catch.hpp"
#include "common/json.hpp"
#include "gateway/line_splitter.hpp"

using namespace gateway;

namespace {

struct published {
  std::string type;
  std::string data;
  bool operator==(const published&) const = default;
};

std::vector<published> publish(order_store& store, std::string_view bytes) {
  std::vector<published> out;
  line_splitter lines;
  lines.feed(bytes, [&](std::string_view line) {
    if (const auto e = store.consume(line))
      out.push_back({std::string{e->type}, std::string{e->data}});
  });
  return out;
}

void feed(order_store& store, std::string_view line) { REQUIRE(store.consume(line)); }

}  // namespace

TEST_CASE(
    "V-45 each JSON line is one event, while banner, blank and broken lines are none and stop "
    "nothing") {
  order_store store;
  const auto got = publish(store,
                           "engine 1.0 starting\n"
                           "\n"
                           "  \r\n"
                           "{\"type\":\"market\",\"symbol\":\"A\",\"ts_ns\":1,\"price\":2}\n"
                           "{\"type\":\"market\"\n"
                           "{\"type\":\"market\"} trailing\n"
                           "{\"type\":\"a\"}{\"type\":\"b\"}\n"
                           "[\"type\"]\n"
                           "\"type\"\n"
                           "42\n"
                           "{\"no\":\"type\"}\n"
                           "{\"type\":7}\n"
                           "{\"type\":\"x\",\"v\":\"\xFF\"}\n"
                           "{\"type\":\"fill\"}\r\n"
                           "{\"type\":\"never ended\"}");
  CHECK(got ==
        std::vector<published>{{"market", R"({"type":"market","symbol":"A","ts_ns":1,"price":2})"},
                               {"fill", R"({"type":"fill"})"}});
  CHECK(store.refused() == 10);
}

TEST_CASE("V-45 a type that cannot be an SSE event name gives no event") {
  order_store store;
  for (const char* type : {"", "a\\nb", "a\\rb", "a\\u0000b", "a\\u000ab"}) {
    CAPTURE(type);
    CHECK_FALSE(store.consume(std::string{R"({"type":")"} + type + "\"}"));
  }
  CHECK(store.consume("{\"type\":\"" + std::string(128, 'x') + "\"}"));
  CHECK_FALSE(store.consume("{\"type\":\"" + std::string(129, 'x') + "\"}"));
  CHECK(store.refused() == 6);
}

TEST_CASE("V-45 JSON beyond what simdjson holds is still an event") {
  order_store store;
  const std::vector<std::string> lines{R"({"type":"x","n":123456789012345678901234567890})",
                                       R"({"type":"x","n":-99999999999999999999,"m":1e999})",
                                       R"({"type":"x","s":"\ud800 \udc00 \ud83d\ude00 \\ud800"})",
                                       R"({"type":"x","n":18446744073709551615})"};
  for (const std::string& line : lines) {
    const auto e = store.consume(line);
    REQUIRE(e);
    CHECK(e->data == line);
  }
  for (const char* line :
       {R"({"type":"x","n":0123456789012345678901234567890})", R"({"type":"x","n":1e999,"m":1.})",
        R"({"type":"x","n":1e999,"s":"\x"})", R"({"type":"x","n":1e999)",
        R"({"type":"x","s":"\ud800)", R"({"type":"x","s":"\u12"})",
        R"({"type":"x","n":99999999999999999999-1})", "{\"type\":\"x\",\"s\":\"\\"}) {
    CAPTURE(line);
    CHECK_FALSE(store.consume(line));
  }
}

TEST_CASE("V-46 V-13 an unlisted type is forwarded under its name") {
  order_store store;
  const auto e = store.consume(R"({"type":"funding_rate","x":1})");
  REQUIRE(e);
  CHECK(e->type == "funding_rate");
  CHECK(e->data == R"({"type":"funding_rate","x":1})");
  const auto twice = store.consume(R"({"type":"first","type":"second"})");
  REQUIRE(twice);
  CHECK(twice->type == "second");  // as JSON.parse reads it
  const auto escaped = store.consume(R"({"type":"fi\u006cl"})");
  REQUIRE(escaped);
  CHECK(escaped->type == "fill");
}

TEST_CASE("V-47 escapes and digits survive byte for byte on one line") {
  order_store store;
  const std::string line =
      R"({"type" : "note", "s":"\\ \" \n \r \t \u2028 \/ \ud83d\ude00", "n":1.50000000000000000000, "e":1E+2 })";
  const auto got = publish(store, line + "\r\n");
  REQUIRE(got.size() == 1);
  CHECK(got[0].data == line);
  const auto cr =
      store.consume("{\"type\":\"note\",\r\"a\":\r\n1}\r\n");  // line ends between tokens
  REQUIRE(cr);
  CHECK(cr->data == "{\"type\":\"note\", \"a\":  1}");
}

TEST_CASE("V-14 ts_ns keeps its digits from the engine to the answers") {
  order_store store;
  const std::string line =
      R"({"type":"market","symbol":"BTCUSDT","ts_ns":1704067200000000001,"price":50000.0})";
  const auto e = store.consume(line);
  REQUIRE(e);
  CHECK(e->data == line);
  CHECK(store.market_json() ==
        R"({"symbol":"BTCUSDT","price":50000.0,"ts_ns":1704067200000000001})");
}

TEST_CASE("V-39 market answers with the last market event, and per symbol") {
  order_store store;
  CHECK(store.market_json() == R"({"symbol":null,"price":null,"ts_ns":null})");
  feed(store, R"({"type":"market","symbol":"BTCUSDT","ts_ns":1,"price":50000.25})");
  feed(store, R"({"type":"market","symbol":"ETHUSDT","ts_ns":2,"price":2500})");
  CHECK(store.market_json() == R"({"symbol":"ETHUSDT","price":2500.0,"ts_ns":2})");
  CHECK(store.market_json("BTCUSDT") == R"({"symbol":"BTCUSDT","price":50000.25,"ts_ns":1})");
  CHECK_FALSE(store.market_json("XRPUSDT"));
  feed(store, R"({"type":"market","symbol":"ETHUSDT"})");
  CHECK(store.market_json() == R"({"symbol":"ETHUSDT","price":2500.0,"ts_ns":2})");
}

TEST_CASE("V-40 the order log holds the last 200 order events as they came") {
  order_store store;
  CHECK(store.orders_json() == R"({"items":[]})");
  feed(store, R"({"type":"market","symbol":"A","ts_ns":1,"price":2})");
  feed(store, R"({"type":"order_update","ts_ns":1,"client_order_id":"x","status":"ACCEPTED"})");
  feed(store, R"({"type":"fill","ts_ns":1,"client_order_id":"x","symbol":"A","qty":1,"price":2})");
  feed(
      store,
      R"({"type":"order_state","client_order_id":"x","executed_qty":1,"avg_price":2,"last_ts_ns":1})");
  CHECK(store.orders_json() ==
        R"({"items":[{"type":"order_update","ts_ns":1,"client_order_id":"x","status":"ACCEPTED"},)"
        R"({"type":"fill","ts_ns":1,"client_order_id":"x","symbol":"A","qty":1,"price":2}]})");
  for (int i = 0; i < 500; ++i) {
    feed(store, R"({"type":"order_update","ts_ns":1,"client_order_id":"o)" + std::to_string(i) +
                    R"(","status":"ACCEPTED"})");
  }
  examples::json_document doc;
  REQUIRE(doc.parse(store.orders_json()) == examples::json_result::object);
  CHECK(doc.array_size("items") == 200);
  REQUIRE(doc.enter_item("items", 0));
  CHECK(doc.string("client_order_id") == "o300");
}

TEST_CASE("V-40 the order log is bounded in bytes, too") {
  store_limits limits;
  limits.log_bytes = 1000;
  order_store store{limits};
  const auto line = [](std::size_t n) {
    return R"({"type":"fill","pad":")" + std::string(n, 'x') + "\"}";
  };
  feed(store, line(400));
  feed(store, line(401));
  feed(store, line(402));
  CHECK(store.orders_json().size() < 1000);
  feed(store, line(2000));
  CHECK(store.orders_json().find(std::string(402, 'x')) != std::string::npos);
}

TEST_CASE("V-41 order states by id and as a list") {
  order_store store;
  CHECK(store.orders_state_json() == R"({"items":[]})");
  CHECK_FALSE(store.order_state_json("x"));
  feed(
      store,
      R"({"type":"order_update","ts_ns":5,"client_order_id":"x","venue_order_id":"v-1","status":"ACCEPTED",)"
      R"("symbol":"BTCUSDT","side":"BUY","qty":2,"price":50000.0,"reason":""})");
  const std::string state =
      R"({"type":"order_state","client_order_id":"x","status":"ACCEPTED","symbol":"BTCUSDT","side":"BUY","order_qty":2.0,)"
      R"("limit_price":50000.0,"venue_order_id":"v-1","executed_qty":0.0,"avg_price":0.0,"reason":"","last_ts_ns":5})";
  CHECK(store.order_state_json("x") == state);
  CHECK(store.orders_state_json() == R"({"items":[)" + state + "]}");
}

TEST_CASE("V-42 state from fills, as engine lines") {
  order_store store;
  const std::string fill =
      R"({"type":"fill","ts_ns":6,"client_order_id":"x","symbol":"BTCUSDT","qty":1,"price":100})";
  store.placed({order_side::buy, "BTCUSDT", 2, 100, "x"});
  feed(store, R"({"type":"order_update","ts_ns":5,"client_order_id":"x","status":"ACCEPTED"})");
  feed(store, fill);
  CHECK(store.orders().find("x")->status == order_status::partially_filled);
  feed(store, fill);
  CHECK(store.orders().find("x")->status == order_status::filled);
  CHECK(store.orders().find("x")->avg_price == 100);
}

TEST_CASE("V-43 account answers with what is known of each asset") {
  order_store store;
  CHECK(store.account_json() == R"({"ts_ns":null,"balances":[]})");
  feed(
      store,
      R"({"type":"account","ts_ns":7,"balances":[{"asset":"USDT","free":9500.0,"locked":500},{"asset":"BTC","free":0.01,"locked":0}]})");
  CHECK(
      store.account_json() ==
      R"({"ts_ns":7,"balances":[{"asset":"USDT","free":9500.0,"locked":500.0},{"asset":"BTC","free":0.01,"locked":0.0}]})");
  feed(
      store,
      R"({"type":"account","ts_ns":8,"balances":[{"asset":"BTC","free":0.02,"locked":0},{"asset":"ETH","free":1},7,{"free":1}]})");
  CHECK(
      store.account_json() ==
      R"({"ts_ns":8,"balances":[{"asset":"USDT","free":9500.0,"locked":500.0},{"asset":"BTC","free":0.02,"locked":0.0},)"
      R"({"asset":"ETH","free":1.0,"locked":0.0}]})");
  feed(store, R"({"type":"account","ts_ns":9,"balances":{}})");
  CHECK(store.orders_json() == R"({"items":[]})");
}

TEST_CASE("known types with fields of the wrong kind are events that change nothing") {
  order_store store;
  for (const char* type : {"market", "order_update", "fill", "order_state", "account", "error"}) {
    feed(
        store,
        std::string{R"({"type":")"} + type +
            R"(","ts_ns":"x","client_order_id":{},"status":[],"symbol":1,"price":"2","qty":null,"balances":3,"last_ts_ns":1.5})");
  }
  CHECK(store.orders_state_json() == R"({"items":[]})");
  CHECK(store.market_json() == R"({"symbol":null,"price":null,"ts_ns":null})");
}

TEST_CASE("order_store keeps a bounded number of symbols and assets") {
  store_limits limits;
  limits.symbols = 2;
  limits.assets = 2;
  order_store store{limits};
  for (const char* s : {"A", "B", "C"}) {
    feed(store, std::string{R"({"type":"market","symbol":")"} + s + R"(","ts_ns":1,"price":1})");
    feed(store, std::string{R"({"type":"account","ts_ns":1,"balances":[{"asset":")"} + s +
                    R"(","free":1,"locked":0}]})");
  }
  CHECK(store.market_json() == R"({"symbol":"C","price":1.0,"ts_ns":1})");
  CHECK_FALSE(store.market_json("C"));
  CHECK(store.account_json().find("\"C\"") == std::string::npos);
}
