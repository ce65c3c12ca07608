// error: moving them must not throw
#include <sse/sse.hpp>
#include <sse/testing.hpp>

#ifdef FIXED
constexpr bool safe = true;
#else
constexpr bool safe = false;
#endif
struct user {
  user() = default;
  user(user&&) noexcept(safe) {}
  user& operator=(user&&) noexcept(safe) { return *this; }
};
sse::testing::memory_transport net;
sse::hub<sse::testing::memory_transport, user> hub{net};
