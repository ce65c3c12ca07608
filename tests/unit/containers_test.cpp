// The containers of detail/base by themselves: against those of the standard library, at the edges
// of their growth, and when memory is out.
#include <cstdint>
#include <cstring>
#include <deque>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/detail/base/blob.hpp>
#include <sse/detail/base/byte_buffer.hpp>
#include <sse/detail/base/containers.hpp>
#include <sse/detail/base/intrusive_list.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::detail::bytes;
using sse::detail::chunked_array;
using sse::detail::none;
using sse::detail::owned_text;
using sse::detail::ring;
using sse::detail::slot_pool;
using sse::detail::vec;

struct slot_value {
  std::uint32_t link = none;
  std::uint32_t value = 0;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return link; }
};

struct linked {
  sse::detail::link<linked> hook{};
  std::int64_t due_at = 0;
  int number = 0;
};

/// Runs `f` with the n-th allocation failing, for each n until none is hit; f returns what it
/// itself checked. Nothing may be left of it.
template <class F>
void with_each_failure(std::uint64_t at_least, F f) {
  std::uint64_t n = 0;
  for (bool failed = true; failed; ++n) {
    CAPTURE(n);
    const std::int64_t before = test::live_bytes();
    const bool ok = f(n, failed);
    const std::int64_t after = test::live_bytes();
    CHECK(ok);
    CHECK(after == before);
  }
  CHECK(n > at_least);
}

}  // namespace

TEST_CASE("containers: vec is an array, whatever is done to it", "[containers]") {
  test::random_source random{1};
  vec<std::uint32_t> v;
  std::vector<std::uint32_t> model;
  for (std::uint32_t step = 0; step < 40'000; ++step) {
    switch (random.below(8)) {
      case 0:
      case 1:
      case 2: {
        REQUIRE(v.push_back(step));
        model.push_back(step);
        break;
      }
      case 3: {
        const std::vector<std::uint32_t> more(static_cast<std::size_t>(random.below(9)), step);
        REQUIRE(v.reserve(v.size() + static_cast<std::uint32_t>(more.size())));
        v.append_reserved(more.data(), more.size());
        model.insert(model.end(), more.begin(), more.end());
        break;
      }
      case 4:
      case 5:
      case 6:
        if (model.empty()) break;
        v.pop_back();
        model.pop_back();
        break;
      default:
        if (random.one_in(50)) {
          v.clear();
          model.clear();
        } else if (random.one_in(50)) {
          v.release();
          model.clear();
          REQUIRE(v.capacity() == 0);
        } else if (random.one_in(2)) {
          vec<std::uint32_t> moved{std::move(v)};
          v = std::move(moved);
        }
    }
    REQUIRE(v.size() == model.size());
    REQUIRE(v.empty() == model.empty());
    REQUIRE(v.capacity() >= v.size());
    if (!model.empty()) {
      REQUIRE(v.back() == model.back());
      const auto i = static_cast<std::uint32_t>(random.below(model.size()));
      REQUIRE(v[i] == model[i]);
    }
  }
  REQUIRE(std::vector<std::uint32_t>(v.begin(), v.end()) == model);
}

TEST_CASE("containers: vec keeps little in reserve: an eighth and a few, and seldom moves",
          "[containers]") {
  vec<std::uint32_t> v;
  int moves = 0;
  for (std::uint32_t i = 0; i < 100'000; ++i) {
    const std::uint32_t before = v.capacity();
    REQUIRE(v.push_back(i));
    REQUIRE(v.capacity() <= v.size() + v.size() / 8 + 8);
    moves += v.capacity() != before;
  }
  CHECK(moves < 100);
  REQUIRE(v.reserve(500'000));
  CHECK(v.capacity() == 500'000);
  CHECK(v[99'999] == 99'999);
}

TEST_CASE("containers: ring is a queue whose places have numbers that do not change",
          "[containers]") {
  test::random_source random{2};
  ring<std::uint64_t> r;
  std::deque<std::uint64_t> model;
  std::uint64_t first = 0;
  for (std::uint64_t step = 0; step < 60'000; ++step) {
    // Now growing, now shrinking: it wraps around at every size.
    const bool grow = random.below(100) < ((step / 500) % 2 == 0 ? 65U : 35U);
    if (grow) {
      REQUIRE(r.reserve_one());
      r.push_reserved(step);
      model.push_back(step);
    } else if (!model.empty()) {
      r.pop_front();
      model.pop_front();
      ++first;
    }
    REQUIRE(r.first() == first);
    REQUIRE(r.end() == first + model.size());
    REQUIRE(r.empty() == model.empty());
    if (!model.empty()) {
      const std::uint64_t i = random.below(model.size());
      REQUIRE(r[first + i] == model[static_cast<std::size_t>(i)]);
      REQUIRE(r[r.end() - 1] == model.back());
    }
  }
  r.release();
  CHECK(r.empty());
  CHECK(r.first() == 0);
  CHECK(r.capacity() == 0);
}

TEST_CASE("containers: values of a chunked array do not move when it grows", "[containers]") {
  chunked_array<std::uint32_t, 4> a;
  std::vector<std::uint32_t*> where;
  for (std::uint32_t n = 0; n < 40; ++n) {
    REQUIRE(a.reserve(n));
    CHECK(a.extent() == (n + 3) / 4 * 4);
    while (where.size() < a.extent()) {
      where.push_back(&a[static_cast<std::uint32_t>(where.size())]);
      CHECK(*where.back() == 0);
      *where.back() = static_cast<std::uint32_t>(where.size());
    }
  }
  for (std::uint32_t i = 0; i < a.extent(); ++i) {
    CHECK(&a[i] == where[i]);
    CHECK(a[i] == i + 1);
  }
}

TEST_CASE("containers: a slot is nobody else's while it is in use", "[containers]") {
  test::random_source random{3};
  slot_pool<slot_value, 4> s;
  std::set<std::uint32_t> used;
  std::uint32_t most = 0;
  for (std::uint32_t step = 0; step < 20'000; ++step) {
    if (used.empty() || random.below(100) < ((step / 300) % 2 == 0 ? 60U : 40U)) {
      const std::uint32_t i = s.take();
      REQUIRE(i != none);
      REQUIRE(used.insert(i).second);
      s[i].value = i + 1;
    } else {
      auto it = used.begin();
      std::advance(it, static_cast<std::ptrdiff_t>(random.below(used.size())));
      REQUIRE(s[*it].value == *it + 1);
      s.give_back(*it);
      used.erase(it);
    }
    if (used.size() > most) most = static_cast<std::uint32_t>(used.size());
    REQUIRE(s.in_use() == used.size());
    REQUIRE(s.extent() == (most + 3) / 4 * 4);  // no more are made than were ever in use at once
  }
}

TEST_CASE("containers: bytes grow, are cut and moved as a string is", "[containers]") {
  test::random_source random{4};
  bytes b;
  std::string model;
  for (int step = 0; step < 20'000; ++step) {
    switch (random.below(7)) {
      case 0:
      case 1:
      case 2: {
        std::string more(static_cast<std::size_t>(random.below(200)),
                         static_cast<char>('a' + step % 26));
        REQUIRE(b.append(more));
        model += more;
        break;
      }
      case 3: {
        const auto size = static_cast<std::size_t>(random.below(model.size() + 1));
        b.truncate(size);
        model.resize(size);
        break;
      }
      case 4: {
        bytes moved{std::move(b)};
        bytes other;
        REQUIRE(other.assign("gone"));
        other = std::move(moved);
        b.swap(other);
        break;
      }
      case 5:
        if (!random.one_in(20)) break;
        REQUIRE(b.assign("anew"));
        model = "anew";
        break;
      default:
        if (!random.one_in(50)) break;
        random.one_in(2) ? b.clear() : b.release();
        model.clear();
    }
    REQUIRE(b.view() == model);
    REQUIRE(b.size() == model.size());
    REQUIRE(b.empty() == model.empty());
  }
}

TEST_CASE("containers: bytes that have room enough stay where they are", "[containers]") {
  bytes b;
  REQUIRE(b.append("0123456789"));
  REQUIRE(b.reserve(100));
  CHECK(b.capacity() == 100);
  const char* const here = b.data();
  for (const std::size_t n : {0U, 5U, 10U, 99U, 100U}) {
    REQUIRE(b.reserve(n));
    CHECK(b.data() == here);
    CHECK(b.capacity() == 100);
  }
  REQUIRE(b.append(std::string(90, 'x')));
  CHECK(b.data() == here);
  CHECK(b.view() == "0123456789" + std::string(90, 'x'));
}

TEST_CASE("containers: a text of three parts is one text, and an empty one none", "[containers]") {
  owned_text t;
  CHECK(t.view().empty());
  REQUIRE(t.assign("ab", "", "cde"));
  CHECK(t.view() == "abcde");
  owned_text moved{std::move(t)};
  CHECK(moved.view() == "abcde");
  REQUIRE(moved.assign(""));
  CHECK(moved.view().empty());
  REQUIRE(moved.assign(std::string_view{"\0x", 2}));
  CHECK(moved.view().size() == 2);
  moved.clear();
  CHECK(moved.view().empty());
}

TEST_CASE("containers: a chain holds its elements in order, each once", "[containers]") {
  test::random_source random{6};
  std::vector<linked> all(10);
  sse::detail::chain<linked> chain;
  std::deque<linked*> model;
  for (int step = 0; step < 10'000; ++step) {
    linked& t = all[static_cast<std::size_t>(random.below(all.size()))];
    std::erase(model, &t);
    if (random.one_in(2)) {
      chain.push_back(t);
      model.push_back(&t);
    } else {
      sse::detail::chain<linked>::unlink(t);
    }
    REQUIRE(chain.size == model.size());
    const linked* at = chain.first;
    for (const linked* expected : model) {
      REQUIRE(at == expected);
      REQUIRE(at->hook.in == &chain);
      at = at->hook.next;
    }
    REQUIRE(at == nullptr);
    REQUIRE(chain.last == (model.empty() ? nullptr : model.back()));
  }
}

TEST_CASE("containers: a waiting room calls those whose time is up, at it and not before",
          "[containers]") {
  using sse::detail::due;
  sse::detail::waiting_room<linked> room;
  linked a{.number = 1};
  linked b{.number = 2};
  linked c{.number = 3};
  room.allow(due::head, sse::duration::milliseconds(10));
  room.allow(due::idle, sse::duration::milliseconds(3));
  const auto at = [](std::int64_t ms) { return sse::time_point::milliseconds(ms); };
  CHECK(room.next() == INT64_MAX);
  room.await(a, due::head, at(0));
  room.await(b, due::idle, at(5));
  room.await(c, due::write, at(0));  // off: it stands there, and is never due
  CHECK(room.size() == 3);
  CHECK(room.next() == 8);
  std::string called;
  const auto expire = [&](std::int64_t now) {
    called.clear();
    room.expire(at(now), [&](linked& t, due what) {
      called += std::to_string(t.number) + (what == due::head ? "h" : "i");
      sse::detail::chain<linked>::unlink(t);
    });
    return called;
  };
  CHECK(expire(7).empty());
  CHECK(expire(8) == "2i");
  CHECK(expire(9).empty());
  room.await(a, due::head, at(4));  // more time
  CHECK(expire(13).empty());
  CHECK(expire(14) == "1h");
  CHECK(room.next() == INT64_MAX);
  CHECK(room.size() == 1);
  int seen = 0;
  room.for_each([&](linked& t) {
    seen += t.number;
    sse::detail::chain<linked>::unlink(t);
  });
  CHECK(seen == 3);
  CHECK(room.size() == 0);
}

#if TEST_ALLOCATIONS

TEST_CASE("containers: vec that cannot grow is as it was", "[containers][allocation]") {
  with_each_failure(3, [](std::uint64_t n, bool& failed) {
    vec<std::uint32_t> v;
    std::uint32_t pushed = 0;
    {
      const test::failing_allocations fail{n};
      while (pushed < 100 && v.push_back(pushed)) ++pushed;
      failed = fail.hit();
    }
    bool ok = v.size() == pushed && failed == (pushed != 100);
    for (std::uint32_t i = 0; i < pushed; ++i) ok = v[i] == i && ok;
    return v.push_back(1) && ok;
  });
}

TEST_CASE("containers: ring that cannot grow is as it was", "[containers][allocation]") {
  with_each_failure(3, [](std::uint64_t n, bool& failed) {
    ring<std::uint64_t> r;
    std::uint64_t pushed = 0;
    {
      const test::failing_allocations fail{n};
      for (; pushed < 100 && r.reserve_one(); ++pushed) {
        r.push_reserved(pushed);
        if (pushed % 4 == 0) r.pop_front();
      }
      failed = fail.hit();
    }
    bool ok = r.end() == pushed && failed == (pushed != 100);
    for (std::uint64_t i = r.first(); i != r.end(); ++i) ok = r[i] == i && ok;
    return r.reserve_one() && ok;
  });
}

TEST_CASE("containers: slots that cannot grow keep those that there are",
          "[containers][allocation]") {
  with_each_failure(3, [](std::uint64_t n, bool& failed) {
    slot_pool<slot_value, 4> s;
    std::uint32_t taken = 0;
    {
      const test::failing_allocations fail{n};
      while (taken < 20 && s.take() != none) ++taken;
      failed = fail.hit();
    }
    const bool ok = s.in_use() == taken && s.extent() % 4 == 0 && failed == (taken != 20);
    return s.take() != none && s.in_use() == taken + 1 && ok;
  });
}

TEST_CASE("containers: bytes that cannot grow are as they were", "[containers][allocation]") {
  with_each_failure(3, [](std::uint64_t n, bool& failed) {
    bytes b;
    std::size_t size = 0;
    const char forty[41] = "0123456789012345678901234567890123456789";
    {
      const test::failing_allocations fail{n};
      while (size < 400 && b.append({forty, 40})) size += 40;
      failed = fail.hit();
    }
    bool ok = b.size() == size && failed == (size != 400);
    for (std::size_t i = 0; i < size; ++i) ok = b.view()[i] == forty[i % 40] && ok;
    return b.append("x") && ok;
  });
}

TEST_CASE("containers: a small buffer is kept when it is cleared, a large one given back",
          "[containers][allocation]") {
  bytes b;
  REQUIRE(b.append(std::string(64 * 1024, 'x')));
  const std::int64_t held = test::live_bytes();
  b.clear();
  CHECK(test::live_bytes() == held);
  const std::string large(64 * 1024 + 1, 'x');
  REQUIRE(b.append(large));
  const std::int64_t more = test::live_bytes();
  b.clear();
  CHECK(test::live_bytes() < more - 64 * 1024);
}

TEST_CASE("containers: a text that cannot be held is empty or what it was, never half",
          "[containers][allocation]") {
  with_each_failure(1, [](std::uint64_t n, bool& failed) {
    owned_text t;
    bool first = false;
    bool second = false;
    {
      const test::failing_allocations fail{n, 1};
      first = t.assign("a text");
      second = t.assign("a longer text that needs more room than the one before it");
      failed = fail.hit();
    }
    const bool whole = t.view().size() == (second ? 57U : 0U);
    return whole && failed == !(first && second);
  });
}

#endif

TEST_CASE("an element goes in front of any other, or behind all") {
  sse::detail::vec<int> v;
  REQUIRE(v.reserve(4));
  for (const auto& [at, value] :
       {std::pair{0U, 3}, std::pair{0U, 1}, std::pair{1U, 2}, std::pair{3U, 4}}) {
    v.insert_reserved(at, value);
  }
  REQUIRE(v.size() == 4);
  for (std::uint32_t i = 0; i < 4; ++i) CHECK(v[i] == static_cast<int>(i) + 1);
}
