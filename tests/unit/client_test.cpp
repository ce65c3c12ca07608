// client.hpp: the event_source state machine, in virtual time.
#include <sse/client.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "catch.hpp"

using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

using sse::client_action;
using sse::client_error;
using sse::client_options;
using sse::client_state;
using sse::duration;
using sse::event_source;
using sse::time_point;
using text = std::string_view;

constexpr text stream_head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
constexpr text chunked_head =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

std::string chunk(text data) {
  constexpr text digits = "0123456789abcdef";
  std::string size;
  for (std::size_t n = data.size(); n != 0; n /= 16) size.insert(size.begin(), digits[n % 16]);
  return size + "\r\n" + std::string{data} + "\r\n";
}

std::string redirect(int status, text location) {
  return "HTTP/1.1 " + std::to_string(status) + " x\r\nLocation: " + std::string{location} +
         "\r\n\r\n";
}

/// Writes down what comes.
struct recorder {
  std::vector<std::string> log;

  void on_open(const sse::client_response& r) {
    log.push_back("open " + std::to_string(r.status()));
  }
  void on_event(const sse::event& e) {
    log.push_back(std::string{e.id} + "|" + std::string{e.type} + "|" + std::string{e.data});
  }
  void on_comment(text t) { log.push_back(":" + std::string{t}); }
  void on_retry(std::int64_t ms) { log.push_back("retry " + std::to_string(ms)); }
  void on_gap(const sse::gap& g) {
    log.push_back("gap " + std::to_string(g.requested) + " " + std::to_string(g.first) + " " +
                  (g.lost_known ? std::to_string(g.lost) : "?"));
  }
};

/// A source, its clock, and what it asked of its host. Failures are logged as "error delay", or
/// "error final".
struct rig {
  /// Delays are exact unless a test is about what is added to them.
  explicit rig(client_options o = {}, text url = "http://h/s", std::uint32_t jitter = 0)
      : source{url, (o.jitter = jitter, o)} {
    poll();
  }

  std::int64_t ms = 0;
  event_source source;
  recorder seen{};
  std::vector<std::string> log{};  // since the last look
  std::uint64_t attempts = 0;      // connect actions

  [[nodiscard]] time_point now() const { return time_point::milliseconds(ms); }

  void poll() {
    for (;;) {
      const client_action a = source.poll(now());
      switch (a.what) {
        case client_action::none: return;
        case client_action::connect:
          ++attempts;
          log.push_back("connect " + std::string{a.host} + ":" + std::to_string(a.port) +
                        (a.tls ? " tls" : ""));
          break;
        case client_action::secure: log.push_back("secure"); break;
        case client_action::disconnect: log.push_back("disconnect"); break;
        case client_action::failed: {
          const sse::client_failure& f = source.failure();
          CHECK_FALSE(sse::describe(f).empty());
          CHECK(f.final == (source.state() == client_state::closed));
          log.push_back(std::string{sse::to_string(f.error)} + " " +
                        (f.final ? "final" : std::to_string(f.delay.ms())));
        }
      }
    }
  }

  /// What was asked since the last look.
  std::vector<std::string> asked() { return std::exchange(log, {}); }

  /// The connection is there; returns the request.
  std::string connected() {
    std::string request{source.connected(now())};
    poll();
    return request;
  }
  void receive(text in) {
    CHECK(source.received(now(), in, seen) == in.size());
    poll();
  }
  /// Connected, and this came.
  std::string answer(text in) {
    std::string request = connected();
    receive(in);
    return request;
  }
  void ended(client_error why = client_error::none) {
    source.ended(now(), why);
    poll();
  }
  void advance(std::int64_t by) {
    ms += by;
    poll();
  }
  /// To the next deadline; how long that took. REQUIRES: there is one.
  std::int64_t wait() {
    const time_point due = source.next_deadline();
    REQUIRE(due < time_point::never());
    const std::int64_t before = ms;
    ms = due.ms() > ms ? due.ms() : ms;
    poll();
    return ms - before;
  }
  [[nodiscard]] bool forever() const { return source.next_deadline() == time_point::never(); }
  [[nodiscard]] client_error error() const { return source.failure().error; }
  std::vector<std::string> events() { return std::exchange(seen.log, {}); }
};

using list = std::vector<std::string>;

/// The value of a header in a request; "-": absent.
std::string header_of(text request, text name) {
  request = request.substr(0, request.find("\r\n\r\n"));
  std::size_t at = request.find("\r\n" + std::string{name} + ": ");
  if (at == text::npos) return "-";
  at += 4 + name.size();
  const text rest = request.substr(at);
  return std::string{rest.substr(0, rest.find("\r\n"))};
}
std::string first_line(text request) {
  return std::string{request.substr(0, request.find("\r\n"))};
}

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
  for (const text method : {"POST", "REPORT", "PUT"}) {
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
    text url, query, id, target;
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
  for (const text method :
       {""sv, "G T"sv, "GET\r\n"sv, "CONNECT"sv, "head"sv, "TRACE"sv, "GET\0"sv}) {
    CHECK(option({.method = method}) == "method");
  }
  CHECK(option({.body = "x"}) == "body");
  const auto with_header = [&](text name, text value) {
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
  for (const text name :
       {"Host", "hOST", "Connection", "Content-Length", "Transfer-Encoding", "Last-Event-ID", "TE",
        "Expect", "Upgrade", "Trailer", "Keep-Alive", "Proxy-Connection", "Accept-Encoding"}) {
    CHECK(with_header(name, "x") == "headers");
  }
  CHECK(option({.last_event_id = "a\nb"}) == "last_event_id");
  CHECK(option({.last_event_id = "a\0b"sv}) == "last_event_id");
  CHECK(option({.last_event_id = std::string(4097, 'x')}) == "last_event_id");
}

TEST_CASE("client: a URL that is refused") {
  for (const text url : {"", "h", "ftp://h/", "http://u:p@h/", "http://h:0/", "http:///"}) {
    rig r{{}, url};
    CHECK(r.asked() == list{"bad_url final"});
    CHECK(r.source.failure().url != sse::url_error::none);
    CHECK(r.source.state() == client_state::closed);
    r.source.restart(r.now());
    r.advance(1'000'000);
    CHECK(r.asked().empty());
  }
}

// --- the response

TEST_CASE("client: an open stream holds its request, which may be on its way, and no head") {
  rig r;
  const std::string request = r.answer(stream_head);
  CHECK(r.source.state() == client_state::open);
  CHECK(r.source.buffered() == request.size());
  r.receive("data: begun");  // and what came of an event
  CHECK(r.source.buffered() > request.size());
  CHECK(r.source.buffered() <= request.size() + 1000);
}

TEST_CASE("client: a stream, in every chunking") {
  const std::string stream =
      "\xEF\xBB\xBFretry: 5\n: hi\nid: 1\ndata: a\n\nevent: t\rdata: b\rdata: c\r\rid: 2\r\n\r\n"
      "data:\n\nevent: gap\ndata: {\"requested\":2,\"first\":9,\"lost\":6}\n\nid: 10\ndata: lost";
  const list expected = {"open 200", "retry 5", ":hi", "1||a", "1|t|b\nc", "2||", "gap 2 9 6"};
  const std::string chunks = std::string{chunked_head} + chunk(stream.substr(0, 30)) +
                             chunk(stream.substr(30, 1)) + "3;x=y\r\n" + stream.substr(31, 3) +
                             "\r\n" + chunk(stream.substr(34)) + "0\r\nA: b\r\n\r\n";
  const std::string counted = "HTTP/1.0 200 OK\nContent-Type:text/event-stream\nContent-Length:" +
                              std::to_string(stream.size()) + "\n\n" + stream + "not this";
  const std::string plain = std::string{stream_head} + stream;
  struct row {
    text in;
    bool ends;  // by itself
  };
  for (const row& t : {row{chunks, true}, row{counted, true}, row{plain, false}}) {
    const auto run = [&](std::size_t first, std::size_t step) {
      rig r;
      r.connected();
      for (std::size_t at = 0, n = first; at < t.in.size(); at += n, n = step) {
        r.receive(t.in.substr(at, n));
      }
      CHECK(r.source.state() == (t.ends ? client_state::connecting : client_state::open));
      if (!t.ends) r.ended();
      const list ask = t.ends ? list{"connect h:80", "disconnect", "end_of_stream 200"}
                              : list{"connect h:80", "end_of_stream 200"};
      CHECK(r.asked() == ask);
      CHECK(r.source.last_event_id() == "2");
      return r.events();
    };
    CHECK(run(t.in.size(), 1) == expected);
    for (std::size_t step : {1U, 2U, 3U, 7U}) CHECK(run(step, step) == expected);
    for (std::size_t cut = 1; cut < t.in.size(); ++cut) {
      if (run(cut, t.in.size()) == expected) continue;
      INFO("cut at " << cut);
      CHECK(false);
    }
  }
}

TEST_CASE("client: what closes for good") {
  struct row {
    std::string in;
    client_error error;
    int status;
  };
  const std::string stream_type = "Content-Type: text/event-stream\r\n";
  std::vector<row> rows = {
      {"HTTP/1.1 204 No Content\r\n\r\n", client_error::no_content, 204},
      {"HTTP/1.1 204 x\r\n" + stream_type + "\r\n", client_error::no_content, 204},
      {"HTTP/1.1 200 OK\r\n\r\n", client_error::content_type, 200},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", client_error::content_type, 200},
      {"HTTP/1.1 200 OK\r\n" + stream_type + "Content-Encoding: gzip\r\n\r\n",
       client_error::content_encoding, 200},
  };
  for (const int status : {201, 206, 300, 304, 305, 306, 400, 401, 403, 404, 405, 406,
                           408, 410, 429, 451, 500, 501, 502, 503, 504, 599, 999}) {
    rows.push_back(
        {"HTTP/1.1 " + std::to_string(status) + " x\r\n" + stream_type + "Retry-After: 1\r\n\r\n",
         client_error::status, status});
  }
  for (const row& t : rows) {
    INFO(t.in);
    rig r{{.retry_statuses = ""}};
    r.answer(t.in + "data: x\n\n");
    CHECK(r.asked() ==
          list{"connect h:80", "disconnect", std::string{sse::to_string(t.error)} + " final"});
    CHECK(r.source.failure().status == t.status);
    CHECK(r.source.failure().attempts == 1);
    CHECK_FALSE(r.source.failure().was_open);
    CHECK(r.source.state() == client_state::closed);
    CHECK(r.forever());
    CHECK(r.events().empty());
    CHECK(r.source.buffered() == 0);
    r.advance(1'000'000);
    r.source.restart(r.now());
    r.ended();
    r.receive(stream_head);
    CHECK(r.asked().empty());
  }
}

TEST_CASE("client: what is tried again") {
  struct row {
    text in;
    client_error error;
  };
  const row rows[] = {
      {"", client_error::cut},
      {"HTTP/1.1 200", client_error::cut},
      {"HTTP/1.1 100 Continue\r\n\r\n", client_error::cut},
      {"hello", client_error::bad_head},
      {"HTTP/2 200\r\n\r\n", client_error::bad_head},
      {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", client_error::bad_head},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
       client_error::bad_framing},
      {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", client_error::bad_framing},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", client_error::end_of_stream},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n",
       client_error::end_of_stream},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n: x",
       client_error::cut},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
       "chunked\r\n\r\n",
       client_error::cut},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
       "chunked\r\n\r\nx",
       client_error::bad_framing},
  };
  for (const row& t : rows) {
    INFO(t.in);
    rig r;
    r.answer(t.in);
    r.ended();
    CHECK(r.error() == t.error);
    CHECK(r.asked().back() == std::string{sse::to_string(t.error)} + " 3000");
    CHECK(r.source.state() == client_state::connecting);
    CHECK(r.wait() == 3000);
    CHECK(r.asked() == list{"connect h:80"});
    r.answer(stream_head);
    CHECK(r.source.state() == client_state::open);
  }
}

TEST_CASE("client: what the host tells of a connection") {
  for (const client_error why : {client_error::resolve, client_error::connect, client_error::tls}) {
    rig r;
    r.ended(why);
    CHECK(r.asked() == list{"connect h:80", std::string{sse::to_string(why)} + " 3000"});
    CHECK(r.source.connected(r.now()).empty());
  }
  rig silent;
  silent.ended();
  CHECK(silent.error() == client_error::connect);
  rig odd;
  odd.ended(client_error::status);  // not the host's to say
  CHECK(odd.error() == client_error::connect);
  rig broken;
  broken.answer(stream_head);
  broken.ended(client_error::read);
  CHECK(broken.error() == client_error::read);
  CHECK(broken.source.failure().was_open);
  CHECK(broken.source.failure().status == 200);
}

TEST_CASE("client: a failure keeps its cause, and the next one has its own") {
  rig r;
  r.source.ended(r.now(), client_error::tls, std::make_error_code(std::errc::timed_out));
  r.poll();
  CHECK(r.source.failure().cause == std::errc::timed_out);
  CHECK(sse::explain(r.source.failure()) ==
        "no secure connection could be made: " +
            std::make_error_code(std::errc::timed_out).message());
  r.wait();
  r.ended(client_error::connect);
  CHECK_FALSE(r.source.failure().cause);
  CHECK(sse::explain(r.source.failure()) == "the connection could not be made");
  r.wait();
  r.answer("HTTP/1.1 404 No\r\n\r\n");
  CHECK(sse::explain(r.source.failure()) == "the server refused: its status is not 200 but 404");
  CHECK(
      sse::explain(sse::client_failure{.error = client_error::bad_options, .option = "headers"}) ==
      "an option is not valid: headers");
}

TEST_CASE("client: statuses that may be others later are tried again") {
  for (const int status : {408, 425, 429, 500, 502, 503, 504, 599}) {
    INFO(status);
    rig r;
    r.answer("HTTP/1.1 " + std::to_string(status) + " x\r\n\r\n");
    CHECK(r.asked() == list{"connect h:80", "disconnect", "status 3000"});
    r.wait();
    r.answer("HTTP/1.1 " + std::to_string(status) + " x\r\nRetry-After: 120\r\n\r\n");
    CHECK(r.source.failure().delay >= duration::seconds(120));  // and those of a herd not at once
    CHECK(r.source.failure().delay <= duration::seconds(123));
    CHECK(r.source.failure().attempts == 2);
    r.wait();
    r.answer("HTTP/1.1 503 x\r\nRetry-After: 99999999999\r\n\r\n");
    CHECK(r.source.failure().delay >= duration::seconds(600));
    CHECK(r.source.failure().delay <= duration::seconds(606));
    r.wait();
    r.answer("HTTP/1.1 503 x\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n");
    CHECK(r.source.failure().delay <= duration::seconds(30));
    r.wait();
    r.answer("HTTP/1.1 204 x\r\n\r\n");
    CHECK(r.source.state() == client_state::closed);
  }
  for (const int status : {400, 401, 403, 404, 407, 410, 600}) {
    rig r;
    r.answer("HTTP/1.1 " + std::to_string(status) + " x\r\n\r\n");
    CHECK(r.source.state() == client_state::closed);
  }
}

TEST_CASE("client: which statuses are tried again is an option") {
  const auto closes = [](text list, int status) {
    rig r{{.retry_statuses = list}};
    r.answer("HTTP/1.1 " + std::to_string(status) + " x\r\n\r\n");
    return r.source.state() == client_state::closed;
  };
  CHECK_FALSE(closes("404", 404));
  CHECK(closes("404", 403));
  CHECK(closes("404", 503));
  CHECK_FALSE(closes(" 404 , 5XX,999", 599));
  CHECK_FALSE(closes("404,5xx,999", 999));
  CHECK(closes("", 503));
  // What the standard gives a meaning keeps it.
  CHECK(closes("2xx,3xx,4xx", 204));
  rig opens{{.retry_statuses = "200"}};
  opens.answer(stream_head);
  CHECK(opens.source.state() == client_state::open);
  for (const text bad : {"x", "50", "5x", "5xxx", "1000", "199", "1xx", "0xx", "404,,5xx", ",",
                         "-503", "404;503", "5 3", "500-599"}) {
    INFO(bad);
    rig r{{.retry_statuses = bad}};
    CHECK(r.asked() == list{"bad_options final"});
    CHECK(r.source.failure().option == "retry_statuses");
  }
}

TEST_CASE("client: Retry-After as a date counts from the response's own") {
  const auto delay = [](text until, text date) {
    rig r{{.retry = duration::milliseconds(500)}};
    r.answer("HTTP/1.1 503 x\r\nRetry-After: " + std::string{until} + "\r\n" +
             (date.empty() ? "" : "Date: " + std::string{date} + "\r\n") + "\r\n");
    return r.source.failure().delay.ms();
  };
  constexpr text date = "Sun, 06 Nov 1994 08:49:37 GMT";
  CHECK(delay("Sun, 06 Nov 1994 08:50:07 GMT", date) == 30'000);
  CHECK(delay("Mon, 07 Nov 1994 08:49:37 GMT", date) == 600'000);  // max_retry
  CHECK(delay("Sun, 06 Nov 1994 08:49:36 GMT", date) == 500);      // over already
  CHECK(delay("Sun, 06 Nov 1994 08:50:07 GMT", "") == 500);
  CHECK(delay("Sun, 06 Nov 1994 08:50:07 GMT", "now") == 500);
  CHECK(delay("Tue, 01 Mar 2028 00:00:10 GMT", "Tue, 29 Feb 2028 23:59:55 GMT") == 15'000);
  CHECK(delay("Sat, 01 Jan 2000 00:00:01 GMT", "Fri, 31 Dec 1999 23:59:59 GMT") == 2000);
}

// --- redirects

TEST_CASE("client: redirects and methods") {
  struct row {
    int status;
    text method, then;
  };
  const row rows[] = {
      {301, "GET", "GET"},    {302, "GET", "GET"},       {303, "GET", "GET"},
      {307, "GET", "GET"},    {308, "GET", "GET"},       {301, "POST", "GET"},
      {302, "POST", "GET"},   {303, "POST", "GET"},      {307, "POST", "POST"},
      {308, "POST", "POST"},  {301, "REPORT", "REPORT"}, {302, "REPORT", "REPORT"},
      {303, "REPORT", "GET"}, {307, "REPORT", "REPORT"}, {308, "REPORT", "REPORT"},
  };
  for (const row& t : rows) {
    INFO(t.status << " " << t.method);
    const sse::header headers[] = {{"Authorization", "secret"}, {"Content-Type", "a/b"}};
    rig r{{.method = t.method,
           .body = t.method == "GET" ? "" : "body",
           .headers = headers,
           .last_event_id = "7"}};
    r.answer(redirect(t.status, "../x?y"));
    CHECK(r.asked() == list{"connect h:80", "disconnect", "connect h:80"});
    CHECK(r.source.state() == client_state::connecting);
    CHECK(r.source.url() == "http://h/x?y");
    const std::string request = r.answer(stream_head);
    CHECK(first_line(request) == std::string{t.then} + " /x?y HTTP/1.1");
    CHECK(header_of(request, "Authorization") == "secret");  // the same origin
    CHECK(header_of(request, "Last-Event-ID") == "7");
    const bool changed = t.then != t.method;
    CHECK(header_of(request, "Content-Type") == (changed ? "-" : "a/b"));
    CHECK(request.ends_with(t.then == "GET" ? "\r\n\r\n" : "\r\n\r\nbody"));
    CHECK(header_of(request, "Content-Length") == (t.then == "GET" ? "-" : "4"));
    CHECK(r.source.state() == client_state::open);
    // A reconnection begins at the first URL, with all that was given.
    r.ended();
    r.wait();
    const std::string again = r.connected();
    CHECK(first_line(again) == std::string{t.method} + " /s HTTP/1.1");
    CHECK(header_of(again, "Authorization") == "secret");
  }
}

TEST_CASE("client: redirects across origins drop what the user gave") {
  const sse::header headers[] = {{"Authorization", "secret"},
                                 {"Cookie", "secret"},
                                 {"X-Api-Key", "secret"},
                                 {"Accept", "a/b"},
                                 {"Content-Type", "c/d"}};
  for (const text location :
       {"http://other/x", "//other/x", "https://h/x", "http://h:81/x", "http://h.other/x"}) {
    INFO(location);
    rig r{{.method = "POST",
           .body = "body",
           .headers = headers,
           .last_event_id = "7",
           .allow_insecure_redirect = true}};
    CHECK(r.answer(redirect(307, location)).find("secret") != text::npos);
    const std::string request = r.answer(redirect(307, "http://h/back"));
    CHECK(request.find("secret") == text::npos);
    CHECK(header_of(request, "Accept") == "text/event-stream");
    CHECK(header_of(request, "Last-Event-ID") == "7");
    // The body and what describes it go along, as 307 says.
    CHECK(header_of(request, "Content-Type") == "c/d");
    CHECK(request.ends_with("\r\n\r\nbody"));
    // They stay away on the way back.
    CHECK(r.answer(stream_head).find("secret") == text::npos);
    r.ended();
    r.wait();
    CHECK(r.connected().find("secret") != text::npos);
  }
}

TEST_CASE("client: redirects that are not followed") {
  const auto error = [](text url, text location, bool insecure = false) {
    rig r{{.allow_insecure_redirect = insecure}, url};
    (void)r.asked();
    r.answer(redirect(302, location));
    if (r.error() == client_error::none) return "to " + std::string{r.source.url()};
    CHECK(r.source.state() == client_state::closed);
    CHECK(r.source.failure().status == 302);
    CHECK(r.asked().size() == 2);
    CHECK((r.source.failure().url != sse::url_error::none) ==
          (r.error() == client_error::bad_redirect));
    return std::string{sse::to_string(r.error())};
  };
  CHECK(error("http://h/s", "") == "bad_redirect");
  CHECK(error("http://h/s", "ftp://h/") == "bad_redirect");
  CHECK(error("http://h/s", "javascript:alert(1)") == "bad_redirect");
  CHECK(error("http://h/s", "http://u:p@h/") == "bad_redirect");
  CHECK(error("http://h/s", "http://h:99999/") == "bad_redirect");
  CHECK(error("http://h/s", "http://a b/") == "bad_redirect");
  CHECK(error("http://h/s", "/" + std::string(9000, 'x')) == "bad_redirect");
  CHECK(error("https://h/s", "http://h/s") == "insecure_redirect");
  CHECK(error("https://h/s", "http://h/s", true) == "to http://h/s");
  CHECK(error("http://h/s", "https://h/s") == "to https://h/s");
  rig none;
  none.answer("HTTP/1.1 301 x\r\n\r\n");
  CHECK(none.error() == client_error::bad_redirect);
  rig two;
  two.answer("HTTP/1.1 301 x\r\nLocation: /a\r\nLocation: /b\r\n\r\n");
  CHECK(two.error() == client_error::bad_redirect);
}

TEST_CASE("client: a redirect loop ends") {
  for (const std::uint32_t limit : {0U, 1U, 20U}) {
    rig r{{.max_redirects = limit}};
    while (r.source.state() != client_state::closed) r.answer(redirect(302, "/s"));
    CHECK(r.attempts == limit + 1);
    CHECK(r.error() == client_error::too_many_redirects);
    CHECK(r.ms == 0);
    r.advance(1'000'000);
    CHECK(r.attempts == limit + 1);
  }
  // Each reconnection may be redirected as often.
  rig r{{.max_redirects = 2}};
  for (int i = 0; i < 10; ++i) {
    r.answer(redirect(302, "/a"));
    r.answer(redirect(302, "/b"));
    r.answer(stream_head);
    CHECK(r.source.state() == client_state::open);
    r.ended();
    r.wait();
  }
}

TEST_CASE("client: the resume query goes along with a redirect") {
  rig r{{.last_event_id = "7", .resume_query = "after"}};
  CHECK(first_line(r.answer(redirect(307, "/x?after=1&a=b"))) == "GET /s?after=7 HTTP/1.1");
  CHECK(first_line(r.connected()) == "GET /x?a=b&after=7 HTTP/1.1");
}

// --- reconnection

TEST_CASE("client: the reconnection time") {
  struct row {
    text stream;
    std::int64_t delay;
  };
  const row rows[] = {
      {"data: x\n\n", 3000},
      {"retry: 1000\ndata: x\n\n", 1000},
      {"retry: 1000\n\ndata: x\n\n", 1000},
      {"data: x\n\nretry: 1000\n", 1000},  // at once, even if its event is never finished
      {"data: x\n\nretry: 1000", 3000},
      {"retry: 200\nretry: 300\ndata: x\n\n", 300},
      {"retry: -1\ndata: x\n\n", 3000},
      {"retry: 1.5\ndata: x\n\n", 3000},
      {"retry: 1e3\ndata: x\n\n", 3000},
      {"retry: \ndata: x\n\n", 3000},
      {"retry\ndata: x\n\n", 3000},
      {"retry: +5\ndata: x\n\n", 3000},
      {"retry: 600000\ndata: x\n\n", 600'000},
      {"retry: 600001\ndata: x\n\n", 600'000},
      {"retry: 99999999999999999999999999\ndata: x\n\n", 600'000},
      {"retry: 0\ndata: x\n\n", 200},  // client_options::min_interval
      {"retry: 199\ndata: x\n\n", 200},
  };
  for (const row& t : rows) {
    INFO(t.stream);
    rig r;
    r.answer(stream_head);
    r.receive(t.stream);
    r.ended();
    CHECK(r.source.failure().attempts == 0);
    CHECK(r.source.failure().delay.ms() == t.delay);
    const std::int64_t known = r.source.retry().ms();
    r.advance(t.delay - 1);
    CHECK(r.attempts == 1);
    r.advance(1);
    CHECK(r.attempts == 2);
    // It stays for the connections that follow.
    r.answer(stream_head);
    r.receive("data: y\n\n");
    r.ended();
    CHECK(r.source.retry().ms() == known);
    CHECK(r.source.failure().delay.ms() == t.delay);
  }
  rig own{{.retry = duration::milliseconds(700)}};
  own.ended();
  CHECK(own.source.failure().delay.ms() == 700);
  rig odd{{.retry = duration::milliseconds(-5), .max_retry = duration::infinite()}};
  odd.ended();
  CHECK(odd.source.failure().delay.ms() == 200);
}

TEST_CASE("client: retry 0 is honoured after a longer connection") {
  rig r;
  r.answer(stream_head);
  r.receive("retry: 0\ndata: x\n\n");
  r.advance(200);
  r.ended();
  CHECK(r.source.failure().delay.ms() == 0);
  CHECK(r.attempts == 2);
}

TEST_CASE("client: the first reconnection is spread too, so that a restart meets no herd") {
  constexpr std::int64_t clients = 2000;
  for (const bool was_open : {true, false}) {
    std::vector<std::int64_t> delays;
    for (std::uint64_t seed = 1; seed <= clients; ++seed) {
      rig r{{.seed = seed}, "http://h/s", client_options{}.jitter};
      if (was_open) {
        r.answer(stream_head);
        r.receive("data: x\n\n");
        r.advance(60'000);
      }
      r.ended();
      delays.push_back(r.source.failure().delay.ms());
    }
    std::sort(delays.begin(), delays.end());
    CHECK(delays.front() >= 3000);  // never before the reconnection time
    CHECK(delays.back() <= 4500);
    // Each tenth of the time that they are spread over has about a tenth of them.
    for (int tenth = 0; tenth < 10; ++tenth) {
      const auto in_it = std::count_if(delays.begin(), delays.end(), [&](std::int64_t ms) {
        return ms >= 3000 + 150 * tenth && ms < 3150 + 150 * tenth;
      });
      CHECK(in_it > clients / 10 / 2);
      CHECK(in_it < clients / 10 * 2);
    }
  }
  rig wide{{.retry = duration::seconds(1)}, "http://h/s", 300};
  wide.ended();
  CHECK(wide.source.failure().delay.ms() >= 1000);
  CHECK(wide.source.failure().delay.ms() <= 4000);
}

TEST_CASE("client: failures are spread up to the cap, not gathered at it") {
  int at_cap = 0;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    rig r{{.seed = seed}, "http://h/s", client_options{}.jitter};
    for (int n = 0; n < 8; ++n) {
      r.ended();
      if (n < 7) r.wait();
    }
    at_cap += r.source.failure().delay.ms() >= 29'999;
  }
  CHECK(at_cap < 5);
}

TEST_CASE("client: ten attempts in two seconds at most, whatever a server says of retry") {
  for (const std::uint32_t jitter : {0U, client_options{}.jitter}) {
    for (const text stream : {"retry: 0\ndata: x\n\n", "retry: 1\n\ndata: x\n\n", "retry: 0\n\n"}) {
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        rig r{{.seed = seed}, "http://h/s", jitter};
        std::vector<std::int64_t> begins;
        while (begins.size() < 100) {
          begins.push_back(r.ms);
          r.answer(std::string{stream_head} + std::string{stream});
          r.ended();
          if (r.attempts == begins.size()) r.wait();
        }
        for (std::size_t n = 0; n + 10 < begins.size(); ++n) {
          REQUIRE(begins[n + 10] - begins[n] >= 2000);
        }
      }
    }
  }
}

TEST_CASE("client: back-off, for many seeds") {
  bool spread = false;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    rig r{{.seed = seed}};
    std::int64_t bound = 0;
    for (std::uint32_t n = 1; n <= 40; ++n) {
      r.ended();
      const sse::client_failure f = r.source.failure();
      CHECK(f.attempts == n);
      // 3 s, then up to 3, 6, 12, 24 s more, but never above 30 s.
      bound = n == 1 ? 0 : n == 2 ? 3000 : std::min<std::int64_t>(bound * 2, 30'000);
      if (f.delay.ms() < 3000 || f.delay.ms() > std::min<std::int64_t>(3000 + bound, 30'000)) {
        INFO("seed " << seed << " attempt " << n << " delay " << f.delay.ms());
        CHECK(false);
      }
      spread = spread || f.delay.ms() > 29'000;
      CHECK(r.wait() == f.delay.ms());
    }
    CHECK(r.attempts == 41);
  }
  CHECK(spread);
  // Another seed, another delay; the same one, the same delay.
  const auto delays = [](std::uint64_t seed) {
    rig r{{.seed = seed}};
    std::vector<std::int64_t> out;
    for (int n = 0; n < 10; ++n) {
      r.ended();
      out.push_back(r.wait());
    }
    return out;
  };
  CHECK(delays(1) == delays(1));
  CHECK(delays(1) != delays(2));
}

TEST_CASE("client: back-off options") {
  // A reconnection time above the cap stays what it is.
  rig slow{{.retry = duration::seconds(60)}};
  for (int n = 0; n < 10; ++n) {
    slow.ended();
    CHECK(slow.wait() == 60'000);
  }
  // No cap, no jitter, and no overflow.
  rig huge{{.max_backoff = duration::infinite()}};
  for (int n = 0; n < 200; ++n) {
    huge.ended();
    CHECK(huge.source.failure().delay.ms() >= 3000);
    CHECK(huge.source.failure().delay.ms() <= 1'000'000'000'000);
    huge.wait();
  }
  rig none{{.max_backoff = duration::off()}};
  for (int n = 0; n < 10; ++n) {
    none.ended();
    CHECK(none.wait() == 3000);
  }
  rig hot{
      {.retry = duration::off(), .max_backoff = duration::off(), .min_interval = duration::off()}};
  hot.ended();
  CHECK(hot.source.failure().delay.ms() == 0);
  CHECK(hot.attempts == 2);
}

TEST_CASE("client: only a stable connection ends a row of failures") {
  const auto after = [](text stream, std::int64_t lasts) {
    rig r;
    for (int n = 0; n < 5; ++n) {
      r.ended();
      r.wait();
    }
    r.answer(std::string{stream_head} + std::string{stream});
    r.advance(lasts);
    r.ended();
    return r.source.failure().attempts;
  };
  CHECK(after("", 0) == 6);
  CHECK(after(": comment\n\n", 0) == 6);
  CHECK(after("id: 5\n\n", 0) == 6);
  CHECK(after("data: not finished", 0) == 6);
  CHECK(after("", 9'999) == 6);
  CHECK(after("", 10'000) == 0);
  CHECK(after("data: x\n\n", 0) == 0);
  CHECK(after("event: gap\ndata: {\"requested\":2,\"first\":9,\"lost\":6}\n\n", 0) == 0);
}

TEST_CASE("client: attempts are bounded, whatever the server does") {
  struct row {
    text name, response;
    std::uint64_t most;  // attempts in ten minutes
  };
  const row rows[] = {
      // Nothing comes of it: 30 s apart on average 15 s more, after the first few.
      {"retry 0, closed at once",
       "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
       "retry: 0\n\n",
       90},
      {"closed at once", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", 60},
      {"no answer", "", 60},
      {"nonsense", "hello", 60},
      {"instant 404", "HTTP/1.1 404 x\r\n\r\n", 1},
      {"instant 500", "HTTP/1.1 500 x\r\n\r\n", 60},
      {"instant 429 that asks to come back at once", "HTTP/1.1 429 x\r\nRetry-After: 0\r\n\r\n",
       60},
      {"retry -1", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: -1\n\n", 60},
      // Events came, so it may go on as the server wants: five a second at the most.
      {"retry 0 and an event",
       "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
       "retry: 0\ndata: x\n\n",
       3001},
  };
  for (const row& t : rows) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      INFO(t.name << " seed " << seed);
      rig r{{.seed = seed}};
      while (r.ms < 600'000 && r.source.state() != client_state::closed) {
        r.answer(t.response);
        r.ended();
        if (!r.forever()) r.wait();
      }
      CHECK(r.attempts <= t.most);
      CHECK(r.source.buffered() == 0);
    }
  }
}

TEST_CASE("client: a number of attempts by option") {
  rig r{{.max_attempts = 3}};
  r.ended();
  r.wait();
  r.answer(stream_head);
  r.receive("data: x\n\n");  // a good one
  r.ended();
  r.wait();
  (void)r.asked();
  for (int n = 0; n < 3; ++n) {
    r.ended(client_error::connect);
    if (n < 2) r.wait();
  }
  CHECK(r.asked().back() == "connect final");
  CHECK(r.source.failure().attempts == 3);
  CHECK(r.source.state() == client_state::closed);
  CHECK(r.forever());
}

TEST_CASE("client: the last event ID over reconnections") {
  rig r{{.last_event_id = "start"}};
  CHECK(r.source.last_event_id() == "start");
  struct row {
    text stream, id;
  };
  const row rows[] = {
      {"data: x\n\n", "start"},
      {"id: 1\ndata: x\n\n", "1"},
      {"id: 2\n\n", "2"},                         // no data: no event, but the id moves
      {"id: 3\ndata: x\n", "2"},                  // not finished
      {"id: 4\ndata: x\n\nid: 5\ndata: y", "4"},  // nor is 5
      {"id: a\0b\ndata: x\n\n"sv, "4"},           // NUL: ignored
      {"id: \xC3\xA9 \ndata: x\n\n", "\xC3\xA9 "},
      {"id: \xC3 x\ndata: x\n\n", "\xEF\xBF\xBD x"},  // as UTF-8
      {"id\ndata: x\n\n", ""},
      {"data: x\n\n", ""},
  };
  text before = "start";
  for (const row& t : rows) {
    INFO(t.stream);
    const std::string request = r.answer(stream_head);
    CHECK(header_of(request, "Last-Event-ID") == (before.empty() ? "-" : std::string{before}));
    r.receive(t.stream);
    CHECK(r.source.last_event_id() == t.id);
    r.ended();
    CHECK(r.source.last_event_id() == t.id);
    before = t.id;
    r.wait();
  }
}

TEST_CASE("client: a position without an event is told, and may end it") {
  struct position_sink {
    event_source& source;
    std::vector<std::string> told{};
    bool closes = false;
    void on_event(const sse::event&) { told.emplace_back("event"); }
    void on_position(text id) {
      CHECK(source.last_event_id() == id);
      told.emplace_back(id);
      if (closes) source.close();
    }
  };
  for (const bool closes : {false, true}) {
    rig r;
    r.answer(stream_head);
    position_sink sink{r.source, {}, closes};
    const text in = "id: 7\n\nid: 8\ndata: x\n\nid: 9\n\n";
    CHECK(r.source.received(r.now(), in, sink) == in.size());
    CHECK(sink.told == (closes ? list{"7"} : list{"7", "event", "9"}));
    CHECK(r.source.last_event_id() == (closes ? "7" : "9"));
  }
}

TEST_CASE("client: each connection is a new stream") {
  rig r;
  r.answer(stream_head);
  r.receive("data: half");
  r.ended();
  r.wait();
  r.answer(std::string{stream_head} +
           "\xEF\xBB\xBF"
           "data: whole\n\n");
  r.ended();
  r.wait();
  r.answer(std::string{chunked_head} + "5\r\ndata");
  r.ended();
  r.wait();
  r.answer(std::string{stream_head} + "data: y\n\n");
  CHECK(r.events() == list{"open 200", "open 200", "||whole", "open 200", "open 200", "||y"});
}

// --- time

TEST_CASE("client: connecting takes too long") {
  rig r;
  r.advance(29'999);
  CHECK(r.asked() == list{"connect h:80"});
  r.advance(1);
  CHECK(r.asked() == list{"disconnect", "connect_timeout 3000"});
  CHECK(r.source.connected(r.now()).empty());
  r.ended();  // too late
  CHECK(r.asked().empty());
  CHECK(r.wait() == 3000);
  CHECK(r.asked() == list{"connect h:80"});
  rig patient{{.connect_timeout = duration::off()}};
  CHECK(patient.forever());
}

TEST_CASE("client: a server that accepts and says nothing") {
  rig r;
  r.connected();
  r.advance(29'999);
  CHECK(r.asked() == list{"connect h:80"});
  r.advance(1);
  CHECK(r.asked() == list{"disconnect", "head_timeout 3000"});
  // A head that trickles is no better.
  r.wait();
  r.connected();
  for (int n = 0; n < 29; ++n) {
    r.advance(1000);
    r.receive("HTTP/1.1 200 OK\r\nA: bbbbbbbbbbbbbb"sv.substr(static_cast<std::size_t>(n), 1));
  }
  CHECK(r.asked() == list{"connect h:80"});
  r.advance(1000);
  CHECK(r.error() == client_error::head_timeout);
  rig patient{{.head_timeout = duration::off()}};
  patient.connected();
  CHECK(patient.forever());
}

TEST_CASE("client: a stream that falls silent") {
  rig r{{.stall_timeout = duration::seconds(20)}};
  r.answer(stream_head);
  for (int n = 0; n < 10; ++n) {
    r.advance(19'999);
    r.receive(":");  // any byte counts
  }
  CHECK(r.source.state() == client_state::open);
  r.advance(19'999);
  (void)r.asked();
  r.advance(1);
  CHECK(r.asked() == list{"disconnect", "stalled 3000"});
  CHECK(r.source.failure().attempts == 0);  // it had lived long
  // A silent one is not stable just because nobody noticed for a while.
  for (std::uint32_t n = 1; n < 4; ++n) {
    r.wait();
    r.answer(stream_head);
    CHECK(r.wait() == 20'000);
    CHECK(r.error() == client_error::stalled);
    CHECK(r.source.failure().attempts == n);
  }
}

TEST_CASE("client: a server that announces its heartbeat") {
  const auto open = [](text value, std::optional<duration> own = std::nullopt) {
    rig r{{.stall_timeout = own}};
    r.answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Heartbeat-Interval: " +
             std::string{value} + "\r\n\r\n");
    return r.forever() ? -1 : r.source.next_deadline().ms();
  };
  CHECK(open("15") == 45'000);
  CHECK(open("60") == 180'000);
  CHECK(open("15", duration::seconds(20)) == 20'000);
  CHECK(open("15", duration::off()) == -1);
  CHECK(open("99999999999999999999") == 3LL * 24 * 3600 * 1000);
  // No announcement.
  CHECK(open("0") == 90'000);
  CHECK(open("x") == 90'000);
  CHECK(open("") == 90'000);
}

TEST_CASE("client: a dead stream is found with the defaults, whatever the server says") {
  rig r;
  r.answer(stream_head);
  r.receive("id: 7\ndata: x\n\n");
  for (int n = 0; n < 10; ++n) {
    r.advance(89'999);
    r.receive(":\n");  // a heartbeat
  }
  (void)r.asked();
  CHECK(r.wait() == 90'000);
  CHECK(r.asked() == list{"disconnect", "stalled 3000"});
  r.wait();
  CHECK(header_of(r.connected(), "Last-Event-ID") == "7");
  // Not before a stream is there, and by option never.
  rig off{{.head_timeout = duration::off(), .stall_timeout = duration::off()}};
  off.connected();
  CHECK(off.forever());
  off.receive(stream_head);
  CHECK(off.forever());
}

// --- gap frames

TEST_CASE("client: gap frames have a callback of their own") {
  struct row {
    text data, seen;
  };
  const row rows[] = {
      {R"({"requested":17,"first":20,"lost":2})", "gap 17 20 2"},
      {R"({"requested":0,"first":9007199254740991,"lost":null})", "gap 0 9007199254740991 ?"},
      {R"( { "requested" : 1 , "first" : 2 , "lost" : 0 } )", "gap 1 2 0"},
  };
  for (const row& t : rows) {
    INFO(t.data);
    rig r;
    r.answer(stream_head);
    r.receive("id: 19\nevent: gap\ndata: " + std::string{t.data} + "\n\n");
    CHECK(r.events() == list{"open 200", std::string{t.seen}});
    CHECK(r.source.last_event_id() == "19");
  }
  // What is not ours is an event like others.
  for (const text data :
       {"", "{}", "null", R"({"requested":17,"first":20})",
        R"({"first":20,"requested":17,"lost":2})", R"({"requested":-1,"first":20,"lost":2})",
        R"({"requested":"17","first":20,"lost":2})",
        R"({"requested":17,"first":9007199254740992,"lost":2})",
        R"({"requested":17,"first":99999999999999999999999,"lost":2})",
        R"({"requested":17,"first":20,"lost":2}x)", R"({"requested":17,"first":20,"lost":2,"a":1})",
        R"({"requested":17,"first":20,"lost":nul})", R"({"requested":17,"first":20,"lost":)"}) {
    INFO(data);
    rig r;
    r.answer(stream_head);
    r.receive("event: gap\ndata: " + std::string{data} + "\n\n");
    CHECK(r.events() == list{"open 200", "|gap|" + std::string{data}});
  }
  rig other;
  other.answer(stream_head);
  other.receive("event: gaps\ndata: {\"requested\":17,\"first\":20,\"lost\":2}\n\n");
  CHECK(other.events().back() == "|gaps|{\"requested\":17,\"first\":20,\"lost\":2}");
}

TEST_CASE("client: a sink without on_gap gets gap frames as events") {
  struct {
    std::vector<std::string> types;
    void on_event(const sse::event& e) { types.emplace_back(e.type); }
  } sink;
  event_source source{"http://h/"};
  (void)source.poll({});
  (void)source.connected({});
  const std::string in = std::string{stream_head} +
                         ": c\nretry: 5\nevent: gap\ndata: "
                         "{\"requested\":17,\"first\":20,\"lost\":2}\n\n";
  CHECK(source.received({}, in, sink) == in.size());
  CHECK(sink.types == std::vector<std::string>{"gap"});
  CHECK(source.retry().ms() == 5);
}

// --- a sink that stops

TEST_CASE("client: a sink that stops gets the rest later, in every framing") {
  struct one_by_one {
    std::vector<std::string> log;
    bool on_event(const sse::event& e) {
      log.emplace_back(e.data);
      return false;
    }
    bool on_gap(const sse::gap&) {
      log.emplace_back("gap");
      return false;
    }
  };
  const std::string stream =
      "data: 1\n\ndata: 2\n\nevent: gap\ndata: {\"requested\":2,\"first\":9,\"lost\":6}\n\ndata: "
      "3\n\n";
  const std::string chunks = std::string{chunked_head} + chunk(stream.substr(0, 9)) +
                             chunk(stream.substr(9)) + "0\r\n\r\n";
  const std::string counted =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
      "Content-Length: " +
      std::to_string(stream.size()) + "\r\n\r\n" + stream;
  for (const text in : {text{chunks}, text{counted}}) {
    for (const std::size_t step : {std::size_t{1}, std::size_t{5}, in.size()}) {
      event_source source{"http://h/", {.stall_timeout = duration::seconds(1)}};
      (void)source.poll({});
      (void)source.connected({});
      one_by_one sink;
      std::size_t stops = 0;
      std::int64_t ms = 0;
      for (std::size_t at = 0; at < in.size(); at += step) {
        text piece = in.substr(at, step);
        for (;;) {
          const std::size_t events = sink.log.size();
          const time_point now = time_point::milliseconds(ms);
          piece.remove_prefix(source.received(now, piece, sink));
          CHECK(sink.log.size() <= events + 1);
          if (sink.log.size() == events) break;
          // Stopped: however long the sink takes, that is no stall.
          ++stops;
          if (source.state() == client_state::open) {
            CHECK(source.next_deadline() == time_point::never());
          }
          ms += 10'000;
          CHECK(source.poll(time_point::milliseconds(ms)).what != client_action::failed);
        }
        CHECK(piece.empty());
      }
      CHECK(sink.log == std::vector<std::string>{"1", "2", "gap", "3"});
      CHECK(stops == 4);
      // The end was noticed when reading went on.
      CHECK(source.state() == client_state::connecting);
      CHECK(source.failure().error == client_error::end_of_stream);
    }
  }
}

TEST_CASE("client: the stall watch goes on when reading does") {
  struct {
    bool on_event(const sse::event&) { return false; }
  } sink;
  event_source source{"http://h/", {.stall_timeout = duration::seconds(1)}};
  (void)source.poll({});
  (void)source.connected({});
  const std::string in = std::string{stream_head} + "data: x\n\n";
  CHECK(source.received({}, in, sink) == in.size());
  CHECK(source.next_deadline() == time_point::never());
  CHECK(source.received(time_point::milliseconds(5000), "", sink) == 0);
  CHECK(source.next_deadline().ms() == 6000);
}

// --- close and restart

TEST_CASE("client: close, at any moment") {
  struct row {
    text name;
    void (*to)(rig&);
    bool connected;
  };
  const row rows[] = {
      {"before the connection", [](rig&) {}, true},
      {"with a request out", [](rig& r) { r.connected(); }, true},
      {"inside the head", [](rig& r) { r.answer("HTTP/1.1 2"); }, true},
      {"open", [](rig& r) { r.answer(stream_head); }, true},
      {"inside an event", [](rig& r) { r.answer(std::string{stream_head} + "data: x"); }, true},
      {"waiting", [](rig& r) { r.ended(); }, false},
  };
  for (const row& t : rows) {
    INFO(t.name);
    rig r;
    t.to(r);
    (void)r.asked();
    (void)r.events();
    r.source.close();
    CHECK((r.source.next_deadline() <= r.now()) == t.connected);
    r.poll();
    CHECK(r.asked() == (t.connected ? list{"disconnect"} : list{}));
    CHECK(r.source.state() == client_state::closed);
    CHECK(r.forever());
    CHECK(r.source.buffered() == 0);
    r.source.close();
    r.source.restart(r.now());
    r.receive("data: x\n\n");
    r.ended();
    r.advance(1'000'000);
    CHECK(r.asked().empty());
    CHECK(r.events().empty());
    CHECK(r.source.connected(r.now()).empty());
  }
}

TEST_CASE("client: close before the first poll") {
  event_source source{"http://h/"};
  source.close();
  CHECK(source.poll({}).what == client_action::none);
  CHECK(source.next_deadline() == time_point::never());
}

TEST_CASE("client: restart") {
  rig r;
  r.answer(std::string{stream_head} + "id: 5\ndata: x\n\ndata: half");
  r.advance(1000);
  (void)r.asked();
  r.source.restart(r.now());
  r.poll();
  CHECK(r.asked() == list{"disconnect", "restarted 3000"});
  CHECK(r.source.state() == client_state::connecting);
  r.source.restart(r.now());  // waiting: at once
  r.poll();
  CHECK(r.asked() == list{"connect h:80"});
  CHECK(header_of(r.answer(stream_head), "Last-Event-ID") == "5");
  r.receive("data: y\n\n");
  CHECK(r.events() == list{"open 200", "5||x", "open 200", "5||y"});
  // While it connects, and between the hops of a redirect: one disconnect for each connection.
  r.source.restart(r.now());
  r.wait();
  r.wait();
  (void)r.asked();
  r.source.restart(r.now());
  r.poll();
  CHECK(r.asked() == list{"disconnect", "restarted 3000"});
  CHECK(r.source.failure().attempts == 0);  // it is nobody's failure
  r.wait();
  (void)r.asked();
  r.connected();
  CHECK(r.source.received(r.now(), redirect(302, "/x"), r.seen) == redirect(302, "/x").size());
  r.source.restart(r.now());
  r.poll();
  CHECK(r.asked() == list{"disconnect", "restarted 3000"});
  // It cannot make a hot loop either.
  rig hot;
  for (int n = 0; n < 100; ++n) {
    hot.source.restart(hot.now());
    hot.source.restart(hot.now());
    hot.poll();
  }
  CHECK(hot.attempts == 1);
}

TEST_CASE("client: callbacks may close and restart") {
  struct actor {
    event_source* source = nullptr;
    text at;
    bool closes = false;
    std::vector<std::string> log;

    void act(text where) {
      log.emplace_back(where);
      if (where != at) return;
      if (closes) {
        source->close();
      } else {
        source->restart(time_point::milliseconds(1000));
      }
    }
    void on_open(const sse::client_response& r) {
      act("open");
      CHECK(r.header("Content-Type") == "text/event-stream");
    }
    void on_event(const sse::event& e) {
      act(e.data);
      CHECK(e.data.size() == 1);
      CHECK(e.id == "5");
    }
    void on_comment(text t) {
      act("comment");
      CHECK(t == "c");
    }
    void on_retry(std::int64_t) { act("retry"); }
    void on_position(text id) { act(id); }
    void on_gap(const sse::gap&) { act("gap"); }
  };
  const std::string in = std::string{chunked_head} +
                         chunk(
                             ": c\nid: 4\n\nretry: 7\nid: 5\ndata: 1\n\nevent: gap\ndata: "
                             "{\"requested\":2,\"first\":9,\"lost\":6}\n\ndata: 2\n\n") +
                         chunk("data: 3\n\n");
  const std::vector<std::string> all = {"open", "comment", "4", "retry", "1", "gap", "2", "3"};
  for (const std::string& at : all) {
    for (const bool closes : {true, false}) {
      for (const std::size_t step : {std::size_t{1}, in.size()}) {
        INFO(at << " " << closes << " " << step);
        event_source source{"http://h/"};
        (void)source.poll({});
        (void)source.connected({});
        actor sink{&source, at, closes, {}};
        for (std::size_t i = 0; i < in.size(); i += step) {
          const text piece = text{in}.substr(i, step);
          CHECK(source.received({}, piece, sink) == piece.size());
        }
        CHECK(source.state() == (closes ? client_state::closed : client_state::connecting));
        std::vector<std::string> expected;  // nothing after it
        for (const std::string& s : all) {
          expected.push_back(s);
          if (s == at) break;
        }
        CHECK(sink.log == expected);
        CHECK(source.buffered() == 0);
        CHECK(source.poll(time_point::milliseconds(1000)).what == client_action::disconnect);
        CHECK(source.poll(time_point::milliseconds(1000)).what ==
              (closes ? client_action::none : client_action::failed));
      }
    }
  }
}

TEST_CASE("client: a sink that throws leaves a source that can go on") {
  struct {
    int left = 1;
    int events = 0;
    void on_event(const sse::event&) {
      if (left-- > 0) throw 1;
      ++events;
    }
  } sink;
  event_source source{"http://h/"};
  (void)source.poll({});
  (void)source.connected({});
  const std::string in = std::string{stream_head} + "data: x\n\n";
  CHECK_THROWS(source.received({}, in, sink));
  source.restart({});
  for (std::int64_t ms = 0;
       source.poll(time_point::milliseconds(ms)).what != client_action::connect; ms += 1000) {
  }
  (void)source.connected(time_point::milliseconds(5000));
  CHECK(source.received(time_point::milliseconds(5000), in, sink) == in.size());
  CHECK(sink.events == 1);
}

TEST_CASE("client: it can be moved, with a stream open") {
  rig r;
  r.answer(std::string{stream_head} + "id: 5\ndata: a\n\ndata: b");
  event_source other{std::move(r.source)};
  recorder seen;
  CHECK(other.received({}, "c\n\n", seen) == 3);
  CHECK(seen.log == list{"5||bc"});
  CHECK(other.url() == "http://h/s");
}

TEST_CASE("client: late inputs are ignored") {
  rig r;
  r.receive(stream_head);  // before connected()
  CHECK(r.events().empty());
  r.connected();
  r.answer(stream_head);
  CHECK(r.source.state() == client_state::open);
  r.ended();
  (void)r.asked();
  r.receive("data: x\n\n");
  r.ended();
  CHECK(r.asked().empty());
  CHECK(r.source.failure().attempts == 1);
  CHECK(r.events() == list{"open 200"});
  // A clock that went back only means a longer wait of at most one interval.
  rig back{{.retry = duration::off()}};
  back.ms = 1'000'000;
  back.ended();
  back.wait();
  back.ms = 0;
  back.ended();
  CHECK(back.source.failure().delay.ms() <= 200);
}

// --- hostile servers: a clear error, bounded memory, linear time

TEST_CASE("client: an endless header") {
  rig r;
  r.connected();
  r.receive("HTTP/1.1 200 OK\r\nA: ");
  std::size_t sent = 0;
  std::size_t held = 0;
  while (r.error() == client_error::none) {
    REQUIRE(sent < 1'000'000);
    r.receive(std::string(1000, 'a'));
    sent += 1000;
    held = std::max(held, r.source.buffered());
  }
  CHECK(r.error() == client_error::head_too_large);
  CHECK(sent <= 66'000);
  CHECK(held <= 66'000);
  CHECK(r.source.buffered() == 0);
  rig many;
  many.connected();
  many.receive("HTTP/1.1 200 OK\r\n");
  for (int i = 0; i < 257; ++i) many.receive("A: b\r\n");
  many.receive("\r\n");
  CHECK(many.error() == client_error::head_too_large);
}

TEST_CASE("client: a 10 MB line in 1-byte reads") {
  constexpr std::size_t size = 10'000'000;
  // Within the default limit it arrives.
  rig r;
  r.answer(std::string{stream_head} + "data: ");
  std::size_t length = 0;
  struct {
    std::size_t* length;
    void on_event(const sse::event& e) { *length = e.data.size(); }
  } sink{&length};
  const char a = 'a';
  std::size_t taken = 0;
  for (std::size_t i = 0; i < size; ++i) taken += r.source.received(r.now(), {&a, 1}, sink);
  CHECK(taken == size);
  CHECK(r.source.buffered() >= size);
  CHECK(r.source.received(r.now(), "\n\n", sink) == 2);
  CHECK(length == size);
  // Above a limit it ends there.
  sse::client_options o;
  o.stream.limits.line = 1'000'000;
  rig limited{o};
  limited.answer(std::string{stream_head} + "data: ");
  std::size_t sent = 0;
  while (limited.source.state() == client_state::open) {
    (void)limited.source.received(limited.now(), {&a, 1}, sink);
    ++sent;
  }
  CHECK(sent == 1'000'000 - 5);
  limited.poll();
  CHECK(limited.error() == client_error::bad_stream);
  CHECK(limited.source.failure().parse == sse::parse_error::line_too_long);
  CHECK(limited.source.buffered() == 0);
}

TEST_CASE("client: a million data lines") {
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "data:x\n";
  rig r;
  r.answer(stream_head);
  for (int i = 0; i < 1000; ++i) r.receive(lines);
  r.receive("\n");
  CHECK(r.seen.log.size() == 2);
  CHECK(r.seen.log.back().size() == 2'000'001);
  sse::client_options o;
  o.stream.limits.data_lines = 999'999;
  rig limited{o};
  limited.answer(stream_head);
  for (int i = 0; i < 1000; ++i) limited.receive(lines);
  CHECK(limited.error() == client_error::bad_stream);
  CHECK(limited.source.failure().parse == sse::parse_error::too_many_lines);
  CHECK(limited.source.buffered() == 0);
}

TEST_CASE("client: a chunk size that lies") {
  rig small;
  small.answer(std::string{chunked_head} + "4\r\ndata: x\n\n\r\n0\r\n\r\n");
  CHECK(small.error() == client_error::bad_framing);
  CHECK(small.events() == list{"open 200"});
  rig large{{.stall_timeout = duration::seconds(20)}};
  large.answer(std::string{chunked_head} + "ffffffffffffffff\r\ndata: x\n\n\r\n0\r\n\r\n");
  CHECK(large.source.state() == client_state::open);
  CHECK(large.source.buffered() < 1000);
  large.ended();
  CHECK(large.error() == client_error::cut);
  rig overflow;
  overflow.answer(std::string{chunked_head} + "10000000000000005\r\ndata: x\n\n");
  CHECK(overflow.error() == client_error::bad_framing);
}

TEST_CASE("client: other limits of the stream") {
  const auto error = [](text stream) {
    sse::client_options o;
    o.stream.limits = {.line = 100, .event = 50, .data_lines = 3, .id = 10, .type = 10};
    rig r{o};
    r.answer(std::string{stream_head} + "data: first\n\n");
    r.receive(stream);
    CHECK(r.error() == client_error::bad_stream);
    CHECK(r.source.failure().was_open);
    CHECK(r.source.failure().delay.ms() == 3000);
    CHECK(r.source.buffered() == 0);
    return std::string{sse::describe(r.source.failure())};
  };
  CHECK(error(std::string(101, 'x')) == "the stream has a line that is too long");
  CHECK(error("data:" + std::string(51, 'x') + "\n") ==
        "the stream has an event that is too large");
  CHECK(error("data\ndata\ndata\ndata\n") == "the stream has an event of too many lines");
  CHECK(error("id:" + std::string(11, 'x') + "\n") == "the stream has an id that is too long");
  CHECK(error("event:" + std::string(11, 'x') + "\n") ==
        "the stream has an event type that is too long");
}
