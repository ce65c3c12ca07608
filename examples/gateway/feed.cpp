// ssehub example gateway. SPDX-License-Identifier: MIT
#include "feed.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <system_error>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/post.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>

#include "events.hpp"
#include "payload.hpp"

namespace gateway {
namespace {

template <class Clock>
std::int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
      .count();
}

std::string error_line(std::string_view message) {
  return to_json(error_event{wall_ns(), message});
}

std::string errno_text() { return std::generic_category().message(errno); }

bool would_block(const std::error_code& e) noexcept {
  return e == asio::error::would_block || e == asio::error::try_again;
}

}  // namespace

std::int64_t wall_ns() noexcept { return now_ns<std::chrono::system_clock>(); }
std::int64_t steady_ns() noexcept { return now_ns<std::chrono::steady_clock>(); }

// --- the simulator -------------------------------------------------------------------------------

simulator_feed::simulator_feed(asio::io_context& io, feed_host host, simulator_options options)
    : host_{std::move(host)}, timer_{io}, engine_{std::move(options), wall_ns()} {}

std::string simulator_feed::start() {
  engine_.advance(wall_ns());
  emit();
  return {};
}

void simulator_feed::send(std::string_view line) {
  engine_.command(line, wall_ns());
  emit();
}

void simulator_feed::market(std::string_view symbol, double price, std::int64_t ts_ns) {
  engine_.market(symbol, price, ts_ns, wall_ns());
  emit();
}

void simulator_feed::stop(std::function<void()> done) {
  stopped_ = true;
  timer_.cancel();
  done();
}

void simulator_feed::emit() {
  if (stopped_) return;
  lines_.feed(engine_.take_output(), host_.on_line);
  arm();
}

void simulator_feed::arm() {
  const std::int64_t at = engine_.next_deadline_ns().value_or(-1);
  if (at == armed_) return;
  armed_ = at;
  if (at < 0) {
    timer_.cancel();
    return;
  }
  timer_.expires_after(std::chrono::nanoseconds{std::max<std::int64_t>(at - wall_ns(), 0)});
  timer_.async_wait([this](const std::error_code& e) {
    if (e || stopped_) return;
    armed_ = -1;
    engine_.advance(wall_ns());
    emit();
  });
}

// --- an engine of its own ------------------------------------------------------------------------

engine_feed::engine_feed(asio::io_context& io, feed_host host, std::vector<std::string> argv)
    : host_{std::move(host)},
      argv_{std::move(argv)},
      in_{io},
      out_{io},
      child_signal_{io, SIGCHLD},
      timer_{io} {
  watch_end();
}

std::string engine_feed::start() {
  std::error_code error;
  child_ = child_process::start(argv_, error);
  if (!child_) return "cannot start the engine " + argv_.front() + ": " + error.message();
  ++run_;
  lines_.reset();
  queue_.clear();
  in_.assign(child_->stdin_fd(), error);
  if (!error) (void)child_->release_stdin();
  if (!error) out_.assign(child_->stdout_fd(), error);
  if (!error) (void)child_->release_stdout();
  if (!error) out_.non_blocking(true, error);
  if (error) {
    child_.reset();
    close_pipes();
    return "cannot talk to the engine " + argv_.front() + ": " + error.message();
  }
  backoff_.started(steady_ns());
  host_.log("engine " + argv_.front() + " runs as process " + std::to_string(child_->pid()));
  read();
  return {};
}

bool engine_feed::ready() const noexcept {
  return !stopping_ && child_ && in_.is_open() && queue_.size() < max_queue;
}

void engine_feed::take(std::string_view bytes) {
  const std::size_t dropped = lines_.feed(bytes, host_.on_line);
  if (dropped != 0) host_.too_long(dropped);
}

void engine_feed::send(std::string_view line) {
  queue_ += line;
  write();
}

void engine_feed::write() {
  if (!writing_.empty() || queue_.empty() || !in_.is_open()) return;
  writing_.swap(queue_);
  asio::async_write(in_, asio::buffer(writing_),
                    [this, run = run_](const std::error_code& e, std::size_t) {
                      writing_.clear();
                      if (run != run_) return write();
                      if (!e) return write();
                      std::error_code ignored;
                      in_.close(ignored);  // its end comes by itself
                    });
}

void engine_feed::read() {
  out_.async_read_some(asio::buffer(buffer_),
                       [this, run = run_](const std::error_code& e, std::size_t n) {
                         if (run != run_ || e == asio::error::operation_aborted) return;
                         take({buffer_.data(), n});
                         if (!e) return read();
                         output_ended();
                       });
}

/// What an engine that is gone left in the pipe.
void engine_feed::drain_output() {
  std::error_code e;
  for (int i = 0; i < 64 && !e && out_.is_open(); ++i) {
    const std::size_t n = out_.read_some(asio::buffer(buffer_), e);
    if (!would_block(e)) take({buffer_.data(), n});
  }
}

void engine_feed::watch_end() {
  child_signal_.async_wait([this](const std::error_code& e, int) {
    if (e) return;
    watch_end();
    check_end();
  });
}

void engine_feed::check_end() {
  if (!child_ || !child_->try_wait()) return;
  drain_output();
  ended();
}

void engine_feed::close_pipes() {
  std::error_code ignored;
  in_.close(ignored);
  out_.close(ignored);
}

/// It closed its stdout, so it can tell nothing more: it has a moment to end by itself.
void engine_feed::output_ended() {
  std::error_code ignored;
  out_.close(ignored);
  if (!child_) return;
  if (child_->try_wait()) return ended();
  timer_.expires_after(std::chrono::seconds{1});
  timer_.async_wait([this, run = run_](const std::error_code& e) {
    if (!e && run == run_ && child_) child_->kill();  // SIGCHLD tells of its end
  });
}

void engine_feed::ended() {
  const exit_status status = *child_->try_wait();
  ++run_;
  child_.reset();
  close_pipes();
  timer_.cancel();
  if (stopping_) return finish_stop();
  const std::int64_t delay = backoff_.ended(steady_ns());
  host_.log("engine " + argv_.front() +
            (status.signal != 0 ? " was ended by signal " + std::to_string(status.signal)
                                : " exited with code " + std::to_string(status.code)) +
            ", next start in " + std::to_string(delay / ns_per_second) + " s");
  host_.on_line(error_line("engine_exited"));
  restart_in(delay);
}

void engine_feed::restart_in(std::int64_t delay_ns) {
  timer_.expires_after(std::chrono::nanoseconds{delay_ns});
  timer_.async_wait([this](const std::error_code& e) {
    if (e || stopping_ || child_) return;
    const std::string why = start();
    if (why.empty()) return;
    const std::int64_t delay = backoff_.ended(steady_ns());
    host_.log(why + ", next try in " + std::to_string(delay / ns_per_second) + " s");
    restart_in(delay);
  });
}

void engine_feed::stop(std::function<void()> done) {
  stopping_ = true;
  stopped_ = std::move(done);
  timer_.cancel();
  if (!child_) return finish_stop();
  std::error_code ignored;
  in_.close(ignored);
  child_->terminate();
  timer_.expires_after(std::chrono::seconds{2});
  timer_.async_wait([this](const std::error_code& e) {
    if (!e && child_) child_->kill();
  });
}

void engine_feed::finish_stop() {
  std::error_code ignored;
  child_signal_.cancel(ignored);
  if (const auto done = std::exchange(stopped_, nullptr)) done();
}

// --- a recording ---------------------------------------------------------------------------------

replay_feed::replay_feed(asio::io_context& io, feed_host host, replay_options options)
    : host_{host},
      options_{std::move(options)},
      exchange_{io, std::move(host), {.walk = false}},
      timer_{io},
      pipe_{io},
      pacer_{options_.speed},
      buffer_(65536) {}

replay_feed::~replay_feed() {
  if (!pipe_.is_open()) return;
  int off = 0;  // a terminal is shared with the shell: it must not stay non-blocking
  ::ioctl(pipe_.native_handle(), FIONBIO, &off);
}

std::string replay_feed::start() {
  const bool is_stdin = options_.file == "-";
  file_.reset(is_stdin ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                       : ::open(options_.file.c_str(), O_RDONLY | O_CLOEXEC));
  const std::string name = is_stdin ? "stdin" : options_.file;
  if (file_.get() < 0) return "cannot read " + name + ": " + errno_text();
  struct stat about {};
  if (::fstat(file_.get(), &about) == 0 && S_ISDIR(about.st_mode))
    return "cannot read " + name + ": it is a directory";
  std::array<char, 2> magic{};
  if (S_ISREG(about.st_mode) && ::pread(file_.get(), magic.data(), 2, 0) == 2 &&
      std::string_view{magic.data(), 2} == "\x1f\x8b") {
    return "cannot read " + name + ": it is compressed, use zcat " + name + " | gateway --replay -";
  }
  std::error_code not_pollable;
  pipe_.assign(file_.get(), not_pollable);
  if (!not_pollable) (void)file_.release();
  return exchange_.start();
}

void replay_feed::stop(std::function<void()> done) {
  stopped_ = true;
  timer_.cancel();
  std::error_code ignored;
  pipe_.cancel(ignored);
  exchange_.stop(std::move(done));
}

void replay_feed::play() { pump(); }

/// Plays what is due. One turn is one batch, so that readers get it before the next one comes; flat
/// out it waits while they have not.
void replay_feed::pump() {
  if (std::isinf(options_.speed) && host_.readers_are_behind && host_.readers_are_behind())
    return later(steady_ns() + 2'000'000);
  for (std::size_t i = 0; i < options_.batch && !stopped_; ++i) {
    if (ahead_.empty()) return read_more();
    const trade& next = ahead_.front();
    const std::int64_t due = pacer_.due_ns(next.local_ns, steady_ns());
    if (due > steady_ns()) return later(due);
    exchange_.market(next.symbol, next.price, next.ts_ns);
    ahead_.pop_front();
    ++played_;
  }
  next_turn();
}

void replay_feed::later(std::int64_t at_steady_ns) {
  timer_.expires_at(std::chrono::steady_clock::time_point{
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(
          std::chrono::nanoseconds{at_steady_ns})});
  timer_.async_wait([this](const std::error_code& e) {
    if (!e && !stopped_) pump();
  });
}

/// Behind all that waits already, the flush for one.
void replay_feed::next_turn() {
  asio::post(timer_.get_executor(), [this] {
    if (!stopped_) pump();
  });
}

void replay_feed::read_more() {
  if (from_memory_) {
    if (recorded_at_ == recorded_.size()) return at_end({});
    const std::string_view rest = std::string_view{recorded_}.substr(recorded_at_, buffer_.size());
    recorded_at_ += rest.size();
    take(rest);
  } else if (pipe_.is_open()) {
    pipe_.async_read_some(asio::buffer(buffer_), [this](const std::error_code& e, std::size_t n) {
      if (stopped_ || e == asio::error::operation_aborted) return;
      if (e) return at_end(e == asio::error::eof ? std::string{} : e.message());
      take({buffer_.data(), n});
      next_turn();
    });
    return;
  } else {
    const ssize_t n = ::read(file_.get(), buffer_.data(), buffer_.size());
    if (n < 0 && errno != EINTR) return at_end(errno_text());
    if (n == 0) return at_end({});
    if (n > 0) take({buffer_.data(), static_cast<std::size_t>(n)});
  }
  next_turn();
}

void replay_feed::take(std::string_view bytes) {
  const std::size_t dropped =
      lines_.feed(bytes, [this](std::string_view line) { take_line(line); });
  if (dropped != 0) unreadable("a line is too long");
}

void replay_feed::take_line(std::string_view line) {
  const replay_message m = source_.parse_line(line);
  if (m.what == replay_kind::bad) unreadable("a line cannot be read");
  if (m.what != replay_kind::trade) return;
  ahead_.push_back({m.local_ns, m.ts_ns, m.price, std::string{m.symbol}});
  if (!options_.loop || from_memory_ || !pipe_.is_open() || recorded_.size() > max_recorded) return;
  recorded_.append(line).append("\n");
}

void replay_feed::unreadable(std::string_view why) {
  if (++bad_; !errors_.allow(steady_ns())) return;
  host_.log("replay: " + std::string{why} + " (" + std::to_string(bad_) + " so far)");
  host_.on_line(error_line("market_source_error"));
}

void replay_feed::at_end(std::string_view trouble) {
  lines_.finish([this](std::string_view line) { take_line(line); });
  if (!trouble.empty()) unreadable(trouble);
  if (!ahead_.empty()) return next_turn();  // the last line had no end
  if (options_.loop && trouble.empty() && rewind()) return next_turn();
  host_.log("replay ended after " + std::to_string(played_) + " trades");
}

/// From the beginning once more, unless there was nothing to play.
bool replay_feed::rewind() {
  if (played_ == played_before_) return false;
  played_before_ = played_;
  pacer_.rewind();
  if (file_.get() >= 0) return ::lseek(file_.get(), 0, SEEK_SET) == 0;
  from_memory_ = true;
  recorded_at_ = 0;
  if (recorded_.size() <= max_recorded) return true;
  host_.log("replay: a recording this long can loop from a file only");
  return false;
}

}  // namespace gateway
