// The core's part of a server under test, the same for every loop that drives it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <sse/mailbox.hpp>
#include <sse/sse.hpp>

#include "common.hpp"

namespace bench {

inline sse::channel_options channel_of(const options& o) {
  // History for the reconnects of a run; nobody is cut for lag that the run means to cause.
  return {.keep = 100'000, .max_lag = o.max_lag};
}

inline sse::hub_options hub_options() {
  sse::hub_options h;
  h.caps.per_address.max = 0;
  h.first_id = first_id;
  h.position = false;  // the peers send no such block: the same bytes for all
  h.max_backlog = 0;
  h.write_deadline = sse::duration::off();  // stalled readers stay
  return h;
}

/// Publishes from a thread of its own as publish_paced says, then "end"; returns how many.
inline std::uint64_t publish_from_lane(const options& o, sse::publisher& lane) {
  payload data{o.size};
  std::uint64_t last = 0;
  publish_paced(o, [&](std::uint64_t n, std::int64_t t) {
    if (lane.try_publish({.type = "tick", .data = data.make(n, t)}) != sse::publish_error::none)
      fail("lane full");
    last = n;
  });
  (void)lane.try_publish({.type = "end", .data = data.make(last + 1, now_ns())});
  return last;
}

}  // namespace bench
