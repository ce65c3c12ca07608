// Event streams over real sockets.
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "asio/client.hpp"
#include "catch.hpp"
#include "host_position.hpp"
#include "host_publishing.hpp"

using std::chrono::milliseconds;
using test::client;

namespace {

/// A server with one stream.
struct feed {
  explicit feed(sse::server_options o = {}, sse::channel_options c = {})
      : s{std::move(o)}, ticks{s.open("ticks", std::move(c))} {
    s.on_loop([&] { s->stream("/events", ticks); });
  }
  test::server<> s;
  sse::channel ticks;
};

}  // namespace

TEST_CASE("a sealed stream ends, whoever seals it") {
  test::a_sealed_stream_ends<test::server<>>(GENERATE(false, true));
}

TEST_CASE("a stream opens with its position") {
  test::stream_opens_with_its_position<test::server<>>();
}

TEST_CASE("an event leaves at once, whichever way it was published", "[surface]") {
  test::every_way_to_publish_is_prompt<test::server<>>();
}

TEST_CASE("a stream opens: its head comes at once, before any event") {
  feed f;
  client c{f.s.port()};
  const test::answer a = c.open("/events");
  CHECK(a.status == 200);
  CHECK(a.header("Content-Type") == "text/event-stream");
  CHECK(a.header("Cache-Control") == "no-cache");
  CHECK(a.header("Connection") == "close");  // it ends with the stream
  CHECK(a.header("X-Accel-Buffering") == "no");
  CHECK(a.header("Content-Length").empty());
  CHECK(f.s.sessions() == 1);
}

TEST_CASE("V-30 V-31 an event arrives without any timer, also for a client without Accept") {
  feed f;
  client c{f.s.port()};
  CHECK(c.open("/events").status == 200);
  for (int i = 0; i < 100; ++i) {
    f.s.publish(f.ticks, std::to_string(i));
    CHECK(c.data() == std::to_string(i));
  }
}

TEST_CASE("V-02 the head of a stream can be its route's own") {
  test::server<> s{{.head = {.cache_control = "no-store", .extra = "X-Everywhere: 1\r\n"}}};
  sse::channel c = s.open("c");
  s.on_loop([&] {
    s->stream("/a", c, {.content_type = "text/event-stream; charset=utf-8", .no_transform = true});
    s->stream("/b", c);
    s->stream("/bad", c, {.extra = "no line end"});
  });
  const test::answer a = client{s.port()}.open("/a");
  CHECK(a.header("Content-Type") == "text/event-stream; charset=utf-8");
  CHECK(a.header("Cache-Control") == "no-cache, no-transform");
  CHECK(a.header("X-Everywhere").empty());
  const test::answer b = client{s.port()}.open("/b");
  CHECK(b.header("Cache-Control") == "no-store");
  CHECK(b.header("X-Everywhere") == "1");
  CHECK(client{s.port()}.open("/bad").status == 500);
}

TEST_CASE("X-23 HTTP/1.0 and 1.1: close-delimited or in chunks") {
  const bool chunked = GENERATE(false, true);
  const int version = GENERATE(0, 1);
  const bool says = GENERATE(false, true);
  feed f{{.head = {.keep_alive = says}, .chunked = chunked}};
  client c{f.s.port()};
  c.send("GET /events HTTP/1." + std::to_string(version) + "\r\nHost: x\r\n\r\n");
  const test::answer a = c.head();
  const bool chunks = chunked && version == 1;
  CHECK(a.header("Transfer-Encoding") == (chunks ? "chunked" : ""));
  const bool keeps = chunks || (version == 1 && says);
  CHECK(a.header("Connection") == (keeps ? "keep-alive" : "close"));
  std::string expected;
  for (int i = 0; i < 500; ++i) {
    const std::string data(static_cast<std::size_t>(i) * 7, 'x');
    sse::event_id id = 0;
    f.s.on_loop([&] { id = f.s->publish(f.ticks, {.data = data}).id; });
    expected += "id: " + std::to_string(id) + "\ndata: " + data + "\n\n";
  }
  f.s.on_loop([&] { f.s->async_drain([](asio::error_code) {}); });
  bool whole = true;
  std::string got = c.rest();
  if (chunks) got = test::dechunk(got, whole);
  CHECK(whole);
  const std::size_t farewell = got.rfind("retry: ");
  REQUIRE(farewell != std::string::npos);
  CHECK((got.substr(0, farewell) == expected));
}

TEST_CASE("X-24 HEAD: the same head, no body, no subscription, and the connection goes on") {
  feed f;
  client c{f.s.port()};
  c.send(client::make("HEAD", "/events"));
  const test::answer head = c.head();
  CHECK(head.status == 200);
  CHECK(head.header("Content-Type") == "text/event-stream");
  CHECK(f.s.sessions() == 0);
  const test::answer get = c.open("/events");
  const auto but_connection = [](std::string h) {  // with a stream the connection ends
    const std::size_t at = h.find("Connection: ");
    return h.erase(at, h.find("\r\n", at) + 2 - at);
  };
  CHECK(head.header("Connection") == "keep-alive");
  CHECK(get.header("Connection") == "close");
  CHECK(but_connection(get.head) == but_connection(head.head));
  CHECK(f.s.sessions() == 1);
}

TEST_CASE("X-20 who may not gets an answer instead of a stream, and is not counted") {
  struct person {
    std::string name;
  };
  test::server<person> s;
  sse::channel news = s.open("news");
  s.on_loop([&] {
    s->stream("/events", [&](const sse::request& r) -> sse::verdict<person> {
      const std::string token{sse::bearer_token(r)};
      if (token.empty())
        return sse::refuse(401, "who are you?\n").add("WWW-Authenticate", "Bearer");
      if (token == "gone") return sse::refuse(204);
      return sse::admit(person{token}, token).join(news);
    });
  });
  client c{s.port()};
  const test::answer refused = c.get("/events");
  CHECK(refused.status == 401);
  CHECK(refused.body == "who are you?\n");
  CHECK(refused.header("WWW-Authenticate") == "Bearer");
  CHECK(refused.header("Content-Type").starts_with("text/plain"));
  CHECK(c.get("/events", "Authorization: Bearer gone\r\n").status == 204);
  CHECK(c.get("/events", "Accept: text/html\r\n").status == 406);
  CHECK(s.sessions() == 0);
  CHECK(c.open("/events", "Authorization: Bearer ann\r\n").status == 200);
  CHECK(s.on_loop([&] { return s->hub().user_sessions("ann"); }) == 1);
}

TEST_CASE("caps and refusals of the hub reach the client") {
  feed f{{.hub = {.caps = {.per_address = {.max = 2}}}}};
  client a{f.s.port()};
  client b{f.s.port()};
  client c{f.s.port()};
  CHECK(a.open("/events").status == 200);
  CHECK(b.open("/events").status == 200);
  const test::answer full = c.get("/events");
  CHECK(full.status == 429);
  CHECK(full.header("Retry-After") == "5");
  a.close();
  CHECK(f.s.eventually([&] { return f.s->hub().sessions() == 1; }));
  CHECK(c.get("/events?last_id=abc").status == 400);
  CHECK(c.open("/events").status == 200);
}

TEST_CASE("a full hub may answer with a stream that says when to come back") {
  const bool chunked = GENERATE(false, true);
  feed f{{.hub = {.caps = {.total = {.max = 1, .then = sse::when_full::retry_stream}}},
          .chunked = chunked}};
  client a{f.s.port()};
  CHECK(a.open("/events").status == 200);
  client b{f.s.port()};
  CHECK(b.open("/events").header("Content-Type") == "text/event-stream");
  bool whole = true;
  const std::string all = chunked ? b.until("0\r\n\r\n") : b.rest();  // that one is kept
  CHECK((chunked ? test::dechunk(all, whole) : all) == "retry: 5000\n\n");
  CHECK(whole);
  CHECK(f.s.sessions() == 1);
}

TEST_CASE("V-24 resume over real sockets, cut at random places, loses and repeats nothing") {
  const bool chunked = GENERATE(false, true);
  feed f{{.chunked = chunked}, {.keep = 100'000, .own_sequence = true, .first_id = 1000}};
  std::mt19937 random{7};
  constexpr int total = 3000;
  std::thread publisher{[&] {
    for (int i = 1; i <= total; ++i) {
      f.s.publish(f.ticks, std::to_string(i) + std::string(static_cast<std::size_t>(i) % 300, 'x'));
    }
  }};
  std::uint64_t last = 1000;
  std::vector<std::uint64_t> ids;
  while (last != 1000 + total) {
    client c{f.s.port()};
    REQUIRE(c.open("/events", test::last_id(last)).status == 200);
    const std::size_t cut = 1 + random() % 20'000;
    std::string raw;
    std::string text;
    while (raw.size() < cut && text.find("\ndata: " + std::to_string(total)) == std::string::npos) {
      raw += c.some(cut - raw.size());
      bool whole = false;
      text = chunked ? test::dechunk(raw.substr(0, raw.rfind('\n') + 1), whole) : raw;
    }
    std::size_t end = 0;
    for (std::size_t from = 0; (end = text.find("\n\n", from)) != std::string::npos;
         from = end + 2) {
      const std::string frame = text.substr(from, end - from);
      CHECK(client::field(frame, "event: ").empty());
      last = test::id_of(frame);
      ids.push_back(last);
    }
    if (random() % 2 == 0) c.reset();
  }
  publisher.join();
  REQUIRE(ids.size() == total);
  for (std::size_t i = 0; i < ids.size(); ++i) REQUIRE(ids[i] == 1001 + i);
}

TEST_CASE("X-01 a slow reader does not delay others, is cut, and resumes without loss") {
  feed f{{.send_buffer = 8192}, {.keep = 100'000, .max_lag = 200'000, .first_id = 1}};
  client slow{f.s.port(), 4096};
  client fast{f.s.port()};
  REQUIRE(slow.open("/events").status == 200);
  REQUIRE(fast.open("/events").status == 200);
  const std::string filling(1000, 'x');
  constexpr int total = 1000;
  std::uint64_t first = 0;
  for (int i = 0; i < total; ++i) {
    f.s.publish(f.ticks, filling);
    const std::uint64_t id = test::id_of(fast.frame());
    if (i == 0) first = id;
    CHECK(id == first + static_cast<std::uint64_t>(i));
  }
  CHECK(f.s.eventually(
      [&] { return f.s->hub().stats().closed[static_cast<int>(sse::close_reason::lag)] == 1; }));
  std::uint64_t next = first;
  for (std::string frame = slow.frame(); test::id_of(frame) == next && frame.size() > 1000;) {
    ++next;
    frame = slow.frame();
  }
  CHECK(next < first + total);
  client again{f.s.port()};
  REQUIRE(again.open("/events", test::last_id(next - 1)).status == 200);
  for (; next < first + total; ++next) CHECK(test::id_of(again.frame()) == next);
}

TEST_CASE("X-11 a peer that takes nothing any more is gone after the write deadline") {
  feed f{{.hub = {.write_deadline = milliseconds{200}}, .send_buffer = 8192}, {.max_lag = 0}};
  client deaf{f.s.port(), 4096};
  REQUIRE(deaf.open("/events").status == 200);
  for (int i = 0; i < 100; ++i) f.s.publish(f.ticks, std::string(5000, 'x'));
  CHECK(f.s.eventually([&] { return f.s->connections() == 0; }));
  CHECK(f.s.on_loop([&] {
    return f.s->hub().stats().closed[static_cast<int>(sse::close_reason::stalled)];
  }) == 1);
}

TEST_CASE("A-15 a client that leaves is noticed without a publish, by its end or a reset") {
  feed f;
  client a{f.s.port()};
  client b{f.s.port()};
  client c{f.s.port()};
  for (client* x : {&a, &b, &c}) CHECK(x->open("/events").status == 200);
  a.close();
  b.reset();
  c.end_sending();
  CHECK(f.s.eventually([&] { return f.s->connections() == 0; }));
  CHECK(c.rest().empty());
}

TEST_CASE("what a client sends on its stream is thrown away, and too much of it ends the stream") {
  feed f;
  client c{f.s.port()};
  c.send(client::make("GET", "/events") + client::make("GET", "/events"));
  CHECK(c.head().status == 200);
  c.send("and more");
  f.s.publish(f.ticks, "x");
  CHECK(c.data() == "x");
  const std::string much(100'000, 'x');
  while (c.try_send(much)) {
  }
  CHECK(f.s.eventually([&] { return f.s->connections() == 0; }));
}

TEST_CASE("plain requests before a stream on the same connection are answered first") {
  feed f{{.send_buffer = 4096}};
  f.s.on_loop([&] { f.s->page("/large", std::string(500'000, 'x')); });
  client c{f.s.port(), 4096};
  c.send(client::make("GET", "/large") + client::make("HEAD", "/events") +
         client::make("GET", "/nothing") + client::make("GET", "/events"));
  CHECK(c.whole_answer().body.size() == 500'000);
  CHECK(c.head().status == 200);
  CHECK(c.whole_answer().status == 404);
  CHECK(c.head().status == 200);
  f.s.publish(f.ticks, "x");
  CHECK(c.data() == "x");
}

TEST_CASE("a stream on POST, or a plain answer to it") {
  test::server<> s{{.chunked = true}};
  sse::channel news = s.open("news");
  s.on_loop([&] {
    s->stream_post("/graphql",
                   [&](const sse::request&, std::string_view body) -> sse::verdict<> {
                     if (body == "query") return sse::response::json(200, "{\"data\":1}");
                     if (body == "wrong") return sse::refuse(400, "wrong\n");
                     return sse::admit().join(news);
                   },
                   {.content_type = "text/event-stream; charset=utf-8"});
  });
  client c{s.port()};
  CHECK(c.post("/graphql", "query").body == "{\"data\":1}");
  CHECK(c.post("/graphql", "wrong").status == 400);
  CHECK(c.get("/graphql").header("Allow") == "POST, OPTIONS");
  CHECK(s.on_loop([&] { return s->hub().stats().refused; }) == 0);
  c.send(client::make("POST", "/graphql", "Content-Length: 12\r\n") + "subscription");
  CHECK(c.head().header("Content-Type") == "text/event-stream; charset=utf-8");
  s.publish(news, "x");
  CHECK(c.until("data: x\n\n").ends_with("data: x\n\n"));
}

TEST_CASE("streams by prefix and at run time, a closed channel takes its stream along") {
  test::server<> s;
  sse::channel a = s.open("a");
  s.on_loop([&] {
    s->stream_prefix("/logs/", [&](const sse::request& r) -> sse::verdict<> {
      sse::channel c = s->hub().find_channel(r.path.substr(6));
      if (!c) return sse::refuse(404);
      return sse::admit().join(c);
    });
    s->stream("/a", a);
  });
  client by_prefix{s.port()};
  client by_path{s.port()};
  CHECK(client{s.port()}.get("/logs/b").status == 404);
  CHECK(by_prefix.open("/logs/a").status == 200);
  CHECK(by_path.open("/a").status == 200);
  s.publish(a, "x");
  CHECK(by_prefix.data() == "x");
  CHECK(by_path.data() == "x");

  SECTION("closed through the server") {
    s.on_loop([&] { s->close_channel(a); });
    CHECK(by_prefix.rest().empty());
    CHECK(by_path.rest().empty());
    CHECK(client{s.port()}.get("/a").status == 404);
  }
  SECTION("closed behind its back") {
    s.on_loop([&] { s->hub().close_channel(a); });
    CHECK(by_path.rest().empty());
    CHECK(client{s.port()}.get("/a").status == 404);
  }
}

TEST_CASE("an event in many pieces: more than one gather, with heartbeats between") {
  feed f{{.send_buffer = 4096},
         {.max_lag = 0,
          .heartbeat = {.mode = sse::heartbeat_options::pace::fixed, .every = milliseconds{5}}}};
  client c{f.s.port(), 4096};
  REQUIRE(c.open("/events").status == 200);
  const std::string large(900'000, 'y');
  f.s.on_loop([&] {
    for (int i = 0; i < 3; ++i) (void)f.s->publish(f.ticks, {.data = large});
  });
  int whole = 0;
  int beats = 0;
  while (whole < 3 || beats < 3) {
    const std::string frame = c.frame();
    REQUIRE_FALSE(frame.empty());
    if (frame == ": keep-alive") {
      ++beats;
    } else {
      CHECK((client::field(frame, "data: ") == large));
      ++whole;
    }
  }
}
