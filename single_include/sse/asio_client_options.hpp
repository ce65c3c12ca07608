// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once

// ---- sse/asio_client_options.hpp
//
// What an asio_event_source takes and gives: asio_client_options, received_event, and client_error
// as a std::error_code. Part of sse/asio_client.hpp.

#include <cstddef>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>

#include <sse/client.hpp>

namespace sse::inline v0 {

namespace detail {
class client_category_type final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "sse.client"; }
  [[nodiscard]] std::string message(int value) const override {
    client_failure f;
    f.error = static_cast<client_error>(value);
    return std::string{describe(f)};
  }
};
}  // namespace detail

/// The category of client_error as a std::error_code.
[[nodiscard]] inline const std::error_category& client_category() noexcept {
  static const detail::client_category_type the_one;
  return the_one;
}
[[nodiscard]] inline std::error_code make_error_code(client_error e) noexcept {
  return {static_cast<int>(e), client_category()};
}

/// An event that lives by itself.
struct received_event {
  std::string type{};  ///< empty: unnamed, "message" to a browser
  std::string data{};
  std::string last_event_id{};  ///< the stream's position with this event
  std::optional<gap> missed{};  ///< a gap frame, of type "gap": events were lost here
};

struct asio_client_options {
  client_options client{};  ///< a seed that is the default is replaced by a random one
  std::size_t queue = 64;   ///< events that wait for async_next; then reading pauses. REQUIRES: > 0
  std::size_t queue_bytes = std::size_t{1} << 20;   ///< the same, by size; one event may exceed it
  std::size_t read_buffer = std::size_t{16} << 10;  ///< bytes, while connected. REQUIRES: > 0
  /// How long one of several addresses of a host may take, before the next one is tried. Off: until
  /// client_options::connect_timeout.
  duration address_timeout = duration::seconds(5);
};

}  // namespace sse::inline v0

template <>
struct std::is_error_code_enum<sse::client_error> : std::true_type {};
