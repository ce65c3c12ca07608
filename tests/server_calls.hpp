// What tests do with a server that runs in a thread of its own.
#pragma once

#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>

#include <sse/sse.hpp>

#include "http_client.hpp"

namespace test {

/// `Self` derives from it, has on_loop(f), which runs f() in the server's thread, and operator->.
template <class Self>
class server_calls {
 public:
  /// Waits until f(), in the server's thread, is true; false: it never was.
  template <class F>
  [[nodiscard]] bool eventually(F f) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!self().on_loop(f)) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }

  sse::channel open(std::string_view name, sse::channel_options o = {}) {
    return self().on_loop(
        [&]() -> sse::channel { return self()->open_channel(name, std::move(o)); });
  }
  /// Publishes, and waits until it was.
  sse::event_id publish(sse::channel c, std::string_view data) {
    return self().on_loop([&] {
      const sse::publish_result r = self()->publish(c, {.data = data});
      if (!r) throw std::runtime_error("refused");
      return r.id;
    });
  }
  [[nodiscard]] std::size_t sessions() {
    return self().on_loop([&] { return self()->hub().sessions(); });
  }

 private:
  Self& self() noexcept { return static_cast<Self&>(*this); }
};

}  // namespace test
