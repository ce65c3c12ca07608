// asio_server: an answer that finds no room at all.
#include <string_view>

#include <sse/asio.hpp>

#include "catch.hpp"
#include "host_limits.hpp"

namespace {

struct loop {
  explicit loop(const sse::server_options& o) : server{context, o} {}
  void turn() {
    server.flush_soon();  // so that it looks at the clock
    context.restart();
    for (int most = 1000; most > 0 && context.poll_one() != 0; --most) {
    }
  }
  asio::io_context context{1};
  sse::asio_server<> server;
};

}  // namespace

TEST_CASE("an answer whose first write finds no room has the write deadline") {
  if (test::cannot_hold_the_server()) return;
  for (const std::string_view headers : {"", "Connection: close\r\n"}) {
    CAPTURE(headers);
    test::first_write_never_has_room<loop>(headers);
  }
}
