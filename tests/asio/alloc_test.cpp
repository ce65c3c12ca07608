// Memory runs out at each allocation in turn: that one request may fail, the server goes on.
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "allocations.hpp"
#include "asio/client.hpp"
#include "catch.hpp"

#if TEST_ALLOCATIONS

TEST_CASE("an allocation that fails costs one request at most, each in turn") {
  using std::chrono::milliseconds;
  using test::client;
  bool done = false;
  for (std::uint64_t n = 0; !done; ++n) {
    INFO("allocation " << n);
    asio::io_context ctx{1};
    std::optional<sse::asio_server<>> server{std::in_place, ctx};
    sse::channel ticks = server->open_channel("ticks");
    server->stream("/events", ticks);
    server->get("/later",
                [](const sse::request&, sse::responder r) { r(sse::response::text(200, "ok")); });
    server->post("/echo", [](const sse::request&, std::string_view body) {
      return sse::response::text(200, std::string{body});
    });
    server->on_error([](std::string_view, const std::error_code&) {});
    REQUIRE_FALSE(server->listen("127.0.0.1", 0));
    const auto run = [&](auto until) {
      const auto end = std::chrono::steady_clock::now() + test::patience;
      while (!until() && std::chrono::steady_clock::now() < end) ctx.run_one_for(milliseconds{10});
      return until();
    };

    client before{server->port()};
    before.send(client::make("GET", "/events"));
    REQUIRE(run([&] { return server->hub().sessions() == 1; }));
    client plain{server->port()};
    client stream{server->port()};
    plain.send(
        client::make("GET", "/later") + client::make("HEAD", "/events") +
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\nExpect: 100-continue\r\n\r\n" +
        std::string(300, 'x') + client::make("GET", "/nothing"));
    stream.send(client::make("GET", "/events"));
    const std::string large(5000, 'x');
    {
      const test::failing_allocations one{n, 1};
      for (int i = 0; i < 60; ++i) {
        try {
          ctx.poll();
        } catch (const std::bad_alloc&) {  // Asio's own
        }
        if (i == 20) (void)server->publish(ticks, {.data = large});
        if (i == 40) (void)server->publish(ticks, {.data = "last"});
      }
      done = !one.hit();  // it did not come to that: all was seen
    }
    plain.reset();
    stream.reset();

    // The others, and those who come later, are served.
    REQUIRE(run([&] { return server->connections() == 1; }));
    client after{server->port()};
    after.send(client::make("GET", "/later") + client::make("GET", "/events"));
    REQUIRE(run([&] { return server->hub().sessions() == 2; }));
    const std::uint64_t writes = server->hub().stats().writes;
    (void)server->publish(ticks, {.data = "seen by all"});
    REQUIRE(run([&] { return server->hub().stats().writes == writes + 2; }));
    CHECK(after.whole_answer().body == "ok");
    CHECK(after.head().status == 200);
    CHECK(after.data() == "seen by all");
    CHECK(before.head().status == 200);
    std::string seen;
    while (seen != "seen by all") seen = before.data();
    bool drained = false;
    server->async_drain([&](asio::error_code e) { drained = !e; });
    before.close();
    after.close();
    ctx.run();
    CHECK(drained);
  }
}

TEST_CASE("a turn that could not be posted for memory is posted by the next event") {
  using std::chrono::milliseconds;
  using test::client;
  asio::io_context ctx{1};
  sse::asio_server<> server{ctx, {.hub = {.position = false}}};
  sse::channel ticks =
      server.open_channel("ticks", {.heartbeat = {.mode = sse::heartbeat_options::pace::off}});
  server.stream("/events", ticks);
  REQUIRE_FALSE(server.listen("127.0.0.1", 0));
  const auto run = [&](auto until) {
    const auto end = std::chrono::steady_clock::now() + test::patience;
    while (!until() && std::chrono::steady_clock::now() < end) ctx.run_one_for(milliseconds{10});
    return until();
  };
  client c{server.port()};
  c.send(client::make("GET", "/events"));
  REQUIRE(run([&] { return c.has_input(); }));
  REQUIRE(c.head().status == 200);
  bool done = false;
  for (std::uint64_t n = 0; !done; ++n) {
    INFO("allocation " << n);
    while (ctx.poll_one() != 0) {
    }
    bool published = false;
    {
      // Blocks that Asio kept for its next operation would be taken without an allocation.
      std::vector<asio::steady_timer> keeping;
      for (int i = 0; i < 4; ++i) {
        keeping.emplace_back(ctx, std::chrono::hours{1}).async_wait([](asio::error_code) {});
      }
      const test::failing_allocations one{n, 1};
      published = static_cast<bool>(server.publish(ticks, {.data = "first"}));
      done = !one.hit();
    }
    REQUIRE(server.publish(ticks, {.data = "second"}));
    if (published) {
      REQUIRE(run([&] { return c.has_input(); }));
      CHECK(c.data() == "first");
    }
    REQUIRE(run([&] { return c.has_input(); }));
    CHECK(c.data() == "second");
  }
}

TEST_CASE("connections that come and go leave nothing behind") {
  using test::client;
  asio::io_context ctx{1};
  sse::asio_server<> server{ctx, {}};
  server.get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
  REQUIRE_FALSE(server.listen("127.0.0.1", 0));
  const auto run = [&](auto until) {
    const auto end = std::chrono::steady_clock::now() + test::patience;
    while (!until() && std::chrono::steady_clock::now() < end) {
      ctx.run_one_for(std::chrono::milliseconds{10});
    }
    return until();
  };
  const auto come_and_go = [&](int times) {
    for (; times > 0; --times) {
      {
        client c{server.port()};
        c.send(client::make("GET", "/health"));
        REQUIRE(run([&] { return c.has_input(); }));
        REQUIRE(c.head().status == 200);
      }
      REQUIRE(run([&] { return server.connections() == 0; }));
    }
    return test::live_bytes();
  };
  const std::int64_t before = come_and_go(50);
  CHECK(come_and_go(200) <= before + 1000);
}

TEST_CASE("channels and their publishers that come and go leave nothing behind") {
  asio::io_context ctx{1};
  sse::asio_server<> server{ctx, {}};
  int closed = 0;
  server.on_channel_closed([&](sse::channel) { ++closed; });
  const auto come_and_go = [&](int times) {
    for (; times > 0; --times) {
      const sse::channel c = server.open_channel("c");
      sse::publisher p = server.make_publisher(c);
      REQUIRE(p.try_publish("x"));
      const int before = closed;
      server.close_channel(c);
      p = {};
      ctx.restart();
      ctx.poll();
      REQUIRE(closed == before + 1);
    }
    return test::live_bytes();
  };
  const std::int64_t before = come_and_go(100);
  CHECK(come_and_go(1000) <= before + 1000);
}

TEST_CASE("a body that was promised and does not come costs no memory") {
  using test::client;
  asio::io_context ctx{1};
  sse::asio_server<> server{ctx, {.limits = {.body = 100'000'000}}};
  server.post("/echo", [](const sse::request&, std::string_view body) {
    return sse::response::text(200, std::string{body});
  });
  REQUIRE_FALSE(server.listen("127.0.0.1", 0));
  const auto bytes_of = [&](const std::string& length) {
    const std::int64_t before = test::live_bytes();
    client c{server.port()};
    c.send(client::make("POST", "/echo",
                        "Content-Length: " + length + "\r\nExpect: 100-continue\r\n"));
    const auto end = std::chrono::steady_clock::now() + test::patience;
    while (!c.has_input() && std::chrono::steady_clock::now() < end) {
      ctx.run_one_for(std::chrono::milliseconds{10});
    }
    REQUIRE(c.has_input());  // it asks for the body
    const std::int64_t held = test::live_bytes() - before;
    c.reset();
    while (server.connections() != 0 && std::chrono::steady_clock::now() < end) {
      ctx.run_one_for(std::chrono::milliseconds{10});
    }
    REQUIRE(server.connections() == 0);
    return held;
  };
  (void)bytes_of("10");
  CHECK(bytes_of("99000000") < 200'000);
}

TEST_CASE("a stream that waited for its verdict keeps no more memory than one that did not") {
  using test::client;
  asio::io_context ctx{1};
  sse::asio_server<> server{ctx};
  const sse::channel ticks = server.open_channel("ticks");
  std::vector<sse::stream_responder<>> waiting;
  server.stream("/now", ticks);
  server.stream("/later", [&](const sse::request&, sse::stream_responder<> to) {
    waiting.push_back(std::move(to));
  });
  REQUIRE_FALSE(server.listen("127.0.0.1", 0));
  const auto run = [&](auto until) {
    const auto end = std::chrono::steady_clock::now() + test::patience;
    while (!until() && std::chrono::steady_clock::now() < end) {
      ctx.run_one_for(std::chrono::milliseconds{10});
    }
    return until();
  };
  const auto bytes_of = [&](const std::string& path) {
    std::vector<client> readers;
    const std::int64_t before = test::live_bytes();
    for (int i = 0; i < 20; ++i) {
      readers.emplace_back(server.port()).send(client::make("GET", path));
      const auto asked = [&] { return server.hub().sessions() + waiting.size() == readers.size(); };
      REQUIRE(run(asked));
    }
    while (ctx.poll_one() != 0) {  // what looks for their ends
    }
    for (sse::stream_responder<>& to : waiting) to(sse::admit().join(ticks));
    waiting.clear();
    REQUIRE(run([&] { return server.hub().sessions() == readers.size(); }));
    const std::int64_t each = (test::live_bytes() - before) / 20;
    readers.clear();
    REQUIRE(run([&] { return server.connections() == 0; }));
    return each;
  };
  (void)bytes_of("/now");
  (void)bytes_of("/later");
  const std::int64_t now = bytes_of("/now");
  CHECK(bytes_of("/later") <= now + 64);
}

#endif
