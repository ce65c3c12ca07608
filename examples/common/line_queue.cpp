// ssehub examples. SPDX-License-Identifier: MIT
#include "common/line_queue.hpp"

#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "common/clock.hpp"

namespace examples {

struct line_queue::state {
  int fd = -1;
  std::size_t most = 0;
  std::mutex mutex{};
  std::condition_variable changed{};
  std::string waiting{};
  std::uint64_t dropped = 0;
  std::uint64_t told = 0;  // of the dropped ones
  bool writing = false;
  bool ended = false;

  [[nodiscard]] bool idle() const { return waiting.empty() && !writing && told == dropped; }

  /// What is to be written next; empty: the end.
  std::string take() {
    std::unique_lock lock{mutex};
    writing = false;
    changed.notify_all();
    changed.wait(lock, [this] { return ended || !waiting.empty(); });
    std::string out = std::exchange(waiting, {});
    if (told != dropped) {
      out += iso_time() + " log: " + std::to_string(dropped - told) +
             " lines were dropped, nobody read them\n";
      told = dropped;
    }
    writing = !out.empty();
    return out;
  }

  void write() {
    for (std::string text = take(); !text.empty(); text = take()) {
      for (std::string_view rest = text; !rest.empty();) {
        const ssize_t n = ::write(fd, rest.data(), rest.size());
        if (n > 0) rest.remove_prefix(static_cast<std::size_t>(n));
        if (n <= 0 && errno != EINTR && errno != EAGAIN) break;  // closed, or the disk is full
        if (n <= 0 && errno == EAGAIN) std::this_thread::sleep_for(std::chrono::milliseconds{10});
      }
    }
  }
};

line_queue::line_queue(int fd, std::size_t most) : state_{std::make_shared<state>()} {
  state_->fd = fd;
  state_->most = most;
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's own threads
  std::thread{[s = state_] { s->write(); }}.detach();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

line_queue::~line_queue() {
  (void)flush(500);
  const std::lock_guard lock{state_->mutex};
  state_->ended = true;
  state_->changed.notify_all();
}

void line_queue::push(std::string_view line) {
  const std::lock_guard lock{state_->mutex};
  if (state_->waiting.size() + line.size() > state_->most) {
    ++state_->dropped;
    return;
  }
  state_->waiting += line;
  state_->changed.notify_all();
}

std::uint64_t line_queue::dropped() const {
  const std::lock_guard lock{state_->mutex};
  return state_->dropped;
}

bool line_queue::flush(int milliseconds) const {
  std::unique_lock lock{state_->mutex};
  return state_->changed.wait_for(lock, std::chrono::milliseconds{milliseconds},
                                  [this] { return state_->idle(); });
}

}  // namespace examples
