// What the scenarios share: a transport in memory that takes all and keeps nothing, one event.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

#include <sse/transport.hpp>

struct counting_transport {
  struct connection {};
  std::uint64_t writes = 0;
  std::uint64_t bytes = 0;

  sse::write_result write(connection&, std::span<const sse::buffer> pieces) noexcept {
    std::size_t n = 0;
    for (const sse::buffer& p : pieces) n += p.size;
    ++writes;
    bytes += n;
    return {n, sse::flow::ready};
  }
  void close(connection&, sse::close_reason) noexcept {}
};

// With the id and the other fields a frame of 180 bytes.
inline constexpr std::string_view data =
    R"({"symbol":"BTCUSDT","price":61234.56,"qty":0.0125,"side":"BUY","venue":"sim","seq":1234567,"ts_ns":1795257600123456789,"x":"abcdefgh"})";

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "guard: %s\n", what);
  std::exit(1);
}

extern std::uint64_t allocated;  // bytes of operator new that are not given back

/// The scenarios of world.cpp. False: it is none of them.
bool size_of_the_world(std::string_view scenario, std::uint64_t times, std::uint64_t n);
