// ssehub examples. SPDX-License-Identifier: MIT
#include "common/json.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <string>
#include <system_error>

#include <sse/detail/utf8.hpp>

namespace examples {
namespace {

/// The four hex digits at text[at], or -1.
int hex4(std::string_view text, std::size_t at) noexcept {
  if (at + 4 > text.size()) return -1;
  int value = 0;
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + 4, value, 16);
  return error == std::errc{} && end == text.data() + at + 4 && text[at] != '-' ? value : -1;
}

/// RFC 8259 6.
bool is_number(std::string_view t) noexcept {
  const auto digits = [&t] {
    const std::size_t n = std::min(t.find_first_not_of("0123456789"), t.size());
    t.remove_prefix(n);
    return n > 0;
  };
  if (t.starts_with('-')) t.remove_prefix(1);
  if (t.starts_with('0')) {
    t.remove_prefix(1);
  } else if (!digits()) {
    return false;
  }
  if (t.starts_with('.')) {
    t.remove_prefix(1);
    if (!digits()) return false;
  }
  if (t.starts_with('e') || t.starts_with('E')) {
    t.remove_prefix(t.substr(1, 1).find_first_of("+-") == 0 ? 2 : 1);
    if (!digits()) return false;
  }
  return t.empty();
}

/// True for a JSON number that simdjson cannot hold.
bool is_too_large(std::string_view token) noexcept {
  if (!is_number(token)) return false;
  constexpr auto out_of_range = std::errc::result_out_of_range;
  const char* const end = token.data() + token.size();
  if (token.find_first_of(".eE") != std::string_view::npos) {
    double d = 0;
    return std::from_chars(token.data(), end, d).ec == out_of_range;
  }
  std::int64_t i = 0;
  std::uint64_t u = 0;
  if (token.front() == '-') return std::from_chars(token.data(), end, i).ec == out_of_range;
  return std::from_chars(token.data(), end, u).ec == out_of_range;
}

/// simdjson refuses some texts that are JSON by RFC 8259: integers beyond 64 bits, numbers beyond a
/// double, escapes of a lone surrogate. They are events like any other, so these parts are replaced
/// (by null and U+FFFD) for reading only.
std::string soften(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool in_string = false;
  std::size_t i = 0;
  while (i < text.size()) {
    const char c = text[i];
    std::size_t used = 1;
    if (in_string && c == '\\') {
      used = text.size() - i < 2 ? 1 : 2;
      if (const int unit = used == 2 && text[i + 1] == 'u' ? hex4(text, i + 2) : -1; unit >= 0) {
        used = 6;
        if (unit >= 0xD800 && unit <= 0xDFFF) {
          const bool escaped = text.substr(i + 6, 2) == "\\u";
          const int next = unit <= 0xDBFF && escaped ? hex4(text, i + 8) : -1;
          if (next < 0xDC00 || next > 0xDFFF) {
            out += "\\ufffd";
            i += used;
            continue;
          }
          used = 12;
        }
      }
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == '-' || (c >= '0' && c <= '9'))) {
      used = std::min(text.find_first_not_of("+-.0123456789eE", i), text.size()) - i;
      if (is_too_large(text.substr(i, used))) {
        out += "null";
        i += used;
        continue;
      }
    }
    out += text.substr(i, used);
    i += used;
  }
  return out;
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const sse::detail::utf8_step step = sse::detail::next_utf8(text);
    const char c = text.front();
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (!step.valid) {
          out += "\xEF\xBF\xBD";
        } else if (static_cast<unsigned char>(c) < 0x20) {
          fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += text.substr(0, step.size);
        }
    }
    text.remove_prefix(step.size);
  }
  out += '"';
}

void append_json_number(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  const std::size_t start = out.size();
  fmt::format_to(std::back_inserter(out), "{}", value);
  if (out.find_first_of(".e", start) == std::string::npos) out += ".0";
}

namespace {

/// Past the string that begins at text[i].
std::size_t skip_string(std::string_view text, std::size_t i) noexcept {
  for (++i; i < text.size() && text[i] != '"'; ++i) {
    if (text[i] == '\\') ++i;
  }
  return std::min(i + 1, text.size());
}

bool is_json_space(char c) noexcept { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// Past the value that begins at text[i], up to the comma or bracket behind it.
std::size_t skip_value(std::string_view text, std::size_t i) noexcept {
  std::size_t depth = 0;
  while (i < text.size()) {
    const char c = text[i];
    if (c == '"') {
      i = skip_string(text, i);
      continue;
    }
    if (depth == 0 && (c == ',' || c == '}' || c == ']')) break;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    ++i;
  }
  return i;
}

}  // namespace

std::string_view json_member(std::string_view object, std::string_view name) noexcept {
  std::string_view found;
  std::size_t i = std::min(object.find('{'), object.size());
  const auto next_token = [&] {
    while (i < object.size() && is_json_space(object[i])) ++i;
  };
  while (i < object.size() && object[i] != '}') {
    ++i;  // the bracket, or a comma
    next_token();
    if (i >= object.size() || object[i] != '"') break;
    const std::size_t key = i;
    i = skip_string(object, i);
    const bool is_it = object.substr(key + 1, i - key - 2) == name;
    next_token();
    ++i;  // the colon
    next_token();
    const std::size_t value = std::min(i, object.size());
    i = skip_value(object, value);
    if (!is_it) continue;
    found = object.substr(value, i - value);
    while (!found.empty() && is_json_space(found.back())) found.remove_suffix(1);
  }
  return found;
}

void append_json_compact(std::string& out, std::string_view json) {
  out.reserve(out.size() + json.size());
  for (std::size_t i = 0; i < json.size();) {
    std::size_t end = i + 1;
    if (json[i] == '"') {
      end = skip_string(json, i);
    } else if (is_json_space(json[i])) {
      ++i;
      continue;
    }
    out += json.substr(i, end - i);
    i = end;
  }
}

struct json_document::impl {
  simdjson::dom::parser parser;
  simdjson::dom::object root;
  simdjson::dom::object current;
  bool readable = false;  ///< the last parse() found an object

  [[nodiscard]] static bool find(const simdjson::dom::object& in, std::string_view key,
                                 simdjson::dom::element& found) noexcept {
    bool any = false;
    for (const auto f : in) {
      if (f.key == key) {
        found = f.value;
        any = true;
      }
    }
    return any;
  }

  template <class T>
  [[nodiscard]] std::optional<T> get(std::string_view key) const noexcept {
    simdjson::dom::element e;
    T value{};
    if (!readable || !find(current, key, e) || e.get(value) != simdjson::SUCCESS)
      return std::nullopt;
    return value;
  }
};

json_document::json_document() : impl_{std::make_unique<impl>()} {}
json_document::~json_document() = default;
json_document::json_document(json_document&&) noexcept = default;
json_document& json_document::operator=(json_document&&) noexcept = default;

json_result json_document::parse(std::string_view text) {
  impl_->readable = false;
  if (text.empty()) return json_result::malformed;
  simdjson::dom::element e;
  auto error = impl_->parser.parse(text.data(), text.size()).get(e);
  if (error == simdjson::NUMBER_ERROR || error == simdjson::STRING_ERROR) {
    const std::string softened = soften(text);
    error = impl_->parser.parse(softened).get(e);
  }
  if (error != simdjson::SUCCESS) return json_result::malformed;
  if (e.get(impl_->root) != simdjson::SUCCESS) return json_result::other;
  impl_->readable = true;
  leave();
  return json_result::object;
}

std::optional<std::string_view> json_document::string(std::string_view key) const {
  return impl_->get<std::string_view>(key);
}

std::optional<double> json_document::number(std::string_view key) const {
  return impl_->get<double>(key);
}

std::optional<std::int64_t> json_document::integer(std::string_view key) const {
  return impl_->get<std::int64_t>(key);
}

bool json_document::has(std::string_view key) const {
  simdjson::dom::element e;
  return impl_->readable && impl::find(impl_->current, key, e) && !e.is_null();
}

std::size_t json_document::array_size(std::string_view key) const {
  const auto array = impl_->get<simdjson::dom::array>(key);
  if (!array) return 0;
  std::size_t n = 0;  // size() saturates at 0xFFFFFF
  for ([[maybe_unused]] const auto item : *array) ++n;
  return n;
}

std::vector<std::string_view> json_document::keys() const {
  std::vector<std::string_view> out;
  if (!impl_->readable) return out;
  for (const auto f : impl_->current) out.push_back(f.key);
  return out;
}

bool json_document::enter(std::string_view key) {
  const auto object = impl_->get<simdjson::dom::object>(key);
  if (object) impl_->current = *object;
  return object.has_value();
}

bool json_document::enter_item(std::string_view key, std::size_t index) {
  simdjson::dom::element e;
  simdjson::dom::array array;
  if (!impl_->readable || !impl::find(impl_->root, key, e) || e.get(array) != simdjson::SUCCESS)
    return false;
  simdjson::dom::element item;
  return array.at(index).get(item) == simdjson::SUCCESS &&
         item.get(impl_->current) == simdjson::SUCCESS;
}

void json_document::leave() { impl_->current = impl_->root; }

}  // namespace examples
