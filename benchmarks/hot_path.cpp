// The core's calls one by one, in Google Benchmark's terms: mean time, items per second.
//
//   bench_hot_path [--benchmark_filter=...] [--benchmark_format=json]
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include <sse/mailbox.hpp>
#include <sse/parse.hpp>
#include <sse/shards.hpp>
#include <sse/sse.hpp>

#include "null_transport.hpp"

namespace {

const std::string text(120, 'x');

void publish(benchmark::State& state) {
  bench::null_transport net;
  sse::hub<bench::null_transport> hub{net};
  sse::channel c = hub.open_channel("c");
  for (auto _ : state) benchmark::DoNotOptimize(c.publish({.type = "tick", .data = text}));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(publish);

/// Items are deliveries: `range(0)` subscribers, `range(1)` events per flush.
void publish_and_flush(benchmark::State& state) {
  bench::null_transport net;
  sse::hub<bench::null_transport> hub{net};
  sse::channel c = hub.open_channel("c");
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    if (!hub.accept({}, {}, sse::admit().join(c))) return state.SkipWithError("refused");
  }
  for (auto _ : state) {
    for (std::int64_t i = 0; i < state.range(1); ++i)
      benchmark::DoNotOptimize(c.publish({.type = "tick", .data = text}));
    while (hub.flush()) {
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0) * state.range(1));
}
BENCHMARK(publish_and_flush)->Args({1, 1})->Args({1000, 1})->Args({1000, 20})->Args({100'000, 1});

void lane(benchmark::State& state) {
  sse::mailbox mail{{.mode = sse::wake_mode::never}};
  sse::publisher p = mail.make_publisher(0, 1 << 20);
  std::size_t bytes = 0;
  for (auto _ : state) {
    for (int i = 0; i < 100; ++i)
      benchmark::DoNotOptimize(p.try_publish({.type = "tick", .data = text}));
    mail.drain([&](const sse::mail& m) { bytes += m.event.data.size(); });
  }
  benchmark::DoNotOptimize(bytes);
  state.SetItemsProcessed(state.iterations() * 100);
}
BENCHMARK(lane);

/// To the logs of `range(0)` shards, which all have one thread here.
void sequencer(benchmark::State& state) {
  sse::sequencer ticks;
  bench::null_transport net;
  std::vector<std::unique_ptr<sse::shard<bench::null_transport>>> shards;
  for (std::int64_t i = 0; i < state.range(0); ++i)
    shards.push_back(std::make_unique<sse::shard<bench::null_transport>>(ticks, net));
  for (auto _ : state) {
    for (int i = 0; i < 100; ++i)
      benchmark::DoNotOptimize(ticks.publish(0, {.type = "tick", .data = text}));
    for (auto& s : shards) s->turn(sse::time_point::milliseconds(0));
  }
  if (ticks.counts().refused() != 0) state.SkipWithError("refused");
  state.SetItemsProcessed(state.iterations() * 100);
}
BENCHMARK(sequencer)->Arg(1)->Arg(2)->Arg(4);

void parse(benchmark::State& state) {
  std::string in;
  for (int i = 0; i < 100; ++i)
    in += "id: 179525760000" + std::to_string(1000 + i) + "\nevent: tick\ndata: " + text + "\n\n";
  struct counter {
    std::size_t bytes = 0;
    void on_event(const sse::event& e) { bytes += e.data.size(); }
  } sink;
  for (auto _ : state) {
    sse::parser p;
    if (!p.feed(in, sink)) return state.SkipWithError("parse");
  }
  benchmark::DoNotOptimize(sink.bytes);
  state.SetItemsProcessed(state.iterations() * 100);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(in.size()));
}
BENCHMARK(parse);

}  // namespace

BENCHMARK_MAIN();
