// What users of log tailers report: logs that begin anew, every scheme of naming rotated files,
// large files without lines, holes, encodings, compressed files. No socket but at the end.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../file_calls.hpp"
#include "catch.hpp"
#include "following.hpp"
#include "log_directory.hpp"
#include "running.hpp"

using namespace test;

namespace {

/// One rotation of a scheme: app.log becomes an older file, and so on.
struct scheme {
  const char* name;
  std::function<void(const log_directory&, int)> rotate;
};

void shift(const log_directory& d, const std::function<std::string(int)>& name) {
  for (int n = 30; n >= 1; --n) {
    if (std::filesystem::exists(d.file(name(n)))) d.rename(name(n), name(n + 1));
  }
  d.rename("app.log", name(1));
}

const std::vector<scheme>& schemes() {
  using directory = log_directory;
  const auto two = [](int n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  static const std::vector<scheme> all = {
      {"logrotate, log4j min, python size: the newest is 1",
       [](const directory& d, int) {
         shift(d, [](int n) { return "app.log." + std::to_string(n); });
       }},
      {"logrotate extension",
       [](const directory& d, int) {
         shift(d, [](int n) { return "app." + std::to_string(n) + ".log"; });
       }},
      {"log4j max, not full: the newest has the highest number",
       [](const directory& d, int n) { d.rename("app.log", "app.log." + std::to_string(n)); }},
      {"log4j max, five kept: all numbers shift down",
       [](const directory& d, int n) {
         if (n <= 5) return d.rename("app.log", "app.log." + std::to_string(n));
         d.rename("app.log.1", "kept" + std::to_string(n));
         for (int i = 2; i <= 5; ++i)
           d.rename("app.log." + std::to_string(i), "app.log." + std::to_string(i - 1));
         d.rename("app.log", "app.log.5");
       }},
      {"logrotate dateext",
       [two](const directory& d, int n) { d.rename("app.log", "app.log-202509" + two(n)); }},
      {"logrotate dateext, extension",
       [two](const directory& d, int n) { d.rename("app.log", "app-202509" + two(n) + ".log"); }},
      {"python time, log4j daily",
       [two](const directory& d, int n) {
         d.rename("app.log", "app.log.2025-09-21_10-" + two(n) + "-00");
       }},
      {"a month and a year, in no order but that of time",
       [two](const directory& d, int n) { d.rename("app.log", "app.log." + two(n) + ".2025"); }},
  };
  return all;
}

/// As a file that was last written at that second.
void written_at(const log_directory& d, const std::string& name, int second) {
  struct timespec times[2] = {{1'700'000'000 + second, 0}, {1'700'000'000 + second, 0}};
  REQUIRE(::utimensat(AT_FDCWD, d.file(name).c_str(), times, 0) == 0);
}

/// A file of 2 GB in which no line ends; most of it is holes.
void write_without_line_ends(const log_directory& d, const std::string& name) {
  constexpr off_t every = off_t{64} << 20;
  const std::string piece(std::size_t{1} << 20, 'x');
  d.append(name, "");
  const int fd = ::open(d.file(name).c_str(), O_WRONLY);
  REQUIRE(fd >= 0);
  for (off_t at = 0; at < off_t{2} << 30; at += every)
    REQUIRE(::pwrite(fd, piece.data(), piece.size(), at) == static_cast<ssize_t>(piece.size()));
  ::close(fd);
  std::filesystem::resize_file(d.file(name), std::uintmax_t{2} << 30);
}

strings without_rotations(const strings& all) {
  strings out;
  std::copy_if(all.begin(), all.end(), std::back_inserter(out),
               [](const std::string& s) { return s != "[rotated]" && s != "[renamed]"; });
  return out;
}

}  // namespace

TEST_CASE("X-16 a log that begins anew while nobody reads it is told to who returns") {
  log_directory d;
  const auto filled = [](const std::string& run, int n) {
    std::string out;
    for (int i = 1; i <= n; ++i)
      out += "request " + std::to_string(100 + i) + " of run " + run + "\n";
    return out;
  };
  d.append("app.log", filled("1", 10));
  followed first{d};
  REQUIRE(first.log.open());
  const sse::event_id left = first.log.back(1);
  const bool made_anew = GENERATE(false, true);
  CAPTURE(made_anew);
  if (made_anew)
    d.remove("app.log");
  else
    d.truncate("app.log");
  d.append("app.log", filled("2", 11));  // lines of the same length, and more of them
  followed next{d};
  REQUIRE(next.log.open());
  CHECK(next.resumed(left) == strings{"lost"});
}

TEST_CASE("X-16 an id names the content in front of it, not the name of the file or its place") {
  log_directory d;
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "the same banner\nline " + std::to_string(i) + "\n";
  d.append("app.log", text);
  followed first{d};
  REQUIRE(first.log.open());
  const sse::event_id id = first.log.back(1000);
  const strings rest = first.resumed(id);
  REQUIRE(rest.size() == 1000);
  d.rename("app.log", "app.log.1");
  d.append("app.log", "the same banner\nline x\n");
  followed next{d};
  REQUIRE(next.log.open());
  CHECK(next.resumed(id) == rest + strings{"[rotated]", "the same banner", "line x"});
  d.copy("app.log.1", "app.log.7");  // another file of the same content
  d.remove("app.log.1");
  followed last{d};
  REQUIRE(last.log.open());
  CHECK(last.resumed(id) == rest + strings{"[rotated]", "the same banner", "line x"});
}

TEST_CASE("X-16 every scheme of names: live, and for one that returns to another run") {
  for (const scheme& s : schemes()) {
    CAPTURE(s.name);
    log_directory d;
    d.append("app.log", numbered(1, 2));
    followed live{d};
    REQUIRE(live.log.open());
    const sse::event_id begun = live.log.back(1);
    strings told;
    constexpr int rotations = 12;
    for (int n = 1; n <= rotations; ++n) {
      written_at(d, "app.log", n);
      s.rotate(d, n);
      d.append("app.log", numbered(2 * n + 1, 2 * n + 2));
      const strings more = live.take();
      told = told + more;
      CHECK(more.at(0) == "[renamed]");
      CHECK(without_rotations(more) == lines(2 * n + 1, 2 * n + 2));
      followed other{d};
      REQUIRE(other.log.open());
      const bool gone = std::string_view{s.name}.find("five") != std::string_view::npos && n > 5;
      if (!gone) CHECK(without_rotations(other.resumed(begun)) == lines(2, 2 * n + 2));
      CHECK(without_rotations(other.after(other.log.back(8))) ==
            lines(std::max(1, 2 * n - 5), 2 * n + 2));
    }
    CHECK(without_rotations(told) == lines(3, 2 * rotations + 2));
  }
}

TEST_CASE("X-16 svlogd and multilog: current, and files named by TAI64N stamps") {
  log_directory d;
  d.append("current", numbered(1, 2));
  followed live{d, "current"};
  REQUIRE(live.log.open());
  for (int n = 1; n <= 5; ++n) {
    written_at(d, "current", n);
    d.rename("current", "@400000006543210" + std::to_string(n) + "0a1b2c3d.s");
    d.append("current", numbered(2 * n + 1, 2 * n + 2));
    CHECK(live.take() == strings{"[renamed]"} + lines(2 * n + 1, 2 * n + 2));
  }
  followed other{d, "current"};
  REQUIRE(other.log.open());
  CHECK(without_rotations(other.resumed(0)) == lines(1, 12));
  CHECK(logs::list_logs(d.path()).at(0).id == "current");
}

TEST_CASE("X-16 two rotations between two looks, the newest with the highest number") {
  log_directory d;
  d.append("app.log", numbered(1, 1));
  followed f{d};
  REQUIRE(f.log.open());
  for (int n = 1; n <= 4; ++n) {
    written_at(d, "app.log", n);
    d.rename("app.log", "app.log." + std::to_string(n));
    d.append("app.log", numbered(n + 1, n + 1));
  }
  CHECK(without_rotations(f.take()) == lines(2, 5));
}

TEST_CASE("X-16 what a rotation compressed is read when an id or lines back lead there") {
  if (!logs::unpacker::available()) return;
  log_directory d;
  d.append("app.log", numbered(1, 1000));
  followed first{d};
  REQUIRE(first.log.open());
  const sse::event_id id = first.log.back(600);
  d.rename("app.log", "app.log.1");
  d.append("app.log", numbered(1001, 1002));
  CHECK(first.take().size() == 3);
  REQUIRE(std::system(("gzip " + d.file("app.log.1")).c_str()) == 0);
  CHECK(without_rotations(first.resumed(id)) == lines(401, 1002));  // in this run
  followed next{d};
  REQUIRE(next.log.open());
  CHECK(without_rotations(next.resumed(id)) == lines(401, 1002));
  CHECK(without_rotations(next.after(next.log.back(700))) == lines(303, 1002));
  CHECK(without_rotations(next.resumed(0)) == lines(1, 1002));
  // Nothing in it that could be read: a gap, and what follows.
  std::filesystem::resize_file(d.file("app.log.1.gz"), 100);
  followed last{d};
  REQUIRE(last.log.open());
  const strings told = last.resumed(id);
  CHECK((told == strings{"lost"} || told == strings{"[gap]"} + lines(1001, 1002)));
}

TEST_CASE("work for a large compressed file is spread over polls") {
  if (!logs::unpacker::available()) return;
  log_directory d;
  const std::string line(1000, 'x');
  std::string text;
  for (int i = 0; i < 40'000; ++i) text += std::to_string(i) + line + "\n";
  d.append("app.log.1", text);
  REQUIRE(std::system(("gzip -1 " + d.file("app.log.1")).c_str()) == 0);
  d.append("app.log", "new\n");
  followed f{d};
  REQUIRE(f.log.open());
  CHECK_FALSE(f.log.resolve(0));
  CHECK(f.log.blocked());
  f.poll();
  const auto all = f.log.resolve(0);
  REQUIRE(all);
  CHECK(f.after(*all).size() == 40'002);
}

TEST_CASE("12 a file without a line end costs no look back through all of it") {
  log_directory d;
  d.append("app.log", "one line\n");
  std::filesystem::resize_file(d.file("app.log"), std::uintmax_t{20} << 30);  // a hole
  d.append("app.log", std::string(3'000'000, 'x'));
  followed f{d};
  REQUIRE(f.log.open());
  const sse::event_id at = f.log.back(1);  // looks at a few MiB, or this test takes a minute
  CHECK(position_of(at).offset >= (std::uint64_t{20} << 30));
  d.append("app.log", "\nlast\n");
  const strings told = f.take();
  REQUIRE(told.size() == 2);
  CHECK(told[0].starts_with("...xxx"));
  CHECK(told[1] == "last");
  CHECK(f.after(f.log.back(1)) == strings{"last"});
  CHECK(f.after(f.log.back(1'000'000)).size() >= 4);
}

TEST_CASE("12 no turn reads more than some MiB, whatever the length of a file and its lines") {
  if (!file_calls_are_seen()) return;
  log_directory d;
  SECTION("20 GB of nothing, and a line") {
    d.append("app.log", "one line\n");
    std::filesystem::resize_file(d.file("app.log"), std::uintmax_t{20} << 30);
    d.append("app.log", "the last line\n");
  }
  SECTION("2 GB without a line end") { write_without_line_ends(d, "app.log"); }
  long most = 0;  // calls of one turn; none reads more than 64 KiB
  const auto turn = [&most](const auto& work) {
    before_file_calls([](long) {});
    work();
    most = std::max(most, end_file_calls());
  };
  followed f{d};
  sse::event_id from = 0;
  turn([&] { REQUIRE(f.log.open()); });
  turn([&] { from = f.log.back(1); });
  turn([&] { from = std::min(from, f.log.back(1'000'000)); });
  turn([&] { REQUIRE(f.log.resolve(from)); });
  d.append("app.log", "more\n");
  turn([&] { f.poll(); });
  CHECK(f.told.size() == 1);
  long turns = 0;
  std::size_t bytes = 0;
  auto state = sse::backfill_state::more;
  for (sse::event_id last = 0; state == sse::backfill_state::more && turns < 10'000; ++turns) {
    if (last == 0) last = f.log.begin();
    turn([&] {
      state = f.log.read_back(last, f.log.last_id() + 1, std::size_t{256} << 10,
                              [&](sse::event_id id, const sse::event& e) {
                                last = id;
                                bytes += e.data.size();
                                return true;
                              });
    });
  }
  CHECK(state == sse::backfill_state::done);
  CHECK(bytes != 0);
  CHECK(most > 0);
  CHECK(most <= 600);  // 20 GB are 327,680
}

TEST_CASE("a writer that does not append leaves a hole, which nobody gets") {
  log_directory d;
  d.append("app.log", numbered(1, 200'000));
  const std::uint64_t size = std::filesystem::file_size(d.file("app.log"));
  followed f{d};
  REQUIRE(f.log.open());
  const int fd = ::open(d.file("app.log").c_str(), O_WRONLY);
  REQUIRE(fd >= 0);
  d.truncate("app.log");
  const std::string_view more = "line a\nline b\n";
  REQUIRE(::pwrite(fd, more.data(), more.size(), static_cast<off_t>(size)) ==
          static_cast<ssize_t>(more.size()));
  CHECK(f.take() == strings{"[truncated]", "line a", "line b"});
  CHECK(f.after(f.log.begin()) == strings{"line a", "line b"});
  CHECK(f.after(f.log.back(5)) == strings{"line a", "line b"});
  ::close(fd);
}

TEST_CASE("text is UTF-8 whatever is in the file") {
  std::string room;
  using logs::as_utf8;
  using logs::encoding;
  CHECK(as_utf8(encoding::utf8, "a\xc3\xa9", room) == "a\xc3\xa9");
  CHECK(as_utf8(encoding::utf8,
                "\xef\xbb\xbf"
                "a",
                room) == "a");
  CHECK(as_utf8(encoding::utf8,
                "a\xff"
                "b\xc3",
                room) ==
        "a\xef\xbf\xbd"
        "b\xef\xbf\xbd");
  CHECK(as_utf8(encoding::latin1, "a\xe9", room) == "a\xc3\xa9");
  log_directory d;
  d.append("app.log", "caf\xe9\n");
  followed f{d};
  REQUIRE(f.log.open());
  CHECK(f.resumed(0) == strings{"caf\xef\xbf\xbd"});
  d.append("app.log", "\xe9t\xe9\n");
  CHECK(f.take() == strings{"\xef\xbf\xbdt\xef\xbf\xbd"});
}

TEST_CASE("a deleted log is let go when nothing comes to it, and goes on when it is made again") {
  log_directory d;
  d.append("app.log", numbered(1, 1));
  followed f{d};
  REQUIRE(f.log.open());
  d.remove("app.log");
  CHECK(f.take(0).empty());
  CHECK(f.log.descriptor() >= 0);
  CHECK(f.take(59'000).empty());
  CHECK(f.log.descriptor() >= 0);
  CHECK(f.take(60'000).empty());
  CHECK(f.log.descriptor() == -1);
  d.append("app.log", numbered(2, 2));
  CHECK(f.take(61'000) == strings{"[renamed]"} + lines(2, 2));
}

TEST_CASE("X-17 a link is a log only where links are followed") {
  log_directory d;
  d.append("secret", "x\n");
  std::filesystem::create_symlink(d.file("secret"), d.file("app.log"));
  CHECK_FALSE(logs::log_follower(d.path(), "app.log").open());
  CHECK(logs::list_logs(d.path()).empty());
  CHECK(logs::log_follower({d.path(), true}, "app.log").open());
  CHECK(logs::list_logs({d.path(), true}).size() == 1);
}

// --- with a server
// ---------------------------------------------------------------------------------

TEST_CASE("12 /health is answered while files of 20 GB, and of 2 GB without a line end, are read") {
  running s;
  s.files.append("long.log", "one line\n");
  std::filesystem::resize_file(s.files.file("long.log"), std::uintmax_t{20} << 30);
  s.files.append("long.log", "the last line\n");
  write_without_line_ends(s.files, "wide.log");
  client one = s.stream("/logs/long?backlog=1");
  client all = s.stream("/logs/wide?last_id=0");  // it is not read: 32 MB wait for it
  CHECK(s.get("/health").status == 200);
  CHECK(next_event(one).data == "the last line");
  CHECK(s.get("/health").status == 200);
  const std::string piece(std::size_t{1} << 20, 'x');
  for (int i = 0; i < 3; ++i) CHECK(next_event(all).data == piece);
}

TEST_CASE("a file that cannot be read is 403, and one in UTF-16 is 415") {
  running s;
  s.files.append("wide.log", std::string_view{"\xff\xfe"
                                              "a\0\n\0",
                                              6});
  CHECK(s.get("/logs/wide").status == 415);
  if (::geteuid() == 0) return;  // may read anything
  s.files.append("app.log", "x\n");
  REQUIRE(::chmod(s.files.file("app.log").c_str(), 0) == 0);
  CHECK(s.get("/logs/app").status == 403);
}

#if !defined(SSEHUB_TEST_ASAN)  // UBSan itself needs descriptors to look at memory
TEST_CASE("a log that no descriptor is left for is 503 for a moment, not gone") {
  running s;
  s.files.append("app.log", "x\n");
  client c{s.port()};
  REQUIRE(c.get("/api/status").status == 200);  // its connection is there
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const int next = ::dup(c.fd());
  ::close(next);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(next);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const answer a = c.get("/logs/app");
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(a.status == 503);
  CHECK(a.header("Retry-After") == "1");
  CHECK(client{s.port()}.open("/logs/app").status == 200);
}
#endif

TEST_CASE("14 the token covers numbers, names, and what strangers write") {
  running s{{.common = {.cors = "*", .token = "secret-token"}}};
  s.files.append("app.log", "x\n");
  CHECK(s.get("/metrics").status == 401);
  CHECK(s.get("/metrics?token=secret-token").status == 200);
  CHECK(s.get("/api/status").status == 401);
  CHECK(s.get("/download/app").status == 401);
  CHECK(s.get("/download/app?token=secret-token").body == "x\n");
  CHECK(s.get("/deployments/app").status == 200);
  CHECK(s.get("/deployments/nope").status == 200);
  CHECK(s.get("/deployments/nope?token=secret-token").status == 404);
  client entries = s.stream("/api/logs/stream?token=secret-token");
  CHECK(s.get("/forged?by=stranger").status == 404);
  CHECK(s.get("/logs/stranger").status == 401);
  CHECK(s.get("/?stranger").status == 200);
  CHECK(s.get("/api/deployments?token=secret-token").status == 200);
  std::string data;
  while (data.find("/api/deployments") == std::string::npos) {
    data = next_event(entries).data;
    CHECK(data.find("stranger") == std::string::npos);
  }
}
