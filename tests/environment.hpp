// What a run is told by its environment, such as the number of its seeds.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

namespace test {

inline std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// Where nothing may be left out for want of what the machine lacks.
inline bool in_ci() {
  const char* const ci = std::getenv("CI");
  return ci != nullptr && std::string_view{ci} == "true";
}

/// Sets a variable, or removes it (nullptr), as long as this lives. Not while other threads look.
class variable {
 public:
  variable(const char* name, const char* value) : name_{name} {
    if (const char* const before = std::getenv(name)) before_ = before;
    put(value);
  }
  variable(const variable&) = delete;
  variable& operator=(const variable&) = delete;
  ~variable() { put(before_ ? before_->c_str() : nullptr); }

 private:
  void put(const char* value) const {
    value == nullptr ? ::unsetenv(name_) : ::setenv(name_, value, 1);
  }
  const char* name_;
  std::optional<std::string> before_{};
};

}  // namespace test
