// What counts.py counts: one fixed scenario of the core per run, over a transport in memory that
// takes all and keeps nothing. Sizes, seeds and texts are fixed, so that two runs of one build
// execute the same instructions.
//
//   guard SCENARIO EVENTS SUBSCRIBERS [QUIET]     one JSON object on stdout
//
//   publish    EVENTS into a channel that nobody reads
//   deliver    each event flushed alone to SUBSCRIBERS
//   coalesce   a flush for every 20 events
//   quiet      as deliver, beside QUIET subscribers: half on a channel of their own, half on one
//              that spoke once
//   lane       EVENTS through a publisher's lane, drained after every 20
//   session    SUBSCRIBERS join; no event
//   sequence   EVENTS through a sequencer to SUBSCRIBERS shards, whose turn it is after every 20
//
// Two of them read a stream: EVENTS times over, all its lines of SUBSCRIBERS bytes, in pieces of
// QUIET bytes. Each line is an event; there are at least 1 MB of them.
//
//   parse      with sse::parser
//   memchr     with a loop over memchr that counts the lines
// The size of the world, which a step must not see; here SUBSCRIBERS is how many there are:
//   idle-lanes EVENTS drains and prepare_sleeps beside that many publishers that idle
//   burst      the same after each of that many lanes was full once: bytes per lane
//   targets    EVENTS by mail to 100 channels of that many that have publishers
//   idle-shard EVENTS turns of a shard with that many channels, in which nothing happens
//   open, find, close, route, accept
//              EVENTS of these in a hub with that many channels
// The shapes of work that a session may have are in shapes.cpp.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/detail/server/server_core.hpp>
#include <sse/mailbox.hpp>
#include <sse/server.hpp>
#include <sse/shards.hpp>
#include <sse/sse.hpp>

#include "counting.hpp"

namespace {

using counting::allocated;
using counting::allocations;
using counting::data;
using counting::fail;

struct counting_transport {
  struct connection {};
  std::uint64_t writes = 0;
  std::uint64_t bytes = 0;

  sse::write_result write(connection&, std::span<const sse::buffer> pieces) noexcept {
    std::size_t n = 0;
    for (const sse::buffer& p : pieces) n += p.size;
    ++writes;
    bytes += n;
    return {n, sse::flow::ready};
  }
  void close(connection&, sse::close_reason) noexcept {}
};

using hub = sse::hub<counting_transport>;

sse::channel open(hub& h, std::string_view name) {
  const sse::channel c = h.open_channel(name);
  if (!c) fail("open_channel");
  return c;
}

void join(hub& h, sse::channel c, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    if (!h.accept({}, {}, sse::admit().join(c))) fail("accept");
    if (i % 1000 == 0) h.flush();  // as each turn of a loop does: what opens has a budget in each
  }
}

void publish(sse::channel c) {
  if (!c.publish({.type = "market", .data = data})) fail("publish");
}

struct event_counter {
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  void on_event(const sse::event& e) {
    ++events;
    bytes += e.data.size();
  }
};

std::uint64_t count_line_feeds(std::string_view in) {
  std::uint64_t lines = 0;
  while (!in.empty()) {
    const void* const at = std::memchr(in.data(), '\n', in.size());
    if (at == nullptr) break;
    ++lines;
    in.remove_prefix(static_cast<std::size_t>(static_cast<const char*>(at) - in.data()) + 1);
  }
  return lines;
}

void read_stream(bool parse, std::uint64_t times, std::size_t line, std::size_t piece) {
  constexpr std::string_view name = "data: ";
  std::string stream;
  std::uint64_t events = 0;
  while (stream.size() < 1'000'000) {
    stream.append(name).append(line - name.size(), 'x').append("\n\n");
    ++events;
  }
  sse::parser parser;
  event_counter counter;
  std::uint64_t lines = 0;
  for (std::uint64_t i = 0; i < times; ++i) {
    for (std::string_view rest = stream; !rest.empty();) {
      const std::string_view in = rest.substr(0, piece);
      rest.remove_prefix(in.size());
      if (!parse) {
        lines += count_line_feeds(in);
      } else if (!parser.feed(in, counter)) {
        fail("feed");
      }
    }
  }
  if (parse ? counter.bytes != times * events * (line - name.size()) : lines != times * events * 2)
    fail("not all was read");
  std::printf("{\"bytes\":%llu}\n", static_cast<unsigned long long>(times * stream.size()));
}

// --- the size of the world

std::string name_of(std::uint64_t i) {
  std::string name = "channel-000000";
  for (std::size_t at = name.size(); i != 0; i /= 10) name[--at] = static_cast<char>('0' + i % 10);
  return name;
}

/// Counts on the way out how many bytes of what operator new gave are still there.
void print_bytes(std::uint64_t before, std::uint64_t of) {
  std::printf("{\"bytes\":%llu}\n",
              static_cast<unsigned long long>((allocated - before) / (of == 0 ? 1 : of)));
}

void idle_lanes(std::uint64_t turns, std::uint64_t lanes, bool burst) {
  std::vector<sse::publisher> all;
  all.reserve(lanes);
  const std::uint64_t before = allocated;
  sse::mailbox mail;
  std::uint64_t got = 0;
  const auto drain = [&] { got += mail.drain([](const sse::mail&) {}); };
  std::uint64_t sent = 0;
  for (std::uint64_t i = 0; i < lanes; ++i) {
    all.push_back(mail.make_publisher(i));
    while (all.back().try_publish(data) == sse::publish_error::none) {
      ++sent;
      if (!burst) break;
    }
    if (burst) drain();
  }
  drain();
  if (got != sent || !mail.prepare_sleep()) fail("drain");
  for (std::uint64_t i = 0; i < turns; ++i) {
    drain();
    if (!mail.prepare_sleep()) fail("prepare_sleep");
  }
  print_bytes(before, lanes);
}

/// The common half of all servers, without sockets.
struct host : sse::detail::server_core<sse::no_user, counting_transport> {
  using base = sse::detail::server_core<sse::no_user, counting_transport>;

  explicit host(const sse::server_options& o) : base{o} {
    this->mail_.emplace(sse::mailbox_options{});
  }
  void turn() {
    this->drain_mail();
    this->hub().flush();
    (void)this->mail().prepare_sleep();
  }
  bool close_channel(sse::channel c) noexcept { return this->hub().close_channel(c); }
  void flush_soon() noexcept {}
  void abandon() noexcept {}
};
struct server : sse::basic_server<host> {
  server() : basic_server{std::make_shared<host>(with_seed())} {}
  /// The same names in the same places of the tables, whenever it is counted.
  static sse::server_options with_seed() {
    sse::server_options o;
    o.hub.seed = 7;
    return o;
  }
  host& core() { return *core_; }
};

sse::channel_options small_channel() {
  return {.keep = 1, .heartbeat = {.mode = sse::heartbeat_options::pace::off}};
}

void targets(std::uint64_t events, std::uint64_t channels) {
  constexpr std::uint64_t busy = 100;
  server s;
  std::vector<sse::publisher> all;
  all.reserve(channels);
  for (std::uint64_t i = 0; i < channels; ++i) {
    const sse::channel c = s.open_channel(name_of(i), small_channel());
    if (!c) fail("open_channel");
    all.push_back(s.make_publisher(c, 1024));
  }
  for (std::uint64_t i = 0; i < busy; ++i) (void)all[i].try_publish(data);
  s.core().turn();
  for (std::uint64_t i = 0; i < events; ++i) {
    if (all[i % busy * (channels / busy)].try_publish(data) != sse::publish_error::none)
      fail("lane");
    if (i % 20 == 19) s.core().turn();
  }
  s.core().turn();
  if (s.mail().drained() != events + busy) fail("mail");
}

void sequence(std::uint64_t events, std::uint64_t shards) {
  sse::sequencer q;
  counting_transport net;
  std::vector<std::unique_ptr<sse::shard<counting_transport>>> all;
  for (std::uint64_t i = 0; i < shards; ++i) {
    all.push_back(std::make_unique<sse::shard<counting_transport>>(q, net));
    if (!*all.back()) fail("attach");
  }
  for (std::uint64_t i = 1; i <= 4000 + events; ++i) {
    if (!q.publish(0, {.type = "market", .data = data})) fail("sequence");
    if (i % 20 != 0) continue;
    for (const auto& s : all) s->turn(sse::time_point::milliseconds(1));
  }
}

void idle_shard(std::uint64_t turns, std::uint64_t channels) {
  sse::sequencer_options o;
  o.channels.clear();
  for (std::uint64_t i = 0; i < channels; ++i) o.channels.push_back(name_of(i));
  o.channel = [](std::string_view) { return small_channel(); };
  sse::sequencer q{std::move(o)};
  counting_transport net;
  sse::shard<counting_transport> s{q, net};
  if (!s) fail("attach");
  for (std::uint64_t i = 0; i < turns + 10; ++i) {
    s.turn(sse::time_point::milliseconds(1));
    (void)s.prepare_sleep();
  }
}

/// One step of a kind, again and again, in a hub with `n` channels. Does not return: what it made
/// is not taken down, which would be counted too.
[[noreturn]] void channels(std::string_view step, std::uint64_t times, std::uint64_t n) {
  server s;
  std::vector<sse::channel> all;
  for (std::uint64_t i = 0; i < n + 2000; ++i) {
    all.push_back(s.open_channel(name_of(i), small_channel()));
    if (!all.back()) fail("open_channel");
    if (step == "route") s.stream("/" + name_of(i), all.back());
  }
  sse::request r{.method = "GET"};
  for (std::uint64_t i = 0; i < times; ++i) {
    const std::uint64_t at = i * 7919 % n;
    const std::string name = name_of(at);
    if (step == "open") {
      if (!s.open_channel("new" + name_of(i), small_channel())) fail("open_channel");
    } else if (step == "find") {
      if (s.hub().find_channel(name) != all[at]) fail("find_channel");
    } else if (step == "close") {
      s.close_channel(all[i * (n / times)]);
    } else if (step == "route") {
      const std::string path = "/" + name;
      r.path = path;
      const auto to = s.core().route(r);
      if (!to.to || !to.to->stream(r, {}).admitted()) fail("route");
    } else {
      // to the same number of channels however many there are: the first stream of one costs more
      if (!s.hub().accept({}, {}, sse::admit().join(all[i % 250 * (n / 250)]))) fail("accept");
    }
  }
  std::_Exit(0);
}

/// False: no such scenario.
bool size_of_the_world(std::string_view scenario, std::uint64_t events, std::uint64_t n) {
  if (scenario == "idle-lanes" || scenario == "burst") {
    idle_lanes(events, n, scenario == "burst");
  } else if (scenario == "targets") {
    targets(events, n);
  } else if (scenario == "sequence") {
    sequence(events, n);
  } else if (scenario == "idle-shard") {
    idle_shard(events, n);
  } else if (scenario == "open" || scenario == "find" || scenario == "close" ||
             scenario == "route" || scenario == "accept") {
    channels(scenario, events, n);
  } else {
    return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (counting::shape_of_work(argc, argv) || counting::history(argc, argv)) return 0;
  if (argc < 4) fail("guard SCENARIO EVENTS SUBSCRIBERS [QUIET]");
  const std::string_view scenario = argv[1];
  const std::uint64_t events = std::strtoull(argv[2], nullptr, 10);
  const std::uint64_t subscribers = std::strtoull(argv[3], nullptr, 10);
  const std::uint64_t quiet = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 0;

  if (scenario == "parse" || scenario == "memchr") {
    if (subscribers < 6 || quiet == 0) fail("a line or a piece is too short");
    read_stream(scenario == "parse", events, subscribers, quiet);
    return 0;
  }
  if (size_of_the_world(scenario, events, subscribers)) return 0;

  counting_transport net;
  hub h{net, {.first_id = 1'000'000'000'000'000}};
  h.tick(sse::time_point::milliseconds(1000));
  sse::channel c = open(h, "busy");
  const std::uint64_t empty = allocated;
  join(h, c, subscribers);
  const std::uint64_t session_bytes = subscribers == 0 ? 0 : (allocated - empty) / subscribers;
  if (quiet != 0) {
    sse::channel spoke_once = open(h, "spoke once");
    join(h, open(h, "silent"), quiet / 2);
    join(h, spoke_once, quiet / 2);
    publish(spoke_once);
  }

  sse::mailbox mail{{.mode = sse::wake_mode::never}};
  sse::publisher lane = mail.make_publisher(0);
  const auto run = [&](std::uint64_t n, std::uint64_t per_flush) {
    for (std::uint64_t i = 1; i <= n; ++i) {
      if (scenario == "lane") {
        if (lane.try_publish({.type = "market", .data = data}) != sse::publish_error::none)
          fail("lane");
      } else {
        publish(c);
      }
      if (i % per_flush != 0) continue;
      if (scenario == "lane") {
        mail.drain([&](const sse::mail& m) {
          if (!c.publish(m.event)) fail("publish");
        });
      }
      while (h.flush()) {
      }
    }
  };
  // Until history, index and spare segments have the size that they keep.
  if (scenario != "session") run(4000, 20);

  const std::uint64_t delivered = c.stats().delivered;
  const std::uint64_t writes = net.writes;
  const std::uint64_t bytes = net.bytes;
  const std::uint64_t before = allocations;
  if (scenario != "session") run(events, scenario == "coalesce" || scenario == "lane" ? 20 : 1);
  const std::uint64_t made = allocations - before;
  std::printf(
      "{\"delivered\":%llu,\"writes\":%llu,\"bytes\":%llu,\"allocations\":%llu,\"session_bytes\":%"
      "llu,"
      "\"session_sizeof\":%zu}\n",
      static_cast<unsigned long long>(c.stats().delivered - delivered),
      static_cast<unsigned long long>(net.writes - writes),
      static_cast<unsigned long long>(net.bytes - bytes), static_cast<unsigned long long>(made),
      static_cast<unsigned long long>(session_bytes),
      sizeof(sse::detail::session) + sizeof(sse::detail::subscription));
}
