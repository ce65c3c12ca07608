// Runs the programs that scripts/extract-examples made of the documents: all, or those that are
// named. Each in a folder of its own, which goes with it.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>

#define PROGRAM(name)      \
  namespace guide_##name { \
    int main();            \
  }
#include "all.hpp"
#undef PROGRAM

namespace {

struct program {
  std::string_view name;
  int (*run)();
};
constexpr program programs[] = {
#define PROGRAM(name) {#name, &guide_##name::main},
#include "all.hpp"
#undef PROGRAM
};

/// A new current folder, while it lives.
class own_folder {
 public:
  own_folder() : before_{std::filesystem::current_path()} {
    std::random_device random;
    here_ = std::filesystem::temp_directory_path() / ("ssehub-guide-" + std::to_string(random()));
    std::filesystem::create_directory(here_);
    std::filesystem::current_path(here_);
  }
  own_folder(const own_folder&) = delete;
  own_folder& operator=(const own_folder&) = delete;
  ~own_folder() {
    std::error_code ignored;
    std::filesystem::current_path(before_, ignored);
    std::filesystem::remove_all(here_, ignored);
  }

 private:
  std::filesystem::path before_;
  std::filesystem::path here_;
};

bool runs(const program& p) {
  const own_folder folder;
  try {
    if (const int code = p.run(); code != 0) {
      std::fprintf(stderr, "%s: exit code %d\n", p.name.data(), code);
      return false;
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", p.name.data(), e.what());
    return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  int failed = 0;
  int ran = 0;
  for (const program& p : programs) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted = wanted || p.name == argv[i];
    if (!wanted) continue;
    ++ran;
    if (!runs(p)) ++failed;
  }
  std::printf("%d programs, %d failed\n", ran, failed);
  return failed != 0 || ran == 0 ? 1 : 0;
}
