// uring_server: an answer that finds no room at all.
#include <string_view>
#include <system_error>

#include <sse/io_uring.hpp>

#include "catch.hpp"
#include "host_timings.hpp"
#include "io_uring/refused.hpp"

namespace {

using loop = test::polled<sse::uring_server<>>;

}  // namespace

TEST_CASE("io_uring: an answer whose first write finds no room has the write deadline") {
  if (test::cannot_hold_the_server()) return;
  if (test::refused()) return;
  for (const std::string_view headers : {"", "Connection: close\r\n"}) {
    CAPTURE(headers);
    test::first_write_never_has_room<loop>(headers);
  }
}
