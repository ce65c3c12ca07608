// Chunked framing, and transports that take few buffers.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "dechunk.hpp"
#include "stage.hpp"

namespace {

using sse::publish_error;
using test::dechunk;
using test::frame;
using test::frames;
using test::quiet;
using test::stage;

/// Takes at most N buffers, as a TLS stream takes one, and remembers whether it was asked to take
/// more.
template <std::size_t N>
struct narrow_transport : sse::testing::memory_transport {
  static constexpr std::size_t max_buffers = N;
  bool too_many = false;

  [[nodiscard]] sse::write_result write(connection& c,
                                        std::span<const sse::buffer> bytes) noexcept {
    too_many = too_many || bytes.size() > N || bytes.empty();
    for (const sse::buffer& b : bytes) too_many = too_many || b.size == 0;
    return sse::testing::memory_transport::write(c, bytes);
  }
};

}  // namespace

// --- chunked ---

TEST_CASE("X-23 chunked framing is an option of the request, and an HTTP 1.0 client never gets it",
          "[flow][chunked]") {
  stage s{{.opening = "hi"}};
  sse::channel c = s.open("c", quiet());
  const auto chunked = s.join(c, {.preamble = "HEAD\r\n\r\n", .chunked = true});
  const auto plain = s.join(c, {.preamble = "HEAD\r\n\r\n"});
  const auto old = s.join(c, {.preamble = "HEAD\r\n\r\n", .chunked = true, .minor_version = 0});
  CHECK(s.take(chunked) == "HEAD\r\n\r\n6\r\n: hi\n\n");
  CHECK(s.take(plain) == "HEAD\r\n\r\n: hi\n\n");
  CHECK(s.take(old) == "HEAD\r\n\r\n: hi\n\n");
  s.put(c, "x");
  s.put(c, "y");
  s.flush();
  const std::string two = frame(1, "e", "x") + frame(2, "e", "y");
  CHECK(s.take(chunked) == "\r\n30\r\n" + two);  // one chunk for all that was pending
  CHECK(two.size() == 0x30);
  CHECK(s.take(plain) == two);
  CHECK(s.take(old) == two);
  for (const auto& k : {chunked, plain, old}) s.hub.finish(k.id);
  s.flush();
  CHECK(s.take(chunked) == "\r\n0\r\n\r\n");
  CHECK(s.take(plain).empty());  // close-delimited
  CHECK(s.closed(chunked));
  CHECK(s.closed(plain));
}

TEST_CASE("X-23 a chunked stream that ends before its first byte is an empty body",
          "[flow][chunked]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c, {.chunked = true});
  s.hub.finish(k.id);
  s.flush();
  CHECK(s.take(k) == "0\r\n\r\n");
  CHECK(s.closed(k));
}

template <class Stage>
void chunked_at_every_cut() {
  // Two segments, an event that is larger than what was announced, control frames between.
  const std::string large(3000, 'x');
  std::string expect;
  bool right = true;
  for (std::size_t cut = 0; cut < 120; ++cut) {
    Stage s;
    sse::channel c = s.open("c", quiet());
    s.put_many(c, 3);
    expect = frames(1, 3);
    const auto k =
        s.join(c, {.last_event_id = "0", .preamble = "HEAD", .chunked = true, .window = cut});
    expect += frame(s.put(c, large), "e", large);
    expect += frame(s.put(c, large), "e", large);
    right = right && s.hub.send(k.id, {.type = "w", .data = "psst"}) == publish_error::none;
    s.flush();
    for (std::size_t i = 0; i < 40; ++i) {
      s.let(k, 1 + i * cut % 90);
      if (i % 10 == 0) {
        const std::uint64_t id = s.put(c);
        expect += frames(id, id);
      }
    }
    s.let(k);
    s.hub.finish(k.id);
    s.flush();
    std::string got = s.take(k);
    right = right && s.closed(k) && got.starts_with("HEAD");
    bool whole = false;
    std::string body = dechunk(std::string_view(got).substr(4), whole);
    const std::size_t at = body.find(frame(0, "w", "psst"));
    right = right && whole && at != body.npos;
    if (at != body.npos) body.erase(at, frame(0, "w", "psst").size());
    right = right && body == expect;
    if constexpr (requires { s.net.too_many; }) right = right && !s.net.too_many;
  }
  CHECK(right);
}

TEST_CASE("X-23 chunks cut at any byte, over transports that take 16, 2 or 1 buffers",
          "[flow][chunked]") {
  SECTION("16") { chunked_at_every_cut<stage>(); }
  SECTION("2") { chunked_at_every_cut<test::basic_stage<narrow_transport<2>>>(); }
  SECTION("1") { chunked_at_every_cut<test::basic_stage<narrow_transport<1>>>(); }
}

TEST_CASE("a transport with one buffer gets the same bytes", "[flow]") {
  test::basic_stage<narrow_transport<1>> s{{.opening = "hi"}};
  sse::channel c = s.open("c", quiet());
  s.put_many(c, 3);
  const auto k = s.join(c, {.last_event_id = "0", .preamble = "HEAD"});
  REQUIRE(s.hub.send(k.id, {.data = "w"}) == publish_error::none);
  s.put(c);
  s.flush();
  CHECK(s.take(k) == "HEAD: hi\n\n" + frames(1, 3) + frame(0, "", "w") + frames(4, 4));
  CHECK_FALSE(s.net.too_many);
}
