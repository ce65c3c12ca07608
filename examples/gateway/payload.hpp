// ssehub example gateway. SPDX-License-Identifier: MIT
//
// Writes the JSON of events, on one line, fields in the contract's order. ts_ns keeps every
// digit; a number is the shortest text that reads back as the same double, always with a fraction
// or an exponent (50000.0); what is not finite becomes null; text that is not UTF-8 gets U+FFFD
// where it is broken.
//
//   out += gateway::to_json(gateway::error_event{now_ns, "engine_exited"});
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "events.hpp"

namespace gateway {

// Each appends one complete JSON object, without a line end.
void append_json(std::string& out, const market_event& e);
void append_json(std::string& out, const order_update_event& e);
void append_json(std::string& out, const fill_event& e);
void append_json(std::string& out, const order_state_event& e);
void append_json(std::string& out, const account_event& e);
void append_json(std::string& out, const error_event& e);
void append_json(std::string& out, const book_event& e);

template <class Event>
[[nodiscard]] std::string to_json(const Event& e) {
  std::string out;
  append_json(out, e);
  return out;
}

/// Appends `[{"asset":...,"free":...,"locked":...},...]`.
void append_balances(std::string& out, const std::vector<balance>& balances);

}  // namespace gateway
