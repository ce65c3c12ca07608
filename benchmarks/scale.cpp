// How far one process goes, on a transport in memory that takes all: each is measured at an eighth,
// a quarter and half of its size too, so that what grows faster than the size is seen.
//
//   bench_scale subscribers [--size 10000000] [--core C]   of one channel: memory; publish + flush
//   bench_scale channels    [--size 100000]   [--core C]   with 10 readers each: an event on all
//   bench_scale herd        [--size 10000]    [--core C]   readers that come back to 1,000 events
//                                                          each while 100 others are live
//
// One JSON object on stdout. `memory_mb`, `join_s` (opening all), `work_ms` are those of the full
// size; `*_growth` is how many times as much each doubling took: 2 where a part costs the same
// however many there are. `turn_ms`: the longest single call of accept or flush in a herd.
#include <malloc.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <sse/sse.hpp>

#include "null_transport.hpp"
#include "servers/common.hpp"

namespace {

using hub = sse::hub<bench::null_transport>;

struct figures {
  double memory = 0;  // bytes
  double join = 0;    // ns
  double work = 0;    // ns
  double turn = 0;    // ns
};

std::size_t user_memory() {
  const struct mallinfo2 m = mallinfo2();
  return m.uordblks + m.hblkhd;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

/// Nanoseconds of a call.
template <class F>
double timed(F&& f) {
  const std::int64_t start = bench::now_ns();
  f();
  return static_cast<double>(bench::now_ns() - start);
}

void join(hub& h, sse::channel c, sse::event_id after = sse::no_id) {
  auto v = sse::admit().join(c);
  const bool in = after == sse::no_id
                      ? static_cast<bool>(h.accept({}, {}, std::move(v)))
                      : static_cast<bool>(h.accept({}, {}, std::move(v).after(after)));
  if (!in) fail("refused");
}

void publish(sse::channel c) {
  static const std::string data(120, 'x');
  if (!c.publish({.type = "tick", .data = data})) fail("not published");
}

void flush(hub& h) {
  while (h.flush()) {
  }
}

figures subscribers(std::size_t n) {
  figures f;
  bench::null_transport net;
  hub h{net};
  sse::channel c = h.open_channel("all");
  const std::size_t before = user_memory();
  f.join = timed([&] {
    for (std::size_t i = 0; i < n; ++i) {
      join(h, c);
      if (i % 1000 == 999) flush(h);  // as a loop does: each stream opens with its position
    }
    flush(h);
  });
  f.memory = static_cast<double>(user_memory() - before);
  for (int i = 0; i < 4; ++i) {  // the first one touches what was never read
    const double once = timed([&] {
      publish(c);
      flush(h);
    });
    f.work = i < 2 || once < f.work ? once : f.work;
  }
  if (c.stats().delivered != 4 * n) fail("not all were delivered");
  return f;
}

figures channels(std::size_t n) {
  figures f;
  bench::null_transport net;
  hub h{net};
  std::vector<sse::channel> all;
  all.reserve(n);
  const std::size_t before = user_memory();
  f.join = timed([&] {
    for (std::size_t i = 0; i < n; ++i) {
      all.push_back(h.open_channel("channel " + std::to_string(i)));
      for (int k = 0; k < 10; ++k) join(h, all.back());
      flush(h);
    }
  });
  for (int i = 0; i < 4; ++i) {
    const double once = timed([&] {
      for (sse::channel c : all) publish(c);
      flush(h);
    });
    f.work = i < 2 || once < f.work ? once : f.work;
  }
  f.memory = static_cast<double>(user_memory() - before);
  if (all.back().stats().delivered != 40) fail("not all were delivered");
  return f;
}

figures herd(std::size_t n) {
  figures f;
  bench::null_transport net;
  hub h{net};
  sse::channel c = h.open_channel("all");
  for (int i = 0; i < 100; ++i) join(h, c);
  for (int i = 0; i < 1000; ++i) publish(c);
  h.flush();
  const sse::event_id after = c.last_id() - 999;
  const std::size_t before = user_memory();
  const auto turn = [&](auto&& call) {
    const double once = timed(call);
    f.work += once;
    if (once > f.turn) f.turn = once;
  };
  for (std::size_t i = 0; i < n; ++i) turn([&] { join(h, c, after); });
  f.join = f.work;
  for (bool more = true; more;) turn([&] { more = h.flush(); });
  f.memory = static_cast<double>(user_memory() - before);
  if (c.stats().delivered != 100 * 1000 + n * 999) fail("not all were delivered");
  return f;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  std::size_t size = what == "subscribers" ? 10'000'000 : what == "channels" ? 100'000 : 10'000;
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--size")
      size = std::strtoull(argv[i + 1], nullptr, 10);
    else if (name == "--core")
      bench::pin(std::atoi(argv[i + 1]));
    else
      return std::fprintf(stderr, "unknown: %s\n", argv[i]), 2;
  }
  const auto run = what == "subscribers" ? subscribers : what == "channels" ? channels : herd;
  if (run == herd && what != "herd") return std::fprintf(stderr, "which one?\n"), 2;
  figures first, last;
  for (std::size_t part = 8; part != 0; part /= 2) {
    last = run(size / part);
    if (part == 8) first = last;
  }
  const auto growth = [](double from, double to) { return std::cbrt(to / from); };
  const auto each = static_cast<double>(size);
  std::printf(
      "{\"size\":%zu,\"memory_mb\":%.1f,\"bytes_each\":%.1f,\"join_s\":%.3f,\"work_ms\":%.2f,"
      "\"ns_each\":%.1f,\"turn_ms\":%.3f,\"memory_growth\":%.3f,\"join_growth\":%.3f,"
      "\"work_growth\":%.3f}\n",
      size, last.memory / 1e6, last.memory / each, last.join / 1e9, last.work / 1e6,
      last.work / each, last.turn / 1e6, growth(first.memory, last.memory),
      growth(first.join, last.join), growth(first.work, last.work));
}
