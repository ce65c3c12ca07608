// The exchange inside, in virtual time.
#include "gateway/simulator.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "common/json.hpp"
#include "gateway/line_splitter.hpp"
#include "gateway/order_store.hpp"

using namespace gateway;

namespace {

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t opening = 1'704'067'200'000'000'000;

/// The engine with prices given by the test, and what it said, each line also read by an
/// order_store.
struct exchange {
  simulated_engine engine;
  order_store store{};
  std::int64_t now = opening;
  std::vector<std::string> lines{};

  explicit exchange(simulator_options options = manual()) : engine{std::move(options), opening} {}

  static simulator_options manual() {
    simulator_options o;
    o.walk = false;
    return o;
  }

  /// The lines since the last call.
  std::vector<std::string> said() {
    std::vector<std::string> out;
    line_splitter splitter;
    splitter.feed(engine.take_output(), [&](std::string_view line) {
      out.emplace_back(line);
      REQUIRE(store.consume(line));
    });
    return out;
  }
  /// The same, in short: type, and status or message where there is one.
  std::vector<std::string> words() {
    std::vector<std::string> out;
    lines = said();
    examples::json_document doc;
    for (const std::string& line : lines) {
      REQUIRE(doc.parse(line) == examples::json_result::object);
      std::string word{*doc.string("type")};
      for (const char* key : {"status", "message"}) {
        if (const auto v = doc.string(key)) word.append(" ").append(*v);
      }
      if (const auto v = doc.string("reason"); v && !v->empty()) word.append(" ").append(*v);
      out.push_back(word);
    }
    return out;
  }
  void command(std::string_view line) { engine.command(line, now); }
  void price(double p, std::string_view symbol = "BTCUSDT") { engine.market(symbol, p, now, now); }
  void wait(std::int64_t ns) { engine.advance(now += ns); }
  double funds(std::string_view asset, const char* which) {
    examples::json_document doc;
    REQUIRE(doc.parse(store.account_json()) == examples::json_result::object);
    for (std::size_t i = 0; i < doc.array_size("balances"); doc.leave(), ++i) {
      REQUIRE(doc.enter_item("balances", i));
      if (doc.string("asset") == asset) return doc.number(which).value();
    }
    return -1;
  }
};

using strings = std::vector<std::string>;

}  // namespace

TEST_CASE(
    "V-48 an order is ACCEPTED, then fill, then FILLED, with order_state and account after each "
    "change") {
  exchange x;
  CHECK(x.words() == strings{"account"});
  CHECK(x.funds("USDT", "free") == 100000);
  CHECK(x.funds("BTC", "free") == 0);
  x.price(49000);
  x.command("ORDER BUY BTCUSDT 0.5 50000.0 web-1\n");
  CHECK(x.words() == strings{"market", "order_update ACCEPTED", "order_state ACCEPTED", "account"});
  CHECK(
      x.lines[1] ==
      R"({"type":"order_update","ts_ns":1704067200000000000,"client_order_id":"web-1","venue_order_id":"sim-1",)"
      R"("status":"ACCEPTED","symbol":"BTCUSDT","side":"BUY","qty":0.5,"price":50000.0,"reason":""})");
  CHECK(x.funds("USDT", "free") == 75000);
  CHECK(x.funds("USDT", "locked") == 25000);

  CHECK(x.engine.next_deadline_ns() == opening + 300 * ms);
  x.wait(300 * ms - 1);
  CHECK(x.words().empty());
  x.wait(1);
  CHECK(x.words() == strings{"fill", "order_update FILLED", "order_state FILLED", "account"});
  CHECK(
      x.lines[0] ==
      R"({"type":"fill","ts_ns":1704067200300000000,"client_order_id":"web-1","symbol":"BTCUSDT","qty":0.5,"price":49000.0})");
  CHECK(x.lines[2] == *x.store.order_state_json("web-1"));
  CHECK(x.store.orders().find("web-1")->avg_price == 49000);
  CHECK(x.funds("USDT", "free") == 75500);
  CHECK(x.funds("USDT", "locked") == 0);
  CHECK(x.funds("BTC", "free") == 0.5);
  CHECK_FALSE(x.engine.next_deadline_ns());
}

TEST_CASE("V-48 an order waits for a price at or better than its limit") {
  exchange x;
  x.price(50001);
  x.command("ORDER BUY BTCUSDT 1 50000 b");
  x.wait(1000 * ms);
  x.price(50000.01);
  x.words();
  x.price(50000);
  CHECK(x.words() ==
        strings{"market", "fill", "order_update FILLED", "order_state FILLED", "account"});
  x.command("ORDER SELL BTCUSDT 0.25 60000 s");
  x.wait(300 * ms);
  x.price(59999.99);
  x.words();
  x.price(60010);
  CHECK(x.words() ==
        strings{"market", "fill", "order_update FILLED", "order_state FILLED", "account"});
  CHECK(x.funds("BTC", "free") == 0.75);
  CHECK(x.funds("BTC", "locked") == 0);
  CHECK(x.funds("USDT", "free") == 50000 + 0.25 * 60010);
}

TEST_CASE("V-48 a price that comes too early, or of another symbol, fills nothing") {
  exchange x;
  x.command("ORDER BUY BTCUSDT 1 50000 b");
  x.wait(299 * ms);
  x.price(49000);
  x.price(50001);
  x.wait(10 * ms);
  x.price(1, "ETHUSDT");
  for (const std::string& word : x.words()) CHECK(word.find("fill") == std::string::npos);
  x.price(50000);
  CHECK(x.words()[1] == "fill");
}

TEST_CASE("V-48 CANCEL of a live order is CANCELLED and gives the funds back") {
  exchange x;
  x.command("ORDER BUY BTCUSDT 1 50000 b");
  x.words();
  x.command("CANCEL b\n");
  CHECK(x.words() == strings{"order_update CANCELLED", "order_state CANCELLED", "account"});
  CHECK(x.funds("USDT", "free") == 100000);
  CHECK(x.funds("USDT", "locked") == 0);
  x.price(1);
  x.wait(1000 * ms);
  x.command("CANCEL b");  // already cancelled: no event
  CHECK(x.words() == strings{"market"});
}

TEST_CASE("V-49 rejections") {
  exchange x;
  x.price(50000);
  x.words();
  SECTION("duplicate live id") {
    x.command("ORDER BUY BTCUSDT 1 50000 b");
    x.words();
    x.command("ORDER BUY BTCUSDT 0.1 50000 b");
    CHECK(x.words() == strings{"order_update REJECTED duplicate_client_order_id"});
    CHECK(x.store.orders().find("b")->status == order_status::accepted);
    x.wait(300 * ms);
    x.words();
    CHECK(x.store.orders().find("b")->status == order_status::filled);
    x.command("ORDER BUY BTCUSDT 0.1 50000 b");  // finished: the id is free again
    CHECK(x.words()[0] == "order_update ACCEPTED");
    CHECK(x.store.orders().find("b")->venue_order_id == "sim-2");
    CHECK(x.store.orders().find("b")->status == order_status::accepted);
  }
  SECTION("bad line") {
    x.command("BUY me a coffee");
    CHECK(x.words() == strings{"error bad_command"});
    CHECK(x.lines[0] == R"({"type":"error","ts_ns":1704067200000000000,"message":"bad_command"})");
    x.command("\n");
    CHECK(x.words().empty());
  }
  SECTION("too little money") {
    x.command("ORDER BUY BTCUSDT 2.1 50000 b");
    CHECK(x.words() == strings{"order_update REJECTED insufficient_funds",
                               "order_state REJECTED insufficient_funds"});
    x.command("ORDER SELL BTCUSDT 0.1 50000 s");
    CHECK(x.words()[0] == "order_update REJECTED insufficient_funds");
    x.command("ORDER BUY BTCUSDT 1e300 1e300 h");
    CHECK(x.words()[0] == "order_update REJECTED insufficient_funds");
    x.command("ORDER BUY BTCUSDT 2 50000 all");  // to the last dollar
    CHECK(x.words()[0] == "order_update ACCEPTED");
    CHECK(x.funds("USDT", "free") == 0);
    x.command("CANCEL b");  // rejected: nothing to cancel
    CHECK(x.words().empty());
  }
  SECTION("unknown order, unknown symbol, nothing worth") {
    x.command("CANCEL never");
    CHECK(x.words() == strings{"order_update REJECTED unknown_order"});
    CHECK(x.store.orders_state_json() == R"({"items":[]})");
    x.command("ORDER BUY BTCEUR 1 1 e");
    CHECK(x.words()[0] == "order_update REJECTED unknown_symbol");
    x.command("ORDER BUY USDT 1 1 u");
    CHECK(x.words()[0] == "order_update REJECTED unknown_symbol");
    x.command("ORDER BUY BTCUSDT 1e-9 50000 d");
    CHECK(x.words()[0] == "order_update REJECTED below_minimum");
  }
  SECTION("cancel of a filled order: no event") {
    x.command("ORDER BUY BTCUSDT 1 50000 b");
    x.wait(300 * ms);
    x.words();
    x.command("CANCEL b");
    CHECK(x.words().empty());
  }
}

TEST_CASE("V-07 the walk gives a market event every 200 ms from the start") {
  exchange x{simulator_options{}};
  CHECK(x.engine.next_deadline_ns() == opening);
  x.words();
  x.wait(0);
  CHECK(x.words() == strings{"market"});
  CHECK(x.engine.next_deadline_ns() == opening + 200 * ms);
  x.wait(199 * ms);
  CHECK(x.words().empty());
  x.wait(801 * ms);
  CHECK(x.words() == strings(5, "market"));
  CHECK(x.lines[0].find(R"("ts_ns":1704067200200000000)") != std::string::npos);
}

TEST_CASE("V-07 the walk moves in cents and stays near its start, the same for the same seed") {
  const auto prices = [](std::uint64_t seed) {
    simulator_options o;
    o.seed = seed;
    simulated_engine engine{o, opening};
    std::string all;
    for (std::int64_t t = opening; t < opening + 600'000 * ms; t += 200 * ms) {
      engine.advance(t);
      all += engine.take_output();
    }
    return all;
  };
  const std::string once = prices(1);
  CHECK(once == prices(1));
  CHECK(once != prices(2));
  line_splitter lines;
  examples::json_document doc;
  int events = 0;
  int at_most_50000 = 0;
  std::map<double, int> distinct;
  lines.feed(once, [&](std::string_view line) {
    REQUIRE(doc.parse(line) == examples::json_result::object);
    if (doc.string("type") != "market") return;
    const double price = doc.number("price").value();
    REQUIRE(price == Approx(49985).margin(60));
    REQUIRE(price * 100 == Approx(std::round(price * 100)).margin(1e-6));
    ++events;
    at_most_50000 += price <= 50000;
    ++distinct[price];
  });
  CHECK(events == 3000);
  CHECK(distinct.size() > 500);
  CHECK(at_most_50000 > 2900);
}

TEST_CASE("V-48 with the walk, the contract's sample order lives through in about 300 ms") {
  exchange x{simulator_options{}};
  x.wait(0);
  x.command("ORDER BUY BTCUSDT 0.001 50000.0 web-1");
  x.wait(300 * ms);
  CHECK(x.words() == strings{"account", "market", "order_update ACCEPTED", "order_state ACCEPTED",
                             "account", "market", "fill", "order_update FILLED",
                             "order_state FILLED", "account"});
  x.command("ORDER BUY ETHUSDT 1 1 e");
  CHECK(x.words()[0] == "order_update REJECTED unknown_symbol");
}

TEST_CASE("the simulator copes with a clock that jumps") {
  exchange x{simulator_options{}};
  x.wait(0);
  x.command("ORDER BUY BTCUSDT 0.001 60000 b");
  x.words();
  x.wait(-3'600'000 * ms);  // set back by an hour: due in 300 ms all the same
  CHECK(x.engine.next_deadline_ns() == x.now + 200 * ms);
  x.wait(300 * ms);
  CHECK(x.words() ==
        strings{"market", "fill", "order_update FILLED", "order_state FILLED", "account"});
  x.wait(3'600'000 * ms);  // asleep for an hour: not 18,000 events
  CHECK(x.words() == strings{"market"});
  CHECK(x.engine.next_deadline_ns() == x.now + 200 * ms);
}

TEST_CASE("the simulator is bounded") {
  simulator_options o = exchange::manual();
  o.max_live = 2;
  o.max_finished = 2;
  exchange x{o};
  for (const char* id : {"a", "b", "c"}) x.command(std::string{"ORDER BUY BTCUSDT 0.001 1 "} + id);
  CHECK(x.words().at(7) == "order_update REJECTED too_many_orders");
  x.command("CANCEL a");
  x.command("CANCEL b");
  x.words();
  x.command("CANCEL c");  // the oldest finished id, forgotten
  CHECK(x.words() == strings{"order_update REJECTED unknown_order"});
  x.command("CANCEL a");
  CHECK(x.words().empty());
}

TEST_CASE("the simulator's money adds up") {
  exchange x;
  std::uint64_t r = 7;
  const auto random = [&r](std::uint64_t n) {
    return (r = r * 6364136223846793005U + 1442695040888963407U) >> 33 & (n - 1);
  };
  for (int i = 0; i < 2000; ++i) {
    const std::string id = std::to_string(random(64));
    switch (random(4)) {
      case 0: x.price(1 + static_cast<double>(random(64)) / 8); break;
      case 1: x.wait(static_cast<std::int64_t>(random(256)) * ms); break;
      case 2: x.command("CANCEL " + id); break;
      default:
        x.command(std::string{random(2) != 0 ? "ORDER BUY" : "ORDER SELL"} + " BTCUSDT " +
                  std::to_string(1 + random(256)) + "." + std::to_string(random(1024)) + " " +
                  std::to_string(1 + random(8)) + " " + id);
    }
  }
  x.words();
  for (int i = 0; i < 64; ++i) x.command("CANCEL " + std::to_string(i));
  x.words();
  CHECK(x.funds("USDT", "locked") == 0);
  CHECK(x.funds("BTC", "locked") == 0);
  CHECK(x.funds("USDT", "free") >= 0);
  CHECK(x.funds("BTC", "free") >= 0);
  CHECK(x.funds("BTC", "free") + x.funds("USDT", "free") != 100000);  // something was traded
}

// --- an exchange that trades by itself -----------------------------------------------------------

namespace {

simulator_options lively(std::uint64_t seed = 1) {
  simulator_options o;
  o.trade_every_ns = 3000 * ms;
  o.seed = seed;
  return o;
}

/// The prices and quantities of a side of a book, one behind the other.
std::vector<double> levels_of(const std::string& book, const std::string& side) {
  std::vector<double> out;
  std::size_t at = book.find("\"" + side + "\":[");
  REQUIRE(at != std::string::npos);
  at += side.size() + 4;
  const std::size_t end = std::min(book.find("]]", at), book.size());
  while (at < end) {
    at = book.find_first_of("0123456789", at);
    if (at >= end) break;
    std::size_t used = 0;
    out.push_back(std::stod(book.substr(at), &used));
    at += used;
  }
  return out;
}

}  // namespace

TEST_CASE("8 the exchange trades by itself: some orders fill, some are taken back, money adds up") {
  exchange x{lively()};
  for (int i = 0; i < 600; ++i) x.wait(200 * ms);
  const strings words = x.words();
  const auto count = [&](const std::string& w) {
    return std::count(words.begin(), words.end(), w);
  };
  CHECK(count("order_update ACCEPTED") >= 20);
  CHECK(count("order_update FILLED") >= 10);
  CHECK(count("order_update CANCELLED") >= 1);
  CHECK(count("fill") == count("order_update FILLED"));
  CHECK(count("order_update REJECTED insufficient_funds") == 0);
  CHECK(count("book") == count("market"));
  CHECK(x.funds("BTC", "free") >= 0);
  CHECK(x.funds("USDT", "free") > 90'000);
  const auto output = [](const simulator_options& o) {
    simulated_engine engine{o, opening};
    for (int i = 1; i <= 150; ++i) engine.advance(opening + i * 200 * ms);
    return engine.take_output();
  };
  CHECK(output(lively()) == output(lively()));
  CHECK(output(lively()) != output(lively(2)));
  CHECK(output(simulator_options{}).find("order") == std::string::npos);
  CHECK(output(simulator_options{}).find("book") == std::string::npos);
}

TEST_CASE("8 the book: the best price first, no bid above an ask, and who waits stands in it") {
  exchange x{lively()};
  x.command("ORDER BUY BTCUSDT 0.125 49982.25 mine");
  for (int i = 0; i < 150; ++i) x.wait(200 * ms);
  std::size_t books = 0;
  std::size_t with_mine = 0;
  bool mine_waits = true;
  std::string last;
  std::size_t changed = 0;
  for (const std::string& line : x.said()) {
    mine_waits = mine_waits && (line.find("\"mine\"") == std::string::npos ||
                                line.find("FILLED") == std::string::npos);
    if (line.find("\"type\":\"book\"") == std::string::npos) continue;
    CAPTURE(line);
    ++books;
    const std::vector<double> bids = levels_of(line, "bids");
    const std::vector<double> asks = levels_of(line, "asks");
    REQUIRE(bids.size() == 20);
    REQUIRE(asks.size() == 20);
    CHECK(bids[0] < asks[0]);
    for (std::size_t i = 0; i < 20; i += 2) {
      CHECK(bids[i + 1] > 0);
      CHECK(asks[i + 1] > 0);
      if (i == 0) continue;
      CHECK(bids[i] < bids[i - 2]);
      CHECK(asks[i] > asks[i - 2]);
    }
    const bool shown = line.find("[49982.25,0.125]") != std::string::npos;
    if (shown) {
      CHECK(mine_waits);
      ++with_mine;
    }
    const std::string levels = line.substr(line.find("\"bids\""));
    changed += levels != last ? 1 : 0;
    last = levels;
  }
  CHECK(books > 100);
  CHECK(changed == books);
  CHECK(with_mine > 0);
}
