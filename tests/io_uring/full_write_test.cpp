// uring_server: an answer that finds no room at all.
#include <string_view>
#include <system_error>

#include <sse/io_uring.hpp>

#include "catch.hpp"
#include "host_limits.hpp"

namespace {

struct loop {
  explicit loop(const sse::server_options& o) : server{o} {}
  void turn() { server.poll(); }
  sse::uring_server<> server;
};

bool refused() {
  try {
    const sse::uring_server<> s;
    return false;
  } catch (const std::system_error& e) {
    WARN("SKIPPED: io_uring does not work here: " << e.what());
    return true;
  }
}

}  // namespace

TEST_CASE("io_uring: an answer whose first write finds no room has the write deadline") {
  if (test::cannot_hold_the_server()) return;
  if (refused()) return;
  for (const std::string_view headers : {"", "Connection: close\r\n"}) {
    CAPTURE(headers);
    test::first_write_never_has_room<loop>(headers);
  }
}
