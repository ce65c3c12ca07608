// What the servers under test share, so that they differ only in how an event reaches a socket: the
// command line, the frame, when to publish, the report.
//
//   bench_server_X [--port 0] [--connections N] [--rate R] [--size B] [--seconds S]
//                  [--publisher loop|thread] [--core C] [--publisher-core C] [--busy-poll]
//                  [--coalesce] [--max-lag BYTES] [--certificate FILE --key FILE]
//
// The first line on stdout is the port. A server waits until N streams are open, publishes R events
// per second for S seconds (R = 0: each as soon as every reader's socket took the one before), then
// one event "end", and serves until its readers are gone. The last line is a JSON object: what was
// published, socket writes, CPU seconds, memory.
//
// A frame is what the load generator reads:
//   id: 1795257600000001\nevent: tick\n
//   data: {"n":<1, 2, ...>,"t":<ns, CLOCK_MONOTONIC>,"pad":"..."}\n\n
// t is when the event was due, not when its server came round to it; flat out and from another
// thread: when it was made.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <string>
#include <string_view>

namespace bench {

inline std::int64_t now_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

[[noreturn]] inline void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

inline void pin(int core) {
  if (core < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(core), &set);
  // On a machine without that core everything runs where it can.
  (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

inline void allow_many_files() {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

struct options {
  int port = 0;
  std::uint64_t connections = 1;
  double rate = 100;  // events per second; 0: flat out
  std::size_t size = 180;
  double seconds = 1;
  bool thread = false;     // a thread of its own publishes
  bool busy_poll = false;  // the loop never sleeps
  bool coalesce = false;   // raw only
  // bytes a reader may be behind, in those that have such a limit
  std::uint64_t max_lag = std::uint64_t{64} << 20;
  int core = -1;
  int publisher_core = -1;
  std::string certificate;  // for those with TLS
  std::string key;
};

inline options read_options(int argc, char** argv) {
  options o;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    const auto value = [&]() -> const char* {
      if (i + 1 == argc) std::fprintf(stderr, "%s wants a value\n", argv[i]), std::exit(2);
      return argv[++i];
    };
    if (name == "--port")
      o.port = std::atoi(value());
    else if (name == "--connections")
      o.connections = std::strtoull(value(), nullptr, 10);
    else if (name == "--rate")
      o.rate = std::atof(value());
    else if (name == "--size")
      o.size = std::strtoull(value(), nullptr, 10);
    else if (name == "--seconds")
      o.seconds = std::atof(value());
    else if (name == "--publisher")
      o.thread = std::string_view{value()} == "thread";
    else if (name == "--busy-poll")
      o.busy_poll = true;
    else if (name == "--coalesce")
      o.coalesce = true;
    else if (name == "--max-lag")
      o.max_lag = std::strtoull(value(), nullptr, 10);
    else if (name == "--core")
      o.core = std::atoi(value());
    else if (name == "--publisher-core")
      o.publisher_core = std::atoi(value());
    else if (name == "--certificate")
      o.certificate = value();
    else if (name == "--key")
      o.key = value();
    else
      std::fprintf(stderr, "unknown: %s\n", argv[i]), std::exit(2);
  }
  pin(o.core);
  allow_many_files();
  return o;
}

inline void say_port(unsigned port) {
  std::printf("%u\n", port);
  std::fflush(stdout);
}

/// The data of event n, as long as makes a frame of `size` bytes with a 16-digit id.
class payload {
 public:
  explicit payload(std::size_t size) {
    constexpr std::size_t around =
        std::string_view{"id: 1795257600000001\nevent: tick\ndata: \n\n"}.size();
    text_ = R"({"n":0000000000,"t":0000000000000000000,"pad":")";
    n_ = text_.find("0000000000");
    t_ = text_.find("0000000000000000000", n_ + 10);
    while (text_.size() + 2 + around < size)
      text_.push_back(static_cast<char>('a' + text_.size() % 26));
    text_ += "\"}";
  }
  std::string_view make(std::uint64_t n, std::int64_t t) noexcept {
    put(n_ + 9, 10, n);
    put(t_ + 18, 19, static_cast<std::uint64_t>(t));
    return text_;
  }

 private:
  // A JSON number has no leading zeros: blanks instead, which may stand in front of it.
  void put(std::size_t last, int digits, std::uint64_t v) noexcept {
    for (int i = 0; i < digits; ++i, v /= 10) {
      text_[last - static_cast<std::size_t>(i)] =
          v != 0 || i == 0 ? static_cast<char>('0' + v % 10) : ' ';
    }
  }
  std::string text_;
  std::size_t n_ = 0;
  std::size_t t_ = 0;
};

constexpr std::uint64_t first_id = 1'795'257'600'000'000;

/// A whole frame, for servers that have no library to make it.
inline std::string make_frame(std::uint64_t n, std::string_view type, std::string_view data) {
  std::string out = "id: " + std::to_string(first_id + n) + "\nevent: ";
  return out.append(type).append("\ndata: ").append(data).append("\n\n");
}

/// When to publish. Call due() in each turn of the loop.
class pacer {
 public:
  pacer(double rate, double seconds) noexcept : rate_{rate}, seconds_{seconds} {}
  void start() noexcept { start_ = now_ns(); }
  [[nodiscard]] bool started() const noexcept { return start_ != 0; }
  [[nodiscard]] bool over() const noexcept { return over_; }
  [[nodiscard]] std::uint64_t published() const noexcept { return n_; }

  /// Calls publish(n, t) for each event that is due now. `idle`: flat out, nobody is behind.
  template <class F>
  void due(F&& publish, bool idle = true) {
    if (start_ == 0 || over_) return;
    const std::int64_t now = now_ns();
    if (rate_ > 0) {
      const std::int64_t end = start_ + static_cast<std::int64_t>(seconds_ * 1e9);
      for (std::int64_t t = time_of(n_ + 1); t <= now && t <= end; t = time_of(n_ + 1))
        publish(++n_, t);
      over_ = now > end;
    } else {
      if (idle) publish(++n_, now);
      over_ = static_cast<double>(now - start_) > seconds_ * 1e9;
    }
  }
  /// When due() is next needed; 0: at once.
  [[nodiscard]] std::int64_t next() const noexcept { return rate_ > 0 ? time_of(n_ + 1) : 0; }

 private:
  [[nodiscard]] std::int64_t time_of(std::uint64_t n) const noexcept {
    return start_ + static_cast<std::int64_t>(static_cast<double>(n) * 1e9 / rate_);
  }
  double rate_;
  double seconds_;
  std::int64_t start_ = 0;
  std::uint64_t n_ = 0;
  bool over_ = false;
};

/// Publishes from a thread of its own: sleeps between events, stamps each right before `publish(n,
/// t)`.
template <class F>
void publish_paced(const options& o, F&& publish) {
  pin(o.publisher_core);
  const std::int64_t start = now_ns();
  const auto events = static_cast<std::uint64_t>(o.rate * o.seconds);
  for (std::uint64_t n = 1; n <= events; ++n) {
    const std::int64_t t = start + static_cast<std::int64_t>(static_cast<double>(n) * 1e9 / o.rate);
    const timespec until{t / 1'000'000'000, t % 1'000'000'000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
    publish(n, now_ns());
  }
}

inline std::uint64_t resident_kb(const char* field) {
  std::ifstream in{"/proc/self/status"};
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(field))
      return std::strtoull(line.c_str() + std::strlen(field), nullptr, 10);
  }
  return 0;
}

inline void report(std::uint64_t published, std::uint64_t writes) {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](timeval t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  std::printf(
      "{\"published\":%llu,\"writes\":%llu,\"user_s\":%.3f,\"system_s\":%.3f,\"peak_kb\":%llu}\n",
      static_cast<unsigned long long>(published), static_cast<unsigned long long>(writes),
      seconds(used.ru_utime), seconds(used.ru_stime),
      static_cast<unsigned long long>(resident_kb("VmHWM:")));
  std::fflush(stdout);
}

}  // namespace bench
