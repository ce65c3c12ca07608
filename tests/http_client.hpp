// A raw, blocking HTTP client for tests. POSIX.
//
//   test::client get{port};
//   CHECK(get.ask("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").status == 200);
//   test::client stream{port};
//   CHECK(stream.open("/events").status == 200);
//   CHECK(stream.frame() == "data: 1");            // the next one, without its empty line
//
// Nothing waits longer than `patience`; then it throws, which fails the test.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "dechunk.hpp"

namespace test {

inline constexpr std::chrono::seconds patience{20};

struct answer {
  int status = 0;
  std::string head;  ///< with the empty line
  std::string body;

  /// Of the first header of that name, which is given as the server writes it.
  [[nodiscard]] std::string header(std::string_view name) const {
    const std::string key = "\r\n" + std::string{name} + ": ";
    const std::size_t at = head.find(key);
    if (at == std::string::npos) return {};
    const std::size_t from = at + key.size();
    return head.substr(from, head.find("\r\n", from) - from);
  }
};

/// What lies between a client and its socket; see openssl/tls_client.hpp. Calls are those of the
/// socket.
class client_layer {
 public:
  virtual ~client_layer() = default;
  [[nodiscard]] virtual ssize_t send(const char* bytes, std::size_t size) = 0;
  [[nodiscard]] virtual ssize_t recv(char* into, std::size_t size) = 0;
};

class client {
 public:
  /// Connects. `receive_buffer`: bytes in the kernel; 0: the system's.
  explicit client(std::uint16_t port, int receive_buffer = 0)
      : client{receive_buffer, unconnected{}} {
    connect(port);
  }
  struct unconnected {};
  explicit client(int receive_buffer, unconnected) : fd_{::socket(AF_INET, SOCK_STREAM, 0)} {
    if (fd_ < 0) throw std::runtime_error("socket: " + std::string{std::strerror(errno)});
    timeval limit{};
    limit.tv_sec = patience.count();
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (receive_buffer != 0) {
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
  }
  client(client&& o) noexcept
      : fd_{std::exchange(o.fd_, -1)}, in_{std::move(o.in_)}, layer_{std::move(o.layer_)} {}
  client& operator=(client&& o) noexcept {
    std::swap(fd_, o.fd_);
    std::swap(in_, o.in_);
    std::swap(layer_, o.layer_);
    return *this;
  }
  ~client() { close(); }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  /// From now on all goes through it.
  void put_on(std::unique_ptr<client_layer> l) noexcept { layer_ = std::move(l); }
  [[nodiscard]] client_layer& layer() noexcept { return *layer_; }

  void connect(std::uint16_t port) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (retried([&] { return ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to); }) != 0) {
      throw std::runtime_error("connect: " + std::string{std::strerror(errno)});
    }
  }
  void close() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  /// Ends the connection with a reset.
  void reset() noexcept {
    const linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }
  void end_sending() noexcept { ::shutdown(fd_, SHUT_WR); }

  void send(std::string_view bytes) {
    if (!try_send(bytes)) throw std::runtime_error("send: " + std::string{std::strerror(errno)});
  }
  /// False: the server has closed.
  [[nodiscard]] bool try_send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = retried([&] {
        return layer_ ? layer_->send(bytes.data(), bytes.size())
                      : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      });
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  /// Something came, or the end, that nobody has read yet. Does not wait.
  [[nodiscard]] bool has_input() {
    char c = 0;
    const ssize_t n = retried([&] { return ::recv(fd_, &c, 1, MSG_PEEK | MSG_DONTWAIT); });
    was_reset = was_reset || (n < 0 && errno == ECONNRESET);  // it is told once
    return !in_.empty() || n >= 0 || errno != EAGAIN;
  }
  /// Takes what has come, without waiting.
  [[nodiscard]] std::string taken() {
    std::string got;
    while (has_input()) {
      const std::string more = some();
      if (more.empty()) break;
      got += more;
    }
    return got;
  }

  /// What comes next, at least one byte; empty: the end, also by a reset.
  [[nodiscard]] std::string some(std::size_t most = 65536) {
    std::string out;
    if (!in_.empty()) {
      out = in_.substr(0, most);
      in_.erase(0, out.size());
      return out;
    }
    out.resize(most);
    const ssize_t n = retried([&] {
      return layer_ ? layer_->recv(out.data(), out.size()) : ::recv(fd_, out.data(), out.size(), 0);
    });
    if (n < 0 && errno != ECONNRESET) throw std::runtime_error("nothing came in time");
    was_reset = was_reset || n < 0;
    out.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return out;
  }
  /// Up to and with `end`; what the peer sent if it closed before.
  [[nodiscard]] std::string until(std::string_view end) {
    std::string got;
    got.swap(in_);
    std::size_t at = 0;
    for (std::size_t from = 0; (at = got.find(end, from)) == std::string::npos;) {
      from = got.size() < end.size() ? 0 : got.size() - end.size();
      const std::string more = some();
      if (more.empty()) return got;
      got += more;
    }
    in_ = got.substr(at + end.size());
    got.resize(at + end.size());
    return got;
  }
  [[nodiscard]] std::string exactly(std::size_t n) {
    std::string got;
    while (got.size() < n) {
      const std::string more = some(n - got.size());
      if (more.empty()) throw std::runtime_error("the end came too soon");
      got += more;
    }
    return got;
  }
  /// All until the end.
  [[nodiscard]] std::string rest() {
    std::string got;
    for (std::string more = some(); !more.empty(); more = some()) got += more;
    return got;
  }

  /// The head of the next answer.
  [[nodiscard]] answer head() {
    answer a;
    a.head = until("\r\n\r\n");
    if (a.head.size() > 12) std::from_chars(a.head.data() + 9, a.head.data() + 12, a.status);
    return a;
  }
  /// The next answer with its body. status 0: the connection ended instead.
  [[nodiscard]] answer whole_answer() {
    answer a = head();
    std::size_t length = 0;
    const std::string given = a.header("Content-Length");
    std::from_chars(given.data(), given.data() + given.size(), length);
    if (a.status != 0) a.body = exactly(length);
    return a;
  }
  [[nodiscard]] answer ask(std::string_view request) {
    send(request);
    return whole_answer();
  }
  [[nodiscard]] answer get(std::string_view target, std::string_view headers = {}) {
    return ask(make("GET", target, headers));
  }
  [[nodiscard]] answer post(std::string_view target, std::string_view body,
                            std::string_view headers = {}) {
    std::string more{headers};
    more += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    return ask(make("POST", target, more).append(body));
  }
  /// A request whose answer goes on after its head.
  [[nodiscard]] answer open(std::string_view target, std::string_view headers = {}) {
    send(make("GET", target, headers));
    return head();
  }
  /// The next frame of a stream without its empty line; empty: the end. A block of `id:` alone is
  /// no frame: its id goes to `position`.
  [[nodiscard]] std::string frame() {
    for (;;) {
      std::string f = until("\n\n");
      if (f.size() >= 2) f.resize(f.size() - 2);
      if (!f.starts_with("id: ") || f.find('\n') != std::string::npos) return f;
      position = f.substr(4);
    }
  }
  /// The next frame's `data:`.
  [[nodiscard]] std::string data() { return field(frame(), "data: "); }

  [[nodiscard]] static std::string field(const std::string& frame, const std::string& name) {
    const std::size_t at = frame.starts_with(name) ? 0 : frame.find("\n" + name);
    if (at == std::string::npos) return {};
    const std::size_t from = frame.find(": ", at) + 2;
    return frame.substr(from, frame.find('\n', from) - from);
  }
  [[nodiscard]] static std::string make(std::string_view method, std::string_view target,
                                        std::string_view headers = {}) {
    std::string r{method};
    r.append(" ").append(target).append(" HTTP/1.1\r\nHost: localhost\r\n").append(headers);
    return r.append("\r\n");
  }

  bool was_reset = false;
  std::string position{};  ///< the last id that came alone

 private:
  /// The end of an io_uring interrupts the calls of the thread that made it.
  template <class Call>
  static ssize_t retried(Call call) {
    ssize_t n = 0;
    do {
      n = call();
    } while (n < 0 && errno == EINTR);
    return n;
  }

  int fd_;
  std::string in_;
  std::unique_ptr<client_layer> layer_;
};

/// Room for tests with many connections; false: the system gives less.
[[nodiscard]] inline bool allow_descriptors(rlim_t n) {
  rlimit now{};
  ::getrlimit(RLIMIT_NOFILE, &now);
  if (now.rlim_cur >= n) return true;
  now.rlim_cur = n < now.rlim_max ? n : now.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &now);
  return now.rlim_cur >= n;
}

/// The id of a frame; 0 if it has none.
inline std::uint64_t id_of(const std::string& frame) {
  const std::string id = client::field(frame, "id: ");
  std::uint64_t n = 0;
  std::from_chars(id.data(), id.data() + id.size(), n);
  return n;
}

/// The header with which a client goes on behind `id`.
inline std::string last_id(std::uint64_t id) {
  return "Last-Event-ID: " + std::to_string(id) + "\r\n";
}

}  // namespace test
