// TLS where memory is out: each allocation of OpenSSL, and each of our own, fails in its turn. The
// session ends with a reason, nothing is lost but that session.
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

#include <sse/openssl.hpp>

#include "allocations.hpp"
#include "catch.hpp"
#include "openssl/certificate.hpp"
#include "openssl/hosts.hpp"
#include "openssl/wire.hpp"

namespace {

/// OpenSSL's allocations, of all threads of this program.
std::atomic<std::int64_t> openssl_blocks{0};
thread_local std::uint64_t openssl_asked = 0;
thread_local std::uint64_t openssl_fails_from = UINT64_MAX;
thread_local std::uint64_t openssl_fails_until = 0;
thread_local bool openssl_counts = false;
thread_local bool openssl_failed = false;

bool openssl_gets_none() noexcept {
  if (!openssl_counts) return false;
  const std::uint64_t number = openssl_asked++;
  const bool fails = number >= openssl_fails_from && number < openssl_fails_until;
  openssl_failed = openssl_failed || fails;
  return fails;
}
void* openssl_allocates(std::size_t size, const char*, int) noexcept {
  if (size == 0 || openssl_gets_none()) return nullptr;
  void* const p = std::malloc(size);
  openssl_blocks += p != nullptr ? 1 : 0;
  return p;
}
void openssl_frees(void* p, const char*, int) noexcept {
  openssl_blocks -= p != nullptr ? 1 : 0;
  std::free(p);
}
void* openssl_reallocates(void* p, std::size_t size, const char* file, int line) noexcept {
  if (p == nullptr) return openssl_allocates(size, file, line);
  if (size == 0) {
    openssl_frees(p, file, line);
    return nullptr;
  }
  return openssl_gets_none() ? nullptr : std::realloc(p, size);
}
/// Before OpenSSL's first allocation, or it refuses.
const bool openssl_is_counted =
    CRYPTO_set_mem_functions(&openssl_allocates, &openssl_reallocates, &openssl_frees) == 1;

/// In this thread the allocation `n` and those after it, `how_many` in all, fail. They count only
/// between go_on() and pause(), since the other end of a test's connection has its own.
class failing_openssl {
 public:
  failing_openssl(std::uint64_t n, std::uint64_t how_many) noexcept {
    openssl_asked = 0;
    openssl_fails_from = n;
    openssl_fails_until = how_many < UINT64_MAX - n ? n + how_many : UINT64_MAX;
    openssl_failed = false;
  }
  failing_openssl(const failing_openssl&) = delete;
  failing_openssl& operator=(const failing_openssl&) = delete;
  ~failing_openssl() { openssl_counts = false; }
  static void go_on() noexcept { openssl_counts = true; }
  static void pause() noexcept { openssl_counts = false; }
  [[nodiscard]] static bool hit() noexcept { return openssl_failed; }
};

/// The same of operator new, which the other end does not call.
class failing_new : public test::failing_allocations {
 public:
  using test::failing_allocations::failing_allocations;
  static void go_on() noexcept {}
  static void pause() noexcept {}
};

struct life_of_session {
  bool hit = false;
  bool whole = false;  // it came to its own end
  bool threw = false;
  std::string reason{};  // why a step failed
};

/// A session from its birth to its end: handshake, a request, more than the socket takes, goodbye.
template <class Failing>
life_of_session live(std::uint64_t n, std::uint64_t how_many) {
  using sse::tls::step;
  test::tls_wire wire;
  const std::unique_ptr<const int, void (*)(const int*)> closes{
      &wire.ends[0], [](const int* fd) { ::close(*fd); }};
  static char bytes[65536];
  const auto far_reads = [&] {
    while (SSL_read(wire.far.get(), bytes, sizeof bytes) > 0) {
    }
  };
  life_of_session out;
  sse::tls::session near;
  step last = step::want_read;
  {
    Failing some{n, how_many};
    const auto lives = [&] {
      some.go_on();
      near = sse::tls::session{test::tls_of_tests().context, wire.ends[0]};
      some.pause();
      for (int i = 0; i < 10 && last == step::want_read; ++i) {
        (void)SSL_do_handshake(wire.far.get());
        some.go_on();
        last = near.handshake();
        some.pause();
      }
      if (last != step::done) return;
      (void)SSL_do_handshake(wire.far.get());
      (void)SSL_write(wire.far.get(), "GET", 3);
      some.go_on();
      last = near.read({bytes, sizeof bytes}).next;
      some.pause();
      if (last != step::done) return;
      for (int i = 0; i < 1000 && last == step::done; ++i) {
        some.go_on();
        last = near.write({bytes, 16384}).next;
        some.pause();
      }
      if (last != step::want_write) return;
      for (int i = 0; i < 10 && last == step::want_write; ++i) {
        far_reads();
        some.go_on();
        last = near.flush();
        some.pause();
      }
      some.go_on();
      near.shutdown();
      some.pause();
    };
    try {
      lives();
    } catch (const std::exception&) {
      out.threw = true;
    }
    some.pause();
    out.hit = some.hit();
  }
  far_reads();
  out.whole = !out.threw && last == step::done &&
              (SSL_get_shutdown(wire.far.get()) & SSL_RECEIVED_SHUTDOWN) != 0;
  if (last == step::failed) out.reason = near.reason();
  if (last == step::failed) CHECK_FALSE((out.reason.empty() || out.reason == "error 0"));
  return out;
}

/// All that this thread keeps for itself is given back.
std::int64_t blocks_left() {
  ERR_clear_error();
  OPENSSL_thread_stop();
  return openssl_blocks;
}

template <class Failing>
void fail_each(std::uint64_t how_many) {
  (void)live<Failing>(UINT64_MAX - 1, 0);  // what is made once
  bool hit = true;
  std::uint64_t failures = 0;
  for (std::uint64_t n = 0; hit; ++n) {
    CAPTURE(n, how_many);
    const std::int64_t before = blocks_left();
    const life_of_session l = live<Failing>(n, how_many);
    CHECK(blocks_left() == before);
    hit = l.hit;
    if (hit) ++failures;
    if (!hit) CHECK(l.whole);
  }
  CHECK(failures > 0);
  CHECK(live<Failing>(UINT64_MAX - 1, 0).whole);
}

}  // namespace

TEST_CASE("TLS: each allocation of OpenSSL fails, once or for good: the session ends, no other",
          "[allocation]") {
  REQUIRE(openssl_is_counted);
  fail_each<failing_openssl>(GENERATE(std::uint64_t{1}, UINT64_MAX));
}

#if TEST_ALLOCATIONS
TEST_CASE("TLS: each allocation of a session fails: it ends, and no other", "[allocation]") {
  fail_each<failing_new>(GENERATE(std::uint64_t{1}, UINT64_MAX));
}
#endif

TEST_CASE("TLS: a certificate for which there is no memory leaves the one that was there",
          "[allocation]") {
  test::certificate_folder folder;
  folder.make("one");
  sse::tls::context c{folder.options("one")};
  REQUIRE_FALSE(c.load());
  bool hit = true;
  for (std::uint64_t n = 0; hit; n += 3) {
    CAPTURE(n);
    const std::int64_t before = blocks_left();
    std::string message;
    {
      failing_openssl some{n, 1};
      some.go_on();
      message = c.load().message;
      some.pause();
      hit = some.hit();
    }
    if (!hit) CHECK(message.empty());
    SSL* const ssl = c.make_ssl();
    CHECK(ssl != nullptr);
    SSL_free(ssl);
    if (!message.empty()) CHECK(blocks_left() == before);
  }
}

TEST_CASE("TLS: a host whose OpenSSL has no memory says so, and serves the next", "[allocation]") {
  test::on_each_host([]<class Host>() {
    test::tls_server<Host> s;
    CHECK(test::tls_client(s.port()).get("/health").body == "ok");
    bool hit = true;
    int told = 0;
    for (std::uint64_t n = 0; hit; n += 5) {
      CAPTURE(n);
      s.on_loop([&] {
        openssl_asked = 0;
        openssl_fails_from = n;
        openssl_fails_until = n + 1;
        openssl_failed = false;
        openssl_counts = true;
        s.errors.clear();
      });
      std::string got;
      try {
        test::client c = test::tls_client(s.port());
        if (c.try_send(test::client::make("GET", "/health", "Connection: close\r\n"))) {
          got = c.rest();
        }
      } catch (const std::exception&) {  // no handshake
      }
      hit = s.on_loop([&] {
        openssl_counts = false;
        return openssl_failed;
      });
      REQUIRE(s.eventually([&] { return s->connections() == 0; }));
      if (got.empty()) told += s.on_loop([&] { return !s.errors.empty(); }) ? 1 : 0;
      if (!hit) CHECK(got.ends_with("ok"));
    }
    CHECK(told > 0);
    CHECK(test::tls_client(s.port()).get("/health").body == "ok");
  });
}
