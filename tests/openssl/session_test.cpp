// tls::context and tls::session by themselves: what cannot be loaded, loops of one's own, memory.
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/epoll_transport.hpp>
#include <sse/openssl.hpp>
#include <sse/testing.hpp>

#include "catch.hpp"
#include "http_client.hpp"
#include "openssl/certificate.hpp"
#include "openssl/wire.hpp"

namespace {

using sse::tls::step;
using test::tls_wire;

}  // namespace

TEST_CASE("TLS: what cannot be loaded is named, with the cause and what to do") {
  const test::certificate_folder folder;
  folder.make("good");
  folder.make("other");
  folder.make("locked", "pass");
  std::ofstream{folder.file("text")} << "hello\n";
  const auto message = [&](const char* certificate, const char* key) {
    sse::tls::context c{{.certificate = folder.file(certificate), .key = folder.file(key)}};
    return c.load().message;
  };
  const auto file = [&](const char* name) { return folder.file(name); };
  CHECK(message("good.crt", "good.key").empty());
  CHECK(message("none", "good.key") ==
        "certificate " + file("none") + ": No such file or directory");
  CHECK(message("good.crt", "none") == "key " + file("none") + ": No such file or directory");
  CHECK(message("text", "good.key") ==
        "certificate " + file("text") +
            ": no start line; it must be PEM: -----BEGIN CERTIFICATE-----, the server's own first");
  CHECK(message("good.crt", "other.key") == "key " + file("other.key") +
                                                " is not that of certificate " + file("good.crt") +
                                                ": name the pair that belongs together");
  const std::string locked = message("locked.crt", "locked.key");
  CHECK(locked.starts_with("key " + file("locked.key") + ": "));
  CHECK(locked.ends_with("PEM without a passphrase: -----BEGIN PRIVATE KEY-----"));
  CHECK(sse::tls::context{{}}.load().message ==
        "certificate (no file was named): No such file or directory");
  sse::tls::context refused{{.certificate = file("good.crt"),
                             .key = file("good.key"),
                             .configure = [](SSL_CTX*) { return false; }}};
  CHECK(refused.load().message == "tls::options::configure refused the context");
  CHECK_THROWS_AS((sse::tls::session{refused, 0}), std::runtime_error);
}

TEST_CASE("TLS: versions and tickets are what the options say") {
  const test::certificate_folder folder;
  folder.make("good");
  for (const bool tickets : {true, false}) {
    for (const bool tls_1_2 : {true, false}) {
      CAPTURE(tickets, tls_1_2);
      bool asked = false;
      sse::tls::context c{{.certificate = folder.file("good.crt"),
                           .key = folder.file("good.key"),
                           .tickets = tickets,
                           .tls_1_2 = tls_1_2,
                           .configure = [&](SSL_CTX* made) {
                             asked = true;
                             CHECK(SSL_CTX_get_num_tickets(made) == (tickets ? 1U : 0U));
                             CHECK(((SSL_CTX_get_options(made) & SSL_OP_NO_TICKET) == 0) ==
                                   tickets);
                             CHECK(SSL_CTX_get_min_proto_version(made) ==
                                   (tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION));
                             // Clients keep them: a server has no memory of those that left.
                             CHECK(SSL_CTX_get_session_cache_mode(made) == SSL_SESS_CACHE_OFF);
                             return true;
                           }}};
      CHECK_FALSE(c.load());
      CHECK(asked);
    }
  }
  CHECK(sse::tls::context::reason(0) == "OpenSSL gives no reason: memory may be out");
  const unsigned long unknown = ERR_PACK(ERR_LIB_USER, 0, 77);
  CHECK(sse::tls::context::reason(unknown) == "error " + std::to_string(unknown));
}

TEST_CASE("TLS: loading again and again keeps no file open") {
  const test::certificate_folder folder;
  folder.make("good");
  const auto open_ones = [] {
    const std::filesystem::directory_iterator all{"/proc/self/fd"};
    return std::distance(begin(all), end(all));
  };
  sse::tls::context c{{.certificate = folder.file("good.crt"), .key = folder.file("good.key")}};
  CHECK_FALSE(c.load());
  const auto before = open_ones();
  for (int i = 0; i < 10; ++i) CHECK_FALSE(c.load());
  CHECK(open_ones() == before);
}

TEST_CASE("TLS: a loop of one's own: requests, answers, records that have no room, goodbye") {
  tls_wire w;
  sse::tls::session near{test::tls_of_tests().context, w.ends[0]};
  CHECK(near.handshake() == step::want_read);
  REQUIRE(w.shake_hands(near) == step::done);
  char in[100];
  CHECK(near.read(in).next == step::want_read);
  REQUIRE(SSL_write(w.far.get(), "hello", 5) == 5);
  CHECK(near.read(in).bytes == 5);
  CHECK(std::string_view(in, 5) == "hello");

  std::string sent;
  std::string got;
  sse::tls::session::result r;
  const std::string block(20'000, 'b');
  while (r.next == step::done) {
    r = near.write(block);
    sent.append(block, 0, r.bytes);
    CHECK(r.bytes == sse::tls::session::max_record);
  }
  CHECK(r.next == step::want_write);
  CHECK(near.held() != 0);
  CHECK(near.write("other").next == step::want_write);
  CHECK(near.write("other").bytes == 0);
  for (int i = 0; i < 100 && near.flush() == step::want_write; ++i) got += w.read();
  CHECK(near.held() == 0);
  CHECK(near.write("other").bytes == 5);
  got += w.read();
  CHECK((got == sent + "other"));
  near.shutdown();
  CHECK(near.write("x").next == step::closed);
  CHECK(w.read().empty());
  CHECK((SSL_get_shutdown(w.far.get()) & SSL_RECEIVED_SHUTDOWN) != 0);
  ::close(w.ends[0]);
}

TEST_CASE("TLS: a goodbye waits behind what has no room, and then nothing is read any more") {
  tls_wire w;
  sse::tls::session near{test::tls_of_tests().context, w.ends[0]};
  CHECK(near.shutdown() == step::closed);  // nobody to say it to
  CHECK(near.handshake() == step::want_read);
  REQUIRE(w.shake_hands(near) == step::done);
  std::string sent;
  const std::string block(10'000, 'b');
  while (near.held() == 0) sent.append(block, 0, near.write(block).bytes);
  CHECK(near.shutdown() == step::want_write);
  CHECK(near.shutdown() == step::want_write);
  std::string got;
  for (int i = 0; i < 100 && near.shutdown() == step::want_write; ++i) got += w.read();
  got += w.read();
  CHECK((got == sent));
  CHECK(near.shutdown() == step::done);
  CHECK((SSL_get_shutdown(w.far.get()) & SSL_RECEIVED_SHUTDOWN) != 0);

  REQUIRE(::send(w.ends[1], "whatever", 8, 0) == 8);
  char in[100];
  const sse::tls::session::result r = near.read(in);
  CHECK(r.bytes == 0);
  CHECK(r.next == step::done);
  CHECK(near.read(in).next == step::want_read);
  ::shutdown(w.ends[1], SHUT_WR);
  for (const int left : {EAGAIN, EINTR}) {  // by a call of somebody else's
    errno = left;
    CHECK(near.read(in).next == step::closed);
  }
  ::close(w.ends[0]);
}

TEST_CASE("TLS: a loop that sends by itself gets what waited once, in front of what it writes") {
  tls_wire w;
  sse::tls::session near{test::tls_of_tests().context, w.ends[0]};
  REQUIRE(w.shake_hands(near) == step::done);
  const std::string block(10'000, 'b');
  std::string sent;
  while (near.held() == 0) sent.append(block, 0, near.write(block).bytes);
  near.hold(true);
  CHECK(near.flush() == step::done);  // nothing that it does
  CHECK(near.held() != 0);
  std::string got = w.read();
  for (const std::string_view text : {"one", "two"}) {
    std::string out;
    const sse::tls::session::result r = near.write(text, out);
    CHECK(r.bytes == 3);
    CHECK(r.next == step::done);
    CHECK(near.held() == 0);
    REQUIRE(::send(w.ends[0], out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()));
    sent += text;
    got += w.read();
  }
  near.hold(false);
  CHECK(near.write("three").next == step::done);
  got += w.read();
  CHECK((got == sent + "three"));
  ::close(w.ends[0]);
}

TEST_CASE("TLS: who writes to a peer that is gone is told so, whatever it did before") {
  std::string out;
  const bool own = GENERATE(false, true);  // it sends by itself
  CAPTURE(own);
  tls_wire w;
  sse::tls::session near{test::tls_of_tests().context, w.ends[0]};
  REQUIRE(w.shake_hands(near) == step::done);
  char in[100];
  CHECK(near.read(in).next == step::want_read);
  ::close(std::exchange(w.ends[1], -1));
  near.hold(own);
  if (!own) {
    CHECK(near.write("x").next == step::closed);
    CHECK(near.write("x").next == step::closed);
    CHECK(near.flush() == step::closed);
    CHECK(near.shutdown() == step::closed);
  }
  CHECK(near.read(in).next == step::closed);
  CHECK(near.write("x", out).next == step::closed);
  CHECK(out.empty());
  CHECK(near.shutdown() == step::closed);  // nobody to say it to any more
  ::close(w.ends[0]);
}

TEST_CASE("TLS: who does not send what it took has no more than its bound") {
  tls_wire w;
  sse::tls::session near{test::tls_of_tests().context, w.ends[0]};
  REQUIRE(w.shake_hands(near) == step::done);
  std::string out;
  step last = step::done;
  while (last == step::done && out.size() < 2 * sse::tls::session::max_held)
    last = near.write(std::string(5000, 'x'), out).next;
  CHECK(last == step::closed);
  CHECK(out.size() <= sse::tls::session::max_held);
  CHECK(out.size() > sse::tls::session::max_held - 6000);
  CHECK(near.flush() == step::closed);  // what was lost cannot be left out
  CHECK(near.write("x").next == step::closed);
  ::close(w.ends[0]);
}

TEST_CASE("TLS: who asks for the client's certificate resumes sessions too") {
  const test::certificate_folder folder;
  folder.make("good");
  sse::tls::options o = folder.options("good");
  o.configure = [](SSL_CTX* made) {
    SSL_CTX_set_verify(made, SSL_VERIFY_PEER, nullptr);
    return true;
  };
  sse::tls::context c{std::move(o)};
  REQUIRE_FALSE(c.load());
  SSL_SESSION* ticket = nullptr;
  for (const bool again : {false, true}) {
    CAPTURE(again);
    tls_wire w;
    SSL_set_max_proto_version(w.far.get(), TLS1_2_VERSION);
    if (ticket != nullptr) SSL_set_session(w.far.get(), ticket);
    sse::tls::session near{c, w.ends[0]};
    CHECK(w.shake_hands(near) == step::done);
    CHECK(SSL_session_reused(w.far.get()) == (again ? 1 : 0));
    SSL_SESSION_free(ticket);
    ticket = SSL_get1_session(w.far.get());
    SSL_shutdown(w.far.get());  // or it is no more to be resumed
    ::close(w.ends[0]);
  }
  SSL_SESSION_free(ticket);
}

TEST_CASE("TLS: nothing to write writes nothing") {
  tls_wire w;
  sse::tls::session near{test::tls_of_tests().context, w.ends[0]};
  REQUIRE(w.shake_hands(near) == step::done);
  (void)w.read();  // tickets
  const sse::tls::session::result r = near.write({});
  CHECK(r.bytes == 0);
  CHECK(r.next == step::done);
  char in[100];
  CHECK(::recv(w.ends[1], in, sizeof in, MSG_DONTWAIT) < 0);
  ::close(w.ends[0]);
}

TEST_CASE("TLS: errors that others left in OpenSSL's queue are not taken for a session's own",
          "[surface]") {
  // SSL_get_error looks at the oldest one that the thread has, whosever it is.
  const auto leave = [] {
    for (int i = 0; i < 3; ++i) ERR_raise(ERR_LIB_USER, 77 + i);
  };
  char in[100];
  tls_wire w;
  sse::tls::session near{test::tls_of_tests().context, w.ends[0]};
  leave();
  CHECK(near.handshake() == step::want_read);
  CHECK(ERR_peek_error() == 0);
  REQUIRE(w.shake_hands(near) == step::done);
  leave();
  CHECK(near.read(in).next == step::want_read);
  REQUIRE(SSL_write(w.far.get(), "hello", 5) == 5);
  leave();
  CHECK(near.read(in).bytes == 5);
  leave();
  CHECK(near.write("hi").next == step::done);
  CHECK(w.read() == "hi");
  ERR_clear_error();  // the far end's
  leave();
  near.shutdown();
  CHECK(w.read().empty());
  CHECK((SSL_get_shutdown(w.far.get()) & SSL_RECEIVED_SHUTDOWN) != 0);
  ::close(w.ends[0]);
  ERR_clear_error();

  // What fails says its own reason.
  tls_wire plain;
  sse::tls::session refusing{test::tls_of_tests().context, plain.ends[0]};
  const std::string_view request = "GET / HTTP/1.1\r\n\r\n";
  REQUIRE(::send(plain.ends[1], request.data(), request.size(), 0) ==
          static_cast<ssize_t>(request.size()));
  leave();
  CHECK(refusing.handshake() == step::failed);
  CHECK(refusing.met_plain_http());
  CHECK(refusing.reason() == "http request");
  ::close(plain.ends[0]);
  ERR_clear_error();

  tls_wire nonsense;
  sse::tls::session other{test::tls_of_tests().context, nonsense.ends[0]};
  REQUIRE(::send(nonsense.ends[1], "\x17\x03\x01\x00\x05hello", 10, 0) == 10);
  CHECK(other.handshake() == step::failed);
  CHECK_FALSE(other.met_plain_http());
  CHECK_FALSE(other.reason().empty());
  CHECK(other.handshake() != step::done);
  ::close(nonsense.ends[0]);
  ERR_clear_error();
}

TEST_CASE("TLS: check_transport finds nothing wrong with it, though OpenSSL forbids other bytes",
          "[surface]") {
  const sse::detail::unique_fd epoll{::epoll_create1(0)};
  sse::tls::epoll_transport net{epoll.get(), &test::tls_of_tests().context};
  tls_wire w;
  auto c = net.adopt(w.ends[0]);
  REQUIRE(w.shake_hands(c.layer()) == step::done);
  const auto report = sse::testing::check_transport(net, c, [&] {
    std::string got = w.read();
    (void)c.layer().flush();  // as when the loop says that there is room
    return got;
  });
  CHECK(report.problem == "");

  // The same by OpenSSL alone.
  struct bare : sse::tls::epoll_transport {
    using basic_epoll_transport::basic_epoll_transport;
    sse::write_result write(connection&, std::span<const sse::buffer> bytes) noexcept {
      std::size_t n = 0;
      const int r = SSL_write_ex(ssl, bytes[0].data, bytes[0].size, &n);
      if (r == 1) return {n, sse::flow::ready};
      const bool full = SSL_get_error(ssl, r) == SSL_ERROR_WANT_WRITE;
      ERR_clear_error();
      return {0, full ? sse::flow::blocked : sse::flow::closed};
    }
    SSL* ssl = nullptr;
  } naive{epoll.get()};
  tls_wire x;
  const std::unique_ptr<SSL, void (*)(SSL*)> ssl{test::tls_of_tests().context.make_ssl(),
                                                 &SSL_free};
  SSL_set_fd(ssl.get(), x.ends[0]);
  SSL_set_accept_state(ssl.get());
  for (int i = 0; i < 5; ++i) {
    (void)SSL_do_handshake(x.far.get());
    (void)SSL_do_handshake(ssl.get());
  }
  REQUIRE(SSL_is_init_finished(ssl.get()) == 1);
  ERR_clear_error();
  naive.ssl = ssl.get();
  auto d = naive.adopt(x.ends[0]);
  CHECK(sse::testing::check_transport(naive, d, [&] { return x.read(); }).problem ==
        "write answered closed to other bytes than those it had not taken");
}

TEST_CASE("TLS: without a context connections are plain") {
  const sse::detail::unique_fd epoll{::epoll_create1(0)};
  sse::tls::epoll_transport net{epoll.get()};
  CHECK_FALSE(net.adopts_secure());
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  auto c = net.adopt(ends[0]);
  CHECK_FALSE(c.layer());
  const sse::buffer bytes{"plain", 5};
  CHECK(net.write(c, {&bytes, 1}).bytes == 5);
  char got[6] = {};
  CHECK(::read(ends[1], got, 5) == 5);
  CHECK(std::string{got} == "plain");
  ::close(ends[1]);
}

#if !defined(SSEHUB_TEST_ASAN) && !defined(SSEHUB_TEST_TSAN)
TEST_CASE("TLS: 1,000 idle sessions at once hold at most 20 kB of heap each") {
  const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
  constexpr std::size_t n = 1001;
  REQUIRE(test::allow_descriptors(2 * n + 100));
  std::vector<std::unique_ptr<tls_wire>> wires;
  for (std::size_t i = 0; i < n; ++i) {
    wires.push_back(std::make_unique<tls_wire>());
    SSL_set_max_proto_version(wires.back()->far.get(), version);
  }
  std::vector<sse::tls::session> near;
  near.reserve(n);
  const auto open = [&](std::size_t i) {
    near.emplace_back(test::tls_of_tests().context, wires[i]->ends[0]);
    // What the client's end takes meanwhile is not counted.
    std::size_t own = 0;
    step s = step::want_read;
    for (int k = 0; k < 10 && (s == step::want_read || !SSL_is_init_finished(wires[i]->far.get()));
         ++k) {
      const std::size_t before = ::mallinfo2().uordblks;
      (void)SSL_do_handshake(wires[i]->far.get());
      own += ::mallinfo2().uordblks - before;
      if (s == step::want_read) s = near.back().handshake();
    }
    REQUIRE(s == step::done);
    char in[1];
    CHECK(near.back().read(in).next == step::want_read);
    CHECK(near.back().write("data: x\n\n").bytes == 9);
    return own;
  };
  (void)open(0);
  const std::size_t before = ::mallinfo2().uordblks;
  std::size_t clients = 0;
  for (std::size_t i = 1; i < n; ++i) clients += open(i);
  const std::size_t each = (::mallinfo2().uordblks - before - clients) / (n - 1);
  CAPTURE(version, each);
  CHECK(each <= 20'000);
  for (const auto& w : wires) ::close(w->ends[0]);
}
#endif
