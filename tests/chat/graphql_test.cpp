// GraphQL: the reader of documents, subscriptions, and the graphql-sse protocol.
#include <cstdint>
#include <iterator>
#include <string>

#include "catch.hpp"
#include "chat/graphql.hpp"
#include "stand.hpp"

using namespace test;
namespace graphql = chat::graphql;

namespace {

const std::string json_and_stream =
    "Content-Type: application/json; charset=utf-8\r\nAccept: text/event-stream\r\n";

/// With liveEvents registered.
struct with_subscription : stand {
  with_subscription() {
    REQUIRE(post("/graphql/subscriptions", R"({"name":"liveEvents","initial":"hello"})").status ==
            201);
  }
  /// A stream that answers a POST.
  [[nodiscard]] client subscribe(const std::string& body) const {
    client c{port()};
    c.send(
        client::make("POST", "/graphql/sse",
                     json_and_stream + "Content-Length: " + std::to_string(body.size()) + "\r\n") +
        body);
    const answer a = c.head();
    if (a.status != 200) throw std::runtime_error(a.head);
    if (a.header("Content-Type") != "text/event-stream") throw std::runtime_error(a.head);
    return c;
  }
  void say(const std::string& text) const {
    REQUIRE(post("/graphql/subscriptions/liveEvents", text, "").status == 200);
  }
  [[nodiscard]] static std::string operation(const std::string& document) {
    return R"({"query":")" + document + "\"}";
  }
};

/// An event's frame without its id.
std::string frame_of(client& c) {
  std::string frame = c.frame();
  if (frame.starts_with("id: ")) frame.erase(0, frame.find('\n') + 1);
  return frame;
}
std::string next(const std::string& result) { return "event: next\ndata: " + result; }
const std::string complete = "event: complete\ndata: ";

std::string error_of(const std::string& document) { return graphql::read(document, "").error; }

}  // namespace

TEST_CASE("A-30 A-31 a subscription has a stream of its own, of the texts as they are") {
  with_subscription s;
  CHECK(s.post("/graphql/subscriptions", R"({"name":"other"})").status == 201);
  client stream{s.port()};
  const answer a = stream.open("/graphql/subscription/liveEvents");
  CHECK(a.status == 200);
  CHECK(a.header("Content-Type") == "text/event-stream");
  client other = s.stream("/graphql/subscription/other");
  client events = s.stream("/events");
  s.say("plain text");
  s.say(R"({ "a" : 1 })");
  s.say("two\nlines");
  CHECK(frame_of(stream) == "data: plain text");
  CHECK(frame_of(stream) == R"(data: { "a" : 1 })");
  CHECK(frame_of(stream) == "data: two\ndata: lines");
  s.post("/graphql/subscriptions/other", "mine", "");
  CHECK(frame_of(other) == "data: mine");
  s.post("/send", to_all(R"({"end":1})"));  // does not reach subscriptions
  CHECK(data_of(events) == R"({"end":1})");
  s.say("last");
  CHECK(frame_of(stream) == "data: last");
  CHECK(s.get("/graphql/subscription/unknown").status == 404);
  CHECK(s.post("/graphql/subscriptions/unknown", "x", "").status == 404);
  CHECK(s.get("/graphql/subscriptions").body ==
        R"({"items":[{"name":"liveEvents","connections":1},{"name":"other","connections":1}]})");
}

TEST_CASE("A-32 A-33 a subscription by POST: the resolver's value, then what is published") {
  with_subscription s;
  client c = s.subscribe(s.operation("subscription { liveEvents }"));
  CHECK(frame_of(c) == next(R"({"data":{"liveEvents":"hello"}})"));
  s.say("text \"quoted\"");
  s.say(R"({"event" : "user_joined", "n": 1.50})");
  CHECK(frame_of(c) == next(R"({"data":{"liveEvents":"text \"quoted\""}})"));
  CHECK(frame_of(c) == next(R"({"data":{"liveEvents":{"event":"user_joined","n":1.50}}})"));
}

TEST_CASE("A-32 GET, aliases, variables and operation names") {
  with_subscription s;
  client c = s.subscribe(
      R"({"query":"subscription A { no: liveEvents } subscription B($n: Int! = 1) { news: liveEvents(n: $n) }",)"
      R"("operationName":"B","variables":{"n":2},"extensions":{}})");
  CHECK(frame_of(c) == next(R"({"data":{"news":"hello"}})"));
  client get = s.stream("/graphql/sse?query=subscription+%7B+liveEvents+%7D&variables=%7B%7D",
                        "Accept: text/event-stream\r\n");
  CHECK(frame_of(get) == next(R"({"data":{"liveEvents":"hello"}})"));
  s.say("1");
  CHECK(frame_of(c) == next(R"({"data":{"news":1}})"));
  const std::string frame = get.frame();
  CHECK(client::field(frame, "data: ") == R"({"data":{"liveEvents":1}})");
  // An EventSource that comes back gets what it missed, and not the first value again.
  s.say("2");
  client back = s.stream("/graphql/sse?query=subscription+%7BliveEvents%7D",
                         "Last-Event-ID: " + client::field(frame, "id: ") + "\r\n");
  CHECK(frame_of(back) == next(R"({"data":{"liveEvents":2}})"));
}

TEST_CASE("a subscription without an initial value begins with the first that is published") {
  stand s;
  CHECK(s.post("/graphql/subscriptions", R"({"name":"quiet"})").status == 201);
  client c = s.stream("/graphql/sse?query=subscription+%7Bquiet%7D");
  s.post("/graphql/subscriptions/quiet", "7", "");
  CHECK(frame_of(c) == next(R"({"data":{"quiet":7}})"));
  // Registered again: nobody is disturbed, and there is an initial value now.
  CHECK(s.post("/graphql/subscriptions", R"({"name":"quiet","initial":{ "a": 1 }})").status == 200);
  client later = s.stream("/graphql/sse?query=subscription+%7Bquiet%7D");
  CHECK(frame_of(later) == next(R"({"data":{"quiet":{"a":1}}})"));
  s.post("/graphql/subscriptions/quiet", "8", "");
  CHECK(frame_of(c) == next(R"({"data":{"quiet":8}})"));
}

TEST_CASE("A-34 a body that is no JSON is refused in plain text") {
  with_subscription s;
  for (const char* body : {R"({"query":)", "nope", ""}) {
    CAPTURE(body);
    const answer a = s.post("/graphql/sse", body, json_and_stream);
    CHECK(a.status == 400);
    CHECK(a.header("Content-Type").find("text/plain") == 0);
    CHECK(a.body.find("Invalid JSON") == 0);
  }
  for (const char* body : {"[]", "{}", R"({"query":7})", R"({"query":"{a}","variables":7})",
                           R"({"query":"{a}","operationName":7})"}) {
    CAPTURE(body);
    const answer a = s.post("/graphql/sse", body, json_and_stream);
    CHECK(a.status == 400);
    CHECK(a.body.find(R"({"errors":[{"message":")") == 0);
  }
  CHECK(s.get("/graphql/sse").status == 400);
  CHECK(s.get("/graphql/sse?query=%7Ba%7D&variables=x").status == 400);
}

TEST_CASE("A-35 a query: one result, and the end") {
  with_subscription s;
  const std::string query = s.operation("{ liveEvents again: liveEvents __typename }");
  answer a = s.post("/graphql/sse", query, json_and_stream);
  CHECK(a.status == 200);
  CHECK(a.header("Content-Type") == "text/event-stream");
  CHECK(a.body == next(R"({"data":{"liveEvents":"hello","again":"hello","__typename":"Query"}})") +
                      "\n\n" + complete + "\n\n");
  s.say("[1]");
  a = s.get("/graphql/sse?query=query+Q+%7BliveEvents%7D");
  CHECK(a.body == next(R"({"data":{"liveEvents":[1]}})") + "\n\n" + complete + "\n\n");
  a = s.post("/graphql/sse", query, "Accept: application/json\r\n");
  CHECK(a.header("Content-Type") == "application/json");
}

TEST_CASE("A-35 errors come in the stream where one was asked for, else as 400") {
  with_subscription s;
  const std::string unknown = s.operation("subscription { nope }");
  const std::string result =
      R"({"errors":[{"message":"Cannot query field \"nope\" on type \"Subscription\"."}]})";
  answer a = s.post("/graphql/sse", unknown, json_and_stream);
  CHECK(a.status == 200);
  CHECK(a.header("Content-Type") == "text/event-stream");
  CHECK(a.body == next(result) + "\n\n" + complete + "\n\n");
  a = s.post("/graphql/sse", unknown);
  CHECK(a.status == 400);
  CHECK(a.body == result);
  for (const char* wrong :
       {"mutation { liveEvents }", "subscription { liveEvents x: liveEvents }",
        "subscription { __typename }", "subscription { liveEvents { a } }", "{ nope }",
        "{ liveEvents { a } }", "{ ...f } fragment f on Query { liveEvents }", "{", ""}) {
    CAPTURE(wrong);
    a = s.post("/graphql/sse", s.operation(wrong), json_and_stream);
    CHECK(a.status == 200);
    CHECK(a.body.find(next(R"({"errors":[{"message":")")) == 0);
    CHECK(a.body.ends_with("\n\n" + complete + "\n\n"));
  }
  CHECK(s.get("/graphql/subscriptions").body ==
        R"({"items":[{"name":"liveEvents","connections":0}]})");
}

TEST_CASE("unregistering a subscription completes its operations and ends its streams") {
  with_subscription s;
  client c = s.subscribe(s.operation("subscription { x: liveEvents }"));
  client texts = s.stream("/graphql/subscription/liveEvents");
  CHECK(frame_of(c) == next(R"({"data":{"x":"hello"}})"));
  CHECK(s.del("/graphql/subscriptions/liveEvents").body == R"({"ok":true})");
  CHECK(c.rest() == complete + "\n\n");
  CHECK(texts.frame().empty());
  CHECK(s.get("/graphql/subscription/liveEvents").status == 404);
  CHECK(s.del("/graphql/subscriptions/liveEvents").status == 404);
  CHECK(s.post("/graphql/subscriptions", R"({"name":"liveEvents"})").status == 201);
}

TEST_CASE("an alias that nobody reads any more costs nothing") {
  with_subscription s;
  const auto channels = [&s] {
    const std::string page = s.get("/metrics").body;
    std::size_t n = 0;
    for (std::size_t at = page.find("channel=\"graphql "); at != std::string::npos;
         at = page.find("channel=\"graphql ", at + 1))
      ++n;
    return n;
  };
  REQUIRE(channels() == 0);
  {
    client c = s.subscribe(s.operation("subscription { x: liveEvents }"));
    CHECK(channels() > 0);
  }
  CHECK(s.eventually([&] { return channels() == 0; }));
}

TEST_CASE("subscriptions: wrong names and bodies are refused") {
  with_subscription s;
  client c = s.stream("/graphql/subscription/liveEvents");
  for (const char* name : {"", "1a", "a-b", "a b", "__a", "\\u00e9"}) {
    CAPTURE(name);
    CHECK(s.post("/graphql/subscriptions", R"({"name":")" + std::string{name} + "\"}").status ==
          400);
  }
  CHECK(s.post("/graphql/subscriptions", "{}").status == 400);
  CHECK(s.post("/graphql/subscriptions", R"({"name":)").body == R"({"error":"bad_json"})");
  const std::string large(chat::subscriptions::max_initial, 'x');
  CHECK(s.post("/graphql/subscriptions", R"({"name":"a","initial":")" + large + "\"}").status ==
        413);
  const std::string path = "/graphql/subscriptions/liveEvents";
  CHECK(s.post(path, "", "").status == 400);
  CHECK(s.post(path, "\xFF", "").status == 400);
  CHECK(s.post(path, R"({"a":)").body == R"({"error":"bad_json"})");  // it says that it is JSON
  CHECK(s.post(path, std::string(chat::max_body - 1, '\n'), "").status == 413);
  CHECK(s.post(path, std::string(chat::max_body - 1, '\x01'), "").status == 413);
  s.say("end");
  CHECK(frame_of(c) == "data: end");
}

// --- documents -----------------------------------------------------------------------------------

TEST_CASE("GraphQL documents: what is read") {
  const auto r = graphql::read(
      "\xEF\xBB\xBF# a comment\nquery Q($a: [Int!]! = [1, -2.5e3], $b: T = {x: \"}\", y: ENUM}) {\n"
      "  one, two: other(x: $a, s: \"\\\"\\u00e9\", b: \"\"\" \\\"\"\" } \"\"\", o: {k: [true]})\n"
      "  one\n  deep { a { b } } }",
      "");
  REQUIRE(r.error.empty());
  CHECK(r.op.kind == graphql::operation_kind::query);
  CHECK(r.op.name == "Q");
  REQUIRE(r.op.fields.size() == 3);
  CHECK(r.op.fields[0].key == "one");
  CHECK(r.op.fields[1].key == "two");
  CHECK(r.op.fields[1].name == "other");
  CHECK_FALSE(r.op.fields[1].has_selection);
  CHECK(r.op.fields[2].has_selection);
  CHECK(graphql::read("{a}", "").op.kind == graphql::operation_kind::query);
  CHECK(graphql::read("{query}", "").op.fields[0].name == "query");
  CHECK(graphql::read("query A {a} mutation B {b}", "B").op.kind ==
        graphql::operation_kind::mutation);
}

TEST_CASE("GraphQL documents: what is refused, and where it stands") {
  for (const char* wrong : {"",
                            "{",
                            "{}",
                            "{a",
                            "a",
                            "{a}}",
                            "{a(}",
                            "{a()}",
                            "{a(b:)}",
                            "{a(b:01)}",
                            "{a(b:1.)}",
                            "{a(b:1x)}",
                            "{a(b:\"x)}",
                            "{a(b:\"\\",
                            "{a(b:\"\"\"x\")}",
                            "{a:}",
                            "{1}",
                            "{a % b}",
                            "query (a: Int) {a}",
                            "query ($a Int) {a}",
                            "query ($a: [Int) {a}",
                            "query ($a: Int = $b) {a}",
                            "query () {a}",
                            "type A { a: Int }",
                            "subscription",
                            "query Q",
                            "{a {}}",
                            "fragment on on T {a}",
                            "\xC3\xA9"}) {
    CAPTURE(wrong);
    CHECK(error_of(wrong).find("Syntax Error") == 0);
  }
  CHECK(error_of("{...f} fragment f on T {a}").find("Fragments") == 0);
  CHECK(error_of("{... on T {a}}").find("Fragments") == 0);
  CHECK(error_of("{... {a}}").find("Fragments") == 0);
  CHECK(error_of("{a @skip(if: true)}").find("Directives") == 0);
  CHECK(error_of("query @x {a}").find("Directives") == 0);
  CHECK(error_of("{...f").find("Syntax Error") == 0);
  CHECK(error_of("{a: b a: c}").find("Fields \"a\" conflict") == 0);
  CHECK(error_of("{a} {b}").find("This anonymous operation") == 0);
  CHECK(error_of("query A {a} query A {b}").find("There can be only one") == 0);
  CHECK(error_of("query A {a} query B {b}").find("Must provide operation name") == 0);
  CHECK(graphql::read("query A {a}", "B").error == "Unknown operation named \"B\".");
  CHECK(error_of("{" + std::string(129, 'a') + "}") == "A name is too long");

  const auto r = graphql::read("{\n  \xC3\xA9 }", "");
  CHECK(r.at.line == 2);
  CHECK(r.at.column == 3);
  CHECK(graphql::errors_json("a \"b\"", r.at) ==
        R"({"errors":[{"message":"a \"b\"","locations":[{"line":2,"column":3}]}]})");
}

TEST_CASE("GraphQL documents: depth and breadth are bounded") {
  const auto nested = [](std::size_t n, const std::string& open, const std::string& close) {
    std::string s;
    for (std::size_t i = 0; i < n; ++i) s += open;
    for (std::size_t i = 0; i < n; ++i) s += close;
    return s;
  };
  CHECK(error_of("{a" + nested(50, "{a", "}") + "}").empty());
  for (const std::size_t n : {std::size_t{100}, std::size_t{1'000'000}}) {
    CHECK(error_of("{a" + nested(n, "{a", "}") + "}").find("Syntax Error: nested") == 0);
    CHECK(error_of("{a(b:" + nested(n, "[", "]") + ")}").find("Syntax Error: nested") == 0);
    CHECK(error_of("query($a:" + nested(n, "[", "]")).find("Syntax Error: nested") == 0);
    CHECK(error_of("{a " + nested(n, "... {a ", "}") + "}").find("Syntax Error: nested") == 0);
  }
  std::string wide = "{";
  for (int i = 0; i < 300; ++i) wide += " a" + std::to_string(i);
  CHECK(error_of(wide + "}") == "Too many fields");
  std::string same = "{";
  for (int i = 0; i < 300; ++i) same += " a";
  CHECK(error_of(same + "}") == "Too many fields");
  std::string many;
  for (int i = 0; i < 100'000; ++i) many += "query q" + std::to_string(i) + "{a}";
  CHECK(error_of(many) == "Too many operations");
}

TEST_CASE("GraphQL documents: any bytes are read or refused") {
  const std::string_view pieces[] = {
      "{",        "}",    "(",    ")",  "[",      "]",     "$",
      ":",        "!",    "=",    "@",  "...",    "|",     "&",
      "a",        "on",   "\"",   "\\", "\"\"\"", "query", "-1",
      "1.5",      "1e",   "#x\n", ",",  "\xC3",   "\xFF",  "subscription",
      "fragment", "null", " ",    "\n"};
  std::uint32_t seed = 1;
  std::size_t good = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string document = "{a";
    for (int k = 0; k < i % 13; ++k) {
      seed = seed * 1664525U + 1013904223U;
      document += pieces[(seed >> 16U) % std::size(pieces)];
    }
    const auto r = graphql::read(document + "}", "");
    good += r.error.empty();
    if (r.error.empty() == r.op.fields.empty()) FAIL(document);
  }
  CHECK(good > 0);
}
