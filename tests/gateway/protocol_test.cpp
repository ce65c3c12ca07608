// Commands and the requests that become commands.
#include "gateway/protocol.hpp"

#include <limits>
#include <string>
#include <variant>

#include "catch.hpp"

using namespace gateway;

namespace {
constexpr std::string_view json = "application/json";
constexpr std::string_view form = "application/x-www-form-urlencoded";
const new_order sample{order_side::buy, "BTCUSDT", 0.001, 50000.0, "web-1"};

request_error error_of(std::string_view type, std::string_view body) {
  return read_order(type, body).error;
}

std::string order_with_id(const std::string& escaped_id) {
  return R"({"side":"BUY","symbol":"BTCUSDT","qty":1,"price":1,"client_order_id":")" + escaped_id +
         "\"}";
}
}  // namespace

TEST_CASE("V-34 an order becomes exactly one command line") {
  CHECK(to_line(sample) == "ORDER BUY BTCUSDT 0.001 50000.0 web-1\n");
  const auto r = read_order(
      json,
      R"({"side":"BUY","symbol":"BTCUSDT","qty":0.001,"price":50000.0,"client_order_id":"web-1"})");
  REQUIRE(r.error == request_error::none);
  CHECK(to_line(r.value) == to_line(sample));
}

TEST_CASE("V-34 numbers may come as text, and other fields are ignored") {
  const auto r = read_order(
      "application/json; charset=utf-8",
      R"( {"x":[1,{"qty":7}],"side":"SELL","symbol":"A","qty":"0.25","price":"1e3","client_order_id":null} )");
  REQUIRE(r.error == request_error::none);
  CHECK(r.value.side == order_side::sell);
  CHECK(r.value.qty == 0.25);
  CHECK(r.value.price == 1000);
  CHECK(r.value.client_order_id.empty());
}

TEST_CASE("V-35 a form body says the same as JSON") {
  const auto r =
      read_order(form, "side=BUY&symbol=BTCUSDT&qty=0.001&price=50000.0&client_order_id=web%2D1");
  REQUIRE(r.error == request_error::none);
  CHECK(to_line(r.value) == to_line(sample));
  CHECK(read_order("", "side=BUY&symbol=BTCUSDT&qty=0.001&price=5e4").error == request_error::none);
  SECTION("JSON under the name of a form, as curl -d sends it") {
    const auto j = read_order(
        form,
        R"({"side":"BUY","symbol":"BTCUSDT","qty":0.001,"price":50000,"client_order_id":"web-1"})");
    REQUIRE(j.error == request_error::none);
    CHECK(to_line(j.value) == to_line(sample));
  }
}

TEST_CASE("V-36 default ids are web-<digits>, unique in a process and after a restart") {
  id_source ids;
  const std::int64_t now = 1'704'067'200'000'000'000;
  CHECK(ids.next(now) == "web-1704067200000000");
  CHECK(ids.next(now) == "web-1704067200000001");
  CHECK(ids.next(now - 5'000'000'000) == "web-1704067200000002");  // the clock was set back
  CHECK(ids.next(now + 1'000'000) == "web-1704067200001000");
  id_source restarted;
  CHECK(restarted.next(now + 2'000'000) == "web-1704067200002000");
}

TEST_CASE("V-37 bad orders are bad_params") {
  const auto body = [](std::string_view side, std::string_view symbol, std::string_view qty,
                       std::string_view price) {
    return std::string{"side="}
        .append(side)
        .append("&symbol=")
        .append(symbol)
        .append("&qty=")
        .append(qty)
        .append("&price=")
        .append(price);
  };
  REQUIRE(error_of(form, body("BUY", "BTCUSDT", "1", "1")) == request_error::none);
  for (const char* side : {"HOLD", "", "buy", "BUY%20", "BUY SELL"}) {
    CAPTURE(side);
    CHECK(error_of(form, body(side, "BTCUSDT", "1", "1")) == request_error::bad_params);
  }
  for (const char* number : {"0", "-1", "", "abc", "1x", "%2B1", "+1", "0x10", "inf", "nan",
                             "1e999", "1e-999", "1,5", "1 ", "--1"}) {
    CAPTURE(number);
    CHECK(error_of(form, body("BUY", "BTCUSDT", number, "1")) == request_error::bad_params);
    CHECK(error_of(form, body("BUY", "BTCUSDT", "1", number)) == request_error::bad_params);
  }
  CHECK(error_of(form, body("BUY", "", "1", "1")) == request_error::bad_params);
  CHECK(error_of(form, "") == request_error::bad_params);
  CHECK(error_of(form, "symbol=BTCUSDT&qty=1&price=1") == request_error::bad_params);
  CHECK(error_of(form, "side=%zz&symbol=BTCUSDT&qty=1&price=1") == request_error::bad_params);
  CHECK(error_of(json, R"({"side":"BUY","symbol":"BTCUSDT","qty":0,"price":1})") ==
        request_error::bad_params);
  CHECK(error_of(json, R"({"side":"BUY","symbol":"BTCUSDT","qty":1,"price":0})") ==
        request_error::bad_params);
  CHECK(error_of(json, R"({"side":"BUY","symbol":"BTCUSDT","qty":true,"price":1})") ==
        request_error::bad_params);
  CHECK(error_of(json, R"({"side":"BUY","symbol":"BTCUSDT","qty":1e999,"price":1})") ==
        request_error::bad_params);
  CHECK(error_of(json, R"({"side":"BUY","symbol":7,"qty":1,"price":1})") ==
        request_error::bad_params);
  CHECK(error_of(json, R"({"side":"BUY","symbol":"A","qty":1,"price":1,"client_order_id":7})") ==
        request_error::bad_params);
  CHECK(error_of(json, "[]") == request_error::bad_params);
  CHECK(error_of(json, "{}") == request_error::bad_params);
  CHECK(to_string(request_error::bad_params) == "bad_params");
}

TEST_CASE("V-37 malformed JSON is bad_json") {
  const auto broken = {"",
                       "{",
                       "nope",
                       "{\"side\":\"BUY\"} x",
                       "{\"side\":BUY}",
                       "{'side':1}",
                       "{\"qty\":01}",
                       "{\"a\":\"\xFF\"}",
                       "{\"a\":1,}",
                       "{} {}"};
  for (const char* body : broken) {
    CAPTURE(body);
    CHECK(error_of(json, body) == request_error::bad_json);
  }
  CHECK(error_of(form, "{\"side\":") == request_error::bad_json);
  CHECK(error_of(json, std::string(2000, '[')) == request_error::bad_json);
  CHECK(to_string(request_error::bad_json) == "bad_json");
}

TEST_CASE("V-38 cancel becomes one command line, and a missing id is bad_params") {
  CHECK(to_line(cancel_order{"web-1"}) == "CANCEL web-1\n");
  CHECK(read_cancel(json, R"({"client_order_id":"web-1"})").value.client_order_id == "web-1");
  CHECK(read_cancel(form, "client_order_id=web-1").value.client_order_id == "web-1");
  CHECK(read_cancel(json, "{}").error == request_error::bad_params);
  CHECK(read_cancel(json, R"({"client_order_id":""})").error == request_error::bad_params);
  CHECK(read_cancel(form, "").error == request_error::bad_params);
  CHECK(read_cancel(json, "{").error == request_error::bad_json);
}

TEST_CASE("X-19 an id or symbol that is not one word is bad_params") {
  REQUIRE(error_of(json, order_with_id("web-1")) == request_error::none);
  const auto bad_json_ids = {"a b",       "a\\nCANCEL x", "a\\rb",     "a\\u0000b", "a\\tb",
                             "\\u0001",   "a\\u007f",     " a",        "a ",        "\\n",
                             "a\\u00a0b", "a\\u2028b",    "a\\u0085b", "\\u00e9",   "\\ud800"};
  for (const char* id : bad_json_ids) {
    CAPTURE(id);
    CHECK(error_of(json, order_with_id(id)) == request_error::bad_params);
    CHECK(read_cancel(json, std::string{R"({"client_order_id":")"} + id + "\"}").error ==
          request_error::bad_params);
    CHECK(error_of(json, std::string{R"({"side":"BUY","qty":1,"price":1,"symbol":")"} + id +
                             "\"}") == request_error::bad_params);
  }
  for (const char* id : {"a+b", "a%20b", "a%0aORDER", "a%0Db", "a%00b", "%FF", "%C2%A0"}) {
    CAPTURE(id);
    CHECK(error_of(form, std::string{"side=BUY&symbol=A&qty=1&price=1&client_order_id="} + id) ==
          request_error::bad_params);
    CHECK(error_of(form, std::string{"side=BUY&qty=1&price=1&symbol="} + id) ==
          request_error::bad_params);
    CHECK(read_cancel(form, std::string{"client_order_id="} + id).error ==
          request_error::bad_params);
  }
  CHECK(error_of(json, order_with_id(std::string(64, 'x'))) == request_error::none);
  CHECK(error_of(json, order_with_id(std::string(65, 'x'))) == request_error::bad_params);
}

TEST_CASE("command lines are read back as they were written") {
  new_order order = sample;
  for (const double v : {0.1 + 0.2, 1e-8, 1e300, 5e-324, 12345678.9}) {
    order.qty = v;
    order.price = 1 / v < std::numeric_limits<double>::max() ? 1 / v : v;
    const auto back = parse_command(to_line(order));
    REQUIRE(back);
    const auto& got = std::get<new_order>(*back);
    CHECK(got.qty == order.qty);
    CHECK(got.price == order.price);
    CHECK(got.side == order.side);
    CHECK(got.symbol == order.symbol);
    CHECK(got.client_order_id == order.client_order_id);
  }
  const auto cancel = parse_command("CANCEL web-1\r\n");
  REQUIRE(cancel);
  CHECK(std::get<cancel_order>(*cancel).client_order_id == "web-1");
  CHECK(parse_command("ORDER  SELL BTCUSDT  1 2 x "));
}

TEST_CASE("V-49 bad command lines are refused") {
  for (const char* line :
       {"", "ORDER", "ORDER BUY BTCUSDT 1 2", "ORDER BUY BTCUSDT 1 2 x y",
        "ORDER HOLD BTCUSDT 1 2 x", "ORDER BUY BTCUSDT 0 2 x", "ORDER BUY BTCUSDT 1 -2 x",
        "ORDER BUY BTCUSDT one 2 x", "order BUY BTCUSDT 1 2 x", "CANCEL", "CANCEL a b", "HELLO",
        "ORDER\tBUY BTCUSDT 1 2 x", "ORDER BUY BTCUSDT 1 2 x\ty", "ORDER BUY BTC\x01 1 2 x",
        "{\"type\":\"ORDER\"}"}) {
    CAPTURE(line);
    CHECK_FALSE(parse_command(line));
  }
  CHECK_FALSE(parse_command(std::string(100000, 'x')));
  CHECK_FALSE(parse_command(std::string_view{"CANCEL a\0b", 10}));
}
