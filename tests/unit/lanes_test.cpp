// The waiting frames of sessions by themselves: order, what waits, references and memory.
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/detail/engine/lanes.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::detail::blob;
using sse::detail::lane_item;
using sse::detail::lane_kind;
using sse::detail::lanes;
using sse::detail::none;

std::string_view text_of(lanes& all, std::uint32_t i) { return {all[i].data(), all[i].left()}; }

/// All that waits in a lane, frame by frame.
std::vector<std::string> frames_in(lanes& all, std::uint32_t lane) {
  std::vector<std::string> found;
  for (std::uint32_t i = lane; i != none; i = all[i].next) found.emplace_back(text_of(all, i));
  return found;
}

void clear(lanes& all, std::uint32_t& lane) {
  while (lane != none) all.pop(lane);
}

}  // namespace

TEST_CASE("lanes: frames leave in the order in which they came, and each says what it is",
          "[lanes]") {
  lanes all;
  std::uint32_t lane = none;
  CHECK(all.waiting(lane) == 0);
  REQUIRE(all.push(lane, "head", lane_kind::head));
  REQUIRE(all.push(lane, ":\n\n", lane_kind::control));
  REQUIRE(all.push(lane, sse::event{.type = "t", .data = "d", .id = "7"}, lane_kind::event));
  REQUIRE(all.push_retry(lane, 1500));
  CHECK(frames_in(all, lane) == std::vector<std::string>{"head", ":\n\n",
                                                         "id: 7\nevent: t\ndata: d\n\n",
                                                         "retry: 1500\n\n"});
  CHECK(all[lane].kind == lane_kind::head);
  all.pop(lane);
  CHECK(all[lane].kind == lane_kind::control);
  all.pop(lane);
  CHECK(all[lane].kind == lane_kind::event);
  all.pop(lane);
  CHECK(all[lane].kind == lane_kind::control);
  all.pop(lane);
  CHECK(lane == none);
}

TEST_CASE("lanes: an empty frame is none", "[lanes]") {
  lanes all;
  std::uint32_t lane = none;
  CHECK(all.push(lane, std::string_view{}, lane_kind::head));
  CHECK(lane == none);
}

TEST_CASE("lanes: what waits is what was not sent", "[lanes]") {
  lanes all;
  std::uint32_t lane = none;
  REQUIRE(all.push(lane, "12345", lane_kind::control));
  REQUIRE(all.push(lane, "678", lane_kind::control));
  CHECK(all.waiting(lane) == 8);
  all[lane].sent = 4;
  CHECK(all.waiting(lane) == 4);
  CHECK(text_of(all, lane) == "5");
  REQUIRE(all.push(lane, "9", lane_kind::control));
  CHECK(all.waiting(lane) == 5);
  all.pop(lane);
  CHECK(all.waiting(lane) == 4);
  CHECK(frames_in(all, lane) == std::vector<std::string>{"678", "9"});
  clear(all, lane);
  CHECK(all.waiting(lane) == 0);
}

TEST_CASE("lanes: padding of any size is a comment or blank lines, never a field", "[lanes]") {
  lanes all;
  for (std::uint32_t size = 1; size <= 20; ++size) {
    CAPTURE(size);
    std::uint32_t lane = none;
    REQUIRE(all.push_padding(lane, size));
    const std::string_view s = text_of(all, lane);
    REQUIRE(s.size() == size);
    CHECK(s.back() == '\n');
    CHECK((size == 1 || s[size - 2] == '\n'));
    if (size > 2) {
      CHECK(s[0] == ':');
      CHECK(s.find_first_not_of(' ', 1) == size - 2);
    }
    clear(all, lane);
  }
}

TEST_CASE("lanes: a frame of many sessions is held once, until the last one let it go", "[lanes]") {
  lanes all;
  blob* const b = sse::detail::make_blob(3);
  REQUIRE(b != nullptr);
  std::vector<std::uint32_t> many(50, none);
  for (std::uint32_t& lane : many) REQUIRE(all.push(lane, b, lane_kind::event));
  CHECK(b->refs == 51);
  for (std::uint32_t& lane : many) {
    CHECK(all[lane].data() == b->bytes());
    clear(all, lane);
  }
  CHECK(b->refs == 1);
  sse::detail::unref(b);
}

TEST_CASE("lanes: any pushes, sends and pops of many lanes are those of plain queues", "[lanes]") {
  test::random_source random{11};
  lanes all;
  struct lane_model {
    std::uint32_t lane = none;
    std::deque<std::string> frames;
    std::size_t sent = 0;  ///< of the first
  };
  std::vector<lane_model> lines(20);
  for (int step = 0; step < 50'000; ++step) {
    lane_model& l = lines[random.below(lines.size())];
    switch (random.below(4)) {
      case 0:
      case 1: {
        std::string s = std::to_string(step);
        s.resize(1 + random.below(60), 'z');
        REQUIRE(all.push(l.lane, s, lane_kind::control));
        l.frames.push_back(std::move(s));
        break;
      }
      case 2:
        if (l.frames.empty()) break;
        all.pop(l.lane);
        l.frames.pop_front();
        l.sent = 0;
        break;
      default:
        if (l.frames.empty()) break;
        l.sent += random.below(l.frames.front().size() - l.sent + 1);
        all[l.lane].sent = static_cast<std::uint32_t>(l.sent);
    }
    std::size_t waiting = 0;
    for (const std::string& s : l.frames) waiting += s.size();
    REQUIRE(all.waiting(l.lane) == waiting - l.sent);
    REQUIRE((l.lane == none) == l.frames.empty());
    if (l.lane != none)
      REQUIRE(text_of(all, l.lane) == std::string_view{l.frames.front()}.substr(l.sent));
    if (l.frames.size() > 12) {
      clear(all, l.lane);
      l = {};
    }
  }
  for (lane_model& l : lines) {
    const std::vector<std::string> found = frames_in(all, l.lane);
    REQUIRE(found.size() == l.frames.size());
    for (std::size_t i = 1; i < found.size(); ++i) CHECK(found[i] == l.frames[i]);
    clear(all, l.lane);
  }
}

#if TEST_ALLOCATIONS

TEST_CASE("lanes: a frame for which memory is out is not in the lane, and nothing leaks",
          "[lanes][allocation]") {
  const auto pushes = [](lanes& all, std::uint32_t& lane, int kind) {
    switch (kind) {
      case 0: return all.push(lane, "abc", lane_kind::control);
      case 1: return all.push(lane, sse::event{.data = "abc"}, lane_kind::event);
      case 2: return all.push_retry(lane, 3);
      default: return all.push_padding(lane, 9);
    }
  };
  for (int kind = 0; kind < 4; ++kind) {
    std::uint64_t n = 0;
    for (bool failed = true; failed; ++n) {
      CAPTURE(kind, n);
      bool pushed = false;
      bool none_in = false;
      bool again = false;
      const std::int64_t before = test::live_bytes();
      {
        lanes all;
        std::uint32_t lane = none;
        {
          const test::failing_allocations fail{n};
          pushed = pushes(all, lane, kind);
          failed = fail.hit();
        }
        none_in = lane == none && all.waiting(lane) == 0;
        again = pushes(all, lane, kind);
        clear(all, lane);
      }
      const std::int64_t after = test::live_bytes();
      CHECK(pushed == !failed);
      CHECK(none_in == failed);
      CHECK(again);
      CHECK(after == before);
    }
    CHECK(n >= 3);  // the bytes, and room for the frame
  }
}

TEST_CASE("lanes: places of frames that left are used again", "[lanes][allocation]") {
  lanes all;
  std::uint32_t lane = none;
  blob* const b = sse::detail::make_blob(3);
  REQUIRE(b != nullptr);
  const auto round = [&] {
    bool ok = true;
    for (int i = 0; i < 100; ++i) ok = all.push(lane, b, lane_kind::event) && ok;
    clear(all, lane);
    return ok;
  };
  REQUIRE(round());
  const std::uint64_t before = test::allocations();
  bool ok = true;
  for (int i = 0; i < 50; ++i) ok = round() && ok;
  CHECK(test::allocations() == before);
  CHECK(ok);
  sse::detail::unref(b);
}

#endif
