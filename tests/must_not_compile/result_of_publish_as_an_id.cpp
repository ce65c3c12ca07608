// error: (cannot convert|no viable conversion|could not convert)
#include <sse/sse.hpp>

sse::event_id publish(sse::channel c) {
#ifdef FIXED
  return c.publish({.data = "x"}).id;
#else
  return c.publish({.data = "x"});
#endif
}
