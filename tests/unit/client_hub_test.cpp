// The client against our own hub: request bytes, stream bytes, connections cut anywhere. What the
// hub published arrives once and in order, or a gap frame says that it is gone.
#include <sse/client.hpp>
#include <sse/http1.hpp>
#include <sse/sse.hpp>
#include <sse/testing.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

namespace {

using sse::client_action;
using sse::time_point;
using text = std::string_view;

/// SplitMix64.
class dice {
 public:
  explicit dice(std::uint64_t seed) : state_{seed} {}
  std::uint64_t below(std::uint64_t n) {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return (z ^ (z >> 31)) % n;
  }

 private:
  std::uint64_t state_;
};

/// Checks that ids only skip what a gap frame announced.
struct reader {
  std::uint64_t next = 1;  // the id that must come now
  std::uint64_t events = 0;
  std::uint64_t gaps = 0;
  std::uint64_t lost = 0;
  bool good = true;

  void on_event(const sse::event& e) {
    ++events;
    good = good && e.id == std::to_string(next) && e.type == "e" &&
           e.data == "event " + std::to_string(next) + "\nof " + std::string(next % 50, 'x');
    ++next;
  }
  void on_gap(const sse::gap& g) {
    ++gaps;
    good = good && g.requested + 1 == next && g.first > next && g.lost_known &&
           g.lost == g.first - next;
    lost += g.lost;
    next = g.first;
  }
};

/// A server with one hub, and the client's connection to it.
struct world {
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport> hub;
  sse::channel channel = {};
  sse::event_source source;
  reader seen{};
  std::int64_t ms = 1'000'000;
  std::uint64_t published = 0;
  std::uint64_t connections = 0;
  std::size_t peer = 0;
  std::size_t read = 0;  // of what the peer got
  bool linked = false;
  sse::session_id session{};

  world(std::uint64_t seed, std::uint64_t keep)
      : hub{net, {.seed = seed, .retry = sse::duration::milliseconds(50)}},
        source{"http://h/stream", {.seed = seed}} {
    sse::channel_options o;
    o.keep = keep;
    o.own_sequence = true;
    o.first_id = 0;
    o.start = sse::start_at::all;
    o.heartbeat.every = sse::duration::seconds(1);
    channel = hub.open_channel("c", std::move(o));
    REQUIRE(channel);
    hub.on_admit([this](const sse::request&) { return sse::admit().join(channel); });
    tick();
  }

  [[nodiscard]] time_point now() const { return time_point::milliseconds(ms); }

  void tick() {
    hub.tick(now());
    while (hub.flush()) {
    }
  }

  void publish(std::uint64_t n) {
    for (; n != 0; --n) {
      ++published;
      const std::string data =
          "event " + std::to_string(published) + "\nof " + std::string(published % 50, 'x');
      const sse::publish_result r = channel.publish({.type = "e", .data = data});
      REQUIRE(r.error == sse::publish_error::none);
      REQUIRE(r.id == published);
    }
  }

  /// The server reads the request and answers it.
  void serve(text request, bool chunked) {
    sse::http1::head_reader in;
    REQUIRE(in.feed(request).state == sse::http1::outcome::complete);
    sse::request r = in.head();
    REQUIRE(r.path == "/stream");
    std::string head;
    REQUIRE(sse::http1::write_stream_head(head, {}, chunked ? 1 : 0, chunked));
    r.preamble = head;
    r.chunked = chunked;
    peer = net.connect();
    read = 0;
    const sse::accept_result a = hub.accept({peer}, r);
    REQUIRE(a);
    session = a.id;
    ++connections;
    tick();
  }

  /// Does what the client wants until it waits for something.
  void run(bool chunked) {
    for (;;) {
      const client_action a = source.poll(now());
      if (a.what == client_action::none) return;
      if (a.what == client_action::connect) {
        const std::string request{source.connected(now())};
        serve(request, chunked);
        linked = true;
      } else if (a.what == client_action::disconnect) {
        cut();
      }
    }
  }

  /// Up to `n` more bytes reach the client, in pieces of random sizes.
  void deliver(std::size_t n, dice& d) {
    tick();
    const std::string& got = net.at(peer).received;
    while (n != 0 && read < got.size()) {
      std::size_t piece = 1 + d.below(200);
      if (piece > n) piece = n;
      if (piece > got.size() - read) piece = got.size() - read;
      const std::string copy = got.substr(read, piece);
      REQUIRE(source.received(now(), copy, seen) == copy.size());
      read += piece;
      n -= piece;
    }
  }

  void cut() {
    if (!linked) return;
    linked = false;
    hub.closed(session);
    tick();
    net.at(peer).received = {};
  }
};

}  // namespace

TEST_CASE("client and hub: 1,000 forced reconnections, every id once and in order") {
  dice d{20'241'121};
  world w{1, 1'000'000};
  while (w.connections <= 1000) {
    w.publish(d.below(8));
    w.run(d.below(2) == 0);
    if (w.linked) {
      w.deliver(d.below(700), d);
      w.publish(d.below(8));
      w.deliver(d.below(700), d);
      w.cut();
      if (d.below(2) == 0) {
        w.source.ended(w.now());
      } else {
        w.source.ended(w.now(), sse::client_error::read);
      }
      w.run(true);
    }
    const time_point due = w.source.next_deadline();
    REQUIRE(due < time_point::never());
    w.ms = due.ms() > w.ms ? due.ms() : w.ms + 1;
    w.tick();
  }
  // One last connection that is left alone.
  w.run(true);
  w.deliver(SIZE_MAX, d);
  CHECK(w.seen.good);
  CHECK(w.seen.gaps == 0);
  CHECK(w.seen.events == w.published);
  CHECK(w.seen.next == w.published + 1);
  CHECK(w.published > 5000);
  CHECK(w.connections > 1000);
}

TEST_CASE("client and hub: what is lost to a short history is announced") {
  std::uint64_t gaps = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    dice d{seed};
    world w{seed, 10};
    w.run(true);  // the first connection comes before the first event
    w.publish(1);
    w.deliver(SIZE_MAX, d);
    while (w.connections <= 100) {
      w.publish(d.below(30));
      w.run(d.below(2) == 0);
      if (w.linked) {
        w.deliver(d.below(700), d);
        w.cut();
        w.source.ended(w.now());
        w.run(true);
      }
      w.ms += 1000;
      w.tick();
    }
    w.run(true);
    w.deliver(SIZE_MAX, d);
    CHECK(w.seen.good);
    CHECK(w.seen.events + w.seen.lost == w.published);
    CHECK(w.seen.next == w.published + 1);
    gaps += w.seen.gaps;
  }
  CHECK(gaps > 100);
}
