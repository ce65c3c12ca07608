// ssehub example gateway. SPDX-License-Identifier: MIT
#include "process.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <spawn.h>
#include <cerrno>
#include <csignal>

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
#define GATEWAY_HAS_CLOSEFROM 1
#endif

extern char** environ;  // POSIX leaves the declaration to the program

namespace gateway {
namespace {

/// posix_spawn's two settings objects, released on every path.
struct spawn_settings {
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};

  spawn_settings() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~spawn_settings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  spawn_settings(const spawn_settings&) = delete;
  spawn_settings& operator=(const spawn_settings&) = delete;
};

bool make_pipe(unique_fd& read_end, unique_fd& write_end) noexcept {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return false;
  read_end.reset(fds[0]);
  write_end.reset(fds[1]);
  return true;
}

bool set_nonblocking(int fd) noexcept {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

/// 0 or an errno value.
int configure(spawn_settings& s, int child_stdin, int child_stdout) noexcept {
  if (const int e = posix_spawn_file_actions_adddup2(&s.actions, child_stdin, STDIN_FILENO); e != 0)
    return e;
  if (const int e = posix_spawn_file_actions_adddup2(&s.actions, child_stdout, STDOUT_FILENO);
      e != 0)
    return e;
#ifdef GATEWAY_HAS_CLOSEFROM
  // Asio opens its sockets without O_CLOEXEC: an engine that held one would keep a client's
  // connection open.
  if (const int e = posix_spawn_file_actions_addclosefrom_np(&s.actions, STDERR_FILENO + 1); e != 0)
    return e;
#endif
  sigset_t none;
  sigset_t defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  for (const int signal : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&defaults, signal);
  if (const int e = posix_spawnattr_setsigmask(&s.attributes, &none); e != 0) return e;
  if (const int e = posix_spawnattr_setsigdefault(&s.attributes, &defaults); e != 0) return e;
  if (const int e = posix_spawnattr_setpgroup(&s.attributes, 0); e != 0) return e;
  return posix_spawnattr_setflags(
      &s.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
}

}  // namespace

std::optional<std::vector<std::string>> split_command(std::string_view text) {
  std::vector<std::string> words;
  bool in_word = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool is_space = c == ' ' || c == '\t' || c == '\n';
    if (quote == 0 && is_space) {
      in_word = false;
      continue;
    }
    if (!in_word) {
      words.emplace_back();
      in_word = true;
    }
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (c == quote) {
      quote = 0;
    } else if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == '\\' && (quote == 0 || (quote == '"' && (next == '"' || next == '\\')))) {
      if (i + 1 == text.size()) return std::nullopt;
      words.back() += next;
      ++i;
    } else {
      words.back() += c;
    }
  }
  if (quote != 0) return std::nullopt;
  return words;
}

void unique_fd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

std::optional<child_process> child_process::start(const std::vector<std::string>& argv,
                                                  std::error_code& error) {
  const auto fail = [&error](int e) {
    error.assign(e, std::generic_category());
    return std::nullopt;
  };
  error.clear();
  if (argv.empty() || argv.front().empty()) return fail(EINVAL);
  std::signal(SIGPIPE, SIG_IGN);

  unique_fd child_in, parent_in, parent_out, child_out;
  if (!make_pipe(child_in, parent_in) || !make_pipe(parent_out, child_out)) return fail(errno);
  if (!set_nonblocking(parent_in.get()) || !set_nonblocking(parent_out.get())) return fail(errno);

  spawn_settings settings;
  if (const int e = configure(settings, child_in.get(), child_out.get()); e != 0) return fail(e);
  std::vector<char*> arguments;
  for (const std::string& a : argv) arguments.push_back(const_cast<char*>(a.c_str()));
  arguments.push_back(nullptr);
  pid_t pid = -1;
  if (const int e = posix_spawnp(&pid, arguments[0], &settings.actions, &settings.attributes,
                                 arguments.data(), environ);
      e != 0) {
    return fail(e);
  }
  return child_process{pid, std::move(parent_in), std::move(parent_out)};
}

child_process::child_process(child_process&& other) noexcept
    : pid_{std::exchange(other.pid_, -1)},
      stdin_{std::move(other.stdin_)},
      stdout_{std::move(other.stdout_)},
      status_{other.status_} {}

child_process& child_process::operator=(child_process&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::exchange(other.pid_, -1);
    stdin_ = std::move(other.stdin_);
    stdout_ = std::move(other.stdout_);
    status_ = other.status_;
  }
  return *this;
}

child_process::~child_process() { end(); }

void child_process::signal_group(int signal) noexcept {
  if (pid_ > 0 && !status_) ::kill(-pid_, signal);
}

void child_process::terminate() noexcept { signal_group(SIGTERM); }
void child_process::kill() noexcept { signal_group(SIGKILL); }

std::optional<exit_status> child_process::try_wait() noexcept {
  if (status_ || pid_ <= 0) return status_;
  siginfo_t info{};
  if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
      info.si_pid != pid_) {
    return std::nullopt;
  }
  // It ended. Until it is reaped its group is certainly its own: what it left behind goes now.
  kill();
  int raw = 0;
  const bool reaped = waitpid(pid_, &raw, 0) == pid_;  // no: somebody else did it (SIGCHLD ignored)
  status_ = !reaped            ? exit_status{}
            : WIFSIGNALED(raw) ? exit_status{0, WTERMSIG(raw)}
                               : exit_status{WEXITSTATUS(raw), 0};
  return status_;
}

void child_process::end() noexcept {
  if (pid_ <= 0 || try_wait()) return;
  kill();
  int raw = 0;
  while (waitpid(pid_, &raw, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

}  // namespace gateway
