// How bytes go out where the host tells later what became of them: completion and pull.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::publish_error;
using test::completion_stage;
using test::frame;
using test::frames;
using test::quiet;

}  // namespace

// --- completion ---

TEST_CASE("completion: bytes lie still until they are written, whatever happens to the log",
          "[flow][completion]") {
  completion_stage s;
  sse::channel c = s.open("c", quiet(2));
  const auto k = s.join(c);
  s.put_many(c, 3);
  s.flush();
  REQUIRE(s.peer(k).in_flight_bytes == frames(1, 3).size());
  const std::string large(3000, 'y');
  for (int i = 0; i < 100; ++i) s.put(c, large);  // retention lets the first segments go
  s.flush();
  CHECK(s.peer(k).writes == 1);  // one write at a time
  s.hub.written(k.id, s.net.complete(k.peer));
  CHECK(s.take(k) == frames(1, 3));
  s.flush();
  std::string expect;
  for (std::uint64_t i = 4; i <= 103; ++i) expect += frame(i, "e", large);
  while (s.peer(k).in_flight_bytes != 0) {
    s.hub.written(k.id, s.net.complete(k.peer));
    s.flush();
  }
  CHECK((s.take(k) == expect));
}

TEST_CASE("completion: a part of a write, at any byte, and the rest comes again",
          "[flow][completion]") {
  bool right = true;
  const std::string whole = "HEAD" + frames(1, 4);
  for (std::size_t first = 0; first <= whole.size(); ++first) {
    completion_stage s;
    sse::channel c = s.open("c", quiet());
    s.put_many(c, 4);
    const auto k = s.join(c, {.last_event_id = "0", .preamble = "HEAD"});
    s.hub.written(k.id, s.net.complete(k.peer, first));
    right = right && s.hub.send(k.id, {.type = "w", .data = ""}) == publish_error::none;
    s.flush();
    while (s.peer(k).in_flight_bytes != 0) {
      s.hub.written(k.id, s.net.complete(k.peer));
      s.flush();
    }
    std::string got = s.take(k);
    const std::size_t at = got.find(frame(0, "w", ""));
    right = right && at != got.npos && (at == 4 || got.substr(at - 2, 2) == "\n\n");
    if (at != got.npos) got.erase(at, frame(0, "w", "").size());
    right = right && got == whole;
  }
  CHECK(right);
}

TEST_CASE("completion: a session that ends keeps its bytes and its slot until the write is over",
          "[flow][completion]") {
  int ends = 0;
  completion_stage s;
  s.hub.on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason) { ++ends; });
  sse::channel c = s.open("c", quiet(1));
  s.put(c);
  const auto k = s.join(c, {.key = "ann", .last_event_id = "0", .preamble = "HEAD"});
  const auto lane = s.join(c, {.key = "ann"});
  REQUIRE(s.hub.send(lane.id, {.data = "unicast"}) == publish_error::none);
  s.flush();
  REQUIRE(s.peer(k).in_flight_bytes != 0);
  REQUIRE(s.peer(lane).in_flight_bytes != 0);
  s.hub.closed(k.id);
  CHECK(s.hub.revoke("ann") == 1);
  CHECK(s.closed(k));
  CHECK(s.closed(lane));
  CHECK(s.hub.sessions() == 0);
  CHECK(s.hub.user_sessions("ann") == 0);
  CHECK(ends == 2);
  CHECK_FALSE(s.hub.alive(k.id));
  CHECK(s.hub.user(k.id) == nullptr);
  CHECK(s.hub.find(k.id) == nullptr);
  CHECK(s.hub.send(k.id, {.data = "x"}) == publish_error::no_session);
  s.hub.closed(k.id);
  s.hub.writable(k.id);
  for (int i = 0; i < 200; ++i) s.put(c, std::string(1000, 'z'));
  s.flush();
  const auto next = s.join(c, {.key = "ann"});
  CHECK(next.id.slot != k.id.slot);  // the kernel still reads from there
  CHECK(next.id.slot != lane.id.slot);
  s.hub.written(k.id, s.net.complete(k.peer));
  s.hub.written(lane.id, s.net.complete(lane.peer, 0));
  CHECK(s.take(k) == "HEAD" + frames(1, 1));
  s.hub.written(k.id, 1);  // said twice: harmless
  const auto again = s.join(c, {.key = "ann"});
  CHECK((again.id.slot == k.id.slot || again.id.slot == lane.id.slot));
  CHECK(ends == 2);
}

TEST_CASE("completion: the hub can end while writes are pending", "[flow][completion]") {
  sse::testing::memory_completion_transport net;
  {
    sse::hub<sse::testing::memory_completion_transport> hub{net, test::without_position()};
    sse::channel c = hub.open_channel("c", quiet());
    REQUIRE(c);
    for (int i = 0; i < 3; ++i)
      REQUIRE(hub.accept({net.connect()}, {.preamble = "HEAD"}, sse::admit().join(c)));
    hub.close(net.at(0).session);
    hub.close_channel(c);
  }
  CHECK(net.at(2).is_closed);
}

TEST_CASE("completion: a channel closed under a pending write leaves its bytes",
          "[flow][completion]") {
  completion_stage s;
  sse::channel c = s.open("c", quiet());
  s.put_many(c, 3);
  const auto k = s.join(c, {.last_event_id = "0"});
  s.hub.close_channel(c);
  CHECK(s.closed(k));
  CHECK(s.peer(k).why == sse::close_reason::channel);
  s.hub.written(k.id, s.net.complete(k.peer));
  CHECK(s.take(k) == frames(1, 3));
}

// --- pull ---

TEST_CASE("pull: peek shows, consume takes, in pieces of any size", "[flow][pull]") {
  const std::string whole = "HEAD" + frames(1, 6);
  for (std::size_t piece = 1; piece < 40; ++piece) {
    completion_stage s;
    sse::channel c = s.open("c", quiet());
    s.put_many(c, 6);
    const auto k = s.join(c, {.last_event_id = "0", .preamble = "HEAD", .window = 0});
    std::string got;
    sse::buffer out[16];
    while (const std::size_t n = s.hub.peek(k.id, out)) {
      REQUIRE(s.hub.peek(k.id, out) == n);  // looking changes nothing
      std::size_t took = 0;
      for (std::size_t i = 0; i < n && took < piece; ++i) {
        const std::string_view part = out[i].view().substr(0, piece - took);
        got += part;
        took += part.size();
      }
      s.hub.consume(k.id, took);
    }
    REQUIRE(got == whole);
    REQUIRE(s.take(k).empty());
    const std::size_t writes = s.peer(k).writes;
    s.put(c);
    s.flush();
    REQUIRE(s.peer(k).writes == writes + 1);  // told that there is more
    sse::buffer one[1];
    REQUIRE(s.hub.peek(k.id, one) == 1);
    REQUIRE(one[0].view() == frames(7, 7));
  }
}

TEST_CASE("pull: fewer buffers than there are pieces", "[flow][pull]") {
  completion_stage s;
  sse::channel c = s.open("c", quiet());
  const std::string large(5000, 'x');
  std::string expect = "HEAD";
  for (int i = 0; i < 60; ++i) expect += frame(s.put(c, large), "e", large);
  const auto k = s.join(c, {.last_event_id = "0", .preamble = "HEAD", .window = 0});
  std::string got;
  sse::buffer one[1];
  while (s.hub.peek(k.id, one) != 0) {
    got += one[0].view();
    s.hub.consume(k.id, one[0].size);
  }
  CHECK((got == expect));
}

TEST_CASE("pull: a finished stream ends once all was taken", "[flow][pull]") {
  completion_stage s;
  sse::channel c = s.open("c", quiet());
  s.put_many(c, 2);
  const auto k = s.join(c, {.last_event_id = "0", .window = 0});
  s.hub.finish(k.id);
  s.flush();
  CHECK_FALSE(s.closed(k));
  std::string got;
  sse::buffer out[16];
  while (const std::size_t n = s.hub.peek(k.id, out)) {
    std::size_t size = 0;
    for (std::size_t i = 0; i < n; ++i) {
      got += out[i].view();
      size += out[i].size;
    }
    s.hub.consume(k.id, size);
  }
  s.flush();
  CHECK(got == frames(1, 2));
  CHECK(s.closed(k));
  CHECK(s.hub.sessions() == 0);
}

TEST_CASE("pull: a blocked stream with nothing left but its end ends once it was looked at",
          "[flow][pull]") {
  completion_stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c, {.window = 0});
  s.put(c);
  s.flush();
  REQUIRE(s.hub.leave(k.id, c));
  s.hub.finish(k.id);
  s.flush();
  CHECK_FALSE(s.closed(k));  // the host did not say that it is writable
  sse::buffer out[4];
  CHECK(s.hub.peek(k.id, out) == 0);
  s.flush();
  CHECK(s.closed(k));
}

TEST_CASE("pull: a look that asked often enough goes on in the next flush", "[flow][pull]") {
  completion_stage s;
  s.hub.on_sees([](const sse::no_user&, std::string_view, std::string_view audience) {
    return audience == "all";
  });
  sse::channel c = s.open("c", quiet(10'000));
  sse::channel left = s.open("left", quiet());
  const auto k = s.join({.window = 0}, {left, c});
  s.put(left);
  s.flush();
  REQUIRE(s.hub.leave(k.id, left));
  for (int i = 0; i < 1500; ++i) s.put(c, "x", "nobody");
  const sse::event_id last = s.put(c, "x", "all");
  s.flush();
  s.peer(k).window = SIZE_MAX;
  sse::buffer out[4];
  CHECK(s.hub.peek(k.id, out) == 0);
  s.flush();
  s.hub.written(k.id, s.net.complete(k.peer));
  CHECK(s.take(k) == frame(last, "e", "x"));
}

TEST_CASE("pull: what was shown stays readable when the session ends", "[flow][pull]") {
  completion_stage s;
  sse::channel c = s.open("c", quiet(1));
  s.put(c);
  const auto k = s.join(c, {.last_event_id = "0", .window = 0});
  sse::buffer out[4];
  REQUIRE(s.hub.peek(k.id, out) == 1);
  s.hub.closed(k.id);
  for (int i = 0; i < 200; ++i) s.put(c, std::string(1000, 'z'));
  CHECK(out[0].view() == frames(1, 1));
  s.hub.consume(k.id, 0);
  CHECK(s.hub.sessions() == 0);
}
