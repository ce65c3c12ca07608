// Slow leaks inside pools, which no leak checker sees since the hub frees everything at its end:
// the live heap does not grow over ever new users, addresses, names, keys, audiences, skips, and
// ends of every kind.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/mailbox.hpp>
#include <sse/shards.hpp>
#include <sse/sse.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "stage.hpp"

#if TEST_ALLOCATIONS

namespace {

using sse::lag_policy;

/// Takes what its peers' windows allow, and forgets it: it needs no memory of its own.
template <bool Completes>
struct forgetful_transport {
  struct connection {
    std::size_t index = 0;
  };
  static constexpr bool completes = Completes;
  static constexpr std::size_t peers = 64;
  std::size_t window[peers] = {};
  std::size_t pending[peers] = {};
  std::size_t ends = 0;

  sse::write_result write(connection& c, std::span<const sse::buffer> bytes) noexcept {
    std::size_t all = 0;
    for (const sse::buffer& b : bytes) all += b.size;
    std::size_t& room = window[c.index];
    const std::size_t n = all < room ? all : room;
    if (room != SIZE_MAX) room -= n;
    if (n == 0) return {0, sse::flow::blocked};
    if constexpr (Completes) {
      pending[c.index] = n;
      return {n, sse::flow::pending};
    }
    return {n, room == 0 ? sse::flow::blocked : sse::flow::ready};
  }
  void close(connection&, sse::close_reason) noexcept { ++ends; }
};

/// How many more bytes are live at most, per round, in as many rounds again: pools become as large
/// as one needs in the first ones, and a log holds a segment more or less from round to round. What
/// one forgotten block per round costs is several times `leak`.
constexpr std::int64_t leak = 8;
template <class F>
std::int64_t most_growth(F&& round, int rounds = 300) {
  std::int64_t most[2] = {};
  for (int n = 0; n < 2 * rounds; ++n) {
    round(n);
    std::int64_t& m = most[n / rounds];
    if (test::live_bytes() > m) m = test::live_bytes();
  }
  return (most[1] - most[0]) / rounds;
}

sse::channel_options keeps_ten() {
  sse::channel_options o;
  o.keep = 10;
  o.heartbeat.mode = sse::heartbeat_options::pace::off;
  return o;
}

template <bool Completes>
struct basic_house {
  using transport = forgetful_transport<Completes>;
  transport net{};
  sse::hub<transport> hub;

  explicit basic_house(const sse::hub_options& o = {}) : hub{net, o} {
    hub.tick(sse::time_point::milliseconds(0));
  }
  sse::channel open(std::string_view name, sse::channel_options o = keeps_ten()) {
    sse::channel c = hub.open_channel(name, std::move(o));
    REQUIRE(c);
    return c;
  }
  sse::session_id join(sse::channel c, std::size_t peer, std::size_t window,
                       const test::ask& a = {}) {
    net.window[peer] = window;
    return test::with_request(a, [&](const sse::request& r) {
      return hub.accept({peer}, r, sse::admit(a.key).join(c)).id;
    });
  }
  void flush() {
    while (hub.flush()) {
    }
  }
  void let(sse::session_id id, std::size_t peer, std::size_t n) {
    net.window[peer] = n;
    hub.writable(id);
    flush();
  }
  void written(sse::session_id id, std::size_t peer) {
    hub.written(id, std::exchange(net.pending[peer], 0));
  }
  void put(sse::channel c, std::string_view data, const sse::publish_options& o = {}) {
    REQUIRE(c.publish({.type = "e", .data = data}, o));
  }
};
using house = basic_house<false>;
using completion_house = basic_house<true>;

std::string name(std::string_view what, int n) { return std::string{what} + std::to_string(n); }

TEST_CASE("heap: ever new users and addresses, admitted, refused and evicted", "[heap]") {
  for (const auto then :
       {sse::when_full::refuse, sse::when_full::evict_oldest, sse::when_full::retry_stream}) {
    sse::hub_options o;
    o.caps.per_user = {.max = 2, .then = then};
    o.caps.per_address = {.max = 3, .then = then};
    o.caps.total = {.max = 20, .then = then};
    house h{o};
    sse::channel c = h.open("c");
    const std::int64_t more = most_growth([&](int n) {
      std::vector<sse::session_id> all;
      for (int i = 0; i < 8; ++i) {
        const auto id =
            h.join(c, static_cast<std::size_t>(i), SIZE_MAX,
                   {.key = name("user-", n + i / 3), .address = name("10.0.", n + i / 4)});
        if (id) all.push_back(id);
      }
      h.put(c, std::string(1000, 'x'));
      h.flush();
      for (const auto id : all) h.hub.closed(id);
      h.flush();
      REQUIRE(h.hub.sessions() == 0);
    });
    CHECK(more < leak);
  }
}

TEST_CASE("heap: a hub that ends while writes are pending gives back what they read", "[heap]") {
  const std::int64_t before = test::live_bytes();
  {
    completion_house h;
    sse::channel c = h.open("c");
    const auto closed = h.join(c, 0, SIZE_MAX);
    h.written(closed, 0);
    h.written(h.join(c, 1, SIZE_MAX), 1);
    h.put(c, std::string(1000, 'x'));
    h.flush();
    REQUIRE(h.net.pending[0] > 1000);
    h.hub.closed(closed);
  }
  CHECK(test::live_bytes() == before);
}

TEST_CASE("heap: ever new channels, closed with and without readers, transients, keys, audiences",
          "[heap]") {
  house h;
  sse::channel stays = h.open("stays");
  const std::int64_t more = most_growth(
      [&](int n) {
        sse::channel_options o = keeps_ten();
        o.start = sse::start_at::snapshot;
        o.heartbeat.mode = sse::heartbeat_options::pace::fixed;
        o.heartbeat.every = sse::duration::seconds(30);
        const std::string text = name("a heartbeat's text that is long enough for the heap ", n);
        o.heartbeat.text = text;
        sse::channel a = h.open(name("a channel with a name that is long ", n), std::move(o));
        sse::channel b = h.open(name("b", n));
        for (int i = 0; i < 20; ++i) {
          h.put(a, "value", {.audience = name("aud", n + i), .key = name("key", n + i)});
          h.put(b, "typing", {.transient = true});
        }
        h.join(a, 0, SIZE_MAX);
        h.join(b, 1, 100);
        h.join(stays, 2, SIZE_MAX);
        h.put(stays, std::string(1000, 'x'));
        h.put(b, std::string(200, 'b'), {.transient = true});
        h.flush();
        h.hub.close_channel(n % 2 == 0 ? a : b);
        h.flush();
        h.hub.close_channel(n % 2 == 0 ? b : a);
        h.hub.close_all();
        h.flush();
      },
      1100);  // the hub remembers the last thousand names that it had
  CHECK(more < leak);
}

TEST_CASE("heap: ever new keys, audiences and sizes in a channel that keeps few", "[heap]") {
  house h;
  sse::channel_options o = keeps_ten();
  o.keep_bytes = 4000;
  o.max_keys = 8;
  o.on_lag = lag_policy::coalesce;
  o.max_lag = 3000;
  sse::channel c = h.open("c", std::move(o));
  const auto reader = h.join(c, 0, SIZE_MAX, {.key = "aud7"});
  const auto slow = h.join(c, 1, 0, {.key = "aud8"});
  // What a ring of entries, or a value's audience, grows to is reached by the first rounds.
  const std::int64_t more = most_growth([&](int n) {
    for (int i = 0; i < 12; ++i) {
      h.put(c, std::string(static_cast<std::size_t>(100 + i % 5), 'x'),
            {.audience = i % 3 == 0   ? ""
                         : i % 3 == 1 ? "aud7"
                                      : "aud8",
             .key = i % 4 == 0 ? name("key", n + i) : name("k", i)});
      h.flush();
    }
    h.let(slow, 1, n % 4 == 0 ? SIZE_MAX : 70);
    h.net.window[1] = 0;
  });
  CHECK(more < leak);
  CHECK(h.hub.alive(reader));
}

TEST_CASE("heap: a slow reader that is skipped forward over and over, or ends meanwhile",
          "[heap]") {
  for (const auto policy :
       {lag_policy::disconnect, lag_policy::oldest, lag_policy::tail, lag_policy::coalesce}) {
    for (const bool ends : {false, true}) {
      CAPTURE(static_cast<int>(policy), ends);
      house h;
      sse::channel_options o = keeps_ten();
      o.max_lag = 4000;
      o.on_lag = policy;
      sse::channel c = h.open("c", std::move(o));
      sse::session_id slow{};
      const std::int64_t more = most_growth(
          [&](int n) {
            if (!h.hub.alive(slow)) slow = h.join(c, 0, 0);
            for (int i = 0; i < 60; ++i) {
              h.put(c, std::string(150, 'x'), {.key = i % 2 == 0 ? "k" : ""});
              h.put(c, std::string(50, 'y'), {.transient = true});
              h.flush();
              if (i % 20 == 5) h.let(slow, 0, 77);
            }
            if (ends) {
              h.hub.closed(slow);
            } else {
              h.let(slow, 0, SIZE_MAX);
              h.net.window[0] = static_cast<std::size_t>(n % 5);
            }
            h.flush();
          },
          150);
      CHECK(more < leak);
    }
  }
}

TEST_CASE("heap: unicast and heartbeats that wait, are sent, or end with their session", "[heap]") {
  house h{{.control_lane = 2000}};
  sse::channel_options o = keeps_ten();
  o.heartbeat = {.every = sse::duration::milliseconds(500)};
  sse::channel c = h.open("c", std::move(o));
  std::int64_t now = 0;
  const std::int64_t more = most_growth([&](int n) {
    const auto id =
        h.join(c, 0, static_cast<std::size_t>(n % 3) * 500, {.key = "u", .preamble = "HEAD"});
    for (int i = 0; i < 30; ++i) {
      (void)h.hub.send(id, {.data = std::string(static_cast<std::size_t>(60 + i), 'u')});
      (void)h.hub.send_user("u", {.data = "to all"});
      h.hub.tick(sse::time_point::milliseconds(now += 300));
      if (i % 7 == 0) h.let(id, 0, 333);
      h.flush();
    }
    if (n % 2 == 0) h.let(id, 0, SIZE_MAX);
    if (n % 3 == 0) h.hub.finish(id);
    h.flush();
    h.hub.closed(id);
    h.flush();
  });
  CHECK(more < leak);
}

TEST_CASE("heap: every end of a session whose write is pending", "[heap][completion]") {
  completion_house h;
  sse::channel c = h.open("c");
  const std::int64_t more = most_growth([&](int n) {
    const auto id =
        h.join(c, 0, SIZE_MAX, {.key = name("u", n), .last_event_id = "0", .preamble = "H"});
    REQUIRE(id);
    for (int i = 0; i < 30; ++i) h.put(c, std::string(300, 'x'));
    h.flush();
    REQUIRE(h.net.pending[0] != 0);
    switch (n % 5) {
      case 0: h.hub.closed(id); break;
      case 1: REQUIRE(h.hub.revoke(name("u", n)) == 1); break;
      case 2: h.hub.finish(id); break;
      case 3: h.hub.close_all(); break;
      default: break;
    }
    for (int i = 0; i < 30; ++i) h.put(c, std::string(300, 'y'));
    h.flush();
    while (h.net.pending[0] != 0) {
      h.written(id, 0);
      h.flush();
    }
    h.hub.closed(id);
    h.flush();
  });
  CHECK(more < leak);
}

TEST_CASE("heap: a snapshot or a backfill that is cut at any point", "[heap]") {
  for (const bool snapshot : {true, false}) {
    CAPTURE(snapshot);
    house h{{.flush_share = 300}};
    sse::channel_options o = keeps_ten();
    if (snapshot) o.start = sse::start_at::snapshot;
    if (!snapshot) {
      o.backfill = [](const sse::backfill_request& r, sse::backfill_writer& w) {
        for (sse::event_id id = r.after + 1; id < r.before && w.bytes() < r.room; ++id)
          w.add(id, {.type = "old", .data = "from the store"});
        return sse::backfill_state::more;
      };
    }
    sse::channel c = h.open("c", std::move(o));
    for (int i = 0; i < 100; ++i) h.put(c, std::string(40, 'v'), {.key = name("k", i)});
    const std::int64_t more = most_growth([&](int n) {
      const auto id = h.join(c, 0, static_cast<std::size_t>(n % 50) * 17,
                             {.last_event_id = snapshot ? "" : "1", .chunked = n % 2 == 0});
      REQUIRE(id);
      h.flush();
      for (int i = 0; i < 10; ++i)
        h.put(c, std::string(40, 'w'), {.key = name("k", (n + i) % 100)});
      h.let(id, 0, 500);
      h.hub.closed(id);
      h.flush();
    });
    CHECK(more < leak);
  }
}

TEST_CASE("heap: readers that are shed for the hub's memory", "[heap]") {
  house h{{.max_backlog = 100'000}};
  std::vector<sse::channel> all;
  for (int i = 0; i < 4; ++i) {
    sse::channel_options o = keeps_ten();
    o.max_lag = 0;
    all.push_back(h.open(name("c", i), std::move(o)));
  }
  const std::int64_t more = most_growth(
      [&](int n) {
        for (std::size_t k = 0; k < 8; ++k) h.join(all[k % 4], k, 200 * k);
        for (int i = 0; i < 200; ++i) {
          h.put(all[static_cast<std::size_t>(i + n) % 4], std::string(1000, 'x'));
          h.flush();
        }
        REQUIRE(h.hub.stats().log_bytes < 3'000'000);
        h.hub.close_all();
        h.flush();
      },
      40);
  CHECK(more < leak);
}

TEST_CASE("heap: retained bytes follow what is published, with audiences and without", "[heap]") {
  house h;
  sse::channel_options o = keeps_ten();
  o.keep = 1'000'000;
  o.keep_bytes = 20'000;
  sse::channel c = h.open("c", std::move(o));
  const std::int64_t more = most_growth([&](int n) {
    for (int i = 0; i < 50; ++i)
      h.put(c, std::string(100, 'x'), {.audience = i % 2 == 0 ? name("someone ", n) : ""});
    h.flush();
    REQUIRE(h.hub.stats().log_bytes < 1'000'000);
  });
  CHECK(more < leak);
}

TEST_CASE("heap: caps that several hubs count together forget who is gone", "[heap][caps]") {
  using kind = sse::cap_counter::kind;
  sse::shared_caps caps;
  const std::int64_t more = most_growth([&](int n) {
    for (int i = 0; i < 20; ++i) {
      REQUIRE(caps.take(kind::user, name("a user with a long name ", n + i), 5));
      REQUIRE(caps.take(kind::address, name("an address that is long ", n + i), 5));
    }
    for (int i = 0; i < 20; ++i) {
      caps.give_back(kind::user, name("a user with a long name ", n + i));
      caps.give_back(kind::address, name("an address that is long ", n + i));
    }
  });
  CHECK(more < leak);
}

TEST_CASE("heap: publishers of a mailbox that come and go", "[heap][mailbox]") {
  sse::mailbox box;
  const std::int64_t more = most_growth([&](int n) {
    sse::publisher p = box.make_publisher(static_cast<std::uint64_t>(n), 1024);
    sse::publisher q = box.make_publisher(7, 4096);
    REQUIRE(p.try_publish("x") == sse::publish_error::none);
    if (n % 2 == 0) (void)box.drain([](const sse::mail&) {});
    q = std::move(p);
    (void)box.drain([](const sse::mail&) {});
  });
  CHECK(more < leak);
}

}  // namespace

#endif
