// ssehub example notifications. SPDX-License-Identifier: MIT
//
// server: the desk's rules on an Asio server: paths, the page, and one timer.
//
//   asio::io_context io;
//   notifications::server server{io, settings};
//   server.http().listen("127.0.0.1", 3000);
//   io.run();
//
// On the thread that runs `io`. Destroy it only when that thread runs no more.
#pragma once

#include <cstdint>
#include <string>

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>

#include <sse/asio.hpp>

#include "common/page_beats.hpp"
#include "common/service.hpp"
#include "notifications/desk.hpp"

namespace notifications {

class server {
 public:
  using http_type = examples::http_server<visitor>;

  /// Throws std::runtime_error with a sentence: the journal, or the cluster, cannot be opened.
  server(asio::io_context& io, const settings& s, desk_clock clock = system_clock());

  /// Ends the streams, of which the desk hears, before the desk goes.
  ~server() { http_.stop(); }
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  [[nodiscard]] http_type& http() noexcept { return http_; }
  /// What was posted is written; nothing is published any more.
  void stop() {
    history_.stop();
    if (cluster_) cluster_.stop();
  }

 private:
  [[nodiscard]] desk_host host();
  [[nodiscard]] sse::server_options http_options(const settings& s,
                                                 const examples::server_setup& setup,
                                                 const desk_clock& clock);
  [[nodiscard]] sse::publish_result publish(sse::channel to, const sse::event& e,
                                            const sse::publish_options& o);
  [[nodiscard]] std::string next_id(sse::channel to);
  void tell_cluster(examples::json_object& out) const;
  void add_routes();
  void wait();

  sse::journal history_;                   // before http_, which follows it
  examples::cluster cluster_;              // the same
  std::string run_;                        // of this node: what its events' data call them
  std::uint64_t named_ = 0;                // so many of them
  examples::page_beats<http_type> beats_;  // before http_, which tells it of its end
  http_type http_;
  asio::steady_timer timer_;
  desk desk_;
};

}  // namespace notifications
