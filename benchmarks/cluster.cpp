// An order over NATS JetStream beside bare cnats that publishes and takes the same bytes.
//
//   bench_cluster --servers URL[,URL...] [--replicas N] [--nodes N] [--events N] [--rate N] MODE
//                                                               one JSON object on stdout
//   rate, bare_rate        all nodes publish, all take all: events/s until everybody has them, and
//                          CPU ns of this process for each
//   latency, bare_latency  publish to receive, at --rate a second: p50, p99
//   catch_up, bare_catch_up  all events are there: events/s until one that needs all has them
//   herd                   10,000 readers with old ids, spread over all events: reads of the
//   stream,
//                          events that these brought, seconds
//
// Each run makes a stream of its own and removes it. Ours: an event is there when its shard wrote
// it to a session. Bare: cnats's asynchronous publish with message ids, and a subscription with
// flow control.
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <sse/jetstream.hpp>

#include "servers/common.hpp"

namespace {

std::vector<std::string> servers;
std::uint32_t replicas = 1;
std::size_t nodes = 1;
std::uint64_t events = 100'000;
std::uint64_t rate = 500;
std::string stream;  // of this run

void must(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "bench_cluster: %s failed\n", what);
  std::exit(1);
}
void must(natsStatus s, const char* what) { must(s == NATS_OK, what); }

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}
/// 150 bytes that begin with the time.
std::string data_now() {
  std::string s = std::to_string(bench::now_ns()) + ' ';
  s.resize(150, 'x');
  return s;
}
std::int64_t sent_at(std::string_view data) {
  std::int64_t n = 0;
  (void)std::from_chars(data.data(), data.data() + data.size(), n);
  return n;
}
class ages {
 public:
  void add(std::int64_t sent) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    all_.push_back(static_cast<double>(bench::now_ns() - sent) / 1000);
  }
  [[nodiscard]] std::size_t size() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return all_.size();
  }
  void print() {
    all_.erase(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(all_.size() / 10));
    std::sort(all_.begin(), all_.end());
    std::printf("{\"p50_us\": %.1f, \"p99_us\": %.1f}\n", all_[all_.size() / 2],
                all_[all_.size() * 99 / 100]);
  }

 private:
  mutable std::mutex mutex_;
  std::vector<double> all_;
};
/// Until f(), looking every 100 us; dies after 120 s.
template <class F>
void wait_until(F f, const char* what) {
  const std::int64_t end = bench::now_ns() + 120'000'000'000;
  while (!f()) {
    must(bench::now_ns() < end, what);
    ::usleep(100);
  }
}
void print_rate(std::int64_t start, double cpu, std::uint64_t n) {
  std::printf("{\"rate\": %.0f, \"cpu_ns\": %.0f}\n",
              static_cast<double>(n) * 1e9 / static_cast<double>(bench::now_ns() - start),
              (cpu_seconds() - cpu) * 1e9 / static_cast<double>(n));
}
/// `n` times f(), `rate` a second.
template <class F>
void at_a_pace(std::uint64_t n, F f) {
  const std::int64_t start = bench::now_ns();
  for (std::uint64_t i = 0; i != n; ++i) {
    const std::int64_t due = start + static_cast<std::int64_t>(i * 1'000'000'000 / rate);
    while (bench::now_ns() < due) ::usleep(50);
    f();
  }
}

// --- ours ----------------------------------------------------------------------------------------

/// Counts what is written to a session, and how old each event is if `times` is there.
struct counting_transport {
  struct connection {
    std::uint64_t last = 0;  // bytes, in sum
  };
  sse::write_result write(connection& c, std::span<const sse::buffer> all) noexcept {
    std::size_t n = 0;
    for (const sse::buffer& b : all) {
      n += b.size;
      if (times == nullptr) continue;
      const std::string_view s{static_cast<const char*>(b.data), b.size};
      constexpr std::string_view word = "\ndata: ";
      for (std::size_t at = 0; (at = s.find(word, at)) != s.npos;)
        times->add(sent_at(s.substr(at += word.size())));
    }
    c.last += n;
    bytes.fetch_add(n, std::memory_order_relaxed);
    return {n, sse::flow::ready};
  }
  void close(connection&, sse::close_reason) noexcept {}

  std::atomic<std::uint64_t> bytes{0};
  ages* times = nullptr;
};

class node {
 public:
  explicit node(ages* times = nullptr, std::uint64_t keep = 1000) {
    sse::jetstream_options o;
    o.servers = servers;
    o.replicas = replicas;
    o.stream = stream;
    o.hub = stream;
    o.connect_wait = sse::duration::seconds(30);
    o.queue_bytes = std::size_t{256} << 20;
    o.lane_bytes = std::size_t{4} << 20;
    o.preload_bytes = 0;
    o.channel = [keep](std::string_view) { return sse::channel_options{.keep = keep}; };
    const sse::jetstream_error e = order.open(std::move(o));
    must(!e, e.text.c_str());
    net.times = times;
    sse::shard_options s{.wake = &wake, .context = this};
    s.hub.caps.per_address.max = 0;
    shard_ = std::make_unique<sse::shard<counting_transport>>(order.order(), net, s);
    shard_->hub().on_admit(
        [this](const sse::request&) { return sse::admit().join(shard_->at(0)); });
  }
  ~node() {
    ends_ = true;
    wake(this);
    if (thread_.joinable()) thread_.join();
    shard_.reset();
    order.stop();
    ::close(event_);
  }
  /// Before start(). `after`: its Last-Event-ID.
  void join(const std::string& after = {}) {
    sse::request r;
    const sse::header last{"Last-Event-ID", after};
    if (!after.empty()) r.headers = {&last, 1};
    must(static_cast<bool>(shard_->accept({}, r)), "accepting a stream");
  }
  void start() {
    order.start();
    thread_ = std::thread{[this] { run(); }};
    wait_until([this] { return order.stats().following; }, "following");
  }
  void publish() {
    while (!order.publish(0, {.type = "tick", .data = data_now()})) ::usleep(50);
  }
  [[nodiscard]] std::uint64_t taken() const { return last_ - base_; }

  sse::jetstream order;
  counting_transport net;

 private:
  static void wake(void* n) noexcept {
    const std::uint64_t one = 1;
    (void)!::write(static_cast<node*>(n)->event_, &one, sizeof one);
  }
  void run() {
    base_ = order.order().head() - order.stats().sequence;
    while (!ends_) {
      const bool more = shard_->turn(sse::time_point::milliseconds(bench::now_ns() / 1'000'000));
      last_ = shard_->at(0).last_id();
      if (more || !shard_->prepare_sleep()) continue;
      pollfd p{event_, POLLIN, 0};
      (void)::poll(&p, 1, 100);
      std::uint64_t n = 0;
      (void)!::read(event_, &n, sizeof n);
      shard_->awake();
    }
  }

  int event_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  std::unique_ptr<sse::shard<counting_transport>> shard_;
  std::atomic<sse::event_id> last_{0};
  sse::event_id base_ = 0;
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

void measure_rate() {
  std::vector<std::unique_ptr<node>> all;
  for (std::size_t i = 0; i != nodes; ++i) all.push_back(std::make_unique<node>());
  for (auto& n : all) {
    n->join();
    n->start();
  }
  const double cpu = cpu_seconds();
  const std::int64_t start = bench::now_ns();
  std::vector<std::thread> publishers;
  for (auto& n : all)
    publishers.emplace_back([&n] {
      for (std::uint64_t i = 0; i != events / nodes; ++i) n->publish();
    });
  for (std::thread& t : publishers) t.join();
  const std::uint64_t each = events / nodes * nodes;
  for (auto& n : all)
    wait_until([&] { return n->taken() >= each && n->order.stats().waiting == 0; }, "taking all");
  print_rate(start, cpu, each);
}
void measure_latency() {
  ages found;
  node n{&found};
  n.join();
  n.start();
  const std::uint64_t all = rate * 4;
  at_a_pace(all, [&] { n.publish(); });
  wait_until([&] { return found.size() >= all; }, "taking all");
  found.print();
}
/// All events, stored; the bytes that a session which gets them all is written.
std::uint64_t fill() {
  node n;
  n.join();
  n.start();
  for (std::uint64_t i = 0; i != events; ++i) n.publish();
  wait_until([&] { return n.taken() >= events && n.order.stats().waiting == 0; }, "storing all");
  return n.net.bytes;
}
void measure_catch_up() {
  const std::uint64_t bytes = fill();
  node n{nullptr, 1};
  n.join(std::to_string(n.order.order().head() - events));
  const double cpu = cpu_seconds();
  const std::int64_t start = bench::now_ns();
  n.start();
  wait_until([&] { return n.net.bytes + 100 >= bytes; }, "catching up");
  print_rate(start, cpu, events);
}
void measure_herd() {
  (void)fill();
  constexpr std::uint64_t herd = 10'000;
  node n{nullptr, 1};
  const sse::event_id last = n.order.order().head();
  for (std::uint64_t i = 0; i != herd; ++i)
    n.join(std::to_string(last - 1 - i * (events - 1) / herd));
  const std::int64_t start = bench::now_ns();
  n.start();
  std::uint64_t before = 0;
  std::int64_t since = bench::now_ns();
  while (bench::now_ns() - since < 1'000'000'000) {  // no more comes
    const std::uint64_t now = n.net.bytes;
    if (now != before) since = bench::now_ns();
    before = now;
    ::usleep(1000);
  }
  const sse::jetstream_stats s = n.order.stats();
  std::printf("{\"reads\": %llu, \"read_events\": %llu, \"seconds\": %.2f, \"megabytes\": %.0f}\n",
              static_cast<unsigned long long>(s.reads),
              static_cast<unsigned long long>(s.read_events),
              static_cast<double>(since - start) / 1e9, static_cast<double>(before) / 1e6);
}

// --- bare cnats ----------------------------------------------------------------------------------

struct bare_node {
  explicit bare_node(ages* found = nullptr) : times{found} {
    sse::detail::nats_options o;
    must(sse::detail::nats_make(o, natsOptions_Create), "options");
    std::vector<const char*> urls;
    for (const std::string& s : servers) urls.push_back(s.c_str());
    must(natsOptions_SetServers(o.get(), urls.data(), static_cast<int>(urls.size())), "servers");
    must(sse::detail::nats_make(connection, natsConnection_Connect, o.get()), "connecting");
    jsOptions with;
    jsOptions_Init(&with);
    with.PublishAsync.MaxPending = 4096;
    with.Wait = 30'000;
    must(sse::detail::nats_make(js, natsConnection_JetStream, connection.get(), &with),
         "JetStream");
  }
  void make_stream() const {
    jsStreamConfig c;
    jsStreamConfig_Init(&c);
    const std::string all = "sse." + stream + ".>";
    const char* subjects[] = {all.c_str()};
    c.Name = stream.c_str();
    c.Subjects = subjects;
    c.SubjectsLen = 1;
    c.Storage = js_FileStorage;
    c.Replicas = replicas;
    c.Duplicates = 300'000'000'000;
    c.DenyDelete = c.DenyPurge = c.AllowDirect = true;
    c.MaxBytes = std::int64_t{1} << 30;
    must(js_AddStream(nullptr, js.get(), &c, nullptr, nullptr), "making the stream");
  }
  void follow() {
    jsSubOptions s;
    jsSubOptions_Init(&s);
    s.Stream = stream.c_str();
    s.Config.DeliverPolicy = js_DeliverAll;
    s.Config.AckPolicy = js_AckNone;
    s.Config.FlowControl = true;
    s.Config.Heartbeat = 1'000'000'000;
    s.Config.MemoryStorage = true;
    s.Config.Replicas = 1;
    must(js_Subscribe(&subscription, js.get(), ("sse." + stream + ".events").c_str(), &take, this,
                      nullptr, &s, nullptr),
         "subscribing");
    must(natsSubscription_SetPendingLimits(subscription, -1, -1), "limits");
  }
  void publish() {
    const std::string data = data_now();
    natsMsg* m = nullptr;
    must(natsMsg_Create(&m, ("sse." + stream + ".events").c_str(), nullptr, data.data(),
                        static_cast<int>(data.size())),
         "a message");
    const std::string id = name + std::to_string(++sent);
    must(natsMsgHeader_Set(m, "Nats-Msg-Id", id.c_str()), "a header");
    must(natsMsgHeader_Set(m, "Nats-Expected-Stream", stream.c_str()), "a header");
    must(natsMsgHeader_Set(m, "Sse-Event", "tick"), "a header");
    natsStatus s = js_PublishMsgAsync(js.get(), &m, nullptr);
    while (s == NATS_TIMEOUT) s = js_PublishMsgAsync(js.get(), &m, nullptr);  // 4,096 wait
    must(s, "publishing");
    natsMsg_Destroy(m);
  }
  void wait_stored() const {
    jsPubOptions o;
    jsPubOptions_Init(&o);
    o.MaxWait = 120'000;
    must(js_PublishAsyncComplete(js.get(), &o), "storing");
  }
  static void take(natsConnection*, natsSubscription*, natsMsg* m, void* self) {
    auto* const n = static_cast<bare_node*>(self);
    if (n->times != nullptr) n->times->add(sent_at(sse::detail::data_of(m)));
    n->taken.fetch_add(1, std::memory_order_relaxed);
    natsMsg_Destroy(m);
  }
  ~bare_node() {
    natsConnection_Close(connection.get());
    natsSubscription_Destroy(subscription);
  }

  sse::detail::nats_connection connection;
  sse::detail::nats_jetstream js;
  natsSubscription* subscription = nullptr;
  std::string name = "n" + std::to_string(reinterpret_cast<std::uintptr_t>(this)) + ".boot.";
  std::uint64_t sent = 0;
  std::atomic<std::uint64_t> taken{0};
  ages* times;
};

void bare_rate() {
  std::vector<std::unique_ptr<bare_node>> all;
  for (std::size_t i = 0; i != nodes; ++i) all.push_back(std::make_unique<bare_node>());
  all[0]->make_stream();
  for (auto& n : all) n->follow();
  const double cpu = cpu_seconds();
  const std::int64_t start = bench::now_ns();
  std::vector<std::thread> publishers;
  for (auto& n : all)
    publishers.emplace_back([&n] {
      for (std::uint64_t i = 0; i != events / nodes; ++i) n->publish();
      n->wait_stored();
    });
  for (std::thread& t : publishers) t.join();
  const std::uint64_t each = events / nodes * nodes;
  for (auto& n : all) wait_until([&] { return n->taken >= each; }, "taking all");
  print_rate(start, cpu, each);
}
void bare_latency() {
  ages found;
  bare_node n{&found};
  n.make_stream();
  n.follow();
  const std::uint64_t all = rate * 4;
  at_a_pace(all, [&] { n.publish(); });
  wait_until([&] { return found.size() >= all; }, "taking all");
  found.print();
}
void bare_catch_up() {
  bare_node n;
  n.make_stream();
  for (std::uint64_t i = 0; i != events; ++i) n.publish();
  n.wait_stored();
  const double cpu = cpu_seconds();
  const std::int64_t start = bench::now_ns();
  n.follow();
  wait_until([&] { return n.taken >= events; }, "taking all");
  print_rate(start, cpu, events);
}

void remove_stream() {
  const bare_node n;
  (void)js_DeleteStream(n.js.get(), stream.c_str(), nullptr, nullptr);
  (void)js_DeleteKeyValue(n.js.get(), (stream + "_epoch").c_str());
}

}  // namespace

int main(int argc, char** argv) {
  std::string mode;
  for (int i = 1; i < argc; ++i) {
    const std::string_view a = argv[i];
    const auto number = [&] { return std::strtoull(i + 1 < argc ? argv[++i] : "0", nullptr, 10); };
    if (a == "--servers" && i + 1 < argc) {
      std::string_view v = argv[++i];
      while (!v.empty()) {
        const std::size_t comma = v.find(',');
        servers.emplace_back(v.substr(0, comma));
        v.remove_prefix(comma == v.npos ? v.size() : comma + 1);
      }
    } else if (a == "--replicas") {
      replicas = static_cast<std::uint32_t>(number());
    } else if (a == "--nodes") {
      nodes = number();
    } else if (a == "--events") {
      events = number();
    } else if (a == "--rate") {
      rate = number();
    } else {
      mode = a;
    }
  }
  stream = "bench" + std::to_string(::getpid());
  struct {
    const char* name;
    void (*run)();
  } const modes[] = {{"rate", measure_rate},         {"bare_rate", bare_rate},
                     {"latency", measure_latency},   {"bare_latency", bare_latency},
                     {"catch_up", measure_catch_up}, {"bare_catch_up", bare_catch_up},
                     {"herd", measure_herd}};
  for (const auto& m : modes) {
    if (mode != m.name || servers.empty() || nodes == 0 || rate == 0 || replicas == 0) continue;
    m.run();
    remove_stream();
    return 0;
  }
  std::fprintf(stderr,
               "usage: bench_cluster --servers URL[,URL...] [--replicas N] [--nodes N] "
               "[--events N] [--rate N] MODE\n");
  return 2;
}
