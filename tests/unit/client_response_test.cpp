// detail/http/response_reader.hpp: heads and bodies of responses, in every chunking.
#include <sse/detail/http/response_reader.hpp>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"

using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

using sse::detail::body_end;
using sse::detail::body_reader;
using sse::detail::response_reader;
using head_outcome = response_reader::outcome;
using body_outcome = body_reader::outcome;
using text = std::string_view;

/// Feeds `in` in pieces of `step` bytes, the first of `first`; each lies in memory of its own size,
/// so that the address sanitizer sees a read behind it. `use(piece)` returns how many it took.
template <class Use>
void in_pieces(text in, std::size_t first, std::size_t step, Use use) {
  for (std::size_t at = 0, n = first; at < in.size(); at += n, n = step) {
    if (n > in.size() - at) n = in.size() - at;
    const std::vector<char> piece(in.data() + at, in.data() + at + n);
    if (!use(text{piece.data(), n})) return;
  }
}

/// The same result in every chunking: whole, by 1, 2, 3, 7 bytes, and at every single cut.
template <class Feed>
auto everywhere(text in, Feed feed) {
  const auto whole = feed(in, in.size(), in.size());
  for (const std::size_t step : {1U, 2U, 3U, 7U}) {
    INFO("step " << step);
    CHECK(feed(in, step, step) == whole);
  }
  if (in.size() < 1000) {
    for (std::size_t cut = 1; cut < in.size(); ++cut) {
      if (feed(in, cut, in.size()) == whole) continue;
      INFO("cut at " << cut);
      CHECK(feed(in, cut, in.size()) == whole);
    }
  }
  return whole;
}

struct head {
  head_outcome state = head_outcome::need_more;
  std::size_t used = 0;
  int status = 0;
  int minor = -1;
  std::vector<std::pair<std::string, std::string>> headers;
  body_end end = body_end::close;
  std::uint64_t length = 0;
  bool operator==(const head&) const = default;
};

head read(text in, sse::detail::response_limits limits = {}) {
  return everywhere(in, [&](text all, std::size_t first, std::size_t step) {
    response_reader reader{limits};
    head out;
    in_pieces(all, first, step, [&](text piece) {
      const std::size_t used = reader.feed(piece);
      CHECK(used <= piece.size());
      if (reader.state() == head_outcome::need_more) CHECK(used == piece.size());
      out.used += used;
      return reader.state() == head_outcome::need_more;
    });
    CHECK(reader.buffered() <= limits.head);
    out.state = reader.state();
    if (out.state != head_outcome::complete) return out;
    CHECK(reader.feed("more") == 0);
    out.status = reader.head().status();
    out.minor = reader.head().minor_version();
    reader.head().for_each_header([&](text name, text value) {
      out.headers.emplace_back(name, value);
      return true;
    });
    out.end = reader.end();
    out.length = reader.length();
    return out;
  });
}

/// Header lines under a good status line, and what they make of the head.
head_outcome head_with(text lines) {
  return read("HTTP/1.1 200 OK\r\n" + std::string{lines} + "\r\n").state;
}

struct body_read {
  body_outcome state = body_outcome::more;
  std::string data;
  std::size_t used = 0;
  bool may_end = false;
  bool operator==(const body_read&) const = default;
};

/// `taken`: how many bytes of each piece of data are used at once.
body_read decode(text in, body_end end = body_end::chunked, std::uint64_t length = 0,
                 std::size_t taken = SIZE_MAX) {
  return everywhere(in, [&](text all, std::size_t first, std::size_t step) {
    body_reader reader{end, length};
    body_read out;
    in_pieces(all, first, step, [&](text piece) {
      std::size_t used = 0;
      while (used < piece.size() && reader.state() == body_outcome::more) {
        const auto [skipped, data] = reader.next(piece.substr(used));
        used += skipped;
        CHECK(used + data.size() <= piece.size());
        if (data.empty()) continue;
        CHECK(data.data() == piece.data() + used);
        const std::size_t n = data.size() < taken ? data.size() : taken;
        out.data += data.substr(0, n);
        used += n;
        reader.took(n);
      }
      out.used += used;
      return reader.state() == body_outcome::more;
    });
    out.state = reader.state();
    out.may_end = reader.ends_with_connection();
    return out;
  });
}

body_outcome outcome_of(text in) { return decode(in).state; }

}  // namespace

// --- heads

TEST_CASE("response head: a plain one") {
  const text in =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nEmpty:\r\nX-Space: \t a \t b\t "
      "\r\nX-Utf8: \xC3\xA9\r\n\r\n";
  const head h = read(std::string{in} + "data: x\n\n");
  CHECK(h.state == head_outcome::complete);
  CHECK(h.used == in.size());
  CHECK(h.status == 200);
  CHECK(h.minor == 1);
  CHECK(h.end == body_end::close);
  const std::vector<std::pair<std::string, std::string>> headers = {
      {"Content-Type", "text/event-stream"},
      {"Empty", ""},
      {"X-Space", "a \t b"},
      {"X-Utf8", "\xC3\xA9"}};
  CHECK(h.headers == headers);
}

TEST_CASE("response head: an incomplete one is incomplete at every length") {
  const std::string in = "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n";
  for (std::size_t n = 0; n < in.size(); ++n) {
    CHECK(read(text{in}.substr(0, n)).state == head_outcome::need_more);
  }
  CHECK(read(in).state == head_outcome::complete);
}

TEST_CASE("response head: the status line") {
  struct row {
    text line;
    int status;  // 0: malformed
    int minor;
  };
  const row rows[] = {
      {"HTTP/1.1 200 OK", 200, 1},
      {"HTTP/1.0 404 Not Found", 404, 0},
      {"HTTP/1.1 200", 200, 1},  // no reason, not even its space
      {"HTTP/1.1 200 ", 200, 1},
      {"HTTP/1.1 200 \xC3\xA9 \t", 200, 1},
      {"HTTP/1.2 200 OK", 200, 1},
      {"HTTP/1.1 999 ?", 999, 1},  // RFC 9110 15: as if it were 5xx
      {"HTTP/2.0 200 OK", 0, 0},
      {"HTTP/2 200 OK", 0, 0},
      {"HTTP/1.x 200 OK", 0, 0},
      {"HTTP/1.10 200 OK", 0, 0},
      {"http/1.1 200 OK", 0, 0},
      {" HTTP/1.1 200 OK", 0, 0},
      {"HTTP/1.1  200 OK", 0, 0},
      {"HTTP/1.1\t200 OK", 0, 0},
      {"HTTP/1.1 20 OK", 0, 0},
      {"HTTP/1.1 2000 OK", 0, 0},
      {"HTTP/1.1 2x0 OK", 0, 0},
      {"HTTP/1.1 -20 OK", 0, 0},
      {"HTTP/1.1 099 OK", 0, 0},
      {"HTTP/1.1 101 Switching Protocols", 0, 0},  // nobody asked for it
      {"HTTP/1.1 200\rOK", 0, 0},
      {"HTTP/1.1 200 O\0K"sv, 0, 0},
      {"HTTP/1.1 200 O\x01K", 0, 0},
      {"ICY 200 OK", 0, 0},
      {"SSH-2.0-OpenSSH_9.2", 0, 0},
      {"data: x", 0, 0},
      {"\x15\x03\x01", 0, 0},
      {"\r\nHTTP/1.1 200 OK", 0, 0},
      {"", 0, 0},
  };
  for (const row& t : rows) {
    INFO(t.line);
    const head h = read(std::string{t.line} + "\r\nA: b\r\n\r\n");
    CHECK(h.state == (t.status == 0 ? head_outcome::malformed : head_outcome::complete));
    CHECK(h.status == t.status);
    if (t.status != 0) CHECK(h.minor == t.minor);
  }
}

TEST_CASE("response head: something else is found out at its first odd byte") {
  response_reader reader;
  CHECK(reader.feed("H") == 1);
  CHECK(reader.state() == head_outcome::need_more);
  CHECK(reader.feed("ELLO") == 1);
  CHECK(reader.state() == head_outcome::malformed);
  reader.reset();
  CHECK(reader.state() == head_outcome::need_more);
}

TEST_CASE("response head: line ends and folds") {
  CHECK(read("HTTP/1.1 200 OK\nA: b\n\n").state == head_outcome::complete);
  CHECK(read("HTTP/1.1 200 OK\nA: b\r\n\nx").used == 23);
  CHECK(head_with("A: b\rC: d\r\n") == head_outcome::malformed);
  CHECK(head_with("A: b\r\r\n") == head_outcome::malformed);
  CHECK(read("HTTP/1.1 200 OK\r\n\rx").state == head_outcome::malformed);
  CHECK(read("HTTP/1.1 200 OK\r\n A: b\r\n\r\n").state == head_outcome::malformed);

  const head h = read("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\t d \r\nE: f\n g\n\r\n");
  CHECK(h.state == head_outcome::complete);
  const std::vector<std::pair<std::string, std::string>> headers = {{"A", "b c  d"}, {"E", "f g"}};
  CHECK(h.headers == headers);
  // A fold cannot smuggle a header, nor end one.
  CHECK(read("HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 5\r\n\r\n").end == body_end::close);
  CHECK(read("HTTP/1.1 200 OK\r\nContent-Length:\r\n 5\r\n\r\n").length == 5);
  CHECK(head_with("Content-Length: 1\r\n 5\r\n") == head_outcome::framing);
  CHECK(head_with("A\r\n : b\r\n") == head_outcome::malformed);
  CHECK(head_with("A: b\r\n \r\n") == head_outcome::complete);
}

TEST_CASE("response head: names and values") {
  CHECK(head_with("A : b\r\n") == head_outcome::malformed);
  CHECK(head_with(": b\r\n") == head_outcome::malformed);
  CHECK(head_with("A\r\n") == head_outcome::malformed);
  CHECK(head_with("A b: c\r\n") == head_outcome::malformed);
  CHECK(head_with("A\xC3\xA9: c\r\n") == head_outcome::malformed);
  CHECK(head_with("A: b\0c\r\n"sv) == head_outcome::malformed);
  CHECK(head_with("A: b\x7f\r\n") == head_outcome::malformed);
  CHECK(head_with("A: b\x1b[2J\r\n") == head_outcome::malformed);
  CHECK(head_with("A:b:c\r\n") == head_outcome::complete);
  CHECK(head_with("!#$%&'*+-.^_`|~09Az: b\r\n") == head_outcome::complete);
}

TEST_CASE("response head: interim ones are skipped") {
  const head h = read(
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: "
      "7\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n");
  CHECK(h.state == head_outcome::complete);
  CHECK(h.status == 200);
  CHECK(h.end == body_end::close);
  CHECK(h.headers.size() == 1);
  // They count: a server cannot send them for ever.
  std::string endless;
  while (endless.size() < 70'000) endless += "HTTP/1.1 102 Processing\r\n\r\n";
  const head e = read(endless);
  CHECK(e.state == head_outcome::too_large);
  CHECK(e.used == 65'537);
  std::string many;
  for (int i = 0; i < 300; ++i) many += "HTTP/1.1 103 x\r\nA: b\r\n\r\n";
  CHECK(read(many).state == head_outcome::too_large);
}

TEST_CASE("response head: limits, at each and one above") {
  const std::string start = "HTTP/1.1 200 OK\r\n";
  const auto of_size = [&](std::size_t n) {
    return start + "A: " + std::string(n - start.size() - 7, 'a') + "\r\n\r\n";
  };
  CHECK(read(of_size(65'535)).state == head_outcome::complete);
  CHECK(read(of_size(65'536)).state == head_outcome::complete);
  CHECK(read(of_size(65'537)).state == head_outcome::too_large);
  CHECK(read(of_size(99), {.head = 100}).state == head_outcome::complete);
  CHECK(read(of_size(100), {.head = 100}).state == head_outcome::complete);
  CHECK(read(of_size(101), {.head = 100}).state == head_outcome::too_large);
  const auto with_lines = [&](std::size_t n) {
    std::string s = start;
    for (std::size_t i = 0; i < n; ++i) s += "A: b\r\n";
    return s + "\r\n";
  };
  CHECK(read(with_lines(255)).state == head_outcome::complete);
  CHECK(read(with_lines(256)).state == head_outcome::complete);
  CHECK(read(with_lines(257)).state == head_outcome::too_large);
  CHECK(read(with_lines(0), {.headers = 0}).state == head_outcome::complete);
  CHECK(read(with_lines(1), {.headers = 0}).state == head_outcome::too_large);
}

TEST_CASE("response head: what ends the body") {
  struct row {
    text lines;
    bool good;
    body_end end;
    std::uint64_t length;
  };
  const row rows[] = {
      {"", true, body_end::close, 0},
      {"Content-Length: 0\r\n", true, body_end::length, 0},
      {"content-length: 42\r\n", true, body_end::length, 42},
      {"Content-Length: 042\r\n", true, body_end::length, 42},
      {"Content-Length: 18446744073709551615\r\n", true, body_end::length, UINT64_MAX},
      {"Content-Length: 5\r\nContent-Length: 5\r\n", true, body_end::length, 5},
      {"Content-Length: 5, 5 ,5\r\n", true, body_end::length, 5},
      {"Transfer-Encoding: chunked\r\n", true, body_end::chunked, 0},
      {"TRANSFER-ENCODING: Chunked\r\n", true, body_end::chunked, 0},
      {"Content-Length: 18446744073709551616\r\n", false, {}, 0},
      {"Content-Length: 99999999999999999999999\r\n", false, {}, 0},
      {"Content-Length: -1\r\n", false, {}, 0},
      {"Content-Length: +1\r\n", false, {}, 0},
      {"Content-Length: 0x10\r\n", false, {}, 0},
      {"Content-Length: 1 0\r\n", false, {}, 0},
      {"Content-Length: 5;\r\n", false, {}, 0},
      {"Content-Length:\r\n", false, {}, 0},
      {"Content-Length: 5,\r\n", true, body_end::length, 5},
      {"Content-Length: ,5\r\n", false, {}, 0},
      {"Content-Length: 5, 6\r\n", false, {}, 0},
      {"Content-Length: 5\r\nContent-Length: 6\r\n", false, {}, 0},
      {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", false, {}, 0},
      {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", false, {}, 0},
      {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", false, {}, 0},
      {"Transfer-Encoding: gzip, chunked\r\n", false, {}, 0},
      {"Transfer-Encoding: chunked, gzip\r\n", false, {}, 0},
      {"Transfer-Encoding: chunked, chunked\r\n", false, {}, 0},
      {"Transfer-Encoding: gzip\r\n", false, {}, 0},
      {"Transfer-Encoding: identity\r\n", false, {}, 0},
      {"Transfer-Encoding: chunked;q=1\r\n", false, {}, 0},
      {"Transfer-Encoding: xchunked\r\n", false, {}, 0},
      {"Transfer-Encoding:\r\n", false, {}, 0},
  };
  for (const row& t : rows) {
    INFO(t.lines);
    const head h = read("HTTP/1.1 200 OK\r\n" + std::string{t.lines} + "\r\n");
    CHECK(h.state == (t.good ? head_outcome::complete : head_outcome::framing));
    if (!t.good) continue;
    CHECK(h.end == t.end);
    if (t.end == body_end::length) CHECK(h.length == t.length);
  }
  CHECK(read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").state ==
        head_outcome::framing);
  CHECK(read("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n").length == 3);
  CHECK(read("HTTP/1.0 200 OK\r\n\r\n").minor == 0);
}

TEST_CASE("response head: lookup") {
  response_reader r;
  const text in = "HTTP/1.1 200 OK\r\nA: 1\r\nb: 2\r\nB: 3\r\n\r\n";
  CHECK(r.feed(in) == in.size());
  CHECK(r.head().header("a") == "1");
  CHECK(r.head().header("B") == "2");
  CHECK(r.head().header("c").empty());
  r.reset();
  CHECK(r.buffered() == 0);
  CHECK(r.feed(in) == in.size());
  CHECK(r.head().header("A") == "1");
}

TEST_CASE("response head: what it says of the content") {
  const auto ask = [](text lines, auto question) {
    response_reader r;
    const std::string in = "HTTP/1.1 200 OK\r\n" + std::string{lines} + "\r\n";
    CHECK(r.feed(in) == in.size());
    return question(r.head());
  };
  const auto is_stream = [&](text lines) { return ask(lines, sse::detail::is_event_stream); };
  CHECK(is_stream("Content-Type: text/event-stream\r\n"));
  CHECK(is_stream("content-type: Text/Event-Stream\r\n"));
  CHECK(is_stream("Content-Type: text/event-stream;charset=utf-8\r\n"));
  CHECK(is_stream("Content-Type: text/event-stream ; charset=latin1\r\n"));  // as the standard
  CHECK(is_stream("Content-Type: text/event-stream;\r\n"));
  CHECK(is_stream("Content-Type: text/event-stream\r\nContent-Type: text/event-stream\r\n"));
  CHECK_FALSE(is_stream(""));
  CHECK_FALSE(is_stream("Content-Type:\r\n"));
  CHECK_FALSE(is_stream("Content-Type: text/event-streams\r\n"));
  CHECK_FALSE(is_stream("Content-Type: text/event-stream, text/html\r\n"));
  CHECK_FALSE(is_stream("Content-Type: text/html; x=text/event-stream\r\n"));
  CHECK_FALSE(is_stream("Content-Type: text/html\r\nContent-Type: text/event-stream\r\n"));
  CHECK_FALSE(is_stream("Content-Type: text/event-stream\r\nContent-Type: text/html\r\n"));

  const auto identity = [&](text lines) { return ask(lines, sse::detail::is_identity); };
  CHECK(identity(""));
  CHECK(identity("Content-Encoding: Identity\r\n"));
  CHECK(identity("Content-Encoding:\r\n"));
  CHECK_FALSE(identity("Content-Encoding: gzip\r\n"));
  CHECK_FALSE(identity("Content-Encoding: identity\r\nContent-Encoding: br\r\n"));
  CHECK_FALSE(identity("Content-Encoding: gzip\r\nContent-Encoding: identity\r\n"));
  CHECK_FALSE(identity("Content-Encoding: identity, gzip\r\n"));

  const auto location = [&](text lines) {
    return ask(lines, [](const sse::client_response& r) {
      return std::string{sse::detail::only_location(r)};
    });
  };
  CHECK(location("").empty());
  CHECK(location("Location:\r\n").empty());
  CHECK(location("Location: /a\r\n") == "/a");
  CHECK(location("Location: /a\r\nlocation: /a\r\n") == "/a");
  CHECK(location("Location: /a\r\nLocation: /b\r\n").empty());

  using sse::duration;
  const auto seconds = [](text s) {
    return sse::detail::whole_seconds(s, duration::seconds(600)).ms();
  };
  CHECK(seconds("120") == 120'000);
  CHECK(seconds("0") == 0);
  CHECK(seconds("601") == 600'000);
  CHECK(seconds("99999999999999999999999999") == 600'000);
  CHECK(seconds("") == 0);
  CHECK(seconds("-1") == 0);
  CHECK(seconds("1.5") == 0);
  CHECK(seconds("Fri, 31 Dec 1999 23:59:59 GMT") == 0);
}

TEST_CASE("a date of HTTP is seconds since 1970") {
  using sse::detail::read_http_date;
  CHECK(read_http_date("Thu, 01 Jan 1970 00:00:00 GMT") == 0);
  CHECK(read_http_date("Thu, 01 Jan 1970 23:59:59 GMT") == 86'399);
  CHECK(read_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784'111'777);
  CHECK(read_http_date("Sat, 26 Feb 2000 00:00:00 GMT") == 951'523'200);
  CHECK(read_http_date("Tue, 29 Feb 2000 00:00:00 GMT") == 951'782'400);
  CHECK(read_http_date("Wed, 01 Mar 2000 00:00:00 GMT") == 951'868'800);
  CHECK(read_http_date("Mon, 01 Mar 2100 00:00:00 GMT") == 4'107'542'400);  // no leap year
  CHECK(read_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == 1'483'228'800);
  CHECK(read_http_date("Fri, 31 Dec 9999 23:59:59 GMT") == 253'402'300'799);
  for (const text bad : {"", "Wed, 31 Dec 1969 23:59:59 GMT", "Thu, 00 Jan 1970 00:00:00 GMT",
                         "Thu, 32 Jan 1970 00:00:00 GMT", "Thu, 01 Jam 1970 00:00:00 GMT",
                         "Thu, 01 anF 1970 00:00:00 GMT", "Thu, 01 Jan 1970 24:00:00 GMT",
                         "Thu, 01 Jan 1970 00:60:00 GMT", "Thu, 01 Jan 1970 00:00:61 GMT",
                         "Thu, 01 Jan 1970 00:00:00 UTC", "Thu, 01 Jan 1970 00:00:00 GMT ",
                         "Thu, 1 Jan 1970 00:00:00 GMT", "Thursday, 01-Jan-70 00:00:00 GMT",
                         "Thu Jan  1 00:00:00 1970"}) {
    INFO(bad);
    CHECK(read_http_date(bad) == -1);
  }
}

// --- bodies

TEST_CASE("chunks: what is read") {
  struct row {
    text in, data;
  };
  const row rows[] = {
      {"5\r\nhello\r\n0\r\n\r\n", "hello"},
      {"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc"},
      {"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"},
      {"0000000000000003\r\nabc\r\n000\r\n\r\n", "abc"},
      {"3;name\r\nabc\r\n0;x=\"y;z\"\r\n\r\n", "abc"},
      {"3 \t; a = b \r\nabc\r\n0 \r\n\r\n", "abc"},
      {"3;\xC3\xA9\r\nabc\r\n0\r\n\r\n", "abc"},
      {"2\r\n\r\n\r\n0\r\n\r\n", "\r\n"},
      {"5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"},
      {"1\r\na\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", "a"},
      {"0\r\n\r\n", ""},
  };
  for (const row& t : rows) {
    INFO(t.in);
    const body_read b = decode(std::string{t.in} + "HTTP/1.1 200 OK\r\n");
    CHECK(b.state == body_outcome::complete);
    CHECK(b.data == t.data);
    CHECK(b.used == t.in.size());
    CHECK(b.may_end);
    // A consumer that takes less than it is given gets the same.
    CHECK(decode(t.in, body_end::chunked, 0, 1).data == t.data);
    // A cut before the end is never a whole body.
    for (std::size_t n = 0; n < t.in.size(); ++n) {
      const body_read part = decode(t.in.substr(0, n));
      CHECK(part.state == body_outcome::more);
      CHECK_FALSE(part.may_end);
    }
  }
}

TEST_CASE("chunks: what is refused") {
  const text rows[] = {
      "\r\n",
      "x\r\n",
      ";a\r\n",
      " 5\r\nhello\r\n",
      "-1\r\n",
      "+1\r\n",
      "0x1\r\n",
      "5\nhello\r\n",  // LF alone
      "5\rhello\r\n",  // CR alone
      "5\r\r\nhello\r\n",
      "5\r\nhello\n0\r\n\r\n",
      "5 5\r\nhello\r\n",
      "5\r\nhello0\r\n\r\n",  // a size that lies: more came than it said
      "4\r\nhello\r\n0\r\n\r\n",
      "6\r\nhello\r\n0\r\n\r\n",  // less came
      "3;a\nb\r\nabc\r\n",
      "3;a\rb\r\nabc\r\n",
      "3;a\0b\r\nabc\r\n"sv,
      "3;a\x01\r\nabc\r\n",
      "0\r\nA: b\n\r\n",
      "0\r\nA: b\r\r\n",
      "0\r\nA: \0\r\n\r\n"sv,
      "0\r\n\rx",
      "00000000000000001\r\na\r\n",  // 17 digits
      "10000000000000000\r\n",       // 2^64
      "fffffffffffffffff\r\n",
  };
  for (const text in : rows) {
    INFO(in);
    CHECK(outcome_of(in) == body_outcome::malformed);
  }
}

TEST_CASE("chunks: the largest size is only a number") {
  const body_read b = decode("ffffffffffffffff\r\nabc");
  CHECK(b.state == body_outcome::more);
  CHECK(b.data == "abc");
  CHECK_FALSE(b.may_end);
}

TEST_CASE("chunks: extensions and trailers are bounded") {
  const auto extension = [](std::size_t n) {
    return "1;" + std::string(n - 2, 'x') + "\r\na\r\n0\r\n\r\n";
  };
  // The semicolon, the text and the CR count.
  CHECK(outcome_of(extension(body_reader::max_chunk_line - 1)) == body_outcome::complete);
  CHECK(outcome_of(extension(body_reader::max_chunk_line)) == body_outcome::complete);
  CHECK(outcome_of(extension(body_reader::max_chunk_line + 1)) == body_outcome::malformed);
  CHECK(outcome_of("1" + std::string(5000, ' ')) == body_outcome::malformed);
  const auto trailer = [](std::size_t n) {
    return "0\r\nA: " + std::string(n - 5, 'x') + "\r\n\r\n";
  };
  CHECK(outcome_of(trailer(body_reader::max_trailer - 1)) == body_outcome::complete);
  CHECK(outcome_of(trailer(body_reader::max_trailer)) == body_outcome::complete);
  CHECK(outcome_of(trailer(body_reader::max_trailer + 1)) == body_outcome::malformed);
  std::string many = "0\r\n";
  for (int i = 0; i < 5000; ++i) many += "a\r\n";
  CHECK(outcome_of(many) == body_outcome::malformed);
  // The bound is per chunk: an endless stream may have endless extensions.
  std::string long_stream;
  for (int i = 0; i < 1000; ++i) long_stream += "1;abcdefghij\r\na\r\n";
  CHECK(decode(long_stream).data == std::string(1000, 'a'));
}

TEST_CASE("chunks: a server bounds all of their content, and all that is not content") {
  const auto read_with = [](text in, const sse::detail::chunk_limits& limits) {
    return everywhere(in, [&](text all, std::size_t first, std::size_t step) {
      body_reader reader{body_end::chunked, 0, limits};
      in_pieces(all, first, step, [&](text piece) {
        while (!piece.empty() && reader.state() == body_outcome::more) {
          const auto [skipped, data] = reader.next(piece);
          piece.remove_prefix(skipped + data.size());
          if (!data.empty()) reader.took(data.size());
        }
        return reader.state() == body_outcome::more;
      });
      return reader.state();
    });
  };
  const text three = "2\r\nab\r\n1\r\nc\r\n2\r\nde\r\n0\r\n\r\n";
  CHECK(read_with(three, {.content = 6}) == body_outcome::complete);
  CHECK(read_with(three, {.content = 5}) == body_outcome::complete);
  CHECK(read_with(three, {.content = 4}) == body_outcome::too_large);
  CHECK(read_with("0\r\n\r\n", {.content = 0}) == body_outcome::complete);
  CHECK(read_with("ffffffffffffffff\r\n", {.content = 5}) == body_outcome::too_large);
  // Two extensions and a trailer: six bytes without the line ends.
  const text extras = "1;\r\na\r\n1;x\r\nb\r\n0\r\nA:b\r\n\r\n";
  CHECK(read_with(extras, {.extras = 7}) == body_outcome::complete);
  CHECK(read_with(extras, {.extras = 6}) == body_outcome::complete);
  CHECK(read_with(extras, {.extras = 5}) == body_outcome::many_extras);
  CHECK(read_with(three, {.extras = 0}) == body_outcome::complete);
  CHECK(read_with("1;", {.extras = 0}) == body_outcome::many_extras);
}

TEST_CASE("bodies of a known length, and to the end of the connection") {
  body_read b = decode("hello, and more", body_end::length, 5);
  CHECK(b.state == body_outcome::complete);
  CHECK(b.data == "hello");
  CHECK(b.used == 5);
  b = decode("hell", body_end::length, 5);
  CHECK(b.state == body_outcome::more);
  CHECK_FALSE(b.may_end);
  CHECK(decode("", body_end::length, 0).state == body_outcome::complete);
  CHECK(decode("hello", body_end::length, 5, 2).data == "hello");
  b = decode("hello", body_end::close);
  CHECK(b.state == body_outcome::more);
  CHECK(b.data == "hello");
  CHECK(b.may_end);
}
