// What a chunked body says.
#pragma once

#include <charconv>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace test {

/// Undoes chunked coding (RFC 9112 7.1), as far as it came; `whole` tells whether the last chunk
/// was there.
[[nodiscard]] inline std::string dechunk(std::string_view in, bool& whole) {
  std::string out;
  whole = false;
  while (!in.empty()) {
    std::size_t size = 0;
    const auto r = std::from_chars(in.data(), in.data() + in.size(), size, 16);
    const auto digits = static_cast<std::size_t>(r.ptr - in.data());
    if (in.size() < digits + 2 && std::string_view("\r\n").starts_with(in.substr(digits)))
      return out;  // it is cut inside a size line
    if (digits == 0 || in.substr(digits, 2) != "\r\n") throw std::runtime_error("not a chunk");
    in.remove_prefix(digits + 2);
    if (size == 0) {
      whole = in == "\r\n";
      return out;
    }
    if (in.size() < size + 2 || in.substr(size, 2) != "\r\n") return out.append(in.substr(0, size));
    out.append(in.substr(0, size));
    in.remove_prefix(size + 2);
  }
  return out;
}

}  // namespace test
