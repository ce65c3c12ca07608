// The floor: a bare epoll loop and ready-made frames, with no features at all. One send per
// subscriber and event, or
// (--coalesce) one send of all that is pending for a subscriber. A reader that comes back begins
// with the next event.
#include <algorithm>
#include <mutex>
#include <thread>
#include <vector>

#include "loop.hpp"

namespace {

class server {
 public:
  explicit server(const bench::options& o)
      : options_{o}, pacer_{o.rate, o.seconds}, data_{o.size}, loop_{*this, o.port} {}

  void run() {
    std::thread publisher;
    while (!ended_ || !readers_.empty()) {
      if (!options_.thread)
        pacer_.due([&](std::uint64_t n, std::int64_t t) { publish("tick", n, t); }, blocked_ == 0);
      if (!ended_ && pacer_.over()) end();
      flush();
      if (!pacer_.started() && readers_.size() >= options_.connections) {
        pacer_.start();
        if (options_.thread) publisher = std::thread{[this] { publish_from_thread(); }};
        continue;
      }
      const bool flat_out = pacer_.started() && !ended_ && !options_.thread && options_.rate == 0;
      const bool timed = pacer_.started() && !ended_ && !options_.thread && !flat_out;
      loop_.turn(options_.busy_poll || (flat_out && blocked_ == 0) ? 0
                 : timed                                           ? pacer_.next()
                                                                   : -1);
      if (options_.busy_poll && options_.thread) woken();
    }
    if (publisher.joinable()) publisher.join();
    bench::report(published_, writes_);
  }

  // What the loop calls.
  void opened(int fd, std::string_view) {
    if (places_.size() <= static_cast<std::size_t>(fd))
      places_.resize(static_cast<std::size_t>(fd) + 1);
    places_[static_cast<std::size_t>(fd)] = readers_.size();
    // A fresh socket takes a head.
    if (send(fd, bench::stream_head.data(), bench::stream_head.size(), MSG_NOSIGNAL) < 0) return;
    readers_.push_back({fd, log_.size(), false});
  }
  void writable(int fd) {
    reader& r = readers_[places_[static_cast<std::size_t>(fd)]];
    if (!r.blocked) return;
    r.blocked = false;
    --blocked_;
    fresh_ = true;
  }
  void gone(int fd) {
    const std::size_t at = places_[static_cast<std::size_t>(fd)];
    if (readers_[at].blocked) --blocked_;
    readers_[at] = readers_.back();
    places_[static_cast<std::size_t>(readers_[at].fd)] = at;
    readers_.pop_back();
  }
  void woken() {
    const std::lock_guard hold{mutex_};
    if (mail_.empty()) return;
    for (std::string& frame : mail_) append(frame);
    mail_.clear();
    if (mail_over_ && !ended_) end();
  }

 private:
  struct reader {
    int fd = -1;
    std::size_t at = 0;  // in log_
    bool blocked = false;
  };

  void publish_from_thread() {
    const auto post = [this](std::string frame, bool over) {
      {
        const std::lock_guard hold{mutex_};
        mail_.push_back(std::move(frame));
        mail_over_ = over;
      }
      if (!options_.busy_poll) loop_.wake();
    };
    bench::payload data{options_.size};
    std::uint64_t last = 0;
    bench::publish_paced(options_, [&](std::uint64_t n, std::int64_t t) {
      post(bench::make_frame(n, "tick", data.make(n, t)), false);
      last = n;
    });
    published_ = last;
    post(bench::make_frame(last + 1, "end", data.make(last + 1, bench::now_ns())), true);
  }
  void publish(std::string_view type, std::uint64_t n, std::int64_t t) {
    append(bench::make_frame(n, type, data_.make(n, t)));
  }
  void append(const std::string& frame) {
    ends_.push_back(log_.size() + frame.size());
    log_ += frame;
    fresh_ = true;
  }
  void end() {
    ended_ = true;
    if (options_.thread) return;
    published_ = pacer_.published();
    publish("end", published_ + 1, bench::now_ns());
  }

  void flush() {
    if (!fresh_) return;
    fresh_ = false;
    for (reader& r : readers_) {
      while (!r.blocked && r.at != log_.size()) {
        const std::size_t to = options_.coalesce ? log_.size() : end_of_event(r.at);
        const ssize_t n = send(r.fd, log_.data() + r.at, to - r.at, MSG_NOSIGNAL | MSG_DONTWAIT);
        ++writes_;
        if (n > 0) r.at += static_cast<std::size_t>(n);
        if (n < 0 && errno != EAGAIN) break;  // gone: the loop will say so
        if (n < 0 || r.at != to) {
          r.blocked = true;
          ++blocked_;
        }
      }
    }
  }
  [[nodiscard]] std::size_t end_of_event(std::size_t at) {
    if (hint_ >= ends_.size() || ends_[hint_] <= at || (hint_ > 0 && ends_[hint_ - 1] > at)) {
      hint_ = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), at) -
                                       ends_.begin());
    }
    return ends_[hint_];
  }

  bench::options options_;
  bench::pacer pacer_;
  bench::payload data_;
  std::string log_;                // all that was published: runs are short
  std::vector<std::size_t> ends_;  // of its events
  std::size_t hint_ = 0;
  std::vector<reader> readers_;
  std::vector<std::size_t> places_;  // by fd
  std::size_t blocked_ = 0;
  std::uint64_t writes_ = 0;
  std::uint64_t published_ = 0;
  bool fresh_ = false;
  bool ended_ = false;
  std::mutex mutex_;
  std::vector<std::string> mail_;
  bool mail_over_ = false;
  bench::loop<server> loop_;
};

}  // namespace

int main(int argc, char** argv) { server{bench::read_options(argc, argv)}.run(); }
