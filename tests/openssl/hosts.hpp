// The hosts that speak TLS, each with a server in a thread of its own or in the test's.
#pragma once

#include <future>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/epoll.hpp>
#include <sse/openssl.hpp>

#include "catch.hpp"
#include "held_server.hpp"
#include "host_limits.hpp"
#include "loop_server.hpp"
#include "openssl/certificate.hpp"
#include "openssl/tls_client.hpp"
#ifdef SSEHUB_TEST_IO_URING
#include <sse/io_uring.hpp>

#include "io_uring/refused.hpp"
#endif
#ifdef SSEHUB_TEST_ASIO
#include <sse/asio.hpp>
#include <sse/asio_openssl.hpp>

#include "asio/client.hpp"
#endif

namespace test {

/// A host: its server in a thread of its own, and one that the test turns.
template <class Server>
struct host {
  using server = loop_server<Server>;
  using loop = polled<Server>;
};
using epoll_host = host<secured<sse::epoll_server<sse::no_user, sse::tls::epoll_transport>>>;
#ifdef SSEHUB_TEST_IO_URING
using uring_host = host<secured<sse::uring_server<sse::no_user, sse::tls::uring_transport>>>;
#endif
#ifdef SSEHUB_TEST_ASIO
struct asio_host {
  struct server : test::server<sse::no_user, sse::tls::asio_stream> {
    explicit server(sse::server_options o = {})
        : test::server<sse::no_user, sse::tls::asio_stream>{
              std::move(o), 0, sse::tls::asio_streams(&tls_of_tests().context)} {}
  };
  struct loop {
    explicit loop(const sse::server_options& o)
        : server{context, o, sse::tls::asio_streams(&tls_of_tests().context)} {}
    void turn() {
      server.clock_moved();
      context.restart();
      for (int most = 1000; most > 0 && context.poll_one() != 0; --most) {
      }
    }
    asio::io_context context{1};
    sse::asio_server<sse::no_user, sse::tls::asio_stream> server;
  };
};
#endif

/// Runs `f.template operator()<Host>()` for each host.
template <class F>
void on_each_host(F f) {
  SECTION("epoll") { f.template operator()<epoll_host>(); }
#ifdef SSEHUB_TEST_IO_URING
  SECTION("io_uring") {
    if (!refused()) f.template operator()<uring_host>();
  }
#endif
#ifdef SSEHUB_TEST_ASIO
  SECTION("Asio") { f.template operator()<asio_host>(); }
#endif
}

template <class Host>
struct tls_server : Host::server {
  explicit tls_server(sse::server_options o = {}) : Host::server{std::move(o)} {
    auto& s = *this;
    ticks = s.open("ticks", {.keep = 1000, .max_lag = 0});
    s.on_loop([&] {
      s->stream("/events", ticks);
      s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
      s->post("/echo", [](const sse::request&, std::string_view body) {
        return sse::response::text(200, std::string{body});
      });
      s->page("/large", std::string(8'000'000, 'p'));
      s->on_error(
          [this](std::string_view what, const std::error_code&) { errors.emplace_back(what); });
      s->on_access([this](const sse::access_record& r) { statuses.push_back(r.status); });
    });
  }
  ~tls_server() {
    auto& s = *this;
    s.on_loop([&] {
      s->on_error({});
      s->on_access({});
    });
  }
  /// Whether nobody was cut.
  [[nodiscard]] bool drain() {
    auto& s = *this;
    const sse::drain_options patient{.deadline = patience};
    if constexpr (requires { s->drain(patient); }) {
      return s.on_loop([&] { return s->drain(patient); });
    } else {
      std::promise<bool> clean;
      s.on_loop(
          [&] { s->async_drain([&](const std::error_code& e) { clean.set_value(!e); }, patient); });
      return clean.get_future().get();
    }
  }
  sse::channel ticks = {};
  std::vector<std::string> errors{};
  std::vector<int> statuses{};
};

}  // namespace test
