// ssehub example journal. SPDX-License-Identifier: MIT
//
// What a person does with a journal at three in the morning (sse/journal.hpp).
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>

#include <poll.h>

#include <sse/journal.hpp>

namespace {

constexpr const char* usage =
    "usage: ssehub-journal info|verify|dump|tail|repair DIR [FIRST_ID]\n"
    "  info     what is there, and how the last run ended\n"
    "  verify   reads all of it: 0 if every event is as it was written, 1 if not\n"
    "  dump     the events from FIRST_ID on, as they go to subscribers, each behind a comment "
    "with\n"
    "           its time, channel, audience and key\n"
    "  tail     the same, from now on or from FIRST_ID, as they come, until it is interrupted\n"
    "  repair   keeps what is whole of a journal that does not open; nobody may write it "
    "meanwhile\n";

int fail(const sse::journal_error& e) {
  std::fprintf(stderr, "ssehub-journal: %s\n", e.text.c_str());
  return e.what == sse::journal_errc::corrupt ? 1 : 2;
}

std::string time_of(std::int64_t ms) {
  const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  std::tm utc{};
  char text[64];
  if (::gmtime_r(&seconds, &utc) == nullptr) return std::to_string(ms);
  const std::size_t n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + n, sizeof text - n, ".%03dZ", static_cast<int>(ms % 1000));
  return text;
}

bool print(const sse::journal_event& e) {
  std::printf(": %s channel %u", time_of(e.time_ms).c_str(), static_cast<unsigned>(e.channel));
  if (!e.audience.empty())
    std::printf(" audience %.*s", static_cast<int>(e.audience.size()), e.audience.data());
  if (!e.key.empty()) std::printf(" key %.*s", static_cast<int>(e.key.size()), e.key.data());
  if (e.role == sse::key_role::erase) std::printf(" erases it");
  if (e.role == sse::key_role::barrier) std::printf(" is its barrier");
  if (e.bytes.empty())
    std::printf("\n: event %llu is broken\n", static_cast<unsigned long long>(e.id));
  std::printf("\n%.*s", static_cast<int>(e.bytes.size()), e.bytes.data());
  return std::ferror(stdout) == 0;
}

int info(sse::journal& j) {
  std::uint64_t events = 0;
  sse::journal_event first;
  sse::journal_event last;
  j.read(0, sse::max_event_id + 1, [&](const sse::journal_event& e) {
    if (events++ == 0) first = e;
    last = e;
    return true;
  });
  const sse::journal_stats s = j.stats();
  std::printf("files   %llu, %llu bytes\n", static_cast<unsigned long long>(s.files),
              static_cast<unsigned long long>(s.bytes));
  std::printf("events  %llu\n", static_cast<unsigned long long>(events));
  if (events != 0) {
    std::printf("first   id %llu, %s\n", static_cast<unsigned long long>(first.id),
                time_of(first.time_ms).c_str());
    std::printf("last    id %llu, %s\n", static_cast<unsigned long long>(last.id),
                time_of(last.time_ms).c_str());
  }
  if (s.oldest_gone != 0)
    std::printf("gone    up to id %llu\n", static_cast<unsigned long long>(s.oldest_gone));
  std::printf("state   %s\n", j.found().clean ? "the last run ended by itself"
                                              : "a run is under way, or was killed");
  return 0;
}

int verify(sse::journal& j) {
  int bad = 0;
  j.each_broken([&](const std::string& file, sse::event_id id) {
    if (++bad <= 20)
      std::fprintf(stderr,
                   "ssehub-journal: %s: from event %llu on, a piece is not as it was written\n",
                   file.c_str(), static_cast<unsigned long long>(id));
  });
  if (bad != 0) {
    std::fprintf(stderr, "ssehub-journal: %d pieces are broken; `repair` keeps what is whole\n",
                 bad);
    return 1;
  }
  std::puts("every event is as it was written");
  return 0;
}

volatile std::sig_atomic_t interrupted = 0;

int tail(const std::string& directory, sse::event_id after, bool from_now) {
  std::signal(SIGINT, [](int) { interrupted = 1; });
  std::signal(SIGTERM, [](int) { interrupted = 1; });
  sse::journal j;
  if (const sse::journal_error e = j.follow(directory)) return fail(e);
  if (from_now) after = j.durable();
  j.start();
  while (interrupted == 0) {
    const sse::event_id newest = j.durable();
    j.read(after, newest + 1, [&](const sse::journal_event& e) {
      after = e.id;
      return print(e);
    });
    if (std::fflush(stdout) != 0) return 1;
    (void)j.wait_durable(newest + 1, sse::duration::milliseconds(100));
  }
  return 0;
}

bool read_id(const char* text, sse::event_id& id) {
  char* end = nullptr;
  id = std::strtoull(text, &end, 10);
  return *text >= '0' && *text <= '9' && *end == '\0' && id <= sse::max_event_id;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "--help" || what == "-h") return std::fputs(usage, stdout), 0;
  if (what == "--version") return std::puts("ssehub-journal " SSEHUB_VERSION), 0;
  sse::event_id first = 0;
  const bool known =
      what == "info" || what == "verify" || what == "dump" || what == "tail" || what == "repair";
  const bool ids = what == "dump" || what == "tail";
  if (!known || argc < 3 || argc > (ids ? 4 : 3) || (argc == 4 && !read_id(argv[3], first)))
    return std::fputs(usage, stderr), 2;
  const std::string directory = argv[2];
  const sse::event_id after = first == 0 ? 0 : first - 1;
  if (what == "tail") return tail(directory, after, argc == 3);
  sse::journal j;
  if (what == "repair") {
    if (const sse::journal_error e = j.repair(directory)) return fail(e);
    j.stop();
    std::printf("whole up to id %llu; the next run begins with %llu\n",
                static_cast<unsigned long long>(j.found().recovered),
                static_cast<unsigned long long>(j.found().next));
    return 0;
  }
  if (const sse::journal_error e = j.follow(directory)) return fail(e);
  if (what == "info") return info(j);
  if (what == "verify") return verify(j);
  j.read(after, sse::max_event_id + 1, print);
  return std::fflush(stdout) == 0 ? 0 : 1;
}
