// ssehub example logs. SPDX-License-Identifier: MIT
//
// Text of a log as UTF-8, which is all that an event stream may hold.
//
//   std::string room;
//   publish(as_utf8(encoding::latin1, line, room));   // a view of `line`, or of `room`
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace logs {

enum class encoding : std::uint8_t {
  utf8,    ///< what is no UTF-8 becomes U+FFFD
  latin1,  ///< ISO 8859-1: a byte is the character of that number
};

/// Without a byte order mark in front.
[[nodiscard]] std::string_view as_utf8(encoding e, std::string_view text, std::string& room);

}  // namespace logs
