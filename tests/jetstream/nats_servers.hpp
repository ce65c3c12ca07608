// Real nats-servers on the loopback net, alone or as a cluster: started, killed, paused and put
// back by a test.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "environment.hpp"

namespace test {

/// Says so where there is no nats-server; in CI that is a failure.
[[nodiscard]] inline bool no_nats_server() {
  static const bool there = std::system("nats-server --version > /dev/null 2>&1") == 0;
  if (there) return false;
  if (in_ci()) FAIL("nats-server is not installed");
  WARN("SKIPPED: nats-server is not installed");
  return true;
}

/// An address of the loopback net that no other process takes: a port that was free on 127.0.0.1 a
/// moment ago may be another test's server by the time that ours is to listen there.
[[nodiscard]] inline sockaddr_in own_address(std::uint16_t port) {
  const auto pid = static_cast<std::uint32_t>(::getpid());
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl((127U << 24U) | (1U << 23U) | (pid & 0x7fffffU));
  return a;
}
/// `address:port`
[[nodiscard]] inline std::string own_endpoint(std::uint16_t port) {
  char text[INET_ADDRSTRLEN] = "";
  const sockaddr_in a = own_address(port);
  ::inet_ntop(AF_INET, &a.sin_addr, text, sizeof text);
  return std::string{text} + ':' + std::to_string(port);
}

/// A port of it that is free now.
[[nodiscard]] inline std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = own_address(0);
  socklen_t size = sizeof a;
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&a), &size) != 0)
    throw std::runtime_error("no port");
  ::close(fd);
  return ntohs(a.sin_port);
}

class nats_server {
 public:
  /// `more`: lines of its configuration.
  nats_server(std::filesystem::path directory, std::string name, std::uint16_t port,
              std::string more)
      : directory_{std::move(directory)}, name_{std::move(name)}, port_{port} {
    std::filesystem::create_directories(directory_);
    std::ofstream{config()} << "listen: " << own_endpoint(port_) << "\nserver_name: " << name_
                            << '\n'
                            << more;
    start();
  }
  nats_server(const nats_server&) = delete;
  nats_server& operator=(const nats_server&) = delete;
  ~nats_server() { kill(); }

  [[nodiscard]] std::string url() const { return "nats://" + own_endpoint(port_); }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] std::filesystem::path store() const { return directory_ / "store"; }
  [[nodiscard]] bool runs() const noexcept { return pid_ > 0; }

  void start() {
    if (runs()) return;
    const std::string file = config().string();
    const std::string log = (directory_ / "log").string();
    pid_ = ::fork();
    if (pid_ == 0) {
      const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      ::dup2(out, 1);
      ::dup2(out, 2);
      for (int fd = 3; fd < 256; ++fd) ::close(fd);
      ::execlp("nats-server", "nats-server", "-c", file.c_str(), static_cast<char*>(nullptr));
      ::_exit(127);
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (!accepts()) {
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_ || std::chrono::steady_clock::now() > end) {
        pid_ = 0;
        throw std::runtime_error("nats-server does not start, see " + log);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds{20});
    }
  }
  void kill() { end(SIGKILL); }
  void stop() { end(SIGTERM); }
  void pause() const { ::kill(pid_, SIGSTOP); }
  void go_on() const { ::kill(pid_, SIGCONT); }

 private:
  [[nodiscard]] std::filesystem::path config() const { return directory_ / "nats.conf"; }
  void end(int signal) {
    if (!runs()) return;
    ::kill(pid_, signal);
    ::kill(pid_, SIGCONT);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  [[nodiscard]] bool accepts() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in a = own_address(port_);
    const bool ok = ::connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0;
    ::close(fd);
    return ok;
  }

  std::filesystem::path directory_;
  std::string name_;
  std::uint16_t port_;
  pid_t pid_ = 0;
};

/// `n` of them, a cluster if there are several. What they store goes with them.
class nats_servers {
 public:
  explicit nats_servers(std::size_t n = 1, const std::string& more = {}) {
    std::string name = (std::filesystem::temp_directory_path() / "sse-nats-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no directory");
    directory_ = name;
    std::vector<std::uint16_t> routes;
    for (std::size_t i = 0; i < n; ++i) routes.push_back(free_port());
    for (std::size_t i = 0; i < n; ++i) {
      const std::string server = "n" + std::to_string(i);
      std::string conf =
          more.find("jetstream") == more.npos
              ? "jetstream { store_dir: \"" + (directory_ / server / "store").string() + "\" }\n"
              : std::string{};
      if (n > 1) {
        conf += "cluster { name: c, listen: \"" + own_endpoint(routes[i]) + "\", routes: [";
        for (const std::uint16_t r : routes)
          conf += (r == routes[0] ? " \"nats://" : ", \"nats://") + own_endpoint(r) + '"';
        conf += " ] }\n";
      }
      all.push_back(
          std::make_unique<nats_server>(directory_ / server, server, free_port(), conf + more));
    }
  }
  ~nats_servers() {
    all.clear();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  [[nodiscard]] std::vector<std::string> urls() const {
    std::vector<std::string> u;
    for (const auto& s : all) u.push_back(s->url());
    return u;
  }
  nats_server& operator[](std::size_t i) { return *all[i]; }
  [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_; }

  std::vector<std::unique_ptr<nats_server>> all;

 private:
  std::filesystem::path directory_;
};

}  // namespace test
