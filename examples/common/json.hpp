// ssehub examples. SPDX-License-Identifier: MIT
//
// Writing JSON strings, numbers and objects, and json_document, which reads one JSON object with
// simdjson, which only json.cpp includes (it costs 1.5 s per file).
//
//   json_document doc;
//   if (doc.parse(line) == json_result::object) use(doc.string("type"), doc.number("price"));
//
// The whole text must be JSON: what follows the object is an error. Of a name that occurs twice the
// last value counts, as in a browser's JSON.parse. Views live until the next parse(). Nothing
// throws. Nesting deeper than 1024 is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace examples {

/// Appends a JSON string with its quotes, always on one line; what is not UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);
/// Appends a JSON number that reads back as the same double (`1.0`, not `1`); null if not finite.
void append_json_number(std::string& out, double value);

/// Writes one object on one line:  json_object{}.text("name", name).number("n", 3).done()
class json_object {
 public:
  json_object& text(std::string_view name, std::string_view value) {
    begin(name);
    append_json_string(out_, value);
    return *this;
  }
  json_object& number(std::string_view name, std::int64_t value) {
    begin(name);
    out_ += std::to_string(value);
    return *this;
  }
  /// A value that is JSON already.
  json_object& raw(std::string_view name, std::string_view json) {
    begin(name);
    out_ += json;
    return *this;
  }
  [[nodiscard]] std::string done() {
    out_ += out_.empty() ? "{}" : "}";
    return std::move(out_);
  }

 private:
  void begin(std::string_view name) {
    out_ += out_.empty() ? '{' : ',';
    append_json_string(out_, name);
    out_ += ':';
  }
  std::string out_;
};

/// Appends JSON without the spaces between its tokens: one line, every token as it was written.
/// REQUIRES: `json` is JSON.
void append_json_compact(std::string& out, std::string_view json);

enum class json_result : unsigned char {
  object,     ///< the text is one JSON object: it can be read now
  other,      ///< JSON, but not an object
  malformed,  ///< not JSON
};

class json_document {
 public:
  json_document();
  ~json_document();
  json_document(json_document&&) noexcept;
  json_document& operator=(json_document&&) noexcept;

  [[nodiscard]] json_result parse(std::string_view text);

  // Values of the current object: at first the outermost. Absent when missing or of another type.
  [[nodiscard]] std::optional<std::string_view> string(std::string_view key) const;
  [[nodiscard]] std::optional<double> number(std::string_view key) const;
  [[nodiscard]] std::optional<std::int64_t> integer(std::string_view key) const;
  [[nodiscard]] bool has(std::string_view key) const;                ///< present and not null
  [[nodiscard]] std::size_t array_size(std::string_view key) const;  ///< 0 if it is no array
  /// An array of nothing but strings.
  [[nodiscard]] std::optional<std::vector<std::string_view>> strings(std::string_view key) const;
  /// Any value of the outermost object as it was written, but for the white space between tokens:
  /// on one line, its numbers digit for digit. REQUIRES: the text that was parsed is still there.
  [[nodiscard]] std::optional<std::string> raw(std::string_view key) const;
  [[nodiscard]] std::vector<std::string_view> keys() const;  ///< in their order

  /// Makes the object under `key` the current one. False, and nothing changes, if there is none.
  bool enter(std::string_view key);
  /// Makes the object at `index` of the array under `key` of the outermost object the current one.
  bool enter_item(std::string_view key, std::size_t index);
  /// Back to the outermost object.
  void leave();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace examples
