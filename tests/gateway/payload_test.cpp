// The payloads, byte for byte in the contract's form.
#include "gateway/payload.hpp"

#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "common/json.hpp"
#include "gateway/protocol.hpp"

using namespace gateway;

namespace {
constexpr std::int64_t ts = 1704067200000000000;

std::string quoted(std::string_view text) {
  std::string out;
  examples::append_json_string(out, text);
  return out;
}
std::string number(double value) {
  std::string out;
  examples::append_json_number(out, value);
  return out;
}
}  // namespace

TEST_CASE(
    "V-07 V-14 market payload has type, symbol, ts_ns with every digit, price with its fraction") {
  CHECK(to_json(market_event{"BTCUSDT", ts, 50000.0}) ==
        R"({"type":"market","symbol":"BTCUSDT","ts_ns":1704067200000000000,"price":50000.0})");
}

TEST_CASE(
    "V-08 V-14 V-15 V-16 order_update payload in full, and with the optional fields left out") {
  order_update_event e;
  e.ts_ns = ts;
  e.client_order_id = "web-1234567890";
  e.venue_order_id = "123456";
  e.status = "FILLED";
  e.symbol = "BTCUSDT";
  e.side = "BUY";
  e.qty = 0.001;
  e.price = 50000.0;
  e.reason = "";
  CHECK(
      to_json(e) ==
      R"({"type":"order_update","ts_ns":1704067200000000000,"client_order_id":"web-1234567890",)"
      R"("venue_order_id":"123456","status":"FILLED","symbol":"BTCUSDT","side":"BUY","qty":0.001,)"
      R"("price":50000.0,"reason":""})");
  order_update_event least;
  least.client_order_id = "x";
  least.status = "REJECTED";
  CHECK(to_json(least) ==
        R"({"type":"order_update","ts_ns":0,"client_order_id":"x","status":"REJECTED"})");
}

TEST_CASE("V-09 fill payload") {
  CHECK(to_json(fill_event{ts, "web-1234567890", "BTCUSDT", 0.001, 50000.0}) ==
        R"({"type":"fill","ts_ns":1704067200000000000,"client_order_id":"web-1234567890",)"
        R"("symbol":"BTCUSDT","qty":0.001,"price":50000.0})");
}

TEST_CASE("V-10 order_state payload in full, and with the optional fields left out") {
  order_state_event e;
  e.client_order_id = "web-1234567890";
  e.status = "FILLED";
  e.symbol = "BTCUSDT";
  e.side = "BUY";
  e.order_qty = 0.001;
  e.limit_price = 50000.0;
  e.venue_order_id = "123456";
  e.executed_qty = 0.001;
  e.avg_price = 50000.0;
  e.reason = "";
  e.last_ts_ns = ts;
  CHECK(
      to_json(e) ==
      R"({"type":"order_state","client_order_id":"web-1234567890","status":"FILLED","symbol":"BTCUSDT",)"
      R"("side":"BUY","order_qty":0.001,"limit_price":50000.0,"venue_order_id":"123456",)"
      R"("executed_qty":0.001,"avg_price":50000.0,"reason":"","last_ts_ns":1704067200000000000})");
  order_state_event least;
  least.client_order_id = "x";
  CHECK(
      to_json(least) ==
      R"({"type":"order_state","client_order_id":"x","executed_qty":0.0,"avg_price":0.0,"last_ts_ns":0})");
}

TEST_CASE("V-11 account payload lists asset, free and locked") {
  const std::vector<balance> balances{{"USDT", 9500.0, 500.0}, {"BTC", 0.01, 0.0}};
  CHECK(
      to_json(account_event{ts, &balances}) ==
      R"({"type":"account","ts_ns":1704067200000000000,"balances":[)"
      R"({"asset":"USDT","free":9500.0,"locked":500.0},{"asset":"BTC","free":0.01,"locked":0.0}]})");
  CHECK(to_json(account_event{1, nullptr}) == R"({"type":"account","ts_ns":1,"balances":[]})");
}

TEST_CASE("V-12 error payload") {
  CHECK(to_json(error_event{ts, "market_source_error"}) ==
        R"({"type":"error","ts_ns":1704067200000000000,"message":"market_source_error"})");
}

TEST_CASE("V-14 the extremes of ts_ns are digits only") {
  CHECK(to_json(error_event{std::numeric_limits<std::int64_t>::max(), ""}) ==
        R"({"type":"error","ts_ns":9223372036854775807,"message":""})");
  CHECK(to_json(error_event{-1, ""}) == R"({"type":"error","ts_ns":-1,"message":""})");
}

TEST_CASE("payload numbers read back as the same double and are always JSON") {
  CHECK(number(50000.0) == "50000.0");
  CHECK(number(0.0) == "0.0");
  CHECK(number(-3.0) == "-3.0");
  CHECK(number(61837.63) == "61837.63");
  for (const double v :
       {0.1 + 0.2, 1e20, 1e-5, 5e-324, 1e16, 123456789012345680.0, 1.7976931348623157e308}) {
    CAPTURE(number(v));
    CHECK(parse_number(number(v)) == v);
    CHECK(number(v).find_first_of(".e") != std::string::npos);
    CHECK(number(v).find(".e") == std::string::npos);
  }
  CHECK(number(std::numeric_limits<double>::infinity()) == "null");
  CHECK(number(std::numeric_limits<double>::quiet_NaN()) == "null");
}

TEST_CASE("payload strings are escaped, and broken UTF-8 is replaced") {
  CHECK(quoted("\\ \" \n \r \t \b \f") == R"("\\ \" \n \r \t \b \f")");
  CHECK(quoted(std::string_view{"\0\x01\x1f\x7f", 4}) == "\"\\u0000\\u0001\\u001f\x7f\"");
  CHECK(quoted("gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80") ==
        "\"gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80\"");
  const std::string bad = "\xEF\xBF\xBD";
  CHECK(quoted("a\xFF"
               "b") == "\"a" + bad + "b\"");
  CHECK(quoted("\xC3") == "\"" + bad + "\"");
  CHECK(quoted("\xC0\xAF") == "\"" + bad + bad + "\"");                      // overlong
  CHECK(quoted("\xED\xA0\x80") == "\"" + bad + bad + bad + "\"");            // surrogate
  CHECK(quoted("\xF4\x90\x80\x80") == "\"" + bad + bad + bad + bad + "\"");  // beyond U+10FFFF
  CHECK(quoted("\xE2\x82\"") == "\"" + bad + "\\\"\"");  // cut by a quote: one part, one U+FFFD
}
