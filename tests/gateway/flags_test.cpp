// The command line of the example programs.
#include "common/flags.hpp"

#include <string>
#include <vector>

#include "catch.hpp"

using namespace examples;

namespace {

struct sample {
  bool on = false;
  std::string text = "default";
  std::uint16_t number = 7;
  sse::duration time = sse::duration::seconds(1);
  flag_set flags{"program", "Does things.", "1.2.3"};

  sample() {
    flags.heading("Things");
    flags.toggle("--on", "switches on", on);
    flags.text("--text", "TEXT", "says", text);
    flags.number("--number", "N", "counts", number);
    flags.seconds("--time", "waits", time);
  }
  std::optional<early_end> parse(std::vector<const char*> words) {
    words.insert(words.begin(), "program");
    return flags.parse(static_cast<int>(words.size()), words.data());
  }
};

}  // namespace

TEST_CASE("flags take their value from the next word or after =") {
  sample s;
  REQUIRE_FALSE(
      s.parse({"--text", "-", "--number=12", "--on", "--time", "0.25", "--number", "13"}));
  CHECK(s.text == "-");
  CHECK(s.number == 13);
  CHECK(s.on);
  CHECK(s.time.ms() == 250);
  CHECK(s.flags.given("--on"));
  sample empty;
  REQUIRE_FALSE(empty.parse({"--text="}));
  CHECK(empty.text.empty());
  CHECK_FALSE(empty.flags.given("--on"));
}

TEST_CASE("wrong flags say what is wrong, in one line") {
  const std::vector<std::pair<std::vector<const char*>, std::string>> all = {
      {{"--off"}, "unknown flag '--off'"},
      {{"-x"}, "unknown flag '-x'"},
      {{"word"}, "unexpected argument 'word'"},
      {{""}, "unexpected argument ''"},
      {{"--text"}, "--text needs a value: --text TEXT"},
      {{"--text", "--on"}, "--text needs a value: --text TEXT"},
      {{"--on=1"}, "--on takes no value"},
      {{"--version=1"}, "--version takes no value"},
      {{"--number", "65536"}, "--number must be a number from 0 to 65535, not '65536'"},
      {{"--number", "+1"}, "--number must be a number from 0 to 65535, not '+1'"},
      {{"--number", ""}, "--number must be a number from 0 to 65535, not ''"},
      {{"--time", "1s"}, "--time must be seconds from 0 to 1000000, such as 10 or 0.5, not '1s'"},
  };
  for (const auto& [words, text] : all) {
    CAPTURE(text);
    sample s;
    const auto end = s.parse(words);
    REQUIRE(end);
    CHECK(end->code == 2);
    CHECK(end->text == "program: " + text + " (see program --help)\n");
  }
}

TEST_CASE("help and version come first and win") {
  sample s;
  auto end = s.parse({"--number", "1", "--help", "--bogus"});
  REQUIRE(end);
  CHECK(end->code == 0);
  CHECK(end->text ==
        "Does things.\n\nusage: program [FLAG]...\n\nThings\n"
        "  --on                      switches on\n"
        "  --text TEXT               says\n"
        "  --number N                counts\n"
        "  --time SECONDS            waits\n"
        "  --help                    this text\n"
        "  --version                 the version\n");
  end = s.parse({"--version"});
  REQUIRE(end);
  CHECK(end->code == 0);
  CHECK(end->text == "program 1.2.3\n");
}

TEST_CASE("seconds have fractions, and what is above 0 is at least a millisecond") {
  CHECK(parse_seconds("0")->ms() == 0);
  CHECK(parse_seconds("0.2")->ms() == 200);
  CHECK(parse_seconds(".5")->ms() == 500);
  CHECK(parse_seconds("0.0001")->ms() == 1);
  CHECK(parse_seconds("1000000")->ms() == 1'000'000'000);
  for (const char* bad : {"", "-1", "1e3", "inf", "nan", "1000001", "1 ", " 1", "0x1", "1,5"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_seconds(bad));
  }
}
