// hub.on_wanted: the host is told that something waits, once until it flushed.
#include <cstdint>
#include <string>
#include <utility>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using test::quiet;
using test::stage;

/// How often its hub wanted a flush.
struct asked {
  explicit asked(stage& s) {
    s.hub.on_wanted([this] { ++times; });
  }
  /// Since the last call.
  int count() { return std::exchange(times, 0); }
  int times = 0;
};

}  // namespace

TEST_CASE("whatever waits to be sent asks for a flush, once until there was one",
          "[wanted][surface]") {
  stage s;
  asked told{s};
  sse::channel c = s.open("c", quiet());
  const test::caller reader = s.join(c, {.key = "user"});
  s.hub.flush();
  (void)told.count();

  const auto once = [&](auto&& f) {
    f();
    const int first = told.count();
    f();
    CHECK(told.count() == 0);
    s.hub.flush();
    return first;
  };
  CHECK(once([&] { REQUIRE(c.publish({.data = "x"})); }) == 1);
  CHECK(once([&] { REQUIRE(s.hub.publish(c, {.data = "x"})); }) == 1);
  CHECK(once([&] { REQUIRE(c.publish({.data = "x"}, {.transient = true})); }) == 1);
  CHECK(once([&] { REQUIRE(c.publish({.data = "x"}, {.audience = "user"})); }) == 1);
  CHECK(once([&] { REQUIRE(s.hub.publish_all({.data = "x"}) == 1); }) == 1);
  CHECK(once([&] { REQUIRE(s.hub.send(reader.id, {.data = "x"}) == sse::publish_error::none); }) ==
        1);
  CHECK(once([&] { REQUIRE(s.hub.send_user("user", {.data = "x"}) == 1); }) == 1);
  s.hub.finish(reader.id);
  CHECK(told.count() == 1);
  s.hub.flush();
  (void)s.join(c);
  s.hub.flush();
  (void)told.count();
  s.hub.drain();
  CHECK(told.count() == 1);
}

TEST_CASE("what nobody waits for asks for no flush", "[wanted][surface]") {
  stage s;
  asked told{s};
  sse::channel c = s.open("c", quiet());
  REQUIRE(c.publish({.data = "x"}));
  CHECK(told.count() == 0);
  sse::channel_options aged = quiet();
  aged.keep_age = sse::duration::seconds(5);
  sse::channel old = s.open("old", std::move(aged));
  REQUIRE(old.publish({.data = "x"}));
  CHECK(told.count() == 1);  // there is a deadline now
}

TEST_CASE("a hook that is told of a flush may change nothing", "[wanted][surface]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  (void)s.join(c);
  s.hub.flush();
  sse::publish_error seen = sse::publish_error::none;
  s.hub.on_wanted([&] { seen = c.publish({.data = "y"}).error; });
  REQUIRE(c.publish({.data = "x"}));
  CHECK(seen == sse::publish_error::in_hook);
}
