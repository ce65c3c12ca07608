// The core without exceptions and without run-time type information. A plain program: Catch2 needs
// exceptions.
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <span>
#include <string_view>

#include <sse/sse.hpp>

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "compile this program with -fno-exceptions -fno-rtti"
#endif

namespace {

struct transport {
  struct connection {};

  sse::write_result write(connection&, std::span<const sse::buffer> bytes) noexcept {
    std::size_t taken = 0;
    for (const sse::buffer& b : bytes) {
      if (b.size > sizeof sent - used) return {taken, sse::flow::blocked};
      std::memcpy(sent + used, b.data, b.size);
      used += b.size;
      taken += b.size;
    }
    return {taken, sse::flow::ready};
  }
  void close(connection&, sse::close_reason) noexcept { ++closed; }

  char sent[1024] = {};
  std::size_t used = 0;
  int closed = 0;
};

struct sink {
  void on_event(const sse::event& e) { matches += e.type == "tick" && e.data == "1\n2"; }
  int matches = 0;
};

int failures = 0;

void check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "tests/noexcept_main.cpp: failed: %s\n", what);
  ++failures;
}

}  // namespace

int main() {
  transport net;
  {
    sse::hub<transport> hub{net};
    sse::channel ticks = hub.open_channel("ticks");
    check(static_cast<bool>(ticks), "a channel opens");
    hub.on_admit([&](const sse::request&) { return sse::admit().join(ticks); });
    check(static_cast<bool>(hub.accept({}, {.path = "/ticks"})), "a session opens");
    check(static_cast<bool>(hub.publish(ticks, {.type = "tick", .data = "1\r\n2"})),
          "an event is published");
    check(!hub.publish(ticks, {.type = "to\nk"}), "a type with a line end is refused");
    hub.flush();
    sink events;
    sse::parser parser;
    check(static_cast<bool>(parser.feed({net.sent, net.used}, events)), "what was sent parses");
    check(events.matches == 1, "the event arrives once, as it was sent");
  }
  check(net.closed == 1, "the connection is closed with the hub");
  return failures == 0 ? 0 : 1;
}
