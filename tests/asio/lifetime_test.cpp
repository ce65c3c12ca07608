// Ends: aborted clients, drain, stop, destruction; and what a server is made of while it runs.
#include <dirent.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include <asio/bind_executor.hpp>
#include <asio/strand.hpp>
#include <asio/use_future.hpp>

#include "asio/client.hpp"
#include "catch.hpp"
#include "failing_socket_calls.hpp"

using std::chrono::milliseconds;
using test::client;

namespace {

std::size_t threads() {
  std::size_t n = 0;
  if (DIR* d = ::opendir("/proc/self/task"); d != nullptr) {
    while (const dirent* e = ::readdir(d)) n += e->d_name[0] != '.' ? 1 : 0;
    ::closedir(d);
  }
  return n;
}

const std::string get_events = client::make("GET", "/events");

/// A server whose loop the test runs itself.
struct hand_driven {
  explicit hand_driven(sse::server_options o = {})
      : server{std::in_place, ctx, test::without_position(std::move(o))} {
    ticks = server->open_channel("ticks");
    server->stream("/events", ticks);
    server->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
    server->get("/later",
                [this](const sse::request&, sse::responder r) { waiting.push_back(std::move(r)); });
    if (const auto e = server->listen("127.0.0.1", 0)) throw std::system_error{e};
  }
  template <class F>
  [[nodiscard]] bool run_until(F f) {
    const auto end = std::chrono::steady_clock::now() + test::patience;
    while (!f()) {
      if (std::chrono::steady_clock::now() > end) return false;
      ctx.run_one_for(milliseconds{100});
    }
    return true;
  }
  asio::io_context ctx{1};
  std::vector<sse::responder> waiting;
  std::optional<sse::asio_server<>> server;
  sse::channel ticks = {};
};

}  // namespace

TEST_CASE("X-10 slots never leak: clients that leave at every stage") {
  test::server<> s{{.send_buffer = 8192}};
  sse::channel ticks = s.open("ticks", {.keep = 1000});
  sse::channel beats = s.open("beats", {.heartbeat = {.mode = sse::heartbeat_options::pace::fixed,
                                                      .every = milliseconds{1}}});
  std::size_t opened = 0;
  std::size_t closed = 0;
  s.on_loop([&] {
    s->stream("/events", ticks);
    s->stream("/beats", beats);
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
    s->post("/echo", [](const sse::request&, std::string_view) { return sse::response{}; });
    s->hub().on_opened([&](sse::session_id, const sse::no_user&) { ++opened; });
    s->hub().on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason) { ++closed; });
    for (int i = 0; i < 1000; ++i) (void)s->publish(ticks, {.data = std::string(500, 'x')});
  });
  constexpr int cycles = 2000;
  for (int i = 0; i < cycles; ++i) {
    client c{s.port(), i % 8 == 4 ? 4096 : 0};
    switch (i % 8) {
      case 0: break;                                          // before anything
      case 1: c.send(get_events.substr(0, 20)); break;        // inside the head
      case 2: c.send(get_events); break;                      // before the answer
      case 3: CHECK(c.open("/events").status == 200); break;  // on the open stream
      case 4:                                                 // inside its replay
        c.send(client::make("GET", "/events?last_id=0"));
        (void)c.exactly(1000);
        break;
      case 5:  // inside an event, while it is published
        CHECK(c.open("/events").status == 200);
        s.publish(ticks, std::string(500, 'x'));
        (void)c.exactly(20);
        break;
      case 6:  // while heartbeats come
        CHECK(c.open("/beats").status == 200);
        (void)c.exactly(3);
        break;
      default:  // inside a body
        c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc");
        break;
    }
    i % 3 == 0 ? c.close() : c.reset();
  }
  CHECK(s.eventually([&] { return s->connections() == 0; }));
  s.on_loop([&] {
    CHECK(opened == closed);
    CHECK(opened >= cycles / 2);
    CHECK(s->hub().stats().sessions == 0);
    CHECK(s->hub().stats().accepted == opened);
    CHECK(ticks.subscribers() == 0);
    CHECK(beats.subscribers() == 0);
  });
  client c{s.port()};
  CHECK(c.get("/health").status == 200);
}

TEST_CASE("X-12 no thread and no timer per connection: 1,000 streams") {
  REQUIRE(test::allow_descriptors(2200));
  test::server<> s{{.hub = {.caps = {.per_address = {.max = 0}}}}};
  sse::channel ticks = s.open("ticks");
  s.on_loop([&] { s->stream("/events", ticks); });
  const std::size_t before = threads();
  std::vector<client> all;
  for (int i = 0; i < 1000; ++i) {
    all.emplace_back(s.port());
    all.back().send(get_events);
  }
  for (client& c : all) REQUIRE(c.head().status == 200);
  CHECK(s.sessions() == 1000);
  CHECK(threads() == before);
  s.publish(ticks, "x");
  for (client& c : all) REQUIRE(c.data() == "x");
  all.clear();
  CHECK(s.eventually([&] { return s->connections() == 0; }));
}

TEST_CASE("X-26 drain: all told when to come back, no half frame, everything gone") {
  const bool chunked = GENERATE(false, true);
  test::server<> s{{.chunked = chunked, .send_buffer = 8192}};
  sse::channel ticks = s.open("ticks", {.max_lag = 0});
  s.on_loop([&] {
    s->stream("/events", ticks);
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
  });
  std::vector<client> all;
  for (int i = 0; i < 30; ++i) {
    all.emplace_back(s.port(), i % 2 == 0 ? 4096 : 0);
    REQUIRE(all.back().open("/events").status == 200);
  }
  client idle{s.port()};
  CHECK(idle.get("/health").status == 200);

  std::promise<asio::error_code> done;
  s.on_loop([&] {
    for (int i = 0; i < 50; ++i) (void)s->publish(ticks, {.data = std::string(2000, 'x')});
    s->async_drain([&](asio::error_code e) { done.set_value(e); },
                   {.deadline = test::patience, .farewell = {.type = "bye", .data = "soon"}});
  });
  CHECK(idle.rest().empty());
  for (client& c : all) {
    std::string text = c.rest();
    CHECK_FALSE(c.was_reset);
    bool whole = true;
    if (chunked) text = test::dechunk(text, whole);
    CHECK(whole);
    REQUIRE(text.ends_with("event: bye\ndata: soon\n\n"));
    CHECK(text.rfind("retry: ") == text.rfind("\n\nretry: ") + 2);
    int events = 0;
    for (std::size_t at = 0; (at = text.find("\n\n", at)) != std::string::npos; at += 2) ++events;
    CHECK(events == 50 + 2);
  }
  CHECK_FALSE(done.get_future().get());
  CHECK(s.on_loop([&] { return s->connections(); }) == 0);
  CHECK_THROWS(client{s.port()});
}

TEST_CASE("drain: answers are finished, the deadline cuts the rest") {
  hand_driven h;
  client asked{h.server->port()};
  client deaf{h.server->port()};
  asked.send(client::make("GET", "/later"));
  deaf.send(client::make("GET", "/later"));
  REQUIRE(h.run_until([&] { return h.waiting.size() == 2; }));
  bool done = false;
  asio::error_code result;
  h.server->async_drain([&](asio::error_code e) { done = true, result = e; },
                        {.deadline = milliseconds{500}});
  CHECK_FALSE(done);
  h.waiting[0](sse::response::text(200, "in time"));
  REQUIRE(h.run_until([&] { return done; }));
  CHECK(result == asio::error::timed_out);
  const test::answer a = asked.whole_answer();
  CHECK(a.body == "in time");
  CHECK(a.header("Connection") == "close");
  CHECK(deaf.rest().empty());
  h.waiting.clear();
  h.ctx.run();  // nothing is left to do
  CHECK(h.server->listen("127.0.0.1", 0));
}

TEST_CASE("drain: a stream that takes nothing is cut at the deadline") {
  hand_driven h{{.send_buffer = 8192}};
  client deaf{h.server->port(), 4096};
  deaf.send(get_events);
  REQUIRE(h.run_until([&] { return h.server->hub().sessions() == 1; }));
  for (int i = 0; i < 40; ++i) (void)h.server->publish(h.ticks, {.data = std::string(9000, 'x')});
  asio::error_code result;
  h.server->async_drain([&](asio::error_code e) { result = e; }, {.deadline = milliseconds{100}});
  h.ctx.run();
  CHECK(result == asio::error::timed_out);
  CHECK(h.server->connections() == 0);
}

TEST_CASE("drain: a deadline of forever never comes") {
  hand_driven h{{.hub = {.write_deadline = sse::duration::off()}, .send_buffer = 8192}};
  client deaf{h.server->port(), 4096};
  deaf.send(get_events);
  REQUIRE(h.run_until([&] { return h.server->hub().sessions() == 1; }));
  for (int i = 0; i < 40; ++i) (void)h.server->publish(h.ticks, {.data = std::string(9000, 'x')});
  bool done = false;
  asio::error_code result = asio::error::timed_out;
  h.server->async_drain([&](asio::error_code e) { done = true, result = e; },
                        {.deadline = sse::duration::infinite()});
  h.ctx.poll();
  h.ctx.poll();
  CHECK_FALSE(done);
  std::thread reader{[&] { (void)deaf.rest(); }};
  h.ctx.restart();
  h.ctx.run();
  reader.join();
  CHECK(done);
  CHECK_FALSE(result);
}

TEST_CASE("drain completes at once with nothing open, twice, and as a future") {
  test::server<> s;
  std::future<void> f = s.on_loop([&] { return s->async_drain(asio::use_future); });
  f.get();
  std::promise<asio::error_code> again;
  s.on_loop([&] { s->async_drain([&](asio::error_code e) { again.set_value(e); }); });
  CHECK(again.get_future().get() == asio::error::operation_aborted);
}

TEST_CASE("a server may be destroyed with 100 open streams and all else under way") {
  const bool run_after = GENERATE(false, true);
  hand_driven h{{.hub = {.caps = {.per_address = {.max = 0}}}, .send_buffer = 8192}};
  std::vector<client> all;
  for (int i = 0; i < 100; ++i) {
    all.emplace_back(h.server->port(), 4096);
    all.back().send(get_events);
  }
  all.emplace_back(h.server->port()).send("GET /hea");  // half a head
  all.emplace_back(h.server->port()).send(client::make("GET", "/later"));
  all.emplace_back(h.server->port());  // nothing yet
  REQUIRE(h.run_until([&] {
    return h.server->hub().sessions() == 100 && h.waiting.size() == 1 &&
           h.server->connections() == 103;
  }));
  for (int i = 0; i < 40; ++i) (void)h.server->publish(h.ticks, {.data = std::string(9000, 'x')});
  h.ctx.poll();  // most are blocked now
  sse::publisher mail = h.server->make_publisher(h.ticks);
  CHECK(mail.try_publish("never seen") == sse::publish_error::none);
  bool drained = false;
  asio::error_code result;
  h.server->async_drain([&](asio::error_code e) { drained = true, result = e; });
  int ended = 0;
  h.server->hub().on_closed(
      [&](sse::session_id, const sse::no_user&, sse::close_reason) { ++ended; });
  h.server.reset();
  CHECK(ended == 100);
  CHECK(mail.try_publish("x") == sse::publish_error::closed);
  if (run_after) {
    h.ctx.run();
    CHECK(drained);
    CHECK(result == asio::error::operation_aborted);
    h.waiting[0](sse::response{});
    h.ctx.restart();
    h.ctx.run();
  }
  for (client& c : all) (void)c.rest();
  h.waiting.clear();
}

TEST_CASE("a handler may stop its server") {
  const std::string path = GENERATE("/plain", "/stream", "/later");
  hand_driven h;
  h.server->get("/plain", [&](const sse::request&) {
    h.server->stop();
    return sse::response::text(200, "never sent");
  });
  h.server->get("/later", [&](const sse::request&, sse::responder r) {
    h.server->stop();
    r(sse::response{});
  });
  h.server->stream("/stream", [&](const sse::request&) -> sse::verdict<> {
    h.server->stop();
    return sse::admit().join(h.ticks);
  });
  client stream{h.server->port()};
  stream.send(get_events);
  REQUIRE(h.run_until([&] { return h.server->hub().sessions() == 1; }));
  client c{h.server->port()};
  c.send(client::make("GET", path));
  h.ctx.run();  // returns: nothing is open any more
  CHECK(h.server->connections() == 0);
  CHECK(h.server->hub().sessions() == 0);
  CHECK(stream.until("\r\n\r\n").size() > 4);
  CHECK(stream.rest().empty());
  (void)c.rest();
}

TEST_CASE("hooks may publish, and close what they like") {
  hand_driven h;
  sse::asio_server<>& server =
      *h.server;  // hooks run in its destructor too, when the optional is empty
  std::vector<sse::session_id> open;
  server.hub().on_opened([&](sse::session_id id, const sse::no_user&) {
    open.push_back(id);
    (void)server.publish(h.ticks, {.data = "one more"});
    if (open.size() == 3) server.hub().close(open[0]);
  });
  server.hub().on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason) {
    (void)server.publish(h.ticks, {.data = "one less"});
  });
  std::vector<client> all;
  for (int i = 0; i < 3; ++i) {
    all.emplace_back(server.port()).send(get_events);
    REQUIRE(h.run_until([&] { return open.size() == static_cast<std::size_t>(i) + 1; }));
  }
  REQUIRE(h.run_until([&] { return server.hub().sessions() == 2; }));
  h.ctx.poll();
  CHECK(all[1].head().status == 200);
  std::string seen;
  while (seen != "one less") seen = all[1].data();
}

TEST_CASE("the process sleeps when there is nothing to do") {
  hand_driven h{{.hub = {.write_deadline = sse::duration::off()}}};
  client c{h.server->port()};
  c.send(get_events);
  REQUIRE(h.run_until([&] { return h.server->hub().sessions() == 1; }));
  h.ctx.poll();
  CHECK(h.ctx.run_for(milliseconds{100}) == 0);  // no handler ran: nothing polls
}

TEST_CASE("busy polling delivers, and stops when it is told to") {
  hand_driven h{{.busy_poll = true}};
  sse::publisher mail = h.server->make_publisher(h.ticks);
  client c{h.server->port()};
  c.send(get_events);
  REQUIRE(h.run_until([&] { return h.server->hub().sessions() == 1; }));
  sse::publish_result published{};
  std::thread other{[&] { published = mail.try_publish("x"); }};
  REQUIRE(h.run_until([&] { return h.ticks.last_id() != h.server->hub().options().first_id; }));
  other.join();
  CHECK(published == sse::publish_error::none);
  CHECK(c.head().status == 200);
  CHECK(c.data() == "x");
  h.server->stop();
  h.ctx.run();
}

TEST_CASE("several threads may run the context if the server is on a strand") {
  asio::io_context ctx;
  auto strand = asio::make_strand(ctx);
  std::optional<sse::asio_server<>> server{std::in_place, strand};
  sse::channel ticks = server->open_channel("ticks", {.max_lag = 0});
  server->stream("/events", ticks);
  server->get("/later", [&](const sse::request&, sse::responder r) {
    asio::post(ctx, [r = std::move(r)]() mutable { r(sse::response::text(200, "ok")); });
  });
  REQUIRE_FALSE(server->listen("127.0.0.1", 0));
  const std::uint16_t port = server->port();
  std::vector<std::thread> runners;
  for (int i = 0; i < 3; ++i) runners.emplace_back([&] { ctx.run(); });
  constexpr int total = 200;
  std::vector<std::thread> readers;
  std::atomic<int> ready = 0;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i) {
    readers.emplace_back([&] {
      client c{port};
      bool ok = c.get("/later").body == "ok" && c.open("/events").status == 200;
      ++ready;
      for (int n = 0; n < total; ++n) ok = ok && c.data() == std::to_string(n);
      if (ok) ++good;
      if (ok && c.rest().find("retry: ") == std::string::npos) --good;
    });
  }
  while (ready != 8) std::this_thread::yield();
  for (int n = 0; n < total; ++n) {
    asio::post(strand, [&, n] { (void)server->publish(ticks, {.data = std::to_string(n)}); });
  }
  asio::post(strand, [&] {
    server->async_drain(asio::bind_executor(strand, [&](asio::error_code) { server.reset(); }));
  });
  for (std::thread& t : runners) t.join();
  for (std::thread& t : readers) t.join();
  CHECK(good == 8);
}

TEST_CASE("each socket call of the server fails once, and nobody misses an event") {
  for (const int error : {ENOMEM, EINTR, ECONNRESET})
    test::every_socket_call_fails_once<test::server<>>(error);
}

TEST_CASE("each socket call of a start fails once: it says so and keeps nothing") {
  const auto make = [] {
    asio::io_context io;
    sse::asio_server<> s{io};
    return static_cast<bool>(s.listen("127.0.0.1", 0));
  };
  test::every_socket_call_of_a_start_fails_once(make, ENOMEM);
}
