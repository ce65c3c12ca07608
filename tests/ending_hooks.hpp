// A hook of the hub that ends streams, its own too, while the hub or its server is in the middle of
// something: what must hold for any host.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "http_client.hpp"

namespace test {

enum class hook { opened, present, absent, closed };
enum class ending { revoke_her, revoke_him, close_all, stop };

/// Alice comes, or goes, while Bob is there; `h` runs for her, and does `e` in it, once. `Server`:
/// test::server<> or a test::loop_server.
template <class Server>
void a_hook_ends_streams(hook h, ending e) {
  Server s;
  sse::channel ticks = s.open("ticks");
  bool armed = false;
  int acted = 0;
  std::size_t closed = 0;
  const auto act = [&](hook now) {
    if (now == hook::closed) ++closed;
    if (now != h || !armed) return;
    armed = false;
    ++acted;
    switch (e) {
      case ending::revoke_her: s->hub().revoke("alice"); break;
      case ending::revoke_him: s->hub().revoke("bob"); break;
      case ending::close_all: s->hub().close_all(); break;
      case ending::stop: s->stop(); break;
    }
  };
  s.on_loop([&] {
    s->stream("/events", [&](const sse::request& r) -> sse::verdict<> {
      return sse::admit(std::string{r.query}).join(ticks);
    });
    s->hub().on_opened([&](sse::session_id, const sse::no_user&) { act(hook::opened); });
    s->hub().on_closed(
        [&](sse::session_id, const sse::no_user&, sse::close_reason) { act(hook::closed); });
    s->hub().on_presence([&](sse::channel, std::string_view, bool present) {
      act(present ? hook::present : hook::absent);
    });
  });
  const auto arm = [&] { s.on_loop([&] { armed = true; }); };
  const bool as_she_comes = h == hook::opened || h == hook::present;

  client plain{s.port()};  // waits for its next request
  CHECK(plain.get("/none").status == 404);
  client bob{s.port()};
  REQUIRE(bob.open("/events?bob").status == 200);
  client alice{s.port()};
  if (as_she_comes) arm();
  alice.send(client::make("GET", "/events?alice"));
  if (!as_she_comes) {
    REQUIRE(alice.head().status == 200);
    arm();
    alice.close();
  }
  CHECK(s.eventually([&] { return acted == 1; }));

  const bool everybody = e == ending::close_all || e == ending::stop;
  const bool she_stays = as_she_comes && !everybody && e != ending::revoke_her;
  const bool he_stays = !everybody && e != ending::revoke_him;
  const std::size_t left = (she_stays ? 1U : 0U) + (he_stays ? 1U : 0U);
  CHECK(s.eventually([&] { return s->hub().sessions() == left; }));
  if (e != ending::stop) {
    s.publish(ticks, "next");
    client carol{s.port()};  // served as ever
    REQUIRE(carol.open("/events?carol").status == 200);
    s.publish(ticks, "last");
    CHECK(carol.data() == "last");
    if (she_stays) {
      CHECK(alice.head().status == 200);
      CHECK(alice.data() == "next");
      CHECK(alice.data() == "last");
    }
    if (he_stays) {
      CHECK(bob.data() == "next");
      CHECK(bob.data() == "last");
    }
  }
  if (as_she_comes && !she_stays) (void)alice.rest();  // she is not left hanging
  if (!he_stays) CHECK(bob.rest().find("data") == std::string::npos);
  if (e == ending::stop) CHECK(plain.rest().empty());
  if (e != ending::stop) CHECK(plain.get("/none").status == 404);
  plain.close();
  alice.close();
  bob.close();
  CHECK(s.eventually([&] { return s->connections() == 0; }));
  // Each stream that opened ended, once.
  CHECK(s.on_loop([&] { return closed; }) == (e == ending::stop ? 2U : 3U));
  CHECK(s.on_loop([&] { return acted; }) == 1);
}

template <class Server>
void every_hook_ends_streams(ending e) {
  constexpr std::string_view names[] = {"opened", "present", "absent", "closed"};
  for (const hook h : {hook::opened, hook::present, hook::absent, hook::closed}) {
    DYNAMIC_SECTION(names[static_cast<std::size_t>(h)]) { a_hook_ends_streams<Server>(h, e); }
  }
}

}  // namespace test
