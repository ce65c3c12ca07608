// Publishing from other threads through the server.
#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "asio/client.hpp"
#include "catch.hpp"

using test::client;

TEST_CASE("four threads publish to fifty subscribers: each thread's events in order, none lost") {
  test::server<> s;
  sse::channel ticks = s.open("ticks", {.keep = 100'000, .max_lag = 0});
  s.on_loop([&] { s->stream("/events", ticks); });
  std::vector<client> all;
  for (int i = 0; i < 50; ++i) {
    all.emplace_back(s.port());
    REQUIRE(all.back().open("/events").status == 200);
  }
  constexpr int threads = 4;
  constexpr int each = 300;
  std::vector<std::thread> publishers;
  std::atomic<int> failures = 0;
  for (int t = 0; t < threads; ++t) {
    sse::publisher p = s.on_loop([&] { return s->make_publisher(ticks, 4096); });
    publishers.emplace_back([t, &failures, p = std::move(p)]() mutable {
      for (int i = 0; i < each;) {
        const std::string data = std::to_string(t) + " " + std::to_string(i);
        const sse::publish_result r = p.try_publish({.type = "t", .data = data});
        if (r == sse::publish_error::none) ++i;
        if (r == sse::publish_error::full) std::this_thread::yield();
        if (r != sse::publish_error::none && r != sse::publish_error::full) {
          ++failures;
          return;
        }
      }
    });
  }
  for (client& c : all) {
    int next[threads] = {};
    bool in_order = true;
    for (int n = 0; n < threads * each && in_order; ++n) {
      const std::string data = c.data();
      const int t = data.empty() ? -1 : data[0] - '0';
      in_order = t >= 0 && t < threads && data.substr(1) == " " + std::to_string(next[t]++);
    }
    CHECK(in_order);
  }
  for (std::thread& t : publishers) t.join();
  CHECK(failures == 0);
  CHECK(s.on_loop([&] { return s->mail().drained(); }) == threads * each);
}

TEST_CASE("mail wakes a loop that sleeps, each time") {
  test::server<> s;
  sse::channel ticks = s.open("ticks");
  s.on_loop([&] { s->stream("/events", ticks); });
  client c{s.port()};
  REQUIRE(c.open("/events").status == 200);
  sse::publisher p = s.on_loop([&] { return s->make_publisher(ticks); });
  for (int i = 0; i < 200; ++i) {
    REQUIRE(p.try_publish(std::to_string(i)) == sse::publish_error::none);
    REQUIRE(c.data() == std::to_string(i));
  }
}

TEST_CASE("mail for a channel that is closed goes to nobody, and is reported") {
  test::server<> s;
  const auto token_of_new = [&] {
    sse::channel c = s.open("same name");
    return s.on_loop([&] { return s->make_publisher(c); });
  };
  std::atomic<int> reports = 0;
  s.on_loop([&] { s->on_error([&](std::string_view, const std::error_code&) { ++reports; }); });
  sse::publisher old = token_of_new();
  CHECK(old.try_publish("seen") == sse::publish_error::none);
  REQUIRE(s.eventually([&] { return s->mail().drained() == 1; }));

  s.on_loop([&] { s->close_channel(s->hub().find_channel("same name")); });
  sse::publisher fresh = token_of_new();
  CHECK(old.try_publish("late") == sse::publish_error::none);
  CHECK(fresh.try_publish("seen") == sse::publish_error::none);
  REQUIRE(s.eventually([&] { return s->mail().drained() == 3; }));
  CHECK(reports == 1);
  CHECK(s.on_loop([&] { return s->hub().find_channel("same name").stats().published; }) == 1);

  s.on_loop([&] { s->hub().close_channel(s->hub().find_channel("same name")); });
  CHECK(fresh.try_publish("late") == sse::publish_error::none);
  REQUIRE(s.eventually([&] { return s->mail().drained() == 4; }));
  CHECK(reports == 2);
  sse::publisher stranger = s.on_loop([&] { return s->mail().make_publisher(77); });
  CHECK(stranger.try_publish("?") == sse::publish_error::none);
  REQUIRE(s.eventually([&] { return reports == 3; }));
}

TEST_CASE("publishers may outlive the server, and end while it runs") {
  sse::publisher outlives;
  {
    test::server<> s;
    sse::channel ticks = s.open("ticks");
    outlives = s.on_loop([&] { return s->make_publisher(ticks); });
    for (int i = 0; i < 50; ++i) {
      std::thread{[p = s.on_loop([&] { return s->make_publisher(ticks, 1024); })]() mutable {
        CHECK(p.try_publish("x") == sse::publish_error::none);
      }}.join();
    }
    REQUIRE(s.eventually([&] { return ticks.stats().published == 50; }));
  }
  CHECK(outlives.try_publish("x") == sse::publish_error::closed);
}
