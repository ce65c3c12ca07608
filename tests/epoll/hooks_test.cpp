// The hub's hooks may end streams, their own and all others, and stop the server: sse/server.hpp
// says that hooks may call anything of it.
#include <sse/epoll.hpp>

#include "ending_hooks.hpp"
#include "loop_server.hpp"

using server = test::loop_server<sse::epoll_server<>>;

TEST_CASE("a hook may revoke the user for whom it runs") {
  test::every_hook_ends_streams<server>(test::ending::revoke_her);
}
TEST_CASE("a hook may revoke another user") {
  test::every_hook_ends_streams<server>(test::ending::revoke_him);
}
TEST_CASE("a hook may close all streams") {
  test::every_hook_ends_streams<server>(test::ending::close_all);
}
TEST_CASE("a hook may stop its server") {
  test::every_hook_ends_streams<server>(test::ending::stop);
}
