// Who gets in: what is asked, and of whom; refusals; what a stream may join.
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

using test::frame;
using test::frames;
using test::quiet;
using test::stage;
using test::with_caps;

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
  CHECK(s.hub.stats().refused == 2);  // there is nothing to be refused
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

TEST_CASE("a verdict may add headers, but none that the head of a stream has by itself",
          "[admission]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto with = [&](std::string_view name, std::string_view value) {
    auto v = sse::admit().join(c).header("X-Request-Id", "7").header(name, value);
    const std::string lines{v.headers()};
    const auto k = s.accept({}, std::move(v));
    CHECK(static_cast<bool>(k) == (k.refusal.status != 500));
    return k ? lines : "500";
  };
  CHECK(with("Server-Timing", "db;dur=5") == "X-Request-Id: 7\r\nServer-Timing: db;dur=5\r\n");
  CHECK(with("Content-Language", "en") == "X-Request-Id: 7\r\nContent-Language: en\r\n");
  for (const std::string name :
       {"Content-Type", "content-encoding", "Cache-Control", "X-Accel-Buffering",
        "x-content-type-options", "X-Heartbeat-Interval", "Access-Control-Allow-Origin",
        "access-control-x", "Content-Length", "Transfer-Encoding", "no token", ""}) {
    CAPTURE(name);
    CHECK(with(name, "x") == "500");
  }
  CHECK(with("X-A", "a\r\nX-B: b") == "500");
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
