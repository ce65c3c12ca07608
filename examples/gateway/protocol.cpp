// ssehub example gateway. SPDX-License-Identifier: MIT
#include "protocol.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <sse/request.hpp>
#include <system_error>

#include "common/json.hpp"
#include "payload.hpp"

namespace gateway {
namespace {

/// The request fields, as text; absent ones are empty.
struct fields {
  std::string side, symbol, qty, price, client_order_id;
};

struct slot {
  std::string_view name;
  std::string fields::*value;
  bool numeric;
};

constexpr std::array<slot, 5> slots{{{"side", &fields::side, false},
                                     {"symbol", &fields::symbol, false},
                                     {"qty", &fields::qty, true},
                                     {"price", &fields::price, true},
                                     {"client_order_id", &fields::client_order_id, false}}};

bool is_json(std::string_view content_type, std::string_view body) {
  const std::size_t start = body.find_first_not_of(" \t\r\n");
  if (start != std::string_view::npos && body[start] == '{')
    return true;  // curl -d calls everything a form
  std::string type{content_type.substr(0, content_type.find(';'))};
  for (char& c : type) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return type.find("/json") != std::string::npos || type.find("+json") != std::string::npos;
}

request_error read_json(std::string_view body, fields& out) {
  examples::json_document doc;
  const examples::json_result result = doc.parse(body);
  if (result == examples::json_result::malformed) return request_error::bad_json;
  if (result == examples::json_result::other) return request_error::bad_params;
  for (const slot& s : slots) {
    if (const auto text = doc.string(s.name)) {
      out.*s.value = *text;
    } else if (const auto number = doc.number(s.name); number && s.numeric) {
      examples::append_json_number(out.*s.value, *number);
    } else if (doc.has(s.name)) {
      return request_error::bad_params;
    }
  }
  return request_error::none;
}

request_error read_form(std::string_view body, fields& out) {
  for (const slot& s : slots) {
    if (sse::query_value(body, s.name, out.*s.value) == sse::lookup::malformed)
      return request_error::bad_params;
  }
  return request_error::none;
}

request_error read_fields(std::string_view content_type, std::string_view body, fields& out) {
  return is_json(content_type, body) ? read_json(body, out) : read_form(body, out);
}

}  // namespace

std::optional<order_side> parse_side(std::string_view text) noexcept {
  if (text == "BUY") return order_side::buy;
  if (text == "SELL") return order_side::sell;
  return std::nullopt;
}

bool is_word(std::string_view text) noexcept {
  return !text.empty() && text.size() <= max_word &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

std::optional<double> parse_number(std::string_view text) noexcept {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

bool is_valid(const new_order& o) noexcept {
  return is_word(o.symbol) && (o.client_order_id.empty() || is_word(o.client_order_id)) &&
         o.qty > 0 && std::isfinite(o.qty) && o.price > 0 && std::isfinite(o.price);
}

std::string to_line(const new_order& o) {
  std::string line = "ORDER ";
  line += to_string(o.side);
  line += ' ';
  line += o.symbol;
  line += ' ';
  examples::append_json_number(line, o.qty);
  line += ' ';
  examples::append_json_number(line, o.price);
  line += ' ';
  line += o.client_order_id;
  line += '\n';
  return line;
}

std::string to_line(const cancel_order& c) { return "CANCEL " + c.client_order_id + "\n"; }

std::optional<command> parse_command(std::string_view line) {
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  std::array<std::string_view, 6> words{};
  std::size_t n = 0;
  while (true) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    if (line.empty()) break;
    if (n == words.size()) return std::nullopt;
    words[n] = line.substr(0, line.find(' '));
    line.remove_prefix(words[n].size());
    ++n;
  }
  if (n == 2 && words[0] == "CANCEL" && is_word(words[1]))
    return cancel_order{std::string{words[1]}};
  if (n != 6 || words[0] != "ORDER") return std::nullopt;
  const auto side = parse_side(words[1]);
  const auto qty = parse_number(words[3]);
  const auto price = parse_number(words[4]);
  if (!side || !qty || !price) return std::nullopt;
  new_order order{*side, std::string{words[2]}, *qty, *price, std::string{words[5]}};
  if (!is_valid(order)) return std::nullopt;
  return order;
}

std::string_view to_string(request_error error) noexcept {
  return error == request_error::bad_json ? "bad_json" : "bad_params";
}

read_result<new_order> read_order(std::string_view content_type, std::string_view body) {
  fields f;
  read_result<new_order> result{read_fields(content_type, body, f), {}};
  if (result.error != request_error::none) return result;
  const auto side = parse_side(f.side);
  const auto qty = parse_number(f.qty);
  const auto price = parse_number(f.price);
  if (side && qty && price) {
    result.value = {*side, std::move(f.symbol), *qty, *price, std::move(f.client_order_id)};
    if (is_valid(result.value)) return result;
  }
  return {request_error::bad_params, {}};
}

read_result<cancel_order> read_cancel(std::string_view content_type, std::string_view body) {
  fields f;
  read_result<cancel_order> result{read_fields(content_type, body, f), {}};
  if (result.error != request_error::none) return result;
  if (!is_word(f.client_order_id)) return {request_error::bad_params, {}};
  result.value.client_order_id = std::move(f.client_order_id);
  return result;
}

std::string id_source::next(std::int64_t wall_ns) {
  last_ = std::max(last_ + 1, wall_ns / 1000);
  return "web-" + std::to_string(last_);
}

}  // namespace gateway
