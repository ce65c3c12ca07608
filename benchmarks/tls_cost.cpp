// What TLS costs beside OpenSSL itself: the CPU time of a hub that sends events to many sessions
// through tls::epoll_transport, against bare SSL_write of the same bytes to the same number of
// connections. One thread, socket pairs, the far ends are emptied unread and not counted. Medians
// of alternating rounds.
//
//   tls_cost CERTIFICATE KEY [SESSIONS] [BYTES] [EVENTS A FLUSH]
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <sse/epoll_transport.hpp>
#include <sse/hub.hpp>
#include <sse/openssl.hpp>

namespace {

using ssl_ptr = std::unique_ptr<SSL, void (*)(SSL*)>;

std::int64_t cpu_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

/// The far end of a connection: it shakes hands, and then throws away what comes.
class far_end {
 public:
  far_end(SSL_CTX* c, int fd) : fd_{fd}, ssl_{SSL_new(c), &SSL_free} {
    SSL_set_fd(ssl_.get(), fd);
    SSL_set_connect_state(ssl_.get());
  }
  template <class Handshake>
  void shake_hands(Handshake near) {
    for (int i = 0; i < 10; ++i) {
      (void)SSL_do_handshake(ssl_.get());
      near();
    }
    if (SSL_is_init_finished(ssl_.get()) == 0) std::exit(1);
    ERR_clear_error();
  }
  void empty() const {
    char sink[65536];
    while (::recv(fd_, sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
  }

 private:
  int fd_;
  ssl_ptr ssl_;
};

int pair_with(int& near) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) std::exit(1);
  const int room = 1 << 20;
  ::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  near = ends[0];
  return ends[1];
}

std::int64_t median(std::vector<std::int64_t> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: tls_cost CERTIFICATE KEY [SESSIONS] [BYTES] [EVENTS A FLUSH]\n");
    return 2;
  }
  const auto argument = [&](int i, long otherwise) {
    return argc > i ? std::strtol(argv[i], nullptr, 10) : otherwise;
  };
  const auto sessions = static_cast<std::size_t>(argument(3, 200));
  const auto bytes = static_cast<std::size_t>(argument(4, 180));
  const long burst = argument(5, 1);

  sse::tls::context tls{{.certificate = argv[1], .key = argv[2]}};
  if (const auto e = tls.load()) {
    std::fprintf(stderr, "%s\n", e.message.c_str());
    return 1;
  }
  SSL_CTX* const client = SSL_CTX_new(TLS_client_method());
  const int epoll = ::epoll_create1(0);
  sse::tls::epoll_transport net{epoll, &tls};
  sse::hub<sse::tls::epoll_transport> hub{net, {.position = false}};
  sse::channel channel = hub.open_channel("c", {.max_lag = 0});
  std::vector<far_end> far;
  std::vector<ssl_ptr> bare;
  for (std::size_t i = 0; i < sessions; ++i) {
    int near = -1;
    far.emplace_back(client, pair_with(near));
    auto c = net.adopt(near);
    far.back().shake_hands([&] { (void)c.layer().handshake(); });
    (void)hub.accept(std::move(c), {}, sse::admit().join(channel));

    far.emplace_back(client, pair_with(near));
    bare.emplace_back(tls.make_ssl(), &SSL_free);
    SSL_set_fd(bare.back().get(), near);
    SSL_set_accept_state(bare.back().get());
    far.back().shake_hands([&] { (void)SSL_do_handshake(bare.back().get()); });
  }

  const std::string data(bytes, 'x');
  std::vector<std::int64_t> ours;
  std::vector<std::int64_t> theirs;
  std::uint64_t before = hub.stats().bytes;
  for (int round = 0; round < 201; ++round) {
    std::int64_t begin = cpu_ns();
    for (long k = 0; k < burst; ++k) (void)channel.publish({.data = data});
    while (hub.flush()) {
    }
    ours.push_back(cpu_ns() - begin);
    const auto each = static_cast<std::size_t>((hub.stats().bytes - before) / sessions);
    before = hub.stats().bytes;
    const std::string same(each, 'x');
    begin = cpu_ns();
    for (const ssl_ptr& s : bare) {
      for (std::size_t at = 0; at < each; at += 16384) {
        std::size_t n = 0;
        if (SSL_write_ex(s.get(), same.data() + at, std::min<std::size_t>(each - at, 16384), &n) !=
            1)
          return 1;
      }
    }
    theirs.push_back(cpu_ns() - begin);
    for (const far_end& f : far) f.empty();
  }
  const auto a = static_cast<double>(median(ours)) / static_cast<double>(sessions);
  const auto b = static_cast<double>(median(theirs)) / static_cast<double>(sessions);
  std::printf(
      "%zu sessions, %ld events of %zu bytes a flush: hub %.0f ns, SSL_write %.0f ns a session: "
      "%.2f\n",
      sessions, burst, bytes, a, b, a / b);
}
