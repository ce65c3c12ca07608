// What all that are too slow may hold together.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "slow_readers.hpp"
#include "stage.hpp"

namespace {

using sse::close_reason;
using sse::lag_policy;
using test::slow_readers;
using test::stage;

}  // namespace

// --- the cap of the whole hub ---

TEST_CASE("X-01 the hub's own cap sheds the worst laggard first and leaves the others alone",
          "[lag]") {
  constexpr std::uint64_t cap = 250'000;
  stage s{{.max_backlog = cap}};
  sse::channel a = s.open("a", slow_readers(lag_policy::disconnect, 0, 10));
  sse::channel b = s.open("b", slow_readers(lag_policy::disconnect, 0, 10));
  const std::string data(1000, 'x');
  const auto worst = s.join(a, {.window = 0});
  const auto fast = s.join(a);
  const auto mild = s.join(b, {.window = 0});
  std::uint64_t most = 0;
  for (int i = 0; i < 200; ++i) s.put(a, data);
  s.flush();
  const auto later = s.join(a, {.window = 0});
  for (int i = 0; i < 40; ++i) s.put(b, data);
  s.flush();
  CHECK(s.hub.sessions() == 4);
  for (int i = 0; i < 80; ++i) {
    s.put(a, data);
    s.flush();
    const std::uint64_t held = a.stats().backlog_bytes + b.stats().backlog_bytes;
    if (held > most) most = held;
  }
  CHECK(most <= cap);
  CHECK(s.closed(worst));
  CHECK(s.peer(worst).why == close_reason::hub_full);
  CHECK_FALSE(s.closed(later));
  CHECK_FALSE(s.closed(mild));
  CHECK(test::consecutive(test::ids_in(s.take(fast)), 1, 280));
  s.let(later);
  s.let(mild);
  CHECK(test::consecutive(test::ids_in(s.take(later)), 201, 280));
  CHECK(test::consecutive(test::ids_in(s.take(mild)), 1, 40));
  s.flush();
  CHECK(a.stats().backlog_bytes == 0);
  CHECK(b.stats().backlog_bytes == 0);
}

TEST_CASE("X-01 the hub's cap holds with a thousand stalled readers on many channels", "[lag]") {
  constexpr std::uint64_t cap = 1'000'000;
  stage s{{.max_backlog = cap}};
  std::vector<sse::channel> channels;
  for (int i = 0; i < 10; ++i) {
    channels.push_back(s.open("c" + std::to_string(i), slow_readers(lag_policy::disconnect, 0, 5)));
  }
  std::vector<test::caller> clients;
  const std::string data(900, 'x');
  std::uint64_t most = 0;
  for (std::size_t i = 0; i < 5000; ++i) {
    sse::channel c = channels[(i * 7 + i / 5) % 10];
    if (i % 5 == 0) clients.push_back(s.join(c, {.window = i * 13 % 3000}));
    s.put(c, data);
    s.flush();
    std::uint64_t held = 0;
    for (sse::channel x : channels) held += x.stats().backlog_bytes;
    if (held > most) most = held;
  }
  CHECK(most <= cap);
  CHECK(s.hub.stats().log_bytes < cap + 10 * 3 * 65536 + 16 * 65536);
  CHECK(s.hub.stats().closed[static_cast<std::size_t>(close_reason::hub_full)] > 100);
  CHECK(s.hub.sessions() > 10);
  // Whoever is left lost nothing.
  bool right = true;
  for (const auto& k : clients) {
    if (s.closed(k)) continue;
    s.let(k);
    const auto ids = test::ids_in(s.take(k));
    right = right && !ids.empty() && test::consecutive(ids, ids.front(), ids.back());
  }
  CHECK(right);
}
