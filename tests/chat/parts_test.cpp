// The parts that read what came: bodies, JSON members, filters, times.
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "chat/audience.hpp"
#include "chat/streams.hpp"
#include "common/body.hpp"
#include "common/clock.hpp"
#include "common/json.hpp"
#include "common/line_queue.hpp"

namespace {

std::string compact(std::string_view json) {
  std::string out;
  examples::append_json_compact(out, json);
  return out;
}

bool sees(std::string_view query, std::string_view audience) {
  return chat::sees(chat::parameters::read(query).value(), audience);
}

}  // namespace

TEST_CASE("JSON without the spaces between its tokens") {
  CHECK(compact(" { \"a b\" : [ 1 , 2e5 ,\n\"x \\\" y\\\\\" ,\ttrue ] }\r\n") ==
        R"({"a b":[1,2e5,"x \" y\\",true]})");
  CHECK(compact("\"a") == "\"a");
  CHECK(compact("").empty());
}

TEST_CASE("the keys of a JSON object") {
  examples::json_document doc;
  CHECK(doc.keys().empty());
  REQUIRE(doc.parse(R"({"b":1,"a":{"c":2}})") == examples::json_result::object);
  CHECK(doc.keys() == std::vector<std::string_view>{"b", "a"});
  REQUIRE(doc.enter("a"));
  CHECK(doc.keys() == std::vector<std::string_view>{"c"});
}

TEST_CASE("fields of a body, JSON or form") {
  const sse::header json[] = {{"Content-Type", "Application/JSON; charset=utf-8"}};
  const sse::header form[] = {{"Content-Type", "application/x-www-form-urlencoded"}};
  examples::body_fields f;

  CHECK_FALSE(f.read({.headers = form}, "a=1+2&b=%C3%A9&c="));
  CHECK_FALSE(f.is_json());
  CHECK(f.required("a") == "1 2");
  CHECK(f.value("b") == "\"\xC3\xA9\"");
  CHECK(f.optional("c") == "");
  CHECK_FALSE(f.optional("d"));
  CHECK_FALSE(f.wrong());
  CHECK(f.required("c").empty());
  CHECK(f.wrong());

  CHECK_FALSE(f.read({.headers = form}, " {\"a\":\"x\", \"n\":null, \"o\": { \"p\" : 1 }}"));
  CHECK(f.is_json());
  CHECK(f.required("a") == "x");
  CHECK_FALSE(f.optional("n"));
  CHECK(f.value("o") == R"({"p":1})");
  CHECK_FALSE(f.wrong());
  CHECK_FALSE(f.optional("o"));
  CHECK(f.wrong());

  CHECK(f.read({.headers = json}, "a=1").value().body == R"({"error":"bad_json"})");
  CHECK(f.read({.headers = json}, "[]").value().body == R"({"error":"bad_params"})");
  CHECK(f.read({}, "{").value().status == 400);
  CHECK_FALSE(f.read({}, "a=%G1"));
  CHECK_FALSE(f.optional("a"));
  CHECK(f.wrong());
}

TEST_CASE("a log that nobody reads stops nobody, and what was dropped is said") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const std::string line(1000, 'x');
  {
    examples::line_queue log{ends[1], 10'000};
    while (log.dropped() == 0) log.push(line + "\n");  // it returns although the pipe is full
    std::string read;
    char bytes[4096];
    const auto told = [&read] {
      std::uint64_t n = 0;
      constexpr std::string_view before = " log: ";
      for (std::size_t at = read.find(before); at != std::string::npos;
           at = read.find(before, at)) {
        at += before.size();
        n += std::strtoull(read.c_str() + at, nullptr, 10);
      }
      return n;
    };
    while (told() != log.dropped() || !read.ends_with("read them\n")) {
      const ssize_t n = ::read(ends[0], bytes, sizeof bytes);
      REQUIRE(n > 0);
      read.append(bytes, static_cast<std::size_t>(n));
    }
    CHECK(read.starts_with(line + "\n" + line + "\n"));
    log.push("again\n");
    CHECK(log.flush(20'000));
  }
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("A-37 conditions on the query of a connection") {
  std::string both;
  CHECK(chat::must_be(both, "a", "1"));
  CHECK(chat::must_be(both, "b", ""));
  CHECK(sees("b=&a=1&c=3", both));
  CHECK_FALSE(sees("a=1", both));
  CHECK_FALSE(sees("a=1&b=2", both));
  CHECK_FALSE(sees("a=1%20&b=", both));
  CHECK(sees("", ""));

  std::string room;
  CHECK(chat::unless_other(room, "room", "x"));
  CHECK(sees("", room));
  CHECK(sees("room=x", room));
  CHECK_FALSE(sees("room=y", room));
  CHECK_FALSE(sees("room=", room));

  std::string named;
  CHECK(chat::must_have(named, "user"));
  CHECK(sees("user", named));
  CHECK_FALSE(sees("users=1", named));

  CHECK_FALSE(chat::must_be(both, "a", std::string_view{"x\0=b", 4}));
  CHECK_FALSE(chat::must_be(both, std::string_view{"\0", 1}, ""));
  CHECK_FALSE(chat::parameters::read("a=%00"));
  CHECK_FALSE(chat::parameters::read("a=%"));
  CHECK_FALSE(chat::parameters::read("a=%FF"));
}

TEST_CASE("an audience in a message's header") {
  std::string audience;
  REQUIRE(chat::must_be(audience, "room", " a\r\nb "));
  const std::string text = chat::to_header(audience);
  CHECK(text.find_first_not_of("0123456789abcdef") == text.npos);
  CHECK(chat::from_header(text) == audience);
  CHECK(chat::from_header("").empty());
  for (const char* none : {"3", "3g", "=room", "0G"}) {
    CAPTURE(none);
    CHECK_FALSE(sees("", chat::from_header(none)));
    CHECK_FALSE(sees("is=this", chat::from_header(none)));
    CHECK_FALSE(sees("is=that", chat::from_header(none)));
  }
}

TEST_CASE("times are written as JavaScript writes them") {
  using namespace std::chrono;
  CHECK(examples::iso_time(system_clock::time_point{milliseconds{1'706'702'400'005}}) ==
        "2024-01-31T12:00:00.005Z");
  CHECK(examples::iso_time(system_clock::time_point{milliseconds{-1}}) ==
        "1969-12-31T23:59:59.999Z");
}
