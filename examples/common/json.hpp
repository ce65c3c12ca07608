// ssehub examples. SPDX-License-Identifier: MIT
//
// Writing JSON strings and numbers, and json_document, which reads one JSON object with simdjson,
// which only json.cpp includes (it costs 1.5 s per file).
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
#include <vector>

namespace examples {

/// Appends a JSON string with its quotes, always on one line; what is not UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);
/// Appends a JSON number that reads back as the same double (`1.0`, not `1`); null if not finite.
void append_json_number(std::string& out, double value);

/// The text of a member of a JSON object, as it was written; empty if there is none. Of a name that
/// occurs twice the last value counts. REQUIRES: json_document::parse() found `object` to be an
/// object.
[[nodiscard]] std::string_view json_member(std::string_view object, std::string_view name) noexcept;
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
  [[nodiscard]] std::vector<std::string_view> keys() const;          ///< in their order

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
