// The real gateway as a child process, and an engine that does what the test says.
//
//   engine_pipes engine;
//   program gateway{{"--engine", engine.command()}};
//   test::client stream = gateway.stream();
//   engine.say(R"({"type":"market","price":1.0})");
//   CHECK(next_event(stream).type == "market");
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "../asio/client.hpp"
#include "gateway/process.hpp"

namespace test {

inline constexpr int patience_ms = static_cast<int>(patience.count() * 1000);

/// A directory that goes with what is in it.
class directory {
 public:
  directory() {
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp");
  }
  directory(const directory&) = delete;
  directory& operator=(const directory&) = delete;
  ~directory() {
    for (const std::string& f : files_) std::remove(f.c_str());
    ::rmdir(path_.c_str());
  }
  [[nodiscard]] std::string file(const std::string& name) {
    files_.push_back(path_ + "/" + name);
    return files_.back();
  }
  [[nodiscard]] std::string file(const std::string& name, std::string_view content) {
    std::string path = file(name);
    std::ofstream{path} << content;
    return path;
  }

 private:
  std::string path_ = "/tmp/ssehub_gateway_XXXXXX";
  std::vector<std::string> files_;
};

[[nodiscard]] inline std::string content_of(const std::string& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// Waits until fd can be read; false: nothing came.
[[nodiscard]] inline bool readable(int fd, int ms = patience_ms) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, ms) > 0;
}

/// Up to and with the next LF; what there is if the end or nothing comes.
[[nodiscard]] inline std::string read_line(int fd) {
  std::string line;
  char c = 0;
  while (readable(fd) && ::read(fd, &c, 1) == 1) {
    line += c;
    if (c == '\n') break;
  }
  return line;
}

/// An engine whose stdout is what the test writes, and whose stdin the test reads. It ends when the
/// test closes it.
class engine_pipes {
 public:
  engine_pipes() { open(); }
  ~engine_pipes() { end(); }
  engine_pipes(const engine_pipes&) = delete;
  engine_pipes& operator=(const engine_pipes&) = delete;

  /// For --engine.
  [[nodiscard]] std::string command() const {
    return "sh -c 'exec 3<&0; cat <&3 >" + in_path_ + " & exec cat " + out_path_ + "'";
  }
  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(out_, bytes.data(), bytes.size());
      if (n <= 0) throw std::runtime_error("write to the engine's pipe");
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void say(std::string_view line) { write(std::string{line} + "\n"); }
  /// A market event with `n` as its price.
  void market(int n) { say(market_line(n)); }
  [[nodiscard]] static std::string market_line(int n) {
    return R"({"type":"market","symbol":"BTCUSDT","ts_ns":1704067200000000000,"price":)" +
           std::to_string(n) + ".0}";
  }
  /// The next line that the engine was sent, with its LF.
  [[nodiscard]] std::string heard() const { return read_line(in_); }
  /// Whether nothing was sent that heard() did not return.
  [[nodiscard]] bool silent() const { return !readable(in_, 0); }

  /// The engine gets the end of its script, and exits.
  void end() {
    if (out_ >= 0) ::close(std::exchange(out_, -1));
    if (in_ >= 0) ::close(std::exchange(in_, -1));
  }
  /// For its next start.
  void open() {
    // Both ways, so that neither this open nor the engine's waits.
    if (::access(out_path_.c_str(), F_OK) != 0 &&
        (::mkfifo(out_path_.c_str(), 0600) != 0 || ::mkfifo(in_path_.c_str(), 0600) != 0)) {
      throw std::runtime_error("mkfifo");
    }
    out_ = ::open(out_path_.c_str(), O_RDWR | O_CLOEXEC);
    in_ = ::open(in_path_.c_str(), O_RDWR | O_CLOEXEC);
  }

 private:
  directory dir_;
  std::string out_path_ = dir_.file("out");
  std::string in_path_ = dir_.file("in");
  int out_ = -1;
  int in_ = -1;
};

struct sse_event {
  std::uint64_t id = 0;
  std::string type{};
  std::string data{};
  bool end = false;  ///< the stream ended instead
};

/// The next event of a stream; comments and retry are skipped.
[[nodiscard]] inline sse_event next_event(client& stream) {
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    if (std::chrono::steady_clock::now() > end) throw std::runtime_error("no event came in time");
    const std::string frame = stream.frame();
    if (frame.empty()) return {.end = true};
    if (frame.starts_with(':') || frame.starts_with("retry:")) continue;
    sse_event e;
    const std::string id = client::field(frame, "id: ");
    std::from_chars(id.data(), id.data() + id.size(), e.id);
    e.type = client::field(frame, "event: ");
    e.data = client::field(frame, "data: ");
    return e;
  }
}

class program {
 public:
  /// Starts it on a free port and waits until it listens. Flags that come twice: the last counts.
  /// `source`: a command whose output becomes its stdin.
  explicit program(std::vector<std::string> flags, const std::string& source = {})
      : log_{dir_.file("log")} {
    flags.insert(flags.begin(), {"--port", "0"});
    start(flags, source);
    const std::string line = read_line(child_->stdout_fd());
    const std::size_t colon = line.rfind(':');
    if (!line.starts_with("listening on http://") || colon == std::string::npos)
      throw std::runtime_error("it does not listen: " + line + log());
    std::from_chars(line.data() + colon + 1, line.data() + line.size(), port_);
  }

  struct result {
    int code = 0;
    std::string out{};
    std::string err{};
  };
  /// For one that ends by itself.
  [[nodiscard]] static result run(const std::vector<std::string>& flags) {
    program p{flags, ends{}};
    result r;
    for (std::string line = read_line(p.child_->stdout_fd()); !line.empty();
         line = read_line(p.child_->stdout_fd())) {
      r.out += line;
    }
    r.code = p.wait();
    r.err = p.log();
    return r;
  }

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] gateway::child_process& child() noexcept { return *child_; }
  /// Its stdin.
  void feed(std::string_view bytes) {
    ::fcntl(child_->stdin_fd(), F_SETFL, 0);
    while (!bytes.empty()) {
      const ssize_t n = ::write(child_->stdin_fd(), bytes.data(), bytes.size());
      if (n <= 0) throw std::runtime_error("write to the program");
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  [[nodiscard]] answer get(std::string_view target, std::string_view headers = {}) const {
    return client{port_}.get(target, headers);
  }
  [[nodiscard]] answer post(std::string_view target, std::string_view body,
                            std::string_view headers = "Content-Type: application/json\r\n") const {
    return client{port_}.post(target, body, headers);
  }
  /// An open stream, its head read.
  [[nodiscard]] client stream(std::string_view query = {}, std::string_view headers = {}) const {
    client c{port_};
    const answer a = c.open("/api/stream" + std::string{query}, headers);
    if (a.status != 200) throw std::runtime_error("no stream: " + a.head);
    return c;
  }
  /// A value of /metrics.
  [[nodiscard]] double metric(const std::string& name) const {
    const std::string page = get("/metrics").body;
    const std::size_t at = page.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::atof(page.c_str() + at + name.size() + 2);
  }
  [[nodiscard]] bool eventually(const std::string& name, double value) const {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < end) {
      if (metric(name) == value) return true;
    }
    return false;
  }

  /// What it wrote to stderr so far.
  [[nodiscard]] std::string log() const { return content_of(log_); }
  /// Waits until `text` is in it.
  [[nodiscard]] bool logs(std::string_view text) const {
    for (int i = 0; i < patience_ms; ++i) {
      if (log().find(text) != std::string::npos) return true;
      ::poll(nullptr, 0, 1);
    }
    return false;
  }

  /// Ends it as a user would; returns its exit code, or -signal.
  int stop(int signal = SIGTERM) {
    ::kill(child_->pid(), signal);
    return wait();
  }
  int wait() {
    for (int i = 0; i < patience_ms; ++i) {
      if (const auto status = child_->try_wait())
        return status->signal != 0 ? -status->signal : status->code;
      ::poll(nullptr, 0, 1);
    }
    throw std::runtime_error("it does not end: " + log());
  }

 private:
  struct ends {};
  program(const std::vector<std::string>& flags, ends) : log_{dir_.file("log")} {
    start(flags, {});
  }

  void start(const std::vector<std::string>& flags, const std::string& source) {
    // The shell becomes the program, so that its process is the child; what feeds it goes with it.
    std::string script = R"(exec "$0" "$@" 2>)" + log_;
    if (!source.empty()) {
      const std::string pipe = dir_.file("stdin");
      script = "mkfifo " + pipe + "; " + source + " >" + pipe + " & " + script + " <" + pipe;
    }
    std::vector<std::string> argv{"sh", "-c", script, GATEWAY_PROGRAM};
    argv.insert(argv.end(), flags.begin(), flags.end());
    std::error_code error;
    child_ = gateway::child_process::start(argv, error);
    if (!child_) throw std::system_error{error};
  }

  directory dir_;
  std::string log_;
  std::optional<gateway::child_process> child_;
  std::uint16_t port_ = 0;
};

}  // namespace test
