// ssehub example logs. SPDX-License-Identifier: MIT
//
// Log entries as the JSON stream shows them, what a POST may publish, and which agents are online.
// Times come in as arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <sse/channel.hpp>
#include <sse/config.hpp>

namespace logs {

struct entry {
  std::string level{};
  std::string component{};
  std::string message{};
  std::string agent{};  ///< who sent it; not shown
};

/// debug, info, warn, error.
[[nodiscard]] bool is_level(std::string_view s) noexcept;
/// api, orchestrator, model-router, registry, evolution, mqtt, telegram, system.
[[nodiscard]] bool is_component(std::string_view s) noexcept;
/// `{"time":"10:30:05","level":"info","component":"api","message":"..."}`, always one line.
[[nodiscard]] std::string to_json(std::string_view time, std::string_view level,
                                  std::string_view component, std::string_view message);

/// Reads `{"level","component","message","agent"?}`. Absent: not JSON, a level or component that
/// there is not, no message, or a field that is no string.
[[nodiscard]] std::optional<entry> read_entry(std::string_view body);

/// Names of agents and when they were last heard of. Bounded.
class agents {
 public:
  static constexpr std::size_t most = 10'000;
  static constexpr sse::duration online_for = sse::duration::seconds(60);

  struct seen {
    sse::time_point at{};
    std::uint64_t entries = 0;
    std::string last{};  ///< its last entry: "info api: ..."
  };

  void heard(sse::time_point now, const entry& e);
  [[nodiscard]] std::size_t online(sse::time_point now);
  /// nullptr: not online.
  [[nodiscard]] const seen* find(sse::time_point now, std::string_view name);

 private:
  void forget(sse::time_point now);

  std::map<std::string, seen, std::less<>> all_;
};

/// "heartbeat: 3 agents online" as an entry.
[[nodiscard]] std::string heartbeat_json(std::string_view time, std::size_t online);

/// Options of the stream of entries: unnamed events without ids, and a heartbeat entry at a fixed
/// pace.
[[nodiscard]] sse::channel_options entry_channel(sse::channel_options o,
                                                 std::function<std::string()> heartbeat);

}  // namespace logs
