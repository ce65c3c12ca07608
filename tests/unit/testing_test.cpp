// What sse/testing.hpp gives to tests: peers that take what they are let, and a check that finds
// each way in which a transport may be wrong.
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/testing.hpp>

#include "catch.hpp"

namespace {

using sse::testing::check_transport;
using sse::testing::memory_completion_transport;
using sse::testing::memory_transport;

std::vector<sse::buffer> pieces_of(std::initializer_list<std::string_view> texts) {
  std::vector<sse::buffer> all;
  for (const std::string_view t : texts) all.push_back({t.data(), t.size()});
  return all;
}

/// Looks at what it is offered.
template <std::size_t MaxBuffers>
struct looking_transport : memory_transport {
  static constexpr std::size_t max_buffers = MaxBuffers;
  std::set<char> first{};
  bool printable = true;
  bool in_two = true;
  bool in_one = true;
  sse::write_result write(connection& x, std::span<const sse::buffer> bytes) noexcept {
    const std::string_view head = bytes[0].view();
    first.insert(head[0]);
    in_one = in_one && bytes.size() == 1;
    in_two = in_two && bytes.size() == (at(0).writes == 0 ? 1U : 2U);
    if (bytes.size() == 2) in_two = in_two && head.size() == 7 && bytes[1].size != 0;
    for (const sse::buffer& b : bytes) {
      for (const char k : b.view()) printable = printable && k >= '!' && k <= '~';
    }
    return memory_transport::write(x, bytes);
  }
};

/// A peer that gets room for 5000 bytes each time it is read.
template <class Transport>
auto drained(Transport& t) {
  t.at(0).window = 1000;
  return [&t] {
    t.at(0).window = 5000;
    return std::exchange(t.at(0).received, {});
  };
}

template <class Transport>
std::string problem_of(Transport& t, std::size_t total = 100'000) {
  typename Transport::connection c{t.connect()};
  const sse::testing::transport_report report = check_transport(t, c, drained(t), total);
  CHECK(static_cast<bool>(report) == report.problem.empty());
  return report.problem;
}

}  // namespace

TEST_CASE("testing: a peer takes as much as it is let, and says how", "[testing]") {
  memory_transport net;
  REQUIRE(net.connect() == 0);
  REQUIRE(net.connect() == 1);
  CHECK(net.size() == 2);
  memory_transport::connection c{1};
  net.opened(c, {3, 4});
  CHECK(net.at(1).session == sse::session_id{3, 4});
  CHECK(net.at(0).session == sse::session_id{});
  const auto both = pieces_of({"abcd", "efgh"});
  const auto wrote = [&](std::size_t bytes, sse::flow next) {
    const sse::write_result r = net.write(c, both);
    CHECK(r.bytes == bytes);
    CHECK((r.next == next));
    return std::exchange(net.at(1).received, {});
  };
  CHECK(wrote(8, sse::flow::ready) == "abcdefgh");
  CHECK(net.at(1).window == SIZE_MAX);
  net.at(1).max_write = 6;
  CHECK(wrote(6, sse::flow::ready) == "abcdef");
  net.at(1).window = 10;
  CHECK(wrote(6, sse::flow::ready) == "abcdef");
  CHECK(net.at(1).window == 4);
  CHECK(wrote(4, sse::flow::blocked) == "abcd");
  CHECK(wrote(0, sse::flow::blocked).empty());
  net.at(1).window = 100;
  net.at(1).fails = true;
  CHECK(wrote(0, sse::flow::closed).empty());
  CHECK(net.at(1).window == 100);
  CHECK(net.at(1).writes == 6);
  CHECK(net.at(0).writes == 0);
  net.close(c, sse::close_reason::stalled);
  CHECK(net.at(1).is_closed);
  CHECK((net.at(1).why == sse::close_reason::stalled));
  CHECK_FALSE(net.at(0).is_closed);
}

TEST_CASE("testing: a write in flight is read when it is completed, as far as it is", "[testing]") {
  memory_completion_transport net;
  memory_completion_transport::connection c{net.connect()};
  std::string first = "abcd";
  std::string second = "efgh";
  const auto offer = [&] { return net.write(c, pieces_of({first, "", second})); };
  net.at(0).window = 7;
  sse::write_result r = offer();
  CHECK(r.bytes == 7);
  CHECK((r.next == sse::flow::pending));
  CHECK(net.at(0).in_flight.size() == 2);
  CHECK(net.at(0).in_flight_bytes == 7);
  CHECK(net.at(0).received.empty());
  first = "ABCD";  // what lies there when it is read counts
  CHECK(net.complete(0, 6) == 6);
  CHECK(net.at(0).received == "ABCDef");
  CHECK(net.at(0).in_flight.empty());
  CHECK(net.complete(0) == 0);
  r = offer();
  CHECK(r.bytes == 0);
  CHECK((r.next == sse::flow::blocked));
  net.at(0).window = 1;
  CHECK((offer().next == sse::flow::pending));
  CHECK(net.complete(0, 100) == 1);
  net.at(0).window = SIZE_MAX;
  CHECK(offer().bytes == 8);
  CHECK(net.complete(0, 3) == 3);
  CHECK(net.at(0).received == "ABCDefAABC");
}

TEST_CASE("testing: a transport that does what it must passes its check", "[testing]") {
  memory_transport net;
  CHECK(problem_of(net) == "");
  // What is on its way when all was written is waited for.
  memory_transport slow;
  memory_transport::connection c{slow.connect()};
  slow.at(0).window = 1000;
  std::string on_its_way;
  std::size_t reads = 0;
  const auto read = [&] {
    ++reads;
    slow.at(0).window = 50'000;
    on_its_way += std::exchange(slow.at(0).received, {});
    const std::string arrived = on_its_way.substr(0, 1000);
    on_its_way.erase(0, arrived.size());
    return arrived;
  };
  CHECK(check_transport(slow, c, read, 100'000).problem == "");
  CHECK(reads < 200);  // and not for longer
  CHECK(on_its_way.empty());
}

TEST_CASE("testing: what is wrong with a transport is said", "[testing]") {
  struct broken : memory_transport {
    int how = 0;
    sse::write_result write(connection& x, std::span<const sse::buffer> bytes) noexcept {
      auto r = memory_transport::write(x, bytes);
      if (how == 0) r.bytes += 100'000;
      if (how == 1) r.next = sse::flow::closed;
      if (how == 2) r.next = sse::flow::pending;
      if (how == 3) r = {0, sse::flow::ready};
      if (how == 4 && r.bytes > 1) --r.bytes;  // says less than it took
      if (how == 5 && at(0).writes > 20) r.next = sse::flow::closed;
      if (how == 6) ++r.bytes;  // one more than there was
      return r;
    }
  };
  const auto of = [](int how) {
    broken b;
    b.how = how;
    return problem_of(b);
  };
  CHECK(of(0) == "write took more bytes than it was given");
  CHECK(of(6) == "write took more bytes than it was given");
  CHECK(of(1) == "write answered closed while the peer was there");
  CHECK(of(2) == "write answered pending: check completion with hub tests of your own");
  CHECK(of(3) == "write took nothing and answered ready: the hub would spin");
  CHECK(of(4).starts_with("the peer did not get the bytes in order: "));
  CHECK(of(5) == "write answered closed to other bytes than those it had not taken");

  broken endless;  // never blocked
  endless.how = 9;
  broken::connection x{endless.connect()};
  CHECK(check_transport(
            endless, x, [&] { return std::exchange(endless.at(0).received, {}); }, 1)
            .problem == "write never answered blocked although the peer did not read");
  CHECK(endless.at(0).writes == 1);  // the first has one byte: that was all

  memory_transport loses;  // the end of it
  memory_transport::connection l{loses.connect()};
  loses.at(0).window = 100;
  std::string first;
  CHECK(check_transport(
            loses, l,
            [&] {
              loses.at(0).window = SIZE_MAX;
              return first.empty() ? first = loses.at(0).received : std::string{};
            },
            200)
            .problem == "the peer did not get the bytes in order: 100 of 15939");
}

TEST_CASE("testing: a transport that needs the same bytes again, or keeps them, is found",
          "[testing]") {
  // As SSL_write has to be given them: nothing is taken before all of it is out.
  struct again : memory_transport {
    bool refuses = false;
    std::string kept{};
    std::size_t out = 0;
    sse::write_result write(connection& x, std::span<const sse::buffer> bytes) noexcept {
      if (kept.empty()) kept = bytes[0].view();
      if (refuses && bytes[0].size < kept.size()) return {0, sse::flow::closed};  // "bad length"
      const sse::buffer rest{kept.data() + out, kept.size() - out};
      out += memory_transport::write(x, {&rest, 1}).bytes;
      if (out < kept.size()) return {0, sse::flow::blocked};
      out = 0;
      return {std::exchange(kept, {}).size(), sse::flow::ready};
    }
  };
  for (const bool refuses : {false, true}) {
    CAPTURE(refuses);
    again b;
    b.refuses = refuses;
    CHECK_FALSE(problem_of(b).empty());
  }
  // Reads them when its call is over.
  struct late : memory_transport {
    std::vector<sse::buffer> kept{};
    sse::write_result write(connection&, std::span<const sse::buffer> bytes) noexcept {
      kept.assign(bytes.begin(), bytes.end());
      std::size_t all = 0;
      for (const sse::buffer& b : bytes) all += b.size;
      return {all, sse::flow::blocked};
    }
  };
  late b;
  late::connection c{b.connect()};
  const auto read = [&] {
    std::string got;
    for (const sse::buffer& k : std::exchange(b.kept, {})) got += k.view();
    return got;
  };
  CHECK(check_transport(b, c, read, 50'000).problem.starts_with("the peer did not get"));
}

TEST_CASE("testing: each write of the check has other bytes, in as many pieces as may be",
          "[testing]") {
  const auto all_of = [](auto& t, bool one) {
    sse::testing::memory_transport::connection c{t.connect()};
    CHECK(check_transport(
              t, c, [&] { return std::string{}; }, 800'000)
              .problem.starts_with("the peer did not get"));
    CHECK(t.printable);
    CHECK(t.in_two != one);
    CHECK(t.in_one == one);
    CHECK(t.at(0).writes < 94);
    CHECK(t.first.size() == t.at(0).writes);
  };
  looking_transport<16> wide;
  all_of(wide, false);
  looking_transport<1> one;
  all_of(one, true);
}
