// Tokens of examples/notifications over hostile text: what is taken must be clean, and a signed
// token must be one that a second look at it takes too. Input: a byte that says what the rest is: a
// token, or the claims (or the header) of a token that is then signed, so that the reader of claims
// is reached.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "../notifications/base64.hpp"
#include "notifications/token.hpp"

#ifdef NOTIFICATIONS_OPENSSL
#include <openssl/evp.h>
#include <openssl/hmac.h>
#endif

namespace {

using namespace notifications;
using test::base64;
using text = std::string_view;

constexpr std::int64_t now = 1'700'000'000'000;
constexpr text secret = "a secret of at least thirty-two bytes";

void require(bool ok) {
  if (!ok) std::abort();
}

void check_base64(text input) {
  for (const bool url : {false, true}) {
    // One text for each run of bytes, and the reverse.
    if (const auto bytes = url ? decode_base64url(input) : decode_base64(input))
      require(base64(*bytes, url) == input);
    const std::string there = base64(input, url);
    const auto back = url ? decode_base64url(there) : decode_base64(there);
    require(back && *back == input);
  }
}

void check_user(const token_result& t) {
  if (!t) return require(t.who.id.empty());
  require(is_clean_name(t.who.id) && is_clean_name(t.who.name));
  for (const char c : t.who.email) require(static_cast<unsigned char>(c) >= 0x20);
  for (const std::string& role : t.who.roles) require(!role.empty());
}

void check_demo(text input) {
  check_user(read_demo_token(input));
  const token_result t = read_demo_token(base64(input, false));
  check_user(t);
  if (t) require(input.starts_with(t.who.id + ":") && t.who.expires_ms == no_expiry);
}

#ifdef NOTIFICATIONS_OPENSSL
std::string sign(text head) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(head.data()), head.size(), out, &size);
  return std::string{head} + "." + base64({reinterpret_cast<const char*>(out), size}, true);
}

void check_signed(text header, text claims) {
  const std::string token = sign(base64(header, true) + "." + base64(claims, true));
  const token_result t = read_jwt(token, secret, now);
  check_user(t);
  if (!t) return;
  require(t.who.expires_ms > now);
  require(read_jwt(token, secret, t.who.expires_ms).error == token_error::expired);
  require(read_jwt(token, "another secret", now).error == token_error::signature);
  std::string forged = token;
  forged.back() = forged.back() == 'A' ? 'E' : 'A';
  require(!read_jwt(forged, secret, now));
}
#endif

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string copy{reinterpret_cast<const char*>(data) + 1, size - 1};
  check_base64(copy);
  check_demo(copy);
  const token_result raw = read_jwt(copy, secret, now);
  check_user(raw);
#ifdef NOTIFICATIONS_OPENSSL
  if (data[0] % 2 == 0) {
    check_signed(R"({"alg":"HS256"})", copy);
  } else {
    check_signed(copy, R"({"sub":"ada","exp":1700000060})");
  }
#else
  require(!raw);
#endif
  return 0;
}
