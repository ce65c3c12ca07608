// What publishing costs the thread that does it: through a lane of its own, and through the
// sequencer of 1, 2 and 4 shards.
//
//   bench_sequencer [events]
//
// All in one thread, the shards are emptied outside the clock: the cost of the call alone, nobody
// asleep. Medians and p99 of batches of 64 calls, per call.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <sse/shards.hpp>
#include <sse/testing.hpp>

namespace {

using steady = std::chrono::steady_clock;
constexpr int batch = 64;

/// Calls publish() in batches and empty() between them.
template <class Publish, class Empty>
void measure(const char* name, int events, Publish publish, Empty empty) {
  std::vector<double> ns;
  int refused = 0;
  for (int done = 0; done < events; done += batch) {
    const auto begin = steady::now();
    for (int i = 0; i < batch; ++i) refused += publish() ? 0 : 1;
    ns.push_back(std::chrono::duration<double, std::nano>(steady::now() - begin).count() / batch);
    empty();
  }
  std::sort(ns.begin(), ns.end());
  std::printf("%-28s p50 %6.1f ns  p99 %6.1f ns  refused %d\n", name, ns[ns.size() / 2],
              ns[ns.size() * 99 / 100], refused);
}

}  // namespace

int main(int argc, char** argv) {
  const int events = argc > 1 ? std::atoi(argv[1]) : 1'000'000;
  const std::string json(120, 'x');
  {
    sse::mailbox mail;
    sse::publisher p = mail.make_publisher(0);
    measure(
        "publisher::try_publish", events,
        [&] { return p.try_publish(json) == sse::publish_status::ok; },
        [&] { mail.drain([](const sse::mail&) {}); });
  }
  for (const std::size_t n : {1U, 2U, 4U}) {
    using transport = sse::testing::memory_transport;
    sse::sequencer ticks;
    transport net;
    std::vector<std::unique_ptr<sse::shard<transport>>> shards;
    for (std::size_t i = 0; i < n; ++i)
      shards.push_back(std::make_unique<sse::shard<transport>>(ticks, net));
    const std::string name = "sequencer, " + std::to_string(n) + " shards";
    double shard_ns = 0;
    std::size_t turns = 0;
    measure(
        name.c_str(), events, [&] { return static_cast<bool>(ticks.publish(0, {.data = json})); },
        [&] {
          const auto begin = steady::now();
          for (auto& s : shards) s->turn(sse::time_point::milliseconds(0));
          shard_ns += std::chrono::duration<double, std::nano>(steady::now() - begin).count();
          turns += shards.size();
        });
    std::printf("%-28s mean %5.1f ns per event and shard\n", "  taken into a shard's log",
                shard_ns / static_cast<double>(turns) / batch);
  }
}
