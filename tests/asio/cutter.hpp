// A proxy that cuts connections.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <system_error>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/write.hpp>

namespace test {

/// Passes connections on to a server, and cuts each after a random number of its bytes.
class cutter {
  using tcp = asio::ip::tcp;

 public:
  cutter(asio::io_context& ctx, std::uint16_t to, std::size_t most, std::uint32_t seed)
      : to_{asio::ip::address_v4::loopback(), to},
        acceptor_{ctx, {asio::ip::address_v4::loopback(), 0}},
        random_{seed},
        most_{most} {
    accept();
  }
  [[nodiscard]] std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  [[nodiscard]] int cuts() const { return cuts_; }
  void stop() { acceptor_.close(); }

 private:
  struct pair {
    explicit pair(tcp::socket s) : client{std::move(s)}, server{client.get_executor()} {}
    tcp::socket client;
    tcp::socket server;
    std::string request = std::string(4096, '\0');
    std::string answer = std::string(512, '\0');
    std::size_t left = 0;
    bool reset = false;
  };

  void accept() {
    acceptor_.async_accept([this](asio::error_code e, tcp::socket s) {
      if (e) return;
      auto p = std::make_shared<pair>(std::move(s));
      p->left = random_() % most_;
      p->reset = random_() % 2 == 0;
      p->server.async_connect(to_, [this, p](asio::error_code failed) {
        if (failed) return;
        up(p);
        down(p);
      });
      accept();
    });
  }
  static void up(const std::shared_ptr<pair>& p) {
    p->client.async_read_some(asio::buffer(p->request), [p](asio::error_code e, std::size_t n) {
      asio::error_code ignored;
      if (e) {
        p->server.close(ignored);
        return;
      }
      asio::write(p->server, asio::buffer(p->request, n), ignored);
      up(p);
    });
  }
  void down(const std::shared_ptr<pair>& p) {
    const std::size_t n = std::min(p->left, p->answer.size());
    if (n == 0) return cut(*p);
    p->server.async_read_some(asio::buffer(p->answer, n),
                              [this, p](asio::error_code e, std::size_t got) {
                                asio::error_code ignored;
                                if (e) return;
                                asio::write(p->client, asio::buffer(p->answer, got), ignored);
                                p->left -= got;
                                down(p);
                              });
  }
  void cut(pair& p) {
    ++cuts_;
    asio::error_code ignored;
    if (p.reset) p.client.set_option(asio::socket_base::linger{true, 0}, ignored);
    p.client.close(ignored);
    p.server.close(ignored);
  }

  tcp::endpoint to_;
  tcp::acceptor acceptor_;
  std::mt19937 random_;
  std::size_t most_;
  int cuts_ = 0;
};

}  // namespace test
