// A journal's files under crashes at any call: power that goes with what was not synced lost, torn
// or reordered, and processes that are killed; four generations a seed.
//
//   SSEHUB_JOURNAL_SEED=n   replays a seed, which a failure prints
//   SSEHUB_JOURNAL_RUNS=n   seeds; default 1,000
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <sse/detail/journal/store.hpp>

#include "catch.hpp"
#include "crashing_files.hpp"
#include "environment.hpp"

namespace {

using sse::durability;
using sse::event_id;
using sse::journal_errc;
using sse::journal_event;
using sse::detail::journal_store;
using sse::detail::journal_survival;
using test::crashing_disk;
using test::crashing_files;

struct given {
  std::string bytes;
  std::string audience;
  std::string key;
  std::uint16_t channel;
  friend bool operator==(const given&, const given&) = default;
};

given of(const journal_event& e) {
  return {std::string{e.bytes}, std::string{e.audience}, std::string{e.key}, e.channel};
}
given of(const sse::mail& m) {
  return {std::string{m.event.data}, std::string{m.options.audience}, std::string{m.options.key},
          m.channel};
}

class world {
 public:
  explicit world(std::uint64_t seed) : random_{seed} {
    disk_.random = test::random_source{seed + 1};
    policy_ = static_cast<durability>(random_.below(4));
    settings_.segment_bytes = 400 + random_.below(4000);
    settings_.most_pending = 100'000;
    settings_.ids_at_once = 1 + random_.below(100);
    settings_.claims = policy_ >= durability::interval;
    settings_.survives = policy_ == durability::none ? journal_survival::nothing
                         : settings_.claims          ? journal_survival::power_lost
                                                     : journal_survival::killed;
    if (random_.below(3) == 0) settings_.keep_bytes = 1000 + random_.below(20'000);
    if (random_.below(4) == 0) settings_.keep_events = 1 + random_.below(200);
  }

  void run() {
    for (int generation = 0; generation < 4; ++generation) {
      live(generation);
      const bool power = random_.below(3) != 0;
      power_ = power;
      // Nobody is told of what was not promised to survive the loss of power.
      const std::map<event_id, given>& whatever = settings_.claims ? shown_ : synced_;
      owed_ = power || policy_ == durability::none ? whatever : shown_;
      if (power) {
        disk_.lose_power();
      } else {
        disk_.be_killed();
      }
      if (random_.below(3) == 0) {  // it crashes while it starts, too
        crashing_files files{disk_};
        journal_store store{files, settings_};
        disk_.calls_left = random_.below(40);
        clean_ = 0;
        sse::journal_start found;
        (void)store.open_to_write(now_, 0, found);
        if (random_.below(2) != 0) {
          disk_.lose_power();
          power_ = true;
          owed_ = whatever;
        } else {
          disk_.be_killed();
        }
      }
    }
    live(4);
  }

 private:
  void live(int generation) {
    crashing_files files{disk_};
    journal_store store{files, settings_};
    sse::journal_start found;
    sse::journal_error e = store.open_to_write(now_, first_, found);
    if (e.what == journal_errc::corrupt && doubtful_) {  // the disk had said so
      disk_.be_killed();
      settings_.repair = true;
      live(generation);
      settings_.repair = false;
      return;
    }
    INFO(e.text);
    REQUIRE(e.what == journal_errc::none);
    look(store, found);
    disk_.calls_left = generation == 4 ? UINT64_MAX : random_.below(300);
    if (random_.below(4) == 0 && generation != 4)
      disk_.fail_one_in = 5 + static_cast<std::uint32_t>(random_.below(30));
    event_id next = found.next;
    const int steps = 5 + static_cast<int>(random_.below(60));
    for (int i = 0; i < steps && disk_.calls_left != 0; ++i) {
      now_ += static_cast<std::int64_t>(random_.below(100));
      const std::uint64_t n = random_.below(8);
      auto batch = std::make_unique<sse::detail::journal_batch>();
      const bool alike = random_.below(3) == 0;
      for (std::uint64_t k = 0; k < n && store.pending_bytes() + batch->size() < 50'000; ++k)
        add(*batch, next++, alike);
      if (!batch->empty()) store.take(std::move(batch));
      step(store);
      if (random_.below(10) == 0) look_around(store);
    }
    if (random_.below(3) == 0) {
      while (!store.pending().empty() && disk_.calls_left != 0) step(store);
      if (store.pending().empty() && store.end_run(now_) == 0) clean_ = next - 1;
    }
  }

  void add(sse::detail::journal_batch& batch, event_id id, bool simple) {
    const std::string number = std::to_string(id);
    given g{"id: " + number + "\ndata: " + std::string(random_.below(90), 'x') + "\n\n",
            !simple && random_.below(4) == 0 ? "ann" : "",
            !simple && random_.below(4) == 0 ? "key" : "",
            static_cast<std::uint16_t>(simple ? 1 : random_.below(3))};
    CHECK_FALSE(shown_.contains(id));  // no id is shown twice
    CHECK_FALSE(ever_.contains(id));
    batch.add({id, now_, g.channel, g.audience, g.key, g.bytes});
    accepted_[id] = std::move(g);
  }

  void step(journal_store& store) {
    if (store.claim_ids() != 0) return;
    if (policy_ == durability::none) {  // shown before it is written
      for (const auto& [id, g] : accepted_) show(id, g);
    }
    const event_id durable = store.durable();
    int e = 0;
    do {  // all, or the next batch only
      e = store.write();
    } while (e == 0 && store.has_unwritten() && now_ % 3 != 0);
    if (disk_.fail_one_in != 0 && !settings_.claims && store.durable() == durable) doubtful_ = true;
    if (e != 0) return;
    if (policy_ == durability::every_batch || (settings_.claims && random_.below(3) == 0)) {
      if (store.sync() != 0) return;
    } else if (settings_.claims) {
      return;
    }
    store.show([&](const journal_store::batch_ptr& b) {
      sse::detail::ordered_events::place at;
      for (sse::mail m; b->next(at, m);) {
        const event_id id = m.options.id;
        REQUIRE(accepted_.contains(id));
        CHECK(accepted_[id] == of(m));
        show(id, accepted_[id]);
        accepted_.erase(id);
      }
    });
    note_synced(store);
    (void)store.tell_head();
    if (store.trim(now_) == 0) look_behind(store);
    for (auto* all : {&shown_, &synced_}) all->erase(all->begin(), all->upper_bound(store.gone()));
  }
  void show(event_id id, const given& g) {
    shown_.emplace(id, g);
    ever_.emplace(id, g);
  }
  /// Whoever stands in front of what retention let go is told.
  void look_behind(const journal_store& store) {
    event_id oldest = 0;
    store.read(0, sse::max_event_id + 1, [&](const journal_event& e) {
      oldest = e.id;
      return false;
    });
    auto i = ever_.upper_bound(store.gone());
    if (oldest == 0 || i == ever_.begin() || --i == ever_.begin()) return;
    event_id from = 0;
    event_id first = 0;
    CHECK(store.loss_behind((--i)->first, from, first));
    CHECK(first == oldest);
  }
  /// Without claims: what closed files hold.
  void note_synced(const journal_store& store) {
    for (const auto& [id, g] : shown_) {
      if (id <= store.durable()) synced_.emplace(id, g);
    }
  }

  /// After a start: what was promised is there, and whoever saw something else is told.
  void look(journal_store& store, const sse::journal_start& found) {
    for (const auto& [id, g] : ever_) CHECK(id < found.next);
    if (clean_ != 0) {
      CHECK(found.clean);
      CHECK(found.next == clean_ + 1);
      clean_ = 0;
    }
    look_around(store);
    std::map<event_id, given> there;
    store.read(0, sse::max_event_id + 1, [&](const journal_event& e) {
      CHECK_FALSE(e.bytes.empty());
      there.emplace(e.id, of(e));
      return true;
    });
    for (const auto& [id, g] : owed_) {
      if (id > store.gone()) {
        CAPTURE(id);
        CHECK(there.contains(id));
      }
    }
    event_id from = 0;
    event_id first = 0;
    for (const auto& [id, g] : ever_) {
      if (there.contains(id)) continue;
      // A client that stands there comes back.
      CAPTURE(id);
      const bool all = id + 1 == found.next;  // it has everything that there was
      if (id < store.gone() || (id > found.recovered && !all))
        CHECK(store.loss_behind(id, from, first));
      // Whoever stands in front of it never got it, and is told too.
      const auto stands = there.lower_bound(id);
      if (stands == there.begin()) continue;
      CHECK(tells(store, std::prev(stands)->first, id));
      CHECK(tells(store, there.begin()->first, id));
    }
    // Nobody is told of a loss that cannot have been.
    const bool all = settings_.claims || (policy_ == durability::page_cache && !power_);
    if (all && found.recovered != 0 && found.recovered >= store.gone())
      CHECK(store.loss_behind(found.recovered, from, first) ==
            lost_behind_.contains(found.recovered));
    if (found.recovered != 0 && store.loss_behind(found.recovered, from, first))
      lost_behind_.insert(found.recovered);
    // What was never written may come again under another id.
    accepted_.clear();
    shown_ = there;
    synced_ = there;
    for (auto& [id, g] : there) ever_.emplace(id, g);
  }
  /// Who comes back with `after` is told, on its way, that `id` is lost.
  static bool tells(const journal_store& store, event_id after, event_id id) {
    event_id from = 0;
    event_id first = 0;
    while (after < id && store.loss_behind(after, from, first)) {
      if (from < id && id < first) return true;
      after = first - 1;
    }
    return false;
  }
  /// Ids rise, and everything is what was given.
  void look_around(journal_store& store) {
    event_id before = 0;
    store.read(0, sse::max_event_id + 1, [&](const journal_event& e) {
      CHECK(e.id > before);
      before = e.id;
      if (e.bytes.empty()) return true;  // the disk failed just now
      if (const auto i = ever_.find(e.id); i != ever_.end()) CHECK(i->second == of(e));
      return true;
    });
    CHECK(before <= store.newest());
    if (before != 0) {  // from the middle too
      const event_id from = random_.below(before + 1);
      event_id got = 0;
      store.read(from, sse::max_event_id + 1, [&](const journal_event& e) {
        got = e.id;
        return false;
      });
      if (from < before) CHECK(got > from);
    }
  }

  test::random_source random_;
  crashing_disk disk_;
  durability policy_{};
  journal_store::settings settings_;
  std::int64_t now_ = 1000;
  event_id first_ = 0;
  bool doubtful_ = false;           ///< a sync of what was shown may have failed
  bool power_ = false;              ///< it went, or else the process was killed
  std::set<event_id> lost_behind_;  ///< a start found these, and said that later ones may be lost
  event_id clean_ = 0;              ///< the last run ended by itself, with this id
  std::map<event_id, given> accepted_;  ///< by this run, not shown
  std::map<event_id, given> shown_;     ///< by this run, or there when it began
  std::map<event_id, given> synced_;
  std::map<event_id, given> ever_;  ///< shown by any run
  std::map<event_id, given> owed_;
};

}  // namespace

TEST_CASE("journal: nothing that was promised is lost by a crash, and no id comes twice",
          "[journal][simulation]") {
  const bool replay = std::getenv("SSEHUB_JOURNAL_SEED") != nullptr;
  const std::uint64_t first = test::from_environment("SSEHUB_JOURNAL_SEED", 1);
  const std::uint64_t runs = test::from_environment("SSEHUB_JOURNAL_RUNS", replay ? 1 : 1000);
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    CAPTURE(seed);
    world{seed}.run();
  }
}
