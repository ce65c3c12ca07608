// Keys that are gone (key_role::erase): who has the value is told, who is new gets neither.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sse/mailbox.hpp>
#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using test::ask;
using test::caller;
using test::frame;
using test::stage;

sse::channel_options erasable(std::uint32_t max_keys = 100, std::uint64_t keep = 1000) {
  sse::channel_options o = test::quiet(keep);
  o.on_lag = sse::lag_policy::coalesce;
  o.start = sse::start_at::snapshot;
  o.max_keys = max_keys;
  return o;
}

void set_key(sse::channel c, std::string_view key, int value, std::string_view audience = {}) {
  const std::string data = std::string(key) + "=" + std::to_string(value);
  REQUIRE(c.publish({.data = data}, {.audience = audience, .key = key}));
}
void erase_key(sse::channel c, std::string_view key, std::string_view audience = {}) {
  REQUIRE(c.publish({.type = "gone", .data = key},
                    {.audience = audience, .key = key, .role = sse::key_role::erase}));
}

/// The data of all frames; an erasing one as `-key`, a gap frame as `gap`.
std::string state_of(std::string_view stream) {
  std::string out;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = stream.find("\n\n", at);
    REQUIRE(end != stream.npos);
    const std::string_view one = stream.substr(at, end - at);
    at = end + 2;
    const std::size_t data = one.find("data: ");
    if (data == one.npos) continue;
    if (!out.empty()) out += ' ';
    if (one.find("event: gap") != one.npos) {
      out += "gap";
    } else {
      out += one.find("event: gone") != one.npos ? "-" : "";
      out += one.substr(data + 6);
    }
  }
  return out;
}

std::string after_flush(stage& s, const caller& k) {
  s.flush();
  return state_of(s.take(k));
}

}  // namespace

TEST_CASE("erase: a snapshot does not show the key, who follows live is told", "[erase]") {
  stage s;
  sse::channel c = s.open("board", erasable());
  set_key(c, "a", 1);
  set_key(c, "b", 1);
  const caller live = s.join(c);
  CHECK(after_flush(s, live) == "a=1 b=1");
  erase_key(c, "a");
  CHECK(after_flush(s, live) == "-a");
  const caller fresh = s.join(c);
  CHECK(after_flush(s, fresh) == "b=1");
  erase_key(c, "never there");
  CHECK(after_flush(s, fresh) == "-never there");
  CHECK(after_flush(s, s.join(c)) == "b=1");
  set_key(c, "a", 2);  // it is there again
  CHECK(after_flush(s, s.join(c)) == "a=2 b=1");
}

TEST_CASE("erase: who was away or too slow is told of the keys that are gone", "[erase][resume]") {
  stage s;
  sse::channel c = s.open("board", erasable(100, 3));
  set_key(c, "a", 1);
  set_key(c, "b", 1);
  const caller slow = s.join(c);
  CHECK(after_flush(s, slow) == "a=1 b=1");
  const std::uint64_t seen = c.last_id();
  s.peer(slow).window = 0;
  set_key(c, "b", 2);
  s.flush();
  erase_key(c, "a");
  for (int i = 3; i < 9; ++i) set_key(c, "b", i);
  s.flush();
  s.let(slow, SIZE_MAX);
  CHECK(after_flush(s, slow) == "-a b=8");

  const caller back = s.join(c, {.last_event_id = std::to_string(seen)});  // left the history
  CHECK(after_flush(s, back) == "-a b=8");
  CHECK(after_flush(s, s.join(c)) == "b=8");
}

TEST_CASE("erase: a first snapshot that is cut shows no key that went meanwhile, or tells of it",
          "[erase][lag]") {
  for (std::size_t taken = 1; taken < 120; taken += 7) {
    stage s;
    sse::channel c = s.open("board", erasable());
    for (const char* key : {"a", "b", "c"}) set_key(c, key, 1);
    const caller k = s.join(c, {.window = taken});
    s.flush();
    std::string got = s.take(k);
    erase_key(c, "a");
    erase_key(c, "c");
    s.flush();
    s.let(k, SIZE_MAX);
    s.flush();
    got += s.take(k);
    const std::string all = state_of(got);
    CAPTURE(taken, all);
    for (const char* key : {"a", "c"}) {
      const std::string name = key;
      const std::size_t value = all.find(name + "=1");
      const std::size_t gone = all.find("-" + name);
      CHECK((value == all.npos) == (gone == all.npos));
      if (value != all.npos) CHECK(value < gone);
    }
    CHECK(all.find("b=1") != all.npos);
  }
}

TEST_CASE("erase: who was cut inside its first snapshot and comes back is told, whatever it has",
          "[erase][resume]") {
  stage s;
  sse::channel c = s.open("board", erasable());
  set_key(c, "a", 1);
  sse::channel other = s.open("log", test::quiet());
  REQUIRE(other.publish({.data = "x"}));
  // Its ids say that no value is there yet, though some came.
  const caller k = s.join({c}, {.last_event_id = "2-0"});
  s.flush();
  (void)s.take(k);
  erase_key(c, "a");
  const caller back = s.join({c}, {.last_event_id = "2-0"});
  CHECK(after_flush(s, back).find("-a") != std::string::npos);
}

TEST_CASE("erase: who chose a key is told that it is gone, also who comes later",
          "[erase][selection]") {
  stage s;
  sse::channel c = s.open("board", erasable());
  set_key(c, "a", 1);
  set_key(c, "b", 1);
  const std::vector<std::string_view> both{"a", "b"};
  const auto watch = [&] {
    return s.accept({}, sse::admit().join(c, {.keys = both, .only_keys = true}));
  };
  const caller k = watch();
  CHECK(after_flush(s, k) == "a=1 b=1");
  erase_key(c, "a");
  CHECK(after_flush(s, k) == "-a");
  const caller late = watch();
  CHECK(after_flush(s, late) == "-a b=1");
}

TEST_CASE("erase: an audience's key goes for that audience", "[erase][audience]") {
  stage s;
  sse::channel c = s.open("board", erasable());
  set_key(c, "a", 1);
  set_key(c, "a", 2, "amy");
  erase_key(c, "a", "amy");
  CHECK(after_flush(s, s.join(c, {.key = "amy"})) == "a=1");
  CHECK(after_flush(s, s.join(c, {.key = "bob"})) == "a=1");
}

TEST_CASE("erase: keys that are gone make room first, and what they said is announced as lost",
          "[erase][faults]") {
  stage s;
  sse::channel c = s.open("board", erasable(3, 2));
  set_key(c, "quiet", 1);
  const std::uint64_t seen = c.last_id();
  for (int i = 0; i < 50; ++i) {  // an order book of orders that come and go
    const std::string order = "o" + std::to_string(i);
    set_key(c, order, i);
    erase_key(c, order);
  }
  CHECK(after_flush(s, s.join(c)) == "quiet=1");
  // It may have had any of those that nobody knows of any more.
  const caller back = s.join(c, {.last_event_id = std::to_string(seen)});
  const std::string told = after_flush(s, back);
  CHECK(told.find("gap") != std::string::npos);
  CHECK(told.find("-o49") != std::string::npos);
}

TEST_CASE("erase: it is a word of publish, mailboxes carry it, and keys have a bound",
          "[erase][mailbox]") {
  stage s;
  sse::channel c = s.open("board", erasable());
  sse::mailbox mail;
  sse::publisher p = mail.make_publisher(1);
  const std::string longest(0x3fff, 'k');
  const auto take = [&] {
    mail.drain([&](const sse::mail& m) { REQUIRE(c.publish(m.event, m.options)); });
  };
  REQUIRE(p.try_publish({.data = "1"}, {.key = longest}) == sse::publish_error::none);
  take();
  CHECK(after_flush(s, s.join(c)) == "1");
  REQUIRE(p.try_publish({.data = "2"}, {.key = longest, .role = sse::key_role::erase}) ==
          sse::publish_error::none);
  take();
  CHECK(after_flush(s, s.join(c)).empty());
  const std::string longer = longest + "k";
  CHECK(p.try_publish({}, {.key = longer}) == sse::publish_error::too_large);
  CHECK(c.publish({}, {.key = longer}) == sse::publish_error::too_large);
  // Without a key, or without values to keep, it says nothing.
  CHECK(c.publish({.data = "3"}, {.role = sse::key_role::erase}));
  CHECK(s.open("plain", test::quiet())
            .publish({.data = "4"}, {.key = "a", .role = sse::key_role::erase}));
}
