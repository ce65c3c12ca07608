// ssehub example chat. SPDX-License-Identifier: MIT
//
// server: streams that are registered at run time, triggers, GraphQL subscriptions, and a chat with
// rooms and presence on the stream /chat, as one object.
//
//   asio::io_context io;
//   chat::server server{io, settings};
//   server.http().listen("127.0.0.1", 3000);
//   io.run();
//
// On the thread that runs `io`. Destroy it only when that thread runs no more.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>

#include <sse/asio.hpp>
#include <sse/journal.hpp>

#include "common/page_beats.hpp"
#include "presence.hpp"
#include "streams.hpp"
#include "subscriptions.hpp"
#include "triggers.hpp"

namespace chat {

class server {
 public:
  /// Throws std::runtime_error with a sentence: the journal, or the cluster, cannot be opened.
  server(asio::io_context& io, const settings& s);
  server(const server&) = delete;
  server& operator=(const server&) = delete;
  ~server();

  [[nodiscard]] http_server& http() noexcept { return http_; }
  /// What was sent is written; nothing is published any more.
  void stop() {
    history_.stop();
    if (cluster_) cluster_.stop();
  }

 private:
  [[nodiscard]] sse::server_options http_options(const settings& s,
                                                 const examples::server_setup& setup);
  void add_hooks();
  void add_stream_routes();
  void add_trigger_routes();
  void add_graphql_routes();
  void came(sse::session_id id, const reader& r);
  void went(sse::session_id id, const reader& r);
  void announce_soon();
  [[nodiscard]] sse::response add_stream(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::response remove_stream(const sse::request& r);
  [[nodiscard]] sse::response send(const sse::request& r, std::string_view body);
  /// Runs a trigger and sends its events to all streams; if it throws, an error event.
  template <class Trigger>
  [[nodiscard]] sse::response pull(const char* done, Trigger trigger);

  asio::io_context& io_;
  examples::common_options common_;
  sse::journal history_;                     // before http_, which follows it
  examples::cluster cluster_;                // the same
  examples::page_beats<http_server> beats_;  // before http_, which tells it of its end
  http_server http_;
  streams streams_;
  subscriptions subscriptions_;
  presence presence_;
  std::string asked_, meant_;  ///< the last audience that came by the cluster, as it came and read
  std::string in_chat_;        ///< the audience of what only the chat's own connections get
  std::uint64_t requests_ = 0;
  bool tidy_soon_ = false;
  asio::steady_timer announce_;
  bool announcing_ = false;
};

}  // namespace chat
