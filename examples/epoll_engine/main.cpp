// An engine that has an epoll loop already, here with a timer as its work, serves its events in the
// same loop: sse::hub over sse::epoll_transport, and request heads by sse/http1.hpp. No thread, no
// other library but OpenSSL, for --tls-cert. A program without a loop takes sse::epoll_server,
// which also keeps deadlines for requests.  Try: curl -N http://127.0.0.1:8080/events
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include <sse/epoll_transport.hpp>
#include <sse/http1.hpp>
#include <sse/hub.hpp>

#include "common/endpoint.hpp"

namespace {

#ifdef EXAMPLES_OPENSSL
using transport = sse::tls::epoll_transport;
transport::security security_of(const examples::tls_of_server& tls) { return tls.context(); }
/// Sends what a handshake had no room for.
void send_held(transport::connection& c) {
  if (c.layer()) (void)c.layer().flush();
}
#else
using transport = sse::epoll_transport;
transport::security security_of(const examples::tls_of_server&) { return {}; }
void send_held(transport::connection&) {}
#endif
using connection = transport::connection;

sse::event_id microseconds_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<sse::event_id>(
      std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

class engine {
 public:
  explicit engine(const examples::tls_of_server& tls) : net_{epoll_, security_of(tls)} {}

  /// The port that it has; 0: errno says why there is none.
  [[nodiscard]] std::uint16_t listen(std::uint16_t port) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 ||
        ::listen(listener_, SOMAXCONN) != 0) {
      return 0;
    }
    const itimerspec every{{0, 500'000'000}, {0, 500'000'000}};
    ::timerfd_settime(timer_, 0, &every, nullptr);
    watch(listener_, EPOLL_CTL_ADD, EPOLLIN);
    watch(timer_, EPOLL_CTL_ADD, EPOLLIN);
    hub_.tick(std::chrono::steady_clock::now());
    hub_.on_admit([this](const sse::request& r) -> sse::verdict<> {
      if (r.path != "/events") return sse::refuse(404, "try /events\n");
      return sse::admit().join(quotes_);
    });
    socklen_t size = sizeof at;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size);
    return ntohs(at.sin_port);
  }

  void run() {
    for (;;) {
      const sse::duration rest = hub_.next_deadline() - std::chrono::steady_clock::now();
      serve(static_cast<int>(std::clamp<std::int64_t>(rest.ms(), 0, 60'000)));
      // Nobody is cut as stalled before it was seen what is ready by then: this process may have
      // been stopped for a while.
      const sse::time_point now = std::chrono::steady_clock::now();
      while (hub_.next_deadline() <= now && serve(0)) {
      }
      hub_.tick(now);
      while (hub_.flush()) {
      }
    }
  }

 private:
  /// Waits so many milliseconds for something to do, and does it. False: that was all.
  bool serve(int ms) {
    std::array<epoll_event, 64> events;
    const int n = ::epoll_wait(epoll_, events.data(), events.size(), ms);
    for (int i = 0; i < n; ++i) {
      const epoll_event& e = events[static_cast<std::size_t>(i)];
      if (net_.on_event(hub_, e)) continue;  // a stream's
      const int fd = static_cast<int>(e.data.u64);
      if (fd == timer_) {
        work();
      } else if (fd == listener_) {
        accept();
      } else {
        read(fd);
      }
    }
    return n == static_cast<int>(events.size());
  }

  struct request_of {
    connection socket;
    sse::http1::head_reader head{};
  };

  void watch(int fd, int how, std::uint32_t events) {
    epoll_event e{};
    e.events = events;
    e.data.u64 = static_cast<std::uint64_t>(fd);
    ::epoll_ctl(epoll_, how, fd, &e);
  }

  /// What the engine is there for.
  void work() {
    std::uint64_t times = 0;
    if (::read(timer_, &times, sizeof times) != sizeof times) return;
    watch(listener_, EPOLL_CTL_MOD, EPOLLIN);  // there may be descriptors again
    price_ += std::rand() % 7 - 3;
    (void)quotes_.publish({.type = "quote", .data = std::to_string(price_)});
  }

  void accept() {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      // Without descriptors that client waits, and would be told of in every turn: not until
      // work().
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        watch(listener_, EPOLL_CTL_MOD, 0);
      return;
    }
    connection c = net_.adopt(fd);
    if (c.watch(epoll_, EPOLLIN, static_cast<std::uint64_t>(fd))) {
      requests_.emplace(fd, request_of{std::move(c)});
    }
  }

  void read(int fd) {
    const auto at = requests_.find(fd);
    connection& c = at->second.socket;
    send_held(c);
    std::array<char, 16384> bytes;  // a whole record of TLS: of the rest epoll would not tell
    const ssize_t n = c.receive(bytes.data(), bytes.size());  // shakes hands, too
    const bool waits = n < 0 && (errno == EAGAIN || errno == EINTR);
    const std::uint32_t events = c.holds() ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (waits && c.watch(epoll_, events, static_cast<std::uint64_t>(fd))) return;
    if (n <= 0) {
      requests_.erase(at);
      return;
    }
    sse::http1::head_reader& head = at->second.head;
    (void)head.feed({bytes.data(), static_cast<std::size_t>(n)});
    if (head.state() == sse::http1::outcome::need_more) return;
    std::string answer;
    if (head.state() == sse::http1::outcome::complete) {
      sse::request r = head.head();
      (void)sse::http1::write_stream_head(answer, {}, r.minor_version, false);
      r.preamble = answer;
      sse::accept_result out = hub_.accept(std::move(c), r);
      if (!out && !out.head_only) {
        answer.clear();
        sse::http1::write_response(answer, out.refusal, {.keep_alive = false});
      } else if (out) {
        answer.clear();  // the hub has the connection, and sends its head
      }
    } else {
      sse::http1::write_response(answer, sse::refuse(head.status()), {.keep_alive = false});
    }
    if (!answer.empty()) {
      (void)c.send(answer.data(), answer.size());
      (void)c.end_output();
    }
    requests_.erase(at);  // closes it, unless the hub has it
  }

  int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  int listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  transport net_;
  sse::hub<transport> hub_{net_, {.first_id = microseconds_now()}};  // rising for ever
  sse::channel quotes_ = hub_.open_channel("quotes");
  std::map<int, request_of> requests_;
  int price_ = 60'000;
};

}  // namespace

int main(int argc, char** argv) {
  examples::flag_set flags{"epoll_engine", "An engine that serves events in its own epoll loop.",
                           SSEHUB_VERSION};
  examples::endpoint at{flags};
  if (const auto end = at.parse(argc, argv)) return end->print();
  engine e{at.tls()};
  const std::uint16_t port = e.listen(at.port());
  if (port == 0) return at.taken(std::strerror(errno)).print();
  std::printf("listening on %s\n", at.url(port).c_str());
  std::fflush(stdout);
  e.run();
}
