// What a hot thread pays for one event: the distribution of single calls, the loop on another core.
//
//   bench_publish_latency [--events N] [--core C] [--publisher-core C]
//
//   empty             the clock alone, beside a busy loop; taken off all others
//   try_publish       120 bytes into a lane; the loop is busy: it drains every 2 us and computes in
//                     between
//   try_publish_never the same with wake_mode::never
//   try_publish_polled, try_publish_never_polled
//                     the same while the loop does nothing but look into the lanes, so that each
//                     event meets its reader
//   try_format        the 120 bytes made of seven values, straight into the lane (sse/fmt.hpp,
//                     FMT_COMPILE)
//   format_to         {fmt} alone, into a buffer on the stack: the floor of try_format
//   bare_store        a sequentially consistent store into a line that the other core looks at
//                     every 2 us: what it costs at least to let the loop see that there is mail
//   mutex_queue       what it replaces: lock, push_back of a std::string, notify_one
//   edge_try_publish  one event after the loop has gone to sleep: the call wakes it through an
//                     eventfd
//   edge_mutex_queue  the same with the condition variable
//   edge_eventfd      the write to an eventfd that a thread sleeps on: the floor of the edges
//
// Where no second core is free the loop is not there while the publisher runs, and the edges cost a
// context switch.
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include <sse/fmt.hpp>
#include <sse/sse.hpp>

#include "null_transport.hpp"
#include "servers/common.hpp"

namespace {

/// A clock that costs little: the time stamp counter where there is one.
struct ticks {
  static std::uint64_t now() noexcept {
#if defined(__x86_64__)
    unsigned core = 0;
    return __rdtscp(&core);
#else
    return static_cast<std::uint64_t>(bench::now_ns());
#endif
  }
  static double ns() {
    const std::int64_t t0 = bench::now_ns();
    const std::uint64_t c0 = now();
    while (bench::now_ns() < t0 + 50'000'000) {
    }
    return static_cast<double>(bench::now_ns() - t0) / static_cast<double>(now() - c0);
  }
};

double tick_ns = 1;
double empty_ns = 0;
bool first_result = true;

void print(const char* name, std::vector<std::uint64_t>& samples, double other = 0) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double q) {
    const auto i = static_cast<std::size_t>(q * static_cast<double>(samples.size() - 1));
    return std::max(0.0, static_cast<double>(samples[i]) * tick_ns - empty_ns);
  };
  std::printf(
      "%s\"%s\":{\"p50_ns\":%.1f,\"p90_ns\":%.1f,\"p99_ns\":%.1f,\"p999_ns\":%.1f,\"events\":%zu,"
      "\"refused\":%.0f}",
      first_result ? "" : ",", name, at(0.5), at(0.9), at(0.99), at(0.999), samples.size(), other);
  first_result = false;
}

void pause_ns(double ns) noexcept {
  const std::uint64_t until = ticks::now() + static_cast<std::uint64_t>(ns / tick_ns);
  while (ticks::now() < until) {
  }
}

/// Counted by a thread that is about to sleep; it sleeps once it was given the time to.
std::atomic<std::uint64_t> naps{0};

void until_asleep(std::uint64_t& seen) {
  while (naps == seen) std::this_thread::yield();
  pause_ns(100'000);
  seen = naps;
}

/// Times `call` `n` times, with `gap` ns of other work between, in which the loop keeps up; gap 0:
/// until it sleeps.
template <class F>
std::vector<std::uint64_t> sample(std::size_t n, double gap, F&& call) {
  std::vector<std::uint64_t> out;
  out.reserve(n);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < n + n / 10; ++i) {
    if (gap == 0) until_asleep(seen);
    const std::uint64_t before = ticks::now();
    call();
    const std::uint64_t after = ticks::now();
    if (i >= n / 10) out.push_back(after - before);  // the first tenth warms up
    pause_ns(gap);
  }
  return out;
}

/// A hub's loop with a mailbox: drains and flushes; sleeps on an eventfd when there is nothing,
/// unless told to poll.
class engine_loop {
 public:
  enum class style { works, polls, sleeps };
  engine_loop(int core, style s, sse::wake_mode mode)
      : event_{eventfd(0, 0)}, mail_{{.wake = &wake, .context = this, .mode = mode}}, hub_{net_} {
    channel_ = hub_.open_channel("c");
    for (int i = 0; i < 10; ++i) (void)hub_.accept({}, {}, sse::admit().join(channel_));
    thread_ = std::thread{[this, core, s] { run(core, s); }};
  }
  engine_loop(const engine_loop&) = delete;
  engine_loop& operator=(const engine_loop&) = delete;
  ~engine_loop() {
    stop_ = true;
    wake(this);
    thread_.join();
    close(event_);
  }
  sse::publisher make_publisher() { return mail_.make_publisher(0, 1 << 20); }

 private:
  static void wake(void* self) noexcept {
    const std::uint64_t one = 1;
    if (write(static_cast<engine_loop*>(self)->event_, &one, sizeof one) < 0) std::abort();
  }
  void run(int core, style s) {
    bench::pin(core);
    while (!stop_) {
      mail_.drain([&](const sse::mail& m) { (void)hub_.publish(channel_, m.event); });
      hub_.flush();
      if (s == style::works) pause_ns(2000);
      if (s != style::sleeps || !mail_.prepare_sleep()) continue;
      std::uint64_t n = 0;
      ++naps;
      if (read(event_, &n, sizeof n) < 0) std::abort();
      mail_.awake();
    }
  }
  int event_;
  bench::null_transport net_;
  sse::mailbox mail_;
  sse::hub<bench::null_transport> hub_;
  sse::channel channel_ = {};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

/// A thread that looks at one line every 2 us.
class onlooker {
 public:
  explicit onlooker(int core)
      : thread_{[this, core] {
          bench::pin(core);
          while (line_.load(std::memory_order_acquire) != over) pause_ns(2000);
        }} {}
  ~onlooker() {
    store(over);
    thread_.join();
  }
  void store(std::uint64_t n) noexcept { line_.store(n, std::memory_order_seq_cst); }

 private:
  static constexpr std::uint64_t over = UINT64_MAX;
  alignas(64) std::atomic<std::uint64_t> line_{0};
  alignas(64) std::thread thread_;
};

/// What it replaces.
class mutex_queue {
 public:
  mutex_queue(int core, bool sleeps) : thread_{[this, core, sleeps] { run(core, sleeps); }} {}
  ~mutex_queue() {
    stop_ = true;
    push("end");
    thread_.join();
  }
  void push(std::string_view s) {
    {
      const std::lock_guard hold{mutex_};
      queue_.emplace_back(s);
    }
    filled_.notify_one();
  }

 private:
  void run(int core, bool sleeps) {
    bench::pin(core);
    std::size_t bytes = 0;
    std::deque<std::string> mine;
    while (!stop_) {
      {
        std::unique_lock hold{mutex_};
        naps += queue_.empty() ? 1 : 0;
        if (sleeps) filled_.wait(hold, [this] { return !queue_.empty(); });
        mine.swap(queue_);
      }
      for (const std::string& s : mine) bytes += s.size();
      mine.clear();
    }
    sum_ = bytes;
  }
  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<std::string> queue_;
  std::atomic<bool> stop_{false};
  std::atomic<std::size_t> sum_{0};
  std::thread thread_;
};

}  // namespace

int main(int argc, char** argv) {
  std::size_t events = 200'000;
  int core = 0;
  int publisher_core = 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--events")
      events = std::strtoull(argv[i + 1], nullptr, 10);
    else if (name == "--core")
      core = std::atoi(argv[i + 1]);
    else if (name == "--publisher-core")
      publisher_core = std::atoi(argv[i + 1]);
    else
      return std::fprintf(stderr, "unknown: %s\n", argv[i]), 2;
  }
  bench::pin(publisher_core);
  tick_ns = ticks::ns();
  constexpr double gap = 1000;  // ns between events: a million a second
  const std::size_t edges = std::max<std::size_t>(events / 100, 100);
  const std::string text(120, 'x');

  std::printf("{");
  using style = engine_loop::style;
  {
    engine_loop loop{core, style::works, sse::wake_mode::never};
    auto s = sample(events, gap, [] {});
    std::sort(s.begin(), s.end());
    empty_ns = static_cast<double>(s[s.size() / 2]) * tick_ns;
    print("empty", s);
  }
  double refused = 0;
  const auto check = [&](sse::publish_result s) {
    refused += s == sse::publish_error::none ? 0 : 1;
  };
  const auto lane_run = [&](const char* name, style how, sse::wake_mode mode, auto&& call) {
    engine_loop loop{core, how, mode};
    sse::publisher lane = loop.make_publisher();
    refused = 0;
    auto s = sample(events, gap, [&] { check(call(lane)); });
    print(name, s, refused);
  };
  const auto ready = [&](sse::publisher& p) {
    return p.try_publish({.type = "tick", .data = text});
  };
  lane_run("try_publish", style::works, sse::wake_mode::when_idle, ready);
  lane_run("try_publish_never", style::works, sse::wake_mode::never, ready);
  lane_run("try_publish_polled", style::polls, sse::wake_mode::when_idle, ready);
  lane_run("try_publish_never_polled", style::polls, sse::wake_mode::never, ready);

  std::uint64_t seq = 1'000'000;
  const auto format = [&](auto&& to) {
    ++seq;
    return to(
        FMT_COMPILE(
            R"({{"symbol":"{}","price":{}.{:02},"qty":{},"side":"{}","seq":{},"ts_ns":{},"venue":"sim"}})"),
        "BTCUSDT", 61'234 + seq % 100, seq % 100, seq % 1000, seq % 2 == 0 ? "BUY" : "SELL", seq,
        1'795'257'600'123'456'789 + seq);
  };
  lane_run("try_format", style::works, sse::wake_mode::when_idle, [&](sse::publisher& p) {
    return format([&](const auto& f, const auto&... v) {
      return sse::try_format<256>(p, {.type = "tick"}, f, v...);
    });
  });
  {
    char out[256];
    std::size_t bytes = 0;
    auto s = sample(events, gap, [&] {
      bytes += static_cast<std::size_t>(
          format([&](const auto& f, const auto&... v) { return fmt::format_to(out, f, v...); }) -
          out);
    });
    print("format_to", s, bytes == 0 ? 1 : 0);
  }
  {
    onlooker other{core};
    std::uint64_t n = 0;
    auto s = sample(events, gap, [&] { other.store(++n); });
    print("bare_store", s);
  }
  {
    mutex_queue q{core, true};
    auto s = sample(events, gap, [&] { q.push(text); });
    print("mutex_queue", s);
  }
  naps = 0;
  {
    engine_loop loop{core, style::sleeps, sse::wake_mode::when_idle};
    sse::publisher lane = loop.make_publisher();
    refused = 0;
    auto s = sample(edges, 0, [&] { check(ready(lane)); });
    print("edge_try_publish", s, refused);
  }
  naps = 0;
  {
    mutex_queue q{core, true};
    auto s = sample(edges, 0, [&] { q.push(text); });
    print("edge_mutex_queue", s);
  }
  naps = 0;
  {
    const int event = eventfd(0, 0);
    std::atomic<bool> stop{false};
    std::thread sleeper{[&] {
      bench::pin(core);
      std::uint64_t n = 0;
      while (!stop) {
        ++naps;
        if (read(event, &n, sizeof n) < 0) std::abort();
      }
    }};
    const auto poke = [&] {
      const std::uint64_t one = 1;
      if (write(event, &one, sizeof one) < 0) std::abort();
    };
    auto s = sample(edges, 0, poke);
    print("edge_eventfd", s);
    stop = true;
    poke();
    sleeper.join();
    close(event);
  }
  std::printf("}\n");
}
