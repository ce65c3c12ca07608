// error: (no viable|could not convert|cannot convert|conversion)
#include <sse/sse.hpp>

#ifdef FIXED
sse::hub_options options{.write_deadline = sse::duration::seconds(10)};
#else
sse::hub_options options{.write_deadline = 10};
#endif
