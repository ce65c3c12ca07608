// ssehub examples. SPDX-License-Identifier: MIT
#include "common/flags.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <system_error>
#include <utility>

namespace examples {
namespace {

/// For a message: short, and without what would end the line or change the terminal.
std::string quoted(std::string_view text) {
  constexpr std::size_t most = 80;
  std::string out = "'";
  for (const char c : text.substr(0, most)) out += c < ' ' || c == '\x7f' ? '?' : c;
  return out + (text.size() > most ? "...'" : "'");
}

}  // namespace

int early_end::print() const {
  std::FILE* const to = code == 0 ? stdout : stderr;
  std::fwrite(text.data(), 1, text.size(), to);
  std::fflush(to);
  return code;
}

std::optional<std::uint64_t> parse_count(std::string_view text, std::uint64_t least,
                                         std::uint64_t most) noexcept {
  std::uint64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || end != text.data() + text.size() || n < least || n > most)
    return std::nullopt;
  return n;
}

std::optional<sse::duration> parse_seconds(std::string_view text) noexcept {
  double seconds = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
  if (error != std::errc{} || end != text.data() + text.size() || !(seconds >= 0) || seconds > 1e6)
    return std::nullopt;
  const auto ms = static_cast<std::int64_t>(std::llround(seconds * 1000));
  return sse::duration::milliseconds(seconds > 0 ? std::max<std::int64_t>(ms, 1) : 0);
}

flag_set::flag_set(std::string_view program, std::string_view summary, std::string_view version)
    : program_{program}, summary_{summary}, version_{version} {}

void flag_set::add(std::string_view name, std::string_view takes, std::string_view help,
                   reader read) {
  flags_.push_back(
      {std::string{name}, std::string{takes}, std::string{help}, std::move(read), false});
}

void flag_set::heading(std::string_view text) {
  flags_.push_back({{}, {}, std::string{text}, {}, false});
}

void flag_set::operand(std::string_view name, std::string& out) {
  operand_name_ = " " + std::string{name};
  operand_ = &out;
}

void flag_set::toggle(std::string_view name, std::string_view help, bool& out) {
  add(name, {}, help, [&out](std::string_view) {
    out = true;
    return std::string{};
  });
}

void flag_set::text(std::string_view name, std::string_view takes, std::string_view help,
                    std::string& out) {
  add(name, takes, help, [&out](std::string_view value) {
    out = value;
    return std::string{};
  });
}

void flag_set::seconds(std::string_view name, std::string_view help, sse::duration& out) {
  add(name, "SECONDS", help, [&out](std::string_view value) {
    const auto d = parse_seconds(value);
    if (d) out = *d;
    return std::string{d ? "" : "seconds from 0 to 1000000, such as 10 or 0.5"};
  });
}

std::optional<early_end> flag_set::parse(int argc, const char* const* argv) {
  bool had_operand = operand_ == nullptr;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help" || word == "-h") return early_end{0, help()};
    if (word == "--version") return early_end{0, program_ + " " + version_ + "\n"};
    if (!had_operand && !word.starts_with('-')) {
      had_operand = true;
      *operand_ = word;
      continue;
    }
    const std::size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    if (name == "--help" || name == "--version")
      return wrong(std::string{name} + " takes no value");
    const auto found = std::find_if(flags_.begin(), flags_.end(), [&](const flag& f) {
      return !f.name.empty() && f.name == name;
    });
    if (found == flags_.end()) {
      return wrong((word.starts_with('-') ? "unknown flag " : "unexpected argument ") +
                   quoted(name));
    }
    std::string_view value;
    if (equals != std::string_view::npos) {
      if (found->takes.empty()) return wrong(found->name + " takes no value");
      value = word.substr(equals + 1);
    } else if (!found->takes.empty()) {
      if (i + 1 == argc || std::string_view{argv[i + 1]}.starts_with("--"))
        return wrong(found->name + " needs a value: " + found->name + " " + found->takes);
      value = argv[++i];
    }
    if (const std::string want = found->read(value); !want.empty())
      return wrong(found->name + " must be " + want + ", not " + quoted(value));
    found->given = true;
  }
  return std::nullopt;
}

bool flag_set::given(std::string_view name) const noexcept {
  return std::any_of(flags_.begin(), flags_.end(),
                     [&](const flag& f) { return f.name == name && f.given; });
}

early_end flag_set::wrong(std::string_view what) const {
  return {2, program_ + ": " + std::string{what} + " (see " + program_ + " --help)\n"};
}

early_end flag_set::unusable(std::string_view what) const {
  return {2, program_ + ": " + std::string{what} + "\n"};
}

early_end flag_set::failed(std::string_view what) const {
  return {1, program_ + ": " + std::string{what} + "\n"};
}

std::string flag_set::help() const {
  constexpr std::size_t column = 26;
  std::string out = summary_ + "\n\nusage: " + program_ + operand_name_ + " [FLAG]...\n";
  const auto line = [&](std::string left, std::string_view right) {
    left.resize(std::max(left.size() + 2, column), ' ');
    out.append("  ").append(left).append(right).append("\n");
  };
  for (const flag& f : flags_) {
    if (f.name.empty()) {
      out.append("\n").append(f.help).append("\n");
    } else {
      line(f.takes.empty() ? f.name : f.name + " " + f.takes, f.help);
    }
  }
  line("--help", "this text");
  line("--version", "the version");
  return out.append(footer_.empty() ? "" : "\n").append(footer_);
}

}  // namespace examples
