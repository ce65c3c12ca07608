// A stream with several keyed channels: how what it can take is divided among them.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

/// Channels of 300 keys each, and a slow reader of all of them.
struct boards {
  explicit boards(std::uint32_t share = 256 << 10) : s{{.flush_share = share}} {
    for (int k = 0; k < 300; ++k) names.push_back("k" + std::to_string(k));
    views = {names.begin(), names.end()};
  }
  sse::channel open(const std::string& name, std::uint16_t weight) {
    sse::channel_options o = test::quiet(1000);
    o.on_lag = sse::lag_policy::coalesce;
    o.max_keys = 1000;
    o.weight = weight;
    all.push_back(s.open(name, std::move(o)));
    return all.back();
  }
  /// All keys of those channels change, and the reader takes some bytes: values by channel.
  void turn(const std::vector<sse::channel>& busy) {
    for (const sse::channel c : busy) {
      for (const std::string& n : names)
        REQUIRE(
            c.publish({.data = "<" + std::string(c.name()) + std::string(70, 'x')}, {.key = n}));
    }
    s.flush();
    s.let(reader, 2000);
    const std::string bytes = s.take(reader);
    for (std::size_t at = 0; (at = bytes.find('<', at)) != bytes.npos; ++at) {
      if (at + 1 < bytes.size()) ++got[bytes[at + 1]];
    }
    s.peer(reader).window = 0;
  }
  void turns(int n, const std::vector<sse::channel>& busy) {
    got.clear();
    for (int i = 0; i < n; ++i) turn(busy);
  }

  test::stage s;
  std::vector<std::string> names;
  std::vector<std::string_view> views;
  std::vector<sse::channel> all;
  test::caller reader{};
  std::map<char, int> got;
};

}  // namespace

TEST_CASE("weight: no keyed channel of a stream starves beside another", "[keyed][weight][fault]") {
  for (const std::uint32_t share : {1U, 4096U, 256U << 10}) {
    for (int kind = 0; kind < 4; ++kind) {
      CAPTURE(share, kind);
      boards b{share};
      const sse::channel one = b.open("a", 1);
      const sse::channel two = b.open("b", 1);
      const sse::watch_options chosen{.keys = b.views, .only_keys = true};
      sse::verdict<> v = sse::admit();
      kind % 2 == 0 ? v.join(one) : v.join(one, chosen);
      kind / 2 == 0 ? v.join(two) : v.join(two, chosen);
      b.reader = b.s.accept({.window = 0}, std::move(v));
      b.turns(400, b.all);
      CHECK(b.got['a'] > 4000);
      CHECK(b.got['b'] > b.got['a'] * 9 / 10);
      CHECK(b.got['b'] < b.got['a'] * 11 / 10);
    }
  }
}

TEST_CASE("weight: a stream's keyed channels share what it takes by their weights",
          "[keyed][weight]") {
  boards b;
  const sse::channel bonds = b.open("b", 0);  // as 1
  const sse::channel shares = b.open("s", 3);
  const sse::channel most = b.open("m", 60'000);  // as 1,000
  const sse::watch_options chosen{.keys = b.views, .only_keys = true};
  b.reader = b.s.accept({.window = 0}, sse::admit().join(bonds, chosen).join(shares).join(most));
  b.turns(800, {bonds, shares});
  CHECK(b.got['s'] > b.got['b'] * 27 / 10);
  CHECK(b.got['s'] < b.got['b'] * 33 / 10);
  b.turns(800, {shares, most});
  CHECK(b.got['m'] > b.got['s'] * 100);
  CHECK(b.got['s'] > 0);
}

TEST_CASE("weight: a channel that was silent saves nothing of its share", "[keyed][weight]") {
  boards b;
  const sse::channel one = b.open("a", 1);
  const sse::channel two = b.open("b", 1);
  const sse::watch_options chosen{.keys = b.views, .only_keys = true};
  b.reader = b.s.accept({.window = 0}, sse::admit().join(one, chosen).join(two, chosen));
  b.turns(400, {one});
  CHECK(b.got['a'] > 8000);
  b.turns(40, {one, two});
  CHECK(b.got['a'] > 400);
  CHECK(b.got['b'] > 400);
}
