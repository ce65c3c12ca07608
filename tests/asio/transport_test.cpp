// asio_transport over plain sockets and over layers, alone and under the server.
#include <sys/socket.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/write.hpp>
#include <sse/testing.hpp>

#include "asio/client.hpp"
#include "catch.hpp"
#include "held_clock.hpp"

using asio::ip::tcp;
using std::chrono::milliseconds;
using test::client;

namespace {

/// A layer on a socket, as TLS is: writes are operations, a few bytes at a time.
class layer {
 public:
  using executor_type = tcp::socket::executor_type;
  using lowest_layer_type = tcp::socket::lowest_layer_type;

  explicit layer(tcp::socket s) : socket_{std::make_unique<tcp::socket>(std::move(s))} {}

  executor_type get_executor() noexcept { return socket_->get_executor(); }
  lowest_layer_type& lowest_layer() noexcept { return socket_->lowest_layer(); }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& b, Token&& token) {
    return socket_->async_read_some(b, std::forward<Token>(token));
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& b, Token&& token) {
    return socket_->async_write_some(
        asio::buffer(asio::const_buffer(*asio::buffer_sequence_begin(b)), 777),
        std::forward<Token>(token));
  }

 protected:
  std::unique_ptr<tcp::socket> socket_;
};

/// One that shakes hands and says goodbye, like asio::ssl::stream.
class polite_layer : public layer {
 public:
  enum handshake_type { client, server };
  using layer::layer;

  template <class Token>
  void async_handshake(handshake_type, Token&& token) {
    auto byte = std::make_unique<char>();
    const auto room = asio::buffer(byte.get(), 1);
    socket_->async_read_some(room, [b = std::move(byte), t = std::forward<Token>(token)](
                                       asio::error_code e, std::size_t) mutable {
      if (!e && *b != '!') e = asio::error::no_recovery;
      t(e);
    });
  }
  template <class Token>
  void async_shutdown(Token&& token) {
    asio::async_write(
        *socket_, asio::buffer("bye", 3),
        [t = std::forward<Token>(token)](asio::error_code e, std::size_t) mutable { t(e); });
  }
};

/// Drives a transport without a server.
template <class Stream>
struct bench {
  using transport = sse::asio_transport<Stream>;
  asio::io_context ctx{1};
  transport net{};
  std::optional<sse::hub<transport>> hub{std::in_place, net, test::without_position()};
  bool asked = false;
  sse::channel ticks = hub->open_channel("ticks", {.max_lag = 0});

  bench() {
    net.attach(*hub, [this] { asked = true; });
    hub->on_admit([this](const sse::request&) { return sse::admit().join(ticks); });
  }
  void turn() {
    ctx.restart();
    ctx.run_for(milliseconds{1});
    hub->flush();
  }
};

}  // namespace

static_assert(sse::transport<sse::asio_transport<>>);
static_assert(sse::transport<sse::asio_transport<layer>>);
static_assert(!sse::asio_transport<>::completes && sse::asio_transport<>::max_buffers == 16);
static_assert(sse::asio_transport<layer>::completes &&
              sse::asio_transport<layer>::max_buffers == 1);

TEST_CASE("check_transport finds nothing wrong with plain sockets") {
  asio::io_context ctx{1};
  asio::local::stream_protocol::socket a{ctx};
  asio::local::stream_protocol::socket b{ctx};
  asio::local::connect_pair(a, b);
  b.non_blocking(true);
  using transport = sse::asio_transport<asio::local::stream_protocol::socket>;
  transport net;
  sse::hub<transport> hub{net};
  net.attach(hub, [] {});
  auto c = net.adopt(std::move(a));
  const auto report = sse::testing::check_transport(net, c, [&] {
    std::string got(1 << 16, '\0');
    asio::error_code e;
    got.resize(b.read_some(asio::buffer(got), e));
    ctx.restart();
    ctx.poll();
    return got;
  });
  CHECK(report.problem == "");
  b.close();
  const sse::buffer bytes{"x", 1};
  CHECK(net.write(c, {&bytes, 1}).next == sse::flow::closed);  // and no SIGPIPE
}

TEST_CASE("a hub over the transport alone, local sockets: order, blocking, the peer's end") {
  bench<asio::local::stream_protocol::socket> x;
  asio::local::stream_protocol::socket near{x.ctx};
  asio::local::stream_protocol::socket far{x.ctx};
  asio::local::connect_pair(near, far);
  far.non_blocking(true);
  REQUIRE(x.hub->accept(x.net.adopt(std::move(near)), sse::request{.preamble = "head\n"}));
  std::string expected = "head\n";
  for (int i = 0; i < 2000; ++i) {
    const std::string data(500, static_cast<char>('a' + i % 26));
    const sse::event_id id = x.hub->publish(x.ticks, {.data = data}).id;
    expected += "id: " + std::to_string(id) + "\ndata: " + data + "\n\n";
  }
  CHECK(x.asked);  // for a flush, since something was published
  x.asked = false;
  x.hub->flush();
  CHECK_FALSE(x.asked);
  std::string got;
  for (int i = 0; i < 10'000 && got.size() < expected.size(); ++i) {
    std::string some(50'000, '\0');
    asio::error_code e;
    some.resize(far.read_some(asio::buffer(some), e));
    got += some;
    x.turn();
  }
  CHECK((got == expected));
  CHECK(x.asked);
  far.close();
  for (int i = 0; i < 1000 && x.hub->sessions() != 0; ++i) x.turn();
  CHECK(x.hub->sessions() == 0);
}

TEST_CASE("layers: the hub's bytes are written by operations, in order, whole") {
  const bool chunked = GENERATE(false, true);
  test::server<sse::no_user, layer> s{{.chunked = chunked, .send_buffer = 8192}};
  sse::channel ticks = s.open("ticks", {.max_lag = 0});
  s.on_loop([&] {
    s->stream("/events", ticks);
    s->page("/page", std::string(100'000, 'p'));
    s->post("/echo", [](const sse::request&, std::string_view body) {
      return sse::response::text(200, std::string{body});
    });
  });
  client c{s.port(), 4096};
  CHECK(c.get("/page").body == std::string(100'000, 'p'));
  CHECK(c.post("/echo", std::string(10'000, 'e')).body == std::string(10'000, 'e'));
  REQUIRE(c.open("/events").status == 200);
  client idle{s.port()};
  REQUIRE(idle.open("/events").status == 200);
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    const std::string data(static_cast<std::size_t>(i) * 50, 'x');
    sse::event_id id = 0;
    s.on_loop([&] { id = s->publish(ticks, {.data = data}).id; });
    expected += "id: " + std::to_string(id) + "\ndata: " + data + "\n\n";
  }
  CHECK(s.on_loop([&] { return s->connections(); }) == 2);
  s.on_loop([&] { s->async_drain([](asio::error_code) {}, {.deadline = test::patience}); });
  for (client* x : {&c, &idle}) {
    bool whole = true;
    std::string got = x->rest();
    if (chunked) got = test::dechunk(got, whole);
    CHECK(whole);
    CHECK((got.substr(0, got.rfind("retry: ")) == expected));
  }
}

TEST_CASE("layers: clients that leave, and a peer that reads nothing") {
  test::server<sse::no_user, layer> s{
      {.hub = {.write_deadline = milliseconds{200}}, .send_buffer = 8192}};
  sse::channel ticks = s.open("ticks", {.max_lag = 0});
  s.on_loop([&] { s->stream("/events", ticks); });
  client deaf{s.port(), 4096};
  REQUIRE(deaf.open("/events").status == 200);
  for (int i = 0; i < 200; ++i) {
    client c{s.port()};
    if (i % 4 != 0) c.send(client::make("GET", "/events"));
    if (i % 4 > 1) (void)c.head();
    if (i % 4 == 3) s.publish(ticks, std::string(3000, 'x'));
    i % 3 == 0 ? c.close() : c.reset();
  }
  CHECK(s.eventually([&] { return s->connections() == 0; }));
  CHECK(s.on_loop([&] {
    return s->hub().stats().closed[static_cast<int>(sse::close_reason::stalled)];
  }) == 1);
}

TEST_CASE("layers: destruction with writes under way") {
  const bool run_after = GENERATE(false, true);
  asio::io_context ctx{1};
  std::vector<client> all;
  std::optional<sse::asio_server<sse::no_user, layer>> server{
      std::in_place, ctx, sse::server_options{.send_buffer = 8192}};
  sse::channel ticks = server->open_channel("ticks", {.max_lag = 0});
  server->stream("/events", ticks);
  REQUIRE_FALSE(server->listen("127.0.0.1", 0));
  for (int i = 0; i < 20; ++i) {
    all.emplace_back(server->port(), 4096);
    all.back().send(client::make("GET", "/events"));
  }
  while (server->hub().sessions() != 20) ctx.run_one();
  for (int i = 0; i < 40; ++i) (void)server->publish(ticks, {.data = std::string(9000, 'x')});
  ctx.poll();
  int ended = 0;
  server->hub().on_closed(
      [&](sse::session_id, const sse::no_user&, sse::close_reason) { ++ended; });
  server.reset();
  CHECK(ended == 20);
  if (run_after) ctx.run();
  for (client& c : all) (void)c.rest();
}

TEST_CASE("layers: a goodbye that is said ends the connection, whatever time it is") {
  if (!test::held_clock::works()) return;
  test::server<sse::no_user, polite_layer> s;
  s.on_loop([&] {
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
  });
  client c{s.port()};
  c.send("!");
  REQUIRE(c.get("/health").status == 200);
  std::unique_ptr<test::held_clock> still;  // so no deadline comes
  s.on_loop([&] { still = std::make_unique<test::held_clock>(); });
  CHECK(c.get("/health", "Connection: close\r\n").body == "ok");
  CHECK(s.eventually([&] { return s->connections() == 0; }));
  CHECK(c.rest() == "bye");
  s.on_loop([&] { still.reset(); });
}

TEST_CASE("layers that shake hands first and say goodbye last") {
  test::server<sse::no_user, polite_layer> s{{.handshake_deadline = milliseconds{800}}};
  sse::channel ticks = s.open("ticks");
  s.on_loop([&] {
    s->stream("/events", ticks);
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
  });
  client silent{s.port()};
  client rude{s.port()};
  rude.send("?");
  CHECK(rude.rest().empty());
  client c{s.port()};
  c.send("!");
  CHECK(c.get("/health").body == "ok");
  CHECK(c.get("/health", "Connection: close\r\n").body == "ok");
  CHECK(c.rest() == "bye");
  client stream{s.port()};
  stream.send("!");
  REQUIRE(stream.open("/events").status == 200);
  s.publish(ticks, "x");
  CHECK(stream.data() == "x");
  CHECK(silent.rest().empty());  // no handshake within its deadline
  std::promise<asio::error_code> done;
  s.on_loop([&] { s->async_drain([&](asio::error_code e) { done.set_value(e); }); });
  CHECK(stream.rest().ends_with("\n\nbye"));
  CHECK_FALSE(done.get_future().get());
}
