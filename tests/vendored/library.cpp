// A library that brought its own copy of the single headers: two of them, with different versions,
// are one program. tests/check-headers versions compiles it twice; NAME is its namespace, and sse/
// is the copy.
#include <cstddef>
#include <string>

#include "sse/sse.hpp"
#include "sse/testing.hpp"

namespace NAME {

/// What two readers get of three events: the one that was there, and the one that comes late.
std::string run() {
  sse::testing::memory_transport net;
  sse::hub<sse::testing::memory_transport> hub{net, {.first_id = 0, .position = false}};
  sse::channel c = hub.open_channel("c", {.start = sse::start_at::all});
  hub.on_admit([&](const sse::request&) { return sse::admit().join(c); });
  const auto open = [&] {
    const std::size_t client = net.connect();
    (void)hub.accept({client}, sse::request{});
    return client;
  };
  const std::size_t early = open();
  for (const char* data : {"a", "b", "c"}) (void)hub.publish(c, {.data = data});
  const std::size_t late = open();
  hub.flush();
  std::string got = SSEHUB_VERSION "\n";
  for (const std::size_t client : {early, late}) got += net.at(client).received + "--\n";
  return got;
}

}  // namespace NAME
