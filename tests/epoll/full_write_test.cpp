// epoll_server: an answer that finds no room at all.
#include <string_view>

#include <sse/epoll.hpp>

#include "catch.hpp"
#include "host_timings.hpp"

namespace {

using loop = test::polled<sse::epoll_server<>>;

}  // namespace

TEST_CASE("an answer whose first write finds no room has the write deadline") {
  if (test::cannot_hold_the_server()) return;
  for (const std::string_view headers : {"", "Connection: close\r\n"}) {
    CAPTURE(headers);
    test::first_write_never_has_room<loop>(headers);
  }
}
