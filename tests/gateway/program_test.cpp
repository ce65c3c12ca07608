// The gateway as a program: flags, exit codes, tokens, caps, bad input, the end.
#ifdef GATEWAY_PROGRAM
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "catch.hpp"
#include "program.hpp"

using namespace test;

namespace {

using strings = std::vector<std::string>;

bool one_line(const std::string& s) {
  return std::count(s.begin(), s.end(), '\n') == 1 && s.ends_with('\n');
}

}  // namespace

TEST_CASE("what --help and --version say") {
  const auto help = program::run({"--help"});
  CHECK(help.code == 0);
  CHECK(help.err.empty());
  for (const char* flag :
       {"--host", "--port", "--heartbeat", "--keep", "--keep-age", "--max-lag", "--lag-policy",
        "--per-user", "--per-address", "--total", "--cors", "--token", "--engine", "--replay",
        "--speed", "--loop", "--wait-readers", "--help", "--version"}) {
    CAPTURE(flag);
    CHECK(help.out.find("  " + std::string{flag}) != std::string::npos);
  }
  const auto version = program::run({"--version"});
  CHECK(version.code == 0);
  CHECK(version.out == "gateway " SSEHUB_VERSION "\n");
}

TEST_CASE("unknown flags and bad values end with code 2 and one clear line") {
  const std::vector<strings> bad = {{"--bogus"},
                                    {"extra"},
                                    {"--port", "x"},
                                    {"--port", "65536"},
                                    {"--port", "-1"},
                                    {"--port"},
                                    {"--port", "--help"},
                                    {"--keep", "1.5"},
                                    {"--heartbeat", "-1"},
                                    {"--heartbeat", "soon"},
                                    {"--heartbeat", "nan"},
                                    {"--keep-age", "1e3"},
                                    {"--max-lag", "1k"},
                                    {"--lag-policy", "best"},
                                    {"--per-user", "x"},
                                    {"--cors", "example"},
                                    {"--token", ""},
                                    {"--token", "a b"},
                                    {"--speed", "2"},
                                    {"--loop"},
                                    {"--wait-readers", "3"},
                                    {"--replay", "-", "--speed", "0"},
                                    {"--replay", "-", "--speed", "fast"},
                                    {"--engine", "a", "--replay", "b"},
                                    {"--engine", ""},
                                    {"--engine", "'a"},
                                    {"--loop=1", "--replay", "-"},
                                    {"--host", ""}};
  for (const strings& flags : bad) {
    std::string shown;
    for (const std::string& f : flags) shown += f + " ";
    CAPTURE(shown);
    const auto r = program::run(flags);
    CHECK(r.code == 2);
    CHECK(r.out.empty());
    CHECK(one_line(r.err));
    CHECK(r.err.starts_with("gateway: "));
  }
  CHECK(program::run({"--bogus\n\x1b[31m"}).err ==
        "gateway: unknown flag '--bogus??[31m' (see gateway --help)\n");
}

TEST_CASE("a port in use, a file that is not there, an engine that is not: one clear line") {
  program first{{}};
  const auto used = program::run({"--port", std::to_string(first.port())});
  CHECK(used.code == 1);
  CHECK(used.out.empty());
  CHECK(used.err == "gateway: cannot listen on http://127.0.0.1:" + std::to_string(first.port()) +
                        "/: Address already in use\n");
  const auto missing = program::run({"--port", "0", "--replay", "/nope/recording"});
  CHECK(missing.code == 2);
  CHECK(missing.out.empty());
  CHECK(missing.err == "gateway: cannot read /nope/recording: No such file or directory\n");
  directory dir;
  const auto zipped =
      program::run({"--port", "0", "--replay", dir.file("a.gz", "\x1f\x8b\x08...")});
  CHECK(zipped.code == 2);
  CHECK(one_line(zipped.err));
  CHECK(zipped.err.find("zcat") != std::string::npos);
  const auto engine = program::run({"--port", "0", "--engine", "/nope/engine --fast"});
  CHECK(engine.code == 2);
  CHECK(engine.err == "gateway: cannot start the engine /nope/engine: No such file or directory\n");
  const auto host = program::run({"--port", "0", "--host", "203.0.113.1"});
  CHECK(host.code == 1);
  CHECK(one_line(host.err));
  CHECK(first.get("/health").status == 200);
}

TEST_CASE(
    "X-26 a signal ends streams with a retry and no half frame, and the program with code 0") {
  const int signal = GENERATE(SIGTERM, SIGINT);
  CAPTURE(signal);
  program gateway{{}};
  std::vector<client> streams;
  for (int i = 0; i < 20; ++i) streams.push_back(gateway.stream("?last_id=0"));
  client stalled = gateway.stream();  // reads nothing more
  client half{gateway.port()};
  half.send("GET /health HT");
  (void)streams.front().until("\n\n");
  const auto start = std::chrono::steady_clock::now();
  CHECK(gateway.stop(signal) == 0);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds{5});
  std::vector<std::string> retries;
  for (client& c : streams) {
    const std::string rest = c.rest();
    CHECK_FALSE(c.was_reset);
    REQUIRE(rest.ends_with("\n\n"));
    const std::size_t at = rest.rfind("retry: ");
    REQUIRE(at != std::string::npos);
    CHECK((at == 0 || rest.substr(at - 2, 2) == "\n\n"));
    retries.push_back(rest.substr(at));
    const int ms = std::stoi(rest.substr(at + 7));
    CHECK(ms >= 1000);
    CHECK(ms <= 5000);
  }
  std::sort(retries.begin(), retries.end());
  CHECK(std::unique(retries.begin(), retries.end()) - retries.begin() > 10);  // spread
}

TEST_CASE("X-26 an engine that ignores the end is ended with the program") {
  directory dir;
  const std::string pid = dir.file("pid");
  program gateway{
      {"--engine", "sh -c 'trap \"\" TERM; echo $$ >" + pid +
                       "; echo \"{\\\"type\\\":\\\"up\\\"}\"; while :; do sleep 1; done'"}};
  client stream = gateway.stream("?last_id=0");
  CHECK(next_event(stream).type == "up");
  const auto start = std::chrono::steady_clock::now();
  CHECK(gateway.stop() == 0);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds{5});
  CHECK(::kill(static_cast<pid_t>(std::stol(content_of(pid))), 0) == -1);
}

TEST_CASE(
    "X-20 with a token, streams, posts and private answers ask for it, and it is never logged") {
  program gateway{{"--token", "s3cret-token"}};
  const std::string bearer = "Authorization: Bearer s3cret-token\r\n";
  const std::string order = R"({"side":"BUY","symbol":"BTCUSDT","qty":0.001,"price":50000.0})";
  for (const char* wrong :
       {"", "?token=", "?token=s3cret", "?token=s3cret-tokem", "?token=x&last_id=0"}) {
    CAPTURE(wrong);
    const answer a = gateway.get(std::string{"/api/stream"} + wrong);
    CHECK(a.status == 401);
    CHECK(a.body == R"({"error":"unauthorized"})");
    CHECK(a.header("Content-Type") == "application/json");
    CHECK(gateway.post(std::string{"/api/order"} + wrong, order).status == 401);
  }
  CHECK(gateway.get("/api/stream", "Authorization: Basic czNjcmV0LXRva2Vu\r\n").status == 401);
  CHECK(gateway.post("/api/cancel", R"({"client_order_id":"a"})").status == 401);
  CHECK(gateway.post("/api/order", "{").status == 401);
  for (const char* path :
       {"/api/orders", "/api/orders_state", "/api/order_state?client_order_id=a", "/api/account"}) {
    CAPTURE(path);
    CHECK(gateway.get(path).status == 401);
    CHECK(gateway.get(path, bearer).status != 401);
  }
  for (const char* path : {"/", "/health", "/metrics", "/api/market", "/api/config"}) {
    CAPTURE(path);
    CHECK(gateway.get(path).status == 200);
  }
  client by_query = gateway.stream("?token=s3cret-token");
  client by_header = gateway.stream("", bearer);
  CHECK(gateway.post("/api/order", order, bearer).status == 200);
  CHECK(gateway.post("/api/order?token=s3cret-token", order).status == 200);
  CHECK(next_event(by_query).end == false);
  CHECK(next_event(by_header).end == false);
  CHECK(gateway.get("/api/config", bearer).body.find("s3cret") == std::string::npos);
  CHECK(gateway.logs("/api/stream?token=*** 200"));
  CHECK(gateway.log().find("s3cret") == std::string::npos);
}

TEST_CASE("one line in the log for each request") {
  program gateway{{}};
  (void)gateway.get("/health");
  (void)gateway.get("/nope?x=1");
  (void)gateway.post("/api/order", "{");
  client stream = gateway.stream();
  for (const char* line :
       {" 127.0.0.1 GET /health 200 ", " 127.0.0.1 GET /nope?x=1 404 ",
        " 127.0.0.1 POST /api/order 400 ", " 127.0.0.1 GET /api/stream 200 stream "}) {
    CAPTURE(line);
    CHECK(gateway.logs(line));
  }
}

TEST_CASE("caps in total, per address and per user answer 429 until a stream ends") {
  const std::string flag = GENERATE("--total", "--per-address", "--per-user");
  CAPTURE(flag);
  program gateway{{flag, "2", "--token", "t"}};
  client one = gateway.stream("?token=t");
  client two = gateway.stream("?token=t");
  const answer a = gateway.get("/api/stream?token=t");
  CHECK(a.status == 429);
  CHECK_FALSE(a.header("Retry-After").empty());
  CHECK(gateway.get("/health").status == 200);
  two.close();
  CHECK(gateway.eventually("sse_sessions", 1));
  client three = gateway.stream("?token=t");
  CHECK_FALSE(next_event(three).end);
}

TEST_CASE("a slow reader is closed, or skipped forward with a gap, as --lag-policy says") {
  const std::string policy = GENERATE("disconnect", "oldest", "tail");
  CAPTURE(policy);
  engine_pipes engine;
  program gateway{{"--engine", engine.command(), "--max-lag", "100000", "--lag-policy", policy,
                   "--keep", "100"}};
  client slow{gateway.port(), 4096};
  REQUIRE(slow.open("/api/stream").status == 200);
  client quick = gateway.stream();
  std::string line = R"({"type":"big","x":")" + std::string(20'000, 'x') + R"("})";
  std::uint64_t last = 0;
  // More than the kernel's buffers of one connection can hold.
  for (int i = 0; i < 1000; ++i) {
    engine.say(line);
    const sse_event e = next_event(quick);
    REQUIRE(e.type == "big");
    if (last != 0) REQUIRE(e.id == last + 1);  // not held up
    last = e.id;
  }
  std::uint64_t expected = 0;
  int gaps = 0;
  bool ended = false;
  for (;;) {
    const std::string frame = slow.frame();
    if (frame.empty()) {
      ended = true;
      break;
    }
    if (!frame.starts_with("id: ") || frame.size() < 20) break;
    const std::uint64_t id = std::stoull(client::field(frame, "id: "));
    const std::string type = client::field(frame, "event: ");
    if (type == "gap") {
      ++gaps;
      CHECK(frame.find("\"lost\":") != std::string::npos);
    } else if (type != "big" || (expected != 0 && id != expected)) {
      // A half frame before the end: nothing that a parser would take for an event.
      CHECK(policy == "disconnect");
      ended = true;
      break;
    }
    expected = id + 1;
    if (id == last) break;
  }
  if (policy == "disconnect") {
    CHECK(ended);
    CHECK(gateway.logs("a stream was closed: lag"));
  } else {
    CHECK(gaps > 0);
    CHECK_FALSE(ended);
    CHECK(expected == last + 1);
  }
}

TEST_CASE("bad requests are told so, and disturb nobody") {
  engine_pipes engine;
  program gateway{{"--engine", engine.command()}};
  client stream = gateway.stream();
  client half{gateway.port()};
  half.send("GET /api/stream HTTP/1.1\r\nHo");
  client no_body{gateway.port()};
  no_body.send(
      "POST /api/order HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"side\"");
  const auto status = [&](std::string_view request) {
    client c{gateway.port()};
    (void)c.try_send(request);
    return c.whole_answer().status;
  };
  CHECK(status("\x16\x03\x01\x02") == 400);
  CHECK(status("GET\r\n\r\n") == 400);
  CHECK(status("GET / HTTP/1.1\r\n\r\n") == 400);
  CHECK(
      status("POST /api/order HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: "
             "3\r\n\r\n{}") == 400);
  CHECK(status("POST /api/order HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
               "chunked\r\n\r\n2\n{}\r\n0\r\n\r\n") == 400);
  CHECK(status("POST /api/order HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n") ==
        413);
  CHECK(status("GET /" + std::string(20'000, 'a') + " HTTP/1.1\r\nHost: localhost\r\n\r\n") == 414);
  CHECK(status("GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n") == 404);
  CHECK(status("GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n") == 404);
  {
    client c{gateway.port()};
    (void)c.try_send("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(1'000'000, 'a') +
                     "\r\n\r\n");
    const answer a = c.head();  // the rest of the megabyte may meet a closed socket
    CHECK((a.status == 431 || c.was_reset));
  }
  engine.market(1);
  CHECK(next_event(stream).type == "market");
  half.send("st: localhost\r\n\r\n");
  CHECK(half.head().status == 200);
  CHECK(engine.silent());
  CHECK(gateway.get("/health").status == 200);
}

TEST_CASE("what listens where: a name, IPv6, and the first line of stdout") {
  program named{{"--host", "localhost"}};
  CHECK(named.get("/health").status == 200);
  const auto both = program::run({"--host", "::1", "--port", "0", "--engine", "/nope"});
  CHECK(both.code == 2);
}
#endif
