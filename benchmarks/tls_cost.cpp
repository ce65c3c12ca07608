// What TLS costs beside OpenSSL itself: the CPU time of a hub that sends events to many sessions
// through the transport of each host, against bare SSL_write of the same bytes to the same number
// of connections. One thread, socket pairs, the far ends are emptied unread and not counted.
// Medians of alternating rounds, as a JSON object.
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
#include <system_error>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <sse/asio_openssl.hpp>
#include <sse/asio_transport.hpp>
#include <sse/epoll_transport.hpp>
#include <sse/hub.hpp>
#include <sse/io_uring_transport.hpp>
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

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

// --- the hosts' transports: open(fd, far) makes a stream, deliver() sends all that there is

constexpr sse::hub_options bytes_of_events_only() {
  sse::hub_options o;
  o.position = false;
  return o;
}

struct on_epoll {
  explicit on_epoll(const sse::tls::context* c) : net{epoll, c} {}
  ~on_epoll() { ::close(epoll); }
  void open(int fd, far_end& far, sse::channel channel) {
    auto c = net.adopt(fd);
    far.shake_hands([&] { (void)c.layer().handshake(); });
    (void)hub.accept(std::move(c), {}, sse::admit().join(channel));
  }
  void deliver() {
    while (hub.flush()) {
    }
  }
  int epoll = ::epoll_create1(0);
  sse::tls::epoll_transport net;
  sse::hub<sse::tls::epoll_transport> hub{net, bytes_of_events_only()};
};

struct on_io_uring {
  explicit on_io_uring(const sse::tls::context* c) : net{epoll, c} {}
  ~on_io_uring() {
    hub.close_all();
    net.settle(hub);
    ::close(epoll);
  }
  void open(int fd, far_end& far, sse::channel channel) {
    auto c = net.adopt(fd);
    far.shake_hands([&] { (void)c.layer().handshake(); });
    (void)hub.accept(std::move(c), {}, sse::admit().join(channel));
    deliver();
  }
  void deliver() {
    do {
      while (hub.flush()) {
      }
    } while (net.reap(hub) || net.in_flight() != 0);
  }
  int epoll = ::epoll_create1(0);
  sse::tls::uring_transport net;
  sse::hub<sse::tls::uring_transport> hub{net, bytes_of_events_only()};
};

struct on_asio {
  explicit on_asio(const sse::tls::context* c) : tls{c} {
    net.attach(hub, [] {});
  }
  void open(int fd, far_end& far, sse::channel channel) {
    auto c = net.adopt(sse::tls::asio_stream{{io, asio::ip::tcp::v4(), fd}, tls});
    c.stream().async_handshake(sse::tls::asio_stream::server, [](std::error_code) {});
    far.shake_hands([&] {
      io.restart();
      io.poll();
    });
    (void)hub.accept(std::move(c), {}, sse::admit().join(channel));
  }
  void deliver() {
    while (hub.flush()) {
    }
  }
  using transport = sse::asio_transport<sse::tls::asio_stream>;
  const sse::tls::context* tls;
  asio::io_context io{1};
  transport net;
  sse::hub<transport> hub{net, bytes_of_events_only()};
};

struct workload {
  std::size_t sessions = 200;
  std::size_t bytes = 180;
  long burst = 1;  // events a flush
};

/// Prints its name and what it took, as a member of an object. `before_it`: "", or a comma.
template <class Host>
void measure(const char* before_it, const char* name, const sse::tls::context& tls,
             const workload& w) {
  const std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> client{SSL_CTX_new(TLS_client_method()),
                                                            &SSL_CTX_free};
  std::vector<far_end> far;
  std::vector<ssl_ptr> bare;
  Host host{&tls};
  sse::channel channel = host.hub.open_channel("c", {.max_lag = 0});
  for (std::size_t i = 0; i < w.sessions; ++i) {
    int near = -1;
    far.emplace_back(client.get(), pair_with(near));
    host.open(near, far.back(), channel);

    far.emplace_back(client.get(), pair_with(near));
    bare.emplace_back(tls.make_ssl(), &SSL_free);
    SSL_set_fd(bare.back().get(), near);
    SSL_set_accept_state(bare.back().get());
    far.back().shake_hands([&] { (void)SSL_do_handshake(bare.back().get()); });
  }

  const std::string data(w.bytes, 'x');
  std::vector<double> ours;
  std::vector<double> theirs;
  std::vector<double> ratios;
  std::uint64_t before = host.hub.stats().bytes;
  for (int round = 0; round < 201; ++round) {
    std::int64_t begin = cpu_ns();
    for (long k = 0; k < w.burst; ++k) (void)channel.publish({.data = data});
    host.deliver();
    const auto each_ns = [&] {
      return static_cast<double>(cpu_ns() - begin) / static_cast<double>(w.sessions);
    };
    ours.push_back(each_ns());
    const auto each = static_cast<std::size_t>((host.hub.stats().bytes - before) / w.sessions);
    before = host.hub.stats().bytes;
    const std::string same(each, 'x');
    begin = cpu_ns();
    for (const ssl_ptr& s : bare) {
      for (std::size_t at = 0; at < each; at += 16384) {
        std::size_t n = 0;
        if (SSL_write_ex(s.get(), same.data() + at, std::min<std::size_t>(each - at, 16384), &n) !=
            1)
          std::exit(1);
      }
    }
    theirs.push_back(each_ns());
    ratios.push_back(ours.back() / theirs.back());
    for (const far_end& f : far) f.empty();
  }
  std::printf("%s\"%s\":{\"ns\":%.0f,\"ssl_write_ns\":%.0f,\"ratio\":%.3f}", before_it, name,
              median(ours), median(theirs), median(ratios));
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
  workload w;
  w.sessions = static_cast<std::size_t>(argument(3, 200));
  w.bytes = static_cast<std::size_t>(argument(4, 180));
  w.burst = argument(5, 1);

  sse::tls::context tls{{.certificate = argv[1], .key = argv[2]}};
  if (const auto e = tls.load()) {
    std::fprintf(stderr, "%s\n", e.message.c_str());
    return 1;
  }
  std::printf("{");
  measure<on_epoll>("", "epoll", tls, w);
  try {
    measure<on_io_uring>(",", "io_uring", tls, w);
  } catch (const std::system_error& e) {  // a kernel without it, or that forbids it
    std::fprintf(stderr, "%s\n", e.what());
  }
  measure<on_asio>(",", "asio", tls, w);
  std::printf("}\n");
}
