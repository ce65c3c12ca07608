// ssehub examples. SPDX-License-Identifier: MIT
//
// line_queue: lines to a descriptor, written by a thread of its own, so that whoever reads them
// cannot stop who says them. What does not fit is dropped, counted, and said once there is room.
//
//   examples::line_queue log{STDERR_FILENO};
//   log.push("listening\n");   // returns at once, whatever the other end does
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace examples {

class line_queue {
 public:
  /// Writes to `fd`, which must stay open. `most`: bytes that wait at most.
  explicit line_queue(int fd, std::size_t most = std::size_t{256} << 10);
  /// Gives what waits half a second, see flush().
  ~line_queue();
  line_queue(const line_queue&) = delete;
  line_queue& operator=(const line_queue&) = delete;

  /// Any thread. `line` has its LF. Never waits for the descriptor.
  void push(std::string_view line);
  /// Lines that were dropped so far. Any thread.
  [[nodiscard]] std::uint64_t dropped() const;
  /// Waits until everything is written, but no longer than this. False: it is not.
  bool flush(int milliseconds) const;

 private:
  struct state;
  std::shared_ptr<state> state_;  // the thread may be stuck in a write for ever: it has a share
};

}  // namespace examples
