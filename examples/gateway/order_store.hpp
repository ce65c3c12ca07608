// ssehub example gateway. SPDX-License-Identifier: MIT
//
// order_store: reads the engine's output lines. Each line that is one JSON object with a `type` is
// one event to publish, byte for byte (V-45 to V-47); what it says of market, orders and account is
// kept for the /api answers.
//
//   order_store store;
//   lines.feed(chunk, [&](std::string_view line) {
//     if (const auto e = store.consume(line)) channel.publish({.type = e->type, .data = e->data});
//   });
//
// One thread; never throws on bad input. Memory is bounded: 10,000 orders, 200 order events of
// 1 MiB together, 1,000 symbols, 1,000 assets; an event that is too large to keep is published all
// the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/json.hpp"
#include "events.hpp"
#include "order_state.hpp"
#include "protocol.hpp"

namespace gateway {

/// An event to publish. Views live until the next consume(); `data` may be part of the line itself.
struct incoming {
  std::string_view type{};  ///< never empty; no CR, LF, NUL; at most 128 bytes
  std::string_view data{};  ///< one line of JSON
  /// What it is the state of: `SYMBOL` of a price, `SYMBOL/book` of an order book; empty: nothing.
  std::string_view key{};
};

struct store_limits {
  std::size_t orders = 10'000;                   ///< orders kept. REQUIRES: > 0
  std::size_t log_items = 200;                   ///< order events in /api/orders
  std::size_t log_bytes = std::size_t{1} << 20;  ///< their bytes together
  std::size_t symbols = 1'000;                   ///< symbols whose last market event is kept
  std::size_t assets = 1'000;                    ///< assets in the account
};

class order_store {
 public:
  explicit order_store(store_limits limits = {}) : limits_{limits}, orders_{limits.orders} {}

  /// One line of the engine's output, without its line end. Absent: no event (a banner, a blank
  /// line, no JSON object, no usable `type`); counted in refused() unless it is blank.
  [[nodiscard]] std::optional<incoming> consume(std::string_view line);

  /// Tells of an order that is being sent to the engine (see order_table::placed).
  void placed(const new_order& order) { orders_.placed(order); }

  /// Lines that were no event, blank ones aside.
  [[nodiscard]] std::uint64_t refused() const noexcept { return refused_; }
  /// Those among them that look like an event: they begin with a brace, be it behind a byte order
  /// mark.
  [[nodiscard]] std::uint64_t unreadable() const noexcept { return unreadable_; }
  [[nodiscard]] const order_table& orders() const noexcept { return orders_; }

  // The bodies of the /api answers. Values that no event gave yet are null.

  /// `{"symbol":...,"price":...,"ts_ns":...}` of the last market event, or of the symbol's last.
  [[nodiscard]] std::string market_json() const;
  [[nodiscard]] std::optional<std::string> market_json(std::string_view symbol) const;
  /// `{"items":[...]}`: the symbols of market events, by name.
  [[nodiscard]] std::string symbols_json() const;
  /// `{"items":[...]}`: order_update and fill events as they came, oldest first.
  [[nodiscard]] std::string orders_json() const;
  /// `{"items":[...]}`: every order in the form of an order_state event, oldest first.
  [[nodiscard]] std::string orders_state_json() const;
  /// One of them; absent: not found.
  [[nodiscard]] std::optional<std::string> order_state_json(std::string_view client_order_id) const;
  /// `{"ts_ns":...,"balances":[...]}`.
  [[nodiscard]] std::string account_json() const;

 private:
  struct market {
    std::string symbol{};
    double price = 0;
    std::optional<std::int64_t> ts_ns{};
  };

  void keep(std::string_view type, std::string_view data);
  [[nodiscard]] std::string_view key_of(std::string_view type);
  void keep_market();
  void keep_account();
  void log(std::string_view data);

  store_limits limits_;
  examples::json_document doc_;
  std::string type_;
  std::string data_;
  std::string key_;
  std::uint64_t refused_ = 0;
  std::uint64_t unreadable_ = 0;

  std::optional<market> last_market_;
  std::map<std::string, market, std::less<>> markets_;
  order_table orders_;
  std::deque<std::string> log_;
  std::size_t log_bytes_ = 0;
  std::optional<std::int64_t> account_ts_ns_;
  std::vector<balance> balances_;
};

}  // namespace gateway
