// A transport that takes all at once and keeps nothing: what is left is the core's own cost.
#pragma once

#include <cstddef>
#include <span>

#include <sse/transport.hpp>

namespace bench {

struct null_transport {
  struct connection {};
  sse::write_result write(connection&, std::span<const sse::buffer> bytes) noexcept {
    std::size_t n = 0;
    for (const sse::buffer& b : bytes) n += b.size;
    taken += n;
    return {n, sse::flow::ready};
  }
  void close(connection&, sse::close_reason) noexcept {}
  std::size_t taken = 0;
};

}  // namespace bench
