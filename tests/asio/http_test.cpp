// Plain requests over real sockets: routes, methods, bodies, pipelining, refusals, deadlines.
#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "asio/client.hpp"
#include "catch.hpp"

using std::chrono::milliseconds;
using test::client;

namespace {

sse::response text(std::string s) { return sse::response::text(200, std::move(s)); }

/// A server with some routes.
struct site {
  explicit site(sse::server_options o = {}) : s{std::move(o)} {
    s.on_loop([&] {
      s->get("/health", [](const sse::request&) { return sse::response::json(200, "{}"); });
      s->get("/echo", [](const sse::request& r) {
        return text(std::string{r.method} + " " + std::string{r.query});
      });
      s->post("/echo",
              [](const sse::request&, std::string_view body) { return text(std::string{body}); });
      s->page("/", "<p>hello", {.content_security_policy = "default-src 'self'"});
    });
  }
  test::server<> s;
};

const std::string get_health = client::make("GET", "/health");

}  // namespace

TEST_CASE("plain requests are answered, connection kept alive") {
  site w;
  client c{w.s.port()};
  for (int i = 0; i < 3; ++i) {
    const test::answer a = c.get("/health");
    CHECK(a.status == 200);
    CHECK(a.body == "{}");
    CHECK(a.header("Connection") == "keep-alive");
    CHECK(a.header("X-Content-Type-Options") == "nosniff");
  }
  CHECK(c.get("/echo?a=b").body == "GET a=b");
  CHECK(c.post("/echo", "some text").body == "some text");
  CHECK(c.post("/echo", "").body.empty());
  CHECK(c.get("/health", "Connection: close\r\n").header("Connection") == "close");
  CHECK(c.rest().empty());
  CHECK_FALSE(c.was_reset);
}

TEST_CASE("a page comes from memory with its headers") {
  site w;
  client c{w.s.port()};
  const test::answer a = c.get("/");
  CHECK(a.body == "<p>hello");
  CHECK(a.header("Content-Type") == "text/html; charset=utf-8");
  CHECK(a.header("Cache-Control") == "no-cache");
  CHECK(a.header("Content-Security-Policy") == "default-src 'self'");
}

TEST_CASE("E-23 E-24 X-24 wrong method, unknown path, HEAD, OPTIONS") {
  site w;
  client c{w.s.port()};
  const test::answer unknown = c.get("/nothing");
  CHECK(unknown.status == 404);
  CHECK(unknown.body == R"({"error":"not_found"})");
  const test::answer wrong = c.post("/health", "");
  CHECK(wrong.status == 405);
  CHECK(wrong.header("Allow") == "GET, HEAD, OPTIONS");
  CHECK(wrong.body == R"({"error":"method_not_allowed"})");
  CHECK(c.ask(client::make("BREW", "/echo")).header("Allow") == "GET, HEAD, POST, OPTIONS");

  c.send(client::make("HEAD", "/echo") + client::make("GET", "/health"));
  const test::answer head = c.head();  // no body: the next answer follows at once
  CHECK(head.status == 200);
  CHECK(head.header("Content-Length") == "5");
  CHECK(c.whole_answer().body == "{}");

  const test::answer options = c.ask(client::make("OPTIONS", "/nothing"));
  CHECK(options.status == 204);
  CHECK(options.header("Allow") == "GET, POST, OPTIONS");
  CHECK(c.ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").status == 204);
}

TEST_CASE("V-44 CORS stands on every response") {
  static constexpr std::string_view any[] = {"*"};
  site w{{.limits = {.head = 2000},
          .cors = {.origins = any, .methods = "GET,POST,OPTIONS", .on_every_answer = true}}};
  sse::channel ticks = w.s.open("ticks");
  w.s.on_loop([&] {
    w.s->stream("/events", ticks);
    w.s->get("/throws", [](const sse::request&) -> sse::response { throw 1; });
  });
  const auto check = [](const test::answer& a, int status) {
    INFO(a.head);
    CHECK(a.status == status);
    CHECK(a.header("Access-Control-Allow-Origin") == "*");
    CHECK(a.header("Access-Control-Allow-Methods") == "GET,POST,OPTIONS");
    CHECK(a.header("Access-Control-Allow-Headers") == "Content-Type");
  };
  client c{w.s.port()};
  check(c.get("/health"), 200);
  check(c.get("/nothing"), 404);
  check(c.post("/health", ""), 405);
  check(c.get("/throws"), 500);
  check(c.get("/events", "Accept: application/json\r\n"), 406);
  check(c.ask(client::make("OPTIONS", "/events")), 204);
  check(c.ask(client::make("HEAD", "/events")), 200);
  check(c.ask("nonsense\r\n\r\n"), 400);
  check(client{w.s.port()}.get("/" + std::string(3000, 'x')), 414);
  check(client{w.s.port()}.open("/events"), 200);
}

TEST_CASE("E-22 the status of a preflight is an option") {
  site w{{.preflight_status = 200}};
  CHECK(client{w.s.port()}.ask(client::make("OPTIONS", "/x")).status == 200);
}

TEST_CASE("pipelined requests are answered in order, also those that are answered later") {
  site w;
  std::vector<sse::responder> waiting;
  w.s.on_loop([&] {
    w.s->get("/later",
             [&](const sse::request&, sse::responder r) { waiting.push_back(std::move(r)); });
    w.s->get("/at-once", [&](const sse::request&, sse::responder r) { r(text("at once")); });
  });
  client c{w.s.port()};
  std::string all = get_health + "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody" +
                    client::make("GET", "/later") + client::make("GET", "/echo?last") +
                    client::make("GET", "/at-once") + get_health;
  c.send(all);
  CHECK(c.whole_answer().body == "{}");
  CHECK(c.whole_answer().body == "body");
  REQUIRE(w.s.eventually([&] { return waiting.size() == 1; }));
  std::thread{[r = std::move(waiting[0])]() mutable { r(text("from a thread")); }}.join();
  CHECK(c.whole_answer().body == "from a thread");
  CHECK(c.whole_answer().body == "GET last");
  CHECK(c.whole_answer().body == "at once");
  CHECK(c.whole_answer().body == "{}");

  SECTION("many, byte by byte and at once") {
    all.clear();
    for (int i = 0; i < 300; ++i) all += client::make("GET", "/echo?" + std::to_string(i));
    c.send(all);
    for (int i = 0; i < 300; ++i) CHECK(c.whole_answer().body == "GET " + std::to_string(i));
    for (const char b : get_health) c.send({&b, 1});
    CHECK(c.whole_answer().body == "{}");
  }
  SECTION("a dropped responder answers 500, a late one does nothing") {
    waiting.clear();
    c.send(client::make("GET", "/later"));
    REQUIRE(w.s.eventually([&] { return waiting.size() == 1; }));
    w.s.on_loop([&] { waiting.clear(); });
    CHECK(c.whole_answer().status == 500);
    c.send(client::make("GET", "/later"));
    REQUIRE(w.s.eventually([&] { return waiting.size() == 1; }));
    w.s.on_loop([&] { w.s->stop(); });
    w.s.on_loop([&] { waiting[0](text("too late")); });
    CHECK(c.rest().empty());
  }
  w.s.on_loop([&] { waiting.clear(); });
}

TEST_CASE("answers larger than every buffer, read slowly") {
  site w{{.send_buffer = 4096}};
  const std::string large(400'000, 'x');
  w.s.on_loop([&] { w.s->page("/large", large); });
  client c{w.s.port(), 4096};
  c.send(client::make("GET", "/large") + client::make("GET", "/large") + get_health);
  CHECK(c.whole_answer().body == large);
  CHECK(c.whole_answer().body == large);
  CHECK(c.whole_answer().body == "{}");
}

TEST_CASE("X-23 HTTP/1.0 gets an answer and the end, or keep-alive if it asks") {
  site w;
  client c{w.s.port()};
  c.send("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  CHECK(c.whole_answer().header("Connection") == "keep-alive");
  c.send("GET /health HTTP/1.0\r\n\r\n");
  const test::answer a = c.whole_answer();
  CHECK(a.header("Connection") == "close");
  CHECK(a.body == "{}");
  CHECK(c.rest().empty());
}

TEST_CASE("bad requests get their status, then the end, and disturb nobody") {
  site w{{.limits = {.body = 100}}};
  sse::channel ticks = w.s.open("ticks");
  w.s.on_loop([&] { w.s->stream("/events", ticks); });
  client stream{w.s.port()};
  REQUIRE(stream.open("/events").status == 200);

  const std::string h = " HTTP/1.1\r\nHost: x\r\n";
  const std::pair<std::string, int> bad[] = {
      {"\x16\x03\x01\x02 garbage of a TLS client", 400},
      {"GET /health\r\n\r\n", 400},
      {"GET /health HTTP/1.1\r\n\r\n", 400},
      {"GET /health HTTP/2.0\r\n\r\n", 505},
      {"GET /health HTTP/1.1\nHost: x\n\n", 400},
      {"GET /../etc/passwd" + h + "\r\n", 404},
      {"GET /%00" + h + "\r\n", 404},
      {"POST /echo" + h + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400},
      {"POST /echo" + h + "Content-Length: 101\r\n\r\n" + std::string(101, 'x'), 413},
      {"POST /echo" + h + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"POST /echo" + h + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"GET /health" + h + "Expect: tea\r\n\r\n", 417},
      {"GET /health" + h + "Long: " + std::string(1'000'000, 'x') + "\r\n\r\n", 431},
      {"GET /" + std::string(1'000'000, 'x') + h + "\r\n", 414},
      {"GET /health" + h + std::string(1, '\0') + "\r\n\r\n", 400},
      // A body that nobody reads: answered, and the connection ends.
      {"POST /nothing" + h + "Content-Length: 5\r\n\r\nabcde" + get_health, 404},
      {"POST /health" + h + "Content-Length: 5\r\n\r\nabcde" + get_health, 405},
  };
  for (const auto& [request, status] : bad) {
    INFO(request.substr(0, 200));
    client c{w.s.port()};
    (void)c.try_send(request);
    const test::answer a = c.whole_answer();
    CHECK(a.status == status);
    CHECK(a.header("Connection") == "close");
    CHECK(c.rest().empty());
    CHECK_FALSE(c.was_reset);
  }
  w.s.publish(ticks, "still here");
  CHECK(stream.data() == "still here");
  CHECK(client{w.s.port()}.get("/health").status == 200);
}

TEST_CASE("Expect: 100-continue is answered before the body, or refused without it") {
  site w;
  client c{w.s.port()};
  c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
  CHECK(c.until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  c.send("body");
  CHECK(c.whole_answer().body == "body");
  c.send("POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
  CHECK(c.whole_answer().status == 404);
  CHECK(c.rest().empty());
}

TEST_CASE("deadlines: head, body, keep-alive, and a client that does not read its answer") {
  site w{{.hub = {.write_deadline = milliseconds{500}},
          .head_deadline = milliseconds{500},
          .body_deadline = milliseconds{500},
          .keep_alive = milliseconds{500},
          .send_buffer = 4096}};
  w.s.on_loop([&] { w.s->page("/large", std::string(20'000'000, 'x')); });
  client silent{w.s.port()};
  client half_head{w.s.port()};
  half_head.send("GET /health HTT");
  client half_body{w.s.port()};
  half_body.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  client idle{w.s.port()};
  CHECK(idle.get("/health").status == 200);
  client deaf{w.s.port(), 4096};
  deaf.send(client::make("GET", "/large"));

  CHECK(silent.rest().empty());
  CHECK(half_head.whole_answer().status == 408);
  CHECK(half_head.rest().empty());
  half_head.close();
  CHECK(half_body.whole_answer().status == 408);
  CHECK(half_body.rest().empty());
  half_body.close();
  CHECK(idle.rest().empty());
  CHECK_FALSE(idle.was_reset);
  idle.close();
  CHECK(w.s.eventually([&] { return w.s->connections() == 0; }));
  CHECK(client{w.s.port()}.get("/health").status == 200);
}

TEST_CASE("a head that drips in is held to one deadline for the whole of it") {
  site w{{.head_deadline = milliseconds{500}, .keep_alive = milliseconds{60'000}}};
  client c{w.s.port()};
  CHECK(c.get("/health").status == 200);  // the second head of a connection too
  const auto begin = std::chrono::steady_clock::now();
  c.send("GET /health HTTP/1.1\r\nHost: x\r\n");
  std::atomic<bool> answered = false;
  std::thread drip{[&] {
    while (!answered && c.try_send("X: y\r\n")) std::this_thread::sleep_for(milliseconds{20});
  }};
  const test::answer a = c.whole_answer();
  answered = true;
  drip.join();
  CHECK(a.status == 408);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{5});
}

TEST_CASE("many slow heads: others are served meanwhile, and they are gone in time") {
  REQUIRE(test::allow_descriptors(1200));
  site w{{.head_deadline = milliseconds{500}}};
  std::vector<client> slow;
  for (int i = 0; i < 500; ++i) {
    slow.emplace_back(w.s.port());
    slow.back().send("GET /health HTTP/1.1\r\nHost");
  }
  CHECK(client{w.s.port()}.get("/health").status == 200);
  for (client& c : slow) CHECK(c.whole_answer().status == 408);
  slow.clear();
  CHECK(w.s.eventually([&] { return w.s->connections() == 0; }));
}

TEST_CASE("a handler that throws answers 500, is reported, and the server goes on") {
  site w;
  std::vector<std::string> errors;
  w.s.on_loop([&] {
    w.s->on_error(
        [&](std::string_view what, const std::error_code&) { errors.emplace_back(what); });
    w.s->get("/throws",
             [](const sse::request&) -> sse::response { throw std::runtime_error("one"); });
    w.s->get("/odd", [](const sse::request&) -> sse::response { throw 1; });
    w.s->get("/later",
             [](const sse::request&, sse::responder) { throw std::runtime_error("two"); });
    w.s->stream("/stream",
                [](const sse::request&) -> sse::verdict<> { throw std::runtime_error("three"); });
    w.s->stream_post("/posted", [](const sse::request&, std::string_view) -> sse::verdict<> {
      throw std::runtime_error("four");
    });
    w.s->get("/bad", [](const sse::request&) { return sse::response{.status = 7}; });
  });
  client c{w.s.port()};
  for (const char* path : {"/throws", "/odd", "/later", "/stream", "/bad"}) {
    INFO(path);
    CHECK(c.get(path).status == 500);
  }
  CHECK(c.post("/posted", "x").status == 500);
  CHECK(c.get("/health").status == 200);
  const std::vector<std::string> seen = w.s.on_loop([&] { return errors; });
  REQUIRE(seen.size() == 6);
  CHECK(seen[0] == "one");
  CHECK(seen[2] == "two");
  CHECK(seen[3] == "three");
  CHECK(seen[5] == "four");
}

TEST_CASE("refusals take the form that the host gives them") {
  site w;
  w.s.on_loop([&] {
    w.s->error_page([](const sse::refused_request& r) {
      if (r.status == 405) throw std::runtime_error("no page for that");
      return sse::response::text(1, std::string{to_string(r.why)} + "!");
    });
    w.s->stream("/events", w.s->open_channel("ticks").here);
    w.s->stream("/none", [](const sse::request&) { return sse::admit(); });
  });
  client c{w.s.port()};
  const test::answer a = c.get("/nothing");
  CHECK(a.status == 404);
  CHECK(a.header("Content-Type") == "text/plain; charset=utf-8");
  CHECK(a.body == "http!");
  CHECK(c.post("/health", "").body == R"({"error":"method_not_allowed"})");
  CHECK(c.get("/events", "Accept: text/html\r\n").body == "http!");
  const test::answer bad = c.get("/events?last_id=x");
  CHECK(bad.status == 400);
  CHECK(bad.body == "bad_params!");
  CHECK(c.get("/none").body == "no_channel!");
  w.s.on_loop([&] {
    const auto& by = w.s->hub().stats().refused_by;
    CHECK(by[static_cast<std::size_t>(sse::refusal_reason::bad_params)] == 1);
    CHECK(by[static_cast<std::size_t>(sse::refusal_reason::no_channel)] == 1);
    CHECK(by[static_cast<std::size_t>(sse::refusal_reason::http)] == 1);
  });
}

TEST_CASE(
    "routes: prefixes, the longest wins, exact before prefix, added and removed at run time") {
  site w;
  const auto say = [](std::string s) {
    return [s](const sse::request& r) { return text(s + std::string{r.path}); };
  };
  w.s.on_loop([&] {
    w.s->get_prefix("/logs/", say("log "));
    w.s->get_prefix("/logs/old/", say("old "));
    w.s->get("/logs/all", say("exact "));
    w.s->post_prefix("/logs/", [](const sse::request& r, std::string_view body) {
      return text(std::string{r.path} + std::string{body});
    });
    w.s->put("/thing",
             [](const sse::request&, std::string_view body) { return text(std::string{body}); });
    w.s->del("/thing", [](const sse::request&) { return sse::response{.status = 204}; });
  });
  client c{w.s.port()};
  CHECK(c.get("/logs/7").body == "log /logs/7");
  CHECK(c.get("/logs/old/7").body == "old /logs/old/7");
  CHECK(c.get("/logs/all").body == "exact /logs/all");
  CHECK(c.get("/logs/a%20b").body == "log /logs/a b");
  CHECK(c.get("/logs").status == 404);
  CHECK(c.get("/Logs/7").status == 404);
  CHECK(c.post("/logs/7", "x").body == "/logs/7x");
  CHECK(c.ask(client::make("PUT", "/thing", "Content-Length: 2\r\n") + "ab").body == "ab");
  CHECK(c.ask(client::make("DELETE", "/thing")).status == 204);
  CHECK(c.get("/thing").header("Allow") == "PUT, DELETE, OPTIONS");
  w.s.on_loop([&] {
    CHECK(w.s->remove("/thing"));
    CHECK_FALSE(w.s->remove("/thing"));
    CHECK(w.s->remove_prefix("/logs/"));
    w.s->get("/health", [&](const sse::request&) {
      w.s->remove("/health");  // itself, while it runs
      return text("last");
    });
  });
  CHECK(c.get("/thing").status == 404);
  CHECK(c.get("/logs/7").status == 404);
  CHECK(c.get("/logs/old/7").status == 200);
  CHECK(c.get("/health").body == "last");
  CHECK(c.get("/health").status == 404);
}

TEST_CASE("hosts: only names that were allowed are served") {
  site w{{.hosts = {"localhost", "[::1]"}}};
  client c{w.s.port()};
  CHECK(c.get("/health").status == 200);
  CHECK(c.ask("GET /health HTTP/1.1\r\nHost: LOCALHOST:80\r\n\r\n").status == 200);
  CHECK(c.ask("GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n").status == 403);
  CHECK(c.ask("GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 403);
}

TEST_CASE("any_origin: some paths may be read by every page, and changed by none") {
  site w{{.any_origin = {"/health", "/public/"}, .check_origin = true}};
  w.s.on_loop([&] {
    w.s->get("/private", [](const sse::request&) { return text("private"); });
    w.s->get_prefix("/public/", [](const sse::request&) { return text("public"); });
    w.s->post("/public/x", [](const sse::request&) { return text("changed"); });
  });
  client c{w.s.port()};
  constexpr std::string_view theirs = "Origin: https://evil.example\r\n";
  const auto allowed = [](const test::answer& a) {
    return a.header("Access-Control-Allow-Origin");
  };
  CHECK(allowed(c.get("/health", theirs)) == "*");
  CHECK(allowed(c.get("/public/x", theirs)) == "*");
  CHECK(allowed(c.ask(client::make("OPTIONS", "/public/x", theirs))) == "*");
  for (const char* path : {"/private", "/public", "/healthy", "/nothing"}) {
    CAPTURE(path);
    CHECK(allowed(c.get(path, theirs)).empty());
    CHECK(allowed(c.ask(client::make("OPTIONS", path, theirs))).empty());
  }
  CHECK(c.post("/public/x", "", theirs).status == 403);
  CHECK(c.post("/public/x", "", "Origin: http://localhost\r\n").body == "changed");
}

TEST_CASE("X-25 credentials: pages of other origins may not post") {
  static constexpr std::string_view origins[] = {"https://app.example"};
  site w{{.cors = {.origins = origins, .credentials = true}}};
  client c{w.s.port()};
  CHECK(c.post("/echo", "a").status == 200);
  CHECK(c.post("/echo", "a", "Origin: http://localhost\r\n").status == 200);
  const test::answer ours = c.post("/echo", "a", "Origin: https://app.example\r\n");
  CHECK(ours.status == 200);
  CHECK(ours.header("Access-Control-Allow-Origin") == "https://app.example");
  CHECK(ours.header("Access-Control-Allow-Credentials") == "true");
  CHECK(ours.header("Vary") == "Origin");
  const test::answer theirs = c.post("/echo", "a", "Origin: https://evil.example\r\n");
  CHECK(theirs.status == 403);
  CHECK(theirs.header("Access-Control-Allow-Origin").empty());

  asio::io_context ctx;
  static constexpr std::string_view any[] = {"*"};
  const sse::server_options wrong{.cors = {.origins = any, .credentials = true}};
  CHECK_THROWS_AS((sse::asio_server<>{ctx, wrong}), std::invalid_argument);
  CHECK_THROWS_AS((sse::asio_server<>{ctx, {.trusted_proxies = {"nonsense"}}}),
                  std::invalid_argument);
}

TEST_CASE("forwarded-for is believed of trusted proxies only") {
  const auto seen_by = [](sse::server_options o, std::string_view headers) {
    test::server<> s{std::move(o)};
    std::string logged;
    s.on_loop([&] {
      s->get("/", [](const sse::request& r) { return text(std::string{r.address}); });
      s->on_access([&](const sse::access_record& r) { logged = r.address; });
    });
    client c{s.port()};
    std::string seen = c.get("/", headers).body;
    CHECK(s.on_loop([&] { return logged; }) == seen);
    return seen;
  };
  const sse::server_options trusting{.trusted_proxies = {"127.0.0.1", "10.0.0.1", "2001:db8::1"}};
  CHECK(seen_by({}, "X-Forwarded-For: 1.2.3.4\r\n") == "127.0.0.1");
  CHECK(seen_by({.trusted_proxies = {"10.0.0.1"}}, "X-Forwarded-For: 1.2.3.4\r\n") == "127.0.0.1");
  CHECK(seen_by(trusting, {}) == "127.0.0.1");
  CHECK(seen_by(trusting, "X-Forwarded-For: 9.9.9.9, 1.2.3.4\r\n") == "1.2.3.4");
  CHECK(seen_by(trusting, "X-Forwarded-For: 9.9.9.9, 1.2.3.4 , 10.0.0.1\r\n") == "1.2.3.4");
  CHECK(seen_by(trusting, "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 10.0.0.1\r\n") ==
        "1.2.3.4");
  CHECK(seen_by(trusting, "X-Forwarded-For: 1.2.3.4:555, [2001:db8::1]:80\r\n") == "1.2.3.4");
  CHECK(seen_by(trusting, "X-Forwarded-For: [2001:db8::2]\r\n") == "2001:db8::2");
  CHECK(seen_by(trusting, "X-Forwarded-For: 1.2.3.4, nonsense, 10.0.0.1\r\n") == "10.0.0.1");
  CHECK(seen_by(trusting, "X-Forwarded-For: \r\n") == "127.0.0.1");
  CHECK(seen_by(trusting, "X-Forwarded-For: 10.0.0.1\r\n") == "10.0.0.1");
}

TEST_CASE("X-21 the access log has one line per request, without tokens") {
  site w;
  sse::channel ticks = w.s.open("ticks");
  struct line {
    std::string method, target, address;
    int status;
    std::uint64_t bytes;
    std::int64_t microseconds;
    bool stream;
  };
  std::vector<line> lines;
  w.s.on_loop([&] {
    w.s->stream("/events", ticks);
    w.s->on_access([&](const sse::access_record& r) {
      lines.push_back({std::string{r.method}, std::string{r.target}, std::string{r.address},
                       r.status, r.bytes, r.microseconds, r.stream});
      throw std::runtime_error("a log that fails");
    });
  });
  client c{w.s.port()};
  const test::answer a = c.get("/health?token=secret&a=b");
  (void)c.get("/nothing");
  (void)c.open("/events?access_token=secret");
  (void)client{w.s.port()}.ask("nonsense\r\n\r\n");
  const std::vector<line> seen = w.s.on_loop([&] { return lines; });
  REQUIRE(seen.size() == 4);
  CHECK(seen[0].method == "GET");
  CHECK(seen[0].target == "/health?token=***&a=b");
  CHECK(seen[0].address == "127.0.0.1");
  CHECK(seen[0].status == 200);
  CHECK(seen[0].bytes == a.head.size() + a.body.size());
  CHECK(seen[0].microseconds >= 0);
  CHECK(seen[0].microseconds < 20'000'000);
  CHECK(seen[1].status == 404);
  CHECK(seen[2].stream);
  CHECK(seen[2].target == "/events?access_token=***");
  CHECK(seen[3].method.empty());
  CHECK(seen[3].status == 400);
}

TEST_CASE("too many connections: 503 at once") {
  site w{{.max_connections = 2}};
  sse::channel ticks = w.s.open("ticks");
  w.s.on_loop([&] { w.s->stream("/events", ticks); });
  client a{w.s.port()};
  client b{w.s.port()};
  CHECK(a.open("/events").status == 200);
  CHECK(b.open("/events").status == 200);
  client c{w.s.port()};
  const test::answer refused = c.whole_answer();
  CHECK(refused.status == 503);
  CHECK(refused.header("Retry-After") == "5");
  b.close();
  CHECK(w.s.eventually([&] { return w.s->connections() == 1; }));
  CHECK(client{w.s.port()}.get("/health").status == 200);
}

TEST_CASE("listen: a port in use is a clear error, literals of both versions work") {
  site w;
  w.s.on_loop([&] {
    const std::error_code e = w.s->listen("127.0.0.1", w.s->port());
    CHECK(e == std::errc::address_in_use);
    CHECK(e.message() == "Address already in use");
    CHECK(w.s->listen("not an address", 0));
    CHECK(w.s->listen("203.0.113.7", 0) == std::errc::address_not_available);
    CHECK_FALSE(w.s->listen("localhost", 0));
    const std::error_code six = w.s->listen("[::1]", 0);
    CHECK((!six || six == std::errc::address_not_available ||
           six == std::errc::address_family_not_supported));
  });
  CHECK(client{w.s.port()}.get("/health").status == 200);
}

#if !defined(SSEHUB_TEST_ASAN)  // UBSan itself needs descriptors to look at memory
TEST_CASE("descriptors run out: accepting pauses, is reported, and goes on") {
  site w;
  int reported = 0;
  w.s.on_loop([&] {
    w.s->on_error([&](std::string_view what, const std::error_code& e) {
      if (what == "accept" && e == std::errc::too_many_files_open) ++reported;
    });
  });
  client before{w.s.port()};
  CHECK(before.get("/health").status == 200);
  client c{0, client::unconnected{}};
  rlimit now{};
  ::getrlimit(RLIMIT_NOFILE, &now);
  const int next = ::dup(0);
  ::close(next);
  const rlimit none{static_cast<rlim_t>(next), now.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  c.connect(w.s.port());
  const bool noticed = w.s.eventually([&] { return reported > 0; });
  const bool others_served = before.get("/health").status == 200;
  const int spins = w.s.on_loop([&] { return reported; });
  ::setrlimit(RLIMIT_NOFILE, &now);
  CHECK(noticed);
  CHECK(others_served);
  CHECK(spins < 10);
  CHECK(c.get("/health").status == 200);
}

#endif

TEST_CASE("a client that ends its side still gets its answer") {
  site w;
  client c{w.s.port()};
  c.send(get_health + get_health);
  c.end_sending();
  CHECK(c.whole_answer().body == "{}");
  CHECK(c.whole_answer().body == "{}");
  CHECK(c.rest().empty());
}
