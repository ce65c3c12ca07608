// The command line of the real program, and how it ends.
#ifdef CHAT_PROGRAM
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "../asio/client.hpp"
#include "catch.hpp"

namespace {

struct result {
  int code = -1;
  std::string out{};  ///< stdout and stderr
};

result run(const std::string& flags) {
  result r;
  std::FILE* const pipe = ::popen((CHAT_PROGRAM " " + flags + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::array<char, 4096> part;
  for (std::size_t n = 0; (n = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    r.out.append(part.data(), n);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) r.code = WEXITSTATUS(status);
  return r;
}

}  // namespace

TEST_CASE("chat flags: unknown ones and bad values end with 2 and one line") {
  for (const char* flags :
       {"--nope", "--token x", "--port x", "--port 65536", "--heartbeat -1", "word"}) {
    CAPTURE(flags);
    const result r = run(flags);
    CHECK(r.code == 2);
    CHECK(r.out.find("chat: ") == 0);
    CHECK(r.out.find('\n') == r.out.size() - 1);
  }
  CHECK(run("--version").out.find("chat ") == 0);
  const result help = run("--help");
  CHECK(help.code == 0);
  CHECK(help.out.find("(3000)") != std::string::npos);
}

TEST_CASE("chat says where it listens, drains on SIGTERM, and ends with 0") {
  std::array<int, 2> out{};
  REQUIRE(::pipe(out.data()) == 0);
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    ::dup2(out[1], STDOUT_FILENO);
    ::close(out[0]);
    ::close(out[1]);
    const int null = ::open("/dev/null", O_WRONLY);
    ::dup2(null, STDERR_FILENO);
    ::execl(CHAT_PROGRAM, "chat", "--port", "0", static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(out[1]);
  std::string line;
  for (char c = 0; c != '\n' && ::read(out[0], &c, 1) == 1;) line += c;
  REQUIRE(line.starts_with("listening on http://127.0.0.1:"));
  REQUIRE(line.ends_with("/\n"));
  const auto port = static_cast<std::uint16_t>(std::atoi(line.c_str() + line.rfind(':') + 1));
  test::client stream{port};
  CHECK(stream.open("/chat?room=general&user=ann&presence=1").status == 200);
  ::kill(pid, SIGTERM);
  const std::string last = stream.rest();  // the end comes by itself
  CHECK(last.find("retry: ") != std::string::npos);
  CHECK(last.ends_with("\n\n"));
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  ::close(out[0]);
}
#endif
