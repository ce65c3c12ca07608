// Runs a fuzz target over stored inputs, where there is no libFuzzer. usage: <name>
// CORPUS_DIRECTORY_OR_FILE...
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;

std::size_t replay(const fs::path& path) {
  std::size_t count = 0;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator{path}) count += replay(entry.path());
    return count;
  }
  std::ifstream file{path, std::ios::binary};
  const std::vector<char> bytes{std::istreambuf_iterator<char>{file}, {}};
  // An input that crashes is named before it does.
  std::fprintf(stderr, "%s\n", path.c_str());
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  LLVMFuzzerTestOneInput(nullptr, 0);
  std::size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    if (!fs::exists(argv[i])) {
      std::fprintf(stderr, "%s does not exist: store at least one input there\n", argv[i]);
      return 1;
    }
    count += replay(argv[i]);
  }
  std::fprintf(stderr, "%zu inputs replayed\n", count);
  return 0;
}
