// Several shards over memory transports behind one sequencer, and clients that keep their last id
// as an EventSource does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/shards.hpp>
#include <sse/testing.hpp>

#include "stage.hpp"

namespace test {

/// One shard; its transport is there before it and after it.
struct shard_host {
  using transport = sse::testing::memory_transport;

  explicit shard_host(sse::sequencer& s, const sse::shard_options& o = {})
      : net{std::make_unique<transport>()},
        shard{std::make_unique<sse::shard<transport>>(s, *net, without_position(o))} {
    shard->hub().on_admit([this](const sse::request& r) {
      auto v = sse::admit(std::string{r.target});
      for (sse::channel c : joins) v.join(c);
      return v;
    });
    for (std::size_t i = 0; *shard && i < s.options().channels.size(); ++i) {
      joins.push_back(shard->at(i));
    }
  }

  void turn(std::int64_t now = 0) {
    while (shard->turn(sse::time_point::milliseconds(now))) {
    }
  }
  /// Joins all channels, as user `a.key`.
  caller join(const ask& a = {}) {
    const std::size_t peer = net->connect();
    net->at(peer).window = a.window;
    net->at(peer).max_write = a.max_write;
    return to_caller(peer, with_request(a, [&](sse::request r) {
                       r.target = a.key;
                       return shard->accept({peer}, r);
                     }));
  }
  caller resume(std::uint64_t after) { return join({.last_event_id = std::to_string(after)}); }
  /// The same where the verdict is there already.
  caller resume(std::uint64_t after, sse::verdict<> v) {
    const std::size_t peer = net->connect();
    return to_caller(
        peer, with_request({.last_event_id = std::to_string(after)}, [&](const sse::request& r) {
          return shard->accept({peer}, r, std::move(v));
        }));
  }
  /// It has event `id`.
  bool at_rest(std::uint64_t id) { return shard->at(0).last_id() >= id; }
  std::string take(const caller& k) { return std::exchange(net->at(k.peer).received, {}); }
  bool closed(const caller& k) { return net->at(k.peer).is_closed; }

  std::unique_ptr<transport> net;
  std::unique_ptr<sse::shard<transport>> shard;
  std::vector<sse::channel> joins{};
};

/// "t" with its number as the data.
inline sse::publish_result put(sse::sequencer& s, std::uint64_t n, std::size_t channel = 0) {
  return s.publish(channel, {.type = "e", .data = std::to_string(n)});
}

}  // namespace test
