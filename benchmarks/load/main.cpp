// The other end of the servers under test: opens streams and reads them, cheaply but exactly. One
// thread, epoll.
//
//   bench_load PORT [--connections N] [--seconds S] [--grace S] [--warmup S] [--stalled N]
//              [--reconnects R] [--core C]
//              [--path /] [--busy-poll] [--hold] [--window 256] [--tls]
//
// A stream's events carry {"n":1.. consecutive,"t":ns of publication (CLOCK_MONOTONIC)}; a server
// that does not resume may leave some out, which is what `gaps` counts. `id` fields that are
// numbers must rise.
//   --stalled N      the first N connections read their head and nothing more
//   --hold           waits until all streams are open, says "open", and keeps them until its stdin
//                    ends
//   --window N       streams that may be asked for and not begun yet: servers differ in how many
//                    they let wait
//   --reconnects R   per second: the next connection is closed and opened again with Last-Event-ID
//   --tls            whatever certificate the server has; only where it was built with OpenSSL
// It ends when every reader saw the event "end", or S + grace seconds after the first event. One
// JSON object on stdout:
//   delivered        events read, without "end"; `rate` is per second over the time between the
//                    first and the last
//   gaps, missing    jumps of n along a connection, and how many events were left out there
//   duplicates       n that did not rise;  bad_ids: ids that did not
//   lost             connections that the server ended
//   p50_us ...       publication to here, of events published `warmup` seconds after the first or
//                    later; -1: none came
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <memory>
#include <string>
#include <vector>

#ifdef BENCH_TLS
#include <openssl/ssl.h>
#endif

#include "../servers/common.hpp"

namespace {

#ifdef BENCH_TLS
/// A client's side of a TLS connection.
class secure_layer {
 public:
  explicit secure_layer(int fd) : ssl_{SSL_new(context()), &SSL_free}, fd_{fd} {
    SSL_set_fd(ssl_.get(), fd);
    if (SSL_connect(ssl_.get()) != 1) bench::fail("bench_load: TLS handshake");
  }
  void send(const std::string& bytes) {
    if (SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) <= 0)
      bench::fail("bench_load: send");
    fcntl(fd_, F_SETFL, O_NONBLOCK);
  }
  /// As recv of all that is there.
  ssize_t receive(char* into, std::size_t size) {
    std::size_t all = 0;
    std::size_t n = 0;
    while (all < size && SSL_read_ex(ssl_.get(), into + all, size - all, &n) == 1) all += n;
    if (all != 0) return static_cast<ssize_t>(all);
    const bool waits = SSL_get_error(ssl_.get(), 0) == SSL_ERROR_WANT_READ;
    errno = waits ? EAGAIN : ECONNRESET;
    return -1;
  }

 private:
  static SSL_CTX* context() {
    static SSL_CTX* const c = [] {
      SSL_CTX* const made = SSL_CTX_new(TLS_client_method());
      SSL_CTX_set_read_ahead(made, 1);
      SSL_CTX_set_mode(made, SSL_MODE_RELEASE_BUFFERS);
      return made;
    }();
    return c;
  }
  std::unique_ptr<SSL, void (*)(SSL*)> ssl_;
  int fd_;
};
#else
struct secure_layer {
  explicit secure_layer(int) {
    std::fprintf(stderr, "bench_load: built without TLS\n"), std::exit(1);
  }
  void send(const std::string&) {}
  ssize_t receive(char*, std::size_t) { return 0; }
};
#endif

/// Latencies in ns: 64 steps per doubling.
class histogram {
 public:
  void add(std::uint64_t ns) noexcept { ++counts_[slot(ns)]; }
  [[nodiscard]] double quantile(double q) const noexcept {
    std::uint64_t all = 0;
    for (const std::uint64_t n : counts_) all += n;
    auto left = static_cast<std::uint64_t>(static_cast<double>(all) * q);
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      if (counts_[i] > left) return value(i) / 1000;
      left -= counts_[i];
    }
    return all == 0 ? -1 : value(highest()) / 1000;
  }
  [[nodiscard]] std::size_t highest() const noexcept {
    std::size_t i = counts_.size() - 1;
    while (i > 0 && counts_[i] == 0) --i;
    return i;
  }

 private:
  static std::size_t slot(std::uint64_t ns) noexcept {
    if (ns < 64) return static_cast<std::size_t>(ns);
    const auto shift = static_cast<std::size_t>(std::bit_width(ns)) - 7;
    return (shift + 1) * 64 + static_cast<std::size_t>((ns >> shift) & 63);
  }
  static double value(std::size_t i) noexcept {
    if (i < 64) return static_cast<double>(i);
    return static_cast<double>((64 + i % 64) << (i / 64 - 1));
  }
  std::array<std::uint64_t, 64 * 60> counts_{};
};

struct totals {
  std::uint64_t delivered = 0, gaps = 0, missing = 0, duplicates = 0, bad_ids = 0, gap_events = 0,
                lost = 0, reconnects = 0;
  std::int64_t first = 0, last = 0, first_stamp = 0;
  std::int64_t warmup = 0;
  histogram latency;
};

/// One connection's place in its stream. Bytes come in as they are read, cut anywhere.
class stream {
 public:
  enum class what { nothing, began, ended };

  /// A connection begins anew; what was read of its stream stays known.
  void reopen() noexcept {
    head_ = true;
    chunked_ = false;
    left_ = 0;
    carry_.clear();
    clear();
  }

  what feed(std::string_view in, std::int64_t now, totals& t) {
    what said = what::nothing;
    if (head_) {
      carry_.append(in);
      const std::size_t end = carry_.find("\r\n\r\n");
      if (end == std::string::npos) return what::nothing;
      if (!carry_.starts_with("HTTP/1.1 200") && !carry_.starts_with("HTTP/1.0 200")) {
        std::fprintf(stderr, "bench_load: refused: %.*s\n", static_cast<int>(carry_.find('\r')),
                     carry_.c_str());
        std::exit(1);
      }
      chunked_ = carry_.find("chunked") < end;
      head_ = false;
      const std::string rest = carry_.substr(end + 4);
      carry_ = {};
      said = what::began;
      in = {};
      if (!rest.empty() && body(rest, now, t)) said = what::ended;
      return said;
    }
    return body(in, now, t) ? what::ended : what::nothing;
  }
  [[nodiscard]] std::string_view id() const noexcept { return {id_.data(), id_size_}; }

 private:
  bool body(std::string_view in, std::int64_t now, totals& t) {
    if (!chunked_) return lines(in, now, t);
    bool ended = false;
    while (!in.empty()) {
      if (left_ > 2) {
        const std::size_t n = std::min(in.size(), left_ - 2);
        ended = lines(in.substr(0, n), now, t) || ended;
        left_ -= n;
        in.remove_prefix(n);
      } else if (left_ > 0) {  // the line end behind a chunk
        --left_;
        in.remove_prefix(1);
      } else {
        const char c = in[0];
        in.remove_prefix(1);
        if (c != '\n') {
          size_line_.push_back(c);
          continue;
        }
        std::size_t n = 0;
        std::from_chars(size_line_.data(), size_line_.data() + size_line_.size(), n, 16);
        size_line_.clear();
        left_ = n + 2;
      }
    }
    return ended;
  }

  bool lines(std::string_view in, std::int64_t now, totals& t) {
    bool ended = false;
    while (!in.empty()) {
      const auto* lf = static_cast<const char*>(std::memchr(in.data(), '\n', in.size()));
      if (lf == nullptr) {
        carry_.append(in);
        break;
      }
      const auto n = static_cast<std::size_t>(lf - in.data());
      if (carry_.empty()) {
        ended = line(in.substr(0, n), now, t) || ended;
      } else {
        carry_.append(in.substr(0, n));
        ended = line(carry_, now, t) || ended;
        carry_.clear();
      }
      in.remove_prefix(n + 1);
    }
    return ended;
  }

  bool line(std::string_view l, std::int64_t now, totals& t) {
    if (l.ends_with('\r')) l.remove_suffix(1);
    if (l.empty()) return event(now, t);
    if (l.starts_with("data:")) {
      n_ = number(l, "\"n\":");
      t_ = static_cast<std::int64_t>(number(l, "\"t\":"));
      has_data_ = true;
    } else if (l.starts_with("id:")) {
      l.remove_prefix(l.size() > 3 && l[3] == ' ' ? 4 : 3);
      new_id_size_ = std::min(l.size(), new_id_.size());
      std::memcpy(new_id_.data(), l.data(), new_id_size_);
    } else if (l.starts_with("event:")) {
      is_end_ = l.ends_with("end");
      is_gap_ = l.ends_with("gap");
    }
    return false;
  }

  /// True: it was "end".
  bool event(std::int64_t now, totals& t) {
    if (!has_data_) return clear();
    if (new_id_size_ != 0) {
      std::uint64_t id = 0;
      const auto r = std::from_chars(new_id_.data(), new_id_.data() + new_id_size_, id);
      if (r.ptr == new_id_.data() + new_id_size_) {
        if (id <= last_id_) ++t.bad_ids;
        last_id_ = id;
      }
      id_ = new_id_;
      id_size_ = new_id_size_;
    }
    if (is_gap_) {
      ++t.gap_events;
      return clear();
    }
    if (is_end_) {
      if (last_n_ != 0 && n_ > last_n_ + 1) miss(t);
      clear();
      return true;
    }
    if (last_n_ != 0 && n_ <= last_n_) ++t.duplicates;
    if (last_n_ != 0 && n_ > last_n_ + 1) miss(t);
    last_n_ = std::max(last_n_, n_);
    ++t.delivered;
    if (t.first == 0) {
      t.first = now;
      t.first_stamp = t_;
    }
    t.last = now;
    if (t_ >= t.first_stamp + t.warmup)
      t.latency.add(static_cast<std::uint64_t>(std::max<std::int64_t>(now - t_, 0)));
    return clear();
  }
  void miss(totals& t) const noexcept {
    ++t.gaps;
    t.missing += n_ - last_n_ - 1;
  }
  bool clear() noexcept {
    has_data_ = is_end_ = is_gap_ = false;
    new_id_size_ = 0;
    return false;
  }

  static std::uint64_t number(std::string_view l, std::string_view name) noexcept {
    std::size_t at = l.find(name);
    if (at == std::string_view::npos) return 0;
    at += name.size();
    while (at < l.size() && l[at] == ' ') ++at;
    std::uint64_t v = 0;
    for (; at < l.size() && l[at] >= '0' && l[at] <= '9'; ++at)
      v = v * 10 + static_cast<std::uint64_t>(l[at] - '0');
    return v;
  }

  std::string carry_;  // an unfinished line, or the head
  std::string size_line_;
  std::size_t left_ = 0;  // of a chunk, with its line end
  std::uint64_t n_ = 0, last_n_ = 0, last_id_ = 0;
  std::int64_t t_ = 0;
  std::array<char, 64> id_{}, new_id_{};
  std::size_t id_size_ = 0, new_id_size_ = 0;
  bool head_ = true, chunked_ = false, has_data_ = false, is_end_ = false, is_gap_ = false;
};

struct load_options {
  int port = 0;
  std::size_t connections = 1;
  double seconds = 1;
  double grace = 2;
  double warmup = 0.2;
  std::size_t stalled = 0;
  double reconnects = 0;
  int core = -1;
  bool busy_poll = false;
  bool hold = false;
  bool tls = false;
  std::size_t window = 256;
  std::string path = "/";
};

load_options read_load_options(int argc, char** argv) {
  load_options o;
  if (argc < 2) std::fprintf(stderr, "bench_load PORT ...\n"), std::exit(2);
  o.port = std::atoi(argv[1]);
  for (int i = 2; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--busy-poll") {
      o.busy_poll = true;
      continue;
    }
    if (name == "--hold") {
      o.hold = true;
      continue;
    }
    if (name == "--tls") {
      o.tls = true;
      continue;
    }
    if (i + 1 == argc) std::fprintf(stderr, "%s wants a value\n", argv[i]), std::exit(2);
    const char* const value = argv[++i];
    if (name == "--connections")
      o.connections = std::strtoull(value, nullptr, 10);
    else if (name == "--seconds")
      o.seconds = std::atof(value);
    else if (name == "--grace")
      o.grace = std::atof(value);
    else if (name == "--warmup")
      o.warmup = std::atof(value);
    else if (name == "--stalled")
      o.stalled = std::strtoull(value, nullptr, 10);
    else if (name == "--reconnects")
      o.reconnects = std::atof(value);
    else if (name == "--core")
      o.core = std::atoi(value);
    else if (name == "--path")
      o.path = value;
    else if (name == "--window")
      o.window = std::strtoull(value, nullptr, 10);
    else
      std::fprintf(stderr, "unknown: %s\n", argv[i - 1]), std::exit(2);
  }
  return o;
}

class load {
 public:
  explicit load(const load_options& o)
      : options_{o}, epoll_{epoll_create1(0)}, peers_(o.connections), bytes_(256 << 10) {
    totals_.warmup = static_cast<std::int64_t>(o.warmup * 1e9);
  }

  int run() {
    if (!open_all()) return 1;
    const std::int64_t patience = bench::now_ns() + 20'000'000'000;
    const auto readers = peers_.size() - options_.stalled;
    while (ended_ + closed_ < readers) {
      std::int64_t until = totals_.first == 0
                               ? patience
                               : totals_.first + static_cast<std::int64_t>(
                                                     (options_.seconds + options_.grace) * 1e9);
      if (bench::now_ns() > until) break;
      reconnect();
      const int most = options_.reconnects > 0 ? 2 : 100;  // ms
      read_some(options_.busy_poll ? 0 : most);
    }
    print();
    return 0;
  }

  int hold() {
    if (!open_all()) return 1;
    std::puts("open");
    std::fflush(stdout);
    while (std::getchar() != EOF) {
    }
    return 0;
  }

 private:
  struct peer {
    int fd = -1;
    bool stalled = false;
    bool ended = false;
    std::unique_ptr<secure_layer> layer;
    stream events;
  };

  /// Returns once every stream began, but for the stalled ones.
  bool open_all() {
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      open(i, true);
      const std::size_t asked = i < options_.stalled ? 0 : i + 1 - options_.stalled;
      const std::size_t waiting = i + 1 == peers_.size() ? 0 : options_.window - 1;
      while (asked > began_ + waiting) {
        if (read_some(10'000)) continue;
        std::fprintf(stderr, "bench_load: %zu of %zu streams began\n", began_, peers_.size());
        return false;
      }
    }
    return true;
  }

  bool read_some(int ms) {
    const int n = epoll_wait(epoll_, ready_.data(), static_cast<int>(ready_.size()), ms);
    for (int i = 0; i < n; ++i) take(ready_[static_cast<std::size_t>(i)].data.u32);
    return n > 0;
  }

  void open(std::size_t i, bool first) {
    peer& p = peers_[i];
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(options_.port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // On loopback connect() is done at once, unless the server's queue is full.
    p.fd = socket(AF_INET, SOCK_STREAM, 0);
    if (p.fd < 0 || connect(p.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      bench::fail("bench_load: connect");
    std::string request =
        "GET " + options_.path + " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n";
    if (!p.events.id().empty())
      request.append("Last-Event-ID: ").append(p.events.id()).append("\r\n");
    request += "\r\n";
    if (options_.tls) {
      p.layer = std::make_unique<secure_layer>(p.fd);
      p.layer->send(request);
    } else if (send(p.fd, request.data(), request.size(), MSG_NOSIGNAL) !=
               static_cast<ssize_t>(request.size())) {
      bench::fail("bench_load: send");
    }
    p.stalled = first && i < options_.stalled;
    if (p.stalled) return;
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.u32 = static_cast<std::uint32_t>(i);
    epoll_ctl(epoll_, EPOLL_CTL_ADD, p.fd, &e);
  }

  void take(std::size_t i) {
    peer& p = peers_[i];
    const ssize_t n = p.layer ? p.layer->receive(bytes_.data(), bytes_.size())
                              : recv(p.fd, bytes_.data(), bytes_.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
      ++totals_.lost;
      if (!p.ended) ++closed_;
      epoll_ctl(epoll_, EPOLL_CTL_DEL, p.fd, nullptr);
      close(p.fd);
      p.fd = -1;
      return;
    }
    const std::int64_t now = bench::now_ns();
    const stream::what said =
        p.events.feed({bytes_.data(), static_cast<std::size_t>(n)}, now, totals_);
    if (said == stream::what::began) ++began_;
    if (said == stream::what::ended && !p.ended) {
      p.ended = true;
      ++ended_;
    }
  }

  /// Closes and opens as many connections as are due.
  void reconnect() {
    if (options_.reconnects <= 0 || totals_.first == 0) return;
    const std::int64_t now = bench::now_ns();
    const double elapsed = static_cast<double>(now - totals_.first) / 1e9;
    if (elapsed > options_.seconds - 0.2) return;
    while (static_cast<double>(totals_.reconnects) < elapsed * options_.reconnects) {
      next_ = next_ + 1 < peers_.size() ? next_ + 1 : options_.stalled;
      peer& p = peers_[next_];
      ++totals_.reconnects;
      if (p.fd < 0 || p.ended || p.events.id().empty()) continue;
      close(p.fd);
      p.events.reopen();
      open(next_, false);
    }
  }

  void print() const {
    const totals& t = totals_;
    const double seconds = static_cast<double>(t.last - t.first) / 1e9;
    const auto u = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
    std::printf(
        "{\"connections\":%zu,\"readers\":%zu,\"ended\":%zu,\"delivered\":%llu,\"seconds\":%.4f,"
        "\"rate\":%.0f,\"gaps\":%llu,"
        "\"missing\":%llu,\"duplicates\":%llu,\"bad_ids\":%llu,\"gap_events\":%llu,\"lost\":%llu,"
        "\"reconnects\":%llu,"
        "\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n",
        peers_.size(), peers_.size() - options_.stalled, ended_, u(t.delivered), seconds,
        seconds > 0 ? static_cast<double>(t.delivered) / seconds : 0, u(t.gaps), u(t.missing),
        u(t.duplicates), u(t.bad_ids), u(t.gap_events), u(t.lost), u(t.reconnects),
        t.latency.quantile(0.5), t.latency.quantile(0.9), t.latency.quantile(0.99),
        t.latency.quantile(1));
  }

  load_options options_;
  int epoll_;
  std::vector<peer> peers_;
  std::vector<char> bytes_;
  std::vector<epoll_event> ready_ = std::vector<epoll_event>(1024);
  totals totals_;
  std::size_t began_ = 0;
  std::size_t ended_ = 0;
  std::size_t closed_ = 0;
  std::size_t next_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const load_options o = read_load_options(argc, argv);
  bench::pin(o.core);
  bench::allow_many_files();
  const auto l = std::make_unique<load>(o);
  return o.hold ? l->hold() : l->run();
}
