// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Callables for hooks. The core does not include <functional>, and hooks own things that cannot be
// copied; those that are options can be, so that the options can.
#pragma once
#ifndef SSEHUB_FUNCTION_HPP
#define SSEHUB_FUNCTION_HPP

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

template <class Signature>
class function;
template <class Signature>
class copyable_function;

/// Holds any callable of that signature; small ones without an allocation. Calling an empty one is
/// a defect of the caller: test with operator bool.
template <class R, class... Args>
class function<R(Args...)> {
 public:
  function() noexcept = default;

  /// Takes what can be called so.
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, function> &&
           std::is_invocable_r_v<R, F&, Args...>)
      function(F&& f) {  // NOLINT: implicit, for a lambda where a hook is asked for
    using stored = std::remove_cvref_t<F>;
    if constexpr (fits<stored>) {
      ::new (static_cast<void*>(&storage_)) stored(std::forward<F>(f));
      ops_ = &ops_inline<stored>;
    } else {
      ::new (static_cast<void*>(&storage_)) stored*(new stored(std::forward<F>(f)));
      ops_ = &ops_heap<stored>;
    }
  }
  function(function&& o) noexcept : ops_{std::exchange(o.ops_, nullptr)} {
    if (ops_ != nullptr) ops_->relocate(&storage_, &o.storage_);
  }
  function& operator=(function&& o) noexcept {
    if (this != &o) {
      reset();
      ops_ = std::exchange(o.ops_, nullptr);
      if (ops_ != nullptr) ops_->relocate(&storage_, &o.storage_);
    }
    return *this;
  }
  function(const function&) = delete;
  function& operator=(const function&) = delete;
  ~function() { reset(); }

  [[nodiscard]] explicit operator bool() const noexcept { return ops_ != nullptr; }
  R operator()(Args... args) const {
    return ops_->call(const_cast<void*>(static_cast<const void*>(&storage_)),
                      std::forward<Args>(args)...);
  }

 private:
  friend class copyable_function<R(Args...)>;
  static constexpr std::size_t room = 3 * sizeof(void*);
  template <class F>
  static constexpr bool fits =
      sizeof(F) <= room && alignof(F) <= alignof(void*) && std::is_nothrow_move_constructible_v<F>;

  struct operations {
    R (*call)(void*, Args&&...);
    void (*relocate)(void* to, void* from) noexcept;
    void (*destroy)(void*) noexcept;
    void (*copy)(void* to, const void* from);  // nullptr: it cannot be copied
  };
  template <class F>
  static constexpr auto copy_inline() noexcept -> void (*)(void*, const void*) {
    if constexpr (std::is_copy_constructible_v<F>) {
      return [](void* to, const void* from) { ::new (to) F(*static_cast<const F*>(from)); };
    } else {
      return nullptr;
    }
  }
  template <class F>
  static constexpr auto copy_heap() noexcept -> void (*)(void*, const void*) {
    if constexpr (std::is_copy_constructible_v<F>) {
      return [](void* to, const void* from) {
        ::new (to) F*(new F(**static_cast<const F* const*>(from)));
      };
    } else {
      return nullptr;
    }
  }
  template <class F>
  static constexpr operations ops_inline{
      [](void* p, Args&&... a) -> R { return (*static_cast<F*>(p))(std::forward<Args>(a)...); },
      [](void* to, void* from) noexcept {
        ::new (to) F(std::move(*static_cast<F*>(from)));
        static_cast<F*>(from)->~F();
      },
      [](void* p) noexcept { static_cast<F*>(p)->~F(); }, copy_inline<F>()};
  template <class F>
  static constexpr operations ops_heap{
      [](void* p, Args&&... a) -> R { return (**static_cast<F**>(p))(std::forward<Args>(a)...); },
      [](void* to, void* from) noexcept { ::new (to) F*(*static_cast<F**>(from)); },
      [](void* p) noexcept { delete *static_cast<F**>(p); }, copy_heap<F>()};

  void reset() noexcept {
    if (ops_ != nullptr) ops_->destroy(&storage_);
    ops_ = nullptr;
  }

  alignas(void*) unsigned char storage_[room]{};
  const operations* ops_ = nullptr;
};

/// The same for callables that can be copied; a copy has a callable of its own.
template <class R, class... Args>
class copyable_function<R(Args...)> : public function<R(Args...)> {
  using base = function<R(Args...)>;

 public:
  copyable_function() noexcept = default;

  /// Takes what can be called so, and copied.
  template <class F>
  requires(!std::is_base_of_v<base, std::remove_cvref_t<F>> &&
           std::is_copy_constructible_v<std::remove_cvref_t<F>> &&
           std::is_invocable_r_v<R, F&, Args...>)
      copyable_function(F&& f)  // NOLINT: implicit, see function
      : base{std::forward<F>(f)} {}
  copyable_function(const copyable_function& o) : base{} {
    if (o.ops_ == nullptr) return;
    o.ops_->copy(&this->storage_, &o.storage_);
    this->ops_ = o.ops_;
  }
  copyable_function& operator=(const copyable_function& o) { return *this = copyable_function{o}; }
  copyable_function(copyable_function&&) noexcept = default;
  copyable_function& operator=(copyable_function&&) noexcept = default;
  ~copyable_function() = default;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_FUNCTION_HPP
