// A seeded, deterministic run of everything that can happen to a hub, over the memory transport,
// with clients that check what they may see: frames whole, ids rising, nothing missing that no gap
// frame announced, nothing for other eyes, memory bounded, slots back. A failing seed is printed;
// SSEHUB_SIM_SEED=n replays it; SSEHUB_SIM_RUNS and SSEHUB_SIM_STEPS make it longer.
#include <sse/parse.hpp>
#include <sse/sse.hpp>
#include <sse/testing.hpp>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "random_source.hpp"

namespace {

using test::random_source;

/// What the test knows of an event that was accepted.
struct known_event {
  int channel;
  std::string data;
  std::string audience;
};

constexpr int channel_count = 5;
const char* const channel_names[channel_count] = {"a", "b", "own", "oldest", "tail"};

/// Undoes the chunked transfer coding, or says what is wrong with it.
class chunk_decoder {
 public:
  void reset() { *this = chunk_decoder{}; }
  bool feed(std::string_view in, std::string& out) {
    for (char c : in) {
      switch (state_) {
        case state::size:
          if (c == '\r') {
            state_ = state::size_end;
          } else {
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                     : -1;
            if (digit < 0) return false;
            left_ = left_ * 16 + static_cast<std::size_t>(digit);
            ++digits_;
          }
          break;
        case state::size_end:
          if (c != '\n' || digits_ == 0) return false;
          state_ = left_ == 0 ? state::last : state::data;
          break;
        case state::data:
          out.push_back(c);
          if (--left_ == 0) state_ = state::data_end;
          break;
        case state::data_end:
          if (c == '\r') break;
          if (c != '\n') return false;
          digits_ = 0;
          state_ = state::size;
          break;
        case state::last: break;
      }
    }
    return true;
  }

 private:
  enum class state { size, size_end, data, data_end, last };
  state state_ = state::size;
  std::size_t left_ = 0;
  int digits_ = 0;
};

struct client {
  std::string user;
  std::vector<int> channels;  // joined
  std::uint64_t last = 0;     // as an EventSource keeps it
  bool has_last = false;
  bool connected = false;
  std::size_t peer = 0;
  std::size_t read = 0;       // bytes of the peer fed to the parser
  std::size_t head_left = 0;  // of the preamble
  sse::session_id session;
  std::map<int, std::uint64_t> told;  // by channel: what is below was announced as lost
  bool revoked = false;
  bool chunked = false;
  chunk_decoder chunks;
  sse::parser parser;
};

/// What the hub promised and did not keep.
struct violation {
  std::string text;
};

template <class Transport>
class simulation {
 public:
  simulation(std::uint64_t seed, std::size_t steps) : random_{seed}, steps_{steps} {
    clients_.resize(24);
    for (std::size_t i = 0; i < clients_.size(); ++i)
      clients_[i].user = "user-" + std::to_string(i % 7);
    start_hub();
  }

  void run() {
    for (std::size_t i = 0; i < steps_; ++i) step();
    end();
  }

  std::size_t delivered = 0;
  std::size_t gaps = 0;
  std::size_t reconnects = 0;

 private:
  using hub_type = sse::hub<Transport>;

  [[noreturn]] void fail(std::string text) { throw violation{std::move(text)}; }

  void start_hub() {
    first_id_ += 1'000'000;
    net_ = std::make_unique<Transport>();
    hub_ = std::make_unique<hub_type>(
        *net_, sse::hub_options{.caps = {.total = {.max = 20}, .per_user = {.max = 4}},
                                .first_id = first_id_,
                                .seed = random_.next(),
                                .write_deadline = sse::duration::seconds(20),
                                .idle = sse::duration::seconds(300),
                                .max_age = sse::duration::seconds(600),
                                .max_backlog = 1 << 20,
                                .flush_share = 3000});
    for (int c = 0; c < channel_count; ++c) open_channel(c);
    hub_->on_gap([this](const sse::gap_notice& g) {
      ++gaps;
      notices_.push_back(g);
    });
    for (client& k : clients_) k.connected = false;
    tick(0);
  }

  void open_channel(int c) {
    sse::channel_options o;
    o.keep = 5 + random_.below(60);
    if (random_.one_in(3))
      o.keep_age = sse::duration::seconds(static_cast<std::int64_t>(5 + random_.below(60)));
    o.max_lag = 2000 + random_.below(20'000);
    if (c == 1) {
      o.soft_lag = 1500;
      o.soft_lag_for = sse::duration::seconds(8);
    }
    o.own_sequence = c == 2;
    if (c == 3) o.on_lag = sse::lag_policy::oldest;
    if (c == 4) o.on_lag = sse::lag_policy::tail;
    o.heartbeat.mode =
        c == 0 ? sse::heartbeat_options::pace::fixed : sse::heartbeat_options::pace::idle;
    o.heartbeat.every = sse::duration::seconds(7);
    channels_[c] = hub_->open_channel(channel_names[c], std::move(o));
    if (channels_[c] == nullptr) fail("open_channel");
  }

  /// The model's events of a channel's sequence. The own sequence starts over with each hub, above
  /// the old ids.
  std::map<std::uint64_t, known_event>& events_of(int c) { return c == 2 ? own_events_ : events_; }

  void tick(std::int64_t ms) {
    now_ += ms;
    hub_->tick(sse::time_point::milliseconds(now_));
  }

  void publish() {
    const int c = static_cast<int>(random_.below(channel_count));
    known_event e{c, {}, {}};
    e.data = std::string(1, static_cast<char>('A' + c)) + std::to_string(random_.next());
    const std::uint64_t size = random_.one_in(50) ? random_.below(9000) : random_.below(120);
    e.data.append(size, 'x');
    if (random_.one_in(6)) e.audience = "user-" + std::to_string(random_.below(7));
    if (random_.one_in(10)) {
      const auto r = channels_[c]->publish({.type = "transient", .data = e.data},
                                           {.audience = e.audience, .transient = true});
      if (!r || r.id != 0) fail("transient publish");
      return;
    }
    const auto r = channels_[c]->publish({.type = "e", .data = e.data}, {.audience = e.audience});
    if (!r) fail("publish: " + std::string(to_string(r.error)));
    if (!events_of(c).emplace(r.id, e).second || events_of(c).rbegin()->first != r.id)
      fail("id not rising");
  }

  void connect(client& k) {
    if (k.connected) return;
    if (k.channels.empty() || (!k.has_last && random_.one_in(4))) {
      k.channels.clear();
      k.has_last = false;
      if (random_.one_in(4)) {
        k.channels.push_back(2);
      } else {
        for (int c : {0, 1, 3, 4}) {
          if (random_.one_in(2)) k.channels.push_back(c);
        }
        if (k.channels.empty()) k.channels.push_back(0);
      }
    }
    k.peer = net_->connect();
    auto& p = net_->at(k.peer);
    if (random_.one_in(3)) p.window = random_.below(4000);
    if (random_.one_in(4)) p.max_write = 1 + random_.below(300);
    const std::string number = std::to_string(k.last);
    const sse::header h[] = {{"Last-Event-ID", number}};
    sse::request r{.address = "10.0.0.1", .preamble = "HEAD\n"};
    if (k.has_last) r.headers = h;
    k.chunked = random_.one_in(3);
    k.chunks.reset();
    r.chunked = k.chunked;
    auto v = sse::admit(k.user);
    for (int c : k.channels) v.join(*channels_[c]);
    k.read = 0;
    k.head_left = 5;
    k.parser = sse::parser{};
    k.revoked = false;
    k.told.clear();
    if (!k.has_last) k.last = channels_[k.channels[0]]->last_id();
    const auto result = hub_->accept({k.peer}, r, std::move(v));
    if (!result) {
      if (result.refusal.status != 503 && result.refusal.status != 429)
        fail("refused: " + std::to_string(result.refusal.status));
      return;
    }
    if (k.has_last) ++reconnects;
    k.connected = true;
    k.has_last = true;
    k.session = result.id;
  }

  /// Feeds what arrived to the client's parser and holds it against what was published.
  struct sink {
    simulation* sim;
    client* k;
    void on_event(const sse::event& e) { sim->on_event(*k, e); }
  };

  void read(client& k) {
    auto& p = net_->at(k.peer);
    std::string_view bytes = std::string_view(p.received).substr(k.read);
    k.read = p.received.size();
    const std::size_t head = bytes.size() < k.head_left ? bytes.size() : k.head_left;
    k.head_left -= head;
    bytes.remove_prefix(head);
    sink s{this, &k};
    std::string body;
    if (k.chunked) {
      if (!k.chunks.feed(bytes, body)) fail("broken chunk");
      bytes = body;
    }
    if (k.parser.feed(bytes, s).error != sse::parse_error::none) fail("parser refused the stream");
    if (p.is_closed) {
      if (!bytes.empty() && k.revoked) fail("bytes after revocation");
      if (hub_->alive(k.session)) {
        // a pending write may keep the slot, never the session's place in the caps
        if constexpr (!Transport::completes) fail("closed but alive");
      }
      k.connected = false;
    }
  }

  void on_event(client& k, const sse::event& e) {
    if (e.type == "transient" || e.type == "whisper") return;
    std::uint64_t id = 0;
    for (char c : e.id) id = id * 10 + static_cast<std::uint64_t>(c - '0');
    if (e.type == "gap") {
      if (e.data.find("\"first\":null") != std::string_view::npos) return;
      if (e.id.empty()) id = k.last;  // of several frames only the last has one
      if (id < k.last)
        fail("gap frame set the id back: " + std::to_string(k.last) + " -> " + std::string(e.id));
      k.last = id;
      for (auto i = notices_.begin(); i != notices_.end(); ++i) {  // which channel it spoke of
        if (!(i->session == k.session) ||
            e.data.find("\"first\":" + std::to_string(i->first) + ",") == std::string_view::npos)
          continue;
        for (int c = 0; c < channel_count; ++c) {
          if (i->where == channels_[c]) k.told[c] = i->first;
        }
        notices_.erase(i);
        return;
      }
      fail("a gap frame without a notice");
    }
    if (e.type != "e") fail("unknown event type: " + std::string(e.type));
    auto& events = events_of(k.channels[0]);
    const auto it = events.find(id);
    if (it == events.end())
      fail("event that was never published: id " + std::string(e.id) + " last " +
           std::to_string(k.last));
    if (it->second.data != e.data) fail("wrong bytes for id " + std::string(e.id));
    if (!visible(k, it->second)) fail("event for other eyes: id " + std::string(e.id));
    if (id <= k.last)
      fail("id not rising: " + std::string(e.id) + " after " + std::to_string(k.last));
    for (auto i = events.upper_bound(k.last); i != it; ++i) {
      if (visible(k, i->second) && i->first >= k.told[i->second.channel]) {
        fail("lost in silence: id " + std::to_string(i->first) + " between " +
             std::to_string(k.last) + " and " + std::string(e.id) + " user " + k.user +
             " of channel " + channel_names[i->second.channel]);
      }
    }
    k.last = id;
    ++delivered;
  }

  bool visible(const client& k, const known_event& e) {
    bool joined = false;
    for (int c : k.channels) joined = joined || c == e.channel;
    return joined && (e.audience.empty() || e.audience == k.user);
  }

  void deliver(client& k) {
    if (!k.connected) return;
    auto& p = net_->at(k.peer);
    if constexpr (Transport::completes) {
      if (p.in_flight_bytes != 0) {
        const std::size_t n = random_.one_in(3) ? random_.below(p.in_flight_bytes + 1) : SIZE_MAX;
        hub_->written(p.session, net_->complete(k.peer, n));
      }
    }
    p.window = random_.one_in(4) ? SIZE_MAX : p.window + random_.below(5000);
    if (p.window != 0) hub_->writable(p.session);
  }

  void complete_dead_writes() {
    if constexpr (Transport::completes) {
      for (std::size_t i = 0; i < net_->size(); ++i) {
        if (net_->at(i).in_flight_bytes == 0) continue;
        if (net_->at(i).is_closed) hub_->written(net_->at(i).session, net_->complete(i, 0));
      }
    }
  }

  void flush() {
    hub_->flush();
    for (client& k : clients_) {
      if (k.connected) read(k);
    }
  }

  void step() {
    client& k = clients_[random_.below(clients_.size())];
    switch (random_.below(40)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5: connect(k); break;
      case 6:
      case 7:
      case 8:
      case 9:
      case 10:
      case 11:
      case 12: deliver(k); break;
      case 13:
      case 14:
      case 15:
      case 16: flush(); break;
      case 17: tick(static_cast<std::int64_t>(random_.below(3000))); break;
      case 18:
        if (random_.one_in(20)) tick(static_cast<std::int64_t>(random_.below(60'000)));
        break;
      case 19:  // the peer goes
        if (k.connected && random_.one_in(3)) {
          hub_->closed(k.session);
          read(k);
        }
        break;
      case 20:  // it goes, and only a write finds out
        if (k.connected && random_.one_in(3)) net_->at(k.peer).fails = true;
        break;
      case 21:  // stall
        if (k.connected) net_->at(k.peer).window = 0;
        break;
      case 22:
        if (k.connected) (void)hub_->send(k.session, {.type = "whisper", .data = "psst"});
        break;
      case 23:
        if (random_.one_in(10)) revoke(k.user);
        break;
      case 24:
        if (k.connected && random_.one_in(10)) hub_->finish(k.session);
        break;
      case 25:
        if (random_.one_in(400)) drain();
        break;
      case 26:
        if (random_.one_in(400)) restart();
        break;
      case 27: complete_dead_writes(); break;
      default: publish(); break;
    }
    check_bounds();
  }

  void revoke(const std::string& user) {
    for (client& k : clients_) {
      if (k.connected && k.user == user) {
        read(k);
        k.revoked = true;
      }
    }
    hub_->revoke(user);
    flush();
    if (hub_->user_sessions(user) != 0) fail("a revoked user still counts");
  }

  void drain() {
    hub_->drain({.deadline = sse::duration::seconds(3)});
    for (int i = 0; i < 5; ++i) {
      for (client& k : clients_) deliver(k);
      flush();
    }
    tick(3001);
    flush();
    complete_dead_writes();
    for (client& k : clients_) {
      if (k.connected) fail("a stream outlived the drain deadline");
    }
    if (!hub_->drained() || hub_->sessions() != 0) fail("not drained");
    restart();
  }

  void restart() {
    for (client& k : clients_) {
      if (k.connected) read(k);
    }
    const std::uint64_t head = channels_[0]->last_id() > channels_[2]->last_id()
                                   ? channels_[0]->last_id()
                                   : channels_[2]->last_id();
    if (head > first_id_) first_id_ = head;
    hub_.reset();
    notices_.clear();
    start_hub();
  }

  void check_bounds() {
    const auto s = hub_->stats();
    if (s.sessions > 20) fail("more sessions than the total cap");
    // keep and lag are below 60 * 9 kB and 22 kB each; segments round up.
    if (s.log_bytes > 12U << 20) fail("memory: " + std::to_string(s.log_bytes));
  }

  /// All go; nothing may stay behind. Then every client comes back once and must be able to get all
  /// that is retained.
  void end() {
    for (client& k : clients_) connect(k);
    for (int round = 0; round < 2000; ++round) {
      for (client& k : clients_) {
        if (k.connected) {
          net_->at(k.peer).max_write = SIZE_MAX;
          deliver(k);
        }
      }
      flush();
    }
    for (client& k : clients_) {
      if (!k.connected || k.channels.empty()) continue;
      auto& events = events_of(k.channels[0]);
      for (auto i = events.upper_bound(k.last); i != events.end(); ++i) {
        if (visible(k, i->second) && i->first >= k.told[i->second.channel]) {
          fail("never delivered: id " + std::to_string(i->first) + " client at " +
               std::to_string(k.last));
        }
      }
    }
    for (client& k : clients_) {
      if (k.connected) hub_->closed(k.session);
    }
    complete_dead_writes();
    flush();
    const auto s = hub_->stats();
    std::uint64_t closed = 0;
    for (auto n : s.closed) closed += n;
    if (s.sessions != 0 || closed != s.accepted) {
      fail("slots leaked: " + std::to_string(s.sessions) + " open, " + std::to_string(s.accepted) +
           " accepted, " + std::to_string(closed) + " closed");
    }
  }

  random_source random_;
  std::size_t steps_;
  std::uint64_t first_id_ = 0;
  std::int64_t now_ = 1'000;
  std::vector<sse::gap_notice> notices_;
  std::map<std::uint64_t, known_event> events_;
  std::map<std::uint64_t, known_event> own_events_;
  std::vector<client> clients_;
  std::unique_ptr<Transport> net_;
  std::unique_ptr<hub_type> hub_;
  sse::channel* channels_[channel_count] = {};
};

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

template <class Transport>
void simulate(const char* style) {
  const std::uint64_t first = from_environment("SSEHUB_SIM_SEED", 1);
  const std::uint64_t runs =
      from_environment("SSEHUB_SIM_RUNS", std::getenv("SSEHUB_SIM_SEED") != nullptr ? 1 : 25);
  const std::uint64_t steps = from_environment("SSEHUB_SIM_STEPS", 20'000);
  std::size_t delivered = 0;
  std::size_t gaps = 0;
  std::size_t reconnects = 0;
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    simulation<Transport> sim{seed, static_cast<std::size_t>(steps)};
    try {
      sim.run();
    } catch (const violation& v) {
      FAIL(style << " seed " << seed << ": " << v.text << " (replay: SSEHUB_SIM_SEED=" << seed
                 << " SSEHUB_SIM_STEPS=" << steps << ")");
    }
    delivered += sim.delivered;
    gaps += sim.gaps;
    reconnects += sim.reconnects;
  }
  if (runs < 25) return;
  // The run must have been worth something.
  CHECK(delivered > steps);
  CHECK(gaps > 10);
  CHECK(reconnects > 100);
}

}  // namespace

TEST_CASE("X-01 X-02 X-03 X-09 X-10 simulation over a transport that reports readiness",
          "[simulation]") {
  simulate<sse::testing::memory_transport>("ready");
}

TEST_CASE("X-01 X-02 X-03 X-09 X-10 simulation over a transport that completes", "[simulation]") {
  simulate<sse::testing::memory_completion_transport>("completion");
}
