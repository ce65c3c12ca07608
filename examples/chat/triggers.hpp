// ssehub example chat. SPDX-License-Identifier: MIT
//
// What the triggers send: each reads a request and writes its events, or says what is wrong with
// it. Nothing here sends anything.
//
//   chat::trigger_events out;
//   if (auto wrong = chat::send_alert(request, body, time, out)) return *std::move(wrong);
//   for (const chat::trigger_event& e : out) all.send_to_all(e.json, e.audience);
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sse/request.hpp>

namespace chat {

struct trigger_event {
  std::string json{};
  std::string audience{};
  std::string hint{};  ///< for users in other rooms, who do not get it; empty: none
};
using trigger_events = std::vector<trigger_event>;
/// A refusal: 400.
using refusal = std::optional<sse::response>;

// `time`: the timestamp in the event.

/// `?fail=1` throws, to show what then happens.
refusal plain_event(const sse::request& r, std::string_view time, trigger_events& out);
/// type, message, priority?
refusal send_alert(const sse::request& r, std::string_view body, std::string_view time,
                   trigger_events& out);
/// user, room, message; for connections that named this room or none
refusal send_chat(const sse::request& r, std::string_view body, std::string_view time,
                  trigger_events& out);
/// user, room; for connections of users in this room
refusal send_typing(const sse::request& r, std::string_view body, std::string_view time,
                    trigger_events& out);
/// ?sensor=, ?value=
refusal broadcast_data(const sse::request& r, std::string_view time, trigger_events& out);
/// JSON: action, repository.name
refusal github_webhook(const sse::request& r, std::string_view body, std::string_view time,
                       trigger_events& out);
/// action, user?
refusal user_action(const sse::request& r, std::string_view body, std::string_view time,
                    trigger_events& out);
/// What this machine does: cpu and memory in percent; `requests` served so far.
[[nodiscard]] std::string metrics_event(std::uint64_t requests, std::string_view time);
[[nodiscard]] std::string error_event(std::string_view time);

}  // namespace chat
