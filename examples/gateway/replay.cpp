// ssehub example gateway. SPDX-License-Identifier: MIT
#include "replay.hpp"

#include <charconv>
#include <limits>
#include <system_error>

#include "common/json.hpp"
#include "protocol.hpp"

namespace gateway {
namespace {

constexpr std::int64_t ns_per_ms = 1'000'000;

/// Prices come as text; a number is taken, too.
std::optional<double> price_of(const examples::json_document& doc) {
  const auto text = doc.string("p");
  return text ? parse_number(*text) : doc.number("p");
}

}  // namespace

replay_message replay_source::parse_line(std::string_view line) {
  replay_message m;
  if (line.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    m.what = replay_kind::blank;
    return m;
  }
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), m.local_ns);
  line.remove_prefix(static_cast<std::size_t>(end - line.data()));
  if (error != std::errc{} || m.local_ns < 0 || !line.starts_with(' ')) return m;
  if (doc_.parse(line) != examples::json_result::object) return m;
  doc_.enter("data");
  if (doc_.string("e") != "trade") {
    m.what = replay_kind::other;
    return m;
  }
  const auto symbol = doc_.string("s");
  const auto price = price_of(doc_);
  const auto time_ms = doc_.integer("T");
  if (!symbol || !is_word(*symbol) || !price || !(*price > 0) || !time_ms || *time_ms < 0 ||
      *time_ms > std::numeric_limits<std::int64_t>::max() / ns_per_ms) {
    return m;
  }
  m.what = replay_kind::trade;
  m.symbol = *symbol;
  m.price = *price;
  m.ts_ns = *time_ms * ns_per_ms;
  return m;
}

std::optional<double> parse_speed(std::string_view text) noexcept {
  if (text == "max") return std::numeric_limits<double>::infinity();
  const auto speed = parse_number(text);
  return speed && *speed > 0 ? speed : std::nullopt;
}

}  // namespace gateway
