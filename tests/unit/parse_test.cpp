// sse::parser against WHATWG HTML 9.2.6: every rule by name, every stream in every chunking.
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <new>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <sse/encode.hpp>
#include <sse/parse.hpp>

#include "catch.hpp"
#include "reference_parser.hpp"

namespace {

using test::got_event;
using test::trace;
using namespace std::string_literals;

std::string visible(std::string_view s) {
  std::string out;
  for (const char c : s) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\0') {
      out += "\\0";
    } else {
      out += c;
    }
  }
  return out;
}

// Whole, by 1, 2, 3 bytes, and at every single cut: always the same.
trace parse_all_ways(const std::string& in, const sse::parser_options& options = {}) {
  const trace whole = test::parse(in, 0, options);
  INFO(visible(in));
  for (const std::size_t step : {1U, 2U, 3U}) {
    INFO("pieces of " << step);
    CHECK((test::parse(in, step, options) == whole));
  }
  for (std::size_t at = 0; at <= in.size(); ++at) {
    INFO("cut at " << at);
    CHECK((test::parse_cut(in, at, options) == whole));
  }
  return whole;
}

struct row {
  const char* rule;
  std::string in;
  std::vector<got_event> events{};
  std::string last_id{};
};

const std::string bom = "\xEF\xBB\xBF";

const std::vector<row> rows = {
    {"nothing", "", {}},
    {"one event", "data: a\n\n", {{"", "a", ""}}},
    {"all fields", "id: 7\nevent: t\nretry: 10\ndata: a\n\n", {{"t", "a", "7", 10}}, "7"},

    {"BOM: one at the start is skipped", bom + "data: a\n\n", {{"", "a", ""}}},
    {"BOM: only one is", bom + bom + "data: a\n\ndata: b\n\n", {{"", "b", ""}}},
    {"BOM: not one later in the stream", "data: a\n\n" + bom + "data: b\n\n", {{"", "a", ""}}},
    {"BOM: inside data it is text", "data: " + bom + "\n\n", {{"", bom, ""}}},
    {"BOM: half of one is text",
     "\xEF\xBB"
     "data: a\ndata: b\n\n",
     {{"", "b", ""}}},
    {"BOM: one byte of one, then a line end", "\xEF\ndata: b\n\n", {{"", "b", ""}}},
    {"BOM: alone", bom, {}},
    {"BOM: before an empty line", bom + "\n\ndata: a\n\n", {{"", "a", ""}}},

    {"line ends: LF", "data: a\ndata: b\n\n", {{"", "a\nb", ""}}},
    {"line ends: CR", "data: a\rdata: b\r\r", {{"", "a\nb", ""}}},
    {"line ends: CRLF", "data: a\r\ndata: b\r\n\r\n", {{"", "a\nb", ""}}},
    {"line ends: mixed", "data: a\rdata: b\ndata: c\r\n\n", {{"", "a\nb\nc", ""}}},
    {"line ends: CRLF is one",
     "data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n",
     {{"", "a\nb", ""}, {"", "c", ""}}},
    {"line ends: LF CR is two", "data: a\n\rdata: b\n\r", {{"", "a", ""}, {"", "b", ""}}},
    {"line ends: CR at once fires", "data: a\r\r", {{"", "a", ""}}},
    {"line ends: CR CR LF", "data: a\r\r\ndata: b\n\n", {{"", "a", ""}, {"", "b", ""}}},
    {"line ends: no other byte is one",
     "data: a\vb\fc\x1C\xC2\x85"
     "d\xE2\x80\xA8"
     "e\tf\n\n",
     {{"",
       "a\vb\fc\x1C\xC2\x85"
       "d\xE2\x80\xA8"
       "e\tf",
       ""}}},
    {"line ends: many low bytes that are none",
     "data: "s + std::string(70, '\t') + "\n\n",
     {{"", std::string(70, '\t'), ""}}},

    {"colon: no space", "data:a\n\n", {{"", "a", ""}}},
    {"colon: one space is taken", "data: a\n\n", {{"", "a", ""}}},
    {"colon: only one is", "data:  a \n\n", {{"", " a ", ""}}},
    {"colon: a tab is not", "data:\ta\n\n", {{"", "\ta", ""}}},
    {"colon: only the first splits", "data: a:b: c\n\n", {{"", "a:b: c", ""}}},
    {"colon: none means an empty value", "data\n\n", {{"", "", ""}}},
    {"colon: nothing after it", "data:\n\n", {{"", "", ""}}},
    {"colon: a single space after it", "data: \n\n", {{"", "", ""}}},
    {"colon: space before it is another name", "data : a\n\n", {}},
    {"colon: first is a comment", ": data: a\n\n", {}},
    {"colon: space first is another name", " data: a\n\n", {}},

    {"comment: inside an event", "data: a\n: c\ndata: b\n\n", {{"", "a\nb", ""}}},
    {"comment: fires nothing", ":\n\n:x\n\n", {}},

    {"names: case-sensitive", "Data: a\nDATA: b\nEvent: t\nID: 1\ndata: c\n\n", {{"", "c", ""}}},
    {"names: unknown ones are ignored",
     "datax: a\ndat: b\nfoo\nfoo: x\ne: x\ni\nr\nd\ndata: c\n\n",
     {{"", "c", ""}}},
    {"names: longer ones are unknown",
     "id2: 1\nevents: t\nretrys: 5\ndata2\ndata: c\n\n",
     {{"", "c", ""}}},
    {"names: NUL in one makes another", "da\0ta: a\ndata\0: b\ndata: c\n\n"s, {{"", "c", ""}}},

    {"data: lines are joined by LF", "data: a\ndata\ndata: b\ndata:\n\n", {{"", "a\n\nb\n", ""}}},
    {"data: an empty one still fires", "data\n\n", {{"", "", ""}}},
    {"data: two empty ones give one LF", "data\ndata\n\n", {{"", "\n", ""}}},
    {"data: NUL is text", "data: a\0b\n\n"s, {{"", "a\0b"s, ""}}},
    {"data: none fires nothing", "event: t\n\ndata: a\n\n", {{"", "a", ""}}},
    {"data: blank lines fire nothing", "\n\n\r\r\n\r\n", {}},

    {"event: the last one counts", "event: a\nevent: b\ndata: x\n\n", {{"b", "x", ""}}},
    {"event: an empty one clears it", "event: a\nevent\ndata: x\n\n", {{"", "x", ""}}},
    {"event: forgotten after its event",
     "event: a\ndata: x\n\ndata: y\n\n",
     {{"a", "x", ""}, {"", "y", ""}}},
    {"event: forgotten without data too", "event: a\n\ndata: y\n\n", {{"", "y", ""}}},
    {"event: after the data", "data: x\nevent: a\n\n", {{"a", "x", ""}}},

    {"id: kept for later events",
     "id: 1\ndata: x\n\ndata: y\n\n",
     {{"", "x", "1"}, {"", "y", "1"}},
     "1"},
    {"id: an empty one clears it",
     "id: 1\ndata: x\n\nid\ndata: y\n\n",
     {{"", "x", "1"}, {"", "y", ""}},
     ""},
    {"id: an empty one with colon too",
     "id: 1\ndata: x\n\nid:\ndata: y\n\n",
     {{"", "x", "1"}, {"", "y", ""}},
     ""},
    {"id: with NUL is ignored",
     "id: 1\ndata: x\n\nid: 2\0\ndata: y\n\n"s,
     {{"", "x", "1"}, {"", "y", "1"}},
     "1"},
    {"id: NUL alone is ignored", "id: 1\nid: \0\ndata: y\n\n"s, {{"", "y", "1"}}, "1"},
    {"id: the last one counts", "id: 1\nid: 2\ndata: x\n\n", {{"", "x", "2"}}, "2"},
    {"id: counts without data", "id: 9\n\n", {}, "9"},
    {"id: counts without data for the next", "id: 9\n\ndata: x\n\n", {{"", "x", "9"}}, "9"},
    {"id: not from an unfinished event",
     "id: 1\ndata: x\n\nid: 2\ndata: y\n",
     {{"", "x", "1"}},
     "1"},
    {"id: spaces belong to it", "id:  1 \ndata: x\n\n", {{"", "x", " 1 "}}, " 1 "},
    {"id: any text",
     "id: \xC3\xA9:\xFF\ndata: x\n\n",
     {{"", "x", "\xC3\xA9:\xFF"}},
     "\xC3\xA9:\xFF"},

    {"end: an unfinished event is dropped", "data: a\n\ndata: b\n", {{"", "a", ""}}},
    {"end: an unfinished line is dropped", "data: a\n\ndata: b", {{"", "a", ""}}},
    {"end: nothing but a name", "data", {}},
    {"end: after CR", "data: a\r", {}},
};

TEST_CASE("the parser follows each rule of the event stream format in every chunking", "[parse]") {
  for (const row& r : rows) {
    DYNAMIC_SECTION(r.rule) {
      const trace t = parse_all_ways(r.in);
      CHECK(t.error == sse::parse_error::none);
      CHECK((t.events == r.events));
      CHECK(t.last_id == r.last_id);
      CHECK((t == test::reference_parse(r.in)));
    }
  }
}

TEST_CASE("retry takes digits only", "[parse]") {
  struct retry_row {
    std::string value;
    std::vector<std::int64_t> got;
  };
  const std::vector<retry_row> table = {
      {"0", {0}},
      {"3000", {3000}},
      {"007", {7}},
      {"", {}},
      {"-1", {}},
      {"+1", {}},
      {"1.5", {}},
      {"1e3", {}},
      {" 5", {}},
      {"5 ", {}},
      {"5\t", {}},
      {"0x10", {}},
      {"5\0"s, {}},
      {"\xD9\xA1", {}},  // ARABIC-INDIC DIGIT ONE
      {"9223372036854775806", {INT64_MAX - 1}},
      {"9223372036854775807", {INT64_MAX}},
      {"9223372036854775808", {INT64_MAX}},
      {"18446744073709551616", {INT64_MAX}},
      {std::string(1000, '9'), {INT64_MAX}},
      {std::string(1000, '0') + "5", {5}},
  };
  for (const retry_row& r : table) {
    INFO(visible(r.value));
    const trace t = parse_all_ways("retry: " + r.value + "\ndata: x\n\ndata: y\n\n");
    CHECK((t.retries == r.got));
    REQUIRE(t.events.size() == 2);
    CHECK(t.events[0].retry == (r.got.empty() ? sse::no_retry : r.got[0]));
    CHECK(t.events[1].retry == sse::no_retry);
  }
  const trace bare = parse_all_ways("retry\nretry:\ndata: x\n\n");
  CHECK(bare.retries.empty());
  const trace unfinished = parse_all_ways("retry: 5\nretry: x\nretry: 6\n");
  CHECK((unfinished.retries == std::vector<std::int64_t>{5, 6}));
  const trace kept = parse_all_ways("retry: 5\nretry: x\ndata: a\n\n");
  CHECK(kept.events[0].retry == 5);
}

TEST_CASE("comments reach a sink that wants them", "[parse]") {
  const trace t = parse_all_ways(":\n:a\n: b\n:  c\r: d:e \r\n:\0\n:unfinished"s);
  CHECK((t.comments == std::vector<std::string>{"", "a", "b", " c", "d:e ", "\0"s}));
  CHECK(t.events.empty());
}

TEST_CASE("random streams: every chunking agrees with the algorithm word for word", "[parse]") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 rng{seed};
  const std::vector<std::string> words = {
      "data", "event", "id",   "retry",  ":",      ": ",  " ",  "\n",
      "\n",   "\n\n",  "\r",   "\r\n",   "\r\r\n", "x",   "12", "\0"s,
      bom,    "\xEF",  "\xBB", "data:a", "id:7",   "e: ", "\t", std::string(40, 'y')};
  for (int i = 0; i < 20000; ++i) {
    std::string in;
    for (std::size_t n = rng() % 24; n != 0; --n) in += words[rng() % words.size()];
    const trace expected = test::reference_parse(in);
    INFO(visible(in));
    REQUIRE((test::parse(in, 0) == expected));
    REQUIRE((test::parse(in, 1) == expected));
    REQUIRE((test::parse(in, 1 + rng() % 7) == expected));
    REQUIRE((test::parse_cut(in, rng() % (in.size() + 1)) == expected));
  }
}

TEST_CASE("random streams of long lines: every chunking agrees, in steps of any size", "[parse]") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 rng{seed};
  const std::vector<std::string> names = {
      "data: ", "data:", "data", ": ", "id: ", "event: ", "", "", "retry: 5"};
  const std::vector<std::string> ends = {"\n", "\n", "\r", "\r\n"};
  for (int i = 0; i < 3000; ++i) {
    std::string in = rng() % 4 == 0 ? bom : "";
    for (std::size_t lines = rng() % 12; lines != 0; --lines) {
      in += names[rng() % names.size()];
      const std::size_t from = in.size();
      in.append(rng() % 3 == 0 ? 0 : rng() % (rng() % 8 == 0 ? 2000 : 200), 'z');
      for (std::size_t tabs = rng() % 4; tabs != 0 && from < in.size(); --tabs) {
        in[from + rng() % (in.size() - from)] = rng() % 2 == 0 ? '\t' : '\x8A';
      }
      in += ends[rng() % ends.size()];
      if (rng() % 2 == 0) in += ends[rng() % ends.size()];
    }
    const trace expected = test::reference_parse(in);
    REQUIRE((test::parse(in, 0) == expected));
    REQUIRE((test::parse(in, 1) == expected));
    REQUIRE((test::parse(in, 1 + rng() % 300) == expected));
    REQUIRE((test::parse_cut(in, rng() % (in.size() + 1)) == expected));
  }
}

TEST_CASE("parse of encode is the identity for random messages", "[parse][encode]") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 rng{seed};
  const auto text = [&rng](std::size_t most, bool field) {
    std::string s;
    for (std::size_t n = rng() % (most + 1); n != 0; --n) {
      const auto kind = rng() % 8;
      char c = static_cast<char>(rng() % 256);
      if (kind == 0) c = '\n';
      if (kind == 1) c = '\r';
      if (kind == 2) c = ' ';
      if (kind == 3) c = ':';
      if (field && (c == '\n' || c == '\r' || c == '\0')) c = '\xEF';
      s += c;
    }
    return s;
  };
  std::string stream;
  std::vector<got_event> expected;
  std::string last_id;
  std::vector<std::int64_t> retries;
  for (int i = 0; i < 20000; ++i) {
    const std::string type = text(rng() % 4 == 0 ? 128 : 5, true);
    const std::string id = text(rng() % 4 == 0 ? 64 : 3, true);
    const std::string data = text(rng() % 64 == 0 ? 5000 : 40, false);
    const std::int64_t retry =
        rng() % 3 == 0 ? static_cast<std::int64_t>(rng() >> (1 + rng() % 62)) : sse::no_retry;
    const sse::event e{type, data, id, retry};
    const std::size_t before = stream.size();
    REQUIRE(sse::encode(stream, e) == sse::encode_error::none);
    REQUIRE(stream.size() - before == sse::encoded_size(e));
    std::string normal;
    for (std::size_t k = 0; k < data.size(); ++k) {
      if (data[k] == '\n' && k > 0 && data[k - 1] == '\r') continue;
      normal += data[k] == '\r' ? '\n' : data[k];
    }
    if (!id.empty()) last_id = id;
    if (retry >= 0) retries.push_back(retry);
    expected.push_back({type, normal, last_id, retry});
  }
  for (const std::size_t step : {std::size_t{0}, std::size_t{1}, std::size_t{1 + rng() % 4096}}) {
    const trace t = test::parse(stream, step);
    CHECK(t.error == sse::parse_error::none);
    REQUIRE(t.events.size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) REQUIRE((t.events[i] == expected[i]));
    CHECK((t.retries == retries));
    CHECK(t.last_id == last_id);
  }
}

// The parser with one limit at `limit`, given something of that size.
sse::parse_error with(sse::parse_limits limits, const std::string& in, std::size_t events) {
  const trace t = parse_all_ways(in, {limits, sse::invalid_utf8::pass});
  CHECK(t.events.size() == events);
  return t.error;
}

TEST_CASE("each limit holds at limit-1, limit and limit+1", "[parse]") {
  constexpr std::size_t limit = 20;
  for (const std::size_t size : {limit - 1, limit, limit + 1}) {
    CAPTURE(size);
    const bool over = size > limit;
    const std::size_t events = over ? 1 : 2;
    const auto error = [over](sse::parse_error e) { return over ? e : sse::parse_error::none; };
    const std::string ok = "data: ok\n\n";

    sse::parse_limits line;
    line.line = limit;
    const auto too_long = error(sse::parse_error::line_too_long);
    CHECK(with(line, ok + "data: " + std::string(size - 6, 'x') + "\n\n", events) == too_long);
    CHECK(with(line, ok + ":" + std::string(size - 1, 'x') + "\r\rdata: y\n\n", events) ==
          too_long);
    CHECK(with(line, ok + std::string(size, 'x') + "\r\ndata: y\n\n", events) == too_long);
    CHECK(with(line, ok + std::string(size, 'x'), 1) == too_long);

    sse::parse_limits event;
    event.event = limit;
    const auto too_large = error(sse::parse_error::event_too_large);
    CHECK(with(event, ok + "data: " + std::string(size, 'x') + "\n\n", events) == too_large);
    CHECK(with(event, ok + "data: 0123\ndata: " + std::string(size - 5, 'x') + "\n\n", events) ==
          too_large);
    CHECK(with(event, ok + "data: " + std::string(size - 1, 'x') + "\ndata\n\n", events) ==
          too_large);
    CHECK(with(event, ok + "data: " + std::string(size - 1, 'x') + "\ndata\n", 1) == too_large);

    sse::parse_limits lines;
    lines.data_lines = limit;
    std::string many = ok;
    for (std::size_t i = 0; i < size; ++i) many += "data\n: c\n";
    CHECK(with(lines, many + "\n", events) == error(sse::parse_error::too_many_lines));

    sse::parse_limits id;
    id.id = limit;
    CHECK(with(id, ok + "id: " + std::string(size, '1') + "\ndata: y\n\n", events) ==
          error(sse::parse_error::id_too_long));

    sse::parse_limits type;
    type.type = limit;
    CHECK(with(type, ok + "event: " + std::string(size, 't') + "\ndata: y\n\n", events) ==
          error(sse::parse_error::type_too_long));
  }
}

TEST_CASE("limits of zero and one", "[parse]") {
  sse::parse_limits l;
  l.data_lines = 0;
  CHECK(with(l, "data\n\n", 0) == sse::parse_error::too_many_lines);
  l = {};
  l.event = 0;
  CHECK(with(l, "data\n\n", 1) == sse::parse_error::none);
  CHECK(with(l, "data\ndata\n\n", 0) == sse::parse_error::event_too_large);
  l = {};
  l.line = 0;
  CHECK(with(l, "\n\r\r\n", 0) == sse::parse_error::none);
  CHECK(with(l, bom + "\n\n", 0) == sse::parse_error::none);
  CHECK(with(l, "\xEF\n", 0) == sse::parse_error::line_too_long);
  l.line = 1;
  CHECK(with(l, "\xEF\xBB\n", 0) == sse::parse_error::line_too_long);
  l = {};
  l.id = l.type = 0;
  CHECK(with(l, "id\nevent\ndata\n\n", 1) == sse::parse_error::none);
}

TEST_CASE("the default limits are those of the documentation", "[parse]") {
  const sse::parse_limits l;
  CHECK(l.line == 16 * 1024 * 1024 + 64);
  CHECK(l.event == 16 * 1024 * 1024);
  for (const std::size_t size : {l.line - 1, l.line, l.line + 1}) {
    const trace t = test::parse(": " + std::string(size - 2, 'x') + "\ndata: y\n\n", 65536);
    CHECK(t.error == (size > l.line ? sse::parse_error::line_too_long : sse::parse_error::none));
    CHECK(t.events.size() == (size > l.line ? 0U : 1U));
  }
  const std::string half = "data: " + std::string(l.event / 2, 'x') + "\n";
  for (const std::size_t rest : {l.event / 2 - 2, l.event / 2 - 1, l.event / 2}) {
    const trace t = test::parse(half + "data: " + std::string(rest, 'y') + "\n\n", 65536);
    const bool over = l.event / 2 + 1 + rest > l.event;
    CHECK(t.error == (over ? sse::parse_error::event_too_large : sse::parse_error::none));
    CHECK(t.events.size() == (over ? 0U : 1U));
  }
}

TEST_CASE("by default each part of an event may be as large as the event", "[parse]") {
  const sse::parse_limits l;
  for (const std::size_t size : {l.event - 1, l.event, l.event + 1}) {
    CAPTURE(size);
    const bool over = size > l.event;
    const auto told = [&](const std::string& in, sse::parse_error e) {
      const trace t = test::parse(in, 65536);
      CHECK(t.error == (over ? e : sse::parse_error::none));
      REQUIRE(t.events.size() == (over ? 0U : 1U));
      return over ? got_event{} : t.events[0];
    };
    const std::string value(size, 'x');
    CHECK(told("data: " + value + "\n\n", sse::parse_error::event_too_large).data.size() ==
          (over ? 0 : size));
    CHECK(told("event: " + value + "\ndata\n\n", sse::parse_error::type_too_long).type ==
          (over ? "" : value));
  }
}

TEST_CASE("an event of two million line ends is within its limit", "[parse]") {
  std::string in;
  for (int i = 0; i < 2'000'001; ++i) in += "data\n";
  const trace t = test::parse(in + "\n", 65536);
  CHECK(t.error == sse::parse_error::none);
  REQUIRE(t.events.size() == 1);
  CHECK(t.events[0].data.size() == 2'000'000);
  CHECK(sse::parse_limits{}.data_lines == sse::parse_limits{}.event + 1);
}

TEST_CASE("a block of an id that fires no event tells a position", "[parse]") {
  using list = std::vector<std::string>;
  CHECK((parse_all_ways("id: 7\n\n").positions == list{"7"}));
  CHECK((parse_all_ways(": hi\nretry: 5\nid: 7\nevent: x\n\ndata: y\n\n").positions == list{"7"}));
  CHECK((parse_all_ways("id: 7\n\nid: 7\r\r\nid\n\n").positions == list{"7", "7", ""}));
  CHECK((parse_all_ways("id: 7\nid: 8\n\n").positions == list{"8"}));
  CHECK(parse_all_ways("id: 7\ndata\n\n").positions.empty());  // an event tells it
  CHECK(parse_all_ways("id: 7\n").positions.empty());          // not finished
  CHECK(parse_all_ways("id: a\0b\n\n\n\ndata: x\n\n"s).positions.empty());
  struct without {
    void on_event(const sse::event&) {}
  };
  sse::parser p;
  CHECK(p.feed("id: 7\n\n", without{}));
  CHECK(p.last_event_id() == "7");
}

TEST_CASE("each callback may stop the parser behind what it was called for", "[parse]") {
  struct stopper {
    std::string told{};
    bool on_event(const sse::event&) { return tell("event "); }
    bool on_comment(std::string_view) { return tell("comment "); }
    bool on_retry(std::int64_t) { return tell("retry "); }
    bool on_position(std::string_view) { return tell("position "); }
    bool tell(std::string_view what) {
      told += what;
      return false;
    }
  };
  const std::string in = ": c\nretry: 5\rid: 1\r\n\r\ndata: x\n\n: d\ndata: y\r\r";
  for (const std::size_t step : {in.size(), std::size_t{3}, std::size_t{1}}) {
    sse::parser p;
    stopper s;
    std::size_t stops = 0;
    for (std::size_t at = 0; at < in.size();) {
      const sse::parse_result r = p.feed(std::string_view{in}.substr(at, step), s);
      REQUIRE(r);
      stops += r.consumed < std::min(step, in.size() - at);
      at += r.consumed;
    }
    CHECK(s.told == "comment retry position event comment event ");
    if (step == in.size()) CHECK(stops == 5);
  }
}

TEST_CASE("only values are counted as held, not the names before them", "[parse]") {
  sse::parser p;
  trace t;
  REQUIRE(p.feed("da", t));
  CHECK(p.buffered() == 2);
  REQUIRE(p.feed("ta: abc\n", t));
  CHECK(p.buffered() == 3);
  REQUIRE(p.feed("data: de\nevent: x\nid: 12", t));
  CHECK(p.buffered() == 6 + 1 + 6);
  REQUIRE(p.feed("\n", t));
  CHECK(p.buffered() == 6 + 1 + 2);
  REQUIRE(p.feed("\n", t));
  CHECK(p.buffered() == 0);
  CHECK((t.events == std::vector<got_event>{{"x", "abc\nde", "12"}}));
}

TEST_CASE("a limit of the event counts a line that came in pieces without its name", "[parse]") {
  for (const std::size_t size : {19U, 20U, 21U}) {
    sse::parser p{{.limits = {.event = 20}}};
    trace t;
    const std::string in =
        "data: " + std::string(10, 'x') + "\ndata: " + std::string(size - 11, 'y') + "\n\n";
    sse::parse_error error = sse::parse_error::none;
    for (const std::string& part : {in.substr(0, 8), in.substr(8)}) {
      if (error == sse::parse_error::none) error = p.feed(part, t).error;
    }
    CHECK(error == (size > 20 ? sse::parse_error::event_too_large : sse::parse_error::none));
    CHECK(t.events.size() == (size > 20 ? 0U : 1U));
  }
}

TEST_CASE("an error stays until reset, and the last event ID survives", "[parse]") {
  sse::parser p{{.limits = {.line = 10}}};
  trace t;
  REQUIRE(p.feed("id: 4\ndata: a\n\n", t));
  const auto r = p.feed("id: 5\ndata: b\ndata: 0123456789\n\n", t);
  CHECK(r.error == sse::parse_error::line_too_long);
  CHECK_FALSE(r);
  CHECK(r.consumed < 31);
  CHECK(p.error() == sse::parse_error::line_too_long);
  CHECK(p.buffered() == 0);
  CHECK(p.feed("\n\ndata: c\n\n", t).error == sse::parse_error::line_too_long);
  CHECK(p.feed("data: c\n\n", t).consumed == 0);
  p.finish();
  CHECK(p.error() == sse::parse_error::line_too_long);
  CHECK(t.events.size() == 1);
  p.reset();
  CHECK(p.error() == sse::parse_error::none);
  CHECK(p.last_event_id() == "4");
  REQUIRE(p.feed(bom + "data: c\n\n", t));
  REQUIRE(t.events.size() == 2);
  CHECK((t.events[1] == got_event{"", "c", "4"}));
}

TEST_CASE("a new stream starts after finish", "[parse]") {
  sse::parser p;
  trace t;
  CHECK(p.set_last_event_id("40"));
  CHECK(p.last_event_id() == "40");
  REQUIRE(p.feed("data: a\n\n", t));
  CHECK_FALSE(p.finish());
  CHECK(t.events[0].id == "40");
  REQUIRE(p.feed(bom + "id: 41\nevent: t\nretry: 4\ndata: b", t));
  CHECK(p.buffered() > 0);
  CHECK(p.finish());
  CHECK(p.buffered() == 0);
  CHECK(p.last_event_id() == "40");
  REQUIRE(p.feed(bom + "data: c\r", t));
  CHECK(p.finish());
  REQUIRE(p.feed("\ndata: d\n\n", t));  // the LF is not the CR's: that was another stream
  REQUIRE(t.events.size() == 2);
  CHECK((t.events[1] == got_event{"", "d", "40"}));
  REQUIRE(p.feed("data: e\n", t));
  CHECK(p.finish());
  CHECK(p.set_last_event_id({}));
  CHECK(p.last_event_id().empty());

  CHECK_FALSE(p.set_last_event_id("a\nb"));
  CHECK_FALSE(p.set_last_event_id("a\rb"));
  CHECK_FALSE(p.set_last_event_id("a\0b"s));
  CHECK_FALSE(p.set_last_event_id(std::string(4097, 'x')));
  CHECK(p.set_last_event_id(std::string(4096, 'x')));
  CHECK_FALSE(p.set_last_event_id("a\n"));
  CHECK(p.last_event_id().size() == 4096);
}

TEST_CASE("a sink can stop after an event", "[parse]") {
  struct stopper {
    std::vector<std::string> data;
    bool on_event(const sse::event& e) {
      data.emplace_back(e.data);
      return e.data != "stop";
    }
  };
  const std::string in = "data: a\r\n\r\ndata: stop\r\n\r\ndata: b\n\ndata: stop\n\n";
  stopper s;
  sse::parser p;
  auto r = p.feed(in, s);
  CHECK(r);
  CHECK(in.substr(r.consumed) == "data: b\n\ndata: stop\n\n");
  CHECK((s.data == std::vector<std::string>{"a", "stop"}));
  CHECK(p.buffered() == 0);
  const std::size_t before = r.consumed;
  r = p.feed(in.substr(before), s);
  CHECK(before + r.consumed == in.size());
  CHECK(s.data.size() == 4);
  // The same with the cut everywhere, also between the CR and the LF that follow the event.
  for (std::size_t at = 0; at <= in.size(); ++at) {
    stopper cut;
    sse::parser q;
    for (std::string_view part :
         {std::string_view{in}.substr(0, at), std::string_view{in}.substr(at)}) {
      while (!part.empty()) {
        const auto step = q.feed(part, cut);
        REQUIRE(step);
        part.remove_prefix(step.consumed);
      }
    }
    CHECK((cut.data == std::vector<std::string>{"a", "stop", "b", "stop"}));
  }
}

TEST_CASE("an event that lies in one piece in the input is not copied", "[parse]") {
  const std::string in = "event: tick\ndata: payload\nid: 1\n\n";
  struct checker {
    const std::string& in;
    bool called = false;
    bool inside(std::string_view v) const {
      return v.data() >= in.data() && v.data() + v.size() <= in.data() + in.size();
    }
    void on_event(const sse::event& e) {
      called = true;
      CHECK(inside(e.data));
      CHECK(inside(e.type));
    }
  } sink{in};
  sse::parser p;
  REQUIRE(p.feed(in, sink));
  CHECK(sink.called);
}

TEST_CASE("invalid UTF-8 passes, or is replaced as the Encoding Standard decodes", "[parse]") {
  const std::string fffd = "\xEF\xBF\xBD";
  struct utf8_row {
    const char* name;
    std::string in, out;
  };
  const std::vector<utf8_row> table = {
      {"valid, one to four bytes", "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z",
       "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"},
      {"bounds of each length",
       "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF",
       "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
      {"around the surrogates", "\xED\x9F\xBF\xEE\x80\x80", "\xED\x9F\xBF\xEE\x80\x80"},
      {"lone continuation", "a\x80z", "a" + fffd + "z"},
      {"FE and FF", "\xFE\xFF", fffd + fffd},
      {"overlong of two", "\xC0\xAF", fffd + fffd},
      {"overlong of three", "\xE0\x80\xAF", fffd + fffd + fffd},
      {"overlong of four", "\xF0\x80\x80\xAF", fffd + fffd + fffd + fffd},
      {"surrogate", "\xED\xA0\x80", fffd + fffd + fffd},
      {"above U+10FFFF", "\xF4\x90\x80\x80", fffd + fffd + fffd + fffd},
      {"F5", "\xF5\x80", fffd + fffd},
      {"truncated at the end", "a\xE2\x82", "a" + fffd},
      {"truncated four at the end", "a\xF0\x9F\x98", "a" + fffd},
      {"truncated by ASCII", "\xE2\x82z\xF0\x9Fz\xC3z", fffd + "z" + fffd + "z" + fffd + "z"},
      {"truncated by a lead", "\xE2\x82\xC3\xA9", fffd + "\xC3\xA9"},
      {"long good runs around", std::string(30, 'x') + "\xFF" + std::string(30, 'y'),
       std::string(30, 'x') + fffd + std::string(30, 'y')},
  };
  const sse::parser_options replace{.utf8 = sse::invalid_utf8::replace};
  for (const utf8_row& r : table) {
    DYNAMIC_SECTION(r.name) {
      const std::string in = "id: " + r.in + "\nevent: " + r.in + "\ndata: " + r.in +
                             "\ndata: ok\ndata: " + r.in + "\n: " + r.in + "\n\ndata: " + r.in +
                             "\n\n";
      const trace raw = parse_all_ways(in);
      REQUIRE(raw.events.size() == 2);
      CHECK((raw.events[0] == got_event{r.in, r.in + "\nok\n" + r.in, r.in}));
      const trace t = parse_all_ways(in, replace);
      REQUIRE(t.events.size() == 2);
      CHECK((t.events[0] == got_event{r.out, r.out + "\nok\n" + r.out, r.out}));
      CHECK((t.events[1] == got_event{"", r.out, r.out}));
      CHECK((t.comments == std::vector<std::string>{r.out}));
    }
  }
  SECTION("limits count what is delivered") {
    sse::parser_options small = replace;
    small.limits.event = small.limits.id = small.limits.type = 3;
    CHECK(parse_all_ways("data: \xFF\nid: \xFF\nevent: \xFF\n\n", small).events.size() == 1);
    CHECK(parse_all_ways("data: \xFF\xFF\n\n", small).error == sse::parse_error::event_too_large);
    CHECK(parse_all_ways("id: \xFF\xFF\n\n", small).error == sse::parse_error::id_too_long);
    CHECK(parse_all_ways("event: \xFF\xFF\n\n", small).error == sse::parse_error::type_too_long);
  }
}

TEST_CASE("a huge line and a million data lines cost linear time and bounded memory", "[parse]") {
  struct counter {
    std::size_t bytes = 0, events = 0;
    void on_event(const sse::event& e) {
      bytes += e.data.size();
      ++events;
    }
  };
  SECTION("a 10 MB line, byte by byte") {
    const std::string line(10'000'000, 'x');
    sse::parser p;
    counter c;
    REQUIRE(p.feed("data: ", c));
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (!p.feed({line.data() + i, 1}, c)) FAIL("refused at " << i);
    }
    CHECK(p.buffered() == line.size() + 6);
    REQUIRE(p.feed("\n\n", c));
    CHECK(c.bytes == line.size());
    CHECK(p.buffered() == 0);
  }
  SECTION("a million data lines, whole and byte by byte") {
    std::string in;
    for (int i = 0; i < 1'000'000; ++i) in += "data:\n";
    in += "\n";
    for (const std::size_t step : {in.size(), std::size_t{1}}) {
      sse::parser p;
      counter c;
      for (std::size_t i = 0; i < in.size(); i += step) {
        if (!p.feed({in.data() + i, std::min(step, in.size() - i)}, c)) FAIL("refused at " << i);
      }
      CHECK(c.events == 1);
      CHECK(c.bytes == 999'999);
    }
  }
  SECTION("more lines than allowed are refused, however short") {
    sse::parser p{{.limits = {.data_lines = 1'000'000}}};
    counter c;
    sse::parse_result r;
    std::size_t lines = 0;
    while (r && lines < 2'000'000) {
      r = p.feed("data:x\n", c);
      ++lines;
    }
    CHECK(r.error == sse::parse_error::too_many_lines);
    CHECK(lines == 1'000'001);
  }
}

TEST_CASE("the parser's names for errors", "[parse]") {
  using sse::parse_error;
  CHECK(sse::to_string(parse_error::none) == "none");
  CHECK(sse::to_string(parse_error::line_too_long) == "line_too_long");
  CHECK(sse::to_string(parse_error::event_too_large) == "event_too_large");
  CHECK(sse::to_string(parse_error::too_many_lines) == "too_many_lines");
  CHECK(sse::to_string(parse_error::id_too_long) == "id_too_long");
  CHECK(sse::to_string(parse_error::type_too_long) == "type_too_long");
  CHECK(sse::to_string(parse_error::no_memory) == "no_memory");
  CHECK(sse::to_string(static_cast<parse_error>(99)) == "unknown");
}

static_assert(!std::is_copy_constructible_v<sse::parser>);
static_assert(std::is_nothrow_move_constructible_v<sse::parser>);
static_assert(std::is_nothrow_move_assignable_v<sse::parser>);
struct no_sink {};
struct bad_sink {
  int on_event(const sse::event&) { return 0; }
};
static_assert(!sse::event_sink<no_sink>);
static_assert(!sse::event_sink<bad_sink>);
static_assert(sse::event_sink<trace>);
static_assert(sse::event_sink<trace&>);

TEST_CASE("a parser moves with what it holds", "[parse]") {
  trace t;
  sse::parser a;
  REQUIRE(a.feed("id: 3\nevent: t\ndata: x\ndat", t));
  sse::parser b{std::move(a)};
  REQUIRE(b.feed("a: y\n\n", t));
  sse::parser c;
  c = std::move(b);
  REQUIRE(c.feed("data: z\n\n", t));
  REQUIRE(t.events.size() == 2);
  CHECK((t.events[0] == got_event{"t", "x\ny", "3"}));
  CHECK((t.events[1] == got_event{"", "z", "3"}));
}

}  // namespace
