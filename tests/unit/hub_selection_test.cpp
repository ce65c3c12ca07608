// Streams that choose their keys of a channel, and take them at a pace of their own.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::join_error;
using sse::select_error;
using test::ask;
using test::caller;
using test::frame;
using test::stage;
using keys = std::vector<std::string_view>;

sse::channel_options board(std::uint32_t max_keys = 100, std::uint64_t keep = 1000) {
  sse::channel_options o = test::quiet(keep);
  o.on_lag = sse::lag_policy::coalesce;
  o.max_keys = max_keys;
  return o;
}

void tick(sse::channel c, std::string_view key, int value, std::string_view audience = {}) {
  const std::string data = std::string(key) + "=" + std::to_string(value);
  REQUIRE(c.publish({.data = data}, {.audience = audience, .key = key}));
}

/// The data of all frames, in their order; a gap frame as `gap`, an id alone as `@id`.
std::string data_of(std::string_view stream) {
  std::string out;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = stream.find("\n\n", at);
    REQUIRE(end != stream.npos);
    const std::string_view one = stream.substr(at, end - at);
    at = end + 2;
    if (!out.empty()) out += ' ';
    const std::size_t data = one.find("data: ");
    if (one.find("event: gap") != one.npos) {
      out += "gap";
    } else if (data == one.npos) {
      out += "@" + std::string(one.substr(4));
    } else {
      out += one.substr(data + 6);
    }
  }
  return out;
}

caller watch(stage& s, sse::channel c, const keys& chosen, ask a = {}) {
  return s.accept(a, sse::admit(a.key).join(c, {.keys = chosen, .only_keys = true}));
}

std::string next(stage& s, const caller& k) {
  s.flush();
  return data_of(s.take(k));
}

}  // namespace

TEST_CASE("selection: only the chosen keys come, beginning with the values that they have",
          "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  for (const char* key : {"a", "b", "c"}) tick(c, key, 1);
  const caller k = watch(s, c, {"c", "a", "z"});
  CHECK(next(s, k) == "c=1 a=1");
  tick(c, "b", 2);
  tick(c, "a", 2);
  CHECK(next(s, k) == "a=2");
  tick(c, "z", 1);  // a key that there was not
  tick(c, "c", 2);
  tick(c, "c", 3);
  CHECK(next(s, k) == "z=1 c=3");
  CHECK(next(s, k).empty());
  CHECK(c.stats().coalesced == 1);
  CHECK(c.stats().delivered == 5);
}

TEST_CASE("selection: values have no id, and what others get is as ever", "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  const caller plain = s.join(c);
  const caller k = watch(s, c, {"a"});
  tick(c, "a", 1);
  tick(c, "b", 1);
  s.flush();
  CHECK(s.take(k) == frame(0, "", "a=1"));
  CHECK(s.take(plain) == frame(1, "", "a=1") + frame(2, "", "b=1"));
}

TEST_CASE("selection: events without a key all come, in order, beside the values", "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  const caller k = watch(s, c, {"a"});
  s.put(c, "fill 1");
  tick(c, "b", 1);
  tick(c, "a", 1);
  s.put(c, "fill 2");
  s.flush();
  CHECK(s.take(k) == frame(1, "e", "fill 1") + frame(4, "e", "fill 2") + frame(0, "", "a=1"));
}

TEST_CASE("selection: transient events come whatever their key is", "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  const caller k = watch(s, c, {"a"});
  REQUIRE(c.publish({.data = "blink"}, {.transient = true, .key = "b"}));
  tick(c, "b", 1);
  tick(c, "a", 1);
  const std::string got = next(s, k);
  CHECK(test::count(got, "blink") == 1);
  CHECK(test::count(got, "a=1") == 1);
  CHECK(test::count(got, "b=1") == 0);
}

TEST_CASE("selection: another channel of the session keeps its order and its ids", "[selection]") {
  stage s;
  sse::channel quotes = s.open("quotes", board());
  sse::channel orders = s.open("orders", test::quiet());
  const keys chosen{"a"};
  const caller k = s.accept({}, sse::admit().join(quotes, {.keys = chosen}).join(orders));
  tick(quotes, "a", 1);
  s.put(orders, "order 2");
  s.put(quotes, "fill 3");
  s.put(orders, "order 4");
  tick(quotes, "b", 1);
  s.flush();
  const std::string got = s.take(k);
  CHECK(test::consecutive(test::ids_in(got), 2, 4));
  CHECK(data_of(got) == "order 2 fill 3 order 4 a=1");
  s.put(orders, "order 6");
  CHECK(next(s, k) == "order 6");
}

TEST_CASE("selection: keys are added and taken away while the stream lives", "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  tick(c, "a", 1);
  tick(c, "b", 1);
  const caller k = watch(s, c, {"a"});
  CHECK(next(s, k) == "a=1");
  const keys more{"b", "a", ""};
  CHECK(s.hub.select(k.id, c, more) == select_error::none);
  CHECK(next(s, k) == "b=1");  // a was there
  tick(c, "a", 2);
  tick(c, "b", 2);
  const keys gone{"a", "never"};
  CHECK(s.hub.unselect(k.id, c, gone) == select_error::none);
  CHECK(next(s, k) == "b=2");  // what waited of it is gone, too
  tick(c, "a", 3);
  CHECK(next(s, k).empty());
  CHECK(s.hub.select(k.id, c, more) == select_error::none);
  CHECK(next(s, k) == "a=3");
  CHECK(s.hub.unselect(k.id, c, more) == select_error::none);
  tick(c, "a", 4);
  s.put(c, "fill");
  CHECK(next(s, k) == "fill");  // without any key
}

TEST_CASE("selection: what cannot be chosen is refused, and says why", "[selection]") {
  stage s;
  sse::channel_options o = board();
  o.max_selected = 2;
  sse::channel c = s.open("board", std::move(o));
  sse::channel plain = s.open("plain", test::quiet());
  const keys three{"a", "b", "c"};
  const keys two{"a", "b"};
  const keys one{"c"};
  const auto status = [&](sse::verdict<> v, std::string_view why) {
    const caller k = s.accept({}, std::move(v));
    CHECK(k.refusal.body == "{\"error\":\"" + std::string(why) + "\"}");
    return k.refusal.status;
  };
  CHECK(status(sse::admit().join(c, {.keys = three}), "too_many_keys") == 400);
  CHECK(status(sse::admit().join(plain, {.keys = one}), "channel_without_keys") == 500);
  const caller k = s.accept({}, sse::admit().join(c, {.keys = two}));
  CHECK(s.hub.select(k.id, c, one) == select_error::too_many_keys);
  CHECK(s.hub.select(k.id, plain, one) == select_error::no_selection);
  CHECK(s.hub.unselect(k.id, plain, one) == select_error::no_selection);
  CHECK(s.hub.select({}, c, one) == select_error::no_session);
  CHECK(s.hub.unselect({}, c, one) == select_error::no_session);
  const caller reader = s.join(c);
  CHECK(s.hub.select(reader.id, c, one) == select_error::no_selection);
  const caller other = s.join(plain);
  CHECK(s.hub.join(other.id, c, sse::watch_options{.keys = three}) == join_error::too_many_keys);
  CHECK(s.hub.join(k.id, plain, sse::watch_options{.keys = one}) == join_error::no_keys);
  select_error in_hook = select_error::none;
  s.hub.on_wanted([&] { in_hook = s.hub.select(k.id, c, one); });
  tick(c, "a", 1);
  CHECK(in_hook == select_error::in_hook);
  CHECK(to_string(select_error::too_many_keys) == "too_many_keys");
  CHECK(to_string(join_error::no_keys) == "no_keys");
}

TEST_CASE("selection: a live session joins a channel with keys of its own, and leaves it",
          "[selection]") {
  stage s;
  sse::channel orders = s.open("orders", test::quiet());
  sse::channel c = s.open("board", board());
  tick(c, "a", 1);
  tick(c, "b", 1);
  const caller k = s.join(orders);
  const keys chosen{"b"};
  CHECK(s.hub.join(k.id, c, sse::watch_options{.keys = chosen}) == join_error::none);
  CHECK(next(s, k) == "b=1");
  tick(c, "a", 2);
  tick(c, "b", 2);
  CHECK(s.hub.leave(k.id, c));
  CHECK(next(s, k).empty());
  tick(c, "b", 3);
  s.put(orders, "order");
  CHECK(next(s, k) == "order");
  CHECK(c.subscribers() == 0);
}

TEST_CASE(
    "selection: a slow reader gets each value as it is when it is written, oldest change "
    "first",
    "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  const caller k = watch(s, c, {"a", "b", "c", "d"}, {.window = 0});
  for (const char* key : {"c", "a", "d", "b"}) tick(c, key, 1);
  s.flush();
  tick(c, "c", 2);
  tick(c, "b", 2);
  s.let(k, frame(0, "", "c=2").size());
  CHECK(data_of(s.take(k)) == "c=2");
  tick(c, "a", 2);
  tick(c, "c", 3);
  s.let(k);
  CHECK(data_of(s.take(k)) == "a=2 d=1 b=2 c=3");
}

TEST_CASE("selection: values that a write did not begin are taken anew, in their order",
          "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  keys all;
  std::vector<std::string> names;
  for (int i = 10; i < 60; ++i) names.push_back("k" + std::to_string(i));
  for (const std::string& n : names) all.push_back(n);
  const caller k = watch(s, c, all);
  const std::size_t size = frame(0, "", "k10=1").size();
  s.peer(k).window = 5 * size + 3;  // the sixth is begun
  for (const std::string_view key : all) tick(c, key, 1);
  s.flush();
  for (const std::string_view key : all) tick(c, key, 2);
  s.let(k);
  const std::string got = data_of(s.take(k));
  std::string expected;
  for (int i = 0; i < 6; ++i) expected += names[static_cast<std::size_t>(i)] + "=1 ";
  for (int i = 6; i < 50; ++i) expected += names[static_cast<std::size_t>(i)] + "=2 ";
  for (int i = 0; i < 6; ++i) expected += names[static_cast<std::size_t>(i)] + "=2 ";
  expected.pop_back();
  CHECK(got == expected);
}

TEST_CASE("selection: nobody is looked at who did not choose the key", "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  const caller a = watch(s, c, {"a"});
  const caller b = watch(s, c, {"b"});
  s.peer(b).window = 0;
  tick(c, "b", 1);
  s.flush();  // it is blocked now, and would have to be waited for
  tick(c, "a", 1);
  const std::uint64_t writes = s.hub.stats().writes;
  CHECK(next(s, a) == "a=1");
  CHECK(s.hub.stats().writes == writes + 1);
}

TEST_CASE("selection: what has an audience comes to those who may see it", "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  tick(c, "position", 1, "ann");
  tick(c, "position", 2, "bob");
  tick(c, "position", 3);
  const caller ann = watch(s, c, {"position"}, {.key = "ann"});
  const caller bob = watch(s, c, {"position"}, {.key = "bob"});
  const caller eve = watch(s, c, {"position"}, {.key = "eve"});
  s.flush();
  const std::string first = data_of(s.take(ann));
  CHECK((first == "position=1 position=3" || first == "position=3 position=1"));
  (void)s.take(bob);
  CHECK(data_of(s.take(eve)) == "position=3");
  tick(c, "position", 4, "bob");
  const std::uint64_t writes = s.hub.stats().writes;
  s.flush();
  CHECK(data_of(s.take(bob)) == "position=4");
  CHECK(s.hub.stats().writes == writes + 1);
  tick(c, "position", 5, "ann");
  tick(c, "position", 6);
  CHECK(test::count(next(s, ann), "position") == 2);
  CHECK(next(s, eve) == "position=6");
}

TEST_CASE("selection: what the host's rule shows to a group comes too", "[selection]") {
  stage s;
  s.hub.on_sees([](const sse::no_user&, std::string_view key, std::string_view audience) {
    return audience.substr(0, 1) == key.substr(0, 1);
  });
  sse::channel c = s.open("board", board());
  const caller early = watch(s, c, {"x"}, {.key = "a1"});
  tick(c, "x", 1, "a-desk");
  tick(c, "x", 2, "b-desk");
  CHECK(next(s, early) == "x=1");
  const caller late = watch(s, c, {"x"}, {.key = "b2"});
  CHECK(next(s, late) == "x=2");
}

TEST_CASE("selection: who comes back has its keys as they are, and misses no event without one",
          "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  tick(c, "a", 1);                                // 1
  const sse::event_id seen = s.put(c, "fill 1");  // 2
  tick(c, "b", 1);
  s.put(c, "fill 2");
  const caller k = watch(s, c, {"a", "b"}, {.last_event_id = std::to_string(seen)});
  CHECK(next(s, k) == "fill 2 a=1 b=1");
}

TEST_CASE("selection: events without a key that are gone are told, keys are not", "[selection]") {
  stage s;
  sse::channel c = s.open("board", board(100, 2));
  const sse::event_id seen = s.put(c, "fill 1");
  s.put(c, "fill 2");
  for (int i = 0; i < 5; ++i) tick(c, "a", i);
  const caller k = watch(s, c, {"a"}, {.last_event_id = std::to_string(seen)});
  CHECK(next(s, k) == "gap a=4");
}

TEST_CASE("selection: a chosen key that max_keys made the channel forget is told as lost",
          "[selection]") {
  stage s;
  sse::channel c = s.open("board", board(2));
  const caller k = watch(s, c, {"a"}, {.window = 0});
  tick(c, "a", 1);
  tick(c, "b", 1);
  tick(c, "c", 1);  // a is forgotten, and was not sent
  s.let(k);
  CHECK(data_of(s.take(k)) == "gap");
  tick(c, "a", 2);
  CHECK(next(s, k) == "a=2");
  tick(c, "b", 2);
  tick(c, "c", 2);  // forgotten again, but it has that
  CHECK(next(s, k).empty());
}

TEST_CASE("selection: a sealed channel ends its streams once they have all they chose",
          "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  const caller k = watch(s, c, {"a"}, {.window = 0});
  const caller idle = watch(s, c, {"b"});
  tick(c, "a", 1);
  s.flush();
  tick(c, "a", 2);
  CHECK(s.hub.seal(c));
  s.flush();
  CHECK(s.closed(idle));
  CHECK_FALSE(s.closed(k));
  s.let(k);
  CHECK(data_of(s.take(k)) == "a=2");
  CHECK(s.closed(k));
}

TEST_CASE("selection: a stream that is finished gets what is on its way", "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  const caller k = watch(s, c, {"a", "b"}, {.window = 3});
  tick(c, "a", 1);
  s.flush();
  s.hub.finish(k.id);
  s.let(k);
  CHECK(data_of(s.take(k)) == "a=1");
  CHECK(s.closed(k));
}

TEST_CASE("selection: options that say nothing change nothing", "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  tick(c, "a", 1);
  tick(c, "a", 2);
  const caller k = s.accept({.last_event_id = "1"}, sse::admit().join(c, sse::watch_options{}));
  CHECK(next(s, k) == "a=2");
  sse::channel other = s.open("other", board());
  CHECK(s.hub.join(k.id, other, sse::watch_options{}) == join_error::none);
  tick(other, "a", 3);
  s.flush();
  CHECK(s.take(k) == frame(3, "", "a=3"));
}

TEST_CASE("selection: streams come and go, and their wishes with them", "[selection]") {
  stage s;
  sse::channel c = s.open("board", board());
  std::vector<caller> all;
  for (int i = 0; i < 30; ++i) {
    const std::string own = "k" + std::to_string(i % 7);
    const keys chosen{"all", own};
    all.push_back(watch(s, c, chosen));
    if (i % 3 == 0) (void)s.join(c);
  }
  for (std::size_t i = 0; i < all.size(); i += 2) s.hub.close(all[i].id);
  tick(c, "all", 1);
  tick(c, "k3", 1);
  s.flush();
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    const std::string got = data_of(s.take(all[i]));
    CHECK(got == (i % 2 == 0 ? "" : i % 7 == 3 ? "all=1 k3=1" : "all=1"));
  }
  CHECK(s.hub.close_channel(c));
  for (const caller& k : all) CHECK(s.closed(k));
}

TEST_CASE("selection: with a transport that completes, values are as new as their write",
          "[selection][completion]") {
  test::completion_stage s;
  sse::channel c = s.open("board", board());
  const keys chosen{"a", "b", "c"};
  const caller k = s.accept({}, sse::admit().join(c, {.keys = chosen}));
  const auto done = [&](std::size_t n = SIZE_MAX) {
    s.hub.written(k.id, s.net.complete(k.peer, n));
    s.flush();
    return data_of(s.take(k));
  };
  tick(c, "a", 1);
  s.flush();
  tick(c, "b", 1);
  tick(c, "a", 2);
  tick(c, "b", 2);
  s.flush();  // the first write is still under way
  CHECK(done() == "a=1");
  tick(c, "c", 1);
  tick(c, "b", 3);
  tick(c, "a", 3);
  s.flush();
  CHECK(done(frame(0, "", "b=2").size()) == "b=2");  // a=2 was not taken, and is old now
  CHECK(done() == "a=3 c=1 b=3");
  CHECK(done().empty());
  CHECK(c.stats().delivered + c.stats().coalesced == c.stats().published);
}

// --- a pace of their own -------------------------------------------------------------------------

TEST_CASE("pace: values of a key come so many times a second at most, and the newest follows",
          "[selection][pace]") {
  for (const bool chosen : {true, false}) {
    CAPTURE(chosen);
    stage s;
    sse::channel c = s.open("board", board());
    const keys one{"a"};
    sse::watch_options o{.max_rate = 4};
    if (chosen) o.keys = one;
    const caller k = s.accept({}, sse::admit().join(c, o));
    std::vector<std::int64_t> came;
    std::string last;
    for (std::int64_t ms = 1; ms <= 10'000; ++ms) {
      if (ms < 9000) tick(c, "a", static_cast<int>(ms));
      s.at(ms);
      if (const std::string got = data_of(s.take(k)); !got.empty()) {
        came.push_back(ms);
        last = got.substr(0, got.find(' '));
      }
    }
    CHECK(last == "a=8999");
    REQUIRE(came.size() >= 36);
    CHECK(came.size() <= 38);
    for (std::size_t i = 2; i + 1 < came.size(); ++i) CHECK(came[i] - came[i - 1] == 250);
    CHECK(came[0] <= 250);                                     // anywhere in its first period
    CHECK(s.hub.next_deadline() == sse::time_point::never());  // nothing waits, no timer runs
  }
}

TEST_CASE("pace: the channel's own limit holds whatever a stream asks for", "[selection][pace]") {
  stage s;
  sse::channel_options o = board();
  o.max_rate = 2;
  sse::channel c = s.open("board", std::move(o));
  const keys one{"a"};
  const double asked[] = {0, 100, 1, -1, std::numeric_limits<double>::quiet_NaN()};
  std::vector<caller> readers;
  for (const double rate : asked)
    readers.push_back(s.accept({}, sse::admit().join(c, {.keys = one, .max_rate = rate})));
  std::vector<int> n(readers.size());
  for (std::int64_t ms = 1; ms <= 10'000; ++ms) {
    tick(c, "a", static_cast<int>(ms));
    s.at(ms);
    for (std::size_t i = 0; i < readers.size(); ++i) n[i] += s.take(readers[i]).empty() ? 0 : 1;
  }
  for (std::size_t i = 0; i < readers.size(); ++i) {
    CAPTURE(i);
    const int expected = asked[i] == 1 ? 10 : 20;
    CHECK(n[i] >= expected);
    CHECK(n[i] <= expected + 2);
  }
}

TEST_CASE("pace: readers of one pace do not all take theirs at once", "[selection][pace]") {
  stage s;
  sse::channel c = s.open("board", board());
  const keys one{"a"};
  std::vector<caller> readers;
  for (int i = 0; i < 200; ++i)
    readers.push_back(s.accept({}, sse::admit().join(c, {.keys = one, .max_rate = 10})));
  std::vector<int> at(100);
  for (std::int64_t ms = 1; ms <= 1000; ++ms) {
    tick(c, "a", static_cast<int>(ms));
    s.at(ms);
    for (const caller& k : readers) {
      if (!s.take(k).empty() && ms > 500) ++at[static_cast<std::size_t>(ms % 100)];
    }
  }
  for (const int n : at) CHECK(n <= 5 * 10);  // 200 readers, 5 periods: 10 in each millisecond
}

TEST_CASE("pace: bytes of values in a second", "[selection][pace]") {
  for (const bool chosen : {true, false}) {
    CAPTURE(chosen);
    stage s;
    sse::channel c = s.open("board", board());
    keys all;
    std::vector<std::string> names;
    for (int i = 100; i < 200; ++i) names.push_back(std::to_string(i));
    for (const std::string& n : names) all.push_back(n);
    sse::watch_options o{.max_bytes = 1000};
    if (chosen) o.keys = all;
    const caller k = s.accept({}, sse::admit().join(c, o));
    std::size_t got = 0;
    std::size_t most = 0;
    for (std::int64_t ms = 1; ms <= 20'000; ++ms) {
      if (ms % 10 == 0) {
        for (const std::string& n : names) tick(c, n, static_cast<int>(ms / 10 + 1000));
      }
      s.at(ms);
      const std::size_t now = s.take(k).size();
      most = now > most ? now : most;
      got += now;
    }
    CHECK(got >= 19'000);
    CHECK(got <= 20'600);
    CHECK(most <= 300);  // a quarter of a second's
  }
}

TEST_CASE("pace: events without a key, and other channels, do not wait for it",
          "[selection][pace]") {
  for (const bool chosen : {true, false}) {
    CAPTURE(chosen);
    stage s;
    sse::channel c = s.open("board", board());
    sse::channel orders = s.open("orders", test::quiet());
    const keys one{"a"};
    sse::watch_options o{.max_rate = 0.1};
    if (chosen) o.keys = one;
    tick(c, "a", 1);
    const caller k =
        s.accept({}, sse::admit().join(c, o).join(orders).start(sse::start_at::snapshot));
    s.flush();
    CHECK(test::count(s.take(k), "a=1") == 1);
    tick(c, "a", 2);
    s.put(c, "fill");
    s.put(orders, "order");
    s.at(2);
    const std::string got = data_of(s.take(k));
    CHECK(test::count(got, "fill") == 1);
    CHECK(test::count(got, "order") == 1);
    CHECK(test::count(got, "a=2") == 0);
    s.at(20'000);
    CHECK(test::count(s.take(k), "a=2") == 1);
  }
}

TEST_CASE("selection: a key that is given up while its value is half sent, and chosen again, comes",
          "[selection][fault]") {
  test::stage s{{.session_stats = true}};
  const sse::channel c = s.open("board", board());
  const keys chosen{"a"};
  const caller k = watch(s, c, chosen);
  s.flush();
  (void)s.take(k);
  s.peer(k).window = 0;
  REQUIRE(c.publish({.data = "1"}, {.key = "a"}));
  s.flush();
  s.let(k, 4);
  REQUIRE(s.hub.unselect(k.id, c, chosen) == sse::select_error::none);
  REQUIRE(s.hub.select(k.id, c, chosen) == sse::select_error::none);
  s.flush();
  s.let(k, 5);  // the rest of the first
  CHECK(s.take(k) == "data: 1\n\n");
  s.let(k, SIZE_MAX);
  CHECK(s.take(k) == "data: 1\n\n");
  REQUIRE(c.publish({.data = "2"}, {.key = "a"}));
  s.flush();
  CHECK(s.take(k) == "data: 2\n\n");
}
