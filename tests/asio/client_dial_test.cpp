// How asio_event_source gets its connection: several addresses, a dialer of the program's own, and
// why there is none.
#include <fcntl.h>
#include <netdb.h>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <asio/connect.hpp>
#include <sse/asio_client.hpp>

#include "asio/layer.hpp"
#include "asio/raw_server.hpp"
#include "catch.hpp"
#include "environment.hpp"
#include "known_names.hpp"

namespace {

/// Listens, but completes no connection: its queue is full, and the kernel drops what comes.
class deaf_listener {
 public:
  deaf_listener(const std::string& address, std::uint16_t port) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    ::inet_pton(AF_INET, address.c_str(), &to.sin_addr);
    const auto* const a = reinterpret_cast<const sockaddr*>(&to);
    listen_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::bind(listen_, a, sizeof to) != 0 || ::listen(listen_, 0) != 0) {
      ::close(listen_);
      throw std::runtime_error("listen: " + std::string{std::strerror(errno)});
    }
    do {  // a connection to this host completes at once, or not at all
      filler_.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    } while (::connect(filler_.back(), a, sizeof to) == 0);
  }
  ~deaf_listener() {
    for (const int fd : filler_) ::close(fd);
    ::close(listen_);
  }
  deaf_listener(const deaf_listener&) = delete;
  deaf_listener& operator=(const deaf_listener&) = delete;

 private:
  int listen_ = -1;
  std::vector<int> filler_;
};

/// Two events, then nothing.
void serve_two(test::peer& p) {
  if (p.request().empty()) return;
  p.send(test::stream_head);
  p.send("data: x\n\ndata: y\n\n");
  p.wait_for_end();
}

sse::asio_client_options at_once() {
  sse::asio_client_options o;
  o.client.retry = o.client.max_retry = o.client.min_interval = sse::duration::off();
  return o;
}

/// The first failure of a source.
sse::client_failure failure_of(const std::string& url, sse::asio_client_options o = at_once()) {
  test::loop l;
  sse::asio_event_source<> s{l.ctx, url, o};
  std::optional<sse::client_failure> got;
  s.on_error([&](const sse::client_failure& f) {
    got = f;
    s.close();
  });
  s.start();
  l.to_the_end();
  return got.value();
}

}  // namespace

TEST_CASE("client: six addresses that do not answer, and the seventh does") {
  test::raw_server server{serve_two};
  const std::uint16_t port = server.port();
  std::vector<std::string> addresses;
  std::vector<std::unique_ptr<deaf_listener>> deaf;
  for (int n = 2; n <= 7; ++n) {
    addresses.push_back("127.0.0." + std::to_string(n));
    deaf.push_back(std::make_unique<deaf_listener>(addresses.back(), port));
  }
  addresses.push_back("127.0.0.1");
  const test::known_name name{"seven.test", addresses};
  test::loop l;
  sse::asio_event_source<> s{l.ctx, "http://seven.test:" + std::to_string(port) + "/", at_once()};
  int got = 0;
  int failures = 0;
  s.on_event([&](const sse::event&) { ++got; });
  s.on_error([&](const sse::client_failure&) { ++failures; });
  s.start();
  l.until([&] { return got == 2; });
  CHECK(failures == 0);
  CHECK(server.connections() == 1);
}

#if defined(__linux__)
TEST_CASE("client: the attempts that lost are closed when one has won") {
  const auto open_sockets = [] {
    std::size_t n = 0;
    asio::error_code gone;
    for (const auto& fd : std::filesystem::directory_iterator{"/proc/self/fd"}) {
      n += std::filesystem::read_symlink(fd, gone).string().starts_with("socket:");
    }
    return n;
  };
  test::raw_server server{serve_two};
  const deaf_listener a{"127.0.0.2", server.port()};
  const deaf_listener b{"127.0.0.3", server.port()};
  const test::known_name one{"one.test", {"127.0.0.1"}};
  const test::known_name three{"three.test", {"127.0.0.2", "127.0.0.3", "127.0.0.1"}};
  std::vector<std::size_t> sockets;
  for (const std::string host : {"one.test", "three.test"}) {
    test::loop l;
    sse::asio_client_options o = at_once();
    o.attempt_delay = sse::duration::milliseconds(10);
    sse::asio_event_source<> s{l.ctx, "http://" + host + ":" + std::to_string(server.port()), o};
    int got = 0;
    s.on_event([&](const sse::event&) { ++got; });
    s.start();
    l.until([&] { return got == 2; });
    sockets.push_back(open_sockets());
  }
  CHECK(sockets[0] == sockets[1]);
}
#endif

TEST_CASE("client: addresses that refuse are passed at once, and the last one tells why") {
  test::raw_server server{serve_two};
  const std::string port = std::to_string(server.port());
  sse::asio_client_options o = at_once();
  o.attempt_delay = sse::duration::off();  // none of them waits for it
  const test::known_name some{"some.test", {"127.0.0.2", "127.0.0.3", "::1", "127.0.0.1"}};
  {
    test::loop l;
    sse::asio_event_source<> s{l.ctx, "http://some.test:" + port + "/", o};
    int got = 0;
    s.on_event([&](const sse::event&) { ++got; });
    s.start();
    l.until([&] { return got == 2; });
  }
  const test::known_name none{"none.test", {"127.0.0.2", "127.0.0.3"}};
  const sse::client_failure f = failure_of("http://none.test:" + port + "/", o);
  CHECK(f.error == sse::client_error::connect);
  CHECK(f.cause == std::errc::connection_refused);
  CHECK(sse::explain(f) == "the connection could not be made: Connection refused");
}

TEST_CASE("client: addresses that do not answer end at the deadline of the attempt") {
  test::raw_server server{serve_two};
  const deaf_listener a{"127.0.0.2", server.port()};
  const deaf_listener b{"127.0.0.3", server.port()};
  const test::known_name name{"deaf.test", {"127.0.0.2", "127.0.0.3"}};
  sse::asio_client_options o = at_once();
  o.client.connect_timeout = sse::duration::milliseconds(60);
  CHECK(failure_of("http://deaf.test:" + std::to_string(server.port()) + "/", o).error ==
        sse::client_error::connect_timeout);
}

TEST_CASE("client: sources with one seed wait alike") {
  sse::asio_client_options o;
  o.client.seed = 7;
  const sse::client_failure f = failure_of("http://127.0.0.1:1/", o);
  CHECK_FALSE(f.final);
  CHECK(failure_of("http://127.0.0.1:1/", o).delay == f.delay);
}

TEST_CASE("client: a failure tells its cause") {
  const test::known_name name{"nobody.test", {}};
  sse::client_failure f = failure_of("http://nobody.test/");
  CHECK(f.error == sse::client_error::resolve);
  CHECK(f.cause == std::error_code{asio::error::make_error_code(asio::error::host_not_found)});
  CHECK(sse::explain(f) == "the host name could not be resolved: " + f.cause.message());

  test::raw_server resets{[](test::peer& p) {
    if (p.request().empty()) return;
    p.reset();
  }};
  f = failure_of(resets.url());
  CHECK(f.error == sse::client_error::read);
  CHECK(f.cause == std::errc::connection_reset);

  f = failure_of("https://127.0.0.1:1/");  // this source has plain sockets only
  CHECK(f.error == sse::client_error::tls);
  CHECK(f.cause == std::errc::protocol_not_supported);

  test::raw_server ends{[](test::peer& p) { p.request(); }};
  f = failure_of(ends.url());
  CHECK(f.error == sse::client_error::cut);
  CHECK_FALSE(f.cause);
}

TEST_CASE("client: why a certificate was not accepted, in words", "[surface]") {
  const auto says = [](int value, std::string_view what) {
    const std::error_code e{value, sse::certificate_category()};
    return e.message().find(what) != std::string::npos &&
           e.message().find(std::to_string(value)) != std::string::npos;
  };
  CHECK(says(10, "expired"));
  CHECK(says(9, "not valid yet"));
  CHECK(says(1, "not for this host"));
  for (const int value : {2, 20, 21}) CHECK(says(value, "issuer"));
  for (const int value : {18, 19}) CHECK(says(value, "self-signed"));
  CHECK(says(23, "revoked"));
  CHECK(says(26, "not meant for a server"));
  for (const int value : {62, 64}) CHECK(says(value, "another host"));
  CHECK(says(77, "not accepted"));
  CHECK(std::string_view{sse::certificate_category().name()} == "sse.certificate");
}

// --- a dialer of the program's own ---------------------------------------------------------------

namespace {

struct dial_log {
  std::vector<std::string> asked;
  std::vector<sse::function<void(std::error_code, asio::ip::tcp::socket)>> waiting;
};

asio::ip::tcp::socket connected_to(asio::io_context& ctx, std::uint16_t port) {
  asio::ip::tcp::socket s{ctx};
  s.connect({asio::ip::address_v4::loopback(), port});
  return s;
}

}  // namespace

TEST_CASE("client: a program dials by itself, at once or later") {
  const bool later = GENERATE(false, true);
  test::raw_server server{serve_two};
  test::loop l;
  dial_log log;
  sse::asio_event_source<> s{l.ctx, "http://no.such.host.test:81/x", at_once()};
  s.on_dial([&](const sse::dial_request& to, auto done) {
    log.asked.push_back(std::string{to.host} + ":" + std::to_string(to.port));
    if (later) return log.waiting.push_back(std::move(done));
    done({}, connected_to(l.ctx, server.port()));
    done({}, connected_to(l.ctx, server.port()));  // without effect
  });
  int got = 0;
  s.on_event([&](const sse::event&) { ++got; });
  s.start();
  if (later) {
    l.until([&] { return log.waiting.size() == 1; });
    log.waiting[0]({}, connected_to(l.ctx, server.port()));
  }
  l.until([&] { return got == 2; });
  CHECK(log.asked == std::vector<std::string>{"no.such.host.test:81"});
  CHECK(s.origin() == "http://no.such.host.test:81");
}

TEST_CASE("client: a dialer's error is the cause, and the next attempt asks again") {
  test::loop l;
  dial_log log;
  sse::asio_event_source<> s{l.ctx, "http://h.test/", at_once()};
  s.on_dial([&](const sse::dial_request&, auto done) {
    log.asked.emplace_back();
    done(std::make_error_code(std::errc::host_unreachable), asio::ip::tcp::socket{l.ctx});
  });
  std::vector<std::error_code> causes;
  s.on_error([&](const sse::client_failure& f) {
    CHECK(f.error == sse::client_error::connect);
    causes.push_back(f.cause);
    if (causes.size() == 3) s.close();
  });
  s.start();
  l.to_the_end();
  CHECK(log.asked.size() == 3);
  CHECK(causes[2] == std::errc::host_unreachable);
}

TEST_CASE("client: a dialer may take too long, forget it, or answer when nobody asks any more") {
  test::raw_server server{serve_two};
  test::loop l;
  dial_log log;
  sse::asio_client_options o = at_once();
  o.client.connect_timeout = sse::duration::milliseconds(20);
  std::optional<sse::asio_event_source<>> s{std::in_place, l.ctx, "http://h.test/", o};
  s->on_dial([&](const sse::dial_request&, auto done) { log.waiting.push_back(std::move(done)); });
  int timeouts = 0;
  s->on_error([&](const sse::client_failure& f) {
    timeouts += f.error == sse::client_error::connect_timeout;
  });
  s->start();
  l.until([&] { return timeouts == 2 && log.waiting.size() == 3; });
  log.waiting[0]({}, connected_to(l.ctx, server.port()));  // of an attempt that is over
  log.waiting[1] = {};
  SECTION("closed") { s->close(); }
  SECTION("destroyed") { s.reset(); }
  log.waiting[2]({}, connected_to(l.ctx, server.port()));
  log.waiting.clear();
  l.to_the_end();
  if (s) CHECK(s->state() == sse::client_state::closed);
}

// --- proxies -------------------------------------------------------------------------------------

TEST_CASE("client: https through a proxy's tunnel, http by its whole URL") {
  std::vector<std::string> asked;
  test::raw_server proxy{[&](test::peer& p) {
    const std::string first = p.request();
    if (first.empty()) return;
    asked.push_back(first.substr(0, first.find(" HTTP")));
    if (first.starts_with("CONNECT")) {
      p.send_bytewise("HTTP/1.1 200 Connection established\r\nContent-Length: 9\r\n\r\n");
      if (!p.skip(1)) return;
      p.send("!");  // the handshake, which is with the server
      const std::string second = p.request();
      asked.push_back(second.substr(0, second.find(" HTTP")));
    }
    p.send(test::stream_head);
    p.send("data: x\n\n");
    p.wait_for_end();
  }};
  const std::string url_of_proxy = "http://127.0.0.1:" + std::to_string(proxy.port());
  sse::asio_client_options o = at_once();
  o.client.proxy = {.http = url_of_proxy, .https = url_of_proxy};
  std::vector<std::string> hosts;
  for (const std::string scheme : {"https", "http"}) {
    test::loop l;
    sse::asio_event_source<test::layer> s{l.ctx, scheme + "://no.such.host.test/x", o,
                                          [&](asio::ip::tcp::socket t, const std::string& host) {
                                            hosts.push_back(host);
                                            return test::layer{std::move(t)};
                                          }};
    int got = 0;
    s.on_event([&](const sse::event&) { ++got; });
    s.start();
    l.until([&] { return got == 1; });
  }
  CHECK(asked == std::vector<std::string>{"CONNECT no.such.host.test:443", "GET /x",
                                          "GET http://no.such.host.test/x"});
  CHECK(hosts == std::vector<std::string>{"no.such.host.test"});  // whom TLS checks
}

TEST_CASE("client: a proxy that refuses, ends, or says too much") {
  const auto meets = [](std::string_view answer) {
    test::raw_server proxy{[&](test::peer& p) {
      if (!p.request().empty()) p.send(answer);
    }};
    const std::string url_of_proxy = "http://127.0.0.1:" + std::to_string(proxy.port());
    sse::asio_client_options o = at_once();
    o.client.proxy.https = url_of_proxy;
    test::loop l;
    sse::asio_event_source<test::layer> s{
        l.ctx, "https://h.test/", o,
        [](asio::ip::tcp::socket t, const std::string&) { return test::layer{std::move(t)}; }};
    sse::client_failure got;
    s.on_error([&](const sse::client_failure& f) {
      got = f;
      s.close();
    });
    s.start();
    l.to_the_end();
    CHECK(got.error == sse::client_error::proxy);
    return got;
  };
  CHECK(meets("HTTP/1.1 407 x\r\n\r\n").final);
  CHECK_FALSE(meets("HTTP/1.1 503 x\r\n\r\n").final);
  CHECK_FALSE(meets("").final);
  CHECK_FALSE(meets("HTTP/1.1 200 OK\r\n\r\n!").final);
}

TEST_CASE("client: a proxy is dialled, and plain sockets make no tunnel", "[surface]") {
  test::loop l;
  sse::asio_client_options o = at_once();
  o.client.proxy = {.http = "http://p.test:3128", .https = "http://p.test:3128"};
  std::vector<std::string> asked;
  sse::asio_event_source<> s{l.ctx, "http://h.test/", o};
  s.on_dial([&](const sse::dial_request& to, auto done) {
    asked.push_back(std::string{to.host} + ":" + std::to_string(to.port));
    done(std::make_error_code(std::errc::connection_refused), asio::ip::tcp::socket{l.ctx});
  });
  sse::client_failure got;
  s.on_error([&](const sse::client_failure& f) {
    got = f;
    s.close();
  });
  s.start();
  l.to_the_end();
  CHECK(asked == std::vector<std::string>{"p.test:3128"});
  CHECK(got.at_proxy);
  CHECK(failure_of("https://h.test/", o).error == sse::client_error::tls);
}

TEST_CASE("client: the environment's proxies") {
  const auto read = [](const std::vector<std::pair<const char*, const char*>>& variables) {
    std::vector<std::unique_ptr<test::variable>> set;
    for (const char* name : {"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy",
                             "NO_PROXY", "REQUEST_METHOD"}) {
      const char* value = nullptr;
      for (const auto& [n, v] : variables) value = std::string_view{n} == name ? v : value;
      set.push_back(std::make_unique<test::variable>(name, value));
    }
    const sse::proxy_environment e = sse::proxy_from_environment();
    return e.http + "|" + e.https + "|" + e.except;
  };
  CHECK(read({}) == "||");
  CHECK(read({{"HTTP_PROXY", "http://a:1"}, {"HTTPS_PROXY", "b:2"}, {"NO_PROXY", "c,d"}}) ==
        "http://a:1|http://b:2|c,d");
  CHECK(read({{"http_proxy", "http://a:1"}, {"HTTP_PROXY", "http://b:2"}}) == "http://a:1||");
  CHECK(read({{"https_proxy", ""}, {"HTTPS_PROXY", "u:p@b"}}) == "|http://u:p@b|");
  CHECK(read({{"HTTP_PROXY", "http://evil"}, {"REQUEST_METHOD", "GET"}}) == "||");
  CHECK(read({{"http_proxy", "http://a"}, {"REQUEST_METHOD", "GET"}}) == "http://a||");
  CHECK(read({{"https_proxy", "socks5://a"}}) == "|socks5://a|");  // refused when it is used
}
