// ssehub example gateway. SPDX-License-Identifier: MIT
//
// replay_source: reads the lines of a recorded Binance feed, `<local receive time in ns> <JSON
// message>`. Sans-I/O: feed it the lines that a line_splitter finds in a file or in stdin; pacer
// (pacing.hpp) says when each is due.
//
//   const replay_message m = source.parse_line(line);
//   if (m.what == replay_kind::trade) engine.market(m.symbol, m.price, m.ts_ns, now_ns);
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "common/json.hpp"

namespace gateway {

enum class replay_kind : unsigned char {
  trade,  ///< a trade: symbol, price and ts_ns are set
  other,  ///< another message, such as a book ticker or a depth update: only local_ns is set
  blank,  ///< an empty line
  bad,    ///< cannot be read: an `error` event `market_source_error`
};

struct replay_message {
  replay_kind what = replay_kind::bad;
  std::int64_t local_ns = 0;  ///< when it was received
  std::string_view symbol{};  ///< such as BTCUSDT; lives until the next parse_line()
  double price = 0;           ///< finite, > 0
  std::int64_t ts_ns = 0;     ///< when the trade happened
};

class replay_source {
 public:
  /// One line, without its line end. Takes combined streams (`{"stream":...,"data":{...}}`) and
  /// plain messages.
  [[nodiscard]] replay_message parse_line(std::string_view line);

 private:
  examples::json_document doc_;
};

/// The value of --speed: a number > 0, or `max`, which is infinite.
[[nodiscard]] std::optional<double> parse_speed(std::string_view text) noexcept;

}  // namespace gateway
