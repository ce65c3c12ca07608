// What is known of each order, from events in any order.
#include "gateway/order_state.hpp"

#include <string>

#include "catch.hpp"

using namespace gateway;

namespace {

order_update_event update(std::string_view id, std::string_view status, std::int64_t ts = 1) {
  order_update_event e;
  e.ts_ns = ts;
  e.client_order_id = id;
  e.status = status;
  return e;
}

order_update_event accepted(std::string_view id, double qty, std::string_view venue = "v-1") {
  order_update_event e = update(id, "ACCEPTED");
  e.venue_order_id = venue;
  e.symbol = "BTCUSDT";
  e.side = "BUY";
  e.qty = qty;
  e.price = 50000.0;
  e.reason = "";
  return e;
}

fill_event fill(std::string_view id, double qty, double price = 50000.0, std::int64_t ts = 2) {
  return {ts, id, "BTCUSDT", qty, price};
}

order_status status_of(const order_table& orders, std::string_view id) {
  const order_record* o = orders.find(id);
  return o != nullptr ? o->status : order_status::none;
}

}  // namespace

TEST_CASE("V-42 state from fills: 1 of 2 is PARTIALLY_FILLED, another 1 is FILLED") {
  order_table orders;
  orders.apply(accepted("x", 2));
  CHECK(status_of(orders, "x") == order_status::accepted);
  orders.apply(fill("x", 1, 50000.0, 7));
  CHECK(status_of(orders, "x") == order_status::partially_filled);
  CHECK(orders.find("x")->executed_qty == 1);
  CHECK(orders.find("x")->last_ts_ns == 7);
  orders.apply(fill("x", 1, 50001.0, 8));
  CHECK(status_of(orders, "x") == order_status::filled);
  CHECK(orders.find("x")->executed_qty == 2);
  CHECK(orders.find("x")->avg_price == 50000.5);
  CHECK(orders.find("x")->last_ts_ns == 8);
}

TEST_CASE("V-42 a fill after CANCELLED leaves it CANCELLED, and counts as executed") {
  order_table orders;
  orders.apply(accepted("x", 2));
  orders.apply(update("x", "CANCELLED"));
  orders.apply(fill("x", 2));
  CHECK(status_of(orders, "x") == order_status::cancelled);
  CHECK(orders.find("x")->executed_qty == 2);
  orders.apply(update("x", "ACCEPTED"));
  orders.apply(update("x", "FILLED"));
  CHECK(status_of(orders, "x") == order_status::cancelled);
}

TEST_CASE("V-42 sums of binary fractions still fill an order, at its very quantity") {
  order_table orders;
  orders.apply(accepted("x", 0.3));
  orders.apply(fill("x", 0.1));
  orders.apply(fill("x", 0.2));
  CHECK(status_of(orders, "x") == order_status::filled);
  CHECK(orders.find("x")->executed_qty == 0.3);
  CHECK(orders.find("x")->avg_price == 50000.0);
}

TEST_CASE("V-42 fills that come before their ACCEPTED are not undone by it") {
  order_table orders;
  orders.apply(fill("x", 1));
  CHECK(status_of(orders, "x") == order_status::partially_filled);
  orders.apply(accepted("x", 2));
  CHECK(status_of(orders, "x") == order_status::partially_filled);
  orders.apply(fill("y", 2));
  orders.apply(accepted("y", 2));
  CHECK(status_of(orders, "y") == order_status::filled);
}

TEST_CASE("V-42 the quantity is known from the request when the engine leaves it out") {
  order_table orders;
  orders.placed({order_side::sell, "BTCUSDT", 2, 50000.0, "x"});
  CHECK(orders.find("x") == nullptr);
  CHECK(orders.all().empty());
  orders.apply(update("x", "ACCEPTED"));
  REQUIRE(orders.find("x") != nullptr);
  CHECK(orders.find("x")->order_qty == 2.0);
  CHECK(orders.find("x")->side == "SELL");
  orders.apply(fill("x", 1));
  CHECK(status_of(orders, "x") == order_status::partially_filled);
  orders.apply(fill("x", 1));
  CHECK(status_of(orders, "x") == order_status::filled);
}

TEST_CASE("V-16 each of the six states is kept as said, and another text changes nothing") {
  order_table orders;
  for (const char* s :
       {"ACCEPTED", "PARTIALLY_FILLED", "FILLED", "CANCELLED", "REJECTED", "EXPIRED"}) {
    orders.apply(update(s, s));
    CHECK(to_string(status_of(orders, s)) == s);
  }
  orders.apply(update("ACCEPTED", "NEW"));
  CHECK(status_of(orders, "ACCEPTED") == order_status::accepted);
  CHECK(orders.all().size() == 6);
}

TEST_CASE("V-49 the rejection of a duplicate does not touch the live order") {
  order_table orders;
  orders.apply(accepted("x", 2));
  orders.placed({order_side::buy, "BTCUSDT", 5, 1.0, "x"});
  auto e = update("x", "REJECTED");
  e.reason = "duplicate_client_order_id";
  orders.apply(e);
  CHECK(status_of(orders, "x") == order_status::accepted);
  CHECK(orders.find("x")->order_qty == 2.0);
  CHECK(orders.find("x")->reason == "");
}

TEST_CASE("V-41 a cancel of an unknown order makes no order") {
  order_table orders;
  auto e = update("x", "REJECTED");
  e.reason = "unknown_order";
  orders.apply(e);
  CHECK(orders.find("x") == nullptr);
  orders.apply(accepted("x", 1));
  orders.apply(e);  // the engine was restarted and forgot it
  CHECK(status_of(orders, "x") == order_status::rejected);
}

TEST_CASE("V-41 an id may be used again when its order is finished") {
  order_table orders;
  orders.apply(accepted("x", 2, "v-1"));
  orders.apply(fill("x", 2));
  SECTION("another venue order id tells it") {
    orders.apply(accepted("x", 3, "v-2"));
    CHECK(orders.find("x")->order_qty == 3.0);
  }
  SECTION("or the request does") {
    orders.placed({order_side::sell, "BTCUSDT", 4, 1.0, "x"});
    CHECK(status_of(orders, "x") == order_status::filled);
    orders.apply(update("x", "ACCEPTED"));
    CHECK(orders.find("x")->order_qty == 4.0);
  }
  CHECK(status_of(orders, "x") == order_status::accepted);
  CHECK(orders.find("x")->executed_qty == 0);
  CHECK(orders.size() == 1);
}

TEST_CASE("V-41 an order_state event is taken as it is") {
  order_table orders;
  order_state_event s;
  s.client_order_id = "x";
  s.status = "PARTIALLY_FILLED";
  s.order_qty = 2.0;
  s.executed_qty = 0.5;
  s.avg_price = 7.0;
  s.last_ts_ns = 9;
  orders.apply(s);
  REQUIRE(orders.find("x") != nullptr);
  CHECK(orders.find("x")->executed_qty == 0.5);
  CHECK(orders.find("x")->last_ts_ns == 9);
  orders.apply(fill("x", 1.5, 7.0));
  CHECK(status_of(orders, "x") == order_status::filled);
}

TEST_CASE("V-41 orders are bounded: the oldest finished one goes first, then the oldest live one") {
  order_table orders{3};
  orders.apply(accepted("live", 1));
  orders.apply(accepted("done-1", 1));
  orders.apply(accepted("done-2", 1));
  orders.apply(update("done-2", "CANCELLED"));
  orders.apply(update("done-1", "CANCELLED"));
  orders.apply(accepted("new-1", 1));
  CHECK(orders.find("done-2") == nullptr);
  orders.apply(accepted("new-2", 1));
  CHECK(orders.find("done-1") == nullptr);
  CHECK(orders.find("live") != nullptr);
  orders.apply(accepted("new-3", 1));
  CHECK(orders.find("live") == nullptr);
  CHECK(orders.size() == 3);
  REQUIRE(orders.all().size() == 3);
  CHECK(orders.all().front()->client_order_id == "new-1");
}

TEST_CASE("order_table survives nonsense") {
  order_table orders;
  orders.apply(fill("", 1));
  orders.apply(fill("x", 0));
  orders.apply(fill("x", -1));
  orders.apply(fill(std::string(300, 'x'), 1));
  CHECK(orders.size() == 0);
  orders.apply(fill("x", 1e308));
  orders.apply(fill("x", 1e308));
  CHECK(orders.find("x")->executed_qty == 1e308);
  auto e = update("y", "REJECTED");
  const std::string reason(1000, 'r');
  e.reason = reason;
  orders.apply(e);
  CHECK(orders.find("y")->reason->size() == 256);
}
