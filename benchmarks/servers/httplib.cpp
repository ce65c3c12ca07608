// cpp-httplib as its own event-stream example does it: a thread per connection, woken by a
// condition variable.
#include <httplib.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "common.hpp"

namespace {

struct event_log {
  std::mutex mutex;
  std::condition_variable grown;
  std::vector<std::shared_ptr<const std::string>> frames;
  bool over = false;

  void append(std::string frame, bool last) {
    {
      const std::lock_guard hold{mutex};
      frames.push_back(std::make_shared<const std::string>(std::move(frame)));
      over = last;
    }
    grown.notify_all();
  }
  /// Waits for frame number `at`; empty at the end.
  std::shared_ptr<const std::string> wait(std::size_t at) {
    std::unique_lock hold{mutex};
    grown.wait(hold, [&] { return frames.size() > at || over; });
    return frames.size() > at ? frames[at] : nullptr;
  }
};

}  // namespace

int main(int argc, char** argv) {
  const bench::options o = bench::read_options(argc, argv);
  event_log events;
  std::atomic<std::size_t> open{0};
  std::atomic<std::uint64_t> writes{0};
  httplib::Server server;
  server.new_task_queue = [&] { return new httplib::ThreadPool(o.connections + 16); };
  server.set_tcp_nodelay(true);
  server.Get("/", [&](const httplib::Request&, httplib::Response& response) {
    auto at = std::make_shared<std::size_t>(events.frames.size());
    response.set_content_provider(
        "text/event-stream",
        [&, at](std::size_t, httplib::DataSink& sink) {
          const auto frame = events.wait((*at)++);
          if (frame == nullptr) return false;
          ++writes;
          return sink.write(frame->data(), frame->size());
        },
        [&](bool) { --open; });
    ++open;
  });
  const int port = o.port != 0 ? o.port : server.bind_to_any_port("127.0.0.1");
  bench::say_port(static_cast<unsigned>(port));
  std::thread listener{
      [&] { o.port != 0 ? server.listen("127.0.0.1", port) : server.listen_after_bind(); }};

  while (open < o.connections) std::this_thread::sleep_for(std::chrono::milliseconds{10});
  std::this_thread::sleep_for(std::chrono::milliseconds{100});
  bench::pacer pace{o.rate, o.seconds};
  bench::payload data{o.size};
  pace.start();
  while (!pace.over()) {
    pace.due(
        [&](std::uint64_t n, std::int64_t t) {
          events.append(bench::make_frame(n, "tick", data.make(n, t)), false);
        },
        writes >= pace.published() * o.connections);
    if (pace.over()) break;
    const std::int64_t next = pace.next();
    if (next == 0) {
      std::this_thread::yield();
    } else {
      const timespec until{next / 1'000'000'000, next % 1'000'000'000};
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
    }
  }
  const std::uint64_t last = pace.published() + 1;
  events.append(bench::make_frame(last, "end", data.make(last, bench::now_ns())), true);
  while (open > 0) std::this_thread::sleep_for(std::chrono::milliseconds{10});
  server.stop();
  listener.join();
  bench::report(pace.published(), writes);
}
