// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// How many streams each user has on all nodes together: each node tells the others once a second
// what changed there, and every 10 s all of it; what was not told for 25 s is forgotten, since its
// node is gone. Nothing is stored: a node that begins asks. Plain messages of text: the node's
// name, a line feed, and for each user the count, a space, the name as_token(), a line feed. The
// user without a name is everybody, also those that nobody knows.
#pragma once
#ifndef SSEHUB_DETAIL_JETSTREAM_PRESENCE_HPP
#define SSEHUB_DETAIL_JETSTREAM_PRESENCE_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sse/admission.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/jetstream/nats.hpp>
#include <sse/detail/jetstream/stream.hpp>
#include <sse/jetstream_options.hpp>
#include <sse/shards.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Counts for the caps of this node's hubs; the cap per user holds over all nodes, as of a second
/// ago.
class order_presence final : public cap_counter {
 public:
  using clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds all_told_each{10};
  static constexpr std::chrono::seconds forgotten_after{25};

  order_presence(const jetstream_options& o, const jetstream_link& link)
      : options_{&o}, link_{&link}, subject_{o.prefix + "_nodes." + o.hub} {}

  [[nodiscard]] bool take(kind k, std::string_view key, std::uint32_t max) noexcept override {
    if (k != kind::user && !rest_.take(k, key, max)) return false;
    if (k == kind::address) return true;
    try {
      const std::scoped_lock<std::mutex> lock{mutex_};
      person& p = people_[std::string{key}];
      if (k == kind::user && max != 0 && p.all() >= max) return false;
      ++p.here;
      change(key, p, p.all() == 1);
      return true;
    } catch (...) {  // memory is out
      if (k != kind::user) rest_.give_back(k, key);
      return false;
    }
  }
  void give_back(kind k, std::string_view key) noexcept override {
    if (k != kind::user) rest_.give_back(k, key);
    if (k == kind::address) return;
    try {
      const std::scoped_lock<std::mutex> lock{mutex_};
      const auto at = people_.find(std::string{key});
      if (at == people_.end() || at->second.here == 0) return;
      --at->second.here;
      change(key, at->second, at->second.all() == 0);
    } catch (...) {  // memory is out: told when all is
    }
  }
  [[nodiscard]] std::uint32_t count(kind k, std::string_view key) noexcept override {
    return k == kind::user ? streams_of(key) : rest_.count(k, key);
  }
  /// Of the user without a name: all streams.
  [[nodiscard]] std::uint32_t streams_of(std::string_view user) const noexcept {
    try {
      const std::scoped_lock<std::mutex> lock{mutex_};
      const auto at = people_.find(std::string{user});
      return at == people_.end() ? 0 : at->second.all();
    } catch (...) {  // memory is out
      return 0;
    }
  }
  [[nodiscard]] std::vector<std::string> present() const {
    std::vector<std::string> all;
    const std::scoped_lock<std::mutex> lock{mutex_};
    for (const auto& [user, p] : people_) {
      if (!user.empty() && p.all() != 0) all.push_back(user);
    }
    return all;
  }

  /// False: it may not subscribe.
  [[nodiscard]] bool open() {
    heard_ = link_->subscribe(subject_);
    return heard_ != nullptr;
  }
  [[nodiscard]] const std::string& subject() const noexcept { return subject_; }
  /// Takes what others tell, in a thread of its own, until it is stopped.
  void hear() {
    detail::hear(heard_.get(), stopping_, [this](natsMsg* m) { take(data_of(m)); });
  }
  /// Tells, in a thread of its own.
  void tell_others() {
    say(options_->node + "\nhello\n");
    clock::time_point all_told{};
    while (!stopping_) {
      const clock::time_point now = clock::now();
      const bool all = asked_.exchange(false) || now - all_told >= all_told_each;
      if (all) all_told = now;
      tell(all);
      forget_silent(now);
      tell_program();
      std::unique_lock<std::mutex> lock{mutex_};
      woken_.wait_for(lock, std::chrono::seconds{1}, [this] { return stopping_.load(); });
    }
    say(options_->node + "\nbye\n");
  }
  void stop() noexcept {
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      stopping_ = true;
    }
    woken_.notify_all();
  }
  /// REQUIRES: the threads ended, and nothing comes any more.
  void close() noexcept { heard_.reset(); }

 private:
  struct seat {
    std::string node;
    std::uint32_t count = 0;
    clock::time_point heard{};
  };
  struct person {
    std::uint32_t here = 0;
    bool changed = false;  // and in changed_
    bool known = false;    // the program was told that it is there
    std::vector<seat> there{};

    [[nodiscard]] std::uint32_t all() const noexcept {
      std::uint32_t n = here;
      for (const seat& s : there) n += s.count;
      return n;
    }
  };

  /// REQUIRES: the lock.
  void change(std::string_view user, person& p, bool came_or_went) {
    if (came_or_went) news_.emplace_back(user);
    if (!p.changed) changed_.emplace_back(user);
    p.changed = true;
  }
  void say(const std::string& text) const {
    (void)natsConnection_Publish(link_->connection(), subject_.c_str(), text.data(),
                                 static_cast<int>(text.size()));
  }
  void tell(bool all) {
    constexpr std::size_t most = 60'000;  // of a message
    std::vector<std::string> texts{options_->node + '\n'};
    const auto add = [&](const std::string& user, std::uint32_t n) {
      if (texts.back().size() > most) texts.push_back(options_->node + '\n');
      texts.back() += std::to_string(n) + ' ' + as_token(user) + '\n';
    };
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      for (const std::string& user : changed_) {
        const auto at = people_.find(user);
        if (at == people_.end()) continue;
        at->second.changed = false;
        if (!all || at->second.here == 0) add(user, at->second.here);
      }
      changed_.clear();
      if (all) {
        for (const auto& [user, p] : people_) {
          if (p.here != 0) add(user, p.here);
        }
      }
    }
    for (const std::string& t : texts) {
      if (t.size() > options_->node.size() + 1) say(t);
    }
  }
  void take(std::string_view text) {
    const std::size_t eol = text.find('\n');
    const std::string_view node = text.substr(0, eol);
    if (eol == text.npos || node == options_->node) return;
    text.remove_prefix(eol + 1);
    if (text == "hello\n") asked_ = true;
    const std::scoped_lock<std::mutex> lock{mutex_};
    const clock::time_point now = clock::now();
    if (text == "hello\n" || text == "bye\n") {
      forget([&](const seat& s) { return s.node == node; });
      return;
    }
    for (std::size_t end = 0; (end = text.find('\n')) != text.npos; text.remove_prefix(end + 1)) {
      const std::string_view line = text.substr(0, end);
      const std::size_t space = line.find(' ');
      std::uint64_t n = 0;
      if (space == line.npos ||
          read_decimal(line.substr(0, space), UINT32_MAX, n) != decimal::number)
        continue;
      if (const auto user = read_token(line.substr(space + 1)))
        seat_of(*user, node, static_cast<std::uint32_t>(n), now);
    }
  }
  /// REQUIRES: the lock.
  void seat_of(const std::string& user, std::string_view node, std::uint32_t n,
               clock::time_point now) {
    person& p = people_[user];
    const auto at =
        std::find_if(p.there.begin(), p.there.end(), [&](const seat& s) { return s.node == node; });
    if (at != p.there.end()) {
      *at = {std::string{node}, n, now};
    } else {
      p.there.push_back({std::string{node}, n, now});
    }
    if ((p.all() != 0) != p.known) news_.push_back(user);
  }
  /// REQUIRES: the lock.
  template <class F>
  void forget(F is_gone) {
    for (auto& [user, p] : people_) {
      if (std::erase_if(p.there, is_gone) != 0 && p.all() == 0) news_.push_back(user);
    }
    std::erase_if(people_, [](const auto& entry) {
      const person& p = entry.second;
      return p.all() == 0 && !p.changed && !p.known;
    });
  }
  void forget_silent(clock::time_point now) {
    if (now - forgot_ < std::chrono::seconds{4}) return;
    forgot_ = now;
    const std::scoped_lock<std::mutex> lock{mutex_};
    forget([&](const seat& s) { return s.count == 0 || now - s.heard > forgotten_after; });
  }
  void tell_program() {
    std::vector<std::pair<std::string, bool>> news;
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      for (std::string& user : news_) {
        const auto at = people_.find(user);
        if (at == people_.end()) continue;
        const bool here = at->second.all() != 0;
        if (at->second.known == here) continue;
        at->second.known = here;
        news.emplace_back(std::move(user), here);
      }
      news_.clear();
    }
    if (!options_->on_presence) return;
    for (const auto& [user, here] : news) {
      if (!user.empty()) options_->on_presence(user, here);
    }
  }

  const jetstream_options* options_;
  const jetstream_link* link_;
  std::string subject_;
  nats_subscription heard_;
  shared_caps rest_;  // all streams, and addresses: of this node
  std::atomic<bool> stopping_{false};
  std::atomic<bool> asked_{false};
  clock::time_point forgot_{};  // of the thread that tells

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable woken_;
  std::unordered_map<std::string, person> people_;
  std::vector<std::string> changed_;  // on this node, to be told
  std::vector<std::string> news_;     // who came or went, to be told to the program
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_PRESENCE_HPP
