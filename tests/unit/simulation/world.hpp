// The world of the simulation: a hub, its channels, clients that come and go, and a clock, driven
// step by step by random numbers. The judge (judge.hpp) looks at every byte that arrives.
//
// One class, told in rooms:
//
//   world.hpp        this file: all that it has, and all that it can do
//   hub.hpp          the hub and its channels
//   publishing.hpp   bytes in
//   hooks.hpp        what the hub calls
//   streams.hpp      how clients come, read and are cut
//   steps.hpp        the steps of a run, and what must hold; a test includes this one
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <sse/sse.hpp>

#include "../../random_source.hpp"
#include "book.hpp"
#include "client.hpp"
#include "features.hpp"
#include "judge.hpp"
#include "report.hpp"
#include "transports.hpp"

namespace simulation {

constexpr std::size_t client_count = 24;
constexpr int address_count = 5;
constexpr std::int64_t day = 24 * 3600 * 1000;

struct user_data {
  int number = -1;
};

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
  std::uint64_t joins = 0;
  std::uint64_t leaves = 0;
  std::uint64_t ended_by_seal = 0;
  std::uint64_t told_that_all_is_there = 0;  ///< 204
  std::uint64_t expired = 0;                 ///< sealed channels whose time was over

 private:
  using hub_type = sse::hub<Transport, user_data>;
  static constexpr bool completes = Transport::completes;

  [[nodiscard]] bool chance(std::uint64_t n) { return random_.one_in(n); }
  [[nodiscard]] int pick(int n) {
    return static_cast<int>(random_.below(static_cast<std::uint64_t>(n)));
  }
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  [[nodiscard]] client& any_client() { return clients_[random_.below(client_count)]; }
  [[nodiscard]] sse::testing::peer& peer(const client& k) { return net_->at(k.conn.peer); }

  // hub.hpp
  void start_hub();
  [[nodiscard]] sse::when_full any_full();
  [[nodiscard]] sse::id_mode ids_of(int c) const;
  void open_channel(int c, bool first_time = false);
  [[nodiscard]] static sse::channel_options plain_copy(const sse::channel_options& o);
  void close_channel(int c);
  void on_channel_closed(sse::channel closed);
  void forget_closed();
  void seal(int c);
  void check_sealed();
  void reopen_channels();
  void tick(std::int64_t ms);
  void check_retention();

  // publishing.hpp
  void publish();
  void publish_to(int c);
  void publish_badly();
  void send(client& k);

  // hooks.hpp
  [[nodiscard]] client* owner(sse::session_id id);
  void on_gap(const sse::gap_notice& g);
  void on_opened(sse::session_id id);
  void on_presence(sse::channel c, std::string_view key, bool present);
  void act(bool ends, client* self = nullptr);
  void ask_in_flush();
  sse::backfill_state on_backfill(int c, const sse::backfill_request& r, sse::backfill_writer& w);

  // streams.hpp
  void choose_channels(client& k);
  [[nodiscard]] admission expect(const client& k, std::vector<client*>& victims) const;
  [[nodiscard]] sse::verdict<user_data> take_verdict();
  void connect(client& k);
  void adopt_position(client& k, std::uint64_t head);
  joined& add_joined(client& k, int c);
  [[nodiscard]] bool all_sealed(const std::vector<int>& channels) const;
  [[nodiscard]] bool something_comes(const client& k);
  [[nodiscard]] bool surely_nothing_comes(const client& k);
  [[nodiscard]] sse::join_start any_start(int c);
  [[nodiscard]] bool in_another_sequence(const client& k, int c) const;
  void judge_refusal(client& k, int c, const sse::join_start& from, sse::join_error e);
  [[nodiscard]] int may_join(const client& k);
  void join_channel(client& k, int c);
  void leave_channel(client& k, int c);
  void session_begins(std::size_t peer_index, sse::session_id id) noexcept override;
  void session_ends(std::size_t peer_index, sse::close_reason why) noexcept override;
  void wrong(const char* what) noexcept override;
  void read(client& k, std::size_t n);
  void end_stream(client& k);
  void sync();
  void take_peeked(const std::vector<sse::buffer>& peeked, std::size_t n, std::string& to);
  void deliver(client& k);
  void complete_zombies();

  // steps.hpp
  void step();
  bool flush_hub();
  void flush();
  void settle();
  [[nodiscard]] bool takes_all(const client& k);
  void check_deadlines(const client& k);
  void jump();
  void revoke(int user);
  void use_old_handles();
  void finish(client& k);
  void drain();
  void restart();
  void stop_hub();
  void check();
  void end();

  /// Spare segments, and tables for the sessions and channels of before.
  static constexpr std::uint64_t most_held = 2'500'000;

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
  std::array<bool, channel_count> sealed_{};
  std::array<std::int64_t, channel_count> sealed_at_{};
  std::vector<int> just_closed_;  ///< their readers are not gone yet
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
