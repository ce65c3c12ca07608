// An Asio server whose loop the test turns by hand; see host_limits.hpp.
#pragma once

#include <sse/asio.hpp>

namespace test {

struct asio_loop {
  explicit asio_loop(const sse::server_options& o) : server{context, o} {}
  void turn() {
    server.clock_moved();
    context.restart();
    for (int most = 1000; most > 0 && context.poll_one() != 0; --most) {
    }
  }
  asio::io_context context{1};
  sse::asio_server<> server;
};

}  // namespace test
