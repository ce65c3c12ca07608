// The hub's hooks may end streams, their own and all others, and stop the server: sse/server.hpp
// says that hooks may call anything of it.
#include <sse/io_uring.hpp>

#include "ending_hooks.hpp"
#include "io_uring/refused.hpp"
#include "loop_server.hpp"

using server = test::loop_server<sse::uring_server<>>;

TEST_CASE("io_uring: a hook may revoke the user for whom it runs") {
  if (test::refused()) return;
  test::every_hook_ends_streams<server>(test::ending::revoke_her);
}
TEST_CASE("io_uring: a hook may revoke another user") {
  if (test::refused()) return;
  test::every_hook_ends_streams<server>(test::ending::revoke_him);
}
TEST_CASE("io_uring: a hook may close all streams") {
  if (test::refused()) return;
  test::every_hook_ends_streams<server>(test::ending::close_all);
}
TEST_CASE("io_uring: a hook may stop its server") {
  if (test::refused()) return;
  test::every_hook_ends_streams<server>(test::ending::stop);
}
