// A Boost.Beast server that gets an event stream: GET /events becomes one, every other request is
// answered as before. A page at / counts along.
#include <chrono>
#include <cstdint>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <sse/asio_transport.hpp>  // SSEHUB_BOOST_ASIO is defined
#include <sse/http1.hpp>
#include <sse/sse.hpp>

#include "common/endpoint.hpp"
#include "common/tls_asio.hpp"

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using stream = examples::stream_on<tcp::socket>;
using transport = sse::asio_transport<stream>;
using http_request = http::request<http::string_body>;
using http_response = http::response<http::string_body>;

static constexpr auto page = R"(<!doctype html><h1 id="n"></h1><script>
  new EventSource('/events').onmessage = (e) => { n.textContent = e.data }</script>)";

// What is new: a hub with its transport, which get a turn when something is to be sent or done.
class streams {
 public:
  explicit streams(asio::io_context& ctx) : ctx_{ctx}, timer_{ctx} {
    transport_.attach(hub_, [this] { turn_soon(); });
    hub_.on_admit([this](const sse::request&) { return sse::admit().join(ticks_); });
  }

  // The connection becomes a stream, or stays where it is: then this is what to answer.
  sse::accept_result take(transport::connection& c, const http_request& from) {
    const auto view = [](const auto& s) { return std::string_view{s.data(), s.size()}; };
    std::vector<sse::header> headers;
    for (const auto& f : from) headers.push_back({view(f.name_string()), view(f.value())});
    std::string path;
    std::string head;
    sse::request r{.method = view(from.method_string()), .headers = headers};
    r.minor_version = from.version() % 10 != 0 ? 1 : 0;
    if (const auto e = sse::set_target(r, view(from.target()), path); e != sse::target_error::none)
      return {.refusal = sse::response::text(sse::status_of(e), "a bad target\n")};
    (void)sse::http1::write_stream_head(head, {}, r.minor_version, false);
    r.preamble = head;
    hub_.tick(now());
    return hub_.accept(std::move(c), r);
  }
  transport::connection adopt(stream s) { return transport_.adopt(std::move(s)); }
  void publish(std::string_view data) { (void)hub_.publish(ticks_, {.data = data}); }

 private:
  static sse::time_point now() { return std::chrono::steady_clock::now(); }
  static sse::event_id first_id() {  // ids rise over restarts too
    const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<sse::event_id>(
        std::chrono::duration_cast<std::chrono::microseconds>(since_1970).count());
  }

  void turn_soon() {
    if (std::exchange(soon_, true)) return;
    asio::post(ctx_, [this] {
      soon_ = false;
      turn();
    });
  }
  void turn() {
    hub_.tick(now());
    if (hub_.flush()) turn_soon();  // there is more
    const sse::time_point due = hub_.next_deadline();
    if (due == sse::time_point::never()) return;
    timer_.expires_after(std::chrono::milliseconds{(due - now()).ms()});
    timer_.async_wait([this](boost::system::error_code e) {
      if (!e) turn();
    });
  }

  asio::io_context& ctx_;
  asio::steady_timer timer_;
  transport transport_;
  sse::hub<transport> hub_{transport_, {.first_id = first_id()}};
  sse::channel ticks_ = hub_.open_channel("ticks");
  bool soon_ = false;
};

static http_response answer(const http_request& to, unsigned status, std::string body) {
  http_response r{static_cast<http::status>(status), to.version(), std::move(body)};
  r.set(http::field::content_type, status == 200 ? "text/html" : "text/plain");
  r.keep_alive(to.keep_alive());
  r.prepare_payload();
  return r;
}

// What was there: a connection, request by request. An exception is the end of it.
static asio::awaitable<void> serve(stream socket, streams& events) {
#ifdef EXAMPLES_OPENSSL
  co_await socket.async_handshake(stream::server, asio::use_awaitable);  // if it is https
#endif
  boost::beast::flat_buffer buffer;
  for (;;) {
    http_request request;
    co_await http::async_read(socket, buffer, request, asio::use_awaitable);
    if (request.method() == http::verb::get && request.target() == "/events") {
      auto connection = events.adopt(std::move(socket));
      const sse::accept_result r = events.take(connection, request);
      if (r) co_return;
      const http_response refusal =
          answer(request, static_cast<unsigned>(r.refusal.status), std::string{r.refusal.body});
      co_await http::async_write(connection.stream(), refusal, asio::use_awaitable);
      co_return;
    }
    const bool is_page = request.target() == "/";
    const http_response response =
        answer(request, is_page ? 200 : 404, is_page ? page : "not found\n");
    co_await http::async_write(socket, response, asio::use_awaitable);
    if (!response.keep_alive()) co_return;
  }
}

static asio::awaitable<void> listen(tcp::acceptor& acceptor, const examples::tls_of_server& tls,
                                    streams& events) {
  const auto stream_of = examples::streams_on<tcp::socket>(tls);
  for (;;) {
    tcp::socket s = co_await acceptor.async_accept(asio::use_awaitable);
    s.non_blocking(true);  // as the stream asks for
    asio::co_spawn(acceptor.get_executor(), serve(stream_of(std::move(s)), events), asio::detached);
  }
}

static asio::awaitable<void> count(streams& events) {
  asio::steady_timer timer{co_await asio::this_coro::executor};
  for (int n = 1;; ++n) {
    events.publish(std::to_string(n));
    timer.expires_after(std::chrono::seconds{1});
    co_await timer.async_wait(asio::use_awaitable);
  }
}

int main(int argc, char** argv) try {
  examples::flag_set flags{"beast", "A Boost.Beast server with an event stream.", SSEHUB_VERSION};
  examples::endpoint at{flags};
  if (const auto end = at.parse(argc, argv)) return end->print();
  asio::io_context ctx{1};
  streams events{ctx};
  tcp::acceptor acceptor{ctx, {asio::ip::address_v4::loopback(), at.port()}};
  std::cout << "listening on " << at.url(acceptor.local_endpoint().port()) << std::endl;
  asio::co_spawn(ctx, listen(acceptor, at.tls(), events), asio::detached);
  asio::co_spawn(ctx, count(events), asio::detached);
  ctx.run();
} catch (const std::exception& e) {
  std::cerr << e.what() << '\n';
  return 1;
}
