// ssehub example gateway. SPDX-License-Identifier: MIT
#include "payload.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <type_traits>

namespace gateway {
namespace {

/// Length of the well-formed UTF-8 sequence at the start of `text` (not empty), 0 if there is none
/// (Unicode table 3-7).
std::size_t utf8_length(std::string_view text) noexcept {
  const auto at = [text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const auto between = [at](std::size_t i, unsigned low, unsigned high) {
    return at(i) >= low && at(i) <= high;
  };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return between(1, 0x80, 0xBF) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool second = between(1, first == 0xE0 ? 0xA0U : 0x80U, first == 0xED ? 0x9FU : 0xBFU);
    return second && between(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool second = between(1, first == 0xF0 ? 0x90U : 0x80U, first == 0xF4 ? 0x8FU : 0xBFU);
    return second && between(2, 0x80, 0xBF) && between(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

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

void append_string(std::string& out, std::string_view value) {
  out += '"';
  while (!value.empty()) {
    const char c = value.front();
    std::size_t used = 1;
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
        } else if (const std::size_t n = utf8_length(value); n != 0) {
          out += value.substr(0, n);
          used = n;
        } else {
          out += "\xEF\xBF\xBD";
        }
    }
    value.remove_prefix(used);
  }
  out += '"';
}

void append_number(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  const std::size_t start = out.size();
  fmt::format_to(std::back_inserter(out), "{}", value);
  if (out.find_first_of(".e", start) == std::string::npos) out += ".0";
}

void append_balances(std::string& out, const std::vector<balance>& balances) {
  out += '[';
  for (const balance& b : balances) {
    if (out.back() != '[') out += ',';
    out += R"({"asset":)";
    append_string(out, b.asset);
    out += R"(,"free":)";
    append_number(out, b.free);
    out += R"(,"locked":)";
    append_number(out, b.locked);
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
    gateway::append_string(out, t.value);
    return copy(out, ctx);
  }
};

template <>
struct fmt::formatter<gateway::number> : plain_formatter {
  static auto format(const gateway::number& n, fmt::format_context& ctx) {
    std::string out;
    gateway::append_number(out, n.value);
    return copy(out, ctx);
  }
};

template <class T>
struct fmt::formatter<gateway::field<T>> : plain_formatter {
  static auto format(const gateway::field<T>& f, fmt::format_context& ctx) {
    std::string out;
    if (f.value) {
      out += ',';
      gateway::append_string(out, f.name);
      out += ':';
      if constexpr (std::is_same_v<T, double>) {
        gateway::append_number(out, *f.value);
      } else {
        gateway::append_string(out, *f.value);
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

void append_json(std::string& out, const error_event& e) {
  fmt::format_to(std::back_inserter(out), R"({{"type":"error","ts_ns":{},"message":{}}})", e.ts_ns,
                 text{e.message});
}

}  // namespace gateway
