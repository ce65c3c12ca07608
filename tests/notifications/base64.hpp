// base64: RFC 4648, written without the reader's own code.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace test {

/// `url`: of section 5, without padding.
inline std::string base64(std::string_view in, bool url) {
  const std::string_view digits =
      url ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
          : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < in.size(); i += 3) {
    const auto byte = [&](std::size_t k) {
      return i + k < in.size() ? static_cast<unsigned char>(in[i + k]) : 0U;
    };
    const unsigned bits = byte(0) << 16U | byte(1) << 8U | byte(2);
    for (unsigned k = 0; k < 4; ++k) {
      if (i + k <= in.size()) {
        out += digits[bits >> (18 - 6 * k) & 63U];
      } else if (!url) {
        out += '=';
      }
    }
  }
  return out;
}

}  // namespace test
