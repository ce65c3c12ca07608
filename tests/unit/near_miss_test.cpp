// cors.hpp, request.hpp, http1.hpp: what is refused although it is nearly what is allowed.
#include <sse/cors.hpp>
#include <sse/http1.hpp>
#include <sse/request.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

namespace {

using sse::header;
using sse::request;
using text = std::string_view;

bool own(text host, std::vector<header> origins) {
  origins.push_back({"Host", host});
  request r{.method = "POST"};
  r.headers = origins;
  return sse::origin_allowed({}, r);
}
bool own(text host, text origin) { return own(host, {{"Origin", origin}}); }

bool listed(text origin) {
  static constexpr text origins[] = {"https://app.example", "https://b.example:8443"};
  const header fields[] = {{"Origin", origin}, {"Host", "api.example"}};
  request r{.method = "POST"};
  r.headers = fields;
  const sse::cors_policy p{.origins = origins};
  std::string lines;
  sse::add_cors(lines, p, r);
  const bool readable = lines.find("Allow-Origin") != std::string::npos;
  CHECK(sse::origin_allowed(p, r) == readable);
  return readable;
}

bool served(text host, std::vector<text> hosts) {
  const header fields[] = {{"Host", host}};
  request r;
  r.headers = fields;
  return sse::host_allowed(r, hosts);
}

/// The status of a head with these header lines; 0: it is good.
int status(text lines, text request_line = "POST /a HTTP/1.1") {
  sse::http1::head_reader reader;
  (void)reader.feed(std::string{request_line} + "\r\n" + std::string{lines} + "\r\n");
  REQUIRE(reader.state() != sse::http1::outcome::need_more);
  return reader.status();
}

}  // namespace

TEST_CASE("an Origin is the request's own only if all of its host and port are") {
  for (const text yes : {"http://app.example", "https://app.example", "HTTPS://App.EXAMPLE"}) {
    INFO(yes);
    CHECK(own("app.example", yes));
    CHECK(own("APP.example", yes));
  }
  for (const text no : {"https://app.example.evil.net",
                        "https://app.example.",
                        "https://app.examples",
                        "https://app.exampl",
                        "https://xapp.example",
                        "https://x.app.example",
                        "https://evil.net",
                        "https://evil.net/app.example",
                        "https://evil.net#app.example",
                        "https://app.example/",
                        "https://app.example:80",
                        "https://app.example:443",
                        "https://app.example:",
                        "https://app.example:8443",
                        "https://app.example@evil.net",
                        "https://me@app.example",
                        "https://app.example, https://evil.net",
                        "https://evil.net https://app.example",
                        "https://app.example https://evil.net",
                        "null",
                        "NULL",
                        "",
                        "*",
                        "app.example",
                        "//app.example",
                        "://app.example",
                        "https:app.example",
                        "https:/app.example",
                        "https:///app.example",
                        "https://https://app.example",
                        "https://",
                        "https://*",
                        "ftp://app.example",
                        "ws://app.example",
                        "file://app.example",
                        "httpx://app.example",
                        "xhttps://app.example",
                        "capacitor://app.example",
                        "chrome-extension://app.example"}) {
    INFO(no);
    CHECK_FALSE(own("app.example", no));
  }
}

TEST_CASE("an Origin with a port is the request's own only with the same one") {
  CHECK(own("app.example:8443", "https://app.example:8443"));
  CHECK(own("[::1]:8080", "http://[::1]:8080"));
  for (const text no :
       {"https://app.example", "https://app.example:844", "https://app.example:84430",
        "https://app.example:8444", "https://app.example:08443",
        "https://app.example:8443.evil.net", "https://app.example.:8443"}) {
    INFO(no);
    CHECK_FALSE(own("app.example:8443", no));
  }
  CHECK_FALSE(own("app.example.", "https://app.example"));
  CHECK_FALSE(own("", "https://"));
  CHECK_FALSE(own("", "http://"));
  CHECK_FALSE(own("[::1]:8080", "http://[::1]"));
  CHECK_FALSE(own("[::1]:8080", "http://::1:8080"));
}

TEST_CASE("two Origin lines are nobody's, also if both are the request's own") {
  CHECK_FALSE(
      own("app.example", {{"Origin", "https://app.example"}, {"Origin", "https://app.example"}}));
  CHECK_FALSE(
      own("app.example", {{"Origin", "https://app.example"}, {"oRIGIN", "https://evil.net"}}));
  CHECK_FALSE(
      own("app.example", {{"Origin", "https://evil.net"}, {"Origin", "https://app.example"}}));
  CHECK_FALSE(own("app.example", {{"Origin", ""}, {"Origin", "https://app.example"}}));
  CHECK(own("app.example", {{"X-Origin", "https://evil.net"}, {"Origins", "https://evil.net"}}));
}

TEST_CASE("a listed origin is compared whole and by its case") {
  CHECK(listed("https://app.example"));
  CHECK(listed("https://b.example:8443"));
  for (const text no :
       {"https://app.example.evil.net", "https://app.exampl", "https://app.example.",
        "https://app.example/", "https://app.example:443", "https://x.app.example",
        "http://app.example", "HTTPS://app.example", "https://App.example", "https://b.example",
        "https://b.example:844", "https://b.example:84433", "https://b.example:443", "null", "",
        "https://me@app.example", "https://app.example,https://b.example:8443"}) {
    INFO(no);
    CHECK_FALSE(listed(no));
  }
}

TEST_CASE("a host is served by its whole name, whatever the port") {
  const std::vector<text> hosts{"app.example", "[2001:db8::1]", "10.0.0.1"};
  for (const text yes : {"app.example", "APP.Example", "app.example:1", "app.example:65535",
                         "[2001:db8::1]", "[2001:DB8::1]:80", "10.0.0.1", "10.0.0.1:8080"}) {
    INFO(yes);
    CHECK(served(yes, hosts));
  }
  for (const text no : {"app.exampl",
                        "app.examples",
                        "app.example.evil.net",
                        "app.example.",
                        "xapp.example",
                        "x.app.example",
                        "evil.net",
                        "app.example:80x",
                        "app.example:x",
                        "app.example:80:80",
                        "app.example:-1",
                        "app.example:+80",
                        "app.example: 80",
                        ":app.example",
                        "app.example::80",
                        "[app.example]",
                        "[2001:db8::11]",
                        "[2001:db8::1",
                        "[2001:db8::1]x",
                        "[2001:db8::1]x:80",
                        "[2001:db8::1]:x",
                        "2001:db8::1",
                        "2001:db8::1]",
                        "10.0.0.1.nip.io",
                        "10.0.0.11",
                        "10.0.0.1.",
                        "10.0.0.1@evil.net",
                        "",
                        ":",
                        ":80",
                        "*"}) {
    INFO(no);
    CHECK_FALSE(served(no, hosts));
  }
  CHECK_FALSE(served("", {""}));
  CHECK_FALSE(served(":80", {""}));
  CHECK(served("", {"*"}));
  CHECK_FALSE(
      served("app.example", {"*.example", "*x", ".example"}));  // nothing but "*" is a pattern
}

TEST_CASE("a host that is named twice is unknown, in both versions of HTTP") {
  request r;
  const header hosts[] = {{"Host", "app.example"}, {"hOST", "app.example"}};
  r.headers = hosts;
  CHECK(sse::host_of(r).empty());
  CHECK_FALSE(sse::host_allowed(r, std::vector<text>{"app.example"}));
  const header both[] = {{":authority", "app.example"}, {":authority", "evil.net"}};
  r.headers = both;
  CHECK(sse::host_of(r).empty());
  CHECK_FALSE(sse::host_allowed(r, std::vector<text>{"app.example", "evil.net"}));
  // Not even the other header speaks for it.
  const header three[] = {{":authority", "a"}, {":authority", "a"}, {"Host", "app.example"}};
  r.headers = three;
  CHECK(sse::host_of(r).empty());
}

TEST_CASE("Last-Event-ID, at the largest id, one below and one above") {
  const std::string most = std::to_string(sse::max_event_id);
  const std::string below = std::to_string(sse::max_event_id - 1);
  std::string above = most;
  ++above.back();
  REQUIRE(most.back() < '9');
  using kind = sse::resume_point::kind;
  const auto resume = [](text in_header, std::string query) {
    const header fields[] = {{"Last-Event-ID", in_header}};
    request r;
    r.query = query;
    if (!in_header.empty()) r.headers = fields;
    return sse::resume_from(r);
  };
  for (const bool query : {false, true}) {
    INFO(query);
    const auto given = [&](const std::string& id) {
      return query ? resume("", "last_id=" + id) : resume(id, "");
    };
    const kind refused = query ? kind::malformed : kind::absent;
    CHECK(given(below).state == kind::given);
    CHECK(given(below).after == sse::max_event_id - 1);
    CHECK(given(most).state == kind::given);
    CHECK(given(most).after == sse::max_event_id);
    CHECK(given("000" + most).after == sse::max_event_id);
    CHECK(given(above).state == refused);
    CHECK(given(above).after == 0);
    CHECK(given(most + "0").state == refused);
    CHECK(given("18446744073709551616").state == refused);  // 0 again in 64 bits
    for (const text no : {"-1", "1.0", "0x1", "1e3", "1,2", "1;", "a1", "1a"}) {
      INFO(no);
      CHECK(given(std::string{no}).state == refused);
    }
  }
}

TEST_CASE("a second Last-Event-ID line makes both void, and the query decides") {
  const header twice[] = {{"Last-Event-ID", "5"}, {"last-event-id", "5"}};
  request r;
  r.headers = twice;
  CHECK(sse::resume_from(r).state == sse::resume_point::kind::absent);
  r.query = "last_id=7";
  CHECK(sse::resume_from(r).after == 7);
  const header empty[] = {{"Last-Event-ID", "5"}, {"Last-Event-ID", ""}};
  r.headers = empty;
  CHECK(sse::resume_from(r).after == 7);
  const header other[] = {{"Last-Event-IDs", "5"}, {"X-Last-Event-ID", "6"}};
  r.headers = other;
  CHECK(sse::resume_from(r).after == 7);
}

TEST_CASE("http1 second header lines: what must be single is refused, what is a list adds up") {
  const text host = "Host: a\r\n";
  const auto with = [&](text lines) { return status(std::string{host} + std::string{lines}); };
  CHECK(with("") == 0);
  CHECK(with("Host: a\r\n") == 400);
  CHECK(with("hOST: a\r\n") == 400);
  CHECK(with("Host: b\r\n") == 400);
  CHECK(with("Host:\r\n") == 400);
  CHECK(status("Host: a\r\nHost: a\r\n", "GET /a HTTP/1.0") == 400);
  CHECK(status("Host: a\r\nHost: a\r\n", "GET http://a/ HTTP/1.1") == 400);
  CHECK(with("X-Host: a\r\nHosts: a\r\nHos: a\r\n") == 0);
  CHECK(with("Content-Length: 0\r\n") == 0);
  CHECK(with("Content-Length: 0\r\nContent-Length: 0\r\n") == 400);
  CHECK(with("Content-Length: 1\r\ncontent-length: 2\r\n") == 400);
  CHECK(with("Content-Length: 1\r\nContent-Length:\r\n") == 400);
  for (const text no : {"1, 1", "1 1", "+1", "-1", "0x1", "1.", "", "1;", "1_0"}) {
    INFO(no);
    CHECK(with("Content-Length: " + std::string{no} + "\r\n") == 400);
  }
  CHECK(with("Content-Lengt: x\r\nContent-Lengths: x\r\nContent_Length: x\r\n") == 0);
  CHECK(with("Transfer-Encoding: chunked\r\n") == 0);
  CHECK(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") == 400);
  CHECK(with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n") == 400);
  CHECK(with("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n") == 400);
  CHECK(with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n") == 400);
  CHECK(with("Transfer-Encodin: x\r\nTransfer-Encodings: x\r\n") == 0);
  CHECK(with("Expect: 100-continue\r\n") == 0);
  CHECK(with("Expect: 100-continue\r\nExpect: 100-continu\r\n") == 417);
  CHECK(with("Expect: 100-continues\r\n") == 417);
}

TEST_CASE("http1 keep-alive: close counts on whatever line it stands, and only as a whole word") {
  const auto keeps = [](text lines, text version = "1.1") {
    sse::http1::head_reader reader;
    (void)reader.feed("GET / HTTP/" + std::string{version} + "\r\nHost: a\r\n" +
                      std::string{lines} + "\r\n");
    REQUIRE(reader.state() == sse::http1::outcome::complete);
    return reader.keep_alive();
  };
  CHECK(keeps(""));
  CHECK_FALSE(keeps("Connection: close\r\n"));
  CHECK_FALSE(keeps("Connection: keep-alive\r\nConnection: CLOSE\r\n"));
  CHECK_FALSE(keeps("Connection: close\r\nConnection: keep-alive\r\n"));
  CHECK_FALSE(keeps("Connection: upgrade, close\r\n"));
  CHECK(keeps("Connection: closed\r\n"));
  CHECK(keeps("Connection: clos\r\n"));
  CHECK(keeps("Connections: close\r\n"));
  CHECK_FALSE(keeps("", "1.0"));
  CHECK(keeps("Connection: x\r\nConnection: keep-alive\r\n", "1.0"));
  CHECK_FALSE(keeps("Connection: keep-aliv\r\n", "1.0"));
  CHECK_FALSE(keeps("Connection: keep-alive\r\nConnection: close\r\n", "1.0"));
}

TEST_CASE("a token that is given twice, or nearly, is none") {
  const auto token = [](std::vector<header> fields) {
    request r;
    r.headers = fields;
    return sse::bearer_token(r);
  };
  CHECK(token({{"Authorization", "bEARER t"}}) == "t");
  CHECK(token({{"Authorization", "Bearer t"}, {"authorization", "Bearer t"}}).empty());
  CHECK(token({{"Authorization", "Bearer t"}, {"Authorization", ""}}).empty());
  CHECK(token({{"Authorizations", "Bearer t"}, {"Proxy-Authorization", "Bearer t"}}).empty());
  for (const text no : {"Bearert", "Bearer", "Bearer ", "Beare t", "Bearers t", "Basic t", "t",
                        "Bearer t t", "Bearer\tt", " Bearer t"}) {
    INFO(no);
    CHECK(token({{"Authorization", no}}).empty());
  }
}
