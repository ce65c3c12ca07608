// The hub's hooks may end streams, their own and all others, and stop the server: sse/server.hpp
// says that hooks may call anything of it.
#include <sse/io_uring.hpp>

#include "ending_hooks.hpp"
#include "loop_server.hpp"

namespace {

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

using server = test::loop_server<sse::uring_server<>>;

TEST_CASE("io_uring: a hook may revoke the user for whom it runs") {
  if (refused()) return;
  test::every_hook_ends_streams<server>(test::ending::revoke_her);
}
TEST_CASE("io_uring: a hook may revoke another user") {
  if (refused()) return;
  test::every_hook_ends_streams<server>(test::ending::revoke_him);
}
TEST_CASE("io_uring: a hook may close all streams") {
  if (refused()) return;
  test::every_hook_ends_streams<server>(test::ending::close_all);
}
TEST_CASE("io_uring: a hook may stop its server") {
  if (refused()) return;
  test::every_hook_ends_streams<server>(test::ending::stop);
}
