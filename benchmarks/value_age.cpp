// How old a price is when a slow line gets it: so many symbols, each updated so often in a second,
// into a socket that is read at so many bytes a second.
//
//   bench_value_age [--symbols 500] [--rate 100] [--line 20000] [--seconds 20] [--mode conflated]
//
// Modes: `conflated` (lag_policy::coalesce), `chosen` (watch_options::keys), `paced` (the same with
// max_bytes, for readers whose buffers the server cannot see), `plain` (each update, and a gap
// where the reader is too slow). One JSON object on stdout: ages in ms from publication to the
// reader, of those read in the second half of the run; `pass_ms`: bytes of all symbols by the line.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <sse/epoll.hpp>
#include <sse/watch.hpp>

#include "servers/common.hpp"

namespace {

struct plan {
  int symbols = 500;
  double rate = 100;
  double line = 20'000;
  double seconds = 20;
  std::string mode = "conflated";
};

plan read_plan(int argc, char** argv) {
  plan p;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--symbols") p.symbols = std::atoi(argv[i + 1]);
    if (name == "--rate") p.rate = std::atof(argv[i + 1]);
    if (name == "--line") p.line = std::atof(argv[i + 1]);
    if (name == "--seconds") p.seconds = std::atof(argv[i + 1]);
    if (name == "--mode") p.mode = argv[i + 1];
  }
  return p;
}

std::string symbol(int i) { return "SYM" + std::to_string(1000 + i); }

/// A price as a desk sends it, about 100 bytes on the wire.
std::string quote(int i, std::int64_t now) {
  return R"({"symbol":")" + symbol(i) + R"(","t":)" + std::to_string(now) +
         R"(,"price":49985.5,"qty":0.125,"side":"B"})";
}

/// The other end: a line of so many bytes a second, and how old what comes over it is.
class slow_reader {
 public:
  slow_reader(std::uint16_t port, const plan& p) : plan_{p}, fd_{socket(AF_INET, SOCK_STREAM, 0)} {
    const int least = 2304;  // the kernel's own minimum: what stands there ages
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &least, sizeof least);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) bench::fail("connect");
    constexpr std::string_view head = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if (send(fd_, head.data(), head.size(), MSG_NOSIGNAL) < 0) bench::fail("send");
  }
  ~slow_reader() { close(fd_); }
  slow_reader(const slow_reader&) = delete;
  slow_reader& operator=(const slow_reader&) = delete;

  void run() {
    const std::int64_t began = bench::now_ns();
    const auto half = began + static_cast<std::int64_t>(plan_.seconds * 5e8);
    const auto end = began + static_cast<std::int64_t>(plan_.seconds * 1e9);
    std::string rest;
    for (double had = 0; bench::now_ns() < end;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      const double due = plan_.line * static_cast<double>(bench::now_ns() - began) / 1e9 - had;
      char bytes[4096];
      const auto most = static_cast<std::size_t>(std::min(due, 4096.0));
      const ssize_t n = most == 0 ? 0 : recv(fd_, bytes, most, MSG_DONTWAIT);
      if (n <= 0) continue;
      had += static_cast<double>(n);
      rest.append(bytes, static_cast<std::size_t>(n));
      std::size_t at = 0;
      for (std::size_t to; (to = rest.find("\n\n", at)) != rest.npos; at = to + 2)
        take(std::string_view{rest}.substr(at, to - at), half);
      rest.erase(0, at);
    }
  }
  std::vector<double> ages;
  std::uint64_t gaps = 0;

 private:
  void take(std::string_view frame, std::int64_t from) {
    if (frame.find("event: gap") != frame.npos) ++gaps;
    const std::size_t at = frame.find("\"t\":");
    std::int64_t t = 0;
    if (at == frame.npos) return;
    std::from_chars(frame.data() + at + 4, frame.data() + frame.size(), t);
    const std::int64_t now = bench::now_ns();
    if (now >= from) ages.push_back(static_cast<double>(now - t) / 1e6);
  }

  const plan& plan_;
  int fd_;
};

double share(std::vector<double>& v, double part) {
  if (v.empty()) return -1;
  std::sort(v.begin(), v.end());
  return v[std::min(v.size() - 1, static_cast<std::size_t>(static_cast<double>(v.size()) * part))];
}

}  // namespace

int main(int argc, char** argv) {
  const plan p = read_plan(argc, argv);
  sse::epoll_server<> server{{.unsent = 4096}};
  sse::channel_options o{.keep = 1000, .max_keys = 10'000};
  o.on_lag = p.mode == "plain" ? sse::lag_policy::tail : sse::lag_policy::coalesce;
  const sse::channel c = server.open_channel("prices", o);
  std::vector<std::string> names;
  for (int i = 0; i < p.symbols; ++i) names.push_back(symbol(i));
  const std::vector<std::string_view> keys{names.begin(), names.end()};
  sse::watch_options how;
  if (p.mode == "chosen" || p.mode == "paced") how.keys = keys;
  if (p.mode == "paced") how.max_bytes = static_cast<std::uint32_t>(p.line * 0.95);
  server.stream("/", [&](const sse::request&) { return sse::admit().join(c, how); });
  if (server.listen("127.0.0.1", 0)) bench::fail("listen");

  std::atomic<bool> over = false;
  std::thread publisher{[&, lane = server.make_publisher(c, 1 << 22)]() mutable {
    const auto began = std::chrono::steady_clock::now();
    for (std::int64_t turn = 0; !over; ++turn) {  // each symbol once in each
      for (int i = 0; i < p.symbols; ++i) {
        const std::string data = quote(i, bench::now_ns());
        (void)lane.try_publish({.type = "q", .data = data},
                               {.key = keys[static_cast<std::size_t>(i)]});
      }
      std::this_thread::sleep_until(began + std::chrono::nanoseconds{static_cast<std::int64_t>(
                                                1e9 / p.rate * static_cast<double>(turn + 1))});
    }
  }};
  slow_reader reader{server.port(), p};
  std::thread reading{[&] {
    reader.run();
    over = true;
    server.stop();
  }};
  server.run();
  reading.join();
  publisher.join();
  const double pass = static_cast<double>(p.symbols) *
                      static_cast<double>(quote(0, bench::now_ns()).size() + 18) / p.line * 1e3;
  const auto read = reader.ages.size();
  std::printf(R"({"read":%zu,"p50_ms":%.1f,"p99_ms":%.1f,"max_ms":%.1f,"pass_ms":%.0f,"gaps":%llu})"
              "\n",
              read, share(reader.ages, 0.5), share(reader.ages, 0.99), share(reader.ages, 1), pass,
              static_cast<unsigned long long>(reader.gaps));
}
