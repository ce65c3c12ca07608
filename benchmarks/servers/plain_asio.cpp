// Asio as it is commonly used: one async_write per subscriber and event, a queue of shared frames
// behind each socket.
#include <deque>
#include <memory>
#include <string>
#include <unordered_set>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/steady_timer.hpp>
#include <asio/streambuf.hpp>
#include <asio/write.hpp>

#include "common.hpp"

namespace {

using asio::ip::tcp;
using frame = std::shared_ptr<const std::string>;

class server;

class session : public std::enable_shared_from_this<session> {
 public:
  session(tcp::socket s, server& owner) : socket_{std::move(s)}, owner_{&owner} {}
  void start();
  void send(const frame& f);

 private:
  void write();
  void watch();
  void leave();

  tcp::socket socket_;
  asio::streambuf in_;
  std::deque<frame> queue_;
  server* owner_;
  bool open_ = false;
};

class server {
 public:
  explicit server(const bench::options& o)
      : options_{o},
        pacer_{o.rate, o.seconds},
        data_{o.size},
        acceptor_{io_,
                  {asio::ip::address_v4::loopback(), static_cast<asio::ip::port_type>(o.port)}},
        timer_{io_} {
    acceptor_.listen(4096);
    bench::say_port(acceptor_.local_endpoint().port());
  }
  void run() {
    accept();
    io_.run();
    bench::report(pacer_.published(), writes_);
  }

  void joined(const std::shared_ptr<session>& s) {
    sessions_.insert(s);
    if (pacer_.started() || sessions_.size() < options_.connections) return;
    pacer_.start();
    asio::post(io_, [this] { turn(); });
  }
  void left(const std::shared_ptr<session>& s) {
    sessions_.erase(s);
    if (pacer_.over() && sessions_.empty()) io_.stop();
  }
  void queued() { ++pending_; }
  void wrote(std::size_t done) {
    ++writes_;
    pending_ -= done;
    if (pending_ == 0 && options_.rate == 0 && pacer_.started())
      asio::post(io_, [this] { turn(); });
  }
  void dropped(std::size_t n) { pending_ -= n; }

 private:
  void accept() {
    acceptor_.async_accept([this](std::error_code e, tcp::socket s) {
      if (e) return;
      s.set_option(tcp::no_delay{true}, e);
      std::make_shared<session>(std::move(s), *this)->start();
      accept();
    });
  }
  void turn() {
    if (pacer_.over()) return;
    pacer_.due([&](std::uint64_t n, std::int64_t t) { publish("tick", n, t); });
    if (pacer_.over()) return publish("end", pacer_.published() + 1, bench::now_ns());
    if (options_.rate == 0) return;  // the last write of this event asks for the next
    timer_.expires_at(
        std::chrono::steady_clock::time_point{std::chrono::nanoseconds{pacer_.next()}});
    timer_.async_wait([this](std::error_code) { turn(); });
  }
  void publish(std::string_view type, std::uint64_t n, std::int64_t t) {
    const auto f =
        std::make_shared<const std::string>(bench::make_frame(n, type, data_.make(n, t)));
    for (const auto& s : sessions_) s->send(f);
  }

  bench::options options_;
  bench::pacer pacer_;
  bench::payload data_;
  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer timer_;
  std::unordered_set<std::shared_ptr<session>> sessions_;
  std::size_t pending_ = 0;
  std::uint64_t writes_ = 0;
};

void session::start() {
  asio::async_read_until(socket_, in_, "\r\n\r\n",
                         [self = shared_from_this()](std::error_code e, std::size_t) {
                           if (e) return;
                           static const auto head = std::make_shared<const std::string>(
                               "HTTP/1.1 200 OK\r\nContent-Type: "
                               "text/event-stream\r\nCache-Control: no-cache\r\n\r\n");
                           self->open_ = true;
                           self->send(head);
                           self->watch();
                           self->owner_->joined(self);
                         });
}

void session::send(const frame& f) {
  if (!open_) return;
  owner_->queued();
  queue_.push_back(f);
  if (queue_.size() == 1) write();
}

void session::write() {
  asio::async_write(socket_, asio::buffer(*queue_.front()),
                    [self = shared_from_this()](std::error_code e, std::size_t) {
                      if (!self->open_) return;
                      if (e) return self->leave();
                      self->queue_.pop_front();
                      if (!self->queue_.empty()) self->write();
                      self->owner_->wrote(1);
                    });
}

void session::watch() {
  socket_.async_wait(tcp::socket::wait_read,
                     [self = shared_from_this()](std::error_code) { self->leave(); });
}

void session::leave() {
  if (!open_) return;
  open_ = false;
  owner_->dropped(queue_.size());
  owner_->left(shared_from_this());
}

}  // namespace

int main(int argc, char** argv) { server{bench::read_options(argc, argv)}.run(); }
