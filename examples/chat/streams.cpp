// ssehub example chat. SPDX-License-Identifier: MIT
#include "streams.hpp"

#include <algorithm>
#include <utility>

#include "common/answers.hpp"
#include "common/body.hpp"
#include "common/json.hpp"

namespace chat {

sse::channel_options channel_options_of(const settings& s) {
  sse::channel_options o = examples::channel_options_of(s.common);
  o.keep_bytes = 4 << 20;  // anybody may register streams
  o.limits.event = max_event;
  return o;
}

bool is_stream_path(std::string_view path) noexcept {
  if (!path.starts_with('/')) return false;
  std::size_t characters = 0;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F || c == '?' || c == '#') return false;
    characters += (byte & 0xC0U) != 0x80U;
  }
  // A request for a path with such a segment is refused before it gets here.
  return characters <= streams::max_path && path.find("/../") == std::string_view::npos &&
         !path.ends_with("/..");
}

add_result streams::add(std::string_view path) {
  if (!is_stream_path(path)) return add_result::bad_path;
  if (reserved_.find(path) != reserved_.end() || path.starts_with("/graphql/"))
    return add_result::reserved;
  if (all_.find(path) != all_.end()) return add_result::there_already;
  if (all_.size() == max_streams) return add_result::full;
  const sse::channel c = http_->open_channel(path, channel_options_of(settings_));
  if (!c) return add_result::full;
  http_->stream(path, [c, name = std::string{path}](const sse::request& r) -> sse::verdict<reader> {
    auto query = parameters::read(r.query);
    if (!query) return examples::bad_params();
    std::string user{query->get("user")};
    return sse::verdict<reader>{reader{*std::move(query), name}, std::move(user)}.join(c);
  });
  all_.emplace(path, c);
  return add_result::added;
}

bool streams::remove(std::string_view path) {
  const auto at = all_.find(path);
  if (at == all_.end()) return false;
  sse::channel c = at->second;
  http_->remove(path);
  all_.erase(at);  // first: what its end makes others send cannot go there
  http_->close_channel(c);
  return true;
}

sse::channel streams::find(std::string_view path) const noexcept {
  const auto at = all_.find(path);
  return at == all_.end() ? sse::channel{} : at->second;
}

std::size_t streams::send_to_all(std::string_view json, std::string_view audience) {
  return static_cast<std::size_t>(std::count_if(all_.begin(), all_.end(), [&](const auto& s) {
    return static_cast<bool>(http_->publish(s.second, {.data = json}, {.audience = audience}));
  }));
}

bool streams::send(std::string_view path, std::string_view json, const sse::publish_options& o) {
  const sse::channel c = find(path);
  return c && http_->publish(c, {.data = json}, o);
}

std::string streams::json() const {
  std::string out = R"({"items":[)";
  for (const auto& [path, c] : all_) {
    out += out.back() == '[' ? R"({"path":)" : R"(,{"path":)";
    examples::append_json_string(out, path);
    out += R"(,"connections":)" + std::to_string(c.subscribers()) + "}";
  }
  return out + "]}";
}

}  // namespace chat
