// Reading tokens: the demo's form and JSON Web Tokens.
#include "notifications/token.hpp"

#include <string>
#include <utility>
#include <vector>

#include "base64.hpp"
#include "catch.hpp"

using namespace notifications;

namespace {

constexpr std::int64_t now = 1'700'000'000'000;
const std::string secret = "a secret of at least thirty-two bytes";

using test::base64;
std::string demo_of(std::string_view plain) { return base64(plain, false); }

/// Tokens signed by another implementation (Python's hmac and base64), with `secret`.
namespace signed_by_python {
const std::string full =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJuYW1lIjoiQWRhIEwiLCJlbWFpbCI6ImF"
    "kYUBleGFtcGxlLmNvbSIsInJvbGVzIjpbInVzZXIiLCJhZG1pbiJdLCJleHAiOjE3MDAwMDAwNjAsIm5iZiI6MTY"
    "5OTk5OTk5OSwiaWF0IjoxfQ.6TbtP8pwXNMbQ_q5oSXZ7L7QvIswk5irXR3Aye5jM5c";
const std::string least =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjE3MDAwMDAwMDAuNX0.jNaAqcc"
    "C6Gxawc6pB2ErorsankA9QykbsHCVzIDWt6A";
const std::string other_key =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJuYW1lIjoiQWRhIEwiLCJlbWFpbCI6ImF"
    "kYUBleGFtcGxlLmNvbSIsInJvbGVzIjpbInVzZXIiLCJhZG1pbiJdLCJleHAiOjE3MDAwMDAwNjAsIm5iZiI6MTY"
    "5OTk5OTk5OSwiaWF0IjoxfQ.NvFnPiJLrftLQdmOARi8ZjPZv6BVKwEA1HdkPdbLgnA";
const std::string no_exp =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEifQ.R3iIMr-f7cl0qc3_48LtrVolS-w6Etro"
    "rR-sg0lOIzA";
const std::string text_exp =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOiIxNzAwMDAwMDYwIn0.MnLOwMy"
    "F4nC9e8xb_CjvBX3CLWCkCnAFMqZZ2lvST-g";
const std::string null_exp =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOm51bGx9.eDSqDEFxqZGyZPNQw-"
    "-357koSU_NVvK7sJVgeclxVd4";
const std::string expired =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjE3MDAwMDAwMDB9.C-lehfo9BA"
    "Z5aLprfySmC92ioeBvWdWcwVH2YCN5k2g";
const std::string early =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjE3MDAwMDAwNjAsIm5iZiI6MTc"
    "wMDAwMDAwMX0.7Q4eZzod0GSrI3imb67f7LgT9qH9Zqio5hFwM5uqbF0";
const std::string text_nbf =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjE3MDAwMDAwNjAsIm5iZiI6IjE"
    "ifQ.hZBQQ25wKE0Pcsj6V_jKWb-CJXgUdpG8cpUbdgm7jc8";
const std::string far_exp =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjFlKzMwMH0.6QaskgLyeJMtVOL"
    "GsipjIQSt5hi5IZQfuf8seHxQB8g";
const std::string no_sub =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3MDAwMDAwNjB9.PkM4-AW7AJsUfjNYYVXmSnq7n9"
    "YNo6Ml1s5G8e1VXtE";
const std::string empty_sub =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIiLCJleHAiOjE3MDAwMDAwNjB9.xkvtuZjA6opJoN"
    "6wOw3kkCcO2053csdZooY_YHj5TPk";
const std::string number_sub =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOjcsImV4cCI6MTcwMDAwMDA2MH0.Y0MDD4mouhs8uvT"
    "oPVkqmCpQZNs7_ATlqBuElQEle-A";
const std::string control_sub =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhXG5iIiwiZXhwIjoxNzAwMDAwMDYwfQ.Mv97hfFx"
    "pxV1oQSf_FmuY4nx9ol0aM60cICIKOar2wE";
const std::string text_roles =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjE3MDAwMDAwNjAsInJvbGVzIjo"
    "iYWRtaW4ifQ.5TPqu9VOEWIJz3_iE0pUQWefFqWF6wrMc0iBdqdAXyA";
const std::string mixed_roles =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjE3MDAwMDAwNjAsInJvbGVzIjp"
    "bImFkbWluIiwxXX0.N6UdGb6ag1-jeRzuT5QF1cQTRmi06NfD-OfSY-jWst8";
const std::string no_roles =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjE3MDAwMDAwNjAsInJvbGVzIjp"
    "bXX0.hK4fzrIxK0qizNEbJcSv8DK3J2QfkNZIBZqGDYC5dLs";
const std::string crit =
    "eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiZXhwIl19.eyJzdWIiOiJhZGEiLCJuYW1lIjoiQWRhIEwiLCJlbWFpbCI"
    "6ImFkYUBleGFtcGxlLmNvbSIsInJvbGVzIjpbInVzZXIiLCJhZG1pbiJdLCJleHAiOjE3MDAwMDAwNjAsIm5iZiI"
    "6MTY5OTk5OTk5OSwiaWF0IjoxfQ.osHcok1iYydszp4wtH6MBmxk6zvT-wZ6s-KJimceiNA";
const std::string alg_none =
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJuYW1lIjoiQWRhIEwiLCJlbWFpbCI6ImFkYUBleGFtcGxlLmNv"
    "bSIsInJvbGVzIjpbInVzZXIiLCJhZG1pbiJdLCJleHAiOjE3MDAwMDAwNjAsIm5iZiI6MTY5OTk5OTk5OSwiaWF0"
    "IjoxfQ.DW4633Qwhp-PMyCOhzM7PBBiutDTgO4s6mVnyji9r5g";
const std::string alg_lower =
    "eyJhbGciOiJoczI1NiJ9.eyJzdWIiOiJhZGEiLCJuYW1lIjoiQWRhIEwiLCJlbWFpbCI6ImFkYUBleGFtcGxlLmN"
    "vbSIsInJvbGVzIjpbInVzZXIiLCJhZG1pbiJdLCJleHAiOjE3MDAwMDAwNjAsIm5iZiI6MTY5OTk5OTk5OSwiaWF"
    "0IjoxfQ.e09XAxR3xiWS3fQ6J47rhKdtmKtYsI6djoE-MH5he2Y";
const std::string alg_hs512 =
    "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiJhZGEiLCJuYW1lIjoiQWRhIEwiLCJlbWFpbCI6ImFkYUBleGFtcGxlLmN"
    "vbSIsInJvbGVzIjpbInVzZXIiLCJhZG1pbiJdLCJleHAiOjE3MDAwMDAwNjAsIm5iZiI6MTY5OTk5OTk5OSwiaWF"
    "0IjoxfQ.EJ-z9iB1sm939QZgdtv1-k8ebmikjSXIaf_tNtlbc4gDxKJulwkb8B0bY3iZ8boF95daC3PJBts08xho"
    "h0Vs2A";
const std::string alg_absent =
    "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJhZGEiLCJuYW1lIjoiQWRhIEwiLCJlbWFpbCI6ImFkYUBleGFtcGxlLmNvb"
    "SIsInJvbGVzIjpbInVzZXIiLCJhZG1pbiJdLCJleHAiOjE3MDAwMDAwNjAsIm5iZiI6MTY5OTk5OTk5OSwiaWF0I"
    "joxfQ.rvs5RItF3QJF_gb7K-1PtQWdfM36zeGsB7kpBCIw4M4";
const std::string array =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.WyJhZGEiXQ.5i08pWB5uNV83nDoUFuvmZBba1vaKiEl2H0g_xBN"
    "e2I";
const std::string not_json =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOg.suN9Ro0OzuUzm_UWTEJAMzCG"
    "42WSPPeF4Kq0-AQYagw";
const std::string ms_exp =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjE3MDAwMDAwNjAwMDB9.xCIq"
    "j7zHJSEoZzqS1fUam7LznTgBu3elezRV7cgX0zo";
}  // namespace signed_by_python

token_error jwt_error(const std::string& token, std::int64_t at = now) {
  return read_jwt(token, secret, at).error;
}

}  // namespace

TEST_CASE("X-21 base64 is read as RFC 4648 says, and in no other way") {
  // RFC 4648 10
  const std::vector<std::pair<const char*, const char*>> good = {{"", ""},
                                                                 {"Zg==", "f"},
                                                                 {"Zm8=", "fo"},
                                                                 {"Zm9v", "foo"},
                                                                 {"Zm9vYg==", "foob"},
                                                                 {"Zm9vYmE=", "fooba"},
                                                                 {"Zm9vYmFy", "foobar"}};
  for (const auto& [text, bytes] : good) {
    CAPTURE(text);
    CHECK(decode_base64(text) == bytes);
    std::string bare = text;
    while (bare.ends_with('=')) bare.pop_back();
    CHECK(decode_base64url(bare) == bytes);
  }
  CHECK(decode_base64("+/+/") == "\xfb\xff\xbf");
  CHECK(decode_base64url("-_-_") == "\xfb\xff\xbf");
  for (const char* bad : {"Zg", "Zg=", "Zg===", "=", "====", "Z===", "Zh==", "Zm9=", "Zm 9",
                          "Zm9v\n", "-_-_", "Zg==Zg==", "A=A=", "Zm9v====", "A"}) {
    CAPTURE(bad);
    CHECK_FALSE(decode_base64(bad));
  }
  for (const char* bad : {"Zg==", "Zh", "Zm9", "A", "AAAAA", "+/+/", "Zm9v ", "Zm9v="}) {
    CAPTURE(bad);
    CHECK_FALSE(decode_base64url(bad));
  }
}

TEST_CASE("N-05 the demo token is test123, testuser, with both roles") {
  const token_result t =
      read_demo_token("dGVzdDEyMzp0ZXN0dXNlcjp0ZXN0QGV4YW1wbGUuY29tOnVzZXIsYWRtaW4=");
  REQUIRE(t);
  CHECK(t.who.id == "test123");
  CHECK(t.who.name == "testuser");
  CHECK(t.who.email == "test@example.com");
  CHECK(t.who.roles == std::vector<std::string>{"user", "admin"});
  CHECK(t.who.has_role("admin"));
  CHECK_FALSE(t.who.has_role("adm"));
  CHECK(t.who.expires_ms == no_expiry);
}

TEST_CASE("N-06 without roles a user is a user") {
  for (const char* plain : {"u:n:e", "u:n:e:", "u:n:e:,"}) {
    CAPTURE(plain);
    const token_result t = read_demo_token(demo_of(plain));
    REQUIRE(t);
    CHECK(t.who.id == "u");
    CHECK(t.who.name == "n");
    CHECK(t.who.email == "e");
    CHECK(t.who.roles == std::vector<std::string>{"user"});
  }
  CHECK(read_demo_token(demo_of("u::")).who.name == "u");
}

TEST_CASE("N-03 what is not base64 of three or four parts with a user id is nobody's") {
  std::vector<std::string> plain;
  for (const char* p : {"", "u", "u:n", ":n:e", "u:n:e:user:x", "u\n:n:e", "u:n\x7f:e", "u:n:e\x01",
                        "\xff:n:e", "u:\xc2\x85:e"}) {
    plain.emplace_back(p);
  }
  plain.emplace_back("u\0:n:e", 6);
  for (const std::size_t size : {max_name + 1, max_token}) {
    plain.emplace_back(size, 'x').append(":n:e");
    plain.emplace_back("u:n:").append(size, 'x');
  }
  plain.erase(plain.end() - 3);  // a long address is no name
  for (const std::string& p : plain) {
    CAPTURE(p);
    CHECK(read_demo_token(demo_of(p)).error == token_error::malformed);
  }
  for (const char* bad : {"u:n:e", "dGVz dDp0OnQ=", "dTpuOmU", "%%%", "dTpuOmV=", "=", "null"}) {
    CAPTURE(bad);
    CHECK(read_demo_token(bad).error == token_error::malformed);
  }
  CHECK(read_demo_token(demo_of("u:n:e")));
}

TEST_CASE("N-03 user ids in any script are taken") {
  const token_result t = read_demo_token(demo_of("\xc3\xa4\xe2\x82\xac:N:e"));
  REQUIRE(t);
  CHECK(t.who.id == "\xc3\xa4\xe2\x82\xac");
}

TEST_CASE("N-04 N-07 the token comes as a bearer or in the query, percent-encoded") {
  sse::request r;
  CHECK(token_of(r).empty());
  r.query = "a=b&token=aa%2Bbb%2Fcc%3D%3D";
  CHECK(token_of(r) == "aa+bb/cc==");
  r.query = "token=YQ==";
  CHECK(token_of(r) == "YQ==");
  const sse::header bearer{"authorization", "bearer xyz"};
  r.headers = {&bearer, 1};
  CHECK(token_of(r) == "xyz");
  const sse::header basic{"Authorization", "Basic xyz"};
  r.headers = {&basic, 1};
  CHECK(token_of(r) == "YQ==");
  r.query = "token=%zz";
  CHECK(token_of(r).empty());
}

TEST_CASE("X-21 a signed token gives the user it names") {
  if (!has_jwt()) return;
  const token_result t = read_jwt(signed_by_python::full, secret, now);
  REQUIRE(t);
  CHECK(t.who.id == "ada");
  CHECK(t.who.name == "Ada L");
  CHECK(t.who.email == "ada@example.com");
  CHECK(t.who.roles == std::vector<std::string>{"user", "admin"});
  CHECK(t.who.expires_ms == 1'700'000'060'000);
  const token_result least = read_jwt(signed_by_python::least, secret, now);
  REQUIRE(least);
  CHECK(least.who.name == "ada");
  CHECK(least.who.roles == std::vector<std::string>{"user"});
  CHECK(least.who.expires_ms == 1'700'000'000'500);
  const token_result none = read_jwt(signed_by_python::no_roles, secret, now);
  REQUIRE(none);
  CHECK(none.who.roles.empty());
  CHECK(jwt_error(signed_by_python::far_exp) == token_error::endless);
}

TEST_CASE("X-21 the example of RFC 7515 A.1") {
  if (!has_jwt()) return;
  const std::string key = *decode_base64url(
      "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
  const std::string token =
      "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl"
      "fQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
  // Its signature is right; it ended in 2011, and before that it lacks a subject.
  CHECK(read_jwt(token, key, now).error == token_error::expired);
  CHECK(read_jwt(token, key, 1'300'819'379'999).error == token_error::malformed);
  CHECK(read_jwt(token, key, 1'300'819'380'000).error == token_error::expired);
  CHECK(read_jwt(token, key + "x", now).error == token_error::signature);
}

TEST_CASE("X-21 forged and unsigned tokens are refused") {
  if (!has_jwt()) return;
  namespace t = signed_by_python;
  CHECK(jwt_error(t::other_key) == token_error::signature);
  CHECK(jwt_error(t::alg_none) == token_error::algorithm);
  CHECK(jwt_error(t::alg_lower) == token_error::algorithm);
  CHECK(jwt_error(t::alg_hs512) == token_error::algorithm);
  CHECK(jwt_error(t::alg_absent) == token_error::algorithm);
  const std::string none = t::alg_none.substr(0, t::alg_none.rfind('.') + 1);
  CHECK(jwt_error(none) == token_error::algorithm);
  const std::string unsigned_token = t::full.substr(0, t::full.rfind('.') + 1);
  CHECK(jwt_error(unsigned_token) == token_error::signature);
  CHECK(jwt_error(t::crit) == token_error::malformed);
  // The claims of one token under the signature of another.
  const std::string mixed =
      t::no_roles.substr(0, t::no_roles.rfind('.')) + t::full.substr(t::full.rfind('.'));
  CHECK(jwt_error(mixed) == token_error::signature);
  CHECK(jwt_error("dGVzdDEyMzp0ZXN0dXNlcjp0ZXN0QGV4YW1wbGUuY29tOnVzZXIsYWRtaW4=") ==
        token_error::malformed);
}

TEST_CASE("X-21 no signed token is good with one character changed, left out or added") {
  if (!has_jwt()) return;
  const std::string& good = signed_by_python::full;
  for (std::size_t i = 0; i < good.size(); ++i) {
    CAPTURE(i);
    std::string t = good;
    t[i] = t[i] == 'A' ? 'B' : 'A';
    CHECK_FALSE(read_jwt(t, secret, now));
    t = good;
    t.erase(i, 1);
    CHECK_FALSE(read_jwt(t, secret, now));
    CHECK_FALSE(read_jwt(good.substr(0, i), secret, now));
    t = good;
    t.insert(i, 1, 'A');
    CHECK_FALSE(read_jwt(t, secret, now));
  }
  CHECK_FALSE(read_jwt(good + ".", secret, now));
  CHECK_FALSE(read_jwt(good + "=", secret, now));
  CHECK_FALSE(read_jwt(good + std::string(max_token, 'A'), secret, now));
  CHECK_FALSE(read_jwt(std::string(1 << 20, '.'), secret, now));
  CHECK_FALSE(read_jwt("..", secret, now));
  CHECK_FALSE(read_jwt("", secret, now));
  CHECK_FALSE(read_jwt(good, "", now));
  CHECK(read_jwt(good, secret, now));
}

TEST_CASE("X-21 a signed token holds from nbf to exp, and must have an exp") {
  if (!has_jwt()) return;
  namespace t = signed_by_python;
  CHECK(jwt_error(t::full, 1'700'000'059'999) == token_error::none);
  CHECK(jwt_error(t::full, 1'700'000'060'000) == token_error::expired);
  CHECK(jwt_error(t::full, 1'699'999'999'000) == token_error::none);
  CHECK(jwt_error(t::full, 1'699'999'998'999) == token_error::early);
  CHECK(jwt_error(t::expired) == token_error::expired);
  CHECK(jwt_error(t::early) == token_error::early);
  CHECK(jwt_error(t::ms_exp) == token_error::endless);  // it would hold for 53,000 years
  for (const std::string* bad : {&t::no_exp, &t::text_exp, &t::null_exp, &t::text_nbf}) {
    CAPTURE(*bad);
    CHECK(jwt_error(*bad) == token_error::malformed);
  }
}

TEST_CASE("X-21 claims that cannot be used are refused although they are signed") {
  if (!has_jwt()) return;
  namespace t = signed_by_python;
  for (const std::string* bad : {&t::no_sub, &t::empty_sub, &t::number_sub, &t::control_sub,
                                 &t::text_roles, &t::mixed_roles, &t::array, &t::not_json}) {
    CAPTURE(*bad);
    CHECK(jwt_error(*bad) == token_error::malformed);
  }
}
