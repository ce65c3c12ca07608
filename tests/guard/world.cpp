// The size of the world, which a step must not see: see guard.cpp. A file of its own, so that what
// the compiler inlines there does not depend on it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/detail/server_core.hpp>
#include <sse/mailbox.hpp>
#include <sse/server.hpp>
#include <sse/shards.hpp>

#include "guard.hpp"

namespace {

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
    while (all.back().try_publish(data) == sse::publish_status::ok) {
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

  explicit host(const sse::server_options& o)
      : base{o, [](std::string_view s) { return std::string{s}; }} {
    this->mail_.emplace(sse::mailbox_options{});
  }
  void turn() {
    this->drain_mail();
    this->hub().flush();
    (void)this->mail().prepare_sleep();
  }
  void close_channel(sse::channel& c) noexcept { this->forget_channel(c); }
  void flush_soon() noexcept {}
  void abandon() noexcept {}
};
struct server : sse::basic_server<host> {
  server() : basic_server{std::make_shared<host>(sse::server_options{})} {}
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
    sse::channel* const c = s.open_channel(name_of(i), small_channel());
    if (c == nullptr) fail("open_channel");
    all.push_back(s.make_publisher(*c, 1024));
  }
  for (std::uint64_t i = 0; i < busy; ++i) (void)all[i].try_publish(data);
  s.core().turn();
  for (std::uint64_t i = 0; i < events; ++i) {
    if (all[i % busy * (channels / busy)].try_publish(data) != sse::publish_status::ok)
      fail("lane");
    if (i % 20 == 19) s.core().turn();
  }
  s.core().turn();
  if (s.mail().drained() != events + busy) fail("mail");
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
  std::vector<sse::channel*> all;
  for (std::uint64_t i = 0; i < n + 2000; ++i) {
    all.push_back(s.open_channel(name_of(i), small_channel()));
    if (all.back() == nullptr) fail("open_channel");
    if (step == "route") s.stream("/" + name_of(i), *all.back());
  }
  sse::request r{.method = "GET"};
  for (std::uint64_t i = 0; i < times; ++i) {
    const std::uint64_t at = i * 7919 % n;
    const std::string name = name_of(at);
    if (step == "open") {
      if (s.open_channel("new" + name_of(i), small_channel()) == nullptr) fail("open_channel");
    } else if (step == "find") {
      if (s.hub().find_channel(name) != all[at]) fail("find_channel");
    } else if (step == "close") {
      s.close_channel(*all[i * (n / times)]);
    } else if (step == "route") {
      const std::string path = "/" + name;
      r.path = path;
      const auto to = s.core().route(r);
      if (!to.to || !to.to->stream(r, {}).admitted()) fail("route");
    } else {
      if (!s.hub().accept({}, {}, sse::admit().join(*all[at]))) fail("accept");
    }
  }
  std::_Exit(0);
}

}  // namespace

bool size_of_the_world(std::string_view scenario, std::uint64_t events, std::uint64_t n) {
  if (scenario == "idle-lanes" || scenario == "burst") {
    idle_lanes(events, n, scenario == "burst");
  } else if (scenario == "targets") {
    targets(events, n);
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
