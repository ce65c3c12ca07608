// How many get in: caps, eviction, retry streams.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "caps_stage.hpp"
#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::close_reason;
using sse::duration;
using sse::when_full;
using test::closed_for;
using test::frame;
using test::frames;
using test::quiet;
using test::stage;
using test::with_caps;

}  // namespace

// --- caps ---

TEST_CASE(
    "N-28 N-30 N-37 five streams of one user, the sixth is 429 with Retry-After, another user "
    "still connects",
    "[admission][caps]") {
  stage s{with_caps({.per_user = {.max = 5, .retry_after = duration::milliseconds(7001)}})};
  sse::channel c = s.open("c", quiet());
  for (std::size_t i = 1; i <= 5; ++i) {
    CHECK(s.join(c, {.key = "ann"}));
    CHECK(s.hub.user_sessions("ann") == i);
  }
  const auto sixth = s.join(c, {.key = "ann"});
  CHECK_FALSE(sixth);
  CHECK(sixth.refusal.status == 429);
  CHECK(sixth.refusal.headers.find("Retry-After: 8\r\n") != std::string::npos);  // rounded up
  CHECK(sixth.refusal.body == R"({"error":"too_many_streams"})");
  CHECK(s.peer(sixth).writes == 0);
  CHECK(s.join(c, {.key = "bob"}));
  for (int i = 0; i < 20; ++i) CHECK(s.join(c));  // anonymous ones are not counted
  CHECK(s.hub.user_sessions("ann") == 5);
  CHECK(s.hub.sessions() == 26);
}

TEST_CASE("N-29 the cap of a user spans all streams", "[admission][caps]") {
  stage s{with_caps({.per_user = {.max = 5}})};
  sse::channel notes = s.open("notes", quiet());
  sse::channel live = s.open("live", quiet());
  sse::channel chat = s.open("chat", quiet());
  for (sse::channel c : {notes, notes, live, live, chat}) CHECK(s.join(c, {.key = "ann"}));
  for (sse::channel c : {notes, live, chat}) CHECK(s.join(c, {.key = "ann"}).refusal.status == 429);
  CHECK(s.join(chat, {.key = "bob"}));
}

TEST_CASE("N-31 X-10 a slot comes back on every path", "[admission][caps]") {
  const char* const paths[] = {"peer",    "write failed", "host",    "finished", "revoked",
                               "lag",     "stalled",      "idle",    "age",      "until",
                               "channel", "evicted",      "hub full"};
  for (const std::string path : paths) {
    CAPTURE(path);
    sse::hub_options o =
        with_caps({.total = {.max = 3}, .per_user = {.max = 1}, .per_address = {.max = 1}});
    if (path == "idle") o.idle = duration::seconds(100);
    if (path == "age") o.max_age = duration::seconds(100);
    if (path == "evicted") o.caps.per_user.then = when_full::evict_oldest;
    if (path == "hub full") o.max_backlog = 10'000;
    stage s{o};
    sse::channel_options co = quiet();
    co.max_lag = path == "hub full" ? 0 : 100;
    co.keep = 1;
    co.max_subscribers = 1;
    sse::channel c = s.open("c", std::move(co));
    sse::channel other = s.open("other", quiet());
    const auto attempt = [&] {
      return s.join(c, {.key = "ann", .address = "10.0.0.1", .window = 5});
    };
    const auto k =
        path == "until"
            ? s.accept({.key = "ann", .address = "10.0.0.1", .window = 5},
                       sse::admit("ann").join(c).until(sse::time_point::milliseconds(1000)))
            : attempt();
    REQUIRE(k);
    if (path != "evicted") CHECK_FALSE(attempt());
    if (path == "peer") s.hub.closed(k.id);
    if (path == "write failed") {
      s.peer(k).fails = true;
      s.put(c);
      s.flush();
    }
    if (path == "host") s.hub.close(k.id);
    if (path == "finished") {
      s.hub.finish(k.id);
      s.flush();
    }
    if (path == "revoked") CHECK(s.hub.revoke("ann") == 1);
    if (path == "lag") {
      for (int i = 0; i < 20; ++i) s.put(c);
      s.flush();
    }
    if (path == "stalled") {
      s.put(c);
      s.flush();
      s.at(10'000);
    }
    if (path == "idle" || path == "age" || path == "until") {
      s.peer(k).window = SIZE_MAX;
      s.at(100'000);
    }
    if (path == "channel") {
      s.hub.close_channel(c);
      c = s.open("c", quiet());
    }
    if (path == "evicted") CHECK(s.join(other, {.key = "ann"}));
    if (path == "hub full") {
      for (int i = 0; i < 40; ++i) s.put(c, std::string(1000, 'x'));
      s.flush();
    }
    CHECK(s.closed(k));
    if (path == "evicted") s.hub.revoke("ann");
    CHECK(s.hub.sessions() == 0);
    CHECK(s.hub.user_sessions("ann") == 0);
    CHECK(c.subscribers() == 0);
    CHECK(attempt());
  }
}

TEST_CASE("N-32 a thousand streams in total: 999, 1000, and 1001 is refused until one closes",
          "[admission][caps]") {
  stage s{with_caps({.total = {.max = 1000, .status = 429}})};
  sse::channel c = s.open("c", quiet());
  int asked = 0;
  s.hub.on_admit([&](const sse::request&) -> sse::verdict<> {
    ++asked;
    return sse::admit().join(c);
  });
  std::vector<test::caller> all;
  for (int i = 0; i < 999; ++i) all.push_back(s.request({}));
  CHECK(s.hub.sessions() == 999);
  CHECK(s.request({}));
  const auto over = s.request({});
  CHECK(over.refusal.status == 429);
  CHECK(over.refusal.headers.find("Retry-After: 5\r\n") != std::string::npos);
  CHECK(s.join(c).refusal.status == 429);  // by the other door as well
  CHECK(asked == 1000);                    // nobody is asked in vain
  s.hub.closed(all[500].id);
  CHECK(s.request({}));
  CHECK_FALSE(s.request({}));
  CHECK(s.hub.sessions() == 1000);
  sse::hub_options o;
  o.caps.total.max = 1;
  stage plain{o};
  sse::channel d = plain.open("d", quiet());
  CHECK(plain.join(d));
  CHECK(plain.join(d).refusal.status == 503);
}

TEST_CASE("64 streams of one address: 63, 64, and 65 is refused", "[admission][caps]") {
  stage s;  // the default
  sse::channel c = s.open("c", quiet());
  std::vector<test::caller> all;
  for (int i = 0; i < 64; ++i) {
    all.push_back(s.join(c, {.address = "2001:db8::1"}));
    REQUIRE(all.back());
  }
  CHECK(s.join(c, {.address = "2001:db8::1"}).refusal.status == 429);
  CHECK(s.join(c, {.address = "2001:db8:0:1::1"}));
  for (int i = 0; i < 70; ++i) REQUIRE(s.join(c));  // without an address: not counted
  s.hub.closed(all[0].id);
  CHECK(s.join(c, {.address = "2001:db8::1"}));
  CHECK_FALSE(s.join(c, {.address = "2001:db8::1"}));
}

TEST_CASE("nobody is asked for a stream that the cap of its address refuses", "[admission][caps]") {
  const auto then = GENERATE(when_full::refuse, when_full::retry_stream);
  const bool user_evicts = GENERATE(false, true);
  sse::limits caps{.per_address = {.max = 2, .then = then}};
  if (user_evicts) caps.per_user = {.max = 1, .then = when_full::evict_oldest};
  stage s{with_caps(caps)};
  sse::channel c = s.open("c", quiet());
  int asked = 0;
  s.hub.on_admit([&](const sse::request&) -> sse::verdict<> {
    ++asked;
    return sse::admit("user " + std::to_string(asked)).join(c);
  });
  for (const std::string from : {"2001:db8::1", "2001:db8::2", "10.0.0.1"})
    REQUIRE(s.request({.address = from}));
  CHECK(asked == 3);
  const auto over = s.request({.address = "2001:db8::3"});
  CHECK(static_cast<bool>(over) == (then == when_full::retry_stream));
  CHECK(s.hub.stats().refused_by[static_cast<std::size_t>(sse::refusal_reason::too_many)] == 1);
  // One user's own stream of that address might have made room.
  CHECK(asked == (user_evicts ? 4 : 3));
  CHECK(s.request({.address = "10.0.0.1"}));
  CHECK(s.request({}));
  CHECK(asked == (user_evicts ? 6 : 5));
}

TEST_CASE("a channel may have a cap of its own: limit - 1, limit, limit + 1", "[admission][caps]") {
  stage s;
  sse::channel_options o = quiet();
  o.max_subscribers = 3;
  sse::channel c = s.open("c", std::move(o));
  sse::channel d = s.open("d", quiet());
  const auto a = s.join(c);
  CHECK(s.join(c));
  CHECK(s.join({}, {d, c}));
  const auto over = s.join({.key = "ann"}, {d, c});
  CHECK_FALSE(over);
  CHECK(over.refusal.status == 503);
  CHECK(over.refusal.body == R"({"error":"channel_full"})");
  CHECK(s.join(d));
  CHECK(d.subscribers() == 2);
  CHECK(s.hub.user_sessions("ann") == 0);
  s.hub.closed(a.id);
  CHECK(s.join(c));
}

// --- evict ---

TEST_CASE("evict: the oldest stream under the full cap makes room, and is told when to come back",
          "[admission][caps]") {
  const auto evicting = [](std::uint32_t max) {
    return sse::cap{
        .max = max, .then = when_full::evict_oldest, .retry_after = duration::milliseconds(4321)};
  };
  SECTION("of a user") {
    stage s{with_caps({.per_user = evicting(2)})};
    sse::channel c = s.open("c", quiet());
    const auto bob = s.join(c, {.key = "bob"});
    std::vector<test::caller> ann;
    for (int i = 0; i < 5; ++i) {
      ann.push_back(s.join(c, {.key = "ann"}));
      REQUIRE(ann.back());
    }
    for (std::size_t i = 0; i < 5; ++i) CHECK(s.closed(ann[i]) == (i < 3));
    CHECK(s.take(ann[0]) == "retry: 4321\n\n");
    CHECK(s.peer(ann[0]).why == close_reason::evicted);
    CHECK_FALSE(s.closed(bob));
    CHECK(s.hub.user_sessions("ann") == 2);
    CHECK(closed_for(s, close_reason::evicted) == 3);
    CHECK(s.hub.stats().refused == 0);
  }
  SECTION("of an address") {
    stage s{with_caps({.per_address = evicting(2)})};
    sse::channel c = s.open("c", quiet());
    const auto other = s.join(c, {.address = "10.0.0.2"});
    std::vector<test::caller> all;
    for (int i = 0; i < 4; ++i)
      all.push_back(s.join(c, {.key = std::to_string(i), .address = "10.0.0.1"}));
    for (std::size_t i = 0; i < 4; ++i) CHECK(s.closed(all[i]) == (i < 2));
    CHECK_FALSE(s.closed(other));
  }
  SECTION("of all") {
    stage s{with_caps({.total = evicting(3)})};
    sse::channel c = s.open("c", quiet());
    std::vector<test::caller> all;
    for (int i = 0; i < 3; ++i) all.push_back(s.join(c));
    s.hub.closed(all[1].id);
    for (int i = 0; i < 3; ++i) all.push_back(s.join(c));  // the first takes the free slot
    CHECK(s.peer(all[0]).why == close_reason::evicted);
    CHECK(s.peer(all[2]).why == close_reason::evicted);
    CHECK_FALSE(s.closed(all[3]));
    CHECK(s.hub.sessions() == 3);
  }
}

TEST_CASE("evict: a half-sent event is not followed by a control frame", "[admission][caps]") {
  stage s{with_caps({.per_user = {.max = 1, .then = when_full::evict_oldest}})};
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c, {.key = "ann", .window = 5});
  s.put(c);
  s.flush();
  CHECK(s.join(c, {.key = "ann"}));
  CHECK(s.take(k) == frames(1, 1).substr(0, 5));
  CHECK(s.closed(k));
}

TEST_CASE("evict: who is refused anyway evicts nobody", "[admission][caps]") {
  stage s{with_caps({.total = {.max = 1, .then = when_full::evict_oldest},
                     .per_user = {.max = 1, .then = when_full::evict_oldest},
                     .per_address = {.max = 1}})};
  sse::channel c = s.open("c", quiet());
  s.hub.on_admit([&](const sse::request& r) -> sse::verdict<> {
    if (r.query == "no") return sse::refuse(401);
    return sse::admit("ann").join(c);
  });
  const auto k = s.request({.address = "10.0.0.1"});
  REQUIRE(k);
  CHECK(s.request({.query = "no"}).refusal.status == 401);
  CHECK_FALSE(s.closed(k));
  CHECK(s.request({.query = "last_id=abc"}).refusal.status == 400);
  CHECK_FALSE(s.closed(k));
  CHECK(s.request({.method = "HEAD"}).head_only);
  CHECK_FALSE(s.closed(k));
  CHECK(s.request({.method = "POST"}).refusal.status == 405);
  CHECK(s.accept({}, sse::admit("ann")).refusal.status == 500);
  CHECK_FALSE(s.closed(k));
  CHECK(s.hub.sessions() == 1);
  // The user's cap could be met by eviction, the address's not.
  stage t{with_caps(
      {.per_user = {.max = 1, .then = when_full::evict_oldest}, .per_address = {.max = 1}})};
  sse::channel d = t.open("d", quiet());
  const auto ann = t.join(d, {.key = "ann", .address = "10.0.0.1"});
  const auto bob = t.join(d, {.key = "bob", .address = "10.0.0.2"});
  CHECK(t.join(d, {.key = "ann", .address = "10.0.0.2"}).refusal.status == 429);
  CHECK_FALSE(t.closed(ann));
  CHECK_FALSE(t.closed(bob));
  // Its own place under both caps counts for it: the new connection of ann takes the place of the
  // old.
  CHECK(t.join(d, {.key = "ann", .address = "10.0.0.1"}));
  CHECK(t.closed(ann));
  CHECK_FALSE(t.closed(bob));
  CHECK(closed_for(t, close_reason::evicted) == 1);
}

TEST_CASE("evict: one stream goes where one is enough, whatever caps are full",
          "[admission][caps]") {
  const sse::cap one{.max = 1, .then = when_full::evict_oldest};
  stage s{with_caps(
      {.total = {.max = 3, .then = when_full::evict_oldest}, .per_user = one, .per_address = one})};
  sse::channel c = s.open("c", quiet());
  const auto eve = s.join(c, {.key = "eve", .address = "10.0.0.3"});
  const auto ann = s.join(c, {.key = "ann", .address = "10.0.0.1"});
  const auto bob = s.join(c, {.key = "bob", .address = "10.0.0.2"});
  CHECK(s.join(c, {.key = "ann", .address = "10.0.0.1"}));
  CHECK(s.closed(ann));
  CHECK_FALSE(s.closed(eve));
  // Two must go here: of the user and of the address.
  CHECK(s.join(c, {.key = "ann", .address = "10.0.0.2"}));
  CHECK(s.closed(bob));
  CHECK_FALSE(s.closed(eve));
  CHECK(s.hub.sessions() == 2);
}

// --- retry stream ---

TEST_CASE("a retry stream is 200 with a long retry and ends: an EventSource comes back by itself",
          "[admission][caps]") {
  int opened = 0;
  int closed = 0;
  stage s{with_caps(
      {.total = {
           .max = 2, .then = when_full::retry_stream, .retry_after = duration::seconds(60)}})};
  sse::channel c = s.open("c", quiet());
  s.hub.on_opened([&](sse::session_id, const sse::no_user&) { ++opened; });
  s.hub.on_closed([&](sse::session_id, const sse::no_user&, close_reason) { ++closed; });
  REQUIRE(s.join(c));
  REQUIRE(s.join(c));
  const auto k = s.join(c, {.key = "ann", .preamble = "HEAD"});
  CHECK(k);  // the connection is taken
  CHECK(s.take(k) == "HEADretry: 60000\n\n");
  CHECK(s.closed(k));
  CHECK(s.peer(k).why == close_reason::finished);
  const auto chunked = s.join(c, {.preamble = "HEAD", .chunked = true});
  CHECK(s.take(chunked) == "HEADe\r\nretry: 60000\n\n\r\n0\r\n\r\n");
  CHECK(s.hub.sessions() == 2);
  CHECK(s.hub.user_sessions("ann") == 0);
  CHECK(opened == 2);
  CHECK(closed == 0);  // the hooks hear of sessions only
  CHECK(s.hub.stats().accepted == 2);
  CHECK(s.hub.stats().refused == 2);
  // One that nobody reads goes by the write deadline.
  const auto stuck = s.join(c, {.window = 4});
  CHECK_FALSE(s.closed(stuck));
  s.put(c);
  s.flush();
  CHECK(s.take(stuck) == "retr");
  s.at(10'000);
  CHECK(s.closed(stuck));
  const auto head = s.request({.method = "HEAD"});  // as a GET would be answered
  CHECK(head.head_only);
  CHECK_FALSE(head);
}

TEST_CASE("a retry stream says what its own cap says", "[admission][caps]") {
  stage s{with_caps(
      {.total = {.retry_after = duration::seconds(1)},
       .per_user = {.max = 1,
                    .then = when_full::retry_stream,
                    .retry_after = duration::seconds(33)},
       .per_address = {
           .max = 1, .then = when_full::retry_stream, .retry_after = duration::seconds(44)}})};
  sse::channel c = s.open("c", quiet());
  REQUIRE(s.join(c, {.key = "ann", .address = "10.0.0.1"}));
  CHECK(s.take(s.join(c, {.key = "ann"})) == "retry: 33000\n\n");
  CHECK(s.take(s.join(c, {.address = "10.0.0.1"})) == "retry: 44000\n\n");
  CHECK(s.hub.sessions() == 1);
}

TEST_CASE("a hook's own refusal with status 200 is an answer, not a stream", "[admission]") {
  stage s;
  s.hub.on_admit(
      [&](const sse::request&) -> sse::verdict<> { return sse::refuse(200, "hello\n"); });
  const auto k = s.request({});
  CHECK_FALSE(k);
  CHECK(k.refusal.status == 200);
  CHECK(k.refusal.body == "hello\n");
}

TEST_CASE("ten thousand users and addresses at once are told apart", "[admission][caps]") {
  stage s{with_caps({.per_user = {.max = 1}, .per_address = {.max = 1}})};
  sse::channel c = s.open("c", quiet());
  std::vector<test::caller> all;
  std::size_t wrong = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::string key = "user-" + std::to_string(i);
    all.push_back(s.join(c, {.key = key, .address = "10." + std::to_string(i)}));
    wrong += !all.back() || s.hub.user_sessions(key) != 1;
  }
  for (int i = 0; i < 10'000; i += 97)
    wrong += static_cast<bool>(s.join(c, {.key = "user-" + std::to_string(i)}));
  for (int i = 0; i < 10'000; i += 89)
    wrong += static_cast<bool>(s.join(c, {.address = "10." + std::to_string(i)}));
  for (std::size_t i = 0; i < all.size(); i += 2) s.hub.closed(all[i].id);
  for (int i = 0; i < 10'000; ++i)
    wrong += s.hub.user_sessions("user-" + std::to_string(i)) != static_cast<std::size_t>(i % 2);
  CHECK(s.hub.revoke("user-4711") == 1);
  CHECK(wrong == 0);
  CHECK(s.hub.sessions() == 4999);
}

TEST_CASE("a hub that lost the race for the last place refuses", "[admission][caps]") {
  using kind = sse::cap_counter::kind;
  // As another hub would: between the look at the count and the taking.
  struct racing final : sse::cap_counter {
    kind loses = kind::total;
    int held[3] = {};
    bool take(kind k, std::string_view, std::uint32_t) noexcept override {
      if (k == loses) return false;
      ++held[static_cast<int>(k)];
      return true;
    }
    void give_back(kind k, std::string_view) noexcept override { --held[static_cast<int>(k)]; }
    std::uint32_t count(kind, std::string_view) noexcept override { return 0; }
  } counter;
  const auto then = GENERATE(when_full::refuse, when_full::retry_stream);
  counter.loses = GENERATE(kind::total, kind::user, kind::address);
  const sse::cap one{.max = 1, .then = then};
  stage s{{.caps = {.total = one, .per_user = one, .per_address = one}, .counter = &counter}};
  sse::channel c = s.open("c");
  const auto k = s.join(c, {.key = "ada", .address = "192.0.2.1"});
  if (then == when_full::refuse) {
    CHECK(k.refusal.status == 429);
  } else {
    REQUIRE(k);
    s.flush();
    CHECK(s.take(k).starts_with("retry: 5000\n"));
    CHECK(s.closed(k));
  }
  CHECK(s.hub.sessions() == 0);
  for (const int n : counter.held) CHECK(n == 0);
}
