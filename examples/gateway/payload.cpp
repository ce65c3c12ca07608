// ssehub example gateway. SPDX-License-Identifier: MIT
#include "payload.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <type_traits>

#include "common/json.hpp"

namespace gateway {
namespace {

struct text {
  std::string_view value;
};
struct number {
  double value;
};
/// `,"name":value`, or nothing when there is no value.
template <class T>
struct field {
  std::string_view name;
  const std::optional<T>& value;
};
template <class T>
field(std::string_view, const std::optional<T>&) -> field<T>;

}  // namespace

void append_balances(std::string& out, const std::vector<balance>& balances) {
  out += '[';
  for (const balance& b : balances) {
    if (out.back() != '[') out += ',';
    out += R"({"asset":)";
    examples::append_json_string(out, b.asset);
    out += R"(,"free":)";
    examples::append_json_number(out, b.free);
    out += R"(,"locked":)";
    examples::append_json_number(out, b.locked);
    out += '}';
  }
  out += ']';
}

}  // namespace gateway

namespace {
/// A formatter without options.
struct plain_formatter {
  constexpr auto parse(fmt::format_parse_context& ctx) { return ctx.begin(); }
  static fmt::format_context::iterator copy(const std::string& from, fmt::format_context& ctx) {
    return std::copy(from.begin(), from.end(), ctx.out());
  }
};
}  // namespace

template <>
struct fmt::formatter<gateway::text> : plain_formatter {
  static auto format(const gateway::text& t, fmt::format_context& ctx) {
    std::string out;
    examples::append_json_string(out, t.value);
    return copy(out, ctx);
  }
};

template <>
struct fmt::formatter<gateway::number> : plain_formatter {
  static auto format(const gateway::number& n, fmt::format_context& ctx) {
    std::string out;
    examples::append_json_number(out, n.value);
    return copy(out, ctx);
  }
};

template <class T>
struct fmt::formatter<gateway::field<T>> : plain_formatter {
  static auto format(const gateway::field<T>& f, fmt::format_context& ctx) {
    std::string out;
    if (f.value) {
      out += ',';
      examples::append_json_string(out, f.name);
      out += ':';
      if constexpr (std::is_same_v<T, double>) {
        examples::append_json_number(out, *f.value);
      } else {
        examples::append_json_string(out, *f.value);
      }
    }
    return copy(out, ctx);
  }
};

namespace gateway {

void append_json(std::string& out, const market_event& e) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"type":"market","symbol":{},"ts_ns":{},"price":{}}})", text{e.symbol},
                 e.ts_ns, number{e.price});
}

void append_json(std::string& out, const order_update_event& e) {
  fmt::format_to(
      std::back_inserter(out),
      R"({{"type":"order_update","ts_ns":{},"client_order_id":{}{},"status":{}{}{}{}{}{}}})",
      e.ts_ns, text{e.client_order_id}, field{"venue_order_id", e.venue_order_id}, text{e.status},
      field{"symbol", e.symbol}, field{"side", e.side}, field{"qty", e.qty},
      field{"price", e.price}, field{"reason", e.reason});
}

void append_json(std::string& out, const fill_event& e) {
  fmt::format_to(
      std::back_inserter(out),
      R"({{"type":"fill","ts_ns":{},"client_order_id":{},"symbol":{},"qty":{},"price":{}}})",
      e.ts_ns, text{e.client_order_id}, text{e.symbol}, number{e.qty}, number{e.price});
}

void append_json(std::string& out, const order_state_event& e) {
  fmt::format_to(
      std::back_inserter(out),
      R"({{"type":"order_state","client_order_id":{}{}{}{}{}{}{},"executed_qty":{},"avg_price":{}{},"last_ts_ns":{}}})",
      text{e.client_order_id}, field{"status", e.status}, field{"symbol", e.symbol},
      field{"side", e.side}, field{"order_qty", e.order_qty}, field{"limit_price", e.limit_price},
      field{"venue_order_id", e.venue_order_id}, number{e.executed_qty}, number{e.avg_price},
      field{"reason", e.reason}, e.last_ts_ns);
}

void append_json(std::string& out, const account_event& e) {
  fmt::format_to(std::back_inserter(out), R"({{"type":"account","ts_ns":{},"balances":)", e.ts_ns);
  append_balances(out, e.balances != nullptr ? *e.balances : std::vector<balance>{});
  out += '}';
}

namespace {
void append_levels(std::string& out, std::string_view name, const std::vector<book_level>* levels) {
  fmt::format_to(std::back_inserter(out), R"(,"{}":[)", name);
  for (std::size_t i = 0; levels != nullptr && i < levels->size(); ++i) {
    fmt::format_to(std::back_inserter(out), "{}[{},{}]", i == 0 ? "" : ",",
                   number{(*levels)[i].price}, number{(*levels)[i].qty});
  }
  out += ']';
}
}  // namespace

void append_json(std::string& out, const book_event& e) {
  fmt::format_to(std::back_inserter(out), R"({{"type":"book","symbol":{},"ts_ns":{})",
                 text{e.symbol}, e.ts_ns);
  append_levels(out, "bids", e.bids);
  append_levels(out, "asks", e.asks);
  out += '}';
}

void append_json(std::string& out, const error_event& e) {
  fmt::format_to(std::back_inserter(out), R"({{"type":"error","ts_ns":{},"message":{}}})", e.ts_ns,
                 text{e.message});
}

}  // namespace gateway
