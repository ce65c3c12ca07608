// Ours on Asio: sse::asio_server as a program would use it. `Stream`: with TLS, or a plain socket.
#pragma once

#include <memory>
#include <optional>
#include <thread>

#include <asio/steady_timer.hpp>
#include <sse/asio.hpp>

#include "hub.hpp"

namespace bench {

template <class Stream>
class on_asio {
 public:
  template <class... Make>
  explicit on_asio(const options& o, Make... make)
      : options_{o},
        pacer_{o.rate, o.seconds},
        data_{o.size},
        server_{io_, server_of(o), make...},
        timer_{io_} {
    channel_ = server_.open_channel("ticks", channel_of(o));
    server_.stream("/", channel_);
    if (const auto error = server_.listen("127.0.0.1", static_cast<std::uint16_t>(o.port))) {
      std::fprintf(stderr, "listen: %s\n", error.message().c_str());
      std::exit(1);
    }
    say_port(server_.port());
  }

  void run() {
    server_.hub().on_opened([this](sse::session_id, const sse::no_user&) {
      if (!pacer_.started() && server_.hub().sessions() >= options_.connections) {
        pacer_.start();
        asio::post(io_, [this] { begin(); });
      }
    });
    server_.hub().on_closed([this](sse::session_id, const sse::no_user&, sse::close_reason) {
      if (pacer_.over() && server_.hub().sessions() == 0) io_.stop();
    });
    io_.run();
    if (publisher_.joinable()) publisher_.join();
    report(options_.thread ? published_ : pacer_.published(), server_.hub().stats().writes);
  }

 private:
  static sse::server_options server_of(const options& o) {
    sse::server_options s;
    s.hub = hub_options();
    s.busy_poll = o.busy_poll;
    return s;
  }

  void begin() {
    if (options_.thread) {
      publisher_ = std::thread{[this, lane = server_.make_publisher(channel_, 1 << 20)]() mutable {
        publish_from(lane);
      }};
    } else {
      turn();
    }
  }
  /// Publishes what is due; flat out: one event, once everybody took the one before.
  void turn() {
    pacer_.due([&](std::uint64_t n, std::int64_t t) { publish("tick", n, t); },
               options_.rate > 0 || server_.hub().worst_lag(channel_) == 0);
    if (pacer_.over()) return publish("end", pacer_.published() + 1, now_ns());
    if (options_.rate == 0) return asio::post(io_, [this] { turn(); });
    timer_.expires_at(
        std::chrono::steady_clock::time_point{std::chrono::nanoseconds{pacer_.next()}});
    timer_.async_wait([this](std::error_code) { turn(); });
  }
  void publish(std::string_view type, std::uint64_t n, std::int64_t t) {
    if (!server_.publish(channel_, {.type = type, .data = data_.make(n, t)})) fail("publish");
  }
  void publish_from(sse::publisher& lane) {
    const std::uint64_t last = publish_from_lane(options_, lane);
    asio::post(io_, [this, last] {
      published_ = last;
      server_.hub().on_closed([this](sse::session_id, const sse::no_user&, sse::close_reason) {
        if (server_.hub().sessions() == 0) io_.stop();
      });
    });
  }

  options options_;
  pacer pacer_;
  payload data_;
  asio::io_context io_{1};
  sse::asio_server<sse::no_user, Stream> server_;
  asio::steady_timer timer_;
  sse::channel channel_ = {};
  std::thread publisher_;
  std::uint64_t published_ = 0;
};

}  // namespace bench
