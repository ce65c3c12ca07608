// Where a subscriber begins: Last-Event-ID in header and query, what is retained and what is not,
// backfill, restarts.
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/mailbox.hpp>
#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using test::frame;
using test::frames;
using test::gap_frame;
using test::stage;

/// ids 1, 2, 3, ... of its own: what the gateway's contract asks for.
sse::channel_options consecutive_ids(std::uint64_t keep = 1000) {
  return {
      .keep = keep, .own_sequence = true, .heartbeat = {.mode = sse::heartbeat_options::pace::off}};
}

}  // namespace

TEST_CASE(
    "V-05 ids are decimal, rise by one over all types, and are the same for all clients: V-06",
    "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids());
  const auto a = s.join(c);
  const auto b = s.join(c);
  std::string expect;
  for (std::uint64_t i = 1; i <= 100; ++i) {
    const std::string type = i % 3 == 0 ? "market" : i % 3 == 1 ? "fill" : "";
    const auto r = c.publish({.type = type, .data = "x"});
    REQUIRE(r);
    REQUIRE(r.id == i);
    expect += frame(i, type, "x");
  }
  s.flush();
  CHECK(s.take(a) == expect);
  CHECK(s.take(b) == expect);
  CHECK(c.last_id() == 100);
}

TEST_CASE("V-05 transient, refused and unicast events use up no id", "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids());
  const auto k = s.join(c);
  CHECK(s.put(c) == 1);
  CHECK(c.publish({.type = "t", .data = "transient"}, {.transient = true}).id == sse::no_id);
  CHECK_FALSE(c.publish({.type = "bad\ntype", .data = "x"}));
  CHECK(s.hub.send(k.id, {.data = "unicast"}) == sse::publish_error::none);
  CHECK(s.put(c) == 2);
  s.flush();
  CHECK(test::consecutive(test::ids_in(s.take(k)), 1, 2));
}

TEST_CASE("V-21 V-23 resume after an id gives what came after it, exclusive, then live",
          "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids());
  s.put_many(c, 200);
  const auto k = s.join(c, {.query = "last_id=123"});
  REQUIRE(k);
  CHECK(s.take(k) == frames(124, 200));
  s.put_many(c, 3);
  s.flush();
  CHECK(s.take(k) == frames(201, 203));
  CHECK(c.stats().replays == 1);
  CHECK(c.stats().gaps == 0);
}

TEST_CASE("V-22 resume at the head replays nothing and goes on live", "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids());
  s.put_many(c, 200);
  const auto k = s.join(c, {.query = "last_id=200"});
  CHECK(s.take(k).empty());
  s.put(c);
  s.flush();
  CHECK(s.take(k) == frames(201, 201));
  const auto before = s.join(c, {.query = "last_id=200"});  // head - 1
  CHECK(s.take(before) == frames(201, 201));
}

TEST_CASE("V-25 the header Last-Event-ID beats the query of the old URL", "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids());
  s.put_many(c, 200);
  CHECK(s.take(s.join(c, {.query = "last_id=123", .last_event_id = "150"})) == frames(151, 200));
  CHECK(s.take(s.join(c, {.query = "last_id=150", .last_event_id = "123"})) == frames(124, 200));
  // Also over a query that could not be read.
  CHECK(s.take(s.join(c, {.query = "last_id=abc", .last_event_id = "199"})) == frames(200, 200));
}

TEST_CASE("V-26 the header alone is the same as the query alone", "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids());
  s.put_many(c, 200);
  CHECK(s.take(s.join(c, {.last_event_id = "150"})) == frames(151, 200));
  CHECK(s.take(s.join(c, {.query = "last_id=150"})) == frames(151, 200));
  CHECK(s.take(s.join(c, {.query = "a=1&last_id=150&b=2"})) == frames(151, 200));
}

TEST_CASE("resume: absent is live only, 0 is all that is retained without a gap", "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids(20));
  s.put_many(c, 30);
  const auto live = s.join(c);
  CHECK(s.take(live).empty());
  CHECK(s.take(s.join(c, {.query = "last_id=0"})) == frames(11, 30));
  CHECK(s.take(s.join(c, {.last_event_id = "0"})) == frames(11, 30));
  CHECK(c.stats().gaps == 0);
  s.put(c);
  s.flush();
  CHECK(s.take(live) == frames(31, 31));
}

TEST_CASE("resume: an empty channel, with every id", "[resume]") {
  for (const char* id : {"", "0", "1"}) {
    CAPTURE(id);
    stage s;
    sse::channel c = s.open("c", consecutive_ids());
    const auto k = s.join(c, {.last_event_id = id});
    CHECK(s.take(k) == (std::string(id) == "1" ? gap_frame(0, 1, 1, -1) : ""));
    s.put(c);
    s.flush();
    CHECK(s.take(k) == frames(1, 1));
  }
}

TEST_CASE("V-27 V-28 an id older than retention gets one gap frame, then the oldest retained event",
          "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids(10));
  std::vector<sse::gap_notice> log;
  s.hub.on_gap([&](const sse::gap_notice& g) { log.push_back(g); });
  s.put_many(c, 20);  // retained: 11..20

  CHECK(s.take(s.join(c, {.query = "last_id=11"})) == frames(12, 20));
  CHECK(s.take(s.join(c, {.query = "last_id=10"})) == frames(11, 20));
  CHECK(log.empty());
  const auto k = s.join(c, {.query = "last_id=9"});
  CHECK(s.take(k) == gap_frame(10, 9, 11, 1) + frames(11, 20));
  CHECK(s.take(s.join(c, {.query = "last_id=1"})) == gap_frame(10, 1, 11, 9) + frames(11, 20));

  REQUIRE(log.size() == 2);  // the host's log can mention it
  CHECK(log[0].session == k.id);
  CHECK(log[0].where == c);
  CHECK(log[0].requested == 9);
  CHECK(log[0].first == 11);
  CHECK(log[0].lost == 1);
  CHECK(log[0].lost_known);
  CHECK(c.stats().gaps == 2);
  s.put(c);
  s.flush();
  CHECK(s.take(k) == frames(21, 21));
}

TEST_CASE("V-27 a channel that keeps nothing: the gap leads to the next event", "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids(0));
  s.put_many(c, 5);
  CHECK(s.take(s.join(c, {.query = "last_id=5"})).empty());
  const auto k = s.join(c, {.query = "last_id=3"});
  CHECK(s.take(k) == gap_frame(5, 3, 6, 2));
  s.put(c);
  s.flush();
  CHECK(s.take(k) == frames(6, 6));
}

TEST_CASE("V-27 retention by bytes and by age make gaps as retention by events does", "[resume]") {
  stage s;
  sse::channel_options o = consecutive_ids();
  o.keep_bytes = 3 * frame(1, "e", "1").size();
  sse::channel bytes = s.open("bytes", std::move(o));
  s.put_many(bytes, 9);
  CHECK(s.take(s.join(bytes, {.query = "last_id=6"})) == frames(7, 9));
  CHECK(s.take(s.join(bytes, {.query = "last_id=5"})) == gap_frame(6, 5, 7, 1) + frames(7, 9));

  o = consecutive_ids();
  o.keep_age = sse::duration::milliseconds(1000);
  sse::channel age = s.open("age", std::move(o));
  s.at(0);
  s.put(age);
  s.at(1);
  s.put(age);
  s.at(999);
  CHECK(s.take(s.join(age, {.query = "last_id=0"})) == frames(1, 2));
  s.at(1000);
  CHECK(s.take(s.join(age, {.query = "last_id=0"})) == frames(2, 2));
  CHECK(age.stats().retained_events == 1);
  s.at(1001);  // the timer lets it go, nobody has to publish
  CHECK(age.stats().retained_events == 0);
  CHECK(s.take(s.join(age, {.query = "last_id=1"})) == gap_frame(2, 1, 3, 1));
}

TEST_CASE("V-27 a loss that cannot be counted says null", "[resume]") {
  stage s;
  // Ids are shared with another channel, so their distance counts nothing.
  sse::channel a = s.open("a", {.keep = 2});
  sse::channel b = s.open("b", {.keep = 2});
  for (int i = 0; i < 4; ++i) {  // a: 1 3 5 7
    s.put(a);
    s.put(b);
  }
  CHECK(s.take(s.join(a, {.query = "last_id=3"})) == frame(5, "e", "5") + frame(7, "e", "7"));
  CHECK(s.take(s.join(a, {.query = "last_id=2"})) ==
        gap_frame(4, 2, 5, -1) + frame(5, "e", "5") + frame(7, "e", "7"));
  // Not everybody may see all.
  sse::channel own = s.open("own", consecutive_ids(2));
  s.put(own);
  s.put(own, "secret", "somebody");
  s.put(own);
  s.put(own);
  CHECK(s.take(s.join(own, {.query = "last_id=1"})) == gap_frame(2, 1, 3, -1) + frames(3, 4));
}

TEST_CASE("X-04 an id ahead of the head gets a gap frame, then live", "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids());
  s.put_many(c, 10);
  const auto k = s.join(c, {.query = "last_id=99999"});
  CHECK(s.take(k) == gap_frame(10, 99999, 11, -1));
  s.put(c);
  s.flush();
  CHECK(s.take(k) == frames(11, 11));
  CHECK(s.take(s.join(c, {.query = "last_id=12"})) == gap_frame(11, 12, 12, -1));  // head + 1
  CHECK(s.take(s.join(c, {.query = "last_id=11"})).empty());
}

TEST_CASE(
    "X-04 an id ahead of the head on several channels is told once, also if the first has no ids",
    "[resume]") {
  stage s;
  sse::channel plain = s.open("plain", {.ids = sse::id_mode::none});
  sse::channel a = s.open("a");
  sse::channel b = s.open("b");
  s.put(a);
  s.put(b);
  CHECK(s.take(s.join({.query = "last_id=50"}, {a, b})) == gap_frame(2, 50, 3, -1));
  CHECK(s.take(s.join({.query = "last_id=50"}, {plain, a, b})) == gap_frame(2, 50, 3, -1));
  CHECK(s.take(s.join({.query = "last_id=50"}, {plain})).empty());
}

TEST_CASE("X-05 ids do not go back over a restart, and an id of the run before is a gap",
          "[resume]") {
  std::uint64_t last = 0;
  {
    stage s{{.first_id = 1'700'000'000'000'000}};
    sse::channel c = s.open("c");
    s.put_many(c, 50);
    last = c.last_id();
    CHECK(last == 1'700'000'000'000'050);
  }
  stage s{{.first_id = 1'700'000'001'000'000}};  // the wall clock went on by a second
  sse::channel c = s.open("c");
  sse::channel own = s.open("own", consecutive_ids());
  sse::channel_options o = consecutive_ids();
  o.first_id = 7000;
  sse::channel given = s.open("given", std::move(o));
  const auto k = s.join(c, {.last_event_id = std::to_string(last)});
  CHECK(s.take(k) == gap_frame(1'700'000'001'000'000, last, 1'700'000'001'000'001, -1));
  const std::uint64_t first = s.put(c);
  CHECK(first > last);
  s.flush();
  CHECK(s.take(k) == frames(first, first));
  CHECK(s.put(own) == 1'700'000'001'000'001);
  CHECK(s.put(given) == 7001);
  // The last id before this run is no gap: nothing came after it.
  CHECK(s.take(s.join(given, {.last_event_id = "7000"})) == frames(7001, 7001));
  CHECK(s.take(s.join(given, {.last_event_id = "6999"})) ==
        gap_frame(7000, 6999, 7001, -1) + frames(7001, 7001));
}

TEST_CASE("X-06 a malformed query is 400 and never a dump, a malformed header is ignored",
          "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids());
  s.put_many(c, 10);
  for (const char* bad : {"abc", "-1", "", "18446744073709551616", "1;2", "9007199254740992", "+1",
                          "%201", "1%00", "0x1", "1&last_id=2"}) {
    CAPTURE(bad);
    const auto k = s.join(c, {.query = std::string("last_id=") + bad});
    REQUIRE_FALSE(k);
    CHECK(k.refusal.status == 400);
    CHECK(k.refusal.body == R"({"error":"bad_params"})");
    CHECK(s.take(k).empty());
    CHECK_FALSE(s.closed(k));  // the connection is still the host's, to answer on
  }
  for (const char* bad : {"abc", "-1", " ", "18446744073709551616", "1;2", "9007199254740992"}) {
    CAPTURE(bad);
    const auto k = s.join(c, {.last_event_id = bad});
    REQUIRE(k);
    CHECK(s.take(k).empty());
  }
  CHECK(c.stats().replays == 0);
  CHECK(s.hub.sessions() == 6);
  // The largest id that is one: ahead of the head.
  CHECK(s.take(s.join(c, {.query = "last_id=9007199254740991"})) ==
        gap_frame(10, 9007199254740991, 11, -1));
  CHECK(s.take(s.join(c, {.query = "last_id=9007199254740990"})) ==
        gap_frame(10, 9007199254740990, 11, -1));
}

TEST_CASE("resume: the name of the query field is an option", "[resume]") {
  stage s{{.resume_query = "since"}};
  sse::channel c = s.open("c", consecutive_ids());
  s.put_many(c, 5);
  CHECK(s.take(s.join(c, {.query = "since=3"})) == frames(4, 5));
  CHECK(s.take(s.join(c, {.query = "last_id=3"})).empty());
  stage none{{.resume_query = ""}};
  sse::channel d = none.open("d", consecutive_ids());
  none.put_many(d, 5);
  CHECK(none.take(none.join(d, {.query = "last_id=abc"})).empty());
  CHECK(none.take(none.join(d, {.last_event_id = "4"})) == frames(5, 5));
}

TEST_CASE(
    "resume: where to begin without an id is the channel's choice, and the verdict's above it",
    "[resume]") {
  stage s;
  sse::channel_options o = consecutive_ids(5);
  o.start = sse::start_at::all;
  sse::channel c = s.open("c", std::move(o));
  s.put_many(c, 8);
  CHECK(s.take(s.join(c)) == frames(4, 8));
  CHECK(s.take(s.accept({}, sse::admit().join(c).start(sse::start_at::live))).empty());
  CHECK(s.take(s.accept({}, sse::admit().join(c).backlog(2))) == frames(7, 8));
  CHECK(s.take(s.accept({}, sse::admit().join(c).backlog(5))) == frames(4, 8));
  CHECK(s.take(s.accept({}, sse::admit().join(c).backlog(6))) == frames(4, 8));
  CHECK(s.take(s.accept({.last_event_id = "7"}, sse::admit().join(c).backlog(2))) ==
        frames(8, 8));  // an id wins
  CHECK(c.stats().gaps == 0);
}

TEST_CASE("resume: a channel without ids has nothing to resume", "[resume]") {
  stage s;
  sse::channel c = s.open("c", {.ids = sse::id_mode::none});
  CHECK(s.put(c, "a") == sse::no_id);
  const auto k = s.join(c, {.last_event_id = "5"});
  CHECK(s.take(k).empty());
  s.put(c, "b");
  s.flush();
  CHECK(s.take(k) == frame(0, "e", "b"));
  CHECK(s.take(s.accept({}, sse::admit().join(c).start(sse::start_at::all))) ==
        frame(0, "e", "a") + frame(0, "e", "b"));
}

TEST_CASE("resume: ids given by the publisher rise, and their holes are no gaps", "[resume]") {
  stage s;
  sse::channel c = s.open("c", {.keep = 3, .ids = sse::id_mode::given, .own_sequence = true});
  const auto put = [&](sse::event_id id) { return c.publish({.data = "x"}, {.id = id}); };
  CHECK(put(0).error == sse::publish_error::id_order);
  CHECK(put(10));
  CHECK(put(10).error == sse::publish_error::id_order);
  CHECK(put(9).error == sse::publish_error::id_order);
  CHECK(put(11));
  CHECK(put(500));
  CHECK(put(sse::max_event_id - 1));
  CHECK(put(sse::max_event_id));
  CHECK(put(sse::max_event_id + 1).error == sse::publish_error::id_order);
  CHECK(put(sse::max_event_id).error == sse::publish_error::id_order);
  CHECK(c.last_id() == sse::max_event_id);
  CHECK(c.stats().published == 5);
  const std::string tail =
      frame(sse::max_event_id - 1, "", "x") + frame(sse::max_event_id, "", "x");
  CHECK(s.take(s.join(c, {.last_event_id = "500"})) == tail);
  CHECK(s.take(s.join(c, {.last_event_id = "499"})) == frame(500, "", "x") + tail);
  CHECK(s.take(s.join(c, {.last_event_id = "11"})) == frame(500, "", "x") + tail);
  CHECK(s.take(s.join(c, {.last_event_id = "10"})) ==
        gap_frame(499, 10, 500, -1) + frame(500, "", "x") + tail);
  CHECK(s.put(s.open("other")) == 1);
}

TEST_CASE("resume: automatic ids stop at 2^53 - 1", "[resume]") {
  stage s{{.first_id = sse::max_event_id - 2}};
  sse::channel c = s.open("c");
  CHECK(s.put(c) == sse::max_event_id - 1);
  CHECK(s.put(c) == sse::max_event_id);
  CHECK(c.publish({.data = "x"}).error == sse::publish_error::id_order);
  CHECK(c.stats().published == 2);
}

TEST_CASE("resume: a replay shows nobody what is for others: V-29, N-41, X-09", "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids());
  s.put(c);
  s.put(c, "for ann", "ann");
  s.put(c);
  s.put(c, "for bob", "bob");
  s.put(c, "for ann again", "ann");
  CHECK(s.take(s.join(c, {.last_event_id = "0"})) == frames(1, 1) + frames(3, 3));
  CHECK(s.take(s.join(c, {.key = "ann", .last_event_id = "0"})) ==
        frames(1, 1) + frame(2, "e", "for ann") + frames(3, 3) + frame(5, "e", "for ann again"));
  CHECK(s.take(s.join(c, {.key = "bob", .last_event_id = "1"})) ==
        frames(3, 3) + frame(4, "e", "for bob"));
  CHECK(s.take(s.accept({.key = "bob"}, sse::admit("bob").join(c).backlog(2))) ==
        frame(4, "e", "for bob"));
}

TEST_CASE("V-24 a stream cut at any byte and resumed loses and repeats nothing", "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids());
  s.put_many(c, 30);
  const std::string all = frames(1, 30);
  bool right = true;
  for (std::size_t cut = 0; cut <= all.size(); ++cut) {
    const auto k = s.join(c, {.last_event_id = "0", .window = cut});
    s.hub.closed(k.id);
    std::string got = s.take(k);
    got.resize(got.rfind("\n\n") == got.npos
                   ? 0
                   : got.rfind("\n\n") + 2);  // a parser drops the half event
    const auto ids = test::ids_in(got);
    const auto again = s.join(c, {.last_event_id = std::to_string(ids.empty() ? 0 : ids.back())});
    right = right && got + s.take(again) == all;
    s.hub.closed(again.id);
  }
  CHECK(right);
  CHECK(s.hub.sessions() == 0);
}

TEST_CASE("X-03 replay and subscribe are one step, while events come between any two clients",
          "[resume]") {
  stage s;
  sse::channel c = s.open("c", consecutive_ids(300));
  std::vector<test::caller> clients;
  std::vector<std::uint64_t> from;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    s.put(c);
    if (i % 3 == 0) s.flush();
    const std::uint64_t back = i * 7 % 250;
    from.push_back(c.last_id() > back ? c.last_id() - back : 0);
    clients.push_back(
        s.join(c, {.last_event_id = std::to_string(from.back()), .window = i * 37 % 2000}));
    s.put(c);
    if (i % 5 == 0) s.let(clients[i / 2]);
  }
  for (const auto& k : clients) s.let(k);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    if (s.take(clients[i]) != frames(from[i] + 1, c.last_id())) ++wrong;
  }
  CHECK(wrong == 0);
  CHECK(c.stats().gaps == 0);
}

TEST_CASE("X-03 1000 clients resume while another thread publishes: no loss, no repeat, rising ids",
          "[resume]") {
  constexpr std::uint64_t total = 3000;
  stage s;
  sse::channel c = s.open("c", consecutive_ids(total));
  sse::mailbox box;
  std::atomic<bool> failed{false};
  std::thread engine{[&] {
    sse::publisher p = box.make_publisher(0);
    for (std::uint64_t i = 1; i <= total; ++i) {
      const std::string own = std::to_string(i);
      sse::publish_error r = sse::publish_error::full;
      while (r == sse::publish_error::full) {
        r = p.try_publish({.type = "e", .data = own}).error;
        if (r == sse::publish_error::full) std::this_thread::yield();
      }
      if (r != sse::publish_error::none) failed = true;
    }
  }};
  std::vector<test::caller> clients;
  std::vector<std::uint64_t> from;
  std::uint64_t turn = 0;
  while (c.last_id() < total || clients.size() < 1000) {
    // At most three at a time, so that clients come between them.
    box.drain(
        [&](const sse::mail& m) { (void)c.publish({.type = m.event.type, .data = m.event.data}); },
        3);
    if (clients.size() < 1000) {
      from.push_back(c.last_id() - (c.last_id() < 50 ? c.last_id() : turn % 50));
      clients.push_back(s.join(c, {.last_event_id = std::to_string(from.back())}));
    }
    if (++turn % 4 == 0) s.flush();
  }
  engine.join();
  s.flush();
  CHECK_FALSE(failed);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    if (!test::consecutive(test::ids_in(s.take(clients[i])), from[i] + 1, total)) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE(
    "resume on several channels of one sequence: ids rise, and one number says where it stands",
    "[resume]") {
  stage s;
  sse::channel a = s.open("a");
  sse::channel b = s.open("b");
  sse::channel other = s.open("other");
  std::string from4;
  for (int i = 0; i < 10; ++i) {
    const std::uint64_t x = s.put(a);
    const std::uint64_t y = s.put(b);
    s.put(other);
    if (x > 4) from4 += frames(x, x);
    if (y > 4) from4 += frames(y, y);
  }
  const auto k = s.join({.last_event_id = "4"}, {a, b});
  CHECK(s.take(k) == from4);
  CHECK(s.take(s.join({.last_event_id = "4"}, {b, a})) == from4);
  const std::uint64_t x = s.put(b);
  const std::uint64_t y = s.put(a);
  s.flush();
  CHECK(s.take(k) == frames(x, x) + frames(y, y));
}

TEST_CASE(
    "resume on several channels: each that lost something says so, and the id never runs back",
    "[resume]") {
  stage s;
  sse::channel a = s.open("a", {.keep = 2});
  sse::channel b = s.open("b", {.keep = 4});
  sse::channel whole = s.open("whole", {.keep = 1000});
  for (int i = 0; i < 5; ++i) {  // a: 1 4 7 10 13, b: 2 5 8 11 14, whole: 3 6 9 12 15
    s.put(a);
    s.put(b);
    s.put(whole);
  }
  // After 1: a lost 4 and 7, b lost 2; the first that can come is 3. Only the last frame moves the
  // id: who is cut between the two comes back with 1, and is told both again.
  CHECK(s.take(s.join({.last_event_id = "1"}, {a, b, whole})) ==
        "event: gap\ndata: {\"requested\":1,\"first\":10,\"lost\":null}\n\n" +
            gap_frame(2, 1, 5, -1) + frame(3, "e", "3") + frame(5, "e", "5") + frame(6, "e", "6") +
            frames(8, 15));
  // After 4: only a lost something.
  CHECK(s.take(s.join({.last_event_id = "4"}, {a, b, whole})) ==
        gap_frame(4, 4, 10, -1) + frame(5, "e", "5") + frame(6, "e", "6") + frames(8, 15));
}

// --- backfill ---

namespace {

/// An older store that has events below the log's, and remembers what it was asked.
struct store {
  std::uint64_t oldest = 1;
  std::uint64_t at_once = 1000;
  bool waits = false;
  bool says_done = true;
  std::vector<sse::backfill_request> asked{};

  sse::backfill_state give(const sse::backfill_request& r, sse::backfill_writer& out) {
    asked.push_back(r);
    if (waits) return sse::backfill_state::wait;
    if (r.after + 1 < oldest) return sse::backfill_state::lost;
    std::uint64_t n = 0;
    for (std::uint64_t id = r.after + 1; id < r.before; ++id) {
      if (n++ == at_once) return sse::backfill_state::more;
      const std::string own = std::to_string(id);
      if (!out.add(id, {.type = "e", .data = own})) return sse::backfill_state::lost;
    }
    return says_done ? sse::backfill_state::done : sse::backfill_state::more;
  }
};

sse::channel_options with_store(store& from, std::uint64_t keep) {
  sse::channel_options o = consecutive_ids(keep);
  o.backfill = [&from](const sse::backfill_request& r, sse::backfill_writer& out) {
    return from.give(r, out);
  };
  return o;
}

}  // namespace

TEST_CASE("backfill: what retention let go comes from the hook, then the log, without a seam",
          "[resume][backfill]") {
  store old;
  stage s;
  sse::channel c = s.open("c", with_store(old, 10));
  s.put_many(c, 50);
  const auto k = s.join(c, {.last_event_id = "20"});
  CHECK(s.take(k) == frames(21, 50));
  REQUIRE(old.asked.size() == 1);
  CHECK(old.asked[0].session == k.id);
  CHECK(old.asked[0].after == 20);
  CHECK(old.asked[0].before == 41);
  s.put(c);
  s.flush();
  CHECK(s.take(k) == frames(51, 51));
  CHECK(c.stats().gaps == 0);
  // Inside retention nobody asks.
  CHECK(s.take(s.join(c, {.last_event_id = "41"})) == frames(42, 51));
  CHECK(old.asked.size() == 1);
}

TEST_CASE("backfill: in pieces, with a slow reader, while the log goes on", "[resume][backfill]") {
  for (const bool done : {true, false}) {
    for (const std::uint64_t piece : {1U, 7U, 1000U}) {
      CAPTURE(done, piece);
      store old{.at_once = piece, .says_done = done};
      stage s;
      sse::channel c = s.open("c", with_store(old, 10));
      s.put_many(c, 100);
      const auto k = s.join(c, {.last_event_id = "5", .window = 30});
      for (int i = 0; i < 60; ++i) {
        s.put(c);
        s.let(k, 57);
      }
      s.let(k);
      s.put(c);
      s.flush();
      CHECK(s.take(k) == frames(6, c.last_id()));
      CHECK(c.stats().gaps == 0);
    }
  }
}

TEST_CASE("backfill: a hook that waits is asked again when the host says so",
          "[resume][backfill]") {
  store old{.waits = true};
  stage s;
  sse::channel c = s.open("c", with_store(old, 10));
  s.put_many(c, 50);
  const auto k = s.join(c, {.last_event_id = "20"});
  CHECK(s.take(k).empty());
  CHECK(old.asked.size() == 1);
  old.waits = false;
  s.hub.writable(k.id);
  s.flush();
  CHECK(s.take(k) == frames(21, 50));
  CHECK(old.asked.size() == 2);
}

TEST_CASE("backfill: a hook that has more, but nothing now, is asked again in the next flush",
          "[resume][backfill]") {
  store old{.at_once = 0};
  stage s;
  sse::channel c = s.open("c", with_store(old, 10));
  s.put_many(c, 50);
  const auto k = s.join(c, {.last_event_id = "20"});
  CHECK(old.asked.size() == 1);
  CHECK(s.hub.flush());
  CHECK(old.asked.size() == 2);
  old.at_once = 1000;
  CHECK_FALSE(s.hub.flush());
  CHECK(s.take(k) == frames(21, 50));
}

TEST_CASE("backfill: what the store lost too is one gap, then the oldest retained event",
          "[resume][backfill]") {
  store old{.oldest = 15};
  stage s;
  sse::channel c = s.open("c", with_store(old, 10));
  s.put_many(c, 50);
  const auto k = s.join(c, {.last_event_id = "3"});
  CHECK(s.take(k) == gap_frame(40, 3, 41, -1) + frames(41, 50));
  CHECK(c.stats().gaps == 1);
  CHECK(s.take(s.join(c, {.last_event_id = "14"})) == frames(15, 50));
}

TEST_CASE(
    "backfill: a hook that breaks its promise costs the session, and nothing is lost in silence",
    "[resume][backfill]") {
  const std::pair<sse::event_id, const char*> broken[] = {
      {20, "not above the last"}, {41, "not below the log"}, {0, "none"}, {21, "a\nb"}};
  for (const auto& [id, type] : broken) {
    CAPTURE(id, type);
    stage s;
    sse::channel_options o = consecutive_ids(10);
    bool added = true;
    o.backfill = [&, wrong = id](const sse::backfill_request&, sse::backfill_writer& out) {
      added = out.add(wrong, {.type = wrong == 21 ? "a\nb" : "e", .data = "x"});
      return sse::backfill_state::done;
    };
    sse::channel c = s.open("c", std::move(o));
    s.put_many(c, 50);
    const auto k = s.join(c, {.last_event_id = "20"});
    CHECK_FALSE(added);
    CHECK(s.closed(k));
    CHECK(s.take(k).empty());
    CHECK(s.hub.sessions() == 0);
  }
}

TEST_CASE("the verdict says where to begin, whatever the request says", "[resume][backfill]") {
  store old;
  stage s;
  sse::channel c = s.open("c", with_store(old, 10));
  s.put_many(c, 50);
  CHECK(s.take(s.accept({.last_event_id = "3"}, sse::admit().join(c).after(45))) == frames(46, 50));
  CHECK(s.take(s.accept({}, sse::admit().join(c).after(30))) == frames(31, 50));
  CHECK(s.take(s.accept({.last_event_id = "50"}, sse::admit().join(c).after(0))) == frames(1, 50));
  CHECK(c.stats().gaps == 0);
  // A malformed query stays one.
  CHECK(s.accept({.query = "last_id=x"}, sse::admit().join(c).after(45)).refusal.status == 400);
  // Without a hook 0 is what it is in a request: everything retained, without a gap frame.
  sse::channel plain = s.open("plain", consecutive_ids(2));
  s.put_many(plain, 5);
  CHECK(s.take(s.accept({}, sse::admit().join(plain).after(0))) == frames(4, 5));
}

TEST_CASE("a channel with given ids of its own begins at 0, also in a hub that begins late",
          "[resume]") {
  stage s{{.first_id = 1'000'000}};
  sse::channel c = s.open("c", {.ids = sse::id_mode::given, .own_sequence = true});
  CHECK(c.last_id() == 0);
  CHECK(c.publish({.data = "x"}, {.id = 7}).id == 7);
  sse::channel late =
      s.open("late", {.ids = sse::id_mode::given, .own_sequence = true, .first_id = 50});
  CHECK(late.publish({.data = "x"}, {.id = 50}).error == sse::publish_error::id_order);
  CHECK(late.publish({.data = "x"}, {.id = 51}));
}

TEST_CASE("backfill: the channel's limits hold for the hook's events too", "[resume][backfill]") {
  for (const std::size_t limit : {std::size_t{3} << 20, std::size_t{1} << 20}) {
    CAPTURE(limit);
    stage s;
    sse::channel_options o = consecutive_ids(1);
    o.limits.event = limit;
    const std::string large(std::size_t{2} << 20, 'x');
    o.backfill = [&](const sse::backfill_request&, sse::backfill_writer& out) {
      (void)out.add(1, {.data = large});
      return sse::backfill_state::done;
    };
    sse::channel c = s.open("c", std::move(o));
    s.put_many(c, 2);
    const auto k = s.accept({}, sse::admit().join(c).after(0));
    s.flush();
    const bool fits = limit > large.size();
    CHECK(s.closed(k) == !fits);
    const bool as_expected = s.take(k) == (fits ? frame(1, "", large) + frames(2, 2) : "");
    CHECK(as_expected);  // not the texts: megabytes in a report
  }
}

TEST_CASE("ids can begin at 1, wherever the hub's begin", "[resume][surface]") {
  stage s{{.first_id = 1'000'000}};
  CHECK(s.put(s.open("as the hub's", {.own_sequence = true})) == 1'000'001);
  CHECK(s.put(s.open("its own", {.own_sequence = true, .first_id = 0})) == 1);
  CHECK(s.put(s.open("shared")) == 1'000'001);
  stage bare;
  CHECK(bare.put(bare.open("c")) == 1);
}
