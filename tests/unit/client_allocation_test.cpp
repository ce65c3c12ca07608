// Every allocation of the event source fails once: it says so, tries again, and loses nothing that
// a server with a history can send again.
#include <sse/client.hpp>

#include <cstdint>
#include <string>
#include <string_view>

#include "allocations.hpp"
#include "catch.hpp"

#if TEST_ALLOCATIONS

namespace {

using sse::client_action;
using sse::time_point;
using text = std::string_view;

/// Counts, and allocates nothing.
struct event_counter {
  std::uint64_t next = 1;
  bool good = true;
  void on_event(const sse::event& e) {
    good = good && e.id.size() == 1 && e.id[0] == static_cast<char>('0' + next) &&
           e.data.size() == 401 && e.type.size() == 100;
    ++next;
  }
};

/// A server with the events 1 to 4, behind a redirect. What it sends is made beforehand.
struct script {
  std::string redirect =
      "HTTP/1.1 307 x\r\nLocation: ../there?" + std::string(300, 'q') + "\r\n\r\n";
  std::string relative = "HTTP/1.1 307 x\r\nLocation: //h/s\r\n\r\n";
  std::string head =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX: " + std::string(300, 'h') +
      "\r\n\r\n";
  std::string events[4]{};

  script() {
    const std::string half(200, 'd');
    for (std::size_t i = 0; i < 4; ++i) {
      events[i] = "event: " + std::string(100, 't') + "\nid: " + std::to_string(i + 1) +
                  "\ndata: " + half + "\ndata: " + half + "\n\n";
    }
  }
};

/// Runs the source until it has all events, or for so many connections and failures.
void run(sse::event_source& source, const script& s, event_counter& c, int attempts,
         std::int64_t& ms) {
  const auto now = [&ms] { return time_point::milliseconds(ms); };
  int hop = 0;
  while (c.next <= 4 && source.state() != sse::client_state::closed) {
    const client_action a = source.poll(now());
    if (a.what == client_action::none) {
      if (source.state() == sse::client_state::open) return;
      ms = source.next_deadline().ms();
    }
    if (a.what == client_action::failed) {
      const sse::client_error why = source.failure().error;
      c.good = c.good && (why == sse::client_error::no_memory || why == sse::client_error::connect);
      if (attempts-- == 0) return;
    }
    if (a.what != client_action::connect) continue;
    if (attempts-- == 0) return source.ended(now());
    if (source.url() == "http://h/s/s?c=d") hop = 0;
    const text request = source.connected(now());
    if (request.empty()) continue;
    if (hop < 2) {
      const text answer = hop++ == 0 ? s.redirect : s.relative;
      (void)source.received(now(), answer, c);
      continue;
    }
    (void)source.received(now(), s.head, c);
    // In pieces, so that lines and events must be held; what came before it needs no more.
    while (c.next <= 4 && source.state() == sse::client_state::open) {
      text rest = s.events[c.next - 1];
      for (; !rest.empty(); rest.remove_prefix(rest.size() < 50 ? rest.size() : 50)) {
        (void)source.received(now(), rest.substr(0, 50), c);
      }
    }
  }
}

}  // namespace

TEST_CASE("the event source survives each allocation that fails", "[allocation][client]") {
  const script s;
  const sse::header headers[] = {
      {"Authorization", "Bearer 0123456789012345678901234567890123456789"},
      {"Content-Type", "text/plain"}};
  const sse::client_options o{.method = "POST",
                              .body = "0123456789012345678901234567890123456789",
                              .headers = headers,
                              .last_event_id = "0",
                              .resume_query = "last_id"};
  bool hit = true;
  std::uint64_t n = 0;
  std::uint64_t recovered = 0;
  for (; hit; ++n) {
    CAPTURE(n);
    event_counter c;
    std::int64_t ms = 0;
    const auto made = [&] {
      const test::failing_allocations fail{n};
      sse::event_source source{"http://h/s/s?c=d", o};
      run(source, s, c, 10, ms);
      hit = fail.hit();
      return source;
    };
    sse::event_source source = made();
    CHECK(c.good);
    if (source.state() == sse::client_state::closed) {
      CHECK(source.failure().error == sse::client_error::no_memory);
      continue;
    }
    if (hit) {
      CHECK(source.failure().error == sse::client_error::no_memory);
      ++recovered;
    }
    run(source, s, c, 10, ms);
    CHECK(c.good);
    CHECK(c.next == 5);
    source.close();
    CHECK(source.buffered() == 0);
  }
  CHECK(n > 20);
  CHECK(recovered > 10);
}

#endif
