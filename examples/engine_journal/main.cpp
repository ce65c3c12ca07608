// ssehub example engine_journal. SPDX-License-Identifier: MIT
//
// An engine that has a journal and no server: it writes, `gateway --follow DIR` serves, and each
// may be killed and started alone.
//
//   engine_journal DIR [EVENTS_PER_SECOND]       100,000 at most; until SIGINT or SIGTERM
#include <time.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include <sse/journal.hpp>

namespace {

volatile std::sig_atomic_t ended = 0;

std::int64_t now_ns(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}
void sleep_ms(long ms) {
  const timespec t{0, ms * 1'000'000};
  ::nanosleep(&t, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  constexpr auto usage = "usage: engine_journal DIR [EVENTS_PER_SECOND]\n";
  if (argc == 2 && std::string_view{argv[1]} == "--help") return std::fputs(usage, stdout), 0;
  const long rate = argc == 3 ? std::strtol(argv[2], nullptr, 10) : 1000;
  if (argc < 2 || argc > 3 || argv[1][0] == '-' || rate < 1 || rate > 100'000)
    return std::fputs(usage, stderr), 2;
  std::signal(SIGINT, [](int) { ended = 1; });
  std::signal(SIGTERM, [](int) { ended = 1; });

  sse::journal history;
  if (const sse::journal_error e = history.open(argv[1]))
    return std::fprintf(stderr, "engine_journal: %s\n", e.text.c_str()), 1;
  history.start();
  std::printf("continues with id %llu\n", static_cast<unsigned long long>(history.found().next));
  std::fflush(stdout);

  const std::int64_t begun = now_ns(CLOCK_MONOTONIC);
  for (std::int64_t n = 0; ended == 0;) {
    const std::int64_t due = (now_ns(CLOCK_MONOTONIC) - begun) / 1'000'000 * rate / 1000;
    while (n < due && ended == 0) {
      const std::string data = R"({"type":"market","symbol":"BTCUSDT","ts_ns":)" +
                               std::to_string(now_ns(CLOCK_REALTIME)) + R"(,"price":)" +
                               std::to_string(100 + n % 50) + "}";
      const sse::publish_result r = history.publish(0, {.type = "market", .data = data});
      if (r) {
        ++n;
      } else if (r.error == sse::publish_error::full || r.error == sse::publish_error::not_stored) {
        sleep_ms(1);  // the disk is slow, or full: problem() says so
      } else {
        return std::fprintf(stderr, "engine_journal: %s\n", history.problem().c_str()), 1;
      }
    }
    sleep_ms(2);
  }
  history.stop();
  return 0;
}
