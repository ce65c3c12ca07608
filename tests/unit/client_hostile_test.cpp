// event_source against hostile servers: a clear error, bounded memory, linear time.
#include <sse/client.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "client_rig.hpp"

namespace {

using sse::client_error;
using sse::client_state;
using sse::duration;
using test::chunk;
using test::chunked_head;
using test::list;
using test::rig;
using test::stream_head;

}  // namespace

// --- hostile servers: a clear error, bounded memory, linear time

TEST_CASE("client: an endless header") {
  rig r;
  r.connected();
  r.receive("HTTP/1.1 200 OK\r\nA: ");
  std::size_t sent = 0;
  std::size_t held = 0;
  while (r.error() == client_error::none) {
    REQUIRE(sent < 1'000'000);
    r.receive(std::string(1000, 'a'));
    sent += 1000;
    held = std::max(held, r.source.buffered());
  }
  CHECK(r.error() == client_error::head_too_large);
  CHECK(sent <= 66'000);
  CHECK(held <= 66'000);
  CHECK(r.source.buffered() == 0);
  rig many;
  many.connected();
  many.receive("HTTP/1.1 200 OK\r\n");
  for (int i = 0; i < 257; ++i) many.receive("A: b\r\n");
  many.receive("\r\n");
  CHECK(many.error() == client_error::head_too_large);
}

TEST_CASE("client: a 10 MB line in 1-byte reads") {
  constexpr std::size_t size = 10'000'000;
  // Within the default limit it arrives.
  rig r;
  r.answer(std::string{stream_head} + "data: ");
  std::size_t length = 0;
  struct {
    std::size_t* length;
    void on_event(const sse::event& e) { *length = e.data.size(); }
  } sink{&length};
  const char a = 'a';
  std::size_t taken = 0;
  for (std::size_t i = 0; i < size; ++i) taken += r.source.received(r.now(), {&a, 1}, sink);
  CHECK(taken == size);
  CHECK(r.source.buffered() >= size);
  CHECK(r.source.received(r.now(), "\n\n", sink) == 2);
  CHECK(length == size);
  // Above a limit it ends there.
  sse::client_options o;
  o.stream.limits.line = 1'000'000;
  rig limited{o};
  limited.answer(std::string{stream_head} + "data: ");
  std::size_t sent = 0;
  while (limited.source.state() == client_state::open) {
    (void)limited.source.received(limited.now(), {&a, 1}, sink);
    ++sent;
  }
  CHECK(sent == 1'000'000 - 5);
  limited.poll();
  CHECK(limited.error() == client_error::bad_stream);
  CHECK(limited.source.failure().parse == sse::parse_error::line_too_long);
  CHECK(limited.source.buffered() == 0);
}

TEST_CASE("client: a million data lines") {
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "data:x\n";
  rig r;
  r.answer(stream_head);
  for (int i = 0; i < 1000; ++i) r.receive(lines);
  r.receive("\n");
  CHECK(r.seen.log.size() == 2);
  CHECK(r.seen.log.back().size() == 2'000'001);
  sse::client_options o;
  o.stream.limits.data_lines = 999'999;
  rig limited{o};
  limited.answer(stream_head);
  for (int i = 0; i < 1000; ++i) limited.receive(lines);
  CHECK(limited.error() == client_error::bad_stream);
  CHECK(limited.source.failure().parse == sse::parse_error::too_many_lines);
  CHECK(limited.source.buffered() == 0);
}

TEST_CASE("client: a chunk size that lies") {
  rig small;
  small.answer(std::string{chunked_head} + "4\r\ndata: x\n\n\r\n0\r\n\r\n");
  CHECK(small.error() == client_error::bad_framing);
  CHECK(small.events() == list{"open 200"});
  rig large{{.stall_timeout = duration::seconds(20)}};
  large.answer(std::string{chunked_head} + "ffffffffffffffff\r\ndata: x\n\n\r\n0\r\n\r\n");
  CHECK(large.source.state() == client_state::open);
  CHECK(large.source.buffered() < 1000);
  large.ended();
  CHECK(large.error() == client_error::cut);
  rig overflow;
  overflow.answer(std::string{chunked_head} + "10000000000000005\r\ndata: x\n\n");
  CHECK(overflow.error() == client_error::bad_framing);
}

TEST_CASE("client: other limits of the stream") {
  const auto error = [](std::string_view stream) {
    sse::client_options o;
    o.stream.limits = {.line = 100, .event = 50, .data_lines = 3, .id = 10, .type = 10};
    rig r{o};
    r.answer(std::string{stream_head} + "data: first\n\n");
    r.receive(stream);
    CHECK(r.error() == client_error::bad_stream);
    CHECK(r.source.failure().was_open);
    CHECK(r.source.failure().delay.ms() == 3000);
    CHECK(r.source.buffered() == 0);
    return std::string{sse::describe(r.source.failure())};
  };
  CHECK(error(std::string(101, 'x')) == "the stream has a line that is too long");
  CHECK(error("data:" + std::string(51, 'x') + "\n") ==
        "the stream has an event that is too large");
  CHECK(error("data\ndata\ndata\ndata\n") == "the stream has an event of too many lines");
  CHECK(error("id:" + std::string(11, 'x') + "\n") == "the stream has an id that is too long");
  CHECK(error("event:" + std::string(11, 'x') + "\n") ==
        "the stream has an event type that is too long");
}
