// What a journal's history costs where it is needed: a replay to one socket, beside sendfile of the
// same bytes and beside read and send of them without a look at them; and a start.
//
//   bench_journal_replay [--megabytes N] [--start-megabytes N] [--dir DIR]     JSON on stdout
//
// Replay: seconds, and CPU seconds of the sending thread, for all bytes to reach a reader in
// another process; the best of `rounds` by turns. Start: seconds to open a journal of half the size
// and of all of it, behind a run that was killed and behind one that ended, with its files in the
// page cache; then cold, behind a run that was killed.
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <sse/epoll.hpp>
#include <sse/journal.hpp>

#include "servers/common.hpp"

namespace {

namespace fs = std::filesystem;

void must(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "bench_journal_replay: %s failed\n", what);
  std::exit(1);
}
double thread_cpu() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

sse::journal_options options() {
  sse::journal_options o;
  o.channel = [](std::string_view) { return sse::channel_options{.keep = 1}; };
  o.preload_bytes = 0;
  return o;
}

/// Events of 180 bytes.
sse::event_id fill(sse::journal& j, std::uint64_t bytes) {
  const std::string data(150, 'x');
  sse::event_id last = 0;
  for (std::uint64_t n = bytes / 180; n != 0;) {
    const sse::publish_result r = j.publish(0, {.type = "tick", .data = data});
    if (r) {
      last = r.id;
      --n;
    } else {
      ::usleep(100);
    }
  }
  must(j.wait_durable(last, sse::duration::seconds(600)), "writing");
  return last;
}

int connect_to(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  must(::connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0, "connect");
  return fd;
}

/// A process that reads: from a connection to `port`, which it asks for `request`, until `bytes`
/// came.
struct reader {
  pid_t pid;
  reader(std::uint16_t port, const std::string& request, std::uint64_t bytes) : pid{::fork()} {
    if (pid != 0) return;
    const int fd = connect_to(port);
    must(::write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size()),
         "asking");
    std::vector<char> buffer(std::size_t{256} << 10);
    while (bytes != 0) {
      const ssize_t n = ::read(fd, buffer.data(), buffer.size());
      must(n > 0, "reading");
      bytes -= std::min(bytes, static_cast<std::uint64_t>(n));
    }
    ::_exit(0);
  }
  void wait() const {
    int status = 0;
    must(::waitpid(pid, &status, 0) == pid && status == 0, "the reader");
  }
};

struct cost {
  double seconds = 1e9;
  double cpu = 1e9;
  void keep(double s, double c) {
    seconds = std::min(seconds, s);
    cpu = std::min(cpu, c);
  }
};

std::uint64_t size_of(const fs::path& dir) {
  std::uint64_t n = 0;
  for (const auto& f : fs::directory_iterator{dir}) n += fs::file_size(f);
  return n;
}
std::vector<fs::path> logs(const fs::path& dir) {
  std::vector<fs::path> all;
  for (const auto& f : fs::directory_iterator{dir}) {
    if (f.path().extension() == ".log") all.push_back(f.path());
  }
  std::sort(all.begin(), all.end());
  return all;
}

enum class by { sendfile, read };
void send_files(by how, const fs::path& dir, std::uint64_t bytes, cost& best) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  must(::bind(listener, reinterpret_cast<const sockaddr*>(&a), size) == 0 &&
           ::listen(listener, 1) == 0 &&
           ::getsockname(listener, reinterpret_cast<sockaddr*>(&a), &size) == 0,
       "listen");
  const reader r{ntohs(a.sin_port), "x", bytes};
  const int to = ::accept(listener, nullptr, nullptr);
  char asked = 0;
  must(::read(to, &asked, 1) == 1, "accept");
  const std::int64_t start = bench::now_ns();
  const double cpu = thread_cpu();
  std::vector<char> buffer(std::size_t{256} << 10);
  for (const fs::path& f : logs(dir)) {
    const int from = ::open(f.c_str(), O_RDONLY);
    for (ssize_t n = 1; n > 0 && bytes != 0; bytes -= static_cast<std::uint64_t>(n)) {
      if (how == by::sendfile) {
        n = ::sendfile(to, from, nullptr, std::min(std::size_t{1} << 20, bytes));
      } else {
        n = ::read(from, buffer.data(), std::min(buffer.size(), bytes));
        for (ssize_t sent = 0; sent < n;)
          sent += ::send(to, buffer.data() + sent, static_cast<std::size_t>(n - sent), 0);
      }
    }
    ::close(from);
  }
  const double used = thread_cpu() - cpu;
  r.wait();
  best.keep(static_cast<double>(bench::now_ns() - start) / 1e9, used);
  ::close(to);
  ::close(listener);
}

void by_journal(sse::epoll_server<>& server, std::uint64_t bytes, cost& best) {
  const reader r{server.port(), "GET /?last_id=1 HTTP/1.0\r\n\r\n", bytes};
  const std::int64_t start = bench::now_ns();
  const double cpu = thread_cpu();
  int status = 0;
  while (::waitpid(r.pid, &status, WNOHANG) == 0) server.poll(sse::duration::milliseconds(1));
  must(status == 0, "the reader");
  best.keep(static_cast<double>(bench::now_ns() - start) / 1e9, thread_cpu() - cpu);
}

double seconds_to_open(const std::string& dir) {
  sse::journal j;
  const std::int64_t start = bench::now_ns();
  must(!j.open(dir, options()), "opening it again");
  const double s = static_cast<double>(bench::now_ns() - start) / 1e9;
  j.start();
  j.stop();
  return s;
}

void write_and_die(const std::string& dir, std::uint64_t bytes) {
  const pid_t writer = ::fork();
  if (writer == 0) {
    sse::journal j;
    must(!j.open(dir, options()), "the journal");
    j.start();
    fill(j, bytes);
    ::_exit(0);  // as if it were killed
  }
  int status = 0;
  must(::waitpid(writer, &status, 0) == writer && status == 0, "the writer");
}

/// Its files leave the page cache.
void forget(const fs::path& dir) {
  for (const auto& f : fs::directory_iterator{dir}) {
    const int fd = ::open(f.path().c_str(), O_RDONLY);
    must(fd >= 0 && ::fsync(fd) == 0 && ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0,
         "forgetting the files");
    ::close(fd);
  }
}

/// A start behind so many more bytes.
void print_start(const std::string& dir, std::uint64_t more) {
  std::fflush(stdout);
  write_and_die(dir, more);
  const double killed = seconds_to_open(dir);
  const double ended = seconds_to_open(dir);
  write_and_die(dir, std::uint64_t{32} << 20);  // half of the newest file
  forget(dir);
  std::printf("{\"bytes\":%llu,\"killed_s\":%.4f,\"ended_s\":%.4f,\"cold_s\":%.4f}",
              static_cast<unsigned long long>(size_of(dir)), killed, ended, seconds_to_open(dir));
}

void print_replay(const std::string& dir, std::uint64_t size) {
  sse::journal j;
  must(!j.open(dir, options()), "the journal");
  sse::server_options o;
  o.shards = &j.order();
  sse::epoll_server<> server{o};
  server.stream("/", server.hub().find_channel("events"));
  must(!server.listen("127.0.0.1", 0), "listen");
  j.start();
  std::atomic<bool> done{false};
  std::thread writer{[&] {
    fill(j, size);
    done = true;
  }};
  while (!done) server.poll(sse::duration::milliseconds(10));
  writer.join();
  std::uint64_t bytes = 0;
  j.read(1, sse::max_event_id + 1, [&](const sse::journal_event& e) {
    bytes += e.bytes.size();
    return true;
  });
  constexpr int rounds = 7;
  cost journal;
  cost sendfile;
  cost read;
  for (int round = 0; round < rounds; ++round) {
    send_files(by::sendfile, dir, bytes, sendfile);
    by_journal(server, bytes, journal);
    send_files(by::read, dir, bytes, read);
  }
  std::printf("{\"bytes\":%llu", static_cast<unsigned long long>(bytes));
  const auto print = [](const char* name, const cost& c) {
    std::printf(",\"%s_s\":%.3f,\"%s_cpu_s\":%.3f", name, c.seconds, name, c.cpu);
  };
  print("sendfile", sendfile);
  print("read_and_send", read);
  print("journal", journal);
  std::printf(",\"to_sendfile\":%.2f,\"to_read_and_send\":%.2f}",
              sendfile.seconds / journal.seconds, read.seconds / journal.seconds);
}

}  // namespace

int main(int argc, char** argv) {
  fs::path base = fs::temp_directory_path();
  std::uint64_t replay = 1000;
  std::uint64_t start = 1000;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--megabytes") {
      replay = std::strtoull(argv[i + 1], nullptr, 10);
    } else if (name == "--start-megabytes") {
      start = std::strtoull(argv[i + 1], nullptr, 10);
    } else if (name == "--dir") {
      base = argv[i + 1];
    } else {
      return std::fprintf(stderr, "unknown: %s\n", argv[i]), 2;
    }
  }
  std::string pattern = (base / "bench-replay-XXXXXX").string();
  must(::mkdtemp(pattern.data()) != nullptr, "mkdtemp");
  const fs::path all = pattern;
  fs::create_directories(all / "start");
  std::printf("{\"start\":[");
  print_start(all / "start", (start << 20U) / 2);
  std::printf(",");
  print_start(all / "start", (start << 20U) / 2);
  fs::remove_all(all / "start");
  std::printf("],\"replay\":");
  fs::create_directories(all / "replay");
  print_replay(all / "replay", replay << 20U);
  std::printf("}\n");
  fs::remove_all(all);
}
