// ssehub example notifications. SPDX-License-Identifier: MIT
//
// What the contract's events are called and how they look.
//
//   publish(notification_name("warning"), notification_json({.id = "7", .title = "Disk", ...}));
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "notifications/token.hpp"

namespace notifications {

/// `system`: system-notification; `error` and `warning`: error-notification; else notification.
[[nodiscard]] std::string_view notification_name(std::string_view type) noexcept;
/// `created`: create; `updated`: update; `deleted`: delete; else status-change.
[[nodiscard]] std::string_view update_name(std::string_view action) noexcept;

/// 2026-01-31T12:00:00.000Z
[[nodiscard]] std::string iso_time(std::int64_t wall_ms);

struct notification {
  std::string_view id, title, message, type, user;
};
[[nodiscard]] std::string notification_json(const notification& n, std::int64_t wall_ms);

struct update {
  std::string_view entity_type, entity_id, action, data;  ///< `data` is JSON
};
[[nodiscard]] std::string update_json(const update& u, std::int64_t wall_ms);

[[nodiscard]] std::string message_json(std::string_view id, std::string_view room,
                                       const identity& who, std::string_view message,
                                       std::int64_t wall_ms);
/// user-joined, user-left, typing.
[[nodiscard]] std::string presence_json(std::string_view room, std::string_view user,
                                        std::string_view name, std::int64_t wall_ms);
[[nodiscard]] std::string maintenance_json(std::string_view id, std::string_view message,
                                           const identity& who, std::int64_t wall_ms);
[[nodiscard]] std::string heartbeat_json(std::int64_t wall_ms);

struct system_state {
  std::int64_t uptime_s = 0;
  std::size_t connections = 0;
  std::string memory{};
  std::string cpu{};
};
[[nodiscard]] std::string status_json(const system_state& s, std::int64_t wall_ms);

}  // namespace notifications
