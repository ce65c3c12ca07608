// The one main of all Catch2 test programs, for Catch2 version 2 and 3.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_RUNNER
#endif
#include "catch.hpp"

#include <csignal>

int main(int argc, char** argv) {
  // A test that writes to a closed socket wants the error, not the signal.
#ifdef SIGPIPE  // not on Windows
  std::signal(SIGPIPE, SIG_IGN);
#endif
  return Catch::Session().run(argc, argv);
}
