// Shapes of work beside the plain one of guard.cpp: backlogs of every kind, memory of channels,
// audiences, resumes, storms, presence, eviction, shedding, transients, transports that complete,
// keys.
// Each scenario has its numbers on the command line and prints one JSON object; what is between
// the braces of a `counting::instructions` is what callgrind counts.
//
//   backlog KIND EVENTS BUFFERS ROUNDS  so many events leave in one go, to one session on 16
//                                        channels; `copy-backlog`: only their bytes' copying counts
//   channel KEEP EVENTS MIX              bytes of a channel after so many events, of 500
//   channels N READERS                   bytes of a channel: N of them, with a reader and an event
//   user WHERE EVENTS N                  events for one user: `many` on a channel of N sessions,
//                                        `own` on one of its own beside them
//   hidden PRIVATE N                     an event for all N after so many for one: per session
//   unseen EVENTS N                      bytes that N sessions hold of events not for them
//   resume RULE ENTRIES READERS          through entries that they may not see
//   storm READERS LIVE                   resuming readers of 655 kB each beside live ones
//   leave|evict-total|evict-address N    500 of them, of N
//   shed N                               400 events over hub_options::max_backlog, of N channels
//   sixteen                              writes of flushes to one session on 16 channels
//   once WHAT                            100 events to 1,000 readers after one of WHAT
//   completes N                          bytes of a session, idle and after a burst
//   keyed EVENTS KEYS                    publishing with a key, of so many; 0: without
//   one-of-many KEYS                     two values to a reader that had the others
//   chosen EVENTS SESSIONS CHOSEN        events of one key, which a session chose; the others chose
//                                        CHOSEN keys each, not that one
//   grow ENTRIES [AT]                    the publish that asks for most memory; AT: its cost
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "counting.hpp"

namespace {

using counting::allocated;
using counting::data;
using counting::fail;
using u64 = std::uint64_t;

/// Takes all, unless it is told to block or to answer later.
template <std::size_t Buffers = 16, bool Completes = false>
struct tally {
  static constexpr std::size_t max_buffers = Buffers;
  static constexpr bool completes = Completes;
  struct connection {
    std::uint8_t kind = 0;
  };
  u64 writes = 0;
  u64 bytes = 0;
  u64 to_kind_1 = 0;   ///< writes to connections of kind 1
  u64 live_bytes = 0;  ///< in writes of one event
  bool blocks = false;
  bool later = false;

  sse::write_result write(connection& c, std::span<const sse::buffer> pieces) noexcept {
    if (blocks) return {0, sse::flow::blocked};
    if (pieces.size() > Buffers) fail("too many buffers in a write");
    std::size_t n = 0;
    for (const sse::buffer& p : pieces) n += p.size;
    ++writes;
    bytes += n;
    if (c.kind == 1) ++to_kind_1;
    if (n < 2 * data.size()) live_bytes += n;
    return {n, later ? sse::flow::pending : sse::flow::ready};
  }
  void close(connection&, sse::close_reason) noexcept {}
};

u64 number(int argc, char** argv, int at) {
  if (at >= argc) fail("a number is missing");
  return std::strtoull(argv[at], nullptr, 10);
}

void print(std::string_view a, u64 x, std::string_view b = {}, u64 y = 0, std::string_view c = {},
           u64 z = 0) {
  std::printf("{\"%.*s\":%llu", static_cast<int>(a.size()), a.data(),
              static_cast<unsigned long long>(x));
  if (!b.empty())
    std::printf(",\"%.*s\":%llu", static_cast<int>(b.size()), b.data(),
                static_cast<unsigned long long>(y));
  if (!c.empty())
    std::printf(",\"%.*s\":%llu", static_cast<int>(c.size()), c.data(),
                static_cast<unsigned long long>(z));
  std::printf("}\n");
}

std::string name_of(std::string_view what, u64 i) {
  std::string name{what};
  name += "-000000";
  for (std::size_t at = name.size(); i != 0; i /= 10) name[--at] = static_cast<char>('0' + i % 10);
  return name;
}

sse::hub_options no_limits() {
  sse::hub_options o{.first_id = 1'000'000'000'000'000};
  o.caps.per_address.max = 0;
  o.max_backlog = 0;
  o.flush_budget = 0;
  o.control_lane = 64U << 20;
  o.position = false;  // what is counted is events
  return o;
}

/// No lag limit and no heartbeat.
sse::channel_options plain_channel(u64 keep = 1000) {
  return {.keep = keep, .max_lag = 0, .heartbeat = {.mode = sse::heartbeat_options::pace::off}};
}

template <class Hub>
sse::channel open(Hub& h, std::string_view name, sse::channel_options o) {
  const sse::channel c = h.open_channel(name, std::move(o));
  if (!c) fail("open_channel");
  return c;
}

template <class Hub>
sse::session_id join(Hub& h, sse::channel c, std::string key = {}, std::uint8_t kind = 0) {
  const auto r = h.accept({kind}, {}, sse::admit(std::move(key)).join(c));
  if (!r) fail("accept");
  return r.id;
}

void publish(sse::channel c, const sse::publish_options& o = {}) {
  if (!c.publish({.type = "market", .data = data}, o)) fail("publish");
}

template <class Hub>
void flush(Hub& h) {
  while (h.flush()) {
  }
}

// --- what waits for one session

/// Publishes what `kind` says, with a session of the user "me" that reads it all.
template <class Hub>
void publish_backlog(Hub& h, std::string_view kind, u64 events,
                     const std::vector<sse::channel>& all, sse::session_id reader) {
  for (u64 i = 0; i < events; ++i) {
    sse::channel c = all[i % all.size()];
    const bool odd = i / all.size() % 2 != 0;
    if (kind == "unicast") {
      if (h.send(reader, {.type = "market", .data = data}) != sse::publish_error::none)
        fail("send");
    } else if (kind == "other" || kind == "mine") {
      const std::string_view one = kind == "mine" ? "me" : "somebody else";
      publish(c, {.audience = odd ? one : std::string_view{}});
    } else {
      publish(c, {.transient = kind == "transient" && odd});
    }
  }
}

/// The same bytes in as many pieces, copied once.
void copy(u64 bytes, u64 pieces) {
  const std::size_t each = bytes / pieces;
  std::vector<char> from(bytes, 'x');
  std::vector<char> to(bytes);
  const counting::instructions on;
  for (u64 i = 0; i < pieces; ++i) {
    std::memcpy(to.data() + i * each, from.data() + i * each, each);
    asm volatile("" : : "r"(to.data()) : "memory");
  }
}

template <std::size_t Buffers>
void backlog(std::string_view kind, u64 events, u64 rounds, bool only_copy) {
  tally<Buffers> net;
  sse::hub<tally<Buffers>> h{net, no_limits()};
  h.tick(sse::time_point::milliseconds(1));
  std::vector<sse::channel> all;
  auto v = sse::admit("me");
  for (u64 i = 0; i < (kind == "one" ? 1 : 16); ++i) {
    all.push_back(open(h, name_of("channel", i), plain_channel()));
    v.join(all.back());
  }
  sse::request r;
  r.chunked = kind == "chunked";
  const auto reader = h.accept({}, r, std::move(v));
  if (!reader) fail("accept");
  publish_backlog(h, kind, events, all, reader.id);  // makes the room that it takes
  flush(h);
  const u64 writes = net.writes;
  const u64 bytes = net.bytes;
  for (u64 i = 0; i < rounds; ++i) {
    publish_backlog(h, kind, events, all, reader.id);
    const u64 before = net.bytes;
    if (only_copy) {
      flush(h);
      copy(net.bytes - before, kind == "other" ? events / 2 : events);
    } else {
      const counting::instructions on;
      flush(h);
    }
  }
  print("writes", net.writes - writes, "bytes", net.bytes - bytes, "events", events * rounds);
}

/// Of so many keys, to a session that comes.
template <std::size_t Buffers>
void snapshot(u64 keys, u64 rounds, bool only_copy) {
  tally<Buffers> net;
  sse::hub<tally<Buffers>> h{net, no_limits()};
  h.tick(sse::time_point::milliseconds(1));
  sse::channel_options o = plain_channel(10);
  o.start = sse::start_at::snapshot;
  o.max_keys = 10'000;
  sse::channel c = open(h, "state", std::move(o));
  for (u64 i = 0; i < keys; ++i) {
    const std::string key = name_of("key", i);
    publish(c, {.key = key});
  }
  h.close(join(h, c));
  const u64 writes = net.writes;
  const u64 bytes = net.bytes;
  for (u64 i = 0; i < rounds; ++i) {
    const u64 before = net.bytes;
    if (only_copy) {
      (void)join(h, c);
      flush(h);
      copy(net.bytes - before, keys);
    } else {
      const counting::instructions on;
      (void)join(h, c);
      flush(h);
    }
  }
  print("writes", net.writes - writes, "bytes", net.bytes - bytes, "events", keys * rounds);
}

template <std::size_t Buffers>
void backlog_of(std::string_view kind, u64 events, u64 rounds, bool only_copy) {
  if (kind == "snapshot") {
    snapshot<Buffers>(events, rounds, only_copy);
  } else {
    backlog<Buffers>(kind, events, rounds, only_copy);
  }
}

// --- memory of channels

constexpr u64 a_session = 129;  ///< the bound of counts.py for an idle one

/// Without its one session.
void channel_bytes(u64 keep, u64 events, std::string_view mix) {
  constexpr u64 channels = 500;
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  std::vector<sse::channel> all;
  all.reserve(channels);
  const u64 before = allocated;
  for (u64 i = 0; i < channels; ++i) {
    all.push_back(open(h, name_of("channel", i), plain_channel(keep)));
    (void)join(h, all.back(), "me");
  }
  const std::string_view text = data.substr(0, 120);
  for (u64 i = 0; i < events; ++i) {
    for (sse::channel c : all) {
      sse::publish_options o;
      if (mix == "mixed" && i % 4 == 1) o.audience = "somebody else";
      if (mix == "mixed" && i % 4 == 3) o.transient = true;
      if (!c.publish({.type = "market", .data = text}, o)) fail("publish");
    }
    if (i % 3 == 0) flush(h);
  }
  flush(h);
  const u64 bytes = (allocated - before) / channels - a_session;
  print("bytes", bytes, "retained", all[0].stats().retained_bytes);
}

void channels(u64 n, u64 readers) {
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  std::vector<sse::channel> all;
  all.reserve(n);
  const u64 before = allocated;
  for (u64 i = 0; i < n; ++i) all.push_back(open(h, name_of("channel", i), {}));
  const u64 empty = (allocated - before) / n;
  for (sse::channel c : all) {
    for (u64 i = 0; i < readers; ++i) (void)join(h, c);
  }
  for (sse::channel c : all) {
    if (readers != 0) publish(c);
  }
  flush(h);
  print("empty", empty, "bytes", (allocated - before) / n);
}

// --- who may see it

void user(std::string_view where, u64 events, u64 n) {
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  sse::channel many = open(h, "many", plain_channel());
  sse::channel own = open(h, "own", plain_channel());
  for (u64 i = 0; i < n; ++i) (void)join(h, many, name_of("user", i));
  const std::string me = name_of("user", n / 3);
  (void)join(h, own, me);
  sse::channel c = where == "many" ? many : own;
  const auto run = [&](u64 times) {
    for (u64 i = 0; i < times; ++i) {
      publish(c, {.audience = me});
      flush(h);
    }
  };
  run(2000);
  const u64 writes = net.writes;
  {
    const counting::instructions on;
    run(events);
  }
  print("writes", net.writes - writes);
}

/// Every session passes what was for somebody else in front of it.
void hidden(u64 hidden_events, u64 n) {
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  sse::channel c = open(h, "busy", plain_channel());
  for (u64 i = 0; i < n; ++i) (void)join(h, c, name_of("user", i));
  publish(c, {.audience = "somebody else"});
  for (u64 i = 0; i < 10; ++i) {
    publish(c);
    flush(h);
  }
  for (u64 i = 0; i < hidden_events; ++i) {
    publish(c, {.audience = "somebody else"});
    if (i % 10 == 0) flush(h);
  }
  const u64 writes = net.writes;
  {
    const counting::instructions on;
    publish(c);
    flush(h);
  }
  print("writes", net.writes - writes);
}

void unseen(u64 events, u64 n) {
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  sse::channel c = open(h, "busy", plain_channel(10));
  for (u64 i = 0; i < n; ++i) (void)join(h, c, name_of("user", i));
  const u64 before = allocated;
  u64 worst = 0;
  for (u64 i = 0; i < events; ++i) {
    publish(c, {.audience = "somebody else"});
    flush(h);
    const u64 held = allocated > before ? allocated - before : 0;
    if (held > worst) worst = held;
  }
  print("bytes", worst, "each", worst / n);
}

/// By the rule of a hook: the most of its calls within one call of the hub. By the engine's own:
/// counted.
void resume(std::string_view rule, u64 entries, u64 readers) {
  tally<> net;
  sse::hub_options limits = no_limits();
  limits.flush_budget = sse::hub_options{}.flush_budget;
  sse::hub<tally<>> h{net, limits};
  u64 asked = 0;
  if (rule == "hook") {
    h.on_sees([&](const sse::no_user&, std::string_view key, std::string_view audience) {
      ++asked;
      return key == audience;
    });
  }
  sse::channel c = open(h, "busy", plain_channel(entries + 100));
  publish(c);
  const sse::event_id first = c.last_id();
  for (u64 i = 0; i < entries; ++i) {
    const std::string who = name_of("other", i % 1000);
    publish(c, {.audience = who});
  }
  publish(c);
  u64 most = 0;
  const auto counted = [&](auto&& f) {
    const u64 before = asked;
    const counting::instructions on;
    const bool more = f();
    if (asked - before > most) most = asked - before;
    return more;
  };
  const u64 bytes = net.bytes;
  for (u64 i = 0; i < readers; ++i) {
    (void)counted(
        [&] { return static_cast<bool>(h.accept({}, {}, sse::admit("me").join(c).after(first))); });
  }
  u64 turns = 0;
  for (bool more = true; more; ++turns) more = counted([&] { return h.flush(); });
  if (net.writes != readers || net.bytes - bytes < readers * data.size())
    fail("a reader did not get all");
  print("asked", most, "turns", turns);
}

// --- turns

void storm(u64 readers, u64 live) {
  tally<> net;
  sse::hub_options o = no_limits();
  o.flush_budget = sse::hub_options{}.flush_budget;
  sse::hub<tally<>> h{net, o};
  sse::channel c = open(h, "busy", plain_channel(3640));
  for (u64 i = 0; i < live; ++i) (void)join(h, c, {}, 1);
  for (u64 i = 0; i < 3640; ++i) publish(c);
  flush(h);
  const sse::event_id after = c.last_id() - 3639;
  for (u64 i = 0; i < readers; ++i) {
    if (!h.accept({0}, {}, sse::admit().join(c).after(after))) fail("accept");
  }
  u64 late = 0;
  u64 most = 0;
  u64 turns = 0;
  for (bool more = true; more; ++turns) {
    publish(c);
    const u64 bytes = net.bytes - net.live_bytes;
    const u64 got = net.to_kind_1;
    more = h.flush();
    if (net.to_kind_1 - got < live) late += live - (net.to_kind_1 - got);
    const u64 sent = net.bytes - net.live_bytes - bytes;
    if (sent > most) most = sent;
    if (turns > 100'000) fail("the storm does not end");
  }
  if (c.stats().delivered < readers * 3639) fail("not all got all");
  print("late", late, "most", most, "turns", turns);
}

// --- where one leaves, or has to

void leave(std::string_view how, u64 n) {
  constexpr u64 times = 500;
  tally<> net;
  sse::hub_options o = no_limits();
  if (how == "evict-total")
    o.caps.total = {.max = static_cast<std::uint32_t>(n), .then = sse::when_full::evict_oldest};
  if (how == "evict-address")
    o.caps.per_address = {.max = static_cast<std::uint32_t>(n),
                          .then = sse::when_full::evict_oldest};
  sse::hub<tally<>> h{net, o};
  h.tick(sse::time_point::milliseconds(1));
  u64 told = 0;
  if (how == "leave") h.on_presence([&](sse::channel, std::string_view, bool) { ++told; });
  sse::channel c = open(h, "busy", plain_channel());
  sse::request r;
  r.address = "192.0.2.1";
  std::vector<sse::session_id> all;
  const auto accept = [&] {
    const auto a = h.accept({}, r, sse::admit("me").join(c));
    if (!a) fail("accept");
    return a.id;
  };
  for (u64 i = 0; i < n; ++i) all.push_back(accept());
  if (how != "leave") {
    for (u64 i = 0; i < 100; ++i) (void)accept();
  }
  {
    const counting::instructions on;
    for (u64 i = 0; i < times; ++i) {
      if (how == "leave") {
        h.close(all[i * (n / times)]);
      } else {
        (void)accept();
      }
    }
  }
  if (h.sessions() != (how == "leave" ? n - times : n)) fail("sessions");
  if (how == "leave" && told != 1) fail("presence");
  print("sessions", h.sessions());
}

/// A stalled reader on each channel; each further event is one too many.
void shed(u64 n) {
  constexpr u64 times = 50;
  const auto fill = [&](auto& h, tally<>& net, std::vector<sse::channel>& all) {
    for (u64 i = 0; i < n; ++i) all.push_back(open(h, name_of("channel", i), plain_channel(0)));
    for (sse::channel c : all) (void)join(h, c);
    net.blocks = true;
    for (u64 i = 0; i < 8; ++i) {
      for (sse::channel c : all) publish(c);
      flush(h);
    }
    u64 held = 0;
    for (sse::channel c : all) held += c.stats().backlog_bytes;
    return held;
  };
  u64 held = 0;
  {
    tally<> net;
    sse::hub<tally<>> h{net, no_limits()};
    std::vector<sse::channel> all;
    held = fill(h, net, all);
  }
  tally<> net;
  sse::hub_options o = no_limits();
  o.max_backlog = held;
  sse::hub<tally<>> h{net, o};
  std::vector<sse::channel> all;
  if (fill(h, net, all) != held) fail("backlog");
  for (u64 i = 0; i < times; ++i) {
    sse::channel c = all[i % n];
    {
      const counting::instructions on;
      for (int k = 0; k < 8; ++k) {  // enough for another segment
        publish(c);
        flush(h);
      }
    }
    net.blocks = false;
    for (sse::channel x : all) {
      if (x.subscribers() == 0) (void)join(h, x);
    }
    net.blocks = true;
  }
  const u64 shed = h.stats().closed[static_cast<std::size_t>(sse::close_reason::hub_full)];
  if (shed == 0) fail("nobody was shed");
  print("shed", shed);
}

// --- once, and for good

void once(std::string_view what) {
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  h.tick(sse::time_point::milliseconds(1));
  sse::channel_options o = plain_channel();
  if (what == "beat") {
    o.heartbeat.mode = sse::heartbeat_options::pace::fixed;
    o.heartbeat.every = sse::duration::seconds(15);
  }
  sse::channel c = open(h, "busy", std::move(o));
  for (u64 i = 0; i < 1000; ++i) (void)join(h, c);
  const auto run = [&](u64 times) {
    for (u64 i = 0; i < times; ++i) {
      publish(c);
      flush(h);
    }
  };
  run(100);
  const u64 writes = net.writes;
  if (what == "transient") publish(c, {.transient = true});
  if (what == "private") publish(c, {.audience = "somebody else"});
  if (what == "beat") h.tick(sse::time_point::milliseconds(15'100));
  flush(h);
  if (net.writes - writes != (what == "transient" || what == "beat" ? 1000 : 0)) fail("once");
  run(1500);
  {
    const counting::instructions on;
    run(100);
  }
  print("writes", net.writes - writes);
}

/// One session on 16 channels, each with an event and a transient one: writes of a flush.
void sixteen() {
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  std::vector<sse::channel> all;
  auto v = sse::admit();
  for (u64 i = 0; i < 16; ++i) {
    all.push_back(open(h, name_of("channel", i), plain_channel()));
    v.join(all.back());
  }
  if (!h.accept({}, {}, std::move(v))) fail("accept");
  const u64 writes = net.writes;
  for (u64 i = 0; i < 10; ++i) {
    for (sse::channel c : all) {
      publish(c);
      publish(c, {.transient = true});
    }
    flush(h);
  }
  print("writes", net.writes - writes, "flushes", 10);
}

// --- io_uring and its like

void completes(u64 n) {
  using net_type = tally<16, true>;
  net_type net;
  sse::hub<net_type> h{net, no_limits()};
  sse::channel c = open(h, "busy", plain_channel());
  std::vector<sse::session_id> all;
  all.reserve(n);
  const u64 before = allocated;
  for (u64 i = 0; i < n; ++i) all.push_back(join(h, c));
  const u64 idle = (allocated - before) / n;
  net.later = true;
  const u64 bytes = net.bytes;
  publish(c);
  flush(h);
  const u64 each = (net.bytes - bytes) / n;
  for (const sse::session_id id : all) h.written(id, each);
  net.later = false;
  flush(h);
  if (c.stats().delivered != n) fail("delivered");
  print("idle", idle, "after", (allocated - before) / n);
}

// --- a log of millions

/// Without `at`: which publish asked for the most memory. With it: that one is counted.
void grow(u64 entries, u64 at) {
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  sse::channel c = open(h, "history", plain_channel(entries));
  u64 most = 0;
  u64 where = 0;
  for (u64 i = 0; i < entries; ++i) {
    const u64 before = counting::asked;
    const auto one = [&] {
      if (!c.publish({.data = "0123456789"})) fail("publish");
    };
    if (at != 0 && i == at) {
      const counting::instructions on;
      one();
      std::_Exit(0);
    }
    one();
    if (counting::asked - before > most) {
      most = counting::asked - before;
      where = i;
    }
  }
  print("at", where, "asked", most);
}

// --- keys

std::string symbol(u64 i) { return name_of("", i).substr(1); }

/// Publishes; `keys`: on a channel that conflates, of so many keys; 0: on one without.
void keyed(u64 events, u64 keys) {
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  sse::channel_options o = plain_channel(10'000);
  if (keys != 0) o.on_lag = sse::lag_policy::coalesce;
  o.max_keys = 10'000;
  sse::channel c = open(h, "quotes", std::move(o));
  std::vector<std::string> symbols(keys == 0 ? 1 : keys);
  for (u64 i = 0; i < keys; ++i) symbols[i] = symbol(i);
  std::vector<std::string_view> next;
  for (u64 i = 0; i < events; ++i) next.push_back(symbols[i * 7 % symbols.size()]);
  const auto run = [&] {
    for (const std::string_view key : next) publish(c, {.key = key});
    flush(h);
  };
  run();
  const u64 before = counting::asked;
  {
    const counting::instructions on;
    run();
  }
  print("asked", counting::asked - before);
}

/// A reader could not take two values of so many keys, of which nothing else changed, and now does.
void one_of_many(u64 keys) {
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  sse::channel_options o = plain_channel(10);
  o.start = sse::start_at::snapshot;
  o.on_lag = sse::lag_policy::coalesce;
  o.max_keys = static_cast<std::uint32_t>(keys);
  sse::channel c = open(h, "quotes", std::move(o));
  for (u64 i = 0; i < keys; ++i) publish(c, {.key = symbol(i)});
  const sse::session_id id = join(h, c);
  flush(h);
  net.blocks = true;
  publish(c, {.key = symbol(0)});
  publish(c, {.key = symbol(1)});
  flush(h);  // it does not take them
  net.blocks = false;
  {
    const counting::instructions on;
    h.writable(id);
    flush(h);
  }
  print("bytes", net.bytes);
}

void chosen(u64 events, u64 sessions, u64 keys) {
  tally<> net;
  sse::hub<tally<>> h{net, no_limits()};
  sse::channel_options o = plain_channel(10);
  o.max_keys = 50'000;
  sse::channel c = open(h, "quotes", std::move(o));
  for (u64 i = 0; i < 50'000; ++i) publish(c, {.key = symbol(i)});
  std::vector<std::string> names;
  for (u64 i = 1; i <= keys; ++i) names.push_back(symbol(i));
  const std::vector<std::string_view> others{names.begin(), names.end()};
  const std::string name = symbol(0);
  const std::string_view one = name;
  for (u64 i = 0; i < sessions; ++i) {
    const std::span<const std::string_view> own = i == 0 ? std::span{&one, 1} : std::span{others};
    if (!h.accept({}, {}, sse::admit().join(c, {.keys = own}))) fail("accept");
  }
  flush(h);
  const u64 bytes = net.bytes;
  {
    const counting::instructions on;
    for (u64 i = 0; i < events; ++i) {
      publish(c, {.key = one});
      flush(h);
    }
  }
  if (net.bytes == bytes) fail("it did not come");
  print("bytes", net.bytes - bytes);
}

}  // namespace

bool counting::shape_of_work(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  const auto word = [&](int at) {
    if (at >= argc) fail("a word is missing");
    return std::string_view{argv[at]};
  };
  const auto n = [&](int at) { return number(argc, argv, at); };
  if (what == "backlog" || what == "copy-backlog") {
    const auto run = n(4) == 1 ? backlog_of<1> : backlog_of<16>;
    run(word(2), n(3), n(5), what == "copy-backlog");
  } else if (what == "channel") {
    channel_bytes(n(2), n(3), word(4));
  } else if (what == "channels") {
    channels(n(2), n(3));
  } else if (what == "user") {
    user(word(2), n(3), n(4));
  } else if (what == "hidden") {
    hidden(n(2), n(3));
  } else if (what == "unseen") {
    unseen(n(2), n(3));
  } else if (what == "resume") {
    resume(word(2), n(3), n(4));
  } else if (what == "storm") {
    storm(n(2), n(3));
  } else if (what == "leave" || what == "evict-total" || what == "evict-address") {
    leave(what, n(2));
  } else if (what == "shed") {
    shed(n(2));
  } else if (what == "once") {
    once(word(2));
  } else if (what == "sixteen") {
    sixteen();
  } else if (what == "completes") {
    completes(n(2));
  } else if (what == "keyed") {
    keyed(n(2), n(3));
  } else if (what == "one-of-many") {
    one_of_many(n(2));
  } else if (what == "chosen") {
    chosen(n(2), n(3), n(4));
  } else if (what == "grow") {
    grow(n(2), argc > 3 ? n(3) : 0);
  } else {
    return false;
  }
  return true;
}
