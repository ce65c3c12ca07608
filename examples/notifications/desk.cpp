// ssehub example notifications. SPDX-License-Identifier: MIT
#include "notifications/desk.hpp"

#include <algorithm>
#include <chrono>
#include <new>

#include "common/page_beats.hpp"

namespace notifications {
namespace {

using examples::bad_json;
using examples::bad_params;
using examples::error;

/// Encoded bytes of history per channel.
constexpr std::uint64_t keep_bytes = std::uint64_t{8} << 20;
/// Entries of /system/connections.
constexpr std::size_t most_listed = 1000;

sse::response forbidden() { return error(403, "forbidden"); }

/// A text that must be there.
std::string_view needed(const examples::json_document& f, std::string_view name) {
  return f.string(name).value_or("");
}

/// `?name=`; false: it is there, but is no name.
bool read_name(const sse::request& r, std::string_view field, std::optional<std::string>& out) {
  std::string value;
  const sse::lookup found = sse::query_value(r.query, field, value);
  if (found == sse::lookup::absent) return true;
  if (found == sse::lookup::malformed || !is_clean_name(value)) return false;
  out = std::move(value);
  return true;
}

std::string everybody() { return "a"; }
std::string readers_of(std::string_view room) { return "r" + std::string{room}; }

}  // namespace

std::string_view to_string(stream_kind k) noexcept {
  switch (k) {
    case stream_kind::notifications: return "notifications";
    case stream_kind::realtime: return "realtime";
    case stream_kind::chat: return "chat";
    case stream_kind::system: return "system";
    case stream_kind::all: return "all";
  }
  return "unknown";
}

bool add_private_room(std::string_view text, private_rooms& rooms) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  const std::string_view room = text.substr(0, colon);
  std::set<std::string, std::less<>> users;
  for (text.remove_prefix(colon + 1); !text.empty();) {
    const std::string_view user = text.substr(0, text.find(','));
    if (!is_clean_name(user)) return false;
    users.emplace(user);
    text.remove_prefix(std::min(user.size() + 1, text.size()));
  }
  if (!is_clean_name(room) || users.empty()) return false;
  rooms[std::string{room}].merge(users);
  return true;
}

void apply(const settings& s, sse::hub_options& hub) { hub.idle = s.idle; }

sse::channel_options channel_options_of(const settings& s, std::string_view name,
                                        std::function<std::int64_t()> wall_ms) {
  sse::channel_options o = examples::channel_options_of(s.common);
  o.keep_bytes = keep_bytes;
  if (name == "system" && o.heartbeat.mode != sse::heartbeat_options::pace::off) {
    o.heartbeat.mode = sse::heartbeat_options::pace::fixed;
    o.heartbeat.comment = false;
    o.heartbeat.type = "heartbeat";
    o.heartbeat.payload = [wall = std::move(wall_ms)](std::string& data) {
      data = heartbeat_json(wall());
    };
  }
  return o;
}

desk_clock system_clock() {
  using namespace std::chrono;
  return {.wall_ms =
              [] {
                const auto t = std::chrono::system_clock::now().time_since_epoch();
                return std::int64_t{duration_cast<milliseconds>(t).count()};
              },
          .steady_ms =
              [] {
                const auto t = steady_clock::now().time_since_epoch();
                return std::int64_t{duration_cast<milliseconds>(t).count()};
              }};
}

desk::desk(const settings& s, desk_host host, desk_clock clock)
    : settings_{s},
      host_{std::move(host)},
      clock_{std::move(clock)},
      started_ms_{clock_.steady_ms()},
      next_status_ms_{started_ms_ + status_every_ms},
      meter_{started_ms_} {
  const auto channel = [&](std::string_view name) {
    const sse::channel c =
        host_.open_channel(name, channel_options_of(settings_, name, clock_.wall_ms));
    if (!c) throw std::bad_alloc{};
    return c;
  };
  notifications_ = channel("notifications");
  realtime_ = channel("realtime");
  chat_ = channel("chat");
  system_ = channel("system");
}

token_result desk::who(const sse::request& r) const {
  const std::string token = token_of(r);
  if (settings_.token_secret.empty()) return read_demo_token(token);
  token_result out = read_jwt(token, settings_.token_secret, clock_.wall_ms());
  if (out.error == token_error::endless)  // a fault of who signed it, and nobody else sees it
    examples::log_line("a signed token was refused: " + std::string{to_string(out.error)});
  return out;
}

std::optional<sse::response> desk::refusal(const token_result& token) const {
  if (!token) return examples::unauthorized();
  return host_.refusal ? host_.refusal(token.who) : std::nullopt;
}

bool desk::may_enter(std::string_view user, std::string_view room) const noexcept {
  const auto found = settings_.rooms.find(room);
  return found == settings_.rooms.end() || found->second.find(user) != found->second.end();
}

// --- streams -------------------------------------------------------------------------------------

sse::verdict<visitor> desk::open(stream_kind kind, const sse::request& r) {
  visitor v{.kind = kind, .since_ms = clock_.wall_ms(), .beats = examples::asks_for_beats(r)};
  if (kind == stream_kind::system) return sse::admit(std::move(v), "").join(system_);
  token_result token = who(r);
  if (auto no = refusal(token)) return *std::move(no);
  v.who = std::move(token.who);
  if (kind == stream_kind::chat) {
    if (!read_name(r, "room", v.only)) return bad_params();
    v.present = v.only;
  } else if (kind == stream_kind::all && !read_name(r, "enter", v.present)) {
    return bad_params();
  }
  if (v.present && !may_enter(v.who.id, *v.present)) return forbidden();
  std::string key = v.who.id;
  sse::verdict<visitor> out = sse::admit(std::move(v), std::move(key));
  const bool all = kind == stream_kind::all;
  if (all || kind == stream_kind::notifications) out.join(notifications_);
  if (all || kind == stream_kind::realtime) out.join(realtime_);
  if (all || kind == stream_kind::chat) out.join(chat_);
  if (all) out.join(system_);
  return out;
}

bool desk::sees(const visitor& v, std::string_view key, std::string_view audience) const noexcept {
  if (v.who.expires_ms != no_expiry && v.who.expires_ms <= clock_.wall_ms()) return false;
  if (audience == "a") return true;
  if (audience.empty()) return false;
  std::string_view rest = audience.substr(1);
  if (audience.front() == 'u') return key == rest;
  if (audience.front() == 'p') {
    const std::size_t nul = rest.find('\0');
    if (nul == std::string_view::npos || rest.substr(nul + 1) == key) return false;
    rest = rest.substr(0, nul);
  }
  return v.only ? *v.only == rest : may_enter(key, rest);
}

void desk::opened(sse::session_id id, const visitor& v) {
  sessions_.emplace(key_of(id), id);
  if (v.who.expires_ms != no_expiry) {
    expiries_.emplace(v.who.expires_ms, key_of(id));
    host_.wake();
  }
  if (v.kind == stream_kind::system || v.kind == stream_kind::all)
    host_.send(id, {.type = "status", .data = status_data()});
  if (v.present) {
    member& m = present_[*v.present].try_emplace(v.who.id, member{v.who.name}).first->second;
    if (++m.streams == 1) tell_presence(v, "user-joined");
  }
}

void desk::closed(sse::session_id id, const visitor& v) {
  sessions_.erase(key_of(id));
  expiries_.erase({v.who.expires_ms, key_of(id)});
  if (!v.present) return;
  const auto room = present_.find(*v.present);
  if (room == present_.end()) return;
  const auto found = room->second.find(v.who.id);
  if (found == room->second.end() || --found->second.streams != 0) return;
  room->second.erase(found);
  if (room->second.empty()) present_.erase(room);
  tell_presence(v, "user-left");
}

void desk::tell_presence(const visitor& v, std::string_view what) {
  std::string audience = "p" + *v.present;
  audience.append(1, '\0').append(v.who.id);
  (void)publish(chat_, {.type = what,
                        .data = presence_json(*v.present, v.who.id, v.who.name, clock_.wall_ms()),
                        .audience = std::move(audience),
                        .transient = true});
}

std::int64_t desk::tick() {
  const std::int64_t wall = clock_.wall_ms();
  while (!expiries_.empty() && expiries_.begin()->first <= wall) {
    const auto found = sessions_.find(expiries_.begin()->second);
    expiries_.erase(expiries_.begin());
    if (found == sessions_.end()) continue;
    examples::log_line("a stream was closed: its token has ended");
    host_.close(found->second);
  }
  const std::int64_t now = clock_.steady_ms();
  if (now >= next_status_ms_) {
    next_status_ms_ = std::max(next_status_ms_ + status_every_ms, now + 1);
    meter_.sample(now);
    if (system_.subscribers() != 0)
      (void)publish(system_, {.type = "status", .data = status_data(), .transient = true});
  }
  std::int64_t wait = next_status_ms_ - now;
  if (!expiries_.empty()) wait = std::min(wait, expiries_.begin()->first - wall);
  return wait;
}

sse::publish_result desk::publish(sse::channel to, const posted& what) {
  const sse::event e{.type = what.type, .data = what.data};
  const sse::publish_options o{.audience = what.audience, .transient = what.transient};
  const sse::publish_result r = host_.publish ? host_.publish(to, e, o) : to.publish(e, o);
  if (!r) examples::log_line("an event was not published: " + std::string{to_string(r.error)});
  return r;
}

/// What an event's data calls it: the same as its `id:`.
std::string desk::next_id(sse::channel to) const {
  return host_.next_id ? host_.next_id(to) : std::to_string(to.last_id() + 1);
}

// --- answers -------------------------------------------------------------------------------------

sse::response desk::answer(sse::channel to, const posted& what) {
  const sse::publish_result r = publish(to, what);
  if (r.error == sse::publish_error::too_large) return error(413, "content_too_large");
  if (!r) return error(500, "not_published");
  examples::json_object o;
  o.raw("success", "true");
  if (!what.transient) o.text("id", r.id == sse::no_id ? what.id : std::to_string(r.id));
  return examples::ok(o.done());
}

/// Asks who it is, reads the body, and hands both on.
template <class Use>
sse::response desk::take(const sse::request& r, std::string_view body, Use use) {
  const token_result token = who(r);
  if (auto no = refusal(token)) return *std::move(no);
  examples::json_document doc;
  const examples::json_result result = doc.parse(body);
  if (result == examples::json_result::malformed) return bad_json();
  if (result == examples::json_result::other) return bad_params();
  return use(token.who, std::as_const(doc));
}

sse::response desk::notify(const identity& from, fields f, const std::string* to) {
  const std::string id = next_id(notifications_);
  notification n{.id = id,
                 .title = needed(f, "title"),
                 .message = needed(f, "message"),
                 .type = f.has("type") ? needed(f, "type") : "info",
                 .user = to != nullptr ? *to : from.id};
  if (n.title.empty() || n.message.empty() || n.type.empty()) return bad_params();
  return answer(notifications_, {.type = notification_name(n.type),
                                 .data = notification_json(n, clock_.wall_ms()),
                                 .audience = to != nullptr ? "u" + *to : everybody(),
                                 .id = id});
}

sse::response desk::send_notification(const sse::request& r, std::string_view body) {
  return take(r, body, [&](const identity& from, fields f) {
    std::optional<std::string> to;
    if (!read_name(r, "targetUserId", to)) return bad_params();
    if (f.has("userId")) {
      const std::string user{needed(f, "userId")};
      if (!is_clean_name(user) || (to && *to != user)) return bad_params();
      to = user;
    }
    return notify(from, f, to ? &*to : nullptr);
  });
}

sse::response desk::broadcast(const sse::request& r, std::string_view body) {
  return take(r, body, [&](const identity& from, fields f) { return notify(from, f, nullptr); });
}

sse::response desk::send_update(const sse::request& r, std::string_view body) {
  return take(r, body, [&](const identity&, fields f) {
    const std::string data = f.raw("data").value_or("null");
    const update u{.entity_type = needed(f, "entityType"),
                   .entity_id = needed(f, "entityId"),
                   .action = needed(f, "action"),
                   .data = data};
    if (u.entity_type.empty() || u.entity_id.empty() || u.action.empty()) return bad_params();
    return answer(realtime_, {.type = update_name(u.action),
                              .data = update_json(u, clock_.wall_ms()),
                              .audience = everybody(),
                              .id = next_id(realtime_)});
  });
}

sse::response desk::send_message(const sse::request& r, std::string_view body) {
  return take(r, body, [&](const identity& from, fields f) {
    const std::string_view room = needed(f, "roomId");
    const std::string_view message = needed(f, "message");
    if (!is_clean_name(room) || message.empty()) return bad_params();
    if (!may_enter(from.id, room)) return forbidden();
    const std::string id = next_id(chat_);
    return answer(chat_, {.type = "message",
                          .data = message_json(id, room, from, message, clock_.wall_ms()),
                          .audience = readers_of(room),
                          .id = id});
  });
}

sse::response desk::typing(const sse::request& r, std::string_view body) {
  return take(r, body, [&](const identity& from, fields f) {
    const std::string_view room = needed(f, "roomId");
    if (!is_clean_name(room)) return bad_params();
    if (!may_enter(from.id, room)) return forbidden();
    return answer(chat_, {.type = "typing",
                          .data = presence_json(room, from.id, from.name, clock_.wall_ms()),
                          .audience = readers_of(room),
                          .transient = true});
  });
}

sse::response desk::maintenance(const sse::request& r, std::string_view body) {
  return take(r, body, [&](const identity& from, fields f) {
    if (!from.has_role("admin")) return forbidden();
    const std::string_view message = needed(f, "message");
    if (message.empty()) return bad_params();
    const std::string id = next_id(system_);
    return answer(system_, {.type = "maintenance",
                            .data = maintenance_json(id, message, from, clock_.wall_ms()),
                            .id = id});
  });
}

sse::response desk::revoke(const sse::request& r, std::string_view body) {
  return take(r, body, [&](const identity& from, fields f) {
    if (!from.has_role("admin")) return forbidden();
    const std::string_view user = needed(f, "userId");
    if (!is_clean_name(user)) return bad_params();
    if (!host_.revoke || !host_.revoke(user)) return error(500, "not_revoked");
    examples::log_line("a user was revoked by an admin");
    return examples::ok(examples::json_object{}.raw("success", "true").done());
  });
}

std::string desk::status_data() {
  const std::int64_t now = clock_.steady_ms();
  return status_json({.uptime_s = (now - started_ms_) / 1000,
                      .connections = sessions_.size(),
                      .memory = meter_.memory(),
                      .cpu = meter_.cpu()},
                     clock_.wall_ms());
}

sse::response desk::status() { return examples::ok(status_data()); }

sse::response desk::connections(const sse::request& r) {
  const token_result token = who(r);
  if (auto no = refusal(token)) return *std::move(no);
  if (!token.who.has_role("admin")) return forbidden();
  std::string items = "[";
  std::size_t n = 0;
  for (const auto& [key, id] : sessions_) {
    const visitor* const v = host_.find(id);
    if (v == nullptr || n == most_listed) continue;
    examples::json_object item;
    item.text("stream", to_string(v->kind)).text("since", iso_time(v->since_ms));
    if (!v->who.id.empty()) item.text("userId", v->who.id).text("username", v->who.name);
    if (v->present) item.text("roomId", *v->present);
    if (v->who.expires_ms != no_expiry) item.text("expires", iso_time(v->who.expires_ms));
    items.append(n++ == 0 ? "" : ",").append(item.done());
  }
  examples::json_object out;
  out.number("total", static_cast<std::int64_t>(sessions_.size())).raw("items", items + "]");
  if (host_.more) host_.more(out);
  return examples::ok(out.done());
}

sse::response desk::session(const sse::request& r) {
  const token_result token = who(r);
  if (auto no = refusal(token)) return *std::move(no);
  std::string roles = "[";
  for (const std::string& role : token.who.roles) {
    if (roles.size() > 1) roles += ',';
    examples::append_json_string(roles, role);
  }
  examples::json_object o;
  o.text("userId", token.who.id).text("username", token.who.name).text("email", token.who.email);
  o.raw("roles", roles + "]");
  if (token.who.expires_ms != no_expiry) o.text("expires", iso_time(token.who.expires_ms));
  return examples::ok(o.done());
}

sse::response desk::rooms(const sse::request& r) {
  const token_result token = who(r);
  if (auto no = refusal(token)) return *std::move(no);
  std::set<std::string_view> names{"general"};
  for (const auto& [room, users] : settings_.rooms) names.insert(room);
  for (const auto& [room, users] : present_) names.insert(room);
  std::string items = "[";
  for (const std::string_view room : names) {
    if (!may_enter(token.who.id, room)) continue;
    std::string users = "[";
    if (const auto found = present_.find(room); found != present_.end()) {
      for (const auto& [id, m] : found->second) {
        users.append(users.size() > 1 ? "," : "")
            .append(examples::json_object{}.text("userId", id).text("username", m.name).done());
      }
    }
    examples::json_object item;
    item.text("roomId", room)
        .raw("private", settings_.rooms.find(room) == settings_.rooms.end() ? "false" : "true")
        .raw("users", users + "]");
    items.append(items.size() > 1 ? "," : "").append(item.done());
  }
  return examples::ok(examples::json_object{}.raw("items", items + "]").done());
}

}  // namespace notifications
