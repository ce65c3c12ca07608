// test::client over TLS. Its certificate is not looked at, but can be.
//
//   test::client c = test::tls_client(port);
//   CHECK(c.get("/health").status == 200);
//   SSL* const ssl = test::tls_of(c);
#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <openssl/ssl.h>

#include "http_client.hpp"

namespace test {

struct tls_client_options {
  int receive_buffer = 0;
  int version = 0;     ///< TLS1_2_VERSION, TLS1_3_VERSION; 0: the best
  std::string alpn{};  ///< such as "http/1.1"; empty: not said
  SSL_SESSION* resume = nullptr;
};

class tls_client_layer : public client_layer {
 public:
  tls_client_layer(int fd, const tls_client_options& o)
      : context_{SSL_CTX_new(TLS_client_method()), &SSL_CTX_free}, ssl_{nullptr, &SSL_free} {
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_CLIENT);
    ssl_.reset(SSL_new(context_.get()));
    if (o.version != 0) {
      SSL_set_min_proto_version(ssl_.get(), o.version);
      SSL_set_max_proto_version(ssl_.get(), o.version);
    }
    if (!o.alpn.empty()) {
      const std::string list = static_cast<char>(o.alpn.size()) + o.alpn;
      SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(list.data()),
                          static_cast<unsigned>(list.size()));
    }
    if (o.resume != nullptr) SSL_set_session(ssl_.get(), o.resume);
    SSL_set_fd(ssl_.get(), fd);
  }
  /// False: it failed.
  [[nodiscard]] bool connect() {
    for (;;) {
      errno = 0;
      const int r = SSL_connect(ssl_.get());
      if (r == 1 || errno != EINTR) return r == 1;  // the end of an io_uring interrupts
    }
  }
  [[nodiscard]] SSL* ssl() const noexcept { return ssl_.get(); }

  [[nodiscard]] ssize_t send(const char* bytes, std::size_t size) override {
    return SSL_write(ssl_.get(), bytes, static_cast<int>(size < 100'000 ? size : 100'000));
  }
  [[nodiscard]] ssize_t recv(char* into, std::size_t size) override {
    const int n = SSL_read(ssl_.get(), into, static_cast<int>(size));
    if (n > 0) return n;
    const int why = SSL_get_error(ssl_.get(), n);
    said_goodbye = why == SSL_ERROR_ZERO_RETURN;
    if (why == SSL_ERROR_WANT_READ) return -1;  // nothing came in time, or EINTR
    errno = ECONNRESET;
    return said_goodbye ? 0 : -1;
  }

  bool said_goodbye = false;  ///< the server's end was a clean one

 private:
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::unique_ptr<SSL, void (*)(SSL*)> ssl_;
};

/// False: it failed.
[[nodiscard]] inline bool shake_hands(client& c, const tls_client_options& o = {}) {
  auto layer = std::make_unique<tls_client_layer>(c.fd(), o);
  if (!layer->connect()) return false;
  c.put_on(std::move(layer));
  return true;
}
[[nodiscard]] inline client tls_client(std::uint16_t port, const tls_client_options& o = {}) {
  client c{port, o.receive_buffer};
  if (!shake_hands(c, o)) throw std::runtime_error("no handshake");
  return c;
}
[[nodiscard]] inline tls_client_layer& layer_of(client& c) {
  return static_cast<tls_client_layer&>(c.layer());
}
[[nodiscard]] inline SSL* tls_of(client& c) { return layer_of(c).ssl(); }

}  // namespace test
