// ssehub example notifications. SPDX-License-Identifier: MIT
//
// desk: the program's rules, without a socket and without a clock of its own: who may open which
// stream, who may post what, who sees which entry, who is in which room, when a token ends.
//
//   desk rules{settings, {.open_channel = ..., .send = ..., ...}, clock};
//   hub.on_sees([&](const visitor& v, auto key, auto audience) { return rules.sees(v, key,
//   audience); }); hub.on_opened([&](sse::session_id id, const visitor& v) { rules.opened(id, v);
//   }); hub.on_closed([&](sse::session_id id, const visitor& v, auto) { rules.closed(id, v); });
//   sse::verdict<visitor> v = rules.open(stream_kind::chat, request);
//   sse::response r = rules.send_message(request, body);
//   wait(rules.tick());
//
// Audiences, stored with each entry and so true for replays too: `a` is every user; `u` and a user
// id is that user; `r` and a room is who may read it; `p` and a room, NUL and a user id is the same
// without that user. Whoever's token has ended sees none of them. On the hub's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include <sse/admission.hpp>
#include <sse/channel.hpp>
#include <sse/request.hpp>
#include <sse/session.hpp>

#include "common/cluster.hpp"
#include "common/history.hpp"
#include "common/json.hpp"
#include "common/process_meter.hpp"
#include "common/service.hpp"
#include "notifications/payload.hpp"
#include "notifications/token.hpp"

namespace notifications {

/// The one channel or, for `all`, the four that a stream has.
enum class stream_kind : std::uint8_t { notifications, realtime, chat, system, all };
[[nodiscard]] std::string_view to_string(stream_kind k) noexcept;

/// Room to its members; a room that is not here is everybody's.
using private_rooms = std::map<std::string, std::set<std::string, std::less<>>, std::less<>>;

struct settings {
  examples::common_options common{
      .port = 3000, .heartbeat = sse::duration::seconds(30), .per_user = 5, .total = 1000};
  sse::duration idle = sse::duration::seconds(300);
  std::string token_secret{};  ///< empty: demo tokens
  private_rooms rooms{};
  examples::history_options history{};
  examples::cluster_options cluster{.revoke_for = sse::duration::seconds(86'400)};
};
/// Reads ROOM:USER,USER into `rooms`; false: not of this form.
[[nodiscard]] bool add_private_room(std::string_view text, private_rooms& rooms);
/// The names of the channels.
inline constexpr std::string_view channel_names[] = {"notifications", "realtime", "chat", "system"};
/// Of one of them; `wall_ms`: desk_clock's.
[[nodiscard]] sse::channel_options channel_options_of(const settings& s, std::string_view name,
                                                      std::function<std::int64_t()> wall_ms);
/// The hub's part of the settings.
void apply(const settings& s, sse::hub_options& hub);

/// What the hub keeps of a stream.
struct visitor {
  stream_kind kind = stream_kind::system;
  identity who{};                        ///< of the system stream: nobody
  std::optional<std::string> only{};     ///< the one room it reads
  std::optional<std::string> present{};  ///< the room that its user is in by it
  std::int64_t since_ms = 0;
  bool beats = false;  ///< it asked for heartbeats that a page can see
};

/// What the desk asks of the hub that it works for.
struct desk_host {
  std::function<sse::channel(std::string_view, sse::channel_options)> open_channel;
  /// As channel::publish, where that is not the way.
  std::function<sse::publish_result(sse::channel, const sse::event&, const sse::publish_options&)>
      publish = {};
  /// What the next event's data calls it, the id that publish gives it where that is known; none:
  /// channel::last_id knows.
  std::function<std::string(sse::channel)> next_id = {};
  /// Why a user with a good token may not come in; none: nobody is revoked.
  std::function<std::optional<sse::response>(const identity&)> refusal = {};
  /// Ends the user's streams on all nodes, and keeps the user out.
  std::function<bool(std::string_view user)> revoke = {};
  /// More fields of /system/connections.
  std::function<void(examples::json_object&)> more = {};
  std::function<void(sse::session_id, const sse::event&)> send;
  std::function<void(sse::session_id)> close;
  std::function<const visitor*(sse::session_id)> find;
  std::function<void()> wake;  ///< tick() may be due earlier than it said
};

struct desk_clock {
  std::function<std::int64_t()> wall_ms;    ///< Unix time, what tokens and payloads speak of
  std::function<std::int64_t()> steady_ms;  ///< what never jumps
};
[[nodiscard]] desk_clock system_clock();

class desk {
 public:
  static constexpr std::int64_t status_every_ms = 5000;

  /// Throws std::bad_alloc if a channel cannot be opened.
  desk(const settings& s, desk_host host, desk_clock clock);

  // --- streams
  [[nodiscard]] sse::verdict<visitor> open(stream_kind kind, const sse::request& r);
  [[nodiscard]] bool sees(const visitor& v, std::string_view key,
                          std::string_view audience) const noexcept;
  void opened(sse::session_id id, const visitor& v);
  void closed(sse::session_id id, const visitor& v);

  /// Ends the streams whose tokens have ended and sends the status when it is due. Returns the
  /// milliseconds until it wants to be called again.
  std::int64_t tick();

  // --- answers
  [[nodiscard]] sse::response send_notification(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::response broadcast(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::response send_update(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::response send_message(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::response typing(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::response maintenance(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::response revoke(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::response status();
  [[nodiscard]] sse::response connections(const sse::request& r);  ///< who is connected: for admins
  [[nodiscard]] sse::response session(const sse::request& r);      ///< who the token says one is
  [[nodiscard]] sse::response rooms(const sse::request& r);  ///< open to the user, with members

 private:
  struct member {
    std::string name;
    std::size_t streams = 0;
  };
  using members = std::map<std::string, member, std::less<>>;
  using fields = const examples::json_document&;
  using session_key = std::uint64_t;
  [[nodiscard]] static session_key key_of(sse::session_id id) noexcept {
    return std::uint64_t{id.slot} << 32U | id.generation;
  }
  struct posted {
    std::string_view type;
    std::string data;
    std::string audience{};
    bool transient = false;
    std::string id{};  ///< what the data calls it
  };

  [[nodiscard]] token_result who(const sse::request& r) const;
  /// Why whoever brought that token gets nothing; nullopt: it is good.
  [[nodiscard]] std::optional<sse::response> refusal(const token_result& token) const;
  [[nodiscard]] bool may_enter(std::string_view user, std::string_view room) const noexcept;
  template <class Use>
  [[nodiscard]] sse::response take(const sse::request& r, std::string_view body, Use use);
  [[nodiscard]] sse::response notify(const identity& from, fields f, const std::string* to);
  [[nodiscard]] sse::publish_result publish(sse::channel to, const posted& what);
  [[nodiscard]] std::string next_id(sse::channel to) const;
  [[nodiscard]] sse::response answer(sse::channel to, const posted& what);
  void tell_presence(const visitor& v, std::string_view what);
  [[nodiscard]] std::string status_data();

  settings settings_;
  desk_host host_;
  desk_clock clock_;
  std::int64_t started_ms_;
  std::int64_t next_status_ms_;
  examples::process_meter meter_;
  sse::channel notifications_;
  sse::channel realtime_;
  sse::channel chat_;
  sse::channel system_;
  std::map<session_key, sse::session_id> sessions_;
  std::set<std::pair<std::int64_t, session_key>> expiries_;  ///< when whose token ends
  std::map<std::string, members, std::less<>> present_;      ///< room to who is in it
};

}  // namespace notifications
