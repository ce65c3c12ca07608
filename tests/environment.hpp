// What a run is told by its environment, such as the number of its seeds.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace test {

inline std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace test
