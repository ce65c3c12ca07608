// Barriers (key_role::barrier): events that belong to a key and are no state, such as trades.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/mailbox.hpp>
#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using test::ask;
using test::caller;
using test::stage;

struct tape {
  explicit tape(std::uint64_t keep = 1000) : s{{.session_stats = true}} {
    sse::channel_options o = test::quiet(keep);
    o.on_lag = sse::lag_policy::coalesce;
    o.max_keys = 100;
    board = s.open("board", std::move(o));
  }
  void quote(std::string_view key, int value, std::string_view audience = {}) const {
    const std::string data = std::string(key) + "=" + std::to_string(value);
    REQUIRE(board.publish({.data = data}, {.audience = audience, .key = key}));
  }
  void trade(std::string_view key, int n, std::string_view audience = {}) const {
    const std::string data = std::string(key) + "!" + std::to_string(n);
    REQUIRE(board.publish({.data = data},
                          {.audience = audience, .key = key, .role = sse::key_role::barrier}));
  }
  caller watch(std::vector<std::string_view> keys, ask a = {}) {
    return s.accept(a, sse::admit(a.key).join(board, {.keys = keys, .only_keys = true}));
  }
  /// Reads nothing from now on.
  void stop(const caller& k) {
    s.flush();
    (void)s.take(k);
    s.peer(k).window = 0;
  }
  /// The data of all that it gets now, in order.
  std::string next(const caller& k) {
    s.flush();
    s.let(k, SIZE_MAX);
    std::string out;
    const std::string got = s.take(k);
    for (std::size_t at = 0; (at = got.find("data: ", at)) != got.npos; at += 6)
      out += (out.empty() ? "" : " ") + got.substr(at + 6, got.find('\n', at) - at - 6);
    return out;
  }
  [[nodiscard]] sse::session_counts counts(const caller& k) const {
    return s.hub.session_stats(k.id, board);
  }

  stage s;
  sse::channel board{};
};

}  // namespace

TEST_CASE("barrier: who follows live gets it in its place", "[barrier]") {
  tape t;
  const caller k = t.s.join(t.board);
  t.quote("a", 1);
  t.trade("a", 1);
  t.quote("a", 2);
  t.s.flush();
  CHECK(t.s.take(k) ==
        test::frame(1, "", "a=1") + test::frame(2, "", "a!1") + test::frame(3, "", "a=2"));
}

TEST_CASE("barrier: in front of it a slow reader gets the newest value of its key, once",
          "[barrier][lag]") {
  tape t;
  const caller all = t.s.join(t.board);
  const caller some = t.watch({"b", "a"});
  for (const caller& k : {all, some}) t.stop(k);
  for (const char* key : {"a", "b"}) {
    for (int v = 1; v <= 3; ++v) t.quote(key, v);
  }
  t.trade("b", 1);
  t.trade("b", 2);
  t.s.flush();
  for (const caller& k : {all, some}) {
    CHECK(t.next(k) == "b=3 b!1 b!2 a=3");
    CHECK(t.next(k).empty());
    CHECK(t.counts(k).delivered == 4);
    CHECK(t.counts(k).conflated == 4);
    CHECK(t.counts(k).lost == 0);
  }
  t.quote("b", 4);
  for (const caller& k : {all, some}) CHECK(t.next(k) == "b=4");
}

TEST_CASE("barrier: a value that it took along comes again only if it changed since",
          "[barrier][lag]") {
  for (const bool chosen : {false, true}) {
    CAPTURE(chosen);
    tape t;
    const caller k = chosen ? t.watch({"a", "b", "c"}) : t.s.join(t.board);
    t.stop(k);
    for (const char* key : {"a", "b", "c"}) t.quote(key, 1);
    t.s.flush();
    t.quote("c", 2);
    t.trade("c", 1);
    t.s.flush();
    t.s.let(k, 20);  // the quote, and a part of the trade
    t.quote("c", 3);
    t.quote("a", 2);
    t.trade("a", 1);
    const std::string got = t.next(k);
    CHECK(got.starts_with("c=2 c!1 a=2 a!1 "));
    CHECK(test::count(got, "a=") == 1);
    CHECK(test::count(got, "b=1") == 1);
    CHECK(test::count(got, "c=3") == 1);
    CHECK(t.counts(k).delivered == 6);
    CHECK(t.counts(k).conflated == 2);  // c=1 and a=1
    CHECK(t.next(k).empty());
  }
}

TEST_CASE("barrier: who chose other keys gets none, and misses none", "[barrier][selection]") {
  tape t{5};
  const caller a = t.watch({"a", "x"});
  const caller b = t.watch({"b"});
  (void)t.next(a);
  (void)t.next(b);
  t.quote("b", 1);
  t.trade("b", 1);
  CHECK(t.next(a).empty());
  CHECK(t.next(b) == "b=1 b!1");
  for (int i = 2; i < 20; ++i) t.trade("b", i);  // more than are kept
  t.quote("a", 1);
  CHECK(t.next(a) == "a=1");
  t.trade("a", 1);
  CHECK(t.next(a) == "a!1");
  CHECK(test::count(t.next(b), "\"requested\"") == 1);
}

TEST_CASE("barrier: those that were lost are told to who chose the key", "[barrier][selection]") {
  tape t{5};
  const caller k = t.watch({"a"}, {.window = 0});
  t.trade("a", 1);
  for (int i = 0; i < 10; ++i) t.trade("b", i);
  const std::string got = t.next(k);
  CHECK(test::count(got, "\"requested\"") == 1);
  CHECK(test::count(got, "!") == 0);
}

TEST_CASE("barrier: an audience's comes behind what that audience sees of the key",
          "[barrier][audience]") {
  tape t;
  const caller amy = t.s.join(t.board, {.key = "amy"});
  const caller bob = t.s.join(t.board, {.key = "bob"});
  const caller some = t.watch({"a"}, {.key = "amy"});
  for (const caller& k : {amy, bob, some}) t.stop(k);
  for (int v = 1; v <= 2; ++v) {
    t.quote("z", v);
    t.quote("a", v);
    t.quote("a", 10 + v, "amy");
  }
  t.trade("a", 1, "amy");
  t.s.flush();
  const std::string got = t.next(amy);
  CHECK(got == "a=2 a=12 a!1 z=2");
  CHECK(test::count(t.next(some), "a!1") == 1);
  CHECK(t.next(bob) == "z=2 a=2");
}

TEST_CASE("barrier: a key that is gone is told in front of it, one that nobody keeps is not there",
          "[barrier][erase]") {
  tape t;
  const caller k = t.s.join(t.board);
  t.stop(k);
  t.quote("a", 1);
  REQUIRE(t.board.publish({.data = "a is gone"}, {.key = "a", .role = sse::key_role::erase}));
  t.quote("b", 1);
  t.trade("a", 1);
  t.trade("never", 1);
  t.s.flush();
  CHECK(t.next(k) == "a is gone a!1 never!1 b=1");
}

TEST_CASE("barrier: mailboxes carry it", "[barrier][mailbox]") {
  tape t;
  const caller k = t.s.join(t.board);
  t.stop(k);
  sse::mailbox mail;
  sse::publisher p = mail.make_publisher(1);
  for (int v = 1; v < 4; ++v)
    REQUIRE(p.try_publish({.data = v == 3 ? "a=3" : "a=0"}, {.key = "a"}) ==
            sse::publish_error::none);
  REQUIRE(p.try_publish({.data = "a!1"}, {.key = "a", .role = sse::key_role::barrier}) ==
          sse::publish_error::none);
  mail.drain([&](const sse::mail& m) { REQUIRE(t.board.publish(m.event, m.options)); });
  t.s.flush();
  CHECK(t.next(k) == "a=3 a!1");
}
