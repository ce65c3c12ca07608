// event_source: reconnection, back-off, and what is kept over it. In virtual time.
#include <sse/client.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "client_rig.hpp"

using namespace std::string_view_literals;

namespace {

using sse::client_error;
using sse::client_options;
using sse::client_state;
using sse::duration;
using sse::event_source;
using test::chunked_head;
using test::header_of;
using test::list;
using test::rig;
using test::stream_head;

}  // namespace

// --- reconnection

TEST_CASE("client: the reconnection time") {
  struct row {
    std::string_view stream;
    std::int64_t delay;
  };
  const row rows[] = {
      {"data: x\n\n", 3000},
      {"retry: 1000\ndata: x\n\n", 1000},
      {"retry: 1000\n\ndata: x\n\n", 1000},
      {"data: x\n\nretry: 1000\n", 1000},  // at once, even if its event is never finished
      {"data: x\n\nretry: 1000", 3000},
      {"retry: 200\nretry: 300\ndata: x\n\n", 300},
      {"retry: -1\ndata: x\n\n", 3000},
      {"retry: 1.5\ndata: x\n\n", 3000},
      {"retry: 1e3\ndata: x\n\n", 3000},
      {"retry: \ndata: x\n\n", 3000},
      {"retry\ndata: x\n\n", 3000},
      {"retry: +5\ndata: x\n\n", 3000},
      {"retry: 600000\ndata: x\n\n", 600'000},
      {"retry: 600001\ndata: x\n\n", 600'000},
      {"retry: 99999999999999999999999999\ndata: x\n\n", 600'000},
      {"retry: 0\ndata: x\n\n", 200},  // client_options::min_interval
      {"retry: 199\ndata: x\n\n", 200},
  };
  for (const row& t : rows) {
    INFO(t.stream);
    rig r;
    r.answer(stream_head);
    r.receive(t.stream);
    r.ended();
    CHECK(r.source.failure().attempts == 0);
    CHECK(r.source.failure().delay.ms() == t.delay);
    const std::int64_t known = r.source.retry().ms();
    r.advance(t.delay - 1);
    CHECK(r.attempts == 1);
    r.advance(1);
    CHECK(r.attempts == 2);
    // It stays for the connections that follow.
    r.answer(stream_head);
    r.receive("data: y\n\n");
    r.ended();
    CHECK(r.source.retry().ms() == known);
    CHECK(r.source.failure().delay.ms() == t.delay);
  }
  rig own{{.retry = duration::milliseconds(700)}};
  own.ended();
  CHECK(own.source.failure().delay.ms() == 700);
  rig odd{{.retry = duration::milliseconds(-5), .max_retry = duration::infinite()}};
  odd.ended();
  CHECK(odd.source.failure().delay.ms() == 200);
}

TEST_CASE("client: retry 0 is honoured after a longer connection") {
  rig r;
  r.answer(stream_head);
  r.receive("retry: 0\ndata: x\n\n");
  r.advance(200);
  r.ended();
  CHECK(r.source.failure().delay.ms() == 0);
  CHECK(r.attempts == 2);
}

TEST_CASE("client: the first reconnection is spread too, so that a restart meets no herd") {
  constexpr std::int64_t clients = 2000;
  for (const bool was_open : {true, false}) {
    std::vector<std::int64_t> delays;
    for (std::uint64_t seed = 1; seed <= clients; ++seed) {
      rig r{{.seed = seed}, "http://h/s", client_options{}.jitter};
      if (was_open) {
        r.answer(stream_head);
        r.receive("data: x\n\n");
        r.advance(60'000);
      }
      r.ended();
      delays.push_back(r.source.failure().delay.ms());
    }
    std::sort(delays.begin(), delays.end());
    CHECK(delays.front() >= 3000);  // never before the reconnection time
    CHECK(delays.back() <= 4500);
    // Each tenth of the time that they are spread over has about a tenth of them.
    for (int tenth = 0; tenth < 10; ++tenth) {
      const auto in_it = std::count_if(delays.begin(), delays.end(), [&](std::int64_t ms) {
        return ms >= 3000 + 150 * tenth && ms < 3150 + 150 * tenth;
      });
      CHECK(in_it > clients / 10 / 2);
      CHECK(in_it < clients / 10 * 2);
    }
  }
  rig wide{{.retry = duration::seconds(1)}, "http://h/s", 300};
  wide.ended();
  CHECK(wide.source.failure().delay.ms() >= 1000);
  CHECK(wide.source.failure().delay.ms() <= 4000);
}

TEST_CASE("client: failures are spread up to the cap, not gathered at it") {
  int at_cap = 0;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    rig r{{.seed = seed}, "http://h/s", client_options{}.jitter};
    for (int n = 0; n < 8; ++n) {
      r.ended();
      if (n < 7) r.wait();
    }
    at_cap += r.source.failure().delay.ms() >= 29'999;
  }
  CHECK(at_cap < 5);
}

TEST_CASE("client: ten attempts in two seconds at most, whatever a server says of retry") {
  for (const std::uint32_t jitter : {0U, client_options{}.jitter}) {
    for (const std::string_view stream :
         {"retry: 0\ndata: x\n\n", "retry: 1\n\ndata: x\n\n", "retry: 0\n\n"}) {
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        rig r{{.seed = seed}, "http://h/s", jitter};
        std::vector<std::int64_t> begins;
        while (begins.size() < 100) {
          begins.push_back(r.ms);
          r.answer(std::string{stream_head} + std::string{stream});
          r.ended();
          if (r.attempts == begins.size()) r.wait();
        }
        for (std::size_t n = 0; n + 10 < begins.size(); ++n) {
          REQUIRE(begins[n + 10] - begins[n] >= 2000);
        }
      }
    }
  }
}

TEST_CASE("client: back-off, for many seeds") {
  bool spread = false;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    rig r{{.seed = seed}};
    std::int64_t bound = 0;
    for (std::uint32_t n = 1; n <= 40; ++n) {
      r.ended();
      const sse::client_failure f = r.source.failure();
      CHECK(f.attempts == n);
      // 3 s, then up to 3, 6, 12, 24 s more, but never above 30 s.
      bound = n == 1 ? 0 : n == 2 ? 3000 : std::min<std::int64_t>(bound * 2, 30'000);
      if (f.delay.ms() < 3000 || f.delay.ms() > std::min<std::int64_t>(3000 + bound, 30'000)) {
        INFO("seed " << seed << " attempt " << n << " delay " << f.delay.ms());
        CHECK(false);
      }
      spread = spread || f.delay.ms() > 29'000;
      CHECK(r.wait() == f.delay.ms());
    }
    CHECK(r.attempts == 41);
  }
  CHECK(spread);
  // Another seed, another delay; the same one, the same delay.
  const auto delays = [](std::uint64_t seed) {
    rig r{{.seed = seed}};
    std::vector<std::int64_t> out;
    for (int n = 0; n < 10; ++n) {
      r.ended();
      out.push_back(r.wait());
    }
    return out;
  };
  CHECK(delays(1) == delays(1));
  CHECK(delays(1) != delays(2));
}

TEST_CASE("client: back-off options") {
  // A reconnection time above the cap stays what it is.
  rig slow{{.retry = duration::seconds(60)}};
  for (int n = 0; n < 10; ++n) {
    slow.ended();
    CHECK(slow.wait() == 60'000);
  }
  // No cap, no jitter, and no overflow.
  rig huge{{.max_backoff = duration::infinite()}};
  for (int n = 0; n < 200; ++n) {
    huge.ended();
    CHECK(huge.source.failure().delay.ms() >= 3000);
    CHECK(huge.source.failure().delay.ms() <= 1'000'000'000'000);
    huge.wait();
  }
  rig none{{.max_backoff = duration::off()}};
  for (int n = 0; n < 10; ++n) {
    none.ended();
    CHECK(none.wait() == 3000);
  }
  rig hot{
      {.retry = duration::off(), .max_backoff = duration::off(), .min_interval = duration::off()}};
  hot.ended();
  CHECK(hot.source.failure().delay.ms() == 0);
  CHECK(hot.attempts == 2);
}

TEST_CASE("client: only a stable connection ends a row of failures") {
  const auto after = [](std::string_view stream, std::int64_t lasts) {
    rig r;
    for (int n = 0; n < 5; ++n) {
      r.ended();
      r.wait();
    }
    r.answer(std::string{stream_head} + std::string{stream});
    r.advance(lasts);
    r.ended();
    return r.source.failure().attempts;
  };
  CHECK(after("", 0) == 6);
  CHECK(after(": comment\n\n", 0) == 6);
  CHECK(after("id: 5\n\n", 0) == 6);
  CHECK(after("data: not finished", 0) == 6);
  CHECK(after("", 9'999) == 6);
  CHECK(after("", 10'000) == 0);
  CHECK(after("data: x\n\n", 0) == 0);
  CHECK(after("event: gap\ndata: {\"requested\":2,\"first\":9,\"lost\":6}\n\n", 0) == 0);
}

TEST_CASE("client: attempts are bounded, whatever the server does") {
  struct row {
    std::string_view name, response;
    std::uint64_t most;  // attempts in ten minutes
  };
  const row rows[] = {
      // Nothing comes of it: 30 s apart on average 15 s more, after the first few.
      {"retry 0, closed at once",
       "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
       "retry: 0\n\n",
       90},
      {"closed at once", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", 60},
      {"no answer", "", 60},
      {"nonsense", "hello", 60},
      {"instant 404", "HTTP/1.1 404 x\r\n\r\n", 1},
      {"instant 500", "HTTP/1.1 500 x\r\n\r\n", 60},
      {"instant 429 that asks to come back at once", "HTTP/1.1 429 x\r\nRetry-After: 0\r\n\r\n",
       60},
      {"retry -1", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: -1\n\n", 60},
      // Events came, so it may go on as the server wants: five a second at the most.
      {"retry 0 and an event",
       "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
       "retry: 0\ndata: x\n\n",
       3001},
  };
  for (const row& t : rows) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      INFO(t.name << " seed " << seed);
      rig r{{.seed = seed}};
      while (r.ms < 600'000 && r.source.state() != client_state::closed) {
        r.answer(t.response);
        r.ended();
        if (!r.forever()) r.wait();
      }
      CHECK(r.attempts <= t.most);
      CHECK(r.source.buffered() == 0);
    }
  }
}

TEST_CASE("client: a number of attempts by option") {
  rig r{{.max_attempts = 3}};
  r.ended();
  r.wait();
  r.answer(stream_head);
  r.receive("data: x\n\n");  // a good one
  r.ended();
  r.wait();
  (void)r.asked();
  for (int n = 0; n < 3; ++n) {
    r.ended(client_error::connect);
    if (n < 2) r.wait();
  }
  CHECK(r.asked().back() == "connect final");
  CHECK(r.source.failure().attempts == 3);
  CHECK(r.source.state() == client_state::closed);
  CHECK(r.forever());
}

TEST_CASE("client: the last event ID over reconnections") {
  rig r{{.last_event_id = "start"}};
  CHECK(r.source.last_event_id() == "start");
  struct row {
    std::string_view stream, id;
  };
  const row rows[] = {
      {"data: x\n\n", "start"},
      {"id: 1\ndata: x\n\n", "1"},
      {"id: 2\n\n", "2"},                         // no data: no event, but the id moves
      {"id: 3\ndata: x\n", "2"},                  // not finished
      {"id: 4\ndata: x\n\nid: 5\ndata: y", "4"},  // nor is 5
      {"id: a\0b\ndata: x\n\n"sv, "4"},           // NUL: ignored
      {"id: \xC3\xA9 \ndata: x\n\n", "\xC3\xA9 "},
      {"id: \xC3 x\ndata: x\n\n", "\xEF\xBF\xBD x"},  // as UTF-8
      {"id\ndata: x\n\n", ""},
      {"data: x\n\n", ""},
  };
  std::string_view before = "start";
  for (const row& t : rows) {
    INFO(t.stream);
    const std::string request = r.answer(stream_head);
    CHECK(header_of(request, "Last-Event-ID") == (before.empty() ? "-" : std::string{before}));
    r.receive(t.stream);
    CHECK(r.source.last_event_id() == t.id);
    r.ended();
    CHECK(r.source.last_event_id() == t.id);
    before = t.id;
    r.wait();
  }
}

TEST_CASE("client: a position without an event is told, and may end it") {
  struct position_sink {
    event_source& source;
    std::vector<std::string> told{};
    bool closes = false;
    void on_event(const sse::event&) { told.emplace_back("event"); }
    void on_position(std::string_view id) {
      CHECK(source.last_event_id() == id);
      told.emplace_back(id);
      if (closes) source.close();
    }
  };
  for (const bool closes : {false, true}) {
    rig r;
    r.answer(stream_head);
    position_sink sink{r.source, {}, closes};
    const std::string_view in = "id: 7\n\nid: 8\ndata: x\n\nid: 9\n\n";
    CHECK(r.source.received(r.now(), in, sink) == in.size());
    CHECK(sink.told == (closes ? list{"7"} : list{"7", "event", "9"}));
    CHECK(r.source.last_event_id() == (closes ? "7" : "9"));
  }
}

TEST_CASE("client: each connection is a new stream") {
  rig r;
  r.answer(stream_head);
  r.receive("data: half");
  r.ended();
  r.wait();
  r.answer(std::string{stream_head} +
           "\xEF\xBB\xBF"
           "data: whole\n\n");
  r.ended();
  r.wait();
  r.answer(std::string{chunked_head} + "5\r\ndata");
  r.ended();
  r.wait();
  r.answer(std::string{stream_head} + "data: y\n\n");
  CHECK(r.events() == list{"open 200", "open 200", "||whole", "open 200", "open 200", "||y"});
}
