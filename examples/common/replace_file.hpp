// ssehub examples. SPDX-License-Identifier: MIT
//
// A file that is there whole, as it was or as it is to be, whatever ends the program. POSIX.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

namespace examples {

/// Writes `text` to PATH.new and gives that the name; both are on the disk then. Empty, or what
/// failed: "PATH: why". `mode`: of a file that is new.
[[nodiscard]] inline std::string replace_file(const std::string& path, std::string_view text,
                                              ::mode_t mode) {
  const std::string next = path + ".new";
  const auto failed = [](const std::string& at, int why) { return at + ": " + std::strerror(why); };
  const int fd = ::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) return failed(next, errno);
  int error = 0;
  while (error == 0 && !text.empty()) {
    const ::ssize_t n = ::write(fd, text.data(), text.size());
    if (n >= 0) {
      text.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (error == 0 && ::fsync(fd) != 0) error = errno;
  ::close(fd);
  if (error != 0) return failed(next, error);
  if (::rename(next.c_str(), path.c_str()) != 0) return failed(path, errno);
  const std::string folder =
      path.find('/') == path.npos ? "." : path.substr(0, path.rfind('/') + 1);
  const int at = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = at >= 0 && ::fsync(at) == 0;
  const int why = errno;
  if (at >= 0) ::close(at);
  return synced ? std::string{} : failed(folder, why);
}

}  // namespace examples
