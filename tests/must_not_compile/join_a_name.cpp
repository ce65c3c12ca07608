// error: (cannot bind|no matching|no viable|invalid initialization|cannot convert|could not
// convert)
#include <sse/sse.hpp>

#ifdef FIXED
void join(sse::channel& c)
#else
void join(const char* c)
#endif
{
  (void)sse::admit("user").join(c);
}
