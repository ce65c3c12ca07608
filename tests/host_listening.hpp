// Listening on all addresses of a name: what must hold for any host.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <system_error>

#include <sse/server.hpp>

#include "catch.hpp"
#include "known_names.hpp"

namespace test {

[[nodiscard]] inline bool accepts(const char* ip, std::uint16_t port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  REQUIRE(::inet_pton(AF_INET, ip, &to.sin_addr) == 1);
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  const bool yes = ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  ::close(fd);
  return yes;
}

/// `Loop`: see held_server.hpp.
template <class Loop>
void listening_on_a_name() {
  {
    INFO("all of them, on one port");
    const known_name to{"resolves.test", {"127.0.0.1", "127.0.0.2"}};
    Loop l{sse::server_options{}};
    REQUIRE_FALSE(l.server.listen("resolves.test", 0));
    CHECK(accepts("127.0.0.1", l.server.port()));
    CHECK(accepts("127.0.0.2", l.server.port()));
  }
  // A net for documents (RFC 5737): no machine has its addresses.
  for (const bool first : {true, false}) {
    INFO("without what the machine has not");
    CAPTURE(first);
    const known_name to{"resolves.test",
                        {first ? "203.0.113.7" : "127.0.0.1", first ? "127.0.0.1" : "203.0.113.7"}};
    Loop l{sse::server_options{}};
    CHECK_FALSE(l.server.listen("resolves.test", 0));
    CHECK(accepts("127.0.0.1", l.server.port()));
  }
  {
    INFO("none is there");
    const known_name to{"resolves.test", {"203.0.113.7", "203.0.113.8"}};
    Loop l{sse::server_options{}};
    CHECK(l.server.listen("resolves.test", 0) == std::errc::address_not_available);
    CHECK(l.server.port() == 0);
  }
  {
    INFO("one is taken: then on none");
    Loop other{sse::server_options{}};
    REQUIRE_FALSE(other.server.listen("127.0.0.1", 0));
    const known_name to{"resolves.test", {"127.0.0.2", "127.0.0.1"}};
    Loop l{sse::server_options{}};
    CHECK(l.server.listen("resolves.test", other.server.port()) == std::errc::address_in_use);
    CHECK(l.server.port() == 0);
    CHECK_FALSE(accepts("127.0.0.2", other.server.port()));
  }
}

}  // namespace test
