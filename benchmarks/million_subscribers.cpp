// One process, a million subscribers, a transport in memory that takes all: their memory, and one
// publish + flush to all.
//
//   bench_million_subscribers [--subscribers N] [--core C]     one JSON object on stdout
//
// `quiet_flush_us` is a publish and flush to ten readers of another channel while the million have
// nothing to get.
#include <malloc.h>

#include <algorithm>
#include <vector>

#include <sse/sse.hpp>

#include "null_transport.hpp"
#include "servers/common.hpp"

namespace {

std::size_t user_memory() {
  const struct mallinfo2 m = mallinfo2();
  return m.uordblks + m.hblkhd;
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t n = 1'000'000;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--subscribers")
      n = std::strtoull(argv[i + 1], nullptr, 10);
    else if (name == "--core")
      bench::pin(std::atoi(argv[i + 1]));
    else
      return std::fprintf(stderr, "unknown: %s\n", argv[i]), 2;
  }
  const std::string data(120, 'x');
  bench::null_transport net;
  sse::hub<bench::null_transport> hub{net};
  hub.tick(sse::time_point::milliseconds(1));
  const sse::channel all = hub.open_channel("all");
  const sse::channel few = hub.open_channel("few");
  const std::size_t before = user_memory();
  const std::int64_t joining = bench::now_ns();
  for (std::size_t i = 0; i < n; ++i) {
    if (!hub.accept({}, {}, sse::admit().join(all))) return std::fprintf(stderr, "refused\n"), 1;
    if (i % 1000 == 0) hub.flush();  // each turn of a loop does; what opens has a budget in each
  }
  const double join_s = static_cast<double>(bench::now_ns() - joining) / 1e9;
  const std::size_t memory = user_memory() - before;
  for (int i = 0; i < 10; ++i) {
    if (!hub.accept({}, {}, sse::admit().join(few))) return 1;
  }
  const auto timed = [&](sse::channel c) {
    const std::int64_t start = bench::now_ns();
    if (!c.publish({.type = "tick", .data = data})) std::exit(1);
    while (hub.flush()) {
    }
    return static_cast<double>(bench::now_ns() - start);
  };
  (void)timed(all);
  std::vector<double> to_all, to_few;
  for (int i = 0; i < 9; ++i) to_all.push_back(timed(all));
  (void)timed(few);
  for (int i = 0; i < 1000; ++i) to_few.push_back(timed(few));
  if (all.stats().delivered != 10 * n) return std::fprintf(stderr, "not all were delivered\n"), 1;
  std::printf(
      "{\"subscribers\":%zu,\"memory_mb\":%.1f,\"bytes_each\":%.1f,\"resident_mb\":%.1f,\"join_s\":"
      "%.3f,\"flush_ms\":%.2f,"
      "\"ns_each\":%.1f,\"quiet_flush_us\":%.2f}\n",
      n, static_cast<double>(memory) / 1e6, static_cast<double>(memory) / static_cast<double>(n),
      static_cast<double>(bench::resident_kb("VmRSS:")) / 1e3, join_s, median(to_all) / 1e6,
      median(to_all) / static_cast<double>(n), median(to_few) / 1e3);
}
