// error: (no matching|no viable|constraint|cannot convert|could not convert)
#include <sse/sse.hpp>
#include <sse/testing.hpp>

struct user {};
#ifdef FIXED
using admitted = user;
#else
struct admitted {};
#endif
void hook(sse::hub<sse::testing::memory_transport, user>& hub) {
  hub.on_admit([](const sse::request&) { return sse::admit(admitted{}, "key"); });
}
