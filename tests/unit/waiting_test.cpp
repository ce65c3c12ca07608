// Requests whose verdict comes later (hub::wait): what is known before is said at once, and the
// others have a place under the caps while they wait.
#include <string>
#include <string_view>
#include <utility>

#include <sse/sse.hpp>

#include "caps_stage.hpp"
#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::when_full;
using test::quiet;
using test::stage;
using test::with_caps;
using waiting_place = sse::hub<sse::testing::memory_transport>::place;

const std::string stream_type = "text/event-stream";
const std::string json_type = "application/json";

test::caller begin_wait(stage& s, const test::ask& a, waiting_place& p) {
  const std::size_t peer = s.net.connect();
  return test::to_caller(
      peer, test::with_request(a, [&](const sse::request& r) { return s.hub.wait({peer}, r, p); }));
}

}  // namespace

TEST_CASE("waiting: a request holds a place until its verdict is there", "[admission][caps]") {
  stage s{with_caps({.total = {.max = 3}, .per_address = {.max = 1}})};
  sse::channel c = s.open("c", quiet());
  waiting_place first;
  CHECK_FALSE(first);
  const auto k = begin_wait(s, {.address = "10.0.0.1"}, first);
  CHECK(first);
  CHECK_FALSE(k);
  CHECK(s.hub.sessions() == 0);
  CHECK(s.hub.stats().refused == 0);
  // Of its address, and of all.
  waiting_place none;
  CHECK(begin_wait(s, {.address = "10.0.0.1"}, none).refusal.status == 429);
  CHECK_FALSE(none);
  CHECK(s.join(c, {.address = "10.0.0.1"}).refusal.status == 429);
  waiting_place second;
  CHECK_FALSE(begin_wait(s, {.address = "10.0.0.2"}, second));
  CHECK(second);
  CHECK(s.join(c));
  CHECK(begin_wait(s, {}, none).refusal.status == 429);
  CHECK_FALSE(none);
  CHECK(s.hub.stats().refused == 3);
  // Its stream takes the place over.
  s.hub.release(first);
  CHECK_FALSE(first);
  CHECK(s.join(c, {.address = "10.0.0.1"}));
  CHECK_FALSE(s.join(c));
  // Without one somebody else gets it; once.
  s.hub.release(second);
  s.hub.release(second);
  CHECK(s.join(c, {.address = "10.0.0.2"}));
  CHECK_FALSE(s.join(c));
  CHECK(s.hub.sessions() == 3);
}

TEST_CASE("waiting: who gets no stream in any case is told at once", "[admission]") {
  const auto then = GENERATE(when_full::refuse, when_full::retry_stream);
  stage s{with_caps({.total = {.max = 1, .then = then}})};
  sse::channel c = s.open("c", quiet());
  waiting_place p;
  CHECK(begin_wait(s, {.accept = json_type}, p).refusal.status == 406);
  CHECK_FALSE(p);
  REQUIRE(s.join(c));
  for (const std::string method : {"GET", "POST"}) {
    const auto k = begin_wait(s, {.method = method, .accept = stream_type}, p);
    CHECK_FALSE(p);
    CHECK(static_cast<bool>(k) == (then == when_full::retry_stream));
    if (k) {
      CHECK(s.take(k) == "retry: 5000\n\n");
      CHECK(s.closed(k));
    } else {
      CHECK(k.refusal.status == 429);
    }
  }
  CHECK(s.hub.stats().refused == 3);
  s.hub.drain();
  CHECK(begin_wait(s, {}, p).refusal.status == 503);
  CHECK_FALSE(p);
}

TEST_CASE("waiting: what may be no stream waits in any case, and counts while there is room",
          "[admission][caps]") {
  stage s{with_caps({.total = {.max = 2}})};
  sse::channel c = s.open("c", quiet());
  const test::ask post{.method = "POST", .accept = json_type};
  waiting_place first;
  waiting_place second;
  waiting_place third;
  CHECK_FALSE(begin_wait(s, post, first));
  CHECK_FALSE(begin_wait(s, post, second));
  CHECK(s.join(c).refusal.status == 429);
  CHECK_FALSE(begin_wait(s, post, third));
  CHECK(first);
  CHECK(second);
  CHECK(third);
  s.hub.release(third);  // had none
  CHECK(s.join(c).refusal.status == 429);
  s.hub.release(second);
  CHECK(s.join(c));
  CHECK_FALSE(s.join(c));
  s.hub.release(first);
  CHECK(s.join(c));
}

TEST_CASE("waiting: nobody goes for a request before it is admitted", "[admission][caps]") {
  stage s{with_caps({.total = {.max = 1, .then = when_full::evict_oldest}})};
  sse::channel c = s.open("c", quiet());
  const auto old = s.join(c);
  waiting_place p;
  CHECK_FALSE(begin_wait(s, {}, p));
  CHECK(p);
  CHECK_FALSE(s.closed(old));
  s.hub.release(p);
  CHECK(s.join(c));
  CHECK(s.closed(old));
}

TEST_CASE(
    "waiting: who loses the race for the last place does not wait, unless it may be no stream",
    "[admission][caps]") {
  struct racing final : sse::cap_counter {
    bool take(kind, std::string_view, std::uint32_t) noexcept override { return false; }
    void give_back(kind, std::string_view) noexcept override { FAIL_CHECK("nobody had it"); }
    std::uint32_t count(kind, std::string_view) noexcept override { return 0; }
  } counter;
  stage s{{.caps = {.total = {.max = 1}}, .counter = &counter}};
  waiting_place p;
  CHECK(begin_wait(s, {}, p).refusal.status == 429);
  CHECK_FALSE(p);
  CHECK(begin_wait(s, {.method = "POST", .accept = stream_type}, p).refusal.status == 429);
  CHECK_FALSE(p);
  CHECK_FALSE(begin_wait(s, {.method = "POST", .accept = json_type}, p));
  CHECK(p);
  s.hub.release(p);
}
