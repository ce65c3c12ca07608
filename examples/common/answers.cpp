// ssehub examples. SPDX-License-Identifier: MIT
#include "common/answers.hpp"

#include <utility>

namespace examples {

sse::response ok(std::string json) { return sse::response::json(200, std::move(json)); }

sse::response error(int status, std::string_view word) {
  return sse::response::json(status, R"({"error":")" + std::string{word} + R"("})");
}

sse::response bad_params() { return error(400, "bad_params"); }
sse::response bad_json() { return error(400, "bad_json"); }

sse::response unauthorized() {
  return error(401, "unauthorized").add("WWW-Authenticate", "Bearer");
}

}  // namespace examples
