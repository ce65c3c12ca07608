// A stream that is no plain socket, in place of TLS.
#pragma once

#include <memory>
#include <system_error>
#include <utility>

#include <asio/any_io_executor.hpp>
#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>

namespace test {

/// Has the interface of asio::ssl::stream, and a secret handshake: one byte each way.
class layer {
 public:
  using lowest_layer_type = asio::ip::tcp::socket;
  using executor_type = asio::any_io_executor;
  enum handshake_type { client, server };
  explicit layer(asio::ip::tcp::socket s) : socket_{std::move(s)} {}
  lowest_layer_type& lowest_layer() { return socket_; }
  executor_type get_executor() { return socket_.get_executor(); }
  template <class Handler>
  void async_handshake(handshake_type, Handler h) {
    byte_ = std::make_unique<char>('?');
    asio::async_write(socket_, asio::buffer(byte_.get(), 1),
                      [this, h = std::move(h)](asio::error_code e, std::size_t) mutable {
                        if (e) return h(e);
                        asio::async_read(socket_, asio::buffer(byte_.get(), 1),
                                         [b = byte_.get(), h = std::move(h)](
                                             asio::error_code failed, std::size_t) mutable {
                                           if (!failed && *b != '!') failed = asio::error::fault;
                                           h(failed);
                                         });
                      });
  }
  template <class Buffers, class Handler>
  void async_read_some(const Buffers& b, Handler&& h) {
    socket_.async_read_some(b, std::forward<Handler>(h));
  }
  template <class Buffers, class Handler>
  void async_write_some(const Buffers& b, Handler&& h) {
    socket_.async_write_some(b, std::forward<Handler>(h));
  }

 private:
  asio::ip::tcp::socket socket_;
  std::unique_ptr<char> byte_;
};

}  // namespace test
