// A library whose copy is sse_epoll_server.hpp, alone; see library.cpp.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "sse/sse_epoll_server.hpp"

namespace NAME {

/// What a reader of one event gets, over a socket.
std::string run() {
  sse::epoll_server<> server;
  sse::channel c = server.open_channel("c", {.start = sse::start_at::all});
  server.stream("/events", c);
  if (server.listen("127.0.0.1", 0)) return "no port\n";
  (void)server.publish(c, {.data = "x"});
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(server.port());
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) return "no server\n";
  constexpr std::string_view ask = "GET /events HTTP/1.1\r\nHost: x\r\n\r\n";
  (void)!::send(fd, ask.data(), ask.size(), 0);
  std::string got;
  while (got.find("data: x\n\n") == got.npos) {
    server.poll();
    char bytes[1024];
    const ssize_t n = ::recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n == 0) return "cut\n";
    if (n > 0) got.append(bytes, static_cast<std::size_t>(n));
  }
  ::close(fd);
  return SSEHUB_VERSION " " + got.substr(0, got.find('\r')) + "\n";
}

}  // namespace NAME
