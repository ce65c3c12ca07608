// How bytes go out: readiness, completion and pull; one gather per session; order over channels;
// what is for one alone.
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "dechunk.hpp"
#include "stage.hpp"

namespace {

using sse::publish_error;
using test::completion_stage;
using test::dechunk;
using test::frame;
using test::frames;
using test::quiet;
using test::stage;

sse::heartbeat_options no_heartbeat() { return {.mode = sse::heartbeat_options::pace::off}; }
/// Takes at most N buffers, as a TLS stream takes one, and remembers whether it was asked to take
/// more.
template <std::size_t N>
struct narrow_transport : sse::testing::memory_transport {
  static constexpr std::size_t max_buffers = N;
  bool too_many = false;

  [[nodiscard]] sse::write_result write(connection& c,
                                        std::span<const sse::buffer> bytes) noexcept {
    too_many = too_many || bytes.size() > N || bytes.empty();
    for (const sse::buffer& b : bytes) too_many = too_many || b.size == 0;
    return sse::testing::memory_transport::write(c, bytes);
  }
};

/// Remembers each call, and answers as the test says.
struct recording_transport {
  struct connection {
    int number = 0;
  };
  struct call {
    int number;
    std::size_t bytes;
    const char* first;
  };
  std::vector<call> calls{};
  std::map<int, int> opened_times{}, closed_times{};
  std::map<int, sse::close_reason> why{};
  int flushes_begun = 0, flushes_ended = 0, writes_outside = 0;
  sse::flow answer = sse::flow::ready;
  std::size_t takes = SIZE_MAX;  ///< of one write
  std::size_t lies = 0;          ///< added to what it says it took

  void opened(connection& c, sse::session_id) noexcept { ++opened_times[c.number]; }
  void begin_flush() noexcept { ++flushes_begun; }
  void end_flush() noexcept { ++flushes_ended; }
  sse::write_result write(connection& c, std::span<const sse::buffer> bytes) noexcept {
    std::size_t all = 0;
    for (const sse::buffer& b : bytes) all += b.size;
    calls.push_back({c.number, all < takes ? all : takes, bytes[0].data});
    if (flushes_begun == flushes_ended) ++writes_outside;
    return {calls.back().bytes + lies, answer};
  }
  void close(connection& c, sse::close_reason r) noexcept {
    ++closed_times[c.number];
    why[c.number] = r;
  }
};

}  // namespace

// --- readiness ---

TEST_CASE("publishing touches no subscriber, and a flush sends all that is pending in one write",
          "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c);
  s.put_many(c, 100);
  CHECK(s.peer(k).writes == 0);
  s.flush();
  CHECK(s.peer(k).writes == 1);
  CHECK(s.take(k) == frames(1, 100));
  s.flush();
  CHECK(s.peer(k).writes == 1);  // nothing new, no call
  CHECK(s.hub.stats().writes == 1);
}

TEST_CASE("what lies in several segments goes in one write too, in at most 16 buffers", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c);
  const std::string large(1000, 'x');
  std::string expect;
  for (int i = 0; i < 150; ++i) expect += frame(s.put(c, large), "e", large);
  s.flush();
  CHECK(s.peer(k).writes == 1);
  CHECK((s.take(k) == expect));
}

TEST_CASE("a blocked session is left alone until it is writable, and then goes on at its byte",
          "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c, {.window = 10});
  const auto other = s.join(c);
  s.put_many(c, 5);
  s.flush();
  CHECK(s.take(k) == frames(1, 5).substr(0, 10));
  s.put_many(c, 5);
  s.flush();
  s.flush();
  CHECK(s.peer(k).writes == 1);
  CHECK(s.take(other) == frames(1, 10));
  s.let(k, 7);
  CHECK(s.take(k) == frames(1, 5).substr(10, 7));
  s.let(k);
  CHECK(s.take(k) == frames(1, 10).substr(17));
}

TEST_CASE("a write cut at any byte: the rest first, control frames between events only", "[flow]") {
  const std::string head = "HTTP/1.1 200 OK\r\n\r\n";
  const std::string whisper = frame(0, "whisper", "psst");
  bool right = true;
  std::size_t early = 0;
  for (std::size_t cut = 0; cut < head.size() + frames(1, 6).size(); ++cut) {
    stage s;
    sse::channel c = s.open("c", quiet());
    s.put_many(c, 3);
    const auto k = s.join(c, {.last_event_id = "0", .preamble = head, .window = cut});
    right = right && s.hub.send(k.id, {.type = "whisper", .data = "psst"}) == publish_error::none;
    s.put_many(c, 3);
    s.flush();
    for (int i = 0; i < 30; ++i) s.let(k, 1);
    s.let(k);
    std::string got = s.take(k);
    const std::size_t at = got.find(whisper);
    if (at == got.npos || at < head.size()) {
      right = false;
      continue;
    }
    right = right && (at == head.size() || got.substr(at - 2, 2) == "\n\n");
    if (at < got.size() - whisper.size()) ++early;
    got.erase(at, whisper.size());
    right = right && got == head + frames(1, 6);
  }
  CHECK(right);
  CHECK(early > 50);  // it does not wait for the backlog
}

TEST_CASE("a transport that takes little and is ready gets all in one flush", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c, {.max_write = 7});
  s.put_many(c, 50);
  CHECK_FALSE(s.hub.flush());
  CHECK(s.take(k) == frames(1, 50));
}

TEST_CASE("a transport that takes nothing and says ready cannot hold the hub", "[flow]") {
  recording_transport t;
  t.takes = 0;
  sse::hub<recording_transport> hub{t, test::without_position()};
  sse::channel c = hub.open_channel("c", quiet());
  REQUIRE(c);
  REQUIRE(hub.accept({1}, {}, sse::admit().join(c)));
  REQUIRE(c.publish({.data = "x"}));
  CHECK(hub.flush());  // call again soon
  const std::size_t calls = t.calls.size();
  CHECK(calls <= 2);
  CHECK(hub.flush());
  CHECK(t.calls.size() <= calls + 2);
  t.takes = SIZE_MAX;
  CHECK_FALSE(hub.flush());
  CHECK(c.stats().delivered == 1);
}

TEST_CASE(
    "a transport that lies about what it took, or is pending without a promise to complete, does "
    "no harm",
    "[flow]") {
  recording_transport t;
  t.lies = 1000;
  sse::hub<recording_transport> hub{t, test::without_position()};
  sse::channel c = hub.open_channel("c", quiet());
  REQUIRE(c);
  REQUIRE(hub.accept({1}, {}, sse::admit().join(c)));
  REQUIRE(c.publish({.data = "x"}));
  hub.flush();
  CHECK(c.stats().delivered == 1);
  CHECK(hub.stats().bytes == frame(1, "", "x").size());
  t.answer = sse::flow::pending;
  REQUIRE(c.publish({.data = "x"}));
  hub.flush();
  CHECK(hub.sessions() == 0);
  CHECK(t.why[1] == sse::close_reason::peer);
}

TEST_CASE("opened once, closed once, writes inside begin_flush and end_flush", "[flow]") {
  recording_transport t;
  {
    sse::hub<recording_transport> hub{t, test::without_position()};
    sse::channel c = hub.open_channel("c", quiet());
    REQUIRE(c);
    std::vector<sse::session_id> ids;
    for (int i = 0; i < 5; ++i) ids.push_back(hub.accept({i}, {}, sse::admit().join(c)).id);
    REQUIRE(c.publish({.data = "x"}));
    hub.flush();
    CHECK(t.flushes_begun == 1);
    CHECK(t.flushes_ended == 1);
    CHECK(t.writes_outside == 0);
    hub.closed(ids[0]);
    hub.closed(ids[0]);
    hub.close(ids[1]);
    hub.closed(ids[1]);
    t.answer = sse::flow::closed;  // the rest is found by a write
    REQUIRE(c.publish({.data = "y"}));
    hub.flush();
    hub.flush();
    CHECK(hub.sessions() == 0);
    t.answer = sse::flow::ready;
    ids.push_back(hub.accept({5}, {}, sse::admit().join(c)).id);
    CHECK_FALSE(hub.alive(ids[0]));
    CHECK(hub.alive(ids[5]));
  }
  for (int i = 0; i <= 5; ++i) {
    CAPTURE(i);
    CHECK(t.opened_times[i] == 1);
    CHECK(t.closed_times[i] == 1);
  }
  CHECK(t.why[0] == sse::close_reason::peer);
  CHECK(t.why[1] == sse::close_reason::host);
  CHECK(t.why[2] == sse::close_reason::peer);
  CHECK(t.why[5] == sse::close_reason::host);  // the hub's end
}

TEST_CASE("all streams closed at once: each is told of once, and new ones may come", "[flow]") {
  int ended = 0;
  stage s;
  sse::channel c = s.open("c");
  const test::caller slow = s.join(c, {.window = 0});
  const test::caller other = s.join(c);
  const test::caller retry = s.join(c, {.chunked = true});
  s.hub.on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason why) {
    CHECK(why == sse::close_reason::host);
    if (++ended == 1) s.hub.close_all();  // a hook may ask again
  });
  s.put(c);
  s.hub.close_all();
  CHECK(ended == 3);
  for (const test::caller& k : {slow, other, retry}) CHECK(s.closed(k));
  CHECK(s.hub.sessions() == 0);
  const test::caller late = s.join(c);
  s.put(c);
  s.flush();
  CHECK(test::ids_in(s.take(late)).size() == 1);
}

TEST_CASE("a handle kept too long names nobody", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto old = s.join(c);
  s.hub.closed(old.id);
  const auto k = s.join(c);
  REQUIRE(k.id.slot == old.id.slot);
  CHECK_FALSE(k.id == old.id);
  CHECK_FALSE(s.hub.alive(old.id));
  CHECK(s.hub.user(old.id) == nullptr);
  CHECK(s.hub.find(old.id) == nullptr);
  CHECK(s.hub.send(old.id, {.data = "x"}) == publish_error::no_session);
  s.hub.closed(old.id);
  s.hub.close(old.id);
  s.hub.finish(old.id);
  s.hub.writable(old.id);
  s.hub.written(old.id, 5);
  s.flush();
  CHECK(s.hub.alive(k.id));
  CHECK_FALSE(s.hub.alive({}));
  CHECK_FALSE(s.hub.alive({1'000'000, 1}));
  s.put(c);
  s.flush();
  CHECK(s.take(k) == frames(1, 1));
  CHECK(s.take(old).empty());
}

TEST_CASE("X-01 a session that is far behind has its share, then the next has its turn", "[flow]") {
  constexpr std::size_t share = 100'000;
  recording_transport t;
  sse::hub<recording_transport> hub{t, test::without_position({.flush_share = share})};
  sse::channel c = hub.open_channel("c", {.max_lag = 0, .heartbeat = no_heartbeat()});
  REQUIRE(c);
  for (int i = 0; i < 3; ++i) REQUIRE(hub.accept({i}, {}, sse::admit().join(c)));
  const std::string data(1000, 'x');
  for (int i = 0; i < 1000; ++i) REQUIRE(c.publish({.data = data}));
  while (hub.flush()) {
  }
  // No one got more than its share and the segment begun at its end while others waited.
  std::size_t run = 0;
  std::size_t longest = 0;
  std::map<int, std::size_t> total;
  for (std::size_t i = 0; i < t.calls.size(); ++i) {
    run = i != 0 && t.calls[i].number == t.calls[i - 1].number ? run + t.calls[i].bytes
                                                               : t.calls[i].bytes;
    total[t.calls[i].number] += t.calls[i].bytes;
    bool others_wait = false;
    for (int k = 0; k < 3; ++k)
      others_wait = others_wait || (k != t.calls[i].number && total[k] < 900'000);
    if (others_wait && run > longest) longest = run;
  }
  CHECK(longest <= share + 65536);
  CHECK(longest >= share);
  CHECK(total[0] == total[1]);
  CHECK(total[1] == total[2]);
  CHECK(total[0] > 1'000'000);
}

TEST_CASE("X-01 those that catch up get the flush's budget, in turn, and the rest in the next",
          "[flow]") {
  stage s{{.flush_share = 100, .flush_budget = 250}};
  sse::channel c = s.open("c", quiet());
  std::vector<test::caller> all;
  for (int i = 0; i < 5; ++i) all.push_back(s.join(c, {.window = 0, .max_write = 100}));
  s.put_many(c, 50);
  s.flush();
  const auto got = [&] {
    std::vector<std::size_t> n;
    for (const test::caller& k : all) n.push_back(s.peer(k).received.size());
    return n;
  };
  for (const test::caller& k : all) {
    s.peer(k).window = SIZE_MAX;
    s.hub.writable(k.id);
  }
  CHECK(s.hub.flush());
  CHECK(got() == std::vector<std::size_t>{100, 100, 100, 0, 0});
  CHECK(s.hub.flush());
  CHECK(got() == std::vector<std::size_t>{200, 100, 100, 100, 100});
  s.flush();
  for (const test::caller& k : all) CHECK(s.take(k) == frames(1, 50));
}

TEST_CASE("X-01 streams that open between two flushes share a budget too", "[flow]") {
  for (const bool limited : {true, false}) {
    CAPTURE(limited);
    stage s{{.flush_share = 100, .flush_budget = limited ? 250U : 0U}};
    sse::channel c = s.open("c", quiet());
    s.put_many(c, 50);
    for (int turn = 0; turn < 2; ++turn) {
      std::vector<test::caller> all;
      for (std::size_t i = 0; i < 5; ++i) {
        all.push_back(s.join(c, {.last_event_id = "0", .max_write = 100}));
        CHECK(s.peer(all[i]).received.size() == (i < 3 || !limited ? 100U : 0U));
      }
      s.flush();
      for (const test::caller& k : all) CHECK(s.take(k) == frames(1, 50));
    }
  }
}

TEST_CASE("a flush says that there is more if a hook published when it closed a stream", "[flow]") {
  sse::channel c;
  stage s;
  c = s.open("c", quiet());
  s.hub.on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason) { s.put(c); });
  const auto gone = s.join(c);
  const auto stays = s.join(c);
  s.peer(gone).fails = true;
  s.put(c);
  CHECK(s.hub.flush());
  CHECK_FALSE(s.hub.flush());
  CHECK(s.take(stays) == frames(1, 2));
}

TEST_CASE("any_transport: each connection brings its own write and close", "[flow]") {
  struct story {
    std::string text;
    sse::session_id id{};
  };
  class told_connection final : public sse::any_connection {
   public:
    explicit told_connection(story& told) noexcept : told_{&told} {}
    ~told_connection() override { told_->text += "freed"; }
    void opened(sse::session_id id) noexcept override { told_->id = id; }
    sse::write_result write(std::span<const sse::buffer> bytes) noexcept override {
      std::size_t n = 0;
      for (const sse::buffer& b : bytes) {
        told_->text += b.view();
        n += b.size;
      }
      return {n, sse::flow::ready};
    }
    void close(sse::close_reason why) noexcept override {
      told_->text += std::string{to_string(why)} + " ";
    }

   private:
    story* told_;
  };
  story one;
  story two;  // is told until the hub is gone
  sse::any_transport net;
  sse::hub<sse::any_transport> hub{net, test::without_position()};
  sse::channel c = hub.open_channel("c", quiet());
  REQUIRE(c);
  const auto open = [&](story& told) {
    return hub
        .accept(sse::any_transport::connection{new told_connection{told}}, {}, sse::admit().join(c))
        .id;
  };
  CHECK(open(one) == one.id);
  CHECK(open(two) == two.id);
  REQUIRE(c.publish({.data = "x"}));
  CHECK_FALSE(hub.flush());
  hub.finish(one.id);
  CHECK_FALSE(hub.flush());
  CHECK(one.text == frame(1, "", "x") + "finished freed");
  CHECK(two.text == frame(1, "", "x"));
}

TEST_CASE("the smallest shares still get everything through", "[flow]") {
  for (const std::uint32_t share : {0U, 1U, 10U}) {
    CAPTURE(share);
    stage s{{.control_lane = share, .flush_share = share}};
    sse::channel_options o = quiet();
    o.heartbeat = {.every = sse::duration::seconds(1)};
    sse::channel c = s.open("c", std::move(o));
    const auto k = s.join(c, {.preamble = "HEAD"});
    const auto chunked = s.join(c, {.preamble = "HEAD", .chunked = true});
    s.put_many(c, 3);
    s.flush();
    CHECK(s.take(k) == "HEAD" + frames(1, 3));
    CHECK(s.hub.send(k.id, {.data = "w"}) == publish_error::none);
    s.flush();
    CHECK(s.take(k) == frame(0, "", "w"));
    bool whole = false;
    CHECK(dechunk(s.take(chunked).substr(4), whole) == frames(1, 3));
    s.at(1000);
    CHECK(s.take(k) == ": keep-alive\n\n");
  }
}

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

// --- chunked ---

TEST_CASE("X-23 chunked framing is an option of the request, and an HTTP 1.0 client never gets it",
          "[flow][chunked]") {
  stage s{{.opening = "hi"}};
  sse::channel c = s.open("c", quiet());
  const auto chunked = s.join(c, {.preamble = "HEAD\r\n\r\n", .chunked = true});
  const auto plain = s.join(c, {.preamble = "HEAD\r\n\r\n"});
  const auto old = s.join(c, {.preamble = "HEAD\r\n\r\n", .chunked = true, .minor_version = 0});
  CHECK(s.take(chunked) == "HEAD\r\n\r\n6\r\n: hi\n\n");
  CHECK(s.take(plain) == "HEAD\r\n\r\n: hi\n\n");
  CHECK(s.take(old) == "HEAD\r\n\r\n: hi\n\n");
  s.put(c, "x");
  s.put(c, "y");
  s.flush();
  const std::string two = frame(1, "e", "x") + frame(2, "e", "y");
  CHECK(s.take(chunked) == "\r\n30\r\n" + two);  // one chunk for all that was pending
  CHECK(two.size() == 0x30);
  CHECK(s.take(plain) == two);
  CHECK(s.take(old) == two);
  for (const auto& k : {chunked, plain, old}) s.hub.finish(k.id);
  s.flush();
  CHECK(s.take(chunked) == "\r\n0\r\n\r\n");
  CHECK(s.take(plain).empty());  // close-delimited
  CHECK(s.closed(chunked));
  CHECK(s.closed(plain));
}

TEST_CASE("X-23 a chunked stream that ends before its first byte is an empty body",
          "[flow][chunked]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c, {.chunked = true});
  s.hub.finish(k.id);
  s.flush();
  CHECK(s.take(k) == "0\r\n\r\n");
  CHECK(s.closed(k));
}

template <class Stage>
void chunked_at_every_cut() {
  // Two segments, an event that is larger than what was announced, control frames between.
  const std::string large(3000, 'x');
  std::string expect;
  bool right = true;
  for (std::size_t cut = 0; cut < 120; ++cut) {
    Stage s;
    sse::channel c = s.open("c", quiet());
    s.put_many(c, 3);
    expect = frames(1, 3);
    const auto k =
        s.join(c, {.last_event_id = "0", .preamble = "HEAD", .chunked = true, .window = cut});
    expect += frame(s.put(c, large), "e", large);
    expect += frame(s.put(c, large), "e", large);
    right = right && s.hub.send(k.id, {.type = "w", .data = "psst"}) == publish_error::none;
    s.flush();
    for (std::size_t i = 0; i < 40; ++i) {
      s.let(k, 1 + i * cut % 90);
      if (i % 10 == 0) {
        const std::uint64_t id = s.put(c);
        expect += frames(id, id);
      }
    }
    s.let(k);
    s.hub.finish(k.id);
    s.flush();
    std::string got = s.take(k);
    right = right && s.closed(k) && got.starts_with("HEAD");
    bool whole = false;
    std::string body = dechunk(std::string_view(got).substr(4), whole);
    const std::size_t at = body.find(frame(0, "w", "psst"));
    right = right && whole && at != body.npos;
    if (at != body.npos) body.erase(at, frame(0, "w", "psst").size());
    right = right && body == expect;
    if constexpr (requires { s.net.too_many; }) right = right && !s.net.too_many;
  }
  CHECK(right);
}

TEST_CASE("X-23 chunks cut at any byte, over transports that take 16, 2 or 1 buffers",
          "[flow][chunked]") {
  SECTION("16") { chunked_at_every_cut<stage>(); }
  SECTION("2") { chunked_at_every_cut<test::basic_stage<narrow_transport<2>>>(); }
  SECTION("1") { chunked_at_every_cut<test::basic_stage<narrow_transport<1>>>(); }
}

TEST_CASE("a transport with one buffer gets the same bytes", "[flow]") {
  test::basic_stage<narrow_transport<1>> s{{.opening = "hi"}};
  sse::channel c = s.open("c", quiet());
  s.put_many(c, 3);
  const auto k = s.join(c, {.last_event_id = "0", .preamble = "HEAD"});
  REQUIRE(s.hub.send(k.id, {.data = "w"}) == publish_error::none);
  s.put(c);
  s.flush();
  CHECK(s.take(k) == "HEAD: hi\n\n" + frames(1, 3) + frame(0, "", "w") + frames(4, 4));
  CHECK_FALSE(s.net.too_many);
}

// --- head ---

TEST_CASE("X-22 head, retry and an opening comment go out at once, before any event", "[flow]") {
  stage s{{.retry = sse::duration::milliseconds(2500), .opening = "welcome\nto the stream"}};
  sse::channel c = s.open("c", quiet());
  s.put(c);
  const std::string start = "HEAD\r\n\r\nretry: 2500\n\n: welcome\n: to the stream\n\n";
  CHECK(s.take(s.join(c, {.preamble = "HEAD\r\n\r\n"})) == start);
  CHECK(s.take(s.join(c, {.last_event_id = "0", .preamble = "HEAD\r\n\r\n"})) ==
        start + frames(1, 1));
  CHECK(s.take(s.join(c, {.last_event_id = "9", .preamble = "HEAD\r\n\r\n"})) ==
        start + test::gap_frame(1, 9, 2, -1));
  stage bare;
  CHECK(bare.take(bare.join(bare.open("c"))).empty());  // nothing that was not asked for
}

// --- several channels ---

TEST_CASE(
    "events of several channels leave in the order of publication, with transient ones in their "
    "place",
    "[flow]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  sse::channel other = s.open("other", quiet());
  const auto k = s.join({.window = 55}, {b, a});
  std::string expect;
  std::uint64_t n = 0;
  for (int i = 0; i < 300; ++i) {
    sse::channel c = i * 7 % 5 < 2 ? a : b;
    if (i % 4 == 3) {
      const std::string data = "t" + std::to_string(i);
      REQUIRE(c.publish({.data = data}, {.transient = true}));
      expect += frame(0, "", data);
    } else {
      expect += frame(s.put(c), "e", std::to_string(++n));
    }
    if (i % 6 == 0) {
      s.put(other);
      ++n;
    }
    if (i % 10 == 0) s.let(k, static_cast<std::size_t>(i));
  }
  s.let(k);
  CHECK(s.take(k) == expect);
}

TEST_CASE("N-40 a channel's events stay on it", "[flow]") {
  stage s;
  sse::channel chat = s.open("chat", quiet());
  sse::channel notes = s.open("notes", quiet());
  sse::channel status = s.open("status", quiet());
  const auto a = s.join(chat);
  const auto b = s.join(notes);
  const auto both = s.join({}, {notes, status});
  s.put(chat, "chat");
  s.put(status, "status");
  s.flush();
  CHECK(s.take(a) == frame(1, "e", "chat"));
  CHECK(s.peer(b).writes == 0);
  CHECK(s.take(both) == frame(2, "e", "status"));
  CHECK(s.hub.publish_all({.type = "all", .data = "x"}) == 3);
  s.flush();
  CHECK(s.take(a) == frame(3, "all", "x"));
  CHECK(s.take(b) == frame(4, "all", "x"));
  CHECK(s.take(both) == frame(4, "all", "x") + frame(5, "all", "x"));
}

TEST_CASE("channels: names, closing one, and those that stay", "[flow]") {
  stage s;
  sse::channel_options o = quiet();
  o.heartbeat = {.mode = sse::heartbeat_options::pace::fixed,
                 .every = sse::duration::seconds(10),
                 .text = "beat"};
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  sse::channel c = s.open("c", std::move(o));
  CHECK(!s.hub.open_channel("b"));
  CHECK(s.hub.find_channel("b") == b);
  CHECK(!s.hub.find_channel("d"));
  const auto ka = s.join(a);
  const auto kc = s.join(c);
  const auto kab = s.join({}, {a, b});
  REQUIRE(b.publish({.data = "t"}, {.transient = true}));
  s.put(a);
  s.hub.close_channel(a);
  CHECK(s.closed(ka));
  CHECK(s.closed(kab));
  CHECK(s.peer(kab).why == sse::close_reason::channel);
  CHECK_FALSE(s.closed(kc));
  CHECK(!s.hub.find_channel("a"));
  s.at(10'000);
  CHECK(s.take(kc) == ": beat\n\n");
  s.put(c);
  s.put(b);
  s.flush();
  CHECK(s.take(kc) == frames(2, 2));
  CHECK(b.subscribers() == 0);
  CHECK(c.subscribers() == 1);
  std::string names;
  s.hub.for_each_channel([&](sse::channel x) { names += x.name(); });
  CHECK(names.size() == 2);
  s.hub.close_channel(b);
  s.at(20'000);
  CHECK(s.take(kc) == ": beat\n\n");
  s.hub.close_channel(c);
  CHECK(s.hub.sessions() == 0);
  CHECK(s.hub.next_deadline() == sse::time_point::never());
  CHECK(s.open("a").subscribers() == 0);
}

// --- for one alone ---

TEST_CASE(
    "N-41 a user's event goes to all tabs of that user and writes nothing to anybody else: X-09",
    "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto a1 = s.join(c, {.key = "a"});
  const auto a2 = s.join(c, {.key = "a"});
  const auto b1 = s.join(c, {.key = "b"});
  const auto b2 = s.join(c, {.key = "b"});
  const auto nobody = s.join(c);
  s.put(c, "for b", "b");
  s.flush();
  CHECK(s.take(b1) == frame(1, "e", "for b"));
  CHECK(s.take(b2) == frame(1, "e", "for b"));
  CHECK(s.hub.send_user("b", {.type = "u", .data = "also for b"}) == 2);
  CHECK(s.hub.send_user("nobody", {.data = "x"}) == 0);
  REQUIRE(c.publish({.data = "t"}, {.audience = "b", .transient = true}));
  s.flush();
  CHECK(s.take(b1) == frame(0, "u", "also for b") + frame(0, "", "t"));
  CHECK(s.take(b2) == frame(0, "u", "also for b") + frame(0, "", "t"));
  for (const auto& k : {a1, a2, nobody}) {
    CHECK(s.peer(k).writes == 0);  // no bytes, not even a call
    CHECK(s.take(k).empty());
  }
  s.put(c, "all");
  s.flush();
  CHECK(s.take(a1) == frame(2, "e", "all"));
  CHECK(s.take(b1) == frame(2, "e", "all"));
  CHECK(s.take(nobody) == frame(2, "e", "all"));
}

TEST_CASE("X-09 a hook of the host decides who sees an audience, live and after a stall",
          "[flow]") {
  struct member {
    std::string rooms;
  };
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport, member> hub{net, test::without_position()};
  hub.on_sees([](const member& m, std::string_view, std::string_view audience) {
    return m.rooms.find(audience) != m.rooms.npos;
  });
  sse::channel c = hub.open_channel("chat", quiet());
  REQUIRE(c);
  const auto open = [&](std::string rooms, std::size_t window) {
    const std::size_t i = net.connect();
    net.at(i).window = window;
    REQUIRE(hub.accept({i}, {}, sse::admit(member{std::move(rooms)}, "").join(c)));
    return i;
  };
  const auto general = open("general", SIZE_MAX);
  const auto both = open("general secret", 11);
  const auto none = open("", 0);
  std::string all, some;
  for (int i = 0; i < 200; ++i) {
    const std::string data = std::to_string(i);
    const bool secret = i % 3 == 0;
    const auto r =
        c.publish({.type = "m", .data = data}, {.audience = secret ? "secret" : "general"});
    REQUIRE(r);
    all += frame(r.id, "m", data);
    if (!secret) some += frame(r.id, "m", data);
    if (i % 7 == 0) {
      net.at(both).window = 25;
      hub.writable(net.at(both).session);
      hub.flush();
    }
  }
  net.at(both).window = SIZE_MAX;
  hub.writable(net.at(both).session);
  hub.flush();
  CHECK(net.at(general).received == some);
  CHECK(net.at(both).received == all);
  CHECK(net.at(none).writes == 0);
  CHECK(hub.user(net.at(general).session)->rooms == "general");
}

TEST_CASE("X-09 an audience holds over every cut of a write", "[flow]") {
  const std::string all =
      frames(1, 1) + frame(3, "e", "mine") + frames(4, 5) + frame(8, "e", "mine");
  bool right = true;
  for (std::size_t cut = 0; cut <= all.size(); ++cut) {
    stage s;
    sse::channel c = s.open("c", quiet());
    const auto k = s.join(c, {.key = "me", .window = cut});
    s.put(c);
    s.put(c, "theirs", "you");
    s.put(c, "mine", "me");
    s.flush();
    s.put(c);
    s.put(c);
    s.put(c, "theirs", "you");
    s.put(c, "theirs", "you");
    s.put(c, "mine", "me");
    s.put(c, "theirs", "you");
    s.flush();
    for (int i = 0; i < 10; ++i) s.let(k, 3);
    s.let(k);
    right = right && s.take(k) == all && c.stats().delivered == 5;
    right = right && s.hub.worst_lag(c) == 0;
  }
  CHECK(right);
}

TEST_CASE("an audience may have 65535 bytes and not one more", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const std::string longest(65'535, 'u');
  const auto k = s.join(c, {.key = longest});
  CHECK(c.publish({.data = "1"}, {.audience = std::string_view(longest).substr(1)}));
  CHECK(c.publish({.data = "2"}, {.audience = longest}));
  CHECK(c.publish({.data = "3"}, {.audience = longest + "u"}).error == publish_error::too_large);
  s.flush();
  CHECK(s.take(k) == frame(2, "", "2"));
}

TEST_CASE("unicast: what is refused, and that it never carries an id", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c);
  CHECK(s.hub.send(k.id, {.type = "a\nb", .data = "x"}) == publish_error::bad_type);
  CHECK(s.hub.send(k.id, {.data = "x", .id = "7"}) == publish_error::bad_id);
  CHECK(s.hub.send(k.id, {.data = "x", .retry = -2}) == publish_error::bad_retry);
  const std::string data((1 << 20) - 8, 'x');  // "data: " and two line ends beside it
  CHECK(s.hub.send(k.id, {.data = data + "x"}) == publish_error::too_large);
  CHECK(s.hub.send(k.id, {.data = data}) ==
        publish_error::none);  // larger than the lane: one always fits
  s.flush();
  CHECK((s.take(k) == frame(0, "", data)));
  CHECK(s.hub.send(k.id, {.type = "t", .data = "x", .retry = 5}) == publish_error::none);
  s.flush();
  CHECK(s.take(k) == "event: t\nretry: 5\ndata: x\n\n");
}

TEST_CASE(
    "X-01 X-02 the control lane is bounded: limit - 1, limit, limit + 1, and says so when it is "
    "full",
    "[flow]") {
  const std::string one = frame(0, "", "1234567890");
  for (const std::size_t limit : {5 * one.size() - 1, 5 * one.size(), 5 * one.size() + 1}) {
    CAPTURE(limit);
    stage s{{.control_lane = static_cast<std::uint32_t>(limit)}};
    sse::channel c = s.open("c", quiet());
    const auto k = s.join(c, {.window = 0});
    const std::size_t fit = limit / one.size();
    for (std::size_t i = 0; i < fit; ++i)
      REQUIRE(s.hub.send(k.id, {.data = "1234567890"}) == publish_error::none);
    CHECK(s.hub.send(k.id, {.data = "1234567890"}) == publish_error::full);
    CHECK(s.hub.send(k.id, {.data = std::string(10'000, 'x')}) == publish_error::full);
    s.let(k, one.size());  // one leaves, one fits
    CHECK(s.hub.send(k.id, {.data = "1234567890"}) == publish_error::none);
    CHECK(s.hub.send(k.id, {.data = "1234567890"}) == publish_error::full);
    s.put(c);
    s.let(k);
    std::string expect;
    for (std::size_t i = 0; i < fit + 1; ++i) expect += one;
    CHECK(s.take(k) == expect + frames(1, 1));
  }
}

TEST_CASE("X-01 a full control lane of the smallest events costs each of them the same", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c, {.window = 0});
  std::size_t sent = 0;
  while (s.hub.send(k.id, {.data = ""}) == publish_error::none)
    ++sent;  // a walk over the lane would take half a minute here
  CHECK(sent == (256U << 10) / frame(0, "", "").size());
  s.put(c);
  s.let(k, 20 * frame(0, "", "").size() + 3);
  for (int i = 0; i < 20; ++i) CHECK(s.hub.send(k.id, {.data = ""}) == publish_error::none);
  CHECK(s.hub.send(k.id, {.data = ""}) == publish_error::full);
  s.let(k);
  const std::string got = s.take(k);
  CHECK(test::count(got, "data: \n\n") == sent + 20);
  CHECK(got.ends_with(frames(1, 1)));
}

// --- encoding ---

TEST_CASE("X-13 an event is encoded once: 1000 subscribers are given the same bytes", "[flow]") {
  completion_stage s;
  sse::channel c = s.open("c", quiet());
  std::vector<test::caller> all;
  for (int i = 0; i < 1000; ++i) all.push_back(s.join(c));
  const std::uint64_t held = s.hub.stats().log_bytes;
  s.put(c, "once");
  s.put(c, "and for all");
  s.flush();
  const sse::buffer first = s.peer(all[0]).in_flight.at(0);
  CHECK(first.view() == frame(1, "e", "once") + frame(2, "e", "and for all"));
  std::size_t same = 0;
  for (const auto& k : all) {
    const auto& b = s.peer(k).in_flight;
    same += b.size() == 1 && b[0].data == first.data && b[0].size == first.size;
  }
  CHECK(same == 1000);
  CHECK(s.hub.stats().log_bytes == held);
}

TEST_CASE("X-07 field text that could forge a field is refused, publishes nothing and uses no id",
          "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c);
  for (const std::string_view bad :
       {std::string_view("a\nb"), std::string_view("a\rb"), std::string_view("a\0b", 3),
        std::string_view("\n"), std::string_view("a\r\n\r\ndata: forged")}) {
    CHECK(c.publish({.type = bad, .data = "x"}).error == publish_error::bad_type);
    CHECK(c.publish({.type = bad, .data = "x"}, {.transient = true}).error ==
          publish_error::bad_type);
    CHECK(s.hub.send(k.id, {.type = bad, .data = "x"}) == publish_error::bad_type);
    CHECK(c.publish({.data = "x", .id = bad}).error == publish_error::bad_id);
  }
  CHECK(c.publish({.data = "x", .id = "5"}).error ==
        publish_error::bad_id);  // ids come from the sequence
  CHECK(c.publish({.data = "x"}, {.id = 5}).error == publish_error::bad_id);
  CHECK(c.publish({.data = "x"}, {.id = 5, .transient = true}).error == publish_error::bad_id);
  CHECK(c.publish({.data = "x", .retry = -2}).error == publish_error::bad_retry);
  s.flush();
  CHECK(s.peer(k).writes == 0);
  CHECK(c.stats().published == 0);
  // Data and comments are split instead: no line of them can begin a field.
  CHECK(c.publish({.data = "x\nid: 99\r\nevent: forged\revent: forged"}).id == 1);
  s.flush();
  CHECK(s.take(k) == "id: 1\ndata: x\ndata: id: 99\ndata: event: forged\ndata: event: forged\n\n");
}

TEST_CASE("an event may be 1 MiB encoded and its type 128 bytes, and not one more", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c);
  const std::size_t frame_bytes = frame(1, "", "").size();
  const std::string data((1 << 20) - frame_bytes, 'x');
  CHECK(c.publish({.data = data + "x"}).error == publish_error::too_large);
  CHECK(c.publish({.data = data}));
  CHECK(c.publish({.data = std::string_view(data).substr(1)}));
  const std::string type(128, 't');
  CHECK(c.publish({.type = std::string_view(type).substr(1), .data = "x"}));
  CHECK(c.publish({.type = type, .data = "x"}));
  CHECK(c.publish({.type = type + "t", .data = "x"}).error == publish_error::too_large);
  s.flush();
  CHECK(test::consecutive(test::ids_in(s.take(k)), 1, 4));
  sse::channel_options o = quiet();
  o.limits.event = 20;
  sse::channel small = s.open("small", std::move(o));
  CHECK(small.publish({.data = "123456"}));  // "id: 5\ndata: 123456\n\n"
  CHECK(small.publish({.data = "1234567"}).error == publish_error::too_large);
  CHECK(small.publish({.data = "12345"}));
}

TEST_CASE("an event that is encoded already goes out as it is", "[publish]") {
  test::stage s;
  sse::channel c = s.open("c", {.limits = {.event = 40}});
  const auto k = s.join(c);
  const auto publish = [&](const sse::event& e, sse::publish_options o) {
    o.encoded = true;
    return c.publish(e, o);
  };
  CHECK(publish({.data = "id: 1\nevent: t\ndata: x\n\n"}, {}).id == 1);
  CHECK(publish({.data = "data: transient\n\n"}, {.transient = true}).id == sse::no_id);
  CHECK(publish({.data = "data: hidden\n\n"}, {.audience = "ada"}).id == 2);
  CHECK(publish({.data = std::string(38, 'x') + "\n\n"}, {}).id == 3);
  s.flush();
  CHECK(s.take(k) ==
        "id: 1\nevent: t\ndata: x\n\ndata: transient\n\n" + std::string(38, 'x') + "\n\n");
  CHECK(publish({.data = std::string(39, 'x') + "\n\n"}, {}).error ==
        sse::publish_error::too_large);
  for (const sse::event& bad : {sse::event{}, sse::event{.data = "data: x\n"},
                                sse::event{.type = "t", .data = "data: x\n\n"},
                                sse::event{.data = "data: x\n\n", .retry = 1}}) {
    CHECK(publish(bad, {}).error == sse::publish_error::bad_type);
  }
  CHECK(c.last_id() == 3);
}

TEST_CASE("a large event passes a small window whole, and others are not kept waiting", "[flow]") {
  stage s;
  sse::channel c = s.open("c", {.max_lag = 4 << 20, .heartbeat = no_heartbeat()});
  const auto slow = s.join(c, {.window = 1000});
  const auto fast = s.join(c);
  const std::string data(1'000'000, 'x');
  s.put(c, data);
  s.put(c, "after");
  s.flush();
  CHECK((s.take(fast) == frame(1, "e", data) + frame(2, "e", "after")));
  for (int i = 0; i < 1100; ++i) s.let(slow, 1000);
  CHECK((s.take(slow) == frame(1, "e", data) + frame(2, "e", "after")));
}
