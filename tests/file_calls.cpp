#undef _FORTIFY_SOURCE  // its inline functions have these names too
#include "file_calls.hpp"

#if defined(__linux__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define TEST_FILE_CALLS 1
#endif
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#undef TEST_FILE_CALLS
#endif
#endif

#include <utility>

#ifdef TEST_FILE_CALLS
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdarg>
#endif

namespace {

thread_local std::function<void(long)> before_call;
thread_local long calls = 0;

}  // namespace

namespace test {

void before_file_calls(std::function<void(long)> f) {
  before_call = std::move(f);
  calls = 0;
}
long end_file_calls() {
  before_call = nullptr;
  return calls;
}
bool file_calls_are_seen() noexcept {
#ifdef TEST_FILE_CALLS
  return true;
#else
  return false;
#endif
}

}  // namespace test

#ifdef TEST_FILE_CALLS
namespace {

void see_file_call() {
  if (!before_call) return;
  std::function<void(long)> f = std::exchange(before_call, nullptr);
  f(calls++);
  before_call = std::move(f);
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  see_file_call();
  std::va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return ::openat(AT_FDCWD, path, flags, mode);
}

DIR* opendir(const char* path) {
  see_file_call();
  const int fd = ::openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd < 0 ? nullptr : ::fdopendir(fd);
}

ssize_t pread(int fd, void* to, size_t n, off_t offset) {
  see_file_call();
  const iovec part{to, n};
  return ::preadv(fd, &part, 1, offset);
}

int stat(const char* path, struct stat* out) noexcept {
  see_file_call();
  return ::fstatat(AT_FDCWD, path, out, 0);
}

int lstat(const char* path, struct stat* out) noexcept {
  see_file_call();
  return ::fstatat(AT_FDCWD, path, out, AT_SYMLINK_NOFOLLOW);
}

int fstat(int fd, struct stat* out) noexcept {
  see_file_call();
  return ::fstatat(fd, "", out, AT_EMPTY_PATH);
}

}  // extern "C"
#endif
