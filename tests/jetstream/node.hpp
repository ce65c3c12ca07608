// A process that follows a stream, but in the test's own thread: an order and one shard.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/jetstream.hpp>

#include "catch.hpp"
#include "jetstream/nats_servers.hpp"
#include "unit/shards_stage.hpp"

namespace test {

constexpr auto nats_patience = std::chrono::seconds{60};

/// Until f(), with the machine's time for others. False: not in time.
template <class F>
[[nodiscard]] bool eventually_on(F f) {
  const auto end = std::chrono::steady_clock::now() + nats_patience;
  while (!f()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
  return true;
}

[[nodiscard]] inline sse::jetstream_options node_options(const nats_servers& s) {
  sse::jetstream_options o;
  o.servers = s.urls();
  o.replicas = s.all.size() < 3 ? 1 : 3;
  o.connect_wait = sse::duration::seconds(30);
  return o;
}

struct node {
  explicit node(sse::jetstream_options o) {
    const sse::jetstream_error e = order.open(std::move(o));
    INFO(e.text);
    REQUIRE(e.what == sse::jetstream_errc::none);
    host = std::make_unique<shard_host>(order.order());
    REQUIRE(*host->shard);
    order.start();
  }
  ~node() { order.stop(); }

  /// Turns its loop until f(). False: not in time.
  template <class F>
  [[nodiscard]] bool until(F f) {
    return eventually_on([&] {
      host->turn();
      return f();
    });
  }
  [[nodiscard]] bool follows() {
    return until([&] { return order.stats().following; });
  }
  /// Its hub has what the stream has up to sequence `n`.
  [[nodiscard]] bool has(std::uint64_t n) {
    return until([&] { return order.stats().sequence >= n; }) &&
           until([&] { return host->at_rest(order.order().head()); });
  }

  sse::jetstream order;
  std::unique_ptr<shard_host> host;
};

/// The events of a stream's bytes: data by id, in order; "gap" as the data of a gap frame.
[[nodiscard]] inline std::vector<std::pair<std::uint64_t, std::string>> events_in(
    std::string_view bytes) {
  std::vector<std::pair<std::uint64_t, std::string>> all;
  while (!bytes.empty()) {
    const std::size_t end = bytes.find("\n\n");
    const std::string_view block = bytes.substr(0, end);
    bytes.remove_prefix(end == bytes.npos ? bytes.size() : end + 2);
    std::uint64_t id = 0;
    std::string data;
    bool has_data = false;
    bool gap = false;
    for (std::size_t at = 0; at < block.size();) {
      const std::size_t eol = block.find('\n', at);
      const std::string_view line = block.substr(at, eol - at);
      if (line.starts_with("id: ")) id = std::stoull(std::string{line.substr(4)});
      if (line.starts_with("data: ")) data = line.substr(6);
      has_data = has_data || line.starts_with("data: ");
      gap = gap || line == "event: gap";
      if (eol == block.npos) break;
      at = eol + 1;
    }
    if (has_data) all.emplace_back(id, gap ? "gap" : data);
  }
  return all;
}

}  // namespace test
