// Slow leaks inside the hub's pools, which a leak checker cannot see since the hub frees them at
// its end: the live heap after many rounds of what is ever new must be that after a few.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "simulation/report.hpp"

namespace {

/// Takes `window` bytes of a connection and keeps nothing, so that the heap is the hub's alone.
template <bool Completes>
struct drain_transport {
  struct connection {
    std::size_t window = SIZE_MAX;
  };
  static constexpr bool completes = Completes;
  static sse::write_result write(connection& c, std::span<const sse::buffer> bytes) noexcept {
    std::size_t size = 0;
    for (const sse::buffer& b : bytes) size += b.size;
    if (size > c.window) size = c.window;
    c.window -= size;
    if (size == 0) return {0, sse::flow::blocked};
    if (Completes) return {size, sse::flow::pending};
    return {size, c.window == 0 ? sse::flow::blocked : sse::flow::ready};
  }
  static void close(connection&, sse::close_reason) noexcept {}
};

template <bool Completes>
struct small_stage {
  drain_transport<Completes> net;
  sse::hub<drain_transport<Completes>> hub;
  explicit small_stage(const sse::hub_options& o = {}) : hub{net, o} {}

  sse::session_id join(sse::channel c, std::size_t window = SIZE_MAX, std::string user = {},
                       std::string_view address = {}) {
    auto v = sse::admit(std::move(user));
    v.join(c);
    return hub.accept({window}, {.address = address}, std::move(v)).id;
  }
  void flush() {
    while (hub.flush()) {
    }
  }
};

/// Bytes that the least heap of `many` calls of round(i) is above that of the calls before.
constexpr int many = 3000;
template <class F>
std::int64_t growth(F&& round) {
  int i = 0;
  const auto run = [&] {
    std::uint64_t least = UINT64_MAX;
    for (const int end = i + many; i < end; ++i) {
      round(i);
      if (i % 20 == 0) least = std::min(least, simulation::live_heap());
    }
    return static_cast<std::int64_t>(least);
  };
  run();
  const std::int64_t before = run();
  return run() - before;
}
constexpr std::int64_t little = 2 * many;  // bytes

std::string name(const char* what, int i) { return std::string(what) + std::to_string(i); }

}  // namespace

TEST_CASE("X-10 the heap does not grow over ever new users, addresses and audiences", "[heap]") {
  small_stage<false> s{{.caps = {.per_user = {.max = 2}}}};
  sse::channel c = s.hub.open_channel("c", {.keep = 20});
  CHECK(growth([&](int i) {
          const std::string user = name("user-", i);
          const auto id = s.join(c, SIZE_MAX, user, name("address-", i));
          (void)c.publish({.data = "x"}, {.audience = user});
          (void)c.publish({.data = "x"}, {.audience = name("somebody-", i)});
          s.flush();
          (void)s.hub.send(id, {.data = "x"});
          s.hub.closed(id);
        }) < little);
  CHECK(s.hub.sessions() == 0);
}

TEST_CASE("X-10 the heap does not grow over readers that end while they are skipped", "[heap]") {
  for (const auto policy :
       {sse::lag_policy::oldest, sse::lag_policy::tail, sse::lag_policy::coalesce}) {
    CAPTURE(static_cast<int>(policy));
    small_stage<false> s{{.flush_share = 200}};
    sse::channel c =
        s.hub.open_channel("c", {.keep = 5, .max_lag = 500, .on_lag = policy, .max_keys = 4});
    const std::string wide(100, 'x');
    CHECK(growth([&](int i) {
            const auto id = s.join(c, 30);
            for (int n = 0; n < 10; ++n) {
              const std::string key = n % 3 == 0 ? std::string{} : name("key-", i * 10 + n);
              (void)c.publish({.data = wide}, {.key = key});
            }
            s.flush();
            if (i % 2 == 0) {
              s.hub.find(id)->window = 400;
              s.hub.writable(id);
              s.flush();
            }
            (void)s.hub.send(id, {.data = wide});
            s.hub.close(id);
          }) < little);
  }
}

TEST_CASE("X-10 the heap does not grow over writes that outlive their sessions", "[heap]") {
  small_stage<true> s;
  sse::channel c = s.hub.open_channel("c", {.keep = 5, .start = sse::start_at::all});
  for (int i = 0; i < 5; ++i) (void)c.publish({.data = "x"});
  CHECK(growth([&](int i) {
          const auto id = s.join(c);
          sse::buffer room[2];
          if (i % 2 == 0) s.hub.written(id, 1000);
          if (i % 4 == 0) {
            (void)c.publish({.data = "x"});
            (void)s.hub.peek(id, room);
          }
          (void)c.publish({.data = "x"});
          s.flush();
          s.hub.closed(id);
          s.hub.written(id, i % 3 == 0 ? 0 : 1000);
        }) < little);
  CHECK(s.hub.sessions() == 0);
}
