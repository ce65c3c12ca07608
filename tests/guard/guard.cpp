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
//
// Two of them read a stream: EVENTS times over, all its lines of SUBSCRIBERS bytes, in pieces of
// QUIET bytes. Each line is an event; there are at least 1 MB of them.
//
//   parse      with sse::parser
//   memchr     with a loop over memchr that counts the lines
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <string_view>

#include <sse/mailbox.hpp>
#include <sse/sse.hpp>

namespace {

std::uint64_t allocations = 0;
std::uint64_t allocated = 0;  // bytes asked for and not given back

void* take(std::size_t size) noexcept {
  auto* const p = static_cast<std::size_t*>(std::malloc(size + 16));
  if (p == nullptr) return nullptr;
  *p = size;
  ++allocations;
  allocated += size;
  return p + 2;
}

void give_back(void* p) noexcept {
  if (p == nullptr) return;
  auto* const block = static_cast<std::size_t*>(p) - 2;
  allocated -= *block;
  std::free(block);
}

}  // namespace

void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return take(size); }
void* operator new(std::size_t size) {
  if (void* const p = take(size)) return p;
  throw std::bad_alloc{};
}
void operator delete(void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { give_back(p); }

namespace {

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

// With the id and the other fields a frame of 180 bytes.
constexpr std::string_view data =
    R"({"symbol":"BTCUSDT","price":61234.56,"qty":0.0125,"side":"BUY","venue":"sim","seq":1234567,"ts_ns":1795257600123456789,"x":"abcdefgh"})";

void fail(const char* what) {
  std::fprintf(stderr, "guard: %s\n", what);
  std::exit(1);
}

sse::channel& open(hub& h, std::string_view name) {
  sse::channel* const c = h.open_channel(name);
  if (c == nullptr) fail("open_channel");
  return *c;
}

void join(hub& h, sse::channel& c, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    if (!h.accept({}, {}, sse::admit().join(c))) fail("accept");
  }
}

void publish(sse::channel& c) {
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

}  // namespace

int main(int argc, char** argv) {
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

  counting_transport net;
  hub h{net, {.first_id = 1'000'000'000'000'000}};
  h.tick(sse::time_point::milliseconds(1000));
  sse::channel& c = open(h, "busy");
  const std::uint64_t empty = allocated;
  join(h, c, subscribers);
  const std::uint64_t session_bytes = subscribers == 0 ? 0 : (allocated - empty) / subscribers;
  if (quiet != 0) {
    sse::channel& spoke_once = open(h, "spoke once");
    join(h, open(h, "silent"), quiet / 2);
    join(h, spoke_once, quiet / 2);
    publish(spoke_once);
  }

  sse::mailbox mail{{.mode = sse::wake_mode::never}};
  sse::publisher lane = mail.make_publisher(0);
  const auto run = [&](std::uint64_t n, std::uint64_t per_flush) {
    for (std::uint64_t i = 1; i <= n; ++i) {
      if (scenario == "lane") {
        if (lane.try_publish({.type = "market", .data = data}) != sse::publish_status::ok)
          fail("lane");
      } else {
        publish(c);
      }
      if (i % per_flush != 0) continue;
      if (scenario == "lane") {
        mail.drain([&](const sse::mail& m) {
          if (!c.publish({.type = m.type, .data = m.data})) fail("publish");
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
