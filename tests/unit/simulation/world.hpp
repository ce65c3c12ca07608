// The world of the simulation: a hub, its channels, clients that come and go, and a clock, driven
// step by step by random numbers. The judge (client.hpp) looks at every byte that arrives.
#pragma once

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "../../random_source.hpp"
#include "book.hpp"
#include "client.hpp"
#include "features.hpp"
#include "transports.hpp"
#include "wire.hpp"

namespace simulation {

constexpr std::size_t client_count = 24;
constexpr int address_count = 5;
constexpr std::int64_t day = 24 * 3600 * 1000;

/// The live heap of this process in bytes; 0: not known.
inline std::uint64_t live_heap() {
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33) && !defined(__SANITIZE_ADDRESS__)
  const auto m = mallinfo2();
  return m.uordblks + m.hblkhd;
#else
  return 0;
#endif
}

/// What was done last, for the report of a failure.
class step_log {
 public:
  void add(const char* what, std::int64_t a = 0, std::int64_t b = 0) {
    steps_[count_++ % steps_.size()] = {what, a, b};
  }
  [[nodiscard]] std::string text() const {
    std::string out;
    const std::size_t n = count_ < steps_.size() ? count_ : steps_.size();
    for (std::size_t i = count_ - n; i < count_; ++i) {
      const step& s = steps_[i % steps_.size()];
      out += "\n  " + std::to_string(i) + " " + s.what + " " + std::to_string(s.a) + " " +
             std::to_string(s.b);
    }
    return out;
  }

 private:
  struct step {
    const char* what;
    std::int64_t a;
    std::int64_t b;
  };
  std::array<step, 60> steps_{};
  std::size_t count_ = 0;
};

struct user_data {
  int number = -1;
};

template <class Transport>
class world final : public observer {
 public:
  world(std::uint64_t seed, std::size_t steps, const features& f)
      : features_{f}, random_{seed}, steps_{steps}, judge_{features_, book_, facts_} {
    for (std::size_t i = 0; i < client_count; ++i) {
      clients_[i].number = static_cast<int>(i);
      clients_[i].user = static_cast<int>(i % (user_count + 1)) - 1;
      clients_[i].address = static_cast<int>(i % address_count);
    }
    start_hub();
  }
  world(const world&) = delete;
  world& operator=(const world&) = delete;
  ~world() { quiet_ = true; }

  void run() {
    for (std::size_t i = 0; i < steps_; ++i) step();
    end();
  }

  [[nodiscard]] const tally& seen() const { return judge_.seen; }
  [[nodiscard]] std::string last_steps() const { return log_.text(); }
  std::uint64_t reconnects = 0;
  std::uint64_t backfills = 0;
  std::uint64_t evicted = 0;
  std::uint64_t reopened = 0;
  std::uint64_t hook_calls = 0;

 private:
  using hub_type = sse::hub<Transport, user_data>;
  static constexpr bool completes = Transport::completes;

  enum class admission { open, retry, refuse };
  struct live_session {
    client* who;
    int user;
    int address;
    bool counted;
  };
  struct zombie {
    std::size_t peer;
    sse::session_id session;
    std::vector<sse::buffer> peeked;
  };

  [[nodiscard]] bool chance(std::uint64_t n) { return random_.one_in(n); }
  [[nodiscard]] int pick(int n) {
    return static_cast<int>(random_.below(static_cast<std::uint64_t>(n)));
  }
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  [[nodiscard]] client& any_client() { return clients_[random_.below(client_count)]; }
  [[nodiscard]] sse::testing::peer& peer(const client& k) { return net_->at(k.conn.peer); }

  // --- the hub and its channels ------------------------------------------------------------------

  void start_hub() {
    first_id_ += chance(3) ? 0 : random_.below(1000);
    net_ = std::make_unique<Transport>(static_cast<observer&>(*this));
    facts_.groups = chance(2);
    all_given_ = chance(6);
    sse::hub_options o{};
    o.caps.total = {.max = 20, .then = any_full(), .status = 503};
    o.caps.per_user = {.max = 2 + static_cast<std::uint32_t>(random_.below(3)), .then = any_full()};
    o.caps.per_address = {.max = 3 + static_cast<std::uint32_t>(random_.below(6)),
                          .then = any_full()};
    if (chance(8)) {  // tight: one newcomer may cost two
      o.caps.per_user = {.max = 1, .then = sse::when_full::evict_oldest};
      o.caps.per_address = {.max = 2, .then = sse::when_full::evict_oldest};
    }
    o.first_id = first_id_;
    o.given_ids = all_given_;
    o.seed = random_.next();
    if (chance(2)) o.retry = sse::duration::seconds(2);
    if (chance(2)) o.opening = "open";
    o.position = !chance(4);
    o.write_deadline = chance(4) ? sse::duration::off() : sse::duration::seconds(20);
    if (chance(2)) o.idle = sse::duration::seconds(300);
    if (chance(2)) o.max_age = sse::duration::seconds(600);
    constexpr std::uint64_t backlogs[] = {50'000, 200'000, 1 << 20};
    o.max_backlog = backlogs[random_.below(3)];
    constexpr std::uint32_t shares[] = {1, 200, 3000, 256 << 10};
    o.flush_share = shares[random_.below(4)];
    o.control_lane = chance(3) ? 2000 : 256 << 10;
    options_ = o;
    hub_ = std::make_unique<hub_type>(*net_, o);
    hub_->on_gap([this](const sse::gap_notice& g) { on_gap(g); });
    hub_->on_opened([this](sse::session_id id, const user_data&) { on_opened(id); });
    hub_->on_closed([this](sse::session_id id, const user_data& u, sse::close_reason) {
      if (u.number < -1) wrong("a hook got another session's user");
      if (hub_ != nullptr && hub_->alive(id)) wrong("on_closed of a session that is alive");
      if (accepting_ == nullptr) return act(true);
      if (!features_.evicted_ends_others) return act(false);
      if (!quiet_ && !victims_.empty() && chance(2)) {  // the next one that has to go
        const connection& next = victims_.back()->conn;
        if (next.open) hub_->close(next.session);
      }
      act(true);
    });
    hub_->on_presence([this](sse::channel c, std::string_view key, bool present) {
      on_presence(c, key, present);
    });
    if (facts_.groups) {
      hub_->on_sees([this](const user_data& u, std::string_view key, std::string_view audience) {
        ask_in_flush();
        if (key != user_name(u.number)) wrong("on_sees got another user's key");
        for (int a = 1; a < audience_count + 1; ++a) {
          if (audience == audience_name(a)) return may_see(u.number, a, true);
        }
        wrong("on_sees of an audience that nobody published to");
        return false;
      });
    }
    hub_->on_admit([this](const sse::request&) { return take_verdict(); });
    present_ = {};
    joined_ = {};
    by_slot_.clear();
    hub_->tick(sse::time_point::milliseconds(now_));
    for (int c = 0; c < channel_count; ++c) open_channel(c, true);
  }

  [[nodiscard]] sse::when_full any_full() {
    return static_cast<sse::when_full>(chance(2) ? 1 : random_.below(3));
  }

  [[nodiscard]] sse::id_mode ids_of(int c) const {
    return all_given_ && !shapes[c].own && shapes[c].ids == id_mode::automatic ? id_mode::given
                                                                               : shapes[c].ids;
  }

  void open_channel(int c, bool first_time = false) {
    sse::channel_options o;
    const bool state = c == 1 || c == 8 || c == 10 || chance(4);
    o.keep = chance(10) ? 0 : 3 + random_.below(60);
    if (chance(4)) o.keep_bytes = 500 + random_.below(8000);
    if (chance(3)) {
      o.keep_age = chance(4)
                       ? sse::duration::milliseconds(30 * day)
                       : sse::duration::seconds(static_cast<std::int64_t>(5 + random_.below(60)));
    }
    o.max_lag = chance(4) ? 0 : state ? 300 + random_.below(3000) : 1000 + random_.below(12'000);
    if (chance(4)) {
      o.soft_lag = 800;
      o.soft_lag_for = sse::duration::seconds(static_cast<std::int64_t>(random_.below(9)));
    }
    o.on_lag = static_cast<sse::lag_policy>(state ? 3 : random_.below(3));
    o.ids = ids_of(c);
    o.own_sequence = shapes[c].own;
    if (first_time && ids_of(c) == id_mode::given && shapes[c].own) o.first_id = first_id_;
    o.start = static_cast<sse::start_at>(state && chance(2) ? 2 : random_.below(2));
    if (chance(3)) o.max_keys = 2 + static_cast<std::uint32_t>(random_.below(20));
    o.max_subscribers = chance(6) ? 5 : 0;
    o.heartbeat.mode = static_cast<sse::heartbeat_options::pace>(random_.below(3));
    o.heartbeat.every = sse::duration::seconds(7);
    o.heartbeat.comment = chance(2);
    o.heartbeat.type = "beat";
    if (chance(3)) {
      o.heartbeat.payload = [this](std::string& data) {
        ask_in_flush();
        data = "p";
      };
    }
    if (shapes[c].archive) {
      o.backfill = [this, c](const sse::backfill_request& r, sse::backfill_writer& w) {
        return on_backfill(c, r, w);
      };
    }
    const std::uint64_t before = last_head_[at(c)];
    sse::channel p = hub_->open_channel(shapes[c].name, std::move(o));
    if (!p) fail("open_channel");
    if (hub_->find_channel(shapes[c].name) != p) fail("find_channel");
    if (hub_->open_channel(shapes[c].name)) fail("a name was taken twice");
    channels_[at(c)] = p;
    plain_options_[at(c)] = plain_copy(*p.options());
    facts_.options[at(c)] = &plain_options_[at(c)];
    if (features_.reopened_goes_on && p.last_id() < before)
      fail(std::string("its ids begin again: ") + shapes[c].name);
    book_.begin(c, p.last_id());
  }

  /// All but the hooks: what a judge may ask for after the channel is gone.
  [[nodiscard]] static sse::channel_options plain_copy(const sse::channel_options& o) {
    sse::channel_options p;
    p.keep = o.keep;
    p.keep_bytes = o.keep_bytes;
    p.keep_age = o.keep_age;
    p.max_lag = o.max_lag;
    p.soft_lag = o.soft_lag;
    p.soft_lag_for = o.soft_lag_for;
    p.on_lag = o.on_lag;
    p.ids = o.ids;
    p.own_sequence = o.own_sequence;
    p.start = o.start;
    p.max_keys = o.max_keys;
    return p;
  }

  void close_channel(int c) {
    if (!channels_[at(c)]) return;
    if (!features_.reopened_goes_on && shapes[c].own) return;
    log_.add("close channel", c);
    last_head_[at(c)] = channels_[at(c)].last_id();
    sse::channel closing = channels_[at(c)];
    channels_[at(c)] = {};  // hooks must not publish to it
    hub_->close_channel(closing);
    for (client& k : clients_) {
      if (k.conn.open && k.find(c) != nullptr && !peer(k).is_closed)
        fail("a stream on a closed channel");
    }
    sync();  // readers still ask for what its options were
    facts_.options[at(c)] = nullptr;
    if (features_.reopened_goes_on) return;
    for (client& k : clients_) {
      for (const int joined_to : k.channels) {
        if (joined_to == c) k.forget();
      }
    }
  }

  void reopen_channels() {
    for (int c = 0; c < channel_count; ++c) {
      if (channels_[at(c)] || !chance(2)) continue;
      log_.add("open channel", c);
      open_channel(c);
      ++reopened;
    }
  }

  void tick(std::int64_t ms) {
    now_ += ms;
    log_.add("tick", ms);
    for (client& k : clients_) k.conn.beats_allowed += 20 * (k.conn.channels.size() + 1);
    hub_->tick(sse::time_point::milliseconds(now_));
    for (int c = 0; c < channel_count; ++c) {
      if (channels_[at(c)]) book_.trim(c, *channels_[at(c)].options(), now_);
    }
    flush_hub();
    if (chance(4)) check_retention();
  }

  /// What is retained is exact.
  void check_retention() {
    for (int c = 0; c < channel_count; ++c) {
      if (!channels_[at(c)]) continue;
      const sse::channel_options& o = *channels_[at(c)].options();
      const sse::channel_stats s = channels_[at(c)].stats();
      channel_book& b = book_.at(c);
      const std::uint64_t owed = b.rows.size() - b.retained;
      const bool by_audience = o.keep_bytes != UINT64_MAX && b.has_audiences;
      if (s.retained_events < owed || (s.retained_events > owed && !by_audience))
        fail(std::string(shapes[c].name) + " retains " + std::to_string(s.retained_events) +
             " events instead of " + std::to_string(owed));
      if (!features_.keep_bytes_counts_audiences) continue;
      std::uint64_t bytes = 0;
      for (std::uint64_t i = b.rows.size() - s.retained_events; i < b.rows.size(); ++i) {
        const published& e = book_.row(c, static_cast<std::uint32_t>(i));
        bytes += e.wire + audience_name(e.audience).size();
      }
      if (bytes > o.keep_bytes) fail(std::string(shapes[c].name) + " retains too many bytes");
    }
  }

  // --- publishing --------------------------------------------------------------------------------

  void publish() { publish_to(pick(channel_count)); }

  void publish_to(int c) {
    const sse::channel where = channels_[at(c)];
    if (!where) return;
    published e;
    e.channel = static_cast<std::int8_t>(c);
    e.at = now_;
    const std::uint64_t most = chance(50) ? 9000 : 120;
    e.pad = chance(2) ? 60 : static_cast<std::uint32_t>(random_.below(most));  // often of one size
    if (chance(3)) e.audience = static_cast<std::int8_t>(1 + pick(audience_count));
    if (chance(2)) e.key = static_cast<std::int8_t>(1 + pick(key_count));
    if (!features_.state_by_audience && e.key != 0)  // a key has one audience
      e.audience = static_cast<std::int8_t>(e.key > 6 ? e.key - 6 : 0);
    e.transient = chance(10);
    if (e.audience > user_count && !facts_.groups) e.audience = 0;
    const std::string data = book_.data_of_next(e.pad);
    const std::string audience = audience_name(e.audience);
    const std::string key = e.key == 0 ? std::string{} : "key-" + std::to_string(e.key);
    sse::publish_options o{.audience = audience, .transient = e.transient, .key = key};
    const bool given = ids_of(c) == id_mode::given && !e.transient;
    if (given) o.id = where.last_id() + 1 + (chance(4) ? random_.below(50) : 0);
    sse::event out{.type = e.transient ? "t" : "e", .data = data};
    std::string whole;
    if (chance(8) && (given || e.transient || ids_of(c) == id_mode::none)) {
      const std::string id = given ? std::to_string(o.id) : std::string{};
      if (sse::encode(whole, {.type = out.type, .data = data, .id = id}) != sse::encode_error::none)
        fail("encode");
      out = {.data = whole};
      o.encoded = true;
    }
    const std::uint64_t head = where.last_id();
    const sse::publish_result r = where.publish(out, o);
    if (!r) return wrong("publish was refused");
    e.id = r.id;
    if (given && r.id != o.id) return wrong("another id than the given one");
    const bool numbered = !e.transient && ids_of(c) != id_mode::none;
    if (numbered != (r.id != 0)) return wrong("an id where there is none, or none");
    if (numbered && !given && r.id != head + 1) return wrong("ids are not consecutive");
    book_.add(e, *where.options());
    for (client& k : clients_) {
      if (k.conn.open) judge_.note_lag(k, c);
    }
  }

  /// What must be refused, and leave no trace.
  void publish_badly() {
    const int c = pick(channel_count);
    if (!channels_[at(c)]) return;
    sse::channel where = channels_[at(c)];
    const std::uint64_t head = where.last_id();
    const auto refused = [&](const sse::event& e, const sse::publish_options& o) {
      if (where.publish(e, o) || where.last_id() != head) fail("a bad event was taken");
    };
    refused({.type = "a\nb"}, {});
    refused({.data = "x", .id = "7"}, {});
    if (ids_of(c) == id_mode::given) {
      refused({.data = "x"}, {.id = head});
      refused({.data = "x"}, {});
    } else {
      refused({.data = "x"}, {.id = head + 5});
    }
  }

  void send(client& k) {
    if (!k.conn.open || k.conn.retry_only) return;
    const std::uint64_t number = ++whispers_;
    const std::string data = std::to_string(number);
    const sse::publish_error e =
        hub_->send(k.conn.session, {.type = "whisper", .data = data}).error;
    if (e == sse::publish_error::none) {
      k.conn.whispers.push_back(number);
    } else if (e == sse::publish_error::no_session) {
      // in a hook: one that ended together with the one that the hook is about; a chunked stream
      // whose last chunk is under way takes nothing more
      if (!peer(k).is_closed && hook_depth_ == 0 && !k.conn.chunked) wrong("send: no session");
    } else if (e != sse::publish_error::full) {
      wrong("send was refused");
    }
  }

  // --- clients -----------------------------------------------------------------------------------

  void choose_channels(client& k) {
    k.channels.clear();
    constexpr int first_own = 9;
    if (chance(2)) {
      k.channels.push_back(pick(channel_count));
      return;
    }
    const std::uint64_t wanted = 2 + random_.below(4);
    for (int c = 0; c < first_own; ++c) {
      if (random_.below(first_own) < wanted) k.channels.push_back(c);
    }
    if (k.channels.empty()) k.channels.push_back(0);
    if (chance(2)) std::swap(k.channels.front(), k.channels.back());
  }

  /// What the caps say of one more stream, and who has to go for it.
  [[nodiscard]] admission expect(const client& k, std::vector<client*>& victims) const {
    if (hub_->draining()) return admission::refuse;
    const sse::limits& caps = options_.caps;
    const auto full = [](const sse::cap& c) {
      return c.then == sse::when_full::retry_stream ? admission::retry : admission::refuse;
    };
    std::size_t total = 0;
    for (const live_session& s : sessions_) total += s.counted ? 1U : 0U;
    if (caps.total.then != sse::when_full::evict_oldest && total >= caps.total.max)
      return full(caps.total);
    for (const int c : k.channels) {
      sse::channel where = channels_[at(c)];
      if (where.options()->max_subscribers != 0 &&
          where.subscribers() >= where.options()->max_subscribers)
        return admission::refuse;
    }
    const auto fits = [&](const sse::cap& c, auto counts) {
      std::size_t n = 0;
      client* oldest = nullptr;
      for (const live_session& s : sessions_) {
        if (!s.counted || !counts(s)) continue;
        if (oldest == nullptr) oldest = s.who;
        bool goes = false;
        for (const client* v : victims) goes = goes || v == s.who;
        if (!goes) ++n;
      }
      if (n < c.max) return true;
      if (c.then != sse::when_full::evict_oldest) return false;
      victims.push_back(oldest);
      return true;
    };
    if (k.user >= 0 &&
        !fits(caps.per_user, [&](const live_session& s) { return s.user == k.user; }))
      return full(caps.per_user);
    if (!fits(caps.per_address, [&](const live_session& s) { return s.address == k.address; }))
      return full(caps.per_address);
    if (!fits(caps.total, [](const live_session&) { return true; })) return full(caps.total);
    return admission::open;
  }

  [[nodiscard]] sse::verdict<user_data> take_verdict() {
    auto v = sse::admit(user_data{accepting_->user}, user_name(accepting_->user));
    for (const int c : accepting_->channels) v.join(channels_[at(c)]);
    if (how_.start_given) (void)std::move(v).start(how_.start);  // they give `v` itself back
    if (how_.newest != 0) (void)std::move(v).backlog(how_.newest);
    if (how_.by_verdict) (void)std::move(v).after(how_.after);
    return v;
  }

  void connect(client& k) {
    if (k.conn.open) return;
    if (k.channels.empty() || (chance(k.has_position ? 30 : 3))) {
      k.forget();
      choose_channels(k);
    }
    for (const int c : k.channels) {
      if (!channels_[at(c)]) return;
    }
    how_ = {};
    sse::channel first = channels_[at(k.channels[0])];
    bool numbered = false;
    for (const int c : k.channels) numbered = numbered || ids_of(c) != id_mode::none;
    const std::uint64_t head = first.last_id();
    if (!k.has_position && numbered && chance(6)) adopt_position(k, head);
    how_.resume = k.has_position;
    how_.after = k.last;
    how_.numbered = numbered;
    how_.start = first.options()->start;
    if (!k.has_position || !numbered) {
      if (chance(6)) {
        how_.newest = 1 + random_.below(20);
      } else if (k.channels.size() > 1 || chance(4)) {  // they may differ
        how_.start_given = true;
        how_.start = static_cast<sse::start_at>(random_.below(2));
      }
    }
    const std::size_t peer_index = net_->connect();
    sse::testing::peer& p = net_->at(peer_index);
    if (chance(3)) p.window = random_.below(4000);
    if (chance(4)) p.max_write = 1 + random_.below(chance(2) ? 300 : 20);
    const std::string number = std::to_string(k.last);
    const std::string query = "last_id=" + number;
    const std::string address = "10.0.0." + std::to_string(k.address);
    const sse::header h[] = {{"Last-Event-ID", number}};
    sse::request r{.address = address, .preamble = "HEAD\n"};
    if (how_.resume) {
      switch (random_.below(3)) {
        case 0: r.query = query; break;
        case 1: how_.by_verdict = k.last != 0; [[fallthrough]];
        default: r.headers = h;
      }
    }
    k.conn = {};
    k.conn.peer = peer_index;
    k.conn.chunked = r.chunked = chance(3);
    k.conn.head_left = r.preamble.size();
    k.conn.resumed = how_.resume;
    k.conn.resumed_from = k.last;
    k.conn.owed_position = options_.position && numbered && (!how_.resume || how_.by_verdict);
    k.conn.accepting = true;
    log_.add("connect", k.number, static_cast<std::int64_t>(k.last));

    victims_.clear();
    const admission expected = expect(k, victims_);
    if (expected != admission::open) victims_.clear();  // nobody goes unless all caps are met
    how_.retry_only = expected == admission::retry;
    evicted_now_.clear();
    quiet_ = chance(2);
    accepting_ = &k;
    const sse::accept_result result =
        chance(2) ? hub_->accept({peer_index}, r) : hub_->accept({peer_index}, r, take_verdict());
    accepting_ = nullptr;
    k.conn.accepting = false;
    const bool watched = quiet_;
    quiet_ = false;
    if (static_cast<bool>(result) != (expected != admission::refuse))
      fail("accept: another verdict than that of the caps, " +
           std::to_string(result.refusal.status));
    if (result && !(result.id == k.conn.session)) fail("accept: a wrong id");
    if (watched && !result && !evicted_now_.empty()) fail("somebody was evicted for nobody");
    if (watched && result && evicted_now_ != victims_)
      fail("not the oldest were evicted, " + std::to_string(evicted_now_.size()) + " instead of " +
           std::to_string(victims_.size()));
    evicted += evicted_now_.size();
    if (result && how_.resume) ++reconnects;
    if (!result) k.conn.open = false;
  }

  /// It brings an id that it has from somewhere else.
  void adopt_position(client& k, std::uint64_t head) {
    k.forget();
    k.has_position = true;
    switch (random_.below(4)) {
      case 0: k.last = 0; break;
      case 1: k.last = head + 1 + random_.below(100); break;
      default: k.last = random_.below(head + 1); break;
    }
    for (const int c : k.channels) {
      const std::uint64_t reopened_at = book_.at(c).reopened_at;
      if (!features_.reopened_goes_on && k.last != 0 && k.last < reopened_at) k.last = reopened_at;
    }
    k.scan = book_.above(k.channels[0], k.last);
    for (const int c : k.channels) {
      k.values_owed[at(c)] = false;
      k.floor[at(c)] = 0;
    }
  }

  /// Inside accept: from here on everything that is published is owed.
  void session_begins(std::size_t peer_index, sse::session_id id) noexcept override {
    if (accepting_ == nullptr || accepting_->conn.peer != peer_index)
      return wrong("a session that nobody asked for");
    client& k = *accepting_;
    connection& n = k.conn;
    n.open = true;
    n.session = id;
    n.opened_at = n.last_bytes_at = now_;
    n.retry_only = how_.retry_only;
    if (id.slot >= by_slot_.size()) by_slot_.resize(id.slot + 1);
    by_slot_[id.slot] = &k;
    sessions_.push_back({&k, k.user, k.address, !n.retry_only});
    if (n.retry_only) return;
    n.ahead = how_.resume && how_.numbered && k.last > channels_[at(k.channels[0])].last_id();
    if (n.ahead) {
      for (const int c : k.channels) k.floor[at(c)] = book_.last();
      for (const int c : k.channels) k.values_owed[at(c)] = false;
      k.scan = book_.sequence(k.channels[0]).size();
    } else if (how_.resume) {
      const std::size_t past = book_.above(k.channels[0], k.last);
      if (past > k.scan) k.scan = past;
    }
    n.beats_allowed = 20 * (k.channels.size() + 1);
    for (const int c : k.channels) {
      joined j;
      j.channel = c;
      const sse::channel_options& o = *channels_[at(c)].options();
      const bool values =
          o.on_lag == sse::lag_policy::coalesce || o.start == sse::start_at::snapshot;
      j.asks_archive = shapes[c].archive && k.channels.size() == 1;
      j.beats = o.heartbeat.mode == sse::heartbeat_options::pace::fixed;
      j.over_transient = j.beats;
      if (values || j.asks_archive) n.ordered = false;
      n.channels.push_back(j);
      if (k.user >= 0) ++joined_[at(k.user)][at(c)];
    }
    judge_.begin(k, how_.start, how_.newest);
  }

  void session_ends(std::size_t peer_index, sse::close_reason why) noexcept override {
    for (std::size_t i = 0; i < sessions_.size(); ++i) {
      client& k = *sessions_[i].who;
      if (k.conn.peer != peer_index || !k.conn.open) continue;
      if (k.user >= 0 && !k.conn.retry_only) {
        for (const joined& j : k.conn.channels) --joined_[at(k.user)][at(j.channel)];
      }
      if (why == sse::close_reason::evicted && accepting_ == nullptr)
        wrong("evicted without a newcomer");
      // the peer of one that is to be evicted may turn out to be gone
      if (accepting_ != nullptr && &k != accepting_) evicted_now_.push_back(&k);
      if (why == sse::close_reason::no_memory) wrong("memory is out");
      if (why == sse::close_reason::hub_full && held_before_ <= options_.max_backlog)
        wrong("closed for memory that is not held");
      if (why == sse::close_reason::lag) {
        bool late = false;
        for (const joined& j : k.conn.channels) late = late || j.over || j.over_transient;
        if (!late) wrong("closed for a lag that it never had");
      }
      sessions_.erase(sessions_.begin() + static_cast<std::ptrdiff_t>(i));
      return;
    }
    wrong("a session ended that nobody had");
  }

  void wrong(const char* what) noexcept override {
    if (wrong_.empty()) wrong_ = what;
  }

  /// The client takes `n` bytes off its socket.
  void read(client& k, std::size_t n) {
    connection& c = k.conn;
    std::string& got = peer(k).received;
    if (n > got.size()) n = got.size();
    if (n == 0) return;
    c.last_bytes_at = now_;
    std::string taken = n == got.size() ? std::exchange(got, {}) : got.substr(0, n);
    if (!got.empty()) got.erase(0, n);
    std::string_view bytes = taken;
    const std::size_t head = bytes.size() < c.head_left ? bytes.size() : c.head_left;
    if (bytes.substr(0, head) != std::string_view("HEAD\n").substr(5 - c.head_left, head))
      fail("a broken response head");
    c.head_left -= head;
    bytes.remove_prefix(head);
    std::string body;
    if (c.chunked) {
      c.chunks.feed(bytes, body);
      bytes = body;
    }
    c.frames.feed(bytes, [&](const frame& f) { judge_.on_frame(k, f); });
  }

  /// The stream is over. Cut anywhere: what was not read yet may be lost.
  void leave(client& k) {
    sse::testing::peer& p = peer(k);
    const bool whole = p.received.empty() || chance(2);
    read(k, whole ? SIZE_MAX : random_.below(p.received.size()));
    const bool clean = p.why == sse::close_reason::finished || p.why == sse::close_reason::age ||
                       p.why == sse::close_reason::idle;
    if (whole && clean) {
      if (k.conn.frames.inside()) fail("a clean end inside an event");
      if (features_.skipped_ends_cleanly && k.conn.chunked && !k.conn.chunks.ended())
        fail("a clean end without the last chunk");
    }
    if (k.conn.moves_later) k.forget();
    if (p.in_flight_bytes != 0 || !k.conn.peeked.empty())
      zombies_.push_back({k.conn.peer, k.conn.session, std::move(k.conn.peeked)});
    std::string().swap(p.received);
    k.conn = {};
  }

  /// Sees who was closed.
  void sync() {
    for (client& k : clients_) {
      if (k.conn.open && peer(k).is_closed) leave(k);
    }
    if (!wrong_.empty()) fail(wrong_);
  }

  void take_peeked(const std::vector<sse::buffer>& peeked, std::size_t n, std::string& to) {
    for (const sse::buffer& b : peeked) {
      const std::size_t part = b.size < n ? b.size : n;
      to.append(b.data, part);
      n -= part;
    }
  }

  /// The client's socket takes bytes.
  void deliver(client& k) {
    if (!k.conn.open) return;
    sse::testing::peer& p = peer(k);
    const sse::session_id id = k.conn.session;
    log_.add("deliver", k.number);
    if constexpr (completes) {
      if (!k.conn.peeked.empty()) {
        std::size_t all = 0;
        for (const sse::buffer& b : k.conn.peeked) all += b.size;
        const std::size_t n = chance(3) ? random_.below(all + 1) : all;
        take_peeked(k.conn.peeked, n, p.received);
        k.conn.peeked.clear();
        k.conn.waits = false;
        hub_->consume(id, n);
      } else if (p.in_flight_bytes != 0) {
        if (chance(3)) hub_->writable(id);  // means nothing while a write is pending
        if (chance(4)) return;
        const std::size_t n = chance(3) ? random_.below(p.in_flight_bytes + 1) : SIZE_MAX;
        k.conn.waits = false;
        hub_->written(id, net_->complete(k.conn.peer, n));
      } else if (chance(3)) {
        sse::buffer room[8];
        const std::size_t n = hub_->peek(id, {room, 1 + random_.below(8)});
        if (k.conn.open && !p.is_closed) k.conn.peeked.assign(room, room + n);
        return;
      }
    }
    p.window = chance(4)
                   ? SIZE_MAX
                   : (p.window > SIZE_MAX - 5000 ? p.window
                                                 : p.window + random_.below(chance(2) ? 5000 : 60));
    if (p.window != 0) {
      k.conn.waits = false;
      hub_->writable(id);
    }
    read(k, random_.below(6000));
  }

  void complete_zombies() {
    if constexpr (completes) {
      for (zombie& z : zombies_) {
        std::string scratch;
        if (net_->at(z.peer).in_flight_bytes != 0) {
          hub_->written(z.session, net_->complete(z.peer, chance(2) ? SIZE_MAX : 0));
        } else {
          take_peeked(z.peeked, SIZE_MAX, scratch);  // they must live until now
          hub_->consume(z.session, chance(2) ? scratch.size() : 0);
        }
        std::string().swap(net_->at(z.peer).received);
      }
      zombies_.clear();
    }
  }

  // --- hooks -------------------------------------------------------------------------------------

  [[nodiscard]] client* owner(sse::session_id id) {
    if (id.slot >= by_slot_.size() || by_slot_[id.slot] == nullptr) return nullptr;
    client* k = by_slot_[id.slot];
    return k->conn.session == id ? k : nullptr;
  }

  void on_gap(const sse::gap_notice& g) {
    ask_in_flush();
    client* k = owner(g.session);
    int channel = -1;
    for (int c = 0; c < channel_count; ++c) {
      if (channels_[at(c)] && channels_[at(c)] == g.where) channel = c;
    }
    if (k == nullptr || channel < 0) return wrong("a gap of nobody");
    if (const char* bad = judge_.judge_notice(*k, channel, g)) wrong(bad);
    k->conn.notices.push_back(g);
    k->conn.notice_channels.push_back(channel);
  }

  void on_opened(sse::session_id id) {
    if (accepting_ == nullptr || !(accepting_->conn.session == id))
      wrong("on_opened of another session");
    act(features_.hooks_end_streams, accepting_);
  }

  void on_presence(sse::channel c, std::string_view key, bool present) {
    for (int u = 0; u < user_count; ++u) {
      if (key != user_name(u)) continue;
      for (int i = 0; i < channel_count; ++i) {
        if (shapes[i].name != c.name()) continue;
        if (present_[at(u)][at(i)] == present) wrong("presence told twice");
        present_[at(u)][at(i)] = present;
      }
    }
    // Where hooks may not end streams, the first transient event ends those that wait for it: then
    // the next one's absence is told before this one's.
    if (features_.hooks_end_streams || present) act(features_.hooks_end_streams);
  }

  /// A hook that does something. `ends`: also what ends streams.
  void act(bool ends, client* self = nullptr) {
    if (quiet_ || hook_depth_ > 2 || !chance(7)) return;
    ++hook_depth_;
    ++hook_calls;
    client& k = self != nullptr && chance(2) ? *self : any_client();
    switch (random_.below(ends ? 11 : 5)) {
      case 0:
      case 1:
      case 2: publish(); break;
      case 3: publish_to(k.channels.empty() ? 0 : k.channels[0]); break;
      case 4: send(k); break;
      case 5:
      case 6:
        if (k.conn.open) hub_->close(k.conn.session);
        break;
      case 7: hub_->revoke(user_name(pick(user_count))); break;
      case 8:
        if (k.conn.open) hub_->finish(k.conn.session);
        break;
      case 9:
        if (chance(20)) hub_->close_all();
        break;
      case 10:
        if (chance(150)) hub_->drain({.deadline = sse::duration::seconds(3)});
        break;
    }
    --hook_depth_;
  }

  /// A hook inside a flush asks the hub for something: that must be refused.
  void ask_in_flush() {
    if (!features_.flush_hooks_refused || quiet_ || !chance(200)) return;
    ++hook_calls;
    const int c = pick(channel_count);
    switch (random_.below(4)) {
      case 0:
        if (channels_[at(c)] && channels_[at(c)].publish({.type = "e", .data = "from a hook"}))
          wrong("a hook inside a flush could publish");
        break;
      case 1:
        if (hub_->revoke(user_name(pick(user_count))) != 0)
          wrong("a hook inside a flush could revoke");
        break;
      case 2: {
        client& k = any_client();
        if (k.conn.open && hub_->send(k.conn.session, {.data = "x"}) == sse::publish_error::none)
          wrong("a hook inside a flush could send");
        break;
      }
      default: {
        client& k = any_client();
        const bool alive = k.conn.open && hub_->alive(k.conn.session);
        if (k.conn.open) hub_->close(k.conn.session);
        if (alive && !hub_->alive(k.conn.session)) wrong("a hook inside a flush could close");
      }
    }
  }

  /// An archive of all that was ever published there.
  sse::backfill_state on_backfill(int c, const sse::backfill_request& r, sse::backfill_writer& w) {
    ask_in_flush();
    client* k = owner(r.session);
    if (k == nullptr || r.after >= r.before || r.room == 0) {
      wrong("a strange backfill request");
      return sse::backfill_state::lost;
    }
    ++backfills;
    log_.add("backfill", k->number, static_cast<std::int64_t>(r.after));
    if (chance(5)) {
      k->conn.waits = true;
      return sse::backfill_state::wait;
    }
    if (chance(40)) return sse::backfill_state::lost;
    if (chance(8)) return sse::backfill_state::more;
    const channel_book& b = book_.at(c);
    std::uint32_t i = book_.row_above(c, r.after);
    for (; i < b.rows.size(); ++i) {
      const published& e = book_.row(c, i);
      if (e.id >= r.before) break;
      if (!judge_.visible(*k, e)) continue;
      if (w.bytes() >= r.room || (w.bytes() != 0 && chance(10))) return sse::backfill_state::more;
      const std::string data = book_.data_of(b.rows[i]);
      if (!w.add(e.id, {.type = "e", .data = data})) {
        wrong("a backfill event was refused");
        return sse::backfill_state::lost;
      }
    }
    return sse::backfill_state::done;
  }

  // --- steps -------------------------------------------------------------------------------------

  void step() {
    client& k = any_client();
    switch (random_.below(44)) {
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
      case 15: flush(); break;
      case 16:
        if (chance(2)) settle();
        break;
      case 17: tick(static_cast<std::int64_t>(random_.below(3000))); break;
      case 18:
        if (chance(20)) {
          tick(static_cast<std::int64_t>(random_.below(60'000)));
        } else if (chance(100)) {
          jump();
        }
        break;
      case 19:  // the peer goes
        if (k.conn.open && chance(3)) {
          log_.add("peer gone", k.number);
          hub_->closed(k.conn.session);
        }
        break;
      case 20:  // it goes, and only a write finds out
        if (k.conn.open && chance(3)) peer(k).fails = true;
        break;
      case 21:  // it stalls
        if (k.conn.open) peer(k).window = 0;
        break;
      case 22: send(k); break;
      case 23:
        if (chance(10)) revoke(k.user);
        break;
      case 24:
        if (k.conn.open && chance(10)) {
          log_.add("finish", k.number);
          hub_->finish(k.conn.session);
        }
        break;
      case 25:
        if (chance(200)) drain();
        break;
      case 26:
        if (chance(150)) restart();
        break;
      case 27: complete_zombies(); break;
      case 28:
        if (chance(12)) close_channel(pick(channel_count));
        break;
      case 29:
        if (chance(3)) reopen_channels();
        break;
      case 30: use_old_handles(); break;
      case 31:
        if (chance(10)) publish_badly();
        break;
      case 32: {  // a burst, at best where somebody who is open does not read
        const bool somewhere = k.channels.empty() || chance(3);
        const int c = somewhere ? pick(channel_count) : k.channels[0];
        if (k.conn.open && chance(2)) peer(k).window = 0;
        for (std::uint64_t n = random_.below(chance(10) ? 400 : 40); n > 0; --n) publish_to(c);
        flush();
        break;
      }
      default: publish(); break;
    }
    sync();
    check();
    if (hub_->draining()) drain();  // a hook began it
  }

  bool flush_hub() {
    held_before_ = hub_->stats().log_bytes;
    return hub_->flush();
  }

  void flush() {
    log_.add("flush");
    flush_hub();
    sync();
    for (client& k : clients_) {
      if constexpr (completes) {
        if (k.conn.open && k.conn.peeked.empty() && chance(2)) deliver(k);
      }
      if (k.conn.open && !peer(k).received.empty() && chance(2)) read(k, random_.below(4000));
    }
  }

  /// Everybody gets all that can be sent, and reads it: who can take more has nothing to wait for.
  void settle() {
    log_.add("settle");
    serial before = 0;
    std::uint64_t calls = 0;
    int turns = 0;
    do {  // what a hook publishes at the end of a flush goes out with the next one
      before = book_.last();
      calls = hook_calls;
      if (++turns == 100'000) fail("flush has always more to do");
    } while (flush_hub() || book_.last() != before || hook_calls != calls);
    sync();
    for (client& k : clients_) {
      if (!k.conn.open) continue;
      read(k, SIZE_MAX);
      if (!takes_all(k)) continue;
      judge_.caught_up(k);
      check_deadlines(k);
    }
  }

  [[nodiscard]] bool takes_all(const client& k) {
    const sse::testing::peer& p = peer(k);
    return !k.conn.waits && p.window != 0 && p.in_flight_bytes == 0 && k.conn.peeked.empty();
  }

  void check_deadlines(const client& k) {
    const sse::duration age = options_.max_age;
    if (!age.is_off() && now_ - k.conn.opened_at > age.ms()) fail("a stream outlived max_age");
    if (k.conn.retry_only) fail("a retry stream that does not end");
    for (const joined& j : k.conn.channels) {
      const sse::heartbeat_options& h = channels_[at(j.channel)].options()->heartbeat;
      if (h.mode == sse::heartbeat_options::pace::idle &&
          now_ - k.conn.last_bytes_at > 2 * h.every.ms())
        fail("an idle stream without a heartbeat");
    }
  }

  void jump() {
    const std::int64_t most = features_.long_jumps ? 200 * day : 20 * day;
    tick(static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(most))));
    settle();
  }

  void revoke(int user) {
    if (user < 0) return;
    log_.add("revoke", user);
    std::size_t expected = 0;
    for (const live_session& s : sessions_) expected += s.user == user && s.counted ? 1U : 0U;
    if (hub_->user_sessions(user_name(user)) != expected) fail("user_sessions");
    quiet_ = true;
    const std::size_t n = hub_->revoke(user_name(user));
    quiet_ = false;
    if (n != expected) fail("revoke ended another number of streams");
    if (hub_->user_sessions(user_name(user)) != 0) fail("a revoked user still counts");
    for (client& k : clients_) {
      if (k.conn.open && k.user == user && !k.conn.retry_only && !peer(k).is_closed)
        fail("a stream of a revoked user");
    }
  }

  /// Handles of sessions that are no more name nobody.
  void use_old_handles() {
    client& k = any_client();
    if (k.conn.open) {
      old_.push_back(k.conn.session);
      if (old_.size() > 20) old_.erase(old_.begin());
      return;
    }
    if (old_.empty()) return;
    const sse::session_id id = old_[random_.below(old_.size())];
    const client* now = owner(id);
    if (now != nullptr && now->conn.open) return;
    for (const zombie& z : zombies_) {
      if (z.session == id) return;
    }
    if (hub_->alive(id) || hub_->user(id) != nullptr || hub_->find(id) != nullptr)
      fail("an old handle names somebody");
    hub_->writable(id);
    hub_->written(id, 5);
    hub_->finish(id);
    hub_->close(id);
    hub_->closed(id);
    if (hub_->send(id, {.data = "x"}) != sse::publish_error::no_session) fail("send to nobody");
  }

  void drain() {
    log_.add("drain");
    hub_->drain({.deadline = sse::duration::seconds(3), .farewell = {.type = "bye"}});
    for (int i = 0; i < 5; ++i) {
      for (client& k : clients_) deliver(k);
      flush();
    }
    tick(3001);
    flush_hub();
    sync();
    complete_zombies();
    for (client& k : clients_) {
      if (k.conn.open) fail("a stream outlived the drain's deadline");
    }
    if (!hub_->drained() || hub_->sessions() != 0) fail("not drained");
    restart();
  }

  void restart() {
    log_.add("restart");
    for (client& k : clients_) {
      if (k.conn.open && chance(2)) read(k, SIZE_MAX);
    }
    for (int c = 0; c < channel_count; ++c) {
      if (channels_[at(c)]) last_head_[at(c)] = channels_[at(c)].last_id();
      if (last_head_[at(c)] > first_id_) first_id_ = last_head_[at(c)];
    }
    stop_hub();
    start_hub();
  }

  void stop_hub() {
    quiet_ = true;
    hub_.reset();
    quiet_ = false;
    zombies_.clear();
    old_.clear();
    for (client& k : clients_) k.conn.peeked.clear();
    sync();
    if (!sessions_.empty()) fail("a session outlived its hub");
    zombies_.clear();
    channels_ = {};
    facts_.options = {};
    net_.reset();
  }

  void check() {
    if (hub_->sessions() > 20) fail("more sessions than the total cap");
    if (++checks_ % 16 != 0) return;
    for (int u = 0; u < user_count; ++u) {
      for (int c = 0; c < channel_count; ++c) {
        if (present_[at(u)][at(c)] != (joined_[at(u)][at(c)] != 0)) fail("presence is wrong");
      }
    }
    std::uint64_t bound = options_.max_backlog + (std::uint64_t{3} << 20);
    for (int c = 0; c < channel_count; ++c) {
      if (!channels_[at(c)]) continue;
      bound += 2 * book_.at(c).kept_bytes + 4 * channels_[at(c)].options()->max_lag % (1U << 20) +
               (64 << 10);
    }
    if (hub_->stats().log_bytes > bound)
      fail("the logs hold " + std::to_string(hub_->stats().log_bytes));
  }

  /// Every client comes back once and gets all that it may; then all go and nothing stays behind.
  void end() {
    for (int c = 0; c < channel_count; ++c) {
      if (!channels_[at(c)]) open_channel(c);
    }
    quiet_ = true;
    for (client& k : clients_) {
      connect(k);
      quiet_ = true;
    }
    for (int round = 0; round < 40; ++round) {
      for (client& k : clients_) {
        if (!k.conn.open) continue;
        peer(k).max_write = SIZE_MAX;
        for (int i = 0; i < 3 && k.conn.open && !peer(k).is_closed; ++i) deliver(k);
        if (k.conn.open && chance(2)) peer(k).window = SIZE_MAX;
      }
      settle();
    }
    for (client& k : clients_) {
      if (k.conn.open) hub_->closed(k.conn.session);
    }
    sync();
    complete_zombies();
    for (int c = 0; c < channel_count; ++c) close_channel(c);
    flush_hub();
    const sse::hub_stats s = hub_->stats();
    std::uint64_t closed = 0;
    for (const std::uint64_t n : s.closed) closed += n;
    if (s.sessions != 0 || closed != s.accepted)
      fail("slots leaked: " + std::to_string(s.sessions) + " open, " + std::to_string(s.accepted) +
           " accepted, " + std::to_string(closed) + " closed");
    const std::uint64_t before = live_heap();
    hub_.reset();
    const std::uint64_t held = before - live_heap();
    if (before != 0 && held > most_held)
      fail("an empty hub holds " + std::to_string(held) + " bytes");
  }
  /// Spare segments, and tables for the sessions and channels of before.
  static constexpr std::uint64_t most_held = 2'500'000;

  struct how_to_join {
    bool resume = false;
    bool numbered = false;  ///< some channel has ids
    bool by_verdict = false;
    bool start_given = false;
    bool retry_only = false;
    std::uint64_t after = 0;
    std::uint64_t newest = 0;
    sse::start_at start = sse::start_at::live;
  };

  features features_;
  test::random_source random_;
  std::size_t steps_;
  book book_;
  std::array<sse::channel_options, channel_count> plain_options_{};
  hub_facts facts_;
  judge judge_;
  step_log log_;
  std::string wrong_;
  std::array<client, client_count> clients_;
  std::vector<live_session> sessions_;  // in the order of their beginning
  std::vector<client*> by_slot_;
  std::vector<client*> victims_;  ///< who has to go for the one that is accepted
  std::vector<client*> evicted_now_;
  std::vector<zombie> zombies_;
  std::vector<sse::session_id> old_;
  std::array<std::array<bool, channel_count>, user_count> present_{};
  std::array<std::array<int, channel_count>, user_count> joined_{};
  std::array<std::uint64_t, channel_count> last_head_{};
  std::array<sse::channel, channel_count> channels_{};
  sse::hub_options options_;
  how_to_join how_;
  client* accepting_ = nullptr;
  std::uint64_t first_id_ = 1'000'000;
  std::uint64_t whispers_ = 0;
  std::uint64_t checks_ = 0;
  std::uint64_t held_before_ = 0;  ///< bytes of all logs when a flush began
  std::int64_t now_ = 1'000;
  int hook_depth_ = 0;
  bool quiet_ = false;      // hooks do nothing
  bool all_given_ = false;  // the shared sequence's ids
  std::unique_ptr<Transport> net_;
  std::unique_ptr<hub_type> hub_;
};

}  // namespace simulation
