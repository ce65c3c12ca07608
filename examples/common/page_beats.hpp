// ssehub examples. SPDX-License-Identifier: MIT
//
// page_beats: heartbeats that a page can see. EventSource shows no comments, so a page cannot tell
// a stream that is quiet from one that died on the way; streams that were asked for with `?beat=1`
// get `event: heartbeat`, `data: {"every":SECONDS}`, without an id, at once and then so often.
//
//   page_beats<http_server> beats{io, http, common.heartbeat};
//   if (asks_for_beats(request)) user.beats = true;
//   hub.on_opened([&](auto id, const auto& user) { if (user.beats) beats.add(id); });
//   hub.on_closed([&](auto id, auto&&...) { beats.remove(id); });
#pragma once

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>

#include <sse/config.hpp>
#include <sse/request.hpp>
#include <sse/session.hpp>

#include "common/json.hpp"

namespace examples {

[[nodiscard]] inline bool asks_for_beats(const sse::request& r) {
  std::string value;
  return sse::query_value(r.query, "beat", value) == sse::lookup::found && value == "1";
}

template <class Server>
class page_beats {
 public:
  page_beats(asio::io_context& io, Server& server, sse::duration every)
      : server_{&server}, every_{every}, timer_{io} {
    beat_ = R"({"every":)";
    append_json_number(beat_, static_cast<double>(every.ms()) / 1000);
    beat_ += "}";
  }

  void add(sse::session_id id) {
    if (every_.is_off()) return;
    if (all_.empty()) wait();
    all_.push_back(id);
    send(id);
  }
  void remove(sse::session_id id) {
    const auto at = std::find(all_.begin(), all_.end(), id);
    if (at == all_.end()) return;
    *at = all_.back();
    all_.pop_back();
    if (all_.empty()) timer_.cancel();
  }

 private:
  void send(sse::session_id id) {
    (void)server_->hub().send(id, {.type = "heartbeat", .data = beat_});
  }
  void wait() {
    timer_.expires_after(std::chrono::milliseconds{every_.ms()});
    timer_.async_wait([this](const std::error_code& e) {
      if (e || all_.empty()) return;
      const std::vector<sse::session_id> now =
          all_;  // one that is too slow may be closed meanwhile
      for (const sse::session_id id : now) send(id);
      wait();
    });
  }

  Server* server_;
  sse::duration every_;
  std::string beat_;
  std::vector<sse::session_id> all_;
  asio::steady_timer timer_;
};

}  // namespace examples
