// An event is encoded once, within its limits, and forges no field.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::publish_error;
using test::completion_stage;
using test::frame;
using test::quiet;
using test::stage;

}  // namespace

// --- encoding ---

TEST_CASE("X-13 an event is encoded once: 1000 subscribers are given the same bytes", "[flow]") {
  completion_stage s;
  sse::channel c = s.open("c", quiet());
  std::vector<test::caller> all;
  for (int i = 0; i < 1000; ++i) all.push_back(s.join(c));
  const std::uint64_t held = s.hub.stats().log_bytes;
  s.put(c, "once");
  s.put(c, "and for all");
  s.flush();
  const sse::buffer first = s.peer(all[0]).in_flight.at(0);
  CHECK(first.view() == frame(1, "e", "once") + frame(2, "e", "and for all"));
  std::size_t same = 0;
  for (const auto& k : all) {
    const auto& b = s.peer(k).in_flight;
    same += b.size() == 1 && b[0].data == first.data && b[0].size == first.size;
  }
  CHECK(same == 1000);
  CHECK(s.hub.stats().log_bytes == held);
}

TEST_CASE("X-07 field text that could forge a field is refused, publishes nothing and uses no id",
          "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c);
  for (const std::string_view bad :
       {std::string_view("a\nb"), std::string_view("a\rb"), std::string_view("a\0b", 3),
        std::string_view("\n"), std::string_view("a\r\n\r\ndata: forged")}) {
    CHECK(c.publish({.type = bad, .data = "x"}).error == publish_error::bad_type);
    CHECK(c.publish({.type = bad, .data = "x"}, {.transient = true}).error ==
          publish_error::bad_type);
    CHECK(s.hub.send(k.id, {.type = bad, .data = "x"}) == publish_error::bad_type);
    CHECK(c.publish({.data = "x", .id = bad}).error == publish_error::bad_id);
  }
  CHECK(c.publish({.data = "x", .id = "5"}).error ==
        publish_error::bad_id);  // ids come from the sequence
  CHECK(c.publish({.data = "x"}, {.id = 5}).error == publish_error::bad_id);
  CHECK(c.publish({.data = "x"}, {.id = 5, .transient = true}).error == publish_error::bad_id);
  CHECK(c.publish({.data = "x", .retry = -2}).error == publish_error::bad_retry);
  s.flush();
  CHECK(s.peer(k).writes == 0);
  CHECK(c.stats().published == 0);
  // Data and comments are split instead: no line of them can begin a field.
  CHECK(c.publish({.data = "x\nid: 99\r\nevent: forged\revent: forged"}).id == 1);
  s.flush();
  CHECK(s.take(k) == "id: 1\ndata: x\ndata: id: 99\ndata: event: forged\ndata: event: forged\n\n");
}

TEST_CASE("an event may be 1 MiB encoded and its type 128 bytes, and not one more", "[flow]") {
  stage s;
  sse::channel c = s.open("c", quiet());
  const auto k = s.join(c);
  const std::size_t frame_bytes = frame(1, "", "").size();
  const std::string data((1 << 20) - frame_bytes, 'x');
  CHECK(c.publish({.data = data + "x"}).error == publish_error::too_large);
  CHECK(c.publish({.data = data}));
  CHECK(c.publish({.data = std::string_view(data).substr(1)}));
  const std::string type(128, 't');
  CHECK(c.publish({.type = std::string_view(type).substr(1), .data = "x"}));
  CHECK(c.publish({.type = type, .data = "x"}));
  CHECK(c.publish({.type = type + "t", .data = "x"}).error == publish_error::too_large);
  s.flush();
  CHECK(test::consecutive(test::ids_in(s.take(k)), 1, 4));
  sse::channel_options o = quiet();
  o.limits.event = 20;
  sse::channel small = s.open("small", std::move(o));
  CHECK(small.publish({.data = "123456"}));  // "id: 5\ndata: 123456\n\n"
  CHECK(small.publish({.data = "1234567"}).error == publish_error::too_large);
  CHECK(small.publish({.data = "12345"}));
}

TEST_CASE("an event that is encoded already goes out as it is", "[publish]") {
  test::stage s;
  sse::channel c = s.open("c", {.limits = {.event = 40}});
  const auto k = s.join(c);
  const auto publish = [&](const sse::event& e, sse::publish_options o) {
    o.encoded = true;
    return c.publish(e, o);
  };
  CHECK(publish({.data = "id: 1\nevent: t\ndata: x\n\n"}, {}).id == 1);
  CHECK(publish({.data = "data: transient\n\n"}, {.transient = true}).id == sse::no_id);
  CHECK(publish({.data = "data: hidden\n\n"}, {.audience = "ada"}).id == 2);
  CHECK(publish({.data = std::string(38, 'x') + "\n\n"}, {}).id == 3);
  s.flush();
  CHECK(s.take(k) ==
        "id: 1\nevent: t\ndata: x\n\ndata: transient\n\n" + std::string(38, 'x') + "\n\n");
  CHECK(publish({.data = std::string(39, 'x') + "\n\n"}, {}).error ==
        sse::publish_error::too_large);
  for (const sse::event& bad : {sse::event{}, sse::event{.data = "data: x\n"},
                                sse::event{.type = "t", .data = "data: x\n\n"},
                                sse::event{.data = "data: x\n\n", .retry = 1}}) {
    CHECK(publish(bad, {}).error == sse::publish_error::bad_type);
  }
  CHECK(c.last_id() == 3);
}
