#undef _FORTIFY_SOURCE  // its inline functions have these names too
#include "socket_calls.hpp"

#if defined(__linux__)
#define TEST_SOCKET_CALLS 1
#endif
#if defined(SSEHUB_TEST_TSAN)
#undef TEST_SOCKET_CALLS
#endif

#ifdef TEST_SOCKET_CALLS
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#endif

namespace {

thread_local int calls_left = -1;  // until the one that fails; below 0: none does
thread_local int error_given = 0;
thread_local bool failed = false;
thread_local long calls_made = 0;
thread_local long waits_made = 0;
thread_local int failed_wait = 0;

thread_local bool watched = false;
thread_local test::socket_call kind_to_fail{};
thread_local int kind_left = 0;
thread_local int kind_error = 0;
thread_local long made[3] = {};

}  // namespace

namespace test {

void fail_socket_call(int n, int error) noexcept {
  calls_left = n;
  error_given = error;
  failed = false;
}
bool end_failing() noexcept {
  calls_left = -1;
  return failed;
}
watched_calls::watched_calls() noexcept { watched = true; }
watched_calls::~watched_calls() { watched = false; }
void fail_socket_calls(socket_call kind, int times, int error) noexcept {
  kind_to_fail = kind;
  kind_left = times;
  kind_error = error;
}
long socket_calls_made(socket_call kind) noexcept { return made[static_cast<int>(kind)]; }
long socket_calls() noexcept { return calls_made; }
long wait_calls() noexcept { return waits_made; }
int failed_wait_ms() noexcept { return failed_wait; }
bool socket_calls_can_fail() noexcept {
#ifdef TEST_SOCKET_CALLS
  return true;
#else
  return false;
#endif
}

}  // namespace test

#ifdef TEST_SOCKET_CALLS
namespace {

template <class... T>
long call(long number, T... arguments) noexcept {
  ++calls_made;
  if (calls_left >= 0 && calls_left-- == 0) {
    failed = true;
    errno = error_given;
    return -1;
  }
  return ::syscall(number, arguments...);
}
/// The same for one of a kind.
template <class... T>
long call(test::socket_call kind, long number, T... arguments) noexcept {
  if (watched) ++made[static_cast<int>(kind)];
  if (watched && kind_left > 0 && kind == kind_to_fail) {
    --kind_left;
    errno = kind_error;
    return -1;
  }
  return call(number, arguments...);
}
template <class... T>
int small(long number, T... arguments) noexcept {
  return static_cast<int>(call(number, arguments...));
}

}  // namespace

extern "C" {

int socket(int domain, int type, int protocol) noexcept {
  return small(SYS_socket, domain, type, protocol);
}
int bind(int fd, const sockaddr* to, socklen_t size) noexcept {
  return small(SYS_bind, fd, to, size);
}
int listen(int fd, int n) noexcept { return small(SYS_listen, fd, n); }
int accept(int fd, sockaddr* from, socklen_t* size) {
  return static_cast<int>(call(test::socket_call::accept, SYS_accept4, fd, from, size, 0));
}
int accept4(int fd, sockaddr* from, socklen_t* size, int flags) {
  return static_cast<int>(call(test::socket_call::accept, SYS_accept4, fd, from, size, flags));
}
ssize_t send(int fd, const void* bytes, size_t n, int flags) {
  return call(test::socket_call::send, SYS_sendto, fd, bytes, n, flags, nullptr, 0);
}
ssize_t recv(int fd, void* bytes, size_t n, int flags) {
  return call(test::socket_call::recv, SYS_recvfrom, fd, bytes, n, flags, nullptr, nullptr);
}
ssize_t sendmsg(int fd, const msghdr* m, int flags) {
  return call(test::socket_call::send, SYS_sendmsg, fd, m, flags);
}
ssize_t recvmsg(int fd, msghdr* m, int flags) {
  return call(test::socket_call::recv, SYS_recvmsg, fd, m, flags);
}
int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept {
  return small(SYS_getsockopt, fd, level, name, value, size);
}
int setsockopt(int fd, int level, int name, const void* value, socklen_t size) noexcept {
  return small(SYS_setsockopt, fd, level, name, value, size);
}
int getsockname(int fd, sockaddr* at, socklen_t* size) noexcept {
  return small(SYS_getsockname, fd, at, size);
}
int getpeername(int fd, sockaddr* at, socklen_t* size) noexcept {
  return small(SYS_getpeername, fd, at, size);
}
int shutdown(int fd, int how) noexcept { return small(SYS_shutdown, fd, how); }
int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list more;
  va_start(more, request);
  void* const argument = va_arg(more, void*);
  va_end(more);
  return small(SYS_ioctl, fd, request, argument);
}
int epoll_create1(int flags) noexcept { return small(SYS_epoll_create1, flags); }
int epoll_ctl(int epoll, int what, int fd, epoll_event* e) noexcept {
  return small(SYS_epoll_ctl, epoll, what, fd, e);
}
int close(int fd) {
  ++calls_made;
  return static_cast<int>(::syscall(SYS_close, fd));
}
int fcntl(int fd, int what, ...) {
  va_list more;
  va_start(more, what);
  void* const argument = va_arg(more, void*);
  va_end(more);
  ++calls_made;
  return static_cast<int>(::syscall(SYS_fcntl, fd, what, argument));
}
int epoll_wait(int epoll, epoll_event* events, int most, int ms) {
  ++waits_made;
  if (calls_left == 0) failed_wait = ms;
  return small(SYS_epoll_pwait, epoll, events, most, ms, nullptr, 8);
}
int eventfd(unsigned first, int flags) noexcept { return small(SYS_eventfd2, first, flags); }

}  // extern "C"
#endif
