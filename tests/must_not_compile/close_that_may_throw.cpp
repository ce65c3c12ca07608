// error: constraint
#include <sse/sse.hpp>

struct host {
  struct connection {};
#ifdef FIXED
  sse::write_result write(connection&, std::span<const sse::buffer>) noexcept { return {}; }
  void close(connection&, sse::close_reason) noexcept {}
#else
  sse::write_result write(connection&, std::span<const sse::buffer>) noexcept { return {}; }
  void close(connection&, sse::close_reason) {}
#endif
};
sse::hub<host>* hub;
