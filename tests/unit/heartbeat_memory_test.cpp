// What a heartbeat leaves behind.
#include <cstdint>

#include <sse/sse.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "stage.hpp"

#if TEST_ALLOCATIONS
TEST_CASE("heartbeats of one session hold no memory once they are out", "[time][heartbeat]") {
  test::stage s;
  sse::channel c = s.open("c", {.heartbeat = {.every = sse::duration::seconds(1)}});
  const auto k = s.join(c);
  std::int64_t before = 0;
  for (int second = 1; second <= 300; ++second) {
    s.at(second * 1000);
    CHECK_FALSE(s.take(k).empty());
    if (second == 100) before = test::live_bytes();
  }
  const std::int64_t after = test::live_bytes();
  CHECK(after - before < 1000);  // 200 frames that are kept have 4,912
}
#endif
