// epoll_server over real sockets: what its loop and its connections do. The HTTP that it shares
// with asio_server is tested row by row there.
#include <malloc.h>
#include <sys/resource.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <sse/epoll.hpp>

#include "catch.hpp"
#include "failing_socket_calls.hpp"
#include "host_position.hpp"
#include "host_publishing.hpp"
#include "loop_server.hpp"

using std::chrono::milliseconds;
using test::answer;
using test::client;
using server = test::loop_server<sse::epoll_server<>>;

namespace {

const std::string get_events = client::make("GET", "/events");

sse::channel ticks_of(server& s, sse::channel_options o = {}) {
  sse::channel c = s.open("ticks", std::move(o));
  s.on_loop([&] {
    s->stream("/events", c);
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
    s->post("/echo", [](const sse::request&, std::string_view body) {
      return sse::response::text(200, std::string{body});
    });
    s->page("/large", std::string(8'000'000, 'p'));
  });
  return c;
}

}  // namespace

TEST_CASE("a stream begins at once, goes on live, and resumes where it was cut") {
  server s;
  sse::channel ticks = ticks_of(s);
  client first{s.port()};
  CHECK(first.open("/events").status == 200);
  const std::string expected = test::publish_sizes(s, ticks, 20, 100);
  CHECK((first.exactly(expected.size()) == expected));
  const std::string id = std::to_string(s.publish(ticks, "one") - 1);
  first.close();
  client again{s.port()};
  REQUIRE(again.open("/events", "Last-Event-ID: " + id + "\r\n").status == 200);
  CHECK(again.data() == "one");
  s.publish(ticks, "two");
  CHECK(again.data() == "two");
  CHECK(s.eventually([&] { return s->connections() == 1; }));  // the first one's end was noticed
}

TEST_CASE("an event leaves at once, whichever way it was published", "[surface]") {
  test::every_way_to_publish_is_prompt<server>();
}

TEST_CASE("a sealed stream ends, whoever seals it") {
  test::a_sealed_stream_ends<server>(GENERATE(false, true));
}

TEST_CASE("a stream opens with its position") { test::stream_opens_with_its_position<server>(); }

TEST_CASE("plain requests: kept alive, pipelined, in pieces, before a stream") {
  server s;
  sse::channel ticks = ticks_of(s);
  client c{s.port()};
  CHECK(c.get("/health").body == "ok");
  CHECK(c.get("/none").status == 404);
  CHECK(c.ask(client::make("DELETE", "/health")).header("Allow") == "GET, HEAD, OPTIONS");
  CHECK(c.ask(client::make("OPTIONS", "/health")).status == 204);
  CHECK(c.post("/echo", std::string(100'000, 'e')).body == std::string(100'000, 'e'));
  c.send(client::make("GET", "/health") + client::make("GET", "/none") + get_events + "unread");
  CHECK(c.whole_answer().body == "ok");
  CHECK(c.whole_answer().status == 404);
  CHECK(c.head().status == 200);
  s.publish(ticks, "x");
  CHECK(c.data() == "x");

  client slow{s.port()};
  for (const char byte : get_events) slow.send({&byte, 1});
  CHECK(slow.head().status == 200);
}

TEST_CASE("an answer larger than every buffer is read slowly, also by one that ended its side") {
  server s{{.send_buffer = 65536}};
  ticks_of(s);
  client c{s.port()};
  c.send(client::make("GET", "/large", "Connection: close\r\n"));
  c.end_sending();
  CHECK(c.whole_answer().body.size() == 8'000'000);
  CHECK(c.rest().empty());
  CHECK_FALSE(c.was_reset);
  CHECK(s.eventually([&] { return s->connections() == 0; }));
}

TEST_CASE("bad requests get their status, whole, and the end") {
  server s{{.limits = {.head = 2048, .headers = 10, .target = 100, .body = 100}}};
  ticks_of(s);
  const auto status = [&](const std::string& request) {
    client c{s.port()};
    (void)c.try_send(request);
    const int n = c.whole_answer().status;
    CHECK(c.rest().empty());
    CHECK_FALSE(c.was_reset);
    return n;
  };
  CHECK(status("GET / HTTP/1.1\nHost: x\n\n") == 400);
  CHECK(status(client::make("GET", "/health", "Content-Length: 1\r\nContent-Length: 1\r\n")) ==
        400);
  CHECK(status(client::make("POST", "/echo", "Content-Length: 101\r\n")) == 413);
  CHECK(status(client::make("GET", "/" + std::string(100, 'x'))) == 414);
  CHECK(status(client::make("GET", "/", "X: " + std::string(100'000, 'x') + "\r\n")) == 431);
  CHECK(client{s.port()}.get("/health").status == 200);
}

TEST_CASE("deadlines: of a head, a body, an idle connection and an answer that nobody reads") {
  server s{{.hub = {.write_deadline = milliseconds{200}},
            .head_deadline = milliseconds{200},
            .body_deadline = milliseconds{200},
            .keep_alive = milliseconds{200},
            .send_buffer = 8192}};
  ticks_of(s);
  client silent{s.port()};
  client head{s.port()};
  head.send("GET / HT");
  client body{s.port()};
  body.send(client::make("POST", "/echo", "Content-Length: 2\r\n") + "x");
  client idle{s.port()};
  CHECK(idle.get("/health").status == 200);
  client deaf{s.port(), 4096};
  deaf.send(client::make("GET", "/large"));
  CHECK(silent.rest().empty());
  CHECK(head.whole_answer().status == 408);
  CHECK(body.whole_answer().status == 408);
  CHECK(idle.rest().empty());
  CHECK(s.eventually([&] { return s->connections() == 0; }));
  (void)deaf.rest();
  CHECK(deaf.was_reset);
}

TEST_CASE("caps: streams of an address, connections in all, and slots that come back") {
  server s{{.hub = {.caps = {.per_address = {.max = 2}}}, .max_connections = 4}};
  ticks_of(s);
  std::vector<client> all;
  for (const int expected : {200, 200, 429}) {
    all.emplace_back(s.port());
    CHECK(all.back().open("/events").status == expected);
  }
  all.emplace_back(s.port());
  CHECK(all.back().get("/health").status == 200);
  all.front().reset();
  all[1].close();
  CHECK(s.eventually([&] { return s->hub().sessions() == 0; }));
  CHECK(client{s.port()}.open("/events").status == 200);
}

TEST_CASE("a reader that stops reading holds nobody up, and is closed at the write deadline") {
  server s{{.hub = {.write_deadline = milliseconds{300}}, .send_buffer = 8192}};
  sse::channel ticks = ticks_of(s, {.max_lag = 0});
  client deaf{s.port(), 4096};
  REQUIRE(deaf.open("/events").status == 200);
  client good{s.port()};
  REQUIRE(good.open("/events").status == 200);
  const std::string expected = test::publish_sizes(s, ticks, 100, 200);
  CHECK((good.exactly(expected.size()) == expected));
  CHECK(s.eventually([&] { return s->hub().sessions() == 1; }));
  CHECK(s.on_loop([&] {
    return s->hub().stats().closed[static_cast<int>(sse::close_reason::stalled)];
  }) == 1);
}

TEST_CASE("a slow reader gets everything, framed either way") {
  const bool chunked = GENERATE(false, true);
  server s{{.chunked = chunked, .send_buffer = 65536}};
  sse::channel ticks = ticks_of(s, {.max_lag = 0});
  client c{s.port()};  // a small window would be TCP's own wait
  REQUIRE(c.open("/events").status == 200);
  const std::string expected = test::publish_sizes(s, ticks, 200, 50);
  bool clean = false;
  std::thread ends{
      [&] { clean = s.on_loop([&] { return s->drain({.deadline = test::patience}); }); }};
  std::string got = c.rest();
  ends.join();
  CHECK(clean);
  bool whole = true;
  if (chunked) got = test::dechunk(got, whole);
  CHECK(whole);
  CHECK((got.substr(0, got.rfind("retry: ")) == expected));
}

TEST_CASE("drain: idle connections end, streams are told when to come back, the deadline cuts") {
  server s;
  sse::channel ticks = ticks_of(s, {.max_lag = 0});
  client idle{s.port()};
  CHECK(idle.get("/health").status == 200);
  client stream{s.port()};
  REQUIRE(stream.open("/events").status == 200);
  const bool stuck = GENERATE(false, true);
  client deaf{s.port(), 4096};
  if (stuck) {
    REQUIRE(deaf.open("/events").status == 200);
    for (int i = 0; i < 8; ++i) s.publish(ticks, std::string(1'000'000, 'x'));
  } else {
    deaf.close();
  }
  std::string got;
  std::thread reads{[&] { got = stream.rest(); }};
  CHECK(s.on_loop([&] {
    return s->drain({.deadline = milliseconds{stuck ? 2000 : 20'000}, .farewell = {.data = "bye"}});
  }) != stuck);
  reads.join();
  CHECK(got.find("retry: ") != std::string::npos);
  CHECK(got.ends_with("data: bye\n\n"));
  CHECK(idle.rest().empty());
  CHECK(s.on_loop([&] { return s->connections(); }) == 0);
}

TEST_CASE("drain: a connection that is to be kept ends when its answer is out") {
  server s{{.keep_alive = sse::duration::infinite(), .send_buffer = 8192}};
  ticks_of(s);
  client c{s.port(), 65536};
  c.send(client::make("GET", "/large"));
  const answer large = c.head();
  CHECK(large.header("Connection") == "keep-alive");
  bool clean = false;
  std::thread drains{
      [&] { clean = s.on_loop([&] { return s->drain({.deadline = test::patience}); }); }};
  CHECK(c.rest().size() == 8'000'000);
  CHECK_FALSE(c.was_reset);
  c.close();
  drains.join();
  CHECK(clean);
}

TEST_CASE("drain: a deadline of forever never comes") {
  server s;
  sse::channel ticks = ticks_of(s, {.max_lag = 0});
  client slow{s.port(), 4096};
  REQUIRE(slow.open("/events").status == 200);
  for (int i = 0; i < 8; ++i) s.publish(ticks, std::string(1'000'000, 'x'));
  std::size_t got = 0;
  std::thread reads{[&] { got = slow.rest().size(); }};
  CHECK(s.on_loop([&] { return s->drain({.deadline = sse::duration::infinite()}); }));
  reads.join();
  CHECK(got > 8'000'000);
}

TEST_CASE("mail of other threads wakes the loop, in order, none lost") {
  const bool busy = GENERATE(false, true);
  server s{{.busy_poll = busy}};
  sse::channel ticks = ticks_of(s, {.keep = 100'000, .max_lag = 0});
  client c{s.port()};
  REQUIRE(c.open("/events").status == 200);
  std::vector<std::thread> threads;
  for (char name : {'a', 'b', 'c'}) {
    threads.emplace_back(
        [&s, name, mail = s.on_loop([&] { return s->make_publisher(ticks); })]() mutable {
          for (int i = 0; i < 300; ++i) {
            while (mail.try_publish(name + std::to_string(i)) == sse::publish_error::full) {
              std::this_thread::yield();
            }
            if (i % 50 == 0)
              (void)s.on_loop([] { return 0; });  // the loop has gone to sleep before
          }
        });
  }
  int next[3] = {};
  for (int i = 0; i < 900; ++i) {
    const std::string data = c.data();
    REQUIRE(data.size() > 1);
    int& expected = next[data[0] - 'a'];
    CHECK(data.substr(1) == std::to_string(expected));
    ++expected;
  }
  for (std::thread& t : threads) t.join();
}

TEST_CASE("clients that leave at every stage leave nothing behind") {
  server s{{.head_deadline = milliseconds{500}, .send_buffer = 8192}};
  sse::channel ticks = ticks_of(s, {.max_lag = 0});
  for (int i = 0; i < 200; ++i) {
    client c{s.port(), i % 2 != 0 ? 4096 : 0};
    if (i % 5 == 1) c.send(get_events.substr(0, static_cast<std::size_t>(i % 40)));
    if (i % 5 == 2) c.send(get_events);
    if (i % 5 == 3) c.send(client::make("GET", "/large"));
    if (i % 5 == 4) {
      REQUIRE(c.open("/events").status == 200);
      s.publish(ticks, std::string(3000, 'x'));
    }
    i % 3 == 0 ? c.close() : c.reset();
  }
  CHECK(s.eventually([&] { return s->connections() == 0; }));
  CHECK(client{s.port()}.get("/health").status == 200);
}

#if !defined(SSEHUB_TEST_ASAN)  // UBSan itself needs descriptors to look at memory
TEST_CASE("descriptors run out: accepting pauses, is reported, and goes on") {
  server s;
  ticks_of(s);
  client first{s.port()};
  CHECK(first.get("/health").status == 200);
  int reported = 0;
  s.on_loop([&] {
    s->on_error([&](std::string_view what, const std::error_code& e) {
      if (what == "accept" && e == std::errc::too_many_files_open) ++reported;
    });
  });
  client waits{0, client::unconnected{}};
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit none = before;
  none.rlim_cur = 1;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  waits.connect(s.port());
  waits.send(client::make("GET", "/health"));
  const bool noticed = s.eventually([&] { return reported != 0; });
  CHECK(first.get("/health").status == 200);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(noticed);
  CHECK(waits.whole_answer().status == 200);
}
#endif

TEST_CASE("listen: a port in use is a clear error, literals and names work, a port may be shared") {
  sse::epoll_server<> a{{.reuse_port = true}};
  sse::epoll_server<> b{{.reuse_port = true}};
  sse::epoll_server<> c;
  REQUIRE_FALSE(a.listen("127.0.0.1", 0));
  CHECK_FALSE(b.listen("127.0.0.1", a.port()));
  CHECK(b.port() == a.port());
  CHECK(c.listen("127.0.0.1", a.port()) == std::errc::address_in_use);
  CHECK(c.port() == 0);
  CHECK(c.listen("not an address", 0));
  CHECK_FALSE(c.listen("localhost", 0));
  CHECK(c.port() != 0);
  const std::error_code six = c.listen("[::1]", 0);
  CHECK((!six || six == std::errc::address_not_available ||
         six == std::errc::address_family_not_supported));
}

TEST_CASE("listen: what the system does not give is said, and can be asked for again") {
  if (test::cannot_fail_socket_calls()) return;
  for (const int error : {EADDRNOTAVAIL, EAFNOSUPPORT, EACCES}) {
    sse::epoll_server<> s;
    test::fail_socket_call(0, error);
    const std::error_code e = s.listen("127.0.0.1", 0);
    CHECK(test::end_failing());
    CHECK(e.value() == error);
    CHECK(s.port() == 0);
    CHECK_FALSE(s.listen("127.0.0.1", 0));
    CHECK(s.port() != 0);
    test::fail_socket_call(0, ENOBUFS);  // the system tells no port
    CHECK(s.port() == 0);
    CHECK(test::end_failing());
    CHECK(s.port() != 0);
  }
}

TEST_CASE("forwarded-for is believed of trusted proxies only") {
  const bool trusted = GENERATE(false, true);
  sse::server_options o;
  if (trusted) o.trusted_proxies = {"127.0.0.1", "::ffff:10.0.0.1"};
  server s{o};
  s.on_loop([&] {
    s->get("/who",
           [](const sse::request& r) { return sse::response::text(200, std::string{r.address}); });
  });
  client c{s.port()};
  const std::string named = "X-Forwarded-For: 1.2.3.4, [2001:DB8::1]:80, 10.0.0.1:99\r\n";
  CHECK(c.get("/who", named).body == (trusted ? "2001:db8::1" : "127.0.0.1"));
  CHECK(c.get("/who").body == "127.0.0.1");
  CHECK_THROWS_AS(sse::epoll_server<>{{.trusted_proxies = {"proxy"}}}, std::invalid_argument);
}

TEST_CASE("a handler may stop its server, and one that throws answers 500") {
  std::string said;
  server s;
  ticks_of(s);
  s.on_loop([&] {
    s->get("/bad", [](const sse::request&) -> sse::response { throw std::runtime_error("no"); });
    s->get("/stop", [&](const sse::request&) {
      s->stop();
      return sse::response::text(200, "never");
    });
    s->stream("/stop-stream", [&](const sse::request&) -> sse::verdict<> {
      s->stop();
      return sse::admit();
    });
    s->get("/stop-throw", [&](const sse::request&) -> sse::response {
      s->stop();
      throw std::runtime_error("no");
    });
    s->get("/throw-7", [&](const sse::request&) -> sse::response { throw 7; });
    s->on_error([&](std::string_view what, const std::error_code&) { said += what; });
  });
  const std::string_view path = GENERATE("/stop", "/stop-stream", "/stop-throw");
  client stream{s.port()};
  REQUIRE(stream.open("/events").status == 200);
  client c{s.port()};
  CHECK(c.get("/bad").status == 500);
  CHECK(c.get("/throw-7").status == 500);
  CHECK(s.on_loop([&] { return said; }) == "noexception");
  c.send(client::make("GET", path) + client::make("GET", "/health"));
  CHECK(c.rest().empty());
  CHECK(stream.rest().empty());
  CHECK(s.on_loop([&] { return s->connections(); }) == 0);
  CHECK(s.on_loop([&] { return s->listen("127.0.0.1", 0); }));
}

TEST_CASE("a server may be destroyed with all under way, and run again after an interrupt") {
  std::vector<client> all;
  int ended = 0;
  {
    sse::epoll_server<> s{{.send_buffer = 8192}};
    sse::channel ticks = s.open_channel("ticks", {.max_lag = 0});
    s.stream("/events", ticks);
    s.hub().on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason) { ++ended; });
    REQUIRE_FALSE(s.listen("127.0.0.1", 0));
    s.interrupt();
    s.run();
    for (int i = 0; i < 20; ++i) {
      all.emplace_back(s.port(), 4096).send(i % 4 != 0 ? get_events : get_events.substr(0, 9));
    }
    while (s.hub().sessions() != 15) s.poll(test::patience);
    for (int i = 0; i < 40; ++i) (void)s.publish(ticks, {.data = std::string(9000, 'x')});
    s.poll();
  }
  CHECK(ended == 15);
  for (client& c : all) (void)c.rest();
}

TEST_CASE("the loop sleeps when there is nothing to do") {
  sse::epoll_server<> s;
  REQUIRE_FALSE(s.listen("127.0.0.1", 0));
  s.poll();
  int turns = 0;
  const auto end = std::chrono::steady_clock::now() + milliseconds{100};
  for (auto now = end - milliseconds{100}; now < end; now = std::chrono::steady_clock::now()) {
    s.poll(end - now);
    ++turns;
  }
  CHECK(turns <= 3);
}

#if defined(__GLIBC__) && !defined(SSEHUB_TEST_ASAN) && !defined(SSEHUB_TEST_TSAN)
TEST_CASE("an idle stream costs 300 bytes of user memory at most") {
  constexpr std::size_t n = 2000;
  if (!test::allow_descriptors(2 * n + 100)) return;
  sse::epoll_server<> s{{.hub = {.caps = {.per_address = {.max = 0}}}}};
  sse::channel ticks = s.open_channel("ticks");
  s.stream("/events", ticks);
  REQUIRE_FALSE(s.listen("127.0.0.1", 0));
  std::vector<client> all;
  all.reserve(n);
  const auto used = [] {
    const struct mallinfo2 m = ::mallinfo2();
    return m.uordblks + m.hblkhd;
  };
  const std::size_t before = used();
  for (std::size_t i = 0; i < n; ++i) {
    all.emplace_back(s.port()).send(get_events);
    if (i % 64 == 0) s.poll();
  }
  while (s.hub().sessions() != n) s.poll(test::patience);
  s.poll();
  const double each = static_cast<double>(used() - before) / static_cast<double>(n);
  INFO(each << " bytes for each stream");
  CHECK(each < 300);
  CHECK(each > 50);
}

TEST_CASE("connections that come and go leave nothing behind") {
  sse::epoll_server<> s{{}};
  s.get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
  REQUIRE_FALSE(s.listen("127.0.0.1", 0));
  const auto come_and_go = [&](int times) {
    for (; times > 0; --times) {
      {
        client c{s.port()};
        c.send(client::make("GET", "/health"));
        while (!c.has_input()) s.poll();
        CHECK(c.head().status == 200);
      }
      while (s.connections() != 0) s.poll();
    }
    s.poll();
    return ::mallinfo2().uordblks;
  };
  const std::size_t before = come_and_go(50);
  CHECK(come_and_go(500) <= before + 10'000);
}

TEST_CASE("an idle connection keeps no buffer of a large request or answer") {
  constexpr std::size_t n = 20;
  const std::string large(200'000, 'x');
  sse::epoll_server<> s{{.send_buffer = 400'000}};
  s.get("/large", [&](const sse::request&) { return sse::response::text(200, large); });
  s.post("/large",
         [](const sse::request&, std::string_view) { return sse::response::text(200, "ok"); });
  REQUIRE_FALSE(s.listen("127.0.0.1", 0));
  const auto used = [] {
    const struct mallinfo2 m = ::mallinfo2();
    return m.uordblks + m.hblkhd;
  };
  const auto ask_all = [&](std::vector<client>& all) {
    for (client& c : all) {
      c.send(client::make("GET", "/large") +
             client::make("POST", "/large",
                          "Content-Length: " + std::to_string(large.size()) + "\r\n"));
      while (!c.has_input()) s.poll();
      CHECK(c.head().status == 200);
      for (std::size_t got = 0; got < large.size(); s.poll()) got += c.taken().size();
      for (std::size_t sent = 0; sent < large.size(); sent += 10'000) {
        c.send(std::string_view{large}.substr(0, 10'000));
        s.poll();
      }
      while (!c.has_input()) s.poll();
      CHECK(c.whole_answer().body == "ok");
    }
  };
  std::vector<client> all;
  {
    std::vector<client> first;
    first.emplace_back(s.port(), 400'000);
    ask_all(first);
  }
  const std::size_t before = used();
  for (std::size_t i = 0; i < n; ++i) all.emplace_back(s.port(), 400'000);
  ask_all(all);
  CHECK(used() < before + n * 40'000);
}
#endif

TEST_CASE("each socket call of the server fails once, and nobody misses an event") {
  for (const int error : {ENOMEM, EINTR, ECONNRESET})
    test::every_socket_call_fails_once<server>(error);
}

TEST_CASE("each socket call of a start fails once: it says so and keeps nothing") {
  const auto make = [] {
    sse::epoll_server<> s;
    return static_cast<bool>(s.listen("127.0.0.1", 0));
  };
  test::every_socket_call_of_a_start_fails_once(make, ENOMEM);
}
