// The one reader of decimal numbers, at its limits; and each place that reads one, at its own.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include <sse/detail/base/decimal.hpp>
#include <sse/detail/http/response_reader.hpp>
#include <sse/detail/http/url.hpp>
#include <sse/gap.hpp>
#include <sse/request.hpp>

#include "catch.hpp"

namespace {

using sse::detail::decimal;

constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();

struct reading {
  decimal what;
  std::uint64_t n;
  bool operator==(const reading&) const = default;
};

constexpr reading read(std::string_view s, std::uint64_t most) {
  std::uint64_t n = 77;  // stays if there is none
  const decimal what = sse::detail::read_decimal(s, most, n);
  return {what, n};
}

TEST_CASE("a decimal number is read up to its limit, and no further", "[decimal]") {
  struct row {
    std::string_view text;
    std::uint64_t most;
    reading expected;
  };
  const row rows[] = {
      {"0", largest, {decimal::number, 0}},
      {"9", 9, {decimal::number, 9}},
      {"9", 8, {decimal::too_large, 8}},
      {"1", 0, {decimal::too_large, 0}},
      {"0", 0, {decimal::number, 0}},
      {"10", 10, {decimal::number, 10}},
      {"10", 9, {decimal::too_large, 9}},
      {"65535", 65535, {decimal::number, 65535}},
      {"65536", 65535, {decimal::too_large, 65535}},
      {"000000000000000000000000000065535", 65535, {decimal::number, 65535}},
      {"9223372036854775807", largest / 2, {decimal::number, largest / 2}},
      {"9223372036854775808", largest / 2, {decimal::too_large, largest / 2}},
      {"18446744073709551614", largest, {decimal::number, largest - 1}},
      {"18446744073709551615", largest, {decimal::number, largest}},
      {"18446744073709551616", largest, {decimal::too_large, largest}},
      {"18446744073709551620", largest, {decimal::too_large, largest}},
      {"99999999999999999999", largest, {decimal::too_large, largest}},
      {"184467440737095516150", largest, {decimal::too_large, largest}},
      {"123", 12, {decimal::too_large, 12}},  // nor does it go on with the digits that fit again
      {"1300", 12, {decimal::too_large, 12}},
      {"", largest, {decimal::malformed, 77}},
      {"-1", largest, {decimal::malformed, 77}},
      {"+1", largest, {decimal::malformed, 77}},
      {" 1", largest, {decimal::malformed, 77}},
      {"1 ", largest, {decimal::malformed, 77}},
      {"1.0", largest, {decimal::malformed, 77}},
      {"0x1", largest, {decimal::malformed, 77}},
      {"/", largest, {decimal::malformed, 77}},
      {":", largest, {decimal::malformed, 77}},
      {"\xB1", largest, {decimal::malformed, 77}},
      {"99999999999999999999x", largest, {decimal::malformed, 77}},  // malformed, however large
      {std::string_view{"1\0", 2}, largest, {decimal::malformed, 77}},
  };
  for (const row& r : rows) {
    CAPTURE(r.text, r.most);
    CHECK((read(r.text, r.most) == r.expected));
  }
}

TEST_CASE("a number that was written is read again", "[decimal]") {
  std::uint64_t n = 1;
  for (int i = 0; i < 64; ++i, n *= 2) {
    for (const std::uint64_t value : {n - 1, n, n + 1, largest - n}) {
      char text[20];
      const char* const end = sse::detail::put_decimal(text, value);
      const std::string_view digits{text, static_cast<std::size_t>(end - text)};
      CHECK(digits == std::to_string(value));
      CHECK(digits.size() == sse::detail::decimal_size(value));
      CHECK((read(digits, largest) == reading{decimal::number, value}));
    }
  }
}

TEST_CASE("what reads a number ends at its own limit", "[decimal]") {
  SECTION("an event id, also percent-encoded: 2^53-1") {
    sse::event_id id = 0;
    CHECK(sse::detail::parse_position("9007199254740991", false, id, id));
    CHECK(id == sse::max_event_id);
    CHECK_FALSE(sse::detail::parse_position("9007199254740992", false, id, id));
    CHECK_FALSE(sse::detail::parse_position("18446744073709551617", false, id, id));
    CHECK(sse::detail::parse_position("9%30071992547409%391", true, id, id));
    CHECK(id == sse::max_event_id);
    CHECK_FALSE(sse::detail::parse_position("%3", true, id, id));
    CHECK_FALSE(sse::detail::parse_position("1%C4%B1", true, id, id));
    CHECK_FALSE(sse::detail::parse_position("", true, id, id));
  }
  SECTION("a gap frame: 2^53-1") {
    const auto reads = [](std::string_view number) {
      const std::string data =
          "{\"requested\": " + std::string{number} + ",\"first\":2,\"lost\":null}";
      sse::gap g;
      return sse::read_gap({.type = "gap", .data = data}, g);
    };
    CHECK(reads("9007199254740991"));
    CHECK_FALSE(reads("9007199254740992"));
    CHECK_FALSE(reads(""));
    CHECK_FALSE(reads("-1"));
  }
  SECTION("seconds: at most what was said") {
    const sse::duration most = sse::duration::seconds(30);
    CHECK(sse::detail::whole_seconds("29", most) == sse::duration::seconds(29));
    CHECK(sse::detail::whole_seconds("30", most) == most);
    CHECK(sse::detail::whole_seconds("31", most) == most);
    CHECK(sse::detail::whole_seconds("99999999999999999999", most) == most);
    CHECK(sse::detail::whole_seconds("", most).is_off());
    CHECK(sse::detail::whole_seconds("99999999999999999999 GMT", most).is_off());
  }
}

}  // namespace
