// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// try_format: {fmt} straight into a publisher's lane. Needs {fmt} 9 or newer (CMake: ssehub::fmt).
// If the text is there already, publisher::try_publish is the shorter way. Threads: as the
// publisher, one at a time. Format strings are checked at compile time.
//
//   auto s = sse::try_format(quotes, FMT_COMPILE(R"({{"price":{},"qty":{}}})"), price, qty);
//   s = sse::try_format(quotes, {.type = "fill", .max = 256}, "{} {}", id, qty);
//   if (s != sse::publish_status::ok) ++refused;
//
// FMT_COMPILE is about twice as fast as a plain format string. Nothing is allocated and nothing is
// published unless all of it fits. Exceptions: only those of a formatter of the user's own type,
// and format_error for a dynamic width that is bad; nothing was published then.
#pragma once

#include <cstddef>
#include <iterator>
#include <string_view>
#include <type_traits>
#include <utility>

#include <fmt/compile.h>
#include <fmt/format.h>

#include <sse/mailbox.hpp>

namespace sse::inline v0 {

/// What an event has besides its data, and how long the data may become.
struct format_options {
  std::string_view type{};      ///< as message::type
  std::string_view audience{};  ///< as message::audience
  event_id id = no_id;          ///< as message::id
  bool transient = false;       ///< as message::transient
  std::size_t max = 1024;       ///< bytes; longer is too_large; the lane must have room for as many
  std::string_view key{};       ///< as message::key
};

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

template <class Write>
publish_status emplace_formatted(publisher& p, const format_options& o, Write write) {
  const message m{
      .type = o.type, .audience = o.audience, .id = o.id, .transient = o.transient, .key = o.key};
  return p.try_emplace(m, o.max, [&](char* out, std::size_t room) {
    return write(bounded_output{out, room}).size(room);
  });
}

}  // namespace detail

/// Formats an event with options. Errors: as publisher::try_emplace.
template <class... T>
[[nodiscard]] publish_status try_format(publisher& p, const format_options& o,
                                        fmt::format_string<T...> f, T&&... args) {
  return detail::emplace_formatted(p, o, [&](detail::bounded_output out) {
    return fmt::format_to(out, f, std::forward<T>(args)...);
  });
}

/// The same with FMT_COMPILE or FMT_STRING.
template <detail::compiled_format S, class... T>
[[nodiscard]] publish_status try_format(publisher& p, const format_options& o, const S&,
                                        T&&... args) {
  return detail::emplace_formatted(
      p, o, [&](detail::bounded_output out) { return fmt::format_to(out, S{}, args...); });
}

/// An unnamed event for everyone, at most 1,024 bytes.
template <class... T>
[[nodiscard]] publish_status try_format(publisher& p, fmt::format_string<T...> f, T&&... args) {
  return try_format(p, format_options{}, f, std::forward<T>(args)...);
}

/// The same with FMT_COMPILE or FMT_STRING.
template <detail::compiled_format S, class... T>
[[nodiscard]] publish_status try_format(publisher& p, const S& f, T&&... args) {
  return try_format(p, format_options{}, f, args...);
}

}  // namespace sse::inline v0
