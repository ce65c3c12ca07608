// event_source: what takes too long. In virtual time.
#include <sse/client.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "client_rig.hpp"

using namespace std::string_view_literals;

namespace {

using sse::client_error;
using sse::client_state;
using sse::duration;
using test::header_of;
using test::list;
using test::rig;
using test::stream_head;

}  // namespace

// --- time

TEST_CASE("client: connecting takes too long") {
  rig r;
  r.advance(29'999);
  CHECK(r.asked() == list{"connect h:80"});
  r.advance(1);
  CHECK(r.asked() == list{"disconnect", "connect_timeout 3000"});
  CHECK(r.source.connected(r.now()).empty());
  r.ended();  // too late
  CHECK(r.asked().empty());
  CHECK(r.wait() == 3000);
  CHECK(r.asked() == list{"connect h:80"});
  rig patient{{.connect_timeout = duration::off()}};
  CHECK(patient.forever());
}

TEST_CASE("client: an action that was not fetched yet is due at once, whichever it is") {
  using action = sse::client_action;
  const sse::time_point t = sse::time_point::milliseconds(0);
  sse::client_options options;
  options.proxy.https = "http://p:3128";
  for (const bool tunnel : {false, true}) {
    INFO((tunnel ? "through a tunnel" : "redirected"));
    sse::event_source source{tunnel ? "https://h/s" : "http://h/s", options};
    test::recorder seen;
    std::vector<int> asked;
    const auto next = [&] {
      CHECK(source.next_deadline() < t);
      asked.push_back(source.poll(t).what);
    };
    next();
    CHECK(source.next_deadline() > t);
    CHECK_FALSE(source.connected(t).empty());
    const std::string head = tunnel ? "HTTP/1.1 200 OK\r\n\r\n" : test::redirect(307, "/x");
    CHECK(source.received(t, head, seen) == head.size());
    next();
    if (!tunnel) next();
    CHECK(source.next_deadline() > t);
    source.ended(t, client_error::connect);
    next();
    CHECK(source.next_deadline() > t);
    CHECK(asked == (tunnel ? std::vector<int>{action::connect, action::secure, action::failed}
                           : std::vector<int>{action::connect, action::disconnect, action::connect,
                                              action::failed}));
  }
}

TEST_CASE("client: a server that accepts and says nothing") {
  rig r;
  r.connected();
  r.advance(29'999);
  CHECK(r.asked() == list{"connect h:80"});
  r.advance(1);
  CHECK(r.asked() == list{"disconnect", "head_timeout 3000"});
  // A head that trickles is no better.
  r.wait();
  r.connected();
  for (int n = 0; n < 29; ++n) {
    r.advance(1000);
    r.receive("HTTP/1.1 200 OK\r\nA: bbbbbbbbbbbbbb"sv.substr(static_cast<std::size_t>(n), 1));
  }
  CHECK(r.asked() == list{"connect h:80"});
  r.advance(1000);
  CHECK(r.error() == client_error::head_timeout);
  rig patient{{.head_timeout = duration::off()}};
  patient.connected();
  CHECK(patient.forever());
}

TEST_CASE("client: a stream that falls silent") {
  rig r{{.stall_timeout = duration::seconds(20)}};
  r.answer(stream_head);
  for (int n = 0; n < 10; ++n) {
    r.advance(19'999);
    r.receive(":");  // any byte counts
  }
  CHECK(r.source.state() == client_state::open);
  r.advance(19'999);
  (void)r.asked();
  r.advance(1);
  CHECK(r.asked() == list{"disconnect", "stalled 3000"});
  CHECK(r.source.failure().attempts == 0);  // it had lived long
  // A silent one is not stable just because nobody noticed for a while.
  for (std::uint32_t n = 1; n < 4; ++n) {
    r.wait();
    r.answer(stream_head);
    CHECK(r.wait() == 20'000);
    CHECK(r.error() == client_error::stalled);
    CHECK(r.source.failure().attempts == n);
  }
}

TEST_CASE("client: a server that announces its heartbeat") {
  const auto open = [](std::string_view value, std::optional<duration> own = std::nullopt) {
    rig r{{.stall_timeout = own}};
    r.answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Heartbeat-Interval: " +
             std::string{value} + "\r\n\r\n");
    return r.forever() ? -1 : r.source.next_deadline().ms();
  };
  CHECK(open("15") == 45'000);
  CHECK(open("60") == 180'000);
  CHECK(open("15", duration::seconds(20)) == 20'000);
  CHECK(open("15", duration::off()) == -1);
  CHECK(open("99999999999999999999") == 3LL * 24 * 3600 * 1000);
  // No announcement.
  CHECK(open("0") == 90'000);
  CHECK(open("x") == 90'000);
  CHECK(open("") == 90'000);
}

TEST_CASE("client: a dead stream is found with the defaults, whatever the server says") {
  rig r;
  r.answer(stream_head);
  r.receive("id: 7\ndata: x\n\n");
  for (int n = 0; n < 10; ++n) {
    r.advance(89'999);
    r.receive(":\n");  // a heartbeat
  }
  (void)r.asked();
  CHECK(r.wait() == 90'000);
  CHECK(r.asked() == list{"disconnect", "stalled 3000"});
  r.wait();
  CHECK(header_of(r.connected(), "Last-Event-ID") == "7");
  // Not before a stream is there, and by option never.
  rig off{{.head_timeout = duration::off(), .stall_timeout = duration::off()}};
  off.connected();
  CHECK(off.forever());
  off.receive(stream_head);
  CHECK(off.forever());
}
