// error: (cannot bind|no matching|no viable|invalid init|cannot convert|could not)
#include <sse/sse.hpp>

// open_channel gives a pointer, which is nullptr when the name is taken: look first.
void join(sse::channel* c) {
#ifdef FIXED
  if (c != nullptr) (void)sse::admit("user").join(*c);
#else
  (void)sse::admit("user").join(c);
#endif
}
