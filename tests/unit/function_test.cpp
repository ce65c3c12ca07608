// sse::function and sse::copyable_function: what hooks are kept in.
#include "catch.hpp"

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "stage.hpp"

namespace {

using copyable = sse::copyable_function<int(int)>;
using movable = sse::function<int(int)>;

/// Counts how many of it there are; adds what it was called with, so that copies can be told apart.
template <std::size_t Size>
struct adder {
  explicit adder(int& alive) : alive_{&alive} { ++alive; }
  adder(const adder& o) : alive_{o.alive_}, sum_{o.sum_} { ++*alive_; }
  adder(adder&& o) noexcept : alive_{o.alive_}, sum_{o.sum_} { ++*alive_; }
  adder& operator=(const adder&) = delete;
  ~adder() { --*alive_; }
  int operator()(int n) { return sum_ += n; }

 private:
  int* alive_;
  std::array<char, Size> size_{};
  int sum_ = 0;
};

/// Throws when it is copied once more.
struct fragile {
  fragile() = default;
  fragile(const fragile&) { throw std::runtime_error("not again"); }
  fragile(fragile&&) noexcept {}
  fragile& operator=(const fragile&) = delete;
  ~fragile() = default;
  int operator()(int n) const { return n; }
};

template <std::size_t Size>
void copies_are_apart() {
  int alive = 0;
  {
    copyable a{adder<Size>{alive}};
    CHECK(alive == 1);
    CHECK(a(1) == 1);
    copyable b = a;
    CHECK(alive == 2);
    CHECK(b(10) == 11);
    CHECK(a(1) == 2);
    const copyable c = std::move(a);
    CHECK(alive == 2);
    CHECK_FALSE(a);  // NOLINT: it says so
    b = c;
    CHECK(alive == 2);
    CHECK(b(5) == 7);
    CHECK(c(1) == 3);
    const copyable& same = b;
    b = same;
    CHECK(alive == 2);
    CHECK(b(0) == 7);
    b = copyable{};
    CHECK(alive == 1);
    const copyable none = b;
    CHECK_FALSE(none);
  }
  CHECK(alive == 0);
}

TEST_CASE("a copy of a hook has a callable of its own", "[function][surface]") {
  copies_are_apart<1>();
  copies_are_apart<100>();  // these are on the heap
}

TEST_CASE("a copy that throws leaves what there was", "[function]") {
  const copyable a{fragile{}};
  copyable b{[](int n) { return n + 1; }};
  CHECK_THROWS_AS(b = a, std::runtime_error);
  CHECK(b(1) == 2);
  CHECK(a(1) == 1);
}

using owner = decltype([p = std::unique_ptr<int>{}](int n) { return p ? *p : n; });
static_assert(std::is_constructible_v<movable, owner>);
static_assert(!std::is_constructible_v<copyable, owner>);
static_assert(!std::is_copy_constructible_v<movable>);
static_assert(std::is_nothrow_move_constructible_v<copyable>);
static_assert(std::is_copy_constructible_v<sse::channel_options>);
static_assert(sizeof(copyable) == sizeof(movable));

TEST_CASE("one set of options opens any number of channels, with its hooks", "[channel][surface]") {
  test::stage s;
  sse::channel_options o = test::quiet(1);
  int asked = 0;
  o.backfill = [&asked](const sse::backfill_request& r, sse::backfill_writer& out) {
    ++asked;
    for (sse::event_id id = r.after + 1; id < r.before; ++id)
      if (!out.add(id, {.data = "old"})) return sse::backfill_state::more;
    return sse::backfill_state::done;
  };
  o.own_sequence = true;
  for (const char* name : {"a", "b", "c"}) {
    const sse::channel c = s.hub.open_channel(name, o);
    REQUIRE(c);
    for (int n = 0; n < 3; ++n) REQUIRE(c.publish({.data = "new"}));
    const auto k = s.join(c, {.last_event_id = "1"});
    CHECK(s.take(k) == "id: 2\ndata: old\n\nid: 3\ndata: new\n\n");
  }
  CHECK(asked == 3);
  REQUIRE(o.backfill);
}

}  // namespace
