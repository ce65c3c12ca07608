// error: deleted
#include <utility>

#include <sse/sse.hpp>
#include <sse/testing.hpp>

using hub = sse::hub<sse::testing::memory_transport>;
std::size_t sessions(hub& h) {
#ifdef FIXED
  hub& same = h;
#else
  hub same{std::move(h)};
#endif
  return same.sessions();
}
