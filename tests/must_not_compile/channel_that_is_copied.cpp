// error: deleted
#include <sse/sse.hpp>

std::string_view name_of(sse::channel& c) {
#ifdef FIXED
  sse::channel& same = c;
#else
  sse::channel same = c;
#endif
  return same.name();
}
