// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Lists through their elements, and lists of elements that wait for a deadline. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP
#define SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP

#include <array>
#include <cstddef>
#include <cstdint>

#include <sse/config.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

template <class T>
struct chain;

/// What lets an object stand in one chain.
template <class T>
struct link {
  T* next = nullptr;
  T* prev = nullptr;
  chain<T>* in = nullptr;
};

/// A list through the `hook` of its elements, which it does not own.
template <class T>
struct chain {
  T* first = nullptr;
  T* last = nullptr;
  std::size_t size = 0;

  void push_back(T& t) noexcept {
    unlink(t);
    t.hook = {nullptr, last, this};
    (last != nullptr ? last->hook.next : first) = &t;
    last = &t;
    ++size;
  }
  static void unlink(T& t) noexcept {
    chain* const c = t.hook.in;
    if (c == nullptr) return;
    (t.hook.prev != nullptr ? t.hook.prev->hook.next : c->first) = t.hook.next;
    (t.hook.next != nullptr ? t.hook.next->hook.prev : c->last) = t.hook.prev;
    --c->size;
    t.hook = {};
  }
};

/// What a connection is given time for.
enum class due : std::uint8_t { never, handshake, head, body, verdict, ahead, idle, write, linger };
inline constexpr std::size_t due_count = static_cast<std::size_t>(due::linger) + 1;

/// Connections by what they are given time for. Each kind has one length for the whole server, so
/// that deadlines stand in line by themselves. `T` has `hook` and `due_at`, in milliseconds.
template <class T>
class waiting_room {
 public:
  void allow(due what, duration length) noexcept { line_of(what).length = length; }

  /// Gives `t` a deadline instead of the one it has.
  void await(T& t, due what, time_point now) noexcept {
    line& l = line_of(what);
    l.list.push_back(t);
    t.due_at = l.length.is_off() ? INT64_MAX : (now + l.length).ms();
  }
  [[nodiscard]] std::size_t size() const noexcept {
    std::size_t n = 0;
    for (const line& l : lines_) n += l.list.size;
    return n;
  }
  /// Those that wait for `what`, longest first.
  [[nodiscard]] const chain<T>& waiting_for(due what) noexcept { return line_of(what).list; }
  /// In milliseconds; INT64_MAX: none.
  [[nodiscard]] std::int64_t next() const noexcept {
    std::int64_t first = INT64_MAX;
    for (const line& l : lines_) {
      if (l.list.first != nullptr && l.list.first->due_at < first) first = l.list.first->due_at;
    }
    return first;
  }
  /// Calls f(element, what for) for those whose time is up; f takes each out or gives it more time.
  template <class F>
  void expire(time_point now, F f) noexcept {
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      const chain<T>& list = lines_[i].list;
      while (list.first != nullptr && list.first->due_at <= now.ms()) {
        f(*list.first, static_cast<due>(i));
      }
    }
  }
  /// Calls f(element) for those that are there now; f may take it out, and destroy it.
  template <class F>
  void for_each(F f) noexcept {
    for (line& l : lines_) each_of(l.list, f);
  }
  /// The same for those that wait for `what`.
  template <class F>
  void for_each(due what, F f) noexcept {
    each_of(line_of(what).list, f);
  }

 private:
  struct line {
    chain<T> list;
    duration length;
  };
  template <class F>
  static void each_of(chain<T>& list, F& f) noexcept {
    chain<T> all;
    while (list.first != nullptr) all.push_back(*list.first);
    while (all.first != nullptr) {
      T& t = *all.first;
      list.push_back(t);
      f(t);
    }
  }
  [[nodiscard]] line& line_of(due what) noexcept { return lines_[static_cast<std::size_t>(what)]; }

  std::array<line, due_count> lines_{};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_INTRUSIVE_LIST_HPP
