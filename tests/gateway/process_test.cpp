// Real child processes: pipes, ends, signals. What is waited for here comes, so the waits are reads
// and polls, no sleeps.
#include "gateway/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

using namespace gateway;

namespace {

using strings = std::vector<std::string>;

child_process start(const strings& argv) {
  std::error_code error;
  auto child = child_process::start(argv, error);
  INFO(error.message());
  REQUIRE(child);
  return std::move(*child);
}

/// Reads until `size` bytes came, or the end, or nothing for 10 s.
std::string read_some(int fd, std::size_t size) {
  std::string out;
  std::array<char, 4096> chunk;
  while (out.size() < size) {
    pollfd p{fd, POLLIN, 0};
    if (poll(&p, 1, 10'000) <= 0) break;
    const ssize_t n = read(fd, chunk.data(), chunk.size());
    if (n <= 0) break;
    out.append(chunk.data(), static_cast<std::size_t>(n));
  }
  return out;
}

exit_status wait_for(child_process& child) {
  for (int i = 0; i < 10'000; ++i) {
    if (const auto status = child.try_wait()) return *status;
    poll(nullptr, 0, 1);
  }
  FAIL("the child did not end in 10 s");
  return {};
}

}  // namespace

TEST_CASE("the value of --engine is split into words as a shell does it") {
  CHECK(split_command("a b  c\t d ") == strings{"a", "b", "c", "d"});
  CHECK(split_command("") == strings{});
  CHECK(split_command("  ") == strings{});
  CHECK(split_command(R"("a b" 'c d' e\ f '' "")") == strings{"a b", "c d", "e f", "", ""});
  CHECK(split_command(R"(x"y z"'w')") == strings{"xy zw"});
  CHECK(split_command(R"_("a \" \\ \n" '\n' \\ \")_") ==
        strings{R"(a " \ \n)", R"(\n)", R"(\)", "\""});
  CHECK(split_command(R"($HOME;|*`x`)") == strings{"$HOME;|*`x`"});
  for (const char* bad : {"'a", "\"a", "a\\", "\"a\\\"", "a 'b\" c"}) {
    CAPTURE(bad);
    CHECK_FALSE(split_command(bad));
  }
}

TEST_CASE("child_process talks both ways and ends when its input ends") {
  child_process cat = start({"cat"});
  const std::string line = "ORDER BUY BTCUSDT 0.001 50000.0 web-1\n";
  REQUIRE(write(cat.stdin_fd(), line.data(), line.size()) == static_cast<ssize_t>(line.size()));
  CHECK(read_some(cat.stdout_fd(), line.size()) == line);
  CHECK_FALSE(cat.try_wait());
  std::array<char, 1> byte;
  CHECK(read(cat.stdout_fd(), byte.data(), 1) == -1);  // non-blocking
  CHECK(errno == EAGAIN);
  cat.close_stdin();
  CHECK(read_some(cat.stdout_fd(), 1).empty());
  const exit_status status = wait_for(cat);
  CHECK(status.code == 0);
  CHECK(status.signal == 0);
  CHECK(cat.try_wait()->code == 0);
  cat.terminate();  // nothing left to signal
}

TEST_CASE("child_process tells the exit code and the signal") {
  child_process exits = start({"sh", "-c", "exit 7"});
  CHECK(wait_for(exits).code == 7);
  child_process sleeps = start({"sleep", "1000"});
  sleeps.terminate();
  CHECK(wait_for(sleeps).signal == SIGTERM);
  child_process stubborn =
      start({"sh", "-c", "trap '' TERM; echo ready; while :; do read x; done"});
  CHECK(read_some(stubborn.stdout_fd(), 6) == "ready\n");
  stubborn.terminate();
  stubborn.kill();
  CHECK(wait_for(stubborn).signal == SIGKILL);
}

TEST_CASE("a command that does not exist is an error") {
  std::error_code error;
  CHECK_FALSE(child_process::start({"/no/such/engine"}, error));
  CHECK(error == std::errc::no_such_file_or_directory);
  CHECK_FALSE(child_process::start({}, error));
  CHECK(error == std::errc::invalid_argument);
  CHECK_FALSE(child_process::start({""}, error));
}

TEST_CASE("V-50 a write to an engine that is gone is an error, not a signal") {
  child_process gone = start({"true"});
  wait_for(gone);
  CHECK(write(gone.stdin_fd(), "x", 1) == -1);
  CHECK(errno == EPIPE);
}

TEST_CASE("a child gets none of the parent's descriptors and default signals") {
  int sockets[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) ==
          0);  // without close-on-exec, as Asio's are
  child_process child =
      start({"sh", "-c", "ls /proc/self/fd | tr '\\n' ' '; grep SigIgn /proc/self/status; cat"});
  const std::string said = read_some(child.stdout_fd(), 33);
  CAPTURE(said);
  CHECK(said.substr(0, 8) == "0 1 2 3 ");  // 3 is what ls opened
  const std::string_view label = "SigIgn:\t";
  REQUIRE(said.find(label) != std::string::npos);
  const auto ignored = std::stoull(said.substr(said.find(label) + label.size()), nullptr, 16);
  CHECK((ignored & (1ULL << (SIGPIPE - 1))) == 0);
  close(sockets[0]);
  close(sockets[1]);
}

TEST_CASE("the end of a child ends what it left running, and so does its destructor") {
  std::string line;
  {
    child_process shell = start({"sh", "-c", "sleep 1000 & echo $!; exit 0"});
    line = read_some(shell.stdout_fd(), 2);
    wait_for(shell);
    CHECK(read_some(shell.stdout_fd(), 1).empty());  // the sleeper's copy of the pipe is closed
  }
  int out = -1;
  {
    child_process shell = start({"sh", "-c", "sleep 1000 & echo ready; wait"});
    CHECK(read_some(shell.stdout_fd(), 6) == "ready\n");
    out = shell.release_stdout();
    CHECK(shell.stdout_fd() == -1);
    child_process moved = std::move(shell);
    CHECK(shell.pid() == -1);  // NOLINT: moved-from is empty
    CHECK(moved.pid() > 0);
  }
  CHECK(read_some(out, 1).empty());
  close(out);
}

#ifdef FAKE_ENGINE
#include <cstdlib>
#include <fstream>
#include <iterator>

TEST_CASE("V-45 the fake engine plays its script and keeps what it was sent") {
  std::string dir = "/tmp/fake_engine_XXXXXX";
  REQUIRE(mkdtemp(dir.data()) != nullptr);
  std::ofstream{dir + "/script"}
      << "say {\"type\":\"a\"}\nwait\npart half\nbytes 0d0aff0a\nwait\nexit 3\n";
  child_process engine = start({FAKE_ENGINE, dir + "/received", dir + "/script"});
  CHECK(read_some(engine.stdout_fd(), 13) == "{\"type\":\"a\"}\n");
  REQUIRE(write(engine.stdin_fd(), "one\ntwo\n", 8) == 8);
  CHECK(read_some(engine.stdout_fd(), 8) == "half\r\n\xFF\n");
  CHECK(wait_for(engine).code == 3);
  std::ifstream received{dir + "/received"};
  CHECK(std::string{std::istreambuf_iterator<char>{received}, {}} == "one\ntwo\n");
  for (const char* name : {"/received", "/script", ""}) std::remove((dir + name).c_str());
}
#endif
