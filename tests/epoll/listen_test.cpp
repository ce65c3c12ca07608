// Listening on all addresses of a name: sse/detail/net/epoll_listen.hpp.
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include <sse/detail/net/epoll_listen.hpp>

#include "catch.hpp"

namespace {

/// What a resolver gives for a name that has these addresses.
class resolved {
 public:
  void add(const char* ip, std::uint16_t port = 0) {
    auto e = std::make_unique<entry>();
    e->address.sin_family = AF_INET;
    e->address.sin_port = htons(port);
    REQUIRE(::inet_pton(AF_INET, ip, &e->address.sin_addr) == 1);
    e->info.ai_family = AF_INET;
    e->info.ai_socktype = SOCK_STREAM;
    e->info.ai_addr = reinterpret_cast<sockaddr*>(&e->address);
    e->info.ai_addrlen = sizeof e->address;
    if (!all_.empty()) all_.back()->info.ai_next = &e->info;
    all_.push_back(std::move(e));
  }
  addrinfo* first() { return &all_.front()->info; }

 private:
  struct entry {
    sockaddr_in address{};
    addrinfo info{};
  };
  std::vector<std::unique_ptr<entry>> all_;
};

/// Of a net for documents (RFC 5737): no machine has it.
constexpr const char* not_ours = "192.0.2.1";

struct listened {
  std::error_code error;
  std::vector<sse::detail::unique_fd> sockets;
};
listened listen_on(resolved& r) {
  listened l;
  l.error = sse::detail::listen_on(r.first(), {}, l.sockets);
  return l;
}

}  // namespace

TEST_CASE("epoll: of a name's addresses those are left out that the machine has not") {
  for (const bool first : {true, false}) {
    CAPTURE(first);
    resolved r;
    if (first) r.add(not_ours);
    r.add("127.0.0.1");
    if (!first) r.add(not_ours);
    const listened l = listen_on(r);
    CHECK_FALSE(l.error);
    CHECK(l.sockets.size() == 1);
  }
  resolved none;
  none.add(not_ours);
  CHECK(listen_on(none).error == std::errc::address_not_available);
}

TEST_CASE("epoll: all of a name's addresses get the port that the first one got") {
  resolved r;
  r.add("127.0.0.1");
  r.add("127.0.0.2");
  const listened l = listen_on(r);
  REQUIRE_FALSE(l.error);
  REQUIRE(l.sockets.size() == 2);
  CHECK(sse::detail::port_of(l.sockets[0].get()) == sse::detail::port_of(l.sockets[1].get()));
}

TEST_CASE("epoll: a name one of whose addresses is taken is not listened on at all") {
  resolved r;
  r.add("127.0.0.1");
  const listened other = listen_on(r);
  REQUIRE(other.sockets.size() == 1);
  resolved both;
  both.add("127.0.0.2");
  both.add("127.0.0.1", sse::detail::port_of(other.sockets[0].get()));
  const listened l = listen_on(both);
  CHECK(l.error == std::errc::address_in_use);
  CHECK(l.sockets.empty());
}
