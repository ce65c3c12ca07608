// What a growing buffer refuses.
#include <cstddef>
#include <string_view>

#include <sse/detail/base/byte_buffer.hpp>

#include "catch.hpp"

TEST_CASE("bytes: a size that no memory has is refused, also where the sum would run over",
          "[containers]") {
  sse::detail::bytes b;
  REQUIRE(b.append("0123456789"));
  const char one = 'x';
  for (const std::size_t size : {~std::size_t{0} - 9, ~std::size_t{0} - 64, ~std::size_t{0} / 2}) {
    const bool taken = b.append({&one, size});  // not one of its bytes may be read
    REQUIRE_FALSE(taken);
    CHECK(b.view() == "0123456789");
  }
}
