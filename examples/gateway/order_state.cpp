// ssehub example gateway. SPDX-License-Identifier: MIT
#include "order_state.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace gateway {
namespace {

/// Longer ids are not kept, other texts are cut: an engine must not be able to fill the memory.
constexpr std::size_t max_text = 256;

template <class To, class From>
void take(std::optional<To>& to, const std::optional<From>& from) {
  if (!from) return;
  if constexpr (std::is_same_v<To, std::string>) {
    to.emplace(from->substr(0, max_text));
  } else {
    to = *from;
  }
}

/// Executed quantities are sums of doubles: 0.1 + 0.2 is the whole of 0.3.
bool covers(double executed, double qty) noexcept { return executed >= qty * (1 - 1e-9); }

std::optional<std::string_view> view(const std::optional<std::string>& text) {
  return text ? std::optional<std::string_view>{*text} : std::nullopt;
}

}  // namespace

order_state_event order_record::as_event() const {
  order_state_event e;
  e.client_order_id = client_order_id;
  if (status != order_status::none) e.status = to_string(status);
  e.symbol = view(symbol);
  e.side = view(side);
  e.order_qty = order_qty;
  e.limit_price = limit_price;
  e.venue_order_id = view(venue_order_id);
  e.executed_qty = executed_qty;
  e.avg_price = avg_price;
  e.reason = view(reason);
  e.last_ts_ns = last_ts_ns;
  return e;
}

void order_table::fill_in(order_record& r, const new_order& order) {
  r.symbol = order.symbol;
  r.side = std::string{to_string(order.side)};
  r.order_qty = order.qty;
  r.limit_price = order.price;
}

order_table::entry* order_table::touch(std::string_view id) {
  if (id.empty() || id.size() > max_text) return nullptr;
  std::string key{id};
  if (const auto found = index_.find(key); found != index_.end()) return &*found->second;
  if (index_.size() >= max_) {
    entries& from = finished_.empty() ? live_ : finished_;
    if (from.empty()) return nullptr;  // max_ is 0
    index_.erase(from.front().record.client_order_id);
    from.pop_front();
  }
  entry& e = live_.emplace_back();
  e.record.client_order_id = key;
  e.sequence = ++sequence_;
  index_.emplace(std::move(key), std::prev(live_.end()));
  return &e;
}

void order_table::settle(entry& e, order_status status) {
  const bool was_final = is_final(e.record.status);
  e.record.status = status;
  if (was_final == is_final(status)) return;
  entries& from = was_final ? finished_ : live_;
  entries& to = was_final ? live_ : finished_;
  to.splice(to.end(), from, index_.find(e.record.client_order_id)->second);
}

void order_table::reuse(entry& e) {
  settle(e, order_status::none);
  order_record fresh;
  fresh.client_order_id = e.record.client_order_id;
  if (e.next_use) fill_in(fresh, *e.next_use);
  e.record = std::move(fresh);
  e.next_use.reset();
  e.sequence = ++sequence_;
}

void order_table::placed(const new_order& order) {
  entry* const e = touch(order.client_order_id);
  if (e == nullptr) return;
  if (is_final(e->record.status)) {
    e->next_use = order;
  } else if (!e->seen) {
    fill_in(e->record, order);
  }
}

void order_table::apply(const order_update_event& update) {
  const order_status status = parse_status(update.status);
  if (status == order_status::rejected && update.reason) {
    // These refuse a command, not an order: the order of that id, if there is one, goes on as it
    // was.
    if (*update.reason == "duplicate_client_order_id") return;
    if (*update.reason == "unknown_order" && find(update.client_order_id) == nullptr) return;
  }
  entry* const e = touch(update.client_order_id);
  if (e == nullptr) return;
  order_record& r = e->record;
  if (is_final(r.status) && status != r.status) {
    const bool other_order =
        update.venue_order_id && r.venue_order_id && *update.venue_order_id != *r.venue_order_id;
    const bool answers_next =
        e->next_use && (status == order_status::accepted || status == order_status::rejected);
    if (!answers_next && !(other_order && status == order_status::accepted)) return;
    reuse(*e);
  }
  e->seen = true;
  take(r.venue_order_id, update.venue_order_id);
  take(r.symbol, update.symbol);
  take(r.side, update.side);
  take(r.order_qty, update.qty);
  take(r.limit_price, update.price);
  take(r.reason, update.reason);
  r.last_ts_ns = update.ts_ns;
  if (is_final(status)) {
    settle(*e, status);
  } else {
    progress(*e, status);
  }
}

void order_table::apply(const fill_event& fill) {
  if (!(fill.qty > 0)) return;
  entry* const e = touch(fill.client_order_id);
  if (e == nullptr) return;
  e->seen = true;
  order_record& r = e->record;
  if (!r.symbol && !fill.symbol.empty()) r.symbol = std::string{fill.symbol.substr(0, max_text)};
  const double executed = r.executed_qty + fill.qty;
  if (!std::isfinite(executed)) return;
  r.avg_price +=
      (fill.price - r.avg_price) * (fill.qty / executed);  // exact while the price stays the same
  r.executed_qty = executed;
  if (r.order_qty && covers(executed, *r.order_qty) && covers(*r.order_qty, executed))
    r.executed_qty = *r.order_qty;
  r.last_ts_ns = fill.ts_ns;
  if (!is_final(r.status)) progress(*e, r.status);
}

void order_table::apply(const order_state_event& state) {
  entry* const e = touch(state.client_order_id);
  if (e == nullptr) return;
  e->seen = true;
  order_record& r = e->record;
  take(r.symbol, state.symbol);
  take(r.side, state.side);
  take(r.order_qty, state.order_qty);
  take(r.limit_price, state.limit_price);
  take(r.venue_order_id, state.venue_order_id);
  take(r.reason, state.reason);
  r.executed_qty = state.executed_qty;
  r.avg_price = state.avg_price;
  r.last_ts_ns = state.last_ts_ns;
  const order_status status = state.status ? parse_status(*state.status) : order_status::none;
  if (status != order_status::none) settle(*e, status);
}

void order_table::progress(entry& e, order_status status) {
  const order_record& r = e.record;
  if (r.executed_qty > 0) {
    status = r.order_qty && covers(r.executed_qty, *r.order_qty) ? order_status::filled
                                                                 : order_status::partially_filled;
  }
  if (status != order_status::none) settle(e, status);
}

const order_record* order_table::find(std::string_view id) const {
  if (id.size() > max_text) return nullptr;
  const auto found = index_.find(std::string{id});
  return found != index_.end() && found->second->seen ? &found->second->record : nullptr;
}

std::vector<const order_record*> order_table::all() const {
  std::vector<const entry*> seen;
  seen.reserve(index_.size());
  for (const entries* list : {&finished_, &live_}) {
    for (const entry& e : *list) {
      if (e.seen) seen.push_back(&e);
    }
  }
  std::sort(seen.begin(), seen.end(),
            [](const entry* a, const entry* b) { return a->sequence < b->sequence; });
  std::vector<const order_record*> out;
  out.reserve(seen.size());
  for (const entry* e : seen) out.push_back(&e->record);
  return out;
}

}  // namespace gateway
