// One event, one set of options, one result: whoever is published to.
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sse/server.hpp>
#include <sse/shards.hpp>
#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

/// Shown only to the compiler.
template <class Said>
constexpr bool is_a_result = std::same_as<Said, sse::publish_result>;

}  // namespace

TEST_CASE("an event, its options and the result are the same, whoever is published to",
          "[publish][surface]") {
  constexpr auto to_channel = [](sse::channel& c, const sse::event& e,
                                 const sse::publish_options& o) { return c.publish(e, o); };
  constexpr auto to_hub = [](test::stage& s, sse::channel c, const sse::event& e,
                             const sse::publish_options& o) { return s.hub.publish(c, e, o); };
  constexpr auto to_lane = [](sse::publisher& p, const sse::event& e,
                              const sse::publish_options& o) { return p.try_publish(e, o); };
  constexpr auto to_shards = [](sse::sequencer& s, std::size_t c, const sse::event& e,
                                const sse::publish_options& o) { return s.publish(c, e, o); };
  test::stage s;
  sse::channel c = s.open("c");
  sse::mailbox box;
  sse::publisher lane = box.make_publisher(1, 1024);
  sse::sequencer_options shared;
  shared.channels = {"c"};
  sse::sequencer order{std::move(shared)};
  STATIC_REQUIRE(is_a_result<decltype(to_channel(c, {}, {}))>);
  STATIC_REQUIRE(is_a_result<decltype(to_hub(s, c, {}, {}))>);
  STATIC_REQUIRE(is_a_result<decltype(to_lane(lane, {}, {}))>);
  STATIC_REQUIRE(is_a_result<decltype(to_shards(order, 0, {}, {}))>);

  const sse::event bad{.type = "two\nlines", .data = "x"};
  const sse::publish_options o{.audience = "ann", .transient = true, .key = "k"};
  for (const sse::publish_result r : {to_channel(c, bad, o), to_hub(s, c, bad, o),
                                      to_lane(lane, bad, o), to_shards(order, 0, bad, o)}) {
    CHECK_FALSE(r);
    CHECK(r == sse::publish_error::bad_type);
    CHECK(r.id == sse::no_id);
  }
  const sse::event good{.type = "t", .data = "x", .retry = 1000};
  for (const sse::publish_result r :
       {to_channel(c, good, o), to_hub(s, c, good, o), to_lane(lane, good, o)}) {
    CHECK(r == sse::publish_error::none);
  }
  CHECK(to_shards(order, 0, good, o) == sse::publish_error::closed);  // no shard follows it
}
