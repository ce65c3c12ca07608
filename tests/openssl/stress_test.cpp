// TLS under load from many threads: handshakes, streams, publishers, another certificate.
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <sse/openssl.hpp>

#include "catch.hpp"
#include "openssl/certificate.hpp"
#include "openssl/hosts.hpp"

TEST_CASE("TLS: handshakes, publishing and reloading at once: every stream whole and in order",
          "[threads]") {
  test::on_each_host([]<class Host>() {
    constexpr int clients = 4;
    constexpr int streams = 12;  // of each, one after another
    test::tls_server<Host> s;
    std::atomic<int> running{clients};
    std::atomic<int> wrong{0};
    sse::publisher lane = s.on_loop([&] { return s->make_publisher(s.ticks); });
    std::vector<std::thread> threads;
    for (int i = 0; i < clients; ++i) {
      threads.emplace_back([&] {
        for (int k = 0; k < streams; ++k) {
          test::client c = test::tls_client(s.port());
          if (c.open("/events").status != 200) ++wrong;
          std::uint64_t before = 0;
          for (int n = 0; n < 5; ++n) {
            const std::string frame = c.frame();
            const std::uint64_t id = test::id_of(frame);
            if (id == 0 || (before != 0 && id != before + 1)) ++wrong;
            before = id;
          }
          if (k % 3 == 0) c.reset();
        }
        --running;
      });
    }
    threads.emplace_back([&] {
      const std::string data(300, 'x');
      while (running != 0) {
        if (!lane.try_publish({.data = data})) continue;
        std::this_thread::yield();
      }
    });
    threads.emplace_back([&] {
      while (running != 0) {
        if (test::tls_of_tests().context.load()) ++wrong;
      }
    });
    for (std::thread& t : threads) t.join();
    CHECK(wrong == 0);
    CHECK(s.eventually([&] { return s->hub().sessions() == 0; }));
    CHECK(s.on_loop([&] { return s.errors; }).empty());
  });
}
