// ssehub example notifications. SPDX-License-Identifier: MIT
//
// Who sends a request: reading its token. Two forms: the demo's, which anybody can make, and JSON
// Web Tokens (RFC 7519) signed with HMAC-SHA256 ("HS256", RFC 7518 3.2), and nothing else.
//
//   const auto who = notifications::read_jwt(token, secret, wall_clock_ms());
//   if (!who) return unauthorized();  // who.error says why, for a log; the client need not know
//
// Both are strict: a token that is longer than max_token, not in canonical base64, or whose names
// are not clean text (UTF-8 without control characters) is nobody's. Free functions without state.
// Only std::bad_alloc is thrown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sse/request.hpp>

namespace notifications {

inline constexpr std::size_t max_token = 4096;
inline constexpr std::size_t max_name = 128;  ///< bytes of a user id, a user name, a role, a room
inline constexpr std::int64_t no_expiry = INT64_MAX;

/// A user, as a token says.
struct identity {
  std::string id{};
  std::string name{};
  std::string email{};
  std::vector<std::string> roles{};
  std::int64_t expires_ms = no_expiry;  ///< Unix time; from then on the token is void
  std::int64_t issued_ms = 0;           ///< 0: the token does not say

  [[nodiscard]] bool has_role(std::string_view role) const noexcept;
};

enum class token_error : std::uint8_t {
  none,
  malformed,  ///< not of the form, or without a field that must be there
  algorithm,  ///< signed in another way, or not at all
  signature,  ///< not by the holder of the secret
  expired,    ///< `exp` has come
  early,      ///< `nbf` has not
  endless,    ///< `exp` is behind the year 9999: in milliseconds, most likely
};
[[nodiscard]] std::string_view to_string(token_error e) noexcept;

struct token_result {
  identity who{};
  token_error error = token_error::none;
  [[nodiscard]] explicit operator bool() const noexcept { return error == token_error::none; }
};

/// Base64 of userId:username:email[:role,role], see RFC 4648 4, with its padding. Without roles:
/// `user`. The user id must not be empty; an empty user name becomes the id.
[[nodiscard]] token_result read_demo_token(std::string_view token);

/// A signed token: `sub` and `exp` must be there, `nbf` is kept, `iat`, `name`, `email` and `roles`
/// (an array of strings; default: user) are taken over. `crit` is refused, as RFC 7515 4.1.11 asks
/// of who knows no extensions. The signature is checked before anything in the token is believed.
/// REQUIRES: has_jwt(), a secret that is not empty.
[[nodiscard]] token_result read_jwt(std::string_view token, std::string_view secret,
                                    std::int64_t now_ms);
/// Whether the program was built with OpenSSL, which computes the signatures.
[[nodiscard]] bool has_jwt() noexcept;

/// What RFC 4648 allows and nothing else: the alphabet, no spaces, no bits that say nothing;
/// padding where the form has it.
[[nodiscard]] std::optional<std::string> decode_base64(std::string_view text);     ///< 4, padded
[[nodiscard]] std::optional<std::string> decode_base64url(std::string_view text);  ///< 5, unpadded

/// The token of a request: `Authorization: Bearer`, else `?token=`; empty: none.
[[nodiscard]] std::string token_of(const sse::request& r);

/// UTF-8 without control characters, neither empty nor longer than max_name.
[[nodiscard]] bool is_clean_name(std::string_view text) noexcept;

}  // namespace notifications
