// Counts a thread's socket calls, and makes one of them fail. The test program compiles
// socket_calls.cpp, whose functions stand in front of the C library's.
//
//   s.on_loop([] { test::fail_socket_call(3, ENOBUFS); });   // the fourth from now
//   ...
//   const bool was_hit = s.on_loop([] { return test::end_failing(); });
//
// Or, where server and client share a thread, makes all of the server's of one kind fail, and
// counts them:
//
//   test::fail_socket_calls(test::socket_call::accept, INT_MAX, EMFILE);
//   { const test::watched_calls now; server.poll(); }
//   CHECK(test::socket_calls_made(test::socket_call::accept) < 3);
#pragma once

namespace test {

/// Of this thread's calls of socket, bind, listen, accept, send, recv, sendmsg, recvmsg, get- and
/// setsockopt, getsockname, getpeername, shutdown, ioctl, epoll_create1, epoll_ctl, epoll_wait and
/// eventfd number `n` (from 0) fails with `error`, without having done anything.
void fail_socket_call(int n, int error) noexcept;
/// No call fails any more. True: one did.
bool end_failing() noexcept;
enum class socket_call { accept, send, recv };  // with accept4, sendmsg, recvmsg

/// While one lives, this thread's calls are those of the server.
struct watched_calls {
  watched_calls() noexcept;
  watched_calls(const watched_calls&) = delete;
  watched_calls& operator=(const watched_calls&) = delete;
  ~watched_calls();
};
/// The next `times` watched calls of that kind fail with `error`, without having done anything; one
/// kind at a time. 0: none does any more.
void fail_socket_calls(socket_call kind, int times, int error) noexcept;
/// Watched calls of that kind so far, also those that failed.
[[nodiscard]] long socket_calls_made(socket_call kind) noexcept;

/// This thread's calls of those functions so far, and of close and fcntl, which never fail.
[[nodiscard]] long socket_calls() noexcept;
/// Of those, calls of epoll_wait: one serves many connections.
[[nodiscard]] long wait_calls() noexcept;
/// How long the last epoll_wait that failed by fail_socket_call would have waited; -1: for ever.
[[nodiscard]] int failed_wait_ms() noexcept;
/// Whether this build can do it: the thread sanitizer has functions of its own in their place.
[[nodiscard]] bool socket_calls_can_fail() noexcept;

}  // namespace test
