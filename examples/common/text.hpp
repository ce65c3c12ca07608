// ssehub examples. SPDX-License-Identifier: MIT
//
// Text for pages that are made on the server.
#pragma once

#include <string>
#include <string_view>

namespace examples {

/// For the text of an element, and for a quoted attribute.
[[nodiscard]] std::string html_escaped(std::string_view text);
/// For one segment of a path (RFC 3986 3.3): everything but unreserved characters is escaped.
[[nodiscard]] std::string path_escaped(std::string_view text);
/// With every `mark` replaced.
[[nodiscard]] std::string replaced(std::string_view text, std::string_view mark,
                                   std::string_view by);

}  // namespace examples
