// Which handler answers which path, and what a channel's end takes away.
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <sse/detail/server/routes.hpp>
#include <sse/hub.hpp>
#include <sse/testing.hpp>

#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::detail::http_method;
using endpoint = sse::detail::http_endpoint<sse::no_user>;
using routes = sse::detail::http_routes<sse::no_user>;
using hub = sse::hub<sse::testing::memory_transport>;

std::shared_ptr<endpoint> plain() { return std::make_shared<endpoint>(); }
std::shared_ptr<endpoint> of(sse::channel c) {
  auto e = plain();
  e->bound = c;
  return e;
}
endpoint* get(const routes& r, std::string_view path) {
  const auto* found = r.find(path);
  return found == nullptr ? nullptr : found->find("GET").get();
}

TEST_CASE("the exact path decides, else the longest prefix, as a search through all would say",
          "[routes]") {
  routes r;
  test::random_source random{3};
  std::map<std::string, endpoint*> exact;
  std::map<std::string, endpoint*> prefixes;
  const auto text = [&](std::uint64_t most) {
    std::string s;
    for (std::uint64_t n = random.below(most + 1); n != 0; --n) s += "ab/\xff"[random.below(4)];
    return s;
  };
  for (int i = 0; i < 3000; ++i) {
    const bool prefix = random.one_in(2);
    auto& mine = prefix ? prefixes : exact;
    const std::string path = text(6);
    if (random.one_in(3)) {
      CHECK(r.remove(prefix, path) == (mine.erase(path) != 0));
    } else {
      auto e = plain();
      mine[path] = e.get();
      r.add(http_method::get, prefix, path, std::move(e));
    }
    const std::string asked = text(8);
    endpoint* expected = nullptr;
    std::size_t longest = 0;
    for (const auto& [p, e] : prefixes) {
      if (!asked.starts_with(p) || (expected != nullptr && p.size() < longest)) continue;
      expected = e;
      longest = p.size();
    }
    if (const auto at = exact.find(asked); at != exact.end()) expected = at->second;
    CAPTURE(asked);
    REQUIRE(get(r, asked) == expected);
  }
}

TEST_CASE("a channel's end takes its paths, and nothing else", "[routes]") {
  sse::testing::memory_transport net;
  hub h{net};
  sse::channel a = h.open_channel("a");
  sse::channel b = h.open_channel("b");
  routes r;
  r.add(http_method::get, false, "/a", of(a));
  r.add(http_method::get, false, "/too", of(a));
  r.add(http_method::get, true, "/a/", of(a));
  r.add(http_method::get, false, "/b", of(b));
  r.add(http_method::get, true, "/", of(b));
  r.add(http_method::post, false, "/a", plain());
  // By two methods of one path.
  r.add(http_method::get, false, "/both", of(a));
  r.add(http_method::post, false, "/both", of(a));
  // Named again: for the other channel, for none, and twice for the same.
  r.add(http_method::get, false, "/was a", of(a));
  r.add(http_method::get, false, "/was a", of(b));
  r.add(http_method::get, false, "/was b", of(b));
  r.add(http_method::get, false, "/was b", plain());
  r.add(http_method::get, false, "/b", of(b));
  // Taken away, then somebody else's.
  r.add(http_method::get, false, "/gone", of(a));
  CHECK(r.remove(false, "/gone"));
  r.add(http_method::get, false, "/gone", plain());

  endpoint* const all = get(r, "/");
  r.remove(a);
  CHECK(get(r, "/a") == nullptr);
  REQUIRE(r.find("/a") != nullptr);
  CHECK(r.find("/a")->find("POST") != nullptr);
  CHECK(get(r, "/both") == all);
  CHECK(get(r, "/too") == all);
  CHECK(get(r, "/a/x") == all);
  CHECK(get(r, "/was a")->bound == b);
  CHECK(get(r, "/gone") != all);
  r.remove(a);
  r.remove(b);
  for (const char* path : {"/b", "/was a", "/x"}) CHECK(r.find(path) == nullptr);
  CHECK(get(r, "/was b") != nullptr);
}

}  // namespace
