// ssehub example gateway. SPDX-License-Identifier: MIT
//
// Commands to the engine: what may be asked for (X-19: nothing that could become a second command),
// the line that says it, and how request bodies become commands.
//
//   auto order = read_order(content_type, body);
//   if (order.error != request_error::none) return reply(400, to_string(order.error));
//   if (order.value.client_order_id.empty()) order.value.client_order_id = ids.next(now_ns);
//   engine.write(to_line(order.value));  // ORDER BUY BTCUSDT 0.001 50000.0 web-1\n
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace gateway {

enum class order_side : unsigned char { buy, sell };

[[nodiscard]] constexpr std::string_view to_string(order_side s) noexcept {
  return s == order_side::buy ? "BUY" : "SELL";
}
/// Exactly BUY or SELL.
[[nodiscard]] std::optional<order_side> parse_side(std::string_view text) noexcept;

struct new_order {
  order_side side = order_side::buy;
  std::string symbol{};
  double qty = 0;
  double price = 0;
  std::string client_order_id{};
};

struct cancel_order {
  std::string client_order_id{};
};

using command = std::variant<new_order, cancel_order>;

/// Longest symbol and client order id.
inline constexpr std::size_t max_word = 64;

/// A symbol or id that is one word of a command line for every engine: 1 to 64 printable ASCII
/// characters, no space. Nothing beyond ASCII, since some languages split words and lines at more
/// characters than a space and LF.
[[nodiscard]] bool is_word(std::string_view text) noexcept;

/// A whole decimal number; no spaces, no sign `+`, not hex, not infinite.
[[nodiscard]] std::optional<double> parse_number(std::string_view text) noexcept;

/// Everything but the id: side, symbol, finite qty > 0 and price > 0. The id must be a word, too,
/// if it is not empty.
[[nodiscard]] bool is_valid(const new_order& order) noexcept;

/// The command line, with its LF. REQUIRES: valid, with an id.
[[nodiscard]] std::string to_line(const new_order& order);
[[nodiscard]] std::string to_line(const cancel_order& cancel);

/// Reads a command line (with or without its line end); the simulator's side. Absent: a bad line.
[[nodiscard]] std::optional<command> parse_command(std::string_view line);

enum class request_error : unsigned char { none, bad_params, bad_json };

/// bad_params or bad_json.
[[nodiscard]] std::string_view to_string(request_error error) noexcept;

template <class T>
struct read_result {
  request_error error = request_error::none;
  T value{};
};

/// Reads a POST body: JSON if the content type says so or the body starts with `{`, else a form.
/// Numbers may come as JSON numbers or as text. An order without a client_order_id (missing, null,
/// empty) comes with an empty one.
[[nodiscard]] read_result<new_order> read_order(std::string_view content_type,
                                                std::string_view body);
[[nodiscard]] read_result<cancel_order> read_cancel(std::string_view content_type,
                                                    std::string_view body);

/// Default ids, `web-<digits>`: wall clock microseconds, counted on when they do not move, so that
/// they are unique in this process and after a restart.
class id_source {
 public:
  [[nodiscard]] std::string next(std::int64_t wall_ns);

 private:
  std::int64_t last_ = 0;
};

}  // namespace gateway
