// ssehub examples. SPDX-License-Identifier: MIT
//
// body_fields: the fields of a request body, a JSON object or a form, whichever came.
//
//   examples::body_fields f;
//   if (auto error = f.read(request, body)) return *std::move(error);  // 400 bad_json, bad_params
//   const std::string user = f.required("user");
//   const std::string note = f.optional("note").value_or("");
//   if (f.wrong()) return examples::bad_params();  // common/answers.hpp
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <sse/request.hpp>

#include "common/json.hpp"

namespace examples {

/// Its Content-Type is application/json, or another type made of it.
[[nodiscard]] bool says_json(const sse::request& r);

class body_fields {
 public:
  /// Takes the body, which must live as long as this. The answer, if it cannot be read: JSON that
  /// is none, or no object. A body that begins with `{` is JSON, whatever it is called.
  [[nodiscard]] std::optional<sse::response> read(const sse::request& r, std::string_view body);

  /// A field's text. Absent: not there, or null. Another type than a string, or a malformed escape:
  /// absent, and wrong().
  [[nodiscard]] std::optional<std::string> optional(std::string_view name);
  /// The same, but wrong() too if it is not there or empty.
  [[nodiscard]] std::string required(std::string_view name);
  /// A JSON value, as it was written (json_document::raw). A form's field becomes a JSON string.
  [[nodiscard]] std::string value(std::string_view name);

  [[nodiscard]] bool wrong() const noexcept { return wrong_; }
  [[nodiscard]] bool is_json() const noexcept { return json_; }
  [[nodiscard]] const json_document& json() const noexcept { return doc_; }

 private:
  json_document doc_;
  std::string_view body_{};
  bool json_ = false;
  bool wrong_ = false;
};

}  // namespace examples
