// ssehub examples. SPDX-License-Identifier: MIT
//
// append_json_string: any text as a JSON string, always on one line and in UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <sse/detail/utf8.hpp>

namespace examples {

/// Appends `text` in quotes; what is not UTF-8 becomes U+FFFD.
inline void append_json_string(std::string& out, std::string_view text) {
  constexpr std::string_view hex = "0123456789abcdef";
  out += '"';
  while (!text.empty()) {
    const sse::detail::utf8_step step = sse::detail::next_utf8(text);
    const char c = text.front();
    const auto code = static_cast<unsigned char>(c);
    if (!step.valid) {
      out += "\xEF\xBF\xBD";
    } else if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c == '\n') {
      out += "\\n";
    } else if (code < 0x20) {
      out.append("\\u00") += {hex[code >> 4U], hex[code & 15U]};
    } else {
      out += text.substr(0, step.size);
    }
    text.remove_prefix(step.size);
  }
  out += '"';
}

}  // namespace examples
