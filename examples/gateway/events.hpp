// ssehub example gateway. SPDX-License-Identifier: MIT
//
// The six events of the contract, and the simulated exchange's order book, as plain structs: one
// vocabulary for reading engine lines and for writing payloads.
//
//   std::string json = gateway::to_json(gateway::market_event{"BTCUSDT", now_ns, 50000.0});
//
// All text members are views: they must live as long as the struct is used. An absent optional is
// left out of the JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gateway {

/// The order states of the contract; `none` is an order of which no state is known yet.
enum class order_status : unsigned char {
  none,
  accepted,
  partially_filled,
  filled,
  cancelled,
  rejected,
  expired
};

[[nodiscard]] constexpr std::string_view to_string(order_status s) noexcept {
  switch (s) {
    case order_status::accepted: return "ACCEPTED";
    case order_status::partially_filled: return "PARTIALLY_FILLED";
    case order_status::filled: return "FILLED";
    case order_status::cancelled: return "CANCELLED";
    case order_status::rejected: return "REJECTED";
    case order_status::expired: return "EXPIRED";
    case order_status::none: break;
  }
  return "";
}

/// `none` for a text that is not one of the six.
[[nodiscard]] constexpr order_status parse_status(std::string_view text) noexcept {
  for (const order_status s :
       {order_status::accepted, order_status::partially_filled, order_status::filled,
        order_status::cancelled, order_status::rejected, order_status::expired}) {
    if (text == to_string(s)) return s;
  }
  return order_status::none;
}

/// True when an order can change no more.
[[nodiscard]] constexpr bool is_final(order_status s) noexcept {
  return s == order_status::filled || s == order_status::cancelled || s == order_status::rejected ||
         s == order_status::expired;
}

struct market_event {
  std::string_view symbol{};
  std::int64_t ts_ns = 0;
  double price = 0;
};

struct order_update_event {
  std::int64_t ts_ns = 0;
  std::string_view client_order_id{};
  std::optional<std::string_view> venue_order_id{};
  std::string_view status{};
  std::optional<std::string_view> symbol{};
  std::optional<std::string_view> side{};
  std::optional<double> qty{};
  std::optional<double> price{};
  std::optional<std::string_view> reason{};
};

struct fill_event {
  std::int64_t ts_ns = 0;
  std::string_view client_order_id{};
  std::string_view symbol{};
  double qty = 0;
  double price = 0;
};

struct order_state_event {
  std::string_view client_order_id{};
  std::optional<std::string_view> status{};
  std::optional<std::string_view> symbol{};
  std::optional<std::string_view> side{};
  std::optional<double> order_qty{};
  std::optional<double> limit_price{};
  std::optional<std::string_view> venue_order_id{};
  double executed_qty = 0;
  double avg_price = 0;
  std::optional<std::string_view> reason{};
  std::int64_t last_ts_ns = 0;
};

struct balance {
  std::string asset{};
  double free = 0;
  double locked = 0;
};

struct account_event {
  std::int64_t ts_ns = 0;
  const std::vector<balance>* balances = nullptr;  ///< nullptr: none
};

struct book_level {
  double price = 0;
  double qty = 0;
};

/// What rests on an exchange, the best price of each side first.
struct book_event {
  std::string_view symbol{};
  std::int64_t ts_ns = 0;
  const std::vector<book_level>* bids = nullptr;  ///< nullptr: none
  const std::vector<book_level>* asks = nullptr;
};

struct error_event {
  std::int64_t ts_ns = 0;
  std::string_view message{};
};

}  // namespace gateway
