// error: (nodiscard|unused-result|ignoring return value)
#include <sse/sse.hpp>

void publish(sse::channel c) {
#ifdef FIXED
  if (!c.publish({.data = "x"})) return;
#else
  c.publish({.data = "x"});
#endif
}
