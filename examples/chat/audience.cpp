// ssehub example chat. SPDX-License-Identifier: MIT
#include "audience.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <sse/request.hpp>

namespace chat {
namespace {

// A condition is one of these, then name NUL value NUL.
constexpr char equal = '=';
constexpr char equal_or_absent = '~';
constexpr char present = '+';

/// Takes the text before the next NUL, and the NUL.
std::string_view take(std::string_view& from) noexcept {
  const std::string_view text = from.substr(0, from.find('\0'));
  from.remove_prefix(text.size() < from.size() ? text.size() + 1 : text.size());
  return text;
}

bool add(std::string& audience, char kind, std::string_view name, std::string_view value) {
  if (name.find('\0') != std::string_view::npos || value.find('\0') != std::string_view::npos)
    return false;
  audience.append(1, kind).append(name).append(1, '\0').append(value).append(1, '\0');
  return true;
}

}  // namespace

std::optional<parameters> parameters::read(std::string_view raw_query) {
  parameters p;
  // Before anything is decoded: what is refused costs next to nothing.
  if (std::count(raw_query.begin(), raw_query.end(), '&') >= static_cast<std::ptrdiff_t>(most))
    return std::nullopt;
  const bool ok = sse::for_each_pair(
      raw_query,
      [&p](std::string_view name, std::string_view value) { p.all_.emplace(name, value); });
  return ok ? std::optional{std::move(p)} : std::nullopt;
}

std::optional<std::string_view> parameters::find(std::string_view name) const noexcept {
  const auto at = all_.find(name);
  return at == all_.end() ? std::nullopt : std::optional<std::string_view>{at->second};
}

bool must_be(std::string& audience, std::string_view name, std::string_view value) {
  return add(audience, equal, name, value);
}
bool unless_other(std::string& audience, std::string_view name, std::string_view value) {
  return add(audience, equal_or_absent, name, value);
}
bool must_have(std::string& audience, std::string_view name) {
  return add(audience, present, name, {});
}

bool sees(const parameters& p, std::string_view audience) noexcept {
  while (!audience.empty()) {
    const char kind = audience.front();
    audience.remove_prefix(1);
    const std::string_view name = take(audience);
    const std::string_view value = take(audience);
    const auto given = p.find(name);
    if (!given && kind != equal_or_absent) return false;
    if (given && kind != present && *given != value) return false;
  }
  return true;
}

std::string to_header(std::string_view audience) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string hex;
  hex.reserve(audience.size() * 2);
  for (const char c : audience) {
    const auto byte = static_cast<unsigned char>(c);
    hex.append(1, digits[byte >> 4U]).append(1, digits[byte & 15U]);
  }
  return hex;
}

std::string from_header(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string audience;
  bool good = text.size() % 2 == 0;
  for (std::size_t i = 0; good && i != text.size(); i += 2) {
    const std::size_t high = digits.find(text[i]);
    const std::size_t low = digits.find(text[i + 1]);
    good = high != digits.npos && low != digits.npos;
    if (good) audience += static_cast<char>(high * 16 + low);
  }
  if (good) return audience;
  audience.clear();
  must_be(audience, "is", "this");  // and that: nobody is both
  must_be(audience, "is", "that");
  return audience;
}

}  // namespace chat
