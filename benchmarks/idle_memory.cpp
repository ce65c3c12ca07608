// What an idle stream costs in user memory, and one publish to all of them:
//   core: the hub alone, over a transport without sockets
//   asio: 10,000 real connections on the Asio host; the clients are a second process, since a
//   process may have 20,000 files
//
//   bench_idle_memory [connections]
//
// User memory is what malloc handed out (mallinfo2), not what the kernel holds for sockets.

#include <malloc.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <asio/posix/stream_descriptor.hpp>
#include <asio/read.hpp>
#include <sse/asio.hpp>

namespace {

using steady = std::chrono::steady_clock;

std::size_t user_memory() {
  const struct mallinfo2 m = mallinfo2();
  return m.uordblks + m.hblkhd;
}

double ms_since(steady::time_point t) {
  return std::chrono::duration<double, std::milli>(steady::now() - t).count();
}

struct null_transport {
  struct connection {};
  sse::write_result write(connection&, std::span<const sse::buffer> bytes) noexcept {
    std::size_t n = 0;
    for (const sse::buffer& b : bytes) n += b.size;
    taken += n;
    return {n, sse::flow::ready};
  }
  void close(connection&, sse::close_reason) noexcept {}
  std::size_t taken = 0;
};

void core(std::size_t n) {
  null_transport net;
  sse::hub<null_transport> hub{net};
  sse::channel* c = hub.open_channel("c");
  if (c == nullptr) std::exit(1);
  hub.tick(steady::now());
  const std::size_t before = user_memory();
  for (std::size_t i = 0; i < n; ++i) {
    if (!hub.accept({}, {}, sse::admit().join(*c))) std::exit(1);
  }
  const std::size_t memory = user_memory() - before;
  (void)c->publish({.data = "warm"});
  hub.flush();
  const auto start = steady::now();
  (void)c->publish({.data = "one event to all of them"});
  hub.flush();
  std::printf("core  %8zu sessions     %7.0f B each   publish + flush %8.2f ms\n", n,
              static_cast<double>(memory) / static_cast<double>(n), ms_since(start));
}

/// The other end: connects, reads until every connection has seen `marks` markers of the event,
/// tells through the pipe.
[[noreturn]] void clients(std::uint16_t port, std::size_t n, int to_parent) {
  const int ep = epoll_create1(0);
  std::vector<int> fds;
  const std::string request = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (std::size_t i = 0; i < n; ++i) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      std::perror("bench_idle_memory: connect");
      _exit(1);
    }
    if (write(fd, request.data(), request.size()) != static_cast<ssize_t>(request.size())) _exit(1);
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.fd = fd;
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    fds.push_back(fd);
  }
  std::size_t heads = 0;
  std::size_t events = 0;
  std::vector<epoll_event> ready(1024);
  char bytes[4096];
  for (;;) {
    const int k = epoll_wait(ep, ready.data(), static_cast<int>(ready.size()), 30'000);
    if (k <= 0) _exit(1);
    for (int i = 0; i < k; ++i) {
      const ssize_t got = read(ready[static_cast<std::size_t>(i)].data.fd, bytes, sizeof bytes);
      if (got <= 0) _exit(1);
      const std::string_view text{bytes, static_cast<std::size_t>(got)};
      if (text.find("HTTP/1.1 200") != std::string_view::npos && ++heads == n) {
        if (write(to_parent, "h", 1) != 1) _exit(1);
      }
      if (text.find("one event to all") != std::string_view::npos && ++events == n) {
        if (write(to_parent, "e", 1) != 1) _exit(1);
        pause();
      }
    }
  }
}

void host(std::size_t n) {
  asio::io_context io{1};
  sse::server_options options;
  options.hub.caps.per_address.max = 0;
  sse::asio_server<> server{io, options};
  sse::channel* c = server.open_channel("c");
  if (c == nullptr) std::exit(1);
  server.stream("/events", *c);
  if (const auto error = server.listen("127.0.0.1", 0)) {
    std::fprintf(stderr, "bench_idle_memory: listen: %s\n", error.message().c_str());
    std::exit(1);
  }
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) std::exit(1);
  const std::size_t before = user_memory();
  const pid_t child = fork();
  if (child == 0) {
    close(pipe_ends[0]);
    clients(server.port(), n, pipe_ends[1]);
  }
  close(pipe_ends[1]);
  const auto until_told = [&](char what) {
    char got = 0;
    asio::posix::stream_descriptor in{io, dup(pipe_ends[0])};
    bool done = false;
    asio::async_read(in, asio::buffer(&got, 1), [&](std::error_code e, std::size_t) {
      done = true;
      if (e || got != what) {
        std::fprintf(stderr, "bench_idle_memory: the clients failed\n");
        std::exit(1);
      }
    });
    while (!done) io.run_one();
  };
  const auto connecting = steady::now();
  until_told('h');
  const double connected = ms_since(connecting);
  const std::size_t memory = user_memory() - before;
  const auto start = steady::now();
  (void)server.publish(*c, {.data = "one event to all of them"});
  until_told('e');
  std::printf(
      "asio  %8zu connections  %7.0f B each   publish to all read %8.2f ms   (connected in %.0f "
      "ms)\n",
      n, static_cast<double>(memory) / static_cast<double>(n), ms_since(start), connected);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t n = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 10'000;
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max < 20'000 ? files.rlim_max : 20'000;
  setrlimit(RLIMIT_NOFILE, &files);
  core(n);
  core(n * 100);
  host(n);
}
