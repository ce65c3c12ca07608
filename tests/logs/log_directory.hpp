// A directory of log files that goes with what is in it.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace test {

class log_directory {
 public:
  /// Files of the memory, where there are such, are made and deleted faster.
  explicit log_directory(bool in_memory = false) {
    if (in_memory && ::access("/dev/shm", W_OK) == 0) path_ = "/dev/shm/ssehub_logs_XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp");
  }
  log_directory(const log_directory&) = delete;
  log_directory& operator=(const log_directory&) = delete;
  ~log_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  void append(const std::string& name, std::string_view bytes) const {
    std::ofstream{file(name), std::ios::app | std::ios::binary} << bytes << std::flush;
  }
  void rename(const std::string& from, const std::string& to) const {
    std::filesystem::rename(file(from), file(to));
  }
  void copy(const std::string& from, const std::string& to) const {
    std::filesystem::copy_file(file(from), file(to));
  }
  void truncate(const std::string& name) const { std::filesystem::resize_file(file(name), 0); }
  void remove(const std::string& name) const { std::filesystem::remove(file(name)); }

 private:
  std::string path_ = "/tmp/ssehub_logs_XXXXXX";
};

/// "line 1\nline 2\n...", and the same line by line.
inline std::string numbered(int from, int to) {
  std::string out;
  for (int i = from; i <= to; ++i) out += "line " + std::to_string(i) + "\n";
  return out;
}
inline std::vector<std::string> lines(int from, int to) {
  std::vector<std::string> out;
  for (int i = from; i <= to; ++i) out.push_back("line " + std::to_string(i));
  return out;
}

}  // namespace test
