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
// The size of the world, which a step must not see; here SUBSCRIBERS is how many there are:
//   idle-lanes EVENTS drains and prepare_sleeps beside that many publishers that idle
//   burst      the same after each of that many lanes was full once: bytes per lane
//   targets    EVENTS by mail to 100 channels of that many that have publishers
//   idle-shard EVENTS turns of a shard with that many channels, in which nothing happens
//   open, find, close, route, accept
//              EVENTS of these in a hub with that many channels
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

#include <sse/mailbox.hpp>
#include <sse/sse.hpp>

#include "guard.hpp"

std::uint64_t allocated = 0;  // bytes asked for and not given back

namespace {

std::uint64_t allocations = 0;

constexpr std::size_t plain = 16;  // alignment, and where the size of a block stands before it

[[gnu::noinline]] void* take(std::size_t size, std::size_t alignment = plain) noexcept {
  auto* const block = static_cast<char*>(
      alignment == plain
          ? std::malloc(size + plain)
          : std::aligned_alloc(alignment, (size + 2 * alignment - 1) / alignment * alignment));
  if (block == nullptr) return nullptr;
  std::memcpy(block, &size, sizeof size);
  ++allocations;
  allocated += size;
  return block + alignment;
}

[[gnu::noinline]] void give_back(void* p, std::size_t alignment = plain) noexcept {
  if (p == nullptr) return;
  char* const block = static_cast<char*>(p) - alignment;
  std::size_t size = 0;
  std::memcpy(&size, block, sizeof size);
  allocated -= size;
  std::free(block);
}

}  // namespace

void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return take(size); }
void* operator new(std::size_t size) {
  if (void* const p = take(size)) return p;
  throw std::bad_alloc{};
}
void* operator new(std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
  return take(size, static_cast<std::size_t>(a));
}
void* operator new(std::size_t size, std::align_val_t a) {
  if (void* const p = take(size, static_cast<std::size_t>(a))) return p;
  throw std::bad_alloc{};
}
void operator delete(void* p, std::align_val_t a) noexcept {
  give_back(p, static_cast<std::size_t>(a));
}
void operator delete(void* p, std::size_t, std::align_val_t a) noexcept {
  give_back(p, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { give_back(p); }

namespace {

using hub = sse::hub<counting_transport>;

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

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) fail("guard SCENARIO EVENTS SUBSCRIBERS [QUIET]");
  const std::string_view scenario = argv[1];
  const std::uint64_t events = std::strtoull(argv[2], nullptr, 10);
  const std::uint64_t subscribers = std::strtoull(argv[3], nullptr, 10);
  const std::uint64_t quiet = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 0;

  if (size_of_the_world(scenario, events, subscribers)) return 0;

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
