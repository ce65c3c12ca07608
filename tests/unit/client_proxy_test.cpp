// Proxies of an event_source: how they are named, who is reached without, and what goes through.
#include <sse/client.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"

namespace {

using sse::client_action;
using sse::client_error;
using sse::client_options;
using sse::client_state;
using sse::duration;
using sse::time_point;
using sse::url_error;
using text = std::string_view;

constexpr text opened = "HTTP/1.1 200 Connection established\r\n\r\n";
constexpr text stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// A source behind proxies; what it asks for is written down.
struct proxied_rig {
  explicit proxied_rig(text url, const sse::proxy_options& proxy, client_options o = {})
      : source{url, (o.proxy = proxy, o.jitter = 0, o)} {
    poll();
  }

  sse::event_source source;
  std::int64_t ms = 0;
  std::vector<std::string> log{};
  std::vector<std::string> events{};

  [[nodiscard]] time_point now() const { return time_point::milliseconds(ms); }
  void on_event(const sse::event& e) { events.emplace_back(e.data); }

  void poll() {
    for (;;) {
      const client_action a = source.poll(now());
      const std::string where = std::string{a.host} + ":" + std::to_string(a.port) +
                                (a.tls ? " tls" : "") + (a.tunnel ? " tunnel" : "");
      switch (a.what) {
        case client_action::none: return;
        case client_action::connect: log.push_back("connect " + where); break;
        case client_action::secure: log.push_back("secure " + where); break;
        case client_action::disconnect: log.push_back("disconnect"); break;
        case client_action::failed: log.push_back(sse::explain(source.failure())); break;
      }
    }
  }
  std::vector<std::string> asked() { return std::exchange(log, {}); }
  std::string connected() {
    std::string request{source.connected(now())};
    poll();
    return request;
  }
  void receive(text in) {
    CHECK(source.received(now(), in, *this) == in.size());
    poll();
  }
  void ended(client_error why = client_error::none) {
    source.ended(now(), why);
    poll();
  }
  void wait() {
    REQUIRE(source.next_deadline() < time_point::never());
    ms = source.next_deadline().ms();
    poll();
  }
};

using asked_list = std::vector<std::string>;

/// What is wrong with the URL of a proxy; none: nothing.
url_error proxy_error(text proxy) {
  const proxied_rig a{"http://h/", {.http = proxy}};
  const proxied_rig b{"http://h/", {.https = proxy}};
  const bool bad = a.source.state() == client_state::closed;
  CHECK(bad == (b.source.state() == client_state::closed));
  CHECK(a.source.failure().url == b.source.failure().url);
  CHECK(a.source.failure().option == (bad ? "proxy" : ""));
  CHECK(a.source.failure().error == (bad ? client_error::bad_options : client_error::none));
  return a.source.failure().url;
}

/// Whether a URL is reached without the proxy.
bool reached_without(text url, text except) {
  proxied_rig r{url, {.http = "http://p:1", .https = "http://p:1", .except = except}};
  const asked_list asked = r.asked();
  REQUIRE(asked.size() == 1);
  return asked[0] != "connect p:1" && asked[0] != "connect p:1 tunnel";
}

std::string authorization(text user) {
  proxied_rig r{"http://h/", {.http = "http://" + std::string{user} + "@p:1"}};
  const std::string request = r.connected();
  const std::size_t at = request.find("\r\nProxy-Authorization: ");
  REQUIRE(at != text::npos);
  return request.substr(at + 23, request.find('\r', at + 2) - at - 23);
}

}  // namespace

TEST_CASE("proxy: http is asked of it by its whole URL", "[client]") {
  const sse::header own[] = {{"X-Own", "1"}};
  proxied_rig r{"http://Example.org/a?b",
                {.http = "http://u:p@proxy.test:3128/", .https = "http://other.test"},
                {.headers = own}};
  CHECK(r.asked() == asked_list{"connect proxy.test:3128"});
  CHECK(r.connected() ==
        "GET http://example.org/a?b HTTP/1.1\r\nHost: example.org\r\nAccept: text/event-stream\r\n"
        "Cache-Control: no-cache\r\nUser-Agent: ssehub/" SSEHUB_VERSION
        "\r\nAccept-Encoding: identity\r\nProxy-Authorization: Basic dTpw\r\n"
        "Connection: close\r\nX-Own: 1\r\n\r\n");
  r.receive(std::string{stream} + "data: x\n\n");
  CHECK(r.events == asked_list{"x"});
  CHECK(r.source.origin() == "http://example.org");
}

TEST_CASE("proxy: https goes through a tunnel, and nothing of ours is said in front of it",
          "[client]") {
  const sse::header own[] = {{"Authorization", "Bearer secret"}};
  const std::size_t step = GENERATE(1U, 7U, 1000U);
  proxied_rig r{"https://example.org/a?token=1",
                {.http = "http://other.test", .https = "http://u:p@[::1]:8888"},
                {.headers = own, .last_event_id = "7"}};
  CHECK(r.asked() == asked_list{"connect ::1:8888 tunnel"});
  CHECK(r.connected() ==
        "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n"
        "User-Agent: ssehub/" SSEHUB_VERSION "\r\nProxy-Authorization: Basic dTpw\r\n\r\n");
  CHECK(r.connected().empty());
  for (text rest = opened; !rest.empty(); rest.remove_prefix(std::min(step, rest.size()))) {
    CHECK(r.source.reads());
    CHECK(r.asked().empty());
    r.receive(rest.substr(0, step));
  }
  CHECK_FALSE(r.source.reads());
  CHECK(r.asked() == asked_list{"secure example.org:443 tls"});
  const std::string request = r.connected();
  CHECK(request.starts_with("GET /a?token=1 HTTP/1.1\r\nHost: example.org\r\n"));
  CHECK(request.find("Proxy-Authorization") == text::npos);
  CHECK(request.find("\r\nAuthorization: Bearer secret\r\n") != text::npos);
  CHECK(request.find("\r\nLast-Event-ID: 7\r\n") != text::npos);
  r.receive(std::string{stream} + "data: x\n\n");
  CHECK(r.events == asked_list{"x"});
  // And so again.
  r.ended();
  CHECK_FALSE(r.source.failure().at_proxy);
  r.wait();
  CHECK(r.asked().back() == "connect ::1:8888 tunnel");
}

TEST_CASE("proxy: a port and an IPv6 address stand in CONNECT as they are", "[client]") {
  for (const auto& [url, authority] : {std::pair<text, text>{"https://h:8443/", "h:8443"},
                                       {"https://[2001:DB8::1]/", "[2001:db8::1]:443"},
                                       {"https://[::1]:1/", "[::1]:1"},
                                       {"https://127.0.0.1:443/", "127.0.0.1:443"}}) {
    proxied_rig r{url, {.https = "http://p"}};
    CHECK(r.asked() == asked_list{"connect p:80 tunnel"});
    CHECK(r.connected().starts_with("CONNECT " + std::string{authority} +
                                    " HTTP/1.1\r\nHost: " + std::string{authority} + "\r\n"));
  }
}

TEST_CASE("proxy: what it may answer to CONNECT", "[client]") {
  struct row {
    text answer;
    bool opens, final;
    int status;
  };
  const row rows[] = {
      {"HTTP/1.1 200 OK\r\n\r\n", true, false, 0},
      {"HTTP/1.0 200 Connection established\r\n\r\n", true, false, 0},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 299 x\r\n\r\n", true, false, 0},
      {"HTTP/1.1 200 OK\nContent-Length: 5\n\n", true, false, 0},  // means nothing here
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: x\r\n\r\n", true, false, 0},
      {"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n", false, true, 407},
      {"HTTP/1.1 403 x\r\nContent-Length: 3\r\n\r\nno!", false, true, 403},
      {"HTTP/1.1 302 x\r\nLocation: http://evil.test/\r\n\r\n", false, true, 302},
      {"HTTP/1.1 429 x\r\n\r\n", false, false, 429},
      {"HTTP/1.1 502 x\r\n\r\n", false, false, 502},
      {"HTTP/1.1 503 x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false, false,
       0},
      {"HTTP/1.1 200 OK\r\n\r\nSSH-2.0", false, false, 0},  // who speaks here is not the server
      {"SSH-2.0-x\r\n", false, false, 0},
      {"HTTP/2 200\r\n\r\n", false, false, 0},
  };
  for (const row& t : rows) {
    INFO(t.answer);
    proxied_rig r{"https://h/", {.https = "http://p:1"}};
    r.connected();
    (void)r.asked();
    r.receive(t.answer);
    if (t.opens) {
      CHECK(r.asked() == asked_list{"secure h:443 tls"});
      continue;
    }
    CHECK(r.source.failure().error == client_error::proxy);
    CHECK(r.source.failure().at_proxy);
    CHECK(r.source.failure().status == t.status);
    CHECK(r.source.failure().final == t.final);
    CHECK(r.source.buffered() == 0);
    CHECK(r.asked()[0] == "disconnect");
  }
  // 5xx is the proxy's way to say that there is no connection, whatever is tried again of servers.
  proxied_rig strict{"https://h/", {.https = "http://p:1"}, {.retry_statuses = ""}};
  strict.connected();
  strict.receive("HTTP/1.1 504 x\r\nRetry-After: 20\r\n\r\n");
  CHECK(strict.source.failure().delay == duration::seconds(20));
  strict.wait();
  strict.connected();
  strict.receive("HTTP/1.1 429 x\r\n\r\n");
  CHECK(strict.source.failure().final);
  CHECK(sse::explain(strict.source.failure()) ==
        "the proxy opened no tunnel to the server but answered 429");
}

TEST_CASE("proxy: an endless answer to CONNECT ends", "[client]") {
  proxied_rig r{"https://h/", {.https = "http://p:1"}, {.max_head = 1000}};
  r.connected();
  r.receive("HTTP/1.1 200 OK\r\nX: ");
  for (int n = 0; n < 100; ++n) r.receive(std::string(100, 'x'));
  CHECK(r.source.failure().error == client_error::proxy);
  CHECK(r.source.buffered() == 0);
}

TEST_CASE("proxy: one deadline for connection, tunnel and handshake", "[client]") {
  for (int reached = 0; reached < 3; ++reached) {
    proxied_rig r{"https://h/", {.https = "http://p:1"}};
    r.ms = 20'000;
    if (reached > 0) r.connected();
    if (reached > 1) r.receive(opened);
    r.ms = 29'999;
    r.poll();
    CHECK(r.source.failure().error == client_error::none);
    r.ms = 30'000;
    r.poll();
    CHECK(r.source.failure().error == client_error::connect_timeout);
    CHECK(r.source.failure().at_proxy == (reached < 2));
    CHECK(r.asked().back() == (reached < 2
                                   ? "the connection was not made in time, on the way to the proxy"
                                   : "the connection was not made in time"));
    CHECK(r.source.connected(r.now()).empty());
  }
}

TEST_CASE("proxy: a connection that ends on the way", "[client]") {
  const auto after = [](int steps, client_error told) {
    proxied_rig r{"https://h/", {.https = "http://p:1"}};
    if (steps > 0) r.connected();
    if (steps > 1) r.receive(opened);
    r.ended(told);
    CHECK(r.source.state() == client_state::connecting);
    CHECK(r.source.failure().at_proxy == (steps < 2));
    return r.source.failure().error;
  };
  CHECK(after(0, client_error::none) == client_error::connect);
  CHECK(after(0, client_error::resolve) == client_error::resolve);
  CHECK(after(1, client_error::none) == client_error::proxy);
  CHECK(after(1, client_error::read) == client_error::read);
  CHECK(after(2, client_error::none) == client_error::tls);
  CHECK(after(2, client_error::tls) == client_error::tls);
}

TEST_CASE("proxy: close and restart at any point of the way", "[client]") {
  for (const bool restart : {false, true}) {
    for (int steps = 0; steps < 4; ++steps) {
      proxied_rig r{"https://h/", {.https = "http://p:1"}};
      if (steps > 0) r.connected();
      if (steps > 1) (void)r.source.received(r.now(), opened, r);
      if (steps > 2) r.poll();
      (void)r.asked();
      restart ? r.source.restart(r.now()) : r.source.close();
      r.poll();
      CHECK(r.asked()[0] == "disconnect");
      CHECK(r.connected().empty());
      CHECK(r.source.buffered() == 0);
      if (restart) {
        r.wait();
        CHECK(r.asked() == asked_list{"connect p:1 tunnel"});
      }
    }
  }
}

TEST_CASE("proxy: each redirect chooses its way anew", "[client]") {
  proxied_rig r{"http://h/",
                {.http = "http://p1:1", .https = "http://p2:2", .except = "near.test"}};
  CHECK(r.asked() == asked_list{"connect p1:1"});
  r.connected();
  r.receive("HTTP/1.1 307 x\r\nLocation: https://far.test/x\r\n\r\n");
  CHECK(r.asked() == asked_list{"disconnect", "connect p2:2 tunnel"});
  CHECK(r.connected().starts_with("CONNECT far.test:443 "));
  r.receive(opened);
  CHECK(r.asked() == asked_list{"secure far.test:443 tls"});
  CHECK(r.connected().starts_with("GET /x "));
  r.receive("HTTP/1.1 307 x\r\nLocation: https://near.test/y\r\n\r\n");
  CHECK(r.asked() == asked_list{"disconnect", "connect near.test:443 tls"});
  CHECK(r.connected().starts_with("GET /y "));
  r.receive(stream);
  CHECK(r.source.state() == client_state::open);
}

TEST_CASE("proxy: credentials of a proxy are nobody else's", "[client]") {
  proxied_rig r{"http://h/", {.http = "http://u:p@p1:1", .except = "near.test"}};
  CHECK(r.connected().find("dTpw") != text::npos);
  r.receive("HTTP/1.1 302 x\r\nLocation: http://near.test/\r\n\r\n");
  CHECK(r.connected().find("Proxy-") == text::npos);
  const sse::header headers[] = {{"Proxy-Authorization", "Basic x"}};
  const sse::event_source refused{"http://h/", {.headers = headers}};
  CHECK(refused.failure().option == "headers");
}

TEST_CASE("proxy: the URL of one, read strictly", "[client]") {
  for (const text good :
       {"", "http://p", "http://p/", "HTTP://P:3128", "http://u@p", "http://u:@p", "http://:p@p",
        "http://u:p%40%3A%2F@127.0.0.1:1/", "http://[::1]:1", "http://a~b!$&'()*+,;=:c@p"}) {
    INFO(good);
    CHECK(proxy_error(good) == url_error::none);
  }
  const std::pair<text, url_error> rows[] = {
      {"p:3128", url_error::scheme},
      {"https://p", url_error::scheme},
      {"socks5://p", url_error::scheme},
      {"http:/p", url_error::scheme},
      {" http://p", url_error::scheme},
      {"http://", url_error::host},
      {"http://u:p@", url_error::host},
      {"http://p/path", url_error::host},
      {"http://p?q", url_error::host},
      {"http://p#f", url_error::host},
      {"http://u:p/w@p", url_error::host},
      {"http://p\\@evil.test", url_error::user_info},
      {"http://u#@p", url_error::user_info},
      {"http://u?@p", url_error::user_info},
      {"http://a b@p", url_error::user_info},
      {"http://u:\xC3\xA9@p", url_error::user_info},
      {"http://u:%@p", url_error::user_info},
      {"http://u:%4@p", url_error::user_info},
      {"http://u:%0D%0AX:%20y@p", url_error::user_info},
      {"http://u:%00@p", url_error::user_info},
      {"http://u%3Av:p@p", url_error::user_info},
      {"http://u:p@q@p", url_error::user_info},
      {"http://127.1", url_error::host},
      {"http://0x7f.1", url_error::host},
      {"http://0177.0.0.1", url_error::host},
      {"http://2130706433", url_error::host},
      {"http://1.2.3.4.", url_error::host},
      {"http://[::1%25lo]", url_error::host},
      {"http://[::ffff:1.2.3]", url_error::host},
      {"http://[::99999999.0.0.1]", url_error::host},
      {"http://p%2e.test", url_error::host},
      {"http://p:0", url_error::port},
      {"http://p:65536", url_error::port},
      {"http://p:+80", url_error::port},
      {"http://p\r\nX: y", url_error::character},
  };
  for (const auto& [url, error] : rows) {
    INFO(url);
    CHECK(proxy_error(url) == error);
  }
  const proxied_rig r{"http://h/", {.http = "socks5://p"}};
  CHECK(r.log == asked_list{"an option is not valid: proxy, in its URL: scheme"});
}

TEST_CASE("proxy: user and password in base64", "[client]") {
  CHECK(authorization("u:p") == "Basic dTpw");
  CHECK(authorization("u") == "Basic dTo=");
  CHECK(authorization("ab:cd") == "Basic YWI6Y2Q=");
  CHECK(authorization("ab:cde") == "Basic YWI6Y2Rl");
  CHECK(authorization("Aladdin:open%20sesame") ==
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");                         // RFC 7617
  CHECK(authorization("test:123%C2%A3") == "Basic dGVzdDoxMjPCow==");  // 2.1
  CHECK(authorization("u:p:q") == "Basic dTpwOnE=");
  CHECK(authorization("u:%FF%FE%3F") == "Basic dTr//j8=");
}

TEST_CASE("proxy: who is reached without", "[client]") {
  CHECK_FALSE(reached_without("http://h/", ""));
  CHECK(reached_without("http://h/", "*"));
  CHECK(reached_without("https://h/", "*"));
  CHECK(reached_without("http://h/", "h"));
  CHECK(reached_without("http://a.h/", "h"));
  CHECK(reached_without("http://a.h/", ".h"));
  CHECK(reached_without("http://a.h/", "*.h"));
  CHECK(reached_without("http://h/", ".h"));
  CHECK(reached_without("http://h./", "h"));
  CHECK(reached_without("http://A.b.H/", "B.h"));
  CHECK_FALSE(reached_without("http://ah/", "h"));
  CHECK_FALSE(reached_without("http://h.a/", "h"));
  CHECK_FALSE(reached_without("http://h/", "a.h"));
  CHECK(reached_without("http://h/", "x, y ,h"));
  CHECK(reached_without("http://h/", "x y\th"));
  CHECK_FALSE(reached_without("http://h/", " , ,."));
  // ports
  CHECK(reached_without("http://h:81/", "h:81"));
  CHECK(reached_without("https://h/", "h:443"));
  CHECK_FALSE(reached_without("http://h/", "h:81"));
  CHECK_FALSE(reached_without("http://h/", "h:x"));
  CHECK_FALSE(reached_without("http://h/", "h:"));
  // addresses
  CHECK(reached_without("http://127.0.0.1/", "127.0.0.1"));
  CHECK(reached_without("http://127.0.0.1:81/", "127.0.0.1:81"));
  CHECK_FALSE(reached_without("http://127.0.0.1/", "0.0.1"));
  CHECK_FALSE(reached_without("http://127.0.0.1/", "1"));
  CHECK(reached_without("http://[::1]/", "::1"));
  CHECK(reached_without("http://[::1]/", "[::1]"));
  CHECK(reached_without("http://[::1]/", "0:0::1"));
  CHECK(reached_without("http://[::1]:81/", "[::1]:81"));
  CHECK_FALSE(reached_without("http://[::1]/", "[::1]:81"));
  CHECK_FALSE(reached_without("http://[::1]/", "::2"));
  CHECK(reached_without("http://10.1.2.3/", "10.0.0.0/8"));
  CHECK(reached_without("http://10.1.2.3/", "10.1.2.2/31"));
  CHECK_FALSE(reached_without("http://10.1.2.4/", "10.1.2.2/31"));
  CHECK_FALSE(reached_without("http://11.0.0.1/", "10.0.0.0/8"));
  CHECK(reached_without("http://11.0.0.1/", "0.0.0.0/0"));
  CHECK_FALSE(reached_without("http://11.0.0.1/", "11.0.0.1/33"));
  CHECK_FALSE(reached_without("http://11.0.0.1/", "11.0.0.1/"));
  CHECK_FALSE(reached_without("http://[::1]/", "0.0.0.0/0"));
  CHECK(reached_without("http://[fd12::1]/", "fd00::/8"));
  CHECK_FALSE(reached_without("http://[fe12::1]/", "fd00::/8"));
  CHECK_FALSE(reached_without("http://h/", "10.0.0.0/8,[,]:1,:,::/0"));
}

TEST_CASE("proxy: a source that was moved keeps its way", "[client]") {
  proxied_rig r{"https://h/", {.https = "http://u:p@p:1"}};
  sse::event_source moved{std::move(r.source)};
  CHECK(std::string{moved.connected(r.now())}.starts_with("CONNECT h:443 "));
  (void)moved.received(r.now(), opened, r);
  CHECK(moved.poll(r.now()).what == client_action::secure);
  CHECK(std::string{moved.connected(r.now())}.starts_with("GET / "));
}
