// Recorded feeds: reading, pacing, and the real data if it is there.
#include "gateway/replay.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>

#include "catch.hpp"
#include "gateway/line_splitter.hpp"
#include "gateway/order_store.hpp"
#include "gateway/pacing.hpp"
#include "gateway/process.hpp"
#include "gateway/simulator.hpp"

using namespace gateway;

namespace {
constexpr std::int64_t second = ns_per_second;
constexpr const char* trade_line =
    R"(1723161254087896568 {"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,)"
    R"("p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}})";
}  // namespace

TEST_CASE("V-07 V-14 a recorded trade gives symbol, price and trade time") {
  replay_source source;
  const replay_message m = source.parse_line(trade_line);
  REQUIRE(m.what == replay_kind::trade);
  CHECK(m.symbol == "BTCUSDT");
  CHECK(m.price == 61837.63);
  CHECK(m.ts_ns == 1723161255342000000);
  CHECK(m.local_ns == 1723161254087896568);
  CHECK(source.parse_line(R"(5 {"e":"trade","s":"X","p":1.5,"T":2})").what == replay_kind::trade);
}

TEST_CASE("other messages and blank lines of a recording are no errors") {
  replay_source source;
  const replay_message m = source.parse_line(
      R"(7 {"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"1","B":"2","a":"3","A":"4"}})");
  CHECK(m.what == replay_kind::other);
  CHECK(m.local_ns == 7);
  CHECK(source.parse_line(R"(7 {"lastUpdateId":1,"bids":[["1","2"]],"asks":[]})").what ==
        replay_kind::other);
  CHECK(source.parse_line(R"(7 {"data":{"e":"depthUpdate"}})").what == replay_kind::other);
  CHECK(source.parse_line("").what == replay_kind::blank);
  CHECK(source.parse_line(" \r").what == replay_kind::blank);
}

TEST_CASE("V-32 lines of a recording that cannot be read are bad, and nothing worse") {
  replay_source source;
  for (const char* line : {"x",
                           "{}",
                           "1",
                           "1 ",
                           "1 {",
                           "1{}",
                           "1 []",
                           "-1 {}",
                           "99999999999999999999 {}",
                           "1 {} x",
                           "1.5 {}",
                           R"(1 {"e":"trade"})",
                           R"(1 {"e":"trade","s":"X","p":"abc","T":1})",
                           R"(1 {"e":"trade","s":"X","p":"0","T":1})",
                           R"(1 {"e":"trade","s":"X","p":"inf","T":1})",
                           R"(1 {"e":"trade","s":"X","p":"1","T":-1})",
                           R"(1 {"e":"trade","s":"X","p":"1","T":9223372036855})",
                           R"(1 {"e":"trade","s":"X","p":"1","T":"1"})",
                           R"(1 {"e":"trade","s":"X Y","p":"1","T":1})",
                           R"(1 {"e":"trade","s":"","p":"1","T":1})"}) {
    CAPTURE(line);
    CHECK(source.parse_line(line).what == replay_kind::bad);
  }
}

TEST_CASE("V-32 an error is told at most once in 5 s") {
  error_limiter limiter;
  CHECK(limiter.allow(0));
  CHECK_FALSE(limiter.allow(0));
  CHECK_FALSE(limiter.allow(5 * second - 1));
  CHECK(limiter.allow(5 * second));
  CHECK_FALSE(limiter.allow(9 * second));
  CHECK(limiter.allow(100 * second));
  CHECK(limiter.suppressed() == 3);
  int told = 0;
  error_limiter busy;
  for (std::int64_t t = 0; t < 60 * second; t += second / 100) told += busy.allow(t);
  CHECK(told == 12);
}

TEST_CASE("the pacer keeps the recorded spacing, divided by the speed") {
  pacer x1{1};
  CHECK(x1.due_ns(1000, 50) == 50);
  CHECK(x1.due_ns(1010, 51) == 60);
  CHECK(x1.due_ns(1005, 51) == 60);  // the recording's clock went back
  CHECK(x1.due_ns(900, 51) == 60);
  CHECK(x1.due_ns(1020, 999) == 70);  // late: due already
  x1.rewind();
  CHECK(x1.due_ns(1000, 1000) == 1000);
  CHECK(x1.due_ns(1010, 1000) == 1010);

  pacer x10{10};
  CHECK(x10.due_ns(1723161254087896568, 7) == 7);
  CHECK(x10.due_ns(1723161254187896568, 7) == Approx(10'000'007).margin(100));

  pacer flat_out{*parse_speed("max")};
  CHECK(flat_out.due_ns(1000, 50) == 50);
  CHECK(flat_out.due_ns(std::numeric_limits<std::int64_t>::max(), 50) == 50);

  pacer slow{1e-300};
  CHECK(slow.due_ns(0, 50) == 50);
  CHECK(slow.due_ns(1, 50) == std::numeric_limits<std::int64_t>::max());
}

TEST_CASE("the value of --speed is a number above 0 or max") {
  CHECK(parse_speed("10") == 10.0);
  CHECK(parse_speed("0.5") == 0.5);
  for (const char* bad : {"", "0", "-1", "x", "inf", "nan", "MAX", "1x"})
    CHECK_FALSE(parse_speed(bad));
}

TEST_CASE(
    "V-50 an engine that ends is started again after 1 s doubling to 30 s, and 1 s after a good "
    "run") {
  restart_backoff backoff;
  std::int64_t now = 0;
  for (const std::int64_t seconds : {1, 2, 4, 8, 16, 30, 30}) {
    backoff.started(now);
    now += second;
    const std::int64_t delay = backoff.ended(now);
    CHECK(delay == seconds * second);
    now += delay;
  }
  CHECK(backoff.ended(now) == 30 * second);  // could not even be started
  backoff.started(now);
  CHECK(backoff.ended(now + 10 * second) == second);
}

TEST_CASE("V-07 V-14 V-39 the recorded BTCUSDT feed gives 9757 market events") {
  const char* data = std::getenv("SSEHUB_DATA");
  const std::filesystem::path root =
      data != nullptr ? std::filesystem::path{data}
                      : std::filesystem::path{__FILE__}.parent_path() / "../../../shared/data";
  const std::filesystem::path file = root / "market/binance_spot_btcusdt_20240808.ndjson.gz";
  if (!std::filesystem::exists(file)) {
    WARN("skipped: " << file << " is absent (set SSEHUB_DATA to the directory that holds market/)");
    return;
  }
  std::error_code error;
  auto gzip = child_process::start({"gzip", "-dc", file.string()}, error);
  if (!gzip) {
    WARN("skipped: gzip cannot be started: " << error.message());
    return;
  }
  REQUIRE(fcntl(gzip->stdout_fd(), F_SETFL, 0) == 0);  // a test may block

  simulator_options options;
  options.walk = false;
  simulated_engine engine{options, 0};
  replay_source source;
  order_store store;
  line_splitter recorded;
  line_splitter produced;
  int trades = 0, others = 0, bad = 0, markets = 0;
  std::string wanted_digits;
  double last_price = 0;
  std::array<char, 65536> chunk;
  for (ssize_t n = 0; (n = read(gzip->stdout_fd(), chunk.data(), chunk.size())) > 0;) {
    recorded.feed({chunk.data(), static_cast<std::size_t>(n)}, [&](std::string_view line) {
      const replay_message m = source.parse_line(line);
      others += m.what == replay_kind::other;
      bad += m.what == replay_kind::bad;
      if (m.what != replay_kind::trade) return;
      ++trades;
      last_price = m.price;
      wanted_digits = std::to_string(m.ts_ns);
      engine.market(m.symbol, m.price, m.ts_ns, m.local_ns);
    });
    produced.feed(engine.take_output(), [&](std::string_view line) {
      const auto e = store.consume(line);
      REQUIRE(e);
      markets += e->type == "market";
    });
  }
  CHECK(trades == 9757);
  CHECK(markets == 9757);
  CHECK(others == 41249 - 9757);
  CHECK(bad == 0);
  CHECK(last_price > 60000);
  CHECK(store.market_json().find("\"symbol\":\"BTCUSDT\"") != std::string::npos);
  CHECK(store.market_json().find("\"ts_ns\":" + wanted_digits + "}") != std::string::npos);
}
