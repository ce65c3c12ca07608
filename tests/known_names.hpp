// Names that resolve to what a test says. The test program compiles known_names.cpp, whose
// getaddrinfo stands in front of the C library's.
#pragma once

#include <string>
#include <vector>

namespace test {

/// While it lives; no addresses: there is no such name. For all threads.
class known_name {
 public:
  known_name(std::string name, std::vector<std::string> addresses);
  known_name(const known_name&) = delete;
  known_name& operator=(const known_name&) = delete;
  ~known_name();

 private:
  std::string name_;
};

}  // namespace test
