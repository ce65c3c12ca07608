// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// size: counters have 64 bits everywhere, sizes in memory as many as a pointer. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_SIZE_HPP
#define SSEHUB_DETAIL_BASE_SIZE_HPP

#include <cstddef>
#include <cstdint>

#include <sse/detail/base/assert.hpp>
#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// REQUIRES: so many bytes can be in memory.
[[nodiscard]] constexpr std::size_t to_size(std::uint64_t n) noexcept {
  SSEHUB_ASSERT(n <= SIZE_MAX);
  return n & SIZE_MAX;  // a cast would be one too many with 64 bits
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_BASE_SIZE_HPP
