// event_source: the request.
#include <sse/client.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "client_rig.hpp"

using namespace std::string_view_literals;

namespace {

using sse::client_options;
using sse::client_state;
using test::first_line;
using test::header_of;
using test::list;
using test::rig;

}  // namespace

// --- the request

TEST_CASE("client: the request, whole") {
  rig r{{}, "http://Example.com:8080/a/b?c=d#e"};
  CHECK(r.asked() == list{"connect example.com:8080"});
  CHECK(r.source.state() == client_state::connecting);
  CHECK(r.connected() ==
        "GET /a/b?c=d HTTP/1.1\r\nHost: example.com:8080\r\nAccept: text/event-stream\r\n"
        "Cache-Control: no-cache\r\nUser-Agent: ssehub/" SSEHUB_VERSION
        "\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n");
  CHECK(r.source.connected(r.now()).empty());  // only once
}

TEST_CASE("client: TLS and IPv6") {
  rig r{{}, "https://[::1]/"};
  CHECK(r.asked() == list{"connect ::1:443 tls"});
  CHECK(header_of(r.connected(), "Host") == "[::1]");
  CHECK(r.source.origin() == "https://[::1]");
  CHECK(r.source.url() == "https://[::1]/");
}

TEST_CASE("client: custom headers") {
  const sse::header headers[] = {{"Authorization", "Bearer t"},
                                 {"accept", " a, b "},
                                 {"CACHE-CONTROL", "no-store"},
                                 {"user-agent", "me"},
                                 {"X-Empty", ""},
                                 {"X-Twice", "1"},
                                 {"X-Twice", "2"}};
  rig r{{.headers = headers}};
  const std::string request = r.connected();
  CHECK(request ==
        "GET /s HTTP/1.1\r\nHost: h\r\nAccept-Encoding: identity\r\nConnection: close\r\n"
        "Authorization: Bearer t\r\naccept: a, b\r\nCACHE-CONTROL: no-store\r\nuser-agent: me\r\n"
        "X-Empty: \r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n");
}

TEST_CASE("client: methods and bodies") {
  const sse::header type[] = {{"Content-Type", "application/json"}};
  for (const std::string_view method : {"POST", "REPORT", "PUT"}) {
    INFO(method);
    rig r{{.method = method, .body = "{\"a\":1}", .headers = type}};
    const std::string request = r.connected();
    CHECK(first_line(request) == std::string{method} + " /s HTTP/1.1");
    CHECK(header_of(request, "Content-Length") == "7");
    CHECK(header_of(request, "Content-Type") == "application/json");
    CHECK(request.ends_with("\r\n\r\n{\"a\":1}"));
    // and again with each attempt
    r.ended();
    r.wait();
    CHECK(r.connected() == request);
  }
  rig empty{{.method = "POST"}};
  CHECK(header_of(empty.connected(), "Content-Length") == "0");
  const std::string binary{"a\r\n\r\n\0b", 7};
  rig bytes{{.method = "POST", .body = binary}};
  CHECK(bytes.connected().ends_with("Content-Length: 7\r\n\r\n" + binary));
}

TEST_CASE("client: Last-Event-ID and the resume query") {
  struct row {
    std::string_view url, query, id, target;
  };
  const row rows[] = {
      {"http://h/s", "", "5", "/s"},
      {"http://h/s", "last_id", "", "/s"},
      {"http://h/s", "last_id", "5", "/s?last_id=5"},
      {"http://h/s?", "last_id", "5", "/s?last_id=5"},
      {"http://h/s?a=b", "last_id", "5", "/s?a=b&last_id=5"},
      {"http://h/s?last_id=3", "last_id", "", "/s?last_id=3"},
      {"http://h/s?last_id=3", "last_id", "5", "/s?last_id=5"},
      {"http://h/s?last_id=3&a=b&last%5Fid=4&last_idx=1&last_id", "last_id", "5",
       "/s?a=b&last_idx=1&last_id=5"},
      {"http://h/s", "last_id", "-._~az09", "/s?last_id=-._~az09"},
      {"http://h/s", "a b", "x&y=z#\xC3\xA9 +%", "/s?a%20b=x%26y%3Dz%23%C3%A9%20%2B%25"},
  };
  for (const row& t : rows) {
    INFO(t.url << " " << t.id);
    rig r{{.last_event_id = t.id, .resume_query = t.query}, t.url};
    const std::string request = r.connected();
    CHECK(first_line(request) == "GET " + std::string{t.target} + " HTTP/1.1");
    CHECK(header_of(request, "Last-Event-ID") == (t.id.empty() ? "-" : std::string{t.id}));
  }
}

TEST_CASE("client: options that are refused") {
  const auto option = [](const client_options& o) {
    rig r{o};
    CHECK(r.asked() == list{"bad_options final"});
    CHECK(r.source.state() == client_state::closed);
    CHECK(r.forever());
    return std::string{r.source.failure().option};
  };
  for (const std::string_view method :
       {""sv, "G T"sv, "GET\r\n"sv, "CONNECT"sv, "head"sv, "TRACE"sv, "GET\0"sv}) {
    CHECK(option({.method = method}) == "method");
  }
  CHECK(option({.body = "x"}) == "body");
  const auto with_header = [&](std::string_view name, std::string_view value) {
    const sse::header headers[] = {{"A", "b"}, {name, value}};
    return option({.headers = headers});
  };
  CHECK(with_header("A", "b\r\nC: d") == "headers");
  CHECK(with_header("A", "b\nC") == "headers");
  CHECK(with_header("A", "b\rC") == "headers");
  CHECK(with_header("A", "b\0C"sv) == "headers");
  CHECK(with_header("A", "\x7f") == "headers");
  CHECK(with_header("A: b\r\nC", "d") == "headers");
  CHECK(with_header("A b", "c") == "headers");
  CHECK(with_header("A\0"sv, "c") == "headers");
  CHECK(with_header("", "c") == "headers");
  for (const std::string_view name :
       {"Host", "hOST", "Connection", "Content-Length", "Transfer-Encoding", "Last-Event-ID", "TE",
        "Expect", "Upgrade", "Trailer", "Keep-Alive", "Proxy-Connection", "Accept-Encoding"}) {
    CHECK(with_header(name, "x") == "headers");
  }
  CHECK(option({.last_event_id = "a\nb"}) == "last_event_id");
  CHECK(option({.last_event_id = "a\0b"sv}) == "last_event_id");
  CHECK(option({.last_event_id = std::string(4097, 'x')}) == "last_event_id");
}

TEST_CASE("client: a URL that is refused") {
  for (const std::string_view url :
       {"", "h", "ftp://h/", "http://u:p@h/", "http://h:0/", "http:///"}) {
    rig r{{}, url};
    CHECK(r.asked() == list{"bad_url final"});
    CHECK(r.source.failure().url != sse::url_error::none);
    CHECK(r.source.state() == client_state::closed);
    r.source.restart(r.now());
    r.advance(1'000'000);
    CHECK(r.asked().empty());
  }
}
