// What is written, byte for byte, and what is refused.
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <sse/encode.hpp>

#include "catch.hpp"
#include "reference_parser.hpp"

namespace {

using sse::encode_error;
using namespace std::string_literals;

std::string encoded(const sse::event& e) {
  std::string out;
  REQUIRE(sse::encode(out, e) == encode_error::none);
  REQUIRE(out.size() == sse::encoded_size(e));
  // All ways to write give the same, into exactly that much memory.
  std::vector<char> exact(out.size());
  REQUIRE(sse::encode_to(exact.data(), e) == exact.data() + exact.size());
  REQUIRE(std::string_view{exact.data(), exact.size()} == out);
  const sse::encode_plan p = sse::plan(e);
  REQUIRE(p.size == out.size());
  std::vector<char> planned(p.size);
  REQUIRE(sse::encode_to(planned.data(), e, p) == planned.data() + planned.size());
  REQUIRE(std::string_view{planned.data(), planned.size()} == out);
  return out;
}

TEST_CASE("an event is written in one order, one space after each colon", "[encode]") {
  CHECK(encoded({.data = "a"}) == "data: a\n\n");
  CHECK(encoded({.type = "t", .data = "a", .id = "17", .retry = 3000}) ==
        "id: 17\nevent: t\nretry: 3000\ndata: a\n\n");
  CHECK(encoded({.type = "t"}) == "event: t\ndata: \n\n");
  CHECK(encoded({.id = "5"}) == "id: 5\ndata: \n\n");
  CHECK(encoded({.retry = 0}) == "retry: 0\ndata: \n\n");
  CHECK(encoded({.retry = 9}) == "retry: 9\ndata: \n\n");
  CHECK(encoded({.retry = 10}) == "retry: 10\ndata: \n\n");
  CHECK(encoded({.retry = std::numeric_limits<std::int64_t>::max()}) ==
        "retry: 9223372036854775807\ndata: \n\n");
  CHECK(encoded({}) == "data: \n\n");
  CHECK(encoded({.type = " t ", .data = " a ", .id = " i "}) ==
        "id:  i \nevent:  t \ndata:  a \n\n");
}

TEST_CASE("encode appends, and leaves the text alone if it refuses", "[encode]") {
  std::string out = "before";
  CHECK(sse::encode(out, {.data = "a"}) == encode_error::none);
  CHECK(out == "beforedata: a\n\n");
  CHECK(sse::encode(out, {.type = "\n", .data = "a"}) == encode_error::bad_type);
  CHECK(sse::encode_comment(out, "\0"s) == encode_error::bad_comment);
  CHECK(sse::encode_retry(out, -1) == encode_error::bad_retry);
  CHECK(out == "beforedata: a\n\n");
  CHECK(sse::encode_comment(out, "c") == encode_error::none);
  CHECK(sse::encode_retry(out, 5) == encode_error::none);
  sse::encode_position(out, 7);
  CHECK(out == "beforedata: a\n\n: c\n\nretry: 5\n\nid: 7\n\n");
}

TEST_CASE("X-08 data is split at LF, CR and CRLF and comes back the same", "[encode]") {
  struct split_row {
    std::string data, bytes, back;
  };
  const std::vector<split_row> table = {
      {"", "data: \n\n", ""},
      {"a", "data: a\n\n", "a"},
      {" a", "data:  a\n\n", " a"},
      {" ", "data:  \n\n", " "},
      {"a\n", "data: a\ndata: \n\n", "a\n"},
      {"\na", "data: \ndata: a\n\n", "\na"},
      {"\n", "data: \ndata: \n\n", "\n"},
      {"\r", "data: \ndata: \n\n", "\n"},
      {"\r\n", "data: \ndata: \n\n", "\n"},
      {"\n\r", "data: \ndata: \ndata: \n\n", "\n\n"},
      {"\r\r\n\n", "data: \ndata: \ndata: \ndata: \n\n", "\n\n\n"},
      {"a\nb", "data: a\ndata: b\n\n", "a\nb"},
      {"a\rb", "data: a\ndata: b\n\n", "a\nb"},
      {"a\r\nb", "data: a\ndata: b\n\n", "a\nb"},
      {"a\n\nb", "data: a\ndata: \ndata: b\n\n", "a\n\nb"},
      {"a\r\rb\r\n\r\nc", "data: a\ndata: \ndata: b\ndata: \ndata: c\n\n", "a\n\nb\n\nc"},
      {":a", "data: :a\n\n", ":a"},
      {"data: x\n\nevent: y", "data: data: x\ndata: \ndata: event: y\n\n", "data: x\n\nevent: y"},
      {"\xEF\xBB\xBF", "data: \xEF\xBB\xBF\n\n", "\xEF\xBB\xBF"},
      {"a\0b"s, "data: a\0b\n\n"s, "a\0b"s},
      {"\v\f\x85\xE2\x80\xA8", "data: \v\f\x85\xE2\x80\xA8\n\n", "\v\f\x85\xE2\x80\xA8"},
      {std::string(100, '\t'), "data: " + std::string(100, '\t') + "\n\n", std::string(100, '\t')},
  };
  for (const split_row& r : table) {
    CAPTURE(r.data);
    const std::string out = encoded({.data = r.data});
    CHECK(out == r.bytes);
    const test::trace t = test::reference_parse(out);
    REQUIRE(t.events.size() == 1);
    CHECK(t.events[0].data == r.back);
    CHECK((test::parse(out, 0) == t));
  }
}

TEST_CASE("X-08 a line end is found at every place of a long text", "[encode]") {
  for (const std::string& end : {"\n"s, "\r"s, "\r\n"s}) {
    for (std::size_t size = 0; size < 80; ++size) {
      for (std::size_t at = 0; at <= size; ++at) {
        std::string data(size, 'x');
        data.insert(at, end);
        REQUIRE(encoded({.data = data}) == "data: " + std::string(at, 'x') +
                                               "\ndata: " + std::string(size - at, 'x') + "\n\n");
      }
    }
  }
}

TEST_CASE("X-07 CR, LF and NUL in a type, an id or a comment forge no field", "[encode]") {
  for (const std::string& bad :
       {"\n"s, "\r"s, "\r\n"s, "\0"s, "a\ndata: forged"s, "a\rid: 9"s, "a\n\nevent: b"s, "a\0b"s,
        "a\n"s, "\ra"s, std::string(40, 'x') + "\n", std::string(40, 'x') + '\0'}) {
    CAPTURE(bad);
    CHECK(sse::validate({.type = bad}) == encode_error::bad_type);
    CHECK(sse::validate({.id = bad}) == encode_error::bad_id);
    std::string out;
    CHECK(sse::encode(out, {.type = bad, .data = "x"}) == encode_error::bad_type);
    CHECK(sse::encode(out, {.data = "x", .id = bad}) == encode_error::bad_id);
    CHECK(out.empty());
    CHECK(sse::plan({.type = bad}).size == 0);

    const bool nul = bad.find('\0') != bad.npos;
    CHECK(sse::encode_comment(out, bad) == (nul ? encode_error::bad_comment : encode_error::none));
    const test::trace t = test::reference_parse(out);
    CHECK(t.events.empty());
    CHECK(t.last_id.empty());
    CHECK(t.comments.empty() == nul);
  }
  for (const std::string& good :
       {"a"s, ":"s, " "s, "a: b"s, "\t"s, "\x01\x0B\x0C\x0E"s, "\xFF\xFE"s, "\xE2\x80\xA8"s}) {
    CHECK(sse::validate({.type = good, .id = good}) == encode_error::none);
  }
}

TEST_CASE("X-07 a retry below zero is refused", "[encode]") {
  CHECK(sse::validate({.retry = sse::no_retry}) == encode_error::none);
  CHECK(sse::validate({.retry = 0}) == encode_error::none);
  CHECK(sse::validate({.retry = -2}) == encode_error::bad_retry);
  CHECK(sse::validate({.retry = std::numeric_limits<std::int64_t>::min()}) ==
        encode_error::bad_retry);
}

TEST_CASE("each limit of the encoder holds at limit-1, limit and limit+1", "[encode]") {
  const sse::encode_limits limits;
  CHECK(limits.event == 1024 * 1024);
  CHECK(limits.id == 64);
  CHECK(limits.type == 128);
  for (const int off : {-1, 0, 1}) {
    const auto sized = [off](std::size_t limit) {
      return std::string(limit + static_cast<std::size_t>(off), 'x');
    };
    const encode_error expected = off > 0 ? encode_error::too_large : encode_error::none;
    CHECK(sse::validate({.id = sized(64)}) == expected);
    CHECK(sse::validate({.type = sized(128)}) == expected);
    CHECK(sse::validate({.data = sized(limits.event - 8)}) == expected);  // "data: " + "\n\n"
    CHECK(sse::validate({.type = "t", .data = sized(limits.event - 17)}) == expected);
    CHECK(sse::check_comment(sized(limits.event - 4)) == expected);  // ": " + "\n\n"
    std::string out;
    CHECK(sse::encode_comment(out, sized(limits.event - 4)) == expected);
    CHECK(sse::encode(out, {.data = sized(20)}, {.event = 28, .id = 0, .type = 0}) == expected);
  }
  // Many line ends weigh more than they look.
  CHECK(sse::validate({.data = std::string(limits.event / 7 - 2, '\n')}) == encode_error::none);
  CHECK(sse::validate({.data = std::string(limits.event / 7, '\n')}) == encode_error::too_large);
  CHECK(sse::validate({.data = std::string(limits.event + 1, '\n')}) == encode_error::too_large);
  CHECK(sse::check_comment(std::string(limits.event + 1, '\n')) == encode_error::too_large);
  CHECK(sse::validate({}, {.event = 7}) == encode_error::too_large);
  CHECK(sse::validate({}, {.event = 8}) == encode_error::none);
}

TEST_CASE("comments, and blocks of retry or id alone", "[encode]") {
  const auto comment = [](std::string_view text) {
    std::string out;
    REQUIRE(sse::encode_comment(out, text) == encode_error::none);
    REQUIRE(out.size() == sse::encoded_comment_size(text));
    return out;
  };
  CHECK(comment("keep-alive") == ": keep-alive\n\n");
  CHECK(comment("") == ": \n\n");
  CHECK(comment("a\nb\rc\r\nd") == ": a\n: b\n: c\n: d\n\n");
  CHECK(comment("a\n") == ": a\n: \n\n");
  CHECK((test::reference_parse(comment("a\ndata: x\n\n")).comments ==
         std::vector<std::string>{"a", "data: x", "", ""}));

  for (const std::int64_t ms : {std::int64_t{0}, std::int64_t{9}, std::int64_t{10},
                                std::int64_t{99999}, std::numeric_limits<std::int64_t>::max()}) {
    std::string out;
    REQUIRE(sse::encode_retry(out, ms) == encode_error::none);
    CHECK(out == "retry: " + std::to_string(ms) + "\n\n");
    CHECK(out.size() == sse::encoded_retry_size(ms));
  }

  for (const sse::event_id id :
       {sse::event_id{0}, sse::event_id{9}, sse::event_id{10}, sse::max_event_id}) {
    std::string out = "x";
    sse::encode_position(out, id);
    CHECK(out == "xid: " + std::to_string(id) + "\n\n");
    CHECK(out.size() == 1 + sse::encoded_position_size(id));
  }
}

TEST_CASE("the encoder's names for errors", "[encode]") {
  CHECK(sse::to_string(encode_error::none) == "none");
  CHECK(sse::to_string(encode_error::bad_type) == "bad_type");
  CHECK(sse::to_string(encode_error::bad_id) == "bad_id");
  CHECK(sse::to_string(encode_error::bad_retry) == "bad_retry");
  CHECK(sse::to_string(encode_error::bad_comment) == "bad_comment");
  CHECK(sse::to_string(encode_error::too_large) == "too_large");
  CHECK(sse::to_string(static_cast<encode_error>(99)) == "unknown");
}

// Checked at compile time too: a constant event needs no check at run time.
static_assert(sse::validate({.type = "t", .data = "a\r\nb", .id = "1", .retry = 5}) ==
              encode_error::none);
static_assert(sse::encoded_size({.type = "t", .data = "a\r\nb"}) == 9 + 8 + 8 + 1);
static_assert(sse::validate({.type = "a\nb"}) == encode_error::bad_type);
static_assert(sse::validate({.id = "a\rb"}) == encode_error::bad_id);
static_assert(sse::encoded_comment_size("a\nb") == 4 + 4 + 1);
static_assert(noexcept(sse::encode_to(nullptr, {})));

}  // namespace
