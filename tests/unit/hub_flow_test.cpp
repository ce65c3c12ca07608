// How bytes go out: readiness, shares and budgets, the head; one gather per session.
#include <cstddef>
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
using test::dechunk;
using test::frame;
using test::frames;
using test::quiet;
using test::stage;

sse::heartbeat_options no_heartbeat() { return {.mode = sse::heartbeat_options::pace::off}; }

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
