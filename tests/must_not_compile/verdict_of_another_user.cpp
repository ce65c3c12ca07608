// error: (no matching|could not convert|cannot convert)
#include <sse/sse.hpp>
#include <sse/testing.hpp>

struct user {};
#ifdef FIXED
using admitted = user;
#else
struct admitted {};
#endif
void accept(sse::hub<sse::testing::memory_transport, user>& hub) {
  (void)hub.accept({0}, sse::request{}, sse::admit(admitted{}, "key"));
}
