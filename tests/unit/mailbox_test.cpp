// Publishers on other threads: order, counts, limits, lifetimes and wake-ups.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/mailbox.hpp>

#include "catch.hpp"

namespace {

using sse::publish_error;
using sse::publish_result;
using namespace std::string_literals;

struct letter {
  std::uint64_t target = 0;
  std::string type{}, data{}, audience{};
  sse::event_id id = 0;
  bool transient = false;
  bool operator==(const letter&) const = default;
};

std::vector<letter> drain(sse::mailbox& box, std::size_t most = sse::mailbox::unlimited) {
  std::vector<letter> got;
  const std::size_t n = box.drain(
      [&](const sse::mail& m) {
        got.push_back({m.target, std::string{m.event.type}, std::string{m.event.data},
                       std::string{m.options.audience}, m.options.id, m.options.transient});
      },
      most);
  REQUIRE(n == got.size());
  return got;
}

std::vector<std::string> drain_data(sse::mailbox& box, std::size_t most = sse::mailbox::unlimited) {
  std::vector<std::string> data;
  for (letter& l : drain(box, most)) data.push_back(std::move(l.data));
  return data;
}

// What a loop sleeps on: sticky, as mailbox_options::wake asks.
struct bell {
  std::mutex mutex{};
  std::condition_variable rung{};
  bool ringing = false;
  std::atomic<int> count{0};

  static void ring(void* self) noexcept {
    auto& b = *static_cast<bell*>(self);
    ++b.count;
    const std::lock_guard lock{b.mutex};
    b.ringing = true;
    b.rung.notify_one();
  }
  // False if nobody rang in a time that is far longer than any scheduler needs.
  bool sleep() {
    std::unique_lock lock{mutex};
    const bool woken = rung.wait_for(lock, std::chrono::seconds{30}, [this] { return ringing; });
    ringing = false;
    return woken;
  }
  sse::mailbox_options options() { return {.wake = &ring, .context = this}; }
};

TEST_CASE("a publisher's mail arrives complete and in order", "[mailbox]") {
  sse::mailbox box;
  REQUIRE(box);
  sse::publisher p = box.make_publisher(42);
  REQUIRE(p);
  CHECK(drain(box).empty());
  CHECK(p.try_publish("one") == publish_error::none);
  CHECK(p.try_publish("") == publish_error::none);
  CHECK(p.try_publish({.type = "t", .data = "two\n\0"s},
                      {.id = 7, .audience = "ada", .transient = true}) == publish_error::none);
  CHECK(p.try_publish({.type = "only type"}) == publish_error::none);
  CHECK((drain(box) == std::vector<letter>{{42, "", "one", ""},
                                           {42, "", "", ""},
                                           {42, "t", "two\n\0"s, "ada", 7, true},
                                           {42, "only type", "", ""}}));
  CHECK(drain(box).empty());
  CHECK((p.counts() == sse::mail_counts{.accepted = 4}));
  CHECK((box.counts() == p.counts()));
  CHECK(box.drained() == 4);
}

TEST_CASE(
    "X-02 policy drop-newest: a lane that is full refuses, counts, and takes again once drained",
    "[mailbox]") {
  sse::mailbox box;
  sse::publisher p = box.make_publisher(1, 1024);
  std::uint64_t n = 0;
  while (p.try_publish(std::to_string(n)) == publish_error::none) ++n;
  CHECK(n == 1024 / 32);
  CHECK(p.try_publish("x") == publish_error::full);
  CHECK((p.counts() == sse::mail_counts{.accepted = n, .full = 2}));
  CHECK(p.counts().refused() == 2);
  constexpr sse::mail_counts all{
      .accepted = 1, .full = 2, .too_large = 30, .invalid = 400, .closed = 5000};
  CHECK(all.refused() == 5432);
  CHECK((drain_data(box, 1) == std::vector<std::string>{"0"}));
  CHECK(p.try_publish("y") == publish_error::none);
  CHECK(p.try_publish("z") == publish_error::full);
  CHECK(drain(box).size() == n);
}

TEST_CASE("a record takes at most half of the lane", "[mailbox]") {
  sse::mailbox box;
  sse::publisher p = box.make_publisher(1, 1024);
  CHECK(p.max_bytes() == 512 - 24);
  for (const std::size_t size : {p.max_bytes() - 1, p.max_bytes(), p.max_bytes() + 1}) {
    const auto expected = size > p.max_bytes() ? publish_error::too_large : publish_error::none;
    CAPTURE(size);
    // From every place in the ring: what is not too large fits once it is drained.
    for (int shift = 0; shift < 40; ++shift) {
      REQUIRE(p.try_publish("shift") == publish_error::none);
      REQUIRE(drain(box).size() == 1);
      const std::string data(size, static_cast<char>('a' + shift % 26));
      REQUIRE(p.try_publish(data) == expected);
      if (expected == publish_error::none)
        REQUIRE((drain_data(box) == std::vector<std::string>{data}));
      REQUIRE(p.try_publish({.type = "t", .data = data.substr(3)}, {.audience = "au"}) == expected);
      if (expected == publish_error::none) {
        REQUIRE((drain(box) == std::vector<letter>{{1, "t", data.substr(3), "au"}}));
      }
    }
  }
  CHECK(p.counts().too_large == 80);
}

TEST_CASE("lane sizes are rounded up to a power of two", "[mailbox]") {
  sse::mailbox box;
  CHECK(box.make_publisher(1, 0).max_bytes() == 512 - 24);
  CHECK(box.make_publisher(1, 1024).max_bytes() == 512 - 24);
  CHECK(box.make_publisher(1, 1025).max_bytes() == 1024 - 24);
  CHECK(box.make_publisher(1).max_bytes() == 128 * 1024 - 24);
}

TEST_CASE("what the hub would refuse, the publisher refuses", "[mailbox]") {
  sse::mailbox box{{.limits = {.event = 200, .type = 5}}};
  sse::publisher p = box.make_publisher(1, 4096);
  CHECK(p.try_publish({.type = "12345", .data = "x"}) == publish_error::none);
  CHECK(p.try_publish({.type = "123456", .data = "x"}) == publish_error::too_large);
  for (const std::string& bad : {"\n"s, "\r"s, "\0"s, "a\nb"s}) {
    CHECK(p.try_publish({.type = bad, .data = "x"}) == publish_error::bad_type);
  }
  CHECK(p.try_publish({.data = "x"}, {.id = sse::max_event_id}) == publish_error::none);
  CHECK(p.try_publish({.data = "x"}, {.id = sse::max_event_id + 1}) == publish_error::id_order);
  CHECK(p.try_publish({.data = "x"}, {.audience = std::string(65535, 'a')}) ==
        publish_error::too_large);
  CHECK(p.try_publish({.data = "x"}, {.audience = std::string(65536, 'a')}) ==
        publish_error::too_large);
  CHECK(p.try_publish({.data = "x"}, {.audience = std::string(2000, 'a')}) ==
        publish_error::none);  // not sent
  drain(box);

  // A record's own bounds hold whatever the options allow.
  sse::mailbox wide{{.limits = {.event = 1 << 20, .type = 1 << 20}}};
  sse::publisher w = wide.make_publisher(1, 1 << 20);
  for (const std::size_t size : {65534U, 65535U, 65536U}) {
    CAPTURE(size);
    const auto expected = size > 65535 ? publish_error::too_large : publish_error::none;
    const std::string type(size, 't');
    CHECK(w.try_publish({.type = type, .data = "x"}) == expected);
    if (size < 65536) CHECK((drain(wide) == std::vector<letter>{{1, type, "x", ""}}));
  }

  // The encoded size counts, with the longest id there can be.
  const auto encoded = [](std::string_view type, std::string_view data) {
    return sse::encoded_size({.type = type, .data = data, .id = "9007199254740991"});
  };
  for (const char* type : {"", "t"}) {
    for (std::size_t n = 0; n < 200; ++n) {
      for (const char fill : {'x', '\n'}) {
        const std::string data(n, fill);
        CAPTURE(type, n, fill);
        const auto expected =
            encoded(type, data) <= 200 ? publish_error::none : publish_error::too_large;
        REQUIRE(p.try_publish({.type = type, .data = data}) == expected);
        REQUIRE(p.try_emplace({.type = type}, {}, 300, [&](char* out, std::size_t) noexcept {
          if (n != 0) std::memcpy(out, data.data(), n);
          return n;
        }) == expected);
        drain(box);
      }
    }
  }
  sse::mailbox none{{.limits = {.event = 10}}};
  sse::publisher q = none.make_publisher(1);
  CHECK(q.try_publish("") == publish_error::too_large);
}

TEST_CASE("an event is formatted in place", "[mailbox]") {
  sse::mailbox box;
  sse::publisher p = box.make_publisher(5, 1024);
  const auto hello = [](char* out, std::size_t room) noexcept {
    CHECK(room == 10);
    std::memcpy(out, "hello", 5);
    return std::size_t{5};
  };
  static_assert(noexcept(p.try_emplace(10, hello)));
  CHECK(p.try_emplace(10, hello) == publish_error::none);
  CHECK(p.try_emplace({.type = "t", .data = "unused"}, {.id = 3, .audience = "bob"}, 10, hello) ==
        publish_error::none);
  CHECK(p.try_emplace(10, [](char*, std::size_t) { return 11; }) == publish_error::too_large);
  CHECK(p.try_emplace(10, [](char*, std::size_t) { return 0; }) == publish_error::none);
  CHECK(p.try_emplace(p.max_bytes() + 1, [](char*, std::size_t) { return 0; }) ==
        publish_error::too_large);
  CHECK(p.try_emplace({.type = "\n"}, {}, 10, hello) == publish_error::bad_type);
  const auto thrower = [](char* out, std::size_t) -> std::size_t {
    *out = 'x';
    throw std::runtime_error{"no"};
  };
  static_assert(!noexcept(p.try_emplace(10, thrower)));
  CHECK_THROWS_AS((void)p.try_emplace(10, thrower), std::runtime_error);
  CHECK(p.try_publish("after") == publish_error::none);
  CHECK((drain(box) == std::vector<letter>{{5, "", "hello", ""},
                                           {5, "t", "hello", "bob", 3},
                                           {5, "", "", ""},
                                           {5, "", "after", ""}}));
  CHECK((p.counts() == sse::mail_counts{.accepted = 4, .too_large = 2, .invalid = 1}));
  while (p.try_emplace(10, hello) == publish_error::none) {
  }
  CHECK(p.counts().full == 1);
}

TEST_CASE("the ring wraps: random sizes, random drains, nothing lost or changed", "[mailbox]") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 rng{seed};
  sse::mailbox box;
  sse::publisher p = box.make_publisher(1, 2048);
  std::vector<letter> sent;
  std::vector<letter> got;
  sse::mail_counts expected;
  for (int i = 0; i < 50000; ++i) {
    letter l{1,
             std::string(rng() % 9, 't'),
             std::string(rng() % (rng() % 16 == 0 ? 1100 : 40), static_cast<char>(i)),
             std::string(rng() % 5, 'a'),
             static_cast<sse::event_id>(i),
             rng() % 2 == 0};
    switch (p.try_publish({.type = l.type, .data = l.data},
                          {.id = l.id, .audience = l.audience, .transient = l.transient})
                .error) {
      case publish_error::none:
        ++expected.accepted;
        sent.push_back(std::move(l));
        break;
      case publish_error::full: ++expected.full; break;
      case publish_error::too_large:
        ++expected.too_large;
        REQUIRE(l.type.size() + l.data.size() + l.audience.size() > p.max_bytes());
        break;
      default: FAIL("unexpected");
    }
    if (rng() % 8 == 0) {
      for (letter& m : drain(box, rng() % 40)) got.push_back(std::move(m));
    }
  }
  for (letter& m : drain(box)) got.push_back(std::move(m));
  CHECK((got == sent));
  CHECK((p.counts() == expected));
  CHECK(expected.full > 0);
  CHECK(expected.too_large > 0);
}

TEST_CASE("a record says which channel it is for, whether it is encoded, and the last",
          "[mailbox]") {
  sse::mailbox box{{.limits = {.event = 100}}};
  sse::publisher p = box.make_publisher(1);
  REQUIRE(p.try_publish({.data = "a"}, {}, sse::max_mail_channel) == publish_error::none);
  REQUIRE(p.try_publish({.data = "b"}, {.transient = true}, 1) == publish_error::none);
  REQUIRE(p.try_publish({.data = "c"}, {.encoded = true}) == publish_error::none);
  REQUIRE(p.try_publish({.data = "l"}, {.last = true}, 2) == publish_error::none);
  REQUIRE(p.try_publish({.data = std::string(100, 'd')}, {.encoded = true}) == publish_error::none);
  CHECK(p.try_publish({.data = std::string(101, 'd')}, {.encoded = true}) ==
        publish_error::too_large);
  CHECK(p.try_publish({.data = "e"}, {}, sse::max_mail_channel + 1) == publish_error::no_channel);
  CHECK(p.try_publish({.type = "t", .data = "f"}, {.encoded = true}) == publish_error::bad_type);
  std::string got;
  box.drain([&](const sse::mail& m) {
    got += std::to_string(m.channel) + (m.options.transient ? "t" : "") +
           (m.options.encoded ? "e" : "") + (m.options.last ? "l" : "") + " ";
  });
  CHECK(got == "8191 1t 0e 2l 0e ");
}

TEST_CASE("a drain that is told so leaves the rest where it is", "[mailbox]") {
  sse::mailbox box;
  sse::publisher a = box.make_publisher(1, 1024);
  sse::publisher b = box.make_publisher(2, 1024);
  for (int i = 0; i < 25; ++i)
    REQUIRE(a.try_publish("a" + std::to_string(i)) == publish_error::none);
  REQUIRE(b.try_publish("b") == publish_error::none);
  std::vector<std::string> got;
  const auto until = [&](std::string_view last) {
    return box.drain([&](const sse::mail& m) {
      if (m.event.data == last) return false;
      got.emplace_back(m.event.data);
      return true;
    });
  };
  CHECK(until("a0") == 0);
  CHECK(until("a20") == 21);  // b had its turn meanwhile
  CHECK(until("a20") == 0);
  CHECK_FALSE(box.prepare_sleep());
  CHECK(until("") == 5);
  CHECK(box.prepare_sleep());
  REQUIRE(got.size() == 26);
  std::erase(got, "b");
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == "a" + std::to_string(i));
  CHECK(box.drained() == 26);
  // The ring wraps around a record that was left.
  for (int i = 0; i < 200; ++i) {
    REQUIRE(a.try_publish("x" + std::to_string(i)) == publish_error::none);
    REQUIRE(until("x" + std::to_string(i)) == (i == 0 ? 0U : 1U));
  }
}

TEST_CASE("room can be asked for before it is taken", "[mailbox]") {
  sse::mailbox box{{.limits = {.event = 4000}}};
  sse::publisher p = box.make_publisher(1, 1024);
  const sse::event m{.data = "0123456789"};
  for (int round = 0; round < 100; ++round) {
    publish_error s = publish_error::none;
    while (s == publish_error::none) {
      const publish_error said = p.room_for(m);
      REQUIRE(p.room_for(m) == said);
      s = p.try_publish(m).error;
      REQUIRE(s == said);
    }
    CHECK(s == publish_error::full);
    drain(box, static_cast<std::size_t>(round % 7 + 1));
  }
  const std::uint64_t accepted = p.counts().accepted;
  const std::string half(600, 'x');
  CHECK(p.room_for({.data = half}) == publish_error::too_large);
  CHECK(p.room_for({.data = std::string(4001, 'x')}) == publish_error::too_large);
  CHECK(p.room_for({.type = "\n"}) == publish_error::bad_type);
  box.close();
  CHECK(p.room_for(m) == publish_error::closed);
  CHECK(sse::publisher{}.room_for(m) == publish_error::closed);
  CHECK((p.counts() == sse::mail_counts{.accepted = accepted, .full = 100}));
}

TEST_CASE("a batch is shown at once, when it ends", "[mailbox]") {
  bell b;
  sse::mailbox box{b.options()};
  sse::publisher p = box.make_publisher(1, 1024);
  REQUIRE(box.prepare_sleep());
  {
    auto batch = p.batch();
    CHECK(p.try_publish("a") == publish_error::none);
    {
      auto inner = p.batch();
      CHECK(p.try_publish("b") == publish_error::none);
    }
    auto moved = std::move(batch);
    CHECK(b.count == 0);
    CHECK(box.prepare_sleep());
    CHECK(drain(box).empty());
    REQUIRE(box.prepare_sleep());
    CHECK(p.try_publish("c") == publish_error::none);
  }
  CHECK(b.count == 1);
  CHECK((drain_data(box) == std::vector<std::string>{"a", "b", "c"}));
  {
    auto batch = p.batch();
    while (p.try_publish("x") == publish_error::none) {
    }
    CHECK(drain(box).empty());
    batch.commit();
    CHECK(drain(box).size() == 32);
    CHECK(p.try_publish("y") == publish_error::none);
  }
  CHECK((drain_data(box) == std::vector<std::string>{"y"}));
  { auto empty = p.batch(); }
  CHECK(drain(box).empty());
  CHECK(p.counts().accepted == 3 + 32 + 1);
}

TEST_CASE("publishers are served in turn, and a drain ends", "[mailbox]") {
  sse::mailbox box;
  sse::publisher many = box.make_publisher(1);
  sse::publisher one = box.make_publisher(2);
  sse::publisher idle = box.make_publisher(3);
  for (int i = 0; i < 1000; ++i) REQUIRE(many.try_publish("m") == publish_error::none);
  REQUIRE(one.try_publish("o") == publish_error::none);
  const auto first = drain(box, 40);
  REQUIRE(first.size() == 40);
  int other = 0;
  for (const letter& l : first) other += l.target == 2;
  CHECK(other == 1);
  CHECK(drain(box, 0).empty());
  CHECK(drain(box).size() == 961);
  // With a limit of one each, all get their turn.
  for (int i = 0; i < 3; ++i) {
    REQUIRE(many.try_publish("m") == publish_error::none);
    REQUIRE(one.try_publish("o") == publish_error::none);
    REQUIRE(idle.try_publish("i") == publish_error::none);
  }
  std::vector<int> seen(4);
  for (int i = 0; i < 3; ++i) ++seen[static_cast<std::size_t>(drain(box, 1).at(0).target)];
  CHECK((seen == std::vector<int>{0, 1, 1, 1}));
  drain(box);
  // What is published while it drains waits for the next time.
  REQUIRE(one.try_publish("again") == publish_error::none);
  std::size_t calls = 0;
  CHECK(box.drain([&](const sse::mail& m) {
    ++calls;
    CHECK(one.try_publish(m.event.data) == publish_error::none);
  }) == 1);
  CHECK(calls == 1);
  CHECK(drain(box).size() == 1);
}

TEST_CASE("a publisher that is destroyed leaves its mail", "[mailbox]") {
  sse::mailbox box;
  {
    sse::publisher p = box.make_publisher(1);
    REQUIRE(p.try_publish("a") == publish_error::none);
    REQUIRE(p.try_publish("b") == publish_error::none);
    CHECK(p.try_publish("\n\n") == publish_error::none);
    CHECK(p.try_publish({.type = "\n"}) == publish_error::bad_type);
  }
  CHECK((drain_data(box, 1) == std::vector<std::string>{"a"}));
  CHECK((drain_data(box) == std::vector<std::string>{"b", "\n\n"}));
  CHECK((box.counts() == sse::mail_counts{.accepted = 3, .invalid = 1}));
  { sse::publisher unused = box.make_publisher(2); }
  CHECK(drain(box).empty());
  // Destroyed from inside the drain, with mail left and without.
  std::optional<sse::publisher> p = box.make_publisher(3);
  REQUIRE(p->try_publish("c") == publish_error::none);
  REQUIRE(p->try_publish("d") == publish_error::none);
  CHECK(box.drain([&](const sse::mail&) { p.reset(); }) == 2);
  CHECK(box.prepare_sleep());
  CHECK(drain(box).empty());
  CHECK(box.counts().accepted == 5);
}

TEST_CASE("a batch that is open when its publisher is moved still ends well", "[mailbox]") {
  sse::mailbox box;
  sse::publisher p = box.make_publisher(1);
  sse::publisher q;
  CHECK_FALSE(q);
  CHECK(q.try_publish("x") == publish_error::closed);
  CHECK(q.try_emplace(1, [](char*, std::size_t) { return 0; }) == publish_error::closed);
  CHECK((q.counts() == sse::mail_counts{}));
  CHECK(q.max_bytes() == 0);
  {
    auto nothing = q.batch();
    nothing.commit();
  }
  {
    auto batch = p.batch();
    REQUIRE(p.try_publish("a") == publish_error::none);
    q = std::move(p);
    REQUIRE(q.try_publish("b") == publish_error::none);
  }
  CHECK((drain_data(box) == std::vector<std::string>{"a", "b"}));
  sse::publisher r{std::move(q)};
  CHECK(r.try_publish("c") == publish_error::none);
  CHECK(drain(box).size() == 1);
}

TEST_CASE("the mailbox may go first: publishers are closed", "[mailbox]") {
  bell b;
  auto box = std::make_unique<sse::mailbox>(b.options());
  sse::publisher p = box->make_publisher(1);
  sse::publisher never_met = box->make_publisher(2);
  REQUIRE(p.try_publish("a") == publish_error::none);
  CHECK(drain(*box).size() == 1);
  REQUIRE(p.try_publish("lost with the mailbox") == publish_error::none);
  sse::publisher late = box->make_publisher(3);
  REQUIRE(box->prepare_sleep() == false);
  box.reset();
  CHECK_FALSE(p);
  CHECK(p.try_publish("x") == publish_error::closed);
  CHECK(p.try_emplace(1, [](char*, std::size_t) { return 0; }) == publish_error::closed);
  CHECK(never_met.try_publish("x") == publish_error::closed);
  CHECK(late.try_publish("x") == publish_error::closed);
  CHECK((p.counts() == sse::mail_counts{.accepted = 2, .closed = 2}));
  CHECK(b.count == 0);
}

TEST_CASE("close refuses new mail and keeps the old", "[mailbox]") {
  bell b;
  sse::mailbox box{b.options()};
  sse::publisher p = box.make_publisher(1);
  REQUIRE(p.try_publish("a") == publish_error::none);
  auto batch = p.batch();
  REQUIRE(p.try_publish("b") == publish_error::none);
  CHECK(drain(box).size() == 1);
  REQUIRE(box.prepare_sleep());
  box.close();
  box.close();
  batch.commit();
  CHECK(b.count == 0);  // nobody is called any more
  CHECK(p.try_publish("c") == publish_error::closed);
  CHECK((drain_data(box) == std::vector<std::string>{"b"}));
  sse::publisher q = box.make_publisher(2);
  CHECK_FALSE(q);
  CHECK(q.try_publish("d") == publish_error::closed);
  CHECK((box.counts() == sse::mail_counts{.accepted = 2, .closed = 2}));
}

TEST_CASE("wake is called once for each sleep, and only for a sleep", "[mailbox]") {
  bell b;
  sse::mailbox box{b.options()};
  sse::publisher p = box.make_publisher(1);
  REQUIRE(p.try_publish("a") == publish_error::none);
  CHECK(b.count == 0);
  CHECK_FALSE(box.prepare_sleep());
  REQUIRE(p.try_publish("b") == publish_error::none);
  CHECK(b.count == 0);
  CHECK(drain(box).size() == 2);
  CHECK(box.prepare_sleep());
  REQUIRE(p.try_publish("c") == publish_error::none);
  CHECK(b.count == 1);
  REQUIRE(p.try_publish("d") == publish_error::none);
  CHECK(b.count == 1);
  box.awake();
  CHECK(drain(box).size() == 2);
  CHECK(box.prepare_sleep());
  box.awake();  // by a timer, say
  REQUIRE(p.try_publish("e") == publish_error::none);
  CHECK(b.count == 1);
  CHECK_FALSE(box.prepare_sleep());
  drain(box);
  REQUIRE(box.prepare_sleep());
  CHECK(p.try_publish({.type = "\r"}) == publish_error::bad_type);
  CHECK(b.count == 1);
  sse::publisher late = box.make_publisher(2);
  CHECK(b.count == 1);
  REQUIRE(late.try_publish("f") == publish_error::none);
  CHECK(b.count == 2);

  bell silent;
  sse::mailbox_options never = silent.options();
  never.mode = sse::wake_mode::never;
  sse::mailbox polled{never};
  sse::publisher q = polled.make_publisher(1);
  REQUIRE(polled.prepare_sleep());
  REQUIRE(q.try_publish("g") == publish_error::none);
  CHECK(silent.count == 0);
  CHECK_FALSE(polled.prepare_sleep());
  CHECK(drain(polled).size() == 1);

  sse::mailbox mute;
  sse::publisher r = mute.make_publisher(1);
  REQUIRE(mute.prepare_sleep());
  CHECK(r.try_publish("h") == publish_error::none);
  CHECK(drain(mute).size() == 1);
}

TEST_CASE("no wake-up is lost between going to sleep and publishing", "[mailbox]") {
  constexpr int tries = 100'000;
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::atomic<int> rung{0};  // a bell that is polled: sleeping in the system would hide the race
  sse::mailbox box{
      {.wake = [](void* r) noexcept { ++*static_cast<std::atomic<int>*>(r); }, .context = &rung}};
  std::atomic<int> seen{0};
  std::atomic<bool> stop{false};
  // Waits for a condition; false if it does not come in a time that is far longer than any
  // scheduler needs.
  const auto wait_for = [](auto condition) {
    for (int spins = 0; spins < 2000; ++spins) {
      if (condition()) return true;
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  };
  // A different moment each time, so that the two sides meet at every point.
  const auto dawdle = [](std::minstd_rand& rng) {
    std::atomic<std::uint32_t> n{static_cast<std::uint32_t>(rng() % 64)};
    while (n.load(std::memory_order_relaxed) != 0) n.store(n - 1, std::memory_order_relaxed);
  };
  std::thread engine{[&, p = box.make_publisher(1, 1024)]() mutable {
    std::minstd_rand rng{static_cast<std::uint32_t>(seed)};
    for (int i = 0; i < tries && !stop; ++i) {
      dawdle(rng);
      while (p.try_publish("x") != publish_error::none && !stop) std::this_thread::yield();
      wait_for([&] { return seen.load(std::memory_order_acquire) > i || stop; });
    }
  }};
  std::minstd_rand rng{static_cast<std::uint32_t>(seed / 2)};
  int got = 0;
  int heard = 0;
  int prepared = 0;
  bool lost = false;
  while (got < tries && !lost) {
    const int more = static_cast<int>(box.drain([](const sse::mail&) {}));
    got += more;
    seen.store(got, std::memory_order_release);
    if (more != 0) dawdle(rng);
    if (got == tries) break;
    ++prepared;
    if (box.prepare_sleep()) {
      lost = !wait_for([&] { return rung.load() != heard; });
      heard = rung.load();
    }
  }
  stop = true;
  engine.join();
  CHECK_FALSE(lost);
  CHECK(got == tries);
  CHECK(rung <= prepared);
}

TEST_CASE("many threads: every publisher's mail comes once and in its order", "[mailbox]") {
  constexpr std::uint64_t threads = 4;
  constexpr std::uint64_t each = 20'000;
  bell b;
  sse::mailbox box{b.options()};
  std::atomic<std::uint64_t> running{threads};
  std::atomic<std::uint64_t> accepted{0};
  std::atomic<std::uint64_t> full{0};
  std::vector<std::thread> engines;
  for (std::uint64_t t = 0; t < threads; ++t) {
    engines.emplace_back([&, t] {
      sse::publisher p = box.make_publisher(t, 4096);  // here too: any thread may
      for (std::uint64_t i = 0; i < each; ++i) {
        const auto send = [&] {
          if (i % 3 == 0) {
            return p.try_emplace(8, [i](char* out, std::size_t) noexcept {
              std::memcpy(out, &i, sizeof i);
              return sizeof i;
            });
          }
          return p.try_publish({reinterpret_cast<const char*>(&i), sizeof i});
        };
        while (send() == publish_error::full) std::this_thread::yield();
      }
      for (int i = 0; i < 10; ++i) {
        auto batch = p.batch();
        const std::uint64_t next = each + static_cast<std::uint64_t>(i);
        while (p.try_publish({reinterpret_cast<const char*>(&next), sizeof next}) ==
               publish_error::full) {
          batch.commit();
          std::this_thread::yield();
        }
      }
      accepted += p.counts().accepted;
      full += p.counts().full;
      --running;
      bell::ring(&b);
    });
  }
  std::vector<std::uint64_t> next(threads);
  std::uint64_t wrong = 0;
  bool lost = false;
  const auto take = [&](const sse::mail& m) {
    std::uint64_t i = 0;
    if (m.event.data.size() == sizeof i) std::memcpy(&i, m.event.data.data(), sizeof i);
    if (m.target >= threads || i != next[m.target]++) ++wrong;
  };
  while (running != 0 && !lost) {
    box.drain(take, 1000);
    if (running != 0 && box.prepare_sleep()) {
      lost = !b.sleep();
      box.awake();
    }
  }
  for (std::thread& t : engines) t.join();
  box.drain(take);
  CHECK_FALSE(lost);
  CHECK(wrong == 0);
  for (const std::uint64_t n : next) CHECK(n == each + 10);
  CHECK(accepted == threads * (each + 10));
  CHECK(box.drained() == accepted);
  box.drain(take);
  CHECK((box.counts() == sse::mail_counts{.accepted = accepted, .full = full}));
}

TEST_CASE("publishers and mailbox end in any order while others publish", "[mailbox]") {
  for (int round = 0; round < 200; ++round) {
    auto b = std::make_unique<bell>();
    auto box = std::make_unique<sse::mailbox>(b->options());
    std::atomic<int> ready{0};
    std::vector<std::thread> engines;
    for (int t = 0; t < 3; ++t) {
      engines.emplace_back(
          [&ready, t, p = box->make_publisher(static_cast<std::uint64_t>(t), 1024)]() mutable {
            ++ready;
            for (int i = 0;; ++i) {
              const publish_result s = p.try_publish("data");
              if (s == publish_error::closed) break;
              if (t == 0 && i == 50) break;  // goes before the mailbox, usually
              if (s == publish_error::full) std::this_thread::yield();
            }
          });
    }
    while (ready != 3) std::this_thread::yield();
    std::uint64_t got = 0;
    for (int i = 0; i < 20; ++i) {
      got += box->drain([](const sse::mail&) {});
      (void)box->prepare_sleep();
    }
    CHECK(box->drained() == got);
    box.reset();
    b.reset();  // ASan and TSan see a wake that comes now
    for (std::thread& t : engines) t.join();
  }
}

TEST_CASE("a lane carries a whole event: a retry too, and no id of its own", "[mailbox][surface]") {
  sse::mailbox box{{.limits = {.event = 200}}};
  sse::publisher p = box.make_publisher(1, 1024);
  const std::string most(p.max_bytes() - 8, 'x');
  REQUIRE(p.try_publish({.type = "t", .data = "d", .retry = 1500}, {.audience = "a", .key = "k"}));
  REQUIRE(p.try_publish({.data = "0", .retry = 0}));
  REQUIRE(p.try_publish({.data = "none"}));
  REQUIRE(p.try_emplace({.type = "e", .retry = INT64_MAX}, {}, 8, [](char* out, std::size_t) {
    std::memcpy(out, "emplaced", 8);
    return std::size_t{8};
  }));
  CHECK(p.try_publish({.data = "x", .retry = -2}) == publish_error::bad_retry);
  CHECK(p.try_publish({.data = "data: x\n\n", .retry = 1}, {.encoded = true}) ==
        publish_error::bad_retry);
  CHECK(p.try_publish({.data = "x", .id = "7"}) == publish_error::bad_id);
  CHECK(p.room_for({.data = "x", .id = "7"}) == publish_error::bad_id);
  std::string got;
  box.drain([&](const sse::mail& m) {
    const sse::event& e = m.event;
    CHECK(e.id.empty());
    got.append(e.type).append("|").append(e.data).append("|").append(m.options.audience);
    got.append("|").append(m.options.key).append("|").append(std::to_string(e.retry)).append("\n");
  });
  CHECK(got == "t|d|a|k|1500\n|0|||0\n|none|||-1\ne|emplaced|||9223372036854775807\n");
  CHECK(p.counts().invalid == 3);
  // The retry has its part of the lane, and its line counts for the limit.
  sse::mailbox roomy;
  sse::publisher q = roomy.make_publisher(1, 1024);
  CHECK(q.try_publish({.data = most, .retry = 1}));
  CHECK(q.try_publish({.data = most + "y", .retry = 1}) == publish_error::too_large);
  CHECK(p.try_publish({.data = std::string(165, 'x')}));
  CHECK(p.try_publish({.data = std::string(165, 'x'), .retry = 1}) == publish_error::too_large);
}

static_assert(!std::is_copy_constructible_v<sse::publisher>);
static_assert(std::is_nothrow_move_constructible_v<sse::publisher>);
static_assert(std::is_nothrow_move_assignable_v<sse::publisher>);
static_assert(noexcept(std::declval<sse::publisher&>().try_publish("")));
static_assert(noexcept(std::declval<sse::publisher&>().try_publish(sse::event{})));

}  // namespace
