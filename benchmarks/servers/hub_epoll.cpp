// The core over bare sockets: the same loop as the raw floor, with sse::hub instead of the raw log.
// The transport is the 20 lines that any engine with a loop of its own would write.
#include <limits.h>
#include <sys/uio.h>

#include <array>
#include <thread>
#include <vector>

#include <sse/http1.hpp>
#include <sse/mailbox.hpp>

#include "hub.hpp"
#include "loop.hpp"

namespace {

struct socket_transport {
  struct connection {
    int fd = -1;
  };

  sse::write_result write(connection& c, std::span<const sse::buffer> bytes) noexcept {
    std::array<iovec, 16> pieces;
    std::size_t total = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      pieces[i] = {const_cast<char*>(bytes[i].data), bytes[i].size};
      total += bytes[i].size;
    }
    msghdr m{};
    m.msg_iov = pieces.data();
    m.msg_iovlen = bytes.size();
    const ssize_t n = bytes.size() == 1
                          ? ::send(c.fd, bytes[0].data, bytes[0].size, MSG_NOSIGNAL | MSG_DONTWAIT)
                          : ::sendmsg(c.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) return {0, sse::flow::closed};
    const std::size_t took = n < 0 ? 0 : static_cast<std::size_t>(n);
    if (took == total) return {took, sse::flow::ready};
    ++blocked;
    return {took, sse::flow::blocked};
  }
  void opened(connection& c, sse::session_id id) {
    if (ids.size() <= static_cast<std::size_t>(c.fd))
      ids.resize(static_cast<std::size_t>(c.fd) + 1);
    ids[static_cast<std::size_t>(c.fd)] = id;
  }
  void close(connection&, sse::close_reason) noexcept {}

  std::vector<sse::session_id> ids;  // by fd
  std::size_t blocked = 0;
};

class server {
 public:
  explicit server(const bench::options& o)
      : options_{o},
        pacer_{o.rate, o.seconds},
        data_{o.size},
        hub_{net_, bench::hub_options()},
        loop_{*this, o.port},
        mail_{{.wake = [](void* self) noexcept { static_cast<server*>(self)->loop_.wake(); },
               .context = this,
               .mode = o.busy_poll ? sse::wake_mode::never : sse::wake_mode::when_idle}} {
    channel_ = hub_.open_channel("ticks", bench::channel_of(o));
    hub_.tick(std::chrono::steady_clock::now());
  }

  void run() {
    std::thread publisher;
    while (!ended_ || hub_.sessions() != 0) {
      if (options_.thread) {
        mail_.drain([&](const sse::mail& m) {
          (void)hub_.publish(channel_, m.event);
          ended_ = m.event.type == "end";
          ++published_;
        });
      } else {
        pacer_.due([&](std::uint64_t n, std::int64_t t) { publish("tick", n, t); },
                   net_.blocked == 0);
        if (!ended_ && pacer_.over()) {
          ended_ = true;
          published_ = pacer_.published();
          publish("end", published_ + 1, bench::now_ns());
        }
      }
      const bool more = hub_.flush();
      if (!pacer_.started() && hub_.sessions() >= options_.connections) {
        pacer_.start();
        if (options_.thread) publisher = std::thread{[this] { publish_from_thread(); }};
        continue;
      }
      loop_.turn(sleep_until(more));
      hub_.tick(std::chrono::steady_clock::now());  // after what was ready: nobody is cut for it
      mail_.awake();
    }
    if (publisher.joinable()) publisher.join();
    bench::report(options_.thread ? published_ - 1 : published_, hub_.stats().writes);
  }

  // What the loop calls.
  void opened(int fd, std::string_view head) {
    sse::http1::head_reader reader;
    (void)reader.feed(head);
    if (reader.state() != sse::http1::outcome::complete) return;
    sse::request r = reader.head();
    r.preamble = bench::stream_head;
    (void)hub_.accept({fd}, r, sse::admit().join(channel_));
  }
  void writable(int fd) {
    if (net_.blocked != 0) --net_.blocked;
    hub_.writable(net_.ids[static_cast<std::size_t>(fd)]);
  }
  void gone(int fd) { hub_.closed(net_.ids[static_cast<std::size_t>(fd)]); }
  void woken() {}

 private:
  [[nodiscard]] std::int64_t sleep_until(bool more) {
    if (more || options_.busy_poll) return 0;
    if (pacer_.started() && !ended_ && !options_.thread) {
      return options_.rate > 0 ? pacer_.next() : net_.blocked == 0 ? 0 : -1;
    }
    if (!mail_.prepare_sleep()) return 0;
    return ended_ || !pacer_.started() ? bench::now_ns() + 100'000'000 : -1;
  }
  void publish(std::string_view type, std::uint64_t n, std::int64_t t) {
    if (!hub_.publish(channel_, {.type = type, .data = data_.make(n, t)})) bench::fail("publish");
  }
  void publish_from_thread() {
    sse::publisher lane = mail_.make_publisher(0, 1 << 20);
    (void)bench::publish_from_lane(options_, lane);
  }

  bench::options options_;
  bench::pacer pacer_;
  bench::payload data_;
  socket_transport net_;
  sse::hub<socket_transport> hub_;
  sse::channel channel_ = {};
  std::uint64_t published_ = 0;
  bool ended_ = false;
  bench::loop<server> loop_;
  sse::mailbox mail_;
};

}  // namespace

int main(int argc, char** argv) { server{bench::read_options(argc, argv)}.run(); }
