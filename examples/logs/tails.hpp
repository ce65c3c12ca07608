// ssehub example logs. SPDX-License-Identifier: MIT
//
// tails: the log files of a directory as streams. A log is followed while somebody reads it, by one
// follower on one channel however many readers there are; what they missed comes from the files.
//
//   tails files{io, server, options};
//   server.stream_prefix("/logs/", [&](const sse::request& r) { return files.join(id_of(r), r); });
//
// On the thread that runs `io`. Destroy it after that thread ran last, before the server.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>

#include <sse/asio.hpp>

#include "common/service.hpp"
#include "log_follower.hpp"
#include "watcher.hpp"

namespace logs {

/// What the server knows of a stream.
struct reader {
  enum class kind : std::uint8_t { entries, tail, chat };
  kind what = kind::entries;
  bool begins_anew = false;     ///< tail: what it resumes after is gone
  sse::event_id requested = 0;  ///< of such a one
  std::string agent{};          ///< chat
  bool beats = false;           ///< it asked for heartbeats that a page can see
};

struct tails_options {
  folder in{"."};
  encoding text = encoding::utf8;
  std::function<sse::channel_options()> channel{};  ///< what each is made with
  sse::duration poll{};  ///< look so often, and do not have the system tell; off: it tells
};

/// The answer for a file that could not be opened, by its errno: 404 (0: there is none), 403 or
/// 503.
[[nodiscard]] sse::response refusal_of(int error);

class tails {
 public:
  using server = sse::asio_server<reader, examples::tls_stream>;

  tails(asio::io_context& io, server& http, tails_options o);
  tails(const tails&) = delete;
  tails& operator=(const tails&) = delete;

  /// Whether there is such a log.
  [[nodiscard]] bool known(std::string_view id) const;
  /// The answer to `GET /logs/<id>`; `id` as it was decoded. Without a Last-Event-ID: live, or
  /// `?backlog=N` lines back from there, or from the line of `&at=ID`. 403: its file may not be
  /// read; 415: it is in UTF-16; 503: not now, with the seconds to wait for.
  [[nodiscard]] sse::verdict<reader> join(std::string_view id, const sse::request& r);
  /// Tells a reader whose place is gone; for hub.on_opened.
  void greet(sse::session_id session, const reader& who);

  /// Logs that are followed now.
  [[nodiscard]] std::size_t followed() const noexcept { return open_.size(); }

 private:
  using clock = std::chrono::steady_clock;

  struct tail {
    tail(asio::io_context& io, const folder& in, const std::string& name, const follower_options& o)
        : log{in, name, o}, timer{io} {}
    log_follower log;
    asio::steady_timer timer;
    sse::channel channel = {};
    std::uint64_t watched = 0;  ///< log_follower::changes() of the file that is watched
    bool told = false;          ///< the system says when it changes
    bool ended = false;         ///< it will be closed; its readers come back
    std::vector<sse::session_id> waiting{};  ///< for what poll() brings
    int error = 0;                           ///< log_follower::error() that was logged
    clock::time_point polled{};
    clock::time_point planned = clock::time_point::max();
    clock::time_point used{};  ///< somebody read it last
    clock::time_point held{};  ///< since when slow readers hold it back
  };

  [[nodiscard]] tail* open(const std::string& name, sse::response& refusal);
  void changed(const std::string& name);
  void plan(const std::string& name, tail& t, clock::duration in);
  void poll(const std::string& name);
  void look(const std::string& name, tail& t, clock::time_point now);
  void close(const std::string& name);
  [[nodiscard]] bool too_far_ahead(tail& t, clock::time_point now);
  void publish(tail& t, const sse::event& e, sse::event_id id);

  asio::io_context& io_;
  server& http_;
  tails_options options_;
  std::map<std::string, std::unique_ptr<tail>, std::less<>> open_;  ///< by file name
  watcher watcher_;
};

}  // namespace logs
