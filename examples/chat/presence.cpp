// ssehub example chat. SPDX-License-Identifier: MIT
#include "presence.hpp"

#include <utility>

#include "common/json.hpp"

namespace chat {

bool presence::enter(std::string_view room, std::string_view user) {
  connections& in = rooms_.try_emplace(std::string{room}).first->second;
  if (++in.try_emplace(std::string{user}).first->second != 1) return false;
  changed(room, user, true);
  return true;
}

bool presence::leave(std::string_view room, std::string_view user) {
  const auto in = rooms_.find(room);
  if (in == rooms_.end()) return false;
  const auto who = in->second.find(user);
  if (who == in->second.end() || --who->second != 0) return false;
  in->second.erase(who);
  if (in->second.empty()) rooms_.erase(in);
  changed(room, user, false);
  return true;
}

/// A second change undoes the first: they alternate.
void presence::changed(std::string_view room, std::string_view user, bool present) {
  const auto [at, is_new] = changes_.try_emplace({std::string{room}, std::string{user}}, present);
  if (!is_new) changes_.erase(at);
}

std::size_t presence::users(std::string_view room) const noexcept {
  const auto in = rooms_.find(room);
  return in == rooms_.end() ? 0 : in->second.size();
}

std::string presence::everybody() const {
  std::string out = R"({"type":"presence","rooms":[)";
  bool complete = true;
  for (const auto& [room, in] : rooms_) {
    if (out.size() > max_snapshot) {
      complete = false;
      break;
    }
    out += out.back() == '[' ? R"({"room":)" : R"(,{"room":)";
    examples::append_json_string(out, room);
    out += R"(,"users":[)";
    for (const auto& [user, n] : in) {
      if (out.size() > max_snapshot) {
        complete = false;
        break;
      }
      if (out.back() != '[') out += ',';
      examples::append_json_string(out, user);
    }
    out += "]}";
  }
  return out + R"(],"complete":)" + (complete ? "true}" : "false}");
}

std::string presence::changes(std::string_view time) {
  if (changes_.empty()) return {};
  std::string out = R"({"type":"presence","changes":[)";
  for (const auto& [who, present] : std::exchange(changes_, {})) {
    out += out.back() == '[' ? R"({"room":)" : R"(,{"room":)";
    examples::append_json_string(out, who.first);
    out += R"(,"user":)";
    examples::append_json_string(out, who.second);
    out += present ? R"(,"present":true})" : R"(,"present":false})";
  }
  out += R"(],"timestamp":)";
  examples::append_json_string(out, time);
  return out + "}";
}

}  // namespace chat
