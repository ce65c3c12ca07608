// GET /api/stream of the real program, over real sockets: bytes, ids, resuming, keep-alives.
#ifdef GATEWAY_PROGRAM
#include <algorithm>
#include <chrono>
#include <iostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "program.hpp"

using namespace test;

namespace {

using strings = std::vector<std::string>;

/// A gateway with an engine that said `n` market events; `first` is the id of the first one.
struct with_events {
  explicit with_events(int n, strings flags = {}) {
    flags.insert(flags.end(), {"--engine", engine.command()});
    gateway.emplace(flags);
    if (n == 0) return;
    client seen = gateway->stream("?last_id=0");
    for (int i = 1; i <= n; ++i) engine.market(i);
    first = next_event(seen).id;
    const std::string last = std::to_string(n) + ".0}";
    for (std::string frame; frame.find(last) == std::string::npos && n > 1;) {
      frame = seen.frame();
      if (frame.empty()) throw std::runtime_error("the stream ended");
    }
  }
  [[nodiscard]] std::string after(std::uint64_t id) const {
    return "?last_id=" + std::to_string(id);
  }
  /// The id of event number n, from 1.
  [[nodiscard]] std::uint64_t id(int n) const { return first + static_cast<std::uint64_t>(n) - 1; }

  engine_pipes engine;
  std::optional<program> gateway;
  std::uint64_t first = 0;
};

std::string header_of(std::uint64_t id) { return "Last-Event-ID: " + std::to_string(id) + "\r\n"; }

}  // namespace

TEST_CASE("V-01 V-02 V-03 X-22 the stream opens before any event, with these headers") {
  with_events s{0};
  client stream{s.gateway->port()};
  const answer a = stream.open("/api/stream");
  CHECK(a.head.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(a.header("Content-Type") == "text/event-stream; charset=utf-8");
  CHECK(a.header("Cache-Control") == "no-cache");
  CHECK(a.header("Connection") == "keep-alive");
  CHECK(a.header("X-Accel-Buffering") == "no");
  CHECK(a.header("X-Content-Type-Options") == "nosniff");
  s.engine.market(1);
  CHECK(next_event(stream).type == "market");  // still open
}

TEST_CASE("V-04 V-13 V-14 frames are id, event, data and nothing else, byte for byte") {
  with_events s{1};
  client stream = s.gateway->stream("?last_id=0");
  const std::string line = engine_pipes::market_line(1);
  CHECK(stream.until("\n\n") ==
        "id: " + std::to_string(s.first) + "\nevent: market\ndata: " + line + "\n\n");
  const std::string error = R"({"type":"error","ts_ns":1704067200000000001,"message":"x"})";
  s.engine.say(error);
  CHECK(stream.until("\n\n") ==
        "id: " + std::to_string(s.first + 1) + "\nevent: error\ndata: " + error + "\n\n");
}

TEST_CASE("V-05 V-06 V-29 two readers get every type under the same consecutive ids") {
  with_events s{1};
  const strings types = {"market",  "order_update", "fill", "order_state",
                         "account", "error",        "new"};
  client one = s.gateway->stream();
  client two = s.gateway->stream();
  for (const std::string& t : types) s.engine.say(R"({"type":")" + t + R"("})");
  std::uint64_t id = s.first;
  for (const std::string& t : types) {
    const sse_event a = next_event(one);
    const sse_event b = next_event(two);
    CHECK(a.type == t);
    CHECK(a.id == ++id);
    CHECK(b.id == a.id);
    CHECK(b.data == a.data);
  }
  CHECK(id < (std::uint64_t{1} << 53));
}

TEST_CASE("V-17 V-18 V-20 an idle stream gets exactly a keep-alive comment, again and again") {
  with_events s{1, {"--heartbeat", "0.1"}};
  client stream = s.gateway->stream();
  CHECK(stream.exactly(3 * 14) == ": keep-alive\n\n: keep-alive\n\n: keep-alive\n\n");
  s.engine.market(2);
  sse_event e = next_event(stream);
  CHECK(e.id == s.first + 1);  // keep-alives use up no id
}

TEST_CASE("V-17 keep-alives come every 10 s unless told otherwise, and can be off") {
  with_events s{1};
  CHECK(s.gateway->get("/api/config").body.find("\"heartbeat\":10.0") != std::string::npos);
  with_events off{1, {"--heartbeat", "0"}};
  CHECK(off.gateway->get("/api/config").body.find("\"heartbeat\":0.0") != std::string::npos);
}

TEST_CASE("V-17 who asks for heartbeats that a page can see gets them, and nobody else does") {
  with_events s{1, {"--heartbeat", "0.1"}};
  client other = s.gateway->stream();
  client page = s.gateway->stream("?beat=1");
  const std::string beat = "event: heartbeat\ndata: {\"every\":0.1}\n\n";
  std::string got;
  for (int i = 0; i < 3;) {
    const std::string block = page.until("\n\n");
    i += block == beat;
    got += block;
  }
  CHECK(got.starts_with(beat));  // at once
  CHECK(got.find("id:") == std::string::npos);
  CHECK(other.exactly(2 * 14) == ": keep-alive\n\n: keep-alive\n\n");
}

TEST_CASE("V-19 a keep-alive comes only after a whole idle period") {
  with_events s{1, {"--heartbeat", "0.3"}};
  client stream = s.gateway->stream();
  std::string got;
  // Events every 50 ms, much closer than the period: no keep-alive among them.
  for (int i = 2; i < 22; ++i) {
    s.engine.market(i);
    got += stream.until("\n\n");
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
  if (got.find(": keep-alive") != std::string::npos)
    WARN("a busy machine: an event came more than 0.3 s late");
  const auto quiet_since = std::chrono::steady_clock::now();
  CHECK(stream.until("\n\n") == ": keep-alive\n\n");
  CHECK(std::chrono::steady_clock::now() - quiet_since > std::chrono::milliseconds{200});
}

TEST_CASE("V-21 V-22 V-23 V-26 resume begins after the id that was named, then live") {
  with_events s{200};
  const bool by_header = GENERATE(false, true);
  CAPTURE(by_header);
  const auto resume = [&](int n) {
    return by_header ? s.gateway->stream("", header_of(s.id(n)))
                     : s.gateway->stream(s.after(s.id(n)));
  };
  client stream = resume(123);
  for (int n = 124; n <= 200; ++n) {
    const sse_event e = next_event(stream);
    REQUIRE(e.id == s.id(n));
    REQUIRE(e.data == engine_pipes::market_line(n));
  }
  client at_head = resume(200);
  s.engine.market(201);
  CHECK(next_event(stream).id == s.id(201));
  CHECK(next_event(at_head).id == s.id(201));
}

TEST_CASE("V-25 a browser's reconnect: the header beats the old query") {
  with_events s{200};
  client stream = s.gateway->stream(s.after(s.id(123)), header_of(s.id(150)));
  CHECK(next_event(stream).id == s.id(151));
}

TEST_CASE("V-21 without last_id live only, with 0 everything, malformed 400") {
  with_events s{20};
  client live = s.gateway->stream();
  client all = s.gateway->stream("?last_id=0");
  CHECK(next_event(all).id == s.first);
  s.engine.market(21);
  CHECK(next_event(live).id == s.id(21));
  for (const char* bad :
       {"abc", "-1", "", "1;2", "18446744073709551616", "9007199254740992", "1.5"}) {
    CAPTURE(bad);
    const answer a = s.gateway->get(std::string{"/api/stream?last_id="} + bad);
    CHECK(a.status == 400);
    CHECK(a.body == R"({"error":"bad_params"})");
  }
  client odd = s.gateway->stream("", "Last-Event-ID: abc\r\n");  // a malformed header is ignored
  s.engine.market(22);
  CHECK(next_event(odd).id == s.id(22));
}

TEST_CASE("V-24 no loss and no repeat over connections cut anywhere") {
  constexpr int count = 1500;
  with_events s{1, {"--keep", "10000"}};
  std::thread engine{[&] {
    for (int n = 2; n <= count; ++n) {
      s.engine.market(n);
      if (n % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
  }};
  std::mt19937 random{1};
  std::uint64_t last = s.first;
  std::vector<std::uint64_t> ids;
  int connections = 0;
  while (last < s.id(count)) {
    // What a client keeps is what it has read whole; the rest of a frame goes down with the socket.
    client stream = s.gateway->stream(s.after(last));
    ++connections;
    std::string got;
    std::size_t quota = random() % 8000;
    while (quota > 0 && last < s.id(count)) {
      const std::string more = stream.some(std::min<std::size_t>(quota, 1 + random() % 700));
      REQUIRE_FALSE(more.empty());
      quota -= more.size();
      got += more;
      for (std::size_t end = 0; (end = got.find("\n\n")) != std::string::npos;) {
        const std::string frame = got.substr(0, end);
        got.erase(0, end + 2);
        if (frame.starts_with(':')) continue;
        last = std::stoull(client::field(frame, "id: "));
        ids.push_back(last);
      }
    }
    if (random() % 2 == 0) stream.reset();
  }
  engine.join();
  CHECK(connections > 10);
  REQUIRE(ids.size() == count - 1);
  for (std::size_t i = 0; i < ids.size(); ++i) REQUIRE(ids[i] == s.first + 1 + i);
}

TEST_CASE("V-27 V-28 an id older than retention gives a gap event and a line in the log") {
  with_events s{20, {"--keep", "10"}};
  client on_edge = s.gateway->stream(s.after(s.id(10)));  // retained: 11 to 20
  CHECK(next_event(on_edge).id == s.id(11));
  CHECK(s.gateway->log().find("gap") == std::string::npos);

  client beyond = s.gateway->stream(s.after(s.id(9)));
  CHECK(beyond.until("\n\n") ==
        "id: " + std::to_string(s.id(10)) +
            "\nevent: gap\ndata: {\"requested\":" + std::to_string(s.id(9)) +
            ",\"first\":" + std::to_string(s.id(11)) + ",\"lost\":1}\n\n");
  CHECK(next_event(beyond).id == s.id(11));
  CHECK(s.gateway->logs("gap: a reader asked for what follows " + std::to_string(s.id(9))));

  client ahead = s.gateway->stream(s.after(s.id(500)));
  CHECK(next_event(ahead).type == "gap");
  s.engine.market(21);
  CHECK(next_event(ahead).id == s.id(21));
}

TEST_CASE("V-27 an id of the run before gives a gap event, and ids go on rising") {
  std::uint64_t last = 0;
  {
    with_events before{5};
    last = before.id(5);
    CHECK(before.gateway->stop() == 0);
  }
  with_events s{3};
  CHECK(s.first > last);
  client stream = s.gateway->stream(s.after(last));
  const sse_event gap = next_event(stream);
  CHECK(gap.type == "gap");
  CHECK(gap.data.find("\"lost\":null") != std::string::npos);
  CHECK(next_event(stream).id == s.first);
}

TEST_CASE("V-30 an event is pushed at once") {
  with_events s{1};
  client stream = s.gateway->stream();
  std::vector<double> ms;
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    s.engine.market(i + 2);
    (void)stream.until("\n\n");
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    ms.push_back(took.count());
  }
  std::sort(ms.begin(), ms.end());
  std::cout << "V-30 engine to client: median " << ms[10] << " ms, worst " << ms.back() << " ms\n";
  CHECK(ms.front() < 100);  // the others tell of the machine
}

TEST_CASE("V-31 curl's request works, with Accept and without") {
  with_events s{1};
  for (const char* accept : {"Accept: */*\r\n", "", "Accept: text/event-stream\r\n"}) {
    CAPTURE(accept);
    client stream{s.gateway->port()};
    const answer a =
        stream.open("/api/stream?last_id=0", std::string{"User-Agent: curl/7.88.1\r\n"} + accept);
    CHECK(a.status == 200);
    CHECK(next_event(stream).id == s.first);
  }
  CHECK(s.gateway->get("/api/stream", "Accept: text/html\r\n").status == 406);
}

TEST_CASE("X-23 HTTP/1.0 and HTTP/1.1 clients get the same bytes, without chunks") {
  with_events s{3};
  std::string body[2];
  for (int version : {0, 1}) {
    CAPTURE(version);
    client stream{s.gateway->port()};
    stream.send("GET /api/stream?last_id=0 HTTP/1." + std::to_string(version) +
                "\r\nHost: localhost\r\nConnection:\r\n\r\n");
    const answer a = stream.head();
    CHECK(a.status == 200);
    CHECK(a.header("Transfer-Encoding").empty());
    CHECK(a.header("Content-Length").empty());
    for (int i = 0; i < 3; ++i) body[version] += stream.until("\n\n");
  }
  CHECK(body[0] == body[1]);
  CHECK(body[0].starts_with("id: " + std::to_string(s.first) + "\n"));
}

TEST_CASE("X-24 HEAD gives the stream's headers and opens nothing, OPTIONS answers a preflight") {
  with_events s{1};
  client c{s.gateway->port()};
  c.send("HEAD /api/stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  const answer head = c.head();
  CHECK(head.status == 200);
  CHECK(head.header("Content-Type") == "text/event-stream; charset=utf-8");
  CHECK(c.rest().empty());
  CHECK(s.gateway->eventually("sse_sessions", 0));

  client o{s.gateway->port()};
  const answer preflight = o.ask(
      "OPTIONS /api/stream HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.example\r\n"
      "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: "
      "last-event-id\r\n\r\n");
  CHECK(preflight.status == 204);
  CHECK(preflight.header("Access-Control-Allow-Headers") ==
        "Content-Type, Authorization, Last-Event-ID, Cache-Control");
  CHECK(preflight.header("Access-Control-Allow-Methods") == "GET,POST,OPTIONS");
  CHECK(preflight.header("Access-Control-Allow-Origin") == "*");
}
#endif
