// ssehub example logs. SPDX-License-Identifier: MIT
//
// server: a stream of JSON log entries, the log files of a directory as streams, and the pages.
//
//   asio::io_context io;
//   logs::server server{io, settings};
//   server.http().listen("127.0.0.1", 8420);
//   io.run();
//
// On the thread that runs `io`. Destroy it only when that thread runs no more.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <asio/io_context.hpp>

#include <sse/asio.hpp>

#include "common/page_beats.hpp"
#include "common/service.hpp"
#include "deployments.hpp"
#include "entry.hpp"
#include "tails.hpp"

namespace logs {

struct settings {
  examples::common_options common{.port = 8420,
                                  .heartbeat = sse::duration::seconds(5),
                                  .max_lag = std::uint64_t{4} << 20,  // a line may be 1 MiB
                                  .any_origin = {"/api/logs/stream", "/api/chat/stream",
                                                 "/api/status", "/logs/", "/health", "/metrics"}};
  std::string data = "data";
  bool follow_links = false;  ///< symbolic links among the files are what they lead to
  encoding text = encoding::utf8;
  sse::duration poll{};  ///< look at the files so often; off: the system tells
  sse::duration idle{};  ///< a stream that gets nothing for so long ends; off: none does
  sse::duration write_timeout = sse::duration::seconds(10);  ///< and one that takes nothing
};

class server {
 public:
  server(asio::io_context& io, settings s);

  [[nodiscard]] examples::http_server<reader>& http() noexcept { return http_; }
  /// Sees to the directory. Returns what is wrong, empty if nothing is.
  [[nodiscard]] std::string start();

 private:
  void add_streams();
  void add_answers();
  void add_pages();
  void say(std::string_view level, std::string_view component, std::string_view message);
  void on_access(const sse::access_record& r);
  [[nodiscard]] sse::response post_entry(std::string_view body);
  [[nodiscard]] sse::response deploy();
  [[nodiscard]] sse::verdict<reader> chat(const sse::request& r);
  void reply(sse::session_id session, const reader& who);
  [[nodiscard]] sse::response download(const sse::request& r);
  [[nodiscard]] sse::response status();
  [[nodiscard]] sse::response index(const sse::request& r) const;
  [[nodiscard]] std::string list_json() const;

  settings settings_;
  examples::page_beats<examples::http_server<reader>>
      beats_;  // before http_, which tells it of its end
  examples::http_server<reader> http_;
  agents agents_;
  deployments deployments_;
  tails tails_;
  sse::channel entries_;
  sse::channel chats_;
  std::uint64_t chat_number_ = 0;
  sse::time_point began_;
};

}  // namespace logs
