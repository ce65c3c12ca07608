// ssehub examples. SPDX-License-Identifier: MIT
#include "common/body.hpp"

#include "common/answers.hpp"

namespace examples {

bool says_json(const sse::request& r) {
  const std::string_view content_type = r.header_value("Content-Type");
  std::string type{content_type.substr(0, content_type.find(';'))};
  for (char& c : type) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return type.find("/json") != std::string::npos || type.find("+json") != std::string::npos;
}

std::optional<sse::response> body_fields::read(const sse::request& r, std::string_view body) {
  body_ = body;
  wrong_ = false;
  const std::size_t start = body.find_first_not_of(" \t\r\n");
  json_ = (start != std::string_view::npos && body[start] == '{') ||  // curl -d says form
          says_json(r);
  if (!json_) return std::nullopt;
  switch (doc_.parse(body)) {
    case json_result::object: return std::nullopt;
    case json_result::other: return bad_params();
    case json_result::malformed: break;
  }
  return bad_json();
}

std::optional<std::string> body_fields::optional(std::string_view name) {
  if (json_) {
    if (const auto text = doc_.string(name)) return std::string{*text};
    wrong_ = wrong_ || doc_.has(name);
    return std::nullopt;
  }
  std::string text;
  const sse::lookup found = sse::query_value(body_, name, text);
  wrong_ = wrong_ || found == sse::lookup::malformed;
  if (found != sse::lookup::found) return std::nullopt;
  return text;
}

std::string body_fields::required(std::string_view name) {
  std::string text = optional(name).value_or("");
  wrong_ = wrong_ || text.empty();
  return text;
}

std::string body_fields::value(std::string_view name) {
  std::string out;
  if (json_) {
    out = doc_.raw(name).value_or("");
  } else if (const auto text = optional(name)) {
    append_json_string(out, *text);
  }
  return out;
}

}  // namespace examples
