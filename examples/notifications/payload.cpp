// ssehub example notifications. SPDX-License-Identifier: MIT
#include "notifications/payload.hpp"

#include <chrono>

#include "common/clock.hpp"
#include "common/json.hpp"

namespace notifications {

using examples::json_object;

std::string_view notification_name(std::string_view type) noexcept {
  if (type == "system") return "system-notification";
  return type == "error" || type == "warning" ? "error-notification" : "notification";
}

std::string_view update_name(std::string_view action) noexcept {
  if (action == "created") return "create";
  if (action == "updated") return "update";
  return action == "deleted" ? "delete" : "status-change";
}

std::string iso_time(std::int64_t wall_ms) {
  using std::chrono::milliseconds;
  return examples::iso_time(std::chrono::system_clock::time_point{milliseconds{wall_ms}});
}

std::string notification_json(const notification& n, std::int64_t wall_ms) {
  return json_object{}
      .text("id", n.id)
      .text("title", n.title)
      .text("message", n.message)
      .text("type", n.type)
      .text("timestamp", iso_time(wall_ms))
      .text("userId", n.user)
      .done();
}

std::string update_json(const update& u, std::int64_t wall_ms) {
  return json_object{}
      .text("entityType", u.entity_type)
      .text("entityId", u.entity_id)
      .text("action", u.action)
      .raw("data", u.data)
      .text("timestamp", iso_time(wall_ms))
      .done();
}

std::string message_json(std::string_view id, std::string_view room, const identity& who,
                         std::string_view message, std::int64_t wall_ms) {
  return json_object{}
      .text("id", id)
      .text("roomId", room)
      .text("userId", who.id)
      .text("username", who.name)
      .text("message", message)
      .text("timestamp", iso_time(wall_ms))
      .done();
}

std::string presence_json(std::string_view room, std::string_view user, std::string_view name,
                          std::int64_t wall_ms) {
  return json_object{}
      .text("roomId", room)
      .text("userId", user)
      .text("username", name)
      .text("timestamp", iso_time(wall_ms))
      .done();
}

std::string maintenance_json(std::string_view id, std::string_view message, const identity& who,
                             std::int64_t wall_ms) {
  return json_object{}
      .text("id", id)
      .text("message", message)
      .text("userId", who.id)
      .text("timestamp", iso_time(wall_ms))
      .done();
}

std::string heartbeat_json(std::int64_t wall_ms) {
  return json_object{}.text("timestamp", iso_time(wall_ms)).done();
}

std::string status_json(const system_state& s, std::int64_t wall_ms) {
  return json_object{}
      .text("status", "healthy")
      .number("uptime", s.uptime_s)
      .number("connections", static_cast<std::int64_t>(s.connections))
      .text("memory", s.memory)
      .text("cpu", s.cpu)
      .text("timestamp", iso_time(wall_ms))
      .done();
}

}  // namespace notifications
