// error: (no non-static data member|does not refer to any field|max_lagg)
#include <sse/sse.hpp>

#ifdef FIXED
sse::channel_options options{.max_lag = 1};
#else
sse::channel_options options{.max_lagg = 1};
#endif
