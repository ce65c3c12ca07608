// Losses, crashes and floods that were found by attack, each as small as it can be. The simulation
// looks for their kinds.
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::lag_policy;
using sse::start_at;
using test::stage;

/// One frame of a stream, as a client reads it.
struct frame {
  std::uint64_t id = 0;  ///< 0: none
  bool gap = false;
  std::uint64_t after = 0;  ///< of a gap: what is lost is above this
  std::uint64_t first = 0;  ///< and below this
  std::string data{};
};

std::uint64_t number_behind(std::string_view text, std::string_view what) {
  const std::size_t at = text.find(what);
  return at == text.npos ? 0 : std::strtoull(text.data() + at + what.size(), nullptr, 10);
}

std::vector<frame> frames_of(const std::string& stream) {
  std::vector<frame> all;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = stream.find("\n\n", at);
    REQUIRE(end != stream.npos);
    const std::string one = "\n" + stream.substr(at, end - at) + "\n";
    at = end + 2;
    frame f;
    f.id = number_behind(one, "\nid: ");
    f.gap = one.find("\nevent: gap\n") != one.npos;
    f.after = number_behind(one, "\"requested\":");
    f.first = number_behind(one, "\"first\":");
    const std::size_t data = one.find("\ndata: ");
    if (data != one.npos) f.data = one.substr(data + 7, one.size() - data - 8);
    all.push_back(f);
  }
  return all;
}

/// Whether a value, without an id, came.
bool value_came(const std::vector<frame>& all, std::string_view data) {
  for (const frame& f : all) {
    if (!f.gap && f.id == 0 && f.data == data) return true;
  }
  return false;
}

/// Whether `id` came, or was announced as lost, before the client's position went past it.
bool told_in_time(const std::vector<frame>& all, std::uint64_t id) {
  bool covered = false;
  for (const frame& f : all) {
    if (!f.gap && f.id == id) return true;
    if (f.gap && f.after < id && id < f.first) covered = true;
    if (f.id >= id) return covered;
  }
  return covered;
}

bool came(const std::vector<frame>& all, std::string_view data) {
  for (const frame& f : all) {
    if (!f.gap && f.data == data) return true;
  }
  return false;
}

std::size_t gaps_in(const std::vector<frame>& all) {
  std::size_t n = 0;
  for (const frame& f : all) n += f.gap ? 1U : 0U;
  return n;
}

sse::heartbeat_options no_beats() { return {.mode = sse::heartbeat_options::pace::off}; }

sse::channel_options state_channel(std::uint32_t max_keys = 100) {
  return {.max_lag = 300,
          .on_lag = lag_policy::coalesce,
          .own_sequence = true,
          .start = start_at::snapshot,
          .max_keys = max_keys,
          .heartbeat = no_beats()};
}

std::uint64_t put(sse::channel c, std::string_view key, std::string_view data,
                  std::string_view audience = {}) {
  const sse::publish_result r = c.publish({.data = data}, {.audience = audience, .key = key});
  CHECK(r);  // also inside hooks, where nothing may throw
  return r.id;
}

const std::string wide(200, 'x');  // two of them are more than state_channel lets a reader lag

std::uint64_t closed_streams(const stage& s) {
  std::uint64_t n = 0;
  for (const std::uint64_t one : s.hub.stats().closed) n += one;
  return n;
}

}  // namespace

// --- what was lost in silence --------------------------------------------------------------------

TEST_CASE("fault: an event without a key is lost in silence while a snapshot is filled",
          "[faults]") {
  stage s{{.flush_share = 100}};
  sse::channel c = s.open("c", state_channel());
  for (int i = 0; i < 6; ++i) put(c, "k" + std::to_string(i), wide);
  const auto k = s.join(c, {.window = 50});
  const std::uint64_t alone = put(c, {}, "alone");
  put(c, "k0", "new");
  s.let(k);
  const auto all = frames_of(s.take(k));
  CHECK(told_in_time(all, alone));
  CHECK(came(all, "new"));
}

TEST_CASE("fault: what on_opened publishes is lost in silence by a snapshot", "[faults]") {
  stage s;
  sse::channel c = s.open("c", state_channel());
  put(c, "k", "value");
  std::uint64_t welcome = 0;
  s.hub.on_opened([&](sse::session_id, const sse::no_user&) { welcome = put(c, {}, "welcome"); });
  const auto k = s.join(c);
  put(c, "k", "newer");
  s.flush();
  const auto all = frames_of(s.take(k));
  CHECK(told_in_time(all, welcome));
  CHECK(came(all, "newer"));
}

TEST_CASE("fault: a key that max_keys forgets after the join is lost in silence by a snapshot",
          "[faults]") {
  stage s{{.flush_share = 1}};
  sse::channel c = s.open("c", state_channel(2));
  put(c, "a", wide);
  put(c, "b", wide);
  const auto k = s.join(c, {.window = 50});
  const std::uint64_t forgotten = put(c, "c", "c");
  const std::uint64_t kept = put(c, "d", "d");
  const std::uint64_t newest = put(c, "e", "e");
  s.let(k);
  const auto all = frames_of(s.take(k));
  CHECK(gaps_in(all) >= 1);
  CHECK(told_in_time(all, forgotten));
  CHECK((told_in_time(all, kept) || value_came(all, "d")));
  CHECK(newest > kept);
  CHECK(value_came(all, "e"));
}

TEST_CASE("fault: another's value takes the place of one's own, when coalescing", "[faults]") {
  stage s;
  sse::channel c = s.open("c", state_channel());
  put(c, "start", "start");
  const auto k = s.join(c, {.key = "alice"});
  CHECK(came(frames_of(s.take(k)), "start"));
  s.peer(k).window = 0;
  put(c, "balance", "hers", "alice");
  put(c, "balance", "his", "bob");
  put(c, "wide", wide);
  put(c, "wide", wide);
  s.flush();
  s.let(k);
  const auto all = frames_of(s.take(k));
  CHECK(value_came(all, "hers"));
  CHECK_FALSE(came(all, "his"));
}

TEST_CASE("fault: another's value takes the place of one's own, in a snapshot", "[faults]") {
  stage s;
  sse::channel c = s.open("c", state_channel());
  put(c, "balance", "older", "alice");
  put(c, "balance", "hers", "alice");
  put(c, "balance", "his", "bob");
  put(c, "balance", "all's");
  const auto alice = s.join(c, {.key = "alice"});
  const auto bob = s.join(c, {.key = "bob"});
  const auto hers = frames_of(s.take(alice));
  CHECK(came(hers, "hers"));
  CHECK(came(hers, "all's"));
  CHECK(hers.size() == 2);
  const auto his = frames_of(s.take(bob));
  CHECK(came(his, "his"));
  CHECK(came(his, "all's"));
  CHECK(his.size() == 2);
}

TEST_CASE("fault: a channel opened again says nothing of what the old one owed", "[faults]") {
  stage s;
  const auto open = [&] { return s.open("c", {.heartbeat = no_beats()}); };
  sse::channel c = open();
  for (int i = 0; i < 3; ++i) put(c, {}, "old");
  s.hub.close_channel(c);
  sse::channel other = s.open("other", {.heartbeat = no_beats()});
  put(other, {}, "other");
  c = open();
  const auto k = s.join(c, {.last_event_id = "1"});
  const std::uint64_t id = put(c, {}, "new");
  CHECK(id == 5);
  s.flush();
  const auto all = frames_of(s.take(k));
  CHECK(told_in_time(all, 2));
  CHECK(told_in_time(all, 3));
  CHECK(told_in_time(all, id));
  CHECK(came(all, "new"));
}

TEST_CASE("fault: the own sequence of a channel opened again begins anew", "[faults]") {
  stage s;
  const auto open = [&] { return s.open("c", {.own_sequence = true, .heartbeat = no_beats()}); };
  sse::channel c = open();
  for (int i = 0; i < 3; ++i) put(c, {}, "old");
  s.hub.close_channel(c);
  (void)s.open("other", {.own_sequence = true});
  c = open();
  CHECK(c.last_id() == 3);
  const std::uint64_t id = put(c, {}, "new");
  CHECK(id == 4);
  const auto behind = s.join(c, {.last_event_id = "1"});
  const auto at_head = s.join(c, {.last_event_id = "3"});
  const auto told = frames_of(s.take(behind));
  CHECK(told_in_time(told, 2));
  CHECK(told_in_time(told, 3));
  CHECK(came(told, "new"));
  CHECK(s.take(at_head) == test::frame(4, {}, "new"));
}

TEST_CASE("fault: of several losses coalescing announces the newest only", "[faults]") {
  stage s;
  sse::channel_options o = state_channel();
  o.keep = 1;
  sse::channel c = s.open("c", std::move(o));
  put(c, "a", "1");
  const auto k = s.join(c);
  (void)s.take(k);
  s.peer(k).window = 0;
  put(c, "a", wide);   // 2, superseded by 5
  put(c, {}, "lost");  // 3
  put(c, "b", "4");    // 4
  put(c, "a", wide);   // 5
  put(c, {}, "lost");  // 6
  put(c, "c", "7");    // 7
  s.flush();
  s.let(k);
  const auto all = frames_of(s.take(k));
  CHECK(told_in_time(all, 3));
  CHECK(told_in_time(all, 6));
  for (const std::string_view value :
       {std::string_view{wide}, std::string_view{"4"}, std::string_view{"7"}})
    CHECK(value_came(all, value));
  CHECK(gaps_in(all) == 1);
}

TEST_CASE("fault: the first of two gap frames moves the id past what the second announces",
          "[faults]") {
  const auto by_resume = [](stage& s) {
    sse::channel a = s.open("a", {.keep = 1, .heartbeat = no_beats()});
    sse::channel b = s.open("b", {.keep = 1, .heartbeat = no_beats()});
    for (int i = 0; i < 3; ++i) {
      put(a, {}, "a");
      put(b, {}, "b");
    }
    return s.join({.last_event_id = "1"}, {a, b});
  };
  const auto by_lag = [](stage& s) {
    const auto open = [&](std::string_view name) {
      return s.open(name, {.max_lag = 300, .on_lag = lag_policy::tail, .heartbeat = no_beats()});
    };
    const sse::channel a = open("a");
    const sse::channel b = open("b");
    const auto k = s.join({}, {a, b});
    put(a, {}, "1");
    s.flush();
    (void)s.take(k);
    s.peer(k).window = 0;
    for (int i = 0; i < 3; ++i) {
      put(a, {}, wide);
      put(b, {}, wide);
    }
    s.flush();
    s.let(k);
    return k;
  };
  for (const bool resumed : {true, false}) {
    CAPTURE(resumed);
    stage s;
    const auto k = resumed ? by_resume(s) : by_lag(s);
    const auto all = frames_of(s.take(k));
    CHECK(gaps_in(all) == 2);
    for (std::uint64_t id = 2; id <= 6; ++id) {
      CAPTURE(id);
      CHECK(told_in_time(all, id));
    }
    REQUIRE(all.size() >= 2);
    CHECK(all[0].gap);
    CHECK(all[0].id == 0);
    CHECK(all[1].gap);
    CHECK(all[1].id != 0);
  }
}

TEST_CASE("fault: a reader that waits in an empty segment loses what a larger event begins",
          "[faults]") {
  stage s;
  sse::channel c = s.open("c", {.keep = 1,
                                .soft_lag = 1000,
                                .soft_lag_for = sse::duration::seconds(3600),
                                .own_sequence = true,
                                .heartbeat = no_beats()});
  const auto k = s.join(c, {.window = 0});  // the log's first segment is made for it, and is small
  CHECK(s.hub.send(k.id, {.data = "it is blocked"}) == sse::publish_error::none);
  s.flush();
  for (int i = 0; i < 40; ++i) {
    s.put(c, std::string(8000, 'x'));
    s.flush();
  }
  s.let(k);
  CHECK_FALSE(s.closed(k));
  CHECK(test::consecutive(test::ids_in(s.take(k)), 1, 40));
}

// --- hooks ---------------------------------------------------------------------------------------

namespace {

/// What a hook may do to the hub it is a hook of.
struct deed {
  const char* name;
  std::function<void(stage&, sse::channel, sse::session_id)> act;
};

const std::vector<deed>& deeds() {
  static const std::vector<deed> all{
      {"revoke", [](stage& s, sse::channel, sse::session_id) { s.hub.revoke("u"); }},
      {"close", [](stage& s, sse::channel, sse::session_id id) { s.hub.close(id); }},
      {"finish", [](stage& s, sse::channel, sse::session_id id) { s.hub.finish(id); }},
      {"close_all", [](stage& s, sse::channel, sse::session_id) { s.hub.close_all(); }},
      {"publish", [](stage&, sse::channel c, sse::session_id) { put(c, {}, "from a hook"); }},
      {"publish transient",
       [](stage&, sse::channel c, sse::session_id) {
         CHECK(c.publish({.data = "from a hook"}, {.transient = true}));
       }},
      {"drain", [](stage& s, sse::channel, sse::session_id) { s.hub.drain(); }},
  };
  return all;
}

/// After all that, the hub still works and has forgotten nobody.
void still_works(stage& s, sse::channel c, bool drains) {
  s.flush();
  CHECK(s.hub.draining() == drains);
  if (!drains) {
    const auto k = s.join(c, {.key = "late"});
    REQUIRE(k);
    put(c, {}, "late");
    s.flush();
    CHECK(s.take(k).find("late") != std::string::npos);
  }
  s.hub.close_all();
  s.flush();
  CHECK(s.hub.sessions() == 0);
  CHECK(c.subscribers() == 0);
  CHECK(s.hub.user_sessions("u") == 0);
  CHECK(closed_streams(s) == s.hub.stats().accepted);
}

}  // namespace

TEST_CASE("fault: on_presence, on_opened or on_closed that ends streams crashes", "[faults]") {
  for (const char* const hook : {"opened", "presence", "absence", "closed"}) {
    for (const deed& d : deeds()) {
      CAPTURE(hook, d.name);
      const std::string_view which = hook;
      stage s;
      sse::channel c = s.open("c", {.heartbeat = no_beats()});
      sse::channel e = s.open("e", {.heartbeat = no_beats()});
      bool armed = false;
      int calls = 0;
      sse::session_id last{};
      const auto once = [&](sse::session_id id) {
        if (!armed) return;
        armed = false;
        ++calls;
        d.act(s, c, id);
      };
      s.hub.on_opened([&](sse::session_id id, const sse::no_user&) {
        last = id;
        if (which == "opened") once(id);
      });
      s.hub.on_presence([&](sse::channel, std::string_view, bool present) {
        if (which == (present ? "presence" : "absence")) once(last);
      });
      s.hub.on_closed([&](sse::session_id id, const sse::no_user&, sse::close_reason) {
        if (which == "closed") once(id);
      });
      const auto first = s.join({.key = "u"}, {c, e});
      const auto other = s.join({.key = "v"}, {c});
      REQUIRE(first);
      REQUIRE(other);
      armed = true;
      if (which == "opened" || which == "presence") {
        (void)s.join({.key = "w"}, {c, e});
        (void)s.join({.key = "u"}, {c});
      } else {
        s.hub.closed(first.id);
      }
      armed = false;
      CHECK(calls == 1);
      still_works(s, c, std::string_view(d.name) == "drain");
    }
  }
}

TEST_CASE("fault: presence that is told for a stream that the same hook ended", "[faults]") {
  stage s;
  sse::channel c = s.open("c", {.heartbeat = no_beats()});
  sse::channel e = s.open("e", {.heartbeat = no_beats()});
  int present = 0;
  s.hub.on_presence([&](sse::channel, std::string_view, bool now) {
    present += now ? 1 : -1;
    CHECK(present >= 0);
    if (now) s.hub.revoke("u");
  });
  (void)s.join({.key = "u"}, {c, e});
  s.flush();
  CHECK(s.hub.sessions() == 0);
  CHECK(present == 0);
}

TEST_CASE("fault: absence is told twice if a hook makes a channel's first transient event",
          "[faults]") {
  stage s;
  sse::channel c = s.open("c", {.heartbeat = no_beats()});
  sse::channel e = s.open("e", {.heartbeat = no_beats()});
  int absent_from_c = 0;
  s.hub.on_presence([&](sse::channel where, std::string_view, bool present) {
    if (present) return;
    if (where == c) {
      ++absent_from_c;
    } else {
      CHECK(c.publish({.data = "x"}, {.transient = true}));
    }
  });
  (void)s.join({.key = "u"}, {c});
  (void)s.join({.key = "u"}, {e, c});
  s.hub.revoke("u");
  CHECK(absent_from_c == 1);
}

TEST_CASE("fault: a hook inside a flush can call the hub", "[faults]") {
  for (const char* const hook : {"sees", "gap", "backfill", "payload"}) {
    CAPTURE(hook);
    const std::string_view which = hook;
    stage s;
    int calls = 0;
    sse::session_id session{};
    sse::channel other = s.open("other", {.heartbeat = no_beats()});
    const auto call = [&](std::string_view now) {
      if (now != which || !session) return;
      ++calls;
      CHECK_FALSE(other.publish({.data = "from a hook"}));
      CHECK_FALSE(other.publish({.data = "from a hook"}, {.transient = true}));
      CHECK(s.hub.send(session, {.data = "from a hook"}) != sse::publish_error::none);
      CHECK(s.hub.revoke("u") == 0);
      s.hub.close(session);
      s.hub.finish(session);
      s.hub.close_all();
      s.hub.drain();
      CHECK(s.hub.alive(session));
      CHECK_FALSE(s.hub.draining());
    };
    bool asked = false;
    sse::channel_options o{.keep = 2,
                           .max_lag = 300,
                           .on_lag = lag_policy::tail,
                           .own_sequence = true,
                           .heartbeat = {.every = sse::duration::seconds(1)}};
    o.heartbeat.payload = [&](std::string& data) {
      call("payload");
      data = "beat";
    };
    if (which == "backfill") {
      o.backfill = [&](const sse::backfill_request&, sse::backfill_writer&) {
        call("backfill");
        if (!asked) return asked = true, sse::backfill_state::wait;
        return sse::backfill_state::done;
      };
    }
    sse::channel c = s.open("c", std::move(o));
    s.hub.on_sees([&](const sse::no_user&, std::string_view, std::string_view) {
      call("sees");
      return true;
    });
    s.hub.on_gap([&](const sse::gap_notice&) { call("gap"); });
    if (which == "backfill") s.put_many(c, 5);
    const auto k = s.join(c, {.key = "u", .last_event_id = which == "backfill" ? "1" : ""});
    const auto beside = s.join(other, {.key = "u"});
    session = k.id;
    if (which == "sees") s.put(c, "x", "group");
    if (which == "gap") {
      s.peer(k).window = 0;
      for (int i = 0; i < 4; ++i) s.put(c, wide);
      s.flush();
    }
    s.let(k);
    s.at(1000);
    CHECK(calls > 0);
    session = {};
    s.put(c, "after");
    s.put(other, "after");
    s.flush();
    CHECK(s.take(k).find("after") != std::string::npos);
    const std::string got = s.take(beside);
    CHECK(got.find("after") != std::string::npos);
    CHECK(got.find("from a hook") == std::string::npos);
  }
}

TEST_CASE("fault: on_closed of one that is evicted ends the next one to be evicted", "[faults]") {
  for (const bool by_key : {false, true}) {
    CAPTURE(by_key);
    stage s{{.caps = {.per_user = {.max = 1, .then = sse::when_full::evict_oldest},
                      .per_address = {.max = 1, .then = sse::when_full::evict_oldest}}}};
    sse::channel c = s.open("c", {.heartbeat = no_beats()});
    const auto by_user = s.join(c, {.key = "u", .address = "x"});
    const auto by_address = s.join(c, {.key = "v", .address = "y"});
    int closed = 0;
    s.hub.on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason) {
      if (++closed != 1) return;
      if (by_key) {
        s.hub.revoke("v");
      } else {
        s.hub.close(by_address.id);
        s.hub.close(by_user.id);
      }
    });
    const auto newcomer = s.join(c, {.key = "u", .address = "y"});
    REQUIRE(newcomer);
    CHECK(closed == 2);
    CHECK(s.hub.sessions() == 1);
    CHECK(s.closed(by_user));
    CHECK(s.closed(by_address));
    std::vector<test::caller> more;
    for (int i = 0; i < 4; ++i) more.push_back(s.join(c, {.key = "more" + std::to_string(i)}));
    put(c, {}, "all");
    s.flush();
    CHECK(s.take(newcomer).find("all") != std::string::npos);
    for (const test::caller& k : more) {
      REQUIRE(k);
      CHECK_FALSE(k.id == newcomer.id);
      CHECK(s.take(k) == test::frame(1, {}, "all"));
    }
    s.hub.close_all();
    CHECK(closed_streams(s) == s.hub.stats().accepted);
  }
}

// --- floods --------------------------------------------------------------------------------------

TEST_CASE("fault: a tick of more than 24.8 days makes thousands of heartbeats", "[faults]") {
  constexpr std::int64_t day = 24 * 3600 * 1000;
  for (const auto mode :
       {sse::heartbeat_options::pace::idle, sse::heartbeat_options::pace::fixed}) {
    for (const std::int64_t days : {24, 25, 30, 49, 50, 75, 400}) {
      CAPTURE(static_cast<int>(mode), days);
      stage s;
      sse::channel c = s.open("c", {.heartbeat = {.mode = mode}});
      const auto k = s.join(c);
      s.at(1000);
      (void)s.take(k);
      s.at(1000 + days * day);
      const std::string got = s.take(k);
      CHECK(test::count(got, ": keep-alive\n\n") >= 1);
      CHECK(test::count(got, ": keep-alive\n\n") <= 20);
      s.at(1000 + days * day + 14'000);
      (void)s.take(k);
      s.at(1000 + days * day + 30'000);
      CHECK(test::count(s.take(k), ": keep-alive\n\n") >= 1);  // and they go on
      CHECK_FALSE(s.closed(k));
    }
  }
}

TEST_CASE("fault: keep_bytes does not count audiences", "[faults]") {
  stage s;
  constexpr std::uint64_t most = 100'000;
  sse::channel c = s.open("c", {.keep = UINT64_MAX, .keep_bytes = most, .heartbeat = no_beats()});
  const std::string audience(10'000, 'a');
  for (int i = 0; i < 1000; ++i) put(c, {}, "x", audience);
  s.flush();
  CHECK(c.stats().retained_events * audience.size() <= most);
  CHECK(c.stats().retained_events >= 8);
  CHECK(s.hub.stats().log_bytes <= 10 * most);
  // and what left takes its audience along
  for (int i = 0; i < 1000; ++i) put(c, {}, std::string(100, 'x'));
  CHECK(c.stats().retained_events >= 500);
  CHECK(c.stats().retained_bytes <= most);
}
