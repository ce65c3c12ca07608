// A server under test over one of our hosts that is polled: epoll_server, uring_server; with TLS
// where its constructor gets a context.
#pragma once

#include <poll.h>

#include <chrono>
#include <thread>

#include "hub.hpp"

namespace bench {

template <class Server>
class polled {
 public:
  template <class... Security>
  explicit polled(const options& o, Security... s)
      : options_{o}, pacer_{o.rate, o.seconds}, data_{o.size}, server_{server_of(o), s...} {
    channel_ = server_.open_channel("ticks", channel_of(o));
    server_.stream("/", channel_);
    if (const auto error = server_.listen("127.0.0.1", static_cast<std::uint16_t>(o.port))) {
      std::fprintf(stderr, "listen: %s\n", error.message().c_str());
      std::exit(1);
    }
    say_port(server_.port());
  }

  void run() {
    while (server_.hub().sessions() < options_.connections) server_.poll(sse::duration::seconds(1));
    std::uint64_t published = 0;
    if (options_.thread) {
      std::thread publisher{
          [this, lane = server_.make_publisher(channel_, 1 << 20), &published]() mutable {
            published = publish_from_lane(options_, lane);
          }};
      server_.hub().on_closed([this](sse::session_id, const sse::no_user&, sse::close_reason) {
        if (server_.hub().sessions() == 0) server_.interrupt();
      });
      server_.run();
      publisher.join();
    } else {
      pacer_.start();
      while (!pacer_.over()) {
        pacer_.due([&](std::uint64_t n, std::int64_t t) { publish("tick", n, t); },
                   options_.rate > 0 || server_.hub().worst_lag(channel_) == 0);
        server_.poll();
        if (options_.rate > 0) wait_until(pacer_.next());
      }
      published = pacer_.published();
      publish("end", published + 1, now_ns());
      while (server_.hub().sessions() != 0) server_.poll(sse::duration::milliseconds(100));
    }
    report(published, server_.hub().stats().writes);
  }

 private:
  static sse::server_options server_of(const options& o) {
    sse::server_options s;
    s.hub = hub_options();
    s.busy_poll = o.busy_poll;
    return s;
  }
  void publish(std::string_view type, std::uint64_t n, std::int64_t t) {
    if (!server_.publish(channel_, {.type = type, .data = data_.make(n, t)})) fail("publish");
  }
  /// poll() knows milliseconds; events are due in between.
  void wait_until(std::int64_t t) const {
    const std::int64_t left = t - now_ns();
    if (left <= 0) return;
    pollfd ready{server_.native_handle(), POLLIN, 0};
    const timespec wait{left / 1'000'000'000, left % 1'000'000'000};
    (void)ppoll(&ready, 1, &wait, nullptr);
  }

  options options_;
  pacer pacer_;
  payload data_;
  Server server_;
  sse::channel channel_ = {};
};

}  // namespace bench
