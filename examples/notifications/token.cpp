// ssehub example notifications. SPDX-License-Identifier: MIT
#include "notifications/token.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <sse/detail/base/utf8.hpp>

#ifdef NOTIFICATIONS_OPENSSL
#include <openssl/evp.h>
#include <openssl/hmac.h>
#endif

#include "common/json.hpp"

namespace notifications {
namespace {

/// No control characters (C1 ones neither), nothing but UTF-8.
bool is_clean(std::string_view text) noexcept {
  while (!text.empty()) {
    const sse::detail::utf8_step step = sse::detail::next_utf8(text);
    const auto c = static_cast<unsigned char>(text.front());
    if (!step.valid || c < 0x20 || c == 0x7f) return false;
    if (c == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0) return false;
    text.remove_prefix(step.size);
  }
  return true;
}

token_result failed(token_error e) { return {{}, e}; }

int value_of(char c, bool url) noexcept {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == (url ? '-' : '+')) return 62;
  return c == (url ? '_' : '/') ? 63 : -1;
}

std::optional<std::string> decode(std::string_view text, bool url) {
  if (text.size() % 4 == 1) return std::nullopt;
  std::string out;
  out.reserve(text.size() / 4 * 3 + 2);
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (const char c : text) {
    const int value = value_of(c, url);
    if (value < 0) return std::nullopt;
    bits = (bits << 6U | static_cast<std::uint32_t>(value)) & 0xffffU;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out += static_cast<char>(bits >> held & 0xffU);
  }
  if ((bits & ((1U << held) - 1)) != 0) return std::nullopt;  // two texts for the same bytes
  return out;
}

#ifdef NOTIFICATIONS_OPENSSL
using digest = std::array<unsigned char, EVP_MAX_MD_SIZE>;

/// Empty: OpenSSL could not.
std::string hmac_sha256(std::string_view secret, std::string_view text) {
  digest out{};
  unsigned size = 0;
  const auto* const bytes = reinterpret_cast<const unsigned char*>(text.data());
  if (HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), bytes, text.size(),
           out.data(), &size) == nullptr) {
    return {};
  }
  return {reinterpret_cast<const char*>(out.data()), size};
}
#else
std::string hmac_sha256(std::string_view, std::string_view) { return {}; }
#endif

/// A NumericDate (RFC 7519 2) in milliseconds; what is too far away for that is as far as can be.
std::int64_t to_ms(double seconds) noexcept {
  constexpr double most = 1e15;
  return static_cast<std::int64_t>(std::clamp(seconds, -most, most) * 1000);
}

}  // namespace

bool identity::has_role(std::string_view role) const noexcept {
  return std::find(roles.begin(), roles.end(), role) != roles.end();
}

std::string_view to_string(token_error e) noexcept {
  switch (e) {
    case token_error::none: return "none";
    case token_error::malformed: return "malformed";
    case token_error::algorithm: return "algorithm";
    case token_error::signature: return "signature";
    case token_error::expired: return "expired";
    case token_error::early: return "early";
    case token_error::endless: return "exp is behind the year 9999: it counts seconds";
  }
  return "unknown";
}

bool is_clean_name(std::string_view text) noexcept {
  return !text.empty() && text.size() <= max_name && is_clean(text);
}

bool has_jwt() noexcept {
#ifdef NOTIFICATIONS_OPENSSL
  return true;
#else
  return false;
#endif
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  for (int i = 0; i < 2 && text.ends_with('='); ++i) text.remove_suffix(1);
  return decode(text, false);
}

std::optional<std::string> decode_base64url(std::string_view text) { return decode(text, true); }

token_result read_demo_token(std::string_view token) {
  if (token.empty() || token.size() > max_token) return failed(token_error::malformed);
  const auto plain = decode_base64(token);
  if (!plain || !is_clean(*plain)) return failed(token_error::malformed);
  std::array<std::string_view, 4> parts{};
  std::size_t n = 0;
  std::string_view rest = *plain;
  for (bool more = true; more; ++n) {
    if (n == parts.size()) return failed(token_error::malformed);
    const std::size_t colon = rest.find(':');
    more = colon != std::string_view::npos;
    parts[n] = rest.substr(0, colon);
    rest.remove_prefix(more ? colon + 1 : rest.size());
  }
  token_result out;
  out.who.id = parts[0];
  out.who.name = parts[1].empty() ? parts[0] : parts[1];
  out.who.email = parts[2];
  if (n < 3 || !is_clean_name(out.who.id) || !is_clean_name(out.who.name))
    return failed(token_error::malformed);
  for (std::string_view roles = parts[3]; !roles.empty();) {
    const std::size_t comma = roles.find(',');
    if (comma != 0) out.who.roles.emplace_back(roles.substr(0, comma));
    roles.remove_prefix(comma == std::string_view::npos ? roles.size() : comma + 1);
  }
  if (out.who.roles.empty()) out.who.roles.emplace_back("user");
  return out;
}

token_result read_jwt(std::string_view token, std::string_view secret, std::int64_t now_ms) {
  if (token.empty() || token.size() > max_token || secret.empty())
    return failed(token_error::malformed);
  const std::size_t first = token.find('.');
  const std::size_t last = token.rfind('.');
  if (first == last || token.find('.', first + 1) != last) return failed(token_error::malformed);
  const auto header = decode_base64url(token.substr(0, first));
  const auto claims = decode_base64url(token.substr(first + 1, last - first - 1));
  const auto signature = decode_base64url(token.substr(last + 1));
  if (!header || !claims || !signature) return failed(token_error::malformed);

  examples::json_document doc;
  if (doc.parse(*header) != examples::json_result::object || doc.has("crit"))
    return failed(token_error::malformed);
  if (doc.string("alg") != "HS256") return failed(token_error::algorithm);
  const std::string expected = hmac_sha256(secret, token.substr(0, last));
  if (expected.empty() || !sse::equal_secret(expected, *signature))
    return failed(token_error::signature);

  if (doc.parse(*claims) != examples::json_result::object) return failed(token_error::malformed);
  const auto exp = doc.number("exp");
  const auto nbf = doc.number("nbf");
  if (!exp || (doc.has("nbf") && !nbf)) return failed(token_error::malformed);
  constexpr double end_of_9999 = 253'402'300'799;  // in seconds, as a NumericDate is (RFC 7519 2)
  if (*exp > end_of_9999) return failed(token_error::endless);
  token_result out;
  out.who.expires_ms = to_ms(*exp);
  if (out.who.expires_ms <= now_ms) return failed(token_error::expired);
  if (nbf && to_ms(*nbf) > now_ms) return failed(token_error::early);
  if (const auto iat = doc.number("iat"); iat && *iat > 0) out.who.issued_ms = to_ms(*iat);

  bool good = true;
  const auto take = [&](std::string_view claim, std::string& to) {
    const auto text = doc.string(claim);
    good = good && (text || !doc.has(claim)) && is_clean(text.value_or(""));
    to = text.value_or("");
  };
  take("sub", out.who.id);
  take("name", out.who.name);
  take("email", out.who.email);
  if (out.who.name.empty()) out.who.name = out.who.id;
  if (!good || !is_clean_name(out.who.id) || !is_clean_name(out.who.name))
    return failed(token_error::malformed);
  const auto roles = doc.strings("roles");
  if (doc.has("roles") && !roles) return failed(token_error::malformed);
  if (roles) {
    for (const std::string_view role : *roles) {
      if (!is_clean_name(role)) return failed(token_error::malformed);
      out.who.roles.emplace_back(role);
    }
  } else {
    out.who.roles.emplace_back("user");
  }
  return out;
}

std::string token_of(const sse::request& r) {
  std::string token{sse::bearer_token(r)};
  if (token.empty() && sse::query_value(r.query, "token", token) != sse::lookup::found)
    token.clear();
  return token;
}

}  // namespace notifications
