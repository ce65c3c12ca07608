// ssehub example logs. SPDX-License-Identifier: MIT
#include "entry.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "common/json.hpp"

namespace logs {
namespace {

using namespace std::string_view_literals;

constexpr std::array levels{"debug"sv, "info"sv, "warn"sv, "error"sv};
constexpr std::array components{"api"sv,       "orchestrator"sv, "model-router"sv, "registry"sv,
                                "evolution"sv, "mqtt"sv,         "telegram"sv,     "system"sv};

constexpr std::size_t longest_agent = 200;

}  // namespace

bool is_level(std::string_view s) noexcept {
  return std::find(levels.begin(), levels.end(), s) != levels.end();
}

bool is_component(std::string_view s) noexcept {
  return std::find(components.begin(), components.end(), s) != components.end();
}

std::string to_json(std::string_view time, std::string_view level, std::string_view component,
                    std::string_view message) {
  std::string out = R"({"time":)";
  examples::append_json_string(out, time);
  out += R"(,"level":)";
  examples::append_json_string(out, level);
  out += R"(,"component":)";
  examples::append_json_string(out, component);
  out += R"(,"message":)";
  examples::append_json_string(out, message);
  return out + "}";
}

std::optional<entry> read_entry(std::string_view body) {
  examples::json_document doc;
  if (doc.parse(body) != examples::json_result::object) return std::nullopt;
  const auto level = doc.string("level");
  const auto component = doc.string("component");
  const auto message = doc.string("message");
  const auto agent = doc.string("agent");
  if (!level || !is_level(*level) || !component || !is_component(*component) || !message ||
      (doc.has("agent") && !agent) || agent.value_or("").size() > longest_agent)
    return std::nullopt;
  return entry{std::string{*level}, std::string{*component}, std::string{*message},
               std::string{agent.value_or("")}};
}

void agents::heard(sse::time_point now, const entry& e) {
  if (e.agent.empty()) return;
  if (all_.size() >= most) forget(now);
  if (all_.size() >= most && !all_.contains(e.agent)) return;
  seen& s = all_[e.agent];
  s.at = now;
  ++s.entries;
  s.last = e.level + " " + e.component + ": " + e.message.substr(0, 1000);
}

std::size_t agents::online(sse::time_point now) {
  forget(now);
  return all_.size();
}

const agents::seen* agents::find(sse::time_point now, std::string_view name) {
  forget(now);
  const auto at = all_.find(name);
  return at == all_.end() ? nullptr : &at->second;
}

void agents::forget(sse::time_point now) {
  std::erase_if(all_, [&](const auto& a) { return now - a.second.at >= online_for; });
}

std::string heartbeat_json(std::string_view time, std::size_t online) {
  return to_json(time, "info", "system", "heartbeat: " + std::to_string(online) + " agents online");
}

sse::channel_options entry_channel(sse::channel_options o, std::function<std::string()> heartbeat) {
  o.ids = sse::id_mode::none;
  if (o.heartbeat.mode != sse::heartbeat_options::pace::off)
    o.heartbeat.mode = sse::heartbeat_options::pace::fixed;
  o.heartbeat.comment = false;
  o.heartbeat.payload = [make = std::move(heartbeat)](std::string& data) { data = make(); };
  return o;
}

}  // namespace logs
