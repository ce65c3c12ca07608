// The two races of a mailbox, run again and again: a publisher that commits while the loop goes to
// sleep, and many publishers whose lanes are full. Nothing waits with a time-out: a wake-up is lost
// if the publisher's call returned, the loop sleeps, and nobody rang. SSEHUB_LITMUS=10000000 makes
// it that many tries; the default takes seconds.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <sse/mailbox.hpp>

#include "catch.hpp"
#include "environment.hpp"

namespace {

using sse::publish_error;
using sse::publish_result;

std::uint64_t tries() { return test::from_environment("SSEHUB_LITMUS", 1'000'000); }

/// Spins a while, then lets others run: on one core a spin alone would last a time slice.
class patience {
 public:
  void wait() noexcept {
    if (++spins_ % 64 == 0) std::this_thread::yield();
  }

 private:
  unsigned spins_ = 0;
};

/// A few instructions, so that the two sides meet at different places.
void dawdle(std::uint64_t n) noexcept {
  for (std::uint64_t i = 0; i < n; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
}

/// A bell that is heard without the kernel: sticky, as mailbox_options::wake asks.
struct polled_bell {
  alignas(64) std::atomic<std::uint64_t> rung{0};
  static void ring(void* self) noexcept {
    static_cast<polled_bell*>(self)->rung.fetch_add(1, std::memory_order_release);
  }
};

TEST_CASE("no wake-up is lost, a try at a time", "[mailbox][litmus][threads]") {
  const std::uint64_t n = tries();
  const std::uint64_t batched = GENERATE(0U, 1U);
  polled_bell b;
  sse::mailbox box{{.wake = &polled_bell::ring, .context = &b}};
  alignas(64) std::atomic<std::uint64_t> returned{0};  // calls of try_publish that are over
  alignas(64) std::atomic<std::uint64_t> taken{0};
  std::atomic<bool> stop{false};
  std::thread engine{[&, p = box.make_publisher(1, 1024)]() mutable {
    for (std::uint64_t i = 1; i <= n && !stop; ++i) {
      dawdle(i * 7 % 31);
      if (batched == 0) {
        if (p.try_publish("x") != publish_error::none) stop = true;
      } else {
        const auto both = p.batch();
        if (p.try_publish("x") != publish_error::none) stop = true;
      }
      returned.store(i, std::memory_order_release);
      patience self;
      while (taken.load(std::memory_order_acquire) != i && !stop) self.wait();
    }
  }};
  std::uint64_t lost = 0;
  std::uint64_t asked = 0;
  std::uint64_t slept = 0;
  std::uint64_t got = 0;
  while (got != n && lost == 0 && !stop) {
    ++asked;
    const std::uint64_t heard = b.rung.load(std::memory_order_acquire);
    if (box.prepare_sleep()) {
      ++slept;
      patience self;
      // `returned` first: a ring inside that call is visible then.
      while (b.rung.load(std::memory_order_acquire) == heard) {
        if (returned.load(std::memory_order_acquire) > got &&
            b.rung.load(std::memory_order_acquire) == heard) {
          ++lost;
          break;
        }
        self.wait();
      }
      box.awake();
    }
    dawdle(got % 13);
    got += box.drain([](const sse::mail&) {});
    taken.store(got, std::memory_order_release);
  }
  stop = true;
  engine.join();
  CHECK(lost == 0);
  CHECK(got == n);
  CHECK(slept > 0);
  CHECK(b.rung <= asked);  // at most one wake call for each prepare_sleep
  CHECK((box.counts() == sse::mail_counts{.accepted = n}));
}

TEST_CASE("no wake-up is lost with four publishers at once", "[mailbox][litmus][threads]") {
  constexpr std::uint64_t threads = 4;
  const std::uint64_t each = tries() / 4;
  polled_bell b;
  sse::mailbox box{{.wake = &polled_bell::ring, .context = &b}};
  std::atomic<std::uint64_t> returned{0};  // events whose call is over
  // Calls. Where one of several meets the sleeping loop it rings for the others too, and may not
  // have done it yet when theirs return: so a ring is missing only while no call is under way.
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> over{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> engines;
  for (std::uint64_t t = 0; t < threads; ++t) {
    engines.emplace_back([&, p = box.make_publisher(t, 1024)]() mutable {
      patience self;
      for (std::uint64_t i = 0; i < each && !stop;) {
        begun.fetch_add(1);
        const bool taken = p.try_publish("x") == publish_error::none;
        if (taken) {
          returned.fetch_add(1, std::memory_order_release);
          ++i;
        }
        over.fetch_add(1);
        if (!taken) self.wait();
        dawdle(i * 11 % 53);
      }
    });
  }
  std::uint64_t lost = 0;
  std::uint64_t got = 0;
  while (got != threads * each && lost == 0) {
    const std::uint64_t heard = b.rung.load(std::memory_order_acquire);
    if (box.prepare_sleep()) {
      patience self;
      while (b.rung.load(std::memory_order_acquire) == heard) {
        const std::uint64_t ended = over.load();
        if (returned.load(std::memory_order_acquire) > got && begun.load() == ended &&
            b.rung.load(std::memory_order_acquire) == heard) {
          ++lost;
          break;
        }
        self.wait();
      }
      box.awake();
    }
    got += box.drain([](const sse::mail&) {});
  }
  stop = true;
  for (std::thread& t : engines) t.join();
  CHECK(lost == 0);
  CHECK(got == threads * each);
}

TEST_CASE("accepted and refused are counted exactly while all lanes are full",
          "[mailbox][litmus][threads]") {
  constexpr std::uint64_t threads = 4;
  const std::uint64_t each = tries() / 10;
  const auto mode = GENERATE(sse::wake_mode::when_idle, sse::wake_mode::never);
  const std::string too_large(1000, 'x');  // for a lane of 1 KiB
  sse::mailbox box{{.mode = mode}};
  std::atomic<std::uint64_t> running{threads};
  sse::mail_counts seen[threads];
  std::atomic<std::uint64_t> wrong{0};
  std::vector<std::thread> engines;
  for (std::uint64_t t = 0; t < threads; ++t) {
    engines.emplace_back([&, t, p = box.make_publisher(t, 1024)]() mutable {
      sse::mail_counts& mine = seen[t];
      for (std::uint64_t i = 0; i < each; ++i) {
        const std::uint64_t next = mine.accepted;  // what is accepted has no hole
        const std::string_view data{reinterpret_cast<const char*>(&next), sizeof next};
        publish_error s = publish_error::none;
        switch (i % 5) {
          case 0: s = p.try_publish({.type = "\n", .data = data}).error; break;
          case 1: s = p.try_publish(too_large).error; break;
          case 2:
            s = p.try_emplace(8, [&](char* out, std::size_t) noexcept {
                   std::memcpy(out, data.data(), data.size());
                   return data.size();
                 }).error;
            break;
          default: s = p.try_publish(data).error;
        }
        switch (s) {
          case publish_error::none: ++mine.accepted; break;
          case publish_error::full: ++mine.full; break;
          case publish_error::too_large: ++mine.too_large; break;
          case publish_error::closed: ++mine.closed; break;
          default: ++mine.invalid;
        }
      }
      if (!(p.counts() == mine)) ++wrong;
      --running;
    });
  }
  std::uint64_t next[threads] = {};
  const auto take = [&](const sse::mail& m) {
    std::uint64_t i = 0;
    if (m.event.data.size() == sizeof i) std::memcpy(&i, m.event.data.data(), sizeof i);
    if (i != next[m.target]++) ++wrong;
  };
  while (running != 0) box.drain(take, 10);
  for (std::thread& t : engines) t.join();
  while (box.drain(take) != 0) {
  }
  CHECK(wrong == 0);
  sse::mail_counts sum;
  for (std::uint64_t t = 0; t < threads; ++t) {
    CHECK(next[t] == seen[t].accepted);
    CHECK(seen[t].accepted + seen[t].refused() == each);
    CHECK(seen[t].invalid == each / 5);
    CHECK(seen[t].too_large == each / 5);
    sum.accepted += seen[t].accepted;
    sum.full += seen[t].full;
    sum.too_large += seen[t].too_large;
    sum.invalid += seen[t].invalid;
  }
  CHECK(sum.full > 0);
  box.drain(take);
  CHECK((box.counts() == sum));
  CHECK(box.drained() == sum.accepted);
}

}  // namespace
