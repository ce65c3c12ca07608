// ssehub example gateway. SPDX-License-Identifier: MIT
//
// simulated_engine: the exchange and engine that runs inside the gateway. It speaks the engine
// protocol (command lines in, JSON lines out) and is sans-I/O: time comes in, nothing sleeps, equal
// calls give equal output.
//
//   simulated_engine engine{{}, wall_ns()};
//   engine.command("ORDER BUY BTCUSDT 0.001 50000.0 web-1", wall_ns());
//   engine.advance(wall_ns());                  // again at engine.next_deadline_ns()
//   lines.feed(engine.take_output(), ...);
//
// Order life: order_update ACCEPTED, order_state, account (funds locked); not before 300 ms later,
// once the last price is at or better than the limit: fill, order_update FILLED, order_state,
// account. With trade_every_ns it also trades by itself, and tells its order book:
//
//   {"type":"book","symbol":"BTCUSDT","ts_ns":1,"bids":[[49984.5,1.25],...],"asks":[[49985.0,0.75]]}
//
// Not a real market: every order fills whole and moves no price. One thread. A clock set
// back delays nothing: what waits moves back with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "events.hpp"
#include "protocol.hpp"

namespace gateway {

struct simulator_options {
  bool walk = true;                ///< make prices of its own; false: they come in by market()
  std::string symbol = "BTCUSDT";  ///< of the walk. REQUIRES: ends in USDT
  /// The walk starts here and is pulled back to it. A little below 50000, so that the contract's
  /// sample order fills.
  double price = 49'985.0;
  std::uint64_t seed = 1;                      ///< of the walk
  std::int64_t market_every_ns = 200'000'000;  ///< REQUIRES: > 0
  std::int64_t fill_after_ns = 300'000'000;    ///< from acceptance. REQUIRES: >= 0
  /// It places a small order so often, or takes one back, and each price of the walk is followed by
  /// the book. 0: neither. REQUIRES: walk
  std::int64_t trade_every_ns = 0;
  /// More symbols, which walk and tell their best prices, and take orders as well. REQUIRES: walk
  std::uint32_t others = 0;
  double cash = 100'000.0;            ///< USDT at the start
  std::size_t max_live = 10'000;      ///< live orders; more are REJECTED `too_many_orders`
  std::size_t max_finished = 10'000;  ///< finished ids that are remembered
};

class simulated_engine {
 public:
  simulated_engine(simulator_options options, std::int64_t now_ns);

  /// One line from the engine's stdin. A blank line is nothing, a bad one an `error` event
  /// `bad_command`.
  void command(std::string_view line, std::int64_t now_ns);

  /// Does all that is due: market events of the walk, fills.
  void advance(std::int64_t now_ns);

  /// A price from elsewhere (replay): a `market` event with that ts_ns, and the fills that it
  /// brings about.
  void market(std::string_view symbol, double price, std::int64_t ts_ns, std::int64_t now_ns);

  /// When advance() has something to do next; absent: not before another call.
  [[nodiscard]] std::optional<std::int64_t> next_deadline_ns() const;

  /// The JSON lines, each with its LF, since the last call.
  [[nodiscard]] std::string take_output();

 private:
  struct live_order {
    new_order order{};
    std::string venue_order_id{};
    std::int64_t due_ns = 0;
    double locked = 0;
  };
  struct other_symbol {
    std::string name{};
    double start = 0;
    double price = 0;
  };
  using live_orders = std::map<std::uint64_t, live_order>;  // by acceptance, so by due_ns as well

  void place(const new_order& order, std::int64_t now_ns);
  void cancel(const cancel_order& cancel, std::int64_t now_ns);
  [[nodiscard]] std::string_view refusal(const new_order& order, double& locks);
  void tick(std::int64_t now_ns);
  void tick_others(std::int64_t now_ns);
  void trade(std::int64_t now_ns);
  void tell_book(std::int64_t now_ns);
  void price(std::string_view symbol, double price, std::int64_t ts_ns, std::int64_t now_ns);
  live_orders::iterator try_fill(live_orders::iterator it, std::int64_t now_ns);
  void finish(live_orders::iterator it);
  void remember(const std::string& id);
  void rebase(std::int64_t now_ns);

  [[nodiscard]] balance& funds(std::string_view asset);
  [[nodiscard]] balance& locked_funds(const new_order& order);

  void emit_update(const new_order& order, std::string_view venue_order_id, order_status status,
                   std::string_view reason, std::int64_t now_ns);
  void emit_state(const new_order& order, std::string_view venue_order_id, order_status status,
                  std::string_view reason, double executed_price, std::int64_t now_ns);
  template <class Event>
  void emit(const Event& e);

  simulator_options options_;
  std::string out_;
  std::int64_t began_ns_;
  std::int64_t last_now_ns_;
  std::int64_t next_tick_ns_;
  std::int64_t next_trade_ns_;
  std::uint64_t random_;
  double walk_price_;
  std::vector<other_symbol> others_;
  std::map<std::string, double, std::less<>> last_price_;
  std::vector<balance> balances_;
  live_orders live_;
  std::uint64_t next_sequence_ = 0;
  std::uint64_t matured_ = 0;  ///< orders below it have waited their 300 ms
  std::unordered_map<std::string, std::uint64_t> live_ids_;
  std::unordered_set<std::string> finished_ids_;
  std::deque<std::string> finished_order_;  ///< finished_ids_, oldest first
  std::uint64_t venue_orders_ = 0;
  std::deque<std::string> own_ids_;  ///< of orders of its own that may be live, oldest first
  std::uint64_t own_orders_ = 0;
  std::vector<double> resting_;  ///< what others have in the book: bids, then asks, the best first
};

}  // namespace gateway
