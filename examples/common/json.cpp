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

#include <sse/detail/base/utf8.hpp>

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

/// Behind the value that begins at `at` in valid JSON.
std::size_t end_of_value(std::string_view text, std::size_t at) noexcept {
  bool in_string = false;
  std::size_t depth = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (depth == 0 && (c == ',' || c == ':' || c == '}' || c == ']')) {
      break;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return at;
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

void append_json_compact(std::string& out, std::string_view json) {
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string && c == '\\') {
      out += c;
      if (++i < json.size()) out += json[i];
      continue;
    }
    if (c == '"') in_string = !in_string;
    if (in_string || (c != ' ' && c != '\t' && c != '\n' && c != '\r')) out += c;
  }
}

struct json_document::impl {
  simdjson::dom::parser parser;
  simdjson::dom::object root;
  simdjson::dom::object current;
  std::string_view text;
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

/// An integer of more than 64 bits has an error of its own since simdjson 3.8.
template <class Error>
static constexpr bool is_too_big(Error e) noexcept {
  if constexpr (requires { Error::BIGINT_ERROR; }) {
    return e == Error::BIGINT_ERROR;
  } else {
    return e == Error::NUMBER_ERROR;
  }
}

json_document::json_document() : impl_{std::make_unique<impl>()} {}
json_document::~json_document() = default;
json_document::json_document(json_document&&) noexcept = default;
json_document& json_document::operator=(json_document&&) noexcept = default;

json_result json_document::parse(std::string_view text) {
  impl_->readable = false;
  impl_->text = text;
  // RFC 8259 8.1 lets a parser skip a byte order mark: some versions of simdjson do, others do not.
  if (text.empty() || text.starts_with("\xEF\xBB\xBF")) return json_result::malformed;
  simdjson::dom::element e;
  auto error = impl_->parser.parse(text.data(), text.size()).get(e);
  if (error == simdjson::NUMBER_ERROR || error == simdjson::STRING_ERROR || is_too_big(error)) {
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

std::optional<std::vector<std::string_view>> json_document::strings(std::string_view key) const {
  const auto array = impl_->get<simdjson::dom::array>(key);
  if (!array) return std::nullopt;
  std::vector<std::string_view> out;
  for (const auto item : *array) {
    std::string_view text;
    if (item.get(text) != simdjson::SUCCESS) return std::nullopt;
    out.push_back(text);
  }
  return out;
}

std::optional<std::string> json_document::raw(std::string_view key) const {
  if (!impl_->readable) return std::nullopt;
  std::size_t wanted = 0;  // the member's number, from 1: its name may be written with escapes
  std::size_t n = 0;
  for (const auto f : impl_->root) {
    ++n;
    if (f.key == key) wanted = n;
  }
  if (wanted == 0) return std::nullopt;
  const std::string_view text = impl_->text;
  std::size_t at = text.find('{') + 1;
  for (;; ++at) {
    at = end_of_value(text, at) + 1;  // the name and its colon
    const std::size_t end = end_of_value(text, at);
    if (--wanted == 0) {
      std::string out;
      append_json_compact(out, text.substr(at, end - at));
      return out;
    }
    at = end;
  }
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
