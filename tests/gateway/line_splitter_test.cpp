// Bytes to lines, however they are cut.
#include "gateway/line_splitter.hpp"

#include <string>
#include <vector>

#include "catch.hpp"

using gateway::line_splitter;

namespace {
struct collected {
  std::vector<std::string> lines;
  void operator()(std::string_view line) { lines.emplace_back(line); }
};
using strings = std::vector<std::string>;
}  // namespace

TEST_CASE("X-14 V-45 half a line is no line until the rest comes") {
  line_splitter splitter;
  collected got;
  CHECK(splitter.feed("{\"type\":", got) == 0);
  CHECK(got.lines.empty());
  CHECK(splitter.pending() == 8);
  splitter.feed("\"a\"}", got);
  CHECK(got.lines.empty());
  splitter.feed("\nnext\n", got);
  CHECK(got.lines == strings{"{\"type\":\"a\"}", "next"});
  CHECK(splitter.pending() == 0);
}

TEST_CASE("X-14 every way to cut the bytes gives the same lines") {
  const std::string text = "one\r\n\ntwo\n\r\nthr\ree\r\nfour\n";
  const strings expected{"one", "", "two", "", "thr\ree", "four"};
  for (std::size_t a = 0; a <= text.size(); ++a) {
    for (std::size_t b = a; b <= text.size(); ++b) {
      line_splitter splitter;
      collected got;
      splitter.feed(std::string_view{text}.substr(0, a), got);
      splitter.feed(std::string_view{text}.substr(a, b - a), got);
      splitter.feed(std::string_view{text}.substr(b), got);
      REQUIRE(got.lines == expected);
    }
  }
}

TEST_CASE("line_splitter drops an over-long line, reports it once and goes on") {
  for (const std::size_t chunk : {std::size_t{1}, std::size_t{3}, std::size_t{1000}}) {
    CAPTURE(chunk);
    line_splitter splitter{8};
    collected got;
    std::size_t reported = 0;
    const std::string text =
        "12345678\n12345678\r\n123456789\n" + std::string(500, 'x') + "\r\nok\n123456789\r\n";
    for (std::size_t i = 0; i < text.size(); i += chunk)
      reported += splitter.feed(std::string_view{text}.substr(i, chunk), got);
    CHECK(got.lines == strings{"12345678", "12345678", "ok"});
    CHECK(reported == 3);
    CHECK(splitter.dropped() == 3);
  }
}

TEST_CASE("line_splitter holds no more than a line of the limit") {
  line_splitter splitter;
  collected got;
  const std::string megabyte(std::size_t{1} << 20, 'x');
  CHECK(splitter.feed(megabyte, got) == 0);
  CHECK(splitter.feed("\n", got) == 0);
  CHECK(got.lines.size() == 1);
  CHECK(splitter.feed(megabyte, got) == 0);
  CHECK(splitter.feed("xx", got) == 1);
  CHECK(splitter.pending() == 0);
  CHECK(splitter.feed(megabyte, got) == 0);
  CHECK(splitter.feed("\nrest\n", got) == 0);
  CHECK(got.lines.back() == "rest");
}

TEST_CASE("line_splitter forgets a partial line on reset, and hands it out on finish") {
  line_splitter splitter;
  collected got;
  splitter.feed("half", got);
  splitter.reset();
  splitter.feed("whole\nlast\r", got);
  CHECK(got.lines == strings{"whole"});
  splitter.finish(got);
  splitter.finish(got);
  CHECK(got.lines == strings{"whole", "last"});
}
