// ssehub examples. SPDX-License-Identifier: MIT
//
// cluster: an order that many nodes follow (sse/jetstream.hpp) as the programs offer it: their
// flags, and what /health and /metrics say of it. Built without cnats it says so when it is opened.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/channel.hpp>
#include <sse/encode.hpp>
#include <sse/metrics.hpp>
#include <sse/publish.hpp>
#include <sse/request.hpp>
#include <sse/shards.hpp>

#include "common/flags.hpp"

namespace examples {

struct cluster_options {
  std::vector<std::string> servers{};  ///< empty: there is no cluster
  std::string credentials{};
  std::string ca{};
  std::string node{};  ///< empty: something random
  std::uint32_t replicas = 3;
  std::string hub{};  ///< of the subjects: nodes of one hub share its events
  std::vector<std::string> channels{};
  std::function<sse::channel_options(std::string_view)> channel{};
  std::size_t lane_bytes = std::size_t{1} << 20;    ///< see jetstream_options
  sse::encode_limits limits{};                      ///< the same
  sse::duration revoke_for = sse::duration::off();  ///< see jetstream_options
};

/// --nats and what goes with it.
void add_cluster_flags(flag_set& flags, cluster_options& out);
/// What is wrong with how they go together; empty: nothing.
[[nodiscard]] std::string wrong_cluster(const flag_set& flags);

class cluster {
 public:
  cluster() noexcept;
  ~cluster();

  /// Unless no server is named. Throws std::runtime_error with a sentence.
  void open(cluster_options o);
  [[nodiscard]] explicit operator bool() const noexcept { return order_ != nullptr; }

  // REQUIRES, all that follow: it is open.
  [[nodiscard]] sse::sequencer& order() noexcept;
  void start();
  void stop();
  /// A transient event, which is not stored, goes to this node's readers alone.
  [[nodiscard]] sse::publish_result publish(std::size_t channel, const sse::event& e,
                                            const sse::publish_options& o = {});
  [[nodiscard]] std::uint64_t waiting_bytes() const;
  [[nodiscard]] const std::string& node() const;
  [[nodiscard]] std::string problem() const;
  /// 200, or 503 while it does not follow or is far behind, with json().
  [[nodiscard]] sse::response health() const;
  void add_metrics(sse::metrics_page& page) const;
  /// Ends all streams of the user on all nodes, and keeps the user out, for cluster_options::
  /// revoke_for. False: no such name.
  bool revoke(std::string_view user);
  /// Why a user whose token was issued then (ms, 0: unknown) may not come in; REQUIRES: revoke_for.
  [[nodiscard]] std::optional<sse::response> refusal(std::string_view user,
                                                     std::uint64_t issued_ms) const;
  /// Users with streams, and how many each has, on all nodes.
  [[nodiscard]] std::vector<std::pair<std::string, std::uint32_t>> present() const;
  /// `"node":"a","lag":0,"cluster_streams":2,"cluster_problem":""`
  [[nodiscard]] std::string json() const;

 private:
  struct order_of_nodes;
  std::unique_ptr<order_of_nodes> order_;
};

}  // namespace examples
