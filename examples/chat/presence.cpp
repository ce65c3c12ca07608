// ssehub example chat. SPDX-License-Identifier: MIT
#include "presence.hpp"

#include "common/json.hpp"

namespace chat {

bool presence::enter(std::string_view room, std::string_view user) {
  connections& in = rooms_.try_emplace(std::string{room}).first->second;
  return ++in.try_emplace(std::string{user}).first->second == 1;
}

bool presence::leave(std::string_view room, std::string_view user) {
  const auto in = rooms_.find(room);
  if (in == rooms_.end()) return false;
  const auto who = in->second.find(user);
  if (who == in->second.end() || --who->second != 0) return false;
  in->second.erase(who);
  if (in->second.empty()) rooms_.erase(in);
  return true;
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

std::string presence::change(std::string_view room, std::string_view user, bool present,
                             std::string_view time) {
  std::string out = R"({"type":"presence","room":)";
  examples::append_json_string(out, room);
  out += R"(,"user":)";
  examples::append_json_string(out, user);
  out += R"(,"present":)";
  out += present ? "true" : "false";
  out += R"(,"timestamp":)";
  examples::append_json_string(out, time);
  return out + "}";
}

}  // namespace chat
