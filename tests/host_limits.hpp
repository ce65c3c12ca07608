// Limits and deadlines of a host at the limit, one below and one above: what must hold for any
// host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "held_server.hpp"
#include "http_client.hpp"
#include "socket_calls.hpp"

namespace test {

using std::chrono::milliseconds;

template <class Loop>
void head_deadline() {
  held_server<Loop> s{{.head_deadline = milliseconds{1000}, .keep_alive = milliseconds{3000}}};
  {
    client silent{s.port()};
    client half{s.port()};
    REQUIRE(s.until([&] { return s->connections() == 2; }));
    s.pass(500);
    s.send(half, "GET /health HT");  // from accept on: this gives it no more time
    s.pass(499);
    CHECK(s->connections() == 2);
    CHECK_FALSE(silent.has_input());
    CHECK_FALSE(half.has_input());
    s.pass(1);
    CHECK(s.ends(silent));
    CHECK(s.answer_to(half).status == 408);
    CHECK(s.ends(half));
  }
  CHECK(s.empties());
  client just{s.port()};
  REQUIRE(s.until([&] { return s->connections() == 1; }));
  s.pass(999);
  CHECK(s.ask(just, client::make("GET", "/health")).status == 200);
  // The second head: from its first byte on.
  s.pass(2999);
  CHECK_FALSE(just.has_input());
  s.send(just, "G");
  s.pass(999);
  CHECK_FALSE(just.has_input());
  s.send(just, "ET /health HTTP/1.1\r\nHost: x\r\n");
  s.pass(1);
  CHECK(s.answer_to(just).status == 408);
}

template <class Loop>
void never_comes(sse::duration forever) {
  constexpr std::int64_t day = std::int64_t{24} * 3600 * 1000;
  held_server<Loop> s{{.hub = {.write_deadline = forever, .idle = forever, .max_age = forever},
                       .head_deadline = forever,
                       .body_deadline = forever,
                       .verdict_deadline = forever,
                       .keep_alive = forever}};
  sse::stream_responder<> verdict;
  s->stream("/later",
            [&](const sse::request&, sse::stream_responder<> to) { verdict = std::move(to); });
  client silent{s.port()};
  client half{s.port()};
  client asked{s.port()};
  client stream{s.port()};
  s.open(stream);
  s.send(half, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Le");
  s.send(asked, client::make("GET", "/later"));
  for (int i = 0; i < 30; ++i) s.pass(day);
  CHECK(s->connections() == 4);
  s.send(half, "ngth: 2\r\n\r\no");
  s.pass(day);
  CHECK(s.ask(half, "k").body == "ok");
  s.pass(day);
  CHECK(s.ask(half, client::make("GET", "/health")).status == 200);
  CHECK(s.ask(silent, client::make("GET", "/health")).status == 200);
  REQUIRE_FALSE(verdict.called_off());
  CHECK_FALSE(asked.has_input());
  verdict(sse::admit().join(s.ticks));
  REQUIRE(s.until([&] { return asked.has_input(); }));
  CHECK(asked.head().status == 200);
  CHECK(s->hub().sessions() == 2);
}

template <class Loop>
void forever_is_never() {
  never_comes<Loop>(sse::duration::infinite());
  never_comes<Loop>(sse::duration::off());
}

template <class Loop>
void keep_alive_deadline() {
  held_server<Loop> s{{.keep_alive = milliseconds{3000}}};
  client c{s.port()};
  for (int i = 0; i < 2; ++i) {
    CHECK(s.ask(c, client::make("GET", "/health")).status == 200);
    s.pass(2999);
    CHECK_FALSE(c.has_input());
  }
  s.pass(1);
  CHECK(s.ends(c));
  CHECK_FALSE(c.was_reset);
}

template <class Loop>
void body_deadline() {
  held_server<Loop> s{{.head_deadline = milliseconds{5000}, .body_deadline = milliseconds{1000}}};
  const std::string head = client::make("POST", "/echo", "Content-Length: 3\r\n");
  client late{s.port()};
  client just{s.port()};
  s.send(late, head);
  s.send(just, head);
  s.pass(600);
  s.send(late, "a");  // one deadline for the whole of it
  s.pass(399);
  CHECK_FALSE(late.has_input());
  CHECK(s.ask(just, "abc").body == "abc");
  s.pass(1);
  CHECK(s.answer_to(late).status == 408);
  CHECK(s.ends(late));
}

/// A peer that takes nothing more of an answer, or of a stream, is cut by a reset.
template <class Loop>
void stalled_deadline(bool stream) {
  held_server<Loop> s{{.hub = {.write_deadline = milliseconds{1000}}, .send_buffer = 8192}};
  client deaf{s.port(), 4096};
  if (stream) {
    s.open(deaf);
    for (int i = 0; i < 10; ++i) {
      REQUIRE(s->publish(s.ticks, {.data = std::string(100'000, 'x')}));
      s.turn();
    }
  } else {
    s.send(deaf, client::make("GET", "/large"));
  }
  s.pass(0);
  REQUIRE(s->connections() == 1);
  s.pass(999);
  CHECK(s->connections() == 1);
  // What it takes gives it a new deadline.
  std::size_t got = 0;
  long sent = socket_calls_made(socket_call::send);
  const auto progress = [&] {
    if (!stream) return socket_calls_made(socket_call::send) != sent;
    return s->hub().worst_lag(s.ticks) + 100'000 < 1'000'000;
  };
  REQUIRE(s.until([&] {
    got += deaf.has_input() ? deaf.some().size() : 0;
    return progress() && got > 100'000;
  }));
  // Until the kernel takes nothing more of it.
  for (long before = -1; before != socket_calls_made(socket_call::send);) {
    before = socket_calls_made(socket_call::send);
    for (int i = 0; i < 20; ++i) s.pass(0);
  }
  s.pass(999);
  CHECK(s->connections() == 1);
  s.pass(1);
  CHECK(s->connections() == 0);
  (void)deaf.rest();
  CHECK(deaf.was_reset);
  if (stream) {
    CHECK(s->hub().stats().closed[static_cast<std::size_t>(sse::close_reason::stalled)] == 1);
  }
}

/// After its last answer a connection waits two seconds, and for 8 MiB, for its peer to close.
template <class Loop>
void linger_deadline() {
  held_server<Loop> s;
  client c{s.port()};
  CHECK(s.ask(c, client::make("GET", "/health", "Connection: close\r\n")).status == 200);
  CHECK(s.ends(c));
  CHECK(s->connections() == 1);
  s.pass(1000);
  s.send(c, "more");  // gives no more time
  s.pass(999);
  CHECK(s->connections() == 1);
  s.pass(1);
  CHECK(s.empties());
}

/// REQUIRES: `c` is the only connection, and is being closed.
template <class Loop>
void takes_8_mib_more(held_server<Loop>& s, client& c) {
  constexpr std::size_t most = std::size_t{8} << 20;
  const std::string piece(16384, 'x');
  for (std::size_t sent = 0; sent + piece.size() < most; sent += piece.size()) s.send(c, piece);
  s.send(c, piece.substr(1));  // one byte below
  s.pass(0);
  CHECK(s->connections() == 1);
  s.send(c, "x");
  s.pass(0);
  CHECK(s->connections() == 1);
  s.send(c, "x");
  CHECK(s.empties());
}

template <class Loop>
void linger_input() {
  held_server<Loop> s;
  client c{s.port()};
  CHECK(s.ask(c, client::make("GET", "/health", "Connection: close\r\n")).status == 200);
  CHECK(s.ends(c));
  takes_8_mib_more(s, c);
}

/// What a peer sends on its stream: 64 KiB are thrown away, one byte more ends it.
template <class Loop>
void stream_input() {
  constexpr std::size_t most = std::size_t{64} << 10;
  held_server<Loop> s;
  client c{s.port()};
  s.open(c);
  const std::string piece(4096, 'x');
  for (std::size_t sent = 0; sent + piece.size() < most; sent += piece.size()) s.send(c, piece);
  for (const std::size_t n : {piece.size() - 1, std::size_t{1}}) {  // one below, and at the limit
    s.send(c, piece.substr(0, n));
    s.pass(0);
    REQUIRE(s->hub().sessions() == 1);
    REQUIRE(s->publish(s.ticks, {.data = "x"}));
    REQUIRE(s.until([&] { return c.has_input(); }));
    CHECK(c.data() == "x");
  }
  c.send("x");
  CHECK(s.until([&] { return s->hub().sessions() == 0; }));
}

/// Requests that came at once are served until 64 KiB of answers wait to be written.
template <class Loop>
void output_waiting() {
  constexpr std::size_t most = std::size_t{64} << 10;
  constexpr std::size_t first = 40;  // answers of one size; one more fills up to the limit
  constexpr std::size_t body = 1400;
  held_server<Loop> s;
  std::vector<std::size_t> sizes;
  std::size_t served = 0;
  std::size_t before_writing = 0;
  long sends = 0;
  s->get("/sized", [&](const sse::request&) {
    if (socket_calls_made(socket_call::send) == sends) ++before_writing;
    const std::size_t n = served < sizes.size() ? sizes[served] : 1000;
    ++served;
    return sse::response::text(200, std::string(n, 'x'));
  });
  std::size_t head = 0;
  {
    client probe{s.port()};
    sizes = {1000};
    head = s.ask(probe, client::make("GET", "/sized")).head.size();
  }
  for (const std::size_t total : {most - 1, most, most + 1}) {
    CAPTURE(total);
    client c{s.port()};
    REQUIRE(s.until([&] { return s->connections() == 1; }));
    s.pass(0);
    served = before_writing = 0;
    sizes.assign(first, body);
    sizes.push_back(total - first * (body + head) - head);
    REQUIRE(sizes.back() >= 1000);  // four digits, as those before
    REQUIRE(sizes.back() <= 9999);
    std::string requests;
    for (int i = 0; i < 60; ++i) requests += client::make("GET", "/sized");
    sends = socket_calls_made(socket_call::send);
    c.send(requests);
    REQUIRE(s.until([&] { return served == 60; }));  // none is forgotten
    CHECK(before_writing == first + 1 + (total < most ? 1 : 0));
    (void)s.read(c, total + (60 - first - 1) * (1000 + head));
    c.close();
    REQUIRE(s.empties());
  }
}

/// Nothing more of a connection is read while its answers are not taken.
template <class Loop>
void input_while_answers_wait() {
  held_server<Loop> s{{.hub = {.write_deadline = sse::duration::off()}, .send_buffer = 8192}};
  int served = 0;
  s->get("/count", [&](const sse::request&) {
    ++served;
    return sse::response::text(200, std::string(50'000, 'x'));
  });
  client deaf{s.port(), 65536};  // a small window would be TCP's own wait
  const std::string one = client::make("GET", "/count");
  std::string many;
  for (int i = 0; i < 100; ++i) many += one;
  s.send(deaf, many);
  s.pass(0);
  const int before = served;
  s.pass(1000);
  CHECK(served == before);
  CHECK(served < 40);  // what the kernel took, and 64 KiB
  std::size_t ends = 0;
  std::string got;
  REQUIRE(s.until([&] {
    got += deaf.taken();
    for (std::size_t at = 0; (at = got.find("HTTP/1.1 200", at)) != std::string::npos; at += 8) {
      ++ends;
    }
    got = got.substr(got.size() < 11 ? 0 : got.size() - 11);
    return ends == 100;
  }));
  CHECK(served == 100);
}

/// With as many connections as there may be, who waits for nothing gives way, and nobody else.
template <class Loop>
void crowd_makes_room() {
  held_server<Loop> s{{.max_connections = 2}};
  client half{s.port()};
  s.send(half, "GET /hea");
  client kept{s.port()};
  CHECK(s.ask(kept, client::make("GET", "/health")).status == 200);
  s.pass(999);
  client early{s.port()};
  CHECK(s.answer_to(early).status == 503);
  s.pass(1);
  client third{s.port()};
  s.open(third);
  CHECK(s.ends(kept));
  client fourth{s.port()};
  CHECK(s.ask(fourth, client::make("GET", "/health")).status == 200);
  CHECK(s.ends(half));
  CHECK(s->connections() == 2);
  CHECK(s->hub().sessions() == 1);
}

template <class Loop>
void connections_cap() {
  held_server<Loop> s{{.max_connections = 3}};
  std::vector<client> all;
  for (int i = 0; i < 2; ++i) {
    all.emplace_back(s.port());
    CHECK(s.ask(all.back(), client::make("GET", "/health")).status == 200);
  }
  client stream{s.port()};
  s.open(stream);  // streams count too
  CHECK(s->connections() == 3);
  client fourth{s.port()};
  fourth.send(client::make("GET", "/health"));  // unread, it must not make the end a reset
  CHECK(s.answer_to(fourth).status == 503);
  CHECK(s.ends(fourth));
  CHECK_FALSE(fourth.was_reset);
  CHECK(s->connections() == 3);
  // One that is being closed still counts, until it is gone.
  CHECK(s.ask(all[0], client::make("GET", "/health", "Connection: close\r\n")).status == 200);
  client fifth{s.port()};
  CHECK(s.answer_to(fifth).status == 503);
  all[0].close();
  REQUIRE(s.until([&] { return s->connections() == 2; }));
  client sixth{s.port()};
  CHECK(s.ask(sixth, client::make("GET", "/health")).status == 200);
  client seventh{s.port()};
  CHECK(s.answer_to(seventh).status == 503);
  stream.close();
  REQUIRE(s.until([&] { return s->connections() == 2; }));
  client eighth{s.port()};
  s.open(eighth);
}

/// The cap per address counts who a trusted proxy names, however it spells the address.
template <class Loop>
void address_cap() {
  held_server<Loop> s{
      {.hub = {.caps = {.per_address = {.max = 2}}}, .trusted_proxies = {"127.0.0.1"}}};
  int asked = 0;
  s->stream("/asked", [&](const sse::request&) {
    ++asked;
    return sse::admit().join(s.ticks);
  });
  std::vector<client> all;
  const auto status = [&](std::string_view from) {
    all.emplace_back(s.port());
    s.send(all.back(),
           client::make("GET", "/asked", "X-Forwarded-For: " + std::string{from} + "\r\n"));
    REQUIRE(s.until([&] { return all.back().has_input(); }));
    return all.back().head().status;
  };
  CHECK(status("2001:db8::7") == 200);
  CHECK(status("6.6.6.6, 2001:DB8:0:0::0:7") == 200);
  CHECK(status("2001:0db8::0007") == 429);
  CHECK(status("[2001:db8::7]:99") == 429);
  CHECK(status("2001:db8::8") == 429);  // of the same network
  CHECK(status("2001:db8:0:1::8") == 200);
  CHECK(status("2001:db8:0:77::") == 200);
  CHECK(status("1.2.3.4") == 200);
  CHECK(status("::ffff:1.2.3.4") == 200);
  CHECK(status("1.2.3.4:1") == 429);
  all[1].close();  // its place is free again, for the same address alone
  REQUIRE(s.until([&] { return s->hub().sessions() == 5; }));
  CHECK(status("1.2.3.4") == 429);
  CHECK(status("2001:db8::7") == 200);
  CHECK(status("2001:db8::7") == 429);
  CHECK(asked == 7);  // who is refused anyway costs no handler
  // Without the header it is the proxy's own; so it is with one that is no address (inet_pton).
  client c{s.port()};
  s.open(c);
  CHECK(status("10.1") == 200);
  CHECK(status("0x0a.0.0.1") == 429);
  CHECK_THROWS_AS(Loop{sse::server_options{.trusted_proxies = {"127.1"}}}, std::invalid_argument);
}

/// It counts networks of IPv6 as large as the option says.
template <class Loop>
void address_prefix() {
  for (const std::uint8_t bits : std::initializer_list<std::uint8_t>{48, 64, 128}) {
    CAPTURE(bits);
    held_server<Loop> s{{.hub = {.caps = {.per_address = {.max = 1}, .ipv6_prefix = bits}},
                         .trusted_proxies = {"127.0.0.1"}}};
    client first{s.port()};
    s.open(first, "X-Forwarded-For: 2001:db8::1\r\n");
    const auto status = [&](const char* from) {
      client c{s.port()};
      s.send(c, client::make("GET", "/events", "X-Forwarded-For: " + std::string{from} + "\r\n"));
      REQUIRE(s.until([&] { return c.has_input(); }));
      return c.head().status;
    };
    CHECK(status("2001:db8::2") == (bits == 128 ? 200 : 429));
    CHECK(status("2001:db8:0:1::1") == (bits == 48 ? 429 : 200));
    CHECK(status("2001:db8:1::1") == 200);
  }
}

/// Nothing was said: a stream says how long it can be silent, is silent no longer, and who takes
/// nothing is gone after ten seconds.
template <class Loop>
void dead_streams_by_default() {
  held_server<Loop> s{{.send_buffer = 8192}};
  client quiet{s.port()};
  s.send(quiet, client::make("GET", "/events"));
  REQUIRE(s.until([&] { return quiet.has_input(); }));
  CHECK(quiet.head().header("X-Heartbeat-Interval") == "15");
  s.pass(14'999);
  CHECK_FALSE(quiet.has_input());
  s.pass(1);
  REQUIRE(s.until([&] { return quiet.has_input(); }));
  CHECK(quiet.until("\n\n") == ": keep-alive\n\n");
  quiet.close();
  REQUIRE(s.until([&] { return s->hub().sessions() == 0; }));
  client deaf{s.port(), 4096};
  s.open(deaf);
  REQUIRE(s->publish(s.ticks, {.data = std::string(1'000'000, 'x')}));
  for (long before = -1; before != socket_calls_made(socket_call::send);) {
    before = socket_calls_made(socket_call::send);
    for (int i = 0; i < 20; ++i) s.pass(0);
  }
  s.pass(9'999);
  CHECK(s->connections() == 1);
  s.pass(1);
  CHECK(s->connections() == 0);
}

}  // namespace test
