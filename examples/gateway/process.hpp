// ssehub example gateway. SPDX-License-Identifier: MIT
//
// child_process: an external engine with a pipe to its stdin and one from its stdout; stderr is
// inherited. POSIX only.
//
//   auto argv = split_command("./engine --mode \"paper trading\"");
//   std::error_code why;
//   auto child = child_process::start(*argv, why);
//   asio::posix::stream_descriptor out{io, child->release_stdout()};
//
// Both parent ends are non-blocking and close-on-exec. The child gets nothing else of the parent's
// descriptors, default signals and a process group of its own, so that Ctrl-C ends the gateway,
// which then ends the engine. start() makes the whole process ignore SIGPIPE: a write to an engine
// that is gone must be an error. One thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace gateway {

/// Splits a command line into words as a shell does, without expanding anything: spaces separate;
/// '...' is literal; inside "..." a backslash escapes " and \; outside it escapes any character.
/// Absent: a quote or escape without an end.
[[nodiscard]] std::optional<std::vector<std::string>> split_command(std::string_view text);

/// A file descriptor that closes itself.
class unique_fd {
 public:
  unique_fd() noexcept = default;
  explicit unique_fd(int fd) noexcept : fd_{fd} {}
  unique_fd(unique_fd&& other) noexcept : fd_{other.release()} {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~unique_fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

struct exit_status {
  int code = 0;    ///< of exit(); 0 if a signal ended it
  int signal = 0;  ///< the signal that ended it, or 0
};

class child_process {
 public:
  /// Starts argv[0], looked up in PATH. Absent, with `error` set: it could not be started.
  [[nodiscard]] static std::optional<child_process> start(const std::vector<std::string>& argv,
                                                          std::error_code& error);

  child_process(child_process&& other) noexcept;
  child_process& operator=(child_process&& other) noexcept;
  /// Kills and reaps what still runs, its process group included.
  ~child_process();

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] int stdin_fd() const noexcept {
    return stdin_.get();
  }  ///< write end; -1 after release or close
  [[nodiscard]] int stdout_fd() const noexcept {
    return stdout_.get();
  }  ///< read end; -1 after release
  /// Hands a descriptor over: the caller closes it.
  [[nodiscard]] int release_stdin() noexcept { return stdin_.release(); }
  [[nodiscard]] int release_stdout() noexcept { return stdout_.release(); }
  /// End of input for the child, unless the descriptor was handed over.
  void close_stdin() noexcept { stdin_.reset(); }

  /// SIGTERM to the child and what it started. Nothing if it is reaped already.
  void terminate() noexcept;
  /// SIGKILL.
  void kill() noexcept;

  /// Absent: it still runs. Once it has ended it is reaped, what it left running in its group is
  /// killed, and each later call gives the same status.
  [[nodiscard]] std::optional<exit_status> try_wait() noexcept;

 private:
  child_process(pid_t pid, unique_fd in, unique_fd out) noexcept
      : pid_{pid}, stdin_{std::move(in)}, stdout_{std::move(out)} {}
  void signal_group(int signal) noexcept;
  void end() noexcept;

  pid_t pid_ = -1;
  unique_fd stdin_;
  unique_fd stdout_;
  std::optional<exit_status> status_;
};

}  // namespace gateway
