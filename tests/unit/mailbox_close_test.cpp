// close() of a mailbox waits for a wake call that is under way, and ends when that does. What
// breaks this hangs: the test's time limit is the check.
#include <atomic>
#include <chrono>
#include <thread>

#include <sse/mailbox.hpp>

#include "catch.hpp"

namespace {

/// A host whose wake takes until the mailbox is being closed, and a while longer.
struct slow_host {
  std::atomic<sse::publisher*> watched{nullptr};
  std::atomic<bool> inside{false};
  std::atomic<bool> over{false};

  static void wake(void* self) noexcept {
    auto& h = *static_cast<slow_host*>(self);
    h.inside.store(true);
    while (*h.watched.load()) std::this_thread::yield();
    // no event says that close() sleeps by now
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    h.over.store(true);
  }
};

TEST_CASE("close of a mailbox returns once the wake call that is under way is over", "[mailbox]") {
  for (int round = 0; round < 5; ++round) {
    slow_host host;
    sse::mailbox box{{.wake = &slow_host::wake, .context = &host}};
    sse::publisher p = box.make_publisher(1);
    sse::publisher watched = box.make_publisher(2);
    host.watched.store(&watched);
    REQUIRE(box.prepare_sleep());
    std::thread other{[&] { (void)p.try_publish("x"); }};
    while (!host.inside.load()) std::this_thread::yield();
    CHECK_FALSE(host.over.load());
    box.close();
    CHECK(host.over.load());
    other.join();
    CHECK(box.drain([](const sse::mail&) {}) == 1);
    CHECK(p.try_publish("y") == sse::publish_error::closed);
    box.close();  // once more: nothing to wait for
  }
}

}  // namespace
