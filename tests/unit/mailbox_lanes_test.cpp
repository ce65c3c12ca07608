// Many lanes: the reader looks only into those with mail, and none is forgotten; lanes that have
// little room from the start take more and give it back.
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/mailbox.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::publish_error;
using sse::publish_result;
using sse::wake_mode;

constexpr int longer_than_patience = 100;  // drains

struct counted_bell {
  std::atomic<std::uint64_t> rung{0};
  static void ring(void* self) noexcept {
    static_cast<counted_bell*>(self)->rung.fetch_add(1, std::memory_order_release);
  }
  sse::mailbox_options options(wake_mode mode = wake_mode::when_idle) {
    return {.wake = &ring, .context = this, .mode = mode};
  }
};

std::vector<sse::publisher> make_many(sse::mailbox& box, std::uint64_t n,
                                      std::size_t bytes = 1024) {
  std::vector<sse::publisher> all;
  for (std::uint64_t i = 0; i < n; ++i) all.push_back(box.make_publisher(i, bytes));
  return all;
}

/// Lets others run now and then: on one core a spin alone would last a time slice.
void pause(std::uint64_t& spins) noexcept {
  if (++spins % 64 == 0) std::this_thread::yield();
}

TEST_CASE("mail of a lane that has gone to rest is found, whichever way it went there",
          "[mailbox][lanes]") {
  const auto mode = GENERATE(wake_mode::when_idle, wake_mode::never);
  const bool by_sleep = GENERATE(false, true);
  counted_bell b;
  sse::mailbox box{b.options(mode)};
  std::vector<sse::publisher> lanes = make_many(box, 50);
  test::random_source random{7};
  std::vector<std::uint64_t> sent(lanes.size());
  std::vector<std::uint64_t> got(lanes.size());
  std::uint64_t sleeps = 0;
  for (int round = 0; round < 300; ++round) {
    if (by_sleep) {
      REQUIRE(box.prepare_sleep());
      ++sleeps;
    } else {
      for (int i = 0; i < longer_than_patience; ++i) {
        REQUIRE(box.drain([](const sse::mail&) {}) == 0);
      }
    }
    for (std::uint64_t i = random.below(4) + 1; i != 0; --i) {
      const std::uint64_t lane = random.below(lanes.size());
      REQUIRE(lanes[lane].try_publish("x") == publish_error::none);
      ++sent[lane];
    }
    CHECK(b.rung == (mode == wake_mode::never ? 0 : sleeps));
    if (random.one_in(2)) CHECK_FALSE(box.prepare_sleep());
    box.drain([&](const sse::mail& m) { ++got[m.target]; });
    REQUIRE(got == sent);
  }
}

TEST_CASE("a publisher that ends leaves its mail and its counts, whatever its lane was doing",
          "[mailbox][lanes]") {
  const auto mode = GENERATE(wake_mode::when_idle, wake_mode::never);
  counted_bell b;
  sse::mailbox box{b.options(mode)};
  std::uint64_t sent = 0;
  std::uint64_t got = 0;
  const auto count = [&](const sse::mail&) { ++got; };
  const auto publish = [&](sse::publisher& p) {
    REQUIRE(p.try_publish("x") == publish_error::none);
    ++sent;
  };
  for (const bool with_mail : {false, true}) {
    std::optional<sse::publisher> never_met = box.make_publisher(1);
    if (with_mail) publish(*never_met);
    never_met.reset();

    std::optional<sse::publisher> listed = box.make_publisher(2);
    publish(*listed);
    std::optional<sse::publisher> looked_into = box.make_publisher(3);
    publish(*looked_into);
    std::optional<sse::publisher> at_rest = box.make_publisher(4);
    publish(*at_rest);
    box.drain(count);
    REQUIRE(box.prepare_sleep());
    publish(*listed);
    publish(*looked_into);
    box.drain(count);
    if (with_mail) {
      publish(*looked_into);
      publish(*at_rest);
    }
    listed.reset();
    looked_into.reset();
    at_rest.reset();

    std::optional<sse::publisher> in_batch = box.make_publisher(5);
    {
      auto batch = in_batch->batch();
      if (with_mail) publish(*in_batch);
    }
    in_batch.reset();

    // While the loop sleeps: mail wakes it, an end alone does not.
    std::optional<sse::publisher> late = box.make_publisher(6);
    box.drain(count);
    REQUIRE(box.prepare_sleep());
    const std::uint64_t heard = b.rung;
    if (with_mail) publish(*late);
    late.reset();
    CHECK(b.rung - heard <= (with_mail ? 1U : 0U));
    box.drain(count);
    CHECK(box.prepare_sleep());
  }
  CHECK(got == sent);
  CHECK((box.counts() == sse::mail_counts{.accepted = sent}));
}

TEST_CASE("close keeps what lies in lanes that are listed, and in those that are looked into",
          "[mailbox][lanes]") {
  const auto mode = GENERATE(wake_mode::when_idle, wake_mode::never);
  counted_bell b;
  sse::mailbox box{b.options(mode)};
  std::vector<sse::publisher> lanes = make_many(box, 20);
  for (sse::publisher& p : lanes) REQUIRE(p.try_publish("1") == publish_error::none);
  std::size_t got = box.drain([](const sse::mail&) {}, 5);  // all are looked into
  std::vector<sse::publisher> more = make_many(box, 20);
  for (sse::publisher& p : more) REQUIRE(p.try_publish("2") == publish_error::none);  // listed
  box.close();
  for (sse::publisher& p : lanes) CHECK(p.try_publish("3") == publish_error::closed);
  CHECK_FALSE(box.prepare_sleep());
  more.clear();
  got += box.drain([](const sse::mail&) {});
  CHECK(got == 40);
  CHECK(box.prepare_sleep());
  CHECK(b.rung == 0);
  CHECK((box.counts() == sse::mail_counts{.accepted = 40, .closed = 20}));
}

TEST_CASE("a mailbox may end with lanes listed, looked into and at rest", "[mailbox][lanes]") {
  auto box = std::make_unique<sse::mailbox>();
  std::vector<sse::publisher> lanes = make_many(*box, 30);
  for (sse::publisher& p : lanes) REQUIRE(p.try_publish("x") == publish_error::none);
  box->drain([](const sse::mail&) {});
  REQUIRE(box->prepare_sleep());
  for (std::size_t i = 0; i < 20; ++i) REQUIRE(lanes[i].try_publish("x") == publish_error::none);
  box->drain([](const sse::mail&) {}, 3);
  for (std::size_t i = 15; i < 25; ++i) REQUIRE(lanes[i].try_publish("x") == publish_error::none);
  auto batch = lanes[29].batch();
  REQUIRE(lanes[29].try_publish("x") == publish_error::none);
  box.reset();
  batch.commit();
  for (sse::publisher& p : lanes) CHECK(p.try_publish("x") == publish_error::closed);
}

TEST_CASE("a busy lane does not starve the others", "[mailbox][lanes]") {
  sse::mailbox box;
  sse::publisher busy = box.make_publisher(0);
  std::vector<sse::publisher> others;
  for (std::uint64_t i = 1; i <= 20; ++i) others.push_back(box.make_publisher(i, 1024));
  for (int i = 0; i < 100; ++i) REQUIRE(busy.try_publish("b") == publish_error::none);
  REQUIRE(box.drain([](const sse::mail&) {}, 10) == 10);  // it is looked into before the others
  for (sse::publisher& p : others) REQUIRE(p.try_publish("o") == publish_error::none);
  // The busy one gets as much as is taken, all the time.
  std::vector<std::uint64_t> got(21);
  std::uint64_t records = 0;
  while (records < 40 * 16) {
    const std::size_t n = box.drain(
        [&](const sse::mail& m) {
          ++got[m.target];
          if (m.target == 0) CHECK(busy.try_publish("b") == publish_error::none);
        },
        7);
    REQUIRE(n == 7);
    records += n;
  }
  for (std::uint64_t i = 1; i <= 20; ++i) {
    CAPTURE(i);
    CHECK(got[i] == 1);
  }
}

TEST_CASE("mail that is published while a drain runs waits for the next, in whichever lane",
          "[mailbox][lanes]") {
  sse::mailbox box;
  sse::publisher a = box.make_publisher(1);
  sse::publisher looked_into = box.make_publisher(2);
  sse::publisher at_rest = box.make_publisher(3);
  std::optional<sse::publisher> fresh;
  for (sse::publisher* p : {&a, &looked_into, &at_rest}) {
    REQUIRE(p->try_publish("x") == publish_error::none);
  }
  REQUIRE(box.drain([](const sse::mail&) {}) == 3);
  REQUIRE(box.prepare_sleep());
  REQUIRE(a.try_publish("x") == publish_error::none);
  REQUIRE(looked_into.try_publish("x") == publish_error::none);
  REQUIRE(box.drain([](const sse::mail&) {}) == 2);
  REQUIRE(a.try_publish("x") == publish_error::none);
  CHECK(box.drain([&](const sse::mail&) {
    fresh = box.make_publisher(4);
    for (sse::publisher* p : {&a, &looked_into, &at_rest, &*fresh}) {
      CHECK(p->try_publish("y") == publish_error::none);
    }
  }) == 1);
  CHECK_FALSE(box.prepare_sleep());
  CHECK(box.drain([](const sse::mail&) {}) == 4);
}

/// The lane behind a publisher.
sse::detail::mail_lane& lane_of(const sse::publisher& p) {
  static_assert(sizeof p == sizeof(sse::detail::mail_lane*));
  sse::detail::mail_lane* lane = nullptr;
  std::memcpy(static_cast<void*>(&lane), static_cast<const void*>(&p), sizeof lane);
  return *lane;
}

TEST_CASE("a loop that polls finds mail that became visible after its lane went to rest",
          "[mailbox][lanes]") {
  sse::mailbox box{{.mode = wake_mode::never}};
  std::vector<sse::publisher> lanes = make_many(box, 8);
  for (int i = 0; i < longer_than_patience; ++i) box.drain([](const sse::mail&) {});
  for (sse::publisher& p : lanes) {
    // What the reader sees of a publisher whose store of the tail comes late: it believed that the
    // lane is looked into, so it did not list it.
    sse::detail::mail_lane& lane = lane_of(p);
    REQUIRE_FALSE(lane.listed);
    const auto uncommitted = p.batch();
    REQUIRE(p.try_publish("late") == publish_error::none);
    lane.tail = lane.written;
    std::size_t got = 0;
    for (std::size_t i = 0; i < lanes.size(); ++i) got += box.drain([](const sse::mail&) {});
    CHECK(got == 1);
  }
}

TEST_CASE("no wake-up is lost with many lanes that wake up and go to rest",
          "[mailbox][litmus][threads][lanes]") {
  constexpr std::uint64_t threads = 3;
  constexpr std::uint64_t lanes = 40;  // of each thread
  constexpr std::uint64_t each = 60'000;
  counted_bell b;
  sse::mailbox box{b.options()};
  std::atomic<std::uint64_t> returned{0};  // events whose call is over
  std::atomic<std::uint64_t> begun{0};     // calls; see mailbox_litmus_test.cpp
  std::atomic<std::uint64_t> over{0};
  std::atomic<std::uint64_t> ended{0};  // publishers that were destroyed
  std::atomic<bool> stop{false};
  std::vector<std::thread> engines;
  for (std::uint64_t t = 0; t < threads; ++t) {
    engines.emplace_back([&, t, all = make_many(box, lanes)]() mutable {
      test::random_source random{t};
      std::uint64_t spins = 0;
      for (std::uint64_t i = 0; i < each && !stop;) {
        sse::publisher& p = all[random.below(lanes)];
        begun.fetch_add(1);
        const bool taken = p.try_publish("x") == publish_error::none;
        if (taken) {
          returned.fetch_add(1, std::memory_order_release);
          ++i;
        }
        over.fetch_add(1);
        if (!taken) pause(spins);
        for (std::uint64_t n = random.below(200); n != 0; --n) {
          std::atomic_signal_fence(std::memory_order_seq_cst);
        }
        if (random.one_in(500)) {
          p = box.make_publisher(t, 1024);
          ended.fetch_add(1);
        }
      }
    });
  }
  std::uint64_t lost = 0;
  std::uint64_t got = 0;
  std::uint64_t slept = 0;
  while (got != threads * each && lost == 0) {
    const std::uint64_t heard = b.rung.load(std::memory_order_acquire);
    if (box.prepare_sleep()) {
      ++slept;
      std::uint64_t spins = 0;
      while (b.rung.load(std::memory_order_acquire) == heard) {
        const std::uint64_t done = over.load();
        if (returned.load(std::memory_order_acquire) > got && begun.load() == done &&
            b.rung.load(std::memory_order_acquire) == heard) {
          ++lost;
          break;
        }
        pause(spins);
      }
      box.awake();
    }
    got += box.drain([](const sse::mail&) {}, 50);
  }
  stop = true;
  for (std::thread& t : engines) t.join();
  CHECK(lost == 0);
  CHECK(got == threads * each);
  CHECK(slept > 0);
  CHECK(ended > 0);
  CHECK(box.counts().accepted == got);
}

// --- lanes that have little room from the start

constexpr std::size_t lane_bytes = 64 << 10;
constexpr sse::mailbox_options frugal{.room_at_once = 0};

TEST_CASE("a lane with little room from the start holds as much mail as any, in order",
          "[mailbox][lanes]") {
  sse::mailbox box{frugal};
  sse::mailbox roomy;
  sse::publisher p = box.make_publisher(1, lane_bytes);
  sse::publisher q = roomy.make_publisher(1, lane_bytes);
  CHECK(p.max_bytes() == q.max_bytes());
  for (int round = 0; round < 5; ++round) {
    std::uint64_t n = 0;
    while (p.try_publish({reinterpret_cast<const char*>(&n), sizeof n}) == publish_error::none) ++n;
    std::uint64_t m = 0;
    while (q.try_publish({reinterpret_cast<const char*>(&m), sizeof m}) == publish_error::none) ++m;
    CAPTURE(round);
    CHECK(n + 1 >= m);  // a mark takes the place of a record
    std::uint64_t next = 0;
    bool in_order = true;
    const auto take = [&](const sse::mail& l) {
      std::uint64_t i = 0;
      std::memcpy(&i, l.event.data.data(), sizeof i);
      in_order = in_order && i == next++;
    };
    box.drain(take, 20);
    CHECK_FALSE(box.prepare_sleep());
    box.drain(take);
    CHECK(next == n);
    CHECK(in_order);
    CHECK(box.prepare_sleep());
    CHECK(roomy.drain([](const sse::mail&) {}) == m);
    // The largest there can be fits once it was drained.
    const std::string large(p.max_bytes(), 'l');
    REQUIRE(p.try_publish(large) == publish_error::none);
    CHECK(box.drain([&](const sse::mail& l) { CHECK(l.event.data == large); }) == 1);
  }
}

TEST_CASE("random sizes, drains and rests in lanes with little room: nothing lost or changed",
          "[mailbox][lanes]") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  test::random_source random{seed};
  sse::mailbox box{frugal};
  std::vector<sse::publisher> lanes = make_many(box, 3, 16384);
  struct traffic {
    std::vector<std::string> sent{};
    std::size_t got = 0;
  };
  std::vector<traffic> all(lanes.size());
  bool right = true;
  std::uint64_t full = 0;
  std::uint64_t slept = 0;
  for (int i = 0; i < 30'000; ++i) {
    const std::uint64_t lane = random.below(lanes.size());
    const std::size_t size = random.below(random.one_in(20) ? 8000 : 200);
    const std::string data(size, static_cast<char>('a' + i % 26));
    std::optional<sse::publish_batch> batch;
    if (random.one_in(4)) batch.emplace(lanes[lane].batch());
    for (std::uint64_t k = random.below(5); k != 0; --k) {
      const bool asked = random.one_in(3);
      const publish_error said = asked ? lanes[lane].room_for({.data = data}) : publish_error::none;
      if (asked && random.one_in(2)) (void)box.prepare_sleep();
      const publish_result s = lanes[lane].try_publish(data);
      if (asked) REQUIRE(s == said);
      if (s == publish_error::none) {
        all[lane].sent.push_back(data);
      } else {
        REQUIRE(s == publish_error::full);
        ++full;
      }
    }
    batch.reset();
    if (random.one_in(6)) {
      box.drain(
          [&](const sse::mail& m) {
            traffic& t = all[m.target];
            right = right && t.got < t.sent.size() && t.sent[t.got] == m.event.data;
            ++t.got;
          },
          random.one_in(2) ? random.below(30) : sse::mailbox::unlimited);
    }
    if (random.one_in(9) && box.prepare_sleep()) ++slept;
    if (random.one_in(500)) {
      for (int k = 0; k < longer_than_patience; ++k) {
        box.drain([&](const sse::mail& m) {
          traffic& t = all[m.target];
          right = right && t.got < t.sent.size() && t.sent[t.got] == m.event.data;
          ++t.got;
        });
      }
    }
  }
  box.drain([&](const sse::mail& m) { ++all[m.target].got; });
  CHECK(right);
  for (const traffic& t : all) CHECK(t.got == t.sent.size());
  CHECK(full > 0);
  CHECK(slept > 0);
}

TEST_CASE("bursts in lanes with little room, from other threads", "[mailbox][lanes][threads]") {
  const auto mode = GENERATE(wake_mode::when_idle, wake_mode::never);
  constexpr std::uint64_t threads = 2;
  constexpr std::uint64_t each = 30'000;
  sse::mailbox box{{.mode = mode, .room_at_once = 0}};
  std::atomic<std::uint64_t> running{threads};
  std::vector<std::thread> engines;
  for (std::uint64_t t = 0; t < threads; ++t) {
    engines.emplace_back([&, t, p = box.make_publisher(t, lane_bytes)]() mutable {
      test::random_source random{t};
      std::uint64_t spins = 0;
      char data[300] = {};
      for (std::uint64_t i = 0; i < each;) {
        const std::uint64_t burst = 1 + random.below(random.one_in(8) ? 300 : 3);
        for (std::uint64_t k = 0; k < burst && i < each; ++k) {
          const std::size_t size = sizeof i + random.below(sizeof data - sizeof i);
          std::memcpy(data, &i, sizeof i);
          data[size - 1] = static_cast<char>(i);
          if (size == sizeof i) std::memcpy(data, &i, sizeof i);
          if (p.try_publish({data, size}) == publish_error::none) {
            ++i;
          } else {
            pause(spins);
          }
        }
        for (std::uint64_t n = random.below(2000); n != 0; --n) {
          std::atomic_signal_fence(std::memory_order_seq_cst);
        }
      }
      --running;
    });
  }
  std::uint64_t next[threads] = {};
  std::uint64_t wrong = 0;
  const auto take = [&](const sse::mail& m) {
    std::uint64_t i = 0;
    std::memcpy(&i, m.event.data.data(), sizeof i);
    const bool last =
        m.event.data.size() == sizeof i || m.event.data.back() == static_cast<char>(i);
    if (i != next[m.target]++ || !last) ++wrong;
  };
  std::uint64_t slept = 0;
  std::uint64_t spins = 0;
  while (running != 0) {
    if (box.drain(take) == 0) pause(spins);
    if (box.prepare_sleep()) ++slept;
    box.awake();
  }
  for (std::thread& t : engines) t.join();
  while (box.drain(take) != 0) {
  }
  CHECK(wrong == 0);
  for (const std::uint64_t n : next) CHECK(n == each);
  CHECK(slept > 0);
}

#if TEST_ALLOCATIONS
TEST_CASE("what a burst took is given back when the lane goes to rest, and taken again",
          "[mailbox][lanes][allocation]") {
  const bool by_sleep = GENERATE(false, true);
  sse::mailbox box{frugal};
  sse::publisher p = box.make_publisher(1, lane_bytes);
  const std::string data(1000, 'x');
  const auto burst = [&](int n) {
    const std::uint64_t before = test::allocations();
    for (int i = 0; i < n; ++i) REQUIRE(p.try_publish(data) == publish_error::none);
    return test::allocations() - before;
  };
  CHECK(burst(3) == 0);
  CHECK(burst(10) == 1);
  box.drain([](const sse::mail&) {});
  CHECK(burst(13) == 0);  // it was not at rest
  for (int round = 0; round < 4; ++round) {
    box.drain([](const sse::mail&) {});
    if (by_sleep) {
      REQUIRE(box.prepare_sleep());
    } else {
      for (int i = 0; i < longer_than_patience; ++i) box.drain([](const sse::mail&) {});
    }
    CHECK(burst(3) == 0);
    CHECK(burst(10 + round % 2) == 1);
    // What is refused meanwhile keeps nothing.
    while (round == 1 && p.try_publish(data) == publish_error::none) {
    }
    if (round == 2) {
      box.drain([](const sse::mail&) {});
      CHECK(p.try_emplace(100, [](char*, std::size_t) noexcept { return 101; }) ==
            publish_error::too_large);
      const auto nothing = p.batch();
    }
  }
}

TEST_CASE("the lanes that have their room from the start allocate nothing, and leave it to others",
          "[mailbox][lanes][allocation]") {
  sse::mailbox box{{.room_at_once = 3 * lane_bytes}};
  const std::string data(1000, 'x');
  const auto fill = [&](sse::publisher& p) {
    const std::uint64_t before = test::allocations();
    while (p.try_publish(data) == publish_error::none) {
    }
    return test::allocations() - before;
  };
  {
    std::vector<sse::publisher> lanes = make_many(box, 5, lane_bytes);
    for (std::size_t i = 0; i < 5; ++i) {
      CAPTURE(i);
      CHECK(fill(lanes[i]) == (i < 3 ? 0U : 1U));
    }
    lanes.erase(lanes.begin());
    box.drain([](const sse::mail&) {});
    sse::publisher heir = box.make_publisher(9, lane_bytes);
    CHECK(fill(heir) == 0);
    sse::publisher late = box.make_publisher(10, lane_bytes);
    CHECK(fill(late) == 1);
  }
  box.drain([](const sse::mail&) {});
  std::vector<sse::publisher> again = make_many(box, 3, lane_bytes);
  for (sse::publisher& p : again) CHECK(fill(p) == 0);
}

TEST_CASE("a loop that may not sleep, for there is mail, is not woken", "[mailbox][lanes]") {
  counted_bell b;
  sse::mailbox box{b.options()};
  sse::publisher first = box.make_publisher(1, 1024);
  sse::publisher second = box.make_publisher(2, 1024);
  REQUIRE(first.try_publish("x") == publish_error::none);
  CHECK_FALSE(box.prepare_sleep());
  REQUIRE(second.try_publish("x") == publish_error::none);
  CHECK(b.rung == 0);
  CHECK(box.drain([](const sse::mail&) {}) == 2);
}

TEST_CASE("a loop that drains is awake: nobody wakes it", "[mailbox][lanes]") {
  counted_bell b;
  sse::mailbox box{b.options()};
  sse::publisher p = box.make_publisher(1, 1024);
  REQUIRE(box.prepare_sleep());
  CHECK(box.drain([](const sse::mail&) {}) == 0);
  REQUIRE(p.try_publish("x") == publish_error::none);
  CHECK(b.rung == 0);
}

TEST_CASE("a loop that goes to sleep frees the lanes of publishers that ended",
          "[mailbox][lanes][allocation]") {
  sse::mailbox box{{.room_at_once = 3 * lane_bytes}};
  std::vector<sse::publisher> lanes = make_many(box, 3, lane_bytes);
  for (sse::publisher& p : lanes) REQUIRE(p.try_publish("x") == publish_error::none);
  CHECK(box.drain([](const sse::mail&) {}) == 3);
  lanes.clear();
  CHECK(box.prepare_sleep());  // they have no mail: they do not keep it awake
  CHECK(box.counts().accepted == 3);
  // Their room is there again.
  lanes = make_many(box, 3, lane_bytes);
  const std::string data(1000, 'x');
  const std::uint64_t before = test::allocations();
  for (sse::publisher& p : lanes) {
    for (int i = 0; i < 20; ++i) REQUIRE(p.try_publish(data) == publish_error::none);
  }
  CHECK(test::allocations() == before);
}

TEST_CASE("a lane that gets no more room is full, and goes on when there is memory",
          "[mailbox][lanes][allocation]") {
  sse::mailbox box{frugal};
  sse::publisher p = box.make_publisher(1, lane_bytes);
  std::uint64_t sent = 0;
  {
    const test::failing_allocations none{0};
    while (p.try_publish("0123456789") == publish_error::none) ++sent;
    CHECK(none.hit());
    CHECK(p.try_publish("0123456789") == publish_error::full);
  }
  CHECK(sent > 50);
  REQUIRE(p.try_publish("more") == publish_error::none);
  CHECK(box.drain([](const sse::mail&) {}) == sent + 1);
}

TEST_CASE("a mailbox without memory is closed, whatever is asked of it",
          "[mailbox][lanes][allocation]") {
  std::optional<sse::mailbox> box;
  {
    const test::failing_allocations none{0};
    box.emplace();
  }
  CHECK_FALSE(*box);
  CHECK_FALSE(box->make_publisher(1));
  CHECK(box->drain([](const sse::mail&) {}) == 0);
  CHECK(box->prepare_sleep());
  box->awake();
  box->close();
  CHECK(box->counts().accepted == 0);
}

TEST_CASE("a publisher for which there is no memory is closed, and holds none",
          "[mailbox][lanes][allocation]") {
  sse::mailbox box{{.room_at_once = lane_bytes}};
  const std::int64_t before = test::live_bytes();
  std::uint64_t n = 0;
  for (bool failed = true; failed; ++n) {
    const test::failing_allocations fail{n};
    const sse::publisher p = box.make_publisher(1, lane_bytes);
    failed = fail.hit();
    CHECK(static_cast<bool>(p) != failed);
    if (failed) CHECK(test::live_bytes() == before);
  }
  CHECK(n == 3);
}

TEST_CASE("a mailbox that ends before it met a lane frees it", "[mailbox][lanes][allocation]") {
  const std::int64_t before = test::live_bytes();
  {
    sse::publisher p;
    sse::mailbox box;
    p = box.make_publisher(1, 1024);
    REQUIRE(p.try_publish("x") == publish_error::none);
  }
  CHECK(test::live_bytes() == before);
}

TEST_CASE("room that was promised stays, also where a lane would go to rest meanwhile",
          "[mailbox][lanes][allocation]") {
  sse::mailbox box{frugal};
  sse::publisher p = box.make_publisher(1, lane_bytes);
  const std::string large(20'000, 'x');
  const bool climbed = GENERATE(false, true);
  if (climbed) {
    REQUIRE(p.try_publish(large) == publish_error::none);
    REQUIRE(box.drain([](const sse::mail&) {}) == 1);
  }
  REQUIRE(p.room_for({.data = large}) == publish_error::none);
  REQUIRE(box.prepare_sleep());
  const test::failing_allocations none{0};
  CHECK(p.try_publish(large) == publish_error::none);
  CHECK(box.drain([&](const sse::mail& m) { CHECK(m.event.data == large); }) == 1);
}
#endif

}  // namespace
