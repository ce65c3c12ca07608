// Files as streams over real sockets: framing, resuming, rotation, limits, pages.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "following.hpp"
#include "running.hpp"

using namespace test;

namespace {

std::string last_id(const std::string& id) { return "Last-Event-ID: " + id + "\r\n"; }

/// The offset that an id holds.
std::uint64_t offset_of(const std::string& id) { return logs::position_of(std::stoull(id)).offset; }

/// The ids of all lines, from the beginning on.
strings ids_of(const running& s, const std::string& log, int n) {
  client stream = s.stream("/logs/" + log + "?last_id=0");
  strings out;
  for (int i = 0; i < n; ++i) out.push_back(next_event(stream).id);
  return out;
}

}  // namespace

TEST_CASE("F-01 F-02 F-15 F-17 a quiet file's stream opens at once, with these headers") {
  running s;
  s.files.append("app.log", "");
  client stream{s.port()};
  const answer a = stream.open("/logs/app", "Accept: text/event-stream\r\n");
  CHECK(a.status == 200);
  CHECK(a.header("Content-Type") == "text/event-stream");
  CHECK(a.header("Cache-Control") == "no-cache");
  CHECK(a.header("Connection") == "keep-alive");
  CHECK(stream.until("\n\n") == "id: 0\n\n");
  s.files.append("app.log", "X\n");
  CHECK(std::regex_match(stream.until("\n\n"), std::regex{"id: \\d+\ndata: X\n\n"}));
}

TEST_CASE("F-03 F-04 F-14 X-15 a line's frame is its offset and its text as it is") {
  running s;
  s.files.append("app.log", "before\n");
  client stream = s.stream("/logs/app");
  CHECK(std::regex_match(stream.until("\n\n"), std::regex{"id: \\d+\n\n"}));
  s.files.append("app.log",
                 "2025-09-21T10:30:15.123456: Fake: a: b\n  lead\tand trail  \n\nCRLF\r\n");
  for (const event& expected :
       {event{"46", "", "2025-09-21T10:30:15.123456: Fake: a: b"},
        event{"65", "", "  lead\tand trail  "}, event{"66", "", ""}, event{"72", "", "CRLF"}}) {
    const event e = next_event(stream);
    CHECK(std::to_string(offset_of(e.id)) == expected.id);
    CHECK(e.data == expected.data);
  }
  s.files.append("app.log", "10%\r20%\r30%\n");
  const event e = next_event(stream);
  CHECK(offset_of(e.id) == 84);
  CHECK(e.data == "10%\n20%\n30%");  // one event; the standard has no other way to say CR
}

TEST_CASE("X-14 half a line is no event") {
  running s;
  s.files.append("app.log", "");
  client stream = s.stream("/logs/app");
  client other = s.stream("/logs/app");
  s.files.append("app.log", "one ");
  std::this_thread::sleep_for(std::chrono::milliseconds{30});  // it is read meanwhile, or not
  s.files.append("app.log", "line\n");
  CHECK(next_event(stream).data == "one line");
  CHECK(next_event(other).data == "one line");
}

TEST_CASE("X-15 a line of megabytes comes in pieces, live and from the file, and CRs stay") {
  running s;
  s.files.append("app.log", "");
  client live = s.stream("/logs/app");
  const std::string large(std::size_t{2500} << 10, 'x');
  const std::string returns(std::size_t{100} << 10, '\r');
  s.files.append("app.log", large + "\nnext\n" + returns + "\nlast\n");
  std::string end_of_piece;
  for (int round = 0; round < 2; ++round) {
    client from_file = s.stream("/logs/app?last_id=0");
    client& stream = round == 0 ? live : from_file;
    std::string joined;
    strings ids;
    for (int i = 0; i < 3; ++i) {
      const event e = next_event(stream);
      joined += e.data;
      CHECK(e.type == (i == 0 ? "" : "continued"));
      ids.push_back(e.id);
    }
    const bool same = joined == large;
    CHECK(same);
    CHECK(offset_of(ids[0]) == 1048576);
    CHECK(offset_of(ids[1]) == 2097152);
    CHECK(offset_of(ids[2]) == large.size() + 1);
    end_of_piece = ids[1];
    CHECK(next_event(stream).data == "next");
    CHECK(next_event(stream).data.size() == returns.size() - 1);  // the last is the line's CRLF
    CHECK(next_event(stream).data == "last");
  }
  // The end of a piece is a place to resume at.
  client rest = s.stream("/logs/app", last_id(end_of_piece));
  CHECK(next_event(rest).data.size() == large.size() - 2097152);
}

TEST_CASE("F-05 a line is delivered within 200 ms, told by the system or looked for") {
  for (const int poll_ms : {0, 50}) {
    CAPTURE(poll_ms);
    logs::settings settings;
    settings.poll = sse::duration::milliseconds(poll_ms);
    running s{settings};
    s.files.append("app.log", "");
    client stream = s.stream("/logs/app");
    std::chrono::steady_clock::duration best = std::chrono::hours{1};
    for (int i = 0; i < 5; ++i) {  // the best of five, as the machine may be busy
      const auto begin = std::chrono::steady_clock::now();
      s.files.append("app.log", "x\n");
      CHECK(next_event(stream).data == "x");
      best = std::min(best, std::chrono::steady_clock::now() - begin);
    }
    CHECK(best < std::chrono::milliseconds{200});
  }
}

TEST_CASE("F-06 F-10 F-11 a new deployment: its page, its file, a line about every half second") {
  running s;
  const answer made = s.post("/deployments");
  CHECK(made.status == 303);
  const std::string where = made.header("Location");
  REQUIRE(std::regex_match(where, std::regex{"/deployments/[0-9a-f]{32}"}));
  const std::string id = where.substr(where.rfind('/') + 1);
  CHECK(std::ifstream{s.files.file(id + ".log")}.good());
  const answer page = s.get(where);
  CHECK(page.status == 200);
  CHECK(page.header("Content-Type").starts_with("text/html"));
  CHECK(page.body.find("\"/logs/" + id + "\"") != std::string::npos);
  client stream = s.stream("/logs/" + id + "?backlog=10");
  CHECK(next_event(stream).data.ends_with("deployment " + id + " accepted"));
  const auto begin = std::chrono::steady_clock::now();
  CHECK(next_event(stream).data.find("Z: ") == std::string::npos);
  const std::string line = next_event(stream).data;
  CHECK(std::regex_search(line, std::regex{R"(^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}: )"}));
  const auto took = std::chrono::steady_clock::now() - begin;
  CHECK(took > std::chrono::milliseconds{400});
  CHECK(took < std::chrono::milliseconds{5000});
}

TEST_CASE("F-07 F-08 readers of a file get the same, and nothing of another") {
  running s;
  s.files.append("a.log", "");
  s.files.append("b.log", "");
  std::vector<client> tabs;
  for (int i = 0; i < 3; ++i) tabs.push_back(s.stream("/logs/a"));
  client other = s.stream("/logs/b");
  for (int i = 1; i <= 20; ++i) {
    s.files.append("b.log", "b" + std::to_string(i) + "\n");
    s.files.append("a.log", numbered(i, i));
  }
  for (client& tab : tabs) CHECK(next_data(tab, 20) == lines(1, 20));
  for (int i = 1; i <= 20; ++i) CHECK(next_event(other).data == "b" + std::to_string(i));
  CHECK(s.status("logs_followed") == 2);  // one follower for three
}

TEST_CASE("F-09 the index links every log, newest first, escaped") {
  running s;
  s.files.append("old.log", "x\n");
  s.files.append("no.txt", "x\n");
  const std::string hostile = "<img src=x onerror=alert(1)>&\"'";
  s.files.append(hostile + ".log", "x\n");
  std::filesystem::last_write_time(
      s.files.file("old.log"),
      std::filesystem::file_time_type::clock::now() - std::chrono::hours{1});
  const answer a = s.get("/");
  CHECK(a.status == 200);
  const std::size_t first = a.body.find(
      "<a href=\"/deployments/%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%26%22%27\">&lt;img "
      "src=x onerror=alert(1)&gt;&amp;&quot;&#39;</a>");
  const std::size_t second = a.body.find("<a href=\"/deployments/old\">old</a>");
  REQUIRE(first != std::string::npos);
  REQUIRE(second != std::string::npos);
  CHECK(first < second);
  CHECK(a.body.find("no.txt") == std::string::npos);
  CHECK(a.body.find("<img") == std::string::npos);
  const answer page = s.get("/deployments/%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%26%22%27");
  CHECK(page.status == 200);
  CHECK(page.body.find("<img") == std::string::npos);
  CHECK(s.get("/api/deployments").body.starts_with(R"({"items":[{"id":"<img)"));
}

TEST_CASE("F-12 F-16 over a restart a reader goes on behind its last line") {
  running s;
  s.files.append("app.log", numbered(1, 3));
  std::string id;
  {
    client stream = s.stream("/logs/app?backlog=2");
    CHECK(next_data(stream, 1) == lines(2, 2));
    id = next_event(stream).id;
    CHECK(offset_of(id) == 21);
  }
  s.stop();
  s.files.append("app.log", numbered(4, 6));
  s.start();
  client stream = s.stream("/logs/app", last_id(id));
  CHECK(next_data(stream, 3) == lines(4, 6));
  s.files.append("app.log", numbered(7, 7));
  const event e = next_event(stream);
  CHECK(offset_of(e.id) == 49);
  CHECK(e.data == "line 7");
}

TEST_CASE("F-13 a stream that was cut resumes with a plain EventSource request") {
  running s;
  s.files.append("app.log", numbered(1, 2));
  std::string id;
  {
    client stream = s.stream("/logs/app?backlog=1");
    id = next_event(stream).id;
  }
  s.files.append("app.log", numbered(3, 4));
  client stream{s.port()};
  // The old URL, and what a browser adds.
  const answer a = stream.open("/logs/app?backlog=1",
                               "Accept: text/event-stream\r\n"
                               "Cache-Control: no-cache\r\n" +
                                   last_id(id));
  CHECK(a.status == 200);
  CHECK(a.header("Content-Type") == "text/event-stream");
  CHECK(next_data(stream, 2) == lines(3, 4));
}

TEST_CASE("X-16 rename and copy-truncate on an open stream, and resuming from every line") {
  running s;
  s.files.append("app.log", numbered(1, 2));
  client stream = s.stream("/logs/app?last_id=0");
  std::vector<event> all;
  const auto read = [&](int from, int to) {
    for (int i = from; i <= to; ++i) {
      all.push_back(next_event(stream));
      CHECK(all.back().data == "line " + std::to_string(i));
    }
  };
  const auto rotated = [&](const char* how) {
    all.push_back(next_event(stream));
    CHECK(all.back().type == "rotated");
    CHECK(all.back().data == R"({"reason":")" + std::string{how} + "\"}");
  };
  read(1, 2);
  s.files.rename("app.log", "app.log.1");
  s.files.append("app.log", numbered(3, 4));
  rotated("renamed");
  read(3, 4);
  s.files.copy("app.log", "app.log.0");
  s.files.truncate("app.log");
  rotated("truncated");
  s.files.append("app.log", numbered(5, 6));
  read(5, 6);
  for (int restart = 0; restart < 2; ++restart) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      CAPTURE(restart, i, all[i].id);
      client again = s.stream("/logs/app", last_id(all[i].id));
      for (std::size_t k = i + 1; k < all.size(); ++k) {
        const event e = next_event(again);
        CHECK(e.type == all[k].type);
        if (e.type.empty()) CHECK(e.data == all[k].data);
      }
    }
    s.stop();
    s.start();
  }
}

TEST_CASE("X-16 rotated and truncated while the server was down") {
  running s;
  s.files.append("app.log", numbered(1, 10));
  s.files.append("other.log", numbered(1, 10));
  const std::string id = ids_of(s, "app", 7).back();
  CHECK(ids_of(s, "other", 7).back() == id);
  s.stop();
  s.files.rename("app.log", "app.log.1");
  s.files.append("app.log", numbered(11, 14));
  s.files.truncate("other.log");
  s.files.append("other.log", numbered(11, 12));
  s.start();
  client moved = s.stream("/logs/app", last_id(id));
  CHECK(next_data(moved, 3) == strings{"line 8", "line 9", "line 10"});
  CHECK(next_event(moved).type == "rotated");
  CHECK(next_data(moved, 4) == lines(11, 14));
  client cut = s.stream("/logs/other", last_id(id));
  const event gap = next_event(cut);
  CHECK(gap.type == "gap");
  CHECK(gap.data == R"({"requested":)" + id + R"(,"first":null,"lost":null})");
  CHECK(next_event(cut).type == "rotated");
  CHECK(next_data(cut, 2) == lines(11, 12));
}

TEST_CASE("X-16 a file that is deleted and made again, and one that comes later") {
  running s;
  CHECK(s.get("/logs/app").status == 404);
  s.files.append("app.log", "one\n");
  client stream = s.stream("/logs/app?backlog=1");
  CHECK(next_event(stream).data == "one");
  s.files.remove("app.log");
  client second = s.stream("/logs/app");  // somebody follows it still
  s.files.append("app.log", "two\n");
  for (client* c : {&stream, &second}) {
    CHECK(next_event(*c).type == "rotated");
    CHECK(next_event(*c).data == "two");
  }
}

TEST_CASE("X-17 an unknown log, and whatever is no name, is 404 at once") {
  running s;
  s.files.append("app.log", "x\n");
  s.files.append(".hidden.log", "x\n");
  std::filesystem::create_directory(s.files.file("sub"));
  s.files.append("sub/in.log", "x\n");
  for (const char* path :
       {"nope", "", ".", "..", "../logs", "%2e%2e", "..%2fapp", "sub/in", "sub%2Fin", "sub%5cin",
        "app%00", "a%0ab", "%ff", ".hidden", "app.log", "app/", "app%2f"}) {
    CAPTURE(path);
    CHECK(s.get("/logs/" + std::string{path}).status == 404);
    CHECK(s.get("/deployments/" + std::string{path}).status == 404);
  }
  CHECK(s.status("streams") == 0);
  CHECK(s.status("logs_followed") == 0);
}

TEST_CASE("X-18 N lines back, then live, without a hole") {
  running s;
  s.files.append("app.log", numbered(1, 200));
  client stream = s.stream("/logs/app?backlog=50");
  s.files.append("app.log", numbered(201, 210));
  CHECK(next_data(stream, 60) == lines(151, 210));
  client all = s.stream("/logs/app?backlog=100000");
  CHECK(next_data(all, 210) == lines(1, 210));
  client none = s.stream("/logs/app?backlog=0");
  client at = s.stream("/logs/app?backlog=2&at=" + ids_of(s, "app", 3).back());
  CHECK(next_data(at, 3) == lines(2, 4));
  s.files.append("app.log", numbered(211, 211));
  CHECK(next_event(none).data == "line 211");
  for (const char* bad : {"backlog=x", "backlog=-1", "backlog=", "last_id=abc", "backlog=5&at=x"}) {
    CAPTURE(bad);
    const answer a = s.get("/logs/app?" + std::string{bad});
    CHECK(a.status == 400);
    CHECK(a.body == R"({"error":"bad_params"})");
  }
}

TEST_CASE("X-18 backlog while the file grows all the time") {
  running s;
  s.files.append("app.log", numbered(1, 1000));
  std::thread writer{[&] {
    std::ofstream out{s.files.file("app.log"), std::ios::app};
    for (int i = 1001; i <= 6000; ++i) out << "line " << i << std::endl;
  }};
  for (int i = 0; i < 20; ++i) {
    client stream = s.stream("/logs/app?backlog=300");
    int next = std::stoi(next_event(stream).data.substr(5));
    bool whole = true;
    while (next < 6000 && whole)
      whole = next_event(stream).data == "line " + std::to_string(++next);
    CHECK(whole);
  }
  writer.join();
}

TEST_CASE("X-12 a log is followed while somebody reads it, and no longer") {
  running s;
  for (int i = 0; i < 300; ++i) s.files.append(std::to_string(i) + ".log", "x\n");
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator{"/proc/self/fd"}, {});
  };
  const auto before = descriptors();
  {
    client one = s.stream("/logs/7?backlog=1");
    CHECK(next_event(one).data == "x");
    CHECK(s.status("logs_followed") == 1);
    CHECK(descriptors() <= before + 4);  // two ends of the stream, the file, a request's
  }
  CHECK(s.eventually("logs_followed", 0));
  CHECK(s.status("streams") == 0);
}

TEST_CASE("X-01 a reader that stops is let go, and misses nothing when it comes back") {
  logs::settings settings;
  settings.common.max_lag = 64 << 10;
  running s{settings};
  s.files.append("app.log", "");
  client slow{s.port(), 4096};
  CHECK(slow.open("/logs/app").status == 200);
  client quick = s.stream("/logs/app");
  const std::string padding(200, '.');
  constexpr int n = 40000;
  std::atomic<int> read = 0;  // by the quick one, which no busy machine makes late
  std::thread writer{[&] {
    std::ofstream out{s.files.file("app.log"), std::ios::app};
    for (int i = 1; i <= n; ++i) {
      out << i << padding << '\n';
      while (i - read > 200) std::this_thread::yield();
    }
  }};
  for (int i = 1; i <= n; ++i) {
    const std::string data = next_event(quick).data;
    read = i;
    if (data != std::to_string(i) + padding) FAIL(data);
  }
  writer.join();
  event last;
  int count = 0;
  for (event e = next_event(slow); e.type != "end" && count < n; e = next_event(slow)) {
    const std::string expected = std::to_string(count + 1) + padding;
    if (e.data != expected) {
      CHECK(expected.starts_with(e.data));  // half an event, which a reader forgets
      break;
    }
    last = e;
    ++count;
  }
  CHECK(count < n);  // it was let go
  client again = s.stream("/logs/app", last_id(last.id));
  while (count < n) {
    const std::string data = next_event(again).data;
    if (data != std::to_string(++count) + padding) FAIL(data);
  }
}

TEST_CASE("F-18 the idle and the write timeout are settings") {
  logs::settings settings;
  settings.idle = sse::duration::milliseconds(150);
  settings.write_timeout = sse::duration::milliseconds(150);
  settings.common.max_lag = 0;  // no reader is too far behind
  running s{settings};
  s.files.append("app.log", "");
  {
    client quiet = s.stream("/logs/app");
    CHECK(quiet.frame().starts_with("retry: "));  // a clean end
    CHECK(quiet.frame().empty());
  }
  client stuck{s.port(), 4096};
  CHECK(stuck.open("/logs/app").status == 200);
  CHECK(s.status("streams") == 1);
  const std::string block(std::size_t{4} << 20, 'x');
  for (int i = 0; i < 4; ++i) s.files.append("app.log", block + "\n");
  CHECK(s.eventually("streams", 0));
}

TEST_CASE("F-19 an idle reader costs little memory, and no descriptor but its own") {
  running s{{.common = {.per_address = 0}}};
  s.files.append("app.log", "");
  constexpr int n = 300;
  std::vector<client> readers;
  readers.push_back(s.stream("/logs/app"));
  const int before = s.status("memory");
  for (int i = 0; i < n; ++i) readers.push_back(s.stream("/logs/app"));
  const int each = (s.status("memory") - before) / n;
  CAPTURE(each);
#if defined(SSEHUB_TEST_ASAN) || defined(SSEHUB_TEST_TSAN)
  CHECK(each < 128 << 10);  // they need room of their own
#else
  CHECK(each < 16 << 10);
#endif
  CHECK(s.status("logs_followed") == 1);
  s.files.append("app.log", "x\n");
  for (client& r : readers) CHECK(next_event(r).data == "x");
}
