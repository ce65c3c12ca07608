// TLS on the epoll, the io_uring and the Asio host: what a program and its clients see, and what
// hostile peers try.
#include <atomic>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "dechunk.hpp"
#include "failing_socket_calls.hpp"
#include "host_limits.hpp"
#include "host_requests.hpp"
#include "openssl/hosts.hpp"
#include "socket_calls.hpp"

namespace {

using std::chrono::milliseconds;
using test::client;
using test::on_each_host;
using test::tls_client;
using test::tls_server;

}  // namespace

TEST_CASE("TLS: the connection of a stream in chunks that ended serves the next request") {
  on_each_host([]<class Host>() {
    test::kept_streams<typename Host::server>([](std::uint16_t port) { return tls_client(port); });
  });
}

TEST_CASE("TLS: without a context epoll's transport serves plain HTTP") {
  using plain = test::loop_server<sse::epoll_server<sse::no_user, sse::tls::epoll_transport>>;
  test::kept_streams<plain>(test::plain_client);
}

#ifdef SSEHUB_TEST_IO_URING
TEST_CASE("TLS: without a context io_uring's transport serves plain HTTP") {
  if (test::refused()) return;
  using plain = test::loop_server<sse::uring_server<sse::no_user, sse::tls::uring_transport>>;
  test::kept_streams<plain>(test::plain_client);
}
#endif

#ifdef SSEHUB_TEST_ASIO
TEST_CASE("TLS: without a context Asio's streams serve plain HTTP") {
  struct plain : test::server<sse::no_user, sse::tls::asio_stream> {
    explicit plain(sse::server_options o = {})
        : server{std::move(o), 0, sse::tls::asio_streams(nullptr)} {}
  };
  test::kept_streams<plain>(test::plain_client);
}
#endif

TEST_CASE("TLS: who leaves is noticed, however many requests it sent before") {
  on_each_host([]<class Host>() {
    test::leaving_with_more_behind<typename Host::server>(
        [](std::uint16_t port) { return tls_client(port); });
  });
}

TEST_CASE("TLS: pages of many records, bodies, pipelined requests, streams that resume") {
  on_each_host([]<class Host>() {
    tls_server<Host> s;
    client c = tls_client(s.port());
    CHECK(c.get("/health").body == "ok");
    const std::string body(300'000, 'e');
    CHECK((c.post("/echo", body).body == body));
    CHECK(c.get("/large").body.size() == 8'000'000);
    c.send(client::make("GET", "/health") + client::make("GET", "/events") + "unread");
    CHECK(c.whole_answer().body == "ok");
    CHECK(c.head().status == 200);
    const std::string expected = test::publish_sizes(s, s.ticks, 60, 1000);
    CHECK((c.exactly(expected.size()) == expected));
    const std::string id = std::to_string(s.publish(s.ticks, "one") - 1);
    c.close();
    client again = tls_client(s.port());
    REQUIRE(again.open("/events", "Last-Event-ID: " + id + "\r\n").status == 200);
    CHECK(again.data() == "one");
    s.publish(s.ticks, "two");
    CHECK(again.data() == "two");
    CHECK(s.eventually([&] { return s->connections() == 1; }));
  });
}

TEST_CASE(
    "TLS: written while the socket is full in the middle of a record: each byte once, and the "
    "end") {
  on_each_host([]<class Host>() {
    const bool chunked = GENERATE(false, true);
    tls_server<Host> s{{.chunked = chunked, .send_buffer = 4096}};
    client c = tls_client(s.port(), {.receive_buffer = 4096});
    REQUIRE(c.open("/events").status == 200);
    std::string expected;
    for (int i = 0; i < 40; ++i) {  // nobody reads yet; each flush offers other bytes
      const std::string data(static_cast<std::size_t>(1 + i * 501),
                             static_cast<char>('a' + i % 26));
      expected += "id: " + std::to_string(s.publish(s.ticks, data)) + "\ndata: " + data + "\n\n";
    }
    CHECK(s.on_loop([&] { return s->hub().worst_lag(s.ticks); }) > 0);
    bool clean = false;
    std::thread ends{[&] { clean = s.drain(); }};
    std::string got = c.rest();
    ends.join();
    CHECK(clean);
    CHECK(test::layer_of(c).said_goodbye);
    bool whole = true;
    if (chunked) got = test::dechunk(got, whole);
    CHECK(whole);
    CHECK((got.substr(0, got.rfind("retry: ")) == expected));
  });
}

TEST_CASE("TLS: a goodbye that finds no room in the socket waits for it, and is said") {
  if (test::cannot_fail_socket_calls()) return;
  on_each_host([]<class Host>() {
    const bool stream = GENERATE(true, false);
    CAPTURE(stream);
    tls_server<Host> s{{.keep_alive = milliseconds{stream ? 60'000 : 50}}};
    client c = tls_client(s.port());
    if (stream) {
      REQUIRE(c.open("/events").status == 200);
      s.publish(s.ticks, "x");
      REQUIRE(c.data() == "x");
    } else {
      REQUIRE(c.get("/health").status == 200);
    }
    std::unique_ptr<test::watched_calls> full;
    s.on_loop([&] {
      full = std::make_unique<test::watched_calls>();
      test::fail_socket_calls(test::socket_call::send, INT_MAX, EAGAIN);
    });
    if (stream) {
      s.on_loop([&] { s->hub().seal(s.ticks); });
      s.on_loop([&] { s->hub().flush(); });
      CHECK(s.on_loop([&] { return s->hub().sessions(); }) == 1);
    }
    CHECK(s.eventually([] { return test::socket_calls_made(test::socket_call::send) != 0; }));
    s.on_loop([&] {
      test::fail_socket_calls(test::socket_call::send, 0, 0);
      full.reset();
    });
    c.send("x");  // wakes the server: the socket had room all the time
    CHECK(c.rest().empty());
    CHECK(test::layer_of(c).said_goodbye);
    c.close();
    CHECK(s.eventually([&] { return s->connections() == 0; }));
  });
}

TEST_CASE("TLS: who says goodbye instead of a request asked nothing") {
  on_each_host([]<class Host>() {
    tls_server<Host> s;
    client c = tls_client(s.port());
    REQUIRE(c.get("/health").status == 200);
    SSL_shutdown(test::tls_of(c));
    CHECK(c.rest().empty());
    c.close();
    CHECK(s.eventually([&] { return s->connections() == 0; }));
    CHECK(s.on_loop([&] { return s.statuses; }) == std::vector{200});
  });
}

TEST_CASE("TLS: the end of an answer that waited for room in the socket ends nothing") {
  on_each_host([]<class Host>() {
    tls_server<Host> s{{.send_buffer = 4096}};
    client c = tls_client(s.port(), {.receive_buffer = 4096});
    for (std::size_t size = 3000; size < 60'000; size += 1700) {
      CAPTURE(size);
      const std::string body(size, 'e');
      c.send(client::make("POST", "/echo", "Content-Length: " + std::to_string(size) + "\r\n") +
             body);
      // Nobody reads for a moment; what a call of somebody else's left in errno says nothing.
      for (int i = 0; i < 20; ++i) s.on_loop([] { errno = 0; });
      const test::answer a = c.whole_answer();
      REQUIRE(a.status == 200);
      REQUIRE((a.body == body));
    }
  });
}

TEST_CASE("TLS: one that never reads is closed at the write deadline, and holds nobody up") {
  on_each_host([]<class Host>() {
    tls_server<Host> s{{.hub = {.write_deadline = milliseconds{300}}, .send_buffer = 8192}};
    client deaf = tls_client(s.port(), {.receive_buffer = 4096});
    REQUIRE(deaf.open("/events").status == 200);
    client page = tls_client(s.port(), {.receive_buffer = 4096});
    page.send(client::make("GET", "/large"));
    client good = tls_client(s.port());
    REQUIRE(good.open("/events").status == 200);
    const std::string expected = test::publish_sizes(s, s.ticks, 100, 200);
    CHECK((good.exactly(expected.size()) == expected));
    CHECK(s.eventually([&] { return s->hub().sessions() == 1 && s->connections() == 1; }));
  });
}

TEST_CASE("TLS: HTTP without it is told so, whole, and ended") {
  on_each_host([]<class Host>() {
    tls_server<Host> s;
    client c{s.port()};
    const test::answer a = c.get("/health");
    CHECK(a.status == 400);
    CHECK(a.body == "This port speaks TLS: use https://\n");
    CHECK(c.rest().empty());
    CHECK_FALSE(c.was_reset);
    c.close();
    CHECK(s.eventually([&] { return s->connections() == 0; }));
    CHECK(s.on_loop([&] { return s.statuses; }) == std::vector{400});
    CHECK(s.on_loop([&] { return s.errors; }) ==
          std::vector<std::string>{"TLS handshake with 127.0.0.1: http request"});
    CHECK(tls_client(s.port()).get("/health").status == 200);
  });
}

TEST_CASE("TLS: a program may stop its server in what it is told of a refused handshake") {
  on_each_host([]<class Host>() {
    for (const bool at_error : {true, false}) {
      CAPTURE(at_error);
      tls_server<Host> s;
      s.on_loop([&] {
        s->on_error([&, at_error](std::string_view, const std::error_code&) {
          if (at_error) s->stop();
        });
        s->on_access([&](const sse::access_record&) { s->stop(); });
      });
      client c{s.port()};
      c.send(client::make("GET", "/health"));
      (void)c.rest();
      CHECK(s.eventually([&] { return s->connections() == 0; }));
    }
  });
}

TEST_CASE("TLS: a peer that leaves, or talks nonsense, at every stage of a handshake") {
  on_each_host([]<class Host>() {
    tls_server<Host> s;
    std::string hello;  // of a client
    {
      const std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> made{SSL_CTX_new(TLS_client_method()),
                                                              &SSL_CTX_free};
      const std::unique_ptr<SSL, void (*)(SSL*)> ssl{SSL_new(made.get()), &SSL_free};
      BIO* const out = BIO_new(BIO_s_mem());
      SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), out);
      (void)SSL_connect(ssl.get());
      char* bytes = nullptr;
      const long n = BIO_get_mem_data(out, &bytes);
      hello.assign(bytes, static_cast<std::size_t>(n));
    }
    for (int i = 0; i < 120; ++i) {
      client c{s.port()};
      if (i % 4 == 1) c.send(hello.substr(0, 1 + static_cast<std::size_t>(i)));
      if (i % 4 == 2) c.send(hello);
      if (i % 4 == 3)
        (void)c.try_send("\x16\x03\x01\x01\x40" + std::string(400, static_cast<char>(i)));
      if (i % 8 == 7) (void)c.rest();  // an alert, and the end
      if (i % 3 == 2) c.end_sending();
      i % 3 == 0 ? c.close() : c.reset();
    }
    CHECK(s.eventually([&] { return s->connections() == 0; }));
    CHECK(tls_client(s.port()).get("/health").status == 200);
  });
}

TEST_CASE("TLS: renegotiation is refused, a key update is answered, and the stream lives on") {
  on_each_host([]<class Host>() {
    tls_server<Host> s;
    client old = tls_client(s.port(), {.version = TLS1_2_VERSION});
    REQUIRE(old.open("/events").status == 200);
    CHECK(SSL_version(test::tls_of(old)) == TLS1_2_VERSION);
    (void)SSL_renegotiate(test::tls_of(old));
    CHECK(SSL_do_handshake(test::tls_of(old)) != 1);

    client c = tls_client(s.port(), {.version = TLS1_3_VERSION});
    REQUIRE(c.open("/events").status == 200);
    int updates = 0;
    SSL_set_msg_callback_arg(test::tls_of(c), &updates);
    SSL_set_msg_callback(test::tls_of(c), [](int write, int, int type, const void* bytes,
                                             std::size_t size, SSL*, void* count) {
      const auto* const p = static_cast<const unsigned char*>(bytes);
      if (write == 0 && type == SSL3_RT_HANDSHAKE && size != 0 && p[0] == SSL3_MT_KEY_UPDATE) {
        ++*static_cast<int*>(count);
      }
    });
    for (int i = 1; i <= 10; ++i) {
      REQUIRE(SSL_key_update(test::tls_of(c), SSL_KEY_UPDATE_REQUESTED) == 1);
      REQUIRE(SSL_do_handshake(test::tls_of(c)) == 1);
      // It has been read once the connection was asked after it.
      CHECK(tls_client(s.port()).get("/health").status == 200);
      s.publish(s.ticks, std::to_string(i));
      CHECK(c.data() == std::to_string(i));
    }
    CHECK(updates > 0);
  });
}

TEST_CASE("TLS: a flood of records that hold nothing ends the stream") {
  on_each_host([]<class Host>() {
    tls_server<Host> s;
    client c = tls_client(s.port(), {.version = TLS1_3_VERSION});
    REQUIRE(c.open("/events").status == 200);
    bool sent = true;
    for (int i = 0; i < 100'000 && sent; ++i) {
      sent = SSL_key_update(test::tls_of(c), SSL_KEY_UPDATE_REQUESTED) == 1 &&
             SSL_do_handshake(test::tls_of(c)) == 1;
    }
    CHECK_FALSE(sent);
    CHECK(s.eventually([&] { return s->hub().sessions() == 0; }));
  });
}

TEST_CASE("TLS: a peer that said goodbye, or ended its side, is gone") {
  on_each_host([]<class Host>() {
    tls_server<Host> s;
    client says = tls_client(s.port());
    REQUIRE(says.open("/events").status == 200);
    client half = tls_client(s.port());
    REQUIRE(half.open("/events").status == 200);
    CHECK(s.sessions() == 2);
    (void)SSL_shutdown(test::tls_of(says));
    CHECK(s.eventually([&] { return s->hub().sessions() == 1; }));
    half.end_sending();
    CHECK(s.eventually([&] { return s->hub().sessions() == 0; }));
    CHECK(half.rest().empty());
    // A request and its end in one: the answer comes whole.
    client asks = tls_client(s.port());
    asks.send(client::make("GET", "/large", "Connection: close\r\n"));
    asks.end_sending();
    CHECK(asks.whole_answer().body.size() == 8'000'000);
    CHECK(asks.rest().empty());
    CHECK(test::layer_of(asks).said_goodbye);
  });
}

TEST_CASE("TLS: another certificate while streams live, and one that cannot be loaded") {
  test::certificate_folder folder;
  folder.make("first");
  sse::tls::context context{{.certificate = folder.file("now.crt"), .key = folder.file("now.key")}};
  const auto put = [&](const std::string& name) {
    for (const char* end : {".crt", ".key"}) {
      std::filesystem::copy_file(folder.file(name + end), folder.file("now" + std::string{end}),
                                 std::filesystem::copy_options::overwrite_existing);
    }
  };
  put("first");
  REQUIRE_FALSE(context.load());
  struct server : sse::epoll_server<sse::no_user, sse::tls::epoll_transport> {
    server(sse::tls::context& c)
        : epoll_server{test::without_position(sse::server_options{}), &c} {}
  } s{context};
  sse::channel ticks = s.open_channel("ticks");
  s.stream("/events", ticks);
  REQUIRE_FALSE(s.listen("127.0.0.1", 0));
  std::thread serves{[&] { s.run(); }};
  const auto name_of = [](client& c) {
    const std::unique_ptr<X509, void (*)(X509*)> x{SSL_get1_peer_certificate(test::tls_of(c)),
                                                   &X509_free};
    char name[64] = {};
    X509_NAME_get_text_by_NID(X509_get_subject_name(x.get()), NID_commonName, name, sizeof name);
    return std::string{name};
  };
  client before = tls_client(s.port());
  CHECK(before.open("/events").status == 200);
  CHECK(name_of(before) == "first");
  folder.make("second");
  put("second");
  CHECK_FALSE(context.load());
  client after = tls_client(s.port());
  CHECK(after.open("/events").status == 200);
  CHECK(name_of(after) == "second");
  std::filesystem::remove(folder.file("now.key"));
  CHECK(context.load());
  client still = tls_client(s.port());
  CHECK(still.open("/events").status == 200);
  CHECK(name_of(still) == "second");
  sse::publisher p = s.make_publisher(ticks);
  CHECK(p.try_publish("x"));
  for (client* c : {&before, &after, &still}) CHECK(c->data() == "x");
  s.interrupt();
  serves.join();
}

TEST_CASE("TLS: what an application speaks is http/1.1, and who wants another is told") {
  on_each_host([]<class Host>() {
    tls_server<Host> s;
    client c = tls_client(s.port(), {.alpn = "http/1.1"});
    const unsigned char* chosen = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(test::tls_of(c), &chosen, &size);
    CHECK(std::string(reinterpret_cast<const char*>(chosen), size) == "http/1.1");
    CHECK(c.get("/health").status == 200);
    client two{s.port()};
    test::tls_client_layer h2{two.fd(), {.alpn = "h2"}};
    CHECK_FALSE(h2.connect());
    CHECK(ERR_GET_REASON(ERR_peek_error()) == SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
    ERR_clear_error();
  });
}

TEST_CASE("TLS: a client that comes back brings its ticket") {
  on_each_host([]<class Host>() {
    tls_server<Host> s;
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    client first = tls_client(s.port(), {.version = version});
    CHECK(first.get("/health").status == 200);
    CHECK(SSL_session_reused(test::tls_of(first)) == 0);
    SSL_SESSION* const ticket = SSL_get1_session(test::tls_of(first));
    first.close();
    client again = tls_client(s.port(), {.version = version, .resume = ticket});
    CHECK(again.get("/health").status == 200);
    CHECK(SSL_session_reused(test::tls_of(again)) == 1);
    SSL_SESSION_free(ticket);
  });
}

TEST_CASE("TLS: one connection too many is ended before it costs a handshake") {
  on_each_host([]<class Host>() {
    tls_server<Host> s{{.max_connections = 1}};
    client c = tls_client(s.port());
    CHECK(c.open("/events").status == 200);
    client more{s.port()};
    CHECK(more.rest().empty());
    CHECK(s.on_loop([&] { return s.statuses; }) == std::vector{200, 503});
  });
}

TEST_CASE("TLS: a handshake has its time, and many that last make room for others") {
  if (test::cannot_hold_the_server()) return;
  on_each_host([]<class Host>() {
    using loop = typename Host::loop;
    SECTION("deadline") {
      test::held_server<loop> s{{.handshake_deadline = milliseconds{1000}}};
      client silent{s.port()};
      client half{s.port()};
      REQUIRE(s.until([&] { return s->connections() == 2; }));
      s.pass(500);
      s.send(half, "\x16\x03\x01");  // from accept on: this gives it no more time
      s.pass(499);
      CHECK(s->connections() == 2);
      s.pass(1);
      CHECK(s.ends(silent));
      CHECK(s.ends(half));
      CHECK(s.empties());
    }
    SECTION("no deadline") {
      for (const auto never : {sse::duration::off(), sse::duration::infinite()}) {
        test::held_server<loop> s{{.handshake_deadline = never, .head_deadline = never}};
        client silent{s.port()};
        REQUIRE(s.until([&] { return s->connections() == 1; }));
        for (int day = 0; day < 30; ++day) s.pass(std::int64_t{24} * 3600 * 1000);
        CHECK(s->connections() == 1);
        std::atomic<int> status{0};
        std::thread asks{
            [&] { status = test::shake_hands(silent) ? silent.get("/health").status : -1; }};
        CHECK(s.until([&] { return status != 0; }));
        asks.join();
        CHECK(status == 200);
      }
    }
    SECTION("cap") {
      test::held_server<loop> s{{.max_handshakes = 3}};
      std::vector<client> slow;
      for (int i = 0; i < 5; ++i) {
        slow.emplace_back(s.port());
        REQUIRE(s.until(
            [&] { return s->connections() == static_cast<std::size_t>(i < 3 ? i + 1 : 3); }));
        s.turn();
      }
      CHECK(s.ends(slow[0]));
      CHECK(s.ends(slow[1]));
      for (std::size_t i = 2; i < 5; ++i) CHECK_FALSE(slow[i].has_input());
      // Whoever goes on has a turn, at the cost of the oldest unless it was quick.
      std::atomic<int> status{0};
      const std::uint16_t port = s.port();
      std::thread asks{[&] { status = tls_client(port).get("/health").status; }};
      CHECK(s.until([&] { return status != 0; }));
      asks.join();
      CHECK(status == 200);
      for (std::size_t i = 3; i < 5; ++i) CHECK_FALSE(slow[i].has_input());
    }
    SECTION("a drain waits for no handshake") {
      test::held_server<loop> s;
      client silent{s.port()};
      REQUIRE(s.until([&] { return s->connections() == 1; }));
      if constexpr (requires { s->drain(); }) {
        CHECK(s->drain({.deadline = milliseconds{1000}}));
      } else {
        bool clean = false;
        s->async_drain([&](const std::error_code& e) { clean = !e; });
        CHECK(s.until([&] { return clean; }));
      }
      CHECK(silent.rest().empty());
    }
  });
}
