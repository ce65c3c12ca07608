// ssehub example chat. SPDX-License-Identifier: MIT
#include "streams.hpp"

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <utility>

#include "common/answers.hpp"
#include "common/body.hpp"
#include "common/flags.hpp"
#include "common/json.hpp"
#include "common/replace_file.hpp"

namespace chat {
namespace {

/// A parameter that a connection has by its path: no query can say it.
constexpr std::string_view of_stream = "\x01stream";

}  // namespace

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
  if (has(path)) return add_result::there_already;
  if (all_.size() == max_streams) return add_result::full;
  if (!open(path, *history_ ? history_->stats().last : 0)) return add_result::full;
  if (save()) return add_result::added;
  http_->remove(path);
  all_.erase(all_.find(path));
  return add_result::not_stored;
}

bool streams::open(std::string_view path, sse::event_id began) {
  const sse::channel c = are_one() ? http_->hub().find_channel(channel_name)
                                   : http_->open_channel(path, channel_options_of(settings_));
  if (!c) return false;
  http_->stream(path,
                [this, name = std::string{path}](const sse::request& r) { return admit(r, name); });
  all_.emplace(path, stream{c, began, {}});
  return true;
}

sse::verdict<reader> streams::admit(const sse::request& r, const std::string& path) const {
  auto query = parameters::read(r.query);
  if (!query) return examples::bad_params();
  const stream& s = all_.find(path)->second;
  std::string user{query->get("user")};
  query->set(of_stream, path);
  sse::verdict<reader> v{reader{*std::move(query), path}, std::move(user)};
  v.join(s.channel);
  // What the others had before it was there is none of it; 0 is everything, also what is in files.
  const sse::resume_point from = sse::resume_from(r);
  if (!*history_ || from.state != sse::resume_point::kind::given || from.after > s.began) return v;
  return std::move(v).after(std::min(s.began, history_->order().head()));
}

bool streams::remove(std::string_view path) {
  const auto at = all_.find(path);
  if (at == all_.end()) return false;
  const stream gone = std::move(at->second);
  http_->remove(path);
  all_.erase(at);  // first: what its end makes others send cannot go there
  if (!are_one()) {
    http_->close_channel(gone.channel);
    return true;
  }
  for (const auto& [slot, id] : gone.readers) http_->hub().close(id);
  if (!save())
    examples::log_line("error: " + file() + " cannot be written: " + std::string{path} +
                       " is there again after a restart");
  return true;
}

void streams::came(sse::session_id id, std::string_view path) {
  if (const auto at = all_.find(path); at != all_.end()) at->second.readers.emplace(id.slot, id);
}

void streams::went(sse::session_id id, std::string_view path) {
  if (const auto at = all_.find(path); at != all_.end()) at->second.readers.erase(id.slot);
}

// --- sending -------------------------------------------------------------------------------------

std::size_t streams::send_to_all(std::string_view json, std::string_view audience) {
  const sse::publish_options o{.audience = audience};
  if (are_one()) {
    const bool taken = all_.empty() || publish(all_.begin()->second.channel, json, o);
    return taken ? all_.size() : 0;
  }
  return static_cast<std::size_t>(std::count_if(
      all_.begin(), all_.end(), [&](const auto& s) { return publish(s.second.channel, json, o); }));
}

bool streams::send(std::string_view path, std::string_view json, const sse::publish_options& o) {
  const auto at = all_.find(path);
  if (at == all_.end()) return false;
  if (!are_one()) return publish(at->second.channel, json, o);
  std::string audience{o.audience};
  must_be(audience, of_stream, path);
  sse::publish_options with = o;
  with.audience = audience;
  return publish(at->second.channel, json, with);
}

bool streams::publish(sse::channel to, std::string_view json, const sse::publish_options& o) {
  if (!are_one()) return static_cast<bool>(http_->publish(to, {.data = json}, o));
  bool taken = false;
  if (*cluster_) {
    sse::publish_options with = o;
    const std::string audience = to_header(o.audience);
    with.audience = audience;
    taken = static_cast<bool>(cluster_->publish(0, {.data = json}, with));
  } else {
    taken = static_cast<bool>(history_->publish(0, {.data = json}, o));
  }
  refused_ = refused_ || !taken;
  return taken;
}

std::string streams::json() const {
  std::string out = R"({"items":[)";
  for (const auto& [path, s] : all_) {
    out += out.back() == '[' ? R"({"path":)" : R"(,{"path":)";
    examples::append_json_string(out, path);
    out += R"(,"connections":)" + std::to_string(s.readers.size()) + "}";
  }
  return out + "]}";
}

// --- the file beside the journal -----------------------------------------------------------------

void streams::load() {
  if (!*history_) return;
  std::ifstream in{file()};
  for (std::string line; std::getline(in, line);) {
    const std::string_view text{line};
    const std::size_t space = text.find(' ');
    const auto began = examples::parse_count(text.substr(0, space), 0, sse::max_event_id);
    const std::string_view path = space < text.size() ? text.substr(space + 1) : std::string_view{};
    if (!began || !is_stream_path(path) || has(path) || all_.size() == max_streams)
      throw std::runtime_error{file() + ": " + line +
                               " is no line of it; each is the number of an event, a space and a "
                               "path of its own"};
    if (!open(path, *began)) throw std::runtime_error{file() + ": memory is out"};
  }
}

/// True also where there is nothing to save.
bool streams::save() const {
  if (!*history_) return true;
  std::string text;
  for (const auto& [path, s] : all_) text += std::to_string(s.began) + " " + path + "\n";
  return examples::replace_file(file(), text, 0644).empty();
}

}  // namespace chat
