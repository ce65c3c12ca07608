// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// client_response: the head of an HTTP response as an event_source's on_open sees it. Part of
// sse/client.hpp.
#pragma once
#ifndef SSEHUB_CLIENT_RESPONSE_HPP
#define SSEHUB_CLIENT_RESPONSE_HPP

#include <string_view>

#include <sse/detail/base/byte_buffer.hpp>
#include <sse/detail/http/characters.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

namespace detail {
class response_reader;
}

/// The head of a response.
class client_response {
 public:
  [[nodiscard]] int status() const noexcept { return status_; }  ///< as the server said it
  /// HTTP/1.0 or HTTP/1.1.
  [[nodiscard]] int minor_version() const noexcept { return minor_version_; }

  /// Calls f(name, value) for each header line, in their order; false from `f` stops.
  template <class F>
  void for_each_header(F&& f) const {
    std::string_view rest = lines_.view();
    (void)detail::text::next_part(rest, '\n');  // the status line
    while (!rest.empty()) {
      std::string_view value = detail::text::next_part(rest, '\n');
      const std::string_view name = detail::text::next_part(value, ':');
      if (!f(name, detail::text::trim(value))) return;
    }
  }
  /// The first value of that name; empty also when the header is absent.
  [[nodiscard]] std::string_view header(std::string_view name) const noexcept {
    std::string_view found;
    for_each_header([&](std::string_view n, std::string_view value) {
      if (!detail::text::equal_fold(n, name)) return true;
      found = value;
      return false;
    });
    return found;
  }

 private:
  friend class detail::response_reader;
  detail::bytes lines_{};  // each but the last with LF; unfolded
  int status_ = 0;
  int minor_version_ = 1;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_CLIENT_RESPONSE_HPP
