// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/responder.hpp
//
// responder: the answer to a request of a server (sse/server.hpp), which may come later and from
// another thread. stream_responder: the same for a verdict.
//
//   server.stream("/events", [&](const sse::request& r, sse::stream_responder<> to) {
//     directory.look_up(token_of(r), [to = std::move(to), &ticks](bool known) mutable {
//       known ? to(sse::admit().join(ticks)) : to(sse::refuse(401));
//     });
//   });
#ifndef SSEHUB_RESPONDER_HPP
#define SSEHUB_RESPONDER_HPP

#include <atomic>
#include <memory>
#include <utility>

#include "sse.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

namespace detail {

/// What a responder and its server share.
struct late_answer {
  std::atomic<bool> called_off{false};
  function<void()> on_called_off{};  // the server's thread's
};

}  // namespace detail

/// Answers one request, now or later, once. Dropped without an answer, it answers 500. An answer
/// for a client that is gone, or for a server that is, makes no difference.
///
/// May be moved to any thread and used there, also when its server is gone.
template <class Answer>
class basic_responder {
 public:
  basic_responder() noexcept = default;
  /// For servers: `send` gets the answer, or nullptr if there was none, on the thread that
  /// answered.
  explicit basic_responder(function<void(Answer*)> send,
                           std::shared_ptr<detail::late_answer> shared = {}) noexcept
      : send_{std::move(send)}, shared_{std::move(shared)} {}
  basic_responder(basic_responder&&) noexcept = default;
  basic_responder& operator=(basic_responder&& o) noexcept {
    if (this != &o) {
      drop();
      send_ = std::move(o.send_);
      shared_ = std::move(o.shared_);
    }
    return *this;
  }
  ~basic_responder() { drop(); }

  void operator()(Answer a) {
    if (!send_) return;
    const function<void(Answer*)> send = std::move(send_);
    send(&a);
  }
  /// It was not used yet.
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(send_); }

  /// Nobody waits for the answer any more: the client left, the time for it is over
  /// (server_options::verdict_deadline), the server drains or is stopped. From any thread.
  [[nodiscard]] bool called_off() const noexcept {
    return shared_ != nullptr && shared_->called_off.load(std::memory_order_acquire);
  }
  /// `f` runs when that happens, on the server's thread: what was begun for the answer can be
  /// ended. It may call anything of the server and its hub. To be set in the handler, on that
  /// thread.
  void on_called_off(function<void()> f) noexcept {
    if (shared_ != nullptr) shared_->on_called_off = std::move(f);
  }

 private:
  void drop() noexcept {
    if (!send_) return;
    const function<void(Answer*)> send = std::move(send_);
    try {
      send(nullptr);
    } catch (...) {  // memory is out: the connection's own end will come
    }
  }

  function<void(Answer*)> send_;
  std::shared_ptr<detail::late_answer> shared_;
};

/// Of a plain request.
using responder = basic_responder<response>;
/// Of a stream.
template <class User = no_user>
using stream_responder = basic_responder<verdict<User>>;

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_RESPONDER_HPP
