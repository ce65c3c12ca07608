// request.hpp and cors.hpp: query, form, resume point, Accept, tokens, redaction, answers,
// cross-origin rules.
#include <sse/cors.hpp>
#include <sse/request.hpp>

#include "catch.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

using sse::header;
using sse::lookup;
using sse::request;
using kind = sse::resume_point::kind;
using text = std::string_view;

std::string decoded(text in, bool plus = false) {
  std::string out = "old";
  return sse::percent_decode(in, out, plus) ? out : "(refused)" + out;
}

std::pair<lookup, std::string> query(text raw, text key) {
  std::string out = "old";
  const lookup l = sse::query_value(raw, key, out);
  return {l, out};
}

/// -1: absent, -2: malformed
std::int64_t resume(text raw_query, std::vector<header> headers = {}, text name = "last_id") {
  request r;
  r.query = raw_query;
  r.headers = headers;
  const sse::resume_point p = sse::resume_from(r, name);
  if (p.state != kind::given) CHECK(p.after == 0);
  return p.state == kind::given    ? static_cast<std::int64_t>(p.after)
         : p.state == kind::absent ? -1
                                   : -2;
}

}  // namespace

TEST_CASE("request finds headers without case and tells absent from empty") {
  const header fields[] = {{"Accept", ""}, {"X-A", "1"}, {"x-a", "2"}, {"Host", "h"}};
  request r;
  r.headers = fields;
  CHECK(r.method == "GET");
  CHECK(r.minor_version == 1);
  CHECK(r.find("accept") == &fields[0]);
  CHECK(r.header_value("ACCEPT").empty());
  CHECK(r.find("Accep") == nullptr);
  CHECK(r.header_value("Accep").empty());
  CHECK(r.header_value("X-a") == "1");
  CHECK(r.only_value("X-a").empty());
  CHECK(r.only_value("host") == "h");
  CHECK(r.only_value("Other").empty());
}

TEST_CASE("a position of values behind the events is read with its place, and nothing else is") {
  struct row {
    text raw;
    kind state;
    std::uint64_t after, values;
  };
  for (const row& w : std::initializer_list<row>{{"7", kind::given, 7, 7},
                                                 {"5-2", kind::given, 5, 2},
                                                 {"5-5", kind::given, 5, 5},
                                                 {"5-0", kind::given, 5, 0},
                                                 {"0-0", kind::given, 0, 0},
                                                 {"5%2D2", kind::given, 5, 2},
                                                 {"%35-%32", kind::given, 5, 2},
                                                 {"5-6", kind::malformed, 0, 0},
                                                 {"5-", kind::malformed, 0, 0},
                                                 {"-5", kind::malformed, 0, 0},
                                                 {"-", kind::malformed, 0, 0},
                                                 {"5--2", kind::malformed, 0, 0},
                                                 {"5-2-1", kind::malformed, 0, 0},
                                                 {"5-9007199254740992", kind::malformed, 0, 0},
                                                 {"5-2&last_id=5-2", kind::given, 5, 2},
                                                 {"5-2&last_id=5", kind::malformed, 0, 0}}) {
    INFO(w.raw);
    request r;
    const std::string query = "last_id=" + std::string{w.raw};
    r.query = query;
    sse::resume_point p = sse::resume_from(r);
    CHECK(p.state == w.state);
    CHECK(p.after == w.after);
    CHECK(p.values == w.values);
    const header fields[] = {{"Last-Event-ID", w.raw}};  // never encoded; ignored where it is none
    r.headers = fields;
    r.query = "last_id=9";
    p = sse::resume_from(r);
    const bool taken = w.state == kind::given && w.raw.find_first_of("%&") == text::npos;
    CHECK(p.after == (taken ? w.after : 9));
    CHECK(p.values == (taken ? w.values : 9));
  }
}

TEST_CASE("percent_decode undoes escapes once") {
  CHECK(decoded("") == "");
  CHECK(decoded("plain+text") == "plain+text");
  CHECK(decoded("plain+text", true) == "plain text");
  CHECK(decoded("%2B+%2b", true) == "+ +");
  CHECK(decoded("%41%42%7a") == "ABz");
  CHECK(decoded("%2541") == "%41");
  CHECK(decoded("%C3%A9%E2%82%AC%F0%9F%98%80") == "é€😀");
  CHECK(decoded("é") == "é");
  CHECK(decoded("%0D%0A%7F") == "\r\n\x7f");
}

TEST_CASE("who decodes is told how many bytes came out, whatever was counted before") {
  char out[8] = {};
  std::size_t n = 3;
  CHECK(sse::detail::text::decode("a%20b", false, out, n));
  CHECK(text{out, n} == "a b");
  CHECK(sse::detail::text::decode("", false, out, n));
  CHECK(n == 0);
}

TEST_CASE("percent_decode refuses what is malformed, NUL, or not UTF-8") {
  for (const text in :
       {"%"sv,         "%4"sv,        "a%"sv,           "a%4"sv,          "%4g"sv,
        "%g4"sv,       "%%41"sv,      "% 1"sv,          "%+1"sv,          "%-1"sv,
        "%00"sv,       "a%00b"sv,     "a\0b"sv,         "\0"sv,           "%C0%AF"sv,
        "%C1%BF"sv,    "%E0%80%AF"sv, "%E0%9F%BF"sv,    "%F0%80%80%AF"sv, "%F0%8F%BF%BF"sv,
        "%ED%A0%80"sv, "%ED%BF%BF"sv, "%F4%90%80%80"sv, "%F5%80%80%80"sv, "%FF"sv,
        "%80"sv,       "%BF"sv,       "%C3"sv,          "%E2%82"sv,       "%F0%9F%98"sv,
        "%C3%28"sv,    "%E2%28%A1"sv, "%E2%82%28"sv,    "\xC3"sv}) {
    INFO(in);
    CHECK(decoded(in) == "(refused)");
    CHECK(decoded(in, true) == "(refused)");
  }
  // The last and the first of each length pass.
  for (const text in : {"%C2%80"sv, "%DF%BF"sv, "%E0%A0%80"sv, "%ED%9F%BF"sv, "%EE%80%80"sv,
                        "%EF%BF%BF"sv, "%F0%90%80%80"sv, "%F4%8F%BF%BF"sv, "%7F"sv, "%01"sv}) {
    INFO(in);
    CHECK(decoded(in) != "(refused)");
  }
}

TEST_CASE("set_target splits, decodes once and refuses paths that climb") {
  struct row {
    text method, target, path, query;
    int status;
  };
  const row rows[] = {
      {"GET", "/", "/", "", 200},
      {"GET", "/a/b?x=1&y=%20", "/a/b", "x=1&y=%20", 200},
      {"GET", "/a?", "/a", "", 200},
      {"GET", "/a??b", "/a", "?b", 200},
      {"GET", "/%61%2Fb", "/a/b", "", 200},
      {"GET", "/%2541", "/%41", "", 200},
      {"GET", "/a+b", "/a+b", "", 200},
      {"GET", "/%C3%A9", "/é", "", 200},
      {"GET", "//a/./b", "//a/./b", "", 200},
      {"GET", "/...", "/...", "", 200},
      {"GET", "/..a/b..", "/..a/b..", "", 200},
      {"GET", "/{a}|`^\"<>", "/{a}|`^\"<>", "", 200},
      {"GET", "http://h", "/", "", 200},
      {"GET", "HTTP://h:80/p?q", "/p", "q", 200},
      {"GET", "https://[::1]:8443?q", "/", "q", 200},
      {"OPTIONS", "*", "*", "", 200},
      {"OPTIONS", "/x", "/x", "", 200},
      {"GET", "*", "", "", 400},
      {"GET", "", "", "", 400},
      {"GET", "a", "", "", 400},
      {"GET", "?a", "", "", 400},
      {"CONNECT", "h:443", "", "", 400},
      {"GET", "ftp://h/", "", "", 400},
      {"GET", "http://", "", "", 400},
      {"GET", "http:///a", "", "", 400},
      {"GET", "http://user@h/", "", "", 400},
      {"GET", "http://h\\a/", "", "", 400},
      {"GET", "/a#b", "", "", 400},
      {"GET", "/a b", "", "", 400},
      {"GET", "/a\tb", "", "", 400},
      {"GET", "/a\r\nb", "", "", 400},
      {"GET", "/\x7f", "", "", 400},
      {"GET", "/\xC3\xA9", "", "", 400},
      {"GET", "/%", "", "", 400},
      {"GET", "/%zz", "", "", 400},
      {"GET", "/%00", "", "", 404},
      {"GET", "/a%0Ab", "", "", 404},
      {"GET", "/a%0Db", "", "", 404},
      {"GET", "/%7f", "", "", 404},
      {"GET", "/%C0%AE%C0%AE/", "", "", 404},
      {"GET", "/%ff", "", "", 404},
      {"GET", "/..", "", "", 404},
      {"GET", "/../a", "", "", 404},
      {"GET", "/a/..", "", "", 404},
      {"GET", "/a/../b?c", "", "", 404},
      {"GET", "/%2e%2E/a", "", "", 404},
      {"GET", "/a%2f..%2fb", "", "", 404},
      {"GET", "/a%5c..%5cb", "", "", 404},
      {"GET", "/..\\a", "", "", 404},
      {"GET", "http://h/..", "", "", 404},
  };
  for (const row& t : rows) {
    INFO(t.method << " " << t.target);
    request r;
    r.method = t.method;
    r.path = "old";
    std::string storage;
    CHECK(sse::status_of(sse::set_target(r, t.target, storage)) == t.status);
    CHECK(r.target == t.target);
    CHECK(r.path == t.path);
    CHECK(r.query == t.query);
  }
}

TEST_CASE("query_value reads the first field of a name") {
  CHECK(query("a=1&b=2", "b") == std::pair{lookup::found, "2"s});
  CHECK(query("a=1&a=2", "a") == std::pair{lookup::found, "1"s});
  CHECK(query("a", "a") == std::pair{lookup::found, ""s});
  CHECK(query("a=", "a") == std::pair{lookup::found, ""s});
  CHECK(query("a=b=c", "a") == std::pair{lookup::found, "b=c"s});
  CHECK(query("&&a=1&", "a") == std::pair{lookup::found, "1"s});
  CHECK(query("%61%5f=x+y%2B", "a_") == std::pair{lookup::found, "x y+"s});
  CHECK(query("a+b=1", "a b") == std::pair{lookup::found, "1"s});
  CHECK(query("token=dGVzdA%3D%3D", "token") == std::pair{lookup::found, "dGVzdA=="s});
  CHECK(query("aa=1&A=2", "a") == std::pair{lookup::absent, ""s});
  CHECK(query("", "a") == std::pair{lookup::absent, ""s});
  CHECK(query("a;b=1", "b") == std::pair{lookup::absent, ""s});
  CHECK(query("a=%zz&a=1", "a") == std::pair{lookup::malformed, ""s});
  CHECK(query("a=%00", "a") == std::pair{lookup::malformed, ""s});
  CHECK(query("a=%C0%AF", "a") == std::pair{lookup::malformed, ""s});
  CHECK(query("%zz=1&a=1", "a") == std::pair{lookup::found, "1"s});
  CHECK(query("a%00=1", "a") == std::pair{lookup::absent, ""s});
}

TEST_CASE("for_each_pair reads a form") {
  std::string seen;
  const auto note = [&](text name, text value) {
    seen.append(name).append("=").append(value).append(";");
  };
  CHECK(sse::for_each_pair("side=BUY&symbol=BTC%2FUSDT&note=a+b&empty=&bare&&=v", note));
  CHECK(seen == "side=BUY;symbol=BTC/USDT;note=a b;empty=;bare=;=v;");
  seen.clear();
  CHECK(sse::for_each_pair("", note));
  CHECK(sse::for_each_pair("&", note));
  CHECK(seen.empty());
  CHECK_FALSE(sse::for_each_pair("a=1&b=%&c=3", note));
  CHECK(seen == "a=1;");
  seen.clear();
  CHECK_FALSE(sse::for_each_pair("a=1&%=2&c=3", note));
  CHECK(seen == "a=1;");
  seen.clear();
  CHECK(sse::for_each_pair("a=1&b=2&c=3", [&](text name, text value) {
    note(name, value);
    return name != "b";
  }));
  CHECK(seen == "a=1;b=2;");
}

TEST_CASE("X-06 a malformed resume value in the query is malformed, never everything") {
  for (const text value : {"abc",
                           "-1",
                           "",
                           "18446744073709551616",
                           "18446744073709551615",
                           "1;2",
                           "9007199254740992",
                           "1 ",
                           "+1",
                           "%201",
                           "1%20",
                           "1.0",
                           "1e3",
                           "0x10",
                           "1%00",
                           "%zz",
                           "%",
                           "1,2",
                           "99999999999999999999999999999999999999",
                           "１"}) {
    INFO(value);
    CHECK(resume("last_id=" + std::string{value}) == -2);
  }
  CHECK(resume("last_id") == -2);
  CHECK(resume("last_id=-1", {{"Last-Event-ID", "abc"}}) == -2);
}

TEST_CASE("X-06 a malformed resume header is ignored") {
  for (const text value : {"abc", "-1", "", "18446744073709551616", "1;2", "9007199254740992",
                           "1 2", "+1", "%31", "0x1"}) {
    INFO(value);
    CHECK(resume("", {{"Last-Event-ID", value}}) == -1);
    CHECK(resume("last_id=7", {{"Last-Event-ID", value}}) == 7);
  }
  CHECK(resume("last_id=7", {{"Last-Event-ID", "1"}, {"Last-Event-ID", "1"}}) == 7);
}

TEST_CASE("the resume point: header before query, then the query, then nothing") {
  CHECK(resume("") == -1);
  CHECK(resume("last_ids=1&xlast_id=2&LAST_ID=3") == -1);
  CHECK(resume("last_id=0") == 0);
  CHECK(resume("last_id=123") == 123);
  CHECK(resume("a=1&last_id=%31%32&b=2") == 12);
  CHECK(resume("last%5Fid=5") == 5);
  CHECK(resume("last_id=00000000000000000000000000042") == 42);
  CHECK(resume("last_id=9007199254740990") == 9007199254740990);
  CHECK(resume("last_id=9007199254740991") == 9007199254740991);
  CHECK(resume("", {{"Last-Event-ID", "9007199254740991"}}) == 9007199254740991);
  CHECK(resume("", {{"last-event-id", "0"}}) == 0);
  // V-25: a browser repeats its old URL and adds the header.
  CHECK(resume("last_id=123", {{"Last-Event-ID", "150"}}) == 150);
  CHECK(resume("last_id=abc", {{"Last-Event-ID", "150"}}) == 150);
  // Twice: only if they agree.
  CHECK(resume("last_id=5&last_id=5") == 5);
  CHECK(resume("last_id=5&last_id=05") == 5);
  CHECK(resume("last_id=5&last_id=6") == -2);
  CHECK(resume("last_id=5&last_id=") == -2);
  // Another name, or none.
  CHECK(resume("since=5&last_id=6", {}, "since") == 5);
  CHECK(resume("last_id=6", {}, "") == -1);
  CHECK(resume("=6", {}, "") == -1);
}

TEST_CASE("Accept admits event streams as RFC 9110 12.5.1 says") {
  // V-31: curl without an Accept header.
  CHECK(sse::accepts_event_stream("", false));
  CHECK(sse::accepts_event_stream("nonsense", false));
  for (const text yes : {"",
                         " , ",
                         "*/*",
                         "text/*",
                         "text/event-stream",
                         "TEXT/Event-Stream",
                         "text/html, */*;q=0.8",
                         "text/event-stream;q=0.001",
                         "text/event-stream; charset=utf-8",
                         "text/event-stream;q=1",
                         "text/event-stream ; Q=0.5",
                         "application/json,text/event-stream",
                         "text/*;q=0, text/event-stream",
                         "text/event-stream;q=0, text/event-stream",
                         "text/html;x=\"a,b\", */*",
                         "*/*;q=",
                         "*/*;q=.5",
                         "text/html;x=\"\\\",\", */*",
                         "*/*;quality=0",
                         "*/*;v=0",
                         "*/*;v",
                         "*/*;",
                         "text/event-stream, text/event-stream;q=0",
                         "text/event-stream;q=0, text/event-stream;q=0.1"}) {
    INFO(yes);
    CHECK(sse::accepts_event_stream(yes, true));
  }
  for (const text no :
       {"application/json", "text/html, text/plain", "text/event-stream;q=0", "*/*;q=0",
        "*/*; q=0.000", "text/event-stream;q=0, */*", "text/event-stream; q=0.0 , text/*",
        "text/*;q=0, */*", "text", "event-stream", "*", "text/event-streams",
        "text/html;x=\",*/*,\"", "text/html;x=\",*/*", "text/html;x=\"\\\",*/*\"",
        "text/html;x=\"\\", "text/event-stream;q=0,text/event-stream;q=0.0",
        "text/event-stream;q=0;level=1", "text/event-stream;v=1;q=0"}) {
    INFO(no);
    CHECK_FALSE(sse::accepts_event_stream(no, true));
  }
  request r;
  CHECK(sse::accepts_event_stream(r));
  const header two[] = {{"Accept", "text/html"}, {"Host", "h"}, {"accept", "text/event-stream"}};
  r.headers = two;
  CHECK(sse::accepts_event_stream(r));
  const header json[] = {{"Accept", "application/json"}};
  r.headers = json;
  CHECK_FALSE(sse::accepts_event_stream(r));
}

TEST_CASE("bearer_token takes one well-formed header") {
  const auto token = [](std::vector<header> h) {
    request r;
    r.headers = h;
    return std::string{sse::bearer_token(r)};
  };
  CHECK(token({}) == "");
  CHECK(token({{"Authorization", "Bearer abc.DEF-_~+/=="}}) == "abc.DEF-_~+/==");
  CHECK(token({{"authorization", "bearer   x"}}) == "x");
  CHECK(token({{"Authorization", "Bearer"}}) == "");
  CHECK(token({{"Authorization", "Bearer "}}) == "");
  CHECK(token({{"Authorization", "Bearerx"}}) == "");
  CHECK(token({{"Authorization", "Bearer a b"}}) == "");
  CHECK(token({{"Authorization", "Bearer \xC3\xA9"}}) == "");
  CHECK(token({{"Authorization", "Bearer a\x7f"}}) == "");
  CHECK(token({{"Authorization", "Basic abc"}}) == "");
  CHECK(token({{"Authorization", "Bearer a"}, {"Authorization", "Bearer a"}}) == "");
}

TEST_CASE("equal_secret compares") {
  CHECK(sse::equal_secret("", ""));
  CHECK(sse::equal_secret("abc", "abc"));
  CHECK_FALSE(sse::equal_secret("abc", "abd"));
  CHECK_FALSE(sse::equal_secret("xbc", "abc"));
  CHECK_FALSE(sse::equal_secret("abc", "ab"));
  CHECK_FALSE(sse::equal_secret("", "a"));
  CHECK_FALSE(sse::equal_secret("a\0b"sv, "a\0c"sv));
  CHECK(sse::equal_secret("\xff\x80", "\xff\x80"));
}

TEST_CASE("redact_target hides secrets and nothing else") {
  CHECK(sse::redact_target("/a") == "/a");
  CHECK(sse::redact_target("/!~") == "/!~");
  CHECK(sse::redact_target("/ \x7f") == "/%20%7F");
  CHECK(sse::redact_target("") == "");
  CHECK(sse::redact_target("/a?") == "/a?");
  CHECK(sse::redact_target("/a?x=1&token=s3&y=2") == "/a?x=1&token=***&y=2");
  CHECK(sse::redact_target("/a?token=s3&token=s4") == "/a?token=***&token=***");
  CHECK(sse::redact_target("/a?token=s3=s4?s5") == "/a?token=***");
  CHECK(sse::redact_target("/a?TOKEN=s&Access_Token=s&ticket=s&key=s&password=s") ==
        "/a?TOKEN=***&Access_Token=***&ticket=***&key=***&password=***");
  CHECK(sse::redact_target("/a?t%6Fken=s&%74oken=") == "/a?t%6Fken=***&%74oken=***");
  CHECK(sse::redact_target("/a?tokens=1&xtoken=2&token&&b") == "/a?tokens=1&xtoken=2&token&&b");
  CHECK(sse::redact_target("/a?b&") == "/a?b&");
  CHECK(sse::redact_target("/token=1") == "/token=1");
  CHECK(sse::redact_target("/a\r\nb?c=\x1b[31m\xff") == "/a%0D%0Ab?c=%1B[31m%FF");
  CHECK(sse::redact_target("/a b\x7f") == "/a%20b%7F");
  const text mine[] = {"sig"};
  CHECK(sse::redact_target("/a?sig=1&token=2", mine) == "/a?sig=***&token=2");
}

TEST_CASE("response::add refuses what would split or reframe the answer") {
  sse::response r = sse::response::json(429, "{}").add("Retry-After", "5");
  CHECK(r.status == 429);
  CHECK(r.body == "{}");
  CHECK(r.headers == "Content-Type: application/json\r\nRetry-After: 5\r\n");
  CHECK_FALSE(r.refused);
  r = {};
  CHECK_FALSE(r.add("X-Empty", "").add("X-Text", "a\tb \xC3\xA9").refused);
  const std::string before = r.headers;
  const std::pair<text, text> bad[] = {{"X", "a\rb"},
                                       {"X", "a\nb"},
                                       {"X", "a\r\nY: b"},
                                       {"X", "a\0b"sv},
                                       {"X", "\x7f"},
                                       {"X", "\x1b"},
                                       {"", "a"},
                                       {"X Y", "a"},
                                       {"X:", "a"},
                                       {"X\r\nY", "a"},
                                       {"X\r\nY: b\r\nZ", "a"},
                                       {"X\0"sv, "a"},
                                       {"\xC3", "a"},
                                       {"Connection", "a"},
                                       {"content-length", "0"},
                                       {"Transfer-Encoding", "chunked"}};
  for (const auto& [name, value] : bad) {
    INFO(name << ": " << value);
    r.refused = false;
    CHECK(r.add(name, value).refused);
    CHECK(r.headers == before);
  }
  CHECK(sse::response::text(404, "no\n").headers == "Content-Type: text/plain; charset=utf-8\r\n");
  const sse::response m = sse::method_not_allowed("GET, HEAD, OPTIONS");
  CHECK(m.status == 405);
  CHECK(m.headers == "Content-Type: text/plain; charset=utf-8\r\nAllow: GET, HEAD, OPTIONS\r\n");
}

TEST_CASE("for_each_field reads the lines that add() wrote") {
  std::string seen;
  const auto note = [&](text name, text value) {
    seen.append(name).append("|").append(value).append(";");
  };
  CHECK(sse::for_each_field("A: 1\r\nB:2\r\nC:  \r\n", note));
  CHECK(seen == "A|1;B|2;C|;");
  for (const text bad : {"A: 1", "A: 1\n", "A\r\n", "\r\n", ": 1\r\n", "A : 1\r\n",
                         "A: 1\nB: 2\r\n", "A: 1\rB: 2\r\n", "A: 1\r\n B: 2\r\n", "A: 1\r\n\r\n",
                         "Connection: close\r\n", "A: \x01\r\n"}) {
    INFO(bad);
    CHECK_FALSE(sse::for_each_field(bad, [](text, text) {}));
  }
}

TEST_CASE("reason phrases") {
  CHECK(sse::reason_phrase(200) == "OK");
  CHECK(sse::reason_phrase(431) == "Request Header Fields Too Large");
  CHECK(sse::reason_phrase(299).empty());
  for (const int s :
       {200, 201, 202, 204, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408,
        409, 410, 411, 413, 414, 415, 417, 421, 422, 429, 431, 500, 501, 502, 503, 504, 505}) {
    INFO(s);
    CHECK_FALSE(sse::reason_phrase(s).empty());
  }
}

// --- cors.hpp

namespace {

constexpr text any[] = {"*"};
constexpr text two_origins[] = {"https://app.example", "https://b.example:8443"};

std::string cors(const sse::cors_policy& p, std::vector<header> h) {
  request r;
  r.headers = h;
  std::string out;
  sse::add_cors(out, p, r);
  return out;
}

}  // namespace

TEST_CASE("no CORS by default") {
  CHECK(cors({}, {{"Origin", "https://app.example"}}) == "");
  CHECK(sse::validate(sse::cors_policy{}) == sse::cors_error::none);
}

TEST_CASE("CORS for any origin, as the open contracts ask") {
  CHECK(cors({.origins = any}, {}) == "Access-Control-Allow-Origin: *\r\n");
  CHECK(cors({.origins = any, .expose = "X-Id"}, {{"Origin", "https://x"}}) ==
        "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: X-Id\r\n");
  // V-44: methods and headers in every answer.
  CHECK(cors({.origins = any, .methods = "GET,POST,OPTIONS", .on_every_answer = true}, {}) ==
        "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET,POST,OPTIONS\r\n"
        "Access-Control-Allow-Headers: Content-Type\r\n");
}

TEST_CASE("X-25 with credentials the origin is a listed one, never *") {
  const sse::cors_policy p{.origins = two_origins, .credentials = true};
  CHECK(cors(p, {{"Origin", "https://b.example:8443"}}) ==
        "Vary: Origin\r\nAccess-Control-Allow-Origin: https://b.example:8443\r\n"
        "Access-Control-Allow-Credentials: true\r\n");
  for (const text other : {"https://evil.example", "https://app.example.evil", "http://app.example",
                           "null", "", "https://app.example/", "*", "https://b.example"}) {
    INFO(other);
    CHECK(cors(p, {{"Origin", other}}) == "Vary: Origin\r\n");
  }
  CHECK(cors(p, {}) == "Vary: Origin\r\n");
  CHECK(cors(p, {{"Origin", "https://app.example"}, {"Origin", "https://app.example"}}) ==
        "Vary: Origin\r\n");
}

TEST_CASE("X-25 a policy that is not safe sends nothing") {
  using sse::cors_error;
  constexpr text null[] = {"null"};
  constexpr text mixed[] = {"https://app.example", "*"};
  constexpr text split[] = {"https://a\r\nX: y"};
  constexpr text empty[] = {""};
  const std::pair<sse::cors_policy, cors_error> rows[] = {
      {{.origins = any, .credentials = true}, cors_error::any_with_credentials},
      {{.origins = null, .credentials = true}, cors_error::null_with_credentials},
      {{.origins = mixed}, cors_error::any_among_others},
      {{.origins = split}, cors_error::bad_text},
      {{.origins = empty}, cors_error::bad_text},
      {{.origins = any, .methods = "GET\r\nX: y"}, cors_error::bad_text},
      {{.origins = any, .headers = "a\nb"}, cors_error::bad_text},
      {{.origins = any, .expose = "a\rb"}, cors_error::bad_text},
      {{.origins = any, .max_age = -1}, cors_error::bad_text},
  };
  for (const auto& [p, error] : rows) {
    CHECK(sse::validate(p) == error);
    const header fields[] = {{"Origin", "null"}};
    request r;
    r.headers = fields;
    std::string out;
    sse::add_cors(out, p, r);
    CHECK(out.empty());
    CHECK(sse::preflight(p, r).headers.find("Access-Control") == std::string::npos);
    CHECK_FALSE(sse::origin_allowed(p, r));
  }
  CHECK(sse::validate({.origins = null}) == cors_error::none);
}

TEST_CASE("X-24 OPTIONS answers a preflight as configured") {
  const header fields[] = {{"Origin", "https://app.example"},
                           {"Access-Control-Request-Method", "GET"}};
  request r{.method = "OPTIONS"};
  r.headers = fields;
  sse::response out = sse::preflight({.origins = two_origins,
                                      .credentials = true,
                                      .headers = "Authorization, Last-Event-ID, Cache-Control"},
                                     r);
  CHECK(out.status == 204);
  CHECK(out.body.empty());
  CHECK(out.headers ==
        "Allow: GET, POST, OPTIONS\r\nVary: Origin\r\nAccess-Control-Allow-Origin: "
        "https://app.example\r\n"
        "Access-Control-Allow-Credentials: true\r\nAccess-Control-Allow-Methods: GET, POST, "
        "OPTIONS\r\n"
        "Access-Control-Allow-Headers: Authorization, Last-Event-ID, Cache-Control\r\n"
        "Access-Control-Max-Age: 600\r\n");
  // E-22: 200 with any origin, on any path, also without an Origin header.
  out = sse::preflight({.origins = any,
                        .methods = "GET, POST, PUT, DELETE, OPTIONS",
                        .headers = "Content-Type, Authorization",
                        .max_age = 0},
                       request{.method = "OPTIONS"}, 200);
  CHECK(out.status == 200);
  CHECK(
      out.headers ==
      "Allow: GET, POST, PUT, DELETE, OPTIONS\r\nAccess-Control-Allow-Origin: *\r\n"
      "Access-Control-Allow-Methods: GET, POST, PUT, DELETE, OPTIONS\r\n"
      "Access-Control-Allow-Headers: Content-Type, Authorization\r\nAccess-Control-Max-Age: 0\r\n");
  // Not allowed: nothing that a browser could take for a yes.
  out = sse::preflight({}, r);
  CHECK(out.headers == "Allow: GET, POST, OPTIONS\r\n");
  out = sse::preflight({.origins = any, .headers = ""}, r);
  CHECK(out.headers.find("Access-Control-Allow-Methods") != std::string::npos);
  CHECK(out.headers.find("Access-Control-Allow-Headers") == std::string::npos);
}

TEST_CASE("host_of knows where a request was sent") {
  const header fields[] = {{":authority", "two.example"}, {"Host", "one.example:1"}};
  request r;
  CHECK(sse::host_of(r).empty());
  r.headers = std::span{fields}.subspan(1);
  CHECK(sse::host_of(r) == "one.example:1");
  r.target = "/a";
  CHECK(sse::host_of(r) == "one.example:1");
  r.headers = fields;
  CHECK(sse::host_of(r) == "two.example");
  r.target = "http://three.example:3/";
  CHECK(sse::host_of(r) == "three.example:3");
  const header twice[] = {{"Host", "a"}, {"Host", "a"}};
  r = {};
  r.headers = twice;
  CHECK(sse::host_of(r).empty());
}

TEST_CASE("host_allowed stops DNS rebinding") {
  const auto allowed = [](text host) {
    const header fields[] = {{"Host", host}};
    request r;
    r.headers = fields;
    return sse::host_allowed(r);
  };
  for (const text yes : {"localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:80", "[::1]",
                         "[::1]:8080", "localhost:"}) {
    INFO(yes);
    CHECK(allowed(yes));
  }
  for (const text no : {"", "evil.example", "evil.example:8080", "localhost.evil.example",
                        "127.0.0.1.nip.io", "localhost.", "localhost:80x", "localhost:80:80",
                        "[::1", "::1", "[::2]", ":80", "localhost:evil", "127.0.0.2"}) {
    INFO(no);
    CHECK_FALSE(allowed(no));
  }
  request r;
  CHECK_FALSE(sse::host_allowed(r));
  CHECK(sse::host_allowed(r, any));
  CHECK_FALSE(sse::host_allowed(r, {}));
  const header fields[] = {{"Host", "localhost"}};
  r.headers = fields;
  r.target = "http://evil.example/";  // RFC 9112 3.2.2: the target counts
  CHECK_FALSE(sse::host_allowed(r));
}

TEST_CASE("origin_allowed admits no page, the own page and listed pages") {
  const sse::cors_policy p{.origins = two_origins, .credentials = true};
  const auto allowed = [&](std::vector<header> h) {
    h.push_back({"Host", "me.example:8080"});
    request r;
    r.headers = h;
    return sse::origin_allowed(p, r);
  };
  CHECK(allowed({}));
  CHECK(allowed({{"Origin", "http://me.example:8080"}}));
  CHECK(allowed({{"Origin", "https://app.example"}}));
  CHECK_FALSE(allowed({{"Origin", "http://me.example"}}));
  CHECK_FALSE(allowed({{"Origin", "https://evil.example"}}));
  CHECK_FALSE(allowed({{"Origin", "null"}}));
  CHECK_FALSE(allowed({{"Origin", ""}}));
  CHECK_FALSE(allowed({{"Origin", "http://"}}));
  CHECK_FALSE(allowed({{"Origin", "https://app.example"}, {"Origin", "https://evil.example"}}));
  // Without any host nothing is the request's own.
  const header bare[] = {{"Origin", "http://"}};
  request r;
  r.headers = bare;
  CHECK(sse::host_of(r).empty());
  CHECK_FALSE(sse::origin_allowed(p, r));
}
