// A TLS session without a host: both ends of a pair of sockets in the test's own thread.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <stdexcept>
#include <string>

#include <sse/openssl.hpp>

namespace test {

/// Two ends of a connection, both non-blocking; the far one is a TLS client's.
struct tls_wire {
  tls_wire() : context{SSL_CTX_new(TLS_client_method()), &SSL_CTX_free}, far{nullptr, &SSL_free} {
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) {
      throw std::runtime_error("socketpair");
    }
    far.reset(SSL_new(context.get()));
    SSL_set_fd(far.get(), ends[1]);
    SSL_set_connect_state(far.get());
  }
  ~tls_wire() { ::close(ends[1]); }
  /// Until both ends are done; the server's last step.
  sse::tls::step shake_hands(sse::tls::session& near) {
    using sse::tls::step;
    step s = step::want_read;
    for (int i = 0; i < 10 && (s == step::want_read || SSL_is_init_finished(far.get()) == 0); ++i) {
      (void)SSL_do_handshake(far.get());
      if (s == step::want_read) s = near.handshake();
    }
    ERR_clear_error();
    return s;
  }
  [[nodiscard]] std::string read() {
    std::string got;
    char bytes[16384];
    for (;;) {
      const int n = SSL_read(far.get(), bytes, sizeof bytes);
      if (n <= 0) return got;
      got.append(bytes, static_cast<std::size_t>(n));
    }
  }

  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context;
  std::unique_ptr<SSL, void (*)(SSL*)> far;
  int ends[2] = {-1, -1};
};

}  // namespace test
