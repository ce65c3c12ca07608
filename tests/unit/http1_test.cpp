// http1.hpp: the request-head reader in every chunking and at every limit, and the writers.
#include <sse/http1.hpp>

#include "catch.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

namespace http1 = sse::http1;
using http1::outcome;
using text = std::string_view;

/// All that a reader says about its input, copied out.
struct result {
  outcome state = outcome::need_more;
  std::size_t consumed = 0;
  int status = 0;
  std::string method, target, path, query;
  int minor = -1;
  std::vector<std::pair<std::string, std::string>> headers;
  std::uint64_t length = 0;
  bool expects_continue = false;
  bool keep_alive = false;

  bool operator==(const result&) const = default;
};

result look(const http1::head_reader& reader, std::size_t consumed) {
  result r;
  r.state = reader.state();
  r.status = reader.status();
  r.keep_alive = reader.keep_alive();
  if (r.state != outcome::complete) return r;
  r.consumed = consumed;  // after an error the input is lost anyway
  const sse::request& head = reader.head();
  r.method = head.method;
  r.target = head.target;
  r.path = head.path;
  r.query = head.query;
  r.minor = head.minor_version;
  for (const sse::header& h : head.headers) r.headers.emplace_back(h.name, h.value);
  r.length = reader.content_length();
  r.expects_continue = reader.expects_continue();
  return r;
}

/// Feeds `input` in pieces of `step` bytes, the first of `first` bytes; each piece lies in memory
/// of its own size, so that the address sanitizer sees a read behind it.
result feed(text input, std::size_t first, std::size_t step, const http1::limits& limits = {}) {
  http1::head_reader reader{limits};
  std::size_t consumed = 0;
  for (std::size_t at = 0, n = first; at < input.size(); at += n, n = step) {
    if (n > input.size() - at) n = input.size() - at;
    const std::vector<char> piece(input.data() + at, input.data() + at + n);
    const http1::feed_result f = reader.feed({piece.data(), n});
    CHECK(f.state == reader.state());
    CHECK(f.consumed <= n);
    if (f.state == outcome::need_more) CHECK(f.consumed == n);
    consumed += f.consumed;
    if (f.state == outcome::error) CHECK(reader.status() >= 400);
    if (f.state != outcome::need_more) break;
  }
  CHECK(reader.memory() <= limits.head + limits.headers * sizeof(sse::header) + limits.target);
  return look(reader, consumed);
}

/// The same in every chunking.
result read(text input, const http1::limits& limits = {}) {
  const result whole = feed(input, input.size(), input.size(), limits);
  for (const std::size_t step : {1U, 2U, 3U, 7U, 1000U}) {
    INFO("step " << step);
    CHECK(feed(input, step, step, limits) == whole);
  }
  if (input.size() < 1000) {
    for (std::size_t cut = 1; cut < input.size(); ++cut) {
      const result r = feed(input, cut, input.size(), limits);
      if (r != whole) {
        INFO("cut at " << cut);
        CHECK(r == whole);
      }
    }
  }
  return whole;
}

int status_of(text input, const http1::limits& limits = {}) {
  const result r = read(input, limits);
  return r.state == outcome::complete ? 200 : r.state == outcome::need_more ? 0 : r.status;
}

/// A request line and a Host, then `lines`, then the end.
int with(text lines) {
  return status_of("GET / HTTP/1.1\r\nHost: h\r\n" + std::string{lines} + "\r\n");
}
int line(text request_line) { return status_of(std::string{request_line} + "\r\nHost: h\r\n\r\n"); }

std::string write(const sse::response& r, http1::response_options o = {}) {
  std::string out = "before|";
  http1::write_response(out, r, o);
  return out.substr(7);
}

std::string stream(const http1::stream_head& h, int minor = 1, bool chunked = false) {
  std::string out;
  CHECK(http1::write_stream_head(out, h, minor, chunked));
  return out;
}

}  // namespace

TEST_CASE("http1 reads a plain head, in every chunking") {
  const text head =
      "GET /api/stream?last_id=5&t=a%20b HTTP/1.1\r\nHost: localhost:8080\r\nAccept: "
      "text/event-stream\r\n"
      "Empty:\r\nX-Space: \t a \t b\t \r\nX-Utf8: \xC3\xA9\r\n\r\n";
  const result r = read(head);
  CHECK(r.state == outcome::complete);
  CHECK(r.consumed == head.size());
  CHECK(r.status == 0);
  CHECK(r.method == "GET");
  CHECK(r.target == "/api/stream?last_id=5&t=a%20b");
  CHECK(r.path == "/api/stream");
  CHECK(r.query == "last_id=5&t=a%20b");
  CHECK(r.minor == 1);
  CHECK(r.keep_alive);
  CHECK_FALSE(r.expects_continue);
  CHECK(r.length == 0);
  const std::vector<std::pair<std::string, std::string>> headers = {{"Host", "localhost:8080"},
                                                                    {"Accept", "text/event-stream"},
                                                                    {"Empty", ""},
                                                                    {"X-Space", "a \t b"},
                                                                    {"X-Utf8", "\xC3\xA9"}};
  CHECK(r.headers == headers);
}

TEST_CASE("http1 reads a POST head and leaves the body") {
  const text head =
      "POST /api/order HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n";
  const result r = read(std::string{head} + "a\r\n\r\nGET / HTTP/1.1\r\n");
  CHECK(r.state == outcome::complete);
  CHECK(r.consumed == head.size());
  CHECK(r.length == 5);
  CHECK(r.expects_continue);
  CHECK(r.keep_alive);
}

TEST_CASE("http1 an incomplete head is incomplete at every length") {
  const std::string head = "GET /%61?b HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
  for (std::size_t n = 0; n < head.size(); ++n) CHECK(status_of(text{head}.substr(0, n)) == 0);
  CHECK(status_of(head) == 200);
}

TEST_CASE("http1 target forms") {
  struct row {
    text request_line, path;
    int status;
  };
  const row rows[] = {
      {"GET / HTTP/1.1", "/", 200},
      {"OPTIONS * HTTP/1.1", "*", 200},
      {"OPTIONS /a HTTP/1.1", "/a", 200},
      {"GET http://h/a%20b?c HTTP/1.1", "/a b", 200},
      {"GET HTTPS://h:1 HTTP/1.1", "/", 200},
      {"GET /%2Fa HTTP/1.1", "//a", 200},
      {"GET * HTTP/1.1", "", 400},
      {"GET h:80 HTTP/1.1", "", 400},
      {"CONNECT h:80 HTTP/1.1", "", 400},
      {"GET a HTTP/1.1", "", 400},
      {"GET http://u@h/ HTTP/1.1", "", 400},
      {"GET /a#b HTTP/1.1", "", 400},
      {"GET /\xC3\xA9 HTTP/1.1", "", 400},
      {"GET /\x01 HTTP/1.1", "", 400},
      {"GET /\x7f HTTP/1.1", "", 400},
      {"GET /\0 HTTP/1.1"sv, "", 400},
      {"GET /a%2 HTTP/1.1", "", 400},
      {"GET /%zz HTTP/1.1", "", 400},
      {"GET /a%00 HTTP/1.1", "", 404},
      {"GET /a%0d%0aX:%20y HTTP/1.1", "", 404},
      {"GET /%c0%ae%c0%ae HTTP/1.1", "", 404},
      {"GET /%ff HTTP/1.1", "", 404},
      {"GET /logs/../x HTTP/1.1", "", 404},
      {"GET /logs/%2e%2e HTTP/1.1", "", 404},
      {"GET /logs/..%2fx HTTP/1.1", "", 404},
      {"GET /logs%5c..%5cx HTTP/1.1", "", 404},
  };
  for (const row& t : rows) {
    INFO(t.request_line);
    const result r = read(std::string{t.request_line} + "\r\nHost: h\r\n\r\n");
    CHECK((r.state == outcome::complete ? 200 : r.status) == t.status);
    CHECK(r.path == t.path);
  }
}

TEST_CASE("http1 the request line is exact") {
  for (const text bad : {"GET  / HTTP/1.1",
                         "GET /  HTTP/1.1",
                         "GET / HTTP/1.1 ",
                         " GET / HTTP/1.1",
                         "GET\t/ HTTP/1.1",
                         "GET /\tHTTP/1.1",
                         "GET /",
                         "GET / ",
                         "GET",
                         "GET HTTP/1.1",
                         "/ HTTP/1.1",
                         "GET / HTTP",
                         "GET / HTTP/1",
                         "GET / HTTP/1.",
                         "GET / HTTP/11",
                         "GET / HTTP/1.11",
                         "GET / HTTP/1,1",
                         "GET / http/1.1",
                         "GET / HTTPS/1.1",
                         "GET / HTTP/x.1",
                         "GET / HTTP/1.x",
                         "GET / X HTTP/1.1",
                         "G:T / HTTP/1.1",
                         "G(T / HTTP/1.1",
                         "\"GET / HTTP/1.1",
                         "G\x01T / HTTP/1.1",
                         "G\xC3\xA9T / HTTP/1.1",
                         "GET /\r HTTP/1.1",
                         "GET / HTTP/1.1\r",
                         "\rGET / HTTP/1.1",
                         "\x16\x03\x01",
                         "{",
                         "(",
                         "\xFF"}) {
    INFO(bad);
    CHECK(line(bad) == 400);
  }
  CHECK(line("GET\0 / HTTP/1.1"sv) == 400);
  CHECK(line("\0GET / HTTP/1.1"sv) == 400);
  for (const text version :
       {"GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/3.1", "PRI * HTTP/2.0"}) {
    INFO(version);
    CHECK(line(version) == 505);
  }
  CHECK(line("GET / HTTP/1.0") == 200);
  CHECK(line("GET / HTTP/1.2") == 200);
  CHECK(read("GET / HTTP/1.9\r\nHost: h\r\n\r\n").minor == 1);
  CHECK(read("GET / HTTP/1.0\r\n\r\n").minor == 0);
  CHECK(line("M-SEARCH!#$%&'*+.^_`|~09 / HTTP/1.1") == 200);
  CHECK(line("get / HTTP/1.1") == 200);  // methods have case: another method, the caller's 405
}

TEST_CASE("http1 what cannot begin a request is refused at its first byte") {
  for (const text first : {"\x16"sv, "\0"sv, " "sv, "\n"sv, "\x80"sv, "{"sv})
    CHECK(status_of(first) == 400);
  CHECK(status_of("\r") == 0);
}

TEST_CASE("http1 one empty line before the request line is skipped") {
  const result r = read("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(r.state == outcome::complete);
  CHECK(r.target == "/");
  CHECK(r.consumed == "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"sv.size());
  CHECK(status_of("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n") == 400);
  CHECK(status_of("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n") == 400);
  CHECK(status_of("\r\n\x16\r\n") == 400);
}

TEST_CASE("http1 line ends are CRLF") {
  CHECK(status_of("GET / HTTP/1.1\nHost: h\r\n\r\n") == 400);
  CHECK(status_of("GET / HTTP/1.1\r\nHost: h\n\r\n") == 400);
  CHECK(status_of("GET / HTTP/1.1\r\nHost: h\r\n\n") == 400);
  CHECK(status_of("GET / HTTP/1.1\r\nHost: h\r\n\r\r\n") == 400);
  CHECK(status_of("GET / HTTP/1.1\rHost: h\r\n\r\n") == 400);
  CHECK(with("A: b\rC: d\r\n") == 400);
  CHECK(with("A: b\r\r\n") == 400);
  CHECK(with("A: b\n") == 400);
  CHECK(with("A: b\nC: d\r\n") == 400);
}

TEST_CASE("http1 header lines are exact") {
  for (const text bad : {"A : b",
                         "A\t: b",
                         " A: b",
                         "\tA: b",
                         ": b",
                         ":",
                         "A",
                         "A b",
                         "A(: b",
                         "A\x01: b",
                         "\xC3\xA9: b",
                         "A: \x01",
                         "A: \x7f",
                         "A: b\x1b[m",
                         "A: \b",
                         "A: \v",
                         "A: \f",
                         "A: 1\r\n folded",
                         "A: 1\r\n\tfolded",
                         "A: 1\r\n "}) {
    INFO(bad);
    CHECK(with(std::string{bad} + "\r\n") == 400);
  }
  CHECK(with("A: b\0c\r\n"sv) == 400);
  CHECK(with("A\0: b\r\n"sv) == 400);
  CHECK(status_of("GET / HTTP/1.1\r\n Host: h\r\n\r\n") == 400);
  CHECK(with("A:b\r\nA: \r\nA:\r\nA: a:b\r\nA:\tb\r\nA: \"q\\\" (c)\r\n") == 200);
  CHECK(with("!#$%&'*+-.^_`|~09azAZ: \x80\xFF\r\n") == 200);
}

TEST_CASE("http1 Host") {
  const auto hosts = [](text lines, text version = "1.1") {
    return status_of("GET / HTTP/" + std::string{version} + "\r\n" + std::string{lines} + "\r\n");
  };
  CHECK(hosts("") == 400);
  CHECK(hosts("", "1.0") == 200);
  CHECK(hosts("Host: h\r\n", "1.0") == 200);
  CHECK(hosts("Host:\r\n") == 200);
  CHECK(hosts("hOST: [::1]:80\r\n") == 200);
  for (const text version : {"1.0", "1.1"}) {
    CHECK(hosts("Host: h\r\nHost: h\r\n", version) == 400);
    CHECK(hosts("Host: h\r\nA: b\r\nhost:\r\n", version) == 400);
    for (const text bad :
         {"a b", "a/b", "a?b", "a#b", "u@h", "a\\b", "\"h\"", "<h>", "h\xC3\xA9", "a\tb"}) {
      INFO(bad);
      CHECK(hosts("Host: " + std::string{bad} + "\r\n", version) == 400);
    }
  }
}

TEST_CASE("http1 Content-Length") {
  const auto length = [](text lines) {
    return read("POST / HTTP/1.1\r\nHost: h\r\n" + std::string{lines} + "\r\n");
  };
  CHECK(length("Content-Length: 0\r\n").length == 0);
  CHECK(length("content-length:1048576\r\n").length == 1048576);
  CHECK(length("Content-Length: 000007\r\n").length == 7);
  for (const text bad :
       {"", "-1", "+1", "1 2", "1,1", "1, 1", "0x1", "1a", "1.0", "\"1\"", "\xC2\xB9"}) {
    INFO(bad);
    CHECK(with("Content-Length: " + std::string{bad} + "\r\n") == 400);
  }
  for (const text big : {"1048577", "18446744073709551615", "18446744073709551616",
                         "99999999999999999999999999999"}) {
    INFO(big);
    CHECK(with("Content-Length: " + std::string{big} + "\r\n") == 413);
  }
  CHECK(with("Content-Length: 5\r\nContent-Length: 5\r\n") == 400);
  CHECK(with("Content-Length: 5\r\nA: b\r\ncontent-length: 6\r\n") == 400);
  CHECK(with("Content-Length : 5\r\n") == 400);
}

TEST_CASE("http1 Transfer-Encoding is never a way to smuggle") {
  CHECK(with("Transfer-Encoding: chunked\r\n") == 200);
  CHECK(with("Transfer-Encoding: Chunked \r\n") == 200);
  CHECK(with("Transfer-Encoding: chunked, chunked\r\n") == 501);
  CHECK(with("Transfer-Encoding: gzip, chunked\r\n") == 501);
  CHECK(with("Transfer-Encoding: gzip\r\n") == 400);
  CHECK(with("Transfer-Encoding: chunked, gzip\r\n") == 400);
  CHECK(with("Transfer-Encoding: identity\r\n") == 400);
  CHECK(with("Transfer-Encoding: xchunked\r\n") == 400);
  CHECK(with("Transfer-Encoding: chunked;a=b\r\n") == 400);
  CHECK(with("Transfer-Encoding: \"chunked\"\r\n") == 400);
  CHECK(with("Transfer-Encoding:\r\n") == 400);
  CHECK(with("Transfer-Encoding: chunked,\r\n") == 400);
  CHECK(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") == 400);
  CHECK(with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") == 400);
  CHECK(with("Content-Length: 5\r\ntransfer-encoding: chunked\r\n") == 400);
  CHECK(with("Content-Length: 0\r\nTransfer-Encoding: gzip, chunked\r\n") == 400);
  CHECK(with("Transfer-Encoding : chunked\r\n") == 400);
  CHECK(with("Transfer-Encoding: \x0b chunked\r\n") == 400);
  CHECK(status_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400);
}

TEST_CASE("http1 a body in chunks ends where its chunks do") {
  http1::head_reader head;
  (void)head.feed("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
  REQUIRE(head.state() == outcome::complete);
  CHECK(head.chunked());
  CHECK(head.has_body());
  CHECK(head.content_length() == 0);
  CHECK_FALSE(head.answer().keep_alive);
  CHECK(head.answer(true).keep_alive);
  const auto body = [&](text in, http1::limits l = {}) {
    http1::body_reader reader{head, l};
    std::string content;
    const auto [state, used] = reader.feed(in, content);
    return std::pair{state == outcome::error ? std::to_string(reader.status()) : content, used};
  };
  const text whole = "3\r\nabc\r\n0\r\n\r\n";
  CHECK(body(std::string{whole} + "GET /") == std::pair{"abc"s, whole.size()});
  CHECK(body("3\r\nab").first == "ab");
  CHECK(body(whole, {.body = 3}).first == "abc");
  CHECK(body(whole, {.body = 2}).first == "413");
  CHECK(body("3;a\r\nabc\r\n0\r\nA:\r\n\r\n", {.body_extras = 4}).first == "abc");
  CHECK(body("3;a\r\nabc\r\n0\r\nA:\r\n\r\n", {.body_extras = 3}).first == "431");
  CHECK(body("3 \r\nabc").first == "400");
  CHECK(body("0\r\nA\r\n\r\n").first == "400");
  head.reset();
  (void)head.feed("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n");
  CHECK_FALSE(head.chunked());
  CHECK(body("abcd") == std::pair{"abc"s, std::size_t{3}});
}

TEST_CASE("http1 Expect") {
  const auto expects = [](text version, text lines) {
    return read("POST / HTTP/" + std::string{version} + "\r\nHost: h\r\n" + std::string{lines} +
                "\r\n");
  };
  CHECK(expects("1.1", "Expect: 100-continue\r\nContent-Length: 1\r\n").expects_continue);
  CHECK(expects("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n").expects_continue);
  CHECK_FALSE(expects("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n").expects_continue);
  CHECK_FALSE(expects("1.1", "Expect: 100-continue\r\n").expects_continue);
  CHECK_FALSE(expects("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n").expects_continue);
  CHECK(expects("1.0", "Expect: other\r\n").state == outcome::complete);
  CHECK(expects("1.1", "Expect: other\r\n").status == 417);
  CHECK(expects("1.1", "Expect:\r\n").status == 417);
}

TEST_CASE("http1 keep-alive") {
  const auto keeps = [](text version, text lines) {
    const result r = read("GET / HTTP/" + std::string{version} + "\r\nHost: h\r\n" +
                          std::string{lines} + "\r\n");
    CHECK(r.state == outcome::complete);
    return r.keep_alive;
  };
  CHECK(keeps("1.1", ""));
  CHECK(keeps("1.1", "Connection: keep-alive\r\n"));
  CHECK(keeps("1.1", "Connection: upgrade, closed\r\n"));
  CHECK_FALSE(keeps("1.1", "Connection: close\r\n"));
  CHECK_FALSE(keeps("1.1", "Connection: upgrade , Close\r\n"));
  CHECK_FALSE(keeps("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
  CHECK_FALSE(keeps("1.1", "Connection: close\r\nConnection: keep-alive\r\n"));
  CHECK_FALSE(keeps("1.0", ""));
  CHECK(keeps("1.0", "Connection: Keep-Alive\r\n"));
  CHECK_FALSE(keeps("1.0", "Connection: keep-alive, close\r\n"));
  CHECK_FALSE(read("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").keep_alive);
}

TEST_CASE("http1 the head limit, at limit-1, limit and limit+1") {
  const std::string start = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
  const auto head = [&](std::size_t size) {
    return start + std::string(size - start.size() - 4, 'a') + "\r\n\r\n";
  };
  CHECK(status_of(head(16383)) == 200);
  CHECK(status_of(head(16384)) == 200);
  CHECK(status_of(head(16385)) == 431);
  CHECK(status_of(head(1000000)) == 431);
  CHECK(status_of(head(16384).substr(0, 16383)) == 0);
  // The body does not count, nor does the empty line before.
  CHECK(status_of(head(16384) + std::string(1000, 'b')) == 200);
  CHECK(status_of("\r\n" + head(16384)) == 200);
  CHECK(status_of("\r\n" + head(16385)) == 431);
  // Without any line end it ends all the same.
  CHECK(status_of("GET / HTTP/1.1\r\n" + std::string(20000, 'a')) == 431);
  for (const std::size_t limit : {60U, 100U, 1024U, 1025U, 5000U}) {
    const http1::limits l{.head = limit};
    CHECK(status_of(head(limit - 1), l) == 200);
    CHECK(status_of(head(limit), l) == 200);
    CHECK(status_of(head(limit + 1), l) == 431);
  }
}

TEST_CASE("http1 the header limit, at limit-1, limit and limit+1") {
  const auto head = [](std::size_t n) {
    std::string s = "GET / HTTP/1.1\r\nHost: h\r\n";
    for (std::size_t i = 1; i < n; ++i) s += "A: b\r\n";
    return s + "\r\n";
  };
  CHECK(status_of(head(99)) == 200);
  CHECK(status_of(head(100)) == 200);
  CHECK(read(head(100)).headers.size() == 100);
  CHECK(status_of(head(101)) == 431);
  CHECK(status_of(head(2000)) == 431);
  const http1::limits l{.headers = 3};
  CHECK(status_of(head(2), l) == 200);
  CHECK(status_of(head(3), l) == 200);
  CHECK(status_of(head(4), l) == 431);
}

TEST_CASE("http1 the target limit, at limit-1, limit and limit+1") {
  const auto head = [](std::size_t n, text method = "GET") {
    return std::string{method} + " /" + std::string(n - 1, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n";
  };
  CHECK(status_of(head(8191)) == 200);
  CHECK(status_of(head(8192)) == 200);
  CHECK(status_of(head(8193)) == 414);
  CHECK(status_of(head(16000)) == 414);
  CHECK(status_of(head(100000)) == 414);
  CHECK(status_of("GET /" + std::string(100000, 'a')) == 414);
  // The longest method leaves the target its full length.
  CHECK(status_of(head(8192, std::string(32, 'M'))) == 200);
  CHECK(status_of(head(8193, std::string(32, 'M'))) == 414);
  const http1::limits l{.target = 5};
  CHECK(status_of(head(4), l) == 200);
  CHECK(status_of(head(5), l) == 200);
  CHECK(status_of(head(6), l) == 414);
  // A target limit above the head limit leaves the head limit in charge.
  CHECK(status_of(head(500), {.head = 100, .target = 8192}) == 414);
  CHECK(status_of(head(500), {.head = 100, .target = 90}) == 414);
  CHECK(status_of(head(10), {.head = 100, .target = 90}) == 200);
  CHECK(status_of(head(500), {.head = 20}) == 414);
}

TEST_CASE("http1 the method limit, at limit-1, limit and limit+1") {
  const auto method = [](std::size_t n) { return line(std::string(n, 'M') + " / HTTP/1.1"); };
  CHECK(method(31) == 200);
  CHECK(method(32) == 200);
  CHECK(method(33) == 501);
  CHECK(method(100000) == 501);
  CHECK(status_of(std::string(100000, 'M')) == 501);
}

TEST_CASE("http1 the body limit, at limit-1, limit and limit+1") {
  const auto length = [](std::uint64_t n) {
    return status_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(n) +
                     "\r\n\r\n");
  };
  CHECK(length(1048575) == 200);
  CHECK(length(1048576) == 200);
  CHECK(length(1048577) == 413);
}

TEST_CASE("http1 a connection carries one request after another in the same memory") {
  const std::string first = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
  const std::string second = "GET /b?c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
  http1::head_reader reader;
  CHECK(reader.memory() == 0);
  std::string input = first + "xyz" + second + "rest";
  auto [state, used] = reader.feed(input);
  CHECK(state == outcome::complete);
  CHECK(used == first.size());
  CHECK(reader.feed(input).consumed == 0);  // complete takes nothing more
  CHECK(reader.head().path == "/a");
  CHECK(reader.content_length() == 3);
  CHECK_FALSE(reader.answer().keep_alive);  // the body was not read
  CHECK(reader.answer(true).keep_alive);
  CHECK_FALSE(reader.answer().head_only);
  const std::size_t memory = reader.memory();
  CHECK(memory > 0);
  reader.reset();
  CHECK(reader.state() == outcome::need_more);
  CHECK(reader.content_length() == 0);
  CHECK(reader.memory() == memory);
  input.erase(0, used + 3);
  CHECK(reader.feed(input).consumed == second.size());
  CHECK(reader.head().method == "GET");
  CHECK(reader.head().path == "/b");
  CHECK(reader.head().query == "c");
  CHECK(reader.head().headers.size() == 2);
  CHECK(reader.content_length() == 0);
  CHECK_FALSE(reader.answer().keep_alive);
  CHECK(reader.memory() == memory);
  reader.release();
  CHECK(reader.memory() == 0);
  CHECK(reader.state() == outcome::need_more);
  CHECK(reader.feed("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").state == outcome::complete);
  CHECK(reader.answer().head_only);
}

TEST_CASE("http1 an error is final") {
  http1::head_reader reader;
  CHECK(reader.feed("GET / HTTP/1.1\nHost: h\r\n\r\n").state == outcome::error);
  CHECK(reader.status() == 400);
  const auto [state, used] = reader.feed("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(state == outcome::error);
  CHECK(used == 0);
  CHECK_FALSE(reader.answer(true).keep_alive);
}

TEST_CASE("http1 a reader moves with its request") {
  http1::head_reader a;
  a.feed("GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
  const char* path = a.head().path.data();
  http1::head_reader b{std::move(a)};
  CHECK(b.head().path == "/x");
  CHECK(b.head().path.data() == path);
  CHECK(a.memory() == 0);  // NOLINT: says what a moved reader is
  CHECK(a.state() == outcome::need_more);
  CHECK(a.feed("GET /y HTTP/1.1\r\nHost: h\r\n\r\n").state == outcome::complete);
  b = std::move(a);
  CHECK(b.head().path == "/y");
  http1::head_reader& self = b;
  b = std::move(self);
  CHECK(b.head().path == "/y");
}

TEST_CASE("http1 memory grows with the head, not with the limits") {
  http1::head_reader reader;
  reader.feed("G");
  CHECK(reader.memory() == 256);
  reader.feed("ET /" + std::string(3000, 'a'));
  CHECK(reader.memory() < 8192);
  // One that comes whole, as most do, is held in one block of its size.
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\nx: " + std::string(500, 'x') + "\r\n\r\n";
  http1::head_reader whole;
  REQUIRE(whole.feed(head).state == http1::outcome::complete);
  CHECK(whole.memory() == head.size() + 2 * sizeof(sse::header) + 1);
  http1::head_reader pipelined;
  REQUIRE(pipelined.feed(head + std::string(100'000, 'b')).state == http1::outcome::complete);
  CHECK(pipelined.memory() < 1024 + 2 * sizeof(sse::header) + 2);
}

// --- writing

TEST_CASE("http1 writes an answer") {
  CHECK(write(sse::response::json(400, R"({"error":"bad_params"})")) ==
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 22\r\n"
        "Connection: keep-alive\r\nX-Content-Type-Options: "
        "nosniff\r\n\r\n{\"error\":\"bad_params\"}");
  // N-35, N-37: refusals have a body, and nothing of a stream.
  CHECK(write(sse::response::text(429, "slow down\n").add("Retry-After", "5"),
              {.keep_alive = false}) ==
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: "
        "5\r\n"
        "Content-Length: 10\r\nConnection: close\r\nX-Content-Type-Options: nosniff\r\n\r\nslow "
        "down\n");
  CHECK(write({.status = 299}) ==
        "HTTP/1.1 299 \r\nContent-Length: 0\r\nConnection: keep-alive\r\nX-Content-Type-Options: "
        "nosniff\r\n\r\n");
  CHECK(http1::continue_head == "HTTP/1.1 100 Continue\r\n\r\n");
}

TEST_CASE("http1 204 and 304 have neither length nor body") {
  for (const int status : {204, 304}) {
    const std::string out = write({.status = status, .headers = "A: b\r\n", .body = "lost"});
    CHECK(out ==
          "HTTP/1.1 " + std::to_string(status) + " " + std::string{sse::reason_phrase(status)} +
              "\r\nA: b\r\nConnection: keep-alive\r\nX-Content-Type-Options: nosniff\r\n\r\n");
  }
}

TEST_CASE("X-24 HEAD has the same headers and no body") {
  const sse::response r = sse::response::json(200, "{}");
  CHECK(write(r) == write(r, {.head_only = true}) + "{}");
  // A stream's head is the same for HEAD: the host writes it and no body.
  http1::head_reader reader;
  reader.feed("HEAD /api/stream HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(reader.answer().head_only);
}

TEST_CASE("http1 never writes a header that is not one") {
  for (const text bad : {"A: b", "A: b\n", "A: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "A: b\rc\r\n",
                         "Content-Length: 9\r\n", "transfer-encoding: chunked\r\n",
                         "Connection: x\r\n", "A : b\r\n"}) {
    INFO(bad);
    std::string out;
    CHECK_FALSE(
        http1::write_response(out, {.status = 200, .headers = std::string{bad}, .body = "secret"}));
    CHECK(out ==
          "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: keep-alive\r\n"
          "X-Content-Type-Options: nosniff\r\n\r\n");
    out = "before";
    CHECK_FALSE(http1::write_stream_head(out, {.extra = bad}, 1, false));
    CHECK(out == "before");
  }
  for (const int status : {0, 100, 199, 1000, -1}) {
    std::string out;
    CHECK_FALSE(http1::write_response(out, {.status = status}));
    CHECK(out.substr(0, 12) == "HTTP/1.1 500");
  }
  std::string out = "before";
  CHECK_FALSE(http1::write_stream_head(out, {.content_type = "a\r\nb"}, 1, false));
  CHECK_FALSE(http1::write_stream_head(out, {.cache_control = "a\nb"}, 1, false));
  CHECK(out == "before");
}

TEST_CASE("http1 the head of a stream") {
  // E-02 to E-05: media type, no-cache, keep-alive, any origin; close-delimited.
  constexpr text any[] = {"*"};
  std::string lines;
  sse::add_cors(lines, {.origins = any}, {});
  CHECK(stream({.keep_alive = true, .nosniff = false, .proxy_hints = false, .extra = lines}) ==
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: "
        "no-cache\r\nConnection: keep-alive\r\n"
        "Access-Control-Allow-Origin: *\r\n\r\n");
  // V-02, V-03
  CHECK(stream({.content_type = "text/event-stream; charset=utf-8", .keep_alive = true}, 1, true) ==
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: "
        "no-cache\r\n"
        "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nX-Accel-Buffering: no\r\n"
        "X-Content-Type-Options: nosniff\r\n\r\n");
}

TEST_CASE("http1 the head of a stream tells how often a heartbeat comes, if that is known") {
  CHECK(stream({}).find("X-Heartbeat-Interval") == std::string::npos);
  CHECK(stream({.heartbeat_seconds = 15}).find("\r\nX-Heartbeat-Interval: 15\r\n") !=
        std::string::npos);
}

TEST_CASE("X-22 headers that keep proxies from holding events back") {
  const std::string plain = stream({.proxy_hints = false});
  CHECK(plain.find("X-Accel-Buffering") == std::string::npos);
  CHECK(plain.find("Cache-Control: no-cache\r\n") != std::string::npos);
  const std::string hints = stream({.no_transform = true});
  CHECK(hints.find("\r\nX-Accel-Buffering: no\r\n") != std::string::npos);
  CHECK(hints.find("\r\nCache-Control: no-cache, no-transform\r\n") != std::string::npos);
  CHECK(stream({.cache_control = "", .no_transform = true})
            .find("\r\nCache-Control: no-transform\r\n") != std::string::npos);
  CHECK(stream({.cache_control = ""}).find("Cache-Control") == std::string::npos);
}

TEST_CASE("X-23 HTTP/1.0 gets no chunks and a connection that closes, HTTP/1.1 as asked") {
  const text chunked = "\r\nTransfer-Encoding: chunked\r\n";
  CHECK(stream({}, 1, true).find(chunked) != std::string::npos);
  const text close = "\r\nConnection: close\r\n";  // RFC 9112 9.6: it ends with the stream
  const text keep = "\r\nConnection: keep-alive\r\n";
  CHECK(stream({}, 1, true).find(close) != std::string::npos);
  CHECK(stream({}, 1, false).find("Transfer-Encoding") == std::string::npos);
  CHECK(stream({}, 1, false).find(close) != std::string::npos);
  CHECK(stream({.keep_alive = true}, 1, true).find(keep) != std::string::npos);
  CHECK(stream({.keep_alive = true}, 0, true).find(close) != std::string::npos);
  for (const bool asked : {false, true}) {
    const std::string old = stream({}, 0, asked);
    CHECK(old.find("HTTP/1.1 200 OK\r\n") == 0);
    CHECK(old.find("Transfer-Encoding") == std::string::npos);
    CHECK(old.find("\r\nConnection: close\r\n") != std::string::npos);
  }
}
