// client.hpp: what one hop, or one connection, must not leave to the next. In virtual time.
#include <sse/client.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

namespace {

using sse::client_action;
using sse::client_error;
using sse::client_options;
using sse::client_state;
using sse::duration;
using sse::time_point;
using text = std::string_view;

constexpr text plain_head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
constexpr text beating_head =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Heartbeat-Interval: 5\r\n\r\n";

std::string redirect(text location, int status = 302) {
  return "HTTP/1.1 " + std::to_string(status) + " x\r\nLocation: " + std::string{location} +
         "\r\n\r\n";
}

/// A source that is told what happens, one connection after the other.
struct told_rig {
  explicit told_rig(client_options o = {}, text url = "http://h/s")
      : source{url, (o.jitter = 0, o)} {  // exact delays
    poll();
  }

  sse::event_source source;
  std::int64_t ms = 0;
  std::vector<std::string> ids{};
  int connects = 0;

  [[nodiscard]] time_point now() const { return time_point::milliseconds(ms); }
  void on_event(const sse::event& e) { ids.emplace_back(e.id); }

  void poll() {
    for (;;) {
      const client_action a = source.poll(now());
      if (a.what == client_action::none) return;
      if (a.what == client_action::connect) ++connects;
    }
  }
  void receive(text in) {
    CHECK(source.received(now(), in, *this) == in.size());
    poll();
  }
  /// The connection is there, and this comes; returns the request.
  std::string answer(text in) {
    std::string request{source.connected(now())};
    REQUIRE_FALSE(request.empty());
    receive(in);
    return request;
  }
  void hang_up(client_error why = client_error::none) {
    source.ended(now(), why);
    poll();
  }
  /// To the next attempt; how long that took.
  std::int64_t wait() {
    const time_point due = source.next_deadline();
    REQUIRE(due < time_point::never());
    const std::int64_t before = ms;
    ms = due.ms() > ms ? due.ms() : ms;
    poll();
    return ms - before;
  }
  /// Answers a stream with nothing in it and hangs up; how many failed in a row now.
  std::uint32_t nothing_comes_of_it(text head = plain_head) {
    answer(head);
    REQUIRE(source.state() == client_state::open);
    hang_up();
    return source.failure().attempts;
  }
};

bool has(text request, text what) { return request.find(what) != text::npos; }

}  // namespace

TEST_CASE("client: what the user gave stays at home from the first foreign hop on") {
  struct row {
    text home;
    std::vector<text> hops;
    std::size_t trusted;  // requests that carry it, the first one included
  };
  const row rows[] = {
      {"http://h/s", {"/a", "b", "?c"}, 4},
      {"http://h/s", {"http://h/a", "http://H:80/b", "//h/c"}, 4},
      {"https://h/s", {"https://h:443/a", "//h/b"}, 3},
      {"http://h/s", {"http://evil/b", "http://evil/c"}, 1},
      {"http://h/s", {"http://evil/b", "/c", "d"}, 1},
      {"http://h/s", {"http://evil/b", "http://evil/c", "http://h/s", "http://h/t"}, 1},
      {"http://h/s", {"http://evil/b", "http://h/s", "/t"}, 1},
      {"http://h/s", {"/a", "http://evil/b", "http://evil/c", "http://h/s"}, 2},
      {"http://h/s", {"/a", "/b", "http://evil/c", "/d", "http://h/s"}, 3},
      {"http://h/s", {"https://h/s", "https://h/t", "/u"}, 1},  // another scheme
      {"https://h/s", {"http://h/s", "http://h/t", "https://h/s"}, 1},
      {"https://h/s", {"http://h:443/s", "/t"}, 1},
      {"http://h:443/s", {"https://h/s", "/t"}, 1},
      {"http://h/s", {"http://h:443/s", "/t"}, 1},  // another port
      {"http://h/s", {"http://h:8/s", "http://h:8/t", "http://h:80/s"}, 1},
      {"http://h:8/s", {"/a", "http://h:8/b", "http://h:80/c"}, 3},
      {"http://h:8/s", {"http://h:88/c", "/d"}, 1},
      {"http://h/s", {"http://h./s", "/t"}, 1},  // nearly the name
      {"http://h/s", {"http://h.evil/s", "/t"}, 1},
      {"http://h/s", {"http://xh/s", "http://xh/t"}, 1},
      {"http://h/s", {"http://www.h/s", "/t"}, 1},
      {"http://127.0.0.1/s", {"http://127.0.0.11/s", "/t"}, 1},
      {"http://127.0.0.1/s", {"http://[::ffff:127.0.0.1]/s", "/t"}, 1},
  };
  for (const int status : {301, 302, 303, 307, 308}) {
    for (const row& t : rows) {
      const sse::header headers[] = {
          {"Authorization", "secret"}, {"Cookie", "secret"}, {"X-Key", "secret"}};
      told_rig r{{.headers = headers, .last_event_id = "7", .allow_insecure_redirect = true},
                 t.home};
      for (int round = 0; round < 2; ++round) {  // each reconnection begins at home again
        for (std::size_t hop = 0; hop <= t.hops.size(); ++hop) {
          INFO(status << " " << t.home << " round " << round << " request " << hop);
          const bool last = hop == t.hops.size();
          const std::string request =
              r.answer(last ? std::string{plain_head} : redirect(t.hops[hop], status));
          CHECK(has(request, "secret") == (hop < t.trusted));
          CHECK(has(request, "\r\nLast-Event-ID: 7\r\n"));
        }
        CHECK(r.source.state() == client_state::open);
        r.hang_up();
        r.wait();
      }
    }
  }
}

TEST_CASE("client: an insecure hop is refused wherever it stands") {
  const auto error = [](std::vector<text> hops) {
    told_rig r{{}, "https://h/s"};
    for (const text hop : hops) {
      if (r.source.state() == client_state::closed) return std::string{"too soon"};
      r.answer(redirect(hop));
    }
    return std::string{sse::to_string(r.source.failure().error)};
  };
  CHECK(error({"http://h/s"}) == "insecure_redirect");
  CHECK(error({"/a", "/b", "http://h/s"}) == "insecure_redirect");
  CHECK(error({"https://other/a", "http://other/b"}) == "insecure_redirect");
  CHECK(error({"https://other/a", "http://h/s"}) == "insecure_redirect");
  CHECK(error({"//other/a", "https://h/s"}) == "none");
  // What is already in the clear may stay there.
  told_rig plain{{}, "http://h/s"};
  plain.answer(redirect("https://h/s"));
  plain.answer(redirect("http://h/s"));
  CHECK(plain.source.failure().error == client_error::insecure_redirect);
}

TEST_CASE("client: a POST that became a GET stays one for the rest of the attempt, and no longer") {
  const sse::header headers[] = {{"Content-Type", "a/b"}};
  told_rig r{{.method = "POST", .body = "body", .headers = headers}};
  for (int round = 0; round < 2; ++round) {
    CHECK(r.answer(redirect("/a", 307)).starts_with("POST /s "));
    CHECK(r.answer(redirect("/b", 303)).starts_with("POST /a "));
    for (const int status : {307, 308, 302}) {
      const std::string request = r.answer(redirect("/b", status));
      CHECK(request.starts_with("GET /b "));
      CHECK_FALSE(has(request, "Content-"));
      CHECK(request.ends_with("\r\n\r\n"));
    }
    CHECK(r.answer(plain_head).starts_with("GET /b "));
    r.hang_up();
    r.wait();
  }
}

TEST_CASE("client: a server that answers 200 and hangs up meets back-off, whatever came before") {
  const std::string before = GENERATE("nothing", "an event", "a long life");
  told_rig r{{.seed = 5}};
  if (before != "nothing") {
    r.answer(plain_head);
    if (before == "an event") r.receive("id: 1\ndata: x\n\n");
    if (before == "a long life") r.ms += 60'000;
    r.hang_up();
    CHECK(r.source.failure().attempts == 0);
    CHECK(r.wait() == 3000);
  }
  std::int64_t longest = 0;
  for (std::uint32_t n = 1; n <= 20; ++n) {
    CHECK(r.nothing_comes_of_it() == n);
    CHECK(r.source.failure().was_open);
    const std::int64_t delay = r.wait();
    CHECK(delay >= 3000);
    if (n == 1) CHECK(delay == 3000);
    longest = delay > longest ? delay : longest;
  }
  CHECK(longest > 15'000);
}

TEST_CASE("client: an event of one connection does not make a redirected one a good one") {
  told_rig r;
  r.answer(plain_head);
  r.receive("data: x\n\n");
  r.hang_up();
  r.wait();
  for (std::uint32_t n = 1; n <= 4; ++n) {
    r.answer(redirect("/other"));
    CHECK(r.nothing_comes_of_it() == n);
    r.wait();
  }
  // Nor does it help one that never opens.
  r.answer(redirect("/other"));
  r.answer("HTTP/1.1 nonsense\r\n\r\n");
  CHECK(r.source.failure().attempts == 5);
  CHECK_FALSE(r.source.failure().was_open);
}

TEST_CASE("client: a good connection does not make those good that never opened") {
  const bool event = GENERATE(false, true);
  told_rig r;
  r.answer(plain_head);
  if (event) r.receive("data: x\n\n");
  r.ms += event ? 0 : 60'000;
  r.hang_up();
  CHECK(r.source.failure().attempts == 0);
  r.wait();
  for (std::uint32_t n = 1; n <= 5; ++n) {
    r.hang_up(client_error::connect);
    CHECK(r.source.failure().attempts == n);
    r.wait();
  }
}

TEST_CASE("client: a life that is long enough is each connection's own") {
  told_rig r{{.stable_after = duration::milliseconds(1000)}};
  for (const std::int64_t lasts : {std::int64_t{1000}, std::int64_t{1001}}) {
    for (std::uint32_t n = 1; n <= 3; ++n) {  // together longer than that
      r.answer(plain_head);
      r.ms += 999;
      r.hang_up();
      CHECK(r.source.failure().attempts == n);
      r.wait();
    }
    r.answer(plain_head);
    r.ms += lasts;
    r.hang_up();
    CHECK(r.source.failure().attempts == 0);
    r.wait();
  }
}

TEST_CASE("client: a heartbeat that one connection announced is not expected of the next") {
  told_rig r;
  r.answer(beating_head);
  CHECK(r.source.next_deadline().ms() == r.ms + 15'000);
  r.wait();
  CHECK(r.source.failure().error == client_error::stalled);
  r.wait();
  r.answer(plain_head);
  CHECK(r.source.next_deadline().ms() == r.ms + 90'000);
  r.hang_up();
  r.wait();
  r.answer(redirect("/s"));
  r.answer(beating_head);
  r.ms += 10'000;
  r.receive(":\n");
  CHECK(r.source.next_deadline().ms() == r.ms + 15'000);
}

TEST_CASE("client: what a failure tells is of its own attempt") {
  told_rig r;
  r.answer("HTTP/1.1 503 x\r\nRetry-After: 100\r\n\r\n");
  CHECK(r.source.failure().status == 503);
  CHECK(r.source.failure().delay.ms() == 100'000);
  r.wait();
  r.hang_up(client_error::connect);
  CHECK(r.source.failure().status == 0);
  CHECK_FALSE(r.source.failure().was_open);
  CHECK(r.source.failure().delay.ms() <= 30'000);  // that wish was for once
  r.wait();
  r.answer(plain_head);
  r.hang_up();
  CHECK(r.source.failure().status == 200);
  CHECK(r.source.failure().was_open);
  r.wait();
  r.answer(redirect("/x"));
  r.hang_up(client_error::connect);
  CHECK_FALSE(r.source.failure().was_open);
}

TEST_CASE("client: half of an event, and half of a head, end with their connection") {
  told_rig r;
  r.answer(plain_head);
  r.receive("id: 1\ndata: x\n\nid: 2\nevent: e\ndata: y\n");
  CHECK(r.source.last_event_id() == "1");
  r.hang_up();
  r.wait();
  CHECK(has(r.answer("HTTP/1.1 200 OK\r\nContent-Ty"), "Last-Event-ID: 1\r\n"));
  r.hang_up();
  CHECK(r.source.failure().error == client_error::cut);
  r.wait();
  r.answer(plain_head);
  r.receive("data: z\n\n");
  CHECK(r.ids == std::vector<std::string>{"1", "1"});
}

TEST_CASE("client: the last event id, at its limit, one below and one above") {
  for (const std::size_t limit : {std::size_t{8}, sse::parse_limits{}.id}) {
    for (const std::size_t size : {limit - 1, limit, limit + 1}) {
      CAPTURE(limit, size);
      const std::string id(size, 'i');
      const bool fits = size <= limit;
      client_options o{.last_event_id = id};
      o.stream.limits.id = limit;
      told_rig given{o};
      CHECK((given.source.state() == client_state::closed) == !fits);
      CHECK(given.source.failure().error ==
            (fits ? client_error::none : client_error::bad_options));
      if (fits) CHECK(has(given.answer(plain_head), "\r\nLast-Event-ID: " + id + "\r\n"));

      client_options plain;
      plain.stream.limits.id = limit;
      told_rig received{plain};
      received.answer(plain_head);
      received.receive("id: 1\ndata: x\n\n");
      received.receive("id: " + id + "\ndata: y\n\n");
      CHECK(received.source.last_event_id() == (fits ? id : "1"));
      CHECK(received.ids.size() == (fits ? 2 : 1));
      if (fits) received.hang_up();
      CHECK(received.source.failure().error ==
            (fits ? client_error::end_of_stream : client_error::bad_stream));
      received.wait();
      CHECK(has(received.answer(plain_head), "\r\nLast-Event-ID: " + (fits ? id : "1") + "\r\n"));
    }
  }
}

TEST_CASE("client: redirects, at the limit, one below and one above, in each attempt anew") {
  told_rig r{{.max_redirects = 3}};
  for (int round = 0; round < 3; ++round) {
    for (int hop = 0; hop < 2 + (round != 0 ? 1 : 0); ++hop) r.answer(redirect("/s"));
    r.answer(plain_head);
    CHECK(r.source.state() == client_state::open);
    r.hang_up();
    r.wait();
  }
  for (int hop = 0; hop < 3; ++hop) {
    r.answer(redirect("/s"));
    CHECK(r.source.state() == client_state::connecting);
  }
  r.answer(redirect("/s"));
  CHECK(r.source.failure().error == client_error::too_many_redirects);
  CHECK(r.source.state() == client_state::closed);
}

TEST_CASE("client: watchdogs, at the deadline and one millisecond before") {
  told_rig r{{.connect_timeout = duration::milliseconds(100),
              .head_timeout = duration::milliseconds(200),
              .stall_timeout = duration::milliseconds(300)}};
  const auto last_ms = [&](std::int64_t limit, client_error error) {
    const client_error before = r.source.failure().error;
    r.ms += limit - 1;
    r.poll();
    CHECK(r.source.failure().error == before);
    r.ms += 1;
    r.poll();
    CHECK(r.source.failure().error == error);
    r.wait();
  };
  last_ms(100, client_error::connect_timeout);
  CHECK_FALSE(r.source.connected(r.now()).empty());
  r.ms += 150;
  r.receive("HTTP/1.1 200 OK\r\n");  // bytes do not help: the head as a whole is late
  r.ms -= 150;
  last_ms(200, client_error::head_timeout);
  r.answer(plain_head);
  r.ms += 299;
  r.receive(":");  // here they do
  last_ms(300, client_error::stalled);
}
