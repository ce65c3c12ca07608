// ssehub examples. SPDX-License-Identifier: MIT
//
// Answers that all the programs give in the same way.
//
//   if (!examples::has_token(r, common)) return examples::unauthorized();
//   if (f.wrong()) return examples::bad_params();
//   return room ? examples::ok() : examples::error(404, "not_found");
#pragma once

#include <string>
#include <string_view>

#include <sse/request.hpp>

namespace examples {

/// 200 with a body of JSON.
[[nodiscard]] sse::response ok(std::string json = R"({"ok":true})");
/// `{"error":"word"}`; the word is one of ours, of letters and underscores.
[[nodiscard]] sse::response error(int status, std::string_view word);
/// 400 `{"error":"bad_params"}`.
[[nodiscard]] sse::response bad_params();
/// 400 `{"error":"bad_json"}`.
[[nodiscard]] sse::response bad_json();
/// 401 `{"error":"unauthorized"}`.
[[nodiscard]] sse::response unauthorized();

}  // namespace examples
