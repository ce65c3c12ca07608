// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/fmt.hpp
//
// try_format: {fmt} straight into a publisher's lane. Needs {fmt} 9 or newer (CMake: ssehub::fmt).
// If the text is there already, publisher::try_publish is the shorter way. Threads: as the
// publisher, one at a time. Format strings are checked at compile time.
//
//   auto s = sse::try_format(quotes, FMT_COMPILE(R"({{"price":{},"qty":{}}})"), price, qty);
//   s = sse::try_format<256>(quotes, {.type = "fill"}, "{} {}", id, qty);
//   if (!s) ++refused;
//
// An event has at most Max bytes of data, 1,024 unless said: longer is too_large, and the lane must
// have room for as many.
// FMT_COMPILE is about twice as fast as a plain format string. Nothing is allocated and nothing is
// published unless all of it fits. Exceptions: only those of a formatter of the user's own type,
// and format_error for a dynamic width that is bad; nothing was published then.
#ifndef SSEHUB_FMT_HPP
#define SSEHUB_FMT_HPP

#include <cstddef>
#include <iterator>
#include <string_view>
#include <type_traits>
#include <utility>

#include <fmt/compile.h>
#include <fmt/format.h>

#include "mailbox.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

namespace detail {

/// An output iterator that counts on when it is full. fmt::format_to_n does the same, but slowly
/// with FMT_COMPILE.
class bounded_output {
 public:
  using iterator_category = std::output_iterator_tag;
  using value_type = void;
  using difference_type = std::ptrdiff_t;
  using pointer = void;
  using reference = void;

  bounded_output(char* out, std::size_t room) noexcept
      : end_{out + room}, at_{-static_cast<std::ptrdiff_t>(room)} {}
  bounded_output& operator*() noexcept { return *this; }
  bounded_output& operator++() noexcept { return *this; }
  bounded_output& operator++(int) noexcept { return *this; }
  bounded_output& operator=(char c) noexcept {
    if (at_ < 0) end_[at_] = c;
    ++at_;
    return *this;
  }
  /// What did not fit counts too.
  [[nodiscard]] std::size_t size(std::size_t room) const noexcept {
    return static_cast<std::size_t>(static_cast<std::ptrdiff_t>(room) + at_);
  }

 private:
  // Two words, so that {fmt}, which passes iterators by value, keeps it in registers.
  char* end_;
  std::ptrdiff_t at_;
};

/// What FMT_COMPILE and FMT_STRING make: a type that holds nothing, since the text is in the type.
template <class S>
concept compiled_format = std::is_class_v<S> && std::is_empty_v<S>;

template <std::size_t Max, class Write>
publish_result emplace_formatted(publisher& p, const event& e, const publish_options& o,
                                 Write write) {
  return p.try_emplace(e, o, Max, [&](char* out, std::size_t room) {
    return write(bounded_output{out, room}).size(room);
  });
}

}  // namespace detail

/// The data of an event that has the rest of `e`, with options. Errors: as publisher::try_emplace.
template <std::size_t Max = 1024, class... T>
[[nodiscard]] publish_result try_format(publisher& p, const event& e, const publish_options& o,
                                        fmt::format_string<T...> f, T&&... args) {
  return detail::emplace_formatted<Max>(p, e, o, [&](detail::bounded_output out) {
    return fmt::format_to(out, f, std::forward<T>(args)...);
  });
}

/// The same with FMT_COMPILE or FMT_STRING.
template <std::size_t Max = 1024, detail::compiled_format S, class... T>
[[nodiscard]] publish_result try_format(publisher& p, const event& e, const publish_options& o,
                                        const S&, T&&... args) {
  return detail::emplace_formatted<Max>(
      p, e, o, [&](detail::bounded_output out) { return fmt::format_to(out, S{}, args...); });
}

/// Without options.
template <std::size_t Max = 1024, class... T>
[[nodiscard]] publish_result try_format(publisher& p, const event& e, fmt::format_string<T...> f,
                                        T&&... args) {
  return try_format<Max>(p, e, publish_options{}, f, std::forward<T>(args)...);
}

/// The same with FMT_COMPILE or FMT_STRING.
template <std::size_t Max = 1024, detail::compiled_format S, class... T>
[[nodiscard]] publish_result try_format(publisher& p, const event& e, const S& f, T&&... args) {
  return try_format<Max>(p, e, publish_options{}, f, args...);
}

/// An unnamed event for everyone.
template <std::size_t Max = 1024, class... T>
[[nodiscard]] publish_result try_format(publisher& p, fmt::format_string<T...> f, T&&... args) {
  return try_format<Max>(p, event{}, publish_options{}, f, std::forward<T>(args)...);
}

/// The same with FMT_COMPILE or FMT_STRING.
template <std::size_t Max = 1024, detail::compiled_format S, class... T>
[[nodiscard]] publish_result try_format(publisher& p, const S& f, T&&... args) {
  return try_format<Max>(p, event{}, publish_options{}, f, args...);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_FMT_HPP
