// ssehub example gateway. SPDX-License-Identifier: MIT
//
// order_table: what is known of each order, from the engine's events (V-41, V-42). No JSON,
// no clock.
//
//   order_table orders;
//   orders.apply(fill_event{...});
//   if (const order_record* o = orders.find("web-1")) use(o->status, o->executed_qty);
//
// Rules: a final state stays (a late fill still counts as executed); ACCEPTED never undoes a fill;
// an order_state event is the engine's own word and is taken as it is; an id may be used again when
// its order is finished. Bounded: the oldest finished order goes first, then the oldest live one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "events.hpp"
#include "protocol.hpp"

namespace gateway {

struct order_record {
  std::string client_order_id{};
  order_status status = order_status::none;
  std::optional<std::string> symbol{};
  std::optional<std::string> side{};
  std::optional<double> order_qty{};
  std::optional<double> limit_price{};
  std::optional<std::string> venue_order_id{};
  double executed_qty = 0;
  double avg_price = 0;
  std::optional<std::string> reason{};
  std::int64_t last_ts_ns = 0;

  /// A view of this record, for payload.hpp.
  [[nodiscard]] order_state_event as_event() const;
};

class order_table {
 public:
  explicit order_table(std::size_t max_orders = 10'000) : max_{max_orders} {}

  /// What was sent to the engine: fills in what its events leave out. Not listed before the engine
  /// speaks of it.
  void placed(const new_order& order);

  void apply(const order_update_event& e);
  void apply(const fill_event& e);
  void apply(const order_state_event& e);

  /// nullptr: the engine never spoke of it, or it was dropped. Valid until the next apply() or
  /// placed().
  [[nodiscard]] const order_record* find(std::string_view client_order_id) const;
  /// All of them, in the order in which they were first seen. Valid until the next apply() or
  /// placed().
  [[nodiscard]] std::vector<const order_record*> all() const;
  /// Orders held, the ones not listed yet included.
  [[nodiscard]] std::size_t size() const noexcept { return index_.size(); }

 private:
  struct entry {
    order_record record{};
    std::uint64_t sequence = 0;
    bool seen = false;                    ///< the engine spoke of it
    std::optional<new_order> next_use{};  ///< placed again under the same id after it was finished
  };
  using entries = std::list<entry>;

  entry* touch(std::string_view id);
  void settle(entry& e, order_status status);
  void progress(entry& e, order_status status);
  void reuse(entry& e);
  static void fill_in(order_record& r, const new_order& order);

  std::size_t max_;
  std::uint64_t sequence_ = 0;
  entries live_;
  entries finished_;
  std::unordered_map<std::string, entries::iterator> index_;
};

}  // namespace gateway
