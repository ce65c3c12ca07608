// Requests whose bodies come in chunks, and connections that serve one request after another,
// streams between plain ones, whatever the host.
#pragma once

#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/metrics.hpp>
#include <sse/server.hpp>

#include "catch.hpp"
#include "held_server.hpp"
#include "http_client.hpp"

namespace test {

inline std::string in_chunks(std::string_view target, std::string_view chunks,
                             std::string_view headers = {}) {
  return client::make("POST", target, "Transfer-Encoding: chunked\r\n" + std::string{headers})
      .append(chunks);
}

/// `Server`: test::server<> or a test::loop_server.
template <class Server>
void chunked_bodies() {
  Server s{{.limits = {.body = 1000, .body_extras = 100}}};
  s.on_loop([&] {
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
    s->post("/echo", [](const sse::request&, std::string_view body) {
      return sse::response::text(200, std::string{body});
    });
  });
  const std::string hello = "5\r\nhello\r\n7;a=\"b\"\r\n, world\r\n0\r\nX-Sum: 12\r\n\r\n";
  const std::string health = client::make("GET", "/health");

  client kept{s.port()};
  for (int i = 0; i < 3; ++i) {
    const answer a = kept.ask(in_chunks("/echo", hello));
    CHECK(a.status == 200);
    CHECK(a.body == "hello, world");
    CHECK(a.header("Connection") == "keep-alive");
  }
  CHECK(kept.ask(in_chunks("/echo", "0\r\n\r\n")).body.empty());
  // Requests behind the body, all at once and cut anywhere.
  const std::string both = in_chunks("/echo", hello) + health;
  for (std::size_t cut = 0; cut < both.size(); ++cut) {
    kept.send(both.substr(0, cut));
    kept.send(both.substr(cut));
    CHECK(kept.whole_answer().body == "hello, world");
    CHECK(kept.whole_answer().body == "ok");
  }
  std::string bytewise;
  for (const char c : std::string_view{"one byte a chunk"}) {
    bytewise.append("1\r\n").append(1, c).append("\r\n");
  }
  kept.send(in_chunks("/echo", ""));
  for (const char c : bytewise + "0\r\n\r\n") kept.send({&c, 1});
  CHECK(kept.whole_answer().body == "one byte a chunk");

  kept.send(in_chunks("/echo", "", "Expect: 100-continue\r\n"));
  CHECK(kept.until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  kept.send("4\r\nbody\r\n0\r\n\r\n");
  CHECK(kept.whole_answer().body == "body");

  // At the limits, and one above.
  const std::string most = "3e8\r\n" + std::string(1000, 'x') + "\r\n";
  CHECK(kept.ask(in_chunks("/echo", most + "0\r\n\r\n")).body.size() == 1000);
  const std::string extras = "1;" + std::string(89, 'e') + "\r\nx\r\n0\r\n";
  CHECK(kept.ask(in_chunks("/echo", extras + "A: 4567890\r\n\r\n" + health)).body == "x");
  CHECK(kept.whole_answer().body == "ok");
  const std::pair<std::string, int> bad[] = {
      {most + "1\r\n", 413},
      {"3e9\r\n", 413},
      {"ffffffffffffffff\r\n", 413},
      {extras + "A: 45678901\r\n\r\n", 431},
      {"5\nhello\r\n", 400},
      {"5 \r\nhello\r\n", 400},
      {"5\r\nhello0\r\n\r\n", 400},
      {"-1\r\n", 400},
      {"00000000000000001\r\n", 400},
      {"0\r\nno field\r\n\r\n", 400},
      {"0\r\nGET /health HTTP/1.1\r\n\r\n", 400},
      {"0\r\n: no name\r\n\r\n", 400},
      {"0\r\nA: b\r\n folded\r\n\r\n", 400},
  };
  for (const auto& [chunks, status] : bad) {
    INFO(chunks);
    client c{s.port()};
    (void)c.try_send(in_chunks("/echo", chunks) + health);
    const answer a = c.whole_answer();
    CHECK(a.status == status);
    CHECK(a.header("Connection") == "close");
    CHECK(c.rest().empty());  // what stands behind is no request
    CHECK_FALSE(c.was_reset);
  }
  // One that nobody reads ends the connection.
  for (const auto& [target, status] : {std::pair{"/nothing", 404}, std::pair{"/health", 405}}) {
    client c{s.port()};
    (void)c.try_send(in_chunks(target, hello) + health);
    CHECK(c.whole_answer().status == status);
    CHECK(c.rest().empty());
  }
}

/// A body in chunks has the deadline of every body, however it drips in.
template <class Loop>
void chunked_body_deadline() {
  using std::chrono::milliseconds;
  held_server<Loop> s{{.head_deadline = milliseconds{5000}, .body_deadline = milliseconds{1000}}};
  client late{s.port()};
  client just{s.port()};
  s.send(late, in_chunks("/echo", ""));
  s.send(just, in_chunks("/echo", "3\r\nab"));
  s.pass(600);
  s.send(late, "1\r\na\r\n1");
  s.pass(399);
  CHECK_FALSE(late.has_input());
  CHECK(s.ask(just, "c\r\n0\r\n\r\n").body == "abc");
  s.pass(1);
  CHECK(s.answer_to(late).status == 408);
  CHECK(s.ends(late));
}

/// The rest of a stream in chunks that ends; the connection goes on.
inline std::string ended_body(client& c) {
  bool whole = false;
  const std::string body = dechunk(c.until("\r\n0\r\n\r\n"), whole);
  CHECK(whole);
  return body;
}

inline client plain_client(std::uint16_t port) { return client{port}; }

/// `Server`: test::server<> or a test::loop_server. `connect`: of a port.
template <class Server, class Connect>
void kept_streams(Connect connect) {
  using sse::start_at;
  Server s{{.hub = {.caps = {.per_user = {.max = 1, .then = sse::when_full::retry_stream}}},
            .chunked = true}};
  sse::channel job = s.open("job", {.start = start_at::all});
  sse::channel live = s.open("live", {.heartbeat = {.mode = sse::heartbeat_options::pace::off}});
  s.on_loop([&] {
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
    s->stream("/job", job);
    s->stream("/live", live);
    s->stream("/own", [&](const sse::request&) { return sse::admit("me").join(live); });
    s->stream_post("/ask", [&](const sse::request&, std::string_view body) -> sse::verdict<> {
      if (body != "job") return sse::response::text(200, "no stream");
      return sse::admit().join(job);
    });
    (void)s->publish(job, {.data = "done"}, {.transient = false});
    s->hub().seal(job);
  });
  const std::string health = client::make("GET", "/health");
  const auto connections = [&] { return s.on_loop([&] { return s->connections(); }); };

  client c = connect(s.port());
  for (int i = 0; i < 5; ++i) {
    INFO(i);
    const answer head = c.open("/job");
    CHECK(head.status == 200);
    CHECK(head.header("Transfer-Encoding") == "chunked");
    CHECK(head.header("Connection") == "keep-alive");
    CHECK(ended_body(c).find("data: done\n\n") != std::string::npos);
    CHECK(c.ask(health).body == "ok");
    c.send(in_chunks("/ask", "3\r\njob\r\n0\r\n\r\n"));
    CHECK(c.head().header("Connection") == "keep-alive");
    CHECK(ended_body(c).find("data: done\n\n") != std::string::npos);
    CHECK(c.post("/ask", "job?").body == "no stream");
    c.send(client::make("HEAD", "/job"));
    CHECK(c.head().header("Connection") == "keep-alive");
  }
  CHECK(connections() == 1);

  // A stream that goes on until the server ends it, and the next request, which waits meanwhile.
  REQUIRE(c.open("/live").status == 200);
  (void)s.publish(live, "one");
  CHECK(c.until("data: one\n\n").size() > 0);
  s.on_loop([&] { s->hub().seal(live); });
  CHECK(c.until("\r\n0\r\n\r\n") == "\r\n0\r\n\r\n");
  CHECK(c.ask(health).body == "ok");

  // Told to come back: a stream too.
  {
    sse::channel open = s.open("open");
    s.on_loop([&] {
      s->stream("/own", [&](const sse::request&) { return sse::admit("me").join(open); });
    });
    client first = connect(s.port());
    REQUIRE(first.open("/own").status == 200);
    CHECK(c.open("/own").header("Connection") == "keep-alive");
    CHECK(ended_body(c).starts_with("retry: "));
    CHECK(c.ask(health).body == "ok");
    // Cut, it never looks ended.
    s.on_loop([&] { s->hub().revoke("me"); });
    CHECK(first.rest().find("0\r\n\r\n") == std::string::npos);
    // What comes while a stream is open waits for its end.
    REQUIRE(c.open("/own").status == 200);
    c.send(health);
    for (int i = 0; i < 10; ++i) {
      s.publish(open, "x");
      CHECK(c.until("data: x\n\n").size() > 0);
    }
    s.on_loop([&] { s->hub().seal(open); });
    CHECK(c.until("\r\n0\r\n\r\n") == "\r\n0\r\n\r\n");
    CHECK(c.whole_answer().body == "ok");
    CHECK(c.ask(health).body == "ok");
  }
  // Who said so, or sent more at once, is told that the connection ends.
  for (const std::string& request :
       {client::make("GET", "/job", "Connection: close\r\n"), client::make("GET", "/job") + health,
        client::make("GET", "/job", "Content-Length: 1\r\n") + "x"}) {
    INFO(request);
    client last = connect(s.port());
    last.send(request);
    const answer head = last.head();
    CHECK(head.header("Connection") == "close");
    CHECK(head.header("Transfer-Encoding") == "chunked");
    CHECK(last.rest().ends_with("\r\n0\r\n\r\n"));
    CHECK_FALSE(last.was_reset);
  }
  // Without chunks only the end of the connection ends it.
  client old = connect(s.port());
  old.send("GET /job HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  CHECK(old.head().header("Connection") == "close");
  CHECK(old.rest().ends_with("data: done\n\n"));
  c.close();
  CHECK(s.eventually([&] { return s->connections() == 0; }));
}

/// Who leaves is noticed, however much it said before: while its request waits for a verdict, and
/// while its stream is open.
template <class Server, class Connect>
void leaving_with_more_behind(Connect connect) {
  std::vector<sse::stream_responder<>> waiting;
  Server s{{.verdict_deadline = sse::duration::off(), .chunked = true}};
  sse::channel live = s.open("live", {.heartbeat = {.mode = sse::heartbeat_options::pace::off}});
  s.on_loop([&] {
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
    s->stream("/live", live);
    s->stream("/later", [&](const sse::request&, sse::stream_responder<> to) {
      waiting.push_back(std::move(to));
    });
  });
  const std::string health = client::make("GET", "/health");
  const std::string later = client::make("GET", "/later");
  const auto waits = [&](std::size_t n) {
    return s.eventually([&] { return waiting.size() == n; });
  };
  client at_once = connect(s.port());
  at_once.send(later + health);
  REQUIRE(waits(1));
  at_once.close();
  CHECK(s.eventually([&] { return waiting[0].called_off(); }));
  client meanwhile = connect(s.port());
  meanwhile.send(later);
  REQUIRE(waits(2));
  for (int i = 0; i < 3; ++i) meanwhile.send(health);
  meanwhile.close();
  CHECK(s.eventually([&] { return waiting[1].called_off(); }));
  // Who stays is answered in order.
  client stays = connect(s.port());
  stays.send(later + health.substr(0, 10));
  REQUIRE(waits(3));
  stays.send(health.substr(10) + health);
  s.on_loop([&] { waiting[2](sse::refuse(404)); });
  CHECK(stays.whole_answer().status == 404);
  CHECK(stays.whole_answer().body == "ok");
  CHECK(stays.whole_answer().body == "ok");
  REQUIRE(stays.open("/live").status == 200);
  for (int i = 0; i < 3; ++i) stays.send(health);
  stays.close();
  CHECK(s.eventually([&] { return s->hub().sessions() == 0 && s->connections() == 0; }));
}

/// Where the transport can see how much it is.
template <class Loop>
void input_behind_a_stream() {
  constexpr std::size_t most = std::size_t{64} << 10;
  held_server<Loop> s{{.chunked = true}};
  client c{s.port()};
  s.open(c);
  for (std::size_t sent = 0; sent < most; sent += 4096) c.send(std::string(4096, 'x'));
  s.pass(0);
  REQUIRE(s->hub().sessions() == 1);
  c.send("x");
  CHECK(s.until([&] { return s->hub().sessions() == 0; }));
  CHECK(s.until([&] { return s->connections() == 0; }));
}

/// After its stream a connection is idle as after any answer, and ends with the server.
template <class Loop>
void kept_stream_deadline() {
  using std::chrono::milliseconds;
  held_server<Loop> s{{.head_deadline = milliseconds{1000},
                       .keep_alive = milliseconds{3000},
                       .max_connections = 2,
                       .chunked = true}};
  client c{s.port()};
  client other{s.port()};
  s.open(c);
  s.open(other);
  s->hub().seal(s.ticks);
  REQUIRE(s.until([&] { return s->hub().sessions() == 0 && c.has_input() && other.has_input(); }));
  CHECK(c.until("0\r\n\r\n") == "0\r\n\r\n");
  CHECK(s->connections() == 2);
  s.pass(2999);
  CHECK_FALSE(c.has_input());
  CHECK(s.ask(c, client::make("GET", "/health")).body == "ok");
  s.pass(1);
  CHECK(other.until("0\r\n\r\n") == "0\r\n\r\n");
  CHECK(s.ends(other));
  s.send(c, "GET /hea");  // a head has its own deadline
  s.pass(1000);
  CHECK(s.answer_to(c).status == 408);
  CHECK(s.ends(c));
  c.close();
  other.close();
  CHECK(s.empties());
}

/// Verdicts and answers that come when they are known, from any thread. `Server`: test::server<> or
/// a test::loop_server.
template <class Server>
void later_verdicts() {
  using responder = sse::stream_responder<>;
  Server s{{.hub = {.caps = {.total = {.max = 4}, .per_address = {.max = 3}}}}};
  sse::channel ticks = s.open("ticks");
  std::vector<responder> waiting;
  std::vector<sse::responder> plain;
  int ended = 0;
  s.on_loop([&] {
    const auto keep = [&](const sse::request&, responder to) {
      to.on_called_off([&] { ++ended; });
      waiting.push_back(std::move(to));
    };
    s->stream("/events", keep);
    s->stream_prefix("/below/", keep);
    s->stream_post("/ask", [&](const sse::request&, std::string_view body, responder to) {
      if (body == "now") return to(sse::admit().join(ticks));
      waiting.push_back(std::move(to));
    });
    s->get("/later",
           [&](const sse::request&, sse::responder to) { plain.push_back(std::move(to)); });
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
  });
  const std::string health = client::make("GET", "/health");
  const auto held = [&](std::size_t n) {
    return s.eventually([&] { return waiting.size() == n; });
  };
  const auto empty = [&] { return s.eventually([&] { return s->connections() == 0; }); };

  for (const bool thread : {false, true}) {
    CAPTURE(thread);
    const auto say = [&](sse::verdict<> v) {
      responder to = s.on_loop([&] {
        responder first = std::move(waiting.front());
        waiting.erase(waiting.begin());
        return first;
      });
      CHECK_FALSE(to.called_off());
      if (thread) {
        std::thread{[&] { to(std::move(v)); }}.join();
      } else {
        s.on_loop([&] { to(std::move(v)); });
      }
      CHECK_FALSE(to);
    };
    client c{s.port()};
    c.send(client::make("GET", "/events") + health);  // which waits behind it
    REQUIRE(held(1));
    CHECK_FALSE(c.has_input());
    say(sse::refuse(401, "no"));
    answer a = c.whole_answer();
    CHECK(a.status == 401);
    CHECK(a.header("Connection") == "keep-alive");
    CHECK(c.whole_answer().body == "ok");
    c.send(client::make("HEAD", "/events"));
    REQUIRE(held(1));
    say(sse::admit().join(ticks));
    CHECK(c.head().status == 200);
    c.send(in_chunks("/ask", "5\r\nlater\r\n0\r\n\r\n"));
    REQUIRE(held(1));
    say(sse::response::text(200, "a plain one"));
    CHECK(c.whole_answer().body == "a plain one");
    c.send(client::make("GET", "/later") + health);
    REQUIRE(s.eventually([&] { return plain.size() == 1; }));
    s.on_loop([&] {
      sse::responder to = std::move(plain[0]);
      plain.clear();
      const auto answer = [&] { to(sse::response::text(200, "late")); };
      thread ? std::thread{answer}.join() : answer();
    });
    CHECK(c.whole_answer().body == "late");
    CHECK(c.whole_answer().body == "ok");
    c.send(client::make("GET", "/events"));
    REQUIRE(held(1));
    say(sse::admit().join(ticks));
    CHECK(c.head().status == 200);
    s.publish(ticks, "x");
    CHECK(c.data() == "x");
    CHECK(s.on_loop([&] { return s->hub().sessions(); }) == 1);
  }
  CHECK(empty());
  {
    client c{s.port()};
    c.send(client::make("POST", "/ask", "Content-Length: 3\r\n") + "now");
    CHECK(c.head().status == 200);
    client dropped{s.port()};
    dropped.send(client::make("GET", "/events"));
    REQUIRE(held(1));
    s.on_loop([&] { waiting.clear(); });
    CHECK(dropped.whole_answer().status == 500);
    CHECK(dropped.ask(health).body == "ok");
  }
  CHECK(empty());
  CHECK(ended == 0);
  {  // What waits counts, and has its place back once it does not.
    std::vector<client> all;
    for (std::size_t i = 0; i < 3; ++i) {
      all.emplace_back(s.port());
      all.back().send(client::make("GET", "/events"));
      REQUIRE(held(i + 1));
    }
    CHECK(client{s.port()}.get("/below/x").status == 429);
    all.pop_back();  // it leaves
    REQUIRE(s.eventually([&] { return ended == 1; }));
    CHECK(s.on_loop([&] { return waiting[2].called_off(); }));
    CHECK_FALSE(s.on_loop([&] { return waiting[1].called_off(); }));
    all.emplace_back(s.port());
    all.back().send(client::make("GET", "/below/x"));
    REQUIRE(held(4));
    s.on_loop([&] {
      for (responder& to : waiting) to(sse::admit().join(ticks));
    });
    for (client& c : all) CHECK(c.head().status == 200);
    CHECK(s.on_loop([&] { return s->hub().sessions(); }) == 3);
    s.on_loop([&] { waiting.clear(); });
    CHECK(client{s.port()}.get("/below/x").status == 429);
  }
  CHECK(empty());
  CHECK(ended == 1);
  {  // Its server goes: nothing happens any more.
    client c{s.port()};
    c.send(client::make("GET", "/events"));
    client later{s.port()};
    later.send(client::make("GET", "/later"));
    REQUIRE(held(1));
    REQUIRE(s.eventually([&] { return plain.size() == 1; }));
    s.on_loop([&] { s->stop(); });
    CHECK(s.on_loop([&] { return ended; }) == 2);
    CHECK(waiting[0].called_off());
    CHECK(plain[0].called_off());
    CHECK(c.rest().empty());
    waiting[0](sse::admit());
    plain.clear();
  }
}

/// A verdict has its deadline; a drain does not wait for it.
template <class Loop>
void verdict_deadline() {
  using std::chrono::milliseconds;
  held_server<Loop> s{{.hub = {.caps = {.per_address = {.max = 1}}},
                       .verdict_deadline = milliseconds{1000},
                       .keep_alive = milliseconds{5000}}};
  std::vector<sse::stream_responder<>> waiting;
  s->stream("/events", [&](const sse::request&, sse::stream_responder<> to) {
    waiting.push_back(std::move(to));
  });
  client c{s.port()};
  for (std::size_t i = 1; i <= 2; ++i) {
    s.send(c, client::make("GET", "/events"));
    s.pass(999);
    REQUIRE(waiting.size() == i);
    CHECK_FALSE(waiting.back().called_off());
    CHECK_FALSE(c.has_input());
    s.pass(1);
    CHECK(waiting.back().called_off());
    const answer a = s.answer_to(c);
    CHECK(a.status == 503);
    CHECK(a.header("Connection") == "keep-alive");
    waiting.back()(sse::admit().join(s.ticks));  // too late
    CHECK(s.ask(c, client::make("GET", "/health")).body == "ok");
  }
  // It counts for nobody any more; who is gone is noticed at once, also where it said more.
  client left{s.port()};
  left.send(client::make("GET", "/events"));
  REQUIRE(s.until([&] { return waiting.size() == 3; }));
  left.close();
  REQUIRE(s.until([&] { return waiting[2].called_off(); }));
  client reset{s.port()};
  reset.send(client::make("GET", "/events"));
  REQUIRE(s.until([&] { return waiting.size() == 4; }));
  reset.reset();
  REQUIRE(s.until([&] { return waiting[3].called_off(); }));
  client last{s.port()};
  last.send(client::make("GET", "/events"));
  REQUIRE(s.until([&] { return waiting.size() == 5; }));
  CHECK_FALSE(waiting[4].called_off());
}

/// Each reason that a host can have, on the page that it serves; the program is asked last.
template <class Loop>
void refusals_on_the_page() {
  using why = sse::refusal_reason;
  held_server<Loop> s{{.hub = {.caps = {.per_user = {.max = 1}}, .max_joins = 2},
                       .verdict_deadline = std::chrono::milliseconds{1000}}};
  Loop elsewhere{sse::server_options{}};
  const sse::channel theirs = elsewhere.server.open_channel("theirs");
  const sse::channel other = s->open_channel("other");
  const sse::channel own = s->open_channel("own", {.own_sequence = true});
  const sse::channel full = s->open_channel("full", {.max_subscribers = 1});
  const sse::channel closed = s->open_channel("closed");
  REQUIRE(s->close_channel(closed));
  std::vector<sse::stream_responder<>> waiting;
  const auto route = [&](const char* path, auto verdict) {
    s->stream(path, [=](const sse::request&) -> sse::verdict<> { return verdict(); });
  };
  const sse::channel ticks = s.ticks;
  route("/ann", [=] { return sse::admit("ann").join(ticks); });
  route("/full", [=] { return sse::admit().join(full); });
  int asked = 0;
  route("/refused", [&] {
    ++asked;
    return sse::refuse(403);
  });
  route("/nowhere", [] { return sse::admit(); });
  route("/header", [=] { return sse::admit().join(ticks).header("no name", "x"); });
  route("/many", [=] { return sse::admit().join(ticks).join(other).join(full); });
  route("/twice", [=] { return sse::admit().join(ticks).join(ticks); });
  route("/theirs", [=] { return sse::admit().join(theirs); });
  route("/closed", [=] { return sse::admit().join(closed); });
  route("/sequences", [=] { return sse::admit().join(ticks).join(own); });
  s->stream("/later", [&](const sse::request&, sse::stream_responder<> to) {
    waiting.push_back(std::move(to));
  });
  s->get("/metrics", [&](const sse::request&) {
    sse::metrics_page page;
    page.add(s->hub());
    return sse::response::text(200, std::string{page.text()});
  });
  client c{s.port()};
  std::vector<std::uint64_t> expected(sse::refusal_reason_count);
  const auto counts = [&](why reason) {
    CAPTURE(to_string(reason));
    ++expected[static_cast<std::size_t>(reason)];
    const std::string page = s.ask(c, client::make("GET", "/metrics")).body;
    for (std::size_t i = 1; i < expected.size(); ++i) {
      const std::string name{to_string(static_cast<why>(i))};
      const std::string line =
          "\nsse_refused_total{reason=\"" + name + "\"} " + std::to_string(expected[i]) + "\n";
      CAPTURE(line);
      CHECK(page.find(line) != page.npos);
    }
  };
  const auto refused = [&](const char* target, int status, why reason, const char* headers = "") {
    CAPTURE(target);
    CHECK(s.ask(c, client::make("GET", target, headers)).status == status);
    counts(reason);
  };
  std::vector<client> streams;
  for (const char* path : {"/ann", "/full"}) {
    streams.emplace_back(s.port());
    s.send(streams.back(), client::make("GET", path));
  }
  REQUIRE(s.until([&] { return s->hub().sessions() == 2; }));
  refused("/ann", 429, why::too_many);
  refused("/full", 503, why::channel_full);
  refused("/refused", 403, why::verdict);
  CHECK(asked == 1);
  refused("/refused", 406, why::http, "Accept: text/html\r\n");
  refused("/events?last_id=x", 400, why::bad_params);
  refused("/nowhere", 500, why::no_channel);
  refused("/header", 500, why::bad_header);
  refused("/many", 500, why::too_many_channels);
  refused("/twice", 500, why::joined_twice);
  refused("/theirs", 500, why::another_hub);
  refused("/closed", 500, why::closed);
  refused("/sequences", 500, why::another_sequence);
  s.send(c, client::make("GET", "/later"));
  s.pass(1000);
  CHECK(s.answer_to(c).status == 503);
  counts(why::no_verdict);
  s->hub().drain();
  refused("/refused", 503, why::draining);
  CHECK(asked == 1);  // what the program cannot change costs it nothing
}

/// `drain(server)`: begins a drain, in the server's thread.
template <class Server, class Drain>
void verdicts_in_a_drain(Drain drain) {
  Server s;
  std::vector<sse::stream_responder<>> waiting;
  s.on_loop([&] {
    s->stream("/events", [&](const sse::request&, sse::stream_responder<> to) {
      waiting.push_back(std::move(to));
    });
  });
  client c{s.port()};
  c.send(client::make("GET", "/events"));
  REQUIRE(s.eventually([&] { return waiting.size() == 1; }));
  s.on_loop([&] { drain(s); });
  CHECK(c.whole_answer().status == 503);
  CHECK(c.rest().empty());
  CHECK(waiting[0].called_off());
}

/// Why a stream is refused that its handler admitted, at once or later.
template <class Server>
void refused_after_all() {
  using why = sse::refusal_reason;
  Server s{{.hub = {.caps = {.per_user = {.max = 1}}}}};
  sse::channel c = s.open("c");
  std::vector<std::pair<why, int>> refused;
  std::vector<sse::stream_responder<>> waiting;
  s.on_loop([&] {
    s->hub().on_refused(
        [&](const sse::request&, const sse::no_user&, const sse::refused_request& q) {
          refused.emplace_back(q.why, q.status);
        });
    s->stream("/now", [&](const sse::request&) { return sse::admit("ann").join(c); });
    s->stream("/later", [&](const sse::request&, sse::stream_responder<> to) {
      waiting.push_back(std::move(to));
    });
  });
  client first{s.port()};
  CHECK(first.open("/now").status == 200);
  const auto status_of = [&](std::string_view target) {
    client k{s.port()};
    k.send(client::make("GET", target));
    if (target.starts_with("/later")) {
      REQUIRE(s.eventually([&] { return waiting.size() == 1; }));
      s.on_loop([&] {
        waiting[0](sse::admit("ann").join(c));
        waiting.clear();
      });
    }
    return k.whole_answer().status;
  };
  for (const std::string path : {"/now", "/later"}) {
    INFO(path);
    CHECK(status_of(path) == 429);
    CHECK(s.on_loop([&] { return refused.back(); }) == std::pair{why::too_many, 429});
  }
  first.close();
  REQUIRE(s.eventually([&] { return s->hub().sessions() == 0; }));
  for (const std::string path : {"/now", "/later"}) {
    INFO(path);
    CHECK(status_of(path + "?last_id=x") == 400);
    CHECK(s.on_loop([&] { return refused.back(); }) == std::pair{why::bad_params, 400});
  }
  CHECK(s.on_loop([&] { return refused.size(); }) == 4);
}

/// What is another hub's is refused, and what would decide in place of the routes is not asked.
template <class Server>
void strangers() {
  Server s;
  Server other;
  sse::channel mine = s.open("c");
  sse::channel theirs = other.open("c");
  s.on_loop([&] {
    s->hub().on_admit([](const sse::request&) -> sse::verdict<> { return sse::refuse(403); });
    s->stream("/mine", mine);
    s->stream("/theirs", [&](const sse::request&) { return sse::admit().join(theirs); });
  });
  client c{s.port()};
  CHECK(c.open("/mine").status == 200);
  client lost{s.port()};
  const answer no = lost.get("/theirs");
  CHECK(no.status == 500);
  CHECK(no.body == R"({"error":"channel_of_another_hub"})");
  CHECK(s.on_loop([&] { return s->publish(theirs, {.data = "x"}).error; }) ==
        sse::publish_error::another_hub);
  CHECK_FALSE(s.on_loop([&] { return s->close_channel(theirs); }));
  sse::publisher lane = s.on_loop([&] { return s->make_publisher(theirs); });
  CHECK(lane.try_publish({.data = "x"}) == sse::publish_error::closed);
  s.publish(mine, "mine");
  CHECK(c.data() == "mine");
  other.on_loop([&] { other->stream("/theirs", theirs); });
  client t{other.port()};
  CHECK(t.open("/theirs").status == 200);
  other.publish(theirs, "theirs");
  CHECK(t.data() == "theirs");
}

/// What a verdict adds to the head of its stream, and what the server knows of it.
template <class Server>
void stream_headers() {
  using pace = sse::heartbeat_options::pace;
  Server s;
  sse::channel slow = s.open("slow", {.heartbeat = {.every = sse::duration::milliseconds(30'001)}});
  sse::channel quick =
      s.open("quick", {.heartbeat = {.mode = pace::fixed, .every = sse::duration::seconds(5)}});
  sse::channel never = s.open("never", {.heartbeat = {.mode = pace::off}});
  int errors = 0;
  std::vector<int> refused;
  s.on_loop([&] {
    s->on_error([&](std::string_view, const std::error_code&) { ++errors; });
    s->hub().on_refused([&](const sse::request&, const sse::no_user&,
                            const sse::refused_request& q) { refused.push_back(q.status); });
    s->stream("/slow", slow);
    s->stream("/never", never);
    s->stream("/said", slow, {.heartbeat_seconds = 7});
    s->stream("/both",
              [&](const sse::request&) { return sse::admit().join(slow).join(never).join(quick); });
    s->stream("/own", [&](const sse::request&) {
      return sse::admit().join(never).header("Mcp-Session-Id", "abc").header("X-Rate", "1, 2");
    });
    s->stream("/later", [&](const sse::request&, sse::stream_responder<> to) {
      to(sse::admit().join(never).header("Mcp-Session-Id", "later"));
    });
    s->stream("/bad", [&](const sse::request& r) {
      std::string name;
      (void)sse::query_value(r.query, "name", name);
      const std::string_view value = name == "value" ? "a\r\nSet-Cookie: b" : "x";
      return sse::admit().join(never).header(name, value);
    });
  });
  const auto head = [&](std::string_view target, std::string_view method = "GET") {
    client c{s.port()};
    c.send(client::make(method, target));
    return c.head();
  };
  const auto beats = [&](std::string_view target) {
    return head(target).header("X-Heartbeat-Interval");
  };
  CHECK(beats("/slow") == "31");
  CHECK(beats("/both") == "5");
  CHECK(beats("/said") == "7");
  CHECK(beats("/never").empty());
  for (const std::string_view method : {"GET", "HEAD"}) {
    const answer own = head("/own", method);
    CHECK(own.status == 200);
    CHECK(own.header("Mcp-Session-Id") == "abc");
    CHECK(own.header("X-Rate") == "1, 2");
  }
  CHECK(head("/later").header("Mcp-Session-Id") == "later");
  CHECK(s.on_loop([&] { return errors; }) == 0);
  const std::vector<std::string> bad = {"value",
                                        "a%20b",
                                        "",
                                        "Connection",
                                        "content-type",
                                        "Content-Length",
                                        "cache-control",
                                        "a:",
                                        "X-Heartbeat-Interval",
                                        "Transfer-Encoding",
                                        "Access-Control-Allow-Origin"};
  for (const std::string& name : bad) {
    INFO(name);
    const answer a = head("/bad?name=" + name);
    CHECK(a.status == 500);
    CHECK(a.header("Set-Cookie").empty());
  }
  CHECK(s.on_loop([&] { return errors; }) == static_cast<int>(bad.size()));
  CHECK(s.on_loop([&] { return refused; }) == std::vector<int>(bad.size(), 500));

  Server silent{{.announce_heartbeat = false}};
  sse::channel c = silent.open("c");
  silent.on_loop([&] { silent->stream("/events", c); });
  client last{silent.port()};
  CHECK(last.open("/events").header("X-Heartbeat-Interval").empty());
}

}  // namespace test
