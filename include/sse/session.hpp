// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// session_id: the handle of one subscriber's connection. Stale handles are harmless: every hub call
// checks them.
#pragma once
#ifndef SSEHUB_SESSION_HPP
#define SSEHUB_SESSION_HPP

#include <cstdint>

#include <sse/config.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Slot and generation. A slot is used again, a generation is not, so an id kept too long names
/// nobody.
struct session_id {
  std::uint32_t slot = 0;        ///< its place in the hub's table
  std::uint32_t generation = 0;  ///< 0: no session

  [[nodiscard]] constexpr explicit operator bool() const noexcept { return generation != 0; }
  friend constexpr bool operator==(session_id, session_id) noexcept = default;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_SESSION_HPP
