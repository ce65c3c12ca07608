// ssehub examples. SPDX-License-Identifier: MIT
//
// flag_set: command line flags, each declared once with its help. `--name VALUE` and `--name=VALUE`
// are the same; the last of several counts.
//
//   std::uint16_t port = 8080;
//   examples::flag_set flags{"gateway", "A trading gateway.", "0.1.0"};
//   flags.number("--port", "N", "port to listen on", port);
//   if (const auto end = flags.parse(argc, argv)) return end->print();
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <sse/config.hpp>

namespace examples {

/// A program that ends before it began: after --help and --version (0), a wrong flag (2), or what
/// is not there (1).
struct early_end {
  int code = 0;
  std::string text{};

  /// Writes the text to stdout, or to stderr if it is an error; returns the code.
  int print() const;
};

/// A whole decimal number from `least` to `most`; no sign, no spaces.
[[nodiscard]] std::optional<std::uint64_t> parse_count(std::string_view text, std::uint64_t least,
                                                       std::uint64_t most) noexcept;
/// Seconds, fractions allowed, up to a million. What is above 0 is at least a millisecond.
[[nodiscard]] std::optional<sse::duration> parse_seconds(std::string_view text) noexcept;

class flag_set {
 public:
  /// Takes a value; returns what it must be if it is not, such as "a number from 0 to 9".
  using reader = std::function<std::string(std::string_view value)>;

  flag_set(std::string_view program, std::string_view summary, std::string_view version);

  /// A flag with a value. `takes` is its name in --help; an empty one makes it a flag without
  /// value.
  void add(std::string_view name, std::string_view takes, std::string_view help, reader read);
  void heading(std::string_view text);
  /// Takes one argument that is no flag, `name` in --help. Without it, `out` stays as it is.
  void operand(std::string_view name, std::string& out);
  /// More text at the end of --help.
  void footer(std::string_view text) { footer_ = text; }

  void toggle(std::string_view name, std::string_view help, bool& out);
  void text(std::string_view name, std::string_view takes, std::string_view help, std::string& out);
  void seconds(std::string_view name, std::string_view help, sse::duration& out);
  template <std::unsigned_integral T>
  void number(std::string_view name, std::string_view takes, std::string_view help, T& out) {
    constexpr std::uint64_t most = std::numeric_limits<T>::max();
    add(name, takes, help, [&out](std::string_view value) {
      const auto n = parse_count(value, 0, most);
      if (n) out = static_cast<T>(*n);
      return n ? std::string{} : "a number from 0 to " + std::to_string(most);
    });
  }

  /// Reads the command line. Absent: go on.
  [[nodiscard]] std::optional<early_end> parse(int argc, const char* const* argv);
  /// Whether the command line had it.
  [[nodiscard]] bool given(std::string_view name) const noexcept;

  /// A wrong use of flags that only the program can see.
  [[nodiscard]] early_end wrong(std::string_view what) const;
  /// What a flag names cannot be used, a file that is not there for one: code 2, too.
  [[nodiscard]] early_end unusable(std::string_view what) const;
  /// Something else is not as it must be: code 1.
  [[nodiscard]] early_end failed(std::string_view what) const;

 private:
  struct flag {
    std::string name{};  ///< empty: a heading
    std::string takes{};
    std::string help{};
    reader read{};
    bool given = false;
  };

  [[nodiscard]] std::string help() const;

  std::string program_;
  std::string summary_;
  std::string version_;
  std::string footer_;
  std::string operand_name_;
  std::string* operand_ = nullptr;
  std::vector<flag> flags_;
};

}  // namespace examples
