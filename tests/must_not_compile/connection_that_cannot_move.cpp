// error: constraint
#include <sse/sse.hpp>

struct host {
  struct connection {
#ifndef FIXED
    connection(const connection&) = delete;
#endif
  };
#ifdef FIXED
  sse::write_result write(connection&, std::span<const sse::buffer>) noexcept { return {}; }
  void close(connection&, sse::close_reason) noexcept {}
#else
  sse::write_result write(connection&, std::span<const sse::buffer>) noexcept { return {}; }
  void close(connection&, sse::close_reason) noexcept {}
#endif
};
sse::hub<host>* hub;
