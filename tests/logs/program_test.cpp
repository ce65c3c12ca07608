// The log server as a program: flags, exit codes.
#ifdef LOGS_PROGRAM
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include <sse/version.hpp>

#include "catch.hpp"

namespace {

struct result {
  int code = 0;
  std::string text{};
};

/// `stream`: what of it is read, 1 or 2.
result run(const std::string& flags, int stream) {
  const std::string to = stream == 1 ? " 2>/dev/null" : " 2>&1 >/dev/null";
  std::FILE* const p = ::popen((LOGS_PROGRAM " " + flags + to + " </dev/null").c_str(), "r");
  if (p == nullptr) throw std::runtime_error("popen");
  result r;
  char bytes[4096];
  while (const std::size_t n = std::fread(bytes, 1, sizeof bytes, p)) r.text.append(bytes, n);
  const int status = ::pclose(p);
  r.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return r;
}

}  // namespace

TEST_CASE("the help names every flag, and there is a version") {
  const result help = run("--help", 1);
  CHECK(help.code == 0);
  for (const char* flag :
       {"--data",       "--follow-links", "--encoding",      "--poll",     "--host",
        "--port",       "--heartbeat",    "--keep",          "--keep-age", "--max-lag",
        "--lag-policy", "--per-user",     "--per-address",   "--total",    "--cors",
        "--token",      "--idle",         "--write-timeout", "--help",     "--version"}) {
    CAPTURE(flag);
    CHECK(help.text.find("  " + std::string{flag}) != std::string::npos);
  }
  CHECK(help.text.find("port, 0 picks one (8420)") != std::string::npos);
  CHECK(run("--version", 1).text == "logs " SSEHUB_VERSION "\n");
}

TEST_CASE("unknown flags and bad values end with code 2 and one line") {
  for (const char* bad :
       {"--bogus", "extra", "--data", "--data ''", "--port x", "--poll -1", "--heartbeat soon",
        "--idle x", "--encoding utf-16", "--follow-links=1", "--cors example", "--token ''"}) {
    CAPTURE(bad);
    const result r = run(bad, 2);
    CHECK(r.code == 2);
    CHECK(std::count(r.text.begin(), r.text.end(), '\n') == 1);
    CHECK(r.text.starts_with("logs: "));
  }
}

TEST_CASE("what cannot be used as a directory ends with code 2 and one line") {
  const result file = run("--port 0 --data /dev/null", 2);
  CHECK(file.code == 2);
  CHECK(file.text == "logs: /dev/null is no directory\n");
  const result nowhere = run("--port 0 --data /nowhere/at/all", 2);
  CHECK(nowhere.code == 2);
  CHECK(nowhere.text == "logs: cannot make /nowhere/at/all: No such file or directory\n");
}
#endif
