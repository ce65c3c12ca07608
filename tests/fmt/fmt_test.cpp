// try_format: {fmt} into a publisher's lane.
#include <stdexcept>
#include <string>
#include <vector>

#include <sse/fmt.hpp>

#include "catch.hpp"

namespace {

using sse::publish_error;
using sse::publish_result;

struct point {
  int x = 0, y = 0;
};
struct bad {};

std::vector<std::string> drain(sse::mailbox& box) {
  std::vector<std::string> got;
  box.drain([&](const sse::mail& m) {
    got.push_back(std::string{m.event.type} + "|" + std::string{m.event.data});
  });
  return got;
}

}  // namespace

template <>
struct fmt::formatter<point> {
  constexpr auto parse(fmt::format_parse_context& ctx) { return ctx.begin(); }
  template <class Context>
  auto format(const point& p, Context& ctx) const {
    return fmt::format_to(ctx.out(), "({};{})", p.x, p.y);
  }
};

template <>
struct fmt::formatter<bad> {
  constexpr auto parse(fmt::format_parse_context& ctx) { return ctx.begin(); }
  template <class Context>
  auto format(const bad&, Context& ctx) const -> decltype(ctx.out()) {
    throw std::runtime_error{"no"};
  }
};

namespace {

TEST_CASE("values are formatted into the lane", "[fmt]") {
  sse::mailbox box;
  sse::publisher p = box.make_publisher(1, 1024);
  const std::string name = "BTC";
  const int qty = 3;
  CHECK(sse::try_format<64>(p, FMT_COMPILE(R"({{"s":"{}","q":{}}})"), name, qty) ==
        publish_error::none);
  CHECK(sse::try_format<64>(p, {.type = "t"}, "{} {:.2f} {}", name, 1.5, point{1, 2}) ==
        publish_error::none);
  CHECK(sse::try_format<64>(p, {.type = "c"}, FMT_COMPILE("{}"), point{3, 4}) ==
        publish_error::none);
  CHECK(sse::try_format<64>(p, FMT_STRING("{:>5}"), qty) == publish_error::none);
  CHECK(sse::try_format<0>(p, "") == publish_error::none);
  CHECK((drain(box) == std::vector<std::string>{R"(|{"s":"BTC","q":3})", "t|BTC 1.50 (1;2)",
                                                "c|(3;4)", "|    3", "|"}));
}

TEST_CASE("what finds no room is counted, and not written", "[fmt]") {
  for (std::size_t room = 0; room <= 6; ++room) {
    CAPTURE(room);
    std::string text = "......";
    sse::detail::bounded_output out{text.data(), room};
    for (const char c : std::string{"abcde"}) *out++ = c;
    CHECK(out.size(room) == 5);
    const std::size_t written = room < 5 ? room : 5;
    CHECK(text == std::string{"abcde"}.substr(0, written) + std::string(6 - written, '.'));
  }
}

TEST_CASE("all that a message has can be said with a format string", "[fmt]") {
  sse::mailbox box;
  sse::publisher p = box.make_publisher(1, 1024);
  CHECK(sse::try_format<8>(p, {.type = "t"},
                           {.id = 7, .audience = "ada", .transient = true, .key = "BTC"},
                           FMT_COMPILE("{}"), 1) == publish_error::none);
  std::size_t n = 0;
  box.drain([&](const sse::mail& m) {
    ++n;
    CHECK(m.event.type == "t");
    CHECK(m.options.audience == "ada");
    CHECK(m.options.id == 7);
    CHECK(m.options.transient);
    CHECK(m.options.key == "BTC");
    CHECK(m.event.data == "1");
  });
  CHECK(n == 1);
}

TEST_CASE("what does not fit is refused whole", "[fmt]") {
  sse::mailbox box;
  sse::publisher p = box.make_publisher(1);
  for (const std::size_t size : {9U, 10U, 11U}) {
    const auto expected = size > 10 ? publish_error::too_large : publish_error::none;
    const std::string text(size, 'x');
    CHECK(sse::try_format<10>(p, FMT_COMPILE("{}"), text) == expected);
    CHECK(sse::try_format<10>(p, "{}", text) == expected);
    CHECK(sse::try_format<10>(p, FMT_COMPILE("{}{}"), text.substr(1), 1) == expected);
  }
  for (const std::size_t size : {1023U, 1024U, 1025U}) {
    const auto expected = size > 1024 ? publish_error::too_large : publish_error::none;
    CHECK(sse::try_format(p, FMT_COMPILE("{}"), std::string(size, 'x')) == expected);
    CHECK(sse::try_format(p, "{}", std::string(size, 'x')) == expected);
  }
  CHECK(drain(box).size() == 10);
  CHECK(p.counts().too_large == 5);
  sse::publisher closed;
  CHECK(sse::try_format(closed, "{}", 1) == publish_error::closed);
}

TEST_CASE("a formatter that throws publishes nothing", "[fmt]") {
  sse::mailbox box;
  sse::publisher p = box.make_publisher(1);
  CHECK_THROWS_AS((void)sse::try_format(p, "a{}", bad{}), std::runtime_error);
  CHECK_THROWS_AS((void)sse::try_format(p, FMT_COMPILE("a{}"), bad{}), std::runtime_error);
  CHECK(drain(box).empty());
  CHECK(sse::try_format(p, "{}", 1) == publish_error::none);
  CHECK(drain(box).size() == 1);
}

}  // namespace
