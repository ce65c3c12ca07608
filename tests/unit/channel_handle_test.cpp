// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// A channel is a handle: one that is closed, none or another hub's is refused wherever it is used.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

using sse::join_error;
using sse::publish_error;
using test::stage;

namespace {

std::string refusal_of(stage& s, const std::vector<sse::channel>& channels) {
  auto v = sse::admit("ann");
  for (const sse::channel c : channels) v.join(c);
  return s.accept({}, std::move(v)).refusal.body;
}

/// All that can be asked of a channel, where it is not one of `s`.
void check_refused(stage& s, sse::channel c, bool foreign) {
  const sse::channel here = s.open("here");
  const test::caller k = s.join(here);
  const publish_error no = foreign ? publish_error::another_hub : publish_error::closed;
  CHECK_FALSE(s.hub.owns(c));
  CHECK(s.hub.publish(c, {.data = "x"}).error == no);
  CHECK_FALSE(s.hub.seal(c));
  CHECK_FALSE(s.hub.close_channel(c));
  CHECK(s.hub.join(k.id, c) == (foreign ? join_error::another_hub : join_error::closed));
  CHECK_FALSE(s.hub.leave(k.id, c));
  CHECK(s.hub.worst_lag(c) == 0);
  const std::string_view body =
      foreign ? R"({"error":"channel_of_another_hub"})" : R"({"error":"channel_closed"})";
  CHECK(refusal_of(s, {c}) == body);
  CHECK(refusal_of(s, {here, c}) == body);
  CHECK(refusal_of(s, {here, here, here, here, c}) != "");
  CHECK(s.hub.stats().sessions == 1);
}

void check_gone(sse::channel c) {
  CHECK_FALSE(c);
  CHECK(c.name().empty());
  CHECK(c.options() == nullptr);
  CHECK(c.publish({.data = "x"}).error == publish_error::closed);
  CHECK(c.sealed());
  CHECK(c.subscribers() == 0);
  CHECK(c.last_id() == sse::no_id);
  CHECK(c.stats().name.empty());
}

}  // namespace

TEST_CASE("channel: a closed one is refused everywhere", "[channel][surface][fault]") {
  stage s;
  const sse::channel c = s.open("c");
  s.put(c);
  CHECK(s.hub.close_channel(c));
  check_gone(c);
  check_refused(s, c, false);
}

TEST_CASE("channel: none is refused everywhere", "[channel][surface]") {
  stage s;
  const sse::channel none;
  CHECK(none.number() == 0);
  CHECK(s.hub.find_channel("none") == none);
  check_gone(none);
  check_refused(s, none, false);
}

TEST_CASE("channel: another hub's is refused everywhere, and goes on",
          "[channel][surface][fault]") {
  stage s;
  stage other;
  const sse::channel c = other.open("c");
  CHECK(c.number() == 1);
  check_refused(s, c, true);
  CHECK(other.hub.owns(c));
  CHECK(c.publish({.data = "x"}));
  CHECK(c.subscribers() == 0);
}

TEST_CASE("channel: a handle does not name what has the place of its channel",
          "[channel][surface][fault]") {
  stage s;
  std::vector<sse::channel> closed;
  for (int i = 0; i < 300; ++i) {  // more than the hub gets at once
    closed.push_back(s.open("c"));
    CHECK(s.hub.close_channel(closed.back()));
  }
  const sse::channel now = s.open("c");
  for (const sse::channel c : closed) {
    CHECK(c != now);
    CHECK_FALSE(c);
    CHECK(c.publish({.data = "x"}).error == publish_error::closed);
    CHECK_FALSE(s.hub.close_channel(c));
  }
  CHECK(now.last_id() == 0);
  CHECK(s.hub.find_channel("c") == now);
}

TEST_CASE("channel: a copy names the same", "[channel][surface]") {
  stage s;
  const sse::channel a = s.open("a");
  sse::channel copy;
  CHECK(copy != a);
  copy = a;
  CHECK(copy == a);
  CHECK(copy.publish({.data = "x"}).id == 1);
  CHECK(a.last_id() == 1);
  CHECK(s.open("b") != a);
  CHECK(s.hub.close_channel(copy));
  CHECK_FALSE(a);
  CHECK(copy == a);
}

TEST_CASE("channel: while it is being closed it can be read", "[channel][surface]") {
  stage s;
  const sse::channel c = s.open("c");
  s.put(c);
  std::string seen;
  s.hub.on_channel_closed([&](sse::channel gone) {
    CHECK(gone == c);
    CHECK_FALSE(gone);
    CHECK_FALSE(s.hub.owns(gone));
    CHECK(gone.sealed());
    CHECK(gone.publish({.data = "x"}).error == publish_error::closed);
    CHECK_FALSE(s.hub.seal(gone));
    CHECK_FALSE(s.hub.close_channel(gone));
    CHECK(gone.stats().published == 1);
    CHECK(gone.options() != nullptr);
    seen += gone.name();
  });
  CHECK(s.hub.close_channel(c));
  CHECK(seen == "c");
  check_gone(c);
}

TEST_CASE("channel: open_channel that fails gives none", "[channel][surface]") {
  stage s;
  const sse::channel c = s.open("c");
  const sse::open_result again = s.hub.open_channel("c");
  CHECK_FALSE(again);
  CHECK(again.error == sse::open_error::taken);
  CHECK(again.here == sse::channel{});
  CHECK(s.hub.find_channel("c") == c);
}
