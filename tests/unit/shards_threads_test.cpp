// Shards as they are meant: each in a thread of its own, engines publishing from others, clients
// that move between shards in the middle of it.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/shards.hpp>

#include "catch.hpp"
#include "shards_stage.hpp"

namespace {

using sse::publish_error;
using sse::publish_result;

/// A client on its way from one shard to another: what it got so far.
struct traveller {
  std::string received{};
  std::uint64_t last = 0;
  int journeys = 0;
};

/// A shard's thread: a loop that sleeps, and a door for clients that arrive.
class shard_thread {
 public:
  explicit shard_thread(sse::sequencer& s)
      : host_{std::make_unique<test::shard_host>(
            s, sse::shard_options{.wake = &wake, .context = this})} {}

  void start(std::vector<std::unique_ptr<shard_thread>>& all, int journeys, std::uint64_t end,
             std::atomic<std::size_t>& arrived) {
    thread_ = std::thread{[this, &all, journeys, end, &arrived] {
      run(all, journeys, end, arrived);
      if (!problem.empty()) arrived += 1000;
      arrived.notify_all();
    }};
  }
  void join() { thread_.join(); }

  void arrive(std::unique_ptr<traveller> t) {
    const std::scoped_lock lock{mutex_};
    arrivals_.push_back(std::move(t));
    rung_ = true;
    bell_.notify_one();
  }

  [[nodiscard]] test::shard_host& host() { return *host_; }
  std::vector<std::unique_ptr<traveller>> home{};  // those that saw the last event
  std::string problem{};

 private:
  static void wake(void* self) noexcept {
    auto& me = *static_cast<shard_thread*>(self);
    const std::scoped_lock lock{me.mutex_};
    me.rung_ = true;
    me.bell_.notify_one();
  }

  void run(std::vector<std::unique_ptr<shard_thread>>& all, int journeys, std::uint64_t end,
           std::atomic<std::size_t>& arrived) {
    auto& shard = *host_->shard;
    struct guest {
      test::caller at;
      std::unique_ptr<traveller> who;
    };
    std::vector<guest> guests;
    std::uint64_t turns = 0;
    for (;;) {
      shard.turn(sse::time_point::milliseconds(0));
      if (shard.hub().drained()) return;
      std::deque<std::unique_ptr<traveller>> fresh;
      {
        const std::scoped_lock lock{mutex_};
        fresh.swap(arrivals_);
      }
      for (auto& t : fresh) {
        test::caller k = host_->resume(t->last);
        if (!k) {
          problem = "refused: " + k.refusal.body;
          return;
        }
        guests.push_back({std::move(k), std::move(t)});
      }
      for (std::size_t i = 0; i < guests.size();) {
        guest& g = guests[i];
        const std::string got = host_->take(g.at);
        const std::vector<std::uint64_t> ids = test::ids_in(got);
        if (!ids.empty()) g.who->last = ids.back();
        g.who->received += got;
        const bool done = g.who->last == end;
        // On with it at once, with an id that the others may not have yet.
        const bool leaves = !ids.empty() && g.who->journeys < journeys && ++turns % 3 != 0;
        if (!done && !leaves) {
          ++i;
          continue;
        }
        shard.hub().closed(g.at.id);
        std::unique_ptr<traveller> t = std::move(g.who);
        guests.erase(guests.begin() + static_cast<std::ptrdiff_t>(i));
        if (done) {
          home.push_back(std::move(t));
          ++arrived;
          arrived.notify_all();
        } else {
          all[static_cast<std::size_t>(++t->journeys) % all.size()]->arrive(std::move(t));
        }
      }
      if (!shard.prepare_sleep()) continue;
      std::unique_lock lock{mutex_};
      if (!bell_.wait_for(lock, std::chrono::seconds{20}, [this] { return rung_; })) {
        problem = "nobody rang for a minute";
        return;
      }
      rung_ = false;
      shard.awake();
    }
  }

  std::mutex mutex_;
  std::condition_variable bell_;
  bool rung_ = false;
  std::deque<std::unique_ptr<traveller>> arrivals_;
  std::unique_ptr<test::shard_host> host_;
  std::thread thread_;
};

TEST_CASE("clients that move between shards while engines publish get everything once",
          "[shards][threads]") {
  constexpr std::uint64_t engines = 3;
  constexpr std::uint64_t each = 4000;
  constexpr std::uint64_t end = engines * each;
  constexpr std::size_t clients = 24;
  const std::size_t count = GENERATE(2U, 3U);
  sse::sequencer s{{.channel = [](std::string_view) { return sse::channel_options{.keep = end}; },
                    .lane_bytes = std::size_t{16} << 10}};
  std::vector<std::unique_ptr<shard_thread>> shards;
  for (std::size_t i = 0; i < count; ++i) {
    shards.push_back(std::make_unique<shard_thread>(s));
    REQUIRE(*shards.back()->host().shard);
  }
  for (std::size_t i = 0; i < clients; ++i)
    shards[i % count]->arrive(std::make_unique<traveller>());
  std::atomic<std::size_t> arrived{0};
  for (auto& t : shards) t->start(shards, 400, end, arrived);

  std::atomic<std::uint64_t> full{0};
  std::vector<std::thread> threads;
  sse::mailbox inbox;
  for (std::uint64_t e = 0; e < engines; ++e) {
    threads.emplace_back([&, e] {
      // One of them through an inbox of its own, as a hot thread would.
      sse::publisher hot = e == 0 ? inbox.make_publisher(0, 4096) : sse::publisher{};
      for (std::uint64_t i = 0; i < each;) {
        const std::string data = std::to_string(e) + " " + std::to_string(i);
        const publish_result r = e == 0 ? hot.try_publish({.type = "e", .data = data})
                                        : s.publish(0, {.type = "e", .data = data});
        if (r == publish_error::none) {
          ++i;
        } else {
          if (e != 0) ++full;
          if (r != publish_error::full) break;
          std::this_thread::yield();
        }
      }
    });
  }
  std::thread forwarder{[&] {
    while (inbox.drained() != each) {
      if (!s.forward(inbox)) std::this_thread::yield();
    }
  }};
  for (std::thread& t : threads) t.join();
  forwarder.join();
  CHECK(s.head() == end);
  CHECK((s.counts() == sse::mail_counts{.accepted = end, .full = full}));
  for (std::size_t n; (n = arrived) < clients;) arrived.wait(n);
  s.drain();
  for (auto& t : shards) t->join();

  std::size_t home = 0;
  for (auto& t : shards) {
    CHECK(t->problem == "");
    for (const auto& who : t->home) {
      ++home;
      bool right = test::consecutive(test::ids_in(who->received), 1, end);
      right = right && who->received.find("event: gap") == std::string::npos;
      for (std::uint64_t e = 0; right && e < engines; ++e) {
        std::uint64_t next = 0;
        const std::string mine = "data: " + std::to_string(e) + " ";
        for (std::size_t at = who->received.find(mine); at != std::string::npos;
             at = who->received.find(mine, at + 1)) {
          right = right && std::stoull(who->received.substr(at + mine.size(), 20)) == next++;
        }
        right = right && next == each;
      }
      CHECK(right);
      CHECK(who->journeys > 1);
    }
  }
  CHECK(home == clients);
  CHECK(s.all_channel_stats()[0].gaps == 0);
}

}  // namespace
