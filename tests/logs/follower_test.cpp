// Lines, ids and files of a log: cutting, resuming, rotation, truncation. No socket.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "following.hpp"
#include "log_directory.hpp"
#include "logs/line_cutter.hpp"
#include "logs/log_follower.hpp"

using namespace test;

namespace {

using line_with_end = std::pair<std::string, std::uint64_t>;

std::vector<line_with_end> cut(std::string_view bytes, std::size_t chunk, std::size_t longest,
                               bool finish = false) {
  std::vector<line_with_end> out;
  logs::line_cutter lines{longest};
  const auto on_line = [&](const logs::cut_line& line) {
    out.emplace_back((line.goes_on ? "..." : "") + std::string{line.text}, line.end);
    return true;
  };
  for (; !bytes.empty(); bytes.remove_prefix(std::min(chunk, bytes.size())))
    lines.feed(bytes.substr(0, chunk), on_line);
  if (finish) lines.finish(on_line);
  return out;
}

}  // namespace

TEST_CASE("X-14 X-15 lines are cut at LF and CRLF alone, however the bytes come in") {
  const std::string text = "a\r\n\n  two\twords  \n50%\r100%\r\n\r\nlast";
  const std::vector<line_with_end> expected = {
      {"a", 3}, {"", 4}, {"  two\twords  ", 18}, {"50%\r100%", 28}, {"", 30}};
  for (const std::size_t chunk : {1U, 2U, 3U, 7U, 100U}) {
    CAPTURE(chunk);
    CHECK(cut(text, chunk, 1000) == expected);
  }
  CHECK(cut(text, 5, 1000, true).back() == line_with_end{"last", 34});
}

TEST_CASE("X-15 a long line comes in pieces that do not depend on how its bytes came in") {
  // Cut at 10, 30 and 40, but there between two characters.
  const std::string text = "0123456789abc\n4567890123456789012345678\xc3\xa9-\n" +
                           std::string(20, 'x') + "\n" + std::string(12, '\0') + "z\n";
  const std::vector<line_with_end> expected = {{"0123456789", 10},       {"...abc", 14},
                                               {"4567890123456789", 30}, {"...012345678", 39},
                                               {"...\xc3\xa9-", 43},     {std::string(17, 'x'), 60},
                                               {"...xxx", 64},           {"z", 78}};
  for (const std::size_t chunk : {1U, 2U, 3U, 5U, 11U, 12U, 100U}) {
    CAPTURE(chunk);
    CHECK(cut(text, chunk, 10) == expected);
  }
}

TEST_CASE("X-14 half a line is no event until its end is there") {
  log_directory d;
  d.append("app.log", "begun ");
  followed f{d};
  REQUIRE(f.log.open());
  CHECK(f.log.last_id() == 0);  // what was begun before is told whole
  CHECK(f.take().empty());
  d.append("app.log", "and more");
  CHECK(f.take().empty());
  d.append("app.log", ", ended\nnext");
  CHECK(f.take() == strings{"begun and more, ended"});
  CHECK(position_of(f.ids.at(0)).offset == 22);
}

TEST_CASE("F-03 F-12 ids are the offset behind the line, and resuming there gives what follows") {
  log_directory d;
  d.append("app.log", numbered(1, 3));
  followed f{d};
  REQUIRE(f.log.open());
  CHECK(position_of(f.log.last_id()).offset == 21);
  d.append("app.log", numbered(4, 6));
  CHECK(f.take() == lines(4, 6));
  REQUIRE(f.ids.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(position_of(f.ids[i]).offset == 28 + 7 * i);
  for (int n = 0; n <= 6; ++n) {
    const sse::event_id id = f.log.back(static_cast<std::uint64_t>(6 - n));
    CHECK(f.resumed(id) == lines(n + 1, 6));
    CHECK(f.after(id, 1) == lines(n + 1, 6));  // line by line
  }
  logs::position p = position_of(f.ids[2]);
  p.offset = 36;  // inside a line
  CHECK_FALSE(f.log.resolve(logs::id_of(p)));
  p.offset = 49;  // behind the end
  CHECK_FALSE(f.log.resolve(logs::id_of(p)));
  // Another run, the same ids.
  followed again{d};
  REQUIRE(again.log.open());
  CHECK(again.resumed(f.ids[0]) == lines(5, 6));
}

TEST_CASE("X-18 N lines back, also over a rotation") {
  log_directory d;
  d.append("app.log", numbered(1, 5));
  followed f{d};
  REQUIRE(f.log.open());
  f.poll();
  for (std::uint64_t n = 0; n <= 5; ++n) {
    CAPTURE(n);
    CHECK(f.after(f.log.back(n)) == lines(6 - static_cast<int>(n), 5));
  }
  CHECK(f.after(f.log.back(1000)) == lines(1, 5));
  d.rename("app.log", "app.log.1");
  d.append("app.log", numbered(6, 7));
  f.poll();
  CHECK(f.after(f.log.back(2)) == lines(6, 7));
  CHECK(f.after(f.log.back(4)) == lines(4, 5) + strings{"[rotated]"} + lines(6, 7));
}

TEST_CASE("X-16 rename and a new file: the old one's last lines, the rotation, the new lines") {
  log_directory d;
  d.append("app.log", numbered(1, 2));
  followed f{d};
  REQUIRE(f.log.open());
  d.append("app.log", numbered(3, 3) + "no end");
  d.rename("app.log", "app.log.1");
  CHECK(f.take() == lines(3, 3));
  d.append("app.log.1", " yet\n");  // its writer has it open still
  CHECK(f.take() == strings{"no end yet"});
  d.append("app.log.1", "the last");
  d.append("app.log", numbered(4, 5));
  CHECK(f.take() == strings{"the last", "[renamed]"} + lines(4, 5));
  CHECK(std::is_sorted(f.ids.begin(), f.ids.end()));
  CHECK(std::adjacent_find(f.ids.begin(), f.ids.end()) == f.ids.end());
  CHECK(position_of(f.ids.back()).offset == 14);  // the offset is that in its file still
  d.append("app.log", numbered(6, 6));
  CHECK(f.take() == lines(6, 6));
  // Every id that was given out resumes right behind itself.
  const strings all = lines(3, 3) + strings{"no end yet", "the last", "[rotated]"} + lines(4, 6);
  REQUIRE(f.ids.size() == all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    const strings rest(all.begin() + static_cast<std::ptrdiff_t>(i) + 1, all.end());
    CHECK(f.resumed(f.ids[i]) == rest);
  }
}

TEST_CASE("X-16 a new file that stays empty ends the old one after a moment") {
  log_directory d;
  d.append("app.log", numbered(1, 1));
  followed f{d};
  REQUIRE(f.log.open());
  d.rename("app.log", "app.log.1");
  CHECK(f.poll(0) == log_follower::progress::idle);  // nothing in its place: no haste
  d.append("app.log", "");
  CHECK(f.poll(10) == log_follower::progress::waiting);
  d.append("app.log.1", numbered(2, 2));
  CHECK(f.take(900) == lines(2, 2));
  CHECK(f.poll(1800) == log_follower::progress::waiting);  // from the last line on
  CHECK(f.poll(1900) == log_follower::progress::idle);
  CHECK(std::exchange(f.told, {}) == strings{"[renamed]"});
  d.append("app.log", numbered(3, 3));
  CHECK(f.take() == lines(3, 3));
}

TEST_CASE("X-16 copy-truncate is followed, and a copy gives what was not read in time") {
  log_directory d;
  d.append("app.log", numbered(1, 2));
  followed f{d};
  REQUIRE(f.log.open());
  d.append("app.log", numbered(3, 3));
  CHECK(f.take() == lines(3, 3));
  d.append("app.log", numbered(4, 4));
  d.copy("app.log", "app.log.1");
  d.truncate("app.log");
  CHECK(f.take() == lines(4, 4));
  d.append("app.log", numbered(5, 6));
  CHECK(f.take() == strings{"[truncated]"} + lines(5, 6));
  CHECK(std::is_sorted(f.ids.begin(), f.ids.end()));
  CHECK(f.resumed(f.ids[0]) == lines(4, 4) + strings{"[rotated]"} + lines(5, 6));
}

TEST_CASE("X-16 a file that was written anew up to its old size and beyond is a new one") {
  log_directory d;
  d.append("app.log", numbered(1, 3));
  followed f{d};
  REQUIRE(f.log.open());
  d.truncate("app.log");
  d.append("app.log", numbered(4, 8));  // longer than before, between two looks
  CHECK(f.take() == strings{"[truncated]"} + lines(4, 8));
  // What was in front of it exists no more, and that is said.
  CHECK(f.after(logs::id_of({0, 7, 0})) == strings{"[gap]"} + lines(4, 8));
}

TEST_CASE("X-16 F-12 an id finds its file after a restart, whatever was rotated meanwhile") {
  log_directory d;
  d.append("app.log", numbered(1, 3));
  followed first{d};
  REQUIRE(first.log.open());
  d.append("app.log", numbered(4, 4));
  first.poll();
  const sse::event_id plain = first.log.back(2);  // behind line 2, as a reader has it
  d.rename("app.log", "app.log.1");
  d.append("app.log", numbered(5, 7));
  first.poll();
  const sse::event_id tagged = first.ids[2];  // behind line 5
  CHECK(position_of(tagged).number == 1);

  SECTION("nothing more") {
    followed next{d};
    REQUIRE(next.log.open());
    CHECK(next.resumed(plain) == lines(3, 4) + strings{"[rotated]"} + lines(5, 7));
    CHECK(next.resumed(tagged) == lines(6, 7));
    CHECK(next.resumed(first.ids[1]) == lines(5, 7));  // that of the rotation
  }
  SECTION("once more, while nobody looked") {
    d.rename("app.log.1", "app.log.2");
    d.rename("app.log", "app.log.1");
    d.append("app.log", numbered(8, 9));
    followed next{d};
    REQUIRE(next.log.open());
    CHECK(next.resumed(plain) ==
          lines(3, 4) + strings{"[rotated]"} + lines(5, 7) + strings{"[rotated]"} + lines(8, 9));
    CHECK(next.resumed(tagged) == lines(6, 7) + strings{"[rotated]"} + lines(8, 9));
    CHECK(next.resumed(0) == lines(1, 2) + next.resumed(plain));
    d.append("app.log", numbered(10, 10));
    CHECK(next.take() == lines(10, 10));
    CHECK(next.ids.back() > tagged);
  }
  SECTION("the older file is gone") {
    d.remove("app.log.1");
    followed next{d};
    REQUIRE(next.log.open());
    CHECK(next.resumed(tagged) == lines(6, 7));
    CHECK(position_of(next.log.last_id()).number == 0);
    CHECK_FALSE(next.log.resolve(plain));
  }
  SECTION("both are gone") {
    d.remove("app.log.1");
    d.remove("app.log");
    d.append("app.log", "other\n");
    followed next{d};
    REQUIRE(next.log.open());
    CHECK_FALSE(next.log.resolve(tagged));
    CHECK_FALSE(next.log.resolve(plain));
  }
}

TEST_CASE("X-16 a rotated file with which the next one begins too is read for who returns") {
  log_directory d;
  d.append("app.log", numbered(1, 2));
  followed first{d};
  REQUIRE(first.log.open());
  const sse::event_id plain = first.log.back(1);  // behind line 1
  // Which file is older is told by when it was made, as coarse as the system's clock is.
  const auto rotate = [&d] {
    const auto born = logs::file::open(d.file("app.log"), false).born_ns();
    d.rename("app.log", "app.log.1");
    do {
      std::error_code ignored;
      std::filesystem::remove(d.file("app.log"), ignored);
      d.append("app.log", "");
    } while (born != 0 && logs::file::open(d.file("app.log"), false).born_ns() == born);
    return born != 0;
  };
  if (!rotate()) {
    WARN("this file system does not say when a file was made");
    return;
  }
  d.append("app.log", numbered(1, 3));  // the same lines, and more

  SECTION("the next one is the log") {
    followed next{d};
    REQUIRE(next.log.open());
    CHECK(next.resumed(plain) == lines(2, 2) + strings{"[rotated]"} + lines(1, 3));
  }
  SECTION("the next one was rotated too") {
    d.rename("app.log.1", "app.log.2");
    REQUIRE(rotate());
    d.append("app.log", numbered(8, 9));
    followed next{d};
    REQUIRE(next.log.open());
    CHECK(next.resumed(plain) ==
          lines(2, 2) + strings{"[rotated]"} + lines(1, 3) + strings{"[rotated]"} + lines(8, 9));
  }
}

TEST_CASE("X-16 two rotations between two looks lose nothing") {
  log_directory d;
  d.append("app.log", numbered(1, 1));
  followed f{d};
  REQUIRE(f.log.open());
  d.append("app.log", numbered(2, 2));
  d.rename("app.log", "app.log.1");
  d.append("app.log", numbered(3, 4));
  d.rename("app.log.1", "app.log.2");
  d.rename("app.log", "app.log.1");
  d.append("app.log", numbered(5, 5));
  CHECK(f.take() ==
        lines(2, 2) + strings{"[renamed]"} + lines(3, 4) + strings{"[renamed]"} + lines(5, 5));
}

TEST_CASE("X-16 a log that was deleted goes on when it is made again") {
  log_directory d;
  d.append("app.log", numbered(1, 1));
  followed f{d};
  REQUIRE(f.log.open());
  d.remove("app.log");
  CHECK(f.take().empty());
  d.append("app.log", numbered(2, 3));
  CHECK(f.take() == strings{"[renamed]"} + lines(2, 3));
}

TEST_CASE("X-16 tags rise over many rotations, and say so when they are used up") {
  log_directory d;
  d.append("app.log", "first\n");
  followed f{d};
  REQUIRE(f.log.open());
  int rotations = 0;
  for (auto p = log_follower::progress::idle; p != log_follower::progress::over; ++rotations) {
    REQUIRE(rotations < 300);
    d.remove("app.log");
    d.append("app.log", "begins with " + std::to_string(rotations) + "\n");
    p = f.poll();
  }
  CHECK(rotations > 200);
  CHECK(std::is_sorted(f.ids.begin(), f.ids.end()));
  CHECK(std::adjacent_find(f.ids.begin(), f.ids.end()) == f.ids.end());
  CHECK(f.ids.back() < (sse::event_id{1} << 53));
}

TEST_CASE("X-17 only a regular file of the directory is a log") {
  for (const char* bad : {"", ".", "..", ".hidden", "a/b", "../x", "a\nb", "\xff"}) {
    CAPTURE(bad);
    CHECK_FALSE(logs::is_log_id(bad));
  }
  CHECK_FALSE(logs::is_log_id(std::string("a\0b", 3)));
  CHECK_FALSE(logs::is_log_id(std::string(201, 'x')));
  CHECK(logs::is_log_id("nova-api.log.1 \xc3\xa9"));
  log_directory d;
  REQUIRE(::mkdir(d.file("app.log").c_str(), 0700) == 0);
  CHECK_FALSE(log_follower(d.path(), "app.log").open());
  REQUIRE(::mkfifo(d.file("pipe.log").c_str(), 0600) == 0);
  CHECK_FALSE(log_follower(d.path(), "pipe.log").open());  // and does not wait
  CHECK(logs::list_logs(d.path()).empty());
  d.append("b.log", "x\n");
  d.append("b.txt", "x\n");
  REQUIRE(logs::list_logs(d.path()).size() == 1);
  CHECK(logs::list_logs(d.path())[0].id == "b");
}
