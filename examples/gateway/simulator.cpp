// ssehub example gateway. SPDX-License-Identifier: MIT
#include "simulator.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <variant>

#include "payload.hpp"

namespace gateway {
namespace {

constexpr std::string_view quote_asset = "USDT";

constexpr std::size_t book_depth = 10;  ///< levels on each side
constexpr std::size_t most_own = 3;     ///< orders of its own that wait at a time

/// Between two levels of the book: 0.5 where a price is 50000.
double level_step(double price) noexcept {
  return std::max(0.01, std::pow(10.0, std::floor(std::log10(price))) / 20'000);
}

/// Balances are kept to 1e-8, as on an exchange, so that sums show no rounding dust.
double round8(double v) noexcept { return std::round(v * 1e8) / 1e8; }

/// BTC of BTCUSDT; empty for a symbol that is not traded against USDT.
std::string_view base_asset(std::string_view symbol) noexcept {
  return symbol.size() > quote_asset.size() && symbol.ends_with(quote_asset)
             ? symbol.substr(0, symbol.size() - quote_asset.size())
             : std::string_view{};
}

/// Uniform in [-1, 1), the same on every machine (splitmix64).
double random_step(std::uint64_t& state) noexcept {
  std::uint64_t z = (state += 0x9E3779B97F4A7C15U);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-52 - 1.0;
}

/// Names that can be said, each once: BAB, BAC, ... Their order is a jump through all of them.
std::string symbol_name(std::uint32_t i) {
  constexpr std::string_view consonants = "BCDFGHJKLMNPRSTVWXYZ";
  constexpr std::string_view vowels = "AEIOU";
  const std::uint32_t n = i * 787 % 2000;
  return {consonants[n / 100], vowels[n / 20 % 5], consonants[n % 20]};
}

/// To four digits that count.
double round_price(double v) noexcept {
  const double unit = std::pow(10.0, std::floor(std::log10(v)) - 4);
  return round8(std::round(v / unit) * unit);
}

}  // namespace

simulated_engine::simulated_engine(simulator_options options, std::int64_t now_ns)
    : options_{std::move(options)},
      began_ns_{now_ns},
      last_now_ns_{now_ns},
      next_tick_ns_{now_ns},
      next_trade_ns_{now_ns},
      random_{options_.seed},
      walk_price_{options_.price},
      balances_{balance{std::string{quote_asset}, options_.cash, 0}, balance{"BTC", 0, 0}} {
  for (std::uint32_t i = 0; i < options_.others; ++i) {
    const double start = round_price(std::pow(10.0, 1.5 + 1.5 * random_step(random_)));
    others_.push_back({symbol_name(i).append(quote_asset), start, start});
  }
  emit(account_event{now_ns, &balances_});
}

template <class Event>
void simulated_engine::emit(const Event& e) {
  append_json(out_, e);
  out_ += '\n';
}

std::string simulated_engine::take_output() { return std::exchange(out_, {}); }

// --- time ----------------------------------------------------------------------------------------

void simulated_engine::rebase(std::int64_t now_ns) {
  if (now_ns < last_now_ns_) {
    const std::int64_t back = last_now_ns_ - now_ns;
    next_tick_ns_ -= back;
    next_trade_ns_ -= back;
    for (auto& [sequence, o] : live_) o.due_ns -= back;
  }
  last_now_ns_ = now_ns;
  // After a long pause (a suspended machine) the missed ticks are not made up for.
  if (now_ns - next_tick_ns_ > 50 * options_.market_every_ns) next_tick_ns_ = now_ns;
}

std::optional<std::int64_t> simulated_engine::next_deadline_ns() const {
  std::optional<std::int64_t> next;
  if (options_.walk) next = next_tick_ns_;
  if (const auto it = live_.lower_bound(matured_); it != live_.end()) {
    next = std::min(next.value_or(it->second.due_ns), it->second.due_ns);
  }
  return next;
}

void simulated_engine::advance(std::int64_t now_ns) {
  rebase(now_ns);
  while (true) {
    const auto at = next_deadline_ns();
    if (!at || *at > now_ns) return;
    const auto it = live_.lower_bound(matured_);
    if (it != live_.end() && it->second.due_ns == *at) {
      matured_ = it->first + 1;
      try_fill(it, *at);
    } else {
      tick(*at);
      next_tick_ns_ = *at + options_.market_every_ns;
    }
  }
}

// --- prices and fills ----------------------------------------------------------------------------

void simulated_engine::tick(std::int64_t now_ns) {
  const double pull = (options_.price - walk_price_) * 0.02;
  walk_price_ = std::max(
      0.01,
      std::round((walk_price_ + pull + options_.price * 4e-5 * random_step(random_)) * 100) / 100);
  price(options_.symbol, walk_price_, now_ns, now_ns);
  tick_others(now_ns);
  if (options_.trade_every_ns == 0) return;
  if (now_ns >= next_trade_ns_) {
    next_trade_ns_ = now_ns + options_.trade_every_ns;
    trade(now_ns);
  }
  tell_book(now_ns);
}

/// Half of them move at a time; some of those tell what is bid and asked.
void simulated_engine::tick_others(std::int64_t now_ns) {
  for (other_symbol& s : others_) {
    if (random_step(random_) < 0) continue;
    const double pull = (s.start - s.price) * 0.01;
    s.price = round_price(s.price + pull + s.start * 1e-3 * random_step(random_));
    price(s.name, s.price, now_ns, now_ns);
    if (random_step(random_) < 0.5) continue;
    const double step = level_step(s.price);
    const std::vector<book_level> bids{{round8(s.price - step), 1 + random_step(random_) / 2}};
    const std::vector<book_level> asks{{round8(s.price + step), 1 + random_step(random_) / 2}};
    emit(book_event{s.name, now_ns, &bids, &asks});
  }
}

/// A small order near the last price, so that some fill at once and some wait; when enough wait,
/// the oldest is taken back.
void simulated_engine::trade(std::int64_t now_ns) {
  std::erase_if(own_ids_, [this](const std::string& id) { return !live_ids_.contains(id); });
  if (own_ids_.size() >= most_own) return cancel({own_ids_.front()}, now_ns);
  const double qty = std::round((5.5 + 4.5 * random_step(random_)) * 10) / 1e4;  // 0.001 to 0.01
  const bool sells =
      random_step(random_) < 0 && funds(base_asset(options_.symbol)).free >= round8(qty);
  const double away = 4 * level_step(options_.price) * random_step(random_);
  const double limit = std::max(0.01, std::round((walk_price_ + away) * 100) / 100);
  if (!sells && funds(quote_asset).free < round8(qty * limit)) return;
  own_ids_.push_back("demo-" + std::to_string(began_ns_ / 1'000'000'000) + "-" +
                     std::to_string(++own_orders_));
  place({sells ? order_side::sell : order_side::buy, options_.symbol, qty, limit, own_ids_.back()},
        now_ns);
}

/// Its book: what others have there, which changes a little each time, and the orders that wait.
void simulated_engine::tell_book(std::int64_t now_ns) {
  if (resting_.empty()) resting_.assign(2 * book_depth, 1.0);
  for (double& qty : resting_)
    qty = std::round(std::clamp(qty * (1 + 0.25 * random_step(random_)), 0.05, 4.0) * 1e4) / 1e4;
  const double step = level_step(options_.price);
  const double middle = std::floor(walk_price_ / step) * step;  // below it bids, above it asks
  std::map<double, double> bids;
  std::map<double, double> asks;
  for (std::size_t i = 0; i < book_depth; ++i) {
    const double away = static_cast<double>(i) * step;
    if (middle - away > 0) bids[round8(middle - away)] = resting_[i];
    asks[round8(middle + step + away)] = resting_[book_depth + i];
  }
  for (const auto& [sequence, o] : live_) {
    if (o.order.symbol != options_.symbol) continue;
    const bool buys = o.order.side == order_side::buy;
    if (buys ? o.order.price > middle : o.order.price <= middle) continue;  // it is about to fill
    (buys ? bids : asks)[round8(o.order.price)] += o.order.qty;
  }
  std::vector<book_level> best_bids;
  std::vector<book_level> best_asks;
  for (auto it = bids.rbegin(); it != bids.rend() && best_bids.size() < book_depth; ++it)
    best_bids.push_back({it->first, round8(it->second)});
  for (auto it = asks.begin(); it != asks.end() && best_asks.size() < book_depth; ++it)
    best_asks.push_back({it->first, round8(it->second)});
  emit(book_event{options_.symbol, now_ns, &best_bids, &best_asks});
}

void simulated_engine::market(std::string_view symbol, double last, std::int64_t ts_ns,
                              std::int64_t now_ns) {
  advance(now_ns);
  if (std::isfinite(last) && last > 0) price(symbol, last, ts_ns, now_ns);
}

void simulated_engine::price(std::string_view symbol, double last, std::int64_t ts_ns,
                             std::int64_t now_ns) {
  emit(market_event{symbol, ts_ns, last});
  if (const auto found = last_price_.find(symbol); found != last_price_.end()) {
    found->second = last;
  } else {
    last_price_.emplace(symbol, last);
  }
  for (auto it = live_.begin(); it != live_.end() && it->first < matured_;) {
    it = it->second.order.symbol == symbol ? try_fill(it, now_ns) : std::next(it);
  }
}

/// Fills the order if the last price allows it. Returns the next order.
simulated_engine::live_orders::iterator simulated_engine::try_fill(live_orders::iterator it,
                                                                   std::int64_t now_ns) {
  const auto next = std::next(it);
  const live_order& o = it->second;
  const auto last = last_price_.find(o.order.symbol);
  if (last == last_price_.end()) return next;
  const bool buys = o.order.side == order_side::buy;
  if (buys ? last->second > o.order.price : last->second < o.order.price) return next;

  const double qty = round8(o.order.qty);
  const double value = round8(o.order.qty * last->second);
  balance& from = locked_funds(o.order);
  from.locked = round8(from.locked - o.locked);
  if (buys) {
    from.free = round8(from.free + o.locked - value);
    balance& base = funds(base_asset(o.order.symbol));
    base.free = round8(base.free + qty);
  } else {
    balance& quote = funds(quote_asset);
    quote.free = round8(quote.free + value);
  }
  emit(fill_event{now_ns, o.order.client_order_id, o.order.symbol, o.order.qty, last->second});
  emit_update(o.order, o.venue_order_id, order_status::filled, "", now_ns);
  emit_state(o.order, o.venue_order_id, order_status::filled, "", last->second, now_ns);
  emit(account_event{now_ns, &balances_});
  finish(it);
  return next;
}

// --- commands ------------------------------------------------------------------------------------

void simulated_engine::command(std::string_view line, std::int64_t now_ns) {
  advance(now_ns);
  if (line.find_first_not_of(" \t\r\n") == std::string_view::npos) return;
  const auto parsed = parse_command(line);
  if (!parsed) {
    emit(error_event{now_ns, "bad_command"});
  } else if (const auto* order = std::get_if<new_order>(&*parsed)) {
    place(*order, now_ns);
  } else {
    cancel(std::get<cancel_order>(*parsed), now_ns);
  }
}

/// Why the order cannot be taken; empty if it can, and then `locks` is what it locks.
std::string_view simulated_engine::refusal(const new_order& order, double& locks) {
  const std::string_view base = base_asset(order.symbol);
  if (base.empty() || (options_.walk && order.symbol != options_.symbol)) return "unknown_symbol";
  const bool buys = order.side == order_side::buy;
  const auto from = std::find_if(balances_.begin(), balances_.end(), [&](const balance& b) {
    return b.asset == (buys ? quote_asset : base);
  });
  locks = round8(buys ? order.qty * order.price : order.qty);
  if (from == balances_.end() || !(locks <= from->free)) return "insufficient_funds";
  if (!(round8(order.qty) > 0) || !(locks > 0)) return "below_minimum";
  if (live_.size() >= options_.max_live) return "too_many_orders";
  return {};
}

void simulated_engine::place(const new_order& order, std::int64_t now_ns) {
  if (live_ids_.contains(order.client_order_id)) {
    emit_update(order, {}, order_status::rejected, "duplicate_client_order_id", now_ns);
    return;
  }
  double locks = 0;
  if (const std::string_view reason = refusal(order, locks); !reason.empty()) {
    emit_update(order, {}, order_status::rejected, reason, now_ns);
    emit_state(order, {}, order_status::rejected, reason, 0, now_ns);
    remember(order.client_order_id);
    return;
  }
  const std::string venue_order_id = "sim-" + std::to_string(++venue_orders_);
  balance& from = locked_funds(order);
  from.free = round8(from.free - locks);
  from.locked = round8(from.locked + locks);
  live_ids_.emplace(order.client_order_id, next_sequence_);
  live_.emplace(next_sequence_++,
                live_order{order, venue_order_id, now_ns + options_.fill_after_ns, locks});
  emit_update(order, venue_order_id, order_status::accepted, "", now_ns);
  emit_state(order, venue_order_id, order_status::accepted, "", 0, now_ns);
  emit(account_event{now_ns, &balances_});
}

void simulated_engine::cancel(const cancel_order& cancel, std::int64_t now_ns) {
  const auto found = live_ids_.find(cancel.client_order_id);
  if (found == live_ids_.end()) {
    if (finished_ids_.contains(cancel.client_order_id)) return;
    order_update_event e;
    e.ts_ns = now_ns;
    e.client_order_id = cancel.client_order_id;
    e.status = to_string(order_status::rejected);
    e.reason = "unknown_order";
    emit(e);
    return;
  }
  const auto it = live_.find(found->second);
  const live_order& o = it->second;
  balance& from = locked_funds(o.order);
  from.locked = round8(from.locked - o.locked);
  from.free = round8(from.free + o.locked);
  emit_update(o.order, o.venue_order_id, order_status::cancelled, "", now_ns);
  emit_state(o.order, o.venue_order_id, order_status::cancelled, "", 0, now_ns);
  emit(account_event{now_ns, &balances_});
  finish(it);
}

void simulated_engine::finish(live_orders::iterator it) {
  const std::string id = it->second.order.client_order_id;
  live_ids_.erase(id);
  live_.erase(it);
  remember(id);
}

void simulated_engine::remember(const std::string& id) {
  if (!finished_ids_.insert(id).second) return;
  finished_order_.push_back(id);
  if (finished_order_.size() <= options_.max_finished) return;
  finished_ids_.erase(finished_order_.front());
  finished_order_.pop_front();
}

// --- balances and events -------------------------------------------------------------------------

balance& simulated_engine::funds(std::string_view asset) {
  const auto found = std::find_if(balances_.begin(), balances_.end(),
                                  [&](const balance& b) { return b.asset == asset; });
  return found != balances_.end() ? *found
                                  : balances_.emplace_back(balance{std::string{asset}, 0, 0});
}

balance& simulated_engine::locked_funds(const new_order& order) {
  return funds(order.side == order_side::buy ? quote_asset : base_asset(order.symbol));
}

void simulated_engine::emit_update(const new_order& order, std::string_view venue_order_id,
                                   order_status status, std::string_view reason,
                                   std::int64_t now_ns) {
  order_update_event e;
  e.ts_ns = now_ns;
  e.client_order_id = order.client_order_id;
  if (!venue_order_id.empty()) e.venue_order_id = venue_order_id;
  e.status = to_string(status);
  e.symbol = order.symbol;
  e.side = to_string(order.side);
  e.qty = order.qty;
  e.price = order.price;
  e.reason = reason;
  emit(e);
}

void simulated_engine::emit_state(const new_order& order, std::string_view venue_order_id,
                                  order_status status, std::string_view reason,
                                  double executed_price, std::int64_t now_ns) {
  order_state_event e;
  e.client_order_id = order.client_order_id;
  e.status = to_string(status);
  e.symbol = order.symbol;
  e.side = to_string(order.side);
  e.order_qty = order.qty;
  e.limit_price = order.price;
  if (!venue_order_id.empty()) e.venue_order_id = venue_order_id;
  if (status == order_status::filled) {
    e.executed_qty = order.qty;
    e.avg_price = executed_price;
  }
  e.reason = reason;
  e.last_ts_ns = now_ns;
  emit(e);
}

}  // namespace gateway
