// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Keyed channels by turns: so many updates, then a reader takes so many bytes. What it gets is held
// against what was published: a key is silent for one pass over all keys at most, a value is the
// newest of its key when it is written, and all that was published is delivered, conflated or
// announced as lost. A barrier, here a trade, comes in order, behind a value of its key that is no
// older than it.
//
//   SSEHUB_KEYED_STEPS=n   updates of the random runs; default 200,000
#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "environment.hpp"
#include "random_source.hpp"
#include "stage.hpp"

namespace {

/// How a desk of `keys` is updated and read.
struct desk_plan {
  std::uint32_t keys = 500;
  std::uint32_t busy = 500;  ///< the first so many are updated in each turn,
  std::uint32_t others = 1;  ///< one of the others each so many turns
  std::uint32_t share = 256 << 10;
  std::size_t per_turn = 2000;   ///< bytes that the reader takes
  std::uint32_t keyless_in = 0;  ///< one event without a key in so many turns; 0: none
  std::uint64_t keep = 1'000'000;
  std::uint32_t chosen_in = 0;  ///< the reader chooses one of so many keys; 0: it reads the channel
  double max_rate = 0;          ///< of a reader that chooses; a turn takes 10 ms
  std::uint32_t erased_in = 0;  ///< one of so many updates of a key says that it is gone
  std::uint32_t trades_in = 0;  ///< a barrier behind one of so many updates of a key; 0: none
  std::uint32_t max_age = 0;    ///< turns after which a value is not sent any more; 0: any
};

/// What a reader got of it.
struct desk_result {
  std::uint64_t longest_wait = 0;  ///< turns from an update to a value at least as new
  std::uint64_t old_news = 0;      ///< values that were not the newest when they were begun
  std::uint64_t out_of_order = 0;  ///< values that were older than what it had, or the same
  std::uint64_t busiest = 0;       ///< how often key 0 came
  std::uint64_t values = 0;
  std::uint64_t keyless = 0;
  std::uint64_t keyless_wrong = 0;  ///< not the next one
  std::uint64_t gaps = 0;
  std::uint64_t lost = 0;     ///< values that were too old, as it was told
  std::uint64_t too_old = 0;  ///< values that were, and came
  std::uint64_t trades = 0;
  std::uint64_t trades_wrong = 0;  ///< not the next one, or without the value in front of it
  std::uint64_t updates = 0;
  std::uint64_t given_up = 0;  ///< values that came after their key was given up
};

/// `Stage`: its transport writes at once, or completes.
template <class Stage>
class basic_desk {
  static constexpr bool completes = std::is_same_v<Stage, test::completion_stage>;

 public:
  explicit basic_desk(const desk_plan& p)
      : plan_{p},
        stage_{{.session_stats = true, .flush_share = p.share}, typename Stage::as_given{}},
        keys_(p.keys) {
    sse::channel_options o = test::quiet(p.keep);
    o.on_lag = sse::lag_policy::coalesce;
    o.max_keys = p.keys;
    o.max_selected = p.keys;
    if (p.max_age != 0) o.max_value_age = sse::duration::milliseconds(10 * p.max_age);
    quotes_ = stage_.open("quotes", std::move(o));
    if (p.chosen_in == 0) {
      reader_ = stage_.join(quotes_, {.window = completes ? SIZE_MAX : 0});
      return;
    }
    std::vector<std::string> names;
    for (std::uint32_t k = 0; k < p.keys; ++k) {
      if (chosen(k)) names.push_back("k" + std::to_string(k));
    }
    const std::vector<std::string_view> views{names.begin(), names.end()};
    const sse::watch_options how{.keys = views, .only_keys = true, .max_rate = p.max_rate};
    reader_ = stage_.accept({.window = completes ? SIZE_MAX : 0}, sse::admit().join(quotes_, how));
  }
  [[nodiscard]] bool chosen(std::uint32_t k) const {
    return plan_.chosen_in == 0 || k % plan_.chosen_in == 0;
  }
  /// The reader gives a key up, or chooses it again: then what it has not got yet may come.
  void change(std::uint32_t k, bool on) {
    if (!chosen(k) || keys_[k].given_up != on) return;
    const std::string name = "k" + std::to_string(k);
    const std::string_view view = name;
    const auto error = on ? stage_.hub.select(reader_.id, quotes_, {&view, 1})
                          : stage_.hub.unselect(reader_.id, quotes_, {&view, 1});
    if (error != sse::select_error::none) ++result.gaps;
    keys_[k].given_up = !on;
    for (expected_trade& e : expected_) e.maybe = e.maybe || (!on && e.key == k);
    if (on) keys_[k].got = 0;
    keys_[k].may_come_twice = on && !held_.empty();  // what is half sent, and then as for one new
    // A value that was too old before it was chosen need not come.
    keys_[k].pending_since = on && keys_[k].version != 0 && plan_.max_age == 0 ? now_ : 0;
  }

  void turn() {
    ++now_;
    stage_.hub.tick(sse::time_point::milliseconds(static_cast<std::int64_t>(10 * now_)));
    for (std::uint32_t k = 0; k < plan_.busy; ++k) update(k);
    for (std::uint32_t k = plan_.busy; k < plan_.keys; ++k) {
      if ((now_ + k) % plan_.others == 0) update(k);
    }
    if (plan_.keyless_in != 0 && now_ % plan_.keyless_in == 0) put_keyless();
    stage_.flush();
    take(plan_.per_turn);
  }
  void update(std::uint32_t k) {
    key& x = keys_[k];
    ++x.version;
    if (chosen(k) && !x.given_up) {
      ++result.updates;
      if (x.pending_since == 0) x.pending_since = now_;
    }
    const std::string name = "k" + std::to_string(k);
    const std::string data = name + ";" + std::to_string(x.version) + ";" + std::string(70, 'x');
    x.erased = plan_.erased_in != 0 && x.version % plan_.erased_in == 0;
    x.since = now_;
    const auto role = x.erased ? sse::key_role::erase : sse::key_role::value;
    const sse::publish_result r =
        quotes_.publish({.type = "q", .data = data}, {.key = name, .role = role});
    if (!r) ++result.old_news;
    key_of_id_.resize(r.id + 1);
    key_of_id_[r.id] = k;
    x.id = r.id;
    if (plan_.trades_in != 0 && x.version % plan_.trades_in == 0) trade(k);
  }
  void trade(std::uint32_t k) {
    const std::string name = "k" + std::to_string(k);
    const std::string data = std::to_string(++trades_);
    if (!quotes_.publish({.type = "t", .data = data},
                         {.key = name, .role = sse::key_role::barrier}))
      ++result.trades_wrong;
    if (!chosen(k)) return;
    const bool maybe = keys_[k].given_up;
    result.trades += maybe ? 0 : 1;
    expected_.push_back({trades_, k, keys_[k].version, maybe, !maybe});
  }
  void put_keyless() { (void)quotes_.publish({.type = "fill", .data = std::to_string(++fills_)}); }
  void take(std::size_t bytes) {
    if constexpr (completes) {
      stage_.hub.written(reader_.id, stage_.net.complete(reader_.peer, bytes));
      stage_.flush();
    } else {
      stage_.let(reader_, bytes);
    }
    read();
    if (!completes) stage_.peer(reader_).window = 0;
  }
  /// It reads whatever there is; then nothing is pending.
  void take_all() {
    const auto pause = plan_.max_rate > 0 ? static_cast<std::uint64_t>(100 / plan_.max_rate) : 0;
    for (key& k : keys_) k.pending_since += k.pending_since != 0 ? pause : 0;  // nobody looks
    now_ += 1 + pause;
    stage_.hub.tick(sse::time_point::milliseconds(static_cast<std::int64_t>(10 * now_)));
    stage_.flush();
    do take(SIZE_MAX);
    while (completes && stage_.peer(reader_).in_flight_bytes != 0);
  }
  /// No more of them come.
  void end_trades() { pass_trades(UINT64_MAX); }
  /// Turns that a pass over all keys takes; a value or an id may be cut at its beginning and end.
  [[nodiscard]] std::uint64_t turns_of_a_pass() const {
    const std::size_t size = 12 + 6 + 1 + std::to_string(plan_.keys).size() + 22 + 70;
    const std::uint32_t read = plan_.chosen_in == 0 ? plan_.keys : plan_.keys / plan_.chosen_in + 1;
    const double pause = plan_.max_rate > 0 ? 100 / plan_.max_rate : 0;  // in turns
    return read * size / plan_.per_turn + 3 + static_cast<std::uint64_t>(pause);
  }
  [[nodiscard]] std::uint64_t waits() const {
    std::uint64_t n = 0;
    for (const key& k : keys_) n += k.pending_since != 0 ? 1U : 0U;
    return n;
  }
  [[nodiscard]] sse::channel_stats stats() const { return quotes_.stats(); }
  /// Of the reader.
  [[nodiscard]] sse::session_counts counts() const {
    return stage_.hub.session_stats(reader_.id, quotes_);
  }
  [[nodiscard]] std::uint64_t published() const { return result.updates + result.trades + fills_; }
  [[nodiscard]] std::uint64_t trades_came() const { return trades_came_; }
  /// Of updates that did not come yet, too.
  [[nodiscard]] std::uint64_t longest_wait() const {
    std::uint64_t longest = result.longest_wait;
    for (const key& k : keys_) {
      if (k.pending_since != 0) longest = (std::max)(longest, now_ - k.pending_since);
    }
    return longest;
  }
  desk_result result;

 private:
  struct key {
    std::uint64_t version = 0;
    std::uint64_t got = 0;
    std::uint64_t pending_since = 0;
    std::uint64_t since = 0;  ///< of its version
    sse::event_id id = 0;
    bool given_up = false;
    bool erased = false;
    bool may_come_twice = false;
  };
  struct expected_trade {
    std::uint64_t number;
    std::uint32_t key;
    std::uint64_t version;
    bool maybe;    ///< its key was given up, then or since
    bool counted;  ///< among result.trades
  };

  void read() {
    const std::string bytes = stage_.take(reader_);
    std::size_t at = 0;
    while (at < bytes.size()) {
      if (held_.empty()) {
        begun_ = next_version(bytes, at);
        begun_at_ = now_;
      }
      const std::size_t before = held_.size();
      held_.append(bytes, at);
      const std::size_t end = held_.find("\n\n", before < 2 ? 0 : before - 1);
      if (end == held_.npos) return;
      at += end + 2 - before;
      held_.resize(end + 2);
      frame(held_);
      held_.clear();
    }
  }
  /// A frame begins: the versions of all keys now, if it is cut; else it is looked at at once.
  std::vector<std::uint64_t> next_version(const std::string& bytes, std::size_t at) const {
    if (bytes.find("\n\n", at) != bytes.npos) return {};
    std::vector<std::uint64_t> now;
    for (const key& k : keys_) now.push_back(k.version);
    return now;
  }
  void frame(const std::string& text) {
    const std::size_t data = text.find("data: ");
    const bool of_trade = text.find("event: t\n") != text.npos;
    // A value that is not the newest belongs to the trade behind it.
    if (last_old_ != none && !of_trade) ++result.old_news;
    if (last_aged_ && !of_trade) ++result.too_old;
    if (!of_trade) last_old_ = none;
    last_aged_ = false;
    if (text.find("event: gap") != text.npos) return gap(text.substr(data + 6));
    if (data == text.npos) return;
    if (of_trade) return trade_came(std::stoull(text.substr(data + 6)));
    if (text.find("event: fill\n") != text.npos) {
      ++result.keyless;
      const std::uint64_t n = std::stoull(text.substr(data + 6));
      if (n != result.keyless) ++result.keyless_wrong;
    }
    if (text.find("event: q\n") == text.npos) return;
    const auto k = static_cast<std::uint32_t>(std::stoul(text.substr(data + 7)));
    const std::uint64_t version = std::stoull(text.substr(text.find(';', data) + 1));
    key& x = keys_[k];
    if (x.given_up) {  // it was begun before
      ++result.given_up;
      return;
    }
    ++result.values;
    if (!chosen(k)) ++result.old_news;
    if (k == 0) ++result.busiest;
    if (version < x.got || (version == x.got && !x.may_come_twice)) ++result.out_of_order;
    if (version == x.got) x.may_come_twice = false;
    if (version != (begun_.empty() ? x.version : begun_[k])) last_old_ = k;
    last_aged_ = is_old(x, begun_at_) && version == x.version;
    if (x.pending_since != 0)
      result.longest_wait = (std::max)(result.longest_wait, now_ - x.pending_since);
    x.got = version;
    x.pending_since = version == x.version ? 0 : now_;
  }

  [[nodiscard]] bool is_old(const key& x, std::uint64_t turn) const {
    return plan_.max_age != 0 && !x.erased && turn > x.since + plan_.max_age;
  }
  /// A value was too old: {"requested":its id - 1,...
  void gap(const std::string& data) {
    if (plan_.max_age == 0 || data.find("\"lost\":1}") == data.npos) {
      ++result.gaps;
      return;
    }
    ++result.lost;
    const sse::event_id id = std::stoull(data.substr(data.find(':') + 1)) + 1;
    key& x = keys_[key_of_id_[id]];
    if (x.id != id) return;  // a newer one came since it was begun
    if (!is_old(x, now_)) ++result.gaps;
    x.pending_since = 0;
  }
  /// Those in front of `number` that may have gone with their key did.
  void pass_trades(std::uint64_t number) {
    while (!expected_.empty() && expected_.front().maybe && expected_.front().number < number) {
      result.trades -= expected_.front().counted ? 1 : 0;
      expected_.pop_front();
    }
  }
  void trade_came(std::uint64_t number) {
    ++trades_came_;
    pass_trades(number);
    if (expected_.empty() || expected_.front().number != number) {
      ++result.trades_wrong;
      return;
    }
    const expected_trade e = expected_.front();
    expected_.pop_front();
    result.trades += e.counted ? 0 : 1;
    if (last_old_ != none && last_old_ != e.key) ++result.old_news;
    last_old_ = none;
    if (keys_[e.key].got < e.version && plan_.max_age == 0 && !e.maybe) ++result.trades_wrong;
  }

  static constexpr std::uint32_t none = UINT32_MAX;
  desk_plan plan_;
  Stage stage_;
  sse::channel quotes_{};
  test::caller reader_{};
  std::vector<key> keys_;
  std::uint64_t now_ = 0;
  std::uint64_t fills_ = 0;
  std::string held_;
  std::vector<std::uint64_t> begun_;
  std::uint64_t begun_at_ = 0;
  bool last_aged_ = false;         ///< the value that came last was too old, if it is not a trade's
  std::uint32_t last_old_ = none;  ///< key of a value that was not the newest
  std::vector<std::uint32_t> key_of_id_;
  std::deque<expected_trade> expected_;
  std::uint64_t trades_ = 0;
  std::uint64_t trades_came_ = 0;
};

using keyed_desk = basic_desk<test::stage>;

/// Nothing waits any more: what became of each event for the reader is known, also of keys that it
/// gave up and chose again.
template <class Desk>
void check_counts(Desk& d) {
  const sse::session_counts c = d.counts();
  const desk_result& r = d.result;
  CHECK(c.delivered + c.snapshot == r.values + r.given_up + r.keyless + d.trades_came());
  CHECK(d.published() == c.delivered + c.conflated + c.lost);
  CHECK(c.lost == r.lost);
  CHECK(r.too_old == 0);
  CHECK(r.trades == d.trades_came());
  CHECK(r.trades_wrong == 0);
}

/// Nothing waits any more: the sums are exact.
template <class Desk>
void check_sums(Desk& d) {
  for (int i = 0; i < 3; ++i) d.take_all();
  CHECK(d.waits() == 0);
  const sse::channel_stats s = d.stats();
  CHECK(s.delivered == d.result.values + d.result.keyless + d.trades_came());
  CHECK(d.published() == s.delivered + s.coalesced + s.dropped);
  CHECK(d.result.gaps == 0);
  check_counts(d);
}

}  // namespace

TEST_CASE("keyed: no key is silent for more than a pass, and no value is old when it is written",
          "[keyed][fault]") {
  const desk_plan plans[] = {
      {.keys = 500, .busy = 500},
      {.keys = 500, .busy = 500, .share = 4096},
      {.keys = 500, .busy = 1, .others = 40, .share = 4096},
      {.keys = 2000, .busy = 1, .others = 100},
      {.keys = 2000, .busy = 1, .others = 100, .share = 1},
      {.keys = 500, .busy = 500, .per_turn = 150},
      {.keys = 500, .busy = 500, .chosen_in = 1},
      {.keys = 5000, .busy = 5000, .chosen_in = 10},
      {.keys = 2000, .busy = 1, .others = 100, .share = 1, .chosen_in = 2},
      {.keys = 500, .busy = 500, .per_turn = 150, .chosen_in = 3},
      {.keys = 500, .busy = 500, .per_turn = 50'000, .chosen_in = 2, .max_rate = 4},
      {.keys = 500, .busy = 500, .chosen_in = 2, .max_rate = 20},
  };
  for (const desk_plan& p : plans) {
    CAPTURE(p.keys, p.busy, p.others, p.share, p.per_turn);
    keyed_desk d{p};
    const int turns = p.per_turn < 1000 ? 2000 : p.keys > 2000 ? 200 : 600;
    for (int i = 0; i < turns; ++i) d.turn();
    CHECK(d.result.old_news == 0);
    CHECK(d.result.out_of_order == 0);
    CHECK(d.longest_wait() <= d.turns_of_a_pass());
    CHECK(d.result.busiest + 2 >= static_cast<std::uint64_t>(turns) / d.turns_of_a_pass());
    check_sums(d);
  }
}

TEST_CASE("keyed: events without a key all come, in order, whatever else there is",
          "[keyed][fault]") {
  for (std::uint32_t i = 0; i < 6; ++i) {
    constexpr std::uint32_t shares[] = {1, 4096, 256 << 10};
    CAPTURE(i);
    keyed_desk d{
        {.keys = 300, .busy = 300, .share = shares[i % 3], .keyless_in = 3, .chosen_in = i / 3}};
    for (int turn = 0; turn < 600; ++turn) d.turn();
    CHECK(d.result.keyless == 200);
    CHECK(d.result.keyless_wrong == 0);
    CHECK(d.result.old_news == 0);
    check_sums(d);
  }
}

TEST_CASE("keyed: what is too old is told as lost, each value of it", "[keyed][age]") {
  for (const std::uint32_t chosen_in : {0U, 1U, 3U}) {
    CAPTURE(chosen_in);
    keyed_desk d{{.keys = 500,
                  .busy = 20,
                  .others = 100,
                  .per_turn = 200,
                  .chosen_in = chosen_in,
                  .erased_in = 5,
                  .trades_in = 70,
                  .max_age = 20}};
    for (int i = 0; i < 3000; ++i) d.turn();
    CHECK(d.result.lost > (chosen_in == 3 ? 0U : 100U));  // its passes are shorter
    CHECK(d.result.old_news == 0);
    CHECK(d.result.out_of_order == 0);
    check_sums(d);
  }
}

TEST_CASE("keyed: a barrier comes behind a value that is no older, for every reader",
          "[keyed][barrier]") {
  for (const std::uint32_t share : {1U, 4096U, 256U << 10}) {
    for (const std::uint32_t chosen_in : {0U, 1U, 3U}) {
      CAPTURE(share, chosen_in);
      keyed_desk d{{.keys = 300,
                    .busy = 300,
                    .share = share,
                    .keyless_in = 5,
                    .chosen_in = chosen_in,
                    .trades_in = 60}};
      for (int i = 0; i < 900; ++i) d.turn();
      CHECK(d.result.trades > 1000);
      CHECK(d.result.trades_wrong == 0);
      CHECK(d.result.old_news == 0);
      CHECK(d.result.out_of_order == 0);
      check_sums(d);
    }
  }
}

TEST_CASE("keyed: any number of keys, rates, reader speeds and flush shares",
          "[keyed][simulation]") {
  const std::uint64_t steps = test::from_environment("SSEHUB_KEYED_STEPS", 200'000);
  test::random_source random{test::from_environment("SSEHUB_SIM_SEED", 1)};
  for (std::uint64_t done = 0; done < steps;) {
    desk_plan p;
    p.keys = 1 + static_cast<std::uint32_t>(random.below(random.one_in(3) ? 3000 : 60));
    p.busy = static_cast<std::uint32_t>(random.below(p.keys + 1));
    p.others = 1 + static_cast<std::uint32_t>(random.below(200));
    constexpr std::uint32_t shares[] = {1, 300, 4096, 256 << 10};
    p.share = shares[random.below(4)];
    p.per_turn = 100 + random.below(random.one_in(2) ? 400 : 20'000);
    p.keyless_in = static_cast<std::uint32_t>(random.below(10));
    p.chosen_in = static_cast<std::uint32_t>(random.one_in(2) ? 0 : 1 + random.below(5));
    if (p.chosen_in != 0 && random.one_in(3))
      p.max_rate = 1 + static_cast<double>(random.below(50));
    p.erased_in = static_cast<std::uint32_t>(random.below(4));
    if (random.one_in(3)) {  // of keys that are not updated in each turn
      p.max_age = static_cast<std::uint32_t>(1 + random.below(60));
      p.busy /= 20;
    }
    if (random.one_in(2)) {  // with their values they take a quarter of what is read, at most
      const std::uint64_t updates = p.busy + (p.keys - p.busy) / p.others + 1;
      const std::uint64_t least = 1000 * updates / p.per_turn;
      p.trades_in = static_cast<std::uint32_t>(1 + least + random.below(50));
    }
    const bool changes = p.chosen_in != 0 && random.one_in(3);
    CAPTURE(p.keys, p.busy, p.others, p.share, p.per_turn, p.keyless_in, p.chosen_in, p.max_rate,
            p.erased_in, p.trades_in, p.max_age);
    keyed_desk d{p};
    // Who reads less than the events without a key take gets nothing else.
    const std::uint64_t all = (std::max<std::uint64_t>)(20'000, 4 * p.keys);
    for (std::uint64_t n = 0; d.result.updates < all && n < 10 * all; ++n) {
      d.turn();
      if (random.one_in(50)) d.take_all();
      for (std::uint64_t left = changes ? random.below(4) : 0; left != 0; --left)
        d.change(static_cast<std::uint32_t>(random.below(p.keys)), random.one_in(2));
    }
    done += 1 + d.result.updates;
    CHECK(d.result.old_news == 0);
    CHECK(d.result.out_of_order == 0);
    CHECK(d.result.keyless_wrong == 0);
    // What is no state comes first.
    const std::uint64_t passes = 1 + (p.keyless_in != 0 ? 2 : 0) + (p.trades_in != 0 ? 3 : 0);
    CHECK(d.longest_wait() <= d.turns_of_a_pass() * passes);
    if (!changes) {
      check_sums(d);
    } else {
      for (int i = 0; i < 3; ++i) d.take_all();
      CHECK(d.waits() == 0);
      CHECK(d.result.gaps == 0);
      d.end_trades();
      check_counts(d);
    }
  }
}

TEST_CASE("keyed: with a transport that completes no key is silent for more than a pass either",
          "[keyed][selection][completion]") {
  const desk_plan plans[] = {
      {.keys = 500, .busy = 500, .chosen_in = 1},
      {.keys = 500, .busy = 500, .per_turn = 150, .chosen_in = 1},
      {.keys = 500, .busy = 500, .per_turn = 300, .keyless_in = 9, .chosen_in = 3},
      {.keys = 2000, .busy = 1, .others = 100, .share = 4096, .chosen_in = 2},
      {.keys = 500, .busy = 500, .per_turn = 50'000, .chosen_in = 2, .max_rate = 4},
      {.keys = 500, .busy = 500, .chosen_in = 0},
  };
  for (const desk_plan& p : plans) {
    CAPTURE(p.keys, p.busy, p.per_turn, p.chosen_in, p.max_rate);
    basic_desk<test::completion_stage> d{p};
    for (int i = 0; i < (p.per_turn < 1000 ? 2000 : 600); ++i) d.turn();
    CHECK(d.result.out_of_order == 0);
    CHECK(d.result.keyless_wrong == 0);
    // What is in a write is as old as that write is long.
    CHECK(d.longest_wait() <= d.turns_of_a_pass() * 2 + 2);
    check_sums(d);
  }
}
