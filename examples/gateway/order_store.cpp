// ssehub example gateway. SPDX-License-Identifier: MIT
#include "order_store.hpp"

#include <algorithm>

#include "common/json.hpp"
#include "payload.hpp"

namespace gateway {
namespace {

constexpr std::size_t max_type = 128;
constexpr std::size_t max_name = 256;  ///< longer symbols and assets are not kept

std::string_view without_line_end(std::string_view line) noexcept {
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  return line;
}

bool is_type(std::string_view type) noexcept {
  return !type.empty() && type.size() <= max_type &&
         type.find_first_of(std::string_view{"\r\n\0", 3}) == std::string_view::npos;
}

bool looks_like_event(std::string_view line) noexcept {
  if (line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
  const std::size_t at = line.find_first_not_of(" \t");
  return at != std::string_view::npos && line[at] == '{';
}

order_update_event read_update(const examples::json_document& doc) {
  order_update_event e;
  e.ts_ns = doc.integer("ts_ns").value_or(0);
  e.client_order_id = doc.string("client_order_id").value_or("");
  e.venue_order_id = doc.string("venue_order_id");
  e.status = doc.string("status").value_or("");
  e.symbol = doc.string("symbol");
  e.side = doc.string("side");
  e.qty = doc.number("qty");
  e.price = doc.number("price");
  e.reason = doc.string("reason");
  return e;
}

fill_event read_fill(const examples::json_document& doc) {
  fill_event e;
  e.ts_ns = doc.integer("ts_ns").value_or(0);
  e.client_order_id = doc.string("client_order_id").value_or("");
  e.symbol = doc.string("symbol").value_or("");
  e.qty = doc.number("qty").value_or(0);
  e.price = doc.number("price").value_or(0);
  return e;
}

order_state_event read_state(const examples::json_document& doc) {
  order_state_event e;
  e.client_order_id = doc.string("client_order_id").value_or("");
  e.status = doc.string("status");
  e.symbol = doc.string("symbol");
  e.side = doc.string("side");
  e.order_qty = doc.number("order_qty");
  e.limit_price = doc.number("limit_price");
  e.venue_order_id = doc.string("venue_order_id");
  e.executed_qty = doc.number("executed_qty").value_or(0);
  e.avg_price = doc.number("avg_price").value_or(0);
  e.reason = doc.string("reason");
  e.last_ts_ns = doc.integer("last_ts_ns").value_or(0);
  return e;
}

void append_integer(std::string& out, std::optional<std::int64_t> value) {
  out += value ? std::to_string(*value) : "null";
}

}  // namespace

std::optional<incoming> order_store::consume(std::string_view line) {
  line = without_line_end(line);
  if (line.find_first_not_of(" \t\r\n") == std::string_view::npos) return std::nullopt;
  const auto type =
      doc_.parse(line) == examples::json_result::object ? doc_.string("type") : std::nullopt;
  if (!type || !is_type(*type)) {
    ++refused_;
    if (looks_like_event(line)) ++unreadable_;
    return std::nullopt;
  }
  type_ = *type;
  if (line.find_first_of("\r\n") != std::string_view::npos) {
    // Space between JSON tokens, but a line end in an SSE frame: the event stays on one data line.
    data_ = line;
    for (char& c : data_) {
      if (c == '\r' || c == '\n') c = ' ';
    }
    line = data_;
  }
  keep(type_, line);
  return incoming{type_, line, key_of(type_)};
}

std::string_view order_store::key_of(std::string_view type) {
  key_.clear();
  if (type == "market" || type == "book") {
    const auto symbol = doc_.string("symbol");
    const auto plain = [](char c) { return c > ' ' && c <= '~'; };  // as every history takes it
    if (symbol && symbol->size() <= max_name && std::all_of(symbol->begin(), symbol->end(), plain))
      key_ = *symbol;
    if (type == "book" && !key_.empty()) key_ += "/book";
  }
  return key_;
}

void order_store::keep(std::string_view type, std::string_view data) {
  if (type == "market") {
    keep_market();
  } else if (type == "order_update") {
    orders_.apply(read_update(doc_));
    log(data);
  } else if (type == "fill") {
    orders_.apply(read_fill(doc_));
    log(data);
  } else if (type == "order_state") {
    orders_.apply(read_state(doc_));
  } else if (type == "account") {
    keep_account();
  }
}

void order_store::keep_market() {
  const auto symbol = doc_.string("symbol");
  const auto price = doc_.number("price");
  if (!symbol || !price || symbol->size() > max_name) return;
  last_market_ = market{std::string{*symbol}, *price, doc_.integer("ts_ns")};
  if (const auto found = markets_.find(*symbol); found != markets_.end()) {
    found->second = *last_market_;
  } else if (markets_.size() < limits_.symbols) {
    markets_.emplace(last_market_->symbol, *last_market_);
  }
}

/// The event lists balance changes, so what it does not name stays.
void order_store::keep_account() {
  account_ts_ns_ = doc_.integer("ts_ns");
  const std::size_t n = std::min(doc_.array_size("balances"), limits_.assets);
  for (std::size_t i = 0; i < n; ++i) {
    doc_.leave();
    if (!doc_.enter_item("balances", i)) continue;
    const auto asset = doc_.string("asset");
    if (!asset || asset->empty() || asset->size() > max_name) continue;
    auto found = std::find_if(balances_.begin(), balances_.end(),
                              [&](const balance& b) { return b.asset == *asset; });
    if (found == balances_.end()) {
      if (balances_.size() >= limits_.assets) continue;
      found = balances_.insert(balances_.end(), balance{std::string{*asset}});
    }
    found->free = doc_.number("free").value_or(found->free);
    found->locked = doc_.number("locked").value_or(found->locked);
  }
  doc_.leave();
}

void order_store::log(std::string_view data) {
  if (data.size() > limits_.log_bytes || limits_.log_items == 0) return;
  while (log_.size() >= limits_.log_items || log_bytes_ + data.size() > limits_.log_bytes) {
    log_bytes_ -= log_.front().size();
    log_.pop_front();
  }
  log_.emplace_back(data);
  log_bytes_ += data.size();
}

namespace {

std::string market_answer(std::string_view symbol, double price,
                          std::optional<std::int64_t> ts_ns) {
  std::string out = R"({"symbol":)";
  examples::append_json_string(out, symbol);
  out += R"(,"price":)";
  examples::append_json_number(out, price);
  out += R"(,"ts_ns":)";
  append_integer(out, ts_ns);
  out += '}';
  return out;
}

}  // namespace

std::string order_store::market_json() const {
  if (!last_market_) return R"({"symbol":null,"price":null,"ts_ns":null})";
  return market_answer(last_market_->symbol, last_market_->price, last_market_->ts_ns);
}

std::optional<std::string> order_store::market_json(std::string_view symbol) const {
  const auto found = markets_.find(symbol);
  if (found == markets_.end()) return std::nullopt;
  return market_answer(found->second.symbol, found->second.price, found->second.ts_ns);
}

std::string order_store::symbols_json() const {
  std::string out = R"({"items":[)";
  for (const auto& [symbol, last] : markets_) {
    if (out.back() != '[') out += ',';
    examples::append_json_string(out, symbol);
  }
  return out + "]}";
}

std::string order_store::orders_json() const {
  std::string out = R"({"items":[)";
  for (const std::string& item : log_) {
    if (out.back() != '[') out += ',';
    out += item;
  }
  out += "]}";
  return out;
}

std::string order_store::orders_state_json() const {
  std::string out = R"({"items":[)";
  for (const order_record* o : orders_.all()) {
    if (out.back() != '[') out += ',';
    append_json(out, o->as_event());
  }
  out += "]}";
  return out;
}

std::optional<std::string> order_store::order_state_json(std::string_view client_order_id) const {
  const order_record* const o = orders_.find(client_order_id);
  return o != nullptr ? std::optional{to_json(o->as_event())} : std::nullopt;
}

std::string order_store::account_json() const {
  std::string out = R"({"ts_ns":)";
  append_integer(out, account_ts_ns_);
  out += R"(,"balances":)";
  append_balances(out, balances_);
  out += '}';
  return out;
}

}  // namespace gateway
