// Revoking a user whose streams end already.
#include <cstddef>
#include <vector>

#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

TEST_CASE("revoke counts each stream once, also before it has ended", "[admission]") {
  test::stage s;
  sse::channel c = s.open("c");
  const auto first = s.join(c);
  (void)s.join(c, {.key = "ann"});
  (void)s.join(c, {.key = "ann"});
  std::vector<std::size_t> counts;
  s.hub.on_closed([&](sse::session_id, const sse::no_user&, sse::close_reason why) {
    if (why != sse::close_reason::host) return;
    counts.push_back(s.hub.revoke("ann"));
    counts.push_back(s.hub.revoke("ann"));
  });
  s.hub.close(first.id);
  CHECK((counts == std::vector<std::size_t>{2, 0}));
  CHECK(s.hub.sessions() == 0);
}
