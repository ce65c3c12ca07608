// A thousand readers of one gateway: a recording flat out, and the published numbers.
#if defined(GATEWAY_PROGRAM) && defined(__linux__)
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "catch.hpp"
#include "crowd.hpp"
#include "gateway/line_splitter.hpp"
#include "gateway/payload.hpp"
#include "gateway/replay.hpp"

using namespace test;

namespace {

using clock_type = std::chrono::steady_clock;

double ms_since(clock_type::time_point t) {
  return std::chrono::duration<double, std::milli>(clock_type::now() - t).count();
}

/// The data of each market event that a recording must give, in order.
std::vector<std::string> wanted_of(int fd) {
  std::vector<std::string> out;
  gateway::replay_source source;
  gateway::line_splitter lines;
  std::array<char, 65536> chunk;
  for (ssize_t n = 0; (n = ::read(fd, chunk.data(), chunk.size())) > 0;) {
    lines.feed({chunk.data(), static_cast<std::size_t>(n)}, [&](std::string_view line) {
      const auto m = source.parse_line(line);
      if (m.what == gateway::replay_kind::trade)
        out.push_back(gateway::to_json(gateway::market_event{m.symbol, m.ts_ns, m.price}));
    });
  }
  return out;
}

/// Where the body ends that holds all of them.
bool holds_all(const std::string& body, const std::vector<std::string>& wanted) {
  return body.ends_with(wanted.back() + "\n\n");
}

/// Every wanted event once, in order, under consecutive ids.
void check_body(const std::string& body, const std::vector<std::string>& wanted) {
  std::size_t markets = 0;
  std::uint64_t last = 0;
  std::string_view rest = body;
  while (!rest.empty()) {
    const std::size_t end = rest.find("\n\n");
    REQUIRE(end != std::string_view::npos);
    const std::string frame{rest.substr(0, end)};
    rest.remove_prefix(end + 2);
    if (frame.starts_with(':')) continue;
    const std::uint64_t id = std::stoull(client::field(frame, "id: "));
    if (last != 0) REQUIRE(id == last + 1);
    last = id;
    if (client::field(frame, "event: ") != "market") continue;
    REQUIRE(markets < wanted.size());
    REQUIRE(client::field(frame, "data: ") == wanted[markets]);
    ++markets;
  }
  CHECK(markets == wanted.size());
}

void read_all(crowd& readers, std::size_t n, const std::vector<std::string>& wanted) {
  const auto start = clock_type::now();
  const bool all = readers.run([&] {
    return readers.ended() > 0 ||
           (holds_all(readers.body(), wanted) && readers.having(readers.body().size()) == n);
  });
  const double ms = ms_since(start);
  CHECK(all);
  CHECK(readers.ended() == 0);
  CHECK(readers.all_equal());
  CHECK(readers.having(readers.body().size()) == n);
  check_body(readers.body(), wanted);
  std::cout << n << " readers got " << wanted.size() << " trades each in " << ms << " ms ("
            << static_cast<double>(n * wanted.size()) / ms / 1000 << " M events/s)\n";
}

std::filesystem::path recording() {
  const char* data = std::getenv("SSEHUB_DATA");
  const std::filesystem::path root =
      data != nullptr ? std::filesystem::path{data}
                      : std::filesystem::path{__FILE__}.parent_path() / "../../../shared/data";
  return root / "market/binance_spot_btcusdt_20240808.ndjson.gz";
}

}  // namespace

TEST_CASE("a recording flat out reaches each of 1000 readers whole and in order, early or late") {
  const std::filesystem::path file = recording();
  if (!std::filesystem::exists(file)) {
    WARN("skipped: " << file << " is absent (set SSEHUB_DATA to the directory that holds market/)");
    return;
  }
  if (!allow_descriptors(1200)) {
    WARN("skipped: this needs 1200 file descriptors");
    return;
  }
  const bool early = GENERATE(true, false);
  CAPTURE(early);
  std::error_code error;
  auto gzip = gateway::child_process::start({"gzip", "-dc", file.string()}, error);
  REQUIRE(gzip);
  ::fcntl(gzip->stdout_fd(), F_SETFL, 0);
  const std::vector<std::string> wanted = wanted_of(gzip->stdout_fd());
  REQUIRE(wanted.size() == 9757);

  // What the documentation says: zcat FILE | gateway --replay - --speed max
  std::vector<std::string> flags{"--replay",    "-", "--speed",       "max",
                                 "--heartbeat", "0", "--per-address", "0"};
  if (early) flags.insert(flags.end(), {"--wait-readers", "1000"});
  program gateway{flags, "gzip -dc " + file.string()};
  if (!early) REQUIRE(gateway.logs("replay ended after 9757 trades"));
  crowd readers{gateway.port(), 1000, early ? "/api/stream" : "/api/stream?last_id=0"};
  read_all(readers, 1000, wanted);
  CHECK(gateway.metric("sse_sessions") == 1000);
  CHECK(gateway.stop() == 0);
}

TEST_CASE("a replay flat out waits for readers that are slower than it") {
  std::string lines;
  std::vector<std::string> wanted;
  for (int i = 0; i < 20'000; ++i) {
    lines += std::to_string(i) + R"( {"e":"trade","s":"BTCUSDT","p":")" + std::to_string(i + 1) +
             R"(","T":)" + std::to_string(i) + "}\n";
    wanted.push_back(gateway::to_json(gateway::market_event{"BTCUSDT", i * 1'000'000LL, i + 1.0}));
  }
  directory dir;
  // Far more than a reader may be behind, and than is kept.
  program gateway{{"--replay", dir.file("recording", lines), "--speed", "max", "--wait-readers",
                   "50", "--max-lag", "20000", "--keep", "10", "--heartbeat", "0"}};
  crowd readers{gateway.port(), 50, "/api/stream"};
  read_all(readers, 50, wanted);
}

TEST_CASE("X-30 numbers: 1000 readers connect, and get one event") {
  if (!allow_descriptors(1200)) {
    WARN("skipped: this needs 1200 file descriptors");
    return;
  }
  constexpr std::size_t n = 1000;
  engine_pipes engine;
  program gateway{{"--engine", engine.command(), "--heartbeat", "0", "--per-address", "0"}};
  auto start = clock_type::now();
  crowd readers{gateway.port(), n, "/api/stream"};
  REQUIRE(readers.run([&] { return readers.opened() == n; }));
  const double connecting = ms_since(start);
  std::vector<double> ms;
  for (int i = 1; i <= 50; ++i) {
    const std::size_t before = readers.body().size();
    start = clock_type::now();
    engine.market(i);
    REQUIRE(readers.run([&] {
      return readers.body().size() > before && readers.body().ends_with("\n\n") &&
             readers.having(readers.body().size()) == n;
    }));
    ms.push_back(ms_since(start));
  }
  CHECK(readers.all_equal());
  CHECK(readers.ended() == 0);
  std::sort(ms.begin(), ms.end());
  std::cout << "X-30 " << n << " connections in " << connecting << " ms, " << connecting / n
            << " ms each (goal: under 100 ms); one event to all of them: median " << ms[25]
            << " ms (goal: under 10 ms), worst of 50: " << ms.back()
            << " ms (goal for p99: 50 ms)\n";
  CHECK(gateway.stop() == 0);
}
#endif
