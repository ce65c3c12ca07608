// ssehub example chat. SPDX-License-Identifier: MIT
#include "triggers.hpp"

#include <sys/sysinfo.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <random>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "audience.hpp"
#include "common/answers.hpp"
#include "common/body.hpp"
#include "common/json.hpp"

namespace chat {
namespace {

struct member {
  std::string_view name;
  std::string_view text;
};

/// An open object: `{"type":...,"name":"text",...`
std::string begin(std::string_view type, std::initializer_list<member> members) {
  std::string out = R"({"type":)";
  examples::append_json_string(out, type);
  for (const member& m : members) {
    out.append(",\"").append(m.name).append("\":");
    examples::append_json_string(out, m.text);
  }
  return out;
}
std::string end(std::string out, std::string_view time) {
  out += R"(,"timestamp":)";
  examples::append_json_string(out, time);
  return out + "}";
}
std::string object(std::string_view type, std::initializer_list<member> members,
                   std::string_view time) {
  return end(begin(type, members), time);
}

/// Rounded to a hundredth.
void append_number(std::string& out, std::string_view name, double value) {
  out.append(",\"").append(name).append("\":");
  examples::append_json_number(out, std::round(value * 100) / 100);
}

/// A room that filters can name.
bool is_room(std::string_view name) {
  std::string ignored;
  return must_be(ignored, "room", name);
}

}  // namespace

refusal plain_event(const sse::request& r, std::string_view time, trigger_events& out) {
  std::string fail;
  if (sse::query_value(r.query, "fail", fail) != sse::lookup::absent)
    throw std::runtime_error("this trigger was asked to fail");
  out.push_back({object("event", {{"message", "Something happened!"}}, time), {}, {}});
  return std::nullopt;
}

refusal send_alert(const sse::request& r, std::string_view body, std::string_view time,
                   trigger_events& out) {
  examples::body_fields f;
  if (auto wrong = f.read(r, body)) return wrong;
  const std::string type = f.required("type");
  const std::string message = f.required("message");
  std::string priority = f.optional("priority").value_or("");
  if (f.wrong()) return examples::bad_params();
  if (priority.empty()) priority = "normal";
  out.push_back(
      {object("alert", {{"alertType", type}, {"message", message}, {"priority", priority}}, time),
       {},
       {}});
  return std::nullopt;
}

refusal send_chat(const sse::request& r, std::string_view body, std::string_view time,
                  trigger_events& out) {
  examples::body_fields f;
  if (auto wrong = f.read(r, body)) return wrong;
  const std::string user = f.required("user");
  const std::string room = f.required("room");
  const std::string message = f.required("message");
  trigger_event e;
  if (f.wrong() || !unless_other(e.audience, "room", room)) return examples::bad_params();
  e.json = object("chat_message", {{"user", user}, {"room", room}, {"message", message}}, time);
  e.hint = object("activity", {{"room", room}}, time);
  out.push_back(std::move(e));
  return std::nullopt;
}

refusal send_typing(const sse::request& r, std::string_view body, std::string_view time,
                    trigger_events& out) {
  examples::body_fields f;
  if (auto wrong = f.read(r, body)) return wrong;
  const std::string user = f.required("user");
  const std::string room = f.required("room");
  if (f.wrong() || !is_room(room)) return examples::bad_params();
  trigger_event e{object("typing", {{"user", user}, {"room", room}}, time), {}, {}};
  must_be(e.audience, "room", room);
  must_have(e.audience, "presence");
  out.push_back(std::move(e));
  return std::nullopt;
}

refusal broadcast_data(const sse::request& r, std::string_view time, trigger_events& out) {
  std::string sensor;
  std::string given;
  if (sse::query_value(r.query, "sensor", sensor) != sse::lookup::found || sensor.empty())
    return examples::bad_params();
  double value = 0;
  if (sse::query_value(r.query, "value", given) != sse::lookup::absent) {
    const auto [stop, error] = std::from_chars(given.data(), given.data() + given.size(), value);
    if (error != std::errc{} || stop != given.data() + given.size() || !std::isfinite(value))
      return examples::bad_params();
  } else {  // a sensor that is not there
    static std::minstd_rand simulated{20240131};
    value = std::uniform_real_distribution<double>{18, 30}(simulated);
  }
  std::string json = begin("data_update", {{"sensor_id", sensor}});
  append_number(json, "value", value);
  json += R"(,"unit":"celsius","location":"server_room")";
  out.push_back({end(std::move(json), time), {}, {}});
  return std::nullopt;
}

refusal github_webhook(const sse::request& r, std::string_view body, std::string_view time,
                       trigger_events& out) {
  (void)r;
  examples::json_document doc;
  const examples::json_result result = doc.parse(body);
  if (result == examples::json_result::malformed) return examples::bad_json();
  const auto action = doc.string("action");
  if (!action || !doc.enter("repository")) return examples::bad_params();
  const auto name = doc.string("name");
  if (!name) return examples::bad_params();
  out.push_back({object("external_update",
                        {{"source", "github"}, {"event", *action}, {"repository", *name}}, time),
                 {},
                 {}});
  return std::nullopt;
}

refusal user_action(const sse::request& r, std::string_view body, std::string_view time,
                    trigger_events& out) {
  examples::body_fields f;
  if (auto wrong = f.read(r, body)) return wrong;
  const std::string action = f.required("action");
  const auto user = f.optional("user");
  if (f.wrong()) return examples::bad_params();
  std::string json = begin("user_action", {{"action", action}});
  if (user) {
    json += R"(,"user":)";
    examples::append_json_string(json, *user);
  }
  out.push_back({end(std::move(json), time), {}, {}});
  if (action == "critical_operation") {
    out.push_back(
        {object("system_status", {{"status", "busy"}, {"operation", action}}, time), {}, {}});
  }
  return std::nullopt;
}

std::string metrics_event(std::uint64_t requests, std::string_view time) {
  double load = 0;
  const long cores = std::max(::get_nprocs(), 1);
  if (::getloadavg(&load, 1) != 1) load = 0;
  struct ::sysinfo machine {};
  double used = 0;
  if (::sysinfo(&machine) == 0 && machine.totalram != 0) {
    const auto total = static_cast<double>(machine.totalram);
    used = 100 * (total - static_cast<double>(machine.freeram)) / total;
  }
  std::string out = begin("metrics", {});
  append_number(out, "cpu", std::min(100.0, 100 * load / static_cast<double>(cores)));
  append_number(out, "memory", used);
  out += R"(,"requests":)" + std::to_string(requests);
  return end(std::move(out), time);
}

std::string error_event(std::string_view time) {
  return object("error", {{"message", "Something went wrong"}}, time);
}

}  // namespace chat
