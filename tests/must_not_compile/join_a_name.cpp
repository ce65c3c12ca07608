// error: (cannot bind|no matching|no viable|invalid init|cannot convert|could not)
#include <sse/sse.hpp>

#ifdef FIXED
void join(sse::channel c)
#else
void join(const char* c)
#endif
{
  (void)sse::admit("user").join(c);
}
