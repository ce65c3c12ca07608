// Options so small that a share of them is nothing.
#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

TEST_CASE("an age too short to be spread is kept to the millisecond: limit - 1, limit",
          "[time][age]") {
  test::stage s{{.max_age = sse::duration::milliseconds(9)}};
  sse::channel c = s.open("c");
  const auto k = s.join(c);
  s.at(8);
  CHECK_FALSE(s.closed(k));
  s.at(9);
  CHECK(s.closed(k));
  CHECK(s.peer(k).why == sse::close_reason::age);
}
