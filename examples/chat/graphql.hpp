// ssehub example chat. SPDX-License-Identifier: MIT
//
// Reads a GraphQL document as far as a server needs whose fields are all plain values: which
// operation, and which fields under which names.
//
//   const auto r = chat::graphql::read("subscription { news: liveEvents }", "");
//   if (!r.error.empty()) return answer(chat::graphql::errors_json(r.error, r.at));
//   use(r.op.fields[0].key, r.op.fields[0].name);  // "news", "liveEvents"
//
// The whole document must be well formed (GraphQL specification, October 2021, section 2);
// arguments and variables are read and not used. Fragments, directives and type definitions are
// refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace chat::graphql {

enum class operation_kind : std::uint8_t { query, mutation, subscription };

struct field {
  std::string key{};  ///< its name in the answer: the alias, or else the name
  std::string name{};
  bool has_selection = false;
};

struct operation {
  operation_kind kind = operation_kind::query;
  std::string name{};           ///< empty: anonymous
  std::vector<field> fields{};  ///< one for each key
};

/// A place in the document, both from 1; 0: none.
struct place {
  std::size_t line = 0;
  std::size_t column = 0;
};

struct read_result {
  std::string error{};  ///< empty: none
  place at{};
  operation op{};
};

/// The operation of that name; the only one if `name` is empty.
[[nodiscard]] read_result read(std::string_view document, std::string_view name);

/// A letter or underscore, then letters, digits and underscores; at most 128.
[[nodiscard]] bool is_name(std::string_view text) noexcept;

/// `{"errors":[{"message":...,"locations":[...]}]}`
[[nodiscard]] std::string errors_json(std::string_view message, place at = {});

}  // namespace chat::graphql
