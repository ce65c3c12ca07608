// Who gets in, how many, and how they leave: caps, refusals, eviction, retry streams, revocation,
// presence, slots.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::close_reason;
using sse::duration;
using sse::when_full;
using test::completion_stage;
using test::frame;
using test::frames;
using test::quiet;
using test::stage;

sse::hub_options with_caps(sse::limits caps) {
  sse::hub_options o;
  o.caps = caps;
  return o;
}

std::uint64_t closed_for(const stage& s, close_reason why) {
  return s.hub.stats().closed[static_cast<std::size_t>(why)];
}

}  // namespace

// --- asking ---

TEST_CASE("X-20 nobody is let in by default", "[admission]") {
  stage s;
  s.open("c", quiet());
  const auto k = s.request({.preamble = "HEAD"});
  CHECK_FALSE(k);
  CHECK(k.refusal.status == 403);
  CHECK(s.peer(k).writes == 0);
  CHECK(s.hub.sessions() == 0);
  CHECK(s.hub.stats().refused == 1);
}

TEST_CASE(
    "X-20 N-35 N-36 the hook is asked before a byte is written, and a refusal goes out as it is",
    "[admission]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  s.put(c);
  int asked = 0;
  s.hub.on_admit([&](const sse::request& r) -> sse::verdict<> {
    ++asked;
    CHECK(s.net.at(s.net.size() - 1).writes == 0);
    CHECK(s.hub.sessions() == 0);
    if (r.query == "token=good") return sse::admit("ann").join(c).start(sse::start_at::all);
    if (r.query == "token=weak") return sse::refuse(403, "not yours\n");
    return sse::refuse(401, "who are you?\n").add("WWW-Authenticate", "Bearer");
  });
  const auto nobody = s.request({.preamble = "HEAD"});
  CHECK_FALSE(nobody);
  CHECK(nobody.refusal.status == 401);
  CHECK(nobody.refusal.body == "who are you?\n");
  CHECK(nobody.refusal.headers ==
        "Content-Type: text/plain; charset=utf-8\r\nWWW-Authenticate: Bearer\r\n");
  CHECK(s.peer(nobody).writes == 0);
  CHECK_FALSE(s.closed(nobody));
  CHECK(s.request({.query = "token=weak"}).refusal.status == 403);
  CHECK(s.hub.sessions() == 0);
  CHECK(s.hub.user_sessions("ann") == 0);
  CHECK(c.subscribers() == 0);
  const auto k = s.request({.query = "token=good", .preamble = "HEAD"});
  REQUIRE(k);
  CHECK(s.take(k) == "HEAD" + frames(1, 1));
  CHECK(asked == 3);
  CHECK(s.hub.stats().refused == 2);
  CHECK(s.hub.stats().accepted == 1);
}

TEST_CASE("X-27 a refusal with 204 tells an EventSource to give up", "[admission]") {
  stage s;
  s.hub.on_admit([&](const sse::request&) -> sse::verdict<> { return sse::refuse(204); });
  const auto k = s.request({});
  CHECK_FALSE(k);
  CHECK(k.refusal.status == 204);
  CHECK(k.refusal.body.empty());
  CHECK(s.hub.sessions() == 0);
}

TEST_CASE("N-38 a hook that fails leaves nothing behind: a refusal with 500, or its exception",
          "[admission]") {
  stage s{with_caps({.total = {.max = 1}})};
  sse::channel c = s.open("c", quiet());
  bool broken = true;
  s.hub.on_admit([&](const sse::request& r) -> sse::verdict<> {
    if (broken && r.query.empty()) throw std::string("database is down");
    if (broken) return sse::refuse(500, "database is down\n");
    return sse::admit("ann").join(c);
  });
  CHECK_THROWS_AS(s.request({}), std::string);
  CHECK(s.request({.query = "x=1"}).refusal.status == 500);
  CHECK(s.hub.sessions() == 0);
  CHECK(s.net.at(0).writes == 0);
  CHECK_FALSE(s.net.at(0).is_closed);
  broken = false;
  CHECK(s.request({}));
}

TEST_CASE("a GET without a fitting Accept gets a stream where the host wants it", "[admission]") {
  sse::hub_options o;
  o.check_accept = false;
  stage s{o};
  sse::channel c = s.open("c", quiet());
  s.hub.on_admit([&](const sse::request&) { return sse::admit("ann").join(c); });
  CHECK(s.request({.accept = "application/json"}));
  CHECK(s.request({.method = "POST"}).refusal.status == 405);
}

TEST_CASE("who is asked by the host is asked last, and a POST's Accept is disregarded",
          "[admission][surface]") {
  sse::limits caps;
  caps.total.max = 1;
  stage s{with_caps(caps)};
  sse::channel c = s.open("c", quiet());
  int asked = 0;
  std::vector<int> refused;
  s.hub.on_refused([&](const sse::request&, const sse::no_user&, const sse::refused_request& q) {
    refused.push_back(q.status);
  });
  const auto ask = [&](const test::ask& a, bool stream = true) {
    const std::size_t peer = s.net.connect();
    return test::to_caller(peer, test::with_request(a, [&](const sse::request& r) {
                             return s.hub.accept({peer}, r, [&]() -> sse::verdict<> {
                               ++asked;
                               if (!stream) return sse::refuse(200, "plain\n");
                               return sse::admit().join(c);
                             });
                           }));
  };
  CHECK(ask({.accept = "application/json"}).refusal.status == 406);
  CHECK(asked == 0);
  CHECK(ask({.method = "POST", .accept = "application/json"}));
  CHECK(asked == 1);
  // The cap is full from here on.
  CHECK(ask({}).refusal.status == 503);
  CHECK(ask({.method = "POST", .accept = "text/event-stream"}).refusal.status == 503);
  CHECK(asked == 1);
  CHECK(refused.empty());
  CHECK(ask({.method = "POST", .accept = "application/json"}, false).refusal.status == 200);
  CHECK(asked == 2);
  CHECK(refused.empty());
  CHECK(ask({.method = "POST", .accept = "application/json"}).refusal.status == 503);
  CHECK(asked == 3);
  CHECK(refused == std::vector{503});
  CHECK(s.hub.stats().refused == 4);  // a plain answer is none
}

TEST_CASE("a program is told when a stream that it admitted is refused after all, and why",
          "[admission][surface]") {
  using why = sse::refusal_reason;
  sse::limits caps;
  caps.per_user = {.max = 1, .retry_after = sse::duration::seconds(7)};
  stage s{with_caps(caps)};
  sse::channel c = s.open("c", quiet());
  std::vector<std::pair<why, int>> refused;
  sse::duration retry_after = sse::duration::off();
  s.hub.on_refused([&](const sse::request&, const sse::no_user&, const sse::refused_request& q) {
    refused.emplace_back(q.why, q.status);
    retry_after = q.retry_after;
  });
  const auto last = [&] { return refused.back(); };
  s.put(c);
  const auto first = s.join(c, {.key = "ann"});
  CHECK(first);
  CHECK_FALSE(s.join(c, {.key = "ann"}));
  REQUIRE(refused.size() == 1);
  CHECK(last() == std::pair{why::too_many, 429});
  CHECK(retry_after == sse::duration::seconds(7));
  CHECK_FALSE(s.join(c, {.query = "last_id=x"}));
  CHECK(last() == std::pair{why::bad_params, 400});
  CHECK(retry_after.is_off());
  s.hub.seal(c);
  CHECK_FALSE(s.join(c, {.last_event_id = "1"}));
  CHECK(last() == std::pair{why::none, 204});
  s.hub.drain();
  CHECK_FALSE(s.request({}));
  CHECK(refused.size() == 3);  // nobody was asked
  // A host that had asked before: what it was told is not true any more.
  const std::size_t peer = s.net.connect();
  const auto late = [&](const sse::request& r) {
    return s.hub.accept({peer}, r, sse::admit().join(c));
  };
  CHECK(test::with_request({}, late).why == why::draining);
  REQUIRE(refused.size() == 4);
  CHECK(last() == std::pair{why::draining, 503});
  const auto not_admitted = [&](const sse::request& r) {
    return s.hub.accept({peer}, r, sse::refuse(401));
  };
  CHECK(test::with_request({}, not_admitted).why == why::draining);
  CHECK(refused.size() == 4);
}

TEST_CASE("shape: 405 with Allow, 406, and HEAD opens nothing", "[admission]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  int asked = 0;
  s.hub.on_admit([&](const sse::request&) -> sse::verdict<> {
    ++asked;
    return sse::admit("ann").join(c);
  });
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "get", ""}) {
    CAPTURE(method);
    const auto k = s.request({.method = method});
    CHECK_FALSE(k);
    CHECK(k.refusal.status == 405);
    CHECK(k.refusal.headers.find("Allow: GET, HEAD\r\n") != std::string::npos);
  }
  CHECK(s.request({.accept = "application/json"}).refusal.status == 406);
  CHECK(s.request({.accept = "text/event-stream;q=0"}).refusal.status == 406);
  CHECK(asked == 0);
  CHECK(s.hub.stats().refused == 8);
  const auto head = s.request({.preamble = "HEAD", .method = "HEAD"});
  CHECK_FALSE(head);
  CHECK(head.head_only);
  CHECK(asked == 1);
  CHECK(s.peer(head).writes == 0);
  CHECK(s.hub.sessions() == 0);
  CHECK(s.hub.user_sessions("ann") == 0);
  CHECK(s.hub.stats().refused == 8);
  // A host that has checked itself may use any method (GraphQL over POST).
  CHECK(s.join(c, {.method = "POST"}));
  CHECK(s.request({.accept = "text/event-stream"}));
}

TEST_CASE("caps: an IPv6 address counts with all of its network", "[admission][surface]") {
  sse::limits caps{.per_address = {.max = 2}};
  const auto fits = [](stage& s, std::string address) {
    return static_cast<bool>(s.join(s.hub.find_channel("c"), {.address = std::move(address)}));
  };
  {
    stage s{with_caps(caps)};
    s.open("c");
    CHECK(fits(s, "2001:db8:1:2::1"));
    CHECK(fits(s, "2001:db8:1:2:ffff:ffff:ffff:ffff"));
    CHECK_FALSE(fits(s, "2001:db8:1:2::3"));
    CHECK_FALSE(fits(s, "2001:db8:1:2:5::"));
    CHECK(fits(s, "2001:db8:1:3::1"));
    for (const std::string last : {"1", "2", "3"}) CHECK(fits(s, "10.0.0." + last));
    CHECK(fits(s, "10.0.0.1"));
    CHECK_FALSE(fits(s, "10.0.0.1"));
    for (const std::string what : {"fe80::1%eth0", "not:an:address"}) {  // as they are
      CHECK(fits(s, what));
      CHECK(fits(s, what));
      CHECK_FALSE(fits(s, what));
    }
  }
  for (const std::uint8_t bits : {std::uint8_t{49}, std::uint8_t{55}, std::uint8_t{56}}) {
    caps.ipv6_prefix = bits;
    stage s{with_caps(caps)};
    s.open("c");
    CHECK(fits(s, "2001:db8:1::1"));
    CHECK(fits(s, "2001:db8:1:100::1") == (bits > 0));
    CHECK(fits(s, "2001:db8:1:200::1") == (bits > 54));  // bit 55 of all
    CHECK(fits(s, "2001:db8:1:100::2") == (bits == 56));
    CHECK(fits(s, "2001:db8:1:8000::1"));
  }
  caps.ipv6_prefix = 128;
  stage s{with_caps(caps)};
  s.open("c");
  for (int i = 1; i < 10; ++i) CHECK(fits(s, "2001:db8::" + std::to_string(i)));
}

TEST_CASE("joins: as many as the option says, none twice, of one hub and one sequence",
          "[admission]") {
  stage s{{.max_joins = 16}};
  stage elsewhere;
  std::vector<sse::channel> all;
  for (int i = 0; i < 17; ++i) all.push_back(s.open("c" + std::to_string(i), quiet()));
  const auto with = [&](std::size_t n) {
    auto v = sse::admit("ann");
    for (std::size_t i = 0; i < n; ++i) v.join(all[i]);
    return s.accept({.address = "1.1.1.1"}, std::move(v));
  };
  CHECK(with(0).refusal.status == 500);
  CHECK(with(1));
  CHECK(with(15));
  const auto k = with(16);
  CHECK(k);
  CHECK(with(17).refusal.status == 500);
  s.put(all[15], "x");
  s.flush();
  CHECK(s.take(k) == frame(1, "e", "x"));
  CHECK(s.accept({}, sse::admit().join(all[0]).join(all[1]).join(all[0])).refusal.status == 500);
  sse::channel_options o = quiet();
  o.own_sequence = true;
  sse::channel own = s.open("own", std::move(o));
  CHECK(s.accept({}, sse::admit().join(all[0]).join(own)).refusal.status == 500);
  CHECK(s.accept({}, sse::admit().join(own)));
  CHECK(s.accept({}, sse::admit().join(elsewhere.open("x"))).refusal.status == 500);
  CHECK(s.hub.user_sessions("ann") == 3);
}

TEST_CASE("joins: without a limit, and each of them counts", "[admission][surface]") {
  constexpr int many = 2000;
  stage s;
  std::vector<sse::channel> all;
  sse::verdict<> v = sse::admit("ann");
  for (int i = 0; i < many; ++i) {
    all.push_back(s.open("c" + std::to_string(i), quiet()));
    v.join(all.back());
  }
  const auto k = s.accept({}, std::move(v));
  REQUIRE(k);
  std::string expected;
  for (int i = many; i-- > 0;) {
    CHECK(all[static_cast<std::size_t>(i)].subscribers() == 1);
    s.put(all[static_cast<std::size_t>(i)], "x");
    expected += frame(static_cast<std::uint64_t>(many - i), "e", "x");
  }
  s.flush();
  CHECK(s.take(k) == expected);
  sse::verdict<> twice = sse::admit();
  for (sse::channel c : all) twice.join(c);
  CHECK(s.accept({}, std::move(twice.join(all[many / 2]))).refusal.status == 500);
}

TEST_CASE("joins: a gap on each of many channels, and the last one moves the id", "[admission]") {
  constexpr int many = 40;
  stage s;
  sse::verdict<> v = sse::admit("ann");
  for (int i = 0; i < many; ++i) {
    sse::channel_options o = quiet();
    o.keep = 0;
    sse::channel c = s.open("c" + std::to_string(i), std::move(o));
    s.put(c);
    s.put(c);
    v.join(c);
  }
  const auto k = s.accept({.last_event_id = "1"}, std::move(v));
  const std::string got = s.take(k);
  CHECK(test::count(got, "event: gap") == many);
  CHECK(test::ids_in(got) == std::vector<std::uint64_t>{2 * many});
}

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

// --- revoke ---

TEST_CASE("revoke takes effect before the next byte, for all streams of that user and nobody else",
          "[admission]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto a1 = s.join(c, {.key = "ann"});
  const auto a2 = s.join(c, {.key = "ann", .window = 7});
  const auto bob = s.join(c, {.key = "bob"});
  s.put(c);
  s.flush();
  s.take(a1);
  s.take(a2);
  s.put(c);  // published, not yet sent
  REQUIRE(s.hub.send(a1.id, {.data = "private"}) == sse::publish_error::none);
  CHECK(s.hub.revoke("ann") == 2);
  CHECK(s.hub.revoke("ann") == 0);
  CHECK(s.hub.revoke("nobody") == 0);
  s.flush();
  s.hub.writable(a2.id);
  s.flush();
  CHECK(s.take(a1).empty());
  CHECK(s.take(a2).empty());
  CHECK(s.closed(a1));
  CHECK(s.peer(a2).why == close_reason::revoked);
  CHECK(s.take(bob) == frames(1, 2));
  CHECK(closed_for(s, close_reason::revoked) == 2);
  CHECK(s.hub.user_sessions("ann") == 0);
  CHECK(s.join(c, {.key = "ann"}));  // whether ann may come back is the hook's affair
}

// --- presence and hooks ---

TEST_CASE("presence: a user's first stream on a channel and the last one, whatever is between",
          "[admission][presence]") {
  stage s;
  sse::channel a = s.open("a", quiet());
  sse::channel b = s.open("b", quiet());
  std::string log;
  s.hub.on_presence([&](sse::channel c, std::string_view key, bool present) {
    log.append(key).append(present ? "+" : "-").append(c.name()).append(" ");
  });
  const auto told = [&] { return std::exchange(log, {}); };
  const auto k1 = s.join(a, {.key = "ann"});
  CHECK(told() == "ann+a ");
  const auto k2 = s.join({.key = "ann"}, {a, b});
  CHECK(told() == "ann+b ");
  const auto k3 = s.join(a, {.key = "bob"});
  CHECK(told() == "bob+a ");
  const auto anonymous = s.join(a);
  CHECK(told().empty());
  REQUIRE(a.publish({.data = "t"},
                    {.transient = true}));  // a second stream inside the channel: nobody's business
  s.flush();
  CHECK(told().empty());
  s.hub.closed(k1.id);
  CHECK(told().empty());
  s.hub.closed(k2.id);
  const std::string both = told();
  CHECK((both == "ann-a ann-b " || both == "ann-b ann-a "));
  s.hub.closed(anonymous.id);
  CHECK(told().empty());
  CHECK(s.hub.revoke("bob") == 1);
  CHECK(told() == "bob-a ");
  const auto again = s.join(a, {.key = "bob"});
  CHECK(told() == "bob+a ");
  s.hub.close_channel(a);
  CHECK(told() == "bob-a ");
  CHECK(s.closed(again));
  CHECK(s.closed(k3));
}

TEST_CASE("presence: two streams of one user that end in the same walk are one leaving",
          "[admission][presence]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  int balance = 0;
  int calls = 0;
  s.hub.on_presence([&](sse::channel, std::string_view, bool present) {
    balance += present ? 1 : -1;
    ++calls;
  });
  const auto a = s.join(c, {.key = "ann"});
  const auto b = s.join(c, {.key = "ann"});
  s.peer(a).fails = true;
  s.peer(b).fails = true;
  s.put(c);
  s.flush();
  CHECK(s.hub.sessions() == 0);
  CHECK(balance == 0);
  CHECK(calls == 2);
}

TEST_CASE("N-19 presence hooks may publish: the others hear of it", "[admission][presence]") {
  stage s;
  sse::channel room = s.open("room", quiet());
  s.hub.on_presence([&](sse::channel c, std::string_view key, bool present) {
    const std::string data(key);
    (void)c.publish({.type = present ? "user-joined" : "user-left", .data = data},
                    {.transient = true});
  });
  const auto ann = s.join(room, {.key = "ann"});
  s.flush();
  s.take(ann);
  const auto bob = s.join(room, {.key = "bob"});
  s.flush();
  CHECK(s.take(ann) == frame(0, "user-joined", "bob"));
  s.hub.closed(bob.id);
  s.flush();
  CHECK(s.take(ann) == frame(0, "user-left", "bob"));
  s.peer(ann).fails = true;
  REQUIRE(room.publish({.data = "x"}));
  s.flush();
  s.flush();
  CHECK(s.hub.sessions() == 0);
}

TEST_CASE("hooks: opened may send at once, closed finds the slots free", "[admission]") {
  struct user {
    std::string name;
  };
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport, user> hub{
      net, test::without_position({.caps = {.per_user = {.max = 1}}})};
  sse::channel c = hub.open_channel("c", quiet());
  REQUIRE(c);
  std::string log;
  hub.on_opened([&](sse::session_id id, const user& u) {
    log += "+" + u.name;
    CHECK(hub.send(id, {.type = "hello", .data = u.name}) == sse::publish_error::none);
    CHECK(c.publish({.data = "joined"}));
  });
  hub.on_closed([&](sse::session_id id, const user& u, close_reason why) {
    log += "-" + u.name + ":" + std::string(to_string(why));
    CHECK_FALSE(hub.alive(id));
    CHECK(hub.user_sessions("key") == 0);
    CHECK(hub.sessions() == 0);
    CHECK(c.subscribers() == 0);
    CHECK(hub.send(id, {.data = "too late"}) == sse::publish_error::no_session);
    CHECK(c.publish({.data = "left"}));
  });
  const std::size_t peer = net.connect();
  const auto r = hub.accept({peer}, {.preamble = "HEAD"}, sse::admit(user{"ann"}, "key").join(c));
  REQUIRE(r);
  CHECK(net.at(peer).received == "HEAD" + frame(0, "hello", "ann") + frame(1, "", "joined"));
  REQUIRE(hub.user(r.id) != nullptr);
  CHECK(hub.user(r.id)->name == "ann");
  CHECK(hub.find(r.id)->index == peer);
  hub.close(r.id);
  CHECK(log == "+ann-ann:host");
  CHECK(hub.user(r.id) == nullptr);
}

TEST_CASE("hooks: the hub's end tells of each session", "[admission]") {
  sse::testing::memory_transport net;
  int ended = 0;
  {
    sse::hub<sse::testing::memory_transport> hub{net};
    hub.on_closed([&](sse::session_id, const sse::no_user&, close_reason why) {
      ended += why == close_reason::host;
    });
    sse::channel c = hub.open_channel("c", quiet());
    REQUIRE(c);
    for (int i = 0; i < 10; ++i) REQUIRE(hub.accept({net.connect()}, {}, sse::admit("u").join(c)));
  }
  CHECK(ended == 10);
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

TEST_CASE("hooks own what they capture, however large, and can be replaced", "[admission]") {
  struct watched {
    int* alive;
    char weight[100] = {};
    explicit watched(int* n) : alive{n} { ++*alive; }
    watched(watched&& o) noexcept : alive{o.alive} { ++*alive; }
    watched(const watched&) = delete;
    ~watched() { --*alive; }
  };
  int alive = 0;
  {
    stage s;
    sse::channel c = s.open("c", quiet());
    s.hub.on_admit([&c, w = watched{&alive}](const sse::request&) -> sse::verdict<> {
      return *w.alive > 0 ? sse::admit().join(c) : sse::verdict<>{sse::refuse(500)};
    });
    CHECK(alive == 1);
    CHECK(s.request({}));
    s.hub.on_admit([&c, small = static_cast<char>(1)](const sse::request&) -> sse::verdict<> {
      return small == 1 ? sse::admit().join(c) : sse::verdict<>{sse::refuse(500)};
    });
    CHECK(alive == 0);
    CHECK(s.request({}));
    s.hub.on_admit({});
    CHECK(s.request({}).refusal.status == 403);
    s.hub.on_gap([w = watched{&alive}](const sse::gap_notice&) {});
  }
  CHECK(alive == 0);
  sse::function<int(int)> f;
  CHECK_FALSE(f);
  f = [](int x) { return x + 1; };
  sse::function<int(int)> g{std::move(f)};
  CHECK_FALSE(f);
  CHECK(g(4) == 5);
  auto& self = g;
  g = std::move(self);
  CHECK(g(5) == 6);
}

// --- slots never leak ---

namespace {

/// 10,000 connects and aborts at one stage of a stream's life, five at a time.
template <class Stage, class Before, class Abort>
void connect_and_abort(Before before, Abort abort) {
  sse::hub_options o;
  o.caps = {.total = {.max = 10}, .per_user = {.max = 5}, .per_address = {.max = 5}};
  o.opening = "hi";
  Stage s{o};
  sse::channel_options fast = quiet();
  fast.heartbeat = {.every = duration::seconds(1)};
  fast.max_subscribers = 5;
  sse::channel c = s.open("c", std::move(fast));
  sse::channel d = s.open("d", quiet());
  s.put_many(c, 20);
  const auto open_one = [&](std::size_t window) {
    return s.join({.key = "ann",
                   .last_event_id = "10",
                   .address = "10.0.0.1",
                   .preamble = "HEAD\r\n\r\n",
                   .window = window},
                  {c, d});
  };
  std::uint32_t highest = 0;
  std::size_t refused = 0;
  std::int64_t now = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<test::caller> some;
    for (std::size_t i = 0; i < 5; ++i) {
      some.push_back(open_one(before(static_cast<std::size_t>(round))));
      if (!some.back()) ++refused;
      if (some.back().id.slot > highest) highest = some.back().id.slot;
    }
    if (open_one(0)) ++refused;  // the cap holds
    for (auto& k : some) abort(s, c, k, now);
    s.flush();
  }
  CHECK(refused == 0);
  CHECK(s.hub.sessions() == 0);
  CHECK(s.hub.user_sessions("ann") == 0);
  CHECK(c.subscribers() == 0);
  CHECK(d.subscribers() == 0);
  CHECK(highest < 64);  // slots are used again
  const sse::hub_stats stats = s.hub.stats();
  CHECK(stats.accepted == 10'000);
  std::uint64_t closed = 0;
  for (const std::uint64_t n : stats.closed) closed += n;
  CHECK(closed == stats.accepted);
  CHECK(stats.log_bytes < 20 * 65536);
  CHECK(c.stats().backlog_bytes == 0);
  CHECK(s.hub.next_deadline() == sse::time_point::never());
  s.hub.drain();
  CHECK(s.hub.drained());  // no slot waits for anything
}

}  // namespace

TEST_CASE("X-10 10000 connects and aborts before the head is out", "[admission][slots]") {
  connect_and_abort<stage>(
      [](std::size_t i) { return i % 8; },
      [](stage& s, sse::channel, const test::caller& k, std::int64_t&) { s.hub.closed(k.id); });
}

TEST_CASE("X-10 10000 connects and aborts during the replay, found by the host or by a write",
          "[admission][slots]") {
  connect_and_abort<stage>([](std::size_t i) { return 14 + i % 200; },
                           [](stage& s, sse::channel, const test::caller& k, std::int64_t&) {
                             if (k.id.slot % 2 == 0) return s.hub.closed(k.id);
                             s.peer(k).fails = true;
                             s.peer(k).window = SIZE_MAX;
                             s.hub.writable(k.id);
                             s.flush();
                             if (!s.closed(k)) s.hub.closed(k.id);
                           });
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

TEST_CASE("X-10 10000 connects and aborts in the middle of an event", "[admission][slots]") {
  connect_and_abort<stage>([](std::size_t) { return SIZE_MAX; },
                           [](stage& s, sse::channel c, const test::caller& k, std::int64_t&) {
                             s.peer(k).window = 9;
                             s.put(c);
                             s.flush();
                             s.peer(k).fails = true;
                             s.hub.writable(k.id);
                             s.flush();
                           });
}

TEST_CASE("X-10 10000 connects and aborts during a heartbeat", "[admission][slots]") {
  connect_and_abort<stage>([](std::size_t) { return SIZE_MAX; },
                           [](stage& s, sse::channel, const test::caller& k, std::int64_t& now) {
                             s.peer(k).window = 5;
                             now += 1000;
                             s.at(now);
                             if (k.id.slot % 2 == 0) {
                               s.hub.closed(k.id);
                             } else {
                               now += 10'000;
                               s.at(now);  // the write deadline
                             }
                             s.hub.closed(k.id);
                           });
}

TEST_CASE("X-10 10000 connects and aborts while a write is pending",
          "[admission][slots][completion]") {
  connect_and_abort<completion_stage>(
      [](std::size_t) { return SIZE_MAX; },
      [](completion_stage& s, sse::channel, const test::caller& k, std::int64_t&) {
        s.hub.closed(k.id);
        s.hub.written(k.id, s.net.complete(k.peer, k.id.slot % 30));
      });
}

TEST_CASE("X-10 10000 retry streams and refusals leave nothing", "[admission][slots]") {
  stage s{
      with_caps({.total = {.max = 1, .then = when_full::retry_stream}, .per_user = {.max = 1}})};
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c);
  for (int i = 0; i < 10'000; ++i) {
    const std::string key = std::to_string(i);
    const auto r = s.join(c, {.key = key, .query = i % 2 == 0 ? "" : "last_id=x", .address = key});
    if (r && r.id.slot > 1) FAIL("slot " << r.id.slot);
  }
  CHECK(s.hub.sessions() == 1);
  s.hub.closed(k.id);
  s.hub.drain();
  CHECK(s.hub.drained());
  const sse::hub_stats stats = s.hub.stats();
  CHECK(stats.accepted == 1);
  CHECK(stats.refused == 10'000);
  std::uint64_t closed = 0;
  for (const std::uint64_t n : stats.closed) closed += n;
  CHECK(closed == 1);  // of the streams that were accepted
}
