// Our client and our server, with something between them that cuts connections.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <asio/write.hpp>
#include <sse/asio_client.hpp>

#include "asio/client.hpp"
#include "asio/raw_server.hpp"
#include "catch.hpp"

namespace {

using tcp = asio::ip::tcp;

/// Passes connections on to a server, and cuts each after a random number of its bytes.
class cutter {
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
    acceptor_.async_accept([this](std::error_code e, tcp::socket s) {
      if (e) return;
      auto p = std::make_shared<pair>(std::move(s));
      p->left = random_() % most_;
      p->reset = random_() % 2 == 0;
      p->server.async_connect(to_, [this, p](std::error_code failed) {
        if (failed) return;
        up(p);
        down(p);
      });
      accept();
    });
  }
  static void up(const std::shared_ptr<pair>& p) {
    p->client.async_read_some(asio::buffer(p->request), [p](std::error_code e, std::size_t n) {
      std::error_code ignored;
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
                              [this, p](std::error_code e, std::size_t got) {
                                std::error_code ignored;
                                if (e) return;
                                asio::write(p->client, asio::buffer(p->answer, got), ignored);
                                p->left -= got;
                                down(p);
                              });
  }
  void cut(pair& p) {
    ++cuts_;
    std::error_code ignored;
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

}  // namespace

TEST_CASE("client and server: 1,000 cuts at random bytes, every id once and in order") {
  constexpr int wanted = 1000;
  const bool chunked = GENERATE(false, true);
  const bool pull = GENERATE(false, true);
  sse::server_options so{.chunked = chunked};
  so.hub.caps.per_address.max = 10000;
  so.hub.caps.total.max = 10000;
  test::server<> server{so};
  sse::channel_options co;
  co.keep = 100000;
  sse::channel& ticks = server.open("ticks", std::move(co));
  server.on_loop([&] { server->stream("/events", ticks); });
  std::vector<sse::event_id> published;
  const auto publish = [&] {
    const std::string data = "event " + std::to_string(published.size());
    server.on_loop([&] {
      const sse::publish_result r = server->publish(ticks, {.data = data});
      published.push_back(r ? r.id : 0);
    });
  };
  for (int i = 0; i < 20; ++i) publish();

  test::loop l;
  cutter between{l.ctx, server.port(), 900, chunked ? 1U : 2U};
  sse::asio_client_options o;
  o.client.last_event_id = "0";
  o.client.retry = o.client.max_retry = o.client.min_interval = sse::duration::off();
  o.client.max_backoff = sse::duration::milliseconds(1);
  o.queue = 3;
  o.read_buffer = 100;
  sse::asio_event_source<> source{
      l.ctx, "http://127.0.0.1:" + std::to_string(between.port()) + "/events", o};

  std::size_t got = 0;
  std::string wrong;
  int gaps = 0;
  const auto take = [&](std::string_view id, std::string_view data) {
    if (wrong.empty() && (got >= published.size() || id != std::to_string(published[got]) ||
                          data != "event " + std::to_string(got))) {
      wrong = std::string{id} + " " + std::string{data} + " at " + std::to_string(got);
    }
    ++got;
    if (between.cuts() < wanted) publish();
  };
  std::function<void()> next = [&] {
    source.async_next([&](std::error_code e, const sse::received_event& r) {
      if (e) return;
      gaps += r.missed.has_value();
      take(r.last_event_id, r.data);
      next();
    });
  };
  if (pull) {
    next();
  } else {
    source.on_event([&](const sse::event& e) { take(e.id, e.data); });
    source.on_gap([&](const sse::gap&) { ++gaps; });
    source.start();
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while ((between.cuts() < wanted || got < published.size()) && wrong.empty() &&
         std::chrono::steady_clock::now() < end) {
    l.ctx.run_one_until(end);
  }
  CHECK(wrong.empty());
  CHECK(gaps == 0);
  CHECK(got == published.size());
  CHECK(between.cuts() >= wanted);
  INFO(got << " events, " << between.cuts() << " cuts");
  source.close();
  between.stop();
}

TEST_CASE("client and server: a gap, a drain") {
  sse::channel_options co;
  co.keep = 3;
  co.own_sequence = true;
  test::server<> server;
  sse::channel& ticks = server.open("ticks", std::move(co));
  server.on_loop([&] { server->stream("/events", ticks); });
  std::vector<sse::event_id> ids;
  for (int i = 0; i < 10; ++i) {
    server.on_loop([&] { ids.push_back(server->publish(ticks, {.data = "x"}).id); });
  }
  test::loop l;
  sse::asio_client_options o;
  const std::string from = std::to_string(ids[1]);
  o.client.last_event_id = from;
  sse::asio_event_source<> source{
      l.ctx, "http://127.0.0.1:" + std::to_string(server.port()) + "/events", o};
  std::vector<sse::received_event> got;
  std::function<void()> next = [&] {
    source.async_next([&](std::error_code e, sse::received_event r) {
      if (e) return;
      got.push_back(std::move(r));
      next();
    });
  };
  next();
  l.until([&] { return got.size() == 4; });
  REQUIRE(got[0].missed);
  CHECK(got[0].missed->requested == ids[1]);
  CHECK(got[0].missed->first == ids[7]);
  CHECK(got[0].missed->lost_known);
  CHECK(got[0].missed->lost == 5);
  CHECK(got[3].last_event_id == std::to_string(ids[9]));
  sse::client_failure failed;
  source.on_error([&](const sse::client_failure& f) { failed = f; });
  server.on_loop([&] { server->async_drain([](std::error_code) {}); });
  l.until([&] { return failed.error != sse::client_error::none; });
  CHECK(failed.error == sse::client_error::end_of_stream);
  CHECK_FALSE(failed.final);
}
