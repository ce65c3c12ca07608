// A seeded, deterministic run of shards in every order of turns: publishers, slow readers, cuts,
// and clients that resume on any shard. Each client checks that it gets every event that it may
// see, once, in order, and no gap that is not one. A failing seed is printed; SSEHUB_SIM_SEED=n
// replays it; SSEHUB_SIM_RUNS and SSEHUB_SIM_STEPS make it longer.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/parse.hpp>
#include <sse/shards.hpp>

#include "catch.hpp"
#include "environment.hpp"
#include "random_source.hpp"
#include "shards_stage.hpp"

namespace {

using test::random_source;

struct violation {
  std::string text;
};

struct published {
  std::string data;
  std::string audience;
};

struct reader {
  std::string user;
  std::optional<std::size_t> on{};  // a shard
  test::caller at{};
  std::size_t read = 0;  // bytes of the peer that were parsed
  bool has_last = false;
  std::uint64_t last = 0;
  bool asked_for_too_much = false;  // a gap is due
  std::uint64_t told = 0;  // what lies below may be gone: a gap frame of some channel said so
  sse::parser parser{};
};

class shards_simulation {
 public:
  shards_simulation(std::uint64_t seed, std::size_t steps)
      : random_{seed}, steps_{steps}, keep_{random_.one_in(3) ? 20U : 1'000'000U} {
    sequencer_ = std::make_unique<sse::sequencer>(
        sse::sequencer_options{.channels = {"a", "b"},
                               .channel =
                                   [this](std::string_view) {
                                     return sse::channel_options{.keep = keep_, .max_lag = 4000};
                                   },
                               .first_id = random_.below(3) * 1'000'000,
                               .lane_bytes = std::size_t{1024} << random_.below(4)});
    first_ = sequencer_->head();
    const std::size_t n = 1 + random_.below(4);
    for (std::size_t i = 0; i < n; ++i) {
      shards_.push_back(std::make_unique<test::shard_host>(
          *sequencer_, sse::shard_options{.hub = {.caps = {.per_user = {.max = 2}}, .seed = i}}));
      if (!*shards_.back()->shard) fail("a shard could not attach");
    }
    readers_.resize(12);
    for (std::size_t i = 0; i < readers_.size(); ++i) {
      readers_[i].user = "user-" + std::to_string(i % 5);
    }
  }

  void run() {
    for (std::size_t i = 0; i < steps_; ++i) step();
    end();
  }

  std::size_t delivered = 0, refused = 0, gaps = 0, moves = 0, caught_up = 0, capped = 0;

 private:
  [[noreturn]] void fail(std::string text) { throw violation{std::move(text)}; }

  void step() {
    switch (random_.below(12)) {
      case 0:
      case 1:
      case 2:
      case 3: publish(); break;
      case 4:
      case 5: turn(random_.below(shards_.size())); break;
      case 6:
      case 7: connect(readers_[random_.below(readers_.size())]); break;
      case 8: let(readers_[random_.below(readers_.size())]); break;
      case 9: look(readers_[random_.below(readers_.size())]); break;
      case 10:
        if (random_.one_in(2)) cut(readers_[random_.below(readers_.size())]);
        break;
      default:
        if (shards_.size() > 1 && random_.one_in(400)) end_shard(random_.below(shards_.size()));
    }
  }

  void publish() {
    const std::size_t channel = random_.below(2);
    const bool transient = random_.one_in(10);
    const std::string audience =
        random_.one_in(5) ? "user-" + std::to_string(random_.below(5)) : std::string{};
    const std::string data = std::to_string(published_.size()) +
                             std::string(random_.below(random_.one_in(9) ? 400 : 30), 'x');
    const sse::event_id before = sequencer_->head();
    const sse::publish_result r =
        sequencer_->publish(channel, {.type = transient ? "now" : "e", .data = data},
                            {.audience = audience, .transient = transient});
    if (r.error == sse::publish_error::full) {
      ++refused;
      ++counts_.full;
      if (sequencer_->head() != before) fail("an event that was refused took an id");
      turn(random_.below(shards_.size()));
      return;
    }
    if (r.error == sse::publish_error::too_large) {
      ++counts_.too_large;
      return;
    }
    if (!r) fail("publish: " + std::string{to_string(r.error)});
    ++counts_.accepted;
    if (transient) return;
    if (r.id != before + 1) fail("ids are not consecutive");
    published_[r.id] = {data, audience};
  }

  void turn(std::size_t i) {
    now_ += 1;
    shards_[i]->turn(now_);
  }

  void connect(reader& k) {
    if (k.on) return;
    const std::size_t i = random_.below(shards_.size());
    test::ask a{.key = k.user};
    k.asked_for_too_much = false;
    if (k.has_last) {
      std::uint64_t after = k.last;
      if (random_.one_in(20)) {
        after = sequencer_->head() + 1 + random_.below(1000);
        k.asked_for_too_much = true;
      }
      a.last_event_id = std::to_string(after);
      if (after == 0 && keep_ == 20) k.told = sequencer_->head() + 1;
      if (after > shards_[i]->shard->at(0).last_id() && after <= sequencer_->head()) ++caught_up;
    } else if (random_.one_in(2)) {
      a.query = "last_id=0";
    }
    if (random_.one_in(3)) a.window = random_.below(500);
    if (random_.one_in(3)) a.max_write = 1 + random_.below(50);
    const std::uint32_t held = sequencer_->caps().count(sse::cap_counter::kind::user, k.user);
    k.at = shards_[i]->join(a);
    if (!k.at) {
      if (k.at.refusal.status != 429 || held < 2) fail("refused: " + k.at.refusal.body);
      ++capped;
      return;
    }
    if (held >= 2) fail("over the cap per user");
    if (!k.has_last && !a.query.empty()) {
      k.has_last = true;
      k.last = published_.empty() || keep_ > 20 ? first_ : 0;
      if (keep_ == 20) k.told = sequencer_->head() + 1;  // what is retained, without a gap
    }
    ++moves;
    k.on = i;
    k.read = 0;
    k.parser = {};
  }

  sse::testing::peer& peer(reader& k) { return shards_[*k.on]->net->at(k.at.peer); }

  void let(reader& k) {
    if (!k.on) return;
    sse::testing::peer& p = peer(k);
    if (p.is_closed || p.window == SIZE_MAX) return;
    p.window += random_.below(2000);
    shards_[*k.on]->shard->hub().writable(k.at.id);
  }

  void look(reader& k) {
    if (!k.on) return;
    const std::string& got = peer(k).received;
    const std::string_view fresh = std::string_view{got}.substr(k.read);
    k.read = got.size();
    struct sink {
      shards_simulation& s;
      reader& k;
      void on_event(const sse::event& e) { s.receive(k, e); }
    } to{*this, k};
    (void)k.parser.feed(fresh, to);
  }

  void receive(reader& k, const sse::event& e) {
    if (e.type == "now" || (e.id.empty() && e.type != "gap")) return;
    const std::uint64_t id = e.id.empty() ? k.last : std::stoull(std::string{e.id});
    if (e.type == "gap") {  // of several only the last has an id
      ++gaps;
      if (keep_ > 20 && !k.asked_for_too_much)
        fail("a gap where nothing is gone: " + std::string{e.data});
      k.asked_for_too_much = false;
      k.has_last = true;
      k.last = id;
      const std::size_t first = e.data.find("\"first\":");
      if (first == e.data.npos) fail("a gap without its end: " + std::string{e.data});
      k.told = std::max<std::uint64_t>(k.told, std::stoull(std::string{e.data.substr(first + 8)}));
      return;
    }
    const auto it = published_.find(id);
    if (it == published_.end()) fail("an id that was never published");
    if (it->second.data != e.data) fail("another event's data");
    if (!it->second.audience.empty() && it->second.audience != k.user) fail("for other eyes");
    if (k.has_last && k.last >= id) fail("an event came twice or out of order");
    const bool may_skip = !k.has_last || k.asked_for_too_much;
    for (auto missed = published_.upper_bound(k.last); !may_skip && missed != it; ++missed) {
      const std::string& to = missed->second.audience;
      if (missed->first >= k.told && (to.empty() || to == k.user))
        fail("event " + std::to_string(missed->first) + " is missing");
    }
    k.asked_for_too_much = false;
    k.has_last = true;
    k.last = id;
    ++delivered;
  }

  /// The client's end, or the server's: what arrived, arrived.
  void cut(reader& k) {
    if (!k.on) return;
    look(k);
    if (!peer(k).is_closed) shards_[*k.on]->shard->hub().closed(k.at.id);
    k.on.reset();
  }

  void end_shard(std::size_t i) {
    for (reader& k : readers_) {
      if (k.on == i) cut(k);
      if (k.on && *k.on > i) --*k.on;
    }
    shards_.erase(shards_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  void end() {
    for (reader& k : readers_) {
      if (k.on && peer(k).is_closed) cut(k);
      connect(k);
      if (k.on) {
        peer(k).window = SIZE_MAX;
        shards_[*k.on]->shard->hub().writable(k.at.id);
      }
    }
    for (std::size_t i = 0; i < shards_.size(); ++i) turn(i);
    const bool accepted = static_cast<bool>(sequencer_->publish(0, {.type = "e", .data = "last"}));
    if (!accepted) fail("the lanes are not empty");
    ++counts_.accepted;
    published_[sequencer_->head()] = {"last", ""};
    for (std::size_t i = 0; i < shards_.size(); ++i) turn(i);
    for (reader& k : readers_) {
      if (!k.on) continue;
      look(k);
      if (!peer(k).is_closed && k.last != sequencer_->head()) fail("not everything came");
    }
    if (!(sequencer_->counts() == counts_)) fail("the sequencer's counts are wrong");
    sequencer_->drain();
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      turn(i);
      if (!shards_[i]->shard->hub().drained()) fail("a shard did not drain");
    }
    for (int i = 0; i < 5; ++i) {
      if (sequencer_->caps().count(sse::cap_counter::kind::user, "user-" + std::to_string(i)) !=
          0) {
        fail("a place in a cap did not come back");
      }
    }
  }

  random_source random_;
  std::size_t steps_;
  std::uint64_t keep_;
  std::uint64_t first_ = 0;
  std::int64_t now_ = 0;
  std::unique_ptr<sse::sequencer> sequencer_;
  std::vector<std::unique_ptr<test::shard_host>> shards_;
  std::vector<reader> readers_;
  std::map<std::uint64_t, published> published_;
  sse::mail_counts counts_{};
};

TEST_CASE("shards in every order of turns lose, double and invent nothing",
          "[shards][simulation]") {
  const std::uint64_t only = test::from_environment("SSEHUB_SIM_SEED", 0);
  const std::uint64_t runs = only != 0 ? 1 : test::from_environment("SSEHUB_SIM_RUNS", 60);
  const std::uint64_t steps = test::from_environment("SSEHUB_SIM_STEPS", 4000);
  std::size_t delivered = 0, refused = 0, gaps = 0, moves = 0, caught_up = 0, capped = 0;
  for (std::uint64_t i = 0; i < runs; ++i) {
    const std::uint64_t seed = only != 0 ? only : i + 1;
    try {
      shards_simulation s{seed, static_cast<std::size_t>(steps)};
      s.run();
      delivered += s.delivered;
      refused += s.refused;
      gaps += s.gaps;
      moves += s.moves;
      caught_up += s.caught_up;
      capped += s.capped;
    } catch (const violation& v) {
      FAIL("SSEHUB_SIM_SEED=" << seed << ": " << v.text);
    }
  }
  if (only == 0 && runs >= 60) {
    // What is to be checked did happen.
    CHECK(delivered > 1000);
    CHECK(refused > 100);
    CHECK(gaps > 100);
    CHECK(moves > 1000);
    CHECK(caught_up > 100);
    CHECK(capped > 10);
  }
}

}  // namespace
