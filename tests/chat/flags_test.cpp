// The command line of the real program, and how it ends.
#ifdef CHAT_PROGRAM
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

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
  for (const char* flags : {"--nope", "--token x", "--port x", "--port 65536", "--heartbeat -1", "word"}) {
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

TEST_CASE("chat listens, says so first, and ends with 0 on SIGTERM") {
  const result r =
      run("--port 0 & pid=$!; sleep 0.3; kill -TERM $pid; wait $pid; echo code $?; exit 7; :");
  CHECK(r.code == 7);
  CHECK(r.out.find("listening on http://127.0.0.1:") == 0);
  CHECK(r.out.find("code 0") != std::string::npos);
}
#endif
