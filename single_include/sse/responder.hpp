// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#ifndef SSEHUB_SINGLE_RESPONDER_HPP
#define SSEHUB_SINGLE_RESPONDER_HPP

// ---- sse/responder.hpp
//
// responder: the answer to a request of a server (sse/server.hpp), which may come later and from
// another thread.

#include <utility>

#include "sse.hpp"

namespace sse::inline v0 {

/// Answers one request, now or later, once. Dropped without an answer, it answers 500. A client
/// that is gone meanwhile makes no difference.
///
/// May be moved to any thread and used there; it must not outlive the execution context.
class responder {
 public:
  responder() noexcept = default;
  /// For the server: `send` gets the answer, or nullptr if there was none.
  explicit responder(function<void(response*)> send) noexcept : send_{std::move(send)} {}
  responder(responder&&) noexcept = default;
  responder& operator=(responder&& o) noexcept {
    if (this != &o) {
      drop();
      send_ = std::move(o.send_);
    }
    return *this;
  }
  ~responder() { drop(); }

  void operator()(response r) {
    if (!send_) return;
    const function<void(response*)> send = std::move(send_);
    send(&r);
  }
  /// It was not used yet.
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(send_); }

 private:
  void drop() noexcept {
    if (!send_) return;
    const function<void(response*)> send = std::move(send_);
    try {
      send(nullptr);
    } catch (...) {  // memory is out: the connection's own end will come
    }
  }

  function<void(response*)> send_;
};

}  // namespace sse::inline v0
#endif  // SSEHUB_SINGLE_RESPONDER_HPP
