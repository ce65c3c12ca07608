// Every allocation of the parser and the mailbox fails once; the hot paths make none.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <sse/encode.hpp>
#include <sse/mailbox.hpp>
#include <sse/parse.hpp>

#include "allocations.hpp"
#include "catch.hpp"

#if TEST_ALLOCATIONS

namespace {

struct counter {
  std::size_t events = 0, bytes = 0, comments = 0;
  void on_event(const sse::event& e) {
    ++events;
    bytes += e.data.size() + e.type.size() + e.id.size();
  }
  void on_comment(std::string_view text) { comments += text.size(); }
};

/// Feeds `in`, of `events` events, whole and in pieces, with each allocation failing in turn;
/// without a failure it takes `least` - 1 at least.
void check_each_failure(std::string_view in, std::size_t events, std::uint64_t least) {
  for (const std::size_t step : {in.size(), std::size_t{1}, std::size_t{7}}) {
    bool hit = true;
    std::uint64_t n = 0;
    for (; hit; ++n) {
      CAPTURE(step, n);
      sse::parser p{{.utf8 = sse::invalid_utf8::replace}};
      counter c;
      sse::parse_result r;
      {
        const test::failing_allocations fail{n};
        for (std::size_t i = 0; i < in.size() && r; i += step) r = p.feed(in.substr(i, step), c);
        hit = fail.hit();
      }
      REQUIRE(r.error == (hit ? sse::parse_error::no_memory : sse::parse_error::none));
      REQUIRE(p.error() == r.error);
      REQUIRE(p.feed("data: x\n\n", c).error == r.error);
      // Afterwards it works as if nothing had been.
      p.reset();
      counter again;
      REQUIRE(p.feed(in, again));
      REQUIRE(again.events == events);
    }
    CHECK(n >= least);
  }
}

TEST_CASE("the parser survives each allocation that fails", "[allocation][parse]") {
  std::string in = "\xEF\xBB\xBFid: 1\nevent: first\n: c\xFF\ndata: " + std::string(200, 'x') +
                   "\ndata: \xFFy\n\n";
  in += "id: " + std::string(100, '2') + "\nevent: " + std::string(100, 't') +
        "\ndata\n\nevent: \xFF\ndata: \xFF\n\n";
  check_each_failure(in, 3, 4);
  // The first memory of all is for what replaces a byte.
  check_each_failure("event: \xFF\ndata\n\n", 1, 2);
  sse::parser p;
  bool set = true;
  {
    const test::failing_allocations fail{0};
    set = p.set_last_event_id("7");
  }
  CHECK_FALSE(set);
  CHECK(p.last_event_id().empty());
}

TEST_CASE("events that lie whole in the input cost no allocation once ids have room",
          "[allocation][parse]") {
  const std::string in =
      "id: 123\nevent: t\ndata: " + std::string(1000, 'x') + "\n\n: c\n\nid: 124\ndata: y\n\n";
  sse::parser p;
  counter c;
  for (int i = 0; i < 2; ++i) REQUIRE(p.feed(in, c));
  const std::uint64_t before = test::allocations();
  bool ok = true;
  for (int i = 0; i < 100; ++i) ok = ok && p.feed(in, c);
  CHECK(test::allocations() == before);
  CHECK(ok);
  CHECK(c.events == 204);
}

TEST_CASE(
    "large events in pieces cost no allocation from the second on, and a small one frees theirs",
    "[allocation][parse]") {
  const std::string large = "data: " + std::string(1'000'000, 'x') + "\n\n";
  const std::string lines =
      "data: " + std::string(300'000, 'x') + "\ndata: " + std::string(200'000, 'y') + "\n\n";
  sse::parser p;
  counter c;
  const auto feed = [&](std::string_view in) {
    const std::uint64_t before = test::allocations();
    bool ok = true;
    for (; !in.empty(); in.remove_prefix(std::min<std::size_t>(in.size(), 16'384)))
      ok = ok && p.feed(in.substr(0, 16'384), c);
    CHECK(ok);
    return test::allocations() - before;
  };
  for (const std::string& event : {large, lines}) {
    for (const char* const small : {"data: x\n\n", ": keep-alive\n\n", "id: 3\n\n"}) {
      const std::uint64_t first = feed(event);
      (void)feed(event);
      for (int i = 0; i < 10; ++i) CHECK(feed(event) == 0);
      (void)feed(small);
      CHECK(first > 2);
      CHECK(feed(event) > 2);  // what the large ones needed was given back
      (void)feed(small);
    }
  }
}

TEST_CASE("a parser between streams holds no large block, and one that gave up none at all",
          "[allocation][parse]") {
  const std::string line = "data: " + std::string(100'000, 'x');
  const std::string cut[] = {line, line + "\n", line + "\n" + line + "\ndat"};
  const std::string refused[] = {line + "\n" + line + "\nid: 12345\n",
                                 "data: x\ndata: y\nid: 12345\n"};
  sse::parser p{{.limits = {.id = 4}}};
  counter c;
  const std::int64_t before = test::live_bytes();
  const auto held = [&] { return test::live_bytes() - before; };
  const auto feed = [&](std::string_view in) {
    sse::parse_result r;
    for (; r && !in.empty(); in.remove_prefix(std::min<std::size_t>(in.size(), 10)))
      r = p.feed(in.substr(0, 10), c);
    return r.error;
  };
  for (const std::string& in : cut) {
    for (const bool ended : {false, true}) {
      CHECK(feed(in) == sse::parse_error::none);
      CHECK(held() > 100'000);
      ended ? (void)p.finish() : p.reset();
      CHECK(held() <= 2 * 64 * 1024);  // a line's and the data's
    }
  }
  for (const std::string& in : refused) {
    CHECK(feed(in) == sse::parse_error::id_too_long);
    CHECK(held() == 0);
    p.reset();
  }
  CHECK(c.events == 0);
}

TEST_CASE("encoding into memory that is there costs no allocation", "[allocation][encode]") {
  char out[256];
  const sse::event e{.type = "t", .data = "a\nb", .id = "5", .retry = 9};
  const std::uint64_t before = test::allocations();
  const sse::encode_plan p = sse::plan(e);
  char* const end = sse::encode_to(out, e, p);
  char* const after = sse::encode_retry_to(sse::encode_comment_to(end, "c"), 7);
  CHECK(test::allocations() == before);
  CHECK(std::string_view{out, static_cast<std::size_t>(after - out)} ==
        "id: 5\nevent: t\nretry: 9\ndata: a\ndata: b\n\n: c\n\nretry: 7\n\n");
}

TEST_CASE("the mailbox survives each allocation that fails", "[allocation][mailbox]") {
  struct outcome {
    bool hit = false, made = false, slept = false;
    sse::publish_result sent{};
    std::size_t got = 0;
    std::uint64_t accepted = 0;
  };
  const auto attempt = [](std::uint64_t n) {
    outcome o;
    const test::failing_allocations fail{n};
    sse::mailbox box;
    o.made = static_cast<bool>(box);
    sse::publisher p = box.make_publisher(1);
    o.sent = p.try_publish("x");
    o.got = box.drain([](const sse::mail&) {});
    o.slept = box.prepare_sleep();
    box.awake();
    box.close();
    o.accepted = box.counts().accepted;
    o.hit = fail.hit();
    return o;
  };
  std::uint64_t n = 0;
  for (bool hit = true; hit; ++n) {
    const outcome o = attempt(n);
    hit = o.hit;
    REQUIRE(o.made == (n != 0));
    REQUIRE(o.sent == (hit ? sse::publish_error::closed : sse::publish_error::none));
    REQUIRE(o.got == (hit ? 0U : 1U));
    REQUIRE(o.accepted == o.got);
    REQUIRE(o.slept);
  }
  CHECK(n == 4);  // the shared state, the ring, the lane; then none fails
}

TEST_CASE("publishing and draining cost no allocation", "[allocation][mailbox]") {
  sse::mailbox box;
  sse::publisher p = box.make_publisher(1);
  box.drain([](const sse::mail&) {});
  const std::uint64_t before = test::allocations();
  std::size_t got = 0;
  bool ok = true;
  for (int i = 0; i < 10000; ++i) {
    const auto batch = p.batch();
    ok = ok && p.try_publish({.type = "t", .data = "data"}, {.audience = "a"}) ==
                   sse::publish_error::none;
    ok = ok && p.try_emplace(10, [](char*, std::size_t) noexcept { return 0; }) ==
                   sse::publish_error::none;
    if (i % 100 == 0) got += box.drain([](const sse::mail&) {});
  }
  got += box.drain([](const sse::mail&) {});
  CHECK(test::allocations() == before);
  CHECK(ok);
  CHECK(got == 20000);
}

}  // namespace

#endif
