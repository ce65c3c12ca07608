// ssehub example gateway. SPDX-License-Identifier: MIT
//
// feed: where event lines come from and command lines go. Three of them: a simulated exchange, an
// engine in a process of its own, and a recording that is played again.
//
//   gateway::simulator_feed feed{io, {.on_line = [&](std::string_view line) { publish(line); }}};
//   if (const std::string why = feed.start(); !why.empty()) return fail(why);
//   feed.send("ORDER BUY BTCUSDT 0.001 50000.0 web-1\n");
//   feed.stop([&] { io.stop(); });
//
// All of it on the thread that runs the io_context. Destroy a feed only when that thread runs no
// more: operations under way point at it. Lines go out without their line end and live until the
// callback returns, which must not call the feed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>

#include "line_splitter.hpp"
#include "pacing.hpp"
#include "process.hpp"
#include "replay.hpp"
#include "simulator.hpp"

namespace gateway {

/// The wall clock, for ts_ns.
[[nodiscard]] std::int64_t wall_ns() noexcept;
/// A clock that only goes forward.
[[nodiscard]] std::int64_t steady_ns() noexcept;

/// What a feed needs of the program.
struct feed_host {
  std::function<void(std::string_view line)> on_line;                    ///< one JSON line
  std::function<void(std::string_view text)> log;                        ///< for the server's log
  std::function<void(std::size_t lines)> too_long = [](std::size_t) {};  ///< left out, of an engine
  std::function<bool()> readers_are_behind = {};  ///< replay flat out waits meanwhile
};

class feed {
 public:
  feed() = default;
  feed(const feed&) = delete;
  feed& operator=(const feed&) = delete;
  virtual ~feed() = default;

  /// Begins. Returns what is wrong, empty if nothing is.
  [[nodiscard]] virtual std::string start() = 0;
  /// Whether commands can be sent now.
  [[nodiscard]] virtual bool ready() const noexcept = 0;
  /// Sends a command line. REQUIRES: ready()
  virtual void send(std::string_view line) = 0;
  /// Ends what runs; `done` comes once it has ended, no line after that.
  virtual void stop(std::function<void()> done) = 0;
};

/// The exchange that runs inside, driven by a timer.
class simulator_feed final : public feed {
 public:
  simulator_feed(asio::io_context& io, feed_host host, simulator_options options = {});

  std::string start() override;
  bool ready() const noexcept override { return true; }
  void send(std::string_view line) override;
  void stop(std::function<void()> done) override;

  /// A price from elsewhere.
  void market(std::string_view symbol, double price, std::int64_t ts_ns);

 private:
  void emit();
  void arm();

  feed_host host_;
  asio::steady_timer timer_;
  simulated_engine engine_;
  line_splitter lines_;
  std::int64_t armed_ = -1;  ///< the deadline that the timer waits for; -1: none
  bool stopped_ = false;
};

/// An engine as a child process. It is started again when it ends: after 1 s, doubling to 30 s.
class engine_feed final : public feed {
 public:
  static constexpr std::size_t max_queue = std::size_t{1} << 20;  ///< bytes waiting for its stdin

  /// REQUIRES: argv is not empty
  engine_feed(asio::io_context& io, feed_host host, std::vector<std::string> argv);

  std::string start() override;
  bool ready() const noexcept override;
  void send(std::string_view line) override;
  void stop(std::function<void()> done) override;

 private:
  void read();
  void drain_output();
  void take(std::string_view bytes);
  void write();
  void watch_end();
  void check_end();
  void output_ended();
  void ended();
  void restart_in(std::int64_t delay_ns);
  void finish_stop();
  void close_pipes();

  feed_host host_;
  std::vector<std::string> argv_;
  asio::posix::stream_descriptor in_;   ///< the engine's stdin
  asio::posix::stream_descriptor out_;  ///< the engine's stdout
  asio::signal_set child_signal_;
  asio::steady_timer timer_;
  std::optional<child_process> child_;
  restart_backoff backoff_;
  line_splitter lines_;
  std::array<char, 65536> buffer_;
  std::string queue_;      ///< to be written next
  std::string writing_;    ///< being written
  std::uint32_t run_ = 0;  ///< operations of an earlier engine are over
  bool stopping_ = false;
  std::function<void()> stopped_;
};

struct replay_options {
  std::string file = "-";  ///< "-": stdin
  double speed = 1;        ///< infinite: flat out
  bool loop = false;
  std::size_t batch = 256;  ///< trades in one turn of the loop. REQUIRES: > 0
};

/// A recording, with a simulated exchange that fills orders at its prices. Flat out it waits while
/// readers are behind, so that none of them loses anything.
class replay_feed final : public feed {
 public:
  replay_feed(asio::io_context& io, feed_host host, replay_options options);
  ~replay_feed() override;

  std::string start() override;
  bool ready() const noexcept override { return true; }
  void send(std::string_view line) override { exchange_.send(line); }
  void stop(std::function<void()> done) override;

  /// start() opens the recording, play() begins: when there is somebody to see it, perhaps.
  void play();

 private:
  struct trade {
    std::int64_t local_ns = 0;
    std::int64_t ts_ns = 0;
    double price = 0;
    std::string symbol{};
  };
  static constexpr std::size_t max_recorded = std::size_t{256} << 20;

  void pump();
  void later(std::int64_t at_steady_ns);
  void next_turn();
  void read_more();
  void take(std::string_view bytes);
  void take_line(std::string_view line);
  void unreadable(std::string_view why);
  void at_end(std::string_view trouble);
  [[nodiscard]] bool rewind();

  feed_host host_;
  replay_options options_;
  simulator_feed exchange_;
  asio::steady_timer timer_;
  asio::posix::stream_descriptor pipe_;  ///< open if the input can be waited for
  unique_fd file_;                       ///< a file, which is read at once
  line_splitter lines_;
  replay_source source_;
  pacer pacer_;
  error_limiter errors_;
  std::deque<trade> ahead_;  ///< read, not yet played
  std::vector<char> buffer_;
  std::string recorded_;  ///< the trades of a pipe, for --loop
  std::size_t recorded_at_ = 0;
  std::uint64_t played_ = 0;
  std::uint64_t played_before_ = 0;  ///< at the last rewind
  std::uint64_t bad_ = 0;
  bool from_memory_ = false;
  bool stopped_ = false;
};

}  // namespace gateway
