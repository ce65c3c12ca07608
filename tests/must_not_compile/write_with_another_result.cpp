// error: constraint
#include <sse/sse.hpp>

struct host {
  struct connection {};
#ifdef FIXED
  sse::write_result write(connection&, std::span<const sse::buffer>) noexcept { return {}; }
  void close(connection&, sse::close_reason) noexcept {}
#else
  std::size_t write(connection&, std::span<const sse::buffer>) noexcept { return 0; }
  void close(connection&, sse::close_reason) noexcept {}
#endif
};
sse::hub<host>* hub;
