// Sends small events over TLS: through a hub on the loop of a host, or by SSL_write alone. tls.py
// counts the instructions, and holds the one against the other.
//
//   guard_tls bare|epoll|asio
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <sse/asio_openssl.hpp>
#include <sse/asio_transport.hpp>
#include <sse/encode.hpp>
#include <sse/epoll_transport.hpp>
#include <sse/hub.hpp>
#include <sse/openssl.hpp>

#include "../openssl/certificate.hpp"
#include "counting.hpp"

void counting::fail(const char* what) {
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::exit(1);
}

namespace {

constexpr int sessions = 100;
constexpr int rounds = 20;

using ssl_ptr = std::unique_ptr<SSL, void (*)(SSL*)>;

/// A connection whose far end shakes hands, and then throws away what comes.
struct wire {
  explicit wire(SSL_CTX* c) : far{SSL_new(c), &SSL_free} {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0)
      counting::fail("socketpair");
    near_fd = ends[0];
    far_fd = ends[1];
    SSL_set_fd(far.get(), far_fd);
    SSL_set_connect_state(far.get());
  }
  template <class Handshake>
  void shake_hands(Handshake near) {
    for (int i = 0; i < 10; ++i) {
      (void)SSL_do_handshake(far.get());
      near();
    }
    if (SSL_is_init_finished(far.get()) == 0) counting::fail("the handshake");
    ERR_clear_error();
  }
  [[nodiscard]] long empty() const {
    char sink[4096];
    long all = 0;
    for (long n = 0; (n = ::recv(far_fd, sink, sizeof sink, MSG_DONTWAIT)) > 0;) all += n;
    return all;
  }
  int near_fd = -1;
  int far_fd = -1;
  ssl_ptr far;
};

sse::hub_options events_only() {
  sse::hub_options o;
  o.position = false;
  o.first_id = 100;  // all ids are as long
  return o;
}

struct on_epoll {
  explicit on_epoll(const sse::tls::context* c) : net{epoll, c} {}
  ~on_epoll() { ::close(epoll); }
  void open(wire& w, sse::channel channel) {
    auto c = net.adopt(w.near_fd);
    w.shake_hands([&] { (void)c.layer().handshake(); });
    (void)hub.accept(std::move(c), {}, sse::admit().join(channel));
  }
  void turn() {
    while (hub.flush()) {
    }
  }
  int epoll = ::epoll_create1(0);
  sse::tls::epoll_transport net;
  sse::hub<sse::tls::epoll_transport> hub{net, events_only()};
};

struct on_asio {
  using transport = sse::asio_transport<sse::tls::asio_stream>;
  explicit on_asio(const sse::tls::context* c) : tls{c} {
    net.attach(hub, [this] {
      if (!posted)
        sse::detail::net::post(io, [this] {
          posted = false;
          while (hub.flush()) {
          }
        });
      posted = true;
    });
  }
  void open(wire& w, sse::channel channel) {
    auto c =
        net.adopt(sse::tls::asio_stream{{io, sse::detail::net::ip::tcp::v4(), w.near_fd}, tls});
    c.stream().async_handshake(sse::tls::asio_stream::server, [](sse::detail::net_error) {});
    w.shake_hands([&] { turn(); });
    (void)hub.accept(std::move(c), {}, sse::admit().join(channel));
  }
  void turn() {
    io.restart();
    io.poll();
  }
  const sse::tls::context* tls;
  sse::detail::net::io_context io{1};
  transport net;
  sse::hub<transport> hub{net, events_only()};
  bool posted = false;
};

struct bare {
  explicit bare(const sse::tls::context* c) : tls{c} {}
  void open(wire& w) {
    near.emplace_back(tls->make_ssl(), &SSL_free);
    SSL* const s = near.back().get();
    SSL_set_fd(s, w.near_fd);
    SSL_set_accept_state(s);
    w.shake_hands([&] { (void)SSL_do_handshake(s); });
  }
  void write(std::string_view bytes) {
    for (const ssl_ptr& s : near) {
      std::size_t n = 0;
      if (SSL_write_ex(s.get(), bytes.data(), bytes.size(), &n) != 1) counting::fail("SSL_write");
    }
  }
  const sse::tls::context* tls;
  std::vector<ssl_ptr> near;
};

/// Counts `each` but for its first call, in which buffers grow, and prints what each connection
/// got.
template <class Each>
void count(const std::vector<std::unique_ptr<wire>>& wires, Each each) {
  long bytes = 0;
  for (int i = 0; i <= rounds; ++i) {
    if (i == 0) {
      each();
    } else {
      const counting::instructions counted;
      each();
    }
    for (const auto& w : wires) bytes = w->empty();
  }
  std::printf("{\"bytes\":%ld,\"records\":%d}\n", bytes, sessions * rounds);
}

template <class Host>
void events(const sse::tls::context& tls, const std::vector<std::unique_ptr<wire>>& wires) {
  Host host{&tls};
  const sse::channel channel = host.hub.open_channel("c");
  for (const auto& w : wires) host.open(*w, channel);
  host.turn();
  count(wires, [&] {
    (void)channel.publish({.data = counting::data});
    host.turn();
  });
  host.hub.close_all();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc == 2 ? argv[1] : "";
  const test::certificate_folder folder;
  folder.make("server");
  sse::tls::context tls{folder.options("server")};
  if (const auto e = tls.load()) counting::fail(e.message.c_str());
  const std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> client{SSL_CTX_new(TLS_client_method()),
                                                            &SSL_CTX_free};
  std::vector<std::unique_ptr<wire>> wires;
  for (int i = 0; i < sessions; ++i) wires.push_back(std::make_unique<wire>(client.get()));

  if (what == "epoll") {
    events<on_epoll>(tls, wires);
  } else if (what == "asio") {
    events<on_asio>(tls, wires);
  } else if (what == "bare") {
    bare b{&tls};
    for (const auto& w : wires) b.open(*w);
    std::string event;
    (void)sse::encode(event, {.data = counting::data, .id = "100"});
    count(wires, [&] { b.write(event); });
  } else {
    counting::fail("usage: guard_tls bare|epoll|asio");
  }
}
