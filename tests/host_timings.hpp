// Timings of the kernel that are rare: what must hold for any host.
#pragma once

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "held_server.hpp"
#include "http_client.hpp"
#include "socket_calls.hpp"

namespace test {

using std::chrono::milliseconds;

/// A read that finds nothing after all ends nobody, one that fails ends its connection alone.
template <class Loop>
void reads_that_fail() {
  held_server<Loop> s;
  const std::string health = client::make("GET", "/health");
  for (const int error : {EAGAIN, EINTR, ECONNRESET}) {
    CAPTURE(error);
    client other{s.port()};
    CHECK(s.ask(other, health).status == 200);
    client c{s.port()};
    REQUIRE(s.until([&] { return s->connections() == 2; }));
    s.pass(0);
    fail_socket_calls(socket_call::recv, 1, error);
    c.send(health);
    if (error == ECONNRESET) {
      CHECK(s.until([&] { return s->connections() == 1; }));
      CHECK(s.ends(c));
    } else {
      CHECK(s.answer_to(c).status == 200);
    }
    CHECK(s.ask(other, health).status == 200);
    c.close();
    other.close();
    REQUIRE(s.empties());
  }
  // Neither does it end one that waits for its peer's end.
  client last{s.port()};
  CHECK(s.ask(last, client::make("GET", "/health", "Connection: close\r\n")).status == 200);
  CHECK(s.ends(last));
  fail_socket_calls(socket_call::recv, 1, EAGAIN);
  s.send(last, "more");
  s.pass(0);
  CHECK(s->connections() == 1);
  last.close();
  CHECK(s.empties());
}

/// A write that fails ends its connection at once, and no other.
template <class Loop>
void writes_that_fail() {
  held_server<Loop> s;
  client other{s.port()};
  CHECK(s.ask(other, client::make("GET", "/health")).status == 200);
  for (const std::string_view target : {"/health", "/large"}) {
    client c{s.port()};
    REQUIRE(s.until([&] { return s->connections() == 2; }));
    s.pass(0);
    fail_socket_calls(socket_call::send, 1, ECONNRESET);
    c.send(client::make("GET", target));
    CHECK(s.until([&] { return s->connections() == 1; }));
    CHECK(s.ends(c));
  }
  CHECK(s.ask(other, client::make("GET", "/health")).status == 200);
}

/// While an answer waits for room nothing is read, also not what comes then.
template <class Loop>
void no_read_while_an_answer_waits() {
  held_server<Loop> s{{.send_buffer = 8192}};
  client c{s.port(), 65536};
  s.send(c, client::make("GET", "/large"));
  s.pass(0);
  const long reads = socket_calls_made(socket_call::recv);
  c.send(client::make("GET", "/health"));
  s.pass(0);
  CHECK(socket_calls_made(socket_call::recv) == reads);
  const std::string large = s.read(c, 4'000'000);
  REQUIRE(s.until([&] { return socket_calls_made(socket_call::recv) != reads; }));
}

/// A drain waits for nobody who has his answer and stays.
template <class Loop>
void drain_beside_one_that_stays() {
  held_server<Loop> s;
  client c{s.port()};
  CHECK(s.ask(c, client::make("GET", "/health", "Connection: close\r\n")).status == 200);
  REQUIRE(s->connections() == 1);
  CHECK(s->drain());  // no time passes
  CHECK(s->connections() == 0);
}

/// Of many that come at once 64 are accepted in one turn: others have their turn too.
template <class Loop>
void accepts_of_a_turn() {
  held_server<Loop> s;
  s.pass(0);
  std::vector<client> all;
  for (int i = 0; i < 130; ++i) all.emplace_back(s.port());
  for (const std::size_t expected : {64U, 128U, 130U}) {
    s.turn();
    CHECK(s->connections() == expected);
  }
}

/// The loop sleeps until something is due, to the millisecond; not while there is work.
template <class Loop>
void how_long_it_waits() {
  const auto forever = sse::duration::infinite();
  held_server<Loop> s{
      {.hub = {.write_deadline = milliseconds{9000}}, .keep_alive = milliseconds{3000}}};
  const auto wait = [&](sse::duration most) {
    fail_socket_call(0, EINTR);
    s->poll(most);
    CHECK(end_failing());
    return failed_wait_ms();
  };
  s.pass(0);
  CHECK(wait(forever) == -1);
  CHECK(wait(milliseconds{70}) == 70);
  CHECK(wait(milliseconds{INT_MAX - 1}) == INT_MAX - 1);
  CHECK(wait(milliseconds{std::int64_t{INT_MAX} + 1}) == INT_MAX);
  CHECK(wait(milliseconds{0}) == 0);
  CHECK(wait(milliseconds{-1}) == 0);
  client stream{s.port()};
  s.open(stream);
  client c{s.port()};
  CHECK(s.ask(c, client::make("GET", "/health")).status == 200);
  s.pass(0);
  CHECK(wait(forever) == 3000);
  s.pass(1000);
  CHECK(wait(forever) == 2000);
  CHECK(wait(milliseconds{1999}) == 1999);
  CHECK(wait(milliseconds{2001}) == 2000);
  REQUIRE(s->publish(s.ticks, {.data = "now"}));
  CHECK(wait(forever) == 0);
  s.pass(0);
  CHECK(wait(forever) == 2000);
  sse::publisher mail = s->make_publisher(s.ticks);
  REQUIRE(mail.try_publish("mail") == sse::publish_error::none);
  CHECK(wait(forever) == 0);
  s.pass(0);
  CHECK(wait(forever) == 2000);
  fail_socket_calls(socket_call::accept, INT_MAX, EMFILE);
  const long tried = socket_calls_made(socket_call::accept);
  client late{s.port()};
  REQUIRE(s.until([&] { return socket_calls_made(socket_call::accept) != tried; }));
  CHECK(wait(forever) == 100);
  s.pass(60);
  CHECK(wait(forever) == 40);
  fail_socket_calls(socket_call::accept, 0, 0);
  s->stop();
  const long waits = wait_calls();
  s->poll(forever);
  CHECK(wait_calls() == waits);
}

/// A loop that is to poll never sleeps.
template <class Loop>
void busy_loop_never_waits() {
  held_server<Loop> s{{.busy_poll = true}};
  s.pass(0);
  fail_socket_call(0, EINTR);
  s->poll(sse::duration::infinite());
  CHECK(end_failing());
  CHECK(failed_wait_ms() == 0);
}

/// Descriptors are out: accept is tried once in 100 ms, is reported, and goes on afterwards.
template <class Loop>
void accept_without_descriptors(int error) {
  held_server<Loop> s;
  int reported = 0;
  s->on_error([&](std::string_view what, const std::error_code& e) {
    reported += what == "accept" && e.value() == error ? 1 : 0;
  });
  client before{s.port()};
  CHECK(s.ask(before, client::make("GET", "/health")).status == 200);
  fail_socket_calls(socket_call::accept, INT_MAX, error);
  const long calls = socket_calls_made(socket_call::accept);
  std::vector<client> waiting;
  for (int i = 0; i < 5; ++i) waiting.emplace_back(s.port());
  for (int round = 1; round <= 3; ++round) {
    CAPTURE(round);
    REQUIRE(s.until([&] { return reported == round; }));
    for (int i = 0; i < 200; ++i) s.turn();
    CHECK(socket_calls_made(socket_call::accept) == calls + round);
    CHECK(s.ask(before, client::make("GET", "/health")).status == 200);  // others are served
    if (round == 3) break;
    s.pass(99);
    CHECK(socket_calls_made(socket_call::accept) == calls + round);
    s.pass(1);
  }
  fail_socket_calls(socket_call::accept, 0, 0);
  s.pass(100);
  for (client& c : waiting) CHECK(s.ask(c, client::make("GET", "/health")).status == 200);
  client later{s.port()};
  CHECK(s.ask(later, client::make("GET", "/health")).status == 200);
  CHECK(reported == 3);
}

/// A connection that was gone before it was accepted holds up no other.
template <class Loop>
void accept_of_one_that_left() {
  held_server<Loop> s;
  const long calls = socket_calls_made(socket_call::accept);
  fail_socket_calls(socket_call::accept, 1, ECONNABORTED);
  client first{s.port()};
  REQUIRE(s.until([&] { return socket_calls_made(socket_call::accept) != calls; }));
  client second{s.port()};
  CHECK(s.ask(first, client::make("GET", "/health")).status == 200);  // no time has passed
  CHECK(s.ask(second, client::make("GET", "/health")).status == 200);
}

/// The first write of an answer, of a stream's head, finds no room: it waits, nothing is dropped.
/// Once on each connection, since the kernel would tell of room again only after a real one.
template <class Loop>
void first_write_without_room() {
  held_server<Loop> s;
  const auto with = [&](std::string_view requests) {
    client c{s.port()};
    fail_socket_calls(socket_call::send, 1, EAGAIN);
    s.send(c, requests);
    return c;
  };
  const std::string health = client::make("GET", "/health");
  client one = with(health);
  CHECK(s.answer_to(one).body == "ok");
  CHECK(s.ask(one, health).body == "ok");
  client large = with(client::make("GET", "/large") + health);
  CHECK(s.read(large, 4'000'200).find("\r\n\r\nok") != std::string::npos);
  client last = with(client::make("GET", "/health", "Connection: close\r\n"));
  CHECK(s.answer_to(last).body == "ok");
  CHECK(s.ends(last));
  for (const bool after_an_answer : {false, true}) {
    client stream = with((after_an_answer ? health : "") + client::make("GET", "/events"));
    if (after_an_answer) CHECK(s.answer_to(stream).body == "ok");
    REQUIRE(s.until([&] { return stream.has_input(); }));
    CHECK(stream.head().status == 200);
    REQUIRE(s->publish(s.ticks, {.data = "x"}));
    REQUIRE(s.until([&] { return stream.has_input(); }));
    CHECK(stream.data() == "x");
  }
}

/// An answer whose first write finds no room, and none afterwards, has the write deadline too.
template <class Loop>
void first_write_never_has_room(std::string_view headers) {
  held_server<Loop> s{
      {.hub = {.write_deadline = milliseconds{1000}}, .keep_alive = milliseconds{60'000}}};
  client c{s.port()};
  fail_socket_calls(socket_call::send, INT_MAX, EAGAIN);
  s.send(c, client::make("GET", "/health", headers));
  s.pass(999);
  CHECK(s->connections() == 1);
  s.pass(1);
  CHECK(s->connections() == 0);
}

/// A peer sends a byte and takes all that was waiting for it before the loop looks again: one edge
/// tells of both, and the rest must come.
template <class Loop>
void input_and_room_at_once() {
  held_server<Loop> s{{.hub = {.write_deadline = sse::duration::off()}, .send_buffer = 16384}};
  client c{s.port(), 65536};
  s.open(c);
  std::string expected;
  for (int i = 0; i < 50; ++i) {
    const std::string data(10'000, static_cast<char>('a' + i % 26));
    const sse::publish_result r = s->publish(s.ticks, {.data = data});
    REQUIRE(r);
    expected += "id: " + std::to_string(r.id) + "\ndata: " + data + "\n\n";
    s.turn();
  }
  s.pass(0);
  REQUIRE(s->hub().worst_lag(s.ticks) > 0);
  std::string got;
  while (got.size() < expected.size()) {
    const std::size_t before = got.size();
    c.send("x");
    got += c.taken();  // the loop sees nothing of it meanwhile
    c.send("y");
    REQUIRE(s.until([&] { return c.has_input() || got.size() == expected.size(); }));
    got += c.taken();
    REQUIRE(got.size() > before);
  }
  CHECK((got == expected));
  CHECK(s->hub().sessions() == 1);
}

/// What waits in the kernel a slow reader gets before all that is newer: little of it is old,
/// whatever the socket could hold, also where server_options::unsent says nothing.
template <class Loop>
void values_do_not_age_in_the_kernel(std::uint32_t unsent) {
  held_server<Loop> s{{.hub = {.write_deadline = sse::duration::off()}, .unsent = unsent}};
  const sse::channel quotes = s->open_channel("quotes", {.on_lag = sse::lag_policy::coalesce});
  s->stream("/quotes", quotes);
  client c{s.port(), 4096};
  c.send(client::make("GET", "/quotes"));
  REQUIRE(s.until([&] { return s->hub().sessions() == 1 && c.has_input(); }));
  REQUIRE(c.head().status == 200);
  const std::string filling(1000, 'x');
  constexpr int total = 4000;
  for (int i = 1; i <= total; ++i) {
    REQUIRE(s->publish(quotes, {.data = std::to_string(i) + filling}, {.key = "a"}));
    s.turn();
  }
  std::string got;
  REQUIRE(s.until([&] {
    got += c.taken();
    return got.find("data: " + std::to_string(total) + "x") != std::string::npos;
  }));
  CHECK(got.size() < 200'000);  // all that was published is 4 MB
  CHECK(s->hub().sessions() == 1);
}

/// The same before a stream: an answer is still being written while the next request's body comes.
template <class Loop>
void body_and_room_at_once() {
  held_server<Loop> s{{.hub = {.write_deadline = sse::duration::off()}, .send_buffer = 16384}};
  client c{s.port(), 65536};
  const std::string body(5000, 'b');
  s.send(c, client::make("GET", "/large") +
                client::make("POST", "/echo", "Content-Length: 5000\r\n") + body.substr(0, 2000));
  s.pass(0);
  (void)c.taken();
  c.send(body.substr(2000, 1000));
  std::string end;
  REQUIRE(s.until([&] {
    end += c.taken();
    if (end.size() > 100'000) end.erase(0, end.size() - 50'000);
    return end.ends_with('p');
  }));
  c.send(body.substr(3000));
  REQUIRE(s.until([&] {
    end += c.taken();
    if (end.size() > 100'000) end.erase(0, end.size() - 50'000);
    return end.ends_with(body);
  }));
  CHECK(s.ask(c, client::make("GET", "/health")).status == 200);
}

/// A stream ends with input that nobody read: its peer gets all that was written, and no reset.
template <class Loop>
void end_with_unread_input(bool by_stop) {
  held_server<Loop> s;
  client c{s.port()};
  s.open(c);
  REQUIRE(s->publish(s.ticks, {.data = "last"}));
  REQUIRE(s.until([&] { return s->hub().worst_lag(s.ticks) == 0 && c.has_input(); }));
  c.send(std::string(50'000, 'x'));
  if (by_stop) {
    s->stop();
  } else {
    s->hub().close_all();
  }
  for (int i = 0; i < 10; ++i) s.turn();
  const std::string got = c.rest();
  CHECK(got.find("data: last\n\n") != std::string::npos);
  CHECK_FALSE(c.was_reset);
}

}  // namespace test
