// The chunked framing of a stream by itself: whatever prefix of each write is taken, what arrives
// decodes to what was gathered, and every chunk has the size that it announced.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <sse/detail/engine/batch.hpp>
#include <sse/detail/engine/chunks.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::detail::batch;
using sse::detail::chunks;
using sse::detail::none;
using sse::detail::run;

run body(std::string_view s) {
  return {s.data(), static_cast<std::uint32_t>(s.size()), 0, nullptr, run::from_lane, 0};
}

/// One stream that is written: `data` goes out as chunks, so much of each write as is taken.
struct writer {
  chunks all;
  std::uint32_t state = all.take();
  batch b;
  std::string wire;
  std::string_view data;
  std::size_t sent = 0;

  explicit writer(std::string_view what) : data{what} {}

  /// Gathers up to `most` bytes of data behind `head`, frames them and shows the batch to a
  /// transport with room for `room` buffers, which takes `window` bytes. The bytes taken.
  std::size_t write(std::size_t most, std::size_t window, std::uint32_t room = 16,
                    std::string_view head = {}) {
    b.begin(UINT64_MAX);
    if (!head.empty()) REQUIRE(b.add(body(head)));
    const std::uint64_t limit = all.limit(state, most);
    const std::string_view next = data.substr(sent, static_cast<std::size_t>(limit));
    for (std::size_t i = 0; i < next.size(); i += 5)  // runs as an engine has them
      REQUIRE(b.add(body(next.substr(i, 5))));
    REQUIRE(all.frame(state, b, head.empty() ? 0 : 1));
    return take(window, room, head.size());
  }
  std::size_t end(std::size_t window) {
    b.begin(UINT64_MAX);
    REQUIRE(all.gather_end(state, b));
    return take(window, 16, 0);
  }
  /// As engine::advance does it.
  std::size_t take(std::size_t window, std::uint32_t room, std::size_t head) {
    std::size_t left = window;
    std::size_t taken = 0;
    for (const sse::buffer& shown : b.lay_out(room)) {
      const std::size_t n = shown.size < left ? shown.size : left;
      wire.append(shown.data, n);
      left -= n;
      taken += n;
    }
    std::size_t rest = taken;
    for (std::uint32_t i = 0; i < b.size() && rest != 0; ++i) {
      const auto n = static_cast<std::uint32_t>(b[i].size < rest ? b[i].size : rest);
      rest -= n;
      if (b[i].from == run::from_chunk) {
        all.line_sent(state, n);
      } else if (head != 0 && i == 0) {
        head = 0;
      } else {
        all.data_sent(state, n);
        sent += n;
      }
    }
    return taken;
  }
};

/// The body of a chunked message, read by the book (RFC 9112 7.1); nothing if it is malformed or
/// not complete. `sizes` gets each chunk's.
std::optional<std::string> decoded(std::string_view wire, std::string* sizes = nullptr) {
  std::string out;
  for (;;) {
    const std::size_t line = wire.find("\r\n");
    if (line == 0 || line == wire.npos || line > 8) return {};
    std::size_t n = 0;
    for (const char c : wire.substr(0, line)) {
      const bool digit = c >= '0' && c <= '9';
      if (!digit && (c < 'a' || c > 'f')) return {};
      n = n * 16 + static_cast<std::size_t>(digit ? c - '0' : c - 'a' + 10);
    }
    wire.remove_prefix(line + 2);
    if (sizes != nullptr) *sizes += std::to_string(n) + " ";
    if (n == 0) return wire == "\r\n" ? std::optional{out} : std::nullopt;
    if (wire.size() < n + 2 || wire.substr(n, 2) != "\r\n") return {};
    out.append(wire.substr(0, n));
    wire.remove_prefix(n + 2);
  }
}

/// Ends it, `window` bytes in a write.
std::string finished(writer& w, std::size_t window) {
  REQUIRE(w.all.end(w.state));
  while (w.end(window) != 0) {
  }
  return w.wire;
}

const std::string letters = [] {
  std::string s;
  for (int i = 0; i < 400; ++i) s += static_cast<char>('a' + i % 26);
  return s;
}();

}  // namespace

TEST_CASE("chunks: a write that is cut at any byte goes on where it stopped", "[chunks]") {
  for (const std::size_t size : {1U, 9U, 15U, 16U, 17U, 255U, 256U}) {
    for (std::size_t cut = 0; cut <= size + 8; ++cut) {
      CAPTURE(size, cut);
      writer w{std::string_view{letters}.substr(0, size)};
      (void)w.write(size, cut);
      while (w.sent < size) REQUIRE(w.write(size, SIZE_MAX) != 0);
      std::string sizes;
      CHECK(decoded(finished(w, SIZE_MAX), &sizes) == std::optional<std::string>{w.data});
      CHECK(sizes == std::to_string(size) + " 0 ");
    }
  }
}

TEST_CASE("chunks: the last chunk is cut at any byte too, and said once", "[chunks]") {
  for (const bool with_data : {false, true}) {
    for (std::size_t cut = 0; cut <= 8; ++cut) {
      CAPTURE(with_data, cut);
      writer w{with_data ? "data" : ""};
      if (with_data) (void)w.write(4, SIZE_MAX);
      CHECK_FALSE(w.all.ended(w.state));
      REQUIRE(w.all.end(w.state));
      CHECK(w.all.ended(w.state));
      CHECK_FALSE(w.all.end(w.state));
      (void)w.end(cut);
      (void)w.end(SIZE_MAX);
      CHECK(w.end(SIZE_MAX) == 0);
      CHECK(w.wire == (with_data ? "4\r\ndata\r\n0\r\n\r\n" : "0\r\n\r\n"));
    }
  }
}

TEST_CASE("chunks: no bytes make no chunk, which would end the body", "[chunks]") {
  writer w{""};
  CHECK(w.write(10, SIZE_MAX) == 0);
  CHECK(w.wire.empty());
  w.data = "x";
  CHECK(w.write(10, SIZE_MAX) == 4);
  CHECK(w.wire == "1\r\nx");
}

TEST_CASE("chunks: a size line of which nothing left is made anew, one that began is kept",
          "[chunks]") {
  writer w{std::string_view{letters}.substr(0, 100)};
  (void)w.write(20, 0);
  CHECK(w.all.owed(w.state) == 0);
  CHECK(w.all.limit(w.state, 77) == 77);
  (void)w.write(30, 1);  // "1" of 1e
  CHECK(w.all.owed(w.state) == 30);
  CHECK(w.all.limit(w.state, 77) == 30);
  CHECK(w.all.limit(w.state, 7) == 7);
  (void)w.write(77, 3 + 29);
  CHECK(w.all.owed(w.state) == 1);
  (void)w.write(77, SIZE_MAX);
  CHECK(w.all.owed(w.state) == 0);
  CHECK(w.wire == "1e\r\n" + letters.substr(0, 30));
}

TEST_CASE("chunks: a reader that skips inside an announced chunk gets padding up to its size",
          "[chunks]") {
  // What was gathered when the chunk was announced is gone; other bytes, such as a comment, fill
  // what is owed, and what comes behind them stands in the next chunk.
  writer w{"0123456789"};
  (void)w.write(10, 3 + 4);  // a\r\n0123
  REQUIRE(w.all.owed(w.state) == 6);
  w.data = ":  \n\n\nnext";
  w.sent = 0;
  (void)w.write(100, SIZE_MAX);
  CHECK(w.all.owed(w.state) == 0);
  (void)w.write(100, SIZE_MAX);
  CHECK(decoded(finished(w, SIZE_MAX)) == "0123:  \n\n\nnext");
}

TEST_CASE("chunks: more than was announced is cut off, whatever was gathered", "[chunks]") {
  chunks all;
  const std::uint32_t state = all.take();
  batch b;
  b.begin(UINT64_MAX);
  REQUIRE(b.add(body("abc")));
  REQUIRE(all.frame(state, b, 0));
  all.line_sent(state, 1);
  b.begin(UINT64_MAX);
  REQUIRE(b.add(body("abc")));
  REQUIRE(b.add(body("def")));
  REQUIRE(all.frame(state, b, 0));
  CHECK(b.total() == 2 + 3);
  CHECK(b.was_cut());
}

TEST_CASE("chunks: what is gathered in front of the body is not framed", "[chunks]") {
  for (std::size_t cut = 0; cut <= 4 + 3 + 10; ++cut) {
    CAPTURE(cut);
    writer w{"0123456789"};
    const std::size_t n = w.write(10, cut, 16, "HEAD");
    const std::string_view head = n < 4 ? std::string_view{"HEAD"}.substr(n) : std::string_view{};
    while (w.sent < 10) (void)w.write(10, SIZE_MAX, 16, w.wire.size() < 4 ? head : "");
    REQUIRE(w.wire.starts_with("HEAD"));
    w.wire.erase(0, 4);
    CHECK(decoded(finished(w, SIZE_MAX)) == "0123456789");
  }
}

TEST_CASE("chunks: a transport with one buffer gets each chunk and its line in one", "[chunks]") {
  writer w{letters};
  CHECK(w.write(400, SIZE_MAX, 1) == 5 + 400);
  CHECK(w.wire == "190\r\n" + letters);
}

TEST_CASE("chunks: a record that is cut short leaves the rest of its chunk owed", "[chunks]") {
  const std::string much(std::size_t{batch::record} + 100, 'x');
  writer w{much};
  CHECK(w.write(much.size(), SIZE_MAX, 1) == batch::record);
  CHECK(w.all.owed(w.state) == 100 + 6);
  CHECK(w.write(much.size(), SIZE_MAX, 1) == 106);
  CHECK(decoded(finished(w, 1)) == much);
}

TEST_CASE("chunks: any sizes and any cuts give a body that decodes to the data", "[chunks]") {
  test::random_source random{20};
  for (int round = 0; round < 2000; ++round) {
    CAPTURE(round);
    writer w{std::string_view{letters}.substr(0, 1 + random.below(letters.size()))};
    const std::uint32_t room = random.one_in(3) ? 1 : 16;
    while (w.sent < w.data.size()) {
      const std::size_t most = 1 + random.below(120);
      (void)w.write(most, random.one_in(4) ? SIZE_MAX : random.below(40), room);
    }
    CHECK(decoded(finished(w, 1 + random.below(7))) == std::optional<std::string>{w.data});
  }
}

TEST_CASE("chunks: the largest size that is announced has its eight digits in the line",
          "[chunks]") {
  chunks all;
  const std::uint32_t state = all.take();
  for (int round = 0; round < 2; ++round) {  // the second has the line end of the first in front
    batch b;
    b.begin(UINT64_MAX);
    REQUIRE(b.add({letters.data(), UINT32_MAX, 0, nullptr, run::from_lane, 0}));
    REQUIRE(all.frame(state, b, 0));
    const std::string_view line{b[0].data, b[0].size};
    CHECK(line == (round == 0 ? "ffffffff\r\n" : "\r\nffffffff\r\n"));
    all.line_sent(state, b[0].size);
    all.data_sent(state, UINT32_MAX);
  }
}

TEST_CASE("chunks: a state that is used again begins anew", "[chunks]") {
  writer w{"abc"};
  (void)w.write(3, 4);
  w.all.give_back(w.state);
  const std::uint32_t again = w.all.take();
  CHECK(again == w.state);
  CHECK(w.all.owed(again) == 0);
  CHECK_FALSE(w.all.ended(again));
  w.wire.clear();
  w.sent = 0;
  (void)w.write(3, SIZE_MAX);
  CHECK(w.wire == "3\r\nabc");
}

#if TEST_ALLOCATIONS

TEST_CASE("chunks: without memory there is no state, and no frame but what was gathered",
          "[chunks][allocation]") {
  chunks all;
  for (std::uint64_t n = 0; n < 2; ++n) {
    std::uint32_t taken = 0;
    {
      const test::failing_allocations fail{n};
      taken = all.take();
    }
    CHECK(taken == none);
  }
  const std::uint32_t state = all.take();
  REQUIRE(state != none);
  batch b;
  b.begin(UINT64_MAX);
  for (int i = 0; i < 8; ++i) REQUIRE(b.add(body("x")));  // as many as it has room for
  bool framed = true;
  {
    const test::failing_allocations fail{0};
    framed = all.frame(state, b, 0);
  }
  CHECK_FALSE(framed);
  CHECK(b.total() == 8);
  CHECK(all.owed(state) == 0);
  REQUIRE(all.frame(state, b, 0));
  CHECK(b.total() == 8 + 3);
}

#endif
