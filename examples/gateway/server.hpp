// ssehub example gateway. SPDX-License-Identifier: MIT
//
// server: the gateway as one object: a feed, the store of what its events said, one stream of all
// events, and the HTTP interface.
//
//   asio::io_context io;
//   gateway::server server{io, settings};
//   server.http().listen("127.0.0.1", 8080);
//   if (const std::string why = server.start(); !why.empty()) return fail(why);
//   io.run();
//
// On the thread that runs `io`. Destroy it only when that thread runs no more.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <asio/io_context.hpp>

#include <sse/asio.hpp>
#include <sse/journal.hpp>
#include <sse/watch.hpp>

#include "common/cluster.hpp"
#include "common/history.hpp"
#include "common/page_beats.hpp"
#include "common/service.hpp"
#include "feed.hpp"
#include "order_store.hpp"
#include "protocol.hpp"

namespace gateway {

struct settings {
  examples::common_options common{
      .port = 8080,
      .heartbeat = sse::duration::seconds(10),
      .any_origin = {"/api/stream", "/api/market", "/api/config", "/health", "/metrics"}};
  std::vector<std::string> engine{};  ///< command and arguments; empty: none
  bool trades = false;        ///< the simulated exchange trades by itself, and tells its order book
  std::uint32_t symbols = 1;  ///< of the simulated exchange
  bool replays = false;
  replay_options replay{};
  examples::history_options history{};
  examples::cluster_options cluster{};
  std::uint32_t wait_readers = 0;  ///< the replay begins once there are so many streams
};

/// Events kept while a recording is replayed, if --keep does not say it: so that a reader who comes
/// after the end still gets all of it.
inline constexpr std::uint64_t replay_keep = 100'000;

/// What the server knows of a stream.
struct reader {
  bool beats = false;  ///< it asked for heartbeats that a page can see
};

class server {
  using hub =
      std::remove_reference_t<decltype(std::declval<examples::http_server<reader>>().hub())>;

 public:
  /// Throws std::runtime_error with a sentence: the journal, or the cluster, cannot be opened.
  server(asio::io_context& io, settings s);

  [[nodiscard]] examples::http_server<reader>& http() noexcept { return http_; }

  /// Begins to publish. Returns what is wrong, empty if nothing is.
  [[nodiscard]] std::string start();
  /// Publishes nothing more; `done` comes once the engine, if there is one, has ended.
  void stop(std::function<void()> done);

 private:
  [[nodiscard]] sse::server_options http_options(const examples::server_setup& setup);
  [[nodiscard]] sse::channel_options stream_options() const;
  [[nodiscard]] std::unique_ptr<feed> make_feed(asio::io_context& io);
  void add_routes();
  [[nodiscard]] sse::response health() const;
  void remember_orders();
  void on_line(std::string_view line);
  void note_unreadable(std::uint64_t lines);
  [[nodiscard]] sse::verdict<reader> open_stream(const sse::request& r);
  [[nodiscard]] sse::response place(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::response cancel(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::response order_state(const sse::request& r) const;
  [[nodiscard]] sse::response market(const sse::request& r) const;
  [[nodiscard]] std::string config() const;

  settings settings_;
  sse::journal history_;       // before http_, which follows it
  examples::cluster cluster_;  // the same
  examples::page_beats<examples::http_server<reader>>
      beats_;  // before http_, which tells it of its end
  examples::http_server<reader> http_;
  sse::channel events_;
  std::optional<sse::watch_desk<hub>> desk_;  ///< streams that chose their symbols
  order_store store_;
  id_source ids_;
  std::uint64_t unreadable_ = 0;  ///< lines that should have been events
  error_limiter unreadable_log_;
  error_limiter unpublished_log_;
  replay_feed* waiting_ = nullptr;  ///< a replay that has not begun
  std::unique_ptr<feed> feed_;
};

}  // namespace gateway
